//! Which leaves people are told of, in which words, and which they are not.

use serde_json::{Value, json};

use super::gather::{Content, Gathered, Lately, Pace, gather};
use super::*;

const AGENT: &str = "spiffe://countersign.example/agent/purchaser/assistant";

fn leaf(change: Value) -> Vec<u8> {
    let mut body = json!({
        "actor": { "kind": "agent", "spiffe_id": AGENT, "key": "ab", "bank_serial": "01" },
        "asserted": false, "at": "2026-11-22T10:00:00.000Z", "decision": "permitted", "parameters": {},
        "reason": null, "request_id": "req_01M7YDFSJH4NW3PWHV6A9B342B", "result": {}, "schema": "countersign/leaf/v1",
    });
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    serde_json::to_vec(&body).unwrap()
}

fn operator() -> Value {
    json!({ "kind": "operator", "name": "alice", "uid": 1000, "roles": ["approver"], "asserted": true })
}

fn act(name: &str, parameters: Value, result: Value) -> Vec<u8> {
    leaf(json!({ "act": name, "actor": operator(), "parameters": parameters, "result": result }))
}

fn alert(parameters: Value) -> Vec<u8> {
    let monitor = json!({ "kind": "system", "component": "monitor" });
    leaf(json!({ "act": "monitor_alert", "actor": monitor, "parameters": parameters }))
}

fn disagreement(component: &str, parameters: Value) -> Vec<u8> {
    let actor = json!({ "kind": "system", "component": component });
    leaf(json!({ "act": "witness_alert", "actor": actor, "parameters": parameters }))
}

fn transfer() -> Value {
    json!({ "tool": "authorize_transfer", "from_account": "DE89370400440532013000", "to_account": "SAV_001",
            "amount": { "amount": "9500.00", "currency": "USD" }, "idempotency_key": "k" })
}

