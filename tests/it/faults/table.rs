//! One table: every CKR code at every call site of a worker.

use std::time::{Duration, Instant};

use countersign::hsm::{HsmFault, KeyInfo};
use countersign::kernel::sign::Purpose;

use super::Bank;
use crate::support::shim;
use crate::support::shim::codes::{CODES, Class};

/// One code of each class that modules are known to answer in unexpected places.
const USUAL: &[&str] = &[
    "CKR_SESSION_HANDLE_INVALID",
    "CKR_USER_NOT_LOGGED_IN",
    "CKR_DEVICE_ERROR",
    "CKR_OBJECT_HANDLE_INVALID",
    "CKR_ARGUMENTS_BAD",
    "CKR_OPERATION_ACTIVE",
    "CKR_GENERAL_ERROR",
    "CKR_MECHANISM_INVALID",
    "CKR_RANDOM_NO_RNG",
    "CKR_BUFFER_TOO_SMALL",
    "CKR_VENDOR_DEFINED",
];

/// What a restart meets most: a device that has no time, a module in an unknown state, a vendor's own number.
const AT_START: &[&str] = &["CKR_DEVICE_ERROR", "CKR_GENERAL_ERROR", "CKR_VENDOR_DEFINED_42"];

/// Codes by which a token says something about the PIN it was shown (PKCS#11 v3.1, 5.1.2).
const ABOUT_THE_PIN: &[&str] = &[
    "CKR_PIN_INCORRECT",
    "CKR_PIN_INVALID",
    "CKR_PIN_LEN_RANGE",
    "CKR_PIN_EXPIRED",
    "CKR_PIN_LOCKED",
    "CKR_PIN_TOO_WEAK",
    "CKR_USER_PIN_NOT_INITIALIZED",
];

/// Sites that a worker passes from its start to its first signature.
const START_SITES: &[&str] = &[
    "C_Initialize",
    "C_GetSlotList",
    "C_GetTokenInfo",
    "C_GetMechanismList",
    "C_OpenSession",
    "C_Login",
    "C_FindObjectsInit",
    "C_FindObjects",
    "C_FindObjectsFinal",
    "C_GetAttributeValue",
    "C_SignInit",
    "C_Sign",
];

fn all() -> impl Iterator<Item = &'static str> {
    CODES.iter().map(|(_, code, _)| *code)
}

#[test]
fn each_class_of_codes_has_a_usual_one() {
    let class = |name: &str| CODES.iter().find(|(_, code, _)| *code == name).map(|(class, _, _)| *class);
    let mut usual: Vec<Class> = USUAL.iter().map(|name| class(name).expect("a known code")).collect();
    usual.sort();
    usual.dedup();
    let mut every: Vec<Class> = CODES.iter().map(|(class, _, _)| *class).collect();
    every.sort();
    every.dedup();
    assert_eq!(usual, every);
}

#[test]
fn a_signature_that_fails_once_with_any_code_is_made_at_the_second_attempt() {
    let bank = Bank::running();
    let mut entry = 0;
    for site in ["C_SignInit", "C_Sign"] {
        for code in all() {
            let order = bank.control.fault(&format!("before {site} fail {code} take 1"));
            bank.sign(entry).unwrap_or_else(|fault| panic!("{site} {code}: {fault}"));
            assert!(bank.control.seen(order) > 1, "{site} {code}: asked for again");
            bank.control.withdraw();
            entry += 1;
        }
    }
    bank.only_signed(0..entry);
    assert_eq!(bank.control.logins().len(), 1, "no login is needed for what a fresh session mends");
    assert_eq!(bank.token.workers_started(), 1);
}

#[test]
fn a_reply_that_is_lost_after_signing_is_asked_for_again_with_the_same_bytes() {
    let bank = Bank::running();
    for (entry, code) in (0..).zip(USUAL) {
        bank.control.fault(&format!("after C_Sign fail {code} take 1"));
        bank.sign(entry).unwrap_or_else(|fault| panic!("{code}: {fault}"));
        bank.control.withdraw();
    }
    let entries = u32::try_from(USUAL.len()).unwrap();
    bank.only_signed(0..entries);
    let made = bank.control.signatures().iter().filter(|signed| signed.key == bank.key.id.hex() && signed.made).count();
    assert!(made >= 2 * USUAL.len(), "{made}: each was signed twice, the same bytes");
}

#[test]
fn signing_that_goes_on_to_fail_is_unavailable_by_name_and_works_when_the_fault_is_over() {
    for code in USUAL {
        goes_on_to_fail("C_Sign", code);
    }
}

#[test]
fn a_key_that_cannot_be_chosen_is_unavailable_by_name_and_works_when_the_fault_is_over() {
    for code in AT_START {
        goes_on_to_fail("C_SignInit", code);
    }
}

