//! Policies that are taken, refused and obeyed: one row a rule.

use serde_json::{Map, Value, json};

use super::case::{self, Expected};
use super::document::Document;
use super::finding::{Finding, Flaw, Severity};
use super::reading::{self, Format};
use super::role::{Arguments, Examined, Policy, Ruling, arguments_of};
use super::tools::Tools;

/// Seed 002's example, as it stands there.
const SEED: &str = r#"{
"role": "MarketAnalystAI",
"permissions": [
{
"tool_name": "get_stock_analysis",
"action": "invoke",
"constraints": {
"symbol": {"type": "string", "pattern": "^[A-Z]{3}$"} // Only allow 3-letter symbols
}
},
{
"tool_name": "get_market_overview",
"action": "invoke",
"constraints": {}
},
{
"tool_name": "get_sector_heatmap",
"action": "invoke",
"constraints": {
"region": {"enum": ["Vietnam", "Global"]}
}
}
],
"deny_tools": [
"execute_trade_order",
"update_client_profile"
]
}"#;

fn examined(document: Document) -> Examined {
    Policy::examined(document, &Tools::ours(), None)
}

fn of(value: Value) -> Policy {
    let examined = examined(Document::of(value).unwrap());
    examined.policy.unwrap_or_else(|| panic!("{:?}", examined.findings))
}

fn ruling<'p>(policy: &'p Policy, role: &str, tool: &str, arguments: &Value) -> Ruling<'p> {
    let given = arguments.as_object().cloned().unwrap_or_default();
    let arguments: Arguments<'static> = arguments_of(&Tools::ours(), tool, &given)
        .unwrap()
        .into_iter()
        .map(|(name, value)| (name.into_owned().into(), value))
        .collect();
    policy.ruling(role, tool, || arguments)
}

#[test]
fn the_seeds_example_loads_as_it_stands_comment_included() {
    let document = reading::document(SEED, Format::Json).unwrap();
    let found = examined(document.clone());
    // Nothing of it is ours: a warning for each tool when it is checked, an error when it is put in force.
    assert_eq!(found.gravest(), Some(Severity::Unknown));
    assert_eq!(found.findings.len(), 5, "{:?}", found.findings);
    assert!(found.findings.iter().all(|finding| finding.flaw == Flaw::ToolUnknown));
    let policy = found.policy.unwrap();
    let tools = Tools::of(&json!([
        { "name": "get_stock_analysis", "inputSchema": { "properties": { "symbol": { "type": "string" } } } },
        { "name": "get_market_overview" },
        { "name": "get_sector_heatmap", "inputSchema": { "properties": { "region": { "type": "string" } } } },
        { "name": "execute_trade_order" },
        { "name": "update_client_profile" },
    ]))
    .unwrap();
    assert_eq!(Policy::examined(document, &tools, None).findings, []);
    let table = [
        ("get_stock_analysis", json!({ "symbol": "VIC" }), None),
        ("get_stock_analysis", json!({ "symbol": "VICX" }), Some("constraint_violated")),
        ("get_stock_analysis", json!({ "symbol": "VIC\n" }), Some("constraint_violated")),
        ("get_stock_analysis", json!({ "symbol": 123 }), Some("constraint_violated")),
        ("get_stock_analysis", json!({}), Some("constraint_parameter_missing")),
        ("get_market_overview", json!({}), None),
        ("get_sector_heatmap", json!({ "region": "Vietnam" }), None),
        ("get_sector_heatmap", json!({ "region": "Asia" }), Some("constraint_violated")),
        ("execute_trade_order", json!({}), Some("tool_denied_by_policy")),
        ("get_news", json!({}), Some("tool_denied")),
    ];
    for (tool, arguments, refused) in table {
        let given: Map<String, Value> = arguments.as_object().cloned().unwrap();
        let found = case::explained(&policy, &tools, "MarketAnalystAI", tool, &given);
        let reason = if tool == "get_news" { Some("tool_denied") } else { found.reason };
        assert_eq!(reason, refused, "{tool} {arguments}: {}", found.words);
    }
    // Letter by letter: another spelling is another role.
    assert_eq!(ruling(&policy, "marketanalystai", "get_market_overview", &json!({})), Ruling::RoleUnnamed);
}

