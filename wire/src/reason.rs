//! Why a probe was not ok: a closed, countable list.
//!
//! The name of a variant in snake case is its label in metrics, its text in the API and its value
//! in Postgres. Numbers are part of the wire and of the Raft log: never reuse one.

#![allow(
    missing_debug_implementations,
    reason = "rkyv's derive writes resolvers without it; our own types have it"
)]

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal;)*) => {
        /// Why a probe was not ok.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize,
            Deserialize, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
        )]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $name)] $variant = $code,)*
        }

        impl Reason {
            /// Every reason, in the order of its code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name used in metrics, the API and Postgres.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The number used on the wire.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)* }
            }

            /// The reason with this number, if there is one.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// The reason with this name, if there is one.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

reasons! {
    /// The name does not exist (RFC 1035 RCODE 3).
    DnsNxdomain = 1, "dns_nxdomain";
    /// The resolver answered with a failure (RCODE 2 or 5).
    DnsServfail = 2, "dns_servfail";
    /// No answer from any resolver in time.
    DnsTimeout = 3, "dns_timeout";
    /// The name exists and has no address.
    DnsNoAddress = 4, "dns_no_address";
    /// Every address lies in a range that this agent may not probe.
    AddressBlocked = 5, "address_blocked";
    /// The agent could not probe: out of sockets, ports or memory, or a bug of its own.
    AgentFault = 6, "agent_fault";
    /// The connection was refused (TCP RST to SYN).
    ConnectRefused = 10, "connect_refused";
    /// No answer to the connection attempt in time.
    ConnectTimeout = 11, "connect_timeout";
    /// The network or host is unreachable.
    ConnectUnreachable = 12, "connect_unreachable";
    /// The connection was reset while it was set up or used.
    ConnectionReset = 13, "connection_reset";
    /// The TLS handshake failed for a reason other than the certificate.
    TlsHandshake = 20, "tls_handshake";
    /// The TLS handshake did not end in time.
    TlsTimeout = 21, "tls_timeout";
    /// The certificate has expired.
    TlsExpired = 22, "tls_expired";
    /// The certificate is not valid yet.
    TlsNotYetValid = 23, "tls_not_yet_valid";
    /// The certificate names another host.
    TlsWrongHost = 24, "tls_wrong_host";
    /// The chain ends in no trusted root.
    TlsUntrusted = 25, "tls_untrusted";
    /// The certificate is broken in another way.
    TlsBadCertificate = 26, "tls_bad_certificate";
    /// No response head in time.
    HttpTimeout = 30, "http_timeout";
    /// The response is not HTTP, or its head is too large.
    HttpMalformed = 31, "http_malformed";
    /// The connection was closed before the response head ended.
    HttpClosed = 32, "http_closed";
    /// A 4xx status where another was expected.
    Http4xx = 33, "http_4xx";
    /// A 5xx status where another was expected.
    Http5xx = 34, "http_5xx";
    /// Another status than expected.
    HttpStatus = 35, "http_status";
    /// The body did not end in time.
    BodyTimeout = 40, "body_timeout";
    /// The body ended before its announced length.
    BodyTruncated = 41, "body_truncated";
    /// The body lacks the expected text.
    BodyMismatch = 42, "body_mismatch";
}

/// What kind of trouble a reason is, for people and for correlation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReasonClass {
    /// Names do not resolve.
    Dns,
    /// This agent may not or cannot probe; never the site's fault.
    Blocked,
    /// No connection.
    Connect,
    /// TLS fails.
    Tls,
    /// HTTP fails.
    Http,
    /// The body is wrong.
    Body,
}

impl Reason {
    /// The class this reason belongs to.
    #[must_use]
    pub const fn class(self) -> ReasonClass {
        match self.code() {
            0..5 => ReasonClass::Dns,
            5..10 => ReasonClass::Blocked,
            10..20 => ReasonClass::Connect,
            20..30 => ReasonClass::Tls,
            30..40 => ReasonClass::Http,
            _ => ReasonClass::Body,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_lead_back_to_the_reason() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
            assert_eq!(Reason::from_name(reason.name()), Some(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
        assert_eq!(Reason::from_code(0), None);
    }
}
