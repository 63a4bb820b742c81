//! The device as ordered: present or not, with so many sessions, so fast, and with what goes wrong next.
//!
//! Lost sessions and logouts are real: the shim closes sessions and logs out on the real module, so that handles
//! behave as they do there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use cryptoki_sys::*;

use super::control::Control;
use super::counters::{FREE_AT, PROCESSES, SESSIONS, place_of};
use super::orders::{Action, Fault, Moment, Orders, Presence};
use super::stop;

/// A stalled call looks this often whether its order still stands.
const STALL_LOOK: Duration = Duration::from_millis(2);

pub struct Device {
    pub control: Control,
    pub real: &'static CK_FUNCTION_LIST,
    /// Read: a call is in the real module. Write: the shim closes sessions under all of them.
    gate: RwLock<()>,
    /// Bookkeeping; never held during a call into the real module that may block.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lost: u64,
    logged_out: u64,
    /// What signing answers until the next login.
    logged_out_code: Option<CK_RV>,
    /// The token was gone: only C_Initialize makes this process see it again.
    stale: bool,
    removed: bool,
    sessions: BTreeMap<CK_SESSION_HANDLE, CK_SLOT_ID>,
    /// The key of each session's current operation.
    signing: BTreeMap<CK_SESSION_HANDLE, CK_OBJECT_HANDLE>,
    ids: BTreeMap<CK_OBJECT_HANDLE, Vec<u8>>,
    /// Sessions whose search is to find nothing.
    blind: BTreeSet<CK_SESSION_HANDLE>,
}

/// How a call ended before it reached the real module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// The device's state answers.
    State(CK_RV),
    /// A fault answers.
    Fault(CK_RV),
}

impl Stopped {
    pub fn code(self) -> CK_RV {
        match self {
            Self::State(code) | Self::Fault(code) => code,
        }
    }
}

impl Device {
    pub fn open(directory: PathBuf) -> Result<Self, String> {
        let control = Control::open(directory)?;
        let orders = control.orders();
        let module = orders.module.as_deref().ok_or("the orders name no module")?;
        // SAFETY: loading a module runs its initialisers; that is what a PKCS#11 module is for.
        let library = unsafe { libloading::Library::new(module) }.map_err(|error| error.to_string())?;
        // Never unloaded: function pointers of it are kept.
        let library = Box::leak(Box::new(library));
        // SAFETY: every PKCS#11 module exports this function with this type (v2.40, 5.2).
        let entry: libloading::Symbol<'_, unsafe extern "C" fn(CK_FUNCTION_LIST_PTR_PTR) -> CK_RV> =
            unsafe { library.get(b"C_GetFunctionList\0") }.map_err(|error| error.to_string())?;
        let mut list: CK_FUNCTION_LIST_PTR = std::ptr::null_mut();
        // SAFETY: a place for one pointer.
        let code = unsafe { entry(&raw mut list) };
        if code != CKR_OK || list.is_null() {
            return Err(format!("C_GetFunctionList of {module} answers {code:#x}"));
        }
        // SAFETY: the module's own table, which lives as long as the module: for ever.
        let real = unsafe { &*list };
        let state = State { lost: orders.lose_sessions, logged_out: orders.log_out, ..State::default() };
        Ok(Self { control, real, gate: RwLock::new(()), state: Mutex::new(state) })
    }

    /// What comes before the real call: counting, ordered faults, the device's state.
    pub fn before(&self, orders: &Orders, function: &'static str) -> Result<(), Stopped> {
        let place = place_of(function).unwrap_or_else(|| stop(&format!("{function} is not counted")));
        self.control.count(place);
        if let Some(code) = self.act(orders, place, Moment::Before) {
            return Err(Stopped::Fault(code));
        }
        self.settle(orders, function).map_or(Ok(()), |code| Err(Stopped::State(code)))
    }

    /// What comes after the real call: `Some` replaces its answer.
    pub fn after(&self, orders: &Orders, function: &'static str) -> Option<CK_RV> {
        self.act(orders, place_of(function)?, Moment::After)
    }

    /// True when a bit of this signature is to be wrong.
    pub fn flips(&self, orders: &Orders) -> bool {
        orders.faults.iter().any(|fault| fault.action == Action::Flip && self.control.strikes(fault))
    }

