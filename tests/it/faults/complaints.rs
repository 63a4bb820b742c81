//! What users of comparable daemons complain about, each with the report it comes from.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use countersign::hsm::{HsmFault, KeyInfo, KeyState, Token};
use countersign::kernel::sign::{Purpose, signature_is_valid};
use rustix::process::{Pid, Signal, kill_process};

use super::{Bank, FOR_EVER, input};
use crate::support::shim;
use crate::support::token::{RealToken, program};

/// letsencrypt/boulder#3468, parallaxsecond/parsec#607: after the HSM restarted, every signature fails until an
/// operator restarts the daemon.
#[test]
fn the_daemon_signs_again_after_the_hsm_restarted() {
    let bank = Bank::running_with(|token| token.settings.workers = 2);
    for round in 1..=3_u32 {
        bank.sign(round).unwrap();
        // A restart: the device is away, and everything it knew about its clients with it.
        bank.control.order("token removed");
        bank.control.order(&format!("lose-sessions {round}"));
        assert!(matches!(bank.sign(round), Err(HsmFault::Unavailable { .. })));
        bank.control.withdraw();
        bank.sign_at_last(round);
    }
    bank.only_signed(1..4);
}

/// latchset/pkcs11-provider#494: sessions are made anew after an error, but object handles of before are kept and
/// never work again.
#[test]
fn handles_are_found_anew_together_with_the_sessions() {
    let bank = Bank::running();
    let pool = bank.pool();
    for lost in 1..=5_u32 {
        bank.control.order(&format!("lose-sessions {lost}"));
        for entry in 0..16 {
            bank.sign(lost * 16 + entry).unwrap();
        }
    }
    assert_eq!(pool.keys().unwrap().len(), 2);
    bank.only_signed(16..96);
    assert_eq!(bank.token.workers_started(), 1, "no worker was lost");
}

/// smallstep/certificates#937, Yubico/yubihsm-shell#541: the device closes a session that was idle, and the first
/// request after a quiet night fails.
#[test]
fn the_first_call_after_idle_sessions_died_is_answered() {
    let bank = Bank::running();
    bank.sign(0).unwrap();
    bank.control.order("lose-sessions 1");
    bank.sign(1).expect("the caller notices nothing");
    assert!(bank.pool().describe().is_ok());
    bank.control.order("lose-sessions 2");
    assert!(bank.pool().keys().unwrap().contains(&bank.key));
    bank.only_signed(0..2);
}

/// NLnetLabs/krill#643: a call into the HSM never returns and the daemon waits with it.
#[test]
fn a_call_that_never_returns_is_answered_by_the_deadline_and_the_next_one_is_signed() {
    for site in ["before C_SignInit", "before C_Sign", "after C_Sign"] {
        let bank = Bank::running_with(|token| token.settings.deadline_ms = 1_500);
        bank.control.fault(&format!("{site} hang take 1"));
        let fault = bank.sign(0).expect_err("it never returns");
        let HsmFault::Unavailable { name, maybe_signed, .. } = fault else { panic!("{fault}") };
        assert_eq!((name.as_str(), maybe_signed), ("deadline_missed", true), "{site}");
        bank.sign_at_last(0);
        bank.only_signed(0..1);
    }
    let bank = Bank::running_with(|token| token.settings.deadline_ms = 1_500);
    bank.control.fault("before C_GetAttributeValue hang take 1");
    assert_eq!(bank.pool().keys().unwrap_err().name(), "deadline_missed");
    bank.sign_at_last(0);
}

/// Yubico/yubihsm-shell#379: sessions run out (16 a device), and nothing works until they time out.
#[test]
fn sixteen_sessions_are_enough_also_while_workers_die() {
    let bank = few_sessions(16);
    for round in 0..3 {
        many_sign(&bank, round);
        // A worker that dies takes its sessions with it; its successor needs as many.
        bank.control.fault("before C_SignInit abort take 1");
        bank.sign_at_last(round * 16);
    }
    bank.only_signed(0..48);
}

