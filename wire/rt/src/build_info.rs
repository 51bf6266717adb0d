//! What this build calls itself, for people.

/// The version of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, when the build environment told (`PICKET_COMMIT`).
pub const COMMIT: Option<&str> = option_env!("PICKET_COMMIT");

/// One line such as `picket-agent 0.1.0 (5384488)`.
#[must_use]
pub fn describe(process: &str) -> String {
    match COMMIT {
        Some(commit) => format!("{process} {VERSION} ({commit})"),
        None => format!("{process} {VERSION}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_process_and_version() {
        assert!(describe("picket-agent").starts_with(&format!("picket-agent {VERSION}")));
    }
}
