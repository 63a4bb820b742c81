//! What a caller of the bank wants, in a form that survives the process: after a kill the same wish is asked again.

use std::sync::Arc;

use countersign::kernel::breaker::Cause;
use countersign::kernel::command::*;
use countersign::kernel::decide::{CORE_COMPONENT, OutboxRow};
use countersign::kernel::ledger::AccountStatus;
use countersign::kernel::quorum::Side;
use countersign::kernel::text::OnHostile;
use countersign::kernel::types::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::town::Town;

/// One intent. Asked again it must never move money twice.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "snake_case")]
pub enum Wish {
    /// An agent, by its number, calls a tool.
    Tool {
        agent: u32,
        call: ToolCall,
    },
    Open(NewAccount),
    Incoming {
        account: AccountId,
        amount: Money,
        reference: IdempotencyKey,
    },
    Merchant {
        merchant: MerchantId,
        currency: Currency,
    },
    Product {
        merchant: MerchantId,
        product: ProductId,
        price: Money,
    },
    Enrol {
        agent: u32,
    },
    Grant {
        agent: u32,
        account: AccountId,
        owner: OwnerId,
    },
    RevokeGrant {
        agent: u32,
        account: AccountId,
    },
    Decide {
        approval: ApprovalId,
        approve: bool,
    },
    Sweep {
        limit: u32,
    },
    RevokeAgent {
        agent: u32,
    },
    FreezeAgent {
        agent: u32,
    },
    /// The first of two people asks for the end of a freeze, or the second.
    ThawAgent {
        agent: u32,
        second: bool,
    },
    /// A posting of the bank's own jobs.
    Booking {
        debit: String,
        credit: String,
        amount: Money,
        reference: IdempotencyKey,
    },
    /// The bank's officers ask for a reversal.
    Reverse {
        transaction: TransactionId,
        amount: Option<Money>,
        key: IdempotencyKey,
    },
    Freeze {
        account: AccountId,
        frozen: bool,
    },
    /// Payments are stopped, or go on.
    Breaker {
        open: bool,
    },
    ResolveCase {
        case: CaseId,
        approve: bool,
    },
    /// The core banking system answers an order.
    CoreSays {
        transaction: TransactionId,
        verb: CoreVerb,
        word: CoreWord,
    },
}

impl Wish {
    /// What the core says to this order: always the same, as it would. It holds nothing for every ninth transaction, and
    /// settles nothing for every eleventh.
    pub fn of_core(row: &OutboxRow) -> Self {
        let number = row.transaction_id.as_str().bytes().map(u32::from).sum::<u32>();
        let refuses = match row.verb {
            CoreVerb::Hold => number % 9 == 0,
            CoreVerb::Settle => number % 11 == 0,
            CoreVerb::Release => false,
        };
        let word = if refuses { CoreWord::Refused("limit".into()) } else { CoreWord::Done };
        Self::CoreSays { transaction: row.transaction_id.clone(), verb: row.verb, word }
    }

    /// The command that asks for it now.
    pub fn command(&self, town: &Town, stamp: Stamp, fresh: FreshIds) -> Command {
        let (actor, act) = match self.clone() {
            Self::Tool { agent, call } => {
                (Actor::Agent(town.agent(agent)), Act::Tool { call, rules: Arc::clone(&town.rules), fresh, risk: None })
            }
            Self::Open(new) => (town.administrator(), Act::OpenAccount(new)),
            Self::Incoming { account, amount, reference } => {
                (town.administrator(), Act::IncomingPayment { account, amount, reference })
            }
            Self::Merchant { merchant, currency } => {
                let name = merchant.to_string();
                let on_hostile = OnHostile::Refuse;
                let act = Act::AddMerchant { name, merchant, currency, looks_like_accepted: true, on_hostile };
                (town.administrator(), act)
            }
            Self::Product { merchant, product, price } => {
                let (title, on_hostile) = (product.to_string(), OnHostile::Refuse);
                (town.administrator(), Act::AddProduct { title, merchant, product, price, on_hostile })
            }
            Self::Enrol { agent } => (town.system(), Act::JournalCertificate { record: town.certificate(agent) }),
            Self::Grant { agent, account, owner } => {
                let act = Act::AddGrant {
                    agent: town.agent(agent).spiffe_id,
                    account,
                    owner,
                    verbs: vec![Verb::Read, Verb::Purchase, Verb::Transfer, Verb::Reverse],
                    per_transaction_max: None,
                    expires: town.far_future(),
                };
                (town.administrator(), act)
            }
            Self::RevokeGrant { agent, account } => {
                (town.administrator(), Act::RevokeGrant { agent: town.agent(agent).spiffe_id, account })
            }
            Self::Decide { approval, approve } => {
                let verdict = if approve { Verdict::Approve } else { Verdict::Deny };
                (
                    town.approver(),
                    Act::DecideApproval { approval, side: Side::Bank, verdict, note: String::new(), evidence: None },
                )
            }
            Self::Sweep { limit } => (town.system(), Act::Sweep { limit }),
            Self::RevokeAgent { agent } => {
                let target = RevocationTarget::Agent(town.agent(agent).spiffe_id);
                (town.administrator(), Act::Revoke { target, reason: "load".into() })
            }
            Self::FreezeAgent { agent } => {
                let whom = Whom::Agent(town.agent(agent).spiffe_id);
                (town.administrator(), Act::Freeze { whom, reason: "load".into() })
            }
            Self::ThawAgent { agent, second } => {
                let person = if second { town.officer() } else { town.administrator() };
                (person, Act::Unfreeze { whom: Whom::Agent(town.agent(agent).spiffe_id), note: "load".into() })
            }
            Self::Booking { debit, credit, amount, reference } => {
                (town.system(), Act::Transfer { debit, credit, amount, reference })
            }
            Self::Reverse { transaction, amount, key } => {
                let act = Act::ReverseTransaction {
                    transaction_id: transaction,
                    amount,
                    idempotency_key: key,
                    rules: Arc::clone(&town.rules),
                    fresh,
                };
                (town.officer(), act)
            }
            Self::Freeze { account, frozen } => {
                let (actor, status) = if frozen {
                    (town.administrator(), AccountStatus::Frozen)
                } else {
                    (town.officer(), AccountStatus::Active)
                };
                (actor, Act::SetAccountStatus { account, status, reason: "load".into() })
            }
            Self::Breaker { open } => (
                town.officer(),
                Act::SetBreaker { cause: Cause::Operator, reason: open.then(|| "load".to_owned()), node: None },
            ),
            Self::ResolveCase { case, approve } => {
                let verdict = if approve { CaseVerdict::Release } else { CaseVerdict::Reject };
                let rules = Arc::clone(&town.rules);
                (town.approver(), Act::ResolveCase { case, verdict, note: String::new(), rules })
            }
            Self::CoreSays { transaction, verb, word } => {
                let actor = Actor::System { component: CORE_COMPONENT.into() };
                (actor, Act::CoreAnswered { transaction_id: transaction, verb, word })
            }
        };
        Command { stamp, actor, act }
    }
}

