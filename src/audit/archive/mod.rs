//! The log copied to where it cannot be changed: tiles and checkpoints as objects that are written once.
//!
//! Off the path of payments: a task asks the log for what came since the last round, as any auditor does, and writes it.
//! Nothing that is there is replaced: what cannot be written because it is there is read and compared, so that an archive
//! is a witness, too. Where it stands is kept in a file; behind by a crash means that some of it is compared again.
//!
//! Names are those of C2SP tlog-tiles, so that whoever fetches everything has a copy that `verify log` takes. Beside the
//! checkpoint of now each one that was archived stays under its size.

mod s3;
pub mod settings;
mod shelf;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Log;
use super::copy::{bytes_of, lines_of};
use super::prove::SignedHead;
use crate::kernel::note::{Checkpoint, NoteRefused, SignedNote};
use crate::kernel::receipt::Base64;
use crate::kernel::tile::{Tile, grown};
use crate::kernel::types::Sha256;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::ops::secret::SecretSlot;
use crate::tls::asking::Unresolved;
use settings::ArchiveSettings;
use shelf::{Created, Shelf};

/// The name of the log, for ever: nothing of another log is put beside it.
const LOG: &str = "log";
const CHECKPOINT: &str = "checkpoint";
const CERTIFICATES: &str = "checkpoint.certificates";
const WITNESSES: &str = "witness.certificates";
/// Tiles that are read and written at once.
const PAGE: usize = 8;
/// A checkpoint that the witness has cosigned is waited for so long.
const COSIGNED_WITHIN: Duration = Duration::from_secs(5);
/// Where the place is kept.
const PLACE: &str = "store/archive.json";
/// Between two attempts of a round that fails, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What is asked about an archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "archive", rename_all = "snake_case", deny_unknown_fields)]
pub enum ArchiveCall {
    Status {},
    /// Brings it up to date.
    Now {},
    /// The archived head; none: the newest.
    Head {
        size: Option<u64>,
    },
    /// By their paths, as the archive has them.
    Tiles {
        tiles: Vec<String>,
    },
}

/// How far an archive is; durable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Reached {
    /// Whose place it is: another archive begins anew.
    url: String,
    endpoint: Option<String>,
    origin: String,
    size: u64,
    root: Sha256,
    /// RFC 3339.
    at: String,
    /// Until when its checkpoint is locked, as the server said.
    #[serde(default)]
    locked: Option<String>,
}

#[derive(Debug, Default)]
struct Told {
    reached: Option<Reached>,
    /// While a round goes on: tiles that are there, of how many.
    round: Option<(u64, u64)>,
    fault: Option<Failure>,
    /// The archive is of this log and refuses to replace.
    is_known: bool,
}

/// Everything that is taken from outside the front's places: secrets, roots, addresses.
pub struct Outside {
    shelf: Shelf,
    settings: ArchiveSettings,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").field("url", &self.settings.url).finish_non_exhaustive()
    }
}

impl Outside {
    /// # Errors
    /// Whatever the archive cannot be reached with: `archive_unresolvable` unless it is tolerated,
    /// `archive_root_unusable`, `archive_unwritable`, the secret's.
    pub fn read(settings: &ArchiveSettings, state: &StateDir, unresolved: Unresolved) -> Result<Self, Failure> {
        Ok(Self { shelf: Shelf::open(settings, state, unresolved)?, settings: settings.clone() })
    }

    /// The secret, which the vault may have to hand in.
    pub fn secret(&self) -> Option<SecretSlot> {
        self.shelf.secret()
    }

    /// A directory that the confined front has to be let through to.
    pub fn directory(&self) -> Option<&Path> {
        self.shelf.directory()
    }
}

/// One archive of a log.
pub struct Archive {
    shelf: Shelf,
    settings: ArchiveSettings,
    place: PathBuf,
    /// Whoever works holds it for a round.
    turn: tokio::sync::Mutex<()>,
    /// Guards what is told; never held across a call.
    told: Mutex<Told>,
    runtime: tokio::runtime::Handle,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("url", &self.settings.url).finish_non_exhaustive()
    }
}

