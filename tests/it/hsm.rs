//! The HSM layer with real SoftHSM2, real worker processes and real signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::hsm::client::HsmState;
use countersign::hsm::provision::TokenOrigin;
use countersign::hsm::{HsmFault, KeyInfo, Token};
use countersign::kernel::sign::{DocumentTag, Purpose, SignInput, TlsSide, signature_is_valid};
use countersign::kernel::types::Sha256;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::token::{MODULE, RealToken, program};

const ROOT: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn generate(token: &Arc<dyn Token>, purpose: Purpose) -> KeyInfo {
    token.generate("bank", purpose, purpose.is_named().then_some("shopper")).unwrap()
}

fn document(tag: DocumentTag) -> SignInput {
    SignInput::Document { tag, canonical_json: br#"{"a":"1"}"#.to_vec() }
}

/// One input that every purpose may sign, but for those whose inputs name the key: these sign self-tests here.
fn input_for(purpose: Purpose) -> SignInput {
    match purpose {
        Purpose::Root
        | Purpose::Issuing
        | Purpose::OcspResponder
        | Purpose::Token
        | Purpose::External
        | Purpose::TokenIdentity => SignInput::SelfTest { nonce: [7; 32] },
        Purpose::TlsServer => SignInput::TlsCertificateVerify { side: TlsSide::Server, transcript_hash: vec![7; 32] },
        Purpose::Agent | Purpose::TlsClient => {
            SignInput::TlsCertificateVerify { side: TlsSide::Client, transcript_hash: vec![7; 48] }
        }
        Purpose::HostIdentity => document(DocumentTag::CustodyStatement),
        Purpose::Checkpoint => SignInput::TreeHead { note: format!("bank.example/log\n7\n{ROOT}\n").into_bytes() },
        Purpose::Witness => SignInput::Cosignature {
            message: format!("cosignature/v1\ntime 1700000000\nbank.example/log\n7\n{ROOT}\n").into_bytes(),
        },
        Purpose::Transaction => document(DocumentTag::BatchRoot),
        Purpose::Catalogue => document(DocumentTag::Catalogue),
        Purpose::RevocationReceipt => document(DocumentTag::RevocationReceipt),
        Purpose::Manifest => document(DocumentTag::ToolManifest),
        Purpose::Operator => document(DocumentTag::OperatorAct),
        Purpose::VaultWrapping | Purpose::DataWrapping => unreachable!("they seal, and sign nothing"),
    }
}

/// Every purpose whose keys sign.
fn signing_purposes() -> impl Iterator<Item = Purpose> {
    Purpose::ALL.into_iter().filter(|purpose| !purpose.seals())
}

#[test]
fn provisioning_twice_keeps_the_first_token_and_its_pin() {
    let token = RealToken::provisioned("bank");
    let pin_file = token.state.resolve("pins/bank.pin");
    let pin = std::fs::read(&pin_file).unwrap();
    assert!(pin.len() >= 16);
    assert_eq!(std::fs::metadata(&pin_file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = token.provision().unwrap();
    assert_eq!(again.origin, TokenOrigin::Existing);
    assert_eq!(std::fs::read(&pin_file).unwrap(), pin);
    let tokens = std::fs::read_dir(token.state.resolve("softhsm/tokens")).unwrap();
    assert_eq!(tokens.count(), 1);
}

#[test]
fn a_token_whose_pin_file_is_lost_is_refused_and_never_initialised_again() {
    let token = RealToken::provisioned("bank");
    let pin_file = token.state.resolve("pins/bank.pin");
    let pin = std::fs::read(&pin_file).unwrap();
    std::fs::remove_file(&pin_file).unwrap();
    assert_eq!(token.provision().unwrap_err().name, "pin_file_missing");
    std::fs::write(&pin_file, pin).unwrap();
    std::fs::set_permissions(&pin_file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(token.provision().unwrap_err().name, "pin_file_too_open");
    std::fs::set_permissions(&pin_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(token.provision().unwrap().origin, TokenOrigin::Existing);
}

#[test]
fn a_key_of_each_purpose_signs_its_own_input_and_refuses_the_others() {
    let running = RealToken::running("bank");
    let token = running.token();
    let mut keys: Vec<KeyInfo> = token.keys().unwrap();
    assert_eq!(keys.len(), 1, "provisioning makes the identity key only");
    for purpose in signing_purposes().filter(|purpose| *purpose != Purpose::TokenIdentity) {
        keys.push(generate(&token, purpose));
    }
    for key in &keys {
        assert!(key.custody.is_sound(), "{}", key.label);
        assert_eq!(key.id, Sha256::of(&[&key.spki]));
        let input = input_for(key.purpose);
        let signature = token.sign(key.id, input.clone()).unwrap();
        assert!(signature_is_valid(&key.spki, &input.message(), &signature), "{}", key.label);
        for other in signing_purposes().map(input_for).filter(|other| !key.purpose.permits(other)) {
            let fault = token.sign(key.id, other).unwrap_err();
            assert_eq!(fault.name(), "wrong_purpose", "{}", key.label);
        }
    }
    let mut listed = token.keys().unwrap();
    keys.sort_by(|a, b| a.label.cmp(&b.label));
    listed.sort_by(|a, b| a.label.cmp(&b.label));
    assert_eq!(listed, keys);
}

#[test]
fn versions_are_counted_and_only_one_identity_key_exists() {
    let running = RealToken::running("bank");
    let token = running.token();
    for expected in ["bank-transaction-v1", "bank-transaction-v2"] {
        assert_eq!(generate(&token, Purpose::Transaction).label, expected);
    }
    assert_eq!(token.generate("secco", Purpose::Transaction, None).unwrap().label, "secco-transaction-v1");
    let refused = [
        token.generate("bank", Purpose::TokenIdentity, None).unwrap_err(),
        token.generate("bank", Purpose::Agent, None).unwrap_err(),
        token.generate("bank", Purpose::Root, Some("shopper")).unwrap_err(),
        token.generate("Bank", Purpose::Root, None).unwrap_err(),
        token.generate("bank", Purpose::Agent, Some("a.b")).unwrap_err(),
    ];
    let names: Vec<&str> = refused.iter().map(HsmFault::name).collect();
    assert_eq!(names, ["identity_exists", "input_malformed", "input_malformed", "input_malformed", "input_malformed"]);
}

#[test]
fn keys_survive_a_restart_and_unknown_or_malformed_requests_are_refused() {
    let mut running = RealToken::running("bank");
    let key = generate(&running.token(), Purpose::Checkpoint);
    running.start().unwrap();
    let token = running.token();
    assert!(token.keys().unwrap().contains(&key));
    let input = input_for(Purpose::Checkpoint);
    assert!(token.sign(key.id, input.clone()).is_ok());
    assert_eq!(token.sign(Sha256([9; 32]), input).unwrap_err().name(), "unknown_key");
    let malformed = SignInput::TreeHead { note: b"anything\n".to_vec() };
    assert_eq!(token.sign(key.id, malformed).unwrap_err().name(), "input_malformed");
    let oversized = SignInput::TreeHead { note: vec![b'x'; 10_000_000] };
    assert_eq!(token.sign(key.id, oversized).unwrap_err().name(), "input_too_large");
    assert!(token.sign(key.id, input_for(Purpose::Checkpoint)).is_ok());
}

#[test]
fn many_callers_at_once_each_get_their_own_signature() {
    let running = RealToken::running("bank");
    let token = running.token();
    let key = generate(&token, Purpose::Transaction);
    std::thread::scope(|scope| {
        for caller in 0..16_u8 {
            let (token, key) = (&token, &key);
            scope.spawn(move || {
                for round in 0..20_u8 {
                    let input = SignInput::Document {
                        tag: DocumentTag::BatchRoot,
                        canonical_json: format!(r#"{{"caller":"{caller}","round":"{round}"}}"#).into_bytes(),
                    };
                    let signature = token.sign(key.id, input.clone()).unwrap();
                    assert!(signature_is_valid(&key.spki, &input.message(), &signature));
                }
            });
        }
    });
}

#[test]
fn a_killed_worker_is_replaced_and_the_next_call_succeeds() {
    let running = RealToken::running("bank");
    let token = running.token();
    let key = generate(&token, Purpose::Transaction);
    for _ in 0..2 {
        let pid = token.describe().unwrap().worker_pid;
        signal(pid, Signal::KILL);
        let input = input_for(Purpose::Transaction);
        let signature = token.sign(key.id, input.clone()).unwrap();
        assert!(signature_is_valid(&key.spki, &input.message(), &signature));
        assert_ne!(token.describe().unwrap().worker_pid, pid);
    }
    assert_eq!(running.workers_started(), 3);
    assert_eq!(running.pool().health().state, HsmState::Degraded);
}

/// A pool of two.
fn pool_of_two() -> RealToken {
    let mut running = RealToken::provisioned("bank");
    running.settings.workers = 2;
    running.start().unwrap();
    let began = Instant::now();
    while running.pool().health().workers < 2 {
        assert!(began.elapsed() < Duration::from_secs(180), "the second worker joins");
        crate::support::before_another_look();
    }
    running
}

#[test]
fn a_pool_serves_on_while_one_of_its_workers_is_killed_again_and_again() {
    let running = pool_of_two();
    let token = running.token();
    let key = generate(&token, Purpose::Transaction);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for caller in 0..8_u8 {
            let (token, key, done) = (&token, &key, &done);
            scope.spawn(move || {
                let mut round = 0_u32;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    round += 1;
                    let input = SignInput::Document {
                        tag: DocumentTag::BatchRoot,
                        canonical_json: format!(r#"{{"caller":"{caller}","round":"{round}"}}"#).into_bytes(),
                    };
                    let signature = token.sign(key.id, input.clone()).unwrap();
                    assert!(signature_is_valid(&key.spki, &input.message(), &signature));
                }
            });
        }
        for _ in 0..4 {
            let before = running.workers_started();
            signal(token.describe().unwrap().worker_pid, Signal::KILL);
            let began = Instant::now();
            while running.workers_started() == before || running.pool().health().workers < 2 {
                assert!(began.elapsed() < Duration::from_secs(180), "the lost worker is replaced");
                crate::support::before_another_look();
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(running.pool().health().state, HsmState::Degraded);
}

#[test]
fn keys_that_one_worker_made_are_used_by_the_other() {
    let running = pool_of_two();
    let token = running.token();
    let keys: Vec<KeyInfo> = (0..6).map(|_| generate(&token, Purpose::Transaction)).collect();
    let versions: Vec<u32> = keys.iter().map(|key| key.version).collect();
    assert_eq!(versions, [1, 2, 3, 4, 5, 6]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (token, keys) = (&token, &keys);
            scope.spawn(move || {
                for key in keys {
                    let input = input_for(Purpose::Transaction);
                    let signature = token.sign(key.id, input.clone()).unwrap();
                    assert!(signature_is_valid(&key.spki, &input.message(), &signature));
                }
            });
        }
    });
    for _ in 0..4 {
        assert_eq!(token.sign(Sha256([9; 32]), input_for(Purpose::Transaction)).unwrap_err().name(), "unknown_key");
    }
}

#[test]
fn two_workers_that_make_keys_at_once_never_give_a_version_twice() {
    let running = pool_of_two();
    let token = running.token();
    let mut versions: Vec<u32> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| generate(&token, Purpose::Transaction).version)).collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    versions.sort_unstable();
    assert_eq!(versions, (1..=8).collect::<Vec<u32>>());
}

#[test]
fn a_stopped_worker_misses_the_deadline_and_is_killed_and_replaced() {
    let mut running = RealToken::provisioned("bank");
    running.settings.deadline_ms = 1_500;
    running.start().unwrap();
    let token = running.token();
    let key = generate(&token, Purpose::Transaction);
    let pid = token.describe().unwrap().worker_pid;
    signal(pid, Signal::STOP);
    // Queued is not stopped yet: a thread on another processor could still sign.
    while !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ") {
        crate::support::before_another_look();
    }
    let began = Instant::now();
    let fault = token.sign(key.id, input_for(Purpose::Transaction)).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(4));
    assert!(matches!(
        fault,
        HsmFault::Unavailable { ref name, maybe_signed: true, .. } if name == "deadline_missed"
    ));
    assert!(token.sign(key.id, input_for(Purpose::Transaction)).is_ok());
    assert_ne!(token.describe().unwrap().worker_pid, pid);
    assert_eq!(running.workers_started(), 2);
}

#[test]
fn a_wrong_pin_is_tried_once_and_latched() {
    let mut running = RealToken::provisioned("bank");
    let pin_file = running.state.resolve("pins/bank.pin");
    let good = std::fs::read(&pin_file).unwrap();
    std::fs::write(&pin_file, "not-the-right-pin").unwrap();
    assert_eq!(running.start().unwrap_err().name, "pin_refused");
    assert_eq!(running.provision().unwrap_err().name, "pin_refused");

    // The PIN changes while a worker is logged in: it goes on, its successor is refused, and no third one comes.
    std::fs::write(&pin_file, &good).unwrap();
    running.start().unwrap();
    let token = running.token();
    change_pin(&running, &good);
    assert!(token.keys().is_ok());
    signal(token.describe().unwrap().worker_pid, Signal::KILL);
    let fault = token.keys().unwrap_err();
    assert!(matches!(fault, HsmFault::PinRefused { .. }), "{fault}");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        assert!(matches!(token.keys().unwrap_err(), HsmFault::PinRefused { .. }));
        crate::support::before_another_look();
    }
    assert_eq!(running.workers_started(), 2);
    assert_eq!(running.pool().health().state, HsmState::Down);
}

/// Changes the token's PIN behind the worker's back: in a process of its own, since the module reads its
/// configuration from the environment once. The old PIN goes over standard input.
fn change_pin(running: &RealToken, old: &[u8]) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "hsm::changes_the_pin_of_the_token_in_its_environment"])
        .env("SOFTHSM2_CONF", running.state.resolve("softhsm/softhsm2.conf"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(old).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
#[ignore = "a part of the test above, run by it in a process of its own"]
fn changes_the_pin_of_the_token_in_its_environment() {
    let mut old = String::new();
    std::io::stdin().read_to_string(&mut old).unwrap();
    let (old, new) = (AuthPin::from(old), AuthPin::from("another-pin".to_owned()));
    let module = Pkcs11::new(MODULE).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = module.get_slots_with_initialized_token().unwrap()[0];
    let session = module.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&old)).unwrap();
    session.set_pin(&old, &new).unwrap();
    drop(session);
    module.finalize().unwrap();
}

