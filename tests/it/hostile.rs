//! Texts of strangers, against everything that reads them: nothing that they say changes a decision, an approval's text, a
//! log line or another field.

mod corpus;
mod held_out;
mod variations;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use countersign::kernel::breaker::Cause;
use countersign::kernel::command::*;
use countersign::kernel::mask::{Clearance, Sensitivity, masked};
use countersign::kernel::refusal::Refusal;
use countersign::kernel::text::{Limit, OnHostile, clean, mark, shown, visible};
use countersign::ops::log_line::OneLine;
use countersign::store::sqlite::SqliteStore;
use countersign::store::{Store, views};
use serde_json::{Value, json};

use crate::clients::Bridge;
use crate::store::world::*;
use corpus::BENIGN;
pub use corpus::HOSTILE;
use variations::{Dress, Seeded};

/// No limit: the families are asked for, not the length.
const WIDE: Limit = Limit { chars: 4_000, bytes: 4_000 };

#[test]
fn every_pattern_is_found_and_no_honest_name_is() {
    assert!(HOSTILE.len() >= 200 && BENIGN.len() >= 150);
    assert_eq!(HOSTILE.iter().map(|(_, text)| text).collect::<BTreeSet<_>>().len(), HOSTILE.len(), "one stands twice");
    let missed: Vec<_> = HOSTILE.iter().filter(|(_, text)| !clean(text, Limit::NAME).is_hostile()).collect();
    assert!(missed.is_empty(), "{missed:#?}");
    let wrong: Vec<_> = BENIGN
        .iter()
        .map(|text| (text, clean(text, Limit::NAME).findings))
        .filter(|(_, found)| !found.is_empty())
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn of_texts_written_after_the_rules_most_are_found_and_no_honest_name_is() {
    let found = held_out::HOSTILE.iter().filter(|(_, text)| clean(text, Limit::NAME).is_hostile()).count();
    assert!(found >= 65, "{found} of {}", held_out::HOSTILE.len());
    for text in held_out::BENIGN {
        assert_eq!(clean(text, Limit::NAME).findings, [], "{text}");
    }
    assert!(held_out::HOSTILE.iter().all(|(_, text)| is_harmless(&shown(text, Limit::NAME))));
}

/// Of a hundred patterns in a dress that the rules were not written for, so many are found at least. What is not is
/// harmless in form all the same; docs/HOSTILE-TEXT.md has the figures by family.
#[test]
fn most_patterns_are_found_in_another_dress() {
    let least: BTreeMap<Dress, usize> = [
        (Dress::Capitals, 97),
        (Dress::Spaced, 75),
        (Dress::LookAlikes, 97),
        (Dress::Unseen, 100),
        (Dress::Base64, 75),
        (Dress::Reversed, 75),
        (Dress::Embedded, 94),
        (Dress::Dotted, 68),
        (Dress::FullWidth, 97),
        (Dress::Misspelt, 80),
        (Dress::Hexadecimal, 75),
        (Dress::Politely, 94),
    ]
    .into();
    let mut seeded = Seeded(20_261_122);
    for dress in Dress::ALL {
        let mut families: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (family, text) in HOSTILE {
            let dressed = dress.put_on(text, &mut seeded);
            let (found, all) = families.entry(family).or_default();
            *found += usize::from(clean(&dressed, WIDE).is_hostile());
            *all += 1;
            assert!(is_harmless(&shown(&dressed, Limit::NAME)), "{dressed:?}");
        }
        let (found, all) = families.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        println!("{dress:?}: {found} of {all}; {families:?}");
        assert!(found * 100 >= all * least[&dress], "{dress:?}: {found} of {all}");
    }
}

/// One line, nothing unseen, no control character, within its limit, and not changed when it is cleaned again.
fn is_harmless(text: &str) -> bool {
    text.len() <= Limit::NAME.bytes
        && text.chars().count() <= Limit::NAME.chars
        && visible(text) == text
        && !text.contains(['\n', '\r', '\t'])
        && shown(text, Limit::NAME) == text
}

#[test]
fn what_is_shown_is_one_harmless_line_whatever_came() {
    for text in HOSTILE.iter().map(|(_, text)| text).chain(BENIGN) {
        let cleaned = clean(text, Limit::NAME);
        assert!(is_harmless(&cleaned.shown), "{text:?} is shown as {:?}", cleaned.shown);
        assert_eq!(cleaned.changed, cleaned.shown != **text);
    }
    // Long, deep and dense texts cost no more than their limit.
    for text in ["a".repeat(1 << 20), "e\u{301}".repeat(1 << 16), "ignore ".repeat(1 << 16), "\u{fdfa}".repeat(1 << 14)]
    {
        let cleaned = clean(&text, Limit::NAME);
        assert!(is_harmless(&cleaned.shown) && cleaned.is_hostile());
    }
}

#[test]
fn a_pattern_in_a_log_field_makes_no_second_line() {
    use std::io::Write as _;
    for (_, text) in HOSTILE {
        let mut log = OneLine(Vec::new());
        log.write_all(format!("WARN countersign: message={text} more\n").as_bytes()).unwrap();
        let log = String::from_utf8(log.0).unwrap();
        assert_eq!(log.lines().count(), 1, "{text:?}: {log:?}");
        assert!(log.ends_with(" more\n") && visible(log.trim_end()) == log.trim_end(), "{log:?}");
    }
}

#[test]
fn a_marked_text_changes_no_other_field() {
    let twin = |title: &str| {
        let mut answer =
            json!({ "products": [{ "title": title, "price": "1.00", "merchant": "a.com", "product_id": "P" }] });
        mark::mark(&mut answer, &|text: &str| clean(text, Limit::NOTE));
        // What a model reads is this text: the title does not leave its string.
        let text = answer.to_string();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), answer);
        assert!(!text.contains('\n'), "{text}");
        answer
    };
    let benign = twin("Lamp");
    for (family, text) in HOSTILE {
        let mut marked = twin(text);
        let offer = marked["products"][0].as_object_mut().unwrap();
        assert_eq!(offer["untrusted"], json!(["title"]));
        // A text that is only too long is short now.
        assert!(offer.remove("flags").is_some() || *family == "length", "{text:?}");
        offer["title"] = json!("Lamp");
        assert_eq!(marked, benign, "{text:?}");
    }
}

