//! Loads a PKCS#11 module, finds the slot, logs in. Every way this fails has a name and a next step.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cryptoki::context::{Function, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use super::{keyring, reserved};
use crate::hsm::flow::wrong_token;
use crate::hsm::messages::WorkerOrders;
use crate::hsm::uri::SlotUri;
use crate::hsm::{LibraryInfo, PinState, TokenInfo};
use crate::kernel::types::{KeyId, Sha256};
use crate::ops::failure::Failure;

/// Two processes that initialise at once now and then see no token: look again, this often.
const LOOKS: u32 = 5;
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// An initialised module and the slot that the URI selects.
#[derive(Clone, Debug)]
pub struct OpenToken {
    pub pkcs11: Pkcs11,
    pub slot: Slot,
    module: PathBuf,
    /// SHA-256 of the module's file when it was loaded.
    module_sha256: Option<Sha256>,
}

/// One slot's token as seen while looking.
#[derive(Debug)]
struct Seen {
    slot: Slot,
    label: String,
    serial: String,
    initialised: bool,
    matches: bool,
}

/// Loads and initialises the module.
///
/// # Errors
/// `module_unusable`, `module_changed`.
pub fn load(orders: &WorkerOrders) -> Result<Pkcs11, Failure> {
    let module = &orders.module;
    let unusable = |why: String| {
        Failure::fault(
            "module_unusable",
            format!("{} is not a usable PKCS#11 module: {why}", module.display()),
            "check hsm.<token>.module; SoftHSM2 on Debian is /usr/lib/softhsm/libsofthsm2.so (package softhsm2)",
        )
    };
    if !module.is_file() {
        return Err(unusable("there is no such file".into()));
    }
    if let Some(expected) = orders.module_sha256 {
        let found = sha256_of(module).ok_or_else(|| unusable("it cannot be read".into()))?;
        if found != expected {
            return Err(changed(module, expected, found));
        }
    }
    let pkcs11 = Pkcs11::new(module).map_err(|error| unusable(error.to_string()))?;
    let arguments = reserved::initialize_args(orders.init_args.as_deref())
        .ok_or_else(|| unusable("init_args has a NUL character in it".into()))?;
    pkcs11.initialize(arguments).map_err(|error| unusable(error.to_string()))?;
    Ok(pkcs11)
}

/// Opens the one token that the URI selects.
///
/// # Errors
/// `module_unusable`, `module_changed`, `hsm_uri_invalid`, `token_missing` (with what is there), `token_ambiguous`.
pub fn open(orders: &WorkerOrders) -> Result<OpenToken, Failure> {
    let (module, uri) = (&orders.module, orders.uri.as_str());
    let wanted = SlotUri::parse(uri)?;
    let mut look = 1;
    loop {
        let pkcs11 = load(orders)?;
        let seen = look_around(&pkcs11, &wanted)?;
        let matching: Vec<&Seen> = seen.iter().filter(|seen| seen.matches && seen.initialised).collect();
        match matching[..] {
            [one] => {
                let module_sha256 = orders.module_sha256.or_else(|| sha256_of(module));
                return Ok(OpenToken { slot: one.slot, pkcs11, module: module.clone(), module_sha256 });
            }
            [] if look < LOOKS => {
                finalize(pkcs11);
                look += 1;
                std::thread::sleep(LOOK_PAUSE);
            }
            [] => {
                let failure = missing(uri, &seen);
                finalize(pkcs11);
                return Err(failure);
            }
            [..] => {
                let failure = ambiguous(uri, &matching);
                finalize(pkcs11);
                return Err(failure);
            }
        }
    }
}

/// A slot whose token is not initialised yet.
///
/// # Errors
/// `no_free_slot`, `module_failed`.
pub fn free_slot(pkcs11: &Pkcs11) -> Result<Slot, Failure> {
    let seen = look_around(pkcs11, &SlotUri::default())?;
    seen.iter().find(|seen| !seen.initialised).map(|seen| seen.slot).ok_or_else(|| {
        Failure::fault(
            "no_free_slot",
            format!("no slot has an uninitialised token; {}", shown(&seen)),
            "insert a blank token or make a partition, then run it again",
        )
    })
}

