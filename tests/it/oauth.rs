//! Access tokens against real daemons: what is issued, to whom, and that it is worth nothing to anybody else.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::kernel::jwt::{TokenRefusal, verify_signature};
use countersign::kernel::sign::{Algorithm, spki_der};
use countersign::kernel::types::Sha256;
use countersign::mcp::signed_http::fresh;
use serde_json::{Value, json};

use crate::keys::vectors;
use crate::support::raw::{bearing, form, get, message, post, token_request, tool_call};
use crate::support::signed::{Agent, granted, signed, signed_only};
use crate::support::world::World;

const RESOURCE: &str = "https://127.0.0.1/mcp";

fn assistant(world: &World) -> Agent {
    Agent::new(&world.state("bank"), &world.state("agent"), "assistant")
}

/// A second agent of the same role, as much alive as the first.
fn butler(world: &World) -> Agent {
    world.enrol("butler");
    Agent::new(&world.state("bank"), &world.state("agent"), "butler")
}

fn balance() -> Vec<u8> {
    tool_call("get_account_balance", &json!({ "account_id": "CHK_001" }))
}

/// One part of a token, read.
fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The newest leaves, once this is among them: a leaf has its place a moment after the answer.
fn leaves_with(world: &World, text: &str) -> String {
    let show = ["--operator", "auditor", "--json", "audit", "show", "--limit", "200"];
    let found = (0..100).map(|_| world.run("bank", &show)).find(|leaves| leaves.contains(text));
    found.unwrap_or_else(|| panic!("no leaf has {text}"))
}

#[test]
fn a_token_says_who_may_use_which_tools_with_which_certificate_and_where() {
    let world = World::new();
    let agent = assistant(&world);
    let mut line = agent.line();
    let answer = line.ask(&token_request("&resource=https%3A%2F%2F127.0.0.1%2Fmcp"));
    assert_eq!((answer.status, &answer.body["token_type"]), (200, &json!("Bearer")), "{answer:?}");
    assert_eq!(answer.body["expires_in"], 300);
    assert!(answer.head.to_ascii_lowercase().contains("cache-control: no-store"), "{}", answer.head);
    let token = granted(&answer);
    let (header, claims) = (part(&token, 0), part(&token, 1));
    let keys = line.ask(&get("/oauth/jwks")).body;
    let key = &keys["keys"][0];
    assert_eq!(header, json!({ "alg": "ES256", "kid": key["kid"], "typ": "at+jwt" }));
    let chain = agent.chain().unwrap();
    let certificate = URL_SAFE_NO_PAD.encode(Sha256::of(&[&chain[0]]).0);
    let id = "spiffe://countersign.example/agent/purchaser/assistant";
    assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(id), &json!(id)));
    assert_eq!((&claims["aud"], &claims["iss"]), (&json!(RESOURCE), &json!("https://127.0.0.1")));
    assert_eq!(claims["cnf"], json!({ "x5t#S256": certificate }));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
    assert!(claims["jti"].as_str().unwrap().starts_with("tok_"));
    assert_eq!((&claims["scope"], claims["scope"].as_str().unwrap().split(' ').count()), (&answer.body["scope"], 12));
    // With nothing but what the bank publishes.
    let point = ["x", "y"].map(|name| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap());
    let spki = spki_der(Algorithm::P256, &[&[4][..], &point[0], &point[1]].concat());
    assert_eq!((key["kid"].as_str().unwrap(), verify_signature(&token, &spki)), (&*Sha256::of(&[&spki]).hex(), Ok(())));
    // The record names the token and does not hold it.
    let recorded = leaves_with(&world, claims["jti"].as_str().unwrap());
    assert!(recorded.contains("issue_token") && !recorded.contains(token.rsplit('.').next().unwrap()));

    let resource = line.ask(&get("/.well-known/oauth-protected-resource/mcp")).body;
    assert_eq!((&resource["resource"], &resource["authorization_servers"][0]), (&claims["aud"], &claims["iss"]));
    let server = line.ask(&get("/.well-known/oauth-authorization-server")).body;
    assert_eq!(
        (&server["issuer"], &server["token_endpoint"]),
        (&claims["iss"], &json!("https://127.0.0.1/oauth/token"))
    );
    assert_eq!(server["tls_client_certificate_bound_access_tokens"], true);
    assert_eq!(server["token_endpoint_auth_methods_supported"], json!(["tls_client_auth"]));
    let elsewhere = line.ask(b"GET /oauth/jwks HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!((elsewhere.status, elsewhere.name()), (403, "host_not_allowed"));
}

