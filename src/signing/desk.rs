//! The story of one request: who asks, whether it may be signed, the order in the log, the signatures, the answer.

mod keys;
mod outcome;
mod record;
mod repeat;
mod signatures;
mod tend;
mod verify;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use governor::clock::DefaultClock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::Callers;
use super::api::Asked;
use super::compose::{self, Site};
use super::journal::Journal;
use super::refusal::SigningRefusal;
use super::settings::{SigningKeySettings, SigningSettings};
use crate::hsm::{KeyInfo, Token};
use crate::kernel::command::ProgramPrincipal;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::Sha256;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::Store;
use outcome::Outcome;

/// Calls of all programs that wait for the HSM at once: the rest of the daemon needs it, too.
const WAITING_MAX: usize = 32;
/// Threads that verify for programs at once.
const VERIFYING_MAX: usize = 2;

/// What the desk is made of.
pub struct DeskSetup {
    pub settings: SigningSettings,
    pub callers: Callers,
    pub store: Arc<dyn Store>,
    pub token: Arc<dyn Token>,
    /// Called after each leaf.
    pub recorded: Box<dyn Fn() + Send + Sync>,
    /// Whether there is an HSM to ask now.
    pub hsm_is_up: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether nobody else forgets this store's old keys.
    pub forgets: bool,
}

type Limiter = RateLimiter<u32, HashMapStateStore<u32>, DefaultClock, NoOpMiddleware>;

/// The signing service of one daemon.
pub struct Desk {
    setup: DeskSetup,
    /// Every version of every key. The lock guards the list only.
    keys: RwLock<Vec<KeyInfo>>,
    /// One permit for each call that may wait for the HSM.
    waiting: Arc<Semaphore>,
    /// One permit for each thread that verifies.
    verifying: Semaphore,
    /// When the token was last asked for them.
    looked: Mutex<Option<Instant>>,
    limits: BTreeMap<String, Limiter>,
    /// How often a caller's refusals are recorded.
    recordable: Limiter,
    /// Refusals that were not recorded, by name, since they were last written down. The lock guards the map only.
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// What came of orders, since it was last written down. The lock guards the list only.
    outcomes: Mutex<Vec<Outcome>>,
    /// What was begun is ended, whether or not somebody still waits for it.
    begun: TaskTracker,
}

/// What a program is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub body: Vec<u8>,
    /// It is the answer to an earlier request with the same idempotency key.
    pub repeated: bool,
    /// SHA-256 of the signatures in it, as they travel (r ‖ s, or 64 bytes of Ed25519), one after the other.
    pub signatures: Sha256,
}

