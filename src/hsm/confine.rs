//! Denies the front everything on disk that it does not need, PIN files and token directories above all (Landlock).
//!
//! Applies to the calling thread and what it starts, so it is called first thing in the front, before any thread.

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus,
};

use crate::ops::paths::StateDir;

/// What became of the confinement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Confinement {
    Applied,
    /// The kernel has no Landlock, or the rules could not be built: the reason, for `doctor` and tests.
    NotAvailable(String),
}

/// Inside the state directory: read and write. `pins/`, `softhsm/`, the configuration and the lock are not here.
const STATE_PLACES: [&str; 6] = ["run", "store", "tiles", "receipts", "anchors", "certs"];
/// Read (and execute, for shared libraries).
const SYSTEM_PLACES: [&str; 6] = ["/usr", "/lib", "/lib64", "/etc", "/proc/self", "/dev"];
/// Newest access rights that these rules know; an older kernel enforces what it has.
const KNOWN: ABI = ABI::V5;

/// Confines the calling thread. Configuration and lock must be open already. Missing places of the state directory
/// are made (mode 0700), since only what exists can be granted.
pub fn confine_front(state: &StateDir) -> Confinement {
    match restrict(state) {
        Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced) => Confinement::Applied,
        Ok(RulesetStatus::NotEnforced) => Confinement::NotAvailable("this kernel does not enforce Landlock".into()),
        Err(reason) => Confinement::NotAvailable(reason),
    }
}

fn restrict(state: &StateDir) -> Result<RulesetStatus, String> {
    let unbuilt = |error: RulesetError| format!("the Landlock rules could not be built: {error}");
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(Ruleset::create)
        .map_err(unbuilt)?;
    for place in STATE_PLACES {
        let path = state.resolve(place);
        private_directory(&path).map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
        let open = PathFd::new(&path).map_err(|error| error.to_string())?;
        ruleset = ruleset.add_rule(PathBeneath::new(open, AccessFs::from_all(KNOWN))).map_err(unbuilt)?;
    }
    for place in SYSTEM_PLACES {
        // Not every system has every one of them; what cannot be opened is not granted.
        let Ok(open) = PathFd::new(place) else {
            continue;
        };
        let mut access = AccessFs::from_read(KNOWN);
        if place == "/dev" {
            access |= AccessFs::WriteFile | AccessFs::IoctlDev;
        }
        ruleset = ruleset.add_rule(PathBeneath::new(open, access)).map_err(unbuilt)?;
    }
    Ok(ruleset.restrict_self().map_err(unbuilt)?.ruleset)
}

/// Makes a directory with mode 0700 unless it is there.
pub(super) fn private_directory(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confined_thread_cannot_open_pins_but_can_write_its_store() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::new(directory.path());
        std::fs::create_dir(state.resolve("pins")).unwrap();
        std::fs::write(state.resolve("pins/a.pin"), "secret").unwrap();
        let inside = state.clone();
        let outcome = std::thread::spawn(move || {
            let confinement = confine_front(&inside);
            let pin = std::fs::read(inside.resolve("pins/a.pin")).is_ok();
            let store = std::fs::write(inside.resolve("store/x"), "y").is_ok();
            (confinement, pin, store)
        });
        match outcome.join().unwrap() {
            (Confinement::Applied, pin, store) => assert_eq!((pin, store), (false, true)),
            (Confinement::NotAvailable(reason), _, store) => {
                eprintln!("skipped: {reason}");
                assert!(store && !reason.is_empty());
            }
        }
    }
}
