//! The token's keys: found once after login, checked, and kept for as long as the login lasts.
//!
//! A look-up costs time in proportion to the number of objects; a handle costs nothing. What is not exactly a key
//! of ours (label, CKA_ID, type, working signature) is left out and logged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::signing;
use crate::hsm::label::KeyLabel;
use crate::hsm::{CustodyAttributes, KeyInfo};
use crate::kernel::sign::{Algorithm, Purpose, SignInput, spki_der};
use crate::kernel::types::{KeyId, Sha256};
use crate::ops::clock;

/// DER OBJECT IDENTIFIER of prime256v1 and Ed25519 (RFC 5480, RFC 8410), as CKA_EC_PARAMS.
const CURVE_P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const CURVE_ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

/// One key and its handle, valid for any session of this login.
#[derive(Clone, Debug)]
pub struct LoadedKey {
    pub info: KeyInfo,
    pub private: ObjectHandle,
}

/// Keys by CKA_ID.
#[derive(Debug, Default)]
pub struct Keyring {
    keys: RwLock<BTreeMap<KeyId, Arc<LoadedKey>>>,
    /// Held while a key is made, so that no version is given twice.
    generation: Mutex<()>,
}

/// Why no key was made.
#[derive(Debug)]
pub enum GenerationFault {
    /// A rule said no: name and message.
    Refused(&'static str, String),
    Module(Error),
    /// The new key does not verify its own signature; it was destroyed.
    Unverified,
}

impl From<Error> for GenerationFault {
    fn from(error: Error) -> Self {
        Self::Module(error)
    }
}

impl Keyring {
    /// Reads every key pair of the token and has each sign once.
    ///
    /// # Errors
    /// The module's, when the token cannot be read at all.
    pub fn load(session: &Session) -> Result<Self, Error> {
        let mut points = BTreeMap::new();
        for public in session.find_objects(&[Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Token(true)])? {
            let (id, _, point) = id_label_point(session, public)?;
            points.insert(id, point);
        }
        let mut keys = BTreeMap::new();
        for private in session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Token(true)])? {
            let (id, label, _) = id_label_point(session, private)?;
            match accepted(session, private, &id, &label, points.get(&id).map(Vec::as_slice)) {
                Ok(key) if keys.contains_key(&key.info.id) => {
                    tracing::warn!(label, "two private keys have this key's id; the first is used");
                }
                Ok(key) => {
                    if !key.info.custody.is_sound() {
                        tracing::warn!(label, "this key's custody attributes are not sound");
                    }
                    keys.insert(key.info.id, Arc::new(key));
                }
                Err(why) => tracing::warn!(label, why, "a private key of the token is not used"),
            }
        }
        Ok(Self { keys: RwLock::new(keys), generation: Mutex::new(()) })
    }

    pub fn find(&self, id: KeyId) -> Option<Arc<LoadedKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Looks for one key in the token itself, so that a key that another worker made is found, and one that it
    /// destroyed is forgotten. True when it is there.
    ///
    /// # Errors
    /// The module's; also when the token shows no identity key, since an empty answer is then no proof.
    pub fn look_again(&self, session: &Session, id: KeyId) -> Result<bool, Error> {
        let wanted = |class| [Attribute::Class(class), Attribute::Token(true), Attribute::Id(id.0.to_vec())];
        let public = session.find_objects(&wanted(ObjectClass::PUBLIC_KEY))?.first().copied();
        let private = session.find_objects(&wanted(ObjectClass::PRIVATE_KEY))?.first().copied();
        let (Some(public), Some(private)) = (public, private) else {
            let identity = self.identity().map(|identity| identity.info.id);
            if !identity.is_some_and(|identity| shows(session, identity).unwrap_or(false)) {
                return Err(Error::Pkcs11(RvError::TokenNotPresent, Function::FindObjects));
            }
            self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
            return Ok(false);
        };
        let (_, _, point) = id_label_point(session, public)?;
        let (_, label, _) = id_label_point(session, private)?;
        match accepted(session, private, &id.0, &label, Some(&point)) {
            Ok(key) => {
                self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(key));
                Ok(true)
            }
            Err(why) => {
                tracing::warn!(label, why, "a private key of the token is not used");
                self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
                Ok(false)
            }
        }
    }

    /// The key that recognises the token: the first version, should there be several.
    pub fn identity(&self) -> Option<Arc<LoadedKey>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let identities = keys.values().filter(|key| key.info.purpose == Purpose::TokenIdentity);
        identities.min_by_key(|key| key.info.version).cloned()
    }

    /// Every key, ordered by label, with custody attributes read now.
    ///
    /// # Errors
    /// The module's: a token that went away shows no keys, which is not the same as having none.
    pub fn list(&self, session: &Session) -> Result<Vec<KeyInfo>, Error> {
        let loaded: Vec<Arc<LoadedKey>> =
            self.keys.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut all = Vec::with_capacity(loaded.len());
        for key in loaded {
            all.push(KeyInfo { custody: custody(session, key.private)?, ..key.info.clone() });
        }
        all.sort_by(|a, b| a.label.cmp(&b.label));
        Ok(all)
    }

    /// Makes a key pair with the next free version of its label. Needs a read-write session.
    ///
    /// The pair carries a random id until its public key is known. A pair whose making was cut off has no fitting id
    /// and is never used. CKA_COPYABLE and CKA_MODIFIABLE go off last, as far as the module lets them: SoftHSM2
    /// 2.6.1 refuses both after creation, so there whoever has the PIN could give a key another label. What no PIN
    /// changes: CKA_SENSITIVE and not CKA_EXTRACTABLE (PKCS#11 v2.40, 4.9), and an id that is the public key's hash.
    ///
    /// # Errors
    /// [`GenerationFault`].
    pub fn generate(
        &self,
        session: &Session,
        party: &str,
        purpose: Purpose,
        agent: Option<&str>,
    ) -> Result<KeyInfo, GenerationFault> {
        let refused = |name, message: String| GenerationFault::Refused(name, message);
        let party = party.parse().map_err(|error| refused("input_malformed", format!("{error}")))?;
        let agent =
            agent.map(str::parse).transpose().map_err(|error| refused("input_malformed", format!("{error}")))?;
        if agent.is_some() != (purpose == Purpose::Agent) {
            return Err(refused("input_malformed", "keys of purpose agent, and only they, name an agent".into()));
        }
        if purpose == Purpose::TokenIdentity && self.identity().is_some() {
            return Err(refused("identity_exists", "a token has one identity key for its whole life".into()));
        }
        let guard = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        let mut label = KeyLabel { party, purpose, agent, version: 1 };
        label.version = next_version(session, &label)?;
        let (public, private) = generate_pair(session, &label)?;
        let outcome = finish(session, &label, public, private);
        match outcome {
            Ok(key) => {
                let info = key.info.clone();
                self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(info.id, Arc::new(key));
                drop(guard);
                Ok(info)
            }
            Err(fault) => {
                for object in [private, public] {
                    if let Err(error) = session.destroy_object(object) {
                        tracing::warn!(%error, %label, "a half-made key could not be removed; it is never used");
                    }
                }
                Err(fault)
            }
        }
    }
}

