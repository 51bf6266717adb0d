//! What was measured, beside what it is compared with.

use std::io::{self, Write};

use serde::Serialize;

/// Everything that one run measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    /// Processors of the machine.
    cpus: usize,
    /// What was built: figures of a debug build mean nothing.
    optimised: bool,
    rounds: u16,
    pub(super) figures: Vec<Figure>,
}

/// One thing that was measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figure {
    what: String,
    unit: &'static str,
    #[serde(flatten)]
    value: Spread,
    /// What it should reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Goal>,
    references: Vec<Reference>,
}

/// A figure to reach.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// What a figure is compared with.
#[derive(Debug, Clone, Serialize)]
struct Reference {
    what: String,
    #[serde(flatten)]
    value: Spread,
    /// The figure over the reference: the median over the rounds.
    ratio: f64,
}

/// The rounds of one contender.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

/// One contender, measured once per round.
#[derive(Debug, Clone)]
pub(super) struct Series {
    what: String,
    rounds: Vec<f64>,
}

impl Series {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            rounds: Vec::new(),
        }
    }

    pub(super) fn what(&self) -> &str {
        &self.what
    }

    pub(super) fn push(&mut self, value: f64) {
        self.rounds.push(value);
    }

    fn spread(&self) -> Spread {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        Spread {
            median: median(&sorted),
            lowest: sorted.first().copied().unwrap_or(f64::NAN),
            highest: sorted.last().copied().unwrap_or(f64::NAN),
        }
    }

    fn ratio_to(&self, other: &Self) -> f64 {
        let ratios = self
            .rounds
            .iter()
            .zip(&other.rounds)
            .map(|(ours, theirs)| ours / theirs);
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_by(f64::total_cmp);
        median(&ratios)
    }
}

impl Figure {
    pub(super) fn new(
        ours: &Series,
        unit: &'static str,
        goal: Option<Goal>,
        references: &[&Series],
    ) -> Self {
        let reference = |reference: &&Series| Reference {
            what: reference.what.clone(),
            value: reference.spread(),
            ratio: ours.ratio_to(reference),
        };
        Self {
            what: ours.what.clone(),
            unit,
            value: ours.spread(),
            goal,
            references: references.iter().map(reference).collect(),
        }
    }
}

impl Report {
    pub(super) fn new(rounds: u16) -> Self {
        Self {
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            optimised: !cfg!(debug_assertions),
            rounds,
            figures: Vec::new(),
        }
    }

    pub(super) fn print_json(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, self)?;
        writeln!(out)
    }

    pub(super) fn print_table(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let build = if self.optimised {
            "optimised"
        } else {
            "NOT optimised"
        };
        writeln!(
            out,
            "{} processors, {build}, median of {} rounds (lowest to highest)",
            self.cpus, self.rounds
        )?;
        for figure in &self.figures {
            writeln!(out)?;
            let value = shown(figure.value, figure.unit);
            let goal = figure
                .goal
                .map_or_else(String::new, |goal| format!("goal {}", goal.shown()));
            writeln!(out, "{:<46} {value:<38} {goal}", figure.what)?;
            for Reference { what, value, ratio } in &figure.references {
                let value = shown(*value, figure.unit);
                writeln!(out, "    {what:<42} {value:<38} ratio {ratio:.2}")?;
            }
        }
        Ok(())
    }
}

impl Goal {
    fn shown(self) -> String {
        match self {
            Self::AtMost(value) => format!("<= {}", number(value)),
            Self::AtLeast(value) => format!(">= {}", number(value)),
        }
    }
}

/// The middle value; of an even number of values, the mean of the two in the middle.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
        (Some(below), Some(above)) if sorted.len().is_multiple_of(2) => {
            f64::midpoint(*below, *above)
        }
        (_, Some(middle)) => *middle,
        (_, None) => f64::NAN,
    }
}

fn shown(value: Spread, unit: &str) -> String {
    let Spread {
        median,
        lowest,
        highest,
    } = value;
    format!(
        "{} {unit} ({} to {})",
        number(median),
        number(lowest),
        number(highest)
    )
}

/// Three significant digits below a thousand, whole numbers in groups above.
fn number(value: f64) -> String {
    match value.abs() {
        small if small < 1.0 => format!("{value:.3}"),
        small if small < 10.0 => format!("{value:.2}"),
        small if small < 100.0 => format!("{value:.1}"),
        _ => grouped(&format!("{value:.0}")),
    }
}

fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (left, digit) in (0..digits.len()).rev().zip(digits.chars()) {
        text.push(digit);
        if left > 0 && left % 3 == 0 {
            text.push(',');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        assert!((median(&[1.0, 2.0, 9.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[1.0, 2.0, 4.0, 9.0]) - 3.0).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let [mut ours, mut theirs] = ["ours", "theirs"].map(Series::new);
        [2.0, 20.0, 3.0]
            .into_iter()
            .for_each(|value| ours.push(value));
        [1.0, 10.0, 1.0]
            .into_iter()
            .for_each(|value| theirs.push(value));
        assert!((ours.ratio_to(&theirs) - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn numbers_read_easily() {
        let shown = [0.4213, 5.678, 56.78, 567.8, 1_234_567.0].map(number);
        assert_eq!(shown, ["0.421", "5.68", "56.8", "568", "1,234,567"]);
    }
}
