//! Operators, their keys and rights; what agents' roles may do.

use std::collections::{BTreeMap, BTreeSet};

use super::{Found, Outcome, listed};
use crate::report::facts::{Facts, KnownBy, Person, Whose};

const OPERATORS: &str = "countersign operator list";
const SETTINGS: &str = "[[operator]] in the configuration in force";
const POLICY: &str = "countersign policy show";

/// Rights that one person should not hold together: who runs the system, who lets agents in or money out, who looks on.
const APART: [(&str, &str); 5] = [
    ("administrator", "officer"),
    ("administrator", "approver"),
    ("auditor", "administrator"),
    ("auditor", "officer"),
    ("auditor", "approver"),
];

pub fn known(facts: &Facts) -> Found {
    let at = facts.people.at;
    let people = match &facts.people.value {
        Ok(people) => people,
        Err(why) => return Found::unread(at, why, OPERATORS),
    };
    let found = match people.known_by {
        KnownBy::UserId => {
            Found::new(Outcome::Met, at, "the kernel's peer credentials, or a signature, say who is at the socket")
        }
        KnownBy::Assertion => Found::new(
            Outcome::NotMet,
            at,
            "a demo: names are asserted with --operator, and every leaf says so; remove demo.asserted_operators",
        ),
    };
    found.with("operators by user id", listed(people.configured.iter().map(shown)), SETTINGS)
}

pub fn keys(facts: &Facts) -> Found {
    let at = facts.people.at;
    if !matches!(facts.whose, Whose::Bank | Whose::SecurityCompany) {
        return Found::new(Outcome::NotApplicable, at, "nobody is enrolled at such a party");
    }
    let people = match &facts.people.value {
        Ok(people) => people,
        Err(why) => return Found::unread(at, why, OPERATORS),
    };
    let enrolled: BTreeSet<&str> = people.enrolled.iter().map(|person| person.name.as_str()).collect();
    let decides = |person: &&Person| person.roles.iter().any(|role| role == "officer" || role == "approver");
    let without: Vec<&str> = people.configured.iter().filter(decides).map(|person| person.name.as_str()).collect();
    let without: Vec<&str> = without.into_iter().filter(|name| !enrolled.contains(name)).collect();
    let (outcome, says) = match (enrolled.is_empty(), without.is_empty()) {
        (true, _) => (Outcome::NotMet, "nobody has a key of their own here"),
        (false, true) => (Outcome::Met, "everybody who decides is enrolled with a key in a token of their own"),
        (false, false) => (Outcome::Partly, "some who may decide are known by user id alone"),
    };
    Found::new(outcome, at, says).with("enrolled in person", listed(people.enrolled.iter().map(shown)), OPERATORS).with(
        "officers and approvers without a key",
        listed(&without),
        SETTINGS,
    )
}

pub fn separated(facts: &Facts) -> Found {
    let at = facts.people.at;
    let people = match &facts.people.value {
        Ok(people) => people,
        Err(why) => return Found::unread(at, why, OPERATORS),
    };
    let mut rights: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for person in people.configured.iter().chain(&people.enrolled) {
        rights.entry(&person.name).or_default().extend(person.roles.iter().map(String::as_str));
    }
    let both = |roles: &BTreeSet<&str>| APART.iter().any(|(one, other)| roles.contains(one) && roles.contains(other));
    let joined: Vec<&str> = rights.iter().filter(|(_, roles)| both(roles)).map(|(name, _)| *name).collect();
    let (outcome, says) = match (rights.is_empty(), joined.is_empty()) {
        (true, _) => (Outcome::NotMet, "nobody is known here"),
        (false, true) => (Outcome::Met, "nobody both runs the system and decides, or both acts and audits"),
        (false, false) => (Outcome::NotMet, "some hold rights that belong to different people"),
    };
    Found::new(outcome, at, says).with("people", rights.len(), OPERATORS).with(
        "with rights that should be apart",
        listed(&joined),
        OPERATORS,
    )
}

pub fn roles_narrow(facts: &Facts) -> Found {
    let Some(bank) = &facts.bank else {
        return Found::new(Outcome::NotApplicable, facts.made_at, "agents call no tools at this party");
    };
    let at = bank.at;
    let bank = match &bank.value {
        Ok(bank) => bank,
        Err(why) => return Found::unread(at, why, POLICY),
    };
    let rules = &bank.rules;
    let Some((catalogue, ends)) = bank.catalogue else {
        return Found::new(Outcome::NotMet, at, "no role catalogue of both parties is in force; no agent has a tool")
            .with("policy", &rules.policy_version, POLICY);
    };
    let (outcome, says) = match (&rules.policy, rules.policy_unreadable) {
        (_, Some(_)) => {
            (Outcome::NotMet, "the policy in force cannot be read by this node, which decides nothing by it")
        }
        (Some(_), None) => {
            (Outcome::Met, "a role that the policy does not name has no tool; both parties signed the rest")
        }
        (None, None) => (Outcome::Partly, "the catalogue of both parties decides alone: no role policy is in force"),
    };
    let ends = ends.map_or_else(|| "when a newer one is installed".to_owned(), |end| end.rfc3339());
    let found = Found::new(outcome, at, says)
        .with("role catalogue", format!("version {catalogue}, ends {ends}"), "countersign catalogue show")
        .with("policy", &rules.policy_version, POLICY);
    rules.role_tools.iter().fold(found, |found, (role, tools)| {
        found.with(format!("tools of {role}"), format!("{}: {}", tools.len(), listed(tools)), POLICY)
    })
}

fn shown(person: &Person) -> String {
    format!("{} ({})", person.name, person.roles.join(", "))
}
