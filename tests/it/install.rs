//! `countersign install`, per client: what is in the file before, what is in it after, and who else writes to it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::world::{PROGRAM, World};

/// A person's directories, and an agent host's state directory that has a configuration and nothing else.
struct Desk(tempfile::TempDir);

/// Every client, its file as this desk's person has it, and the member that holds its servers.
const CLIENTS: [(&str, &str, &str); 7] = [
    ("claude-desktop", "config/Claude/claude_desktop_config.json", "mcpServers"),
    ("claude-code", ".claude.json", "mcpServers"),
    ("cursor", ".cursor/mcp.json", "mcpServers"),
    ("vscode", "config/Code/User/mcp.json", "servers"),
    ("codex", ".codex/config.toml", "mcp_servers"),
    ("windsurf", ".codeium/windsurf/mcp_config.json", "mcpServers"),
    ("zed", "config/zed/settings.json", "context_servers"),
];

const AGENT_HOST: &str = r#"
[party.host]
kind = "agent-host"
token = "host"
[hsm.host]
uri = "pkcs11:token=host"
module = "/usr/lib/softhsm/libsofthsm2.so"
[upstream]
url = "https://127.0.0.1:1/mcp"
bank_root = "anchors/bank-root.pem"
"#;

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(desk.path("agent")).unwrap();
        fs::write(desk.path("agent/countersign.toml"), AGENT_HOST).unwrap();
        fs::create_dir_all(desk.path("home/project")).unwrap();
        desk
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside)
    }

    fn file(&self, inside: &str) -> PathBuf {
        self.path("home").join(inside)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(["--json", "install"])
            .args(arguments)
            .arg("--state")
            .arg(self.path("agent"))
            .current_dir(self.file("project"))
            .env("HOME", self.path("home"))
            .env("XDG_CONFIG_HOME", self.file("config"))
            .env("APPDATA", self.file("appdata"))
            .env_remove("CLAUDE_CONFIG_DIR")
            .env_remove("CODEX_HOME");
        command
    }

    /// Runs the verb; what it says when it succeeds, and its name when it does not.
    fn run(&self, arguments: &[&str]) -> Result<Value, (i32, String)> {
        answer(&self.command(arguments).output().unwrap())
    }

    fn install(&self, client: &str) -> Result<Value, (i32, String)> {
        self.run(&[client, "--agent", "assistant"])
    }

    /// Writes a client's file as it was before.
    fn before(&self, inside: &str, text: &str) -> PathBuf {
        let file = self.file(inside);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file
    }

    /// The files beside this one, and it.
    fn beside(&self, file: &Path) -> Vec<String> {
        let names = fs::read_dir(file.parent().unwrap()).unwrap();
        let files = names.map(|entry| entry.unwrap()).filter(|entry| entry.file_type().unwrap().is_file());
        let mut names: Vec<_> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn answer(output: &Output) -> Result<Value, (i32, String)> {
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    let failure: Value = serde_json::from_slice(&output.stderr)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    Err((output.status.code().unwrap(), failure["error"]["name"].as_str().unwrap().to_owned()))
}

/// The server as its client would read it.
fn server(file: &Path, member: &str, name: &str) -> Value {
    let text = fs::read_to_string(file).unwrap();
    let whole: Value = if file.extension().unwrap() == "toml" {
        toml::from_str::<toml::Value>(&text).map(|value| serde_json::to_value(value).unwrap()).unwrap()
    } else {
        // Only what these tests themselves put in as comments and trailing commas.
        let bare: String = text.lines().map(|line| line.split("//").next().unwrap()).collect();
        let is_trailing = |at: usize| bare[at + 1..].trim_start().starts_with(['}', ']']);
        let strict = bare.char_indices().filter(|(at, letter)| *letter != ',' || !is_trailing(*at));
        serde_json::from_str(&strict.map(|(_, letter)| letter).collect::<String>()).unwrap()
    };
    whole[member][name].clone()
}

/// A configuration with servers and members of others, comments where the client reads them.
fn others(client: &str, member: &str) -> String {
    match client {
        "codex" => "# mine\nmodel = \"m\" # which\n\n[mcp_servers.files]\ncommand = 'npx'\nargs = [ ]\n".to_owned(),
        "zed" | "vscode" => format!(
            "{{\n    // mine\n    \"{member}\": {{\n        \"files\": {{ \"command\": \"npx\" }}, // theirs\n    }},\n}}\n"
        ),
        _ => format!("{{\n\t\"{member}\": {{\n\t\t\"files\": {{\"command\":\"npx\"}}\n\t}},\n\t\"x\":   1.50\n}}"),
    }
}

#[test]
fn every_client_gets_our_server_once_and_gives_it_back() {
    for (client, inside, member) in CLIENTS {
        for text in [None, Some(String::new()), Some(others(client, member))] {
            let desk = Desk::new();
            let file = match &text {
                Some(text) => desk.before(inside, text),
                None => desk.file(inside),
            };
            let installed = desk.install(client).unwrap();
            assert_eq!((&installed["outcome"], &installed["file"]), (&json!("installed"), &json!(file)), "{client}");
            assert_eq!(installed["backup"].is_string(), text.is_some(), "{client} {installed}");
            let entry = server(&file, member, "bank");
            let state = desk.path("agent");
            assert_eq!(entry["command"], PROGRAM, "{client}");
            assert_eq!(entry["args"], json!(["connect", "--agent", "assistant", "--state", state]), "{client}");
            let after = fs::read_to_string(&file).unwrap();
            for line in text.iter().flat_map(|text| text.lines()).filter(|line| line.contains(['/', '1', 'm', 'n'])) {
                let kept = line.trim_end_matches(['}', ',']);
                assert!(after.contains(kept), "{client}: {kept} is gone from\n{after}");
            }

            let names = desk.beside(&file);
            let again = desk.install(client).unwrap();
            assert_eq!((&again["outcome"], &again["written"]), (&json!("unchanged"), &json!(false)), "{client}");
            assert_eq!((fs::read_to_string(&file).unwrap(), desk.beside(&file)), (after, names), "{client}");
            if let Some(text) = &text {
                assert_eq!(&fs::read_to_string(installed["backup"].as_str().unwrap()).unwrap(), text, "{client}");
            }

            assert_eq!(desk.run(&[client, "--uninstall"]).unwrap()["outcome"], "uninstalled", "{client}");
            assert_eq!(server(&file, member, "bank"), Value::Null, "{client}");
            assert_eq!(server(&file, member, "files").is_object(), text.is_some_and(|text| !text.is_empty()));
            assert_eq!(desk.run(&[client, "--uninstall"]).unwrap()["outcome"], "unchanged", "{client}");
        }
    }
}

#[test]
fn an_older_entry_of_ours_is_brought_up_to_date_and_anothers_is_not_touched() {
    for (client, inside, member) in CLIENTS {
        let desk = Desk::new();
        desk.install(client).unwrap();
        let file = desk.file(inside);
        let older = fs::read_to_string(&file).unwrap().replace(PROGRAM, "/old/countersign");
        fs::write(&file, &older).unwrap();
        let updated = desk.install(client).unwrap();
        assert_eq!((&updated["outcome"], updated["backup"].is_string()), (&json!("updated"), true), "{client}");
        assert_eq!(server(&file, member, "bank")["command"], PROGRAM, "{client}");

        let foreign = older.replace("/old/countersign", "/usr/bin/npx");
        fs::write(&file, &foreign).unwrap();
        let names = desk.beside(&file);
        let refused = Err((2, "server_name_taken".to_owned()));
        assert_eq!(desk.install(client), refused, "{client}");
        assert_eq!(desk.run(&[client, "--uninstall"]), refused, "{client}");
        assert_eq!((fs::read_to_string(&file).unwrap(), desk.beside(&file)), (foreign, names), "{client}");
        let other = desk.run(&[client, "--agent", "assistant", "--name", "bank-2"]).unwrap();
        assert_eq!(other["outcome"], "installed", "{client}");
        assert_eq!(server(&file, member, "bank")["command"], "/usr/bin/npx", "{client}");
        assert_eq!(desk.run(&[client, "--agent", "assistant", "--replace"]).unwrap()["outcome"], "updated");
        assert_eq!(server(&file, member, "bank")["command"], PROGRAM, "{client}");
    }
}

#[test]
fn what_is_printed_or_only_shown_is_not_written() {
    for (client, inside, member) in CLIENTS {
        let desk = Desk::new();
        let printed = desk.run(&[client, "--agent", "assistant", "--print"]).unwrap();
        assert!(!desk.file(inside).exists(), "{client}");
        let file = desk.before(inside, printed["snippet"].as_str().unwrap());
        assert_eq!(server(&file, member, "bank")["command"], PROGRAM, "{client}");
        assert_eq!(desk.install(client).unwrap()["outcome"], "unchanged", "{client}");

        let before = others(client, member);
        fs::write(&file, &before).unwrap();
        let shown = desk.run(&[client, "--agent", "assistant", "--dry-run"]).unwrap();
        assert_eq!((&shown["outcome"], &shown["written"]), (&json!("installed"), &json!(false)), "{client}");
        assert!(shown["difference"].as_str().unwrap().contains("countersign"), "{client} {shown}");
        assert_eq!(fs::read_to_string(&file).unwrap(), before, "{client}");
        assert_eq!(desk.beside(&file).len(), 1, "{client}");
    }
}

#[test]
fn what_somebody_else_put_into_our_entry_is_pointed_out_by_name_and_never_by_value() {
    for (client, inside, member) in CLIENTS {
        let desk = Desk::new();
        let file = desk.file(inside);
        assert_eq!(desk.install(client).unwrap()["foreign"], json!([]), "{client}");
        let text = fs::read_to_string(&file).unwrap();
        let planted = if client == "codex" {
            format!(
                "{text}cwd = \"/tmp/s3cret\"\nenabled = true\n[{member}.bank.env]\nLD_PRELOAD = \"/tmp/s3cret.so\"\n"
            )
        } else {
            let planted =
                "\"cwd\": \"/tmp/s3cret\", \"disabled\": false, \"env\": { \"LD_PRELOAD\": \"/tmp/s3cret.so\" },";
            text.replacen("\"command\"", &format!("{planted} \"command\""), 1)
        };
        fs::write(&file, &planted).unwrap();
        for more in [&["--dry-run"][..], &["--print"], &[]] {
            let output = desk.command(&[&[client, "--agent", "assistant"], more].concat()).output().unwrap();
            let (told, warned) = (answer(&output).unwrap(), String::from_utf8(output.stderr).unwrap());
            assert_eq!(told["foreign"], json!(["cwd", "env.LD_PRELOAD"]), "{client} {more:?}");
            assert!(warned.contains("cwd, env.LD_PRELOAD"), "{client} {more:?}: {warned}");
            assert!(!warned.contains("s3cret") && !told.to_string().contains("s3cret"), "{client} {more:?}: {warned}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), planted, "{client}");
        desk.run(&[client, "--uninstall"]).unwrap();
        assert_eq!(desk.install(client).unwrap()["foreign"], json!([]), "{client}");
    }
}

#[test]
fn a_configuration_that_does_not_parse_is_left_as_it_is() {
    for (client, inside, _) in CLIENTS {
        for broken in ["{\"a\": ", "= 1", "\u{0}", "[1, 2"] {
            let desk = Desk::new();
            let file = desk.before(inside, broken);
            let unreadable = Err((2, "client_config_unreadable".to_owned()));
            assert_eq!(desk.install(client), unreadable, "{client} {broken}");
            assert_eq!(desk.run(&[client, "--agent", "a", "--dry-run"]), unreadable, "{client} {broken}");
            assert_eq!(desk.run(&[client, "--uninstall"]), unreadable, "{client} {broken}");
            assert_eq!((fs::read_to_string(&file).unwrap(), desk.beside(&file).len()), (broken.to_owned(), 1));
        }
        let desk = Desk::new();
        fs::create_dir_all(desk.file(inside)).unwrap();
        assert_eq!(desk.install(client), Err((2, "client_config_unreadable".to_owned())), "{client}");
    }
}

#[test]
fn a_link_is_followed_and_stays_a_link_and_mode_and_owner_stay() {
    for (client, inside, member) in CLIENTS {
        let desk = Desk::new();
        let link = desk.before(inside, "");
        fs::remove_file(&link).unwrap();
        let real = desk.file("dotfiles").join(link.file_name().unwrap());
        fs::create_dir_all(real.parent().unwrap()).unwrap();
        fs::write(&real, others(client, member)).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&real, Some(65534), Some(65534)).unwrap();
        }
        symlink(&real, &link).unwrap();
        let owner = |path: &Path| fs::metadata(path).map(|of| (of.mode() & 0o7777, of.uid(), of.gid())).unwrap();
        let before = owner(&real);

        let installed = desk.install(client).unwrap();
        assert_eq!(installed["file"], json!(real), "{client}");
        assert!(link.symlink_metadata().unwrap().is_symlink(), "{client}");
        assert_eq!(server(&real, member, "bank")["command"], PROGRAM, "{client}");
        assert_eq!(owner(&real), before, "{client}");
        assert_eq!(owner(Path::new(installed["backup"].as_str().unwrap())), before, "{client}");

        fs::remove_file(&real).unwrap();
        assert_eq!(desk.install(client), Err((2, "client_config_unreadable".to_owned())), "{client}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_to_is_named_and_nothing_is_left_in_it() {
    for (client, inside, member) in CLIENTS {
        let desk = Desk::new();
        let file = desk.before(inside, &others(client, member));
        let directory = file.parent().unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o555)).unwrap();
        fs::set_permissions(desk.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = desk.command(&[client, "--agent", "assistant"]);
        if rustix::process::geteuid().is_root() {
            // Nothing is closed to root.
            command.uid(65534).gid(65534);
        }
        let refused = answer(&command.output().unwrap());
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(refused, Err((2, "client_config_unwritable".to_owned())), "{client}");
        assert_eq!(fs::read_to_string(&file).unwrap(), others(client, member), "{client}");
        assert!(!desk.beside(&file).iter().any(|name| name.contains("countersign")), "{client}");
    }
}

#[test]
fn runs_at_the_same_time_lose_nothing_of_each_other() {
    for (client, inside, member) in CLIENTS {
        let desk = Desk::new();
        let file = desk.before(inside, &others(client, member));
        let names: Vec<String> = (0..6).map(|number| format!("bank-{number}")).collect();
        let running: Vec<_> = names
            .iter()
            .map(|name| {
                desk.command(&[client, "--agent", "assistant", "--name", name])
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for mut run in running {
            assert!(run.wait().unwrap().success(), "{client}");
        }
        for name in names.iter().map(String::as_str).chain(["files"]) {
            assert!(server(&file, member, name).is_object(), "{client} {name}\n{}", fs::read_to_string(&file).unwrap());
        }
        // One backup each, and no half of a file.
        assert_eq!(
            desk.beside(&file).iter().filter(|name| name.contains(".countersign-backup-")).count(),
            6,
            "{client}"
        );
        assert!(
            !desk
                .beside(&file)
                .iter()
                .any(|name| name.starts_with('.') && name.contains(".countersign-") && !name.contains("-backup-"))
        );
    }
}

#[test]
fn a_project_has_servers_of_its_own_where_the_client_has_projects() {
    let files = [
        ("claude-code", ".mcp.json", "mcpServers"),
        ("cursor", ".cursor/mcp.json", "mcpServers"),
        ("vscode", ".vscode/mcp.json", "servers"),
        ("codex", ".codex/config.toml", "mcp_servers"),
        ("zed", ".zed/settings.json", "context_servers"),
    ];
    let desk = Desk::new();
    for (client, inside, member) in files {
        desk.run(&[client, "--agent", "assistant", "--scope", "project"]).unwrap();
        assert_eq!(server(&desk.file("project").join(inside), member, "bank")["command"], PROGRAM, "{client}");
    }
    for client in ["claude-desktop", "windsurf"] {
        let refused = desk.run(&[client, "--agent", "assistant", "--scope", "project"]);
        assert_eq!(refused, Err((2, "scope_unavailable".to_owned())), "{client}");
    }
    assert_eq!(
        desk.run(&["zed", "--agent", "assistant", "--name", "a b"]),
        Err((2, "command_line_invalid".to_owned()))
    );
    fs::remove_file(desk.path("agent/countersign.toml")).unwrap();
    assert_eq!(desk.install("zed"), Err((2, "config_missing".to_owned())));
}

#[test]
fn what_is_installed_starts_and_lists_the_banks_tools() {
    let world = World::new();
    let home = tempfile::tempdir().unwrap();
    for (client, inside, member) in CLIENTS {
        let install = |agent: &str| {
            let mut command = Command::new(PROGRAM);
            command.args(["--json", "install", client, "--agent", agent, "--state"]).arg(world.state("agent"));
            command.env("HOME", home.path()).env("XDG_CONFIG_HOME", home.path().join("config"));
            answer(&command.env_remove("CLAUDE_CONFIG_DIR").env_remove("CODEX_HOME").output().unwrap())
        };
        assert_eq!(install("nobody").unwrap_err().1, "agent_not_installed", "{client}");
        let installed = install("assistant").unwrap();
        let entry = server(&home.path().join(inside), member, "bank");
        let words: Vec<String> = serde_json::from_value(entry["args"].clone()).unwrap();
        // From another directory and with next to no environment, as a desktop application starts it.
        let mut bridge = Command::new(entry["command"].as_str().unwrap());
        bridge.args(words).current_dir("/").env_clear();
        assert_eq!(super::clients::tools_of(bridge).len(), 12, "{client} {installed}");
    }
}