#[test]
fn requests_for_tokens_are_refused_in_the_words_of_oauth() {
    let world = World::new();
    let mut line = assistant(&world).line();
    let id = "spiffe%3A%2F%2Fcountersign.example%2Fagent%2Fpurchaser%2F";
    let table = [
        ("no grant", form("", &[]), 400, "invalid_request"),
        ("a code", form("grant_type=authorization_code&code=x", &[]), 400, "unsupported_grant_type"),
        ("a grant twice", form("grant_type=client_credentials&grant_type=x", &[]), 400, "invalid_request"),
        ("JSON", post("/oauth/token", &[("Content-Type", "application/json")], "{}"), 400, "invalid_request"),
        ("no type", post("/oauth/token", &[], "grant_type=client_credentials"), 400, "invalid_request"),
        ("a secret", token_request("&client_secret=x"), 400, "invalid_request"),
        (
            "a password",
            form("grant_type=client_credentials", &[("Authorization", "Basic eDp5")]),
            401,
            "invalid_client",
        ),
        ("a token", form("grant_type=client_credentials", &[("Authorization", "DPoP eDp5")]), 401, "invalid_client"),
        ("another agent's name", token_request(&format!("&client_id={id}shopper")), 400, "invalid_client"),
        ("another resource", token_request("&resource=https%3A%2F%2Fevil.example%2Fmcp"), 400, "invalid_target"),
        ("the resource's neighbour", token_request("&resource=https%3A%2F%2F127.0.0.1"), 400, "invalid_target"),
        ("a tool that is none", token_request("&scope=list_accounts+open_vault"), 400, "invalid_scope"),
        ("two spaces", token_request("&scope=list_accounts++get_transaction"), 400, "invalid_scope"),
    ];
    for (what, request, status, error) in table {
        let answer = line.ask(&request);
        assert_eq!((answer.status, answer.body["error"].as_str()), (status, Some(error)), "{what}: {answer:?}");
        assert!(answer.body["error_description"].is_string() && answer.body["access_token"].is_null(), "{answer:?}");
        assert!(answer.head.contains("cache-control: no-store"), "{what}: {}", answer.head);
        // A challenge goes with 401 and with nothing else, in the scheme that was used.
        let challenge = answer.head.lines().find_map(|line| line.strip_prefix("www-authenticate: "));
        let expected = match what {
            "a password" => Some("Basic realm=\"https://127.0.0.1\""),
            "a token" => Some("DPoP realm=\"https://127.0.0.1\""),
            _ => None,
        };
        assert_eq!(challenge, expected, "{what}");
    }
    leaves_with(&world, "invalid_scope");
    let posted = post("/oauth/jwks", &[], "");
    for (what, request, status, name) in [
        ("GET", get("/oauth/token"), 405, "method_not_allowed"),
        ("POST of a document", posted, 405, "method_not_allowed"),
        ("a neighbour", get("/oauth"), 404, "unknown_path"),
    ] {
        let answer = line.ask(&request);
        assert_eq!((answer.status, answer.name()), (status, name), "{what}: {answer:?}");
        let is_token_door = request.windows(12).any(|at| at == b"/oauth/token");
        assert_eq!(answer.head.contains("cache-control: no-store"), is_token_door, "{what}: {}", answer.head);
    }
    let own = format!("&client_id={id}assistant&scope=get_transaction+list_accounts");
    let answer = line.ask(&token_request(&own));
    assert_eq!((answer.status, &answer.body["scope"]), (200, &json!("get_transaction list_accounts")));
}

