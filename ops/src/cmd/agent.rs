//! `picket agent`: the probe agents and their join tokens.

use clap::Subcommand;
use comfy_table::Cell;
use picket_wire::api::Page;
use picket_wire::api::agents::{
    Agent as Body, JoinTokenReply, JoinTokenRequest, token_ttl_default,
};
use picket_wire::id::AgentId;
use picket_wire::name::Name;

use crate::cmd::Context;
use crate::exit::Exit;
use crate::print::{data, maybe, note};

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Lists agents.
    List,
    /// Makes a join token: single use, shown once.
    Token {
        /// Only for agents of this region.
        #[arg(long)]
        region: Option<Name>,
        /// Seconds the token is good for, at most a day.
        #[arg(long, default_value_t = token_ttl_default(), value_parser = clap::value_parser!(u64).range(1..=86_400))]
        ttl_s: u64,
    },
    /// Gives an agent's shards to others and assigns it none.
    Drain {
        /// Its id, `agt_…`.
        id: AgentId,
    },
    /// Lets a drained agent take shards again.
    Resume {
        /// Its id, `agt_…`.
        id: AgentId,
    },
    /// Ends an agent's certificate for good.
    Revoke {
        /// Its id, `agt_…`.
        id: AgentId,
        /// Do it without asking.
        #[arg(long)]
        yes: bool,
    },
}

const HEADERS: [&str; 9] = [
    "id", "name", "region", "network", "standing", "lease", "healthy", "slots", "checks",
];

impl Agent {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::List => {
                let page: Page<Body> = context.client.get("/api/v1/agents").await?;
                context.printer.page(&page, &HEADERS, row);
            }
            Self::Token { region, ttl_s } => {
                let request = JoinTokenRequest { region, ttl_s };
                let reply: JoinTokenReply = context
                    .client
                    .post("/api/v1/agents/tokens", &request)
                    .await?;
                if context.printer.for_people() {
                    data(&reply.token);
                    note(&format!(
                        "good once, until {}; on the agent's machine: picket-agent enrol --config FILE --token-file -",
                        reply.expires_at
                    ));
                } else {
                    context.printer.one(&reply, |_| String::new());
                }
            }
            Self::Drain { id } => change(context, id, "drain").await?,
            Self::Resume { id } => change(context, id, "resume").await?,
            Self::Revoke { id, yes } => {
                if !yes {
                    anyhow::bail!("revoking {id} cannot be undone; say --yes to do it");
                }
                change(context, id, "revoke").await?;
            }
        }
        Ok(Exit::Ok)
    }
}

async fn change(context: &Context, id: AgentId, verb: &str) -> anyhow::Result<()> {
    let agent: Body = context
        .client
        .post(
            &format!("/api/v1/agents/{id}/{verb}"),
            &serde_json::json!({}),
        )
        .await?;
    context.printer.one(&agent, |agent| {
        context
            .printer
            .table(&HEADERS, std::iter::once(row(agent)))
            .to_string()
    });
    Ok(())
}

fn row(agent: &Body) -> Vec<Cell> {
    let yes_no = |yes| if yes { "yes" } else { "no" };
    vec![
        Cell::new(agent.id),
        Cell::new(&agent.name),
        Cell::new(format!("{}/{}", agent.region, agent.zone)),
        Cell::new(&agent.network),
        Cell::new(maybe(
            serde_json::to_value(agent.standing)
                .ok()
                .as_ref()
                .and_then(|standing| standing.as_str()),
        )),
        Cell::new(yes_no(agent.leased)),
        Cell::new(yes_no(agent.healthy)),
        Cell::new(agent.slots),
        Cell::new(agent.checks),
    ]
}
