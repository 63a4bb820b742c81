//! `countersign account statement`: an account's posted lines, as table, CSV or JSON.

use std::io::Write;

use serde_json::{Value, json};

use super::context::Context;
use super::progress::Progress;
use super::table::{cell, table};
use crate::front::admin::AdminCall;
use crate::kernel::text::visible;
use crate::kernel::types::{AccountId, Day};
use crate::ops::failure::Failure;
use crate::payment::DeskCall;
use crate::store::Before;

/// Lines asked for at once.
const PAGE: u32 = 500;

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
    ("DESCRIPTION", "description"),
    ("AMOUNT", "amount"),
    ("BALANCE", "balance"),
    ("TRANSACTION", "transaction_id"),
];
/// A table's columns, when, and in what.
const CSV_COLUMNS: [&str; 9] =
    ["date", "posted_at", "transaction_id", "kind", "counterparty", "description", "amount", "balance", "currency"];

/// Fetches every page and writes the whole, oldest line first.
///
/// # Errors
/// What the daemon answers: `unknown_account`, `period_invalid`.
pub fn run(wanted: &Wanted, context: &Context) -> Result<(), Failure> {
    let statement = fetch(wanted, context)?;
    match wanted.format {
        Format::Json => Context { json: true, ..context.clone() }.print(&statement, |_| String::new()),
        Format::Csv => {
            // A reader that went away is no failure of ours.
            let _ = std::io::stdout().write_all(csv(&statement).as_bytes());
        }
        Format::Table => context.print(&statement, shown),
    }
    Ok(())
}

fn shown(statement: &Value) -> String {
    let word = |member: &str| cell(&statement[member]);
    let from = statement["from"].as_str().unwrap_or("the beginning");
    let to = statement["to"].as_str().unwrap_or("today");
    format!(
        "{} of {}, {}, from {from} to {to}, days of {}\nopening balance {}\n{}\nclosing balance {}",
        word("account_id"),
        word("owner"),
        word("currency"),
        word("time_zone"),
        word("opening_balance"),
        table(statement, &COLUMNS, "nothing was posted"),
        word("closing_balance")
    )
}

/// Pages go back in time: the first one knows how the period ended, the last one how it began.
fn fetch(wanted: &Wanted, context: &Context) -> Result<Value, Failure> {
    let mut progress = Progress::new(context);
    let mut newest_first: Vec<Value> = vec![];
    let mut before: Option<Before> = None;
    let mut closing: Option<Value> = None;
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
        let closing = closing.get_or_insert_with(|| page["closing_balance"].clone());
        before = serde_json::from_value(page["next"].take()).map_err(|error| {
            let message = format!("the daemon's answer was not understood: {error}");
            Failure::fault("answer_unreadable", message, "check that CLI and daemon are the same version")
        })?;
        if before.is_none() {
            newest_first.reverse();
            page["closing_balance"] = closing.take();
            page["items"] = json!(newest_first);
            return Ok(page);
        }
        progress.say(|| format!("{} lines so far", newest_first.len()));
    }
}

/// Header and lines, RFC 4180: CRLF, quotes where needed.
fn csv(statement: &Value) -> String {
    let mut text = format!("{}\r\n", CSV_COLUMNS.join(","));
    for line in statement["items"].as_array().into_iter().flatten() {
        let cells = CSV_COLUMNS.map(|member| match member {
            "currency" => cell(&statement[member]),
            _ => quoted(&cell(&line[member]), member),
        });
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

/// A cell as RFC 4180 wants it. Text that a spreadsheet would take for a formula gets an apostrophe; amounts are plain
/// decimals and keep their sign.
fn quoted(text: &str, member: &str) -> String {
    let is_amount = matches!(member, "amount" | "balance");
    let text = visible(text);
    let beginning = text.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    let is_formula = !is_amount && beginning.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    let text = if is_formula { format!("'{text}") } else { text.into_owned() };
    if text.contains([',', '"', ';']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
#[allow(clippy::duplicate_mod, reason = "the same texts are a table's and a statement's test")]
#[path = "../../tests/it/hostile/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_line_says_it_stays_one_row_with_nine_cells_and_no_formula() {
        for text in corpus::HOSTILE.iter().map(|(_, text)| text).chain(corpus::BENIGN) {
            let (amount, balance) = ("-5.00", "1.00");
            let line = json!({ "kind": "transfer", "description": text, "counterparty": text, "amount": amount, "balance": balance });
            let written = csv(&json!({ "items": [line], "currency": "USD" }));
            let rows: Vec<&str> = written.split_terminator("\r\n").collect();
            assert_eq!(rows.len(), 2, "{text:?}");
            assert_eq!(visible(rows[1]), rows[1], "{text:?}");
            // Read as RFC 4180 says.
            let (mut cells, mut quoted) = (vec![String::new()], false);
            for c in rows[1].chars() {
                match c {
                    '"' => quoted = !quoted,
                    ',' if !quoted => cells.push(String::new()),
                    c => cells.last_mut().unwrap().push(c),
                }
            }
            assert_eq!((cells.len(), quoted), (9, false), "{text:?}");
            for (cell, member) in cells.iter().zip(CSV_COLUMNS) {
                let formula = cell.trim_start().starts_with(['=', '+', '-', '@', '\t', '＝']);
                assert!(!formula || member == "amount", "{member}: {cell}");
            }
        }
    }

    #[test]
    fn cells_are_quoted_and_formulas_are_defused_but_amounts_keep_their_sign() {
        let table = [
            ("kind", "transfer", "transfer"),
            ("counterparty", "a,b", "\"a,b\""),
            ("counterparty", "say \"no\"", "\"say \"\"no\"\"\""),
            ("counterparty", "=1+1", "'=1+1"),
            ("counterparty", "  ＝1+1", "'  ＝1+1"),
            ("counterparty", "a\r\n=1", "a\\u{d}\\u{a}=1"),
            ("counterparty", "a;=1", "\"a;=1\""),
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
