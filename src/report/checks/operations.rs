//! The daemon's surroundings: clock, disk, files, messages, other parties.

use super::{Found, Outcome, by_doctor, listed};
use crate::report::facts::Facts;

const STATUS: &str = "countersign freeze --list, countersign cert list";
const MESSAGES: &str = "countersign notify list";

pub fn clock(facts: &Facts) -> Found {
    let says =
        ["it is; how it is kept in step is the host's", "there is a warning", "it is behind what was signed already"];
    by_doctor(facts, &["clock"], says)
}

pub fn store(facts: &Facts) -> Found {
    let says =
        ["a commit is answered when it is synced", "acknowledged commits may be lost", "the store does not answer"];
    by_doctor(facts, &["store"], says)
}

pub fn state(facts: &Facts) -> Found {
    let says = [
        "they are, and the kernel confines the process that has the network",
        "files are closed, and the kernel does not confine the process that has the network",
        "somebody else may reach them",
    ];
    by_doctor(facts, &["state directory", "inner directories", "front confinement", "admin socket"], says)
}

pub fn configuration(facts: &Facts) -> Found {
    let says =
        ["it does, and nothing is missing", "the file was changed since, or something is missing", "it does not"];
    by_doctor(facts, &["configuration", "set-up", "role policy"], says)
}

pub fn told(facts: &Facts) -> Found {
    let Some(messages) = &facts.messages else {
        return Found::new(Outcome::NotApplicable, facts.made_at, "this party's daemon tells nobody of anything");
    };
    let at = messages.at;
    let messages = match &messages.value {
        Ok(messages) => messages,
        Err(why) => return Found::unread(at, why, MESSAGES),
    };
    let (outcome, says) = match (messages.channels.is_empty(), messages.dead) {
        (true, _) => (Outcome::NotMet, "nobody is told of anything: there is no [[notify.channel]]"),
        (false, 0) => (Outcome::Met, "people are told, and no message was given up"),
        (false, _) => (Outcome::Partly, "messages were given up: nobody got them"),
    };
    let channels = messages.channels.iter().map(|(name, kind)| format!("{name} ({kind})"));
    Found::new(outcome, at, says)
        .with("channels", listed(channels), MESSAGES)
        .with("sent", messages.sent, MESSAGES)
        .with("waiting", messages.queued, MESSAGES)
        .with("given up", messages.dead, MESSAGES)
}

pub fn revocation(facts: &Facts) -> Found {
    let says = [
        "lists are in force, and agents are refused when the other party is silent",
        "lists are in force; see what is off",
        "a list has ended, or the other party is silent: agents are refused",
    ];
    by_doctor(facts, &["endorsement status", "peer lease"], says)
}

pub fn freezes(facts: &Facts) -> Found {
    let at = facts.status.at;
    let status = match &facts.status.value {
        Ok(status) => status,
        Err(why) => return Found::unread(at, why, STATUS),
    };
    let everyone = match (status.everyone, status.everyone_frozen) {
        (true, _) => "revoked",
        (false, true) => "frozen",
        (false, false) => "neither",
    };
    // Counted, not named: who it is, the lists say to those who may see them.
    Found::new(Outcome::Met, at, "read in the commit of every payment; a revocation stands for ever")
        .with("agents revoked", status.agents.len(), STATUS)
        .with("keys revoked", status.keys.len(), STATUS)
        .with("certificates revoked", status.certificates.len(), STATUS)
        .with("agents frozen", status.frozen.len(), STATUS)
        .with("all agents at once", everyone, STATUS)
}

pub fn parties(facts: &Facts) -> Found {
    let says = ["known, and they answer", "see what is missing", "somebody is not who they should be"];
    by_doctor(facts, &["other parties", "agent hosts", "peer"], says)
}
