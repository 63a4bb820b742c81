//! The model's rules for the bank's people, its own jobs and the core banking system.

use countersign::kernel::command::{
    Act, Actor, Command, CoreVerb, CoreWord, NewAccount, RevocationTarget, Rules, TakeFrom, Verdict,
};
use countersign::kernel::ledger::{AccountStatus, TransactionKind};
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::Money;

use super::model::{Account, Book, Case, Grant, Kind, Maker, Payment, Ruled};
use super::rules::{NO_HOLD_YET, Word, reversible};

impl Book {
    /// What a command comes to. A refusal changes nothing but its nonce.
    pub fn decide(&mut self, command: &Command) -> Ruled<Word> {
        if let Some(nonce) = &command.stamp.nonce {
            // Nonces are kept for a day at least; requests live for minutes.
            let (day, nonce) = (super::calendar::day("UTC", command.stamp.wall.0), nonce.hex());
            if self.nonces.iter().any(|(taken, there)| *there == nonce && (taken - day).abs() <= 1) {
                return Err(Refusal::NonceReplayed);
            }
            self.nonces.push((day, nonce));
        }
        let mut after = self.clone();
        let word = after.act(command)?;
        *self = after;
        Ok(word)
    }

    fn act(&mut self, command: &Command) -> Ruled<Word> {
        let now = command.stamp.wall.0;
        match &command.act {
            Act::Tool { call, rules, fresh, .. } => self.tool(command, call, rules, fresh),
            Act::OpenAccount(new) => {
                staff(&command.actor, &["administrator"])?;
                self.open_account(command, new)
            }
            Act::SetAccountStatus { account, status, .. } => {
                staff(&command.actor, &["officer", "administrator"])?;
                self.set_status(&command.actor, account.as_str(), *status)
            }
            Act::Transfer { debit, credit, amount, reference } => {
                staff(&command.actor, &["officer", "administrator"])?;
                self.book_transfer(command, debit, credit, *amount, reference.as_str())
            }
            Act::ReverseTransaction { transaction_id, amount, idempotency_key, rules, fresh } => {
                staff(&command.actor, &["officer"])?;
                let (scope, request) = (format!("bank {idempotency_key}"), format!("{transaction_id} {amount:?}"));
                if let Some(word) = self.said_before(&scope, &request, now)? {
                    return Ok(word);
                }
                let original = self.payment(transaction_id.as_str()).cloned().ok_or(Refusal::UnknownTransaction)?;
                if !reversible(&original) {
                    return Err(Refusal::NotReversible);
                }
                let maker = Maker::of(&command.actor);
                let reversal = self.reversal(&original, *amount, maker, now, rules, fresh)?;
                Ok(self.made(reversal, &scope, &request, now))
            }
            Act::SetBreaker { cause, reason, node: _ } => {
                // What a person stopped a person lets go on; the daemon's breaker does the rest, and people lift it.
                let by = match &command.actor {
                    Actor::System { component } if component == "breaker" && cause.name() != "operator" => {
                        command.actor.name()
                    }
                    Actor::Operator(_) if cause.name() == "operator" || reason.is_none() => {
                        human(&command.actor, &["officer", "administrator"])?
                    }
                    _ => return Err(Refusal::OperatorNotPermitted),
                };
                let place = match cause.name() {
                    "operator" => 0,
                    "anomalies" => 1,
                    // A node's own knowledge is in no book.
                    _ => return Ok(Word::Done { changed: true }),
                };
                let changed = reason.is_some() != self.breaker.contains_key(&place);
                match reason {
                    Some(reason) if changed => drop(self.breaker.insert(place, (reason.clone(), by))),
                    Some(_) => {}
                    None => drop(self.breaker.remove(&place)),
                }
                Ok(Word::Done { changed })
            }
            Act::TakeCase { case, from } => {
                let by = human(&command.actor, &["approver", "officer"])?;
                self.take(case.as_str(), *from == TakeFrom::Anybody, &by)
            }
            Act::ResolveCase { case, verdict, rules, .. } => {
                let by = human(&command.actor, &["approver", "officer"])?;
                self.resolve(case.as_str(), verdict.status(), &by, rules, now)
            }
            Act::QueueManual { transaction_id, case, reason } => {
                let Actor::System { .. } = &command.actor else { return Err(Refusal::OperatorNotPermitted) };
                self.queue_manual(&command.actor, transaction_id.as_str(), case.as_str(), reason)
            }
            Act::CoreAnswered { transaction_id, verb, word } => {
                let Actor::System { .. } = &command.actor else { return Err(Refusal::OperatorNotPermitted) };
                self.core_answered(transaction_id.as_str(), *verb, word, now)
            }
            Act::IncomingPayment { account, amount, reference } => {
                staff(&command.actor, &["officer", "administrator"])?;
                let (scope, request) = (format!("incoming {reference}"), format!("{account} {amount:?}"));
                if let Some(word) = self.moved_before(&scope, &request, now)? {
                    return Ok(word);
                }
                if self.customer(account.as_str())?.status != "active" {
                    return Err(Refusal::AccountNotActive);
                }
                let id = self.arrived(command, account.as_str(), *amount, TransactionKind::Incoming)?;
                self.bind(&scope, &request, now, Some(id.clone()), None);
                Ok(Word::Posted { payment: id, repeated: false })
            }
            Act::AddMerchant { merchant, name, currency, .. } => {
                staff(&command.actor, &["administrator"])?;
                let new = (name.clone(), currency.to_string());
                if let Some(there) = self.merchants.get(merchant.as_str()) {
                    return unchanged(*there == new);
                }
                let account = Account { kind: Kind::Merchant, ..blank(merchant.as_str(), currency.code()) };
                self.accounts.insert(format!("merchant:{merchant}"), account);
                self.merchants.insert(merchant.to_string(), new);
                Ok(Word::Done { changed: true })
            }
            Act::AddProduct { merchant, product, title, price, .. } => {
                staff(&command.actor, &["administrator"])?;
                if price.minor() <= 0 {
                    return Err(Refusal::AmountNotPositive);
                }
                let (_, currency) = self.merchants.get(merchant.as_str()).ok_or(Refusal::UnknownMerchant)?;
                if currency != price.currency().code() {
                    return Err(Refusal::CurrencyMismatch);
                }
                let (key, new) = ((merchant.to_string(), product.to_string()), (title.clone(), *price));
                if let Some(there) = self.offers.get(&key) {
                    return unchanged(*there == new);
                }
                self.offers.insert(key, new);
                Ok(Word::Done { changed: true })
            }
            Act::AddGrant { agent, account, owner, verbs, per_transaction_max, expires } => {
                let entered_by = staff(&command.actor, &["officer", "administrator"])?;
                let row = self.customer(account.as_str())?;
                if row.owner != owner.as_str() {
                    return Err(Refusal::AccountNotGranted);
                }
                if per_transaction_max.is_some_and(|max| max.currency().code() != row.currency) {
                    return Err(Refusal::CurrencyMismatch);
                }
                let verbs = verbs.iter().copied().collect();
                let owner = owner.to_string();
                let new = Grant { owner, verbs, max: *per_transaction_max, expires: expires.0, entered_by };
                let key = (agent.to_string(), account.to_string());
                if let Some(there) = self.grants.get(&key).filter(|there| now < there.expires) {
                    let slack = (there.expires - new.expires).abs() < super::calendar::DAY_MS;
                    return unchanged(
                        slack
                            && Grant { expires: new.expires, entered_by: new.entered_by.clone(), ..there.clone() }
                                == new,
                    );
                }
                self.grants.insert(key, new);
                Ok(Word::Done { changed: true })
            }
            Act::RevokeGrant { agent, account } => {
                staff(&command.actor, &["officer", "administrator"])?;
                let changed = self.grants.remove(&(agent.to_string(), account.to_string())).is_some();
                Ok(Word::Done { changed })
            }
            Act::DecideApproval { approval, verdict, .. } => {
                let by = human(&command.actor, &["approver", "officer", "administrator"])?;
                let may = human(&command.actor, &["approver"]).map(drop);
                self.decide_approval(approval.as_str(), *verdict, by, may, now)
            }
            Act::Sweep { .. } => Ok(self.sweep(now)),
            Act::Revoke { target: RevocationTarget::Agent(agent), .. } => {
                let before = self.voidable().len();
                let already = !self.revoked.insert(agent.to_string());
                let authorizations = u32::try_from(self.voidable().len() - before).expect("a small book");
                Ok(Word::Revoked { authorizations, already })
            }
            other => panic!("the model has no rule for {other:?}"),
        }
    }

