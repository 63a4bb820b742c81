//! The bank's authorization server (OAuth 2.1) beside its MCP endpoint: an agent gets access tokens for itself, by the
//! client credentials grant, authenticated by the certificate of its connection (RFC 8705, `tls_client_auth`).
//!
//! A token names the certificate that it was asked for with, so the request for one carries no other signature: who
//! can ask holds the key already, and what is asked for is worth nothing on a connection without it.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::front::allowance::Allowances;
use crate::front::http::Body;
use crate::front::settings::LimitSettings;
use crate::kernel::access::{AccessClaims, Confirmation, Scope};
use crate::kernel::command::AgentPrincipal;
use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::jwt::{self, Claims, TokenKey, TokenKind};
use crate::kernel::sign::SignInput;
use crate::kernel::types::KeyId;
use crate::ops::clock;
use crate::ops::failure::Failure;

mod metadata;

/// What tokens are signed and recorded by. Blocking, but for [`TokenGate::keys`].
pub trait TokenGate: Send + Sync {
    /// The keys whose tokens are taken; the first one signs. Never waits.
    fn keys(&self) -> Arc<[TokenKey]>;
    fn sign(&self, key: KeyId, input: SignInput) -> Result<Vec<u8>, Failure>;
    /// The tools that the live policy gives to this agent.
    fn tools_of(&self, agent: &AgentPrincipal) -> Vec<String>;
    /// Records what was decided about an agent's request for a token.
    fn record(&self, agent: &AgentPrincipal, decision: Value) -> Result<(), Failure>;
}

/// Under which name this request reached the bank: `host` or `host:port`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site(String);

impl Site {
    /// `None`: it is no name under which the bank is reached.
    pub fn of(host: &str, known: &[String]) -> Option<Self> {
        let authority: http::uri::Authority = host.parse().ok()?;
        let name = authority.host();
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let is_plain = !host.contains('@') && known.iter().any(|known| known == name);
        is_plain.then(|| Self(host.to_owned()))
    }

    pub fn host(&self) -> &str {
        &self.0
    }

    /// The issuer of its tokens (RFC 8414, 2).
    pub fn issuer(&self) -> String {
        format!("https://{}", self.0)
    }

    /// What its tokens are for (RFC 8707, 2).
    pub fn resource(&self) -> String {
        format!("https://{}{}", self.0, Door::Mcp.path())
    }

    /// Where a client learns of all this (RFC 9728, 3.1).
    pub fn resource_metadata(&self) -> String {
        format!("https://{}{}", self.0, Door::Shown(Document::ResourceMetadata).path())
    }
}

/// What is served, by path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    Mcp,
    Token,
    Shown(Document),
}

/// What everybody may read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Document {
    Keys,
    ResourceMetadata,
    ServerMetadata,
}

impl Door {
    const ALL: [Self; 5] = [
        Self::Mcp,
        Self::Token,
        Self::Shown(Document::Keys),
        Self::Shown(Document::ResourceMetadata),
        Self::Shown(Document::ServerMetadata),
    ];

    pub fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|door| door.path() == path)
    }

    pub fn path(self) -> &'static str {
        match self {
            Self::Mcp => "/mcp",
            Self::Token => "/oauth/token",
            Self::Shown(Document::Keys) => "/oauth/jwks",
            Self::Shown(Document::ResourceMetadata) => "/.well-known/oauth-protected-resource/mcp",
            Self::Shown(Document::ServerMetadata) => "/.well-known/oauth-authorization-server",
        }
    }

    pub fn method(self) -> Method {
        match self {
            Self::Mcp | Self::Token => Method::POST,
            Self::Shown(_) => Method::GET,
        }
    }
}

/// Issues access tokens.
pub struct AuthorizationServer {
    gate: Arc<dyn TokenGate>,
    lifetime_s: i64,
    allowances: Arc<Allowances>,
}

const ONLY_THE_CERTIFICATE: &str = "a client is authenticated by its certificate and by nothing else";

/// An error of the token endpoint (RFC 6749, 5.2; RFC 8707, 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Denied {
    InvalidRequest(&'static str),
    UnsupportedGrantType,
    /// Its name is not that of the certificates.
    InvalidClient,
    /// It says who it is in an Authorization header.
    InvalidAuthentication,
    InvalidTarget,
    InvalidScope,
}

impl Denied {
    fn error(self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidClient | Self::InvalidAuthentication => "invalid_client",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidScope => "invalid_scope",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::InvalidRequest(why) => why,
            Self::UnsupportedGrantType => "the one grant is client_credentials",
            Self::InvalidClient => "client_id is not the SPIFFE ID of this connection's certificates",
            Self::InvalidAuthentication => ONLY_THE_CERTIFICATE,
            Self::InvalidTarget => "resource is not this bank's MCP endpoint under the name of this request",
            Self::InvalidScope => "scope names what the agent's role has no tool for, or the role has no tools",
        }
    }

    /// 401 goes with a challenge, and there is one for whoever used a scheme of HTTP and for nobody else.
    fn status(self) -> StatusCode {
        match self {
            Self::InvalidAuthentication => StatusCode::UNAUTHORIZED,
            Self::InvalidRequest(_)
            | Self::UnsupportedGrantType
            | Self::InvalidClient
            | Self::InvalidTarget
            | Self::InvalidScope => StatusCode::BAD_REQUEST,
        }
    }
}

