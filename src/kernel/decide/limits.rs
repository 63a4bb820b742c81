//! The transaction rules on one authorization: each question at its place in the order of `authorize`.

use std::collections::BTreeMap;

use super::{Book, Case, Change, Ruled};
use crate::kernel::ledger::{Account, Transaction, TransactionKind};
use crate::kernel::policy::SoftLimit;
use crate::kernel::policy::transaction::{Applied, Asked, Denied, LocalTime, Pace, PaceKey, PaymentKind, Reached, Why};
use crate::kernel::quorum::GateRule;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{MerchantId, Money, UnixMillis};

/// The transaction rules that fit one payment.
pub(super) struct Limits<'a> {
    applied: Applied<'a>,
    asked: Asked<'a>,
    /// By the paying account's own clock.
    at: LocalTime,
    now: UnixMillis,
}

impl<'a> Limits<'a> {
    pub(super) fn of(case: &Case<'a>, kind: PaymentKind, source: &'a Account, amount: Money) -> Self {
        let (agent, now) = (&case.agent.spiffe_id, case.now());
        let asked = Asked { agent, account: &source.name, kind, amount };
        let at = LocalTime { day: source.zone.day(now), second: source.zone.second_of_day(now) };
        Self { applied: Applied::of(&case.rules.transactions, &asked), asked, at, now }
    }

    /// # Errors
    /// `outside_hours`, `currency_not_allowed`
    pub(super) fn admit(&self) -> Result<(), Denied> {
        self.applied.admit(self.asked.amount, self.at)
    }

    /// # Errors
    /// `unauthorized_merchant`
    pub(super) fn merchant(&self, merchant: &MerchantId) -> Result<(), Denied> {
        self.applied.merchant(merchant)
    }

    /// # Errors
    /// `payee_not_allowed`
    pub(super) fn payee(&self, payee: &str) -> Result<(), Denied> {
        self.applied.payee(payee)
    }

    /// Whether a rule wants a mandate of the account's owner.
    pub(super) fn mandate_required(&self) -> bool {
        self.applied.mandate_required().is_some()
    }

    /// # Errors
    /// `above_hard_ceiling`, `currency_not_allowed`
    pub(super) fn ceilings(&self) -> Result<(), Denied> {
        self.applied.ceilings(self.asked.amount)
    }

    /// The velocities with this payment in them: those that ask for a human, and the orders that count it. An
    /// authorization counts when it is made, whatever becomes of it: who cancels and asks again is not slower.
    ///
    /// # Errors
    /// `velocity_exceeded`
    pub(super) fn velocity(&self, book: &dyn Book) -> Ruled<(Vec<Reached>, Vec<Change>)> {
        let counted = self.applied.paces(&self.asked);
        let mut paces: BTreeMap<PaceKey, Pace> = BTreeMap::new();
        for key in counted.keys() {
            paces.insert(key.clone(), book.pace(key)?);
        }
        let reached = self.applied.velocity(&self.asked, &paces, self.now)?;
        let changes = counted.into_iter().map(|(key, more)| {
            let pace = paces.get(&key).cloned().unwrap_or_default().with(&key, self.now, more);
            Change::PutPace { key, pace }
        });
        Ok((reached, changes.collect()))
    }

    /// The gates of every threshold that the amount is above.
    pub(super) fn gates(&self) -> Vec<GateRule> {
        self.applied.gates(self.asked.amount)
    }

    /// What else asks for a human. `spent_minor`: the agent's unattended sum of the day.
    pub(super) fn soft(&self, spent_minor: i64) -> Vec<Reached> {
        self.applied.soft(self.asked.amount, spent_minor, self.at)
    }
}

/// Each limit that asks for a human once, and who says so: the bank's settings first.
pub(super) fn together(settings: Vec<SoftLimit>, rules: &[Reached]) -> (Vec<SoftLimit>, Vec<Why>) {
    let of_settings = settings.iter().map(|limit| Why { name: limit.name(), rule: None, imitates: None });
    let why: Vec<Why> = of_settings.chain(rules.iter().map(Reached::why)).collect();
    let mut limits = settings;
    for reached in rules {
        if !limits.contains(&reached.limit) {
            limits.push(reached.limit);
        }
    }
    (limits, why)
}

/// What rules call an agent's payment; none: it is not one.
pub(super) fn kind_of(kind: TransactionKind) -> Option<PaymentKind> {
    match kind {
        TransactionKind::Purchase => Some(PaymentKind::Purchase),
        TransactionKind::Transfer => Some(PaymentKind::Transfer),
        TransactionKind::Reversal | TransactionKind::Incoming | TransactionKind::Opening | TransactionKind::Booking => {
            None
        }
    }
}

/// What `execute_*` asks again of the rules: whom they permit to be paid. Hours, limits and velocities were asked when
/// it was authorized.
///
/// # Errors
/// `unauthorized_merchant`, `payee_not_allowed`
pub(super) fn still_permits(case: &Case<'_>, transaction: &Transaction) -> Result<(), Denied> {
    let Some((kind, applied)) = applied_now(case, transaction) else {
        return Ok(());
    };
    match (&transaction.merchant, kind) {
        (Some(merchant), PaymentKind::Purchase) => applied.merchant(merchant),
        (None, PaymentKind::Purchase) => Err(Denied::of(Refusal::UnauthorizedMerchant)),
        (Some(_) | None, PaymentKind::Transfer) => applied.payee(&transaction.credit),
    }
}

/// Whether a rule wants a mandate of the account's owner now.
pub(super) fn now_wants_mandate(case: &Case<'_>, transaction: &Transaction) -> bool {
    applied_now(case, transaction).is_some_and(|(_, applied)| applied.mandate_required().is_some())
}

/// The rules that fit an authorization today. None: it is no agent's payment.
fn applied_now<'a>(case: &Case<'a>, transaction: &'a Transaction) -> Option<(PaymentKind, Applied<'a>)> {
    let kind = kind_of(transaction.kind)?;
    let asked = Asked { agent: &case.agent.spiffe_id, account: &transaction.debit, kind, amount: transaction.amount };
    Some((kind, Applied::of(&case.rules.transactions, &asked)))
}