#[test]
fn a_token_that_went_away_is_down_by_name_and_heals_when_it_is_back() {
    let mut running = RealToken::provisioned("bank");
    running.settings.deadline_ms = 3_000;
    running.start().unwrap();
    let token = running.token();
    let key = generate(&token, Purpose::Transaction);
    let (tokens, elsewhere) = (running.state.resolve("softhsm/tokens"), running.state.resolve("softhsm/away"));
    std::fs::rename(&tokens, &elsewhere).unwrap();
    std::fs::create_dir(&tokens).unwrap();
    let fault = token.sign(key.id, input_for(Purpose::Transaction)).unwrap_err();
    assert!(matches!(fault, HsmFault::Unavailable { .. }), "{fault}");
    let fault = token.sign(key.id, input_for(Purpose::Transaction)).unwrap_err();
    assert_eq!(fault.name(), "token_missing", "{fault}");
    std::fs::remove_dir_all(&tokens).unwrap();
    std::fs::rename(&elsewhere, &tokens).unwrap();
    let healed = (0..5).any(|_| token.sign(key.id, input_for(Purpose::Transaction)).is_ok());
    assert!(healed);
}

#[test]
fn unusable_modules_and_missing_tokens_are_named_with_a_next_step() {
    let mut token = RealToken::provisioned("bank");
    for (module, uri, name) in [
        ("/nowhere/libnothing.so", "pkcs11:token=bank", "module_unusable"),
        ("/etc/hostname", "pkcs11:token=bank", "module_unusable"),
        (MODULE, "pkcs11:token=other", "token_missing"),
        (MODULE, "pkcs11:token=bank;serial=0", "token_missing"),
        (MODULE, "pkcs11:token=bank?pin-value=1", "hsm_uri_invalid"),
    ] {
        token.use_module(module);
        token.settings.uri = uri.into();
        let failure = token.start().unwrap_err();
        assert_eq!(failure.name, name);
        assert!(!failure.next_step.is_empty());
        if name == "token_missing" {
            assert!(failure.message.contains("`bank`"), "it says what is there: {}", failure.message);
        }
    }
}

