//! The directory of a dev mesh: authority, identities, settings, ports.
//!
//! Made once; a directory that is kept is used again as it is, so that a mesh continues with the
//! data, the ports and the token it had.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::Context;
use picket_rt::clock::Clock;
use picket_rt::files::{PRIVATE, PUBLIC, replace};
use picket_rt::identity::{Authority, Identity};
use picket_rt::join_token::hash_secret;
use picket_wire::id::MemberId;
use serde::{Deserialize, Serialize};

/// Scheduler members of a dev mesh.
pub(super) const MEMBERS: [MemberId; 3] = [MemberId(1), MemberId(2), MemberId(3)];

/// A region of a dev mesh and the loopback address its agent probes from, so that a target can
/// tell regions apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    pub(super) name: &'static str,
    pub(super) network: &'static str,
    pub(super) source: Ipv4Addr,
}

/// The regions of a dev mesh.
pub(super) const REGIONS: [Region; 3] = [
    Region {
        name: "eu",
        network: "as-one",
        source: Ipv4Addr::new(127, 0, 1, 1),
    },
    Region {
        name: "us",
        network: "as-two",
        source: Ipv4Addr::new(127, 0, 2, 1),
    },
    Region {
        name: "ap",
        network: "as-three",
        source: Ipv4Addr::new(127, 0, 3, 1),
    },
];

/// Addresses of the members, kept with the data: they are part of the cluster's membership.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ports {
    /// Mesh addresses, one per member.
    pub(super) mesh: Vec<SocketAddr>,
    /// API addresses, one per member.
    pub(super) api: Vec<SocketAddr>,
}

/// Paths of a dev mesh.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
    /// Where members are reached.
    pub(super) ports: Ports,
}

impl Layout {
    /// Makes the directory, or takes one up again.
    pub(super) fn prepare(root: &Path, api_port: u16) -> anyhow::Result<Self> {
        fs::create_dir_all(root.join("logs")).with_context(|| root.display().to_string())?;
        let root = root.canonicalize()?;
        // Postgres runs as another user when we are root and must reach its directory.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&root, mode).with_context(|| root.display().to_string())?;
        let file = root.join("ports.json");
        let ports = if file.exists() {
            serde_json::from_slice(&fs::read(&file)?).with_context(|| file.display().to_string())?
        } else {
            let ports = choose_ports(api_port)?;
            write(&file, &serde_json::to_vec_pretty(&ports)?, PUBLIC)?;
            ports
        };
        let layout = Self { root, ports };
        layout.make_authority()?;
        layout.make_token()?;
        Ok(layout)
    }

    /// A path below the directory.
    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// The log of a process.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// The file with the admin token.
    pub(super) fn token_file(&self) -> PathBuf {
        self.path("admin.token")
    }

    /// The API of the first member.
    pub(super) fn server(&self) -> String {
        format!("http://{}", self.ports.api[0])
    }

    fn make_authority(&self) -> anyhow::Result<()> {
        let ca = self.path("ca");
        let now = Clock::system().now();
        let authority = match Authority::load(&ca) {
            Err(error) if error.is_missing() => Authority::create(&ca, now)?,
            loaded => loaded?,
        };
        for member in MEMBERS {
            let identity = self.path(&format!("{member}/identity"));
            match Identity::load(&identity) {
                Err(error) if error.is_missing() => authority
                    .issue_member(member, &["127.0.0.1".to_owned()], now)?
                    .save(&identity)?,
                loaded => drop(loaded?),
            }
        }
        Ok(())
    }

    fn make_token(&self) -> anyhow::Result<()> {
        let file = self.token_file();
        if file.exists() {
            return Ok(());
        }
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let secret = format!("pka_{}", hex(&bytes));
        let hash = format!("{}\n", hex(&hash_secret(&secret)));
        // The token last: with it there, both are.
        write(&self.path("admin.sha256"), hash.as_bytes(), PRIVATE)?;
        write(&file, format!("{secret}\n").as_bytes(), PRIVATE)
    }

