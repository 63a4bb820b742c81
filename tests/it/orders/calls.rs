//! What the witness asks of an agent's call that was not refused.

use countersign::kernel::command::*;
use countersign::kernel::ledger::TransactionKind;
use countersign::kernel::types::{CaseId, Money, TransactionId};

use super::bank::{OFFERS, Period, account};
use super::policies::{ONE_APPROVER, OPEN_MAX, PACE_WINDOW_MS};
use super::witness::{Asked, Held, Mandated, Payment, Scope, State, Waiting, Witness, must};
use crate::ledger::calendar;

/// A new authorization in the witness's words.
struct Wish<'a> {
    kind: TransactionKind,
    verb: Verb,
    from: Option<&'a str>,
    /// An account, or a merchant.
    payee: &'a str,
    product: Option<&'a str>,
    amount: i64,
    key: &'a str,
}

impl Witness {
    pub fn called(
        &mut self,
        asked: &Asked,
        agent: &AgentPrincipal,
        call: &ToolCall,
        fresh: &FreshIds,
        effect: &Effect,
    ) -> Held {
        let (name, key) = (agent.spiffe_id.to_string(), agent.key.hex());
        match call {
            ToolCall::AuthorizeTransfer { from_account, to_account, amount, idempotency_key } => {
                let wish = Wish {
                    kind: TransactionKind::Transfer,
                    verb: Verb::Transfer,
                    from: from_account.as_ref().map(|from| from.as_str()),
                    payee: to_account.as_str(),
                    product: None,
                    amount: amount.minor(),
                    key: idempotency_key.as_str(),
                };
                self.authorizes(asked, (name, key), call, &wish, fresh, effect)
            }
            ToolCall::AuthorizePurchase { product_id, price, merchant, from_account, idempotency_key } => {
                let wish = Wish {
                    kind: TransactionKind::Purchase,
                    verb: Verb::Purchase,
                    from: from_account.as_ref().map(|from| from.as_str()),
                    payee: merchant.as_str(),
                    product: Some(product_id.as_str()),
                    amount: price.minor(),
                    key: idempotency_key.as_str(),
                };
                self.authorizes(asked, (name, key), call, &wish, fresh, effect)
            }
            ToolCall::ExecuteTransfer { transaction_id, from_account, to_account, amount } => {
                let payment = self.own(transaction_id, &name, &key)?;
                let same = payment.kind == TransactionKind::Transfer
                    && from_account.as_ref().is_none_or(|from| from.as_str() == payment.debit)
                    && to_account.as_str() == payment.credit
                    && *amount == Money::from_minor(payment.amount, "USD".parse().unwrap());
                must(same, "executed with other parameters than were authorized")?;
                self.executes(asked, payment, Verb::Transfer, "execute_transfer", fresh, effect)
            }
            ToolCall::ExecutePurchase { transaction_id, product_id } => {
                let payment = self.own(transaction_id, &name, &key)?;
                let same = payment.kind == TransactionKind::Purchase
                    && payment.product.as_deref() == Some(product_id.as_str());
                must(same, "executed with another product than was authorized")?;
                self.executes(asked, payment, Verb::Purchase, "execute_purchase", fresh, effect)
            }
            ToolCall::CancelAuthorization { .. } => {
                let Effect::Cancelled { transaction_id } = effect else { return Err(format!("cancelled: {effect:?}")) };
                let payment = self.own(transaction_id, &name, &key)?;
                let may = matches!(payment.state, State::Asked | State::Approved | State::Ended);
                must(may, "cancelled what is executed or with the bank's people")?;
                if payment.is_open() {
                    self.saw("cancelled");
                }
                self.payment(transaction_id.as_str())?.state = State::Ended;
                Ok(())
            }
            ToolCall::RequestReversal { transaction_id, amount, idempotency_key } => {
                let scope = (name.clone(), key.clone(), idempotency_key.to_string());
                if !self.intents.contains_key(&scope) {
                    let original = self.own(transaction_id, &name, &key)?;
                    let now = asked.command.stamp.wall.0;
                    self.granted(&name, &original.debit, Verb::Reverse, now)?;
                }
                let by = Some((name.clone(), key));
                self.reversing(asked, scope, by, name, transaction_id.as_str(), *amount, fresh, effect)
            }
            other => panic!("these agents do not read: {other:?}"),
        }
    }