#[test]
fn settings_that_cannot_be_kept_are_refused_instead_of_ignored() {
    let mut token = RealToken::provisioned("bank");
    token.settings.pin_file = None;
    assert_eq!(token.provision().unwrap_err().name, "pin_file_needed");
}

#[test]
fn another_token_of_the_same_name_is_refused() {
    let mut token = RealToken::provisioned("bank");
    let other = RealToken::provisioned("bank");
    for place in ["softhsm/tokens", "pins/bank.pin"] {
        let (from, to) = (other.state.resolve(place), token.state.resolve(place));
        if to.is_dir() {
            std::fs::remove_dir_all(&to).unwrap();
        }
        std::fs::rename(from, to).unwrap();
    }
    assert_eq!(token.start().unwrap_err().name, "wrong_token");
    assert_eq!(token.provision().unwrap_err().name, "wrong_token");
}

// The daemon's processes

/// `countersign serve --offline` on a provisioned state directory.
struct Daemon {
    child: Child,
    first_line: serde_json::Value,
}

impl Daemon {
    fn start(token: &RealToken) -> Self {
        let config = format!(
            "[party.secco]\nkind = \"security-company\"\ntoken = \"{0}\"\n[hsm.{0}]\nuri = \"pkcs11:token={0}\"\n\
             module = \"{1}\"\nworkers = 1\npin_file = \"pins/{0}.pin\"\nenv = {{ SOFTHSM2_CONF = \"{{state}}/softhsm/softhsm2.conf\" }}\n",
            token.name, MODULE,
        );
        std::fs::write(token.state.config(), config).unwrap();
        let mut child = Command::new(program())
            .args(["serve", "--offline", "--state"])
            .arg(token.state.root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let first_line = serde_json::from_str(&line).unwrap_or_else(|_| panic!("one JSON line, not {line:?}"));
        Self { child, first_line }
    }

    /// The process of this verb below the supervisor.
    fn child_process(&self, verb: &str) -> u32 {
        let children = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
            (parent == self.child.id() && line.split('\0').any(|word| word == verb)).then_some(pid)
        });
        let found: Vec<u32> = children.collect();
        let [one] = found[..] else { panic!("one {verb} process, not {found:?}") };
        one
    }

    fn stop(mut self) -> std::process::ExitStatus {
        signal(self.child.id(), Signal::TERM);
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a process that is not our child; a zombie of another parent counts as gone.
fn wait_gone(pid: u32) {
    let began = Instant::now();
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(180), "process {pid} is still there");
        crate::support::before_another_look();
    }
}

