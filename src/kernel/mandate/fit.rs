//! Whether a payment lies within a mandate.

use serde::{Deserialize, Serialize};

use super::period::LIFE;
use super::{Mandate, Payee};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{AccountId, Day, KeyId, MandateId, MerchantId, Money, Serial, UnixMillis};
use crate::kernel::zone::Zone;

/// Mandates that an agent may have for one account and that have not ended.
pub const STANDING_MAX: usize = 32;

/// Who signed a mandate: what a revocation names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    pub key: KeyId,
    /// The certificate that the bank had issued for it: its issuer's subject key identifier (hexadecimal) and its serial
    /// number. Absent in what was entered before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<(String, Serial)>,
}

/// What a payment is judged by: a mandate without its text, who signed it, and whether it was revoked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldMandate {
    pub mandate: Mandate,
    pub signer: Signer,
    /// It, or whoever signed it.
    pub is_revoked: bool,
}

/// A mandate as the bank keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredMandate {
    pub mandate: Mandate,
    pub signer: Signer,
    /// The SD-JWT as its owner signed it.
    pub text: String,
    pub created: UnixMillis,
    /// The operator who entered it.
    pub entered_by: String,
    pub revoked: Option<Revoked>,
}

/// That a mandate counts no more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revoked {
    pub at: UnixMillis,
    pub by: String,
    pub reason: String,
}

/// A payment as mandates look at it.
#[derive(Clone, Copy, Debug)]
pub struct Payment<'a> {
    pub agent_key: KeyId,
    pub payee: PaymentPayee<'a>,
    /// The product of a purchase, the idempotency key of a transfer.
    pub reference: &'a str,
    pub amount: Money,
    pub at: UnixMillis,
    /// Where the account's days begin.
    pub zone: Zone,
}

/// Who is paid.
#[derive(Clone, Copy, Debug)]
pub enum PaymentPayee<'a> {
    Merchant(&'a MerchantId),
    Account(&'a AccountId),
}

/// Under which mandate a payment is made, and where it is counted. Its amount counts on `budget_on`; itself counts on
/// `recurs_on` and once for the mandate's life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MandateUse {
    pub mandate: MandateId,
    /// First day of the budget's period; [`LIFE`] when it has none.
    pub budget_on: Day,
    /// First day of the recurrence's period; [`LIFE`] when it has none.
    pub recurs_on: Day,
}

/// What was paid under a mandate so far, open authorizations included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Minor units in the budget's period.
    pub minor: i64,
    /// Payments in the recurrence's period.
    pub in_period: i64,
    /// Payments in all.
    pub in_life: i64,
}

impl StoredMandate {
    /// What payments are judged by.
    pub fn held(&self) -> HeldMandate {
        let Self { mandate, signer, revoked, .. } = self;
        HeldMandate { mandate: mandate.clone(), signer: signer.clone(), is_revoked: revoked.is_some() }
    }
}

impl HeldMandate {
    /// That it counts at all for this key now: asked again when a payment is executed.
    ///
    /// # Errors
    /// `mandate_not_this_agent`, `mandate_revoked`, `mandate_expired`, `mandate_not_yet_valid`
    pub fn stands(&self, agent_key: KeyId, at: UnixMillis) -> Result<(), Refusal> {
        if self.mandate.agent_key != agent_key {
            return Err(Refusal::MandateNotThisAgent);
        }
        if self.is_revoked {
            return Err(Refusal::MandateRevoked);
        }
        if at >= self.mandate.expires {
            return Err(Refusal::MandateExpired);
        }
        if at < self.mandate.not_before {
            return Err(Refusal::MandateNotYetValid);
        }
        Ok(())
    }
}

impl Mandate {
    /// Everything but the counts; answers where the payment is to be counted.
    ///
    /// # Errors
    /// `mandate_payee`, `mandate_reference`, `mandate_amount`, `mandate_dates`
    pub fn admits(&self, payment: &Payment<'_>) -> Result<MandateUse, Refusal> {
        let limits = &self.constraints;
        if limits.payees.as_ref().is_some_and(|payees| !payees.iter().any(|payee| payment.payee.is(payee))) {
            return Err(Refusal::MandatePayee);
        }
        if limits.reference.as_ref().is_some_and(|reference| reference != payment.reference) {
            return Err(Refusal::MandateReference);
        }
        let amount = payment.amount;
        let other_currency = |limit: Money| limit.currency() != amount.currency();
        let outside = limits.amount.is_some_and(|range| {
            other_currency(range.max)
                || amount.minor() > range.max.minor()
                || range.min.is_some_and(|min| amount.minor() < min.minor())
        });
        if outside || limits.budget.is_some_and(|budget| other_currency(budget.max)) {
            return Err(Refusal::MandateAmount);
        }
        self.dates_allow(payment.at, payment.zone)?;
        Ok(self.counted_on(payment.at, payment.zone))
    }

