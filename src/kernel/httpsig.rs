//! Signed requests: HTTP message signatures (RFC 9421) over a digest of the body (RFC 9530), in one profile.
//!
//! Shared by all who meet one: the bridge that asks, the agent host that composes, the worker that signs, and the
//! bank that verifies. The profile is closed: these components in this order, these parameters, one tag. The label is
//! free, and signatures with other tags are not looked at. Parameters are verified in the text in which they came: two
//! libraries write the same ones differently. `docs/SIGNING.md` is for those who sign or verify elsewhere.

use std::ops::RangeInclusive;

use crate::kernel::command::RequestSignature;
use crate::kernel::sign::{self, raw_public_key};
use crate::kernel::types::{KeyId, Sha256, UnixMillis};

mod base;
mod fields;
mod message;
mod refusal;

pub use base::{
    BaseRefusal, Components, Draft, Parameters, SignatureHeaders, content_digest, content_digest_of, lint_base,
};
pub use message::{
    COMPONENTS_MAX, ExpectedMessage, MESSAGE_BASE_BYTES_MAX, Message, MessageDraft, MessageParameters, MessageRefusal,
    VerifiedMessage, is_label, lint_message_base, verify_message,
};
pub use refusal::SignatureRefusal;

/// Tells our signatures from others on the same request, and from what the key signs elsewhere.
pub const TAG: &str = "countersign-request";

/// Under which our own requests carry their signature.
pub const LABEL: &str = "countersign";

/// What a request must be signed with, as a server says it (RFC 9421, 5.1): `mcp-name` where it has one.
pub const ACCEPT_SIGNATURE: &str = r#"countersign=("@method" "@target-uri" "content-digest" "mcp-protocol-version" "mcp-method" "mcp-name" "authorization");created;expires;nonce;keyid;tag="countersign-request""#;

/// No signature lives longer, whatever the configuration says: what payment networks ask of agents.
pub const LIFETIME_MAX_S: i64 = 480;

/// 128 bits in base64 at least.
pub const NONCE_CHARS: RangeInclusive<usize> = 22..=88;

/// A request as it came over the wire.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    pub method: &'a str,
    /// Path and query of the request line.
    pub target: &'a str,
    /// Every header line: its name in lower case, its value.
    pub headers: &'a [(&'a str, &'a [u8])],
    pub body: &'a [u8],
}

/// Which moments a signature may be made out for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    pub now: UnixMillis,
    /// From `created` to `expires` at most; never more than [`LIFETIME_MAX_S`].
    pub lifetime_max_s: i64,
    /// So much the signer's clock may be ahead.
    pub skew_max_s: i64,
}

/// A request that the key signed. Only [`verify`] makes one: holding it is the proof.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedRequest {
    once: Sha256,
    signature: Option<RequestSignature>,
    created: i64,
    expires: i64,
}

impl VerifiedRequest {
    #[cfg(test)]
    pub(crate) fn assumed(once: Sha256, created: i64, expires: i64) -> Self {
        Self { once, signature: None, created, expires }
    }

    /// What makes the request single-use: the hash of its key and nonce.
    pub fn once(&self) -> Sha256 {
        self.once
    }

    /// Which signature it was, for the record. None: the algorithm signs no digest (Ed25519), so that nobody could verify
    /// it without the whole message.
    pub fn signature(&self) -> Option<&RequestSignature> {
        self.signature.as_ref()
    }

    /// Seconds since 1970.
    pub fn created(&self) -> i64 {
        self.created
    }

    pub fn expires(&self) -> i64 {
        self.expires
    }
}

