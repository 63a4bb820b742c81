//! The vocabulary between services and the store: what is asked, by whom, and what came of it.
//!
//! A [`Command`] is decided, recorded and audited in one commit. It carries everything the decision needs that is
//! not in the store: time, randomness, ids, rules. The decision itself is pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kernel::approval::Evidence;
use crate::kernel::breaker::Cause;
use crate::kernel::external::{SigningOrder, SigningRow};
use crate::kernel::ledger::{AccountStatus, FeeRule};
use crate::kernel::mandate::VerifiedMandate;
use crate::kernel::monitor::Assessment;
use crate::kernel::policy::merchants::MerchantList;
use crate::kernel::policy::role::Policy;
use crate::kernel::policy::transaction::{TransactionRules, Why};
use crate::kernel::quorum::{GateRule, OWNER, Side};
use crate::kernel::refusal::Refusal;
use crate::kernel::subject::{DataSubject, Period};
use crate::kernel::text::OnHostile;
use crate::kernel::types::{
    AccountId, ApprovalId, CaseId, Currency, IdempotencyKey, KeyId, MandateId, MerchantId, Money, NodeId, OperatorName,
    OwnerId, ProductId, RequestId, RoleName, Serial, Sha256, SpiffeId, TransactionId, UnixMillis,
};
use crate::kernel::vault::{VaultAct, VaultEffect};
use crate::kernel::witness::{Head, Submission, Verdict as WitnessVerdict};
use crate::kernel::zone::Zone;

/// Who asks. Only a verified connection or peer credentials make one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    Agent(AgentPrincipal),
    Operator(OperatorPrincipal),
    /// Another program of this machine, at the signing service.
    Program(ProgramPrincipal),
    /// The daemon itself: sweeper, sequencer, set-up.
    System {
        component: String,
    },
}

impl Actor {
    /// The agent's SPIFFE ID, the operator's name, `program:` and its user, or `system:` and the component.
    pub fn name(&self) -> String {
        match self {
            Self::Agent(agent) => agent.spiffe_id.to_string(),
            Self::Operator(operator) => operator.name.to_string(),
            Self::Program(program) => format!("program:{}", program.user_or_uid()),
            Self::System { component } => format!("system:{component}"),
        }
    }
}

/// An agent as its certificate pair names it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AgentPrincipal {
    pub spiffe_id: SpiffeId,
    pub key: KeyId,
    /// Subject key identifier of the bank's issuing CA, hexadecimal, and B's serial number.
    pub bank_issuer: String,
    pub bank_serial: Serial,
    /// The same of S.
    pub company_issuer: String,
    pub company_serial: Serial,
    /// The earlier of both certificates' notAfter.
    pub not_after: UnixMillis,
}

/// A human at the admin socket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OperatorPrincipal {
    pub name: OperatorName,
    pub uid: u32,
    pub roles: Vec<String>,
    /// True when the name was chosen with `--operator` in a demo instead of proven.
    pub asserted: bool,
    /// The customer that the person is, as enrolled or configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerId>,
}

impl OperatorPrincipal {
    /// Whether this person is the owner of that name, whatever they are called as an operator.
    pub fn is_owner(&self, owner: &str) -> bool {
        self.name.as_str() == owner || self.owner.as_ref().is_some_and(|own| own.as_str() == owner)
    }

    /// A customer and nothing else: no role of the bank's own.
    pub fn is_only_owner(&self) -> bool {
        self.roles.iter().all(|role| role == OWNER)
    }
}

/// The signature of the request that a command came with, which was verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestSignature {
    /// Of the signature base (RFC 9421, 2.5), by the hash of the signature's algorithm. The base itself has the access
    /// token in it, and is not kept.
    pub base_digest: Vec<u8>,
    /// As it travelled: r ‖ s.
    pub bytes: Vec<u8>,
    /// When the request says that it was made.
    pub created: UnixMillis,
}

