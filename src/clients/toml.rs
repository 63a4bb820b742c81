//! TOML configurations (Codex): comments, order and spacing of everything else are kept.

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value, value};

use super::Outcome;
use super::entry::{Change, ENVIRONMENT, Edited, Refused, Server, ServerName, is_ours, is_telling};

/// The text after the change.
///
/// # Errors
/// [`Refused`]; nothing of a text is guessed.
pub(super) fn edit(text: &str, servers_member: &str, change: &Change<'_>) -> Result<Edited, Refused> {
    // The editor writes line feeds; a file that has carriage returns gets them back.
    let returns = text.contains("\r\n");
    let body = if returns { text.replace("\r\n", "\n") } else { text.to_owned() };
    let mut document = parse(&body)?;
    if returns && body.replace('\n', "\r\n") != text {
        return Err(Refused::Unreadable("some of its lines end in a carriage return and some do not".to_owned()));
    }
    let (outcome, foreign) = match change {
        Change::Put { server, replace } => put(&mut document, servers_member, server, *replace)?,
        Change::Remove { name } => (remove(&mut document, servers_member, name)?, Vec::new()),
    };
    let text = match outcome {
        Outcome::Unchanged => text.to_owned(),
        Outcome::Installed | Outcome::Updated | Outcome::Uninstalled => {
            let body = document.to_string();
            // What a client will read, not what was meant.
            parse(&body)?;
            if returns { body.replace('\n', "\r\n") } else { body }
        }
    };
    Ok(Edited { text, outcome, foreign })
}

fn put(
    document: &mut DocumentMut,
    servers_member: &str,
    server: &Server,
    replace: bool,
) -> Result<(Outcome, Vec<String>), Refused> {
    let top = document.as_table_mut();
    if !top.contains_key(servers_member) {
        let mut servers = Table::new();
        // `[mcp_servers.bank]` alone, without an empty `[mcp_servers]` above it.
        servers.set_implicit(true);
        top.insert(servers_member, Item::Table(servers));
    }
    let within_a_value = top.get(servers_member).is_some_and(Item::is_value);
    let servers = table(top.get_mut(servers_member), servers_member)?;
    let name = server.name.as_str();
    let present = servers.get(name);
    match present.and_then(command_of) {
        None if present.is_none() => {
            servers.insert(name, entry(server, within_a_value));
            Ok((Outcome::Installed, Vec::new()))
        }
        Some((command, args)) if is_ours(&command, &args) => {
            let ours = table(servers.get_mut(name), name)?;
            let mut outcome = Outcome::Unchanged;
            if command != server.command {
                bring_about(ours, "command", server.command.as_str().into());
                outcome = Outcome::Updated;
            }
            if args != server.args {
                bring_about(ours, "args", words(server).into());
                outcome = Outcome::Updated;
            }
            Ok((outcome, foreign(ours)))
        }
        Some(_) | None if replace => {
            servers.insert(name, entry(server, within_a_value));
            Ok((Outcome::Updated, Vec::new()))
        }
        command => Err(taken(name, command)),
    }
}

fn remove(document: &mut DocumentMut, servers_member: &str, name: &ServerName) -> Result<Outcome, Refused> {
    let Some(servers) = document.as_table_mut().get_mut(servers_member) else { return Ok(Outcome::Unchanged) };
    let servers = table(Some(servers), servers_member)?;
    let Some(present) = servers.get(name.as_str()) else { return Ok(Outcome::Unchanged) };
    match command_of(present) {
        Some((command, args)) if is_ours(&command, &args) => {
            servers.remove(name.as_str());
            Ok(Outcome::Uninstalled)
        }
        command => Err(taken(name.as_str(), command)),
    }
}

/// The names of what an entry of ours has besides, as far as it is to be pointed out.
fn foreign(entry: &dyn TableLike) -> Vec<String> {
    let besides = entry.iter().filter(|(name, _)| !["command", "args"].contains(name) && is_telling(name));
    let told = besides.flat_map(|(name, member)| match member.as_table_like() {
        Some(variables) if name == ENVIRONMENT => {
            variables.iter().map(|(variable, _)| format!("{name}.{variable}")).collect()
        }
        Some(_) | None => vec![name.to_owned()],
    });
    told.collect()
}

/// Our entry: a table of its own, or a value where all servers are one.
fn entry(server: &Server, within_a_value: bool) -> Item {
    if within_a_value {
        let mut entry = InlineTable::new();
        entry.insert("command", server.command.as_str().into());
        entry.insert("args", words(server).into());
        return value(entry);
    }
    let mut entry = Table::new();
    entry.insert("command", value(server.command.as_str()));
    entry.insert("args", value(words(server)));
    Item::Table(entry)
}

fn words(server: &Server) -> Array {
    server.args.iter().map(String::as_str).collect()
}

/// Gives a member this value; the comment behind it stays.
fn bring_about(entry: &mut dyn TableLike, name: &str, mut new: Value) {
    match entry.get_mut(name).and_then(Item::as_value_mut) {
        Some(present) => {
            *new.decor_mut() = present.decor().clone();
            *present = new;
        }
        None => {
            entry.insert(name, Item::Value(new));
        }
    }
}

fn parse(text: &str) -> Result<DocumentMut, Refused> {
    let document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        // The first line names the place; the others draw it.
        let why = error.to_string();
        Refused::Unreadable(format!("it is no TOML: {}", why.lines().next().unwrap_or_default()))
    })?;
    let written = document.to_string();
    // The editor ends the last line where the user did not.
    if written != text && written.strip_suffix('\n') != Some(text) {
        return Err(Refused::Unreadable("its text cannot be kept as it is".to_owned()));
    }
    Ok(document)
}

