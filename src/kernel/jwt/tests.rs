//! The rules of tokens, each broken once.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use super::*;
use crate::kernel::types::Sha256;

/// 2026-11-21T04:20:00Z
const NOW: UnixMillis = UnixMillis(1_795_234_800_000);
const SECOND: i64 = NOW.0 / 1000;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct More {
    scope: String,
}

struct Signer {
    pair: EcdsaKeyPair,
    key: TokenKey,
}

impl Signer {
    fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki = sign::spki_der(Algorithm::P256, pair.public_key().as_ref());
        Self { pair, key: TokenKey { id: Sha256::of(&[&spki]), spki } }
    }

    fn header(&self) -> String {
        format!(r#"{{"alg":"ES256","kid":"{}","typ":"at+jwt"}}"#, self.key.id)
    }

    /// Any header and payload, signed all the same.
    fn token(&self, header: &str, payload: &str) -> String {
        let input = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let draft = Draft { signing_input: input };
        draft.signed(self.pair.sign(&SystemRandom::new(), draft.signing_input.as_bytes()).unwrap().as_ref()).unwrap()
    }

    fn judged(&self, token: &str) -> Result<VerifiedToken<More>, TokenRefusal> {
        let expected = Expected {
            kind: TokenKind::Access,
            issuer: "https://bank.example",
            audience: "https://bank.example/mcp",
            now: NOW,
            skew_max_s: 5,
        };
        verify(token, std::slice::from_ref(&self.key), &expected)
    }
}

fn good() -> Claims<More> {
    Claims {
        iss: "https://bank.example".into(),
        sub: "spiffe://bank.example/agent/purchaser/shopper".into(),
        aud: "https://bank.example/mcp".into(),
        iat: SECOND,
        exp: SECOND + 300,
        more: More { scope: "list_accounts".into() },
    }
}

fn payload() -> String {
    String::from_utf8(canonical(&good()).unwrap()).unwrap()
}

#[test]
fn what_is_drafted_and_signed_verifies_and_reads_back() {
    let signer = Signer::new();
    let draft = draft(TokenKind::Access, signer.key.id, &good()).unwrap();
    let SignInput::Jwt { signing_input } = draft.input() else { panic!("another input") };
    lint_signing_input(&signing_input, signer.key.id, NOW).unwrap();
    let signature = signer.pair.sign(&SystemRandom::new(), &signing_input).unwrap();
    let token = draft.signed(signature.as_ref()).unwrap();
    let verified = signer.judged(&token).unwrap();
    assert_eq!((verified.claims(), verified.key()), (&good(), signer.key.id));
    assert_eq!(verify_signature(&token, &signer.key.spki), Ok(()));
    assert_eq!(draft.signed(&[0x30, 0]), None);
}

