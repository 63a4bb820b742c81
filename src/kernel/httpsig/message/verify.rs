//! Messages that came with a signature, and bases that a key is asked to sign: read back, and judged.

use serde::Serialize;
use sfv::BareItem;

use super::component::Component;
use super::{COMPONENTS_MAX, MESSAGE_BASE_BYTES_MAX, Message, MessageRefusal, PARAMETERS};
use crate::kernel::httpsig::{TAG, fields};
use crate::kernel::sign::{self, Algorithm};
use crate::kernel::types::UnixMillis;

/// What a signature must be to be taken.
#[derive(Clone, Debug, Default)]
pub struct ExpectedMessage {
    /// Which of several. None: there is one.
    pub label: Option<String>,
    pub tag: Option<String>,
    /// The least that is covered.
    pub components: Vec<String>,
    /// The oldest `created`, seconds before now. None: as old as it says itself.
    pub age_max_s: Option<i64>,
    /// So much the signer's clock may be ahead.
    pub skew_max_s: i64,
}

/// A message that this key signed. Only [`verify_message`] makes one: holding it is the proof.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct VerifiedMessage {
    label: String,
    components: Vec<String>,
    created: Option<i64>,
    expires: Option<i64>,
    nonce: Option<String>,
    tag: Option<String>,
}

impl VerifiedMessage {
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What is covered, as its identifiers are written.
    pub fn components(&self) -> &[String] {
        &self.components
    }

    /// For whoever keeps them, so that a message counts once.
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }
}

/// Verifies a message with its Signature-Input and Signature headers against one key (SubjectPublicKeyInfo, DER). A
/// `keyid` that is there must be one of `keyids`; without any, what it says is not looked at.
///
/// # Errors
/// The first [`MessageRefusal`] in order of precedence.
pub fn verify_message(
    message: &Message,
    spki: &[u8],
    keyids: &[String],
    expected: &ExpectedMessage,
    now: UnixMillis,
) -> Result<VerifiedMessage, MessageRefusal> {
    if !message.is_one() {
        return Err(MessageRefusal::NotAMessage);
    }
    let header = |name: &str| match message.field(name) {
        Err(MessageRefusal::ComponentMissing) => Err(MessageRefusal::HeaderMissing),
        value => value,
    };
    let (inputs, signatures) = (header("signature-input")?, header("signature")?);
    let members = fields::members(&inputs).ok_or(MessageRefusal::HeaderMalformed)?;
    let (label, parameters) = match (&expected.label, members.as_slice()) {
        (Some(label), members) => {
            *members.iter().find(|(name, _)| name == label).ok_or(MessageRefusal::HeaderMissing)?
        }
        (None, [only]) => *only,
        (None, []) => return Err(MessageRefusal::HeaderMissing),
        (None, [_, _, ..]) => return Err(MessageRefusal::Ambiguous),
    };
    let signature = fields::bytes(&signatures, label)
        .ok_or(MessageRefusal::HeaderMalformed)?
        .ok_or(MessageRefusal::HeaderMissing)?;
    let read = Read::of(parameters)?;
    if expected.tag.is_some() && read.tag != expected.tag {
        return Err(MessageRefusal::TagMismatch);
    }
    if read.keyid.as_ref().is_some_and(|keyid| !keyids.is_empty() && !keyids.contains(keyid)) {
        return Err(MessageRefusal::KeyMismatch);
    }
    let algorithm = sign::raw_public_key(spki).map(|(algorithm, _)| algorithm).ok_or(MessageRefusal::Algorithm)?;
    if read.alg.as_deref().is_some_and(|alg| algorithm.http_name() != Some(alg)) {
        return Err(MessageRefusal::Algorithm);
    }
    for wanted in &expected.components {
        let wanted = Component::read(wanted).ok_or(MessageRefusal::ComponentUnknown)?;
        if !read.components.contains(&wanted) {
            return Err(MessageRefusal::ComponentNotCovered);
        }
    }
    let at = now.seconds();
    match (read.created, expected.age_max_s) {
        (Some(created), _) if created > at.saturating_add(expected.skew_max_s) => {
            return Err(MessageRefusal::FromTheFuture);
        }
        (Some(created), Some(age)) if created < at.saturating_sub(age) => return Err(MessageRefusal::Expired),
        (None, Some(_)) => return Err(MessageRefusal::ParameterMissing),
        (Some(_), _) | (None, None) => {}
    }
    if read.expires.is_some_and(|expires| at > expires) {
        return Err(MessageRefusal::Expired);
    }
    let base = message.base(&read.components, parameters)?;
    let signature = sign::from_wire(algorithm, &signature).ok_or(MessageRefusal::Invalid)?;
    if !sign::signature_is_valid(spki, &base, &signature) {
        return Err(MessageRefusal::Invalid);
    }
    Ok(VerifiedMessage {
        label: label.to_owned(),
        components: read.components.iter().map(Component::identifier).collect(),
        created: read.created,
        expires: read.expires,
        nonce: read.nonce,
        tag: read.tag,
    })
}

