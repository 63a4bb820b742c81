//! The bank's book once more: an independent model that shares no code with the ledger and its decisions.
//!
//! It has one purpose: to be obviously right. Everything is a plain list, every sum is taken in 128 bits, and each
//! counter and hold is kept the way the documents say it, not the way a store would. It knows the product's
//! vocabulary (commands, ids, names of refusals) and nothing else of it.

use std::collections::{BTreeMap, BTreeSet};

use countersign::kernel::command::{Actor, AgentPrincipal, Rules, Verb};
use countersign::kernel::ledger::TransactionKind;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::Money;

use super::calendar;

pub type Ruled<T> = Result<T, Refusal>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Customer,
    Merchant,
    Fees,
    Clearing,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    pub owner: String,
    pub kind: Kind,
    pub currency: String,
    /// `active`, `frozen`, `closed`
    pub status: &'static str,
    pub status_by: Option<String>,
    pub balance: i128,
    pub held: i128,
    pub overdraft: i128,
    pub day_max: Option<i128>,
    pub zone: String,
}

impl Account {
    pub fn available(&self) -> i128 {
        self.balance - self.held + self.overdraft
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    pub owner: String,
    pub verbs: BTreeSet<Verb>,
    pub max: Option<Money>,
    pub expires: i64,
    pub entered_by: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Maker {
    Agent { name: String, key: String },
    Human(String),
    Daemon(String),
}

impl Maker {
    pub fn of(actor: &Actor) -> Self {
        match actor {
            Actor::Agent(agent) => Self::Agent { name: agent.spiffe_id.to_string(), key: agent.key.hex() },
            Actor::Operator(operator) => Self::Human(operator.name.to_string()),
            Actor::Program(_) => unreachable!("no program asks for money"),
            Actor::System { component } => Self::Daemon(format!("system:{component}")),
        }
    }

    pub fn agent(&self) -> Option<&str> {
        match self {
            Self::Agent { name, .. } => Some(name),
            Self::Human(_) | Self::Daemon(_) => None,
        }
    }
}

/// A question to a human.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    pub id: String,
    pub expires: i64,
    pub decided_by: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Payment {
    pub id: String,
    pub kind: TransactionKind,
    /// The name of its state.
    pub state: &'static str,
    pub maker: Maker,
    pub debit: String,
    pub credit: String,
    pub currency: String,
    pub amount: i128,
    pub fee: i128,
    pub merchant: Option<String>,
    pub product: Option<String>,
    pub original: Option<String>,
    pub expires: i64,
    pub ttl: i64,
    pub question: Option<Question>,
    pub agent_day: Option<i64>,
    pub account_day: Option<i64>,
    pub external: bool,
    pub case: Option<String>,
}

impl Payment {
    pub fn total(&self) -> i128 {
        self.amount + self.fee
    }

    pub fn is_open(&self) -> bool {
        ["approved", "pending_approval", "queued_manual", "submitted"].contains(&self.state)
    }

    /// A reversal holds nothing until it is ordered from the core.
    pub fn holds(&self) -> bool {
        matches!(self.kind, TransactionKind::Purchase | TransactionKind::Transfer) || self.state == "submitted"
    }
}

/// What a key stands for since it was used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    pub day: i64,
    pub scope: String,
    pub request: String,
    pub payment: Option<String>,
    pub case: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    pub id: String,
    pub agent: String,
    /// `queued`, `released`, `rejected`, `paid_elsewhere`
    pub state: &'static str,
    pub reason: String,
    pub scope: Option<String>,
    pub payment: Option<String>,
    pub resume: &'static str,
    pub decided_by: Option<String>,
    pub taken_by: Option<String>,
    /// What the first of two people said, and who that was.
    pub proposed: Option<(String, String)>,
    /// What was asked for, when there is no payment: currency and minor units.
    pub asked: Option<(String, i128)>,
}

/// Everything the bank knows about money.
#[derive(Clone, Default, Debug)]
pub struct Book {
    pub accounts: BTreeMap<String, Account>,
    /// Name and currency.
    pub merchants: BTreeMap<String, (String, String)>,
    pub offers: BTreeMap<(String, String), (String, Money)>,
    pub grants: BTreeMap<(String, String), Grant>,
    pub payments: Vec<Payment>,
    /// Who and which day.
    pub counters: BTreeMap<(String, i64), i128>,
    pub keys: Vec<Key>,
    /// With the day on which each was taken.
    pub nonces: Vec<(i64, String)>,
    pub cases: Vec<Case>,
    /// Causes in the order in which they are told, with reason and by whom.
    pub breaker: BTreeMap<u8, (String, String)>,
    pub revoked: BTreeSet<String>,
    /// Transaction and verb, in the order in which they must be said.
    pub outbox: Vec<(String, &'static str)>,
}

pub const KEYS_KEPT_DAYS: i64 = 400;

impl Book {
    pub fn account(&self, name: &str) -> &Account {
        self.accounts.get(name).unwrap_or_else(|| panic!("the model has no account {name}"))
    }

