//! The example of the specification, keys of both types, what is confused with what, and texts that are none.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

use super::*;
use crate::kernel::sign::{Algorithm, spki_der};

const ORIGIN: &str = "bank.countersign.example/log";

fn key(seed: u8) -> (Ed25519KeyPair, Vec<u8>) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let spki = spki_der(Algorithm::Ed25519, pair.public_key().as_ref());
    (pair, spki)
}

fn checkpoint() -> Checkpoint {
    Checkpoint { origin: ORIGIN.into(), size: 8, root: Sha256::of(&[b"root"]) }
}

fn signed() -> (SignedNote, Vec<u8>) {
    let (pair, spki) = key(1);
    let text = checkpoint().text();
    let signature = pair.sign(text.as_bytes());
    let line = NoteSignature::over_text(ORIGIN, &spki, signature.as_ref()).unwrap();
    (SignedNote { text, signatures: vec![line] }, spki)
}

#[test]
fn the_example_of_the_signed_note_specification_verifies() {
    // golang.org/x/mod/sumdb/note, the package's example and the origin of the format.
    let verifier = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let VerifierKey { name, spki } = VerifierKey::parse(verifier).unwrap();
    assert_eq!(name, "PeterNeumann");
    for other in ["", "PeterNeumann", "Peter+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", &verifier[1..]] {
        assert_eq!(VerifierKey::parse(other), Err(NoteRefused::KeyName), "{other}");
    }
    assert!(VerifierKey::parse(&verifier.replace("+AR", "+BB")).is_err(), "another kind of key");
    let note = "If you think cryptography is the answer to your problem,\n\
                then you don't know what your problem is.\n\n\
                \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    let note = SignedNote::parse(note.as_bytes()).unwrap();
    assert_eq!(note.verify("PeterNeumann", &spki), Ok(()));
}

#[test]
fn a_checkpoint_reads_back_and_its_signature_verifies() {
    let (note, spki) = signed();
    let composed = note.compose();
    let read = SignedNote::parse(composed.as_bytes()).unwrap();
    assert_eq!(read, note);
    assert_eq!(Checkpoint::parse(&read.text), Ok(checkpoint()));
    assert_eq!(read.verify(ORIGIN, &spki), Ok(()));
}

#[test]
fn a_cosignature_verifies_beside_the_logs_own_signature() {
    let (mut note, spki) = signed();
    let (witness, witness_spki) = key(2);
    let signature = witness.sign(cosignature_message(1_700_000_000, &note.text).as_bytes());
    let line = NoteSignature::cosignature("w.example/w1", &witness_spki, 1_700_000_000, signature.as_ref());
    note.signatures.push(line.unwrap());
    let read = SignedNote::parse(note.compose().as_bytes()).unwrap();
    assert_eq!(read.verify_cosignature("w.example/w1", &witness_spki), Ok(1_700_000_000));
    assert_eq!(read.verify(ORIGIN, &spki), Ok(()));
    assert_eq!(read.verify("w.example/w1", &witness_spki), Err(NoteRefused::NoSuchSignature));
    assert_eq!(read.verify_cosignature(ORIGIN, &spki), Err(NoteRefused::NoSuchSignature));
    note.signatures[1].signature[7] ^= 1;
    assert_eq!(note.verify_cosignature("w.example/w1", &witness_spki), Err(NoteRefused::SignatureInvalid));
}

#[test]
fn signatures_by_others_or_over_other_text_are_refused_by_name() {
    let (note, spki) = signed();
    assert_eq!(note.verify(ORIGIN, &key(2).1), Err(NoteRefused::NoSuchSignature));
    assert_eq!(note.verify("other.example", &spki), Err(NoteRefused::NoSuchSignature));
    assert_eq!(note.verify("a name", &spki), Err(NoteRefused::KeyName));
    assert_eq!(note.verify(ORIGIN, b"no key"), Err(NoteRefused::KeyName));
    let mut other_text = note.clone();
    other_text.text = other_text.text.replace("\n8\n", "\n9\n");
    assert_eq!(other_text.verify(ORIGIN, &spki), Err(NoteRefused::SignatureInvalid));
    let mut flipped = note;
    flipped.signatures[0].signature[0] ^= 1;
    assert_eq!(flipped.verify(ORIGIN, &spki), Err(NoteRefused::SignatureInvalid));
}