impl OpenToken {
    /// Opens a session and logs the user in, exactly once: a refused PIN is never tried again.
    ///
    /// # Errors
    /// `pin_refused`, `module_failed`.
    pub fn log_in(&self, pin: &AuthPin) -> Result<Session, Failure> {
        let session = self.pkcs11.open_rw_session(self.slot).map_err(|error| module_failed(&error))?;
        match session.login(UserType::User, Some(pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(Error::Pkcs11(error, _)) if is_about_the_pin(error) => Err(Failure::fault(
                "pin_refused",
                format!("the token refused its PIN ({error:?}); it was tried once and is not tried again"),
                "correct the PIN source named in hsm.<token>, then start the daemon again",
            )),
            Err(error) => Err(module_failed(&error)),
        }
    }

    /// A session that can also make keys; a read-only one where the token takes no others.
    ///
    /// # Errors
    /// The module's.
    pub fn open_session(&self) -> Result<Session, Error> {
        self.pkcs11.open_rw_session(self.slot).or_else(|_| self.pkcs11.open_ro_session(self.slot))
    }

    /// Refuses a token that shows another identity key than this one, before any PIN is presented to it. A token
    /// that shows no identity key at all is left to the login.
    ///
    /// # Errors
    /// `wrong_token`, `module_failed`.
    pub fn must_show_identity(&self, expected: KeyId) -> Result<(), Failure> {
        let session = self.open_session().map_err(|error| module_failed(&error))?;
        if keyring::shows(&session, expected).map_err(|error| module_failed(&error))? {
            return Ok(());
        }
        match keyring::shown_identity(&session).map_err(|error| module_failed(&error))? {
            Some(other) => Err(wrong_token(expected, other)),
            None => Ok(()),
        }
    }

    /// What module and token say about themselves.
    ///
    /// # Errors
    /// `module_failed`.
    pub fn describe(&self) -> Result<TokenInfo, Failure> {
        let library = self.pkcs11.get_library_info().map_err(|error| module_failed(&error))?;
        let info = self.pkcs11.get_token_info(self.slot).map_err(|error| module_failed(&error))?;
        let mechanisms = self.mechanisms().map_err(|error| module_failed(&error))?;
        let library = LibraryInfo {
            path: self.module.clone(),
            description: trimmed(library.library_description()),
            version: library.library_version().to_string(),
            sha256: self.module_sha256,
        };
        let pin = if info.user_pin_locked() {
            PinState::Locked
        } else if info.user_pin_final_try() {
            PinState::FinalTry
        } else if info.user_pin_count_low() {
            PinState::CountLow
        } else {
            PinState::Sound
        };
        Ok(TokenInfo {
            module: format!("{} {} ({})", library.description, library.version, library.path.display()),
            library,
            label: trimmed(info.label()),
            serial: trimmed(info.serial_number()),
            manufacturer: trimmed(info.manufacturer_id()),
            mechanisms: mechanisms.iter().map(ToString::to_string).collect(),
            pin,
            worker_pid: std::process::id(),
        })
    }

    /// What the token can do.
    ///
    /// # Errors
    /// The module's.
    pub fn mechanisms(&self) -> Result<Vec<MechanismType>, Error> {
        self.pkcs11.get_mechanism_list(self.slot)
    }

    /// True when the user PIN was set: false after an initialisation that was cut off.
    ///
    /// # Errors
    /// `module_failed`.
    pub fn has_user_pin(&self) -> Result<bool, Failure> {
        let info = self.pkcs11.get_token_info(self.slot).map_err(|error| module_failed(&error))?;
        Ok(info.user_pin_initialized())
    }

    /// Finalizes the module. Every session must be dropped before.
    pub fn finalize(self) {
        finalize(self.pkcs11);
    }
}

fn sha256_of(file: &Path) -> Option<Sha256> {
    std::fs::read(file).ok().map(|bytes| Sha256::of(&[&bytes]))
}

fn changed(module: &Path, expected: Sha256, found: Sha256) -> Failure {
    Failure::refused(
        "module_changed",
        format!(
            "{} is another file than when it was configured: SHA-256 {found}, expected {expected}",
            module.display()
        ),
        "when an upgrade explains it: stop the daemon, run `countersign init --accept-module` and start it again",
    )
}

/// A module call failed in a way that is nobody's fault here.
pub fn module_failed(error: &Error) -> Failure {
    Failure::busy(
        "module_failed",
        format!("the PKCS#11 module failed: {error}"),
        "check the token and its device; the daemon tries again by itself",
    )
}

/// Finalizes a module whose sessions are gone. Nothing is left to do when it fails.
pub fn finalize(pkcs11: Pkcs11) {
    if let Err(error) = pkcs11.finalize() {
        tracing::debug!(%error, "C_Finalize failed");
    }
}

fn is_about_the_pin(error: RvError) -> bool {
    matches!(
        error,
        RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinExpired
            | RvError::PinLocked
            | RvError::PinTooWeak
            | RvError::UserPinNotInitialized
    )
}

fn look_around(pkcs11: &Pkcs11, wanted: &SlotUri) -> Result<Vec<Seen>, Failure> {
    let slots = pkcs11.get_slots_with_token().map_err(|error| module_failed(&error))?;
    let mut all = Vec::new();
    for slot in slots {
        // Some modules have slots whose token information cannot be read: they are none of ours, unless named by
        // number, which is what slot-id is for.
        let Ok(info) = pkcs11.get_token_info(slot) else {
            if wanted.slot_id == Some(slot.id()) {
                let (label, serial) = (String::new(), String::new());
                all.push(Seen { slot, label, serial, initialised: true, matches: true });
            }
            continue;
        };
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| *wanted == found.trim());
        let matches = is(&wanted.token, info.label())
            && is(&wanted.serial, info.serial_number())
            && is(&wanted.manufacturer, info.manufacturer_id())
            && is(&wanted.model, info.model())
            && wanted.slot_id.is_none_or(|id| id == slot.id());
        all.push(Seen {
            slot,
            label: trimmed(info.label()),
            serial: trimmed(info.serial_number()),
            initialised: info.token_initialized(),
            matches,
        });
    }
    Ok(all)
}

