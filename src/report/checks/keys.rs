//! Keys, their token, their certificates.

use std::collections::BTreeMap;

use super::{Found, Outcome, by_doctor, listed};
use crate::hsm::KeyState;
use crate::report::facts::Facts;

const CUSTODY: &str = "countersign custody report";
const KEYS: &str = "countersign key list";

pub fn in_token(facts: &Facts) -> Found {
    let at = facts.keys.at;
    let keys = match &facts.keys.value {
        Ok(keys) => keys,
        Err(why) => return Found::unread(at, why, CUSTODY),
    };
    let live: Vec<_> = keys.iter().filter(|key| key.state != KeyState::Destroyed).collect();
    let unsound: Vec<&str> = live.iter().filter(|key| !key.custody.is_sound()).map(|key| key.label.as_str()).collect();
    let (outcome, says) = match (live.is_empty(), unsound.is_empty()) {
        (true, _) => (Outcome::NotMet, "there is no key yet"),
        (false, true) => (Outcome::Met, "each key is local, sensitive, always sensitive, never extractable"),
        (false, false) => (Outcome::NotMet, "some keys were not made in the token or could leave it"),
    };
    Found::new(outcome, at, says).with("keys that live", live.len(), CUSTODY).with(
        "keys with unsound attributes",
        listed(&unsound),
        CUSTODY,
    )
}

pub fn strong(facts: &Facts) -> Found {
    let at = facts.keys.at;
    let keys = match &facts.keys.value {
        Ok(keys) => keys,
        Err(why) => return Found::unread(at, why, KEYS),
    };
    let mut of: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    for key in keys.iter().filter(|key| key.state != KeyState::Destroyed) {
        *of.entry(key.algorithm.slug()).or_default().entry(key.purpose.slug()).or_default() += 1;
    }
    if of.is_empty() {
        return Found::new(Outcome::NotMet, at, "there is no key yet").with("keys", 0, KEYS);
    }
    // The type has no weaker algorithm: P-256, P-384, Ed25519, RSA-3072, AES-256 (NIST SP 800-57 part 1, table 2).
    let says = "algorithms of 128 bits of strength or more, one purpose a key";
    of.into_iter().fold(Found::new(Outcome::Met, at, says), |found, (algorithm, purposes)| {
        let counted = purposes.into_iter().map(|(purpose, count)| format!("{purpose} {count}"));
        found.with(algorithm, listed(counted), KEYS)
    })
}

pub fn versions(facts: &Facts) -> Found {
    let (at, keys) = match (&facts.keys.value, &facts.roles.value) {
        (Ok(keys), Ok(_)) => (facts.keys.at, keys),
        (Err(why), _) | (_, Err(why)) => return Found::unread(facts.keys.at, why, KEYS),
    };
    let roles = facts.roles.value.as_deref().unwrap_or_default();
    let doubled: Vec<&str> = roles.iter().filter(|role| role.active > 1).map(|role| role.purpose.slug()).collect();
    let of = |state: KeyState| keys.iter().filter(|key| key.state == state).count();
    let (outcome, says) = if doubled.is_empty() {
        (Outcome::Met, "one active version of each role's key; a retired key signs nothing, by its own attributes")
    } else {
        (Outcome::Partly, "a rotation was begun and not finished")
    };
    let found = Found::new(outcome, at, says)
        .with("active", of(KeyState::Active), KEYS)
        .with("verify-only", of(KeyState::VerifyOnly), KEYS)
        .with("destroyed", of(KeyState::Destroyed), KEYS)
        .with("roles with two active versions", listed(&doubled), KEYS);
    roles.iter().fold(found, |found, role| {
        let since = role.since.map_or_else(|| "no certificate in force".to_owned(), |since| since.rfc3339());
        found.with(format!("{} certified since", role.label), since, "countersign key show")
    })
}

pub fn certified(facts: &Facts) -> Found {
    let at = facts.token.at;
    let info = match &facts.token.value {
        Ok(info) => info,
        Err(why) => return Found::unread(at, why, CUSTODY),
    };
    let is_software = [&info.manufacturer, &info.library.description]
        .iter()
        .any(|text| ["softhsm", "nss", "kryoptic"].iter().any(|name| text.to_lowercase().contains(name)));
    let (outcome, says) = if is_software {
        (Outcome::NotMet, "this module keeps keys in software; put a certified HSM behind [hsm.<token>] module")
    } else {
        (Outcome::Partly, "the module names its maker; look up the device's certificate, which no program can read")
    };
    let sha256 = info.library.sha256.map_or_else(|| "not readable".to_owned(), |sha256| sha256.to_string());
    Found::new(outcome, at, says)
        .with("manufacturer", &info.manufacturer, CUSTODY)
        .with("module", format!("{} {}", info.library.description, info.library.version), CUSTODY)
        .with("module's file, SHA-256", sha256, CUSTODY)
}

pub fn sound(facts: &Facts) -> Found {
    by_doctor(
        facts,
        &["hsm", "token", "pin", "mechanisms"],
        ["the token answers and no wrong PIN was tried", "the token works, with a warning", "the token does not work"],
    )
}

pub fn certificates(facts: &Facts) -> Found {
    let says = ["all in force, none due", "some are due for renewal", "some have ended or count no more"];
    let found = by_doctor(facts, &["ca certificate", "role certificate"], says);
    let roles = facts.roles.value.as_deref().unwrap_or_default();
    roles.iter().fold(found, |found, role| {
        let until = role.until.map_or_else(|| "none in force".to_owned(), |until| until.rfc3339());
        found.with(format!("{}, until", role.label), until, "countersign key show")
    })
}

pub fn credentials(facts: &Facts) -> Found {
    by_doctor(
        facts,
        &["vault", "vault reader"],
        [
            "each value is sealed under the newest key of the token, for named readers, and read through the audit log alone",
            "all are sealed; some have ended, wait to be sealed anew or are not to be had",
            "some cannot be opened with this token, or the store was changed",
        ],
    )
}

pub fn programs(facts: &Facts) -> Found {
    by_doctor(
        facts,
        &["signing service"],
        [
            "each key signs the kinds and for the callers that the configuration names, each order in the log before its signature",
            "all are named; some keys sign for nobody, cannot sign now, or sign what nobody can tell the purpose of",
            "the keys cannot be read",
        ],
    )
}
