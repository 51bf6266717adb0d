//! `picket events`: follows changes of state as they are decided.

use clap::Args;
use http_body_util::BodyExt;
use picket_wire::api::events::Event;
use picket_wire::id::FactSeq;

use crate::cmd::{Context, Query};
use crate::exit::Exit;
use crate::print::{data, maybe, note};

/// Longest event: a URL of 2 KiB with room to spare.
const EVENT_MAX_BYTES: usize = 16 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Begin after this fact; only what is new when absent.
    #[arg(long)]
    after: Option<u64>,
}

impl Events {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let mut after = self.after.map(FactSeq);
        loop {
            tokio::select! {
                followed = follow(context, &mut after) => followed?,
                _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
            }
            note("the stream ended; connecting again");
        }
    }
}

/// Reads one stream to its end; `after` moves along, so that the next one continues.
async fn follow(context: &Context, after: &mut Option<FactSeq>) -> anyhow::Result<()> {
    let query = Query::new("/api/v1/events").with("after", *after);
    let mut body = context.client.stream(query.path()).await?;
    let mut buffer = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Ok(()) };
        let Some(bytes) = frame.data_ref() else {
            continue;
        };
        buffer.extend_from_slice(bytes);
        while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = buffer.drain(..end + 2).collect();
            if let Some(event) = parse(&block)? {
                *after = Some(event.fact);
                show(context, &event);
            }
        }
        anyhow::ensure!(
            buffer.len() <= EVENT_MAX_BYTES,
            "an event is longer than {EVENT_MAX_BYTES} bytes"
        );
    }
    Ok(())
}

fn parse(block: &[u8]) -> anyhow::Result<Option<Event>> {
    let text = std::str::from_utf8(block)?;
    let payload: String = text
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(str::trim_start)
        .collect();
    if payload.is_empty() {
        Ok(None)
    } else {
        Ok(Some(serde_json::from_str(&payload)?))
    }
}

fn show(context: &Context, event: &Event) {
    if context.printer.for_people() {
        data(&format!(
            "{}  {:>10} → {:<10} {:<18} {}  {}",
            event.at,
            event.from.name(),
            event.to.name(),
            maybe(event.reason),
            event.endpoint,
            event.url
        ));
    } else {
        data(&serde_json::to_string(event).expect("bodies of the API have string keys only"));
    }
}
