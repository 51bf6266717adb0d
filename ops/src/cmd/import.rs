//! `picket import`: URLs from a file, with progress, and a file of the rows that were refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use picket_wire::api::import::{ImportReply, ImportRequest, ImportRow, RejectedRow};
use serde::Serialize;

use crate::client::Client;
use crate::cmd::Context;
use crate::exit::Exit;
use crate::import_file::{Kind, Row, Rows};

/// Rows in one request: some 200 KB, a few per second.
const CHUNK_ROWS: usize = 5_000;

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// CSV with a header, NDJSON, or one URL a line.
    file: PathBuf,
    /// Kind of file; told by its first line when absent.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Probe interval in seconds for rows that do not say.
    #[arg(long, value_name = "SECONDS")]
    every: Option<u32>,
    /// Where refused rows go; FILE.rejects when absent. Written only if there are any.
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
}

/// What became of the whole file.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) created: u64,
    pub(crate) changed: u64,
    pub(crate) unchanged: u64,
    pub(crate) repeated: u64,
    pub(crate) rejected: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rejects_file: Option<PathBuf>,
}

impl Import {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let rejects = self.rejects.clone().unwrap_or_else(|| {
            let mut name = self.file.clone().into_os_string();
            name.push(".rejects");
            name.into()
        });
        let summary = import(&context.client, &self.file, self.kind, self.every, &rejects).await?;
        context.printer.one(&summary, Summary::for_people);
        Ok(if summary.rejected == 0 {
            Exit::Ok
        } else {
            Exit::Partial
        })
    }
}

impl Summary {
    /// As a line for people.
    pub(crate) fn for_people(&self) -> String {
        let Self {
            created,
            changed,
            unchanged,
            repeated,
            rejected,
            rejects_file,
        } = self;
        let mut text = format!(
            "{created} endpoints created, {changed} changed, {unchanged} unchanged, {repeated} repeated, {rejected} rejected"
        );
        if let Some(file) = rejects_file {
            text.push_str(&format!("; see {}", file.display()));
        }
        text
    }
}

/// Imports a whole file; `picket dev --import` does the same.
pub(crate) async fn import(
    client: &Client,
    file: &Path,
    kind: Option<Kind>,
    every: Option<u32>,
    rejects: &Path,
) -> anyhow::Result<Summary> {
    let shown = file.display();
    let size = std::fs::metadata(file)
        .with_context(|| format!("{shown}"))?
        .len();
    let mut rows = Rows::open(file, kind).with_context(|| format!("{shown}"))?;
    let bar = ProgressBar::new(size).with_style(
        ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}  {eta} left")
            .expect("the template is fixed"),
    );
    let mut rejects = Rejects::new(rejects, rows.header());
    let mut summary = Summary::default();
    let mut chunk: Vec<(ImportRow, String)> = Vec::with_capacity(CHUNK_ROWS);
    loop {
        let row = rows.next_row().with_context(|| format!("{shown}"))?;
        let ended = row.is_none();
        match row {
            Some(Row::Good(mut row, text)) => {
                row.every_s = row.every_s.or(every);
                chunk.push((*row, text));
            }
            Some(Row::Bad(bad, text)) => rejects.add(&bad, &text)?,
            None => {}
        }
        if chunk.len() == CHUNK_ROWS || (ended && !chunk.is_empty()) {
            send(client, &mut chunk, &mut summary, &mut rejects).await?;
            bar.set_position(rows.consumed());
            bar.set_message(format!(
                "{} rows",
                summary.created + summary.changed + summary.unchanged
            ));
        }
        if ended {
            break;
        }
    }
    bar.finish_and_clear();
    (summary.rejected, summary.rejects_file) = rejects.finish()?;
    Ok(summary)
}

async fn send(
    client: &Client,
    chunk: &mut Vec<(ImportRow, String)>,
    summary: &mut Summary,
    rejects: &mut Rejects,
) -> anyhow::Result<()> {
    let (rows, texts): (Vec<ImportRow>, Vec<String>) = chunk.drain(..).unzip();
    let by_line: BTreeMap<u64, &str> = rows
        .iter()
        .zip(&texts)
        .map(|(row, text)| (row.line, text.as_str()))
        .collect();
    let request = ImportRequest { rows: rows.clone() };
    let reply: ImportReply = client.post("/api/v1/import", &request).await?;
    summary.created += reply.created;
    summary.changed += reply.changed;
    summary.unchanged += reply.unchanged;
    summary.repeated += reply.repeated;
    for bad in &reply.rejected {
        rejects.add(bad, by_line.get(&bad.line).copied().unwrap_or_default())?;
    }
    Ok(())
}

/// The rejects file: made with the first refused row; each row behind a comment that says why, so
/// that the mended file can be imported as it is.
struct Rejects {
    path: PathBuf,
    header: Option<String>,
    file: Option<BufWriter<File>>,
    count: u64,
}

impl Rejects {
    fn new(path: &Path, header: Option<String>) -> Self {
        Self {
            path: path.to_path_buf(),
            header,
            file: None,
            count: 0,
        }
    }

    fn add(&mut self, bad: &RejectedRow, text: &str) -> anyhow::Result<()> {
        let RejectedRow {
            line,
            field,
            reason,
        } = bad;
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut file = BufWriter::new(
                    File::create(&self.path).with_context(|| self.path.display().to_string())?,
                );
                if let Some(header) = &self.header {
                    writeln!(file, "{header}")?;
                }
                none.insert(file)
            }
        };
        writeln!(file, "# line {line}: {field}: {reason}\n{text}")?;
        self.count += 1;
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<(u64, Option<PathBuf>)> {
        let Some(file) = &mut self.file else {
            return Ok((0, None));
        };
        file.flush()
            .with_context(|| self.path.display().to_string())?;
        Ok((self.count, Some(self.path)))
    }
}
