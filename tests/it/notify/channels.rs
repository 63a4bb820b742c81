//! Each channel at real receivers, and each way in which a receiver can fail, by its name.

use std::sync::Arc;

use countersign::notify::{Notifier, NotifyCall, Outside};
use countersign::ops::paths::StateDir;
use countersign::tls::asking::Unresolved;
use tokio_util::sync::CancellationToken;

use super::receivers::{Mail, Mood, Tls, Web, python, scripted_mail, scripted_mail_by_turns};
use super::{BEARER, Stage, asks, discreet, is_refused, route, secrets, settings, verified, webhook};
use crate::store::world::World;

fn mail(name: &str, port: u16, tls: &Tls, mode: &str) -> String {
    let root = tls.file("root.pem").display().to_string();
    format!(
        "[[channel]]\nname = \"{name}\"\nkind = \"smtp\"\nhost = \"localhost\"\nport = {port}\ntls = \"{mode}\"\n\
         root_file = \"{root}\"\nuser = \"bank\"\npassword_file = \"mail\"\nfrom = \"Bank <bank@example.com>\"\n\
         to = [\"ops@example.com\", \"duty@example.com\"]\ntimeout_ms = 10000\n"
    )
}

fn clear_mail(name: &str, port: u16) -> String {
    format!(
        "[[channel]]\nname = \"{name}\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\
         from = \"bank@example.com\"\nto = [\"ops@example.com\"]\ntimeout_ms = 1000\n"
    )
}

fn sms(name: &str, port: u16, more: &str) -> String {
    format!(
        "[[channel]]\nname = \"{name}\"\nkind = \"sms\"\nurl = \"http://127.0.0.1:{port}/send\"\nallow_private = true\n\
         auth_file = \"gateway\"\nfields = {{ to = \"+15550100\", body = \"{{text}}\", ref = \"{{id}}\" }}\n\
         timeout_ms = 1000\n{more}\n"
    )
}

/// The name of the failure of a test message.
fn failure(stage: &Stage, channel: &str) -> String {
    let failed = stage.ask(NotifyCall::Test { channel: channel.into() }).unwrap_err();
    discreet(&failed.message);
    if failed.name != "notify_test_failed" {
        return failed.name;
    }
    let name = failed.message.split(": ").nth(1).unwrap_or_default();
    name.to_owned()
}

