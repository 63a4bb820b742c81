//! The audit log: leaves in tree order, signed checkpoints, receipts, and the check that rebuilds everything.
//!
//! The store is the only truth. The sequencer keeps no state of its own, so the live path and recovery after a
//! crash are the same function, [`Log::advance`].

pub mod archive;
mod bundle;
mod check;
pub mod copy;
pub mod cosigning;
pub mod export;
mod issue;
pub mod prove;
pub mod retention;
pub mod sealing;
pub mod search;
mod sequencer;
pub mod settings;
mod show;
pub mod subjects;
mod witnessed;

use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::audit::settings::AuditSettings;
use crate::hsm::{CertifiedKey, Token};
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::merkle::{Frontier, NodeId, consistency_path_from, inclusion_path_from};
use crate::kernel::note::{Checkpoint, NoteRefused, is_key_name, note_type};
use crate::kernel::sign::Purpose;
use crate::kernel::types::{KeyId, Sha256};
use crate::ops::failure::Failure;
use crate::store::{CheckpointRecord, LeafContent, Store};

pub use check::{CopyHead, Examined, Finding, Findings, Wrong};
pub use sequencer::Advance;
pub use witnessed::cosigned_at;

/// What a log is made of.
pub struct LogSetup {
    pub store: Arc<dyn Store>,
    pub token: Arc<dyn Token>,
    /// Signs checkpoints: Ed25519, or P-256 under a note type of our own.
    pub checkpoint: CertifiedKey,
    /// Signs the batches of a bank; its chain goes into receipts.
    pub transaction: Option<CertifiedKey>,
    pub settings: AuditSettings,
    /// Base of the private OIDs (`pki.oid_base`): receipts are verified under it before they are released.
    pub oid_base: String,
}

impl std::fmt::Debug for LogSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogSetup").field("origin", &self.settings.origin).finish_non_exhaustive()
    }
}

/// Where the log stands, for `doctor`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct LogState {
    pub origin: String,
    /// Leaves that have a place in the tree.
    pub size: u64,
    /// Leaves that the newest signed checkpoint covers.
    pub signed_size: u64,
    /// `size - signed_size`: more than 0 for longer than a moment means that the HSM or the store is in trouble.
    pub lag: u64,
    /// False before `start` and after `stop`.
    pub running: bool,
    /// The failure that the sequencer is retrying, if any.
    pub fault: Option<Failure>,
}

/// The keys of a log: those that sign now, and every one whose signatures are still to be shown.
#[derive(Clone, Debug)]
pub struct LogRoles {
    pub checkpoint: CertifiedKey,
    pub transaction: Option<CertifiedKey>,
    /// Keys of both roles from before a rotation.
    pub earlier: Vec<CertifiedKey>,
}

impl LogRoles {
    /// Every key that may have signed checkpoints, the present one first.
    pub(crate) fn checkpoints(&self) -> impl Iterator<Item = &CertifiedKey> {
        let earlier = self.earlier.iter().filter(|role| role.key.purpose == Purpose::Checkpoint);
        std::iter::once(&self.checkpoint).chain(earlier)
    }

    /// The role of the key that signed a batch, with the certificate that it had when the batch was posted (RFC 3339,
    /// UTC): a key may have been certified anew since. Without one of that time the newest, which the reader refuses.
    pub(crate) fn transaction_by(&self, key: KeyId, posted_at: &str) -> Option<&CertifiedKey> {
        let earlier = self.earlier.iter().filter(|role| role.key.purpose == Purpose::Transaction);
        let of_key = || self.transaction.iter().chain(earlier.clone()).filter(|role| role.key.id == key);
        of_key().find(|role| was_certified(role, posted_at)).or_else(|| of_key().next())
    }
}

/// Whether a role's certificate was valid at that time. Texts of one length in UTC are ordered as the times are.
fn was_certified(role: &CertifiedKey, at: &str) -> bool {
    let seconds = |text: &str| text.get(..19).map(str::to_owned);
    let validity = role.chain.first().and_then(|own| Certificate::read(own).ok()).map(|certificate| {
        let (start, end) = (certificate.tbs.not_before.at, certificate.tbs.not_after.at);
        seconds(&start.rfc3339()) <= seconds(at) && seconds(at) <= seconds(&end.rfc3339())
    });
    validity.unwrap_or(false)
}

