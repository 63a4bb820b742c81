//! What external keys sign and refuse, by row.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};

use super::*;
use crate::kernel::httpsig::{Message, MessageParameters};
use crate::kernel::sign::{self, spki_der};

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

struct Signer {
    key: PublicKey,
    sign: Sign,
}

impl Signer {
    fn new(algorithm: Algorithm) -> Self {
        let (public, sign): (Vec<u8>, Sign) = match algorithm {
            Algorithm::P256 | Algorithm::P384 => {
                let is_p256 = algorithm == Algorithm::P256;
                let scheme = if is_p256 { &ECDSA_P256_SHA256_ASN1_SIGNING } else { &ECDSA_P384_SHA384_ASN1_SIGNING };
                let pair = EcdsaKeyPair::generate(scheme).unwrap();
                let public = pair.public_key().as_ref().to_vec();
                (public, Box::new(move |message| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()))
            }
            Algorithm::Ed25519 => {
                let pair = Ed25519KeyPair::generate().unwrap();
                (pair.public_key().as_ref().to_vec(), Box::new(move |message| pair.sign(message).as_ref().to_vec()))
            }
            Algorithm::Rsa3072 | Algorithm::Aes256 => unreachable!("no external key is one"),
        };
        Self { key: PublicKey::from_spki(&spki_der(algorithm, &public)).unwrap(), sign }
    }

    fn input(&self, kind: ExternalKind, payload: &[u8]) -> String {
        signing_input(kind, self.key.id(), self.key.algorithm(), payload).unwrap()
    }

