//! Which people a payment needs, and who of them has spoken: the two gates, the owner's and the bank's.
//!
//! A rule names gates ([`GateRule`]); what several rules name is put together to the strictest of all
//! ([`strictest`]); a [`Quorum`] keeps what was said. Nothing here knows of signatures, accounts or time: the decision
//! around it (`decide/approval.rs`) says who speaks and whether it is signed, this says whether the word counts.
//!
//! What holds whatever is said in whatever order: nobody counts twice over all gates of an approval; an owner's word
//! never counts at the bank's gate nor the reverse, whatever roles the person has; a denial by anyone entitled ends it;
//! an ordered gate hears its roles one after the other; and whoever can be given a seat with all who have spoken is.

mod rules;
mod seats;

use serde::{Deserialize, Serialize};

pub use rules::{APPROVALS_MAX, BANK_ROLES, GATES_MAX, GateRule, GateUnusable, OWNER, strictest};
use seats::Voice;

use crate::kernel::types::KeyId;

/// Who is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Owner,
    Bank,
}

impl Side {
    /// The refusal or word prefix of this side's gate.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Bank => "bank",
        }
    }
}

/// Yes or no.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Yes,
    No,
}

/// Who speaks, as the decision around this has found out.
#[derive(Clone, Copy, Debug)]
pub struct Speaker<'a> {
    pub person: &'a str,
    /// As enrolled, or as configured for somebody known by user id.
    pub roles: &'a [String],
    /// The key that signed it, which is the person's own; none: it is only asserted.
    pub key: Option<KeyId>,
}

/// What a signed word is proven by.
pub trait Proof {
    /// Whose key it is by. Two words of one key are one person's, under whatever names.
    fn key(&self) -> KeyId;
}

/// What somebody says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said<E> {
    pub answer: Answer,
    pub note: String,
    /// Milliseconds since 1970.
    pub at: i64,
    /// The name was chosen in a demo instead of proven.
    pub asserted: bool,
    /// What the person signed. None: known by user id or asserted, which proves nothing later.
    pub evidence: Option<E>,
}

/// Why a word does not count. In the order in which it is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotCounted {
    /// The person has no role that any gate of this side hears.
    NotPermitted,
    /// No gate of this side is asked for.
    NotAsked,
    /// Only signed words count here.
    Unsigned,
    /// The person has spoken at one of the gates before, or somebody with the same key has.
    SpokenBefore,
    /// Every gate of this side that hears the person has all it needs.
    GateComplete,
    /// Somebody else comes first.
    OutOfTurn,
}

/// Where a word is put.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Seat {
    /// Which gate of [`Quorum::gates`].
    pub gate: usize,
    /// As what the person speaks.
    pub role: String,
}

/// What was said at a gate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word<E> {
    /// Which gate of [`Quorum::gates`].
    pub gate: usize,
    pub person: String,
    /// As what the person spoke.
    pub role: String,
    /// Every role that the person had: another seat may be needed for who comes later. Empty: none but that one is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    pub answer: Answer,
    pub note: String,
    /// Milliseconds since 1970.
    pub at: i64,
    /// The name was chosen in a demo instead of proven.
    pub asserted: bool,
    /// What the person signed. None: known by user id or asserted, which proves nothing later.
    pub evidence: Option<E>,
}

impl<E> Word<E> {
    fn known_roles(&self) -> &[String] {
        if self.roles.is_empty() { std::slice::from_ref(&self.role) } else { &self.roles }
    }
}

/// How far an approval is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Open,
    Complete,
    Denied,
}

/// A gate with how many have said yes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Count<'a> {
    pub rule: &'a GateRule,
    pub given: u32,
    pub needed: u32,
}

impl Count<'_> {
    pub fn is_open(&self) -> bool {
        self.given < self.needed
    }

    /// `owner_consent_pending`, `bank_approval_pending 1 of 2`.
    pub fn word(&self) -> String {
        match self.rule.side() {
            Side::Owner => "owner_consent_pending".to_owned(),
            Side::Bank => format!("bank_approval_pending {} of {}", self.given, self.needed),
        }
    }
}

/// The gates of one approval and what was said at them. `E`: what a signed word is proven by.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quorum<E> {
    pub gates: Vec<GateRule>,
    /// Only signed words count: a rule names the gates, or the configuration wants it.
    pub signed_only: bool,
    /// In the order in which they were said.
    pub words: Vec<Word<E>>,
}

impl<E> Quorum<E> {
    pub fn new(gates: Vec<GateRule>, signed_only: bool) -> Self {
        Self { gates, signed_only, words: vec![] }
    }

    pub fn standing(&self) -> Standing {
        if self.words.iter().any(|word| word.answer == Answer::No) {
            Standing::Denied
        } else if self.counts().any(|count| count.is_open()) {
            Standing::Open
        } else {
            Standing::Complete
        }
    }