impl AuthorizationServer {
    pub fn new(gate: Arc<dyn TokenGate>, limits: &LimitSettings) -> Self {
        let allowances = Allowances::of_requests(limits.tokens_of_agent_per_second, limits.tokens_of_agent_burst);
        Self { gate, lifetime_s: i64::from(limits.token_lifetime_s), allowances }
    }

    /// Answers what is asked by GET: nothing of it is secret, and it says the same to every agent.
    pub fn show(&self, document: Document, site: &Site) -> Response<Body> {
        let shown = match document {
            Document::Keys => metadata::keys(&self.gate.keys()),
            Document::ResourceMetadata => metadata::resource(site),
            Document::ServerMetadata => metadata::server(site),
        };
        answer(StatusCode::OK, &shown)
    }

    /// Answers a request for a token of this agent.
    pub async fn issue(
        &self,
        agent: &VerifiedAgent,
        site: &Site,
        parts: &Parts,
        body: &Bytes,
    ) -> Result<Response<Body>, Failure> {
        if !self.allowances.request(&agent.spiffe_id().to_string(), clock::boot_ms()) {
            return Err(Failure::busy(
                "too_many_tokens",
                "this agent asks for tokens more often than it may",
                "use the token that it has until it ends",
            ));
        }
        let read = form(parts, body);
        let permitted = read.and_then(|form| self.permitted(agent, site, &form));
        let claims = permitted.map(|scope| self.claims(agent, site, &scope));
        let (gate, principal) = (Arc::clone(&self.gate), agent.principal().clone());
        let issuing = tokio::task::spawn_blocking(move || issued(gate.as_ref(), &principal, claims));
        let issued = issuing
            .await
            .map_err(|_| Failure::fault("token_defect", "issuing met a defect", "report this as a defect"))??;
        Ok(match issued {
            Ok((token, claims)) => {
                let expires_in = claims.exp - claims.iat;
                let scope = claims.more.scope;
                let granted = json!({
                    "access_token": token, "token_type": "Bearer", "expires_in": expires_in, "scope": scope,
                });
                answer(StatusCode::OK, &granted)
            }
            Err(denied) => {
                let mut response = refusal(denied.status(), denied.error(), denied.description());
                if denied.status() == StatusCode::UNAUTHORIZED {
                    let challenge = challenge(parts.headers.get(header::AUTHORIZATION), site);
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                }
                response
            }
        })
    }

    /// What the token will permit: all tools of the agent's role, or those of them that are asked for.
    fn permitted(&self, agent: &VerifiedAgent, site: &Site, form: &BTreeMap<String, String>) -> Result<Scope, Denied> {
        let said = |name: &str| form.get(name).map(String::as_str);
        match said("grant_type") {
            Some("client_credentials") => {}
            Some(_) => return Err(Denied::UnsupportedGrantType),
            None => return Err(Denied::InvalidRequest("grant_type is missing")),
        }
        if ["client_secret", "client_assertion", "client_assertion_type"].iter().any(|name| said(name).is_some()) {
            return Err(Denied::InvalidRequest(ONLY_THE_CERTIFICATE));
        }
        if said("client_id").is_some_and(|id| id != agent.spiffe_id().to_string()) {
            return Err(Denied::InvalidClient);
        }
        if said("resource").is_some_and(|resource| resource != site.resource()) {
            return Err(Denied::InvalidTarget);
        }
        let tools = Scope::of(self.gate.tools_of(agent.principal()));
        let asked = match said("scope") {
            Some(text) => Scope::parse(text).ok_or(Denied::InvalidScope)?,
            None => tools.clone(),
        };
        if asked.is_empty() || !asked.is_within(&tools) {
            return Err(Denied::InvalidScope);
        }
        Ok(asked)
    }

    fn claims(&self, agent: &VerifiedAgent, site: &Site, scope: &Scope) -> Claims<AccessClaims> {
        let [bank, _] = agent.fingerprints();
        let iat = clock::now().0.div_euclid(1000);
        let sub = agent.spiffe_id().to_string();
        Claims {
            iss: site.issuer(),
            aud: site.resource(),
            iat,
            exp: iat + self.lifetime_s,
            more: AccessClaims {
                client_id: sub.clone(),
                cnf: Confirmation::of(bank),
                jti: clock::fresh_id("tok_"),
                scope: scope.to_string(),
            },
            sub,
        }
    }
}

type Issued = Result<(String, Claims<AccessClaims>), Denied>;

