//! Which people a payment needs, and who of them has spoken: the two gates, the owner's and the bank's.
//!
//! A rule names gates ([`GateRule`]); what several rules name is put together to the strictest of all
//! ([`strictest`]); a [`Quorum`] keeps what was said. Nothing here knows of signatures, accounts or time: the decision
//! around it (`decide/approval.rs`) says who speaks and whether it is signed, this says whether the word counts.
//!
//! What holds whatever is said in whatever order: nobody counts twice over all gates of an approval; an owner's word
//! never counts at the bank's gate nor the reverse, whatever roles the person has; a denial by anyone entitled ends it;
//! an ordered gate hears its roles one after the other.

use serde::{Deserialize, Serialize};

/// The roles that may speak at a bank gate.
pub const BANK_ROLES: [&str; 3] = ["approver", "officer", "administrator"];
/// The role of an account's owner.
pub const OWNER: &str = "owner";
/// People that one gate may ask for: more never come together before an approval expires.
pub const APPROVALS_MAX: u32 = 8;
/// Gates of one approval, after what several rules name is put together.
pub const GATES_MAX: usize = 8;

/// A gate as a rule names it: `{"gate":"owner"}`, or
/// `{"gate":"bank","approvals":2,"roles":["approver","officer"],"ordered":false}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(tag = "gate", rename_all = "snake_case", deny_unknown_fields)]
pub enum GateRule {
    /// The owner of the debited account consents.
    Owner {},
    /// So many different people of the bank approve.
    Bank {
        #[serde(default = "one")]
        approvals: u32,
        /// Each has one of these roles. In order: the n-th has the n-th role, so there are as many as approvals.
        #[serde(default = "approver")]
        roles: Vec<String>,
        #[serde(default)]
        ordered: bool,
    },
}

fn one() -> u32 {
    1
}

fn approver() -> Vec<String> {
    vec![BANK_ROLES[0].to_owned()]
}

/// Why a gate cannot be asked for. In the order in which it is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GateUnusable {
    Approvals,
    Roles,
    UnknownRole,
    RepeatedRole,
    Order,
    TooMany,
}

impl GateUnusable {
    pub fn name(self) -> &'static str {
        match self {
            Self::Approvals => "gate_approvals_out_of_range",
            Self::Roles => "gate_without_roles",
            Self::UnknownRole => "gate_role_unknown",
            Self::RepeatedRole => "gate_role_repeated",
            Self::Order => "gate_order_incomplete",
            Self::TooMany => "too_many_gates",
        }
    }
}

impl std::fmt::Display for GateUnusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Approvals => "a bank gate asks for 1 to 8 approvals",
            Self::Roles => "a bank gate names at least one role",
            Self::UnknownRole => "roles of a bank gate are approver, officer, administrator",
            Self::RepeatedRole => "a role is named twice; only an ordered gate may do that",
            Self::Order => "an ordered gate names one role for each approval",
            Self::TooMany => "there are more than 8 different gates",
        })
    }
}

impl GateRule {
    /// One approver of the bank: what is asked where no rule names a gate.
    pub fn one_approver() -> Self {
        Self::Bank { approvals: one(), roles: approver(), ordered: false }
    }

    /// # Errors
    /// The first [`GateUnusable`] in the order of that type.
    pub fn check(&self) -> Result<(), GateUnusable> {
        let Self::Bank { approvals, roles, ordered } = self else {
            return Ok(());
        };
        if !(1..=APPROVALS_MAX).contains(approvals) {
            return Err(GateUnusable::Approvals);
        }
        if roles.is_empty() {
            return Err(GateUnusable::Roles);
        }
        if roles.iter().any(|role| !BANK_ROLES.contains(&role.as_str())) {
            return Err(GateUnusable::UnknownRole);
        }
        if *ordered && roles.len() != *approvals as usize {
            return Err(GateUnusable::Order);
        }
        let repeated = |(place, role): (usize, &String)| roles[..place].contains(role);
        if !ordered && roles.iter().enumerate().any(repeated) {
            return Err(GateUnusable::RepeatedRole);
        }
        Ok(())
    }

