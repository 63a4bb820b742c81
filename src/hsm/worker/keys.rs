//! The life of a key in the token: made, retired, destroyed. Each needs a read-write session. Retiring and destroying go by
//! what the token shows: no other thread may be in the module.

use std::sync::Arc;

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;

use super::attributes::{self, CURVE_ED25519, CURVE_P256, CURVE_P384, PUBLIC_EXPONENT};
use super::keyring::{self, Keyring, LoadedKey, MARK, NotAccepted, Presence, Publics};
use super::signing;
use super::token::OpenToken;
use crate::hsm::label::KeyLabel;
use crate::hsm::settings::{ExtraAttribute, ObjectKind};
use crate::hsm::{CustodyAttributes, HsmFault, KeyInfo, KeyOrder, KeyState, mechanism_names_of};
use crate::kernel::sign::{Algorithm, Purpose};
use crate::kernel::types::{KeyId, Sha256};
use crate::ops::clock;

/// Why a key was not made or changed.
#[derive(Debug)]
pub enum KeyFault {
    /// A rule said no: name and message.
    Refused(&'static str, String),
    Module(Error),
    /// The new key does not pass its own check; it was destroyed.
    Unverified,
}

impl From<Error> for KeyFault {
    fn from(error: Error) -> Self {
        Self::Module(error)
    }
}

impl From<KeyFault> for HsmFault {
    fn from(fault: KeyFault) -> Self {
        let unavailable =
            |name: &str, message: String| Self::Unavailable { name: name.into(), message, maybe_signed: false };
        match fault {
            KeyFault::Refused(name, message) => Self::Refused { name: name.into(), message },
            KeyFault::Unverified => {
                unavailable("key_unusable", "the new key did not pass its check and is not used".into())
            }
            KeyFault::Module(error) => {
                unavailable("key_not_changed", format!("the module made or changed no key: {error}"))
            }
        }
    }
}

fn refused(name: &'static str, message: impl Into<String>) -> KeyFault {
    KeyFault::Refused(name, message.into())
}

/// The key, if there is one.
///
/// # Errors
/// `unknown_key`, `key_destroyed`.
pub fn present(id: KeyId, presence: Presence) -> Result<Arc<LoadedKey>, KeyFault> {
    match presence {
        Presence::Here(key) => Ok(key),
        Presence::Destroyed(info) => Err(refused("key_destroyed", format!("{} was destroyed", info.label))),
        Presence::Unknown => Err(refused("unknown_key", format!("the token has no usable key {id}"))),
    }
}

/// Which custody attributes a key must show before it is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CustodyRule {
    Sound,
    /// CKA_LOCAL may be missing: this module does not state it.
    LocalUnstated,
}

impl CustodyRule {
    fn permits(self, custody: CustodyAttributes) -> bool {
        match self {
            Self::Sound => custody.is_sound(),
            Self::LocalUnstated => CustodyAttributes { local: true, ..custody }.is_sound(),
        }
    }
}

/// Passes a key that may make new signatures, or seal.
///
/// # Errors
/// `key_verify_only`, `custody_unsound`.
pub fn ensure_active(key: &KeyInfo, rule: CustodyRule) -> Result<(), HsmFault> {
    let refuse = |name: &str, message: String| Err(HsmFault::Refused { name: name.into(), message });
    match key.state {
        KeyState::Active if rule.permits(key.custody) => Ok(()),
        KeyState::Active => {
            refuse("custody_unsound", format!("{} could have left the token or was not born in it", key.label))
        }
        KeyState::VerifyOnly => {
            refuse("key_verify_only", format!("{} is retired: it signs and seals nothing new", key.label))
        }
        KeyState::Destroyed => refuse("key_destroyed", format!("{} was destroyed", key.label)),
    }
}

