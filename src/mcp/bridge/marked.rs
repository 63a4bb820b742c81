//! Arguments that travel as headers, too: those that a tool's schema marks with `x-mcp-header` (MCP 2026-07-28,
//! transports, custom headers). A tool whose marks break a rule is shown to nobody.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use http::{HeaderName, HeaderValue};
use rmcp::model::{JsonObject, Tool};
use serde_json::Value;

use super::upstream::in_a_header;

const MARK: &str = "x-mcp-header";
const PREFIX: &str = "Mcp-Param-";

/// The tools that mark something, as the bank listed them last.
#[derive(Default)]
pub(super) struct MarkedTools(RwLock<HashMap<String, Marked>>);

struct Marked {
    schema: Arc<JsonObject>,
    marks: Vec<Mark>,
}

/// One argument and its header.
#[derive(PartialEq, Eq, Debug)]
struct Mark {
    /// Names of properties, from the arguments inwards.
    path: Vec<String>,
    header: HeaderName,
}

impl MarkedTools {
    /// Learns a list, and takes tools out of it whose marks break a rule. `is_first`: whatever was known is over.
    pub fn learn(&self, listed: &mut Value, is_first: bool) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if is_first {
            known.clear();
        }
        let Some(tools) = listed.get_mut("tools").and_then(Value::as_array_mut) else {
            return;
        };
        tools.retain(|tool| {
            let name = tool["name"].as_str().unwrap_or_default();
            match marks(&tool["inputSchema"]) {
                Ok(marks) => {
                    if let (false, Some(schema)) = (marks.is_empty(), tool["inputSchema"].as_object()) {
                        known.insert(name.to_owned(), Marked { schema: Arc::new(schema.clone()), marks });
                    }
                    true
                }
                Err(why) => {
                    tracing::warn!(tool = %name, %why, "not shown: its schema asks for headers that there cannot be");
                    false
                }
            }
        });
    }

    /// The headers of a call with these arguments. A value that is missing or null has none.
    pub fn headers(&self, tool: &str, arguments: &Value) -> Vec<(HeaderName, HeaderValue)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let marks = known.get(tool).into_iter().flat_map(|tool| &tool.marks);
        let header = |mark: &Mark| {
            let value = mark.path.iter().try_fold(arguments, |value, name| value.get(name))?;
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => return None,
            };
            Some((mark.header.clone(), HeaderValue::from_str(&in_a_header(&text)).ok()?))
        };
        marks.filter_map(header).collect()
    }

    /// A tool that marks something, for who checks the headers of a call.
    pub fn tool(&self, name: &str) -> Option<Tool> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).map(|tool| Tool::new(name.to_owned(), "", Arc::clone(&tool.schema)))
    }
}

/// Every mark of a schema.
///
/// # Errors
/// The rule that one of them breaks.
fn marks(schema: &Value) -> Result<Vec<Mark>, String> {
    let mut found = Vec::new();
    collect(schema, Some(&[]), &mut found)?;
    Ok(found)
}

