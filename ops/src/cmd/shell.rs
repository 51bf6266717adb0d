//! `picket completion` and `picket man`: made from the same tree of commands.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::cmd::Picket;
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// Which shell.
    shell: clap_complete::Shell,
}

impl Completion {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        clap_complete::generate(
            self.shell,
            &mut Picket::command(),
            "picket",
            &mut std::io::stdout(),
        );
        Ok(Exit::Ok)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Folder to write into.
    folder: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        std::fs::create_dir_all(&self.folder)?;
        clap_mangen::generate_to(Picket::command(), &self.folder)?;
        Ok(Exit::Ok)
    }
}
