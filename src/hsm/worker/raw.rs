//! The module's own speed: sessions that sign one digest, or open one sealed text, after the other with nothing in between.
//!
//! What `countersign bench hsm` and `bench vault` compare us with, in a process like ours and through the same binding. It
//! signs the hash of a self-test message, which proves nothing to anybody else, and opens random bytes that it sealed.

use std::time::{Duration, Instant};

use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;
use secrecy::SecretString;

use super::orphan;
use super::token::{self, OpenToken, module_failed};
use crate::hsm::channel::Channel;
use crate::hsm::measure::percentile_us;
use crate::hsm::messages::{self, RawOrder, RawSpeed, WorkerOrders, WorkerReport};
use crate::kernel::sign::{Algorithm, SignInput, spki_der};
use crate::kernel::types::{KeyId, Sha256};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// DER OBJECT IDENTIFIER of prime256v1 (RFC 5480), as CKA_EC_PARAMS.
const CURVE_P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// Longest measurement and most threads that are carried out.
const MILLIS_MAX: u64 = 60_000;
const THREADS_MAX: u32 = 256;
/// Signatures before the clock starts: the first of a session loads the key.
const WARM_UP: u32 = 20;
/// Of a text that nobody keeps, under a token's key of a measurement.
const NONCE: [u8; 12] = *b"raw measured";
const CONTEXT: &[u8] = &[7; 160];
const TAG_BITS: Ulong = Ulong::new(128);

/// Logs in with the PIN that the other end hands over, then carries out its orders until it goes away.
///
/// # Errors
/// What kept it from opening, `pin_refused`, `key_missing`, `module_failed`.
pub fn measure(orders: &WorkerOrders, key: KeyId, channel: &Channel) -> Result<(), Failure> {
    let token = token::open(orders)?;
    let outcome = log_in(&token, channel).and_then(|session| obey(&token, &session, key, channel));
    token.finalize();
    outcome
}

fn log_in(token: &OpenToken, channel: &Channel) -> Result<Session, Failure> {
    report(channel, &WorkerReport::LoginWanted)?;
    let packet = channel.receive().ok().flatten().ok_or_else(orphan)?;
    let pin = std::str::from_utf8(&packet.bytes).map_err(|_| orphan())?;
    let session = token.log_in(&SecretString::from(pin.to_owned()))?;
    report(channel, &WorkerReport::LoggedIn)?;
    Ok(session)
}

fn obey(token: &OpenToken, session: &Session, key: KeyId, channel: &Channel) -> Result<(), Failure> {
    let of = |class: ObjectClass| -> Result<Option<ObjectHandle>, Failure> {
        let wanted = [Attribute::Class(class), Attribute::Token(true), Attribute::Id(key.0.to_vec())];
        let found = session.find_objects(&wanted).map_err(|error| module_failed(&error))?;
        Ok(found.first().copied())
    };
    let work = match (of(ObjectClass::PRIVATE_KEY)?, of(ObjectClass::SECRET_KEY)?) {
        (Some(private), _) => Work::Sign { private, digest: digest() },
        (None, Some(secret)) => {
            Work::Open { secret, sealed: seal(session, secret).map_err(|error| module_failed(&error))? }
        }
        (None, None) => {
            let message = format!("the token has no private or secret key {key}");
            return Err(Failure::fault("key_missing", message, "measure a token that has it"));
        }
    };
    while let Ok(Some(packet)) = channel.receive() {
        let (order, _) = messages::parse(packet).map_err(|_| orphan())?;
        match order {
            RawOrder::Sign { threads, millis } => {
                let limit = Duration::from_millis(millis.min(MILLIS_MAX));
                let speed = work_for(token, &work, threads.clamp(1, THREADS_MAX), limit);
                report(channel, &WorkerReport::Measured(speed.map_err(|error| module_failed(&error))?))?;
            }
            RawOrder::Fill { keys, first_version } => {
                for version in (first_version..).take(usize::try_from(keys).unwrap_or(0)) {
                    make_pair(session, version).map_err(|error| module_failed(&error))?;
                }
                report(channel, &WorkerReport::Filled)?;
            }
        }
    }
    Ok(())
}

