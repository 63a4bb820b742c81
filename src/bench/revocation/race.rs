//! Calls that race a revocation: payments of agents over their own connections while each agent is revoked, and what
//! became of those that began when it was effective.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::cut::listen;
use super::{Plan, revoke};
use crate::bench::served::{failed, operator};
use crate::bench::site::Site;
use crate::bench::stop::Stop;
use crate::hsm::{CertifiedKey, Token};
use crate::kernel::command::{Actor, NewAccount, OperatorPrincipal, Verb};
use crate::kernel::httpsig::{self, Components};
use crate::kernel::sign::Algorithm;
use crate::kernel::types::{KeyId, Money, SpiffeId, UnixMillis};
use crate::kernel::zone::Zone;
use crate::mcp::signed_http;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::{TransactionQuery, TransactionRecord};
use crate::tls::{self, agent};

/// Callers of one agent, a connection each.
const CALLERS: u32 = 10;
/// Calls of one agent before it is revoked.
const CALLS_BEFORE: u32 = 400;
/// Calls that each caller tries when it is over: each needs a new connection.
const CALLS_AFTER: u32 = 3;
const TIME_MAX: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const CATALOGUE: &str = include_str!("../../../certs/catalogue.json");
/// The account that pays and the one that is paid.
const ACCOUNTS: [&str; 2] = ["CHK_001", "SAV_001"];

/// What came of it.
#[derive(Default)]
pub(super) struct Race {
    pub(super) agents: u32,
    pub(super) calls: u64,
    /// Authorized or paid.
    pub(super) effects: u64,
    /// Of those that began when the revocation was effective.
    pub(super) late: u64,
    pub(super) late_effects: u64,
}

/// One call: when it began, and whether it did something.
type Made = (Instant, bool);

pub(super) fn measure(plan: &Plan, site: &Site, stop: &Stop) -> Result<Race, Failure> {
    open_the_bank(site)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| failed(&error))?;
    let _inside = runtime.enter();
    let (listener, address) = listen(site)?;
    let mut race = Race::default();
    let begun = Instant::now();
    let raced = (0..).try_for_each(|number: u32| {
        if race.calls >= u64::from(plan.calls) || begun.elapsed() > TIME_MAX {
            return Err(None);
        }
        stop.check().and_then(|()| one(site, &runtime, address, number, &mut race)).map_err(Some)
    });
    runtime.block_on(listener.stop());
    match raced {
        Err(Some(failure)) => Err(failure),
        Err(None) | Ok(()) => Ok(race),
    }
}

/// One agent pays until it is revoked.
fn one(
    site: &Site,
    runtime: &tokio::runtime::Runtime,
    address: SocketAddr,
    number: u32,
    race: &mut Race,
) -> Result<(), Failure> {
    let name = format!("racer-{number}");
    let (agent, identity) = site.enrolled(&name)?;
    let spiffe_id: SpiffeId = agent.parse().map_err(|error| failed(&error))?;
    grant(site, &name)?;
    let connector = connector(site, &identity)?;
    let (made, over) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (connector, made, over) = (connector.clone(), Arc::clone(&made), Arc::clone(&over));
            let token: Arc<dyn Token> = site.host.token.pool();
            let signer = (token, identity.key.id, identity.key.algorithm);
            let name = format!("{name}-{caller}");
            let caller = Caller { connector, address, signer, stream: None, open: None, name };
            runtime.spawn(caller.call_until(made, over))
        })
        .collect();
    while made.load(Ordering::Relaxed) < CALLS_BEFORE && !callers.iter().all(tokio::task::JoinHandle::is_finished) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (start, wall) = (Instant::now(), clock::now());
    let report = revoke(&site.bank, &agent)?;
    over.store(true, Ordering::Release);
    // Counted from before the call, so that it is not later than it was.
    let effective_ms: f64 = report["effective_ms"].as_str().and_then(|ms| ms.parse().ok()).unwrap_or(f64::NAN);
    let effective = start + Duration::try_from_secs_f64(effective_ms / 1e3).map_err(|error| failed(&error))?;
    for caller in callers {
        for (began, effect) in runtime.block_on(caller).map_err(|error| failed(&error))? {
            let late = began > effective;
            race.calls += 1;
            race.effects += u64::from(effect);
            race.late += u64::from(late);
            race.late_effects += u64::from(late && effect);
        }
    }
    race.agents += 1;
    // Milliseconds of a revocation stay far below 2^52.
    race.late_effects += recorded_late(site, spiffe_id, wall.plus_ms(effective_ms.ceil() as i64))?;
    Ok(())
}

