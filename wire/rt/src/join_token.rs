//! The text that lets a new agent in, once.
//!
//! It carries a secret, which proves that somebody with authority asked for this agent, and the
//! fingerprint of the mesh's CA, by which the agent knows the mesh before it gives the secret away.
//! A checksum tells a token that was cut in copying from one that is wrong.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// What every token begins with, so that a scanner for leaked secrets can find one.
const PREFIX: &str = "pkt_";

/// 256 bits: nothing to guess even with the hash at hand.
const SECRET_BYTES: usize = 32;

/// Length of the secret's text: 32 bytes in base64 without padding.
const SECRET_CHARS: usize = 43;

/// First bytes of a SHA-256: enough against mistakes, and not a defence.
const CHECKSUM_BYTES: usize = 4;

/// A join token. Prints as itself; in `Debug` the secret is left out.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    secret: String,
    ca_fingerprint: [u8; 32],
}

/// Text that is not a join token. Never repeats the text, which may be nearly a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseJoinTokenError {
    /// It is something else.
    #[error("a join token begins with `{PREFIX}`")]
    Prefix,
    /// It does not have three parts.
    #[error("a join token has three parts separated by `.`, this has {0}; it may have been cut")]
    Parts(usize),
    /// The secret has a wrong length or alphabet.
    #[error(
        "the first part of a join token has {SECRET_CHARS} characters of A-Z, a-z, 0-9, `-` and `_`"
    )]
    Secret,
    /// The fingerprint has a wrong length or alphabet.
    #[error("the second part of a join token is a fingerprint of 64 hexadecimal digits")]
    Fingerprint,
    /// The parts do not belong together.
    #[error("the checksum of the join token does not match; it may have been cut or mistyped")]
    Checksum,
}

/// The system has no randomness to give.
#[derive(Debug, thiserror::Error)]
#[error("read random bytes from the system")]
pub struct RandomError(#[source] pub(crate) getrandom::Error);

impl JoinToken {
    /// A new token for the mesh whose CA certificate has this fingerprint.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate(ca_fingerprint: [u8; 32]) -> Result<Self, RandomError> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(RandomError)?;
        Ok(Self {
            secret: URL_SAFE_NO_PAD.encode(bytes),
            ca_fingerprint,
        })
    }

    /// The secret part, which goes into an enrolment request.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// SHA-256 of the CA certificate (DER) of the mesh that issued the token.
    #[must_use]
    pub const fn ca_fingerprint(&self) -> [u8; 32] {
        self.ca_fingerprint
    }

    /// What the mesh stores in place of the secret.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash_secret(&self.secret)
    }

    fn body(&self) -> String {
        format!("{PREFIX}{}.{}", self.secret, hex(&self.ca_fingerprint))
    }
}

/// SHA-256 of a secret's text, to be compared with a stored [`JoinToken::hash`]. A hash without
/// salt or stretching is enough for 256 random bits.
#[must_use]
pub fn hash_secret(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body();
        write!(f, "{body}.{}", checksum(&body))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("secret", &"…")
            .field("ca_fingerprint", &hex(&self.ca_fingerprint))
            .finish()
    }
}

impl FromStr for JoinToken {
    type Err = ParseJoinTokenError;

    fn from_str(text: &str) -> Result<Self, ParseJoinTokenError> {
        let rest = text
            .trim()
            .strip_prefix(PREFIX)
            .ok_or(ParseJoinTokenError::Prefix)?;
        let parts: Vec<&str> = rest.split('.').collect();
        let [secret, fingerprint, sum] = parts[..] else {
            return Err(ParseJoinTokenError::Parts(parts.len()));
        };
        let decoded = URL_SAFE_NO_PAD
            .decode(secret)
            .map_err(|_not_base64| ParseJoinTokenError::Secret)?;
        if decoded.len() != SECRET_BYTES {
            return Err(ParseJoinTokenError::Secret);
        }
        let ca_fingerprint = unhex(fingerprint).ok_or(ParseJoinTokenError::Fingerprint)?;
        let token = Self {
            secret: secret.to_owned(),
            ca_fingerprint,
        };
        if checksum(&token.body()) != sum {
            return Err(ParseJoinTokenError::Checksum);
        }
        Ok(token)
    }
}

fn checksum(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    hex(digest
        .get(..CHECKSUM_BYTES)
        .expect("a SHA-256 has 32 bytes"))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken::generate([0xab; 32]).expect("the system has randomness")
    }

    fn refusal(text: &str) -> ParseJoinTokenError {
        text.parse::<JoinToken>().expect_err("not a token")
    }

    #[test]
    fn a_token_reads_back_what_it_prints() {
        let token = token();
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
        assert_eq!(format!(" {token}\n").parse(), Ok(token));
    }

    #[test]
    fn two_tokens_differ() {
        assert_ne!(token().secret(), token().secret());
    }

    #[test]
    fn the_hash_of_a_token_is_the_hash_of_what_the_agent_sends() {
        let token = token();
        assert_eq!(token.hash(), hash_secret(token.secret()));
    }

    #[test]
    fn an_error_says_what_is_wrong_and_never_repeats_the_text() {
        let text = token().to_string();
        let (body, _) = text.rsplit_once('.').expect("three parts");
        let (secret, fingerprint) = body.split_once('.').expect("two parts");
        let cases = [
            ("token_abc".to_owned(), ParseJoinTokenError::Prefix),
            (body.to_owned(), ParseJoinTokenError::Parts(2)),
            (format!("{text}.x"), ParseJoinTokenError::Parts(4)),
            (
                text.replace(secret, "pkt_short"),
                ParseJoinTokenError::Secret,
            ),
            (
                text.replace(secret, &format!("{secret}AAAA")),
                ParseJoinTokenError::Secret,
            ),
            (
                text.replace(fingerprint, "abcd"),
                ParseJoinTokenError::Fingerprint,
            ),
            (
                text.replace(fingerprint, &"é".repeat(32)),
                ParseJoinTokenError::Fingerprint,
            ),
            (text.replace("abab", "abac"), ParseJoinTokenError::Checksum),
            (
                text[..text.len() - 1].to_owned(),
                ParseJoinTokenError::Checksum,
            ),
        ];
        for (text, expected) in cases {
            let error = refusal(&text);
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains(&secret[PREFIX.len()..]));
        }
    }

    #[test]
    fn the_secret_does_not_appear_in_debug_output() {
        let token = token();
        assert!(!format!("{token:?}").contains(token.secret()));
    }

    #[test]
    fn the_text_form_is_pinned() {
        let token = JoinToken {
            secret: URL_SAFE_NO_PAD.encode([1; 32]),
            ca_fingerprint: [2; 32],
        };
        let text = token.to_string();
        assert!(
            text.starts_with("pkt_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE.0202"),
            "{text}"
        );
        assert_eq!(
            text.len(),
            PREFIX.len() + SECRET_CHARS + 1 + 64 + 1 + 2 * CHECKSUM_BYTES
        );
    }
}