    fn open_account(&mut self, command: &Command, new: &NewAccount) -> Ruled<Word> {
        let foreign = |amount: Option<Money>| amount.is_some_and(|amount| amount.currency() != new.currency);
        if foreign(new.opening) || foreign(new.overdraft) || foreign(new.day_max) {
            return Err(Refusal::CurrencyMismatch);
        }
        let below = |amount: Option<Money>, least: i64| amount.is_some_and(|amount| amount.minor() < least);
        if below(new.overdraft, 0) || below(new.day_max, 1) {
            return Err(Refusal::AmountNotPositive);
        }
        let (scope, request) = (format!("opening {}", new.account), format!("{new:?}"));
        if self.accounts.contains_key(new.account.as_str()) {
            return unchanged(self.key(&scope, command.stamp.wall.0).is_some_and(|key| key.request == request));
        }
        let account = Account {
            overdraft: new.overdraft.map_or(0, |overdraft| overdraft.minor().into()),
            day_max: new.day_max.map(|max| max.minor().into()),
            zone: new.zone.name().into(),
            ..blank(new.owner.as_str(), new.currency.code())
        };
        self.accounts.insert(new.account.to_string(), account);
        let mut payment = None;
        if let Some(amount) = new.opening {
            payment = Some(self.arrived(command, new.account.as_str(), amount, TransactionKind::Opening)?);
        }
        self.bind(&scope, &request, command.stamp.wall.0, payment, None);
        Ok(Word::Done { changed: true })
    }

