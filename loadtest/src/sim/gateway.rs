//! What a member does with what agents send, and what it tells them of its own place.

use picket_scheduler_core::admission::admitted;
use picket_scheduler_core::command::{Command, IngestEvidence};
use picket_scheduler_core::reply::{Ingested, Reply};
use picket_wire::control::{FromAgent, Hello, Refusal, ToAgent, Welcome};
use picket_wire::evidence::EvidenceBatch;
use picket_wire::id::{AgentId, BlobHash, Incarnation, Seq};
use picket_wire::lane::rollup::RollupBatch;
use picket_wire::time::Span;

use crate::sim::env::Env;
use crate::sim::event::{Downlink, Event, MemberEvent, Uplink};
use crate::sim::member::{Member, Session, Waiter, Waiting};
use crate::sim::net::Conn;
use crate::sim::trace::{Node, Note};
use picket_agent_core::Lane;

/// Longest that evidence waits for company on its way into the log.
const LINGER: Span = Span(5);

impl Member {
    /// An agent sent something.
    pub(crate) fn receive(&mut self, env: &mut Env, conn: Conn, message: Uplink) {
        let to = self.id;
        let known = self
            .sessions
            .get(&conn.agent)
            .filter(|session| session.conn == conn);
        let incarnation = known.map(|session| session.incarnation);
        match message {
            Uplink::Control(FromAgent::Hello(hello)) => self.greet(env, conn, &hello),
            Uplink::Control(control) if incarnation.is_some() => self.listen(env, conn, control),
            Uplink::Evidence(batch) if incarnation == Some(batch.incarnation) => {
                env.note(Note::Batch {
                    to,
                    from: batch.agent,
                    lane: Lane::Evidence.into(),
                    seq: batch.seq.0,
                });
                self.take_evidence(env, batch);
            }
            Uplink::Rollup(batch) if incarnation == Some(batch.incarnation) => {
                env.note(Note::Batch {
                    to,
                    from: batch.agent,
                    lane: Lane::Rollup.into(),
                    seq: batch.seq.0,
                });
                self.take_rollup(batch);
            }
            Uplink::Control(_) | Uplink::Evidence(_) | Uplink::Rollup(_) => {}
        }
    }

    fn greet(&mut self, env: &mut Env, conn: Conn, hello: &Hello) {
        let (to, from) = (Node::Member(self.id), Node::Agent(conn.agent));
        env.note(Note::Heard {
            to,
            from,
            what: "hello",
        });
        let incarnation = hello.incarnation;
        let session = Session {
            conn,
            incarnation,
            healthy: true,
            heard_at: self.clock(env),
            acks: (Seq(0), Seq(0)),
        };
        self.sessions.insert(conn.agent, session);
        match self.judge(conn.agent, incarnation) {
            Ok(()) => self.tell_position(env, conn.agent),
            Err(refusal) => self.refuse(env, conn.agent, refusal),
        }
    }

    fn judge(&self, agent: AgentId, theirs: Incarnation) -> Result<(), Refusal> {
        admitted(self.machine.state(), agent, theirs).map(|_| ())
    }

    fn refuse(&mut self, env: &mut Env, agent: AgentId, refusal: Refusal) {
        self.say(env, agent, ToAgent::Refused(refusal));
        self.sessions.remove(&agent);
    }

    /// Ends the sessions of agents that are admitted no more, or anew.
    pub(crate) fn check_admissions(&mut self, env: &mut Env) {
        let sessions = self
            .sessions
            .iter()
            .map(|(&agent, session)| (agent, session.incarnation));
        let refused: Vec<_> = sessions
            .filter_map(|(agent, incarnation)| Some((agent, self.judge(agent, incarnation).err()?)))
            .collect();
        refused
            .into_iter()
            .for_each(|(agent, refusal)| self.refuse(env, agent, refusal));
    }

    fn listen(&mut self, env: &mut Env, conn: Conn, message: FromAgent) {
        let agent = conn.agent;
        match message {
            FromAgent::Renew(renew) => {
                let now = self.clock(env);
                if let Some(session) = self.sessions.get_mut(&agent) {
                    session.healthy = renew.healthy;
                    session.heard_at = now;
                }
                let granted = self
                    .term
                    .as_mut()
                    .and_then(|term| term.book.renew(agent, &renew, now));
                let answer = match granted {
                    Some(ttl) => ToAgent::Lease {
                        renewed_at: renew.sent_at,
                        ttl,
                    },
                    None => ToAgent::NotLeader {
                        leader: self.leader,
                    },
                };
                self.say(env, agent, answer);
            }
            FromAgent::WantBlobs(blobs) => self.send_blobs(env, conn, &blobs),
            FromAgent::Hello(_) | FromAgent::Schedule(_) => {}
        }
    }

    fn send_blobs(&self, env: &mut Env, conn: Conn, blobs: &[BlobHash]) {
        for &blob in blobs {
            if env.blobs.contains_key(&blob) {
                env.send_down(conn, &Downlink::Blob(blob));
            }
        }
    }

