//! A directory that is removed when it is done with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The directory.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// A new directory in `parent`. Its path is short, because a Unix socket may lie below it.
    pub(super) fn new(parent: &Path, name: &str) -> anyhow::Result<Self> {
        let path = parent.join(format!("picket-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "left behind");
        }
    }
}
