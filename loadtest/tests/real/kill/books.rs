//! The books of a mesh that stopped: what agents said, what members logged, what Postgres holds.
//!
//! Each side is read from its own disk when nobody writes any more, so that one moment is compared
//! with itself.

mod facts;
mod lanes;
mod stored;

use std::path::Path;

use picket_load::real::disk::{self, Diary};
use picket_storage::pg::private::{Fsync, PrivatePostgres};

use super::Truth;
use crate::outage::say;
use stored::Stored;

const AGENTS: [&str; 3] = ["agent-eu", "agent-us", "agent-ap"];
const MEMBERS: [&str; 3] = ["mem_1", "mem_2", "mem_3"];

/// Reads everything below `mesh` and judges it.
pub(super) async fn balance(mesh: &Path, truth: &Truth) -> anyhow::Result<()> {
    let diaries = AGENTS
        .iter()
        .map(|agent| Diary::read(&mesh.join(agent).join("data")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let log = disk::committed(&MEMBERS.map(|member| mesh.join(member).join("data")))?;
    let postgres = PrivatePostgres::start(mesh.join("postgres"), Fsync::Off).await?;
    let stored = Stored::read(&postgres.url()).await?;
    postgres.stop().await?;
    let counted = lanes::rollups_are_stored_once(&diaries, &stored)?;
    lanes::counts_are_exact(&stored)?;
    lanes::coverage_is_what_was_counted(&stored, truth)?;
    let found = lanes::evidence_is_logged_once(&diaries, &log)?;
    let decided = facts::are_stored_once(&log, &stored)?;
    facts::testimony_is_what_was_found(&diaries, &stored)?;
    facts::incidents_begin_with_testimony(&stored)?;
    let failing = facts::what_was_counted_as_failing_was_told(&stored, truth)?;
    say(&format!(
        "{counted} windows ({failing} of a check that failed), {found} records of evidence and {decided} facts, each there once"
    ));
    Ok(())
}
