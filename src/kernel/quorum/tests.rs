//! Which gates come of several lists, and whose words count at them, in whatever order they are said.

use proptest::prelude::*;

use super::*;
use crate::kernel::types::Sha256;

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

/// Each has a key of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
struct By(KeyId);

impl Proof for By {
    fn key(&self) -> KeyId {
        self.0
    }
}

fn key_of(person: &str) -> KeyId {
    let mut key = [0; 32];
    key[..person.len()].copy_from_slice(person.as_bytes());
    Sha256(key)
}

/// Says it if it counts.
fn say(
    quorum: &mut Quorum<By>,
    side: Side,
    person: &str,
    answer: Answer,
    signed: bool,
) -> Result<Standing, NotCounted> {
    let key = signed.then(|| key_of(person));
    spoken(quorum, side, person, &roles_of(person), answer, key)
}

fn spoken(
    quorum: &mut Quorum<By>,
    side: Side,
    person: &str,
    roles: &[String],
    answer: Answer,
    key: Option<KeyId>,
) -> Result<Standing, NotCounted> {
    let said = Said { answer, note: String::new(), at: 0, asserted: key.is_none(), evidence: key.map(By) };
    quorum.hear(side, Speaker { person, roles, key }, said)?;
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
        assert_eq!(strictest(one_by_one.into_iter().rev()).unwrap_or_default(), expected, "the other way: {named:?}");
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
fn one_key_under_two_names_is_one_person() {
    let two = bank(2, &["approver", "officer"], false);
    let (approver, officer) = (vec!["approver".to_owned()], vec!["officer".to_owned()]);
    let say = |quorum: &mut Quorum<By>, person: &str, roles: &[String], key| {
        spoken(quorum, Side::Bank, person, roles, Answer::Yes, key)
    };
    let mut quorum = Quorum::new(vec![OWNERS, two], false);
    let key = Some(key_of("alice"));
    assert_eq!(say(&mut quorum, "alice", &approver, key), Ok(Standing::Open));
    assert_eq!(say(&mut quorum, "alicia", &officer, key), Err(NotCounted::SpokenBefore));
    let owner = vec![OWNER.to_owned()];
    let consent = spoken(&mut quorum, Side::Owner, "aly", &owner, Answer::Yes, key);
    assert_eq!(consent, Err(NotCounted::SpokenBefore));
    let denial = spoken(&mut quorum, Side::Bank, "alicia", &officer, Answer::No, key);
    assert_eq!(denial, Err(NotCounted::SpokenBefore));
    // Unsigned words have no key to compare.
    assert_eq!(say(&mut quorum, "bob", &approver, None), Ok(Standing::Open));
    assert_eq!(quorum.counts().map(|count| count.given).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn whoever_comes_later_finds_a_seat_when_others_can_move() {
    let roles = |held: &[&str]| held.iter().map(|role| (*role).to_owned()).collect::<Vec<_>>();
    const A: &str = "approver";
    const O: &str = "officer";
    const D: &str = "administrator";
    type Row<'r> = (&'r str, Vec<GateRule>, Vec<&'r [&'r str]>, Vec<&'r str>);
    let rows: Vec<Row<'_>> = vec![
        ("one of each", vec![bank(1, &[A], false), bank(1, &[O], false)], vec![&[A, O], &[A]], vec![O, A]),
        ("one of each, the other", vec![bank(1, &[A], false), bank(1, &[O], false)], vec![&[A, O], &[O]], vec![A, O]),
        (
            "one after the other",
            vec![bank(1, &[A], false), bank(1, &[O], false), bank(1, &[D], false)],
            vec![&[A, O], &[O, D], &[A]],
            vec![O, D, A],
        ),
        (
            "from an ordered gate to another one",
            vec![bank(2, &[A, O], true), bank(1, &[D], false)],
            vec![&[A, D], &[A], &[O]],
            vec![D, A, O],
        ),
        (
            "to an ordered gate, and before who came later",
            vec![bank(1, &[A], false), bank(2, &[O, D], true)],
            vec![&[A, O], &[A], &[D]],
            vec![O, A, D],
        ),
    ];
    for (name, gates, people, expected) in rows {
        let mut quorum = Quorum::new(gates, true);
        for (number, held) in people.iter().enumerate() {
            let person = format!("p{number}");
            let key = Some(key_of(&person));
            assert!(
                spoken(&mut quorum, Side::Bank, &person, &roles(held), Answer::Yes, key).is_ok(),
                "{name}: {held:?}"
            );
        }
        assert_eq!(quorum.standing(), Standing::Complete, "{name}");
        assert_eq!(quorum.words.iter().map(|word| word.role.as_str()).collect::<Vec<_>>(), expected, "{name}");
    }
    // Whoever spoke after the second one cannot have been the first.
    let mut quorum = Quorum::new(vec![bank(2, &[A, O], true), bank(1, &[O], false)], true);
    for (person, held, expected) in [
        ("p0", &[A, O][..], Ok(Standing::Open)),
        ("p1", &[O], Ok(Standing::Open)),
        ("p2", &[A], Err(NotCounted::GateComplete)),
    ] {
        let key = Some(key_of(person));
        assert_eq!(spoken(&mut quorum, Side::Bank, person, &roles(held), Answer::Yes, key), expected, "{person}");
    }
}

/// Whether these people, who spoke in this order, can all sit: every way is tried.
fn can_all_sit(gates: &[GateRule], given: &mut Vec<usize>, people: &[Vec<String>]) -> bool {
    let Some((first, rest)) = people.split_first() else {
        return true;
    };
    (0..gates.len()).any(|gate| {
        let GateRule::Bank { approvals, roles, ordered } = &gates[gate] else {
            return false;
        };
        let place = given[gate];
        let fits = if *ordered {
            roles.get(place).is_some_and(|role| first.contains(role))
        } else {
            place < *approvals as usize && roles.iter().any(|role| first.contains(role))
        };
        fits && {
            given[gate] += 1;
            let sits = can_all_sit(gates, given, rest);
            given[gate] -= 1;
            sits
        }
    })
}

fn bank_gates() -> impl Strategy<Value = Vec<GateRule>> {
    let role = || prop::sample::select(&BANK_ROLES[..]);
    let unordered = (1..3_u32, prop::sample::subsequence(BANK_ROLES.to_vec(), 1..=3))
        .prop_map(|(approvals, roles)| bank(approvals, &roles, false));
    let ordered =
        prop::collection::vec(role(), 1..4).prop_map(|roles| bank(u32::try_from(roles.len()).unwrap(), &roles, true));
    prop::collection::vec(prop_oneof![unordered, ordered], 1..4)
}

proptest! {
    /// Whoever can be seated with all who have spoken is, and nobody else; and everybody keeps a seat that fits.
    #[test]
    fn a_word_counts_exactly_when_everybody_can_sit(
        gates in bank_gates(),
        people in prop::collection::vec(prop::sample::subsequence(BANK_ROLES.to_vec(), 1..=3), 1..8),
    ) {
        let mut quorum = Quorum::new(gates.clone(), true);
        let mut sitting: Vec<Vec<String>> = vec![];
        for (number, held) in people.iter().enumerate() {
            if quorum.standing() != Standing::Open {
                break;
            }
            let roles: Vec<String> = held.iter().map(|role| (*role).to_owned()).collect();
            sitting.push(roles.clone());
            let expected = can_all_sit(&gates, &mut vec![0; gates.len()], &sitting);
            let person = format!("p{number}");
            let heard = spoken(&mut quorum, Side::Bank, &person, &roles, Answer::Yes, Some(key_of(&person)));
            prop_assert_eq!(heard.is_ok(), expected, "{:?} with {:?} at {:?}: {:?}", roles, sitting, gates, heard);
            if !expected {
                sitting.pop();
            }
            let mut given = vec![0; gates.len()];
            for (word, held) in quorum.words.iter().zip(&sitting) {
                let GateRule::Bank { roles, ordered, .. } = &gates[word.gate] else { panic!("an owner's gate") };
                prop_assert!(held.contains(&word.role) && roles.contains(&word.role));
                prop_assert!(!ordered || roles[given[word.gate]] == word.role);
                given[word.gate] += 1;
            }
            prop_assert!(quorum.counts().all(|count| count.given <= count.needed));
        }
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
    let ordered =
        prop::collection::vec(role(), 1..4).prop_map(|roles| bank(u32::try_from(roles.len()).unwrap(), &roles, true));
    prop::collection::vec(prop_oneof![Just(OWNERS), unordered, ordered], 0..4)
}

type Spoken = (bool, usize, bool, bool);

fn words() -> impl Strategy<Value = Vec<Spoken>> {
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
