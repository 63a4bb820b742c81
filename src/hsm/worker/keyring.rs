//! The token's keys: found once after login, checked, and kept for as long as the login lasts.
//!
//! A look-up costs time in proportion to the number of objects; a handle costs nothing. What is not exactly a key
//! of ours (label, CKA_ID, type) is left out and logged. Other workers of the token make, retire and destroy keys
//! too, so what is kept here is looked up anew when the token contradicts it. An empty find is no proof that a key
//! is gone: a token that went away shows nothing, and SoftHSM2 2.6.1 shows nothing of an object while another thread reads
//! its file anew (it discards the attributes first) or another process writes it (it empties the file first, and unlocks it
//! before it has written). So a key is gone when the same session sees the identity key and not this one, looked at
//! several times while no other thread is in the module.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::attributes;
use super::signing::{self, SigningFault};
use crate::hsm::label::KeyLabel;
use crate::hsm::{CustodyAttributes, KeyInfo, KeyState};
use crate::kernel::sign::{Algorithm, Purpose};
use crate::kernel::types::{KeyId, Sha256};

/// CKA_APPLICATION of the data object that holds the place of a destroyed AES key.
pub const MARK: &[u8] = b"countersign destroyed key";

/// A key whose public half alone is seen is looked for so often, with so much time between for who is writing it, before
/// it counts as destroyed.
const LOOKS: u32 = 3;
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// One key and its handle, valid for any session of this login.
#[derive(Clone, Debug)]
pub struct LoadedKey {
    pub info: KeyInfo,
    /// The private or secret key.
    pub private: ObjectHandle,
}

/// What became of a key.
#[derive(Clone, Debug)]
pub enum Presence {
    Here(Arc<LoadedKey>),
    /// Its private or secret key is gone, its place is kept.
    Destroyed(KeyInfo),
    Unknown,
}

/// What one look at the token has shown of a key.
struct Looked {
    publics: Publics,
    /// A private or secret half is there, usable or not.
    here: bool,
    admitted: Option<LoadedKey>,
}

impl Looked {
    fn at(session: &Session, id: KeyId) -> Result<Self, Error> {
        let found = with_id(session, id)?;
        let publics = Publics::of(session, &found)?;
        let (mut here, mut admitted) = (false, None);
        for (object, _) in found.iter().filter(|(_, class)| *class != ObjectClass::PUBLIC_KEY) {
            here = true;
            let (bytes, label) = attributes::id_and_label(session, *object)?;
            if admitted.is_none() {
                admitted = admit(session, &bytes, &label, *object, &publics)?;
            }
        }
        Ok(Self { publics, here, admitted })
    }
}

/// Keys by CKA_ID.
#[derive(Debug, Default)]
pub struct Keyring {
    keys: RwLock<BTreeMap<KeyId, Arc<LoadedKey>>>,
    /// Keys that this login has found destroyed, not just in one look. One that is seen after all is none of them.
    gone: RwLock<BTreeMap<KeyId, KeyInfo>>,
    /// Held while a key is made or changed, so that no version is given twice.
    changing: Mutex<()>,
}

impl Keyring {
    /// Reads every key of the token and has the identity key sign once. The others were checked when they were made,
    /// and no signature is released that does not verify.
    ///
    /// # Errors
    /// The module's, when the token cannot be read at all.
    pub fn load(session: &Session) -> Result<Self, Error> {
        let keyring = Self::default();
        let keys = keyring.read_anew(session, &Publics::read(session)?)?;
        keyring.replace(&BTreeMap::new(), keys);
        if let Some(identity) = keyring.identity() {
            match signing::self_test(session, &identity, None) {
                Ok(()) => {}
                Err(SigningFault::Module(error)) => return Err(error),
                Err(SigningFault::Unverified) => {
                    tracing::warn!(label = identity.info.label, "the identity key does not sign: it is not used");
                    keyring.forget(identity.info.id);
                }
            }
        }
        Ok(keyring)
    }

