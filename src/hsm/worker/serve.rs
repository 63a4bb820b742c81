//! Serves one front: a thread a session takes requests from a bounded queue; replies leave out of order, in batches.
//!
//! Whatever a module does wrong ends here: a session that failed is replaced, a failure that stays ends the whole
//! worker (a new process is the one state that no module can spoil), a panic becomes a named fault.

use std::collections::VecDeque;
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cryptoki::error::Error;
use cryptoki::session::Session;
use secrecy::SecretString;

use super::keyring::{Keyring, LoadedKey};
use super::keys::{self, KeyFault};
use super::sealing;
use super::signing::{self, SigningFault};
use super::token::{self, OpenToken, may_have_signed, module_failed};
use crate::hsm::channel::Channel;
use crate::hsm::flow::{WINDOW, wrong_token};
use crate::hsm::messages::{self, WorkerOrders, WorkerReport};
use crate::hsm::wire::{self, FromWorker, Hello, Request, Response, ToWorker};
use crate::hsm::{HsmFault, KeyInfo, Op, Plaintext, Reply, lint};
use crate::kernel::sign::{Purpose, SignInput};
use crate::kernel::types::KeyId;
use crate::ops::clock;
use crate::ops::failure::Failure;

/// Sessions, one a thread. Slow hardware is served by sessions (10 ms a signature: 8 sessions 765/s); the smallest
/// device in use allows 16.
const SESSIONS: usize = 8;
/// A front that keeps to its window never fills this.
const QUEUE_MAX: usize = 2 * WINDOW;

struct Shared {
    token: OpenToken,
    keyring: Keyring,
    requests: Queue<(Instant, Request)>,
    replies: Queue<Response>,
    service: UnixStream,
    /// Why the worker ends by itself.
    doomed: Mutex<Option<Failure>>,
}

/// Serves until the front or the supervisor is gone, then leaves the module in order.
///
/// # Errors
/// Before Ready: whatever kept it from starting. After: the module failure that ended it.
pub fn serve(
    orders: &WorkerOrders,
    expected_identity: Option<KeyId>,
    pin: SecretString,
    service: UnixStream,
    channel: &Arc<Channel>,
) -> Result<(), Failure> {
    let token = token::open(&orders.module, &orders.uri)?;
    let session = token.log_in(&pin)?;
    drop(pin);
    let keyring = Keyring::load(&session).map_err(|error| module_failed(&error))?;
    let identity = keyring.identity().ok_or_else(no_identity)?.info.clone();
    if let Some(expected) = expected_identity.filter(|expected| *expected != identity.id) {
        return Err(wrong_token(expected, identity.id));
    }
    let info = token.describe()?;
    let shared = Shared {
        token,
        keyring,
        requests: Queue::default(),
        replies: Queue::default(),
        service,
        doomed: Mutex::new(None),
    };
    let stream_failed = |error: io::Error| {
        Failure::fault("front_gone", format!("the front's connection failed: {error}"), "start the daemon again")
    };
    let hello = Hello { token: info.clone(), identity: identity.clone() };
    wire::write_frame(&mut &shared.service, &FromWorker::Hello(Box::new(hello))).map_err(stream_failed)?;
    messages::send(channel, &WorkerReport::Ready { token: info, identity }, None).map_err(stream_failed)?;
    end_with_supervisor(channel, shared.service.try_clone().map_err(stream_failed)?);

    std::thread::scope(|scope| {
        let signers: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(|| signer(&shared))).collect();
        let replier = scope.spawn(|| send_replies(&shared));
        take_requests(&shared);
        super::end_by_force_later();
        // Joined before C_Finalize: a module that is finalized under a running thread crashes.
        shared.requests.close();
        for signer in signers {
            let _ = signer.join();
        }
        shared.replies.close();
        let _ = replier.join();
    });
    drop(session);
    let Shared { token, doomed, .. } = shared;
    token.finalize();
    doomed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn no_identity() -> Failure {
    Failure::fault(
        "token_identity_missing",
        "the token has no identity key, so it cannot be told from another",
        "run `countersign init`: it adds the key and leaves all others alone",
    )
}

