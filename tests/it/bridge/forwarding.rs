//! What a client asks reaches the bank, and what the bank says reaches the client: both generations.

use serde_json::{Value, json};

use super::fixture::{Client, Reply, Seen, Way, next_request, serve};

const URL: &str = "https://bank.example/approve/1";

/// Answers every method of a bank, each in a way that shows what it was asked.
fn bank(request: &Value) -> Reply {
    let params = &request["params"];
    let complete = |mut result: Value| {
        result["resultType"] = json!("complete");
        Reply::Result(result)
    };
    match request["method"].as_str().unwrap() {
        "server/discover" => complete(json!({
            "supportedVersions": ["2026-07-28"],
            "capabilities": {
                "tools": { "listChanged": true }, "resources": { "subscribe": true, "listChanged": true },
                "prompts": {}, "completions": {}, "logging": {},
                "extensions": { "io.modelcontextprotocol/tasks": {}, "example.com/other": {} },
            },
            "instructions": "Be careful.", "ttlMs": 0, "cacheScope": "private",
        })),
        "tools/list" if params["cursor"] == "second" => {
            complete(json!({ "tools": [], "ttlMs": 5, "cacheScope": "private" }))
        }
        "tools/list" => complete(json!({
            "tools": [{ "name": "pay", "title": "Pay", "inputSchema": { "type": "object" }, "annotations": { "destructiveHint": true } }],
            "nextCursor": "second", "ttlMs": 5, "cacheScope": "private",
        })),
        "resources/list" => complete(
            json!({ "resources": [{ "uri": "bank://policy", "name": "policy" }], "ttlMs": 0, "cacheScope": "private" }),
        ),
        "resources/templates/list" => complete(
            json!({ "resourceTemplates": [{ "uriTemplate": "bank://receipt/{id}", "name": "receipt" }], "ttlMs": 0, "cacheScope": "private" }),
        ),
        "resources/read" => complete(
            json!({ "contents": [{ "uri": params["uri"], "text": "the policy" }], "ttlMs": 0, "cacheScope": "private" }),
        ),
        "prompts/list" => complete(json!({ "prompts": [{ "name": "shop" }], "ttlMs": 0, "cacheScope": "private" })),
        "prompts/get" => complete(
            json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": params["arguments"]["what"] } }] }),
        ),
        "completion/complete" => complete(json!({ "completion": { "values": ["checking"] } })),
        "tasks/get" => complete(json!({
            "taskId": params["taskId"], "status": "working", "createdAt": "2026-01-01T00:00:00Z",
            "lastUpdatedAt": "2026-01-01T00:00:00Z", "ttlMs": null,
        })),
        "tasks/update" | "tasks/cancel" => complete(json!({})),
        "subscriptions/listen" => {
            let meta = json!({ "io.modelcontextprotocol/subscriptionId": request["id"] });
            let said = |method: &str, mut params: Value| {
                params["_meta"] = meta.clone();
                json!({ "jsonrpc": "2.0", "method": method, "params": params })
            };
            Reply::Open(vec![
                said("notifications/subscriptions/acknowledged", json!({ "notifications": params["notifications"] })),
                said("notifications/tools/list_changed", json!({})),
                said("notifications/resources/updated", json!({ "uri": "bank://policy" })),
            ])
        }
        "tools/call" => call(params),
        other => panic!("{other}"),
    }
}

