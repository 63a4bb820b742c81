//! The model's rules for agents: DESIGN 4.4 to 4.10, in its own words.

use countersign::kernel::command::{
    Actor, AgentPrincipal, AuthorizationRef, Command, FreshIds, Rules, Settlement, ToolCall, Verb,
};
use countersign::kernel::ledger::TransactionKind;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::Money;

use super::calendar;
use super::model::{Book, Case, Grant, Kind, Maker, Payment, Question, Ruled, fee, is_maker};

/// What a command came to, in the vocabulary of the product.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    Approved(String),
    Asked { approval: String, payment: String, expires: i64 },
    Posted { payment: String, repeated: bool },
    Submitted { payment: String, repeated: bool },
    Queued { case: String, payment: Option<String>, reason: String },
    Cancelled(String),
    Decided { payment: String, yes: bool },
    CaseWorked { case: String, payment: Option<String>, step: String },
    Swept(u32),
    Revoked { authorizations: u32, already: bool },
    Done { changed: bool },
}

/// One call of an agent.
pub struct Call<'a> {
    pub agent: &'a AgentPrincipal,
    pub name: String,
    pub now: i64,
    pub rules: &'a Rules,
    pub fresh: &'a FreshIds,
    pub call: &'a ToolCall,
}

impl Book {
    pub fn tool(&mut self, command: &Command, call: &ToolCall, rules: &Rules, fresh: &FreshIds) -> Ruled<Word> {
        let Actor::Agent(agent) = &command.actor else { return Err(Refusal::OperatorNotPermitted) };
        let name = agent.spiffe_id.to_string();
        let now = command.stamp.wall.0;
        if self.revoked.contains(&name) {
            return Err(Refusal::AgentRevoked);
        }
        if now > agent.not_after.0 {
            return Err(Refusal::InvalidCertificate);
        }
        let asked = Call { agent, name, now, rules, fresh, call };
        match call {
            ToolCall::AuthorizePurchase { .. } | ToolCall::AuthorizeTransfer { .. } => self.authorize(&asked),
            ToolCall::ExecutePurchase { transaction_id, .. } | ToolCall::ExecuteTransfer { transaction_id, .. } => {
                self.execute(&asked, transaction_id.as_str())
            }
            ToolCall::CancelAuthorization { reference } => self.cancel(&asked, reference),
            ToolCall::RequestReversal { transaction_id, amount, idempotency_key } => {
                self.reverse_for_agent(&asked, transaction_id.as_str(), *amount, idempotency_key.as_str())
            }
            ToolCall::ListAccounts {}
            | ToolCall::GetAccountBalance { .. }
            | ToolCall::ListTransactions { .. }
            | ToolCall::SearchProducts { .. }
            | ToolCall::GetTransaction { .. }
            | ToolCall::GetApprovalStatus { .. } => panic!("the model does not read: {call:?}"),
        }
    }

