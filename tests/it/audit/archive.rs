//! An archive in a directory, with logs that go on, go back, and are rewritten.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign::audit::Log;
use countersign::audit::archive::settings::ArchiveSettings;
use countersign::audit::archive::{Archive, ArchiveCall, Outside};
use countersign::audit::copy::Copy;
use countersign::kernel::tile::Tile;
use countersign::ops::failure::Failure;
use countersign::ops::paths::StateDir;
use countersign::tls::asking::Unresolved;
use serde_json::{Value, json};

use super::log::{advance_all, open};
use super::memory::MemoryStore;
use super::parties::{Bank, OID_BASE};

struct Stage {
    state: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    bank: Bank,
}

impl Stage {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("store")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { state, runtime, bank: Bank::new() }
    }

    fn directory(&self) -> PathBuf {
        self.state.path().join("tiles")
    }

    /// A log of so many leaves, which say this word.
    fn log(&self, leaves: usize, word: &str) -> (Arc<Log>, Arc<MemoryStore>) {
        let store = Arc::new(MemoryStore::default());
        grow(&store, leaves, word);
        let log = open(&self.bank, &store);
        advance_all(&log);
        (log, store)
    }

    /// As a daemon that has just started.
    fn archive(&self) -> Arc<Archive> {
        let state = StateDir::new(self.state.path());
        let outside = Outside::read(&ArchiveSettings::default(), &state, Unresolved::Refused).unwrap();
        let _entered = self.runtime.enter();
        Archive::new(outside, &state)
    }

    fn round(&self, archive: &Archive, log: &Arc<Log>) -> Result<u64, Failure> {
        self.runtime.block_on(archive.round(log, |_, _| {}))
    }

    fn refused(&self, log: &Arc<Log>) -> String {
        let archive = self.archive();
        let failure = self.round(&archive, log).unwrap_err();
        let told = archive.answer(log, ArchiveCall::Status {}, &mut |_| {}).unwrap();
        assert_eq!(told["fault"]["name"], failure.name, "{told}");
        failure.name
    }

    fn forgets(&self) {
        fs::remove_file(self.state.path().join("store/archive.json")).unwrap();
    }
}

fn grow(store: &MemoryStore, leaves: usize, word: &str) {
    for number in 0..leaves {
        store.add_leaf(&json!({ "at": "2026-11-22T10:00:00.000Z", "number": number, "word": word }));
    }
}

