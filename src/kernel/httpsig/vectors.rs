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
