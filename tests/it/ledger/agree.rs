//! The store and the model live the same random lives and agree on every word, balance, hold, sum and state.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign::kernel::breaker::Cause;
use countersign::kernel::command::*;
use countersign::kernel::ledger::{AccountKind, Transaction};
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use countersign::store::{Listing, TransactionQuery, views};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use serde_json::Value;

use super::calendar;
use super::model::{Book, Kind, Maker, Payment};
use super::rules::Word;
use super::steps::{Life, Step, agents, founding, life_rules, money, step};
use crate::store::world::{EVERY_VERB, World, grant, on_every_store, open, operator};

/// Lives in one run; `COUNTERSIGN_LIVES` asks for more.
const LIVES: u32 = 40;
const STEPS_MAX: usize = 70;

#[test]
fn every_command_comes_to_what_the_model_says() {
    let lives = std::env::var("COUNTERSIGN_LIVES").ok().map_or(LIVES, |lives| lives.parse().expect("a number"));
    let config = Config { cases: lives, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let life = (any::<bool>(), any::<bool>(), 1..9_usize, proptest::collection::vec(step(), 1..STEPS_MAX));
    let result = runner.run(&life, |(external, with_fees, group, steps)| {
        let mut disagreed = None;
        // Panics inside are disagreements too; proptest catches and shrinks them.
        let cell = std::cell::RefCell::new(&mut disagreed);
        on_every_store(|w| {
            let said = live(w, life_rules(external, with_fees), group, &steps);
            if let Err(what) = said {
                cell.borrow_mut().get_or_insert(what);
            }
        });
        disagreed.map_or(Ok(()), |what| Err(TestCaseError::fail(what)))
    });
    if let Err(TestError::Fail(why, life)) = result {
        panic!("{why}\nthe shortest such life: {life:#?}");
    }
    result.unwrap();
}

/// Up to `group` commands share a commit; after each commit both sides are compared.
fn live(w: &World<'_>, rules: Rules, group: usize, steps: &[Step]) -> Result<(), String> {
    let mut book = Book::default();
    let founding = founding(w);
    let decisions = w.store.apply(founding.clone()).map_err(|fault| fault.to_string())?;
    for (command, decision) in founding.iter().zip(decisions) {
        compare(&mut book, command, &decision.outcome)?;
    }
    agree(w, &book)?;
    let mut life = Life { w, rules };
    for steps in steps.chunks(group) {
        let mut asked = vec![];
        for step in steps {
            if let Some(command) = life.command(&book, step) {
                let said = book.decide(&command);
                asked.push((command, said));
            }
        }
        let commands: Vec<Command> = asked.iter().map(|(command, _)| command.clone()).collect();
        let last = commands.last().map(shown).unwrap_or_default();
        let decisions = w.store.apply(commands).map_err(|fault| format!("{fault} at {last}"))?;
        for ((command, said), decision) in asked.into_iter().zip(decisions) {
            agreed(&command, said, &decision.outcome)?;
        }
        agree(w, &book).map_err(|what| format!("{what}\nafter {last}"))?;
    }
    probe(w, &mut book)?;
    agree(w, &book)?;
    let check = w.store.check(&mut |_| {}).map_err(|fault| fault.to_string())?;
    if check.is_ok() { Ok(()) } else { Err(format!("the ledger check finds {check:?}")) }
}

fn compare(book: &mut Book, command: &Command, outcome: &Result<Effect, Refusal>) -> Result<(), String> {
    let said = book.decide(command);
    agreed(command, said, outcome)
}

fn agreed(command: &Command, said: Result<Word, Refusal>, outcome: &Result<Effect, Refusal>) -> Result<(), String> {
    let stored = outcome.as_ref().map(word).map_err(|refusal| *refusal);
    if said == stored {
        return Ok(());
    }
    Err(format!("the model says {said:?}, the store {stored:?}\nto {}", shown(command)))
}

/// The command without its rules.
fn shown(command: &Command) -> String {
    let act = match &command.act {
        Act::Tool { call, fresh, .. } => format!("{call:?} {fresh:?}"),
        Act::ReverseTransaction { transaction_id, amount, idempotency_key, .. } => {
            format!("ReverseTransaction {transaction_id} {amount:?} {idempotency_key}")
        }
        other => format!("{other:?}"),
    };
    format!("{act} of {} at {}", command.actor.name(), command.stamp.wall.0)
}

fn word(effect: &Effect) -> Word {
    let text = |id: &TransactionId| id.to_string();
    match effect {
        Effect::Approved { transaction_id, .. } => Word::Approved(text(transaction_id)),
        Effect::RequiresApproval { approval_id, transaction_id, expires, .. } => {
            Word::Asked { approval: approval_id.to_string(), payment: text(transaction_id), expires: expires.0 }
        }
        Effect::Posted(posted) => Word::Posted { payment: text(&posted.transaction_id), repeated: posted.repeated },
        Effect::Submitted(order) => Word::Submitted { payment: text(&order.transaction_id), repeated: order.repeated },
        Effect::QueuedManual { case_id, transaction_id, reason } => Word::Queued {
            case: case_id.to_string(),
            payment: transaction_id.as_ref().map(text),
            reason: reason.clone(),
        },
        Effect::Cancelled { transaction_id } => Word::Cancelled(text(transaction_id)),
        Effect::Decided { transaction_id, verdict, .. } => {
            Word::Decided { payment: text(transaction_id), yes: *verdict == Verdict::Approve }
        }
        Effect::CaseWorked { case_id, transaction_id, step } => Word::CaseWorked {
            case: case_id.to_string(),
            payment: transaction_id.as_ref().map(text),
            step: match step {
                CaseStep::Taken { by, before } => format!("taken by {by} from {}", before.as_deref().unwrap_or("")),
                CaseStep::Proposed { verdict, by } => format!("proposed {} by {by}", verdict.status()),
                CaseStep::Decided { verdict } => verdict.status().to_owned(),
            },
        },
        Effect::Swept { released } => Word::Swept(*released),
        Effect::Revoked { authorizations, already, .. } => {
            Word::Revoked { authorizations: *authorizations, already: *already }
        }
        Effect::Done { changed } => Word::Done { changed: *changed },
        Effect::Answer(_)
        | Effect::Certificate(_)
        | Effect::PolicyInForce { .. }
        | Effect::CrlNumber(_)
        | Effect::LogAccepted { .. }
        | Effect::Vault(_)
        | Effect::Signing { .. }
        | Effect::Witnessed(_)
        | Effect::Spread { .. }
        | Effect::MandateRevoked { .. }
        | Effect::Frozen { .. }
        | Effect::ErasureAsked { .. }
        | Effect::Erased { .. }
        | Effect::Lapsed { .. }
        | Effect::Unfrozen { .. } => {
            panic!("the model does not know {effect:?}")
        }
    }
}

/// Every account, payment, case and order is the same on both sides, and the store's own sums hold.
fn agree(w: &World<'_>, book: &Book) -> Result<(), String> {
    let balances = w.store.listing(Listing::Balances).unwrap();
    let names: Vec<&str> = balances.iter().map(|row| row["account_id"].as_str().unwrap()).collect();
    if names.len() != book.accounts.len() {
        return Err(format!("accounts: {names:?}, the model has {:?}", book.accounts.keys()));
    }
    let mut sums = BTreeMap::<String, i128>::new();
    for row in &balances {
        let minor = |key: &str| row[key].as_str().unwrap().parse::<i128>().unwrap();
        if minor("balance_minor") != minor("entries_minor") || minor("held_minor") != minor("open_minor") {
            return Err(format!("entries or open holds do not add up: {row}"));
        }
        *sums.entry(row["currency"].to_string()).or_default() += minor("entries_minor");
    }
    if sums.values().any(|sum| *sum != 0) {
        return Err(format!("the book is not balanced: {sums:?}"));
    }
    for (name, model) in &book.accounts {
        let stored = w.store.account(name).unwrap().ok_or_else(|| format!("{name} is not there"))?;
        let kind = match stored.kind {
            AccountKind::Customer => Kind::Customer,
            AccountKind::Merchant => Kind::Merchant,
            AccountKind::Fees => Kind::Fees,
            AccountKind::Clearing => Kind::Clearing,
        };
        let stored = super::model::Account {
            owner: stored.owner,
            kind,
            currency: stored.currency.to_string(),
            status: stored.status.name(),
            status_by: stored.status_by,
            balance: stored.balance.into(),
            held: stored.held.into(),
            overdraft: stored.overdraft.into(),
            day_max: stored.day_max.map(i128::from),
            zone: stored.zone.name().into(),
        };
        same(name, model, &stored)?;
        if kind != Kind::Clearing && model.available() < 0 {
            return Err(format!("{name} is below its line: {model:?}"));
        }
    }
    let listed = w.store.transactions(&TransactionQuery { limit: 1_000, ..TransactionQuery::default() }).unwrap();
    same("the number of payments", &book.payments.len(), &listed.len())?;
    for (model, record) in book.payments.iter().rev().zip(listed) {
        same(&model.id, model, &payment(record.transaction))?;
    }
    let cases: Vec<Value> = w.store.cases(None, 1_000).unwrap().iter().map(views::case).collect();
    let cases: BTreeMap<String, (String, String, String, [String; 4])> = cases
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap_or("").to_owned();
            let first = |key: &str| row["proposed"][key].as_str().unwrap_or("").to_owned();
            let people = [text("decided_by"), text("taken_by"), first("status"), first("by")];
            (text("case_id"), (text("status"), text("agent"), text("transaction_id"), people))
        })
        .collect();
    let expected = book.cases.iter().map(|case| {
        let text = |word: &Option<String>| word.clone().unwrap_or_default();
        let (verdict, first) = case.proposed.clone().unwrap_or_default();
        let people = [text(&case.decided_by), text(&case.taken_by), verdict, first];
        (case.id.clone(), (case.state.into(), case.agent.clone(), text(&case.payment), people))
    });
    same("cases", &expected.collect(), &cases)?;
    // Orders about one payment are said in turn; among payments that one sweep ends there is no order.
    let mut outbox = BTreeMap::<String, Vec<&'static str>>::new();
    for row in w.store.outbox(None, 10_000).unwrap() {
        outbox.entry(row.transaction_id.to_string()).or_default().push(row.verb.name());
    }
    let mut expected = BTreeMap::<String, Vec<&'static str>>::new();
    for (payment, verb) in &book.outbox {
        expected.entry(payment.clone()).or_default().push(verb);
    }
    same("outbox", &expected, &outbox)?;
    let breaker = w.store.listing(Listing::Breaker).unwrap();
    let causes = breaker[0]["causes"].as_array().unwrap().iter();
    let stored: Vec<(String, String)> = causes
        .map(|cause| (cause["reason"].as_str().unwrap().to_owned(), cause["by"].as_str().unwrap().to_owned()))
        .collect();
    same("breaker", &book.breaker.values().cloned().collect(), &stored)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, model: &T, stored: &T) -> Result<(), String> {
    if model == stored { Ok(()) } else { Err(format!("{what}: the model has {model:#?}, the store {stored:#?}")) }
}

