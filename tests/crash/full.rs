//! A disk that fills up under load, and has room again.

use std::process::Command;

use crate::bank::{Bank, Options};

/// Room for the store at first, and for some minutes of payments.
const DISK_KIB: u32 = 3 * 1024;

/// A small disk of memory over the store's directory, in a mount namespace of its own: it goes with the process, and
/// what it held is left beside.
const SCRIPT: &str = r#"
cp -a "$1" "$1.before" && mount -t tmpfs -o size="$2k" none "$1" && cp -a "$1.before/." "$1/" || exit 99
disk=$1; shift 2
"$@"; code=$?
cp -a "$disk" "$disk.after"; exit $code
"#;

fn mounts_are_allowed() -> bool {
    let tried = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).output();
    tried.expect("unshare is there: install the package util-linux").status.success()
}

#[test]
fn a_disk_that_fills_up_loses_nothing_that_was_acknowledged() {
    if !mounts_are_allowed() {
        println!("skipped: this kernel lets no user mount; ENOSPC is injected in `injected`");
        return;
    }
    let mut bank = Bank::new("full");
    assert!(bank.run(&Options { steps: Some(5), ..Options::default() }).success(), "{}", bank.context());
    let store = bank.directory.path().join("store");
    let words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh"];
    let mut under: Vec<String> = words.map(str::to_owned).to_vec();
    under.extend([store.display().to_string(), DISK_KIB.to_string()]);
    let ended = bank.run(&Options { under, faults: 12, ..Options::default() });
    assert_eq!(ended.code(), Some(1), "the disk was never full: {}", bank.context());
    // Everything as it was left on the small disk, now on one with room.
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::rename(store.with_extension("after"), &store).unwrap();
    bank.is_sound();
    let told = std::fs::read_to_string(bank.journal_path()).unwrap();
    assert!(told.contains("\"fault\""), "nobody was told of the full disk");
    assert!(bank.run(&Options { steps: Some(20), ..Options::default() }).success(), "{}", bank.context());
    bank.is_sound();
}
