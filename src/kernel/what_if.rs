//! What a payment would come to: the decision that the bank makes, on a book that holds only what somebody supposes.
//!
//! There is no second set of rules: [`payment`] has [`decide`] decide an `authorize_…` call. What nobody supposed is taken
//! to speak for the payment, and is named beside the answer, so that nobody takes "approved" for more than it is.

mod book;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::book::Supposed;
use super::command::{Act, Actor, AgentPrincipal, Command, Effect, FreshIds, Rules, Settlement, Stamp, ToolCall};
use super::decide::{Change, Decided, decide};
use super::policy::role::Policy;
use super::policy::transaction::{Applied, Asked, PaymentKind, TransactionRule, Why};
use super::quorum::GateRule;
use super::refusal::Refusal;
use super::types::{AccountId, AgentName, Currency, MerchantId, Money, RoleName, Serial, Sha256, SpiffeId, UnixMillis};
use super::zone::Zone;

/// What is supposed about the bank's state and the moment. Amounts are decimal strings in the payment's currency.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Given {
    /// A SPIFFE ID, or a name.
    pub agent: Option<String>,
    /// RFC 3339.
    pub at: Option<String>,
    /// Where the paying account lives.
    pub time_zone: Option<Zone>,
    /// What may be spent of the paying account.
    pub balance: Option<String>,
    /// What the agent has paid today without a human.
    pub spent_today: Option<String>,
    /// Payments that each velocity has counted in its window before this one.
    pub count: Option<u32>,
    /// Money that each velocity has counted in its window before this one.
    pub spent: Option<String>,
    /// Authorizations of this agent that are open on the account.
    pub open_holds: Option<u32>,
    pub mandate: Option<MandateGiven>,
}

/// What the account's owner is supposed to have signed for the agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MandateGiven {
    /// Nothing, ever.
    None,
    /// A mandate that covers the payment.
    Covers,
}

/// What the decision asked about and nobody supposed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fact {
    Settings,
    Agent,
    Time,
    Currency,
    Standing,
    Breaker,
    Grant,
    Payee,
    Mandate,
    Velocity,
    OpenHolds,
    Balance,
    SpentToday,
}

impl Fact {
    /// What it is, and as what it was taken.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Settings => {
                ("settings", "no limits, merchants or gates of countersign.toml, and the catalogue gives the tool")
            }
            Self::Agent => ("agent", "one that no rule names"),
            Self::Time => ("at", "Monday, 2026-01-05T12:00:00Z"),
            Self::Currency => ("currency", "USD"),
            Self::Standing => ("standing", "agent and certificates neither revoked nor frozen, no risk score"),
            Self::Breaker => ("breaker", "payments are not stopped"),
            Self::Grant => ("grant", "the owner's grant covers it, without a ceiling"),
            Self::Payee => ("payee", "registered, active, and offers the product at this price"),
            Self::Mandate => ("mandate", "none, or where a rule wants one, one that covers it"),
            Self::Velocity => ("count and spent", "nothing was paid in the windows of velocities"),
            Self::OpenHolds => ("open_holds", "none"),
            Self::Balance => ("balance", "enough, and no daily limit of the account"),
            Self::SpentToday => ("spent_today", "0"),
        }
    }
}

/// What was taken for granted, for people and programs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Assumed {
    pub what: &'static str,
    pub taken_as: &'static str,
}

/// What a payment would come to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Outlook {
    /// `approved`, `requires_approval`, `refused`.
    pub status: &'static str,
    /// The refusal's name.
    pub reason: Option<&'static str>,
    /// Why a human decides.
    pub reasons: Vec<String>,
    /// Which rule said so: a transaction rule by its name, or the settings.
    pub why: Vec<Why>,
    /// Which gates it would wait for.
    pub gates: Vec<GateRule>,
    /// The transaction rules that fit it, in the policy's order.
    pub rules: Vec<String>,
    /// What the answer rests on and nobody has said.
    pub depends_on: Vec<Assumed>,
}

