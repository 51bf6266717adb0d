//! The settings of one scheduler member.
//!
//! Only what differs between members, or must be known before the first entry, is a setting. What
//! all members must agree on is state of the cluster; `[cluster]` gives its first values and counts
//! only for the member that forms the cluster.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use picket_rt::settings::{self, SettingsError};
use picket_rt::telemetry::TelemetrySettings;
use picket_wire::id::MemberId;
use picket_wire::limits::SHARDS_DEFAULT;
use picket_wire::name::Name;
use picket_wire::time::Span;
use serde::Deserialize;

/// Most members of a cluster: a proposal needs more than half of them.
const MEMBERS_MAX: usize = 7;

/// Why the settings were refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not read.
    #[error(transparent)]
    File(#[from] SettingsError),
    /// Values that contradict one another.
    #[error("`{key}`: {problem}")]
    Value {
        /// Which setting.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// All settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This member's id; never reused for another machine or an emptied directory.
    pub member: MemberId,
    /// Where the Raft log, snapshots and blobs are kept.
    pub data_dir: PathBuf,
    /// Talking to agents and other members.
    pub mesh: MeshSettings,
    /// First values of the cluster's state.
    pub cluster: Option<ClusterSettings>,
    /// Consensus.
    #[serde(default)]
    pub raft: RaftSettings,
    /// Where Postgres is.
    pub postgres: PostgresSettings,
    /// The HTTP API.
    pub api: ApiSettings,
    /// The blob cache.
    #[serde(default)]
    pub blobs: BlobCacheSettings,
    /// Logs, spans, metrics.
    #[serde(default)]
    pub telemetry: TelemetrySettings,
}

/// Talking to agents and other members.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshSettings {
    /// UDP address to listen on.
    pub listen: SocketAddr,
    /// All members, this one included, by the address at which agents and members reach them.
    pub members: Vec<MemberAddress>,
    /// Directory with this member's certificate and key, made by `ca issue-member`.
    pub identity: PathBuf,
    /// Directory with the certificate authority, made by `ca init`: every member that may lead
    /// signs agents.
    pub authority: PathBuf,
    /// Whether this member forms the cluster when it has never heard of one. Exactly one member
    /// of a new cluster says so. Default no.
    #[serde(default)]
    pub bootstrap: bool,
}

/// Where a member is reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberAddress {
    /// Which member.
    pub id: MemberId,
    /// Host (or IP address) and port.
    pub address: String,
}

/// First values of the cluster's state.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSettings {
    /// The cluster's name, for people.
    pub name: Name,
    /// Shards of each placement group, a power of two. Never changes. Default 4,096.
    #[serde(default = "shards_default")]
    pub shards: u32,
    /// Length of a rollup window in seconds. Default 300.
    #[serde(default = "window_default")]
    pub window_secs: u64,
    /// How long an agent is believed after its last renewal, in seconds. Default 9: three
    /// renewals, and a dead agent's checks run elsewhere within twelve seconds.
    #[serde(default = "lease_default")]
    pub lease_secs: u64,
    /// How long votes are waited for, in seconds. Default 5.
    #[serde(default = "confirm_default")]
    pub confirm_secs: u64,
    /// How many vantages besides the owner confirm. Default 2.
    #[serde(default = "voters_default")]
    pub voters: u8,
    /// How long delivery waits for more incidents of the same cause, in seconds. Default 5.
    #[serde(default = "group_wait_default")]
    pub group_wait_secs: u64,
    /// File with the first admin token's SHA-256, 64 hex digits, made by `init`.
    pub admin_token_hash: PathBuf,
}

/// Consensus.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftSettings {
    /// Heartbeat in milliseconds, and how long one append may take. Default 250: six round trips
    /// between distant members.
    pub heartbeat_ms: u64,
    /// Least random wait before an election in milliseconds. Default 500: two heartbeats.
    pub election_min_ms: u64,
    /// Most. It is also how long a leader that fell silent is still believed, before that wait.
    /// Default 1,000: an election begins 1.5 to 2 s after the leader's last heartbeat.
    pub election_max_ms: u64,
}

impl Default for RaftSettings {
    fn default() -> Self {
        Self {
            heartbeat_ms: 250,
            election_min_ms: 500,
            election_max_ms: 1_000,
        }
    }
}

/// Where Postgres is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSettings {
    /// Connection string, `host=/run/postgresql user=picket dbname=picket` or `postgresql://…`.
    pub url: String,
    /// Most connections of this member. Default 8.
    #[serde(default = "pool_default")]
    pub pool: usize,
}

/// The HTTP API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiSettings {
    /// TCP address to listen on.
    pub listen: SocketAddr,
    /// Certificate chain in PEM. Without it the API speaks plain HTTP and refuses to listen on
    /// anything but loopback.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The certificate's key in PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// The blob cache.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlobCacheSettings {
    /// Mebibytes in memory. Default 64: the blobs of a million endpoints.
    pub memory_mib: usize,
    /// Mebibytes on disk. Default 1,024: a full cell of 50 M endpoints fits twice.
    pub disk_mib: usize,
}

