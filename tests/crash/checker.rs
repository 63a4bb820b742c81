//! Runs the independent checker.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the checker found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Its own words about what it looked at.
    Sound(String),
    /// Names of differences, and everything it printed.
    Differences(Vec<String>, String),
}

pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checker")
}

/// A command for one of the checker's programs.
pub fn program(name: &str) -> Command {
    let mut command = Command::new("python3");
    // Nothing is written into the source tree.
    command.arg("-B").arg(directory().join(name));
    command
}

pub fn check(store: &str, journal: &Path) -> Found {
    let output = program("check.py")
        .arg(store)
        .arg("--journal")
        .arg(journal)
        .output()
        .unwrap_or_else(|error| panic!("python3 does not start ({error}): install the package python3"));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Found::Sound(told.trim().to_owned()),
        Some(1 | 2) if complaint.is_empty() => {
            let name = |line: &str| Some(line.split_once(": ")?.0.to_owned());
            let mut names: Vec<String> = told.lines().filter_map(name).collect();
            names.dedup();
            Found::Differences(names, told)
        }
        _ => panic!("the checker failed: {told}{complaint}"),
    }
}
