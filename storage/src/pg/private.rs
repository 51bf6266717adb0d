//! A Postgres of one's own, for development and tests.
//!
//! It listens on a Unix socket and nowhere else, lives in one directory and ends with its owner.
//! Postgres refuses to run as root, so root starts it as `postgres` or else `nobody`, who must be
//! able to reach the directory. What a killed predecessor left running there is stopped first.

mod binaries;
mod programs;
mod user;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use crate::pg::PgSettings;
use binaries::Binaries;
use programs::{command, initdb, signal, stop_predecessor, tail};
use user::RunAs;

/// Longest path of a Unix socket on Linux, `sun_path` less its final zero.
const SOCKET_PATH_MAX: usize = 107;
/// How long the server may take to answer: recovery after a crash on a slow disk.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to stop: it writes a checkpoint.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// How often a starting server is asked.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Whether commits survive a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// They do.
    On,
    /// They survive a crash of the server only; for tests.
    Off,
}

/// A running private Postgres; stops when dropped.
#[derive(Debug)]
pub struct PrivatePostgres {
    dir: PathBuf,
    binaries: Binaries,
    run_as: Option<RunAs>,
    child: Child,
    pid: u32,
}

/// The private Postgres could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// No server binaries on this machine.
    #[error(
        "no Postgres server found in PATH or {looked_in}; install the package `postgresql` \
         (Debian, Ubuntu) or `postgresql-server` (Fedora)"
    )]
    NotInstalled {
        /// The directories that were searched beside PATH.
        looked_in: String,
    },
    /// We are root and there is nobody to run as.
    #[error(
        "Postgres refuses to run as root, and neither `postgres` nor `nobody` is in /etc/passwd"
    )]
    NobodyToRunAs,
    /// The socket's path would be too long.
    #[error("{path} is {len} bytes long; a Unix socket's path has at most {SOCKET_PATH_MAX}")]
    SocketPath {
        /// The path.
        path: String,
        /// Its length.
        len: usize,
    },
    /// A file or process operation failed.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A program of Postgres failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which program.
        program: &'static str,
        /// The end of what it said.
        said: String,
    },
    /// The server did not answer in time.
    #[error("Postgres did not answer within {within:?}; see {log}")]
    Silent {
        /// How long we waited.
        within: Duration,
        /// Its log.
        log: PathBuf,
    },
}

impl PrivatePostgres {
    /// Starts the Postgres that lives in `dir`, making it first if need be, and waits until it
    /// answers.
    ///
    /// # Errors
    /// When the binaries are missing, the directory cannot be used by the user it runs as, or the
    /// server does not come up.
    pub async fn start(dir: impl Into<PathBuf>, fsync: Fsync) -> Result<Self, PrivateError> {
        let dir: PathBuf = dir.into();
        let binaries = Binaries::find()?;
        let run_as = RunAs::unless_harmless()?;
        prepare(&dir, run_as.as_ref())?;
        let dir = dir
            .canonicalize()
            .map_err(|source| io("resolve", &dir, source))?;
        check_socket_path(&dir)?;
        stop_predecessor(&dir, &binaries, run_as.as_ref())?;
        if !data(&dir).join("PG_VERSION").exists() {
            initdb(&dir, &binaries, run_as.as_ref())?;
        }
        let mut command = command(&binaries.postgres(), &dir, run_as.as_ref());
        let log = log_file(&dir)?;
        command
            .args(arguments(&dir, fsync))
            .stdout(clone(&log, &dir)?)
            .stderr(log);
        // A group of its own: an interrupt from the terminal is for its owner to handle.
        command.process_group(0);
        let child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| io("start", &binaries.postgres(), source))?;
        let pid = child.id().expect("the child has not been waited for");
        let mut postgres = Self {
            dir,
            binaries,
            run_as,
            child,
            pid,
        };
        postgres.wait_until_it_answers().await?;
        Ok(postgres)
    }

    /// How to reach it.
    #[must_use]
    pub fn settings(&self) -> PgSettings {
        PgSettings::new(self.url())
    }

    /// Its connection string.
    #[must_use]
    pub fn url(&self) -> String {
        url(&self.dir)
    }

    /// The server's process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// The server's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    /// Waits until the server ends although nobody asked it to: it was killed or gave up. What
    /// lies on its disk is whole; the next start recovers it.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn ended(&mut self) -> Result<ExitStatus, PrivateError> {
        let ended = self.child.wait().await;
        ended.map_err(|source| io("wait for", &self.dir, source))
    }

    /// Stops it in order: sessions end, everything is written.
    ///
    /// # Errors
    /// When it does not stop in time; it is killed then.
    pub async fn stop(mut self) -> Result<(), PrivateError> {
        signal(
            "INT",
            self.pid,
            &self.dir,
            &self.binaries,
            self.run_as.as_ref(),
        )?;
        match timeout(STOP_WITHIN, self.child.wait()).await {
            Ok(ended) => ended
                .map(|_| ())
                .map_err(|source| io("wait for", &self.dir, source)),
            Err(_) => Err(PrivateError::Silent {
                within: STOP_WITHIN,
                log: self.log(),
            }),
        }
    }

    async fn wait_until_it_answers(&mut self) -> Result<(), PrivateError> {
        let deadline = Instant::now() + START_WITHIN;
        while Instant::now() < deadline {
            let ended = self
                .child
                .try_wait()
                .map_err(|source| io("wait for", &self.dir, source))?;
            if ended.is_some() {
                let said = fs::read(self.log()).unwrap_or_default();
                return Err(PrivateError::Failed {
                    program: "postgres",
                    said: tail(&said),
                });
            }
            // Bound to the attempt, so that the connection is closed again at once.
            if tokio_postgres::connect(&self.url(), tokio_postgres::NoTls)
                .await
                .is_ok()
            {
                return Ok(());
            }
            sleep(ASK_EVERY).await;
        }
        Err(PrivateError::Silent {
            within: START_WITHIN,
            log: self.log(),
        })
    }
}

