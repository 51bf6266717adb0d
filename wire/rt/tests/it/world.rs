//! What the tests stand on: a folder of its own, a mesh with one authority, messages.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use picket_rt::clock::Clock;
use picket_rt::identity::{AgentKey, Authority, Identity};
use picket_rt::quic::{AcceptError, Link, Mesh};
use picket_wire::codec::encode;
use picket_wire::control::FromAgent;
use picket_wire::envelope::Head;
use picket_wire::id::{AgentId, BlobHash, MemberId};
use picket_wire::time::Timestamp;

/// No wait on the loopback takes this long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that goes away with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("picket-rt-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub(crate) fn now() -> Timestamp {
    Clock::system().now()
}

/// An authority in a folder that is gone: it lives in memory.
pub(crate) fn authority() -> Authority {
    let folder = Folder::new();
    Authority::create(folder.path(), now()).unwrap()
}

pub(crate) fn member(authority: &Authority, number: u64) -> Identity {
    authority
        .issue_member(MemberId(number), &[], now())
        .unwrap()
}

pub(crate) fn agent(authority: &Authority, number: u32) -> Identity {
    let (key, request) = AgentKey::generate().unwrap();
    let certificate = authority
        .sign_agent(AgentId(number), &request, now())
        .unwrap();
    key.certified(&certificate, authority.certificate())
        .unwrap()
}

pub(crate) fn bind(identity: &Identity) -> Mesh {
    Mesh::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), identity).unwrap()
}

/// The listener's side of the next connection.
pub(crate) async fn accept(mesh: &Mesh) -> Result<Link, AcceptError> {
    soon(mesh.accept())
        .await
        .expect("the mesh is open")
        .complete()
        .await
}

/// Both ends of a connection from `dialler` to member `number`.
pub(crate) async fn joined(dialler: &Mesh, listener: &Mesh, number: u64) -> (Link, Link) {
    let addr = listener.local_addr().unwrap();
    let (near, far) =
        soon(async { tokio::join!(dialler.connect(addr, MemberId(number)), accept(listener)) })
            .await;
    (near.unwrap(), far.unwrap())
}

/// Ends the test with a message instead of letting it hang.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it should have happened by now")
}

/// A valid message with some `hashes` of payload.
pub(crate) fn message(hashes: usize) -> Vec<u8> {
    let wanted = (0..hashes)
        .map(|n| BlobHash::of(&n.to_le_bytes()))
        .collect();
    encode(&FromAgent::WantBlobs(wanted), Head::NONE)
}