    /// Whose it is.
    pub fn side(&self) -> Side {
        match self {
            Self::Owner {} => Side::Owner,
            Self::Bank { .. } => Side::Bank,
        }
    }

    /// How many people it asks for.
    pub fn people(&self) -> u32 {
        match self {
            Self::Owner {} => 1,
            Self::Bank { approvals, .. } => *approvals,
        }
    }

    /// Whether a person with these roles may speak here at all, now or later.
    fn hears(&self, roles: &[String]) -> bool {
        match self {
            Self::Owner {} => roles.iter().any(|role| role == OWNER),
            Self::Bank { roles: wanted, .. } => roles.iter().any(|role| wanted.contains(role)),
        }
    }

    /// The role as which a person with these roles is the next one. `given`: how many spoke before.
    fn next_role(&self, given: u32, roles: &[String]) -> Option<String> {
        let wanted = match self {
            Self::Owner {} => return roles.iter().find(|role| *role == OWNER).cloned(),
            Self::Bank { roles: wanted, ordered: true, .. } => {
                wanted.get(given as usize).map_or(&[][..], std::slice::from_ref)
            }
            Self::Bank { roles: wanted, .. } => wanted,
        };
        wanted.iter().find(|role| roles.contains(role)).cloned()
    }

    /// True when whatever satisfies this gate satisfies `other`.
    pub fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Owner {}, Self::Owner {}) => true,
            (Self::Owner {}, Self::Bank { .. }) | (Self::Bank { .. }, Self::Owner {}) => false,
            (Self::Bank { approvals, roles, .. }, Self::Bank { approvals: fewer, roles: wider, ordered: false }) => {
                approvals >= fewer && roles.iter().all(|role| wider.contains(role))
            }
            (Self::Bank { roles, ordered, .. }, Self::Bank { roles: part, ordered: true, .. }) => {
                *ordered && is_subsequence(part, roles)
            }
        }
    }
}

fn is_subsequence(part: &[String], whole: &[String]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|role| rest.any(|one| one == role))
}

/// The strictest of several lists of gates: whoever satisfies it satisfies each gate of each list.
///
/// - The owner is asked once if any list asks.
/// - Two unordered bank gates that share a role become one: the larger number of approvals, by people who have a role
///   that both name.
/// - A gate that another one implies goes: an ordered one implies the unordered ones whose people it asks anyway, and
///   an ordered one whose roles come in it in the same order.
/// - What cannot be one gate stays apart, and nobody counts twice: each asks for people of its own.
///
/// The order in which the lists come makes no difference. Nothing at all is [`GateRule::one_approver`].
///
/// # Errors
/// What [`GateRule::check`] finds; [`GateUnusable::TooMany`].
pub fn strictest<'a>(lists: impl IntoIterator<Item = &'a [GateRule]>) -> Result<Vec<GateRule>, GateUnusable> {
    let mut named: Vec<GateRule> = lists.into_iter().flatten().cloned().collect();
    for rule in &mut named {
        rule.check()?;
        if let GateRule::Bank { roles, ordered: false, .. } = rule {
            roles.sort_unstable();
        }
    }
    named.sort();
    named.dedup();
    let mut gates: Vec<GateRule> = vec![];
    for rule in named {
        match gates.iter_mut().find_map(|gate| Some((shared(gate, &rule)?, gate))) {
            Some((both, gate)) => *gate = both,
            None => gates.push(rule),
        }
    }
    let all = gates.clone();
    let mut place = 0;
    gates.retain(|gate| {
        let here = place;
        place += 1;
        let implied = |(there, other): (usize, &GateRule)| {
            there != here && other.implies(gate) && (!gate.implies(other) || there < here)
        };
        !all.iter().enumerate().any(implied)
    });
    gates.sort();
    if gates.len() > GATES_MAX {
        return Err(GateUnusable::TooMany);
    }
    if gates.is_empty() {
        gates.push(GateRule::one_approver());
    }
    Ok(gates)
}

