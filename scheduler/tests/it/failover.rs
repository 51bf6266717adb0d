//! Members that come and go.

use picket_scheduler_core::command::{Command, IssueJoinToken};
use picket_scheduler_core::reply::Reply;
use picket_wire::id::MemberId;
use picket_wire::time::Timestamp;

use crate::cluster::Cluster;

fn propose(cluster: &Cluster, at: MemberId, number: u8) {
    let command = Command::IssueJoinToken(IssueJoinToken {
        hash: [number; 32],
        expires_at: Timestamp::MAX,
        region: None,
    });
    let replica = &cluster.context(at).replica;
    let reply = cluster
        .block_on(replica.propose(command))
        .expect("a majority is up");
    assert!(matches!(reply, Reply::Token(_)), "{reply:?}");
}

fn tokens(cluster: &Cluster, at: MemberId) -> Vec<u8> {
    let replica = &cluster.context(at).replica;
    cluster
        .block_on(replica.linearizable())
        .expect("a majority is up");
    replica.read(|state| {
        state
            .join_tokens
            .values()
            .map(|token| token.hash[0])
            .collect()
    })
}

fn all_equal(cluster: &Cluster) {
    cluster.eventually("all members hold the same state", |cluster| {
        let mut hashes = cluster
            .contexts()
            .map(|context| context.replica.state_hash());
        let first = hashes.next();
        hashes.all(|hash| Some(hash) == first)
    });
}

fn others(of: MemberId) -> Vec<MemberId> {
    (1..=3).map(MemberId).filter(|id| *id != of).collect()
}

#[test]
fn a_single_member_is_a_cluster_and_remembers() {
    let mut cluster = Cluster::start(1);
    let only = cluster.leader();
    propose(&cluster, only, 1);
    cluster.kill(only);
    cluster.run(only);
    cluster.leader();
    assert_eq!(tokens(&cluster, only), [1]);
}

#[test]
fn whichever_member_is_asked_the_leader_decides() {
    let cluster = Cluster::start(3);
    (1..=3).for_each(|id| propose(&cluster, MemberId(u64::from(id)), id));
    (1..=3).for_each(|id| assert_eq!(tokens(&cluster, MemberId(id)), [1, 2, 3]));
    all_equal(&cluster);
}

#[test]
fn a_killed_leader_is_replaced_and_catches_up_when_it_is_back() {
    let mut cluster = Cluster::start(3);
    let first = cluster.leader();
    propose(&cluster, first, 1);
    cluster.kill(first);
    let second = cluster.leader();
    assert_ne!(second, first);
    for (number, at) in (2..).zip(others(first)) {
        propose(&cluster, at, number);
    }
    cluster.run(first);
    cluster.leader();
    assert_eq!(tokens(&cluster, first), [1, 2, 3]);
    all_equal(&cluster);
}

#[test]
fn all_members_killed_at_once_remember_everything() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    (1..=20).for_each(|number| propose(&cluster, leader, number));
    cluster.snapshot(leader);
    (21..=25).for_each(|number| propose(&cluster, leader, number));
    let before = cluster.context(leader).replica.state_hash();
    (1..=3).for_each(|id| cluster.kill(MemberId(id)));
    (1..=3).for_each(|id| cluster.run(MemberId(id)));
    let leader = cluster.leader();
    assert_eq!(tokens(&cluster, leader), (1..=25).collect::<Vec<_>>());
    assert_eq!(cluster.context(leader).replica.state_hash().1, before.1);
    all_equal(&cluster);
}

#[test]
fn a_stopped_member_ends_every_task_it_started() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    cluster.stop(leader);
    cluster.leader();
}
