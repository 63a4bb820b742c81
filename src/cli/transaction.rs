//! `countersign transaction`: authorizations and payments, and reversing them.

use clap::Subcommand;
use serde_json::Value;

use super::context::Context;
use super::table::{cell, table, with_next};
use crate::front::admin::AdminCall;
use crate::kernel::ledger::TransactionState;
use crate::kernel::types::{AccountId, AgentName, IdempotencyKey, TransactionId};
use crate::ops::failure::Failure;
use crate::payment::DeskCall;

/// List, show and reverse transactions
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Show the newest transactions, whatever became of them, a page at a time.
    #[command(after_help = "Examples:
  countersign transaction list
  countersign transaction list --account CHK_001 --agent shopper --status pending_approval --json
  countersign transaction list --after txn_01M7YDFSJH4NW3PWHV6A9B342B")]
    List {
        /// Debited or credited.
        #[arg(long)]
        account: Option<AccountId>,
        /// The agent's name.
        #[arg(long)]
        agent: Option<AgentName>,
        /// approved, pending_approval, queued_manual, submitted, executed, denied, cancelled, expired,
        /// approval_expired, voided, core_refused
        #[arg(long, value_parser = state)]
        status: Option<TransactionState>,
        /// Older ones than this: the `next` of the page before.
        #[arg(long)]
        after: Option<TransactionId>,
        /// The newest that many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show everything about one: parties, fee, approval, case, reversals, batch, place in the audit log, statement.
    #[command(after_help = "Example:\n  countersign transaction show txn_01M7YDFSJH4NW3PWHV6A9B342B")]
    Show { transaction: TransactionId },
    /// Ask for a reversal, of all that is left or of a part (officer). Another person approves it, then it is posted.
    #[command(after_help = "Example:
  countersign transaction reverse txn_01M7YDFSJH4NW3PWHV6A9B342B --amount 24.90 --key REFUND-17
  # another person, with the approval that the first one was told
  countersign approvals approve apr_01M7YDFSJH4NW3PWHV6A9B342B

The same key asks once, however often it is repeated. The fee of the original is not given back.")]
    Reverse {
        transaction: TransactionId,
        /// Leave out for all that is not reversed yet.
        #[arg(long)]
        amount: Option<String>,
        /// Your own key for this one request.
        #[arg(long)]
        key: IdempotencyKey,
    },
}

/// # Errors
/// What the daemon answers.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::List { account, agent, status: state, after, limit } => {
            // The next page is one of the same list.
            let mut again = "transaction list".to_owned();
            for (option, value) in [
                ("account", account.as_ref().map(ToString::to_string)),
                ("agent", agent.as_ref().map(ToString::to_string)),
                ("status", state.map(|state| state.name().to_owned())),
                ("limit", Some(limit.to_string())),
            ] {
                again.extend(value.map(|value| format!(" --{option} {value}")));
            }
            let call = DeskCall::TransactionList { account, agent, state, after, limit };
            let answer = context.call(AdminCall::Desk(call))?;
            let columns = [
                ("TRANSACTION", "transaction_id"),
                ("KIND", "kind"),
                ("STATUS", "status"),
                ("AMOUNT", "amount"),
                ("CURRENCY", "currency"),
                ("FROM", "from_account"),
                ("TO", "to_account"),
                ("POSTED", "posted"),
            ];
            context
                .print(&answer, |answer| with_next(table(answer, &columns, "No such transactions."), answer, &again));
        }
        Verb::Show { transaction } => {
            let answer = context.call(AdminCall::Desk(DeskCall::TransactionShow { transaction }))?;
            context.print(&answer, shown);
        }
        Verb::Reverse { transaction, amount, key } => {
            let call = DeskCall::TransactionReverse { transaction, amount, key };
            let answer = context.call(AdminCall::Desk(call))?;
            context.print(&answer, |answer| {
                let (reversal, original) = (cell(&answer["transaction_id"]), cell(&answer["original_transaction_id"]));
                if answer["approval_id"].is_null() {
                    return format!("{reversal} reverses {original}: {} already", cell(&answer["status"]));
                }
                let approval = cell(&answer["approval_id"]);
                format!(
                    "{reversal} reverses {original} once another person says: countersign approvals approve {approval}"
                )
            });
        }
    }
    Ok(())
}

fn shown(answer: &Value) -> String {
    let mut lines =
        vec![format!("{}  {} {}", cell(&answer["transaction_id"]), cell(&answer["kind"]), cell(&answer["status"]))];
    let mut line = |title: &str, value: &Value| {
        if !value.is_null() {
            lines.push(format!("  {title:<12} {}", cell(value)));
        }
    };
    line("amount", &Value::String(format!("{} {}", cell(&answer["amount"]), cell(&answer["currency"]))));
    line("fee", &answer["fee"]);
    line("held", &answer["held"]);
    line("from", &answer["from_account"]);
    line("to", &answer["to_account"]);
    line("asked by", &answer["maker"]);
    line("product", &answer["product_id"]);
    line("created", &answer["created"]);
    line("expires", &answer["expires"]);
    line("posted", &answer["posted"]);
    line("approval", &answer["approval"]["approval_id"]);
    line("  why", &answer["approval"]["reasons"]);
    line("  decided by", &answer["approval"]["decided_by"]);
    line("  note", &answer["approval"]["summary"]["note"]);
    line("case", &answer["case_id"]);
    line("  status", &answer["case"]["status"]);
    line("  why", &answer["case"]["reason"]);
    line("  decided by", &answer["case"]["decided_by"]);
    line("reverses", &answer["original_transaction_id"]);
    for reversal in answer["reversals"].as_array().into_iter().flatten() {
        let text = format!(
            "{} {} {}",
            cell(&reversal["transaction_id"]),
            cell(&reversal["amount"]),
            cell(&reversal["status"])
        );
        line("reversal", &Value::String(text));
    }
    line("batch", &answer["batch"]);
    line("signature", &answer["receipt"]);
    line("leaf", &answer["leaf_index"]);
    line(
        "statement",
        &Value::String(answer["statement"].as_object().map_or_else(
            || "none: nothing was posted".to_owned(),
            |statement| serde_json::to_string(statement).unwrap_or_default(),
        )),
    );
    if answer["waits_for_core"].as_array().is_some_and(|verbs| !verbs.is_empty()) {
        line("core", &Value::String(format!("has not answered: {}", cell(&answer["waits_for_core"]))));
    }
    let refusals = answer["core_refusals"].as_array().map(Vec::as_slice).unwrap_or_default();
    for refusal in refusals {
        let (order, reason, at) = (cell(&refusal["order"]), cell(&refusal["reason"]), cell(&refusal["at"]));
        line("core", &Value::String(format!("refused the {order}: {reason}, {at}")));
    }
    if refusals.is_empty() && answer["status"] == TransactionState::CoreRefused.name() {
        // Refused before the store kept reasons.
        line("core", &Value::String("refused; why stands only in the audit log".to_owned()));
    }
    lines.join("\n")
}

fn state(text: &str) -> Result<TransactionState, String> {
    let names = || TransactionState::ALL.map(TransactionState::name).join(", ");
    let found = TransactionState::ALL.into_iter().find(|state| state.name() == text);
    found.ok_or_else(|| format!("\"{text}\" is none of {}", names()))
}
