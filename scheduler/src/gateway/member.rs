//! Another member's connection: one request and one reply per stream.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use picket_rt::quic::quinn::{RecvStream, SendStream};
use picket_rt::quic::{self, Link};
use picket_wire::codec::{decode, encode};
use picket_wire::envelope::Head;
use picket_wire::limits::{DETAIL_MAX_BYTES, PAYLOAD_MAX_BYTES};
use picket_wire::peer::{PeerReply, PeerRequest, RaftMessage};

use super::Gateway;
use crate::consensus::{SNAPSHOT_MAX_BYTES, ServeError, snapshot_head};

/// Answers requests until the connection ends. How many are under way at once is bounded by the
/// streams that the transport lets a peer open.
pub(super) async fn serve(gateway: &Gateway, link: &Link) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = under_way.next() => {}
            stream = link.connection.accept_bi() => match stream {
                Ok((send, receive)) => under_way.push(exchange(gateway, send, receive)),
                Err(_closed) => return,
            },
        }
    }
}

async fn exchange(gateway: &Gateway, mut send: SendStream, mut receive: RecvStream) {
    let Ok(Some(message)) = quic::read_message(&mut receive, PAYLOAD_MAX_BYTES).await else {
        return;
    };
    let reply = match decode::<PeerRequest>(&message) {
        Ok((_head, request)) => answer(gateway, request, &mut receive).await,
        Err(error) => failed(&error),
    };
    // Whoever asked may have given up; that is its business.
    drop(quic::reply(&mut send, &encode(&reply, Head::default())).await);
}

async fn answer(gateway: &Gateway, request: PeerRequest, body: &mut RecvStream) -> PeerReply {
    match request {
        PeerRequest::Raft(message) => match raft(gateway, message, body).await {
            Ok(bytes) => PeerReply::Raft(bytes),
            Err(error) => failed(&error),
        },
        PeerRequest::Propose(command) => gateway.context.replica.propose_forwarded(&command).await,
        PeerRequest::Observe(checks) => crate::observed::answer(&gateway.context, &checks),
        PeerRequest::Blob(hash) => PeerReply::Blob(
            gateway
                .context
                .blobs
                .local(&hash)
                .await
                .map(|bytes| bytes.to_vec()),
        ),
    }
}

async fn raft(
    gateway: &Gateway,
    message: RaftMessage,
    body: &mut RecvStream,
) -> Result<Vec<u8>, ServeError> {
    let Some(head) = snapshot_head(&message)? else {
        return gateway.consensus.serve(message).await;
    };
    let data = read_body(body, head.bytes)
        .await
        .ok_or(ServeError::Snapshot)?;
    gateway.consensus.install(head, data).await
}

/// Reads exactly `bytes` bytes; memory grows with what arrives, not with what was announced.
async fn read_body(stream: &mut RecvStream, bytes: u64) -> Option<Bytes> {
    if bytes > SNAPSHOT_MAX_BYTES {
        return None;
    }
    let whole = usize::try_from(bytes).ok()?;
    let mut data = Vec::new();
    while data.len() < whole {
        let chunk = stream.read_chunk(whole - data.len(), true).await.ok()??;
        data.extend_from_slice(&chunk.bytes);
    }
    Some(Bytes::from(data))
}

fn failed(error: &dyn std::error::Error) -> PeerReply {
    let mut why = picket_rt::chain(error).to_string();
    let cut = (0..=DETAIL_MAX_BYTES.min(why.len()))
        .rev()
        .find(|&at| why.is_char_boundary(at));
    why.truncate(cut.unwrap_or(0));
    PeerReply::Failed(why)
}