    pub fn account_mut(&mut self, name: &str) -> &mut Account {
        self.accounts.get_mut(name).unwrap_or_else(|| panic!("the model has no account {name}"))
    }

    pub fn customer(&self, name: &str) -> Ruled<&Account> {
        self.accounts.get(name).filter(|account| account.kind == Kind::Customer).ok_or(Refusal::UnknownAccount)
    }

    /// Opens one of the bank's own accounts when it is first needed.
    pub fn internal(&mut self, kind: Kind, currency: &str) -> String {
        let prefix = match kind {
            Kind::Fees => "fees",
            Kind::Clearing => "clearing",
            Kind::Customer | Kind::Merchant => panic!("{kind:?} is not the bank's own"),
        };
        let name = format!("{prefix}:{currency}");
        self.accounts.entry(name.clone()).or_insert_with(|| Account {
            owner: "bank".into(),
            kind,
            currency: currency.into(),
            status: "active",
            status_by: None,
            balance: 0,
            held: 0,
            overdraft: 0,
            day_max: None,
            zone: "UTC".into(),
        });
        name
    }

    pub fn payment(&self, id: &str) -> Option<&Payment> {
        self.payments.iter().find(|payment| payment.id == id)
    }

    pub fn payment_mut(&mut self, id: &str) -> &mut Payment {
        self.payments.iter_mut().find(|payment| payment.id == id).expect("the caller found it before")
    }

    pub fn payment_of_question(&self, id: &str) -> Option<&Payment> {
        self.payments.iter().find(|payment| payment.question.as_ref().is_some_and(|question| question.id == id))
    }

    pub fn case(&self, id: &str) -> Option<&Case> {
        self.cases.iter().find(|case| case.id == id)
    }

    pub fn counter(&self, who: &str, day: i64) -> i128 {
        self.counters.get(&(who.to_owned(), day)).copied().unwrap_or(0)
    }

    pub fn key(&self, scope: &str, now: i64) -> Option<&Key> {
        let oldest = calendar::day("UTC", now) - KEYS_KEPT_DAYS;
        self.keys.iter().find(|key| key.scope == scope && key.day >= oldest)
    }

    pub fn bind(&mut self, scope: &str, request: &str, now: i64, payment: Option<String>, case: Option<String>) {
        let day = calendar::day("UTC", now);
        self.keys.push(Key { day, scope: scope.into(), request: request.into(), payment, case });
    }

    /// Open authorizations of this agent that debit the account.
    pub fn open_of(&self, agent: &str, debit: &str) -> usize {
        let mine = |payment: &&Payment| payment.maker.agent() == Some(agent) && payment.debit == debit;
        self.payments.iter().filter(mine).filter(|payment| payment.is_open()).count()
    }

    /// What reversals have taken or may still take from a payment.
    pub fn reversed(&self, original: &str) -> i128 {
        let of_it = |payment: &&Payment| payment.original.as_deref() == Some(original);
        let counts = |payment: &&Payment| payment.is_open() || payment.state == "executed";
        self.payments.iter().filter(of_it).filter(counts).map(|payment| payment.amount).sum()
    }

    /// What revocation voids: the agent's open payments that have not left the bank.
    pub fn voidable(&self) -> Vec<String> {
        let void = |payment: &&Payment| payment.maker.agent().is_some_and(|agent| self.revoked.contains(agent));
        let still_here = |payment: &&Payment| payment.is_open() && payment.state != "submitted";
        self.payments.iter().filter(void).filter(still_here).map(|payment| payment.id.clone()).collect()
    }

    /// The hold of a new payment, in the order in which it may be refused.
    pub fn hold(&mut self, name: &str, total: i128) -> Ruled<()> {
        let account = self.account_mut(name);
        if total > account.available() {
            return Err(Refusal::InsufficientFunds);
        }
        account.held = fits(account.held + total)?;
        Ok(())
    }

