//! Settings files, read once and refused as a whole.
//!
//! A key that nobody reads is a typing error that would be found at three in the morning, so it is
//! refused with its place and the nearest key that exists. Every settings struct carries
//! `#[serde(deny_unknown_fields)]`; that is what makes the parser tell.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Largest settings file: a hundred times the longest anyone writes by hand.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Most edits between a typing error and what was meant.
const NEAR: usize = 3;

/// Why settings were refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("read settings `{}`", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The file is longer than any settings.
    #[error("settings `{}` are longer than {FILE_MAX_BYTES} bytes", .path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// The text breaks a rule.
    #[error("{0}")]
    Invalid(Invalid),
}

/// What is wrong in a settings text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Which file.
    pub path: PathBuf,
    /// Which line, from 1.
    pub line: usize,
    /// Which key, with its table, when there is one.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// The key that was probably meant.
    pub nearest: Option<String>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.path.display(), self.line)?;
        if let Some(key) = &self.key {
            write!(f, "`{key}`: ")?;
        }
        f.write_str(&self.problem)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

/// Reads the settings at `path`.
///
/// # Errors
/// When the file cannot be read or breaks a rule.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, SettingsError> {
    let text = read(path)?;
    parse(path, &text)
}

/// Reads settings from `text`; `path` is only told in errors.
///
/// # Errors
/// When the text breaks a rule.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, SettingsError> {
    toml::from_str(text).map_err(|error| SettingsError::Invalid(invalid(path, text, &error)))
}

fn read(path: &Path) -> Result<String, SettingsError> {
    let failed = |source| SettingsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    let read = file
        .take(FILE_MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if read as u64 > FILE_MAX_BYTES {
        return Err(SettingsError::TooLong {
            path: path.to_owned(),
        });
    }
    Ok(text)
}

fn invalid(path: &Path, text: &str, error: &toml::de::Error) -> Invalid {
    let offset = error.span().map_or(0, |span| span.start.min(text.len()));
    let problem = error.message().trim_end().replace('\n', ", ");
    Invalid {
        path: path.to_owned(),
        line: text
            .bytes()
            .take(offset)
            .filter(|byte| *byte == b'\n')
            .count()
            + 1,
        key: key_at(text, offset),
        nearest: nearest_key(&problem),
        problem,
    }
}

/// The key on the line of `offset`, after the table it stands in. Good enough to be found by a
/// reader: it looks at lines, not at grammar.
fn key_at(text: &str, offset: usize) -> Option<String> {
    let mut table = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let here = offset < start + line.len();
        let trimmed = line.trim();
        if let Some(header) = trimmed.strip_prefix('[') {
            table = Some(
                header
                    .split(']')
                    .next()
                    .unwrap_or_default()
                    .trim_matches('['),
            );
        }
        if here {
            let key = trimmed.split_once('=').map(|(key, _)| key.trim());
            let path: Vec<&str> = table.into_iter().chain(key).collect();
            return (!path.is_empty()).then(|| path.join("."));
        }
        start += line.len();
    }
    None
}

/// serde names the unknown field and the fields it knows between backquotes.
fn nearest_key(problem: &str) -> Option<String> {
    let (given, known) = problem.strip_prefix("unknown field `")?.split_once('`')?;
    let known = known.split('`').skip(1).step_by(2);
    let (distance, name) = known.map(|name| (edits(given, name), name)).min()?;
    (distance <= NEAR && distance < name.chars().count()).then(|| name.to_owned())
}

/// Levenshtein distance.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&to) {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        region: String,
        #[serde(default)]
        mesh: Mesh,
    }

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Mesh {
        listen: String,
        #[expect(dead_code, reason = "only there to be known")]
        peers: u16,
    }

    fn refusal(text: &str) -> Invalid {
        match parse::<Example>(Path::new("agent.toml"), text) {
            Err(SettingsError::Invalid(invalid)) => invalid,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn good_settings_are_read() {
        let text = "region = \"eu\"\n[mesh]\nlisten = \"[::]:4430\"\npeers = 3\n";
        let example: Example = parse(Path::new("agent.toml"), text).expect("valid");
        assert_eq!(
            (example.region.as_str(), example.mesh.listen.as_str()),
            ("eu", "[::]:4430")
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_nearest_key() {
        let error = refusal("region = \"eu\"\n\n[mesh]\nlisten = \"x\"\npeer = 3\n");
        assert_eq!((error.line, error.key.as_deref()), (5, Some("mesh.peer")));
        assert_eq!(error.nearest.as_deref(), Some("peers"));
        let text = error.to_string();
        assert!(
            text.starts_with("agent.toml:5: `mesh.peer`: unknown field `peer`"),
            "{text}"
        );
        assert!(text.ends_with("did you mean `peers`?"), "{text}");
    }

    #[test]
    fn a_key_that_resembles_nothing_gets_no_guess() {
        assert_eq!(refusal("region = \"eu\"\nverbosity = 3\n").nearest, None);
    }

    #[test]
    fn a_wrong_type_is_refused_with_its_place() {
        let error = refusal("region = \"eu\"\n[mesh]\nlisten = \"x\"\npeers = \"three\"\n");
        assert_eq!((error.line, error.key.as_deref()), (4, Some("mesh.peers")));
        assert!(error.problem.contains("expected u16"), "{}", error.problem);
    }

    #[test]
    fn a_missing_key_and_broken_grammar_are_refused() {
        assert!(refusal("").problem.contains("missing field `region`"));
        assert_eq!(refusal("region = \"eu\"\n= 3\n").line, 2);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error =
            load::<Example>(Path::new("/nonexistent/agent.toml")).expect_err("no such file");
        assert!(error.to_string().contains("/nonexistent/agent.toml"));
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(
            [edits("", "abc"), edits("abc", ""), edits("peer", "peers")],
            [3, 3, 1]
        );
        assert_eq!([edits("kitten", "sitting"), edits("same", "same")], [3, 0]);
    }
}
