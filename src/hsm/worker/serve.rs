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
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cryptoki::error::{Error, RvError};
use cryptoki::session::Session;
use rustix::time::{ClockId, clock_gettime};

use super::desk::{Desk, Turn};
use super::keyring::{Keyring, LoadedKey, Presence};
use super::keys::{self, CustodyRule, KeyFault};
use super::login::{Access, Login};
use super::sealing;
use super::signing::{self, Check, Sampler, SigningFault};
use super::superior::Superior;
use super::token::{may_have_signed, module_failed};
use crate::hsm::messages::{WorkerOrders, WorkerReport};
use crate::hsm::settings::ExtraAttribute;
use crate::hsm::wire::{self, FromWorker, Hello, Request, Response, ToWorker};
use crate::hsm::{HsmFault, KEY_FAILED, KeyInfo, Op, Plaintext, Reply, lint, mechanism_names_of, signature_unverified};
use crate::kernel::sign::{Purpose, SignInput};
use crate::kernel::types::KeyId;
use crate::ops::clock;
use crate::ops::failure::Failure;

/// Replies that wait for each other at most, and for how long, while more calls are at hand.
const HELD_BACK_MAX: usize = 8;
const HELD_BACK_LIMIT: Duration = Duration::from_micros(250);
/// Replies that may wait to be written before the worker stops to read.
const REPLIES_MAX: usize = 4_096;

struct Shared {
    access: Access,
    desk: Desk,
    /// Held by the thread whose turn it is to read.
    incoming: Mutex<BufReader<UnixStream>>,
    outgoing: Mutex<Outgoing>,
    written: Condvar,
    service: UnixStream,
    sampler: Sampler,
    rule: CustodyRule,
    /// What new objects get besides our own attributes.
    attributes: Vec<ExtraAttribute>,
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
        written: Condvar::new(),
        service,
        sampler: Sampler::default(),
        rule: if orders.accept_unstated_local { CustodyRule::LocalUnstated } else { CustodyRule::Sound },
        attributes: orders.attributes.clone(),
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
                if !shared.access.sit(place) {
                    shared.desk.give_back(deadline, request);
                    continue;
                }
                let (response, took) = answered(shared, place, deadline, request);
                shared.access.rise(place);
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
    shared.wait_for_room();
    let frame = wire::read_frame(&mut *locked(&shared.incoming));
    let ToWorker::Batch(batch) = match frame {
        Ok(Some(frame)) => frame,
        outcome => {
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::warn!(%error, "the front's frames are not ours");
                    locked(&shared.doomed).get_or_insert_with(|| malformed_frames(&error));
                }
                // A front that ends with answers unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    tracing::debug!(%error, "the front is gone");
                }
                Err(error) => tracing::warn!(%error, "the front's frames ended"),
                Ok(_) => {}
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
        Op::ListKeys => shared.read_only(place, || listed(shared, place)).map(Reply::Keys),
        Op::Generate(order) => {
            let made = shared.access.once(place, |session, login| {
                keys::generate(&login.keyring, &login.token, session, &order, &shared.attributes)
            });
            changed(shared, place, made)
        }
        Op::Sign { key, input } => sign(shared, place, key, &input).map(Reply::Signature),
        Op::Seal { key, context, plaintext } => seal(shared, place, key, &context, &plaintext).map(Reply::Sealed),
        Op::Unseal { key, context, sealed } => unseal(shared, place, key, &context, &sealed).map(Reply::Opened),
        Op::Retire { key } => {
            let retired = shared.access.alone(place, |session, login| keys::retire(&login.keyring, session, key));
            changed(shared, place, retired)
        }
        Op::Destroy { key } => {
            let destroyed = shared.access.alone(place, |session, login| keys::destroy(&login.keyring, session, key));
            changed(shared, place, destroyed)
        }
    }
}

fn sign(shared: &Shared, place: usize, id: KeyId, input: &SignInput) -> Result<Vec<u8>, HsmFault> {
    let key = key(shared, place, id)?;
    lint::lint(&key.info, input, clock::now())?;
    lint_subject_key(shared, place, &key, input)?;
    keys::ensure_active(&key.info, shared.rule)?;
    let check = shared.sampler.check(input);
    let signed =
        with_key(shared, place, &key, |session, key, _| signing::sign(session, &key.info, key.private, input, check))?;
    signed.ok_or_else(|| {
        shared.sampler.distrust();
        signature_unverified(&key.info.label)
    })
}

/// Whose key is certified. One that another worker made is looked for in the token; an agent's is not in it, and
/// enrolment does not pay for a look-up that finds nothing.
fn lint_subject_key(shared: &Shared, place: usize, signer: &LoadedKey, input: &SignInput) -> Result<(), HsmFault> {
    let mut fault = None;
    lint::lint_subject_key(signer.info.purpose, input, |id, profile| {
        let found = if profile.is_agent() {
            shared.access.current().keyring.find(id)
        } else {
            match key(shared, place, id) {
                Ok(found) => Some(found),
                Err(HsmFault::Refused { .. }) => None,
                Err(other) => {
                    fault = Some(other);
                    None
                }
            }
        };
        found.map(|found| found.info.purpose)
    })
    .map_err(|refused| fault.take().unwrap_or(refused))
}

