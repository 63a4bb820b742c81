//! The web console in a real browser: Debian's Chromium with a virtual authenticator, the demo's bank, and an agent that asks
//! through the bridge. `scripts/lib/browser.sh` installs what drives it; under `scripts/test` it must be there.

mod attacks;
mod browser;
mod pages;

use serde_json::{Value, json};

use self::browser::Browser;
use crate::clients::Bridge;
use crate::support::world::World;

/// Asks for a payment as the agent; answers the approval's id and the whole answer.
fn asked(agent: &mut Bridge, key: &str, amount: &str) -> (String, Value) {
    let order = json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": amount, "idempotency_key": key });
    let answer = agent.ask("tools/call", json!({ "name": "authorize_transfer", "arguments": order }));
    let content = answer["structuredContent"].clone();
    assert_eq!(content["status"], "requires_approval", "{answer}");
    (content["approval_id"].as_str().unwrap().to_owned(), content)
}

fn status(agent: &mut Bridge, approval: &str) -> Value {
    let answer =
        agent.ask("tools/call", json!({ "name": "get_approval_status", "arguments": { "approval_id": approval } }));
    answer["structuredContent"].clone()
}

fn execute(agent: &mut Bridge, transaction: &Value, amount: &str) -> Value {
    let order = json!({ "transaction_id": transaction, "to_account": "SAV_001", "amount": amount });
    agent.ask("tools/call", json!({ "name": "execute_transfer", "arguments": order }))["structuredContent"].clone()
}

/// The demo's daemons, with money for all that is asked, and these lines in the bank's policy.
fn world(policy: &str) -> World {
    let world = World::new();
    let incoming = ["account", "incoming", "CHK_001", "--amount", "90000", "--reference", "SALARY"];
    world.run("bank", &[&["--operator", "bank-admin"], &incoming[..]].concat());
    world.govern(policy);
    world
}

fn invite(world: &World, name: &str, roles: &[&str]) -> String {
    let verb = ["--operator", "bank-admin", "--json", "console", "invite", name];
    let made: Value = serde_json::from_str(&world.run("bank", &[&verb[..], roles].concat())).unwrap();
    made["link"].as_str().unwrap().to_owned()
}

