//! The token contract, on every PKCS#11 module that is here: what the product needs of any of them.
//!
//! SoftHSM2 and NSS softokn are installed by `scripts/test`. Another module is added for a long run with
//! `COUNTERSIGN_TEST_MODULE=/path/module.so`, `…_URI`, `…_INIT_ARGS`, `…_PIN_FILE` and `…_ENV=NAME=VALUE` (see
//! docs/MODULES.md).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use countersign::hsm::embedded::Embedded;
use countersign::hsm::provision::{self, ModuleChange};
use countersign::hsm::settings::{ExtraAttribute, HsmSettings, ObjectKind};
use countersign::hsm::{HsmFault, KeyInfo, KeyOrder, Plaintext, Token};
use countersign::kernel::note::{Checkpoint, NoteSignature, SignedNote, cosignature_message};
use countersign::kernel::sign::{Algorithm, DocumentTag, Purpose, SignInput, TlsSide, signature_is_valid};
use countersign::kernel::types::Sha256;
use countersign::kernel::vault::Way;
use countersign::ops::failure::Failure;
use countersign::ops::paths::StateDir;

use crate::support::token::{self, program};

/// A module with an empty token of its own.
struct Subject {
    what: &'static str,
    settings: HsmSettings,
    state: StateDir,
    _directory: tempfile::TempDir,
}

impl Subject {
    fn provision(&self) -> Result<provision::Provisioned, Failure> {
        provision::provision_with(&program(), &self.state, "bank", &self.settings, ModuleChange::Refuse)
    }

    fn start(&self) -> Result<Embedded, Failure> {
        Embedded::start(program(), &self.state, "bank", &self.settings)
    }
}

/// Runs the same checks on every module.
fn on_every_module(check: fn(&Subject)) {
    check(&softhsm());
    match nss() {
        Ok(subject) => check(&subject),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "scripts/test installs NSS softokn: {why}");
            eprintln!("skipped: NSS softokn: {why}");
        }
    }
    if let Some(subject) = kryoptic() {
        check(&subject);
    }
    if let Some(subject) = another() {
        check(&subject);
    }
}

fn directory() -> (StateDir, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (StateDir::new(directory.path()), directory)
}

fn softhsm() -> Subject {
    let (state, directory) = directory();
    Subject { what: "SoftHSM2", settings: token::settings("bank"), state, _directory: directory }
}

/// A database made with NSS's own tools: C_InitToken is not how NSS makes one. Provisioning adopts it.
fn nss() -> Result<Subject, String> {
    let module = library("libsoftokn3.so").ok_or("libsoftokn3.so is not installed")?;
    let (state, directory) = directory();
    let (database, pins) = (state.resolve("nss"), state.resolve("pins"));
    for place in [&database, &pins] {
        std::fs::create_dir(place).unwrap();
    }
    let pin_file = pins.join("bank.pin");
    std::fs::write(&pin_file, "a-pin-of-this-test").unwrap();
    std::fs::set_permissions(&pin_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let made = Command::new("certutil")
        .args(["-N", "-d"])
        .arg(format!("sql:{}", database.display()))
        .arg("-f")
        .arg(&pin_file)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("certutil (libnss3-tools): {error}"))?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let settings = HsmSettings {
        init_args: Some("configdir='sql:{state}/nss' certPrefix='' keyPrefix='' secmod='secmod.db' flags=".to_owned()),
        pin_file: Some("pins/bank.pin".into()),
        workers: 1,
        accept_unstated_local: true,
        ..HsmSettings::new("pkcs11:token=NSS%20Certificate%20DB", module)
    };
    Ok(Subject { what: "NSS softokn", settings, state, _directory: directory })
}

