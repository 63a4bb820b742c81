//! HTTP message signatures of other programs (RFC 9421): whatever components their two ends agree on.
//!
//! [The agents' requests](super) have one profile that nothing may leave. Here the caller names what is covered: derived
//! components and header fields, of a request or a response. Parameters of components are `name` of `@query-param` alone;
//! `sf`, `key`, `bs`, `req` and `tr` are refused by name rather than read in a way of our own.

mod component;
mod verify;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::TAG;
use super::base::{digest_named, is_plain};
use crate::kernel::types::Sha256;
use component::{Component, Target, form_decoded, percent_encoded};

pub use verify::{ExpectedMessage, VerifiedMessage, lint_message_base, verify_message};

/// Components of one signature.
pub const COMPONENTS_MAX: usize = 64;
/// Bytes of a signature base: what ordinary servers take as a head.
pub const MESSAGE_BASE_BYTES_MAX: usize = 32 * 1024;
/// A label, a nonce, a tag.
const WORD_BYTES_MAX: usize = 256;

macro_rules! refusals {
    ($($variant:ident = $name:literal, $sentence:literal;)*) => {
        /// Why a message is not signed, or is not one that this key signed: one name a rule.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
        pub enum MessageRefusal {
            $(#[error($sentence)] $variant,)*
        }

        impl MessageRefusal {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

refusals! {
    NotAMessage = "message_malformed", "it is neither a request, with a method and an absolute http or https URL, nor a response, with a status";
    NotABase = "message_base_malformed", "it is not a signature base: lines of components and their values, then its parameters";
    TooLarge = "message_too_large", "the signature covers more than 64 components, or more than 32 KiB";
    ComponentUnknown = "message_component_unknown", "a component is none of RFC 9421, or has a parameter that is not supported here";
    ComponentTwice = "message_component_twice", "a component is covered twice";
    ComponentMissing = "message_component_missing", "the message does not have a component that is covered";
    ComponentNotPlain = "message_component_not_plain", "the value of a component is not printable ASCII";
    ComponentNotCovered = "message_component_not_covered", "the signature does not cover a component that was asked for, or what tells this message from others: @method and @target-uri (or @authority with @path or @request-target), @status, and content-digest where it is there";
    HeaderMissing = "message_signature_missing", "the message has no signature, or none with this label";
    HeaderMalformed = "message_signature_malformed", "Signature-Input or Signature is not a dictionary of structured fields";
    Ambiguous = "message_signature_ambiguous", "the message has several signatures: say which with its label";
    ParameterMalformed = "message_parameter_malformed", "a parameter of the signature is unknown, there twice or of the wrong type";
    ParameterMissing = "message_parameter_missing", "the signature does not say a parameter that is needed: created, keyid or what was asked for";
    TagReserved = "message_tag_reserved", "the tag countersign-request is that of agents' requests";
    TagMismatch = "message_tag_mismatch", "tag is not the one that was expected";
    KeyMismatch = "message_key_mismatch", "keyid names another key";
    Algorithm = "message_algorithm", "alg is not the algorithm of the key";
    FromTheFuture = "message_from_the_future", "the signature was created in the future";
    Expired = "message_expired", "the signature has expired, or is older than was asked for";
    DigestMalformed = "message_digest_malformed", "Content-Digest has no sha-256 that can be read";
    DigestMismatch = "message_digest_mismatch", "Content-Digest is not the digest of the body";
    Invalid = "message_signature_invalid", "the signature is not by this key over this message";
}

/// A request or a response of HTTP, as far as a signature can cover it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Of a request: absolute, `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Every header line: name, value.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// Parameters of a signature that is to be made (RFC 9421, 2.3).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageParameters {
    /// Seconds since 1970.
    pub created: i64,
    pub expires: Option<i64>,
    pub nonce: Option<String>,
    pub keyid: String,
    pub tag: Option<String>,
}

/// What is signed, and the header that says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageDraft {
    pub base: Vec<u8>,
    parameters: String,
}

impl MessageDraft {
    /// Of a base that was composed before. `None`: it does not end with its parameters.
    pub fn of_base(base: Vec<u8>) -> Option<Self> {
        let last = base.rsplit(|byte| *byte == b'\n').next()?.strip_prefix(PARAMETERS.as_bytes())?;
        let parameters = String::from_utf8(last.to_vec()).ok()?;
        Some(Self { base, parameters })
    }

    /// Values of Signature-Input and Signature under this label, with a signature as it travels: r ‖ s of ECDSA.
    pub fn signed(&self, label: &str, signature: &[u8]) -> super::SignatureHeaders {
        super::SignatureHeaders {
            signature_input: format!("{label}={}", self.parameters),
            signature: format!("{label}=:{}:", STANDARD.encode(signature)),
        }
    }
}

/// True when a word can be the key of a dictionary (RFC 8941, 3.1.2): a signature's label.
pub fn is_label(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'*');
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte);
    first && text.len() <= WORD_BYTES_MAX && text.bytes().all(rest)
}

