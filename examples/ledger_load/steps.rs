//! One caller's life: what it wishes next, and what it remembers of the answers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use countersign::kernel::command::*;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;

use crate::chance::Chance;
use crate::town::{ACCOUNTS, GRANTED, MERCHANT, Opened, PRODUCTS, Town, money};
use crate::wish::Wish;

/// What waits for a human, and which agents stand, shared by all callers.
#[derive(Debug, Default)]
pub struct Shared {
    /// The locks guard the lists only.
    approvals: Mutex<Vec<ApprovalId>>,
    cases: Mutex<Vec<CaseId>>,
    /// Agents of this number and the next one stand.
    pub first_agent: AtomicU32,
}

/// What a caller remembers of an authorization.
#[derive(Clone, Debug)]
struct Authorized {
    agent: u32,
    transaction: TransactionId,
    call: ToolCall,
    executed: bool,
}

#[derive(Debug)]
pub struct Caller {
    chance: Chance,
    /// In front of every key of this caller in this run.
    prefix: String,
    keys: u64,
    authorized: Vec<Authorized>,
    repeatable: Vec<(String, Wish)>,
}

const REMEMBERED_MAX: usize = 64;

impl Caller {
    pub fn new(chance: Chance, prefix: String) -> Self {
        Self { chance, prefix, keys: 0, authorized: vec![], repeatable: vec![] }
    }

    pub fn chance(&mut self) -> &mut Chance {
        &mut self.chance
    }

    pub fn key(&mut self) -> IdempotencyKey {
        self.keys += 1;
        format!("{}.{}", self.prefix, self.keys).parse().expect("short, digits and points")
    }

    /// The next wishes with their intents' ids; several are sent to the store in one call.
    pub fn next(&mut self, town: &Town, shared: &Shared) -> Vec<(String, Wish)> {
        if self.chance.one_in(12)
            && let Some(repeated) = self.chance.pick(&self.repeatable).cloned()
        {
            return vec![repeated];
        }
        let first = shared.first_agent.load(Ordering::SeqCst);
        let agent = first + u32::from(self.chance.one_in(2));
        let wishes = match self.chance.below(1000) {
            0..=219 => vec![self.transfer(agent)],
            220..=299 => vec![self.purchase(agent)],
            // Together in one call: the decisions follow one another in one commit.
            300..=329 => (0..3).map(|_| self.transfer(agent)).collect(),
            330..=559 => self.executions(),
            560..=609 => self.cancellation(),
            610..=719 => self.decision(shared),
            720..=759 => self.reversal(),
            760..=859 => vec![self.incoming()],
            860..=909 => vec![Wish::Sweep { limit: 1_000 }],
            910..=959 => vec![self.balance(agent)],
            960..=969 => self.grants(agent),
            970..=974 => self.wrong_execution(agent).into_iter().collect(),
            975 => self.revocation(town, shared, first),
            976..=980 => self.frozen_for_a_while(),
            981..=983 => self.stopped_for_a_while(agent),
            984..=989 => self.case(shared),
            _ => vec![self.booking()],
        };
        wishes.into_iter().map(|wish| (self.key().to_string(), wish)).collect()
    }

    /// Remembers what this answer makes possible.
    pub fn learn(&mut self, id: &str, wish: &Wish, outcome: &Result<Effect, Refusal>, shared: &Shared) {
        let Ok(effect) = outcome else { return };
        // The core does not repeat itself: a word that nobody waits for any more changes nothing, and says so.
        let is_cores = matches!(wish, Wish::CoreSays { .. });
        if !is_cores && !self.repeatable.iter().any(|(known, _)| known == id) {
            self.repeatable.push((id.to_owned(), wish.clone()));
            if self.repeatable.len() > REMEMBERED_MAX {
                self.repeatable.remove(0);
            }
        }
        if let Effect::RequiresApproval { approval_id, .. } = effect {
            shared.approvals.lock().unwrap_or_else(PoisonError::into_inner).push(approval_id.clone());
        }
        if let Effect::QueuedManual { case_id, .. } = effect {
            shared.cases.lock().unwrap_or_else(PoisonError::into_inner).push(case_id.clone());
        }
        let (Wish::Tool { agent, call }, Some(transaction)) = (wish, transaction_of(effect)) else { return };
        match self.authorized.iter_mut().find(|known| known.transaction == *transaction) {
            Some(known) => known.executed |= matches!(effect, Effect::Posted(_)),
            None => self.authorized.push(Authorized {
                agent: *agent,
                transaction: transaction.clone(),
                call: call.clone(),
                executed: false,
            }),
        }
        if self.authorized.len() > REMEMBERED_MAX {
            self.authorized.remove(0);
        }
    }

