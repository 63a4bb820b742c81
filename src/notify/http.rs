//! One POST to one place: no redirect, no proxy, no name looked up, and of the answer its status alone.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::place::{self, Place, Private};
use super::{Again, Taken, Undelivered, connect, within};
use crate::ops::failure::Failure;
use crate::tls::asking::{Unresolved, cause};

/// The longest pause that a receiver can ask for.
const RETRY_AFTER_MAX_S: u32 = 3_600;

/// The failures of a kind of channel, by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub unreachable: &'static str,
    pub timeout: &'static str,
    pub redirected: &'static str,
    pub gone: &'static str,
    pub refused: &'static str,
}

/// A server that takes messages by POST.
pub(super) struct Poster {
    url: reqwest::Url,
    place: Place,
    client: reqwest::Client,
    pub(super) timeout: Duration,
    names: Names,
}

/// What a channel's settings say about its server.
pub(super) struct Target<'a> {
    pub channel: &'a str,
    pub url: &'a str,
    pub root_file: Option<std::path::PathBuf>,
    pub allow_private: bool,
    pub timeout_ms: u64,
}

impl Poster {
    /// # Errors
    /// `notify_unresolvable`, `notify_address_private`, `notify_root_unusable`, `http_client`
    pub(super) fn open(target: &Target<'_>, names: Names, unresolved: Unresolved) -> Result<Self, Failure> {
        let invalid = |message: String| Failure::usage("config_invalid", message, "correct countersign.toml");
        let url = reqwest::Url::parse(target.url).map_err(|error| invalid(error.to_string()))?;
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(443);
        let private = if target.allow_private { Private::Allowed } else { Private::Refused };
        let place = Place::find(target.channel, host, port, private, unresolved)?;
        let timeout = Duration::from_millis(target.timeout_ms);
        let builder = reqwest::Client::builder();
        let builder = if url.scheme() == "https" {
            builder.tls_backend_preconfigured(place::tls(target.channel, target.root_file.as_deref())?)
        } else {
            builder.tls_backend_preconfigured(crate::tls::asking_config(None, None)?)
        };
        let client = builder
            .connect_timeout(timeout)
            .timeout(timeout)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // Its answers are not read, so no connection can be used twice.
            .pool_max_idle_per_host(0)
            .http1_only()
            .resolve_to_addrs(&place.host, place.addresses().unwrap_or_default())
            .build()
            .map_err(|error| Failure::fault("http_client", error.to_string(), "report this as a defect"))?;
        Ok(Self { url, place, client, timeout, names })
    }

    /// Scheme, host and port: a path or a query may hold a secret.
    pub(super) fn target(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or_default();
        format!("{}://{}:{port}", self.url.scheme(), self.url.host_str().unwrap_or_default())
    }

    /// Sends a body; `is_taken` says which statuses mean that the receiver has it.
    pub(super) async fn post(
        &self,
        headers: HeaderMap,
        body: Vec<u8>,
        is_taken: impl Fn(u16) -> bool,
    ) -> Result<Taken, Undelivered> {
        self.place.addresses()?;
        let names = self.names;
        let sent = self.client.post(self.url.clone()).headers(headers).body(body).send();
        let answer = sent.await.map_err(|error| {
            if error.is_timeout() {
                let why = format!("no answer within {} ms", self.timeout.as_millis());
                return Undelivered::new(names.timeout, why, Again::Later);
            }
            Undelivered::new(names.unreachable, cause(&error), Again::Later)
        })?;
        // The body of an answer is a stranger's text of any length: it is not read.
        let status = answer.status();
        if is_taken(status.as_u16()) {
            return Ok(Taken::default());
        }
        let after = retry_after(answer.headers());
        let said =
            |name, again| Err(Undelivered::new(name, format!("the receiver answered {}", status.as_u16()), again));
        match status {
            status if status.is_redirection() => said(names.redirected, Again::Never),
            StatusCode::GONE => said(names.gone, Again::Never),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                said(names.refused, after.map_or(Again::Later, Again::After))
            }
            _ => said(names.refused, Again::Later),
        }
    }

    /// Whether there is an address.
    pub(super) fn is_open(&self) -> bool {
        self.place.is_open()
    }

    /// Whether a connection can be made.
    pub(super) async fn reach(&self) -> Result<(), Undelivered> {
        within(self.timeout, self.names.timeout, async { connect(&self.place, self.names.unreachable).await.map(drop) })
            .await
    }
}

fn retry_after(headers: &HeaderMap) -> Option<u32> {
    let seconds: u32 = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(seconds.min(RETRY_AFTER_MAX_S))
}
