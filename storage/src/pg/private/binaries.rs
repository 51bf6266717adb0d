//! Where the server's programs are.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::pg::private::PrivateError;

/// Where distributions put server programs that are not in PATH: a directory per major version.
const VERSIONED: [(&str, &str); 2] = [
    // Debian, Ubuntu
    ("/usr/lib/postgresql", "bin"),
    // PostgreSQL's own packages for Fedora and Red Hat
    ("/usr", "bin"),
];

/// One directory that holds `postgres`, `initdb` and `pg_ctl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries(PathBuf);

impl Binaries {
    pub(super) fn find() -> Result<Self, PrivateError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let beside: Vec<PathBuf> = VERSIONED
            .iter()
            .flat_map(|(root, bin)| versions(root, bin))
            .collect();
        std::env::split_paths(&path)
            .chain(beside)
            .find(|dir| is_complete(dir))
            .map(Self)
            .ok_or_else(|| PrivateError::NotInstalled {
                looked_in: "/usr/lib/postgresql/*/bin and /usr/pgsql-*/bin".to_owned(),
            })
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.0.join("postgres")
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.0.join("initdb")
    }

    pub(super) fn pg_ctl(&self) -> PathBuf {
        self.0.join("pg_ctl")
    }
}

fn is_complete(dir: &Path) -> bool {
    ["postgres", "initdb", "pg_ctl"]
        .iter()
        .all(|program| dir.join(program).is_file())
}

/// `root/<version>/bin`, newest version first; of `/usr` only the `pgsql-<version>` there.
fn versions(root: &str, bin: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((version_of(&entry.file_name())?, entry.path().join(bin))))
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, dir)| dir).collect()
}

/// The major version in `15` or `pgsql-15`.
fn version_of(name: &OsStr) -> Option<u32> {
    let name = name.to_str()?;
    name.strip_prefix("pgsql-").unwrap_or(name).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(version_of(OsStr::new("15")), Some(15));
        assert_eq!(version_of(OsStr::new("pgsql-16")), Some(16));
        assert_eq!(version_of(OsStr::new("lib")), None);
    }
}
