//! From an agent's first failure to a verdict, and what may happen on the way.

use picket_scheduler_core::command::init_cluster::DEFAULT_GROUP;
use picket_scheduler_core::command::{Command, PointCatalogue, Pointed};
use picket_scheduler_core::reply::Reply;
use picket_wire::assignment::Assigned;
use picket_wire::blob::{ShardCatalogue, decode_blob, encode_blob};
use picket_wire::check::http::HttpSpec;
use picket_wire::check::{Cadence, CheckKind, CheckSpec};
use picket_wire::control::{FromAgent, ProbeOrder, ToAgent};
use picket_wire::dispersal::shard_of;
use picket_wire::evidence::{CheckRef, Evidence, Role};
use picket_wire::fact::FactBody;
use picket_wire::id::{CatalogueVersion, CheckId, EndpointId, FactSeq, Seq, SiteId};
use picket_wire::outcome::{Phases, Probe};
use picket_wire::reason::Reason;
use picket_wire::state::State;
use picket_wire::time::{Span, Timestamp};

use crate::agent::{Agent, Session};
use crate::cluster::Cluster;

const CHECK: CheckRef = CheckRef {
    check: CheckId(11),
    endpoint: EndpointId(5),
    site: SiteId(2),
};

/// Gives the one shard of [`CHECK`] a catalogue with that check alone.
fn publish(cluster: &Cluster) {
    let context = cluster.context(cluster.leader());
    let shards = context
        .replica
        .read(|state| state.settings.as_ref().unwrap().shards);
    let (group, shard) = (DEFAULT_GROUP, shard_of(CHECK.endpoint, shards));
    let version = CatalogueVersion(1);
    let spec = CheckSpec {
        id: CHECK.check,
        endpoint: CHECK.endpoint,
        site: CHECK.site,
        cadence: Cadence::from_secs(60).unwrap(),
        timeout: Span::from_secs(5),
        kind: CheckKind::Http(HttpSpec::plain(
            false,
            "127.0.0.1".to_owned(),
            9,
            "/".to_owned(),
        )),
    };
    let catalogue = ShardCatalogue {
        group,
        shard,
        version,
        checks: vec![spec],
    };
    let blob = context.blobs.put(encode_blob(&catalogue).unwrap());
    let pointed = Pointed {
        group,
        shard,
        version,
        blob,
        checks: 1,
        gone: Vec::new(),
    };
    let command = Command::PointCatalogue(PointCatalogue {
        pointers: vec![pointed],
    });
    assert_eq!(
        cluster.block_on(context.replica.propose(command)),
        Ok(Reply::Done)
    );
}

fn probe(at: Timestamp, reason: Option<Reason>) -> Probe {
    Probe {
        at,
        lateness: Span::ZERO,
        reason,
        phases: Phases::default(),
        http_status: 0,
        remote: None,
        certificate_expires: None,
        detail: String::new(),
    }
}

fn evidence(role: Role, at: Timestamp, reason: Option<Reason>) -> Evidence {
    Evidence {
        check: CHECK,
        probe: probe(at, reason),
        retry: Some(probe(at, reason)),
        vantage_healthy: true,
        role,
        trace: None,
    }
}

fn owner(assigned: Assigned) -> Role {
    Role::Owner {
        slot: assigned.slot,
        epoch: assigned.epoch,
    }
}

async fn digest(session: &mut Session) -> Assigned {
    session
        .until(|message| match message {
            ToAgent::Digest(lines) => lines.first().copied(),
            _ => None,
        })
        .await
}

async fn order(session: &mut Session) -> ProbeOrder {
    session
        .until(|message| match message {
            ToAgent::Probe(order) => Some(order),
            _ => None,
        })
        .await
}

fn now(cluster: &Cluster) -> Timestamp {
    cluster.context(cluster.leader()).clock.now()
}

fn state_of(cluster: &Cluster) -> State {
    let replica = &cluster.context(cluster.leader()).replica;
    replica.read(|state| {
        state
            .open
            .get(&CHECK.check)
            .map_or(State::Up, |open| open.stage.state())
    })
}

/// Every transition that was ever stated: nothing consumes facts while Postgres is away.
fn transitions(cluster: &Cluster) -> Vec<(State, State)> {
    let facts = cluster
        .context(cluster.leader())
        .replica
        .facts_after(FactSeq(0), 10_000);
    let transition = |fact: &picket_wire::fact::Fact| match &fact.body {
        FactBody::Transition(transition) => Some((transition.from, transition.to)),
        _ => None,
    };
    facts.iter().filter_map(transition).collect()
}