    fn own(&mut self, id: &TransactionId, name: &str, key: &str) -> Result<Payment, String> {
        let payment = self.payment(id.as_str())?.clone();
        let mine = payment.agent.as_ref().is_some_and(|(maker, with)| maker == name && with == key);
        must(mine, "another agent's payment, or another key's")?;
        Ok(payment)
    }

    /// What the same intent came to before. True: it was asked for before.
    pub fn repeats(&mut self, scope: &Scope, call: &str, answer: &str) -> Result<bool, String> {
        let Some((before, stands_for)) = self.intents.get(scope) else { return Ok(false) };
        must(before == call, "one idempotency key for two intents")?;
        must(stands_for == answer, "one intent came to two payments")?;
        self.saw("repeated");
        Ok(true)
    }

    fn authorizes(
        &mut self,
        asked: &Asked,
        agent: (String, String),
        call: &ToolCall,
        wish: &Wish<'_>,
        fresh: &FreshIds,
        effect: &Effect,
    ) -> Held {
        let scope = (agent.0.clone(), agent.1.clone(), wish.key.to_owned());
        let text = format!("{call:?}");
        let (id, approval, until, mandate) = match effect {
            Effect::Approved { transaction_id, mandate } => (transaction_id, None, None, mandate),
            Effect::RequiresApproval { approval_id, transaction_id, expires, mandate, .. } => {
                (transaction_id, Some(approval_id.to_string()), Some(expires.0), mandate)
            }
            Effect::QueuedManual { case_id, transaction_id: Some(_), .. } => {
                must(
                    self.intents.get(&scope).is_some_and(|(before, _)| *before == text),
                    "queued, and never asked for",
                )?;
                return must(self.cases.iter().any(|case| case.id == case_id.as_str()), "a case that nobody opened");
            }
            Effect::QueuedManual { case_id, transaction_id: None, .. } => {
                return self.queues(scope, text, wish.amount, case_id, fresh);
            }
            other => return Err(format!("no answer to an authorization: {other:?}")),
        };
        if self.repeats(&scope, &text, id.as_str())? {
            return Ok(());
        }
        must(*id == fresh.transaction, "an id that was not given")?;
        must(self.stopped.is_empty(), "authorized while payments are stopped")?;
        let now = asked.command.stamp.wall.0;
        let debit = self.source(&agent.0, wish, now)?;
        let debit = debit.as_str();
        let credit = self.permits(asked, &agent.0, wish, debit, now)?;
        self.mandated(asked, &agent, wish, debit, mandate.as_ref().map(|id| id.as_str()), now)?;
        let paced = self.paced(asked, &agent.0, approval.is_none(), now)?;
        let mine = |payment: &&Payment| payment.agent_name() == agent.0 && payment.debit == debit && payment.is_open();
        must(self.payments.iter().filter(mine).count() < OPEN_MAX, "more open authorizations than there may be")?;
        if let Some(max) = account(debit).3 {
            let today = calendar::day(account(debit).4, now);
            let counts = |payment: &&Payment| {
                let ours = payment.debit == debit && payment.kind != TransactionKind::Reversal;
                ours && payment.counts() && payment.day() == today
            };
            let spent: i64 = self.payments.iter().filter(counts).map(|payment| payment.amount).sum();
            must(spent + wish.amount <= max, "more from an account than its limit of a day")?;
        }
        if approval.is_none() {
            self.unattended(asked, &agent.0, wish, debit, now)?;
        }
        let mut gates = if approval.is_some() { asked.plain.gates_for(wish.amount) } else { vec![] };
        if approval.is_some() && gates.is_empty() {
            gates.push(ONE_APPROVER);
        }
        self.saw(if approval.is_some() { "asked" } else { "approved" });
        let until = until.unwrap_or(now + rules_of(asked).authorization_ttl_ms);
        self.payments.push(Payment {
            id: id.to_string(),
            kind: wish.kind,
            maker: agent.0.clone(),
            agent: Some(agent),
            debit: debit.to_owned(),
            credit,
            amount: wish.amount,
            product: wish.product.map(str::to_owned),
            merchant: wish.product.map(|_| wish.payee.to_owned()),
            original: None,
            made: now,
            paced,
            approval,
            gates,
            words: vec![],
            state: if matches!(effect, Effect::Approved { .. }) { State::Approved } else { State::Asked },
            elsewhere: false,
            until,
            approval_until: until,
            mandate: mandate.as_ref().map(ToString::to_string),
            statement: vec![],
        });
        self.intents.insert(scope, (text, id.to_string()));
        Ok(())
    }