impl Desk {
    pub fn new(setup: DeskSetup) -> Arc<Self> {
        let limiter = |per_second, burst| RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst));
        let of_key = |key: &SigningKeySettings| (key.name.to_string(), limiter(key.per_second, key.burst));
        let limits = setup.settings.key.iter().map(of_key).collect();
        let recorded = setup.settings.limits.refusals_recorded_per_second;
        let recordable = limiter(recorded, recorded.saturating_mul(NonZeroU32::new(4).expect("four is not zero")));
        let looked = Mutex::default();
        let (keys, counts, outcomes) = (RwLock::default(), Mutex::default(), Mutex::default());
        let (waiting, verifying) = (Arc::new(Semaphore::new(WAITING_MAX)), Semaphore::new(VERIFYING_MAX));
        let begun = TaskTracker::new();
        Arc::new(Self { setup, keys, waiting, verifying, looked, limits, recordable, counts, outcomes, begun })
    }

    pub fn settings(&self) -> &SigningSettings {
        &self.setup.settings
    }

    /// Who is at the other end of a connection.
    pub fn principal(&self, uid: u32, gid: u32) -> ProgramPrincipal {
        self.setup.callers.principal(uid, gid)
    }

    /// Whether any key signs for this program.
    pub fn knows(&self, program: &ProgramPrincipal) -> bool {
        self.setup.callers.knows(program)
    }

    /// Counts what was refused before anybody decided.
    pub fn count(&self, name: &'static str) {
        *self.counts().entry(name).or_default() += 1;
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses whom no key signs for.
    ///
    /// # Errors
    /// `caller_unknown`
    pub fn admit(&self, program: &ProgramPrincipal) -> Result<(), Failure> {
        if self.setup.callers.knows(program) {
            return Ok(());
        }
        self.count(SigningRefusal::CallerUnknown.name());
        Err(SigningRefusal::CallerUnknown.failure())
    }

    /// Signs, or answers what was signed for the same idempotency key. It goes on to its end when nobody waits any more.
    ///
    /// # Errors
    /// [`SigningRefusal`] by name, `idempotency_mismatch`; the store's, the token's.
    pub async fn sign(self: &Arc<Self>, program: &ProgramPrincipal, asked: Asked) -> Result<Answer, Failure> {
        let (desk, program) = (Arc::clone(self), program.clone());
        let signed = self.begun.spawn(async move {
            let request_id = clock::fresh_request_id();
            let answered = desk.decide(&program, &asked, request_id.as_str()).await;
            answered.map_err(|failure| failure.with_request(request_id.as_str()))
        });
        signed.await.unwrap_or_else(|_| Err(defect()))
    }

    async fn decide(&self, program: &ProgramPrincipal, asked: &Asked, request_id: &str) -> Result<Answer, Failure> {
        let limits = &self.setup.settings.limits;
        compose::fits(asked, limits).map_err(|refusal| self.counted(refusal))?;
        let kind = compose::kind_of(asked).map_err(|refusal| self.counted(refusal))?;
        let settings = self.setup.settings.key.iter().find(|key| key.name.as_str() == asked.key());
        let permitted = settings.filter(|key| self.setup.callers.permits(key.name.as_str(), program));
        let Some(settings) = permitted else {
            return Err(self.refused(program, asked, kind, &SigningRefusal::KeyNotPermitted.into()).await);
        };
        if !settings.kinds.contains(&kind) {
            return Err(self.refused(program, asked, kind, &SigningRefusal::KindNotPermitted.into()).await);
        }
        self.admit_rate(program, asked)?;
        let key = match self.active(asked.key()).await? {
            Some(key) => key,
            // None signs any more; what was asked before is answered all the same.
            None => {
                self.key_of_before(program, asked).await?.ok_or_else(|| self.counted(SigningRefusal::KeyMissing))?
            }
        };
        let at = clock::now();
        let site = Site { request_id, at, key: &key, settings };
        let journal = match compose::compose(asked, &site) {
            Ok(journal) => Arc::new(journal),
            Err(refusal) => return Err(self.refused(program, asked, kind, &refusal).await),
        };
        let order = record::order(program, asked, kind, &journal).map_err(|refusal| self.counted(refusal))?;
        if !(self.setup.hsm_is_up)() {
            return self.without_hsm(program, asked, settings, order, request_id).await;
        }
        let ordered = self.ordered(program, order, request_id).await?;
        let answered = match ordered {
            None => self.answered(&journal, &key).await,
            Some((row, false)) => self.release(row, journal, key, false).await,
            Some((row, true)) => self.repeat(row, asked, settings).await,
        };
        self.came_of(request_id, &answered);
        answered
    }

    /// Signs what nobody can ask for again.
    async fn answered(&self, journal: &Arc<Journal>, key: &KeyInfo) -> Result<Answer, Failure> {
        let signatures = self.signatures(journal, key).await?;
        journal.answer(&signatures, false)
    }

    fn admit_rate(&self, program: &ProgramPrincipal, asked: &Asked) -> Result<(), Failure> {
        let signatures = u32::try_from(asked.signatures()).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        let taken = self.limits.get(asked.key()).map(|limiter| limiter.check_key_n(&program.uid, signatures));
        match taken {
            Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(_))) | None => Err(self.counted(SigningRefusal::RateExceeded)),
            // More than `burst` at once: no pause would be long enough.
            Some(Err(_)) => Err(self.counted(SigningRefusal::TooManyItems)),
        }
    }

    fn counted(&self, refusal: SigningRefusal) -> Failure {
        self.count(refusal.name());
        refusal.failure()
    }
}

fn refusal_of(refusal: Refusal) -> Failure {
    Failure::refused(refusal.name(), refusal.message(), refusal.next_step())
}

fn defect() -> Failure {
    Failure::unknown("internal_defect", "the daemon met a defect of its own", "see its log and report it")
}