impl Outlook {
    /// The refusal, if that is what it comes to.
    pub fn refusal(&self) -> Option<Refusal> {
        self.reason.and_then(|name| Refusal::ALL.iter().copied().find(|refusal| refusal.name() == name))
    }
}

/// Whether a tool's calls can be asked about.
pub fn is_payment(tool: &str) -> bool {
    matches!(tool, "authorize_purchase" | "authorize_transfer")
}

/// The rules that a policy alone makes: nothing of a bank's settings but what the call itself names.
fn rules_alone(policy: &Policy, call: &ToolCall, currency: Currency) -> Rules {
    let merchants_allowed = match call {
        ToolCall::AuthorizePurchase { merchant, .. } => vec![merchant.clone()],
        ToolCall::ListAccounts {}
        | ToolCall::GetAccountBalance { .. }
        | ToolCall::ListTransactions { .. }
        | ToolCall::SearchProducts { .. }
        | ToolCall::ExecutePurchase { .. }
        | ToolCall::AuthorizeTransfer { .. }
        | ToolCall::ExecuteTransfer { .. }
        | ToolCall::CancelAuthorization { .. }
        | ToolCall::GetTransaction { .. }
        | ToolCall::GetApprovalStatus { .. }
        | ToolCall::RequestReversal { .. } => vec![],
    };
    Rules {
        policy_version: policy.hash().hex(),
        catalogue_version: 0,
        role_tools: BTreeMap::new(),
        policy: Some(policy.clone()),
        merchants_allowed: merchants_allowed.into(),
        unattended_per_transaction: Money::from_minor(i64::MAX, currency),
        unattended_per_day: Money::from_minor(i64::MAX, currency),
        deny_above: None,
        authorization_ttl_ms: 900_000,
        approval_ttl_ms: 86_400_000,
        open_holds_max: u32::MAX,
        transactions: policy.transactions().clone(),
        company_crl_required: false,
        fees: vec![],
        settlement: Settlement::Embedded,
        gates: vec![],
        unsigned_approvals: true,
        manual_two_people_above: None,
        stopped_here: None,
        policy_unreadable: None,
    }
}

/// What a call of `authorize_purchase` or `authorize_transfer` comes to by this policy. `settings`: the rules of a bank
/// with this policy in them. What the arguments leave out is filled in with names that nobody has.
///
/// # Errors
/// A sentence about an argument or a supposition that cannot be read.
pub fn payment(
    policy: &Policy,
    settings: Option<&Rules>,
    role: &str,
    tool: &str,
    arguments: &Map<String, Value>,
    given: &Given,
) -> Result<Outlook, String> {
    Rehearsal::of(policy, settings, role, tool, arguments, given)?.outlook()
}

/// A payment with the bank that somebody supposes, ready to be decided.
pub struct Rehearsal {
    book: Supposed,
    /// What the bank's store would be handed.
    pub command: Command,
    /// The transaction rules that fit.
    names: Vec<String>,
    assumed: Vec<Fact>,
}

impl std::fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rehearsal").field("command", &self.command).finish_non_exhaustive()
    }
}

