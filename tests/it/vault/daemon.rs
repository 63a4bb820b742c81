//! `countersign vault` and the daemon that takes its own secrets from it: real processes, a real token, a real receiver.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::ops::clock;
use serde_json::{Value, json};

use super::{found_in, has, traces};
use crate::notify::receivers::{Got, Mood, Web};
use crate::support::world::{PROGRAM, World};

/// A verb with this on its standard input.
pub(super) fn given(world: &World, words: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(PROGRAM)
        .arg("--state")
        .arg(world.state("bank"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever refuses a command line reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

pub(super) fn done(world: &World, words: &[&str], input: &[u8]) -> Value {
    let output = given(world, &[&["--json", "--operator", "bank-admin"], words].concat(), input);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(world: &World, words: &[&str], input: &[u8]) -> (i32, String) {
    let output = given(world, &[&["--json"], words].concat(), input);
    assert_eq!(output.stdout, b"", "{words:?}");
    let failure: Value = serde_json::from_slice(&output.stderr)
        .unwrap_or_else(|_| panic!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), failure["error"]["name"].as_str().unwrap().to_owned())
}

pub(super) fn lines(world: &World, check: &str) -> Vec<(String, String)> {
    // Its exit code says how well it is, too.
    let output = given(world, &["--json", "--operator", "bank-admin", "doctor"], b"");
    let doctor: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let found = doctor["items"].as_array().into_iter().flatten().filter(|item| item["check"] == check);
    found.map(|item| (item["result"].as_str().unwrap().into(), item["detail"].as_str().unwrap().into())).collect()
}

fn configure(world: &World, more: &str) {
    let config = world.state("bank").join("countersign.toml");
    let mut file = std::fs::OpenOptions::new().append(true).open(config).unwrap();
    writeln!(file, "\n{more}").unwrap();
}

/// Stops the bank and starts it with its log in a file.
fn restart_with_log(world: &World, log: &Path) {
    world.run("bank", &["stop"]);
    let log = std::fs::File::create(log).unwrap();
    let mut daemon = Command::new(PROGRAM)
        .args(["serve", "--state"])
        .arg(world.state("bank"))
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(daemon.stdout.as_mut().unwrap()), &mut line).unwrap();
    assert!(line.contains("\"ready\":true"), "{line:?}");
    std::thread::spawn(move || daemon.wait());
}

#[test]
fn a_credential_is_kept_and_read_by_people_and_leaves_no_trace_of_its_value() {
    let world = World::new();
    let canary = format!("canary-{}", hex::encode(clock::random::<16>()));
    let log = world.state("bank").join("daemon.log");
    restart_with_log(&world, &log);

    let put = ["vault", "put", "core/token", "--reader", "operator:alice", "--reader", "role:auditor"];
    let line = format!("{canary}\n");
    let kept = |version: u64, changed: bool| json!({ "name": "core/token", "version": version, "changed": changed });
    assert_eq!(done(&world, &put, line.as_bytes()), kept(1, true));
    assert_eq!(done(&world, &put, line.as_bytes()), kept(1, false), "a repeat");
    assert_eq!(done(&world, &["vault", "rotate", "core/token", "--exact"], line.as_bytes()), kept(2, true));

    let got = |who: &str, more: &[&str]| {
        let output = given(&world, &[&["--operator", who, "vault", "get", "core/token"], more].concat(), b"");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    assert_eq!(got("alice", &["--version", "1"]), canary.as_bytes(), "to the byte, without the line feed");
    assert_eq!(got("auditor", &[]), line.as_bytes(), "--exact");
    let told: Value = serde_json::from_slice(&got("alice", &["--json", "--version", "1"])).unwrap();
    let expected = json!({
        "name": "core/token", "version": 1, "expires": null, "value_base64": STANDARD.encode(&canary),
    });
    assert_eq!(told, expected);
    // Through descriptors, both ways.
    let script = format!(
        "cat <<'END' | \"$0\" --state \"$1\" --operator bank-admin vault put by/fd --reader role:auditor --fd 3 3<&0 0</dev/null >/dev/null\n\
         {canary}\nEND\n\"$0\" --state \"$1\" --operator auditor vault get by/fd --out-fd 4 4>&1 >/dev/null"
    );
    let output = Command::new("sh").args(["-c", &script, PROGRAM]).arg(world.state("bank")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), canary, "{}", String::from_utf8_lossy(&output.stderr));

    let list = done(&world, &["vault", "list"], b"");
    let shown: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|item| (item["name"].clone(), item["version"].clone())).collect();
    assert_eq!(shown, [(json!("by/fd"), json!(1)), (json!("core/token"), json!(1)), (json!("core/token"), json!(2))]);
    assert_eq!(list["items"][1]["readers"], json!(["operator:alice", "role:auditor"]));
    assert_eq!(list["items"][1]["key_label"], "bank-vault-wrapping-v1");
    assert_eq!(list["items"][1]["way"], "aes-256-gcm");

    let huge = vec![b'x'; 64 * 1024 + 3];
    type Row<'a> = (&'a [&'a str], &'a [u8], (i32, &'a str));
    let table: [Row<'_>; 18] = [
        (&["--operator", "bank-admin", "vault", "get", "core/token"], b"", (3, "credential_not_readable")),
        (&["--operator", "bank-officer", "vault", "get", "core/token"], b"", (3, "credential_not_readable")),
        (&["--operator", "alice", "vault", "get", "no/such"], b"", (3, "unknown_credential")),
        (
            &["--operator", "alice", "vault", "get", "core/token", "--version", "9"],
            b"",
            (3, "unknown_credential_version"),
        ),
        (&["--operator", "alice", "vault", "get", "core/token", "--out-fd", "77"], b"", (2, "descriptor_unusable")),
        (
            &["--operator", "alice", "vault", "put", "a", "--reader", "role:auditor"],
            b"x",
            (3, "operator_not_permitted"),
        ),
        (&["--operator", "alice", "vault", "rotate", "core/token"], b"x", (3, "operator_not_permitted")),
        (&["--operator", "alice", "vault", "rm", "core/token"], b"", (3, "operator_not_permitted")),
        (&["--operator", "alice", "vault", "rewrap"], b"", (3, "operator_not_permitted")),
        (
            &["--operator", "bank-admin", "vault", "put", "core/token", "--reader", "role:auditor"],
            b"x",
            (3, "credential_exists"),
        ),
        (&["--operator", "bank-admin", "vault", "put", "a", "--reader", "role:auditor"], b"", (2, "credential_empty")),
        (
            &["--operator", "bank-admin", "vault", "put", "a", "--reader", "role:auditor"],
            b"\n",
            (2, "credential_empty"),
        ),
        (
            &["--operator", "bank-admin", "vault", "put", "a", "--reader", "role:auditor"],
            &huge,
            (2, "credential_too_large"),
        ),
        (
            &["--operator", "bank-admin", "vault", "put", "a", "--reader", "everybody"],
            b"x",
            (2, "command_line_invalid"),
        ),
        (&["--operator", "bank-admin", "vault", "put", "a"], b"x", (2, "command_line_invalid")),
        (
            &["--operator", "bank-admin", "vault", "put", "Not/A/Name", "--reader", "role:auditor"],
            b"x",
            (2, "command_line_invalid"),
        ),
        (&["--operator", "bank-admin", "vault", "rotate", "no/such"], b"x", (3, "unknown_credential")),
        (
            &["--operator", "bank-admin", "vault", "rm", "core/token", "--version", "2"],
            b"",
            (3, "newest_version_stays"),
        ),
    ];
    for (words, input, (code, name)) in table {
        assert_eq!(refused(&world, words, input), (code, name.to_owned()), "{words:?}");
    }

    // A new key, everything anew, and the key before is let go only then.
    let rotated = done(&world, &["key", "rotate", "vault-wrapping"], b"");
    assert_eq!(rotated["retired"], json!(["bank-vault-wrapping-v1"]));
    assert_eq!(
        lines(&world, "vault"),
        [("warn".to_owned(), "3 versions are sealed under a key from before the newest (aes-256-gcm)".to_owned())]
    );
    let destroy = ["--operator", "bank-admin", "key", "destroy", "bank-vault-wrapping-v1"];
    assert_eq!(refused(&world, &destroy, b""), (3, "key_in_use".to_owned()));
    assert_eq!(done(&world, &["vault", "rewrap"], b"")["rewrapped"], 3);
    assert_eq!(done(&world, &["vault", "rewrap"], b"")["rewrapped"], 0);
    let announced = done(&world, &["key", "destroy", "bank-vault-wrapping-v1"], b"");
    let confirm = announced["confirm"].as_str().unwrap();
    done(&world, &["key", "destroy", "bank-vault-wrapping-v1", "--confirm", confirm], b"");
    assert_eq!(got("alice", &["--version", "1"]), canary.as_bytes());
    assert_eq!(lines(&world, "vault").first().cloned().unwrap_or_default().0, "ok");

    // What the log says of it.
    let found = done(&world, &["audit", "search", "--tool", "vault_get"], b"");
    let outcomes: Vec<_> =
        found["items"].as_array().unwrap().iter().map(|leaf| leaf["body"]["decision"].clone()).collect();
    assert!(outcomes.contains(&json!("permitted")) && outcomes.contains(&json!("refused")), "{found}");
    let count = |words: &[&str]| {
        let found = done(&world, &[&["audit", "search", "--tool", "vault_get"], words].concat(), b"");
        let items = found["items"].as_array().unwrap().clone();
        assert!(
            items.iter().all(|leaf| leaf["body"]["parameters"]["credential"] == "core/token"),
            "{words:?}: {found}"
        );
        items.len()
    };
    assert!(count(&["--credential", "core/token"]) >= 2);
    assert!(count(&["--credential", "core/token", "--agent", "alice"]) >= 1);
    assert_eq!(count(&["--credential", "core/tokens"]), 0);

    done(&world, &["vault", "rm", "core/token", "--version", "1"], b"");
    done(&world, &["vault", "rm", "core/token"], b"");
    assert_eq!(refused(&world, &["--operator", "alice", "vault", "get", "core/token"], b"").1, "unknown_credential");
    assert_eq!(done(&world, &["vault", "rm", "core/token"], b"")["changed"], false);

    // Everything that anybody could copy, with the daemon's own log at its most talkative and a search's signed file.
    let traces = traces(&canary);
    let export = world.state("bank").join("export.jsonl");
    let out = export.display().to_string();
    done(&world, &["audit", "search", "--out", &out], b"");
    let above = world.state("bank").parent().unwrap().to_owned();
    assert!(std::fs::metadata(&log).unwrap().len() > 1_000 && std::fs::metadata(&export).unwrap().len() > 1_000);
    assert_eq!(found_in(&above, &traces), Vec::<String>::new());
    for pid in
        ["serve", "front", "hsm-worker"].map(|verb| if verb == "serve" { 0 } else { world.process("bank", verb) })
    {
        let command_line = std::fs::read(format!("/proc/{}/cmdline", pid.max(1))).unwrap_or_default();
        assert!(!has(&command_line, &traces));
    }
}

/// By these keys, in this order, and by no others.
fn is_signed_with(got: &Got, keys: &[&[u8]]) -> bool {
    let head = |name: &str| got.headers.get(name).cloned().unwrap_or_default();
    let one = |key: &&[u8]| {
        let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        signing.update(format!("{}.{}.", head("webhook-id"), head("webhook-timestamp")).as_bytes());
        signing.update(got.body.as_bytes());
        format!("v1,{}", STANDARD.encode(signing.sign()))
    };
    head("webhook-signature") == keys.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_daemon_takes_its_own_secrets_and_new_ones_without_a_restart_and_waits_for_its_hsm() {
    let world = World::new();
    let web = Web::start(&[Mood::Status(200)]);
    let whsec = |key: &[u8]| format!("whsec_{}", STANDARD.encode(key));
    let (first, second) = (clock::random::<32>(), clock::random::<32>());
    configure(
        &world,
        &format!(
            "[notify]\npause_s = 1\n[[notify.channel]]\nname = \"ops\"\nkind = \"webhook\"\n\
             url = \"http://127.0.0.1:{}/in\"\nsecret_vault = \"notify/ops\"\nallow_private = true\n\
             [[notify.route]]\nkinds = [\"payment_waits\"]\nchannels = [\"ops\"]",
            web.port
        ),
    );
    world.run("bank", &["stop"]);
    assert!(world.run("bank", &["check"]).ends_with("ok\n"));
    world.serve("bank");
    let test = ["--operator", "bank-admin", "notify", "test", "ops"];
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let began = std::time::Instant::now();
        while !holds() {
            assert!(began.elapsed().as_secs() < 120, "{what}");
        }
    };
    // Nobody has kept it yet: nothing is sent in its name, and the doctor says whose it is.
    assert_eq!(refused(&world, &test, b""), (1, "notify_test_failed".to_owned()));
    let (result, detail) = lines(&world, "vault reader").remove(0);
    assert!(
        result == "warn" && detail.contains("notify.ops takes notify/ops") && detail.contains("unknown_credential")
    );

    // Kept for somebody else it is not read, and given to the channel it is: a new version, and no restart.
    let put = ["vault", "put", "notify/ops", "--reader", "service:notify.other"];
    done(&world, &put, whsec(&first).as_bytes());
    until("the refusal", &|| {
        lines(&world, "vault reader").first().cloned().unwrap_or_default().1.contains("credential_not_readable")
    });
    let rotate = ["vault", "rotate", "notify/ops", "--reader", "service:notify.ops"];
    done(&world, &rotate, whsec(&first).as_bytes());
    until("the first secret", &|| lines(&world, "vault reader").first().cloned().unwrap_or_default().0 == "ok");
    done(&world, &["notify", "test", "ops"], b"");
    assert!(is_signed_with(&web.next(), &[&first]));
    done(&world, &["vault", "rotate", "notify/ops"], whsec(&second).as_bytes());
    until("the second secret", &|| {
        lines(&world, "vault reader").first().cloned().unwrap_or_default().1.contains("version 3")
    });
    done(&world, &["notify", "test", "ops"], b"");
    assert!(is_signed_with(&web.next(), &[&second, &first]));
    // Read by the daemon itself, and recorded as that.
    let found = done(&world, &["audit", "search", "--tool", "vault_get"], b"");
    let by: Vec<_> = found["items"].as_array().unwrap().iter().map(|leaf| leaf["body"]["actor"].clone()).collect();
    assert!(by.contains(&json!({ "kind": "system", "component": "notify.ops" })), "{found}");

    // Without its HSM: what was read is in use, nothing else opens, and the daemon says so.
    done(&world, &["vault", "put", "a", "--reader", "role:auditor"], b"sealed");
    let state = world.state("bank");
    let (tokens, away) = (state.join("softhsm/tokens"), state.join("softhsm/away"));
    std::fs::rename(&tokens, &away).unwrap();
    for _ in 0..2 {
        let pid = rustix::process::Pid::from_raw(i32::try_from(world.process("bank", "hsm-worker")).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let get = ["--operator", "auditor", "vault", "get", "a"];
    until("the HSM to be away", &|| lines(&world, "vault").iter().any(|(_, detail)| detail.contains("stay sealed")));
    let (code, name) = refused(&world, &get, b"");
    assert_eq!(code, 5, "{name}");
    assert_eq!(
        refused(&world, &["--operator", "bank-admin", "vault", "put", "b", "--reader", "role:auditor"], b"x").0,
        5
    );
    done(&world, &["notify", "test", "ops"], b"");
    assert!(is_signed_with(&web.next(), &[&second, &first]));
    std::fs::rename(&away, &tokens).unwrap();
    until("the HSM to be back", &|| given(&world, &get, b"").stdout == b"sealed");
    until("the doctor", &|| lines(&world, "vault").first().cloned().unwrap_or_default().0 == "ok");

    // Taken away it is used no longer; and at a start the newest one is read before anything is sent.
    done(&world, &["vault", "rm", "notify/ops"], b"");
    until("the secret to be gone", &|| lines(&world, "vault reader").first().cloned().unwrap_or_default().0 == "warn");
    assert_eq!(refused(&world, &test, b""), (1, "notify_test_failed".to_owned()));
    done(&world, &["vault", "put", "notify/ops", "--reader", "service:notify.ops"], whsec(&first).as_bytes());
    world.kill("bank");
    world.serve("bank");
    done(&world, &["notify", "test", "ops"], b"");
    assert!(is_signed_with(&web.next(), &[&first]));

    // Who receives has a day to learn of a rotation, or as long as the configuration says.
    done(&world, &["vault", "rotate", "notify/ops"], whsec(&second).as_bytes());
    until("the version before to sign beside the new one", &|| {
        done(&world, &["notify", "test", "ops"], b"");
        is_signed_with(&web.next(), &[&second, &first])
    });
    let beside = lines(&world, "vault reader").remove(1).1;
    assert!(beside.contains("the version before the newest") && beside.contains("version 4 is in use"), "{beside}");
    world.run("bank", &["stop"]);
    let config = world.state("bank").join("countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("secret_vault = \"notify/ops\"", "secret_vault = \"notify/ops\"\noverlap_s = 1"),
    )
    .unwrap();
    world.serve("bank");
    until("the new one alone to sign", &|| {
        done(&world, &["notify", "test", "ops"], b"");
        is_signed_with(&web.next(), &[&second])
    });
    assert_eq!(lines(&world, "vault reader").len(), 1);
}

#[test]
fn the_password_of_the_vaults_own_database_is_not_in_the_vault() {
    let world = World::new();
    let config = world.state("bank").join("countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[store]", "[store]\npassword_vault = \"db\"")).unwrap();
    let output = world.output("bank", &["check"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("the vault is inside this very database"), "{said}");
    std::fs::write(&config, text).unwrap();
}