fn product(number: usize, title: &str, on_hostile: OnHostile) -> Act {
    Act::AddProduct {
        merchant: "amazon.com".parse().unwrap(),
        product: format!("P{number}").parse().unwrap(),
        title: title.into(),
        price: usd("2500"),
        on_hostile,
    }
}

fn bank(directory: &Path) -> Arc<SqliteStore> {
    SqliteStore::open(&directory.join("store.sqlite3")).unwrap()
}

#[test]
fn a_hostile_text_is_registered_only_when_somebody_accepts_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = bank(directory.path());
    let w = World::new(&*store);
    w.bank();
    for (number, (_, text)) in HOSTILE.iter().enumerate() {
        let merchant = |on_hostile| Act::AddMerchant {
            looks_like_accepted: true,
            merchant: format!("m{number}.example").parse().unwrap(),
            name: (*text).into(),
            currency: "USD".parse().unwrap(),
            on_hostile,
        };
        for act in [product(number, text, OnHostile::Refuse), merchant(OnHostile::Refuse)] {
            assert_eq!(w.admin(act).unwrap_err(), Refusal::TextHostile, "{text:?}");
        }
        w.admin(merchant(OnHostile::Accept)).unwrap();
    }
    for row in store.listing(countersign::store::Listing::Merchants).unwrap() {
        assert!(is_harmless(row["name"].as_str().unwrap()), "{row}");
    }
    assert_eq!(w.admin(product(0, "\u{200b} \u{3164}", OnHostile::Accept)).unwrap_err(), Refusal::TextHostile);
    for (number, text) in BENIGN.iter().enumerate() {
        w.admin(product(1_000 + number, text, OnHostile::Refuse))
            .unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"));
    }
}

/// What came of a payment whose every text is one of these: what is decided, what an approver and the agent see.
fn story(w: &World<'_>, number: usize, title: &str, words: &str) -> Vec<String> {
    let mut told = vec![];
    w.admin(product(number, title, OnHostile::Accept)).unwrap();
    let id = format!("P{number}");
    let search = |query: String| {
        let call = ToolCall::SearchProducts { query, max_price: None, merchant: None };
        let Effect::Answer(mut answer) = w.call(call).unwrap() else { panic!("no answer") };
        mark::mark(&mut answer, &|text: &str| clean(text, Limit::NOTE));
        let found = answer["products"].as_array_mut().unwrap();
        found.retain(|offer| offer["product_id"] == id.as_str());
        for offer in found {
            let offer = offer.as_object_mut().unwrap();
            offer.remove("flags");
            offer["title"] = json!("");
        }
        answer.to_string()
    };
    told.push(search(id.clone()));
    // What it finds depends on its words; that it is answered, and changes nothing after, does not.
    search(shown(words, Limit::QUERY));
    let (approval, transaction) = w.waiting(ToolCall::AuthorizePurchase {
        product_id: id.parse().unwrap(),
        price: usd("2500"),
        merchant: "amazon.com".parse().unwrap(),
        from_account: None,
        idempotency_key: id.parse().unwrap(),
    });
    let seen = || {
        let row = w.store.transaction(&transaction).unwrap().unwrap();
        let mut view = json!(views::approval(&row).unwrap());
        view["summary"]["note"] = json!("");
        for word in view["words"].as_array_mut().unwrap() {
            word["note"] = json!("");
        }
        view.to_string()
    };
    told.push(seen());
    let stop = Act::SetBreaker { cause: Cause::Operator, reason: Some(words.to_owned()), node: None };
    told.push(format!("{:?}", w.admin(stop)));
    told.push(format!("{:?}", w.admin(Act::SetBreaker { cause: Cause::Operator, reason: None, node: None })));
    let deny = decide(&approval, Verdict::Deny, words);
    told.push(format!("{:?}", w.decision(Actor::Operator(operator("bob", &["approver"])), deny).outcome));
    told.push(seen());
    told.push(format!("{:?}", w.call(ToolCall::GetApprovalStatus { approval_id: approval })));
    told.push(format!("{:?}", w.call(ToolCall::GetTransaction { transaction_id: transaction })));
    told
}

