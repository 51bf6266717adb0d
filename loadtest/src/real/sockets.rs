//! The sockets of a process, as Linux tells them.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Context;

/// TCP's state `LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// What a process has open to the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sockets {
    /// TCP addresses that it listens on, as the kernel writes them.
    pub listening: Vec<String>,
    /// TCP sockets that do not listen.
    pub connected: usize,
    /// UDP sockets.
    pub udp: usize,
}

/// Looks at a process.
///
/// # Errors
/// When it has ended, or belongs to somebody else.
pub fn of(pid: u32) -> anyhow::Result<Sockets> {
    let own = inodes(pid).with_context(|| format!("process {pid}"))?;
    let table = |name: &str| -> anyhow::Result<Vec<Row>> {
        let mut rows = rows(pid, name)?;
        rows.extend(self::rows(pid, &format!("{name}6"))?);
        rows.retain(|row| own.contains(&row.inode));
        Ok(rows)
    };
    let (listening, connected): (Vec<Row>, Vec<Row>) = table("tcp")?
        .into_iter()
        .partition(|row| row.state == LISTEN);
    Ok(Sockets {
        listening: listening.into_iter().map(|row| row.local).collect(),
        connected: connected.len(),
        udp: table("udp")?.len(),
    })
}

struct Row {
    local: String,
    state: String,
    inode: String,
}

/// `sl local remote state queues timer retransmits uid timeout inode …` after a line of titles.
fn rows(pid: u32, name: &str) -> anyhow::Result<Vec<Row>> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/{name}"))?;
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(Row {
            local: (*words.get(1)?).to_owned(),
            state: (*words.get(3)?).to_owned(),
            inode: (*words.get(9)?).to_owned(),
        })
    };
    let each = text.lines().skip(1).map(row);
    each.collect::<Option<_>>()
        .with_context(|| format!("/proc/{pid}/net/{name} is cut off"))
}

fn inodes(pid: u32) -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A file may be closed while the folder is read.
        let Ok(target) = fs::read_link(entry?.path()) else {
            continue;
        };
        let inode = target
            .to_str()
            .and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']'));
        found.extend(inode.map(str::to_owned));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_of_this_process_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = format!(
            ":{:04X}",
            listener.local_addr().expect("it is bound").port()
        );
        let seen = of(std::process::id()).expect("it runs");
        assert!(
            seen.listening.iter().any(|at| at.ends_with(&port)),
            "{seen:?}"
        );
    }
}