#[test]
fn tokens_are_refused_by_name() {
    let signer = Signer::new();
    let (header, payload) = (signer.header(), payload());
    let with_header = |from: &str, to: &str| signer.token(&header.replacen(from, to, 1), &payload);
    let with_payload = |from: &str, to: &str| signer.token(&header, &payload.replacen(from, to, 1));
    let claiming = |change: fn(&mut Claims<More>)| {
        let mut claims = good();
        change(&mut claims);
        signer.token(&header, std::str::from_utf8(&canonical(&claims).unwrap()).unwrap())
    };
    let whole = signer.token(&header, &payload);
    let (input, signature) = whole.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let signed_with = |raw: &[u8]| format!("{input}.{}", URL_SAFE_NO_PAD.encode(raw));
    let mut changed = raw.clone();
    changed[40] ^= 1;
    let table = [
        ("nothing", String::new(), TokenRefusal::Parts),
        ("a word", "token".into(), TokenRefusal::Parts),
        ("two parts", input.to_owned(), TokenRefusal::Parts),
        ("no signature", format!("{input}."), TokenRefusal::Parts),
        ("four parts", format!("{whole}.AA"), TokenRefusal::Parts),
        ("five parts, as an encrypted one", format!("{whole}.AA.AA"), TokenRefusal::Parts),
        ("a part with padding", format!("{whole}=="), TokenRefusal::Base64),
        ("another alphabet", whole.replacen('.', "+/.", 1), TokenRefusal::Base64),
        ("a space", format!("{whole} "), TokenRefusal::Base64),
        ("too long", format!("{whole}{}", "A".repeat(TOKEN_BYTES_MAX)), TokenRefusal::TooLong),
        ("a header that is no object", signer.token("[]", &payload), TokenRefusal::Header),
        ("a header that is no JSON", signer.token("ES256", &payload), TokenRefusal::Header),
        ("alg none", with_header("ES256", "none"), TokenRefusal::Algorithm),
        ("alg None", with_header("ES256", "nOnE"), TokenRefusal::Algorithm),
        ("alg HS256", with_header("ES256", "HS256"), TokenRefusal::Algorithm),
        ("alg RS256", with_header("ES256", "RS256"), TokenRefusal::Algorithm),
        ("alg ES384", with_header("ES256", "ES384"), TokenRefusal::Algorithm),
        ("alg es256", with_header("ES256", "es256"), TokenRefusal::Algorithm),
        ("alg that is no text", with_header("\"ES256\"", "[\"ES256\"]"), TokenRefusal::Algorithm),
        ("no alg", with_header("\"alg\":\"ES256\",", ""), TokenRefusal::Algorithm),
        ("alg twice", with_header("{", "{\"alg\":\"none\","), TokenRefusal::DuplicateKey),
        ("crit", with_header("{", "{\"crit\":[\"exp\"],\"exp\":1,"), TokenRefusal::Critical),
        ("crit, empty", with_header("{", "{\"crit\":[],"), TokenRefusal::Critical),
        ("jwk", with_header("{", "{\"jwk\":{},"), TokenRefusal::HeaderUnknown),
        ("jku", with_header("{", "{\"jku\":\"https://evil.example\","), TokenRefusal::HeaderUnknown),
        ("x5c", with_header("{", "{\"x5c\":[],"), TokenRefusal::HeaderUnknown),
        ("b64", with_header("{", "{\"b64\":false,"), TokenRefusal::HeaderUnknown),
        ("zip", with_header("{", "{\"zip\":\"DEF\","), TokenRefusal::HeaderUnknown),
        ("typ JWT", with_header("at+jwt", "JWT"), TokenRefusal::Typ),
        ("another kind", with_header("at+jwt", "request-state+jwt"), TokenRefusal::Typ),
        ("typ in its long form", with_header("at+jwt", "application/at+jwt"), TokenRefusal::Typ),
        ("no typ", with_header(",\"typ\":\"at+jwt\"", ""), TokenRefusal::Typ),
        ("another key", with_header("\"kid\":\"", "\"kid\":\"0"), TokenRefusal::KeyUnknown),
        ("no kid", with_header(&format!("\"kid\":\"{}\",", signer.key.id), ""), TokenRefusal::KeyUnknown),
        ("a changed signature", signed_with(&changed), TokenRefusal::Signature),
        ("zeros as a signature", signed_with(&[0; 64]), TokenRefusal::Signature),
        ("a short signature", signed_with(&raw[..63]), TokenRefusal::Signature),
        ("a long signature", signed_with(&[&raw[..], &[0]].concat()), TokenRefusal::Signature),
        ("a signature in DER", signed_with(&sign::from_wire(Algorithm::P256, &raw).unwrap()), TokenRefusal::Signature),
        (
            "a payload that was changed",
            whole.replacen(
                &URL_SAFE_NO_PAD.encode(&payload),
                &URL_SAFE_NO_PAD.encode(payload.replace("list", "move")),
                1,
            ),
            TokenRefusal::Signature,
        ),
        ("a payload that is no object", signer.token(&header, "[]"), TokenRefusal::Payload),
        ("a payload that is no JSON", signer.token(&header, "{"), TokenRefusal::Payload),
        ("sub twice", with_payload("{", "{\"sub\":\"x\","), TokenRefusal::DuplicateKey),
        ("no exp", with_payload(&format!("\"exp\":{},", SECOND + 300), ""), TokenRefusal::Claims),
        ("exp as text", with_payload(&(SECOND + 300).to_string(), "\"9\""), TokenRefusal::Claims),
        ("exp as a float", with_payload(&(SECOND + 300).to_string(), "1795235100.0"), TokenRefusal::Claims),
        ("an unknown claim", with_payload("{", "{\"admin\":true,"), TokenRefusal::Claims),
        ("two audiences", with_payload("\"https://bank.example/mcp\"", "[]"), TokenRefusal::Claims),
        ("a space in the payload", with_payload("{", "{ "), TokenRefusal::Claims),
        ("no scope", with_payload(",\"scope\":\"list_accounts\"", ""), TokenRefusal::Claims),
        ("too long a life", claiming(|claims| claims.exp += 1), TokenRefusal::Lifetime),
        ("no life", claiming(|claims| claims.exp = claims.iat), TokenRefusal::Lifetime),
        ("ends before it begins", claiming(|claims| claims.exp = claims.iat - 1), TokenRefusal::Lifetime),
        (
            "numbers at their end",
            claiming(|claims| (claims.iat, claims.exp) = (-9_007_199_254_740_991, 9_007_199_254_740_991)),
            TokenRefusal::Lifetime,
        ),
        (
            "from the future",
            claiming(|claims| (claims.iat, claims.exp) = (SECOND + 6, SECOND + 60)),
            TokenRefusal::FromTheFuture,
        ),
        ("expired", claiming(|claims| (claims.iat, claims.exp) = (SECOND - 300, SECOND)), TokenRefusal::Expired),
        ("another issuer", claiming(|claims| claims.iss.push('/')), TokenRefusal::Issuer),
        ("another audience", claiming(|claims| claims.aud.push('/')), TokenRefusal::Audience),
    ];
    for (what, token, refusal) in table {
        assert_eq!(signer.judged(&token).unwrap_err(), refusal, "{what}");
    }
    assert_eq!(Signer::new().judged(&whole).unwrap_err(), TokenRefusal::KeyUnknown);
    let taken = [
        claiming(|claims| (claims.iat, claims.exp) = (SECOND + 5, SECOND + 305)),
        claiming(|claims| (claims.iat, claims.exp) = (SECOND - 299, SECOND + 1)),
    ];
    assert!(taken.iter().all(|token| signer.judged(token).is_ok()));
}

