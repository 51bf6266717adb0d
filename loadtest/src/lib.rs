//! Target farm, synthetic fleet, simulator and benchmark reports.
//!
//! One module per subcommand of `picket-load`.

pub mod bench;
pub mod farm;
mod oracle;
pub mod real;
pub mod sim;
