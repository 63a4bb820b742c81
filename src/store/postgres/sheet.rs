//! The rows of one commit in memory: what was read and locked, with the changes of the commit's earlier commands.
//!
//! A decision asks the sheet. What it lacks it names as [`Missing`]; the commit fetches that and decides the command
//! again, which is harmless, because deciding changes nothing. So what is fetched ahead is a matter of speed only.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::keys::{Known, NewDataKey};
use super::vault::{Damaged, Found};
use crate::kernel::breaker::Breaker;
use crate::kernel::command::{CertificateRecord, CoreVerb, Posted};
use crate::kernel::decide::{
    Binding, Book, Change, Counter, Grant, HistoryLine, ManualCase, Mark, Marking, Merchant, Offer, Place, PolicyLine,
    Ruled, Signed, Stop, SubjectRow,
};
use crate::kernel::external::SigningRow;
use crate::kernel::ledger::{Account, Transaction};
use crate::kernel::mandate::{HeldMandate, Mandate, StoredMandate};
use crate::kernel::policy::transaction::{Pace, PaceKey};
use crate::kernel::refusal::Refusal;
use crate::kernel::status::CrlStatus;
use crate::kernel::subject::{DataSubject, Period};
use crate::kernel::types::{
    AccountId, ApprovalId, CaseId, CredentialName, Day, KeyId, MandateId, MerchantId, ProductId, Serial, Sha256,
    SpiffeId, TransactionId, UnixMillis,
};
use crate::kernel::vault::{CredentialCount, CredentialHead, SealedCredential};
use crate::kernel::witness::WitnessedLog;
use crate::store::keep::Keep;
use crate::store::planted::stale_sum;

/// A row that a decision needs, or a question about many rows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Key {
    Mark(String),
    Crl(String),
    Account(String),
    Grant(SpiffeId, AccountId),
    /// The grant of the account that this transaction debits.
    GrantOf(SpiffeId, TransactionId),
    /// All of the agent.
    Grants(SpiffeId),
    /// What the agent was given for this account, with what is revoked of who signed it.
    Mandates(SpiffeId, String),
    /// For the account that this transaction debits.
    MandatesOf(SpiffeId, TransactionId),
    /// For each account that is granted to the agent, which is asked for besides.
    MandatesGranted(SpiffeId),
    Offer(MerchantId, ProductId),
    Transaction(TransactionId),
    Approval(ApprovalId),
    /// Of the agent on all accounts; the named one is locked, so that the count stands.
    OpenHolds(SpiffeId, String),
    Counter(Counter, Day),
    Pace(PaceKey),
    Binding(Sha256),
    Nonce(Sha256),
    /// An order for signatures, by its scope.
    Signing(Sha256),
    Breaker,
    Outbox(TransactionId),
    Question(Question),
}

/// Asked one at a time, after everything that is pending was written.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Question {
    Mandate(MandateId),
    Merchant(MerchantId),
    Merchants,
    Offers { merchant: Option<MerchantId>, limit: u32 },
    History { account: String, limit: u32 },
    Reversed(TransactionId),
    Case(CaseId),
    OpenCases(SpiffeId),
    Lapsed { now: UnixMillis, limit: u32 },
    OpenOfRevoked { limit: u32 },
    OpenUnder { marks: Vec<String> },
    OpenUnderMandate { mandate: MandateId, agent: SpiffeId, account: AccountId, limit: u32 },
    Standing(Vec<String>),
    Marking(String),
    BatchIsSigned(i64),
    Certificate(String),
    CertificateOfSerial { issuer: String, serial: Serial },
    Issued { issuer: String, serials: Vec<Serial> },
    AgentsUnmarked { after: Option<SpiffeId>, limit: u32 },
    CertificatesOfSubject(String),
    CertificatesOfKey(KeyId),
    AgentIsKnown(SpiffeId),
    CrlNumber(String),
    Policy,
    Witnessed,
    Subject(DataSubject),
    LapsedKeys { before: Period, limit: u32 },
    Credential(CredentialName),
    CredentialVersion { name: CredentialName, version: u64 },
    Credentials,
}

/// The decision needs what is not in the sheet yet.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} was not read yet")]
pub(super) struct Missing(pub(super) Vec<Key>);

fn missing(key: Key) -> Stop {
    Stop::Fault(Box::new(Missing(vec![key])))
}

/// Where a row stands against the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Written {
    /// As in the database.
    Same,
    /// In the database, with other content.
    Changed,
    /// Not in the database yet.
    New,
}