#[test]
fn a_second_daemon_on_one_state_directory_is_refused_by_name() {
    let token = RealToken::provisioned("secco");
    let first = Daemon::start(&token);
    assert_eq!(first.first_line["ready"], true, "{}", first.first_line);
    let mut second = Daemon::start(&token);
    assert_eq!(second.first_line["error"]["name"], "already_running");
    assert_eq!(second.child.wait().unwrap().code(), Some(5));
    assert_eq!(first.stop().code(), Some(0));
    let third = Daemon::start(&token);
    assert_eq!(third.first_line["ready"], true, "the lock is free again");
    assert_eq!(third.stop().code(), Some(0));
}

#[test]
fn the_pin_is_in_no_argument_environment_or_descriptor_of_the_front() {
    let token = RealToken::provisioned("secco");
    let pin = std::fs::read_to_string(token.state.resolve("pins/secco.pin")).unwrap();
    let daemon = Daemon::start(&token);
    let front = daemon.child_process("front");
    let worker = daemon.child_process("hsm-worker");
    for pid in [daemon.child.id(), front, worker] {
        for place in ["cmdline", "environ"] {
            // All three are non-dumpable: without root nobody else reads their environment at all.
            let text = match std::fs::read(format!("/proc/{pid}/{place}")) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => continue,
                read => read.unwrap(),
            };
            assert!(!text.windows(pin.len()).any(|part| part == pin.as_bytes()), "{place} of {pid}");
        }
    }
    let forbidden = [token.state.resolve("pins"), token.state.resolve("softhsm")];
    let softhsm = std::fs::canonicalize(MODULE).unwrap();
    // What only root sees from here, tests/inside sees from inside.
    for entry in std::fs::read_dir(format!("/proc/{front}/fd")).into_iter().flatten().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        assert!(!forbidden.iter().any(|place| target.starts_with(place)), "{}", target.display());
    }
    for (pid, loads_it) in [(front, false), (worker, true)] {
        match std::fs::read_to_string(format!("/proc/{pid}/maps")) {
            Ok(maps) => assert_eq!(maps.contains(&*softhsm.to_string_lossy()), loads_it, "process {pid}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied),
        }
    }
}

