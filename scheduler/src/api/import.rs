//! `/import`: rows of URLs become endpoints; a bad row is refused alone.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use picket_storage::pg::catalogue::{Catalogue, NewEndpoint};
use picket_wire::api::import::{ImportReply, ImportRequest, ImportRow, ROWS_MAX, RejectedRow};
use picket_wire::check::http::{Handshake, HttpSpec, Method};
use picket_wire::check::{Cadence, CheckKind, SpecError};
use picket_wire::id::GroupId;
use picket_wire::limits::URL_MAX_BYTES;
use picket_wire::name::Name;
use picket_wire::time::Span;
use url::{Host, Url};

use crate::api::extract::{Body, Writer};
use crate::api::problem::ApiError;
use crate::context::Context;

/// Probe interval of a row that does not say.
const EVERY_DEFAULT_S: u32 = 300;
/// Longest timeout of a row that does not say.
const TIMEOUT_DEFAULT: Span = Span::from_secs(10);

/// Imports rows. The good ones are imported even when others are refused.
#[utoipa::path(post, path = "/import", tag = "endpoints", request_body = ImportRequest,
    responses((status = 200, body = ImportReply)))]
pub(super) async fn import(
    _: Writer,
    State(ctx): State<Arc<Context>>,
    Body(request): Body<ImportRequest>,
) -> Result<Json<ImportReply>, ApiError> {
    if request.rows.len() > ROWS_MAX {
        let got = request.rows.len();
        return Err(ApiError::invalid(
            "rows",
            format!("expected at most {ROWS_MAX} rows, got {got}"),
        ));
    }
    let place = ctx.replica.read(|state| {
        let group = state.groups.keys().next().copied();
        state
            .settings
            .as_ref()
            .map(|settings| settings.shards)
            .zip(group)
    });
    let Some((shards, group)) = place else {
        return Err(ApiError::Unavailable {
            code: "not_initialised",
            detail: "the cluster has no settings yet".to_owned(),
        });
    };
    let mut good = Vec::with_capacity(request.rows.len());
    let mut rejected = Vec::new();
    for row in request.rows {
        match endpoint(&row, group) {
            Ok(endpoint) => good.push(endpoint),
            Err((field, reason)) => rejected.push(RejectedRow {
                line: row.line,
                field,
                reason,
            }),
        }
    }
    let imported = Catalogue::new(ctx.pg.clone(), shards)
        .import(&good, ctx.clock.now())
        .await?;
    Ok(Json(ImportReply {
        created: imported.created,
        changed: imported.changed,
        unchanged: imported.unchanged,
        repeated: imported.repeated,
        rejected,
    }))
}

type RowError = (String, String);

/// What a row asks for, or its field that is wrong and what was expected there.
fn endpoint(row: &ImportRow, group: GroupId) -> Result<NewEndpoint, RowError> {
    let spec = http_spec(row)?;
    let cadence = Cadence::from_secs(row.every_s.unwrap_or(EVERY_DEFAULT_S))
        .map_err(|error| named("every_s", &error))?;
    let timeout = row
        .timeout_ms
        .map_or_else(|| TIMEOUT_DEFAULT.min(cadence.span()), Span);
    let labels = row
        .labels
        .iter()
        .map(|label| Name::parse(label))
        .collect::<Result<_, _>>();
    let endpoint = NewEndpoint {
        site: row.site.clone().unwrap_or_else(|| spec.host.clone()),
        group,
        cadence,
        timeout,
        labels: labels.map_err(|error| ("labels".to_owned(), error.to_string()))?,
        kind: CheckKind::Http(spec),
    };
    endpoint.validate().map_err(|error| match &error {
        SpecError::Interval(_) => named("every_s", &error),
        SpecError::Timeout(_) => named("timeout_ms", &error),
        SpecError::Url(_) => named("url", &error),
        SpecError::Field { field, .. } => named(field, &error),
    })?;
    Ok(endpoint)
}

fn named(field: &str, error: &SpecError) -> RowError {
    (field.to_owned(), error.to_string())
}

fn http_spec(row: &ImportRow) -> Result<HttpSpec, RowError> {
    let refuse = |reason: String| Err(("url".to_owned(), reason));
    if row.url.len() > URL_MAX_BYTES {
        return refuse(format!(
            "expected at most {URL_MAX_BYTES} bytes, got {}",
            row.url.len()
        ));
    }
    let url = match Url::parse(row.url.trim()) {
        Ok(url) => url,
        Err(error) => {
            return refuse(format!(
                "expected an http or https URL, got `{}`: {error}",
                clip(&row.url)
            ));
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        return refuse(format!(
            "expected http or https, got `{}`",
            clip(url.scheme())
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("expected no user name or password in it".to_owned());
    }
    let host = match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.').to_owned(),
        Some(Host::Ipv4(ip)) => ip.to_string(),
        Some(Host::Ipv6(ip)) => ip.to_string(),
        None => return refuse("expected a host".to_owned()),
    };
    let port = url.port_or_known_default().unwrap_or(80);
    let target = url[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
    let mut spec = HttpSpec::plain(url.scheme() == "https", host, port, target);
    spec.method = row.method.unwrap_or(Method::Get);
    spec.status_min = row.status_min.unwrap_or(spec.status_min);
    spec.status_max = row.status_max.unwrap_or(spec.status_max);
    spec.body_contains.clone_from(&row.body_contains);
    spec.handshake = row.handshake.unwrap_or(Handshake::Full);
    Ok(spec)
}

fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(url: &str) -> ImportRow {
        serde_json::from_value(serde_json::json!({ "url": url })).expect("only the URL is needed")
    }

    #[test]
    fn a_plain_url_gets_every_default() {
        let made = endpoint(&row("https://Example.ORG./a?b=c#d"), GroupId(1)).unwrap();
        let CheckKind::Http(spec) = &made.kind;
        assert_eq!(spec.url(), "https://example.org/a?b=c");
        assert_eq!(
            (made.site.as_str(), made.cadence.secs(), made.timeout),
            ("example.org", 300, Span(10_000))
        );
    }

    #[test]
    fn the_default_timeout_never_exceeds_the_interval() {
        let mut fast = row("http://127.0.0.1:8080");
        fast.every_s = Some(5);
        assert_eq!(endpoint(&fast, GroupId(1)).unwrap().timeout, Span(5_000));
    }

    #[test]
    fn a_refusal_names_the_field_and_what_was_expected() {
        let field = |row: &ImportRow| endpoint(row, GroupId(1)).expect_err("refused").0;
        for url in [
            "",
            "example.org",
            "ftp://example.org/",
            "http://",
            "http://u:p@example.org/",
            "http://a b/",
            "javascript:alert(1)",
        ] {
            assert_eq!(field(&row(url)), "url", "{url}");
        }
        let with = |change: fn(&mut ImportRow)| {
            let mut row = row("http://example.org/");
            change(&mut row);
            field(&row)
        };
        assert_eq!(with(|row| row.every_s = Some(7)), "every_s");
        assert_eq!(with(|row| row.timeout_ms = Some(0)), "timeout_ms");
        assert_eq!(with(|row| row.status_min = Some(900)), "status");
        assert_eq!(with(|row| row.labels = vec!["Not OK".to_owned()]), "labels");
        assert_eq!(with(|row| row.site = Some(String::new())), "site");
    }
}
