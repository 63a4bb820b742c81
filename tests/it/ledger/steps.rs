//! Random lives of a bank: who does what, with amounts and instants near the edges of the rules.

use std::sync::Arc;

use countersign::kernel::breaker::Cause;
use countersign::kernel::command::*;
use countersign::kernel::ledger::{AccountStatus, FeeRule, TransactionKind};
use countersign::kernel::types::*;
use proptest::prelude::*;
use proptest::sample::select;

use super::calendar;
use super::model::Book;
use super::rules::NO_HOLD_YET;
use crate::store::world::{DAY_MS, EVERY_VERB, START, World, agent, decide, operator, rules, transfer_to};

/// Customers' accounts: name, owner, currency, opening, overdraft, limit of a day, zone.
pub const ACCOUNTS: [(&str, &str, &str, i64, i64, i64, &str); 5] = [
    ("A", "OWN_1", "USD", 600_000, 0, 0, "UTC"),
    ("B", "OWN_1", "USD", 50_000, 70_000, 300_000, "Europe/Zurich"),
    ("C", "OWN_2", "USD", 250_000, 0, 100_000, "Pacific/Auckland"),
    ("D", "OWN_2", "EUR", 400_000, 30_000, 150_000, "America/New_York"),
    ("E", "OWN_1", "USD", 0, 0, 0, "UTC"),
];
const OFFERS: [(&str, &str, i64); 3] =
    [("amazon.com", "LAPTOP", 189_999), ("amazon.com", "CABLE", 999), ("gadgets.example", "FAKE", 500)];
const BOOKED: [&str; 9] = ["A", "B", "C", "D", "E", "merchant:amazon.com", "fees:USD", "clearing:USD", "nobody"];

/// An amount, most often next to where a rule changes its mind.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    Minor(i64),
    /// What the debited account may still spend, and a little more or less; less its fee or not.
    Available(i64),
    /// What the account's day leaves.
    AccountDay(i64),
    /// What the agent's unattended day leaves.
    AgentDay(i64),
    Unattended(i64),
    Ceiling(i64),
    /// What is left of the payment that is picked.
    Rest(i64),
}

#[derive(Clone, Debug)]
pub enum Step {
    Pay {
        who: u8,
        from: Option<u8>,
        to: u8,
        amount: Amount,
        key: u8,
        nonce: u8,
    },
    Buy {
        who: u8,
        from: Option<u8>,
        offer: u8,
        cheaper: bool,
        key: u8,
    },
    Execute {
        which: u8,
        twist: u8,
    },
    Cancel {
        which: u8,
        twist: u8,
    },
    Reverse {
        which: u8,
        amount: Option<Amount>,
        key: u8,
        by: Option<u8>,
    },
    Decide {
        which: u8,
        by: u8,
        yes: bool,
    },
    Take {
        which: u8,
        by: u8,
        over: bool,
    },
    Resolve {
        which: u8,
        by: u8,
        verdict: u8,
    },
    Breaker {
        by: u8,
        cause: u8,
        stop: bool,
    },
    /// The node itself stops, or goes on.
    Here {
        stop: bool,
    },
    Status {
        account: u8,
        status: u8,
        by: u8,
    },
    Queue {
        which: u8,
        by: u8,
        known_case: bool,
    },
    /// The core answers what stands in its outbox, or says something about anything.
    Core {
        which: u8,
        verb: Option<u8>,
        done: bool,
    },
    Book {
        debit: u8,
        credit: u8,
        amount: Amount,
        key: u8,
        by: u8,
    },
    Incoming {
        account: u8,
        amount: Amount,
        key: u8,
        by: u8,
    },
    Open {
        name: u8,
        opening: Option<i64>,
        overdraft: Option<i64>,
        day_max: Option<i64>,
        by: u8,
    },
    Grant {
        who: u8,
        account: u8,
        verbs: u8,
        max: Option<i64>,
        days: u8,
    },
    Ungrant {
        who: u8,
        account: u8,
    },
    Revoke {
        who: u8,
    },
    Sweep,
    Later {
        ms: i64,
    },
    /// To this many milliseconds from the next midnight of an account.
    Midnight {
        account: u8,
        off: i64,
    },
    /// The bank's book is here, or at an external core.
    Settle {
        external: bool,
    },
}

