//! One task per probe, and the trace that begins with one that fails.

use std::sync::Arc;

use picket_agent_core as core;
use picket_agent_core::{Input, Ticket};
use picket_rt::stop::Stop;
use picket_rt::task::{Policy, TaskSet};
use picket_rt::telemetry::{current_trace, set_parent};
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
            let Job {
                ticket,
                spec,
                due,
                attempt,
                trace,
            } = job;
            let probe = tokio::select! {
                biased;
                probe = prober.probe(&spec, due, how(attempt)) => probe,
                () = stop.requested() => return,
            };
            telemetry::probed(&spec, attempt, &probe);
            let trace = trace_of(&spec, attempt, &probe, trace);
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

/// A span for what may become news: a failure begins a trace; its second try, and the votes about
/// it, continue one and never begin their own. A probe that went as ever leaves none.
fn trace_of(
    spec: &CheckSpec,
    attempt: core::Attempt,
    probe: &Probe,
    parent: Option<TraceContext>,
) -> Option<TraceContext> {
    let begins = attempt == core::Attempt::Scheduled && !probe.is_ok();
    if !begins && parent.is_none() {
        return None;
    }
    let span = tracing::info_span!(
        "probe",
        check = %spec.id,
        endpoint = %spec.endpoint,
        attempt = ?attempt,
        reason = probe.reason.map_or("ok", |reason| reason.name()),
        total_us = probe.phases.total_us,
    );
    if let Some(parent) = parent {
        set_parent(&span, parent);
    }
    span.in_scope(|| {
        tracing::debug!(detail = %probe.detail, "probed");
        current_trace()
    })
}
