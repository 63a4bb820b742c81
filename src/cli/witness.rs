//! `countersign witness`: how far a log is cosigned, and how a witness goes on after people have looked.

use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::documents::text;
use crate::front::admin::AdminCall;
use crate::kernel::types::Sha256;
use crate::kernel::witness::Head;
use crate::ops::failure::Failure;

/// See how far the audit log is cosigned, or which logs are cosigned here
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign witness status
  countersign witness accept bank.countersign.example/log --reason \"the newest store is back\"
docs/WITNESS.md says what a witness sees, and what to do when it says no.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Bank: how far the witness is behind its log. Security company: each log that it cosigns
    #[command(after_help = "Examples:
  countersign witness status
  countersign witness status --json")]
    Status,
    /// Security company: cosign a log again that was halted, after both parties have looked
    ///
    /// Without --size it goes on from what was cosigned last: the log that came with less, or with another
    /// history, was a mistake. With --size and --root it forgets what it has seen and goes on from what was
    /// handed in instead: the bank has lost what came after, revocations too, and enters them again. Two people
    /// say so, each with this command.
    #[command(after_help = "Examples:
  countersign witness accept bank.countersign.example/log --reason \"the newest store is back\"
  countersign witness accept LOG --size 4711 --reason \"lost with the data centre\" \\
      --root 5f1c68a2be50d4b1f4a37a6e7f1c90ab5d3f6a1c02e7b9481d6cf05a93e2b874
`witness status` shows size and root of what was handed in instead.")]
    Accept {
        /// The log's name, the first line of its checkpoints
        log: String,
        /// Why: kept in the audit log
        #[arg(long)]
        reason: String,
        /// Go on from a log of so many leaves
        #[arg(long, value_name = "LEAVES", requires = "root")]
        size: Option<u64>,
        /// … with this root, hexadecimal
        #[arg(long, value_name = "HEX", requires = "size", value_parser = Sha256::from_hex)]
        root: Option<Sha256>,
    },
}

/// Asks the daemon and prints its answer.
///
/// # Errors
/// The daemon's: `not_this_party`, `operator_not_permitted`, `unknown_log`, `log_not_halted`, `head_not_shown`,
/// `maker_is_checker`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Status => {
            let answer = context.call(AdminCall::WitnessStatus {})?;
            context.print(&answer, status_text);
        }
        Verb::Accept { log, reason, size, root } => {
            let head = size.zip(root).map(|(size, root)| Head { size, root });
            let answer = context.call(AdminCall::WitnessAccept { origin: log, head, reason })?;
            context.print(&answer, |answer| {
                let log = text(answer, "origin");
                match (answer["changed"] == true, answer["accepted"] == true) {
                    (true, true) => format!("{log} is cosigned again"),
                    (true, false) => {
                        format!("recorded; {log} stays halted until another officer or administrator says the same")
                    }
                    (false, _) => format!("{log} was not halted: nothing has changed"),
                }
            });
        }
    }
    Ok(())
}

fn status_text(answer: &Value) -> String {
    if answer["role"] == "witness" { witness_text(answer) } else { log_text(answer) }
}

fn log_text(answer: &Value) -> String {
    let origin = text(answer, "origin");
    let state = &answer["cosigning"];
    let newest = &answer["cosignature"];
    let mut lines = vec![match newest["size"].as_u64() {
        Some(size) => {
            format!("{origin}: {size} leaves cosigned by {} at {}", text(newest, "witness"), text(newest, "at"))
        }
        None => format!("{origin}: never cosigned"),
    }];
    if state.is_null() {
        lines.push("nobody is asked: [audit] witness_lag_max is \"off\"".into());
        return lines.join("\n");
    }
    lines.push(format!(
        "without a cosignature: {} leaves, for {} ms; money stops after {} leaves or {} s",
        state["lag_leaves"], state["lag_ms"], state["max"]["leaves"], state["max"]["seconds"]
    ));
    for (what, member) in [("nothing is decided", "refused"), ("the last question", "fault")] {
        if let Some(name) = state[member]["name"].as_str() {
            let message = text(&state[member], "message");
            lines.push(format!("{what}: {name}: {message}\n  next: {}", text(&state[member], "next_step")));
        }
    }
    lines.join("\n")
}

fn witness_text(answer: &Value) -> String {
    let mut lines = vec![format!("cosigns as {}", text(answer, "key"))];
    let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        lines.push("no log was cosigned yet".into());
    }
    for log in items {
        let whose =
            log["party"].as_str().map_or_else(|| "anybody's with its key".into(), |party| format!("of {party}"));
        let (head, origin, at) = (&log["head"], text(log, "origin"), text(log, "cosigned_at"));
        lines.push(format!("{origin} ({whose}): {} leaves, {}, cosigned at {at}", head["size"], text(head, "root")));
        let halted = &log["halted"];
        if let Some(cause) = halted["cause"].as_str() {
            let shown = &halted["shown"];
            lines.push(format!(
                "  halted at {} by {cause}: {}\n  handed in instead: {} leaves, {}",
                text(halted, "at"),
                text(halted, "why"),
                shown["size"],
                text(shown, "root")
            ));
            if let Some(person) = halted["accept_asked_by"].as_str() {
                lines
                    .push(format!("  {person} asks to go on from there: another person does it with `witness accept`"));
            }
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_halted_log_shows_both_histories() {
        let root = "ab".repeat(32);
        let shown = status_text(&json!({ "role": "witness", "name": "w", "key": "w+00+AA", "next": null, "items": [{
            "origin": "bank/log", "party": "bank", "head": { "size": 9, "root": root }, "cosigned_at": "T1",
            "halted": { "cause": "log_forked", "why": "two", "shown": { "size": 8, "root": root }, "at": "T2" },
        }] }));
        assert_eq!(
            shown,
            format!(
                "cosigns as w+00+AA\nbank/log (of bank): 9 leaves, {root}, cosigned at T1\n  halted at T2 by log_forked: \
                 two\n  handed in instead: 8 leaves, {root}"
            )
        );
    }

    #[test]
    fn a_bank_sees_how_far_it_is_and_why_not_further() {
        let mut answer = json!({ "role": "log", "origin": "bank/log", "cosigning": null, "cosignature": null });
        assert!(status_text(&answer).ends_with("witness_lag_max is \"off\""));
        answer["cosignature"] = json!({ "size": 7, "witness": "w", "at": "T" });
        answer["cosigning"] = json!({
            "lag_leaves": 2, "lag_ms": 1500, "max": { "seconds": 60, "leaves": 100 }, "refused": null,
            "fault": { "name": "peer_unreachable", "message": "away", "next_step": "wait" },
        });
        assert_eq!(
            status_text(&answer),
            "bank/log: 7 leaves cosigned by w at T\nwithout a cosignature: 2 leaves, for 1500 ms; money stops after 100 \
             leaves or 60 s\nthe last question: peer_unreachable: away\n  next: wait"
        );
    }
}
