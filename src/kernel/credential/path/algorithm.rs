//! Public keys and signatures of certificates: ECDSA on three curves, RSA from 2048 bits, Ed25519; SHA-2 only.
//!
//! Every `AlgorithmIdentifier` is compared as a whole, so that curves by parameters, absent or extra parameters and
//! unequal hashes have no second way in. Parsing keys and verifying is left to aws-lc-rs.

use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1,
    ECDSA_P521_SHA512_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};

use super::rule::{Broken, PathRule};
use crate::kernel::credential::der::{self, NotDer, Reader};
use crate::kernel::credential::oid;

/// What a public key is, with its bare bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PublicKey<'a> {
    /// An uncompressed point.
    P256(&'a [u8]),
    P384(&'a [u8]),
    P521(&'a [u8]),
    Ed25519(&'a [u8]),
    /// `RSAPublicKey` (RFC 8017, A.1.1), DER.
    Rsa(&'a [u8]),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SignatureScheme {
    Ecdsa(Hash),
    RsaPkcs1(Hash),
    RsaPss(Hash),
    Ed25519,
}

const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
const CURVE_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const CURVE_P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const CURVE_P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
const ID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const NULL: &[u8] = &[der::NULL, 0];
/// Bits of an RSA modulus (CA/Browser Forum BR 6.1.5: from 2048, divisible by 8).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
const RSA_EXPONENT_MIN: u64 = 65_537;

impl Hash {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// Last byte of ecdsa-with-SHA2 (RFC 5758, 3.2).
    fn of_ecdsa(self) -> u8 {
        match self {
            Self::Sha256 => 2,
            Self::Sha384 => 3,
            Self::Sha512 => 4,
        }
    }

    /// Last byte of sha2WithRSAEncryption (RFC 4055, 5).
    fn of_rsa(self) -> u8 {
        match self {
            Self::Sha256 => 11,
            Self::Sha384 => 12,
            Self::Sha512 => 13,
        }
    }

    /// Last byte of the hash's own object identifier, and its length in bytes.
    fn own(self) -> (u8, u8) {
        match self {
            Self::Sha256 => (1, 32),
            Self::Sha384 => (2, 48),
            Self::Sha512 => (3, 64),
        }
    }
}

impl SignatureScheme {
    /// The scheme of an `AlgorithmIdentifier` (DER).
    ///
    /// # Errors
    /// [`PathRule::SignatureAlgorithm`]
    pub(super) fn read(identifier: &[u8]) -> Result<Self, Broken> {
        let schemes = Hash::ALL
            .into_iter()
            .flat_map(|hash| [Self::Ecdsa(hash), Self::RsaPkcs1(hash), Self::RsaPss(hash)])
            .chain([Self::Ed25519]);
        schemes
            .into_iter()
            .find(|scheme| scheme.identifier() == identifier)
            .ok_or(PathRule::SignatureAlgorithm.because("ECDSA, RSA or Ed25519 with SHA-2 is taken"))
    }

    fn identifier(self) -> Vec<u8> {
        let of = |oid: &[u8], parameters: &[u8]| der::sequence(&[&der::element(der::OID, oid), parameters]);
        match self {
            Self::Ecdsa(hash) => of(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, hash.of_ecdsa()], &[]),
            Self::RsaPkcs1(hash) => of(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, hash.of_rsa()], NULL),
            // RFC 4055, 3.1: the same hash twice, salt as long as the hash.
            Self::RsaPss(hash) => {
                let (last, length) = hash.own();
                let digest = of(&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last], NULL);
                let field = |number, value: &[u8]| der::element(der::context_constructed(number), value);
                let parameters = der::sequence(&[
                    &field(0, &digest),
                    &field(1, &of(MGF1, &digest)),
                    &field(2, &der::unsigned_integer(&[length])),
                ]);
                of(RSASSA_PSS, &parameters)
            }
            Self::Ed25519 => of(ID_ED25519, &[]),
        }
    }

    /// True when `signature` over `message` is by this key.
    pub(super) fn verifies(self, key: PublicKey<'_>, message: &[u8], signature: &[u8]) -> bool {
        use Hash::{Sha256, Sha384, Sha512};
        let (algorithm, bytes): (&'static dyn VerificationAlgorithm, &[u8]) = match (self, key) {
            (Self::Ecdsa(Sha256), PublicKey::P256(point)) => (&ECDSA_P256_SHA256_ASN1, point),
            (Self::Ecdsa(Sha384), PublicKey::P256(point)) => (&ECDSA_P256_SHA384_ASN1, point),
            (Self::Ecdsa(Sha512), PublicKey::P256(point)) => (&ECDSA_P256_SHA512_ASN1, point),
            (Self::Ecdsa(Sha256), PublicKey::P384(point)) => (&ECDSA_P384_SHA256_ASN1, point),
            (Self::Ecdsa(Sha384), PublicKey::P384(point)) => (&ECDSA_P384_SHA384_ASN1, point),
            (Self::Ecdsa(Sha512), PublicKey::P384(point)) => (&ECDSA_P384_SHA512_ASN1, point),
            (Self::Ecdsa(Sha256), PublicKey::P521(point)) => (&ECDSA_P521_SHA256_ASN1, point),
            (Self::Ecdsa(Sha384), PublicKey::P521(point)) => (&ECDSA_P521_SHA384_ASN1, point),
            (Self::Ecdsa(Sha512), PublicKey::P521(point)) => (&ECDSA_P521_SHA512_ASN1, point),
            (Self::RsaPkcs1(Sha256), PublicKey::Rsa(key)) => (&RSA_PKCS1_2048_8192_SHA256, key),
            (Self::RsaPkcs1(Sha384), PublicKey::Rsa(key)) => (&RSA_PKCS1_2048_8192_SHA384, key),
            (Self::RsaPkcs1(Sha512), PublicKey::Rsa(key)) => (&RSA_PKCS1_2048_8192_SHA512, key),
            (Self::RsaPss(Sha256), PublicKey::Rsa(key)) => (&RSA_PSS_2048_8192_SHA256, key),
            (Self::RsaPss(Sha384), PublicKey::Rsa(key)) => (&RSA_PSS_2048_8192_SHA384, key),
            (Self::RsaPss(Sha512), PublicKey::Rsa(key)) => (&RSA_PSS_2048_8192_SHA512, key),
            (Self::Ed25519, PublicKey::Ed25519(key)) => (&ED25519, key),
            (Self::Ecdsa(_), PublicKey::Ed25519(_) | PublicKey::Rsa(_))
            | (
                Self::RsaPkcs1(_) | Self::RsaPss(_) | Self::Ed25519,
                PublicKey::P256(_) | PublicKey::P384(_) | PublicKey::P521(_),
            )
            | (Self::RsaPkcs1(_) | Self::RsaPss(_), PublicKey::Ed25519(_))
            | (Self::Ed25519, PublicKey::Rsa(_)) => return false,
        };
        UnparsedPublicKey::new(algorithm, bytes).verify(message, signature).is_ok()
    }
}

impl<'a> PublicKey<'a> {
    /// Reads a SubjectPublicKeyInfo (DER) of a kind and size that is taken, a point on its curve.
    ///
    /// # Errors
    /// [`PathRule::KeyAlgorithm`]
    pub(super) fn read(spki: &'a [u8]) -> Result<Self, Broken> {
        let bad = |why| PathRule::KeyAlgorithm.because(why);
        let (identifier, key) = split(spki).map_err(|_| bad("it is no SubjectPublicKeyInfo"))?;
        let of = |oid: &[u8], parameters: &[u8]| der::sequence(&[&der::element(der::OID, oid), parameters]);
        let curve = |curve: &[u8]| of(oid::EC_PUBLIC_KEY, &der::element(der::OID, curve));
        let read = if identifier == curve(CURVE_P256) {
            Self::P256(key)
        } else if identifier == curve(CURVE_P384) {
            Self::P384(key)
        } else if identifier == curve(CURVE_P521) {
            Self::P521(key)
        } else if identifier == of(ID_ED25519, &[]) {
            Self::Ed25519(key)
        } else if identifier == of(RSA_ENCRYPTION, NULL) {
            rsa_is_strong(key).map_err(bad)?;
            Self::Rsa(key)
        } else {
            return Err(bad("P-256, P-384, P-521, RSA or Ed25519 is taken"));
        };
        if read.parses() { Ok(read) } else { Err(bad("it is no key of its kind")) }
    }

    fn parses(self) -> bool {
        let parsed = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            ParsedPublicKey::new(algorithm, key).is_ok()
        };
        // RFC 5480, 2.2: the uncompressed form is the one that everybody reads.
        let point = |key: &[u8], bytes: usize| key.len() == bytes && key[0] == 4;
        match self {
            Self::P256(key) => point(key, 65) && parsed(&ECDSA_P256_SHA256_ASN1, key),
            Self::P384(key) => point(key, 97) && parsed(&ECDSA_P384_SHA384_ASN1, key),
            Self::P521(key) => point(key, 133) && parsed(&ECDSA_P521_SHA512_ASN1, key),
            Self::Ed25519(key) => key.len() == 32 && parsed(&ED25519, key),
            Self::Rsa(key) => parsed(&RSA_PKCS1_2048_8192_SHA256, key),
        }
    }
}

