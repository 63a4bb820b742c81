//! What the authorization server says of itself: RFC 9728, RFC 8414, RFC 7517.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Document, Door, Site};
use crate::kernel::jwt::TokenKey;
use crate::kernel::sign::{Algorithm, raw_public_key};
use crate::mcp::server::tool_names;

/// The MCP endpoint as a protected resource (RFC 9728, 2).
pub fn resource(site: &Site) -> Value {
    json!({
        "resource": site.resource(),
        "resource_name": "Countersign bank",
        "authorization_servers": [site.issuer()],
        "jwks_uri": url(site, Door::Shown(Document::Keys)),
        "scopes_supported": tool_names(),
        "bearer_methods_supported": ["header"],
        "tls_client_certificate_bound_access_tokens": true,
    })
}

/// The authorization server (RFC 8414, 2). There is no authorization endpoint: an agent asks for itself.
pub fn server(site: &Site) -> Value {
    json!({
        "issuer": site.issuer(),
        "token_endpoint": url(site, Door::Token),
        "jwks_uri": url(site, Door::Shown(Document::Keys)),
        "scopes_supported": tool_names(),
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["tls_client_auth"],
        "tls_client_certificate_bound_access_tokens": true,
    })
}

/// The public halves of the keys whose tokens are taken (RFC 7517, 5; RFC 7518, 6.2.1).
pub fn keys(keys: &[TokenKey]) -> Value {
    let keys: Vec<Value> = keys.iter().filter_map(key).collect();
    json!({ "keys": keys })
}

fn key(key: &TokenKey) -> Option<Value> {
    let (_, point) = raw_public_key(&key.spki).filter(|(algorithm, _)| *algorithm == Algorithm::P256)?;
    let (x, y) = point.get(1..)?.split_at(32);
    let [x, y] = [x, y].map(|number| URL_SAFE_NO_PAD.encode(number));
    Some(json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": key.id, "use": "sig", "alg": "ES256" }))
}

fn url(site: &Site, door: Door) -> String {
    format!("{}{}", site.issuer(), door.path())
}
