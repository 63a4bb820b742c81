//! Pages for people, over TLS without a client certificate: what an approval's address opens.
//!
//! Whoever keeps a copy of the log reads it here, too ([`super::log_tiles`]).
//!
//! A page says how to decide and decides nothing. It is the same for every approval, whether there is one or not, so that
//! an address tells a stranger nothing; nothing is looked up and nothing but a handshake is signed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::front::log_tiles::LogDoor;
use crate::hsm::{CertifiedKey, Token};
use crate::kernel::types::ApprovalId;
use crate::ops::accepting::{self, Slot, Slots};
use crate::ops::failure::Failure;
use crate::tls;

/// Strangers' handshakes wait for the HSM: so many at once, on threads of their own.
const THREADS: usize = 2;
const CONNECTIONS_MAX: u32 = 128;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a request is closed after this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 8 * 1024;

const STYLE: &str = include_str!("pages/page.css");
const APPROVAL: &str = include_str!("pages/approval.html");
/// What stands for the approval's id in its page.
const ID: &str = "{approval_id}";

type Answer = Response<Full<Bytes>>;

/// The running listener; it ends with this.
pub struct Pages {
    runtime: Option<Runtime>,
}

impl Pages {
    /// Serves from now on.
    ///
    /// # Errors
    /// `tls_key_unusable`, `listener_failed`
    pub fn start(
        listening: std::net::TcpListener,
        identity: &CertifiedKey,
        token: Arc<dyn Token>,
        log: LogDoor,
        stop: CancellationToken,
    ) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::fault("listener_failed", error.to_string(), "check process limits");
        let acceptor = TlsAcceptor::from(Arc::new(tls::public_server_config(identity, token)?));
        listening.set_nonblocking(true).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("pages")
            .enable_all()
            .build()
            .map_err(failed)?;
        let listening = {
            let _entered = runtime.enter();
            TcpListener::from_std(listening).map_err(failed)?
        };
        runtime.spawn(accept(listening, acceptor, Arc::new(log), stop));
        Ok(Self { runtime: Some(runtime) })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listening: TcpListener, acceptor: TlsAcceptor, log: Arc<LogDoor>, stop: CancellationToken) {
    accepting::accept(&listening, &Slots::new(CONNECTIONS_MAX), &stop, |stream, _, slot| {
        // All places are taken: whoever comes is closed at once and may come again.
        if let Some(slot) = slot {
            tokio::spawn(converse(stream, acceptor.clone(), Arc::clone(&log), slot));
        }
    })
    .await;
}

async fn converse(stream: TcpStream, acceptor: TlsAcceptor, log: Arc<LogDoor>, slot: Slot) {
    let _slot = slot;
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else {
        return;
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let log = Arc::clone(&log);
        async move {
            let (method, path) = (request.method(), request.uri().path());
            let of_log = log.answer(method, path, request.headers()).await;
            Ok::<_, Infallible>(of_log.unwrap_or_else(|| answer(method, path)))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(method: &Method, path: &str) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        let mut refused =
            page(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", "method_not_allowed\n".into());
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match words.as_slice() {
        ["page.css"] => page(StatusCode::OK, "text/css; charset=utf-8", STYLE.into()),
        ["approvals", id] => match id.parse::<ApprovalId>() {
            // An id has letters, digits and one underscore: nothing that a page would have to escape.
            Ok(id) => page(StatusCode::OK, "text/html; charset=utf-8", APPROVAL.replace(ID, id.as_str())),
            Err(_) => page(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "unknown_path\n".into()),
        },
        _ => page(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "unknown_path\n".into()),
    }
}

fn page(status: StatusCode, media: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, media),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_approvals_have_a_page() {
        let id = "apr_01KAPRQ8ZT0000000000000000";
        let table = [
            ("GET", format!("/approvals/{id}"), 200),
            ("HEAD", format!("/approvals/{id}"), 200),
            ("GET", "/page.css".into(), 200),
            ("POST", format!("/approvals/{id}"), 405),
            ("GET", "/".into(), 404),
            ("GET", "/approvals".into(), 404),
            ("GET", "/approvals/".into(), 404),
            ("GET", format!("/approvals/{id}/approve"), 404),
            ("GET", "/approvals/<script>".into(), 404),
            ("GET", "/approvals/apr_%3Cscript%3E".into(), 404),
            ("GET", "/approvals/txn_01KAPRQ8ZT0000000000000000".into(), 404),
            ("GET", "/../etc/passwd".into(), 404),
        ];
        for (method, path, status) in table {
            let answered = answer(&method.parse().unwrap(), &path);
            assert_eq!(answered.status().as_u16(), status, "{method} {path}");
            assert!(answered.headers().contains_key(header::CONTENT_SECURITY_POLICY), "{method} {path}");
        }
        assert_eq!(APPROVAL.matches(ID).count(), 4);
    }
}
