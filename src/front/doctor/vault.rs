//! The doctor's look at the vault: what stays sealed, what ends, what waits to be sealed anew, and whether the daemon itself
//! has what it needs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{fail, ok, warn};
use crate::front::services::Services;
use crate::hsm::client::HsmState;
use crate::hsm::{KeyInfo, KeyState, mechanism_names_of};
use crate::kernel::sign::Purpose;
use crate::kernel::types::{KeyId, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::secret::Which;
use crate::store::{CredentialLine, VaultRow};
use crate::vault::ROLLED_BACK;

/// Told of so long before.
const ENDS_SOON_MS: i64 = 14 * 86_400_000;
/// Lines that are read at a time.
const PAGE: u32 = 1_000;
/// Names that one line of the doctor has at most.
const SHOWN_MAX: usize = 10;

pub fn check(services: &Services, items: &mut Vec<Value>) {
    match looked_at(services) {
        Ok(found) => items.extend(found),
        Err(failure) => items.push(fail(
            "vault",
            format!("the credentials cannot be listed: {}", failure.message),
            "somebody may have changed the store: `countersign audit search --tool vault_put`, then restore it",
        )),
    }
    for line in services.setup.feed.lines() {
        let beside = match line.wanted.which {
            Which::Newest => "",
            Which::Before { .. } => " (the version before the newest, for a while after a rotation)",
        };
        let service = format!("{} takes {} from the vault{beside}", line.wanted.service, line.wanted.name);
        items.push(match (line.version, line.failure) {
            (Some(version), None) => ok("vault reader", format!("{service}: version {version} is in use")),
            (version, Some((name, why))) if name == ROLLED_BACK => fail(
                "vault reader",
                match version {
                    Some(version) => format!("{service}: version {version} stays in use: {name}: {why}"),
                    None => format!("{service}: it is without: {name}: {why}"),
                },
                "find out who changed the store: countersign audit check; then countersign vault rotate",
            ),
            (Some(version), Some((name, why))) => warn(
                "vault reader",
                format!("{service}: version {version} is in use, and the newest is not to be had: {name}: {why}"),
                "countersign vault list; it goes on by itself once the cause is gone",
            ),
            (None, Some((name, why))) => warn(
                "vault reader",
                format!("{service}: it is without: {name}: {why}"),
                "countersign vault list; what needs it waits, and goes on by itself once it is read",
            ),
            (None, None) => warn("vault reader", format!("{service}: not read yet"), "ask again in a moment"),
        });
    }
}

fn looked_at(services: &Services) -> Result<Vec<Value>, Failure> {
    let store = &services.setup.store;
    let sealed_under = store.credential_keys()?;
    let versions: u64 = sealed_under.iter().map(|(_, versions)| versions).sum();
    if versions == 0 {
        return Ok(vec![]);
    }
    let (damaged, lines): (Vec<_>, Vec<_>) = every_line(services)?.into_iter().partition(|found| found.row.is_none());
    let lines: Vec<CredentialLine> = lines.into_iter().filter_map(|found| found.row).collect();
    let now = clock::now();
    let mut newest: BTreeMap<&str, &CredentialLine> = BTreeMap::new();
    for line in &lines {
        newest.insert(line.name.as_str(), line);
    }
    let ends_by = |at: UnixMillis| -> Vec<&str> {
        let over = newest.values().filter(|line| line.terms.is_over(at));
        over.map(|line| line.name.as_str()).collect()
    };
    let health = services.setup.hsm.health().state;
    if matches!(health, HsmState::Down | HsmState::Probing) {
        let detail = format!("{versions} versions of {} credentials stay sealed: the HSM is away", newest.len());
        let next = "bring the token back; readers go on by themselves";
        return Ok(vec![warn("vault", detail, next)]);
    }
    let keys: Vec<KeyInfo> =
        services.token().keys()?.into_iter().filter(|key| key.purpose == Purpose::VaultWrapping).collect();
    let lives = |id: &KeyId| keys.iter().any(|key| key.id == *id && key.state != KeyState::Destroyed);
    let lost: u64 = sealed_under.iter().filter(|(id, _)| !lives(id)).map(|(_, versions)| versions).sum();
    let active = services.setup.vault.seals_under()?;
    let before: u64 = sealed_under
        .iter()
        .filter(|(id, _)| lives(id) && active.as_ref().is_none_or(|active| active.id != *id))
        .map(|(_, versions)| versions)
        .sum();
    let there = services.token().describe()?.mechanisms;
    let is_shut = |id: &KeyId| {
        let key = keys.iter().find(|key| key.id == *id && key.state != KeyState::Destroyed);
        key.map(|key| mechanism_names_of(key.purpose, key.algorithm)[1])
            .filter(|used| !there.iter().any(|name| name == used))
    };
    let shut: Vec<(&str, u64)> =
        sealed_under.iter().filter_map(|(id, versions)| Some((is_shut(id)?, *versions))).collect();
    let (ended, ends_soon) = (ends_by(now), ends_by(now.plus_ms(ENDS_SOON_MS)));
    let mut items = Vec::new();
    if !damaged.is_empty() {
        let shown =
            damaged.iter().take(SHOWN_MAX).map(|found| format!("{} version {}", found.shown_name(), found.place.1));
        let detail = format!("{} are not what was put there: {}", damaged.len(), shown.collect::<Vec<_>>().join(", "));
        let next =
            "find out who changed the store (countersign audit check), then vault rotate with --reader, or vault rm";
        items.push(fail("vault", detail, next));
    }
    if lost > 0 {
        let detail = format!("{lost} versions are sealed under keys that this token does not have");
        items.push(fail("vault", detail, "start with the token that sealed them, or give them anew: vault rotate"));
    }
    for (used, versions) in shut {
        let detail = format!("{versions} versions stay sealed: the module does not have {used}, which they need");
        items.push(fail("vault", detail, "start with a module that has it; or give them anew: vault rotate"));
    }
    if before > 0 {
        // The module may have another way to seal than when it sealed them.
        let otherwise = lines.iter().filter(|line| active.as_ref().is_none_or(|active| active.id != line.key));
        let ways: BTreeSet<&str> = otherwise.map(|line| line.way.name()).collect();
        let ways = ways.into_iter().collect::<Vec<_>>().join(", ");
        let detail = format!("{before} versions are sealed under a key from before the newest ({ways})");
        items.push(warn("vault", detail, "countersign vault rewrap"));
    }
    if !ended.is_empty() {
        let detail = format!("over, and read by nobody any more: {}", ended.join(", "));
        items.push(warn("vault", detail, "countersign vault rotate, or vault rm"));
    } else if !ends_soon.is_empty() {
        let detail = format!("end within two weeks: {}", ends_soon.join(", "));
        items.push(warn("vault", detail, "countersign vault rotate"));
    }
    if items.is_empty() {
        let under = active.as_ref().map_or("no active key", |active| active.label.as_str());
        let ways: BTreeSet<&str> = lines.iter().map(|line| line.way.name()).collect();
        let ways = ways.into_iter().collect::<Vec<_>>().join(", ");
        let detail = format!("{versions} versions of {} credentials, sealed under {under} ({ways})", newest.len());
        items.push(ok("vault", detail));
    }
    Ok(items)
}

fn every_line(services: &Services) -> Result<Vec<VaultRow<CredentialLine>>, Failure> {
    let mut lines: Vec<VaultRow<CredentialLine>> = Vec::new();
    loop {
        let after = lines.last().map(|last| last.place.clone());
        let page = services.setup.store.credential_lines(after.as_ref(), PAGE)?;
        let ends = page.len() < PAGE as usize;
        lines.extend(page);
        if ends {
            return Ok(lines);
        }
    }
}
