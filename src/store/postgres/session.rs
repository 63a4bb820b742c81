//! One connection that writes: how it is set up, what it prepared, what its failures mean.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Error, Row, Statement};

use super::endpoint::Endpoint;
use super::keys::Remembered;
use super::load::Call;
use super::pipeline::Pipeline;
use crate::store::StoreFault;
use crate::store::committed::Committed;
use crate::store::keep::Keep;
use crate::store::planted::planted;
use crate::store::sealing::Slot;

/// Statements that are kept prepared; all of ours are far fewer, in the shapes in which they occur.
const PREPARED_MAX: usize = 512;
/// Accounts whose row numbers are kept.
const KNOWN_MAX: usize = 200_000;

/// A parameter of a statement.
pub(super) type Parameter<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// A statement of the session with its parameters.
pub(super) type Prepared<'a> = (Statement, Vec<Parameter<'a>>);

/// What a statement's failure means for the commit that it is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    /// Another commit came between: the same commands may well succeed now.
    TryAgain,
    /// The server said no to this statement; the connection is sound and the commit is undone.
    Refused,
    /// The connection is of no more use.
    Lost,
}

pub(super) fn meaning(error: &Error) -> Meaning {
    let Some(said) = error.as_db_error() else {
        // Encoding a parameter fails before anything is sent; everything else without a word of the server is its end.
        return if is_of_a_value(error) { Meaning::Refused } else { Meaning::Lost };
    };
    if matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) {
        return Meaning::Lost;
    }
    let again = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::UNIQUE_VIOLATION];
    if again.contains(said.code()) { Meaning::TryAgain } else { Meaning::Refused }
}

/// True when a value did not fit its column's type, on its way out or in: the connection itself is of no complaint.
fn is_of_a_value(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| !cause.is::<std::io::Error>())
}

/// What the server said, without the values that its details may name.
pub(super) fn said(error: &Error) -> String {
    let Some(said) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        return text;
    };
    let place = said.constraint().or(said.table()).map(|name| format!(" on {name}")).unwrap_or_default();
    format!("{}{place} ({})", said.message(), said.code().code())
}

/// Why a connection could not be made, with the reader's next step.
pub(super) fn unreachable(endpoint: &Endpoint, error: &Error) -> StoreFault {
    let user = endpoint.config.get_user().unwrap_or_default();
    let database = endpoint.config.get_dbname().unwrap_or_default();
    let code = error.code();
    let why =
        if code == Some(&SqlState::INVALID_PASSWORD) || code == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) {
            format!("the server refused user {user}: check store.password_file and the server's pg_hba.conf")
        } else if code == Some(&SqlState::INVALID_CATALOG_NAME) {
            format!("the server has no database {database}: make it with `createdb`")
        } else if code.is_none() && endpoint.config.get_password().is_none() && said(error).contains("password") {
            format!("the server asks user {user} for a password: name a file of mode 0600 in store.password_file")
        } else {
            "check that it runs and that [store] url names it".to_owned()
        };
    StoreFault::NotRecorded(format!("the database server cannot be used: {}; {why}", said(error)))
}

/// The driver's own limit ends with the handshake of TCP: a server that says nothing after it is given up here.
async fn in_time<T>(endpoint: &Endpoint, work: impl Future<Output = T>) -> Result<T, StoreFault> {
    let limit = Duration::from_millis(endpoint.settings.connect_timeout_ms);
    let silent = |_| {
        let why = format!("the database server did not answer within {} ms", limit.as_millis());
        StoreFault::NotRecorded(format!("{why}; check that it runs and that [store] url names it"))
    };
    tokio::time::timeout(limit, work).await.map_err(silent)
}

/// The writing connection and what was prepared on it. Dropping it closes the connection.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) keep: Keep,
    prepared: HashMap<String, Statement>,
    /// Row numbers of accounts that a commit of this session touched. Accounts stay for ever, so do their numbers.
    known: HashMap<String, i64>,
    /// What seals leaves, and the data keys of subjects that were here before.
    pub(super) sealing: Slot,
    pub(super) committed: Committed,
    pub(super) data_keys: Remembered,
    /// Warnings that the server sent: one of them says that a commit was not replicated as it should have been.
    warnings: Arc<AtomicU64>,
    driver: JoinHandle<()>,
    closed: bool,
}

