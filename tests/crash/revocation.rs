//! SIGKILL at each write-class call that a revocation makes, with the daemon up and with it down. What was answered as
//! recorded stands; nothing is there in part; the command repeated completes receipt and list.
//!
//! Counted from the moment the command is given: strace is put on the bank's front when it is ready.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::checker::{Found, check};
use crate::daemon::{PROGRAM, Stage, copy_in_the_clear, until};
use crate::injected::most_of_a_thread;
use crate::seed::{Chance, runs, seed};
use crate::trace::WRITE_CLASS;
use strace::{Strace, is_alive};

#[path = "../it/support/strace.rs"]
mod strace;

const OFFICER: &str = "bank-officer";
const CHIEF: &str = "bank-admin";

/// What is done, and by whom; `{…}` is replaced by what the scene knows.
#[derive(Clone, Copy, Debug)]
struct Form {
    words: &'static [&'static str],
    operator: &'static str,
    /// Done before, undisturbed.
    before: &'static [&'static str],
    /// The agent is served no more once it was answered.
    stops_the_agent: bool,
}

const fn revoke(words: &'static [&'static str], stops_the_agent: bool) -> Form {
    Form { words, operator: OFFICER, before: &[], stops_the_agent }
}

const FORMS: [Form; 7] = [
    revoke(&["revoke", "assistant", "--reason", "key-compromise"], true),
    revoke(&["revoke", "{serial}", "--reason", "superseded"], true),
    revoke(&["revoke", "--key", "{key}", "--reason", "key-compromise"], true),
    revoke(&["revoke", "--file", "{file}", "--reason", "superseded"], true),
    revoke(&["revoke", "--all", "--reason", "an incident"], true),
    revoke(&["freeze", "assistant", "--reason", "odd payments"], true),
    Form {
        words: &["unfreeze", "assistant", "--note", "explained"],
        operator: CHIEF,
        before: &["freeze", "unfreeze"],
        stops_the_agent: false,
    },
];

/// With listeners, or as a command starts it when it finds no daemon.
const DOORS: [&[&str]; 2] = [&[], &["--offline"]];

/// The demo with a bank that can be had again as it was.
struct Scene {
    stage: Stage,
    as_it_was: tempfile::TempDir,
    /// What `{…}` stands for.
    known: BTreeMap<&'static str, String>,
}

impl Scene {
    fn new() -> Self {
        let stage = Stage::new();
        let scene = Self { stage, as_it_was: tempfile::tempdir().unwrap(), known: BTreeMap::new() };
        let list = scene.asked(&["cert", "list"], OFFICER);
        let items = list["items"].as_array().unwrap().clone();
        let of_assistant = |item: &&Value| item["subject"].as_str().unwrap().ends_with("/assistant");
        let assistant = items.iter().find(of_assistant).unwrap();
        let text = |name: &str| assistant[name].as_str().unwrap().to_owned();
        let agents = items.iter().filter(|item| item["profile"] == "agent-b");
        let serials: Vec<&str> = agents.map(|item| item["serial"].as_str().unwrap()).collect();
        assert!(serials.len() > 1, "{list}");
        let file = scene.as_it_was.path().join("serials.txt");
        std::fs::write(&file, serials.join("\n")).unwrap();
        let file = file.display().to_string();
        let known = BTreeMap::from([("{serial}", text("serial")), ("{key}", text("key")), ("{file}", file)]);
        let told = scene.command(&["stop"], OFFICER);
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        copy(&scene.stage.state("bank"), &scene.as_it_was.path().join("bank"));
        Self { known, ..scene }
    }

    /// Nobody has revoked anything.
    fn restore(&self) {
        std::fs::remove_dir_all(self.stage.state("bank")).unwrap();
        copy(&self.as_it_was.path().join("bank"), &self.stage.state("bank"));
    }

    fn command(&self, words: &[&str], operator: &str) -> Output {
        let known = |word: &&str| self.known.get(word).map_or_else(|| (*word).to_owned(), Clone::clone);
        let mut command = Command::new(PROGRAM);
        command.arg("--state").arg(self.stage.state("bank")).args(["--json", "--operator", operator]);
        command.args(words.iter().map(known)).output().unwrap()
    }

