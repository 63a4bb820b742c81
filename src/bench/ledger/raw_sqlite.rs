//! The raw limit of the embedded store: a lean group-commit loop on SQLite that decides nothing.
//!
//! One writer thread takes what waits, at most 256 transfers, into one commit with full sync. A transfer is what
//! ours is, in the leanest schema that holds it: idempotency look-up, two balances, daily sum; insert transaction,
//! two entries, idempotency row and audit leaf; update two balances and the sum. Ids are integers, statements stay
//! prepared, and a leaf's body is as long as ours but never written anew.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension, Statement, params};

use super::{OPENING_MINOR, Transfer};
use crate::ops::failure::Failure;

/// Transfers in one commit: more gain nothing.
const GROUP_MAX: usize = 256;
/// Calls that may wait.
const QUEUE_MAX: usize = 4_096;

const SCHEMA: &str = "
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 20000;
PRAGMA cache_size = -65536;
CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, newest_entry INTEGER) STRICT;
CREATE TABLE transactions (
    id INTEGER PRIMARY KEY, debit INTEGER NOT NULL, credit INTEGER NOT NULL, amount INTEGER NOT NULL
) STRICT;
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, account INTEGER NOT NULL, transaction_row INTEGER NOT NULL, amount INTEGER NOT NULL,
    previous INTEGER
) STRICT;
CREATE TABLE idempotency (key BLOB PRIMARY KEY, transaction_row INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE sums (
    account INTEGER NOT NULL, day INTEGER NOT NULL, minor INTEGER NOT NULL, PRIMARY KEY (account, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE leaves (
    row INTEGER PRIMARY KEY, commitment BLOB NOT NULL, salt BLOB NOT NULL, body BLOB NOT NULL
) STRICT;
";

struct Job {
    transfers: Vec<Transfer>,
    reply: SyncSender<Result<(), String>>,
}

/// The writer and its file.
pub struct RawSqlite {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl RawSqlite {
    /// A new file with so many accounts; a transfer's leaf has a body of `leaf_bytes`.
    ///
    /// # Errors
    /// `bench_failed` when the file cannot be used.
    pub fn start(path: &Path, accounts: u32, leaf_bytes: usize) -> Result<Self, Failure> {
        let mut connection = Connection::open(path).map_err(unusable)?;
        connection.execute_batch(SCHEMA).map_err(unusable)?;
        let filling = connection.transaction().map_err(unusable)?;
        {
            let mut insert = filling.prepare("INSERT INTO accounts (id, balance) VALUES (?1, ?2)").map_err(unusable)?;
            for id in 0..accounts {
                insert.execute(params![id, OPENING_MINOR]).map_err(unusable)?;
            }
        }
        filling.commit().map_err(unusable)?;
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let serve = move || serve(&connection, &jobs, &vec![b'x'; leaf_bytes]);
        let thread = std::thread::Builder::new().name("raw-writer".into()).spawn(serve).map_err(|error| {
            Failure::fault("bench_failed", format!("the raw writer did not start: {error}"), "check the limits")
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Answers when the transfers are on disk.
    ///
    /// # Errors
    /// `bench_failed` with what SQLite says.
    pub fn call(&self, transfers: Vec<Transfer>) -> Result<(), Failure> {
        let (reply, answer) = sync_channel(1);
        let ended = || unusable("the raw writer has ended");
        self.queue.as_ref().ok_or_else(ended)?.send(Job { transfers, reply }).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?.map_err(unusable)
    }
}

impl Drop for RawSqlite {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was reported by its own thread.
            let _ = thread.join();
        }
    }
}

fn unusable(error: impl std::fmt::Display) -> Failure {
    Failure::fault("bench_failed", format!("the raw loop failed: {error}"), "check --dir and its free space")
}

fn serve(connection: &Connection, jobs: &Receiver<Job>, body: &[u8]) {
    let mut statements = match Statements::prepare(connection) {
        Ok(statements) => statements,
        Err(error) => {
            tracing::error!(%error, "the raw loop cannot prepare its statements");
            return;
        }
    };
    while let Ok(first) = jobs.recv() {
        let mut size = first.transfers.len();
        let mut group = vec![first];
        while size < GROUP_MAX
            && let Ok(next) = jobs.try_recv()
        {
            size += next.transfers.len();
            group.push(next);
        }
        let outcome = statements.commit(&group, body).map_err(|error| error.to_string());
        for job in group {
            // A caller that was stopped does not wait for its answer.
            let _ = job.reply.send(outcome.clone());
        }
    }
}

struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    key: Statement<'c>,
    account: Statement<'c>,
    sum: Statement<'c>,
    transaction: Statement<'c>,
    entry: Statement<'c>,
    bind: Statement<'c>,
    leaf: Statement<'c>,
    balance: Statement<'c>,
    spend: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            key: connection.prepare("SELECT transaction_row FROM idempotency WHERE key = ?1")?,
            account: connection.prepare("SELECT balance, newest_entry FROM accounts WHERE id = ?1")?,
            sum: connection.prepare("SELECT minor FROM sums WHERE account = ?1 AND day = ?2")?,
            transaction: connection.prepare("INSERT INTO transactions (debit, credit, amount) VALUES (?1, ?2, ?3)")?,
            entry: connection
                .prepare("INSERT INTO entries (account, transaction_row, amount, previous) VALUES (?1, ?2, ?3, ?4)")?,
            bind: connection.prepare("INSERT INTO idempotency (key, transaction_row) VALUES (?1, ?2)")?,
            leaf: connection.prepare("INSERT INTO leaves (commitment, salt, body) VALUES (?1, ?2, ?3)")?,
            balance: connection.prepare("UPDATE accounts SET balance = ?2, newest_entry = ?3 WHERE id = ?1")?,
            spend: connection.prepare("INSERT OR REPLACE INTO sums (account, day, minor) VALUES (?1, ?2, ?3)")?,
        })
    }

    fn commit(&mut self, group: &[Job], body: &[u8]) -> rusqlite::Result<()> {
        self.begin.execute([])?;
        for transfer in group.iter().flat_map(|job| &job.transfers) {
            self.transfer(transfer, body)?;
        }
        self.commit.execute([])?;
        Ok(())
    }

    fn transfer(&mut self, transfer: &Transfer, body: &[u8]) -> rusqlite::Result<()> {
        let Transfer { key, debit, credit, minor, day } = transfer;
        if self.key.query_row([key], |_| Ok(())).optional()?.is_some() {
            return Ok(());
        }
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?));
        let (paying, paying_entry) = self.account.query_row([debit], read)?;
        let (paid, paid_entry) = self.account.query_row([credit], read)?;
        let spent: i64 = self.sum.query_row(params![debit, day], |row| row.get(0)).optional()?.unwrap_or(0);
        let id = self.transaction.insert(params![debit, credit, minor])?;
        let debited = self.entry.insert(params![debit, id, -minor, paying_entry])?;
        let credited = self.entry.insert(params![credit, id, minor, paid_entry])?;
        self.bind.execute(params![key, id])?;
        // The commitment is another value of the same size: hashing is ours to pay for.
        self.leaf.execute(params![key, key, body])?;
        self.balance.execute(params![debit, paying - minor, debited])?;
        self.balance.execute(params![credit, paid + minor, credited])?;
        self.spend.execute(params![debit, day, spent + minor])?;
        Ok(())
    }
}
