//! The commands of a script, run against a machine whose invariants are checked after each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_scheduler_core::command::init_cluster::DEFAULT_GROUP;
use picket_scheduler_core::command::{
    AdmitAgent, AdvanceCursor, AssignShards, Command, DefineGroup, DrainAgent, ExpireOrders,
    Expired, IngestEvidence, InitCluster, IssueJoinToken, Move, PointCatalogue, Pointed,
    PutMaintenance, RevokeAgent,
};
use picket_scheduler_core::invariant;
use picket_scheduler_core::invariant::history::History;
use picket_scheduler_core::machine::{Entry, Machine};
use picket_scheduler_core::maintenance::{Maintenance, Selector};
use picket_scheduler_core::state::{Consumer, PlacementGroup, Settings};
use picket_wire::dispersal::shard_of;
use picket_wire::evidence::{CheckRef, Evidence, EvidenceBatch, Role};
use picket_wire::fact::{AssignCause, Fact};
use picket_wire::id::{
    AgentId, BlobHash, CatalogueVersion, CheckId, EndpointId, Epoch, FactSeq, Incarnation, OrderId,
    Seq, ShardSlot, SiteId, Slot,
};
use picket_wire::name::Name;
use picket_wire::outcome::{Phases, Probe};
use picket_wire::reason::Reason;
use picket_wire::time::{Interval, Span, Timestamp};

use crate::render;

/// Shards of the scripts' cluster.
const SHARDS: u32 = 8;

type Said = Result<Vec<String>, String>;

pub(crate) struct Interpreter {
    machine: Machine,
    history: History,
    entries: Vec<Entry>,
    now: Timestamp,
    /// The last batch, to send it again.
    last_batch: Option<EvidenceBatch>,
    /// What `hash` compares with.
    last_hash: [u8; 32],
    /// Orders by check, also those that are over, to vote on them late.
    orders: BTreeMap<CheckId, OrderId>,
}

/// The words of a command: positional ones, and options as `key=value`.
struct Words<'a> {
    positional: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Self {
        let (options, positional): (Vec<_>, Vec<_>) =
            text.split_whitespace().partition(|word| word.contains('='));
        let options = options
            .into_iter()
            .filter_map(|word| word.split_once('='))
            .collect();
        Self {
            positional,
            options,
        }
    }

    fn text(&self, n: usize) -> Result<&'a str, String> {
        self.positional
            .get(n)
            .copied()
            .ok_or_else(|| format!("word {n} is missing"))
    }

    fn number<T: std::str::FromStr>(&self, n: usize) -> Result<T, String> {
        let text = self.text(n)?;
        text.parse()
            .map_err(|_| format!("`{text}` is not a number"))
    }

    fn option<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, String> {
        let parse = |text: &&str| text.parse().map_err(|_| format!("{key}: `{text}`"));
        self.options.get(key).map(parse).transpose()
    }

    fn has(&self, word: &str) -> bool {
        self.positional.contains(&word)
    }
}

impl Interpreter {
    pub(crate) fn new() -> Self {
        let machine = Machine::new();
        let last_hash = machine.hash();
        Self {
            machine,
            history: History::new(),
            entries: Vec::new(),
            now: Timestamp(0),
            last_batch: None,
            last_hash,
            orders: BTreeMap::new(),
        }
    }

