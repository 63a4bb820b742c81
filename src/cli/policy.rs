//! `countersign policy …`: who may call which tool with which arguments; written, tested, put in force.

mod files;
mod payment;
mod shown;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Map, Value, json};

use self::files::{Catalogue, asked, examined, fails, in_force, merged};
use super::context::Context;
use super::table::{table, unless_changed, with_next};
use crate::front::admin::AdminCall;
use crate::kernel::policy::case::{failing, judged};
use crate::kernel::policy::change::changes;
use crate::kernel::policy::finding::Severity;
use crate::ops::failure::Failure;
use crate::payment::PolicyCall;

/// Write, test and put in force what each role may do, and with which arguments.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
From a file to a rule in force:
  countersign policy check roles.yaml  # what is wrong with it
  countersign policy test roles.yaml   # the cases of roles.cases.yaml, .toml or .json
  countersign policy diff roles.yaml   # against the one in force
  countersign policy apply roles.yaml

Files are JSON (comments are taken), TOML or YAML; several are one policy. A policy narrows the
signed role catalogue: a role that it does not name has no tools. See docs/POLICY.md.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Say what is wrong with a policy. Needs no daemon.
    #[command(after_help = "\
Examples:
  countersign policy check roles.yaml
  countersign policy check support.jsonc finance.toml --json
  countersign policy check market-analyst.jsonc --tools market-analyst.tools.json")]
    Check {
        /// JSON, TOML or YAML; several are one policy.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        catalogue: Catalogue,
    },
    /// Ask a table of cases, each with what it must come to. Needs no daemon.
    #[command(after_help = "\
Examples:
  countersign policy test roles.yaml
  countersign policy test support.jsonc finance.toml --cases all.cases.toml --json
  countersign policy test roles.yaml --settings /var/lib/countersign/countersign.toml

