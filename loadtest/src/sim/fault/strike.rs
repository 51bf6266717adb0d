//! The strokes: whom they hit, and what they break.

use picket_wire::id::{AgentId, MemberId};
use picket_wire::time::{Span, Timestamp};

use crate::sim::agent::Sight;
use crate::sim::coverage::Met;
use crate::sim::event::{AgentEvent, Event};
use crate::sim::fault::{Mend, Plague};
use crate::sim::net::{Conn, IDLE};
use crate::sim::operator::Request;
use crate::sim::scenario::{MEMBERS, Place};
use crate::sim::trace::Node;
use crate::sim::world::World;

impl World {
    /// Something goes wrong, and will again.
    pub(crate) fn strike(&mut self, plague: Plague) {
        let heal_at = self.env.scenario.phases.heal_at;
        if self.env.now >= heal_at {
            return;
        }
        let mean = self
            .env
            .scenario
            .plagues
            .get(&plague)
            .copied()
            .unwrap_or(IDLE);
        let wait = self.rng.span(Span(mean.0 / 2), Span(mean.0 * 3 / 2));
        self.env.plan_in(wait, Event::Strike(plague));
        match plague {
            Plague::CrashLeader => {
                let leader = self.leader();
                self.crash_member(leader);
            }
            Plague::CrashMember => {
                let member = self.any_member();
                self.crash_member(member);
            }
            Plague::PauseMember => self.pause_member(),
            Plague::CutMember => self.cut_member(),
            Plague::Depose => self.depose(),
            Plague::CrashAgent => self.crash_agent(),
            Plague::PauseAgent => self.pause_agent(),
            Plague::CutAgent => self.cut_agent(),
            Plague::CutRegion => self.cut_region(),
            Plague::BreakConn => self.break_conn(),
            Plague::Blind => self.blind(),
            Plague::StopPostgres => self.stop_postgres(),
            Plague::StepClock => self.step_clock(),
            Plague::Drain => self.drain(),
            Plague::EditCatalogue => self.edit_catalogue(),
            Plague::LoseDisk => self.lose_disk(),
        }
    }

    /// The end of a fault that begins now: drawn, and before the healing.
    fn until(&mut self, low: Span, high: Span) -> Timestamp {
        let drawn = self.env.now + self.rng.span(low, high);
        drawn.min(self.env.scenario.phases.heal_at)
    }

    fn mend_at(&mut self, at: Timestamp, mend: Mend) {
        self.env.queue.plan(at, Event::Mend(mend));
    }

    fn any_member(&mut self) -> Option<MemberId> {
        self.rng.pick(&MEMBERS).copied()
    }

    fn any_agent(&mut self) -> Option<AgentId> {
        let agents: Vec<_> = self.agents.keys().copied().collect();
        self.rng.pick(&agents).copied()
    }

    fn crash_member(&mut self, member: Option<MemberId>) {
        let Some(member) = member
            .and_then(|id| self.members.get_mut(&id))
            .filter(|member| member.up)
        else {
            return;
        };
        let id = member.id;
        self.env.fault("crash", Some(Node::Member(id)));
        member.crash(&mut self.env);
        for conn in self
            .env
            .net
            .conns()
            .into_iter()
            .filter(|conn| conn.member == id)
        {
            let seen = self.rng.span(Span(50), IDLE);
            self.end_for_agent(conn, seen);
        }
        let until = self.until(Span(300), Span::from_secs(20));
        self.mend_at(until, Mend::Member(id));
    }

    /// The connection is gone; the agent sees it after a while.
    fn end_for_agent(&mut self, conn: Conn, seen: Span) {
        self.env.net.drop_conn(conn);
        if let Some(agent) = self.agents.get(&conn.agent) {
            let event = AgentEvent::HungUp(conn.member, Some(conn));
            self.env.plan_in(seen, Event::Agent(agent.boot(), event));
        }
    }

    fn pause_member(&mut self) {
        let leader = if self.rng.chance(700) {
            self.leader()
        } else {
            None
        };
        if let Some(member) = leader.or_else(|| self.any_member()) {
            self.pause(Node::Member(member), Span::from_secs(9));
        }
    }

    fn pause_agent(&mut self) {
        if let Some(agent) = self.any_agent() {
            self.pause(Node::Agent(agent), Span::from_secs(16));
        }
    }

    fn pause(&mut self, node: Node, longest: Span) {
        let until = self.until(Span(200), longest);
        self.env.fault("pause", Some(node));
        self.env.met(Met::Paused);
        self.paused.insert(node, until);
    }

    fn cut_member(&mut self) {
        let leader = if self.rng.chance(500) {
            self.leader()
        } else {
            None
        };
        let Some(member) = leader.or_else(|| self.any_member()) else {
            return;
        };
        let until = self.until(Span::from_secs(1), Span::from_secs(25));
        self.env
            .fault("cut from the members", Some(Node::Member(member)));
        for other in MEMBERS.into_iter().filter(|other| *other != member) {
            self.env
                .net
                .cut(Node::Member(member), Node::Member(other), until);
        }
    }

    fn depose(&mut self) {
        let leader = self.leader();
        let other = self.any_member().filter(|other| Some(*other) != leader);
        if let Some(other) = other {
            self.env.fault("forced election", Some(Node::Member(other)));
            self.elect(other, true);
        }
    }

    fn crash_agent(&mut self) {
        if let Some(agent) = self.any_agent()
            && self.kill_agent(agent)
        {
            let until = self.until(Span(100), Span::from_secs(25));
            self.mend_at(until, Mend::Agent(agent));
        }
    }