#[test]
fn people_enrol_consent_approve_and_deny_what_an_agent_asks_for() {
    if !browser::is_here() {
        return;
    }
    let world = world(
        "gates = [{ gate = \"owner\" }, { gate = \"bank\", approvals = 2, roles = [\"approver\", \"officer\"] }]",
    );
    let mut browser = Browser::start(&world);
    let mut agent = Bridge::start(&world.state("agent"));

    // A link works once, and for the console that made it.
    let link = invite(&world, "vera", &["--role", "approver"]);
    browser.person("vera");
    assert!(browser.enrol("vera", &link).ends_with('/'), "who is enrolled is signed in");
    browser.person("thief");
    let said = browser.ask("enrol", json!({ "person": "thief", "link": link }));
    assert!(said["said"][0].as_str().unwrap().contains("invitation_unknown"), "{said}");
    for (name, roles) in
        [("otis", &["--role", "officer"][..]), ("olga", &["--role", "owner", "--owner", "OWN_001"][..])]
    {
        browser.person(name);
        browser.enrol(name, &invite(&world, name, roles));
    }
    let listed: Value =
        serde_json::from_str(&world.run("bank", &["--operator", "auditor", "--json", "operator", "list"])).unwrap();
    let passkeys = listed["items"].as_array().unwrap().iter().filter(|one| one["token_serial"] == "passkey").count();
    assert_eq!(passkeys, 3);

    // Out, and in again with the passkey alone; the page that was opened is the one that is shown.
    browser.click("vera", "form[action='/sign-out'] button");
    browser.until("vera", "Sign in with a passkey");
    browser.sign_in("vera", "/transactions");
    assert!(browser.page("vera")["url"].as_str().unwrap().ends_with("/transactions"));

    // The owner opens what the agent was told, and consents to exactly that.
    let (approval, content) = asked(&mut agent, "large", "2500");
    let address = content["approval_url"].as_str().unwrap_or_else(|| panic!("{content}"));
    assert!(address.starts_with("https://localhost:") && address.ends_with(&approval), "{address}");
    let stranger = browser.goto("thief", address);
    let html = stranger["html"].as_str().unwrap();
    assert!(html.contains(&format!("countersign consent give {approval}")), "{stranger}");
    assert!(!html.contains("2500"), "a stranger is told nothing");
    let unknown = browser.goto("thief", "/approvals/apr_01KAPRQ8ZT0000000000000000");
    assert_eq!((&unknown["status"], &unknown["title"]), (&stranger["status"], &stranger["title"]));
    let seen = browser.goto("olga", address);
    for text in ["2500.00", "SAV_001", "CHK_001", "assistant", "bound by RFC 9763", "Paid before"] {
        assert!(seen["text"].as_str().unwrap().contains(text), "{text}: {seen}");
    }
    assert_eq!(status(&mut agent, &approval)["status"], "pending");
    browser.click("olga", "button[data-verdict=approve]");
    browser.until("olga", "Your word counts");

    // Two of the bank: the list is live, the progress is shown, nobody counts twice.
    browser.goto("vera", "/approvals");
    browser.goto("otis", "/approvals");
    browser.ask("until", json!({ "person": "vera", "selector": format!("a[href='/approvals/{approval}']") }));
    browser.press("vera", "j");
    browser.press("vera", "Enter");
    browser.until("vera", "Approve a payment");
    browser.press("vera", "a");
    browser.press("vera", "Enter");
    let once = browser.until("vera", "You have spoken");
    assert!(once.contains("1 of 2"), "{once}");
    browser.until("otis", "1 of 2");
    let again = browser.speak("vera", &approval, "bank", "approve");
    assert_eq!(again["body"]["error"]["name"], "already_spoken", "{again}");
    browser.goto("otis", &format!("/approvals/{approval}"));
    browser.click("otis", "button[data-verdict=approve]");
    browser.until("otis", "Done: approved");
    assert_eq!(
        execute(&mut agent, &content["transaction_id"], "2500")["status"],
        "denied",
        "the id comes with the yes"
    );
    let allowed = status(&mut agent, &approval);
    assert_eq!(allowed["status"], "approved", "{allowed}");
    assert_eq!(execute(&mut agent, &allowed["transaction_id"], "2500")["status"], "executed");
    browser.goto("vera", "/approvals");
    assert!(browser.text("vera").contains("Nothing waits for the bank"));

    // What was signed is verified by whoever has the bank's CAs, and says where it was signed.
    let file = world.state("bank").join("approval.json");
    std::fs::write(&file, world.run("bank", &["--operator", "auditor", "--json", "approvals", "show", &approval]))
        .unwrap();
    let file = file.to_str().unwrap();
    let verified: Value = serde_json::from_str(&world.run("bank", &["--json", "verify", "approval", file])).unwrap();
    let words = verified["signed"]["words"].as_array().unwrap();
    assert_eq!(words.len(), 3);
    assert!(words.iter().all(|word| word["origin"].as_str() == Some(browser.base())), "{verified}");
    let elsewhere = ["verify", "approval", file, "--origin", "https://evil.example"];
    assert_eq!(world.refused("bank", &elsewhere), (3, "approval_mismatch".to_owned()));

    // One is denied: the money is free, and nobody says anything more.
    let (denied, _) = asked(&mut agent, "denied", "2600");
    browser.goto("otis", &format!("/approvals/{denied}"));
    browser.ask("fill", json!({ "person": "otis", "selector": "input[name=note]", "value": "<b>not this one</b>" }));
    browser.click("otis", "button[data-verdict=deny]");
    browser.until("otis", "Done: denied");
    assert_eq!(status(&mut agent, &denied)["status"], "denied");
    assert!(browser.text("otis").contains("<b>not this one</b>"), "a note is text");
    let late = browser.speak("olga", &denied, "owner", "approve");
    assert_eq!(late["body"]["error"]["name"], "already_decided", "{late}");
    browser.finish();
}

