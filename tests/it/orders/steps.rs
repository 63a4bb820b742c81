//! What may happen next in a life, in whatever order, and the command that it is.

use std::sync::{Arc, LazyLock};

use countersign::kernel::breaker::Cause;
use countersign::kernel::command::*;
use countersign::kernel::ledger::TransactionKind;
use countersign::kernel::policy::role::Policy;
use countersign::kernel::quorum::Side;
use countersign::kernel::types::*;
use proptest::prelude::*;
use proptest::sample::select;

use super::bank::{self, ACCOUNTS, ADA, MANDATES, OFFERS, agents, usd};
use super::people::{PEOPLE, Proof, actor, evidence, key_of};
use super::policies::{Gate, POLICIES, Plain, SETTINGS, rules_under};
use super::witness::{Asked, Payment, State, Witness};
use crate::ledger::calendar;
use crate::store::world::{DAY_MS, START, World};

#[derive(Clone, Debug)]
pub enum Step {
    Pay {
        who: usize,
        from: Option<usize>,
        to: usize,
        amount: i64,
        key: u8,
        nonce: u8,
    },
    Buy {
        who: usize,
        from: Option<usize>,
        offer: usize,
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
        amount: Option<i64>,
        key: u8,
        by: Option<usize>,
    },
    Say {
        which: u8,
        by: usize,
        no: bool,
        proof: Proof,
        other_side: bool,
    },
    Policy {
        which: usize,
        by: usize,
        stale: bool,
    },
    Grant {
        who: usize,
        account: usize,
        transfer: bool,
        max: Option<i64>,
        days: i64,
        by: usize,
    },
    /// The grant under which a payment is made.
    Ungrant {
        which: u8,
    },
    Revoke {
        who: usize,
    },
    /// Revokes the key of somebody who spoke about a payment that waits for others.
    Lose {
        which: u8,
    },
    /// To this many milliseconds from the end of the newest mandate.
    MandateEnds {
        off: i64,
    },
    Freeze {
        who: Option<usize>,
    },
    Thaw {
        which: u8,
        by: usize,
    },
    Mandate {
        which: usize,
        days: i64,
        id: u8,
    },
    Withdraw {
        which: u8,
        by: usize,
    },
    Breaker {
        by: usize,
        anomalies: bool,
        stop: bool,
    },
    Take {
        which: u8,
        by: usize,
        over: bool,
    },
    Resolve {
        which: u8,
        by: usize,
        verdict: u8,
    },
    Queue {
        which: u8,
    },
    Sweep,
    Later {
        ms: i64,
    },
    Midnight {
        account: usize,
        off: i64,
    },
}

/// Mostly next to where some rule changes its mind.
fn amount() -> impl Strategy<Value = i64> {
    let edges = vec![10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 90_000, 100_000, 120_000, 150_000];
    prop_oneof![
        2 => (select(edges), -1..=1_i64).prop_map(|(edge, off)| edge + off),
        2 => 100..60_000_i64,
        1 => select(vec![-1, 0, 1, 150_001, 250_000, 400_000, 400_001, i64::MAX]),
    ]
}

