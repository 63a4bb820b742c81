//! The decision: what a command may do, as orders for the store.
//!
//! [`decide`] reads rows by key through [`Book`], says yes or one name of no, and returns the changes that make it
//! so. It runs inside the commit that records its outcome, so nothing it read can have moved. The order of the
//! rules for a payment is in `authorize`, for its execution in `execute`.

mod about;
mod approval;
mod arguments;
mod authorize;
mod bank;
mod core;
mod erasure;
mod execute;
mod leaf;
mod limits;
mod mandate;
mod manual;
mod policy;
mod posting;
mod read;
mod registry;
mod reversal;
mod revocation;
mod rows;
mod signing;
mod stop;
mod transfer;
mod vault;
mod witness;

pub use about::about;
pub use core::{COMPONENT as CORE_COMPONENT, HOLD_NOT_CONFIRMED};
pub use erasure::ASKED_MS;
pub use leaf::leaf_body;
pub use posting::{batch_document, bound_parameters};
pub use revocation::SERIALS_MAX;
pub use rows::{
    Binding, Book, CaseState, Change, CoreRefusal, Counter, Grant, HistoryLine, ManualCase, Mark, Marking, Merchant,
    Offer, OutboxRow, Place, PolicyLine, PolicyRecord, Proposal, Said, Signed, SubjectRow, Taken,
};

use arguments::{Found, effective};
use posting::{hash_of, release, settle};

use crate::kernel::canon::CanonRefused;
use crate::kernel::command::{
    Act, Actor, AgentPrincipal, Command, Effect, FreshIds, Rules, Stamp, ToolCall, Verb, Whom,
};
use crate::kernel::ledger::{Account, Inconsistent, Transaction};
use crate::kernel::mandate::Signer;
use crate::kernel::monitor::Assessment;
use crate::kernel::policy::transaction::{Denied, Why};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{AccountId, KeyId, Serial, SpiffeId, UnixMillis};

/// What a command comes to, before it is written.
#[derive(Debug)]
#[must_use]
pub struct Decided {
    pub outcome: Result<Effect, Refusal>,
    /// When refused: nothing but the nonce.
    pub changes: Vec<Change>,
    /// When refused: by which rule, where one of several may have said it.
    pub why: Option<Why>,
}

impl Decided {
    /// True when the decision is recorded as a leaf: all but `SignBatch`, `KeepSignatures`, a sweep or a lapse that found
    /// nothing, and what a witness has said before.
    pub fn has_leaf(&self, act: &Act) -> bool {
        match act {
            Act::SignBatch { .. } | Act::KeepSignatures { .. } => false,
            Act::Sweep { .. } => !matches!(self.outcome, Ok(Effect::Swept { released: 0 })),
            Act::LapseKeys { .. } => !matches!(self.outcome, Ok(Effect::Lapsed { keys: 0 })),
            Act::SpreadRevocation { .. } => !matches!(self.outcome, Ok(Effect::Spread { agents: 0, .. })),
            Act::Witness(_) => !matches!(&self.outcome, Ok(Effect::Witnessed(verdict)) if !verdict.is_told()),
            Act::Tool { .. }
            | Act::OpenAccount(_)
            | Act::SetAccountStatus { .. }
            | Act::Transfer { .. }
            | Act::ReverseTransaction { .. }
            | Act::ApplyPolicy { .. }
            | Act::SetBreaker { .. }
            | Act::TakeCase { .. }
            | Act::ResolveCase { .. }
            | Act::QueueManual { .. }
            | Act::CoreAnswered { .. }
            | Act::IncomingPayment { .. }
            | Act::AddMerchant { .. }
            | Act::AddProduct { .. }
            | Act::AddGrant { .. }
            | Act::RevokeGrant { .. }
            | Act::AddMandate { .. }
            | Act::RevokeMandate { .. }
            | Act::DecideApproval { .. }
            | Act::JournalCertificate { .. }
            | Act::ReleaseCertificate { .. }
            | Act::Revoke { .. }
            | Act::Freeze { .. }
            | Act::Unfreeze { .. }
            | Act::ImportCrl { .. }
            | Act::NextCrlNumber { .. }
            | Act::AcceptLog { .. }
            | Act::Subject { .. }
            | Act::Vault(_)
            | Act::SignExternal(_)
            | Act::Record { .. } => true,
        }
    }
}

