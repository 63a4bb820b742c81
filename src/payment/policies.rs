//! Putting a role policy in force, and showing what is and was.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::unexpected;
use super::operators::{page, reader, refused};
use super::story::Payments;
use crate::kernel::command::{Act, Effect, OperatorPrincipal};
use crate::kernel::decide::{PolicyLine, PolicyRecord};
use crate::kernel::policy::document::Document;
use crate::kernel::policy::finding::{Finding, Severity};
use crate::kernel::policy::role::Policy;
use crate::kernel::policy::tools::Tools;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::RoleName;
use crate::ops::failure::Failure;

/// Versions of one page.
const VERSIONS_MAX: u32 = 1_000;
/// Who puts policies in force (`decide::policy`).
const ADMINISTRATOR: &str = "administrator";

/// What is asked about policies.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", content = "args", rename_all = "snake_case", deny_unknown_fields)]
pub enum PolicyCall {
    /// Role: administrator.
    Apply {
        document: Value,
        /// The version that must be in force; 0: none. Left out: whichever is.
        expects: Option<u64>,
    },
    History {
        /// Only older versions than this one.
        before: Option<u64>,
        limit: u32,
    },
    Show {
        /// None: the one in force.
        version: Option<u64>,
    },
}

impl Payments {
    /// Puts a policy in force for every decision from its commit on, here as soon as the rules are made anew.
    ///
    /// Answers `{version, sha256, changed}`. A policy that says the same as the one in force changes nothing.
    ///
    /// # Errors
    /// `policy_refused` with every flaw; `policy_changed_meanwhile`, `operator_not_permitted`; the store's.
    pub fn policy_apply(
        &self,
        operator: &OperatorPrincipal,
        document: Value,
        expects: Option<u64>,
    ) -> Result<Value, Failure> {
        let policy = match self.examined(document) {
            Ok(policy) => policy,
            // Whose word it is comes first: whoever may not put one in force is not told what is wrong with it.
            Err(_) if !operator.roles.iter().any(|role| role == ADMINISTRATOR) => {
                let refusal = Refusal::OperatorNotPermitted;
                self.attempted(operator, json!({ "outcome": "refused", "reason": refusal.name() }))?;
                return Err(refused(refusal));
            }
            Err(findings) => return Err(self.policy_refused(operator, &findings)),
        };
        let expects = match expects {
            Some(version) => version,
            None => self.store.policy_line()?.map_or(0, |line| line.version),
        };
        let sha256 = policy.hash();
        let Effect::PolicyInForce { version, changed } =
            self.operate(operator, Act::ApplyPolicy { policy: Box::new(policy), expects })?
        else {
            return Err(unexpected());
        };
        Ok(json!({ "version": version, "sha256": sha256, "changed": changed }))
    }

    /// What an applied policy must be: whole, and of roles, tools and parameters that this bank has.
    fn examined(&self, document: Value) -> Result<Policy, Vec<Finding>> {
        let rules = self.rules();
        let document = Document::of(document).map_err(|finding| vec![finding])?;
        let mut roles = rules.role_tools.keys().map(RoleName::as_str);
        let found = Policy::examined(document, &Tools::ours(), Some(&mut roles));
        let grave = |finding: &Finding| match finding.flaw.severity() {
            Severity::Error | Severity::Unknown => true,
            Severity::Warning => false,
        };
        let errors: Vec<Finding> = found.findings.into_iter().filter(grave).collect();
        match found.policy {
            Some(policy) if errors.is_empty() => Ok(policy),
            Some(_) | None => Err(errors),
        }
    }

    fn attempted(&self, operator: &OperatorPrincipal, decision: Value) -> Result<(), Failure> {
        self.operate(operator, Act::Record { tool: "apply_policy".into(), decision }).map(drop)
    }

    /// The refusal, with its leaf: somebody tried.
    fn policy_refused(&self, operator: &OperatorPrincipal, findings: &[Finding]) -> Failure {
        const SHOWN_MAX: usize = 20;
        let mut names: Vec<&str> = findings.iter().map(|finding| finding.flaw.name()).collect();
        names.dedup();
        let decision = json!({ "outcome": "refused", "reason": "policy_refused", "flaws": names });
        if let Err(failure) = self.attempted(operator, decision) {
            return failure;
        }
        let lines = findings.iter().take(SHOWN_MAX).map(|finding| format!("\n  {}: {finding}", finding.flaw.name()));
        let lines: String = lines.collect();
        let next = findings.first().map_or("correct the policy", |finding| finding.flaw.next_step());
        let message = format!("{} flaw(s); what was in force stays so:{lines}", findings.len());
        Failure::refused("policy_refused", message, next)
    }

    /// The policies that were in force, newest first, or one of them.
    ///
    /// # Errors
    /// `policy_missing`, `operator_not_permitted`; the store's.
    pub fn policy_history(
        &self,
        operator: &OperatorPrincipal,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Value, Failure> {
        reader(operator)?;
        let limit = limit.clamp(1, VERSIONS_MAX);
        let found = self.store.policies(before, limit + 1)?;
        let (found, next) = page(found, limit, |line| line.version);
        Ok(json!({ "items": found.iter().map(line).collect::<Vec<_>>(), "next": next }))
    }

    /// # Errors
    /// `policy_missing`, `operator_not_permitted`; the store's.
    pub fn policy_show(&self, operator: &OperatorPrincipal, version: Option<u64>) -> Result<Value, Failure> {
        reader(operator)?;
        let found = self.store.policy(version)?;
        let PolicyRecord { line: of, document } = found.ok_or_else(|| {
            let message = match version {
                Some(version) => format!("there was no policy version {version}"),
                None => "no policy is in force: the signed catalogue alone decides".to_owned(),
            };
            Failure::refused("policy_missing", message, "see `countersign policy history`, or apply one")
        })?;
        let document: Value = serde_json::from_str(&document).map_err(|error| {
            Failure::fault("policy_unreadable", format!("policy version {}: {error}", of.version), "apply it again")
        })?;
        let mut shown = line(&of);
        shown["document"] = document;
        Ok(shown)
    }
}

fn line(of: &PolicyLine) -> Value {
    json!({ "version": of.version, "sha256": of.sha256, "at": of.at.rfc3339(), "by": of.by, "roles": of.roles })
}
