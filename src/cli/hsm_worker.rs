//! `countersign hsm-worker` (hidden): the process that loads a PKCS#11 module. Started by a supervisor only.

use std::process::ExitCode;

use crate::hsm::worker::{self, Mode};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Make the token instead of serving it; the orders on standard input must say the same
    #[arg(long)]
    pub provision: bool,
    /// Measure the module instead of serving it; the orders on standard input must say the same
    #[arg(long, conflicts_with = "provision")]
    pub measure: bool,
}

/// Runs the worker to its end.
pub fn run(args: &Args) -> ExitCode {
    worker::run(match (args.provision, args.measure) {
        (true, _) => Mode::Provision,
        (false, true) => Mode::Measure,
        (false, false) => Mode::Serve,
    })
}
