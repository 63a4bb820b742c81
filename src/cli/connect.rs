//! `countersign connect`: what an MCP client starts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use serde_json::json;

use super::context::Context;
use crate::bridge::manifest::ManifestPin;
use crate::bridge::{self, BankAddress, Endpoint, Listen, Route};
use crate::config::Config;
use crate::kernel::types::AgentName;
use crate::ops::failure::Failure;
use crate::tls::agent::AgentSocket;

/// Be an agent: MCP on standard input and output or on loopback HTTP, mutual TLS with the agent's HSM key to the bank.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign connect --agent shopper --state ./agent
In an MCP client's configuration:
  { \"mcpServers\": { \"bank\": { \"command\": \"countersign\",
      \"args\": [\"connect\", \"--agent\", \"shopper\", \"--state\", \"/var/lib/countersign\"] } } }
  claude mcp add --transport stdio bank -- \\
      countersign connect --agent shopper --state /var/lib/countersign
For clients that speak HTTP alone; the address and a secret are printed, and end with the program:
  countersign connect --agent shopper --state ./agent --listen 127.0.0.1:8800
  countersign connect --agent shopper --listen 127.0.0.1:8800 --secret-file ~/.bank-secret
When the bank has changed its tools, once:
  countersign connect --agent shopper --accept-manifest 2
The agent host's daemon must be running. Messages for people go to standard error: the pages,
too, where a person decides.")]
pub struct Args {
    /// The agent to be.
    #[arg(long)]
    agent: AgentName,
    /// Serve MCP over HTTP on this loopback address instead of standard input; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Keep the clients' secret in this file (0600), made if it is not there; without it each start has a new one.
    #[arg(long, value_name = "FILE", requires = "listen")]
    secret_file: Option<PathBuf>,
    /// Accept this version of the bank's tools, which are other than those accepted before.
    #[arg(long, value_name = "VERSION")]
    accept_manifest: Option<u64>,
}

/// Which tools of the bank were accepted, beside its certificates.
const ACCEPTED_TOOLS: &str = "anchors/tool-manifest.json";

pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let mut route = route(context, args.agent)?;
    route.tools.accepting = args.accept_manifest;
    let failed = |error: std::io::Error| Failure::fault("runtime_failed", error.to_string(), "check process limits");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    let ended = match args.listen {
        None => runtime.block_on(bridge::run(route)),
        Some(address) => {
            let secret_file = args.secret_file;
            let place = Listen { address, secret_file: secret_file.clone() };
            let ready = |endpoint: &Endpoint| show(endpoint, secret_file.as_deref(), context);
            runtime.block_on(bridge::listen(route, place, ready))
        }
    };
    // A thread that still reads standard input must not keep the process.
    runtime.shutdown_background();
    ended
}

/// What a client's configuration needs, once, on standard output.
fn show(endpoint: &Endpoint, secret_file: Option<&Path>, context: &Context) {
    let authorization = endpoint.secret.as_ref().map(|secret| format!("Bearer {}", secret.expose_secret()));
    let value = json!({ "url": endpoint.url, "authorization": authorization, "secret_file": secret_file });
    context.print(&value, |_| {
        let said = match (&authorization, secret_file) {
            (Some(authorization), _) => format!("Authorization: {authorization}"),
            (None, Some(path)) => format!("Authorization: Bearer, then what {} holds", path.display()),
            (None, None) => String::new(),
        };
        format!("{}\n{said}", endpoint.url)
    });
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
    let oid_base = config.pki.oid_base.parse().map_err(|error| {
        Failure::usage("config_invalid", format!("[pki] oid_base: {error}"), "correct the agent host's configuration")
    })?;
    let issuing = upstream.bank_issuing.or_else(|| beside(&upstream.bank_root)).ok_or_else(|| {
        Failure::usage(
            "upstream_unpinned",
            format!("[upstream] names no bank_issuing, and {} is no NAME-root.pem", upstream.bank_root.display()),
            "name the file of the bank's issuing CAs in [upstream] bank_issuing",
        )
    })?;
    Ok(Route {
        agent: AgentSocket::new(context.state.agent_socket(), agent),
        bank,
        bank_root: context.state.resolve(upstream.bank_root),
        bank_issuing: context.state.resolve(issuing),
        oid_base,
        tools: ManifestPin {
            file: context.state.resolve(ACCEPTED_TOOLS),
            oid_base: config.pki.oid_base,
            accepting: None,
        },
    })
}

/// The file of issuing CAs beside that of a root.
fn beside(root: &Path) -> Option<PathBuf> {
    let party = root.file_name()?.to_str()?.strip_suffix("-root.pem")?;
    Some(root.with_file_name(format!("{party}-issuing.pem")))
}
