//! Whole meshes of real processes: a real outage and what must come out of it, and a bad file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod import;
mod outage;

use outage::{Meanwhile, alone, play};

#[test]
fn an_outage_of_a_thousand_endpoints_is_found_told_once_and_accounted_for() {
    play(Meanwhile::Nothing);
}

#[test]
fn three_bad_rows_of_ten_thousand_are_refused_alone() {
    alone(async { import::bad_rows_are_refused_alone().await.unwrap() });
}
