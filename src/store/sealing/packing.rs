//! A leaf's body is made smaller before it is sealed: what is sealed cannot be compressed afterwards, and most of a leaf
//! is names of members that every leaf has.
//!
//! Raw DEFLATE (RFC 1951) with a dictionary that is part of the format. What is packed begins with a byte that says how,
//! and never changes its meaning: another dictionary gets the next one. Commitments, receipts and proofs are over the
//! body itself and know nothing of this.
//!
//! Who reads the database sees how long a leaf is, as before; packed, its length says a little of how much a caller's
//! text repeats what else its own leaf says. Nothing secret stands in a leaf beside what a caller chose: tokens, PINs
//! and keys are in none.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What a body begins with that was sealed before bodies were packed: all of it is the body.
const JSON: u8 = b'{';
/// The body as it is follows.
const PLAIN: u8 = 0;
/// Raw DEFLATE with [`DICTIONARY_1`] follows.
const DEFLATE_1: u8 = 1;
/// What leaves have in common, the most common last (RFC 1950, 2.2). Never changed: whoever reads old leaves needs it.
const DICTIONARY_1: &[u8] = include_bytes!("dictionary_1.txt");
/// Longer bodies are sealed as they are: no decision says as much, and unpacking is bounded by it.
const PACKED_MAX: usize = 64 * 1024;

thread_local! {
    /// Making one costs more than using it: it has 300 KiB.
    static DEFLATER: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), false));
    static INFLATER: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Appends the body, packed, to what is sealed with it.
pub(super) fn pack(body: &[u8], to: &mut Vec<u8>) {
    let start = to.len();
    to.push(DEFLATE_1);
    if body.len() > PACKED_MAX || !deflate(body, to) {
        to.truncate(start);
        to.push(PLAIN);
        to.extend_from_slice(body);
    }
}

/// False: it is not smaller, and `to` is to be cut off.
fn deflate(body: &[u8], to: &mut Vec<u8>) -> bool {
    let start = to.len();
    to.resize(start + body.len(), 0);
    DEFLATER.with_borrow_mut(|deflater| {
        deflater.reset();
        if deflater.set_dictionary(DICTIONARY_1).is_err() {
            return false;
        }
        match deflater.compress(body, &mut to[start..], FlushCompress::Finish) {
            Ok(Status::StreamEnd) => {
                to.truncate(start + usize::try_from(deflater.total_out()).unwrap_or(usize::MAX));
                true
            }
            Ok(Status::Ok | Status::BufError) | Err(_) => false,
        }
    })
}

/// The body of what was sealed; `None`: nothing that was ever sealed looks like this.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    match packed.split_first()? {
        (&JSON, _) => Some(packed.to_vec()),
        (&PLAIN, body) => Some(body.to_vec()),
        (&DEFLATE_1, deflated) => inflate(deflated),
        (_, _) => None,
    }
}

fn inflate(deflated: &[u8]) -> Option<Vec<u8>> {
    INFLATER.with_borrow_mut(|inflater| {
        inflater.reset(false);
        inflater.set_dictionary(DICTIONARY_1).ok()?;
        let mut body = Vec::with_capacity(PACKED_MAX.min(deflated.len() * 8));
        loop {
            let taken = usize::try_from(inflater.total_in()).ok()?;
            match inflater.decompress_vec(deflated.get(taken..)?, &mut body, FlushDecompress::Finish) {
                Ok(Status::StreamEnd) => {
                    let whole = usize::try_from(inflater.total_in()).ok()? == deflated.len();
                    return (whole && body.len() <= PACKED_MAX).then_some(body);
                }
                // It is longer than guessed.
                Ok(Status::Ok | Status::BufError) if body.len() == body.capacity() && body.len() < PACKED_MAX => {
                    body.reserve(PACKED_MAX - body.len());
                }
                Ok(Status::Ok | Status::BufError) | Err(_) => return None,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: &str = r#"{"actor":{"kind":"agent","spiffe_id":"spiffe://bank.example/agent/purchaser/a"},"asserted":false,"decision":"permitted","parameters":{"tool":"get_account_balance","account_id":"CHK_001"},"reason":null,"result":{"status":"answered"},"schema":"countersign/leaf/v1"}"#;

    fn packed(body: &[u8]) -> Vec<u8> {
        let mut to = b"salt".to_vec();
        pack(body, &mut to);
        to.split_off(4)
    }

    #[test]
    fn what_was_packed_comes_back_and_is_smaller() {
        let small = packed(LEAF.as_bytes());
        assert!(small.len() * 2 < LEAF.len(), "{} of {}", small.len(), LEAF.len());
        assert_eq!(small[0], DEFLATE_1);
        assert_eq!(unpack(&small).unwrap(), LEAF.as_bytes());
        assert_eq!(packed(LEAF.as_bytes()), small, "the same leaf is packed in the same way");
    }

    #[test]
    fn whatever_a_body_is_it_comes_back() {
        let random: Vec<u8> = (0..2_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let bodies: [&[u8]; 8] =
            [b"", b"{}", b"{", &[0], &[1, 2, 3], &random, &vec![b'x'; PACKED_MAX], &vec![b'x'; PACKED_MAX + 1]];
        for body in bodies {
            assert_eq!(unpack(&packed(body)).as_deref(), Some(body), "{} bytes", body.len());
        }
        for length in (0..random.len()).step_by(97) {
            assert_eq!(unpack(&packed(&random[..length])).unwrap(), &random[..length]);
        }
    }

    #[test]
    fn what_was_sealed_before_is_read_as_it_is() {
        assert_eq!(unpack(LEAF.as_bytes()).unwrap(), LEAF.as_bytes());
    }

    #[test]
    fn what_was_never_packed_is_nothing() {
        let whole = packed(LEAF.as_bytes());
        let mut rows: Vec<(&str, Vec<u8>)> = vec![
            ("nothing", vec![]),
            ("another way", [&[2], &whole[1..]].concat()),
            ("no deflate", vec![DEFLATE_1, 0xff, 0xff]),
            ("cut off", whole[..whole.len() - 1].to_vec()),
            ("something behind it", [whole.as_slice(), b"x"].concat()),
        ];
        let mut bomb = vec![DEFLATE_1];
        let mut deflater = Compress::new(Compression::best(), false);
        deflater.set_dictionary(DICTIONARY_1).unwrap();
        let mut out = Vec::with_capacity(PACKED_MAX);
        deflater.compress_vec(&vec![0; 16 * 1024 * 1024], &mut out, FlushCompress::Finish).unwrap();
        bomb.extend_from_slice(&out);
        rows.push(("more than was ever packed", bomb));
        for (what, bytes) in rows {
            assert_eq!(unpack(&bytes), None, "{what}");
        }
    }

    #[test]
    fn the_dictionary_stays_what_it_is() {
        let digest = crate::kernel::types::Sha256::of(&[DICTIONARY_1]).hex();
        assert_eq!(
            digest, "3e83a97592c8b0b3b65dfa0349945215e6e692dc461e0275ff084c288f4d7c22",
            "leaves that are sealed need it: add another one"
        );
    }
}
