//! An ordinary nginx on loopback, as the thing that is watched.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use picket_wire::time::Timestamp;

/// Long enough for a loaded machine.
const UP_WITHIN: Duration = Duration::from_secs(10);

/// An nginx that can be stopped and started again at the same address.
#[derive(Debug)]
pub struct Nginx {
    dir: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
}

impl Nginx {
    /// Starts one with its files in `dir`.
    ///
    /// # Errors
    /// When nginx is not installed or does not come up.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let shown = dir.display();
        let config = format!(
            "worker_processes 1;\npid {shown}/nginx.pid;\nerror_log {shown}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; client_body_temp_path {shown}/body; proxy_temp_path {shown}/proxy;\n\
             fastcgi_temp_path {shown}/fastcgi; uwsgi_temp_path {shown}/uwsgi; scgi_temp_path {shown}/scgi;\n\
             server {{ listen {address}; location / {{ return 200 \"ok\\n\"; }} }} }}\n"
        );
        fs::write(dir.join("nginx.conf"), config)?;
        let mut nginx = Self {
            dir: dir.to_path_buf(),
            address,
            child: None,
        };
        nginx.up()?;
        Ok(nginx)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts it; returns the instant from which on it surely answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn up(&mut self) -> anyhow::Result<Timestamp> {
        let program = if Path::new("/usr/sbin/nginx").is_file() {
            "/usr/sbin/nginx"
        } else {
            "nginx"
        };
        let child = Command::new(program)
            .arg("-c")
            .arg(self.dir.join("nginx.conf"))
            .args(["-g", "daemon off;"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("nginx is needed: install the package `nginx-light`")?;
        self.child = Some(child);
        let deadline = Instant::now() + UP_WITHIN;
        while std::net::TcpStream::connect(self.address).is_err() {
            anyhow::ensure!(
                Instant::now() < deadline,
                "nginx does not answer at {}",
                self.address
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(now())
    }

    /// Stops it at once; returns the instant from which on it surely does not answer.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn down(&mut self) -> anyhow::Result<Timestamp> {
        let mut child = self.child.take().context("nginx runs")?;
        super::signal(child.id(), super::Signal::TERM)?;
        child.wait()?;
        anyhow::ensure!(
            std::net::TcpStream::connect(self.address).is_err(),
            "something still answers at {}",
            self.address
        );
        Ok(now())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(super::signal(child.id(), super::Signal::TERM));
            drop(child.wait());
        }
    }
}

/// The wall clock, to compare with what the mesh says of the same machine.
#[must_use]
pub fn now() -> Timestamp {
    picket_rt::clock::Clock::system().now()
}
