//! One row a rule: what is bent of an honest request, and the name under which it is refused.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::kernel::sign::{Algorithm, spki_der, to_wire};
use SignatureRefusal as Refusal;

const NOW: i64 = 1_795_234_800;
const BODY: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
const NONCE: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

/// A key that is no HSM's.
struct Key {
    pair: EcdsaKeyPair,
    algorithm: Algorithm,
}

impl Key {
    fn new(algorithm: Algorithm) -> Self {
        let scheme = match algorithm {
            Algorithm::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
            _ => &ECDSA_P256_SHA256_ASN1_SIGNING,
        };
        Self { pair: EcdsaKeyPair::generate(scheme).unwrap(), algorithm }
    }

    fn spki(&self) -> Vec<u8> {
        spki_der(self.algorithm, self.pair.public_key().as_ref())
    }

    fn id(&self) -> KeyId {
        Sha256::of(&[&self.spki()])
    }

    /// As it travels.
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), message).unwrap();
        to_wire(self.algorithm, signature.as_ref()).unwrap()
    }
}

fn honest_components() -> Components {
    Components {
        method: "POST".into(),
        target_uri: "https://bank.example:8443/mcp".into(),
        content_digest: content_digest(BODY),
        protocol_version: "2026-07-28".into(),
        mcp_method: "tools/call".into(),
        mcp_name: Some("get_account_balance".into()),
        authorization: None,
    }
}

fn parameters() -> Parameters {
    Parameters { created: NOW - 1, expires: NOW + 59, nonce: NONCE.into() }
}

/// A request that can be bent.
#[derive(Clone)]
struct Wire {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Wire {
    /// Around these values; `Host` and target are those of `honest_components`.
    fn around(components: &Components, signature: &SignatureHeaders) -> Self {
        let mut headers = vec![("host".to_owned(), b"bank.example:8443".to_vec())];
        for (name, value) in components.lines() {
            if !name.starts_with('@') {
                headers.push((name.to_owned(), value.as_bytes().to_vec()));
            }
        }
        headers.push(("signature-input".into(), signature.signature_input.clone().into_bytes()));
        headers.push(("signature".into(), signature.signature.clone().into_bytes()));
        Self { method: components.method.clone(), target: "/mcp".into(), headers, body: BODY.to_vec() }
    }

    fn honest(key: &Key) -> Self {
        let components = honest_components();
        let draft = components.draft(&parameters(), key.id());
        Self::around(&components, &draft.signed(&key.sign(&draft.base)))
    }

    fn text(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(header, _)| header == name).unwrap();
        String::from_utf8(found.1.clone()).unwrap()
    }

    fn set(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.retain(|(header, _)| header != name);
        self.headers.push((name.into(), value.into()));
        self
    }

    fn add(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(header, _)| header != name);
        self
    }

    /// Signed anew over the same values with another text of parameters: as a signer would that follows no profile.
    fn signed_as(self, key: &Key, text: &str) -> Self {
        let names: Vec<String> = self.text("signature-input")["countersign=(".len()..]
            .split(')')
            .next()
            .unwrap()
            .split(' ')
            .map(|name| name.trim_matches('"').to_owned())
            .collect();
        let components = honest_components();
        let lines: Vec<(&str, &str)> =
            components.lines().into_iter().filter(|(name, _)| names.iter().any(|n| n == name)).collect();
        let signature = key.sign(&base::signature_base(&lines, text));
        self.set("signature-input", format!("countersign={text}"))
            .set("signature", format!("countersign=:{}:", STANDARD.encode(signature)))
    }

    fn verdict(&self, key: &Key) -> Result<VerifiedRequest, Refusal> {
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let request = SignedRequest { method: &self.method, target: &self.target, headers: &headers, body: &self.body };
        let window = Window { now: UnixMillis(NOW * 1000 + 999), lifetime_max_s: 60, skew_max_s: 5 };
        verify(&request, &key.spki(), &window)
    }
}

const COVERED: &str = r#"("@method" "@target-uri" "content-digest" "mcp-protocol-version" "mcp-method" "mcp-name")"#;

