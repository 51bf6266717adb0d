//! Scripts: commands, and under each the exact transcript of what the machine answered and
//! stated.
//!
//! A line that begins with `>` is a command; what follows until the next one is its transcript.
//! `UPDATE_SCRIPTS=1` rewrites the transcripts; the difference is then reviewed as prose.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: a panic is a failure, and the environment says whether to rewrite"
)]

mod interpreter;
mod render;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::interpreter::Interpreter;

#[test]
fn every_script_gives_its_transcript() {
    let rewrite = std::env::var("UPDATE_SCRIPTS").is_ok_and(|value| value == "1");
    let scripts = scripts();
    assert!(scripts.len() >= 9, "{scripts:?}");
    let mut wrong = String::new();
    for path in scripts {
        let expected = std::fs::read_to_string(&path).unwrap();
        let actual = run(&path, &expected);
        if actual != expected && rewrite {
            std::fs::write(&path, actual).unwrap();
        } else if actual != expected {
            writeln!(wrong, "{}", difference(&path, &expected, &actual)).unwrap();
        }
    }
    assert!(
        wrong.is_empty(),
        "run with UPDATE_SCRIPTS=1 and review\n{wrong}"
    );
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    scripts.sort();
    scripts
}

/// The script with the transcripts as they are now.
fn run(path: &Path, script: &str) -> String {
    let mut interpreter = Interpreter::new();
    let mut out = String::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            let transcript = interpreter.command(command).unwrap_or_else(|problem| {
                panic!("{}: `{command}`: {problem}", path.display());
            });
            writeln!(out, "{line}").unwrap();
            transcript
                .iter()
                .for_each(|said| writeln!(out, "  {said}").unwrap());
        } else if !line.starts_with("  ") {
            writeln!(out, "{line}").unwrap();
        }
    }
    interpreter.finish();
    out
}

fn difference(path: &Path, expected: &str, actual: &str) -> String {
    let mut text = format!("{}:", path.display());
    let longest = expected.lines().count().max(actual.lines().count());
    let line = |text: &str, n| text.lines().nth(n).unwrap_or("(nothing)").to_owned();
    let differs = (0..longest)
        .filter(|&n| line(expected, n) != line(actual, n))
        .take(6);
    for n in differs {
        let (old, new) = (line(expected, n), line(actual, n));
        write!(text, "\n  line {}\n    - {old}\n    + {new}", n + 1).unwrap();
    }
    text
}
