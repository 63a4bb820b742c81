//! Copies of a log in a directory, and proofs of single leaves: what an auditor takes away and checks alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign::audit::Log;
use countersign::audit::copy::Copy;
use countersign::audit::prove::{LeafChoice, SignedHead};
use countersign::kernel::leaf_proof::verify;
use countersign::kernel::tile::{Tile, TileKind, grown, grown_count};
use countersign::ops::failure::{Failure, Kind};
use serde_json::json;

use super::log::{advance_all, open};
use super::memory::MemoryStore;
use super::parties::{Bank, OID_BASE};

/// A log, and more of it when it is asked for.
struct Growing {
    bank: Bank,
    store: Arc<MemoryStore>,
    log: Arc<Log>,
}

impl Growing {
    fn new() -> Self {
        let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
        let log = open(&bank, &store);
        Self { bank, store, log }
    }

    fn grow(&self, leaves: usize, word: &str) {
        for number in 0..leaves {
            self.store.add_leaf(&json!({ "at": "2026-11-22T10:00:00.000Z", "number": number, "word": word }));
        }
        advance_all(&self.log);
    }

    fn copy_to(&self, directory: &Path) -> Result<u64, Failure> {
        let fetch = |tiles: &[Tile]| tiles.iter().map(|tile| self.log.tile(*tile)).collect();
        Copy::at(directory).update(&self.log.head(Duration::ZERO)?, OID_BASE, fetch, |_, _| {})
    }

    fn verify(&self, directory: &Path) -> Result<u64, Failure> {
        let verified = Copy::at(directory).verify(&self.bank.root, None, OID_BASE, |_, _| {});
        verified.map(|found| found.checkpoint.size)
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_copy_grows_with_the_log_and_verifies_alone_at_every_size() {
    let log = Growing::new();
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("copy");
    assert_eq!(log.log.head(Duration::ZERO).unwrap_err().name, "log_empty");
    let mut size = 0;
    for more in [1, 254, 1, 1, 255, 188] {
        log.grow(more, "a");
        size += more as u64;
        log.copy_to(&place).unwrap();
        assert_eq!(log.verify(&place).unwrap(), size);
        // Nothing is written twice.
        assert_eq!(log.copy_to(&place).unwrap(), 0);
    }
    // 700 leaves: two full tiles and a partial one of each kind, and the level above.
    let there: BTreeSet<String> =
        files(&place).iter().map(|path| path.strip_prefix(&place).unwrap().display().to_string()).collect();
    for path in ["checkpoint", "tile/0/001", "tile/0/002.p/188", "tile/1/000.p/2", "tile/entries/002.p/188"] {
        assert!(there.contains(path), "{path}: {there:?}");
    }
    // Made at once it is the same, but for the partial tiles of the sizes between.
    let anew = directory.path().join("anew");
    log.copy_to(&anew).unwrap();
    for file in files(&anew) {
        let same = place.join(file.strip_prefix(&anew).unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&same).unwrap(), "{}", file.display());
    }
}

/// Tiles are for reading: whoever changes one makes another file.
fn put(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).ok();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_head_that_its_party_has_not_signed_leaves_the_copy_as_it_was() {
    let (log, stranger) = (Growing::new(), Growing::new());
    log.grow(5, "a");
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    log.copy_to(place).unwrap();
    let before: Vec<(PathBuf, Vec<u8>)> =
        files(place).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    log.grow(3, "a");
    stranger.grow(5, "a");
    stranger.grow(3, "a");
    let head = log.log.head(Duration::ZERO).unwrap();
    let of_stranger = stranger.log.head(Duration::ZERO).unwrap();
    let signature = head.checkpoint.rsplit_once(' ').unwrap().1.to_owned();
    let other = of_stranger.checkpoint.rsplit_once(' ').unwrap().1.to_owned();
    let table = [
        (
            "another's signature",
            "checkpoint_signature_invalid",
            SignedHead { checkpoint: head.checkpoint.replace(&signature, &other), ..head.clone() },
        ),
        ("another party's head of the same leaves", "chain_root", of_stranger),
        ("no certificates", "chain_length", SignedHead { chain: vec![], ..head.clone() }),
    ];
    let fetch = |tiles: &[Tile]| tiles.iter().map(|tile| log.log.tile(*tile)).collect();
    for (what, name, head) in table {
        let failure = Copy::at(place).update(&head, OID_BASE, fetch, |_, _| {}).expect_err(what);
        assert!(failure.name == name || failure.name.starts_with("chain_"), "{what}: {failure:?}");
        let now: Vec<(PathBuf, Vec<u8>)> =
            files(place).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        assert_eq!(now, before, "{what}");
    }
    Copy::at(place).update(&head, OID_BASE, fetch, |_, _| {}).unwrap();
    assert_eq!(log.verify(place).unwrap(), 8);
}

#[test]
fn as_many_tiles_are_named_as_a_log_grew_by() {
    for size in [0, 1, 255, 256, 257, 511, 512, 700, 65_535, 65_536, 65_537, 131_073] {
        for old in [0, 1, 255, 256, 700, 65_536, 131_072, 200_000] {
            assert_eq!(grown_count(old, size), grown(old, size).count() as u64, "{old} to {size}");
        }
    }
}

#[test]
fn a_log_of_three_levels_is_copied_and_verified() {
    let log = Growing::new();
    log.grow(66_000, "a");
    let directory = tempfile::tempdir().unwrap();
    log.copy_to(directory.path()).unwrap();
    assert_eq!(log.verify(directory.path()).unwrap(), 66_000);
    for file in files(directory.path()).iter().filter(|file| file.to_string_lossy().contains("/tile/")) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o444, "{}", file.display());
    }
    assert!(directory.path().join("tile/2/000.p/1").is_file());
    let above = directory.path().join("tile/2/000.p/1");
    put(&above, &[0; 32]);
    assert_eq!(log.verify(directory.path()).unwrap_err().name, "copy_damaged");
}