/// One party's audit log. Shared; the sequencer thread is the only one that writes.
pub struct Log {
    setup: LogSetup,
    /// Replaced as a whole when a key is rotated. The lock guards the pointer only.
    roles: RwLock<Arc<LogRoles>>,
    /// Guards whose word counts beside our own; never held across a call.
    witness: Mutex<witnessed::Witness>,
    /// Guards the small state below only; never held across a store or HSM call.
    shared: Mutex<Shared>,
    /// Wakes the sequencer: work or stop.
    work: Condvar,
    /// Wakes those who wait for a receipt: something was signed, or the log stopped.
    progress: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    running: bool,
    stopping: bool,
    /// Notifications since the sequencer last looked.
    notified: u32,
    /// Counts everything that may complete a receipt.
    progressed: u64,
    /// Size and root of the newest checkpoint that this process had signed.
    last_signed: Option<(u64, Sha256)>,
    fault: Option<Failure>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("setup", &self.setup).finish_non_exhaustive()
    }
}

impl Log {
    /// Takes up the log of a store. Does not sign anything yet: see [`Self::start`].
    ///
    /// # Errors
    /// `log_key_unfit` when the checkpoint key cannot sign notes of this origin; `log_origin_changed` when the
    /// store holds a log of another name; `log_damaged` when the newest checkpoint is unreadable.
    pub fn open(setup: LogSetup) -> Result<Arc<Self>, Failure> {
        let origin = &setup.settings.origin;
        let key = &setup.checkpoint.key;
        if !is_key_name(origin) || key.purpose != Purpose::Checkpoint || note_type(&key.spki).is_err() {
            return Err(Failure::usage(
                "log_key_unfit",
                format!("the checkpoint key signs no notes, or the log's name {origin:?} cannot name a key"),
                "set audit.origin to a name without spaces and '+', and make the checkpoint key with `countersign init`",
            ));
        }
        if let Some(record) = setup.store.newest_checkpoint()? {
            let checkpoint = read_checkpoint(&record)?;
            if checkpoint.origin != *origin {
                return Err(Failure::usage(
                    "log_origin_changed",
                    format!("the store holds the log {:?}, the configuration names {origin:?}", checkpoint.origin),
                    "set audit.origin back: a log keeps its name for ever",
                ));
            }
        }
        let (checkpoint, transaction) = (setup.checkpoint.clone(), setup.transaction.clone());
        Ok(Arc::new(Self {
            roles: RwLock::new(Arc::new(LogRoles { checkpoint, transaction, earlier: Vec::new() })),
            setup,
            witness: Mutex::default(),
            shared: Mutex::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
            thread: Mutex::default(),
        }))
    }

