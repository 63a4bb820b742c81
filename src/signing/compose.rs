//! From what was asked to what is signed: the rules of the key's configuration, then the exact bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::api::{Asked, Item, JwsFormat, RequestItem};
use super::journal::{Journal, Ordered, Shape, Shown};
use super::refusal::SigningRefusal;
use super::settings::{JwtSettings, SigningKeySettings, SigningLimits};
use crate::hsm::KeyInfo;
use crate::kernel::canon;
use crate::kernel::external::{
    CONTENT_BYTES_MAX, ExternalForm, ExternalKind, FILE_NAME_BYTES_MAX, FileStatement, Tree, digest_bytes, jose_name,
    signing_input,
};
use crate::kernel::httpsig::{Message, MessageParameters, is_label};
use crate::kernel::merkle;
use crate::kernel::sign::Algorithm;
use crate::kernel::types::{Sha256, UnixMillis};
use crate::ops::failure::Failure;

/// Longest purpose, in characters.
const PURPOSE_CHARS_MAX: usize = 200;
/// Under which a signature of a message is carried unless the caller names another.
const LABEL: &str = "sig";

/// Why nothing was composed: a rule of ours, or one that RFC 9421 has.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum NotComposed {
    Refused(SigningRefusal),
    Message(crate::kernel::httpsig::MessageRefusal),
}

impl From<SigningRefusal> for NotComposed {
    fn from(refusal: SigningRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl NotComposed {
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Refused(refusal) => refusal.failure(),
            Self::Message(refusal) => {
                Failure::usage(refusal.name(), refusal.to_string(), "correct the message; RFC 9421 says what is signed")
            }
        }
    }
}

type Composed<T> = Result<T, NotComposed>;

/// Where and for whom it is composed.
pub(super) struct Site<'a> {
    pub request_id: &'a str,
    pub at: UnixMillis,
    pub key: &'a KeyInfo,
    pub settings: &'a SigningKeySettings,
}

/// The one kind of what is asked for.
pub(super) fn kind_of(asked: &Asked) -> Result<ExternalKind, SigningRefusal> {
    match asked {
        Asked::One(asked) => Ok(asked.item.kind()),
        Asked::Merkle(_) => Ok(ExternalKind::Batch),
        Asked::Batch(asked) => {
            let mut kinds = asked.items.iter().map(Item::kind);
            let first = kinds.next().ok_or(SigningRefusal::TooManyItems)?;
            if kinds.all(|kind| kind == first) { Ok(first) } else { Err(SigningRefusal::BatchMixed) }
        }
    }
}

/// Checks what does not depend on the key.
pub(super) fn fits(asked: &Asked, limits: &SigningLimits) -> Result<(), SigningRefusal> {
    let (count, most) = match asked {
        Asked::One(_) => (1, 1),
        Asked::Batch(asked) => (asked.items.len(), limits.batch_max),
        Asked::Merkle(asked) => (asked.items.len(), limits.merkle_max),
    };
    if !(1..=most).contains(&count) {
        return Err(SigningRefusal::TooManyItems);
    }
    let purpose_fits = asked.purpose().is_none_or(|purpose| {
        (1..=PURPOSE_CHARS_MAX).contains(&purpose.chars().count()) && !purpose.chars().any(char::is_control)
    });
    if purpose_fits { Ok(()) } else { Err(SigningRefusal::PurposeTooLong) }
}

