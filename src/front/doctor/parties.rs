//! The doctor's look at the others: who is frozen, who is trusted, which hosts are believed, which lists are missing, and
//! whether the other party's daemon answers.

use std::time::Duration;

use serde_json::Value;

use super::{fail, ok, warn};
use crate::ca::Others;
use crate::ca::settings::PartyKind;
use crate::front::services::Services;
use crate::kernel::command::{Actor, Whom};
use crate::kernel::status::StatusSnapshot;
use crate::ops::failure::{Failure, Kind};

/// The longest that a line of the report waits for somebody else's daemon.
const PEER_WAIT: Duration = Duration::from_secs(2);
/// More freezes than these are counted.
const FREEZES_NAMED_MAX: usize = 10;

pub fn check(services: &Services, items: &mut Vec<Value>) {
    let setup = &services.setup;
    if setup.kind == PartyKind::Operator {
        return;
    }
    if setup.kind.certifies() {
        freezes(services, items);
    }
    match setup.authority.others() {
        Ok(others) => {
            trust(services, &others, items);
            if setup.kind == PartyKind::Bank && setup.settings.pki.company_crl_required {
                lists(&others, &services.live.current(), items);
            }
        }
        Err(failure) => items.push(fail("other parties", failure.message, &failure.next_step)),
    }
    items.extend(setup.authority.peer_answers(PEER_WAIT).map(|answer| line(setup.kind, answer)));
}

/// Who is frozen, one line each: forgotten freezes are what nobody looks for.
fn freezes(services: &Services, items: &mut Vec<Value>) {
    let doctor = Actor::System { component: "doctor".into() };
    let listed = services.setup.authority.freezes(&doctor).and_then(|list| Ok((list, services.setup.store.freezes()?)));
    let (list, own) = match listed {
        Ok(listed) => listed,
        Err(failure) => return items.push(fail("freezes", failure.message, &failure.next_step)),
    };
    let before = items.len();
    let shown = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.extend(shown.iter().take(FREEZES_NAMED_MAX).map(of_freeze));
    if let Some(more) = shown.len().checked_sub(FREEZES_NAMED_MAX).filter(|more| *more > 0) {
        items.push(warn("freezes", format!("{more} more agents are frozen"), "countersign freeze --list"));
    }
    // What is in force and not in our own store, the security company has said.
    let status = services.live.current();
    let is_own = |whom: &Whom| own.iter().any(|freeze| freeze.whom == *whom);
    let elsewhere = status.frozen.iter().filter(|agent| !is_own(&Whom::Agent((*agent).clone()))).count();
    let everyone = status.everyone_frozen && !is_own(&Whom::Everyone);
    if everyone || elsewhere > 0 {
        let whom = if everyone { "every agent is".to_owned() } else { format!("{elsewhere} agents are") };
        items.push(warn(
            "freezes",
            format!("{whom} frozen by the security company"),
            "ask it: countersign freeze --list, and two of its people lift it",
        ));
    }
    if items.len() == before {
        items.push(ok("freezes", "nobody is frozen"));
    }
}

fn of_freeze(freeze: &Value) -> Value {
    let text = |member: &str| freeze[member].as_str();
    let (whom, name) = match freeze["whom"]["agent"].as_str() {
        Some(agent) => (agent, agent.rsplit('/').next().unwrap_or(agent)),
        None => ("every agent", "--all"),
    };
    let by = text("by").map_or_else(String::new, |by| format!(" by {by}"));
    let asked = text("thaw_asked_by").map_or_else(String::new, |by| format!("; {by} has asked to lift it"));
    let (since, reason) = (text("since").unwrap_or_default(), text("reason").unwrap_or_default());
    warn(
        "freezes",
        format!("{whom} is frozen since {since}{by}: {reason}{asked}"),
        &format!("two people lift it, each with countersign unfreeze {name} --note …"),
    )
}

