//! The control directory: orders that are read again when they change, shared counters, the journal.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::counters::{CALLS, SEEN, WORDS};
use super::orders::{Blindness, Fault, Orders};
use super::stop;

/// Tells one version of the orders file from the next.
type Stamp = (u64, u64, i64, i64);

pub struct Control {
    directory: PathBuf,
    orders: RwLock<(Stamp, Arc<Orders>)>,
    counters: &'static [AtomicU64],
    /// Held with an flock on the file while the session table changes: threads share the file's lock.
    table: Mutex<File>,
    journal: File,
}

impl Control {
    pub fn open(directory: PathBuf) -> Result<Self, String> {
        let failed = |what: &str, error: std::io::Error| format!("{}/{what}: {error}", directory.display());
        let mut options = OpenOptions::new();
        let counters = options.read(true).write(true).create(true).truncate(false).open(directory.join("counters"));
        let counters = counters.map_err(|error| failed("counters", error))?;
        counters.set_len(8 * WORDS as u64).map_err(|error| failed("counters", error))?;
        let mut options = OpenOptions::new();
        let journal = options.append(true).create(true).open(directory.join("journal"));
        let journal = journal.map_err(|error| failed("journal", error))?;
        let words = mapped(&counters).map_err(|error| failed("counters", error))?;
        let orders = RwLock::new(read(&directory)?);
        Ok(Self { orders, counters: words, table: Mutex::new(counters), journal, directory })
    }

    /// The orders now in force.
    pub fn orders(&self) -> Arc<Orders> {
        let stamp = stamp(&self.directory).unwrap_or_else(|error| stop(&error));
        let known = self.orders.read().unwrap_or_else(PoisonError::into_inner);
        if known.0 == stamp {
            return Arc::clone(&known.1);
        }
        drop(known);
        let fresh = read(&self.directory).unwrap_or_else(|error| stop(&error));
        let orders = Arc::clone(&fresh.1);
        *self.orders.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        orders
    }

    pub fn count(&self, function: usize) {
        self.counters[CALLS + function].fetch_add(1, Ordering::Relaxed);
    }

    /// True when this call is one that the fault is for.
    pub fn strikes(&self, fault: &Fault) -> bool {
        self.is_its_turn(fault.counter, fault.skip, fault.take)
    }

    /// True when this search is one that is to find nothing.
    pub fn blinds(&self, blindness: &Blindness) -> bool {
        self.is_its_turn(blindness.counter, blindness.skip, blindness.take)
    }

    fn is_its_turn(&self, counter: usize, skip: u64, take: u64) -> bool {
        let seen = self.counters[SEEN + counter].fetch_add(1, Ordering::Relaxed);
        seen.checked_sub(skip).is_some_and(|later| later < take)
    }

    pub fn word(&self, place: usize) -> &AtomicU64 {
        &self.counters[place]
    }

    /// Runs `work` while no other thread or process is in here.
    pub fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        let file = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: plain calls on a descriptor that `file` keeps open. The lock ends with the process in any case.
        let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
        if locked != 0 {
            stop("the session table cannot be locked");
        }
        let done = work();
        // SAFETY: as above.
        unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
        done
    }

    /// One line, in one write: lines of several processes do not mix.
    pub fn note(&self, line: &str) {
        let written = (&self.journal).write_all(format!("{line}\n").as_bytes());
        written.unwrap_or_else(|error| stop(&format!("the journal cannot be written: {error}")));
    }
}

/// Sees every replacement (another file) and every edit (another size or time).
fn stamp(directory: &Path) -> Result<Stamp, String> {
    let path = directory.join("orders");
    let data = std::fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}

fn read(directory: &Path) -> Result<(Stamp, Arc<Orders>), String> {
    let stamp = stamp(directory)?;
    let path = directory.join("orders");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let orders = Orders::parse(&text).map_err(|error| error.to_string())?;
    Ok((stamp, Arc::new(orders)))
}

fn mapped(file: &File) -> std::io::Result<&'static [AtomicU64]> {
    // SAFETY: a new mapping of a file of WORDS words, never unmapped; null lets the kernel choose the address.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            8 * WORDS,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: page-aligned, WORDS words long, zero-filled or written by atomics only, and alive for ever.
    Ok(unsafe { std::slice::from_raw_parts(at.cast(), WORDS) })
}
