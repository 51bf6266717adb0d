//! The set of tasks of one process: the only place that starts one.
//!
//! A task has a name and a policy, so that a process which cannot stop says who keeps it, and one
//! that stopped by itself says whose end was the cause. Nothing is restarted here: whoever owns a
//! loop knows better what its state is worth after a failure.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::task::TaskTracker;

use crate::stop::Stop;

/// What the end of a task means for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The process is of no use without it: its end stops the process, unless it was asked to stop.
    Essential,
    /// The process goes on: one connection, one delivery. A panic is logged and counted.
    BestEffort,
}

/// How a task ended that should not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEnd {
    /// It returned although nobody had asked it to stop.
    Returned,
    /// It panicked.
    Panicked,
}

/// The first essential task whose end stopped the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("task `{name}` {}", match .how { TaskEnd::Returned => "ended by itself", TaskEnd::Panicked => "panicked" })]
pub struct TaskFailure {
    /// The name it was started under.
    pub name: &'static str,
    /// How it ended.
    pub how: TaskEnd,
}

/// A clonable handle on all tasks of a process.
#[derive(Debug, Clone)]
pub struct TaskSet {
    stop: Stop,
    tracker: TaskTracker,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    next: u64,
    alive: BTreeMap<u64, &'static str>,
    first_failure: Option<TaskFailure>,
}

impl TaskSet {
    /// An empty set whose essential tasks request `stop` when they end.
    #[must_use]
    pub fn new(stop: Stop) -> Self {
        Self {
            stop,
            tracker: TaskTracker::new(),
            book: Arc::default(),
        }
    }

    /// Starts `future` under `name`. The handle aborts it, which counts as a wanted end.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<F>(&self, name: &'static str, policy: Policy, future: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let presence = self.enter(name, policy);
        let tracked = self.tracker.track_future(async move {
            let presence = presence;
            future.await;
            presence.leave();
        });
        start(tracked).abort_handle()
    }

    /// Waits until every task has ended. Ask them to stop first.
    ///
    /// # Errors
    /// The names of the tasks that are still alive when `deadline` is over, each once.
    pub async fn join_all(&self, deadline: Duration) -> Result<(), Vec<&'static str>> {
        self.tracker.close();
        let ended = tokio::time::timeout(deadline, self.tracker.wait()).await;
        ended.map_err(|_elapsed| self.alive())
    }

    /// The names of the tasks that run now, sorted, each once.
    #[must_use]
    pub fn alive(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = lock(&self.book).alive.values().copied().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The essential task whose end stopped the process, if one did: the exit code depends on it.
    #[must_use]
    pub fn first_failure(&self) -> Option<TaskFailure> {
        lock(&self.book).first_failure
    }

    fn enter(&self, name: &'static str, policy: Policy) -> Presence {
        let mut book = lock(&self.book);
        let number = book.next;
        book.next += 1;
        book.alive.insert(number, name);
        Presence {
            set: self.clone(),
            number,
            name,
            policy,
            returned: false,
        }
    }

    fn report(&self, failure: TaskFailure, policy: Policy) {
        let TaskFailure { name, how } = failure;
        if how == TaskEnd::Panicked {
            metrics::counter!("picket_task_panics_total", "task" => name).increment(1);
        }
        match policy {
            Policy::Essential => {
                tracing::error!(task = name, ?how, "essential task ended, stopping");
                lock(&self.book).first_failure.get_or_insert(failure);
                self.stop.request();
            }
            Policy::BestEffort if how == TaskEnd::Panicked => {
                tracing::error!(task = name, "task panicked");
            }
            Policy::BestEffort => {}
        }
    }
}

/// A task's line in the book: lives inside its future, so that no way of ending escapes it.
struct Presence {
    set: TaskSet,
    number: u64,
    name: &'static str,
    policy: Policy,
    returned: bool,
}

impl Presence {
    /// The future has returned by itself.
    fn leave(mut self) {
        self.returned = true;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        lock(&self.set.book).alive.remove(&self.number);
        let how = match () {
            () if std::thread::panicking() => TaskEnd::Panicked,
            () if self.returned && !self.set.stop.is_requested() => TaskEnd::Returned,
            () => return,
        };
        self.set.report(
            TaskFailure {
                name: self.name,
                how,
            },
            self.policy,
        );
    }
}

/// Starts a future that no orderly stop waits for: the listener for signals.
pub(crate) fn for_the_life_of_the_process<F>(future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    drop(start(future));
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where tasks are started"
)]
fn start<F>(future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(future)
}

/// The book holds plain values that are consistent after each statement, so a panic elsewhere
/// does not spoil it.
fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn the_end_of_an_essential_task_stops_the_process_and_is_named() {
        let stop = Stop::new();
        let tasks = TaskSet::new(stop.clone());
        tasks.spawn("catalogue", Policy::Essential, async {});
        stop.requested().await;
        assert_eq!(tasks.join_all(SOON).await, Ok(()));
        let expected = TaskFailure {
            name: "catalogue",
            how: TaskEnd::Returned,
        };
        assert_eq!(tasks.first_failure(), Some(expected));
    }

    #[tokio::test]
    async fn a_panic_of_an_essential_task_stops_the_process_and_is_named() {
        let stop = Stop::new();
        let tasks = TaskSet::new(stop.clone());
        tasks.spawn("leader", Policy::Essential, async { panic!("on purpose") });
        stop.requested().await;
        let failure = tasks.first_failure().expect("the panic is recorded");
        assert_eq!(failure.to_string(), "task `leader` panicked");
    }

    #[tokio::test]
    async fn a_task_that_was_asked_to_stop_did_not_fail() {
        let stop = Stop::new();
        let tasks = TaskSet::new(stop.clone());
        let asked = stop.clone();
        tasks.spawn("gateway", Policy::Essential, async move {
            asked.requested().await
        });
        stop.request();
        assert_eq!(tasks.join_all(SOON).await, Ok(()));
        assert_eq!(tasks.first_failure(), None);
    }

    #[tokio::test]
    async fn the_end_of_a_best_effort_task_concerns_nobody() {
        let stop = Stop::new();
        let tasks = TaskSet::new(stop.clone());
        tasks.spawn("delivery", Policy::BestEffort, async {
            panic!("on purpose")
        });
        tasks.spawn("delivery", Policy::BestEffort, async {});
        assert_eq!(tasks.join_all(SOON).await, Ok(()));
        assert!(!stop.is_requested());
    }

    #[tokio::test]
    async fn a_missed_deadline_tells_the_names_of_those_still_alive() {
        let tasks = TaskSet::new(Stop::new());
        tasks.spawn("quick", Policy::BestEffort, async {});
        tasks.spawn("stuck", Policy::BestEffort, std::future::pending());
        tasks.spawn("stuck", Policy::BestEffort, std::future::pending());
        tasks
            .spawn("gone", Policy::Essential, std::future::pending())
            .abort();
        // One thread runs them all, so those that can end have ended before the timer is looked at.
        assert_eq!(
            tasks.join_all(Duration::from_millis(20)).await,
            Err(vec!["stuck"])
        );
        assert_eq!(tasks.first_failure(), None);
    }
}
