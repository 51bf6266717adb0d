//! Rows of URLs from a CSV or NDJSON file.
//!
//! Reads a row at a time. A row that cannot be read is a rejected row with its line, never the
//! end of the import; what a row means is judged by the scheduler.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use picket_wire::api::import::{ImportRow, RejectedRow};

/// Longest line that is read: a URL of 2 KiB with labels fits many times.
const LINE_MAX_BYTES: usize = 64 * 1024;

/// A file that cannot be imported at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// It cannot be read.
    #[error("cannot read")]
    Read(#[from] std::io::Error),
    /// The CSV header names a column that does not exist.
    #[error("line 1: column `{column}` is unknown; expected some of {COLUMNS:?}")]
    Column {
        /// Which column.
        column: String,
    },
    /// The CSV header lacks the one column that is needed.
    #[error(
        "line 1: no column `url`; expected a header with some of {COLUMNS:?}, or one URL a line"
    )]
    NoUrl,
    /// The CSV header cannot be read.
    #[error("line 1: not a CSV header")]
    Header(#[from] csv::Error),
}

/// The columns a CSV file may have, in any order.
pub(crate) const COLUMNS: [&str; 10] = [
    "url",
    "site",
    "every_s",
    "timeout_ms",
    "method",
    "status_min",
    "status_max",
    "body_contains",
    "handshake",
    "labels",
];

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Comma-separated with a header; labels are separated by `;`.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// One URL a line.
    Lines,
}

/// One row as read: good, or rejected with its text.
#[derive(Debug)]
pub(crate) enum Row {
    /// To be sent.
    Good(Box<ImportRow>, String),
    /// To be written to the rejects file.
    Bad(RejectedRow, String),
}

/// The rows of a file, with the bytes consumed so far for a progress bar.
pub(crate) struct Rows {
    input: BufReader<File>,
    kind: Kind,
    columns: Vec<String>,
    line: u64,
    consumed: u64,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows")
            .field("kind", &self.kind)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl Rows {
    /// Opens a file; its kind is `kind`, or told by its first line.
    ///
    /// # Errors
    /// When it cannot be read, or is CSV with a header that cannot be used.
    pub(crate) fn open(path: &Path, kind: Option<Kind>) -> Result<Self, OpenError> {
        let mut rows = Self {
            input: BufReader::new(File::open(path)?),
            kind: Kind::Lines,
            columns: Vec::new(),
            line: 0,
            consumed: 0,
        };
        rows.kind = match kind {
            Some(kind) => kind,
            None => guess(rows.input.fill_buf()?),
        };
        if rows.kind == Kind::Csv {
            rows.read_header()?;
        }
        Ok(rows)
    }

    /// Bytes read so far.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The header line of a CSV file, to begin a rejects file of the same form.
    pub(crate) fn header(&self) -> Option<String> {
        (self.kind == Kind::Csv).then(|| self.columns.join(","))
    }

    fn read_header(&mut self) -> Result<(), OpenError> {
        let Some(Ok(header)) = self.next_line()? else {
            return Err(OpenError::NoUrl);
        };
        self.columns = split(header.trim_start_matches('\u{feff}'))?;
        for column in &self.columns {
            if !COLUMNS.contains(&column.as_str()) {
                return Err(OpenError::Column {
                    column: column.clone(),
                });
            }
        }
        if self.columns.iter().any(|column| column == "url") {
            Ok(())
        } else {
            Err(OpenError::NoUrl)
        }
    }

    /// The next line without its end; `Err` holds the start of one that is too long or not UTF-8.
    fn next_line(&mut self) -> std::io::Result<Option<Result<String, (&'static str, String)>>> {
        let mut bytes = Vec::new();
        let limit = LINE_MAX_BYTES as u64;
        let read = self
            .input
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut bytes)?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        self.consumed += read as u64;
        if read == LINE_MAX_BYTES && bytes.last() != Some(&b'\n') {
            self.consumed += self.input.skip_until(b'\n')? as u64;
            bytes.truncate(200);
            return Ok(Some(Err((
                "at most 65536 bytes",
                String::from_utf8_lossy(&bytes).into_owned(),
            ))));
        }
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        Ok(Some(String::from_utf8(bytes).map_err(|error| {
            (
                "UTF-8",
                String::from_utf8_lossy(error.as_bytes()).into_owned(),
            )
        })))
    }

    /// The next row; blank lines and lines that begin with `#` are passed over.
    ///
    /// # Errors
    /// When the file cannot be read on.
    pub(crate) fn next_row(&mut self) -> std::io::Result<Option<Row>> {
        loop {
            let Some(line) = self.next_line()? else {
                return Ok(None);
            };
            let bad = |field: &str, reason: String, text: String| {
                Row::Bad(
                    RejectedRow {
                        line: self.line,
                        field: field.to_owned(),
                        reason,
                    },
                    text,
                )
            };
            return Ok(Some(match line {
                Err((expected, start)) => bad("row", format!("expected {expected}"), start),
                Ok(text) if text.trim().is_empty() || text.starts_with('#') => continue,
                Ok(text) => match self.parse(&text) {
                    Ok(mut row) => {
                        row.line = self.line;
                        Row::Good(Box::new(row), text)
                    }
                    Err((field, reason)) => bad(&field, reason, text),
                },
            }));
        }
    }