#[test]
fn a_token_narrows_what_the_role_may_do() {
    let world = World::new();
    let agent = assistant(&world);
    let mut line = agent.line();
    let token = granted(&line.ask(&token_request("&scope=list_accounts")));
    let mut ask = |request: &[u8]| line.ask(&signed(&agent, &bearing(&token, request)));
    let listed = ask(&message("tools/list", json!({})));
    let tools: Vec<&str> =
        listed.body["result"]["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(tools, ["list_accounts"]);
    assert!(ask(&tool_call("list_accounts", &json!({}))).content()["accounts"].is_array());
    let order = json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "0.01", "idempotency_key": "n" });
    for request in [balance(), tool_call("authorize_transfer", &order)] {
        let answer = ask(&request);
        assert_eq!((answer.status, &answer.content()["reason"]), (200, &json!("scope_exceeded")), "{answer:?}");
    }
    // What shows the same is in the same scope.
    let statement = "bank://accounts/CHK_001/statement";
    let read = ask(&message("resources/read", json!({ "uri": statement })));
    assert!(read.body["error"].to_string().contains("scope_exceeded"), "{read:?}");
    let listed = ask(&message("resources/list", json!({})));
    assert!(!listed.body.to_string().contains("statement"), "{listed:?}");
    leaves_with(&world, "scope_exceeded");
}

#[test]
fn whose_connection_signature_and_token_it_is_must_agree() {
    let world = World::new();
    let (one, other) = (assistant(&world), butler(&world));
    let tokens = [one.token(), other.token()];
    let agents = [&one, &other];
    for connection in 0..2 {
        let mut line = agents[connection].line();
        for (signer, who) in agents.iter().enumerate() {
            for (token, text) in tokens.iter().enumerate() {
                let request = signed_only(who, &bearing(text, &balance()), fresh());
                let answer = line.ask(&request);
                let (status, name) = match (signer == connection, token == connection) {
                    (true, true) => (200, ""),
                    (true, false) => (401, "token_another_certificate"),
                    (false, _) => (401, "signature_key_mismatch"),
                };
                let what = format!("connection {connection}, signature {signer}, token {token}");
                assert_eq!((answer.status, answer.name()), (status, name), "{what}: {answer:?}");
            }
        }
    }
    // A token that was taken before is remembered, and is still worth nothing to the other one.
    let stolen = signed_only(&other, &bearing(&tokens[0], &balance()), fresh());
    assert_eq!(other.line().ask(&stolen).name(), "token_another_certificate");

    let mut line = one.line();
    let none = line.ask(&signed_only(&one, &balance(), fresh()));
    assert_eq!((none.status, none.name()), (401, "token_missing"));
    let metadata = "resource_metadata=\"https://127.0.0.1/.well-known/oauth-protected-resource/mcp\"";
    assert!(none.head.contains(&format!("www-authenticate: Bearer {metadata}")), "{}", none.head);
    let unsigned = line.ask(&bearing(&tokens[0], &balance()));
    assert!(unsigned.head.contains("www-authenticate: Signature") && unsigned.head.contains(metadata));
    let (head, rest) = tokens[0].split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    let none_header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"at+jwt"}"#);
    let wider = part(&tokens[0], 1).to_string().replacen("list_accounts", "open_vault", 1);
    let table = [
        ("no algorithm", format!("{none_header}.{payload}.{signature}"), "token_algorithm"),
        ("no signature", format!("{head}.{payload}."), "token_malformed"),
        ("a wider scope", format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(wider)), "token_signature_invalid"),
        (
            "another's signature",
            format!("{head}.{payload}.{}", tokens[1].rsplit('.').next().unwrap()),
            "token_signature_invalid",
        ),
        ("no token", "x".into(), "token_malformed"),
        ("two tokens", format!("{0} {0}", tokens[0]), "token_malformed"),
        ("nothing", String::new(), "token_malformed"),
    ];
    for (what, token, name) in table {
        let answer = line.ask(&signed_only(&one, &bearing(&token, &balance()), fresh()));
        assert_eq!((answer.status, answer.name()), (401, name), "{what}: {answer:?}");
        assert!(answer.head.contains("error=\"invalid_token\""), "{}", answer.head);
    }
    // Who speaks of no token of ours has done nothing wrong with one: told where to get one, and no error.
    for scheme in ["Basic", "DPoP", "Beare"] {
        let request = String::from_utf8(bearing(&tokens[0], &balance())).unwrap();
        let request = request.replacen("Authorization: Bearer", &format!("Authorization: {scheme}"), 1);
        let answer = line.ask(&signed_only(&one, request.as_bytes(), fresh()));
        assert_eq!((answer.status, answer.name()), (401, "token_scheme"), "{scheme}: {answer:?}");
        let challenge = format!("www-authenticate: Bearer {metadata}");
        assert!(answer.head.lines().any(|line| line == challenge), "{scheme}: {}", answer.head);
    }
    // Made for the bank under another of its names.
    let at_localhost = String::from_utf8(balance()).unwrap().replacen("127.0.0.1", "localhost", 1);
    let answer = line.ask(&signed_only(&one, &bearing(&tokens[0], at_localhost.as_bytes()), fresh()));
    assert_eq!((answer.status, answer.name()), (401, "token_issuer"), "{answer:?}");
}

