//! The log for those who keep a copy of it: its newest checkpoint and its tiles (C2SP tlog-tiles), read only, at the address
//! of the pages.
//!
//! A head is one reading of the store: `head.json` has the checkpoint and the chains of the keys that signed it. The three
//! names beside it are for software that knows them; between two of them a key may be rotated, or a witness sign.
//!
//! What is read here are hashes and signatures; what leaves say is in none of it. A tile never changes, so that anybody may
//! keep it for ever; the checkpoint is asked for again.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use tokio::sync::Semaphore;

use crate::audit::Log;
use crate::audit::settings::{ServeSettings, ServeTo};
use crate::front::services::Services;
use crate::kernel::receipt::Base64;
use crate::kernel::tile::Tile;
use crate::kernel::types::Sha256;
use crate::ops::failure::Failure;

/// Below this the log begins.
const PREFIX: &str = "/log/";
/// Readings of the store at once: payments read it, too.
const READING_MAX: usize = 4;
/// A checkpoint that a witness has cosigned is waited for so long.
const COSIGNED_WITHIN: Duration = Duration::from_secs(1);

type Answer = Response<Full<Bytes>>;

/// The door of a log, and who may come in.
pub struct LogDoor {
    services: Arc<Services>,
    settings: ServeSettings,
    reading: Arc<Semaphore>,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    /// Checkpoint and chains together.
    Head,
    Checkpoint,
    /// The chain of the key that signs checkpoints.
    Certificates,
    /// The chains of the witnesses' keys.
    Witnesses,
    Tile(Tile),
}

impl Asked {
    fn of(path: &str) -> Option<Self> {
        match path.strip_prefix(PREFIX)? {
            "head.json" => Some(Self::Head),
            "checkpoint" => Some(Self::Checkpoint),
            "checkpoint.certificates" => Some(Self::Certificates),
            "witness.certificates" => Some(Self::Witnesses),
            tile => Tile::parse(tile).map(Self::Tile),
        }
    }
}

impl LogDoor {
    pub fn new(services: Arc<Services>, settings: ServeSettings) -> Self {
        Self { services, settings, reading: Arc::new(Semaphore::new(READING_MAX)) }
    }

    /// Answers what lies below `/log/`. None: the path does not.
    pub async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Answer> {
        if !path.starts_with(PREFIX) {
            return None;
        }
        Some(self.asked(method, path, headers).await.unwrap_or_else(|refused| refused))
    }

    async fn asked(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<Answer, Answer> {
        if self.settings.to == ServeTo::Nobody {
            return Err(refused(StatusCode::NOT_FOUND, "unknown_path"));
        }
        if !self.is_let_in(headers) {
            let mut answer = refused(StatusCode::UNAUTHORIZED, "reader_unknown");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Err(answer);
        }
        if method != Method::GET && method != Method::HEAD {
            let mut answer = refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Err(answer);
        }
        let asked = Asked::of(path).ok_or_else(|| refused(StatusCode::NOT_FOUND, "unknown_path"))?;
        let Ok(slot) = Arc::clone(&self.reading).try_acquire_owned() else {
            return Err(later("busy"));
        };
        let services = Arc::clone(&self.services);
        let read = tokio::task::spawn_blocking(move || {
            let read = services.log().and_then(|log| read(log, asked));
            drop(slot);
            read
        });
        match read.await {
            Ok(Ok(bytes)) => Ok(self.document(asked, bytes)),
            Ok(Err(failure)) => Err(match failure.name.as_ref() {
                "unknown_tile" => refused(StatusCode::NOT_FOUND, "unknown_tile"),
                "log_empty" => refused(StatusCode::NOT_FOUND, "log_empty"),
                // Which, is the operators' matter: their log has it.
                _ => {
                    tracing::warn!(name = %failure.name, "the log could not be read for whoever keeps a copy");
                    later("log_unreadable")
                }
            }),
            Err(_) => Err(refused(StatusCode::INTERNAL_SERVER_ERROR, "internal_defect")),
        }
    }

    /// The secret is long and random, so that comparing its hash tells nothing about it.
    fn is_let_in(&self, headers: &HeaderMap) -> bool {
        match self.settings.to {
            ServeTo::Nobody => false,
            ServeTo::Anybody => true,
            ServeTo::Readers => {
                let said = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
                let secret = said.and_then(|said| said.strip_prefix("Bearer "));
                secret.is_some_and(|secret| {
                    let hash = Sha256::of(&[secret.as_bytes()]);
                    self.settings.reader.iter().any(|reader| reader.secret_sha256 == hash)
                })
            }
        }
    }

    fn document(&self, asked: Asked, bytes: Vec<u8>) -> Answer {
        let whose = match self.settings.to {
            ServeTo::Anybody => "public",
            ServeTo::Nobody | ServeTo::Readers => "private",
        };
        let (media, keep) = match asked {
            Asked::Tile(_) => ("application/octet-stream", format!("{whose}, max-age=31536000, immutable")),
            Asked::Head => ("application/json", "no-store".to_owned()),
            Asked::Checkpoint | Asked::Certificates | Asked::Witnesses => {
                ("text/plain; charset=utf-8", "no-store".to_owned())
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(bytes)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        headers.extend(HeaderValue::try_from(keep).ok().map(|keep| (header::CACHE_CONTROL, keep)));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

fn read(log: &Log, asked: Asked) -> Result<Vec<u8>, Failure> {
    let lines = |chain: &[Base64]| chain.iter().map(|one| STANDARD.encode(&one.0) + "\n").collect::<String>();
    Ok(match asked {
        Asked::Tile(tile) => log.tile(tile)?,
        Asked::Head => log.head(COSIGNED_WITHIN)?.to_bytes(),
        Asked::Checkpoint => log.head(COSIGNED_WITHIN)?.checkpoint.into_bytes(),
        Asked::Certificates => lines(&log.head(Duration::ZERO)?.chain).into_bytes(),
        Asked::Witnesses => {
            let chains = log.head(COSIGNED_WITHIN)?.witnesses;
            chains.iter().map(|chain| lines(chain)).collect::<Vec<_>>().join("\n").into_bytes()
        }
    })
}

fn later(name: &'static str) -> Answer {
    let mut answer = refused(StatusCode::SERVICE_UNAVAILABLE, name);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

fn refused(status: StatusCode, name: &'static str) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(format!("{name}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_copy_is_made_of_can_be_asked_for() {
        for (path, is_there) in [
            ("/log/checkpoint", true),
            ("/log/head.json", true),
            ("/log/head", false),
            ("/log/checkpoint.certificates", true),
            ("/log/witness.certificates", true),
            ("/log/tile/0/000", true),
            ("/log/tile/0/000.p/17", true),
            ("/log/tile/entries/x001/234", true),
            ("/log/", false),
            ("/log/checkpoint/", false),
            ("/log/tile/0/000.p/0", false),
            ("/log/tile/0/0", false),
            ("/log/../checkpoint", false),
            ("/logs/checkpoint", false),
            ("/log/.fresh/checkpoint", false),
        ] {
            assert_eq!(Asked::of(path).is_some(), is_there, "{path}");
        }
    }
}
