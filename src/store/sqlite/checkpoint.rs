//! Carrying the write-ahead log into the database file beside the writer.
//!
//! A checkpoint of a full log takes longer than many commits. A thread with a connection of its own does most of it
//! while commits go on; the writer itself carries over only the rest, after which SQLite begins the log anew.

use std::ffi::c_int;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::{open_reading, unusable};
use crate::store::StoreFault;

/// How long the log may become, in pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    /// The thread is asked each time that so many more have come.
    beside: c_int,
    /// From here the writer carries over the rest, unless the thread is at it.
    rest: c_int,
    /// From here the writer waits for the thread.
    wait: c_int,
}

/// A rest of 20,000 measured 1.6 × over SQLite's 1,000.
pub(super) const LENGTHS: Lengths = Lengths { beside: 2_500, rest: 20_000, wait: 60_000 };

/// The thread of a writing connection, which is dropped first.
#[derive(Debug)]
pub(super) struct Checkpointer {
    /// Keeps the thread's connection open until the writing one is closed: of two that close at the same time neither is
    /// the last, and only the last one empties the log.
    open: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Makes checkpoints for this connection from now on, instead of SQLite's own.
    ///
    /// # Errors
    /// [`StoreFault::NotRecorded`] when the file cannot be opened a second time or there are no more threads.
    pub(super) fn start(connection: &mut Connection, path: &Path, lengths: Lengths) -> Result<Self, StoreFault> {
        let beside = open_reading(path).map_err(|error| unusable(path, &error))?;
        let (ask, asked) = sync_channel::<()>(1);
        let working = Arc::new(Mutex::new(()));
        let of_thread = Arc::clone(&working);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || serve(&beside, &asked, &of_thread))
            .map_err(|error| StoreFault::NotRecorded(format!("the checkpoints did not start: {error}")))?;
        let open = Some(ask.clone());
        let mut asked_at = 0;
        let hook = move |log: &mut Wal, pages: c_int| {
            if pages < asked_at {
                asked_at = 0;
            }
            if pages >= lengths.rest {
                let _waited = (pages >= lengths.wait).then(|| working.lock());
                // Busy while the thread is at it: then the next commit does it.
                let _ = log.checkpoint();
            } else if pages >= asked_at + lengths.beside && ask.try_send(()).is_ok() {
                asked_at = pages;
            }
            Ok(())
        };
        connection.wal_hook(Some(hook)).map_err(|error| unusable(path, &error))?;
        Ok(Self { open, thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    /// Ends the thread and waits for it.
    fn drop(&mut self) {
        drop(self.open.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by itself.
            let _ = thread.join();
        }
    }
}

fn serve(connection: &Connection, asked: &Receiver<()>, working: &Mutex<()>) {
    while asked.recv().is_ok() {
        let _working = working.lock();
        // Passive: it waits for nobody, and what it cannot carry over yet stays in the log.
        let done = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = done {
            tracing::warn!(%error, "a checkpoint beside the writer did not come about");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_stays_short_and_everything_is_in_the_file_when_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.sqlite3");
        let log = directory.path().join("store.sqlite3-wal");
        let mut connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE rows (id INTEGER PRIMARY KEY, value BLOB)").unwrap();
        let lengths = Lengths { beside: 80, rest: 200, wait: 600 };
        let checkpoints = Checkpointer::start(&mut connection, &path, lengths).unwrap();
        for _ in 0..500 {
            let ten = format!("INSERT INTO rows (value) VALUES {}", ["(zeroblob(4000))"; 10].join(","));
            connection.execute_batch(&ten).unwrap();
        }
        // 5,000 pages went through it; a commit has about twelve.
        let pages = std::fs::metadata(&log).unwrap().len() / 4_096;
        assert!(pages < 600 + 50, "{pages}");
        drop(connection);
        drop(checkpoints);
        assert!(!log.exists());
        let rows = Connection::open(&path).unwrap().query_row("SELECT count(*) FROM rows", [], |row| row.get(0));
        assert_eq!(rows, Ok(5_000_i64));
    }
}
