//! The agent's look at itself: can it reach what must be reachable?
//!
//! An agent whose own network fails sees the whole world fail. What several independent operators
//! run hardly fails all at once, so when more than half of the references do, the fault is here
//! and the agent has no say.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use picket_agent_core::Input;
use picket_rt::clock::Clock;
use picket_rt::stop::Stop;
use picket_wire::check::{Cadence, CheckKind, CheckSpec};
use picket_wire::id::{CheckId, EndpointId, SiteId};
use picket_wire::reason::{Reason, ReasonClass};
use picket_wire::time::Span;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::agent::News;
use crate::check::{Attempt, Prober};
use crate::config::Reference;

/// Between two rounds: an outage of the agent's own network is known before most of its checks
/// have failed twice.
const PERIOD: Duration = Duration::from_secs(5);
/// For one reference; they are near and always busy.
const TIMEOUT: Span = Span::from_secs(2);

/// Looks at the references until the process stops, and tells when the answer changes.
pub(crate) async fn watch(
    references: Vec<Reference>,
    prober: std::sync::Arc<Prober>,
    clock: Clock,
    news: mpsc::Sender<News>,
    stop: Stop,
) {
    let mut healthy = true;
    loop {
        let failed = round(&references, &prober, &clock).await;
        let now_healthy = failed * 2 <= references.len();
        if now_healthy != healthy {
            healthy = now_healthy;
            let (of, failed) = (references.len(), failed);
            tracing::warn!(
                healthy,
                failed,
                of,
                "this agent's own reference checks changed"
            );
            let input = Input::ReferenceHealth(healthy);
            if news.send(News::Input(input)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            biased;
            () = stop.requested() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// How many references fail, each tried twice.
async fn round(references: &[Reference], prober: &Prober, clock: &Clock) -> usize {
    let looks: FuturesUnordered<_> = references
        .iter()
        .map(async |reference| {
            let ok = look(reference, prober, clock).await || look(reference, prober, clock).await;
            if !ok {
                tracing::debug!(%reference, "a reference check failed");
            }
            usize::from(!ok)
        })
        .collect();
    looks.fold(0, async |sum, failed| sum + failed).await
}

async fn look(reference: &Reference, prober: &Prober, clock: &Clock) -> bool {
    match reference {
        Reference::Tcp(address) => {
            let connect = TcpStream::connect(address.as_str());
            matches!(
                tokio::time::timeout(TIMEOUT.to_std(), connect).await,
                Ok(Ok(_))
            )
        }
        Reference::Http(http) => {
            let spec = CheckSpec {
                id: CheckId(0),
                endpoint: EndpointId(0),
                site: SiteId(0),
                cadence: Cadence::from_secs(5).expect("five seconds are an interval"),
                timeout: TIMEOUT,
                kind: CheckKind::Http(http.clone()),
            };
            let probe = prober.probe(&spec, clock.now(), Attempt::Retry).await;
            // An address that this agent may not probe says nothing about its network.
            probe.is_ok() || probe.reason.map(Reason::class) == Some(ReasonClass::Blocked)
        }
    }
}