#[test]
fn every_failure_of_a_receiver_has_its_name_and_gives_no_secret_away() {
    let mut stage = Stage::new();
    drop(stage.bank());
    let tls = Tls::new();
    let strangers = Tls::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let web = |mood: Mood| Web::start(&[mood]);
    let receivers = [
        (web(Mood::Status(500)), "webhook_refused"),
        (web(Mood::Status(404)), "webhook_refused"),
        (web(Mood::Status(401)), "webhook_refused"),
        (web(Mood::Status(429)), "webhook_refused"),
        (web(Mood::Status(410)), "webhook_gone"),
        (web(Mood::Head(302, "Location: http://127.0.0.1:1/elsewhere")), "webhook_redirected"),
        (web(Mood::Head(308, "Location: https://example.com/")), "webhook_redirected"),
        (web(Mood::Hang), "webhook_timeout"),
        (web(Mood::Close), "webhook_unreachable"),
        (web(Mood::Babble), "webhook_unreachable"),
    ];
    let gateways = [
        (web(Mood::Status(200)), "ok = [202]", "sms_refused"),
        (web(Mood::Status(500)), "", "sms_refused"),
        (web(Mood::Status(403)), "", "sms_refused"),
        (web(Mood::Status(410)), "", "sms_gone"),
        (web(Mood::Head(301, "Location: /elsewhere")), "", "sms_redirected"),
        (web(Mood::Hang), "", "sms_timeout"),
        (web(Mood::Close), "", "sms_unreachable"),
    ];
    let clear = [
        (&["S: 220 x\r\n", "EHLO", "S: 250 x\r\n", "MAIL", "S: 451 later hunter2-secret\r\n"][..], "smtp_deferred"),
        (&["S: 220 x\r\n", "EHLO", "S: 250 x\r\n", "MAIL", "S: 550 no hunter2-secret\r\n"], "smtp_refused"),
        (&["S: 220 x\r\n", "EHLO", "S: 250 x\r\n", "MAIL", "S: 250 x\r\n", "RCPT", "S: 550 no\r\n"], "smtp_refused"),
        (
            &[
                "S: 220 x\r\n",
                "EHLO",
                "S: 250 x\r\n",
                "MAIL",
                "S: 250 x\r\n",
                "RCPT",
                "S: 250 x\r\n",
                "DATA",
                "S: 354 x\r\n",
            ],
            "smtp_timeout",
        ),
        (&["S: 421 too busy\r\n"], "smtp_deferred"),
        (&["S: 220 x\r\n", "EHLO", "S: (flood)"], "smtp_answer_too_long"),
        (&["S: what\r\n"], "smtp_broken_off"),
        (&[], "smtp_timeout"),
    ];
    let start = [
        (&["S: 220 x\r\n", "EHLO", "S: 250 no TLS here\r\n"][..], "smtp_tls_failed"),
        (
            &["S: 220 x\r\n", "EHLO", "S: 250-x\r\n250 STARTTLS\r\n", "STARTTLS", "S: 220 go\r\n250 injected\r\n"],
            "smtp_tls_failed",
        ),
        (&["S: 220 x\r\n", "EHLO", "S: 250-x\r\n250 STARTTLS\r\n", "STARTTLS", "S: 454 no\r\n"], "smtp_deferred"),
        (
            &["S: 220 x\r\n", "EHLO", "S: 250-x\r\n250 STARTTLS\r\n", "STARTTLS", "S: 220 go\r\n", "never"],
            "smtp_timeout",
        ),
        (&["S: 554 go away\r\n"], "smtp_refused"),
        (&["S: 220 x\r\n", "EHLO", "S: (flood)"], "smtp_answer_too_long"),
    ];
    let (mut text, mut expected) = (String::new(), vec![]);
    let mut add = |channel: String, name: String, failure: &'static str| {
        text += &channel;
        expected.push((name, failure));
    };
    for (number, (web, failure)) in receivers.iter().enumerate() {
        let name = format!("hook-{number}");
        add(webhook(&name, web.port, "timeout_ms = 1000"), name, failure);
    }
    for (number, (web, more, failure)) in gateways.iter().enumerate() {
        let name = format!("sms-{number}");
        add(sms(&name, web.port, more), name, failure);
    }
    for (number, (script, failure)) in clear.iter().enumerate() {
        let name = format!("mail-{number}");
        add(clear_mail(&name, scripted_mail(script)), name, failure);
    }
    for (number, (script, failure)) in start.iter().enumerate() {
        let name = format!("start-{number}");
        add(
            mail(&name, scripted_mail(script), &tls, "starttls").replace("timeout_ms = 10000", "timeout_ms = 1000"),
            name,
            failure,
        );
    }
    // Nobody listens; and a certificate under a root that is not trusted.
    add(webhook("hook-closed", closed, ""), "hook-closed".into(), "webhook_unreachable");
    add(sms("sms-closed", closed, ""), "sms-closed".into(), "sms_unreachable");
    add(clear_mail("mail-closed", closed), "mail-closed".into(), "smtp_unreachable");
    let elsewhere = Web::tls(&[Mood::Status(200)], &strangers);
    let root = format!("root_file = \"{}\"", tls.file("root.pem").display());
    let https = |name: &str, port: u16| {
        webhook(name, port, &root).replace(&format!("http://127.0.0.1:{port}"), &format!("https://localhost:{port}"))
    };
    add(https("hook-stranger", elsewhere.port), "hook-stranger".into(), "webhook_unreachable");
    add(mail("mail-stranger", elsewhere.port, &tls, "implicit"), "mail-stranger".into(), "smtp_tls_failed");
    stage.start(&(text + &route("\"hook-0\"", "kinds = [\"policy_applied\"]")));
    assert_eq!(failure(&stage, "nobody"), "unknown_channel");
    for (channel, name) in &expected {
        assert_eq!(failure(&stage, channel), *name, "{channel}");
    }
    assert!(expected.len() >= 30);
    let auditor = crate::store::world::operator("eve", &["auditor"]);
    let (notifier, _, _) = stage.notifier.as_ref().unwrap();
    for call in [NotifyCall::Test { channel: "hook-0".into() }, NotifyCall::Retry { id: None }] {
        assert_eq!(notifier.desk(&auditor, call).unwrap_err().name, "operator_not_permitted");
    }
    let nobody = crate::store::world::operator("mallory", &[]);
    let list = || NotifyCall::List { state: None, after: None, limit: 1 };
    assert_eq!(notifier.desk(&nobody, list()).unwrap_err().name, "operator_not_permitted");
    notifier.desk(&auditor, list()).unwrap();
    assert_eq!(stage.ask(NotifyCall::Show { id: "1-x".into() }).unwrap_err().name, "unknown_notice");
    assert_eq!(stage.ask(NotifyCall::Retry { id: Some("1-x".into()) }).unwrap_err().name, "unknown_notice");
}

