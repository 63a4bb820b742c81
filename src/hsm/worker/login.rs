//! One login to the token and everything that is valid only as long as it lasts: sessions, handles, keys.
//!
//! When a module stops to answer, the login is made anew: first by C_Login on fresh sessions, then by C_Finalize and
//! C_Initialize. What that does not mend, a new process does. Codes do not tell these apart (each module has its own
//! for "not logged in"): that the identity key signs does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use cryptoki::error::{Error, RvError};
use cryptoki::session::Session;

use super::keyring::Keyring;
use super::superior::Superior;
use super::token::{self, OpenToken, module_failed};
use crate::hsm::flow::wrong_token;
use crate::hsm::messages::{WorkerOrders, WorkerReport};
use crate::hsm::{KeyInfo, TokenInfo};
use crate::kernel::types::KeyId;
use crate::ops::failure::Failure;

/// A login: module, slot and the keys found after it.
#[derive(Debug)]
pub struct Login {
    /// Counts the logins of this process. Handles of another epoch mean nothing.
    pub epoch: u64,
    pub token: OpenToken,
    pub keyring: Keyring,
}

/// The current login and a place for a session for each thread.
#[derive(Debug)]
pub struct Access {
    orders: WorkerOrders,
    identity: KeyId,
    superior: Arc<Superior>,
    current: RwLock<Arc<Login>>,
    /// One session a thread, of the current login. A place is locked for as long as its thread is in the module.
    places: Vec<Mutex<Option<Session>>>,
    /// Held by the one thread that makes the login anew.
    recovery: Mutex<()>,
}

impl Access {
    /// Opens the token, logs in once and loads the keys.
    ///
    /// # Errors
    /// By name: what kept it from opening, `pin_refused`, `wrong_token`, `token_identity_missing`, `module_failed`.
    pub fn begin(
        orders: &WorkerOrders,
        expected: Option<KeyId>,
        superior: &Arc<Superior>,
    ) -> Result<(Self, TokenInfo, KeyInfo), Failure> {
        let token = token::open(orders)?;
        let (keyring, identity, session) = log_in(&token, expected, superior)?;
        let info = token.describe()?;
        let sessions = usize::try_from(orders.sessions).unwrap_or(1).max(1);
        let places: Vec<Mutex<Option<Session>>> = (0..sessions).map(|_| Mutex::default()).collect();
        *locked(&places[0]) = Some(session);
        let access = Self {
            orders: orders.clone(),
            identity: identity.id,
            superior: Arc::clone(superior),
            current: RwLock::new(Arc::new(Login { epoch: 1, token, keyring })),
            places,
            recovery: Mutex::new(()),
        };
        Ok((access, info, identity))
    }

    pub fn sessions(&self) -> usize {
        self.places.len()
    }

    /// True when this thread has a session, or gets one. False when the module allows no more of them while others
    /// have one: then the call is theirs.
    pub fn is_seated(&self, place: usize) -> bool {
        let mut own = locked(&self.places[place]);
        if own.is_some() {
            return true;
        }
        let login = self.current();
        match login.token.open_session() {
            Ok(session) => {
                *own = Some(session);
                true
            }
            Err(Error::Pkcs11(RvError::SessionCount, _)) => {
                drop(own);
                // A place that is locked has its thread in the module.
                !self.places.iter().any(|other| other.try_lock().map_or(true, |other| other.is_some()))
            }
            // Whatever it is, the work itself will meet it and deal with it.
            Err(_) => true,
        }
    }

    /// Runs a piece of work on this thread's session; after a failure once more on a fresh one, since an operation
    /// that was cut off leaves a session unusable (CKR_OPERATION_ACTIVE). The work must bear being done twice.
    ///
    /// # Errors
    /// The second failure and the epoch it happened in.
    pub fn attempt<T>(
        &self,
        place: usize,
        work: impl Fn(&Session, &Login) -> Result<T, Error>,
    ) -> Result<T, (u64, Error)> {
        let mut place = locked(&self.places[place]);
        let login = self.current();
        let first = match place.as_ref() {
            Some(session) => work(session, &login),
            None => renewed(&mut place, &login).and_then(|session| work(session, &login)),
        };
        match first {
            Ok(done) => return Ok(done),
            Err(error) => tracing::debug!(%error, "session replaced"),
        }
        let second = renewed(&mut place, &login).and_then(|session| work(session, &login));
        second.map_err(|error| (login.epoch, error))
    }

