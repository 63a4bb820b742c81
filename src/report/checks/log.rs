//! The audit log.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{DOCTOR, Found, Outcome, by_doctor, listed};
use crate::report::facts::{Facts, LeafLine, Whose};

const STATUS: &str = "countersign status";
const SHOW: &str = "countersign audit show";
const CHECK: &str = "countersign audit check";
const RETENTION: &str = "[audit] retention_days in force";

pub fn signed(facts: &Facts) -> Found {
    let at = facts.log.at;
    let log = match &facts.log.value {
        Ok(log) => log,
        Err(why) => return Found::unread(at, why, STATUS),
    };
    let (outcome, says) = match (&log.fault, log.running, log.lag) {
        (Some(_), _, _) | (None, false, _) => {
            (Outcome::NotMet, "checkpoints are not signed now: the sequencer stands still")
        }
        (None, true, 0) => (Outcome::Met, "every leaf is under a checkpoint that a key in the token signed"),
        (None, true, _) => (Outcome::Partly, "leaves wait for the next checkpoint"),
    };
    let fault = log.fault.as_ref().map_or("none", |fault| fault.name.as_str());
    Found::new(outcome, at, says)
        .with("log", &log.origin, STATUS)
        .with("leaves", log.size, STATUS)
        .with("leaves under a signed checkpoint", log.signed_size, STATUS)
        .with("failure of the sequencer", fault, STATUS)
}

/// Whatever is not wholly in order means that one party alone could rewrite what nobody else has seen.
pub fn witnessed(facts: &Facts) -> Found {
    let at = facts.doctor.at;
    let lines = match &facts.doctor.value {
        Ok(lines) => lines,
        Err(why) => return Found::unread(at, why, DOCTOR),
    };
    let lines: Vec<_> = lines.iter().filter(|line| line.check.starts_with("witness")).collect();
    let found = match (lines.is_empty(), facts.whose) {
        (true, Whose::Bank) => Found::new(Outcome::NotMet, at, "nothing is known of a witness"),
        (true, Whose::SecurityCompany | Whose::AgentHost | Whose::Operator) => {
            Found::new(Outcome::NotApplicable, at, "the bank's log is what a witness watches")
        }
        (false, Whose::SecurityCompany | Whose::AgentHost | Whose::Operator) => {
            Found::new(Outcome::NotMet, at, "this party may witness another's log; nobody witnesses its own")
        }
        (false, Whose::Bank) if lines.iter().all(|line| line.result == "ok") => {
            Found::new(Outcome::Met, at, "another party checks and cosigns the log")
        }
        (false, Whose::Bank) => Found::new(Outcome::NotMet, at, "no fresh word of another party covers the log"),
    };
    lines
        .into_iter()
        .fold(found, |found, line| found.with(line.check.clone(), format!("{}: {}", line.result, line.detail), DOCTOR))
}

pub fn checked(facts: &Facts) -> Found {
    let Some(checked) = &facts.checked else {
        return Found::new(
            Outcome::Partly,
            facts.made_at,
            "not asked for: the report was made without --deep, which rebuilds the whole tree",
        )
        .with("rebuilt", "no", CHECK);
    };
    let value = match &checked.value {
        Ok(value) => value,
        Err(why) => {
            let says = "the log is not what was signed, or could not be rebuilt";
            return Found::new(Outcome::NotMet, checked.at, says).with("failure", why, CHECK);
        }
    };
    let found = Found::new(Outcome::Met, checked.at, "rebuilt from every leaf: the root is the one that was signed");
    let members = value.as_object().into_iter().flatten();
    members.filter(|(_, value)| !value.is_object() && !value.is_array()).fold(found, |found, (name, value)| {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        found.with(name.replace('_', " "), if *value == Value::Null { "none".into() } else { shown }, CHECK)
    })
}