impl Default for BlobCacheSettings {
    fn default() -> Self {
        Self {
            memory_mib: 64,
            disk_mib: 1_024,
        }
    }
}

impl Config {
    /// Reads and checks the settings at `path`.
    ///
    /// # Errors
    /// When the file does not read, or values contradict one another.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = settings::load(path)?;
        config.validate()?;
        Ok(config)
    }

    /// Checks what the parser cannot.
    ///
    /// # Errors
    /// Names the first setting that contradicts another.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |key, problem: String| Err(ConfigError::Value { key, problem });
        let members = &self.mesh.members;
        let ids: BTreeSet<_> = members.iter().map(|member| member.id).collect();
        if ids.len() != members.len() {
            return refuse("mesh.members", "an id appears twice".to_owned());
        }
        if members.len() > MEMBERS_MAX || members.len().is_multiple_of(2) {
            let got = members.len();
            return refuse(
                "mesh.members",
                format!("expected 1, 3, 5 or {MEMBERS_MAX} members, got {got}"),
            );
        }
        if !ids.contains(&self.member) {
            return refuse(
                "mesh.members",
                format!("this member, {}, is not among them", self.member),
            );
        }
        if self.mesh.bootstrap && self.cluster.is_none() {
            return refuse(
                "cluster",
                "the member that forms the cluster needs its settings".to_owned(),
            );
        }
        let raft = &self.raft;
        if raft.heartbeat_ms == 0 || raft.election_min_ms < 2 * raft.heartbeat_ms {
            return refuse(
                "raft.election_min_ms",
                "expected at least two heartbeats".to_owned(),
            );
        }
        if raft.election_max_ms <= raft.election_min_ms {
            return refuse(
                "raft.election_max_ms",
                "expected more than `raft.election_min_ms`".to_owned(),
            );
        }
        if self.api.certificate.is_some() != self.api.key.is_some() {
            return refuse(
                "api.key",
                "expected both `api.certificate` and `api.key`, or neither".to_owned(),
            );
        }
        Ok(())
    }

    /// The members as pairs.
    #[must_use]
    pub fn members(&self) -> Vec<(MemberId, String)> {
        self.mesh
            .members
            .iter()
            .map(|member| (member.id, member.address.clone()))
            .collect()
    }
}

impl ClusterSettings {
    /// The settings as the machine takes them.
    #[must_use]
    pub fn to_state(&self) -> picket_scheduler_core::state::Settings {
        let mut settings = picket_scheduler_core::state::Settings::standard(self.name.clone());
        settings.shards = self.shards;
        settings.window = Span::from_secs(self.window_secs);
        settings.lease_ttl = Span::from_secs(self.lease_secs);
        settings.confirm.deadline = Span::from_secs(self.confirm_secs);
        settings.confirm.voters = self.voters;
        settings.group_wait = Span::from_secs(self.group_wait_secs);
        settings
    }
}

const fn shards_default() -> u32 {
    SHARDS_DEFAULT
}

const fn window_default() -> u64 {
    300
}

const fn lease_default() -> u64 {
    9
}

const fn confirm_default() -> u64 {
    5
}

const fn voters_default() -> u8 {
    2
}

const fn group_wait_default() -> u64 {
    5
}

const fn pool_default() -> usize {
    picket_storage::pg::POOL_DEFAULT
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"
        member = "mem_1"
        data_dir = "/var/lib/picket"
        [mesh]
        listen = "0.0.0.0:7400"
        identity = "/etc/picket/identity"
        authority = "/etc/picket/ca"
        bootstrap = true
        [[mesh.members]]
        id = "mem_1"
        address = "s1.example:7400"
        [cluster]
        name = "example"
        admin_token_hash = "/etc/picket/admin.sha256"
        [postgres]
        url = "host=/run/postgresql dbname=picket"
        [api]
        listen = "127.0.0.1:7480"
    "#;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let config: Config = settings::parse(Path::new("test.toml"), text)?;
        config.validate().map(|()| config)
    }

    #[test]
    fn the_least_that_is_needed_is_enough() {
        let config = parse(EXAMPLE).expect("the example is complete");
        assert_eq!(config.raft.heartbeat_ms, 250);
        assert_eq!(config.cluster.expect("given").to_state().validate(), Ok(()));
    }

    #[test]
    fn contradictions_are_named() {
        let cases = [
            ("member = \"mem_1\"", "member = \"mem_9\"", "mesh.members"),
            (
                "[cluster]\n        name = \"example\"\n        admin_token_hash = \"/etc/picket/admin.sha256\"",
                "",
                "cluster",
            ),
            (
                "[postgres]",
                "[raft]\nelection_max_ms = 400\n[postgres]",
                "raft.election_max_ms",
            ),
            (
                "[postgres]",
                "[raft]\nheartbeat_ms = 900\n[postgres]",
                "raft.election_min_ms",
            ),
        ];
        for (from, to, key) in cases {
            assert!(EXAMPLE.contains(from), "{from}");
            let error = parse(&EXAMPLE.replace(from, to))
                .expect_err(key)
                .to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
