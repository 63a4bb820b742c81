//! What a commit will probably read, so that one round trip fetches it all.
//!
//! The decision itself is asked first, on a book without rows that notes what it is asked for ([`Scout`]): that finds
//! keys which only the rules know, such as the scope of an idempotency key. What comes after the first row that is not
//! there is known from the commands' own words. A wrong guess costs a round trip, never more.

use std::cell::RefCell;
use std::collections::HashSet;

use super::sheet::Key;
use crate::kernel::breaker::Breaker;
use crate::kernel::command::{Act, Actor, CertificateRecord, Command, CoreVerb, Posted, Rules, ToolCall};
use crate::kernel::decide::{
    Binding, Book, Counter, Grant, HistoryLine, ManualCase, Mark, Marking, Merchant, Offer, Place, PolicyLine, Ruled,
    Signed, decide, marks_of_signer,
};
use crate::kernel::external::SigningRow;
use crate::kernel::ledger::{Account, Transaction};
use crate::kernel::mandate::{HeldMandate, Mandate, StoredMandate};
use crate::kernel::policy::transaction::{Pace, PaceKey, PaymentKind};
use crate::kernel::status::CrlStatus;
use crate::kernel::types::{
    AccountId, ApprovalId, CaseId, Currency, Day, KeyId, MandateId, MerchantId, Money, ProductId, Serial, Sha256,
    SpiffeId, TransactionId, UnixMillis,
};
use crate::kernel::vault::VaultAct;
use crate::kernel::witness::WitnessedLog;

/// Rows to fetch, each once.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    pub(super) keys: HashSet<Key>,
    /// Agents that left their account to be found: what is granted to them is locked.
    pub(super) granted: HashSet<SpiffeId>,
    /// Something in this commit changes who may act, or closes what others may be using: no other commit is let in.
    pub(super) alone: bool,
}

impl Footprint {
    pub(super) fn of(commands: &[Command]) -> Self {
        let mut footprint = Self::default();
        for command in commands {
            footprint.scout(command);
            footprint.read(command);
        }
        footprint
    }

    /// Exactly these.
    pub(super) fn exactly(keys: impl IntoIterator<Item = Key>) -> Self {
        Self { keys: keys.into_iter().collect(), ..Self::default() }
    }

    pub(super) fn counts_holds_of(&self, agent: &SpiffeId) -> bool {
        self.keys.iter().any(|key| matches!(key, Key::OpenHolds(named, _) if named == agent))
    }

    fn scout(&mut self, command: &Command) {
        let scout = Scout { keys: RefCell::new(std::mem::take(&mut self.keys)) };
        // What it comes to on an empty book does not matter.
        let _ = decide(&scout, command);
        self.keys = scout.keys.into_inner();
    }

    fn account(&mut self, name: impl Into<String>) {
        self.keys.insert(Key::Account(name.into()));
    }

    /// The sums of the days that it may be somewhere on Earth.
    fn counter(&mut self, counter: &Counter, now: UnixMillis) {
        let today = Day::utc(now).0;
        for day in [today.saturating_sub(1), today, today.saturating_add(1)] {
            self.keys.insert(Key::Counter(counter.clone(), Day(day)));
        }
    }

    /// An account that pays: its row and its day's sum.
    fn payer(&mut self, name: &str, now: UnixMillis) {
        self.account(name);
        self.counter(&Counter::Account(name.to_owned()), now);
    }

    fn income(&mut self, rules: &Rules, currency: Currency) {
        if !rules.fees.is_empty() {
            self.account(Account::fees(currency).name);
        }
    }