#[test]
fn an_owner_learns_its_shard_fetches_the_blob_and_a_second_vantage_confirms() {
    let cluster = Cluster::start(3);
    let eu = Agent::enrol(&cluster, "eu", "one");
    let (mut owning, welcome) = eu.session(&cluster);
    assert_eq!(welcome.evidence, Seq(0));
    publish(&cluster);
    let us = Agent::enrol(&cluster, "us", "two");
    let (mut voting, _) = us.session(&cluster);
    let assigned = cluster.block_on(async {
        // Whoever is assigned the shard owns it; the other one votes.
        tokio::select! {
            assigned = digest(&mut owning) => assigned,
            assigned = digest(&mut voting) => {
                std::mem::swap(&mut owning, &mut voting);
                assigned
            }
        }
    });
    cluster.block_on(async {
        owning.say(&FromAgent::WantBlobs(vec![assigned.blob])).await;
        let blob = owning.next_blob().await;
        assert_eq!(decode_blob(&blob).unwrap().checks[0].id, CHECK.check);
        owning.renew(now(&cluster)).await;
        voting.renew(now(&cluster)).await;
        let failed = evidence(owner(assigned), now(&cluster), Some(Reason::ConnectRefused));
        owning.send_evidence(1, vec![failed]).await;
        owning.evidence_acked(1).await;
        let order = order(&mut voting).await;
        assert_eq!(order.check.id, CHECK.check);
        let vote = Role::Voter { order: order.order };
        voting
            .send_evidence(
                1,
                vec![evidence(vote, now(&cluster), Some(Reason::ConnectRefused))],
            )
            .await;
        voting.evidence_acked(1).await;
    });
    assert_eq!(state_of(&cluster), State::Down);
    assert_eq!(
        transitions(&cluster),
        [
            (State::Up, State::SeemsDown),
            (State::SeemsDown, State::Down)
        ]
    );
}

#[test]
fn a_batch_sent_twice_is_acknowledged_twice_and_applied_once() {
    let cluster = Cluster::start(1);
    let agent = Agent::enrol(&cluster, "eu", "one");
    publish(&cluster);
    let (mut session, _) = agent.session(&cluster);
    cluster.block_on(async {
        let assigned = digest(&mut session).await;
        let at = now(&cluster);
        let failed = || vec![evidence(owner(assigned), at, Some(Reason::ConnectRefused))];
        session.send_evidence(1, failed()).await;
        session.evidence_acked(1).await;
        let fine = || vec![evidence(owner(assigned), at + Span(1), None)];
        session.send_evidence(2, fine()).await;
        session.evidence_acked(2).await;
        // Both again: with an effect, the first would open the verdict anew.
        session.send_evidence(1, failed()).await;
        session.evidence_acked(2).await;
        session.send_evidence(2, fine()).await;
        session.evidence_acked(2).await;
    });
    let testimonies = |fact: &picket_wire::fact::Fact| matches!(fact.body, FactBody::Testimony(_));
    let facts = cluster
        .context(cluster.leader())
        .replica
        .facts_after(FactSeq(0), 10_000);
    assert_eq!(facts.iter().filter(|fact| testimonies(fact)).count(), 2);
}

#[test]
fn after_a_gap_the_agent_is_told_where_its_lane_stands() {
    let cluster = Cluster::start(1);
    let agent = Agent::enrol(&cluster, "eu", "one");
    let (mut session, _) = agent.session(&cluster);
    cluster.block_on(async {
        session.send_evidence(3, Vec::new()).await;
        let position = session.until(|message| match message {
            ToAgent::Welcome(welcome) => Some(welcome.evidence),
            _ => None,
        });
        assert_eq!(position.await, Seq(0));
        session.send_evidence(1, Vec::new()).await;
        session.evidence_acked(1).await;
    });
}

#[test]
fn a_new_leader_takes_the_lane_up_where_the_old_one_left_it() {
    let mut cluster = Cluster::start(3);
    let agent = Agent::enrol(&cluster, "eu", "one");
    let (mut session, _) = agent.session(&cluster);
    cluster.block_on(async {
        session.send_evidence(1, Vec::new()).await;
        session.send_evidence(2, Vec::new()).await;
        session.evidence_acked(2).await;
    });
    let old = cluster.leader();
    cluster.kill(old);
    let (mut session, welcome) = agent.session(&cluster);
    assert_eq!(welcome.evidence, Seq(2));
    assert_ne!(welcome.member, old);
    cluster.block_on(async {
        session.send_evidence(3, Vec::new()).await;
        session.evidence_acked(3).await;
    });
}
