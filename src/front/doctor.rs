//! `status` and `doctor`: what the daemon is, and whether it is well.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::ca::settings::PartyKind;
use crate::front::services::Services;
use crate::hsm::confine::Confinement;
use crate::ops::clock;
use crate::ops::failure::Failure;

/// One JSON object: party, set-up, connections, log.
pub fn status(services: &Services) -> Result<Value, Failure> {
    let setup = &services.setup;
    let ports: Value = std::fs::read(setup.state.ports())
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or(Value::Null);
    Ok(json!({
        "party": setup.party,
        "kind": setup.kind,
        "state": setup.state.root(),
        "hsm": setup.hsm.health().state,
        "hsm_workers": setup.hsm.health().workers,
        "ports": ports,
        "missing": services.missing(),
        "connections": services.connections.count(),
        "refused_handshakes": services.refused_handshakes(),
        "log": services.log().and_then(|log| log.state()).ok(),
    }))
}

/// `{"items":[{check, result, detail, next_step?}]}`: every check, `ok`, `warn` or `fail`.
pub fn report(services: &Services) -> Result<Value, Failure> {
    let mut items = Vec::new();
    check_hsm(services, &mut items);
    check_custody(services, &mut items);
    check_files(services, &mut items);
    check_guards(services, &mut items);
    check_log(services, &mut items);
    if services.setup.kind == PartyKind::Bank {
        check_bank(services, &mut items);
    }
    Ok(json!({ "items": items, "next": null }))
}

fn ok(check: &str, detail: impl Into<String>) -> Value {
    json!({ "check": check, "result": "ok", "detail": detail.into() })
}

fn warn(check: &str, detail: impl Into<String>, next_step: &str) -> Value {
    json!({ "check": check, "result": "warn", "detail": detail.into(), "next_step": next_step })
}

fn fail(check: &str, detail: impl Into<String>, next_step: &str) -> Value {
    json!({ "check": check, "result": "fail", "detail": detail.into(), "next_step": next_step })
}

fn check_hsm(services: &Services, items: &mut Vec<Value>) {
    let described = services.token().describe();
    items.push(match described {
        Ok(info) => ok(
            "hsm",
            format!("token `{}` serial {} of {} through {}", info.label, info.serial, info.manufacturer, info.module),
        ),
        Err(fault) => fail("hsm", fault.to_string(), "see the daemon's log; check module, token and PIN source"),
    });
}

fn check_custody(services: &Services, items: &mut Vec<Value>) {
    let Ok(keys) = services.token().keys() else {
        return;
    };
    let unsound: Vec<&str> = keys.iter().filter(|key| !key.custody.is_sound()).map(|key| key.label.as_str()).collect();
    items.push(if unsound.is_empty() {
        ok("custody", format!("{} keys, all born in the token and not extractable", keys.len()))
    } else {
        fail("custody", format!("not born or not kept in the token: {}", unsound.join(", ")), "replace these keys")
    });
}

fn check_files(services: &Services, items: &mut Vec<Value>) {
    let setup = &services.setup;
    let state = setup.state.root();
    match mode_of(state) {
        Some(mode) if mode & 0o077 == 0 => {
            items.push(ok("state directory", format!("{} mode {mode:o}", state.display())))
        }
        Some(mode) => items.push(fail(
            "state directory",
            format!("{} is open to others: mode {mode:o}", state.display()),
            "chmod 700 the state directory",
        )),
        None => items.push(warn("state directory", "its mode cannot be read", "check its owner")),
    }
    items.push(match &setup.confinement {
        Confinement::Applied => ok("front confinement", "PIN and token paths are closed to the front (Landlock)"),
        Confinement::NotAvailable(reason) => warn(
            "front confinement",
            format!("the kernel does not confine the front: {reason}"),
            "run the front under a user id of its own, or on a kernel with Landlock",
        ),
    });
    let now = clock::now();
    items.push(if now.0 > 1_735_689_600_000 {
        ok("clock", now.rfc3339())
    } else {
        fail("clock", format!("the clock says {}", now.rfc3339()), "set the clock: certificates depend on it")
    });
}

fn mode_of(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o777)
}

fn check_guards(services: &Services, items: &mut Vec<Value>) {
    let setup = &services.setup;
    if setup.operators.may_be_asserted() {
        items.push(warn(
            "operators",
            "names are asserted with --operator; every record says so",
            "outside a demo give each person a user id and remove demo.asserted_operators",
        ));
    } else {
        items.push(ok("operators", "known by their user id"));
    }
    if setup.kind == PartyKind::Bank {
        items.push(warn("peer lease", "off: the security company's silence does not stop money", "not available yet"));
        items.push(warn("witness lag", "off: checkpoints are not cosigned", "not available yet"));
    }
}

fn check_log(services: &Services, items: &mut Vec<Value>) {
    match services.log().and_then(|log| log.state()) {
        Ok(state) => {
            items.push(if state.lag == 0 {
                ok("audit log", format!("{} leaves, all under a signed checkpoint", state.size))
            } else {
                warn(
                    "audit log",
                    format!("{} leaves wait for a signed checkpoint", state.lag),
                    "they are signed when the HSM answers; see the log if this stays",
                )
            });
        }
        Err(failure) => items.push(fail("audit log", failure.message, "run `countersign init`")),
    }
}

fn check_bank(services: &Services, items: &mut Vec<Value>) {
    let missing = services.missing();
    items.push(if missing.is_empty() {
        ok("set-up", "agents can be served")
    } else {
        warn("set-up", format!("missing: {}", missing.join("; ")), "complete it; agents are not served before")
    });
    let status = services.live.current();
    let now = clock::now();
    let fresh: Vec<_> = status.crls.iter().map(|(issuer, crl)| (issuer, crl.next_update)).collect();
    if fresh.is_empty() {
        items.push(warn("endorsement status", "no CRL of the security company", "countersign crl import FILE"));
    }
    for (issuer, next_update) in fresh {
        items.push(if now < next_update {
            ok(
                "endorsement status",
                format!("CRL of issuer {} until {}", &issuer[..8.min(issuer.len())], next_update.rfc3339()),
            )
        } else {
            fail(
                "endorsement status",
                format!("the CRL ended at {}: every agent is refused", next_update.rfc3339()),
                "countersign crl import FILE with a fresh one",
            )
        });
    }
}