    fn read(&mut self, command: &Command) {
        let now = command.stamp.wall;
        match &command.act {
            Act::Tool { call, rules, .. } => self.call(command, call, rules),
            Act::Transfer { debit, credit, .. } => {
                self.payer(debit, now);
                self.account(credit);
            }
            Act::IncomingPayment { account, amount, .. } => {
                self.account(account.as_str());
                self.account(Account::clearing(amount.currency()).name);
            }
            Act::OpenAccount(new) => {
                self.account(new.account.as_str());
                self.account(Account::clearing(new.currency).name);
            }
            Act::SetAccountStatus { account, .. } => self.account(account.as_str()),
            Act::AddGrant { agent, account, .. } => {
                self.account(account.as_str());
                self.keys.insert(Key::Grant(agent.clone(), account.clone()));
            }
            Act::ReverseTransaction { transaction_id, .. }
            | Act::QueueManual { transaction_id, .. }
            | Act::CoreAnswered { transaction_id, .. } => {
                self.keys.insert(Key::Transaction(transaction_id.clone()));
                self.keys.insert(Key::Outbox(transaction_id.clone()));
            }
            Act::DecideApproval { approval, .. } => {
                self.keys.insert(Key::Approval(approval.clone()));
            }
            Act::RevokeGrant { agent, account } => {
                self.alone = true;
                self.keys.insert(Key::Grant(agent.clone(), account.clone()));
            }
            Act::AddMandate { mandate } => {
                self.alone = true;
                self.account(mandate.mandate().account.as_str());
                let (agent, account) = (&mandate.mandate().agent, &mandate.mandate().account);
                self.keys.insert(Key::Mandates(agent.clone(), account.to_string()));
                self.keys.extend(marks_of_signer(mandate.signer()).into_iter().map(Key::Mark));
            }
            Act::SetBreaker { .. }
            // No other commit is under way when another policy comes into force.
            | Act::ApplyPolicy { .. }
            | Act::RevokeMandate { .. }
            | Act::Revoke { .. }
            | Act::SpreadRevocation { .. }
            | Act::Freeze { .. }
            | Act::Unfreeze { .. }
            | Act::ImportCrl { .. }
            // Of two daemons that give one name to two keys at the same moment, one is refused.
            | Act::JournalCertificate { .. }
            // Two checkpoints of one log are judged one after the other.
            | Act::Witness(_)
            | Act::AcceptLog { .. }
            // No other commit seals under a key while it is destroyed.
            | Act::Subject { .. }
            | Act::LapseKeys { .. }
            // Of two versions of one number that daemons keep at the same moment, one is refused.
            | Act::Vault(VaultAct::Keep { .. } | VaultAct::Remove { .. } | VaultAct::Rewrap { .. })
            | Act::Sweep { .. } => {
                self.alone = true;
            }
            Act::AddMerchant { .. }
            | Act::AddProduct { .. }
            | Act::TakeCase { .. }
            | Act::ResolveCase { .. }
            | Act::ReleaseCertificate { .. }
            | Act::NextCrlNumber { .. }
            | Act::SignBatch { .. }
            | Act::Vault(VaultAct::Read { .. })
            // Their one row is found by scouting.
            | Act::SignExternal(_)
            | Act::KeepSignatures { .. }
            | Act::Record { .. } => {}
        }
    }

    fn call(&mut self, command: &Command, call: &ToolCall, rules: &Rules) {
        let Actor::Agent(agent) = &command.actor else { return };
        let now = command.stamp.wall;
        match call {
            ToolCall::AuthorizePurchase { price, from_account, merchant, product_id, .. } => {
                self.keys.insert(Key::Offer(merchant.clone(), product_id.clone()));
                self.authorizes(&agent.spiffe_id, from_account.as_ref(), now);
                self.paces(&agent.spiffe_id, from_account.as_ref(), PaymentKind::Purchase, *price, rules);
                self.income(rules, price.currency());
            }
            ToolCall::AuthorizeTransfer { from_account, to_account, amount, .. } => {
                self.account(to_account.as_str());
                self.authorizes(&agent.spiffe_id, from_account.as_ref(), now);
                self.paces(&agent.spiffe_id, from_account.as_ref(), PaymentKind::Transfer, *amount, rules);
                self.income(rules, amount.currency());
            }
            ToolCall::ExecutePurchase { transaction_id, .. } => self.executes(&agent.spiffe_id, transaction_id),
            ToolCall::ExecuteTransfer { transaction_id, amount, .. } => {
                self.executes(&agent.spiffe_id, transaction_id);
                self.income(rules, amount.currency());
            }
            ToolCall::CancelAuthorization { .. } => self.counter(&Counter::Agent(agent.spiffe_id.clone()), now),
            ToolCall::GetAccountBalance { account_id } => self.account(account_id.as_str()),
            ToolCall::ListAccounts {} => {
                self.granted.insert(agent.spiffe_id.clone());
                self.keys.insert(Key::Grants(agent.spiffe_id.clone()));
            }
            ToolCall::ListTransactions { .. }
            | ToolCall::SearchProducts { .. }
            | ToolCall::GetTransaction { .. }
            | ToolCall::GetApprovalStatus { .. }
            | ToolCall::RequestReversal { .. } => {}
        }
    }

