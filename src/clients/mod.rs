//! MCP clients that people already use: where each keeps its servers, and how ours gets into that file and out of it.
//!
//! A client's configuration belongs to its user. One member of it is ours; all else stays as it was, to the byte.

mod diff;
mod entry;
mod file;
mod jsonc;
mod toml;

use std::path::{Path, PathBuf};

pub use entry::{Server, ServerName};

use crate::ops::failure::Failure;
use entry::{Change, Edited, Refused};

/// An MCP client that `countersign install` knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Client {
    ClaudeDesktop,
    ClaudeCode,
    Cursor,
    Vscode,
    Codex,
    Windsurf,
    Zed,
}

/// For whom a server is configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Scope {
    /// This user, wherever the client is started.
    User,
    /// Everybody who opens the project in the current directory.
    Project,
}

/// The systems whose places are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum System {
    Linux,
    MacOs,
    Windows,
}

/// The directories in which clients keep their files.
#[derive(Clone, Debug)]
pub struct Places {
    pub system: System,
    pub home: PathBuf,
    /// `$XDG_CONFIG_HOME`, or its default.
    pub config: PathBuf,
    /// `%APPDATA%`, or its default.
    pub app_data: PathBuf,
    pub project: PathBuf,
    /// Where a client was told to keep its files, by its own environment variable.
    pub claude_config_dir: Option<PathBuf>,
    pub codex_home: Option<PathBuf>,
}

impl Places {
    /// The places of this user on this machine.
    ///
    /// # Errors
    /// `home_unknown`, `project_unknown`.
    pub fn of_this_user() -> Result<Self, Failure> {
        let system = if cfg!(target_os = "macos") {
            System::MacOs
        } else if cfg!(windows) {
            System::Windows
        } else {
            System::Linux
        };
        let home = absolute(if system == System::Windows { "USERPROFILE" } else { "HOME" }).ok_or_else(|| {
            Failure::usage("home_unknown", "the environment names no home directory", "set HOME to an absolute path")
        })?;
        let project = std::env::current_dir().map_err(|error| {
            Failure::usage("project_unknown", format!("no current directory: {error}"), "change into the project")
        })?;
        Ok(Self {
            system,
            config: absolute("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")),
            app_data: absolute("APPDATA").unwrap_or_else(|| home.join("AppData").join("Roaming")),
            claude_config_dir: absolute("CLAUDE_CONFIG_DIR"),
            codex_home: absolute("CODEX_HOME"),
            home,
            project,
        })
    }

    /// Where applications keep what their user configured.
    fn application_data(&self) -> PathBuf {
        match self.system {
            System::Linux => self.config.clone(),
            System::MacOs => self.home.join("Library").join("Application Support"),
            System::Windows => self.app_data.clone(),
        }
    }
}

/// The directory that this variable names; a relative one means nothing (XDG base directories, "Basics").
fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// How a client writes its servers down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Syntax {
    /// JSON; comments and trailing commas are kept where the user has them.
    Json,
    Toml,
}

