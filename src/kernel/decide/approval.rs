//! One person's word about a payment that waits for people.
//!
//! Order: a role of this gate's side → the approval is there → open → in time → the word counts (`kernel/quorum.rs`) → not
//! the maker, nor who entered the grant that it is made under, nor at the bank's gate whose money it is → the owner of
//! the account that pays → what was signed is what is asked, by a key that is not revoked → the agent and its grant stand
//! → at the last word, nobody before was revoked since. Saying no needs no standing agent. What completes the gates
//! approves; an approved reversal posts here and now.

use super::bank::permitted;
use super::posting::both_active;
use super::{Book, Change, Grant, Orders, Ruled, core, existing, freezes_of, mandate, marks_of, release, settle};
use crate::kernel::approval::{ApprovalDocument, Evidence, SignedBy};
use crate::kernel::command::{
    Actor, AgentPrincipal, Command, Effect, OperatorPrincipal, Posted, Settlement, Stamp, Verdict,
};
use crate::kernel::decide::Mark;
use crate::kernel::ledger::{
    AccountKind, Approval, ApprovalDecided, Funds, Inconsistent, Transaction, TransactionKind, TransactionState,
};
use crate::kernel::quorum::{self, Answer, BANK_ROLES, NotCounted, OWNER, Proof, Side, Speaker, Standing};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::ApprovalId;

/// What was said, and what it is proven by.
pub(super) struct Said<'a> {
    pub side: Side,
    pub verdict: Verdict,
    pub note: &'a str,
    pub evidence: Option<&'a Evidence>,
}

/// A person's answer. The rules and their order are at the top of this file.
pub(super) fn decide(book: &dyn Book, command: &Command, id: &ApprovalId, said: Said<'_>) -> Ruled<Orders> {
    let at = &command.stamp;
    let Actor::Operator(person) = &command.actor else {
        return Err(Refusal::OperatorNotPermitted.into());
    };
    match said.side {
        Side::Owner => permitted(&command.actor, &[OWNER])?,
        Side::Bank => permitted(&command.actor, &BANK_ROLES)?,
    };
    let transaction = book.transaction_of_approval(id)?.ok_or(Refusal::UnknownApproval)?;
    awaiting(book, &transaction, at)?;
    let heard = heard(&transaction, person, &said, at)?;
    if is_maker(book, &transaction, person, said.side)? {
        return Err(Refusal::MakerIsChecker.into());
    }
    if said.side == Side::Owner && !owns_what_pays(book, &transaction, person)? {
        return Err(Refusal::NotTheOwner.into());
    }
    if let Some(evidence) = said.evidence {
        proven(book, &transaction, person, &said, evidence, at)?;
    }
    let effect = |pending, posted| Effect::Decided {
        approval_id: id.clone(),
        transaction_id: heard.transaction_id.clone(),
        verdict: said.verdict,
        pending,
        posted,
    };
    let quorum = &question(&heard)?.asked.quorum;
    match quorum.standing() {
        Standing::Denied => {
            let account = existing(book, &heard.debit)?;
            Ok((effect(vec![], None), release(&account, &heard, TransactionState::Denied, at.wall)?))
        }
        Standing::Open => {
            stands(book, &heard, at)?;
            let effect = effect(quorum.pending(), None);
            Ok((effect, vec![Change::UpdateTransaction(heard)]))
        }
        Standing::Complete => {
            stands(book, &heard, at)?;
            all_unrevoked(book, &transaction, at)?;
            let (posted, changes) = approved(book, heard.clone(), at)?;
            Ok((effect(vec![], posted), changes))
        }
    }
}

fn question(transaction: &Transaction) -> Result<&Approval, Inconsistent> {
    transaction.approval.as_ref().ok_or_else(|| Inconsistent("an approval without its question".into()))
}

fn awaiting(book: &dyn Book, transaction: &Transaction, at: &Stamp) -> Ruled<()> {
    let refusal = match transaction.state {
        TransactionState::PendingApproval if at.wall >= transaction.expires => Refusal::ApprovalExpired,
        TransactionState::PendingApproval => return Ok(()),
        TransactionState::Manual => Refusal::QueuedManual,
        TransactionState::Approved
        | TransactionState::Submitted
        | TransactionState::Posted
        | TransactionState::Denied
        | TransactionState::Expired => Refusal::AlreadyDecided,
        TransactionState::Cancelled => Refusal::AuthorizationCancelled,
        TransactionState::ApprovalExpired => Refusal::ApprovalExpired,
        TransactionState::Voided => mandate::voided_by(book, transaction)?,
        TransactionState::CoreRefused => Refusal::CoreRefused,
    };
    Err(refusal.into())
}