/// When the supervisor is gone, so is this worker: the service socket is closed and the main thread comes back.
fn end_with_supervisor(channel: &Arc<Channel>, service: UnixStream) {
    let channel = Arc::clone(channel);
    std::thread::spawn(move || {
        while let Ok(Some(_)) = channel.receive() {}
        let _ = service.shutdown(Shutdown::Both);
        super::end_by_force_later();
    });
}

/// The main thread's part: reads frames until there are no more.
fn take_requests(shared: &Shared) {
    let mut stream = BufReader::with_capacity(64 * 1024, &shared.service);
    loop {
        let ToWorker::Batch(batch) = match wire::read_frame(&mut stream) {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(error) => return tracing::warn!(%error, "the front's frames ended"),
        };
        let now = Instant::now();
        for request in batch {
            let deadline = now + Duration::from_millis(request.deadline_ms.min(3_600_000));
            if let Err((_, request)) = shared.requests.push((deadline, request), QUEUE_MAX) {
                let outcome = Err(HsmFault::Busy);
                let _ = shared.replies.push(Response { id: request.id, outcome }, usize::MAX);
            }
        }
    }
}

fn send_replies(shared: &Shared) {
    loop {
        let replies = shared.replies.take_all();
        if replies.is_empty() {
            return;
        }
        if let Err(error) = wire::write_frame(&mut &shared.service, &FromWorker::Replies(replies)) {
            tracing::warn!(%error, "replies could not be sent");
            let _ = shared.service.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// A thread with a session of its own.
fn signer(shared: &Shared) {
    let mut session = None;
    while let Some((deadline, request)) = shared.requests.take_one() {
        let Request { id, op, .. } = request;
        let outcome = if Instant::now() >= deadline {
            Err(unavailable("deadline_passed", "the call waited too long for a session", false))
        } else {
            catch_unwind(AssertUnwindSafe(|| perform(shared, &mut session, op))).unwrap_or_else(|_| {
                // The session may be in the middle of an operation.
                session = None;
                Err(unavailable("hsm_worker_panicked", "a defect in the HSM worker; see its log", true))
            })
        };
        let _ = shared.replies.push(Response { id, outcome }, usize::MAX);
    }
}

fn perform(shared: &Shared, session: &mut Option<Session>, op: Op) -> Result<Reply, HsmFault> {
    match op {
        Op::Describe => shared.token.describe().map(Reply::Token).map_err(|failure| shared.doom(failure)),
        Op::ListKeys => with_session(shared, session, |session| shared.keyring.list(session))
            .map(Reply::Keys)
            .map_err(|error| shared.doom(module_failed(&error))),
        Op::Generate(order) => {
            changing(shared, |session| keys::generate(&shared.keyring, &shared.token, session, &order))
        }
        Op::Sign { key, input } => sign(shared, session, key, &input).map(Reply::Signature),
        Op::Seal { key, context, plaintext } => seal(shared, session, key, &context, &plaintext).map(Reply::Sealed),
        Op::Unseal { key, context, sealed } => unseal(shared, session, key, &context, &sealed).map(Reply::Opened),
        Op::Retire { key } => changing(shared, |session| keys::retire(&shared.keyring, session, key)),
        Op::Destroy { key } => changing(shared, |session| keys::destroy(&shared.keyring, session, key)),
    }
}

fn sign(shared: &Shared, session: &mut Option<Session>, id: KeyId, input: &SignInput) -> Result<Vec<u8>, HsmFault> {
    let key = key(shared, session, id)?;
    lint::lint(&key.info, input)?;
    keys::ensure_active(&key.info)?;
    let error = match with_session(shared, session, |session| sign_with(session, &key, input)) {
        Ok(Some(signature)) => return Ok(signature),
        Ok(None) => {
            let message = format!("the signature of {} does not verify; it was not released", key.info.label);
            return Err(unavailable("signature_unverified", &message, true));
        }
        Err(error) => error,
    };
    // Twice, the second time on a fresh session. The module or this one key? The key itself may tell, or another one.
    if let Ok(Some(refusal)) = with_session(shared, session, |session| Ok(keys::why_not(&shared.keyring, session, id)))
    {
        return Err(refusal);
    }
    let maybe_signed = may_have_signed(&error);
    let is_identity = key.info.purpose == Purpose::TokenIdentity;
    if !is_identity && identity_signs(shared, session) {
        let message = format!("key {} does not sign any more: {error}", key.info.label);
        return Err(unavailable("key_failed", &message, maybe_signed));
    }
    let failure = module_failed(&error);
    let message = failure.message.clone();
    shared.doom(failure);
    Err(unavailable("module_failed", &message, maybe_signed))
}

/// `None`: the module signed, but not so that it verifies.
fn sign_with(session: &Session, key: &LoadedKey, input: &SignInput) -> Result<Option<Vec<u8>>, Error> {
    match signing::sign(session, &key.info, key.private, input) {
        Ok(signature) => Ok(Some(signature)),
        Err(SigningFault::Unverified) => Ok(None),
        Err(SigningFault::Module(error)) => Err(error),
    }
}

/// The key, remembered or found in the token.
fn key(shared: &Shared, session: &mut Option<Session>, id: KeyId) -> Result<Arc<LoadedKey>, HsmFault> {
    if let Some(key) = shared.keyring.find(id) {
        return Ok(key);
    }
    let found = with_session(shared, session, |session| match keys::look_up(&shared.keyring, session, id) {
        Err(KeyFault::Module(error)) => Err(error),
        decided => Ok(decided),
    });
    found.map_err(|error| shared.doom(module_failed(&error)))?.map_err(HsmFault::from)
}

fn seal(
    shared: &Shared,
    session: &mut Option<Session>,
    id: KeyId,
    context: &[u8],
    plaintext: &Plaintext,
) -> Result<Vec<u8>, HsmFault> {
    let key = wrapping_key(shared, session, id)?;
    keys::ensure_active(&key.info)?;
    worked(shared, session, &key, |session| sealing::seal(session, &key.info, key.private, context, plaintext))?
        .ok_or_else(|| unavailable("key_failed", &format!("{} does not seal as it should", key.info.label), false))
}

fn unseal(
    shared: &Shared,
    session: &mut Option<Session>,
    id: KeyId,
    context: &[u8],
    sealed: &[u8],
) -> Result<Plaintext, HsmFault> {
    let key = wrapping_key(shared, session, id)?;
    worked(shared, session, &key, |session| sealing::unseal(session, &key.info, key.private, context, sealed))?
        .ok_or_else(|| {
            let message = format!("the text was not sealed under {} with this context", key.info.label);
            HsmFault::Refused { name: "not_sealed_here".into(), message }
        })
}

fn wrapping_key(shared: &Shared, session: &mut Option<Session>, id: KeyId) -> Result<Arc<LoadedKey>, HsmFault> {
    let key = key(shared, session, id)?;
    if key.info.purpose.seals() {
        return Ok(key);
    }
    let message = format!("a key of purpose {} seals and opens nothing", key.info.purpose.slug());
    Err(HsmFault::Refused { name: "wrong_purpose".into(), message })
}

/// Work with a key that leaves no trace. `None`: the token did it, and the outcome is not sound.
fn worked<T>(
    shared: &Shared,
    session: &mut Option<Session>,
    key: &LoadedKey,
    work: impl Fn(&Session) -> Result<T, SigningFault>,
) -> Result<Option<T>, HsmFault> {
    let outcome = with_session(shared, session, |session| match work(session) {
        Ok(done) => Ok(Some(done)),
        Err(SigningFault::Unverified) => Ok(None),
        Err(SigningFault::Module(error)) => Err(error),
    });
    let error = match outcome {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    let why = with_session(shared, session, |session| Ok(keys::why_not(&shared.keyring, session, key.info.id)));
    if let Ok(Some(refusal)) = why {
        return Err(refusal);
    }
    if identity_signs(shared, session) { Ok(None) } else { Err(shared.doom(module_failed(&error))) }
}

/// True when the module still works with another key.
fn identity_signs(shared: &Shared, session: &mut Option<Session>) -> bool {
    let nonce = SignInput::SelfTest { nonce: clock::random() };
    shared.keyring.identity().is_some_and(|identity| {
        with_session(shared, session, |session| sign_with(session, &identity, &nonce)).is_ok_and(|good| good.is_some())
    })
}

/// Makes or changes a key, on a read-write session of its own.
fn changing(shared: &Shared, change: impl FnOnce(&Session) -> Result<KeyInfo, KeyFault>) -> Result<Reply, HsmFault> {
    let session = shared.token.pkcs11.open_rw_session(shared.token.slot);
    let session = session.map_err(|error| shared.doom(module_failed(&error)))?;
    change(&session).map(Reply::Key).map_err(HsmFault::from)
}

/// Runs a read-only piece of work on this thread's session; after a failure once more on a fresh one, since an
/// operation that was cut off leaves a session unusable (CKR_OPERATION_ACTIVE).
fn with_session<T>(
    shared: &Shared,
    session: &mut Option<Session>,
    work: impl Fn(&Session) -> Result<T, Error>,
) -> Result<T, Error> {
    if let Some(open) = session.as_ref() {
        match work(open) {
            Ok(done) => return Ok(done),
            Err(error) => tracing::debug!(%error, "session replaced"),
        }
    }
    // Dropped before the next is opened: a module may allow no more.
    *session = None;
    let fresh = shared.token.pkcs11.open_ro_session(shared.token.slot)?;
    let done = work(&fresh)?;
    *session = Some(fresh);
    Ok(done)
}

fn unavailable(name: &str, message: &str, maybe_signed: bool) -> HsmFault {
    HsmFault::Unavailable { name: name.into(), message: message.into(), maybe_signed }
}

impl Shared {
    /// The module is beyond repair in this process: it answers what it has, ends, and another worker starts.
    fn doom(&self, failure: Failure) -> HsmFault {
        let fault = unavailable(&failure.name, &failure.message, false);
        self.doomed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        // Reading ends; replies can still be sent.
        let _ = self.service.shutdown(Shutdown::Read);
        fault
    }
}

/// A closable queue between threads. The lock guards the queue only.
struct Queue<T> {
    state: Mutex<(VecDeque<T>, Flow)>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    Closed,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { state: Mutex::new((VecDeque::new(), Flow::Open)), changed: Condvar::new() }
    }
}

impl<T> Queue<T> {
    /// Hands the value back when the queue is full or closed.
    fn push(&self, value: T, max: usize) -> Result<(), T> {
        let mut state = self.state();
        if state.0.len() >= max || state.1 == Flow::Closed {
            return Err(value);
        }
        state.0.push_back(value);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for a value; `None` once closed, whatever still waits.
    fn take_one(&self) -> Option<T> {
        let mut state = self.wait();
        if state.1 == Flow::Closed { None } else { state.0.pop_front() }
    }

    /// Waits and takes everything; empty once closed and drained.
    fn take_all(&self) -> Vec<T> {
        self.wait().0.drain(..).collect()
    }

    fn close(&self) {
        self.state().1 = Flow::Closed;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, (VecDeque<T>, Flow)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) -> MutexGuard<'_, (VecDeque<T>, Flow)> {
        let idle = |state: &mut (VecDeque<T>, Flow)| state.0.is_empty() && state.1 == Flow::Open;
        self.changed.wait_while(self.state(), idle).unwrap_or_else(PoisonError::into_inner)
    }
}