#[test]
fn whatever_is_changed_in_a_copy_is_found() {
    let log = Growing::new();
    log.grow(300, "a");
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    log.copy_to(place).unwrap();
    let names = ["copy_damaged", "copy_missing", "checkpoint_malformed", "checkpoint_signature_invalid"];
    let found = |what: &str, path: &Path| {
        let failure = log.verify(place).map(drop).expect_err(what);
        let is_named = names.contains(&failure.name.as_str()) || failure.name.starts_with("chain_");
        assert!(is_named, "{what} {}: {} {}", path.display(), failure.name, failure.message);
    };
    let all = files(place);
    assert_eq!(all.len(), 7, "{all:?}");
    for path in &all {
        let bytes = std::fs::read(path).unwrap();
        let step = (bytes.len() / 40).max(1);
        for at in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            let mut other = bytes.clone();
            other[at] ^= 1;
            put(path, &other);
            found(&format!("byte {at}"), path);
        }
        for (what, other) in [
            ("empty", vec![]),
            ("shorter", bytes[..bytes.len() - 1].to_vec()),
            ("a hash shorter", bytes[..bytes.len() - 32.min(bytes.len())].to_vec()),
            ("longer", [&bytes[..], &[0]].concat()),
            ("twice", [&bytes[..], &bytes].concat()),
        ] {
            put(path, &other);
            found(what, path);
        }
        std::fs::remove_file(path).unwrap();
        found("removed", path);
        put(path, &bytes);
    }
    // Two files changed for each other, and the whole copy of another log.
    let (one, two) = (place.join("tile/0/000"), place.join("tile/entries/000"));
    let (first, second) = (std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
    put(&one, &second);
    put(&two, &first);
    found("exchanged", &one);
    put(&one, &first);
    put(&two, &second);
    assert_eq!(log.verify(place).unwrap(), 300);
    let other = Growing::new();
    let refused = Copy::at(place).verify(&other.bank.root, None, OID_BASE, |_, _| {}).unwrap_err();
    assert_eq!((refused.name.as_str(), refused.kind), ("chain_root_differs", Kind::Refused));
}