fn payment(stored: Transaction) -> Payment {
    let question = stored.approval.map(|approval| super::model::Question {
        id: approval.approval_id.to_string(),
        expires: approval.expires.0,
        decided_by: approval.decided.map(|decided| decided.by),
    });
    Payment {
        id: stored.transaction_id.to_string(),
        kind: stored.kind,
        state: stored.state.name(),
        maker: Maker::of(&stored.maker),
        debit: stored.debit,
        credit: stored.credit,
        currency: stored.amount.currency().to_string(),
        amount: stored.amount.minor().into(),
        fee: stored.fee.minor().into(),
        merchant: stored.merchant.map(|merchant| merchant.to_string()),
        product: stored.product.map(|product| product.to_string()),
        original: stored.original.map(|original| original.to_string()),
        expires: stored.expires.0,
        ttl: stored.authorization_ttl_ms,
        question,
        agent_day: stored.counts_on.map(|day| day.0.into()),
        account_day: stored.debits_on.map(|day| day.0.into()),
        external: stored.settlement == Settlement::External,
        case: stored.case_id.map(|case| case.to_string()),
    }
}

/// Daily sums cannot be read, so they are asked for: what exactly fits into a day is not above its limit, one more is.
fn probe(w: &World<'_>, book: &mut Book) -> Result<(), String> {
    let ask = |book: &mut Book, actor: Actor, act: Act| {
        let command = w.command(actor, act);
        let decision = w.store.apply(vec![command.clone()]).map_err(|fault| fault.to_string())?;
        compare(book, &command, &decision[0].outcome)
    };
    let ada = || Actor::Operator(operator("ada", &["administrator", "officer"]));
    for name in ["PROBE", "PROBED"] {
        ask(book, ada(), open(name, "OWN_P", Some("1000000")))?;
    }
    for cause in Cause::ALL {
        ask(book, ada(), Act::SetBreaker { cause, reason: None, node: None })?;
    }
    let counters: Vec<((String, i64), i128)> = book.counters.clone().into_iter().collect();
    for ((who, day), spent) in counters {
        let noon = |zone: &str| {
            let near = day * calendar::DAY_MS + calendar::DAY_MS / 2;
            let hours = (-14..=14).map(|hours| near + hours * calendar::HOUR_MS);
            hours.into_iter().find(|at| calendar::day(zone, *at) == day).expect("a day has hours")
        };
        let left = |limit: i128, more: i64| i64::try_from(limit - spent).unwrap() + more;
        if let Some(account) = book.accounts.get(&who) {
            let (max, currency) = (account.day_max.expect("it is counted"), account.currency.clone());
            w.now.set(noon(&account.zone));
            for more in [1, 0] {
                let (credit, amount) = (format!("fees:{currency}"), money(left(max, more), &currency));
                let reference = w.id("probe").parse().unwrap();
                let act = Act::Transfer { debit: who.clone(), credit, amount, reference };
                ask(book, Actor::System { component: "probe".into() }, act)?;
            }
        } else {
            let agent = agents().into_iter().find(|agent| agent.spiffe_id.to_string() == who).expect("one of ours");
            let Act::AddGrant { agent: name, account, verbs, per_transaction_max, expires, .. } =
                grant(&agent, "PROBE", EVERY_VERB)
            else {
                panic!("it was made above")
            };
            w.now.set(noon("UTC"));
            let owner = "OWN_P".parse().unwrap();
            ask(book, ada(), Act::AddGrant { agent: name, account, owner, verbs, per_transaction_max, expires })?;
            let limits = Rules { unattended_per_transaction: money(i64::MAX, "USD"), ..life_rules(false, false) };
            for more in [1, 0] {
                let amount = money(left(350_000, more), "USD");
                let call = ToolCall::AuthorizeTransfer {
                    from_account: Some("PROBE".parse().unwrap()),
                    to_account: "PROBED".parse().unwrap(),
                    amount,
                    idempotency_key: w.id("probe").parse().unwrap(),
                };
                let act = Act::Tool { call, rules: Arc::new(limits.clone()), fresh: w.fresh(), risk: None };
                ask(book, Actor::Agent(agent.clone()), act)?;
            }
        }
    }
    Ok(())
}