fn amount() -> impl Strategy<Value = Amount> {
    let near = || -1..=1_i64;
    prop_oneof![
        4 => (1..60_000_i64).prop_map(Amount::Minor),
        1 => select(vec![-5, 0, 1, i64::MAX, i64::MIN]).prop_map(Amount::Minor),
        2 => prop_oneof![near(), Just(-25), Just(-26)].prop_map(Amount::Available),
        2 => prop_oneof![near(), Just(-25), Just(-26)].prop_map(Amount::AccountDay),
        2 => near().prop_map(Amount::AgentDay),
        1 => near().prop_map(Amount::Unattended),
        1 => near().prop_map(Amount::Ceiling),
        2 => near().prop_map(Amount::Rest),
    ]
}

pub fn step() -> impl Strategy<Value = Step> {
    let any_u8 = any::<u8>;
    let who = || prop_oneof![5 => Just(0_u8), 2 => Just(1), 1 => Just(2), 1 => Just(3)];
    let key = || 0..12_u8;
    let by = || 0..6_u8;
    let from = || prop_oneof![1 => Just(None), 6 => (0..5_u8).prop_map(Some)];
    prop_oneof![
        14 => (who(), from(), 0..6_u8, amount(), key(), 0..40_u8)
            .prop_map(|(who, from, to, amount, key, nonce)| Step::Pay { who, from, to, amount, key, nonce }),
        5 => (who(), from(), 0..4_u8, any::<bool>(), key())
            .prop_map(|(who, from, offer, cheaper, key)| Step::Buy { who, from, offer, cheaper: cheaper && key > 8, key }),
        14 => (any_u8(), 0..12_u8).prop_map(|(which, twist)| Step::Execute { which, twist }),
        4 => (any_u8(), 0..6_u8).prop_map(|(which, twist)| Step::Cancel { which, twist }),
        7 => (any_u8(), proptest::option::of(amount()), key(), proptest::option::of(by()))
            .prop_map(|(which, amount, key, by)| Step::Reverse { which, amount, key, by }),
        9 => (any_u8(), by(), prop_oneof![3 => Just(true), 1 => Just(false)])
            .prop_map(|(which, by, yes)| Step::Decide { which, by, yes }),
        2 => (any_u8(), by(), any::<bool>()).prop_map(|(which, by, over)| Step::Take { which, by, over }),
        7 => (any_u8(), by(), 0..5_u8).prop_map(|(which, by, verdict)| Step::Resolve { which, by, verdict }),
        4 => (0..7_u8, prop_oneof![2 => Just(0), 2 => Just(1), 1 => Just(2_u8)], prop::bool::weighted(0.4))
            .prop_map(|(by, cause, stop)| Step::Breaker { by, cause, stop }),
        2 => prop::bool::weighted(0.3).prop_map(|stop| Step::Here { stop }),
        4 => (0..6_u8, 0..5_u8, by()).prop_map(|(account, status, by)| Step::Status { account, status, by }),
        3 => (any_u8(), by(), any::<bool>())
            .prop_map(|(which, by, known_case)| Step::Queue { which, by, known_case }),
        10 => (any_u8(), proptest::option::weighted(0.2, 0..3_u8), prop_oneof![4 => Just(true), 1 => Just(false)])
            .prop_map(|(which, verb, done)| Step::Core { which, verb, done }),
        5 => (0..9_u8, 0..9_u8, amount(), key(), by())
            .prop_map(|(debit, credit, amount, key, by)| Step::Book { debit, credit, amount, key, by }),
        3 => (0..6_u8, amount(), key(), by())
            .prop_map(|(account, amount, key, by)| Step::Incoming { account, amount, key, by }),
        1 => (0..7_u8, proptest::option::of(0..500_i64), proptest::option::of(-1..500_i64),
              proptest::option::of(-1..500_i64), by())
            .prop_map(|(name, opening, overdraft, day_max, by)| Step::Open { name, opening, overdraft, day_max, by }),
        2 => (who(), 0..5_u8, any_u8(), proptest::option::of(1..90_000_i64), 0..4_u8)
            .prop_map(|(who, account, verbs, max, days)| Step::Grant { who, account, verbs, max, days }),
        1 => (who(), 0..5_u8).prop_map(|(who, account)| Step::Ungrant { who, account }),
        1 => prop_oneof![Just(1_u8), Just(2), Just(3)].prop_map(|who| Step::Revoke { who }),
        5 => Just(Step::Sweep),
        5 => prop_oneof![
            4 => 1..1_800_000_i64,
            2 => Just(900_000_i64),
            1 => Just(DAY_MS / 2),
            1 => Just(-7_200_000_i64),
        ]
        .prop_map(|ms| Step::Later { ms }),
        3 => (0..5_u8, -1..=1_i64).prop_map(|(account, off)| Step::Midnight { account, off }),
        1 => any::<bool>().prop_map(|external| Step::Settle { external }),
    ]
}