    fn authorize(&mut self, call: &Call<'_>) -> Ruled<Word> {
        let (kind, verb, from, amount, key) = match call.call {
            ToolCall::AuthorizePurchase { price, from_account, idempotency_key, .. } => {
                (TransactionKind::Purchase, Verb::Purchase, from_account, *price, idempotency_key)
            }
            ToolCall::AuthorizeTransfer { amount, from_account, idempotency_key, .. } => {
                (TransactionKind::Transfer, Verb::Transfer, from_account, *amount, idempotency_key)
            }
            other => panic!("no authorization: {other:?}"),
        };
        let scope = call.scope(key.as_str());
        let request = format!("{:?}", call.call);
        if let Some(word) = self.said_before(&scope, &request, call.now)? {
            return Ok(word);
        }
        if let Some(reason) = self.stopped(call) {
            let asked = (amount.currency().to_string(), i128::from(amount.minor()));
            return self.queue_instead(call, scope, request, reason, asked);
        }
        let (source, grant) = match from {
            Some(from) => (from.as_str().to_owned(), self.granted(call, from.as_str(), verb)?),
            None => self.only_grant(call, verb, &amount)?,
        };
        call.role_has_tool()?;
        let account = self.account(&source);
        if account.status != "active" {
            return Err(Refusal::AccountNotActive);
        }
        if amount.minor() <= 0 {
            return Err(Refusal::AmountNotPositive);
        }
        if account.currency != amount.currency().code() {
            return Err(Refusal::CurrencyMismatch);
        }
        let (credit, merchant, product) = match call.call {
            ToolCall::AuthorizeTransfer { to_account, .. } => {
                let to = to_account.as_str();
                if to == source {
                    return Err(Refusal::SameAccount);
                }
                let there = self.customer(to).map_err(|_| Refusal::UnknownDestination)?;
                if there.status != "active" {
                    return Err(Refusal::UnknownDestination);
                }
                if there.currency != account.currency {
                    return Err(Refusal::CurrencyMismatch);
                }
                (to.to_owned(), None, None)
            }
            ToolCall::AuthorizePurchase { merchant, product_id, .. } => {
                if !call.rules.merchants_allowed.contains(merchant) {
                    return Err(Refusal::UnauthorizedMerchant);
                }
                let offer = self.offers.get(&(merchant.to_string(), product_id.to_string()));
                let (_, price) = offer.ok_or(Refusal::UnknownProduct)?;
                if *price != amount {
                    return Err(Refusal::PriceChanged);
                }
                (format!("merchant:{merchant}"), Some(merchant.to_string()), Some(product_id.to_string()))
            }
            other => panic!("no authorization: {other:?}"),
        };
        ceiling(grant.max, amount, Refusal::GrantLimitExceeded)?;
        ceiling(call.rules.deny_above, amount, Refusal::AboveHardCeiling)?;
        let minor = i128::from(amount.minor());
        let fee = fee(call.rules, kind, amount)?;
        super::model::fits(minor + fee)?;
        let account_day = self.within_day(&source, minor + fee, call.now)?;
        if self.open_of(&call.name, &source) >= call.rules.open_holds_max as usize {
            return Err(Refusal::TooManyOpenHolds);
        }
        let day = calendar::day(&self.account(&source).zone, call.now);
        self.hold(&source, minor + fee)?;

        let unattended =
            |limit: Money, sum: i128| limit.currency() == amount.currency() && sum <= i128::from(limit.minor());
        let alone = unattended(call.rules.unattended_per_transaction, minor)
            && unattended(call.rules.unattended_per_day, self.counter(&call.name, day) + minor);
        let ttl = call.rules.authorization_ttl_ms;
        let question = (!alone).then(|| call.question());
        let payment = Payment {
            id: call.fresh.transaction.to_string(),
            kind,
            state: if alone { "approved" } else { "pending_approval" },
            maker: Maker::Agent { name: call.name.clone(), key: call.agent.key.hex() },
            debit: source,
            credit,
            currency: amount.currency().to_string(),
            amount: minor,
            fee,
            merchant,
            product,
            original: None,
            expires: question.as_ref().map_or(call.now + ttl, |question| question.expires),
            ttl,
            question,
            agent_day: alone.then_some(day),
            account_day,
            external: call.rules.settlement == Settlement::External,
            case: None,
        };
        if fee > 0 {
            self.internal(Kind::Fees, &payment.currency);
        }
        self.count(&payment, 1);
        if payment.external {
            self.tell_core(&payment.id, "hold");
        }
        Ok(self.made(payment, &scope, &request, call.now))
    }

    /// Keeps a new authorization under its key and says what it is.
    pub fn made(&mut self, payment: Payment, scope: &str, request: &str, now: i64) -> Word {
        let word = said(&payment);
        self.bind(scope, request, now, Some(payment.id.clone()), None);
        self.payments.push(payment);
        word
    }

    /// The same key and request: the same answer, unless the bank's people have it.
    pub fn said_before(&self, scope: &str, request: &str, now: i64) -> Ruled<Option<Word>> {
        let Some(key) = self.key(scope, now) else { return Ok(None) };
        if key.request != request {
            return Err(Refusal::IdempotencyKeyReused);
        }
        if let Some(case) = &key.case {
            return self.word_of(case).map(Some);
        }
        let payment = key.payment.as_deref().and_then(|id| self.payment(id)).expect("a key stands for something");
        match &payment.case {
            Some(case) if payment.state == "queued_manual" => self.word_of(case).map(Some),
            Some(case) if payment.state == "denied" => match self.case(case).map(|case| case.state) {
                Some("rejected") => Err(Refusal::CaseRejected),
                Some("paid_elsewhere") => Err(Refusal::PaidElsewhere),
                _ => Ok(Some(said(payment))),
            },
            _ if payment.state == "core_refused" => Err(Refusal::CoreRefused),
            Some(_) | None => Ok(Some(said(payment))),
        }
    }

