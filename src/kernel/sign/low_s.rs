//! One writing of an ECDSA signature instead of two.
//!
//! Whoever has a signature (r, s) can write (r, n − s) without the key, and it verifies as well: the file that has it is
//! another file, and proves the same. What is signed here has the smaller s, and what says that it does is refused with
//! the other one. Certificates and what other people's tokens sign are taken as they are.

use super::{Algorithm, ecdsa_der, raw_public_key, to_wire};

/// The order of the group (NIST SP 800-186, 3.2.1.3 and 3.2.1.4).
const ORDER_P256: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
const ORDER_P384: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0,
    0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];

/// Gives r ‖ s the smaller s of the two that verify. What is no such signature stays as it is.
pub fn lower_s(algorithm: Algorithm, raw: &mut [u8]) {
    let length = algorithm.scalar_bytes().filter(|length| raw.len() == 2 * length);
    let Some((order, length)) = order(algorithm).zip(length) else {
        return;
    };
    let (_, s) = raw.split_at_mut(length);
    if let Some(other) = difference(order, s).filter(|other| other.as_slice() < &*s) {
        s.copy_from_slice(&other);
    }
}

/// Whether a signature by the key of this SubjectPublicKeyInfo (DER) is written with the smaller s. ECDSA is DER; of any
/// other algorithm there is one writing.
#[must_use]
pub fn has_low_s(spki_der: &[u8], signature: &[u8]) -> bool {
    with_low_s(spki_der, signature) == signature
}

/// The signature with the smaller s; as it is when it is none by such a key.
#[must_use]
pub fn with_low_s(spki_der: &[u8], signature: &[u8]) -> Vec<u8> {
    let lowered = || {
        let (algorithm, _) = raw_public_key(spki_der)?;
        let length = algorithm.scalar_bytes()?;
        let mut raw = to_wire(algorithm, signature)?;
        lower_s(algorithm, &mut raw);
        ecdsa_der(&raw, length)
    };
    lowered().unwrap_or_else(|| signature.to_vec())
}

fn order(algorithm: Algorithm) -> Option<&'static [u8]> {
    match algorithm {
        Algorithm::P256 => Some(&ORDER_P256),
        Algorithm::P384 => Some(&ORDER_P384),
        Algorithm::Ed25519 | Algorithm::Rsa3072 | Algorithm::Aes256 => None,
    }
}

/// `from − what`, both big-endian and of one length. `None`: it would be negative.
fn difference(from: &[u8], what: &[u8]) -> Option<Vec<u8>> {
    let mut left = from.to_vec();
    let mut borrowed = false;
    for (digit, taken) in left.iter_mut().zip(what).rev() {
        let (once, under) = digit.overflowing_sub(*taken);
        let (twice, under_again) = once.overflowing_sub(u8::from(borrowed));
        (*digit, borrowed) = (twice, under || under_again);
    }
    (!borrowed).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::super::{signature_is_valid, tests::signed};
    use super::*;

    #[test]
    fn both_writings_of_a_signature_verify_and_one_is_low() {
        for algorithm in [Algorithm::P256, Algorithm::P384] {
            let length = algorithm.scalar_bytes().unwrap();
            for number in 0..20 {
                let message = [number];
                let (spki, signature) = signed(algorithm, &message).unwrap();
                let low = with_low_s(&spki, &signature);
                let mut raw = to_wire(algorithm, &low).unwrap();
                let s = difference(order(algorithm).unwrap(), &raw[length..]).unwrap();
                raw[length..].copy_from_slice(&s);
                let high = ecdsa_der(&raw, length).unwrap();
                assert!(signature_is_valid(&spki, &message, &low) && signature_is_valid(&spki, &message, &high));
                assert!(has_low_s(&spki, &low) && !has_low_s(&spki, &high), "{algorithm:?}");
                assert_eq!(with_low_s(&spki, &high), low);
                assert!(signature == low || signature == high);
            }
        }
        for algorithm in [Algorithm::Ed25519, Algorithm::Rsa3072] {
            let (spki, signature) = signed(algorithm, b"message").unwrap();
            assert!(has_low_s(&spki, &signature), "{algorithm:?}");
        }
    }

    #[test]
    fn the_middle_of_the_order_is_where_it_turns() {
        for algorithm in [Algorithm::P256, Algorithm::P384] {
            let (order, length) = (order(algorithm).unwrap(), algorithm.scalar_bytes().unwrap());
            // (n − 1) / 2: the largest low one.
            let mut half: Vec<u8> = Vec::with_capacity(length);
            let mut carried = 0;
            for digit in order {
                half.push((digit >> 1) | carried);
                carried = digit << 7;
            }
            let above = difference(order, &half).unwrap();
            let lowered = |s: &[u8]| {
                let mut raw = [vec![1; length], s.to_vec()].concat();
                lower_s(algorithm, &mut raw);
                raw.split_off(length)
            };
            assert_eq!((lowered(&half), lowered(&above)), (half.clone(), half));
            // Neither 0 nor what is above n is half of a signature.
            for none in [vec![0; length], vec![0xff; length]] {
                assert_eq!(lowered(&none), none);
            }
        }
        let mut short = vec![0xff; 63];
        lower_s(Algorithm::P256, &mut short);
        assert_eq!(short, [0xff; 63]);
    }
}