/// SoftHSM2 2.6.1 shows nothing of an object while another thread or process reads or writes its file: a key that one worker
/// has just made is taken for destroyed, or for unknown, by the others, and by one that has just come up.
#[test]
fn a_key_that_a_search_does_not_show_is_neither_destroyed_nor_unknown() {
    let bank = Bank::running();
    let another = bank.token.another();
    let another: Arc<dyn Token> = another.pool();
    let asked = |key: &KeyInfo, entry: u32| {
        let signature = another.sign(key.id, input(entry)).expect("the key is there");
        assert!(signature_is_valid(&key.spki, &input(entry).message(), &signature));
    };
    // A look searches for a private key and for a secret one, twice; it is taken once, and then up to three times alone.
    // Retiring and destroying are alone from the start.
    for (entry, searches) in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 12)] {
        let key = bank.pool().generate("bank", Purpose::Transaction, None).expect("a key is made");
        let missed = bank.control.blind(&key.id.hex(), searches);
        asked(&key, entry);
        assert!(bank.control.seen(missed) > searches, "{searches}: it was seen at last");
        bank.control.withdraw();

        bank.control.blind(&key.id.hex(), searches.min(8));
        assert_eq!(another.destroy(key.id).unwrap_err().name(), "key_still_active", "{searches}");
        bank.control.withdraw();
        bank.control.blind(&key.id.hex(), searches.min(8));
        assert_eq!(another.retire(key.id).unwrap().state, KeyState::VerifyOnly, "{searches}");
    }
    assert_eq!(bank.token.workers_started(), 1, "nobody was given up");
}

/// The same report: another program of the device holds the rest.
#[test]
fn calls_are_signed_on_the_sessions_that_others_leave() {
    let bank = few_sessions(16);
    for (round, most) in (0..).zip([16, 9, 3, 16]) {
        bank.control.order(&format!("sessions-max {most}"));
        bank.control.order(&format!("lose-sessions {round}"));
        many_sign(&bank, round);
    }
    bank.only_signed(0..64);
}

/// The same report, at its worst: one session is left for all threads of a worker. Whichever thread reads or rests, the
/// call is signed on it.
#[test]
fn one_session_is_enough_whoever_of_a_worker_holds_it() {
    let bank = few_sessions_of(1, 1);
    for entry in 0..64 {
        bank.sign(entry).expect("signed on the one session there is");
    }
    bank.control.order("lose-sessions 1");
    for entry in 64..128 {
        bank.sign(entry).expect("signed on the one session there is");
    }
    bank.only_signed(0..128);
    assert_eq!(bank.token.workers_started(), 1, "no worker was stuck");
}

/// letsencrypt/boulder#3468 once more: the device refuses the first login after it came back. The worker that has had
/// the PIN asks for it again, and waits for nobody.
#[test]
fn a_worker_whose_login_failed_gets_the_pin_again() {
    let bank = Bank::running();
    bank.sign(0).unwrap();
    bank.control.fault("before C_Login fail CKR_DEVICE_ERROR take 1");
    bank.control.order("log-out 1");
    bank.sign(1).expect("the caller notices nothing");
    assert_eq!(bank.control.logins(), ["CKR_OK", "CKR_DEVICE_ERROR", "CKR_OK"]);
    assert_eq!(bank.token.workers_started(), 1, "no worker was stuck");
    bank.only_signed(0..2);
}

fn few_sessions(most: u32) -> Bank {
    few_sessions_of(most, 2)
}

fn few_sessions_of(most: u32, workers: u32) -> Bank {
    let (mut token, control) = shim::provisioned("bank");
    control.order(&format!("sessions-max {most}"));
    token.settings.workers = workers;
    token.start().expect("a device of few sessions");
    let key = token.token().generate("bank", Purpose::Transaction, None).expect("a key is made");
    Bank { token, control, key }
}

/// Sixteen callers at once, each with an entry.
fn many_sign(bank: &Bank, round: u32) {
    std::thread::scope(|scope| {
        for caller in 0..16 {
            scope.spawn(move || bank.sign(round * 16 + caller).expect("signed on the sessions there are"));
        }
    });
}

/// gravitational/teleport#58950: the key is looked up in the HSM for every signature.
#[test]
fn no_key_is_looked_up_for_a_signature() {
    let bank = Bank::running();
    bank.sign(0).unwrap();
    let looks = |site: &str| bank.control.calls(site);
    let before = [looks("C_FindObjectsInit"), looks("C_GetAttributeValue"), looks("C_Login")];
    let signed = looks("C_Sign");
    for entry in 1..=100 {
        bank.sign(entry).unwrap();
    }
    assert_eq!([looks("C_FindObjectsInit"), looks("C_GetAttributeValue"), looks("C_Login")], before);
    assert_eq!(looks("C_Sign") - signed, 100, "and one C_Sign a signature");
}

