//! The Raft log on disk, behind one writer thread.
//!
//! Every read and write goes through one thread in the order of arrival, so that a vote, an append
//! and a truncation can never overtake one another and flushes are reported in order (openraft
//! loses progress when they are not). Whatever waits when the thread is free is written first and
//! flushed once: group commit.
//!
//! A log that cannot be read ends the process: openraft would go on and send a follower entries
//! that do not follow what it has.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::path::Path;

use bytes::Bytes;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use picket_storage::raft_log::{OpenRaftLogError, RaftLog, RaftLogSettings};
use tokio::sync::{mpsc, oneshot};

use super::codec::{Frame, FrameError};
use super::types::{LogId, RaftEntry, StorageError, TypeConfig, Vote};

/// Jobs that may wait for the thread. openraft itself waits for each write, so that only reads
/// by replication and the state machine queue up; senders wait when it is full.
const JOBS_MAX: usize = 256;
/// Most bytes that one read of the replication returns: at 250 ms for one append, far less than
/// what the slowest network between members carries in that time, and far more than one entry.
const READ_MAX_BYTES: usize = 1024 * 1024;

/// A handle on the writer thread.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    jobs: mpsc::Sender<Job>,
}

type Done = oneshot::Sender<io::Result<()>>;

enum Job {
    Append {
        first: u64,
        entries: Vec<Vec<u8>>,
        written: Done,
        flushed: LogFlushed<TypeConfig>,
    },
    SaveVote {
        vote: Vec<u8>,
        done: Done,
    },
    ReadVote {
        reply: oneshot::Sender<Option<Vec<u8>>>,
    },
    SaveCommitted {
        index: u64,
        id: Vec<u8>,
        done: Done,
    },
    ReadCommitted {
        reply: oneshot::Sender<Option<Vec<u8>>>,
    },
    Truncate {
        from: u64,
        done: Done,
    },
    Purge {
        upto: u64,
        id: Vec<u8>,
        done: Done,
    },
    Read {
        range: Range<u64>,
        max_bytes: usize,
        reply: oneshot::Sender<Vec<Vec<u8>>>,
    },
    Ends {
        reply: oneshot::Sender<Ends>,
    },
    Close {
        done: oneshot::Sender<()>,
    },
}

/// The ids at both ends of the log, as bytes.
struct Ends {
    purged: Option<Vec<u8>>,
    last: Option<Vec<u8>>,
}

impl LogStore {
    /// Opens the log in `dir` and starts its thread, which keeps `lock` for as long as it lives.
    pub(crate) fn open(dir: &Path, lock: File) -> Result<Self, OpenRaftLogError> {
        let log = RaftLog::open(dir, RaftLogSettings::default())?;
        let (jobs, inbox) = mpsc::channel(JOBS_MAX);
        let thread = std::thread::Builder::new().name("raft-log".to_owned());
        let writer = Writer {
            log,
            flushes: Vec::new(),
            _lock: lock,
        };
        drop(
            thread
                .spawn(move || writer.run(inbox))
                .expect("a process can start one more thread"),
        );
        Ok(Self { jobs })
    }

