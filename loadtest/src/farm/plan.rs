//! What is to fail when, and what did fail: the file by which a watcher is judged.
//!
//! When a fault begins and ends follows from the flags alone; what the file says is when it was
//! applied, on the wall clock that agents on this machine use too. The file is replaced whole, so
//! a reader never sees half of it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use picket_rt::files::{PUBLIC, replace};
use picket_wire::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Faults remembered per target: a day of a demo that repeats every few minutes.
const WINDOWS_MAX: usize = 512;

/// When faults come. All of it counts from the moment the farm stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Until the first target fails.
    pub start_after: Duration,
    /// How long each fault lasts.
    pub fault_for: Duration,
    /// How much later each further target fails than the one before.
    pub stagger: Duration,
    /// From the end of a fault to the beginning of the next of the same target, if there is one.
    pub again_after: Option<Duration>,
}

impl Timing {
    /// Beginning and end of the `nth` fault of the `index`-th target.
    #[must_use]
    pub fn fault(&self, index: u32, nth: u32) -> Option<(Duration, Duration)> {
        let waited = match (nth, self.again_after) {
            (0, _) => Duration::ZERO,
            (_, None) => return None,
            (_, Some(pause)) => (self.fault_for + pause).saturating_mul(nth),
        };
        let from = self.start_after + self.stagger.saturating_mul(index) + waited;
        Some((from, from + self.fault_for))
    }
}

/// What a watcher should make of a target's faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// It is down for everyone.
    Down,
    /// It is down for some regions only.
    Regional,
    /// Nothing that deserves a page.
    None,
}

/// A fault as it was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Just before it began, Unix milliseconds.
    pub from_ms: i64,
    /// Just after it ended, Unix milliseconds; missing while it lasts.
    pub until_ms: Option<i64>,
}

/// One target in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Where it is.
    pub url: String,
    /// The name of its kind.
    pub kind: String,
    /// What a watcher should make of its faults.
    pub expected: Expected,
    /// Its faults so far, oldest first.
    pub windows: Vec<Window>,
}

impl Planned {
    /// A fault begins.
    pub fn begin(&mut self, at: Timestamp) {
        if self.windows.len() == WINDOWS_MAX {
            self.windows.remove(0);
        }
        self.windows.push(Window {
            from_ms: at.0,
            until_ms: None,
        });
    }

    /// The fault that lasts has ended.
    pub fn end(&mut self, at: Timestamp) {
        if let Some(window) = self.windows.last_mut() {
            window.until_ms.get_or_insert(at.0);
        }
    }
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Every target.
    pub targets: Vec<Planned>,
}

impl Plan {
    /// The file's name within the farm's directory.
    #[must_use]
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("plan.json")
    }

    /// Replaces the file in `dir`.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        replace(&Self::path(dir), &serde_json::to_vec_pretty(self)?, PUBLIC)
    }

    /// Reads the file in `dir`.
    ///
    /// # Errors
    /// When it is missing or is no plan.
    pub fn read(dir: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(Self::path(dir))?)?)
    }
}

/// The one line that the farm prints once it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The plan file.
    pub plan: PathBuf,
    /// The root that its healthy HTTPS targets chain to, as PEM.
    pub ca: PathBuf,
    /// How many targets the plan has.
    pub n_targets: usize,
    /// How many URLs are served in bulk.
    pub n_bulk: u64,
    /// Where: the n-th is `http://<bulk[n % bulk.len()]>/t/<n>`.
    pub bulk: Vec<SocketAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn timing(again_after: Option<Duration>) -> Timing {
        Timing {
            start_after: 20 * SECOND,
            fault_for: 12 * SECOND,
            stagger: SECOND,
            again_after,
        }
    }

    #[test]
    fn targets_fail_one_after_another_and_once() {
        assert_eq!(timing(None).fault(0, 0), Some((20 * SECOND, 32 * SECOND)));
        assert_eq!(timing(None).fault(3, 0), Some((23 * SECOND, 35 * SECOND)));
        assert_eq!(timing(None).fault(0, 1), None);
    }

    #[test]
    fn faults_come_again_after_the_pause() {
        let timing = timing(Some(60 * SECOND));
        assert_eq!(timing.fault(0, 1), Some((92 * SECOND, 104 * SECOND)));
        assert_eq!(timing.fault(1, 2), Some((165 * SECOND, 177 * SECOND)));
    }

    #[test]
    fn a_fault_is_open_until_it_ends_and_old_ones_are_forgotten() {
        let mut target = Planned {
            url: "http://127.0.0.1:1/".to_owned(),
            kind: "refused".to_owned(),
            expected: Expected::Down,
            windows: vec![],
        };
        for n in 0..=WINDOWS_MAX as i64 {
            target.begin(Timestamp(10 * n));
            assert_eq!(target.windows.last().unwrap().until_ms, None);
            target.end(Timestamp(10 * n + 5));
        }
        assert_eq!(target.windows.len(), WINDOWS_MAX);
        assert_eq!(
            target.windows[0],
            Window {
                from_ms: 10,
                until_ms: Some(15)
            }
        );
    }
}
