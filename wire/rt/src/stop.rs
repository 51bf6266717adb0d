//! The request to stop, seen by every task of a process.
//!
//! A stop is a level, not an event: once requested it stays requested, so a task that looks late
//! sees it all the same. A child stops with its parent but can be stopped alone: one connection,
//! one term of leadership.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::task;

/// What a shell reports for a process that was interrupted: 128 + SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// A clonable handle on one request to stop.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    token: CancellationToken,
}

impl Stop {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everybody who holds this handle or a child of it to stop.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns once somebody asked; at once if that lies in the past. Safe to cancel.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// A request that follows this one but can also be made alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            token: self.token.child_token(),
        }
    }

    /// Turns the first SIGINT or SIGTERM into a request. A second one ends the process at once:
    /// whoever asks twice does not want to wait for an orderly end.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn listen_for_signals(&self) -> io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = self.clone();
        task::for_the_life_of_the_process(async move {
            let name = either(&mut interrupt, &mut terminate).await;
            tracing::info!(signal = name, "stopping");
            stop.request();
            let name = either(&mut interrupt, &mut terminate).await;
            tracing::warn!(
                signal = name,
                "second signal, leaving without an orderly stop"
            );
            exit_at_once();
        });
        Ok(())
    }

    /// Turns the end of standard input into a request: whoever started this process and holds the
    /// other end is gone, however it went.
    ///
    /// # Errors
    /// When the thread that reads cannot be started.
    pub fn listen_for_parent(&self) -> io::Result<()> {
        let stop = self.clone();
        let watching = move || {
            // However reading ends, nobody is left who could hold the other end.
            drop(io::copy(&mut io::stdin(), &mut io::sink()));
            stop.request();
        };
        let thread = std::thread::Builder::new().name("parent".to_owned());
        thread.spawn(watching).map(drop)
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        biased;
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[expect(
    clippy::exit,
    reason = "a second signal means: now, without running destructors"
)]
fn exit_at_once() -> ! {
    std::process::exit(EXIT_INTERRUPTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_was_made_before_the_wait_is_seen() {
        let stop = Stop::new();
        assert!(!stop.is_requested());
        stop.clone().request();
        stop.requested().await;
        assert!(stop.is_requested());
    }

    #[test]
    fn a_child_stops_with_its_parent_but_not_the_other_way_round() {
        let parent = Stop::new();
        let (first, second) = (parent.child(), parent.child());
        first.request();
        assert!(first.is_requested() && !second.is_requested() && !parent.is_requested());
        parent.request();
        assert!(second.is_requested());
    }
}
