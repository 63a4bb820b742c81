//! The socket: HTTP/1.1 with JSON bodies over a Unix socket. Who calls was told by the kernel when the caller connected.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::geteuid;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::Callers;
use super::api::{Asked, VerifyRequest};
use super::desk::Desk;
use super::refusal::SigningRefusal;
use super::settings::SigningSettings;
use crate::kernel::command::ProgramPrincipal;
use crate::kernel::json;
use crate::kernel::refusal::Refusal;
use crate::ops::accepting::{self, Slot, Slots};
use crate::ops::failure::{Failure, Kind};
use crate::ops::paths::StateDir;

const API: &str = include_str!("../../docs/signing-api.json");
/// Everybody may connect, and is told by name that nothing is signed for them: who they are decides, not the file's mode.
const SOCKET_MODE: u32 = 0o666;
/// The state directory is nobody else's; a directory elsewhere that is made for the socket may be passed through.
const DIRECTORY_MODE: u32 = 0o755;
/// Connections of all for whom no key signs: they are told so, and keep nobody else out.
const STRANGERS_MAX: u32 = 4;
/// Request line and headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// What is being signed when the daemon stops is answered within this time; its HSM has a deadline of its own.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

type Reply = Response<Full<Bytes>>;
/// A reply instead of the one that was asked for.
type Refused = Box<Reply>;

/// The bound socket, with those who may use it: made before the front is confined, when `/etc` and directories outside of
/// the state directory are still in reach.
#[derive(Debug)]
pub struct Socket {
    pub listener: StdListener,
    pub callers: Callers,
}

impl Socket {
    /// Binds the socket and looks the callers up. `None`: the configuration has no keys.
    ///
    /// # Errors
    /// `signing_caller_unknown`, `socket_unusable`
    pub fn open(settings: &SigningSettings, state: &StateDir) -> Result<Option<Self>, Failure> {
        if !settings.is_on() {
            return Ok(None);
        }
        let callers = Callers::find(settings)?;
        let path = state.resolve(&settings.socket);
        let listener = bind(&path, state).map_err(|error| {
            Failure::fault(
                "socket_unusable",
                format!("[signing] socket {} cannot be bound: {error}", path.display()),
                "name a directory of the daemon's own user that nobody else may write to; Unix socket paths end at 107 bytes",
            )
        })?;
        Ok(Some(Self { listener, callers }))
    }
}

fn bind(path: &Path, state: &StateDir) -> std::io::Result<StdListener> {
    let is_own = path.starts_with(state.root());
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        let mode = if is_own { 0o700 } else { DIRECTORY_MODE };
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(directory)?;
    }
    if let Some(directory) = path.parent() {
        may_hold_it(directory)?;
    }
    // Only a socket that nobody answers on is what a daemon before left behind.
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(std::io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(std::io::Error::new(ErrorKind::AddrInUse, "another program answers there"));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = StdListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whoever may write to its directory could put a socket of their own there, and be asked instead of us.
fn may_hold_it(directory: &Path) -> std::io::Result<()> {
    let there = std::fs::metadata(directory)?;
    let is_ours = [0, geteuid().as_raw()].contains(&there.uid());
    if is_ours && there.mode() & 0o022 == 0 {
        return Ok(());
    }
    let why = format!("{} is another user's, or others may write to it", directory.display());
    Err(std::io::Error::new(ErrorKind::PermissionDenied, why))
}

/// Serves until `stop`, then lets what is being signed be answered and written down.
pub async fn serve(listener: StdListener, desk: Arc<Desk>, stop: CancellationToken) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the signing socket cannot be served");
            return;
        }
    };
    let slots = Slots::new(desk.settings().limits.connections_max);
    let open = Arc::new(OpenConnections::default());
    accepting::accept(&listener, &slots, &stop, |stream, _, slot| {
        let most = desk.settings().limits.connections_of_one_max;
        let peer = stream.peer_cred().map(|peer| (peer.uid(), peer.gid()));
        let admitted = peer.ok().zip(slot).and_then(|((uid, gid), slot)| {
            let program = desk.principal(uid, gid);
            let (who, most) = if desk.knows(&program) { (Some(uid), most) } else { (None, STRANGERS_MAX) };
            Some((program, slot, open.take(who, most)?))
        });
        match admitted {
            Some((program, slot, place)) => {
                tokio::spawn(converse(stream, Arc::clone(&desk), program, (slot, place), stop.clone()));
            }
            None => {
                desk.count("too_many_connections");
                turn_away(&stream);
            }
        }
    })
    .await;
    slots.drained(DRAIN_TIMEOUT).await;
    desk.end().await;
}