The table of roles.yaml is roles.cases.toml, .json or .yaml beside it: a list of
  {role: purchaser, tool: authorize_transfer, arguments: {amount: \"500.01\"}, expect: deny,
   reason: constraint_violated, rule: permissions[2].constraints.amount}
or, of a payment that transaction rules decide, too:
  {role: purchaser, tool: authorize_transfer, account: CHK_001, payee: SAV_001, amount: \"500.01\",
   given: {at: \"2026-11-23T20:00:00Z\", agent: shopper, count: 3, spent: \"90\", balance: \"1000\"},
   expect: approval, reasons: [outside_hours], gates: [{gate: bank, approvals: 2}]}
expect is allow, approval or deny; reason, reasons, gates and rule may be left out. A case that
comes out otherwise is printed, and the exit code is 3.")]
    Test {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The table; left out: those beside the files.
        #[arg(long, value_name = "FILE")]
        cases: Vec<PathBuf>,
        #[command(flatten)]
        settings: payment::Settings,
        #[command(flatten)]
        catalogue: Catalogue,
    },
    /// Say which rule decides a call. Without files it is the policy in force that is asked.
    #[command(after_help = "\
Examples:
  countersign policy explain --role purchaser --tool authorize_transfer \\
    --arguments '{\"to_account\": \"SAV_002\", \"amount\": \"500.01\"}' roles.yaml
  countersign policy explain --role purchaser --tool list_accounts
  countersign policy explain --role purchaser --tool authorize_purchase --merchant amazon.com \\
    --amount 2500 --at 2026-11-23T20:00:00Z --count 3 --spent 90 roles.yaml

Of a payment it says what the role and then the transaction rules make of it, in the order in
which the bank decides: approved, which gates wait and why, or refused by which name. What is not
given of the bank's state is taken to speak for the payment, and named. The settings of a bank
take part with --settings, and without files those of this one.")]
    Explain {
        #[arg(long)]
        role: String,
        #[arg(long)]
        tool: String,
        /// The call's arguments, a JSON object.
        #[arg(long, value_name = "JSON", default_value = "{}")]
        arguments: String,
        #[command(flatten)]
        payment: Box<payment::Payment>,
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        settings: payment::Settings,
        #[command(flatten)]
        catalogue: Catalogue,
    },
    /// What one policy changes against another, or against the one in force.
    #[command(after_help = "\
Examples:
  countersign policy diff old.yaml new.yaml
  countersign policy diff new.yaml --json")]
    Diff {
        /// The policy that is compared with.
        #[arg(value_name = "FILE")]
        first: PathBuf,
        /// The newer one; left out: the first is compared with the one in force.
        #[arg(value_name = "NEWER")]
        second: Option<PathBuf>,
    },
    /// Put a policy in force at once, without a restart. Role: administrator.
    #[command(after_help = "\
Examples:
  countersign policy apply roles.yaml
  countersign policy apply support.jsonc finance.toml --expect 3
A policy that names a role, tool or parameter that this bank does not have is refused, and the one
before stays in force. Back to an earlier one:
  countersign policy show 2 > earlier.json
  countersign policy apply earlier.json")]
    Apply {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Only if this version is in force now; 0: none.
        #[arg(long, value_name = "VERSION")]
        expect: Option<u64>,
    },
    /// Show the policies that were in force, newest first.
    #[command(after_help = "Examples:\n  countersign policy history\n  countersign policy history --json")]
    History {
        /// Those before this version: the `next` of the page before.
        #[arg(long, value_name = "VERSION")]
        after: Option<u64>,
        /// At most that many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show the policy in force, or an earlier one, as a file that can be applied.
    #[command(after_help = "\
Examples:
  countersign policy show
  countersign policy show 2 > earlier.json
With --json it comes with its version, hash and who put it in force.")]
    Show {
        /// The version; left out: the one in force.
        #[arg(id = "which", value_name = "VERSION")]
        version: Option<u64>,
    },
}

/// Carries the verb out.
///
/// # Errors
/// `policy_refused`, `policy_test_failed`, `policy_denies`; the names of flaws; the daemon's failures.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Check { files, catalogue } => check(&files, &catalogue, context),
        Verb::Test { files, cases, settings, catalogue } => test(&files, &cases, &settings, &catalogue, context),
        Verb::Explain { role, tool, arguments, payment, files, settings, catalogue } => {
            let tools = catalogue.tools()?;
            let policy = if files.is_empty() { in_force(context)?.1 } else { asked(&files, &tools)? };
            let given: Map<String, Value> = serde_json::from_str(&arguments).map_err(|error| {
                Failure::usage(
                    "arguments_invalid",
                    format!("--arguments is not a JSON object: {error}"),
                    "see `countersign policy explain --help`",
                )
            })?;
            let given = payment.short().arguments(&tool, given);
            let rules = if files.is_empty() { settings.or_of(context, &policy)? } else { settings.rules(&policy)? };
            let supposed = payment.given();
            let explanation = judged(&policy, &tools, rules.as_ref(), &role, &tool, &given, &supposed);
            let answer = json!(explanation);
            context.print(&answer, |_| shown::explained(&explanation));
            Ok(())
        }
        Verb::Diff { first, second } => {
            let (old, new) = match second {
                Some(second) => (Some(merged(&[first])?), merged(&[second])?),
                None => {
                    let before = match in_force(context) {
                        Ok((_, policy)) => Some(policy.document().clone()),
                        Err(failure) if failure.name == "policy_missing" => None,
                        Err(failure) => return Err(failure),
                    };
                    (before, merged(&[first])?)
                }
            };
            let changes = changes(&old.unwrap_or_default(), &new);
            context.print(&json!({ "items": changes, "next": null }), shown::changes);
            Ok(())
        }
        Verb::Apply { files, expect } => {
            let document = merged(&files)?;
            let call = PolicyCall::Apply { document: json!(document), expects: expect };
            let answer = context.call(AdminCall::Policy(call))?;
            context.print(&answer, |answer| {
                format!(
                    "policy version {} is in force on {} node(s): {}{}",
                    answer["version"],
                    answer["nodes"],
                    answer["policy_version"].as_str().unwrap_or_default(),
                    unless_changed(answer)
                )
            });
            Ok(())
        }
        Verb::History { after, limit } => {
            let answer = context.call(AdminCall::Policy(PolicyCall::History { before: after, limit }))?;
            let columns =
                [("VERSION", "version"), ("APPLIED", "at"), ("BY", "by"), ("ROLES", "roles"), ("SHA-256", "sha256")];
            context.print(&answer, |answer| {
                let page = table(answer, &columns, "No policy was put in force: the signed catalogue alone decides.");
                with_next(page, answer, &format!("policy history --limit {limit}"))
            });
            Ok(())
        }
        Verb::Show { version } => {
            let answer = context.call(AdminCall::Policy(PolicyCall::Show { version }))?;
            context.print(&answer, |answer| format!("{:#}", answer["document"]));
            Ok(())
        }
    }
}

fn check(files: &[PathBuf], catalogue: &Catalogue, context: &Context) -> Result<(), Failure> {
    let document = merged(files)?;
    let found = examined(document, &catalogue.tools()?);
    let policy = found.policy.as_ref();
    let answer = json!({
        "ok": policy.is_some(),
        "sha256": policy.map(|policy| policy.hash()),
        "roles": policy.map(|policy| policy.document().roles.len()),
        "findings": found.findings.iter().map(shown::finding).collect::<Vec<_>>(),
    });
    if policy.is_none() && !context.json {
        return Err(fails(&found.findings));
    }
    context.print(&answer, |_| shown::findings(&found.findings, policy));
    match found.gravest() {
        Some(Severity::Error) => Err(fails(&found.findings)),
        Some(Severity::Unknown | Severity::Warning) | None => Ok(()),
    }
}

fn test(
    files: &[PathBuf],
    tables: &[PathBuf],
    settings: &payment::Settings,
    catalogue: &Catalogue,
    context: &Context,
) -> Result<(), Failure> {
    let tools = catalogue.tools()?;
    let policy = asked(files, &tools)?;
    let cases = files::cases(files, tables)?;
    let rules = settings.rules(&policy)?;
    let failed = failing(&policy, &tools, rules.as_ref(), &cases);
    let answer = json!({ "cases": cases.len(), "failed": failed });
    context.print(&answer, |_| shown::tested(cases.len(), &failed));
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::refused(
        "policy_test_failed",
        format!("{} of {} cases came out otherwise", failed.len(), cases.len()),
        "correct the policy or the case; `countersign policy explain` says which rule decides",
    ))
}