    /// Starts the sequencer thread, which lives until [`Self::stop`]. Does nothing when it runs already.
    ///
    /// # Errors
    /// `thread_failed` when the system gives no thread.
    pub fn start(self: &Arc<Self>) -> Result<(), Failure> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_some() {
            return Ok(());
        }
        {
            let mut shared = self.lock();
            shared.running = true;
            shared.stopping = false;
            // A crash may have left work behind.
            shared.notified = shared.notified.saturating_add(1);
        }
        let log = Arc::clone(self);
        let spawned = std::thread::Builder::new().name("audit-sequencer".into()).spawn(move || log.run());
        match spawned {
            Ok(handle) => {
                *thread = Some(handle);
                Ok(())
            }
            Err(error) => {
                self.lock().running = false;
                Err(Failure::fault(
                    "thread_failed",
                    format!("the sequencer's thread did not start: {error}"),
                    "check the limit on processes of this user",
                ))
            }
        }
    }

    /// The keys in force.
    pub fn roles(&self) -> Arc<LogRoles> {
        Arc::clone(&self.roles.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other keys in force for every checkpoint and receipt from here on.
    pub fn replace_roles(&self, roles: LogRoles) {
        *self.roles.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(roles);
    }

    /// Says that leaves were committed or a batch was signed. Cheap; called after each commit.
    pub fn notify(&self) {
        let mut shared = self.lock();
        shared.notified = shared.notified.saturating_add(1);
        shared.progressed += 1;
        // What the sequencer waits for: anything at all, or enough for a checkpoint. It is not woken to count.
        let awaited = [1, self.setup.settings.checkpoint_leaves].contains(&shared.notified);
        drop(shared);
        if awaited {
            self.work.notify_all();
        }
        self.progress.notify_all();
    }

    /// Ends the sequencer after the step it is in and joins it. What is left is done at the next start.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.work.notify_all();
        let handle = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(handle) = handle
            && handle.join().is_err()
        {
            tracing::error!("the sequencer ended in a panic; leaves wait for the next start");
        }
        self.lock().running = false;
        self.progress.notify_all();
    }

    /// A checkpoint is made at least this often while leaves wait.
    pub fn checkpoint_interval_ms(&self) -> u64 {
        self.setup.settings.checkpoint_interval_ms
    }

    /// Where the log stands, read from the store.
    ///
    /// # Errors
    /// The store's.
    pub fn state(&self) -> Result<LogState, Failure> {
        // Signed first: the other order could show a signed size beyond the size.
        let signed_size = self.setup.store.signed_checkpoint()?.map_or(0, |record| record.size);
        let size = self.setup.store.newest_checkpoint()?.map_or(0, |record| record.size);
        let shared = self.lock();
        Ok(LogState {
            origin: self.setup.settings.origin.clone(),
            size,
            signed_size,
            lag: size.saturating_sub(signed_size),
            running: shared.running,
            fault: shared.fault.clone(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The proof that the log of `new` leaves goes on from that of `old` (RFC 9162, 2.1.4).
    ///
    /// # Errors
    /// `log_damaged`; the store's.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Sha256>, Failure> {
        self.of_nodes(|read| consistency_path_from(old, new, read))
    }

    /// The root of the first `size` leaves, which have their places.
    ///
    /// # Errors
    /// `log_damaged` when the store has fewer; the store's.
    pub fn root_at(&self, size: u64) -> Result<Sha256, Failure> {
        self.of_nodes(|read| Frontier::load(size, read)).map(|frontier| frontier.root())
    }

    /// The path from leaf `index` to the root of the first `size` leaves (RFC 9162, 2.1.3).
    ///
    /// # Errors
    /// `log_damaged` when the store has fewer; the store's.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Sha256>, Failure> {
        self.of_nodes(|read| inclusion_path_from(index, size, read))
    }

    /// What `compute` makes of stored subtrees, which must be there and are read at once. It runs twice: first to say which
    /// ones it asks for, with zeros in their places, then with what is stored. It must ask the same both times.
    fn of_nodes<T>(
        &self,
        compute: impl Fn(&mut dyn FnMut(NodeId) -> Result<Sha256, Failure>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut wanted = Vec::new();
        compute(&mut |node| {
            wanted.push(node);
            Ok(Sha256([0; 32]))
        })?;
        let mut found = wanted.iter().zip(self.setup.store.nodes_at(&wanted)?);
        compute(&mut |node| match found.next() {
            Some((at, Some(hash))) if *at == node => Ok(hash),
            Some(_) | None => Err(damaged(format!("tree node {}/{} is missing", node.level, node.index))),
        })
    }

    /// How long a wait for a condition may last before the store is looked at again without being told: another
    /// process may share the store.
    const RECHECK: Duration = Duration::from_millis(250);
}

/// Reads a stored checkpoint's text and compares it with the record's own columns.
fn read_checkpoint(record: &CheckpointRecord) -> Result<Checkpoint, Failure> {
    let text = std::str::from_utf8(&record.note).map_err(|_| NoteRefused::NotText);
    let checkpoint = text
        .and_then(Checkpoint::parse)
        .map_err(|refused| damaged(format!("checkpoint {} is unreadable: {refused}", record.size)))?;
    if checkpoint.size != record.size || checkpoint.root != record.root {
        return Err(damaged(format!("checkpoint {} disagrees with its own text", record.size)));
    }
    Ok(checkpoint)
}

/// Salt and body of a leaf that is to be handed out. `what` names it.
///
/// # Errors
/// `leaf_erased`, `log_damaged`
fn known(content: LeafContent, what: impl Fn() -> String) -> Result<([u8; 32], Vec<u8>), Failure> {
    match content {
        LeafContent::Known { salt, body } => Ok((salt, body)),
        LeafContent::Erased => Err(Failure::refused(
            "leaf_erased",
            format!("what {} said was erased with the key of its subject; only its place is proven", what()),
            "use a receipt or a proof that was handed out before, or `countersign verify log` for the log as a whole",
        )),
        LeafContent::Unsealed => Err(damaged(format!("{} lies in the clear, and leaves before it are sealed", what()))),
        LeafContent::Damaged(why) => Err(damaged(format!("{} does not open: {why}", what()))),
    }
}

fn damaged(message: String) -> Failure {
    Failure::fault(
        "log_damaged",
        message,
        "stop the daemon, keep the store as evidence, and restore it from a backup that `countersign audit check` accepts",
    )
}