#[test]
fn an_honest_request_is_verified_and_says_when_and_what_makes_it_single_use() {
    for algorithm in [Algorithm::P256, Algorithm::P384] {
        let key = Key::new(algorithm);
        let verified = Wire::honest(&key).verdict(&key).unwrap();
        assert_eq!((verified.created(), verified.expires()), (NOW - 1, NOW + 59));
        let repeated = Wire::honest(&key).verdict(&key).unwrap();
        assert_eq!(repeated.once(), verified.once(), "the same nonce, another signature");
        // Of either the record says what was signed: the same, and by this key alone.
        let (first, second) = (verified.signature().unwrap(), repeated.signature().unwrap());
        assert_eq!((&first.base_digest, first.created), (&second.base_digest, UnixMillis((NOW - 1) * 1_000)));
        let is_signed = |by: &Key, signature: &RequestSignature| {
            let der = sign::from_wire(algorithm, &signature.bytes).unwrap();
            sign::digest_is_signed(&by.spki(), &signature.base_digest, &der)
        };
        assert!(is_signed(&key, first) && is_signed(&key, second) && !is_signed(&Key::new(algorithm), first));
        let mut another = first.clone();
        another.base_digest[7] ^= 1;
        assert!(!is_signed(&key, &another));
        let mut other = parameters();
        other.nonce = NONCE.replace('M', "N");
        let components = honest_components();
        let draft = components.draft(&other, key.id());
        let again = Wire::around(&components, &draft.signed(&key.sign(&draft.base))).verdict(&key).unwrap();
        assert_ne!(again.once(), verified.once());
    }
}