#[test]
fn tokens_outlive_one_rotation_of_their_key_and_no_two() {
    let world = World::new();
    let agent = assistant(&world);
    let mut line = agent.line();
    let first = granted(&line.ask(&token_request("")));
    let rotate = || world.run("bank", &["--operator", "bank-admin", "key", "rotate", "token"]);
    let published = |line: &mut crate::support::signed::Line| -> Vec<Value> {
        let keys = line.ask(&get("/oauth/jwks")).body;
        keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect()
    };
    let asked = |line: &mut crate::support::signed::Line, token: &str| {
        line.ask(&signed_only(&agent, &bearing(token, &balance()), fresh()))
    };
    assert_eq!(asked(&mut line, &first).status, 200);
    assert_eq!(published(&mut line), [part(&first, 0)["kid"].clone()]);
    rotate();
    let second = granted(&line.ask(&token_request("")));
    assert_eq!(published(&mut line), [part(&second, 0)["kid"].clone(), part(&first, 0)["kid"].clone()]);
    assert_eq!((asked(&mut line, &first).status, asked(&mut line, &second).status), (200, 200));
    rotate();
    assert_eq!(published(&mut line).len(), 2);
    assert_eq!(asked(&mut line, &second).status, 200);
    // Remembered as verified, and all the same no more.
    assert_eq!(asked(&mut line, &first).name(), "token_key_unknown");
    let doctor = world.run("bank", &["--operator", "auditor", "--json", "doctor"]);
    assert!(!doctor.contains("a rotation is not finished"), "{doctor}");
}

#[test]
fn a_revoked_agent_gets_no_token_and_the_one_it_has_is_worth_nothing() {
    let world = World::new();
    let (one, other) = (assistant(&world), butler(&world));
    let request = signed(&other, &balance());
    let mut line = other.line();
    assert_eq!(line.ask(&token_request("")).status, 200);
    let revoke = ["--operator", "bank-officer", "revoke", "butler", "--reason", "key-compromise"];
    world.run("bank", &revoke);
    assert_eq!(line.rest(), "", "the connection was cut");
    // Its own request, and its token on the connection of another.
    let stolen = signed_only(&one, &bearing(&other.token(), &balance()), fresh());
    let mut line = one.line();
    assert_eq!(line.ask(&stolen).name(), "token_another_certificate");
    assert_eq!(line.ask(&request).name(), "signature_key_mismatch");
    assert_eq!(line.ask(&signed(&one, &balance())).status, 200);
}

#[test]
fn signatures_of_tokens_are_judged_as_project_wycheproof_does() {
    let Some(vectors) = vectors("json_web_signature_test.json") else {
        return;
    };
    let (mut accepted, mut refused) = (0, 0);
    for group in vectors["testGroups"].as_array().unwrap() {
        let key = &group["public"];
        // A key of ours has one use: that of others, of other kinds, is not ours to judge.
        if key["kty"] != "EC" || key["crv"] != "P-256" || key["use"] != "sig" {
            continue;
        }
        let point = ["x", "y"].map(|name| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap());
        let spki = spki_der(Algorithm::P256, &[&[4][..], &point[0], &point[1]].concat());
        for test in group["tests"].as_array().unwrap() {
            let judged = verify_signature(test["jws"].as_str().unwrap(), &spki);
            match test["result"].as_str().unwrap() {
                "valid" => {
                    assert_eq!(judged, Ok(()), "{}", test["tcId"]);
                    accepted += 1;
                }
                _ => {
                    let refusal: TokenRefusal = judged.expect_err(&test["tcId"].to_string());
                    assert!(refusal.name().starts_with("token_"));
                    refused += 1;
                }
            }
        }
    }
    assert!(accepted >= 2 && refused > 30, "{accepted} accepted, {refused} refused");
}
