//! One signature: typed input in, signature out.
//!
//! Verifying costs as much as signing. What is stored, published or released is always verified. A proof of possession
//! (TLS CertificateVerify, a request) is verified by the peer before anything depends on it, and kept by nobody; what
//! another program has signed is verified by the signing service, on its own threads, before it is kept or released. So of
//! both only one in [`SAMPLE`] is verified here, to notice a module that goes wrong; from the first that does not verify,
//! all are.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aws_lc_rs::digest::{Algorithm as HashAlgorithm, SHA256, SHA384, digest};
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use zeroize::Zeroizing;

use super::keyring::LoadedKey;
use super::sealing;
use crate::hsm::{KeyInfo, Plaintext};
use crate::kernel::sign::{Algorithm, SignInput, digest_is_signed, ecdsa_der, lower_s, signature_is_valid};
use crate::ops::clock;

/// Why there is no signature.
#[derive(Debug)]
pub enum SigningFault {
    Module(Error),
    /// The module answered something that does not verify: it is kept here.
    Unverified,
}

/// DER `DigestInfo` up to the digest, for SHA-256 (RFC 8017, 9.2).
const DIGEST_INFO_SHA256: &[u8] =
    &[0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];

/// One of so many is verified of what others verify.
const SAMPLE: u32 = 64;

/// Whether a signature is verified before it leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    Verify,
    /// The peer does, or the signing service.
    LeaveToOthers,
}

/// Decides which proofs of possession, and signatures for other programs, are verified.
#[derive(Debug, Default)]
pub struct Sampler {
    taken: AtomicU32,
    /// A signature did not verify: none of this module is believed any more.
    distrusts: AtomicBool,
}

impl Sampler {
    pub fn check(&self, input: &SignInput) -> Check {
        match input {
            SignInput::TlsCertificateVerify { .. }
            | SignInput::HttpRequest { .. }
            | SignInput::External { .. }
            | SignInput::SelfTest { .. } => {
                let nth = self.taken.fetch_add(1, Ordering::Relaxed);
                let verified = nth.is_multiple_of(SAMPLE) || self.distrusts.load(Ordering::Relaxed);
                if verified { Check::Verify } else { Check::LeaveToOthers }
            }
            SignInput::Certificate { .. }
            | SignInput::Crl { .. }
            | SignInput::Ocsp { .. }
            | SignInput::CertificationRequest { .. }
            | SignInput::RelatedCertRequest { .. }
            | SignInput::Document { .. }
            | SignInput::TreeHead { .. }
            | SignInput::Cosignature { .. }
            | SignInput::AuditExport { .. }
            | SignInput::Jwt { .. }
            | SignInput::Mandate { .. } => Check::Verify,
        }
    }

    /// A signature did not verify.
    pub fn distrust(&self) {
        self.distrusts.store(true, Ordering::Relaxed);
    }
}

/// Signs input that passed the lint. Messages are hashed here: only plain CKM_ECDSA and CKM_RSA_PKCS are common to all
/// modules, and they sign a digest of any length, so none is ever taken from outside, but for the one kind of input that is
/// a digest of another program, whose length the lint has looked at. What was verified and does not verify is not released.
/// Of the two writings of an ECDSA signature it is the one with the smaller s.
pub fn sign(
    session: &Session,
    key: &KeyInfo,
    private: ObjectHandle,
    input: &SignInput,
    check: Check,
) -> Result<Vec<u8>, SigningFault> {
    let message = input.message();
    let signature = made(session, key, private, &message, input.is_digest())?;
    let is_valid = || {
        if input.is_digest() {
            digest_is_signed(&key.spki, &message, &signature)
        } else {
            signature_is_valid(&key.spki, &message, &signature)
        }
    };
    if check == Check::Verify && !is_valid() {
        return Err(SigningFault::Unverified);
    }
    Ok(signature)
}

/// A signature over a message that the worker itself has composed: what the token's identity says of what was sealed here.
/// Verified.
pub fn sign_own(session: &Session, key: &LoadedKey, message: &[u8]) -> Result<Vec<u8>, SigningFault> {
    let signature = made(session, &key.info, key.private, message, false)?;
    if signature_is_valid(&key.info.spki, message, &signature) { Ok(signature) } else { Err(SigningFault::Unverified) }
}

fn made(
    session: &Session,
    key: &KeyInfo,
    private: ObjectHandle,
    message: &[u8],
    is_digest: bool,
) -> Result<Vec<u8>, SigningFault> {
    let with =
        |mechanism: &Mechanism<'_>, data: &[u8]| session.sign(mechanism, private, data).map_err(SigningFault::Module);
    let hashed = |hash: &'static HashAlgorithm| {
        if is_digest { message.to_vec() } else { digest(hash, message).as_ref().to_vec() }
    };
    Ok(match key.algorithm {
        Algorithm::P256 => {
            let mut raw = with(&Mechanism::Ecdsa, &hashed(&SHA256))?;
            lower_s(key.algorithm, &mut raw);
            ecdsa_der(&raw, 32).ok_or(SigningFault::Unverified)?
        }
        Algorithm::P384 => {
            let mut raw = with(&Mechanism::Ecdsa, &hashed(&SHA384))?;
            lower_s(key.algorithm, &mut raw);
            ecdsa_der(&raw, 48).ok_or(SigningFault::Unverified)?
        }
        Algorithm::Ed25519 => with(&Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519)), message)?,
        Algorithm::Rsa3072 => {
            let digest = digest(&SHA256, message);
            with(&Mechanism::RsaPkcs, &[DIGEST_INFO_SHA256, digest.as_ref()].concat())?
        }
        // Its purposes permit no input; a caller that asks all the same gets nothing.
        Algorithm::Aes256 => return Err(SigningFault::Unverified),
    })
}

/// Has a key work once on random bytes: a signature that verifies, or a text that is sealed and opened.
pub fn self_test(session: &Session, key: &LoadedKey, identity: Option<&LoadedKey>) -> Result<(), SigningFault> {
    let nonce = clock::random::<32>();
    if !key.info.purpose.seals() {
        return sign(session, &key.info, key.private, &SignInput::SelfTest { nonce }, Check::Verify).map(drop);
    }
    let plaintext = Plaintext(Zeroizing::new(nonce.to_vec()));
    let context = b"self-test";
    let sealed = sealing::seal(session, key, identity, context, &plaintext)?;
    let opened = sealing::unseal(session, key, identity, context, &sealed)?;
    if opened == plaintext { Ok(()) } else { Err(SigningFault::Unverified) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::external::ExternalForm;
    use crate::kernel::sign::{DocumentTag, TlsSide};

    #[test]
    fn what_is_kept_is_always_verified_and_what_others_verify_now_and_then() {
        let sampler = Sampler::default();
        let verified = |input: &SignInput| (0..640).filter(|_| sampler.check(input) == Check::Verify).count();
        let document = SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json: vec![] };
        let proof = SignInput::TlsCertificateVerify { side: TlsSide::Server, transcript_hash: vec![0; 32] };
        let external = SignInput::External { form: ExternalForm::Jws, bytes: vec![] };
        assert_eq!((verified(&document), verified(&proof), verified(&external)), (640, 10, 10));
        sampler.distrust();
        assert_eq!((verified(&proof), verified(&external)), (640, 640));
    }
}