    pub(crate) fn command(&mut self, line: &str) -> Said {
        let words = Words::of(line);
        match words.text(0)? {
            "at" => {
                self.now = Timestamp(words.number(1)?);
                Ok(Vec::new())
            }
            "mesh" => self.mesh(&words),
            "token" => self.token(&words),
            "enrol" => self.enrol(&words),
            "replicas" => self.replicas(&words),
            "own" => self.own(&words),
            "owner" => self.owner(&words),
            "vote" => self.vote(&words),
            "again" => {
                let batch = self.last_batch.clone().ok_or("nothing was sent yet")?;
                Ok(self.apply(Command::IngestEvidence(IngestEvidence {
                    batches: vec![batch],
                })))
            }
            "storm" => self.storm(&words),
            "expire" => self.expire(&words),
            "drain" => {
                let (agent, drain) = (AgentId(words.number(1)?), !words.has("resume"));
                Ok(self.apply(Command::DrainAgent(DrainAgent { agent, drain })))
            }
            "revoke" => {
                let agent = AgentId(words.number(1)?);
                Ok(self.apply(Command::RevokeAgent(RevokeAgent { agent })))
            }
            "maintenance" => self.maintenance(&words),
            "gone" => self.gone(&words),
            "cursor" => self.cursor(&words),
            "state" => Ok(vec![render::open(
                self.machine.state(),
                CheckId(words.number(1)?),
            )]),
            "facts" => {
                let facts = &self.machine.state().facts;
                let ends = facts.keys().next().zip(facts.keys().next_back());
                Ok(vec![ends.map_or_else(
                    || "no facts".to_owned(),
                    |(a, b)| format!("facts {a} to {b}"),
                )])
            }
            "skipped" => Ok(vec![format!("{:?}", self.machine.state().skipped)]),
            "hash" => {
                let hash = self.machine.hash();
                let same = std::mem::replace(&mut self.last_hash, hash) == hash;
                Ok(vec![if same { "unchanged" } else { "changed" }.to_owned()])
            }
            other => Err(format!("`{other}` is no command")),
        }
    }

    /// What must hold at the end of every script: a replay and a restored snapshot agree with the
    /// machine that ran it.
    pub(crate) fn finish(&self) {
        let mut replayed = Machine::new();
        for entry in &self.entries {
            replayed.apply(entry, &mut Vec::new());
        }
        assert_eq!(replayed.hash(), self.machine.hash());
        let snapshot = self.machine.snapshot();
        let restored = Machine::restore(&snapshot).unwrap();
        assert_eq!(restored.state(), self.machine.state());
        assert_eq!(restored.snapshot(), snapshot);
        assert_eq!(snapshot[snapshot.len() - 32..], self.machine.hash());
    }

    fn apply(&mut self, command: Command) -> Vec<String> {
        let entry = Entry {
            at: self.now,
            command,
        };
        let mut facts: Vec<Fact> = Vec::new();
        let reply = self.machine.apply(&entry, &mut facts);
        self.entries.push(entry);
        invariant::check(self.machine.state()).unwrap();
        facts
            .iter()
            .for_each(|fact| self.history.observe(fact).unwrap());
        for (check, open) in &self.machine.state().open {
            if let Some(order) = open.stage.order() {
                self.orders.insert(*check, order);
            }
        }
        render::reply(&reply)
            .into_iter()
            .chain(facts.iter().map(render::fact))
            .collect()
    }

    /// `mesh eu/as1 us/as2`: a cluster with agents 1, 2, … at these vantages.
    fn mesh(&mut self, words: &Words<'_>) -> Said {
        let settings = Settings {
            shards: SHARDS,
            ..Settings::standard(name("script"))
        };
        self.apply(Command::InitCluster(InitCluster { settings }));
        for (number, vantage) in (1_u8..).zip(words.positional.iter().skip(1)) {
            let hash = [number; 32];
            let (expires_at, region) = (Timestamp::MAX, None);
            self.apply(Command::IssueJoinToken(IssueJoinToken {
                hash,
                expires_at,
                region,
            }));
            let (region, network) = vantage.split_once('/').ok_or("region/network")?;
            let (region, network) = (name(region), name(network));
            let (zone, name) = (name("a"), name(&format!("agent-{number}")));
            let admit = AdmitAgent {
                token: hash,
                name,
                region,
                zone,
                network,
                fingerprint: hash,
            };
            self.apply(Command::AdmitAgent(admit));
        }
        Ok(Vec::new())
    }

    /// `token 7 expires=5000`: a join token with secret 7.
    fn token(&mut self, words: &Words<'_>) -> Said {
        let hash = [words.number(1)?; 32];
        let expires_at = words.option("expires")?.map_or(Timestamp::MAX, Timestamp);
        let region = words.options.get("region").map(|text| name(text));
        Ok(self.apply(Command::IssueJoinToken(IssueJoinToken {
            hash,
            expires_at,
            region,
        })))
    }

    /// `enrol alpha token=7 key=1 region=eu`.
    fn enrol(&mut self, words: &Words<'_>) -> Said {
        let token = [words.option("token")?.ok_or("token=")?; 32];
        let fingerprint = [words.option("key")?.ok_or("key=")?; 32];
        let region = name(words.options.get("region").unwrap_or(&"eu"));
        let (name, zone, network) = (name(words.text(1)?), name("a"), name("as1"));
        let admit = AdmitAgent {
            token,
            name,
            region,
            zone,
            network,
            fingerprint,
        };
        Ok(self.apply(Command::AdmitAgent(admit)))
    }

