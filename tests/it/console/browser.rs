//! The browser: a process that drives Chromium, one command and one answer a line.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::world::World;

/// Set by `scripts/test`: what it has installed is used and not passed over.
const ALL_TOOLS: &str = "COUNTERSIGN_TEST_ALL_TOOLS";

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/browser")
}

/// Whether the browser and what drives it are here.
pub fn is_here() -> bool {
    let here = tools().join("ready").exists() && Path::new("/usr/bin/chromium").exists();
    assert!(here || std::env::var_os(ALL_TOOLS).is_none(), "run scripts/lib/browser.sh");
    if !here {
        println!("skipped: scripts/lib/browser.sh installs what drives the browser");
    }
    here
}

pub struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    base: String,
    _home: tempfile::TempDir,
}

impl Browser {
    pub fn start(world: &World) -> Self {
        let home = tempfile::tempdir().unwrap();
        let ports = std::fs::read_to_string(world.state("bank").join("run/ports.json")).unwrap();
        let ports: Value = serde_json::from_str(&ports).unwrap();
        let port = ports["console"].as_str().unwrap().rsplit_once(':').unwrap().1;
        let base = format!("https://localhost:{port}");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/console/drive.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .args([tools().as_os_str(), home.path().as_os_str(), base.as_ref()])
            .arg(world.state("bank").join("certs/root.pem"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output, base, _home: home }
    }

    /// `https://localhost:port`
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A command that must be carried out.
    pub fn ask(&mut self, command: &str, arguments: Value) -> Value {
        let mut asked = arguments;
        asked["command"] = json!(command);
        writeln!(self.input, "{asked}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{asked}: {error}: {line}"));
        assert!(answer.get("error").is_none(), "{asked}: {answer:#}");
        answer["ok"].clone()
    }

    /// Somebody with a browser and an authenticator of their own.
    pub fn person(&mut self, name: &str) {
        self.ask("open", json!({ "person": name, "options": { "viewport": { "width": 1280, "height": 860 } } }));
    }

    /// Enrols somebody by a link; answers where they are then.
    pub fn enrol(&mut self, name: &str, link: &str) -> String {
        let done = self.ask("enrol", json!({ "person": name, "link": link }));
        assert_eq!(done["said"], json!([]), "{name}: {done}");
        done["url"].as_str().unwrap().to_owned()
    }

    pub fn sign_in(&mut self, name: &str, path: &str) {
        let done = self.ask("signIn", json!({ "person": name, "path": path }));
        assert_eq!(done["said"], json!([]), "{name}: {done}");
    }

    pub fn goto(&mut self, name: &str, path: &str) -> Value {
        self.ask("goto", json!({ "person": name, "path": path }))
    }

    pub fn page(&mut self, name: &str) -> Value {
        self.ask("page", json!({ "person": name }))
    }

    pub fn text(&mut self, name: &str) -> String {
        self.page(name)["text"].as_str().unwrap().to_owned()
    }

    pub fn click(&mut self, name: &str, selector: &str) {
        self.ask("click", json!({ "person": name, "selector": selector }));
    }

    pub fn press(&mut self, name: &str, key: &str) {
        self.ask("press", json!({ "person": name, "key": key }));
    }

    /// Waits until the page says this; answers what it says.
    pub fn until(&mut self, name: &str, text: &str) -> String {
        self.ask("until", json!({ "person": name, "text": text }))["text"].as_str().unwrap().to_owned()
    }

    /// What the page's script does when somebody decides; answers what the bank says, and the word that was sent.
    pub fn speak(&mut self, name: &str, approval: &str, side: &str, verdict: &str) -> Value {
        self.ask("speak", json!({ "person": name, "approval": approval, "side": side, "verdict": verdict }))
    }

    /// Nothing of a page went wrong, and no script of a stranger ran.
    pub fn finish(mut self) {
        self.ask("close", json!({}));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