    /// The account's own day: refuses what would go above its limit, else says on which day it counts.
    pub fn within_day(&self, name: &str, total: i128, now: i64) -> Ruled<Option<i64>> {
        let account = self.account(name);
        let Some(max) = account.day_max else { return Ok(None) };
        let day = calendar::day(&account.zone, now);
        if self.counter(name, day) + total > max {
            return Err(Refusal::AccountDayLimitExceeded);
        }
        Ok(Some(day))
    }

    /// Moves the money of a payment whole or not at all. What has moved at the core is followed whatever the accounts'
    /// status.
    pub fn post(&mut self, payment: &Payment) -> Ruled<()> {
        let held = payment.holds();
        let moved_there = payment.state == "submitted";
        if payment.amount <= 0 {
            return Err(Refusal::AmountNotPositive);
        }
        if payment.debit == payment.credit {
            return Err(Refusal::SameAccount);
        }
        let (debit, credit) = (self.account(&payment.debit), self.account(&payment.credit));
        if debit.currency != payment.currency || credit.currency != payment.currency {
            return Err(Refusal::CurrencyMismatch);
        }
        if debit.status != "active" && !moved_there {
            return Err(Refusal::AccountNotActive);
        }
        if credit.status != "active" && !moved_there {
            return Err(Refusal::DestinationNotActive);
        }
        let total = payment.total();
        let free = debit.available() + if held { total } else { 0 };
        if debit.kind != Kind::Clearing && free < total {
            return Err(Refusal::InsufficientFunds);
        }
        fits(debit.balance - total)?;
        fits(credit.balance + payment.amount)?;
        let income = format!("fees:{}", payment.currency);
        if payment.fee > 0 {
            fits(self.account(&income).balance + payment.fee)?;
            self.account_mut(&income).balance += payment.fee;
        }
        let debit = self.account_mut(&payment.debit);
        debit.balance -= total;
        debit.held -= if held { total } else { 0 };
        self.account_mut(&payment.credit).balance += payment.amount;
        self.payment_mut(&payment.id).state = "executed";
        Ok(())
    }

    /// Adds to or returns from the daily sums that a payment counts towards.
    pub fn count(&mut self, payment: &Payment, sign: i128) {
        let mut add = |who: String, day: i64, amount: i128| {
            let sum = self.counters.entry((who, day)).or_default();
            *sum += sign * amount;
            assert!(*sum >= 0, "the model returned more than it counted: {payment:?}");
        };
        if let (Some(day), Some(agent)) = (payment.agent_day, payment.maker.agent()) {
            add(agent.to_owned(), day, payment.amount);
        }
        if let Some(day) = payment.account_day {
            add(payment.debit.clone(), day, payment.total());
        }
    }

    /// Ends an open payment: funds, daily sums and what the core holds go back.
    pub fn end(&mut self, id: &str, state: &'static str) {
        let payment = self.payment(id).expect("the caller found it before").clone();
        assert!(payment.is_open(), "the model ends what is over: {payment:?}");
        if payment.holds() {
            let account = self.account_mut(&payment.debit);
            account.held -= payment.total();
            assert!(account.held >= 0, "the model released more than is held: {payment:?}");
            if payment.external {
                // A hold that was not heard of is not asked for any more.
                self.outbox.retain(|order| *order != (id.to_owned(), "hold"));
                self.tell_core(id, "release");
            }
        }
        self.count(&payment, -1);
        self.payment_mut(id).state = state;
    }

    pub fn tell_core(&mut self, id: &str, verb: &'static str) {
        let order = (id.to_owned(), verb);
        if !self.outbox.contains(&order) {
            self.outbox.push(order);
        }
    }
}

/// The ledger counts in 64 bits.
pub fn fits(minor: i128) -> Ruled<i128> {
    i64::try_from(minor).map(i128::from).map_err(|_| Refusal::AmountTooLarge)
}

/// What a payment costs: the first rule of its kind and currency.
pub fn fee(rules: &Rules, kind: TransactionKind, amount: Money) -> Ruled<i128> {
    for rule in &rules.fees {
        if rule.kind == kind && rule.fixed.currency() == amount.currency() {
            let part = i128::from(amount.minor()) * i128::from(rule.basis_points) / 10_000;
            return fits(i128::from(rule.fixed.minor()) + part);
        }
    }
    Ok(0)
}

/// Agents are told apart by name and key.
pub fn is_maker(payment: &Payment, agent: &AgentPrincipal) -> bool {
    payment.maker == Maker::Agent { name: agent.spiffe_id.to_string(), key: agent.key.hex() }
}
