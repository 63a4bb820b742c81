//! A table of cases beside a policy: what a call must come to, and why.
//!
//! Cases are asked of the policy alone, or of it with a bank's settings; what is not said about the bank's state is taken to
//! speak for the call (`kernel::what_if`). So a policy can be tested by whoever writes it, before anybody puts it in force.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::document::permission_place;
use super::finding::{Finding, Flaw};
use super::role::{Policy, Ruling, arguments_of};
use super::tools::Tools;
use super::transaction::Why;
use crate::kernel::command::Rules;
use crate::kernel::quorum::GateRule;
use crate::kernel::what_if::{self, Given, Outlook};

/// Cases of one table.
const CASES_MAX: usize = 5_000;

/// One line of the table.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub role: String,
    pub tool: String,
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Of a payment, instead of the argument that its tool calls so ([`Short`]).
    #[serde(default)]
    pub amount: Option<Value>,
    #[serde(default)]
    pub merchant: Option<String>,
    #[serde(default)]
    pub payee: Option<String>,
    #[serde(default)]
    pub account: Option<String>,
    /// What is supposed about the bank's state and the moment.
    #[serde(default)]
    pub given: Given,
    pub expect: Expected,
    /// The name of the refusal, when that matters.
    #[serde(default)]
    pub reason: Option<String>,
    /// The rule that decides, when that matters: `permissions[2]`, `permissions[2].constraints.amount`, `deny_tools`.
    #[serde(default)]
    pub rule: Option<String>,
    /// Why a human decides, in any order, when that matters: `above_threshold`, `outside_hours`.
    #[serde(default)]
    pub reasons: Option<BTreeSet<String>>,
    /// The gates that it waits for, when that matters.
    #[serde(default)]
    pub gates: Option<Vec<GateRule>>,
}

impl Case {
    fn short(&self) -> Short {
        let Self { amount, merchant, payee, account, .. } = self.clone();
        Short { amount, merchant, payee, account }
    }
}

/// The parts of a payment, whatever its tool calls them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Short {
    pub amount: Option<Value>,
    pub merchant: Option<String>,
    /// The account that a transfer pays.
    pub payee: Option<String>,
    /// The account that pays.
    pub account: Option<String>,
}

impl Short {
    /// With the names of the tool's own arguments; those are not overwritten.
    #[must_use]
    pub fn arguments(&self, tool: &str, mut given: Map<String, Value>) -> Map<String, Value> {
        let text = |text: &Option<String>| text.clone().map(Value::String);
        let parts = [
            (amount_name(tool), self.amount.clone()),
            ("merchant", text(&self.merchant)),
            ("to_account", text(&self.payee)),
            ("from_account", text(&self.account)),
        ];
        for (name, value) in parts {
            if let Some(value) = value {
                given.entry(name).or_insert(value);
            }
        }
        given
    }
}

fn amount_name(tool: &str) -> &'static str {
    if tool == "authorize_purchase" { "price" } else { "amount" }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    Allow,
    /// Permitted, and a human decides.
    Approval,
    Deny,
}

/// How a call is decided by a policy, in words.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Explanation {
    pub outcome: Expected,
    /// The name of the refusal.
    pub reason: Option<&'static str>,
    /// The rule's place in the role: as [`Case::rule`].
    pub rule: Option<String>,
    /// The keyword of a constraint that does not hold, as a path in its fragment.
    pub keyword: Option<String>,
    pub words: String,
    /// Of a payment that the role permits: what the transaction rules make of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment: Option<Outlook>,
}

/// A case that came out otherwise.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Failed {
    /// Counted from 0.
    pub at: usize,
    pub role: String,
    pub tool: String,
    pub expected: String,
    pub found: Explanation,
}

/// The cases of a table: a list, or an object with the list `cases`.
///
/// # Errors
/// The first [`Finding`].
pub fn cases(value: Value) -> Result<Vec<Case>, Finding> {
    let list = match value {
        Value::Object(mut members) if members.len() == 1 => members.remove("cases").unwrap_or_default(),
        other => other,
    };
    let Value::Array(list) = list else {
        return Err(Finding::new(Flaw::Shape, "", "a table of cases is a list, or an object with the list cases"));
    };
    if list.is_empty() || list.len() > CASES_MAX {
        return Err(Finding::new(Flaw::Shape, "", format!("a table has 1 to {CASES_MAX} cases")));
    }
    let case = |(at, value): (usize, Value)| {
        let place = || format!("case {}", at.saturating_add(1));
        Case::deserialize(value).map_err(|error| Finding::new(Flaw::Shape, place(), error.to_string()))
    };
    list.into_iter().enumerate().map(case).collect()
}

