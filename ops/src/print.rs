//! What commands print: tables for people, JSON for machines.
//!
//! Data goes to standard output, everything else to standard error. States are told apart by
//! their words; colour only repeats them, from a palette that colour-blind people can tell apart.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the one place that prints"
)]

use std::io::IsTerminal;

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use picket_wire::api::Page;
use picket_wire::api::instant::Instant;
use picket_wire::state::State;
use serde::Serialize;

/// In what form a command prints its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table that fits the terminal.
    Table,
    /// One JSON document, as the API has it.
    Json,
    /// One JSON document a line.
    Ndjson,
}

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    format: Format,
    colour: bool,
}

impl Printer {
    /// Colour only on a terminal, and never when `NO_COLOR` is set.
    pub(crate) fn new(format: Format) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            format,
            colour: std::io::stdout().is_terminal() && !plain,
        }
    }

    /// Whether the form is for people.
    pub(crate) fn for_people(self) -> bool {
        self.format == Format::Table
    }

    /// Prints one thing: as JSON, or as `people` writes it.
    pub(crate) fn one<T: Serialize>(self, value: &T, people: impl FnOnce(&T) -> String) {
        match self.format {
            Format::Table => println!("{}", people(value)),
            Format::Json => println!("{}", pretty(value)),
            Format::Ndjson => println!("{}", line(value)),
        }
    }

    /// Prints a page: as JSON, as lines, or as a table with a hint at the next page.
    pub(crate) fn page<T: Serialize>(
        self,
        page: &Page<T>,
        headers: &[&str],
        row: impl Fn(&T) -> Vec<Cell>,
    ) {
        match self.format {
            Format::Table => {
                println!("{}", self.table(headers, page.items.iter().map(row)));
                if let Some(next) = &page.next {
                    eprintln!("more: --cursor {next}");
                }
            }
            Format::Json => println!("{}", pretty(page)),
            Format::Ndjson => page
                .items
                .iter()
                .for_each(|item| println!("{}", line(item))),
        }
    }

    /// A table that fits the terminal, or that is as wide as it needs to be in a pipe.
    pub(crate) fn table(self, headers: &[&str], rows: impl Iterator<Item = Vec<Cell>>) -> Table {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(headers);
        if !self.colour {
            table.force_no_tty();
        }
        table.add_rows(rows);
        table
    }

    /// A state as a cell.
    pub(crate) fn state(self, state: State) -> Cell {
        let cell = Cell::new(state.name());
        if !self.colour {
            return cell;
        }
        match state {
            State::Up => cell.fg(Color::Blue),
            State::Warning | State::Degraded | State::SeemsDown => cell.fg(Color::Yellow),
            State::Down => cell
                .fg(Color::Red)
                .add_attribute(comfy_table::Attribute::Bold),
            State::Paused | State::Maintenance | State::Unknown => cell.fg(Color::DarkGrey),
        }
    }
}

/// Says something to the person at the terminal, beside the data.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Writes a line of data.
pub(crate) fn data(text: &str) {
    println!("{text}");
}

/// Lines of a label and a value, the values below each other.
pub(crate) fn labelled(lines: &[(&str, String)]) -> String {
    let width = lines
        .iter()
        .map(|(label, _)| label.len())
        .max()
        .unwrap_or(0);
    lines
        .iter()
        .map(|(label, value)| format!("{label:<width$}  {value}\n"))
        .collect()
}

/// An instant that may be missing.
pub(crate) fn instant(at: Option<Instant>) -> String {
    at.map_or_else(|| "–".to_owned(), |at| at.to_string())
}

/// A value that may be missing.
pub(crate) fn maybe<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

/// Parts per million as a percentage with four decimals, cut, never rounded up.
pub(crate) fn percent(ppm: u32) -> String {
    format!("{}.{:04} %", ppm / 10_000, ppm % 10_000)
}

fn pretty<T: Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("bodies of the API have string keys only")
}

fn line<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("bodies of the API have string keys only")
}
