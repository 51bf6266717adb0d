//! The UDP socket under the mesh.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// What we ask the kernel to buffer in each direction: a second of a storm's evidence from 256
/// agents, and the usual upper limit (`net.core.rmem_max`) of a server. The defaults are an order
/// of magnitude smaller and lose packets while a core is busy.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Opens a socket at `addr`; one on `[::]` speaks IPv4 too.
pub(super) fn open(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket
        .set_recv_buffer_size(BUFFER_BYTES)
        .and_then(|()| socket.recv_buffer_size())
        .map_or_else(
            |error| without("receive", &error),
            |got| judge("receive", got),
        );
    socket
        .set_send_buffer_size(BUFFER_BYTES)
        .and_then(|()| socket.send_buffer_size())
        .map_or_else(|error| without("send", &error), |got| judge("send", got));
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Linux grants what `net.core.rmem_max` and `wmem_max` allow, without complaint, and reports
/// twice what it granted (socket(7)).
fn judge(direction: &str, reported: usize) {
    let granted = if cfg!(target_os = "linux") {
        reported / 2
    } else {
        reported
    };
    if granted < BUFFER_BYTES {
        tracing::warn!(
            direction,
            granted,
            wanted = BUFFER_BYTES,
            "small UDP buffer"
        );
    }
}

fn without(direction: &str, error: &io::Error) {
    tracing::warn!(direction, %error, wanted = BUFFER_BYTES, "the UDP buffer keeps its default size");
}