#[test]
fn front_and_worker_end_by_themselves_when_the_supervisor_is_killed() {
    let token = RealToken::provisioned("secco");
    let mut daemon = Daemon::start(&token);
    let processes = [daemon.child_process("front"), daemon.child_process("hsm-worker")];
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    for pid in processes {
        wait_gone(pid);
    }
}

#[test]
fn a_front_that_dies_is_replaced_and_served_by_new_workers() {
    let token = RealToken::provisioned("secco");
    let daemon = Daemon::start(&token);
    for _ in 0..2 {
        let (front, worker) = (daemon.child_process("front"), daemon.child_process("hsm-worker"));
        signal(front, Signal::KILL);
        wait_gone(front);
        wait_gone(worker);
        let began = Instant::now();
        loop {
            // Answered by the new front: nobody is an operator of this token, and it says so.
            let asked = Command::new(program()).args(["status", "--state"]).arg(token.state.root()).output().unwrap();
            if String::from_utf8_lossy(&asked.stderr).contains("operator_unknown") {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(180), "the daemon serves again");
        }
        assert_ne!(daemon.child_process("front"), front);
    }
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_daemon_that_cannot_start_says_why_in_one_line() {
    let token = RealToken::provisioned("secco");
    let pin_file = token.state.resolve("pins/secco.pin");
    std::fs::write(&pin_file, "not-the-right-pin").unwrap();
    let mut daemon = Daemon::start(&token);
    assert_eq!(daemon.first_line["error"]["name"], "pin_refused");
    assert_eq!(daemon.child.wait().unwrap().code(), Some(1));
    // The same file is not shown to the token again, by no later start; the same one written anew is.
    let again = Daemon::start(&token).first_line["error"].to_string();
    assert!(again.contains("not shown to the token again"), "{again}");
    std::fs::write(&pin_file, "not-the-right-pin").unwrap();
    let anew = Daemon::start(&token).first_line["error"].to_string();
    assert!(anew.contains("tried once"), "{anew}");
    std::fs::set_permissions(&pin_file, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(Daemon::start(&token).first_line["error"]["name"], "pin_file_too_open");
}

#[test]
fn workers_and_fronts_started_by_hand_say_who_starts_them() {
    for verb in ["hsm-worker", "front"] {
        let output = Command::new(program()).arg(verb).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{verb}");
    }
}
