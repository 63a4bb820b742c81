//! Serves one front: a thread a session takes turns at reading calls and working on them; replies leave out of
//! order, several in a frame when there is more to do.
//!
//! Whatever a module does wrong ends here: a session that failed is replaced, a login that failed is made anew, a
//! failure that stays ends the whole worker (a new process is the one state that no module can spoil), a panic
//! becomes a named fault.

use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cryptoki::error::Error;
use rustix::time::{ClockId, clock_gettime};

use super::desk::{Desk, Turn};
use super::keyring::{GenerationFault, LoadedKey};
use super::login::{Access, Login};
use super::signing::{self, SigningFault};
use super::superior::Superior;
use super::token::{may_have_signed, module_failed};
use crate::hsm::messages::{WorkerOrders, WorkerReport};
use crate::hsm::wire::{self, FromWorker, Hello, Request, Response, ToWorker};
use crate::hsm::{HsmFault, KeyInfo, Op, Reply, lint};
use crate::kernel::sign::{Purpose, SignInput};
use crate::kernel::types::KeyId;
use crate::ops::clock;
use crate::ops::failure::Failure;

/// Replies that wait for each other at most, and for how long, while more calls are at hand.
const HELD_BACK_MAX: usize = 8;
const HELD_BACK_LIMIT: Duration = Duration::from_micros(250);

struct Shared {
    access: Access,
    desk: Desk,
    /// Held by the thread whose turn it is to read.
    incoming: Mutex<BufReader<UnixStream>>,
    outgoing: Mutex<Outgoing>,
    service: UnixStream,
    /// Why the worker ends by itself.
    doomed: Mutex<Option<Failure>>,
}

/// Replies on their way out.
#[derive(Default)]
struct Outgoing {
    replies: Vec<Response>,
    since: Option<Instant>,
    /// A thread is writing; it also writes what comes meanwhile.
    writing: bool,
}