/// What a request of an agent proves of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestProof {
    /// What makes it single-use, if it has an effect: taken in the commit of whatever comes of it.
    pub nonce: Option<Sha256>,
    /// None: nobody signed it, which happens only inside this process.
    pub signature: Option<RequestSignature>,
}

/// A program as the kernel of this machine names it: the credentials of its end of a local socket.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ProgramPrincipal {
    pub uid: u32,
    pub gid: u32,
    /// The name that the machine had for the user when the daemon started, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl ProgramPrincipal {
    /// The user's name, or the number where it has none.
    pub fn user_or_uid(&self) -> String {
        self.user.clone().unwrap_or_else(|| self.uid.to_string())
    }
}

/// What every command carries besides its act.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamp {
    pub request_id: RequestId,
    pub wall: UnixMillis,
    pub boot_ms: i64,
    /// Hides a guessable leaf body: the leaf commits to SHA-256(salt ‖ body).
    pub leaf_salt: [u8; 32],
    /// What makes the request single-use: the hash of its signature's key and nonce. Taken in the commit of whatever
    /// comes of it; a second time it is `nonce_replayed`. None: the channel itself cannot be replayed.
    pub nonce: Option<Sha256>,
    /// Of the request, where there was one: part of the leaf.
    pub signature: Option<RequestSignature>,
    /// Boot clock, milliseconds: not to be decided at or after it. Somebody else lets us serve until then.
    pub commit_before: Option<i64>,
}

/// One unit of work for the store.
#[derive(Clone, Debug)]
pub struct Command {
    pub stamp: Stamp,
    pub actor: Actor,
    pub act: Act,
}

/// The rules in force for money acts, versioned and shared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rules {
    pub policy_version: String,
    pub catalogue_version: u64,
    /// Tools of each role: the signed catalogue narrowed by local policy.
    pub role_tools: BTreeMap<RoleName, Vec<String>>,
    /// The policy in force; none: settings and catalogue alone decide. `role_tools` are narrowed by it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// The version of a policy that is in force and that this node cannot read: `policy` is one that was replaced, and
    /// nothing is decided by it. None: it is the one in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_unreadable: Option<u64>,
    pub merchants_allowed: MerchantList,
    /// Above it → `requires_approval`.
    pub unattended_per_transaction: Money,
    /// Above it (executed and held today, approved ones apart) → `requires_approval`.
    pub unattended_per_day: Money,
    /// Above it → denied. None: no ceiling.
    pub deny_above: Option<Money>,
    pub authorization_ttl_ms: i64,
    pub approval_ttl_ms: i64,
    pub open_holds_max: u32,
    /// What is asked besides, by role, agent, account and kind; they only narrow.
    #[serde(default)]
    pub transactions: TransactionRules,
    /// When true an agent needs a CRL of the security company that is not past its next update.
    pub company_crl_required: bool,
    /// What payments cost; the first rule that fits counts.
    pub fees: Vec<FeeRule>,
    pub settlement: Settlement,
    /// Who decides about what waits for a human. Empty: one approver of the bank.
    pub gates: Vec<GateRule>,
    /// Whether a word counts that nobody's key signed, where no rule names gates.
    pub unsigned_approvals: bool,
    /// Above it a case of the manual queue takes two people. None: one is enough for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual_two_people_above: Option<Money>,
    /// Why this node makes no payment now, in words; the other nodes may. None: it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_here: Option<String>,
}

/// Which book is the bank's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settlement {
    /// This store's ledger: a payment is posted when it is executed.
    Embedded,
    /// A core banking system's: held, settled and released there first, and posted here when it says so.
    External,
}

impl Settlement {
    pub const ALL: [Self; 2] = [Self::Embedded, Self::External];

    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::External => "external",
        }
    }
}

/// What the core banking system is asked for one transaction. Each is idempotent by transaction and verb.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoreVerb {
    Hold,
    Settle,
    Release,
}

impl CoreVerb {
    pub const ALL: [Self; 3] = [Self::Hold, Self::Settle, Self::Release];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Settle => "settle",
            Self::Release => "release",
        }
    }
}