/// Records the decision, then has the token signed. The record says which token it will be, never the token.
fn issued(
    gate: &dyn TokenGate,
    agent: &AgentPrincipal,
    claims: Result<Claims<AccessClaims>, Denied>,
) -> Result<Issued, Failure> {
    let claims = match claims {
        Ok(claims) => claims,
        Err(denied) => {
            gate.record(agent, json!({ "refused": denied.error(), "message": denied.description() }))?;
            return Ok(Err(denied));
        }
    };
    let malformed = |message: String| Failure::fault("token_malformed", message, "report this as a defect");
    let keys = gate.keys();
    let key = keys.first().ok_or_else(|| {
        Failure::busy("token_key_missing", "the bank has no key that signs tokens", "have `countersign init` run there")
    })?;
    let draft = jwt::draft(TokenKind::Access, key.id, &claims).map_err(|error| malformed(error.to_string()))?;
    let AccessClaims { jti, scope, .. } = &claims.more;
    gate.record(
        agent,
        json!({ "permitted": { "jti": jti, "scope": scope, "audience": claims.aud, "ends": claims.exp, "key": key.id } }),
    )?;
    let signature = gate.sign(key.id, draft.input())?;
    let token = draft.signed(&signature).ok_or_else(|| malformed("the signature is not one of P-256".into()))?;
    Ok(Ok((token, claims)))
}

/// The parameters of a form, each of which may be there once (RFC 6749, 3.2). Without a value it counts as left out.
fn form(parts: &Parts, body: &Bytes) -> Result<BTreeMap<String, String>, Denied> {
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    if kind != Some("application/x-www-form-urlencoded") {
        return Err(Denied::InvalidRequest("Content-Type is not application/x-www-form-urlencoded"));
    }
    if parts.uri.query().is_some() {
        return Err(Denied::InvalidRequest("parameters go into the body"));
    }
    if parts.headers.contains_key(header::AUTHORIZATION) {
        return Err(Denied::InvalidAuthentication);
    }
    let mut form = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(body) {
        if form.insert(name.into_owned(), value.into_owned()).is_some() {
            return Err(Denied::InvalidRequest("a parameter is there twice"));
        }
    }
    form.retain(|_, value| !value.is_empty());
    Ok(form)
}

/// The challenge that answers an Authorization header: in the scheme that the client used (RFC 6749, 5.2).
fn challenge(said: Option<&HeaderValue>, site: &Site) -> HeaderValue {
    let word = said.and_then(|said| said.to_str().ok()).and_then(|said| said.split(' ').next()).unwrap_or_default();
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+.".contains(&byte);
    let is_plain = !word.is_empty() && word.len() <= SCHEME_BYTES_MAX && word.bytes().all(is_scheme);
    let scheme = if is_plain { word } else { "Basic" };
    let challenge = format!("{scheme} realm=\"{}\"", site.issuer());
    HeaderValue::from_str(&challenge).expect("a scheme and a site are printable ASCII without quotes")
}

/// No registered scheme's name is nearly as long.
const SCHEME_BYTES_MAX: usize = 32;

/// An error in the form that clients of OAuth read (RFC 6749, 5.2).
pub fn refusal(status: StatusCode, error: &str, description: &str) -> Response<Body> {
    answer(status, &json!({ "error": error, "error_description": description }))
}

fn answer(status: StatusCode, document: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(document.to_string())).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_a_name_under_which_the_bank_is_reached() {
        let known = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        for good in ["localhost", "localhost:8443", "127.0.0.1:1", "[::1]:8443"] {
            assert_eq!(Site::of(good, &known).unwrap().resource(), format!("https://{good}/mcp"));
        }
        for bad in ["", "evil.example", "localhost.evil.example", "me@localhost", "localhost/", "LOCALHOST", "a b"] {
            assert_eq!(Site::of(bad, &known), None, "{bad}");
        }
    }

    #[test]
    fn a_challenge_is_in_the_scheme_that_was_used() {
        let site = Site::of("localhost", &["localhost".to_owned()]).unwrap();
        for (said, scheme) in [
            (Some("Basic eDp5"), "Basic"),
            (Some("bearer x"), "bearer"),
            (Some("AWS4-HMAC-SHA256 x"), "AWS4-HMAC-SHA256"),
            (Some("a,b x"), "Basic"),
            (Some(" x"), "Basic"),
            (Some(""), "Basic"),
            (None, "Basic"),
        ] {
            let said = said.map(HeaderValue::from_static);
            let expected = format!("{scheme} realm=\"https://localhost\"");
            assert_eq!(challenge(said.as_ref(), &site), *expected, "{said:?}");
        }
    }

    #[test]
    fn forms_are_read_strictly() {
        let read = |kind: &str, target: &str, text: &str| {
            let request = http::Request::post(target).header("content-type", kind).body(()).unwrap();
            form(&request.into_parts().0, &Bytes::copy_from_slice(text.as_bytes()))
        };
        let (usual, path) = ("application/x-www-form-urlencoded", "/oauth/token");
        let form = read(&format!("{usual}; charset=utf-8"), path, "a=1+2&b=%2F&c=").unwrap();
        assert_eq!(form.into_iter().collect::<Vec<_>>(), [("a".into(), "1 2".into()), ("b".into(), "/".into())]);
        for (kind, target, text) in
            [("application/json", path, "{}"), (usual, "/oauth/token?a=1", ""), (usual, path, "a=1&a=1")]
        {
            assert!(matches!(read(kind, target, text), Err(Denied::InvalidRequest(_))), "{kind} {target} {text}");
        }
    }
}
