//! The monitor over a labelled stream, and what it found: precision, recall by family, what slipped through.
//!
//! A payment that is held waits for a human, who denies an attacker's and approves any other: what is denied is
//! never executed and teaches nothing.

use std::collections::BTreeMap;

use super::stream::{Call, Family, LIMIT, Profile, Stream, Wish};
use crate::kernel::monitor::{Ahead, Asked, Event, Monitor, MonitorRules, Outcome, Refused, Risk, Subject};
use crate::kernel::types::{Currency, Money, Sha256, UnixMillis};

/// How well one family was found.
#[derive(Clone, Default, Debug, serde::Serialize)]
pub struct Found {
    pub attacks: u32,
    /// Attacks of which at least one call reached the score from which on a human is asked.
    pub caught: u32,
    pub payments: u32,
    pub payments_held: u32,
    /// Minor units.
    pub money: i64,
    pub money_held: i64,
}

impl Found {
    /// Of a thousand attacks.
    pub fn recall(&self) -> u32 {
        (self.caught * 1_000).checked_div(self.attacks).unwrap_or(0)
    }

    /// Of a thousand minor units.
    pub fn stopped(&self) -> i64 {
        (self.money_held * 1_000).checked_div(self.money).unwrap_or(0)
    }
}

/// What came of a whole stream.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Verdict {
    pub events: u64,
    pub families: BTreeMap<Family, Found>,
    /// Payments of ordinary agents, and those that were held.
    pub ordinary: BTreeMap<Profile, (u32, u32)>,
    /// SHA-256 over every score and reason, in order.
    pub scores: String,
}

impl Verdict {
    pub fn held_of_attacks(&self) -> u32 {
        self.families.values().map(|found| found.payments_held).sum()
    }

    pub fn held_of_others(&self) -> u32 {
        self.ordinary.values().map(|(_, held)| held).sum()
    }

    /// Of a thousand payments that were held.
    pub fn precision(&self) -> u32 {
        let held = self.held_of_attacks();
        (held * 1_000).checked_div(held + self.held_of_others()).unwrap_or(1_000)
    }

    /// Of a thousand attacks.
    pub fn recall(&self) -> u32 {
        let (caught, all) =
            self.families.values().fold((0, 0), |(caught, all), found| (caught + found.caught, all + found.attacks));
        (caught * 1_000_u32).checked_div(all).unwrap_or(0)
    }
}

/// The calls of a stream as events, one after the other; `told` sees each with its risk.
pub fn run(rules: &MonitorRules, stream: &Stream, mut told: impl FnMut(&Call, &Event, &Risk)) -> Verdict {
    let mut monitor = Monitor::new(rules.clone());
    let mut families: BTreeMap<Family, Found> = BTreeMap::new();
    let mut ordinary: BTreeMap<Profile, (u32, u32)> = BTreeMap::new();
    let mut caught = vec![false; stream.attacks.len()];
    let mut scores = vec![];
    let mut events = 0;
    for (family, _) in &stream.attacks {
        families.entry(*family).or_default().attacks += 1;
    }
    for (number, call) in (0_u64..).zip(&stream.calls) {
        let event = event_of(call);
        let risk = monitor.assess(&event);
        told(call, &event, &risk);
        scores.extend(risk.score.to_be_bytes());
        scores.extend(risk.reasons.iter().flat_map(|reason| {
            let numbers = [reason.seen.to_be_bytes(), reason.usual.to_be_bytes()].concat();
            [reason.name.name().as_bytes(), &reason.points.to_be_bytes(), &numbers].concat()
        }));
        let is_held = risk.score >= rules.approve_at;
        let attack = call.attack.and_then(|attack| usize::try_from(attack).ok());
        if let Some(attack) = attack {
            caught[attack] |= is_held;
        }
        let decided = match call.asked {
            Wish::Refused(name) => Event { outcome: Outcome::Refused(Refused::of_name(name)), ..event },
            Wish::Pay { minor, .. } => {
                match attack.map(|attack| stream.attacks[attack].0) {
                    Some(family) => {
                        let found = families.entry(family).or_default();
                        found.payments += 1;
                        found.money += minor;
                        found.payments_held += u32::from(is_held);
                        found.money_held += if is_held { minor } else { 0 };
                    }
                    None => {
                        let of = ordinary.entry(stream.profiles[call.agent as usize]).or_default();
                        of.0 += 1;
                        of.1 += u32::from(is_held);
                    }
                }
                let transaction = Subject::of(&format!("txn {number}"));
                Event { outcome: Outcome::Authorized { transaction }, ..event }
            }
        };
        monitor.observe(&decided);
        events += 1;
        if let Outcome::Authorized { transaction } = decided.outcome
            && !(is_held && attack.is_some())
        {
            let asked = Asked::Execution { transaction, transfer: None };
            // As the leaf of an executed purchase has it.
            monitor.observe(&Event { asked, account: None, outcome: Outcome::Executed, ..event });
            events += 1;
        }
    }
    for (attack, (family, _)) in stream.attacks.iter().enumerate() {
        families.entry(*family).or_default().caught += u32::from(caught[attack]);
    }
    Verdict { events, families, ordinary, scores: Sha256::of(&[&scores]).hex() }
}

/// The call as the monitor is asked about it.
pub fn event_of(call: &Call) -> Event {
    let (dollar, euro) = currencies();
    let asked = match call.asked {
        Wish::Pay { payee, minor, is_abroad } => Asked::Payment {
            payee: Subject::of(&format!("payee {payee}")),
            amount: Money::from_minor(minor, if is_abroad { euro } else { dollar }),
        },
        Wish::Refused(_) => Asked::Other,
    };
    let limit = match call.asked {
        Wish::Pay { is_abroad: false, .. } => Some(LIMIT),
        Wish::Pay { is_abroad: true, .. } | Wish::Refused(_) => None,
    };
    Event {
        at: UnixMillis(call.at),
        agent: Subject::of(&format!("agent {}", call.agent)),
        account: Some(Subject::of(&format!("account {}", call.agent))),
        asked,
        outcome: Outcome::Undecided,
        limit_minor: limit,
        ahead: Ahead::default(),
    }
}

fn currencies() -> (Currency, Currency) {
    let known = |code: &str| code.parse().unwrap_or_else(|_| unreachable!("{code} is a known currency"));
    (known("USD"), known("EUR"))
}