impl Archive {
    /// Called where a runtime is. Nothing is written yet.
    pub fn new(outside: Outside, state: &StateDir) -> Arc<Self> {
        let Outside { shelf, settings } = outside;
        let place = state.resolve(PLACE);
        let reached = std::fs::read(&place).ok().and_then(|bytes| serde_json::from_slice::<Reached>(&bytes).ok());
        let is_ours = |reached: &Reached| reached.url == settings.url && reached.endpoint == settings.endpoint;
        let told = Told { reached: reached.filter(is_ours), ..Told::default() };
        let runtime = tokio::runtime::Handle::current();
        Arc::new(Self { shelf, settings, place, turn: tokio::sync::Mutex::default(), told: Mutex::new(told), runtime })
    }

    /// How long to wait for the next round.
    pub fn pause(&self, failed_before: u32) -> Duration {
        let interval = Duration::from_secs(self.settings.interval_s.into());
        match failed_before.checked_sub(1) {
            None => interval,
            Some(times) => PAUSE_FIRST.saturating_mul(1 << times.min(10)).min(PAUSE_MAX.min(interval.max(PAUSE_FIRST))),
        }
    }

    /// Brings the archive up to the newest checkpoint; `progress` hears how many tiles of how many are there. Answers how
    /// many were written or compared. What came of it is told, too.
    ///
    /// # Errors
    /// `archive_…` of the place; `log_forked`, `log_rolled_back` when the log is not what was archived; `archive_differs`
    /// when the archive is not what the log has; `archive_not_locked`; the log's.
    pub async fn round(&self, log: &Arc<Log>, progress: impl FnMut(u64, u64)) -> Result<u64, Failure> {
        let turn = self.turn.lock().await;
        let done = self.brought(log, progress).await;
        let mut told = self.told();
        told.round = None;
        let before = told.fault.take();
        match &done {
            Ok(_) if before.is_some() => tracing::info!("the log is archived again"),
            Ok(_) => {}
            Err(failure) => {
                // Said once a cause, not once a try.
                if before.is_none_or(|before| before.name != failure.name) {
                    tracing::warn!(name = %failure.name, message = %failure.message, "the log is not archived");
                }
                told.fault = Some(failure.clone());
            }
        }
        drop(told);
        drop(turn);
        done
    }

    async fn brought(&self, log: &Arc<Log>, mut progress: impl FnMut(u64, u64)) -> Result<u64, Failure> {
        // First: whoever else writes it has it from this same store.
        let archived = self.newest().await?;
        let head = match blocking(log, |log| log.head(COSIGNED_WITHIN)).await {
            Err(failure) if failure.name == "log_empty" && archived.is_none() => return Ok(0),
            head => head?,
        };
        let now = checkpoint_of(head.checkpoint.as_bytes())
            .map_err(|refused| super::damaged(format!("the newest checkpoint is unreadable: {refused}")))?;
        self.known(&head.origin).await?;
        let before = self.told().reached.clone();
        let old_size = before.as_ref().map_or(0, |reached| reached.size);
        if let Some(reached) = &before {
            still_begins_so(log, &reached.origin, reached.size, reached.root, &now).await?;
        }
        // The place comes back with a store that is put back; what was archived does not.
        if let Some(archived) = &archived {
            still_begins_so(log, &archived.origin, archived.size, archived.root, &now).await?;
        }
        if old_size == now.size {
            return Ok(0);
        }
        let tiles: Vec<Tile> = grown(old_size, now.size).collect();
        let total = tiles.len() as u64;
        for (page, done) in tiles.chunks(PAGE).zip((0_u64..).step_by(PAGE)) {
            self.told().round = Some((done, total));
            progress(done, total);
            let asked = page.to_vec();
            let read = move |log: &Log| asked.iter().map(|tile| log.tile(*tile)).collect::<Result<Vec<_>, _>>();
            let bytes = blocking(log, read).await?;
            let written = page.iter().zip(bytes).map(|(tile, bytes)| self.once(tile.to_string(), bytes));
            futures_util::future::try_join_all(written).await?;
        }
        progress(total, total);
        let locked = self.archive_head(&head, &now).await?;
        let at = clock::now().rfc3339();
        let ArchiveSettings { url, endpoint, .. } = self.settings.clone();
        let reached = Reached { url, endpoint, origin: now.origin, size: now.size, root: now.root, at, locked };
        self.keep(&reached)?;
        self.told().reached = Some(reached);
        Ok(total)
    }

