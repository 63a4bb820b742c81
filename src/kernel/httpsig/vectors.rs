//! RFC 9421, appendix B.2, as far as it is ours to make or verify: the signature bases of B.2.2 to B.2.6 from their
//! components, the two signatures whose algorithms our keys have, and the digest of the test request (RFC 9530).
//!
//! Not here: B.2.1 covers no component, and a base without lines is never composed; the signatures of B.2.1 to B.2.3
//! are RSASSA-PSS and that of B.2.5 is an HMAC, which no key of ours makes; B.3 is a proxy's `client-cert`; B.4 joins
//! header lines that are there twice, which are refused here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::base::signature_base;
use super::*;
use crate::kernel::sign::signature_is_valid;

const REQUEST_DIGEST: &str =
    "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
const RESPONSE_DIGEST: &str =
    "sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:";
const DATE: &str = "Tue, 20 Apr 2021 02:07:55 GMT";

/// B.1.3, test-key-ecc-p256.
const ECC_P256: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lf\
                        w0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==";
/// B.1.4, test-key-ed25519.
const ED25519: &str = "MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=";

fn base(lines: &[(&str, &str)], parameters: &str) -> String {
    String::from_utf8(signature_base(lines, parameters)).unwrap()
}

#[test]
fn the_bases_of_the_appendix_are_composed_to_the_byte() {
    // A component with a parameter of its own is not part of our profile; its line is, but for the closing quote.
    let b22 = base(
        &[("@authority", "example.com"), ("content-digest", REQUEST_DIGEST), ("@query-param\";name=\"Pet", "dog")],
        r#"("@authority" "content-digest" "@query-param";name="Pet");created=1618884473;keyid="test-key-rsa-pss";tag="header-example""#,
    );
    assert_eq!(
        b22,
        [
            r#""@authority": example.com"#,
            &format!(r#""content-digest": {REQUEST_DIGEST}"#),
            r#""@query-param";name="Pet": dog"#,
            r#""@signature-params": ("@authority" "content-digest" "@query-param";name="Pet");created=1618884473;keyid="test-key-rsa-pss";tag="header-example""#,
        ]
        .join("\n")
    );
    let b23 = base(
        &[
            ("date", DATE),
            ("@method", "POST"),
            ("@path", "/foo"),
            ("@query", "?param=Value&Pet=dog"),
            ("@authority", "example.com"),
            ("content-type", "application/json"),
            ("content-digest", REQUEST_DIGEST),
            ("content-length", "18"),
        ],
        r#"("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss""#,
    );
    assert_eq!(
        b23,
        [
            r#""date": Tue, 20 Apr 2021 02:07:55 GMT"#,
            r#""@method": POST"#,
            r#""@path": /foo"#,
            r#""@query": ?param=Value&Pet=dog"#,
            r#""@authority": example.com"#,
            r#""content-type": application/json"#,
            &format!(r#""content-digest": {REQUEST_DIGEST}"#),
            r#""content-length": 18"#,
            r#""@signature-params": ("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss""#,
        ]
        .join("\n")
    );
    let b25 = base(
        &[("date", DATE), ("@authority", "example.com"), ("content-type", "application/json")],
        r#"("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
    );
    assert_eq!(
        b25,
        [
            r#""date": Tue, 20 Apr 2021 02:07:55 GMT"#,
            r#""@authority": example.com"#,
            r#""content-type": application/json"#,
            r#""@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
        ]
        .join("\n")
    );
}

#[test]
fn b24_ecdsa_p256_sha256_is_verified_as_it_travels() {
    let base = signature_base(
        &[
            ("@status", "200"),
            ("content-type", "application/json"),
            ("content-digest", RESPONSE_DIGEST),
            ("content-length", "23"),
        ],
        r#"("@status" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-ecc-p256""#,
    );
    verified(
        ECC_P256,
        &base,
        "wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw==",
    );
}

#[test]
fn b26_ed25519_is_verified_as_it_travels() {
    let base = signature_base(
        &[
            ("date", DATE),
            ("@method", "POST"),
            ("@path", "/foo"),
            ("@authority", "example.com"),
            ("content-type", "application/json"),
            ("content-length", "18"),
        ],
        r#"("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#,
    );
    verified(
        ED25519,
        &base,
        "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==",
    );
}

/// Read from a dictionary as it would arrive, verified, and refused when one byte of the base is another.
fn verified(spki: &str, base: &[u8], signature: &str) {
    let spki = STANDARD.decode(spki).unwrap();
    let received = fields::bytes(&format!("sig=:{signature}:"), "sig").unwrap().unwrap();
    let (algorithm, _) = raw_public_key(&spki).unwrap();
    let signature = sign::from_wire(algorithm, &received).unwrap();
    assert_eq!(sign::to_wire(algorithm, &signature).unwrap(), received);
    assert!(signature_is_valid(&spki, base, &signature));
    let mut changed = base.to_vec();
    changed[3] ^= 1;
    assert!(!signature_is_valid(&spki, &changed, &signature));
}

#[test]
fn the_digest_of_rfc_9530_is_read_and_written() {
    // RFC 9530, appendix D: `{"hello": "world"}` and a newline.
    let value = content_digest(b"{\"hello\": \"world\"}\n");
    assert_eq!(value, "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:");
    assert_eq!(base::digest_named(&value).unwrap(), Sha256::of(&[b"{\"hello\": \"world\"}\n"]).0);
    assert_eq!(base::digest_named(REQUEST_DIGEST), Err(SignatureRefusal::DigestAlgorithm));
}

/// The test request and response (B.2) with these signature headers.
fn test_message(response: bool, input: &str, signature: &str) -> Message {
    let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let (digest, length) = if response { (RESPONSE_DIGEST, "23") } else { (REQUEST_DIGEST, "18") };
    Message {
        method: (!response).then(|| "POST".into()),
        url: (!response).then(|| "https://example.com/foo?param=Value&Pet=dog".into()),
        status: response.then_some(200),
        headers: vec![
            line("Date", DATE),
            line("Content-Type", "application/json"),
            line("Content-Digest", digest),
            line("Content-Length", length),
            line("Signature-Input", input),
            line("Signature", signature),
        ],
    }
}

const B24_INPUT: &str = r#"sig-b24=("@status" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-ecc-p256""#;
const B24: &str = "sig-b24=:wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw==:";
const B26_INPUT: &str = r#"sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#;
const B26: &str = "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:";
const AT: UnixMillis = UnixMillis(1_618_884_480_000);

fn verified_whole(
    message: &Message,
    spki: &str,
    expected: &ExpectedMessage,
) -> Result<VerifiedMessage, MessageRefusal> {
    verify_message(message, &STANDARD.decode(spki).unwrap(), &[], expected, AT)
}

#[test]
fn whole_messages_of_the_appendix_verify_and_changed_ones_do_not() {
    let any = ExpectedMessage::default();
    for (response, input, signature, spki) in [(true, B24_INPUT, B24, ECC_P256), (false, B26_INPUT, B26, ED25519)] {
        let good = test_message(response, input, signature);
        let verified = verified_whole(&good, spki, &any).unwrap();
        assert_eq!(verified.components().len(), if response { 4 } else { 6 });
        type Change = fn(&mut Message);
        let rows: [(&str, Change); 6] = [
            ("a type", |one| one.headers[1].1 = "text/plain".into()),
            ("a length", |one| one.headers[3].1 = "19".into()),
            ("a method or status", |one| match one.status {
                Some(_) => one.status = Some(201),
                None => one.method = Some("PUT".into()),
            }),
            ("a line more", |one| one.headers.push(("Content-Type".into(), "x".into()))),
            ("a parameter", |one| one.headers[4].1 = one.headers[4].1.replace("1618884473", "1618884474")),
            ("another order", |one| one.headers[4].1 = one.headers[4].1.replace("\"content-type\" ", "")),
        ];
        for (what, change) in rows {
            let mut changed = good.clone();
            change(&mut changed);
            assert_eq!(verified_whole(&changed, spki, &any).unwrap_err(), MessageRefusal::Invalid, "{what}");
        }
        let other = if response { ED25519 } else { ECC_P256 };
        assert_eq!(verified_whole(&good, other, &any).unwrap_err(), MessageRefusal::Invalid);
    }
}

#[test]
fn what_is_asked_of_a_signature_is_refused_by_name() {
    use MessageRefusal as R;
    let with = |change: &dyn Fn(&mut ExpectedMessage)| {
        let mut expected = ExpectedMessage::default();
        change(&mut expected);
        verified_whole(&test_message(false, B26_INPUT, B26), ED25519, &expected).map(drop)
    };
    assert_eq!(with(&|one| one.components = vec!["@method".into(), "date".into()]), Ok(()));
    assert_eq!(with(&|one| one.components = vec!["content-digest".into()]), Err(R::ComponentNotCovered));
    assert_eq!(with(&|one| one.components = vec!["@nothing".into()]), Err(R::ComponentUnknown));
    assert_eq!(with(&|one| one.tag = Some("x".into())), Err(R::TagMismatch));
    assert_eq!(with(&|one| one.label = Some("sig-b26".into())), Ok(()));
    assert_eq!(with(&|one| one.label = Some("sig-b27".into())), Err(R::HeaderMissing));
    assert_eq!(with(&|one| one.age_max_s = Some(7)), Ok(()));
    assert_eq!(with(&|one| one.age_max_s = Some(6)), Err(R::Expired));
    assert_eq!(with(&|one| one.skew_max_s = -8), Err(R::FromTheFuture));

    let said = |input: &str, signature: &str| {
        verified_whole(&test_message(false, input, signature), ED25519, &ExpectedMessage::default()).unwrap_err()
    };
    let list = |rest: &str| format!("sig-b26=(\"date\"){rest}");
    for (input, signature, refusal) in [
        (B26_INPUT.to_owned(), "", R::HeaderMalformed),
        (B26_INPUT.to_owned(), "other=:AA==:", R::HeaderMissing),
        ("sig-b26".into(), B26, R::HeaderMalformed),
        ("sig-b26=1".into(), B26, R::HeaderMalformed),
        (format!("{B26_INPUT}, other=(\"date\");created=1"), B26, R::Ambiguous),
        (list(";created=1;created=2"), B26, R::ParameterMalformed),
        (list(";created=\"1\""), B26, R::ParameterMalformed),
        (list(";unknown=1"), B26, R::ParameterMalformed),
        (list(";created=1;alg=\"hmac-sha256\""), B26, R::Algorithm),
        (list(";created=1618884999"), B26, R::FromTheFuture),
        (list(";created=1;expires=2"), B26, R::Expired),
        ("sig-b26=(\"@unknown\");created=1".into(), B26, R::ComponentUnknown),
        ("sig-b26=(\"date\";sf);created=1".into(), B26, R::ComponentUnknown),
        ("sig-b26=(\"Date\");created=1".into(), B26, R::ComponentUnknown),
        ("sig-b26=(\"@query-param\");created=1".into(), B26, R::ComponentUnknown),
        ("sig-b26=(\"date\" \"date\");created=1".into(), B26, R::ComponentTwice),
        ("sig-b26=();created=1".into(), B26, R::ComponentNotCovered),
        ("sig-b26=(\"x-none\");created=1".into(), B26, R::ComponentMissing),
        ("sig-b26=(\"@status\");created=1".into(), B26, R::ComponentMissing),
        (list(";created=1"), "sig-b26=:AA==:", R::Invalid),
    ] {
        assert_eq!(said(&input, signature), refusal, "{input}");
    }
    let keyids = ["another".to_owned()];
    let good = test_message(false, B26_INPUT, B26);
    let spki = STANDARD.decode(ED25519).unwrap();
    let judged = verify_message(&good, &spki, &keyids, &ExpectedMessage::default(), AT);
    assert_eq!(judged.unwrap_err(), R::KeyMismatch);
    let neither = Message { url: None, ..good };
    assert_eq!(verified_whole(&neither, ED25519, &ExpectedMessage::default()).unwrap_err(), R::NotAMessage);
}

#[test]
fn derived_components_are_those_of_the_rfc() {
    let message = |url: &str| Message {
        method: Some("GET".into()),
        url: Some(url.into()),
        status: None,
        headers: vec![("X".into(), " a ".into()), ("x".into(), "b".into()), ("Empty".into(), String::new())],
    };
    let parameters = MessageParameters { created: 1, expires: None, nonce: None, keyid: "k".into(), tag: None };
    let line = |url: &str, component: &str| {
        let draft = message(url).draft(&[component.to_owned()], &parameters)?;
        let base = String::from_utf8(draft.base).unwrap();
        Ok::<_, MessageRefusal>(base.lines().next().unwrap().split_once(": ").unwrap().1.to_owned())
    };
    let url = "https://WWW.Example.com:443/path?a=1&b=%20&c";
    for (component, value) in [
        ("@method", "GET"),
        ("@target-uri", "https://www.example.com/path?a=1&b=%20&c"),
        ("@authority", "www.example.com"),
        ("@scheme", "https"),
        ("@path", "/path"),
        ("@query", "?a=1&b=%20&c"),
        ("@request-target", "/path?a=1&b=%20&c"),
        ("@query-param;name=\"b\"", "%20"),
        ("@query-param;name=\"c\"", ""),
        ("x", "a, b"),
        ("empty", ""),
    ] {
        assert_eq!(line(url, component).as_deref(), Ok(value), "{component}");
    }
    assert_eq!(line("http://example.com", "@path").as_deref(), Ok("/"));
    assert_eq!(line("http://example.com:8080?x", "@authority").as_deref(), Ok("example.com:8080"));
    assert_eq!(line("http://example.com", "@query").as_deref(), Ok("?"));
    assert_eq!(line("https://a/?p=1&p=2", "@query-param;name=\"p\""), Err(MessageRefusal::ComponentTwice));
    // Two writings of one name are two values under one name.
    assert_eq!(line("https://a/?pa=1&%70a=2", "@query-param;name=\"pa\""), Err(MessageRefusal::ComponentTwice));
    // RFC 9421, 2.2.8.
    let url = "https://www.example.com/parameters?var=this%20is%20a%20big%0Amultiline%20value&\
               bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something";
    for (name, value) in [
        ("var", "this%20is%20a%20big%0Amultiline%20value"),
        ("bar", "with%20plus%20whitespace"),
        ("fa%C3%A7ade%22%3A%20", "something"),
    ] {
        assert_eq!(line(url, &format!("@query-param;name=\"{name}\"")).as_deref(), Ok(value), "{name}");
    }
    assert_eq!(line("https://a/?p=~%", "@query-param;name=\"p\"").as_deref(), Ok("%7E%25"));
    assert_eq!(line("https://a/", "@query-param;name=\"p\""), Err(MessageRefusal::ComponentMissing));
    assert_eq!(message("https://a/").draft(&[], &parameters), Err(MessageRefusal::ComponentNotCovered));
    let posted = Message { headers: vec![("Content-Digest".into(), REQUEST_DIGEST.into())], ..message("https://a/") };
    let answer = Message { method: None, url: None, status: Some(200), headers: vec![] };
    for (message, covered, fits) in [
        (message("https://a/"), &["@method", "@target-uri"][..], true),
        (message("https://a/"), &["\"@method\"", "\"@authority\"", "\"@path\""], true),
        (message("https://a/"), &["@method"], false),
        (message("https://a/"), &["@target-uri"], false),
        (message("https://a/"), &["@method", "@path"], false),
        (posted.clone(), &["@method", "@target-uri"], false),
        (posted, &["@method", "@target-uri", "content-digest"], true),
        (answer.clone(), &["@status"], true),
        (answer, &["x"], false),
    ] {
        let covered: Vec<String> = covered.iter().map(|one| (*one).to_owned()).collect();
        assert_eq!(message.covers_least(&covered).is_ok(), fits, "{covered:?}");
    }
    for bad in ["ftp://a/", "https://", "https://u@a/", "https://a/#f", "//a", "https://a/ b", "https://ä/"] {
        assert_eq!(line(bad, "@method"), Err(MessageRefusal::NotAMessage), "{bad}");
    }
}
