//! What decisions read and what they order: the language between the rules and a store.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Ruled;
use crate::kernel::breaker::{Breaker, Cause, Stop};
use crate::kernel::command::{CaseVerdict, CertificateRecord, CoreVerb, Posted, Verb, Whom};
use crate::kernel::external::SigningRow;
use crate::kernel::ledger::{Account, Entry, Transaction, TransactionState};
use crate::kernel::mandate::{HeldMandate, Mandate, StoredMandate};
use crate::kernel::policy::transaction::{Pace, PaceKey};
use crate::kernel::status::CrlStatus;
use crate::kernel::subject::{DataSubject, Period};
use crate::kernel::types::{
    AccountId, ApprovalId, CaseId, CredentialName, Currency, Day, KeyId, MandateId, MerchantId, Money, OwnerId,
    ProductId, Serial, Sha256, SpiffeId, TransactionId, UnixMillis,
};
use crate::kernel::vault::{CredentialCount, CredentialHead, SealedCredential};
use crate::kernel::witness::WitnessedLog;

/// What an owner lets an agent do with an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    pub agent: SpiffeId,
    pub account: AccountId,
    pub owner: OwnerId,
    pub verbs: Vec<Verb>,
    pub per_transaction_max: Option<Money>,
    pub expires: UnixMillis,
    /// The operator who entered it for the owner.
    pub entered_by: String,
    pub asserted: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merchant {
    pub merchant: MerchantId,
    pub name: String,
    pub currency: Currency,
}

/// A merchant's current offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    pub merchant: MerchantId,
    pub product: ProductId,
    pub title: String,
    pub price: Money,
}

/// One posted line of an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryLine {
    pub transaction: Transaction,
    /// Credits positive, debits negative.
    pub amount: i64,
    pub posted_at: UnixMillis,
}

/// What a key that may be used once was used for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// Hash of the request that used it first.
    pub request: Sha256,
    pub transaction_id: Option<TransactionId>,
    /// The case that the request became instead of a transaction.
    pub case_id: Option<CaseId>,
}

/// Whose daily sum it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Counter {
    /// Unattended amounts of an agent, over all its accounts.
    Agent(SpiffeId),
    /// Everything that leaves an account with a daily limit.
    Account(String),
    /// Amounts paid under a mandate; its days are first days of the budget's periods.
    MandateAmount(MandateId),
    /// Payments under a mandate, by first days of its recurrence's periods, and all of them on its [`LIFE`] day.
    ///
    /// [`LIFE`]: crate::kernel::mandate::LIFE
    MandateUses(MandateId),
}

impl Counter {
    /// The text under which it is kept. Accounts' names hold no slash; SPIFFE IDs and what is kept of mandates do, and
    /// begin otherwise.
    pub fn text(&self) -> String {
        match self {
            Self::Agent(agent) => agent.to_string(),
            Self::Account(name) => name.clone(),
            Self::MandateAmount(mandate) => format!("mandate/{mandate}/amount"),
            Self::MandateUses(mandate) => format!("mandate/{mandate}/uses"),
        }
    }
}

/// Where a case stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseState {
    Queued,
    /// The payment goes on when the agent asks again.
    Released,
    Rejected,
    /// Money moved outside; here none ever does.
    PaidElsewhere,
}

impl CaseState {
    pub const ALL: [Self; 4] = [Self::Queued, Self::Released, Self::Rejected, Self::PaidElsewhere];

    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Released => "released",
            Self::Rejected => "rejected",
            Self::PaidElsewhere => "paid_elsewhere",
        }
    }
}

