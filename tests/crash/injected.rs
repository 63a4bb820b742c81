//! SIGKILL at each write-class system call of a short life, and disks that fail or are full at one.

use std::collections::BTreeMap;

use crate::bank::{Bank, Options};
use crate::seed::{Chance, runs};
use crate::trace::{WRITE_CLASS, strace};

/// A short life, on a store that has one already.
fn life() -> Options {
    Options { callers: 1, steps: Some(10), faults: 12, ..Options::default() }
}

fn lived_before() -> Bank {
    let mut bank = Bank::new("injected");
    let first = Options { callers: 1, steps: Some(40), ..Options::default() };
    assert!(bank.run(&first).success(), "{}", bank.context());
    bank
}

/// Calls of a life by name: the most that one thread makes, which is how strace counts them.
fn calls(bank: &Bank) -> BTreeMap<String, u64> {
    let mut copy = bank.copy();
    let output = copy.directory.path().join("calls");
    let under = strace(&output, &["-e", &format!("trace={WRITE_CLASS}")]);
    assert!(copy.run(&Options { under, ..life() }).success(), "{}", copy.context());
    most_of_a_thread(&std::fs::read_to_string(output).unwrap())
}

/// Calls by name in what strace wrote: the most that one thread makes.
pub fn most_of_a_thread(traced: &str) -> BTreeMap<String, u64> {
    let mut of_threads = BTreeMap::<(String, String), u64>::new();
    for line in traced.lines() {
        let (thread, call) = line.split_once(char::is_whitespace).unwrap();
        let name = call.trim_start().split('(').next().unwrap();
        // Neither signals nor what was interrupted and goes on.
        if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
            *of_threads.entry((name.to_owned(), thread.to_owned())).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((name, _), count) in of_threads {
        let known: &mut u64 = most.entry(name).or_default();
        *known = count.max(*known);
    }
    most
}

/// The life with this injection; then the same bank without, which must come to its end and be sound.
fn injected(bank: &Bank, call: &str, what: &str) -> Bank {
    let mut hurt = bank.copy();
    let output = std::path::Path::new("/dev/null");
    let (traced, injection) = (format!("trace={call}"), format!("inject={call}:{what}"));
    hurt.run(&Options { under: strace(output, &["-e", &traced, "-e", &injection]), ..life() });
    hurt.is_sound();
    let ended = hurt.run(&Options { callers: 2, steps: Some(2), ..Options::default() });
    assert!(ended.success(), "after {injection}: {}", hurt.context());
    hurt.is_sound();
    hurt
}

/// Every call of the life in the long run; otherwise some of each name, others each time.
fn some_of_each(calls: BTreeMap<String, u64>, slice: u64) -> Vec<(String, u64)> {
    let mut chance = Chance::new("injected");
    let most = runs(slice);
    let mut some = vec![];
    for (name, count) in calls {
        let stride = count.div_ceil(most).max(1);
        let first = 1 + chance.below(stride);
        some.extend((first..=count).step_by(usize::try_from(stride).unwrap()).map(|number| (name.clone(), number)));
    }
    some
}

#[test]
fn killed_at_any_write_class_call_it_comes_back_whole() {
    let bank = lived_before();
    let some = some_of_each(calls(&bank), 4);
    for (call, number) in &some {
        injected(&bank, call, &format!("signal=KILL:when={number}"));
    }
    println!("{} calls", some.len());
}

#[test]
fn a_disk_that_fails_or_is_full_at_any_call_loses_nothing_that_was_acknowledged() {
    let bank = lived_before();
    let of_disk = |(call, _): &(String, u64)| call != "write";
    let some: Vec<_> = some_of_each(calls(&bank), 2).into_iter().filter(of_disk).collect();
    for (call, number) in &some {
        // Once, and from then on.
        for when in [format!("{number}"), format!("{number}+")] {
            let error = if call.contains("sync") || number % 2 == 0 { "EIO" } else { "ENOSPC" };
            injected(&bank, call, &format!("error={error}:when={when}"));
        }
    }
    println!("{} calls", some.len());
}
