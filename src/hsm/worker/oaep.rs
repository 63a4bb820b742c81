//! Sealing on a module that has no AES-GCM: a data key for each text, which encrypts it here and which only the token's RSA
//! key opens (RFC 8017, 7.1).
//!
//! A public key is public: with it alone anybody who writes to the store could seal a text of their own choice. So the
//! token's identity key signs what was sealed, and nothing is opened that it did not sign: as under an AES key, only who has
//! the token seals.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPublicEncryptingKey, PublicEncryptingKey,
};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::session::Session;
use zeroize::Zeroizing;

use super::keyring::LoadedKey;
use super::sealing::{NONCE_BYTES, TAG_BYTES};
use super::signing::{self, SigningFault};
use crate::hsm::Plaintext;
use crate::kernel::sign::signature_is_valid;
use crate::kernel::types::Sha256;
use crate::kernel::vault::Oaep;
use crate::ops::clock;

/// Bytes of an RSA-3072 ciphertext.
const WRAPPED_BYTES: usize = 384;
const DATA_KEY_BYTES: usize = 32;

type DataKey = Zeroizing<[u8; DATA_KEY_BYTES]>;

/// Header, length of the signature (one byte), signature (DER), wrapped data key (384), nonce (12), ciphertext, tag (16).
/// Header and `associated` are authenticated by AES-GCM, all of it by the signature.
pub fn seal(
    session: &Session,
    key: &LoadedKey,
    identity: &LoadedKey,
    associated: &[u8],
    plaintext: &Plaintext,
) -> Result<Vec<u8>, SigningFault> {
    let data_key = Zeroizing::new(clock::random::<DATA_KEY_BYTES>());
    let (way, wrapped) = wrap(session, key, &data_key)?;
    let header = way.header();
    let nonce = clock::random::<NONCE_BYTES>();
    let bound = [header.as_slice(), associated].concat();
    let unverified = |_| SigningFault::Unverified;
    // Whole from the beginning: a text that grows leaves copies.
    let mut text = Zeroizing::new(Vec::with_capacity(plaintext.0.len() + TAG_BYTES));
    text.extend_from_slice(&plaintext.0);
    cipher(&data_key)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&bound), &mut *text)
        .map_err(unverified)?;
    let body = [wrapped.as_slice(), &nonce, &text].concat();
    let signature = signing::sign_own(session, identity, &message(&bound, &body))?;
    let length = u8::try_from(signature.len()).map_err(|_| SigningFault::Unverified)?;
    Ok([header.as_slice(), &[length], &signature, &body].concat())
}

/// The plaintext of what this token has sealed.
pub fn unseal(
    session: &Session,
    key: &LoadedKey,
    identity: &LoadedKey,
    associated: &[u8],
    sealed: &[u8],
) -> Result<Plaintext, SigningFault> {
    let read = || {
        let (way, rest) = Oaep::read(sealed)?;
        let (length, rest) = rest.split_first()?;
        let (signature, body) = rest.split_at_checked(usize::from(*length))?;
        let (wrapped, rest) = body.split_at_checked(WRAPPED_BYTES)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_BYTES>()?;
        (text.len() >= TAG_BYTES).then_some((way, signature, body, wrapped, *nonce, text))
    };
    let (way, signature, body, wrapped, nonce, text) = read().ok_or(SigningFault::Unverified)?;
    let bound = [way.header().as_slice(), associated].concat();
    if !signature_is_valid(&identity.info.spki, &message(&bound, body), signature) {
        return Err(SigningFault::Unverified);
    }
    let data_key = unwrap(session, key, way, wrapped).map_err(SigningFault::Module)?;
    let data_key = DataKey::new(data_key.as_slice().try_into().map_err(|_| SigningFault::Unverified)?);
    let mut plaintext = Zeroizing::new(text.to_vec());
    let opened = cipher(&data_key)?
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(&bound), &mut plaintext)
        .map_err(|_| SigningFault::Unverified)?
        .len();
    plaintext.truncate(opened);
    Ok(Plaintext(plaintext))
}

/// The data key under the strongest hash that the module opens, seen to be opened by it.
fn wrap(session: &Session, key: &LoadedKey, data_key: &DataKey) -> Result<(Oaep, Vec<u8>), SigningFault> {
    let public = PublicEncryptingKey::from_der(&key.info.spki).map_err(|_| SigningFault::Unverified)?;
    let public = OaepPublicEncryptingKey::new(public).map_err(|_| SigningFault::Unverified)?;
    let mut refused = SigningFault::Unverified;
    for way in Oaep::ALL {
        let mut wrapped = vec![0; WRAPPED_BYTES];
        public.encrypt(hash(way), &**data_key, &mut wrapped, None).map_err(|_| SigningFault::Unverified)?;
        match unwrap(session, key, way, &wrapped) {
            Ok(opened) if opened.as_slice() == data_key.as_slice() => return Ok((way, wrapped)),
            Ok(_) => return Err(SigningFault::Unverified),
            Err(error) if is_about_the_hash(&error) => refused = SigningFault::Module(error),
            Err(error) => return Err(SigningFault::Module(error)),
        }
    }
    Err(refused)
}

fn unwrap(session: &Session, key: &LoadedKey, way: Oaep, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (hash, mask) = match way {
        Oaep::Sha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        Oaep::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
    };
    let parameters = PkcsOaepParams::new(hash, mask, PkcsOaepSource::empty());
    session.decrypt(&Mechanism::RsaPkcsOaep(parameters), key.private, wrapped).map(Zeroizing::new)
}

fn hash(way: Oaep) -> &'static OaepAlgorithm {
    match way {
        Oaep::Sha1 => &OAEP_SHA1_MGF1SHA1,
        Oaep::Sha256 => &OAEP_SHA256_MGF1SHA256,
    }
}

fn cipher(data_key: &DataKey) -> Result<LessSafeKey, SigningFault> {
    // Its memory is wiped by the library.
    UnboundKey::new(&AES_256_GCM, data_key.as_slice()).map(LessSafeKey::new).map_err(|_| SigningFault::Unverified)
}

/// What the token's identity signs.
fn message(bound: &[u8], body: &[u8]) -> Vec<u8> {
    [b"countersign/sealed-by/v1\0".as_slice(), &Sha256::of(&[bound]).0, &Sha256::of(&[body]).0].concat()
}

/// How modules answer a hash that they do not have, or do not heed.
fn is_about_the_hash(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::ArgumentsBad
                | RvError::MechanismInvalid
                | RvError::MechanismParamInvalid
                | RvError::EncryptedDataInvalid
                | RvError::FunctionNotSupported,
            _
        )
    )
}