/// What the core banking system said for certain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoreWord {
    Done,
    /// With the core's own name for it.
    Refused(String),
}

/// How a transaction or approval is named by the caller.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorizationRef {
    TransactionId(TransactionId),
    ApprovalId(ApprovalId),
}

/// An agent's tool call, parsed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "tool", rename_all = "snake_case")]
pub enum ToolCall {
    ListAccounts {},
    GetAccountBalance {
        account_id: AccountId,
    },
    ListTransactions {
        account_id: AccountId,
        limit: u32,
    },
    SearchProducts {
        query: String,
        max_price: Option<Money>,
        merchant: Option<MerchantId>,
    },
    AuthorizePurchase {
        product_id: ProductId,
        price: Money,
        merchant: MerchantId,
        from_account: Option<AccountId>,
        idempotency_key: IdempotencyKey,
    },
    ExecutePurchase {
        transaction_id: TransactionId,
        product_id: ProductId,
    },
    AuthorizeTransfer {
        from_account: Option<AccountId>,
        to_account: AccountId,
        amount: Money,
        idempotency_key: IdempotencyKey,
    },
    ExecuteTransfer {
        transaction_id: TransactionId,
        from_account: Option<AccountId>,
        to_account: AccountId,
        amount: Money,
    },
    CancelAuthorization {
        reference: AuthorizationRef,
    },
    GetTransaction {
        transaction_id: TransactionId,
    },
    GetApprovalStatus {
        approval_id: ApprovalId,
    },
    RequestReversal {
        transaction_id: TransactionId,
        amount: Option<Money>,
        idempotency_key: IdempotencyKey,
    },
}

impl ToolCall {
    /// Every [`ToolCall::tool`].
    pub const NAMES: [&str; 12] = [
        "list_accounts",
        "get_account_balance",
        "list_transactions",
        "search_products",
        "authorize_purchase",
        "execute_purchase",
        "authorize_transfer",
        "execute_transfer",
        "cancel_authorization",
        "get_transaction",
        "get_approval_status",
        "request_reversal",
    ];

    /// The MCP tool name.
    pub fn tool(&self) -> &'static str {
        match self {
            Self::ListAccounts {} => "list_accounts",
            Self::GetAccountBalance { .. } => "get_account_balance",
            Self::ListTransactions { .. } => "list_transactions",
            Self::SearchProducts { .. } => "search_products",
            Self::AuthorizePurchase { .. } => "authorize_purchase",
            Self::ExecutePurchase { .. } => "execute_purchase",
            Self::AuthorizeTransfer { .. } => "authorize_transfer",
            Self::ExecuteTransfer { .. } => "execute_transfer",
            Self::CancelAuthorization { .. } => "cancel_authorization",
            Self::GetTransaction { .. } => "get_transaction",
            Self::GetApprovalStatus { .. } => "get_approval_status",
            Self::RequestReversal { .. } => "request_reversal",
        }
    }
}

/// Fresh ids a tool call may need; unused ones are dropped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FreshIds {
    pub transaction: TransactionId,
    pub approval: ApprovalId,
    pub case: CaseId,
    /// 32 random bytes: what people sign about this transaction fits nothing else.
    pub nonce: Sha256,
}

/// A customer's account to be opened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewAccount {
    pub account: AccountId,
    pub owner: OwnerId,
    pub currency: Currency,
    pub opening: Option<Money>,
    /// How far below zero it may go.
    #[serde(default)]
    pub overdraft: Option<Money>,
    /// The most that may leave on one local day.
    #[serde(default)]
    pub day_max: Option<Money>,
    /// Where its days begin and end.
    pub zone: Zone,
}

/// A human's answer to an approval.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Approve,
    Deny,
}

/// A human's answer to a case of the manual queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseVerdict {
    /// The payment goes on when the agent asks again.
    Release,
    /// It ends, and what it holds goes back.
    Reject,
    /// It ends too: money moved outside, under this reference.
    PaidElsewhere { reference: String },
}

