//! Makes a token and its PIN inside the worker. Only the path of the PIN file leaves this process.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use cryptoki::session::UserType;

use super::keyring::Keyring;
use super::keys::{self, KeyFault};
use super::token::{self, OpenToken, module_failed};
use crate::hsm::KeyOrder;
use crate::hsm::messages::{TokenOrigin, WorkerOrders, WorkerReport};
use crate::hsm::pin;
use crate::hsm::uri::SlotUri;
use crate::kernel::sign::Purpose;
use crate::ops::clock;
use crate::ops::failure::Failure;

/// 24 characters of 32: 120 bits.
const PIN_LENGTH: usize = 24;
/// No letters and digits that look alike.
const PIN_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Makes the token unless it is there. The PIN file is durable before the token exists, so that no token is ever
/// left without its PIN; a PIN file without a token is used for the new one.
///
/// # Errors
/// `pin_file_missing`, `pin_file_too_open`, `pin_refused`, `token_half_made`, `no_free_slot`, `provisioning_failed`.
pub fn provision(orders: &WorkerOrders, token_name: &str, pin_file: &Path) -> Result<WorkerReport, Failure> {
    let uri = SlotUri::parse(&orders.uri)?;
    let _alone = alone(pin_file)?;
    let (created, token) = match token::open(orders) {
        Ok(token) => (TokenOrigin::Existing, token),
        Err(failure) if failure.name == "token_missing" => {
            let label = uri.token.as_deref().filter(|label| (1..=32).contains(&label.len())).ok_or_else(|| {
                Failure::usage(
                    "hsm_uri_invalid",
                    format!("{} names no token label of 1 to 32 bytes for the new token", orders.uri),
                    "write it as pkcs11:token=<label>",
                )
            })?;
            make(orders, label, pin_file)?;
            (TokenOrigin::Created, token::open(orders)?)
        }
        Err(failure) => return Err(failure),
    };
    let report = look(orders, &token, token_name, pin_file, created);
    token.finalize();
    report
}

/// Waits until no other worker provisions this token: an `init` that was killed may have left one behind that goes
/// on, and two of them would make two tokens of one label. The lock ends with the process.
fn alone(pin_file: &Path) -> Result<std::fs::File, Failure> {
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(false).mode(0o600).open(pin_file.with_extension("lock"));
    let file = opened.map_err(|error| failed(&format!("{}: {error}", pin_file.display())))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(|error| failed(&error.to_string()))?;
    Ok(file)
}

/// Logs in with the PIN file and makes sure of the identity key.
fn look(
    orders: &WorkerOrders,
    token: &OpenToken,
    token_name: &str,
    pin_file: &Path,
    created: TokenOrigin,
) -> Result<WorkerReport, Failure> {
    if !token.has_user_pin()? {
        return Err(Failure::fault(
            "token_half_made",
            "the token has no user PIN: an earlier initialisation was cut off",
            "remove that token (SoftHSM2: its directory below softhsm/tokens) and run it again",
        ));
    }
    let pin = pin::from_file(pin_file)?;
    let session = token.log_in(&pin)?;
    let keyring = Keyring::load(&session).map_err(|error| module_failed(&error))?;
    let identity = match keyring.identity() {
        Some(key) => key.info.clone(),
        None => {
            let (party, purpose) = (token_name.to_owned(), Purpose::TokenIdentity);
            let order = KeyOrder { party, purpose, agent: None, algorithm: purpose.default_algorithm() };
            keys::generate(&keyring, token, &session, &order, &orders.attributes).map_err(|fault| match fault {
                KeyFault::Module(error) => module_failed(&error),
                KeyFault::Refused(_, message) => failed(&message),
                KeyFault::Unverified => failed("the new identity key does not verify its own signature"),
            })?
        }
    };
    Ok(WorkerReport::Provisioned { created, token: token.describe()?, identity })
}

fn make(orders: &WorkerOrders, label: &str, pin_file: &Path) -> Result<(), Failure> {
    let pin = match pin::from_file(pin_file) {
        Ok(pin) => pin,
        Err(failure) if failure.name == "pin_file_missing" => {
            let pin = fresh_pin();
            write_new(pin_file, &pin)
                .map_err(|error| failed(&format!("the PIN file {} cannot be written: {error}", pin_file.display())))?;
            pin
        }
        Err(failure) => return Err(failure),
    };
    // Nobody keeps it: an operator who lost the PIN makes a new token, with new keys.
    let so_pin = fresh_pin();
    let pkcs11 = token::load(orders)?;
    let slot = token::free_slot(&pkcs11)?;
    pkcs11.init_token(slot, &so_pin, label).map_err(|error| module_failed(&error))?;
    let session = pkcs11.open_rw_session(slot).map_err(|error| module_failed(&error))?;
    session.login(UserType::So, Some(&so_pin)).map_err(|error| module_failed(&error))?;
    session.init_pin(&pin).map_err(|error| module_failed(&error))?;
    drop(session);
    token::finalize(pkcs11);
    Ok(())
}

fn fresh_pin() -> SecretString {
    let random = Zeroizing::new(clock::random::<PIN_LENGTH>());
    // 256 is a multiple of 32, so every character is equally likely.
    let text: String = random.iter().map(|byte| char::from(PIN_ALPHABET[usize::from(byte % 32)])).collect();
    SecretString::from(text)
}

/// A new 0600 file that is whole or not there, and never replaces another: written beside, synced, linked.
fn write_new(path: &Path, pin: &SecretString) -> std::io::Result<()> {
    let beside = path.with_extension("pin.new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(pin.expose_secret().as_bytes())?;
    file.sync_all()?;
    std::fs::hard_link(&beside, path)?;
    std::fs::remove_file(&beside)?;
    std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn failed(why: &str) -> Failure {
    Failure::fault(
        "provisioning_failed",
        format!("the token could not be provisioned: {why}"),
        "correct the cause and run it again: what is done already is kept",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_long_and_never_the_same() {
        let (one, two) = (fresh_pin(), fresh_pin());
        assert_eq!(one.expose_secret().len(), PIN_LENGTH);
        assert!(one.expose_secret().bytes().all(|byte| PIN_ALPHABET.contains(&byte)));
        assert_ne!(one.expose_secret(), two.expose_secret());
    }

    #[test]
    fn a_pin_file_never_replaces_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pin");
        let pin = fresh_pin();
        write_new(&path, &pin).unwrap();
        assert!(write_new(&path, &fresh_pin()).is_err());
        assert_eq!(pin::from_file(&path).unwrap().expose_secret(), pin.expose_secret());
    }
}