/// True when the token shows the public half of this key, also before a login.
///
/// # Errors
/// The module's.
pub fn shows(session: &Session, id: KeyId) -> Result<bool, Error> {
    let wanted = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Token(true), Attribute::Id(id.0.to_vec())];
    Ok(!session.find_objects(&wanted)?.is_empty())
}

/// An identity key whose public half the token shows.
///
/// # Errors
/// The module's.
pub fn shown_identity(session: &Session) -> Result<Option<KeyId>, Error> {
    for public in session.find_objects(&[Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Token(true)])? {
        let (id, label, _) = id_label_point(session, public)?;
        let is_identity = KeyLabel::parse(&label).is_some_and(|label| label.purpose == Purpose::TokenIdentity);
        if let (true, Ok(id)) = (is_identity, id.try_into()) {
            return Ok(Some(Sha256(id)));
        }
    }
    Ok(None)
}

/// 1 + the highest version of this label on any object of the token: private, public, or a left-over half.
fn next_version(session: &Session, label: &KeyLabel) -> Result<u32, GenerationFault> {
    let mut highest = 0;
    for object in session.find_objects(&[Attribute::Token(true)])? {
        let (_, text, _) = id_label_point(session, object)?;
        if let Some(other) = KeyLabel::parse(&text).filter(|other| other.same_stem(label)) {
            highest = highest.max(other.version);
        }
    }
    highest
        .checked_add(1)
        .ok_or_else(|| GenerationFault::Refused("versions_exhausted", format!("{label} has no next version")))
}

/// The attributes that every EC-capable module accepted, and no more.
fn generate_pair(session: &Session, label: &KeyLabel) -> Result<(ObjectHandle, ObjectHandle), Error> {
    let (mechanism, curve) = match label.purpose.algorithm() {
        Algorithm::P256 => (Mechanism::EccKeyPairGen, CURVE_P256),
        Algorithm::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, CURVE_ED25519),
    };
    let (text, id) = (label.to_string().into_bytes(), clock::random::<32>().to_vec());
    let public = [
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Verify(true),
        Attribute::Label(text.clone()),
        Attribute::Id(id.clone()),
        Attribute::EcParams(curve.to_vec()),
    ];
    let private = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Label(text),
        Attribute::Id(id),
    ];
    session.generate_key_pair(&mechanism, &public, &private)
}