fn split(spki: &[u8]) -> Result<(&[u8], &[u8]), NotDer> {
    let mut reader = Reader::whole_sequence(spki)?;
    let identifier = reader.element(der::SEQUENCE)?.raw;
    let key = reader.bit_string_bytes()?;
    reader.finish()?;
    Ok((identifier, key))
}

fn rsa_is_strong(key: &[u8]) -> Result<(), &'static str> {
    let read = || -> Result<(&[u8], u64), NotDer> {
        let mut reader = Reader::whole_sequence(key)?;
        let modulus = reader.integer()?;
        let exponent = reader.unsigned()?;
        reader.finish()?;
        Ok((modulus, exponent))
    };
    let (modulus, exponent) = read().map_err(|_| "it is no RSAPublicKey")?;
    // With the highest bit set there is a zero octet before it; without, the number of bits is none of eights.
    let Some([first, .., last]) = modulus.strip_prefix(&[0]) else {
        return Err("an RSA modulus has bits in eights");
    };
    let bits = (modulus.len() - 1) * 8;
    if !RSA_BITS.contains(&bits) {
        return Err("an RSA modulus has 2048 to 8192 bits");
    }
    if *first < 0x80 || last % 2 == 0 {
        return Err("an RSA modulus is odd and has bits in eights");
    }
    if exponent < RSA_EXPONENT_MIN || exponent % 2 == 0 {
        return Err("an RSA exponent is odd and at least 65537");
    }
    Ok(())
}
