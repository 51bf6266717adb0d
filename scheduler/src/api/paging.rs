//! Paging, the same for every list: a cursor is the last id of the page before.

use std::str::FromStr;

use picket_storage::pg::read::{Listed, Page as Asked};
use picket_wire::api::{PAGE_DEFAULT, PAGE_MAX, Page};

use crate::api::problem::ApiError;

/// Which page a request asks for.
///
/// # Errors
/// When the limit is out of range or the cursor is none of ours.
pub(super) fn asked<K: FromStr>(
    cursor: Option<&str>,
    limit: Option<u32>,
) -> Result<Asked<K>, ApiError> {
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    if limit == 0 || limit > PAGE_MAX {
        return Err(ApiError::invalid(
            "limit",
            format!("expected 1 to {PAGE_MAX}, got {limit}"),
        ));
    }
    let parse = |text: &str| {
        text.parse()
            .map_err(|_| ApiError::invalid("cursor", "expected the `next` of a page"))
    };
    Ok(Asked {
        after: cursor.map(parse).transpose()?,
        limit,
    })
}

/// A page of bodies.
pub(super) fn page<T, K: ToString, B>(listed: Listed<T, K>, body: impl FnMut(T) -> B) -> Page<B> {
    let Listed { rows, next } = listed;
    Page {
        items: rows.into_iter().map(body).collect(),
        next: next.map(|key| key.to_string()),
    }
}

/// A state named in a query.
///
/// # Errors
/// When there is no such state.
pub(super) fn state(name: Option<&str>) -> Result<Vec<picket_wire::state::State>, ApiError> {
    use picket_wire::state::State;
    let parse = |name: &str| {
        State::from_name(name).ok_or_else(|| {
            let names: Vec<&str> = State::ALL.iter().map(|state| state.name()).collect();
            ApiError::invalid(
                "state",
                format!("expected one of {}, got `{name}`", names.join(", ")),
            )
        })
    };
    name.map(|names| names.split(',').map(parse).collect())
        .unwrap_or(Ok(Vec::new()))
}