    fn replicas(&mut self, words: &Words<'_>) -> Said {
        let (regions, replicas) = (Vec::new(), words.number(1)?);
        let definition = PlacementGroup {
            name: name("default"),
            regions,
            replicas,
        };
        Ok(self.apply(Command::DefineGroup(DefineGroup {
            group: Some(DEFAULT_GROUP),
            definition,
        })))
    }

    /// `own 5 1 slot=0`: the shard of check 5 goes to agent 1.
    fn own(&mut self, words: &Words<'_>) -> Said {
        let slot = slot_of(check(words.number(1)?), words.option("slot")?.unwrap_or(0));
        let seen = self
            .machine
            .state()
            .assignments
            .get(&slot)
            .map_or(Epoch(0), |now| now.epoch);
        let agent = Some(AgentId(words.number(2)?));
        let cause = if seen == Epoch(0) {
            AssignCause::Initial
        } else {
            AssignCause::LeaseExpired
        };
        let planned = Move {
            slot,
            seen,
            agent,
            standby: None,
            cause,
        };
        Ok(self.apply(Command::AssignShards(AssignShards {
            moves: vec![planned],
        })))
    }

    /// `owner 1 5 connect_refused`: agent 1, who owns check 5, says what it found.
    fn owner(&mut self, words: &Words<'_>) -> Said {
        let check = check(words.number(2)?);
        let slot = slot_of(check, words.option("slot")?.unwrap_or(0));
        let current = self
            .machine
            .state()
            .assignments
            .get(&slot)
            .map_or(Epoch(0), |now| now.epoch);
        let epoch = words.option("epoch")?.map_or(current, Epoch);
        let record = self.evidence(words, check, Role::Owner { slot, epoch })?;
        self.send(words, vec![record])
    }

    /// `vote 2 5 ok`: agent 2 votes on the order about check 5.
    fn vote(&mut self, words: &Words<'_>) -> Said {
        let check = check(words.number(2)?);
        let known = self.orders.get(&check.check).copied();
        let order = words
            .option("order")?
            .map(OrderId)
            .or(known)
            .ok_or("no order")?;
        let record = self.evidence(words, check, Role::Voter { order })?;
        self.send(words, vec![record])
    }

    fn send(&mut self, words: &Words<'_>, records: Vec<Evidence>) -> Said {
        let agent = AgentId(words.number(1)?);
        let known = self.machine.state().agents.get(&agent);
        let seq = known.map_or(Seq(0), |agent| agent.watermark).next();
        let incarnation = known.map_or(Incarnation(1), |agent| agent.incarnation);
        let batch = EvidenceBatch {
            agent,
            incarnation: words
                .option("incarnation")?
                .map_or(incarnation, Incarnation),
            seq: words.option("seq")?.map_or(seq, Seq),
            records,
        };
        self.last_batch = Some(batch.clone());
        Ok(self.apply(Command::IngestEvidence(IngestEvidence {
            batches: vec![batch],
        })))
    }

    fn evidence(&self, words: &Words<'_>, check: CheckRef, role: Role) -> Result<Evidence, String> {
        let found = words.text(3)?;
        let reason = match found {
            "ok" => None,
            name => Some(Reason::from_name(name).ok_or_else(|| format!("no reason `{name}`"))?),
        };
        let at = words.option("at")?.map_or(self.now, Timestamp);
        let remote = match words.options.get("ip") {
            Some(&"none") => None,
            Some(text) => Some(text.parse().map_err(|_| format!("no address `{text}`"))?),
            None => Some(IpAddr::from([192, 0, 2, 1])),
        };
        Ok(evidence(
            check,
            at,
            reason,
            remote,
            role,
            !words.has("sick"),
        ))
    }

