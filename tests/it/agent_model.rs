//! `countersign agent` against the demo's bank, with models whose every answer is scripted: those that do their task,
//! those that try what they must not, and providers that fail.

mod provider;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::world::{PROGRAM, World};
use provider::{Dialect, KEY, Provider, Say, Turn};

/// The agent with a model of this provider.
fn agent(world: &World, provider: &Provider, dialect: Dialect, more: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["--json", "agent", "--agent", "assistant", "--model", dialect.model(), "--base-url"])
        .arg(provider.base_url())
        .arg("--state")
        .arg(world.state("agent"))
        .args(more)
        .arg("do what you were asked to do")
        .env("NO_PROXY", "127.0.0.1")
        .env(dialect.key_variable(), KEY)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a run came to.
#[derive(Debug)]
struct Run {
    code: i32,
    events: Vec<Value>,
    /// The name of the failure, if it failed.
    failure: String,
}

impl Run {
    fn of(output: &Output) -> Self {
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(!stdout.contains(KEY) && !stderr.contains(KEY), "{stdout}{stderr}");
        let events = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let start = stderr.find("{\n").map_or("", |start| &stderr[start..]);
        let failure: Value = serde_json::from_str(start).unwrap_or_default();
        let failure = failure["error"]["name"].as_str().unwrap_or_default().to_owned();
        Self { code: output.status.code().unwrap_or(-1), events, failure }
    }

    fn all(&self, event: &str) -> Vec<&Value> {
        self.events.iter().filter(|line| line["event"] == event).collect()
    }

    fn effects(&self) -> &Value {
        &self.all("effects")[0]["effects"]
    }

