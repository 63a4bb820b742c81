//! The strict edge against a real daemon whose limits are small: each limit is met, has its name, and costs nobody else
//! anything.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use countersign::mcp::signed_http::fresh;
use serde_json::{Value, json};

use crate::crash::until;
use crate::support::raw::{bearing, message, token_request, tool_call, with, with_body};
use crate::support::signed::{Agent, Answer, Line, granted, signed, signed_only};
use crate::support::world::World;

const DOCUMENT: &[u8] = b"GET /oauth/jwks HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// A world whose bank has these limits instead of its own.
fn world(limits: &[(&str, u64)]) -> (World, Agent) {
    world_with(limits, "")
}

/// The same, with more at the end of the bank's configuration.
fn world_with(limits: &[(&str, u64)], more: &str) -> (World, Agent) {
    let world = World::new();
    let path = world.state("bank").join("countersign.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (name, limit) in limits {
        let line = lines.iter_mut().find(|line| line.starts_with(&format!("{name} = "))).unwrap();
        *line = format!("{name} = {limit}");
    }
    world.kill("bank");
    std::fs::write(&path, format!("{}\n{more}", lines.join("\n"))).unwrap();
    world.serve("bank");
    let agent = Agent::new(&world.state("bank"), &world.state("agent"), "assistant");
    (world, agent)
}

/// The MCP listener's address now.
fn address(world: &World) -> SocketAddr {
    let ports: Value =
        serde_json::from_slice(&std::fs::read(world.state("bank").join("run/ports.json")).unwrap()).unwrap();
    ports["mcp"].as_str().unwrap().parse().unwrap()
}

/// How often the bank has turned somebody away for this reason.
fn refused(world: &World, name: &str) -> u64 {
    status(world)["refused_handshakes"][name].as_u64().unwrap_or_default()
}

fn status(world: &World) -> Value {
    serde_json::from_str(&world.run("bank", &["--operator", "auditor", "--json", "status"])).unwrap()
}

fn balance() -> Vec<u8> {
    tool_call("get_account_balance", &json!({ "account_id": "CHK_001" }))
}

