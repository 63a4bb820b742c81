//! AES-256-GCM under a wrapping key of the token: small secrets go in, and come out only with the same context. Where the
//! module has no AES-GCM, the wrapping key is an RSA one and [`super::oaep`] does it.
//!
//! Nonces are random, 96 bits: NIST SP 800-38D, 8.3 allows 2^32 sealed texts a key, which is why these keys seal keys
//! and credentials and are rotated, and why nothing else is sealed with them.

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use cryptoki::types::Ulong;
use zeroize::Zeroizing;

use super::keyring::LoadedKey;
use super::oaep;
use super::signing::SigningFault;
use crate::hsm::{KeyInfo, Plaintext};
use crate::kernel::sign::Algorithm;
use crate::ops::clock;

pub const NONCE_BYTES: usize = 12;
pub const TAG_BYTES: usize = 16;
const TAG_BITS: Ulong = Ulong::new(128);

/// Seals under an AES or an RSA key; what is sealed under the latter the token's identity signs.
pub fn seal(
    session: &Session,
    key: &LoadedKey,
    identity: Option<&LoadedKey>,
    context: &[u8],
    plaintext: &Plaintext,
) -> Result<Vec<u8>, SigningFault> {
    let associated = associated_data(&key.info, context);
    match key.info.algorithm {
        Algorithm::Aes256 => by_module(session, key.private, &associated, plaintext),
        Algorithm::Rsa3072 => {
            let identity = identity.ok_or(SigningFault::Unverified)?;
            oaep::seal(session, key, identity, &associated, plaintext)
        }
        // No purpose that seals has any of them.
        Algorithm::P256 | Algorithm::P384 | Algorithm::Ed25519 => Err(SigningFault::Unverified),
    }
}

/// The plaintext. Modules have no common code for a tag that does not fit: whether an error is the text's or the
/// module's, another key tells.
pub fn unseal(
    session: &Session,
    key: &LoadedKey,
    identity: Option<&LoadedKey>,
    context: &[u8],
    sealed: &[u8],
) -> Result<Plaintext, SigningFault> {
    let associated = associated_data(&key.info, context);
    match key.info.algorithm {
        Algorithm::Aes256 => opened_by_module(session, key.private, &associated, sealed),
        Algorithm::Rsa3072 => {
            let identity = identity.ok_or(SigningFault::Unverified)?;
            oaep::unseal(session, key, identity, &associated, sealed)
        }
        Algorithm::P256 | Algorithm::P384 | Algorithm::Ed25519 => Err(SigningFault::Unverified),
    }
}

/// Nonce, ciphertext, tag.
fn by_module(
    session: &Session,
    secret: ObjectHandle,
    associated: &[u8],
    plaintext: &Plaintext,
) -> Result<Vec<u8>, SigningFault> {
    let nonce = clock::random::<NONCE_BYTES>();
    // A copy: the interface lets modules write to it.
    let mut given = nonce;
    let parameters = GcmParams::new(&mut given, associated, TAG_BITS).map_err(SigningFault::Module)?;
    let sealed = session.encrypt(&Mechanism::AesGcm(parameters), secret, &plaintext.0).map_err(SigningFault::Module)?;
    // A module that chose another nonce than the one given would make texts that nobody opens.
    if given != nonce || sealed.len() != plaintext.0.len() + TAG_BYTES {
        return Err(SigningFault::Unverified);
    }
    Ok([nonce.as_slice(), &sealed].concat())
}

fn opened_by_module(
    session: &Session,
    secret: ObjectHandle,
    associated: &[u8],
    sealed: &[u8],
) -> Result<Plaintext, SigningFault> {
    let (nonce, text) = sealed.split_at_checked(NONCE_BYTES).ok_or(SigningFault::Unverified)?;
    if text.len() < TAG_BYTES {
        return Err(SigningFault::Unverified);
    }
    let mut nonce = nonce.to_vec();
    let parameters = GcmParams::new(&mut nonce, associated, TAG_BITS).map_err(SigningFault::Module)?;
    let plaintext = session.decrypt(&Mechanism::AesGcm(parameters), secret, text).map_err(SigningFault::Module)?;
    Ok(Plaintext(Zeroizing::new(plaintext)))
}

/// Nothing sealed for one purpose opens for another, whatever the context.
fn associated_data(key: &KeyInfo, context: &[u8]) -> Vec<u8> {
    [b"countersign/sealed/v1\0".as_slice(), key.purpose.slug().as_bytes(), &[0], context].concat()
}
