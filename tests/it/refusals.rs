//! What the HSM layer refuses: each row a name, nothing signed, and nothing of the input or of a PIN in the message.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use countersign::hsm::{HsmFault, KeyInfo, Op, Reply, Token, lint};
use countersign::kernel::credential::oid;
use countersign::kernel::credential::profile::Profile;
use countersign::kernel::external::ExternalForm;
use countersign::kernel::sign::{
    Algorithm, DocumentTag, Purpose, SignInput, TlsSide, digest_is_signed, signature_is_valid, spki_der,
};
use countersign::kernel::types::Sha256;
use countersign::ops::failure::Failure;

use crate::support::tbs::{Tbs, common_name, name, usages, utc_time};
use crate::support::token::{MODULE, RealToken};

/// In every input that has room for it, and in no message.
const MARK: &str = "mark-7391-of-the-input";

/// One token with a key of every purpose, for all rows.
struct World {
    running: RealToken,
    keys: Vec<KeyInfo>,
    pin: String,
}

impl World {
    fn new() -> Self {
        let running = RealToken::running("bank");
        let token = running.token();
        let mut keys = token.keys().unwrap();
        for purpose in Purpose::ALL.into_iter().filter(|purpose| *purpose != Purpose::TokenIdentity) {
            // Of the two sorts of external keys the one that signs digests.
            let name = if purpose == Purpose::External { "raw-shopper" } else { "shopper" };
            let agent = purpose.is_named().then_some(name);
            keys.push(token.generate("bank", purpose, agent).unwrap());
        }
        let pin = pin_of(&running);
        Self { running, keys, pin }
    }

    fn key(&self, purpose: Purpose) -> &KeyInfo {
        self.keys.iter().find(|key| key.purpose == purpose).unwrap()
    }

    fn sign(&self, key: Sha256, input: SignInput) -> Result<Reply, HsmFault> {
        let token: Arc<dyn Token> = self.running.token();
        token.call(Op::Sign { key, input })
    }

