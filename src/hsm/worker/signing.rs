//! One signature: typed input in, verified signature out.
//!
//! Verifying costs as much as signing. What is stored, published or released is always verified. A proof of possession
//! (TLS CertificateVerify, a request) is verified by the peer before anything depends on it, and kept by nobody, so only
//! one in [`SAMPLE`] is verified here, to notice a module that goes wrong; from the first that does not verify, all are.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aws_lc_rs::digest::{SHA256, SHA384, digest};
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use zeroize::Zeroizing;

use super::sealing;
use crate::hsm::{KeyInfo, Plaintext};
use crate::kernel::sign::{Algorithm, SignInput, ecdsa_der, lower_s, signature_is_valid};
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

/// One of so many proofs of possession is verified.
const SAMPLE: u32 = 64;

/// Whether a signature is verified before it leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    Verify,
    /// The peer does.
    LeaveToPeer,
}

/// Decides which proofs of possession are verified.
#[derive(Debug, Default)]
pub struct Sampler {
    taken: AtomicU32,
    /// A signature did not verify: none of this module is believed any more.
    distrusts: AtomicBool,
}

impl Sampler {
    pub fn check(&self, input: &SignInput) -> Check {
        match input {
            SignInput::TlsCertificateVerify { .. } | SignInput::HttpRequest { .. } | SignInput::SelfTest { .. } => {
                let nth = self.taken.fetch_add(1, Ordering::Relaxed);
                let verified = nth.is_multiple_of(SAMPLE) || self.distrusts.load(Ordering::Relaxed);
                if verified { Check::Verify } else { Check::LeaveToPeer }
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
/// modules, and they sign a digest of any length, so none is ever taken from outside. What was verified and does not
/// verify is not released. Of the two writings of an ECDSA signature it is the one with the smaller s.
pub fn sign(
    session: &Session,
    key: &KeyInfo,
    private: ObjectHandle,
    input: &SignInput,
    check: Check,
) -> Result<Vec<u8>, SigningFault> {
    let message = input.message();
    let with =
        |mechanism: &Mechanism<'_>, data: &[u8]| session.sign(mechanism, private, data).map_err(SigningFault::Module);
    let signature = match key.algorithm {
        Algorithm::P256 => {
            let mut raw = with(&Mechanism::Ecdsa, digest(&SHA256, &message).as_ref())?;
            lower_s(key.algorithm, &mut raw);
            ecdsa_der(&raw, 32).ok_or(SigningFault::Unverified)?
        }
        Algorithm::P384 => {
            let mut raw = with(&Mechanism::Ecdsa, digest(&SHA384, &message).as_ref())?;
            lower_s(key.algorithm, &mut raw);
            ecdsa_der(&raw, 48).ok_or(SigningFault::Unverified)?
        }
        Algorithm::Ed25519 => with(&Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519)), &message)?,
        Algorithm::Rsa3072 => {
            let digest = digest(&SHA256, &message);
            with(&Mechanism::RsaPkcs, &[DIGEST_INFO_SHA256, digest.as_ref()].concat())?
        }
        // Its purposes permit no input; a caller that asks all the same gets nothing.
        Algorithm::Aes256 => return Err(SigningFault::Unverified),
    };
    if check == Check::Verify && !signature_is_valid(&key.spki, &message, &signature) {
        return Err(SigningFault::Unverified);
    }
    Ok(signature)
}

/// Has a key work once on random bytes: a signature that verifies, or a text that is sealed and opened.
pub fn self_test(session: &Session, key: &KeyInfo, private: ObjectHandle) -> Result<(), SigningFault> {
    let nonce = clock::random::<32>();
    if !key.purpose.seals() {
        return sign(session, key, private, &SignInput::SelfTest { nonce }, Check::Verify).map(drop);
    }
    let plaintext = Plaintext(Zeroizing::new(nonce.to_vec()));
    let context = b"self-test";
    let sealed = sealing::seal(session, key, private, context, &plaintext)?;
    let opened = sealing::unseal(session, key, private, context, &sealed)?;
    if opened == plaintext { Ok(()) } else { Err(SigningFault::Unverified) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sign::{DocumentTag, TlsSide};

    #[test]
    fn what_is_kept_is_always_verified_and_proofs_of_possession_now_and_then() {
        let sampler = Sampler::default();
        let verified = |input: &SignInput| (0..640).filter(|_| sampler.check(input) == Check::Verify).count();
        let document = SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json: vec![] };
        let proof = SignInput::TlsCertificateVerify { side: TlsSide::Server, transcript_hash: vec![0; 32] };
        assert_eq!((verified(&document), verified(&proof)), (640, 10));
        sampler.distrust();
        assert_eq!(verified(&proof), 640);
    }
}