    /// `storm 100 connect_refused`: every check from 1 to 100 fails for its owner, agent 1, and
    /// for the voters, agents 2 and 3. Says only how many facts of each kind followed.
    fn storm(&mut self, words: &Words<'_>) -> Said {
        let last: u64 = words.number(1)?;
        let before = self.machine.state().last_ids.fact;
        for n in 1..=last {
            self.own(&Words::of(&format!("own {n} 1")))?;
        }
        let found = words.text(2)?;
        for agent in 1..=3 {
            let mut records = Vec::new();
            for n in 1..=last {
                let check = check(n);
                let slot = slot_of(check, 0);
                let epoch = self
                    .machine
                    .state()
                    .assignments
                    .get(&slot)
                    .map_or(Epoch(0), |a| a.epoch);
                let order = self.orders.get(&check.check).copied().unwrap_or(OrderId(0));
                let role = if agent == 1 {
                    Role::Owner { slot, epoch }
                } else {
                    Role::Voter { order }
                };
                let line = format!("vote {agent} {n} {found}");
                records.push(self.evidence(&Words::of(&line), check, role)?);
            }
            self.send(&Words::of(&format!("send {agent}")), records)?;
        }
        let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
        for fact in self.machine.state().facts_after(before) {
            let text = render::fact(fact);
            let kind = text.split(' ').next().unwrap_or_default().to_owned();
            *kinds.entry(kind).or_default() += 1;
        }
        let groups = self.machine.state().notification_groups.values();
        let groups = groups.map(|g| format!("open {} of {} under `{}`", g.open, g.total, g.cause));
        Ok(kinds
            .iter()
            .map(|(kind, n)| format!("{n} {kind}"))
            .chain(groups)
            .collect())
    }

    /// `expire 5 vantages=1`: nobody else will vote on the order about check 5.
    fn expire(&mut self, words: &Words<'_>) -> Said {
        let check = CheckId(words.number(1)?);
        let order = *self.orders.get(&check).ok_or("no order")?;
        let vantages = words.option("vantages")?.unwrap_or(0);
        let orders = vec![Expired { order, vantages }];
        Ok(self.apply(Command::ExpireOrders(ExpireOrders { orders })))
    }

    fn maintenance(&mut self, words: &Words<'_>) -> Said {
        let interval = Interval::new(Timestamp(words.number(1)?), Timestamp(words.number(2)?));
        let window = Maintenance {
            interval,
            selector: Selector::All,
            note: String::new(),
        };
        Ok(self.apply(Command::PutMaintenance(PutMaintenance { id: None, window })))
    }

    /// `gone 5 version=2`: the shard of check 5 gets a catalogue without it.
    fn gone(&mut self, words: &Words<'_>) -> Said {
        let check = check(words.number(1)?);
        let pointed = Pointed {
            group: DEFAULT_GROUP,
            shard: shard_of(check.endpoint, SHARDS),
            version: CatalogueVersion(words.option("version")?.unwrap_or(1)),
            blob: BlobHash([0; 32]),
            checks: 1,
            gone: vec![check.check],
        };
        Ok(self.apply(Command::PointCatalogue(PointCatalogue {
            pointers: vec![pointed],
        })))
    }

    fn cursor(&mut self, words: &Words<'_>) -> Said {
        let consumer = match words.text(1)? {
            "projector" => Consumer::Projector,
            "delivery" => Consumer::Delivery,
            other => return Err(format!("no consumer `{other}`")),
        };
        let to = FactSeq(words.number(2)?);
        Ok(self.apply(Command::AdvanceCursor(AdvanceCursor { consumer, to })))
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

const fn check(n: u64) -> CheckRef {
    CheckRef {
        check: CheckId(n),
        endpoint: EndpointId(n),
        site: SiteId(n),
    }
}

const fn slot_of(check: CheckRef, slot: u8) -> ShardSlot {
    let shard = shard_of(check.endpoint, SHARDS);
    ShardSlot {
        group: DEFAULT_GROUP,
        shard,
        slot: Slot(slot),
    }
}

fn evidence(
    check: CheckRef,
    at: Timestamp,
    reason: Option<Reason>,
    remote: Option<IpAddr>,
    role: Role,
    vantage_healthy: bool,
) -> Evidence {
    let probe = Probe {
        at,
        lateness: Span::ZERO,
        reason,
        phases: Phases::default(),
        http_status: 0,
        remote,
        certificate_expires: None,
        detail: String::new(),
    };
    Evidence {
        check,
        probe,
        retry: None,
        vantage_healthy,
        role,
        trace: None,
    }
}