/// What a decision says, as the journal has it.
pub fn told(decision: &Decision) -> Value {
    let mut told = match &decision.outcome {
        Ok(effect) => json!({ "ok": effect_told(effect) }),
        Err(refusal) => json!({ "refused": refusal.name() }),
    };
    if let Some(leaf) = &decision.leaf {
        told["leaf"] = json!({ "row": leaf.row, "commitment": leaf.commitment });
    }
    told
}

fn effect_told(effect: &Effect) -> Value {
    match effect {
        Effect::Answer(_) => json!({ "status": "answered" }),
        Effect::Approved { transaction_id, .. } => json!({ "status": "approved", "transaction_id": transaction_id }),
        Effect::RequiresApproval { approval_id, transaction_id, .. } => {
            json!({ "status": "requires_approval", "approval_id": approval_id, "transaction_id": transaction_id })
        }
        Effect::Posted(posted) => json!({
            "status": "executed", "transaction_id": posted.transaction_id, "batch": posted.batch,
            "index_in_batch": posted.index_in_batch, "repeated": posted.repeated,
            "statement_sha256": Sha256::of(&[&posted.statement]),
        }),
        Effect::Submitted(order) => json!({
            "status": "submitted", "transaction_id": order.transaction_id, "batch": order.batch,
            "index_in_batch": order.index_in_batch, "repeated": order.repeated,
            "statement_sha256": Sha256::of(&[&order.statement]),
        }),
        Effect::QueuedManual { case_id, transaction_id, .. } => {
            json!({ "status": "queued_manual", "case_id": case_id, "transaction_id": transaction_id })
        }
        Effect::CaseWorked { case_id, step, .. } => {
            json!({ "status": "case_worked", "case_id": case_id, "step": step.status() })
        }
        Effect::Cancelled { transaction_id } => json!({ "status": "cancelled", "transaction_id": transaction_id }),
        Effect::Decided { approval_id, transaction_id, verdict, pending: _, posted: _ } => json!({
            "status": "decided", "approval_id": approval_id, "transaction_id": transaction_id, "verdict": verdict,
        }),
        Effect::Swept { released } => json!({ "status": "swept", "released": released }),
        Effect::Revoked { authorizations, already, .. } => {
            json!({ "status": "revoked", "authorizations": authorizations, "already": already })
        }
        Effect::MandateRevoked { authorizations, changed } => {
            json!({ "status": "mandate_revoked", "authorizations": authorizations, "changed": changed })
        }
        Effect::Spread { agents, .. } => json!({ "status": "spread", "agents": agents }),
        Effect::Frozen { already } => json!({ "status": "frozen", "already": already }),
        Effect::ErasureAsked { keys } => json!({ "status": "erasure_asked", "keys": keys }),
        Effect::Erased { keys, .. } => json!({ "status": "erased", "keys": keys }),
        Effect::Lapsed { keys } => json!({ "status": "lapsed", "keys": keys }),
        Effect::Unfrozen { by } => json!({ "status": "unfrozen", "by": by }),
        Effect::Certificate(record) => json!({ "status": "certificate", "id": record.id }),
        Effect::PolicyInForce { version, changed } => {
            json!({ "status": "policy_in_force", "version": version, "changed": changed })
        }
        Effect::CrlNumber(number) => json!({ "status": "crl_number", "number": number }),
        Effect::Vault(_) => json!({ "status": "vault" }),
        Effect::Signing { .. } => json!({ "status": "ordered" }),
        Effect::Witnessed(_) => json!({ "status": "witnessed" }),
        Effect::LogAccepted { by } => json!({ "status": "accepted", "by": by }),
        Effect::Done { changed } => json!({ "status": "done", "changed": changed }),
    }
}
