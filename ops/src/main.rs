//! The operator's command line.

mod client;
mod cmd;
mod dev;
mod exit;
mod import_file;
mod print;

use std::process::ExitCode;

use clap::Parser;

use crate::cmd::Picket;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            print::note(&format!("error: cannot start: {error}"));
            return exit::Exit::Failure.into();
        }
    };
    match runtime.block_on(cmd::run(Picket::parse())) {
        Ok(exit) => exit.into(),
        Err(error) => {
            print::note(&format!("error: {error:#}"));
            cmd::exit_of(&error).into()
        }
    }
}
