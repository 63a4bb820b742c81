//! The witness: the bank's history in plain lists, and what may follow from it. Here is what it knows and what people and
//! the bank's jobs do; `calls` judges agents, `words` judges words at gates and in the manual queue.

use std::collections::{BTreeMap, BTreeSet};

use countersign::kernel::command::*;
use countersign::kernel::ledger::TransactionKind;
use countersign::kernel::refusal::Refusal;
use countersign::store::Store;

use super::bank::{ACCOUNTS, Given, MANDATES, account};
use super::people::{PEOPLE, Proof, key_of};
use super::policies::{Gate, Plain};
use crate::ledger::calendar;

/// Nothing, or what must not have happened.
pub type Held = Result<(), String>;

pub fn must(holds: bool, otherwise: &str) -> Held {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

/// A command, and what the witness is told besides.
#[derive(Clone, Debug)]
pub struct Asked {
    pub command: Command,
    pub plain: Plain,
    /// Who speaks, as a place in [`PEOPLE`].
    pub by: usize,
    pub proof: Proof,
    /// Which policy or mandate it is about.
    pub which: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Asked,
    Approved,
    /// With the bank's people; was asked for before, or approved.
    Queued {
        approved: bool,
    },
    Posted,
    Ended,
}

#[derive(Clone, Debug)]
pub struct Said {
    pub person: usize,
    pub owner: bool,
    pub yes: bool,
}

#[derive(Clone, Debug)]
pub struct Payment {
    pub id: String,
    pub kind: TransactionKind,
    /// Name and key, if an agent made it.
    pub agent: Option<(String, String)>,
    pub maker: String,
    pub debit: String,
    pub credit: String,
    pub amount: i64,
    pub product: Option<String>,
    pub merchant: Option<String>,
    pub original: Option<String>,
    pub made: i64,
    /// Counted by the pace of the policy under which it was made.
    pub paced: bool,
    pub approval: Option<String>,
    pub gates: Vec<Gate>,
    pub words: Vec<Said>,
    pub state: State,
    /// A person paid it outside: it has ended, and counts all the same.
    pub elsewhere: bool,
    /// Until when it can be approved, then executed.
    pub until: i64,
    pub approval_until: i64,
    pub mandate: Option<String>,
    pub statement: Vec<u8>,
}

impl Payment {
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Asked | State::Approved | State::Queued { .. })
    }

    pub fn holds(&self) -> bool {
        self.is_open() && self.kind != TransactionKind::Reversal
    }

    /// Towards limits and its mandate.
    pub fn counts(&self) -> bool {
        self.state != State::Ended || self.elsewhere
    }

    pub fn day(&self) -> i64 {
        calendar::day(account(&self.debit).4, self.made)
    }

    pub fn agent_name(&self) -> &str {
        self.agent.as_ref().map_or("", |(name, _)| name)
    }
}

#[derive(Clone, Debug)]
pub struct Granted {
    pub verbs: Vec<Verb>,
    pub max: Option<i64>,
    pub expires: i64,
    pub entered_by: String,
}

#[derive(Clone, Debug)]
pub struct Mandated {
    pub id: String,
    pub given: Given,
    pub agent: String,
    pub key: String,
    pub begins: i64,
    pub expires: i64,
    pub revoked: bool,
}

/// An agent's name, its key, and the key of its intent.
pub type Scope = (String, String, String);

