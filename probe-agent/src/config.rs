//! The settings of one agent.
//!
//! Where it stands and what it may touch; what it probes comes from the schedulers.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::IpNet;
use picket_agent_core::Limits;
use picket_rt::settings::{self, SettingsError};
use picket_rt::telemetry::TelemetrySettings;
use picket_wire::check::http::HttpSpec;
use picket_wire::limits::MEMBERS_MAX;
use picket_wire::name::Name;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;

/// Most reference checks: they run every few seconds, from every agent.
const REFERENCES_MAX: usize = 16;
/// Fewer places would make an agent of any use impossible.
const IN_FLIGHT_MIN: u32 = 8;
/// Rollups of a day, several times over.
const ROLLUP_SPOOL_DEFAULT: u64 = 512 * 1024 * 1024;
/// A million statements of half a kilobyte: a storm over everything one agent may hold.
const EVIDENCE_SPOOL_DEFAULT: u64 = 512 * 1024 * 1024;
/// Smallest spool: a few of the largest batches.
const SPOOL_MIN: u64 = 32 * 1024 * 1024;

/// Why the settings were refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not read.
    #[error(transparent)]
    File(#[from] SettingsError),
    /// A value that breaks a rule.
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
    /// Name for people; unique in the mesh. Counts at enrolment.
    pub name: Name,
    /// Region that it stands in. Counts at enrolment.
    pub region: Name,
    /// Zone inside the region. Default `default`.
    #[serde(default = "zone_default")]
    pub zone: Name,
    /// Network that it stands in: an ASN or a provider; two agents of one network are one vantage
    /// fewer. Default `default`.
    #[serde(default = "zone_default")]
    pub network: Name,
    /// Scheduler members as `host:port`, any of them, to enrol with. Once enrolled the agent
    /// knows all members.
    pub members: Vec<String>,
    /// Where identity, spools and the last assignment are kept. One agent each.
    pub data_dir: PathBuf,
    /// Local addresses that probes leave from, in turn. Default: the system chooses.
    #[serde(default)]
    pub source_addresses: Vec<IpAddr>,
    /// Name servers to ask, as `address:port`. Default: the system's.
    #[serde(default)]
    pub resolvers: Vec<SocketAddr>,
    /// PEM file with roots that probes trust besides the public ones. Default none.
    #[serde(default)]
    pub trust_anchors: Option<PathBuf>,
    /// Private and other special ranges that may be probed, such as `10.0.0.0/8`. Default none:
    /// a check must not become a way into the agent's own network.
    #[serde(default)]
    pub allow_ranges: Vec<Range>,
    /// What must be reachable when this agent's own network works: `host:port` or URLs of several
    /// independent operators. When more than half of them fail, the agent has no say. Default
    /// none: it always has.
    #[serde(default)]
    pub references: Vec<Reference>,
    /// What it may use.
    #[serde(default)]
    pub limits: LimitSettings,
    /// Path of the Unix socket that serves metrics. Default none.
    #[serde(default)]
    pub metrics_socket: Option<PathBuf>,
    /// Logs and spans.
    #[serde(default)]
    pub telemetry: TelemetrySettings,
}

/// What the agent may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Probes in flight. Default 8,192; less where the limit on open files is lower.
    pub in_flight: u32,
    /// Probes in flight to one host and port. Default 128.
    pub per_destination: u32,
    /// Bytes of evidence that may wait on disk. Default 512 MiB. Beyond it changes of mind wait
    /// in memory.
    pub evidence_spool_bytes: u64,
    /// Bytes of rollups that may wait on disk. Default 512 MiB, a day and more. Beyond it the
    /// oldest are given up, which reads as time that nobody watched.
    pub rollup_spool_bytes: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        let Limits {
            in_flight,
            per_destination,
        } = Limits::default();
        Self {
            in_flight,
            per_destination,
            evidence_spool_bytes: EVIDENCE_SPOOL_DEFAULT,
            rollup_spool_bytes: ROLLUP_SPOOL_DEFAULT,
        }
    }
}

/// An address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range(pub IpNet);

/// Something that can be reached when this agent's network works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `host:port` that accepts TCP connections.
    Tcp(String),
    /// A URL that answers as a check with every default expects.
    Http(HttpSpec),
}