#[test]
fn the_three_forms_say_the_same() {
    let toml = r#"
        [[roles]]
        role = "purchaser"
        deny_tools = ["execute_transfer"]
        [[roles.permissions]]
        tool_name = "authorize_purchase"
        action = "invoke"
        constraints.price = { maximum = 100.0, multipleOf = 0.01 } # a limit
    "#;
    let yaml = "roles:\n- role: purchaser\n  deny_tools: [execute_transfer]\n  permissions:\n  - tool_name: \
                authorize_purchase\n    action: invoke # the only one\n    constraints:\n      price: {maximum: 100, multipleOf: 0.01}\n";
    let json = r#"[ /* one */ { "role": "purchaser", "permissions": [ { "tool_name": "authorize_purchase", "action": "invoke",
        "constraints": { "price": { "multipleOf": 0.01, "maximum": 100, }, }, }, ], "deny_tools": ["execute_transfer",] }, ] // end"#;
    let texts = [(toml, Format::Toml), (yaml, Format::Yaml), (json, Format::Json)];
    let canonical = texts.map(|(text, format)| {
        let document = reading::document(text, format).unwrap_or_else(|finding| panic!("{format:?}: {finding}"));
        document.canonical()
    });
    assert_eq!(canonical[0], canonical[1]);
    assert_eq!(canonical[1], canonical[2]);
    assert_eq!(
        canonical[0],
        r#"{"roles":[{"deny_tools":["execute_transfer"],"permissions":[{"action":"invoke","constraints":{"price":{"maximum":100,"multipleOf":0.01}},"tool_name":"authorize_purchase"}],"role":"purchaser"}]}"#
    );
    let stored = Policy::stored(&canonical[0]).unwrap();
    assert_eq!(stored.canonical(), canonical[0]);
    for (name, format) in
        [("a.json", Format::Json), ("b.JSONC", Format::Json), ("c.toml", Format::Toml), ("d.yml", Format::Yaml)]
    {
        assert_eq!(Format::of_name(name), Some(format));
    }
    assert_eq!(Format::of_name("policy"), None);
    assert_eq!(Format::of_name("policy.txt"), None);
}

