//! The HTTP and HTTPS check: request, expectation.

use rkyv::{Archive, Deserialize, Serialize};

use crate::check::SpecError;
use crate::limits::{HOST_MAX_BYTES, NEEDLE_MAX_BYTES, URL_MAX_BYTES};

/// The request method.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
}

/// How the connection of a probe is made.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Handshake {
    /// A new connection and a full handshake each time: true phases, certificate always seen.
    Full,
    /// Sessions are resumed; every twentieth probe and every retry is full, because resumption
    /// skips the certificate.
    Resumed,
}

/// What to request and what to expect.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct HttpSpec {
    /// HTTPS rather than HTTP.
    pub tls: bool,
    /// Host name or IP literal without brackets, lower case.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub target: String,
    /// The method.
    pub method: Method,
    /// Lowest status that is ok.
    pub status_min: u16,
    /// Highest status that is ok.
    pub status_max: u16,
    /// Text that the body must contain within its first 64 KiB.
    pub body_contains: Option<String>,
    /// How TLS connections are made.
    pub handshake: Handshake,
}

impl HttpSpec {
    /// The check of a plain URL with every default: GET, status 200 to 399, full handshake.
    ///
    /// The URL is split by the caller, so that this crate parses no URLs.
    #[must_use]
    pub fn plain(tls: bool, host: String, port: u16, target: String) -> Self {
        Self {
            tls,
            host,
            port,
            target,
            method: Method::Get,
            status_min: 200,
            status_max: 399,
            body_contains: None,
            handshake: Handshake::Full,
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the first field that breaks its rule.
    pub fn validate(&self) -> Result<(), SpecError> {
        let refuse = |field, expected, got: &str| {
            Err(SpecError::Field {
                field,
                expected,
                got: got.chars().take(64).collect(),
            })
        };
        let graphic = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        if self.host.is_empty() || self.host.len() > HOST_MAX_BYTES || !graphic(&self.host) {
            return refuse("host", "1 to 253 visible ASCII characters", &self.host);
        }
        if self.port == 0 {
            return refuse("port", "1 to 65535", "0");
        }
        if !self.target.starts_with('/')
            || self.target.len() > URL_MAX_BYTES
            || !graphic(&self.target)
        {
            return refuse(
                "target",
                "a path of visible ASCII characters beginning with `/`",
                &self.target,
            );
        }
        let statuses = 100..=599;
        if !statuses.contains(&self.status_min)
            || !statuses.contains(&self.status_max)
            || self.status_min > self.status_max
        {
            return refuse(
                "status",
                "a range within 100 to 599",
                &format!("{}-{}", self.status_min, self.status_max),
            );
        }
        match &self.body_contains {
            Some(needle) if needle.is_empty() || needle.len() > NEEDLE_MAX_BYTES => {
                refuse("body_contains", "1 to 256 bytes", needle)
            }
            _ => Ok(()),
        }
    }

    /// The URL, as people write it.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let default_port = if self.tls { 443 } else { 80 };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == default_port {
            format!("{scheme}://{host}{}", self.target)
        } else {
            format!("{scheme}://{host}:{}{}", self.port, self.target)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_shows_a_port_only_where_it_is_needed() {
        let spec =
            |tls, host: &str, port| HttpSpec::plain(tls, host.to_owned(), port, "/a?b".to_owned());
        assert_eq!(
            spec(true, "example.org", 443).url(),
            "https://example.org/a?b"
        );
        assert_eq!(spec(false, "::1", 8080).url(), "http://[::1]:8080/a?b");
    }

    #[test]
    fn a_target_that_could_split_a_request_is_refused() {
        let mut spec = HttpSpec::plain(false, "h".to_owned(), 80, "/a\r\nX: y".to_owned());
        assert!(spec.validate().is_err());
        spec.target = "/a".to_owned();
        assert_eq!(spec.validate(), Ok(()));
    }
}