/// Asks every case; answers those that came out otherwise. `settings`: a bank's rules with this policy in them.
pub fn failing(policy: &Policy, tools: &Tools, settings: Option<&Rules>, cases: &[Case]) -> Vec<Failed> {
    let otherwise = cases.iter().enumerate().filter_map(|(at, case)| {
        let arguments = case.short().arguments(&case.tool, case.arguments.clone());
        let found = judged(policy, tools, settings, &case.role, &case.tool, &arguments, &case.given);
        let payment = found.payment.as_ref();
        let reasons = || payment.map(|payment| payment.reasons.iter().cloned().collect::<BTreeSet<String>>());
        let gates = || payment.map(|payment| payment.gates.as_slice()).unwrap_or_default();
        let same = found.outcome == case.expect
            && case.reasons.as_ref().is_none_or(|expected| reasons().unwrap_or_default() == *expected)
            && case.gates.as_ref().is_none_or(|expected| gates() == expected.as_slice())
            && case.reason.as_deref().is_none_or(|reason| found.reason == Some(reason))
            && case.rule.as_ref().is_none_or(|rule| found.rule.as_ref() == Some(rule));
        (!same).then(|| Failed {
            at,
            role: case.role.clone(),
            tool: case.tool.clone(),
            expected: expected(case),
            found,
        })
    });
    otherwise.collect()
}

fn expected(case: &Case) -> String {
    let mut words = match case.expect {
        Expected::Allow => "allow".to_owned(),
        Expected::Approval => "approval".to_owned(),
        Expected::Deny => "deny".to_owned(),
    };
    for part in [&case.reason, &case.rule].into_iter().flatten() {
        words.push_str(", ");
        words.push_str(part);
    }
    for reason in case.reasons.iter().flatten() {
        words.push_str(", ");
        words.push_str(reason);
    }
    if let Some(gates) = &case.gates {
        words.push_str(", gates ");
        words.push_str(&gate_words(gates));
    }
    words
}

/// The gates, in words: `owner and bank (2 of officer, approver)`.
fn gate_words(gates: &[GateRule]) -> String {
    let words = gates.iter().map(|gate| match gate {
        GateRule::Owner {} => "owner".to_owned(),
        GateRule::Bank { approvals, roles, ordered } => {
            let then = if *ordered { " then " } else { ", " };
            format!("bank ({approvals} of {})", roles.join(then))
        }
    });
    words.collect::<Vec<_>>().join(" and ")
}

/// Which rule decides a call: the role's first, and where it permits a payment, what the transaction rules make of it, by
/// the decision that a bank makes.
pub fn judged(
    policy: &Policy,
    tools: &Tools,
    settings: Option<&Rules>,
    role: &str,
    tool: &str,
    arguments: &Map<String, Value>,
    given: &Given,
) -> Explanation {
    let of_role = explained(policy, tools, role, tool, arguments);
    if of_role.outcome == Expected::Deny || !what_if::is_payment(tool) || tools.parameters(tool).is_none() {
        return of_role;
    }
    if !arguments.contains_key(amount_name(tool)) {
        let words = format!("{}; without an amount no transaction rule is asked", of_role.words);
        return Explanation { words, ..of_role };
    }
    let payment = match what_if::payment(policy, settings, role, tool, arguments, given) {
        Ok(payment) => payment,
        Err(words) => {
            let (outcome, reason) = (Expected::Deny, Some("arguments_invalid"));
            return Explanation { outcome, reason, rule: None, words, ..of_role };
        }
    };
    let said_by =
        |why: &Why| why.rule.as_ref().map_or_else(|| "settings".to_owned(), |rule| format!("transactions.{rule}"));
    let fitting = if payment.rules.is_empty() { "none".to_owned() } else { payment.rules.join(", ") };
    let begin = format!("{}; transaction rules that fit: {fitting}", of_role.words);
    let (outcome, rule, end) = match (payment.refusal(), payment.status) {
        (Some(refusal), _) => {
            let rule = payment.why.first().map(said_by);
            let by = rule.as_ref().map_or_else(String::new, |rule| format!(" by {rule}"));
            (Expected::Deny, rule, format!("refused{by}: {}, {}", refusal.name(), refusal.message()))
        }
        (None, "requires_approval") => {
            let why: Vec<String> = payment.why.iter().map(|why| format!("{} ({})", why.name, said_by(why))).collect();
            let end = format!("a human decides: {}; gates: {}", why.join(", "), gate_words(&payment.gates));
            (Expected::Approval, payment.why.first().map(said_by), end)
        }
        (None, _) => (Expected::Allow, of_role.rule.clone(), "approved".to_owned()),
    };
    let words = format!("{begin}; {end}");
    Explanation { outcome, reason: payment.reason, rule, words, payment: Some(payment), ..of_role }
}

