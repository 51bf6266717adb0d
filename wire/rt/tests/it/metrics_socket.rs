//! Metrics over a Unix socket.

use std::path::{Path, PathBuf};

use picket_rt::stop::Stop;
use picket_rt::telemetry::{TelemetryError, TelemetrySettings, init, serve_metrics_unix};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::world::{Folder, soon};

async fn ask(path: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    // A request that is refused for its length may be answered by a reset.
    if let Err(error) = stream.read_to_string(&mut answer).await {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    answer
}

/// One test: a process has one recorder.
#[tokio::test]
async fn a_scraper_gets_metrics_and_nobody_gets_anything_else() {
    let settings = TelemetrySettings::default();
    let telemetry = init("picket-test", "one", &settings).unwrap();
    assert!(matches!(
        init("picket-test", "one", &settings),
        Err(TelemetryError::LogsTwice(_))
    ));
    metrics::counter!("picket_test_total").increment(3);

    let folder = Folder::new();
    let in_the_way = folder.path().join("precious");
    std::fs::write(&in_the_way, "precious").unwrap();
    let refused = serve_metrics_unix(in_the_way.clone(), telemetry.metrics(), Stop::new()).await;
    assert!(refused.unwrap_err().to_string().contains("precious"));
    assert_eq!(std::fs::read_to_string(&in_the_way).unwrap(), "precious");

    let path: PathBuf = folder.path().join("metrics.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let stop = Stop::new();
    let serving = serve_metrics_unix(path.clone(), telemetry.metrics(), stop.clone());
    let scraping = async {
        let answer = ask(&path, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("picket_test_total 3"), "{answer}");
        assert!(
            ask(&path, b"GET / HTTP/1.1\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 404 ")
        );
        assert!(
            ask(&path, b"PUT /metrics HTTP/1.1\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 405 ")
        );
        assert!(
            ask(&path, b"\x16\x03\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 400 ")
        );
        assert_eq!(ask(&path, &[b'a'; 5_000]).await, "");
        stop.request();
    };
    let (served, ()) = soon(async { tokio::join!(serving, scraping) }).await;
    served.unwrap();
    assert!(!path.exists());
}