/// Kryoptic, where scripts/test-long built it: a token of its own for each check, made by provisioning.
fn kryoptic() -> Option<Subject> {
    let library = std::env::var_os("COUNTERSIGN_TEST_KRYOPTIC")?;
    let (state, directory) = directory();
    let database = directory.path().join("kryoptic.sql");
    let conf = format!("[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n", database.display());
    std::fs::write(directory.path().join("kryoptic.conf"), conf).unwrap();
    let settings = HsmSettings {
        pin_file: Some("pins/bank.pin".into()),
        env: [("KRYOPTIC_CONF".to_owned(), "{state}/kryoptic.conf".to_owned())].into(),
        workers: 1,
        deadline_ms: 60_000,
        ..HsmSettings::new("pkcs11:token=bank", PathBuf::from(library))
    };
    Some(Subject { what: "kryoptic", settings, state, _directory: directory })
}

/// The module of a long run, as its environment names it. Its token must be fresh and have its PIN.
fn another() -> Option<Subject> {
    let named = |name: &str| std::env::var(format!("COUNTERSIGN_TEST_MODULE{name}")).ok();
    let (state, directory) = directory();
    let settings = HsmSettings {
        init_args: named("_INIT_ARGS"),
        pin_file: Some(named("_PIN_FILE")?.into()),
        env: named("_ENV")
            .and_then(|pair| pair.split_once('=').map(|(a, b)| (a.into(), b.into())))
            .into_iter()
            .collect(),
        workers: 1,
        ..HsmSettings::new(named("_URI")?, named("")?)
    };
    Some(Subject { what: "the named module", settings, state, _directory: directory })
}

fn library(name: &str) -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    places.flat_map(|place| [place.join(name), place.join("nss").join(name)]).find(|path| path.is_file())
}

fn input(purpose: Purpose) -> SignInput {
    match purpose {
        Purpose::Agent => SignInput::TlsCertificateVerify { side: TlsSide::Client, transcript_hash: vec![7; 32] },
        Purpose::Transaction => {
            SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json: br#"{"a":"1"}"#.to_vec() }
        }
        Purpose::Checkpoint => SignInput::TreeHead { note: checkpoint().text().into_bytes() },
        Purpose::Witness => {
            SignInput::Cosignature { message: cosignature_message(1_795_234_840, &checkpoint().text()).into_bytes() }
        }
        _ => SignInput::SelfTest { nonce: [7; 32] },
    }
}

fn checkpoint() -> Checkpoint {
    Checkpoint { origin: "bank.example/log".into(), size: 7, root: Sha256([9; 32]) }
}

fn make(token: &Arc<dyn Token>, purpose: Purpose, algorithm: Algorithm) -> Result<KeyInfo, HsmFault> {
    let agent = (purpose == Purpose::Agent).then(|| "shopper".to_owned());
    token.make(KeyOrder { party: "bank".into(), purpose, agent, algorithm })
}

#[test]
fn a_token_is_provisioned_or_adopted_and_found_again_with_its_keys() {
    on_every_module(|subject| {
        let first = subject.provision().unwrap_or_else(|failure| panic!("{}: {failure}", subject.what));
        assert_eq!(subject.provision().unwrap().identity.id, first.identity.id, "{}", subject.what);
        let (transaction, agent) = {
            let running = subject.start().unwrap();
            let token: Arc<dyn Token> = running.pool();
            let keys =
                [token.generate("bank", Purpose::Transaction, None), token.generate("bank", Purpose::Agent, Some("a"))];
            keys.map(|key| key.unwrap_or_else(|fault| panic!("{}: {fault}", subject.what))).into()
        };
        let running = subject.start().unwrap();
        let token: Arc<dyn Token> = running.pool();
        let listed = token.keys().unwrap();
        for key in [&transaction, &agent] {
            assert!(listed.iter().any(|listed| listed == key), "{}: {}", subject.what, key.label);
            let input = input(key.purpose);
            let signature = token.sign(key.id, input.clone()).unwrap();
            assert!(signature_is_valid(&key.spki, &input.message(), &signature), "{}", subject.what);
        }
        assert_eq!(token.generate("bank", Purpose::Transaction, None).unwrap().version, 2, "{}", subject.what);
    });
}

