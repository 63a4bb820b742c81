//! The raw limit of the PostgreSQL store: the UNNEST writer, which decides nothing but the sums it must know.
//!
//! One connection takes what waits, at most 256 transfers, into one transaction of two pipelined round trips: the
//! keys, the accounts locked in order and the day's sums; then every row at once, by UNNEST, and COMMIT. READ
//! COMMITTED and the server's own durability settings.

use std::collections::{BTreeMap, HashSet};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::{OPENING_MINOR, Transfer};
use crate::ops::failure::Failure;

/// Transfers in one commit.
const GROUP_MAX: usize = 256;
/// Calls that may wait.
const QUEUE_MAX: usize = 4_096;

const SCHEMA: &str = "
CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL, newest_entry bigint);
CREATE TABLE transactions (
    id bigint PRIMARY KEY, debit bigint NOT NULL, credit bigint NOT NULL, amount bigint NOT NULL);
CREATE TABLE entries (
    id bigint PRIMARY KEY, account bigint NOT NULL, transaction_row bigint NOT NULL, amount bigint NOT NULL,
    previous bigint);
CREATE TABLE idempotency (key bytea PRIMARY KEY, transaction_row bigint NOT NULL);
CREATE TABLE sums (account bigint NOT NULL, day int NOT NULL, minor bigint NOT NULL, PRIMARY KEY (account, day));
CREATE TABLE leaves (row bigint PRIMARY KEY, commitment bytea NOT NULL, salt bytea NOT NULL, body bytea NOT NULL);
";

struct Job {
    transfers: Vec<Transfer>,
    reply: SyncSender<Result<(), String>>,
}

/// The writer and its connection.
pub struct RawPostgres {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl RawPostgres {
    /// So many accounts in an empty database; a transfer's leaf has a body of `leaf_bytes`.
    ///
    /// # Errors
    /// `bench_failed` when the database cannot be used.
    pub fn start(config: &Config, accounts: u32, leaf_bytes: usize) -> Result<Self, Failure> {
        let runtime = super::database::runtime()?;
        let (client, driver) = runtime.block_on(config.connect(NoTls)).map_err(unusable)?;
        let driver = runtime.spawn(driver);
        let fill = format!(
            "{SCHEMA} INSERT INTO accounts SELECT id, {OPENING_MINOR}, NULL FROM generate_series(0, {}) AS id;
             ANALYZE accounts",
            accounts.saturating_sub(1)
        );
        let statements = runtime.block_on(async {
            client.batch_execute(&fill).await?;
            Statements::prepare(&client).await
        });
        let statements = statements.map_err(unusable)?;
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let mut writer = Writer { client, statements, body: vec![b'x'; leaf_bytes], next: 0 };
        let serve = move || {
            writer.serve(&runtime, &jobs);
            drop(writer);
            // The driver ends when its client is gone; what it says then is of no use any more.
            let _ = runtime.block_on(driver);
        };
        let thread = std::thread::Builder::new().name("raw-writer".into()).spawn(serve).map_err(unusable)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Answers when the transfers are committed.
    ///
    /// # Errors
    /// `bench_failed` with what the server says.
    pub fn call(&self, transfers: Vec<Transfer>) -> Result<(), Failure> {
        let (reply, answer) = sync_channel(1);
        let ended = || unusable("the raw writer has ended");
        self.queue.as_ref().ok_or_else(ended)?.send(Job { transfers, reply }).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?.map_err(unusable)
    }
}

impl Drop for RawPostgres {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was reported by its own thread.
            let _ = thread.join();
        }
    }
}

fn unusable(error: impl std::fmt::Display) -> Failure {
    Failure::fault("bench_failed", format!("the raw loop failed: {error}"), "check --postgres")
}

struct Writer {
    client: Client,
    statements: Statements,
    body: Vec<u8>,
    /// Ids are given here: this writer is the only one.
    next: i64,
}

struct Statements {
    keys: Statement,
    accounts: Statement,
    sums: Statement,
    transactions: Statement,
    entries: Statement,
    leaves: Statement,
    balances: Statement,
    spend: Statement,
}

impl Statements {
    async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            keys: client
                .prepare(
                    "INSERT INTO idempotency SELECT * FROM unnest($1::bytea[], $2::bigint[])
                     ON CONFLICT DO NOTHING RETURNING transaction_row",
                )
                .await?,
            accounts: client
                .prepare(
                    "SELECT id, balance, newest_entry FROM accounts WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE",
                )
                .await?,
            sums: client.prepare("SELECT account, minor FROM sums WHERE account = ANY($1::bigint[]) AND day = $2").await?,
            transactions: client
                .prepare("INSERT INTO transactions SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])")
                .await?,
            entries: client
                .prepare(
                    "INSERT INTO entries
                     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])",
                )
                .await?,
            leaves: client
                .prepare(
                    "INSERT INTO leaves SELECT row, key, key, body
                     FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) AS u (row, key, body)",
                )
                .await?,
            balances: client
                .prepare(
                    "UPDATE accounts SET balance = u.balance, newest_entry = u.newest_entry
                     FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS u (id, balance, newest_entry)
                     WHERE accounts.id = u.id",
                )
                .await?,
            spend: client
                .prepare(
                    "INSERT INTO sums SELECT account, $2, minor FROM unnest($1::bigint[], $3::bigint[]) AS u (account, minor)
                     ON CONFLICT (account, day) DO UPDATE SET minor = excluded.minor",
                )
                .await?,
        })
    }
}