/// Whoever asked for it; and at the bank's gate whoever's money it is, under whatever name they work there, and whoever
/// entered the grant under which an agent asks: otherwise one person alone could let an agent at an account and then approve
/// what it does there.
fn is_maker(book: &dyn Book, transaction: &Transaction, person: &OperatorPrincipal, side: Side) -> Ruled<bool> {
    if side == Side::Bank && is_own_money(book, transaction, person)? {
        return Ok(true);
    }
    match (&transaction.maker, side) {
        (Actor::Operator(maker), Side::Bank | Side::Owner) => Ok(maker.name == person.name),
        (Actor::Agent(agent), Side::Bank) => {
            let grant = grant_of(book, transaction, agent)?;
            Ok(grant.is_some_and(|grant| grant.entered_by == person.name.as_str()))
        }
        (Actor::Agent(_), Side::Owner) | (Actor::Program(_) | Actor::System { .. }, Side::Bank | Side::Owner) => {
            Ok(false)
        }
    }
}

/// Whether a person owns what pays, or what a reversal pays back to.
pub(super) fn is_own_money(book: &dyn Book, transaction: &Transaction, person: &OperatorPrincipal) -> Ruled<bool> {
    let owned = |account: &str| -> Ruled<bool> { Ok(person.is_owner(&existing(book, account)?.owner)) };
    Ok(owned(&transaction.debit)? || owned(about(transaction))?)
}

/// The account that a transaction is about. A reversal pays back to it.
fn about(transaction: &Transaction) -> &str {
    match transaction.kind {
        TransactionKind::Reversal => &transaction.credit,
        TransactionKind::Purchase
        | TransactionKind::Transfer
        | TransactionKind::Incoming
        | TransactionKind::Opening
        | TransactionKind::Booking => &transaction.debit,
    }
}

/// The grant under which an agent asks, as it stands now.
fn grant_of(book: &dyn Book, transaction: &Transaction, agent: &AgentPrincipal) -> Ruled<Option<Grant>> {
    let Ok(account) = about(transaction).parse() else {
        return Ok(None);
    };
    book.grant(&agent.spiffe_id, &account)
}

fn owns_what_pays(book: &dyn Book, transaction: &Transaction, person: &OperatorPrincipal) -> Ruled<bool> {
    let account = existing(book, &transaction.debit)?;
    let owner = person.owner.as_ref().map(crate::kernel::types::OwnerId::as_str);
    Ok(account.kind == AccountKind::Customer && owner == Some(account.owner.as_str()))
}

/// The transaction with this word on its approval, if it counts.
fn heard(transaction: &Transaction, person: &OperatorPrincipal, said: &Said<'_>, at: &Stamp) -> Ruled<Transaction> {
    let mut heard = transaction.clone();
    let approval = heard.approval.as_mut();
    let approval = approval.ok_or_else(|| Inconsistent("an approval without its question".into()))?;
    let quorum = &mut approval.asked.quorum;
    let answer = match said.verdict {
        Verdict::Approve => Answer::Yes,
        Verdict::Deny => Answer::No,
    };
    let name = person.name.as_str();
    let speaker = Speaker { person: name, roles: &person.roles, key: said.evidence.map(Proof::key) };
    let (note, evidence) = (said.note.to_owned(), said.evidence.cloned());
    let word = quorum::Said { answer, note, at: at.wall.0, asserted: person.asserted, evidence };
    quorum.hear(said.side, speaker, word).map_err(refusal)?;
    let by = match quorum.standing() {
        Standing::Open => return Ok(heard),
        Standing::Denied => name.to_owned(),
        Standing::Complete => quorum.words.iter().map(|word| word.person.as_str()).collect::<Vec<_>>().join(","),
    };
    let asserted = quorum.words.iter().any(|word| word.asserted);
    approval.decided = Some(ApprovalDecided { by, at: at.wall, note: said.note.to_owned(), asserted });
    Ok(heard)
}

