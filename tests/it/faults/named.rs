//! Each failure that was measured on real modules, by name.

use std::time::Duration;

use countersign::hsm::{HsmFault, Token};
use countersign::kernel::sign::{Purpose, SignInput};

use super::Bank;
use crate::support::shim;
use crate::support::token::RealToken;

#[test]
fn a_token_that_was_gone_is_found_again_although_the_module_needs_initialising() {
    let bank = Bank::running_with(|token| token.settings.deadline_ms = 3_000);
    bank.sign(0).unwrap();
    bank.control.order("token gone");
    for entry in 0..2 {
        let fault = bank.sign(entry).expect_err("there is no token");
        assert!(matches!(fault, HsmFault::Unavailable { .. }), "{fault}");
    }
    assert!(matches!(bank.pool().keys(), Err(HsmFault::Unavailable { .. })), "no keys seen is not: no keys");
    bank.control.withdraw();
    bank.sign_at_last(0);
    assert!(bank.pool().keys().unwrap().contains(&bank.key));
    bank.only_signed(0..1);
}

#[test]
fn a_removed_device_is_unavailable_and_signs_when_it_is_plugged_in_again() {
    let bank = Bank::running_with(|token| token.settings.deadline_ms = 3_000);
    bank.control.order("token removed");
    let fault = bank.sign(0).expect_err("there is no device");
    assert!(matches!(fault, HsmFault::Unavailable { .. }), "{fault}");
    bank.control.withdraw();
    bank.sign_at_last(0);
    bank.only_signed(0..1);
}

#[test]
fn a_logout_behind_our_back_is_mended_whatever_the_module_calls_it() {
    let bank = Bank::running();
    // SoftHSM2's own, tpm2-pkcs11, kryoptic, NSS.
    let codes = ["", "CKR_USER_NOT_LOGGED_IN", "CKR_GENERAL_ERROR", "CKR_HOST_MEMORY"];
    for (entry, code) in (0..).zip(codes) {
        bank.control.order(&format!("log-out {} {code}", entry + 1));
        bank.sign(entry).unwrap_or_else(|fault| panic!("{code}: {fault}"));
        assert_eq!(bank.control.logins().len(), 2 + entry as usize, "{code}: one login mends it");
    }
    bank.only_signed(0..4);
}

#[test]
fn an_operation_that_was_left_active_does_not_spoil_the_session_for_good() {
    let bank = Bank::running();
    // C_SignInit was done although it said no: the next one on this session finds an active operation.
    bank.control.fault("after C_SignInit fail CKR_FUNCTION_FAILED take 3");
    for entry in 0..20 {
        bank.sign(entry).unwrap();
    }
    bank.only_signed(0..20);
}

#[test]
fn a_crash_of_the_module_with_calls_in_flight_loses_no_call_and_signs_no_other_bytes() {
    for crash in ["before C_Sign segfault skip 20 take 2", "after C_Sign abort skip 20 take 2"] {
        let bank = Bank::running_with(|token| token.settings.workers = 2);
        let order = bank.control.fault(crash);
        std::thread::scope(|scope| {
            for caller in 0..8 {
                let bank = &bank;
                scope.spawn(move || {
                    for round in 0..8 {
                        let entry = caller * 8 + round;
                        if let Err(fault) = bank.sign(entry) {
                            let HsmFault::Unavailable { maybe_signed, .. } = fault else { panic!("{fault}") };
                            assert!(maybe_signed, "{fault}");
                            // What the journal is for: the same bytes again.
                            bank.sign_at_last(entry);
                        }
                    }
                });
            }
        });
        assert!(bank.control.seen(order) > 22, "two workers crashed");
        bank.only_signed(0..64);
    }
}

