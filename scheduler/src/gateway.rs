//! The gateway: everything that arrives over the mesh.
//!
//! A certificate says who comes: another member (consensus, proposals, blobs), an agent (control
//! stream and lanes), or nobody yet (one enrolment). What agents say durably is handed on in
//! batches; what they say fleetingly goes into the live table.

mod agent_session;
mod enrol;
mod evidence;
mod lanes;
pub mod live;
mod member;
mod schedule;
pub mod sessions;

use std::sync::Arc;

use picket_rt::identity::{Authority, Peer};
use picket_rt::quic::{self, Arrival, CloseCode, Link, Mesh};
use picket_rt::stop::Stop;
use picket_rt::task::{Policy, TaskSet};

pub(crate) use self::evidence::{EvidenceInbox, run_batcher};
use crate::consensus::Consensus;
use crate::context::Context;
use crate::gateway::enrol::EnrolDesk;
use crate::project::rollups::RollupInbox;

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) context: Arc<Context>,
    pub(crate) consensus: Consensus,
    pub(crate) evidence: EvidenceInbox,
    pub(crate) rollups: RollupInbox,
    desk: Arc<EnrolDesk>,
}

impl Gateway {
    /// A gateway that hands on to the two inboxes and signs agents with `authority`.
    pub(crate) fn new(
        context: Arc<Context>,
        consensus: Consensus,
        evidence: EvidenceInbox,
        rollups: RollupInbox,
        authority: Authority,
    ) -> Self {
        Self {
            context,
            consensus,
            evidence,
            rollups,
            desk: Arc::new(EnrolDesk::new(authority)),
        }
    }

    /// Accepts connections until `stop`; each gets a task of its own.
    pub(crate) async fn listen(self, mesh: Mesh, tasks: TaskSet, stop: Stop) {
        loop {
            let arrival = tokio::select! {
                biased;
                () = stop.requested() => return,
                arrival = mesh.accept() => arrival,
            };
            let Some(arrival) = arrival else { return };
            let (gateway, stop) = (self.clone(), stop.clone());
            tasks.spawn("connection", Policy::BestEffort, async move {
                tokio::select! {
                    biased;
                    () = stop.requested() => {}
                    () = gateway.welcome(arrival, &stop) => {}
                }
            });
        }
    }

    async fn welcome(&self, arrival: Arrival, stop: &Stop) {
        let remote = arrival.remote_address();
        match arrival.complete().await {
            Ok(link) => self.serve(link, stop).await,
            Err(error) => {
                tracing::debug!(%remote, error = %picket_rt::chain(&error), "no handshake")
            }
        }
    }

    async fn serve(&self, link: Link, stop: &Stop) {
        match link.peer {
            Peer::Member(member) if self.is_member(member) => member::serve(self, &link).await,
            Peer::Member(_) => quic::close(&link.connection, CloseCode::Refused),
            Peer::Agent(agent) => agent_session::serve(self, &link, agent, stop).await,
            Peer::Anonymous => self.desk.serve(self, &link).await,
        }
    }

    /// A certificate of the CA is not enough: the member must be configured too.
    fn is_member(&self, member: picket_wire::id::MemberId) -> bool {
        self.context
            .mesh
            .members
            .iter()
            .any(|(id, _)| *id == member)
    }
}