/// What the book has of an agent from after that time: an answer may have been lost on the way.
fn recorded_late(site: &Site, agent: SpiffeId, at: UnixMillis) -> Result<u64, Failure> {
    let query = TransactionQuery { agent: Some(agent), limit: 1_000, ..TransactionQuery::default() };
    let records = site.bank.store.transactions(&query)?;
    let late = |record: &&TransactionRecord| {
        record.transaction.created > at || record.posted_at.is_some_and(|posted_at| posted_at > at)
    };
    Ok(records.iter().filter(late).count() as u64)
}

/// The agent's key, and where it is.
type Signer = (Arc<dyn Token>, KeyId, Algorithm);

struct Caller {
    connector: TlsConnector,
    address: SocketAddr,
    signer: Signer,
    stream: Option<TlsStream<TcpStream>>,
    /// Authorized, to be paid next.
    open: Option<String>,
    name: String,
}

impl Caller {
    async fn call_until(mut self, made: Arc<AtomicU32>, over: Arc<AtomicBool>) -> Vec<Made> {
        let (mut all, mut after) = (vec![], 0);
        while after < CALLS_AFTER {
            after += u32::from(over.load(Ordering::Acquire));
            let began = Instant::now();
            let answer = self.call(all.len()).await;
            // Whatever is wrong with it, the next call begins anew.
            if answer.is_err() {
                self.stream = None;
            }
            all.push((began, answer.is_ok_and(|effect| effect)));
            made.fetch_add(1, Ordering::Relaxed);
        }
        all
    }

    /// Authorizes a payment, or pays what was authorized before. Answers whether that is done.
    async fn call(&mut self, number: usize) -> std::io::Result<bool> {
        let mut arguments = json!({
            "from_account": ACCOUNTS[0], "to_account": ACCOUNTS[1], "amount": "0.01", "currency": "USD",
        });
        let tool = match self.open.take() {
            Some(transaction) => {
                arguments["transaction_id"] = json!(transaction);
                "execute_transfer"
            }
            None => {
                arguments["idempotency_key"] = json!(format!("{}-{number}", self.name));
                "authorize_transfer"
            }
        };
        let answer = self.exchange(tool, &arguments).await?;
        let done = answer["result"]["isError"] != true && answer["result"]["structuredContent"].is_object();
        if done && tool == "authorize_transfer" {
            self.open = answer["result"]["structuredContent"]["transaction_id"].as_str().map(str::to_owned);
        }
        Ok(done)
    }

    async fn exchange(&mut self, tool: &str, arguments: &Value) -> std::io::Result<Value> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let tcp = TcpStream::connect(self.address).await?;
                tcp.set_nodelay(true)?;
                let stream = self.connector.connect(ServerName::from(self.address.ip()), tcp).await?;
                self.stream.insert(stream)
            }
        };
        let request = tokio::task::block_in_place(|| request(&self.signer, self.address, tool, arguments))?;
        stream.write_all(&request).await?;
        let mut answer = vec![0; ANSWER_BYTES_MAX];
        let mut filled = 0;
        loop {
            let more = stream.read(&mut answer[filled..]).await?;
            if more == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            filled += more;
            if let Some(body) = body(&answer[..filled]) {
                return serde_json::from_slice(body).map_err(std::io::Error::other);
            }
        }
    }
}

