//! Arguments that a bank wants in headers, too: learnt from its list, and anew when it refuses a call by its headers.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::fixture::{Client, Reply, Seen, Way, next_request, serve};

/// A bank whose tool marks `region`, and that refuses this many calls by their headers.
fn bank(refused: usize) -> impl Fn(&Value) -> Reply {
    let left = AtomicUsize::new(refused);
    move |request| match request["method"].as_str().unwrap() {
        "tools/list" => {
            let schema = |mark: &str| json!({ "type": "object", "properties": { "region": { "type": "string", "x-mcp-header": mark } } });
            Reply::Result(json!({
                "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
                "tools": [
                    { "name": "ask", "inputSchema": schema("Region") },
                    { "name": "broken", "inputSchema": schema("two words") },
                ],
            }))
        }
        "tools/call" if request["params"]["name"] == "unknown" => {
            Reply::Error(json!({ "code": -32602, "message": "no such tool" }))
        }
        "tools/call" if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() => {
            Reply::Error(json!({ "code": -32020, "message": "missing Mcp-Param-Region header for `region`" }))
        }
        "tools/call" => Reply::Result(json!({ "resultType": "complete", "content": [], "isError": false })),
        other => panic!("{other}"),
    }
}

/// The methods that were asked, and the header of each.
fn asked(seen: &std::sync::mpsc::Receiver<Seen>) -> Vec<(String, Option<String>)> {
    let request = |seen: Seen| match seen {
        Seen::Request(head, body) => {
            let header = head.iter().find_map(|line| line.strip_prefix("mcp-param-region: ")).map(str::to_owned);
            Some((body["method"].as_str().unwrap().to_owned(), header))
        }
        Seen::Closed(_) => None,
    };
    seen.try_iter().filter_map(request).collect()
}

fn call() -> Value {
    json!({ "name": "ask", "arguments": { "region": "Zürich" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_refused_by_its_headers_is_asked_again_with_those_that_the_list_wants() {
    let (address, seen) = serve(bank(1));
    let mut client = Client::of(Way::to(address));
    let region = || Some("=?base64?WsO8cmljaA==?=".to_owned());
    let (called, listed) = (|header| ("tools/call".to_owned(), header), ("tools/list".to_owned(), None));
    // Nobody has listed yet: the bank says that a header is missing.
    assert!(client.ask(1, "tools/call", call()).await["result"].is_object());
    assert_eq!(asked(&seen), [called(None), listed, called(region())]);
    // From now on it is known.
    assert!(client.ask(2, "tools/call", call()).await["result"].is_object());
    assert_eq!(asked(&seen), [called(region())]);
    let none = json!({ "name": "ask", "arguments": { "region": null } });
    assert!(client.ask(3, "tools/call", none).await["result"].is_object());
    assert_eq!(asked(&seen), [called(None)]);
    // A tool whose marks break a rule is not shown, and takes no other with it.
    let tools = client.ask(4, "tools/list", json!({})).await["result"]["tools"].clone();
    assert_eq!((tools.as_array().unwrap().len(), &tools[0]["name"]), (1, &json!("ask")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_asked_again_only_if_its_headers_are_others_and_once() {
    let (address, seen) = serve(bank(usize::MAX));
    let mut client = Client::of(Way::to(address));
    // (tool, calls and lists that the bank sees, what it says)
    let table = [
        // Learnt, asked again, refused again.
        ("ask", vec!["tools/call", "tools/list", "tools/call"], -32020),
        // The list says nothing new.
        ("ask", vec!["tools/call", "tools/list"], -32020),
        // Refused for something else.
        ("unknown", vec!["tools/call"], -32602),
    ];
    for (id, (tool, methods, code)) in (1..).zip(table) {
        let mut params = call();
        params["name"] = json!(tool);
        let error = client.ask(id, "tools/call", params).await["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        let asked: Vec<String> = asked(&seen).into_iter().map(|(method, _)| method).collect();
        assert_eq!(asked, methods, "row {id}");
    }
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_travels_in_a_header_cannot_become_another_header() {
    let (address, seen) = serve(bank(0));
    let mut client = Client::of(Way::to(address));
    client.ask(1, "tools/list", json!({})).await;
    let params = json!({ "name": "ask", "arguments": { "region": "x\r\nauthorization: Bearer y" } });
    assert!(client.ask(2, "tools/call", params).await["result"].is_object());
    let (head, _) = next_request(&seen, "tools/call");
    assert_eq!(head.iter().filter(|line| line.starts_with("authorization:")).count(), 1, "{head:?}");
    assert!(head.iter().any(|line| line.starts_with("mcp-param-region: =?base64?")), "{head:?}");
}
