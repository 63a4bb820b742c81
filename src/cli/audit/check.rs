//! `countersign audit check`: is the log whole, and is the book what the log says.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::archive::Fetched;
use crate::audit::CopyHead;
use crate::audit::copy::{Copy, VerifiedCopy};
use crate::cli::context::Context;
use crate::cli::progress::Progress;
use crate::cli::table::cell;
use crate::cli::verify::trusted;
use crate::front::admin::AdminCall;
use crate::ops::failure::Failure;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A copy that `audit export` made: every file is checked, and the log must begin with what it holds
    #[arg(long, value_name = "DIR")]
    tiles: Option<PathBuf>,
    /// The same with the copy of [audit.archive], fetched for it
    #[arg(long, conflicts_with = "tiles")]
    archive: bool,
    /// For --tiles and --archive: the party's root certificate, PEM [default: certs/root.pem of the state directory]
    #[arg(long, value_name = "PEM")]
    root: Option<PathBuf>,
}

/// Asks the daemon for all that it keeps, and looks at the copy itself.
///
/// # Errors
/// `log_damaged` when the check found something; the names of [`Copy::verify`]; the daemon's.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Args { tiles, archive, root } = args;
    let fetched = if archive { Some(Fetched::new(context)?) } else { None };
    let tiles = tiles.or_else(|| fetched.as_ref().map(|fetched| fetched.directory().to_owned()));
    let copy = match &tiles {
        Some(directory) => {
            let (root, oid_base) = trusted(context, root, None)?;
            let mut progress = Progress::new(context);
            let say = |done, total| progress.say(|| format!("{done} of {total} tiles"));
            Some(Copy::at(directory).verify(&root, None, &oid_base, say))
        }
        None => None,
    };
    let head = match &copy {
        Some(Ok(VerifiedCopy { checkpoint, .. })) => Some(CopyHead { size: checkpoint.size, root: checkpoint.root }),
        Some(Err(_)) | None => None,
    };
    let mut answer = context.call(AdminCall::AuditCheck { copy: head })?;
    if let (Some(directory), Some(Ok(found))) = (&tiles, &copy) {
        answer["copy"] =
            json!({ "directory": directory, "archive": archive, "size": found.checkpoint.size, "tiles": found.tiles });
    }
    context.print(&answer, shown);
    if answer["sound"] != true {
        return Err(Failure::fault(
            "log_damaged",
            format!("{} findings", answer["findings_found"]),
            "stop the daemon, keep its store as evidence, and see docs/AUDIT.md for what each finding means",
        ));
    }
    // The log is sound; the copy is not.
    copy.map_or(Ok(()), |copy| copy.map(drop))
}

fn shown(answer: &Value) -> String {
    let count = |member: &str| cell(&answer[member]);
    let mut lines = vec![];
    if answer["sound"] == true {
        lines.push(format!("the log {} is sound", count("origin")));
    } else {
        lines.push(format!("the log {} is damaged, {} findings:", count("origin"), count("findings_found")));
        for finding in answer["findings"].as_array().into_iter().flatten() {
            let word = |member: &str| cell(&finding[member]);
            lines.push(format!("  {} on {}: {}", word("name"), word("on"), word("message")));
        }
    }
    lines.push(format!("  leaves rebuilt under the signed checkpoint: {}", count("signed_size")));
    lines.push(format!("  root: {}", count("root")));
    lines.push(format!("  waiting for a signature: {}, for a place: {}", count("unsigned_leaves"), count("waiting")));
    lines.push(format!(
        "  compared: {} checkpoints, {} cosignatures, {} batches, {} transactions of which {} moved money",
        count("checkpoints"),
        count("cosignatures"),
        count("batches"),
        count("transactions"),
        count("postings")
    ));
    if answer["erased"] != 0 {
        lines
            .push(format!("  erased: {} leaves, whose places are proven and whose bodies nobody has", count("erased")));
    }
    let findings = || answer["findings"].as_array().into_iter().flatten();
    let copy_is_told = findings().any(|finding| cell(&finding["name"]).starts_with("copy_"));
    if let Some(copy) = answer["copy"].as_object().filter(|_| !copy_is_told) {
        let (directory, size) = (cell(&copy["directory"]), cell(&copy["size"]));
        let what = if copy.get("archive").is_some_and(|is| *is == true) {
            "the archive".to_owned()
        } else {
            format!("the copy in {directory}")
        };
        lines.push(format!("  {what} is whole, and the log begins with its {size} leaves"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_told_by_name_and_place() {
        let answer = json!({
            "origin": "bank/log", "sound": false, "findings_found": 1, "signed_size": 8, "root": "aa", "erased": 0,
            "findings": [{ "name": "leaf_not_committed", "on": "7", "message": "body and salt" }],
            "unsigned_leaves": 0, "waiting": 0, "checkpoints": 1, "cosignatures": 1, "batches": 0, "transactions": 0, "postings": 0,
        });
        let text = shown(&answer);
        assert!(text.contains("is damaged, 1 findings"), "{text}");
        assert!(text.contains("  leaf_not_committed on 7: body and salt"), "{text}");
        let mut answer = answer;
        answer["copy"] = json!({ "directory": "there", "size": 6 });
        assert!(shown(&answer).contains("the copy in there is whole"));
        answer["findings"][0]["name"] = "copy_forked".into();
        assert!(!shown(&answer).contains("is whole"), "{}", shown(&answer));
    }
}