    /// Every gate with how many have said yes.
    pub fn counts(&self) -> impl Iterator<Item = Count<'_>> {
        self.gates.iter().enumerate().map(|(gate, rule)| Count { rule, given: self.given(gate), needed: rule.people() })
    }

    /// What is still waited for, in words: `owner_consent_pending`, `bank_approval_pending 1 of 2`.
    pub fn pending(&self) -> Vec<String> {
        match self.standing() {
            Standing::Open => self.counts().filter(Count::is_open).map(|count| count.word()).collect(),
            Standing::Complete | Standing::Denied => vec![],
        }
    }

    /// True while the owner's consent is waited for.
    pub fn waits_for_owner(&self) -> bool {
        self.standing() == Standing::Open
            && self.counts().any(|count| count.is_open() && count.rule.side() == Side::Owner)
    }

    fn given(&self, gate: usize) -> u32 {
        let yes = self.words.iter().filter(|word| word.gate == gate && word.answer == Answer::Yes).count();
        u32::try_from(yes).unwrap_or(u32::MAX)
    }
}

impl<E: Proof> Quorum<E> {
    /// Takes note of a word, if it counts; those who spoke before may sit elsewhere then. A denial needs no turn and no
    /// room: whoever may ever speak at a gate of this side may end it.
    ///
    /// # Errors
    /// The first [`NotCounted`] in the order of that type; nothing has changed then.
    pub fn hear(&mut self, side: Side, speaker: Speaker<'_>, said: Said<E>) -> Result<(), NotCounted> {
        let mut seats = self.seats(side, speaker, said.answer)?;
        let Some(Seat { gate, role }) = seats.pop() else {
            return Err(NotCounted::OutOfTurn);
        };
        for (word, seat) in self.words.iter_mut().filter(|word| side_of(&self.gates, word) == side).zip(seats) {
            (word.gate, word.role) = (seat.gate, seat.role);
        }
        let Said { answer, note, at, asserted, evidence } = said;
        let (person, roles) = (speaker.person.to_owned(), speaker.roles.to_vec());
        self.words.push(Word { gate, person, role, roles, answer, note, at, asserted, evidence });
        Ok(())
    }

    /// Where those of this side sit who have spoken, unless it is as now, and then this person.
    fn seats(&self, side: Side, speaker: Speaker<'_>, answer: Answer) -> Result<Vec<Seat>, NotCounted> {
        let of_side = || self.gates.iter().enumerate().filter(move |(_, rule)| rule.side() == side);
        let may_ever = match side {
            Side::Owner => speaker.roles.iter().any(|role| role == OWNER),
            Side::Bank => speaker.roles.iter().any(|role| BANK_ROLES.contains(&role.as_str())),
        };
        let hearing = || of_side().filter(|(_, rule)| rule.hears(speaker.roles));
        if !may_ever || (of_side().next().is_some() && hearing().next().is_none()) {
            return Err(NotCounted::NotPermitted);
        }
        if of_side().next().is_none() {
            return Err(NotCounted::NotAsked);
        }
        if self.signed_only && speaker.key.is_none() {
            return Err(NotCounted::Unsigned);
        }
        let is_same = |word: &Word<E>| {
            let key = word.evidence.as_ref().map(Proof::key);
            word.person == speaker.person || (key.is_some() && key == speaker.key)
        };
        if self.words.iter().any(is_same) {
            return Err(NotCounted::SpokenBefore);
        }
        if answer == Answer::No {
            let role_here = |rule: &GateRule| match rule {
                GateRule::Owner {} => Some(OWNER.to_owned()),
                GateRule::Bank { roles, .. } => roles.iter().find(|role| speaker.roles.contains(role)).cloned(),
            };
            let seat = hearing().find_map(|(gate, rule)| Some(Seat { gate, role: role_here(rule)? }));
            return seat.map(|seat| vec![seat]).ok_or(NotCounted::NotPermitted);
        }
        let of_this_side = self.words.iter().filter(|word| side_of(&self.gates, word) == side);
        let there = of_this_side.map(|word| Voice { roles: word.known_roles(), gate: Some(word.gate) });
        let voices: Vec<Voice<'_>> = there.chain([Voice { roles: speaker.roles, gate: None }]).collect();
        seats::seated(&self.gates, side, &voices).ok_or_else(|| {
            let is_open = |(gate, rule): (usize, &GateRule)| self.given(gate) < rule.people();
            if hearing().any(is_open) { NotCounted::OutOfTurn } else { NotCounted::GateComplete }
        })
    }
}

/// Whose gate a word was said at.
fn side_of<E>(gates: &[GateRule], word: &Word<E>) -> Side {
    gates.get(word.gate).map_or(Side::Bank, GateRule::side)
}

#[cfg(test)]
mod tests;
