//! Transactions and the manual queue: what the bank's desk lists, and what its people do about a case.

use http::StatusCode;
use maud::{Markup, html};
use serde_json::Value;

use super::layout::{self, cell, id, money, state, text, time};
use super::web::{self, Answer, Fields};
use super::{Console, Who};
use crate::front::admin::AdminCall;
use crate::kernel::command::{CaseVerdict, TakeFrom};
use crate::kernel::types::{CaseId, TransactionId};
use crate::ops::failure::Failure;
use crate::payment::DeskCall;

const PAGE: u32 = 50;
/// The states that a list may be narrowed to, as the desk names them.
const STATES: [&str; 8] =
    ["pending_approval", "approved", "executed", "denied", "voided", "expired", "queued_manual", "submitted"];

impl Console {
    pub(super) fn transactions(&self, who: &Who, query: &Fields) -> Result<Answer, Failure> {
        let call = DeskCall::TransactionList {
            account: query.typed("account")?,
            agent: query.typed("agent")?,
            state: query.typed("state")?,
            after: query.typed("after")?,
            limit: PAGE,
        };
        let found = self.call(who, AdminCall::Desk(call))?;
        let chosen = query.text("state").unwrap_or_default();
        let body = html! {
            form.card method="get" role="search" { div.fields {
                label { "Account" input name="account" value=(query.text("account").unwrap_or_default()); }
                label { "Agent" input name="agent" value=(query.text("agent").unwrap_or_default()); }
                label { "State" select name="state" { option value="" { "any" }
                    @for name in STATES { option value=(name) selected[name == chosen] { (name.replace('_', " ")) } } } }
                button type="submit" { "Search" }
            } }
            (table_of(layout::items(&found), "No transaction fits."))
            (layout::next(&with(query, "/transactions", &["account", "agent", "state"]), "after", &found["next"]))
        };
        Ok(web::page(StatusCode::OK, self.page(who, "Transactions", "/transactions", &body)))
    }

    pub(super) fn transaction(&self, who: &Who, transaction: &str) -> Result<Answer, Failure> {
        let transaction: TransactionId = transaction.parse().map_err(|_| no_such("transaction"))?;
        let shown = self.call(who, AdminCall::Desk(DeskCall::TransactionShow { transaction: transaction.clone() }))?;
        let one = if shown["transaction"].is_object() { &shown["transaction"] } else { &shown };
        let leaf = self.services.setup.store.leaf_of_transaction(&transaction)?.and_then(|leaf| leaf.index);
        let body = html! {
            section.card {
                p.amount { (money(&one["amount"], &one["currency"])) }
                (layout::facts(&[
                    ("State", state(one["status"].as_str().unwrap_or_default())), ("Kind", cell(&one["kind"])),
                    ("From", cell(&one["from_account"])), ("To", payee(one)),
                    ("Agent", agent_link(&one["agent"])), ("Asked", time(&one["created"])), ("Posted", time(&one["posted"])),
                    ("Fee", money(&one["fee"], &one["currency"])),
                    ("Approval", match one["approval_id"].as_str() {
                        Some(approval) => html! { a href={ "/approvals/" (approval) } { (id(&one["approval_id"])) } },
                        None => cell(&Value::Null),
                    }),
                    ("Case", cell(&one["case_id"])), ("Transaction", id(&one["transaction_id"])),
                ]))
                @if let Some(leaf) = leaf { p { a.button href={ "/audit/leaf/" (leaf) } { "Its leaf in the audit log" } } }
            }
            details { summary { "Everything that the desk knows of it" } pre { (pretty(&shown)) } }
        };
        Ok(web::page(StatusCode::OK, self.page(who, "A transaction", "/transactions", &body)))
    }

    pub(super) fn manual(&self, who: &Who, query: &Fields) -> Result<Answer, Failure> {
        let found =
            self.call(who, AdminCall::Desk(DeskCall::CaseList { after: query.typed("after")?, limit: PAGE }))?;
        let body = html! {
            p { "Payments that could not be made are kept here until a person has looked. Releasing one moves no money: the agent’s own next call is decided like any other." }
            (layout::table("Cases", &["Case", "State", "Why", "Agent", "Since", "With"], &layout::items(&found).iter().map(|one| vec![
                html! { a href={ "/manual/" (one["case_id"].as_str().unwrap_or_default()) } { (id(&one["case_id"])) } },
                state(one["status"].as_str().unwrap_or_default()), cell(&one["reason"]), agent_link(&one["agent"]),
                time(&one["created"]), cell(&one["taken_by"]),
            ]).collect::<Vec<_>>(), "No payment waits for a person."))
            (layout::next("/manual", "after", &found["next"]))
        };
        Ok(web::page(StatusCode::OK, self.page(who, "Manual queue", "/manual", &body)))
    }

