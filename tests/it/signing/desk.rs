//! The signing service's desk alone: a real token behind a module that goes wrong on order, a real store, no daemon around.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::bench::sealed::sealed;
use countersign::hsm::{KeyInfo, KeyOrder};
use countersign::kernel::command::ProgramPrincipal;
use countersign::kernel::external::{ExternalForm, PublicKey, verify_any};
use countersign::kernel::sign::{Algorithm, Purpose, SignInput};
use countersign::kernel::types::Sha256;
use countersign::ops::failure::Failure;
use countersign::signing::api::{Asked, VerifyRequest};
use countersign::signing::settings::SigningSettings;
use countersign::signing::{Callers, Desk, DeskSetup};
use countersign::store::Store;
use countersign::store::sqlite::SqliteStore;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{file, until};
use crate::support::shim::{self, Control};
use crate::support::token::RealToken;

const KEYS: [(&str, Algorithm); 4] = [
    ("papers", Algorithm::P256),
    ("wide", Algorithm::P384),
    ("edwards", Algorithm::Ed25519),
    ("raw-blobs", Algorithm::P256),
];

/// What a program was answered, and whether it had been answered so before.
#[derive(Debug)]
struct Answer {
    body: Vec<u8>,
    repeated: bool,
}

/// Whatever asks the token is dropped before its worker.
struct Site {
    desk: Arc<Desk>,
    runtime: Runtime,
    store: Arc<SqliteStore>,
    keys: Vec<KeyInfo>,
    control: Control,
    token: RealToken,
}

fn program() -> ProgramPrincipal {
    ProgramPrincipal { uid: 1001, gid: 1001, user: Some("billing".into()) }
}

fn one(key: &str, idempotency_key: Option<&str>, item: &Value) -> Asked {
    let mut asked = json!({ "key": key, "item": item });
    if let Some(idempotency_key) = idempotency_key {
        asked["idempotency_key"] = json!(idempotency_key);
    }
    Asked::One(serde_json::from_value(asked).unwrap())
}

fn batch(key: &str, idempotency_key: &str, items: &[Value]) -> Asked {
    let asked = json!({ "key": key, "idempotency_key": idempotency_key, "items": items });
    Asked::Batch(serde_json::from_value(asked).unwrap())
}

/// What the key of this name signs.
fn item_of(key: &str, content: &[u8]) -> Value {
    if key == "raw-blobs" { json!({ "kind": "raw", "digest": Sha256::of(&[content]) }) } else { file(content) }
}