fn goes_on_to_fail(site: &str, code: &str) {
    let bank = Bank::running_with(|token| token.settings.deadline_ms = 2_000);
    bank.control.fault(&format!("before {site} fail {code}"));
    let fault = bank.sign(0).expect_err("nothing can be signed");
    let HsmFault::Unavailable { name, message, maybe_signed } = &fault else { panic!("{site} {code}: {fault}") };
    assert!(!name.is_empty() && !message.is_empty(), "{site} {code}");
    // A failed C_Sign may have used the key.
    assert!(*maybe_signed || site != "C_Sign", "{site} {code}: {fault}");
    let made =
        bank.control.signatures().iter().any(|signed| signed.made && signed.data == super::digest(&super::input(0)));
    assert!(!made);
    bank.control.withdraw();
    bank.sign_at_last(0);
    bank.only_signed(0..1);
    assert!(bank.control.logins().iter().all(|outcome| outcome == "CKR_OK"), "{site} {code}");
}

/// A worker dies; its successor's start meets one failure at this site, after some calls that were fine.
fn restart_meets(bank: &mut Bank, site: &str, code: &str, skip: u32, entry: u32) {
    bank.token.start().expect("the workers start");
    bank.sign_at_last(entry);
    bank.control.fault("before C_SignInit abort take 1");
    let order = bank.control.fault(&format!("before {site} fail {code} skip {skip} take 1"));
    let faults = bank.sign_at_last(entry);
    assert!(bank.control.seen(order) > u64::from(skip), "{site} {code}: the site was passed");
    for fault in &faults {
        assert!(matches!(fault, HsmFault::Unavailable { .. } | HsmFault::Busy), "{site} {code}: {fault}");
    }
    bank.control.withdraw();
    bank.sign_at_last(entry);
}

fn restarts_meet(site: &str, codes: impl Iterator<Item = &'static str>) {
    let mut bank = Bank::running();
    let codes = codes.filter(|code| site != "C_Login" || !ABOUT_THE_PIN.contains(code));
    // Each of the two keys is read and tested at the start: no failure may cost one of them.
    let skips: &[u32] = match site {
        "C_GetAttributeValue" => &[0, 3, 6],
        "C_FindObjectsInit" | "C_FindObjects" | "C_FindObjectsFinal" | "C_SignInit" | "C_Sign" => &[0, 1],
        _ => &[0],
    };
    let mut entry = 0;
    for code in codes {
        for skip in skips {
            restart_meets(&mut bank, site, code, *skip, entry);
            entry += 1;
        }
    }
    bank.only_signed(0..entry);
}

macro_rules! a_restart_that_meets_a_failure_once_is_made_again {
    ($($name:ident: $site:literal,)*) => {
        $(
            #[test]
            fn $name() {
                assert!(START_SITES.contains(&$site));
                restarts_meet($site, AT_START.iter().copied());
            }
        )*
    };
}

a_restart_that_meets_a_failure_once_is_made_again! {
    a_restart_goes_on_after_a_failure_of_c_initialize: "C_Initialize",
    a_restart_goes_on_after_a_failure_of_c_get_slot_list: "C_GetSlotList",
    a_restart_goes_on_after_a_failure_of_c_get_token_info: "C_GetTokenInfo",
    a_restart_goes_on_after_a_failure_of_c_get_mechanism_list: "C_GetMechanismList",
    a_restart_goes_on_after_a_failure_of_c_open_session: "C_OpenSession",
    a_restart_goes_on_after_a_failure_of_c_login: "C_Login",
    a_restart_goes_on_after_a_failure_of_c_find_objects_init: "C_FindObjectsInit",
    a_restart_goes_on_after_a_failure_of_c_find_objects: "C_FindObjects",
    a_restart_goes_on_after_a_failure_of_c_find_objects_final: "C_FindObjectsFinal",
    a_restart_goes_on_after_a_failure_of_c_get_attribute_value: "C_GetAttributeValue",
    a_restart_goes_on_after_a_failure_of_c_sign_init: "C_SignInit",
    a_restart_goes_on_after_a_failure_of_c_sign: "C_Sign",
}

#[test]
#[ignore = "half an hour of the long run: every code at every site of a start"]
fn full_every_code_at_every_site_of_a_start() {
    for site in START_SITES {
        restarts_meet(site, all());
    }
}

#[test]
#[ignore = "minutes of the long run: every code that does not go away"]
fn full_every_code_that_does_not_go_away() {
    for site in ["C_SignInit", "C_Sign"] {
        for code in all() {
            goes_on_to_fail(site, code);
        }
    }
}

#[test]
#[ignore = "a minute for each site of the long run: a worker gets that long to start"]
fn full_a_start_that_never_ends_is_given_up_and_made_again() {
    for site in ["C_Initialize", "C_GetSlotList", "C_Login", "C_FindObjects", "C_Sign"] {
        let bank = Bank::running();
        bank.control.fault("before C_SignInit abort take 1");
        let order = bank.control.fault(&format!("before {site} hang take 1"));
        let (began, mut signed) = (Instant::now(), false);
        while !signed && began.elapsed() < Duration::from_secs(180) {
            signed = bank.sign(0).is_ok();
        }
        assert!(signed && bank.control.seen(order) > 1, "{site}");
    }
}

