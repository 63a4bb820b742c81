//! `status` and `doctor`: what the daemon is, and whether it is well.

mod archive;
mod certificates;
mod notices;
mod parties;
mod signing;
mod token;
mod vault;
mod witness;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::audit::settings::Sealing;
use crate::ca::settings::PartyKind;
use crate::front::agent_keys::SignatureCount;
use crate::front::services::Services;
use crate::hsm::confine::Confinement;
use crate::kernel::types::AgentName;
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
        "payments": services.payments().and_then(|payments| payments.stopped()).ok(),
        "policy_version": services.payments().map(|payments| payments.rules().policy_version.clone()).ok(),
        "policy_unreadable": services.policy_unreadable(),
        "trust_domain": setup.settings.pki.trust_domain,
        "log": services.log().and_then(|log| log.state()).ok(),
    }))
}

/// `{"items":[{check, result, detail, next_step?}]}`: every check, `ok`, `warn` or `fail`.
pub fn report(services: &Services) -> Result<Value, Failure> {
    let mut items = Vec::new();
    token::check(services, &mut items);
    certificates::check(services, &mut items);
    check_files(services, &mut items);
    check_clock(services, &mut items);
    check_guards(services, &mut items);
    parties::check(services, &mut items);
    check_store(services, &mut items);
    check_space(services, &mut items);
    check_log(services, &mut items);
    check_sealing(services, &mut items);
    archive::check(services, &mut items);
    notices::check(services, &mut items);
    vault::check(services, &mut items);
    signing::check(services, &mut items);
    if services.setup.kind == PartyKind::Bank {
        check_bank(services, &mut items);
        certificates::catalogue(services, &mut items);
        check_core(services, &mut items);
    }
    if services.setup.kind == PartyKind::AgentHost {
        items.extend(signatures(services));
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

fn check_files(services: &Services, items: &mut Vec<Value>) {
    let setup = &services.setup;
    let state = setup.state.root();
    match mode_of(state) {
        Some(mode) if mode & 0o077 == 0 || is_let_through(services, state) => {
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
    items.push(inner_directories(services, state));
    items.extend(admin_socket(services));
    let changed = |path: std::path::PathBuf| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    // The socket is made when the daemon starts.
    let is_newer = changed(setup.state.config()) > changed(setup.state.admin_socket());
    items.push(if is_newer {
        warn(
            "configuration",
            "countersign.toml was changed after the daemon started",
            "countersign check, then start the daemon again",
        )
    } else {
        ok("configuration", "the file is the one that the daemon runs with")
    });
}

/// As far as the front may see: it reads the modes, not what is inside.
fn inner_directories(services: &Services, state: &Path) -> Value {
    let open: Vec<String> = ["pins", "softhsm", "softhsm/tokens", "store", "run"]
        .into_iter()
        .filter_map(|name| Some((name, mode_of(&state.join(name))?)))
        .filter(|(name, mode)| {
            let is_gate = *name == "run" && is_let_through(services, &state.join(name));
            mode & 0o077 != 0 && !is_gate
        })
        .map(|(name, mode)| format!("{name} mode {mode:o}"))
        .collect();
    if open.is_empty() {
        return ok("inner directories", "PINs, token, store and sockets are closed to others");
    }
    fail("inner directories", format!("open to others: {}", open.join(", ")), "chmod 700 these directories")
}

/// Whether this directory is open as `[admin] group` asks, and no further.
fn is_let_through(services: &Services, directory: &Path) -> bool {
    services.setup.operators.group().is_some_and(|group| group.alone_passes(directory))
}

/// With `[admin] group`: whether its people reach the socket, and nobody else does.
fn admin_socket(services: &Services) -> Option<Value> {
    let group = services.setup.operators.group()?;
    let state = &services.setup.state;
    let run = state.resolve("run");
    let is_open = group.alone_connects(&state.admin_socket());
    let name = group.name();
    Some(if is_open && is_let_through(services, &run) && is_let_through(services, state.root()) {
        ok("admin socket", format!("the group {name} reaches it, and nothing else here"))
    } else {
        fail(
            "admin socket",
            format!("it is not open to the group {name} as the daemon opened it: somebody changed modes or groups"),
            "start the daemon again: it opens the socket, run/ and the state directory to the group, and no more",
        )
    })
}

/// Not before what is already signed: certificates and the newest leaf.
fn check_clock(services: &Services, items: &mut Vec<Value>) {
    let roles = services.setup.authority.role_health().unwrap_or_default();
    let certified = roles.iter().filter_map(|role| role.not_before).max();
    let leaf = services.log().ok().and_then(|log| log.show(1).ok()).and_then(|shown| {
        // RFC 3339 in UTC with milliseconds: texts of one length, ordered as the times are.
        shown["items"][0]["body"]["at"].as_str().map(str::to_owned)
    });
    // Asked last: leaves are written meanwhile.
    let now = clock::now();
    let said = now.rfc3339();
    let is_behind = certified.is_some_and(|start| now < start) || leaf.as_ref().is_some_and(|leaf| *leaf > said);
    items.push(if now.0 < 1_735_689_600_000 || is_behind {
        let newest = leaf.map(|leaf| format!(", the newest leaf {leaf}")).unwrap_or_default();
        fail("clock", format!("the clock says {said}{newest}"), "set the clock: it is behind what was signed already")
    } else {
        ok("clock", format!("{said}, after every certificate of ours and the newest leaf"))
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
    items.extend(peer_lease(services));
    witness::check(services, items);
}

/// Leases between a security company and a bank.
fn peer_lease(services: &Services) -> Option<Value> {
    let check = "peer lease";
    let off = "set [audit] peer_lease = \"on\" at both parties";
    match (services.setup.kind, &services.lender) {
        (PartyKind::AgentHost | PartyKind::Operator, _) => None,
        (PartyKind::SecurityCompany, Some(lender)) => {
            Some(ok(check, format!("{} nodes of other parties serve under a lease", lender.borrowers())))
        }
        (PartyKind::SecurityCompany, None) => {
            Some(warn(check, "off: `effective` says nothing about the bank, and freezes do not reach it", off))
        }
        (PartyKind::Bank, _) if services.limit.commit_before().is_none() => {
            Some(warn(check, "off: the security company's silence does not stop money", off))
        }
        (PartyKind::Bank, _) => {
            let left_ms = services.limit.until().saturating_sub(clock::boot_ms());
            Some(if left_ms > 0 {
                ok(check, format!("the security company answers; agents are served for {left_ms} ms more"))
            } else {
                let next_step = "see the daemon's log, [peer] url, and whether the security company's daemon runs";
                fail(check, "none: the security company does not answer, and agents are refused", next_step)
            })
        }
    }
}

fn check_store(services: &Services, items: &mut Vec<Value>) {
    items.push(match services.setup.store.concerns() {
        Ok(concerns) if concerns.is_empty() => ok("store", "what is acknowledged is on disk"),
        Ok(concerns) => warn(
            "store",
            format!("acknowledged commits may be lost: {}", concerns.join(", ")),
            "switch these settings on and reload the database server",
        ),
        Err(fault) => fail("store", fault.to_string(), "see the daemon's log and the database server"),
    });
}

/// What is left of the disk, against what is reserved of it.
fn check_space(services: &Services, items: &mut Vec<Value>) {
    let check = "free space";
    let space = &services.setup.space;
    let make_room = "make room on that disk, or lower [store] reserved_free_mib";
    let free = match space.free() {
        Ok(free) => free,
        Err(failure) => return items.push(warn(check, failure.message, &failure.next_step)),
    };
    let (place, reserved) = (free.place.display(), space.reserved_mib());
    let detail = format!("{} MiB at {place}, {reserved} MiB of it reserved", free.mib());
    items.push(if reserved == 0 {
        let next_step = "set [store] reserved_free_mib: a full disk takes no revocation either";
        warn(check, format!("{} MiB at {place}, and nothing is reserved", free.mib()), next_step)
    } else if free.mib() < reserved / 2 {
        fail(check, format!("{detail}: agents are not served"), make_room)
    } else if free.mib() < reserved {
        fail(check, format!("{detail}: agents' payments are stopped"), make_room)
    } else if free.mib() < 2 * reserved {
        warn(check, detail, make_room)
    } else {
        ok(check, detail)
    });
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

/// Whether what leaves say is sealed, and what was written before it was.
fn check_sealing(services: &Services, items: &mut Vec<Value>) {
    let (check, store) = ("sealing", &services.setup.store);
    if services.setup.settings.audit.sealing == Sealing::Off {
        let next_step = "set [audit] sealing = \"on\" with a token whose AES-GCM works (docs/MODULES.md)";
        items.push(warn(check, "off: what leaves say lies in the clear in the store and its backups", next_step));
        return;
    }
    items.push(match store.leaves_in_the_clear() {
        Ok(0) => ok(check, "what leaves say is sealed under a key of each subject and month"),
        Ok(count) => {
            ok(check, format!("what leaves say is sealed; {count} leaves are older than that, and in the clear"))
        }
        Err(fault) => fail(check, fault.to_string(), "see the daemon's log and the store"),
    });
    items.push(match services.setup.settings.audit.retention_days {
        Some(days) => {
            ok("retention", format!("what leaves of a month say is erased {days} days after it, but for the held"))
        }
        None => ok("retention", "what leaves say has no end: it is erased on request of two people alone"),
    });
    let check = "retention clock";
    match services.retention_time() {
        Ok(None) => {}
        Ok(Some(Ok(time))) => items.push(ok(check, format!("retention goes by {}", time.rfc3339()))),
        Ok(Some(Err(doubt))) => {
            let next_step =
                "look at the clock of this machine; when it is right, start the daemon again (docs/RETENTION.md)";
            items.push(warn(check, format!("nothing is erased for its age: {doubt}"), next_step));
        }
        Err(failure) => items.push(fail(check, failure.message, "see the daemon's log and the store")),
    }
}

/// The core banking system, where there is one: whether it hears us, and what it was not known to have heard.
fn check_core(services: &Services, items: &mut Vec<Value>) {
    let Ok(payments) = services.payments() else {
        return;
    };
    let (count, since) = match payments.outbox_waiting() {
        Ok(waiting) => waiting,
        Err(failure) => return items.push(fail("core orders", failure.message, "see the daemon's log")),
    };
    let Some(hears) = payments.core_hears() else {
        if count > 0 {
            items.push(fail(
                "core orders",
                format!("{count} orders wait for a core banking system, and none is configured"),
                "put [banking] back until they have their answers",
            ));
        }
        return;
    };
    items.push(match hears {
        Ok(()) => ok("core banking", "the core answers"),
        Err(why) => fail(
            "core banking",
            format!("the core does not answer: {why}"),
            "check [banking] in countersign.toml and the core itself; payments wait meanwhile",
        ),
    });
    items.push(match since {
        None => ok("core orders", "every order has its answer"),
        Some(since) => warn(
            "core orders",
            format!("{count} orders wait for the core's answer, the oldest since {}", since.rfc3339()),
            "delivery goes on by itself; the daemon's log says what each waits for",
        ),
    });
}

/// What each agent had signed, one line each.
fn signatures(services: &Services) -> Vec<Value> {
    let check = "agent signatures";
    let counts = services.signatures.counts();
    if counts.is_empty() {
        return vec![ok(check, "none since the daemon started")];
    }
    let line = |(agent, count): (&AgentName, &SignatureCount)| {
        let made = format!("{agent}: {} since the daemon started", count.made);
        match count.refused {
            0 => ok(check, made),
            refused => warn(
                check,
                format!("{made}, {refused} refused: too many a second"),
                "see what the agent does; raise [agents] signatures_per_second if its work needs more",
            ),
        }
    };
    counts.iter().map(line).collect()
}

fn check_bank(services: &Services, items: &mut Vec<Value>) {
    let missing = services.missing();
    items.push(if missing.is_empty() {
        ok("set-up", "agents can be served")
    } else {
        warn("set-up", format!("missing: {}", missing.join("; ")), "complete it; agents are not served before")
    });
    items.push(match services.policy_unreadable() {
        None => ok("role policy", "what is decided is decided by the policy in force"),
        Some(version) => fail(
            "role policy",
            format!("policy_unreadable: version {version} is in force and this node cannot read it; it decides nothing for agents"),
            "bring this node to the version of the others, or `countersign policy apply` a policy that it can read",
        ),
    });
    if let Ok(stopped) = services.payments().and_then(|payments| payments.stopped()) {
        let waiting = &stopped["cases_waiting"];
        items.push(if stopped["stopped"] == true {
            let reason = stopped["reason"].as_str().unwrap_or_default();
            let state = stopped["state"].as_str().unwrap_or_default();
            let names: Vec<&str> = stopped["causes"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|cause| cause["cause"].as_str())
                .collect();
            warn(
                "payments",
                format!("stopped ({state}: {}): {reason}; {waiting} cases wait", names.join(", ")),
                "countersign bank status says what to do about each cause; countersign manual list",
            )
        } else if *waiting != json!(0) {
            warn("payments", format!("{waiting} cases wait for an answer"), "countersign manual list")
        } else {
            ok("payments", "are made; no case waits")
        });
    }
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