impl Session {
    /// Connects; nothing of the session is set up yet, and no statement times out.
    pub(super) async fn connect(endpoint: &Endpoint) -> Result<Self, StoreFault> {
        let connected = in_time(endpoint, endpoint.config.connect(endpoint.tls.clone())).await?;
        let (client, mut connection) = connected.map_err(|error| unreachable(endpoint, &error))?;
        let warnings = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&warnings);
        let driver = tokio::spawn(async move {
            // Ends with the connection; whoever waits for an answer is told so.
            while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notice(notice) = message {
                    note(&notice, &counted);
                }
            }
        });
        let keep = Keep::days(endpoint.settings.idempotency_days);
        let (sealing, committed) = (endpoint.sealing.clone(), endpoint.committed.clone());
        let data_keys = Remembered::default();
        let (prepared, known) = (HashMap::new(), HashMap::new());
        Ok(Self { client, keep, prepared, known, sealing, committed, data_keys, warnings, driver, closed: false })
    }

    /// Time limits, durability and plans for a connection that writes.
    pub(super) async fn set_up(&self, endpoint: &Endpoint) -> Result<(), StoreFault> {
        let mut wanted = limits(endpoint);
        // An acknowledged commit is on disk, and with synchronous standbys on theirs.
        let durable = if planted("synchronous_normal") { "off" } else { "on" };
        wanted.push(("synchronous_commit".to_owned(), durable.to_owned()));
        wanted.extend(PLANS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        in_time(endpoint, set(&self.client, &wanted)).await?.map_err(|error| unreachable(endpoint, &error))
    }

    /// The statement, prepared when it is first used.
    pub(super) async fn statement(&mut self, sql: &str) -> Result<Statement, Error> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        if self.prepared.len() >= PREPARED_MAX {
            self.prepared.clear();
        }
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Rows of one statement.
    pub(super) async fn query(&mut self, call: &Call<'_>) -> Result<Vec<Row>, Error> {
        let statement = self.statement(&call.sql).await?;
        let parameters: Vec<&(dyn ToSql + Sync)> =
            call.parameters.iter().map(|one| &**one as &(dyn ToSql + Sync)).collect();
        self.client.query(&statement, &parameters).await
    }

    /// The calls with their statements prepared.
    pub(super) async fn prepared<'a>(&mut self, calls: Vec<Call<'a>>) -> Result<Vec<Prepared<'a>>, Error> {
        let mut prepared = Vec::with_capacity(calls.len());
        for Call { sql, parameters } in calls {
            prepared.push((self.statement(&sql).await?, parameters));
        }
        Ok(prepared)
    }

    pub(super) fn pipeline<'a>(&'a self, calls: Vec<Prepared<'a>>) -> Pipeline<'a> {
        let mut pipeline = Pipeline::new(&self.client);
        for (statement, parameters) in calls {
            pipeline.call(statement, parameters);
        }
        pipeline
    }

    /// The same, after a text of statements without parameters.
    pub(super) fn pipeline_after<'a>(&'a self, text: &'a str, calls: Vec<Prepared<'a>>) -> Pipeline<'a> {
        let mut pipeline = Pipeline::new(&self.client);
        pipeline.text(text);
        for (statement, parameters) in calls {
            pipeline.call(statement, parameters);
        }
        pipeline
    }

    pub(super) fn known(&self) -> &HashMap<String, i64> {
        &self.known
    }

    /// Keeps the row numbers of accounts that are committed.
    pub(super) fn learn<'a>(&mut self, accounts: impl Iterator<Item = (&'a str, i64)>) {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        for (name, row) in accounts {
            if !self.known.contains_key(name) {
                self.known.insert(name.to_owned(), row);
            }
        }
    }

    /// Rows of each call, in one round trip.
    pub(super) async fn rows(&mut self, calls: Vec<Call<'_>>) -> Result<Vec<Vec<Row>>, Error> {
        let prepared = self.prepared(calls).await?;
        self.pipeline(prepared).rows().await
    }

    /// Gives the connection up: whatever the server is still doing for it, its answer is of no interest any more.
    pub(super) fn close(&mut self) {
        self.driver.abort();
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed || self.client.is_closed()
    }

    pub(super) fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Relaxed)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn note(notice: &tokio_postgres::error::DbError, warnings: &AtomicU64) {
    if notice.parsed_severity() == Some(Severity::Warning) {
        warnings.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(code = notice.code().code(), message = notice.message(), "the database server warns");
    }
}

/// Every statement of the writer finds its rows by key, at any size of the tables: plans are made once, and those
/// that read whole tables are not among them.
const PLANS: &[(&str, &str)] = &[
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// Limits that hold for every connection of ours.
pub(super) fn limits(endpoint: &Endpoint) -> Vec<(String, String)> {
    let settings = &endpoint.settings;
    let milliseconds = |name: &str, value: u64| (name.to_owned(), format!("{value}ms"));
    vec![
        milliseconds("statement_timeout", settings.statement_timeout_ms),
        milliseconds("lock_timeout", settings.lock_timeout_ms),
        milliseconds("idle_in_transaction_session_timeout", settings.commit_deadline_ms),
        // A server that still works for a daemon that is gone notices within this time (PostgreSQL 14).
        ("client_connection_check_interval".to_owned(), "2s".to_owned()),
        ("default_transaction_isolation".to_owned(), "read committed".to_owned()),
        ("timezone".to_owned(), "UTC".to_owned()),
    ]
}

/// Sets what the server knows of these. A server that is set to `remote_apply` keeps it: it is stronger than `on`.
pub(super) async fn set(client: &Client, wanted: &[(String, String)]) -> Result<(), Error> {
    let (names, values): (Vec<&str>, Vec<&str>) =
        wanted.iter().map(|(name, value)| (name.as_str(), value.as_str())).unzip();
    let sql = "SELECT set_config(s.name, v.value, false) FROM unnest($1::text[], $2::text[]) AS v (name, value)
               JOIN pg_settings s ON s.name = v.name
               WHERE NOT (s.name = 'synchronous_commit' AND s.setting = 'remote_apply')";
    client.query(sql, &[&names, &values]).await.map(|_| ())
}

/// Names of the server's settings that lose acknowledged commits when its machine stops.
pub(super) const CONCERNS: &str =
    "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name";

/// Says once, in the log, what `doctor` says whenever it is asked.
pub(super) async fn warn_of_concerns(client: &Client) {
    match client.query(CONCERNS, &[]).await {
        Ok(rows) => {
            for row in rows {
                let setting: &str = row.get(0);
                tracing::warn!(setting, "the database server may lose acknowledged commits: this setting is off");
            }
        }
        Err(error) => tracing::warn!(error = said(&error), "the database server's settings cannot be read"),
    }
}