#[test]
fn what_others_write_differently_is_accepted_as_they_write_it() {
    let key = Key::new(Algorithm::P256);
    let (created, expires, id) = (NOW - 1, NOW + 59, key.id());
    let table = [
        (
            "another order of parameters",
            format!(r#"{COVERED};keyid="{id}";tag="{TAG}";nonce="{NONCE}";expires={expires};created={created}"#),
        ),
        (
            "the algorithm named",
            format!(
                r#"{COVERED};created={created};expires={expires};nonce="{NONCE}";keyid="{id}";alg="ecdsa-p256-sha256";tag="{TAG}""#
            ),
        ),
        (
            "spaces before parameters",
            format!(r#"{COVERED}; created={created};  expires={expires};nonce="{NONCE}";keyid="{id}";tag="{TAG}""#),
        ),
        (
            "the clock a little ahead",
            format!(r#"{COVERED};created={};expires={};nonce="{NONCE}";keyid="{id}";tag="{TAG}""#, NOW + 5, NOW + 65),
        ),
        (
            "the last second",
            format!(r#"{COVERED};created={};expires={NOW};nonce="{NONCE}";keyid="{id}";tag="{TAG}""#, NOW - 60),
        ),
    ];
    for (what, text) in table {
        assert!(Wire::honest(&key).signed_as(&key, &text).verdict(&key).is_ok(), "{what}");
    }
    let honest = Wire::honest(&key);
    let (input, signature) = (honest.text("signature-input"), honest.text("signature"));
    let others = format!("proxy=(\"@status\";req);created=1, {input}, x=()");
    let beside = honest.clone().set("signature-input", others).set("signature", format!("{signature}, proxy=:AA==:"));
    assert!(beside.verdict(&key).is_ok(), "signatures of others beside it");
    let renamed = input.replacen("countersign=", "sig1=", 1);
    let renamed =
        honest.clone().set("signature-input", renamed).set("signature", signature.replacen("countersign=", "sig1=", 1));
    assert!(renamed.verdict(&key).is_ok(), "another label");
    let digest = format!("sha-512=:{}:, {}", STANDARD.encode([7; 64]), content_digest(BODY));
    let components = Components {
        content_digest: digest,
        mcp_name: None,
        authorization: Some("Bearer abc".into()),
        ..honest_components()
    };
    let draft = components.draft(&parameters(), key.id());
    let more = Wire::around(&components, &draft.signed(&key.sign(&draft.base)));
    assert!(more.verdict(&key).is_ok(), "two digests, no name, a token");
}

type Bend = Box<dyn Fn(Wire) -> Wire>;

fn bend(change: impl Fn(Wire) -> Wire + 'static) -> Bend {
    Box::new(change)
}

#[test]
fn each_rule_refuses_what_breaks_it_by_name() {
    let key = Key::new(Algorithm::P256);
    let other = Key::new(Algorithm::P256);
    let honest = Wire::honest(&key);
    let stranger = Wire::honest(&other);
    let (input, signature) = (honest.text("signature-input"), honest.text("signature"));
    let set = |name: &'static str, value: &str| {
        let value = value.to_owned();
        bend(move |wire| wire.set(name, value.clone()))
    };
    let add = |name: &'static str, value: &str| {
        let value = value.to_owned();
        bend(move |wire| wire.add(name, value.clone()))
    };
    let without = |name: &'static str| bend(move |wire| wire.without(name));
    let (other_input, other_signature) = (stranger.text("signature-input"), stranger.text("signature"));
    let swapped = bend(move |wire| wire.set("signature", other_signature.clone()));
    let table: Vec<(&str, Bend, Refusal)> = vec![
        ("no Signature-Input", without("signature-input"), Refusal::Missing),
        ("no Signature", without("signature"), Refusal::Missing),
        ("an empty Signature-Input", set("signature-input", ""), Refusal::Missing),
        ("another tag", set("signature-input", &input.replace(TAG, "countersign-response")), Refusal::Missing),
        ("no tag", set("signature-input", &input.replace(&format!(";tag=\"{TAG}\""), "")), Refusal::Missing),
        ("a tag that is a token", set("signature-input", &input.replace(&format!("\"{TAG}\""), TAG)), Refusal::Missing),
        (
            "a signature under another label",
            set("signature", &signature.replace("countersign=", "x=")),
            Refusal::Missing,
        ),
        ("a signature that is no bytes", set("signature", "countersign=\"AAAA\""), Refusal::Missing),
        ("a signature in a list", set("signature", "countersign=(:AAAA:)"), Refusal::Missing),
        (
            "two of our tag",
            set("signature-input", &format!("{input}, {}", input.replacen("countersign=", "b=", 1))),
            Refusal::Ambiguous,
        ),
        ("a label twice", set("signature-input", &format!("{input}, {input}")), Refusal::Malformed),
        ("a signature twice", set("signature", &format!("{signature}, {signature}")), Refusal::Malformed),
        ("an item instead of a list", set("signature-input", "countersign=1"), Refusal::Malformed),
        ("another's item", set("signature-input", &format!("{input}, x=1")), Refusal::Malformed),
        ("half a list", set("signature-input", &input.replacen(')', "", 1)), Refusal::Malformed),
        ("text after it", set("signature-input", &format!("{input} x")), Refusal::Malformed),
        ("not base64", set("signature", "countersign=:A*A=:"), Refusal::Malformed),
        ("Signature-Input on two lines", add("signature-input", &input), Refusal::HeaderDuplicate),
        ("Signature on two lines", add("signature", &signature), Refusal::HeaderDuplicate),
        ("Content-Digest on two lines", add("content-digest", &content_digest(BODY)), Refusal::HeaderDuplicate),
        ("two revisions", add("mcp-protocol-version", "2026-07-28"), Refusal::HeaderDuplicate),
        ("two methods", add("mcp-method", "tools/call"), Refusal::HeaderDuplicate),
        ("two names", add("mcp-name", "get_account_balance"), Refusal::HeaderDuplicate),
        ("two hosts", add("host", "bank.example:8443"), Refusal::HeaderDuplicate),
        (
            "two tokens",
            bend(|wire| wire.add("authorization", "Bearer a").add("authorization", "Bearer a")),
            Refusal::HeaderDuplicate,
        ),
        ("bytes in a name", bend(|wire| wire.set("mcp-name", [0xff, 0xfe])), Refusal::HeaderNotAscii),
        ("letters beyond ASCII", set("mcp-name", "Überweisung"), Refusal::HeaderNotAscii),
        ("a tab inside", set("mcp-method", "tools\tcall"), Refusal::HeaderNotAscii),
        (
            "letters beyond ASCII in the signature",
            set("signature-input", &format!("{input};ü")),
            Refusal::HeaderNotAscii,
        ),
        ("no host", without("host"), Refusal::ComponentMissing),
        ("no digest", without("content-digest"), Refusal::ComponentMissing),
        ("no revision", without("mcp-protocol-version"), Refusal::ComponentMissing),
        ("no method", without("mcp-method"), Refusal::ComponentMissing),
        ("an empty method", set("mcp-method", " "), Refusal::ComponentMissing),
        ("a token that is not covered", add("authorization", "Bearer a"), Refusal::ComponentMissing),
        ("a name that is covered and not there", without("mcp-name"), Refusal::ComponentUnknown),
        ("another verb", bend(|wire| Wire { method: "PUT".into(), ..wire }), Refusal::Invalid),
        ("another path", bend(|wire| Wire { target: "/mcp2".into(), ..wire }), Refusal::Invalid),
        ("a query", bend(|wire| Wire { target: "/mcp?x=1".into(), ..wire }), Refusal::Invalid),
        ("another host", set("host", "bank.example"), Refusal::Invalid),
        ("another revision", set("mcp-protocol-version", "2025-11-25"), Refusal::Invalid),
        ("another method of MCP", set("mcp-method", "tools/list"), Refusal::Invalid),
        ("another tool", set("mcp-name", "execute_transfer"), Refusal::Invalid),
        ("another body", bend(|wire| Wire { body: b"{}".to_vec(), ..wire }), Refusal::DigestMismatch),
        ("a byte more", bend(|wire| Wire { body: [BODY, b" "].concat(), ..wire }), Refusal::DigestMismatch),
        ("no body", bend(|wire| Wire { body: vec![], ..wire }), Refusal::DigestMismatch),
        ("another digest", set("content-digest", &content_digest(b"{}")), Refusal::DigestMismatch),
        (
            "another body with its digest",
            bend(|wire| Wire { body: b"{}".to_vec(), ..wire }.set("content-digest", content_digest(b"{}"))),
            Refusal::Invalid,
        ),
        ("a short digest", set("content-digest", "sha-256=:AAAA:"), Refusal::DigestMismatch),
        (
            "a digest of another algorithm only",
            set("content-digest", &format!("sha-512=:{}:", STANDARD.encode([7; 64]))),
            Refusal::DigestAlgorithm,
        ),
        ("a digest that is text", set("content-digest", "sha-256=\"abc\""), Refusal::DigestAlgorithm),
        (
            "two digests under one name",
            set("content-digest", &format!("{0}, {0}", content_digest(BODY))),
            Refusal::DigestMalformed,
        ),
        ("no dictionary", set("content-digest", "sha-256"), Refusal::DigestMalformed),
        ("another agent's signature", swapped, Refusal::Invalid),
        (
            "another agent's request",
            bend(move |wire| wire.set("signature-input", other_input.clone())),
            Refusal::KeyMismatch,
        ),
        ("a shorter signature", set("signature", "countersign=:AAAA:"), Refusal::Invalid),
        ("no signature bytes", set("signature", "countersign=::"), Refusal::Invalid),
        (
            "a later end",
            set("signature-input", &input.replace(&format!("expires={}", NOW + 59), &format!("expires={}", NOW + 58))),
            Refusal::Invalid,
        ),
        ("another nonce", set("signature-input", &input.replace(NONCE, &NONCE.replace('M', "N"))), Refusal::Invalid),
        (
            "a parameter more",
            set("signature-input", &input.replace(";tag", ";alg=\"ecdsa-p256-sha256\";tag")),
            Refusal::Invalid,
        ),
    ];
    for (what, change, expected) in table {
        assert_eq!(change(honest.clone()).verdict(&key).map(drop), Err(expected), "{what}");
    }
}

/// What the key itself signed, outside of the profile.
#[test]
fn what_an_agent_signs_that_is_not_the_profile_is_refused_by_name() {
    let key = Key::new(Algorithm::P256);
    let (created, expires, id) = (NOW - 1, NOW + 59, key.id());
    let usual = format!(r#"{COVERED};created={created};expires={expires};nonce="{NONCE}";keyid="{id}";tag="{TAG}""#);
    let times = |created: i64, expires: i64| {
        format!(r#"{COVERED};created={created};expires={expires};nonce="{NONCE}";keyid="{id}";tag="{TAG}""#)
    };
    let covering = |list: &str| usual.replace(COVERED, list);
    let in_place = |this: &str, that: &str| {
        assert!(usual.contains(this), "{this}");
        usual.replace(this, that)
    };
    let short = COVERED.replace(" \"mcp-name\"", "");
    let table = [
        ("an unknown parameter", in_place(";tag", ";x=1;tag"), Refusal::ParameterUnknown),
        ("a parameter twice", in_place(";tag", &format!(";created={created};tag")), Refusal::ParameterMalformed),
        ("no created", in_place(&format!(";created={created}"), ""), Refusal::ParameterMissing),
        ("no expires", in_place(&format!(";expires={expires}"), ""), Refusal::ParameterMissing),
        ("no nonce", in_place(&format!(";nonce=\"{NONCE}\""), ""), Refusal::ParameterMissing),
        ("no keyid", in_place(&format!(";keyid=\"{id}\""), ""), Refusal::ParameterMissing),
        (
            "created as text",
            in_place(&format!("created={created}"), &format!("created=\"{created}\"")),
            Refusal::ParameterMalformed,
        ),
        (
            "created with a fraction",
            in_place(&format!("created={created}"), &format!("created={created}.5")),
            Refusal::ParameterMalformed,
        ),
        ("a nonce of bytes", in_place(&format!("\"{NONCE}\""), ":AAAA:"), Refusal::ParameterMalformed),
        ("alg as a token", in_place(";tag", ";alg=ed25519;tag"), Refusal::ParameterMalformed),
        ("another algorithm", in_place(";tag", ";alg=\"ecdsa-p384-sha384\";tag"), Refusal::Algorithm),
        ("an algorithm with a shared secret", in_place(";tag", ";alg=\"hmac-sha256\";tag"), Refusal::Algorithm),
        ("a short nonce", in_place(NONCE, &NONCE[..21]), Refusal::NonceLength),
        ("a long nonce", in_place(NONCE, &"n".repeat(89)), Refusal::NonceLength),
        ("no nonce at all", in_place(NONCE, ""), Refusal::NonceLength),
        ("its key's name in capitals", in_place(&id.hex(), &id.hex().to_uppercase()), Refusal::KeyMismatch),
        ("another key's name", in_place(&id.hex(), &Sha256([9; 32]).hex()), Refusal::KeyMismatch),
        ("a name of its own", in_place(&id.hex(), "assistant"), Refusal::KeyMismatch),
        ("from the future", times(NOW + 6, NOW + 60), Refusal::FromTheFuture),
        ("expired", times(NOW - 60, NOW - 1), Refusal::Expired),
        ("of another year", times(NOW - 40_000_000, NOW - 40_000_000 + 60), Refusal::Expired),
        ("a long life", times(NOW - 1, NOW + 60), Refusal::LifetimeTooLong),
        ("nine minutes", times(NOW, NOW + 540), Refusal::LifetimeTooLong),
        ("no life", times(NOW, NOW), Refusal::LifetimeTooLong),
        ("an end before its beginning", times(NOW, NOW - 1), Refusal::LifetimeTooLong),
        ("the widest numbers there are", times(-999_999_999_999_999, 999_999_999_999_999), Refusal::LifetimeTooLong),
        ("nothing covered", covering("()"), Refusal::ComponentMissing),
        ("the name is not covered", covering(&short), Refusal::ComponentMissing),
        ("the digest is not covered", covering(&COVERED.replace(" \"content-digest\"", "")), Refusal::ComponentMissing),
        (
            "another order",
            covering(&COVERED.replace("\"@method\" \"@target-uri\"", "\"@target-uri\" \"@method\"")),
            Refusal::ComponentOrder,
        ),
        (
            "a component twice",
            covering(&COVERED.replace("\"@method\"", "\"@method\" \"@method\"")),
            Refusal::ComponentOrder,
        ),
        ("a component more", covering(&COVERED.replace("(", "(\"date\" ")), Refusal::ComponentUnknown),
        ("a component in capitals", covering(&COVERED.replace("mcp-name", "Mcp-Name")), Refusal::ComponentMissing),
        (
            "a component of the request of a response",
            covering(&COVERED.replace("\"@method\"", "\"@method\";req")),
            Refusal::ComponentUnknown,
        ),
        (
            "a component that is a token",
            covering(&COVERED.replace("\"mcp-name\"", "mcp-name")),
            Refusal::ComponentUnknown,
        ),
    ];
    for (what, text, expected) in table {
        let wire = Wire::honest(&key).signed_as(&key, &text);
        assert_eq!(wire.verdict(&key).map(drop), Err(expected), "{what}");
    }
    assert!(Wire::honest(&key).signed_as(&key, &usual).verdict(&key).is_ok());
}

#[test]
fn every_refusal_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.name()).collect();
    assert_eq!(names.len(), Refusal::ALL.len());
}

#[test]
fn a_worker_signs_a_base_of_the_profile_for_its_own_key_now_and_nothing_like_it() {
    let key = Key::new(Algorithm::P256);
    let base = |components: &Components, parameters: &Parameters, key: KeyId| {
        String::from_utf8(components.draft(parameters, key).base).unwrap()
    };
    let honest = base(&honest_components(), &parameters(), key.id());
    let lint = |text: &str| lint_base(text.as_bytes(), key.id(), UnixMillis(NOW * 1000));
    assert_eq!(lint(&honest), Ok(()));
    let fewer = Components { mcp_name: None, authorization: Some("Bearer abc".into()), ..honest_components() };
    assert_eq!(lint(&base(&fewer, &parameters(), key.id())), Ok(()));

    let with = |change: fn(&mut Components)| {
        let mut components = honest_components();
        change(&mut components);
        base(&components, &parameters(), key.id())
    };
    let when = |created: i64, expires: i64| {
        base(&honest_components(), &Parameters { created, expires, ..parameters() }, key.id())
    };
    let lines: Vec<&str> = honest.split('\n').collect();
    let moved = [&lines[1..2], &lines[..1], &lines[2..]].concat().join("\n");
    let table = [
        ("nothing", String::new()),
        ("a newline", "\n".into()),
        ("one line", lines[6].into()),
        ("no parameters", lines[..6].join("\n")),
        ("a line after them", format!("{honest}\n")),
        ("another line after them", format!("{honest}\n\"date\": today")),
        ("no method", lines[1..].join("\n")),
        ("another order", moved),
        ("a line twice", [&lines[..1], &lines[..]].concat().join("\n")),
        (
            "a line that the list does not name",
            [&lines[..6], &["\"authorization\": Bearer a"], &lines[6..]].concat().join("\n"),
        ),
        ("a name that no line has", honest.replace("\"mcp-name\")", "\"mcp-name\" \"authorization\")")),
        ("no quotes", honest.replacen("\"@method\"", "@method", 1)),
        ("spaces around a value", with(|c| c.mcp_method = " tools/call".into())),
        ("an empty value", with(|c| c.mcp_method = String::new())),
        ("a line hidden in a value", with(|c| c.mcp_method = "tools/call\n\"mcp-name\": execute_transfer".into())),
        ("a carriage return", with(|c| c.mcp_method = "tools\rcall".into())),
        ("letters beyond ASCII", with(|c| c.mcp_method = "tööls".into())),
        ("a method in small letters", with(|c| c.method = "post".into())),
        ("plain HTTP", with(|c| c.target_uri = "http://bank.example/mcp".into())),
        ("no digest", with(|c| c.content_digest = "sha-512=:AAAA:".into())),
        ("a short digest", with(|c| c.content_digest = "sha-256=:AAAA:".into())),
        ("another tag", honest.replace(TAG, "payment")),
        ("another key", base(&honest_components(), &parameters(), Sha256([9; 32]))),
        ("a nonce too short", base(&honest_components(), &Parameters { nonce: "n".into(), ..parameters() }, key.id())),
        ("nine minutes", when(NOW, NOW + 540)),
        ("for tomorrow", when(NOW + 86_400, NOW + 86_460)),
        ("for yesterday", when(NOW - 86_400, NOW - 86_340)),
        ("a parameter more", format!("{honest};x=1")),
        ("a TLS handshake", format!("{}TLS 1.3, client CertificateVerify\0", " ".repeat(64))),
        ("a document", r#"{"a":"1"}"#.into()),
    ];
    for (what, text) in table {
        assert!(lint(&text).is_err(), "{what}");
    }
    assert!(lint_base(&[0xff; 40], key.id(), UnixMillis(NOW * 1000)).is_err());
    let other = lint(&base(&honest_components(), &parameters(), Sha256([9; 32])));
    assert_eq!(other, Err(BaseRefusal::Rule(Refusal::KeyMismatch)));
}

fn value() -> impl Strategy<Value = String> {
    // What a header carries unchanged: printable, no space at its ends.
    "[!-~]([ -~]{0,30}[!-~])?"
}

proptest! {
    #[test]
    fn what_is_composed_and_signed_is_verified_and_what_is_changed_is_not(
        (path, version, method) in ("/[a-z0-9/_.?=&%-]{0,20}", value(), value()),
        (name, token) in (proptest::option::of(value()), proptest::option::of(value())),
        (nonce, life) in ("[ -!#-\\[\\]-~]{22,88}", 1_i64..=60),
        (changed, body) in (0_usize..7, proptest::collection::vec(any::<u8>(), 0..64)),
    ) {
        let key = Key::new(Algorithm::P256);
        let components = Components {
            target_uri: format!("https://bank.example:8443{path}"),
            content_digest: content_digest(&body),
            protocol_version: version,
            mcp_method: method,
            mcp_name: name,
            authorization: token,
            ..honest_components()
        };
        let said = Parameters { created: NOW, expires: NOW + life, nonce };
        let draft = components.draft(&said, key.id());
        prop_assert_eq!(lint_base(&draft.base, key.id(), UnixMillis(NOW * 1000)), Ok(()));
        let headers = draft.signed(&key.sign(&draft.base));
        let wire = Wire { target: path, body, ..Wire::around(&components, &headers) };
        prop_assert!(wire.verdict(&key).is_ok());
        let lines = components.lines();
        let (bent, _) = lines[changed % lines.len()];
        let changed = match bent {
            "@method" => Wire { method: "GET".into(), ..wire },
            "@target-uri" => Wire { target: format!("{}x", wire.target), ..wire },
            header => {
                let value = format!("{}x", wire.text(header));
                wire.set(header, value)
            }
        };
        prop_assert!(changed.verdict(&key).is_err());
    }

    #[test]
    fn no_text_makes_the_readers_panic(input in "[ -~]{0,80}", signature in "[ -~]{0,40}", base in proptest::collection::vec(any::<u8>(), 0..200)) {
        let key = Sha256([7; 32]);
        let headers: [(&str, &[u8]); 2] = [("signature-input", input.as_bytes()), ("signature", signature.as_bytes())];
        let request = SignedRequest { method: "POST", target: "/mcp", headers: &headers, body: b"" };
        let window = Window { now: UnixMillis(0), lifetime_max_s: 60, skew_max_s: 5 };
        prop_assert!(verify(&request, &[], &window).is_err());
        prop_assert!(lint_base(&base, key, UnixMillis(0)).is_err());
    }
}