impl CaseVerdict {
    /// What the case is called afterwards.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Release => "released",
            Self::Reject => "rejected",
            Self::PaidElsewhere { .. } => "paid_elsewhere",
        }
    }
}

/// From whom a case may be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TakeFrom {
    Nobody,
    /// From whoever works on it.
    Anybody,
}

/// How far a case has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CaseStep {
    /// `before`: from whom it was taken over.
    Taken {
        by: String,
        before: Option<String>,
    },
    /// One of two people has said it.
    Proposed {
        verdict: CaseVerdict,
        by: String,
    },
    Decided {
        verdict: CaseVerdict,
    },
}

impl CaseStep {
    /// `taken`, `proposed`, or what the case is called now.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "taken",
            Self::Proposed { .. } => "proposed",
            Self::Decided { verdict } => verdict.status(),
        }
    }
}

/// What an agent may do with an account.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Read,
    Purchase,
    Transfer,
    Reverse,
}

/// What is revoked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationTarget {
    /// Every pair of the agent, and its key, for ever.
    Agent(SpiffeId),
    /// Subject key identifier of the issuing CA (hexadecimal) and serial number.
    Certificate { issuer: String, serial: Serial },
    /// Many certificates of one of our CAs: all or none of them.
    Certificates { issuer: String, serials: Vec<Serial> },
    /// Known here or not: no certificate is ever made over it again.
    Key(KeyId),
    /// An issuing CA, ours or another party's, by its subject key identifier (hexadecimal): nothing under it is accepted
    /// any more. `certificates`: what our own root has issued for it, by issuer and serial number.
    Issuer { issuer: String, certificates: Vec<(String, Serial)> },
    /// Every agent that has a certificate of ours now. One row stands for all of them until they have rows of their own
    /// ([`Act::SpreadRevocation`]); until then no agent gets a certificate.
    Everyone,
}

/// Who is frozen.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    Agent(SpiffeId),
    /// Every agent, those included that come later.
    Everyone,
}

/// A certificate that one of our CAs issued, in its two phases.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CertificateRecord {
    /// `crt_` + ULID
    pub id: String,
    /// Profile name: `issuing`, `agent-s`, `agent-b`, `tls-server`, …
    pub profile: String,
    /// Agent's SPIFFE ID, or the subject's common name.
    pub subject: String,
    /// Subject key identifier of the issuer, hexadecimal.
    pub issuer: String,
    pub serial: Serial,
    pub key: KeyId,
    pub not_after: UnixMillis,
    /// TBSCertificate, DER: durable before it is signed.
    pub tbs: Vec<u8>,
    /// The whole certificate, DER: the first signature stored is the only one ever released.
    pub der: Option<Vec<u8>>,
}

/// What people decide about a subject of leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SubjectStep {
    /// Nothing of it is erased, by nobody, until it is released.
    Hold {
        reason: String,
    },
    Release {
        reason: String,
    },
    /// Takes two people: the first call is kept, the second one, by somebody else, destroys the keys. `pseudonym` is
    /// what is left of the name, a hash that nobody can guess back.
    Erase {
        reason: String,
        pseudonym: Sha256,
    },
}

/// What a command does.
#[derive(Clone, Debug)]
pub enum Act {
    /// An agent's tool call under these rules. `parameters` is the call as received, for the leaf.
    Tool {
        call: ToolCall,
        rules: Arc<Rules>,
        fresh: FreshIds,
        /// What the monitor said about it; none: nobody watches.
        risk: Option<Box<Assessment>>,
    },

