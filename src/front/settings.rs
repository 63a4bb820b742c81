//! `[listen]`, `[admin]`, `[[operator]]`, `[demo]` and, on an agent host, `[upstream]` and `[agents]`

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kernel::httpsig;
use crate::kernel::jwt::TokenKind;
use crate::kernel::types::{OperatorName, OwnerId, RoleName};
use crate::mcp::signed_http::LIFETIME_S as BRIDGE_LIFETIME_S;

/// A clock that is further ahead is wrong.
const SKEW_MAX_S: u32 = 60;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenSettings {
    /// Address of the MCP listener (mutual TLS), for example `127.0.0.1:8443`; port 0 picks a free one.
    pub mcp: Option<std::net::SocketAddr>,
    /// Address of the peer listener (mutual TLS) for other parties' daemons and agents' renewals, for example
    /// `0.0.0.0:8444`.
    pub peer: Option<std::net::SocketAddr>,
    /// Address of the pages for people (TLS, no client certificate), for example `127.0.0.1:8445`. None: an approval has
    /// no page.
    pub console: Option<std::net::SocketAddr>,
    /// Under which people reach it, such as `https://bank.example:8445`; none: under its address.
    pub console_url: Option<String>,
    pub limits: LimitSettings,
    pub peer_limits: PeerLimitSettings,
}

/// Limits of the peer listener for each peer: another party's daemon, or an agent that renews.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeerLimitSettings {
    pub connections_of_one_max: u32,
    pub requests_per_second: u32,
    /// So many may come at once after a pause.
    pub requests_burst: u32,
}

impl Default for PeerLimitSettings {
    fn default() -> Self {
        Self { connections_of_one_max: 64, requests_per_second: 50, requests_burst: 200 }
    }
}

/// Limits of the MCP listener, each with its unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    pub connections_max: u32,
    /// Of one agent, by its SPIFFE ID.
    pub connections_of_agent_max: u32,
    pub handshakes_max: u32,
    /// From one address: of those who are strangers still.
    pub handshakes_of_source_max: u32,
    pub handshake_timeout_ms: u64,
    /// Also how long a connection may be idle between two requests.
    pub header_timeout_ms: u64,
    pub headers_max: usize,
    /// Request line and headers together.
    pub header_bytes_max: usize,
    pub body_timeout_ms: u64,
    pub body_bytes_max: usize,
    pub json_depth_max: usize,
    pub request_timeout_ms: u64,
    /// Requests that are answered at once; more are told to come again.
    pub requests_max: u32,
    /// From `created` to `expires` of a request's signature at most.
    pub signature_age_max_s: u32,
    /// So much the clock of an agent's host may be ahead of ours.
    pub signature_skew_max_s: u32,
    /// Reads of one agent, and of all, that are remembered at once until their signatures end.
    pub read_nonces_of_one_max: usize,
    pub read_nonces_max: usize,
    /// How long an access token lives.
    pub token_lifetime_s: u32,
    /// Access tokens that one agent may ask for; so many at once after a pause.
    pub tokens_of_agent_per_second: u32,
    pub tokens_of_agent_burst: u32,
    /// Access tokens that are remembered as verified.
    pub tokens_remembered_max: usize,
    /// `[listen.limits.rates]`: how often may be asked.
    pub rates: RateSettings,
}

/// How often agents may ask. What is left out has no limit of this kind.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateSettings {
    /// Each agent, whatever it asks.
    pub agent: Option<Rate>,
    /// Each agent's calls of this tool.
    pub tools: BTreeMap<String, Rate>,
    /// All agents of this role together.
    pub roles: BTreeMap<RoleName, Rate>,
}

/// So many a minute, and so many at once after a pause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub per_minute: NonZeroU32,
    pub burst: NonZeroU32,
    /// Counted in the store, for all daemons of the bank: each request then costs a write there.
    #[serde(default)]
    pub shared: bool,
}