fn table<'a>(item: Option<&'a mut Item>, name: &str) -> Result<&'a mut dyn TableLike, Refused> {
    item.and_then(Item::as_table_like_mut).ok_or_else(|| Refused::Unreadable(format!("{name} is no table")))
}

fn taken(name: &str, command: Option<(String, Vec<String>)>) -> Refused {
    let command = command.map_or_else(|| "no program".to_owned(), |(command, _)| command);
    Refused::NameTaken { name: name.to_owned(), command }
}

/// What an entry starts, and with which words.
fn command_of(entry: &Item) -> Option<(String, Vec<String>)> {
    let entry = entry.as_table_like()?;
    let command = entry.get("command")?.as_str()?.to_owned();
    let word = |word: &Value| word.as_str().map(str::to_owned);
    let args = entry.get("args").and_then(Item::as_array);
    Some((command, args.and_then(|args| args.iter().map(word).collect()).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server::bridge("bank".parse().unwrap(), "/opt/countersign".to_owned(), "shopper", "/s".to_owned())
    }

    fn put(text: &str) -> Result<Edited, Refused> {
        edit(text, "mcp_servers", &Change::Put { server: &server(), replace: false })
    }

    fn take(text: &str) -> Result<Edited, Refused> {
        edit(text, "mcp_servers", &Change::Remove { name: &"bank".parse().unwrap() })
    }

    const ALONE: &str = "[mcp_servers.bank]\ncommand = \"/opt/countersign\"\n\
                         args = [\"connect\", \"--agent\", \"shopper\", \"--state\", \"/s\"]\n";

    #[test]
    fn a_file_that_holds_nothing_gets_our_table_alone() {
        assert_eq!(put("").unwrap().text, ALONE);
    }

    #[test]
    fn what_is_not_ours_stays_and_our_table_comes_and_goes() {
        let others = [
            "# mine\nmodel = \"x\"   # which\n\n[mcp_servers.files] # all\ncommand = 'npx'\nargs = []\n\n[tui]\na=1\n",
            "model = \"x\"\r\n[tui]\r\na = 1 # b\r\n",
            "mcp_servers = { files = { command = \"npx\" } } # inline\n",
            "mcp_servers.files.command = \"npx\"\n",
            "[mcp_servers]\n# none\n",
            "x = 1",
        ];
        for before in others {
            let with = put(before).unwrap();
            assert_eq!(with.outcome, Outcome::Installed, "{before}");
            let missing: Vec<_> = before.lines().filter(|line| !line.starts_with("mcp_servers = {")).collect();
            assert!(missing.iter().all(|line| with.text.contains(line)), "{before}\n{}", with.text);
            assert_eq!(put(&with.text).unwrap().outcome, Outcome::Unchanged, "{}", with.text);
            let without = take(&with.text).unwrap();
            assert_eq!((without.outcome, without.text.trim_end()), (Outcome::Uninstalled, before.trim_end()));
            assert_eq!(take(&without.text).unwrap().outcome, Outcome::Unchanged);
        }
    }

    #[test]
    fn a_table_of_ours_is_brought_up_to_date_and_keeps_what_was_added_to_it() {
        let old = "[mcp_servers.bank]\ncommand = \"/old/countersign\" # ours\nargs = [\"connect\"]\nenabled = false\n";
        let new = put(old).unwrap();
        assert_eq!(new.outcome, Outcome::Updated);
        assert!(
            new.text.contains("command = \"/opt/countersign\" # ours\nargs = [\"connect\", \"--agent\""),
            "{}",
            new.text
        );
        assert!(new.text.contains("enabled = false"), "{}", new.text);
        assert!(new.foreign.is_empty());
        for more in ["env = { PATH = \"/x\" }\n", "env.PATH = \"/x\"\n", "[mcp_servers.bank.env]\nPATH = \"/x\"\n"] {
            assert_eq!(put(&format!("{ALONE}{more}")).unwrap().foreign, ["env.PATH"], "{more}");
        }
        assert_eq!(put(&format!("{ALONE}env_vars = [\"HOME\"]\nenv = 1\n")).unwrap().foreign, ["env_vars", "env"]);
    }

    #[test]
    fn a_server_of_the_name_that_is_not_ours_is_left_unless_its_place_is_to_be_taken() {
        for entry in ["[mcp_servers.bank]\ncommand = \"npx\"\n", "[mcp_servers.bank]\nurl = \"https://x\"\n"] {
            assert!(matches!(put(entry), Err(Refused::NameTaken { .. })), "{entry}");
            assert!(matches!(take(entry), Err(Refused::NameTaken { .. })), "{entry}");
            let taken = edit(entry, "mcp_servers", &Change::Put { server: &server(), replace: true }).unwrap();
            assert_eq!(put(&taken.text).unwrap().outcome, Outcome::Unchanged, "{}", taken.text);
        }
    }

    #[test]
    fn what_does_not_parse_is_refused() {
        for text in ["[", "a = ", "a = 1\na = 2\n", "mcp_servers = 1\n", "[[mcp_servers]]\n", "a = 1\r\nb = 2\n"] {
            assert!(matches!(put(text), Err(Refused::Unreadable(_))), "{text}");
        }
    }
}