    fn set_status(&mut self, actor: &Actor, name: &str, status: AccountStatus) -> Ruled<Word> {
        let account = self.customer(name)?.clone();
        let by = actor.name();
        let wanted = status.name();
        if account.status == wanted {
            return Ok(Word::Done { changed: false });
        }
        if account.status == "closed" {
            return Err(Refusal::AccountNotActive);
        }
        if wanted == "active" {
            if let Actor::System { .. } = actor {
                return Err(Refusal::OperatorNotPermitted);
            }
            if account.status_by.as_ref() == Some(&by) {
                return Err(Refusal::MakerIsChecker);
            }
        }
        if wanted == "closed" && (account.balance != 0 || account.held != 0) {
            return Err(Refusal::AccountNotEmpty);
        }
        let account = self.account_mut(name);
        account.status = wanted;
        account.status_by = (wanted != "active").then_some(by);
        Ok(Word::Done { changed: true })
    }

    fn book_transfer(&mut self, command: &Command, debit: &str, credit: &str, amount: Money, key: &str) -> Ruled<Word> {
        let now = command.stamp.wall.0;
        let (scope, request) = (format!("booking {key}"), format!("{debit} {credit} {amount:?}"));
        if let Some(word) = self.moved_before(&scope, &request, now)? {
            return Ok(word);
        }
        // An income account that this very posting opens has nothing to give.
        let from = self.accounts.get(debit).map(|account| account.kind);
        if credit == format!("fees:{}", amount.currency()) {
            self.internal(Kind::Fees, amount.currency().code());
        }
        let to = self.accounts.get(credit).ok_or(Refusal::UnknownDestination)?.kind;
        let by_hand = matches!(command.actor, Actor::Operator(_));
        if by_hand && to != Kind::Fees {
            return Err(Refusal::OperatorNotPermitted);
        }
        let from = from.ok_or(Refusal::UnknownAccount)?;
        if by_hand && !matches!(from, Kind::Customer | Kind::Merchant) {
            return Err(Refusal::OperatorNotPermitted);
        }
        let account_day = self.within_day(debit, amount.minor().into(), now)?;
        let payment = Payment { account_day, ..moved(command, TransactionKind::Booking, debit, credit, amount) };
        let id = self.carry_out(payment)?;
        self.bind(&scope, &request, now, Some(id.clone()), None);
        Ok(Word::Posted { payment: id, repeated: false })
    }

