//! What the agent remembers of the schedulers' words: members, assignment, blobs.
//!
//! An agent that starts while nobody answers goes on with what it was given last. Everything here
//! can be fetched again, so damage is not an error: what does not read is as good as missing.
//! Blobs are named by their hash, which is checked whenever one is read.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use picket_rt::chain;
use picket_rt::files::{self, PRIVATE};
use picket_rt::task::TaskSet;
use picket_wire::assignment::Assigned;
use picket_wire::blob::decode_blob;
use picket_wire::check::CheckSpec;
use picket_wire::codec::{from_bytes, to_bytes};
use picket_wire::envelope::Kind;
use picket_wire::id::{BlobHash, MemberId};
use tokio::sync::mpsc;

use crate::agent::News;

const MEMBERS_FILE: &str = "members";
const ASSIGNED_FILE: &str = "assigned";
const BLOBS_DIR: &str = "blobs";
/// Orders that may wait for the cache's thread. The core asks for at most 256 blobs at a time, and
/// each that arrives is one order.
const ORDERS: usize = 1_024;

/// A file of the agent's directory could not be written.
#[derive(Debug, thiserror::Error)]
#[error("write `{}`", .path.display())]
pub struct RememberError {
    /// Which file.
    pub path: PathBuf,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

/// Remembers all members and their mesh addresses.
pub(crate) fn save_members(
    dir: &Path,
    members: &Vec<(MemberId, String)>,
) -> Result<(), RememberError> {
    replace(
        &dir.join(MEMBERS_FILE),
        &to_bytes(Kind::AgentState, members),
    )
}

/// The members as last saved.
pub(crate) fn load_members(dir: &Path) -> Option<Vec<(MemberId, String)>> {
    from_bytes(Kind::AgentState, &fs::read(dir.join(MEMBERS_FILE)).ok()?).ok()
}

/// The assignment as last saved; empty when there is none.
pub(crate) fn load_assigned(dir: &Path) -> Vec<Assigned> {
    let read = || from_bytes(Kind::AgentState, &fs::read(dir.join(ASSIGNED_FILE)).ok()?).ok();
    read().unwrap_or_default()
}

/// Forgets the assignment: it belongs to an earlier enrolment.
pub(crate) fn forget_assigned(dir: &Path) -> Result<(), RememberError> {
    let path = dir.join(ASSIGNED_FILE);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(RememberError { path, source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What the cache is asked to do.
#[derive(Debug)]
pub(crate) enum CacheOrder {
    /// Hand out these blobs, or say which of them this member must be asked for.
    Fetch(Option<MemberId>, Vec<BlobHash>),
    /// Keep a blob that came from a scheduler.
    Keep(BlobHash, Vec<u8>),
    /// Remember the assignment, and only the blobs in it.
    Persist(Vec<Assigned>),
}

/// A handle on the cache's thread.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    orders: mpsc::Sender<CacheOrder>,
}

impl Cache {
    /// Starts the cache over `dir`; blobs that were asked for are told as news.
    pub(crate) fn start(tasks: &TaskSet, dir: &Path, news: mpsc::Sender<News>) -> Self {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let shelf = Shelf {
            dir: dir.to_owned(),
        };
        crate::spool::on_a_thread(tasks, "cache", move || shelf.serve(inbox, &news));
        Self { orders }
    }

    /// Asks. When the thread is far behind, the order is lost: blobs are asked for again, and
    /// what is not kept must be fetched after a restart.
    pub(crate) fn order(&self, order: CacheOrder) {
        if self.orders.try_send(order).is_err() {
            tracing::warn!("the cache is behind; something is not remembered");
        }
    }
}

/// The files.
#[derive(Debug)]
struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    fn serve(self, mut inbox: mpsc::Receiver<CacheOrder>, news: &mpsc::Sender<News>) {
        while let Some(order) = inbox.blocking_recv() {
            let kept = match order {
                CacheOrder::Fetch(member, blobs) => {
                    if !self.fetch(member, blobs, news) {
                        return;
                    }
                    Ok(())
                }
                CacheOrder::Keep(blob, bytes) => self.keep(blob, &bytes),
                CacheOrder::Persist(assigned) => self.persist(&assigned),
            };
            if let Err(error) = kept {
                tracing::warn!(error = %chain(&error), "not remembered for a restart");
            }
        }
    }

    /// Returns whether anybody still listens.
    fn fetch(
        &self,
        member: Option<MemberId>,
        blobs: Vec<BlobHash>,
        news: &mpsc::Sender<News>,
    ) -> bool {
        let mut missing = Vec::new();
        for blob in blobs {
            let Some(checks) = self.read(blob) else {
                missing.push(blob);
                continue;
            };
            if news.blocking_send(News::Fetched(blob, checks)).is_err() {
                return false;
            }
        }
        match member {
            Some(member) if !missing.is_empty() => {
                news.blocking_send(News::Missing(member, missing)).is_ok()
            }
            _ => true,
        }
    }

    fn read(&self, blob: BlobHash) -> Option<Vec<CheckSpec>> {
        open(blob, &fs::read(self.path(blob)).ok()?)
    }

    fn keep(&self, blob: BlobHash, bytes: &[u8]) -> Result<(), RememberError> {
        // Not synced: a blob that a power cut tore does not have its hash any more.
        let path = self.path(blob);
        let beside = path.with_extension("new");
        let write = || {
            fs::create_dir_all(self.dir.join(BLOBS_DIR))?;
            fs::write(&beside, bytes)?;
            fs::rename(&beside, &path)
        };
        write().map_err(|source| RememberError {
            path: path.clone(),
            source,
        })
    }

    fn persist(&self, assigned: &Vec<Assigned>) -> Result<(), RememberError> {
        replace(
            &self.dir.join(ASSIGNED_FILE),
            &to_bytes(Kind::AgentState, assigned),
        )?;
        let kept: BTreeSet<String> = assigned.iter().map(|line| line.blob.to_string()).collect();
        let dir = self.dir.join(BLOBS_DIR);
        let prune = || {
            fs::create_dir_all(&dir)?;
            for entry in fs::read_dir(&dir)? {
                let entry = entry?;
                if !entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| kept.contains(name))
                {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        prune().map_err(|source| RememberError {
            path: dir.clone(),
            source,
        })
    }

    fn path(&self, blob: BlobHash) -> PathBuf {
        self.dir.join(BLOBS_DIR).join(blob.to_string())
    }
}

/// The checks in a blob, if it is the one with this name and reads.
pub(crate) fn open(blob: BlobHash, bytes: &[u8]) -> Option<Vec<CheckSpec>> {
    if BlobHash::of(bytes) != blob {
        return None;
    }
    match decode_blob(bytes) {
        Ok(catalogue) => Some(catalogue.checks),
        Err(error) => {
            tracing::warn!(?blob, %error, "a blob does not read");
            None
        }
    }
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), RememberError> {
    files::replace(path, bytes, PRIVATE).map_err(|source| RememberError {
        path: path.to_owned(),
        source,
    })
}