    // The bank's people and systems
    OpenAccount(NewAccount),
    /// Freezes, thaws or closes a customer's account. Thawing takes another person than freezing.
    SetAccountStatus {
        account: AccountId,
        status: AccountStatus,
        reason: String,
    },
    /// One posting between two accounts of the book that no agent asked for: interest, fees, corrections by the
    /// bank's own jobs; an officer may charge a fee. Idempotent by reference; names as in [`Account::name`].
    ///
    /// [`Account::name`]: crate::kernel::ledger::Account::name
    Transfer {
        debit: String,
        credit: String,
        amount: Money,
        reference: IdempotencyKey,
    },
    /// The bank's own request to reverse an executed payment; another person approves it.
    ReverseTransaction {
        transaction_id: TransactionId,
        amount: Option<Money>,
        idempotency_key: IdempotencyKey,
        rules: Arc<Rules>,
        fresh: FreshIds,
    },
    /// Puts a role policy in force, unless another version than `expects` is (0: none). The same one again changes
    /// nothing.
    ApplyPolicy {
        policy: Box<Policy>,
        expects: u64,
    },
    /// Stops all payments by agents for a cause (`Some` reason), or lifts that cause. Idempotent.
    SetBreaker {
        cause: Cause,
        reason: Option<String>,
        /// Which node a cause stops that stops one alone. None: the cause stops the whole bank.
        node: Option<NodeId>,
    },
    /// A person works on a case from now on. Idempotent.
    TakeCase {
        case: CaseId,
        from: TakeFrom,
    },
    /// A person's word on a case. Above the rules' threshold it stands when another person says the same.
    ResolveCase {
        case: CaseId,
        verdict: CaseVerdict,
        note: String,
        rules: Arc<Rules>,
    },
    /// Hands an open transaction to the bank's people; its funds stay held.
    QueueManual {
        transaction_id: TransactionId,
        case: CaseId,
        reason: String,
    },
    /// What the core banking system answered: takes the order off the outbox and does what follows from it.
    CoreAnswered {
        transaction_id: TransactionId,
        verb: CoreVerb,
        word: CoreWord,
    },
    /// Money from outside the bank arrives on an account; idempotent by reference.
    IncomingPayment {
        account: AccountId,
        amount: Money,
        reference: IdempotencyKey,
    },
    /// Refused when its domain or its name looks like a registered one's, unless somebody has looked at it.
    AddMerchant {
        merchant: MerchantId,
        name: String,
        currency: Currency,
        looks_like_accepted: bool,
        on_hostile: OnHostile,
    },
    AddProduct {
        merchant: MerchantId,
        product: ProductId,
        title: String,
        price: Money,
        on_hostile: OnHostile,
    },
    AddGrant {
        agent: SpiffeId,
        account: AccountId,
        owner: OwnerId,
        verbs: Vec<Verb>,
        per_transaction_max: Option<Money>,
        expires: UnixMillis,
    },
    RevokeGrant {
        agent: SpiffeId,
        account: AccountId,
    },
    /// Enters a mandate that the account's owner has signed; its signature was verified by the caller.
    AddMandate {
        mandate: Box<VerifiedMandate>,
    },
    /// For the bank's people, and for the owner.
    RevokeMandate {
        mandate: MandateId,
        reason: String,
    },
    /// One person's word at a gate of an approval: the account owner's consent or the bank's approval.
    DecideApproval {
        approval: ApprovalId,
        side: Side,
        verdict: Verdict,
        note: String,
        /// What the person's key signed. None: known by user id, or asserted in a demo.
        evidence: Option<Box<Evidence>>,
    },
    /// Releases holds of expired authorizations and approvals, and of revoked agents.
    Sweep {
        limit: u32,
    },

    // Certificates
    /// Phase one: the TBS is durable. Refused `already_exists` when the serial number was used.
    JournalCertificate {
        record: CertificateRecord,
    },
    /// Phase two: the finished certificate. A second signature for the same id answers the first.
    ReleaseCertificate {
        id: String,
        der: Vec<u8>,
    },
    Revoke {
        target: RevocationTarget,
        reason: String,
    },
    /// Gives the next agents of a revocation of everyone rows of their own; when none is left, that one goes.
    SpreadRevocation {
        /// The last one that has; none: from the beginning.
        after: Option<SpiffeId>,
        limit: u32,
    },
    /// Refused until unfrozen; nothing is voided.
    Freeze {
        whom: Whom,
        reason: String,
    },
    /// Takes two people: the first call is kept, the second one, by somebody else, lifts the freeze.
    Unfreeze {
        whom: Whom,
        note: String,
    },
    /// Another party's CRL, verified by the caller: replaces the view of that issuer when newer.
    ImportCrl {
        issuer: String,
        number: u64,
        this_update: UnixMillis,
        next_update: UnixMillis,
        serials: Vec<Serial>,
    },
    /// The number of the next CRL of our issuer, never used twice.
    NextCrlNumber {
        issuer: String,
    },

