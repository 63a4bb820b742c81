//! `countersign front` (hidden): the process with network, store and policy. The supervisor starts it.

use super::context::Context;
use crate::ops::failure::Failure;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// No network listeners: only the admin socket.
    #[arg(long)]
    offline: bool,
}

pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let doors = if args.offline { crate::app::Doors::AdminOnly } else { crate::app::Doors::All };
    crate::app::run_front(&context.state, doors)
}