/// Serves until the front or the supervisor is gone, then leaves the module in order.
///
/// # Errors
/// Before Ready: whatever kept it from starting. After: the module failure that ended it.
pub fn serve(
    orders: &WorkerOrders,
    expected_identity: Option<KeyId>,
    service: UnixStream,
    superior: &Arc<Superior>,
) -> Result<(), Failure> {
    let stream_failed = |error: io::Error| {
        Failure::fault("front_gone", format!("the front's connection failed: {error}"), "start the daemon again")
    };
    superior.ends(service.try_clone().map_err(stream_failed)?);
    let (access, token, identity) = Access::begin(orders, expected_identity, superior)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let share = processors.div_ceil(usize::try_from(orders.workers).unwrap_or(1).max(1));
    let shared = Shared {
        desk: Desk::new(access.sessions(), share),
        access,
        incoming: Mutex::new(BufReader::with_capacity(64 * 1024, service.try_clone().map_err(stream_failed)?)),
        outgoing: Mutex::default(),
        service,
        doomed: Mutex::new(None),
    };
    let hello = Hello { token: token.clone(), identity: identity.clone(), hands: shared.hands() };
    wire::write_frame(&mut &shared.service, &FromWorker::Hello(Box::new(hello))).map_err(stream_failed)?;
    superior.tell(&WorkerReport::Ready { token, identity });

    std::thread::scope(|scope| {
        scope.spawn(|| shared.desk.watch());
        // Joined by the scope before C_Finalize: a module that is finalized under a running thread crashes.
        for place in 0..shared.access.sessions() {
            let shared = &shared;
            scope.spawn(move || take_turns(shared, place));
        }
    });
    let Shared { access, doomed, .. } = shared;
    access.end();
    doomed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// A thread with a place for a session of its own.
fn take_turns(shared: &Shared, place: usize) {
    loop {
        match shared.desk.next(|| shared.flush()) {
            Turn::Work(deadline, request) => {
                let (response, took) = answered(shared, place, deadline, request);
                shared.desk.done(took);
                shared.reply(response);
            }
            Turn::Read => read(shared),
            Turn::End => return,
        }
    }
}

/// Reads one frame; the end of the stream is the end of the worker.
fn read(shared: &Shared) {
    let frame = wire::read_frame(&mut *locked(&shared.incoming));
    let ToWorker::Batch(batch) = match frame {
        Ok(Some(frame)) => frame,
        outcome => {
            if let Err(error) = outcome {
                tracing::warn!(%error, "the front's frames ended");
            }
            super::end_by_force_later();
            return shared.desk.end();
        }
    };
    let now = Instant::now();
    let timed = batch.into_iter().map(|request| {
        let deadline = now + Duration::from_millis(request.deadline_ms.min(3_600_000));
        (deadline, request)
    });
    for refused in shared.desk.arrived(timed) {
        shared.reply(Response { id: refused.id, outcome: Err(HsmFault::Busy) });
    }
}

/// The answer to one call, and the elapsed and processor time it took.
fn answered(
    shared: &Shared,
    place: usize,
    deadline: Instant,
    request: Request,
) -> (Response, Option<(Duration, Duration)>) {
    let Request { id, op, .. } = request;
    let began = Instant::now();
    if began >= deadline {
        let outcome = Err(unavailable("deadline_passed", "the call waited too long for a session", false));
        return (Response { id, outcome }, None);
    }
    let processor = processor_time();
    let outcome = catch_unwind(AssertUnwindSafe(|| perform(shared, place, op))).unwrap_or_else(|_| {
        shared.access.discard(place);
        Err(unavailable("hsm_worker_panicked", "a defect in the HSM worker; see its log", true))
    });
    let took = (began.elapsed(), processor_time().saturating_sub(processor));
    (Response { id, outcome }, Some(took))
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn perform(shared: &Shared, place: usize, op: Op) -> Result<Reply, HsmFault> {
    match op {
        Op::Describe => shared.asked(place, |login| login.token.describe()).map(Reply::Token),
        Op::ListKeys => shared.read_only(place, |session, login| login.keyring.list(session)).map(Reply::Keys),
        Op::Generate { party, purpose, agent } => {
            generate(shared, place, &party, purpose, agent.as_deref()).map(Reply::Key)
        }
        Op::Sign { key, input } => sign(shared, place, key, &input).map(Reply::Signature),
    }
}

fn sign(shared: &Shared, place: usize, id: KeyId, input: &SignInput) -> Result<Vec<u8>, HsmFault> {
    let mut recovered = false;
    let mut looked = false;
    loop {
        let login = shared.access.current();
        let Some(key) = login.keyring.find(id) else {
            // Made by another worker since this one logged in, or not there at all.
            if !std::mem::replace(&mut looked, true) && look_again(shared, place, id)? {
                continue;
            }
            let message = format!("the token has no usable key {id}");
            return Err(HsmFault::Refused { name: "unknown_key".into(), message });
        };
        lint::lint(key.info.purpose, id, input)?;
        if !key.info.custody.is_sound() {
            let message = format!("{} could have left the token or was not born in it", key.info.label);
            return Err(HsmFault::Refused { name: "custody_unsound".into(), message });
        }
        let epoch = login.epoch;
        drop(login);
        let (failed_in, error) = match shared.access.attempt(place, |session, login| {
            // Of the login that the session is of.
            let key = login.keyring.find(id).unwrap_or_else(|| Arc::clone(&key));
            sign_with(session, &key, input)
        }) {
            Ok(Some(signature)) => return Ok(signature),
            Ok(None) => {
                let message = format!("the signature of {} does not verify; it was not released", key.info.label);
                return Err(unavailable("signature_unverified", &message, true));
            }
            Err(failed) => failed,
        };
        tracing::debug!(%error, epoch, failed_in, "a key did not sign");
        // Twice, the second time on a fresh session. The module or this one key? Another key tells.
        let maybe_signed = may_have_signed(&error);
        if others_sign(shared, place, id) {
            if !std::mem::replace(&mut looked, true) && look_again(shared, place, id)? {
                continue;
            }
            let message = format!("key {} does not sign any more: {error}", key.info.label);
            return Err(unavailable("key_failed", &message, maybe_signed));
        }
        if std::mem::replace(&mut recovered, true) {
            return Err(shared.doom(module_failed(&error), maybe_signed));
        }
        shared.access.recover(failed_in).map_err(|failure| shared.doom(failure, maybe_signed))?;
    }
}

/// True when the identity key signs, so that whatever is wrong is wrong with one key or one input.
fn others_sign(shared: &Shared, place: usize, but: KeyId) -> bool {
    let nonce = SignInput::SelfTest { nonce: clock::random() };
    let probe = shared.access.attempt(place, |session, login| {
        match login.keyring.identity().filter(|identity| identity.info.id != but) {
            Some(identity) => sign_with(session, &identity, &nonce).map(|signature| signature.is_some()),
            None => Ok(false),
        }
    });
    probe.unwrap_or(false)
}

/// Looks for one key in the token itself; true when it is there now.
fn look_again(shared: &Shared, place: usize, id: KeyId) -> Result<bool, HsmFault> {
    shared.read_only(place, |session, login| login.keyring.look_again(session, id))
}

/// `None`: the module signed, but not so that it verifies.
fn sign_with(
    session: &cryptoki::session::Session,
    key: &LoadedKey,
    input: &SignInput,
) -> Result<Option<Vec<u8>>, Error> {
    match signing::sign(session, &key.info, key.private, input) {
        Ok(signature) => Ok(Some(signature)),
        Err(SigningFault::Unverified) => Ok(None),
        Err(SigningFault::Module(error)) => Err(error),
    }
}

fn generate(
    shared: &Shared,
    place: usize,
    party: &str,
    purpose: Purpose,
    agent: Option<&str>,
) -> Result<KeyInfo, HsmFault> {
    let made = shared.access.once(place, |session, login| login.keyring.generate(session, party, purpose, agent));
    made.map_err(|(epoch, fault)| match fault {
        GenerationFault::Refused(name, message) => HsmFault::Refused { name: name.into(), message },
        GenerationFault::Unverified => {
            unavailable("key_unusable", "the new key did not pass its check and is not used", false)
        }
        GenerationFault::Module(error) => {
            shared.access.discard(place);
            // What failed once is not tried again by itself, but the next call finds a module that works.
            if !others_sign(shared, place, crate::kernel::types::Sha256([0; 32])) {
                let mended = shared.access.recover(epoch);
                if let Err(failure) = mended {
                    return shared.doom(failure, true);
                }
            }
            unavailable("generation_failed", &format!("the module made no key: {error}"), true)
        }
    })
}

impl Shared {
    fn hands(&self) -> u32 {
        u32::try_from(self.desk.hands()).unwrap_or(u32::MAX)
    }

    /// A question to the keys of the token, after one recovery if it must be.
    fn read_only<T>(
        &self,
        place: usize,
        work: impl Fn(&cryptoki::session::Session, &Login) -> Result<T, Error>,
    ) -> Result<T, HsmFault> {
        let (epoch, _) = match self.access.attempt(place, &work) {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        self.access.recover(epoch).map_err(|failure| self.doom(failure, false))?;
        self.access.attempt(place, &work).map_err(|(_, error)| self.doom(module_failed(&error), false))
    }

    /// A question to the module and the slot, after one recovery if it must be.
    fn asked<T>(&self, place: usize, work: impl Fn(&Login) -> Result<T, Failure>) -> Result<T, HsmFault> {
        let ask = || self.access.once(place, |_, login| work(login).map_err(Asked));
        let (epoch, _) = match ask() {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        self.access.recover(epoch).map_err(|failure| self.doom(failure, false))?;
        ask().map_err(|(_, Asked(failure))| self.doom(failure, false))
    }

    /// The module is beyond repair in this process: it answers what it has, ends, and another worker starts.
    fn doom(&self, failure: Failure, maybe_signed: bool) -> HsmFault {
        let fault = unavailable(&failure.name, &failure.message, maybe_signed);
        locked(&self.doomed).get_or_insert(failure);
        // Reading ends; replies can still be sent.
        let _ = self.service.shutdown(Shutdown::Read);
        fault
    }

    /// Sends a reply, or keeps it for a moment when others follow at once.
    fn reply(&self, response: Response) {
        let mut outgoing = locked(&self.outgoing);
        outgoing.replies.push(response);
        let since = *outgoing.since.get_or_insert_with(Instant::now);
        let may_wait = outgoing.replies.len() < HELD_BACK_MAX && since.elapsed() < HELD_BACK_LIMIT;
        if may_wait && self.desk.has_more() {
            return;
        }
        self.write(outgoing);
    }

    /// Sends what was kept.
    fn flush(&self) {
        self.write(locked(&self.outgoing));
    }

    fn write<'a>(&'a self, mut outgoing: MutexGuard<'a, Outgoing>) {
        if outgoing.writing {
            return;
        }
        while !outgoing.replies.is_empty() {
            let replies = std::mem::take(&mut outgoing.replies);
            outgoing.since = None;
            outgoing.writing = true;
            drop(outgoing);
            let frame = FromWorker::Replies { hands: self.hands(), replies };
            let written = wire::write_frame(&mut &self.service, &frame);
            outgoing = locked(&self.outgoing);
            outgoing.writing = false;
            if let Err(error) = written {
                tracing::warn!(%error, "replies could not be sent");
                let _ = self.service.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

/// A failure of a question, in the place of a module's own error.
struct Asked(Failure);

impl From<Error> for Asked {
    fn from(error: Error) -> Self {
        Self(module_failed(&error))
    }
}

fn unavailable(name: &str, message: &str, maybe_signed: bool) -> HsmFault {
    HsmFault::Unavailable { name: name.into(), message: message.into(), maybe_signed }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