/// Gives a new pair its id, locks it, and checks it like any loaded key.
fn finish(
    session: &Session,
    label: &KeyLabel,
    public: ObjectHandle,
    private: ObjectHandle,
) -> Result<LoadedKey, GenerationFault> {
    let (_, _, point) = id_label_point(session, public)?;
    let spki = spki(label.purpose.algorithm(), &point).ok_or(GenerationFault::Unverified)?;
    let id = Sha256::of(&[&spki]).0.to_vec();
    for object in [public, private] {
        session.update_attributes(object, &[Attribute::Id(id.clone())])?;
        for lock in [Attribute::Copyable(false), Attribute::Modifiable(false)] {
            if let Err(error) = session.update_attributes(object, &[lock]) {
                tracing::debug!(%error, %label, "the module does not lock this attribute after generation");
            }
        }
    }
    accepted(session, private, &id, &label.to_string(), Some(&point)).map_err(|why| {
        tracing::error!(why, %label, "a new key did not pass its check");
        GenerationFault::Unverified
    })
}

/// A key of ours, or the reason why it is not used.
fn accepted(
    session: &Session,
    private: ObjectHandle,
    id: &[u8],
    label: &str,
    point: Option<&[u8]>,
) -> Result<LoadedKey, &'static str> {
    let parsed = KeyLabel::parse(label).ok_or("its label is not one of ours")?;
    let algorithm = parsed.purpose.algorithm();
    let point = point.ok_or("its public key is missing")?;
    let spki = spki(algorithm, point).ok_or("its public key is not of the type its purpose needs")?;
    let key_id = Sha256::of(&[&spki]);
    if key_id.0 != id {
        return Err("its id is not the SHA-256 of its public key");
    }
    let custody = custody(session, private).map_err(|_| "its custody attributes cannot be read")?;
    let info = KeyInfo {
        id: key_id,
        label: label.to_owned(),
        purpose: parsed.purpose,
        agent: parsed.agent.map(|agent| agent.to_string()),
        version: parsed.version,
        algorithm,
        spki,
        custody,
    };
    let test = SignInput::SelfTest { nonce: clock::random() };
    signing::sign(session, &info, private, &test).map_err(|_| "its self-test signature does not verify")?;
    Ok(LoadedKey { info, private })
}

/// Attributes that a module does not answer count as the worst.
fn custody(session: &Session, private: ObjectHandle) -> Result<CustodyAttributes, Error> {
    let mut custody = CustodyAttributes {
        sensitive: false,
        always_sensitive: false,
        never_extractable: false,
        extractable: true,
        local: false,
    };
    let wanted = [
        AttributeType::Sensitive,
        AttributeType::AlwaysSensitive,
        AttributeType::NeverExtractable,
        AttributeType::Extractable,
        AttributeType::Local,
    ];
    for attribute in session.get_attributes(private, &wanted)? {
        match attribute {
            Attribute::Sensitive(value) => custody.sensitive = value,
            Attribute::AlwaysSensitive(value) => custody.always_sensitive = value,
            Attribute::NeverExtractable(value) => custody.never_extractable = value,
            Attribute::Extractable(value) => custody.extractable = value,
            Attribute::Local(value) => custody.local = value,
            _ => {}
        }
    }
    Ok(custody)
}

/// CKA_ID, CKA_LABEL and, of a public key, CKA_EC_POINT; empty where there is none.
fn id_label_point(session: &Session, object: ObjectHandle) -> Result<(Vec<u8>, String, Vec<u8>), Error> {
    let (mut id, mut label, mut point) = (Vec::new(), String::new(), Vec::new());
    let wanted = [AttributeType::Id, AttributeType::Label, AttributeType::EcPoint];
    for attribute in session.get_attributes(object, &wanted)? {
        match attribute {
            Attribute::Id(value) => id = value,
            Attribute::Label(value) => label = String::from_utf8_lossy(&value).into_owned(),
            Attribute::EcPoint(value) => point = value,
            _ => {}
        }
    }
    Ok((id, label, point))
}

/// SubjectPublicKeyInfo of a CKA_EC_POINT: the point in a DER OCTET STRING (PKCS#11 v2.40), or bare (some modules).
fn spki(algorithm: Algorithm, ec_point: &[u8]) -> Option<Vec<u8>> {
    let bare_length = match algorithm {
        Algorithm::P256 => 65,
        Algorithm::Ed25519 => 32,
    };
    let point = match ec_point {
        [0x04, length, point @ ..] if usize::from(*length) == bare_length && point.len() == bare_length => point,
        point if point.len() == bare_length => point,
        _ => return None,
    };
    let spki = spki_der(algorithm, point);
    crate::kernel::sign::raw_public_key(&spki).map(|_| ())?;
    Some(spki)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_wrapped_and_bare_and_nothing_else() {
        let mut p256 = vec![4; 65];
        let wrapped = [&[0x04, 65], p256.as_slice()].concat();
        assert_eq!(spki(Algorithm::P256, &wrapped), spki(Algorithm::P256, &p256));
        assert!(spki(Algorithm::P256, &p256).is_some());
        assert_eq!(spki(Algorithm::Ed25519, &[&[0x04, 32][..], &[7; 32]].concat()), spki(Algorithm::Ed25519, &[7; 32]));
        p256[0] = 3;
        for bad in [vec![], p256, vec![4; 64], vec![7; 32], wrapped[..66].to_vec()] {
            assert_eq!(spki(Algorithm::P256, &bad), None);
        }
    }
}
