//! Every page: read by everybody (WCAG 2.2 AA as far as a machine finds it, light and dark, narrow and wide), with strangers'
//! texts in it, and its figures true.

use serde_json::{Value, json};

use super::browser::{self, Browser};
use super::{asked, invite, world};
use crate::clients::Bridge;
use crate::hostile::HOSTILE;

/// Where pictures of the pages are put, if anywhere.
const PICTURES: &str = "COUNTERSIGN_SCREENSHOTS";

#[test]
fn every_page_is_readable_escapes_what_strangers_say_and_shows_what_is_so() {
    if !browser::is_here() {
        return;
    }
    let world = world("gates = [{ gate = \"owner\" }, { gate = \"bank\", approvals = 1 }]");
    // Strangers' texts, as far as they are registered at all: somebody has to have looked at them.
    let scripts = [
        "<script>window.__xss=1;alert(1)</script>",
        "<img src=x onerror=window.__xss=1>",
        "\"><svg onload=alert(1)>",
        "ACME\u{202e}kcatta",
    ];
    let texts =
        scripts.into_iter().chain(HOSTILE.iter().map(|(_, text)| *text).filter(|text| text.len() < 90).step_by(9));
    let mut registered = vec![];
    for (place, text) in texts.enumerate() {
        let id = format!("shop-{place}.example");
        let add = [
            "--operator",
            "bank-admin",
            "merchant",
            "add",
            &id,
            "--name",
            text,
            "--currency",
            "USD",
            "--accept-text",
            "--looks-like-accepted",
        ];
        if world.output("bank", &add).status.success() {
            registered.push(text);
        }
    }
    let mut browser = Browser::start(&world);
    let mut agent = Bridge::start(&world.state("agent"));
    for (name, roles) in [
        ("olga", &["--role", "owner", "--owner", "OWN_001"][..]),
        ("ada", &["--role", "officer", "--role", "approver", "--role", "administrator", "--role", "auditor"][..]),
    ] {
        browser.person(name);
        browser.enrol(name, &invite(&world, name, roles));
    }
    let (approval, _) = asked(&mut agent, "one", "2500");
    let (denied, _) = asked(&mut agent, "two", "2501");
    let note = format!("{} {}", scripts[0], scripts[1]);
    browser.goto("ada", &format!("/approvals/{denied}"));
    browser.ask("fill", json!({ "person": "ada", "selector": "input[name=note]", "value": note }));
    browser.click("ada", "button[data-verdict=deny]");
    browser.until("ada", "Done: denied");
    assert!(browser.text("ada").contains(scripts[0]), "the note is shown as it is");

    let transaction: Value = serde_json::from_str(
        &world.run("bank", &["--operator", "auditor", "--json", "transaction", "list", "--limit", "1"]),
    )
    .unwrap();
    let transaction = transaction["items"][0]["transaction_id"].as_str().unwrap().to_owned();
    let audit: Value =
        serde_json::from_str(&world.run("bank", &["--operator", "auditor", "--json", "audit", "show", "--limit", "1"]))
            .unwrap();
    let leaf = audit["items"][0]["index"].as_u64().unwrap().saturating_sub(3);
    let places: Vec<(&str, &str, String)> = vec![
        ("ada", "live", "/".into()),
        ("ada", "approvals", "/approvals".into()),
        ("ada", "approval", format!("/approvals/{approval}")),
        ("ada", "denied", format!("/approvals/{denied}")),
        ("ada", "transactions", "/transactions".into()),
        ("ada", "transaction", format!("/transactions/{transaction}")),
        ("ada", "manual", "/manual".into()),
        ("ada", "agents", "/agents".into()),
        ("ada", "agent", "/agents/assistant".into()),
        ("ada", "audit", "/audit".into()),
        ("ada", "leaf", format!("/audit/leaf/{leaf}")),
        ("ada", "log", "/audit/log".into()),
        ("ada", "policy", "/policy?role=purchaser&tool=authorize_transfer&amount=5".into()),
        ("ada", "compliance", "/compliance".into()),
        ("ada", "people", "/people".into()),
        ("ada", "system", "/system".into()),
        ("ada", "session", "/session".into()),
        ("olga", "consent", "/consent".into()),
        ("olga", "consent-to", format!("/approvals/{approval}")),
        ("olga", "access", "/grants".into()),
    ];
    for (person, name, path) in &places {
        let page = browser.goto(person, path);
        assert_eq!(page["status"], 200, "{name}: {page}");
        let html = page["html"].as_str().unwrap();
        for forbidden in ["<script>", "<img src=x", "<svg onload", "\u{202e}"] {
            assert!(!html.contains(forbidden), "{name}: {forbidden}");
        }
        for (width, scheme) in [(390, "light"), (1280, "dark"), (1280, "light")] {
            browser.ask("size", json!({ "person": person, "width": width, "height": 860 }));
            browser.ask("scheme", json!({ "person": person, "scheme": scheme }));
            let breaches = browser.ask("axe", json!({ "person": person }));
            assert_eq!(breaches, json!([]), "{name} at {width}, {scheme}");
            assert_eq!(browser.ask("overflows", json!({ "person": person })), false, "{name} at {width}");
        }
    }
    browser.goto("ada", &format!("/audit/leaf/{leaf}"));
    browser.ask("until", json!({ "person": "ada", "selector": "[data-verified=true]" }));
    assert!(browser.text("ada").contains("Computed in your browser"));
    // What strangers said stands in leaves: shown as text, with what hides in it made visible.
    let search = ["--operator", "auditor", "--json", "audit", "search", "--tool", "add_merchant", "--limit", "100"];
    let found: Value = serde_json::from_str(&world.run("bank", &search)).unwrap();
    let leaves: Vec<u64> =
        found["items"].as_array().unwrap().iter().map(|one| one["index"].as_u64().unwrap()).collect();
    assert!(leaves.len() >= registered.len());
    for index in leaves {
        let page = browser.goto("ada", &format!("/audit/leaf/{index}"));
        let html = page["html"].as_str().unwrap();
        for forbidden in ["<script>", "<img src=x", "<svg onload", "\u{202e}", "\u{200b}", "\u{2066}"] {
            assert!(!html.contains(forbidden), "leaf {index}: {forbidden}");
        }
    }
    // The live view is fed: what has been decided in the last minutes is counted.
    browser.goto("ada", "/");
    browser.ask("until", json!({ "person": "ada", "selector": "[data-card=decisions] [data-figure]" }));
    browser.until("ada", "As of");
    for person in ["ada", "olga"] {
        let found = browser.ask("problems", json!({ "person": person }));
        assert_eq!(
            (&found["dialogs"], &found["injected"], &found["problems"]),
            (&json!(0), &json!(false), &json!([])),
            "{person}"
        );
    }
    assert!(registered.len() >= 15, "{registered:?}");

    if let Some(place) = std::env::var_os(PICTURES) {
        let place = std::path::PathBuf::from(place);
        browser.ask("scheme", json!({ "person": "ada", "scheme": "light" }));
        browser.ask("scheme", json!({ "person": "olga", "scheme": "light" }));
        for (person, name, path) in &places {
            if !["live", "approval", "agent", "leaf", "consent-to"].contains(name) {
                continue;
            }
            for (width, height) in [(390, 780), (820, 860), (1280, 860)] {
                browser.ask("size", json!({ "person": person, "width": width, "height": height }));
                browser.goto(person, path);
                if *name == "live" {
                    browser.until(person, "As of");
                }
                browser.ask("picture", json!({ "person": person, "file": place.join(format!("{name}-{width}.png")) }));
            }
        }
    }
    browser.finish();
}