#[test]
fn no_text_changes_a_decision_an_approval_or_another_field() {
    let [benign, hostile] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [benign, hostile] = [bank(benign.path()), bank(hostile.path())];
    let [benign, hostile] = [World::new(&*benign), World::new(&*hostile)];
    benign.bank();
    hostile.bank();
    for (number, (_, text)) in HOSTILE.iter().enumerate() {
        let expected = story(&benign, number, "Lamp", "a word");
        assert_eq!(story(&hostile, number, text, text), expected, "{text:?}");
    }
    assert_eq!(benign.balance("CHK_001"), hostile.balance("CHK_001"));
    hostile.adds_up();
}

#[test]
fn every_member_of_the_tools_answers_has_a_class() {
    on_every_store(|w| {
        w.bank();
        let posted = w.bought("first");
        w.admin(product(1, "Desk", OnHostile::Refuse)).unwrap();
        let (approval, _) = w.waiting(buy("P1", "2500", "second"));
        let calls = [
            ToolCall::ListAccounts {},
            ToolCall::GetAccountBalance { account_id: "CHK_001".parse().unwrap() },
            ToolCall::ListTransactions { account_id: "CHK_001".parse().unwrap(), limit: 100 },
            ToolCall::SearchProducts { query: String::new(), max_price: None, merchant: None },
            ToolCall::GetTransaction { transaction_id: posted.transaction_id },
            ToolCall::GetApprovalStatus { approval_id: approval },
        ];
        for call in calls {
            let tool = call.tool();
            let Effect::Answer(answer) = w.call(call).unwrap() else { panic!("no answer") };
            assert_eq!(
                masked(answer.clone(), &Clearance::of(Sensitivity::ALL)),
                answer,
                "{tool}: a member has no class"
            );
            let least = masked(answer, &Clearance::default()).to_string();
            assert!(!least.contains("CHK_001") && !least.contains("1899.99"), "{tool}: {least}");
        }
    });
}

/// A name that no log line, table or answer may be broken by, through a daemon, its bridge and its commands.
#[test]
fn a_sample_of_patterns_goes_through_a_daemon_and_its_bridge_as_data() {
    let world = crate::support::world::World::new();
    let sample: Vec<&str> = HOSTILE
        .iter()
        .map(|(_, text)| *text)
        .filter(|text| !text.contains('\0'))
        .step_by(HOSTILE.len() / 20)
        .take(20)
        .collect();
    assert_eq!(sample.len(), 20);
    let add = |number: usize, title: &str, more: &[&str]| {
        let (id, title) = (format!("H{number}"), format!("--title={title}"));
        let add =
            ["--operator", "bank-admin", "product", "add", &id, "--merchant", "amazon.com", &title, "--price", "5"];
        world.output("bank", &[&["--json"], &add[..], more].concat())
    };
    for (number, text) in sample.iter().enumerate() {
        let refused = add(number, text, &[]);
        assert_eq!(refused.status.code(), Some(3), "{text:?}");
        let failure: Value = serde_json::from_slice(&refused.stderr).unwrap();
        assert_eq!(failure["error"]["name"], "text_hostile", "{failure}");
        assert!(add(number, text, &["--accept-text"]).status.success(), "{text:?}");
    }
    let list = world.run("bank", &["--operator", "bank-admin", "product", "list"]);
    assert_eq!(list.lines().filter(|line| line.starts_with('H')).count(), 20, "{list}");
    assert!(list.lines().all(|line| visible(line) == line), "{list:?}");
    let mut bridge = Bridge::start(&world.state("agent"));
    for (number, text) in sample.iter().enumerate() {
        let query = json!({ "name": "search_products", "arguments": { "query": format!("H{number}") } });
        let result = bridge.ask("tools/call", query);
        let id = format!("H{number}");
        let offers = result["structuredContent"]["products"].as_array().unwrap();
        let offer = offers.iter().find(|offer| offer["product_id"] == id.as_str()).unwrap();
        assert_eq!((&offer["price"], &offer["untrusted"]), (&json!("5.00"), &json!(["title"])), "{offer}");
        assert_eq!(offer["title"], shown(text, Limit::NAME));
        let content = result["content"][0]["text"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(content).unwrap(), result["structuredContent"], "{content}");
        let query =
            json!({ "name": "search_products", "arguments": { "query": text.chars().take(40).collect::<String>() } });
        assert_ne!(bridge.ask("tools/call", query)["isError"], true, "{text:?}");
    }
    bridge.close();
}
