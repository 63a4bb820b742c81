//! What the objects of a token say of themselves, read strictly: type, public key, custody, state.

use cryptoki::error::Error;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectHandle};
use cryptoki::session::Session;

use crate::hsm::{CustodyAttributes, KeyState};
use crate::kernel::sign::{Algorithm, raw_public_key, rsa3072_public_key, spki_der};

/// DER OBJECT IDENTIFIER of prime256v1, secp384r1 and Ed25519 (RFC 5480, RFC 8410), as CKA_EC_PARAMS.
pub const CURVE_P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
pub const CURVE_P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
pub const CURVE_ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
/// The other way to name the curve: PrintableString `edwards25519` (PKCS#11 v3.0, 2.3.5).
const CURVE_ED25519_NAME: &[u8] = b"\x13\x0cedwards25519";
/// CKA_PUBLIC_EXPONENT of every RSA key: 65537.
pub const PUBLIC_EXPONENT: &[u8] = &[1, 0, 1];

/// CKA_ID and CKA_LABEL; empty where there is none.
pub fn id_and_label(session: &Session, object: ObjectHandle) -> Result<(Vec<u8>, String), Error> {
    let (mut id, mut label) = (Vec::new(), String::new());
    for attribute in session.get_attributes(object, &[AttributeType::Id, AttributeType::Label])? {
        match attribute {
            Attribute::Id(value) => id = value,
            Attribute::Label(value) => label = String::from_utf8_lossy(&value).into_owned(),
            _ => {}
        }
    }
    Ok((id, label))
}

/// Algorithm and SubjectPublicKeyInfo (DER) of a public key; `None` when it is none of our kinds.
pub fn public_key(session: &Session, object: ObjectHandle) -> Result<Option<(Algorithm, Vec<u8>)>, Error> {
    let (mut kind, mut parameters, mut point) = (None, Vec::new(), Vec::new());
    let (mut modulus, mut exponent) = (Vec::new(), Vec::new());
    let elliptic = [AttributeType::KeyType, AttributeType::EcParams, AttributeType::EcPoint];
    for attribute in session.get_attributes(object, &elliptic)? {
        match attribute {
            Attribute::KeyType(value) => kind = Some(value),
            Attribute::EcParams(value) => parameters = value,
            Attribute::EcPoint(value) => point = value,
            _ => {}
        }
    }
    if kind == Some(KeyType::RSA) {
        for attribute in session.get_attributes(object, &[AttributeType::Modulus, AttributeType::PublicExponent])? {
            match attribute {
                Attribute::Modulus(value) => modulus = value,
                Attribute::PublicExponent(value) => exponent = value,
                _ => {}
            }
        }
        return Ok(rsa_spki(&modulus, &exponent).map(|spki| (Algorithm::Rsa3072, spki)));
    }
    let algorithm = match (kind, parameters.as_slice()) {
        (Some(KeyType::EC), CURVE_P256) => Algorithm::P256,
        (Some(KeyType::EC), CURVE_P384) => Algorithm::P384,
        (Some(KeyType::EC_EDWARDS), CURVE_ED25519 | CURVE_ED25519_NAME) => Algorithm::Ed25519,
        _ => return Ok(None),
    };
    Ok(ec_spki(algorithm, &point).map(|spki| (algorithm, spki)))
}

/// SubjectPublicKeyInfo of a CKA_EC_POINT: the point in a DER OCTET STRING (PKCS#11 v2.40), or bare (some modules).
fn ec_spki(algorithm: Algorithm, ec_point: &[u8]) -> Option<Vec<u8>> {
    let bare_length = match algorithm {
        Algorithm::P256 => 65,
        Algorithm::P384 => 97,
        Algorithm::Ed25519 => 32,
        Algorithm::Rsa3072 | Algorithm::Aes256 => return None,
    };
    let point = match ec_point {
        [0x04, length, point @ ..] if usize::from(*length) == bare_length && point.len() == bare_length => point,
        point if point.len() == bare_length => point,
        _ => return None,
    };
    let spki = spki_der(algorithm, point);
    raw_public_key(&spki).map(|_| ())?;
    Some(spki)
}

/// SubjectPublicKeyInfo of CKA_MODULUS and CKA_PUBLIC_EXPONENT, which some modules give with leading zeros.
fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    let plain = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    if plain(exponent) != PUBLIC_EXPONENT {
        return None;
    }
    Some(spki_der(Algorithm::Rsa3072, &rsa3072_public_key(&plain(modulus))?))
}

/// True for an AES key of 256 bits.
pub fn is_aes256(session: &Session, object: ObjectHandle) -> Result<bool, Error> {
    let (mut aes, mut length) = (false, 0);
    for attribute in session.get_attributes(object, &[AttributeType::KeyType, AttributeType::ValueLen])? {
        match attribute {
            Attribute::KeyType(value) => aes = value == KeyType::AES,
            Attribute::ValueLen(value) => length = *value,
            _ => {}
        }
    }
    Ok(aes && length == 32)
}

