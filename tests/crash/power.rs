//! Power loss at every step: what was written and not synced is gone, there, or there in part.
//!
//! SIGKILL keeps what the kernel has taken; a power cut does not. One traced run of a load tells every write, every
//! sync and every answer in order, so the disk can be made as it may be after a cut at each point between them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::bank::{Bank, Options};
use crate::checker::Found;
use crate::seed::{Chance, runs};
use crate::trace::{Event, traced};

const SECTOR: usize = 512;

/// What becomes of writes that were not synced.
#[derive(Clone, Copy, Debug)]
pub enum Unsynced {
    Lost,
    /// The process alone died.
    Kept,
    /// Any of them, and of each any sectors.
    Torn,
}

/// One file: what is safe, and what has been done to it since.
#[derive(Clone, Default)]
struct Platter {
    safe: Option<Vec<u8>>,
    since: Vec<Event>,
}

/// The store's files as a disk may have them.
pub struct Disk {
    files: BTreeMap<PathBuf, Platter>,
}

impl Disk {
    /// Everything in the store's directory is safe.
    pub fn of(bank: &Bank) -> Self {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(bank.directory.path().join("store")).unwrap() {
            let path = entry.unwrap().path();
            let safe = Some(std::fs::read(&path).unwrap());
            files.insert(path, Platter { safe, since: vec![] });
        }
        Self { files }
    }

    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Synced { path } => {
                if let Some(file) = self.files.get_mut(path) {
                    file.safe = file.as_after(|_| true, |_, _| true);
                    file.since.clear();
                }
            }
            Event::Write { path, .. } | Event::Truncate { path, .. } | Event::Unlink { path } => {
                self.files.entry(path.clone()).or_default().since.push(event.clone());
            }
            Event::Told(_) => {}
        }
    }

    /// Writes the files into the directory of another bank's store.
    pub fn restore(&self, unsynced: Unsynced, chance: &mut Chance, store: &Path) {
        std::fs::remove_dir_all(store).unwrap();
        std::fs::create_dir(store).unwrap();
        for (path, file) in &self.files {
            // The index of the write-ahead log is memory shared by processes: made anew when there are none.
            if path.to_string_lossy().ends_with("-shm") {
                continue;
            }
            let (whole, sectors): (Vec<bool>, u64) =
                (file.since.iter().map(|_| chance.below(2) == 0).collect(), chance.next());
            let content = match unsynced {
                Unsynced::Lost => file.safe.clone(),
                Unsynced::Kept => file.as_after(|_| true, |_, _| true),
                Unsynced::Torn => file.as_after(
                    |number| whole[number],
                    |number, sector| (sectors.rotate_left((number * 7 + sector) as u32 % 64)) & 3 != 0,
                ),
            };
            if let Some(content) = content {
                std::fs::write(store.join(path.file_name().unwrap()), content).unwrap();
            }
        }
    }
}

impl Platter {
    /// The content when these steps, and of writes these sectors, have reached the disk.
    fn as_after(&self, step: impl Fn(usize) -> bool, sector: impl Fn(usize, usize) -> bool) -> Option<Vec<u8>> {
        let mut content = self.safe.clone();
        for (number, event) in self.since.iter().enumerate().filter(|(number, _)| step(*number)) {
            match event {
                Event::Write { offset, bytes, .. } => {
                    let content = content.get_or_insert_default();
                    for (part, chunk) in bytes.chunks(SECTOR).enumerate().filter(|(part, _)| sector(number, *part)) {
                        let at = offset + part * SECTOR;
                        content.resize(content.len().max(at + chunk.len()), 0);
                        content[at..at + chunk.len()].copy_from_slice(chunk);
                    }
                }
                Event::Truncate { length, .. } => content.get_or_insert_default().resize(*length, 0),
                Event::Unlink { .. } => content = None,
                Event::Synced { .. } | Event::Told(_) => {}
            }
        }
        content
    }
}

/// Cuts the power at every `stride`th point of a short life; `judge` gets the bank as it is afterwards.
pub fn cut_everywhere(options: &Options, stride: usize, mut judge: impl FnMut(&mut Bank, usize, Unsynced)) {
    let mut bank = Bank::new("power");
    let first = Options { callers: 1, steps: Some(40), ..Options::default() };
    assert!(bank.run(&first).success(), "{}", bank.context());
    let mut disk = Disk::of(&bank);
    let before = bank.copy();
    let events = traced(&mut bank, options);
    let mut chance = Chance::new("power");
    let offset = usize::try_from(chance.below(stride as u64)).unwrap();
    let mut told = vec![];
    for (point, event) in events.iter().enumerate() {
        if point % stride == offset {
            for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn] {
                let mut after = before.copy();
                after.skip_run();
                told.iter().for_each(|line: &String| after.note(line));
                disk.restore(unsynced, &mut chance, &after.directory.path().join("store"));
                judge(&mut after, point, unsynced);
            }
        }
        disk.take(event);
        if let Event::Told(line) = event {
            told.push(line.clone());
        }
    }
}

#[test]
fn power_lost_at_any_step_loses_nothing_that_was_acknowledged() {
    let options = Options { callers: 1, steps: Some(12), ..Options::default() };
    let mut points = 0;
    // About 500 steps; each in the long run.
    let stride = usize::try_from(500 / runs(8).clamp(1, 500)).unwrap();
    cut_everywhere(&options, stride, |after, point, unsynced| {
        // The product itself recovers the files and goes on.
        let ended = after.run(&Options { callers: 2, steps: Some(2), ..Options::default() });
        assert!(ended.success(), "power lost at step {point}, {unsynced:?}: {}", after.context());
        if let Found::Differences(_, told) = after.check() {
            panic!("{} power lost at step {point}, {unsynced:?}:\n{told}", after.context());
        }
        points += 1;
    });
    println!("{points} disks");
}