impl Written {
    /// After another change.
    pub(super) fn changed(self) -> Self {
        match self {
            Self::New => Self::New,
            Self::Same | Self::Changed => Self::Changed,
        }
    }
}

#[derive(Debug)]
pub(super) struct AccountRow {
    pub(super) account: Account,
    pub(super) id: i64,
    pub(super) newest_entry: Option<i64>,
    pub(super) written: Written,
    /// Its status is another one than in the database, which is rare.
    pub(super) status_changed: bool,
}

#[derive(Debug)]
pub(super) struct TransactionRow {
    pub(super) transaction: Transaction,
    pub(super) id: i64,
    pub(super) posting: Option<Posted>,
    pub(super) posted_at: Option<UnixMillis>,
    pub(super) order: Option<Posted>,
    /// Row of the leaf of the decision that posted it, when this commit did.
    pub(super) leaf: Option<i64>,
    pub(super) written: Written,
}

/// What is known of an agent's grants.
#[derive(Debug, Default)]
pub(super) struct Granted {
    /// Every account that is not named has no grant.
    pub(super) all: bool,
    pub(super) of: BTreeMap<AccountId, Option<Grant>>,
}

/// A day's sum.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) minor: i64,
    pub(super) written: Written,
}

/// What a velocity has counted.
#[derive(Debug)]
pub(super) struct PaceRow {
    pub(super) pace: Pace,
    /// When nothing looks at it any more.
    pub(super) ends: UnixMillis,
    pub(super) written: Written,
}

/// A single-use key.
#[derive(Debug)]
pub(super) struct KeyRow {
    /// Where the database has it, the day since when.
    pub(super) stored: Option<i32>,
    /// As it is now, with its day.
    pub(super) binding: Option<(Binding, i32)>,
    pub(super) changed: bool,
}

/// A nonce: taken before, or by this commit on a day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NonceRow {
    Free,
    Taken,
    TakenNow(i32),
}

/// An order for signatures. None: there is none of this scope.
#[derive(Debug)]
pub(super) struct SigningSlot {
    pub(super) row: Option<SigningRow>,
    pub(super) written: Written,
}

#[derive(Debug)]
pub(super) struct EntryRow {
    pub(super) id: i64,
    pub(super) account: i64,
    pub(super) transaction: i64,
    pub(super) amount: i64,
    pub(super) previous: Option<i64>,
}

#[derive(Debug)]
pub(super) struct LeafRow {
    pub(super) row: i64,
    pub(super) commitment: Sha256,
    /// Empty when it is sealed.
    pub(super) salt: Vec<u8>,
    /// Sealed: with the salt.
    pub(super) body: Vec<u8>,
    pub(super) key: Option<i64>,
}

#[derive(Debug)]
pub(super) struct Revoked {
    pub(super) mark: Mark,
    pub(super) at: UnixMillis,
    pub(super) reason: String,
}

/// Row numbers that this commit may still give.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Block {
    pub(super) next: i64,
    pub(super) end: i64,
}

/// One commit in the making.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    pub(super) keep: Keep,
    pub(super) batch: i64,
    pub(super) rows: Block,
    pub(super) marks: HashMap<String, bool>,
    pub(super) crls: HashMap<String, Option<CrlStatus>>,
    pub(super) accounts: HashMap<String, Option<AccountRow>>,
    pub(super) grants: HashMap<SpiffeId, Granted>,
    /// By agent and account.
    pub(super) mandates: HashMap<SpiffeId, HashMap<String, Vec<HeldMandate>>>,
    pub(super) offers: HashMap<(MerchantId, ProductId), Option<Offer>>,
    pub(super) transactions: HashMap<TransactionId, Option<TransactionRow>>,
    pub(super) approvals: HashMap<ApprovalId, Option<TransactionId>>,
    pub(super) open_holds: HashMap<SpiffeId, HashMap<String, u32>>,
    /// Sorted, as everything that two daemons may insert: so they never wait for each other in a circle.
    pub(super) counters: BTreeMap<(String, Day), Tally>,
    pub(super) paces: BTreeMap<String, PaceRow>,
    pub(super) bindings: BTreeMap<[u8; 32], KeyRow>,
    pub(super) nonces: BTreeMap<[u8; 32], NonceRow>,
    pub(super) signings: BTreeMap<[u8; 32], SigningSlot>,
    pub(super) breaker: Option<Breaker>,
    pub(super) outbox: HashMap<TransactionId, Vec<CoreVerb>>,
    /// How often data keys were destroyed, by whichever daemon.
    pub(super) key_changes: i64,
    /// Data keys that this commit made.
    pub(super) known_keys: Known,
    /// This commit destroys some: those from before are not used any more.
    pub(super) keys_destroyed: bool,
    /// Answers that hold until something changes.
    pub(super) answers: HashMap<Question, Box<dyn Any + Send>>,

    // What was ordered and is not written yet, besides the rows above.
    pub(super) entries: Vec<EntryRow>,
    pub(super) leaves: Vec<LeafRow>,
    pub(super) new_keys: Vec<NewDataKey>,
    pub(super) revoked: Vec<Revoked>,
    /// Rare changes, each a statement of its own, in order.
    pub(super) rare: Vec<Change>,
    /// Leaf hashes of the statements of this commit, and the time of its newest command.
    pub(super) statements: Vec<Sha256>,
    pub(super) at_ms: i64,
}

