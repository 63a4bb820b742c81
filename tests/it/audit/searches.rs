//! Leaves found by what they say, page by page, and the files that are made of them.

use std::sync::Arc;
use std::time::Duration;

use countersign::audit::Log;
use countersign::audit::export::{ExportCall, Format};
use countersign::audit::search::{DISORDER_MAX_MS, Order, SearchCall, SearchQuery, Span};
use countersign::kernel::export_note;
use countersign::kernel::types::{Money, Sha256, UnixMillis};
use countersign::store::LeafContent;
use serde_json::json;

use super::log::{advance_all, open};
use super::memory::MemoryStore;
use super::parties::{Bank as BareBank, OID_BASE};
use super::payments::{Bank, Paid};

fn usd(text: &str) -> Money {
    Money::parse_positive(text, "USD".parse().unwrap()).unwrap()
}

/// All places that fit, by as many calls as it takes.
fn places(log: &Log, query: &SearchQuery, order: Order, limit: u32) -> Vec<u64> {
    let (mut found, mut span) = (vec![], None);
    loop {
        let call = SearchCall { query: query.clone(), order, span, limit };
        let page = log.search(&call).unwrap();
        assert!(page.found.len() <= limit as usize);
        found.extend(page.found.iter().filter_map(|found| found.leaf.index));
        span = page.next;
        if span.is_none() {
            return found;
        }
    }
}

#[test]
fn what_is_behind_many_erased_leaves_is_found() {
    let (bank, store) = (BareBank::new(), Arc::new(MemoryStore::default()));
    store.add_leaves(150);
    store.post(&bank, 7, 3);
    let log = open(&bank, &store);
    advance_all(&log);
    for leaf in 0..150 {
        store.rows().leaves[leaf].content = LeafContent::Erased;
    }
    let query = SearchQuery { until: Some(UnixMillis(1_795_234_837_126)), ..SearchQuery::default() };
    assert_eq!(places(&log, &query, Order::OldestFirst, 10), [150, 151, 152]);
    assert_eq!(places(&log, &query, Order::NewestFirst, 2), [152, 151, 150]);
    // Nobody can say whether the others were what is looked for: so many are told, and signed.
    let call = ExportCall { query, format: Format::Jsonl, size: None, span: None };
    let page = log.export(&call).unwrap();
    assert_eq!((page.records, page.unread), (3, 150));
    let note = log.sign_export(&call, Sha256::of(&[page.text.as_bytes()]), &mut |_| {}).unwrap();
    assert!(note.contains("\nrecords 3\nunread 150\nquery "), "{note}");
    let everything = ExportCall { query: SearchQuery::default(), ..call };
    assert_eq!(log.export(&everything).unwrap().unread, 0, "who asks for all of it gets them as what they are");
}

#[test]
fn each_question_finds_its_leaves_and_no_others() {
    let (bank, paid) = Bank::with_payments();
    each_question_finds_its_leaves(&bank, &paid);
}