/// The bank's rules for agents in these lives.
pub fn life_rules(external: bool, with_fees: bool) -> Rules {
    let fee = |kind, fixed, currency: &str, basis_points| FeeRule { kind, fixed: money(fixed, currency), basis_points };
    Rules {
        unattended_per_transaction: money(200_000, "USD"),
        unattended_per_day: money(350_000, "USD"),
        deny_above: Some(money(400_000, "USD")),
        open_holds_max: 4,
        fees: if with_fees {
            vec![
                fee(TransactionKind::Transfer, 25, "USD", 10),
                fee(TransactionKind::Purchase, 0, "USD", 3),
                fee(TransactionKind::Transfer, 7, "EUR", 0),
            ]
        } else {
            vec![]
        },
        manual_two_people_above: Some(money(20_000, "USD")),
        stopped_here: None,
        policy_unreadable: None,
        settlement: if external { Settlement::External } else { Settlement::Embedded },
        ..rules()
    }
}

pub fn money(minor: i64, currency: &str) -> Money {
    Money::from_minor(minor, currency.parse().unwrap())
}

pub fn agents() -> [AgentPrincipal; 4] {
    let one = agent("purchaser", "one");
    // The same name with another key is another maker.
    let rekeyed = AgentPrincipal { key: Sha256::of(&[b"another key"]), ..one.clone() };
    [one, agent("purchaser", "two"), agent("viewer", "three"), rekeyed]
}

/// Mostly one of those that wait.
fn pick_case(book: &Book, which: u8) -> Option<CaseId> {
    let waiting: Vec<_> = book.cases.iter().filter(|case| case.state == "queued").collect();
    let all: Vec<_> = book.cases.iter().collect();
    let among = if waiting.is_empty() || which.is_multiple_of(8) { all } else { waiting };
    let case = among.get(usize::from(which) % among.len().max(1))?;
    Some(case.id.parse().unwrap())
}

fn actor(by: u8) -> Actor {
    match by {
        0 => Actor::Operator(operator("ada", &["administrator", "officer"])),
        1 => Actor::Operator(operator("bob", &["approver"])),
        2 => Actor::Operator(operator("cyd", &["officer", "approver"])),
        3 => Actor::Operator(operator("eve", &["auditor"])),
        4 => Actor::System { component: "job".into() },
        _ => Actor::Agent(agents()[0].clone()),
    }
}

