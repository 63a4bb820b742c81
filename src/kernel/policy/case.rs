//! A table of cases beside a policy: what a call must come to, and why.
//!
//! Cases are asked of the policy alone: no catalogue, grant or limit takes part. So a policy can be tested by whoever
//! writes it, before anybody puts it in force.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::document::permission_place;
use super::finding::{Finding, Flaw};
use super::role::{Policy, Ruling, arguments_of};
use super::tools::Tools;

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
    pub expect: Expected,
    /// The name of the refusal, when that matters.
    #[serde(default)]
    pub reason: Option<String>,
    /// The rule that decides, when that matters: `permissions[2]`, `permissions[2].constraints.amount`, `deny_tools`.
    #[serde(default)]
    pub rule: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    Allow,
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
        Case::deserialize(value).map_err(|error| Finding::new(Flaw::Shape, format!("case {at}"), error.to_string()))
    };
    list.into_iter().enumerate().map(case).collect()
}

/// Asks every case; answers those that came out otherwise.
pub fn failing(policy: &Policy, tools: &Tools, cases: &[Case]) -> Vec<Failed> {
    let judged = cases.iter().enumerate().filter_map(|(at, case)| {
        let found = explained(policy, tools, &case.role, &case.tool, &case.arguments);
        let same = found.outcome == case.expect
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
    judged.collect()
}

fn expected(case: &Case) -> String {
    let mut words = match case.expect {
        Expected::Allow => "allow".to_owned(),
        Expected::Deny => "deny".to_owned(),
    };
    for part in [&case.reason, &case.rule].into_iter().flatten() {
        words.push_str(", ");
        words.push_str(part);
    }
    words
}

/// Which rule decides a call, in words.
pub fn explained(policy: &Policy, tools: &Tools, role: &str, tool: &str, given: &Map<String, Value>) -> Explanation {
    let arguments = match arguments_of(tools, tool, given) {
        Ok(arguments) => arguments,
        Err(words) => {
            let reason = Some("arguments_invalid");
            return Explanation { outcome: Expected::Deny, reason, rule: None, keyword: None, words };
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
    };
    match ruling {
        Ruling::Permitted { at } => Explanation {
            outcome: Expected::Allow,
            reason: None,
            rule: Some(format!("permissions[{at}]")),
            keyword: None,
            words: format!("{} permits it", place(at)),
        },
        Ruling::NotAsked => Explanation {
            outcome: Expected::Allow,
            reason: None,
            rule: None,
            keyword: None,
            words: "the policy says nothing about roles: the signed catalogue decides".into(),
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
