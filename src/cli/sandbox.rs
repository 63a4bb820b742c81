//! `countersign sandbox`: stand-ins of other people's systems, to try ours against.

use std::net::SocketAddr;

use clap::Subcommand;

use super::context::Context;
use crate::banking::sandbox::Sandbox;
use crate::ops::failure::Failure;

/// Run a stand-in for another system, to try countersign against
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// A core banking system that speaks docs/CORE-BANKING.md, keeps its book in memory, and misbehaves when told.
    #[command(after_help = "Examples:
  countersign sandbox core --listen 127.0.0.1:9900
    then in the bank's countersign.toml:
    [banking]
    url = \"http://127.0.0.1:9900/v1\"

  What it did:          curl http://127.0.0.1:9900/v1/sandbox/book
  Drop the next answer: curl -d '{\"verb\":\"settle\",\"trick\":\"drop_after\"}' http://127.0.0.1:9900/v1/sandbox/plan
  Tricks: drop_before, drop_after, leave_before, leave_after, twice, garbage, {\"delay_ms\":2000},
          {\"refuse\":\"limit\"}, {\"status\":500}; with \"times\":3 the next three; verbs hold, settle, release
  Go away, come back:   curl -X POST http://127.0.0.1:9900/v1/sandbox/away, …/back")]
    Core {
        /// Where it listens; only the loopback is sensible.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

/// # Errors
/// `address_in_use`
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Verb::Core { listen } = args.verb;
    let sandbox = Sandbox::start(listen).map_err(|error| {
        Failure::fault(
            "address_in_use",
            format!("{listen} cannot be listened on: {error}"),
            "choose another address, or port 0 for a free one",
        )
    })?;
    let answer = serde_json::json!({ "ready": true, "url": sandbox.url() });
    context.print(&answer, |_| format!("sandbox core at {} until this is ended", sandbox.url()));
    sandbox.wait();
    Ok(())
}