/// Makes a key with the next free version of its label.
///
/// A pair carries a random id until its public key is known. A pair whose making was cut off has no fitting id and is
/// never used. CKA_COPYABLE goes off last, as far as the module lets it (SoftHSM2 2.6.1 does not, after creation).
/// CKA_MODIFIABLE stays on: a key that is not modifiable could never be retired. So whoever has the PIN could give a
/// key another label. What no PIN changes: CKA_SENSITIVE and not CKA_EXTRACTABLE (PKCS#11 v2.40, 4.9), and an id that
/// is the public key's hash.
///
/// # Errors
/// `input_malformed`, `algorithm_not_permitted`, `identity_exists`, `mechanism_missing`, `versions_exhausted`,
/// `version_taken`; the module's.
pub fn generate(
    keyring: &Keyring,
    token: &OpenToken,
    session: &Session,
    order: &KeyOrder,
    extra: &[ExtraAttribute],
) -> Result<KeyInfo, KeyFault> {
    let malformed = |message: String| refused("input_malformed", message);
    let party = order.party.parse().map_err(|error| malformed(format!("{error}")))?;
    let agent = order.agent.as_deref().map(str::parse).transpose().map_err(|error| malformed(format!("{error}")))?;
    let (purpose, algorithm) = (order.purpose, order.algorithm);
    if agent.is_some() != purpose.is_named() {
        return Err(malformed("keys of purposes agent and external, and only they, have a name".into()));
    }
    if !purpose.algorithms().contains(&algorithm) {
        let permitted: Vec<&str> = purpose.algorithms().iter().map(|algorithm| algorithm.slug()).collect();
        let message = format!("a {} key is one of {}, not {}", purpose.slug(), permitted.join(", "), algorithm.slug());
        return Err(refused("algorithm_not_permitted", message));
    }
    if purpose == Purpose::TokenIdentity && keyring.identity().is_some() {
        return Err(refused("identity_exists", "a token has one identity key for its whole life"));
    }
    let present: Vec<String> = token.mechanisms()?.iter().map(ToString::to_string).collect();
    let needed = mechanism_names_of(purpose, algorithm);
    if let Some(missing) = needed.into_iter().find(|needed| !present.iter().any(|name| name == needed)) {
        return Err(mechanism_missing(algorithm, missing));
    }
    let turn = keyring.change();
    let mut label = KeyLabel { party, purpose, agent, version: 1 };
    label.version = next_version(session, &label)?;
    let made = Made::new(session, &label, algorithm, extra)?;
    let outcome = made.finish(session, &label, keyring.identity().as_deref()).and_then(|key| {
        // Another worker may have taken the version at the same moment.
        if with_label(session, &label)? > made.objects().len() {
            return Err(refused("version_taken", format!("{label} is being made by another worker; try again")));
        }
        Ok(key)
    });
    drop(turn);
    match outcome {
        Ok(key) => {
            let info = key.info.clone();
            keyring.insert(key);
            Ok(info)
        }
        Err(fault) => {
            for object in made.objects() {
                if let Err(error) = session.destroy_object(object) {
                    tracing::warn!(%error, %label, "a half-made key could not be removed; it is never used");
                }
            }
            Err(fault)
        }
    }
}

/// Makes a key verify-only, by the token's own means: CKA_SIGN, or for keys that seal CKA_ENCRYPT, goes off.
///
/// # Errors
/// `identity_not_retired`, `unknown_key`, `key_destroyed`, `retire_not_supported`; the module's.
pub fn retire(keyring: &Keyring, session: &Session, id: KeyId) -> Result<KeyInfo, KeyFault> {
    let _turn = keyring.change();
    let key = fresh(keyring, session, id)?;
    if key.info.purpose == Purpose::TokenIdentity {
        return Err(refused("identity_not_retired", "the identity key recognises the token for its whole life"));
    }
    if key.info.state == KeyState::VerifyOnly {
        return Ok(key.info.clone());
    }
    let (half, off) = match (key.info.purpose.seals(), key.info.algorithm) {
        (false, _) => (key.private, Attribute::Sign(false)),
        (true, Algorithm::Aes256) => (key.private, Attribute::Encrypt(false)),
        (true, Algorithm::P256 | Algorithm::P384 | Algorithm::Ed25519 | Algorithm::Rsa3072) => {
            (keyring::public_half(session, id)?, Attribute::Encrypt(false))
        }
    };
    match session.update_attributes(half, &[off]) {
        Ok(()) => {}
        Err(Error::Pkcs11(error, _)) if is_about_the_attribute(error) => {
            let message = format!("the module does not let {} be retired ({error:?})", key.info.label);
            return Err(refused("retire_not_supported", message));
        }
        Err(error) => return Err(error.into()),
    }
    let retired = fresh(keyring, session, id)?;
    if retired.info.state == KeyState::VerifyOnly {
        return Ok(retired.info.clone());
    }
    let message = format!("the module says it retired {}, and it is not retired", key.info.label);
    Err(refused("retire_not_supported", message))
}

