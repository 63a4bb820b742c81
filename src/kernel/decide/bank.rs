//! The bank's people: accounts, merchants, offers, grants, incoming payments, and the sweeper.
//!
//! A repeat with the same content changes nothing; with other content it is `already_exists`.

use super::posting::close;
use super::{
    Binding, Book, Change, Grant, Merchant, Offer, Orders, Ruled, bound_parameters, hash_of, internal, settle,
};
use crate::kernel::command::{Act, Actor, Command, Effect, NewAccount, Posted, Settlement, Stamp};
use crate::kernel::ledger::{
    Account, AccountKind, AccountStatus, Funds, Inconsistent, Transaction, TransactionKind, TransactionState,
};
use crate::kernel::policy::look_alike::{imitated, is_alike};
use crate::kernel::policy::transaction::{Denied, Why};
use crate::kernel::quorum::OWNER;
use crate::kernel::refusal::Refusal;
use crate::kernel::text::{Limit, OnHostile, clean};
use crate::kernel::types::{Money, OwnerId, Sha256, TransactionId, UnixMillis};

/// Grants that differ only by less than this in their expiry are the same grant entered twice.
const GRANT_EXPIRY_SLACK_MS: i64 = 86_400_000;

/// A stranger's text as it is registered: in form always, in words unless somebody has accepted them.
fn acceptable(text: &str, on_hostile: OnHostile) -> Ruled<String> {
    let text = clean(text, Limit::NAME);
    if text.shown.is_empty() || (text.is_hostile() && on_hostile == OnHostile::Refuse) {
        return Err(Refusal::TextHostile.into());
    }
    Ok(text.shown)
}

