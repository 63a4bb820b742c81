//! `countersign install`: puts an agent's bridge into the configuration of an MCP client, and takes it out again.

use std::path::Path;

use serde_json::json;

use super::connect;
use super::context::Context;
use crate::clients::{self, Client, Order, Outcome, Places, Report, Scope, Server, ServerName, Writing};
use crate::kernel::types::AgentName;
use crate::ops::failure::Failure;

/// Put an agent's bridge into an MCP client's own configuration.
///
/// Everything else in the file stays as it is; what was there is kept beside it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign install claude-desktop --agent shopper --state /var/lib/countersign
  countersign install vscode --agent shopper --scope project --dry-run
  countersign install codex --agent shopper --print
  countersign install zed --uninstall
docs/CLIENTS.md names each client's file.")]
pub struct Args {
    /// The client.
    client: Client,
    /// The agent that the client is to be.
    #[arg(long, required_unless_present = "uninstall")]
    agent: Option<AgentName>,
    /// What the server is called in the client's configuration.
    #[arg(long, default_value = "bank", value_name = "NAME")]
    name: ServerName,
    /// For whom.
    #[arg(long, default_value = "user")]
    scope: Scope,
    /// Print what could be pasted by hand; nothing is written.
    #[arg(long, conflicts_with_all = ["dry_run", "uninstall"])]
    print: bool,
    /// Show what would change; nothing is written.
    #[arg(long)]
    dry_run: bool,
    /// Take our server out again.
    #[arg(long, conflicts_with = "replace")]
    uninstall: bool,
    /// Take the place of a server of this name that is not ours.
    #[arg(long)]
    replace: bool,
}

pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let file = args.client.file(args.scope, &Places::of_this_user()?).ok_or_else(|| {
        Failure::usage(
            "scope_unavailable",
            format!("{} has no servers of a project", args.client.title()),
            "leave out --scope project",
        )
    })?;
    let server = match args.agent {
        Some(agent) if !args.uninstall => Some(server(context, &args.name, agent)?),
        Some(_) | None => None,
    };
    if let (Some(server), true) = (&server, args.print) {
        let snippet = args.client.snippet(server)?;
        // Of a file that cannot be read there is nothing to point out: what is printed is pasted by hand.
        let order = Order::Install { server, replace: true };
        let present = clients::carry_out(args.client, &file, &order, Writing::DryRun).ok();
        let foreign = present.map(|report| report.foreign).unwrap_or_default();
        let value = json!({ "client": args.client.title(), "file": file, "snippet": snippet, "foreign": foreign });
        point_out(&args.name, &file, &foreign);
        context.print(&value, |_| snippet);
        return Ok(());
    }
    let order = match &server {
        Some(server) => Order::Install { server, replace: args.replace },
        None => Order::Uninstall { name: &args.name },
    };
    let writing = if args.dry_run { Writing::DryRun } else { Writing::Yes };
    let report = clients::carry_out(args.client, &file, &order, writing)?;
    let value = json!({
        "client": args.client.title(),
        "server": args.name.as_str(),
        "file": report.file,
        "outcome": report.outcome,
        "written": writing == Writing::Yes && report.outcome != Outcome::Unchanged,
        "backup": report.backup,
        // Other servers' keys may stand in the lines that change: shown to whoever asks.
        "difference": args.dry_run.then_some(&report.difference),
        "command": server.as_ref().map(|server| &server.command),
        "args": server.as_ref().map(|server| &server.args),
        "foreign": report.foreign,
    });
    point_out(&args.name, &report.file, &report.foreign);
    context.print(&value, |_| text(args.client, &args.name, &report, writing));
    Ok(())
}

/// A name out of somebody else's file, so that it can do nothing to a terminal.
fn shown(name: &str) -> String {
    name.chars().take(NAME_CHARS_SHOWN_MAX).flat_map(char::escape_debug).collect()
}

/// Longest part of somebody else's name that is shown.
const NAME_CHARS_SHOWN_MAX: usize = 80;

/// Says which members of our entry somebody else put there, by name: what they hold may be a secret.
fn point_out(name: &ServerName, file: &Path, foreign: &[String]) {
    if !foreign.is_empty() {
        eprintln!(
            "warning: {} in {} has members that are not ours and change what is started or who is asked: {}\n\
             next: take them out by hand, or start anew with --uninstall",
            name.as_str(),
            file.display(),
            foreign.iter().map(|member| shown(member)).collect::<Vec<_>>().join(", ")
        );
    }
}

/// What the client will start: this program, with absolute paths, since a client has a directory of its own.
fn server(context: &Context, name: &ServerName, agent: AgentName) -> Result<Server, Failure> {
    // What is wrong with the state directory or the agent's name is said here, and not in the client's log.
    let route = connect::route(context, agent.clone())?;
    match route.agent.chain() {
        Err(failure) if failure.name == "agent_not_installed" => return Err(failure),
        // The daemon need not run yet.
        Ok(_) | Err(_) => {}
    }
    let program = std::env::current_exe().map_err(|error| {
        Failure::fault("program_unknown", format!("this program's own path: {error}"), "start it by its absolute path")
    })?;
    if !program.exists() {
        return Err(Failure::usage(
            "program_moved",
            format!("this program was replaced while it ran: {} is gone", program.display()),
            "start the new one",
        ));
    }
    let state = context.state.root().canonicalize().map_err(|error| {
        Failure::usage("state_unreadable", format!("the state directory: {error}"), "name it with --state")
    })?;
    Ok(Server::bridge(name.clone(), word(&program)?, agent.as_str(), word(&state)?))
}

/// A path as a configuration can hold it.
fn word(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::usage(
            "path_not_text",
            format!("{} is no UTF-8 text, and no configuration can hold it", path.display()),
            "choose another directory",
        )
    })
}

fn text(client: Client, name: &ServerName, report: &Report, writing: Writing) -> String {
    let (name, file) = (name.as_str(), report.file.display());
    let done = match (report.outcome, writing) {
        (Outcome::Unchanged, _) => return format!("unchanged: {file}"),
        (outcome, Writing::DryRun) => {
            let would = match outcome {
                Outcome::Installed => "would be installed in",
                Outcome::Updated => "would be updated in",
                Outcome::Uninstalled => "would be taken out of",
                Outcome::Unchanged => "stays in",
            };
            return format!("{name} {would} {file}:\n{}", report.difference);
        }
        (Outcome::Installed, Writing::Yes) => "installed in",
        (Outcome::Updated, Writing::Yes) => "updated in",
        (Outcome::Uninstalled, Writing::Yes) => "taken out of",
    };
    let backup = report.backup.as_ref().map(|backup| format!("\nbefore:    {}", backup.display())).unwrap_or_default();
    format!("{name} {done} {file}{backup}\nnext:      {}", client.next_step())
}