impl Message {
    /// True when it is a request or a response, and not both.
    fn is_one(&self) -> bool {
        match (&self.method, &self.url, self.status) {
            (Some(method), Some(url), None) => {
                let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
                !method.is_empty() && method.bytes().all(token) && Target::read(url).is_some()
            }
            (None, None, Some(status)) => (100..=599).contains(&status),
            (Some(_) | None, Some(_) | None, Some(_) | None) => false,
        }
    }

    /// The value of a component (RFC 9421, 2.1 and 2.2).
    fn value(&self, component: &Component) -> Result<String, MessageRefusal> {
        let missing = MessageRefusal::ComponentMissing;
        let target = || self.url.as_deref().and_then(Target::read).ok_or(missing);
        let value = match component.name.as_str() {
            "@method" => self.method.clone().ok_or(missing)?,
            "@target-uri" => target()?.uri(),
            "@authority" => target()?.authority,
            "@scheme" => target()?.scheme.to_owned(),
            "@path" => target()?.path.to_owned(),
            "@query" => format!("?{}", target()?.query.unwrap_or_default()),
            "@request-target" => {
                let target = target()?;
                target.query.map_or_else(|| target.path.to_owned(), |query| format!("{}?{query}", target.path))
            }
            "@query-param" => {
                let wanted = form_decoded(component.parameter.as_deref().ok_or(MessageRefusal::ComponentUnknown)?);
                let target = target()?;
                let pairs = target.query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
                let mut found = pairs.filter_map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (form_decoded(name) == wanted).then(|| form_decoded(value))
                });
                // Twice is two values under one name: nobody could tell which was meant (RFC 9421, 2.2.8).
                match (found.next(), found.next()) {
                    (Some(value), None) => return Ok(percent_encoded(&value)),
                    (Some(_), Some(_)) => return Err(MessageRefusal::ComponentTwice),
                    (None, _) => return Err(missing),
                }
            }
            "@status" => self.status.ok_or(missing)?.to_string(),
            name => return self.field(name),
        };
        if is_plain(&value) { Ok(value) } else { Err(MessageRefusal::ComponentNotPlain) }
    }

    /// The lines of a field together (RFC 9421, 2.1).
    fn field(&self, name: &str) -> Result<String, MessageRefusal> {
        let lines = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        let values: Vec<&str> = lines.map(|(_, value)| value.trim_matches([' ', '\t'])).collect();
        if values.is_empty() {
            return Err(MessageRefusal::ComponentMissing);
        }
        let value = values.join(", ");
        let plain = value.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
        if plain { Ok(value) } else { Err(MessageRefusal::ComponentNotPlain) }
    }

    /// The least that a signature of it covers, so that it is good for this message and no other: method and place of a
    /// request, status of a response, and the digest of a body where there is one.
    pub fn least(&self) -> Vec<&'static str> {
        let derived: &[&str] = if self.status.is_some() { &["@status"] } else { &["@method", "@target-uri"] };
        let digest = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-digest"));
        derived.iter().copied().chain(digest.then_some("content-digest")).collect()
    }

    /// Composes what is signed of this message: these components, in this order, with these parameters.
    ///
    /// # Errors
    /// [`MessageRefusal`]
    pub fn draft(&self, components: &[String], with: &MessageParameters) -> Result<MessageDraft, MessageRefusal> {
        if !self.is_one() {
            return Err(MessageRefusal::NotAMessage);
        }
        let read = |text: &String| Component::read(text).ok_or(MessageRefusal::ComponentUnknown);
        let components: Vec<Component> = components.iter().map(read).collect::<Result<_, _>>()?;
        let parameters = with.text(&components)?;
        let base = self.base(&components, &parameters)?;
        Ok(MessageDraft { base, parameters })
    }

    /// The signature base (RFC 9421, 2.5), with this text of parameters.
    fn base(&self, components: &[Component], parameters: &str) -> Result<Vec<u8>, MessageRefusal> {
        // Over its parameters alone it would be good for every message.
        if components.is_empty() {
            return Err(MessageRefusal::ComponentNotCovered);
        }
        if components.len() > COMPONENTS_MAX {
            return Err(MessageRefusal::TooLarge);
        }
        let mut base = String::new();
        for (place, component) in components.iter().enumerate() {
            if components[..place].contains(component) {
                return Err(MessageRefusal::ComponentTwice);
            }
            base.extend([&component.identifier(), ": ", &self.value(component)?, "\n"]);
        }
        base.extend([PARAMETERS, parameters]);
        if base.len() > MESSAGE_BASE_BYTES_MAX { Err(MessageRefusal::TooLarge) } else { Ok(base.into_bytes()) }
    }

    /// Passes components that cover the [least](Self::least). The place of a request may be covered in its parts.
    ///
    /// # Errors
    /// [`MessageRefusal::ComponentNotCovered`]
    pub fn covers_least(&self, components: &[String]) -> Result<(), MessageRefusal> {
        let has = |name: &str| components.iter().any(|component| component.trim_matches('"') == name);
        let in_parts = has("@authority") && (has("@path") || has("@request-target"));
        let covered = |name: &&str| has(name) || (*name == "@target-uri" && in_parts);
        if self.least().iter().all(covered) { Ok(()) } else { Err(MessageRefusal::ComponentNotCovered) }
    }

    /// Compares Content-Digest, where the message has it, with the body's SHA-256.
    ///
    /// # Errors
    /// [`MessageRefusal::DigestMalformed`], [`MessageRefusal::DigestMismatch`]
    pub fn digest_fits(&self, body: &Sha256) -> Result<(), MessageRefusal> {
        let value = match self.field("content-digest") {
            Ok(value) => value,
            Err(MessageRefusal::ComponentMissing) => return Ok(()),
            Err(refusal) => return Err(refusal),
        };
        let named = digest_named(&value).map_err(|_| MessageRefusal::DigestMalformed)?;
        if named == body.0 { Ok(()) } else { Err(MessageRefusal::DigestMismatch) }
    }
}