/// Acts that fill the book; each needs one of the roles named here.
pub(super) fn set_up(book: &dyn Book, command: &Command) -> Ruled<Orders> {
    let at = &command.stamp;
    match &command.act {
        Act::OpenAccount(new) => {
            permitted(&command.actor, &["administrator"])?;
            open_account(book, command, new)
        }
        Act::SetAccountStatus { account, status, .. } => {
            permitted(&command.actor, &["officer", "administrator"])?;
            let customer = |account: &Account| account.kind == AccountKind::Customer;
            let account = book.account(account.as_str())?.filter(customer).ok_or(Refusal::UnknownAccount)?;
            set_status(account, *status, &command.actor)
        }
        Act::IncomingPayment { account, amount, reference } => {
            permitted(&command.actor, &["officer", "administrator"])?;
            let request = hash_of(&(account, amount))?;
            let scope = hash_of(&("incoming", reference))?;
            if let Some(before) = book.binding(&scope, at.wall)? {
                return repeated_payment(book, &before, request);
            }
            let customer = |account: &Account| account.kind == AccountKind::Customer;
            let account = book.account(account.as_str())?.filter(customer).ok_or(Refusal::UnknownAccount)?;
            if account.status != AccountStatus::Active {
                return Err(Refusal::AccountNotActive.into());
            }
            let (posted, mut changes) = from_outside(book, command, &account, *amount, TransactionKind::Incoming)?;
            let binding = Binding { request, transaction_id: Some(posted.transaction_id.clone()), case_id: None };
            changes.push(Change::Bind { scope, binding, at: at.wall });
            Ok((Effect::Posted(posted), changes))
        }
        Act::AddMerchant { merchant, name, currency, looks_like_accepted, on_hostile } => {
            permitted(&command.actor, &["administrator"])?;
            let name = acceptable(name, *on_hostile)?;
            let new = Merchant { merchant: merchant.clone(), name, currency: *currency };
            if let Some(there) = book.merchant(merchant)? {
                return unchanged(there == new);
            }
            if !looks_like_accepted {
                looks_like_none(&book.merchants()?, &new)?;
            }
            let account =
                Account::new(Account::merchant_name(merchant), merchant.to_string(), AccountKind::Merchant, *currency);
            done(vec![Change::InsertAccount(account), Change::PutMerchant(new)])
        }
        Act::AddProduct { merchant, product, title, price, on_hostile } => {
            permitted(&command.actor, &["administrator"])?;
            if price.minor() <= 0 {
                return Err(Refusal::AmountNotPositive.into());
            }
            let seller = book.merchant(merchant)?.ok_or(Refusal::UnknownMerchant)?;
            if seller.currency != price.currency() {
                return Err(Refusal::CurrencyMismatch.into());
            }
            let title = acceptable(title, *on_hostile)?;
            let new = Offer { merchant: merchant.clone(), product: product.clone(), title, price: *price };
            match book.offer(merchant, product)? {
                Some(there) => unchanged(there == new),
                None => done(vec![Change::PutOffer(new)]),
            }
        }
        Act::AddGrant { agent, account, owner, verbs, per_transaction_max, expires } => {
            let (entered_by, asserted) = lets_agents_in(&command.actor, owner)?;
            let customer = |account: &Account| account.kind == AccountKind::Customer;
            let row = book.account(account.as_str())?.filter(customer).ok_or(Refusal::UnknownAccount)?;
            if row.owner != owner.as_str() {
                return Err(Refusal::AccountNotGranted.into());
            }
            if per_transaction_max.is_some_and(|max| max.currency() != row.currency) {
                return Err(Refusal::CurrencyMismatch.into());
            }
            let mut verbs = verbs.clone();
            verbs.sort_unstable();
            verbs.dedup();
            let new = Grant {
                agent: agent.clone(),
                account: account.clone(),
                owner: owner.clone(),
                verbs,
                per_transaction_max: *per_transaction_max,
                expires: *expires,
                entered_by,
                asserted,
            };
            match book.grant(agent, account)?.filter(|there| at.wall < there.expires) {
                Some(there) => unchanged(same_grant(&there, &new)),
                None => done(vec![Change::PutGrant(new)]),
            }
        }
        Act::RevokeGrant { agent, account } => {
            let there = book.grant(agent, account)?;
            match &there {
                Some(there) => lets_agents_in(&command.actor, &there.owner)?,
                // Whoever may take back something is told that there is nothing to take.
                None => permitted(&command.actor, &["officer", "administrator", OWNER])?,
            };
            if there.is_none() {
                return Ok((Effect::Done { changed: false }, vec![]));
            }
            done(vec![Change::RevokeGrant { agent: agent.clone(), account: account.clone(), at: at.wall }])
        }
        Act::Tool { .. }
        | Act::Transfer { .. }
        | Act::ReverseTransaction { .. }
        | Act::ApplyPolicy { .. }
        | Act::SetBreaker { .. }
        | Act::TakeCase { .. }
        | Act::ResolveCase { .. }
        | Act::QueueManual { .. }
        | Act::CoreAnswered { .. }
        | Act::AddMandate { .. }
        | Act::RevokeMandate { .. }
        | Act::DecideApproval { .. }
        | Act::Sweep { .. }
        | Act::JournalCertificate { .. }
        | Act::ReleaseCertificate { .. }
        | Act::Revoke { .. }
        | Act::SpreadRevocation { .. }
        | Act::Freeze { .. }
        | Act::Unfreeze { .. }
        | Act::ImportCrl { .. }
        | Act::NextCrlNumber { .. }
        | Act::SignBatch { .. }
        | Act::Witness(_)
        | Act::Vault(_)
        | Act::AcceptLog { .. }
        | Act::Subject { .. }
        | Act::LapseKeys { .. }
        | Act::SignExternal(_)
        | Act::KeepSignatures { .. }
        | Act::Record { .. } => Err(Refusal::OperatorNotPermitted.into()),
    }
}

/// Closes what lapsed and what revoked agents left open, at most `limit` of them.
pub(super) fn sweep(book: &dyn Book, now: UnixMillis, limit: u32) -> Ruled<Orders> {
    let voided = book.open_of_revoked(limit)?;
    let room = limit.saturating_sub(u32::try_from(voided.len()).unwrap_or(limit));
    let lapsed = book.lapsed(now, limit)?;
    let lapsed = lapsed
        .into_iter()
        .filter(|late| voided.iter().all(|void| void.transaction_id != late.transaction_id))
        .take(room as usize);
    let mut closing: Vec<(Transaction, TransactionState)> = vec![];
    closing.extend(lapsed.map(|late| {
        let state = match late.state {
            TransactionState::PendingApproval => TransactionState::ApprovalExpired,
            TransactionState::Approved
            | TransactionState::Manual
            | TransactionState::Submitted
            | TransactionState::Posted
            | TransactionState::Denied
            | TransactionState::Cancelled
            | TransactionState::Expired
            | TransactionState::ApprovalExpired
            | TransactionState::Voided
            | TransactionState::CoreRefused => TransactionState::Expired,
        };
        (late, state)
    }));
    let every_revocation_done = room > 0;
    closing.extend(voided.into_iter().map(|void| (void, TransactionState::Voided)));
    let released = u32::try_from(closing.len()).unwrap_or(u32::MAX);
    let mut changes = close(book, closing, now)?;
    if every_revocation_done {
        changes.push(Change::RevocationsSwept);
    }
    Ok((Effect::Swept { released }, changes))
}