impl Drop for PrivatePostgres {
    /// Ends the server at once; the next start recovers. The child's own drop kills it if even
    /// that does not reach it.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None))
            && let Err(error) = signal(
                "QUIT",
                self.pid,
                &self.dir,
                &self.binaries,
                self.run_as.as_ref(),
            )
        {
            tracing::warn!(%error, pid = self.pid, "private Postgres is killed instead of stopped");
        }
    }
}

fn data(dir: &Path) -> PathBuf {
    dir.join("data")
}

fn sockets(dir: &Path) -> PathBuf {
    dir.join("run")
}

fn url(dir: &Path) -> String {
    // Quoted as libpq does: a path may hold blanks.
    let host = sockets(dir)
        .display()
        .to_string()
        .replace('\\', "\\\\")
        .replace('\'', "\\'");
    format!("host='{host}' user=picket dbname=postgres")
}

fn arguments(dir: &Path, fsync: Fsync) -> Vec<String> {
    let fsync = match fsync {
        Fsync::On => "on",
        Fsync::Off => "off",
    };
    let mut arguments = vec!["-D".to_owned(), data(dir).display().to_string()];
    arguments.extend(["-k".to_owned(), sockets(dir).display().to_string()]);
    for setting in [
        "listen_addresses=",
        "unix_socket_permissions=0700",
        "logging_collector=off",
        // Imports and storms write a lot; the default would spend its time in checkpoints.
        "max_wal_size=2GB",
        "shared_buffers=256MB",
        &format!("fsync={fsync}"),
        &format!("full_page_writes={fsync}"),
    ] {
        arguments.extend(["-c".to_owned(), setting.to_owned()]);
    }
    arguments
}

fn prepare(dir: &Path, run_as: Option<&RunAs>) -> Result<(), PrivateError> {
    for dir in [dir, &sockets(dir)] {
        fs::create_dir_all(dir).map_err(|source| io("create", dir, source))?;
        if let Some(user) = run_as {
            chown(dir, Some(user.uid), Some(user.gid))
                .map_err(|source| io("hand over", dir, source))?;
        }
    }
    Ok(())
}

fn check_socket_path(dir: &Path) -> Result<(), PrivateError> {
    let path = sockets(dir)
        .join(".s.PGSQL.5432.lock")
        .display()
        .to_string();
    let len = path.len();
    if len > SOCKET_PATH_MAX {
        Err(PrivateError::SocketPath { path, len })
    } else {
        Ok(())
    }
}

fn log_file(dir: &Path) -> Result<File, PrivateError> {
    let path = dir.join("postgres.log");
    let open = OpenOptions::new().create(true).append(true).open(&path);
    open.map_err(|source| io("open", &path, source))
}

fn clone(log: &File, dir: &Path) -> Result<File, PrivateError> {
    log.try_clone()
        .map_err(|source| io("open again the log in", dir, source))
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> PrivateError {
    PrivateError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
