//! One HTTP server for all checks; each check has a path, and paths can be told to fail.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::PATIENCE;

pub(crate) struct Targets {
    pub(crate) address: SocketAddr,
    failing: Arc<Mutex<BTreeSet<String>>>,
    served: watch::Sender<usize>,
}

impl Targets {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let failing: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let (served, _) = watch::channel(0);
        let (told, count) = (failing.clone(), served.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, told.clone(), count.clone()));
            }
        });
        Self {
            address,
            failing,
            served,
        }
    }

    pub(crate) fn fail(&self, check: u64) {
        self.failing.lock().unwrap().insert(format!("/{check}"));
    }

    pub(crate) fn heal(&self, check: u64) {
        self.failing.lock().unwrap().remove(&format!("/{check}"));
    }

    pub(crate) fn count(&self) -> usize {
        *self.served.borrow()
    }

    /// Waits until so many requests were served since the start.
    pub(crate) async fn served(&self, count: usize) {
        let mut served = self.served.subscribe();
        let reached = served.wait_for(|served| *served >= count);
        let reached = tokio::time::timeout(PATIENCE, reached)
            .await
            .is_ok_and(|r| r.is_ok());
        assert!(
            reached,
            "{count} requests were expected, {} came",
            self.count()
        );
    }

    /// Waits for so many more than now.
    pub(crate) async fn served_more(&self, count: usize) {
        self.served(self.count() + count).await;
    }
}

async fn answer(
    mut stream: TcpStream,
    failing: Arc<Mutex<BTreeSet<String>>>,
    served: watch::Sender<usize>,
) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let path = String::from_utf8_lossy(&head)
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    let fails = failing.lock().unwrap().contains(&path);
    let status = if fails {
        "503 Service Unavailable"
    } else {
        "200 OK"
    };
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    if stream.write_all(text.as_bytes()).await.is_ok() {
        served.send_modify(|served| *served += 1);
    }
}