/// letsencrypt/boulder#8794: the PIN is in a log line.
#[test]
fn no_log_line_of_any_process_has_the_pin_even_when_everything_is_logged() {
    let (token, control) = shim::provisioned("secco");
    let pin = std::fs::read_to_string(token.state.resolve("pins/secco.pin")).unwrap();
    control.fault("before C_Login fail CKR_DEVICE_ERROR skip 1 take 1");
    // A line that only the most talkative level has, so that this test sees that it is on in the worker too.
    control.fault("before C_Finalize fail CKR_GENERAL_ERROR");
    let log = logged(&token, |daemon| {
        let worker = worker_of(daemon.id());
        kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL).unwrap();
        let began = Instant::now();
        let log = token.state.resolve("log");
        while std::fs::read_to_string(&log).unwrap().matches("HSM worker ready").count() < 2 {
            assert!(began.elapsed() < FOR_EVER, "the worker is replaced: {:?}", control.logins());
            crate::support::before_another_look();
        }
    });
    assert!(log.contains("DEBUG"), "everything is logged: {log}");
    assert_eq!(control.logins(), ["CKR_OK", "CKR_DEVICE_ERROR", "CKR_OK"]);
    assert!(!log.contains(pin.trim()));
    assert!(!control.journal().contains(pin.trim()));
    // The refused one too.
    let wrong = "a-pin-that-is-wrong-and-secret";
    std::fs::write(token.state.resolve("pins/secco.pin"), wrong).unwrap();
    let log = logged(&token, |_| {});
    assert!(log.contains("pin_refused"), "{log}");
    assert!(!log.contains(wrong));
}

/// Everything that a daemon and its processes write, from start to end, at the most talkative level.
fn logged(token: &RealToken, meanwhile: impl FnOnce(&Child)) -> String {
    let config = format!(
        "[party.secco]\nkind = \"security-company\"\ntoken = \"{0}\"\n[hsm.{0}]\nuri = \"pkcs11:token={0}\"\n\
         module = \"{1}\"\npin_file = \"pins/{0}.pin\"\nworkers = 1\n[hsm.{0}.env]\n\
         SOFTHSM2_CONF = \"{{state}}/softhsm/softhsm2.conf\"\nPKCS11_SHIM_CONTROL = \"{{state}}/shim\"\n\
         RUST_LOG = \"trace\"\n",
        token.name,
        token.settings.module.display(),
    );
    std::fs::write(token.state.config(), config).unwrap();
    let log = token.state.resolve("log");
    let errors = std::fs::File::create(&log).unwrap();
    let mut daemon = Command::new(program())
        .args(["serve", "--offline", "--state"])
        .arg(token.state.root())
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .unwrap();
    let mut out = BufReader::new(daemon.stdout.take().unwrap());
    let mut lines = String::new();
    out.read_line(&mut lines).unwrap();
    if lines.contains("\"ready\":true") {
        meanwhile(&daemon);
        kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
    }
    daemon.wait().unwrap();
    out.read_to_string(&mut lines).unwrap();
    lines + &std::fs::read_to_string(log).unwrap()
}

fn worker_of(supervisor: u32) -> i32 {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut workers = processes.filter_map(|entry| {
        let id: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        (parent == supervisor && line.split('\0').any(|word| word == "hsm-worker")).then_some(id)
    });
    workers.next().expect("a worker process")
}

/// The opposite of all of them: nothing is wrong, and many callers share what there is.
#[test]
fn a_module_with_nothing_wrong_is_initialised_and_logged_in_once() {
    let bank = Bank::running();
    let pool: Arc<dyn Token> = bank.pool();
    for entry in 0..50 {
        let signature = pool.sign(bank.key.id, input(entry)).unwrap();
        assert!(!signature.is_empty());
    }
    assert_eq!(bank.control.calls("C_Initialize"), 1);
    assert_eq!(bank.control.logins(), ["CKR_OK"]);
    bank.only_signed(0..50);
}