#[test]
fn every_algorithm_that_the_module_has_signs_or_seals_and_the_others_are_named() {
    on_every_module(|subject| {
        subject.provision().unwrap();
        let running = subject.start().unwrap();
        let token: Arc<dyn Token> = running.pool();
        let mut had = Vec::new();
        for (purpose, algorithm) in [
            (Purpose::Transaction, Algorithm::P256),
            (Purpose::Transaction, Algorithm::P384),
            (Purpose::Transaction, Algorithm::Rsa3072),
            (Purpose::Checkpoint, Algorithm::Ed25519),
            (Purpose::Checkpoint, Algorithm::P256),
            (Purpose::Witness, Algorithm::P256),
            (Purpose::VaultWrapping, Algorithm::Aes256),
            (Purpose::VaultWrapping, Algorithm::Rsa3072),
        ] {
            let key = match make(&token, purpose, algorithm) {
                Ok(key) => key,
                Err(fault) => {
                    // NSS 3.87 answers a length query for AES-GCM without the tag: its keys do not pass their check.
                    let unusable = algorithm == Algorithm::Aes256 && fault.name() == "key_unusable";
                    assert!(unusable || fault.name() == "mechanism_missing", "{} {algorithm:?}: {fault}", subject.what);
                    continue;
                }
            };
            had.push(algorithm);
            if purpose.seals() {
                let secret = Plaintext(b"a data key".to_vec().into());
                let sealed = token.seal(key.id, b"context", secret.clone()).unwrap();
                assert!(token.unseal(key.id, b"context", sealed.clone()).unwrap() == secret, "{}", subject.what);
                let fault = token.unseal(key.id, b"another", sealed).unwrap_err();
                assert_eq!(fault.name(), "not_sealed_here", "{}", subject.what);
                eprintln!("{} seals with {:?}", subject.what, Way::of(&token.seal(key.id, b"", secret).unwrap()));
                continue;
            }
            let input = input(purpose);
            let signature = token.sign(key.id, input.clone()).unwrap();
            assert!(signature_is_valid(&key.spki, &input.message(), &signature), "{} {algorithm:?}", subject.what);
            if purpose == Purpose::Checkpoint {
                let (text, name) = (checkpoint().text(), "bank.example/log");
                let line = NoteSignature::over_text(name, &key.spki, &signature).unwrap();
                let note = SignedNote { text, signatures: vec![line] };
                assert_eq!(note.verify(name, &key.spki), Ok(()), "{} {algorithm:?}", subject.what);
            }
        }
        eprintln!("{} has {had:?}", subject.what);
        assert!(had.contains(&Algorithm::P256), "{}", subject.what);
    });
}

#[test]
fn custody_attributes_are_shown_as_the_module_states_them_and_decide() {
    on_every_module(|subject| {
        subject.provision().unwrap();
        let key = {
            let running = subject.start().unwrap();
            let token: Arc<dyn Token> = running.pool();
            token.generate("bank", Purpose::Transaction, None).unwrap()
        };
        assert!(key.custody.sensitive && !key.custody.extractable, "{}", subject.what);
        assert!(key.custody.always_sensitive && key.custody.never_extractable, "{}", subject.what);
        // Without the exception only a key that says where it was born signs.
        let settings = HsmSettings { accept_unstated_local: false, ..subject.settings.clone() };
        let running = Embedded::start(program(), &subject.state, "bank", &settings).unwrap();
        let token: Arc<dyn Token> = running.pool();
        let outcome = token.sign(key.id, input(Purpose::Transaction));
        match key.custody.local {
            true => assert!(outcome.is_ok(), "{}", subject.what),
            false => assert_eq!(outcome.unwrap_err().name(), "custody_unsound", "{}", subject.what),
        }
    });
}