/// Something broke while rows were read; the store knows what kind of error it is.
pub type RowFault = Box<dyn std::error::Error + Send + Sync>;

/// Why a decision stopped: a rule, or a fault of the rows.
#[derive(Debug)]
pub enum Stop {
    Refused(Refusal),
    /// The same, with the rule that said it.
    Denied(Box<Denied>),
    Fault(RowFault),
}

impl From<Denied> for Stop {
    fn from(denied: Denied) -> Self {
        Self::Denied(Box::new(denied))
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Inconsistent> for Stop {
    fn from(inconsistent: Inconsistent) -> Self {
        Self::Fault(Box::new(inconsistent))
    }
}

impl From<CanonRefused> for Stop {
    fn from(refused: CanonRefused) -> Self {
        Self::Fault(Box::new(refused))
    }
}

/// The result of a step.
pub type Ruled<T> = Result<T, Stop>;

/// Every mark that would stop this agent for ever.
pub fn marks_of(agent: &AgentPrincipal) -> [String; 7] {
    let certificate =
        |issuer: &str, serial: &Serial| Mark::Certificate { issuer: issuer.to_owned(), serial: serial.clone() }.text();
    [
        Mark::Agent(agent.spiffe_id.clone()).text(),
        Mark::Key(agent.key).text(),
        certificate(&agent.bank_issuer, &agent.bank_serial),
        certificate(&agent.company_issuer, &agent.company_serial),
        Mark::Issuer(agent.bank_issuer.clone()).text(),
        Mark::Issuer(agent.company_issuer.clone()).text(),
        Mark::Everyone.text(),
    ]
}

/// The marks of an agent and its key, whatever its certificates.
fn marks_of_subject(agent: &SpiffeId, key: KeyId) -> [String; 3] {
    [Mark::Agent(agent.clone()).text(), Mark::Key(key).text(), Mark::Everyone.text()]
}

/// Every mark under which what this person signed counts no more.
pub fn marks_of_signer(signer: &Signer) -> Vec<String> {
    let mut marks = vec![Mark::Key(signer.key).text()];
    if let Some((issuer, serial)) = &signer.certificate {
        marks.push(Mark::Certificate { issuer: issuer.clone(), serial: serial.clone() }.text());
        marks.push(Mark::Issuer(issuer.clone()).text());
    }
    marks
}

/// Every mark that stops this agent until it is lifted.
fn freezes_of(agent: &SpiffeId) -> [String; 2] {
    [Mark::Frozen(Whom::Agent(agent.clone())).text(), Mark::Frozen(Whom::Everyone).text()]
}

/// Decides one command on the rows of `book`. Pure: time, ids and rules come with the command.
///
/// # Errors
/// What the rows reported; a rule that says no is in [`Decided::outcome`].
pub fn decide(book: &dyn Book, command: &Command) -> Result<Decided, RowFault> {
    let mut taken = vec![];
    let outcome = fresh_nonce(book, &command.stamp).and_then(|nonce| {
        taken.extend(nonce);
        ruled(book, command)
    });
    match outcome {
        Ok((effect, mut changes)) => {
            changes.append(&mut taken);
            Ok(Decided { outcome: Ok(effect), changes, why: None })
        }
        Err(Stop::Refused(refusal)) => Ok(Decided { outcome: Err(refusal), changes: taken, why: None }),
        Err(Stop::Denied(denied)) => {
            Ok(Decided { outcome: Err(denied.refusal), changes: taken, why: Some(denied.why) })
        }
        Err(Stop::Fault(fault)) => Err(fault),
    }
}

/// A request is decided once: its nonce is taken whatever comes of it.
fn fresh_nonce(book: &dyn Book, stamp: &Stamp) -> Ruled<Option<Change>> {
    let Some(nonce) = stamp.nonce else {
        return Ok(None);
    };
    if book.nonce_used(&nonce, stamp.wall)? {
        return Err(Refusal::NonceReplayed.into());
    }
    Ok(Some(Change::UseNonce { nonce, at: stamp.wall }))
}

type Orders = (Effect, Vec<Change>);

fn ruled(book: &dyn Book, command: &Command) -> Ruled<Orders> {
    let at = &command.stamp;
    match &command.act {
        Act::Tool { call, rules, fresh, risk } => tool(&Case::of(book, command, rules, fresh, risk.as_deref())?, call),
        Act::OpenAccount(_)
        | Act::SetAccountStatus { .. }
        | Act::IncomingPayment { .. }
        | Act::AddMerchant { .. }
        | Act::AddProduct { .. }
        | Act::AddGrant { .. }
        | Act::RevokeGrant { .. } => bank::set_up(book, command),
        Act::AddMandate { mandate } => mandate::add(book, command, mandate),
        Act::RevokeMandate { mandate, reason } => mandate::revoke(book, command, mandate, reason),
        Act::Transfer { debit, credit, amount, reference } => {
            transfer::book(book, command, debit, credit, *amount, reference)
        }
        Act::ReverseTransaction { transaction_id, amount, idempotency_key, rules, fresh } => {
            reversal::by_operator(book, command, transaction_id, *amount, idempotency_key, rules, fresh)
        }
        Act::ApplyPolicy { policy, expects } => policy::apply(book, command, policy, *expects),
        Act::SetBreaker { cause, reason, .. } => stop::set(book, command, *cause, reason.as_deref()),
        Act::TakeCase { case, from } => manual::take(book, command, case, *from),
        Act::ResolveCase { case, verdict, note, rules } => manual::resolve(book, command, case, verdict, note, rules),
        Act::QueueManual { transaction_id, case, reason } => manual::queue(book, command, transaction_id, case, reason),
        Act::CoreAnswered { transaction_id, verb, word } => core::answered(book, command, transaction_id, *verb, word),
        Act::DecideApproval { approval, side, verdict, note, evidence } => {
            let said = approval::Said { side: *side, verdict: *verdict, note, evidence: evidence.as_deref() };
            approval::decide(book, command, approval, said)
        }
        Act::Sweep { limit } => bank::sweep(book, at.wall, *limit),
        Act::JournalCertificate { .. }
        | Act::ReleaseCertificate { .. }
        | Act::Revoke { .. }
        | Act::SpreadRevocation { .. }
        | Act::Freeze { .. }
        | Act::Unfreeze { .. }
        | Act::ImportCrl { .. }
        | Act::NextCrlNumber { .. }
        | Act::SignBatch { .. } => registry::act(book, command),
        Act::Witness(submission) => witness::submitted(book, command, submission),
        Act::AcceptLog { origin, head, .. } => witness::accept(book, command, origin, *head),
        Act::Subject { subject, step } => erasure::act(book, command, subject, step),
        Act::LapseKeys { before, limit } => erasure::lapse(book, command, *before, *limit),
        Act::Vault(act) => vault::act(book, command, act),
        Act::SignExternal(order) => signing::order(book, command, order),
        Act::KeepSignatures { scope, signatures } => signing::keep(book, command, scope, signatures),
        Act::Record { .. } => Ok((Effect::Done { changed: true }, vec![])),
    }
}

/// One agent's call that is being decided.
struct Case<'a> {
    book: &'a dyn Book,
    stamp: &'a Stamp,
    agent: &'a AgentPrincipal,
    rules: &'a Rules,
    fresh: &'a FreshIds,
    /// What the monitor said.
    risk: Option<&'a Assessment>,
}

impl<'a> Case<'a> {
    /// Rule one of every call: the agent, its key, both certificates and their issuers stand, and it is neither frozen
    /// nor to be.
    fn of(
        book: &'a dyn Book,
        command: &'a Command,
        rules: &'a Rules,
        fresh: &'a FreshIds,
        risk: Option<&'a Assessment>,
    ) -> Ruled<Self> {
        let Actor::Agent(agent) = &command.actor else {
            return Err(Refusal::OperatorNotPermitted.into());
        };
        let now = command.stamp.wall;
        if book.any_marked(&marks_of(agent))? {
            return Err(Refusal::AgentRevoked.into());
        }
        if book.any_marked(&freezes_of(&agent.spiffe_id))? {
            return Err(Refusal::AgentFrozen.into());
        }
        if now > agent.not_after {
            return Err(Refusal::InvalidCertificate.into());
        }
        if rules.company_crl_required {
            let fresh_until = book.crl(&agent.company_issuer)?.map(|crl| crl.next_update);
            if fresh_until.is_none_or(|until| now > until) {
                return Err(Refusal::EndorsementStatusStale.into());
            }
        }
        if risk.is_some_and(Assessment::freezes) {
            return Err(Refusal::RiskFrozen.into());
        }
        Ok(Self { book, stamp: &command.stamp, agent, rules, fresh, risk })
    }