/// `path`: how the place is reached through `properties` alone; `None` where no mark may be.
fn collect(schema: &Value, path: Option<&[String]>, found: &mut Vec<Mark>) -> Result<(), String> {
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                match key.as_str() {
                    MARK => found.push(mark(schema, path, value, found)?),
                    "properties" => {
                        for (name, inner) in value.as_object().into_iter().flatten() {
                            let path = path.map(|path| [path, std::slice::from_ref(name)].concat());
                            collect(inner, path.as_deref(), found)?;
                        }
                    }
                    "$defs" | "definitions" | "dependentSchemas" | "patternProperties" => {
                        value
                            .as_object()
                            .into_iter()
                            .flatten()
                            .try_for_each(|(_, inner)| collect(inner, None, found))?;
                    }
                    // Values, and no schemas.
                    "default" | "const" | "enum" | "examples" => {}
                    _ => collect(value, None, found)?,
                }
            }
            Ok(())
        }
        Value::Array(schemas) => schemas.iter().try_for_each(|inner| collect(inner, None, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn mark(schema: &Value, path: Option<&[String]>, name: &Value, found: &[Mark]) -> Result<Mark, String> {
    let path = path.filter(|path| !path.is_empty()).ok_or("a mark is not on a property of the arguments")?.to_vec();
    let name = name.as_str().filter(|name| !name.is_empty()).ok_or("a header's name is missing")?;
    let header = HeaderName::from_bytes(format!("{PREFIX}{name}").as_bytes());
    let header = header.map_err(|_| format!("{name:?} is no name of a header"))?;
    if found.iter().any(|mark| mark.header == header) {
        return Err(format!("two arguments share the header {header}"));
    }
    match schema["type"].as_str() {
        Some("string" | "integer" | "boolean") => Ok(Mark { path, header }),
        Some(_) | None => Err(format!("{} is no string, integer or boolean", path.join("."))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(properties: Value) -> Value {
        json!({ "type": "object", "properties": properties })
    }

    #[test]
    fn marks_that_break_a_rule_hide_their_tool() {
        let string = |header: Value| json!({ "type": "string", "x-mcp-header": header });
        let good = [
            schema(json!({})),
            schema(json!({ "region": string(json!("Region")) })),
            schema(
                json!({ "a": { "type": "integer", "x-mcp-header": "A" }, "b": { "type": "boolean", "x-mcp-header": "B" } }),
            ),
            schema(json!({ "outer": schema(json!({ "inner": string(json!("Inner")) })) })),
            // A property of this name, and values that look like a mark, are none.
            schema(
                json!({ "x-mcp-header": { "type": "array" }, "a": { "type": "object", "default": { "x-mcp-header": "" } } }),
            ),
        ];
        for schema in good {
            assert!(marks(&schema).is_ok(), "{schema}");
        }
        let bad = [
            schema(json!({ "a": string(json!("")) })),
            schema(json!({ "a": string(json!(7)) })),
            schema(json!({ "a": string(json!("My Region")) })),
            schema(json!({ "a": string(json!("Region:Primary")) })),
            schema(json!({ "a": string(json!("Région")) })),
            schema(json!({ "a": string(json!("Region\t1")) })),
            schema(json!({ "a": string(json!("Region\r\nHost")) })),
            schema(json!({ "a": string(json!("Region")), "b": string(json!("region")) })),
            schema(json!({ "a": string(json!("Region")), "b": schema(json!({ "c": string(json!("REGION")) })) })),
            schema(json!({ "a": { "type": "number", "x-mcp-header": "A" } })),
            schema(json!({ "a": { "type": "object", "x-mcp-header": "A" } })),
            schema(json!({ "a": { "type": "array", "x-mcp-header": "A" } })),
            schema(json!({ "a": { "type": "null", "x-mcp-header": "A" } })),
            schema(json!({ "a": { "type": ["string", "null"], "x-mcp-header": "A" } })),
            schema(json!({ "a": { "x-mcp-header": "A" } })),
            schema(json!({ "a": { "type": "array", "items": string(json!("A")) } })),
            schema(json!({ "a": { "oneOf": [string(json!("A"))] } })),
            json!({ "type": "object", "$defs": { "a": string(json!("A")) } }),
            json!({ "type": "string", "x-mcp-header": "Root" }),
        ];
        for schema in bad {
            assert!(marks(&schema).is_err(), "{schema}");
        }
    }

    #[test]
    fn marked_arguments_travel_as_headers_can_carry_them() {
        let tools = MarkedTools::default();
        let marked = |kind: &str, header: &str| json!({ "type": kind, "x-mcp-header": header });
        let region = schema(json!({
            "region": marked("string", "Region"), "priority": marked("integer", "Priority"),
            "urgent": marked("boolean", "Urgent"), "place": schema(json!({ "city": marked("string", "City") })),
            "query": { "type": "string" },
        }));
        let list = |schema: &Value| json!({ "tools": [{ "name": "ask", "inputSchema": schema }] });
        tools.learn(&mut list(&region), true);
        let table = [
            (json!({ "region": "us-west1", "query": "q" }), vec![("mcp-param-region", "us-west1")]),
            (json!({ "region": "", "priority": -7 }), vec![("mcp-param-region", ""), ("mcp-param-priority", "-7")]),
            (json!({ "region": null, "urgent": false }), vec![("mcp-param-urgent", "false")]),
            (json!({ "region": " a" }), vec![("mcp-param-region", "=?base64?IGE=?=")]),
            (json!({ "region": "a\r\nHost: b" }), vec![("mcp-param-region", "=?base64?YQ0KSG9zdDogYg==?=")]),
            (json!({ "place": { "city": "Zürich" } }), vec![("mcp-param-city", "=?base64?WsO8cmljaA==?=")]),
            (json!({ "region": ["a"], "place": "b" }), vec![]),
            (json!(null), vec![]),
        ];
        for (arguments, expected) in table {
            let headers = tools.headers("ask", &arguments);
            let mut shown: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            let mut expected = expected;
            shown.sort_unstable();
            expected.sort_unstable();
            assert_eq!(shown, expected, "{arguments}");
        }
        assert_eq!(tools.headers("other", &json!({ "region": "a" })), vec![]);
        assert!(tools.tool("ask").is_some() && tools.tool("other").is_none());

        // Another page adds; a list from its start replaces; a bad tool is taken out.
        let mut page =
            json!({ "tools": [{ "name": "more", "inputSchema": region }, { "name": "plain", "inputSchema": {} }] });
        tools.learn(&mut page, false);
        assert!(tools.tool("ask").is_some() && tools.tool("more").is_some() && tools.tool("plain").is_none());
        for no_list in [json!([]), json!("x"), json!(null), json!({ "tools": "x" })] {
            tools.learn(&mut no_list.clone(), false);
        }
        let mut bad = list(&schema(json!({ "a": marked("array", "A") })));
        tools.learn(&mut bad, true);
        assert_eq!((&bad["tools"], tools.tool("ask").is_none()), (&json!([]), true));
    }
}
