//! What anybody may know, over plain HTTP: revocation lists, CA certificates, answers about certificates.
//!
//! Everything here is signed, so that the channel need not be. Nothing a stranger sends reaches further than the store's
//! reading side and one signature; what is asked often is answered from memory (RFC 5019). At a witness's open door there is
//! a commit besides, for each head that a configured log has signed: one.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::ca::{Authority, OcspAnswer, Responder};
use crate::front::services::Services;
use crate::front::witness::open::OpenDoor;
use crate::kernel::credential::ocsp::NoAnswer;
use crate::kernel::types::{Sha256, UnixMillis};
use crate::kernel::witness::ADD_CHECKPOINT_BYTES_MAX;
use crate::ops::accepting::{self, Slot, Slots};
use crate::ops::clock;
use crate::ops::failure::Failure;

const CONNECTIONS_MAX: u32 = 1_024;
/// Signatures for strangers at once: the HSM is for those who pay. More are told to try later.
const SIGNING_MAX: usize = 8;
/// Checkpoints for strangers at once: apart from the above, so that they take no answer's place.
const COSIGNING_MAX: usize = 1;
/// Headers with the address: a question in an address is at most 255 bytes (RFC 5019, 5), we take somewhat more.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// 64 certificates with SHA-256 names are some 8 KiB.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// A connection without a request is closed after this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// What is in progress may end within this time after stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Nobody keeps what will be made anew this soon.
const CACHE_MARGIN_MS: i64 = 60_000;

type Answer = Response<Full<Bytes>>;

/// Everything that is published.
pub struct Publication {
    authority: Arc<Authority>,
    responder: Arc<Responder>,
    /// A security company's that cosigns logs of others than its banks.
    witness: Option<Arc<OpenDoor>>,
    signing: Arc<Semaphore>,
    /// Who waits for it waits in turn, no longer than a request may take.
    cosigning: Arc<Semaphore>,
}

impl Publication {
    pub fn new(authority: Arc<Authority>, responder: Arc<Responder>) -> Self {
        let (signing, cosigning) = (Semaphore::new(SIGNING_MAX), Semaphore::new(COSIGNING_MAX));
        Self { authority, responder, witness: None, signing: Arc::new(signing), cosigning: Arc::new(cosigning) }
    }

