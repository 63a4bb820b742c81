//! `countersign connect`: what an MCP client starts.

use super::context::Context;
use crate::bridge::{self, BankAddress, Route};
use crate::config::Config;
use crate::kernel::types::AgentName;
use crate::ops::failure::Failure;
use crate::tls::agent::AgentSocket;

/// Be an agent: MCP on standard input and output, mutual TLS with the agent's HSM key to the bank.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign connect --agent shopper --state ./agent
In an MCP client's configuration:
  { \"mcpServers\": { \"bank\": { \"command\": \"countersign\",
      \"args\": [\"connect\", \"--agent\", \"shopper\", \"--state\", \"/var/lib/countersign\"] } } }
  claude mcp add --transport stdio bank -- \\
      countersign connect --agent shopper --state /var/lib/countersign
The agent host's daemon must be running. Messages for people go to standard error.")]
pub struct Args {
    /// The agent to be.
    #[arg(long)]
    agent: AgentName,
}

pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let route = route(context, args.agent)?;
    let failed = |error: std::io::Error| Failure::fault("runtime_failed", error.to_string(), "check process limits");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    let ended = runtime.block_on(bridge::run(route));
    // A thread that still reads standard input must not keep the process.
    runtime.shutdown_background();
    ended
}

/// The way from an agent of this host to its bank, as the configuration says.
pub(crate) fn route(context: &Context, agent: AgentName) -> Result<Route, Failure> {
    let config = Config::load(&context.state)?;
    let upstream = config.upstream.ok_or_else(|| {
        Failure::usage(
            "upstream_missing",
            "the configuration has no [upstream] section: this is not an agent host's",
            "name the agent host's state directory with --state",
        )
    })?;
    let bank = match (upstream.url, upstream.ports_file) {
        (Some(url), None) => BankAddress::Url(url),
        (None, Some(path)) => BankAddress::PortsFile(context.state.resolve(path)),
        (Some(_), Some(_)) | (None, None) => {
            return Err(Failure::usage(
                "upstream_ambiguous",
                "[upstream] needs exactly one of url and ports_file",
                "correct the agent host's configuration",
            ));
        }
    };
    Ok(Route {
        agent: AgentSocket::new(context.state.agent_socket(), agent),
        bank,
        bank_root: context.state.resolve(upstream.bank_root),
    })
}