/// Composes everything that is to be signed.
pub(super) fn compose(asked: &Asked, site: &Site<'_>) -> Composed<Journal> {
    let purposes = &site.settings.purposes;
    if !purposes.is_empty() && !asked.purpose().is_some_and(|purpose| purposes.contains(purpose)) {
        return Err(SigningRefusal::PurposeNotPermitted.into());
    }
    let alg = jose_name(site.key.algorithm).ok_or(SigningRefusal::KeyMissing)?;
    let (shape, items, leaves) = match asked {
        Asked::One(asked) => (Shape::One, vec![asked.item.ordered(site)?], vec![]),
        Asked::Batch(asked) => {
            let items = asked.items.iter().map(|item| item.ordered(site)).collect::<Composed<_>>()?;
            (Shape::Batch, items, vec![])
        }
        Asked::Merkle(asked) => {
            let tree = Tree::of(&asked.items).ok_or(SigningRefusal::TooManyItems)?;
            let root = tree.statement().map_err(|_| SigningRefusal::NotCanonical)?;
            let leaves = asked.items.iter().flat_map(|item| item.0).collect();
            (Shape::Merkle, vec![jws(ExternalKind::Batch, site, &root, JwsFormat::Compact)?], leaves)
        }
    };
    Ok(Journal {
        request_id: site.request_id.to_owned(),
        at: site.at,
        name: site.settings.name.to_string(),
        label: site.key.label.clone(),
        key: site.key.id,
        alg: alg.to_owned(),
        algorithm: site.key.algorithm,
        shape,
        items,
        leaves,
    })
}

/// Signatures or leaves, and the digest that stands for them in the log.
pub(super) fn told(journal: &Journal) -> (u32, Sha256) {
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    match journal.shape {
        Shape::Merkle => {
            let items = journal.tree_items();
            (count(items.len()), Tree::of(&items).map_or(Sha256([0; 32]), |tree| tree.root()))
        }
        Shape::One | Shape::Batch => {
            let digests: Vec<Sha256> = journal.items.iter().map(|item| Sha256::of(&[&item.bytes])).collect();
            let digest = match digests.as_slice() {
                [only] => *only,
                several => merkle::root(&several.iter().map(|one| merkle::leaf_hash(&one.0)).collect::<Vec<_>>()),
            };
            (count(digests.len()), digest)
        }
    }
}

impl Item {
    pub(super) fn kind(&self) -> ExternalKind {
        match self {
            Self::File { .. } => ExternalKind::File,
            Self::Document { .. } => ExternalKind::Document,
            Self::Jwt { .. } => ExternalKind::Jwt,
            Self::Raw { .. } => ExternalKind::Raw,
            Self::Request(_) => ExternalKind::Request,
        }
    }