    /// The newest checkpoint that is there. None: the archive is empty.
    async fn newest(&self) -> Result<Option<Checkpoint>, Failure> {
        let Some(note) = self.shelf.read(CHECKPOINT).await? else {
            return Ok(None);
        };
        checkpoint_of(&note).map(Some).map_err(|_| damaged(CHECKPOINT))
    }

    /// The archive is this log's, and replaces nothing: asked once.
    async fn known(&self, origin: &str) -> Result<(), Failure> {
        if self.told().is_known {
            return Ok(());
        }
        let mine = format!("{origin}\n").into_bytes();
        let mut created = self.shelf.create(LOG, mine.clone()).await?;
        if created == Created::New {
            created = self.shelf.create(LOG, mine.clone()).await?;
        }
        match created {
            Created::New => Err(Failure::fault(
                "archive_overwrites",
                "the archive's server replaced an object that it was told not to replace (If-None-Match)",
                "use a server with conditional writes: without them an archive is not written once",
            )),
            Created::There(there) if there == mine => {
                self.told().is_known = true;
                Ok(())
            }
            Created::There(there) => Err(Failure::usage(
                "archive_of_another_log",
                format!(
                    "the archive is of the log {:?}, this is {origin:?}",
                    String::from_utf8_lossy(&there).trim_end()
                ),
                "name another prefix or directory in [audit.archive] url",
            )),
        }
    }

    /// An object that is written once, or is there already as it should be.
    async fn once(&self, name: String, bytes: Vec<u8>) -> Result<(), Failure> {
        match self.shelf.create(&name, bytes.clone()).await? {
            Created::New => Ok(()),
            Created::There(there) if there == bytes => Ok(()),
            Created::There(_) => Err(differs(&name)),
        }
    }

    /// The checkpoint under its size, for ever, and then as the newest. Answers until when it is locked.
    async fn archive_head(&self, head: &SignedHead, now: &Checkpoint) -> Result<Option<String>, Failure> {
        let parts = parts_of(head);
        let [checkpoint, others @ ..] = &parts;
        for (name, bytes) in others {
            // What is there is of the same keys; a certificate may have been renewed since.
            self.shelf.create(&of_size(now.size, name), bytes.clone()).await?;
        }
        let name = of_size(now.size, CHECKPOINT);
        if let Created::There(there) = self.shelf.create(&name, checkpoint.1.clone()).await? {
            // With other cosignatures, perhaps; of the same tree for certain.
            let text = SignedNote::parse(&there).map(|note| note.text);
            if text.ok() != Some(now.text()) {
                return Err(differs(&name));
            }
        }
        let locked = self.locked(&name).await?;
        for (name, bytes) in parts.into_iter().rev() {
            // The checkpoint last: what it covers is there.
            self.shelf.replace(name, bytes).await?;
        }
        Ok(locked)
    }

    /// Until when the server says that it is locked, where it has to be.
    async fn locked(&self, name: &str) -> Result<Option<String>, Failure> {
        let Some(lock) = self.settings.lock else {
            return Ok(None);
        };
        let held = self.shelf.held(name).await?.filter(|held| held.mode == lock.mode.name());
        // Texts in UTC are ordered as the times are, to the second.
        let held = held.filter(|held| held.until.get(..19) > clock::now().rfc3339().get(..19));
        held.map(|held| Some(held.until)).ok_or_else(|| {
            Failure::fault(
                "archive_not_locked",
                format!("the archive's server took {name} and does not hold it in {} mode", lock.mode.name()),
                "use a bucket with object lock on a server that has it, or take lock out of [audit.archive]",
            )
        })
    }

