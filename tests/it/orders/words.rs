//! What the witness asks of people's words: at the gates of an approval, about reversals, in the manual queue.

use countersign::kernel::command::*;
use countersign::kernel::ledger::TransactionKind;
use countersign::kernel::quorum::Side;
use countersign::kernel::types::Money;

use super::bank::account;
use super::calls::rules_of;
use super::people::{PEOPLE, Proof, key_of};
use super::policies::{Gate, ONE_APPROVER, TWO_PEOPLE_ABOVE};
use super::witness::{Asked, Held, Payment, Said, Scope, State, Witness, key_is_lost, must};

const BANK: [&str; 3] = ["approver", "officer", "administrator"];

impl Witness {
    pub fn spoke(&mut self, asked: &Asked, side: Side, verdict: Verdict, effect: &Effect) -> Held {
        let Effect::Decided { transaction_id, verdict: heard, pending, .. } = effect else {
            return Err(format!("no word: {effect:?}"));
        };
        let (now, by) = (asked.command.stamp.wall.0, asked.by);
        let payment = self.payment(transaction_id.as_str())?.clone();
        must(payment.state == State::Asked, "a word about what nobody asks any more")?;
        must(now < payment.until, "a word after the approval's end")?;
        must(*heard == verdict, "another word than was said")?;
        must(asked.proof == Proof::Own, "a word that the person's key did not sign")?;
        must(!key_is_lost(self, by), "a word by a revoked key")?;
        must(payment.words.iter().all(|word| word.person != by), "one person counted twice")?;
        must(payment.words.iter().all(|word| key_of(word.person) != key_of(by)), "one key counted twice")?;
        self.may_speak(&payment, side, by, asked)?;
        if verdict == Verdict::Deny {
            self.saw("denied");
            self.payment(&payment.id)?.state = State::Ended;
            return Ok(());
        }
        if payment.agent.is_some() {
            self.agent_stands(payment.agent_name())?;
            let account = granted_account(&payment);
            let key = (payment.agent_name().to_owned(), account.to_owned());
            let live = self.grants.get(&key).is_some_and(|grant| now < grant.expires);
            must(live, "approved for an agent whose grant is gone")?;
        }
        let word = Said { person: by, owner: side == Side::Owner, yes: true };
        let row = self.payment(&payment.id)?;
        row.words.push(word);
        if !pending.is_empty() {
            self.saw("one of several words");
            return Ok(());
        }
        let row = row.clone();
        must(row.gates.iter().all(|gate| is_satisfied(gate, &row.words)), "approved before every gate had its people")?;
        must(row.words.iter().all(|word| !key_is_lost(self, word.person)), "approved with a revoked person's word")?;
        self.saw("let through");
        if row.words.len() > 1 {
            self.saw("let through by several");
        }
        if row.kind == TransactionKind::Reversal {
            self.saw("reversed");
            return self.posts(&row.id);
        }
        let row = self.payment(&payment.id)?;
        (row.state, row.until) = (State::Approved, now + TTL_MS);
        Ok(())
    }

