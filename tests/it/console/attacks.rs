//! What must not work: words altered, replayed or of others, cookies and forms from elsewhere, keys that are revoked.

use serde_json::{Value, json};

use super::browser::{self, Browser};
use super::{asked, invite, status, world};
use crate::clients::Bridge;

const OWNER: &str = "gates = [{ gate = \"owner\" }]";

fn error(answer: &Value) -> &str {
    answer["body"]["error"]["name"].as_str().unwrap_or_else(|| panic!("not refused: {answer}"))
}

#[test]
fn a_word_counts_for_what_was_shown_to_whom_it_was_shown_once() {
    if !browser::is_here() {
        return;
    }
    let world = world(OWNER);
    let mut browser = Browser::start(&world);
    let mut agent = Bridge::start(&world.state("agent"));
    for (name, roles) in [
        ("olga", &["--role", "owner", "--owner", "OWN_001"][..]),
        ("oleg", &["--role", "owner", "--owner", "OWN_002"][..]),
        ("vera", &["--role", "approver"][..]),
    ] {
        browser.person(name);
        browser.enrol(name, &invite(&world, name, roles));
    }
    let (approval, content) = asked(&mut agent, "one", "2500");
    let (other, _) = asked(&mut agent, "two", "2501");
    let address = content["approval_url"].as_str().unwrap();

    // Another owner: the page knows of nothing, and neither do the calls behind it.
    let seen = browser.goto("oleg", address);
    let text = seen["text"].as_str().unwrap();
    assert!(text.contains("unknown_approval") && !text.contains("2500"), "{text}");
    browser.goto("oleg", "/consent");
    let spoken = browser.speak("oleg", &approval, "owner", "approve");
    assert_eq!(error(&spoken), "unknown_approval");
    let bank_side = browser.speak("oleg", &approval, "bank", "approve");
    assert_eq!(error(&bank_side), "operator_not_permitted");
    for path in ["/transactions", "/agents", "/audit", "/people", "/policy", "/system", "/manual", "/compliance"] {
        assert_eq!(browser.goto("oleg", path)["status"], 404, "{path}");
    }
    let live = browser.ask("post", json!({ "person": "oleg", "path": "/compliance", "body": {} }));
    assert_eq!(live["status"], 400, "{live}");
    // The bank's people see it, and are not asked.
    browser.goto("vera", address);
    let not_asked = browser.speak("vera", &approval, "bank", "approve");
    assert_eq!(error(&not_asked), "gate_not_asked");

    // Signed for one thing, sent for another.
    browser.goto("olga", address);
    let olga = |rest: Value| {
        let mut arguments = json!({ "person": "olga", "approval": approval, "side": "owner" });
        for (name, value) in rest.as_object().unwrap() {
            arguments[name] = value.clone();
        }
        arguments
    };
    let table = [
        (json!({ "verdict": "deny", "sendAs": "approve" }), "approval_mismatch"),
        (
            json!({ "verdict": "deny", "sendAs": "approve", "bend": { "decision": "consent" } }),
            "approval_signature_invalid",
        ),
        (json!({ "verdict": "approve", "bend": { "nonce": "00".repeat(32) } }), "approval_signature_invalid"),
        (
            json!({ "verdict": "approve", "bend": { "transaction_hash": "00".repeat(32) } }),
            "approval_signature_invalid",
        ),
        (json!({ "verdict": "approve", "bend": { "approver": "oleg" } }), "approval_mismatch"),
        (json!({ "verdict": "approve", "bend": { "approval_id": other } }), "approval_mismatch"),
        (json!({ "verdict": "approve", "bend": { "tag": "countersign/other/v1" } }), "approval_signature_invalid"),
    ];
    for (bend, name) in table {
        let answer = browser.ask("speak", olga(bend.clone()));
        assert_eq!(error(&answer), name, "{bend}");
    }
    assert_eq!(status(&mut agent, &approval)["status"], "pending");

    // Altered in between: what the page shows is not what is asked. The script signs nothing then.
    browser.ask("until", json!({ "person": "olga", "selector": "form[data-hash]" }));
    let page = browser.page("olga")["html"].as_str().unwrap().to_owned();
    assert!(page.contains("data-hash"), "{page}");

    // Once: the same word again, for this payment and for another one; somebody else's word.
    let said = browser.speak("olga", &approval, "owner", "approve");
    assert_eq!(said["status"], 200, "{said}");
    let replay = |browser: &mut Browser, person: &str, approval: &str| {
        let path = format!("/approvals/{approval}/word");
        browser.ask("post", json!({ "person": person, "path": path, "body": said["word"] }))
    };
    assert_eq!(error(&replay(&mut browser, "olga", &approval)), "already_decided");
    assert_eq!(error(&replay(&mut browser, "olga", &other)), "approval_mismatch");
    assert_eq!(error(&replay(&mut browser, "oleg", &approval)), "approval_mismatch");
    browser.goto("olga", &format!("/approvals/{other}"));
    // Nobody was verified: the authenticator says so, and the browser gives nothing, or the bank takes nothing.
    browser.ask("unverified", json!({ "person": "olga", "is": true }));
    browser.click("olga", "button[data-verdict=approve]");
    browser.until("olga", "nothing was done");
    browser.ask("unverified", json!({ "person": "olga", "is": false }));
    browser.click("olga", "button[data-verdict=deny]");
    browser.until("olga", "Done: denied");
    browser.finish();
}

