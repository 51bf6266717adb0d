//! A directory for one test, and what a power cut or decay does to one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory that goes when the test is over.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("picket-disk-{}-{number}", std::process::id());
        let path = root().join(name);
        fs::create_dir_all(&path).expect("the directory can be written");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A copy of all files, as another machine would find them on the disk.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        for (name, bytes) in self.files() {
            fs::write(copy.0.join(name), bytes).expect("the directory can be written");
        }
        copy
    }

    /// Names and contents, sorted.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(&self.0)
            .expect("the directory is there")
            .map(|entry| entry.expect("the directory can be listed"))
            .filter(|entry| entry.path().is_file())
            .map(|entry| {
                let bytes = fs::read(entry.path()).expect("the file can be read");
                (
                    entry.file_name().into_string().expect("names are text"),
                    bytes,
                )
            })
            .collect();
        files.sort();
        files
    }

    pub(crate) fn names(&self, suffix: &str) -> Vec<String> {
        self.files()
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| name.ends_with(suffix))
            .collect()
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).expect("the file is there")
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).expect("the directory can be written");
    }

    pub(crate) fn flip(&self, name: &str, bit: usize) {
        let mut bytes = self.read(name);
        bytes[bit / 8] ^= 1 << (bit % 8);
        self.write(name, &bytes);
    }
}

/// A byte that tells `number` from its neighbours and is not zero.
pub(crate) fn mark(number: u64) -> u8 {
    number.to_le_bytes()[0] | 1
}

/// In memory where the system has that: the tests make their own power cuts, and ten thousand
/// syncs of a real disk take minutes without telling more.
fn root() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