    /// The key as it is remembered.
    pub fn find(&self, id: KeyId) -> Option<Arc<LoadedKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The key that recognises the token: the first version, should there be several.
    pub fn identity(&self) -> Option<Arc<LoadedKey>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let identities = keys.values().filter(|key| key.info.purpose == Purpose::TokenIdentity);
        identities.min_by_key(|key| key.info.version).cloned()
    }

    /// A key that this login has found destroyed.
    pub fn gone(&self, id: KeyId) -> Option<KeyInfo> {
        self.gone.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// What became of a key, as far as that can be known. To be asked while no other thread is in the module.
    ///
    /// # Errors
    /// The module's; CKR_TOKEN_NOT_PRESENT when neither it nor the identity key is seen.
    pub fn presence(&self, session: &Session, id: KeyId) -> Result<Presence, Error> {
        for _ in 1..LOOKS {
            match self.reload_key(session, id)? {
                Presence::Destroyed(_) => std::thread::sleep(LOOK_PAUSE),
                seen @ (Presence::Here(_) | Presence::Unknown) => return Ok(seen),
            }
        }
        let seen = self.reload_key(session, id)?;
        if let Presence::Destroyed(info) = &seen {
            self.remember_gone(info.clone());
        }
        Ok(seen)
    }

    /// [`Self::list`], as far as it can be known which keys are destroyed. To be asked while no other thread is in the module.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn list_surely(&self, session: &Session) -> Result<Vec<KeyInfo>, Error> {
        for _ in 1..LOOKS {
            let keys = self.list(session)?;
            if self.are_sure(&keys) {
                return Ok(keys);
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        let keys = self.list(session)?;
        let gone = keys.iter().filter(|key| key.state == KeyState::Destroyed);
        gone.for_each(|key| self.remember_gone(key.clone()));
        Ok(keys)
    }

    /// Every key that is listed as destroyed was found so, not just in one look.
    pub fn are_sure(&self, keys: &[KeyInfo]) -> bool {
        keys.iter().all(|key| key.state != KeyState::Destroyed || self.gone(key.id).is_some())
    }

    fn remember_gone(&self, info: KeyInfo) {
        self.gone.write().unwrap_or_else(PoisonError::into_inner).insert(info.id, info);
    }

    /// Looks the key up in the token by its CKA_ID, whatever is remembered of it. That it is not seen is no proof while
    /// other threads are in the module: [`Self::presence`].
    ///
    /// # Errors
    /// The module's; CKR_TOKEN_NOT_PRESENT when neither it nor the identity key is seen.
    pub fn reload_key(&self, session: &Session, id: KeyId) -> Result<Presence, Error> {
        let mut looked = Looked::at(session, id)?;
        if looked.admitted.is_none() && !looked.here {
            // Another thread may just have been logging in anew: what is not seen before the identity key is seen and
            // not after it either is not there.
            self.ensure_token(session)?;
            looked = Looked::at(session, id)?;
        }
        let Looked { publics, here, admitted } = looked;
        if let Some(key) = admitted {
            return Ok(Presence::Here(self.insert(key)));
        }
        self.ensure_token(session)?;
        self.forget(id);
        if here {
            return Ok(Presence::Unknown);
        }
        let marks = marks(session)?;
        let gone = publics.keys.values().filter_map(destroyed_pair).chain(marks).find(|key| key.id == id);
        Ok(gone.map_or(Presence::Unknown, Presence::Destroyed))
    }

    /// Every key, ordered by label, with custody attributes and state read now; what other workers made or destroyed
    /// included. What is listed as destroyed may be so only in this look: [`Self::list_surely`].
    ///
    /// # Errors
    /// The module's; CKR_TOKEN_NOT_PRESENT when the identity key is not seen: a token that went away shows no keys,
    /// which is not the same as having none.
    pub fn list(&self, session: &Session) -> Result<Vec<KeyInfo>, Error> {
        let publics = Publics::read(session)?;
        let known = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        let keys = self.read_anew(session, &publics)?;
        self.ensure_token(session)?;
        let gone = publics.keys.values().filter_map(destroyed_pair).chain(marks(session)?);
        let gone = gone.filter(|key| !keys.contains_key(&key.id));
        let mut all: Vec<KeyInfo> = keys.values().map(|key| key.info.clone()).chain(gone).collect();
        all.sort_by(|a, b| a.label.cmp(&b.label));
        self.replace(&known, keys);
        Ok(all)
    }

    /// Every usable key as the token shows it now; what is remembered spares the reading of what never changes.
    fn read_anew(&self, session: &Session, publics: &Publics) -> Result<BTreeMap<KeyId, Arc<LoadedKey>>, Error> {
        let mut keys = BTreeMap::new();
        for (id, label, private) in privates(session)? {
            let remembered = <[u8; 32]>::try_from(id.as_slice()).ok().and_then(|id| self.find(Sha256(id)));
            let key = match remembered.filter(|key| key.private == private && key.info.label == label) {
                Some(key) => {
                    let (custody, state) = attributes::custody_and_state(session, private)?;
                    let state = publics.state_of(&key.info, state);
                    Some(LoadedKey { info: KeyInfo { custody, state, ..key.info.clone() }, private })
                }
                None => admit(session, &id, &label, private, publics)?,
            };
            let Some(key) = key else {
                continue;
            };
            if keys.contains_key(&key.info.id) {
                tracing::warn!(label, "two keys have this key's id; the first is used");
                continue;
            }
            keys.insert(key.info.id, Arc::new(key));
        }
        Ok(keys)
    }

    /// Remembers what was read. A key that came in meanwhile stays; one of `before` that was not read goes.
    fn replace(&self, before: &BTreeMap<KeyId, Arc<LoadedKey>>, read: BTreeMap<KeyId, Arc<LoadedKey>>) {
        self.gone.write().unwrap_or_else(PoisonError::into_inner).retain(|id, _| !read.contains_key(id));
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|id, _| !before.contains_key(id));
        keys.extend(read);
    }

    /// Passes when the token shows the private half of its identity key to this session: one that is not logged in
    /// any more sees the public halves only, as if all keys were destroyed.
    fn ensure_token(&self, session: &Session) -> Result<(), Error> {
        let seen = match self.identity() {
            Some(identity) => {
                let found = with_id(session, identity.info.id)?;
                found.iter().any(|(_, class)| *class == ObjectClass::PRIVATE_KEY)
            }
            None => false,
        };
        if seen { Ok(()) } else { Err(Error::Pkcs11(RvError::TokenNotPresent, Function::FindObjects)) }
    }

    /// Waits for its turn to make or change a key.
    pub fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn insert(&self, key: LoadedKey) -> Arc<LoadedKey> {
        let key = Arc::new(key);
        self.gone.write().unwrap_or_else(PoisonError::into_inner).remove(&key.info.id);
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(key.info.id, Arc::clone(&key));
        key
    }

    pub fn forget(&self, id: KeyId) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
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
        let (id, label) = attributes::id_and_label(session, public)?;
        let is_identity = KeyLabel::parse(&label).is_some_and(|label| label.purpose == Purpose::TokenIdentity);
        if let (true, Ok(id)) = (is_identity, <[u8; 32]>::try_from(id)) {
            return Ok(Some(Sha256(id)));
        }
    }
    Ok(None)
}