    pub fn word_of(&self, case: &str) -> Ruled<Word> {
        let case = self.case(case).expect("a case that is named is there");
        match case.state {
            "rejected" => return Err(Refusal::CaseRejected),
            "paid_elsewhere" => return Err(Refusal::PaidElsewhere),
            _ => {}
        }
        Ok(Word::Queued { case: case.id.clone(), payment: case.payment.clone(), reason: case.reason.clone() })
    }

    /// Why nothing is paid: the bank's causes, then the node's own.
    fn stopped(&self, call: &Call<'_>) -> Option<String> {
        let bank = self.breaker.values().map(|(reason, _)| reason.clone());
        let reasons: Vec<String> = bank.chain(call.rules.stopped_here.clone()).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn queue_instead(
        &mut self,
        call: &Call<'_>,
        scope: String,
        request: String,
        reason: String,
        asked: (String, i128),
    ) -> Ruled<Word> {
        let waiting = |case: &&Case| case.agent == call.name && case.state == "queued" && case.payment.is_none();
        if self.cases.iter().filter(waiting).count() >= call.rules.open_holds_max as usize {
            return Err(Refusal::BreakerOpen);
        }
        let id = call.fresh.case.to_string();
        self.bind(&scope, &request, call.now, None, Some(id.clone()));
        let case = Case { scope: Some(scope), asked: Some(asked), ..new_case(&id, &call.name, &reason) };
        self.cases.push(case);
        Ok(Word::Queued { case: id, payment: None, reason })
    }

    fn granted(&self, call: &Call<'_>, account: &str, verb: Verb) -> Ruled<Grant> {
        let grant = self.grants.get(&(call.name.clone(), account.to_owned())).filter(|grant| call.now < grant.expires);
        let grant = grant.ok_or(Refusal::AccountNotGranted)?;
        if !grant.verbs.contains(&verb) {
            return Err(Refusal::VerbNotGranted);
        }
        Ok(grant.clone())
    }

    fn only_grant(&self, call: &Call<'_>, verb: Verb, amount: &Money) -> Ruled<(String, Grant)> {
        let mut fitting = vec![];
        for ((agent, account), grant) in &self.grants {
            let fits = *agent == call.name && call.now < grant.expires && grant.verbs.contains(&verb);
            if fits && self.account(account).currency == amount.currency().code() {
                fitting.push((account.clone(), grant.clone()));
            }
        }
        match fitting.len() {
            0 => Err(Refusal::AccountNotGranted),
            1 => Ok(fitting.remove(0)),
            _ => Err(Refusal::GrantAmbiguous),
        }
    }

    fn own(&self, call: &Call<'_>, found: Option<&Payment>, otherwise: Refusal) -> Ruled<Payment> {
        found.filter(|payment| is_maker(payment, call.agent)).cloned().ok_or(otherwise)
    }

    fn execute(&mut self, call: &Call<'_>, id: &str) -> Ruled<Word> {
        let payment = self.own(call, self.payment(id), Refusal::UnknownTransaction)?;
        let (kind, verb, same) = match call.call {
            ToolCall::ExecutePurchase { product_id, .. } => {
                let same = payment.product.as_deref() == Some(product_id.as_str());
                (TransactionKind::Purchase, Verb::Purchase, same)
            }
            ToolCall::ExecuteTransfer { from_account, to_account, amount, .. } => {
                let same = from_account.as_ref().is_none_or(|from| from.as_str() == payment.debit)
                    && to_account.as_str() == payment.credit
                    && i128::from(amount.minor()) == payment.amount
                    && amount.currency().code() == payment.currency;
                (TransactionKind::Transfer, Verb::Transfer, same)
            }
            other => panic!("no execution: {other:?}"),
        };
        let same = same && kind == payment.kind;
        let again = |repeated| (payment.id.clone(), repeated);
        match payment.state {
            "executed" if same => {
                let (payment, repeated) = again(true);
                return Ok(Word::Posted { payment, repeated });
            }
            "submitted" if same => {
                let (payment, repeated) = again(true);
                return Ok(Word::Submitted { payment, repeated });
            }
            "queued_manual" if same => return self.word_of(payment.case.as_deref().expect("it waits under a case")),
            _ => {}
        }
        if kind != payment.kind {
            return Err(Refusal::AuthorizationMismatch);
        }
        self.granted(call, &payment.debit, verb)?;
        call.role_has_tool()?;
        if !same {
            return Err(Refusal::AuthorizationMismatch);
        }
        if let Some(merchant) = &payment.merchant
            && !call.rules.merchants_allowed.names().iter().any(|allowed| allowed.as_str() == merchant)
        {
            return Err(Refusal::UnauthorizedMerchant);
        }
        let late = call.now >= payment.expires;
        match payment.state {
            "approved" if late => return Err(Refusal::AuthorizationExpired),
            "approved" => {}
            "pending_approval" if late => return Err(Refusal::ApprovalExpired),
            "pending_approval" => return Err(Refusal::ApprovalPending),
            "denied" if self.is_paid_elsewhere(&payment) => return Err(Refusal::PaidElsewhere),
            over => return Err(after(over)),
        }
        if let Some(reason) = self.stopped(call) {
            let case = call.fresh.case.to_string();
            self.wait(&payment.id, &case, &call.name, &reason);
            return Ok(Word::Queued { case, payment: Some(payment.id), reason });
        }
        if payment.external {
            return self.order(call, &payment);
        }
        self.post(&payment)?;
        Ok(Word::Posted { payment: payment.id, repeated: false })
    }

    pub fn is_paid_elsewhere(&self, payment: &Payment) -> bool {
        let case = payment.case.as_deref().and_then(|case| self.case(case));
        case.is_some_and(|case| case.state == "paid_elsewhere")
    }

    /// An open payment waits for the bank's people.
    pub fn wait(&mut self, id: &str, case: &str, agent: &str, reason: &str) {
        let resume = self.payment(id).expect("the caller found it before").state;
        let waiting = Case { payment: Some(id.into()), resume, ..new_case(case, agent, reason) };
        self.cases.push(waiting);
        let payment = self.payment_mut(id);
        payment.state = "queued_manual";
        payment.case = Some(case.into());
    }

    /// An order to the core: never for accounts that are stopped, and a case until the funds are held there.
    fn order(&mut self, call: &Call<'_>, payment: &Payment) -> Ruled<Word> {
        self.both_active(payment)?;
        if self.outbox.contains(&(payment.id.clone(), "hold")) {
            let (case, reason) = (call.fresh.case.to_string(), NO_HOLD_YET.to_owned());
            self.wait(&payment.id, &case, &call.name, &reason);
            return Ok(Word::Queued { case, payment: Some(payment.id.clone()), reason });
        }
        self.submit(&payment.id);
        Ok(Word::Submitted { payment: payment.id.clone(), repeated: false })
    }

    pub fn both_active(&self, payment: &Payment) -> Ruled<()> {
        if self.account(&payment.debit).status != "active" {
            return Err(Refusal::AccountNotActive);
        }
        if self.account(&payment.credit).status != "active" {
            return Err(Refusal::DestinationNotActive);
        }
        Ok(())
    }

    pub fn submit(&mut self, id: &str) {
        self.payment_mut(id).state = "submitted";
        self.tell_core(id, "settle");
    }

    fn cancel(&mut self, call: &Call<'_>, reference: &AuthorizationRef) -> Ruled<Word> {
        let payment = match reference {
            AuthorizationRef::TransactionId(id) => {
                self.own(call, self.payment(id.as_str()), Refusal::UnknownTransaction)?
            }
            AuthorizationRef::ApprovalId(id) => {
                self.own(call, self.payment_of_question(id.as_str()), Refusal::UnknownApproval)?
            }
        };
        call.role_has_tool()?;
        match payment.state {
            "approved" | "pending_approval" => self.end(&payment.id, "cancelled"),
            "cancelled" => {}
            "denied" if self.is_paid_elsewhere(&payment) => return Err(Refusal::PaidElsewhere),
            over => return Err(after(over)),
        }
        Ok(Word::Cancelled(payment.id))
    }

    fn reverse_for_agent(&mut self, call: &Call<'_>, id: &str, amount: Option<Money>, key: &str) -> Ruled<Word> {
        let (scope, request) = (call.scope(key), format!("{:?}", call.call));
        if let Some(word) = self.said_before(&scope, &request, call.now)? {
            return Ok(word);
        }
        let original = self.own(call, self.payment(id), Refusal::UnknownTransaction)?;
        if !reversible(&original) {
            return Err(Refusal::UnknownTransaction);
        }
        self.granted(call, &original.debit, Verb::Reverse)?;
        call.role_has_tool()?;
        let maker = Maker::Agent { name: call.name.clone(), key: call.agent.key.hex() };
        let reversal = self.reversal(&original, amount, maker, call.now, call.rules, call.fresh)?;
        if self.open_of(&call.name, &original.credit) >= call.rules.open_holds_max as usize {
            return Err(Refusal::TooManyOpenHolds);
        }
        Ok(self.made(reversal, &scope, &request, call.now))
    }

    /// What goes back: all that is left or a part of it, where the original went, never its fee, held by nobody.
    pub fn reversal(
        &self,
        original: &Payment,
        amount: Option<Money>,
        maker: Maker,
        now: i64,
        rules: &Rules,
        fresh: &FreshIds,
    ) -> Ruled<Payment> {
        if amount.is_some_and(|amount| amount.currency().code() != original.currency) {
            return Err(Refusal::CurrencyMismatch);
        }
        let left = original.amount - self.reversed(&original.id);
        let amount = amount.map_or(left, |amount| i128::from(amount.minor()));
        if amount > left || amount <= 0 {
            return Err(Refusal::ReversalExceedsOriginal);
        }
        let expires = now + rules.approval_ttl_ms;
        Ok(Payment {
            id: fresh.transaction.to_string(),
            kind: TransactionKind::Reversal,
            state: "pending_approval",
            maker,
            debit: original.credit.clone(),
            credit: original.debit.clone(),
            amount,
            fee: 0,
            original: Some(original.id.clone()),
            expires,
            ttl: rules.authorization_ttl_ms,
            question: Some(Question { id: fresh.approval.to_string(), expires, decided_by: None }),
            agent_day: None,
            account_day: None,
            case: None,
            ..original.clone()
        })
    }
}

impl Call<'_> {
    fn scope(&self, key: &str) -> String {
        format!("agent {} {} {key}", self.name, self.agent.key.hex())
    }