/// Passes the signature base of a message that this key is to sign for another program: lines of components, each once
/// and in the order of the parameters, which name this key, and are not those of an agent's request.
///
/// # Errors
/// [`MessageRefusal`]
pub fn lint_message_base(base: &[u8], keyid: &str, algorithm: Algorithm) -> Result<(), MessageRefusal> {
    let not = MessageRefusal::NotABase;
    if base.len() > MESSAGE_BASE_BYTES_MAX {
        return Err(MessageRefusal::TooLarge);
    }
    let text = std::str::from_utf8(base).map_err(|_| not)?;
    if !text.bytes().all(|byte| matches!(byte, b'\n' | 0x20..=0x7e)) {
        return Err(MessageRefusal::ComponentNotPlain);
    }
    let mut lines: Vec<&str> = text.split('\n').collect();
    let parameters = lines.pop().and_then(|last| last.strip_prefix(PARAMETERS)).ok_or(not)?;
    let read = Read::of(parameters)?;
    if read.tag.as_deref() == Some(TAG) {
        return Err(MessageRefusal::TagReserved);
    }
    if read.created.is_none() || read.keyid.is_none() {
        return Err(MessageRefusal::ParameterMissing);
    }
    if read.keyid.as_deref() != Some(keyid) {
        return Err(MessageRefusal::KeyMismatch);
    }
    if read.alg.as_deref().is_some_and(|alg| algorithm.http_name() != Some(alg)) {
        return Err(MessageRefusal::Algorithm);
    }
    let fits = !lines.is_empty()
        && lines.len() == read.components.len()
        && lines.iter().zip(&read.components).enumerate().all(|(place, (line, component))| {
            let named = line.strip_prefix(&component.identifier()).is_some_and(|rest| rest.starts_with(": "));
            named && !read.components[..place].contains(component)
        });
    if fits { Ok(()) } else { Err(not) }
}

/// Parameters as they were received.
struct Read {
    components: Vec<Component>,
    created: Option<i64>,
    expires: Option<i64>,
    nonce: Option<String>,
    keyid: Option<String>,
    alg: Option<String>,
    tag: Option<String>,
}

impl Read {
    fn of(text: &str) -> Result<Self, MessageRefusal> {
        let list = fields::inner_list(text).ok_or(MessageRefusal::HeaderMalformed)?;
        if list.items.len() > COMPONENTS_MAX {
            return Err(MessageRefusal::TooLarge);
        }
        let component = |item: &sfv::Item| Component::of_item(item).ok_or(MessageRefusal::ComponentUnknown);
        let components = list.items.iter().map(component).collect::<Result<_, _>>()?;
        let known = ["created", "expires", "nonce", "keyid", "alg", "tag"];
        // Parameters of components stand in front of the closing parenthesis.
        let own = text.rsplit_once(')').map_or("", |(_, own)| own);
        let written = fields::parameters_written(own) == list.params.len();
        if !written || list.params.keys().any(|key| !known.contains(&key.as_str())) {
            return Err(MessageRefusal::ParameterMalformed);
        }
        let malformed = MessageRefusal::ParameterMalformed;
        let integer = |value: &BareItem| value.as_integer().map(i64::from).ok_or(malformed);
        let string = |value: &BareItem| value.as_string().map(|text| text.as_str().to_owned()).ok_or(malformed);
        let integer = |name: &str| list.params.get(name).map(integer).transpose();
        let string = |name: &str| list.params.get(name).map(string).transpose();
        Ok(Self {
            components,
            created: integer("created")?,
            expires: integer("expires")?,
            nonce: string("nonce")?,
            keyid: string("keyid")?,
            alg: string("alg")?,
            tag: string("tag")?,
        })
    }
}
