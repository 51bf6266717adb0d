//! A scraper: Prometheus text over TCP or a Unix socket, read strictly.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Prometheus gives up after ten seconds unless told otherwise.
const SCRAPE_WITHIN: Duration = Duration::from_secs(10);

/// What one process told.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics(Vec<Sample>);

/// One line.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Asks a member at `host:port`.
    ///
    /// # Errors
    /// When nobody answers, or with what is not Prometheus text.
    pub async fn of_member(authority: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(authority).await;
        scrape(stream.with_context(|| authority.to_owned())?).await
    }

    /// Asks an agent at its socket.
    ///
    /// # Errors
    /// When nobody answers, or with what is not Prometheus text.
    pub async fn of_agent(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket).await;
        scrape(stream.with_context(|| socket.display().to_string())?).await
    }

    /// How often something was measured by the histogram `name`, all labels together.
    ///
    /// # Errors
    /// When there is no such histogram, or one whose buckets do not add up.
    pub fn measured(&self, name: &str) -> anyhow::Result<u64> {
        let (bucket, count) = (format!("{name}_bucket"), format!("{name}_count"));
        let whole = self.sum(|sample| sample.name == count);
        let widest = self.sum(|sample| {
            let is_last = |(label, edge): &(String, String)| label == "le" && edge == "+Inf";
            sample.name == bucket && sample.labels.iter().any(is_last)
        });
        let whole = whole.with_context(|| format!("no histogram {name}"))?;
        ensure!(
            widest == Some(whole),
            "{name}: {widest:?} of {whole} in buckets"
        );
        Ok(whole)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of a test are small and whole"
    )]
    fn sum(&self, wanted: impl Fn(&Sample) -> bool) -> Option<u64> {
        let found: Vec<f64> = self
            .0
            .iter()
            .filter(|sample| wanted(sample))
            .map(|sample| sample.value)
            .collect();
        (!found.is_empty()).then(|| found.iter().sum::<f64>() as u64)
    }
}

async fn scrape(stream: impl AsyncRead + AsyncWrite + Send + Unpin) -> anyhow::Result<Metrics> {
    let answered = tokio::time::timeout(SCRAPE_WITHIN, exchange(stream)).await;
    parse(&answered.context("no metrics in time")??)
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Send + Unpin) -> anyhow::Result<String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/metrics")
        .header("host", "picket")
        .body(Empty::<Bytes>::new())?;
    // Ends with its sender, which ends the connection.
    let answer = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::Ok((status, body))
    };
    let (answered, ended) = tokio::join!(answer, connection);
    let (status, body) = answered?;
    ended?;
    ensure!(status.is_success(), "{status}");
    Ok(String::from_utf8(body.to_vec())?)
}

fn parse(text: &str) -> anyhow::Result<Metrics> {
    let lines = text.lines().filter(|line| !line.is_empty());
    let samples = lines
        .filter(|line| !line.starts_with('#'))
        .map(|line| sample(line).with_context(|| format!("not a line of Prometheus text: {line}")));
    let samples: Vec<Sample> = samples.collect::<anyhow::Result<_>>()?;
    ensure!(!samples.is_empty(), "no metrics at all");
    Ok(Metrics(samples))
}

/// `name{label="value",…} number`, or without the braces.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, parse_labels(labels.strip_suffix('}')?)?),
        None => (series, Vec::new()),
    };
    is_name(name).then_some(())?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}

/// Values of labels are closed sets of words here: none holds a quote, a comma or a backslash.
fn parse_labels(text: &str) -> Option<Vec<(String, String)>> {
    let each = text.split(',').map(|pair| {
        let (label, value) = pair.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        let plain = !value.contains(['"', '\\']);
        (is_name(label) && plain).then(|| (label.to_owned(), value.to_owned()))
    });
    each.collect()
}

fn is_name(text: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    text.chars().all(is_part) && text.starts_with(|letter: char| !letter.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_counted_over_all_its_labels() {
        let text = "# TYPE ack histogram\n\
            ack_bucket{lane=\"a\",le=\"1\"} 1\nack_bucket{lane=\"a\",le=\"+Inf\"} 2\n\
            ack_sum{lane=\"a\"} 3.5\nack_count{lane=\"a\"} 2\n\n\
            ack_bucket{lane=\"b\",le=\"+Inf\"} 1\nack_count{lane=\"b\"} 1\n";
        let metrics = parse(text).expect("well-formed");
        assert_eq!(metrics.measured("ack").expect("a histogram"), 3);
        assert!(metrics.measured("lateness").is_err());
    }

    #[test]
    fn what_is_not_prometheus_text_is_refused() {
        for text in [
            "",
            "# nothing\n",
            "up\n",
            "up one\n",
            "2up 1\n",
            "up{a=b} 1\n",
            "up{a=\"b\" 1\n",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
