//! The state as bytes: canonical, versioned, checked.
//!
//! A header, then one archive per part, then the hash of everything before it. A part holds a
//! bounded number of entries of one map, so that no archive comes near the format's limit of
//! 2 GiB and writing one needs little memory beside the result. Maps are ordered and archives
//! have no undefined bytes, so equal states give equal bytes and the hash stands for the state.

use std::collections::BTreeMap;

use picket_wire::fact::{Fact, NotificationGroup};
use picket_wire::id::{
    AgentId, CheckId, FactSeq, GroupId, MaintenanceId, NotificationGroupId, OrderId, ShardId,
    ShardSlot, TokenId, WebhookId,
};
use picket_wire::time::Timestamp;
use rkyv::rancor;
use rkyv::with::AsVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::state::{
    Agent, ApiToken, Assignment, Consumer, Index, JoinToken, LastIds, Maintenance, OpenVerdict,
    Order, PlacementGroup, Pointer, Settings, Settled, Skipped, State, Webhook,
};

/// Begins every snapshot.
const MAGIC: [u8; 8] = *b"picket.s";
/// The version this build writes and the only one it reads.
const VERSION: u32 = 1;
const HEADER_BYTES: usize = MAGIC.len() + 4;
const HASH_BYTES: usize = 32;
/// Entries in one part: some megabytes of facts.
const PART_ENTRIES: usize = 4_096;

/// Bytes that are not a snapshot this build reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Too short, or another kind of file.
    #[error("not a snapshot")]
    NotASnapshot,
    /// Written by another build.
    #[error("snapshot version {0}, expected {VERSION}")]
    Version(u32),
    /// The hash at the end does not match.
    #[error("the snapshot is damaged")]
    Damaged,
    /// A part is cut short or is not a valid archive.
    #[error("part {0} of the snapshot is malformed")]
    Part(usize),
}

/// What has few values.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
struct Head {
    last_at: Timestamp,
    settings: Option<Settings>,
    last_ids: LastIds,
    #[rkyv(with = AsVec)]
    groups: BTreeMap<GroupId, PlacementGroup>,
    #[rkyv(with = AsVec)]
    api_tokens: BTreeMap<TokenId, ApiToken>,
    #[rkyv(with = AsVec)]
    webhooks: BTreeMap<WebhookId, Webhook>,
    #[rkyv(with = AsVec)]
    cursors: BTreeMap<Consumer, FactSeq>,
    skipped: Skipped,
    settled_began_at: Timestamp,
    settled_floor: Timestamp,
}

/// Some entries of one map.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
enum Part {
    Head(Box<Head>),
    Agents(Vec<(AgentId, Agent)>),
    JoinTokens(Vec<(TokenId, JoinToken)>),
    Maintenance(Vec<(MaintenanceId, Maintenance)>),
    Catalogue(Vec<((GroupId, ShardId), Pointer)>),
    Assignments(Vec<(ShardSlot, Assignment)>),
    Open(Vec<(CheckId, OpenVerdict)>),
    Orders(Vec<(OrderId, Order)>),
    SettledNow(Vec<(CheckId, Timestamp)>),
    SettledBefore(Vec<(CheckId, Timestamp)>),
    NotificationGroups(Vec<(NotificationGroupId, NotificationGroup)>),
    Facts(Vec<(FactSeq, Fact)>),
}

/// The state as bytes.
pub(crate) fn encode(state: &State) -> Vec<u8> {
    let mut bytes = header().to_vec();
    each_part(state, &mut |part| {
        let length = u32::try_from(part.len()).expect("a part is far below 4 GiB");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(part);
    });
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

/// The hash that ends the snapshot of `state`, without building the snapshot.
pub(crate) fn hash(state: &State) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header());
    each_part(state, &mut |part| {
        let length = u32::try_from(part.len()).expect("a part is far below 4 GiB");
        hasher.update(&length.to_le_bytes());
        hasher.update(part);
    });
    *hasher.finalize().as_bytes()
}

/// The state in these bytes.
pub(crate) fn decode(bytes: &[u8]) -> Result<State, RestoreError> {
    let mut rest = check(bytes)?;
    let mut state = State::default();
    let mut number = 0;
    while !rest.is_empty() {
        let malformed = RestoreError::Part(number);
        let (length, after) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| malformed.clone())?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (part, after) = after
            .split_at_checked(length)
            .ok_or_else(|| malformed.clone())?;
        let part = rkyv::from_bytes::<Part, rancor::Failure>(part).map_err(|_| malformed)?;
        part.add_to(&mut state);
        rest = after;
        number += 1;
    }
    state.index = Index::of(&state);
    Ok(state)
}