/// A key of ours; what is none is logged.
fn admit(
    session: &Session,
    id: &[u8],
    label: &str,
    private: ObjectHandle,
    publics: &Publics,
) -> Result<Option<LoadedKey>, Error> {
    match accepted(session, private, id, label, publics) {
        Ok(key) => {
            if key.info.state == KeyState::Active && !key.info.custody.is_sound() {
                tracing::warn!(label, "this key's custody attributes are not sound");
            }
            Ok(Some(key))
        }
        Err(NotAccepted::Because(why)) => {
            tracing::warn!(label, why, "a key of the token is not used");
            Ok(None)
        }
        Err(NotAccepted::Module(error)) => Err(error),
    }
}

/// The public keys of a token by CKA_ID, as read: label, algorithm, SubjectPublicKeyInfo.
#[derive(Debug, Default)]
pub struct Publics {
    keys: BTreeMap<Vec<u8>, PublicKey>,
}

#[derive(Clone, Debug)]
struct PublicKey {
    id: Vec<u8>,
    label: String,
    key: Option<(Algorithm, Vec<u8>)>,
    /// Of a key that seals.
    encrypts: Option<bool>,
}

impl Publics {
    fn read(session: &Session) -> Result<Self, Error> {
        let found = session.find_objects(&[Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Token(true)])?;
        let found: Vec<_> = found.into_iter().map(|object| (object, ObjectClass::PUBLIC_KEY)).collect();
        Self::of(session, &found)
    }