    fn role_has_tool(&self) -> Ruled<()> {
        let tools = self.rules.role_tools.get(self.agent.spiffe_id.role());
        let has = tools.is_some_and(|tools| tools.iter().any(|tool| tool == self.call.tool()));
        if has { Ok(()) } else { Err(Refusal::ToolDenied) }
    }

    fn question(&self) -> Question {
        let expires = self.now + self.rules.approval_ttl_ms;
        Question { id: self.fresh.approval.to_string(), expires, decided_by: None }
    }
}

/// Why a payment waits for the core, whose word ends the wait.
pub const NO_HOLD_YET: &str = "the core banking system has not confirmed the hold";

pub fn reversible(payment: &Payment) -> bool {
    use TransactionKind::{Booking, Incoming, Opening, Purchase, Reversal, Transfer};
    match payment.kind {
        Purchase | Transfer | Booking => payment.state == "executed",
        Reversal | Incoming | Opening => false,
    }
}

pub fn new_case(id: &str, agent: &str, reason: &str) -> Case {
    Case {
        id: id.into(),
        agent: agent.into(),
        state: "queued",
        reason: reason.into(),
        scope: None,
        payment: None,
        resume: "approved",
        decided_by: None,
        taken_by: None,
        proposed: None,
        asked: None,
    }
}

fn said(payment: &Payment) -> Word {
    match &payment.question {
        Some(question) => {
            Word::Asked { approval: question.id.clone(), payment: payment.id.clone(), expires: question.expires }
        }
        None => Word::Approved(payment.id.clone()),
    }
}

/// Why nothing more can be done with a payment in this state.
fn after(state: &str) -> Refusal {
    match state {
        "queued_manual" => Refusal::QueuedManual,
        "submitted" => Refusal::SubmissionPending,
        "executed" => Refusal::AlreadyExecuted,
        "denied" => Refusal::ApprovalDenied,
        "core_refused" => Refusal::CoreRefused,
        "cancelled" => Refusal::AuthorizationCancelled,
        "expired" => Refusal::AuthorizationExpired,
        "approval_expired" => Refusal::ApprovalExpired,
        "voided" => Refusal::AgentRevoked,
        other => panic!("not over: {other}"),
    }
}

fn ceiling(max: Option<Money>, amount: Money, above: Refusal) -> Ruled<()> {
    match max {
        Some(max) if max.currency() != amount.currency() => Err(Refusal::CurrencyMismatch),
        Some(max) if amount.minor() > max.minor() => Err(above),
        Some(_) | None => Ok(()),
    }
}