    /// Runs a piece of work that must not be done twice, on this thread's session.
    ///
    /// # Errors
    /// Its failure and the epoch it happened in; the session is replaced the next time.
    pub fn once<T, E: From<Error>>(
        &self,
        place: usize,
        work: impl FnOnce(&Session, &Login) -> Result<T, E>,
    ) -> Result<T, (u64, E)> {
        let mut place = locked(&self.places[place]);
        let login = self.current();
        let outcome = match place.as_ref() {
            Some(session) => work(session, &login),
            None => renewed(&mut place, &login).map_err(E::from).and_then(|session| work(session, &login)),
        };
        outcome.map_err(|error| (login.epoch, error))
    }

    /// Gives up this thread's session: it may be in the middle of an operation.
    pub fn discard(&self, place: usize) {
        *locked(&self.places[place]) = None;
    }

    /// Makes the login anew, unless another thread did so since `epoch`. Waits for all calls that are in the module.
    ///
    /// # Errors
    /// The failure that only a new process can mend, if anything.
    pub fn recover(&self, epoch: u64) -> Result<(), Failure> {
        let _alone = locked(&self.recovery);
        let old = self.current();
        if old.epoch != epoch {
            return Ok(());
        }
        let mut places: Vec<MutexGuard<'_, Option<Session>>> = self.places.iter().map(locked).collect();
        // Every one of them before C_Finalize: numbers start anew, and a stale session would close a new one.
        for place in &mut places {
            **place = None;
        }
        tracing::warn!(epoch, "the token does not answer: logging in anew");
        let (token, (keyring, _, session)) = match self.log_in_again(&old.token) {
            Ok(login) => (old.token.clone(), login),
            Err(failure) if failure.name == "pin_refused" => return Err(failure),
            Err(failure) => {
                tracing::warn!(name = failure.name, "logging in was not enough: initialising the module anew");
                old.token.clone().finalize();
                let token = token::open(&self.orders)?;
                let login = log_in(&token, Some(self.identity), &self.superior)?;
                (token, login)
            }
        };
        *places[0] = Some(session);
        let login = Arc::new(Login { epoch: epoch + 1, token, keyring });
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = login;
        tracing::info!(epoch = epoch + 1, "the token answers again");
        Ok(())
    }

    /// Closes every session, then finalizes the module. No thread may be in the module any more.
    pub fn end(self) {
        drop(self.places);
        let login = self.current.into_inner().unwrap_or_else(PoisonError::into_inner);
        login.token.clone().finalize();
    }

    pub fn current(&self) -> Arc<Login> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A token that went away may say that it has no PIN: that is not worth showing it ours.
    fn log_in_again(&self, token: &OpenToken) -> Result<(Keyring, KeyInfo, Session), Failure> {
        if !token.has_user_pin()? {
            return Err(no_identity());
        }
        log_in(token, Some(self.identity), &self.superior)
    }
}

/// Logs in with the PIN that the supervisor hands over for this one time, and loads the keys.
fn log_in(
    token: &OpenToken,
    expected: Option<KeyId>,
    superior: &Superior,
) -> Result<(Keyring, KeyInfo, Session), Failure> {
    if let Some(expected) = expected {
        token.must_show_identity(expected)?;
    }
    let pin = superior.pin()?;
    let session = token.log_in(&pin)?;
    drop(pin);
    superior.tell(&WorkerReport::LoggedIn);
    let keyring = Keyring::load(&session).map_err(|error| module_failed(&error))?;
    let identity = keyring.identity().ok_or_else(no_identity)?.info.clone();
    match expected {
        Some(expected) if expected != identity.id => Err(wrong_token(expected, identity.id)),
        Some(_) | None => Ok((keyring, identity, session)),
    }
}

/// A fresh session in this place. The old one is closed after it, so that the login does not end with the last
/// session, unless the module allows no more.
fn renewed<'a>(place: &'a mut Option<Session>, login: &Login) -> Result<&'a Session, Error> {
    let fresh = match login.token.open_session() {
        Ok(fresh) => fresh,
        Err(_) if place.is_some() => {
            *place = None;
            login.token.open_session()?
        }
        Err(error) => return Err(error),
    };
    Ok(place.insert(fresh))
}

fn no_identity() -> Failure {
    Failure::fault(
        "token_identity_missing",
        "the token shows no identity key, so it cannot be told from another",
        "a token that was taken away comes back by itself; to a new one `countersign init` adds the key",
    )
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