    pub fn of(session: &Session, objects: &[(ObjectHandle, ObjectClass)]) -> Result<Self, Error> {
        let mut keys = BTreeMap::new();
        for (object, _) in objects.iter().filter(|(_, class)| *class == ObjectClass::PUBLIC_KEY) {
            let (id, label) = attributes::id_and_label(session, *object)?;
            let key = attributes::public_key(session, *object)?;
            let seals = KeyLabel::parse(&label).is_some_and(|label| label.purpose.seals());
            let encrypts = if seals { attributes::encrypts(session, *object)? } else { None };
            keys.insert(id.clone(), PublicKey { id, label, key, encrypts });
        }
        Ok(Self { keys })
    }

    /// The state of a key whose private or secret half says this: an RSA key that seals does so with its public half.
    fn state_of(&self, key: &KeyInfo, state: KeyState) -> KeyState {
        if !key.purpose.seals() || key.algorithm == Algorithm::Aes256 {
            return state;
        }
        match self.keys.get(key.id.0.as_slice()).and_then(|public| public.encrypts) {
            Some(false) => KeyState::VerifyOnly,
            Some(true) | None => KeyState::Active,
        }
    }
}

/// A public key of ours, taken for one whose private key is gone.
fn destroyed_pair(public: &PublicKey) -> Option<KeyInfo> {
    let label = KeyLabel::parse(&public.label)?;
    let (algorithm, spki) = public.key.clone()?;
    let id = Sha256::of(&[&spki]);
    let ours = id.0 == public.id.as_slice() && label.purpose.algorithms().contains(&algorithm);
    ours.then(|| destroyed(label, id, algorithm, spki))
}

fn destroyed(label: KeyLabel, id: KeyId, algorithm: Algorithm, spki: Vec<u8>) -> KeyInfo {
    let (custody, state) = (CustodyAttributes::WORST, KeyState::Destroyed);
    info_of(label, id, algorithm, spki, custody, state)
}

/// The marks of destroyed AES keys.
fn marks(session: &Session) -> Result<Vec<KeyInfo>, Error> {
    let template = [Attribute::Class(ObjectClass::DATA), Attribute::Token(true), Attribute::Application(MARK.to_vec())];
    let mut all = Vec::new();
    for object in session.find_objects(&template)? {
        let (_, label) = attributes::id_and_label(session, object)?;
        let id = attributes::mark_value(session, object)?;
        if let (Some(label), Ok(id)) = (KeyLabel::parse(&label), <[u8; 32]>::try_from(id)) {
            all.push(destroyed(label, Sha256(id), Algorithm::Aes256, Vec::new()));
        }
    }
    Ok(all)
}

