//! `countersign serve`: runs the daemon of a state directory.

use crate::cli::context::Context;
use crate::config::Config;
use crate::hsm::provision;
use crate::hsm::supervisor::{self, SupervisorPlan};
use crate::ops::failure::Failure;

/// Run the daemon until it is stopped. Prints one line of JSON when it is ready.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign serve --state ./bank
  countersign stop --state ./bank")]
pub struct Args {
    /// Open the admin socket only, no network listener
    #[arg(long)]
    pub offline: bool,
    /// End when standard input ends: the daemon of one command does not outlive it
    #[arg(long, hide = true)]
    pub until_eof: bool,
}

/// Runs in the foreground. Standard output is one line, `{"ready":true,…}` or `{"error":…}`; the log is on standard
/// error.
///
/// # Errors
/// Why the daemon could not start, or `front_died`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let for_one_command = args.until_eof;
    if for_one_command {
        std::thread::spawn(stop_at_eof);
    }
    let ended = plan(args, context).inspect_err(|failure| println!("{}", failure.to_json())).and_then(supervisor::run);
    match ended {
        // The command that started this daemon read the failure from standard output and shows it.
        Err(failure) if for_one_command => std::process::exit(failure.kind.exit_code().into()),
        ended => ended,
    }
}

/// Reads standard input to its end, then asks this very process to stop as anybody would.
fn stop_at_eof() {
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
}

fn plan(args: Args, context: &Context) -> Result<SupervisorPlan, Failure> {
    let config = Config::load(&context.state)?;
    let (_, party, settings) = config.hosted();
    Ok(SupervisorPlan {
        state: context.state.clone(),
        token_name: party.token.clone(),
        settings: settings.clone(),
        offline: args.offline,
        expected: provision::expected(&context.state, &party.token)?,
    })
}
