//! One task per probe, and the trace that begins with one that fails.

use std::sync::Arc;
use std::time::Duration;

use picket_agent_core as core;
use picket_agent_core::{Input, Ticket};
use picket_rt::stop::Stop;
use picket_rt::task::{Policy, TaskSet};
use picket_rt::telemetry::PastSpan;
use picket_wire::check::CheckSpec;
use picket_wire::evidence::TraceContext;
use picket_wire::outcome::Probe;
use picket_wire::time::Timestamp;
use tokio::sync::mpsc;

use crate::check::{Attempt, Prober};
use crate::telemetry;

/// Starts probes; what they found comes out of the queue it was made with.
#[derive(Debug, Clone)]
pub(crate) struct Probers {
    tasks: TaskSet,
    stop: Stop,
    prober: Arc<Prober>,
    done: mpsc::Sender<Input>,
}

/// One probe to make.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) ticket: Ticket,
    pub(crate) spec: Arc<CheckSpec>,
    pub(crate) due: Timestamp,
    pub(crate) attempt: core::Attempt,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) believed_failing: bool,
}

impl Probers {
    /// Probes are tasks of `tasks`; `done` must have room for every probe that may be in flight.
    pub(crate) const fn new(
        tasks: TaskSet,
        stop: Stop,
        prober: Arc<Prober>,
        done: mpsc::Sender<Input>,
    ) -> Self {
        Self {
            tasks,
            stop,
            prober,
            done,
        }
    }

    /// Starts one.
    pub(crate) fn start(&self, job: Job) {
        let (prober, done, stop) = (self.prober.clone(), self.done.clone(), self.stop.clone());
        self.tasks.spawn("probe", Policy::BestEffort, async move {
            let probe = tokio::select! {
                biased;
                probe = prober.probe(&job.spec, job.due, how(job.attempt)) => probe,
                () = stop.requested() => return,
            };
            telemetry::probed(&job.spec, job.attempt, &probe);
            let trace = trace_of(&job, &probe);
            let ticket = job.ticket;
            if done
                .send(Input::Probed {
                    ticket,
                    probe,
                    trace,
                })
                .await
                .is_err()
            {
                tracing::debug!("the loop has ended");
            }
        });
    }
}

const fn how(attempt: core::Attempt) -> Attempt {
    match attempt {
        core::Attempt::Scheduled => Attempt::Scheduled,
        core::Attempt::Retry => Attempt::Retry,
        core::Attempt::Vote => Attempt::Vote,
    }
}

/// A span for what may become news: a failure that nobody knows of begins a trace; its second try,
/// and the votes about it, continue one and never begin their own. Any other probe leaves none.
fn trace_of(job: &Job, probe: &Probe) -> Option<TraceContext> {
    let is_due = job.attempt == core::Attempt::Scheduled;
    let begins = is_due && !probe.is_ok() && !job.believed_failing;
    if !begins && job.trace.is_none() {
        return None;
    }
    tracing::debug!(check = %job.spec.id, detail = %probe.detail, "probed");
    let reason = probe.reason.map(|reason| reason.name());
    let span = PastSpan {
        name: "probe",
        began: probe.at,
        took: Duration::from_micros(probe.phases.total_us.into()),
        parent: job.trace,
        error: reason,
        attributes: &[
            ("check", &job.spec.id),
            ("endpoint", &job.spec.endpoint),
            ("attempt", &job.attempt.name()),
            ("reason", &reason.unwrap_or("ok")),
        ],
    };
    span.tell()
}
