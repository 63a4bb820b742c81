//! One signature: typed input in, verified signature out.

use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use crate::hsm::KeyInfo;
use crate::kernel::sign::{Algorithm, SignInput, signature_is_valid};
use crate::kernel::types::Sha256;

/// Why there is no signature.
#[derive(Debug)]
pub enum SigningFault {
    Module(Error),
    /// The module answered something that does not verify: it is kept here.
    Unverified,
}

/// Signs input that passed the lint. P-256 is hashed here: only plain CKM_ECDSA is common to all modules, and they
/// sign a digest of any length, so none is ever taken from outside. Nothing is released that does not verify.
pub fn sign(
    session: &Session,
    key: &KeyInfo,
    private: ObjectHandle,
    input: &SignInput,
) -> Result<Vec<u8>, SigningFault> {
    let message = input.message();
    let signature = match key.algorithm {
        Algorithm::P256 => {
            let digest = Sha256::of(&[&message]);
            let raw = session.sign(&Mechanism::Ecdsa, private, &digest.0).map_err(SigningFault::Module)?;
            ecdsa_der(&raw).ok_or(SigningFault::Unverified)?
        }
        Algorithm::Ed25519 => {
            let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
            session.sign(&mechanism, private, &message).map_err(SigningFault::Module)?
        }
    };
    if !signature_is_valid(&key.spki, &message, &signature) {
        return Err(SigningFault::Unverified);
    }
    Ok(signature)
}

/// r ‖ s of a P-256 signature as DER `ECDSA-Sig-Value` (RFC 3279, 2.2.3).
fn ecdsa_der(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.len() != 64 {
        return None;
    }
    let (r, s) = raw.split_at(32);
    Some(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_bigint_bytes(r, true);
            writer.next().write_bigint_bytes(s, true);
        });
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_signatures_become_minimal_der_integers() {
        let mut raw = [0; 64];
        raw[31] = 0x80;
        raw[63] = 1;
        assert_eq!(ecdsa_der(&raw).unwrap(), [0x30, 7, 2, 2, 0, 0x80, 2, 1, 1]);
        for bad in [0, 63, 65, 96] {
            assert_eq!(ecdsa_der(&vec![1; bad]), None);
        }
    }
}
