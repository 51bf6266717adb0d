//! What the leader knows that is not replicated, for whichever member is asked.
//!
//! A member that does not lead asks the leader; when nobody leads, nothing is observed, and the
//! answer says so by being empty.

use std::collections::BTreeMap;
use std::time::Duration;

use picket_wire::id::{AgentId, CheckId};
use picket_wire::latency;
use picket_wire::peer::{
    self, AgentSeen, LatenessSeen, LeaderHint, PeerReply, PeerRequest, ProbeSeen,
};
use picket_wire::time::Timestamp;

use crate::context::Context;

/// A page must not hang on a leader that died.
const ASK_WITHIN: Duration = Duration::from_secs(1);

/// What is observed now, ready to be looked up.
#[derive(Debug, Default)]
pub struct Observed {
    /// Whether anybody led when this was put together.
    pub led: bool,
    /// Who has a lease, and until when.
    pub leases: BTreeMap<AgentId, Timestamp>,
    /// Regions in which nothing is moved.
    pub frozen: Vec<picket_wire::name::Name>,
    /// The agents connected to the leader.
    pub agents: BTreeMap<AgentId, AgentSeen>,
    /// The last probe of each check that was asked for.
    pub probes: BTreeMap<CheckId, ProbeSeen>,
    /// How late probes started.
    pub lateness: LatenessSeen,
}

/// What is observed now, here or at the leader.
pub async fn now(ctx: &Context, checks: &[CheckId]) -> Observed {
    if ctx.leader_view.leads() {
        return index(local(ctx, checks), checks);
    }
    let Some(leader) = ctx.replica.leader() else {
        return Observed::default();
    };
    match ctx
        .replica
        .ask(leader, &PeerRequest::Observe(checks.to_vec()), ASK_WITHIN)
        .await
    {
        Ok(PeerReply::Observed(observed)) => index(observed, checks),
        Ok(_) => Observed::default(),
        Err(error) => {
            tracing::debug!(%leader, error = %picket_rt::chain(&error), "the leader did not say what it observes");
            Observed::default()
        }
    }
}

/// The answer to another member.
pub(crate) fn answer(ctx: &Context, checks: &[CheckId]) -> PeerReply {
    if ctx.leader_view.leads() {
        PeerReply::Observed(local(ctx, checks))
    } else {
        PeerReply::NotLeader(LeaderHint {
            leader: ctx.replica.leader(),
        })
    }
}

fn local(ctx: &Context, checks: &[CheckId]) -> peer::Observed {
    let agents = ctx
        .sessions
        .connected()
        .into_iter()
        .map(|connected| AgentSeen {
            agent: connected.agent,
            build: connected.build,
            healthy: connected.healthy,
            spool_bytes: connected.spool_bytes,
        });
    let lateness = ctx.live.lateness();
    peer::Observed {
        leases: ctx.leader_view.leases(),
        frozen: ctx.leader_view.frozen(),
        agents: agents.collect(),
        probes: checks.iter().map(|&check| probe(ctx, check)).collect(),
        lateness: LatenessSeen {
            count: lateness.count,
            p50_ms: lateness.p50_ms,
            p99_ms: lateness.p99_ms,
            max_ms: lateness.max_ms,
        },
    }
}

fn probe(ctx: &Context, check: CheckId) -> Option<ProbeSeen> {
    let cell = ctx.live.get(check)?;
    Some(ProbeSeen {
        at: cell.seen,
        latency_us: cell.latency_bucket.map(latency::midpoint_us),
    })
}

fn index(observed: peer::Observed, checks: &[CheckId]) -> Observed {
    let peer::Observed {
        leases,
        frozen,
        agents,
        probes,
        lateness,
    } = observed;
    Observed {
        led: true,
        leases: leases.into_iter().collect(),
        frozen,
        agents: agents.into_iter().map(|seen| (seen.agent, seen)).collect(),
        probes: checks
            .iter()
            .copied()
            .zip(probes)
            .filter_map(|(check, seen)| Some((check, seen?)))
            .collect(),
        lateness,
    }
}