    fn authorizes(&mut self, agent: &SpiffeId, from: Option<&AccountId>, now: UnixMillis) {
        self.counter(&Counter::Agent(agent.clone()), now);
        match from {
            Some(from) => {
                self.keys.insert(Key::Mandates(agent.clone(), from.to_string()));
                self.payer(from.as_str(), now);
                self.keys.insert(Key::Grant(agent.clone(), from.clone()));
                self.keys.insert(Key::OpenHolds(agent.clone(), from.to_string()));
            }
            None => {
                self.granted.insert(agent.clone());
                self.keys.insert(Key::Grants(agent.clone()));
                self.keys.insert(Key::MandatesGranted(agent.clone()));
                self.keys.insert(Key::OpenHolds(agent.clone(), String::new()));
            }
        }
    }

    fn paces(&mut self, agent: &SpiffeId, from: Option<&AccountId>, kind: PaymentKind, amount: Money, rules: &Rules) {
        let ahead = rules.transactions.paces_ahead(agent, from.map(AccountId::as_str), kind, amount);
        self.keys.extend(ahead.into_iter().map(Key::Pace));
    }

    fn executes(&mut self, agent: &SpiffeId, transaction: &TransactionId) {
        self.keys.insert(Key::MandatesOf(agent.clone(), transaction.clone()));
        self.keys.insert(Key::GrantOf(agent.clone(), transaction.clone()));
        self.keys.insert(Key::Transaction(transaction.clone()));
        self.keys.insert(Key::Outbox(transaction.clone()));
        self.keys.insert(Key::Breaker);
    }
}

/// A book without rows that notes what it is asked for.
struct Scout {
    keys: RefCell<HashSet<Key>>,
}

impl Scout {
    fn note<T>(&self, key: Key, nothing: T) -> Ruled<T> {
        self.keys.borrow_mut().insert(key);
        Ok(nothing)
    }
}

impl Book for Scout {
    fn any_marked(&self, marks: &[String]) -> Ruled<bool> {
        self.keys.borrow_mut().extend(marks.iter().cloned().map(Key::Mark));
        Ok(false)
    }

    fn standing(&self, _marks: &[String]) -> Ruled<HashSet<String>> {
        Ok(HashSet::new())
    }

    fn marking(&self, _mark: &Mark) -> Ruled<Option<Marking>> {
        Ok(None)
    }

    /// One that is fresh for ever, so that the decision goes on.
    fn crl(&self, issuer: &str) -> Ruled<Option<CrlStatus>> {
        let fresh = CrlStatus { number: 0, this_update: UnixMillis(0), next_update: UnixMillis(i64::MAX) };
        self.note(Key::Crl(issuer.to_owned()), Some(fresh))
    }

    fn account(&self, name: &str) -> Ruled<Option<Account>> {
        self.note(Key::Account(name.to_owned()), None)
    }

    fn grant(&self, agent: &SpiffeId, account: &AccountId) -> Ruled<Option<Grant>> {
        self.note(Key::Grant(agent.clone(), account.clone()), None)
    }

    fn grants(&self, agent: &SpiffeId) -> Ruled<Vec<Grant>> {
        self.note(Key::Grants(agent.clone()), vec![])
    }

    fn mandate(&self, _id: &MandateId) -> Ruled<Option<StoredMandate>> {
        Ok(None)
    }

    fn mandates(&self, agent: &SpiffeId, account: &str) -> Ruled<Vec<HeldMandate>> {
        self.note(Key::Mandates(agent.clone(), account.to_owned()), vec![])
    }

    fn merchant(&self, _merchant: &MerchantId) -> Ruled<Option<Merchant>> {
        Ok(None)
    }

    fn merchants(&self) -> Ruled<Vec<Merchant>> {
        Ok(vec![])
    }

    fn offer(&self, merchant: &MerchantId, product: &ProductId) -> Ruled<Option<Offer>> {
        self.note(Key::Offer(merchant.clone(), product.clone()), None)
    }

    fn offers(&self, _merchant: Option<&MerchantId>, _limit: u32) -> Ruled<Vec<Offer>> {
        Ok(vec![])
    }

    fn transaction(&self, id: &TransactionId) -> Ruled<Option<Transaction>> {
        self.note(Key::Transaction(id.clone()), None)
    }