    fn amount(&mut self, currency: &str) -> Money {
        // Mostly small, sometimes above the limit of one transaction, sometimes more than anyone has.
        let end = [2_000, 12_000, 14_999, 15_001, 40_000, 900_000][self.chance.below(12).min(5) as usize];
        let minor = i64::try_from(1 + self.chance.below(end)).expect("below 900,000");
        Money::from_minor(minor, money("1", currency).currency())
    }

    fn transfer(&mut self, agent: u32) -> Wish {
        let from = self.chance.pick(GRANTED).expect("a grant").0;
        let currency = ACCOUNTS.iter().find(|account| account.id == from).expect("granted accounts are there").currency;
        let to = if self.chance.one_in(16) { self.account().id } else { self.other(from, currency) };
        let call = ToolCall::AuthorizeTransfer {
            from_account: Some(from.parse().expect("an account id")),
            to_account: to.parse().expect("an account id"),
            amount: self.amount(currency),
            idempotency_key: self.key(),
        };
        Wish::Tool { agent, call }
    }

    fn purchase(&mut self, agent: u32) -> Wish {
        let (product, price) = self.chance.pick(PRODUCTS).expect("a product");
        let call = ToolCall::AuthorizePurchase {
            product_id: product.parse().expect("a product id"),
            price: money(price, "USD"),
            merchant: MERCHANT.parse().expect("a merchant"),
            from_account: Some("CHK_001".parse().expect("an account id")),
            idempotency_key: self.key(),
        };
        Wish::Tool { agent, call }
    }

    fn executions(&mut self) -> Vec<Wish> {
        let open: Vec<Authorized> = self.authorized.iter().filter(|known| !known.executed).cloned().collect();
        let Some(known) = self.chance.pick(&open) else { return vec![] };
        execution(known).into_iter().collect()
    }

    /// Executing with the right parameters what somebody else authorized, or what was never authorized.
    fn wrong_execution(&mut self, agent: u32) -> Option<Wish> {
        let known = self.chance.pick(&self.authorized)?.clone();
        let transaction = if self.chance.one_in(2) {
            self.chance.id("txn_").parse().expect("a ULID")
        } else {
            known.transaction.clone()
        };
        let other = Authorized { agent: if known.agent == agent { agent + 1 } else { agent }, transaction, ..known };
        execution(&other)
    }

    fn cancellation(&mut self) -> Vec<Wish> {
        let Some(known) = self.chance.pick(&self.authorized) else { return vec![] };
        let reference = AuthorizationRef::TransactionId(known.transaction.clone());
        vec![Wish::Tool { agent: known.agent, call: ToolCall::CancelAuthorization { reference } }]
    }

    fn decision(&mut self, shared: &Shared) -> Vec<Wish> {
        let approvals = shared.approvals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(approval) = self.chance.pick(&approvals).cloned() else { return vec![] };
        let approve = !self.chance.one_in(4);
        if self.chance.one_in(2) {
            // Decided; sometimes it stays in the list, and a second answer must be refused.
            shared.approvals.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != approval);
        }
        vec![Wish::Decide { approval, approve }]
    }

    fn reversal(&mut self) -> Vec<Wish> {
        let executed: Vec<Authorized> = self.authorized.iter().filter(|known| known.executed).cloned().collect();
        let Some(known) = self.chance.pick(&executed).cloned() else { return vec![] };
        let part = self.chance.one_in(2);
        let amount = amount_of(&known.call)
            .filter(|amount| part && amount.minor() > 2)
            .map(|amount| Money::from_minor(amount.minor() / 2 + 1, amount.currency()));
        let key = self.key();
        if self.chance.one_in(3) {
            return vec![Wish::Reverse { transaction: known.transaction, amount, key }];
        }
        let call = ToolCall::RequestReversal { transaction_id: known.transaction, amount, idempotency_key: key };
        vec![Wish::Tool { agent: known.agent, call }]
    }

    fn incoming(&mut self) -> Wish {
        let Opened { id, currency, .. } = self.account();
        Wish::Incoming {
            account: id.parse().expect("an account id"),
            amount: self.amount(currency),
            reference: self.key(),
        }
    }

    fn booking(&mut self) -> Wish {
        let Opened { id, currency, .. } = self.account();
        let credit = if self.chance.one_in(2) { format!("fees:{currency}") } else { self.other(id, currency).into() };
        Wish::Booking { debit: (*id).into(), credit, amount: self.amount(currency), reference: self.key() }
    }

    fn account(&mut self) -> &'static Opened {
        self.chance.pick(ACCOUNTS).expect("there are accounts")
    }

    /// Another account of the same currency.
    fn other(&mut self, than: &str, currency: &str) -> &'static str {
        let fits = |account: &&Opened| account.currency == currency && account.id != than;
        let fitting: Vec<&Opened> = ACCOUNTS.iter().filter(fits).collect();
        self.chance.pick(&fitting).expect("two accounts of each currency").id
    }

    /// An account is frozen, asked for money, and thawed.
    fn frozen_for_a_while(&mut self) -> Vec<Wish> {
        let account: AccountId = self.account().id.parse().expect("an account id");
        let freeze = |frozen| Wish::Freeze { account: account.clone(), frozen };
        vec![freeze(true), self.incoming(), self.booking(), freeze(false)]
    }

    /// Payments are stopped, asked for, and go on; their cases are decided some time.
    fn stopped_for_a_while(&mut self, agent: u32) -> Vec<Wish> {
        let mut wishes = vec![Wish::Breaker { open: true }, self.transfer(agent), self.purchase(agent)];
        wishes.extend(self.executions());
        wishes.push(Wish::Breaker { open: false });
        wishes
    }

    fn case(&mut self, shared: &Shared) -> Vec<Wish> {
        let mut cases = shared.cases.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(case) = cases.pop() else { return vec![] };
        vec![Wish::ResolveCase { case, approve: !self.chance.one_in(3) }]
    }

    fn balance(&mut self, agent: u32) -> Wish {
        let account = self.chance.pick(GRANTED).expect("a grant").0;
        Wish::Tool { agent, call: ToolCall::GetAccountBalance { account_id: account.parse().expect("an account id") } }
    }

    fn grants(&mut self, agent: u32) -> Vec<Wish> {
        let (account, owner) = self.chance.pick(GRANTED).expect("a grant");
        let (account, owner): (AccountId, OwnerId) =
            (account.parse().expect("an account id"), owner.parse().expect("an owner id"));
        let revoke = Wish::RevokeGrant { agent, account: account.clone() };
        vec![revoke, self.transfer(agent), Wish::Grant { agent, account, owner }]
    }

    /// The first agent falls, and another one takes its place. It is frozen as well, thawed by two, and frozen again.
    fn revocation(&mut self, town: &Town, shared: &Shared, first: u32) -> Vec<Wish> {
        if shared.first_agent.compare_exchange(first, first + 1, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return vec![];
        }
        let mut wishes = town.enrolled(first + 2);
        let freeze = Wish::FreezeAgent { agent: first };
        let thaw = |second| Wish::ThawAgent { agent: first, second };
        wishes.extend([Wish::RevokeAgent { agent: first }, freeze.clone(), thaw(false), thaw(true), freeze]);
        wishes
    }
}

