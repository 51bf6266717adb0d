//! Steps that survive a power cut: directories, and small files replaced whole.
//!
//! A rename or a new file is durable only once its directory is synced, and the content must be
//! synced before the name points to it. Every file operation of this crate that creates, renames
//! or removes goes through here, so that no caller can forget the second half.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::checksum::crc32c;

/// The file that is locked while a directory has an owner. It is never removed.
pub(crate) const LOCK: &str = "lock";
const SYNC_DIRECTORY: &str = "sync directory";
/// First bytes of a sealed file.
const SEAL_MAGIC: [u8; 4] = *b"PKSF";
/// Layout of a sealed file that this code writes and reads.
const SEAL_VERSION: u32 = 1;
/// Magic, version, length, checksum: four times four bytes.
const SEAL_HEAD: usize = 16;
/// Largest sealed file: they hold votes, positions and names, never data.
pub(crate) const SEALED_MAX_BYTES: usize = 64 * 1024;

/// The operating system refused a file operation.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}", path.display())]
pub struct FileFault {
    /// The operation, as an infinitive: `write`, `sync`, `rename`.
    pub doing: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl FileFault {
    pub(crate) fn new(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            doing,
            path,
            source,
        }
    }

    /// Whether space is what is missing and nothing has changed, so that trying again later makes
    /// sense. A directory that could not be synced has changed: its new name may or may not stay.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) && self.doing != SYNC_DIRECTORY
    }
}

/// Bytes on disk that cannot be what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged at byte {offset}: {what}", path.display())]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where the damaged part begins.
    pub offset: u64,
    /// What does not hold there.
    pub what: &'static str,
}

/// A directory that can be synced.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    handle: File,
}

impl Directory {
    /// Opens `path`, creating it and its parents; what was created is durable on return.
    pub(crate) fn open(path: &Path) -> Result<Self, FileFault> {
        if !path.is_dir() {
            if let Some(parent) = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
            {
                let parent = Self::open(parent)?;
                match fs::create_dir(path) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(FileFault::new("create directory", path)(error));
                    }
                    Ok(()) | Err(_) => parent.sync()?,
                }
            } else {
                fs::create_dir_all(path).map_err(FileFault::new("create directory", path))?;
            }
        }
        let handle = File::open(path).map_err(FileFault::new("open directory", path))?;
        Ok(Self {
            path: path.to_owned(),
            handle,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn sync(&self) -> Result<(), FileFault> {
        self.handle
            .sync_all()
            .map_err(FileFault::new(SYNC_DIRECTORY, &self.path))
    }

    /// Removes a file and makes the removal durable before returning.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), FileFault> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileFault::new("remove", path)(error))
            }
            Ok(()) | Err(_) => self.sync(),
        }
    }

    /// Creates `name` with `parts` as its content: the name never shows with less than all of it.
    /// Whatever stood there is replaced. The returned handle reads and writes.
    pub(crate) fn place(&self, name: &str, parts: &[&[u8]]) -> Result<File, FileFault> {
        let temporary = self.path.join(format!("{name}.tmp"));
        let target = self.path.join(name);
        let result = write_whole(&temporary, parts).and_then(|file| {
            fs::rename(&temporary, &target).map_err(FileFault::new("rename into", &target))?;
            self.sync()?;
            Ok(file)
        });
        if result.is_err() {
            // Best effort: a left-over temporary is overwritten or swept the next time.
            drop(fs::remove_file(&temporary));
        }
        result
    }

    /// File names that end in `suffix`, sorted.
    pub(crate) fn names(&self, suffix: &str) -> Result<Vec<String>, FileFault> {
        let listing = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                if let Ok(name) = entry?.file_name().into_string()
                    && name.ends_with(suffix)
                {
                    names.push(name);
                }
            }
            names.sort_unstable();
            Ok(names)
        };
        listing().map_err(FileFault::new("list", &self.path))
    }

    /// Takes the directory for this process until the returned handle is dropped. `None` when
    /// somebody else has it.
    pub(crate) fn lock(&self) -> Result<Option<File>, FileFault> {
        let path = self.path.join(LOCK);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(FileFault::new("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(FileFault::new("lock", &path)(error)),
        }
    }

    /// Replaces the sealed file `name` by `bytes`; durable on return.
    pub(crate) fn seal(&self, name: &str, bytes: &[u8]) -> Result<(), FileFault> {
        assert!(
            bytes.len() <= SEALED_MAX_BYTES,
            "a sealed file holds a position, not data"
        );
        self.place(name, &[&seal_head(bytes), bytes]).map(drop)
    }

    /// What the sealed file `name` holds; `None` when there is none.
    pub(crate) fn unseal(&self, name: &str) -> Result<Option<Vec<u8>>, UnsealError> {
        let path = self.path.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FileFault::new("open", &path)(error).into()),
        };
        let mut bytes = Vec::new();
        file.take((SEAL_HEAD + SEALED_MAX_BYTES + 1) as u64)
            .read_to_end(&mut bytes)
            .map_err(FileFault::new("read", &path))?;
        let sealed = bytes.split_at_checked(SEAL_HEAD);
        match sealed {
            Some((head, content)) if head == seal_head(content) => Ok(Some(content.to_vec())),
            Some(_) | None => Err(Damage {
                path,
                offset: 0,
                what: "the seal does not fit the content",
            }
            .into()),
        }
    }
}

/// A sealed file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// The operating system refused.
    #[error(transparent)]
    Fault(#[from] FileFault),
    /// The content is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

fn seal_head(content: &[u8]) -> [u8; SEAL_HEAD] {
    let mut head = [0; SEAL_HEAD];
    head[..4].copy_from_slice(&SEAL_MAGIC);
    head[4..8].copy_from_slice(&SEAL_VERSION.to_le_bytes());
    // A longer content than a seal may hold gives a length that no writer has written.
    head[8..12].copy_from_slice(
        &u32::try_from(content.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    let crc = crc32c(crc32c(0, &head[..12]), content);
    head[12..].copy_from_slice(&crc.to_le_bytes());
    head
}

fn write_whole(path: &Path, parts: &[&[u8]]) -> Result<File, FileFault> {
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(path)
        .map_err(FileFault::new("create", path))?;
    for part in parts {
        file.write_all(part)
            .map_err(FileFault::new("write", path))?;
    }
    file.sync_all().map_err(FileFault::new("sync", path))?;
    Ok(file)
}
