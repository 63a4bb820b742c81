//! The policy: what each role may do in effect, why a call would be decided as it would, and how versions differ.

use http::StatusCode;
use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::desk::pretty;
use super::layout::{self, cell, id, text, time};
use super::web::{self, Answer, Fields};
use super::{Console, Who};
use crate::front::admin::AdminCall;
use crate::kernel::command::ToolCall;
use crate::kernel::policy::case::{Short, judged};
use crate::kernel::policy::change::changes;
use crate::kernel::policy::document::Document;
use crate::kernel::policy::tools::Tools;
use crate::kernel::what_if::Given;
use crate::ops::failure::Failure;
use crate::payment::PolicyCall;

const VERSIONS: u32 = 50;

impl Console {
    pub(super) fn policy(&self, who: &Who, query: &Fields) -> Result<Answer, Failure> {
        let rules = self.services.payments()?.rules();
        let versions = self.call(who, AdminCall::Policy(PolicyCall::History { before: None, limit: VERSIONS }))?;
        let explained = if query.text("role").is_some() { Some(self.explained(query)?) } else { None };
        let chosen = |name: &str| query.text(name).unwrap_or_default().to_owned();
        let body = html! {
            p { "In force: policy " code { (rules.policy_version) } ", role catalogue version " (rules.catalogue_version) ". A policy narrows the catalogue that both parties signed." }
            h2 { "What each role may call" }
            div.scroll.matrix tabindex="0" role="region" aria-label="Effective permissions" {
                table {
                    caption.hidden { "Roles by tool" }
                    thead { tr { th scope="col" { "Tool" } @for role in rules.role_tools.keys() { th scope="col" { (role) } } } }
                    tbody { @for tool in ToolCall::NAMES { tr {
                        th scope="row" { (tool.replace('_', " ")) }
                        @for tools in rules.role_tools.values() { @let may = tools.iter().any(|own| own == tool);
                            td.(if may { "yes" } else { "no" }) { (if may { "may" } else { "–" }) } }
                    } } }
                }
            }
            (layout::facts(&[
                ("Unattended at once up to", html! { (rules.unattended_per_transaction.decimal()) " " (rules.unattended_per_transaction.currency()) }),
                ("Unattended a day up to", html! { (rules.unattended_per_day.decimal()) " " (rules.unattended_per_day.currency()) }),
                ("Never above", match rules.deny_above { Some(max) => html! { (max.decimal()) " " (max.currency()) }, None => html! { "no ceiling" } }),
                ("Gates", cell(&json!(rules.gates))),
            ]))
            h2 #explain { "Why would a call be decided so?" }
            form.card method="get" action="/policy#explain" { div.fields {
                label { "Role" select name="role" { @for role in rules.role_tools.keys() { option selected[chosen("role") == role.as_str()] { (role) } } } }
                label { "Tool" select name="tool" { @for tool in ToolCall::NAMES { option selected[chosen("tool") == tool] { (tool) } } } }
                @for (name, label) in [("account", "Paying account"), ("payee", "Account that is paid"), ("merchant", "Merchant"), ("amount", "Amount")] {
                    label { (label) input name=(name) value=(chosen(name)); } }
                button type="submit" { "Explain" }
            } }
            @if let Some(explained) = explained { (explained) }
            h2 { "Versions" }
            (layout::table("Versions", &["Version", "At", "By", "SHA-256", "Against the one before"], &layout::items(&versions).iter().map(|one| vec![
                html! { a href={ "/policy/" (one["version"]) } { (one["version"]) } }, time(&one["at"]), cell(&one["by"]), id(&one["sha256"]),
                html! { a href={ "/policy/" (one["version"]) "#diff" } { "what changed" } },
            ]).collect::<Vec<_>>(), "No policy was applied: settings and the signed catalogue decide."))
        };
        Ok(web::page(StatusCode::OK, self.page(who, "Policy", "/policy", &body)))
    }

    fn explained(&self, query: &Fields) -> Result<Markup, Failure> {
        let rules = self.services.payments()?.rules();
        let (role, tool) = (query.needed("role")?, query.needed("tool")?);
        let Some(policy) = &rules.policy else {
            let tools =
                rules.role_tools.iter().find(|(name, _)| name.as_str() == role).map(|(_, tools)| tools.as_slice());
            let may = tools.unwrap_or_default().iter().any(|own| own == tool);
            return Ok(
                html! { p.notice.(if may { "" } else { "bad" }) { (if may { "allow" } else { "deny: role_not_permitted" })
                ". No policy is in force; the signed catalogue alone gives tools, and settings and limits decide the payment." } },
            );
        };
        let short = Short {
            amount: query.text("amount").map(|amount| Value::String(amount.to_owned())),
            merchant: query.text("merchant").map(str::to_owned),
            payee: query.text("payee").map(str::to_owned),
            account: query.text("account").map(str::to_owned),
        };
        let arguments = short.arguments(tool, Map::new());
        let found = judged(policy, &Tools::ours(), Some(&rules), role, tool, &arguments, &Given::default());
        let shown = json!(found);
        let tone = if shown["outcome"] == "allow" {
            ""
        } else if shown["outcome"] == "deny" {
            "bad"
        } else {
            "wait"
        };
        Ok(html! {
            div.notice.(tone) role="status" {
                p { strong { (cell(&shown["outcome"])) } @if shown["reason"].is_string() { ": " (cell(&shown["reason"])) } }
                p { (text(&found.words)) }
                @if shown["rule"].is_string() { p { "Rule: " code { (cell(&shown["rule"])) } } }
            }
            @if let Some(rests) = shown["payment"]["depends_on"].as_array().filter(|rests| !rests.is_empty()) {
                p { "This rests on what was not given:" }
                ul { @for fact in rests { li { (cell(&fact["what"])) ": " (cell(&fact["taken_as"])) } } }
            }
        })
    }

    pub(super) fn policy_version(&self, who: &Who, version: &str) -> Result<Answer, Failure> {
        let version: u64 = version.parse().map_err(|_| super::desk::no_such("policy version"))?;
        let shown = self.call(who, AdminCall::Policy(PolicyCall::Show { version: Some(version) }))?;
        let before = match version.checked_sub(1).filter(|before| *before > 0) {
            Some(before) => {
                self.call(who, AdminCall::Policy(PolicyCall::Show { version: Some(before) }))?["document"].clone()
            }
            None => Value::Null,
        };
        let document = |value: &Value| Document::of(value.clone()).unwrap_or_default();
        let changed = json!(changes(&document(&before), &document(&shown["document"])));
        let body = html! {
            (layout::facts(&[("Version", html! { (version) }), ("At", time(&shown["at"])), ("By", cell(&shown["by"])), ("SHA-256", id(&shown["sha256"]))]))
            h2 #diff { "Against the one before" }
            @if changed.as_array().is_none_or(Vec::is_empty) { p.empty { "They say the same." } }
            @for one in changed.as_array().into_iter().flatten() {
                section.card.diff {
                    h3 { (cell(&one["change"])) " " (cell(&one["role"])) " " @if one["tool"].is_string() { (cell(&one["tool"])) } @if one["rule"].is_string() { " " (cell(&one["rule"])) } }
                    @if !one["before"].is_null() { del { pre { (pretty(&one["before"])) } } }
                    @if !one["after"].is_null() { ins { pre { (pretty(&one["after"])) } } }
                }
            }
            h2 { "The whole document" } pre { (pretty(&shown["document"])) }
        };
        Ok(web::page(StatusCode::OK, self.page(who, &format!("Policy version {version}"), "/policy", &body)))
    }
}