/// Destroys the private or secret key of a verify-only key; what holds its version's place stays.
///
/// # Errors
/// `key_still_active`, `unknown_key`; the module's.
pub fn destroy(keyring: &Keyring, session: &Session, id: KeyId) -> Result<KeyInfo, KeyFault> {
    let _turn = keyring.change();
    let key = match keyring.presence(session, id)? {
        Presence::Here(key) => key,
        Presence::Destroyed(info) => return Ok(info),
        Presence::Unknown => return Err(refused("unknown_key", format!("the token has no key {id}"))),
    };
    if key.info.state == KeyState::Active {
        let message = format!("{} still signs or seals; only a retired key is destroyed", key.info.label);
        return Err(refused("key_still_active", message));
    }
    if key.info.algorithm == Algorithm::Aes256 {
        let mark = [
            Attribute::Class(ObjectClass::DATA),
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Application(MARK.to_vec()),
            Attribute::Label(key.info.label.clone().into_bytes()),
            Attribute::Value(id.0.to_vec()),
        ];
        session.create_object(&mark)?;
    }
    session.destroy_object(key.private)?;
    match keyring.presence(session, id)? {
        Presence::Destroyed(info) => Ok(info),
        Presence::Here(_) | Presence::Unknown => {
            Err(refused("key_not_destroyed", format!("the token still shows {}", key.info.label)))
        }
    }
}

fn fresh(keyring: &Keyring, session: &Session, id: KeyId) -> Result<Arc<LoadedKey>, KeyFault> {
    present(id, keyring.presence(session, id)?)
}

/// CKR codes with which modules refuse a change of one attribute. Others mean that the module is not well.
fn is_about_the_attribute(error: RvError) -> bool {
    matches!(
        error,
        RvError::ActionProhibited
            | RvError::AttributeReadOnly
            | RvError::AttributeTypeInvalid
            | RvError::AttributeValueInvalid
            | RvError::TemplateInconsistent
            | RvError::FunctionNotSupported
    )
}

fn mechanism_missing(algorithm: Algorithm, what: &str) -> KeyFault {
    let message = format!("the token has no {} keys: {what} is missing", algorithm.slug());
    refused("mechanism_missing", message)
}

/// 1 + the highest version of this label on any object of the token: private, public, a left-over half, a mark.
fn next_version(session: &Session, label: &KeyLabel) -> Result<u32, KeyFault> {
    let mut highest = 0;
    for object in session.find_objects(&[Attribute::Token(true)])? {
        let (_, text) = attributes::id_and_label(session, object)?;
        if let Some(other) = KeyLabel::parse(&text).filter(|other| other.same_stem(label)) {
            highest = highest.max(other.version);
        }
    }
    highest.checked_add(1).ok_or_else(|| refused("versions_exhausted", format!("{label} has no next version")))
}

/// How many objects carry this label.
fn with_label(session: &Session, label: &KeyLabel) -> Result<usize, Error> {
    Ok(session.find_objects(&[Attribute::Token(true), Attribute::Label(label.to_string().into_bytes())])?.len())
}

/// The objects of a new key.
enum Made {
    Pair { public: ObjectHandle, private: ObjectHandle },
    Secret(ObjectHandle),
}