/// Private and secret keys: CKA_ID, label, handle.
fn privates(session: &Session) -> Result<Vec<(Vec<u8>, String, ObjectHandle)>, Error> {
    let mut all = Vec::new();
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::SECRET_KEY] {
        for object in session.find_objects(&[Attribute::Class(class), Attribute::Token(true)])? {
            let (id, label) = attributes::id_and_label(session, object)?;
            all.push((id, label, object));
        }
    }
    Ok(all)
}

/// The public half of a key.
///
/// # Errors
/// The module's; CKR_OBJECT_HANDLE_INVALID when there is none.
pub fn public_half(session: &Session, id: KeyId) -> Result<ObjectHandle, Error> {
    let found = with_id(session, id)?.into_iter().find(|(_, class)| *class == ObjectClass::PUBLIC_KEY);
    found.map(|(object, _)| object).ok_or(Error::Pkcs11(RvError::ObjectHandleInvalid, Function::FindObjects))
}

/// The keys with this CKA_ID, with their class.
fn with_id(session: &Session, id: KeyId) -> Result<Vec<(ObjectHandle, ObjectClass)>, Error> {
    let mut all = Vec::new();
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::SECRET_KEY, ObjectClass::PUBLIC_KEY] {
        let template = [Attribute::Class(class), Attribute::Token(true), Attribute::Id(id.0.to_vec())];
        all.extend(session.find_objects(&template)?.into_iter().map(|object| (object, class)));
    }
    Ok(all)
}

/// Why an object of the token is not used as a key.
#[derive(Debug)]
pub enum NotAccepted {
    Because(&'static str),
    /// Nothing is known of the object: the module failed.
    Module(Error),
}

impl From<&'static str> for NotAccepted {
    fn from(why: &'static str) -> Self {
        Self::Because(why)
    }
}

impl From<Error> for NotAccepted {
    fn from(error: Error) -> Self {
        Self::Module(error)
    }
}

/// A key of ours, or the reason why it is not used.
pub fn accepted(
    session: &Session,
    private: ObjectHandle,
    id: &[u8],
    label: &str,
    publics: &Publics,
) -> Result<LoadedKey, NotAccepted> {
    let label = KeyLabel::parse(label).ok_or("its label is not one of ours")?;
    let (algorithm, spki, key_id) = if label.purpose.seals() && attributes::is_aes256(session, private)? {
        let id = <[u8; 32]>::try_from(id).map_err(|_| "its id has not 32 bytes")?;
        (Algorithm::Aes256, Vec::new(), Sha256(id))
    } else {
        let public = publics.keys.get(id).ok_or("its public key is missing")?;
        let (algorithm, spki) = public.key.clone().ok_or("its public key is of no known type")?;
        let key_id = Sha256::of(&[&spki]);
        if key_id.0 != id {
            return Err(NotAccepted::Because("its id is not the SHA-256 of its public key"));
        }
        (algorithm, spki, key_id)
    };
    if !label.purpose.algorithms().contains(&algorithm) {
        return Err(NotAccepted::Because("its public key is not of a type its purpose may have"));
    }
    if label.purpose.seals() && algorithm != Algorithm::Aes256 && !attributes::only_decrypts(session, private)? {
        return Err(NotAccepted::Because("it may do something else than decrypt"));
    }
    let (custody, state) = attributes::custody_and_state(session, private)?;
    let mut info = info_of(label, key_id, algorithm, spki, custody, state);
    info.state = publics.state_of(&info, state);
    Ok(LoadedKey { info, private })
}

fn info_of(
    label: KeyLabel,
    id: KeyId,
    algorithm: Algorithm,
    spki: Vec<u8>,
    custody: CustodyAttributes,
    state: KeyState,
) -> KeyInfo {
    KeyInfo {
        id,
        label: label.to_string(),
        purpose: label.purpose,
        agent: label.agent.map(|agent| agent.to_string()),
        version: label.version,
        algorithm,
        spki,
        custody,
        state,
    }
}