    /// Writes the settings of a member and returns their path.
    pub(super) fn write_member(
        &self,
        index: usize,
        postgres: &str,
        otlp: Option<&str>,
    ) -> anyhow::Result<PathBuf> {
        let member = MEMBERS[index];
        let root = self.root.display();
        let mut text = format!(
            "member = \"{member}\"\ndata_dir = \"{root}/{member}/data\"\n\n\
             [mesh]\nlisten = \"{}\"\nidentity = \"{root}/{member}/identity\"\nauthority = \"{root}/ca\"\nbootstrap = {}\n\n",
            self.ports.mesh[index],
            index == 0
        );
        for (id, address) in MEMBERS.iter().zip(&self.ports.mesh) {
            text.push_str(&format!(
                "[[mesh.members]]\nid = \"{id}\"\naddress = \"{address}\"\n\n"
            ));
        }
        // Short windows and waits: what takes minutes in production should be seen in seconds here.
        text.push_str(&format!(
            "[cluster]\nname = \"dev\"\nshards = 256\nwindow_secs = 5\ngroup_wait_secs = 2\n\
             admin_token_hash = \"{root}/admin.sha256\"\n\n\
             [postgres]\nurl = {postgres:?}\n\n[api]\nlisten = \"{}\"\n\n[blobs]\ndisk_mib = 256\n",
            self.ports.api[index]
        ));
        text.push_str(&telemetry(otlp));
        let path = self.path(&format!("{member}/scheduler.toml"));
        write(&path, text.as_bytes(), PUBLIC)?;
        Ok(path)
    }

    /// Writes the settings of a region's agent and returns their path.
    pub(super) fn write_agent(
        &self,
        region: &Region,
        extra: &AgentExtra,
    ) -> anyhow::Result<PathBuf> {
        let Region {
            name,
            network,
            source,
        } = region;
        let dir = self.path(&format!("agent-{name}"));
        fs::create_dir_all(&dir)?;
        let dir = dir.display();
        let members: Vec<String> = self
            .ports
            .mesh
            .iter()
            .map(|address| format!("\"{address}\""))
            .collect();
        let mut text = format!(
            "name = \"dev-{name}\"\nregion = \"{name}\"\nzone = \"{name}-a\"\nnetwork = \"{network}\"\n\
             data_dir = \"{dir}/data\"\nmembers = [{}]\nsource_addresses = [\"{source}\"]\n\
             # The demo watches this machine; a production agent refuses such addresses.\n\
             allow_ranges = [\"127.0.0.0/8\", \"::1/128\"]\nmetrics_socket = \"{dir}/metrics.sock\"\n",
            members.join(", ")
        );
        if let Some(anchors) = &extra.trust_anchors {
            text.push_str(&format!("trust_anchors = \"{}\"\n", anchors.display()));
        }
        text.push_str(&telemetry(extra.otlp.as_deref()));
        let path = self.path(&format!("agent-{name}/agent.toml"));
        write(&path, text.as_bytes(), PUBLIC)?;
        Ok(path)
    }
}

/// What an agent's settings hold beside its region's.
#[derive(Debug, Default)]
pub(super) struct AgentExtra {
    /// Certificates to trust beside the public ones.
    pub(super) trust_anchors: Option<PathBuf>,
    /// Where spans go.
    pub(super) otlp: Option<String>,
}

fn telemetry(otlp: Option<&str>) -> String {
    let mut text = "\n[telemetry]\n".to_owned();
    if let Some(otlp) = otlp {
        text.push_str(&format!("otlp = {otlp:?}\n"));
    }
    text
}

/// Ports that are free now. They are given back before the members take them; another program that
/// takes one in between makes the member say so and end.
fn choose_ports(api_port: u16) -> anyhow::Result<Ports> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut udp = Vec::new();
    let mut tcp = Vec::new();
    for index in 0..MEMBERS.len() {
        udp.push(UdpSocket::bind(loopback(0))?);
        let wanted = if index == 0 { api_port } else { 0 };
        let bound = TcpListener::bind(loopback(wanted));
        tcp.push(bound.with_context(|| {
            format!("port {wanted} is taken; choose another with --port, or 0 for any")
        })?);
    }
    Ok(Ports {
        mesh: udp
            .iter()
            .map(UdpSocket::local_addr)
            .collect::<Result<_, _>>()?,
        api: tcp
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<_, _>>()?,
    })
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    replace(path, bytes, mode).with_context(|| path.display().to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