/// The operator's name and whether it was only asserted, if a role fits. The daemon itself may set up.
/// An officer, an administrator, or the owner of the account themselves: their name, and whether it was asserted.
fn lets_agents_in(actor: &Actor, owner: &OwnerId) -> Result<(String, bool), Refusal> {
    let is_theirs = match actor {
        Actor::Operator(person) => person.owner.as_ref() == Some(owner),
        Actor::System { .. } | Actor::Agent(_) | Actor::Program(_) => false,
    };
    if is_theirs {
        permitted(actor, &["officer", "administrator", OWNER])
    } else {
        permitted(actor, &["officer", "administrator"])
    }
}

pub(super) fn permitted(actor: &Actor, roles: &[&str]) -> Result<(String, bool), Refusal> {
    match actor {
        Actor::Operator(operator) if operator.roles.iter().any(|role| roles.contains(&role.as_str())) => {
            Ok((operator.name.to_string(), operator.asserted))
        }
        Actor::System { component } => Ok((format!("system:{component}"), false)),
        Actor::Operator(_) | Actor::Agent(_) | Actor::Program(_) => Err(Refusal::OperatorNotPermitted),
    }
}

/// The operator's name, if a role fits. Not for the daemon.
pub(super) fn operator(actor: &Actor, roles: &[&str]) -> Result<String, Refusal> {
    match actor {
        Actor::Operator(_) => permitted(actor, roles).map(|(name, _)| name),
        Actor::Agent(_) | Actor::Program(_) | Actor::System { .. } => Err(Refusal::OperatorNotPermitted),
    }
}

fn done(changes: Vec<Change>) -> Ruled<Orders> {
    Ok((Effect::Done { changed: true }, changes))
}

fn unchanged(same: bool) -> Ruled<Orders> {
    if same { Ok((Effect::Done { changed: false }, vec![])) } else { Err(Refusal::AlreadyExists.into()) }
}

fn same_grant(there: &Grant, new: &Grant) -> bool {
    there.owner == new.owner
        && there.verbs == new.verbs
        && there.per_transaction_max == new.per_transaction_max
        && there.expires.0.abs_diff(new.expires.0) < GRANT_EXPIRY_SLACK_MS.unsigned_abs()
}

fn open_account(book: &dyn Book, command: &Command, new: &NewAccount) -> Ruled<Orders> {
    let foreign = |amount: Option<Money>| amount.is_some_and(|amount| amount.currency() != new.currency);
    if foreign(new.opening) || foreign(new.overdraft) || foreign(new.day_max) {
        return Err(Refusal::CurrencyMismatch.into());
    }
    let below = |amount: Option<Money>, least: i64| amount.is_some_and(|amount| amount.minor() < least);
    if below(new.overdraft, 0) || below(new.day_max, 1) {
        return Err(Refusal::AmountNotPositive.into());
    }
    let request = hash_of(new)?;
    let scope = hash_of(&("opening", &new.account))?;
    if book.account(new.account.as_str())?.is_some() {
        let before = book.binding(&scope, command.stamp.wall)?;
        return unchanged(before.is_some_and(|before| before.request == request));
    }
    let account = Account {
        overdraft: new.overdraft.map_or(0, Money::minor),
        day_max: new.day_max.map(Money::minor),
        zone: new.zone,
        ..Account::new(new.account.to_string(), new.owner.to_string(), AccountKind::Customer, new.currency)
    };
    let mut changes = vec![Change::InsertAccount(account.clone())];
    let mut transaction_id = None;
    if let Some(amount) = new.opening {
        let (posted, posting) = from_outside(book, command, &account, amount, TransactionKind::Opening)?;
        transaction_id = Some(posted.transaction_id);
        changes.extend(posting);
    }
    let binding = Binding { request, transaction_id, case_id: None };
    changes.push(Change::Bind { scope, binding, at: command.stamp.wall });
    done(changes)
}