fn changed(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn rounds_write_what_is_new_and_every_checkpoint_stays_under_its_size() {
    let stage = Stage::new();
    let archive = stage.archive();
    let (log, store) = stage.log(0, "");
    assert_eq!(stage.round(&archive, &log).unwrap(), 0, "an empty log has nothing to archive");
    for (more, size) in [(300, 300), (1, 301), (300, 601)] {
        grow(&store, more, "a");
        advance_all(&log);
        assert!(stage.round(&archive, &log).unwrap() > 0);
        assert_eq!(stage.round(&archive, &log).unwrap(), 0, "nothing is written twice");
        // A daemon that starts goes on where the one before stood.
        assert_eq!(stage.round(&stage.archive(), &log).unwrap(), 0);
        let verified = Copy::at(&stage.directory()).verify(&stage.bank.root, None, OID_BASE, |_, _| {}).unwrap();
        assert_eq!(verified.checkpoint.size, size);
    }
    for size in [300, 301, 601] {
        assert!(stage.directory().join(format!("checkpoints/{size:020}/checkpoint")).exists(), "{size}");
        let told = archive.answer(&log, ArchiveCall::Head { size: Some(size) }, &mut |_| {}).unwrap();
        let head = serde_json::from_value(told).unwrap();
        let fetch = |tiles: &[Tile]| {
            let tiles = tiles.iter().map(Tile::to_string).collect();
            let told = archive.answer(&log, ArchiveCall::Tiles { tiles }, &mut |_| {})?;
            let items: Vec<countersign::kernel::receipt::Base64> =
                serde_json::from_value(told["items"].clone()).unwrap();
            Ok(items.into_iter().map(|bytes| bytes.0).collect())
        };
        let back = tempfile::tempdir().unwrap();
        Copy::at(back.path()).update(&head, OID_BASE, fetch, |_, _| {}).unwrap();
        let verified = Copy::at(back.path()).verify(&stage.bank.root, None, OID_BASE, |_, _| {}).unwrap();
        assert_eq!(verified.checkpoint.size, size);
    }
    // Its place lost, everything is compared and is as it was.
    stage.forgets();
    assert!(stage.round(&stage.archive(), &log).unwrap() > 0);
}

#[test]
fn a_log_that_is_not_what_was_archived_is_refused_and_the_archive_stays() {
    let stage = Stage::new();
    let (log, _) = stage.log(300, "a");
    stage.round(&stage.archive(), &log).unwrap();
    let before = fs::read(stage.directory().join("checkpoint")).unwrap();
    let (rewritten, _) = stage.log(400, "b");
    let (shorter, short_store) = stage.log(100, "a");
    assert_eq!(stage.refused(&rewritten), "log_forked");
    assert_eq!(stage.refused(&shorter), "log_rolled_back");
    // The place as it was with the store that was put back, or none: the archive itself says so, and goes on saying it
    // when that log has grown.
    let place = stage.state.path().join("store/archive.json");
    let mut earlier: serde_json::Value = serde_json::from_slice(&fs::read(&place).unwrap()).unwrap();
    (earlier["size"], earlier["root"]) = (json!(100), json!(shorter.root_at(100).unwrap()));
    for forgets in [false, true] {
        match forgets {
            false => fs::write(&place, earlier.to_string()).unwrap(),
            true => stage.forgets(),
        }
        assert_eq!(stage.refused(&shorter), "log_rolled_back");
        assert_eq!(stage.refused(&rewritten), "log_forked");
    }
    grow(&short_store, 400, "c");
    advance_all(&shorter);
    assert_eq!(stage.refused(&shorter), "log_forked");
    assert_eq!(fs::read(stage.directory().join("checkpoint")).unwrap(), before);
}

#[test]
fn what_was_changed_in_the_archive_is_never_written_over() {
    let stage = Stage::new();
    let (log, _) = stage.log(300, "a");
    stage.round(&stage.archive(), &log).unwrap();
    type Change = fn(&mut Vec<u8>);
    let rows: [(&str, Change, &str); 4] = [
        ("tile/0/000", |bytes| bytes[7] ^= 1, "archive_differs"),
        ("tile/entries/001.p/44", |bytes| bytes.truncate(9), "archive_differs"),
        ("checkpoints/00000000000000000300/checkpoint", |bytes| bytes[0] ^= 1, "archive_differs"),
        ("log", |bytes| bytes[0] ^= 1, "archive_of_another_log"),
    ];
    for (name, change, refused) in rows {
        let path = stage.directory().join(name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444, "{name}");
        let (was, _) = (fs::read(&path).unwrap(), stage.forgets());
        changed(&path, change);
        let broken = fs::read(&path).unwrap();
        assert_eq!(stage.refused(&log), refused, "{name}");
        assert_eq!(fs::read(&path).unwrap(), broken, "{name}");
        changed(&path, |bytes| *bytes = was);
        stage.round(&stage.archive(), &log).unwrap();
    }
}

#[test]
fn what_is_missing_or_unreadable_is_told_when_it_is_read_back() {
    let stage = Stage::new();
    let (log, _) = stage.log(300, "a");
    let archive = stage.archive();
    let ask = |call| archive.answer(&log, call, &mut |_: Value| {}).unwrap_err().name;
    assert_eq!(ask(ArchiveCall::Head { size: None }), "archive_empty");
    stage.round(&archive, &log).unwrap();
    assert_eq!(ask(ArchiveCall::Head { size: Some(299) }), "archive_empty");
    let tiles = |path: &str| ArchiveCall::Tiles { tiles: vec![path.into()] };
    assert_eq!(ask(tiles("tile/0/002")), "archive_missing");
    assert_eq!(ask(tiles("../store/archive.json")), "tile_path_invalid");
    fs::write(stage.directory().join("checkpoint.certificates"), "!").unwrap();
    assert_eq!(ask(ArchiveCall::Head { size: None }), "archive_damaged");
    fs::write(stage.directory().join("checkpoint"), "no note").unwrap();
    assert_eq!(ask(ArchiveCall::Head { size: None }), "archive_damaged");
}