impl LimitSettings {
    /// What of the limits cannot work, in words.
    pub fn check(&self) -> Result<(), String> {
        // Bridges sign for this long; beyond the most no signature is accepted anyway.
        let ages = BRIDGE_LIFETIME_S..=httpsig::LIFETIME_MAX_S;
        if !ages.contains(&i64::from(self.signature_age_max_s)) {
            return Err(format!("signature_age_max_s must be {} to {}", ages.start(), ages.end()));
        }
        if self.signature_skew_max_s > SKEW_MAX_S {
            return Err(format!("signature_skew_max_s must be 0 to {SKEW_MAX_S}"));
        }
        if self.read_nonces_of_one_max == 0 || self.read_nonces_max < self.read_nonces_of_one_max {
            return Err("read_nonces_of_one_max must be at least 1, and read_nonces_max not less than it".into());
        }
        if !(HEADER_BYTES_MIN..=HEADER_BYTES_MAX).contains(&self.header_bytes_max) {
            return Err(format!("header_bytes_max must be {HEADER_BYTES_MIN} to {HEADER_BYTES_MAX}"));
        }
        if !(HEADERS_MIN..=HEADERS_MAX).contains(&self.headers_max) {
            return Err(format!("headers_max must be {HEADERS_MIN} to {HEADERS_MAX}"));
        }
        if self.connections_of_agent_max == 0 || self.handshakes_of_source_max == 0 || self.requests_max == 0 {
            return Err("connections_of_agent_max, handshakes_of_source_max and requests_max must be at least 1".into());
        }
        let lives = TOKEN_LIFETIME_MIN_S..=TokenKind::Access.lifetime_max_s();
        if !lives.contains(&i64::from(self.token_lifetime_s)) {
            return Err(format!("token_lifetime_s must be {} to {}", lives.start(), lives.end()));
        }
        if self.tokens_of_agent_per_second == 0 || self.tokens_of_agent_burst == 0 {
            return Err("tokens_of_agent_per_second and tokens_of_agent_burst must be at least 1".into());
        }
        Ok(())
    }
}

/// What the HTTP library needs at least, and a token, a signature and the rest fit well.
const HEADER_BYTES_MIN: usize = 8_192;
const HEADER_BYTES_MAX: usize = 65_536;
/// What a bridge sends, and some room.
const HEADERS_MIN: usize = 24;
const HEADERS_MAX: usize = 256;
/// Shorter than this a bridge would do little but ask for tokens.
const TOKEN_LIFETIME_MIN_S: i64 = 10;

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            connections_of_agent_max: 256,
            handshakes_max: 1024,
            handshakes_of_source_max: 256,
            handshake_timeout_ms: 10_000,
            header_timeout_ms: 10_000,
            headers_max: 64,
            header_bytes_max: 16_384,
            body_timeout_ms: 10_000,
            body_bytes_max: 65_536,
            json_depth_max: 16,
            request_timeout_ms: 30_000,
            requests_max: 2_048,
            signature_age_max_s: 60,
            signature_skew_max_s: 5,
            read_nonces_of_one_max: 200_000,
            read_nonces_max: 2_000_000,
            token_lifetime_s: 300,
            tokens_of_agent_per_second: 2,
            tokens_of_agent_burst: 120,
            tokens_remembered_max: 20_000,
            rates: RateSettings::default(),
        }
    }
}

/// A human who may use the admin socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorSettings {
    pub name: OperatorName,
    /// Unix user id that the admin socket must see.
    pub uid: u32,
    /// `officer`, `approver`, `auditor`, `administrator`
    pub roles: Vec<String>,
    /// The customer that the person is, if they are one and are not enrolled as such under this name: nobody decides about
    /// their own money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerId>,
}

/// Who besides the daemon's own user reaches the admin socket.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// A group of this machine, by name or number. None: nobody.
    pub group: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DemoSettings {
    /// Marks the whole configuration as a demo.
    pub enabled: bool,
    /// Lets `--operator NAME` choose among operators of one uid. Every record says `asserted`.
    pub asserted_operators: bool,
}

/// What an agent host signs for each of its agents.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSettings {
    pub signatures_per_second: u32,
    /// So many may come at once after a pause.
    pub signatures_burst: u32,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self { signatures_per_second: 500, signatures_burst: 2_000 }
    }
}

/// The bank as an agent host reaches it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSettings {
    /// `https://host:port/mcp`; or the path of the bank's `run/ports.json` in `ports_file`.
    #[serde(default)]
    pub url: Option<String>,
    /// Local demo: the port is read from here at each connection.
    #[serde(default)]
    pub ports_file: Option<PathBuf>,
    /// The bank's root certificate, PEM; nothing else is trusted.
    pub bank_root: PathBuf,
    /// The bank's issuing CAs, PEM: its server's certificate must be of one of them. None: `NAME-issuing.pem` beside
    /// `NAME-root.pem`, where `countersign trust add` puts it.
    #[serde(default)]
    pub bank_issuing: Option<PathBuf>,
}