#[test]
fn owners_narrow_and_withdraw_what_agents_may_and_officers_stop_them() {
    if !browser::is_here() {
        return;
    }
    let world = world("gates = [{ gate = \"owner\" }]");
    let mut browser = Browser::start(&world);
    let mut agent = Bridge::start(&world.state("agent"));
    for (name, roles) in [
        ("olga", &["--role", "owner", "--owner", "OWN_001"][..]),
        ("otis", &["--role", "officer", "--role", "administrator"][..]),
    ] {
        browser.person(name);
        browser.enrol(name, &invite(&world, name, roles));
    }
    let balance = |agent: &mut Bridge| {
        agent.ask("tools/call", json!({ "name": "get_account_balance", "arguments": { "account_id": "CHK_001" } }))
    };
    assert_eq!(balance(&mut agent)["isError"], false);

    // Narrowed by the owner's passkey, then withdrawn.
    let page = browser.goto("olga", "/grants");
    assert!(page["text"].as_str().unwrap().contains("assistant"), "{page}");
    assert!(!page["text"].as_str().unwrap().contains("CHK_002"), "another customer's account");
    browser.ask(
        "fill",
        json!({ "person": "olga", "selector": "form[action$=give] input[name=agent]", "value": "assistant" }),
    );
    browser.ask("fill", json!({ "person": "olga", "selector": "input[name=max]", "value": "10.00" }));
    browser.ask("choose", json!({ "person": "olga", "selector": "input[value=transfer]" }));
    browser.click("olga", "form[action='/grants/give'] button");
    browser.until("olga", "assistant has access to CHK_001");
    let order =
        json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "11", "idempotency_key": "eleven" });
    let above = agent.ask("tools/call", json!({ "name": "authorize_transfer", "arguments": order }));
    assert_eq!(above["structuredContent"]["status"], "denied", "{above}");
    browser.click("olga", "form:has(input[value=assistant]):has(input[value=CHK_001]) button.quiet");
    browser.until("olga", "assistant has no access to CHK_001 any more");
    let refused = balance(&mut agent);
    assert!(refused.to_string().contains("account_not_granted"), "{refused}");
    let found: Value = serde_json::from_str(
        &world.run("bank", &["--operator", "auditor", "--json", "audit", "search", "--tool", "console_act"]),
    )
    .unwrap();
    assert!(found["items"].as_array().unwrap().len() >= 2, "what the passkey signed is in the log: {found}");

    // Frozen at once; two people let it go on. Then revoked while it is connected.
    browser.goto("otis", "/agents/assistant");
    browser.ask(
        "fill",
        json!({ "person": "otis", "selector": "form[action$=freeze] input[name=reason]", "value": "a look" }),
    );
    browser.click("otis", "form[action$=freeze] button");
    browser.until("otis", "Effective after");
    let frozen = agent.answer("tools/call", json!({ "name": "list_accounts", "arguments": {} }));
    assert!(frozen.to_string().contains("frozen"), "{frozen}");
    browser.goto("otis", "/agents/assistant");
    browser.ask(
        "fill",
        json!({ "person": "otis", "selector": "form[action$=unfreeze] input[name=note]", "value": "looked" }),
    );
    browser.click("otis", "form[action$=unfreeze] button");
    browser.until("otis", "Another person must ask for it");
    world.run("bank", &["--operator", "bank-officer", "unfreeze", "assistant", "--note", "looked, too"]);
    browser.goto("otis", "/agents/assistant");
    browser.ask("fill", json!({ "person": "otis", "selector": "input[name=confirm]", "value": "assistent" }));
    browser.click("otis", "form[action$=revoke] button");
    browser.until("otis", "confirmation_differs");
    browser.goto("otis", "/agents/assistant");
    browser.ask("fill", json!({ "person": "otis", "selector": "input[name=confirm]", "value": "assistant" }));
    browser.click("otis", "form[action$=revoke] button");
    let revoked = browser.until("otis", "Recorded after");
    assert!(revoked.contains("Effective after") && !revoked.contains("not yet acknowledged"), "{revoked}");
    let refused = agent.answer("tools/call", json!({ "name": "list_accounts", "arguments": {} }));
    assert!(refused.get("error").is_some() || refused["result"]["isError"] == true, "{refused}");

    // An administrator invites from the console; whoever had a key before takes two.
    browser.goto("otis", "/people");
    browser.ask("fill", json!({ "person": "otis", "selector": "input[name=name]", "value": "nina" }));
    browser.click("otis", "form[action='/people/invite'] button");
    let made = browser.until("otis", "Give this link to nina");
    let link = made.split_whitespace().find(|word| word.contains("/enrol#")).unwrap().to_owned();
    browser.person("nina");
    browser.enrol("nina", &link);
    browser.finish();
}
