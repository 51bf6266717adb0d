//! Endpoints: a filtered list, and one with its checks.

use picket_wire::check::CheckSpec;
use picket_wire::id::{CheckId, EndpointId, GroupId, IncidentId, ShardId, SiteId};
use picket_wire::name::Name;
use picket_wire::reason::Reason;
use picket_wire::state::State;
use picket_wire::time::{Span, Timestamp};
use tokio_postgres::Row;

use crate::pg::PgError;
use crate::pg::catalogue::check_of;
use crate::pg::read::{Fields, Listed, Page, Query, Reads};

/// Which endpoints; everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointFilter {
    /// Of this site.
    pub site: Option<SiteId>,
    /// In this placement group.
    pub group: Option<GroupId>,
    /// In one of these states; empty means any.
    pub states: Vec<State>,
    /// With all of these labels.
    pub labels: Vec<Name>,
    /// With this text in the URL, in any case.
    pub text: Option<String>,
}

/// An endpoint as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRow {
    /// Its id.
    pub id: EndpointId,
    /// Its placement group.
    pub group: GroupId,
    /// Its shard.
    pub shard: ShardId,
    /// Its site.
    pub site: SiteId,
    /// That site's name.
    pub site_name: String,
    /// Its address.
    pub url: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Its effective state.
    pub state: State,
    /// Since when; `None` while nothing was ever decided.
    pub since: Option<Timestamp>,
    /// Why, when it is not ok.
    pub reason: Option<Reason>,
    /// The open incident.
    pub incident: Option<IncidentId>,
    /// How far its shard has been watched.
    pub observed_until: Option<Timestamp>,
    /// Its first check.
    pub check: CheckId,
    /// That check's kind.
    pub kind: String,
    /// How often it runs.
    pub cadence: Span,
    /// How long it may take.
    pub timeout: Span,
}

/// The effective state; the one place where it is decided.
const EFFECTIVE_STATE: &str = "CASE WHEN e.paused THEN 6::smallint \
    WHEN t.state IS NOT NULL THEN t.state \
    WHEN o.until > e.watched_from THEN 1::smallint ELSE 8::smallint END";

/// What [`EFFECTIVE_STATE`] is computed from.
const WITH_STATE: &str = "LEFT JOIN endpoint_state t ON t.endpoint = e.id AND t.shard = e.shard \
    LEFT JOIN shard_observed o ON o.group_id = e.group_id AND o.shard = e.shard";

/// The incident of the last transition, while it is open.
const OPEN_INCIDENT: &str = "(SELECT i.id FROM incidents i \
    WHERE i.id = t.incident AND i.shard = t.shard AND i.ended_at IS NULL)";

fn select() -> String {
    format!(
        "SELECT e.id, e.group_id, e.shard, e.site, s.name, e.url, e.labels, e.created, \
            {EFFECTIVE_STATE}, t.since, t.reason, {OPEN_INCIDENT}, o.until, \
            c.id, c.kind, c.cadence_s, c.timeout_ms \
         FROM endpoints e JOIN sites s ON s.id = e.site {WITH_STATE} \
         CROSS JOIN LATERAL (SELECT id, kind, cadence_s, timeout_ms FROM checks \
            WHERE endpoint = e.id AND shard = e.shard ORDER BY id LIMIT 1) c"
    )
}

impl Reads {
    /// Endpoints by id.
    ///
    /// # Errors
    /// When Postgres is away, or the search takes longer than a statement may.
    pub async fn endpoints(
        &self,
        filter: &EndpointFilter,
        page: Page<EndpointId>,
    ) -> Result<Listed<EndpointRow, EndpointId>, PgError> {
        let site = filter.site.map(|site| site.0.cast_signed());
        let group = filter.group.map(|group| group.0.cast_signed());
        let states: Vec<i16> = filter.states.iter().map(|state| state.code()).collect();
        let labels: Vec<&str> = filter.labels.iter().map(Name::as_str).collect();
        let text = filter.text.as_deref().map(like);
        let after = page.after.map(|after| after.0.cast_signed());
        let limit = page.fetch();

        let mut query = Query::new(&select());
        if let Some(after) = &after {
            query.and("e.id > ?", after);
        }
        if let Some(site) = &site {
            query.and("e.site = ?", site);
        }
        if let Some(group) = &group {
            query.and("e.group_id = ?", group);
        }
        if !labels.is_empty() {
            query.and("e.labels @> ?::text[]", &labels);
        }
        if let Some(text) = &text {
            query.and("e.url ILIKE ?", text);
        }
        if !states.is_empty() {
            query.and(&format!("{EFFECTIVE_STATE} = ANY(?)"), &states);
        }
        if is_decided(&filter.states) {
            // Says what the effective state implies, so that the index of what is not up is used.
            query.and_always("t.state <> 1");
            query.and("t.state = ANY(?)", &states);
        }
        query.then(" ORDER BY e.id LIMIT ?", &limit);
        let rows = query.run(&self.pg).await?;
        let rows = rows.iter().map(row_of).collect::<Result<_, _>>()?;
        Ok(page.cut(rows, |row| row.id))
    }

    /// One endpoint and its checks.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn endpoint(
        &self,
        endpoint: EndpointId,
    ) -> Result<Option<(EndpointRow, Vec<CheckSpec>)>, PgError> {
        let id = endpoint.0.cast_signed();
        let mut query = Query::new(&select());
        query.and("e.id = ?", &id);
        let rows = query.run(&self.pg).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let checks = "SELECT id, endpoint, site, cadence_s, timeout_ms, kind, spec::text \
                      FROM checks WHERE endpoint = $1 ORDER BY id";
        let checks = self.pg.client().await?.query(checks, &[&id]).await?;
        let checks = checks
            .iter()
            .map(|row| check_of(row, 0))
            .collect::<Result<_, _>>()?;
        Ok(Some((row_of(row)?, checks)))
    }
}

/// Whether only a stored row that is not up can be in one of these states.
pub(super) fn is_decided(states: &[State]) -> bool {
    let decided = |state: &State| match state {
        State::Warning | State::Degraded | State::SeemsDown | State::Down | State::Maintenance => {
            true
        }
        State::Up | State::Paused | State::Unknown => false,
    };
    !states.is_empty() && states.iter().all(decided)
}

/// A pattern that matches the text anywhere and means every character of it literally.
pub(super) fn like(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for c in text.chars().filter(|c| *c != '\0') {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

fn row_of(row: &Row) -> Result<EndpointRow, PgError> {
    let mut fields = Fields::of(row);
    Ok(EndpointRow {
        id: EndpointId(fields.u64()?),
        group: GroupId(fields.u32()?),
        shard: ShardId(fields.u32()?),
        site: SiteId(fields.u64()?),
        site_name: fields.take()?,
        url: fields.take()?,
        labels: fields.take()?,
        created: Timestamp(fields.take()?),
        state: fields.state()?,
        since: fields.take::<Option<i64>>()?.map(Timestamp),
        reason: fields.maybe_reason()?,
        incident: fields.maybe_u64()?.map(IncidentId),
        observed_until: fields.take::<Option<i64>>()?.map(Timestamp),
        check: CheckId(fields.u64()?),
        kind: fields.take()?,
        cadence: Span::from_secs(u64::from(fields.u32()?)),
        timeout: Span(u64::from(fields.u32()?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_searched_text_means_itself() {
        assert_eq!(like("50%_a\\"), "%50\\%\\_a\\\\%");
    }
}