impl Client {
    pub fn title(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "Claude Desktop",
            Self::ClaudeCode => "Claude Code",
            Self::Cursor => "Cursor",
            Self::Vscode => "VS Code",
            Self::Codex => "Codex",
            Self::Windsurf => "Windsurf",
            Self::Zed => "Zed",
        }
    }

    /// What a person does for the client to read its configuration again.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "quit Claude Desktop and start it again",
            Self::ClaudeCode => "start a new session; `claude mcp list` shows the server",
            Self::Cursor => "open Cursor's settings, Tools & MCP, and switch the server on",
            Self::Vscode => "run \"MCP: List Servers\" in VS Code and start the server",
            Self::Codex => "start a new session; `codex mcp list` shows the server",
            Self::Windsurf => "refresh the list of MCP servers in Windsurf's settings",
            Self::Zed => "Zed reads its settings at once; see its agent panel's settings",
        }
    }

    /// The file that holds this client's servers; `None` where it has no such scope.
    pub fn file(self, scope: Scope, places: &Places) -> Option<PathBuf> {
        let Places { home, project, .. } = places;
        match (self, scope) {
            (Self::ClaudeDesktop, Scope::User) => {
                Some(places.application_data().join("Claude").join("claude_desktop_config.json"))
            }
            (Self::ClaudeCode, Scope::User) => {
                Some(places.claude_config_dir.as_ref().unwrap_or(home).join(".claude.json"))
            }
            (Self::ClaudeCode, Scope::Project) => Some(project.join(".mcp.json")),
            (Self::Cursor, Scope::User) => Some(home.join(".cursor").join("mcp.json")),
            (Self::Cursor, Scope::Project) => Some(project.join(".cursor").join("mcp.json")),
            (Self::Vscode, Scope::User) => Some(places.application_data().join("Code").join("User").join("mcp.json")),
            (Self::Vscode, Scope::Project) => Some(project.join(".vscode").join("mcp.json")),
            (Self::Codex, Scope::User) => {
                Some(places.codex_home.clone().unwrap_or_else(|| home.join(".codex")).join("config.toml"))
            }
            (Self::Codex, Scope::Project) => Some(project.join(".codex").join("config.toml")),
            (Self::Windsurf, Scope::User) => Some(home.join(".codeium").join("windsurf").join("mcp_config.json")),
            (Self::Zed, Scope::User) => Some(match places.system {
                System::Linux => places.config.join("zed").join("settings.json"),
                System::MacOs => home.join(".config").join("zed").join("settings.json"),
                System::Windows => places.app_data.join("Zed").join("settings.json"),
            }),
            (Self::Zed, Scope::Project) => Some(project.join(".zed").join("settings.json")),
            (Self::ClaudeDesktop | Self::Windsurf, Scope::Project) => None,
        }
    }

    fn syntax(self) -> Syntax {
        match self {
            Self::Codex => Syntax::Toml,
            Self::ClaudeDesktop | Self::ClaudeCode | Self::Cursor | Self::Vscode | Self::Windsurf | Self::Zed => {
                Syntax::Json
            }
        }
    }

    /// The member that holds all servers.
    fn servers_member(self) -> &'static str {
        match self {
            Self::ClaudeDesktop | Self::ClaudeCode | Self::Cursor | Self::Windsurf => "mcpServers",
            Self::Vscode => "servers",
            Self::Codex => "mcp_servers",
            Self::Zed => "context_servers",
        }
    }

    /// The member of a server's entry that says how it is reached, where the client asks for one.
    fn kind(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::ClaudeCode | Self::Cursor | Self::Vscode => Some(("type", "stdio")),
            Self::Zed => Some(("source", "custom")),
            Self::ClaudeDesktop | Self::Codex | Self::Windsurf => None,
        }
    }

    /// What a person would paste into the client's configuration by hand.
    ///
    /// # Errors
    /// None that a user can cause: an empty file takes every entry.
    pub fn snippet(self, server: &Server) -> Result<String, Failure> {
        let change = Change::Put { server, replace: false };
        self.edit("", &change).map(|edited| edited.text).map_err(|refused| refused.of(Path::new("the snippet")))
    }

    /// The text of this client's configuration after the change.
    fn edit(self, text: &str, change: &Change<'_>) -> Result<Edited, Refused> {
        match self.syntax() {
            Syntax::Json => jsonc::edit(text, self.servers_member(), self.kind(), change),
            Syntax::Toml => toml::edit(text, self.servers_member(), change),
        }
    }
}

/// What is to be done with a client's configuration.
#[derive(Clone, Copy, Debug)]
pub enum Order<'a> {
    /// Ours is there, as given; `replace` takes the place of a server of this name that is not ours.
    Install { server: &'a Server, replace: bool },
    /// Ours is gone.
    Uninstall { name: &'a ServerName },
}

/// Whether anything is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writing {
    Yes,
    /// Only what would change is told.
    DryRun,
}

/// What became of a client's configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Installed,
    Updated,
    Uninstalled,
    Unchanged,
}

/// What was done, or would be.
#[derive(Debug)]
pub struct Report {
    pub outcome: Outcome,
    /// The file itself, links followed.
    pub file: PathBuf,
    /// The file as it was before, if anything was written over.
    pub backup: Option<PathBuf>,
    /// What changes, a line each.
    pub difference: String,
    /// Members that our entry has besides and that change what is started or how it may be called, by name alone: their
    /// values may be secrets. They stay.
    pub foreign: Vec<String>,
}

