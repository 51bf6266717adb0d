//! The house style as a test: what `docs/style.md` tags [checked].
//!
//! Reads the tree as text. Each check collects every offence before it fails, so that one run
//! shows all there is to mend.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read the tree has nothing to say"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Which of our packages each package may name in `[dependencies]`, lowest row first.
const ARROWS: &[(&str, &str, &[&str])] = &[
    ("picket-wire", "wire", &[]),
    ("picket-rt", "wire/rt", &["picket-wire"]),
    ("picket-scheduler-core", "scheduler/core", &["picket-wire"]),
    ("picket-agent-core", "probe-agent/core", &["picket-wire"]),
    ("picket-storage", "storage", &["picket-wire"]),
    (
        "picket-scheduler",
        "scheduler",
        &[
            "picket-wire",
            "picket-rt",
            "picket-scheduler-core",
            "picket-storage",
        ],
    ),
    (
        "picket-agent",
        "probe-agent",
        &[
            "picket-wire",
            "picket-rt",
            "picket-agent-core",
            "picket-storage",
        ],
    ),
    ("picket", "ops", &["picket-wire", "picket-rt"]),
    (
        "picket-load",
        "loadtest",
        &[
            "picket-wire",
            "picket-rt",
            "picket-scheduler-core",
            "picket-agent-core",
            "picket-storage",
            "picket-scheduler",
            "picket-agent",
        ],
    ),
];

/// Packages that do no I/O.
const PURE: &[&str] = &["wire/src", "scheduler/core/src", "probe-agent/core/src"];

/// What must not be named in a pure package, whatever a lint says.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::thread",
    "std::process",
    "std::env",
    "Instant::now",
    "SystemTime::now",
    "tokio::",
    "HashMap",
    "HashSet",
];

/// Functions longer than this need a line in [`LONG_FUNCTIONS`] with a reason.
const FUNCTION_LINES_MAX: usize = 70;

/// Today's longer functions, each with its reason. The list may only shrink.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn files(below: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