impl Site {
    fn new() -> Self {
        let (mut token, control) = shim::provisioned("bank");
        token.start().expect("the worker starts");
        let make = |(name, algorithm): (&str, Algorithm)| {
            let (party, agent) = ("bank".to_owned(), Some(name.to_owned()));
            token.token().make(KeyOrder { party, purpose: Purpose::External, agent, algorithm }).unwrap()
        };
        let keys = KEYS.map(make).to_vec();
        let store = SqliteStore::open(&token.state.resolve("store/store.sqlite3")).unwrap();
        sealed(&*store).unwrap();
        let mut settings = "[limits]\nbatch_max = 8\n".to_owned();
        for (name, _) in KEYS {
            let kinds = if name == "raw-blobs" { "raw" } else { "file\", \"document\", \"batch" };
            settings += &format!(
                "[[key]]\nname = \"{name}\"\nkinds = [\"{kinds}\"]\ncallers = [\"1001\"]\nper_second = 1000000\nburst = 1000000\n"
            );
        }
        let settings: SigningSettings = toml::from_str(&settings).unwrap();
        assert_eq!(settings.check(), Ok(()));
        let desk = Desk::new(DeskSetup {
            callers: Callers::find(&settings).unwrap(),
            settings,
            store: Arc::clone(&store) as Arc<dyn Store>,
            token: token.token(),
            recorded: Box::new(|| {}),
            hsm_is_up: Box::new(|| true),
            forgets: true,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { desk, runtime, store, keys, control, token }
    }

    fn key(&self, name: &str) -> &KeyInfo {
        self.keys.iter().find(|key| key.agent.as_deref() == Some(name)).unwrap()
    }

    fn sign(&self, asked: Asked) -> Result<Answer, Failure> {
        self.sign_all(vec![asked]).remove(0)
    }

    /// All of them at once.
    fn sign_all(&self, all: Vec<Asked>) -> Vec<Result<Answer, Failure>> {
        let begun = |asked| {
            let desk = Arc::clone(&self.desk);
            self.runtime.spawn(async move {
                let answer = desk.sign(&program(), asked).await?;
                Ok(Answer { body: answer.body, repeated: answer.repeated })
            })
        };
        let working: Vec<_> = all.into_iter().map(begun).collect();
        working.into_iter().map(|one| self.runtime.block_on(one).unwrap()).collect()
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.token.state.resolve("store/store.sqlite3")).unwrap()
    }

    fn count(&self, sql: &str) -> i64 {
        self.database().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Leaves of this act, oldest first.
    fn leaves(&self, act: &str) -> Vec<Value> {
        let read = |row| self.store.leaf(row).unwrap();
        let bodies = (1..).map_while(read).map(|leaf| serde_json::from_slice::<Value>(leaf.body().unwrap()).unwrap());
        bodies.filter(|body| body["act"] == act).collect()
    }

    /// What the log says came of orders, by their request ids.
    fn outcomes(&self) -> Vec<(String, Value)> {
        let leaves = self.leaves("signed");
        let outcomes = leaves.iter().flat_map(|leaf| leaf["parameters"]["outcomes"].as_array().unwrap().clone());
        outcomes.map(|outcome| (outcome["request_id"].as_str().unwrap().to_owned(), outcome)).collect()
    }
}

fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn a_signature_that_does_not_verify_is_neither_stored_nor_released() {
    let site = Site::new();
    for (name, _) in KEYS {
        // The first of all is verified by the worker, too; which of the rest are is its own business.
        site.sign(one(name, None, &item_of(name, b"good"))).unwrap();
    }
    site.control.fault("after C_Sign flip");
    let input = SignInput::External { form: ExternalForm::Digest, bytes: vec![7; 32] };
    let bent = site.token.token().sign(site.key("raw-blobs").id, input);
    assert!(bent.is_ok(), "the worker leaves it to the desk: {bent:?}");
    for (name, _) in KEYS {
        let item = item_of(name, b"bent");
        let items = vec![item.clone(); 3];
        for asked in [one(name, None, &item), one(name, Some("bent"), &item), batch(name, "bent-batch", &items)] {
            let failure = site.sign(asked).unwrap_err();
            assert_eq!(failure.name, "hsm_outcome_unknown", "{name}: {failure:?}");
            assert!(failure.message.contains("signature_unverified"), "{name}: {failure:?}");
        }
    }
    assert_eq!(site.count("SELECT count(*) FROM signings WHERE signatures IS NOT NULL"), 0);
    site.control.withdraw();
    for (name, algorithm) in KEYS {
        let answer = body(&site.sign(one(name, Some("bent"), &item_of(name, b"bent"))).unwrap());
        if name != "raw-blobs" {
            let key = PublicKey::from_spki(&site.key(name).spki).unwrap();
            assert!(verify_any(answer["result"]["jws"].as_str().unwrap(), &key).is_ok(), "{algorithm:?}");
        }
    }
}

#[test]
fn one_idempotency_key_asked_for_at_once_has_one_signature() {
    let site = Site::new();
    let item = file(b"the same");
    let answers = site.sign_all((0..64).map(|_| one("papers", Some("one"), &item)).collect());
    let first = answers[0].as_ref().unwrap();
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().body == first.body));
    assert_eq!(answers.iter().filter(|answer| !answer.as_ref().unwrap().repeated).count(), 1, "one is the first");
    assert_eq!(site.count("SELECT count(*) FROM signings WHERE signatures IS NOT NULL"), 1);
    let key = PublicKey::from_spki(&site.key("papers").spki).unwrap();
    assert!(verify_any(body(first)["result"]["jws"].as_str().unwrap(), &key).is_ok());
}

/// Many documents of the largest size, each under a key of its own: what is kept of one is a few hashes and its signature.
#[test]
fn what_is_kept_of_a_document_does_not_grow_with_it() {
    let site = Site::new();
    let document = |number: usize| json!({ "number": number, "text": "x".repeat(65_000) });
    let item = |number| json!({ "kind": "document", "document": document(number) });
    site.sign(batch("papers", "before", &[item(1)])).unwrap();
    let size = || site.count("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size");
    let before = size();
    for round in 0..125 {
        let items: Vec<Value> = (0..8).map(|number| item(round * 8 + number)).collect();
        site.sign(batch("papers", &format!("round-{round}"), &items)).unwrap();
    }
    let grown = size() - before;
    assert!(grown < 1_000_000, "{grown} bytes for 1,000 documents of 65 MB");
}

#[test]
fn verifying_does_not_ask_the_token_each_time() {
    let site = Site::new();
    let answer = body(&site.sign(one("papers", None, &file(b"x"))).unwrap());
    let looked = || site.control.calls("C_FindObjectsInit");
    let verify = || {
        let asked = json!({ "key": "papers", "jws": answer["result"]["jws"] });
        let asked: VerifyRequest = serde_json::from_value(asked).unwrap();
        site.runtime.block_on(site.desk.verify(&program(), &asked)).unwrap()
    };
    let before = looked();
    site.runtime.block_on(site.desk.refresh()).unwrap();
    let (of_one, before, began) = (looked() - before, looked(), Instant::now());
    assert!(of_one > 0);
    for _ in 0..100 {
        assert_eq!(verify()["valid"], true);
    }
    let lists = (looked() - before) / of_one;
    assert!(lists <= began.elapsed().as_secs() + 1, "{lists} lists of keys");
}

