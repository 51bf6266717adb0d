//! Who has a slot's blob ready and takes over next: the second choice.

use picket_wire::id::AgentId;

use super::{AgentIndex, Solver};

impl Solver<'_> {
    /// The standby of a slot: the present one as long as it will do, else the best by rendezvous
    /// in the owner's region, else in the next region where there is one.
    pub(super) fn standby(&self, index: usize) -> Option<AgentId> {
        let place = &self.places[index];
        let owner = place.owner?;
        let home = self.workers[owner].region;
        let elsewhere = self.order(place.slot).filter(|&region| region != home);
        let region = [home].into_iter().chain(elsewhere).find(|&region| {
            self.regions[region]
                .eligible
                .iter()
                .any(|&agent| self.may_stand_by(index, agent))
        })?;
        let present = self
            .problem
            .current
            .get(&place.slot)
            .and_then(|now| now.standby);
        let able = || {
            let eligible = self.regions[region].eligible.iter().copied();
            eligible.filter(|&agent| self.may_stand_by(index, agent))
        };
        let kept = able().find(|&agent| Some(self.workers[agent].id) == present);
        let best = || able().min_by_key(|&agent| (self.score(place.slot, agent), agent));
        kept.or_else(best).map(|agent| self.workers[agent].id)
    }

    fn may_stand_by(&self, index: usize, agent: AgentIndex) -> bool {
        self.places[index].owner != Some(agent) && !self.holds_other(index, agent)
    }
}