    /// A credential of the systems behind us: kept, let read, removed, sealed anew.
    Vault(VaultAct),

    // The audit log and signatures over batches
    /// What people decide about all that leaves say of one subject.
    Subject {
        subject: DataSubject,
        step: SubjectStep,
    },
    /// Destroys data keys of months before this one, whose time is over; those of held subjects stay. For the daemon.
    LapseKeys {
        before: Period,
        limit: u32,
    },
    /// Stores the transaction key's signature over a batch root. The first stored one stands.
    SignBatch {
        batch: i64,
        signature: Vec<u8>,
        key: KeyId,
    },
    /// Another party's checkpoint, its signature verified by the caller: what is remembered of its log is durable before
    /// it is cosigned. Repeating it changes nothing.
    Witness(Box<Submission>),
    /// A person has looked at a log that is not cosigned any more: it is again; from `head` on, which halted it, once two
    /// people have said so.
    AcceptLog {
        origin: String,
        head: Option<Head>,
        reason: String,
    },
    /// Signatures for another program, by a key of purpose `external`; it may have them. Recorded before they are made.
    /// With an idempotency key the same request answers the same, and another one under it is refused.
    SignExternal(Box<SigningOrder>),
    /// Keeps the signatures that were made for such an order. The first stored ones stand, and are the answer.
    KeepSignatures {
        scope: Sha256,
        signatures: Vec<u8>,
    },
    /// A decision that has no state of its own but needs a leaf: enrolment steps, refusals before a commit.
    Record {
        tool: String,
        decision: Value,
    },
}

/// What came of a command, with the place of its leaf.
#[derive(Clone, Debug)]
pub struct Decision {
    pub outcome: Result<Effect, Refusal>,
    /// The leaf of this decision; `None` only for acts that write no leaf (`SignBatch`,
    /// `KeepSignatures`, an empty `Sweep`).
    pub leaf: Option<LeafRef>,
}

/// A leaf that was written in the same commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeafRef {
    pub row: i64,
    pub commitment: Sha256,
}