/// Freezing is for whoever sees the need; thawing takes a person, and another one; a closed account stays closed.
fn set_status(account: Account, status: AccountStatus, actor: &Actor) -> Ruled<Orders> {
    if account.status == status {
        return Ok((Effect::Done { changed: false }, vec![]));
    }
    let by = actor.name();
    let by_nobody = match actor {
        Actor::System { .. } => true,
        Actor::Operator(_) | Actor::Agent(_) | Actor::Program(_) => false,
    };
    let thawed_by_freezer = account.status_by.as_ref() == Some(&by);
    let status_by = match (account.status, status) {
        (AccountStatus::Closed, _) => return Err(Refusal::AccountNotActive.into()),
        (AccountStatus::Frozen, AccountStatus::Active) if by_nobody => {
            return Err(Refusal::OperatorNotPermitted.into());
        }
        (AccountStatus::Frozen, AccountStatus::Active) if thawed_by_freezer => {
            return Err(Refusal::MakerIsChecker.into());
        }
        (_, AccountStatus::Closed) if account.balance != 0 || account.held != 0 => {
            return Err(Refusal::AccountNotEmpty.into());
        }
        (AccountStatus::Active | AccountStatus::Frozen, AccountStatus::Active) => None,
        (AccountStatus::Active | AccountStatus::Frozen, AccountStatus::Frozen | AccountStatus::Closed) => Some(by),
    };
    done(vec![Change::UpdateAccount(Account { status, status_by, ..account })])
}

/// Posts `amount` from the clearing account, which is opened when it is first needed.
fn from_outside(
    book: &dyn Book,
    command: &Command,
    account: &Account,
    amount: Money,
    kind: TransactionKind,
) -> Ruled<(Posted, Vec<Change>)> {
    let at = command.stamp.wall;
    let (clearing, opened) = internal(book, Account::clearing(amount.currency()))?;
    let mut changes: Vec<Change> = opened.into_iter().collect();
    let transaction = Transaction {
        transaction_id: transaction_of_request(&command.stamp)?,
        kind,
        state: TransactionState::Approved,
        maker: command.actor.clone(),
        parameters: bound_parameters(kind.name(), &clearing.name, &account.name, amount, None)?,
        debit: clearing.name.clone(),
        credit: account.name.clone(),
        amount,
        fee: Money::from_minor(0, amount.currency()),
        merchant: None,
        product: None,
        original: None,
        counts_on: None,
        debits_on: None,
        mandate: None,
        created: at,
        expires: at,
        authorization_ttl_ms: 0,
        policy_version: String::new(),
        catalogue_version: 0,
        approval: None,
        settlement: Settlement::Embedded,
        case_id: None,
    };
    let (effect, posting) = settle(book, &transaction, &clearing, account, Funds::Available, at)?;
    changes.push(Change::InsertTransaction(transaction));
    changes.extend(posting);
    Ok((effect, changes))
}

/// A payment that no authorization named takes the ULID of its request.
pub(super) fn transaction_of_request(stamp: &Stamp) -> Result<TransactionId, Inconsistent> {
    let ulid = stamp.request_id.as_str().trim_start_matches("req_");
    format!("txn_{ulid}").parse().map_err(|_| Inconsistent(format!("{} has no ULID", stamp.request_id)))
}

pub(super) fn repeated_payment(book: &dyn Book, before: &Binding, request: Sha256) -> Ruled<Orders> {
    if before.request != request {
        return Err(Refusal::IdempotencyKeyReused.into());
    }
    let posted = before.transaction_id.as_ref().map(|id| book.posted(id)).transpose()?.flatten();
    let posted = posted.ok_or_else(|| Inconsistent("a reference is taken but nothing was posted".into()))?;
    Ok((Effect::Posted(Posted { repeated: true, ..posted }), vec![]))
}

/// Whoever pays a merchant reads its domain or its name: neither is taken for a registered one's.
///
/// # Errors
/// `merchant_looks_alike` with the one that it looks like.
fn looks_like_none(registered: &[Merchant], new: &Merchant) -> Result<(), Denied> {
    let domains = || registered.iter().map(|there| &there.merchant);
    let by_domain = imitated(new.merchant.as_str(), domains());
    let same_name = |there: &&Merchant| is_alike(&there.name, &new.name);
    let by_name = || registered.iter().find(same_name).map(|there| &there.merchant);
    match by_domain.or_else(by_name) {
        Some(there) => {
            let refusal = Refusal::MerchantLooksAlike;
            Err(Denied { refusal, why: Why { name: refusal.name(), rule: None, imitates: Some(there.clone()) } })
        }
        None => Ok(()),
    }
}