    /// Where a payment at this instant counts.
    pub fn counted_on(&self, at: UnixMillis, zone: Zone) -> MandateUse {
        let (day, begin) = (zone.day(at), zone.day(self.not_before));
        MandateUse {
            mandate: self.id.clone(),
            budget_on: self.constraints.budget.map_or(LIFE, |budget| budget.period.start(day, begin)),
            recurs_on: self.constraints.recurrence.map_or(LIFE, |recurrence| recurrence.frequency.start(day, begin)),
        }
    }

    /// That a payment may be executed now.
    ///
    /// # Errors
    /// `mandate_dates`
    pub fn dates_allow(&self, at: UnixMillis, zone: Zone) -> Result<(), Refusal> {
        let allowed = self.constraints.dates.as_ref().is_none_or(|dates| dates.allow(at, zone));
        if allowed { Ok(()) } else { Err(Refusal::MandateDates) }
    }

    /// That one payment more of this amount stays within the counts.
    ///
    /// # Errors
    /// `mandate_recurrence`, `mandate_budget`
    pub fn covers(&self, amount: Money, counts: Counts) -> Result<(), Refusal> {
        if let Some(recurrence) = self.constraints.recurrence {
            let in_period =
                recurrence.frequency != super::Period::Life && counts.in_period >= i64::from(recurrence.per_period);
            let in_life = recurrence.max_occurrences.is_some_and(|max| counts.in_life >= i64::from(max));
            if in_period || in_life {
                return Err(Refusal::MandateRecurrence);
            }
        }
        let Some(budget) = self.constraints.budget else {
            return Ok(());
        };
        let within = counts.minor.checked_add(amount.minor()).is_some_and(|sum| sum <= budget.max.minor());
        if within { Ok(()) } else { Err(Refusal::MandateBudget) }
    }
}

impl PaymentPayee<'_> {
    fn is(self, payee: &Payee) -> bool {
        match (self, payee) {
            (Self::Merchant(merchant), Payee::Merchant { id, .. }) => merchant == id,
            (Self::Account(account), Payee::Account { id, .. }) => account == id,
            (Self::Merchant(_), Payee::Account { .. }) | (Self::Account(_), Payee::Merchant { .. }) => false,
        }
    }
}

/// The mandate under which a payment is made: of those that fit, the one that ends first, then by id. When none fits,
/// the refusal of the one that came furthest. `counts` says what was counted under a mandate on the days of a use.
///
/// # Errors
/// `mandate_missing` without any mandate, else the name of the first rule in the order of [`HeldMandate::stands`],
/// [`Mandate::admits`] and [`Mandate::covers`] that the furthest one breaks; what `counts` reports.
pub fn choose<E: From<Refusal>>(
    mandates: &[HeldMandate],
    payment: &Payment<'_>,
    mut counts: impl FnMut(&MandateUse) -> Result<Counts, E>,
) -> Result<MandateUse, E> {
    let mut candidates: Vec<&HeldMandate> = mandates.iter().collect();
    candidates.sort_by_key(|held| (held.mandate.expires, held.mandate.id.clone()));
    let mut furthest = Refusal::MandateMissing;
    for held in candidates {
        let mandate = &held.mandate;
        let admitted = held.stands(payment.agent_key, payment.at).and_then(|()| mandate.admits(payment));
        let covered = match admitted {
            Ok(used) => mandate.covers(payment.amount, counts(&used)?).map(|()| used),
            Err(refusal) => Err(refusal),
        };
        match covered {
            Ok(used) => return Ok(used),
            Err(refusal) => furthest = later(furthest, refusal),
        }
    }
    Err(furthest.into())
}

/// The refusal that is asked later. The names stand in the order in which they are asked.
fn later(one: Refusal, other: Refusal) -> Refusal {
    if other > one { other } else { one }
}