/// Which rule of a role decides a call, in words; of a tool that there is not, that first.
pub fn explained(policy: &Policy, tools: &Tools, role: &str, tool: &str, given: &Map<String, Value>) -> Explanation {
    let of_role = by_role(policy, tools, role, tool, given);
    if tools.parameters(tool).is_some() {
        return of_role;
    }
    let words = format!("{}; {}", tools.missing(tool), of_role.words);
    Explanation { words, ..of_role }
}

fn by_role(policy: &Policy, tools: &Tools, role: &str, tool: &str, given: &Map<String, Value>) -> Explanation {
    let arguments = match arguments_of(tools, tool, given) {
        Ok(arguments) => arguments,
        Err(words) => {
            let reason = Some("arguments_invalid");
            return Explanation { outcome: Expected::Deny, reason, rule: None, keyword: None, words, payment: None };
        }
    };
    let ruling = policy.ruling(role, tool, || arguments.clone());
    let entry = policy.role(role);
    let place = |at| entry.map(|entry| permission_place(entry, at)).unwrap_or_default();
    let deny = |rule: Option<String>, words: String| Explanation {
        outcome: Expected::Deny,
        reason: ruling.refusal_name(),
        rule,
        keyword: None,
        words,
        payment: None,
    };
    match ruling {
        Ruling::Permitted { at } => Explanation {
            outcome: Expected::Allow,
            reason: None,
            rule: Some(format!("permissions[{at}]")),
            keyword: None,
            words: format!("{} permits it", place(at)),
            payment: None,
        },
        Ruling::NotAsked => Explanation {
            outcome: Expected::Allow,
            reason: None,
            rule: None,
            keyword: None,
            words: "the policy says nothing about roles: the signed catalogue decides".into(),
            payment: None,
        },
        Ruling::RoleUnnamed => deny(None, format!("the policy does not name the role {role}: it has no tools")),
        Ruling::NotPermitted => deny(None, format!("no permission of the role {role} names {tool}")),
        Ruling::Denied => deny(Some("deny_tools".into()), format!("role {role}, deny_tools names {tool}")),
        Ruling::Missing { at, parameter } => deny(
            Some(format!("permissions[{at}].constraints.{parameter}")),
            format!("{} constrains {parameter}, and the call does not have it", place(at)),
        ),
        Ruling::Violated { at, parameter } => {
            let value = arguments.iter().find(|(name, _)| name == parameter).map(|(_, value)| value);
            let why = value.and_then(|value| policy.why(role, at, parameter, value));
            let (keyword, sentence) = why.unwrap_or_default();
            let rule = Some(format!("permissions[{at}].constraints.{parameter}"));
            let words = format!("{}: {parameter} does not fit ({keyword}): {sentence}", place(at));
            Explanation { keyword: Some(keyword), ..deny(rule, words) }
        }
    }
}

impl Ruling<'_> {
    /// The name under which a call is refused by it; none when it is permitted.
    pub fn refusal_name(self) -> Option<&'static str> {
        match self {
            Self::Permitted { .. } | Self::NotAsked => None,
            Self::RoleUnnamed | Self::NotPermitted => Some("tool_denied"),
            Self::Denied => Some("tool_denied_by_policy"),
            Self::Violated { .. } => Some("constraint_violated"),
            Self::Missing { .. } => Some("constraint_parameter_missing"),
        }
    }
}
