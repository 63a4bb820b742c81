//! What agents may read besides tools: statements, mandates, receipts, approvals and the rules of their role.
//!
//! A resource is read by the tool that shows the same, so that the same rules decide and the same leaf says so.

use std::str::FromStr;

use rmcp::model::{
    CacheScope, ErrorData, ListResourceTemplatesResult, ListResourcesResult, ReadResourceResult, Resource,
    ResourceContents, ResourceTemplate,
};
use serde_json::{Value, json};

use super::{StatementPage, Unanswered};
use crate::kernel::canon::canonical;
use crate::kernel::types::{AccountId, ApprovalId, MandateId, TransactionId};
use crate::kernel::zone::day_from_text;

/// Resources of one page.
const PAGE: usize = 50;
const MEDIA_TYPE: &str = "application/json";
const POLICY: &str = "bank://policy";
const MANDATES: &str = "bank://mandates";
/// Where a bridge finds the tool manifest.
pub const MANIFEST: &str = "bank://tool-manifest";

/// A resource as its address names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Named {
    /// All tools of the bank, signed (`kernel::tool_manifest`).
    Manifest,
    /// The tools and limits of the agent's role.
    Policy,
    Statement(StatementPage),
    /// What owners let the agent pay.
    Mandates,
    Mandate(MandateId),
    Receipt(TransactionId),
    Approval(ApprovalId),
}

impl Named {
    /// `None`: nothing is called so.
    pub fn parse(uri: &str) -> Option<Self> {
        let words: Vec<&str> = uri.strip_prefix("bank://")?.split('/').collect();
        match words.as_slice() {
            ["tool-manifest"] => Some(Self::Manifest),
            ["policy"] => Some(Self::Policy),
            ["accounts", account, "statement"] => {
                Some(Self::Statement(StatementPage { account: account.parse().ok()?, days: None }))
            }
            ["accounts", account, "statement", from, to] => {
                let days = Some((day_from_text(from).ok()?, day_from_text(to).ok()?));
                Some(Self::Statement(StatementPage { account: account.parse().ok()?, days }))
            }
            ["transactions", transaction, "receipt"] => Some(Self::Receipt(transaction.parse().ok()?)),
            ["mandates"] => Some(Self::Mandates),
            ["mandates", mandate] => Some(Self::Mandate(mandate.parse().ok()?)),
            ["approvals", approval] => Some(Self::Approval(approval.parse().ok()?)),
            _ => None,
        }
    }
}

/// The address of an approval, whose changes can be followed.
pub(super) fn approval_uri(approval: &ApprovalId) -> String {
    format!("bank://approvals/{approval}")
}

/// The address of a statement.
fn statement_uri(account: &AccountId) -> String {
    format!("bank://accounts/{account}/statement")
}

/// A page of the resources of an agent: its rules, and a statement of each account that it may read.
///
/// # Errors
/// −32602 for a cursor that is none of ours.
pub(super) fn listed(accounts: &[AccountId], cursor: Option<&str>) -> Result<ListResourcesResult, ErrorData> {
    let after = cursor.map(AccountId::from_str).transpose();
    let after =
        after.map_err(|_| ErrorData::invalid_params("the cursor is none of ours; list from the start", None))?;
    let mut accounts: Vec<&AccountId> = accounts.iter().collect();
    accounts.sort();
    let rest: Vec<&&AccountId> = accounts.iter().filter(|account| after.as_ref() < Some(**account)).collect();
    let mut resources = vec![];
    if after.is_none() {
        let policy = Resource::new(POLICY, "policy").with_description("Your role: its tools, limits and merchants");
        let mandates = Resource::new(MANDATES, "mandates")
            .with_description("What account owners let you pay, and what is left of it");
        let manifest = Resource::new(MANIFEST, "tool-manifest").with_description("All tools of the bank, signed by it");
        resources.extend([policy, mandates, manifest].map(|resource| resource.with_mime_type(MEDIA_TYPE)));
    }
    for account in rest.iter().take(PAGE) {
        let resource = Resource::new(statement_uri(account), format!("statement-{account}"))
            .with_title(format!("Statement of {account}"))
            .with_description("Posted lines, newest first, with the balance that each left");
        resources.push(resource.with_mime_type(MEDIA_TYPE));
    }
    let mut listed = ListResourcesResult::with_all_items(resources);
    listed.next_cursor = (rest.len() > PAGE).then(|| rest[PAGE - 1].to_string());
    Ok(listed.with_ttl_ms(0).with_cache_scope(CacheScope::Private))
}