fn call(params: &Value) -> Reply {
    let complete = |content: Value| json!({ "resultType": "complete", "content": [], "structuredContent": content, "isError": false });
    let declared = &params["_meta"]["io.modelcontextprotocol/clientCapabilities"];
    match params["name"].as_str().unwrap() {
        "pay" if !params["inputResponses"].is_null() => Reply::Result(complete(params.clone())),
        "pay" if declared["elicitation"]["url"].is_object() => Reply::Result(json!({
            "resultType": "input_required", "requestState": "sealed",
            "inputRequests": { "consent": { "method": "elicitation/create", "params": {
                "mode": "url", "message": "Approve 5 USD", "url": URL,
            } } },
        })),
        "pay" => Reply::Result(complete(json!({ "status": "requires_approval", "approval_url": URL }))),
        "task" => Reply::Result(json!({
            "resultType": "task", "taskId": "apr_1", "status": "working", "createdAt": "2026-01-01T00:00:00Z",
            "lastUpdatedAt": "2026-01-01T00:00:00Z", "ttlMs": 60000,
        })),
        "progress" => {
            let token = &params["_meta"]["progressToken"];
            let told = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": {
                "progressToken": token, "progress": 1.0, "total": 2.0, "message": "half",
            } });
            Reply::Events(vec![told], complete(json!({})))
        }
        "slow" => Reply::Open(vec![]),
        "cut" => Reply::HangUp,
        "refused" => {
            Reply::Error(json!({ "code": -32602, "message": "no such tool", "data": { "name": "unknown_tool" } }))
        }
        _ => Reply::Result(complete(params.clone())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_this_generation_passes_through_untouched() {
    let (address, seen) = serve(bank);
    let mut client = Client::of(Way::to(address));
    let hello = client.ask(1, "server/discover", json!({})).await["result"].clone();
    let capabilities = &hello["capabilities"];
    assert_eq!(capabilities["extensions"], json!({ "io.modelcontextprotocol/tasks": {} }), "{hello}");
    assert_eq!((&capabilities["tools"]["listChanged"], &hello["instructions"]), (&json!(true), &json!("Be careful.")));
    assert!(capabilities["logging"].is_null() && capabilities["completions"].is_object(), "{hello}");

    let listed = client.ask(2, "tools/list", json!({})).await["result"].clone();
    assert_eq!(listed["tools"][0]["annotations"]["destructiveHint"], true);
    assert_eq!((&listed["nextCursor"], &listed["cacheScope"]), (&json!("second"), &json!("private")));
    let more = client.ask(3, "tools/list", json!({ "cursor": "second" })).await["result"].clone();
    assert_eq!((&more["tools"], &more["nextCursor"]), (&json!([]), &Value::Null));
    let table = [
        ("resources/list", json!({}), "/resources/0/uri", json!("bank://policy")),
        ("resources/templates/list", json!({}), "/resourceTemplates/0/name", json!("receipt")),
        ("resources/read", json!({ "uri": "bank://polïcy" }), "/contents/0/uri", json!("bank://polïcy")),
        ("prompts/list", json!({}), "/prompts/0/name", json!("shop")),
        (
            "prompts/get",
            json!({ "name": "shop", "arguments": { "what": "tea" } }),
            "/messages/0/content/text",
            json!("tea"),
        ),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": "shop" }, "argument": { "name": "account", "value": "c" } }),
            "/completion/values/0",
            json!("checking"),
        ),
    ];
    for (id, (method, params, at, expected)) in (4..).zip(table) {
        let answer = client.ask(id, method, params).await;
        assert_eq!(answer["result"].pointer(at), Some(&expected), "{method}: {answer}");
    }
    let (head, _) = next_request(&seen, "resources/read");
    assert!(head.contains(&"mcp-name: =?base64?YmFuazovL3BvbMOvY3k=?=".to_owned()), "{head:?}");

    // Capabilities are declared a call; what the bank asks and is answered is not looked at.
    let url = json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {}, "roots": {} });
    client.request(20, "tools/call", json!({ "name": "pay", "arguments": { "amount": 5.25 } }), url.clone()).await;
    let asked = client.hear().await["result"].clone();
    assert_eq!((&asked["resultType"], &asked["requestState"]), (&json!("input_required"), &json!("sealed")));
    assert_eq!(asked["inputRequests"]["consent"]["params"]["url"], URL);
    let (head, body) = next_request(&seen, "tools/call");
    assert!(head.contains(&"mcp-name: pay".to_owned()) && head.contains(&"mcp-method: tools/call".to_owned()));
    let declared = &body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"];
    assert_eq!(*declared, json!({ "elicitation": { "url": {} } }));
    let retry = json!({
        "name": "pay", "arguments": { "amount": 5.25 }, "requestState": "sealed",
        "inputResponses": { "consent": { "action": "accept" } }, "_meta": { "traceparent": "00-1-2-01" },
    });
    client.request(21, "tools/call", retry.clone(), url).await;
    let paid = client.hear().await["result"]["structuredContent"].clone();
    for key in ["arguments", "requestState", "inputResponses"] {
        assert_eq!(paid[key], retry[key], "{paid}");
    }
    assert_eq!(paid["_meta"]["traceparent"], "00-1-2-01");
    let waits = client.ask(22, "tools/call", json!({ "name": "pay", "arguments": {} })).await;
    assert_eq!(waits["result"]["structuredContent"]["status"], "requires_approval", "{waits}");

    // Tasks are the caller's only if it says that it knows them.
    let tasks = json!({ "extensions": { "io.modelcontextprotocol/tasks": {}, "example.com/other": {} } });
    client.request(30, "tools/call", json!({ "name": "task" }), tasks.clone()).await;
    assert_eq!(client.hear().await["result"]["taskId"], "apr_1");
    for (id, method) in [(31, "tasks/get"), (32, "tasks/update"), (33, "tasks/cancel")] {
        let params = json!({ "taskId": "apr_1", "inputResponses": { "a": {} } });
        client.request(id, method, params, tasks.clone()).await;
        let answer = client.hear().await;
        assert!(answer["result"].is_object(), "{method}: {answer}");
        let (_, body) = next_request(&seen, method);
        let declared = &body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"];
        assert_eq!(*declared, json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } }));
    }
    assert_eq!(client.ask(34, "tasks/get", json!({ "taskId": "apr_1" })).await["error"]["code"], -32021);

    let refused = client.ask(40, "tools/call", json!({ "name": "refused" })).await;
    assert_eq!(
        (&refused["error"]["code"], &refused["error"]["data"]["name"]),
        (&json!(-32602), &json!("unknown_tool"))
    );
    let lost = client.ask(41, "tools/call", json!({ "name": "cut" })).await;
    let data = &lost["error"]["data"];
    assert_eq!((&data["name"], &data["may_have_happened"]), (&json!("answer_lost"), &json!("unknown")), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_no_hello_is_kept_from_nothing() {
    let (address, _seen) = serve(bank);
    let mut client = Client::of(Way::to(address));
    let tasks = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    client.request(1, "tasks/get", json!({ "taskId": "apr_1" }), tasks).await;
    assert_eq!(client.hear().await["result"]["taskId"], "apr_1");
    let filter = json!({ "toolsListChanged": true });
    client.request(2, "subscriptions/listen", json!({ "notifications": filter }), json!({})).await;
    let acknowledged = client.hear().await;
    assert_eq!(acknowledged["params"]["notifications"], filter, "{acknowledged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_arrives_and_what_is_cancelled_is_taken_back() {
    let (address, seen) = serve(bank);
    let mut client = Client::of(Way::to(address));
    let params = json!({ "name": "progress", "_meta": { "progressToken": "mine" } });
    client.request(1, "tools/call", params, json!({})).await;
    let told = client.hear().await;
    assert_eq!((&told["method"], &told["params"]["progressToken"]), (&json!("notifications/progress"), &json!("mine")));
    assert_eq!(client.hear().await["id"], 1);

    client.request(2, "tools/call", json!({ "name": "slow" }), json!({})).await;
    loop {
        let (_, body) = next_request(&seen, "tools/call");
        if body["params"]["name"] == "slow" {
            break;
        }
    }
    client.send(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 2 } })).await;
    let closed = seen.iter().find(|seen| matches!(seen, Seen::Closed(_))).unwrap();
    assert!(matches!(closed, Seen::Closed(method) if method == "tools/call"));

    client.ask(3, "server/discover", json!({})).await;
    let filter = json!({ "toolsListChanged": true, "resourceSubscriptions": ["bank://policy"] });
    client.request(4, "subscriptions/listen", json!({ "notifications": filter }), json!({})).await;
    for method in ["subscriptions/acknowledged", "tools/list_changed", "resources/updated"] {
        let told = client.hear().await;
        assert_eq!(told["method"], format!("notifications/{method}"));
        assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 4, "{told}");
    }
    client.send(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 4 } })).await;
    let closed = seen.iter().find(|seen| matches!(seen, Seen::Closed(_))).unwrap();
    assert!(matches!(closed, Seen::Closed(method) if method == "subscriptions/listen"));
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_the_generation_before_are_asked_in_their_own_way() {
    let accept = json!({ "action": "accept" });
    // (what the client can do, the mode it is asked in)
    let table = [
        (json!({ "elicitation": { "form": {}, "url": {} } }), Some("url")),
        (json!({ "elicitation": {} }), Some("form")),
        (json!({}), None),
    ];
    for (capabilities, mode) in table {
        let (address, _seen) = serve(bank);
        let mut client = Client::of(Way::to(address));
        let hello = client.initialize(capabilities).await;
        assert_eq!(hello["protocolVersion"], "2025-11-25", "{hello}");
        assert!(
            hello["capabilities"]["extensions"].is_null() && hello["capabilities"]["prompts"].is_object(),
            "{hello}"
        );
        let call =
            json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "pay", "arguments": {} } });
        client.send(call).await;
        if let Some(mode) = mode {
            let asked = client.hear_else().await;
            assert_eq!((&asked["method"], &asked["params"]["mode"]), (&json!("elicitation/create"), &json!(mode)));
            assert!(asked["params"].to_string().contains(URL), "{asked}");
            client.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": accept })).await;
        }
        let answer = client.hear_else().await["result"].clone();
        let content = &answer["structuredContent"];
        match mode {
            Some(_) => {
                assert_eq!(content["inputResponses"], json!({ "consent": accept }), "{answer}");
                assert_eq!(content["requestState"], "sealed");
            }
            None => assert_eq!(content["status"], "requires_approval"),
        }
        assert!(answer["resultType"].is_null(), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_is_away_fails_calls_at_once_and_says_when_to_come_back() {
    // A port that nobody listens on.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let way = Way::to(address);
    let mut client = Client::of(way.clone());
    let mut pauses = Vec::new();
    for id in 1..40 {
        let failed = client.ask(id, "tools/call", json!({ "name": "pay" })).await["error"].clone();
        let data = &failed["data"];
        assert_eq!((&failed["code"], &data["name"]), (&json!(-32010), &json!("bank_unreachable")), "{failed}");
        assert_eq!((&data["retry"], &data["may_have_happened"]), (&json!(true), &json!("no")), "{failed}");
        pauses.push(data["retry_after_ms"].as_u64().unwrap());
    }
    assert!(pauses.iter().all(|pause| (1..=10_000).contains(pause)), "{pauses:?}");

    // Somewhere else it is asked at once.
    let (elsewhere, _seen) = serve(bank);
    way.moves_to(elsewhere);
    let answer = client.ask(100, "tools/call", json!({ "name": "pay" })).await;
    assert_eq!(answer["result"]["structuredContent"]["status"], "requires_approval", "{answer}");
}
