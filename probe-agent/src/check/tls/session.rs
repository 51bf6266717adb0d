//! TLS sessions to resume, bounded in number.
//!
//! An agent watches more hosts than it can remember: past the bound the host that was first
//! remembered is forgotten, which costs it one full handshake. One ticket is kept per host, the
//! newest; a ticket is used once.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls_pki_types::ServerName;

/// Sessions by host.
pub(crate) struct SessionStore {
    hosts_max: usize,
    hosts: Mutex<Hosts>,
}

#[derive(Default)]
struct Hosts {
    known: HashMap<ServerName<'static>, Session>,
    /// Every key of `known` once, oldest first.
    order: VecDeque<ServerName<'static>>,
}

#[derive(Default)]
struct Session {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    ticket: Option<Tls13ClientSessionValue>,
}

impl SessionStore {
    pub(crate) fn new(hosts_max: usize) -> Self {
        Self {
            hosts_max: hosts_max.max(1),
            hosts: Mutex::default(),
        }
    }

    /// Drops what could be resumed with `host`.
    pub(crate) fn forget(&self, host: &ServerName<'static>) {
        if let Some(session) = self.lock().known.get_mut(host) {
            *session = Session::default();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hosts> {
        // Every change below is complete before the lock is given back.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, host: ServerName<'static>, change: impl FnOnce(&mut Session)) {
        let mut hosts = self.lock();
        if !hosts.known.contains_key(&host) {
            if hosts.order.len() >= self.hosts_max
                && let Some(oldest) = hosts.order.pop_front()
            {
                hosts.known.remove(&oldest);
            }
            hosts.order.push_back(host.clone());
        }
        change(hosts.known.entry(host).or_default());
    }
}

impl fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStore")
            .field("hosts_max", &self.hosts_max)
            .finish_non_exhaustive()
    }
}

impl ClientSessionStore for SessionStore {
    fn set_kx_hint(&self, host: ServerName<'static>, group: NamedGroup) {
        self.update(host, |session| session.group = Some(group));
    }

    fn kx_hint(&self, host: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock()
            .known
            .get(host)
            .and_then(|session| session.group)
    }

    fn set_tls12_session(&self, host: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.update(host, |session| session.tls12 = Some(value));
    }

    fn tls12_session(&self, host: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lock()
            .known
            .get(host)
            .and_then(|session| session.tls12.clone())
    }

    fn remove_tls12_session(&self, host: &ServerName<'static>) {
        if let Some(session) = self.lock().known.get_mut(host) {
            session.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, host: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.update(host, |session| session.ticket = Some(value));
    }

    fn take_tls13_ticket(&self, host: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.lock()
            .known
            .get_mut(host)
            .and_then(|session| session.ticket.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: usize) -> ServerName<'static> {
        ServerName::try_from(format!("h{n}.example")).unwrap()
    }

    #[test]
    fn the_oldest_host_makes_room() {
        let store = SessionStore::new(2);
        for n in 0..3 {
            store.set_kx_hint(host(n), NamedGroup::X25519);
        }
        assert_eq!(store.kx_hint(&host(0)), None);
        assert_eq!(store.kx_hint(&host(2)), Some(NamedGroup::X25519));
    }

    #[test]
    fn memory_stays_bounded_whatever_comes_and_goes() {
        let store = SessionStore::new(10);
        for n in 0..1_000 {
            store.set_kx_hint(host(n % 37), NamedGroup::X25519);
            store.forget(&host(n % 11));
            let hosts = store.lock();
            assert!(hosts.known.len() <= 10 && hosts.order.len() == hosts.known.len());
        }
    }

    #[test]
    fn a_forgotten_host_has_nothing_to_resume() {
        let store = SessionStore::new(2);
        store.set_kx_hint(host(1), NamedGroup::X25519);
        store.forget(&host(1));
        assert_eq!(store.kx_hint(&host(1)), None);
    }
}