    fn asked(&self, words: &[&str], operator: &str) -> Value {
        let output = self.command(words, operator);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Whether the bank gives the agent's program what it asks for.
    fn serves_the_agent(&self) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let state = self.stage.state("agent").display().to_string();
        let words = ["connect", "--agent", "assistant", "--state", &state].map(str::to_owned);
        let log = std::fs::File::create(self.as_it_was.path().join("connect.log")).unwrap();
        runtime.block_on(async {
            let started = countersign::mcp::client::StdioClient::start(Path::new(PROGRAM), &words, log).await;
            let Ok(client) = started else { return false };
            let answer = client.call("get_account_balance", json!({ "account_id": "CHK_001" })).await;
            client.close().await;
            answer.is_ok_and(|answer| answer["balance"].is_string())
        })
    }

    /// The bank's daemon behind this door, as the form finds it.
    fn begin(&mut self, form: &Form, door: &[&str]) {
        // What was found wrong before is no reason to leave a daemon in a directory that is taken away.
        self.stage.end();
        self.restore();
        self.stage.serve_with(door);
        for before in form.before {
            let said = match *before {
                "freeze" => self.asked(&["freeze", "assistant", "--reason", "odd"], OFFICER),
                "unfreeze" => self.asked(&["unfreeze", "assistant", "--note", "explained"], OFFICER),
                other => panic!("{other}"),
            };
            assert_eq!(said["recorded"], true, "{said}");
        }
    }

    /// The form's calls by name, the most that one thread makes. `None`: this user may not look at other processes.
    fn calls(&mut self, form: &Form, door: &[&str]) -> Option<BTreeMap<String, u64>> {
        self.begin(form, door);
        let output = self.as_it_was.path().join("calls");
        let watching = Strace::on(self.stage.child("front"), WRITE_CLASS, &output, &[])?;
        let told = self.command(form.words, form.operator);
        assert!(told.status.success(), "{form:?}: {}", String::from_utf8_lossy(&told.stderr));
        drop(watching);
        Some(most_of_a_thread(&std::fs::read_to_string(output).unwrap()))
    }

    /// Kills the front at this call of this form, and looks at what is left. Answers whether it was killed.
    fn killed_at(&mut self, form: &Form, door: &[&str], call: &str, number: u64, wholly: bool) -> Result<bool, String> {
        self.begin(form, door);
        let front = self.stage.child("front");
        let watching = Strace::kills_at(front, call, number).expect("it could be watched");
        let told = self.command(form.words, form.operator);
        drop(watching);
        // Its connections are closed before it is gone.
        if String::from_utf8_lossy(&told.stderr).contains("daemon_hung_up") {
            until("the front's end", || (!is_alive(front)).then_some(()));
        }
        let is_killed = !is_alive(front);
        let answer: Option<Value> = told.status.success().then(|| serde_json::from_slice(&told.stdout).unwrap());
        if answer.is_none() && !is_killed {
            return Err(format!("refused: {}", String::from_utf8_lossy(&told.stderr)));
        }
        if wholly {
            self.power_off();
            self.stage.serve_with(door);
        }
        self.is_complete(form, answer.as_ref())?;
        if door.is_empty() && form.stops_the_agent && self.serves_the_agent() {
            return Err("the agent was served again".into());
        }
        self.asked(&["stop"], OFFICER);
        let copy = tempfile::tempdir().unwrap();
        let store = copy.path().join("store.sqlite3");
        copy_in_the_clear(&self.stage.state("bank"), &store);
        match check(&format!("sqlite:{}", store.display()), Path::new("/dev/null")) {
            Found::Sound(_) => Ok(is_killed),
            Found::Differences(_, told) => Err(told),
        }
    }

