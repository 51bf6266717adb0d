//! Incidents: a filtered list, and one with everything that was said about it.

use picket_wire::evidence::{CheckRef, Evidence, Role};
use picket_wire::fact::{Incident, Testimony};
use picket_wire::id::{
    AgentId, CheckId, EndpointId, Epoch, FactSeq, GroupId, IncidentId, NotificationGroupId,
    OrderId, ShardId, ShardSlot, SiteId, Slot,
};
use picket_wire::name::Name;
use picket_wire::outcome::{Phases, Probe};
use picket_wire::state::{State, Verdict};
use picket_wire::time::{Interval, Span, Timestamp};
use tokio_postgres::Row;

use crate::pg::PgError;
use crate::pg::read::{Fields, Listed, Page, Query, Reads};
use crate::pg::rows::{counted_of, trace_of};

/// Most testimony that is read of one incident: a merged storm has much of it, and the first
/// records are those that decided.
pub const TESTIMONY_MAX: i64 = 1_000;

/// Which incidents; everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncidentFilter {
    /// Only those that are open (`true`) or closed (`false`).
    pub open: Option<bool>,
    /// Of this site.
    pub site: Option<SiteId>,
    /// Of this endpoint.
    pub endpoint: Option<EndpointId>,
    /// In one of these states; empty means any.
    pub states: Vec<State>,
    /// With one of these verdicts; empty means any.
    pub verdicts: Vec<Verdict>,
    /// Open at some instant of this stretch.
    pub during: Option<Interval>,
}

/// An incident with what a reader wants to see beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentRow {
    /// The incident.
    pub incident: Incident,
    /// The endpoint's address; `None` once the endpoint is deleted.
    pub url: Option<String>,
    /// The site's name; `None` once the site is deleted.
    pub site_name: Option<String>,
    /// The last fact about it.
    pub seq: FactSeq,
}

/// Testimony with its place among the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestimonyRow {
    /// The fact's number.
    pub seq: FactSeq,
    /// When it was committed.
    pub at: Timestamp,
    /// What was said.
    pub testimony: Testimony,
}

const SELECT: &str = "SELECT i.id, i.check_id, i.endpoint, i.site, i.state, i.started_at, i.decided_at, \
        i.ended_at, i.verdict, i.reason, i.told_in, i.trace, e.url, s.name, i.seq \
    FROM incidents i LEFT JOIN endpoints e ON e.id = i.endpoint AND e.shard = i.shard \
    LEFT JOIN sites s ON s.id = i.site";

const TESTIMONY: &str = "SELECT seq, at, incident, agent, region, network, order_id, counted, \
        check_id, endpoint, site, healthy, voter_order, owner_group, owner_shard, owner_slot, \
        owner_epoch, trace, \
        probe_at, probe_late_ms, probe_reason, probe_us, probe_status, probe_remote, probe_expires, \
        probe_detail, \
        retry_at, retry_late_ms, retry_reason, retry_us, retry_status, retry_remote, retry_expires, \
        retry_detail \
    FROM testimony WHERE incident = $1 ORDER BY seq LIMIT $2";

impl Reads {
    /// Incidents, newest first.
    ///
    /// # Errors
    /// When Postgres is away, or the search takes longer than a statement may.
    pub async fn incidents(
        &self,
        filter: &IncidentFilter,
        page: Page<IncidentId>,
    ) -> Result<Listed<IncidentRow, IncidentId>, PgError> {
        let site = filter.site.map(|site| site.0.cast_signed());
        let endpoint = filter.endpoint.map(|endpoint| endpoint.0.cast_signed());
        let states: Vec<i16> = filter.states.iter().map(|state| state.code()).collect();
        let verdicts: Vec<i16> = filter
            .verdicts
            .iter()
            .map(|verdict| verdict.code())
            .collect();
        let during = filter.during.map(|during| (during.from.0, during.until.0));
        let before = page.after.map(|before| before.0.cast_signed());
        let limit = page.fetch();

        let mut query = Query::new(SELECT);
        if let Some(before) = &before {
            query.and("i.id < ?", before);
        }
        match filter.open {
            Some(true) => query.and_always("i.ended_at IS NULL"),
            Some(false) => query.and_always("i.ended_at IS NOT NULL"),
            None => {}
        }
        if let Some(site) = &site {
            query.and("i.site = ?", site);
        }
        if let Some(endpoint) = &endpoint {
            query.and("i.endpoint = ?", endpoint);
        }
        if !states.is_empty() {
            query.and("i.state = ANY(?)", &states);
        }
        if !verdicts.is_empty() {
            query.and("i.verdict = ANY(?)", &verdicts);
        }
        if let Some((from, until)) = &during {
            query.and("i.started_at < ?", until);
            query.and("(i.ended_at IS NULL OR i.ended_at > ?)", from);
        }
        query.then(" ORDER BY i.id DESC LIMIT ?", &limit);
        let rows = query.run(&self.pg).await?;
        let rows = rows.iter().map(incident_of).collect::<Result<_, _>>()?;
        Ok(page.cut(rows, |row: &IncidentRow| row.incident.id))
    }

    /// One incident and its testimony in order, at most [`TESTIMONY_MAX`] records.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn incident(
        &self,
        incident: IncidentId,
    ) -> Result<Option<(IncidentRow, Vec<TestimonyRow>)>, PgError> {
        let id = incident.0.cast_signed();
        let mut query = Query::new(SELECT);
        query.and("i.id = ?", &id);
        let rows = query.run(&self.pg).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let said = self
            .pg
            .client()
            .await?
            .query(TESTIMONY, &[&id, &TESTIMONY_MAX])
            .await?;
        let said = said.iter().map(testimony_of).collect::<Result<_, _>>()?;
        Ok(Some((incident_of(row)?, said)))
    }
}