#[test]
fn a_flipped_bit_is_signature_unverified_and_never_released() {
    let bank = Bank::running();
    let checkpoint = bank.pool().generate("bank", Purpose::Checkpoint, None).unwrap();
    bank.control.fault("after C_Sign flip");
    let fault = bank.sign(0).unwrap_err();
    assert_eq!(fault.name(), "signature_unverified");
    assert!(matches!(fault, HsmFault::Unavailable { maybe_signed: true, .. }));
    let note = "bank.example/log\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    let head = SignInput::TreeHead { note: note.as_bytes().to_vec() };
    assert_eq!(bank.pool().sign(checkpoint.id, head.clone()).unwrap_err().name(), "signature_unverified");
    bank.control.withdraw();
    bank.sign_at_last(0);
    assert!(bank.pool().sign(checkpoint.id, head).is_ok());
}

#[test]
fn a_swapped_token_of_the_same_name_is_refused_and_not_shown_the_pin() {
    let other = RealToken::provisioned("bank");
    let bank = Bank::running_with(|token| token.settings.deadline_ms = 3_000);
    let before = bank.control.logins().len();
    let conf = other.state.resolve("softhsm/softhsm2.conf");
    bank.control.order(&format!("environment SOFTHSM2_CONF {}", conf.display()));
    bank.control.fault("before C_SignInit abort take 1");
    let faults: Vec<String> = (0..2).filter_map(|_| bank.sign(0).err()).map(|fault| super::name(&fault)).collect();
    assert_eq!(faults.last().map(String::as_str), Some("wrong_token"), "{faults:?}");
    assert_eq!(bank.control.logins().len(), before, "its PIN counter is not ours to run down");
    bank.control.withdraw();
    let conf = bank.token.state.resolve("softhsm/softhsm2.conf");
    bank.control.order(&format!("environment SOFTHSM2_CONF {}", conf.display()));
    bank.sign_at_last(0);
    bank.only_signed(0..1);
}

#[test]
fn two_processes_that_initialise_at_once_and_see_no_token_look_again() {
    let (mut token, control) = shim::provisioned("bank");
    control.order("token gone");
    let waiting = std::thread::spawn(move || {
        let started = token.start();
        (token, started)
    });
    // It looks a bounded number of times; the second look is enough.
    while control.calls("C_Initialize") == 0 {
        crate::support::before_another_look();
    }
    control.withdraw();
    let (token, started) = waiting.join().unwrap();
    started.expect("the token was there at the second look");
    assert!(token.token().keys().is_ok());
}

#[test]
fn ten_milliseconds_a_call_are_shared_by_all_sessions() {
    let bank = Bank::running();
    bank.control.order("sign-takes 10000");
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let bank = &bank;
            scope.spawn(move || (0..4).for_each(|round| drop(bank.sign(caller * 4 + round).unwrap())));
        }
    });
    bank.only_signed(0..64);
}

#[test]
fn a_small_device_that_is_asked_for_more_than_it_can_do_makes_callers_wait_and_loses_none() {
    let bank = Bank::running_with(|token| token.settings.deadline_ms = 20_000);
    bank.control.order("rate 100");
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let bank = &bank;
            scope.spawn(move || (0..4).for_each(|round| drop(bank.sign(caller * 4 + round).unwrap())));
        }
    });
    bank.only_signed(0..64);
    assert_eq!(bank.token.workers_started(), 1, "slow is not stuck");
}

#[test]
fn a_call_that_stalls_for_less_than_its_deadline_costs_no_worker() {
    let bank = Bank::running();
    bank.control.fault("before C_Sign sleep 300000 take 1");
    bank.sign(0).unwrap();
    assert_eq!(bank.token.workers_started(), 1);
    assert_eq!(bank.token.pool().call(countersign::hsm::Op::Describe).map(|_| ()), Ok(()));
    // Longer than the deadline, and it comes back: an answer of a worker that was given up is nobody's.
    let bank = Bank::running_with(|token| token.settings.deadline_ms = 1_000);
    bank.control.fault("after C_Sign stall take 1");
    let fault = bank.sign(0).unwrap_err();
    assert_eq!(fault.name(), "deadline_missed");
    bank.control.withdraw();
    bank.sign_at_last(0);
    bank.only_signed(0..1);
    assert!(Duration::from_millis(bank.token.settings.deadline_ms) < super::FOR_EVER);
}