    /// With the open door of its witness.
    pub fn cosigning(self, services: Arc<Services>) -> Self {
        Self { witness: Some(Arc::new(OpenDoor::new(services))), ..self }
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: hyper::body::Body + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B::Data: Send,
    {
        let answered = tokio::time::timeout(REQUEST_TIMEOUT, self.route(request)).await;
        answered.unwrap_or_else(|_| refused(StatusCode::GATEWAY_TIMEOUT, "request_timeout"))
    }

    async fn route<B>(&self, request: Request<B>) -> Answer
    where
        B: hyper::body::Body + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B::Data: Send,
    {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let is_get = parts.method == Method::GET;
        let mut words = path.strip_prefix('/').unwrap_or_default().splitn(3, '/');
        match (words.next(), words.next(), words.next()) {
            (Some("crl"), Some(file), None) if is_get => self.list(file, &parts.headers),
            (Some("ca"), Some(file), None) if is_get => self.certificate(file, &parts.headers),
            (Some("crl" | "ca"), Some(_), None) => not_allowed("GET"),
            (Some("ocsp"), Some(issuer), Some(question)) if is_get => match decoded(question) {
                Some(question) => self.status(issuer, &question, &parts.headers).await,
                None => ocsp(OcspAnswer { der: NoAnswer::MalformedRequest.encode().into(), validity: None }, None),
            },
            (Some("ocsp"), Some(issuer), None) if parts.method == Method::POST => {
                let media = parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
                if media != Some(b"application/ocsp-request") {
                    return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_an_ocsp_request");
                }
                match Limited::new(body, BODY_BYTES_MAX).collect().await {
                    Ok(question) => self.status(issuer, &question.to_bytes(), &parts.headers).await,
                    Err(error) if error.is::<LengthLimitError>() => {
                        closing(refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_long"))
                    }
                    Err(_) => closing(refused(StatusCode::BAD_REQUEST, "body_broken")),
                }
            }
            (Some("witness"), Some("add-checkpoint"), None) => match (&self.witness, parts.method == Method::POST) {
                (None, _) => refused(StatusCode::NOT_FOUND, "unknown_path"),
                (Some(_), false) => not_allowed("POST"),
                (Some(door), true) => match Limited::new(body, ADD_CHECKPOINT_BYTES_MAX).collect().await {
                    Ok(asked) => self.cosigned(door, asked.to_bytes()).await,
                    Err(error) if error.is::<LengthLimitError>() => {
                        closing(refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_long"))
                    }
                    Err(_) => closing(refused(StatusCode::BAD_REQUEST, "body_broken")),
                },
            },
            (Some("ocsp"), Some(_), Some(_)) => not_allowed("GET"),
            (Some("ocsp"), Some(_), None) => not_allowed("POST"),
            _ => refused(StatusCode::NOT_FOUND, "unknown_path"),
        }
    }

    fn list(&self, file: &str, headers: &HeaderMap) -> Answer {
        let Some(list) = file.strip_suffix(".crl").and_then(|issuer| self.authority.published(issuer)) else {
            return refused(StatusCode::NOT_FOUND, "unknown_issuer");
        };
        let kept = Keep { from: list.this_update, until: list.next_update, fingerprint: list.fingerprint };
        document("application/pkix-crl", list.bytes(), Some(&kept), headers)
    }

    fn certificate(&self, file: &str, headers: &HeaderMap) -> Answer {
        let found = file.strip_suffix(".cer").map(|issuer| self.authority.authority_certificate(issuer));
        match found {
            Some(Ok(Some((der, not_before, not_after)))) => {
                let kept = Keep { from: not_before, until: not_after, fingerprint: Sha256::of(&[&der]) };
                document("application/pkix-cert", Bytes::from(der), Some(&kept), headers)
            }
            Some(Err(_)) => refused(StatusCode::SERVICE_UNAVAILABLE, "store_failed"),
            Some(Ok(None)) | None => refused(StatusCode::NOT_FOUND, "unknown_issuer"),
        }
    }

    async fn cosigned(&self, door: &Arc<OpenDoor>, asked: Bytes) -> Answer {
        let Ok(slot) = Arc::clone(&self.cosigning).acquire_owned().await else {
            return refused(StatusCode::SERVICE_UNAVAILABLE, "busy");
        };
        let door = Arc::clone(door);
        let answered = tokio::task::spawn_blocking(move || {
            let answer = door.add_checkpoint(&asked);
            drop(slot);
            answer
        });
        let Ok((status, media, body)) = answered.await else {
            return refused(StatusCode::INTERNAL_SERVER_ERROR, "internal_defect");
        };
        let mut response = document(media, Bytes::from(body), None, &HeaderMap::new());
        *response.status_mut() = status;
        response
    }

    async fn status(&self, issuer: &str, question: &[u8], headers: &HeaderMap) -> Answer {
        if let Some(answer) = self.responder.kept(issuer, question) {
            return ocsp(answer, Some(headers));
        }
        let later = || ocsp(OcspAnswer { der: NoAnswer::TryLater.encode().into(), validity: None }, None);
        let Ok(slot) = Arc::clone(&self.signing).try_acquire_owned() else {
            return later();
        };
        let (responder, issuer, question) = (Arc::clone(&self.responder), issuer.to_owned(), question.to_vec());
        let signed = tokio::task::spawn_blocking(move || {
            let answer = responder.answer(&issuer, &question);
            drop(slot);
            answer
        });
        signed.await.map_or_else(|_| later(), |answer| ocsp(answer, Some(headers)))
    }
}

/// A question in an address: base64, of which some percent-encode what others leave as it is (RFC 6960, A.1).
fn decoded(question: &str) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(question.len());
    let mut rest = question.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            plain.push(*first);
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        plain.extend(hex::decode(digits).ok()?);
        rest = after;
    }
    BASE64_STANDARD.decode(plain).ok()
}

/// How long anybody may keep an answer.
struct Keep {
    from: UnixMillis,
    until: UnixMillis,
    fingerprint: Sha256,
}

fn ocsp(answer: OcspAnswer, headers: Option<&HeaderMap>) -> Answer {
    let kept = answer.validity.map(|validity| Keep {
        from: validity.this_update,
        until: validity.next_update,
        fingerprint: validity.fingerprint,
    });
    let none = HeaderMap::new();
    document("application/ocsp-response", Bytes::from_owner(answer.der), kept.as_ref(), headers.unwrap_or(&none))
}

fn document(media: &'static str, body: Bytes, keep: Option<&Keep>, asked: &HeaderMap) -> Answer {
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    let Some(keep) = keep else {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return response;
    };
    let age_s = keep.until.0.saturating_sub(clock::now().0).saturating_sub(CACHE_MARGIN_MS).max(0) / 1000;
    let tag = format!("\"{}\"", keep.fingerprint.hex());
    let is_same = asked.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let values = [
        (header::CACHE_CONTROL, format!("public, max-age={age_s}, no-transform, must-revalidate")),
        (header::LAST_MODIFIED, http_date(keep.from)),
        (header::EXPIRES, http_date(keep.until)),
        (header::ETAG, tag),
    ];
    for (name, value) in values {
        headers.extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
    }
    if is_same {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Full::default();
    }
    response
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7)
fn http_date(at: UnixMillis) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(at.seconds()).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let form = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    at.format(form).unwrap_or_default()
}

fn refused(status: StatusCode, name: &'static str) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(format!("{name}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn not_allowed(method: &'static str) -> Answer {
    let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(method));
    response
}

fn closing(mut response: Answer) -> Answer {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Serves until `stop`, then lets requests in progress end.
///
/// # Errors
/// `listener_failed`
pub async fn serve(
    listening: std::net::TcpListener,
    publication: Arc<Publication>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::fault("listener_failed", error.to_string(), "check process limits");
    listening.set_nonblocking(true).map_err(failed)?;
    let listening = TcpListener::from_std(listening).map_err(failed)?;
    let slots = Slots::new(CONNECTIONS_MAX);
    accepting::accept(&listening, &slots, &stop, |stream, _, slot| {
        // All places are taken: whoever comes is closed at once and may come again.
        if let Some(slot) = slot {
            tokio::spawn(converse(stream, Arc::clone(&publication), slot, stop.clone()));
        }
    })
    .await;
    slots.drained(DRAIN_TIMEOUT).await;
    Ok(())
}

async fn converse(stream: TcpStream, publication: Arc<Publication>, slot: Slot, stop: CancellationToken) {
    let _slot = slot;
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let publication = Arc::clone(&publication);
        async move { Ok::<_, Infallible>(publication.answer(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    accepting::converse(connection, &stop).await;
}