#[test]
fn texts_that_are_no_signed_note_are_refused_by_name() {
    use NoteRefused::*;
    let table: [(&str, NoteRefused); 12] = [
        ("", Structure),
        ("text\n", Structure),
        ("text\n\n", Structure),
        ("text\n\n\u{2014} a AAAAAAA=", Structure),
        ("text\t\n\n\u{2014} a AAAAAAA=\n", NotText),
        ("text\n\n- a AAAAAAA=\n", SignatureLine),
        ("text\n\n\u{2014} a\n", SignatureLine),
        ("text\n\n\u{2014} a AAAAAA==\n", SignatureLine),
        ("text\n\n\u{2014} a AAAAAAA\n", SignatureLine),
        ("text\n\n\u{2014} a AAAAAAB=\n", SignatureLine),
        ("text\n\n\u{2014} a+b AAAAAAA=\n", KeyName),
        ("text\n\n\u{2014}  AAAAAAA=\n", KeyName),
    ];
    for (text, refused) in table {
        assert_eq!(SignedNote::parse(text.as_bytes()), Err(refused), "{text:?}");
    }
    let many = format!("text\n\n{}", "\u{2014} a AAAAAAA=\n".repeat(SIGNATURES_MAX + 1));
    assert_eq!(SignedNote::parse(many.as_bytes()), Err(Structure));
    assert_eq!(SignedNote::parse(&vec![b'a'; NOTE_BYTES_MAX + 1]), Err(NotText));
    assert_eq!(SignedNote::parse(b"\xff\n\n"), Err(NotText));
}

#[test]
fn texts_that_are_no_checkpoint_are_refused() {
    let good = checkpoint().text();
    let root = STANDARD.encode(checkpoint().root.0);
    for bad in [
        String::new(),
        good.trim_end().to_owned(),
        format!("{good}extension\n"),
        format!("{good}\n"),
        good.replace("\n8\n", "\n+8\n"),
        good.replace("\n8\n", "\n08\n"),
        good.replace("\n8\n", "\n-8\n"),
        good.replace("\n8\n", "\n18446744073709551616\n"),
        good.replace("\n8\n", "\n\n"),
        good.replace(ORIGIN, ""),
        good.replace(ORIGIN, "two words"),
        good.replace(&root, root.trim_end_matches('=')),
        good.replace(&root, "AAAA"),
    ] {
        assert!(Checkpoint::parse(&bad).is_err(), "{bad:?}");
    }
}

/// A P-256 key in memory.
struct Point(EcdsaKeyPair);

impl Point {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    fn spki(&self) -> Vec<u8> {
        spki_der(Algorithm::P256, self.0.public_key().as_ref())
    }

    /// DER, as a token makes it.
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    fn signed(&self) -> SignedNote {
        let text = checkpoint().text();
        let line = NoteSignature::over_text(ORIGIN, &self.spki(), &self.sign(text.as_bytes())).unwrap();
        SignedNote { text, signatures: vec![line] }
    }
}