/// What a permitted command did.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// A read tool's structured answer.
    Answer(Value),
    /// `mandate`: the owner's mandate under which it is paid.
    Approved {
        transaction_id: TransactionId,
        mandate: Option<MandateId>,
    },
    RequiresApproval {
        approval_id: ApprovalId,
        transaction_id: TransactionId,
        expires: UnixMillis,
        /// What is waited for: `owner_consent_pending`, `bank_approval_pending 1 of 2`.
        pending: Vec<String>,
        /// Which rule asked for it; empty when it is answered again.
        why: Vec<Why>,
        mandate: Option<MandateId>,
    },
    /// Money moved, now or (`repeated`) earlier. The receipt waits for the batch's signature.
    Posted(Posted),
    /// The order is durable and will be, or has been, sent to the core banking system. Its place in the batch is the
    /// order's.
    Submitted(Posted),
    /// Nothing moved; the bank's people decide under this case.
    QueuedManual {
        case_id: CaseId,
        transaction_id: Option<TransactionId>,
        reason: String,
    },
    Cancelled {
        transaction_id: TransactionId,
    },
    Decided {
        approval_id: ApprovalId,
        transaction_id: TransactionId,
        verdict: Verdict,
        /// The gates that are still open: empty when this word decided it.
        pending: Vec<String>,
        /// The posting that this word let: of a reversal, which waits for nothing else.
        posted: Option<Posted>,
    },
    Swept {
        released: u32,
    },
    Revoked {
        certificates: u32,
        authorizations: u32,
        already: bool,
    },
    /// The mandate is revoked for ever; `authorizations`: open ones under it, which are void with it. `changed` is false
    /// when it was revoked already.
    MandateRevoked {
        authorizations: u32,
        changed: bool,
    },
    /// Agents of a revocation of everyone that have rows of their own now.
    Spread {
        agents: u32,
        /// Where the next portion begins; none: nothing is left.
        last: Option<SpiffeId>,
    },
    Frozen {
        already: bool,
    },
    /// Unfrozen, or waiting for the second person.
    Unfrozen {
        by: Thaw,
    },
    /// This version of the role policy is in force; `changed` is false when it was already.
    PolicyInForce {
        version: u64,
        changed: bool,
    },
    /// A person worked on a case.
    CaseWorked {
        case_id: CaseId,
        transaction_id: Option<TransactionId>,
        step: CaseStep,
    },
    /// The first of two people has asked that these data keys be destroyed.
    ErasureAsked {
        keys: u32,
    },
    /// What was sealed under so many data keys is erased; 0: there was nothing, and nobody had asked.
    Erased {
        keys: u32,
        trail: Option<Box<ErasureTrail>>,
    },
    /// So many data keys were destroyed because their time was over.
    Lapsed {
        keys: u32,
    },
    /// A certificate as it stands: `der` is the released one.
    Certificate(CertificateRecord),
    CrlNumber(u64),
    /// What came of an act on a credential.
    Vault(Box<VaultEffect>),
    /// What became of a checkpoint that was handed in.
    Witnessed(Box<WitnessVerdict>),
    /// People go on with another party's log from a head that they name: one has said so, or both.
    LogAccepted {
        by: Thaw,
    },
    /// An order for signatures, as it is known with an idempotency key; `repeated`: it, or what was to be kept of it, was
    /// there before.
    Signing {
        known: Option<Box<SigningRow>>,
        repeated: bool,
    },
    /// Done; nothing to tell. `changed` is false when a repeat found everything in place.
    Done {
        changed: bool,
    },
}

/// How far two people are with what one alone may not do: a freeze that is lifted, a history that is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thaw {
    /// One person has asked for it.
    OneOfTwo,
    /// Two have: it is done.
    Both,
}

/// Who else had a part in an erasure. The leaves about it went with the subject; these words stay in the one that does not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErasureTrail {
    /// The first of the two people.
    pub asked_by: String,
    pub asked_at: UnixMillis,
    /// Who ended the last legal hold, and when.
    pub released: Option<(String, UnixMillis)>,
}

/// A posted transaction and its place in the batch whose root is signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Posted {
    pub transaction_id: TransactionId,
    pub batch: i64,
    pub index_in_batch: u32,
    /// The canonical statement of what moved; `kernel::merkle::leaf_hash` of it is the batch leaf.
    pub statement: Vec<u8>,
    pub repeated: bool,
}

/// `statement` of a posted transaction, as canonical JSON (RFC 8785): minor units as decimal strings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransactionStatement {
    // In the order of the canonical form, so that nothing is moved when it is written.
    pub agent: Option<SpiffeId>,
    pub agent_key: Option<KeyId>,
    pub amount_minor: String,
    pub approval_id: Option<ApprovalId>,
    pub approver: Option<String>,
    pub catalogue_version: String,
    pub credit_account: String,
    pub currency: Currency,
    pub debit_account: String,
    /// What the payer paid besides; absent when nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_minor: Option<String>,
    pub kind: String,
    /// The owner's mandate under which it was paid; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandate_id: Option<MandateId>,
    pub merchant: Option<MerchantId>,
    /// The transaction that a reversal undoes.
    #[serde(default)]
    pub original_transaction_id: Option<TransactionId>,
    pub policy_version: String,
    pub posted_at: String,
    pub product_id: Option<ProductId>,
    pub schema: String,
    pub transaction_id: TransactionId,
}