impl Sheet {
    fn ask<T: Clone + 'static>(&self, question: Question) -> Ruled<T> {
        let answer = self.answers.get(&question).and_then(|answer| answer.downcast_ref::<T>());
        answer.cloned().ok_or_else(|| missing(Key::Question(question)))
    }

    fn transaction_row(&self, id: &TransactionId) -> Ruled<Option<&TransactionRow>> {
        let row = self.transactions.get(id).ok_or_else(|| missing(Key::Transaction(id.clone())))?;
        Ok(row.as_ref())
    }

    /// Keys that the changes need although their decision did not.
    pub(super) fn lacking(&self, changes: &[Change]) -> Vec<Key> {
        let lacking = |change: &Change| {
            if let Change::Spend { counter, day, .. } = change {
                let unread = !self.counters.contains_key(&(counter.text(), *day));
                return unread.then(|| Key::Counter(counter.clone(), *day));
            }
            if let Change::PutPace { key, .. } = change {
                return (!self.paces.contains_key(key.text())).then(|| Key::Pace(key.clone()));
            }
            if let Change::Bind { scope, .. } | Change::Unbind { scope } = change {
                return (!self.bindings.contains_key(&scope.0)).then_some(Key::Binding(*scope));
            }
            if let Change::UpdateTransaction(transaction) = change {
                let id = &transaction.transaction_id;
                return (!self.transactions.contains_key(id)).then(|| Key::Transaction(id.clone()));
            }
            None
        };
        changes.iter().filter_map(lacking).collect()
    }
}

impl Sheet {
    /// Names and row numbers of the accounts, once everything is committed.
    pub(super) fn committed_accounts(&self) -> impl Iterator<Item = (&str, i64)> {
        self.accounts.values().flatten().map(|row| (row.account.name.as_str(), row.id))
    }
}

