//! What is made once, before a member first runs: the authority, certificates, the first token.

use std::path::{Path, PathBuf};

use picket_rt::clock::Clock;
use picket_rt::identity::{Authority, IdentityError};
use picket_rt::join_token::hash_secret;
use picket_wire::id::MemberId;

/// Bytes of randomness in an API token.
const TOKEN_BYTES: usize = 32;
/// What every API token begins with, so that it is recognised where it should not be.
pub const TOKEN_PREFIX: &str = "pka_";

/// Why something was not made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The authority cannot be created or read.
    #[error("certificate authority in `{}`", .dir.display())]
    Authority {
        /// Where.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: IdentityError,
    },
    /// The certificate cannot be signed.
    #[error("sign the certificate of {member}")]
    Sign {
        /// Whose.
        member: MemberId,
        /// Why not.
        #[source]
        source: IdentityError,
    },
    /// A file cannot be written.
    #[error("write `{}`", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The system gave no random bytes.
    #[error("the system has no randomness")]
    Random,
}

/// Creates a certificate authority in `dir`; returns its fingerprint in hex.
///
/// # Errors
/// When it exists already or cannot be written.
pub fn create_authority(dir: &Path) -> Result<String, SetupError> {
    let created = Authority::create(dir, Clock::system().now());
    let authority = created.map_err(|source| SetupError::Authority {
        dir: dir.to_owned(),
        source,
    })?;
    Ok(hex(&authority.fingerprint()))
}

/// Issues the certificate of `member` and writes it with its key into `out`.
///
/// # Errors
/// When the authority cannot be read or the identity cannot be written.
pub fn issue_member(
    ca: &Path,
    member: MemberId,
    names: &[String],
    out: &Path,
) -> Result<(), SetupError> {
    let unread = |dir: &Path, source| SetupError::Authority {
        dir: dir.to_owned(),
        source,
    };
    let authority = Authority::load(ca).map_err(|source| unread(ca, source))?;
    let issued = authority.issue_member(member, names, Clock::system().now());
    let identity = issued.map_err(|source| SetupError::Sign { member, source })?;
    identity.save(out).map_err(|source| unread(out, source))
}

/// Makes up an administrator's token, writes its hash to `path` and returns the token, which is
/// kept nowhere.
///
/// # Errors
/// When the file exists or cannot be written: another start may have used it.
pub fn create_admin_token(path: &Path) -> Result<String, SetupError> {
    use base64::Engine;
    use std::io::Write;

    let mut secret = [0; TOKEN_BYTES];
    getrandom::fill(&mut secret).map_err(|_none| SetupError::Random)?;
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret);
    let token = format!("{TOKEN_PREFIX}{secret}");
    let hash = hex(&hash_secret(&token));
    let written = std::fs::File::create_new(path).and_then(|mut file| writeln!(file, "{hash}"));
    written.map_err(|source| SetupError::Write {
        path: path.to_owned(),
        source,
    })?;
    Ok(token)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