    fn now(&self) -> UnixMillis {
        self.stamp.wall
    }

    /// The unexpired grant of this account that covers `verb`.
    fn granted(&self, account: &AccountId, verb: Verb) -> Ruled<Grant> {
        let grant = self.book.grant(&self.agent.spiffe_id, account)?.filter(|grant| self.now() < grant.expires);
        let grant = grant.ok_or(Refusal::AccountNotGranted)?;
        if !grant.verbs.contains(&verb) {
            return Err(Refusal::VerbNotGranted.into());
        }
        Ok(grant)
    }

    /// The role has the tool, and may call it with these arguments.
    fn role_may(&self, call: &ToolCall, found: Found<'_>) -> Ruled<()> {
        let role = self.agent.spiffe_id.role();
        Ok(crate::kernel::policy::call_of_role(self.rules, role, call.tool(), || effective(call, found))?)
    }

    /// The account of a grant. It exists: grants name accounts that do.
    fn account(&self, name: &str) -> Ruled<Account> {
        existing(self.book, name)
    }

    /// A transaction that this very agent (name and key) asked for.
    fn own(&self, found: Option<Transaction>, otherwise: Refusal) -> Ruled<Transaction> {
        let mine = |transaction: &Transaction| {
            transaction
                .agent()
                .is_some_and(|maker| maker.spiffe_id == self.agent.spiffe_id && maker.key == self.agent.key)
        };
        Ok(found.filter(mine).ok_or(otherwise)?)
    }
}

fn tool(case: &Case<'_>, call: &ToolCall) -> Ruled<Orders> {
    match call {
        ToolCall::ListAccounts {}
        | ToolCall::GetAccountBalance { .. }
        | ToolCall::ListTransactions { .. }
        | ToolCall::SearchProducts { .. }
        | ToolCall::GetTransaction { .. }
        | ToolCall::GetApprovalStatus { .. } => Ok((Effect::Answer(read::answer(case, call)?), vec![])),
        ToolCall::AuthorizePurchase { .. } | ToolCall::AuthorizeTransfer { .. } => authorize::payment(case, call),
        ToolCall::ExecutePurchase { .. } | ToolCall::ExecuteTransfer { .. } => execute::payment(case, call),
        ToolCall::CancelAuthorization { reference } => execute::cancel(case, call, reference),
        ToolCall::RequestReversal { transaction_id, amount, idempotency_key } => {
            reversal::request(case, call, transaction_id, *amount, idempotency_key)
        }
    }
}

/// One of the bank's own accounts, with the order that opens it when it is needed for the first time.
fn internal(book: &dyn Book, new: Account) -> Ruled<(Account, Option<Change>)> {
    Ok(match book.account(&new.name)? {
        Some(account) => (account, None),
        None => (new.clone(), Some(Change::InsertAccount(new))),
    })
}

fn existing(book: &dyn Book, name: &str) -> Ruled<Account> {
    Ok(book.account(name)?.ok_or_else(|| Inconsistent(format!("account {name} is named but not there")))?)
}