/// Custody attributes of a private or secret key, and its state. What a module does not answer about custody counts
/// as the worst; a key that does not say it is retired is asked to work, and then the token decides.
pub fn custody_and_state(session: &Session, object: ObjectHandle) -> Result<(CustodyAttributes, KeyState), Error> {
    let mut custody = CustodyAttributes::WORST;
    let mut state = KeyState::Active;
    let wanted = [
        AttributeType::Sensitive,
        AttributeType::AlwaysSensitive,
        AttributeType::NeverExtractable,
        AttributeType::Extractable,
        AttributeType::Local,
        AttributeType::Class,
        AttributeType::Sign,
        AttributeType::Encrypt,
    ];
    let (mut signs, mut encrypts, mut secret) = (None, None, false);
    for attribute in session.get_attributes(object, &wanted)? {
        match attribute {
            Attribute::Sensitive(value) => custody.sensitive = value,
            Attribute::AlwaysSensitive(value) => custody.always_sensitive = value,
            Attribute::NeverExtractable(value) => custody.never_extractable = value,
            Attribute::Extractable(value) => custody.extractable = value,
            Attribute::Local(value) => custody.local = value,
            Attribute::Class(value) => secret = value == cryptoki::object::ObjectClass::SECRET_KEY,
            Attribute::Sign(value) => signs = Some(value),
            Attribute::Encrypt(value) => encrypts = Some(value),
            _ => {}
        }
    }
    if (if secret { encrypts } else { signs }) == Some(false) {
        state = KeyState::VerifyOnly;
    }
    Ok((custody, state))
}

/// Whether a public key says that it encrypts. None: it does not say.
pub fn encrypts(session: &Session, object: ObjectHandle) -> Result<Option<bool>, Error> {
    let attributes = session.get_attributes(object, &[AttributeType::Encrypt])?;
    Ok(attributes.into_iter().find_map(|attribute| match attribute {
        Attribute::Encrypt(value) => Some(value),
        _ => None,
    }))
}

/// True for a private key that decrypts and, as far as it says, does nothing else.
pub fn only_decrypts(session: &Session, object: ObjectHandle) -> Result<bool, Error> {
    let (mut decrypts, mut does_more) = (false, false);
    let wanted = [AttributeType::Decrypt, AttributeType::Sign, AttributeType::Unwrap];
    for attribute in session.get_attributes(object, &wanted)? {
        match attribute {
            Attribute::Decrypt(value) => decrypts = value,
            Attribute::Sign(value) | Attribute::Unwrap(value) => does_more |= value,
            _ => {}
        }
    }
    Ok(decrypts && !does_more)
}

/// The 32 bytes of a mark that a destroyed AES key left (CKA_VALUE of a data object).
pub fn mark_value(session: &Session, object: ObjectHandle) -> Result<Vec<u8>, Error> {
    let attributes = session.get_attributes(object, &[AttributeType::Value])?;
    Ok(attributes
        .into_iter()
        .find_map(|attribute| match attribute {
            Attribute::Value(value) => Some(value),
            _ => None,
        })
        .unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_wrapped_and_bare_and_nothing_else() {
        for (algorithm, length) in [(Algorithm::P256, 65), (Algorithm::P384, 97), (Algorithm::Ed25519, 32)] {
            let mut point = vec![4; length];
            let wrapped = [&[0x04, u8::try_from(length).unwrap()], point.as_slice()].concat();
            assert!(ec_spki(algorithm, &point).is_some());
            assert_eq!(ec_spki(algorithm, &wrapped), ec_spki(algorithm, &point));
            assert_eq!(ec_spki(algorithm, &wrapped[..length + 1]), None);
            for bad in [vec![], vec![4; length - 1], vec![4; length + 1]] {
                assert_eq!(ec_spki(algorithm, &bad), None);
            }
            point[0] = 3;
            assert_eq!(ec_spki(algorithm, &point).is_none(), algorithm != Algorithm::Ed25519);
        }
    }

    #[test]
    fn rsa_numbers_are_read_with_leading_zeros_and_only_in_our_size() {
        let modulus = vec![0xc1; 384];
        let padded = [&[0], modulus.as_slice()].concat();
        assert!(rsa_spki(&modulus, &[1, 0, 1]).is_some());
        assert_eq!(rsa_spki(&padded, &[0, 1, 0, 1]), rsa_spki(&modulus, &[1, 0, 1]));
        for (modulus, exponent) in [(vec![0xc1; 256], vec![1, 0, 1]), (modulus.clone(), vec![3]), (modulus, vec![])] {
            assert_eq!(rsa_spki(&modulus, &exponent), None);
        }
    }
}
