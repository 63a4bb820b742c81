//! What the verbs of a policy print.

use serde_json::{Value, json};

use crate::cli::table::cell;
use crate::kernel::policy::case::{Expected, Explanation, Failed};
use crate::kernel::policy::finding::{Finding, Severity};
use crate::kernel::policy::role::Policy;

pub(super) fn finding(finding: &Finding) -> Value {
    json!({
        "severity": word(finding.flaw.severity()), "name": finding.flaw.name(), "place": finding.place,
        "detail": finding.detail, "next_step": finding.flaw.next_step(),
    })
}

/// As `policy check` weighs it: what is not known here is somebody else's tool.
fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Unknown | Severity::Warning => "warning",
    }
}

pub(super) fn findings(findings: &[Finding], policy: Option<&Policy>) -> String {
    let mut lines: Vec<String> = findings
        .iter()
        .map(|found| {
            let (word, name) = (word(found.flaw.severity()), found.flaw.name());
            format!("{word} {name}\n  {found}\n  next: {}", found.flaw.next_step())
        })
        .collect();
    if let Some(policy) = policy {
        let mut hash = policy.hash().hex();
        hash.truncate(16);
        lines.push(format!("{} (SHA-256 {hash}…)", about(policy)));
    }
    lines.join("\n")
}

/// What a policy speaks of: roles, payments, or both.
fn about(policy: &Policy) -> String {
    let roles: Vec<&str> = policy.document().roles.iter().map(|role| role.role.as_str()).collect();
    let rules = match policy.transactions().iter().count() {
        0 => None,
        1 => Some("1 transaction rule".to_owned()),
        many => Some(format!("{many} transaction rules")),
    };
    match (roles.is_empty(), rules) {
        (false, None) => format!("a policy for {}", roles.join(", ")),
        (false, Some(rules)) => format!("a policy for {}, with {rules}", roles.join(", ")),
        (true, rules) => {
            format!("a policy of {}, for whatever roles there are", rules.unwrap_or_else(|| "nothing".to_owned()))
        }
    }
}

pub(super) fn explained(explanation: &Explanation) -> String {
    let word = match explanation.outcome {
        Expected::Allow => "allow".to_owned(),
        Expected::Approval => "approval".to_owned(),
        Expected::Deny => format!("deny: {}", explanation.reason.unwrap_or_default()),
    };
    let mut lines = vec![word, format!("  {}", explanation.words)];
    if let Some(payment) = explanation.payment.as_ref().filter(|payment| !payment.depends_on.is_empty()) {
        lines.push("  this rests on what was not given:".to_owned());
        lines.extend(payment.depends_on.iter().map(|fact| format!("    {}: {}", fact.what, fact.taken_as)));
    }
    lines.join("\n")
}

pub(super) fn tested(cases: usize, failed: &[Failed]) -> String {
    let mut lines: Vec<String> = failed
        .iter()
        .map(|failed| {
            let found = json!(failed.found);
            let got = [&found["outcome"], &found["reason"], &found["rule"]];
            let got: Vec<String> = got.into_iter().filter(|part| !part.is_null()).map(cell).collect();
            format!(
                "case {} ({} {}): expected {}, got {}\n  {}",
                failed.at.saturating_add(1),
                failed.role,
                failed.tool,
                failed.expected,
                got.join(", "),
                failed.found.words
            )
        })
        .collect();
    lines.push(format!("{} of {cases} cases as expected", cases - failed.len()));
    lines.join("\n")
}

pub(super) fn changes(answer: &Value) -> String {
    let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return "they say the same".to_owned();
    }
    let line = |item: &Value| {
        let what: Vec<String> =
            ["role", "tool", "rule"].iter().map(|member| &item[*member]).filter(|it| !it.is_null()).map(cell).collect();
        let detail = |member: &str| match &item[member] {
            Value::Null => String::new(),
            value => format!("\n    {member}: {value}"),
        };
        format!("{} {}{}{}", cell(&item["change"]), what.join(" "), detail("before"), detail("after"))
    };
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::policy::case::{cases, failing};
    use crate::kernel::policy::document::Document;
    use crate::kernel::policy::tools::Tools;

    fn policy(value: Value) -> Policy {
        Policy::examined(Document::of(value).unwrap(), &Tools::ours(), None).policy.unwrap()
    }

    #[test]
    fn a_policy_without_roles_is_not_one_for_nobody() {
        let rules = json!([{ "name": "dollars", "currencies": ["USD"] }]);
        let role =
            json!([{ "role": "purchaser", "permissions": [{ "tool_name": "list_accounts", "action": "invoke" }] }]);
        let table = [
            (json!({ "transactions": rules }), "a policy of 1 transaction rule, for whatever roles there are"),
            (json!({ "roles": role }), "a policy for purchaser"),
            (json!({ "roles": role, "transactions": rules }), "a policy for purchaser, with 1 transaction rule"),
        ];
        for (value, words) in table {
            assert_eq!(about(&policy(value)), words);
        }
    }

    #[test]
    fn cases_are_counted_as_people_count() {
        let policy = policy(
            json!({ "role": "purchaser", "permissions": [{ "tool_name": "list_accounts", "action": "invoke" }] }),
        );
        let one = |expect: &str| json!({ "role": "purchaser", "tool": "list_accounts", "expect": expect });
        let table = cases(json!([one("allow"), one("allow"), one("deny")])).unwrap();
        let failed = failing(&policy, &Tools::ours(), None, &table);
        let text = tested(table.len(), &failed);
        assert!(text.starts_with("case 3 (purchaser list_accounts): expected deny"), "{text}");
        assert_eq!(cases(json!([one("allow"), 7])).unwrap_err().place, "case 2");
    }
}
