//! What account owners see besides consent: which agents have access to their accounts, and under which mandates. Giving,
//! narrowing and withdrawing are signed with the owner's passkey.

use http::StatusCode;
use maud::html;
use serde_json::{Value, json};

use super::desk::{agent_link, no_such};
use super::layout::{self, cell, id, state, time};
use super::web::{self, Answer, Fields};
use super::{Console, Who};
use crate::front::admin::AdminCall;
use crate::kernel::command::Verb;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{AccountId, AgentName, Money, OwnerId};
use crate::ops::failure::Failure;
use crate::store::Listing;

/// How long access stands unless the owner says otherwise.
const DAYS: u32 = 30;
const MANDATES: u32 = 100;

impl Console {
    pub(super) fn grants(&self, who: &Who) -> Result<Answer, Failure> {
        let owner = owner_of(who)?;
        let store = &self.services.setup.store;
        let own =
            |rows: Vec<Value>| -> Vec<Value> { rows.into_iter().filter(|row| row["owner"] == json!(owner)).collect() };
        let accounts = own(store.listing(Listing::Accounts)?);
        let grants = own(store.listing(Listing::Grants)?);
        let mandates = self.call(who, AdminCall::MandateList { agent: None, after: None, limit: MANDATES });
        let body = html! {
            h2 { "Your accounts" }
            (layout::table("Accounts", &["Account", "Balance", "Held", "Available", "State"], &accounts.iter().map(|one| vec![
                cell(&one["account_id"]), layout::money(&one["balance"], &one["currency"]), layout::money(&one["held"], &one["currency"]),
                layout::money(&one["available"], &one["currency"]), state(one["status"].as_str().unwrap_or_default()),
            ]).collect::<Vec<_>>(), "You have no account here."))
            h2 { "Agents with access" }
            (layout::table("Grants", &["Agent", "Account", "May", "At most at once", "Until", ""], &grants.iter().map(|one| vec![
                if who.is_of_bank() { agent_link(&one["agent"]) } else { cell(&json!(one["agent"].as_str().and_then(|whole| whole.rsplit('/').next()))) },
                cell(&one["account_id"]), cell(&one["verbs"]), cell(&one["per_transaction_max"]), time(&one["expires"]),
                html! { form method="post" action="/grants/withdraw" data-signed {
                    (layout::token(who))
                    input type="hidden" name="agent" value=(one["agent"].as_str().and_then(|whole| whole.rsplit('/').next()).unwrap_or_default());
                    input type="hidden" name="account" value=(one["account_id"].as_str().unwrap_or_default());
                    button.quiet type="submit" { "Withdraw" }
                } },
            ]).collect::<Vec<_>>(), "No agent has access to your accounts."))
            h2 { "Give access, or narrow it" }
            form.card method="post" action="/grants/give" data-signed {
                (layout::token(who))
                div.fields {
                    label { "Agent’s name" input name="agent" required autocomplete="off"; }
                    label { "Account" select name="account" { @for one in &accounts { option { (cell(&one["account_id"])) } } } }
                    label { "At most at once (may be empty)" input name="max" inputmode="decimal" autocomplete="off"; }
                    label { "Days" input name="days" type="number" min="1" max="365" value=(DAYS); }
                }
                fieldset { legend { "The agent may" } @for verb in [Verb::Read, Verb::Purchase, Verb::Transfer, Verb::Reverse] { label.choice {
                    input type="checkbox" name="verb" value=(json!(verb).as_str().unwrap_or_default()) checked[verb == Verb::Read]; " " (json!(verb).as_str().unwrap_or_default()) } } }
                div.actions { button type="submit" { "Give it with my passkey" } }
                p.muted { "What an agent has now on the account is replaced: taken back first, then given anew." }
            }
            h2 { "Mandates" }
            @match &mandates {
                Ok(found) => (layout::table("Mandates", &["Mandate", "Agent", "Account", "State", "Until", ""], &layout::items(found).iter().map(|one| vec![
                    id(&one["mandate_id"]), cell(&json!(one["agent"].as_str().and_then(|whole| whole.rsplit('/').next()))), cell(&one["account_id"]),
                    state(one["status"].as_str().unwrap_or_default()), time(&one["expires"]),
                    html! { form method="post" action="/grants/mandate" data-signed { (layout::token(who))
                        input type="hidden" name="mandate" value=(one["mandate_id"].as_str().unwrap_or_default());
                        button.quiet type="submit" { "Revoke" } } },
                ]).collect::<Vec<_>>(), "You have signed no mandate.")),
                Err(failure) => (layout::failure(failure)),
            }
            p.muted { "A mandate is a document that a token of yours signs (" code { "countersign mandate sign" } "); here it is seen and revoked." }
        };
        Ok(web::page(StatusCode::OK, self.page(who, "Agents’ access", "/grants", &body)))
    }

    /// Signed acts of an owner about their own accounts.
    pub(super) fn grant_act(&self, who: &Who, words: &[&str], fields: &Fields) -> Result<(String, String), Failure> {
        let owner = owner_of(who)?.clone();
        let payments = self.services.payments()?;
        if let Some(disagreement) = self.services.disagreement() {
            return Err(disagreement.failure());
        }
        let pair = || -> Result<(AgentName, AccountId), Failure> {
            let missing = |name: &str| Failure::usage("field_missing", format!("{name} is empty"), "fill it in");
            Ok((
                fields.typed("agent")?.ok_or_else(|| missing("agent"))?,
                fields.typed("account")?.ok_or_else(|| missing("account"))?,
            ))
        };
        let here = "/grants".to_owned();
        let said = match words {
            [_, "give"] => {
                let (agent, account) = pair()?;
                let row =
                    self.services.setup.store.account(account.as_str())?.filter(|row| row.owner == owner.as_str());
                let row = row.ok_or_else(|| refused(Refusal::AccountNotGranted))?;
                let max = match fields.text("max") {
                    Some(text) => Some(Money::parse_positive(text, row.currency).map_err(|_| {
                        Failure::usage("amount_invalid", format!("{text:?} is no amount"), "write it as 100.00")
                    })?),
                    None => None,
                };
                let verbs = fields.all("verb").into_iter().map(|verb| serde_json::from_value(json!(verb)));
                let verbs = verbs.collect::<Result<Vec<Verb>, _>>().map_err(|_| no_such("verb"))?;
                let days = fields.parsed("days")?.unwrap_or(DAYS);
                // First nothing, then less or more: a failure in between leaves the agent without access.
                payments.grant_revoke(&who.principal, &agent, account.clone())?;
                payments.grant_add(&who.principal, &agent, account.clone(), owner, verbs, max, days)?;
                format!("{agent} has access to {account}.")
            }
            [_, "withdraw"] => {
                let (agent, account) = pair()?;
                payments.grant_revoke(&who.principal, &agent, account.clone())?;
                format!("{agent} has no access to {account} any more.")
            }
            [_, "mandate"] => {
                let mandate = fields.typed("mandate")?.ok_or_else(|| no_such("mandate"))?;
                let reason = "revoked by its owner at the console".to_owned();
                self.call(who, AdminCall::MandateRevoke { mandate, reason })?;
                "The mandate is revoked.".to_owned()
            }
            _ => return Err(no_such("form")),
        };
        self.services.changes.tell();
        Ok((said, here))
    }
}

fn owner_of(who: &Who) -> Result<&OwnerId, Failure> {
    who.principal.owner.as_ref().ok_or_else(|| refused(Refusal::NotTheOwner))
}

fn refused(refusal: Refusal) -> Failure {
    Failure::refused(refusal.name(), refusal.message(), refusal.next_step())
}