const PARAMETERS: &str = "\"@signature-params\": ";

impl MessageParameters {
    fn text(&self, components: &[Component]) -> Result<String, MessageRefusal> {
        let word = |text: &str| is_plain(text) && text.len() <= WORD_BYTES_MAX && !text.contains(['"', '\\']);
        let words = [Some(&self.keyid), self.nonce.as_ref(), self.tag.as_ref()];
        let ends = self.expires.is_none_or(|expires| expires > self.created);
        if self.created < 0 || !ends || words.into_iter().flatten().any(|text| !word(text)) {
            return Err(MessageRefusal::ParameterMalformed);
        }
        if self.tag.as_deref() == Some(TAG) {
            return Err(MessageRefusal::TagReserved);
        }
        let identifiers: Vec<String> = components.iter().map(Component::identifier).collect();
        let mut text = format!("({});created={}", identifiers.join(" "), self.created);
        if let Some(expires) = self.expires {
            text.push_str(&format!(";expires={expires}"));
        }
        let named = [("nonce", self.nonce.as_ref()), ("keyid", Some(&self.keyid)), ("tag", self.tag.as_ref())];
        for (name, value) in named {
            if let Some(value) = value {
                text.push_str(&format!(";{name}=\"{value}\""));
            }
        }
        Ok(text)
    }
}