    fn ordered(&self, site: &Site<'_>) -> Composed<Ordered> {
        match self {
            Self::File { sha256, size, name, format } => {
                let fits = |name: &String| {
                    (1..=FILE_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
                };
                if !name.as_ref().is_none_or(fits) {
                    return Err(SigningRefusal::FileMalformed.into());
                }
                let statement = FileStatement::new(*sha256, *size, name.clone()).canonical();
                jws(ExternalKind::File, site, &statement.map_err(|_| SigningRefusal::FileMalformed)?, *format)
            }
            Self::Document { document, format } => {
                if !document.is_object() {
                    return Err(SigningRefusal::DocumentNotAnObject.into());
                }
                let canonical = canon::canonical(document).map_err(|_| SigningRefusal::NotCanonical)?;
                jws(ExternalKind::Document, site, &canonical, *format)
            }
            Self::Jwt { claims, lifetime_s } => {
                let rules = site.settings.jwt.as_ref().ok_or(SigningRefusal::KindNotPermitted)?;
                let claims = token(claims, *lifetime_s, rules, site)?;
                let canonical = canon::canonical(&claims).map_err(|_| SigningRefusal::NotCanonical)?;
                jws(ExternalKind::Jwt, site, &canonical, JwsFormat::Compact)
            }
            Self::Raw { digest, message } => raw(site.key.algorithm, digest.as_deref(), message.as_deref()),
            Self::Request(item) => request(item, site),
        }
    }
}

fn jws(kind: ExternalKind, site: &Site<'_>, payload: &[u8], format: JwsFormat) -> Composed<Ordered> {
    if payload.len() > CONTENT_BYTES_MAX {
        return Err(SigningRefusal::ContentTooLong.into());
    }
    let input = signing_input(kind, site.key.id, site.key.algorithm, payload).ok_or(SigningRefusal::KeyMissing)?;
    Ok(Ordered { kind, form: ExternalForm::Jws, bytes: input.into_bytes(), shown: Shown::Jws(format) })
}

/// The claims of a token, with what the service says itself.
fn token(
    claims: &Map<String, Value>,
    lifetime_s: Option<u32>,
    rules: &JwtSettings,
    site: &Site<'_>,
) -> Result<Value, SigningRefusal> {
    if ["iat", "exp", "nbf"].iter().any(|name| claims.contains_key(*name)) {
        return Err(SigningRefusal::JwtClaimReserved);
    }
    if claims.get("iss").is_some_and(|issuer| issuer != rules.issuer.as_str()) {
        return Err(SigningRefusal::JwtIssuer);
    }
    if !claims.get("aud").and_then(Value::as_str).is_some_and(|audience| rules.audiences.contains(audience)) {
        return Err(SigningRefusal::JwtAudience);
    }
    let is_subject = |subject: &str| rules.subjects.contains(subject);
    if !rules.subjects.is_empty() && !claims.get("sub").and_then(Value::as_str).is_some_and(is_subject) {
        return Err(SigningRefusal::JwtSubject);
    }
    let lifetime_s = lifetime_s.unwrap_or(rules.lifetime_max_s);
    if !(1..=rules.lifetime_max_s).contains(&lifetime_s) {
        return Err(SigningRefusal::JwtLifetime);
    }
    let mut all = claims.clone();
    let iat = site.at.seconds();
    all.insert("iss".into(), json!(rules.issuer));
    all.insert("iat".into(), json!(iat));
    all.insert("exp".into(), json!(iat.saturating_add(lifetime_s.into())));
    if !all.contains_key("jti") {
        all.insert("jti".into(), json!(site.request_id));
    }
    Ok(Value::Object(all))
}

fn raw(algorithm: Algorithm, digest: Option<&str>, message: Option<&str>) -> Composed<Ordered> {
    let malformed = SigningRefusal::DigestMalformed;
    let (form, bytes) = match (digest_bytes(algorithm), digest, message) {
        (Some(length), Some(digest), None) => {
            let bytes = hex::decode(digest).ok().filter(|bytes| bytes.len() == length).ok_or(malformed)?;
            (ExternalForm::Digest, bytes)
        }
        (None, None, Some(message)) => {
            let bytes = STANDARD.decode(message).map_err(|_| malformed)?;
            if bytes.len() > CONTENT_BYTES_MAX {
                return Err(SigningRefusal::ContentTooLong.into());
            }
            (ExternalForm::Message, bytes)
        }
        (Some(_) | None, _, _) => return Err(malformed.into()),
    };
    Ok(Ordered { kind: ExternalKind::Raw, form, bytes, shown: Shown::Raw })
}

fn request(item: &RequestItem, site: &Site<'_>) -> Composed<Ordered> {
    let rules = &site.settings.request;
    let label = item.label.as_deref().unwrap_or(LABEL);
    if !is_label(label) {
        return Err(SigningRefusal::RequestLabel.into());
    }
    if !rules.tags.is_empty() && !item.tag.as_ref().is_some_and(|tag| rules.tags.contains(tag)) {
        return Err(SigningRefusal::RequestTag.into());
    }
    let lifetime_s = item.expires_in_s.unwrap_or(rules.lifetime_max_s);
    if !(1..=rules.lifetime_max_s).contains(&lifetime_s) {
        return Err(SigningRefusal::RequestLifetime.into());
    }
    let message = Message {
        method: item.method.clone(),
        url: item.url.clone(),
        status: item.status,
        headers: item.headers.clone(),
    };
    let created = site.at.seconds();
    let parameters = MessageParameters {
        created,
        expires: Some(created.saturating_add(lifetime_s.into())),
        nonce: item.nonce.clone(),
        keyid: site.key.id.hex(),
        tag: item.tag.clone(),
    };
    let draft = message.draft(&item.components, &parameters).map_err(NotComposed::Message)?;
    message.covers_least(&item.components).map_err(NotComposed::Message)?;
    Ok(Ordered {
        kind: ExternalKind::Request,
        form: ExternalForm::Request,
        bytes: draft.base,
        shown: Shown::Headers(label.to_owned()),
    })
}