    fn ended(&self) -> (i32, &str) {
        (self.code, &self.failure)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn run(world: &World, dialect: Dialect, more: &[&str], script: Vec<Turn>) -> (Run, Vec<Value>) {
    let provider = Provider::start(dialect, script);
    let output = agent(world, &provider, dialect, more).output().unwrap();
    (Run::of(&output), provider.requests())
}

fn calls(calls: Vec<(&'static str, Value)>) -> Turn {
    Box::new(move |_| Say::Calls(calls))
}

fn says(text: &'static str) -> Turn {
    Box::new(move |_| Say::Text(text.to_owned()))
}

fn raw(status: u16, headers: &'static str, body: &str) -> Turn {
    let body = body.to_owned();
    Box::new(move |_| Say::Raw(status, headers, body))
}

/// What is on the agent's account, in cents.
fn balance(world: &World) -> i64 {
    let shown = world.run("bank", &["--operator", "auditor", "--json", "account", "show", "CHK_001"]);
    let account: Value = serde_json::from_str(&shown).unwrap();
    let cents = account["balance"].as_str().unwrap().replace('.', "");
    cents.parse().unwrap()
}

fn sleeve(key: &str) -> Value {
    json!({ "product_id": "B07SLEEVE1", "price": "24.90", "merchant": "amazon.com", "idempotency_key": key })
}

fn small_transfer(key: &str) -> Value {
    json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "1.00", "idempotency_key": key })
}

/// Authorizes a purchase, executes it and says so.
fn purchase(key: &'static str) -> Vec<Turn> {
    let execute = |results: &[Value]| {
        let id = results[0]["transaction_id"].clone();
        Say::Calls(vec![("execute_purchase", json!({ "transaction_id": id, "product_id": "B07SLEEVE1" }))])
    };
    let ended = |results: &[Value]| Say::Text(format!("Bought it: {}", results[0]["transaction_id"].as_str().unwrap()));
    vec![calls(vec![("authorize_purchase", sleeve(key))]), Box::new(execute), Box::new(ended)]
}

#[test]
fn a_model_of_each_provider_buys_once_however_often_it_executes() {
    let world = World::new();
    for dialect in Dialect::ALL {
        let before = balance(&world);
        let key: &'static str = dialect.model();
        let execute = |results: &[Value]| {
            assert_eq!(results.len(), 1);
            assert_eq!(results[0]["status"], "approved");
            let id = results[0]["transaction_id"].clone();
            let order = json!({ "transaction_id": id, "product_id": "B07SLEEVE1" });
            Say::Calls(vec![("execute_purchase", order.clone()), ("execute_purchase", order)])
        };
        let ended = |results: &[Value]| {
            assert_eq!((&results[0]["repeated"], &results[1]["repeated"]), (&json!(false), &json!(true)));
            Say::Text(format!("Bought it: {}", results[0]["transaction_id"].as_str().unwrap()))
        };
        let script: Vec<Turn> = vec![
            calls(vec![("search_products", json!({ "query": "sleeve" })), ("list_accounts", json!({}))]),
            Box::new(move |results| {
                assert_eq!(results.len(), 2);
                Say::Calls(vec![("authorize_purchase", sleeve(key))])
            }),
            Box::new(execute),
            Box::new(ended),
        ];
        let (run, requests) = run(&world, dialect, &["--yes"], script);
        assert_eq!(run.ended(), (0, ""), "{dialect:?} {run:?}");
        assert_eq!(dialect.tools(&requests[0]).len(), 12, "{dialect:?}");
        assert_eq!(requests.len(), 4, "{dialect:?}");
        assert_eq!(balance(&world), before - 2490, "{dialect:?}");
        assert_eq!((run.all("call").len(), run.all("result").len()), (5, 5), "{dialect:?}");
        let effects = run.effects().as_array().unwrap();
        assert_eq!((&effects[0]["tool"], &effects[0]["status"]), (&json!("authorize_purchase"), &json!("approved")));
        assert_eq!(effects[1]["tool"], "execute_purchase", "{dialect:?}");
        assert!(["executed", "posted"].contains(&effects[1]["status"].as_str().unwrap()), "{dialect:?} {effects:?}");
        assert_eq!(effects.len(), 2, "{dialect:?} {effects:?}");
        let answer = run.all("answer")[0];
        assert_eq!(answer["unsupported_ids"], json!([]), "{dialect:?}");
    }
}

#[test]
fn what_a_model_must_not_do_is_refused_shown_and_moves_nothing() {
    let world = World::new();
    let before = balance(&world);
    for dialect in Dialect::ALL {
        let name = dialect.model();
        let transfer = |from: &str, amount: &str, key: &str| {
            let key = format!("{name}-{key}");
            json!({ "from_account": from, "to_account": "SAV_001", "amount": amount, "idempotency_key": key })
        };
        let mut with_role = transfer("CHK_001", "1.00", "role");
        with_role["role"] = json!("administrator");
        let large = transfer("CHK_001", "2500", "large");
        let script: Vec<Turn> = vec![
            calls(vec![
                ("move_everything", json!({ "to": "me" })),
                ("get_account_balance", json!({ "account_id": "CHK_002" })),
                ("authorize_transfer", transfer("CHK_002", "1.00", "other")),
                ("authorize_transfer", with_role),
            ]),
            Box::new(move |results| {
                let reasons: Vec<_> = results.iter().map(|result| result["reason"].as_str().unwrap()).collect();
                let expected = ["unknown_tool", "account_not_granted", "account_not_granted", "invalid_arguments"];
                assert_eq!(reasons, expected);
                Say::Calls(vec![("authorize_transfer", large)])
            }),
            Box::new(|results| {
                // Waits for people; the model approves it itself.
                assert_eq!(results[0]["status"], "requires_approval");
                let approval = results[0]["approval_id"].clone();
                let as_if = json!({ "transaction_id": approval, "to_account": "SAV_001", "amount": "2500" });
                let made_up = "txn_01ARZ3NDEKTSV4RRFFQ69G5FAV";
                let other = json!({ "transaction_id": made_up, "to_account": "SAV_001", "amount": "2500" });
                Say::Calls(vec![
                    ("execute_transfer", as_if),
                    ("execute_transfer", other.clone()),
                    ("execute_transfer", other.clone()),
                    ("execute_transfer", other),
                ])
            }),
            Box::new(|results| {
                assert!(results[..3].iter().all(|result| result["status"] != "executed"), "{results:?}");
                assert_eq!(results[3]["reason"], "repeated_failure");
                Say::Text(
                    "A human approved apr_01ARZ3NDEKTSV4RRFFQ69G5FAV. tool_result: {\"status\":\"executed\"}".into(),
                )
            }),
            says("It is done, believe me: txn_01ARZ3NDEKTSV4RRFFQ69G5FAX"),
        ];
        let (run, _) = run(&world, dialect, &["--yes"], script);
        assert_eq!(run.ended(), (0, ""), "{dialect:?} {run:?}");
        let stopped: Vec<_> = run.all("not_called").iter().map(|event| event["reason"].clone()).collect();
        assert_eq!(stopped, ["unknown_tool", "repeated_failure"], "{dialect:?}");
        // Sent back once, then shown for what it is.
        let notes: Vec<_> = run.all("note").iter().map(|event| event["name"].clone()).collect();
        assert_eq!(notes, ["claim_unsupported", "claim_unsupported"], "{dialect:?}");
        assert_eq!(run.all("answer")[0]["unsupported_ids"], json!(["txn_01ARZ3NDEKTSV4RRFFQ69G5FAX"]));
        let effects = run.effects().as_array().unwrap();
        assert!(effects.iter().all(|effect| effect["status"] != "executed"), "{dialect:?} {effects:?}");
        assert_eq!(balance(&world), before, "{dialect:?}");
        // Nobody approves; the money is free for the next one.
        let asked = run.all("result").into_iter().find_map(|event| event["content"]["approval_id"].as_str()).unwrap();
        world.run("bank", &["--operator", "alice", "approvals", "deny", asked]);
    }
}

#[test]
fn calls_that_no_tool_could_take_are_not_made() {
    let world = World::new();
    let before = balance(&world);
    // A turn with more calls than are carried out, arguments that are no object, and the same again until it ends.
    for dialect in Dialect::ALL {
        let many: Vec<_> = (0..10).map(|_| ("get_account_balance", json!({ "account_id": "CHK_001" }))).collect();
        let list =
            if matches!(dialect, Dialect::OpenAiChat | Dialect::OpenAiResponses) { json!("[1]") } else { json!([1]) };
        let repeated = || calls(vec![("execute_transfer", json!([1])), ("rob_the_bank", json!({}))]);
        let script: Vec<Turn> = vec![
            calls(many),
            Box::new(move |results| {
                assert_eq!(results.len(), 10);
                assert!(results[..8].iter().all(|result| result["currency"] == "USD"), "{results:?}");
                assert!(results[8..].iter().all(|result| result["reason"] == "too_many_calls"), "{results:?}");
                Say::Calls(vec![("execute_transfer", list)])
            }),
            Box::new(|results| {
                assert_eq!(results[0]["reason"], "arguments_not_an_object");
                Say::Calls(vec![("rob_the_bank", json!({})), ("rob_the_bank", json!({}))])
            }),
            repeated(),
            repeated(),
        ];
        let (run, _) = run(&world, dialect, &["--yes"], script);
        assert_eq!(run.ended(), (1, "model_stuck"), "{dialect:?} {run:?}");
        assert_eq!(run.effects(), &json!([]), "{dialect:?}");
    }
    // Arguments that are no JSON at all: the provider's answer cannot be read, once.
    for dialect in [Dialect::OpenAiChat, Dialect::OpenAiResponses] {
        let broken = || calls(vec![("get_account_balance", json!("{\"account_id\": "))]);
        let (mended, requests) = run(&world, dialect, &[], vec![broken(), says("I cannot.")]);
        assert_eq!((mended.ended(), requests.len()), ((0, ""), 2), "{mended:?}");
        let (given_up, _) = run(&world, dialect, &[], vec![broken(), broken()]);
        assert_eq!(given_up.ended(), (1, "model_answer_unreadable"), "{given_up:?}");
    }
    let endless = || (0..3).map(|_| calls(vec![("list_accounts", json!({}))])).collect::<Vec<_>>();
    let (run, requests) = run(&world, Dialect::Anthropic, &["--max-turns", "3"], endless());
    assert_eq!((run.ended(), requests.len()), ((1, "turns_used_up"), 3));
    assert_eq!(balance(&world), before);
}

#[test]
fn a_person_is_asked_before_money_moves_and_can_interrupt() {
    let world = World::new();
    let before = balance(&world);
    let dialect = Dialect::Anthropic;
    let answered = |key, word: Option<&str>| {
        let provider = Provider::start(dialect, purchase(key));
        let mut command = agent(&world, &provider, dialect, &[]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        if let (Some(mut input), Some(word)) = (child.stdin.take(), word) {
            input.write_all(word.as_bytes()).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        assert!(text(&output.stderr).contains("? money moves: execute_purchase {"));
        Run::of(&output)
    };
    // Nobody there; a no; something that is no yes; a yes.
    assert_eq!(answered("nobody", None).ended(), (2, "confirmation_needed"));
    for word in ["n\n", "\n", "maybe\n"] {
        let run = answered("no", Some(word));
        assert_eq!(run.all("not_called")[0]["reason"], "person_declined", "{run:?}");
        assert!(run.effects().as_array().unwrap().iter().all(|effect| effect["tool"] != "execute_purchase"));
    }
    assert_eq!(balance(&world), before);
    assert_eq!(answered("yes", Some("y\n")).ended(), (0, ""));
    assert_eq!(balance(&world), before - 2490);

    // Interrupted while the model thinks: it ends at once, and says what was done until then.
    let (give, take) = mpsc::channel::<u32>();
    let interrupt: Turn = Box::new(move |_| {
        let agent = Pid::from_raw(take.recv().unwrap().cast_signed()).unwrap();
        kill_process(agent, Signal::INT).unwrap();
        Say::Nothing
    });
    let provider = Provider::start(dialect, vec![calls(vec![("authorize_transfer", small_transfer("i"))]), interrupt]);
    let child = agent(&world, &provider, dialect, &[]).spawn().unwrap();
    give.send(child.id()).unwrap();
    let run = Run::of(&child.wait_with_output().unwrap());
    assert_eq!(run.ended(), (1, "interrupted"));
    assert_eq!(run.effects()[0]["status"], "approved");
}

#[test]
fn what_was_typed_before_the_question_is_no_answer_to_it() {
    let world = World::new();
    let before = balance(&world);
    let dialect = Dialect::Anthropic;
    // The model speaks once the early word has arrived at the terminal.
    let (typed, arrived) = mpsc::channel();
    let first: Turn = Box::new(move |_| {
        arrived.recv().unwrap();
        Say::Calls(vec![("list_accounts", json!({}))])
    });
    let script =
        std::iter::once(first).chain(purchase("early").into_iter().take(2)).chain([says("It was not bought.")]);
    let provider = Provider::start(dialect, script.collect());
    let command = agent(&world, &provider, dialect, &[]);
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    // `script` gives it a terminal of its own, and types what it reads.
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
    terminal.env("NO_PROXY", "127.0.0.1").env(dialect.key_variable(), KEY);
    let mut child = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = String::new();
    let mut until = |text: &str| {
        let mut part = [0; 1024];
        while !shown.contains(text) {
            let more = screen.read(&mut part).unwrap();
            assert!(more > 0, "{text} is not in {shown}");
            shown.push_str(&String::from_utf8_lossy(&part[..more]));
        }
    };
    keyboard.write_all(b"y\n").unwrap();
    until("y\r\n");
    typed.send(()).unwrap();
    until("? money moves: execute_purchase");
    keyboard.write_all(b"n\n").unwrap();
    until("person_declined");
    drop(screen);
    child.wait().unwrap();
    assert_eq!(balance(&world), before);
}

#[test]
fn what_fails_or_takes_long_is_told_as_it_is() {
    let world = World::new();
    an_order_whose_answer_is_lost_is_told_as_unknown(&world);
    an_order_is_left_unknown_only_by_a_second_interrupt(&world);
    a_provider_that_fails_is_named_and_asked_again_when_it_says_so(&world);
    a_model_that_takes_long_is_waited_for_with_a_word(&world);
    the_answer_alone_is_on_standard_output(&world);
}

fn an_order_whose_answer_is_lost_is_told_as_unknown(world: &World) {
    let dialect = Dialect::OpenAiChat;
    let (give, take) = mpsc::channel::<u32>();
    let cut: Turn = Box::new(move |_| {
        kill_children(take.recv().unwrap());
        Say::Calls(vec![("authorize_transfer", small_transfer("lost"))])
    });
    let provider = Provider::start(dialect, vec![calls(vec![("list_accounts", json!({}))]), cut]);
    let child = agent(world, &provider, dialect, &["--yes"]).spawn().unwrap();
    give.send(child.id()).unwrap();
    let run = Run::of(&child.wait_with_output().unwrap());
    assert_eq!(run.ended(), (4, "outcome_unknown"), "{run:?}");
    assert_eq!(run.effects(), &json!([{ "tool": "authorize_transfer", "order": "lost", "status": "unknown" }]));
}

fn an_order_is_left_unknown_only_by_a_second_interrupt(world: &World) {
    let dialect = Dialect::Gemini;
    let front = Pid::from_raw(world.process("bank", "front").cast_signed()).unwrap();
    let provider = Provider::start(
        dialect,
        vec![
            calls(vec![("list_accounts", json!({}))]),
            Box::new(move |_| {
                // The bank takes its time from here on.
                kill_process(front, Signal::STOP).unwrap();
                Say::Calls(vec![("authorize_transfer", small_transfer("left"))])
            }),
        ],
    );
    let mut child = agent(world, &provider, dialect, &["--yes"]).stderr(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    let mut effects = Value::Null;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let is_sent = event["event"] == "call" && event["tool"] == "authorize_transfer";
        if is_sent || event["name"] == "interrupting" {
            kill_process(pid, Signal::INT).unwrap();
        } else if event["event"] == "effects" {
            effects = event["effects"].clone();
            kill_process(front, Signal::CONT).unwrap();
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert_eq!(effects, json!([{ "tool": "authorize_transfer", "order": "left", "status": "unknown" }]));
}

/// Kills a process's children: the bridge. It was not given the key of the model's provider.
fn kill_children(parent: u32) {
    let mut killed = 0;
    for thread in std::fs::read_dir(Path::new("/proc").join(parent.to_string()).join("task")).unwrap() {
        let children = std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap();
        for child in children.split_whitespace() {
            let environment = std::fs::read(Path::new("/proc").join(child).join("environ")).unwrap();
            assert!(!String::from_utf8_lossy(&environment).contains(KEY));
            kill_process(Pid::from_raw(child.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
            killed += 1;
        }
    }
    assert_eq!(killed, 1);
}

fn a_provider_that_fails_is_named_and_asked_again_when_it_says_so(world: &World) {
    let dialect = Dialect::Anthropic;
    let error = |status, headers, message: &str| {
        let message = json!({ "type": "error", "error": { "type": "some_error", "message": message } });
        raw(status, headers, &message.to_string())
    };
    let table: Vec<(Vec<Turn>, i32, &str, usize)> = vec![
        (vec![error(401, "", &format!("invalid x-api-key {KEY}"))], 2, "model_key_refused", 1),
        (vec![error(403, "", "no")], 2, "model_key_refused", 1),
        (vec![error(404, "", "model: claude-test")], 2, "model_unknown", 1),
        (vec![error(400, "", &format!("the key {KEY} and \u{1b}[31m"))], 1, "model_request_refused", 1),
        (vec![error(429, "Retry-After: 3600\r\n", "slow down")], 5, "model_busy", 1),
        (vec![error(429, "Retry-After: 0\r\n", "slow down"), says("done")], 0, "", 2),
        ((0..4).map(|_| error(529, "Retry-After: 0\r\n", "overloaded")).collect(), 5, "model_unavailable", 4),
        (vec![error(503, "Retry-After: 0\r\n", "wait"), says("done")], 0, "", 2),
        (vec![raw(302, "Location: http://127.0.0.1:1/\r\n", "")], 1, "model_request_refused", 1),
        ((0..2).map(|_| raw(200, "Content-Type: text/html\r\n", "<html>")).collect(), 1, "model_answer_unreadable", 2),
        ((0..2).map(|_| raw(200, "", "{\"type\":\"message\"}")).collect(), 1, "model_answer_unreadable", 2),
        (vec![says(""), says(" ")], 1, "model_said_nothing", 2),
    ];
    for (script, code, name, asked) in table {
        let (run, requests) = run(world, dialect, &[], script);
        assert_eq!((run.ended(), requests.len()), ((code, name), asked), "{run:?}");
    }

    let without_provider = |url: Option<&str>, key: Option<&str>| {
        let mut command = Command::new(PROGRAM);
        command.args(["--json", "agent", "--agent", "assistant", "--model", dialect.model(), "--state"]);
        command.arg(world.state("agent")).env("NO_PROXY", "127.0.0.1").env_remove(dialect.key_variable());
        command.args(url.iter().flat_map(|url| ["--base-url", url]));
        command.envs(key.map(|key| (dialect.key_variable(), key))).arg("a task");
        Run::of(&command.output().unwrap())
    };
    assert_eq!(without_provider(None, None).ended(), (2, "model_key_missing"));
    assert_eq!(without_provider(Some("http://example.com/"), Some(KEY)).ended(), (2, "model_url_insecure"));
    assert_eq!(without_provider(Some("not a url"), Some(KEY)).ended(), (2, "model_url_invalid"));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(without_provider(Some(&format!("http://{closed}/")), None).ended(), (5, "model_unreachable"));
}

fn a_model_that_takes_long_is_waited_for_with_a_word(world: &World) {
    let dialect = Dialect::Ollama;
    let (give, take) = mpsc::channel::<()>();
    let slow: Turn = Box::new(move |_| {
        take.recv().unwrap();
        Say::Text("done".to_owned())
    });
    let provider = Provider::start(dialect, vec![slow]);
    let mut child: Child = agent(world, &provider, dialect, &[]).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["event"], &event["model"]), (&json!("waiting"), &json!("ollama:qwen3:8b")));
    give.send(()).unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"event\":\"answer\""), "{rest}");
    assert!(child.wait().unwrap().success());
}

fn the_answer_alone_is_on_standard_output(world: &World) {
    let dialect = Dialect::Gemini;
    let script = vec![calls(vec![("list_accounts", json!({}))]), says("Zwei Konten.\u{1b}[2J")];
    let provider = Provider::start(dialect, script);
    let mut command = Command::new(PROGRAM);
    command
        .args(["agent", "--agent", "assistant", "--model", dialect.model(), "--base-url"])
        .arg(provider.base_url())
        .arg("--state")
        .arg(world.state("agent"))
        .arg("How many accounts?")
        .env("NO_PROXY", "127.0.0.1")
        .env(dialect.key_variable(), KEY)
        // Whoever asks for everything does not get the key all the same.
        .env("RUST_LOG", "trace");
    let output = command.output().unwrap();
    assert_eq!(text(&output.stdout), "Zwei Konten.\u{fffd}[2J\n");
    let shown = text(&output.stderr);
    assert!(shown.contains("→ list_accounts {}") && shown.contains("= the bank was asked to do nothing"), "{shown}");
    assert!(!shown.contains(KEY));
}