pub fn step() -> impl Strategy<Value = Step> {
    let u8s = any::<u8>;
    let who = || prop_oneof![6 => Just(0_usize), 4 => Just(1), 1 => Just(2)];
    let from = || prop_oneof![1 => Just(None), 6 => Just(Some(0_usize)), 2 => Just(Some(1)), 2 => Just(Some(2))];
    let person = || 0..PEOPLE.len();
    let proof = prop_oneof![
        12 => Just(Proof::Own), 1 => Just(Proof::None), 1 => Just(Proof::OfAnother), 1 => Just(Proof::Forged),
        1 => Just(Proof::Turned),
    ];
    let clerk = || prop_oneof![8 => Just(ADA), 1 => person()];
    prop_oneof![
        32 => (who(), from(), 0..3_usize, amount(), 0..40_u8, 0..60_u8)
            .prop_map(|(who, from, to, amount, key, nonce)| Step::Pay { who, from, to, amount, key, nonce }),
        10 => (who(), from(), 0..OFFERS.len(), 0..60_u8).prop_map(|(who, from, offer, key)| Step::Buy { who, from, offer, key }),
        34 => (u8s(), 0..16_u8).prop_map(|(which, twist)| Step::Execute { which, twist }),
        4 => (u8s(), 0..6_u8).prop_map(|(which, twist)| Step::Cancel { which, twist }),
        5 => (u8s(), proptest::option::of(amount()), 0..20_u8, proptest::option::of(person()))
            .prop_map(|(which, amount, key, by)| Step::Reverse { which, amount, key, by }),
        // From ten on: somebody who is asked.
        44 => (u8s(), 0..2 * PEOPLE.len(), prop::bool::weighted(0.05), proof, prop::bool::weighted(0.1))
            .prop_map(|(which, by, no, proof, other_side)| Step::Say { which, by, no, proof, other_side }),
        9 => (0..POLICIES.len(), clerk(), prop::bool::weighted(0.1))
            .prop_map(|(which, by, stale)| Step::Policy { which, by, stale }),
        8 => (who(), 0..3_usize, prop::bool::weighted(0.9), proptest::option::weighted(0.2, 1_000..90_000_i64), 1..200_i64, clerk())
            .prop_map(|(who, account, transfer, max, days, by)| Step::Grant { who, account, transfer, max, days, by }),
        3 => u8s().prop_map(|which| Step::Ungrant { which }),
        // What is for ever, seldom.
        1 => (0..2_usize, prop::bool::weighted(0.2))
            .prop_map(|(who, so)| if so { Step::Revoke { who } } else { Step::Sweep }),
        1 => u8s().prop_map(|which| Step::Lose { which }),
        2 => select(vec![-300_000, 0]).prop_map(|off| Step::MandateEnds { off }),
        1 => prop_oneof![4 => (0..2_usize).prop_map(Some), 1 => Just(None)].prop_map(|who| Step::Freeze { who }),
        10 => (u8s(), person()).prop_map(|(which, by)| Step::Thaw { which, by }),
        5 => (prop_oneof![3 => Just(0_usize), 1 => 0..MANDATES.len()], prop_oneof![1 => Just(1_i64), 4 => Just(40)], 0..3_u8)
            .prop_map(|(which, days, id)| Step::Mandate { which, days, id }),
        2 => (u8s(), person()).prop_map(|(which, by)| Step::Withdraw { which, by }),
        7 => (person(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(by, anomalies, stop)| Step::Breaker { by, anomalies, stop }),
        3 => (u8s(), person(), any::<bool>()).prop_map(|(which, by, over)| Step::Take { which, by, over }),
        12 => (u8s(), person(), 0..5_u8).prop_map(|(which, by, verdict)| Step::Resolve { which, by, verdict }),
        2 => u8s().prop_map(|which| Step::Queue { which }),
        5 => Just(Step::Sweep),
        6 => prop_oneof![
            12 => 1..300_000_i64, 2 => Just(900_000_i64), 1 => Just(3_600_000_i64), 1 => Just(DAY_MS / 2),
            2 => Just(-1_200_000_i64), 1 => Just(6 * DAY_MS),
        ].prop_map(|ms| Step::Later { ms }),
        2 => (0..3_usize, -1..=1_i64).prop_map(|(account, off)| Step::Midnight { account, off }),
    ]
}

static COMPILED: LazyLock<Vec<Policy>> = LazyLock::new(|| POLICIES.iter().map(Plain::policy).collect());

pub struct Life<'w, 's> {
    pub w: &'w World<'s>,
}

impl Life<'_, '_> {
    /// The command of a step, if it is one. What it is about is looked up in the witness's books.
    pub fn asked(&self, book: &Witness, step: &Step) -> Option<Asked> {
        let w = self.w;
        let plain = book.policy.map_or(POLICIES[0], |which| POLICIES[which]);
        let rules = rules_under(book.policy.map(|which| (book.version, &COMPILED[which])));
        let mut asked = Asked {
            command: w.command(actor(ADA), Act::Sweep { limit: 0 }),
            plain,
            by: ADA,
            proof: Proof::Own,
            which: 0,
        };
        let tool = |who: usize, call: ToolCall| {
            let act = Act::Tool { call, rules: Arc::clone(&rules), fresh: w.fresh(), risk: None };
            w.command(Actor::Agent(agents()[who].clone()), act)
        };
        let account = |at: usize| -> AccountId { ACCOUNTS[at].0.parse().unwrap() };
        let mut by_person = |by: usize, act: Act| {
            asked.by = by;
            w.command(actor(by), act)
        };
        let command = match step.clone() {
            Step::Pay { who, from, to, amount, key, nonce } => {
                let call = ToolCall::AuthorizeTransfer {
                    from_account: from.map(account),
                    to_account: account(to),
                    amount: usd(amount),
                    idempotency_key: format!("k{key}").parse().unwrap(),
                };
                let mut command = tool(who, call);
                command.stamp.nonce = (nonce < 4).then(|| Sha256::of(&[&[nonce]]));
                command
            }
            Step::Buy { who, from, offer, key } => {
                let (merchant, product, price) = OFFERS[offer];
                let call = ToolCall::AuthorizePurchase {
                    product_id: product.parse().unwrap(),
                    price: usd(price),
                    merchant: merchant.parse().unwrap(),
                    from_account: from.map(account),
                    idempotency_key: format!("k{key}").parse().unwrap(),
                };
                tool(who, call)
            }
            Step::Execute { which, twist } => {
                let payment = pick(book, which)?;
                tool(maker(payment, twist == 15), execution(payment, twist)?)
            }
            Step::Cancel { which, twist } => {
                let payment = pick(book, which)?;
                let reference = AuthorizationRef::TransactionId(payment.id.parse().unwrap());
                tool(maker(payment, twist == 5), ToolCall::CancelAuthorization { reference })
            }
            Step::Reverse { which, amount, key, by } => {
                let payment = pick(book, which)?;
                let (transaction_id, amount) = (payment.id.parse().unwrap(), amount.map(usd));
                let idempotency_key = format!("r{key}").parse().unwrap();
                match by {
                    None => tool(
                        maker(payment, false),
                        ToolCall::RequestReversal { transaction_id, amount, idempotency_key },
                    ),
                    Some(by) => {
                        let (rules, fresh) = (Arc::clone(&rules), w.fresh());
                        by_person(by, Act::ReverseTransaction { transaction_id, amount, idempotency_key, rules, fresh })
                    }
                }
            }
            Step::Say { which, by, no, proof, other_side } => {
                let waiting: Vec<&Payment> = book.payments.iter().filter(|one| one.state == State::Asked).collect();
                let any: Vec<&Payment> = book.payments.iter().filter(|one| one.approval.is_some()).collect();
                let among = if waiting.is_empty() || which < 20 { any } else { waiting };
                let payment = *among.get(usize::from(which) % among.len().max(1))?;
                let of = if proof == Proof::OfAnother {
                    &book.payments.iter().rfind(|one| one.approval.is_some() && one.id != payment.id)?.id
                } else {
                    &payment.id
                };
                let by = if by < PEOPLE.len() { by } else { somebody_asked(payment, by) };
                let verdict = if no { Verdict::Deny } else { Verdict::Approve };
                let side = if PEOPLE[by].1.contains(&"owner") != other_side { Side::Owner } else { Side::Bank };
                let signed = evidence(&w.store.transaction(&of.parse().unwrap()).unwrap()?, by, side, verdict, proof);
                let approval = payment.approval.as_ref()?.parse().unwrap();
                let act = Act::DecideApproval { approval, side, verdict, note: "n".into(), evidence: signed };
                let command = by_person(by, act);
                asked.proof = proof;
                command
            }
            Step::Policy { which, by, stale } => {
                let expects = if stale { book.version.wrapping_sub(1) } else { book.version };
                let command = by_person(by, Act::ApplyPolicy { policy: Box::new(COMPILED[which].clone()), expects });
                asked.which = which;
                command
            }
            Step::Grant { who, account, transfer, max, days, by } => {
                by_person(by, bank::grant(who, ACCOUNTS[account].0, transfer, max, days))
            }
            Step::Ungrant { which } => {
                let payment = pick(book, which)?;
                let agent = agents()[maker(payment, false)].spiffe_id.clone();
                by_person(ADA, Act::RevokeGrant { agent, account: payment.debit.parse().ok()? })
            }
            Step::Revoke { who } => {
                let target = RevocationTarget::Agent(agents()[who].spiffe_id.clone());
                by_person(ADA, Act::Revoke { target, reason: "lost".into() })
            }
            Step::Lose { which } => {
                let waits = |payment: &&Payment| payment.state == State::Asked && !payment.words.is_empty();
                let waiting: Vec<&Payment> = book.payments.iter().filter(waits).collect();
                let word = waiting.get(usize::from(which) % waiting.len().max(1))?.words.last()?;
                let target = RevocationTarget::Key(key_of(word.person));
                by_person(ADA, Act::Revoke { target, reason: "lost".into() })
            }
            Step::MandateEnds { off } => {
                let ends = book.mandates.last()?.expires + off;
                if ends < START + 50 * DAY_MS {
                    w.now.set(ends);
                }
                return None;
            }
            Step::Freeze { who } => by_person(ADA, Act::Freeze { whom: whom(who), reason: "odd".into() }),
            Step::Thaw { which, by } => {
                let frozen = book.frozen.keys().nth(usize::from(which) % book.frozen.len().max(1))?;
                let who = agents().iter().position(|agent| agent.spiffe_id.to_string() == *frozen);
                by_person(by, Act::Unfreeze { whom: whom(who), note: "n".into() })
            }
            Step::Mandate { which, days, id } => {
                let id = format!("mdt_{:026}", usize::from(id) * MANDATES.len() + which);
                let mandate = Box::new(bank::signed(&MANDATES[which], &id, w.now.get(), days));
                let command = by_person(ADA, Act::AddMandate { mandate });
                asked.which = which;
                command
            }
            Step::Withdraw { which, by } => {
                let mandate = book.mandates.get(usize::from(which) % book.mandates.len().max(1))?.id.parse().unwrap();
                by_person(by, Act::RevokeMandate { mandate, reason: "r".into() })
            }
            Step::Breaker { by, anomalies, stop } => {
                let cause = if anomalies && !stop { Cause::Anomalies } else { Cause::Operator };
                by_person(by, Act::SetBreaker { cause, reason: stop.then(|| "drill".into()), node: None })
            }
            Step::Take { which, by, over } => {
                let from = if over { TakeFrom::Anybody } else { TakeFrom::Nobody };
                by_person(by, Act::TakeCase { case: pick_case(book, which)?, from })
            }
            Step::Resolve { which, by, verdict } => {
                let verdict = match verdict {
                    0 => CaseVerdict::Reject,
                    1 => CaseVerdict::PaidElsewhere { reference: "SWIFT-1".into() },
                    _ => CaseVerdict::Release,
                };
                let (case, rules) = (pick_case(book, which)?, Arc::clone(&rules));
                by_person(by, Act::ResolveCase { case, verdict, note: "n".into(), rules })
            }
            Step::Queue { which } => {
                let transaction_id = pick(book, which)?.id.parse().unwrap();
                let case = w.id("case_").parse().unwrap();
                let act = Act::QueueManual { transaction_id, case, reason: "stuck".into() };
                w.command(Actor::System { component: "job".into() }, act)
            }
            Step::Sweep => w.command(Actor::System { component: "sweeper".into() }, Act::Sweep { limit: 1_000 }),
            Step::Later { ms } => {
                // The people's certificates live for months, not for years.
                if w.now.get() + ms < START + 50 * DAY_MS {
                    w.later(ms);
                }
                return None;
            }
            Step::Midnight { account, off } => {
                w.now.set(calendar::next_midnight(ACCOUNTS[account].4, w.now.get()) + off);
                return None;
            }
        };
        Some(Asked { command, ..asked })
    }
}

fn whom(who: Option<usize>) -> Whom {
    who.map_or(Whom::Everyone, |who| Whom::Agent(agents()[who].spiffe_id.clone()))
}

/// Mostly one of those that are approved, or one of the newest.
fn pick(book: &Witness, which: u8) -> Option<&Payment> {
    let ready: Vec<&Payment> = book.payments.iter().filter(|payment| payment.state == State::Approved).collect();
    if which >= 100 && !ready.is_empty() {
        return ready.get(usize::from(which) % ready.len()).copied();
    }
    let count = book.payments.len();
    book.payments.get(count.checked_sub(1 + usize::from(which) % count.clamp(1, 10))?)
}

/// Mostly one of those that wait.
fn pick_case(book: &Witness, which: u8) -> Option<CaseId> {
    let waiting: Vec<_> = book.cases.iter().filter(|case| !case.is_done).collect();
    let all: Vec<_> = book.cases.iter().collect();
    let among = if waiting.is_empty() || which < 20 { all } else { waiting };
    Some(among.get(usize::from(which) % among.len().max(1))?.id.parse().unwrap())
}

/// The owner who has not consented yet, or somebody of the bank.
fn somebody_asked(payment: &Payment, number: usize) -> usize {
    let owner = bank::ACCOUNTS.iter().find(|row| row.0 == payment.debit).map(|row| row.1);
    let consents = |person: usize| PEOPLE[person].2 == owner && PEOPLE[person].1 == ["owner"];
    let waits = payment.gates.contains(&Gate::Owner) && !payment.words.iter().any(|word| word.owner);
    let owner = (0..PEOPLE.len()).find(|person| waits && consents(*person));
    owner.unwrap_or([0, 2, 1, 3, 6][number % 5])
}

/// Whose payment it is, or somebody else.
fn maker(payment: &Payment, another: bool) -> usize {
    let made = |agent: &AgentPrincipal| {
        payment
            .agent
            .as_ref()
            .is_some_and(|(name, key)| *name == agent.spiffe_id.to_string() && *key == agent.key.hex())
    };
    let place = agents().iter().position(made).unwrap_or(0);
    if another { (place + 1) % agents().len() } else { place }
}

/// Mostly as it was authorized; now and then with another account, payee, amount, product or tool.
fn execution(payment: &Payment, twist: u8) -> Option<ToolCall> {
    let transaction_id = payment.id.parse().unwrap();
    let as_purchase = (payment.kind == TransactionKind::Purchase) != (twist == 14);
    if as_purchase {
        let product = payment.product.as_deref().filter(|_| twist != 13).unwrap_or("CABLE");
        return Some(ToolCall::ExecutePurchase { transaction_id, product_id: product.parse().unwrap() });
    }
    let other = |name: &str| if name == "A" { "B" } else { "A" };
    let to = if twist == 12 { other(&payment.credit) } else { &payment.credit };
    let from = if twist == 11 { other(&payment.debit) } else { &payment.debit };
    Some(ToolCall::ExecuteTransfer {
        transaction_id,
        from_account: (twist < 4 || twist == 11).then(|| from.parse().ok()).flatten(),
        to_account: to.parse().ok()?,
        amount: usd(payment.amount + i64::from(twist == 13)),
    })
}

/// What of the settings the lives lean on.
pub fn settings_are_the_witnesses(rules: &Rules) {
    assert_eq!(rules.authorization_ttl_ms, 900_000);
    assert_eq!(Some(rules.unattended_per_day.minor()), SETTINGS.alone_a_day);
}