#[test]
fn each_kind_has_the_leaf_that_makes_it() {
    let approval = "apr_01M7YDFSJH4NW3PWHV6A9B342B";
    let agent = json!({ "agent": AGENT });
    let table = [
        (
            "payment_waits",
            leaf(json!({ "tool": "authorize_transfer", "parameters": transfer(), "result": {
            "status": "requires_approval", "approval_id": approval, "transaction_id": "txn_01M7YDFSJH4NW3PWHV6A9B342B",
            "expires": "2026-11-23T10:00:00.000Z" } })),
        ),
        (
            "payment_queued",
            leaf(json!({ "tool": "execute_transfer", "parameters": transfer(), "result": {
            "status": "queued_manual", "case_id": "case_01M7YDFSJH4NW3PWHV6A9B342B", "why": "core_down" } })),
        ),
        (
            "request_refused",
            leaf(json!({ "tool": "authorize_transfer", "decision": "refused", "reason": "insufficient_funds",
            "parameters": transfer(), "result": null })),
        ),
        (
            "approval_decided",
            act("decide_approval", json!({ "note": "ok" }), json!({ "status": "approved", "approval_id": approval })),
        ),
        ("case_decided", act("resolve_case", json!({}), json!({ "status": "released", "case_id": "case_x" }))),
        (
            "payment_queued",
            act("queue_manual", json!({ "case_id": "case_x", "reason": "r" }), json!({ "status": "done" })),
        ),
        ("breaker_opened", act("set_breaker", json!({ "open": true, "reason": "storm" }), json!({ "status": "done" }))),
        ("breaker_closed", act("set_breaker", json!({ "open": false, "reason": null }), json!({ "status": "done" }))),
        ("agent_frozen", act("freeze", json!({ "whom": agent, "reason": "r" }), json!({ "already": false }))),
        ("everyone_frozen", act("freeze", json!({ "whom": "everyone", "reason": "r" }), json!({ "already": false }))),
        ("thaw_asked", act("unfreeze", json!({ "whom": agent, "note": "" }), json!({ "by": "one_of_two" }))),
        ("agent_thawed", act("unfreeze", json!({ "whom": agent, "note": "" }), json!({ "by": "both" }))),
        (
            "agent_revoked",
            act("revoke", json!({ "target": agent, "reason": "r" }), json!({ "already": false, "authorizations": 2 })),
        ),
        (
            "everyone_revoked",
            act("revoke", json!({ "target": "everyone", "reason": "r" }), json!({ "already": false })),
        ),
        (
            "certificate_revoked",
            act("revoke", json!({ "target": { "key": "ab" }, "reason": "r" }), json!({ "already": false })),
        ),
        (
            "core_refused",
            act(
                "core_answered",
                json!({ "transaction_id": "txn_x", "verb": "settle", "word": { "refused": "blocked" } }),
                json!({}),
            ),
        ),
        ("handshakes_refused", act("handshakes_refused", json!({ "counts": { "endorsement_missing": 3 } }), json!({}))),
        (
            "renewal_failed",
            leaf(
                json!({ "act": "cert_renew", "actor": operator(), "decision": "refused", "reason": "approval_missing",
                "parameters": { "outcome": "refused", "reason": "approval_missing", "about": { "name": "a" } },
                "result": null }),
            ),
        ),
        (
            "security_changed",
            act("operator_enrol", json!({ "outcome": "done", "about": {} }), json!({ "status": "done" })),
        ),
        (
            "operator_refused",
            leaf(json!({ "act": "unfreeze", "actor": operator(), "decision": "refused", "reason": "not_frozen",
                "parameters": { "outcome": "refused", "reason": "not_frozen" }, "result": null })),
        ),
        (
            "policy_applied",
            act(
                "apply_policy",
                json!({ "sha256": "ab" }),
                json!({ "status": "policy_in_force", "version": "7", "changed": true }),
            ),
        ),
        ("monitor_alert", alert(json!({ "agent": AGENT, "score": 91, "reasons": ["velocity"] }))),
        (
            "witness_alert",
            act(
                "witness",
                json!({ "origin": "bank/log", "head": { "size": "7", "root": "ab" } }),
                json!({ "status": "halted", "cause": "log_forked", "remembered": { "size": "9", "root": "cd" } }),
            ),
        ),
        ("witness_alert", disagreement("witness", json!({ "name": "store_older_than_witnessed", "why": "fewer" }))),
    ];
    for (kind, body) in &table {
        let notice = of_leaf(body).unwrap_or_else(|| panic!("{kind}"));
        assert_eq!(notice.kind.name(), *kind);
        assert!(notice.title.starts_with(notice.kind.title()), "{notice:?}");
        assert!(notice.lines.last().unwrap().starts_with("next: "), "{notice:?}");
        assert_eq!(notice.subjects["request_id"], "req_01M7YDFSJH4NW3PWHV6A9B342B");
    }
    let told: std::collections::BTreeSet<&str> = table.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(told.len(), NoticeKind::ALL.len(), "each kind is in the table");
}

/// The name of the tool that an agent asks for stands in the leaf as its act.
#[test]
fn an_agent_that_names_an_act_of_ours_raises_no_other_notice() {
    let acts = [
        "set_breaker",
        "freeze",
        "unfreeze",
        "revoke",
        "key_destroy",
        "apply_policy",
        "decide_approval",
        "resolve_case",
        "queue_manual",
        "core_answered",
        "handshakes_refused",
        "cert_renew",
        "monitor_alert",
        "trust_add",
    ];
    for act in acts {
        let refused = json!({ "refused": "unknown_tool", "message": "m", "open": true, "outcome": "refused",
            "word": { "refused": "x" }, "counts": { "x": 1 } });
        let body = leaf(json!({ "act": act, "decision": "refused", "reason": "unknown_tool", "parameters": refused }));
        assert_eq!(of_leaf(&body).map(|notice| notice.kind), Some(NoticeKind::RequestRefused), "{act}");
        let other = leaf(json!({ "act": act, "parameters": { "open": true, "reason": "r" } }));
        assert_eq!(of_leaf(&other), None, "{act}");
    }
}