    fn act(&self, orders: &Orders, function: usize, moment: Moment) -> Option<CK_RV> {
        let fits = |fault: &&Fault| fault.function == function && fault.moment == moment;
        for fault in orders.faults.iter().filter(fits).filter(|fault| fault.action != Action::Flip) {
            if !self.control.strikes(fault) {
                continue;
            }
            match fault.action {
                Action::Fail(code) => return Some(code),
                Action::Hang => loop {
                    std::thread::park();
                },
                Action::Stall => {
                    while self.control.orders().faults.contains(fault) {
                        std::thread::sleep(STALL_LOOK);
                    }
                }
                Action::Abort => std::process::abort(),
                Action::Segfault => {
                    // SAFETY: none: the crash is the order. No page is mapped there.
                    unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(0) }
                }
                Action::Sleep(time) => std::thread::sleep(Duration::from_micros(time)),
                Action::Flip => {}
            }
        }
        None
    }

    /// Brings the process to the ordered state, then says whether that state answers for the module.
    fn settle(&self, orders: &Orders, function: &str) -> Option<CK_RV> {
        let mut state = self.state();
        let lose = orders.lose_sessions > state.lost || (orders.presence == Presence::Removed && !state.removed);
        let log_out = orders.log_out > state.logged_out;
        if lose || log_out {
            drop(state);
            // Waits for the calls under way: a real module crashes when its sessions go under them.
            let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            state = self.state();
            if lose {
                self.close_all(&mut state);
            } else if let Some(session) = state.sessions.keys().next() {
                // SAFETY: an open session of the real module.
                unsafe { self.real.C_Logout.map(|log_out| log_out(*session)) };
            }
            state.ids.clear();
            if log_out {
                state.logged_out_code = orders.logged_out_code;
            }
            (state.lost, state.logged_out) = (orders.lose_sessions, orders.log_out);
        }
        state.removed = orders.presence == Presence::Removed;
        state.stale |= orders.presence == Presence::Gone;
        if state.removed {
            return removed(function);
        }
        if state.stale {
            return gone(function);
        }
        state.logged_out_code.filter(|_| function == "C_SignInit")
    }

    fn close_all(&self, state: &mut State) {
        let slots: BTreeSet<CK_SLOT_ID> = std::mem::take(&mut state.sessions).into_values().collect();
        for slot in slots {
            // SAFETY: a slot number of the real module; no call is under way.
            unsafe { self.real.C_CloseAllSessions.map(|close| close(slot)) };
        }
        state.signing.clear();
        self.control.alone(|| self.table(0));
    }

    /// A new C_Initialize: nothing of before counts.
    pub fn initialized(&self, orders: &Orders) {
        let stale = orders.presence == Presence::Gone;
        *self.state() = State { lost: orders.lose_sessions, logged_out: orders.log_out, stale, ..State::default() };
        self.control.alone(|| self.table(0));
    }

    pub fn finalized(&self) {
        let mut state = self.state();
        state.sessions.clear();
        state.signing.clear();
        state.ids.clear();
        drop(state);
        self.control.alone(|| self.table(0));
    }

    pub fn logged_in(&self) {
        self.state().logged_out_code = None;
    }

    /// Opens a session unless the device has too many, counted over all living processes.
    pub fn open_session(&self, orders: &Orders, slot: CK_SLOT_ID, open: impl FnOnce() -> (CK_RV, u64)) -> CK_RV {
        self.control.alone(|| {
            let others = self.table(self.state().sessions.len() as u64);
            let own = self.state().sessions.len() as u64;
            if orders.sessions_max.is_some_and(|most| others + own >= most) {
                return CKR_SESSION_COUNT;
            }
            let (code, session) = open();
            if code == CKR_OK {
                self.state().sessions.insert(session, slot);
                self.table(own + 1);
            }
            code
        })
    }

    pub fn closed(&self, session: CK_SESSION_HANDLE) {
        let mut state = self.state();
        state.signing.remove(&session);
        if state.sessions.remove(&session).is_some() {
            let open = state.sessions.len() as u64;
            drop(state);
            self.control.alone(|| self.table(open));
        }
    }

    pub fn closed_all(&self, slot: CK_SLOT_ID) {
        let mut state = self.state();
        state.sessions.retain(|_, of| *of != slot);
        let open = state.sessions.len() as u64;
        drop(state);
        self.control.alone(|| self.table(open));
    }

    /// Writes down this process's sessions and returns those of all others. Places of the dead are taken over.
    fn table(&self, own: u64) -> u64 {
        let own_id = u64::from(std::process::id());
        let mut others = 0;
        let mut free = None;
        for place in (0..PROCESSES).map(|entry| SESSIONS + 2 * entry) {
            let owner = self.control.word(place).load(Ordering::Relaxed);
            if owner == own_id || owner == 0 || !lives(owner) {
                // The own place wins over a free one.
                if owner == own_id || free.is_none() {
                    free = Some(place);
                }
                self.control.word(place).store(0, Ordering::Relaxed);
                continue;
            }
            others += self.control.word(place + 1).load(Ordering::Relaxed);
        }
        if own > 0 {
            let place = free.unwrap_or_else(|| stop("too many processes for the session table"));
            self.control.word(place).store(own_id, Ordering::Relaxed);
            self.control.word(place + 1).store(own, Ordering::Relaxed);
        }
        others
    }

    /// Waits for the device: its rate is shared by all processes.
    pub fn wait_turn(&self, orders: &Orders) {
        let Some(rate) = orders.rate else { return };
        let (period, now) = (1_000_000_000 / rate, monotonic_ns());
        let take = |free: u64| Some(free.max(now) + period);
        let free = self.control.word(FREE_AT).fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let done = free.unwrap_or(now).max(now) + period;
        std::thread::sleep(Duration::from_nanos(done - now));
    }

    /// While it is held, the shim closes no session.
    pub fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers which key a session signs with.
    pub fn begins_signing(&self, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) {
        if self.state().ids.contains_key(&key) {
            self.state().signing.insert(session, key);
            return;
        }
        let id = self.id_of(session, key);
        let mut state = self.state();
        state.ids.insert(key, id);
        state.signing.insert(session, key);
    }

    /// Decides whether this session's search finds what is there.
    pub fn begins_searching(&self, orders: &Orders, session: CK_SESSION_HANDLE, wanted: &[CK_ATTRIBUTE]) {
        let value = |kind| wanted.iter().find(|attribute| attribute.type_ == kind).map(bytes_of).unwrap_or_default();
        let class = value(CKA_CLASS);
        let is_key = [CKO_PRIVATE_KEY, CKO_SECRET_KEY].iter().any(|kind| class == kind.to_ne_bytes());
        let id = hex::encode(value(CKA_ID));
        let mut for_it = orders.blind.iter().filter(|blindness| is_key && blindness.id == id);
        let is_blind = for_it.any(|blindness| self.control.blinds(blindness));
        let mut state = self.state();
        if is_blind {
            state.blind.insert(session);
        } else {
            state.blind.remove(&session);
        }
    }

    pub fn is_blind(&self, session: CK_SESSION_HANDLE) -> bool {
        self.state().blind.contains(&session)
    }

    /// CKA_ID may change: it is read again.
    pub fn forget_ids(&self) {
        self.state().ids.clear();
    }

    /// CKA_ID of the key of a session's operation, in hexadecimal.
    pub fn signing_key(&self, session: CK_SESSION_HANDLE) -> String {
        let state = self.state();
        let id = state.signing.get(&session).and_then(|key| state.ids.get(key));
        id.filter(|id| !id.is_empty()).map_or_else(|| "-".into(), hex::encode)
    }

    fn id_of(&self, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> Vec<u8> {
        let mut id = vec![0_u8; 64];
        let mut wanted =
            CK_ATTRIBUTE { type_: CKA_ID, pValue: id.as_mut_ptr().cast(), ulValueLen: id.len() as CK_ULONG };
        // SAFETY: one attribute with a buffer of the stated length.
        let code = unsafe { self.real.C_GetAttributeValue.map(|read| read(session, key, &raw mut wanted, 1)) };
        id.truncate(if code == Some(CKR_OK) { wanted.ulValueLen as usize } else { 0 });
        id
    }

    pub fn orders(&self) -> Arc<Orders> {
        self.control.orders()
    }

    pub fn sees_no_token(&self) -> bool {
        let state = self.state();
        state.stale || state.removed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of(attribute: &CK_ATTRIBUTE) -> &[u8] {
    if attribute.pValue.is_null() {
        return &[];
    }
    // SAFETY: the caller's value of the stated length.
    unsafe { std::slice::from_raw_parts(attribute.pValue.cast(), attribute.ulValueLen as usize) }
}

/// Microseconds that C_Sign is to take, less what it took already.
pub fn rest_of(orders: &Orders, began: Instant) -> Duration {
    Duration::from_micros(orders.sign_takes_us).saturating_sub(began.elapsed())
}

/// What SoftHSM2 2.6.1 answers when its token directory went away. `None`: it answers as if nothing were wrong.
fn gone(function: &str) -> Option<CK_RV> {
    match function {
        "C_GetTokenInfo" | "C_GetMechanismList" | "C_Login" | "C_GenerateKeyPair" | "C_GenerateKey" => {
            Some(CKR_GENERAL_ERROR)
        }
        "C_SignInit"
        | "C_GetAttributeValue"
        | "C_SetAttributeValue"
        | "C_DestroyObject"
        | "C_EncryptInit"
        | "C_DecryptInit" => Some(CKR_OBJECT_HANDLE_INVALID),
        _ => None,
    }
}

/// PKCS#11 v2.40, 5.1.3: the token was removed during or before the call.
fn removed(function: &str) -> Option<CK_RV> {
    match function {
        "C_Initialize" | "C_Finalize" | "C_GetInfo" | "C_GetSlotList" | "C_GetSlotInfo" => None,
        "C_GetTokenInfo" | "C_GetMechanismList" | "C_OpenSession" | "C_InitToken" => Some(CKR_TOKEN_NOT_PRESENT),
        _ => Some(CKR_DEVICE_REMOVED),
    }
}

fn lives(process: u64) -> bool {
    std::fs::exists(format!("/proc/{process}")).unwrap_or(true)
}

fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for one timespec. The clock is one for all processes.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