/// Whatever the store is.
pub fn each_question_finds_its_leaves(bank: &Bank, paid: &Paid) {
    let size = bank.log.state().unwrap().size;
    let all = places(&bank.log, &SearchQuery::default(), Order::OldestFirst, 1000);
    assert_eq!(all, (0..size).collect::<Vec<_>>());
    let of = |query: SearchQuery| {
        let found = places(&bank.log, &query, Order::OldestFirst, 3);
        let mut newest = places(&bank.log, &query, Order::NewestFirst, 2);
        newest.reverse();
        assert_eq!(found, newest, "{query:?}: the same in both orders, page by page");
        let bodies = bank.log.search(&SearchCall { query, limit: 1000, ..SearchCall::default() }).unwrap();
        (found.len(), bodies.found)
    };
    let query = SearchQuery::default;
    let text = |text: &str| Some(text.to_owned());
    let table = [
        ("an agent by name", SearchQuery { agent: text("shopper"), ..query() }, 9),
        ("an operator", SearchQuery { agent: text("alice"), ..query() }, 2),
        ("nobody", SearchQuery { agent: text("nobody"), ..query() }, 0),
        ("a tool", SearchQuery { tool: text("authorize_transfer"), ..query() }, 4),
        ("an act", SearchQuery { tool: text("decide_approval"), ..query() }, 2),
        ("a result", SearchQuery { decision: text("executed"), ..query() }, 2),
        ("refusals", SearchQuery { decision: text("refused"), ..query() }, 0),
        ("an amount", SearchQuery { amount_min: Some(usd("2500")), amount_max: Some(usd("2500")), ..query() }, 3),
        ("at most", SearchQuery { amount_max: Some(usd("7.50")), ..query() }, 1),
        (
            "another currency",
            SearchQuery { amount_max: Some(Money::parse_positive("9999", "EUR".parse().unwrap()).unwrap()), ..query() },
            0,
        ),
        ("a payment", SearchQuery { transaction: Some(paid.approved.clone()), ..query() }, 3),
        ("one that was cancelled", SearchQuery { transaction: Some(paid.cancelled.clone()), ..query() }, 2),
        ("one that was denied", SearchQuery { transaction: Some(paid.denied.clone()), ..query() }, 2),
        ("all of it", SearchQuery { agent: text("shopper"), tool: text("execute_transfer"), ..query() }, 1),
    ];
    for (what, query, count) in table {
        let (found, items) = of(query);
        let told: Vec<String> = items.iter().map(|found| found.body.as_ref().unwrap().to_string()).collect();
        assert_eq!(found, count, "{what}: {told:#?}");
    }
    let account = SearchQuery { account: Some("SAV_001".parse().unwrap()), ..query() };
    let (_, items) = of(account);
    assert!(items.iter().any(|found| found.body.as_ref().unwrap()["tool"] == "execute_transfer"), "by its payment");
    assert!(items.iter().all(|found| !found.body.as_ref().unwrap().to_string().contains("LAPTOP")));
}

/// Leaves of one second each, some of them out of order by as much as the search allows for.
fn timed(count: i64) -> (Arc<Log>, UnixMillis) {
    let (bank, store) = (BareBank::new(), Arc::new(MemoryStore::default()));
    let start = UnixMillis(1_795_234_837_000);
    for number in 0..count {
        let late = if number % 7 == 3 { DISORDER_MAX_MS - 1_000 } else { 0 };
        let at = start.plus_ms(number * 1_000 - late);
        // Some have no time at all.
        let body = if number % 11 == 5 { json!({ "n": number }) } else { json!({ "n": number, "at": at.rfc3339() }) };
        store.add_leaf(&body);
    }
    let log = open(&bank, &store);
    advance_all(&log);
    (log, start)
}

#[test]
fn a_span_of_time_is_found_whole_though_leaves_are_not_in_its_order() {
    let (log, start) = timed(900);
    let everything = log.search(&SearchCall { limit: 1000, ..SearchCall::default() }).unwrap().found;
    for (from, to) in [(0, 900), (100, 200), (0, 1), (450, 451), (899, 2_000), (-500, 3), (3, 3), (700, 600)] {
        let (since, until) = (start.plus_ms(from * 1_000), start.plus_ms(to * 1_000));
        let query = SearchQuery { since: Some(since), until: Some(until), ..SearchQuery::default() };
        let found = places(&log, &query, Order::OldestFirst, 50);
        let mut expected: Vec<u64> = everything
            .iter()
            .filter(|found| {
                let at = found.body.as_ref().unwrap()["at"].as_str().map(str::to_owned);
                at.is_some_and(|at| at >= since.rfc3339() && at < until.rfc3339())
            })
            .filter_map(|found| found.leaf.index)
            .collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "{from} to {to}");
    }
    // It does not look at everything.
    let query = SearchQuery { since: Some(start.plus_ms(800_000)), ..SearchQuery::default() };
    let page = log.search(&SearchCall { query, limit: 1000, ..SearchCall::default() }).unwrap();
    assert!(page.scanned < 200, "{}", page.scanned);
}

