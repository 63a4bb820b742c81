//! The role catalogue on the command line and in a running bank: signed twice or not at all, newer or not at all.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::clients::Bridge;
use crate::support::world::World;

fn write(world: &World, name: &str, document: &Value) -> String {
    let path: PathBuf = world.state("bank").join(name);
    std::fs::write(&path, document.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn read(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn answer(world: &World, arguments: &[&str]) -> Value {
    serde_json::from_str(&world.run("bank", &[&["--operator", "bank-admin", "--json"], arguments].concat())).unwrap()
}

fn transfer(world: &World, key: &str) -> Value {
    let mut bridge = Bridge::start(&world.state("agent"));
    let order = json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "1.00", "idempotency_key": key });
    let result = bridge.ask("tools/call", json!({ "name": "authorize_transfer", "arguments": order }));
    bridge.close();
    let content = &result["structuredContent"];
    if content["reason"].is_string() { content["reason"].clone() } else { content["status"].clone() }
}

#[test]
fn a_newer_catalogue_with_both_signatures_takes_effect_and_nothing_else_does() {
    let world = World::new();
    let shown = answer(&world, &["catalogue", "show"]);
    let version = shown["catalogue"]["version"].as_u64().unwrap();
    let signers: Vec<&Value> =
        shown["signatures"].as_array().unwrap().iter().map(|signature| &signature["signer"]["subject"]).collect();
    assert_eq!(signers, ["catalogue v1", "catalogue v1"]);
    assert_eq!(shown["changes"], Value::Null);
    assert!(world.run("bank", &["catalogue", "show"]).contains("catalogue v1 until"));
    assert_eq!(transfer(&world, "before"), "approved");

    let mut next = shown["catalogue"].clone();
    next["version"] = json!(version + 1);
    let tools = next["roles"][0]["tools"].as_array_mut().unwrap();
    tools.retain(|tool| tool != "authorize_transfer");
    let file = write(&world, "next.json", &next);
    let install = ["--operator", "bank-admin", "catalogue", "install", &file];
    assert_eq!(world.refused("bank", &install), (3, "catalogue_bank_signature_missing".into()));
    world.run("secco", &["--operator", "secco-officer", "catalogue", "sign", &file, "--out", &file]);
    assert_eq!(world.refused("bank", &install), (3, "catalogue_bank_signature_missing".into()));
    world.run("bank", &["--operator", "bank-officer", "catalogue", "sign", &file, "--out", &file]);
    let told = json!([{
        "role": "purchaser", "change": "changed", "tools_added": [], "tools_removed": ["authorize_transfer"],
    }]);
    assert_eq!(answer(&world, &["catalogue", "diff", &file])["changes"], told);
    // One word more than was signed.
    let mut widened = read(&file);
    widened["catalogue"]["roles"][0]["tools"].as_array_mut().unwrap().push(json!("authorize_transfer"));
    let bent = write(&world, "bent.json", &widened);
    let refused = world.refused("bank", &["--operator", "bank-admin", "catalogue", "install", &bent]);
    assert_eq!(refused, (3, "catalogue_signature_invalid".into()));

    assert_eq!(answer(&world, &["catalogue", "install", &file])["changes"], told);
    assert_eq!(transfer(&world, "after"), "tool_denied");
    assert_eq!(answer(&world, &["catalogue", "diff"])["changes"], told);
    assert!(world.run("bank", &["catalogue", "show"]).contains("purchaser changed: -authorize_transfer"));
    let old = write(&world, "old.json", &json!({ "catalogue": shown["catalogue"], "signatures": shown["signatures"] }));
    let refused = world.refused("bank", &["--operator", "bank-admin", "catalogue", "install", &old]);
    assert_eq!(refused.1, "catalogue_malformed", "what `show` prints is for reading");
    let mut bare = read(&old);
    for signature in bare["signatures"].as_array_mut().unwrap() {
        signature.as_object_mut().unwrap().remove("signer");
    }
    let old = write(&world, "old.json", &bare);
    let refused = world.refused("bank", &["--operator", "bank-admin", "catalogue", "install", &old]);
    assert_eq!(refused, (3, "catalogue_older".into()));
}

#[test]
fn the_banks_own_policy_narrows_the_catalogue() {
    let world = World::new();
    assert_eq!(transfer(&world, "before"), "approved");
    let config = world.state("bank").join("countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let place = "merchants_allowed = [";
    assert!(text.contains(place));
    let narrowed = text.replace(place, &format!("deny_tools = [\"authorize_transfer\"]\n{place}"));
    std::fs::write(&config, narrowed).unwrap();
    world.run("bank", &["stop"]);
    world.serve("bank");
    assert_eq!(transfer(&world, "after"), "tool_denied");
}
