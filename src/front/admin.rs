//! The admin socket's vocabulary: what the CLI asks a daemon. One JSON object a line, one answer a line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kernel::command::{Verb, Verdict};
use crate::kernel::types::{
    AccountId, AgentName, ApprovalId, Currency, IdempotencyKey, MerchantId, Money, OwnerId, PartyName, ProductId,
    RoleName, TransactionId,
};
use crate::ops::failure::Failure;

/// One request on the admin socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminRequest {
    /// In a demo with asserted operators: which operator of this uid is meant.
    #[serde(default)]
    pub operator: Option<String>,
    pub call: AdminCall,
}

/// The answer: `{"ok": …}` or `{"error": …}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminAnswer {
    Ok(Value),
    Error(Failure),
}

/// Every administrative verb. PEM and JSON documents travel as text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", content = "args", rename_all = "snake_case", deny_unknown_fields)]
pub enum AdminCall {
    Status {},
    Doctor {},

    // ca: set-up
    InitParty {},
    TrustAdd {
        party: PartyName,
        root_pem: String,
        issuing_pem: String,
    },
    HostShow {},
    HostEnrol {
        host: Value,
    },
    CatalogueSign {
        catalogue: Value,
    },
    CatalogueInstall {
        catalogue: Value,
    },

    // ca: certificates
    CertRequest {
        name: AgentName,
        role: RoleName,
        endorsement_pem: Option<String>,
    },
    CertEndorse {
        request: Value,
    },
    CertIssue {
        request: Value,
    },
    CertInstall {
        name: AgentName,
        bank_pem: String,
        endorsement_pem: String,
    },
    CertList {},
    CertShow {
        name: AgentName,
    },
    Revoke {
        target: String,
        reason: String,
        dry_run: bool,
    },
    CrlExport {},
    CrlImport {
        crl_pem: String,
    },

    // the bank's book
    AccountOpen {
        account: AccountId,
        owner: OwnerId,
        currency: Currency,
        opening: Option<Money>,
    },
    AccountList {},
    AccountIncoming {
        account: AccountId,
        amount: Money,
        reference: IdempotencyKey,
    },
    MerchantAdd {
        merchant: MerchantId,
        name: String,
        currency: Currency,
    },
    MerchantList {},
    ProductAdd {
        merchant: MerchantId,
        product: ProductId,
        title: String,
        price: Money,
    },
    ProductList {},
    GrantAdd {
        agent: AgentName,
        account: AccountId,
        owner: OwnerId,
        verbs: Vec<Verb>,
        per_transaction_max: Option<Money>,
        days: u32,
    },
    GrantRevoke {
        agent: AgentName,
        account: AccountId,
    },
    GrantList {},
    ApprovalsList {},
    ApprovalsShow {
        approval: ApprovalId,
    },
    ApprovalsDecide {
        approval: ApprovalId,
        verdict: Verdict,
        note: String,
    },
    TransactionList {},
    LedgerCheck {},

    // audit
    Receipt {
        transaction: TransactionId,
    },
    AuditShow {
        limit: u32,
    },
    AuditCheck {},
}