/// A payment that waits for the bank's people instead of moving money.
#[derive(Clone, PartialEq, Debug)]
pub struct ManualCase {
    pub case_id: CaseId,
    pub agent: SpiffeId,
    pub agent_key: KeyId,
    pub state: CaseState,
    pub reason: String,
    /// The idempotency scope that the case answers for; none when it is about a transaction.
    pub scope: Option<Sha256>,
    pub transaction_id: Option<TransactionId>,
    /// Where the transaction stood, and where it goes when the case is released.
    pub resume: Option<TransactionState>,
    /// The call as received.
    pub call: Value,
    pub created: UnixMillis,
    pub decided_by: Option<String>,
    pub decided_at: Option<UnixMillis>,
    pub note: Option<String>,
    /// Who works on it.
    pub taken: Option<Taken>,
    /// What the first of two people said; it stays when the second one has said the same.
    pub proposed: Option<Proposal>,
    /// Where money moved that was paid elsewhere.
    pub reference: Option<String>,
}

impl ManualCase {
    /// Somebody may be paying by hand.
    pub fn is_worked_on(&self) -> bool {
        self.taken.is_some() || self.proposed.is_some()
    }
}

/// Somebody works on a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    pub by: String,
    pub at: UnixMillis,
}

/// The word of the first of two people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Proposal {
    pub verdict: CaseVerdict,
    pub by: String,
    pub at: UnixMillis,
    pub note: String,
}

/// A no of the core banking system to one of its orders.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CoreRefusal {
    pub transaction_id: TransactionId,
    pub verb: CoreVerb,
    /// The core's own name for it.
    pub reason: String,
    pub at: UnixMillis,
}

/// An order of the outbox: what the core banking system must be told, and was not known to have heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutboxRow {
    pub transaction_id: TransactionId,
    pub verb: CoreVerb,
    pub since: UnixMillis,
}

/// A version of the role policy that was put in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyLine {
    /// 1, 2, …
    pub version: u64,
    /// Of its canonical text.
    pub sha256: Sha256,
    /// The roles that it names.
    pub roles: Vec<String>,
    pub by: String,
    pub at: UnixMillis,
}

/// The same with its canonical text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyRecord {
    pub line: PolicyLine,
    pub document: String,
}

/// Where the next posting of this commit goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub batch: i64,
    pub index: u32,
}