    /// Flushes what is written and ends the thread; returns when the files are closed.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Close { done }).await.is_ok() {
            closed.await.unwrap_or_default();
        }
    }

    /// What was purged last, for comparison with the snapshot.
    pub(crate) async fn purged(&self) -> Result<Option<LogId>, StorageError> {
        let ends = self.ask(|reply| Job::Ends { reply }).await?;
        ends.purged
            .map(decode::<LogId>)
            .transpose()
            .map_err(read_error)
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        let closed = || read_error(io::Error::from(io::ErrorKind::BrokenPipe));
        self.jobs
            .send(job(reply))
            .await
            .map_err(|_closed| closed())?;
        answer.await.map_err(|_closed| closed())
    }

    async fn act(&self, job: impl FnOnce(Done) -> Job) -> Result<(), StorageError> {
        self.ask(job).await?.map_err(write_error)
    }

    async fn read(
        &self,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<RaftEntry>, StorageError> {
        let bytes = self
            .ask(|reply| Job::Read {
                range,
                max_bytes,
                reply,
            })
            .await?;
        let mut entries = Vec::with_capacity(bytes.len());
        for entry in bytes {
            entries.push(decode(entry).map_err(read_error)?);
        }
        Ok(entries)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, StorageError> {
        let (from, until) = (first_of(range.start_bound()), end_of(range.end_bound()));
        let mut entries: Vec<RaftEntry> = Vec::new();
        loop {
            let next = entries.last().map_or(from, |entry| entry.log_id.index + 1);
            let part = self.read(next..until, READ_MAX_BYTES).await?;
            if part.is_empty() {
                return Ok(entries);
            }
            entries.extend(part);
        }
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftEntry>, StorageError> {
        self.read(start..end, READ_MAX_BYTES).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let Ends { purged, last } = self.ask(|reply| Job::Ends { reply }).await?;
        let last_purged_log_id = purged.map(decode).transpose().map_err(read_error)?;
        let last: Option<RaftEntry> = last.map(decode).transpose().map_err(read_error)?;
        let last_log_id = last.map(|entry| entry.log_id).or(last_purged_log_id);
        Ok(LogState {
            last_purged_log_id,
            last_log_id,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = vote.to_frame();
        self.act(|done| Job::SaveVote { vote, done }).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let vote = self.ask(|reply| Job::ReadVote { reply }).await?;
        vote.map(decode).transpose().map_err(read_error)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let Some(id) = committed else { return Ok(()) };
        self.act(|done| Job::SaveCommitted {
            index: id.index,
            id: id.to_frame(),
            done,
        })
        .await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let id = self.ask(|reply| Job::ReadCommitted { reply }).await?;
        id.map(decode).transpose().map_err(read_error)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        flushed: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut first = None;
        let frame = |entry: RaftEntry| {
            first.get_or_insert(entry.log_id.index);
            entry.to_frame()
        };
        let entries: Vec<_> = entries.into_iter().map(frame).collect();
        let Some(first) = first else {
            flushed.log_io_completed(Ok(()));
            return Ok(());
        };
        self.act(|written| Job::Append {
            first,
            entries,
            written,
            flushed,
        })
        .await
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.act(|done| Job::Truncate {
            from: log_id.index,
            done,
        })
        .await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.act(|done| Job::Purge {
            upto: log_id.index,
            id: log_id.to_frame(),
            done,
        })
        .await
    }
}

/// What the thread owns.
struct Writer {
    log: RaftLog,
    flushes: Vec<LogFlushed<TypeConfig>>,
    /// After the log: the lock is given back when the files are closed.
    _lock: File,
}

impl Writer {
    fn run(mut self, mut inbox: mpsc::Receiver<Job>) {
        let mut waiting = VecDeque::new();
        while let Some(job) = inbox.blocking_recv() {
            waiting.push_back(job);
            while waiting.len() < JOBS_MAX
                && let Ok(job) = inbox.try_recv()
            {
                waiting.push_back(job);
            }
            for job in waiting.drain(..) {
                if let Job::Close { done } = job {
                    self.flush();
                    drop(self);
                    done.send(()).unwrap_or_default();
                    return;
                }
                self.perform(job);
            }
            self.flush();
        }
    }

    fn perform(&mut self, job: Job) {
        match job {
            Job::Append {
                first,
                entries,
                written,
                flushed,
            } => {
                let result = self
                    .log
                    .append_batch(first, entries)
                    .map_err(io::Error::other);
                if result.is_ok() {
                    self.flushes.push(flushed);
                }
                answer(written, result);
            }
            Job::SaveVote { vote, done } => {
                answer(done, self.log.save_vote(&vote).map_err(io::Error::other));
            }
            Job::ReadVote { reply } => answer(reply, self.log.vote().map(<[u8]>::to_vec)),
            Job::SaveCommitted { index, id, done } => {
                answer(
                    done,
                    self.log
                        .save_committed(index, &id)
                        .map_err(io::Error::other),
                );
            }
            Job::ReadCommitted { reply } => {
                let committed = self.log.committed();
                answer(reply, committed.map(|(_index, id)| id.to_vec()));
            }
            Job::Truncate { from, done } => {
                answer(done, self.log.truncate_from(from).map_err(io::Error::other));
            }
            Job::Purge { upto, id, done } => {
                answer(done, self.log.purge_to(upto, &id).map_err(io::Error::other));
            }
            Job::Read {
                range,
                max_bytes,
                reply,
            } => answer(reply, self.read(range, max_bytes)),
            Job::Ends { reply } => answer(reply, self.ends()),
            Job::Close { .. } => {}
        }
    }

    fn read(&mut self, range: Range<u64>, max_bytes: usize) -> Vec<Vec<u8>> {
        let first = self.log.first();
        let end = self.log.last().map_or(first, |last| last + 1);
        let present = range.start.max(first)..range.end.min(end);
        if present.is_empty() {
            return Vec::new();
        }
        match self.log.read(present, max_bytes) {
            Ok(records) => records.into_iter().map(|(_index, bytes)| bytes).collect(),
            Err(error) => {
                tracing::error!(error = %picket_rt::chain(&error), "the Raft log cannot be read");
                std::process::abort()
            }
        }
    }

    fn ends(&mut self) -> Ends {
        let purged = self.log.purged().map(|(_index, id)| id.to_vec());
        let last = self
            .log
            .last()
            .and_then(|last| self.read(last..last + 1, 1).pop());
        Ends { purged, last }
    }

    /// Makes everything written durable and says so, in the order it was written.
    fn flush(&mut self) {
        if self.flushes.is_empty() {
            return;
        }
        let started = std::time::Instant::now();
        let result = self.log.sync();
        crate::telemetry::log_flushed(started.elapsed(), self.flushes.len());
        for flushed in self.flushes.drain(..) {
            let result = match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::other(error.to_string())),
            };
            flushed.log_io_completed(result);
        }
    }
}

/// Answers; whoever asked may have gone, which is no concern of the log.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    drop(reply.send(value));
}

fn decode<T: Frame>(bytes: Vec<u8>) -> Result<T, FrameError> {
    T::from_frame(Bytes::from(bytes))
}

fn read_error(error: impl std::error::Error + 'static) -> StorageError {
    StorageIOError::read_logs(AnyError::new(&error)).into()
}

fn write_error(error: io::Error) -> StorageError {
    StorageIOError::write_logs(AnyError::new(&error)).into()
}

fn first_of(bound: Bound<&u64>) -> u64 {
    match bound {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index + 1,
        Bound::Unbounded => 0,
    }
}

fn end_of(bound: Bound<&u64>) -> u64 {
    match bound {
        Bound::Included(index) => index + 1,
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    }
}