/// The commands that fill the bank, in one commit.
pub fn founding(w: &World<'_>) -> Vec<Command> {
    let by = || actor(0);
    let mut acts = vec![];
    for (name, owner, currency, opening, overdraft, day_max, zone) in ACCOUNTS {
        let some = |minor: i64| (minor > 0).then(|| money(minor, currency));
        acts.push(Act::OpenAccount(NewAccount {
            account: name.parse().unwrap(),
            owner: owner.parse().unwrap(),
            currency: currency.parse().unwrap(),
            opening: some(opening),
            overdraft: some(overdraft),
            day_max: some(day_max),
            zone: zone.parse().unwrap(),
        }));
    }
    for merchant in ["amazon.com", "gadgets.example"] {
        acts.push(crate::store::world::add_merchant(merchant, "Shop"));
    }
    for (merchant, product, price) in OFFERS {
        acts.push(Act::AddProduct {
            merchant: merchant.parse().unwrap(),
            product: product.parse().unwrap(),
            title: product.into(),
            price: money(price, "USD"),
            on_hostile: countersign::kernel::text::OnHostile::Refuse,
        });
    }
    for (who, accounts) in [(0, &["A", "B", "C", "D"][..]), (1, &["A", "B"]), (2, &["A"])] {
        for account in accounts {
            acts.push(grant(who, account, EVERY_VERB.to_vec(), None, 20));
        }
    }
    acts.into_iter().map(|act| w.command(by(), act)).collect()
}

fn grant(who: usize, account: &str, verbs: Vec<Verb>, max: Option<i64>, days: i64) -> Act {
    let (_, owner, currency, ..) = ACCOUNTS.into_iter().find(|row| row.0 == account).unwrap();
    Act::AddGrant {
        agent: agents()[who].spiffe_id.clone(),
        account: account.parse().unwrap(),
        owner: owner.parse().unwrap(),
        verbs,
        per_transaction_max: max.map(|max| money(max, currency)),
        expires: UnixMillis(START + days * DAY_MS),
    }
}

/// A life as it is lived: the clock, the rules and what was said of which payment.
pub struct Life<'w, 's> {
    pub w: &'w World<'s>,
    pub rules: Rules,
}