#[test]
fn a_message_that_could_be_read_in_two_ways_is_read_in_none() {
    let (_world, agent) = world(&[("json_depth_max", 8), ("body_bytes_max", 4096)]);
    let mut line = agent.line();
    let good = balance();
    let version = "Mcp-Protocol-Version: 2026-07-28";
    let order = tool_call(
        "authorize_transfer",
        &json!({
            "from_account": "CHK_001", "to_account": "SAV_001", "amount": 0.01, "idempotency_key": "edge",
        }),
    );
    // What is wrong, the status, the edge's name or MCP's code.
    let table: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("another revision in the header", with(&good, version, "Mcp-Protocol-Version: 2025-11-25"), 400, "-32020"),
        ("another revision in the body", with_body(&good, "\":\"2026-07-28\"", "\":\"2025-11-25\""), 400, "-32020"),
        (
            "another revision in both",
            with_body(
                &with(&good, version, "Mcp-Protocol-Version: 2025-11-25"),
                "\":\"2026-07-28\"",
                "\":\"2025-11-25\"",
            ),
            400,
            "-32022",
        ),
        ("no revision", with(&good, &format!("{version}\r\n"), ""), 401, "signature_component_missing"),
        (
            "another method in the header",
            with(&good, "Mcp-Method: tools/call", "Mcp-Method: tools/list"),
            400,
            "-32020",
        ),
        ("another tool in the header", with(&good, "Mcp-Name: get_account", "Mcp-Name: set_account"), 400, "-32020"),
        ("no tool in the header", with(&good, "Mcp-Name: get_account_balance\r\n", ""), 400, "-32020"),
        ("an unknown method", message("tools/steal", json!({})), 404, "-32601"),
        ("a Host that is not ours", with(&good, "127.0.0.1", "evil.example"), 403, "host_not_allowed"),
        ("a Host with a user", with(&good, "127.0.0.1", "127.0.0.1@evil.example"), 403, "host_not_allowed"),
        ("two Hosts", with(&good, "Host: 127.0.0.1", "Host: 127.0.0.1\r\nHost: localhost"), 400, "host_malformed"),
        ("an Origin", with(&good, "Accept:", "Origin: https://127.0.0.1\r\nAccept:"), 403, "origin_not_allowed"),
        ("an empty Origin", with(&good, "Accept:", "Origin: null\r\nAccept:"), 403, "origin_not_allowed"),
        ("two values", with_body(&good, "{\"jsonrpc\"", "{}{\"jsonrpc\""), 400, "json_malformed"),
        (
            "a key twice",
            with_body(&good, "\"method\"", "\"method\":\"tools/list\",\"method\""),
            400,
            "json_duplicate_key",
        ),
        ("a byte order mark", with_body(&good, "{\"jsonrpc\"", "\u{feff}{\"jsonrpc\""), 400, "json_malformed"),
        ("nine levels", with_body(&good, "\"CHK_001\"", "[[[[[[[[]]]]]]]]"), 400, "json_too_deep"),
        ("a long body", with_body(&good, "\"CHK_001\"", &format!("\"{}\"", "x".repeat(4096))), 413, "body_too_long"),
        ("an exponent", with_body(&order, "0.01", "1e-2"), 400, "json_imprecise_number"),
        ("17 digits", with_body(&order, "0.01", "1.0000000000000001"), 400, "json_imprecise_number"),
        ("a member more", with_body(&good, "{\"jsonrpc\"", "{\"admin\":true,\"jsonrpc\""), 400, "json_unknown_member"),
        (
            "a parameter more",
            with_body(&good, "\"name\":\"get", "\"role\":\"all\",\"name\":\"get"),
            400,
            "json_unknown_member",
        ),
        (
            "an argument more",
            with_body(&good, "\"account_id\"", "\"all\":true,\"account_id\""),
            200,
            "invalid_arguments",
        ),
    ];
    for (what, request, status, name) in table {
        let answer = line.ask(&signed(&agent, &request));
        let said = [
            answer.name().to_owned(),
            answer.body["error"]["code"].to_string(),
            answer.content()["reason"].as_str().unwrap_or_default().to_owned(),
        ];
        assert!(answer.status == status && said.contains(&name.to_owned()), "{what}: {answer:?}");
        if answer.head.to_ascii_lowercase().contains("connection: close") {
            line = agent.line();
        }
    }
    assert_eq!(line.ask(&signed(&agent, &good)).status, 200);
}