#[test]
fn a_p256_key_signs_and_cosigns_under_types_of_its_own() {
    let (log, witness) = (Point::new(), Point::new());
    let mut note = log.signed();
    assert_eq!(note.signatures[0].signature.len(), 64, "r and s, not DER");
    let name = "w.example/w1";
    let cosignature = witness.sign(cosignature_message(1_700_000_000, &note.text).as_bytes());
    note.signatures.push(NoteSignature::cosignature(name, &witness.spki(), 1_700_000_000, &cosignature).unwrap());
    let read = SignedNote::parse(note.compose().as_bytes()).unwrap();
    assert_eq!(read.verify(ORIGIN, &log.spki()), Ok(()));
    assert_eq!(read.verify_cosignature(name, &witness.spki()), Ok(1_700_000_000));
    assert_eq!(read.verify(name, &witness.spki()), Err(NoteRefused::NoSuchSignature), "a cosignature is no signature");
    assert_eq!(read.verify_cosignature(ORIGIN, &log.spki()), Err(NoteRefused::NoSuchSignature));
    // The identifiers are in the key ids, byte for byte as docs/FORMATS.md has them.
    let point = &log.spki()[26..];
    let by_hand = Sha256::of(&[ORIGIN.as_bytes(), b"\n\xffcountersign/note-p256/v1", point]).0;
    assert_eq!(read.signatures[0].key_id, by_hand[..4]);
    let point = &witness.spki()[26..];
    let by_hand = Sha256::of(&[name.as_bytes(), b"\n\xffcountersign/cosignature-p256/v1", point]).0;
    assert_eq!(read.signatures[1].key_id, by_hand[..4]);
}

#[test]
fn a_signature_of_one_type_is_none_of_another() {
    let (log, other) = (Point::new(), Point::new());
    let (_, ed25519) = key(1);
    let note = log.signed();
    let changed = |change: &dyn Fn(&mut NoteSignature)| {
        let mut note = note.clone();
        change(&mut note.signatures[0]);
        note.verify(ORIGIN, &log.spki())
    };
    let point = log.spki()[26..].to_vec();
    let id = |kind: &[u8], key: &[u8]| {
        let hash = Sha256::of(&[ORIGIN.as_bytes(), b"\n", kind, key]).0;
        [hash[0], hash[1], hash[2], hash[3]]
    };
    let der = log.sign(note.text.as_bytes());
    let mut collision = other.signed().signatures.remove(0);
    collision.key_id = note.signatures[0].key_id;
    type Row<'a> = (&'a str, &'a dyn Fn(&mut NoteSignature), Result<(), NoteRefused>);
    let table: [Row<'_>; 13] = [
        ("nothing", &|_| {}, Ok(())),
        ("the id of Ed25519", &|line| line.key_id = id(&[1], &point), Err(NoteRefused::NoSuchSignature)),
        ("the id of C2SP's ECDSA byte", &|line| line.key_id = id(&[2], &point), Err(NoteRefused::NoSuchSignature)),
        ("no identifier behind 0xff", &|line| line.key_id = id(&[0xff], &point), Err(NoteRefused::NoSuchSignature)),
        (
            "another identifier",
            &|line| line.key_id = id(b"\xffcountersign/note-p256/v2", &point),
            Err(NoteRefused::NoSuchSignature),
        ),
        (
            "the identifier of cosignatures",
            &|line| line.key_id = id(b"\xffcountersign/cosignature-p256/v1", &point),
            Err(NoteRefused::NoSuchSignature),
        ),
        (
            "the id over the key's DER",
            &|line| line.key_id = id(b"\xffcountersign/note-p256/v1", &log.spki()),
            Err(NoteRefused::NoSuchSignature),
        ),
        ("another key with the same id", &|line| *line = collision.clone(), Err(NoteRefused::SignatureInvalid)),
        ("DER", &|line| line.signature = der.clone(), Err(NoteRefused::SignatureInvalid)),
        ("n - s, the other writing", &|line| negate(&mut line.signature[32..]), Err(NoteRefused::SignatureInvalid)),
        ("a byte too few", &|line| line.signature.truncate(63), Err(NoteRefused::SignatureInvalid)),
        ("a byte too many", &|line| line.signature.push(0), Err(NoteRefused::SignatureInvalid)),
        ("nothing but zeros", &|line| line.signature = vec![0; 64], Err(NoteRefused::SignatureInvalid)),
    ];
    for (what, change, expected) in table {
        assert_eq!(changed(change), expected, "{what}");
    }
    for at in 0..64 {
        let refused = changed(&|line| line.signature[at] ^= 1);
        assert_eq!(refused, Err(NoteRefused::SignatureInvalid), "byte {at}");
    }
    assert_eq!(note.verify(ORIGIN, &ed25519), Err(NoteRefused::NoSuchSignature), "an Ed25519 key asked for");
    assert_eq!(signed().0.verify(ORIGIN, &log.spki()), Err(NoteRefused::NoSuchSignature), "and the reverse");
    assert_eq!(note.verify(ORIGIN, &other.spki()), Err(NoteRefused::NoSuchSignature));
    // Other keys sign no notes at all, and an Ed25519 signature is none of P-256.
    let p384 = spki_der(Algorithm::P384, &[&[4], &[7; 96][..]].concat());
    assert_eq!(note.verify(ORIGIN, &p384), Err(NoteRefused::KeyName));
    assert_eq!(note.verify_cosignature(ORIGIN, &p384), Err(NoteRefused::KeyName));
    assert_eq!(NoteSignature::over_text(ORIGIN, &p384, &der), Err(NoteRefused::KeyName));
    assert_eq!(NoteSignature::over_text(ORIGIN, &log.spki(), &[7; 64]), Err(NoteRefused::SignatureInvalid));
    assert_eq!(key_id(SignatureType::Ed25519, ORIGIN, &log.spki()), Err(NoteRefused::KeyName));
    assert_eq!(key_id(SignatureType::P256, ORIGIN, &ed25519), Err(NoteRefused::KeyName));
}

