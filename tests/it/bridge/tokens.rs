//! The bridge's access token at a real bank: the next one at four fifths of its life, one when the bank takes it no more,
//! and a payment that is carried out once all the same. Time is moved by its clock.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use countersign::bridge::manifest::ManifestPin;
use countersign::bridge::token::BoundToken;
use countersign::bridge::{BankAddress, Route};
use countersign::kernel::httpsig::{Components, Parameters, SignatureHeaders};
use countersign::kernel::tool_manifest::VerifiedManifest;
use countersign::mcp::bridge::Dial;
use countersign::mcp::signed_http::{RequestSigner, SignedHttp, TokenSource, Unsent};
use countersign::ops::failure::Failure;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::fixture::Client;
use crate::support::world::World;

/// The way to a real bank, watched: its clock can be moved, its tokens are seen, its requests counted.
#[derive(Clone)]
struct Watched {
    route: Route,
    moved_ms: Arc<AtomicI64>,
    bound: Arc<BoundToken>,
    used: Arc<Mutex<Vec<String>>>,
    signed: Arc<AtomicUsize>,
    /// Every token is spoilt on its way.
    spoils: bool,
}

impl Watched {
    fn of(world: &World) -> Self {
        let agent = world.state("agent");
        let route = Route {
            agent: super::agent(world, "assistant"),
            bank: BankAddress::PortsFile(world.state("bank").join("run/ports.json")),
            bank_root: agent.join("anchors/bank-root.pem"),
            bank_issuing: agent.join("anchors/bank-issuing.pem"),
            oid_base: "1.3.6.1.4.1.32473".parse().unwrap(),
            tools: ManifestPin {
                file: agent.join("anchors/tool-manifest.json"),
                oid_base: "1.3.6.1.4.1.32473".into(),
                accepting: None,
            },
        };
        let moved_ms = Arc::new(AtomicI64::new(0));
        let clock = Arc::clone(&moved_ms);
        let bound = Arc::new(BoundToken::by(Arc::new(move || clock.load(Ordering::SeqCst))));
        Self { route, moved_ms, bound, used: Arc::default(), signed: Arc::default(), spoils: false }
    }

    /// Lets so much of a token's life pass.
    fn passes_s(&self, seconds: i64) {
        self.moved_ms.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// The tokens that requests were sent with, each once.
    fn tokens(&self) -> BTreeSet<String> {
        self.used.lock().unwrap().iter().cloned().collect()
    }

    fn requests(&self) -> usize {
        self.signed.load(Ordering::SeqCst)
    }
}

impl Dial for Watched {
    fn address(&self) -> Result<String, Failure> {
        self.route.url()
    }

    fn dial(&self) -> Result<SignedHttp, Failure> {
        let http = self.route.http(&self.route.agent.chain()?)?;
        Ok(SignedHttp::new(http, Arc::new(self.clone()), Arc::new(self.clone())))
    }

    fn accept_tools(&self, manifest: &[u8]) -> Result<VerifiedManifest, Failure> {
        self.route.accept_tools(manifest)
    }
}

impl RequestSigner for Watched {
    fn sign(&self, components: Components, parameters: Parameters) -> BoxFuture<'_, Result<SignatureHeaders, Failure>> {
        self.signed.fetch_add(1, Ordering::SeqCst);
        self.route.sign(components, parameters)
    }
}

impl TokenSource for Watched {
    fn token<'a>(&'a self, http: &'a reqwest::Client, endpoint: &'a str) -> BoxFuture<'a, Result<Arc<str>, Unsent>> {
        Box::pin(async move {
            let token = self.bound.token(http, endpoint).await?;
            self.used.lock().unwrap().push(token.to_string());
            Ok(if self.spoils { format!("{token}x").into() } else { token })
        })
    }

    fn refused(&self, token: &str) {
        self.bound.refused(if self.spoils { token.strip_suffix('x').unwrap() } else { token });
    }
}

/// How many tokens the bank has issued; each has a leaf, a moment after its answer.
fn issued(world: &World, expected: usize) -> usize {
    let show = ["--operator", "auditor", "--json", "audit", "show", "--limit", "200"];
    let count = || world.run("bank", &show).matches("issue_token").count();
    (0..100).map(|_| count()).find(|count| *count >= expected).unwrap_or_else(count)
}

