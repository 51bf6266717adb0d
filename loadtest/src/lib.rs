//! Target farm, synthetic fleet, simulator and benchmark reports.
//!
//! One module per subcommand of `picket-load`.

pub mod farm;