    pub(super) fn case(&self, who: &Who, case: &str) -> Result<Answer, Failure> {
        let case: CaseId = case.parse().map_err(|_| no_such("case"))?;
        let shown = self.call(who, AdminCall::Desk(DeskCall::CaseShow { case: case.clone() }))?;
        let one = if shown["case"].is_object() { &shown["case"] } else { &shown };
        let is_open = matches!(one["status"].as_str(), Some("waiting" | "taken" | "proposed"));
        let body = html! {
            section.card { (layout::facts(&[
                ("State", state(one["status"].as_str().unwrap_or_default())), ("Why it is here", cell(&one["reason"])),
                ("Agent", agent_link(&one["agent"])), ("Since", time(&one["created"])), ("With", cell(&one["taken_by"])),
                ("Transaction", match one["transaction_id"].as_str() {
                    Some(transaction) => html! { a href={ "/transactions/" (transaction) } { (id(&one["transaction_id"])) } },
                    None => cell(&Value::Null),
                }),
                ("Decided by", cell(&one["decided_by"])), ("Note", cell(&one["note"])), ("Reference", cell(&one["reference"])),
            ])) details { summary { "The call" } pre { (pretty(&one["call"])) } } }
            @if one["proposed"].is_object() { p.notice.wait { (cell(&one["proposed"]["by"])) " proposes: " (cell(&one["proposed"]["status"])) ". Another person has to say the same." } }
            @if is_open {
                form method="post" action={ "/manual/" (case) "/take" } data-signed { (layout::token(who)) button type="submit" { "Take it" } }
                form.card method="post" action={ "/manual/" (case) "/resolve" } data-signed {
                    (layout::token(who))
                    fieldset { legend { "What becomes of it" }
                        label.choice { input type="radio" name="verdict" value="release" checked; " Release: the agent may ask again" }
                        label.choice { input type="radio" name="verdict" value="reject"; " Reject: what it holds goes back" }
                        label.choice { input type="radio" name="verdict" value="paid_elsewhere"; " Paid elsewhere" }
                    }
                    div.fields {
                        label { "Note" input name="note" required maxlength="500"; }
                        label { "Reference (paid elsewhere)" input name="reference"; }
                        button type="submit" { "Decide with my passkey" }
                    }
                }
            }
        };
        Ok(web::page(StatusCode::OK, self.page(who, "A stopped payment", "/manual", &body)))
    }

    /// Signed acts about cases.
    pub(super) fn case_act(&self, who: &Who, words: &[&str], fields: &Fields) -> Result<(String, String), Failure> {
        let [_, case, verb] = words else { return Err(no_such("form")) };
        let case: CaseId = case.parse().map_err(|_| no_such("case"))?;
        let here = format!("/manual/{case}");
        let call = match *verb {
            "take" => DeskCall::CaseTake { case, from: TakeFrom::Nobody },
            "resolve" => {
                let verdict = match fields.needed("verdict")? {
                    "release" => CaseVerdict::Release,
                    "reject" => CaseVerdict::Reject,
                    "paid_elsewhere" => {
                        CaseVerdict::PaidElsewhere { reference: fields.needed("reference")?.to_owned() }
                    }
                    _ => return Err(no_such("verdict")),
                };
                DeskCall::CaseResolve { case, verdict, note: fields.needed("note")?.to_owned() }
            }
            _ => return Err(no_such("form")),
        };
        let done = self.call(who, AdminCall::Desk(call))?;
        Ok((format!("Done: {}.", done["status"].as_str().unwrap_or("recorded").replace('_', " ")), here))
    }
}

/// Transactions as rows.
pub(super) fn table_of(items: &[Value], none: &str) -> Markup {
    layout::table(
        "Transactions",
        &["Asked", "Amount", "From", "To", "State", "Agent", "Transaction"],
        &items
            .iter()
            .map(|one| {
                vec![
                    time(&one["created"]),
                    money(&one["amount"], &one["currency"]),
                    cell(&one["from_account"]),
                    payee(one),
                    state(one["status"].as_str().unwrap_or_default()),
                    agent_link(&one["agent"]),
                    html! { a href={ "/transactions/" (one["transaction_id"].as_str().unwrap_or_default()) } { (id(&one["transaction_id"])) } },
                ]
            })
            .collect::<Vec<_>>(),
        none,
    )
}

fn payee(one: &Value) -> Markup {
    match one["merchant"].as_str() {
        Some(merchant) => text(merchant),
        None => cell(&one["to_account"]),
    }
}

/// An agent by name, with its page behind it.
pub(super) fn agent_link(spiffe: &Value) -> Markup {
    match spiffe.as_str().and_then(|whole| Some((whole, whole.rsplit('/').next()?))) {
        Some((whole, name)) => html! { a href={ "/agents/" (name) } title=(whole) { (text(name)) } },
        None => cell(&Value::Null),
    }
}

pub(super) fn pretty(value: &Value) -> String {
    crate::kernel::text::visible(&format!("{value:#}")).replace("\\u{a}", "\n")
}

/// A path with the fields of a query that are to stay.
pub(super) fn with(query: &Fields, path: &str, names: &[&str]) -> String {
    let kept = names.iter().filter_map(|name| Some((*name, query.text(name)?)));
    let kept = form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{kept}") }
}

/// The JSON of a place in a list, as a query carries it.
pub(super) fn no_such(what: &str) -> Failure {
    Failure::usage("unknown_page", format!("there is no such {what}"), "go back to the list")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_search_goes_on_with_what_was_asked() {
        let query = Fields::of(b"account=CHK_001&state=&agent=a%26b&after=x");
        assert_eq!(with(&query, "/t", &["account", "agent", "state"]), "/t?account=CHK_001&agent=a%26b");
        assert_eq!(with(&Fields::of(b""), "/t", &["account"]), "/t");
        assert_eq!(agent_link(&json!("spiffe://d/agent/r/shop")).into_string().matches("/agents/shop").count(), 1);
    }
}