/// The rows a decision reads, as they are inside the deciding commit. Grants are unrevoked ones, expired or not.
pub trait Book {
    /// True when any of the marks stands.
    fn any_marked(&self, marks: &[String]) -> Ruled<bool>;
    /// Those of the marks that stand.
    fn standing(&self, marks: &[String]) -> Ruled<HashSet<String>>;
    /// What is known of a mark that stands.
    fn marking(&self, mark: &Mark) -> Ruled<Option<Marking>>;
    fn crl(&self, issuer: &str) -> Ruled<Option<CrlStatus>>;
    fn account(&self, name: &str) -> Ruled<Option<Account>>;
    fn grant(&self, agent: &SpiffeId, account: &AccountId) -> Ruled<Option<Grant>>;
    fn grants(&self, agent: &SpiffeId) -> Ruled<Vec<Grant>>;
    fn mandate(&self, id: &MandateId) -> Ruled<Option<StoredMandate>>;
    /// What this agent was given for this account: of the mandates that are not revoked the [`STANDING_MAX`] that end last,
    /// so that every one that has not ended is among them, and of those that are the one that was revoked last.
    ///
    /// [`STANDING_MAX`]: crate::kernel::mandate::STANDING_MAX
    fn mandates(&self, agent: &SpiffeId, account: &str) -> Ruled<Vec<HeldMandate>>;
    fn merchant(&self, merchant: &MerchantId) -> Ruled<Option<Merchant>>;
    /// Every one that is registered, by domain.
    fn merchants(&self) -> Ruled<Vec<Merchant>>;
    fn offer(&self, merchant: &MerchantId, product: &ProductId) -> Ruled<Option<Offer>>;
    fn offers(&self, merchant: Option<&MerchantId>, limit: u32) -> Ruled<Vec<Offer>>;
    fn transaction(&self, id: &TransactionId) -> Ruled<Option<Transaction>>;
    fn transaction_of_approval(&self, id: &ApprovalId) -> Ruled<Option<Transaction>>;
    fn posted(&self, id: &TransactionId) -> Ruled<Option<Posted>>;
    /// Newest first.
    fn history(&self, account: &str, limit: u32) -> Ruled<Vec<HistoryLine>>;
    /// Open authorizations of this agent that debit the account.
    fn open_holds(&self, agent: &SpiffeId, account: &str) -> Ruled<u32>;
    /// Told which counters may be asked next: a book that is far from its rows fetches them at once.
    fn foresee(&self, _counters: &[(Counter, Day)]) -> Ruled<()> {
        Ok(())
    }
    /// What counts on this day, minor units.
    fn spent(&self, counter: &Counter, day: Day) -> Ruled<i64>;
    /// What a velocity has counted so far.
    fn pace(&self, key: &PaceKey) -> Ruled<Pace>;
    /// Sum of the reversals of this transaction that are posted or waiting, minor units.
    fn reversed(&self, original: &TransactionId) -> Ruled<i64>;
    /// What a single-use key was used for, as far back as keys are kept; `now` says where that begins.
    fn binding(&self, scope: &Sha256, now: UnixMillis) -> Ruled<Option<Binding>>;
    /// Whether a request's nonce was taken. Nonces are kept for at least a day, requests live for minutes.
    fn nonce_used(&self, nonce: &Sha256, now: UnixMillis) -> Ruled<bool>;
    /// Why payments of the whole bank are stopped, if they are.
    fn breaker(&self) -> Ruled<Breaker>;
    fn case(&self, id: &CaseId) -> Ruled<Option<ManualCase>>;
    /// Cases of an agent that wait for their answer and are not about a transaction.
    fn open_cases(&self, agent: &SpiffeId) -> Ruled<u32>;
    /// The signed order of a submitted transaction.
    fn order(&self, id: &TransactionId) -> Ruled<Option<Posted>>;
    /// What the core banking system must still be told about a transaction.
    fn outbox(&self, id: &TransactionId) -> Ruled<Vec<CoreVerb>>;
    /// Open transactions that lapsed, oldest first.
    fn lapsed(&self, now: UnixMillis, limit: u32) -> Ruled<Vec<Transaction>>;
    /// Open transactions of revoked agents, keys or certificates.
    fn open_of_revoked(&self, limit: u32) -> Ruled<Vec<Transaction>>;
    /// How many open transactions these marks void.
    fn open_under(&self, marks: &[String]) -> Ruled<u32>;
    /// Open transactions under this mandate that no core was ordered to pay, those that lapse first before others.
    fn open_under_mandate(&self, mandate: &Mandate, limit: u32) -> Ruled<Vec<Transaction>>;
    fn next_place(&self) -> Ruled<Place>;
    fn batch_is_signed(&self, batch: i64) -> Ruled<Option<Signed>>;
    fn certificate(&self, id: &str) -> Ruled<Option<CertificateRecord>>;
    fn certificate_of_serial(&self, issuer: &str, serial: &Serial) -> Ruled<Option<CertificateRecord>>;
    /// How many of the serial numbers, each named once, this issuer has given.
    fn issued(&self, issuer: &str, serials: &[Serial]) -> Ruled<u32>;
    /// Agents with a certificate of ours and no mark of their own, in order, those behind `after`.
    fn agents_unmarked(&self, after: Option<&SpiffeId>, limit: u32) -> Ruled<Vec<SpiffeId>>;
    fn certificates_of_subject(&self, subject: &str) -> Ruled<Vec<CertificateRecord>>;
    fn certificates_of_key(&self, key: &KeyId) -> Ruled<Vec<CertificateRecord>>;
    fn agent_is_known(&self, agent: &SpiffeId) -> Ruled<bool>;
    fn crl_number(&self, issuer: &str) -> Ruled<u64>;
    /// The newest version of the role policy.
    fn policy(&self) -> Ruled<Option<PolicyLine>>;
    /// What is known of a name, also once it was removed.
    fn credential(&self, _name: &CredentialName) -> Ruled<Option<CredentialHead>> {
        Ok(None)
    }
    fn credential_version(&self, _name: &CredentialName, _version: u64) -> Ruled<Option<SealedCredential>> {
        Ok(None)
    }
    fn credentials(&self) -> Ruled<CredentialCount> {
        Ok(CredentialCount::default())
    }
    /// What is known of an order for signatures, by its scope.
    fn signing(&self, scope: &Sha256) -> Ruled<Option<SigningRow>>;
    /// Every log that was cosigned here, by origin.
    fn witnessed(&self) -> Ruled<Vec<WitnessedLog>>;
    /// What is known of a subject of leaves. Asked only by acts about subjects.
    fn subject(&self, _subject: &DataSubject) -> Ruled<SubjectRow> {
        Ok(SubjectRow::default())
    }
    /// Data keys of months before this one, oldest first, but for those of subjects that are held.
    fn lapsed_keys(&self, _before: Period, _limit: u32) -> Ruled<Vec<i64>> {
        Ok(vec![])
    }
}