    fn queues(&mut self, scope: Scope, text: String, amount: i64, case: &CaseId, fresh: &FreshIds) -> Held {
        if self.repeats(&scope, &text, case.as_str())? {
            return Ok(());
        }
        must(!self.stopped.is_empty() && *case == fresh.case, "a case, and nothing is stopped")?;
        self.saw("queued instead");
        self.intents.insert(scope.clone(), (text, case.to_string()));
        let (id, scope) = (case.to_string(), Some(scope));
        self.cases.push(Waiting { id, scope, payment: None, amount, is_done: false, taken: None, proposed: None });
        Ok(())
    }

    /// The account that pays: the named one, or the only one that fits.
    fn source(&self, agent: &str, wish: &Wish<'_>, now: i64) -> Result<String, String> {
        if let Some(from) = wish.from {
            return Ok(from.to_owned());
        }
        let fits = |(who, name): &&(String, String)| who == agent && self.granted(agent, name, wish.verb, now).is_ok();
        let fitting: Vec<_> = self.grants.keys().filter(fits).collect();
        must(fitting.len() == 1, "an account was guessed")?;
        Ok(fitting[0].1.clone())
    }

    /// Grant, role, payee, ceilings. The account that is paid.
    fn permits(&self, asked: &Asked, agent: &str, wish: &Wish<'_>, debit: &str, now: i64) -> Result<String, String> {
        let plain = &asked.plain;
        let grant = self.granted(agent, debit, wish.verb, now)?;
        must(wish.amount > 0, "an amount of nothing")?;
        must(grant.max.is_none_or(|max| wish.amount <= max), "above the owner's limit")?;
        must(plain.with_settings(|plain| plain.ceiling).is_none_or(|max| wish.amount <= max), "above a ceiling")?;
        match wish.product {
            None => {
                must(!plain.denied.contains(&"authorize_transfer"), "a tool that the policy denies")?;
                must(plain.transfer_max.is_none_or(|max| wish.amount <= max), "a constraint of the role")?;
                must(plain.payees.is_none_or(|payees| payees.contains(&wish.payee)), "a payee that no rule names")?;
                must(wish.payee != debit, "to itself")?;
                Ok(wish.payee.to_owned())
            }
            Some(product) => {
                let offer = (wish.payee, product, wish.amount);
                must(OFFERS.contains(&offer), "bought at a price that nobody offers")?;
                let listed = plain.merchants.is_none_or(|merchants| merchants.contains(&wish.payee));
                must(listed, "a merchant that no rule names")?;
                Ok(format!("merchant:{}", wish.payee))
            }
        }
    }