    /// Tells an agent who leads and, when it is this member, where its lanes stand.
    pub(crate) fn tell_position(&mut self, env: &mut Env, agent: AgentId) {
        let Some(incarnation) = self.sessions.get(&agent).map(|session| session.incarnation) else {
            return;
        };
        let (member, now) = (self.id, self.clock(env));
        let state = self.machine.state();
        let Some(term) = &mut self.term else {
            let leader = self.leader.filter(|leader| *leader != member);
            self.say(env, agent, ToAgent::NotLeader { leader });
            return;
        };
        let known = state.agents.get(&agent);
        if let Some(known) = known.filter(|_| !term.book.is_live(agent, now)) {
            term.book.admit(agent, &known.region, now);
        }
        let evidence = known.map(|agent| agent.watermark).unwrap_or_default();
        let window = state
            .settings
            .as_ref()
            .map(|settings| settings.window)
            .unwrap_or_default();
        let rollup = term.rollups.watermark(env, agent, incarnation);
        let welcome = Welcome {
            member,
            term: term.number,
            now,
            window,
            evidence,
            rollup,
        };
        self.say(env, agent, ToAgent::Welcome(welcome));
    }

    fn take_evidence(&mut self, env: &mut Env, batch: EvidenceBatch) {
        let Some(term) = &mut self.term else { return };
        let known = self.machine.state().agents.get(&batch.agent);
        let watermark = known.map(|agent| agent.watermark).unwrap_or_default();
        if batch.seq <= watermark {
            return self.ack_evidence(env, batch.agent, batch.incarnation, watermark);
        }
        term.evidence.push(batch);
        if term.evidence.len() == 1 {
            self.plan(env, LINGER, MemberEvent::Flush);
        }
    }

    fn take_rollup(&mut self, batch: RollupBatch) {
        if let Some(term) = &mut self.term {
            term.rollups.offer(batch);
        }
    }

    /// Puts the evidence that has come into the log, as one entry.
    pub(crate) fn flush(&mut self, env: &mut Env) {
        let Some(term) = &mut self.term else { return };
        let batches = std::mem::take(&mut term.evidence);
        let senders: Vec<_> = batches
            .iter()
            .map(|batch| (batch.agent, batch.incarnation))
            .collect();
        let too_early: Vec<_> = if env.planted.ack_before_durable {
            batches
                .iter()
                .map(|batch| (batch.agent, batch.incarnation, batch.seq))
                .collect()
        } else {
            Vec::new()
        };
        let command = Command::IngestEvidence(IngestEvidence { batches });
        self.propose(env, command, Waiter::Evidence(senders));
        for (agent, incarnation, seq) in too_early {
            self.ack_evidence(env, agent, incarnation, seq);
        }
    }

    /// An entry that somebody waited for was applied, or another stands in its place.
    pub(crate) fn conclude(
        &mut self,
        env: &mut Env,
        waiting: Waiting,
        term: u64,
        reply: Option<Reply>,
    ) {
        let reply = reply.filter(|_| waiting.term == term);
        match (waiting.waiter, reply) {
            (Waiter::Evidence(senders), Some(Reply::Ingested(results))) => {
                self.ingested(env, &senders, results);
            }
            (Waiter::Evidence(senders), _) => self.tell_positions(env, &senders),
            (Waiter::Operator(op), Some(reply)) => env.plan_in(Span(1), Event::Operated(op, reply)),
            (Waiter::Moves, _) => self.with_term(|term| term.planning = false),
            (Waiter::Expiry, _) => self.with_term(|term| term.expiring = false),
            (Waiter::Nobody | Waiter::Operator(_), _) => {}
        }
    }

    fn with_term(&mut self, change: impl FnOnce(&mut crate::sim::leader::Term)) {
        if let Some(term) = &mut self.term {
            change(term);
        }
    }

    fn ingested(
        &mut self,
        env: &mut Env,
        senders: &[(AgentId, Incarnation)],
        results: Vec<Ingested>,
    ) {
        let mut behind = Vec::new();
        for (&(agent, incarnation), result) in senders.iter().zip(results) {
            match result.refused {
                None => self.ack_evidence(env, agent, incarnation, result.watermark),
                Some(Refusal::Gap { .. }) => behind.push((agent, incarnation)),
                Some(refusal) => self.refuse(env, agent, refusal),
            }
        }
        self.tell_positions(env, &behind);
    }

    /// Tells agents where their lanes stand, so that they send again what comes after.
    pub(crate) fn tell_positions(&mut self, env: &mut Env, senders: &[(AgentId, Incarnation)]) {
        let mut agents: Vec<_> = senders.iter().map(|(agent, _)| *agent).collect();
        agents.dedup();
        agents
            .into_iter()
            .for_each(|agent| self.tell_position(env, agent));
    }

    /// Acknowledges evidence.
    pub(crate) fn ack_evidence(
        &mut self,
        env: &mut Env,
        agent: AgentId,
        incarnation: Incarnation,
        seq: Seq,
    ) {
        self.ack(env, agent, incarnation, |acks| acks.0 = acks.0.max(seq));
    }

    /// Acknowledges rollups.
    pub(crate) fn ack_rollup(
        &mut self,
        env: &mut Env,
        agent: AgentId,
        incarnation: Incarnation,
        seq: Seq,
    ) {
        self.ack(env, agent, incarnation, |acks| acks.1 = acks.1.max(seq));
    }

    fn ack(
        &mut self,
        env: &mut Env,
        agent: AgentId,
        incarnation: Incarnation,
        change: impl FnOnce(&mut (Seq, Seq)),
    ) {
        let session = self.sessions.get_mut(&agent);
        if let Some(session) = session.filter(|session| session.incarnation == incarnation) {
            change(&mut session.acks);
            let (evidence, rollup) = session.acks;
            self.say(env, agent, ToAgent::Acks { evidence, rollup });
        }
    }
}
