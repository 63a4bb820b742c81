//! What an account's owner reads: lines, running balances, pages; and keys and orders over the days.

use super::world::*;
use countersign::kernel::command::*;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use countersign::store::{StatementQuery, TransactionQuery};

sentences! {
    transactions_come_in_pages_newest_first_and_each_once: |w| {
        w.bank();
        for number in 0..7 {
            w.admin(incoming("CHK_001", "1", &format!("r{number}"))).unwrap();
        }
        let query = TransactionQuery { account: Some("CHK_001".into()), limit: 100, ..TransactionQuery::default() };
        let ids = |query: &TransactionQuery| -> Vec<TransactionId> {
            w.store.transactions(query).unwrap().into_iter().map(|record| record.transaction.transaction_id).collect()
        };
        let all = ids(&query);
        assert_eq!(all.len(), 8);
        for limit in [1, 2, 3, 8] {
            let (mut seen, mut before) = (vec![], None);
            loop {
                let page = ids(&TransactionQuery { before, limit, ..query.clone() });
                // What is posted meanwhile is newer than every page behind.
                w.admin(incoming("SAV_001", "1", &format!("s{limit}-{}", seen.len()))).unwrap();
                let Some(last) = page.last() else { break };
                before = Some(last.clone());
                seen.extend(page);
            }
            assert_eq!(seen, all, "pages of {limit}");
        }
    };
    a_statement_runs_from_page_to_page_without_a_gap: |w| {
        w.bank();
        // Ten hours, a line each: the opening and nine payments in.
        for number in 0..9 {
            w.later(3_600_000);
            w.admin(incoming("SAV_001", &format!("{}", number + 1), &format!("r{number}"))).unwrap();
        }
        for limit in [1, 3, 4, 10, 100] {
            let mut before = None;
            let mut lines = vec![];
            loop {
                let page = w.store.statement(&StatementQuery { before, limit, ..query() }).unwrap().unwrap();
                assert!(page.lines.len() <= limit as usize);
                if let (Some(newest), Some(oldest)) = (page.lines.first(), page.lines.last()) {
                    assert_eq!(page.closing, newest.balance);
                    assert_eq!(page.opening, oldest.balance - oldest.amount);
                }
                lines.extend(page.lines);
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
            let amounts: Vec<i64> = lines.iter().map(|line| line.amount).collect();
            assert_eq!(amounts, [900, 800, 700, 600, 500, 400, 300, 200, 100, 10_000], "pages of {limit}");
            assert_eq!(lines[0].balance, 14_500);
            for pair in lines.windows(2) {
                assert_eq!(pair[0].balance - pair[0].amount, pair[1].balance, "the newer line starts where the older ends");
                assert!(pair[0].entry > pair[1].entry);
            }
        }
    };
    a_statement_of_a_time_has_its_first_instant_and_not_its_last: |w| {
        w.bank();
        for number in 0..4 {
            w.later(1_000);
            w.admin(incoming("SAV_001", "1", &format!("r{number}"))).unwrap();
        }
        let at = |seconds: i64| Some(UnixMillis(START + 1_000 * seconds));
        for (from, until, count, opening, closing) in [
            (None, None, 5, 0, 10_400),
            (at(0), None, 5, 0, 10_400),
            (at(1), at(3), 2, 10_000, 10_200),
            (at(1), at(4), 3, 10_000, 10_300),
            (at(2), at(2), 0, 10_100, 10_100),
            (at(5), None, 0, 10_400, 10_400),
            (None, at(0), 0, 0, 0),
            (None, at(1), 1, 0, 10_000),
        ] {
            let page = w.store.statement(&StatementQuery { from, until, ..query() }).unwrap().unwrap();
            let found = (page.lines.len(), page.opening, page.closing);
            assert_eq!(found, (count, opening, closing), "{from:?} {until:?}");
        }
        assert!(w.store.statement(&StatementQuery { account: "NONE".parse().unwrap(), ..query() }).unwrap().is_none());
        w.admin(open("FRESH", "OWN_001", None)).unwrap();
        let fresh = w.store.statement(&StatementQuery { account: "FRESH".parse().unwrap(), ..query() }).unwrap().unwrap();
        assert_eq!((fresh.lines.len(), fresh.opening, fresh.closing, fresh.next), (0, 0, 0, None));
    };
    a_key_is_known_over_midnight_and_for_more_than_a_year: |w| {
        w.bank();
        let to_midnight = DAY_MS - START.rem_euclid(DAY_MS);
        w.later(to_midnight - 1);
        let id = w.approved(transfer("5", "k"));
        let posted = w.posted(execute_transfer(&id, "SAV_001", "5"));
        let Ok(Effect::Posted(paid)) = w.admin(incoming("CHK_001", "7", "r")) else { panic!() };
        // The next millisecond is another day; and back again.
        for ms in [1, -1, 1, DAY_MS, 2 * DAY_MS] {
            w.later(ms);
            assert_eq!(w.approved(transfer("5", "k")), id);
            assert_eq!(w.call(transfer("6", "k")), Err(Refusal::IdempotencyKeyReused));
            let again = Posted { repeated: true, ..posted.clone() };
            assert_eq!(w.posted(execute_transfer(&id, "SAV_001", "5")), again);
        }
        w.later(396 * DAY_MS);
        assert_eq!(w.admin(incoming("CHK_001", "7", "r")), Ok(Effect::Posted(Posted { repeated: true, ..paid })));
        assert_eq!(w.admin(incoming("CHK_001", "8", "r")), Err(Refusal::IdempotencyKeyReused));
        assert_eq!(w.balance("CHK_001").0, "5249.83");
        w.adds_up();
    };
}

fn query() -> StatementQuery {
    StatementQuery { account: "SAV_001".parse().unwrap(), from: None, until: None, before: None, limit: 100 }
}
