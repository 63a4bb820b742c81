//! The shim does what it is told, in every process, and nothing else.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use crate::support::shim::{self, Control, codes};
use crate::support::token::RealToken;

/// Runs a part of this file in a process of its own, since a module is loaded and initialised once a process.
fn apart(part: &str, token: &RealToken) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", &format!("faults::shim_itself::{part}")])
        .env("SOFTHSM2_CONF", token.state.resolve("softhsm/softhsm2.conf"))
        .env("PKCS11_SHIM_CONTROL", token.state.resolve("shim"))
        .env("SHIM_TEST_STATE", token.state.root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
}

/// The part's side: the module as cryptoki sees it.
struct Loaded {
    module: Pkcs11,
    slot: Slot,
    pin: AuthPin,
    control: Control,
}

impl Loaded {
    fn new() -> Self {
        let state = std::env::var_os("SHIM_TEST_STATE").expect("run by its parent test");
        let state = Path::new(&state);
        let control = Control::new(state.join("shim"));
        let module = Pkcs11::new(shim::library()).unwrap();
        module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        let slot = module.get_slots_with_initialized_token().unwrap()[0];
        let pin = std::fs::read_to_string(state.join("pins/bank.pin")).unwrap();
        Self { module, slot, pin: AuthPin::from(pin.trim().to_owned()), control }
    }

    fn logged_in(&self) -> (Session, ObjectHandle) {
        let session = self.module.open_ro_session(self.slot).unwrap();
        session.login(UserType::User, Some(&self.pin)).unwrap();
        let key = key(&session);
        (session, key)
    }
}

fn key(session: &Session) -> ObjectHandle {
    session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).unwrap()[0]
}

fn sign(session: &Session, key: ObjectHandle) -> Result<Vec<u8>, Error> {
    session.sign(&Mechanism::Ecdsa, key, &[7; 32])
}

fn code(error: Error) -> RvError {
    let Error::Pkcs11(code, _) = error else { panic!("{error}") };
    code
}

#[test]
fn orders_are_obeyed_from_the_next_call_on_and_a_failed_c_sign_ends_its_operation() {
    let (token, _) = shim::provisioned("bank");
    apart("part_one", &token);
}

#[test]
#[ignore = "a part of the test above, run by it in a process of its own"]
fn part_one() {
    let it = Loaded::new();
    let (session, key) = it.logged_in();
    let good = sign(&session, key).unwrap();
    assert_eq!(good.len(), 64);
    let order = it.control.fault("before C_Sign fail CKR_DEVICE_ERROR skip 1 take 2");
    let outcomes: Vec<bool> = (0..5).map(|_| sign(&session, key).is_ok()).collect();
    assert_eq!(outcomes, [true, false, false, true, true], "each on the same session: no operation was left active");
    assert_eq!(it.control.seen(order), 5);
    assert_eq!(it.control.calls("C_Sign"), 6, "length queries are not counted");
    it.control.withdraw();

    it.control.fault("after C_Sign fail 0x80000007 take 1");
    assert_eq!(code(sign(&session, key).unwrap_err()), RvError::VendorDefined(0x8000_0007));
    it.control.fault("after C_Sign flip take 1");
    assert!(sign(&session, key).is_ok());
    let noted = it.control.signatures();
    let codes: Vec<(bool, &str)> = noted.iter().map(|signed| (signed.made, signed.code.as_str())).collect();
    let (fine, refused) = ((true, "CKR_OK"), (false, "CKR_DEVICE_ERROR"));
    assert_eq!(codes, [fine, fine, refused, refused, fine, fine, fine, fine]);
    assert!(noted.iter().all(|signed| signed.key.len() == 64 && signed.data == noted[0].data));
    assert_eq!(it.control.logins(), ["CKR_OK"]);
    assert!(codes::CODES.iter().all(|(_, name, value)| codes::name(*value) == *name));
}

#[test]
fn lost_sessions_and_logouts_are_what_the_real_module_makes_of_them() {
    let (token, _) = shim::provisioned("bank");
    apart("part_two", &token);
}