/// The key, remembered or found in the token.
fn key(shared: &Shared, place: usize, id: KeyId) -> Result<Arc<LoadedKey>, HsmFault> {
    if let Some(key) = shared.access.current().keyring.find(id) {
        return Ok(key);
    }
    let presence = shared.read_only(place, || presence(shared, place, id))?;
    Ok(keys::present(id, presence)?)
}

/// What became of a key. One that is not seen is looked for while no other thread is in the module.
fn presence(shared: &Shared, place: usize, id: KeyId) -> Result<Presence, (u64, Error)> {
    if let Some(info) = shared.access.current().keyring.gone(id) {
        return Ok(Presence::Destroyed(info));
    }
    match shared.access.attempt(place, |session, login| login.keyring.reload_key(session, id))? {
        seen @ Presence::Here(_) => Ok(seen),
        Presence::Destroyed(_) | Presence::Unknown => {
            shared.access.alone(place, |session, login| login.keyring.presence(session, id))
        }
    }
}

/// Every key. One that is listed as destroyed is looked for again while no other thread is in the module.
fn listed(shared: &Shared, place: usize) -> Result<Vec<KeyInfo>, (u64, Error)> {
    let keys = shared.access.attempt(place, |session, login| login.keyring.list(session))?;
    if shared.access.current().keyring.are_sure(&keys) {
        return Ok(keys);
    }
    shared.access.alone(place, |session, login| login.keyring.list_surely(session))
}

fn seal(shared: &Shared, place: usize, id: KeyId, context: &[u8], plaintext: &Plaintext) -> Result<Vec<u8>, HsmFault> {
    let key = wrapping_key(shared, place, id)?;
    keys::ensure_active(&key.info, shared.rule)?;
    let sealed = with_key(shared, place, &key, |session, key, keyring| {
        sealing::seal(session, key, keyring.identity().as_deref(), context, plaintext)
    });
    match sealed {
        Ok(sealed) => sealed
            .ok_or_else(|| unavailable(KEY_FAILED, &format!("{} does not seal as it should", key.info.label), false)),
        Err(fault) => Err(lacking(shared, place, &key.info).unwrap_or(fault)),
    }
}

/// The refusal of a key whose mechanism the module has not, or no longer.
fn lacking(shared: &Shared, place: usize, key: &KeyInfo) -> Option<HsmFault> {
    let there = shared.asked(place, |login| login.token.describe()).ok()?.mechanisms;
    let [_, used] = mechanism_names_of(key.purpose, key.algorithm);
    (!there.iter().any(|name| name == used)).then(|| HsmFault::Refused {
        name: "mechanism_missing".into(),
        message: format!("{} works with {used}, which the module does not have", key.label),
    })
}

fn unseal(shared: &Shared, place: usize, id: KeyId, context: &[u8], sealed: &[u8]) -> Result<Plaintext, HsmFault> {
    let key = wrapping_key(shared, place, id)?;
    let not_sealed_here = || {
        let message = format!("the text was not sealed under {} with this context", key.info.label);
        HsmFault::Refused { name: "not_sealed_here".into(), message }
    };
    match with_key(shared, place, &key, |session, key, keyring| {
        sealing::unseal(session, key, keyring.identity().as_deref(), context, sealed)
    }) {
        Ok(opened) => opened.ok_or_else(not_sealed_here),
        // Modules have no common code for a tag that does not fit; every other key works.
        Err(fault) if fault.name() == KEY_FAILED => {
            Err(lacking(shared, place, &key.info).unwrap_or_else(not_sealed_here))
        }
        Err(fault) => Err(fault),
    }
}

fn wrapping_key(shared: &Shared, place: usize, id: KeyId) -> Result<Arc<LoadedKey>, HsmFault> {
    let key = key(shared, place, id)?;
    if key.info.purpose.seals() {
        return Ok(key);
    }
    let message = format!("a key of purpose {} seals and opens nothing", key.info.purpose.slug());
    Err(HsmFault::Refused { name: "wrong_purpose".into(), message })
}

