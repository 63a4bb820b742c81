//! The worked example of docs/FORMATS.md is what the code computes.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use countersign::kernel::canon::canonical;
use countersign::kernel::merkle;
use countersign::kernel::note::{Checkpoint, NoteSignature, SignatureType, SignedNote, key_id, verifier_key};
use countersign::kernel::receipt::{commitment, leaf_entry};
use countersign::kernel::sign::{Algorithm, DocumentTag, SignInput, spki_der};
use countersign::kernel::types::Sha256;
use serde_json::json;

const ORIGIN: &str = "bank.countersign.example/log";

/// The example, line by line as the page has it.
fn example() -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |name: &str, value: String| lines.push(format!("{name:<26}{value}"));

    let bodies = ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"];
    let mut hashes = Vec::new();
    for (number, body) in bodies.into_iter().enumerate() {
        let salt = [u8::try_from(number).unwrap(); 32];
        let commitment = commitment(&salt, body.as_bytes());
        let hash = merkle::leaf_hash(&leaf_entry(&commitment));
        say(&format!("commitment of leaf {number}"), commitment.hex());
        say(&format!("node 0/{number}"), hash.hex());
        hashes.push(hash);
    }
    say("node 1/0", merkle::node_hash(&hashes[0], &hashes[1]).hex());
    let root = merkle::root(&hashes);
    say("root of 3 leaves", root.hex());
    for (number, step) in merkle::inclusion_path(&hashes, 0).iter().enumerate() {
        say(&format!("path of leaf 0, step {number}"), step.hex());
    }

    let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    let spki = spki_der(Algorithm::Ed25519, pair.public_key().as_ref());
    say("public key", hex::encode(pair.public_key().as_ref()));
    say("key id", hex::encode(key_id(SignatureType::Ed25519, ORIGIN, &spki).unwrap()));
    let text = Checkpoint { origin: ORIGIN.into(), size: 3, root }.text();
    let signature = pair.sign(text.as_bytes());
    let line = NoteSignature::over_text(ORIGIN, &spki, signature.as_ref()).unwrap();
    let note = SignedNote { text: text.clone(), signatures: vec![line] }.compose();

    // The generator of the curve: the public key to the private scalar 1. The signature is one that was made once.
    let point = hex::decode(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
         4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    );
    let point = point.unwrap();
    let spki = spki_der(Algorithm::P256, &point);
    say("P-256 public key", hex::encode(&point));
    say("P-256 key id", hex::encode(key_id(SignatureType::P256, ORIGIN, &spki).unwrap()));
    let by_p256 = "\u{2014} bank.countersign.example/log vD+7SJoYdgEU58igY4EMxZglhcrtYnO8emhsc6IL8tnztaxKFWMDTphGS3Z5ESd2kY\
                   ly712ajUyou9/hKz3ZVy9HSeI=";
    let signed = SignedNote { text, signatures: vec![NoteSignature::parse(by_p256).unwrap()] };
    assert_eq!(signed.verify(ORIGIN, &spki), Ok(()));
    let own = verifier_key(SignatureType::P256, ORIGIN, &spki).unwrap();

    let statements: [&[u8]; 2] = [b"{\"a\":1}", b"{\"a\":2}"];
    let leaves = statements.map(merkle::leaf_hash);
    let document = json!({
        "schema": "countersign/batch/v1", "batch": 7, "count": 2, "root": merkle::root(&leaves),
        "at": "2026-11-21T04:20:37.125Z", "signature": "low-s",
    });
    let canonical_json = canonical(&document).unwrap();
    let shown = String::from_utf8(canonical_json.clone()).unwrap();
    let message = SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json }.message();
    say("batch leaf 0", leaves[0].hex());
    say("batch leaf 1", leaves[1].hex());
    say("SHA-256 of what is signed", Sha256::of(&[&message]).hex());
    lines.extend(note.trim_end().lines().map(str::to_owned));
    lines.extend([shown, by_p256.to_owned(), own]);
    lines
}

#[test]
fn the_worked_example_in_the_documentation_is_what_the_code_computes() {
    let page = include_str!("../../../docs/FORMATS.md");
    for line in example() {
        assert!(page.lines().any(|shown| shown == line), "docs/FORMATS.md lacks this line:\n{line}");
    }
}