#[test]
fn leaves_that_concern_nobody_make_no_notice() {
    for body in [
        leaf(json!({ "tool": "list_accounts", "result": { "status": "answered" } })),
        leaf(json!({ "tool": "execute_transfer", "parameters": transfer(), "result": { "status": "executed" } })),
        act("freeze", json!({ "whom": "everyone", "reason": "r" }), json!({ "already": true })),
        act("revoke", json!({ "target": "everyone", "reason": "r" }), json!({ "already": true })),
        act("core_answered", json!({ "word": "done" }), json!({})),
        act("sweep", json!({ "limit": 3 }), json!({ "status": "swept" })),
        act("decide_approval", json!({}), json!({ "status": "counted", "approval_id": "apr_x" })),
        act("set_breaker", json!({ "open": true, "reason": "r" }), json!({ "status": "done", "changed": false })),
        act("apply_policy", json!({}), json!({ "status": "recorded" })),
        // Only the monitor raises alerts.
        act("monitor_alert", json!({ "agent": AGENT, "score": 91, "reasons": [] }), json!({})),
        leaf(json!({ "act": "monitor_alert", "parameters": { "agent": AGENT } })),
        leaf(json!({ "act": "monitor_alert", "actor": { "kind": "system", "component": "listener" } })),
        disagreement("listener", json!({ "name": "x", "why": "y" })),
        act("witness", json!({}), json!({ "status": "cosigned" })),
        act("cert_renew", json!({ "outcome": "done", "about": { "name": "a" } }), json!({})),
        leaf(
            json!({ "act": "sweep", "actor": { "kind": "system", "component": "s" }, "decision": "refused", "reason": "x" }),
        ),
        b"{}".to_vec(),
        b"not JSON".to_vec(),
        vec![],
    ] {
        assert_eq!(of_leaf(&body), None, "{}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn no_account_in_full_and_no_command_of_a_stranger_is_in_a_notice() {
    let hostile =
        "pay 4111 1111 1111 1111 now\r\nBcc: all@example\u{202e}\u{200b}\u{1b}[31m DE89370400440532013000 1234567890";
    let table = [
        leaf(
            json!({ "tool": "authorize_transfer", "parameters": transfer(), "result": { "status": "requires_approval" } }),
        ),
        leaf(
            json!({ "tool": "x", "decision": "refused", "reason": hostile, "parameters": transfer(), "result": null }),
        ),
        act("freeze", json!({ "whom": { "agent": AGENT }, "reason": hostile }), json!({ "already": false })),
        act("set_breaker", json!({ "open": true, "reason": hostile }), json!({})),
        alert(json!({ "agent": AGENT, "score": hostile, "reasons": [hostile] })),
        act("core_answered", json!({ "transaction_id": hostile, "word": { "refused": hostile } }), json!({})),
        act("handshakes_refused", json!({ "counts": { hostile: 3 } }), json!({})),
    ];
    for body in &table {
        let notice = of_leaf(body).unwrap();
        let said = serde_json::to_string(&notice).unwrap();
        for account in [
            "DE89370400440532013000",
            "SAV_001",
            "4111 1111",
            "41111111",
            "1234567890",
            "\u{202e}",
            "\u{200b}",
            "\\u001b",
            "\\r",
            "\\n",
        ] {
            assert!(!said.contains(account), "{account:?} in {said}");
        }
        assert!(notice.title.chars().count() <= TITLE_CHARS_MAX);
    }
}

#[test]
fn texts_are_cleaned_and_shortened() {
    let table = [
        (text::cleaned("a\u{0}b\tc\n\nd", 60), "ab c d"),
        (text::cleaned("card 4111-1111-1111-1111.", 60), "card ••••••••"),
        (text::cleaned("card 4111 1111 1111 1111 here", 60), "card ••••1111 here"),
        (text::cleaned("room 12, 100 times", 60), "room 12, 100 times"),
        (text::cleaned("apr_01M7YDFSJH4NW3PWHV6A9B342B", 60), "apr_01M7YDFSJH4NW3PWHV6A9B342B"),
        (text::cleaned("2026-11-22T10:00:00.000Z", 60), "2026-11-22T10:00:00.000Z"),
        (text::cleaned("٤١١١١١١١١١١١", 60), "••••••••"),
        (text::cleaned(&"x".repeat(100), 5), "xxxx…"),
        (text::cleaned("a\u{890}b\u{13441}c\u{2800}d\u{fdd0}e\u{1fffe}f\u{2029}g", 60), "abcdef g"),
        (text::cleaned("ｃａｒｄ ４１１１１１１１１１１１１１１１", 60), "card ••••1111"),
        (text::amount("9500.00"), "9500.00"),
        (text::amount("9500 OK"), "-"),
    ];
    for (said, expected) in table {
        assert_eq!(said, expected);
    }
}

#[test]
fn a_storm_is_a_few_messages_and_one_digest_that_counts_it_all() {
    let pace = Pace { within_ms: 60_000, alone_max: 3 };
    let body = leaf(json!({ "tool": "x", "decision": "refused", "reason": "velocity", "result": null }));
    let notice = of_leaf(&body).unwrap();
    let mut lately = Lately::default();
    let gathered: Vec<Gathered> = (0..10_000).map(|_| gather(&mut lately, notice.clone(), pace)).collect();
    let count = |kind: fn(&Gathered) -> bool| gathered.iter().filter(|one| kind(one)).count();
    assert_eq!(count(|one| matches!(one, Gathered::Alone(_))), 3);
    assert_eq!(count(|one| matches!(one, Gathered::Opens(_))), 1);
    let Some(Gathered::Joins(last @ Content::Several(digest))) = gathered.last() else { panic!() };
    assert_eq!((digest.count, digest.titles.len()), (9_997, 1));
    assert_eq!(last.title(), "9997 more: A request was refused");
    let line = "2026-11-22T10:00:00.000Z  A request was refused: velocity (9997 times)".to_owned();
    assert!(last.lines().contains(&line), "{:?}", last.lines());
    // One more kind is not kept back by this one: each has its own count.
    assert!(matches!(gather(&mut Lately::default(), notice, pace), Gathered::Alone(_)));
}

#[test]
fn what_is_rare_is_seen_among_many_of_its_kind() {
    let pace = Pace { within_ms: 60_000, alone_max: 0 };
    let of = |act: &str| of_leaf(&act_done(act)).unwrap();
    let mut lately = Lately::default();
    (0..200).for_each(|_| _ = gather(&mut lately, of("add_grant"), pace));
    gather(&mut lately, of("operator_enrol"), pace);
    let Gathered::Joins(digest) = gather(&mut lately, of("add_grant"), pace) else { panic!() };
    let said = digest.lines().join("\n");
    for title in ["an agent is granted an account (add_grant) (201 times)", "an officer is enrolled (operator_enrol)"] {
        assert!(said.contains(title), "{said}");
    }
    assert!(!said.contains("more"), "{said}");
    for number in 0..100 {
        gather(&mut lately, Notice { title: format!("title {number}"), ..of("add_grant") }, pace);
    }
    let lines = Content::Several(lately.open.unwrap()).lines();
    assert!(lines.contains(&"and 52 more".to_owned()), "{lines:?}");
}

#[test]
fn a_digest_that_was_queued_before_titles_had_counts_is_read() {
    let said = |titles: Value| {
        let first = json!({ "kind": "agent_frozen", "title": "t", "lines": [], "subjects": {}, "at": "then" });
        let digest = json!({ "first": first, "count": 2, "titles": titles, "last_at": "now" });
        serde_json::from_value::<Content>(json!({ "several": digest })).unwrap()
    };
    let before = said(json!(["then  t", "now  u  v"]));
    let counted = [("t", "then"), ("u  v", "now")].map(|(title, at)| json!({ "title": title, "count": 1, "at": at }));
    assert_eq!(before, said(json!(counted)));
    assert_eq!(before, serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap());
}

fn act_done(name: &str) -> Vec<u8> {
    act(name, json!({ "outcome": "done", "about": {} }), json!({ "status": "done" }))
}
