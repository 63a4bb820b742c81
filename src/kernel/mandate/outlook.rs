//! What is left of a mandate: what the agent that pays under it is shown.

use serde_json::{Value, json};

use super::constraint::ExecutionDates;
use super::{Counts, Mandate, Payee, Period};
use crate::kernel::types::{Currency, Money, UnixMillis};
use crate::kernel::zone::Zone;

/// Where a mandate stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    InForce,
    /// It stands, and what it allows in this period, or at all, is paid.
    UsedUp,
    NotYetValid,
    Expired,
    Revoked,
}

impl Status {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::InForce => "in_force",
            Self::UsedUp => "used_up",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// A mandate as the agent that pays under it is shown it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShownMandate {
    pub mandate: Mandate,
    pub created: UnixMillis,
    /// Since when it counts no more: it was revoked, or whoever signed it.
    pub revoked: Option<UnixMillis>,
    /// Where the account lives.
    pub zone: Zone,
    /// As of [`Mandate::counted_on`] at the instant at which it is shown.
    pub counts: Counts,
}

impl ShownMandate {
    /// Where it stands at this instant.
    pub fn status(&self, at: UnixMillis) -> Status {
        let mandate = &self.mandate;
        if self.revoked.is_some() {
            return Status::Revoked;
        }
        if at >= mandate.expires {
            return Status::Expired;
        }
        if at < mandate.not_before {
            return Status::NotYetValid;
        }
        // The smallest payment that it has room for at all.
        let least = mandate.constraints.amount.and_then(|range| range.min).map_or(1, Money::minor);
        let least = mandate.currency().map(|currency| Money::from_minor(least, currency));
        let has_room = least.is_none_or(|least| mandate.covers(least, self.counts).is_ok());
        if has_room { Status::InForce } else { Status::UsedUp }
    }

    /// As the agent sees it. `payees` is null where anybody may be paid.
    pub fn outlook(&self, at: UnixMillis) -> Value {
        let Self { mandate, counts, zone, .. } = self;
        let zone = *zone;
        let limits = &mandate.constraints;
        let payees: Option<Vec<Value>> = limits.payees.as_ref().map(|payees| payees.iter().map(payee).collect());
        let mut shown = json!({
            "mandate_id": mandate.id,
            "status": self.status(at).name(),
            "account_id": mandate.account,
            "currency": mandate.currency(),
            "payees": payees,
            "created_at": self.created.rfc3339(),
            "not_before_at": mandate.not_before.rfc3339(),
            "expires_at": mandate.expires.rfc3339(),
        });
        let mut put = |member: &str, value: Option<Value>| {
            if let Some(value) = value {
                shown[member] = value;
            }
        };
        put("revoked_at", self.revoked.map(|revoked| json!(revoked.rfc3339())));
        put("amount_min", limits.amount.and_then(|range| range.min).map(|min| json!(min.decimal())));
        put("amount_max", limits.amount.map(|range| json!(range.max.decimal())));
        put(
            "budget",
            limits.budget.map(|budget| {
                let left = budget.max.minor().saturating_sub(counts.minor).max(0);
                let money = |minor| Money::from_minor(minor, budget.max.currency()).decimal();
                json!({
                    "budget_max": budget.max.decimal(),
                    "budget_spent": money(counts.minor),
                    "budget_left": money(left),
                    "period": budget.period.name(),
                    "period_ends_at": mandate.period_ends(budget.period, at, zone).rfc3339(),
                })
            }),
        );
        put(
            "recurrence",
            limits.recurrence.map(|recurrence| {
                let left = |max: u32, count: i64| i64::from(max).saturating_sub(count).max(0);
                let mut shown = json!({
                    "period": recurrence.frequency.name(),
                    "period_ends_at": mandate.period_ends(recurrence.frequency, at, zone).rfc3339(),
                });
                if recurrence.frequency != Period::Life {
                    shown["payments_max"] = json!(recurrence.per_period);
                    shown["payments_left"] = json!(left(recurrence.per_period, counts.in_period));
                }
                if let Some(max) = recurrence.max_occurrences {
                    shown["payments_in_all_max"] = json!(max);
                    shown["payments_in_all_left"] = json!(left(max, counts.in_life));
                }
                shown
            }),
        );
        put("reference", limits.reference.as_ref().map(|reference| json!(reference)));
        put("execution_dates", limits.dates.as_ref().map(ExecutionDates::written));
        shown
    }
}

impl Mandate {
    /// That of its amounts; one of them is there.
    fn currency(&self) -> Option<Currency> {
        let limits = &self.constraints;
        let max = limits.amount.map(|range| range.max).or_else(|| limits.budget.map(|budget| budget.max));
        max.map(Money::currency)
    }

    /// When a period that is under way ends: the next one begins where the account lives, or the mandate ends.
    fn period_ends(&self, period: Period, at: UnixMillis, zone: Zone) -> UnixMillis {
        let next = period.next(zone.day(at), zone.day(self.not_before));
        next.map_or(self.expires, |next| zone.start_of(next).min(self.expires))
    }
}

fn payee(payee: &Payee) -> Value {
    match payee {
        Payee::Merchant { id, name } => json!({ "merchant": id, "name": name }),
        Payee::Account { id, name } => json!({ "payee_account": id, "name": name }),
    }
}
