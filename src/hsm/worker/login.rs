//! One login to the token and everything that is valid only as long as it lasts: sessions, handles, keys.
//!
//! When a module stops to answer, the login is made anew: first by C_Login on fresh sessions, then by C_Finalize and
//! C_Initialize. What that does not mend, a new process does. Codes do not tell these apart (each module has its own
//! for "not logged in"): that the identity key signs does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

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
    /// One a thread. A place is locked for as long as its thread is in the module.
    places: Vec<Mutex<Seat>>,
    /// Held by the one thread that makes the login anew.
    recovery: Mutex<()>,
}

/// What a look for a session that nobody works on finds.
enum Idle {
    Session(Session),
    AllAtWork,
    NoneLeft,
}

/// A thread's place: its session, of the current login.
#[derive(Debug, Default)]
struct Seat {
    session: Option<Session>,
    /// The thread works on a call. The session of one that reads or rests is anybody's who has none.
    at_work: bool,
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
        let places: Vec<Mutex<Seat>> = (0..sessions).map(|_| Mutex::default()).collect();
        locked(&places[0]).session = Some(session);
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

    /// True when this thread has a session for a call, or gets one: a fresh one, or where the module allows no more, one
    /// that nobody works on. False when all of them are at work: then the call is theirs. [`Access::rise`] ends it.
    pub fn sit(&self, place: usize) -> bool {
        let mut own = locked(&self.places[place]);
        if own.session.is_none() {
            match self.current().token.open_session() {
                Ok(session) => own.session = Some(session),
                Err(Error::Pkcs11(RvError::SessionCount, _)) => match self.idle(place) {
                    Idle::Session(session) => own.session = Some(session),
                    Idle::AllAtWork => return false,
                    Idle::NoneLeft => {}
                },
                // Whatever it is, the work itself will meet it and deal with it.
                Err(_) => {}
            }
        }
        own.at_work = true;
        true
    }

    /// The call is done.
    pub fn rise(&self, place: usize) {
        locked(&self.places[place]).at_work = false;
    }

    /// A session of another thread that is not working.
    fn idle(&self, place: usize) -> Idle {
        let mut all_at_work = false;
        for (number, other) in self.places.iter().enumerate() {
            if number == place {
                continue;
            }
            let mut other = match other.try_lock() {
                Ok(other) => other,
                Err(TryLockError::Poisoned(other)) => other.into_inner(),
                // Its thread is in the module.
                Err(TryLockError::WouldBlock) => {
                    all_at_work = true;
                    continue;
                }
            };
            if other.at_work {
                all_at_work |= other.session.is_some();
            } else if let Some(session) = other.session.take() {
                return Idle::Session(session);
            }
        }
        if all_at_work { Idle::AllAtWork } else { Idle::NoneLeft }
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
        let mut seat = locked(&self.places[place]);
        let login = self.current();
        let first = match &seat.session {
            Some(session) => work(session, &login),
            None => self.renewed(place, &mut seat, &login).and_then(|session| work(session, &login)),
        };
        match first {
            Ok(done) => return Ok(done),
            Err(error) => tracing::debug!(%error, "session replaced"),
        }
        let second = self.renewed(place, &mut seat, &login).and_then(|session| work(session, &login));
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
        let mut seat = locked(&self.places[place]);
        let login = self.current();
        let outcome = match &seat.session {
            Some(session) => work(session, &login),
            None => {
                let renewed = self.renewed(place, &mut seat, &login).map_err(E::from);
                renewed.and_then(|session| work(session, &login))
            }
        };
        outcome.map_err(|error| (login.epoch, error))
    }

    /// Runs a piece of work that must not be done twice while no other thread is in the module, on a fresh session where the
    /// module gives one. Waits for all calls that are in it.
    ///
    /// # Errors
    /// Its failure and the epoch it happened in.
    pub fn alone<T, E: From<Error>>(
        &self,
        place: usize,
        work: impl FnOnce(&Session, &Login) -> Result<T, E>,
    ) -> Result<T, (u64, E)> {
        let _alone = locked(&self.recovery);
        let mut places: Vec<MutexGuard<'_, Seat>> = self.places.iter().map(locked).collect();
        let login = self.current();
        let session = match login.token.open_session() {
            Ok(fresh) => Ok(fresh),
            // The module allows no more. The last session is not closed for it: the login would end with it.
            Err(error) => {
                let own = places[place].session.take();
                own.or_else(|| places.iter_mut().find_map(|seat| seat.session.take())).ok_or(error)
            }
        };
        let outcome = session.map_err(E::from).and_then(|session| work(places[place].session.insert(session), &login));
        outcome.map_err(|error| (login.epoch, error))
    }

    /// Gives up this thread's session: it may be in the middle of an operation.
    pub fn discard(&self, place: usize) {
        locked(&self.places[place]).session = None;
    }

    /// Makes the login anew, unless another thread did so since `epoch`, and leaves its session to this thread: it may
    /// be the only one. Waits for all calls that are in the module.
    ///
    /// # Errors
    /// The failure that only a new process can mend, if anything.
    pub fn recover(&self, place: usize, epoch: u64) -> Result<(), Failure> {
        let _alone = locked(&self.recovery);
        let old = self.current();
        if old.epoch != epoch {
            return Ok(());
        }
        let mut places: Vec<MutexGuard<'_, Seat>> = self.places.iter().map(locked).collect();
        // Every one of them before C_Finalize: numbers start anew, and a stale session would close a new one.
        for seat in &mut places {
            seat.session = None;
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
        places[place].session = Some(session);
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

    /// A fresh session in this place. The old one is closed after it, so that the login does not end with the last
    /// session, unless the module allows no more; then one that nobody works on will do.
    fn renewed<'a>(&self, place: usize, seat: &'a mut Seat, login: &Login) -> Result<&'a Session, Error> {
        let fresh = login.token.open_session().or_else(|first| {
            if seat.session.take().is_some() {
                return login.token.open_session();
            }
            match self.idle(place) {
                Idle::Session(session) => Ok(session),
                Idle::AllAtWork | Idle::NoneLeft => Err(first),
            }
        })?;
        Ok(seat.session.insert(fresh))
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
