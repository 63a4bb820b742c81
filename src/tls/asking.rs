//! Asking a server over HTTP: where it is, a client that goes nowhere else, answers of bounded length.
//!
//! Names are looked up before anything is asked: a confined front cannot do it later.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use rustls::ClientConfig;

use crate::ops::failure::Failure;

/// What becomes of a name that has no address now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unresolved {
    Refused,
    /// Logged; whatever is asked there is not sent until the daemon is started again.
    Tolerated,
}

/// Where a server is: its name was looked up.
#[derive(Clone, Debug)]
pub struct Place {
    base: String,
    host: String,
    addresses: Vec<SocketAddr>,
}

impl Place {
    /// Looks the host of a URL up. `key` is the configuration's key for it, `name` the failure's when it has no address.
    ///
    /// # Errors
    /// `name`, unless it is tolerated.
    pub fn find(url: &reqwest::Url, key: &str, name: &str, unresolved: Unresolved) -> Result<Self, Failure> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let looked_up = (host.trim_matches(['[', ']']), port).to_socket_addrs();
        let addresses = match looked_up.map(Iterator::collect::<Vec<_>>) {
            Ok(addresses) => addresses,
            Err(error) => {
                let message = format!("{key}: {host} has no address: {error}");
                let next_step = "check the name and the resolver; it is looked up once, when the daemon starts";
                if unresolved == Unresolved::Refused {
                    return Err(Failure::fault(name, message, next_step));
                }
                tracing::warn!(name, %message, %next_step, "served without it");
                Vec::new()
            }
        };
        Ok(Self { base: url.as_str().trim_end_matches('/').to_owned(), host, addresses })
    }

    /// The URL, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A client that knows this server's address, follows nobody elsewhere and waits `timeout` for a whole answer.
    ///
    /// # Errors
    /// `http_client`
    pub fn client(&self, config: ClientConfig, timeout: Duration) -> Result<reqwest::Client, Failure> {
        reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .connect_timeout(timeout)
            .timeout(timeout)
            .no_proxy()
            .no_gzip()
            .redirect(reqwest::redirect::Policy::none())
            .resolve_to_addrs(&self.host, &self.addresses)
            .build()
            .map_err(|error| Failure::fault("http_client", error.to_string(), "report this as a defect"))
    }
}

/// The body of an answer, of `at_most` so many bytes.
///
/// # Errors
/// Why it could not be read whole.
pub async fn body(mut response: reqwest::Response, at_most: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| cause(&error))? {
        if bytes.len() + chunk.len() > at_most {
            return Err(format!("its answer is longer than {at_most} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The innermost cause: the outer texts repeat the URL.
pub fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