/// A subject of leaves: what seals them, and what people have said about it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SubjectRow {
    /// Its data keys that are not destroyed.
    pub keys: Vec<i64>,
    pub held: bool,
    /// Everything is held ([`DataSubject::All`]).
    pub all_held: bool,
    /// The first of the two people who want it erased.
    pub erasure_asked: Option<Said>,
    /// Who released it from a hold last.
    pub released: Option<Said>,
}

/// Whose word it was, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    pub by: String,
    pub at: UnixMillis,
}

/// Whether a batch has its signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signed {
    Yes,
    NotYet,
}

/// One order to the store. Orders of a decision are carried out in turn and always succeed.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    InsertAccount(Account),
    /// Status, balance and hold of an account as they are now.
    UpdateAccount(Account),
    PutMerchant(Merchant),
    PutOffer(Offer),
    PutGrant(Grant),
    RevokeGrant {
        agent: SpiffeId,
        account: AccountId,
        at: UnixMillis,
    },
    /// A mandate as it is now, new or not.
    PutMandate(Box<StoredMandate>),
    InsertTransaction(Transaction),
    /// State, expiry, approval and case of a transaction as they are now.
    UpdateTransaction(Transaction),
    /// Entries and statement of a transaction that moves money now.
    Post {
        transaction: TransactionId,
        entries: Vec<Entry>,
        statement: Vec<u8>,
        at: UnixMillis,
    },
    /// The statement of an order to the core banking system; it takes the next place of the batch.
    Order {
        transaction: TransactionId,
        statement: Vec<u8>,
    },
    /// Adds to a day's sum; negative returns.
    Spend {
        counter: Counter,
        day: Day,
        minor: i64,
    },
    /// What a velocity has counted, as it is now.
    PutPace {
        key: PaceKey,
        pace: Pace,
    },
    Bind {
        scope: Sha256,
        binding: Binding,
        at: UnixMillis,
    },
    /// Frees a key whose case was released.
    Unbind {
        scope: Sha256,
    },
    UseNonce {
        nonce: Sha256,
        at: UnixMillis,
    },
    /// A case as it is now, new or not.
    PutCase(Box<ManualCase>),
    /// A cause that does not stand yet.
    OpenBreaker(Stop),
    LiftBreaker(Cause),
    PutPolicy(Box<PolicyRecord>),
    /// A version of a credential as it is now, new or sealed anew.
    PutCredential(Box<SealedCredential>),
    /// One version, or (none) all of them; what is known of the name stays.
    RemoveCredential {
        name: CredentialName,
        version: Option<u64>,
    },
    /// A log that is cosigned here as it is now, new or not.
    PutWitnessed(Box<WitnessedLog>),
    /// Keeps what the core banking system refused, and its own name for why.
    KeepRefusal(CoreRefusal),
    /// Puts an order into the outbox; one that is there already stays as it is.
    Enqueue(OutboxRow),
    Dequeue {
        transaction: TransactionId,
        verb: CoreVerb,
    },
    JournalCertificate(CertificateRecord),
    ReleaseCertificate {
        id: String,
        der: Vec<u8>,
    },
    /// Marks something as revoked or frozen; what is marked already stays as it was.
    Revoke {
        mark: Mark,
        at: UnixMillis,
        reason: String,
    },
    /// Takes a mark away that may be: a freeze, or everyone once each has a mark of their own.
    Lift(Mark),
    /// Keeps who was the first to ask that a freeze be lifted.
    AskThaw {
        whom: Whom,
        by: String,
    },
    /// The freshness of an imported CRL; its serial numbers come as [`Change::Revoke`].
    PutCrl {
        issuer: String,
        status: CrlStatus,
    },
    PutCrlNumber {
        issuer: String,
        number: u64,
    },
    SignBatch {
        batch: i64,
        signature: Vec<u8>,
        key: KeyId,
    },
    HoldSubject {
        subject: DataSubject,
        by: String,
        at: UnixMillis,
        reason: String,
    },
    ReleaseSubject {
        subject: DataSubject,
        by: String,
        at: UnixMillis,
    },
    /// Keeps who was the first to ask that a subject be erased.
    AskErasure {
        subject: DataSubject,
        by: String,
        at: UnixMillis,
        reason: String,
    },
    /// Destroys these data keys for ever. `left` stands where the subject's name was; `forget`: what is kept of the
    /// subject besides goes too. Nothing is sealed under them any more, by any daemon.
    DestroyKeys {
        keys: Vec<i64>,
        left: String,
        forget: Option<DataSubject>,
        at: UnixMillis,
    },
    /// An order for signatures that is new.
    PutSigning(Box<SigningRow>),
    /// Signatures of an order that has none.
    KeepSignatures {
        scope: Sha256,
        signatures: Vec<u8>,
    },
    /// Every open transaction of what was revoked so far is released.
    RevocationsSwept,
}