#[derive(Clone, Debug)]
pub struct Waiting {
    pub id: String,
    pub scope: Option<Scope>,
    pub payment: Option<String>,
    pub amount: i64,
    pub is_done: bool,
    pub taken: Option<String>,
    pub proposed: Option<(&'static str, String)>,
}

#[derive(Default)]
pub struct Witness {
    pub grants: BTreeMap<(String, String), Granted>,
    pub revoked: BTreeSet<String>,
    /// Keys of people.
    pub lost: BTreeSet<String>,
    /// Whom, and who has asked to thaw.
    pub frozen: BTreeMap<String, Option<String>>,
    pub version: u64,
    pub policy: Option<usize>,
    pub stopped: BTreeSet<&'static str>,
    pub mandates: Vec<Mandated>,
    pub payments: Vec<Payment>,
    /// The call that was made under it, and the payment or case that it stands for.
    pub intents: BTreeMap<Scope, (String, String)>,
    pub cases: Vec<Waiting>,
    /// With the day on which each was taken.
    nonces: Vec<(i64, String)>,
    pub balances: BTreeMap<String, i64>,
    /// What happened, and how often.
    pub seen: BTreeMap<String, usize>,
}

impl Witness {
    pub fn new() -> Self {
        let balances = ACCOUNTS.iter().map(|row| (row.0.to_owned(), row.2)).collect();
        Self { balances, ..Self::default() }
    }

    /// A command that filled the bank.
    pub fn founded(&mut self, command: &Command) {
        if let Act::AddGrant { agent, account, verbs, per_transaction_max, expires, .. } = &command.act {
            let granted = Granted {
                verbs: verbs.clone(),
                max: per_transaction_max.map(|max| max.minor()),
                expires: expires.0,
                entered_by: command.actor.name(),
            };
            self.grants.insert((agent.to_string(), account.to_string()), granted);
        }
    }

    pub fn saw(&mut self, what: &str) {
        *self.seen.entry(what.to_owned()).or_default() += 1;
    }

    /// Judges what came of a command, and writes it down.
    ///
    /// # Errors
    /// A sentence about what must not have happened.
    pub fn heard(&mut self, asked: &Asked, outcome: &Result<Effect, Refusal>) -> Held {
        if let Some(nonce) = asked.command.stamp.nonce {
            // Nonces are kept for a day at least; requests live for minutes.
            let (day, nonce) = (calendar::day("UTC", asked.command.stamp.wall.0), nonce.hex());
            let lately = self.nonces.iter().any(|(taken, there)| *there == nonce && (taken - day).abs() <= 1);
            must(!lately || *outcome == Err(Refusal::NonceReplayed), "a request counts once")?;
            self.nonces.push((day, nonce));
        }
        match outcome {
            Ok(effect) => self.judge(asked, effect),
            Err(refusal) => {
                self.saw(refusal.name());
                Ok(())
            }
        }
    }

