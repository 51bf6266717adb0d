//! Agents that enrol, and those that may not connect.

use picket_rt::identity::AgentKey;
use picket_scheduler_core::command::{Command, RevokeAgent};
use picket_wire::control::{EnrolRefusal, EnrolReply, Hello, Refusal, ToAgent};
use picket_wire::id::{AgentId, Incarnation, MemberId};

use crate::agent::{Agent, ask_to_enrol, token};
use crate::cluster::Cluster;

#[test]
fn a_token_admits_one_agent_and_only_the_leader_admits() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let follower = (1..=3).map(MemberId).find(|id| *id != leader).unwrap();
    let token = token(&cluster);
    let (_key, csr) = AgentKey::generate().unwrap();
    let elsewhere = ask_to_enrol(cluster.address(follower), &token, csr.clone(), "eu", "one");
    let address = cluster.address(leader).to_string();
    assert_eq!(
        cluster.block_on(elsewhere),
        EnrolReply::NotLeader {
            leader: Some(address)
        }
    );
    let first = cluster.block_on(ask_to_enrol(
        cluster.address(leader),
        &token,
        csr,
        "eu",
        "one",
    ));
    assert!(matches!(first, EnrolReply::Admitted(_)), "{first:?}");
    let (_key, csr) = AgentKey::generate().unwrap();
    let second = cluster.block_on(ask_to_enrol(
        cluster.address(leader),
        &token,
        csr,
        "eu",
        "two",
    ));
    assert_eq!(second, EnrolReply::Refused(EnrolRefusal::UsedToken));
}

/// What a member says to `hello` on the certificate of `agent`.
fn refusal(cluster: &Cluster, agent: &Agent, hello: Hello) -> Refusal {
    let leader = cluster.leader();
    cluster.block_on(async {
        let mut session = agent.greet(cluster, leader, hello).await;
        session
            .until(|message| match message {
                ToAgent::Refused(refusal) => Some(refusal),
                _ => None,
            })
            .await
    })
}

#[test]
fn an_agent_speaks_only_for_itself_in_its_own_incarnation_and_in_a_known_schema() {
    let cluster = Cluster::start(1);
    let agent = Agent::enrol(&cluster, "eu", "one");
    let other = AgentId(agent.id.0 + 1);
    let impostor = refusal(
        &cluster,
        &agent,
        Hello {
            agent: other,
            ..agent.hello()
        },
    );
    assert_eq!(
        impostor,
        Refusal::Impostor {
            certificate: agent.id,
            message: other
        }
    );
    // It may have been admitted anew, and this member may not have heard of it yet.
    let early = refusal(
        &cluster,
        &agent,
        Hello {
            incarnation: Incarnation(agent.incarnation.0 + 1),
            ..agent.hello()
        },
    );
    assert_eq!(early, Refusal::NotAdmitted(agent.id));
    let strange = refusal(
        &cluster,
        &agent,
        Hello {
            schema_min: 900,
            schema_max: 901,
            ..agent.hello()
        },
    );
    assert!(
        matches!(
            strange,
            Refusal::Schema {
                theirs_min: 900,
                ..
            }
        ),
        "{strange:?}"
    );
}

#[test]
fn a_revoked_agent_loses_its_session_and_gets_no_other() {
    let cluster = Cluster::start(1);
    let agent = Agent::enrol(&cluster, "eu", "one");
    let (mut session, _welcome) = agent.session(&cluster);
    let replica = &cluster.context(cluster.leader()).replica;
    let revoke = Command::RevokeAgent(RevokeAgent { agent: agent.id });
    cluster.block_on(replica.propose(revoke)).unwrap();
    let told = cluster.block_on(session.until(|message| match message {
        ToAgent::Refused(refusal) => Some(refusal),
        _ => None,
    }));
    assert_eq!(told, Refusal::NotAdmitted(agent.id));
    assert_eq!(
        refusal(&cluster, &agent, agent.hello()),
        Refusal::NotAdmitted(agent.id)
    );
}

#[test]
fn the_newer_of_two_sessions_stays() {
    let cluster = Cluster::start(1);
    let agent = Agent::enrol(&cluster, "eu", "one");
    let (mut older, _) = agent.session(&cluster);
    let (mut newer, _) = agent.session(&cluster);
    let told = cluster.block_on(older.until(|message| match message {
        ToAgent::Refused(refusal) => Some(refusal),
        _ => None,
    }));
    assert_eq!(told, Refusal::Replaced);
    let now = cluster.context(cluster.leader()).clock.now();
    cluster.block_on(async {
        newer.renew(now).await;
        newer
            .until(|message| matches!(message, ToAgent::Lease { .. }).then_some(()))
            .await;
    });
}