#[test]
fn an_open_order_of_a_key_that_was_retired_is_refused_by_name() {
    let site = Site::new();
    let (item, key) = (file(b"x"), site.key("papers").id);
    let done = site.sign(one("papers", Some("done"), &item)).unwrap();
    site.control.fault("before C_Sign fail CKR_DEVICE_ERROR");
    site.sign(one("papers", Some("open"), &item)).unwrap_err();
    site.control.withdraw();
    // The worker that failed is replaced; the next one knows that the key was retired.
    until("the key is retired", || site.token.token().retire(key).ok());
    let retired = |when: &str| {
        let failure = site.sign(one("papers", Some("open"), &item)).unwrap_err();
        assert_eq!(failure.name, "signing_key_retired", "{when}: {failure:?}");
        assert!(failure.next_step.contains("another idempotency key"), "{failure:?}");
    };
    retired("before the desk has heard of it");
    retired("when no version signs any more");
    let failure = site.sign(one("papers", Some("new"), &item)).unwrap_err();
    assert_eq!(failure.name, "key_missing");
    assert_eq!(site.sign(one("papers", Some("done"), &item)).unwrap().body, done.body, "what was signed stays signed");
    let (party, agent) = ("bank".to_owned(), Some("papers".to_owned()));
    let order = KeyOrder { party, purpose: Purpose::External, agent, algorithm: Algorithm::P256 };
    site.token.token().make(order).unwrap();
    site.runtime.block_on(site.desk.refresh()).unwrap();
    retired("when the next version signs");
    assert_eq!(site.sign(one("papers", Some("done"), &item)).unwrap().body, done.body);
    site.sign(one("papers", Some("the-cure"), &item)).unwrap();
    assert_eq!(site.count("SELECT count(*) FROM signings WHERE signatures IS NULL"), 1);
}

#[test]
fn the_log_says_what_came_of_every_order() {
    let site = Site::new();
    let signed = body(&site.sign(one("papers", None, &file(b"signed"))).unwrap());
    let items = [item_of("raw-blobs", b"1"), item_of("raw-blobs", b"2")];
    let several = body(&site.sign(batch("raw-blobs", "several", &items)).unwrap());
    let again = site.sign(batch("raw-blobs", "several", &items)).unwrap();
    assert!(again.repeated);
    site.control.fault("before C_Sign fail CKR_DEVICE_ERROR");
    let failed = site.sign(one("papers", None, &file(b"failed"))).unwrap_err();
    site.control.withdraw();
    until("the HSM to be back", || site.sign(one("papers", None, &file(b"back"))).ok());
    // More than one leaf holds, asked for and not awaited when the service ends.
    let asked: Vec<Asked> = (0_u32..300).map(|number| one("papers", None, &file(&number.to_be_bytes()))).collect();
    let begun = |asked| {
        let desk = Arc::clone(&site.desk);
        // Whoever asked goes away at once.
        site.runtime.block_on(async move {
            let program = program();
            let mut asking = Box::pin(desk.sign(&program, asked));
            std::future::poll_fn(|context| std::task::Poll::Ready(asking.as_mut().poll(context).is_pending())).await
        });
    };
    asked.into_iter().for_each(begun);
    site.runtime.block_on(site.desk.end());

    let outcomes = site.outcomes();
    let orders = site.leaves("sign");
    assert!(orders.len() >= 305, "{}", orders.len());
    let mut ordered: Vec<&str> = orders.iter().map(|leaf| leaf["request_id"].as_str().unwrap()).collect();
    let mut told: Vec<&str> = outcomes.iter().map(|(request_id, _)| request_id.as_str()).collect();
    ordered.sort_unstable();
    told.sort_unstable();
    assert_eq!(ordered, told, "each order has its outcome, once");
    let leaves = site.leaves("signed");
    assert!(leaves.len() > 1);
    assert!(leaves.iter().all(|leaf| leaf["parameters"]["outcomes"].as_array().unwrap().len() <= 256));

    let of = |request_id: &Value| {
        let found = outcomes.iter().find(|(known, _)| known == request_id.as_str().unwrap());
        found.map(|(_, outcome)| outcome.clone()).unwrap()
    };
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let signature = bytes(signed["result"]["jws"].as_str().unwrap().rsplit('.').next().unwrap());
    assert_eq!(of(&signed["request_id"])["signatures_sha256"], json!(Sha256::of(&[&signature])));
    let both: Vec<u8> = several["results"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|one| bytes(one["signature"].as_str().unwrap()))
        .collect();
    assert_eq!(of(&several["request_id"])["signatures_sha256"], json!(Sha256::of(&[&both])));
    let failed_id = json!(failed.request_id.clone().unwrap());
    assert_eq!(of(&failed_id)["failure"], json!(failed.name));
}