#[test]
fn refusals_have_the_same_names_on_every_module() {
    on_every_module(|subject| {
        subject.provision().unwrap();
        let running = subject.start().unwrap();
        let token: Arc<dyn Token> = running.pool();
        let key = token.generate("bank", Purpose::Transaction, None).unwrap();
        let refused = |key, input| token.sign(key, input).unwrap_err().name().to_owned();
        assert_eq!(refused(Sha256([9; 32]), input(Purpose::Transaction)), "unknown_key", "{}", subject.what);
        assert_eq!(refused(key.id, input(Purpose::Agent)), "wrong_purpose", "{}", subject.what);
        let identity = make(&token, Purpose::TokenIdentity, Algorithm::P256).unwrap_err();
        assert_eq!(identity.name(), "identity_exists", "{}", subject.what);
        // Retired by the token's own means, or a refusal by name; then as it was.
        match token.retire(key.id) {
            Ok(_) => {
                assert_eq!(refused(key.id, input(Purpose::Transaction)), "key_verify_only", "{}", subject.what);
                token.destroy(key.id).unwrap();
                assert_eq!(refused(key.id, input(Purpose::Transaction)), "key_destroyed", "{}", subject.what);
            }
            Err(fault) => {
                assert_eq!(fault.name(), "retire_not_supported", "{}: {fault}", subject.what);
                assert!(token.sign(key.id, input(Purpose::Transaction)).is_ok(), "{}", subject.what);
            }
        }
    });
}

#[test]
fn a_wrong_pin_is_named_on_every_module() {
    on_every_module(|subject| {
        subject.provision().unwrap();
        let pin_file = subject.state.resolve(subject.settings.pin_file.as_ref().unwrap());
        let good = std::fs::read(&pin_file).unwrap();
        std::fs::write(&pin_file, "not-the-right-pin").unwrap();
        assert_eq!(subject.start().unwrap_err().name, "pin_refused", "{}", subject.what);
        std::fs::write(&pin_file, good).unwrap();
        assert!(subject.start().is_ok(), "{}", subject.what);
    });
}

#[test]
fn a_module_that_changed_since_it_was_configured_is_not_loaded_until_that_is_accepted() {
    let mut subject = softhsm();
    let copy = subject.state.resolve("module.so");
    std::fs::copy(token::MODULE, &copy).unwrap();
    subject.settings.module.clone_from(&copy);
    subject.provision().unwrap();
    assert!(subject.start().is_ok());
    // A byte more at its end changes nothing that a loader looks at.
    let mut bytes = std::fs::read(&copy).unwrap();
    bytes.push(0);
    std::fs::write(&copy, bytes).unwrap();
    for failure in [subject.start().unwrap_err(), subject.provision().unwrap_err()] {
        assert_eq!(failure.name, "module_changed");
        assert!(failure.next_step.contains("--accept-module"), "{}", failure.next_step);
    }
    provision::provision_with(&program(), &subject.state, "bank", &subject.settings, ModuleChange::Accept).unwrap();
    assert!(subject.start().is_ok());
}

#[test]
fn an_attribute_that_the_module_does_not_know_is_passed_on_and_its_refusal_is_named() {
    let mut subject = softhsm();
    subject.provision().unwrap();
    let extra = ExtraAttribute { on: ObjectKind::Private, kind: 0x8000_1234, value_hex: "01".into() };
    subject.settings.attributes = vec![extra];
    let running = subject.start().unwrap();
    let token: Arc<dyn Token> = running.pool();
    let fault = token.generate("bank", Purpose::Transaction, None).unwrap_err();
    assert_eq!(fault.name(), "key_not_changed", "{fault}");
    assert!(fault.to_string().contains("attribute"), "{fault}");
    assert!(token.keys().is_ok());
}

#[test]
fn a_reserved_string_that_the_module_cannot_use_is_named() {
    let Ok(mut subject) = nss() else { return eprintln!("skipped: NSS softokn is not installed") };
    subject.settings.init_args = Some("configdir='sql:/nowhere/at/all' certPrefix='' keyPrefix='' secmod=''".into());
    let failure = subject.provision().unwrap_err();
    assert!(["module_unusable", "token_missing"].contains(&failure.name.as_str()), "{failure:?}");
    assert!(!Path::new("/nowhere").exists());
}
