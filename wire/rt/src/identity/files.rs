//! Files that hold keys and certificates: bounded, and keys private to their owner.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::files::replace;

/// Largest key or certificate file: a key and two certificates have some 2 KB.
const FILE_MAX_BYTES: u64 = 64 * 1024;

/// Line length of the text form (RFC 7468, section 2).
const PEM_LINE: usize = 64;

/// What went wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{action} `{}`", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Others than the owner can reach a key.
    #[error("`{}` can be read by others (mode {mode:03o}); `chmod 600` it after asking whether they did", .path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What is there must not be replaced.
    #[error("`{}` exists already", .path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
}

impl FileError {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    at("write", path, replace(path, bytes, mode))
}

/// Reads a file that nobody but its owner may reach.
pub(super) fn read_private(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = at("open", path, File::open(path))?;
    let mode = at("look at", path, file.metadata())?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    at("read", path, bounded(file))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    at("read", path, File::open(path).and_then(bounded))
}

fn bounded(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn at<T>(action: &'static str, path: &Path, result: io::Result<T>) -> Result<T, FileError> {
    result.map_err(|source| FileError::Io {
        action,
        path: path.to_owned(),
        source,
    })
}

/// The text form of `der` (RFC 7468).
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(PEM_LINE) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