#[test]
#[ignore = "a part of the test above, run by it in a process of its own"]
fn part_two() {
    let it = Loaded::new();
    let (session, old) = it.logged_in();
    it.control.order("lose-sessions 1");
    assert_eq!(code(sign(&session, old).unwrap_err()), RvError::SessionHandleInvalid);
    let fresh = it.module.open_ro_session(it.slot).unwrap();
    assert!(sign(&fresh, old).is_err(), "logged out with the last session, and the handle is old");
    fresh.login(UserType::User, Some(&it.pin)).unwrap();
    assert!(sign(&fresh, old).is_err());
    assert!(sign(&fresh, key(&fresh)).is_ok());

    it.control.order("log-out 1 CKR_USER_NOT_LOGGED_IN");
    assert_eq!(code(sign(&fresh, old).unwrap_err()), RvError::UserNotLoggedIn);
    fresh.login(UserType::User, Some(&it.pin)).unwrap();
    assert!(sign(&fresh, key(&fresh)).is_ok());

    it.control.order("token removed");
    assert_eq!(code(sign(&fresh, key_or(&fresh, old)).unwrap_err()), RvError::DeviceRemoved);
    it.control.withdraw();
    let (session, found) = it.logged_in();
    assert!(sign(&session, found).is_ok());

    it.control.order("sessions-max 2");
    let second = it.module.open_ro_session(it.slot).unwrap();
    assert_eq!(code(it.module.open_ro_session(it.slot).unwrap_err()), RvError::SessionCount);
    drop(second);
    assert!(it.module.open_ro_session(it.slot).is_ok());
}

fn key_or(session: &Session, other: ObjectHandle) -> ObjectHandle {
    let found = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]);
    found.ok().and_then(|found| found.first().copied()).unwrap_or(other)
}

#[test]
fn a_token_that_was_gone_is_seen_again_only_after_initialising_anew() {
    let (token, _) = shim::provisioned("bank");
    apart("part_three", &token);
}

#[test]
#[ignore = "a part of the test above, run by it in a process of its own"]
fn part_three() {
    let it = Loaded::new();
    let (session, key) = it.logged_in();
    it.control.order("token gone");
    assert_eq!(code(sign(&session, key).unwrap_err()), RvError::ObjectHandleInvalid);
    it.control.withdraw();
    assert_eq!(code(sign(&session, key).unwrap_err()), RvError::ObjectHandleInvalid);
    assert_eq!(session.find_objects(&[]).unwrap(), []);
    assert!(it.module.get_slots_with_token().unwrap().is_empty());
    drop(session);
    it.module.finalize().unwrap();
    let again = Loaded::new();
    let (session, key) = again.logged_in();
    assert!(sign(&session, key).is_ok());
}

#[test]
fn delay_and_rate_hold_for_the_device_and_delayed_sessions_run_side_by_side() {
    let (token, _) = shim::provisioned("bank");
    apart("part_four", &token);
}

#[test]
#[ignore = "a part of the test above, run by it in a process of its own"]
fn part_four() {
    let it = Loaded::new();
    let (session, key) = it.logged_in();
    let sessions = [session, it.module.open_ro_session(it.slot).unwrap()];
    let all_sign = |sessions: [Session; 2]| {
        let began = Instant::now();
        let threads = sessions.map(|session| {
            std::thread::spawn(move || {
                (0..5).for_each(|_| drop(sign(&session, key).unwrap()));
                session
            })
        });
        let sessions = threads.map(|thread| thread.join().unwrap());
        (sessions, began.elapsed())
    };
    // Lower bounds only: how late a busy machine wakes a sleeper says nothing about the shim.
    it.control.order("sign-takes 40000");
    let (sessions, took) = all_sign(sessions);
    assert!(took >= Duration::from_millis(200), "{took:?}");
    it.control.withdraw();
    it.control.order("rate 50");
    let (_sessions, took) = all_sign(sessions);
    assert!(took >= Duration::from_millis(180), "ten signatures of one device: {took:?}");
}
