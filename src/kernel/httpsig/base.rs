//! The signature base (RFC 9421, 2.5) of our profile: composed by who signs and who verifies, read back by the worker.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sfv::{BareItem, InnerList};

use super::fields;
use super::refusal::SignatureRefusal;
use super::{LABEL, LIFETIME_MAX_S, NONCE_CHARS, TAG};
use crate::kernel::types::{KeyId, Sha256, UnixMillis};

/// The values that are covered, of one request.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Components {
    pub method: String,
    /// `https://host/path`, as the request line and the Host header have it.
    pub target_uri: String,
    /// RFC 9530; see [`content_digest`].
    pub content_digest: String,
    pub protocol_version: String,
    pub mcp_method: String,
    pub mcp_name: Option<String>,
    pub authorization: Option<String>,
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = (&self.method, &self.target_uri, &self.mcp_method, &self.mcp_name);
        f.debug_tuple("Components").field(&shown).finish()
    }
}

/// For when a request is signed, and what makes it the only one of its kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Parameters {
    /// Seconds since 1970.
    pub created: i64,
    pub expires: i64,
    pub nonce: String,
}

/// What is signed, and what the request carries of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    pub base: Vec<u8>,
    parameters: String,
}

/// Values of the two headers that carry a signature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignatureHeaders {
    pub signature_input: String,
    pub signature: String,
}

impl Components {
    /// Component identifiers and values, in the order of the profile.
    pub(super) fn lines(&self) -> Vec<(&'static str, &str)> {
        let always = [
            ("@method", self.method.as_str()),
            ("@target-uri", &self.target_uri),
            ("content-digest", &self.content_digest),
            ("mcp-protocol-version", &self.protocol_version),
            ("mcp-method", &self.mcp_method),
        ];
        let sometimes = [("mcp-name", &self.mcp_name), ("authorization", &self.authorization)];
        let sometimes = sometimes.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        always.into_iter().chain(sometimes).collect()
    }

    /// What the key has to sign for these values.
    pub fn draft(&self, parameters: &Parameters, key: KeyId) -> Draft {
        let lines = self.lines();
        let names: Vec<String> = lines.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let Parameters { created, expires, nonce } = parameters;
        let parameters = format!(
            "({});created={created};expires={expires};nonce=\"{nonce}\";keyid=\"{key}\";tag=\"{TAG}\"",
            names.join(" ")
        );
        Draft { base: signature_base(&lines, &parameters), parameters }
    }
}

impl Draft {
    /// The headers, with a signature as it travels: r ‖ s of ECDSA.
    pub fn signed(&self, signature: &[u8]) -> SignatureHeaders {
        SignatureHeaders {
            signature_input: format!("{LABEL}={}", self.parameters),
            signature: format!("{LABEL}=:{}:", STANDARD.encode(signature)),
        }
    }
}

/// The signature base of these components, in this order, with this text of parameters.
pub(super) fn signature_base(lines: &[(&str, &str)], parameters: &str) -> Vec<u8> {
    let mut base = String::new();
    for (name, value) in lines {
        base.extend(["\"", name, "\": ", value, "\n"]);
    }
    base.extend(["\"@signature-params\": ", parameters]);
    base.into_bytes()
}

/// The value of Content-Digest for a body: its SHA-256.
pub fn content_digest(body: &[u8]) -> String {
    content_digest_of(&Sha256::of(&[body]))
}

/// The same, of a body whose SHA-256 is known.
pub fn content_digest_of(body: &Sha256) -> String {
    format!("sha-256=:{}:", STANDARD.encode(body.0))
}

/// The SHA-256 that a Content-Digest names.
pub(super) fn digest_named(value: &str) -> Result<Vec<u8>, SignatureRefusal> {
    fields::bytes(value, "sha-256").ok_or(SignatureRefusal::DigestMalformed)?.ok_or(SignatureRefusal::DigestAlgorithm)
}

/// Parameters as they were received, each of its type and none twice; nothing is known yet of their values.
pub(super) struct Received {
    components: Vec<String>,
    pub created: i64,
    pub expires: i64,
    pub nonce: String,
    pub keyid: String,
    pub alg: Option<String>,
}

/// True when these are the parameters of a signature of our profile.
pub(super) fn is_tagged(list: &InnerList) -> bool {
    list.params.get("tag").and_then(BareItem::as_string).is_some_and(|tag| tag.as_str() == TAG)
}

