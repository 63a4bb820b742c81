//! `countersign sandbox`: stand-ins of other people's systems, to try ours against.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::context::Context;
use crate::banking::sandbox::Sandbox;
use crate::kernel::credential::pem::{self, Kind};
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
  Drop the next answer: curl -d '{\"verb\":\"settle\",\"trick\":\"drop_after\"}' \\
      http://127.0.0.1:9900/v1/sandbox/plan
  Tricks: drop_before, drop_after, leave_before, leave_after, twice, garbage, {\"delay_ms\":2000},
          {\"refuse\":\"limit\"}, {\"status\":500}; with \"times\":3 the next three;
          verbs hold, settle, release
  Go away, come back:   curl -X POST http://127.0.0.1:9900/v1/sandbox/away, …/back

  Mutual TLS:
  countersign sandbox core --listen 127.0.0.1:9900 --client-root bank/certs/root.pem \\
      --root core-root.pem
    [banking]
    url = \"https://127.0.0.1:9900/v1\"
    root_file = \"/path/of/core-root.pem\"
    client_certificate = true")]
    Core {
        /// Where it listens; only the loopback is sensible.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Speak TLS, and serve only clients whose certificate lies under this root (PEM).
        #[arg(long, requires = "root")]
        client_root: Option<PathBuf>,
        /// Where the root of its own certificate is written (PEM); its key is new each time and stays in memory.
        #[arg(long, requires = "client_root")]
        root: Option<PathBuf>,
    },
}

/// # Errors
/// `client_root_unusable`, `address_in_use`, `root_unwritable`
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Verb::Core { listen, client_root, root } = args.verb;
    let client_root = client_root.as_deref().map(root_of).transpose()?;
    let started = match &client_root {
        None => Sandbox::start(listen),
        Some(client_root) => Sandbox::start_for_clients_of(listen, client_root),
    };
    let sandbox = started.map_err(|error| {
        Failure::fault(
            "address_in_use",
            format!("{listen} cannot be listened on: {error}"),
            "choose another address, or port 0 for a free one",
        )
    })?;
    if let (Some(path), Some(pem)) = (&root, sandbox.root()) {
        std::fs::write(path, pem).map_err(|error| {
            Failure::usage("root_unwritable", format!("{}: {error}", path.display()), "choose another place for --root")
        })?;
    }
    let answer = serde_json::json!({ "ready": true, "url": sandbox.url() });
    context.print(&answer, |_| format!("sandbox core at {} until this is ended", sandbox.url()));
    sandbox.wait();
    Ok(())
}

fn root_of(path: &Path) -> Result<Vec<u8>, Failure> {
    let unusable = |why: String| {
        let message = format!("--client-root {}: {why}", path.display());
        Failure::usage("client_root_unusable", message, "give the bank's certs/root.pem as it is")
    };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    pem::decode_one(Kind::Certificate, &text).map_err(|error| unusable(error.to_string()))
}