impl Config {
    /// Reads and checks the settings at `path`.
    ///
    /// # Errors
    /// Names the setting and what is expected.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = settings::load(path)?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let members = &self.members;
        let is_address = |text: &String| {
            text.rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        let LimitSettings {
            in_flight,
            per_destination,
            evidence_spool_bytes,
            rollup_spool_bytes,
        } = self.limits;
        let rules: [(&'static str, bool, &str); 6] = [
            (
                "members",
                !members.is_empty()
                    && members.len() <= MEMBERS_MAX
                    && members.iter().all(is_address),
                "expected at least one `host:port`",
            ),
            (
                "references",
                self.references.len() <= REFERENCES_MAX,
                "expected at most 16",
            ),
            (
                "limits.in_flight",
                in_flight >= IN_FLIGHT_MIN,
                "expected at least 8",
            ),
            (
                "limits.per_destination",
                per_destination > 0,
                "expected at least 1",
            ),
            (
                "limits.evidence_spool_bytes",
                evidence_spool_bytes >= SPOOL_MIN,
                "expected at least 33554432 (32 MiB)",
            ),
            (
                "limits.rollup_spool_bytes",
                rollup_spool_bytes >= SPOOL_MIN,
                "expected at least 33554432 (32 MiB)",
            ),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            None => Ok(()),
            Some((key, _, problem)) => Err(ConfigError::Value {
                key,
                problem: problem.to_owned(),
            }),
        }
    }

    /// The roots in `trust_anchors`.
    ///
    /// # Errors
    /// When the file does not read as PEM certificates.
    pub fn anchors(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let Some(path) = &self.trust_anchors else {
            return Ok(Vec::new());
        };
        let key = "trust_anchors";
        let refuse = |error| {
            let problem = format!(
                "`{}` does not read as PEM certificates: {error}",
                path.display()
            );
            ConfigError::Value { key, problem }
        };
        let anchors = CertificateDer::pem_file_iter(path).map_err(refuse)?;
        let anchors = anchors.collect::<Result<Vec<_>, _>>().map_err(refuse)?;
        if anchors.is_empty() {
            let problem = format!("`{}` holds no certificate", path.display());
            return Err(ConfigError::Value { key, problem });
        }
        Ok(anchors)
    }
}

fn zone_default() -> Name {
    Name::parse("default").expect("lower-case letters are a name")
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let range = IpNet::from_str(&text).map_err(|_not_a_range| {
            serde::de::Error::custom(format!("expected a range like `10.0.0.0/8`, got `{text}`"))
        })?;
        Ok(Self(range))
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl Reference {
    fn parse(text: &str) -> Result<Self, String> {
        let problem = || format!("expected `host:port` or an http or https URL, got `{text}`");
        if !text.contains("://") {
            let (host, port) = text.rsplit_once(':').ok_or_else(problem)?;
            let fits = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
            return if fits {
                Ok(Self::Tcp(text.to_owned()))
            } else {
                Err(problem())
            };
        }
        let url = url::Url::parse(text).map_err(|error| format!("{}: {error}", problem()))?;
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(problem()),
        };
        let host = url
            .host_str()
            .ok_or_else(problem)?
            .trim_matches(['[', ']'])
            .to_owned();
        let port = url.port_or_known_default().ok_or_else(problem)?;
        let query = url
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let spec = HttpSpec::plain(tls, host, port, format!("{}{query}", url.path()));
        spec.validate().map_err(|error| error.to_string())?;
        Ok(Self::Http(spec))
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Http(spec) => f.write_str(&spec.url()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"
        name = "fra-1"
        region = "eu-west"
        members = ["10.0.0.1:7400"]
        data_dir = "/var/lib/picket-agent"
    "#;

    fn parse(text: &str) -> Result<Config, String> {
        let config: Config =
            settings::parse(Path::new("agent.toml"), text).map_err(|error| error.to_string())?;
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn the_least_settings_have_defaults_for_the_rest() {
        let config = parse(LEAST).unwrap();
        assert_eq!(config.limits, LimitSettings::default());
        assert_eq!(config.zone.as_str(), "default");
        assert!(config.allow_ranges.is_empty() && config.references.is_empty());
    }

    #[test]
    fn ranges_and_references_are_read() {
        let more = r#"
            allow_ranges = ["127.0.0.0/8", "::1/128"]
            references = ["192.0.2.1:53", "https://example.org/up?q=1"]
        "#;
        let config = parse(&format!("{LEAST}{more}")).unwrap();
        assert_eq!(config.allow_ranges.len(), 2);
        let Reference::Http(spec) = &config.references[1] else {
            panic!("{config:?}")
        };
        assert_eq!(
            (spec.tls, spec.port, spec.target.as_str()),
            (true, 443, "/up?q=1")
        );
    }

    #[test]
    fn a_wrong_value_is_refused_by_name() {
        for (line, named) in [
            ("allow_ranges = [\"10.0.0.0/40\"]", "10.0.0.0/40"),
            ("references = [\"ftp://example.org\"]", "ftp://example.org"),
            ("referenzes = []", "referenzes"),
            ("limits = { in_flight = 1 }", "limits.in_flight"),
            (
                "limits = { rollup_spool_bytes = 1 }",
                "limits.rollup_spool_bytes",
            ),
        ] {
            let error = parse(&format!("{LEAST}\n{line}")).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
        let error = parse(&LEAST.replace("10.0.0.1:7400", "10.0.0.1")).unwrap_err();
        assert!(error.contains("members"), "{error}");
    }
}