    fn parse(&self, text: &str) -> Result<ImportRow, (String, String)> {
        let whole = |error: &dyn std::fmt::Display| ("row".to_owned(), error.to_string());
        match self.kind {
            Kind::Lines => Ok(bare(text.trim())),
            Kind::Ndjson => serde_json::from_str(text).map_err(|error| whole(&error)),
            Kind::Csv => {
                let values = split(text).map_err(|error| whole(&error))?;
                if values.len() != self.columns.len() {
                    let (want, got) = (self.columns.len(), values.len());
                    return Err((
                        "row".to_owned(),
                        format!("expected {want} columns, got {got}"),
                    ));
                }
                from_columns(&self.columns, &values)
            }
        }
    }
}

fn bare(url: &str) -> ImportRow {
    ImportRow {
        line: 0,
        url: url.to_owned(),
        site: None,
        every_s: None,
        timeout_ms: None,
        method: None,
        status_min: None,
        status_max: None,
        body_contains: None,
        handshake: None,
        labels: Vec::new(),
    }
}

fn guess(start: &[u8]) -> Kind {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let first = start
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let trimmed = first.trim_ascii();
    if trimmed.starts_with(b"{") {
        Kind::Ndjson
    } else if trimmed.starts_with(b"http://")
        || trimmed.starts_with(b"https://")
        || trimmed.starts_with(b"#")
    {
        Kind::Lines
    } else {
        Kind::Csv
    }
}

/// The values of one CSV line; quoted values may hold commas, not line ends.
fn split(line: &str) -> Result<Vec<String>, csv::Error> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(line.as_bytes());
    let mut record = csv::StringRecord::new();
    reader.read_record(&mut record)?;
    Ok(record.iter().map(str::to_owned).collect())
}

fn from_columns(columns: &[String], values: &[String]) -> Result<ImportRow, (String, String)> {
    let mut row = bare("");
    for (column, value) in columns
        .iter()
        .zip(values)
        .filter(|(_, value)| !value.is_empty())
    {
        let refuse = |expected: &str| {
            (
                column.clone(),
                format!("expected {expected}, got `{value}`"),
            )
        };
        let number = || value.parse::<u64>().map_err(|_| refuse("a whole number"));
        let small = || {
            value
                .parse::<u16>()
                .map_err(|_| refuse("a whole number up to 65535"))
        };
        match column.as_str() {
            "url" => row.url.clone_from(value),
            "site" => row.site = Some(value.clone()),
            "every_s" => {
                row.every_s = Some(u32::try_from(number()?).map_err(|_| refuse("seconds"))?)
            }
            "timeout_ms" => row.timeout_ms = Some(number()?),
            "status_min" => row.status_min = Some(small()?),
            "status_max" => row.status_max = Some(small()?),
            "body_contains" => row.body_contains = Some(value.clone()),
            "method" => row.method = Some(word(value).ok_or_else(|| refuse("GET or HEAD"))?),
            "handshake" => {
                row.handshake = Some(word(value).ok_or_else(|| refuse("full or resumed"))?)
            }
            "labels" => {
                row.labels = value
                    .split(';')
                    .map(|label| label.trim().to_owned())
                    .collect()
            }
            _ => unreachable!("the header was checked against the columns"),
        }
    }
    if row.url.is_empty() {
        Err(("url".to_owned(), "expected a URL, got nothing".to_owned()))
    } else {
        Ok(row)
    }
}

fn word<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn rows(text: &str) -> Vec<Row> {
        let dir =
            std::env::temp_dir().join(format!("picket-import-{}-{:p}", std::process::id(), text));
        File::create(&dir)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let mut rows = Rows::open(&dir, None).unwrap();
        std::fs::remove_file(&dir).unwrap();
        std::iter::from_fn(|| rows.next_row().unwrap()).collect()
    }

    #[test]
    fn a_bad_line_is_one_bad_row_and_no_more() {
        let rows =
            rows("url,every_s\nhttp://a/,10\nhttp://b/,soon\nhttp://c/\n\"http://d/?x=1,2\",60\n");
        let told: Vec<String> = rows
            .iter()
            .map(|row| match row {
                Row::Good(row, _) => format!("{} {}", row.line, row.url),
                Row::Bad(bad, _) => format!("{} {}: {}", bad.line, bad.field, bad.reason),
            })
            .collect();
        assert_eq!(
            told,
            [
                "2 http://a/",
                "3 every_s: expected a whole number, got `soon`",
                "4 row: expected 2 columns, got 1",
                "5 http://d/?x=1,2",
            ]
        );
    }

    #[test]
    fn an_unknown_json_field_is_named() {
        let rows = rows("{\"url\":\"http://a/\",\"evry_s\":3}\n");
        assert!(
            matches!(&rows[..], [Row::Bad(bad, _)] if bad.reason.contains("evry_s")),
            "{rows:?}"
        );
    }

    #[test]
    fn bare_urls_need_no_header() {
        assert!(
            matches!(&rows("# mine\nhttps://a/\n\nhttps://b/\n")[..], [Row::Good(a, _), Row::Good(b, _)] if a.line == 2 && b.line == 4)
        );
    }

    #[test]
    fn a_line_without_end_is_refused_not_kept() {
        let long = format!("url\nhttp://{}\nhttp://b/\n", "a".repeat(200_000));
        assert!(matches!(&rows(&long)[..], [Row::Bad(bad, _), Row::Good(..)] if bad.line == 2));
    }
}
