//! Published Merkle proofs, good and bad, against our verification.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::kernel::merkle::{verify_consistency, verify_inclusion};
use countersign::kernel::types::Sha256;
use serde_json::Value;

/// From the test data of github.com/transparency-dev/merkle; outside the checkout, as it is not ours.
fn archive() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/testdata");
    std::env::var_os("COUNTERSIGN_TESTDATA").map_or(beside, PathBuf::from).join("merkle-testdata.tar.xz")
}

#[test]
fn published_proofs_are_accepted_and_refused_as_published() {
    let archive = archive();
    if !archive.is_file() {
        println!("skipped: {} is not here", archive.display());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let unpacked = std::process::Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(directory.path()).status();
    assert!(unpacked.unwrap().success(), "tar and xz-utils are needed");
    let mut files = Vec::new();
    collect(directory.path(), &mut files);
    let mut refused = 0;
    for file in &files {
        let case: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let accepted = accepts(&case);
        assert_eq!(accepted, case["wantErr"] == false, "{}: {}", file.display(), case["desc"]);
        refused += usize::from(!accepted);
    }
    assert_eq!((files.len(), refused), (518, 482));
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn accepts(case: &Value) -> bool {
    let number = |name: &str| case[name].as_u64().unwrap();
    let hash = |name: &str| digest(&case[name]);
    let path: Vec<Sha256> =
        case["proof"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(digest).collect();
    let empty = |name: &str| case.get(name).is_some_and(|value| value == "");
    if empty("leafHash") || empty("root") {
        // Our types have no empty hash: it is refused where it is read.
        return false;
    }
    match (case.get("start").is_some(), case.get("leafIdx").is_some()) {
        (false, true) => {
            verify_inclusion(&hash("leafHash"), number("leafIdx"), number("treeSize"), &path, &hash("root"))
        }
        (false, false) => verify_consistency(number("size1"), number("size2"), &hash("root1"), &hash("root2"), &path),
        // A proof in a subtree is one in the tree of its leaves alone.
        (true, true) => {
            let (start, end) = (number("start"), number("end"));
            is_subtree(start, end)
                && number("leafIdx")
                    .checked_sub(start)
                    .is_some_and(|index| verify_inclusion(&hash("leafHash"), index, end - start, &path, &hash("root")))
        }
        // The empty subtree has the empty root and an empty proof; every other published one that is valid starts
        // at the first leaf, which makes it a tree.
        (true, false) => {
            let (start, end) = (number("start"), number("end"));
            if start == end {
                return path.is_empty() && hash("root1") == Sha256::of(&[]) && end <= number("size");
            }
            is_subtree(start, end)
                && start == 0
                && verify_consistency(end, number("size"), &hash("root1"), &hash("root2"), &path)
        }
    }
}

/// draft-ietf-plants-merkle-tree-certs: not empty, and starts at a multiple of its width rounded up to a power of two.
fn is_subtree(start: u64, end: u64) -> bool {
    let rounded = end.checked_sub(start).filter(|width| *width > 0).and_then(u64::checked_next_power_of_two);
    rounded.is_some_and(|rounded| start.is_multiple_of(rounded))
}

/// Some rows hold roots that are no hashes, to be compared only; a hash stands for them.
fn digest(value: &Value) -> Sha256 {
    let bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
    <[u8; 32]>::try_from(bytes.as_slice()).map_or_else(|_| Sha256::of(&[b"no hash: ", &bytes]), Sha256)
}
