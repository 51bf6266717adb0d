//! Whom the private Postgres runs as.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::pg::private::PrivateError;

/// A user without privileges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunAs {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl RunAs {
    /// Whom to run as when we are root; `None` when we are not, and run as ourselves.
    pub(super) fn unless_harmless() -> Result<Option<Self>, PrivateError> {
        // The owner of a process's directory is its effective user. Where there is no such
        // directory, Postgres itself refuses root and says so.
        let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if !root {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| find(&passwd, name));
        user.map(Some).ok_or(PrivateError::NobodyToRunAs)
    }
}

/// Finds a user in the format of passwd(5).
fn find(passwd: &str, name: &str) -> Option<RunAs> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(RunAs { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgresql:x:7:8::/:\npostgres:x:101:104:,,,:/var:/bin/bash\n";
        assert_eq!(find(passwd, "postgres"), Some(RunAs { uid: 101, gid: 104 }));
        assert_eq!(find(passwd, "nobody"), None);
    }
}
