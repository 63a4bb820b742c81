//! Our server's entry in a client's configuration: what it says, what counts as ours, and why an edit is refused.

use std::path::Path;
use std::str::FromStr;

use super::Outcome;
use crate::ops::failure::Failure;

/// The verb that a client starts us with.
const VERB: &str = "connect";

/// A server's name in a client's configuration: what every client takes in a tool's full name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerName(String);

/// The longest name that leaves room for a tool's own in the 64 characters that models allow for both.
const NAME_CHARACTERS_MAX: usize = 24;

impl ServerName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let taken = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        if text.is_empty() || text.len() > NAME_CHARACTERS_MAX || !text.chars().all(taken) {
            return Err(format!("1 to {NAME_CHARACTERS_MAX} letters, digits, - and _"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// What a client starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    pub name: ServerName,
    /// Absolute: clients have a search path of their own.
    pub command: String,
    pub args: Vec<String>,
}

impl Server {
    /// The bridge of an agent.
    pub fn bridge(name: ServerName, program: String, agent: &str, state: String) -> Self {
        let args = vec![VERB.to_owned(), "--agent".to_owned(), agent.to_owned(), "--state".to_owned(), state];
        Self { name, command: program, args }
    }
}

/// Whether an entry starts this program's bridge, wherever the program was when the entry was written.
pub(super) fn is_ours(command: &str, args: &[String]) -> bool {
    let program = command.rsplit(['/', '\\']).next().unwrap_or(command);
    matches!(program, "countersign" | "countersign.exe") && args.first().is_some_and(|verb| verb == VERB)
}

/// Members that leave what is started as it is, and when and by whom it may be called.
const HARMLESS: [&str; 7] =
    ["description", "disabled", "enabled", "startup_timeout_ms", "startup_timeout_sec", "timeout", "tool_timeout_sec"];

/// The member whose own members are the program's environment.
pub(super) const ENVIRONMENT: &str = "env";

/// Whether a member of our entry that is not ours is to be pointed out.
pub(super) fn is_telling(member: &str) -> bool {
    !HARMLESS.contains(&member)
}

/// One change of a configuration's text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change<'a> {
    Put { server: &'a Server, replace: bool },
    Remove { name: &'a ServerName },
}

/// A configuration's text after a change.
#[derive(Debug)]
pub(super) struct Edited {
    pub text: String,
    pub outcome: Outcome,
    /// Members that an entry of ours keeps and that change what it is, by name: `cwd`, `env.PATH`.
    pub foreign: Vec<String>,
}

/// Why a configuration is left as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// It does not parse, or not as the client would read it.
    Unreadable(String),
    /// A server of this name is there, and it is not ours.
    NameTaken { name: String, command: String },
}

impl Refused {
    /// The failure that names the file.
    pub(super) fn of(self, path: &Path) -> Failure {
        let path = path.display();
        match self {
            Self::Unreadable(why) => Failure::usage(
                "client_config_unreadable",
                format!("{path} was left as it is: {why}"),
                "correct the file, or print the entry with --print and paste it by hand",
            ),
            Self::NameTaken { name, command } => Failure::usage(
                "server_name_taken",
                // Somebody else's words, which may hold what a terminal obeys.
                format!("{path} has a server {name} that is not ours: it starts {}", command.escape_debug()),
                "choose another name with --name, or take its place with --replace",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_what_starts_the_bridge_wherever_the_program_was() {
        let connect = ["connect".to_owned(), "--agent".to_owned(), "a".to_owned()];
        for program in ["/usr/bin/countersign", "countersign", r"C:\Program Files\countersign.exe", "/old/countersign"]
        {
            assert!(is_ours(program, &connect), "{program}");
        }
        for program in ["/usr/bin/not-countersign", "npx", "/usr/bin/countersign/other", ""] {
            assert!(!is_ours(program, &connect), "{program}");
        }
        assert!(!is_ours("countersign", &[]));
        assert!(!is_ours("countersign", &["serve".to_owned()]));
    }

    #[test]
    fn a_servers_name_is_one_that_every_client_takes() {
        for name in ["bank", "first-bank_2", "B"] {
            assert_eq!(name.parse::<ServerName>().unwrap().as_str(), name);
        }
        for name in ["", "a bank", "bank.", "bänk", "\"", "a/b", "abcdefghijklmnopqrstuvwxy"] {
            assert!(name.parse::<ServerName>().is_err(), "{name}");
        }
    }
}
