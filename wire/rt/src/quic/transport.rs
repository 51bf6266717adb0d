//! What QUIC may use: time, streams, memory.
//!
//! A stranger gets room for one request until it has shown who it is; only then are the limits
//! raised to what an agent or a member needs.

use std::sync::Arc;
use std::time::Duration;

use picket_wire::limits::UNI_STREAMS_MAX;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, IdleTimeout, ServerConfig, TransportConfig, VarInt};

/// A silent link is given up after this: one and a third lease renewals.
const IDLE_MS: u32 = 12_000;
/// Keeps a quiet link and the address translations on its way alive: three may be lost.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Streams in both directions at once: one control stream and some requests between members.
const BI_STREAMS: u32 = 8;
/// Bytes of one stream that may wait unread: ten full catalogue blobs.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes of one connection that may wait unread. The default is without limit.
const RECEIVE_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes that may wait for the peer to acknowledge them.
const SEND_WINDOW: u64 = 4 * 1024 * 1024;

/// What a stranger may leave unread: an enrolment request, twice.
const STRANGER_WINDOW: u32 = 32 * 1024;
/// One request.
const STRANGER_BI_STREAMS: u32 = 1;

/// Connections that knocked and were not taken up yet.
const INCOMING_MAX: usize = 1_024;
/// What one of them may send ahead.
const INCOMING_BYTES: u64 = 64 * 1024;
/// What all of them together may send ahead.
const INCOMING_TOTAL_BYTES: u64 = 16 * 1024 * 1024;

pub(super) fn dialler(tls: QuicClientConfig) -> ClientConfig {
    let mut transport = common();
    transport
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(BI_STREAMS));
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    config
}

pub(super) fn listener(tls: QuicServerConfig) -> ServerConfig {
    let mut transport = common();
    transport
        .receive_window(VarInt::from_u32(STRANGER_WINDOW))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_concurrent_bidi_streams(VarInt::from_u32(STRANGER_BI_STREAMS));
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config
        .transport_config(Arc::new(transport))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_TOTAL_BYTES);
    config
}

/// Gives a peer that has shown who it is what it needs.
pub(super) fn raise_limits(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(RECEIVE_WINDOW));
    connection.set_max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(BI_STREAMS));
}

fn common() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None);
    transport
}
