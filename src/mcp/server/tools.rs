//! The tools: what each is called, takes, answers and does.

use std::collections::BTreeMap;
use std::sync::Arc;

use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use crate::kernel::tool_manifest::definition_hash;
use crate::kernel::types::Sha256;
use crate::mcp::shapes;

/// How a tool affects the bank.
#[derive(Clone, Copy)]
enum Effect {
    Reads,
    /// Holds or releases; repeats answer the same.
    Prepares,
    /// Moves money, once for each transaction.
    Moves,
}

/// Rises whenever a tool is added, removed or defined in other words: bridges accept each version once.
pub const TOOLS_VERSION: u64 = if cfg!(feature = "conformance") { FIXTURES_VERSION } else { 2 };
/// Of a manifest that names the conformance suite's tools, too.
const FIXTURES_VERSION: u64 = 1_000_000;

/// Every tool with the hash of its definition, for the manifest.
pub fn tool_definitions() -> BTreeMap<String, Sha256> {
    let hash = |tool: Tool| {
        let definition = serde_json::to_value(&tool).ok()?;
        Some((tool.name.to_string(), definition_hash(&definition)?))
    };
    let defined = tools().into_iter();
    let defined = defined.filter_map(hash);
    #[cfg(feature = "conformance")]
    let defined = defined.chain(
        crate::mcp::fixtures::definitions()
            .into_iter()
            .filter_map(|(name, tool)| Some((name, definition_hash(&tool)?))),
    );
    defined.collect()
}

/// The names of all tools, as a role catalogue writes them.
pub fn tool_names() -> Vec<String> {
    tools().iter().map(|tool| tool.name.to_string()).collect()
}

pub(super) fn tools() -> Vec<Tool> {
    use shapes::{
        AccountsAnswer, AuthorizePurchase, AuthorizeTransfer, BalanceAnswer, CancelAuthorization, DecisionAnswer,
        ExecutePurchase, ExecuteTransfer, GetAccountBalance, GetApprovalStatus, GetTransaction, ListAccounts,
        ListTransactions, ProductsAnswer, RequestReversal, SearchProducts, TransactionsAnswer,
    };
    vec![
        tool::<ListAccounts, AccountsAnswer>(
            "list_accounts",
            "Accounts that their owner has granted to you",
            Effect::Reads,
        ),
        tool::<GetAccountBalance, BalanceAnswer>("get_account_balance", "Balance of a granted account", Effect::Reads),
        tool::<ListTransactions, TransactionsAnswer>(
            "list_transactions",
            "Newest transactions of a granted account",
            Effect::Reads,
        ),
        tool::<SearchProducts, ProductsAnswer>(
            "search_products",
            "Search the merchants' catalogue by words, highest price and merchant",
            Effect::Reads,
        ),
        tool::<AuthorizePurchase, DecisionAnswer>(
            "authorize_purchase",
            "Ask to buy a product at its current price; holds the money when approved",
            Effect::Prepares,
        ),
        tool::<ExecutePurchase, DecisionAnswer>(
            "execute_purchase",
            "Carry out an authorized purchase, once",
            Effect::Moves,
        ),
        tool::<AuthorizeTransfer, DecisionAnswer>(
            "authorize_transfer",
            "Ask to transfer money; holds it when approved or while a human decides",
            Effect::Prepares,
        ),
        tool::<ExecuteTransfer, DecisionAnswer>(
            "execute_transfer",
            "Carry out an authorized transfer, once, with the parameters that were authorized",
            Effect::Moves,
        ),
        tool::<CancelAuthorization, DecisionAnswer>(
            "cancel_authorization",
            "Give up an authorization that was not executed; its money is free again",
            Effect::Prepares,
        ),
        tool::<GetTransaction, DecisionAnswer>(
            "get_transaction",
            "State of one of your transactions and its receipt",
            Effect::Reads,
        ),
        tool::<GetApprovalStatus, DecisionAnswer>(
            "get_approval_status",
            "Whether a human has decided; names the transaction_id once approved",
            Effect::Reads,
        ),
        tool::<RequestReversal, DecisionAnswer>(
            "request_reversal",
            "Ask the bank to reverse an executed transaction, wholly or in part; a human decides",
            Effect::Prepares,
        ),
    ]
}

