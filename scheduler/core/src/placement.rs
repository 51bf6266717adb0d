//! Who should probe what: a plan of moves from the present assignment to a better one.
//!
//! Where a slot should stand follows from its number: the slots of a shard take the group's
//! regions in turn, beginning at a place that depends on the shard, and a slot falls to the next
//! region when nobody in its own can have it. Inside a region, weighted rendezvous hashing with
//! bounded load decides (Thaler and Ravishankar 1998; Mirrokni, Thorup and Zadimoghaddam 2018).
//! The result is stored, so a slot that stands well enough is never moved: a plan changes what
//! must change, and evens out the load within a budget. The plan of an applied plan is empty.
//!
//! Not here: when to plan, and who is alive (`lease`).

mod explain;
mod problem;
pub(crate) mod score;
mod solve;

use picket_wire::fact::AssignCause;

pub use crate::command::Move;
pub use crate::placement::explain::{Considered, Explained, explain};
pub use crate::placement::problem::{Candidate, Fitness, Problem, Shape};
use crate::placement::solve::Solver;

/// The moves from the present assignment to a better one, the most urgent first.
///
/// A slot whose owner cannot have it is always moved; a slot that could stay is moved within the
/// budget, draining agents first. Nothing moves out of, into or within a frozen region.
#[must_use]
pub fn plan(problem: &Problem) -> Vec<Move> {
    let mut moves = Solver::new(problem).solve();
    moves.sort_by_key(|planned| (urgency(problem, planned), planned.slot));
    moves
}

fn urgency(problem: &Problem, planned: &Move) -> u8 {
    let owner = problem
        .current
        .get(&planned.slot)
        .and_then(|assignment| assignment.agent);
    if owner == planned.agent {
        return 3;
    }
    match planned.cause {
        AssignCause::Initial | AssignCause::LeaseExpired | AssignCause::Revoked => 0,
        AssignCause::Drained => 1,
        AssignCause::Rebalanced | AssignCause::Emptied => 2,
    }
}
