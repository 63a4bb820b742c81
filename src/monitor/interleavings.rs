//! What the monitor's threads share, in every order in which they meet at it: calls are scored while the log is read.

use std::sync::Arc;

use shuttle::thread;

use super::Watch;
use super::settings::MonitorSettings;
use crate::kernel::command::{AgentPrincipal, Rules, Settlement, ToolCall};
use crate::kernel::monitor::{Ahead, Event, Outcome, Subject, Told, What};
use crate::kernel::policy::merchants::MerchantList;
use crate::kernel::policy::transaction::TransactionRules;
use crate::kernel::types::{Money, RequestId, Serial, Sha256, UnixMillis};

const ORDERS: usize = 300;
const SEED: u64 = 7;
const NOW: i64 = 1_800_000_000_000;
const LEAVES: u8 = 3;

fn watch() -> Arc<Watch> {
    Arc::new(Watch::new(&MonitorSettings::default()).unwrap().expect("it watches unless told otherwise"))
}

fn usd(minor: i64) -> Money {
    Money::from_minor(minor, "USD".parse().unwrap())
}

fn agent() -> AgentPrincipal {
    AgentPrincipal {
        spiffe_id: "spiffe://countersign.example/agent/purchaser/one".parse().unwrap(),
        key: Sha256::of(&[b"one"]),
        bank_issuer: "bb".into(),
        bank_serial: Serial::from_bytes(&[1]).unwrap(),
        company_issuer: "cc".into(),
        company_serial: Serial::from_bytes(&[2]).unwrap(),
        not_after: UnixMillis(i64::MAX),
    }
}

fn rules() -> Rules {
    Rules {
        policy_version: "p".into(),
        catalogue_version: 1,
        role_tools: Default::default(),
        policy: None,
        policy_unreadable: None,
        merchants_allowed: MerchantList::default(),
        unattended_per_transaction: usd(200_000),
        unattended_per_day: usd(500_000),
        deny_above: None,
        authorization_ttl_ms: 1,
        approval_ttl_ms: 1,
        open_holds_max: 1,
        transactions: TransactionRules::default(),
        company_crl_required: false,
        fees: vec![],
        settlement: Settlement::Embedded,
        gates: vec![],
        unsigned_approvals: false,
        manual_two_people_above: None,
        stopped_here: None,
    }
}

fn request(number: u8) -> RequestId {
    format!("req_{number:026}").parse().unwrap()
}

fn call(number: u8) -> ToolCall {
    ToolCall::AuthorizeTransfer {
        from_account: Some("A".parse().unwrap()),
        to_account: "B".parse().unwrap(),
        amount: usd(100),
        idempotency_key: format!("k{number}").parse().unwrap(),
    }
}

fn ahead(watch: &Watch, number: u8) -> u32 {
    watch.assess(&agent(), &call(number), &request(number), UnixMillis(NOW), &rules()).ahead.payments
}

/// The leaf of a call that was authorized.
fn leaf(number: u8) -> Option<Told> {
    let (agent, at) = (agent().spiffe_id, UnixMillis(NOW));
    let bare = Event::of_call(at, &agent, &call(number), None, Ahead::default());
    let event = Event { outcome: Outcome::Authorized { transaction: Subject::of(&number.to_string()) }, ..bare };
    let tool = "authorize_transfer".into();
    let what = What::Call { agent, tool, event, assessment: None, is_risk_frozen: false, is_odd: false };
    Some(Told { at, request: request(number).to_string(), what })
}

/// Reads the log to its end, a leaf at a time, as `Watch::page` does with what the store gave.
fn follow(watch: &Watch) {
    loop {
        let seen = watch.seen();
        match u8::try_from(seen).ok().filter(|seen| *seen < LEAVES) {
            Some(number) => drop(watch.learn(seen, &[leaf(number)])),
            None => return,
        }
    }
}

#[test]
fn of_calls_at_once_each_counts_all_before_it_as_ahead() {
    let life = || {
        let watch = watch();
        let calls: Vec<_> = (0..3)
            .map(|number| {
                let watch = Arc::clone(&watch);
                thread::spawn(move || ahead(&watch, number))
            })
            .collect();
        let mut counted: Vec<u32> = calls.into_iter().map(|call| call.join().unwrap()).collect();
        counted.sort_unstable();
        assert_eq!(counted, [0, 1, 2]);
    };
    shuttle::check_random_with_seed(life, SEED, ORDERS);
}

/// Two that read the same log learn each leaf once, whoever is scored meanwhile: what is known afterwards is what one
/// reader knows.
#[test]
fn a_leaf_is_learnt_once_whoever_reads_the_log() {
    let life = || {
        let shared = watch();
        for number in 0..LEAVES {
            ahead(&shared, number);
        }
        let followers: Vec<_> = (0..2)
            .map(|_| {
                let watch = Arc::clone(&shared);
                thread::spawn(move || follow(&watch))
            })
            .collect();
        let calling = {
            let watch = Arc::clone(&shared);
            thread::spawn(move || ahead(&watch, 9))
        };
        for follower in followers {
            follower.join().unwrap();
        }
        let before = calling.join().unwrap();
        assert!(before <= u32::from(LEAVES));
        assert_eq!(shared.seen(), u64::from(LEAVES));
        assert_eq!(ahead(&shared, 10), 1, "all but the call that has no leaf have landed");

        let alone = watch();
        follow(&alone);
        let bare = Event::of_call(UnixMillis(NOW), &agent().spiffe_id, &call(11), None, Ahead::default());
        assert_eq!(shared.lock().monitor.assess(&bare), alone.lock().monitor.assess(&bare));
    };
    shuttle::check_random_with_seed(life, SEED, ORDERS);
}
