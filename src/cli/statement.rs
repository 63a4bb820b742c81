//! `countersign account statement`: an account's posted lines, as table, CSV or JSON.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::context::Context;
use super::table::{cell, table};
use crate::front::admin::AdminCall;
use crate::kernel::types::{AccountId, Day};
use crate::ops::failure::Failure;
use crate::payment::DeskCall;

/// Lines asked for at once.
const PAGE: u32 = 1_000;
/// Longer than this is worth a word.
const PROGRESS_AFTER: Duration = Duration::from_secs(2);

/// How a statement is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Format {
    Table,
    /// RFC 4180, amounts as plain decimals.
    Csv,
    Json,
}

/// What is asked for: days of the account's own calendar, both included.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub account: AccountId,
    pub from: Option<Day>,
    pub to: Option<Day>,
    pub format: Format,
}

const COLUMNS: [(&str, &str); 7] = [
    ("DATE", "date"),
    ("KIND", "kind"),
    ("COUNTERPARTY", "counterparty"),
    ("AMOUNT", "amount"),
    ("BALANCE", "balance"),
    ("POSTED", "posted_at"),
    ("TRANSACTION", "transaction_id"),
];

/// Fetches every page and writes the whole, oldest line first.
///
/// # Errors
/// What the daemon answers; `unknown_account`.
pub fn run(wanted: &Wanted, context: &Context) -> Result<(), Failure> {
    let statement = fetch(wanted, context)?;
    match wanted.format {
        Format::Json => Context { json: true, ..context.clone() }.print(&statement, |_| String::new()),
        Format::Csv => context_free(&csv(&statement)),
        Format::Table => context.print(&statement, |statement| {
            format!(
                "{} of {}, {}, days of {}\nopening balance {}\n{}\nclosing balance {}",
                cell(&statement["account_id"]),
                cell(&statement["owner"]),
                cell(&statement["currency"]),
                cell(&statement["time_zone"]),
                cell(&statement["opening_balance"]),
                table(statement, &COLUMNS, "nothing was posted"),
                cell(&statement["closing_balance"])
            )
        }),
    }
    Ok(())
}

fn context_free(text: &str) {
    // A reader that went away is no failure of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn fetch(wanted: &Wanted, context: &Context) -> Result<Value, Failure> {
    let began = Instant::now();
    let mut newest_first: Vec<Value> = vec![];
    let mut whole: Option<Value> = None;
    let mut before = None;
    loop {
        let call = DeskCall::AccountStatement {
            account: wanted.account.clone(),
            from: wanted.from,
            to: wanted.to,
            before,
            limit: PAGE,
        };
        let mut page = context.call(AdminCall::Desk(call))?;
        if let Value::Array(items) = page["items"].take() {
            newest_first.extend(items);
        }
        before = page["next"].as_i64();
        let first = whole.get_or_insert_with(|| page.clone());
        // Pages go back in time: the last one knows how it began.
        first["opening_balance"] = page["opening_balance"].take();
        if before.is_none() {
            break;
        }
        if began.elapsed() > PROGRESS_AFTER {
            eprintln!("{} lines so far", newest_first.len());
        }
    }
    newest_first.reverse();
    let mut whole = whole.unwrap_or_default();
    whole["items"] = json!(newest_first);
    whole["next"] = Value::Null;
    Ok(whole)
}

/// Header and lines, RFC 4180: CRLF, quotes where needed.
fn csv(statement: &Value) -> String {
    let titles = COLUMNS.map(|(title, _)| title.to_lowercase());
    let mut text = format!("{},currency\r\n", titles.join(","));
    for line in statement["items"].as_array().into_iter().flatten() {
        let cells = COLUMNS.iter().map(|(_, member)| quoted(&cell(&line[*member]), member));
        let cells: Vec<String> = cells.chain([cell(&statement["currency"])]).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

/// A cell as RFC 4180 wants it. Text that a spreadsheet would take for a formula gets an apostrophe; amounts are plain
/// decimals and keep their sign.
fn quoted(text: &str, member: &str) -> String {
    let is_amount = matches!(member, "amount" | "balance");
    let is_formula = !is_amount && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_formulas_are_defused_but_amounts_keep_their_sign() {
        let table = [
            ("kind", "transfer", "transfer"),
            ("counterparty", "a,b", "\"a,b\""),
            ("counterparty", "say \"no\"", "\"say \"\"no\"\"\""),
            ("counterparty", "=1+1", "'=1+1"),
            ("counterparty", "@cmd", "'@cmd"),
            ("counterparty", "-1,2", "\"'-1,2\""),
            ("amount", "-5.00", "-5.00"),
            ("balance", "-0.01", "-0.01"),
        ];
        for (member, text, expected) in table {
            assert_eq!(quoted(text, member), expected);
        }
    }
}
