//! The doctor's look at the HSM: reachable, its PIN, what it can do, what its keys are.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{fail, ok, warn};
use crate::front::services::Services;
use crate::hsm::client::HsmState;
use crate::hsm::{KeyState, PinState, TokenInfo, mechanism_names};
use crate::kernel::sign::Purpose;

pub fn check(services: &Services, items: &mut Vec<Value>) {
    let described = services.token().describe();
    items.push(state(services, described.as_ref().err().map(ToString::to_string)));
    match described {
        Ok(info) => {
            let library = &info.library;
            let sha256 = library.sha256.map_or_else(|| "not readable".to_owned(), |sha256| sha256.to_string());
            items.push(ok("module", format!("{}, file SHA-256 {sha256}", info.module)));
            let (label, serial, maker) = (&info.label, &info.serial, &info.manufacturer);
            items.push(ok("token", format!("`{label}` serial {serial} of {maker}")));
            items.push(pin(info.pin));
            items.push(mechanisms(services, &info));
        }
        Err(fault) => items.push(fail(
            "token",
            fault.to_string(),
            "see the daemon's log; check module, token and PIN source in hsm.<token>",
        )),
    }
    custody(services, items);
    versions(services, items);
}

fn state(services: &Services, why: Option<String>) -> Value {
    let health = services.setup.hsm.health();
    let why = why.or_else(|| health.reason.map(|failure| failure.message));
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    match health.state {
        HsmState::Up => ok("hsm", format!("up, workers: {}", health.workers)),
        HsmState::Degraded => warn(
            "hsm",
            format!(
                "degraded, workers: {}; one was lost within the last minute, is missing, or answers slowly{why}",
                health.workers
            ),
            "see the daemon's log for the worker's last words; it heals by itself",
        ),
        HsmState::Probing => warn("hsm", format!("probing: a worker is being started{why}"), "ask again in a moment"),
        HsmState::Down => fail("hsm", format!("down{why}"), "bring the token back; the daemon goes on by itself"),
    }
}

fn pin(state: PinState) -> Value {
    match state {
        PinState::Sound => ok("pin", "no wrong PIN was tried"),
        PinState::CountLow => {
            warn("pin", "a wrong PIN was tried since the last login", "find out who has tried; this daemon tries once")
        }
        PinState::FinalTry => fail(
            "pin",
            "one more wrong PIN locks the token",
            "check the PIN source before the daemon starts again: it tries once",
        ),
        PinState::Locked => fail("pin", "the token's PIN is locked", "unlock it with the security officer's PIN"),
    }
}

fn mechanisms(services: &Services, info: &TokenInfo) -> Value {
    let present: BTreeSet<&str> = info.mechanisms.iter().map(String::as_str).collect();
    let needed = services.setup.authority.needed_algorithms(&info.mechanisms);
    let missing: Vec<String> = needed
        .iter()
        .flat_map(|algorithm| mechanism_names(*algorithm).map(|name| (algorithm, name)))
        .filter(|(_, name)| !present.contains(name))
        .map(|(algorithm, name)| format!("{name} for {}", algorithm.slug()))
        .collect();
    let words: Vec<&str> = needed.iter().map(|algorithm| algorithm.slug()).collect();
    if missing.is_empty() {
        return ok("mechanisms", format!("all that {} need", words.join(", ")));
    }
    fail(
        "mechanisms",
        format!("missing: {}", missing.join(", ")),
        "choose other algorithms in [hsm.<token>.algorithms], or a module that has them",
    )
}

fn custody(services: &Services, items: &mut Vec<Value>) {
    let Ok(mut keys) = services.token().keys() else {
        return;
    };
    keys.retain(|key| key.state != KeyState::Destroyed);
    let unsound: Vec<&str> = keys.iter().filter(|key| !key.custody.is_sound()).map(|key| key.label.as_str()).collect();
    items.push(if unsound.is_empty() {
        ok("custody", format!("{} keys, all born in the token and not extractable", keys.len()))
    } else {
        fail(
            "custody",
            format!("not born or not kept in the token: {}", unsound.join(", ")),
            "see why with `countersign key show`, and replace these keys",
        )
    });
}

/// Rotations that were cut off.
fn versions(services: &Services, items: &mut Vec<Value>) {
    let Ok(roles) = services.setup.authority.role_health() else {
        return;
    };
    let before = items.len();
    let of_tokens = services.setup.authority.token_keys().unwrap_or_default();
    let of_tokens = of_tokens.iter().filter(|key| key.state == KeyState::Active).count();
    let of_roles = roles.iter().map(|role| (role.purpose, role.active));
    for (purpose, active) in of_roles.chain([(Purpose::Token, of_tokens)]).filter(|(_, active)| *active > 1) {
        let word = purpose.slug();
        items.push(warn(
            "keys",
            format!("{active} {word} keys are active: a rotation is not finished"),
            &format!("countersign key rotate {word}, or for tls-server start the daemon again"),
        ));
    }
    if items.len() == before {
        items.push(ok("keys", "one active version a role"));
    }
}
