//! Takes from the front everything that it does not need: paths, PIN files and token directories above all, signals
//! and abstract sockets of other processes (Landlock), and the way of its memory into a dump or a debugger.
//!
//! Landlock applies to the calling thread and what it starts, so it is called first thing in the front, before any
//! thread. It does not govern `stat`, `chmod` and connecting to sockets that have a path: these are what a user of
//! its own is for.

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use crate::ops::paths::StateDir;

/// What became of the confinement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Confinement {
    Applied,
    /// The kernel has no Landlock, or the rules could not be built: the reason, for `doctor` and tests.
    NotAvailable(String),
}

/// Files are read, written, made and replaced. Not granted: running them; device nodes, which open the raw disk to
/// root whatever the path rules say; links, pipes, and moving a file from one place to another.
const KEEPS: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile
});
const READS: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
/// Inside the state directory. `pins/`, `softhsm/`, `identity/`, the configuration and the lock are not
/// here.
const STATE_PLACES: [&str; 6] = ["run", "store", "tiles", "receipts", "anchors", "certs"];
/// Where it makes sockets.
const SOCKETS: &str = "run";
/// Randomness, a place to write nothing to, its own limits and memory map (a thread's stack needs it). No library
/// directory: everything is linked at start, and what cannot be opened cannot be loaded, a PKCS#11 module above all.
/// No `/etc`: the front looks up no names, and credentials lie there.
const SYSTEM_PLACES: [(&str, BitFlags<AccessFs>); 5] = [
    ("/dev/null", make_bitflags!(AccessFs::{ReadFile | WriteFile})),
    ("/dev/random", make_bitflags!(AccessFs::{ReadFile})),
    ("/dev/urandom", make_bitflags!(AccessFs::{ReadFile})),
    ("/proc/self", READS),
    ("/sys/fs/cgroup", READS),
];
/// Newest access rights that these rules know; an older kernel enforces what it has.
const KNOWN: ABI = ABI::V6;

/// Confines the front. Configuration and lock must be open already. Missing places of the state directory are made
/// (mode 0700), since only what exists can be granted. `outside` is a directory that it writes to as well.
pub fn confine_front(state: &StateDir, outside: Option<&std::path::Path>) -> Confinement {
    match keep_memory_in().and_then(|()| restrict(state, outside)) {
        Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced) => Confinement::Applied,
        Ok(RulesetStatus::NotEnforced) => Confinement::NotAvailable("this kernel does not enforce Landlock".into()),
        Err(reason) => Confinement::NotAvailable(reason),
    }
}

/// No core dump and no debugger of the same user: the front has no PIN, but customers' data and TLS secrets. The
/// limit alone does not keep a dump from a `core_pattern` that is a pipe (core(5)).
fn keep_memory_in() -> Result<(), String> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)
        .and_then(|()| rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| format!("core dumps cannot be switched off: {error}"))
}

fn restrict(state: &StateDir, outside: Option<&std::path::Path>) -> Result<RulesetStatus, String> {
    let unbuilt = |error: RulesetError| format!("the Landlock rules could not be built: {error}");
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(KNOWN)))
        .and_then(Ruleset::create)
        .map_err(unbuilt)?;
    for place in STATE_PLACES {
        let path = state.resolve(place);
        private_directory(&path).map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
        let open = PathFd::new(&path).map_err(|error| error.to_string())?;
        let access = if place == SOCKETS { KEEPS | AccessFs::MakeSock } else { KEEPS };
        ruleset = ruleset.add_rule(PathBeneath::new(open, access)).map_err(unbuilt)?;
    }
    if let Some(path) = outside {
        let open = PathFd::new(path).map_err(|error| error.to_string())?;
        ruleset = ruleset.add_rule(PathBeneath::new(open, KEEPS)).map_err(unbuilt)?;
    }
    for (place, access) in SYSTEM_PLACES {
        // Not every system has every one of them; what cannot be opened is not granted.
        let Ok(open) = PathFd::new(place) else {
            continue;
        };
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

    // What is denied in a whole front process is tried in tests/inside.

    #[test]
    fn a_confined_thread_cannot_open_pins_but_can_write_its_store() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::new(directory.path());
        std::fs::create_dir(state.resolve("pins")).unwrap();
        std::fs::write(state.resolve("pins/a.pin"), "secret").unwrap();
        let inside = state.clone();
        let outcome = std::thread::spawn(move || {
            let status = restrict(&inside, None);
            let pin = std::fs::read(inside.resolve("pins/a.pin")).is_ok();
            let store = std::fs::write(inside.resolve("store/x"), "y").is_ok();
            (status, pin, store)
        });
        let (status, pin, store) = outcome.join().unwrap();
        assert!(store);
        match status.unwrap() {
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => assert!(!pin),
            RulesetStatus::NotEnforced => eprintln!("skipped: this kernel does not enforce Landlock"),
        }
    }
}