fn request(
    (token, key, algorithm): &Signer,
    address: SocketAddr,
    tool: &str,
    arguments: &Value,
) -> std::io::Result<Vec<u8>> {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "bench", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    let components = Components {
        method: "POST".into(),
        target_uri: format!("https://{address}/mcp"),
        content_digest: httpsig::content_digest(body.as_bytes()),
        protocol_version: "2026-07-28".into(),
        mcp_method: "tools/call".into(),
        mcp_name: Some(tool.to_owned()),
        authorization: None,
    };
    let signed = agent::sign_request(token, (*key, *algorithm), &components, &signed_http::fresh());
    let signed = signed.map_err(std::io::Error::other)?;
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: {address}\r\nAccept: application/json, text/event-stream\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nMcp-Protocol-Version: 2026-07-28\r\n\
         Mcp-Method: tools/call\r\nMcp-Name: {tool}\r\nContent-Digest: {}\r\nSignature-Input: {}\r\n\
         Signature: {}\r\n\r\n{body}",
        body.len(),
        components.content_digest,
        signed.signature_input,
        signed.signature
    );
    Ok(request.into_bytes())
}

/// The body of a whole answer.
fn body(answer: &[u8]) -> Option<&[u8]> {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&answer[..head]).ok()?.to_ascii_lowercase();
    let length: usize = text.lines().find_map(|line| line.strip_prefix("content-length: "))?.trim().parse().ok()?;
    answer.get(head..head + length)
}

fn connector(site: &Site, identity: &CertifiedKey) -> Result<TlsConnector, Failure> {
    let token: Arc<dyn Token> = site.host.token.pool();
    let signer = tls::signer(token, identity.key.id);
    Ok(TlsConnector::from(Arc::new(tls::client_config(&identity.chain, signer, &site.root()?)?)))
}

/// Two accounts and a role catalogue that both parties signed.
fn open_the_bank(site: &Site) -> Result<(), Failure> {
    let catalogue: Value = serde_json::from_str(CATALOGUE).map_err(|error| failed(&error))?;
    let olga = operator("olga");
    let signed = site.secco.authority.catalogue_sign(&olga, &catalogue)?;
    let signed = site.bank.authority.catalogue_sign(&olga, &signed)?;
    site.bank.authority.catalogue_install(&olga, &signed)?;
    site.bank.services.complete()?;
    for account in ACCOUNTS {
        site.bank.services.payments()?.account_open(
            &principal(),
            NewAccount {
                account: account.parse().map_err(|error| failed(&error))?,
                owner: "OWN_001".parse().map_err(|error| failed(&error))?,
                currency: "USD".parse().map_err(|error| failed(&error))?,
                opening: Some(money("100000")?),
                overdraft: None,
                day_max: None,
                zone: Zone::UTC,
            },
        )?;
    }
    Ok(())
}

fn grant(site: &Site, agent: &str) -> Result<(), Failure> {
    site.bank.services.payments()?.grant_add(
        &principal(),
        &agent.parse().map_err(|error| failed(&error))?,
        ACCOUNTS[0].parse().map_err(|error| failed(&error))?,
        "OWN_001".parse().map_err(|error| failed(&error))?,
        vec![Verb::Read, Verb::Transfer],
        None,
        1,
    )?;
    Ok(())
}

fn money(text: &str) -> Result<Money, Failure> {
    let currency = "USD".parse().map_err(|error| failed(&error))?;
    Money::parse_positive(text, currency).map_err(|error| failed(&error))
}

fn principal() -> OperatorPrincipal {
    match operator("olga") {
        Actor::Operator(operator) => operator,
        Actor::Agent(_) | Actor::System { .. } => unreachable!("`operator` makes an operator"),
    }
}