async fn tool(client: &mut Client, id: u64, name: &str, arguments: Value) -> Value {
    let answer = client.ask(id, "tools/call", json!({ "name": name, "arguments": arguments })).await;
    answer["result"]["structuredContent"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_token_is_fetched_at_four_fifths_of_the_life_by_one_of_a_crowd() {
    let world = World::new();
    let before = issued(&world, 0);
    let way = Watched::of(&world);
    let mut client = Client::over(Arc::new(way.clone()));
    let balance = || json!({ "account_id": "CHK_001" });
    assert_eq!(tool(&mut client, 1, "get_account_balance", balance()).await["currency"], "USD");
    assert_eq!(way.tokens().len(), 1);
    // 300 s is the life: at 239 s it is still the same, at 240 s the next one.
    way.passes_s(239);
    assert_eq!(tool(&mut client, 2, "get_account_balance", balance()).await["currency"], "USD");
    assert_eq!(way.tokens().len(), 1);
    way.passes_s(1);
    let crowd = 100..132;
    for id in crowd.clone() {
        let params = json!({ "name": "get_account_balance", "arguments": balance() });
        client.request(id, "tools/call", params, json!({})).await;
    }
    let mut answered = BTreeSet::new();
    while answered.len() < 32 {
        let answer = client.hear().await;
        assert_eq!(answer["result"]["structuredContent"]["currency"], "USD", "{answer}");
        answered.insert(answer["id"].as_u64().unwrap());
    }
    assert!(crowd.eq(answered));
    // Whoever did not fetch it went on with the one before, which lives.
    assert_eq!(way.tokens().len(), 2);
    assert_eq!(tool(&mut client, 3, "get_account_balance", balance()).await["currency"], "USD");
    assert_eq!(way.tokens().len(), 2);
    // One that has ended is no way to ask for anything: all wait for the next.
    way.passes_s(301);
    assert_eq!(tool(&mut client, 4, "get_account_balance", balance()).await["currency"], "USD");
    assert_eq!((way.tokens().len(), issued(&world, before + 3) - before), (3, 3));
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_bank_takes_no_more_is_replaced_once_and_the_payment_happens_once() {
    let world = World::new();
    let way = Watched::of(&world);
    let mut client = Client::over(Arc::new(way.clone()));
    let order = json!({
        "from_account": "CHK_001", "to_account": "SAV_001", "amount": "5.00", "idempotency_key": "once",
    });
    let held = tool(&mut client, 1, "authorize_transfer", order).await;
    assert_eq!(held["status"], "approved", "{held}");
    let balance = async |client: &mut Client, id: u64| {
        tool(client, id, "get_account_balance", json!({ "account_id": "CHK_001" })).await["balance"].clone()
    };
    let before: f64 = balance(&mut client, 2).await.as_str().unwrap().parse().unwrap();
    // Two rotations on, the key of the token is known no more; the bridge is not told.
    for _ in 0..2 {
        world.run("bank", &["--operator", "bank-admin", "key", "rotate", "token"]);
    }
    let (requests, tokens) = (way.requests(), way.tokens());
    let execution = json!({ "transaction_id": held["transaction_id"], "to_account": "SAV_001", "amount": "5.00" });
    let paid = tool(&mut client, 3, "execute_transfer", execution.clone()).await;
    assert_eq!((&paid["status"], &paid["repeated"]), (&json!("executed"), &json!(false)), "{paid}");
    // The refused one and its repetition, signed anew, with one new token.
    assert_eq!((way.requests() - requests, way.tokens().len() - tokens.len()), (2, 1));
    let after: f64 = balance(&mut client, 4).await.as_str().unwrap().parse().unwrap();
    assert!((before - after - 5.0).abs() < 0.001, "{before} {after}");
    // Of the two the bank has heard one: the next is the first repetition.
    let again = tool(&mut client, 5, "execute_transfer", execution).await;
    assert_eq!(again["repeated"], true, "{again}");
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_takes_no_token_is_asked_twice_and_no_more() {
    let world = World::new();
    let way = Watched { spoils: true, ..Watched::of(&world) };
    let mut client = Client::over(Arc::new(way.clone()));
    let answer = client.ask(1, "tools/list", json!({})).await;
    let data = &answer["error"]["data"];
    assert_eq!((&data["name"], &data["may_have_happened"]), (&json!("token_base64"), &json!("no")), "{answer}");
    assert_eq!((way.requests(), way.tokens().len()), (2, 2));
    client.end().await;
}