pub(super) fn templates() -> ListResourceTemplatesResult {
    let template = |uri: &str, name: &str, what: &str| {
        ResourceTemplate::new(uri, name).with_description(what).with_mime_type(MEDIA_TYPE)
    };
    ListResourceTemplatesResult::with_all_items(vec![
        template("bank://accounts/{account_id}/statement", "statement", "Newest posted lines of a granted account"),
        template(
            "bank://accounts/{account_id}/statement/{from}/{to}",
            "statement-of-days",
            "Posted lines of these days of the account's own calendar, both included, such as 2026-11-01 and 2026-11-30",
        ),
        template(
            "bank://transactions/{transaction_id}/receipt",
            "receipt",
            "The signed receipt of one of your executed transactions; `countersign verify receipt` checks it offline",
        ),
        template("bank://mandates/{mandate_id}", "mandate", "One mandate of yours: its limits and what is left of them"),
        template("bank://approvals/{approval_id}", "approval", "What a human has decided; can be subscribed to"),
    ])
    .with_ttl_ms(0)
    .with_cache_scope(CacheScope::Private)
}

/// What was read, as MCP carries it.
pub(super) fn contents(uri: &str, value: &Value) -> ReadResourceResult {
    // As a file has it: a receipt's text verifies as it is. What has no canonical form is no receipt.
    let canonical = canonical(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = canonical.unwrap_or_else(|| value.to_string());
    let text = ResourceContents::text(format!("{text}\n"), uri).with_mime_type(MEDIA_TYPE);
    let mut result = ReadResourceResult::new(vec![text]);
    (result.ttl_ms, result.cache_scope) = (Some(0), Some(CacheScope::Private));
    result
}

/// A resource that cannot be read: what is not there, and what may not be seen, alike.
pub(super) fn unreadable(why: Unanswered) -> ErrorData {
    match why {
        Unanswered::Refused(refused) => ErrorData::resource_not_found(
            refused.message,
            Some(json!({ "reason": refused.name, "next_step": refused.next_step })),
        ),
        Unanswered::Failed(failed) => ErrorData::internal_error(
            "the bank cannot answer this now",
            Some(json!({
                "reason": failed.name, "retry": failed.retry, "may_have_happened": failed.may_have_happened,
                "request_id": failed.request_id,
            })),
        ),
        Unanswered::Replayed => ErrorData::invalid_request("this request was received before", None),
    }
}

pub(super) fn unknown(uri: &str) -> ErrorData {
    let shown: String = uri.chars().take(200).collect();
    ErrorData::resource_not_found(
        "there is no such resource; see resources/templates/list",
        Some(json!({ "uri": shown })),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_of_a_resource_names_none() {
        let table = [
            "",
            "bank:policy",
            "BANK://policy",
            "bank://policy/",
            "bank://policy?x=1",
            "bank://accounts/CHK_001",
            "bank://accounts/CHK%20001/statement",
            "bank://accounts//statement",
            "bank://accounts/CHK_001/statement/2026-11-01",
            "bank://accounts/CHK_001/statement/2026-13-01/2026-13-02",
            "bank://accounts/CHK_001/statement/2026-11-01/2026-11-02/x",
            "bank://accounts/CHK_001/statement?limit=3",
            "bank://transactions/x/receipt",
            "bank://approvals/x",
            "bank://mandates/",
            "bank://mandates/x",
            "bank://mandates?agent=other",
            "file:///etc/passwd",
        ];
        for uri in table {
            assert_eq!(Named::parse(uri), None, "{uri}");
        }
        assert_eq!((Named::parse(POLICY), Named::parse(MANIFEST)), (Some(Named::Policy), Some(Named::Manifest)));
        assert!(matches!(Named::parse(&statement_uri(&"CHK_001".parse().unwrap())), Some(Named::Statement(_))));
        let november = Named::parse("bank://accounts/CHK_001/statement/2026-11-01/2026-11-30");
        assert!(matches!(november, Some(Named::Statement(StatementPage { days: Some(_), .. }))));
    }

    #[test]
    fn pages_of_resources_have_every_account_once_and_end() {
        let accounts: Vec<AccountId> = (0..120).map(|number| format!("A{number:03}").parse().unwrap()).collect();
        let (mut cursor, mut seen, mut pages) = (None, vec![], 0);
        loop {
            let page = listed(&accounts, cursor.as_deref()).unwrap();
            seen.extend(page.resources.iter().map(|resource| resource.uri.clone()));
            pages += 1;
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!((pages, seen.len()), (3, 123));
        seen.dedup();
        assert_eq!(seen.len(), 123);
        assert!(listed(&accounts, Some("no cursor")).is_err());
    }
}