impl Writer {
    fn serve(&mut self, runtime: &tokio::runtime::Runtime, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut size = first.transfers.len();
            let mut group = vec![first];
            while size < GROUP_MAX
                && let Ok(next) = jobs.try_recv()
            {
                size += next.transfers.len();
                group.push(next);
            }
            let outcome = runtime.block_on(self.commit(&group)).map_err(|error| error.to_string());
            for job in group {
                // A caller that was stopped does not wait for its answer.
                let _ = job.reply.send(outcome.clone());
            }
        }
    }

    async fn commit(&mut self, group: &[Job]) -> Result<(), tokio_postgres::Error> {
        let mut transfers: Vec<(&Transfer, i64)> =
            group.iter().flat_map(|job| &job.transfers).zip(self.next..).collect();
        self.next += i64::try_from(transfers.len()).unwrap_or(i64::MAX);
        transfers.sort_unstable_by_key(|(transfer, _)| transfer.key);
        let keys: Vec<&[u8]> = transfers.iter().map(|(transfer, _)| &transfer.key[..]).collect();
        let ids: Vec<i64> = transfers.iter().map(|(_, id)| *id).collect();
        let mut touched: Vec<i64> =
            transfers.iter().flat_map(|(t, _)| [i64::from(t.debit), i64::from(t.credit)]).collect();
        touched.sort_unstable();
        touched.dedup();
        let mut paying: Vec<i64> = transfers.iter().map(|(transfer, _)| i64::from(transfer.debit)).collect();
        paying.sort_unstable();
        paying.dedup();
        let day = transfers.first().map_or(0, |(transfer, _)| transfer.day);
        let (client, prepared) = (&self.client, &self.statements);
        let (key_columns, account_column): ([Column<'_>; 2], [Column<'_>; 1]) = ([&keys, &ids], [&touched]);
        let sum_columns: [Column<'_>; 2] = [&paying, &day];
        // Polled in this order, so sent in this order, without waiting for one another.
        let (_, fresh, accounts, sums) = tokio::try_join!(
            client.batch_execute("BEGIN"),
            client.query(&prepared.keys, &key_columns),
            client.query(&prepared.accounts, &account_column),
            client.query(&prepared.sums, &sum_columns),
        )?;
        let fresh: HashSet<i64> = fresh.iter().map(|row| row.get(0)).collect();
        let mut balances: BTreeMap<i64, (i64, Option<i64>)> =
            accounts.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        let mut spent: BTreeMap<i64, i64> = paying.iter().map(|account| (*account, 0)).collect();
        spent.extend(sums.iter().map(|row| (row.get::<_, i64>(0), row.get::<_, i64>(1))));

        let mut rows = Rows::default();
        for (transfer, id) in transfers.iter().filter(|(_, id)| fresh.contains(id)) {
            let (debit, credit) = (i64::from(transfer.debit), i64::from(transfer.credit));
            rows.ids.push(*id);
            rows.keys.push(&transfer.key);
            rows.debits.push(debit);
            rows.credits.push(credit);
            rows.amounts.push(transfer.minor);
            for (entry, account, minor) in [(id * 2, debit, -transfer.minor), (id * 2 + 1, credit, transfer.minor)] {
                let Some((balance, newest)) = balances.get_mut(&account) else { continue };
                *balance += minor;
                rows.entries.push(entry);
                rows.entry_accounts.push(account);
                rows.entry_transactions.push(*id);
                rows.entry_amounts.push(minor);
                rows.previous.push(newest.replace(entry));
            }
            *spent.entry(debit).or_default() += transfer.minor;
        }
        let (mut account_ids, mut account_balances, mut newest) = (Vec::new(), Vec::new(), Vec::new());
        for (id, (balance, entry)) in balances {
            account_ids.push(id);
            account_balances.push(balance);
            newest.push(entry);
        }
        let (spenders, sums): (Vec<i64>, Vec<i64>) = spent.into_iter().unzip();
        let bodies = vec![&self.body[..]; rows.ids.len()];
        let transactions: [Column<'_>; 4] = [&rows.ids, &rows.debits, &rows.credits, &rows.amounts];
        let entries: [Column<'_>; 5] =
            [&rows.entries, &rows.entry_accounts, &rows.entry_transactions, &rows.entry_amounts, &rows.previous];
        let leaves: [Column<'_>; 3] = [&rows.ids, &rows.keys, &bodies];
        let accounts: [Column<'_>; 3] = [&account_ids, &account_balances, &newest];
        let spending: [Column<'_>; 3] = [&spenders, &day, &sums];
        tokio::try_join!(
            client.execute(&prepared.transactions, &transactions),
            client.execute(&prepared.entries, &entries),
            client.execute(&prepared.leaves, &leaves),
            client.execute(&prepared.balances, &accounts),
            client.execute(&prepared.spend, &spending),
            client.batch_execute("COMMIT"),
        )?;
        Ok(())
    }
}

/// A parameter that holds a column of one commit.
type Column<'a> = &'a (dyn ToSql + Sync);

/// Columns of one commit.
#[derive(Default)]
struct Rows<'t> {
    ids: Vec<i64>,
    keys: Vec<&'t [u8]>,
    debits: Vec<i64>,
    credits: Vec<i64>,
    amounts: Vec<i64>,
    entries: Vec<i64>,
    entry_accounts: Vec<i64>,
    entry_transactions: Vec<i64>,
    entry_amounts: Vec<i64>,
    previous: Vec<Option<i64>>,
}
