//! Policies as files: read whatever their form, merged, with the table of cases beside them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::documents;
use crate::front::admin::AdminCall;
use crate::kernel::policy::case::{self, Case};
use crate::kernel::policy::document::Document;
use crate::kernel::policy::finding::{Finding, Severity};
use crate::kernel::policy::reading::{self, Format};
use crate::kernel::policy::role::{Examined, Policy};
use crate::kernel::policy::tools::Tools;
use crate::ops::failure::Failure;
use crate::payment::PolicyCall;

/// Forms of a table of cases, in the order in which they are looked for.
const CASES_ENDS: [&str; 4] = ["toml", "yaml", "yml", "json"];

/// Which tools a policy is written for.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Catalogue {
    /// The tools it is written for: an answer to tools/list. Left out: this bank's.
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
}

impl Catalogue {
    /// # Errors
    /// `document_unreadable`, `document_malformed`, `tools_malformed`
    pub(super) fn tools(&self) -> Result<Tools, Failure> {
        let Some(path) = &self.tools else {
            return Ok(Tools::ours());
        };
        Tools::of(&documents::read_json(path)?).map_err(|why| {
            let next = "give the answer to tools/list of the server that the policy is for";
            Failure::usage("tools_malformed", format!("{}: {why}", path.display()), next)
        })
    }
}

/// The files as one document.
///
/// # Errors
/// `document_unreadable`, `policy_form_unknown`; the name of the first flaw.
pub(super) fn merged(files: &[PathBuf]) -> Result<Document, Failure> {
    let mut documents = Vec::new();
    for path in files {
        let value = read(path)?;
        let of_file = |finding: Finding| flawed(finding.of_file(&path.display().to_string()));
        documents.push(Document::of(value).map_err(of_file)?);
    }
    Document::merged(documents).map_err(flawed)
}

/// What is found in a document.
pub(super) fn examined(document: Document, tools: &Tools) -> Examined {
    Policy::examined(document, tools, None)
}

/// The files as a policy that can be asked.
///
/// # Errors
/// As [`merged`]; `policy_refused`.
pub(super) fn asked(files: &[PathBuf], tools: &Tools) -> Result<Policy, Failure> {
    let found = examined(merged(files)?, tools);
    found.policy.ok_or_else(|| fails(&found.findings))
}

/// The tables of cases: those that are named, or those beside the files.
///
/// # Errors
/// `policy_cases_missing`, and as [`merged`].
pub(super) fn cases(files: &[PathBuf], tables: &[PathBuf]) -> Result<Vec<Case>, Failure> {
    let mut beside = Vec::new();
    if tables.is_empty() {
        for file in files {
            let ends = CASES_ENDS.iter().map(|end| file.with_extension(format!("cases.{end}")));
            beside.extend(ends.into_iter().find(|path| path.is_file()));
        }
    }
    let tables = if tables.is_empty() { &beside } else { tables };
    if tables.is_empty() {
        return Err(Failure::usage(
            "policy_cases_missing",
            "there is no table of cases beside the policy",
            "write one, such as roles.cases.toml for roles.yaml, or name it with --cases",
        ));
    }
    let mut cases = Vec::new();
    for path in tables {
        let of_file = |finding: Finding| flawed(finding.of_file(&path.display().to_string()));
        cases.extend(case::cases(read(path)?).map_err(of_file)?);
    }
    Ok(cases)
}

/// The policy in force, with its version.
///
/// # Errors
/// `policy_missing`; the daemon's.
pub(super) fn in_force(context: &Context) -> Result<(u64, Policy), Failure> {
    let answer = context.call(AdminCall::Policy(PolicyCall::Show { version: None }))?;
    let document = Document::of(answer["document"].clone()).map_err(flawed)?;
    let found = examined(document, &Tools::ours());
    let policy = found.policy.ok_or_else(|| fails(&found.findings))?;
    Ok((answer["version"].as_u64().unwrap_or_default(), policy))
}

/// The findings as one failure: the errors, each with its next step when there are several, and then what is worth a look
/// besides.
pub(super) fn fails(findings: &[Finding]) -> Failure {
    let is_error = |finding: &&Finding| finding.flaw.severity() == Severity::Error;
    let (errors, besides): (Vec<&Finding>, Vec<&Finding>) = findings.iter().partition(is_error);
    let only = match errors[..] {
        [one] if besides.is_empty() => Some(one.flaw.next_step()),
        _ => None,
    };
    let step = |finding: &Finding| match only {
        Some(_) => String::new(),
        None => format!("\n    next: {}", finding.flaw.next_step()),
    };
    let line = |word: &str, it: &Finding| format!("\n  {word}{}: {it}{}", it.flaw.name(), step(it));
    let mut lines: String = errors.iter().map(|finding| line("", finding)).collect();
    lines.extend(besides.iter().map(|finding| line("warning ", finding)));
    let next = only.unwrap_or("correct the policy: each error says how");
    Failure::refused("policy_refused", format!("{} error(s):{lines}", errors.len()), next)
}

fn flawed(finding: Finding) -> Failure {
    Failure::refused(finding.flaw.name(), finding.to_string(), finding.flaw.next_step())
}

fn read(path: &Path) -> Result<Value, Failure> {
    let name = path.display().to_string();
    let format = Format::of_name(&name).ok_or_else(|| {
        let next = "name it .json, .jsonc, .toml, .yaml or .yml";
        Failure::usage("policy_form_unknown", format!("the end of {name} does not say how it is written"), next)
    })?;
    reading::value(&documents::read(path)?, format).map_err(|finding| flawed(finding.of_file(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::policy::finding::Flaw;

    #[test]
    fn every_error_says_what_is_next_and_warnings_do_not_vanish() {
        let error = Finding::new(Flaw::Action, "role a", "there is no action \"run\"");
        let failure = fails(std::slice::from_ref(&error));
        assert_eq!(failure.next_step, Flaw::Action.next_step());
        assert_eq!(failure.message, "1 error(s):\n  policy_action_unknown: role a: there is no action \"run\"");
        let other = Finding::new(Flaw::NoSchema, "role b", "5 is no schema");
        let warning = Finding::new(Flaw::DeniedAndPermitted, "role c", "deny_tools names the tool, too");
        let failure = fails(&[warning, error, other]);
        for part in
            [Flaw::Action.next_step(), Flaw::NoSchema.next_step(), "warning policy_denied_and_permitted: role c"]
        {
            assert!(failure.message.contains(part), "{part}: {failure}");
        }
        assert!(failure.message.starts_with("2 error(s):\n  policy_action_unknown: "), "{failure}");
    }
}