fn incident_of(row: &Row) -> Result<IncidentRow, PgError> {
    let mut fields = Fields::of(row);
    let incident = Incident {
        id: IncidentId(fields.u64()?),
        check: check_ref(&mut fields)?,
        state: fields.state()?,
        started_at: Timestamp(fields.take()?),
        decided_at: fields.take::<Option<i64>>()?.map(Timestamp),
        ended_at: fields.take::<Option<i64>>()?.map(Timestamp),
        verdict: fields.maybe_verdict()?,
        reason: fields.reason()?,
        group: fields.maybe_u64()?.map(NotificationGroupId),
        trace: fields.take::<Option<&[u8]>>()?.and_then(trace_of),
    };
    Ok(IncidentRow {
        incident,
        url: fields.take()?,
        site_name: fields.take()?,
        seq: FactSeq(fields.u64()?),
    })
}

fn check_ref(fields: &mut Fields<'_>) -> Result<CheckRef, PgError> {
    Ok(CheckRef {
        check: CheckId(fields.u64()?),
        endpoint: EndpointId(fields.u64()?),
        site: SiteId(fields.u64()?),
    })
}

fn testimony_of(row: &Row) -> Result<TestimonyRow, PgError> {
    let mut fields = Fields::of(row);
    let (seq, at) = (FactSeq(fields.u64()?), Timestamp(fields.take()?));
    let incident = IncidentId(fields.u64()?);
    let agent = AgentId(fields.u32()?);
    let (region, network) = (name(&mut fields)?, name(&mut fields)?);
    let order = fields.maybe_u64()?.map(OrderId);
    let counted: i16 = fields.take()?;
    let counted =
        counted_of(counted).ok_or_else(|| PgError::stored("testimony.counted", counted))?;
    let evidence = evidence_of(&mut fields)?;
    let testimony = Testimony {
        incident,
        agent,
        region,
        network,
        order,
        counted,
        evidence,
    };
    Ok(TestimonyRow { seq, at, testimony })
}

fn name(fields: &mut Fields<'_>) -> Result<Name, PgError> {
    let text: &str = fields.take()?;
    Name::parse(text).map_err(|_| PgError::stored("testimony.region or network", text))
}

fn evidence_of(fields: &mut Fields<'_>) -> Result<Evidence, PgError> {
    let check = check_ref(fields)?;
    let vantage_healthy = fields.take()?;
    let role = role_of(fields)?;
    let trace = fields.take::<Option<&[u8]>>()?.and_then(trace_of);
    let probe = probe_of(fields)?.ok_or_else(|| PgError::stored("testimony.probe_at", "null"))?;
    let retry = probe_of(fields)?;
    Ok(Evidence {
        check,
        probe,
        retry,
        vantage_healthy,
        role,
        trace,
    })
}

fn role_of(fields: &mut Fields<'_>) -> Result<Role, PgError> {
    let voter = fields.maybe_u64()?;
    let group = fields.maybe_u32()?;
    let shard = fields.maybe_u32()?;
    let slot = fields
        .take::<Option<i16>>()?
        .and_then(|slot| u8::try_from(slot).ok());
    let epoch = fields.maybe_u32()?;
    match (voter, group, shard, slot, epoch) {
        (Some(order), ..) => Ok(Role::Voter {
            order: OrderId(order),
        }),
        (None, Some(group), Some(shard), Some(slot), Some(epoch)) => {
            let slot = ShardSlot {
                group: GroupId(group),
                shard: ShardId(shard),
                slot: Slot(slot),
            };
            Ok(Role::Owner {
                slot,
                epoch: Epoch(epoch),
            })
        }
        _ => Err(PgError::stored("testimony.owner_slot", "null")),
    }
}

fn probe_of(fields: &mut Fields<'_>) -> Result<Option<Probe>, PgError> {
    let at: Option<i64> = fields.take()?;
    let lateness = fields.maybe_u64()?;
    let reason = fields.maybe_reason()?;
    let us: Option<Vec<i32>> = fields.take()?;
    let status: Option<i32> = fields.take()?;
    let remote = fields.take()?;
    let expires: Option<i64> = fields.take()?;
    let detail: Option<String> = fields.take()?;
    let Some(at) = at else {
        return Ok(None);
    };
    Ok(Some(Probe {
        at: Timestamp(at),
        lateness: Span(lateness.unwrap_or(0)),
        reason,
        phases: phases_of(&us.unwrap_or_default())?,
        http_status: status
            .and_then(|status| u16::try_from(status).ok())
            .unwrap_or(0),
        remote,
        certificate_expires: expires.map(Timestamp),
        detail: detail.unwrap_or_default(),
    }))
}

fn phases_of(us: &[i32]) -> Result<Phases, PgError> {
    let &[dns, connect, tls, ttfb, total] = us else {
        return Err(PgError::stored("testimony.probe_us", us.len()));
    };
    Ok(Phases {
        dns_us: dns.cast_unsigned(),
        connect_us: connect.cast_unsigned(),
        tls_us: tls.cast_unsigned(),
        ttfb_us: ttfb.cast_unsigned(),
        total_us: total.cast_unsigned(),
    })
}