    fn arrived(&mut self, command: &Command, to: &str, amount: Money, kind: TransactionKind) -> Ruled<String> {
        let clearing = self.internal(Kind::Clearing, amount.currency().code());
        self.carry_out(moved(command, kind, &clearing, to, amount))
    }

    /// A payment that is authorized and posted in one step.
    fn carry_out(&mut self, payment: Payment) -> Ruled<String> {
        self.payments.push(payment.clone());
        self.post(&payment)?;
        self.count(&payment, 1);
        Ok(payment.id)
    }

    fn moved_before(&self, scope: &str, request: &str, now: i64) -> Ruled<Option<Word>> {
        let Some(key) = self.key(scope, now) else { return Ok(None) };
        if key.request != request {
            return Err(Refusal::IdempotencyKeyReused);
        }
        Ok(Some(Word::Posted { payment: key.payment.clone().expect("it moved money"), repeated: true }))
    }

    fn decide_approval(&mut self, id: &str, verdict: Verdict, by: String, may: Ruled<()>, now: i64) -> Ruled<Word> {
        let payment = self.payment_of_question(id).cloned().ok_or(Refusal::UnknownApproval)?;
        match payment.state {
            "pending_approval" if now < payment.expires => {}
            "pending_approval" | "approval_expired" => return Err(Refusal::ApprovalExpired),
            "queued_manual" => return Err(Refusal::QueuedManual),
            "cancelled" => return Err(Refusal::AuthorizationCancelled),
            "voided" => return Err(Refusal::AgentRevoked),
            "core_refused" => return Err(Refusal::CoreRefused),
            _ => return Err(Refusal::AlreadyDecided),
        }
        may?;
        if payment.maker == Maker::Human(by.clone()) {
            return Err(Refusal::MakerIsChecker);
        }
        // Who let an agent at the account does not approve what it does there.
        let account = if payment.kind == TransactionKind::Reversal { &payment.credit } else { &payment.debit };
        let grant = payment.maker.agent().and_then(|agent| self.grants.get(&(agent.to_owned(), account.clone())));
        if grant.is_some_and(|grant| grant.entered_by == by) {
            return Err(Refusal::MakerIsChecker);
        }
        let granted = grant.is_some_and(|grant| now < grant.expires);
        let yes = verdict == Verdict::Approve;
        if yes && payment.maker.agent().is_some_and(|agent| self.revoked.contains(agent)) {
            return Err(Refusal::AgentRevoked);
        }
        if yes && payment.maker.agent().is_some() && !granted {
            return Err(Refusal::AccountNotGranted);
        }
        let question = self.payment_mut(&payment.id).question.as_mut().expect("it was found by its question");
        question.decided_by = Some(by);
        if !yes {
            self.end(&payment.id, "denied");
        } else {
            let row = self.payment_mut(&payment.id);
            row.state = "approved";
            row.expires = now + row.ttl;
            let row = row.clone();
            if !row.holds() && row.external {
                self.both_active(&row)?;
                self.hold(&row.debit, row.total())?;
                self.submit(&row.id);
            } else if !row.holds() {
                self.post(&row)?;
            }
        }
        Ok(Word::Decided { payment: payment.id, yes })
    }

    fn take(&mut self, id: &str, over: bool, by: &str) -> Ruled<Word> {
        let case = self.case(id).cloned().ok_or(Refusal::UnknownCase)?;
        if case.state != "queued" {
            return Err(Refusal::AlreadyDecided);
        }
        let before = case.taken_by.filter(|before| before != by);
        if before.is_some() && !over {
            return Err(Refusal::CaseTaken);
        }
        self.case_mut(id).taken_by = Some(by.into());
        let step = format!("taken by {by} from {}", before.unwrap_or_default());
        Ok(Word::CaseWorked { case: id.into(), payment: case.payment, step })
    }

