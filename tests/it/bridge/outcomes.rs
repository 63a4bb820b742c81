//! What became of a call: told as it is known, and the call sent once. Rounds of a client of the generation before.

use serde_json::{Value, json};

use super::fixture::{Client, Reply, Way, count, next_request, raw, serve};

const JSON: &str = "content-type: application/json\r\n";
const EVENTS: &str = "content-type: text/event-stream\r\n";

/// A bank's own refusal.
fn refusal(name: &str, retry: bool, may_have_happened: &str) -> String {
    let error = json!({
        "kind": if retry { "busy" } else { "refused" }, "name": name, "message": "no", "next_step": "none",
        "retry": retry, "may_have_happened": may_have_happened,
    });
    json!({ "error": error }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_an_answer_is_told_as_unknown_and_nothing_is_sent_twice() {
    let short = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{\"jsonrpc\":";
    let comment = ": it is being worked on\n\n";
    let invalid = "www-authenticate: Bearer error=\"invalid_token\"\r\ncontent-type: application/json\r\n";
    let bearer = "www-authenticate: Bearer\r\ncontent-type: application/json\r\n";
    let refused = |name: &str| refusal(name, false, "no");
    // (how the bank answers, the name that is told, what may have happened, how often it was sent)
    let table: Vec<(Reply, &str, &str, usize)> = vec![
        (Reply::HangUp, "answer_lost", "unknown", 1),
        (Reply::Raw(short.into()), "answer_lost", "unknown", 1),
        (raw("502 Bad Gateway", "content-type: text/html\r\n", "<html>"), "answer_lost", "unknown", 1),
        (raw("500 Internal Server Error", JSON, "{}"), "answer_lost", "unknown", 1),
        (raw("200 OK", EVENTS, ""), "answer_lost", "unknown", 1),
        (raw("200 OK", EVENTS, comment), "answer_lost", "unknown", 1),
        (raw("200 OK", EVENTS, "data: {\"jsonrpc\"\n\n"), "answer_lost", "unknown", 1),
        (raw("200 OK", JSON, "{\"jsonrpc\":\"2.0\",\"id\":1}"), "answer_unreadable", "unknown", 1),
        (raw("200 OK", JSON, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":7}"), "answer_unreadable", "unknown", 1),
        // The bank says itself what it knows.
        (
            raw("504 Gateway Timeout", JSON, &refusal("request_timeout", true, "unknown")),
            "request_timeout",
            "unknown",
            1,
        ),
        (raw("409 Conflict", JSON, &refusal("nonce_replayed", false, "unknown")), "nonce_replayed", "unknown", 1),
        (raw("429 Too Many Requests", JSON, &refusal("too_many_requests", true, "no")), "too_many_requests", "no", 1),
        (raw("403 Forbidden", JSON, &refused("agent_frozen")), "agent_frozen", "no", 1),
        (raw("403 Forbidden", "content-type: text/html\r\n", "<html>"), "certificate_refused", "no", 1),
        (raw("401 Unauthorized", bearer, &refused("token_missing")), "token_missing", "no", 1),
        // Refused before it was read: this alone is sent again, once.
        (raw("401 Unauthorized", invalid, &refused("token_expired")), "token_expired", "no", 2),
        (raw("403 Forbidden", invalid, &refused("agent_frozen")), "agent_frozen", "no", 1),
    ];
    for (number, (reply, name, may_have_happened, times)) in table.into_iter().enumerate() {
        let Reply::Raw(text) = reply else {
            let (address, seen) = serve(|_| Reply::HangUp);
            expect(&mut Client::of(Way::to(address)), name, may_have_happened, number).await;
            assert_eq!(count(&seen, "tools/call"), times, "row {number}");
            continue;
        };
        let (address, seen) = serve(move |_| Reply::Raw(text.clone()));
        expect(&mut Client::of(Way::to(address)), name, may_have_happened, number).await;
        assert_eq!(count(&seen, "tools/call"), times, "row {number}");
    }
}

async fn expect(client: &mut Client, name: &str, may_have_happened: &str, row: usize) {
    let answer = client.ask(1, "tools/call", json!({ "name": "pay", "arguments": {} })).await;
    let data = &answer["error"]["data"];
    assert_eq!(
        (&data["name"], &data["may_have_happened"]),
        (&json!(name), &json!(may_have_happened)),
        "{row}: {answer}"
    );
    // Where the bank said nothing, a model is told what makes it safe to ask again.
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(!name.starts_with("answer_") || message.contains("same idempotency_key"), "{row}: {answer}");
}

/// What the bank asks for: a page, with this state.
fn asked(state: Option<&str>) -> Reply {
    let page = json!({ "mode": "url", "message": "Approve 5 USD", "url": "https://bank.example/approve/1" });
    let mut result = json!({
        "resultType": "input_required",
        "inputRequests": { "consent": { "method": "elicitation/create", "params": page } },
    });
    if let Some(state) = state {
        result["requestState"] = json!(state);
    }
    Reply::Result(result)
}

/// A bank that asks more than once, each tool in its way. A round is known by its state.
fn bank(request: &Value) -> Reply {
    let params = &request["params"];
    let first = params["inputResponses"].is_null();
    let complete = |content: Value| {
        Reply::Result(
            json!({ "resultType": "complete", "content": [], "structuredContent": content, "isError": false }),
        )
    };
    match (request["method"].as_str().unwrap(), params["name"].as_str().unwrap_or_default()) {
        ("server/discover", _) => {
            complete(json!({ "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} } }))
        }
        (_, "twice") if first => asked(Some("sealed")),
        (_, "twice") if params["requestState"] == "sealed" => asked(None),
        (_, "twice") => complete(params.clone()),
        (_, "endless") => asked(Some("again")),
        (_, "form") => Reply::Result(json!({
            "resultType": "input_required",
            "inputRequests": { "form": { "method": "elicitation/create", "params": {
                "mode": "form", "message": "PIN?", "requestedSchema": { "type": "object", "properties": {} },
            } } },
        })),
        (_, _) if first => asked(Some("sealed")),
        (_, "lost") => Reply::HangUp,
        (_, "refused") => Reply::Error(json!({ "code": -32602, "message": "request_state_used" })),
        (_, _) => complete(params.clone()),
    }
}

async fn legacy(address: std::net::SocketAddr) -> Client {
    let mut client = Client::of(Way::to(address));
    client.initialize(json!({ "elicitation": { "url": {} } })).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn each_round_is_a_request_of_its_own_with_the_state_of_the_one_before() {
    let (address, seen) = serve(bank);
    let mut client = legacy(address).await;
    client.call(7, "twice").await;
    for _ in 0..2 {
        let asked = client.hear_else().await;
        assert_eq!(asked["method"], "elicitation/create", "{asked}");
        client.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "accept" } })).await;
    }
    let answer = client.hear_else().await;
    assert_eq!(answer["id"], 7, "{answer}");
    let rounds: Vec<Value> = (0..3).map(|_| next_request(&seen, "tools/call").1).collect();
    assert_eq!(rounds[0]["id"], 7);
    assert!(rounds[1]["id"] != rounds[0]["id"] && rounds[2]["id"] != rounds[1]["id"], "{rounds:?}");
    let states: Vec<&Value> = rounds.iter().map(|round| &round["params"]["requestState"]).collect();
    assert_eq!(states, [&Value::Null, &json!("sealed"), &Value::Null]);
    assert!(!rounds[2]["params"].as_object().unwrap().contains_key("requestState"), "{}", rounds[2]);
    assert_eq!(rounds[1]["params"]["arguments"], rounds[0]["params"]["arguments"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_says_is_handed_on_and_no_word_is_a_cancel() {
    let table = [
        (json!({ "result": { "action": "accept" } }), "accept"),
        (json!({ "result": { "action": "decline" } }), "decline"),
        (json!({ "result": { "action": "cancel" } }), "cancel"),
        (json!({ "result": {} }), "cancel"),
        (json!({ "error": { "code": -32603, "message": "no window" } }), "cancel"),
    ];
    for (said, action) in table {
        let (address, _seen) = serve(bank);
        let mut client = legacy(address).await;
        client.call(1, "pay").await;
        let asked = client.hear_else().await;
        let mut said = said.clone();
        (said["jsonrpc"], said["id"]) = (json!("2.0"), asked["id"].clone());
        client.send(said).await;
        let answer = client.hear_else().await;
        let responses = &answer["result"]["structuredContent"]["inputResponses"];
        assert_eq!(responses["consent"]["action"], action, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_first_round_the_call_is_recorded_whatever_becomes_of_the_next() {
    // (tool, what is told, what may have happened, rounds)
    let table = [
        ("lost", json!("answer_lost"), "unknown", 2),
        ("refused", Value::Null, "yes", 2),
        ("form", json!("input_not_possible"), "yes", 1),
        ("endless", json!("input_without_end"), "yes", 10),
    ];
    for (tool, name, may_have_happened, rounds) in table {
        let (address, seen) = serve(bank);
        let mut client = legacy(address).await;
        client.call(1, tool).await;
        let answer = loop {
            let heard = client.hear_else().await;
            if heard["id"] == 1 && heard["method"].is_null() {
                break heard;
            }
            client.send(json!({ "jsonrpc": "2.0", "id": heard["id"], "result": { "action": "accept" } })).await;
        };
        let error = &answer["error"];
        assert_eq!((&error["data"]["name"], &error["data"]["may_have_happened"]), (&name, &json!(may_have_happened)));
        assert!(error["message"].as_str().unwrap().contains("idempotency_key"), "{answer}");
        assert_eq!(count(&seen, "tools/call"), rounds, "{tool}");
    }
}