fn refusal(not: NotCounted) -> Refusal {
    match not {
        NotCounted::NotPermitted => Refusal::OperatorNotPermitted,
        NotCounted::NotAsked => Refusal::GateNotAsked,
        NotCounted::Unsigned => Refusal::ApprovalUnsigned,
        NotCounted::SpokenBefore => Refusal::AlreadySpoken,
        NotCounted::GateComplete => Refusal::GateComplete,
        NotCounted::OutOfTurn => Refusal::ApprovalOutOfTurn,
    }
}

/// What was signed is exactly what the bank asks in this commit, and nothing of the certificate is revoked in it.
fn proven(
    book: &dyn Book,
    transaction: &Transaction,
    person: &OperatorPrincipal,
    said: &Said<'_>,
    evidence: &Evidence,
    at: &Stamp,
) -> Ruled<()> {
    let asked = ApprovalDocument::asked(transaction, &person.name, said.side, said.verdict);
    unrevoked(book, asked, evidence, at)
}

fn unrevoked(book: &dyn Book, asked: Option<ApprovalDocument>, evidence: &Evidence, at: &Stamp) -> Ruled<()> {
    let asked = asked.ok_or_else(|| Inconsistent("an approval that cannot be written down".into()))?;
    let SignedBy { key, issuer, serial, not_after } = evidence.verify(&asked)?;
    let marks = [
        Mark::Key(key).text(),
        Mark::Certificate { issuer: issuer.clone(), serial }.text(),
        Mark::Issuer(issuer).text(),
    ];
    if at.wall > not_after || book.any_marked(&marks)? {
        return Err(Refusal::OperatorRevoked.into());
    }
    Ok(())
}

/// The agent that asked is neither revoked nor frozen, and its grant stands: one that was taken back may be given again by
/// whoever just approved.
fn stands(book: &dyn Book, transaction: &Transaction, at: &Stamp) -> Ruled<()> {
    let Some(maker) = transaction.agent() else {
        return Ok(());
    };
    if book.any_marked(&marks_of(maker))? {
        return Err(Refusal::AgentRevoked.into());
    }
    if book.any_marked(&freezes_of(&maker.spiffe_id))? {
        return Err(Refusal::AgentFrozen.into());
    }
    let grant = grant_of(book, transaction, maker)?.filter(|grant| at.wall < grant.expires);
    grant.map(|_| ()).ok_or_else(|| Refusal::AccountNotGranted.into())
}

/// Nobody whose word counts was revoked since it was said.
fn all_unrevoked(book: &dyn Book, transaction: &Transaction, at: &Stamp) -> Ruled<()> {
    let quorum = &question(transaction)?.asked.quorum;
    for word in &quorum.words {
        let Some(evidence) = &word.evidence else {
            continue;
        };
        let gate = quorum.gates.get(word.gate).ok_or_else(|| Inconsistent("a word at no gate".into()))?;
        let person = word.person.parse().map_err(|_| Inconsistent("a word of nobody".into()))?;
        let asked = ApprovalDocument::asked(transaction, &person, gate.side(), Verdict::Approve);
        unrevoked(book, asked, evidence, at)?;
    }
    Ok(())
}

fn approved(book: &dyn Book, transaction: Transaction, at: &Stamp) -> Ruled<(Option<Posted>, Vec<Change>)> {
    let state = TransactionState::Approved;
    let expires = at.wall.plus_ms(transaction.authorization_ttl_ms);
    let transaction = Transaction { state, expires, ..transaction };
    if transaction.kind.holds_funds() {
        return Ok((None, vec![Change::UpdateTransaction(transaction)]));
    }
    let mut changes = vec![Change::UpdateTransaction(transaction.clone())];
    let debit = existing(book, &transaction.debit)?;
    let credit = existing(book, &transaction.credit)?;
    if transaction.settlement == Settlement::External {
        both_active(&debit, &credit)?;
        changes.push(Change::UpdateAccount(debit.hold(transaction.total())?));
        changes.extend(core::submit(book, &transaction, at.wall)?.1);
        return Ok((None, changes));
    }
    let (posted, posting) = settle(book, &transaction, &debit, &credit, Funds::Available, at.wall)?;
    changes.extend(posting);
    Ok((Some(posted), changes))
}