impl Book for Sheet {
    fn any_marked(&self, marks: &[String]) -> Ruled<bool> {
        for mark in marks {
            if *self.marks.get(mark).ok_or_else(|| missing(Key::Mark(mark.clone())))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn standing(&self, marks: &[String]) -> Ruled<HashSet<String>> {
        self.ask(Question::Standing(marks.to_vec()))
    }

    fn marking(&self, mark: &Mark) -> Ruled<Option<Marking>> {
        self.ask(Question::Marking(mark.text()))
    }

    fn crl(&self, issuer: &str) -> Ruled<Option<CrlStatus>> {
        self.crls.get(issuer).copied().ok_or_else(|| missing(Key::Crl(issuer.to_owned())))
    }

    fn account(&self, name: &str) -> Ruled<Option<Account>> {
        let row = self.accounts.get(name).ok_or_else(|| missing(Key::Account(name.to_owned())))?;
        Ok(row.as_ref().map(|row| row.account.clone()))
    }

    fn grant(&self, agent: &SpiffeId, account: &AccountId) -> Ruled<Option<Grant>> {
        let unread = || missing(Key::Grant(agent.clone(), account.clone()));
        let granted = self.grants.get(agent).ok_or_else(unread)?;
        match granted.of.get(account) {
            Some(grant) => Ok(grant.clone()),
            None if granted.all => Ok(None),
            None => Err(unread()),
        }
    }

    fn grants(&self, agent: &SpiffeId) -> Ruled<Vec<Grant>> {
        let granted = self.grants.get(agent).filter(|granted| granted.all);
        let granted = granted.ok_or_else(|| missing(Key::Grants(agent.clone())))?;
        Ok(granted.of.values().flatten().cloned().collect())
    }

    fn mandate(&self, id: &MandateId) -> Ruled<Option<StoredMandate>> {
        self.ask(Question::Mandate(id.clone()))
    }

    fn mandates(&self, agent: &SpiffeId, account: &str) -> Ruled<Vec<HeldMandate>> {
        let known = self.mandates.get(agent).and_then(|of| of.get(account));
        known.cloned().ok_or_else(|| missing(Key::Mandates(agent.clone(), account.to_owned())))
    }

    fn merchant(&self, merchant: &MerchantId) -> Ruled<Option<Merchant>> {
        self.ask(Question::Merchant(merchant.clone()))
    }

    fn merchants(&self) -> Ruled<Vec<Merchant>> {
        self.ask(Question::Merchants)
    }

    fn offer(&self, merchant: &MerchantId, product: &ProductId) -> Ruled<Option<Offer>> {
        let key = (merchant.clone(), product.clone());
        self.offers.get(&key).cloned().ok_or_else(|| missing(Key::Offer(key.0, key.1)))
    }

    fn offers(&self, merchant: Option<&MerchantId>, limit: u32) -> Ruled<Vec<Offer>> {
        self.ask(Question::Offers { merchant: merchant.cloned(), limit })
    }

    fn transaction(&self, id: &TransactionId) -> Ruled<Option<Transaction>> {
        Ok(self.transaction_row(id)?.map(|row| row.transaction.clone()))
    }

    fn transaction_of_approval(&self, id: &ApprovalId) -> Ruled<Option<Transaction>> {
        match self.approvals.get(id).ok_or_else(|| missing(Key::Approval(id.clone())))? {
            Some(transaction) => self.transaction(transaction),
            None => Ok(None),
        }
    }

    fn posted(&self, id: &TransactionId) -> Ruled<Option<Posted>> {
        Ok(self.transaction_row(id)?.and_then(|row| row.posting.clone()))
    }

    fn history(&self, account: &str, limit: u32) -> Ruled<Vec<HistoryLine>> {
        self.ask(Question::History { account: account.to_owned(), limit })
    }

    fn open_holds(&self, agent: &SpiffeId, account: &str) -> Ruled<u32> {
        // Without the account's lock another daemon may be adding one.
        let held = self.open_holds.get(agent).filter(|_| self.accounts.contains_key(account));
        let held = held.ok_or_else(|| missing(Key::OpenHolds(agent.clone(), account.to_owned())))?;
        Ok(held.get(account).copied().unwrap_or(0))
    }

    fn foresee(&self, counters: &[(Counter, Day)]) -> Ruled<()> {
        let unread = |(counter, day): &&(Counter, Day)| !self.counters.contains_key(&(counter.text(), *day));
        let unread = counters.iter().filter(unread);
        let keys: Vec<Key> = unread.map(|(counter, day)| Key::Counter(counter.clone(), *day)).collect();
        if keys.is_empty() { Ok(()) } else { Err(Stop::Fault(Box::new(Missing(keys)))) }
    }

    fn spent(&self, counter: &Counter, day: Day) -> Ruled<i64> {
        let text = counter.text();
        let tally = self.counters.get(&(text.clone(), day));
        let minor = tally.ok_or_else(|| missing(Key::Counter(counter.clone(), day)))?.minor;
        Ok(stale_sum(&text, day.0, minor))
    }

    fn pace(&self, key: &PaceKey) -> Ruled<Pace> {
        let row = self.paces.get(key.text()).ok_or_else(|| missing(Key::Pace(key.clone())))?;
        Ok(row.pace.clone())
    }

    fn reversed(&self, original: &TransactionId) -> Ruled<i64> {
        self.ask(Question::Reversed(original.clone()))
    }

    fn binding(&self, scope: &Sha256, now: UnixMillis) -> Ruled<Option<Binding>> {
        let row = self.bindings.get(&scope.0).ok_or_else(|| missing(Key::Binding(*scope)))?;
        let oldest = self.keep.oldest_binding(now).0;
        Ok(row.binding.as_ref().filter(|(_, day)| *day >= oldest).map(|(binding, _)| binding.clone()))
    }

    /// Kept longer than it must be: one that was ever seen is used.
    fn nonce_used(&self, nonce: &Sha256, _now: UnixMillis) -> Ruled<bool> {
        match self.nonces.get(&nonce.0).ok_or_else(|| missing(Key::Nonce(*nonce)))? {
            NonceRow::Free => Ok(false),
            NonceRow::Taken | NonceRow::TakenNow(_) => Ok(true),
        }
    }

    fn breaker(&self) -> Ruled<Breaker> {
        self.breaker.clone().ok_or_else(|| missing(Key::Breaker))
    }

    fn case(&self, id: &CaseId) -> Ruled<Option<ManualCase>> {
        self.ask(Question::Case(id.clone()))
    }

    fn open_cases(&self, agent: &SpiffeId) -> Ruled<u32> {
        self.ask(Question::OpenCases(agent.clone()))
    }

    fn order(&self, id: &TransactionId) -> Ruled<Option<Posted>> {
        Ok(self.transaction_row(id)?.and_then(|row| row.order.clone()))
    }

    fn outbox(&self, id: &TransactionId) -> Ruled<Vec<CoreVerb>> {
        self.outbox.get(id).cloned().ok_or_else(|| missing(Key::Outbox(id.clone())))
    }

    fn lapsed(&self, now: UnixMillis, limit: u32) -> Ruled<Vec<Transaction>> {
        self.ask(Question::Lapsed { now, limit })
    }

    fn open_of_revoked(&self, limit: u32) -> Ruled<Vec<Transaction>> {
        self.ask(Question::OpenOfRevoked { limit })
    }

    fn open_under(&self, marks: &[String]) -> Ruled<u32> {
        if marks.is_empty() {
            return Ok(0);
        }
        self.ask(Question::OpenUnder { marks: marks.to_vec() })
    }

    fn open_under_mandate(&self, mandate: &Mandate, limit: u32) -> Ruled<Vec<Transaction>> {
        let Mandate { id, agent, account, .. } = mandate;
        self.ask(Question::OpenUnderMandate {
            mandate: id.clone(),
            agent: agent.clone(),
            account: account.clone(),
            limit,
        })
    }

    fn next_place(&self) -> Ruled<Place> {
        Ok(Place { batch: self.batch, index: u32::try_from(self.statements.len()).unwrap_or(u32::MAX) })
    }

    fn batch_is_signed(&self, batch: i64) -> Ruled<Option<Signed>> {
        self.ask(Question::BatchIsSigned(batch))
    }

    fn certificate(&self, id: &str) -> Ruled<Option<CertificateRecord>> {
        self.ask(Question::Certificate(id.to_owned()))
    }

    fn certificate_of_serial(&self, issuer: &str, serial: &Serial) -> Ruled<Option<CertificateRecord>> {
        self.ask(Question::CertificateOfSerial { issuer: issuer.to_owned(), serial: serial.clone() })
    }

    fn issued(&self, issuer: &str, serials: &[Serial]) -> Ruled<u32> {
        self.ask(Question::Issued { issuer: issuer.to_owned(), serials: serials.to_vec() })
    }

    fn agents_unmarked(&self, after: Option<&SpiffeId>, limit: u32) -> Ruled<Vec<SpiffeId>> {
        self.ask(Question::AgentsUnmarked { after: after.cloned(), limit })
    }

    fn certificates_of_subject(&self, subject: &str) -> Ruled<Vec<CertificateRecord>> {
        self.ask(Question::CertificatesOfSubject(subject.to_owned()))
    }

    fn certificates_of_key(&self, key: &KeyId) -> Ruled<Vec<CertificateRecord>> {
        self.ask(Question::CertificatesOfKey(*key))
    }

    fn agent_is_known(&self, agent: &SpiffeId) -> Ruled<bool> {
        self.ask(Question::AgentIsKnown(agent.clone()))
    }

    fn crl_number(&self, issuer: &str) -> Ruled<u64> {
        self.ask(Question::CrlNumber(issuer.to_owned()))
    }

    fn policy(&self) -> Ruled<Option<PolicyLine>> {
        self.ask(Question::Policy)
    }

    fn credential(&self, name: &CredentialName) -> Ruled<Option<CredentialHead>> {
        self.ask(Question::Credential(name.clone()))
    }

    fn credential_version(&self, name: &CredentialName, version: u64) -> Ruled<Option<SealedCredential>> {
        let found: Found = self.ask(Question::CredentialVersion { name: name.clone(), version })?;
        found.map_err(|Damaged| Refusal::CredentialDamaged.into())
    }

    fn credentials(&self) -> Ruled<CredentialCount> {
        self.ask(Question::Credentials)
    }

    fn signing(&self, scope: &Sha256) -> Ruled<Option<SigningRow>> {
        let slot = self.signings.get(&scope.0).ok_or_else(|| missing(Key::Signing(*scope)))?;
        Ok(slot.row.clone())
    }

    fn witnessed(&self) -> Ruled<Vec<WitnessedLog>> {
        self.ask(Question::Witnessed)
    }

    fn subject(&self, subject: &DataSubject) -> Ruled<SubjectRow> {
        self.ask(Question::Subject(subject.clone()))
    }

    fn lapsed_keys(&self, before: Period, limit: u32) -> Ruled<Vec<i64>> {
        self.ask(Question::LapsedKeys { before, limit })
    }
}