pub fn kept(facts: &Facts) -> Found {
    let at = facts.first.at;
    let first = match &facts.first.value {
        Ok(first) => first,
        Err(why) => return Found::unread(at, why, SHOW),
    };
    let Some(first) = first.as_ref().filter(|leaf| leaf.index == 0) else {
        return Found::new(Outcome::NotMet, at, "the first leaf is not there");
    };
    let since = first.at.clone().unwrap_or_else(|| "its body is not readable any more".to_owned());
    // A leaf stays, as a hash and its place; what it says may go.
    let (outcome, says) = match (facts.retention_days, first.at.is_some()) {
        (Some(_), true | false) => (Outcome::Partly, "no leaf is removed, and what it says is erased after a time"),
        (None, false) => (Outcome::Partly, "no leaf is removed, and what the first one says cannot be read any more"),
        (None, true) => (Outcome::Met, "no leaf is removed, and what one says is erased only by two people on purpose"),
    };
    let days = facts.retention_days.map_or_else(|| "no end".to_owned(), |days| format!("{days} days after its month"));
    Found::new(outcome, at, says)
        .with("what a leaf says is kept", days, RETENTION)
        .with("first leaf", format!("0, {since}"), SHOW)
        .with("leaves under the checkpoint of this report", facts.head.size, SHOW)
}

/// A lock that a server holds is one thing; files that the machine's own root can replace are another.
pub fn archived(facts: &Facts) -> Found {
    let at = facts.doctor.at;
    let lines = match &facts.doctor.value {
        Ok(lines) => lines,
        Err(why) => return Found::unread(at, why, DOCTOR),
    };
    let Some(line) = lines.iter().find(|line| line.check == "log archive") else {
        return Found::new(Outcome::NotApplicable, at, "this party's log is not archived, and need not be");
    };
    let is_locked = line.detail.contains(" locked (");
    let (outcome, says) = match (line.result.as_str(), is_locked) {
        ("ok", true) => (Outcome::Met, "it is, and the server said until when it holds the newest copy"),
        ("ok", false) => (Outcome::Partly, "it is written once; no object lock keeps others from deleting it"),
        ("warn", _) if !line.detail.starts_with("off") => (Outcome::Partly, "it is, and is behind"),
        _ => (Outcome::NotMet, "the log is copied nowhere by itself"),
    };
    Found::new(outcome, at, says).with("archive", format!("{}: {}", line.result, line.detail), DOCTOR)
}

pub fn names(facts: &Facts) -> Found {
    let at = facts.newest.at;
    let leaves = match &facts.newest.value {
        Ok(leaves) => leaves,
        Err(why) => return Found::unread(at, why, SHOW),
    };
    // What was erased as it may be is no leaf that says nobody's name.
    let (erased, readable): (Vec<&LeafLine>, Vec<&LeafLine>) = leaves.iter().partition(|leaf| leaf.is_erased);
    let nameless = readable.iter().filter(|leaf| leaf.actor.is_none() || leaf.at.is_none()).count();
    let mut by: BTreeMap<&str, u64> = BTreeMap::new();
    for actor in leaves.iter().filter_map(|leaf| leaf.actor.as_deref()) {
        *by.entry(actor).or_default() += 1;
    }
    let (outcome, says) = match (leaves.is_empty(), nameless) {
        (true, _) => (Outcome::NotMet, "there is no leaf yet"),
        (false, 0) => (
            Outcome::Met,
            "each of the leaves that were looked at and are not erased names its actor and its time, as the store has them: \
             whether they are what was signed is what `countersign audit check` says",
        ),
        (false, _) => {
            (Outcome::Partly, "some leaves name nobody or no time, and are not erased: they are damaged, or not JSON")
        }
    };
    let place = leaves.first().zip(leaves.last()).map(|(first, last)| format!("{} to {}", first.index, last.index));
    Found::new(outcome, at, says)
        .with("leaves looked at", place.unwrap_or_else(|| "none".into()), SHOW)
        .with("by actor", listed(by.iter().map(|(actor, count)| format!("{actor} {count}"))), SHOW)
        .with("erased", erased.len(), SHOW)
        .with("without a name or a time", nameless, SHOW)
}

/// A store that nobody says is sealed is not.
pub fn sealed(facts: &Facts) -> Found {
    let says = [
        "a key of each subject and month seals it, and that key can be destroyed",
        "it lies in the clear in the store, and nothing of it can be erased",
        "whether it is could not be told",
    ];
    let found = by_doctor(facts, &["sealing", "retention"], says);
    match found.outcome {
        Outcome::NotApplicable => Found::new(Outcome::NotMet, found.at, says[2]),
        // Older leaves in the clear are in the line's own words.
        Outcome::Met | Outcome::NotMet => found,
        Outcome::Partly => Found { outcome: Outcome::NotMet, ..found },
    }
}
