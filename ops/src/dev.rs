//! placeholder
use crate::{exit::Exit, print::Printer};
#[derive(Debug, clap::Args)]
pub(crate) struct Dev {}
pub(crate) async fn run(_: Dev, _: Printer) -> anyhow::Result<Exit> {
    Ok(Exit::Ok)
}