impl Life<'_, '_> {
    /// The command of a step, if it is one. What it is about is looked up in the model.
    pub fn command(&mut self, book: &Book, step: &Step) -> Option<Command> {
        let w = self.w;
        match step.clone() {
            Step::Pay { who, from, to, amount, key, nonce } => {
                let source = from.map(|from| ACCOUNTS[usize::from(from)]);
                let (name, .., currency) = source.map_or(("A", "USD"), |row| (row.0, row.2));
                let to = ACCOUNTS.get(usize::from(to)).map_or("NOBODY", |row| row.0);
                let ToolCall::AuthorizeTransfer { from_account, to_account, idempotency_key, .. } =
                    transfer_to(source.map(|row| row.0), to, "1", &format!("k{key}"))
                else {
                    panic!("it was made above")
                };
                let amount = money(self.minor(book, amount, name, &agents()[usize::from(who)], None), currency);
                let call = ToolCall::AuthorizeTransfer { from_account, to_account, amount, idempotency_key };
                let mut command = self.tool(who, call);
                // Three in forty requests carry one of three nonces.
                command.stamp.nonce = (nonce < 3).then(|| Sha256::of(&[&[nonce]]));
                Some(command)
            }
            Step::Buy { who, from, offer, cheaper, key } => {
                let (merchant, product, price) =
                    OFFERS.get(usize::from(offer)).copied().unwrap_or(("amazon.com", "NOTHING", 1));
                let call = ToolCall::AuthorizePurchase {
                    product_id: product.parse().unwrap(),
                    price: money(price - i64::from(cheaper), "USD"),
                    merchant: merchant.parse().unwrap(),
                    from_account: from.map(|from| ACCOUNTS[usize::from(from)].0.parse().unwrap()),
                    idempotency_key: format!("k{key}").parse().unwrap(),
                };
                Some(self.tool(who, call))
            }
            Step::Execute { which, twist } => self.execute(book, which, twist),
            Step::Cancel { which, twist } => {
                let payment = pick(book, which)?;
                let by_question = payment.question.as_ref().filter(|_| twist % 2 == 1);
                let reference = match by_question {
                    Some(question) => AuthorizationRef::ApprovalId(question.id.parse().unwrap()),
                    None => AuthorizationRef::TransactionId(payment.id.parse().unwrap()),
                };
                let who = if twist == 5 { 3 } else { maker(payment.maker.agent()) };
                Some(self.tool(who, ToolCall::CancelAuthorization { reference }))
            }
            Step::Reverse { which, amount, key, by } => {
                let payment = pick(book, which)?;
                let left = payment.amount - book.reversed(&payment.id);
                let minor = |amount| self.minor(book, amount, &payment.credit, &agents()[0], i64::try_from(left).ok());
                let amount = amount.map(|amount| money(minor(amount), &payment.currency));
                let transaction_id = payment.id.parse().unwrap();
                let idempotency_key = format!("r{key}").parse().unwrap();
                Some(match by {
                    None => {
                        let call = ToolCall::RequestReversal { transaction_id, amount, idempotency_key };
                        self.tool(maker(payment.maker.agent()), call)
                    }
                    Some(by) => {
                        let (rules, fresh) = (Arc::new(self.rules.clone()), w.fresh());
                        let act = Act::ReverseTransaction { transaction_id, amount, idempotency_key, rules, fresh };
                        w.command(actor(by), act)
                    }
                })
            }
            Step::Decide { which, by, yes } => {
                let asked: Vec<_> = book.payments.iter().filter_map(|payment| payment.question.as_ref()).collect();
                // Mostly the newest ones: the old ones are decided.
                let question = asked.get(asked.len().checked_sub(1 + usize::from(which) % asked.len().clamp(1, 6))?)?;
                let approval = question.id.parse().unwrap();
                let verdict = if yes { Verdict::Approve } else { Verdict::Deny };
                Some(w.command(actor(by), decide(&approval, verdict, "n")))
            }
            Step::Take { which, by, over } => {
                let case = pick_case(book, which)?;
                let from = if over { TakeFrom::Anybody } else { TakeFrom::Nobody };
                Some(w.command(actor(by), Act::TakeCase { case, from }))
            }
            Step::Resolve { which, by, verdict } => {
                let case = pick_case(book, which)?;
                let verdict = match verdict {
                    0 => CaseVerdict::Reject,
                    1 => CaseVerdict::PaidElsewhere { reference: "SWIFT-1".into() },
                    _ => CaseVerdict::Release,
                };
                let rules = Arc::new(self.rules.clone());
                Some(w.command(actor(by), Act::ResolveCase { case, verdict, note: "n".into(), rules }))
            }
            Step::Breaker { by, cause, stop } => {
                let by = if by == 6 { Actor::System { component: "breaker".into() } } else { actor(by) };
                let cause = [Cause::Operator, Cause::Anomalies, Cause::HsmDown][usize::from(cause)];
                let reason = stop.then(|| format!("{} drill", cause.name()));
                Some(w.command(by, Act::SetBreaker { cause, reason, node: None }))
            }
            Step::Here { stop } => {
                self.rules.stopped_here = stop.then(|| "this node is alone".into());
                None
            }
            Step::Status { account, status, by } => {
                let account = ACCOUNTS.get(usize::from(account)).map_or("NOBODY", |row| row.0).parse().unwrap();
                // Mostly thawing, so that the bank does not come to rest.
                let status = match status {
                    0 => AccountStatus::Frozen,
                    1 => AccountStatus::Closed,
                    _ => AccountStatus::Active,
                };
                Some(w.command(actor(by), Act::SetAccountStatus { account, status, reason: "r".into() }))
            }
            Step::Queue { which, by, known_case } => {
                let payment = pick(book, which)?;
                let known = book.cases.first().filter(|_| known_case).map(|case| case.id.clone());
                let case = known.unwrap_or_else(|| w.id("case_")).parse().unwrap();
                let (actor, reason) = match by {
                    0 | 1 => (Actor::System { component: "core".into() }, NO_HOLD_YET),
                    2 => (actor(4), "stuck"),
                    by => (actor(by), "stuck"),
                };
                let transaction_id = payment.id.parse().unwrap();
                Some(w.command(actor, Act::QueueManual { transaction_id, case, reason: reason.into() }))
            }
            Step::Core { which, verb, done } => {
                let (id, verb) = match verb {
                    Some(verb) => (pick(book, which)?.id.clone(), CoreVerb::ALL[usize::from(verb)]),
                    None => {
                        let (id, verb) = book.outbox.get(usize::from(which) % book.outbox.len().max(1))?;
                        (id.clone(), CoreVerb::ALL.into_iter().find(|known| known.name() == *verb)?)
                    }
                };
                let word = if done { CoreWord::Done } else { CoreWord::Refused("no".into()) };
                let act = Act::CoreAnswered { transaction_id: id.parse().unwrap(), verb, word };
                Some(w.command(actor(4), act))
            }
            Step::Book { debit, credit, amount, key, by } => {
                let (debit, credit) = (BOOKED[usize::from(debit)], BOOKED[usize::from(credit)]);
                let minor = self.minor(book, amount, debit, &agents()[0], None);
                let currency = if debit == "D" && key % 2 == 0 { "EUR" } else { "USD" };
                let reference = format!("b{key}").parse().unwrap();
                let act = Act::Transfer {
                    debit: debit.into(),
                    credit: credit.into(),
                    amount: money(minor, currency),
                    reference,
                };
                Some(w.command(actor(if by == 1 { 4 } else { by }), act))
            }
            Step::Incoming { account, amount, key, by } => {
                let row = ACCOUNTS.get(usize::from(account));
                let (name, currency) = row.map_or(("NOBODY", "USD"), |row| (row.0, row.2));
                let minor = self.minor(book, amount, name, &agents()[0], None);
                let reference = format!("i{key}").parse().unwrap();
                let account = name.parse().unwrap();
                let act = Act::IncomingPayment { account, amount: money(minor, currency), reference };
                Some(w.command(actor(by), act))
            }
            Step::Open { name, opening, overdraft, day_max, by } => {
                let name = ["A", "N1", "N2", "N3", "N1", "N2", "N3"][usize::from(name)];
                let usd = |minor: Option<i64>| minor.map(|minor| money(minor, "USD"));
                let new = NewAccount {
                    account: name.parse().unwrap(),
                    owner: "OWN_3".parse().unwrap(),
                    currency: "USD".parse().unwrap(),
                    opening: usd(opening),
                    overdraft: usd(overdraft),
                    day_max: usd(day_max),
                    zone: "Asia/Kathmandu".parse().unwrap(),
                };
                Some(w.command(actor(if by == 1 { 0 } else { by }), Act::OpenAccount(new)))
            }
            Step::Grant { who, account, verbs, max, days } => {
                let verbs = EVERY_VERB.iter().enumerate().filter(|(bit, _)| verbs >> bit & 1 == 1);
                let verbs = verbs.map(|(_, verb)| *verb).collect();
                let account = ACCOUNTS[usize::from(account)].0;
                Some(w.command(actor(0), grant(usize::from(who), account, verbs, max, i64::from(days))))
            }
            Step::Ungrant { who, account } => {
                let agent = agents()[usize::from(who)].spiffe_id.clone();
                let account = ACCOUNTS[usize::from(account)].0.parse().unwrap();
                Some(w.command(actor(0), Act::RevokeGrant { agent, account }))
            }
            Step::Revoke { who } => {
                let target = RevocationTarget::Agent(agents()[usize::from(who)].spiffe_id.clone());
                Some(w.command(actor(0), Act::Revoke { target, reason: "lost".into() }))
            }
            Step::Sweep => Some(w.command(actor(4), Act::Sweep { limit: 1_000 })),
            Step::Later { ms } => {
                w.later(ms);
                None
            }
            Step::Midnight { account, off } => {
                let zone = ACCOUNTS[usize::from(account)].6;
                w.now.set(calendar::next_midnight(zone, w.now.get()) + off);
                None
            }
            Step::Settle { external } => {
                self.rules.settlement = if external { Settlement::External } else { Settlement::Embedded };
                None
            }
        }
    }