impl Received {
    pub fn read(text: &str, list: &InnerList) -> Result<Self, SignatureRefusal> {
        let component = |item: &sfv::Item| {
            let name = item.bare_item.as_string().filter(|_| item.params.is_empty());
            name.map(|name| name.as_str().to_owned()).ok_or(SignatureRefusal::ComponentUnknown)
        };
        let components = list.items.iter().map(component).collect::<Result<_, _>>()?;
        let known = ["created", "expires", "nonce", "keyid", "alg", "tag"];
        if list.params.keys().any(|key| !known.contains(&key.as_str())) {
            return Err(SignatureRefusal::ParameterUnknown);
        }
        if fields::parameters_written(text) != list.params.len() {
            return Err(SignatureRefusal::ParameterMalformed);
        }
        let needed = |name: &str| list.params.get(name).ok_or(SignatureRefusal::ParameterMissing);
        let integer = |value: &BareItem| value.as_integer().map(i64::from).ok_or(SignatureRefusal::ParameterMalformed);
        let string = |value: &BareItem| {
            value.as_string().map(|text| text.as_str().to_owned()).ok_or(SignatureRefusal::ParameterMalformed)
        };
        Ok(Self {
            components,
            created: integer(needed("created")?)?,
            expires: integer(needed("expires")?)?,
            nonce: string(needed("nonce")?)?,
            keyid: string(needed("keyid")?)?,
            alg: list.params.get("alg").map(string).transpose()?,
        })
    }

    /// Checks that exactly these components are covered, in this order.
    pub fn covers(&self, lines: &[(&str, &str)]) -> Result<(), SignatureRefusal> {
        let is_covered = |name: &str| self.components.iter().any(|component| component == name);
        if lines.iter().any(|(name, _)| !is_covered(name)) {
            return Err(SignatureRefusal::ComponentMissing);
        }
        if self.components.iter().any(|component| lines.iter().all(|(name, _)| name != component)) {
            return Err(SignatureRefusal::ComponentUnknown);
        }
        let in_order = self.components.iter().eq(lines.iter().map(|(name, _)| name));
        if in_order { Ok(()) } else { Err(SignatureRefusal::ComponentOrder) }
    }

    /// Checks everything that does not depend on the moment: how long it lives at most, the nonce, the key.
    pub fn fits(&self, lifetime_max_s: i64, key: KeyId) -> Result<(), SignatureRefusal> {
        if !(1..=lifetime_max_s.min(LIFETIME_MAX_S)).contains(&(self.expires - self.created)) {
            return Err(SignatureRefusal::LifetimeTooLong);
        }
        if !NONCE_CHARS.contains(&self.nonce.len()) {
            return Err(SignatureRefusal::NonceLength);
        }
        if self.keyid != key.hex() { Err(SignatureRefusal::KeyMismatch) } else { Ok(()) }
    }
}

/// Why bytes are not signed as a request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BaseRefusal {
    #[error("it is not a signature base of a request: {0}")]
    NotABase(&'static str),
    #[error("{0}")]
    Rule(SignatureRefusal),
}

impl From<SignatureRefusal> for BaseRefusal {
    fn from(refusal: SignatureRefusal) -> Self {
        Self::Rule(refusal)
    }
}

/// Passes the signature base of a request of our profile that this key is to sign now: its components in their order,
/// the parameters last, nothing for another key and nothing made out for later.
///
/// # Errors
/// [`BaseRefusal`]
pub fn lint_base(base: &[u8], signer: KeyId, now: UnixMillis) -> Result<(), BaseRefusal> {
    let not = BaseRefusal::NotABase;
    let text = std::str::from_utf8(base).map_err(|_| not("it is not text"))?;
    let (head, last) = text.rsplit_once('\n').ok_or(not("it has one line"))?;
    let parameters = last.strip_prefix("\"@signature-params\": ").ok_or(not("it does not end with its parameters"))?;
    let lines: Vec<(&str, &str)> = head
        .split('\n')
        .map(|text| text.strip_prefix('"')?.split_once("\": "))
        .collect::<Option<_>>()
        .ok_or(not("a line is not a component and its value"))?;
    if lines.iter().any(|(_, value)| !is_plain(value)) {
        return Err(not("a value is empty, has spaces around it or is not printable ASCII"));
    }
    let value = |name: &str| lines.iter().find(|(found, _)| *found == name).map(|(_, value)| *value);
    let owned = |name: &str| value(name).unwrap_or_default().to_owned();
    let components = Components {
        method: owned("@method"),
        target_uri: owned("@target-uri"),
        content_digest: owned("content-digest"),
        protocol_version: owned("mcp-protocol-version"),
        mcp_method: owned("mcp-method"),
        mcp_name: value("mcp-name").map(str::to_owned),
        authorization: value("authorization").map(str::to_owned),
    };
    if components.lines() != lines {
        return Err(not("its components are not those of the profile, in their order"));
    }
    if !components.method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(not("its method is not one of HTTP"));
    }
    if !components.target_uri.starts_with("https://") {
        return Err(not("its target is not an https URI"));
    }
    if digest_named(&components.content_digest)?.len() != 32 {
        return Err(SignatureRefusal::DigestMalformed.into());
    }
    let list = fields::inner_list(parameters).filter(is_tagged).ok_or(SignatureRefusal::Missing)?;
    let received = Received::read(parameters, &list)?;
    received.covers(&lines)?;
    received.fits(LIFETIME_MAX_S, signer)?;
    if received.created.abs_diff(now.0.div_euclid(1000)) > LIFETIME_MAX_S.unsigned_abs() {
        return Err(not("it is made out for another time"));
    }
    Ok(())
}

/// True when a value is what a header can carry without being changed on its way.
pub(super) fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.trim() == value && value.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
}
