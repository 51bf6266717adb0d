//! The process's metrics as Prometheus text.

use std::time::Duration;

use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::stop::Stop;

/// Upper bounds for everything that is called `…_seconds`: from a packet on the loopback to the
/// longest timeout a check may have, about three buckets a decade, and closer around one second,
/// where lateness is judged.
const SECONDS: [f64; 18] = [
    0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5,
    2.5, 5.0, 15.0, 60.0,
];

/// How often samples are moved from the recorder's buffers into buckets when nobody scrapes, so
/// that the buffers stay small.
pub(super) const UPKEEP: Duration = Duration::from_secs(5);

/// A clonable view of the metrics.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Prometheus text, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Keeps the recorder small until `stop`. One task of a process runs this, or
    /// [`super::serve_metrics_unix`], which does it too.
    pub async fn upkeep(self, stop: Stop) {
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                biased;
                () = stop.requested() => return,
                _ = tick.tick() => self.tidy(),
            }
        }
    }

    /// Installs the process's recorder; `None` when there is one.
    pub(super) fn install() -> Option<Self> {
        let recorder = recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        Some(Self { handle })
    }

    pub(super) fn tidy(&self) {
        self.handle.run_upkeep();
    }

    #[cfg(test)]
    pub(super) fn of(recorder: &PrometheusRecorder) -> Self {
        Self {
            handle: recorder.handle(),
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

pub(super) fn recorder() -> PrometheusRecorder {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .expect("the list of buckets is not empty")
        .build_recorder()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_histogram_with_buckets() {
        let recorder = recorder();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("picket_probe_lateness_seconds").record(0.8);
        });
        let text = Metrics::of(&recorder).render();
        assert!(
            text.contains("picket_probe_lateness_seconds_bucket{le=\"0.75\"} 0"),
            "{text}"
        );
        assert!(
            text.contains("picket_probe_lateness_seconds_bucket{le=\"1\"} 1"),
            "{text}"
        );
    }

    #[test]
    fn buckets_grow() {
        assert!(SECONDS.is_sorted_by(|a, b| a < b));
    }
}
