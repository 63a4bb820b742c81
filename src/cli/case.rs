//! `countersign case`: the manual queue by its older names; `manual` does the work.

use clap::Subcommand;

use super::context::Context;
use super::manual;
use crate::kernel::command::CaseVerdict;
use crate::kernel::types::CaseId;
use crate::ops::failure::Failure;

/// The manual queue by its older names: see `manual`, which also takes cases
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Show the cases: those that wait, then the others, newest first, a page at a time.
    #[command(after_help = "Examples:
  countersign case list --json
  countersign case list --after queued:case_01M7YDFSJH4NW3PWHV6A9B342B")]
    List(manual::List),
    /// Show one case: who asked for what, why it waits, and who decided.
    #[command(after_help = "Example:\n  countersign case show case_01M7YDFSJH4NW3PWHV6A9B342B")]
    Show { case: CaseId },
    /// Let the payment go on when the agent asks again (approver or officer). Nothing moves by itself.
    #[command(
        after_help = "Example:\n  countersign case release case_01M7YDFSJH4NW3PWHV6A9B342B --note \"checked with the owner\""
    )]
    Release {
        case: CaseId,
        #[arg(long, default_value = "")]
        note: String,
    },
    /// End it: the agent is told case_rejected, held funds go back (approver or officer).
    #[command(after_help = "Example:\n  countersign case reject case_01M7YDFSJH4NW3PWHV6A9B342B --note \"duplicate\"")]
    Reject {
        case: CaseId,
        #[arg(long, default_value = "")]
        note: String,
    },
}

/// # Errors
/// As [`manual::run`].
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::List(page) => manual::list(page, "case", context),
        Verb::Show { case } => manual::show(case, context),
        Verb::Release { case, note } => manual::done(case, CaseVerdict::Release, note, context),
        Verb::Reject { case, note } => manual::done(case, CaseVerdict::Reject, note, context),
    }
}