/// Verifies a request against the key of its connection (SubjectPublicKeyInfo, DER); no other key is looked for.
///
/// # Errors
/// The first [`SignatureRefusal`] in order of precedence.
pub fn verify(request: &SignedRequest<'_>, spki: &[u8], window: &Window) -> Result<VerifiedRequest, SignatureRefusal> {
    let input = one(request.headers, "signature-input")?.ok_or(SignatureRefusal::Missing)?;
    let signatures = one(request.headers, "signature")?.ok_or(SignatureRefusal::Missing)?;
    let (label, parameters, received) = tagged(input)?;
    let signature =
        fields::bytes(signatures, label).ok_or(SignatureRefusal::Malformed)?.ok_or(SignatureRefusal::Missing)?;

    let components = components(request)?;
    let lines = components.lines();
    received.covers(&lines)?;
    let key: KeyId = Sha256::of(&[spki]);
    received.fits(window.lifetime_max_s, key)?;
    let now = window.now.0.div_euclid(1000);
    if received.created > now.saturating_add(window.skew_max_s) {
        return Err(SignatureRefusal::FromTheFuture);
    }
    if now > received.expires {
        return Err(SignatureRefusal::Expired);
    }
    let (algorithm, _) = raw_public_key(spki).ok_or(SignatureRefusal::Algorithm)?;
    if received.alg.as_deref().is_some_and(|alg| algorithm.http_name() != Some(alg)) {
        return Err(SignatureRefusal::Algorithm);
    }
    if base::digest_named(&components.content_digest)? != Sha256::of(&[request.body]).0 {
        return Err(SignatureRefusal::DigestMismatch);
    }
    let message = base::signature_base(&lines, parameters);
    let on_the_wire = signature;
    let signature = sign::from_wire(algorithm, &on_the_wire).ok_or(SignatureRefusal::Invalid)?;
    if !sign::signature_is_valid(spki, &message, &signature) {
        return Err(SignatureRefusal::Invalid);
    }
    Ok(VerifiedRequest {
        once: Sha256::of(&[b"countersign/request/v1\0", &key.0, received.nonce.as_bytes()]),
        signature: sign::signed_digest(algorithm, &message).map(|base_digest| RequestSignature {
            base_digest,
            bytes: on_the_wire,
            created: UnixMillis(received.created.saturating_mul(1_000)),
        }),
        created: received.created,
        expires: received.expires,
    })
}

/// The one signature of our profile: its label, its parameters as they came, and read.
fn tagged(input: &str) -> Result<(&str, &str, base::Received), SignatureRefusal> {
    let members = fields::members(input).ok_or(SignatureRefusal::Malformed)?;
    let mut ours = Vec::new();
    for (label, text) in members {
        let list = fields::inner_list(text).ok_or(SignatureRefusal::Malformed)?;
        if base::is_tagged(&list) {
            ours.push((label, text, list));
        }
    }
    match ours.as_slice() {
        [] => Err(SignatureRefusal::Missing),
        [(label, text, list)] => Ok((label, text, base::Received::read(text, list)?)),
        [_, _, ..] => Err(SignatureRefusal::Ambiguous),
    }
}

/// The values of what must be covered, as this request has them.
fn components(request: &SignedRequest<'_>) -> Result<Components, SignatureRefusal> {
    let sometimes = |name: &str| Ok(one(request.headers, name)?.map(str::to_owned));
    let always = |name: &str| sometimes(name)?.ok_or(SignatureRefusal::ComponentMissing);
    Ok(Components {
        method: request.method.to_owned(),
        target_uri: format!("https://{}{}", always("host")?, request.target),
        content_digest: always("content-digest")?,
        protocol_version: always("mcp-protocol-version")?,
        mcp_method: always("mcp-method")?,
        mcp_name: sometimes("mcp-name")?,
        authorization: sometimes("authorization")?,
    })
}

/// The value of a header that is there once, without the space around it. An empty one counts as missing.
fn one<'a>(headers: &[(&str, &'a [u8])], name: &str) -> Result<Option<&'a str>, SignatureRefusal> {
    let mut found = headers.iter().filter(|(header, _)| *header == name).map(|(_, value)| *value);
    let Some(value) = found.next() else {
        return Ok(None);
    };
    if found.next().is_some() {
        return Err(SignatureRefusal::HeaderDuplicate);
    }
    let text = std::str::from_utf8(value).map_err(|_| SignatureRefusal::HeaderNotAscii)?.trim_matches([' ', '\t']);
    if text.is_empty() {
        return Ok(None);
    }
    if base::is_plain(text) { Ok(Some(text)) } else { Err(SignatureRefusal::HeaderNotAscii) }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