/// One call of the module, made again and again.
enum Work {
    Sign { private: ObjectHandle, digest: Sha256 },
    Open { secret: ObjectHandle, sealed: Vec<u8> },
}

impl Work {
    fn once(&self, session: &Session) -> Result<Vec<u8>, Error> {
        match self {
            Self::Sign { private, digest } => session.sign(&Mechanism::Ecdsa, *private, &digest.0),
            Self::Open { secret, sealed } => {
                let mut nonce = NONCE;
                session.decrypt(&Mechanism::AesGcm(GcmParams::new(&mut nonce, CONTEXT, TAG_BITS)?), *secret, sealed)
            }
        }
    }
}

fn digest() -> Sha256 {
    Sha256::of(&[&SignInput::SelfTest { nonce: clock::random() }.message()])
}

/// Random bytes as long as most credentials are.
fn seal(session: &Session, secret: ObjectHandle) -> Result<Vec<u8>, Error> {
    let mut nonce = NONCE;
    let mechanism = Mechanism::AesGcm(GcmParams::new(&mut nonce, CONTEXT, TAG_BITS)?);
    session.encrypt(&mechanism, secret, &clock::random::<32>())
}

/// Works on `threads` sessions at once until the time is over.
fn work_for(token: &OpenToken, work: &Work, threads: u32, limit: Duration) -> Result<RawSpeed, Error> {
    let sign = |session: &Session| work.once(session);
    let mut sessions = Vec::new();
    for _ in 0..threads {
        let session = token.open_session()?;
        for _ in 0..WARM_UP {
            sign(&session)?;
        }
        sessions.push(session);
    }
    let began = Instant::now();
    let work = |session: Session| {
        let mut times_ns: Vec<u64> = Vec::new();
        let mut before = Instant::now();
        while before.duration_since(began) < limit {
            sign(&session)?;
            let after = Instant::now();
            times_ns.push(u64::try_from((after - before).as_nanos()).unwrap_or(u64::MAX));
            before = after;
        }
        Ok::<_, Error>(times_ns)
    };
    let work = &work;
    let mut times_ns = std::thread::scope(|scope| {
        let threads: Vec<_> = sessions.into_iter().map(|session| scope.spawn(move || work(session))).collect();
        let mut all = Vec::new();
        for thread in threads {
            // A panic here is a defect and ends the worker.
            all.extend(thread.join().expect("signing threads do not panic")?);
        }
        Ok::<_, Error>(all)
    })?;
    let seconds = began.elapsed().as_secs_f64();
    times_ns.sort_unstable();
    Ok(RawSpeed {
        signatures: times_ns.len() as u64,
        seconds,
        p50_us: percentile_us(&times_ns, 50),
        p99_us: percentile_us(&times_ns, 99),
    })
}

/// A pair like the product's own, without the search for its version.
fn make_pair(session: &Session, version: u32) -> Result<(), Error> {
    let label = format!("bench-agent.filler-v{version}").into_bytes();
    let public = [
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Verify(true),
        Attribute::Label(label.clone()),
        Attribute::EcParams(CURVE_P256.to_vec()),
    ];
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Label(label),
    ];
    let (public, private) = session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?;
    let attributes = session.get_attributes(public, &[AttributeType::EcPoint])?;
    let point = attributes.iter().find_map(|attribute| match attribute {
        Attribute::EcPoint(point) => Some(point.strip_prefix(&[0x04, 65]).unwrap_or(point)),
        _ => None,
    });
    let id = Sha256::of(&[&spki_der(Algorithm::P256, point.unwrap_or_default())]).0.to_vec();
    for object in [public, private] {
        session.update_attributes(object, &[Attribute::Id(id.clone())])?;
    }
    Ok(())
}

fn report(channel: &Channel, report: &WorkerReport) -> Result<(), Failure> {
    messages::send(channel, report, None).map_err(|_| orphan())
}
