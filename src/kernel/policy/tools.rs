//! Which tools there are, and what each of their parameters is.
//!
//! A constraint on a parameter that no call has would never be asked, and a keyword for another type would hold for
//! every value: both are found by comparing a policy with this table. Ours is written down here, because a decision
//! knows parsed calls and no schemas; a test holds it against the schemas that the MCP endpoint publishes.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a parameter is to a constraint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Text,
    /// An amount or a count: judged as a number, even where the caller sends a string.
    Number,
    /// Of another's catalogue, and none of these: every keyword may apply.
    Any,
}

/// Tools by name, each with its parameters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tools(BTreeMap<String, BTreeMap<String, Kind>>);

/// Our tools. An argument that has no part in a decision, such as how long an answer may wait, is not a parameter
/// here.
const OURS: &[(&str, &[(&str, Kind)])] = &[
    ("list_accounts", &[]),
    ("get_account_balance", &[("account_id", Kind::Text)]),
    ("list_transactions", &[("account_id", Kind::Text), ("limit", Kind::Number)]),
    (
        "search_products",
        &[("query", Kind::Text), ("max_price", Kind::Number), ("merchant", Kind::Text), ("currency", Kind::Text)],
    ),
    (
        "authorize_purchase",
        &[
            ("product_id", Kind::Text),
            ("price", Kind::Number),
            ("merchant", Kind::Text),
            ("from_account", Kind::Text),
            ("idempotency_key", Kind::Text),
            ("currency", Kind::Text),
        ],
    ),
    ("execute_purchase", &[("transaction_id", Kind::Text), ("product_id", Kind::Text)]),
    (
        "authorize_transfer",
        &[
            ("from_account", Kind::Text),
            ("to_account", Kind::Text),
            ("amount", Kind::Number),
            ("idempotency_key", Kind::Text),
            ("currency", Kind::Text),
        ],
    ),
    (
        "execute_transfer",
        &[
            ("transaction_id", Kind::Text),
            ("from_account", Kind::Text),
            ("to_account", Kind::Text),
            ("amount", Kind::Number),
            ("currency", Kind::Text),
        ],
    ),
    ("cancel_authorization", &[("transaction_id", Kind::Text), ("approval_id", Kind::Text)]),
    ("get_transaction", &[("transaction_id", Kind::Text)]),
    ("get_approval_status", &[("approval_id", Kind::Text)]),
    (
        "request_reversal",
        &[
            ("transaction_id", Kind::Text),
            ("amount", Kind::Number),
            ("idempotency_key", Kind::Text),
            ("currency", Kind::Text),
        ],
    ),
];

impl Tools {
    /// The tools of this bank.
    pub fn ours() -> Self {
        let tool = |(name, parameters): &(&str, &[(&str, Kind)])| {
            let parameters = parameters.iter().map(|(name, kind)| ((*name).to_owned(), *kind));
            ((*name).to_owned(), parameters.collect())
        };
        Self(OURS.iter().map(tool).collect())
    }

    /// Another's catalogue: an answer to `tools/list`, or its list of tools.
    ///
    /// # Errors
    /// One sentence about the first entry that is no tool.
    pub fn of(listed: &Value) -> Result<Self, String> {
        let result = listed.get("result").unwrap_or(listed);
        let tools = result.get("tools").unwrap_or(result).as_array();
        let tools = tools.ok_or("give an answer to tools/list, or the list of tools in it")?;
        tools.iter().map(tool_of).collect::<Result<_, _>>().map(Self)
    }

    /// The parameters of a tool, if it is there.
    pub fn parameters(&self, tool: &str) -> Option<&BTreeMap<String, Kind>> {
        self.0.get(tool)
    }

    /// That there is no such tool, in words, with the one that looks like it.
    pub fn missing(&self, tool: &str) -> String {
        let known = self.names().filter(|name| differences(name, tool) <= DIFFERENCES_MAX);
        let like = known.min_by_key(|name| differences(name, tool)).map(|name| format!(": it looks like {name}"));
        format!("there is no tool {tool:?} in the catalogue of tools{}", like.unwrap_or_default())
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Letters in which a slip of the hand differs from what was meant.
const DIFFERENCES_MAX: usize = 2;
/// Names that are longer are not compared.
const COMPARED_BYTES_MAX: usize = 128;

/// How many letters must be put in, taken out or exchanged to make one name the other.
fn differences(one: &str, other: &str) -> usize {
    let other = other.as_bytes();
    if other.len() > COMPARED_BYTES_MAX || one.len() > COMPARED_BYTES_MAX {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.bytes().enumerate() {
        let mut diagonal = at;
        row[0] = at + 1;
        for column in 1..row.len() {
            let exchanged = diagonal + usize::from(!letter.eq_ignore_ascii_case(&other[column - 1]));
            diagonal = row[column];
            row[column] = exchanged.min(diagonal + 1).min(row[column - 1] + 1);
        }
    }
    row[other.len()]
}

fn tool_of(tool: &Value) -> Result<(String, BTreeMap<String, Kind>), String> {
    let name = tool["name"].as_str().ok_or("each tool needs a name")?;
    let properties = tool["inputSchema"]["properties"].as_object();
    let parameters = properties.into_iter().flatten().map(|(name, schema)| (name.clone(), kind_of(schema)));
    Ok((name.to_owned(), parameters.collect()))
}

/// By the schema's own `type`; a parameter that may be null, too, is what it is besides.
fn kind_of(schema: &Value) -> Kind {
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).filter(|one| *one != "null").collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => vec![],
    };
    match types.as_slice() {
        ["string"] => Kind::Text,
        ["number" | "integer"] => Kind::Number,
        _ => Kind::Any,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn anothers_catalogue_is_read_from_any_form_of_a_list() {
        let list = json!([{ "name": "get_stock_analysis", "inputSchema": { "type": "object", "properties": {
            "symbol": { "type": "string" }, "days": { "type": ["integer", "null"] }, "filter": { "type": "object" } } } }]);
        let forms =
            [list.clone(), json!({ "tools": list }), json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": list } })];
        for form in forms {
            let tools = Tools::of(&form).unwrap();
            let parameters = tools.parameters("get_stock_analysis").unwrap();
            let kinds = ["symbol", "days", "filter"].map(|name| parameters[name]);
            assert_eq!(kinds, [Kind::Text, Kind::Number, Kind::Any]);
        }
        for bad in [json!(null), json!({}), json!([{}]), json!([{ "name": 1 }])] {
            Tools::of(&bad).unwrap_err();
        }
    }
}
