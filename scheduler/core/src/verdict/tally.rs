//! Counting: which words and votes about a check stand for which distinct vantages.

use picket_wire::fact::Counted;
use picket_wire::id::AgentId;
use picket_wire::name::Name;
use picket_wire::time::Timestamp;

use crate::state::{Ballot, OpenVerdict, Order, Says, State, Word};
use crate::verdict::{Count, Inputs, Owner};

/// The counted words and votes about one check.
#[derive(Debug, Clone)]
pub(crate) struct Tally<'a> {
    pub(crate) owner: Owner,
    /// The probe that the owner's word is about: the first that failed, or the first ok one.
    pub(crate) owner_at: Timestamp,
    /// When each other vantage that sees it fail probed.
    down: Vec<Timestamp>,
    /// When each other vantage that sees it ok probed.
    up: Vec<Timestamp>,
    /// The vantages that have spoken; small, so a list.
    seen: Vec<(&'a Name, &'a Name)>,
    /// Whether no other vantage exists.
    alone: bool,
}

impl<'a> Tally<'a> {
    /// Counts what has been said. Where no owner can look, the question stays and none of them
    /// has a vote.
    pub(crate) fn of(state: &'a State, open: &OpenVerdict, order: &Order) -> Self {
        let speaker = speaker(open);
        let owner = match speaker.map(|word| (word.says, word.healthy)) {
            Some((Says::Ok, _)) => Owner::Recovered,
            Some((Says::Fails(_), true)) => Owner::Fails,
            Some(_) | None => Owner::FailsUnheard,
        };
        let mut tally = Self {
            owner,
            owner_at: speaker.map_or(open.since, |word| word.at),
            down: Vec::new(),
            up: Vec::new(),
            seen: Vec::new(),
            alone: others_of(state, open) == 0,
        };
        let speaker = speaker.map(|word| word.agent);
        if let (Some(speaker), Owner::Fails | Owner::Recovered) = (speaker, owner) {
            tally.is_new(state, speaker);
        }
        tally.count_words(state, open, speaker, order.asked_at);
        tally.count_votes(state, order);
        tally
    }

    /// The owners of other slots are vantages too. Each speaks up when it changes its mind, so a
    /// failure that it reported lasts. That it was ok before others failed says nothing: it may
    /// not have looked since.
    fn count_words(
        &mut self,
        state: &'a State,
        open: &OpenVerdict,
        speaker: Option<AgentId>,
        asked_at: Timestamp,
    ) {
        let recovered = self.owner == Owner::Recovered;
        for word in open
            .words
            .values()
            .filter(|word| Some(word.agent) != speaker)
        {
            match word.says {
                Says::Fails(_) if word.healthy => self.count(state, word.agent, word.at, false),
                Says::Ok if recovered || word.at >= asked_at => {
                    self.count(state, word.agent, word.at, true);
                }
                Says::Fails(_) | Says::Ok | Says::Blocked(_) => {}
            }
        }
    }

    fn count_votes(&mut self, state: &'a State, order: &Order) {
        for vote in &order.votes {
            match vote.says {
                Ballot::Down => self.count(state, vote.agent, vote.at, false),
                Ballot::Up => self.count(state, vote.agent, vote.at, true),
                Ballot::Void => {}
            }
        }
    }

    /// What the table is asked.
    pub(crate) fn inputs(&self, order: &Order, now: Timestamp) -> Inputs {
        let heard = self.down.len() + self.up.len();
        let enough = heard >= usize::from(order.wanted) || now >= order.deadline;
        Inputs {
            owner: self.owner,
            down: Count::of(self.down.len()),
            up: Count::of(self.up.len()),
            ended: now >= order.asked_at && enough,
            alone: self.alone,
        }
    }

    /// The first probe of another vantage that failed.
    pub(crate) fn first_down(&self) -> Option<Timestamp> {
        self.down.iter().copied().min()
    }

    /// The first probe of another vantage that was ok.
    pub(crate) fn first_up(&self) -> Option<Timestamp> {
        self.up.iter().copied().min()
    }

    /// What a vote of `agent` would count as.
    pub(crate) fn weigh(&self, state: &State, agent: AgentId) -> Counted {
        match state.agents.get(&agent) {
            Some(agent) if !self.seen.contains(&agent.vantage()) => Counted::Yes,
            _ => Counted::SameVantage,
        }
    }

    fn count(&mut self, state: &'a State, agent: AgentId, at: Timestamp, up: bool) {
        if self.is_new(state, agent) {
            if up {
                self.up.push(at)
            } else {
                self.down.push(at)
            }
        }
    }

    fn is_new(&mut self, state: &'a State, agent: AgentId) -> bool {
        let Some(agent) = state.agents.get(&agent) else {
            return false;
        };
        let new = !self.seen.contains(&agent.vantage());
        if new {
            self.seen.push(agent.vantage());
        }
        new
    }
}

/// The owner whose word is the question: a failing one if any fails, a healthy one among those;
/// else the last that recovered.
fn speaker(open: &OpenVerdict) -> Option<&Word> {
    let fails = |word: &&Word| matches!(word.says, Says::Fails(_));
    let words = || open.words.values();
    words()
        .find(|word| fails(word) && word.healthy)
        .or_else(|| words().find(fails))
        .or_else(|| {
            words()
                .filter(|word| word.says == Says::Ok)
                .max_by_key(|word| word.at)
        })
}

/// How many vantages exist besides the one that `agent` looks from.
fn others(state: &State, agent: AgentId) -> usize {
    let own = state.agents.get(&agent).is_some_and(|agent| {
        let (region, network) = agent.vantage();
        state.index.vantage_exists(region, network)
    });
    state.index.vantages() - usize::from(own)
}

/// How many vantages besides the owner's an order about `open` can want.
pub(crate) fn others_of(state: &State, open: &OpenVerdict) -> usize {
    speaker(open).map_or_else(|| state.index.vantages(), |word| others(state, word.agent))
}
