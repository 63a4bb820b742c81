//! A core banking system to try the adapter against: it keeps a book of its own and misbehaves on order.
//!
//! It speaks HTTP by hand, because what it is for is to break it: an answer that is dropped after the order was carried
//! out, given twice, late, or garbage. `countersign sandbox core` runs it, and the tests do.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{CoreState, Order};
use crate::kernel::command::CoreVerb;
use crate::kernel::ledger::TransactionKind;
use crate::kernel::types::TransactionId;

/// The largest request that is read.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// A connection that is silent for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// What goes wrong with one request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trick {
    /// The connection is closed before anything was done.
    DropBefore,
    /// The order is carried out, the connection is closed without an answer.
    DropAfter,
    /// As `drop_before`, and away from then on.
    LeaveBefore,
    /// As `drop_after`, and away from then on.
    LeaveAfter,
    /// Carried out, and answered after so many milliseconds.
    DelayMs(u64),
    /// The order arrives twice, and is answered twice.
    Twice,
    /// Refused under this name; nothing is done.
    Refuse(String),
    /// Carried out, answered with what is no JSON.
    Garbage,
    /// Carried out, answered with this status and no word.
    Status(u16),
}

/// A trick for the next requests of one verb.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    pub verb: CoreVerb,
    pub trick: Trick,
    /// How many requests it is played on.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

/// One order as the sandbox knows it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Known {
    pub state: CoreState,
    /// How often money was really moved for it: one, or something is wrong.
    pub settled_times: u32,
    /// What was asked first; a repeat with another content is refused.
    pub order: Option<Order>,
}

#[derive(Debug, Default)]
struct Book {
    known: BTreeMap<TransactionId, Known>,
    /// Minor units by account and currency.
    sums: BTreeMap<String, i128>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What the core has done. The lock is held for one order.
    book: Mutex<Book>,
    /// What will go wrong. The lock is held to take one trick.
    planned: Mutex<VecDeque<Planned>>,
    away: AtomicBool,
    stopping: AtomicBool,
    /// Open connections by number, to be cut. The lock guards the list only.
    open: Mutex<BTreeMap<u64, TcpStream>>,
    /// Held by nobody for long: those who delay an answer wait here, and are woken by the end.
    delaying: Mutex<()>,
    ending: Condvar,
}

/// A running sandbox. It ends when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    /// The certificate under which it is trusted, PEM; none: it speaks without TLS.
    root: Option<String>,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Sandbox {
    /// Listens and serves.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn start(address: SocketAddr) -> std::io::Result<Self> {
        Self::start_as(address, None)
    }

    /// The same over TLS, with a certificate made now; it serves nobody who shows no client certificate under this root
    /// (DER).
    ///
    /// # Errors
    /// When the address cannot be listened on, or the root is none.
    pub fn start_for_clients_of(address: SocketAddr, client_root: &[u8]) -> std::io::Result<Self> {
        Self::start_as(address, Some(demanding(client_root).map_err(std::io::Error::other)?))
    }

    fn start_as(address: SocketAddr, tls: Option<(Arc<ServerConfig>, String)>) -> std::io::Result<Self> {
        let (tls, root) = tls.unzip();
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let accepting = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("sandbox-core".into())
                .spawn(move || accept(&listener, &shared, tls.as_ref()))?
        };
        Ok(Self { address, root, shared, accepting: Some(accepting) })
    }

    pub fn url(&self) -> String {
        let scheme = if self.root.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/v1", self.address)
    }

    /// The certificate under which it is trusted, PEM, when it speaks TLS.
    pub fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// Has the next requests of a verb go wrong.
    pub fn plan(&self, verb: CoreVerb, trick: Trick, times: u32) {
        lock(&self.shared.planned).push_back(Planned { verb, trick, times });
    }

    /// Cuts every connection and answers nobody until [`Sandbox::back`].
    pub fn away(&self) {
        self.shared.leave();
    }

    pub fn is_away(&self) -> bool {
        self.shared.away.load(Ordering::SeqCst)
    }

    pub fn back(&self) {
        self.shared.away.store(false, Ordering::SeqCst);
    }

    /// What moved by account and currency, in minor units.
    pub fn sums(&self) -> BTreeMap<String, i128> {
        lock(&self.shared.book).sums.clone()
    }

    /// Every order with what became of it.
    pub fn known(&self) -> BTreeMap<TransactionId, Known> {
        lock(&self.shared.book).known.clone()
    }

    /// Serves until the process ends.
    pub fn wait(mut self) {
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.cut();
        self.shared.ending.notify_all();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn cut(&self) {
        for stream in lock(&self.open).values() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn leave(&self) {
        self.away.store(true, Ordering::SeqCst);
        self.cut();
    }

    fn delay(&self, ms: u64) {
        let stopping = |_: &mut ()| !self.stopping.load(Ordering::SeqCst);
        let (guard, _) = self
            .ending
            .wait_timeout_while(lock(&self.delaying), Duration::from_millis(ms), stopping)
            .unwrap_or_else(PoisonError::into_inner);
        drop(guard);
    }

    fn trick(&self, verb: CoreVerb) -> Option<Trick> {
        let mut planned = lock(&self.planned);
        let place = planned.iter().position(|planned| planned.verb == verb)?;
        let next = planned.get_mut(place)?;
        let trick = next.trick.clone();
        next.times = next.times.saturating_sub(1);
        if next.times == 0 {
            planned.remove(place);
        }
        Some(trick)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server that knows itself by a new key, in memory only, and its clients by a root.
fn demanding(client_root: &[u8]) -> Result<(Arc<ServerConfig>, String), Box<dyn std::error::Error + Send + Sync>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(client_root.to_vec().into())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![own.cert.der().clone()], own.signing_key.serialize_der().try_into()?)?;
    Ok((Arc::new(config), own.cert.pem()))
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, tls: Option<&Arc<ServerConfig>>) {
    for (number, stream) in (0_u64..).zip(listener.incoming()) {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if let Ok(other) = stream.try_clone() {
            lock(&shared.open).insert(number, other);
        }
        let (shared, tls) = (Arc::clone(shared), tls.cloned());
        let served = std::thread::Builder::new().name("sandbox-connection".into()).spawn(move || {
            // A connection that breaks is the other side's to notice.
            let _ = converse(stream, tls, &shared);
            if let Some(open) = lock(&shared.open).remove(&number) {
                let _ = open.shutdown(std::net::Shutdown::Both);
            }
        });
        drop(served);
    }
}

/// One request: method, path, body.
struct Request {
    method: String,
    path: String,
    body: Vec<u8>,
}

fn converse(stream: TcpStream, tls: Option<Arc<ServerConfig>>, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    match tls {
        None => serve(stream, shared),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
            serve(StreamOwned::new(connection, stream), shared)
        }
    }
}

