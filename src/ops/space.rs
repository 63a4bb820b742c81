//! How much room is left on the disks that the state directory is on, and the mark below which no new work is taken.
//!
//! A disk that is full takes no revocation either. So the last of it is kept for what has to work then: below the mark
//! agents' money stops, below half of it agents are not served at all, and people go on to the end.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::ops::failure::Failure;

/// Bytes of a mebibyte.
const MIB: u64 = 1 << 20;

/// What is left, against the mark.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Room {
    Enough,
    /// Below the mark.
    Low,
    /// Below half of it.
    Spent,
}

/// The disks of one daemon, and their mark.
#[derive(Debug)]
pub struct Space {
    /// Directories: the state directory, and the store's own where it is another one.
    places: Vec<PathBuf>,
    reserved: u64,
    /// The [`Room`] of the last look.
    seen: AtomicU8,
}

/// The place with the least room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Free {
    pub bytes: u64,
    pub place: PathBuf,
}

impl Free {
    /// For people.
    pub fn mib(&self) -> u64 {
        self.bytes / MIB
    }
}

impl Space {
    /// 0 reserves nothing.
    pub fn new(places: Vec<PathBuf>, reserved_mib: u32) -> Self {
        Self { places, reserved: u64::from(reserved_mib) * MIB, seen: AtomicU8::new(Room::Enough as u8) }
    }

    pub fn reserved_mib(&self) -> u64 {
        self.reserved / MIB
    }

    /// What a process without privileges may still write, where there is least.
    ///
    /// # Errors
    /// `free_space_unknown`
    pub fn free(&self) -> Result<Free, Failure> {
        let mut least: Option<Free> = None;
        for place in &self.places {
            let found = rustix::fs::statvfs(place).map_err(|error| {
                let message = format!("the free space of {} cannot be read: {error}", place.display());
                Failure::fault("free_space_unknown", message, "check that the directory is there and mounted")
            })?;
            let bytes = found.f_bavail.saturating_mul(found.f_frsize);
            if least.as_ref().is_none_or(|least| bytes < least.bytes) {
                least = Some(Free { bytes, place: place.clone() });
            }
        }
        Ok(least.unwrap_or(Free { bytes: u64::MAX, place: PathBuf::new() }))
    }

    /// Measures. Answers why no new work is taken, in words; none: it is. What cannot be measured stays as it was seen last.
    pub fn look(&self) -> Option<String> {
        if self.reserved == 0 {
            return None;
        }
        let free = match self.free() {
            Ok(free) => free,
            Err(failure) => {
                tracing::warn!(name = %failure.name, message = %failure.message, "the reserved space is not watched now");
                return (self.seen() != Room::Enough).then_some(failure.message);
            }
        };
        let room = match free.bytes {
            bytes if bytes < self.reserved / 2 => Room::Spent,
            bytes if bytes < self.reserved => Room::Low,
            _ => Room::Enough,
        };
        self.seen.store(room as u8, Ordering::Release);
        (room != Room::Enough).then(|| {
            // Without the place: agents are told the reason, too.
            format!("the disk has {} MiB free, and {} MiB are reserved", free.mib(), self.reserved_mib())
        })
    }

    /// Of the last look.
    pub fn seen(&self) -> Room {
        match self.seen.load(Ordering::Acquire) {
            0 => Room::Enough,
            1 => Room::Low,
            _ => Room::Spent,
        }
    }

    /// Whether there is a tenth more than the mark again, so that a disk at the mark does not flap.
    pub fn has_recovered(&self) -> bool {
        self.look().is_none()
            && self.free().is_ok_and(|free| free.bytes >= self.reserved.saturating_add(self.reserved / 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_compared_with_the_disk_that_has_least() {
        let directory = tempfile::tempdir().unwrap();
        let places = vec![directory.path().to_owned(), PathBuf::from("/dev")];
        let free = Space::new(places.clone(), 1).free().unwrap();
        assert!(
            places.contains(&free.place) && free.bytes <= Space::new(places[..1].to_vec(), 1).free().unwrap().bytes
        );
    }

    #[test]
    fn below_the_mark_is_low_below_half_of_it_is_spent_and_nothing_reserved_is_never_low() {
        let directory = tempfile::tempdir().unwrap();
        let here = |mib: u64| Space::new(vec![directory.path().to_owned()], u32::try_from(mib).unwrap());
        let free = here(1).free().unwrap().mib();
        // Others write, too: the marks are far from what is free.
        for (mib, room) in [(0, Room::Enough), (1, Room::Enough), (free / 10 * 15, Room::Low), (free * 3, Room::Spent)]
        {
            let space = here(mib);
            assert_eq!((space.look().is_some(), space.seen()), (room != Room::Enough, room), "{mib} of {free}");
            assert_eq!(space.has_recovered(), room == Room::Enough, "{mib} of {free}");
        }
    }

    #[test]
    fn what_cannot_be_measured_is_said_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let gone = directory.path().join("gone");
        let space = Space::new(vec![gone], 1);
        assert_eq!(space.free().unwrap_err().name, "free_space_unknown");
        assert_eq!((space.look(), space.seen(), space.has_recovered()), (None, Room::Enough, false));
    }
}