/// Since when and why a mark stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marking {
    pub at: UnixMillis,
    pub reason: String,
    /// Of a freeze: the first of the two people who want it lifted.
    pub thaw_asked_by: Option<String>,
}

/// What a revocation names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mark {
    Agent(SpiffeId),
    Key(KeyId),
    /// A certificate of one of our issuers.
    Certificate {
        issuer: String,
        serial: Serial,
    },
    /// A certificate that another party's CRL names.
    Imported {
        issuer: String,
        serial: Serial,
    },
    /// Everything under an issuing CA, by its subject key identifier.
    Issuer(String),
    /// Every agent of ours.
    Everyone,
    /// Not revoked, but not served until two people say so.
    Frozen(Whom),
}

impl Mark {
    /// The text under which it is kept and looked up.
    pub fn text(&self) -> String {
        match self {
            Self::Agent(agent) => format!("agent:{agent}"),
            Self::Key(key) => format!("key:{key}"),
            Self::Certificate { issuer, serial } | Self::Imported { issuer, serial } => {
                format!("cert:{issuer}:{serial}")
            }
            Self::Issuer(issuer) => format!("issuer:{issuer}"),
            Self::Everyone => "everyone".into(),
            Self::Frozen(Whom::Agent(agent)) => format!("frozen:{agent}"),
            Self::Frozen(Whom::Everyone) => "frozen:everyone".into(),
        }
    }

    /// How a row of it says what it is: its kind, its issuer if there is one, and its value.
    pub fn columns(&self) -> (&'static str, Option<&str>, String) {
        match self {
            Self::Agent(agent) => ("agent", None, agent.to_string()),
            Self::Key(key) => ("key", None, key.hex()),
            Self::Certificate { issuer, serial } => ("certificate", Some(issuer), serial.hex()),
            Self::Imported { issuer, serial } => ("imported", Some(issuer), serial.hex()),
            Self::Issuer(issuer) => ("issuer", None, issuer.clone()),
            Self::Everyone => ("everyone", None, String::new()),
            Self::Frozen(Whom::Agent(agent)) => ("frozen", None, agent.to_string()),
            Self::Frozen(Whom::Everyone) => ("frozen", None, String::new()),
        }
    }
}