#[test]
fn verifier_keys_of_both_types_are_read_as_they_are_written_and_in_no_other_way() {
    let (point, (_, ed25519)) = (Point::new(), key(1));
    for (kind, spki) in [(SignatureType::Ed25519, ed25519.clone()), (SignatureType::P256, point.spki())] {
        let word = verifier_key(kind, ORIGIN, &spki).unwrap();
        assert_eq!(VerifierKey::parse(&word), Ok(VerifierKey { name: ORIGIN.into(), spki }), "{word}");
        for at in ORIGIN.len()..word.len() {
            let mut other = word.clone().into_bytes();
            other[at] ^= 1;
            let other = String::from_utf8(other).unwrap();
            assert_eq!(VerifierKey::parse(&other), Err(NoteRefused::KeyName), "{other}");
        }
    }
    // A witness's key is not that of a log.
    for (kind, spki) in [(SignatureType::CosignatureV1, ed25519), (SignatureType::P256Cosignature, point.spki())] {
        let word = verifier_key(kind, ORIGIN, &spki).unwrap();
        assert_eq!(VerifierKey::parse(&word), Err(NoteRefused::KeyName), "{word}");
    }
    // A point that is not on the curve is no key, although its id is right.
    let off = spki_der(Algorithm::P256, &[&[4], &[7; 64][..]].concat());
    let word = verifier_key(SignatureType::P256, ORIGIN, &off).unwrap();
    assert_eq!(VerifierKey::parse(&word), Err(NoteRefused::KeyName));
}

#[test]
fn types_have_names_and_only_ours_are_said_in_evidence() {
    let names = SignatureType::ALL.map(|kind| (kind.name(), kind.own_name().is_some(), kind.algorithm()));
    let expected = [
        ("ed25519", false, Algorithm::Ed25519),
        ("cosignature/v1", false, Algorithm::Ed25519),
        ("countersign/note-p256/v1", true, Algorithm::P256),
        ("countersign/cosignature-p256/v1", true, Algorithm::P256),
    ];
    assert_eq!(names, expected);
    for algorithm in Algorithm::ALL {
        let of = (SignatureType::of_note(algorithm), SignatureType::of_cosignature(algorithm));
        let fits = |kind: Option<SignatureType>| kind.is_none_or(|kind| kind.algorithm() == algorithm);
        assert!(fits(of.0) && fits(of.1) && of.0.is_some() == of.1.is_some(), "{algorithm:?}");
    }
}

/// n − s of the group of P-256.
fn negate(s: &mut [u8]) {
    let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
    let mut borrowed = 0;
    for (digit, order) in s.iter_mut().zip(order).rev() {
        let left = 256 + i32::from(order) - i32::from(*digit) - borrowed;
        (*digit, borrowed) = (u8::try_from(left % 256).unwrap(), 1 - left / 256);
    }
}
