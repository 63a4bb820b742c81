//! JSON configurations, with the comments and trailing commas that some clients allow: only our member's text changes.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstObject, CstObjectProp, CstRootNode};

use super::Outcome;
use super::entry::{Change, ENVIRONMENT, Edited, Refused, Server, ServerName, is_ours, is_telling};

/// Comments and trailing commas and nothing else: what Zed and VS Code read.
const READ_AS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Some editors put one before the text; it stays.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text after the change. `kind` is the member that says how a server is reached, where the client asks for one.
///
/// # Errors
/// [`Refused`]; nothing of a text is guessed.
pub(super) fn edit(
    text: &str,
    servers_member: &str,
    kind: Option<(&str, &str)>,
    change: &Change<'_>,
) -> Result<Edited, Refused> {
    let (mark, body) = match text.strip_prefix(BYTE_ORDER_MARK) {
        Some(body) => (Some(BYTE_ORDER_MARK), body),
        None => (None, text),
    };
    let root = parse(body)?;
    let (outcome, foreign) = match change {
        Change::Put { server, replace } => put(&root, servers_member, kind, server, *replace)?,
        Change::Remove { name } => (remove(&root, servers_member, name)?, Vec::new()),
    };
    let text = match outcome {
        Outcome::Unchanged => text.to_owned(),
        Outcome::Installed | Outcome::Updated | Outcome::Uninstalled => {
            let body = root.to_string();
            // What a client will read, not what was meant.
            parse(&body)?;
            mark.into_iter().chain(body.chars()).collect()
        }
    };
    Ok(Edited { text, outcome, foreign })
}

fn put(
    root: &CstRootNode,
    servers_member: &str,
    kind: Option<(&str, &str)>,
    server: &Server,
    replace: bool,
) -> Result<(Outcome, Vec<String>), Refused> {
    let top = root.object_value_or_create().ok_or_else(|| not_an_object("its outermost value"))?;
    let servers = match member(&top, servers_member)? {
        Some(servers) => object(&servers, servers_member)?,
        None => top.object_value_or_set(servers_member),
    };
    let name = server.name.as_str();
    let Some(present) = member(&servers, name)? else {
        let members = entry(kind, server).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        servers.append(name, CstInputValue::Object(members));
        return Ok((Outcome::Installed, Vec::new()));
    };
    match (present.object_value(), command_of(&present)?) {
        (Some(ours), Some((command, args))) if is_ours(&command, &args) => {
            // Members that the user or the client added stay.
            let mut outcome = Outcome::Unchanged;
            for (name, value) in entry(kind, server) {
                if bring_about(&ours, name, value)? {
                    outcome = Outcome::Updated;
                }
            }
            Ok((outcome, foreign(&ours, &entry(kind, server))))
        }
        (_, _) if replace => {
            let members = entry(kind, server).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            present.set_value(CstInputValue::Object(members));
            Ok((Outcome::Updated, Vec::new()))
        }
        (_, command) => Err(taken(name, command)),
    }
}

fn remove(root: &CstRootNode, servers_member: &str, name: &ServerName) -> Result<Outcome, Refused> {
    let Some(top) = root.value() else { return Ok(Outcome::Unchanged) };
    let top = top.as_object().ok_or_else(|| not_an_object("its outermost value"))?;
    let Some(servers) = member(&top, servers_member)? else { return Ok(Outcome::Unchanged) };
    let servers = object(&servers, servers_member)?;
    let Some(present) = member(&servers, name.as_str())? else { return Ok(Outcome::Unchanged) };
    match command_of(&present)? {
        Some((command, args)) if is_ours(&command, &args) => {
            present.remove();
            Ok(Outcome::Uninstalled)
        }
        command => Err(taken(name.as_str(), command)),
    }
}

/// The members of our entry, in the order in which they are written.
fn entry<'a>(kind: Option<(&'a str, &str)>, server: &Server) -> Vec<(&'a str, CstInputValue)> {
    let args = server.args.iter().map(|word| CstInputValue::from(word.as_str())).collect();
    let kind = kind.map(|(name, value)| (name, CstInputValue::from(value)));
    let rest = [("command", CstInputValue::from(server.command.as_str())), ("args", CstInputValue::Array(args))];
    kind.into_iter().chain(rest).collect()
}

/// The names of what an entry of ours has besides, as far as it is to be pointed out.
fn foreign(entry: &CstObject, ours: &[(&str, CstInputValue)]) -> Vec<String> {
    let names = |object: &CstObject| -> Vec<(String, CstObjectProp)> {
        let named = |member: CstObjectProp| Some((member.decoded_name()?, member));
        object.properties().into_iter().filter_map(named).collect()
    };
    let besides = names(entry).into_iter().filter(|(name, _)| ours.iter().all(|(own, _)| own != name));
    let told = besides.filter(|(name, _)| is_telling(name)).flat_map(|(name, member)| match member.object_value() {
        Some(variables) if name == ENVIRONMENT => {
            names(&variables).into_iter().map(|(variable, _)| format!("{name}.{variable}")).collect()
        }
        Some(_) | None => vec![name],
    });
    told.collect()
}