    /// An agent that ever had a mandate for the account pays within one that stands.
    fn mandated(
        &mut self,
        asked: &Asked,
        (agent, key): &(String, String),
        wish: &Wish<'_>,
        debit: &str,
        under: Option<&str>,
        now: i64,
    ) -> Held {
        let of_it = |mandate: &&Mandated| mandate.agent == *agent && mandate.given.account == debit;
        let mine: Vec<Mandated> = self.mandates.iter().filter(of_it).cloned().collect();
        let Some(under) = under else {
            must(mine.is_empty(), "past an owner's mandate")?;
            return must(!asked.plain.needs_mandate, "without the mandate that a rule requires");
        };
        let mandate = mine.iter().find(|mandate| mandate.id == under).ok_or("under somebody else's mandate")?;
        let given = &mandate.given;
        must(!mandate.revoked, "under a revoked mandate")?;
        must((mandate.begins..mandate.expires).contains(&now), "under a mandate out of its time")?;
        must(mandate.key == *key, "under a mandate for another key")?;
        must(wish.amount <= given.max, "above a mandate's amount")?;
        must(given.payees.is_none_or(|payees| payees.contains(&wish.payee)), "a payee that the mandate does not name")?;
        let zone = account(debit).4;
        let today = calendar::day(zone, now);
        let counts = |payment: &&Payment| payment.mandate.as_deref() == Some(under) && payment.counts();
        let month = calendar::month(today);
        let within = |payment: &&Payment| match given.budget.1 {
            Period::Day => payment.day() == today,
            Period::Month => calendar::month(payment.day()) == month,
            Period::Life => true,
        };
        let spent: i64 = self.payments.iter().filter(counts).filter(within).map(|payment| payment.amount).sum();
        must(spent + wish.amount <= given.budget.0, "above a mandate's budget")?;
        let times = self.payments.iter().filter(counts).filter(|payment| calendar::month(payment.day()) == month);
        must(given.count.is_none_or(|most| times.count() < most), "more often than a mandate lets")?;
        self.saw("under a mandate");
        Ok(())
    }

    /// No hour holds more authorizations than the policy lets. Whether this one counts.
    fn paced(&self, asked: &Asked, agent: &str, alone: bool, now: i64) -> Result<bool, String> {
        let Some(pace) = asked.plain.pace else { return Ok(false) };
        let hour = |payment: &&Payment| payment.paced && (now - PACE_WINDOW_MS + 1..=now).contains(&payment.made);
        let mine = self.payments.iter().filter(hour).filter(|payment| payment.agent_name() == agent).count() + 1;
        must(mine <= pace.count || !(pace.denies || alone), "faster than the policy lets")?;
        Ok(true)
    }

    fn unattended(&self, asked: &Asked, agent: &str, wish: &Wish<'_>, debit: &str, now: i64) -> Held {
        let plain = &asked.plain;
        must(plain.gates_for(wish.amount).is_empty(), "above a threshold, and nobody was asked")?;
        let alone = plain.with_settings(|plain| plain.alone);
        must(alone.is_none_or(|max| wish.amount <= max), "above the unattended amount, and nobody was asked")?;
        let today = calendar::day(account(debit).4, now);
        let counts = |payment: &&Payment| {
            let mine = payment.agent_name() == agent && payment.approval.is_none();
            mine && payment.counts() && payment.day() == today
        };
        let spent: i64 = self.payments.iter().filter(counts).map(|payment| payment.amount).sum();
        let a_day = plain.with_settings(|plain| plain.alone_a_day);
        must(a_day.is_none_or(|max| spent + wish.amount <= max), "above the unattended day, and nobody was asked")
    }