    /// Supervisor and workers go as well.
    fn power_off(&self) {
        let supervisor = i32::try_from(self.stage.supervisor()).unwrap();
        kill_process(Pid::from_raw(supervisor).unwrap(), Signal::KILL).unwrap();
        // The lock goes with the last of its processes.
        let lock = std::fs::File::open(self.stage.state("bank").join("daemon.lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    }

    /// The command again: it finds what was answered, and leaves nothing out.
    fn is_complete(&self, form: &Form, answered: Option<&Value>) -> Result<(), String> {
        let again = self.command(form.words, form.operator);
        let failure: Value = serde_json::from_slice(&again.stderr).unwrap_or_default();
        let is_lifted = !form.before.is_empty() && failure["error"]["name"] == "not_frozen";
        if let Some(answer) = answered {
            self.receipt_stands(answer)?;
        }
        if is_lifted {
            return Ok(());
        }
        if !again.status.success() {
            return Err(format!("repeated: {failure}"));
        }
        let again: Value = serde_json::from_slice(&again.stdout).unwrap();
        if again["recorded"] != true || again["effective"] != true || again["pending"] != json!({}) {
            return Err(format!("repeated, and not complete: {again}"));
        }
        // Everyone is revoked each time anew: whoever is there then.
        if answered.is_some() && form.before.is_empty() && again["already"] != true && form.words[1] != "--all" {
            return Err(format!("it was answered as recorded, and is not: {again}"));
        }
        self.receipt_stands(&again)?;
        let checked = self.command(&["crl", "check"], OFFICER);
        if !checked.status.success() {
            return Err(format!("crl check: {}", String::from_utf8_lossy(&checked.stdout)));
        }
        Ok(())
    }

    /// Its receipt verifies with the bank's root alone.
    fn receipt_stands(&self, answer: &Value) -> Result<(), String> {
        let Some(name) = answer["receipt"]["file"].as_str() else {
            return Err(format!("no receipt: {answer}"));
        };
        let file = self.stage.state("bank").join(name).display().to_string();
        let root = self.stage.state("bank").join("certs/root.pem").display().to_string();
        let verified = Command::new(PROGRAM).args(["verify", "revocation", &file, "--root", &root]).output().unwrap();
        if verified.status.success() { Ok(()) } else { Err(format!("{name} does not verify")) }
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "cp");
}

/// Points of this form: every one in the long run, otherwise some, others each time.
fn some_of(calls: &BTreeMap<String, u64>, most: u64, chance: &mut Chance) -> Vec<(String, u64)> {
    let each = |(name, count): (&String, &u64)| (1..=*count).map(|number| (name.clone(), number)).collect::<Vec<_>>();
    let mut all: Vec<(String, u64)> = calls.iter().flat_map(each).collect();
    while all.len() as u64 > most {
        all.swap_remove(usize::try_from(chance.below(all.len() as u64)).unwrap());
    }
    all
}

#[test]
fn a_revocation_that_is_killed_at_any_call_stands_once_it_was_answered_and_a_repeat_completes_it() {
    let mut scene = Scene::new();
    let mut chance = Chance::new("revocation");
    let (mut points, mut kills) = (0, 0);
    let mut forms: Vec<(Form, &[&str])> = FORMS.iter().flat_map(|form| DOORS.map(|door| (*form, door))).collect();
    // Some forms at some points for every change; all of all in the long run.
    let (forms_wanted, points_wanted) = if runs(1) > 1 { (forms.len(), runs(1)) } else { (2, 2) };
    while forms.len() > forms_wanted {
        forms.swap_remove(usize::try_from(chance.below(forms.len() as u64)).unwrap());
    }
    for (form, door) in forms {
        let Some(calls) = scene.calls(&form, door) else {
            println!("skipped: this user may not look at other processes");
            return;
        };
        scene.asked(&["stop"], OFFICER);
        assert!(["pwrite64", "fsync", "rename"].iter().all(|name| calls.contains_key(*name)), "{form:?}: {calls:?}");
        for (call, number) in some_of(&calls, points_wanted, &mut chance) {
            let wholly = chance.below(3) == 0;
            let killed = scene.killed_at(&form, door, &call, number, wholly);
            let killed = killed.unwrap_or_else(|why| {
                panic!("CRASH_SEED={} {:?} {door:?} killed at {call} {number}: {why}", seed(), form.words)
            });
            points += 1;
            kills += u64::from(killed);
        }
    }
    assert!(kills > 0, "nothing was ever killed");
    println!("{kills} kills at {points} points");
}

/// A mistake in the store: some point must turn red, with some of these words; which, is a matter of when it is killed.
#[cfg(feature = "planted-bugs")]
pub fn turns_red(mistake: &str, expected: &[&str]) {
    let mut scene = Scene::new();
    scene.stage.plant(mistake);
    let mut seen = vec![];
    for (call, number) in [("rename", 1), ("fsync", 2), ("fsync", 4)] {
        match scene.killed_at(&FORMS[0], DOORS[0], call, number, true) {
            Ok(_) => {}
            Err(why) if expected.iter().any(|words| why.contains(words)) => return,
            Err(why) => seen.push(why),
        }
    }
    panic!("{mistake} was never told as {expected:?}: {seen:?}");
}