/// Work with one key that may be repeated. `None`: the module did it, and the outcome is not sound.
///
/// What fails twice, the second time on a fresh session, may be wrong with this key (another worker retired or
/// destroyed it), with what it was given, or with the module: the key itself tells, then the identity key does.
fn with_key<T>(
    shared: &Shared,
    place: usize,
    key: &LoadedKey,
    work: impl Fn(&Session, &LoadedKey, &Keyring) -> Result<T, SigningFault>,
) -> Result<Option<T>, HsmFault> {
    let id = key.info.id;
    let mut recovered = false;
    loop {
        let outcome = shared.access.attempt(place, |session, login| {
            // The handle of the login that the session is of.
            let Some(known) = login.keyring.find(id) else {
                return Ok(None);
            };
            match work(session, &known, &login.keyring) {
                Ok(done) => Ok(Some(Some(done))),
                Err(SigningFault::Unverified) => Ok(Some(None)),
                Err(SigningFault::Module(error)) => Err(error),
            }
        });
        let (epoch, error) = match outcome {
            Ok(Some(done)) => return Ok(done),
            // A login that was made meanwhile, or another thread's look, has not seen it: the token is asked again.
            Ok(None) => {
                self::key(shared, place, id)?;
                continue;
            }
            Err(failed) => failed,
        };
        tracing::debug!(%error, epoch, label = key.info.label, "a key did not work");
        let maybe_signed = may_have_signed(&error);
        if let Ok(presence) = presence(shared, place, id)
            && let Some(refusal) = keys::why_not(id, presence, shared.rule)
        {
            return Err(refusal);
        }
        if key.info.purpose != Purpose::TokenIdentity && identity_signs(shared, place) {
            // All sessions were others' for a moment: what just signed has one.
            if matches!(error, Error::Pkcs11(RvError::SessionCount, _)) {
                continue;
            }
            // The key was looked up anew just now: its handle may have been the trouble.
            if !std::mem::replace(&mut recovered, true) {
                continue;
            }
            let message = format!("key {} does not work any more: {error}", key.info.label);
            return Err(unavailable(KEY_FAILED, &message, maybe_signed));
        }
        if std::mem::replace(&mut recovered, true) {
            return Err(shared.doom(module_failed(&error), maybe_signed));
        }
        shared.access.recover(place, epoch).map_err(|failure| shared.doom(failure, maybe_signed))?;
    }
}

/// True when the module works with the identity key.
fn identity_signs(shared: &Shared, place: usize) -> bool {
    let nonce = SignInput::SelfTest { nonce: clock::random() };
    let probe = shared.access.attempt(place, |session, login| {
        let Some(identity) = login.keyring.identity() else {
            return Ok(false);
        };
        match signing::sign(session, &identity.info, identity.private, &nonce, Check::Verify) {
            Ok(_) => Ok(true),
            Err(SigningFault::Unverified) => Ok(false),
            Err(SigningFault::Module(error)) => Err(error),
        }
    });
    probe.unwrap_or(false)
}

/// A key was made or changed, or not. What failed is not tried again by itself, but the next call finds a module that works.
fn changed(shared: &Shared, place: usize, outcome: Result<KeyInfo, (u64, KeyFault)>) -> Result<Reply, HsmFault> {
    let (epoch, fault) = match outcome {
        Ok(key) => return Ok(Reply::Key(key)),
        Err(failed) => failed,
    };
    match &fault {
        KeyFault::Refused(..) => {}
        KeyFault::Unverified | KeyFault::Module(_) => {
            // It may be in the middle of an operation.
            shared.access.discard(place);
            if !identity_signs(shared, place)
                && let Err(failure) = shared.access.recover(place, epoch)
            {
                return Err(shared.doom(failure, false));
            }
        }
    }
    Err(fault.into())
}

impl Shared {
    fn hands(&self) -> u32 {
        u32::try_from(self.desk.hands()).unwrap_or(u32::MAX)
    }

    /// A question to the keys of the token, after one recovery if it must be.
    fn read_only<T>(&self, place: usize, work: impl Fn() -> Result<T, (u64, Error)>) -> Result<T, HsmFault> {
        let (epoch, _) = match work() {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        self.access.recover(place, epoch).map_err(|failure| self.doom(failure, false))?;
        work().map_err(|(_, error)| self.doom(module_failed(&error), false))
    }

    /// A question to the module and the slot, after one recovery if it must be.
    fn asked<T>(&self, place: usize, work: impl Fn(&Login) -> Result<T, Failure>) -> Result<T, HsmFault> {
        let ask = || self.access.once(place, |_, login| work(login).map_err(Asked));
        let (epoch, _) = match ask() {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        self.access.recover(place, epoch).map_err(|failure| self.doom(failure, false))?;
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

    /// Reads no more while a front that asks does not take its answers.
    fn wait_for_room(&self) {
        let full = |outgoing: &mut Outgoing| outgoing.replies.len() >= REPLIES_MAX && outgoing.writing;
        let _room = self.written.wait_while(locked(&self.outgoing), full).unwrap_or_else(PoisonError::into_inner);
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
            self.written.notify_all();
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

fn malformed_frames(error: &io::Error) -> Failure {
    Failure::fault(
        "front_frames_malformed",
        format!("the front sent a worker something that is no frame of ours: {error}"),
        "front and workers must be one version: start the daemon again; if it goes on, distrust the front",
    )
}

fn unavailable(name: &str, message: &str, maybe_signed: bool) -> HsmFault {
    HsmFault::Unavailable { name: name.into(), message: message.into(), maybe_signed }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