    /// Durable before it is believed.
    fn keep(&self, reached: &Reached) -> Result<(), Failure> {
        use std::io::Write;
        let unwritable = |error: std::io::Error| {
            let message = format!("{}: {error}", self.place.display());
            Failure::fault("archive_place_unwritable", message, "check the state directory and the room on its disk")
        };
        let fresh = self.place.with_extension("json.new");
        let write = || {
            let mut file = std::fs::File::create(&fresh)?;
            file.write_all(json!(reached).to_string().as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&fresh, &self.place)?;
            let directory = self.place.parent().unwrap_or(Path::new("."));
            std::fs::File::open(directory)?.sync_all()
        };
        write().map_err(unwritable)
    }

    /// Answers what an operator asks. Blocking; not from an async task.
    ///
    /// # Errors
    /// As [`Self::round`]; `archive_empty`, `archive_damaged`, `archive_missing`, `tile_path_invalid`.
    pub fn answer(&self, log: &Arc<Log>, call: ArchiveCall, progress: &mut dyn FnMut(Value)) -> Result<Value, Failure> {
        match call {
            ArchiveCall::Status {} => self.status(log),
            ArchiveCall::Now {} => {
                let say = |done, total| progress(json!({ "rows": done, "of": format!("of {total} tiles") }));
                let tiles = self.runtime.block_on(self.round(log, say))?;
                let mut value = self.status(log)?;
                value["tiles"] = json!(tiles);
                Ok(value)
            }
            ArchiveCall::Head { size } => self.runtime.block_on(self.head(size)).map(|head| json!(head)),
            ArchiveCall::Tiles { tiles } => {
                let read = self
                    .runtime
                    .block_on(futures_util::future::try_join_all(tiles.iter().take(64).map(|path| self.tile(path))))?;
                Ok(json!({ "items": read }))
            }
        }
    }

    /// Where it stands.
    ///
    /// # Errors
    /// The store's.
    pub fn status(&self, log: &Arc<Log>) -> Result<Value, Failure> {
        let size = log.state()?.signed_size;
        let told = self.told();
        let reached = told.reached.as_ref();
        let archived = reached.map_or(0, |reached| reached.size);
        Ok(json!({
            "url": self.settings.url,
            "endpoint": self.settings.endpoint,
            "lock": self.settings.lock,
            "interval_s": self.settings.interval_s,
            "size": size,
            "archived_size": archived,
            "lag": size.saturating_sub(archived),
            "archived_at": reached.map(|reached| reached.at.clone()),
            "locked_until": reached.and_then(|reached| reached.locked.clone()),
            "round": told.round.map(|(done, total)| json!({ "tiles": done, "of": total })),
            "fault": told.fault,
        }))
    }

    async fn head(&self, size: Option<u64>) -> Result<SignedHead, Failure> {
        let place = |name: &str| size.map_or_else(|| name.to_owned(), |size| of_size(size, name));
        let name = place(CHECKPOINT);
        let note = self.shelf.read(&name).await?.ok_or_else(|| {
            Failure::usage(
                "archive_empty",
                format!("{} has no {name}", self.settings.url),
                "see `countersign audit archive status`; sizes are the names below checkpoints/",
            )
        })?;
        let unreadable = || damaged(&name);
        let checkpoint = checkpoint_of(&note).map_err(|_| unreadable())?;
        let own = chains_of(&self.shelf.read(&place(CERTIFICATES)).await?.unwrap_or_default());
        let chain = own.and_then(|chains| chains.into_iter().next()).ok_or_else(|| damaged(&place(CERTIFICATES)))?;
        let witnesses = chains_of(&self.shelf.read(&place(WITNESSES)).await?.unwrap_or_default());
        Ok(SignedHead {
            origin: checkpoint.origin,
            size: checkpoint.size,
            checkpoint: String::from_utf8(note).map_err(|_| unreadable())?,
            chain,
            witnesses: witnesses.ok_or_else(|| damaged(&place(WITNESSES)))?,
        })
    }