    fn resolve(&mut self, id: &str, verdict: &'static str, by: &str, rules: &Rules, now: i64) -> Ruled<Word> {
        let case = self.case(id).cloned().ok_or(Refusal::UnknownCase)?;
        if case.state != "queued" {
            return Err(Refusal::AlreadyDecided);
        }
        let others = case.taken_by.as_deref().is_some_and(|taken| taken != by);
        if case.proposed.is_none() && others {
            return Err(Refusal::CaseTaken);
        }
        let worked =
            |step: &str| Word::CaseWorked { case: id.into(), payment: case.payment.clone(), step: step.into() };
        let payment = case.payment.as_deref().and_then(|payment| self.payment(payment)).cloned();
        let amount = payment.as_ref().map(|row| (row.currency.clone(), row.amount)).or(case.asked.clone());
        let threshold = rules.manual_two_people_above;
        let small = |limit: Money| {
            amount.as_ref().is_some_and(|(currency, minor)| {
                currency == limit.currency().code() && *minor <= i128::from(limit.minor())
            })
        };
        if threshold.is_some_and(|limit| !small(limit)) {
            match &case.proposed {
                Some((first, who)) if first == verdict && who == by => return Err(Refusal::SecondPersonNeeded),
                Some((first, _)) if first == verdict => {}
                _ => {
                    let row = self.case_mut(id);
                    row.taken_by.get_or_insert(by.into());
                    row.proposed = Some((verdict.into(), by.into()));
                    return Ok(worked(&format!("proposed {verdict} by {by}")));
                }
            }
        }
        if let Some(payment) = payment.as_ref().filter(|payment| payment.state == "voided")
            && verdict == "paid_elsewhere"
        {
            // Void when its agent was revoked, and spent all the same.
            self.payment_mut(&payment.id).state = "denied";
            self.count(payment, 1);
        }
        if let Some(payment) = payment.filter(|payment| payment.state == "queued_manual") {
            if verdict == "released" {
                self.resume(&payment.id, case.resume, now);
            } else {
                self.end(&payment.id, "denied");
                if verdict == "paid_elsewhere" {
                    // The money was spent: only the hold goes back.
                    self.count(&payment, 1);
                }
            }
        }
        if let (Some(scope), "released") = (&case.scope, verdict) {
            self.keys.retain(|key| key.scope != *scope || key.case.as_deref() != Some(id));
        }
        self.close_case(id, verdict, by);
        Ok(worked(verdict))
    }

    fn case_mut(&mut self, id: &str) -> &mut Case {
        self.cases.iter_mut().find(|case| case.id == id).expect("the caller found it before")
    }

    fn resume(&mut self, id: &str, state: &'static str, now: i64) {
        let payment = self.payment_mut(id);
        payment.state = state;
        payment.expires = match &payment.question {
            Some(question) if state == "pending_approval" => question.expires,
            Some(_) | None => now + payment.ttl,
        };
    }

    fn close_case(&mut self, id: &str, state: &'static str, by: &str) {
        let case = self.case_mut(id);
        case.state = state;
        case.decided_by = Some(by.into());
    }

    fn queue_manual(&mut self, actor: &Actor, id: &str, case: &str, reason: &str) -> Ruled<Word> {
        let payment = self.payment(id).cloned().ok_or(Refusal::UnknownTransaction)?;
        match payment.state {
            "approved" | "pending_approval" => {}
            "queued_manual" => return self.word_of(payment.case.as_deref().expect("it waits under a case")),
            "submitted" => return Err(Refusal::SubmissionPending),
            "executed" => return Err(Refusal::AlreadyExecuted),
            _ => return Err(Refusal::AuthorizationCancelled),
        }
        // The core's part of the daemon gives up on a hold that the core has confirmed since.
        if actor.name() == "system:core" && !self.outbox.contains(&(id.to_owned(), "hold")) {
            return Ok(Word::Done { changed: false });
        }
        let agent = payment.maker.agent().ok_or(Refusal::UnknownTransaction)?;
        if self.case(case).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        self.wait(id, case, agent, reason);
        Ok(Word::Queued { case: case.into(), payment: Some(id.into()), reason: reason.into() })
    }