    fn judge(&mut self, asked: &Asked, effect: &Effect) -> Held {
        let now = asked.command.stamp.wall.0;
        match &asked.command.act {
            Act::Tool { call, fresh, .. } => {
                let Actor::Agent(agent) = &asked.command.actor else { return Err("a tool for no agent".into()) };
                self.agent_stands(&agent.spiffe_id.to_string())?;
                self.called(asked, agent, call, fresh, effect)
            }
            Act::ReverseTransaction { transaction_id, amount, idempotency_key, fresh, .. } => {
                self.has_role(asked, &["officer"])?;
                let scope = ("bank".into(), String::new(), idempotency_key.to_string());
                let maker = PEOPLE[asked.by].0.to_owned();
                self.reversing(asked, scope, None, maker, transaction_id.as_str(), *amount, fresh, effect)
            }
            Act::DecideApproval { side, verdict, .. } => self.spoke(asked, *side, *verdict, effect),
            Act::TakeCase { .. } | Act::ResolveCase { .. } => self.worked(asked, effect),
            Act::QueueManual { transaction_id, case, .. } => self.waits(transaction_id.as_str(), case.as_str(), effect),
            Act::ApplyPolicy { expects, .. } => self.ruled(asked, *expects, effect),
            Act::AddGrant { owner, .. } => {
                // Whoever owns the account lets agents at it themselves.
                let is_theirs = matches!(&asked.command.actor, Actor::Operator(by) if by.owner.as_ref() == Some(owner));
                let also: &[&str] = if is_theirs { &["owner"] } else { &[] };
                self.has_role(asked, &[&["officer", "administrator"], also].concat())?;
                if *effect == (Effect::Done { changed: true }) {
                    self.founded(&asked.command);
                }
                Ok(())
            }
            Act::RevokeGrant { agent, account } => {
                self.grants.remove(&(agent.to_string(), account.to_string()));
                Ok(())
            }
            Act::Revoke { target: RevocationTarget::Agent(agent), .. } => {
                self.revoked.insert(agent.to_string());
                Ok(())
            }
            Act::Revoke { target: RevocationTarget::Key(key), .. } => {
                self.lost.insert(key.hex());
                Ok(())
            }
            Act::Freeze { whom, .. } => {
                self.frozen.entry(whom_text(whom)).or_insert(None);
                Ok(())
            }
            Act::Unfreeze { whom, .. } => self.thawed(asked, &whom_text(whom), effect),
            Act::SetBreaker { cause, reason, node: _ } => {
                self.has_role(asked, &["officer", "administrator"])?;
                let stopped = reason.is_some() && self.stopped.insert(cause.name());
                let lifted = reason.is_none() && self.stopped.remove(cause.name());
                must(*effect == (Effect::Done { changed: stopped || lifted }), "a cause changes once")
            }
            Act::AddMandate { mandate } => {
                self.has_role(asked, &["officer", "administrator"])?;
                let mandate = mandate.mandate();
                let there = self.mandates.iter().find(|one| one.id == mandate.id.as_str());
                must(there.is_none_or(|there| !there.revoked), "a revoked mandate is never entered again")?;
                must(!self.revoked.contains(&mandate.agent.to_string()), "a mandate for a revoked agent")?;
                if *effect == (Effect::Done { changed: true }) {
                    self.saw("mandate");
                    self.mandates.push(Mandated {
                        id: mandate.id.to_string(),
                        given: MANDATES[asked.which],
                        agent: mandate.agent.to_string(),
                        key: mandate.agent_key.hex(),
                        begins: mandate.not_before.0,
                        expires: mandate.expires.0,
                        revoked: false,
                    });
                }
                Ok(())
            }
            Act::RevokeMandate { mandate, .. } => self.withdrawn(asked, mandate.as_str(), effect),
            Act::Sweep { .. } => self.swept(now, effect),
            other => panic!("the witness has no rule for {other:?}"),
        }
    }

    pub fn has_role(&self, asked: &Asked, roles: &[&str]) -> Held {
        let is_person = matches!(asked.command.actor, Actor::Operator(_));
        must(is_person && PEOPLE[asked.by].1.iter().any(|role| roles.contains(role)), "somebody without a role for it")
    }

    pub fn agent_stands(&self, name: &str) -> Held {
        must(!self.revoked.contains(name), "a revoked agent was served")?;
        must(!self.frozen.contains_key(name) && !self.frozen.contains_key("everyone"), "a frozen agent was served")
    }

    /// The grant that covers this now.
    pub fn granted(&self, agent: &str, account: &str, verb: Verb, now: i64) -> Result<&Granted, String> {
        let grant = self.grants.get(&(agent.to_owned(), account.to_owned()));
        let live = grant.filter(|grant| now < grant.expires && grant.verbs.contains(&verb));
        live.ok_or_else(|| format!("{agent} has no grant of {account}"))
    }

    fn ruled(&mut self, asked: &Asked, expects: u64, effect: &Effect) -> Held {
        self.has_role(asked, &["administrator"])?;
        let same = self.policy == Some(asked.which);
        if !same {
            must(expects == self.version, "a policy over one that somebody has put in force meanwhile")?;
            self.version += 1;
            self.policy = Some(asked.which);
            self.saw("policy");
        }
        let in_force = Effect::PolicyInForce { version: self.version, changed: !same };
        must(*effect == in_force, "the versions of policies count up")
    }

    fn thawed(&mut self, asked: &Asked, whom: &str, effect: &Effect) -> Held {
        let by = PEOPLE[asked.by].0.to_owned();
        let first = self.frozen.get_mut(whom).ok_or("thawed, and never frozen")?;
        match (effect, &first) {
            (Effect::Unfrozen { by: Thaw::OneOfTwo }, None) => *first = Some(by),
            (Effect::Unfrozen { by: Thaw::Both }, Some(one)) if *one != by => {
                self.frozen.remove(whom);
                self.saw("thawed");
            }
            other => return Err(format!("two people thaw: {other:?}")),
        }
        Ok(())
    }