#[test]
fn a_log_that_was_rewritten_cut_or_exchanged_is_refused_and_the_copy_kept() {
    let honest = Growing::new();
    honest.grow(300, "a");
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    honest.copy_to(place).unwrap();
    let kept: Vec<_> = files(place).iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    for (leaves, word, name) in
        [(200, "a", "log_rolled_back"), (300, "b", "log_forked"), (301, "b", "log_forked"), (900, "b", "log_forked")]
    {
        // The same keys and the same name, another history.
        let store = Arc::new(MemoryStore::default());
        let log = open(&honest.bank, &store);
        let other = Growing { bank: Bank::new(), store, log };
        other.grow(leaves, word);
        let refused = other.copy_to(place).map(drop);
        let refused = match refused {
            // A tree of the size that is there already has nothing to fetch: it is the checkpoint that differs.
            Ok(()) => panic!("{leaves} {word} was taken"),
            Err(failure) => failure,
        };
        assert_eq!((refused.name.as_str(), refused.kind), (name, Kind::Refused), "{leaves} {word}");
        for (path, bytes) in &kept {
            assert_eq!(&std::fs::read(path).unwrap(), bytes, "{leaves} {word}: {}", path.display());
        }
    }
    honest.grow(700, "a");
    honest.copy_to(place).unwrap();
    assert_eq!(honest.verify(place).unwrap(), 1_000);
}

#[test]
fn every_leaf_is_proven_and_no_other_file_proves_anything() {
    let log = Growing::new();
    log.grow(70, "a");
    for index in 0..70 {
        let proof = log.log.prove(&LeafChoice::Index(index)).unwrap();
        let verdict = verify(proof.as_bytes(), &log.bank.root, OID_BASE).unwrap();
        assert_eq!((verdict.index(), &verdict.body()["number"]), (index, &json!(index)));
        assert_eq!(verdict.checkpoint().size, 70);
    }
    assert_eq!(log.log.prove(&LeafChoice::Index(70)).unwrap_err().name, "unknown_leaf");
    let transaction = "txn_01KAPRQ8ZT0000000000000000".parse().unwrap();
    assert_eq!(log.log.prove(&LeafChoice::Transaction(transaction)).unwrap_err().name, "unknown_leaf");
    log.store.add_leaf(&json!({ "at": "2026-11-22T10:00:00.000Z" }));
    assert_eq!(log.log.prove(&LeafChoice::Index(70)).unwrap_err().name, "unknown_leaf");

    let proof = log.log.prove(&LeafChoice::Index(41)).unwrap().into_bytes();
    for at in 0..proof.len() {
        for bit in [0, 5] {
            let mut other = proof.clone();
            other[at] ^= 1 << bit;
            assert!(verify(&other, &log.bank.root, OID_BASE).is_err(), "byte {at}, bit {bit}");
        }
    }
    assert!(verify(&proof[..proof.len() - 1], &log.bank.root, OID_BASE).is_err());
    let name = |bytes: &[u8], root: &[u8]| verify(bytes, root, OID_BASE).unwrap_err().name();
    assert_eq!(name(&proof, &Bank::new().root), "chain_root_differs");
    assert_eq!(name(b"", &log.bank.root), "proof_malformed");
    assert_eq!(name(&vec![b'a'; 1 << 21], &log.bank.root), "proof_too_large");
    // What proves one leaf does not prove its neighbour.
    let text = String::from_utf8(proof).unwrap();
    assert_eq!(name(text.replace("\nindex 41\n", "\nindex 42\n").as_bytes(), &log.bank.root), "leaf_not_in_log");
}

#[test]
fn tiles_beyond_the_signed_log_are_refused() {
    let log = Growing::new();
    log.grow(300, "a");
    for path in ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/7"] {
        assert!(log.log.tile(Tile::parse(path).unwrap()).is_ok(), "{path}");
    }
    for path in
        ["tile/0/001", "tile/0/001.p/45", "tile/1/000.p/2", "tile/2/000.p/1", "tile/7/000.p/1", "tile/entries/002.p/1"]
    {
        assert_eq!(log.log.tile(Tile::parse(path).unwrap()).unwrap_err().name, "unknown_tile", "{path}");
    }
    let whole = Tile { kind: TileKind::Entries, index: u64::MAX >> 8, width: 256 };
    assert_eq!(log.log.tile(whole).unwrap_err().name, "unknown_tile");
}