/// Gives a member this value; answers whether it had another one.
fn bring_about(entry: &CstObject, name: &str, value: CstInputValue) -> Result<bool, Refused> {
    let Some(present) = member(entry, name)? else {
        entry.append(name, value);
        return Ok(true);
    };
    let same = match &value {
        CstInputValue::String(wanted) => string(&present).as_ref() == Some(wanted),
        CstInputValue::Array(wanted) => strings(&present).is_some_and(|words| are_these(wanted, &words)),
        CstInputValue::Null | CstInputValue::Bool(_) | CstInputValue::Number(_) | CstInputValue::Object(_) => false,
    };
    if !same {
        present.set_value(value);
    }
    Ok(!same)
}

fn are_these(values: &[CstInputValue], words: &[String]) -> bool {
    let is = |value: &CstInputValue, word: &String| matches!(value, CstInputValue::String(text) if text == word);
    values.len() == words.len() && values.iter().zip(words).all(|(value, word)| is(value, word))
}

fn parse(text: &str) -> Result<CstRootNode, Refused> {
    let root = CstRootNode::parse(text, &READ_AS)
        .map_err(|error| Refused::Unreadable(format!("it is no JSON that its client reads: {error}")))?;
    if root.to_string() != text {
        return Err(Refused::Unreadable("its text cannot be kept as it is".to_owned()));
    }
    Ok(root)
}

/// A member by its name. Readers differ in which one of two they take, so two are refused.
fn member(object: &CstObject, name: &str) -> Result<Option<CstObjectProp>, Refused> {
    let mut found = object.properties().into_iter().filter(|member| member.decoded_name().as_deref() == Some(name));
    let first = found.next();
    if found.next().is_some() {
        return Err(Refused::Unreadable(format!("it has \"{name}\" twice in one object")));
    }
    Ok(first)
}

fn object(member: &CstObjectProp, name: &str) -> Result<CstObject, Refused> {
    member.object_value().ok_or_else(|| not_an_object(&format!("\"{name}\"")))
}

fn not_an_object(what: &str) -> Refused {
    Refused::Unreadable(format!("{what} is no object"))
}

fn taken(name: &str, command: Option<(String, Vec<String>)>) -> Refused {
    let command = command.map_or_else(|| "no program".to_owned(), |(command, _)| command);
    Refused::NameTaken { name: name.to_owned(), command }
}

/// What an entry starts, and with which words.
fn command_of(entry: &CstObjectProp) -> Result<Option<(String, Vec<String>)>, Refused> {
    let Some(entry) = entry.object_value() else { return Ok(None) };
    let Some(command) = member(&entry, "command")?.as_ref().and_then(string) else { return Ok(None) };
    let args = member(&entry, "args")?.as_ref().and_then(strings).unwrap_or_default();
    Ok(Some((command, args)))
}

fn string(member: &CstObjectProp) -> Option<String> {
    member.value()?.as_string_lit()?.decoded_value().ok()
}