#[test]
fn a_pin_that_the_token_refuses_in_any_words_is_shown_once_and_latched() {
    let (mut token, control) = shim::provisioned("bank");
    token.settings.workers = 1;
    for code in ABOUT_THE_PIN {
        let before = control.logins().len();
        control.fault(&format!("before C_Login fail {code}"));
        let failure = token.start().expect_err("the PIN is refused");
        assert_eq!(failure.name, "pin_refused", "{code}");
        assert_eq!(control.logins()[before..], [*code]);
        control.withdraw();
    }
}

#[test]
fn a_pin_that_is_refused_at_a_restart_is_shown_once_and_answers_every_call() {
    let bank = Bank::running();
    let before = bank.control.logins().len();
    bank.control.fault("before C_Login fail CKR_PIN_INCORRECT");
    bank.control.fault("before C_SignInit abort take 1");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        let fault = bank.sign(0).expect_err("nobody is logged in");
        assert!(matches!(fault, HsmFault::PinRefused { .. }), "{fault}");
    }
    assert_eq!(bank.control.logins()[before..], ["CKR_PIN_INCORRECT"]);
}

#[test]
fn a_login_that_fails_for_the_device_is_tried_again_with_the_same_pin() {
    let bank = Bank::running();
    bank.control.fault("before C_Login fail CKR_DEVICE_ERROR take 2");
    bank.control.fault("before C_SignInit abort take 1");
    bank.sign_at_last(0);
    let logins = bank.control.logins();
    assert_eq!(logins, ["CKR_OK", "CKR_DEVICE_ERROR", "CKR_DEVICE_ERROR", "CKR_OK"]);
}

#[test]
fn a_key_pair_that_could_not_be_made_leaves_nothing_usable_behind() {
    let (bank, mut known) = makes_keys_under_faults(&[]);
    let mut listed = bank.pool().keys().unwrap();
    listed.sort_by(|a, b| a.label.cmp(&b.label));
    known.sort_by(|a, b| a.label.cmp(&b.label));
    assert_eq!(labels(&listed), labels(&known));
    assert_eq!(listed, known);
}

#[test]
fn a_key_pair_that_could_neither_be_made_nor_removed_takes_no_version_and_no_key_of_others() {
    let (bank, known) = makes_keys_under_faults(&["before C_DestroyObject fail CKR_ACTION_PROHIBITED"]);
    let listed = bank.pool().keys().unwrap();
    for key in &known {
        assert!(listed.contains(key), "{}", key.label);
    }
    let mut once = labels(&listed);
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), listed.len(), "no version was given twice");
}

fn labels(keys: &[KeyInfo]) -> Vec<&str> {
    keys.iter().map(|key| key.label.as_str()).collect()
}

/// Has keys made while each step of it fails; returns those that were reported as made.
fn makes_keys_under_faults(also: &[&str]) -> (Bank, Vec<KeyInfo>) {
    let bank = Bank::running();
    let mut known = bank.pool().keys().unwrap();
    for site in ["C_GenerateKeyPair", "C_SetAttributeValue", "C_GetAttributeValue", "C_SignInit", "C_Sign"] {
        for moment in ["before", "after"] {
            also.iter().for_each(|fault| {
                bank.control.fault(fault);
            });
            bank.control.fault(&format!("{moment} {site} fail CKR_FUNCTION_FAILED take 1"));
            let outcome = bank.pool().generate("bank", Purpose::Transaction, None);
            bank.control.withdraw();
            match outcome {
                Ok(key) => known.push(key),
                Err(HsmFault::Unavailable { name, .. }) => {
                    assert!(["key_not_changed", "key_unusable"].contains(&name.as_str()), "{site}: {name}");
                }
                Err(other) => panic!("{moment} {site}: {other}"),
            }
            bank.sign_at_last(0);
            known.push(bank.pool().generate("bank", Purpose::Transaction, None).expect("keys can be made again"));
        }
    }
    (bank, known)
}

#[test]
fn a_list_of_keys_is_whole_or_a_fault_and_never_shorter() {
    let bank = Bank::running();
    let known = bank.pool().keys().unwrap();
    for site in ["C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_GetAttributeValue", "C_OpenSession"] {
        for code in AT_START {
            bank.control.fault(&format!("before {site} fail {code} take 1"));
            match bank.pool().keys() {
                Ok(keys) => assert_eq!(keys, known, "{site} {code}"),
                Err(fault) => assert!(matches!(fault, HsmFault::Unavailable { .. }), "{site} {code}: {fault}"),
            }
            bank.control.withdraw();
            bank.sign_at_last(0);
        }
    }
}

#[test]
fn a_module_that_fails_or_hangs_in_its_last_calls_does_not_keep_a_worker_from_ending() {
    for fault in [
        "before C_CloseSession fail CKR_SESSION_HANDLE_INVALID",
        "before C_Finalize fail CKR_CRYPTOKI_NOT_INITIALIZED",
        "before C_Finalize hang",
        "before C_CloseSession hang",
        "before C_Finalize segfault",
    ] {
        let mut bank = Bank::running();
        bank.sign(0).unwrap();
        bank.control.fault(fault);
        // By itself or by force.
        bank.token.stop();
        bank.control.withdraw();
        bank.token.start().expect("the workers start");
        bank.sign_at_last(1);
    }
}