/// Who is trusted, and whose hosts are believed. What a bank is not served without, its set-up says.
fn trust(services: &Services, others: &Others, items: &mut Vec<Value>) {
    let setup = &services.setup;
    let (needed, whose) = match setup.kind {
        PartyKind::Bank => (1, "the security company's"),
        PartyKind::SecurityCompany => (1, "the bank's"),
        PartyKind::AgentHost => (2, "the bank's and the security company's"),
        PartyKind::Operator => return,
    };
    let names: Vec<&str> = others.trusted.keys().map(|party| party.as_str()).collect();
    items.push(if names.len() < needed {
        let known = if names.is_empty() { "nobody's".to_owned() } else { names.join(", ") };
        warn(
            "other parties",
            format!("certificates trusted here: {known}; needed are {whose}"),
            "countersign trust add with certs/root.pem and certs/issuing.pem of the other party",
        )
    } else {
        ok("other parties", format!("trusted: {}", names.join(", ")))
    });
    if setup.kind == PartyKind::AgentHost {
        return;
    }
    items.push(if others.hosts == 0 {
        warn(
            "agent hosts",
            "none is enrolled: no agent can be certified",
            "countersign host show there, countersign host enrol here",
        )
    } else {
        ok("agent hosts", format!("{} enrolled", others.hosts))
    });
    if setup.kind == PartyKind::SecurityCompany
        && let Err(failure) = setup.authority.catalogue()
    {
        items.push(warn("role catalogue", failure.message, &failure.next_step));
    }
}

/// Issuing CAs of the other party of which there is no list here: after its roll-over, most likely.
fn lists(others: &Others, status: &StatusSnapshot, items: &mut Vec<Value>) {
    for (party, issuers) in &others.trusted {
        for issuer in issuers.iter().filter(|issuer| !status.crls.contains_key(*issuer)) {
            items.push(warn(
                "endorsement status",
                format!("no list of {party}'s issuing CA {issuer}: agents that it endorses are refused"),
                "countersign crl import its certs/crl/ISSUER.crl, or set [pki] company_pki_url",
            ));
        }
    }
}

/// The other party's daemon: without it nobody is endorsed, issued to or renewed; agents are served all the same.
fn line(kind: PartyKind, answer: Result<(), Failure>) -> Value {
    let whose = if kind == PartyKind::AgentHost { "the bank's" } else { "the security company's" };
    match answer {
        Ok(()) => ok("peer", format!("{whose} daemon answers")),
        Err(failure) => match failure.kind {
            Kind::Busy | Kind::Unknown => warn("peer", failure.message, &failure.next_step),
            Kind::Fault | Kind::Usage | Kind::Refused => fail("peer", failure.message, &failure.next_step),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::kernel::status::CrlStatus;
    use crate::kernel::types::UnixMillis;

    #[test]
    fn a_freeze_says_by_whom_since_when_and_how_it_is_lifted() {
        let told = of_freeze(&json!({
            "whom": { "agent": "spiffe://countersign.example/agent/purchaser/shopper" },
            "since": "2026-11-22T00:00:00.000Z", "by": "olga", "reason": "odd payments", "thaw_asked_by": "paul",
        }));
        assert_eq!(told["result"], "warn");
        let detail = told["detail"].as_str().unwrap();
        for word in ["shopper", "2026-11-22", "by olga", "odd payments", "paul has asked"] {
            assert!(detail.contains(word), "{word}: {detail}");
        }
        assert!(told["next_step"].as_str().unwrap().contains("unfreeze shopper"));
        let all =
            of_freeze(&json!({ "whom": "everyone", "since": "x", "by": null, "reason": "y", "thaw_asked_by": null }));
        assert!(all["detail"].as_str().unwrap().starts_with("every agent is frozen since x: y"), "{all}");
        assert!(all["next_step"].as_str().unwrap().contains("unfreeze --all"));
    }

    #[test]
    fn an_issuing_ca_without_a_list_is_named() {
        let others =
            Others { trusted: BTreeMap::from([("secco".parse().unwrap(), vec!["aa".into(), "bb".into()])]), hosts: 1 };
        let list = CrlStatus { number: 1, this_update: UnixMillis(0), next_update: UnixMillis(1) };
        let mut status = StatusSnapshot { crls: BTreeMap::from([("aa".into(), list)]), ..StatusSnapshot::default() };
        let told = |status: &StatusSnapshot| {
            let mut items = vec![];
            lists(&others, status, &mut items);
            items
        };
        let missing = told(&status);
        assert!(missing.len() == 1 && missing[0]["detail"].as_str().unwrap().contains("CA bb"), "{missing:?}");
        status.crls.insert("bb".into(), list);
        assert!(told(&status).is_empty());
    }

    #[test]
    fn a_line_that_is_down_is_a_warning_and_a_stranger_at_its_end_a_failure() {
        let result = |answer| line(PartyKind::Bank, answer)["result"].clone();
        assert_eq!(result(Ok(())), "ok");
        assert_eq!(result(Err(Failure::busy("peer_unreachable", "away", "wait"))), "warn");
        assert_eq!(result(Err(Failure::refused("peer_not_recognised", "who?", "look"))), "fail");
    }
}