impl Rehearsal {
    /// As [`payment`], without its decision.
    ///
    /// # Errors
    /// As there.
    pub fn of(
        policy: &Policy,
        settings: Option<&Rules>,
        role: &str,
        tool: &str,
        arguments: &Map<String, Value>,
        given: &Given,
    ) -> Result<Self, String> {
        let mut assumed = vec![];
        let mut or_assumed = |fact: Fact, is_given: bool| {
            if !is_given {
                assumed.push(fact);
            }
        };
        or_assumed(Fact::Settings, settings.is_some());
        let transactions = settings.map_or(policy.transactions(), |rules| &rules.transactions);
        let none = |asks: fn(&TransactionRule) -> bool| !transactions.iter().any(asks);
        or_assumed(Fact::Agent, given.agent.is_some() || none(|rule| rule.agents.is_some()));
        or_assumed(Fact::Time, given.at.is_some() || none(|rule| rule.hours.is_some()));
        let named: Option<Currency> = optional(arguments, "currency")?;
        let of_settings = settings.map(|rules| rules.unattended_per_transaction.currency());
        or_assumed(Fact::Currency, named.or(of_settings).is_some());
        let currency = match named.or(of_settings) {
            Some(currency) => currency,
            None => read("currency", "USD")?,
        };
        let from: AccountId = optional(arguments, "from_account")?.map_or_else(|| read("from_account", NOBODYS), Ok)?;
        let key = optional(arguments, "idempotency_key")?.map_or_else(|| read("idempotency_key", NOBODYS), Ok)?;
        let (call, kind, amount) = match tool {
            "authorize_purchase" => {
                let price = amount("price", arguments, currency)?;
                let merchant: MerchantId =
                    optional(arguments, "merchant")?.map_or_else(|| read("merchant", "merchant.example"), Ok)?;
                let product_id = optional(arguments, "product_id")?.map_or_else(|| read("product_id", NOBODYS), Ok)?;
                let from_account = Some(from.clone());
                let call =
                    ToolCall::AuthorizePurchase { product_id, price, merchant, from_account, idempotency_key: key };
                (call, PaymentKind::Purchase, price)
            }
            "authorize_transfer" => {
                let sum = amount("amount", arguments, currency)?;
                let to_account =
                    optional(arguments, "to_account")?.map_or_else(|| read("to_account", "NOBODY_2"), Ok)?;
                let from_account = Some(from.clone());
                let call = ToolCall::AuthorizeTransfer { from_account, to_account, amount: sum, idempotency_key: key };
                (call, PaymentKind::Transfer, sum)
            }
            other => return Err(format!("{other} is no payment")),
        };

        let agent = principal(role, given.agent.as_deref())?;
        let at = match given.at.as_deref() {
            Some(text) => instant(text)?,
            None => MONDAY_NOON,
        };
        let mut rules = settings.cloned().unwrap_or_else(|| rules_alone(policy, &call, currency));
        // A policy that names no roles leaves them to the catalogue, which is not asked.
        rules.role_tools.entry(agent.spiffe_id.role().clone()).or_insert_with(|| vec![tool.to_owned()]);
        let asked = Asked { agent: &agent.spiffe_id, account: from.as_str(), kind, amount };
        let applied = Applied::of(&rules.transactions, &asked);
        let names: Vec<String> = applied.names().map(str::to_owned).collect();
        let wants_mandate = applied.mandate_required().is_some();

        let book = Supposed::new(&agent, &call, &from, currency, at, given, wants_mandate)?;
        let command = Command {
            stamp: Stamp {
                request_id: read("request id", "req_00000000000000000000000000")?,
                wall: at,
                boot_ms: 0,
                leaf_salt: [0; 32],
                nonce: None,
                signature: None,
                commit_before: None,
            },
            actor: Actor::Agent(agent.clone()),
            act: Act::Tool { call, rules: rules.into(), fresh: fresh()?, risk: None },
        };
        Ok(Self { book, command, names, assumed })
    }

    /// Decides it, again each time.
    ///
    /// # Errors
    /// A sentence: a defect.
    pub fn decided(&self) -> Result<Decided, String> {
        decide(&self.book, &self.command).map_err(|fault| fault.to_string())
    }

    fn outlook(mut self) -> Result<Outlook, String> {
        let decided = self.decided()?;
        let mut assumed = std::mem::take(&mut self.assumed);
        assumed.extend(self.book.assumed());
        assumed.sort_unstable();
        assumed.dedup();
        let depends_on =
            assumed.into_iter().map(Fact::words).map(|(what, taken_as)| Assumed { what, taken_as }).collect();
        Ok(Outlook { rules: self.names, depends_on, ..told(decided)? })
    }
}