    fn transaction_of_approval(&self, id: &ApprovalId) -> Ruled<Option<Transaction>> {
        self.note(Key::Approval(id.clone()), None)
    }

    fn posted(&self, id: &TransactionId) -> Ruled<Option<Posted>> {
        self.note(Key::Transaction(id.clone()), None)
    }

    fn history(&self, _account: &str, _limit: u32) -> Ruled<Vec<HistoryLine>> {
        Ok(vec![])
    }

    fn open_holds(&self, agent: &SpiffeId, account: &str) -> Ruled<u32> {
        self.note(Key::OpenHolds(agent.clone(), account.to_owned()), 0)
    }

    fn spent(&self, counter: &Counter, day: Day) -> Ruled<i64> {
        self.note(Key::Counter(counter.clone(), day), 0)
    }

    fn pace(&self, key: &PaceKey) -> Ruled<Pace> {
        self.note(Key::Pace(key.clone()), Pace::default())
    }

    fn reversed(&self, _original: &TransactionId) -> Ruled<i64> {
        Ok(0)
    }

    fn binding(&self, scope: &Sha256, _now: UnixMillis) -> Ruled<Option<Binding>> {
        self.note(Key::Binding(*scope), None)
    }

    fn nonce_used(&self, nonce: &Sha256, _now: UnixMillis) -> Ruled<bool> {
        self.note(Key::Nonce(*nonce), false)
    }

    fn breaker(&self) -> Ruled<Breaker> {
        self.note(Key::Breaker, Breaker::default())
    }

    fn case(&self, _id: &CaseId) -> Ruled<Option<ManualCase>> {
        Ok(None)
    }

    fn open_cases(&self, _agent: &SpiffeId) -> Ruled<u32> {
        Ok(0)
    }

    fn order(&self, id: &TransactionId) -> Ruled<Option<Posted>> {
        self.note(Key::Transaction(id.clone()), None)
    }

    fn outbox(&self, id: &TransactionId) -> Ruled<Vec<CoreVerb>> {
        self.note(Key::Outbox(id.clone()), vec![])
    }

    fn lapsed(&self, _now: UnixMillis, _limit: u32) -> Ruled<Vec<Transaction>> {
        Ok(vec![])
    }

    fn open_of_revoked(&self, _limit: u32) -> Ruled<Vec<Transaction>> {
        Ok(vec![])
    }

    fn open_under(&self, _marks: &[String]) -> Ruled<u32> {
        Ok(0)
    }

    fn open_under_mandate(&self, _mandate: &Mandate, _limit: u32) -> Ruled<Vec<Transaction>> {
        Ok(vec![])
    }

    fn next_place(&self) -> Ruled<Place> {
        Ok(Place { batch: 0, index: 0 })
    }

    fn batch_is_signed(&self, _batch: i64) -> Ruled<Option<Signed>> {
        Ok(None)
    }

    fn certificate(&self, _id: &str) -> Ruled<Option<CertificateRecord>> {
        Ok(None)
    }

    fn certificate_of_serial(&self, _issuer: &str, _serial: &Serial) -> Ruled<Option<CertificateRecord>> {
        Ok(None)
    }

    fn issued(&self, _issuer: &str, _serials: &[Serial]) -> Ruled<u32> {
        Ok(0)
    }

    fn agents_unmarked(&self, _after: Option<&SpiffeId>, _limit: u32) -> Ruled<Vec<SpiffeId>> {
        Ok(vec![])
    }

    fn certificates_of_subject(&self, _subject: &str) -> Ruled<Vec<CertificateRecord>> {
        Ok(vec![])
    }

    fn certificates_of_key(&self, _key: &KeyId) -> Ruled<Vec<CertificateRecord>> {
        Ok(vec![])
    }

    fn agent_is_known(&self, _agent: &SpiffeId) -> Ruled<bool> {
        Ok(false)
    }

    fn crl_number(&self, _issuer: &str) -> Ruled<u64> {
        Ok(0)
    }

    fn policy(&self) -> Ruled<Option<PolicyLine>> {
        Ok(None)
    }

    fn signing(&self, scope: &Sha256) -> Ruled<Option<SigningRow>> {
        self.note(Key::Signing(*scope), None)
    }

    fn witnessed(&self) -> Ruled<Vec<WitnessedLog>> {
        Ok(vec![])
    }
}
