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
        let roles: Vec<&str> = policy.document().roles.iter().map(|role| role.role.as_str()).collect();
        let mut hash = policy.hash().hex();
        hash.truncate(16);
        lines.push(format!("a policy for {} (SHA-256 {hash}…)", roles.join(", ")));
    }
    lines.join("\n")
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
                failed.at,
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