    async fn tile(&self, path: &str) -> Result<Base64, Failure> {
        if Tile::parse(path).is_none() {
            let next = "ask for tile/<L>/<N>[.p/<W>] or tile/entries/<N>[.p/<W>]";
            return Err(Failure::usage("tile_path_invalid", format!("{path:?} is no path of a tile"), next));
        }
        let bytes = self.shelf.read(path).await?;
        bytes.map(Base64).ok_or_else(|| {
            Failure::refused(
                "archive_missing",
                format!("{} has no {path}, which its checkpoint covers", self.settings.url),
                "keep what is there as evidence, and look who may delete from it",
            )
        })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn checkpoint_of(note: &[u8]) -> Result<Checkpoint, NoteRefused> {
    SignedNote::parse(note).and_then(|note| Checkpoint::parse(&note.text))
}

/// The log still begins with what was archived: so many leaves under this root.
async fn still_begins_so(
    log: &Arc<Log>,
    origin: &str,
    size: u64,
    known: Sha256,
    now: &Checkpoint,
) -> Result<(), Failure> {
    if size > now.size {
        return Err(Failure::refused(
            "log_rolled_back",
            format!("{size} leaves are archived, the log's newest signed checkpoint has {}", now.size),
            "the log has lost what was signed: keep the archive as evidence and put the newest store back; when that is lost \
             for ever, name another prefix in [audit.archive] url",
        ));
    }
    let root = blocking(log, move |log| log.root_at(size)).await?;
    if root != known || origin != now.origin {
        return Err(Failure::refused(
            "log_forked",
            format!("the first {size} leaves are not those that were archived"),
            "keep the archive as evidence: the two are proof that the log was rewritten; go on with another prefix in \
             [audit.archive] url",
        ));
    }
    Ok(())
}

/// What stands under a checkpoint's size, and beside the tiles: the checkpoint first.
fn parts_of(head: &SignedHead) -> [(&'static str, Vec<u8>); 3] {
    let lines = |chain: &[Base64]| lines_of(chain.iter().map(|one| one.0.as_slice()));
    let witnesses: Vec<String> = head.witnesses.iter().map(|chain| lines(chain)).collect();
    [
        (CHECKPOINT, head.checkpoint.clone().into_bytes()),
        (CERTIFICATES, lines(&head.chain).into_bytes()),
        (WITNESSES, witnesses.join("\n").into_bytes()),
    ]
}

/// In the order of sizes when they are listed.
fn of_size(size: u64, name: &str) -> String {
    format!("checkpoints/{size:020}/{name}")
}

/// Chains of certificates, with an empty line between two. None: they are none.
fn chains_of(bytes: &[u8]) -> Option<Vec<Vec<Base64>>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let chains = text.split("\n\n").map(str::trim_end).filter(|chain| !chain.is_empty());
    chains.map(|chain| chain.lines().map(|line| bytes_of(line).map(Base64)).collect()).collect()
}

async fn blocking<T: Send + 'static>(
    log: &Arc<Log>,
    read: impl FnOnce(&Log) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let log = Arc::clone(log);
    let met = |error: tokio::task::JoinError| Failure::fault("internal_defect", error.to_string(), "report this");
    tokio::task::spawn_blocking(move || read(&log)).await.map_err(met)?
}

fn differs(name: &str) -> Failure {
    Failure::refused(
        "archive_differs",
        format!("{name} was archived before, and is another one now"),
        "keep the archive as evidence: either the log was rewritten, or somebody else wrote to the archive",
    )
}

fn damaged(name: &str) -> Failure {
    Failure::refused(
        "archive_damaged",
        format!("{name} of the archive is unreadable"),
        "fetch an earlier checkpoint by its --size, and look who may write to the archive",
    )
}