/// How many connections each user has; all for whom no key signs are one. The lock guards the map only.
#[derive(Debug, Default)]
struct OpenConnections(Mutex<BTreeMap<Option<u32>, u32>>);

/// One of a user's places, until it is dropped.
struct Place {
    uid: Option<u32>,
    of: Arc<OpenConnections>,
}

impl OpenConnections {
    fn take(self: &Arc<Self>, uid: Option<u32>, most: u32) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(uid).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { uid, of: Arc::clone(self) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.uid);
            }
        }
    }
}

/// An answer this short fits into a fresh socket's buffer: nobody is waited for.
fn turn_away(stream: &UnixStream) {
    let body = too_many_connections().to_json().to_string();
    let head =
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close";
    let _ = stream.try_write(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
}

fn too_many_connections() -> Failure {
    Failure::busy(
        "too_many_connections",
        "this user, or all users together, have as many connections open as they may",
        "keep connections and send several requests on each",
    )
}

async fn converse(
    stream: UnixStream,
    desk: Arc<Desk>,
    program: ProgramPrincipal,
    places: (Slot, Place),
    stop: CancellationToken,
) {
    let _places = places;
    let limits = desk.settings().limits;
    let answering = service_fn(|request: Request<Incoming>| {
        let (desk, program) = (Arc::clone(&desk), program.clone());
        async move {
            let limit = Duration::from_millis(desk.settings().limits.request_timeout_ms);
            let answered = tokio::time::timeout(limit, answer(&desk, &program, request)).await;
            Ok::<_, Infallible>(answered.unwrap_or_else(|_| failed(&timed_out())))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.header_timeout_ms))
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        // Who has said all and hangs up that half still wants the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), answering);
    accepting::converse(connection, &stop).await;
}

fn timed_out() -> Failure {
    Failure::unknown(
        "request_timeout",
        "no answer in time: what was asked may have been signed",
        "repeat with the same idempotency key",
    )
}

async fn answer(desk: &Arc<Desk>, program: &ProgramPrincipal, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    route(desk, program, &parts, body).await.unwrap_or_else(|refused| *refused)
}

async fn route(desk: &Arc<Desk>, program: &ProgramPrincipal, parts: &Parts, body: Incoming) -> Result<Reply, Refused> {
    let path = parts.uri.path();
    let method = match path {
        "/openapi.json" | "/v1/openapi.json" | "/v1/keys" => Method::GET,
        "/v1/sign" | "/v1/sign/batch" | "/v1/sign/merkle" | "/v1/verify" => Method::POST,
        _ => {
            let words = "see GET /openapi.json for the paths";
            return Err(Box::new(refused(desk, StatusCode::NOT_FOUND, "unknown_path", words)));
        }
    };
    if parts.method != method {
        let mut reply = refused(desk, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "see GET /openapi.json");
        let allowed = HeaderValue::from_str(method.as_str()).expect("a method is a header value");
        reply.headers_mut().insert(header::ALLOW, allowed);
        return Err(Box::new(reply));
    }
    if path.ends_with("openapi.json") {
        return Ok(json_reply(StatusCode::OK, Bytes::from_static(API.as_bytes())));
    }
    desk.admit(program).map_err(no)?;
    if path == "/v1/keys" {
        return shown(desk.shown(program).await);
    }
    let body = read(desk, parts, body).await?;
    if path == "/v1/verify" {
        let asked: VerifyRequest = parsed(desk, &body)?;
        return shown(desk.verify(program, &asked).await);
    }
    let asked = match path {
        "/v1/sign/batch" => Asked::Batch(parsed(desk, &body)?),
        "/v1/sign/merkle" => Asked::Merkle(parsed(desk, &body)?),
        _ => Asked::One(parsed(desk, &body)?),
    };
    let answer = desk.sign(program, asked).await.map_err(no)?;
    let mut reply = json_reply(StatusCode::OK, Bytes::from(answer.body));
    if answer.repeated {
        reply.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    Ok(reply)
}

/// The body, at most the limit and within the time.
async fn read(desk: &Desk, parts: &Parts, body: Incoming) -> Result<Bytes, Refused> {
    let media = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = media.is_some_and(|media| {
        media.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
    });
    if !is_json {
        let words = "send Content-Type: application/json";
        return Err(Box::new(refused(desk, StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", words)));
    }
    let limits = &desk.settings().limits;
    let collected = Limited::new(body, limits.body_bytes_max).collect();
    let (status, name, words) =
        match tokio::time::timeout(Duration::from_millis(limits.body_timeout_ms), collected).await {
            Ok(Ok(body)) => return Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let words = "send less at once: [signing.limits] body_bytes_max says how much";
                (StatusCode::PAYLOAD_TOO_LARGE, "body_too_long", words)
            }
            Ok(Err(_)) => (StatusCode::BAD_REQUEST, "body_broken", "send the whole body"),
            Err(_) => (StatusCode::REQUEST_TIMEOUT, "body_timeout", "send the body at once"),
        };
    Err(Box::new(closing(refused(desk, status, name, words))))
}

/// Strict JSON of exactly the members that there are.
fn parsed<T: DeserializeOwned>(desk: &Desk, body: &[u8]) -> Result<T, Refused> {
    let limits = &desk.settings().limits;
    json::check(body, limits.body_bytes_max, limits.json_depth_max).map_err(|refused| {
        desk.count("request_malformed");
        no(Failure::usage(refused.name(), refused.to_string(), "correct the body; GET /openapi.json says its shape"))
    })?;
    serde_json::from_slice(body).map_err(|error| {
        desk.count("request_malformed");
        let said = format!("the request was not understood: {error}");
        no(Failure::usage("request_malformed", said, "GET /openapi.json says its shape"))
    })
}

fn shown(answer: Result<Value, Failure>) -> Result<Reply, Refused> {
    Ok(json_reply(StatusCode::OK, Bytes::from(answer.map_err(no)?.to_string())))
}

fn no(failure: Failure) -> Refused {
    Box::new(failed(&failure))
}

fn refused(desk: &Desk, status: StatusCode, name: &'static str, next_step: &str) -> Reply {
    desk.count(name);
    let failure = Failure::usage(name, name.replace('_', " "), next_step);
    json_reply(status, Bytes::from(failure.to_json().to_string()))
}

/// A failure under the status of its kind.
fn failed(failure: &Failure) -> Reply {
    let is = |refusal: SigningRefusal| failure.name == refusal.name();
    let status = match failure.kind {
        Kind::Usage => StatusCode::BAD_REQUEST,
        Kind::Refused if failure.name == Refusal::IdempotencyMismatch.name() => StatusCode::CONFLICT,
        Kind::Refused => StatusCode::FORBIDDEN,
        Kind::Busy if is(SigningRefusal::RateExceeded) => StatusCode::TOO_MANY_REQUESTS,
        Kind::Busy | Kind::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Fault => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut reply = json_reply(status, Bytes::from(json!({ "error": failure }).to_string()));
    if failure.retry {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    reply
}

fn json_reply(status: StatusCode, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// Nothing more is read from this connection.
fn closing(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    reply
}