fn serve(stream: impl Read + Write, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader)? {
        let parts: Vec<&str> = request.path.trim_start_matches("/v1/").split('/').collect();
        // Its own doors stay open: somebody must be able to call it back.
        if shared.away.load(Ordering::SeqCst) && parts.first() != Some(&"sandbox") {
            return Ok(());
        }
        let verb = match (request.method.as_str(), parts.as_slice()) {
            ("POST", ["holds", _]) => CoreVerb::Hold,
            ("POST", ["settlements", _]) => CoreVerb::Settle,
            ("POST", ["releases", _]) => CoreVerb::Release,
            _ => {
                let (status, said) = other(&request, &parts, shared);
                answer(reader.get_mut(), status, &said.to_string())?;
                continue;
            }
        };
        let carry_out = || order(&request, parts[1], verb, shared);
        match shared.trick(verb) {
            None => {
                let (status, said) = carry_out();
                answer(reader.get_mut(), status, &said.to_string())?;
            }
            Some(Trick::DropBefore) => return Ok(()),
            Some(Trick::DropAfter) => {
                carry_out();
                return Ok(());
            }
            Some(Trick::LeaveBefore) => {
                shared.leave();
                return Ok(());
            }
            Some(Trick::LeaveAfter) => {
                carry_out();
                shared.leave();
                return Ok(());
            }
            Some(Trick::DelayMs(ms)) => {
                let (status, said) = carry_out();
                shared.delay(ms);
                answer(reader.get_mut(), status, &said.to_string())?;
            }
            Some(Trick::Twice) => {
                for _ in 0..2 {
                    let (status, said) = carry_out();
                    answer(reader.get_mut(), status, &said.to_string())?;
                }
            }
            Some(Trick::Refuse(name)) => {
                let (status, said) = refuse(parts[1], &name, shared);
                answer(reader.get_mut(), status, &said.to_string())?;
            }
            Some(Trick::Garbage) => {
                carry_out();
                answer(reader.get_mut(), 200, "<html>it works</html>")?;
            }
            Some(Trick::Status(status)) => {
                carry_out();
                answer(reader.get_mut(), status, "{}")?;
            }
        }
    }
    Ok(())
}

fn read(reader: &mut BufReader<impl Read>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 {
            return Ok(None);
        }
        let header = header.trim_end();
        if header.is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length.min(BODY_BYTES_MAX)];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, body }))
}