#[test]
fn hostile_texts_are_refused_by_name() {
    let role = |rest: &str| format!(r#"{{"role":"r",{rest}}}"#);
    let long = format!(r#"{{"role":"{}"}}"#, "r".repeat(10 * 1024 * 1024));
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    let deep_toml = format!("a = {}{}", "[".repeat(1_000), "]".repeat(1_000));
    let deep_tables = format!("[{}]\nx = 1", vec!["a"; 1_000].join("."));
    let deep_blocks: String = (0..1_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    let laughs = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n";
    use Flaw::{DuplicateKey, ImpreciseNumber, Malformed, Shape, TooDeep, TooLarge};
    use Format::{Json, Toml, Yaml};
    let table: Vec<(Format, String, Flaw)> = vec![
        (Json, long.clone(), TooLarge),
        (Toml, long.clone(), TooLarge),
        (Yaml, long, TooLarge),
        (Json, deep.clone(), TooDeep),
        (Yaml, deep, TooDeep),
        (Toml, deep_toml, TooDeep),
        (Toml, deep_tables, TooDeep),
        (Yaml, deep_blocks, TooDeep),
        (Json, "".into(), Malformed),
        (Json, "{".into(), Malformed),
        (Json, "{}{}".into(), Malformed),
        (Json, r#"{"role":"r"} /* open"#.into(), Malformed),
        (Json, r#"{"role":"r",,}"#.into(), Malformed),
        (Json, r#"[,]"#.into(), Malformed),
        (Json, r#"{,}"#.into(), Malformed),
        (Json, r#"{"role":,}"#.into(), Malformed),
        (Json, r#"{'role':'r'}"#.into(), Malformed),
        (Json, r#"{role:"r"}"#.into(), Malformed),
        (Json, r#"{"role" "r"}"#.into(), Malformed),
        (Json, role(r#""x":NaN"#), Malformed),
        (Json, role(r#""x":Infinity"#), Malformed),
        (Json, role(r#""x":0x10"#), Malformed),
        (Json, role(r#""x":+1"#), Malformed),
        (Json, role(r#""x":1e3"#), ImpreciseNumber),
        (Json, role(r#""x":1.0000000000000001"#), ImpreciseNumber),
        (Json, role(r#""x":123456789012345678"#), ImpreciseNumber),
        (Json, role(r#""role":"s""#), DuplicateKey),
        (Json, role(r#""r\u006fle":"s""#), DuplicateKey),
        (Json, role(r#""permissions":[{"tool_name":"a","tool_name":"b"}]"#), DuplicateKey),
        (Toml, "role = ".into(), Malformed),
        (Toml, "role = 'r'\nrole = 's'".into(), DuplicateKey),
        (Toml, "role = 'r'\nx = nan".into(), ImpreciseNumber),
        (Toml, "role = 'r'\nx = inf".into(), ImpreciseNumber),
        (Toml, "role = 'r'\nx = 9007199254740993".into(), ImpreciseNumber),
        (Toml, "role = 2026-01-01".into(), Shape),
        (Yaml, "role: r\nrole: s\n".into(), DuplicateKey),
        (Yaml, laughs.into(), Malformed),
        (Yaml, "role: &a r\ndeny_tools: [*a]\n".into(), Malformed),
        (Yaml, "role: r\n<<: {deny_tools: []}\n".into(), Malformed),
        (Yaml, "role: r\n---\nrole: s\n".into(), Malformed),
        (Yaml, "role: r\nx: .nan\n".into(), Malformed),
        (Yaml, "role: r\nx: .inf\n".into(), Malformed),
        (Yaml, "role: r\nx: 0.12345678901234567\n".into(), ImpreciseNumber),
        (Yaml, "role: [\n".into(), Malformed),
    ];
    let mut wrong = vec![];
    for (format, text, flaw) in table {
        let shown: String = text.chars().take(60).collect();
        match reading::document(&text, format) {
            Err(finding) if finding.flaw == flaw => {}
            // Some rows are read before they are refused as policies; none of them is taken.
            Err(finding) => wrong.push(format!("{format:?} {shown:?}: {:?}, not {flaw:?}: {finding}", finding.flaw)),
            Ok(_) => wrong.push(format!("{format:?} {shown:?}: taken")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn documents_that_are_no_policy_are_refused_by_name() {
    let permission = |permission: Value| json!({ "role": "r", "permissions": [permission] });
    let many = |count: usize, value: Value| vec![value; count];
    let table = [
        (json!(null), Flaw::Shape),
        (json!("role"), Flaw::Shape),
        (json!([]), Flaw::Empty),
        (json!({}), Flaw::Empty),
        (json!({ "roles": [] }), Flaw::Empty),
        (json!({ "roles": {} }), Flaw::Shape),
        (json!({ "roles": [1] }), Flaw::Shape),
        (json!({ "rules": [] }), Flaw::UnknownMember),
        (json!({ "transactions": [] }), Flaw::Empty),
        (json!({ "transactions": {} }), Flaw::Shape),
        (json!({ "transactions": [{ "currencies": ["USD"] }] }), Flaw::Shape),
        (json!({ "transactions": [{ "name": "a", "currency": "USD" }] }), Flaw::UnknownMember),
        (json!({ "transactions": [{ "name": "a", "currencies": [] }] }), Flaw::TransactionRule),
        (json!({ "transactions": [{ "name": "A" }] }), Flaw::TransactionRule),
        (json!({ "transactions": [{ "name": "a" }, { "name": "a" }] }), Flaw::TransactionRule),
        (json!({ "role": "r", "permission": [] }), Flaw::UnknownMember),
        (json!({ "role": 1 }), Flaw::Shape),
        (json!({ "role": "" }), Flaw::RoleName),
        (json!({ "role": "a b" }), Flaw::RoleName),
        (json!({ "role": "-a" }), Flaw::RoleName),
        (json!({ "role": "r\u{430}" }), Flaw::RoleName),
        (json!({ "role": "r".repeat(64) }), Flaw::RoleName),
        (json!([{ "role": "r" }, { "role": "r" }]), Flaw::RoleTwice),
        (json!([{ "role": "buyer" }, { "role": "Buyer" }]), Flaw::RoleTwice),
        (json!((0..65).map(|at| json!({ "role": format!("r{at}") })).collect::<Vec<_>>()), Flaw::TooLarge),
        (permission(json!({ "action": "invoke" })), Flaw::Shape),
        (permission(json!({ "tool_name": "a" })), Flaw::Shape),
        (permission(json!({ "tool_name": "a", "action": "read" })), Flaw::Action),
        (permission(json!({ "tool_name": "a", "action": "Invoke" })), Flaw::Action),
        (permission(json!({ "tool_name": "a", "action": "invoke", "effect": "deny" })), Flaw::UnknownMember),
        (permission(json!({ "tool_name": "a*", "action": "invoke" })), Flaw::ToolName),
        (permission(json!({ "tool_name": "", "action": "invoke" })), Flaw::ToolName),
        (permission(json!({ "tool_name": "a", "action": "invoke", "constraints": [] })), Flaw::Shape),
        (
            permission(json!({ "tool_name": "a", "action": "invoke", "constraints": { "a b": {} } })),
            Flaw::ParameterName,
        ),
        (json!({ "role": "r", "deny_tools": ["a b"] }), Flaw::ToolName),
        (json!({ "role": "r", "deny_tools": ["a", "a"] }), Flaw::ToolTwice),
        (json!({ "role": "r", "deny_tools": "a" }), Flaw::Shape),
        (
            json!({ "role": "r", "permissions": many(513, json!({ "tool_name": "a", "action": "invoke" })) }),
            Flaw::TooLarge,
        ),
    ];
    for (value, flaw) in table {
        let shown: String = value.to_string().chars().take(90).collect();
        assert_eq!(Document::of(value).map_err(|finding| finding.flaw), Err(flaw), "{shown}");
    }
    let one = Document::of(json!({ "role": "r" })).unwrap();
    assert_eq!(Document::merged([one.clone(), one.clone()]).map_err(|finding| finding.flaw), Err(Flaw::RoleTwice));
    assert_eq!(Document::merged([]).map_err(|finding| finding.flaw), Err(Flaw::Empty));
    assert_eq!(Document::merged([one.clone()]), Ok(one));
}

/// The findings of one fragment on a parameter of `authorize_transfer`.
fn findings(parameter: &str, fragment: Value) -> Vec<Finding> {
    let document = Document::of(json!({ "role": "r", "permissions": [
        { "tool_name": "authorize_transfer", "action": "invoke", "constraints": { parameter: fragment } }] }));
    examined(document.unwrap()).findings
}

#[test]
fn fragments_that_would_pass_vacuously_or_cost_too_much_are_refused_by_name() {
    let deep = (0..30).fold(json!({ "maximum": 1 }), |inner, _| json!({ "not": inner }));
    let wide = json!({ "allOf": vec![json!({ "maximum": 1 }); 600] });
    // Each level refers twice to the next: 2^20 schemas.
    let mut doubling = Map::new();
    for level in 0..20 {
        let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
        doubling.insert(format!("d{level}"), json!({ "allOf": [next, next] }));
    }
    doubling.insert("d20".into(), json!({ "maximum": 1 }));
    let doubling = json!({ "$defs": doubling, "$ref": "#/$defs/d0" });
    let amount: Vec<(Value, Flaw)> = vec![
        (json!(true), Flaw::NoSchema),
        (json!(5), Flaw::NoSchema),
        (json!([{ "maximum": 5 }]), Flaw::NoSchema),
        (json!({ "maximum": "500" }), Flaw::NoSchema),
        (json!({ "multipleOf": 0 }), Flaw::NoSchema),
        (json!({ "enum": 5 }), Flaw::NoSchema),
        (json!({ "allOf": [5] }), Flaw::NoSchema),
        (json!({ "anyOf": {} }), Flaw::NoSchema),
        (json!({ "maxium": 500 }), Flaw::KeywordUnknown),
        (json!({ "Maximum": 500 }), Flaw::KeywordUnknown),
        (json!({ "not": { "allOf": [{ "max": 1 }] } }), Flaw::KeywordUnknown),
        (json!({ "pattern": "^1$" }), Flaw::KeywordVacuous),
        (json!({ "maxLength": 3 }), Flaw::KeywordVacuous),
        (json!({ "format": "date" }), Flaw::KeywordVacuous),
        (json!({ "anyOf": [{ "maximum": 1 }, { "pattern": "^1$" }] }), Flaw::KeywordVacuous),
        (json!({ "properties": { "amount": { "maximum": 5 } } }), Flaw::KeywordVacuous),
        (json!({ "items": { "maximum": 5 } }), Flaw::KeywordVacuous),
        (json!({ "then": { "maximum": 5 } }), Flaw::KeywordVacuous),
        (json!({ "type": "string" }), Flaw::ValueVacuous),
        (json!({ "type": ["number", "null"] }), Flaw::ValueVacuous),
        (json!({ "not": { "type": "string" } }), Flaw::ValueVacuous),
        (json!({ "not": { "enum": ["500.00"] } }), Flaw::ValueVacuous),
        (json!({ "const": "500" }), Flaw::ValueVacuous),
        (json!({ "$ref": "http://127.0.0.1/schema.json" }), Flaw::Reference),
        (json!({ "$ref": "https://json-schema.org/draft/2020-12/schema" }), Flaw::Reference),
        (json!({ "$ref": "file:///etc/passwd" }), Flaw::Reference),
        (json!({ "$ref": "other.json" }), Flaw::Reference),
        (json!({ "$ref": "#" }), Flaw::Reference),
        (json!({ "$ref": "#/$defs/none" }), Flaw::Reference),
        (json!({ "$ref": 5 }), Flaw::Reference),
        (
            json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" }),
            Flaw::FragmentTooLarge,
        ),
        (doubling, Flaw::FragmentTooLarge),
        (deep, Flaw::FragmentTooLarge),
        (wide, Flaw::FragmentTooLarge),
        (json!({ "enum": (0..1_001).collect::<Vec<_>>() }), Flaw::FragmentTooLarge),
        (json!({ "$id": "https://example.org/s" }), Flaw::KeywordRefused),
        (json!({ "$dynamicRef": "#x" }), Flaw::KeywordRefused),
        (json!({ "$anchor": "x" }), Flaw::KeywordRefused),
        (json!({ "$schema": "http://json-schema.org/draft-07/schema#" }), Flaw::KeywordRefused),
        (json!({ "contentEncoding": "base64" }), Flaw::KeywordRefused),
    ];
    let text: Vec<(Value, Flaw)> = vec![
        (json!({ "maximum": 500 }), Flaw::KeywordVacuous),
        (json!({ "multipleOf": 5 }), Flaw::KeywordVacuous),
        (json!({ "minItems": 5 }), Flaw::KeywordVacuous),
        (json!({ "type": "number" }), Flaw::ValueVacuous),
        (json!({ "enum": ["CHK_001", 2] }), Flaw::ValueVacuous),
        (json!({ "const": null }), Flaw::ValueVacuous),
        (json!({ "format": "account" }), Flaw::Format),
        (json!({ "format": "regex" }), Flaw::Format),
        (json!({ "format": 1 }), Flaw::Format),
        (json!({ "pattern": 1 }), Flaw::NoSchema),
        (json!({ "pattern": "^(a$" }), Flaw::Pattern),
        (json!({ "pattern": "^(?=a)a$" }), Flaw::Pattern),
        (json!({ "pattern": r"^(a)\1$" }), Flaw::Pattern),
        (json!({ "pattern": "^((\\w{100}){100}){100}$" }), Flaw::Pattern),
        (json!({ "pattern": format!("^{}$", "a".repeat(511)) }), Flaw::Pattern),
        (json!({ "maxLength": -1 }), Flaw::NoSchema),
        (json!({ "pattern": "CHK" }), Flaw::PatternOpen),
        (json!({ "pattern": "^CHK" }), Flaw::PatternOpen),
        (json!({ "pattern": "^a$|b$" }), Flaw::PatternOpen),
    ];
    let mut wrong = vec![];
    for (parameter, rows) in [("amount", amount), ("to_account", text)] {
        for (fragment, flaw) in rows {
            let shown: String = fragment.to_string().chars().take(80).collect();
            let found = findings(parameter, fragment);
            let names: Vec<Flaw> = found.iter().map(|finding| finding.flaw).collect();
            if names != [flaw] {
                wrong.push(format!("{parameter} {shown}: {names:?}, not {flaw:?}: {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(findings("wait_s", json!({}))[0].flaw, Flaw::ParameterUnknown);
    let place = &findings("amount", json!({ "maxium": 1 }))[0].place;
    assert_eq!(place, "role r, permissions[0] (authorize_transfer), amount");
}

#[test]
fn fragments_say_what_they_mean_to_the_cent() {
    let table = [
        ("amount", json!({ "maximum": 500 }), json!("500.00"), true),
        ("amount", json!({ "maximum": 500 }), json!("500.01"), false),
        ("amount", json!({ "maximum": 500 }), json!(500.01), false),
        ("amount", json!({ "maximum": 1899.99 }), json!("1899.99"), true),
        ("amount", json!({ "maximum": 9999999999999.98 }), json!("9999999999999.98"), true),
        ("amount", json!({ "maximum": 9999999999999.98 }), json!("9999999999999.99"), false),
        ("amount", json!({ "exclusiveMaximum": 0.3 }), json!("0.30"), false),
        ("amount", json!({ "exclusiveMaximum": 0.3 }), json!("0.29"), true),
        ("amount", json!({ "multipleOf": 0.01 }), json!("0.07"), true),
        ("amount", json!({ "multipleOf": 0.01 }), json!("1899.99"), true),
        ("amount", json!({ "multipleOf": 0.05 }), json!("1.15"), true),
        ("amount", json!({ "multipleOf": 0.05 }), json!("1.17"), false),
        ("amount", json!({ "type": "integer" }), json!("500.00"), true),
        ("amount", json!({ "type": "integer" }), json!("500.50"), false),
        ("amount", json!({ "type": "number" }), json!("500.50"), true),
        ("amount", json!({ "enum": [10, 20.5] }), json!("20.50"), true),
        ("amount", json!({ "enum": [10, 20.5] }), json!("10.00"), true),
        ("amount", json!({ "enum": [10, 20.5] }), json!("10.01"), false),
        ("amount", json!({ "const": 10.0 }), json!("10.00"), true),
        ("amount", json!({ "anyOf": [{ "maximum": 10 }, { "minimum": 90, "maximum": 100 }] }), json!("95"), true),
        ("amount", json!({ "anyOf": [{ "maximum": 10 }, { "minimum": 90, "maximum": 100 }] }), json!("50"), false),
        ("amount", json!({ "not": { "minimum": 50 } }), json!("50.00"), false),
        ("amount", json!({ "if": { "minimum": 50 }, "then": { "multipleOf": 50 } }), json!("150.00"), true),
        ("amount", json!({ "if": { "minimum": 50 }, "then": { "multipleOf": 50 } }), json!("151.00"), false),
        ("amount", json!({ "$defs": { "low": { "maximum": 5 } }, "$ref": "#/$defs/low" }), json!("5.01"), false),
        ("amount", json!({ "$defs": { "low": { "maximum": 5 } }, "$ref": "#/$defs/low" }), json!("5.00"), true),
        ("to_account", json!({ "enum": ["CHK_001"] }), json!("CHK_001"), true),
        ("to_account", json!({ "enum": ["CHK_001"] }), json!("chk_001"), false),
        ("to_account", json!({ "pattern": "^CHK_[0-9]{3}$" }), json!("CHK_001"), true),
        ("to_account", json!({ "pattern": "^CHK_[0-9]{3}$" }), json!("CHK_0011"), false),
        ("to_account", json!({ "pattern": "^CHK_\\d{3}$" }), json!("CHK_\u{661}\u{662}\u{663}"), false),
        ("to_account", json!({ "type": "string", "maxLength": 7 }), json!("CHK_0011"), false),
        ("idempotency_key", json!({ "format": "uuid" }), json!("2f1e1a52-3f5c-4a0e-9d2b-0a8a6d4f9c11"), true),
        ("idempotency_key", json!({ "format": "uuid" }), json!("order-1"), false),
        ("currency", json!({ "const": "USD" }), json!("EUR"), false),
        ("amount", json!({}), json!("1"), true),
    ];
    for (parameter, fragment, value, fits) in table {
        let policy = of(json!({ "role": "r", "permissions": [
            { "tool_name": "authorize_transfer", "action": "invoke", "constraints": { parameter: fragment } }] }));
        let wanted = if fits { Ruling::Permitted { at: 0 } } else { Ruling::Violated { at: 0, parameter } };
        let found = ruling(&policy, "r", "authorize_transfer", &json!({ parameter: value }));
        assert_eq!(found, wanted, "{parameter} {fragment} {value}");
        let without = ruling(&policy, "r", "authorize_transfer", &json!({}));
        assert_eq!(without, Ruling::Missing { at: 0, parameter }, "{fragment}");
    }
}

#[test]
fn a_denial_wins_and_of_several_permissions_one_must_fit_wholly() {
    let permission =
        |tool: &str, constraints: Value| json!({ "tool_name": tool, "action": "invoke", "constraints": constraints });
    let policy = of(json!([{ "role": "r", "deny_tools": ["execute_transfer"], "permissions": [
        permission("authorize_transfer", json!({ "to_account": { "enum": ["A"] }, "amount": { "maximum": 100 } })),
        permission("execute_transfer", json!({})),
        permission("authorize_transfer", json!({ "to_account": { "enum": ["B"] }, "amount": { "maximum": 5 } })),
        permission("get_transaction", json!({})),
    ] }, { "role": "empty" }]));
    let transfer = |to: &str, amount: &str| json!({ "to_account": to, "amount": amount });
    let table = [
        ("r", "authorize_transfer", transfer("A", "100"), Ruling::Permitted { at: 0 }),
        ("r", "authorize_transfer", transfer("B", "5"), Ruling::Permitted { at: 2 }),
        // Not one parameter of each.
        ("r", "authorize_transfer", transfer("B", "6"), Ruling::Violated { at: 0, parameter: "to_account" }),
        ("r", "authorize_transfer", transfer("A", "101"), Ruling::Violated { at: 0, parameter: "amount" }),
        ("r", "authorize_transfer", json!({ "to_account": "B" }), Ruling::Violated { at: 0, parameter: "to_account" }),
        ("r", "authorize_transfer", json!({ "amount": "5" }), Ruling::Missing { at: 0, parameter: "to_account" }),
        ("r", "execute_transfer", json!({}), Ruling::Denied),
        ("r", "get_transaction", json!({ "transaction_id": "x" }), Ruling::Permitted { at: 3 }),
        ("r", "list_accounts", json!({}), Ruling::NotPermitted),
        ("empty", "list_accounts", json!({}), Ruling::NotPermitted),
        ("R", "get_transaction", json!({}), Ruling::RoleUnnamed),
        ("other", "get_transaction", json!({}), Ruling::RoleUnnamed),
    ];
    for (role, tool, arguments, wanted) in table {
        let found = ruling(&policy, role, tool, &arguments);
        assert_eq!(found, wanted, "{role} {tool} {arguments}");
        let given = policy.gives(role, tool);
        let by_tool = matches!(wanted, Ruling::Permitted { .. } | Ruling::Violated { .. } | Ruling::Missing { .. });
        assert_eq!(given, by_tool, "{role} {tool}");
    }
}

#[test]
fn what_is_not_known_is_told_with_what_there_is() {
    let document = Document::of(json!({ "role": "buyer", "deny_tools": ["authorise_transfer", "trade"] })).unwrap();
    let mut roles = ["auditor", "purchaser"].into_iter();
    let found = Policy::examined(document, &Tools::ours(), Some(&mut roles));
    let told = |flaw: Flaw| {
        let of_flaw = found.findings.iter().filter(|finding| finding.flaw == flaw);
        of_flaw.map(|finding| finding.detail.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told(Flaw::RoleUnknown), ["the role catalogue has no such role; its roles are: auditor, purchaser"]);
    assert_eq!(
        told(Flaw::ToolUnknown),
        [
            "there is no tool \"authorise_transfer\" in the catalogue of tools: it looks like authorize_transfer",
            "there is no tool \"trade\" in the catalogue of tools",
        ]
    );
    let policy = found.policy.unwrap();
    let explained = case::explained(&policy, &Tools::ours(), "buyer", "authorise_transfer", &Map::new());
    assert_eq!((explained.outcome, explained.reason), (Expected::Deny, Some("tool_denied_by_policy")));
    assert!(explained.words.starts_with("there is no tool \"authorise_transfer\""), "{}", explained.words);
    let misplaced = Document::of(json!({ "policy": { "transactions": [{ "name": "dollars" }] } })).unwrap_err();
    assert_eq!(misplaced.flaw, Flaw::UnknownMember);
    assert!(misplaced.detail.contains("countersign.toml"), "{misplaced}");
}

#[test]
fn rules_about_payments_alone_leave_the_roles_to_the_catalogue() {
    let policy = of(json!({ "transactions": [{ "name": "dollars", "roles": ["buyer"], "currencies": ["USD"] }] }));
    assert_eq!(ruling(&policy, "anybody", "list_accounts", &json!({})), Ruling::NotAsked);
    assert!(policy.gives("anybody", "list_accounts"));
    assert_eq!(policy.transactions().iter().count(), 1);
    assert_eq!(Policy::stored(policy.canonical()).unwrap(), policy);
    let mut roles = ["seller"].into_iter();
    let found = Policy::examined(policy.document().clone(), &Tools::ours(), Some(&mut roles));
    assert_eq!(found.findings.iter().map(|it| it.flaw).collect::<Vec<_>>(), [Flaw::RoleUnknown]);
    let more = Document::of(json!({ "transactions": [{ "name": "dollars" }] })).unwrap();
    let merged = Document::merged([policy.document().clone(), more]);
    assert_eq!(merged.map_err(|finding| finding.flaw), Err(Flaw::TransactionRule), "one name, two rules");
}

#[test]
fn a_policy_is_not_lost_on_its_way_through_text() {
    let policy = of(json!({ "role": "r", "permissions": [
        { "tool_name": "authorize_transfer", "action": "invoke", "constraints": { "amount": { "maximum": 5.5 } } }] }));
    let back: Policy = serde_json::from_str(&serde_json::to_string(&policy).unwrap()).unwrap();
    assert_eq!(back, policy);
    let over = json!({ "amount": "5.51" });
    assert_eq!(ruling(&back, "r", "authorize_transfer", &over), Ruling::Violated { at: 0, parameter: "amount" });
    serde_json::from_str::<Policy>("{}").unwrap_err();
    serde_json::from_value::<Policy>(json!({ "roles": [{ "role": "r", "permissions": [
        { "tool_name": "a", "action": "invoke", "constraints": { "amount": { "maxium": 5 } } }] }] }))
    .unwrap_err();
}

#[test]
fn a_table_of_cases_names_each_case_that_came_out_otherwise() {
    let policy = of(json!({ "role": "r", "deny_tools": ["execute_transfer"], "permissions": [
        { "tool_name": "authorize_transfer", "action": "invoke", "constraints": { "amount": { "maximum": 5 } } }] }));
    let case = |tool: &str, amount: &str, expect: &str| json!({ "role": "r", "tool": tool, "arguments": { "amount": amount }, "expect": expect });
    let with = |mut case: Value, member: &str, value: &str| {
        case[member] = json!(value);
        case
    };
    let table = json!({ "cases": [
        case("authorize_transfer", "5", "allow"),
        with(case("authorize_transfer", "5", "allow"), "rule", "permissions[0]"),
        with(case("authorize_transfer", "6", "deny"), "reason", "constraint_violated"),
        with(case("authorize_transfer", "6", "deny"), "rule", "permissions[0].constraints.amount"),
        with(case("execute_transfer", "6", "deny"), "rule", "deny_tools"),
        // These fail.
        case("authorize_transfer", "5", "deny"),
        case("authorize_transfer", "6", "allow"),
        with(case("authorize_transfer", "6", "deny"), "reason", "tool_denied"),
        with(case("execute_transfer", "6", "deny"), "rule", "permissions[0]"),
        with(case("authorize_transfer", "6", "deny"), "rule", "permissions[0].constraints.to_account"),
    ] });
    let cases = case::cases(table).unwrap();
    let failed = case::failing(&policy, &Tools::ours(), None, &cases);
    assert_eq!(failed.iter().map(|failed| failed.at).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
    assert_eq!(failed[1].found.keyword.as_deref(), Some("/maximum"));
    assert_eq!(failed[1].found.outcome, Expected::Deny);
    let unknown =
        case::explained(&policy, &Tools::ours(), "r", "authorize_transfer", json!({ "to": 1 }).as_object().unwrap());
    assert_eq!((unknown.outcome, unknown.reason), (Expected::Deny, Some("arguments_invalid")));
    for bad in [
        json!({}),
        json!([]),
        json!({ "cases": 1 }),
        json!([{ "role": "r" }]),
        json!([{ "role": "r", "tool": "t", "expect": "maybe" }]),
        json!([{ "role": "r", "tool": "t", "expect": "allow", "note": "" }]),
    ] {
        assert_eq!(case::cases(bad.clone()).map_err(|finding| finding.flaw), Err(Flaw::Shape), "{bad}");
    }
}

#[test]
fn names_of_flaws_are_distinct() {
    let mut names: Vec<&str> = Flaw::ALL.iter().map(|flaw| flaw.name()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(Flaw::ALL.iter().all(|flaw| !flaw.next_step().is_empty()));
}

/// Minor units of a currency with two decimals, as an amount is written.
fn cents(minor: i64) -> String {
    format!("{}.{:02}", minor / 100, minor % 100)
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    /// The oracle counts in integers: whatever passes through a float on the way must not be seen.
    #[test]
    fn limits_agree_with_integers_to_the_cent(
        limit in proptest::prop_oneof![1_i64..10_000, 1_i64..999_999_999_999_999],
        near in -3_i64..=3,
        far in 1_i64..999_999_999_999_999,
        step in proptest::sample::select(vec![1_i64, 5, 25, 100, 250]),
    ) {
        let number = |minor: i64| super::role::decimal(&cents(minor)).unwrap();
        let policy = |fragment: Value| of(json!({ "role": "r", "permissions": [
            { "tool_name": "authorize_transfer", "action": "invoke", "constraints": { "amount": fragment } }] }));
        let fits = |policy: &Policy, minor: i64| {
            let found = ruling(policy, "r", "authorize_transfer", &json!({ "amount": cents(minor) }));
            matches!(found, Ruling::Permitted { .. })
        };
        let rules = [
            (policy(json!({ "maximum": number(limit) })), "maximum"),
            (policy(json!({ "exclusiveMinimum": number(limit) })), "exclusiveMinimum"),
            (policy(json!({ "const": number(limit) })), "const"),
            (policy(json!({ "multipleOf": number(step) })), "multipleOf"),
        ];
        for minor in [limit, (limit + near).max(1), far] {
            let wanted = [minor <= limit, minor > limit, minor == limit, minor % step == 0];
            for ((policy, keyword), wanted) in rules.iter().zip(wanted) {
                proptest::prop_assert_eq!(fits(policy, minor), wanted, "{} {} {}", keyword, cents(limit), cents(minor));
            }
        }
    }
}