/// One unordered gate for two that share a role.
fn shared(one: &GateRule, other: &GateRule) -> Option<GateRule> {
    let (
        GateRule::Bank { approvals, roles, ordered: false },
        GateRule::Bank { approvals: also, roles: with, ordered: false },
    ) = (one, other)
    else {
        return None;
    };
    let common: Vec<String> = roles.iter().filter(|role| with.contains(role)).cloned().collect();
    let approvals = (*approvals).max(*also);
    (!common.is_empty()).then_some(GateRule::Bank { approvals, roles: common, ordered: false })
}

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
    /// By the person's own key; otherwise it is only asserted.
    pub signed: bool,
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
    /// The person has spoken at one of the gates before.
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
    pub answer: Answer,
    pub note: String,
    /// Milliseconds since 1970.
    pub at: i64,
    /// The name was chosen in a demo instead of proven.
    pub asserted: bool,
    /// What the person signed. None: known by user id or asserted, which proves nothing later.
    pub evidence: Option<E>,
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

    /// Where the word of this person would be put. A denial needs no turn and no room: whoever may ever speak at a gate
    /// of this side may end it.
    ///
    /// # Errors
    /// The first [`NotCounted`] in the order of that type.
    pub fn seat(&self, side: Side, speaker: Speaker<'_>, answer: Answer) -> Result<Seat, NotCounted> {
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
        if self.signed_only && !speaker.signed {
            return Err(NotCounted::Unsigned);
        }
        if self.words.iter().any(|word| word.person == speaker.person) {
            return Err(NotCounted::SpokenBefore);
        }
        if answer == Answer::No {
            let role_here = |rule: &GateRule| match rule {
                GateRule::Owner {} => Some(OWNER.to_owned()),
                GateRule::Bank { roles, .. } => roles.iter().find(|role| speaker.roles.contains(role)).cloned(),
            };
            let seat = hearing().find_map(|(gate, rule)| Some(Seat { gate, role: role_here(rule)? }));
            return seat.ok_or(NotCounted::NotPermitted);
        }
        let mut open = hearing().filter(|(gate, rule)| self.given(*gate) < rule.people()).peekable();
        if open.peek().is_none() {
            return Err(NotCounted::GateComplete);
        }
        open.find_map(|(gate, rule)| Some(Seat { gate, role: rule.next_role(self.given(gate), speaker.roles)? }))
            .ok_or(NotCounted::OutOfTurn)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEOPLE: [(&str, &[&str]); 7] = [
        ("alice", &["approver"]),
        ("bob", &["approver"]),
        ("carl", &["officer"]),
        ("dora", &["officer", "approver"]),
        ("olivia", &["owner"]),
        ("omar", &["owner", "approver", "officer"]),
        ("aud", &["auditor"]),
    ];

    fn bank(approvals: u32, roles: &[&str], ordered: bool) -> GateRule {
        GateRule::Bank { approvals, roles: roles.iter().map(|role| (*role).to_owned()).collect(), ordered }
    }

    const OWNERS: GateRule = GateRule::Owner {};

    fn roles_of(person: &str) -> Vec<String> {
        let (_, roles) = PEOPLE.iter().find(|(name, _)| *name == person).unwrap();
        roles.iter().map(|role| (*role).to_owned()).collect()
    }

    /// Says it if it counts.
    fn say(
        quorum: &mut Quorum<()>,
        side: Side,
        person: &str,
        answer: Answer,
        signed: bool,
    ) -> Result<Standing, NotCounted> {
        let roles = roles_of(person);
        let Seat { gate, role } = quorum.seat(side, Speaker { person, roles: &roles, signed }, answer)?;
        let (person, note) = (person.to_owned(), String::new());
        quorum.words.push(Word {
            gate,
            person,
            role,
            answer,
            note,
            at: 0,
            asserted: !signed,
            evidence: signed.then_some(()),
        });
        Ok(quorum.standing())
    }

    #[test]
    fn rules_are_read_as_they_are_written_and_nothing_else() {
        let read = |text: &str| serde_json::from_str::<GateRule>(text).ok();
        assert_eq!(read(r#"{"gate":"owner"}"#), Some(OWNERS));
        assert_eq!(read(r#"{"gate":"bank"}"#), Some(GateRule::one_approver()));
        let two = r#"{"gate":"bank","approvals":2,"roles":["approver","officer"],"ordered":false}"#;
        assert_eq!(read(two), Some(bank(2, &["approver", "officer"], false)));
        let refused = [
            r#"{"gate":"owner","approvals":1}"#,
            r#"{"gate":"bank","quorum":2}"#,
            r#"{"gate":"court"}"#,
            r#"{"approvals":2}"#,
            r#"{"gate":"bank","approvals":-1}"#,
            r#"{"gate":"bank","roles":"approver"}"#,
        ];
        for text in refused {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_gate_that_nobody_could_pass_is_refused_by_name() {
        let table = [
            (bank(0, &["approver"], false), "gate_approvals_out_of_range"),
            (bank(9, &["approver"], false), "gate_approvals_out_of_range"),
            (bank(1, &[], false), "gate_without_roles"),
            (bank(1, &["owner"], false), "gate_role_unknown"),
            (bank(1, &["auditor"], false), "gate_role_unknown"),
            (bank(1, &["approver", "king"], false), "gate_role_unknown"),
            (bank(2, &["approver"], true), "gate_order_incomplete"),
            (bank(1, &["approver", "officer"], true), "gate_order_incomplete"),
            (bank(2, &["approver", "approver"], false), "gate_role_repeated"),
        ];
        for (rule, name) in table {
            assert_eq!(rule.check().unwrap_err().name(), name, "{rule:?}");
            assert!(strictest([&[rule][..]]).is_err());
        }
        for rule in
            [OWNERS, GateRule::one_approver(), bank(2, &["approver", "approver"], true), bank(8, &["officer"], false)]
        {
            assert_eq!(rule.check(), Ok(()), "{rule:?}");
        }
        let orders: [&[&str]; 4] = [
            &["approver", "officer"],
            &["officer", "approver"],
            &["approver", "administrator"],
            &["administrator", "approver"],
        ];
        let mut many: Vec<GateRule> = orders.map(|roles| bank(2, roles, true)).to_vec();
        many.extend([["officer", "administrator"], ["administrator", "officer"]].map(|roles| bank(2, &roles, true)));
        many.extend(BANK_ROLES.map(|role| bank(2, &[role, role], true)));
        assert_eq!(strictest([&many[..]]), Err(GateUnusable::TooMany));
    }

    #[test]
    fn several_lists_come_to_the_strictest_of_all() {
        let both = ["approver", "officer"];
        let table: Vec<(Vec<GateRule>, Vec<GateRule>)> = vec![
            (vec![], vec![GateRule::one_approver()]),
            (vec![OWNERS, OWNERS], vec![OWNERS]),
            (vec![GateRule::one_approver(), OWNERS], vec![OWNERS, GateRule::one_approver()]),
            (vec![bank(1, &both, false), bank(2, &both, false)], vec![bank(2, &both, false)]),
            (vec![bank(2, &both, false), bank(1, &["officer"], false)], vec![bank(2, &["officer"], false)]),
            (
                vec![bank(1, &["officer"], false), bank(2, &["approver"], false)],
                vec![bank(1, &["officer"], false), bank(2, &["approver"], false)],
            ),
            (vec![bank(2, &both, true), bank(2, &both, false)], vec![bank(2, &both, true)]),
            (vec![bank(2, &both, true), bank(1, &["officer"], true)], vec![bank(2, &both, true)]),
            (vec![bank(2, &both, true), bank(3, &both, false)], vec![bank(2, &both, true), bank(3, &both, false)]),
            (
                vec![bank(2, &both, true), bank(2, &["officer", "approver"], true)],
                vec![bank(2, &both, true), bank(2, &["officer", "approver"], true)],
            ),
        ];
        for (named, expected) in table {
            let one_by_one: Vec<&[GateRule]> = named.iter().map(std::slice::from_ref).collect();
            let found = strictest(one_by_one.clone()).unwrap_or_default();
            assert_eq!(found, expected, "{named:?}");
            assert_eq!(
                strictest(one_by_one.into_iter().rev()).unwrap_or_default(),
                expected,
                "the other way: {named:?}"
            );
        }
    }

    #[test]
    fn words_that_do_not_count_are_refused_by_the_rule_they_break() {
        use Answer::{No, Yes};
        use NotCounted::{GateComplete, NotAsked, NotPermitted, OutOfTurn, SpokenBefore, Unsigned};
        let orderly = || vec![bank(2, &["approver", "officer"], true)];
        let two = || vec![bank(2, &["approver", "officer"], false), OWNERS];
        type Said = (Side, &'static str, Answer, bool);
        let table: Vec<(Vec<GateRule>, Vec<Said>, Said, NotCounted)> = vec![
            (two(), vec![], (Side::Bank, "aud", Yes, true), NotPermitted),
            (two(), vec![], (Side::Bank, "olivia", Yes, true), NotPermitted),
            (two(), vec![], (Side::Owner, "alice", Yes, true), NotPermitted),
            (two(), vec![], (Side::Owner, "alice", No, true), NotPermitted),
            (two(), vec![], (Side::Bank, "aud", No, true), NotPermitted),
            (vec![bank(1, &["officer"], false)], vec![], (Side::Bank, "alice", Yes, true), NotPermitted),
            (vec![OWNERS], vec![], (Side::Bank, "alice", Yes, true), NotAsked),
            (orderly(), vec![], (Side::Owner, "olivia", Yes, true), NotAsked),
            (orderly(), vec![], (Side::Owner, "olivia", No, true), NotAsked),
            (two(), vec![], (Side::Bank, "alice", Yes, false), Unsigned),
            (two(), vec![], (Side::Bank, "alice", No, false), Unsigned),
            (two(), vec![], (Side::Owner, "olivia", Yes, false), Unsigned),
            (two(), vec![(Side::Bank, "alice", Yes, true)], (Side::Bank, "alice", Yes, true), SpokenBefore),
            (two(), vec![(Side::Bank, "alice", Yes, true)], (Side::Bank, "alice", No, true), SpokenBefore),
            (two(), vec![(Side::Owner, "omar", Yes, true)], (Side::Bank, "omar", Yes, true), SpokenBefore),
            (two(), vec![(Side::Bank, "omar", Yes, true)], (Side::Owner, "omar", Yes, true), SpokenBefore),
            (two(), vec![(Side::Owner, "olivia", Yes, true)], (Side::Owner, "omar", Yes, true), GateComplete),
            (
                two(),
                vec![(Side::Bank, "alice", Yes, true), (Side::Bank, "bob", Yes, true)],
                (Side::Bank, "carl", Yes, true),
                GateComplete,
            ),
            (orderly(), vec![], (Side::Bank, "carl", Yes, true), OutOfTurn),
            (orderly(), vec![(Side::Bank, "alice", Yes, true)], (Side::Bank, "bob", Yes, true), OutOfTurn),
        ];
        for (gates, before, (side, person, answer, signed), expected) in table {
            let mut quorum = Quorum::new(gates, true);
            for (side, person, answer, signed) in before {
                let _ = say(&mut quorum, side, person, answer, signed).unwrap();
            }
            let kept = quorum.words.len();
            let refused = say(&mut quorum, side, person, answer, signed);
            assert_eq!(refused, Err(expected), "{:?} {person} {answer:?}", quorum.gates);
            assert_eq!(quorum.words.len(), kept);
        }
    }

    #[test]
    fn what_is_waited_for_is_told_in_words() {
        let mut quorum = Quorum::new(vec![OWNERS, bank(2, &["approver", "officer"], true)], true);
        assert_eq!(quorum.pending(), ["owner_consent_pending", "bank_approval_pending 0 of 2"]);
        assert!(quorum.waits_for_owner());
        assert_eq!(say(&mut quorum, Side::Bank, "dora", Answer::Yes, true), Ok(Standing::Open));
        assert_eq!(quorum.words[0].role, "approver", "in order, the first speaks as the first role");
        assert_eq!(say(&mut quorum, Side::Owner, "olivia", Answer::Yes, true), Ok(Standing::Open));
        assert_eq!(quorum.pending(), ["bank_approval_pending 1 of 2"]);
        assert!(!quorum.waits_for_owner());
        assert_eq!(say(&mut quorum, Side::Bank, "carl", Answer::Yes, true), Ok(Standing::Complete));
        assert_eq!(quorum.pending(), [""; 0]);
    }

    #[test]
    fn a_later_role_may_deny_out_of_turn_and_that_ends_it() {
        let mut quorum = Quorum::new(vec![OWNERS, bank(2, &["approver", "officer"], true)], true);
        assert_eq!(say(&mut quorum, Side::Bank, "carl", Answer::No, true), Ok(Standing::Denied));
        assert_eq!(quorum.pending(), [""; 0]);
    }

    fn gates() -> impl Strategy<Value = Vec<GateRule>> {
        let role = || prop::sample::select(&BANK_ROLES[..2]);
        let unordered = (1..4_u32, prop::sample::subsequence(BANK_ROLES[..2].to_vec(), 1..=2))
            .prop_map(|(approvals, roles)| bank(approvals, &roles, false));
        let ordered = prop::collection::vec(role(), 1..4)
            .prop_map(|roles| bank(u32::try_from(roles.len()).unwrap(), &roles, true));
        prop::collection::vec(prop_oneof![Just(OWNERS), unordered, ordered], 0..4)
    }

    type Said = (bool, usize, bool, bool);

    fn words() -> impl Strategy<Value = Vec<Said>> {
        let said = (any::<bool>(), 0..PEOPLE.len(), prop::bool::weighted(0.05), prop::bool::weighted(0.9));
        prop::collection::vec(said, 0..40)
    }

    /// Judged without the code above: do these people, in this order, satisfy the gate?
    fn satisfied(rule: &GateRule, spoken: &[(Side, String)]) -> bool {
        match rule {
            GateRule::Owner {} => spoken.iter().any(|(side, _)| *side == Side::Owner),
            GateRule::Bank { approvals, roles, ordered } => {
                let of_bank = spoken.iter().filter(|(side, _)| *side == Side::Bank).map(|(_, person)| roles_of(person));
                if !ordered {
                    let fitting = of_bank.filter(|held| held.iter().any(|role| roles.contains(role))).count();
                    return fitting >= *approvals as usize;
                }
                let mut left = roles.iter().peekable();
                for held in of_bank {
                    if left.peek().is_some_and(|role| held.contains(role)) {
                        left.next();
                    }
                }
                left.peek().is_none()
            }
        }
    }

    proptest! {
        /// Whatever is said in whatever order, what is complete satisfies every gate of every list, by different people,
        /// each on one side; nothing counts after the end; and the order of the lists does not matter.
        #[test]
        fn no_order_of_words_lets_a_gate_through(lists in prop::collection::vec(gates(), 0..3), said in words(), strict: bool) {
            let merged = strictest(lists.iter().map(Vec::as_slice)).unwrap();
            prop_assert_eq!(&merged, &strictest(lists.iter().rev().map(Vec::as_slice)).unwrap());
            let mut quorum = Quorum::new(merged, strict);
            let mut spoken: Vec<(Side, String)> = vec![];
            for (owner, who, no, signed) in said {
                if quorum.standing() != Standing::Open {
                    break;
                }
                let side = if owner { Side::Owner } else { Side::Bank };
                let (person, answer) = (PEOPLE[who].0, if no { Answer::No } else { Answer::Yes });
                let complete_before: Vec<u32> = quorum.counts().map(|count| count.given).collect();
                match say(&mut quorum, side, person, answer, signed) {
                    Ok(_) => {
                        prop_assert!(signed || !strict);
                        prop_assert!(spoken.iter().all(|(_, before)| before != person), "{} twice", person);
                        prop_assert_eq!(quorum.gates[quorum.words.last().unwrap().gate].side(), side);
                        spoken.push((side, person.to_owned()));
                    }
                    Err(_) => {
                        let after: Vec<u32> = quorum.counts().map(|count| count.given).collect();
                        prop_assert_eq!(complete_before, after);
                    }
                }
            }
            if quorum.standing() == Standing::Complete {
                for rule in lists.iter().flatten() {
                    prop_assert!(satisfied(rule, &spoken), "{:?} by {:?} for {:?}", rule, spoken, lists);
                }
                let asked: u32 = quorum.gates.iter().map(GateRule::people).sum();
                prop_assert_eq!(usize::try_from(asked).unwrap(), spoken.len());
                prop_assert!(quorum.pending().is_empty());
            }
        }
    }
}