#[test]
fn a_connection_that_is_slow_or_idle_is_given_up() {
    let (world, agent) =
        world(&[("handshake_timeout_ms", 3_000), ("header_timeout_ms", 3_000), ("body_timeout_ms", 3_000)]);
    let slow = with(&signed(&agent, &balance()), "Content-Length: ", "Content-Length: 1");

    let mut silent = TcpStream::connect(address(&world)).unwrap();
    let _ = silent.read_to_end(&mut Vec::new());
    assert_eq!(refused(&world, "handshake_timeout"), 1);

    let mut line = agent.line();
    line.send(b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n");
    let ended = line.rest();
    assert!(!ended.contains("200"), "{ended}");
    let mut line = agent.line();
    assert_eq!(line.ask(DOCUMENT).status, 200);
    assert_eq!(line.rest(), "", "idle between two requests");
    let mut line = agent.line();
    line.send(&slow);
    let ended = line.rest();
    assert!(ended.starts_with("HTTP/1.1 408") && ended.contains("body_timeout"), "{ended}");

    // Two at once, in one write: both are answered, in their order.
    let two = [signed(&agent, &balance()), DOCUMENT.to_vec()].concat();
    let mut line = agent.line();
    line.send(&two);
    let answers: [Answer; 2] = line.answers();
    assert_eq!(answers[0].content()["currency"], "USD");
    assert!(answers[1].body["keys"].is_array());
}

#[test]
fn heads_have_a_length_and_a_number_of_lines() {
    let (_world, agent) = world(&[("headers_max", 24), ("header_bytes_max", 8192)]);
    let lines = |count: usize| (0..count).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
    for (what, headers, status) in [
        ("a few more headers", lines(10), "200"),
        ("thirty headers", lines(30), "431"),
        ("a long header", format!("X: {}\r\n", "y".repeat(9_000)), "431"),
        ("a long header that never ends", format!("X: {}", "y".repeat(20_000)), "431"),
    ] {
        let mut line = agent.line();
        line.send(with(DOCUMENT, "\r\n\r\n", &format!("\r\nConnection: close\r\n{headers}\r\n")).as_slice());
        let answer = line.rest();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {answer:.200}");
    }
    let mut line = agent.line();
    line.send(format!("GET /{} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "x".repeat(9_000)).as_bytes());
    let answer = line.rest();
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer:.200}");
}

#[test]
fn one_agent_and_one_address_have_so_many_connections_and_no_more() {
    let (world, agent) =
        world(&[("connections_of_agent_max", 4), ("handshakes_of_source_max", 3), ("handshake_timeout_ms", 60_000)]);
    // Until it is told that it has too many: never later than at the fifth.
    let mut lines: Vec<Line> = Vec::new();
    let crowded = loop {
        let mut line = agent.line();
        let answer = line.ask(DOCUMENT);
        if answer.status != 200 {
            break answer;
        }
        lines.push(line);
        assert!(lines.len() <= 4);
    };
    assert_eq!((crowded.status, crowded.name()), (429, "too_many_connections_of_one"), "{crowded:?}");
    let head = crowded.head.to_ascii_lowercase();
    assert!(head.contains("retry-after: 1") && head.contains("connection: close"), "{head}");
    // Those that it has go on, and one that ends makes room.
    assert!(lines.iter_mut().all(|line| line.ask(DOCUMENT).status == 200));
    lines.pop();
    let has_room = (0..1_000).any(|_| agent.line().ask(DOCUMENT).status == 200);
    assert!(has_room);

    let strangers: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(address(&world)).unwrap()).collect();
    // They are taken in the order in which they came: the last one is hung up on, long before its handshake is late.
    let _ = (&strangers[3]).read(&mut [0]);
    assert!(refused(&world, "too_many_handshakes_of_one") >= 1);
    // Who has a connection already notices nothing.
    assert_eq!(lines[0].ask(DOCUMENT).status, 200);
}

#[test]
fn more_than_can_be_answered_at_once_is_told_to_come_again() {
    let (_world, agent) =
        world(&[("requests_max", 1), ("tokens_of_agent_burst", 3), ("tokens_of_agent_per_second", 1)]);
    let waiting = with(&signed(&agent, &balance()), "Accept:", "Expect: 100-continue\r\nAccept:");
    let end = waiting.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let (mut first, mut second) = (agent.line(), agent.line());
    first.send(&waiting[..end]);
    // Its turn began: the bank asks for the body.
    first.read_until(b"HTTP/1.1 100 Continue\r\n\r\n");
    let refused = second.ask(DOCUMENT);
    assert_eq!((refused.status, refused.name()), (429, "too_many_requests"), "{refused:?}");
    assert!(refused.head.to_ascii_lowercase().contains("retry-after: 1"), "{}", refused.head);
    // At the token endpoint in the words that are read there.
    let refused = second.ask(&token_request(""));
    assert_eq!((refused.status, &refused.body["error"]), (429, &json!("slow_down")), "{refused:?}");
    let head = refused.head.to_ascii_lowercase();
    assert!(head.contains("retry-after: 1") && head.contains("cache-control: no-store"), "{head}");
    first.send(&waiting[end..]);
    assert_eq!(first.answer().content()["currency"], "USD");
    assert_eq!(second.ask(DOCUMENT).status, 200);

    let refused = (0..100).map(|_| second.ask(&token_request(""))).find(|answer| answer.status != 200).unwrap();
    let description = refused.body["error_description"].as_str().unwrap_or_default();
    assert_eq!((refused.status, &refused.body["error"]), (429, &json!("slow_down")), "{refused:?}");
    assert!(description.starts_with("too_many_tokens: "), "{description}");
    let head = refused.head.to_ascii_lowercase();
    assert!(head.contains("retry-after: 1") && head.contains("cache-control: no-store"), "{head}");
    // The token that it has goes on.
    assert_eq!(second.ask(&signed_only(&agent, &agent.with_token(&balance()), fresh())).status, 200);
}

/// Asks until it is told to wait; answers how often it was served before, and the refusal.
fn flooded(agent: &Agent, line: &mut Line, request: &[u8]) -> (usize, Answer) {
    for served in 0..100 {
        let answer = line.ask(&signed(agent, request));
        if answer.status != 200 {
            return (served, answer);
        }
    }
    panic!("nobody said no");
}

#[test]
fn an_agent_that_asks_too_often_waits_and_says_until_when_and_no_other_does() {
    let rates = "[listen.limits.rates]
        agent = { per_minute = 2, burst = 8 }
        [listen.limits.rates.tools]
        list_accounts = { per_minute = 1, burst = 3 }
        [listen.limits.rates.roles]
        purchaser = { per_minute = 1, burst = 12 }";
    let (world, greedy) = world_with(&[], rates);
    world.enrol("modest");
    let modest = Agent::new(&world.state("bank"), &world.state("agent"), "modest");
    let (mut line, mut other) = (greedy.line(), modest.line());
    let list = tool_call("list_accounts", &json!({}));
    // What is told: the name, a time that is not longer than the limit's interval, in both forms.
    let told = |answer: &Answer, name: &str, interval_s: u64| {
        assert_eq!((answer.status, answer.name()), (429, name), "{answer:?}");
        let wait_ms = answer.body["error"]["retry_after_ms"].as_u64().unwrap();
        let head = answer.head.to_ascii_lowercase();
        assert!(head.contains(&format!("retry-after: {}\r\n", wait_ms.div_ceil(1_000))), "{head}");
        assert!((1..=interval_s * 1_000).contains(&wait_ms), "{wait_ms}");
        assert_eq!(
            (answer.body["error"]["retry"].as_bool(), answer.body["error"]["kind"].as_str()),
            (Some(true), Some("busy"))
        );
        assert_eq!(answer.body["error"]["may_have_happened"], "no");
    };
    let (served, answer) = flooded(&greedy, &mut line, &list);
    assert_eq!(served, 3);
    told(&answer, "tool_rate_exceeded", 60);
    let (served, answer) = flooded(&greedy, &mut line, &balance());
    assert!(served >= 4, "{served}");
    told(&answer, "agent_rate_exceeded", 30);
    // The other agent has turns of its own: of itself, and of the tool.
    let (served, answer) = flooded(&modest, &mut other, &list);
    assert!(served == 3, "{served}");
    told(&answer, "tool_rate_exceeded", 60);
    // What the role has left is for both.
    let (_, answer) = flooded(&modest, &mut other, &balance());
    told(&answer, "role_rate_exceeded", 60);
    for name in ["tool_rate_exceeded", "agent_rate_exceeded", "role_rate_exceeded"] {
        assert!(refused(&world, name) >= 1, "{name}");
    }
    // A daemon that starts anew has forgotten its own limits' turns.
    world.kill("bank");
    world.serve("bank");
    let mut line = greedy.line();
    assert_eq!(flooded(&greedy, &mut line, &list).0, 3);
}

#[test]
fn turns_that_the_store_counts_outlive_the_daemon() {
    let rates = "[listen.limits.rates.tools]
        list_accounts = { per_minute = 1, burst = 2, shared = true }";
    let (world, agent) = world_with(&[], rates);
    let list = tool_call("list_accounts", &json!({}));
    let mut line = agent.line();
    let (served, answer) = flooded(&agent, &mut line, &list);
    assert_eq!((served, answer.status, answer.name()), (2, 429, "tool_rate_exceeded"), "{answer:?}");
    world.kill("bank");
    world.serve("bank");
    let mut line = agent.line();
    // A minute may have passed on a slow machine, not two.
    assert!(flooded(&agent, &mut line, &list).0 <= 1);
}

#[test]
fn connections_and_handshakes_at_once_have_an_end_and_who_is_connected_notices_nothing() {
    // The limit, its refusal, who holds the places: agents that are connected, or a stranger that says nothing.
    for (limits, name, connected, silent) in [
        (&[("connections_max", 2), ("handshake_timeout_ms", 60_000)], "too_many_connections", 2, 0),
        (&[("handshakes_max", 1), ("handshake_timeout_ms", 60_000)], "too_many_handshakes", 1, 1),
    ] {
        let (world, agent) = world(limits);
        let mut lines: Vec<Line> = (0..connected).map(|_| agent.line()).collect();
        assert!(lines.iter_mut().all(|line| line.ask(DOCUMENT).status == 200), "{name}");
        let holding: Vec<TcpStream> = (0..silent).map(|_| TcpStream::connect(address(&world)).unwrap()).collect();
        assert_eq!(refused(&world, name), 0, "{name}");
        // One more is hung up on, before it has said a word.
        let mut beyond = TcpStream::connect(address(&world)).unwrap();
        let mut said = Vec::new();
        let _ = beyond.read_to_end(&mut said);
        assert_eq!((said.len(), refused(&world, name)), (0, 1), "{name}");
        assert!(agent.line().try_ask(DOCUMENT).is_none(), "{name}");
        assert!(lines.iter_mut().all(|line| line.ask(DOCUMENT).status == 200), "{name}");
        // Whoever goes makes room.
        drop((lines, holding));
        let answered = (0..1_000).find_map(|_| agent.line().try_ask(DOCUMENT));
        assert_eq!(answered.map(|answer| answer.status), Some(200), "{name}");
    }
}

#[test]
fn a_request_has_so_much_time_and_others_are_answered_meanwhile() {
    let (_world, agent) = world(&[("request_timeout_ms", 5_000), ("body_timeout_ms", 60_000)]);
    let request = with(&signed(&agent, &balance()), "Accept:", "Expect: 100-continue\r\nAccept:");
    let end = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let (mut slow, mut other) = (agent.line(), agent.line());
    slow.send(&request[..end]);
    slow.read_until(b"HTTP/1.1 100 Continue\r\n\r\n");
    // Its time runs, and nobody else's.
    assert_eq!(other.ask(&signed(&agent, &balance())).content()["currency"], "USD");
    let late = slow.answer();
    assert_eq!((late.status, late.name()), (504, "request_timeout"), "{late:?}");
    let error = &late.body["error"];
    assert_eq!((&error["may_have_happened"], &error["retry"]), (&json!("unknown"), &json!(true)), "{late:?}");
    assert_eq!(other.ask(&signed(&agent, &balance())).content()["currency"], "USD");
}

#[test]
fn a_token_that_finds_no_room_in_the_memory_of_tokens_counts_as_much_as_the_one_that_did() {
    let (world, agent) = world(&[("tokens_remembered_max", 1)]);
    let mut line = agent.line();
    let tokens =
        ["", "&scope=list_accounts", "&scope=list_transactions"].map(|scope| granted(&line.ask(&token_request(scope))));
    let mut ask = |token: &str| line.ask(&signed_only(&agent, &bearing(token, &balance()), fresh()));
    for turn in 0..3 {
        // The first one is remembered; it is neither put out by the others nor taken for one of them.
        for (token, reason) in tokens.iter().zip([Value::Null, json!("scope_exceeded"), json!("scope_exceeded")]) {
            let answer = ask(token);
            assert_eq!((answer.status, &answer.content()["reason"]), (200, &reason), "{turn}: {answer:?}");
        }
    }
    // What was remembered ends as what was not.
    for _ in 0..2 {
        world.run("bank", &["--operator", "bank-admin", "key", "rotate", "token"]);
    }
    for token in &tokens {
        assert_eq!(ask(token).name(), "token_key_unknown");
    }
}

#[test]
fn a_connection_without_a_word_is_asked_for() {
    let (world, agent) = world(&[]);
    let mut line = agent.line();
    assert_eq!(line.ask(DOCUMENT).status, 200);
    // The bank's end as the kernel has it: established, and a timer that will ask whether anybody is there.
    let hex = |port: u16| format!("0100007F:{port:04X}");
    let (bank, own) = (hex(address(&world).port()), hex(line.port()));
    // Not before the answer is acknowledged: until then the timer is for sending it again.
    let left = until("a timer that asks", || {
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let ends = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ends: Vec<_> = ends.filter(|words| words.get(1) == Some(&&*bank) && words.get(2) == Some(&&*own)).collect();
        let [end] = &ends[..] else { panic!("{sockets}") };
        let (timer, hundredths) = end[5].split_once(':').unwrap();
        assert_eq!(end[3], "01", "{end:?}");
        (timer == "02").then(|| u64::from_str_radix(hundredths, 16).unwrap())
    });
    assert!(left <= 60 * 100, "{left}");
}