#[test]
fn an_answer_is_bounded_and_says_where_it_goes_on() {
    let (log, _) = timed(300);
    let mut call = SearchCall { order: Order::OldestFirst, limit: 100, ..SearchCall::default() };
    let page = log.search(&call).unwrap();
    assert_eq!((page.found.len(), page.next), (100, Some(Span { from: 100, end: 300 })));
    call.span = Some(Span { from: 299, end: u64::MAX });
    let page = log.search(&call).unwrap();
    assert_eq!((page.found.len(), page.next, page.scanned), (1, None, 1));
    call.span = Some(Span { from: 7, end: 3 });
    assert_eq!(log.search(&call).unwrap().found, []);
    call = SearchCall { limit: 0, ..SearchCall::default() };
    assert_eq!(log.search(&call).unwrap().found.len(), 1, "at least one, or nobody would get on");
}

#[test]
fn an_export_is_signed_over_what_the_search_finds_and_nothing_else_verifies() {
    let (bank, _) = Bank::with_payments();
    let verify = |note: &str, file: &str| {
        let file = (Sha256::of(&[file.as_bytes()]), file.len() as u64);
        export_note::verify(note.as_bytes(), file, &bank.kit.root, OID_BASE)
    };
    let query = SearchQuery { agent: Some("shopper".into()), ..SearchQuery::default() };
    for format in [Format::Jsonl, Format::Csv] {
        let mut call = ExportCall { query: query.clone(), format, size: None, span: None };
        let page = bank.log.export(&call).unwrap();
        assert_eq!((page.records, page.next), (9, None));
        call.size = Some(page.size);
        let note = bank.log.sign_export(&call, Sha256::of(&[page.text.as_bytes()]), &mut |_| {}).unwrap();
        let verdict = verify(&note, &page.text).unwrap();
        let said = verdict.note();
        assert_eq!((said.records, said.size, said.query.as_str()), (9, page.size, "{\"agent\":\"shopper\"}"));
        assert_eq!(page.text.lines().count(), if format == Format::Csv { 10 } else { 9 });

        // Leaves that came since change nothing about it.
        let claimed = Sha256::of(&[page.text.as_bytes()]);
        assert_eq!(bank.log.sign_export(&call, claimed, &mut |_| {}).unwrap(), note);
        let other = page.text.replacen("shopper", "someone", 1);
        assert_eq!(verify(&note, &other).unwrap_err().name(), "export_file_differs");
        let refused = bank.log.sign_export(&call, Sha256::of(&[other.as_bytes()]), &mut |_| {}).unwrap_err();
        assert_eq!(refused.name, "export_changed");
        for (from, to, name) in [
            ("records 9", "records 8", "export_signature_invalid"),
            ("records 9", "records 09", "export_note_malformed"),
            ("shopper", "someone", "export_signature_invalid"),
            ("\nlog ", "\nlog x", "export_signature_invalid"),
        ] {
            assert_eq!(verify(&note.replacen(from, to, 1), &page.text).unwrap_err().name(), name, "{from}");
        }
        let checkpoint = bank.log.head(Duration::ZERO).unwrap().checkpoint;
        assert_eq!(verify(&checkpoint, &page.text).unwrap_err().name(), "export_note_malformed");
        let stranger = Bank::new();
        let file = (claimed, page.text.len() as u64);
        let refused = export_note::verify(note.as_bytes(), file, &stranger.kit.root, OID_BASE).unwrap_err();
        assert_eq!(refused.name(), "chain_root_differs");
    }
    let call = ExportCall { query, format: Format::Csv, size: Some(3), span: None };
    assert_eq!(bank.log.export(&call).unwrap_err().name, "unknown_checkpoint");
}