fn strings(member: &CstObjectProp) -> Option<Vec<String>> {
    let elements = member.array_value()?.elements();
    elements.iter().map(|element| element.as_string_lit()?.decoded_value().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(state: &str) -> Server {
        Server::bridge("bank".parse().unwrap(), "/opt/countersign".to_owned(), "shopper", state.to_owned())
    }

    fn put(text: &str) -> Result<Edited, Refused> {
        edit(text, "mcpServers", None, &Change::Put { server: &server("/s"), replace: false })
    }

    fn take(text: &str) -> Result<Edited, Refused> {
        edit(text, "mcpServers", None, &Change::Remove { name: &"bank".parse().unwrap() })
    }

    const ALONE: &str = r#"{
  "mcpServers": {
    "bank": {
      "command": "/opt/countersign",
      "args": ["connect", "--agent", "shopper", "--state", "/s"]
    }
  }
}
"#;

    #[test]
    fn a_file_that_holds_nothing_gets_our_entry_alone() {
        for nothing in ["", "{}\n", "{}"] {
            assert_eq!(put(nothing).unwrap().text.trim(), ALONE.trim(), "{nothing:?}");
        }
        assert_eq!(put("").unwrap().text, ALONE);
        assert!(put("// mine\n").unwrap().text.starts_with("// mine\n{"));
    }

    /// What a client may have: comments, trailing commas, tabs, carriage returns, odd numbers, no last newline.
    const OTHERS: [&str; 6] = [
        "{\n  // servers of mine\n  \"mcpServers\": {\n    \"files\": { \"command\": \"npx\", \"args\": [], }, // all\n  },\n  \"theme\": 1.50e+02,\n}\n",
        "{\r\n\t\"theme\":   \"d\\u0061rk\",\r\n\t\"mcpServers\": {}\r\n}\r\n",
        "{\"mcpServers\":{\"a\":{\"command\":\"x\"}},\"n\":12345678901234567890123}",
        "{\n    \"x\": [1,2 , 3],\n    /* last */\n}",
        "\u{feff}{\n  \"x\": null\n}\n",
        "// top\n{ \"mcpServers\": { /* none */ } } // end\n",
    ];

    #[test]
    fn what_is_not_ours_stays_and_our_entry_comes_and_goes() {
        for before in OTHERS {
            let with = put(before).unwrap();
            assert_eq!(with.outcome, Outcome::Installed, "{before}");
            for kept in
                ["1.50e+02", "d\\u0061rk", "12345678901234567890123", "[1,2 , 3]", "/* last */", "// end", "// all"]
            {
                assert_eq!(before.contains(kept), with.text.contains(kept), "{before} {}", with.text);
            }
            assert_eq!(before.starts_with(BYTE_ORDER_MARK), with.text.starts_with(BYTE_ORDER_MARK));
            let lone = |text: &str| text.matches('\n').count() - text.matches("\r\n").count();
            assert!(!before.contains('\r') || lone(&with.text) == 0, "{:?}", with.text);
            let again = put(&with.text).unwrap();
            assert_eq!((again.outcome, &again.text), (Outcome::Unchanged, &with.text));
            let without = take(&with.text).unwrap();
            assert_eq!(without.outcome, Outcome::Uninstalled);
            assert_eq!(take(&without.text).unwrap().outcome, Outcome::Unchanged);
            let value = |text: &str| {
                let text = text.trim_start_matches(BYTE_ORDER_MARK);
                CstRootNode::parse(text, &READ_AS).unwrap().object_value().unwrap().properties().len()
            };
            assert!(value(&without.text) - value(before) <= 1, "{before} {}", without.text);
        }
    }

    #[test]
    fn an_entry_of_ours_is_brought_up_to_date_and_keeps_what_was_added_to_it() {
        let old = r#"{"mcpServers": {"bank": {"command": "/old/countersign", "args": ["connect"], "env": {"A": "1"}, "disabled": true}}}"#;
        let new = put(old).unwrap();
        assert_eq!(new.outcome, Outcome::Updated);
        assert!(new.text.contains(r#""env": {"A": "1"}, "disabled": true"#), "{}", new.text);
        assert!(new.text.contains(r#""command": "/opt/countersign", "args": ["connect", "--agent""#), "{}", new.text);
    }

    #[test]
    fn a_server_of_the_name_that_is_not_ours_is_left_unless_its_place_is_to_be_taken() {
        for entry in [r#"{"command": "npx", "args": ["connect"]}"#, r#"{"url": "https://x"}"#, "null", "[]"] {
            let text = format!(r#"{{"mcpServers": {{"bank": {entry}}}}}"#);
            assert!(matches!(put(&text), Err(Refused::NameTaken { .. })), "{entry}");
            assert!(matches!(take(&text), Err(Refused::NameTaken { .. })), "{entry}");
            let order = Change::Put { server: &server("/s"), replace: true };
            let taken = edit(&text, "mcpServers", None, &order).unwrap();
            assert_eq!(put(&taken.text).unwrap().outcome, Outcome::Unchanged, "{}", taken.text);
        }
    }

    #[test]
    fn what_a_client_could_read_in_two_ways_is_refused() {
        let deep = format!("{}1{}", "[".repeat(2000), "]".repeat(2000));
        let broken = [
            "{",
            "[]",
            "1",
            "{\"mcpServers\": []}",
            "{\"mcpServers\": null}",
            "{} {}",
            "{'a': 1}",
            "{a: 1}",
            "{\"a\": 1 \"b\": 2}",
            "{\"mcpServers\": {}, \"mcpServers\": {}}",
            "{\"mcpServers\": {\"bank\": {}, \"b\\u0061nk\": {}}}",
            "{\"mcpServers\": {\"bank\": {\"command\": \"countersign\", \"command\": \"x\"}}}",
            "{\"a\": 0x1}",
            &deep,
        ];
        for text in broken {
            assert!(matches!(put(text), Err(Refused::Unreadable(_))), "{text}");
        }
    }

    #[test]
    fn what_our_entry_has_besides_is_named_and_stays() {
        let with = |more: &str| ALONE.replacen("\"command\"", &format!("{more}\"command\""), 1);
        for (more, named) in [
            ("", &[][..]),
            ("\"disabled\": true, \"timeout\": 5, ", &[]),
            ("\"env\": {}, ", &[]),
            ("\"env\": { \"LD_PRELOAD\": \"/x\", \"P\\u0041TH\": \"/y\" }, ", &["env.LD_PRELOAD", "env.PATH"]),
            ("\"env\": \"/x\", \"envFile\": \"/y\", \"alwaysAllow\": [], ", &["env", "envFile", "alwaysAllow"]),
        ] {
            let edited = put(&with(more)).unwrap();
            assert_eq!((edited.foreign, edited.text), (named.iter().map(|name| (*name).into()).collect(), with(more)));
        }
    }

    #[test]
    fn a_client_that_asks_how_a_server_is_reached_is_told() {
        let change = Change::Put { server: &server("/s"), replace: false };
        let text = edit("", "servers", Some(("type", "stdio")), &change).unwrap().text;
        assert!(text.contains("\"type\": \"stdio\",\n      \"command\""), "{text}");
    }
}