fn tree(ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(&root(), ending, &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let shown = path
                .strip_prefix(root())
                .unwrap()
                .to_string_lossy()
                .into_owned();
            (shown, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn report(rule: &str, offences: &[String]) {
    let mut text = String::new();
    for offence in offences {
        writeln!(text, "  {offence}").unwrap();
    }
    assert!(offences.is_empty(), "{rule}:\n{text}");
}

/// The part of a file before its inline test module.
fn production(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

fn manifest(folder: &str) -> toml::Table {
    fs::read_to_string(root().join(folder).join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn arrows_between_packages_go_down_only() {
    let mut offences = Vec::new();
    for (package, folder, allowed) in ARROWS {
        let manifest = manifest(folder);
        assert_eq!(
            manifest["package"]["name"].as_str(),
            Some(*package),
            "{folder}"
        );
        let named: BTreeSet<&str> = manifest["dependencies"]
            .as_table()
            .unwrap()
            .keys()
            .map(String::as_str)
            .filter(|name| name.starts_with("picket"))
            .collect();
        for name in named.difference(&allowed.iter().copied().collect()) {
            offences.push(format!("{folder}/Cargo.toml names {name}"));
        }
    }
    report("a package may use packages of lower rows only", &offences);
}

#[test]
fn the_workspace_is_exactly_the_table_of_packages() {
    let members: BTreeSet<String> = manifest("")["workspace"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        members,
        ARROWS
            .iter()
            .map(|(_, folder, _)| (*folder).to_owned())
            .collect()
    );
}

#[test]
fn the_top_level_holds_what_the_layout_says() {
    let expected: BTreeSet<&str> = [
        "Cargo.toml",
        "Cargo.lock",
        "scheduler",
        "probe-agent",
        "wire",
        "storage",
        "ops",
        "loadtest",
        "docs",
        "deny.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
    ]
    .into();
    let present: BTreeSet<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    assert_eq!(
        present.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        expected
    );
}

#[test]
fn every_manifest_inherits_lints_and_versions() {
    let mut offences = Vec::new();
    for (_, folder, _) in ARROWS {
        let manifest = manifest(folder);
        if manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            != Some(&true.into())
        {
            offences.push(format!("{folder}/Cargo.toml does not inherit the lints"));
        }
        for section in ["dependencies", "dev-dependencies"] {
            let Some(table) = manifest.get(section).and_then(toml::Value::as_table) else {
                continue;
            };
            for (name, value) in table {
                if value.get("workspace") != Some(&true.into()) {
                    offences.push(format!(
                        "{folder}/Cargo.toml: {name} has a version of its own"
                    ));
                }
            }
        }
    }
    report(
        "versions and lints live in the workspace's manifest",
        &offences,
    );
}

#[test]
fn pure_packages_name_nothing_impure() {
    let mut offences = Vec::new();
    for (path, text) in tree(".rs") {
        if !PURE.iter().any(|pure| path.starts_with(pure)) {
            continue;
        }
        for (number, line) in production(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap_or(line);
            for word in IMPURE.iter().filter(|word| code.contains(**word)) {
                offences.push(format!("{path}:{} names {word}", number + 1));
            }
        }
    }
    report(
        "a pure package does no I/O, reads no clock and keeps order",
        &offences,
    );
}

#[test]
fn every_source_file_says_what_it_is() {
    let offences: Vec<String> = tree(".rs")
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! ") || text.starts_with("//! placeholder"))
        .map(|(path, _)| path)
        .collect();
    report(
        "the first line of a file is a `//!` line that says what it holds",
        &offences,
    );
}

#[test]
fn modules_stand_beside_their_folders() {
    let offences: Vec<String> = tree("mod.rs")
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.ends_with("/mod.rs"))
        .collect();
    report("`foo.rs` beside `foo/`, no `mod.rs`", &offences);
}

#[test]
fn no_leftovers() {
    // Spelled in halves, so that this file does not find itself.
    let words = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X"],
        ["db", "g!("],
        ["todo", "!("],
        ["unimplem", "ented!("],
        ["#[igno", "re"],
        ["unbounded_", "channel"],
    ]
    .map(|halves| halves.concat());
    let mut offences = Vec::new();
    for (path, text) in tree(".rs") {
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                offences.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    report(
        "what is not done has no marker in the code, and every channel has a bound",
        &offences,
    );
}

#[test]
fn only_one_module_names_openraft() {
    let offences: Vec<String> = tree(".rs")
        .into_iter()
        .filter(|(path, text)| {
            !path.starts_with("scheduler/src/consensus")
                && !path.starts_with("ops/tests/")
                && text.lines().any(|line| {
                    let code = line.split("//").next().unwrap_or(line);
                    code.contains("openraft::")
                })
        })
        .map(|(path, _)| path)
        .collect();
    report("openraft stays behind scheduler/src/consensus", &offences);
}

#[test]
fn every_kind_of_check_has_its_file_on_both_sides() {
    let stems = |folder: &str| -> BTreeSet<String> {
        fs::read_dir(root().join(folder))
            .map(|entries| {
                entries
                    .map(|entry| entry.unwrap().path())
                    .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
                    .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
                    .collect()
            })
            .unwrap_or_default()
    };
    let (words, probes) = (stems("wire/src/check"), stems("probe-agent/src/check"));
    assert!(
        words.is_subset(&probes),
        "{words:?} have no file each in {probes:?}"
    );
}

#[test]
fn long_functions_are_listed_with_a_reason() {
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (path, text) in tree(".rs") {
        if path.contains("/tests/") {
            continue;
        }
        for (name, lines) in functions(production(&text)) {
            if lines > FUNCTION_LINES_MAX {
                seen.insert((path.clone(), name), lines);
            }
        }
    }
    let listed: BTreeSet<(String, String)> = LONG_FUNCTIONS
        .iter()
        .map(|(path, name, _)| ((*path).to_owned(), (*name).to_owned()))
        .collect();
    let mut offences: Vec<String> = seen
        .iter()
        .filter(|(key, _)| !listed.contains(*key))
        .map(|((path, name), lines)| format!("{path}: {name} has {lines} lines"))
        .collect();
    offences.extend(
        listed
            .iter()
            .filter(|key| !seen.contains_key(*key))
            .map(|(path, name)| format!("{path}: {name} is short now; take it off the list")),
    );
    report(
        "a function above 70 lines needs a reason in this file",
        &offences,
    );
}

/// Names and lengths of the functions of a formatted file: from a line that holds `fn name` to the
/// closing brace at the same indentation.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let Some(position) = trimmed.find("fn ") else {
            continue;
        };
        let before = &trimmed[..position];
        let qualifiers = [
            "pub",
            "pub(crate)",
            "pub(super)",
            "async",
            "const",
            "extern",
            "unsafe",
            "\"C\"",
        ];
        if !before
            .split_whitespace()
            .all(|word| qualifiers.contains(&word))
        {
            continue;
        }
        let name: String = trimmed[position + 3..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let head = lines[start..]
            .iter()
            .find(|line| line.ends_with(['{', ';', '}']));
        if head.is_none_or(|head| head.ends_with(';')) {
            continue;
        }
        let indent = &line[..line.len() - trimmed.len()];
        let closing = format!("{indent}}}");
        if let Some(length) = lines[start..].iter().position(|line| *line == closing) {
            found.push((name, length + 1));
        }
    }
    found
}

#[test]
fn every_decision_is_indexed() {
    let index = fs::read_to_string(root().join("docs/adr/README.md")).unwrap();
    let offences: Vec<String> = tree(".md")
        .into_iter()
        .filter_map(|(path, _)| path.strip_prefix("docs/adr/").map(str::to_owned))
        .filter(|name| name != "README.md" && !index.contains(name.as_str()))
        .collect();
    report("docs/adr/README.md lists every decision", &offences);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut offences = Vec::new();
    for (path, text) in tree(".md") {
        let folder = root().join(&path).parent().unwrap().to_path_buf();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            if !folder.join(file).exists() {
                offences.push(format!("{path} links to {target}"));
            }
        }
    }
    report("a link in a page leads to a file that exists", &offences);
}

#[test]
fn code_named_in_pages_exists() {
    let tops = [
        "scheduler/",
        "probe-agent/",
        "wire/",
        "storage/",
        "ops/",
        "loadtest/",
        "docs/",
    ];
    let mut offences = Vec::new();
    for (path, text) in tree(".md") {
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_path = tops.iter().any(|top| quoted.starts_with(top))
                && !quoted.contains([' ', '*', '<', '{', '\n', '…']);
            if is_path && !root().join(quoted).exists() {
                offences.push(format!("{path} names {quoted}"));
            }
        }
    }
    report("a path in a page exists", &offences);
}

/// Words in quotes that are names of metrics; the names of our packages have hyphens.
fn metrics_named(text: &str, quote: char) -> BTreeSet<String> {
    let is_name = |word: &&str| {
        word.starts_with("picket_") && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    text.split(quote)
        .filter(is_name)
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_metric_is_in_the_operators_page_and_no_other() {
    let made: BTreeSet<String> = tree(".rs")
        .iter()
        .filter(|(path, _)| path.contains("/src/") && !path.starts_with("loadtest/"))
        .flat_map(|(_, text)| metrics_named(production(text), '"'))
        .collect();
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let told = metrics_named(&page, '`');
    assert!(made.len() > 40, "{made:?}");
    let offences: Vec<String> = made.symmetric_difference(&told).cloned().collect();
    report(
        "docs/operations.md tells of exactly the metrics there are",
        &offences,
    );
}
