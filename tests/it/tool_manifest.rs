//! A bridge shows only the tools that its agent host has accepted, and says by name what is wrong with others.

use serde_json::{Value, json};

use crate::clients::Bridge;
use crate::support::world::World;

#[test]
fn tools_that_were_not_accepted_are_neither_shown_nor_called() {
    let world = World::new();
    let pin = world.state("agent").join("anchors/tool-manifest.json");
    let shown = |arguments: &[&str]| {
        let mut bridge = Bridge::start_with(&world.state("agent"), arguments);
        let (list, balance) =
            (json!({}), json!({ "name": "get_account_balance", "arguments": { "account_id": "CHK_001" } }));
        let answers = [bridge.answer("tools/list", list), bridge.answer("tools/call", balance)];
        bridge.close();
        answers
    };
    // The first manifest is accepted without a word, and kept.
    let [listed, called] = shown(&[]);
    assert_eq!(listed["result"]["tools"].as_array().unwrap().len(), 12, "{listed}");
    assert_eq!(called["result"]["structuredContent"]["currency"], "USD", "{called}");
    let kept: Value = serde_json::from_slice(&std::fs::read(&pin).unwrap()).unwrap();
    assert_eq!(kept["version"], 2);

    let with = |member: &str, value: Value| {
        let mut other = kept.clone();
        other[member] = value;
        other.to_string()
    };
    let other_tools = json!("0".repeat(64));
    let newer = with("version", json!(1));
    let table = [
        ("newer", newer.clone(), vec![], Some("manifest_not_accepted")),
        (
            "newer, and another one accepted",
            newer.clone(),
            vec!["--accept-manifest", "3"],
            Some("manifest_not_accepted"),
        ),
        ("older", with("version", json!(3)), vec![], Some("manifest_older")),
        ("older, and accepted", with("version", json!(3)), vec!["--accept-manifest", "2"], Some("manifest_older")),
        ("altered", with("tools_hash", other_tools.clone()), vec![], Some("manifest_altered")),
        (
            "altered, and accepted",
            with("tools_hash", other_tools),
            vec!["--accept-manifest", "2"],
            Some("manifest_altered"),
        ),
        ("a pin that says more", with("also", json!(1)), vec![], Some("manifest_pin_unreadable")),
        ("no JSON", "x".into(), vec![], Some("manifest_pin_unreadable")),
        ("newer, and accepted", newer, vec!["--accept-manifest", "2"], None),
    ];
    for (what, text, arguments, refused) in table {
        std::fs::write(&pin, &text).unwrap();
        for answer in shown(&arguments) {
            assert_eq!(answer["error"]["data"]["name"].as_str(), refused, "{what}: {answer}");
        }
        let now = std::fs::read_to_string(&pin).unwrap();
        assert_eq!(now == text, refused.is_some(), "{what}: {now}");
    }
    assert!(shown(&[])[0]["error"].is_null());
    // A tool that the bank may have and nobody here has accepted is not even asked for.
    let mut bridge = Bridge::start_with(&world.state("agent"), &[]);
    let strange = bridge.answer("tools/call", json!({ "name": "send_all_money", "arguments": {} }));
    assert_eq!(strange["error"]["data"]["name"], "tool_not_accepted", "{strange}");
    bridge.close();
}
