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
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.set_send_buffer_size(BUFFER_BYTES)?;
    warn_if_small("receive", socket.recv_buffer_size()?, "net.core.rmem_max");
    warn_if_small("send", socket.send_buffer_size()?, "net.core.wmem_max");
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Linux grants what its limit allows without complaint, and reports twice what it granted.
fn warn_if_small(direction: &str, granted: usize, limit: &str) {
    if granted < BUFFER_BYTES {
        tracing::warn!(
            direction,
            granted,
            wanted = BUFFER_BYTES,
            limit,
            "small UDP buffer"
        );
    }
}
