//! Who is told what: real mail servers and HTTP receivers in every mood, restarts in between, two daemons at once.
//!
//! Leaves come from real decisions in a real store. `scripts/lib/notify.sh` installs a mail server that is not ours.

mod channels;
mod daemon;
mod queue;
pub mod receivers;

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign::kernel::command::*;
use countersign::kernel::types::*;
use countersign::notify::settings::NotifySettings;
use countersign::notify::{Notifier, NotifyCall, Outside};
use countersign::ops::clock;
use countersign::ops::failure::Failure;
use countersign::ops::paths::StateDir;
use countersign::store::Store;
use countersign::tls::asking::Unresolved;
use tokio_util::sync::CancellationToken;

use crate::store::world::{World, grant, operator, shopper, step, transfer};

/// The secret of every webhook here, its key, and what else must never be seen.
const KEY: &[u8; 32] = b"thirty-two bytes of a secret key";
const PASSWORD: &str = "hunter2-secret";
const BEARER: &str = "Bearer gateway-token-5150";
/// An account as IBANs are, and its end.
const IBAN: &str = "DE89370400440532013000";

/// A store, a configuration, and a notifier that runs.
struct Stage {
    state: tempfile::TempDir,
    store: Arc<dyn Store>,
    runtime: tokio::runtime::Runtime,
    notifier: Option<(Arc<Notifier>, CancellationToken, Vec<tokio::task::JoinHandle<()>>)>,
}

fn secrets(state: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    for (name, text) in
        [("hook", format!("whsec_{}", STANDARD.encode(KEY))), ("mail", PASSWORD.into()), ("gateway", BEARER.into())]
    {
        std::fs::write(state.join(name), text).unwrap();
        std::fs::set_permissions(state.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn settings(text: &str) -> NotifySettings {
    let settings: NotifySettings = toml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    settings.check().unwrap_or_else(|error| panic!("{error}: {text}"));
    settings
}

fn webhook(name: &str, port: u16, more: &str) -> String {
    format!(
        "[[channel]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/in?token=hidden\"\n\
         secret_file = \"hook\"\nallow_private = true\n{more}\n"
    )
}

fn route(channels: &str, more: &str) -> String {
    format!("[[route]]\nchannels = [{channels}]\n{more}\n")
}

impl Stage {
    /// On SQLite in its own directory.
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let store = countersign::store::sqlite::SqliteStore::open(&state.path().join("store.sqlite3")).unwrap();
        Self::on(state, store)
    }

    fn on(state: tempfile::TempDir, store: Arc<dyn Store>) -> Self {
        secrets(state.path());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { state, store, runtime, notifier: None }
    }

    /// A bank with accounts, of now.
    fn bank(&self) -> World<'_> {
        let world = World::new(&*self.store);
        world.now.set(clock::now().0);
        world.bank();
        world.admin(crate::store::world::open(IBAN, "OWN_001", Some("50000"))).unwrap();
        world.admin(grant(&shopper(), IBAN, &[Verb::Read, Verb::Transfer])).unwrap();
        self.sequenced();
        world
    }

    /// Gives every leaf its place, as the log's sequencer does.
    fn sequenced(&self) {
        sequenced(&*self.store);
    }

    fn start(&mut self, text: &str) {
        let settings = settings(text);
        let outside = Outside::read(&settings, &StateDir::new(self.state.path()), Unresolved::Refused).unwrap();
        let _entered = self.runtime.enter();
        let notifier = Notifier::new(Arc::clone(&self.store), "bank".parse().unwrap(), settings, outside);
        let stop = CancellationToken::new();
        let tasks = notifier.start(&stop);
        self.notifier = Some((notifier, stop, tasks));
    }

    /// The place in the log is there: what is decided from now on is told.
    fn begun(&self) {
        let started = std::time::Instant::now();
        while self.store.notice_place().unwrap().next.is_none() {
            assert!(started.elapsed() < receivers::PATIENCE, "nobody looks at the log");
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }

    /// The whole log was looked at.
    fn looked(&self) {
        let size = self.store.newest_checkpoint().unwrap().unwrap().size;
        let started = std::time::Instant::now();
        while self.store.notice_place().unwrap().next != Some(size) {
            assert!(started.elapsed() < receivers::PATIENCE, "not all of the log was looked at");
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }

    fn stop(&mut self) {
        let (_, stop, tasks) = self.notifier.take().unwrap();
        stop.cancel();
        for task in tasks {
            self.runtime.block_on(task).unwrap();
        }
    }

    fn ask(&self, call: NotifyCall) -> Result<serde_json::Value, Failure> {
        self.notifier.as_ref().unwrap().0.desk(&operator("ada", &["administrator"]), call)
    }

    /// The message, once it is in this state.
    fn until(&self, id: &str, state: &str) -> serde_json::Value {
        let started = std::time::Instant::now();
        loop {
            let shown = self.ask(NotifyCall::Show { id: id.into() }).unwrap();
            if shown["state"] == state {
                return shown;
            }
            assert!(started.elapsed() < receivers::PATIENCE, "not {state}: {shown}");
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.notifier.is_some() {
            self.stop();
        }
    }
}

fn sequenced(store: &dyn Store) {
    let rows: Vec<i64> = store.unsequenced(100_000).unwrap().iter().map(|leaf| leaf.row).collect();
    if !rows.is_empty() {
        let before = store.newest_checkpoint().unwrap().map_or(0, |checkpoint| checkpoint.size);
        store.sequence(step(before, rows)).unwrap();
    }
}

/// A transfer that a human must decide.
fn asks(world: &World<'_>, key: &str) -> ApprovalId {
    let call = crate::store::world::transfer_to(Some(IBAN), "SAV_001", "2500", key);
    match world.call(call).unwrap() {
        Effect::RequiresApproval { approval_id, .. } => approval_id,
        other => panic!("{other:?}"),
    }
}

/// As the specification says: over `id.timestamp.body`.
fn verified(got: &receivers::Got) {
    let signed = format!("{}.{}.{}", got.id(), got.headers["webhook-timestamp"], got.body);
    let tag = got.headers["webhook-signature"].strip_prefix("v1,").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
    hmac::verify(&key, signed.as_bytes(), &STANDARD.decode(tag).unwrap()).unwrap();
    let seconds: i64 = got.headers["webhook-timestamp"].parse().unwrap();
    assert!((clock::now().seconds() - seconds).abs() < 300);
}

/// Nothing that was sent, kept or said may have any of these.
fn discreet(text: &str) {
    for secret in [IBAN, "3704004405", PASSWORD, "gateway-token", "hidden", "thirty-two bytes", &STANDARD.encode(KEY)] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

/// A refusal that concerns nobody's money.
fn is_refused(world: &World<'_>, key: &str) {
    world.call(transfer("999999", key)).unwrap_err();
}