    fn tool(&self, who: u8, call: ToolCall) -> Command {
        let act = Act::Tool { call, rules: Arc::new(self.rules.clone()), fresh: self.w.fresh(), risk: None };
        self.w.command(Actor::Agent(agents()[usize::from(who)].clone()), act)
    }

    /// Mostly as it was authorized; now and then with another product, account, amount, tool or agent.
    fn execute(&self, book: &Book, which: u8, twist: u8) -> Option<Command> {
        let payment = pick(book, which)?;
        let transaction_id = payment.id.parse().unwrap();
        let as_purchase = (payment.kind == TransactionKind::Purchase) != (twist == 9);
        let call = if as_purchase {
            let product = payment.product.as_deref().filter(|_| twist != 8).unwrap_or("OTHER");
            ToolCall::ExecutePurchase { transaction_id, product_id: product.parse().unwrap() }
        } else {
            let amount = i64::try_from(payment.amount).unwrap() + i64::from(twist == 8);
            let to = if twist == 7 { "C" } else { payment.credit.as_str() };
            ToolCall::ExecuteTransfer {
                transaction_id,
                from_account: (twist < 3).then(|| payment.debit.parse().ok()).flatten(),
                to_account: to.parse().ok()?,
                amount: money(amount, &payment.currency),
            }
        };
        let who = if twist == 11 { 3 } else { maker(payment.maker.agent()) };
        Some(self.tool(who, call))
    }