fn transaction_of(effect: &Effect) -> Option<&TransactionId> {
    match effect {
        Effect::Approved { transaction_id, .. } | Effect::RequiresApproval { transaction_id, .. } => {
            Some(transaction_id)
        }
        Effect::Posted(posted) | Effect::Submitted(posted) => Some(&posted.transaction_id),
        Effect::Answer(_)
        | Effect::QueuedManual { .. }
        | Effect::CaseWorked { .. }
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
        | Effect::Certificate(_)
        | Effect::PolicyInForce { .. }
        | Effect::CrlNumber(_)
        | Effect::Vault(_)
        | Effect::Signing { .. }
        | Effect::Witnessed(_)
        | Effect::LogAccepted { .. }
        | Effect::Done { .. } => None,
    }
}

fn amount_of(call: &ToolCall) -> Option<Money> {
    match call {
        ToolCall::AuthorizePurchase { price, .. } => Some(*price),
        ToolCall::AuthorizeTransfer { amount, .. } => Some(*amount),
        ToolCall::ListAccounts {}
        | ToolCall::GetAccountBalance { .. }
        | ToolCall::ListTransactions { .. }
        | ToolCall::SearchProducts { .. }
        | ToolCall::ExecutePurchase { .. }
        | ToolCall::ExecuteTransfer { .. }
        | ToolCall::CancelAuthorization { .. }
        | ToolCall::GetTransaction { .. }
        | ToolCall::GetApprovalStatus { .. }
        | ToolCall::RequestReversal { .. } => None,
    }
}

/// The execution of what was authorized.
fn execution(known: &Authorized) -> Option<Wish> {
    let transaction_id = known.transaction.clone();
    let call = match known.call.clone() {
        ToolCall::AuthorizePurchase { product_id, .. } => ToolCall::ExecutePurchase { transaction_id, product_id },
        ToolCall::AuthorizeTransfer { from_account, to_account, amount, .. } => {
            ToolCall::ExecuteTransfer { transaction_id, from_account, to_account, amount }
        }
        ToolCall::ListAccounts {}
        | ToolCall::GetAccountBalance { .. }
        | ToolCall::ListTransactions { .. }
        | ToolCall::SearchProducts { .. }
        | ToolCall::ExecutePurchase { .. }
        | ToolCall::ExecuteTransfer { .. }
        | ToolCall::CancelAuthorization { .. }
        | ToolCall::GetTransaction { .. }
        | ToolCall::GetApprovalStatus { .. }
        | ToolCall::RequestReversal { .. } => return None,
    };
    Some(Wish::Tool { agent: known.agent, call })
}