    /// The row is refused by this name, as a rule's refusal: nothing was signed, nobody needs to wonder.
    fn refuses(&self, what: &str, key: Sha256, input: SignInput, expected: &str) {
        match self.sign(key, input) {
            Err(HsmFault::Refused { name, message }) => {
                assert_eq!(name, expected, "{what}: {message}");
                is_discreet(what, &self.pin, &message);
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

fn pin_of(token: &RealToken) -> String {
    std::fs::read_to_string(token.state.resolve("pins/bank.pin")).unwrap().trim().to_owned()
}

fn is_discreet(what: &str, pin: &str, message: &str) {
    for secret in [MARK, &hex::encode(MARK), pin, "pins/", ".pin"] {
        assert!(!message.contains(secret), "{what}: {message}");
    }
}

/// One input of every kind; `body` where bytes go.
fn every_kind(body: &[u8]) -> Vec<SignInput> {
    let tags = [
        DocumentTag::CustodyStatement,
        DocumentTag::Catalogue,
        DocumentTag::BatchRoot,
        DocumentTag::RevocationReceipt,
        DocumentTag::ToolManifest,
        DocumentTag::OperatorAct,
        DocumentTag::PaymentApproval,
    ];
    let sides = [TlsSide::Server, TlsSide::Client];
    let plain = [
        SignInput::Certificate { tbs: body.to_vec() },
        SignInput::Crl { tbs: body.to_vec() },
        SignInput::Ocsp { data: body.to_vec() },
        SignInput::CertificationRequest { info: body.to_vec() },
        SignInput::RelatedCertRequest { cert_id: body.to_vec(), request_time: body.to_vec() },
        SignInput::TreeHead { note: body.to_vec() },
        SignInput::Cosignature { message: body.to_vec() },
        SignInput::AuditExport { note: body.to_vec() },
        SignInput::HttpRequest { base: body.to_vec() },
        SignInput::Jwt { signing_input: body.to_vec() },
        SignInput::Mandate { signing_input: body.to_vec(), disclosures: vec![] },
    ];
    let documents = tags.map(|tag| SignInput::Document { tag, canonical_json: body.to_vec() });
    let handshakes = sides.map(|side| SignInput::TlsCertificateVerify { side, transcript_hash: body.to_vec() });
    let external = ExternalForm::ALL.map(|form| SignInput::External { form, bytes: body.to_vec() });
    plain.into_iter().chain(documents).chain(handshakes).chain(external).collect()
}

#[test]
fn a_key_signs_no_kind_of_input_that_its_purpose_does_not_permit() {
    let world = World::new();
    let mut refused = 0;
    for key in &world.keys {
        for input in every_kind(MARK.as_bytes()).into_iter().filter(|input| !key.purpose.permits(input)) {
            let what = format!("{} signs {}", key.label, input.kind());
            world.refuses(&what, key.id, input, "wrong_purpose");
            refused += 1;
        }
    }
    assert_eq!(refused, 19 * 24 - 27, "19 purposes, 24 kinds, 27 pairs that fit");
}

#[test]
fn a_key_that_the_token_does_not_have_is_unknown_whatever_it_is_to_sign() {
    let world = World::new();
    for input in every_kind(MARK.as_bytes()) {
        let what = format!("an unknown key signs {}", input.kind());
        world.refuses(&what, Sha256([9; 32]), input, "unknown_key");
    }
}

/// No input but one takes a digest, and that one is for keys which sign nothing of ours. What comes closest is 32 bytes in
/// the place of each kind's content: refused, or, for a handshake, signed as a part of a message that is no digest.
#[test]
fn a_digest_is_signed_as_it_is_by_external_keys_alone() {
    let world = World::new();
    let digest = Sha256::of(&[MARK.as_bytes()]).0;
    for key in &world.keys {
        for input in every_kind(&digest).into_iter().filter(|input| key.purpose.permits(input)) {
            let message = input.message();
            match (world.sign(key.id, input.clone()), input) {
                (Ok(Reply::Signature(_)), SignInput::TlsCertificateVerify { .. }) => {
                    assert!(message.starts_with(&[0x20; 64]) && message.len() == 64 + 34 + 32);
                }
                (Ok(Reply::Signature(signature)), SignInput::External { form: ExternalForm::Digest, .. }) => {
                    assert_eq!(key.purpose, Purpose::External);
                    assert!(digest_is_signed(&key.spki, &digest, &signature));
                    assert!(
                        signature_is_valid(&key.spki, MARK.as_bytes(), &signature),
                        "it is one over what was hashed"
                    );
                }
                (Err(HsmFault::Refused { .. }), _) => {}
                (other, input) => panic!("{} over {}: {other:?}", key.label, input.kind()),
            }
        }
    }
}

/// What a key may have signed is told by its name, which is a part of its label: nothing that a front asks changes it.
#[test]
fn an_external_key_signs_raw_for_ever_or_never() {
    let world = World::new();
    let papers = world.running.token().generate("bank", Purpose::External, Some("papers")).unwrap();
    let digest = Sha256::of(&[MARK.as_bytes()]).0.to_vec();
    for form in [ExternalForm::Digest, ExternalForm::Message] {
        let input = SignInput::External { form, bytes: digest.clone() };
        world.refuses("a key of documents", papers.id, input, "input_not_for_key");
    }
    let raw = world.key(Purpose::External).id;
    for form in [ExternalForm::Jws, ExternalForm::Request] {
        let input = SignInput::External { form, bytes: digest.clone() };
        world.refuses("a key of digests", raw, input, "input_not_for_key");
    }
}

#[test]
fn a_transcript_hash_of_another_length_is_refused() {
    let world = World::new();
    for (purpose, side) in [(Purpose::TlsServer, TlsSide::Server), (Purpose::Agent, TlsSide::Client)] {
        for length in [0, 1, 20, 28, 31, 33, 47, 49, 63, 64] {
            let input = SignInput::TlsCertificateVerify { side, transcript_hash: vec![7; length] };
            world.refuses(&format!("{length} bytes"), world.key(purpose).id, input, "input_malformed");
        }
    }
}

#[test]
fn an_input_above_the_limit_of_its_kind_is_too_large() {
    let world = World::new();
    for key in &world.keys {
        for kind in every_kind(&[]).into_iter().filter(|input| key.purpose.permits(input)) {
            let room = lint::bytes_max(&kind) + 1;
            let body: Vec<u8> = MARK.bytes().cycle().take(room).collect();
            let same = |input: &SignInput| input.kind() == kind.kind() && key.purpose.permits(input);
            let large = every_kind(&body).into_iter().find(same).unwrap();
            world.refuses(&format!("{room} bytes of {}", kind.kind()), key.id, large, "input_too_large");
        }
    }
}

#[test]
fn documents_that_are_not_canonical_json_objects_are_malformed() {
    let world = World::new();
    let deep = format!("{}1{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000));
    let table = [
        String::new(),
        "{".into(),
        "[]".into(),
        "null".into(),
        format!("\"{MARK}\""),
        format!(r#"{{"a": "{MARK}"}}"#),
        format!(r#"{{"b":"{MARK}","a":1}}"#),
        format!(r#"{{"a":"{MARK}","a":1}}"#),
        r#"{"a":1}{"a":1}"#.into(),
        r#"{"a":1.0}"#.into(),
        r#"{"a":1e3}"#.into(),
        r#"{"a":01}"#.into(),
        r#"{"a":"\u0041"}"#.into(),
        "{\"a\":1}\n".into(),
        "\u{feff}{\"a\":1}".into(),
        deep,
    ];
    for text in table {
        let input = SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json: text.clone().into_bytes() };
        let what = text.chars().take(40).collect::<String>();
        world.refuses(&what, world.key(Purpose::Transaction).id, input, "input_malformed");
    }
    let not_text = SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json: b"{\"\xff\":1}".to_vec() };
    world.refuses("not UTF-8", world.key(Purpose::Transaction).id, not_text, "input_malformed");
}

type Bend = fn(&mut Tbs, &World);

/// Signs the draft as it is, then each bent one must be refused by its name.
fn bends(world: &World, purpose: Purpose, draft: &Tbs, table: &[(&str, Bend, &str)]) {
    let key = world.key(purpose).id;
    let good = world.sign(key, SignInput::Certificate { tbs: draft.der() });
    assert!(matches!(good, Ok(Reply::Signature(_))), "the draft passes: {good:?}");
    for (what, bend, name) in table {
        let mut bent = draft.clone();
        bend(&mut bent, world);
        world.refuses(what, key, SignInput::Certificate { tbs: bent.der() }, name);
    }
}

#[test]
fn a_root_key_refuses_what_its_profile_does_not_have() {
    let world = World::new();
    let root = world.key(Purpose::Root);
    let table: &[(&str, Bend, &str)] = &[
        ("another key under its own name", |t, w| t.spki = w.key(Purpose::Issuing).spki.clone(), "lint_another_key"),
        ("no CA", |t, _| t.set(oid::BASIC_CONSTRAINTS, vec![0x30, 0]), "lint_root_signs_only_cas"),
        ("no basic constraints", |t, _| t.remove(oid::BASIC_CONSTRAINTS), "lint_root_signs_only_cas"),
        ("no key usage", |t, _| t.remove(oid::KEY_USAGE), "lint_profile_violated"),
        ("the key usage of a leaf", |t, _| t.set(oid::KEY_USAGE, vec![3, 2, 7, 0x80]), "lint_profile_violated"),
        ("twenty years", |t, _| t.not_after = utc_time(20 * 365 * 86_400), "lint_profile_violated"),
        ("an end before its beginning", |t, _| t.not_after = utc_time(-7200), "lint_profile_violated"),
        ("a serial number of one byte", |t, _| t.serial = vec![1], "lint_profile_violated"),
        ("a negative serial number", |t, _| t.serial[0] = 0x81, "lint_profile_violated"),
        ("version 1", |t, _| t.version = vec![], "lint_profile_violated"),
        (
            "an unknown critical extension",
            |t, _| t.extensions.push((vec![0x2a, 3], true, vec![5, 0])),
            "lint_profile_violated",
        ),
        (
            "an extension twice",
            |t, _| t.extensions.push((oid::KEY_USAGE.to_vec(), true, vec![3, 2, 1, 6])),
            "lint_profile_violated",
        ),
    ];
    bends(&world, Purpose::Root, &Tbs::of(Profile::Root, MARK, &root.spki, MARK, &root.spki), table);
}

#[test]
fn an_issuing_key_refuses_what_is_of_no_profile() {
    let world = World::new();
    let (issuing, server) = (world.key(Purpose::Issuing), world.key(Purpose::TlsServer));
    let table: &[(&str, Bend, &str)] = &[
        ("a CA", |t, _| t.set(oid::BASIC_CONSTRAINTS, vec![0x30, 3, 1, 1, 0xff]), "lint_issuing_signs_no_cas"),
        ("under another authority", |t, _| t.remove(oid::AUTHORITY_KEY_IDENTIFIER), "lint_another_key"),
        ("under its own name, over another key", |t, _| t.subject = t.issuer.clone(), "lint_another_key"),
        ("no extended key usage", |t, _| t.remove(oid::EXTENDED_KEY_USAGE), "lint_no_profile"),
        (
            "any extended key usage",
            |t, _| t.set(oid::EXTENDED_KEY_USAGE, usages(&[&[0x55, 0x1d, 0x25, 0]])),
            "lint_no_profile",
        ),
        (
            "server and client at once",
            |t, _| t.set(oid::EXTENDED_KEY_USAGE, usages(&[oid::SERVER_AUTH, oid::CLIENT_AUTH])),
            "lint_malformed",
        ),
        (
            "a client without custody policy",
            |t, _| t.set(oid::EXTENDED_KEY_USAGE, usages(&[oid::CLIENT_AUTH])),
            "lint_no_profile",
        ),
        (
            "a server that answers for its issuer",
            |t, _| t.set(oid::EXTENDED_KEY_USAGE, usages(&[oid::OCSP_SIGNING])),
            "lint_profile_violated",
        ),
        ("no responder", |t, _| t.remove(oid::AUTHORITY_INFO_ACCESS), "lint_profile_violated"),
        ("no name of a server", |t, _| t.remove(oid::SUBJECT_ALT_NAME), "lint_profile_violated"),
        ("no revocation list", |t, _| t.remove(oid::CRL_DISTRIBUTION_POINTS), "lint_profile_violated"),
        ("certificate signing", |t, _| t.set(oid::KEY_USAGE, vec![3, 2, 2, 4]), "lint_profile_violated"),
        ("two years", |t, _| t.not_after = utc_time(2 * 365 * 86_400), "lint_profile_violated"),
        (
            "another signature algorithm",
            |t, _| t.algorithm = vec![0x30, 5, 6, 3, 0x2b, 0x65, 0x70],
            "lint_profile_violated",
        ),
        ("no subject", |t, _| t.subject = vec![0x30, 0], "lint_profile_violated"),
        ("an identifier of another key", |t, w| t.spki = w.key(Purpose::Agent).spki.clone(), "lint_profile_violated"),
        ("a key that is none", |t, _| t.spki = name(MARK), "lint_profile_violated"),
        ("a counter", |t, _| t.serial = [&[0x41], &[0; 15][..]].concat(), "lint_serial_predictable"),
        ("a life that begins in an hour", |t, _| t.not_before = utc_time(1800), "lint_dated_ahead"),
        ("a life that is over", |t, _| t.not_after = utc_time(-60), "lint_ended"),
        ("a name without its organization", |t, _| t.subject = common_name(MARK), "lint_name_form"),
        ("the key of an agent", |t, w| t.certify(&w.key(Purpose::Agent).spki), "lint_key_of_another_purpose"),
        ("a key of another token", |t, _| t.certify(&stranger()), "lint_key_not_of_token"),
        ("its issuer's key", |t, w| t.certify(&w.key(Purpose::Issuing).spki), "lint_issuers_own_key"),
    ];
    bends(&world, Purpose::Issuing, &Tbs::of(Profile::TlsServer, MARK, &server.spki, "issuing", &issuing.spki), table);
}

/// A key that no token of ours has.
fn stranger() -> Vec<u8> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    spki_der(Algorithm::P256, key.public_key().as_ref())
}

#[test]
fn certificates_lists_and_requests_that_are_not_strict_der_are_malformed() {
    let world = World::new();
    let root = world.key(Purpose::Root);
    let good = Tbs::of(Profile::Root, MARK, &root.spki, MARK, &root.spki).der();
    let bodies = [
        vec![],
        MARK.as_bytes().to_vec(),
        good[..good.len() - 1].to_vec(),
        [good.as_slice(), &[0]].concat(),
        // Indefinite length, which BER has and DER has not.
        [&[0x30, 0x80], &good[4..], &[0, 0]].concat(),
        [0x30, 0x84, 0xff, 0xff, 0xff, 0xff].to_vec(),
        [0x30, 0x80].repeat(20_000),
    ];
    for body in bodies {
        for (purpose, input, name) in [
            (Purpose::Root, SignInput::Certificate { tbs: body.clone() }, "lint_malformed"),
            (Purpose::Issuing, SignInput::Crl { tbs: body.clone() }, "lint_malformed"),
            (Purpose::Agent, SignInput::CertificationRequest { info: body.clone() }, "lint_request"),
            (
                Purpose::Agent,
                SignInput::RelatedCertRequest {
                    cert_id: body.iter().take(4_000).copied().collect(),
                    request_time: vec![],
                },
                "lint_malformed",
            ),
        ] {
            world.refuses(input.kind(), world.key(purpose).id, input.clone(), name);
        }
    }
}

#[test]
fn what_was_refused_leaves_the_worker_as_it_was() {
    let world = World::new();
    let before = world.running.token().describe().unwrap();
    for key in &world.keys {
        for input in every_kind(MARK.as_bytes()) {
            assert!(matches!(world.sign(key.id, input), Err(HsmFault::Refused { .. })));
        }
    }
    assert_eq!(world.running.token().describe().unwrap(), before, "the same worker");
    assert!(matches!(
        world.sign(world.key(Purpose::TokenIdentity).id, SignInput::SelfTest { nonce: [7; 32] }),
        Ok(Reply::Signature(_))
    ));
}

// Modules

/// A library that is loaded here and is no PKCS#11 module.
fn other_library() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("/libc.so"));
    path.expect("the C library is loaded").into()
}

#[test]
fn what_is_not_a_pkcs11_module_is_named_and_never_hangs_the_worker() {
    let mut token = RealToken::provisioned("bank");
    let pin = pin_of(&token);
    let made = |name: &str| token.state.resolve(format!("store-{name}"));
    let (directory, pipe, text, empty, link) =
        (made("directory"), made("pipe"), made("text"), made("empty"), made("link"));
    std::fs::create_dir(&directory).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    std::fs::write(&text, MARK).unwrap();
    std::fs::write(&empty, "").unwrap();
    std::os::unix::fs::symlink(&pipe, &link).unwrap();
    let mut rows: Vec<(&str, PathBuf)> = vec![
        ("nothing", made("nothing")),
        ("a directory", directory),
        ("a pipe", pipe),
        ("a link to a pipe", link),
        ("a device", "/dev/zero".into()),
        ("text", text),
        ("an empty file", empty),
        ("a program", "/bin/sh".into()),
        ("another library", other_library()),
    ];
    if !rustix::process::geteuid().is_root() {
        let closed = made("closed");
        std::fs::copy(MODULE, &closed).unwrap();
        std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
        rows.push(("a module that may not be read", closed));
    }
    for (what, module) in rows {
        token.use_module(&module);
        for failure in [token.start().unwrap_err(), token.provision().unwrap_err()] {
            assert_eq!(failure.name, "module_unusable", "{what}: {failure}");
            shows_what_to_do(what, &pin, &failure, &module);
        }
    }
}

fn shows_what_to_do(what: &str, pin: &str, failure: &Failure, module: &Path) {
    assert!(failure.message.contains(&*module.to_string_lossy()), "{what}: {failure}");
    assert!(failure.next_step.contains("hsm.<token>.module"), "{what}: {}", failure.next_step);
    is_discreet(what, pin, &failure.message);
}

#[test]
fn a_uri_with_a_pin_in_it_is_refused_without_showing_it() {
    let mut token = RealToken::provisioned("bank");
    let pin = pin_of(&token);
    for uri in [
        format!("pkcs11:token=bank?pin-value={pin}"),
        format!("pkcs11:token=bank;pin-value={pin}"),
        format!("pkcs11:token=bank;{pin}"),
        pin.clone(),
    ] {
        token.settings.uri = uri;
        let failure = token.start().unwrap_err();
        assert_eq!(failure.name, "hsm_uri_invalid");
        assert!(!failure.message.contains(&pin), "{failure}");
    }
}

/// The file ends before what its headers promise: touching the rest is a SIGBUS, which no process can answer for.
#[test]
fn a_module_that_was_cut_off_costs_its_worker_and_has_a_name() {
    let mut token = RealToken::provisioned("bank");
    let cut = token.state.resolve("cut.so");
    std::fs::write(&cut, &std::fs::read(MODULE).unwrap()[..20_000]).unwrap();
    token.use_module(cut);
    let failure = token.start().unwrap_err();
    assert!(matches!(failure.name.as_str(), "hsm_worker_died" | "module_unusable"), "{failure}");
    assert!(failure.next_step.contains("module"), "{}", failure.next_step);
}