impl Made {
    /// The attributes that every module accepted, and no more.
    fn new(
        session: &Session,
        label: &KeyLabel,
        algorithm: Algorithm,
        extra: &[ExtraAttribute],
    ) -> Result<Self, KeyFault> {
        let extra = |on: ObjectKind| extra.iter().filter(move |attribute| attribute.on == on).map(vendor_attribute);
        let id = clock::random::<32>().to_vec();
        let common = |private: bool| {
            vec![
                Attribute::Token(true),
                Attribute::Private(private),
                Attribute::Label(label.to_string().into_bytes()),
                Attribute::Id(id.clone()),
            ]
        };
        let guarded = [Attribute::Sensitive(true), Attribute::Extractable(false)];
        let (mechanism, parameters) = match algorithm {
            Algorithm::P256 => (Mechanism::EccKeyPairGen, vec![Attribute::EcParams(CURVE_P256.to_vec())]),
            Algorithm::P384 => (Mechanism::EccKeyPairGen, vec![Attribute::EcParams(CURVE_P384.to_vec())]),
            Algorithm::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, vec![Attribute::EcParams(CURVE_ED25519.to_vec())]),
            Algorithm::Rsa3072 => (
                Mechanism::RsaPkcsKeyPairGen,
                vec![Attribute::ModulusBits(Ulong::new(3072)), Attribute::PublicExponent(PUBLIC_EXPONENT.to_vec())],
            ),
            Algorithm::Aes256 => {
                let mut secret = common(true);
                secret.extend(guarded);
                secret.extend([
                    Attribute::Encrypt(true),
                    Attribute::Decrypt(true),
                    Attribute::ValueLen(Ulong::new(32)),
                ]);
                secret.extend(extra(ObjectKind::Secret));
                let made = session.generate_key(&Mechanism::AesKeyGen, &secret);
                return made.map(Self::Secret).map_err(|error| unless_mechanism(error, algorithm));
            }
        };
        let mut public = common(false);
        let mut private = common(true);
        if label.purpose.seals() {
            public.extend([Attribute::Encrypt(true), Attribute::Verify(false), Attribute::Wrap(false)]);
            private.extend([Attribute::Decrypt(true), Attribute::Sign(false), Attribute::Unwrap(false)]);
        } else {
            public.push(Attribute::Verify(true));
            private.push(Attribute::Sign(true));
        }
        public.extend(parameters);
        public.extend(extra(ObjectKind::Public));
        private.push(Attribute::Class(ObjectClass::PRIVATE_KEY));
        private.extend(guarded);
        private.extend(extra(ObjectKind::Private));
        let made = session.generate_key_pair(&mechanism, &public, &private);
        made.map(|(public, private)| Self::Pair { public, private }).map_err(|error| unless_mechanism(error, algorithm))
    }

    /// In the order in which they are removed: a public key that is left alone would look like a destroyed key's.
    fn objects(&self) -> Vec<ObjectHandle> {
        match self {
            Self::Pair { public, private } => vec![*public, *private],
            Self::Secret(secret) => vec![*secret],
        }
    }

    /// Gives a new pair its id and checks the key like any loaded one; then it has to work once.
    fn finish(&self, session: &Session, label: &KeyLabel, identity: Option<&LoadedKey>) -> Result<LoadedKey, KeyFault> {
        let (id, publics, private) = match self {
            Self::Pair { public, private } => {
                let (_, spki) = attributes::public_key(session, *public)?.ok_or(KeyFault::Unverified)?;
                let id = Sha256::of(&[&spki]).0.to_vec();
                // The private key first, for the same reason.
                for object in [*private, *public] {
                    session.update_attributes(object, &[Attribute::Id(id.clone())])?;
                }
                if let Err(error) = session.update_attributes(*private, &[Attribute::Copyable(false)]) {
                    tracing::debug!(%error, %label, "the module does not lock copying after generation");
                }
                (id, Publics::of(session, &[(*public, ObjectClass::PUBLIC_KEY)])?, *private)
            }
            Self::Secret(secret) => {
                let (id, _) = attributes::id_and_label(session, *secret)?;
                (id, Publics::default(), *secret)
            }
        };
        let key = match keyring::accepted(session, private, &id, &label.to_string(), &publics) {
            Ok(key) => key,
            Err(NotAccepted::Module(error)) => return Err(error.into()),
            Err(NotAccepted::Because(why)) => {
                tracing::error!(why, %label, "a new key did not pass its check");
                return Err(KeyFault::Unverified);
            }
        };
        signing::self_test(session, &key, identity).map_err(|fault| {
            tracing::error!(?fault, %label, "a new key does not work");
            KeyFault::Unverified
        })?;
        Ok(key)
    }
}

/// As configured; the configuration was checked to be in the vendor's range and hexadecimal.
fn vendor_attribute(extra: &ExtraAttribute) -> Attribute {
    let value = hex::decode(&extra.value_hex).unwrap_or_default();
    Attribute::VendorDefined((AttributeType::VendorDefined(extra.kind), value))
}

/// A module may list a mechanism and still not know the curve or the size.
fn unless_mechanism(error: Error, algorithm: Algorithm) -> KeyFault {
    match error {
        Error::Pkcs11(
            code @ (RvError::CurveNotSupported
            | RvError::DomainParamsInvalid
            | RvError::MechanismInvalid
            | RvError::MechanismParamInvalid
            | RvError::KeySizeRange),
            _,
        ) => mechanism_missing(algorithm, &format!("{code:?}")),
        error => KeyFault::Module(error),
    }
}

/// Why this key itself does not work any more, when that is so: another worker may have retired or destroyed it.
pub fn why_not(id: KeyId, presence: Presence, rule: CustodyRule) -> Option<HsmFault> {
    match present(id, presence) {
        Ok(key) => ensure_active(&key.info, rule).err(),
        Err(fault) => Some(fault.into()),
    }
}