#[test]
fn what_has_expired_is_over_whoever_signs() {
    if !browser::is_here() {
        return;
    }
    let world = super::World::new();
    let incoming = ["account", "incoming", "CHK_001", "--amount", "90000", "--reference", "SALARY"];
    world.run("bank", &[&["--operator", "bank-admin"], &incoming[..]].concat());
    let config = world.state("bank").join("countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let changed: Vec<&str> = text
        .lines()
        .map(|line| if line.starts_with("approval_ttl_s") { "approval_ttl_s = 12" } else { line })
        .collect();
    std::fs::write(&config, changed.join("\n")).unwrap();
    world.govern(OWNER);
    let mut browser = Browser::start(&world);
    let mut agent = Bridge::start(&world.state("agent"));
    browser.person("olga");
    browser.enrol("olga", &invite(&world, "olga", &["--role", "owner", "--owner", "OWN_001"]));
    let (approval, _) = asked(&mut agent, "late", "2500");
    browser.goto("olga", &format!("/approvals/{approval}"));
    // The page counts down by itself.
    browser.ask("until", json!({ "person": "olga", "selector": "[data-expires]:text-is('expired')" }));
    let late = browser.speak("olga", &approval, "owner", "approve");
    assert_eq!(error(&late), "approval_expired");
    browser.finish();
}

#[test]
fn cookies_and_forms_from_elsewhere_open_nothing_and_a_revoked_key_is_out_at_once() {
    if !browser::is_here() {
        return;
    }
    let world = world(OWNER);
    let mut browser = Browser::start(&world);
    let mut agent = Bridge::start(&world.state("agent"));
    browser.person("olga");
    browser.enrol("olga", &invite(&world, "olga", &["--role", "owner", "--owner", "OWN_001"]));
    browser.person("vera");
    browser.enrol("vera", &invite(&world, "vera", &["--role", "approver"]));
    let (approval, _) = asked(&mut agent, "one", "2500");
    browser.goto("olga", &format!("/approvals/{approval}"));
    let cookies = browser.ask("cookies", json!({ "person": "olga" }));
    let cookie = cookies.as_array().unwrap().iter().find(|one| one["name"] == "__Host-countersign").unwrap().clone();
    for (member, value) in
        [("secure", json!(true)), ("httpOnly", json!(true)), ("sameSite", json!("Lax")), ("path", json!("/"))]
    {
        assert_eq!(cookie[member], value, "{member}");
    }
    let cookie = format!("__Host-countersign={}", cookie["value"].as_str().unwrap());
    let user_agent = browser.ask("agent", json!({ "person": "olga" }));
    let page = browser.page("olga")["html"].as_str().unwrap().to_owned();
    let token = page.split("name=\"form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let base = browser.base().to_owned();

    // CSRF: another origin, none, a form without the session's token, with another session's, by GET.
    let question = json!({ "side": "owner", "verdict": "approve" }).to_string();
    let path = format!("/approvals/{approval}/question");
    let send = |browser: &mut Browser, method: &str, headers: Value| {
        let mut all = json!({ "cookie": cookie, "user-agent": user_agent, "content-type": "application/json" });
        for (name, value) in headers.as_object().unwrap() {
            all[name] = value.clone();
        }
        browser.ask("raw", json!({ "path": path, "method": method, "headers": all, "body": question }))
    };
    let table = [
        (json!({ "x-form-token": token }), 403, "cross_site"),
        (json!({ "x-form-token": token, "origin": "https://evil.example" }), 403, "cross_site"),
        (json!({ "x-form-token": token, "origin": "null" }), 403, "cross_site"),
        (json!({ "x-form-token": token, "origin": base, "sec-fetch-site": "cross-site" }), 403, "cross_site"),
        (json!({ "origin": base }), 403, "form_token"),
        (json!({ "origin": base, "x-form-token": "" }), 403, "form_token"),
        (json!({ "origin": base, "x-form-token": token.to_lowercase() }), 403, "form_token"),
    ];
    for (headers, code, name) in table {
        let answer = send(&mut browser, "POST", headers.clone());
        assert_eq!(
            (&answer["status"], answer["body"].as_str().unwrap().contains(name)),
            (&json!(code), true),
            "{headers}: {answer}"
        );
    }
    let good = send(&mut browser, "POST", json!({ "origin": base, "x-form-token": token }));
    assert_eq!(good["status"], 200, "the same with both: {good}");
    for method in ["PUT", "DELETE", "OPTIONS"] {
        assert_eq!(
            send(&mut browser, method, json!({ "origin": base, "x-form-token": token }))["status"],
            405,
            "{method}"
        );
    }

    // Every answer keeps others' pages, scripts and frames away.
    for path in ["/approvals", "/assets/console.js", "/enrol", "/nowhere", "/sign-in"] {
        let answer = browser.ask("raw", json!({ "path": path, "headers": {} }));
        let headers = &answer["headers"];
        let policy = headers["content-security-policy"].as_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{path}: {policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert!(headers["strict-transport-security"].as_str().unwrap().starts_with("max-age="), "{path}");
        assert_eq!(headers["referrer-policy"], "same-origin", "{path}");
    }

    // A stolen cookie: from another browser it opens nothing, and ends the session for its owner, too.
    let stolen =
        browser.ask("raw", json!({ "path": "/consent", "headers": { "cookie": cookie, "user-agent": "thief" } }));
    assert!(stolen["body"].as_str().unwrap().contains("session_elsewhere"), "{stolen}");
    assert!(!stolen["body"].as_str().unwrap().contains("SAV_001"));
    let after = browser.goto("olga", "/consent");
    assert!(after["text"].as_str().unwrap().contains("Sign in with a passkey"), "{after}");

    // Revoked while connected: the stream says so, the next page is the sign-in's, and the passkey opens nothing any more.
    browser.goto("vera", "/session");
    browser.ask("listen", json!({ "person": "vera", "path": "/events" }));
    browser.ask("heard", json!({ "person": "vera", "name": "changed" }));
    let listed: Value =
        serde_json::from_str(&world.run("bank", &["--operator", "auditor", "--json", "operator", "list"])).unwrap();
    let key = listed["items"].as_array().unwrap().iter().find(|one| one["name"] == "vera").unwrap()["key"].clone();
    let revoke = ["--operator", "bank-officer", "revoke", "--key", key.as_str().unwrap(), "--reason", "key_compromise"];
    world.run("bank", &revoke);
    browser.ask("heard", json!({ "person": "vera", "name": "ended" }));
    let after = browser.goto("vera", "/approvals");
    assert!(after["text"].as_str().unwrap().contains("Sign in with a passkey"), "{after}");
    let again = browser.ask("signIn", json!({ "person": "vera", "path": "/approvals" }));
    assert!(again["said"][0].as_str().unwrap().contains("operator_revoked"), "{again}");

    // Invited again: a second administrator has to want it, and not the one who asked.
    let link = invite(&world, "vera", &["--role", "approver"]);
    let closed = browser.ask("enrol", json!({ "person": "vera", "link": link }));
    assert!(closed["said"][0].as_str().unwrap().contains("invitation_unknown"), "{closed}");
    let open: Value =
        serde_json::from_str(&world.run("bank", &["--operator", "bank-admin", "--json", "console", "invitations"]))
            .unwrap();
    let id = open["items"][0]["id"].as_str().unwrap().to_owned();
    let same = ["--operator", "bank-admin", "console", "confirm", &id];
    assert_eq!(world.refused("bank", &same), (3, "maker_is_checker".to_owned()));
    let not_an_administrator = ["--operator", "alice", "console", "confirm", &id];
    assert_eq!(world.refused("bank", &not_an_administrator), (3, "operator_not_permitted".to_owned()));
    // Somebody whose key counts is invited by nobody.
    let enrolled = ["--operator", "bank-admin", "console", "invite", "olga", "--role", "approver"];
    assert_eq!(world.refused("bank", &enrolled), (3, "operator_enrolled".to_owned()));
    browser.finish();
}
