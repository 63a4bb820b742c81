//! Clocks that jump between and during lives: limits hold on every day there was, and keys are never forgotten.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::bank::{Bank, Options};
use crate::seed::{Chance, runs};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

#[test]
fn a_clock_that_jumps_between_lives_forgets_no_key_and_lifts_no_limit() {
    let mut chance = Chance::new("clocks");
    for _ in 0..runs(1).min(40) {
        let mut bank = Bank::new("clocks");
        for jump in [DAY_MS, -HOUR_MS, -3 * DAY_MS, 40 * DAY_MS, -20 * DAY_MS, 3 * DAY_MS, -DAY_MS] {
            bank.run_and_kill(&Options { callers: 4, ..Options::default() }, 40 + chance.below(300));
            bank.is_sound();
            bank.clock_ms += jump + i64::try_from(chance.below(7_200_000)).unwrap();
        }
        assert!(bank.run(&Options { steps: Some(10), ..Options::default() }).success(), "{}", bank.context());
        bank.is_sound();
    }
}

/// libfaketime, wherever this Debian architecture keeps it.
fn faketime() -> String {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten();
    let library = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    library.expect("libfaketime is there: install the package faketime").display().to_string()
}

/// The clock of a running process from here on, in days from now. Replaced as a whole: it is read at each look.
fn set(file: &Path, days: i64) {
    let (next, name) = (file.with_extension("next"), file.with_extension(format!("at{days}")));
    fs::write(&name, format!("{days:+}d\n")).unwrap();
    let _ = fs::remove_file(&next);
    symlink(&name, &next).unwrap();
    fs::rename(&next, file).unwrap();
}

#[test]
fn a_clock_that_jumps_under_a_running_store_changes_nothing_that_was_promised() {
    let mut bank = Bank::new("clocks-running");
    let file = bank.directory.path().join("clock");
    set(&file, 0);
    let environment = [
        ("LD_PRELOAD", faketime()),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let options = Options { environment, real_clock: true, ..Options::default() };
    let mut running = bank.start(&options);
    for days in [1, -3, 30, -1, 300, 2] {
        assert!(bank.note_some(&mut running, 150), "{}", bank.context());
        set(&file, days);
    }
    assert!(bank.note_some(&mut running, 150), "{}", bank.context());
    running.kill();
    bank.note_all(&mut running);
    bank.is_sound();
    let stamps = fs::read_to_string(bank.journal_path()).unwrap();
    let days: std::collections::BTreeSet<i64> = stamps
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?["at"].as_i64())
        .map(|at| at.div_euclid(DAY_MS))
        .collect();
    assert!(days.len() >= 5, "the clock did not jump: {days:?}");
    assert!(bank.run(&Options { steps: Some(10), ..options }).success(), "{}", bank.context());
    bank.is_sound();
}