#[test]
fn a_dead_mailbox_silences_no_other_one_and_is_counted() {
    let mut stage = Stage::new();
    drop(stage.bank());
    let hello = ["S: 220 x\r\n", "EHLO", "S: 250 x\r\n", "MAIL", "S: 250 x\r\n"];
    let with = |rest: &[&'static str]| &*[&hello[..], rest].concat().leak();
    let taken = ["DATA", "S: 354 x\r\n", ".", "S: 250 taken\r\n"];
    let one_dead = scripted_mail(with(&[&["RCPT", "S: 550 no\r\n", "RCPT", "S: 250 x\r\n"][..], &taken].concat()));
    let all_dead = scripted_mail(with(&["RCPT", "S: 550 no\r\n", "RCPT", "S: 553 no\r\n"]));
    let none_yet = scripted_mail(with(&["RCPT", "S: 550 no\r\n", "RCPT", "S: 450 later\r\n"]));
    let two = |name: &str, port: u16| {
        clear_mail(name, port).replace("[\"ops@example.com\"]", "[\"gone@example.com\", \"ops@example.com\"]")
    };
    let text = two("one-dead", one_dead) + &two("all-dead", all_dead) + &two("none-yet", none_yet);
    let routes = route("\"one-dead\", \"all-dead\", \"none-yet\"", "");
    stage.start(&("pause_s = 3600\npause_max_s = 3600\n".to_owned() + &text + &routes));
    stage.begun();
    assert_eq!(failure(&stage, "all-dead"), "smtp_refused");
    assert_eq!(failure(&stage, "none-yet"), "smtp_deferred");
    let world = World::new(&*stage.store);
    world.now.set(countersign::ops::clock::now().0);
    world.ids.set(1_000);
    asks(&world, "k");
    stage.sequenced();
    stage.looked();
    let listed = stage.ask(NotifyCall::List { state: None, after: None, limit: 10 }).unwrap();
    let id = |channel: &str| {
        let found = listed["items"].as_array().unwrap().iter().find(|one| one["channel"] == channel).unwrap();
        found["id"].as_str().unwrap().to_owned()
    };
    let dead = stage.until(&id("all-dead"), "dead");
    assert_eq!(dead["error"], "smtp_refused: the server answered 553");
    let sent = stage.until(&id("one-dead"), "sent");
    assert_eq!(sent["error"], "smtp_some_refused: 1 of 2 addresses were not taken", "{sent}");
}

#[test]
fn an_address_that_is_put_off_gets_the_mail_later_and_the_others_only_once() {
    let mut stage = Stage::new();
    drop(stage.bank());
    let hello = ["S: 220 x\r\n", "EHLO", "S: 250 x\r\n", "MAIL", "S: 250 x\r\n"];
    let with = |rest: &[&'static str]| &*[&hello[..], rest].concat().leak();
    let taken = ["DATA", "S: 354 x\r\n", ".", "S: 250 taken\r\n"];
    let first = ["RCPT TO:<first", "S: 250 x\r\n", "RCPT TO:<late", "S: 451 later\r\n"];
    // Whoever has it is not named again: a line that is not waited for gets no answer.
    let again = ["RCPT TO:<late", "S: 250 x\r\n"];
    let port = scripted_mail_by_turns(vec![
        with(&[&first[..], &taken].concat()),
        with(&["RCPT TO:<late", "S: 451 later\r\n"]),
        with(&[&again[..], &taken].concat()),
    ]);
    let channel =
        clear_mail("greylisted", port).replace("\"ops@example.com\"", "\"first@example.com\", \"late@example.com\"");
    stage.start(&("pause_s = 1\npause_max_s = 1\n".to_owned() + &channel + &route("\"greylisted\"", "")));
    stage.begun();
    let world = World::new(&*stage.store);
    world.now.set(countersign::ops::clock::now().0);
    world.ids.set(1_000);
    asks(&world, "k");
    stage.sequenced();
    stage.looked();
    let listed = stage.ask(NotifyCall::List { state: None, after: None, limit: 10 }).unwrap();
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    let sent = stage.until(&id, "sent");
    assert_eq!((&sent["attempts"], &sent["error"]), (&3.into(), &serde_json::Value::Null), "{sent}");
}

#[test]
fn a_channel_without_an_address_claims_nothing_and_says_why() {
    let mut stage = Stage::new();
    drop(stage.bank());
    let web = Web::start(&[Mood::Status(200)]);
    let tls = Tls::new();
    let closed = mail("closed", 25, &tls, "starttls").replace("localhost", "no-such-name.invalid");
    let settings = settings(&(closed + &webhook("open", web.port, "") + &route("\"closed\", \"open\"", "")));
    let outside = Outside::read(&settings, &StateDir::new(stage.state.path()), Unresolved::Tolerated).unwrap();
    let entered = stage.runtime.enter();
    let notifier = Notifier::new(Arc::clone(&stage.store), "bank".parse().unwrap(), settings, outside);
    let stop = CancellationToken::new();
    let tasks = notifier.start(&stop);
    drop(entered);
    assert_eq!(tasks.len(), 2, "making, and the open channel's");
    stage.notifier = Some((notifier, stop, tasks));
    stage.begun();
    let world = World::new(&*stage.store);
    world.now.set(countersign::ops::clock::now().0);
    world.ids.set(1_000);
    asks(&world, "k");
    stage.sequenced();
    let got = web.next();
    stage.until(got.id().strip_prefix("ntc_").unwrap(), "sent");
    let id = got.id().strip_prefix("ntc_").unwrap().replace("open", "closed");
    let shown = stage.ask(NotifyCall::Show { id }).unwrap();
    assert_eq!((&shown["state"], &shown["attempts"]), (&"queued".into(), &0.into()), "{shown}");
    assert_eq!(failure(&stage, "closed"), "notify_unresolvable");
}

#[test]
fn a_webhook_is_tried_until_it_is_taken_and_given_up_where_that_is_said() {
    let mut stage = Stage::new();
    drop(stage.bank());
    let tls = Tls::new();
    let slow = Web::tls(&[Mood::Status(500), Mood::Hang, Mood::Head(503, "Retry-After: 1"), Mood::Endless], &tls);
    let gone = Web::start(&[Mood::Status(410), Mood::Status(200)]);
    let root = format!("root_file = \"{}\"\ntimeout_ms = 1000", tls.file("root.pem").display());
    let https = webhook("slow", slow.port, &root).replace("http://127.0.0.1", "https://localhost");
    let text = "pause_s = 1\n".to_owned() + &https + &webhook("gone", gone.port, "") + &route("\"slow\", \"gone\"", "");
    stage.start(&text);
    stage.begun();
    let world = World::new(&*stage.store);
    world.now.set(countersign::ops::clock::now().0);
    world.ids.set(1_000);
    asks(&world, "k");
    stage.sequenced();
    let tries: Vec<_> = (0..4).map(|_| slow.next()).collect();
    tries.iter().for_each(verified);
    assert!(tries.iter().all(|one| one.id() == tries[0].id() && one.body == tries[0].body), "{tries:?}");
    let id = tries[0].id().strip_prefix("ntc_").unwrap();
    assert_eq!(stage.until(id, "sent")["attempts"], 4);
    let first = gone.next();
    let id = first.id().strip_prefix("ntc_").unwrap();
    let dead = stage.until(id, "dead");
    assert_eq!(dead["error"], "webhook_gone: the receiver answered 410");
    assert_eq!(stage.ask(NotifyCall::Retry { id: Some(id.into()) }).unwrap()["retried"], 1);
    let again = gone.next();
    assert_eq!(again.id(), first.id());
    stage.until(id, "sent");
    assert_eq!(stage.ask(NotifyCall::Retry { id: Some(id.into()) }).unwrap_err().name, "notice_not_dead");
    assert_eq!(stage.ask(NotifyCall::Retry { id: None }).unwrap()["retried"], 0);
}

#[test]
fn a_gateway_gets_the_fields_that_are_configured() {
    let mut stage = Stage::new();
    drop(stage.bank());
    let (form, json) = (Web::start(&[Mood::Status(202)]), Web::start(&[Mood::Status(201)]));
    let text = sms("form", form.port, "body = \"form\"") + &sms("json", json.port, "chars_max = 60");
    stage.start(&(text + &route("\"form\", \"json\"", "")));
    stage.begun();
    let world = World::new(&*stage.store);
    world.now.set(countersign::ops::clock::now().0);
    world.ids.set(1_000);
    let approval = asks(&world, "k");
    stage.sequenced();
    let (form, json) = (form.next(), json.next());
    assert_eq!(
        (form.headers["authorization"].as_str(), form.headers["content-type"].as_str()),
        (BEARER, "application/x-www-form-urlencoded")
    );
    let fields: Vec<(String, String)> = form_urlencoded::parse(form.body.as_bytes()).into_owned().collect();
    assert_eq!(fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["body", "ref", "to"]);
    assert!(
        fields[0].1.contains(&approval.to_string()) && fields[0].1.contains("countersign approvals show"),
        "{fields:?}"
    );
    assert!(fields[1].1.ends_with("-form"));
    let said = json.json();
    assert_eq!(said["to"], "+15550100");
    assert_eq!(said["body"].as_str().unwrap().chars().count(), 60, "{said}");
    for body in [&form.body, &json.body] {
        discreet(body);
    }
}

#[test]
fn a_mail_server_gets_mail_in_tls_from_a_known_user_and_what_it_refuses_is_dead() {
    let Some(python) = python() else { return };
    let tls = Tls::new();
    let moods = ["starttls", "implicit", "defer", "drop", "hang", "refuse"];
    let servers = moods.map(|mood| Mail::start(&python, mood, &tls));
    let mut stage = Stage::new();
    drop(stage.bank());
    let mut text = "pause_s = 1\n".to_owned();
    for (mood, server) in moods.iter().zip(&servers) {
        text += &mail(mood, server.port, &tls, if *mood == "implicit" { "implicit" } else { "starttls" });
    }
    let stranger = mail("stranger", servers[0].port, &tls, "starttls").replace("user = \"bank\"", "user = \"mallory\"");
    let names = moods.map(|mood| format!("\"{mood}\"")).join(", ");
    stage.start(&(text + &stranger + &route(&names, "")));
    stage.begun();
    assert_eq!(failure(&stage, "stranger"), "smtp_auth_refused");
    let world = World::new(&*stage.store);
    world.now.set(countersign::ops::clock::now().0);
    world.ids.set(1_000);
    let approval = asks(&world, "k");
    stage.sequenced();
    let listed = |stage: &Stage| stage.ask(NotifyCall::List { state: None, after: None, limit: 10 }).unwrap();
    for (mood, server) in moods.iter().zip(&servers).take(5) {
        let first = server.next();
        let last = if matches!(*mood, "defer" | "drop" | "hang") { server.next() } else { first.clone() };
        for one in [&first, &last] {
            assert_eq!((&one["tls"], &one["user"]), (&true.into(), &"bank".into()), "{mood}: {one}");
            assert_eq!(one["to"], serde_json::json!(["ops@example.com", "duty@example.com"]), "{mood}");
            discreet(one["text"].as_str().unwrap());
        }
        let text = last["text"].as_str().unwrap();
        let header =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(header("Auto-Submitted: "), "auto-generated");
        assert_eq!(header("X-Countersign-Notice: "), "payment_waits");
        assert!(header("Subject: ").starts_with("[bank] A payment waits for approval"), "{text}");
        assert!(header("Message-ID: ").ends_with(&format!("-{mood}.bank@example.com>")), "{text}");
        let again = first["text"].as_str().unwrap();
        assert!(again.contains(header("Message-ID: ")) && again.contains(header("Date: ")), "{again}");
        assert!(text.contains(&approval.to_string()), "{text}");
    }
    let id = |stage: &Stage, mood: &str| {
        let listed = listed(stage);
        let found = listed["items"].as_array().unwrap().iter().find(|one| one["channel"] == mood).unwrap().clone();
        found["id"].as_str().unwrap().to_owned()
    };
    for mood in &moods[..5] {
        stage.until(&id(&stage, mood), "sent");
    }
    let dead = stage.until(&id(&stage, "refuse"), "dead");
    assert_eq!((&dead["error"], &dead["attempts"]), (&"smtp_refused: the server answered 550".into(), &1.into()));
    is_refused(&world, "quiet");
}

#[test]
fn what_a_channel_takes_from_files_is_looked_at_before_anything_starts() {
    use std::os::unix::fs::PermissionsExt;
    let state = tempfile::tempdir().unwrap();
    secrets(state.path());
    let write = |name: &str, text: &str, mode: u32| {
        std::fs::write(state.path().join(name), text).unwrap();
        std::fs::set_permissions(state.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("open", "whsec_x", 0o644);
    write("short", "whsec_AAAA", 0o600);
    write("lines", "a\nb\n", 0o600);
    write("control", "Bearer \u{7}", 0o600);
    write("words", "no PEM", 0o600);
    let tls = Tls::new();
    let hook = |from: &str, to: &str| webhook("c", 1, "").replace(from, to) + &route("\"c\"", "");
    let text = |from: &str, to: &str| sms("c", 1, "").replace(from, to) + &route("\"c\"", "");
    let post = |from: &str, to: &str| mail("c", 1, &tls, "starttls").replace(from, to) + &route("\"c\"", "");
    let table = [
        (hook("\"hook\"", "\"absent\""), "secret_file_missing"),
        (hook("\"hook\"", "\"open\""), "secret_file_too_open"),
        (hook("\"hook\"", "\"short\""), "webhook_secret_unusable"),
        (hook("\"hook\"", "\"mail\""), "webhook_secret_unusable"),
        (hook("\"hook\"", "\"lines\""), "secret_file_unusable"),
        (hook("secret_file = \"hook\"", "secret_credential = \"hook\""), "secret_credential_missing"),
        (hook("secret_file = \"hook\"", "secret_credential = \"../hook\""), "secret_credential_missing"),
        (hook("\"hook\"", "\"hook\"\nprevious_secret_file = \"absent\""), "secret_file_missing"),
        (hook("http://127.0.0.1:1", "https://no-such-name.invalid"), "notify_unresolvable"),
        (
            hook("http://127.0.0.1:1", "https://localhost").replace("\nsecret", "\nroot_file = \"words\"\nsecret"),
            "notify_root_unusable",
        ),
        (text("\"gateway\"", "\"absent\""), "secret_file_missing"),
        (text("\"gateway\"", "\"control\""), "sms_auth_unusable"),
        (post("\"mail\"", "\"open\""), "secret_file_too_open"),
        (post("\"localhost\"", "\"no-such-name.invalid\""), "notify_unresolvable"),
        (post(&tls.file("root.pem").display().to_string(), "words"), "notify_root_unusable"),
    ];
    for (text, name) in table {
        let refused = Outside::read(&settings(&text), &StateDir::new(state.path()), Unresolved::Refused).unwrap_err();
        assert_eq!(refused.name, name, "{text}: {}", refused.message);
        discreet(&refused.message);
    }
    let (hook, state) = (hook("\"hook\"", "\"hook\""), StateDir::new(state.path()));
    Arc::new(Outside::read(&settings(&hook), &state, Unresolved::Refused).unwrap());
}

/// The library of the specification, and the ten lines of docs/NOTIFICATIONS.md.
const VERIFY: &str = r#"
import json, sys
from standardwebhooks.webhooks import Webhook
secret, headers, body, documented = json.loads(sys.stdin.read())
exec(documented)
Webhook(secret).verify(body, headers)
assert verify(secret, headers, body.encode())
for change in ({"webhook-id": "ntc_2-ops"}, {"webhook-timestamp": "1"}, {"webhook-signature": "v1,AAAA"}):
    assert not verify(secret, {**headers, **change}, body.encode())
assert not verify(secret, headers, body.encode() + b" ")
print("ok")
"#;

#[test]
fn what_we_sign_is_verified_by_the_specifications_library_and_by_the_documented_lines() {
    let Some(python) = python() else { return };
    let mut stage = Stage::new();
    drop(stage.bank());
    let web = Web::start(&[Mood::Status(200)]);
    stage.start(&(webhook("ops", web.port, "") + &route("\"ops\"", "")));
    stage.ask(NotifyCall::Test { channel: "ops".into() }).unwrap();
    let got = web.next();
    verified(&got);
    let page = include_str!("../../../docs/NOTIFICATIONS.md");
    let documented = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let secret = std::fs::read_to_string(stage.state.path().join("hook")).unwrap();
    let said = serde_json::json!([secret, got.headers, got.body, documented]);
    let mut child = std::process::Command::new(python)
        .args(["-c", VERIFY])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), said.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n");
}