    /// What is open under a mandate ends with it, in the commit of its revocation; not what a person works on.
    fn withdrawn(&mut self, asked: &Asked, id: &str, effect: &Effect) -> Held {
        let revoked = self.mandates.iter_mut().find(|one| one.id == id);
        let revoked = revoked.ok_or("a mandate that nobody gave")?;
        let changed = !std::mem::replace(&mut revoked.revoked, true);
        let owner = account(revoked.given.account).1;
        let is_owner = PEOPLE[asked.by].2 == Some(owner);
        must(is_owner || self.has_role(asked, &["officer", "administrator"]).is_ok(), "a stranger's revocation")?;
        let mut authorizations = 0;
        let worked_on = |case: &Waiting| !case.is_done && (case.taken.is_some() || case.proposed.is_some());
        let kept: Vec<&String> =
            self.cases.iter().filter(|case| worked_on(case)).filter_map(|case| case.payment.as_ref()).collect();
        for payment in &mut self.payments {
            if payment.is_open() && payment.mandate.as_deref() == Some(id) && !kept.contains(&&payment.id) {
                payment.state = State::Ended;
                authorizations += 1;
            }
        }
        if authorizations > 0 {
            self.saw("void with its mandate");
        }
        let expected = Effect::MandateRevoked { authorizations, changed };
        must(*effect == expected, &format!("{effect:?}, and {authorizations} were open under it"))
    }

    /// What lapsed and what revoked agents left open goes back, each once.
    fn swept(&mut self, now: i64, effect: &Effect) -> Held {
        let mut released = 0;
        for payment in &mut self.payments {
            let void = payment.is_open() && self.revoked.contains(payment.agent_name());
            let waits = matches!(payment.state, State::Asked | State::Approved);
            if void || (waits && payment.until <= now) {
                payment.state = State::Ended;
                released += 1;
            }
        }
        if released > 0 {
            self.saw("swept");
        }
        must(*effect == Effect::Swept { released }, &format!("{effect:?}, and {released} had ended"))
    }

    pub fn payment(&mut self, id: &str) -> Result<&mut Payment, String> {
        self.payments.iter_mut().find(|payment| payment.id == id).ok_or_else(|| format!("{id} was never authorized"))
    }

    /// Money moves: once for each payment, by its own terms.
    pub fn posts(&mut self, id: &str) -> Held {
        let payment = self.payment(id)?;
        must(payment.state != State::Posted, "posted twice")?;
        payment.state = State::Posted;
        let (debit, credit, amount) = (payment.debit.clone(), payment.credit.clone(), payment.amount);
        *self.balances.entry(debit).or_default() -= amount;
        *self.balances.entry(credit).or_default() += amount;
        Ok(())
    }

    /// The store has the money where the witness has it, and its own sums hold.
    pub fn agrees(&self, store: &dyn Store) -> Held {
        for (name, balance) in &self.balances {
            let stored = store.account(name).unwrap().ok_or_else(|| format!("{name} is gone"))?;
            must(stored.balance == *balance, &format!("{name}: {} and not {balance}", stored.balance))?;
            let open = self.payments.iter().filter(|payment| payment.holds() && payment.debit == *name);
            let held: i64 = open.map(|payment| payment.amount).sum();
            must(stored.held == held, &format!("{name}: {} held and not {held}", stored.held))?;
            must(stored.held >= 0 && stored.balance >= stored.held, &format!("{name} has less than it holds"))?;
        }
        let check = store.check(&mut |_| {}).map_err(|fault| fault.to_string())?;
        must(check.is_ok(), &format!("the ledger's own check: {check:?}"))
    }
}

fn whom_text(whom: &Whom) -> String {
    match whom {
        Whom::Agent(agent) => agent.to_string(),
        Whom::Everyone => "everyone".into(),
    }
}

pub fn key_is_lost(witness: &Witness, person: usize) -> bool {
    witness.lost.contains(&key_of(person).hex())
}
