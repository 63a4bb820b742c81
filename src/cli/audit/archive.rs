//! `countersign audit archive`: where the write-once copy of the log stands, bring it up to date, fetch it back.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::audit::archive::ArchiveCall;
use crate::audit::copy::Copy;
use crate::audit::prove::SignedHead;
use crate::cli::context::Context;
use crate::cli::progress::Progress;
use crate::cli::table::cell;
use crate::cli::verify::oid_base_of_state;
use crate::front::admin::AdminCall;
use crate::kernel::receipt::Base64;
use crate::kernel::tile::Tile;
use crate::ops::clock;
use crate::ops::failure::Failure;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// How far the archive is, until when it is locked, and what keeps it, if something does
    #[command(after_help = "Examples:
  countersign audit archive status
  countersign --json audit archive status")]
    Status,
    /// Bring the archive up to the newest checkpoint now, and wait until it is there
    #[command(after_help = "Example:
  countersign audit archive now")]
    Now,
    /// Fetch the archived log into a directory, as `audit export` would have written it
    ///
    /// What is there already is compared, never replaced. Check it with `verify log`, and against the log that is kept now
    /// with `audit check --tiles`.
    #[command(after_help = "Examples:
  countersign audit archive fetch /srv/auditor/from-archive
  countersign audit archive fetch /srv/auditor/then --size 120000
  countersign verify log /srv/auditor/from-archive --root bank-root.pem")]
    Fetch {
        /// Made if it is not there
        directory: PathBuf,
        /// As it was at this archived checkpoint [default: the newest]
        #[arg(long, value_name = "LEAVES")]
        size: Option<u64>,
    },
}

/// # Errors
/// `archive_off`, and what keeps the archive; the names of [`Copy::update`].
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Status => context.print(&asked(context, ArchiveCall::Status {})?, shown),
        Verb::Now => context.print(&asked(context, ArchiveCall::Now {})?, shown),
        Verb::Fetch { directory, size } => {
            let (head, written) = fetch(context, &directory, size)?;
            let said = json!({ "directory": directory, "origin": head.origin, "size": head.size, "tiles": written });
            context.print(&said, |_| {
                let (place, origin) = (directory.display(), &head.origin);
                format!("{place} has the archived log {origin} up to leaf {}: {written} new tiles", head.size)
            });
        }
    }
    Ok(())
}

fn asked(context: &Context, call: ArchiveCall) -> Result<Value, Failure> {
    context.call(AdminCall::AuditArchive(call))
}

/// Fetches into a directory; answers the archived head and how many tiles were new.
///
/// # Errors
/// As [`run`].
fn fetch(context: &Context, directory: &Path, size: Option<u64>) -> Result<(SignedHead, u64), Failure> {
    #[derive(Deserialize)]
    struct Tiles {
        items: Vec<Base64>,
    }
    let unreadable = |error: serde_json::Error| {
        Failure::fault("answer_unreadable", error.to_string(), "check that CLI and daemon are the same version")
    };
    let _kept_up = context.kept_up()?;
    let head: SignedHead = serde_json::from_value(asked(context, ArchiveCall::Head { size })?).map_err(unreadable)?;
    let get = |tiles: &[Tile]| {
        let tiles = tiles.iter().map(Tile::to_string).collect();
        let tiles: Tiles = serde_json::from_value(asked(context, ArchiveCall::Tiles { tiles })?).map_err(unreadable)?;
        Ok(tiles.items.into_iter().map(|bytes| bytes.0).collect())
    };
    let mut progress = Progress::new(context);
    let say = |done, total| progress.say(|| format!("{done} of {total} tiles"));
    let written = Copy::at(directory).update(&head, &oid_base_of_state(context), get, say)?;
    Ok((head, written))
}

/// A copy of the archive that goes with the value.
pub(super) struct Fetched(PathBuf);

impl Fetched {
    /// # Errors
    /// As [`run`]; `copy_unwritable`.
    pub(super) fn new(context: &Context) -> Result<Self, Failure> {
        let fetched = Self(std::env::temp_dir().join(clock::fresh_id("countersign-archive-")));
        fetch(context, &fetched.0, None)?;
        Ok(fetched)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.0
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        // What cannot be removed is for the system's own tidying.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn shown(told: &Value) -> String {
    let word = |member: &str| cell(&told[member]);
    let mut lines = vec![format!("{}: {} of {} leaves", word("url"), word("archived_size"), word("size"))];
    if let Some(at) = told["archived_at"].as_str() {
        lines.push(format!("  last written at {at}, {} leaves behind", word("lag")));
    }
    let lock = &told["lock"];
    lines.push(match (told["locked_until"].as_str(), lock["mode"].as_str()) {
        (Some(until), Some(mode)) => format!("  locked in {mode} mode, the newest checkpoint until {until}"),
        (None, Some(mode)) => format!("  to be locked in {mode} mode for {} days", cell(&lock["days"])),
        (_, None) => "  without object lock".to_owned(),
    });
    if let Some(round) = told["round"].as_object() {
        lines.push(format!("  writing: {} of {} tiles", cell(&round["tiles"]), cell(&round["of"])));
    }
    if let Some(name) = told["fault"]["name"].as_str() {
        lines.push(format!("  {name}: {}", cell(&told["fault"]["message"])));
        lines.push(format!("  next: {}", cell(&told["fault"]["next_step"])));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_an_archive_is_told_with_the_next_step() {
        let told = json!({
            "url": "s3://bank-log", "size": 9, "archived_size": 7, "lag": 2, "archived_at": "2026-11-22T10:00:00.000Z",
            "lock": { "mode": "governance", "days": 3 }, "locked_until": null, "round": { "tiles": 1, "of": 2 },
            "fault": { "name": "archive_denied", "message": "403", "next_step": "check the key" },
        });
        let text = shown(&told);
        for line in ["s3://bank-log: 7 of 9 leaves", "  archive_denied: 403", "  next: check the key", "1 of 2 tiles"] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