#[test]
fn a_key_signs_only_tokens_that_name_it_and_are_for_now() {
    let key = Sha256([7; 32]);
    let linted = |header: &str, payload: &str| {
        let input = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        lint_signing_input(input.as_bytes(), key, NOW)
    };
    let header = format!(r#"{{"alg":"ES256","kid":"{key}","typ":"at+jwt"}}"#);
    let state = header.replacen("at+jwt", "request-state+jwt", 1);
    let lasting = |from: i64, seconds: i64| {
        let claims = Claims { iat: SECOND + from, exp: SECOND + from + seconds, ..good() };
        String::from_utf8(canonical(&claims).unwrap()).unwrap()
    };
    let (payload, hour) = (payload(), lasting(0, 3600));
    assert_eq!(linted(&header, &payload), Ok(()));
    assert_eq!(linted(&state, &hour), Ok(()));
    let table = [
        (linted(&header, &hour), TokenRefusal::Lifetime),
        (linted(&state, &lasting(0, 3601)), TokenRefusal::Lifetime),
        (linted(&header, &lasting(61, 60)), TokenRefusal::FromTheFuture),
        (linted(&header, &lasting(-61, 60)), TokenRefusal::FromTheFuture),
        (linted(&header.replacen("07", "08", 1), &payload), TokenRefusal::KeyUnknown),
        (linted(&header.replacen("at+jwt", "jwt", 1), &payload), TokenRefusal::Typ),
        (linted(&header.replacen("ES256", "none", 1), &payload), TokenRefusal::Algorithm),
        (linted(&header, "{}"), TokenRefusal::Claims),
        (linted(&header, &payload.replacen("{", "{\"a\":1.5,", 1)), TokenRefusal::Claims),
        (linted(&header, &format!(" {payload}")), TokenRefusal::Claims),
        (lint_signing_input(b"", key, NOW), TokenRefusal::Parts),
        (lint_signing_input(b"\xff.\xff", key, NOW), TokenRefusal::Base64),
        (lint_signing_input(&[b'.'; 9000], key, NOW), TokenRefusal::TooLong),
    ];
    for (number, (judged, refusal)) in table.into_iter().enumerate() {
        assert_eq!(judged, Err(refusal), "row {number}");
    }
}