/// The parts of a snapshot whose header and hash are right.
fn check(bytes: &[u8]) -> Result<&[u8], RestoreError> {
    let body = bytes
        .strip_prefix(&MAGIC)
        .ok_or(RestoreError::NotASnapshot)?;
    let (version, _) = body
        .split_first_chunk::<4>()
        .ok_or(RestoreError::NotASnapshot)?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(RestoreError::Version(version));
    }
    let (front, hash) = bytes
        .split_last_chunk::<HASH_BYTES>()
        .ok_or(RestoreError::NotASnapshot)?;
    if blake3::hash(front) != *hash {
        return Err(RestoreError::Damaged);
    }
    front.get(HEADER_BYTES..).ok_or(RestoreError::NotASnapshot)
}

fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..MAGIC.len()].copy_from_slice(&MAGIC);
    header[MAGIC.len()..].copy_from_slice(&VERSION.to_le_bytes());
    header
}

/// Gives the archive of each part to `take`, in their fixed order.
fn each_part(state: &State, take: &mut dyn FnMut(&[u8])) {
    let mut give = |part: Part| {
        let archive = rkyv::to_bytes::<rancor::Panic>(&part);
        let archive = archive.expect("writing to memory does not fail, and a part is small");
        take(&archive);
    };
    give(Part::Head(Box::new(Head {
        last_at: state.last_at,
        settings: state.settings.clone(),
        last_ids: state.last_ids.clone(),
        groups: state.groups.clone(),
        api_tokens: state.api_tokens.clone(),
        webhooks: state.webhooks.clone(),
        cursors: state.cursors.clone(),
        skipped: state.skipped,
        settled_began_at: state.settled.began_at,
        settled_floor: state.settled.floor,
    })));
    chunks(&state.agents, Part::Agents, &mut give);
    chunks(&state.join_tokens, Part::JoinTokens, &mut give);
    chunks(&state.maintenance, Part::Maintenance, &mut give);
    chunks(&state.catalogue, Part::Catalogue, &mut give);
    chunks(&state.assignments, Part::Assignments, &mut give);
    chunks(&state.open, Part::Open, &mut give);
    chunks(&state.orders, Part::Orders, &mut give);
    chunks(&state.settled.now, Part::SettledNow, &mut give);
    chunks(&state.settled.before, Part::SettledBefore, &mut give);
    chunks(
        &state.notification_groups,
        Part::NotificationGroups,
        &mut give,
    );
    chunks(&state.facts, Part::Facts, &mut give);
}

fn chunks<K: Clone, V: Clone>(
    map: &BTreeMap<K, V>,
    part: fn(Vec<(K, V)>) -> Part,
    give: &mut dyn FnMut(Part),
) {
    let mut entries = map.iter();
    loop {
        let chunk: Vec<_> = entries
            .by_ref()
            .take(PART_ENTRIES)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        if chunk.is_empty() {
            return;
        }
        give(part(chunk));
    }
}

impl Part {
    fn add_to(self, state: &mut State) {
        match self {
            Self::Head(head) => head.add_to(state),
            Self::Agents(entries) => state.agents.extend(entries),
            Self::JoinTokens(entries) => state.join_tokens.extend(entries),
            Self::Maintenance(entries) => state.maintenance.extend(entries),
            Self::Catalogue(entries) => state.catalogue.extend(entries),
            Self::Assignments(entries) => state.assignments.extend(entries),
            Self::Open(entries) => state.open.extend(entries),
            Self::Orders(entries) => state.orders.extend(entries),
            Self::SettledNow(entries) => state.settled.now.extend(entries),
            Self::SettledBefore(entries) => state.settled.before.extend(entries),
            Self::NotificationGroups(entries) => state.notification_groups.extend(entries),
            Self::Facts(entries) => state.facts.extend(entries),
        }
    }
}

impl Head {
    fn add_to(self, state: &mut State) {
        state.last_at = self.last_at;
        state.settings = self.settings;
        state.last_ids = self.last_ids;
        state.groups = self.groups;
        state.api_tokens = self.api_tokens;
        state.webhooks = self.webhooks;
        state.cursors = self.cursors;
        state.skipped = self.skipped;
        state.settled = Settled {
            began_at: self.settled_began_at,
            floor: self.settled_floor,
            ..Settled::default()
        };
    }
}