    fn core_answered(&mut self, id: &str, verb: CoreVerb, word: &CoreWord, now: i64) -> Ruled<Word> {
        let payment = self.payment(id).cloned().ok_or(Refusal::UnknownTransaction)?;
        let order = (id.to_owned(), verb.name());
        if !self.outbox.contains(&order) {
            return Ok(Word::Done { changed: false });
        }
        self.outbox.retain(|there| *there != order);
        let done = *word == CoreWord::Done;
        match verb {
            CoreVerb::Hold if done => {
                let waits = payment.case.as_deref().filter(|_| payment.state == "queued_manual");
                let case = waits
                    .and_then(|case| self.case(case))
                    .filter(|case| case.reason == NO_HOLD_YET && case.taken_by.is_none() && case.proposed.is_none());
                let case = case.cloned();
                if let Some(case) = case {
                    self.resume(id, case.resume, now);
                    self.close_case(&case.id, "released", "system:core");
                }
            }
            // What was never held there needs no release.
            CoreVerb::Hold if ["approved", "pending_approval", "queued_manual"].contains(&payment.state) => {
                let told = self.outbox.clone();
                self.end(id, "core_refused");
                self.outbox = told;
                if let ("queued_manual", Some(case)) = (payment.state, &payment.case) {
                    self.close_case(case, "rejected", "system:core");
                }
            }
            CoreVerb::Settle if payment.state == "submitted" && done => {
                self.post(&payment)?;
                return Ok(Word::Posted { payment: id.into(), repeated: false });
            }
            CoreVerb::Settle if payment.state == "submitted" => self.end(id, "core_refused"),
            CoreVerb::Hold | CoreVerb::Settle | CoreVerb::Release => {}
        }
        Ok(Word::Done { changed: true })
    }

    /// Ends what revoked agents left open and what lapsed.
    fn sweep(&mut self, now: i64) -> Word {
        let void = self.voidable();
        let lapsed = |payment: &&Payment| {
            ["approved", "pending_approval"].contains(&payment.state)
                && payment.expires <= now
                && !void.contains(&payment.id)
        };
        let lapsed: Vec<Payment> = self.payments.iter().filter(lapsed).cloned().collect();
        let released = u32::try_from(void.len() + lapsed.len()).expect("a small book");
        for id in &void {
            self.end(id, "voided");
        }
        for payment in lapsed {
            self.end(&payment.id, if payment.state == "approved" { "expired" } else { "approval_expired" });
        }
        Word::Swept(released)
    }
}

/// Who acts, if one of their roles is asked for. The daemon may do what its own jobs need.
fn staff(actor: &Actor, roles: &[&str]) -> Ruled<String> {
    match actor {
        Actor::System { .. } => Ok(actor.name()),
        Actor::Agent(_) | Actor::Operator(_) | Actor::Program(_) => human(actor, roles),
    }
}

fn human(actor: &Actor, roles: &[&str]) -> Ruled<String> {
    match actor {
        Actor::Operator(operator) if roles.iter().any(|role| operator.roles.iter().any(|has| has == role)) => {
            Ok(operator.name.to_string())
        }
        Actor::Operator(_) | Actor::Agent(_) | Actor::Program(_) | Actor::System { .. } => {
            Err(Refusal::OperatorNotPermitted)
        }
    }
}

fn unchanged(same: bool) -> Ruled<Word> {
    if same { Ok(Word::Done { changed: false }) } else { Err(Refusal::AlreadyExists) }
}

fn blank(owner: &str, currency: &str) -> Account {
    Account {
        owner: owner.into(),
        kind: Kind::Customer,
        currency: currency.into(),
        status: "active",
        status_by: None,
        balance: 0,
        held: 0,
        overdraft: 0,
        day_max: None,
        zone: "UTC".into(),
    }
}

/// A payment that no authorization named: its id is its request's.
fn moved(command: &Command, kind: TransactionKind, debit: &str, credit: &str, amount: Money) -> Payment {
    let now = command.stamp.wall.0;
    Payment {
        id: command.stamp.request_id.as_str().replace("req_", "txn_"),
        kind,
        state: "approved",
        maker: Maker::of(&command.actor),
        debit: debit.into(),
        credit: credit.into(),
        currency: amount.currency().to_string(),
        amount: amount.minor().into(),
        fee: 0,
        merchant: None,
        product: None,
        original: None,
        expires: now,
        ttl: 0,
        question: None,
        agent_day: None,
        account_day: None,
        external: false,
        case: None,
    }
}
