//! What goes wrong, and how it is mended. Everything is mended when the healing begins.

mod strike;

use picket_wire::id::{AgentId, CheckId, MemberId, ShardId};
use picket_wire::time::{Span, Timestamp};

use crate::sim::agent::Sight;
use crate::sim::event::Event;
use crate::sim::operator::Request;
use crate::sim::postgres::come_back;
use crate::sim::trace::Node;
use crate::sim::world::World;

macro_rules! plagues {
    ($($(#[$doc:meta])* $variant:ident;)*) => {
        /// Something that goes wrong again and again.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Plague { $($(#[$doc])* $variant,)* }

        impl Plague {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }
    };
}

plagues! {
    /// The leader is killed.
    CrashLeader;
    /// Any member is killed.
    CrashMember;
    /// A member, most often the leader, stands still for a while.
    PauseMember;
    /// A member is cut off from the others, and not from the agents.
    CutMember;
    /// Somebody else is elected although the leader is well.
    Depose;
    /// An agent is killed.
    CrashAgent;
    /// An agent stands still for a while.
    PauseAgent;
    /// An agent is cut off from all members, or from one.
    CutAgent;
    /// All agents of a region are cut off.
    CutRegion;
    /// A connection ends.
    BreakConn;
    /// An agent's own network fails, and a moment later it knows.
    Blind;
    /// Postgres goes away.
    StopPostgres;
    /// An agent's clock is set.
    StepClock;
    /// An agent is drained for a while.
    Drain;
    /// A check is removed for a while.
    EditCatalogue;
    /// An agent loses its disk and enrols again.
    LoseDisk;
}

/// The end of a fault.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mend {
    Member(MemberId),
    Agent(AgentId),
    Postgres,
    /// The agent learns that it is blind.
    Doubt(AgentId),
    /// It sees again, and knows.
    Sight(AgentId),
    Undrain(AgentId),
    Restore(ShardId, CheckId),
}

impl World {
    /// Plans the first stroke of everything that will go wrong.
    pub(crate) fn plan_faults(&mut self) {
        let from = self.env.scenario.phases.faults_from;
        for (plague, mean) in self.env.scenario.plagues.clone() {
            let wait = self.rng.span(Span(0), mean);
            self.env.queue.plan(from + wait, Event::Strike(plague));
        }
        self.env
            .queue
            .plan(self.env.scenario.phases.heal_at, Event::Heal);
    }

    /// A fault ends.
    pub(crate) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Member(id) => self.start_member(id),
            Mend::Agent(id) => self.start_agent(id),
            Mend::Postgres => {
                self.env.fault("back", Some(Node::Postgres));
                come_back(&mut self.env);
            }
            Mend::Doubt(id) => self.tell_health(id, false),
            Mend::Sight(id) => {
                if let Some(agent) = self
                    .agents
                    .get_mut(&id)
                    .filter(|agent| sees(agent.sight, self.env.now))
                {
                    agent.sight = Sight::Clear;
                    self.tell_health(id, true);
                }
            }
            Mend::Undrain(agent) => self.request(Request::Drain {
                agent,
                drain: false,
            }),
            Mend::Restore(shard, check) => {
                let spec = self
                    .env
                    .scenario
                    .checks
                    .iter()
                    .find(|spec| spec.id == check)
                    .cloned();
                self.publish(shard, |checks| {
                    checks.retain(|spec| spec.id != check);
                    checks.extend(spec);
                    checks.sort_by_key(|spec| spec.id);
                });
            }
        }
    }

    fn start_member(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id).filter(|member| !member.up) {
            self.env.fault("start", Some(Node::Member(id)));
            member.restart(&mut self.env);
        }
    }

    fn start_agent(&mut self, id: AgentId) {
        if self.enrolling.contains(&id) {
            return;
        }
        if let Some(agent) = self
            .agents
            .get_mut(&id)
            .filter(|agent| agent.core.is_none())
        {
            self.env.fault("start", Some(Node::Agent(id)));
            agent.start(&mut self.env);
        }
    }

    fn tell_health(&mut self, id: AgentId, healthy: bool) {
        self.env.fault(
            if healthy { "sees" } else { "doubts itself" },
            Some(Node::Agent(id)),
        );
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.step(
                &mut self.env,
                picket_agent_core::Input::ReferenceHealth(healthy),
            );
        }
    }

    /// From here on nothing goes wrong any more.
    pub(crate) fn heal(&mut self) {
        self.env.fault("healing begins", None);
        self.env.net.heal();
        self.paused.clear();
    }
}

fn sees(sight: Sight, now: Timestamp) -> bool {
    match sight {
        Sight::Clear => false,
        Sight::Blind(until) => now >= until,
    }
}
