//! `countersign demo`: the whole story on one machine, told with the same commands a person would type.
//!
//! Three daemons, three tokens, three PINs. Every step runs this very program as a child process and shows its real
//! result; the full commands and answers go to `transcript.txt`.

mod agent;
mod stage;
mod story;
mod witness;

use std::path::PathBuf;

use super::context::Context;
use crate::ops::failure::Failure;

/// Tell the whole story: from an empty machine to an HSM-verified agent making a purchase.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ./scripts/demo                       # builds, then runs this
  countersign demo --keep              # leaves the daemons running, with an agent ready to be used
  countersign stop --state .demo/bank  # stops one of them")]
pub struct Args {
    /// Directory for the three parties; it is made anew each time.
    #[arg(long, default_value = ".demo")]
    dir: PathBuf,
    /// Leave the daemons running, with a second agent ready to be used.
    #[arg(long)]
    keep: bool,
    /// The bank's log without a witness: the daemons are then not connected with each other.
    #[arg(long)]
    no_witness: bool,
    /// PKCS#11 module.
    #[arg(long, default_value = "/usr/lib/softhsm/libsofthsm2.so")]
    module: PathBuf,
}

pub fn run(args: Args, _: &Context) -> Result<(), Failure> {
    let mut stage = stage::Stage::set(&args.dir, &args.module)?;
    let line = if args.no_witness { None } else { Some(witness::Line::lay()?) };
    let told = story::tell(&mut stage, line, args.keep);
    if told.is_err() || !args.keep {
        stage.stop_all();
    }
    told
}