fn missing(uri: &str, seen: &[Seen]) -> Failure {
    Failure::fault(
        "token_missing",
        format!("no token matches {uri}; {}", shown(seen)),
        "put the token in place, or correct hsm.<token>.uri; a new one is made with `countersign init`",
    )
}

fn ambiguous(uri: &str, matching: &[&Seen]) -> Failure {
    let serials: Vec<&str> = matching.iter().map(|seen| seen.serial.as_str()).collect();
    Failure::usage(
        "token_ambiguous",
        format!("{} tokens match {uri}: serials {}", matching.len(), serials.join(", ")),
        "add ;serial=<serial> to hsm.<token>.uri",
    )
}

fn shown(seen: &[Seen]) -> String {
    let tokens: Vec<String> = seen
        .iter()
        .filter(|seen| seen.initialised)
        .map(|seen| format!("`{}` (serial {})", seen.label, seen.serial))
        .collect();
    if tokens.is_empty() { "the module shows no token".into() } else { format!("there is {}", tokens.join(", ")) }
}

fn trimmed(text: &str) -> String {
    text.trim_end_matches(['\0', ' ']).trim().to_owned()
}

/// True for an error that leaves the session unusable for signing until it is replaced.
pub fn may_have_signed(error: &Error) -> bool {
    // Only a failure of C_Sign itself comes after the key was used.
    matches!(error, Error::Pkcs11(_, Function::Sign))
}