/// Carries out an order on the configuration of a client: under a lock against other runs of this, with a backup beside
/// it, replaced as a whole; and from the start again when somebody else wrote to it meanwhile.
///
/// # Errors
/// `client_config_unreadable`, `client_config_unwritable`, `server_name_taken`, `client_config_busy`; the file is as it
/// was before.
pub fn carry_out(client: Client, place: &Path, order: &Order<'_>, writing: Writing) -> Result<Report, Failure> {
    let change = match order {
        Order::Install { server, replace } => Change::Put { server, replace: *replace },
        Order::Uninstall { name } => Change::Remove { name },
    };
    let path = file::followed(place)?;
    let edited = |before: &file::Content| {
        let edited = client.edit(before.text(), &change).map_err(|refused| refused.of(&path))?;
        let difference = diff::lines(before.text(), &edited.text);
        Ok::<_, Failure>((edited, difference))
    };
    let nothing_to_undo = matches!(order, Order::Uninstall { .. }) && !path.exists();
    if writing == Writing::DryRun || nothing_to_undo {
        let (Edited { outcome, foreign, .. }, difference) = edited(&file::read(&path)?)?;
        return Ok(Report { outcome, file: path.clone(), backup: None, difference, foreign });
    }
    let _lock = file::lock(&path)?;
    for _ in 0..ATTEMPTS_MAX {
        let before = file::read(&path)?;
        let (Edited { text, outcome, foreign }, difference) = edited(&before)?;
        if outcome == Outcome::Unchanged {
            return Ok(Report { outcome, file: path.clone(), backup: None, difference, foreign });
        }
        if let file::Replaced::Yes { backup } = file::replace(&path, &before, &text)? {
            return Ok(Report { outcome, file: path.clone(), backup, difference, foreign });
        }
    }
    Err(Failure::busy(
        "client_config_busy",
        format!("{} was written to by another program each time it was about to be replaced", path.display()),
        format!("quit {} and try again", client.title()),
    ))
}

/// How often a file is read again that another program wrote to meanwhile.
const ATTEMPTS_MAX: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn places(system: System) -> Places {
        Places {
            system,
            home: "/home/ann".into(),
            config: "/home/ann/.config".into(),
            app_data: "/users/ann/roaming".into(),
            project: "/work/shop".into(),
            claude_config_dir: None,
            codex_home: None,
        }
    }

    #[test]
    fn each_client_keeps_its_servers_where_its_maker_says() {
        use Client::{ClaudeCode, ClaudeDesktop, Codex, Cursor, Vscode, Windsurf, Zed};
        use System::{Linux, MacOs, Windows};
        let user = [
            (ClaudeDesktop, Linux, "/home/ann/.config/Claude/claude_desktop_config.json"),
            (ClaudeDesktop, MacOs, "/home/ann/Library/Application Support/Claude/claude_desktop_config.json"),
            (ClaudeDesktop, Windows, "/users/ann/roaming/Claude/claude_desktop_config.json"),
            (ClaudeCode, Linux, "/home/ann/.claude.json"),
            (ClaudeCode, Windows, "/home/ann/.claude.json"),
            (Cursor, MacOs, "/home/ann/.cursor/mcp.json"),
            (Vscode, Linux, "/home/ann/.config/Code/User/mcp.json"),
            (Vscode, MacOs, "/home/ann/Library/Application Support/Code/User/mcp.json"),
            (Vscode, Windows, "/users/ann/roaming/Code/User/mcp.json"),
            (Codex, Linux, "/home/ann/.codex/config.toml"),
            (Windsurf, Windows, "/home/ann/.codeium/windsurf/mcp_config.json"),
            (Zed, Linux, "/home/ann/.config/zed/settings.json"),
            (Zed, MacOs, "/home/ann/.config/zed/settings.json"),
            (Zed, Windows, "/users/ann/roaming/Zed/settings.json"),
        ];
        for (client, system, expected) in user {
            assert_eq!(
                client.file(Scope::User, &places(system)).unwrap(),
                Path::new(expected),
                "{client:?} {system:?}"
            );
        }
        let project = [
            (ClaudeDesktop, None),
            (ClaudeCode, Some("/work/shop/.mcp.json")),
            (Cursor, Some("/work/shop/.cursor/mcp.json")),
            (Vscode, Some("/work/shop/.vscode/mcp.json")),
            (Codex, Some("/work/shop/.codex/config.toml")),
            (Windsurf, None),
            (Zed, Some("/work/shop/.zed/settings.json")),
        ];
        for (client, expected) in project {
            assert_eq!(client.file(Scope::Project, &places(Linux)).as_deref(), expected.map(Path::new), "{client:?}");
        }
    }

    #[test]
    fn a_client_that_was_told_where_to_keep_its_files_is_followed() {
        let moved = Places {
            claude_config_dir: Some("/data/claude".into()),
            codex_home: Some("/data/codex".into()),
            ..places(System::Linux)
        };
        assert_eq!(Client::ClaudeCode.file(Scope::User, &moved).unwrap(), Path::new("/data/claude/.claude.json"));
        assert_eq!(Client::Codex.file(Scope::User, &moved).unwrap(), Path::new("/data/codex/config.toml"));
    }
}