    fn kill_agent(&mut self, id: AgentId) -> bool {
        let alive = self
            .agents
            .get_mut(&id)
            .filter(|agent| agent.core.is_some());
        let Some(agent) = alive else { return false };
        self.env.fault("kill", Some(Node::Agent(id)));
        agent.crash(&mut self.env);
        for conn in self
            .env
            .net
            .conns()
            .into_iter()
            .filter(|conn| conn.agent == id)
        {
            self.env.net.drop_conn(conn);
            let seen = self.rng.span(Span(1), IDLE);
            self.env.plan_in(seen, Event::SessionLost(conn));
        }
        true
    }

    fn cut_agent(&mut self) {
        let Some(agent) = self.any_agent() else {
            return;
        };
        let until = self.until(Span(500), Span::from_secs(30));
        let only = if self.rng.chance(400) {
            self.any_member()
        } else {
            None
        };
        self.env
            .fault("cut from the members", Some(Node::Agent(agent)));
        for member in MEMBERS
            .into_iter()
            .filter(|member| only.is_none_or(|only| only == *member))
        {
            self.cut_uplink(agent, member, until);
        }
    }

    fn cut_region(&mut self) {
        let regions = self.env.scenario.regions();
        let Some(region) = self.rng.pick(&regions).cloned() else {
            return;
        };
        let until = self.until(Span::from_secs(2), Span::from_secs(30));
        self.env.fault("region cut off", None);
        let there = |place: &&Place| place.region == region;
        let agents: Vec<_> = self
            .env
            .scenario
            .places
            .iter()
            .filter(there)
            .map(|place| place.agent)
            .collect();
        for agent in agents {
            MEMBERS
                .into_iter()
                .for_each(|member| self.cut_uplink(agent, member, until));
        }
    }

    fn cut_uplink(&mut self, agent: AgentId, member: MemberId, until: Timestamp) {
        self.env
            .net
            .cut(Node::Agent(agent), Node::Member(member), until);
        if let Some(conn) = self.env.net.conn(agent, member) {
            self.env.plan_in(IDLE, Event::Idle(conn));
        }
    }

    /// Nothing was heard on a connection for too long, if it is still cut.
    pub(crate) fn idle(&mut self, conn: Conn) {
        let ends = (Node::Agent(conn.agent), Node::Member(conn.member));
        if self.env.net.stands(conn)
            && self
                .env
                .net
                .cut_until(ends.0, ends.1, self.env.now)
                .is_some()
        {
            self.end_for_agent(conn, Span(1));
            self.env.plan_in(Span(1), Event::SessionLost(conn));
        }
    }

    fn break_conn(&mut self) {
        let conns = self.env.net.conns();
        if let Some(&conn) = self.rng.pick(&conns) {
            self.env
                .fault("connection lost", Some(Node::Agent(conn.agent)));
            let seen = self.rng.span(Span(1), Span(500));
            self.end_for_agent(conn, seen);
            self.env.plan_in(seen, Event::SessionLost(conn));
        }
    }

    fn blind(&mut self) {
        let Some(id) = self.any_agent() else { return };
        let until = self.until(Span::from_secs(2), Span::from_secs(25));
        let doubt = self.env.now + self.rng.span(Span(0), Span::from_secs(4));
        self.env.fault("blind", Some(Node::Agent(id)));
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.sight = Sight::Blind(until);
        }
        self.mend_at(doubt.min(until), Mend::Doubt(id));
        self.mend_at(until + Span(1), Mend::Sight(id));
    }

    fn stop_postgres(&mut self) {
        let until = self.until(Span(500), Span::from_secs(40));
        self.env.fault("away", Some(Node::Postgres));
        self.postgres.go_away(&mut self.env);
        self.mend_at(until, Mend::Postgres);
    }

    fn step_clock(&mut self) {
        let Some(id) = self.any_agent() else { return };
        let step = self.rng.between(0, 4_000).cast_signed() - 2_000;
        self.env.fault("clock set", Some(Node::Agent(id)));
        self.env.met(Met::ClockStepped);
        self.env.oracles.delivery.clocks_were_set();
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.place.skew_ms = step;
            agent.step(&mut self.env, picket_agent_core::Input::Tick);
        }
    }

    fn drain(&mut self) {
        let Some(agent) = self.any_agent() else {
            return;
        };
        self.env.fault("drain", Some(Node::Agent(agent)));
        self.request(Request::Drain { agent, drain: true });
        let until = self.until(Span::from_secs(3), Span::from_secs(30));
        self.mend_at(until, Mend::Undrain(agent));
    }

    fn edit_catalogue(&mut self) {
        let editions = self.env.catalogue.iter();
        let checks = editions
            .flat_map(|(&shard, edition)| edition.checks.iter().map(move |spec| (shard, spec.id)));
        let checks: Vec<_> = checks.collect();
        let Some(&(shard, check)) = self.rng.pick(&checks) else {
            return;
        };
        self.env.fault("check removed", None);
        self.publish(shard, |checks| checks.retain(|spec| spec.id != check));
        let until = self.until(Span(500), Span::from_secs(30));
        self.mend_at(until, Mend::Restore(shard, check));
    }

    fn lose_disk(&mut self) {
        if let Some(agent) = self.any_agent()
            && self.kill_agent(agent)
        {
            self.env.fault("disk lost", Some(Node::Agent(agent)));
            self.enrol_again(agent);
        }
    }
}
