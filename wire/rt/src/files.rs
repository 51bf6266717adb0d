//! Files that are replaced as a whole or not at all.
//!
//! Whoever looks while a process writes, or after it was killed, finds the old bytes, the new ones
//! or no file: never a part of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Read and written by the owner alone.
pub const PRIVATE: u32 = 0o600;
/// Read by everybody.
pub const PUBLIC: u32 = 0o644;

/// Writes beside `path`, makes it durable, then renames. Makes the directory if need be.
///
/// The name beside it is `path` with the extension `new`: two files that differ only in their
/// extensions must not be replaced at the same time.
///
/// # Errors
/// When the directory cannot be made or written: what stood at `path` is untouched then, unless it
/// was the last step that failed, after which a power cut may bring it back.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    let beside = path.with_extension("new");
    fs::create_dir_all(dir)?;
    write_durably(&beside, bytes, mode)?;
    fs::rename(&beside, path)?;
    File::open(dir)?.sync_all()
}

fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // `create_new` with the mode: the bytes are never in a file with wider access, or through a link.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("picket-files-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).expect("the temporary directory can be written");
        dir
    }

    #[test]
    fn what_a_killed_writer_left_beside_is_no_hindrance_and_lends_nothing() {
        let dir = dir("left");
        let path = dir.join("below/key.pem");
        replace(&path, b"one", PRIVATE).expect("the directory is made");
        fs::write(dir.join("below/key.new"), b"a torn and far longer one").expect("it is ours");
        replace(&path, b"two", PRIVATE).expect("the left-over is replaced");
        assert_eq!(fs::read(&path).expect("it is there"), b"two");
        let mode = fs::metadata(&path).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, PRIVATE);
        assert!(!dir.join("below/key.new").exists());
        fs::remove_dir_all(&dir).expect("it is ours");
    }

    #[test]
    fn what_cannot_be_replaced_stays() {
        let dir = dir("stays");
        let path = dir.join("file");
        fs::create_dir_all(path.join("in the way")).expect("it is ours");
        replace(&path, b"two", PUBLIC).expect_err("a directory is no file");
        assert!(path.join("in the way").exists());
        fs::remove_dir_all(&dir).expect("it is ours");
    }
}
