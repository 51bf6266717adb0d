//! The stored form of a check kind: one JSON document per kind, pinned by a golden test.
//!
//! It is apart from the wire's type, so that the wire can change without a migration. A new kind is
//! one document type and one arm in each of the three functions.

use picket_wire::check::CheckKind;
use picket_wire::check::http::{Handshake, HttpSpec, Method};
use serde::{Deserialize, Serialize};

use crate::pg::PgError;

/// The document of kind `http`; what is absent has its default.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredHttp {
    tls: bool,
    host: String,
    port: u16,
    target: String,
    method: Method,
    status_min: u16,
    status_max: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_contains: Option<String>,
    handshake: Handshake,
}

/// The document of a kind.
pub(crate) fn document(kind: &CheckKind) -> String {
    match kind {
        CheckKind::Http(http) => to_json(&StoredHttp {
            tls: http.tls,
            host: http.host.clone(),
            port: http.port,
            target: http.target.clone(),
            method: http.method,
            status_min: http.status_min,
            status_max: http.status_max,
            body_contains: http.body_contains.clone(),
            handshake: http.handshake,
        }),
    }
}

/// The address that a kind looks at, as people write it.
pub(crate) fn address(kind: &CheckKind) -> String {
    match kind {
        CheckKind::Http(http) => http.url(),
    }
}

/// Reads a document of the named kind.
pub(crate) fn parse(kind: &str, document: &str) -> Result<CheckKind, PgError> {
    match kind {
        "http" => {
            let http: StoredHttp =
                serde_json::from_str(document).map_err(|e| PgError::stored("checks.spec", e))?;
            Ok(CheckKind::Http(HttpSpec {
                tls: http.tls,
                host: http.host,
                port: http.port,
                target: http.target,
                method: http.method,
                status_min: http.status_min,
                status_max: http.status_max,
                body_contains: http.body_contains,
                handshake: http.handshake,
            }))
        }
        other => Err(PgError::stored("checks.kind", other)),
    }
}

fn to_json(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("documents have string keys and no failing fields")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_http_document_keeps_its_form() {
        let mut http = HttpSpec::plain(true, "example.org".to_owned(), 443, "/a?b".to_owned());
        let plain = CheckKind::Http(http.clone());
        assert_eq!(
            document(&plain),
            r#"{"tls":true,"host":"example.org","port":443,"target":"/a?b","method":"GET","status_min":200,"status_max":399,"handshake":"full"}"#
        );
        assert_eq!(parse("http", &document(&plain)).unwrap(), plain);
        http.body_contains = Some("ok".to_owned());
        let needle = CheckKind::Http(http);
        assert_eq!(parse("http", &document(&needle)).unwrap(), needle);
    }

    #[test]
    fn an_unknown_kind_or_field_is_refused() {
        assert!(parse("gopher", "{}").is_err());
        assert!(parse("http", r#"{"tls":true,"surprise":1}"#).is_err());
    }
}
