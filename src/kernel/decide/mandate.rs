//! Mandates in the book: entering one, revoking it, paying under it.
//!
//! As soon as an agent has had a mandate for an account it pays from it only within one that stands. So neither an end
//! nor a revocation ever widens what it may do.

use super::bank::permitted;
use super::limits::now_wants_mandate;
use super::posting::close;
use super::{Book, Case, Change, Counter, Orders, Ruled, existing, manual, marks_of_signer, marks_of_subject};
use crate::kernel::command::{Actor, Command, Effect};
use crate::kernel::ledger::{Account, AccountKind, Inconsistent, Transaction, TransactionState};
use crate::kernel::mandate::{
    Counts, HeldMandate, LIFE, MandateUse, Payment, Revoked, STANDING_MAX, StoredMandate, VerifiedMandate, choose,
};
use crate::kernel::quorum::OWNER;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{Day, MandateId};

/// Authorizations that one call voids. An agent has 50 open ones on an account unless the bank says otherwise.
const VOIDED_MAX: u32 = 4_096;

/// Enters a mandate. Order: role → the account is there and the signer owns it → currency → not ended → the agent stands
/// and is known → so does who signed → new. The same text again changes nothing.
pub(super) fn add(book: &dyn Book, command: &Command, verified: &VerifiedMandate) -> Ruled<Orders> {
    let mandate = verified.mandate();
    let now = command.stamp.wall;
    let entered_by = by(&command.actor, mandate.owner.as_str())?;
    let customer = |account: &Account| account.kind == AccountKind::Customer;
    let account = book.account(mandate.account.as_str())?.filter(customer).ok_or(Refusal::UnknownAccount)?;
    if account.owner != mandate.owner.as_str() {
        return Err(Refusal::AccountNotGranted.into());
    }
    let currencies = [
        mandate.constraints.amount.map(|amount| amount.max.currency()),
        mandate.constraints.budget.map(|budget| budget.max.currency()),
    ];
    if currencies.into_iter().flatten().any(|currency| currency != account.currency) {
        return Err(Refusal::CurrencyMismatch.into());
    }
    if now >= mandate.expires {
        return Err(Refusal::MandateExpired.into());
    }
    if book.any_marked(&marks_of_subject(&mandate.agent, mandate.agent_key))? {
        return Err(Refusal::AgentRevoked.into());
    }
    if book.certificates_of_subject(&mandate.agent.to_string())?.is_empty() && !book.agent_is_known(&mandate.agent)? {
        return Err(Refusal::UnknownAgent.into());
    }
    // Asked here: a revocation may have been recorded since the signature was verified.
    if book.any_marked(&marks_of_signer(verified.signer()))? {
        return Err(Refusal::OperatorRevoked.into());
    }
    if let Some(there) = book.mandate(&mandate.id)? {
        return match there.revoked {
            Some(_) => Err(Refusal::MandateRevoked.into()),
            None if there.text == verified.text() => Ok((Effect::Done { changed: false }, vec![])),
            None => Err(Refusal::AlreadyExists.into()),
        };
    }
    // One whose signer was revoked is among them: it is not revoked itself, and is loaded for each payment.
    let standing = |held: &&HeldMandate| !held.is_revoked && now < held.mandate.expires;
    if book.mandates(&mandate.agent, mandate.account.as_str())?.iter().filter(standing).count() >= STANDING_MAX {
        return Err(Refusal::TooManyMandates.into());
    }
    let stored = StoredMandate {
        mandate: mandate.clone(),
        signer: verified.signer().clone(),
        text: verified.text().to_owned(),
        created: now,
        entered_by,
        revoked: None,
    };
    Ok((Effect::Done { changed: true }, vec![Change::PutMandate(Box::new(stored))]))
}

/// Revokes a mandate, for ever. What is authorized under it is void in the same commit, and its holds are given back. An
/// order that a core banking system has is no longer the bank's alone: it is paid or refused there. What somebody of the
/// bank works on may be under way by hand: it is theirs to close, and nobody executes it. A repeat voids what a first call
/// left over.
pub(super) fn revoke(book: &dyn Book, command: &Command, id: &MandateId, reason: &str) -> Ruled<Orders> {
    let found = book.mandate(id)?;
    // Whoever may not know is not told either.
    let owner = found.as_ref().map_or("", |stored| stored.mandate.owner.as_str());
    let by = by(&command.actor, owner)?;
    let stored = found.ok_or(Refusal::UnknownMandate)?;
    let mut void = vec![];
    for open in book.open_under_mandate(&stored.mandate, VOIDED_MAX)? {
        if !manual::waiting_case(book, &open)?.is_some_and(|case| case.is_worked_on()) {
            void.push((open, TransactionState::Voided));
        }
    }
    let authorizations = u32::try_from(void.len()).unwrap_or(u32::MAX);
    let mut changes = close(book, void, command.stamp.wall)?;
    let changed = stored.revoked.is_none();
    if changed {
        let revoked = Revoked { at: command.stamp.wall, by, reason: reason.to_owned() };
        changes.push(Change::PutMandate(Box::new(StoredMandate { revoked: Some(revoked), ..stored })));
    }
    Ok((Effect::MandateRevoked { authorizations, changed }, changes))
}

