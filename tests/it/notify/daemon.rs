//! The whole daemon, confined: a payment is told of, a kill in between loses nothing, and people see what was given up.

use std::io::Write;

use serde_json::{Value, json};

use super::receivers::{Mood, Web};
use super::{discreet, secrets, verified};
use crate::clients::Bridge;
use crate::support::world::World;

#[test]
fn a_bank_tells_its_people_over_kills_and_shows_what_was_given_up() {
    let world = World::new();
    let web = Web::start(&[Mood::Status(500)]);
    let gone = Web::start(&[Mood::Status(410)]);
    world.run("bank", &["stop"]);
    let state = world.state("bank");
    secrets(&state);
    let mut config = std::fs::OpenOptions::new().append(true).open(state.join("countersign.toml")).unwrap();
    let channel = |name: &str, port: u16| {
        format!(
            "[[notify.channel]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/in?token=hidden\"\n\
             secret_file = \"hook\"\nallow_private = true\n"
        )
    };
    writeln!(
        config,
        "\n[notify]\npause_s = 1\n{}{}[[notify.route]]\nkinds = [\"payment_waits\", \"agent_frozen\"]\n\
         channels = [\"ops\", \"gone\"]",
        channel("ops", web.port),
        channel("gone", gone.port)
    )
    .unwrap();
    drop(config);
    assert!(world.run("bank", &["check"]).ends_with("ok\n"));
    world.serve("bank");
    let ask = |words: &[&str]| -> Value {
        let words = [&["--json", "--operator", "bank-admin"], words].concat();
        serde_json::from_str(&world.run("bank", &words)).unwrap()
    };
    assert_eq!(ask(&["notify", "list"])["items"], json!([]));
    // The agent asks for more than it may pay alone.
    let mut bridge = Bridge::start(&world.state("agent"));
    let arguments = json!({
        "to_account": "SAV_001", "amount": "2500", "from_account": "CHK_001", "idempotency_key": "notify-1",
    });
    let called = bridge.ask("tools/call", json!({ "name": "authorize_transfer", "arguments": arguments }));
    let payment = &called["structuredContent"];
    let approval = payment["approval_id"].as_str().unwrap_or_else(|| panic!("{payment}")).to_owned();
    let tried = web.next();
    verified(&tried);
    assert_eq!(tried.json()["data"]["subjects"]["approval_id"], approval);
    discreet(&tried.all());
    assert!(!tried.all().contains("CHK_001"), "{tried:?}");
    // Killed between an attempt and the next one.
    world.kill("bank");
    web.becomes(Mood::Status(200));
    world.serve("bank");
    let taken = loop {
        let got = web.next();
        if ask(&["notify", "show", got.id().strip_prefix("ntc_").unwrap()])["state"] == "sent" {
            break got;
        }
    };
    assert_eq!(taken.id(), tried.id());
    let dead = loop {
        let list = ask(&["notify", "list", "--status", "dead"]);
        if let Some(dead) = list["items"].get(0) {
            break dead.clone();
        }
    };
    assert_eq!(dead["error"], "webhook_gone: the receiver answered 410");
    let doctor = ask(&["doctor"]);
    let line =
        |check: &str| doctor["items"].as_array().unwrap().iter().find(|one| one["check"] == check).unwrap().clone();
    assert_eq!(line("notices")["result"], "warn");
    assert_eq!(line("channel ops")["result"], "ok");
    gone.becomes(Mood::Status(200));
    let id = dead["id"].as_str().unwrap();
    assert_eq!(ask(&["notify", "retry", "--all-dead"])["retried"], 1);
    while ask(&["notify", "show", id])["state"] != "sent" {}
    assert_eq!(ask(&["notify", "test", "ops"])["channel"], "ops");
    assert_eq!(web.next().json()["data"]["title"], "A test of this channel");
    for (words, code, name) in [
        (&["--operator", "auditor", "notify", "test", "ops"][..], 3, "operator_not_permitted"),
        (&["--operator", "bank-admin", "notify", "test", "none"], 3, "unknown_channel"),
        (&["--operator", "bank-admin", "notify", "show", "1-none"], 3, "unknown_notice"),
        (&["--operator", "bank-admin", "notify", "retry", id], 3, "notice_not_dead"),
        (&["notify", "retry"], 2, "command_line_invalid"),
        (&["notify", "list", "--status", "lost"], 2, "command_line_invalid"),
    ] {
        assert_eq!(world.refused("bank", words), (code, name.to_owned()), "{words:?}");
    }
    let shown = world.run("bank", &["--operator", "auditor", "notify", "show", id]);
    assert!(
        shown.contains("A payment waits for approval") && shown.contains("••••••••") && !shown.contains("_001"),
        "{shown}"
    );
    discreet(&shown);
}