    fn executes(
        &mut self,
        asked: &Asked,
        payment: Payment,
        verb: Verb,
        tool: &str,
        fresh: &FreshIds,
        effect: &Effect,
    ) -> Held {
        let now = asked.command.stamp.wall.0;
        match (effect, payment.state) {
            (Effect::Posted(posted), State::Posted) => {
                self.saw("answered again");
                return must(posted.repeated && posted.statement == payment.statement, "another answer than before");
            }
            (Effect::QueuedManual { case_id, .. }, State::Queued { .. }) => {
                let waits = self.cases.iter().any(|case| case.id == case_id.as_str() && !case.is_done);
                return must(waits, "a case that nobody opened");
            }
            (Effect::Posted(_) | Effect::QueuedManual { .. }, State::Approved) => {}
            other => return Err(format!("executed: {other:?}")),
        }
        must(now < payment.until, "executed after its end")?;
        let name = payment.agent_name().to_owned();
        self.granted(&name, &payment.debit, verb, now)?;
        must(!asked.plain.denied.contains(&tool), "executed with a tool that the policy denies by now")?;
        let payees = asked.plain.payees.filter(|_| payment.product.is_none());
        must(payees.is_none_or(|payees| payees.contains(&payment.credit.as_str())), "a payee that is denied by now")?;
        let merchant = payment.merchant.as_deref().unwrap_or_default();
        let merchants = asked.plain.merchants.filter(|_| payment.product.is_some());
        must(merchants.is_none_or(|merchants| merchants.contains(&merchant)), "a merchant that is denied by now")?;
        match &payment.mandate {
            Some(under) => {
                let mandate = self.mandates.iter().find(|one| one.id == *under).ok_or("under no mandate")?;
                must(!mandate.revoked, "executed under a revoked mandate")?;
                must((mandate.begins..mandate.expires).contains(&now), "executed under a mandate out of its time")?;
            }
            None => {
                let of_it = |one: &Mandated| one.agent == name && one.given.account == payment.debit;
                must(!self.mandates.iter().any(of_it), "executed past an owner's mandate")?;
                must(!asked.plain.needs_mandate, "executed without the mandate that a rule requires by now")?;
            }
        }
        if let Effect::QueuedManual { case_id, .. } = effect {
            must(!self.stopped.is_empty() && *case_id == fresh.case, "a case, and nothing is stopped")?;
            self.saw("queued");
            return self.wait(&payment.id, case_id.as_str());
        }
        must(self.stopped.is_empty(), "money moved while payments are stopped")?;
        let Effect::Posted(posted) = effect else { return Err(format!("executed: {effect:?}")) };
        must(!posted.repeated, "a first execution that says it is none")?;
        self.states(&payment, &posted.statement)?;
        self.saw("posted");
        if payment.gates.len() > 1 {
            self.saw("posted after both gates");
        }
        if payment.mandate.is_some() {
            self.saw("posted under a mandate");
        }
        self.payment(&payment.id)?.statement.clone_from(&posted.statement);
        self.posts(&payment.id)
    }

    /// What is signed about it is what was authorized, and names who let it through.
    fn states(&self, payment: &Payment, statement: &[u8]) -> Held {
        let said: TransactionStatement = serde_json::from_slice(statement).map_err(|error| error.to_string())?;
        let approvers: Vec<&str> = payment.words.iter().map(|word| super::people::PEOPLE[word.person].0).collect();
        let same = said.transaction_id.as_str() == payment.id
            && said.debit_account == payment.debit
            && said.credit_account == payment.credit
            && said.amount_minor == payment.amount.to_string()
            && said.product_id.as_ref().map(|product| product.as_str()) == payment.product.as_deref()
            && said.mandate_id.as_ref().map(|id| id.as_str()) == payment.mandate.as_deref()
            && said.agent.as_ref().map(ToString::to_string).as_deref() == Some(payment.agent_name())
            && said.approver.unwrap_or_default() == approvers.join(",");
        must(same, &format!("{} states something else than {payment:?}", String::from_utf8_lossy(statement)))
    }

    /// An open payment goes to the bank's people.
    pub fn wait(&mut self, id: &str, case: &str) -> Held {
        let payment = self.payment(id)?;
        payment.state = State::Queued { approved: payment.state == State::Approved };
        let (amount, payment) = (payment.amount, Some(id.to_owned()));
        let id = case.to_owned();
        self.cases.push(Waiting { id, scope: None, payment, amount, is_done: false, taken: None, proposed: None });
        Ok(())
    }
}

pub fn rules_of(asked: &Asked) -> &Rules {
    match &asked.command.act {
        Act::Tool { rules, .. } | Act::ReverseTransaction { rules, .. } | Act::ResolveCase { rules, .. } => rules,
        other => panic!("no rules come with {other:?}"),
    }
}