    fn minor(&self, book: &Book, amount: Amount, account: &str, agent: &AgentPrincipal, rest: Option<i64>) -> i64 {
        let row = book.accounts.get(account);
        let now = self.w.now.get();
        let small = |minor: i128| i64::try_from(minor).unwrap_or(i64::MAX);
        let left = |limit: i128, who: &str| {
            let zone = row.map_or("UTC", |row| row.zone.as_str());
            small(limit - book.counter(who, calendar::day(zone, now)))
        };
        let (edge, off) = match amount {
            Amount::Minor(minor) => (minor, 0),
            Amount::Available(off) => (row.map_or(1, |row| small(row.available())), off),
            Amount::AccountDay(off) => (row.and_then(|row| row.day_max).map_or(2, |max| left(max, account)), off),
            Amount::AgentDay(off) => (left(350_000, &agent.spiffe_id.to_string()), off),
            Amount::Unattended(off) => (200_000, off),
            Amount::Ceiling(off) => (400_000, off),
            Amount::Rest(off) => (rest.unwrap_or(3), off),
        };
        edge.saturating_add(off)
    }
}

/// Mostly one of the newest payments.
fn pick(book: &Book, which: u8) -> Option<&super::model::Payment> {
    let count = book.payments.len();
    let back = if which < 40 { usize::from(which) % count.max(1) } else { usize::from(which) % count.clamp(1, 8) };
    book.payments.get(count.checked_sub(1 + back)?)
}

fn maker(agent: Option<&str>) -> u8 {
    let known = agents();
    let found = known.iter().position(|principal| agent == Some(principal.spiffe_id.to_string().as_str()));
    found.and_then(|at| u8::try_from(at).ok()).unwrap_or(0)
}