/// Why a transaction is void: its mandate was revoked, or else its agent.
pub(super) fn voided_by(book: &dyn Book, transaction: &Transaction) -> Ruled<Refusal> {
    let Some(used) = &transaction.mandate else {
        return Ok(Refusal::AgentRevoked);
    };
    let is_revoked = book.mandate(&used.mandate)?.is_some_and(|stored| stored.revoked.is_some());
    Ok(if is_revoked { Refusal::MandateRevoked } else { Refusal::AgentRevoked })
}

/// The bank's officers and administrators, and the owner of the account.
fn by(actor: &Actor, owner: &str) -> Ruled<String> {
    if let Actor::Operator(operator) = actor
        && operator.owner.as_ref().is_some_and(|customer| customer.as_str() == owner)
        && operator.roles.iter().any(|role| role == OWNER)
    {
        return Ok(operator.name.to_string());
    }
    Ok(permitted(actor, &["officer", "administrator"])?.0)
}

/// The mandate under which a payment of this agent from this account is made; none when it never had one and no rule wants
/// one.
///
/// # Errors
/// The names of [`choose`].
pub(super) fn under(
    case: &Case<'_>,
    source: &Account,
    payment: &Payment<'_>,
    required: bool,
) -> Ruled<Option<MandateUse>> {
    let mut mandates = case.book.mandates(&case.agent.spiffe_id, &source.name)?;
    for held in &mut mandates {
        held.is_revoked = is_revoked(case.book, held)?;
    }
    if mandates.is_empty() && !required {
        return Ok(None);
    }
    case.book.foresee(&counters_of(&mandates, payment))?;
    choose(&mandates, payment, |used| counts(case.book, used)).map(Some)
}

/// It, or whoever signed it: a key that somebody else has may not go on paying.
fn is_revoked(book: &dyn Book, held: &HeldMandate) -> Ruled<bool> {
    Ok(held.is_revoked || book.any_marked(&marks_of_signer(&held.signer))?)
}

/// All that [`counts`] will ask for about those that admit the payment.
fn counters_of(mandates: &[HeldMandate], payment: &Payment<'_>) -> Vec<(Counter, Day)> {
    let stands = |held: &&HeldMandate| held.stands(payment.agent_key, payment.at).is_ok();
    let admitting = mandates.iter().filter(stands).filter_map(|held| held.mandate.admits(payment).ok());
    let of = |used: MandateUse| {
        let uses = Counter::MandateUses(used.mandate.clone());
        [(Counter::MandateAmount(used.mandate), used.budget_on), (uses.clone(), used.recurs_on), (uses, LIFE)]
    };
    admitting.flat_map(of).collect()
}

fn counts(book: &dyn Book, used: &MandateUse) -> Ruled<Counts> {
    let uses = Counter::MandateUses(used.mandate.clone());
    Ok(Counts {
        minor: book.spent(&Counter::MandateAmount(used.mandate.clone()), used.budget_on)?,
        in_period: book.spent(&uses, used.recurs_on)?,
        in_life: book.spent(&uses, LIFE)?,
    })
}

/// The mandate of an authorization when it is executed: it stands, and lets payments be executed now. Amounts and counts
/// are not asked again: they were counted when it was authorized. What was authorized under none is executed only while
/// the agent never had one for the account and no rule wants one: else who asks ahead would pay past the first mandate.
///
/// # Errors
/// `mandate_missing`, `mandate_not_this_agent`, `mandate_revoked`, `mandate_expired`, `mandate_not_yet_valid`,
/// `mandate_dates`
pub(super) fn still_stands(case: &Case<'_>, transaction: &Transaction) -> Ruled<()> {
    let mandates = case.book.mandates(&case.agent.spiffe_id, &transaction.debit)?;
    let Some(used) = &transaction.mandate else {
        let is_free = mandates.is_empty() && !now_wants_mandate(case, transaction);
        return if is_free { Ok(()) } else { Err(Refusal::MandateMissing.into()) };
    };
    let mut held = match mandates.into_iter().find(|held| held.mandate.id == used.mandate) {
        Some(held) => held,
        None => {
            let stored = case.book.mandate(&used.mandate)?;
            stored.ok_or_else(|| Inconsistent(format!("{} is paid under but not there", used.mandate)))?.held()
        }
    };
    held.is_revoked = is_revoked(case.book, &held)?;
    held.stands(case.agent.key, case.now())?;
    let zone = existing(case.book, &transaction.debit)?.zone;
    Ok(held.mandate.dates_allow(case.now(), zone)?)
}