fn answer(stream: &mut impl Write, status: u16, body: &str) -> std::io::Result<()> {
    let head =
        format!("HTTP/1.1 {status} .\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    stream.flush()
}

fn refused(id: &str, name: &str, message: &str) -> (u16, Value) {
    (422, json!({ "transaction_id": id, "error": { "name": name, "message": message } }))
}

/// The core's own rules: idempotent by id, held before settled, released for good.
fn order(request: &Request, id: &str, verb: CoreVerb, shared: &Shared) -> (u16, Value) {
    let Ok(order) = serde_json::from_slice::<Order>(&request.body) else {
        return refused(id, "order_malformed", "the body is not an order");
    };
    if order.transaction_id.as_str() != id {
        return refused(id, "order_mismatch", "path and body name different transactions");
    }
    let (Ok(amount), Ok(fee)) = (order.amount_minor.parse::<i128>(), order.fee_minor.parse::<i128>()) else {
        return refused(id, "order_malformed", "the amounts are no minor units");
    };
    let mut book = lock(&shared.book);
    let known = book.known.entry(order.transaction_id.clone()).or_insert(Known {
        state: CoreState::Absent,
        settled_times: 0,
        order: None,
    });
    if known.order.as_ref().is_some_and(|first| *first != order) {
        return refused(id, "idempotency_key_reused", "this transaction was ordered with other content");
    }
    known.order = Some(order.clone());
    match (verb, &known.state) {
        // What it refused it does not hold.
        (CoreVerb::Release, CoreState::Refused(_)) => {}
        (CoreVerb::Hold | CoreVerb::Settle, CoreState::Refused(name)) => {
            let name = name.clone();
            return refused(id, &name, "it was refused before");
        }
        (CoreVerb::Hold, CoreState::Absent | CoreState::Held) => known.state = CoreState::Held,
        (CoreVerb::Hold, CoreState::Settled) => {}
        (CoreVerb::Hold | CoreVerb::Settle, CoreState::Released) => {
            return refused(id, "released", "it was released before");
        }
        (CoreVerb::Settle, CoreState::Absent) if order.kind != TransactionKind::Reversal => {
            return refused(id, "not_held", "nothing is held for it");
        }
        (CoreVerb::Settle, CoreState::Absent | CoreState::Held) => {
            known.state = CoreState::Settled;
            known.settled_times += 1;
            let currency = order.currency;
            let mut add = |account: &str, minor: i128| {
                *book.sums.entry(format!("{account} {currency}")).or_default() += minor;
            };
            add(&order.debit_account, -(amount + fee));
            add(&order.credit_account, amount);
            add("fees", fee);
        }
        (CoreVerb::Settle, CoreState::Settled) => {}
        (CoreVerb::Release, CoreState::Settled) => return refused(id, "settled", "it was settled before"),
        (CoreVerb::Release, CoreState::Absent | CoreState::Held | CoreState::Released) => {
            known.state = CoreState::Released;
        }
    }
    let state = match verb {
        CoreVerb::Hold => "held",
        CoreVerb::Settle => "settled",
        CoreVerb::Release => "released",
    };
    (200, json!({ "transaction_id": id, "state": state }))
}

/// A refusal on order, remembered like one of the core's own.
fn refuse(id: &str, name: &str, shared: &Shared) -> (u16, Value) {
    if let Ok(id) = id.parse::<TransactionId>() {
        let mut book = lock(&shared.book);
        let known = book.known.entry(id).or_insert(Known { state: CoreState::Absent, settled_times: 0, order: None });
        if known.state != CoreState::Settled {
            known.state = CoreState::Refused(name.to_owned());
        }
    }
    refused(id, name, "the sandbox was told to refuse it")
}

/// What is no order: the status of a transaction, and the sandbox's own doors.
fn other(request: &Request, parts: &[&str], shared: &Shared) -> (u16, Value) {
    match (request.method.as_str(), parts) {
        ("GET", ["transactions", id]) => {
            let known =
                id.parse().ok().and_then(|id| lock(&shared.book).known.get(&id).map(|known| known.state.clone()));
            let error = |name: &str, message: &str| json!({ "name": name, "message": message });
            let state = match known {
                None | Some(CoreState::Absent) => {
                    let error = error("unknown_transaction", "never heard of it");
                    return (404, json!({ "transaction_id": id, "error": error }));
                }
                Some(CoreState::Refused(name)) => {
                    let error = error(&name, "it was refused");
                    return (200, json!({ "transaction_id": id, "state": "refused", "error": error }));
                }
                Some(CoreState::Held) => "held",
                Some(CoreState::Settled) => "settled",
                Some(CoreState::Released) => "released",
            };
            (200, json!({ "transaction_id": id, "state": state }))
        }
        ("GET", ["sandbox", "book"]) => {
            let book = lock(&shared.book);
            let sums: BTreeMap<&String, String> =
                book.sums.iter().map(|(account, minor)| (account, minor.to_string())).collect();
            (200, json!({ "transactions": book.known, "sums_minor": sums }))
        }
        ("POST", ["sandbox", "plan"]) => match serde_json::from_slice(&request.body) {
            Ok(planned) => {
                lock(&shared.planned).push_back(planned);
                (200, json!({ "state": "planned" }))
            }
            Err(error) => (400, json!({ "error": { "name": "plan_malformed", "message": error.to_string() } })),
        },
        ("POST", ["sandbox", "away"]) => {
            shared.away.store(true, Ordering::SeqCst);
            (200, json!({ "state": "away" }))
        }
        ("POST", ["sandbox", "back"]) => {
            shared.away.store(false, Ordering::SeqCst);
            (200, json!({ "state": "back" }))
        }
        _ => (404, json!({ "error": { "name": "no_such_place", "message": "see docs/CORE-BANKING.md" } })),
    }
}