    fn may_speak(&self, payment: &Payment, side: Side, by: usize, asked: &Asked) -> Held {
        let (name, _, owns, _) = PEOPLE[by];
        must(payment.maker != name, "whoever made it has a say")?;
        match side {
            Side::Owner => {
                self.has_role(asked, &["owner"])?;
                must(payment.kind != TransactionKind::Reversal, "an owner is asked about a reversal")?;
                must(owns == Some(account(&payment.debit).1), "a stranger's consent")?;
                must(payment.gates.contains(&Gate::Owner), "a consent that nobody asks for")
            }
            Side::Bank => {
                self.has_role(asked, &BANK)?;
                let key = (payment.agent_name().to_owned(), granted_account(payment).to_owned());
                let entered = self.grants.get(&key).filter(|_| payment.agent.is_some());
                must(entered.is_none_or(|grant| grant.entered_by != name), "whoever let the agent in has a say")?;
                let hears = |gate: &Gate| match gate {
                    Gate::Owner => false,
                    Gate::Bank { roles, .. } => PEOPLE[by].1.iter().any(|role| roles.contains(role)),
                };
                must(payment.gates.iter().any(hears), "a word at no gate")
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub fn reversing(
        &mut self,
        asked: &Asked,
        scope: Scope,
        agent: Option<(String, String)>,
        maker: String,
        original: &str,
        amount: Option<Money>,
        fresh: &FreshIds,
        effect: &Effect,
    ) -> Held {
        let text = format!("{original} {amount:?}");
        let Effect::RequiresApproval { approval_id, transaction_id, expires, .. } = effect else {
            return Err(format!("a reversal that nobody is asked about: {effect:?}"));
        };
        if self.repeats(&scope, &text, transaction_id.as_str())? {
            return Ok(());
        }
        must(*transaction_id == fresh.transaction, "an id that was not given")?;
        let of = self.payment(original)?.clone();
        must(of.state == State::Posted && of.kind != TransactionKind::Reversal, "nothing there to reverse")?;
        let back = |payment: &&Payment| payment.original.as_deref() == Some(original) && payment.state != State::Ended;
        let before: i64 = self.payments.iter().filter(back).map(|payment| payment.amount).sum();
        let amount = amount.map_or(of.amount - before, |amount| amount.minor());
        must(amount > 0 && before + amount <= of.amount, "more goes back than came")?;
        self.payments.push(Payment {
            id: transaction_id.to_string(),
            kind: TransactionKind::Reversal,
            agent,
            maker,
            debit: of.credit,
            credit: of.debit,
            amount,
            product: None,
            merchant: None,
            original: Some(original.to_owned()),
            made: asked.command.stamp.wall.0,
            paced: false,
            approval: Some(approval_id.to_string()),
            gates: vec![ONE_APPROVER],
            words: vec![],
            state: State::Asked,
            elsewhere: false,
            until: expires.0,
            approval_until: expires.0,
            mandate: None,
            statement: vec![],
        });
        self.intents.insert(scope, (text, transaction_id.to_string()));
        Ok(())
    }

    /// The daemon itself hands an open payment to the bank's people.
    pub fn waits(&mut self, id: &str, case: &str, effect: &Effect) -> Held {
        let Effect::QueuedManual { case_id, .. } = effect else { return Err(format!("queued: {effect:?}")) };
        let state = self.payment(id)?.state;
        if matches!(state, State::Queued { .. }) {
            return must(self.cases.iter().any(|known| known.id == case_id.as_str()), "a case that nobody opened");
        }
        must(matches!(state, State::Asked | State::Approved) && case_id.as_str() == case, "queued what is over")?;
        self.wait(id, case)
    }

    /// A case is taken, proposed or decided; never by who made the payment or owns the money, and above the threshold by
    /// two.
    pub fn worked(&mut self, asked: &Asked, effect: &Effect) -> Held {
        let Effect::CaseWorked { case_id, step, .. } = effect else { return Err(format!("worked: {effect:?}")) };
        self.has_role(asked, &["approver", "officer"])?;
        let (name, _, owns, _) = PEOPLE[asked.by];
        let place =
            self.cases.iter().position(|case| case.id == case_id.as_str()).ok_or("a case that nobody opened")?;
        let case = self.cases[place].clone();
        must(!case.is_done, "a case was decided twice")?;
        let payment = case.payment.as_deref().map(|id| self.payment(id).cloned()).transpose()?;
        if let Some(payment) = &payment {
            must(payment.maker != name, "whoever made it works on its case")?;
            let owner = (payment.kind != TransactionKind::Reversal).then(|| account(&payment.debit).1);
            must(owner.is_none() || owns != owner, "whoever owns the money works on its case")?;
        }
        let others = case.taken.as_deref().is_some_and(|taken| taken != name);
        let row = &mut self.cases[place];
        let verdict = match step {
            CaseStep::Taken { by, .. } => {
                let over = matches!(asked.command.act, Act::TakeCase { from: TakeFrom::Anybody, .. });
                must(by == name && (over || !others), "a case was taken from somebody")?;
                row.taken = Some(name.into());
                return Ok(());
            }
            CaseStep::Proposed { verdict, by } => {
                must(by == name && (case.proposed.is_some() || !others), "another one's case")?;
                row.taken.get_or_insert(name.into());
                row.proposed = Some((verdict.status(), name.into()));
                self.saw("proposed");
                return Ok(());
            }
            CaseStep::Decided { verdict } => verdict.status(),
        };
        must(case.proposed.is_some() || !others, "another one's case")?;
        if case.amount > TWO_PEOPLE_ABOVE {
            let second = case.proposed.is_some_and(|(first, who)| first == verdict && who != name);
            must(second, "one person alone decided a large case")?;
            self.saw("decided by two");
        }
        self.cases[place].is_done = true;
        self.saw(verdict);
        let now = asked.command.stamp.wall.0;
        if let (Some(payment), "paid_elsewhere") = (&payment, verdict) {
            self.payment(&payment.id)?.elsewhere = true;
        }
        if let Some(payment) = payment.filter(Payment::is_open) {
            let State::Queued { approved } = payment.state else { return Err("a case of what does not wait".into()) };
            let ttl = rules_of(asked).authorization_ttl_ms;
            let row = self.payment(&payment.id)?;
            (row.state, row.until) = match (verdict, approved) {
                ("released", true) => (State::Approved, now + ttl),
                ("released", false) if row.approval.is_some() => (State::Asked, row.approval_until),
                _ => (State::Ended, row.until),
            };
        }
        if let (Some(scope), "released") = (case.scope, verdict) {
            self.intents.remove(&scope);
        }
        Ok(())
    }
}

/// The account that the agent of this payment acts on.
fn granted_account(payment: &Payment) -> &str {
    if payment.kind == TransactionKind::Reversal { &payment.credit } else { &payment.debit }
}

/// The people who spoke satisfy this gate, looked at by itself.
fn is_satisfied(gate: &Gate, words: &[Said]) -> bool {
    let bank = words.iter().filter(|word| word.yes && !word.owner);
    match gate {
        Gate::Owner => words.iter().any(|word| word.yes && word.owner),
        Gate::Bank { people, roles, in_order: false } => {
            bank.filter(|word| PEOPLE[word.person].1.iter().any(|role| roles.contains(role))).count() >= *people
        }
        Gate::Bank { roles, in_order: true, .. } => {
            let mut wanted = roles.iter().peekable();
            for word in bank {
                if wanted.peek().is_some_and(|role| PEOPLE[word.person].1.contains(*role)) {
                    wanted.next();
                }
            }
            wanted.peek().is_none()
        }
    }
}

/// How long an authorization lives after it was approved, under every policy of these lives.
const TTL_MS: i64 = 900_000;