fn tool<Input, Output>(name: &'static str, description: &'static str, effect: Effect) -> Tool
where
    Input: schemars::JsonSchema + 'static,
    Output: schemars::JsonSchema + 'static,
{
    let (read_only, idempotent) = match effect {
        Effect::Reads => (true, true),
        Effect::Prepares | Effect::Moves => (false, true),
    };
    let annotations = ToolAnnotations::new()
        .read_only(read_only)
        .destructive(matches!(effect, Effect::Moves))
        .idempotent(idempotent)
        .open_world(false);
    Tool::new(name, description, schema_for_type::<Input>())
        .with_raw_output_schema(or_denied(&schema_for_type::<Output>()))
        .with_annotations(annotations)
}

/// A read's answer, or the shape in which every refusal and fault comes: `status` and `reason`.
fn or_denied(schema: &JsonObject) -> Arc<JsonObject> {
    let mut schema = schema.clone();
    let words = ["status", "reason", "message", "next_step", "may_have_happened", "request_id"];
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        if properties.contains_key("status") {
            return Arc::new(schema);
        }
        properties.extend(words.map(|word| (word.to_owned(), json!({ "type": "string" }))));
        properties.insert("retry".to_owned(), json!({ "type": "boolean" }));
    }
    if let Some(required) = schema.remove("required") {
        let either = json!([{ "required": required }, { "required": ["status", "reason"] }]);
        schema.insert("anyOf".to_owned(), either);
    }
    Arc::new(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the tools of each version are. A line is added with each new version and never changed: bridges out there have
    /// accepted it.
    const VERSIONS: [(u64, &str); 2] = [(1, "45b6d109fbd6d369"), (2, "6f81a3d08babae9e")];

    #[test]
    fn a_tool_changes_only_with_the_version() {
        let definitions = tool_definitions();
        assert_eq!(definitions.len(), tools().len(), "a tool has no canonical form");
        let lines: Vec<String> = definitions.iter().map(|(name, hash)| format!("{name} {}", hash.hex())).collect();
        let now = Sha256::of(&[lines.join("\n").as_bytes()]).hex();
        let (version, known) = VERSIONS[VERSIONS.len() - 1];
        assert_eq!((version, known), (TOOLS_VERSION, &now[..16]), "raise TOOLS_VERSION and add its line");
    }

    #[test]
    fn every_member_of_every_answer_has_a_class() {
        for tool in tools() {
            let schema = tool.output_schema.as_ref().unwrap();
            for member in schema["properties"].as_object().unwrap().keys() {
                assert!(
                    crate::kernel::mask::is_declared(member),
                    "{}: {member} has no class (kernel/mask.rs)",
                    tool.name
                );
            }
        }
    }

    #[test]
    fn a_policy_knows_every_tool_and_what_its_parameters_are() {
        use crate::kernel::policy::tools::{Kind, Tools};
        let ours = Tools::ours();
        let published: Vec<String> = tools().iter().map(|tool| tool.name.to_string()).collect();
        assert_eq!(
            published.iter().map(String::as_str).collect::<std::collections::BTreeSet<_>>(),
            ours.names().collect()
        );
        for tool in tools() {
            let schema = serde_json::to_value(&tool.input_schema).unwrap();
            let known = ours.parameters(&tool.name).unwrap();
            let mut named: BTreeMap<String, Kind> = BTreeMap::new();
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let text = property.to_string();
                let is_number = text.contains("Amount") || text.contains("integer") || text.contains("number");
                named.insert(name.clone(), if is_number { Kind::Number } else { Kind::Text });
            }
            // How long an answer may wait has no part in the decision.
            named.remove("wait_s");
            assert_eq!(known, &named, "{}", tool.name);
        }
    }

    #[test]
    fn no_argument_of_ours_travels_as_a_header() {
        // Accounts, payees and amounts are nobody's business on the way (MCP 2026-07-28, x-mcp-header).
        assert!(!serde_json::to_string(&tools()).unwrap().contains("x-mcp-header"));
    }
}
