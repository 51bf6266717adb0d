//! The tree of commands: one noun, one file.

mod agent;
mod endpoint;
mod events;
pub(crate) mod import;
mod incident;
mod maintenance;
mod shell;
mod site;
mod sla;
mod status;
mod webhook;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::client::{CallError, Client};
use crate::exit::{self, Exit};
use crate::print::{Format, Printer};

/// Steers a Picket mesh: sites, agents, incidents, SLA figures.
#[derive(Debug, Parser)]
#[command(name = "picket", version, after_help = exit::HELP, propagate_version = true)]
pub(crate) struct Picket {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Address of a scheduler's API.
    #[arg(
        long,
        global = true,
        env = "PICKET_SERVER",
        default_value = "http://127.0.0.1:7600"
    )]
    server: String,
    /// File that holds the API token.
    #[arg(long, global = true, env = "PICKET_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Form of the output.
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the mesh on one screen.
    Status,
    /// Imports URLs from a CSV or NDJSON file, or one URL a line.
    Import(import::Import),
    /// Sites: list, get.
    #[command(subcommand)]
    Site(site::Site),
    /// Endpoints: list, get, explain where they are probed and why.
    #[command(subcommand)]
    Endpoint(endpoint::Endpoint),
    /// Incidents: list, get with votes.
    #[command(subcommand)]
    Incident(incident::Incident),
    /// SLA of a site or an endpoint over a range.
    Sla(sla::Sla),
    /// Follows changes of state as they are decided.
    Events(events::Events),
    /// Agents: list, join token, drain, resume, revoke.
    #[command(subcommand)]
    Agent(agent::Agent),
    /// Webhooks: list, add, remove.
    #[command(subcommand)]
    Webhook(webhook::Webhook),
    /// Maintenance windows: list, add, remove.
    #[command(subcommand)]
    Maintenance(maintenance::Maintenance),
    /// Runs a whole mesh on this machine: three schedulers, agents in three regions, Postgres.
    Dev(crate::dev::Dev),
    /// Prints a completion script for a shell.
    Completion(shell::Completion),
    /// Writes man pages into a folder.
    Man(shell::Man),
}

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) printer: Printer,
}

/// Runs the command that was given.
pub(crate) async fn run(picket: Picket) -> anyhow::Result<Exit> {
    let Picket { global, command } = picket;
    let printer = Printer::new(global.output);
    let context = || -> Result<Context, CallError> {
        Ok(Context {
            client: Client::new(&global.server, global.token_file.as_ref())?,
            printer,
        })
    };
    match command {
        Command::Status => status::run(&context()?).await,
        Command::Import(import) => import.run(&context()?).await,
        Command::Site(site) => site.run(&context()?).await,
        Command::Endpoint(endpoint) => endpoint.run(&context()?).await,
        Command::Incident(incident) => incident.run(&context()?).await,
        Command::Sla(sla) => sla.run(&context()?).await,
        Command::Events(events) => events.run(&context()?).await,
        Command::Agent(agent) => agent.run(&context()?).await,
        Command::Webhook(webhook) => webhook.run(&context()?).await,
        Command::Maintenance(maintenance) => maintenance.run(&context()?).await,
        Command::Dev(dev) => crate::dev::run(dev, printer).await,
        Command::Completion(completion) => completion.run(),
        Command::Man(man) => man.run(),
    }
}

/// The exit code of an error that ended a command.
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    if error.is::<crate::dev::WaitedInVain>() {
        return Exit::TimedOut;
    }
    error
        .downcast_ref::<CallError>()
        .map_or(Exit::Failure, CallError::exit)
}

/// Paging, the same for every list.
#[derive(Debug, Args)]
pub(crate) struct Paging {
    /// Continue after a page: the value that the page before named.
    #[arg(long)]
    cursor: Option<String>,
    /// Most items on the page.
    #[arg(long, default_value_t = picket_wire::api::PAGE_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// Builds a path with a query of the parameters that are set.
#[derive(Debug)]
pub(crate) struct Query(String, char);

impl Query {
    pub(crate) fn new(path: impl Into<String>) -> Self {
        Self(path.into(), '?')
    }

    pub(crate) fn with(mut self, name: &str, value: Option<impl std::fmt::Display>) -> Self {
        if let Some(value) = value {
            let separator = std::mem::replace(&mut self.1, '&');
            self.0.push(separator);
            self.0.push_str(name);
            self.0.push('=');
            self.0
                .push_str(&crate::client::query_value(&value.to_string()));
        }
        self
    }

    pub(crate) fn paged(self, paging: &Paging) -> Self {
        self.with("limit", Some(paging.limit))
            .with("cursor", paging.cursor.as_ref())
    }

    pub(crate) fn path(&self) -> &str {
        &self.0
    }
}

/// The states by name, for filters.
pub(crate) fn parse_state(text: &str) -> Result<picket_wire::state::State, String> {
    use picket_wire::state::State;
    State::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = State::ALL.iter().map(|state| state.name()).collect();
        format!("expected one of {}", names.join(", "))
    })
}