    fn signed(&self, input: &str) -> String {
        let signature = sign::to_wire(self.key.algorithm(), &(self.sign)(input.as_bytes())).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn jws(&self, kind: ExternalKind, payload: &[u8]) -> String {
        self.signed(&self.input(kind, payload))
    }

    fn lint(&self, form: ExternalForm, bytes: &[u8]) -> Result<(), FormRefusal> {
        lint(form, bytes, self.key.id(), self.key.algorithm())
    }
}

const OF_EXTERNAL: [Algorithm; 3] = [Algorithm::P256, Algorithm::P384, Algorithm::Ed25519];
const DOCUMENT: &[u8] = br#"{"amount":"1899.99","currency":"USD"}"#;

fn payload(kind: ExternalKind) -> Vec<u8> {
    match kind {
        ExternalKind::File => FileStatement::new(Sha256([7; 32]), 12, Some("a.txt".into())).canonical().unwrap(),
        ExternalKind::Jwt => br#"{"aud":"b","exp":200,"iat":100,"iss":"a"}"#.to_vec(),
        ExternalKind::Document => DOCUMENT.to_vec(),
        ExternalKind::Batch => Tree::of(&[Sha256([7; 32])]).unwrap().statement().unwrap(),
        ExternalKind::Request | ExternalKind::Raw => unreachable!("not signed as a JWS"),
    }
}

#[test]
fn each_kind_verifies_as_itself_and_as_no_other() {
    let kinds = [ExternalKind::File, ExternalKind::Jwt, ExternalKind::Document, ExternalKind::Batch];
    for algorithm in OF_EXTERNAL {
        let signer = Signer::new(algorithm);
        for kind in kinds {
            let jws = signer.jws(kind, &payload(kind));
            assert_eq!(signer.lint(ExternalForm::Jws, signer.input(kind, &payload(kind)).as_bytes()), Ok(()));
            for read in kinds {
                let verified = verify_kind(&jws, &signer.key, read);
                match verified {
                    Ok(verified) if read == kind => assert_eq!(verified.payload(), payload(kind)),
                    Err(JwsRefusal::Kind) => assert_ne!(read, kind),
                    other => panic!("{kind:?} as {read:?}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn what_is_not_this_keys_jws_is_refused_by_name() {
    let (own, other) = (Signer::new(Algorithm::P256), Signer::new(Algorithm::P256));
    let good = own.jws(ExternalKind::Document, DOCUMENT);
    let parts: Vec<&str> = good.split('.').collect();
    let with = |header: &str| own.signed(&format!("{}.{}", URL_SAFE_NO_PAD.encode(header), parts[1]));
    let said =
        |rest: &str| format!(r#"{{"alg":"ES256","kid":"{}","typ":"countersign-document+jws"{rest}}}"#, own.key.id());
    let reordered = format!(r#"{{"kid":"{}","alg":"ES256","typ":"countersign-document+jws"}}"#, own.key.id());
    let rows = [
        ("too long", "x".repeat(200_000), JwsRefusal::TooLong),
        ("two parts", parts[..2].join("."), JwsRefusal::Parts),
        ("four parts", format!("{good}.x"), JwsRefusal::Parts),
        ("padding", format!("{good}=="), JwsRefusal::Base64),
        ("another alphabet", good.replace(parts[1], "+/"), JwsRefusal::Base64),
        ("no JSON", with("alg"), JwsRefusal::Header),
        ("an array", with("[]"), JwsRefusal::Header),
        ("alg twice", with(r#"{"alg":"ES256","alg":"ES256"}"#), JwsRefusal::Header),
        ("crit", with(&said(r#","crit":["x"]"#)), JwsRefusal::Critical),
        ("b64", with(&said(r#","b64":false"#)), JwsRefusal::Critical),
        ("none", with(r#"{"alg":"none"}"#), JwsRefusal::Algorithm),
        ("of another key's algorithm", with(r#"{"alg":"ES384"}"#), JwsRefusal::Algorithm),
        ("no alg", with("{}"), JwsRefusal::Algorithm),
        ("another member", with(&said(r#","x":"y""#)), JwsRefusal::Kind),
        ("another order", with(&reordered), JwsRefusal::Kind),
        ("another key's", other.jws(ExternalKind::Document, DOCUMENT), JwsRefusal::Signature),
        ("another payload", good.replace(parts[1], "e30"), JwsRefusal::Signature),
        ("not canonical", own.jws(ExternalKind::Document, br#"{"b":1,"a":2}"#), JwsRefusal::Payload),
        ("no object", own.jws(ExternalKind::Document, b"[]"), JwsRefusal::Payload),
        ("a file without its schema", own.jws(ExternalKind::File, DOCUMENT), JwsRefusal::Payload),
        ("a token without an end", own.jws(ExternalKind::Jwt, br#"{"iat":1}"#), JwsRefusal::Payload),
        ("a root of nothing", own.jws(ExternalKind::Batch, br#"{"root":"00","size":"0"}"#), JwsRefusal::Payload),
    ];
    for (what, jws, refusal) in rows {
        let kind = match what {
            "a file without its schema" => ExternalKind::File,
            "a token without an end" => ExternalKind::Jwt,
            "a root of nothing" => ExternalKind::Batch,
            _ => ExternalKind::Document,
        };
        assert_eq!(verify_kind(&jws, &own.key, kind).unwrap_err(), refusal, "{what}");
    }
    let unnamed = with(r#"{"alg":"ES256","kid":"x"}"#);
    assert_eq!(verify_kind(&unnamed, &own.key, ExternalKind::Document).unwrap_err(), JwsRefusal::KeyMismatch);
}

#[test]
fn no_changed_byte_of_a_jws_verifies() {
    let signer = Signer::new(Algorithm::Ed25519);
    let good = signer.jws(ExternalKind::Document, DOCUMENT).into_bytes();
    for place in 0..good.len() {
        for flip in [1_u8, 2, 0x20] {
            let mut changed = good.clone();
            changed[place] ^= flip;
            let text = String::from_utf8_lossy(&changed);
            assert!(verify_kind(&text, &signer.key, ExternalKind::Document).is_err(), "byte {place} by {flip}");
        }
    }
}

#[test]
fn a_key_signs_each_form_of_its_own_algorithm_alone() {
    for algorithm in OF_EXTERNAL {
        let signer = Signer::new(algorithm);
        let malformed = |form, bytes: &[u8]| matches!(signer.lint(form, bytes), Err(FormRefusal::NotOfForm(_)));
        for length in [0, 20, 32, 48, 64] {
            let fits = digest_bytes(algorithm) == Some(length);
            assert_eq!(signer.lint(ExternalForm::Digest, &vec![7; length]).is_ok(), fits, "{algorithm:?} {length}");
        }
        assert_eq!(signer.lint(ExternalForm::Message, b"any").is_ok(), algorithm == Algorithm::Ed25519);
        assert!(malformed(ExternalForm::Message, &vec![7; CONTENT_BYTES_MAX + 1]));
        let input = signer.input(ExternalKind::Document, DOCUMENT);
        assert_eq!(Signer::new(algorithm).lint(ExternalForm::Jws, input.as_bytes()), Err(FormRefusal::AnotherKey));
        for bad in ["", ".", "e30.e30", &input.replace('.', ""), &format!("{input}.x"), &format!("{input}=")] {
            assert!(malformed(ExternalForm::Jws, bad.as_bytes()), "{bad}");
        }
        assert!(malformed(ExternalForm::Jws, &[0xff, b'.']));
    }
}

#[test]
fn a_request_is_signed_for_the_key_that_it_names_and_never_with_the_tag_of_agents() {
    let signer = Signer::new(Algorithm::P256);
    let message = Message {
        method: Some("POST".into()),
        url: Some("https://example.com/foo?param=Value&Pet=dog".into()),
        status: None,
        headers: vec![("Content-Type".into(), "application/json".into())],
    };
    let with = |keyid: String, tag: Option<&str>| {
        let parameters =
            MessageParameters { created: 100, expires: None, nonce: None, keyid, tag: tag.map(str::to_owned) };
        message.draft(&["@method".into(), "@query-param;name=\"Pet\"".into(), "content-type".into()], &parameters)
    };
    let base = with(signer.key.id().hex(), Some("app")).unwrap().base;
    assert_eq!(signer.lint(ExternalForm::Request, &base), Ok(()));
    let other = with("another".into(), None).unwrap().base;
    assert_eq!(signer.lint(ExternalForm::Request, &other), Err(FormRefusal::AnotherKey));
    assert!(with(signer.key.id().hex(), Some("countersign-request")).is_err());
    let text = String::from_utf8(base).unwrap();
    for (what, bad) in [
        ("the tag of agents", text.replace("tag=\"app\"", "tag=\"countersign-request\"")),
        ("no parameters", text.lines().next().unwrap().to_owned()),
        ("a line less", text.lines().skip(1).collect::<Vec<_>>().join("\n")),
        ("another order", text.replacen("@method", "@path", 1)),
        ("no created", text.replace(";created=100", "")),
        ("created twice", text.replace(";created=100", ";created=100;created=100")),
        ("another algorithm", format!("{text};alg=\"ed25519\"")),
        ("nothing covered", format!("\"@signature-params\": ();created=100;keyid=\"{}\"", signer.key.id().hex())),
        ("not ASCII", text.replace("dog", "dög")),
        ("a JWS", signer.input(ExternalKind::Document, DOCUMENT)),
        ("nothing", String::new()),
    ] {
        assert!(matches!(signer.lint(ExternalForm::Request, bad.as_bytes()), Err(FormRefusal::NotOfForm(_))), "{what}");
    }
}

#[test]
fn every_item_of_a_tree_is_proven_and_nothing_else_is() {
    let signer = Signer::new(Algorithm::P256);
    for size in [1_usize, 2, 3, 4, 5, 7, 8, 9, 16, 33, 100] {
        let items: Vec<Sha256> = (0..size).map(|item| Sha256::of(&[&item.to_be_bytes()])).collect();
        let tree = Tree::of(&items).unwrap();
        let hashes: Vec<Sha256> = items.iter().map(|item| crate::kernel::merkle::leaf_hash(&item.0)).collect();
        assert_eq!(tree.root(), crate::kernel::merkle::root(&hashes), "the tree of RFC 9162 with {size} leaves");
        let root = signer.jws(ExternalKind::Batch, &tree.statement().unwrap());
        let proof = |index: usize| LeafProof {
            sha256: items[index],
            index: index as u64,
            size: size as u64,
            path: tree.path(index),
            root: root.clone(),
        };
        for index in 0..size {
            assert_eq!(tree.path(index), crate::kernel::merkle::inclusion_path(&hashes, index as u64));
            assert_eq!(verify_proof(&proof(index), &signer.key), Ok(()));
        }
        let good = proof(size - 1);
        let other = LeafProof { sha256: Sha256([9; 32]), ..good.clone() };
        assert_eq!(verify_proof(&other, &signer.key), Err(ProofRefusal::NotIncluded));
        let larger = LeafProof { size: size as u64 + 1, ..good.clone() };
        assert_eq!(verify_proof(&larger, &signer.key), Err(ProofRefusal::Size));
        let beyond = LeafProof { index: size as u64, ..good.clone() };
        assert_eq!(verify_proof(&beyond, &signer.key), Err(ProofRefusal::NotIncluded));
        let stranger = verify_proof(&good, &Signer::new(Algorithm::P256).key);
        assert_eq!(stranger, Err(ProofRefusal::Root(JwsRefusal::Signature)));
    }
    assert_eq!(Tree::of(&[]), None);
}

#[test]
fn keys_come_back_from_their_jwk_and_others_are_refused_by_name() {
    for algorithm in OF_EXTERNAL {
        let key = Signer::new(algorithm).key;
        let jwk = key.jwk();
        assert_eq!(PublicKey::from_jwk(&jwk), Ok(key));
        let with = |name: &str, value: Value| {
            let mut changed = jwk.clone();
            changed[name] = value;
            PublicKey::from_jwk(&changed).unwrap_err()
        };
        for (name, value, refusal) in [
            ("d", json!("AA"), JwkRefusal::Private),
            ("kty", json!("oct"), JwkRefusal::Private),
            ("kty", json!("RSA"), JwkRefusal::UnknownKind),
            ("crv", json!("P-521"), JwkRefusal::UnknownKind),
            ("alg", json!("ES512"), JwkRefusal::OtherUse),
            ("alg", Value::Null, JwkRefusal::OtherUse),
            ("use", json!("enc"), JwkRefusal::OtherUse),
            ("key_ops", json!(["sign"]), JwkRefusal::OtherUse),
            ("x", json!("AA"), JwkRefusal::Coordinate),
            ("x", Value::Null, JwkRefusal::Coordinate),
        ] {
            assert_eq!(with(name, value), refusal, "{algorithm:?} {name}");
        }
        if algorithm != Algorithm::Ed25519 {
            let zeros = URL_SAFE_NO_PAD.encode(vec![1; digest_bytes(algorithm).unwrap()]);
            assert_eq!(with("x", json!(zeros)), JwkRefusal::Unsound);
        }
    }
    assert_eq!(PublicKey::from_spki(&[0x30, 0]), Err(JwkRefusal::UnknownKind));
}