fn told(decided: Decided) -> Result<Outlook, String> {
    let mut told = Outlook {
        status: "approved",
        reason: None,
        reasons: vec![],
        why: vec![],
        gates: vec![],
        rules: vec![],
        depends_on: vec![],
    };
    match decided.outcome {
        Err(refusal) => {
            (told.status, told.reason) = ("refused", Some(refusal.name()));
            told.why.extend(decided.why);
        }
        Ok(Effect::RequiresApproval { why, .. }) => {
            (told.status, told.why) = ("requires_approval", why);
            for change in decided.changes {
                if let Change::InsertTransaction(transaction) = change
                    && let Some(approval) = transaction.approval
                {
                    (told.reasons, told.gates) = (approval.reasons, approval.asked.quorum.gates);
                }
            }
        }
        Ok(Effect::Approved { .. }) => {}
        Ok(
            Effect::Answer(_)
            | Effect::Posted(_)
            | Effect::Submitted(_)
            | Effect::QueuedManual { .. }
            | Effect::Cancelled { .. }
            | Effect::Decided { .. }
            | Effect::Swept { .. }
            | Effect::Revoked { .. }
            | Effect::MandateRevoked { .. }
            | Effect::Spread { .. }
            | Effect::Frozen { .. }
            | Effect::ErasureAsked { .. }
            | Effect::Erased { .. }
            | Effect::Lapsed { .. }
            | Effect::Unfrozen { .. }
            | Effect::PolicyInForce { .. }
            | Effect::CaseWorked { .. }
            | Effect::Certificate(_)
            | Effect::CrlNumber(_)
            | Effect::LogAccepted { .. }
            | Effect::Vault(_)
            | Effect::Signing { .. }
            | Effect::Witnessed(_)
            | Effect::Done { .. },
        ) => return Err("the decision of a payment came to something else: report this as a defect".to_owned()),
    }
    Ok(told)
}

/// A name that no rule has.
const NOBODYS: &str = "NOBODY_1";
/// 2026-01-05T12:00:00Z: within office hours wherever they are kept in UTC, and the same on every day that one tests.
const MONDAY_NOON: UnixMillis = UnixMillis(1_767_614_400_000);

fn read<T: FromStr>(what: &str, text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| format!("{what}: {error}"))
}

fn optional<T: FromStr>(arguments: &Map<String, Value>, name: &str) -> Result<Option<T>, String>
where
    T::Err: std::fmt::Display,
{
    match arguments.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => read(name, text).map(Some),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(format!("{name} is a string"))
        }
    }
}

fn amount(name: &str, arguments: &Map<String, Value>, currency: Currency) -> Result<Money, String> {
    let text = match arguments.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => {
            return Err(format!("{name} is missing: the payment's amount"));
        }
    };
    // A whole number that came as a float.
    let text = text.strip_suffix(".0").unwrap_or(&text);
    Money::parse_positive(text, currency).map_err(|error| format!("{name}: {error}"))
}

fn instant(text: &str) -> Result<UnixMillis, String> {
    let at = chrono::DateTime::parse_from_rfc3339(text);
    at.map(|at| UnixMillis(at.timestamp_millis())).map_err(|_| format!("at: {text:?} is no RFC 3339 time"))
}

/// An agent whose certificates hold for ever.
fn principal(role: &str, agent: Option<&str>) -> Result<AgentPrincipal, String> {
    let spiffe_id: SpiffeId = match agent {
        Some(id) if id.contains("://") => read("agent", id)?,
        name => {
            let role: RoleName = read("role", role)?;
            let name: AgentName = read("agent", name.unwrap_or("nobody"))?;
            read("agent", &format!("spiffe://bank.example/agent/{role}/{name}"))?
        }
    };
    if spiffe_id.role().as_str() != role {
        return Err(format!("agent: {spiffe_id} has another role than {role}"));
    }
    let serial = || Serial::from_bytes(&[1]).map_err(|error| error.to_string());
    Ok(AgentPrincipal {
        spiffe_id,
        key: Sha256([1; 32]),
        bank_issuer: "bank".into(),
        bank_serial: serial()?,
        company_issuer: "company".into(),
        company_serial: serial()?,
        not_after: UnixMillis(i64::MAX),
    })
}

fn fresh() -> Result<FreshIds, String> {
    Ok(FreshIds {
        transaction: read("transaction", "txn_00000000000000000000000000")?,
        approval: read("approval", "apr_00000000000000000000000000")?,
        case: read("case", "case_00000000000000000000000000")?,
        nonce: Sha256([0; 32]),
    })
}
