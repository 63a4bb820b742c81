//! Reading: a small pool of connections that may not write.
//!
//! What takes several statements is one snapshot. A connection that failed in any way is not used again; one that the
//! server had closed while it was idle is replaced once, unseen.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use tokio_postgres::{Client, Error, Row};

use super::endpoint::Endpoint;
use super::pipeline::Pipeline;
use super::session::{Meaning, Parameter, limits, meaning, said, set, unreachable};
use crate::kernel::decide::RowFault;
use crate::store::StoreFault;

/// Rows of a page of a long read, pages that wait to be taken, and how long the server may think about the first one,
/// for which it may have to sort everything.
const PAGE_ROWS: u32 = 4_096;
const PAGES_WAITING: usize = 2;
const PAGE_DEADLINE: Duration = Duration::from_secs(600);

/// One statement of a read.
pub(super) struct Ask {
    pub(super) sql: &'static str,
    pub(super) parameters: Vec<Parameter<'static>>,
}

impl Ask {
    pub(super) fn new(sql: &'static str, parameters: Vec<Parameter<'static>>) -> Self {
        Self { sql, parameters }
    }
}

#[derive(Debug)]
pub(super) struct Reads {
    pool: Pool,
    endpoint: Endpoint,
    /// Taken when the store is dropped, which may happen where nothing may block.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Reads {
    /// Makes no connection yet.
    ///
    /// # Errors
    /// [`StoreFault::NotRecorded`] when no thread can be started.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, StoreFault> {
        let failed = |error: &dyn std::fmt::Display| StoreFault::NotRecorded(format!("reading cannot start: {error}"));
        let settings = &endpoint.settings;
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(endpoint.config.clone(), endpoint.tls.clone(), recycling);
        let connect = Duration::from_millis(settings.connect_timeout_ms);
        let wait = Duration::from_millis(settings.statement_timeout_ms);
        let mut session = limits(endpoint);
        session.push(("default_transaction_read_only".to_owned(), "on".to_owned()));
        let pool = Pool::builder(manager)
            .max_size(usize::try_from(settings.connections).unwrap_or(usize::MAX))
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(connect))
            .recycle_timeout(Some(connect))
            .wait_timeout(Some(wait))
            .post_create(Hook::async_fn(move |client, _| {
                let session = session.clone();
                Box::pin(async move { set(client, &session).await.map_err(HookError::Backend) })
            }))
            .build()
            .map_err(|error| failed(&error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store-reads")
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        Ok(Self { pool, endpoint: endpoint.clone(), runtime: Some(runtime) })
    }

    /// The rows of each statement, all of one snapshot. Fine from any thread.
    ///
    /// # Errors
    /// [`StoreFault::NotRecorded`] with what the server said, or that it said nothing in time.
    pub(super) fn rows(&self, asks: Vec<Ask>) -> Result<Vec<Vec<Row>>, StoreFault> {
        let ended = || StoreFault::NotRecorded("reading has ended".into());
        let runtime = self.runtime.as_ref().ok_or_else(ended)?;
        let (reply, answer) = sync_channel(1);
        let (pool, endpoint) = (self.pool.clone(), self.endpoint.clone());
        runtime.spawn(async move {
            let _ = reply.send(answered(&pool, &endpoint, &asks).await);
        });
        answer.recv().map_err(|_| ended())?
    }

    /// Every row of each statement in turn, all of one snapshot, in pages: never more than a few are in memory. `take`
    /// runs on the calling thread and says by an error that it has had enough.
    ///
    /// # Errors
    /// [`StoreFault::NotRecorded`] as [`rows`](Self::rows), or with what `take` could not read.
    pub(super) fn walk(
        &self,
        statements: &'static [&'static str],
        mut take: impl FnMut(usize, &Row) -> Result<(), RowFault>,
    ) -> Result<(), StoreFault> {
        let failed = |why: String| StoreFault::NotRecorded(format!("reading failed: {why}"));
        let runtime = self.runtime.as_ref().ok_or_else(|| failed("it has ended".into()))?;
        // Waiting for a page may not need a runtime on this thread, sending one may not hold up the runtime's: the walk
        // waits for leave, which it gets as pages are taken, and ends when nobody gives it any more.
        let (pages, arriving) = std::sync::mpsc::channel();
        let (leave, mut given) = tokio::sync::mpsc::channel(PAGES_WAITING);
        for _ in 0..PAGES_WAITING {
            let _ = leave.try_send(());
        }
        let pool = self.pool.clone();
        runtime.spawn(async move {
            if let Err(fault) = walked(&pool, statements, &mut given, &pages).await {
                let _ = pages.send(Err(fault));
            }
        });
        while let Ok(page) = arriving.recv() {
            let (statement, rows): (usize, Vec<Row>) = page?;
            for row in &rows {
                take(statement, row).map_err(|fault| failed(fault.to_string()))?;
            }
            let _ = leave.try_send(());
        }
        Ok(())
    }
}

type Page = Result<(usize, Vec<Row>), StoreFault>;

/// One snapshot through a cursor a statement. Ends early when nobody takes the pages any more.
async fn walked(
    pool: &Pool,
    statements: &[&'static str],
    leave: &mut tokio::sync::mpsc::Receiver<()>,
    pages: &std::sync::mpsc::Sender<Page>,
) -> Result<(), StoreFault> {
    let failed = |why: String| StoreFault::NotRecorded(format!("reading failed: {why}"));
    let server_failed = |error: Error| failed(said(&error));
    let late = || failed(format!("the server did not answer within {} s", PAGE_DEADLINE.as_secs()));
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0";
    // Not given back to the pool: its time limits are its own.
    let taken = || async { Ok(Object::take(pool.get().await.map_err(|error| failed(error.to_string()))?)) };
    let mut client = taken().await?;
    if client.batch_execute(begin).await.is_err() {
        // The server had closed it while it was idle; the others were most likely closed with it.
        pool.retain(|idle, _| !idle.is_closed());
        client = taken().await?;
        client.batch_execute(begin).await.map_err(server_failed)?;
    }
    let fetch = format!("FETCH {PAGE_ROWS} FROM walk");
    for (number, sql) in statements.iter().enumerate() {
        let open = format!("DECLARE walk NO SCROLL CURSOR FOR {sql}");
        client.batch_execute(&open).await.map_err(server_failed)?;
        loop {
            let page = tokio::time::timeout(PAGE_DEADLINE, client.query(&fetch, &[])).await;
            let rows = page.map_err(|_| late())?.map_err(server_failed)?;
            if rows.is_empty() {
                break;
            }
            if leave.recv().await.is_none() || pages.send(Ok((number, rows))).is_err() {
                return Ok(());
            }
        }
        client.batch_execute("CLOSE walk").await.map_err(server_failed)?;
    }
    client.batch_execute("COMMIT").await.map_err(server_failed)
}

impl Drop for Reads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answered(pool: &Pool, endpoint: &Endpoint, asks: &[Ask]) -> Result<Vec<Vec<Row>>, StoreFault> {
    let failed = |why: String| StoreFault::NotRecorded(format!("reading failed: {why}"));
    let limit = Duration::from_millis(endpoint.settings.commit_deadline_ms);
    let mut tried_again = false;
    loop {
        let connection = pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                unreachable(endpoint, &error)
            }
            error => failed(error.to_string()),
        })?;
        let error = match tokio::time::timeout(limit, snapshot(&connection, asks)).await {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        // It may be in the middle of something.
        drop(Object::take(connection));
        match error {
            Some(error) if meaning(&error) == Meaning::Lost && !tried_again => {
                tried_again = true;
                // The others were most likely closed with it.
                pool.retain(|idle, _| !idle.is_closed());
            }
            Some(error) => return Err(failed(said(&error))),
            None => return Err(failed(format!("the server did not answer within {} ms", limit.as_millis()))),
        }
    }
}

async fn snapshot(connection: &Object, asks: &[Ask]) -> Result<Vec<Vec<Row>>, Error> {
    let client: &Client = connection;
    let mut pipeline = Pipeline::new(client);
    let is_alone = asks.len() == 1;
    if !is_alone {
        pipeline.text("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    }
    for ask in asks {
        let statement = connection.prepare_cached(ask.sql).await?;
        pipeline.borrowed(statement, &ask.parameters);
    }
    if !is_alone {
        pipeline.text("COMMIT");
    }
    let mut rows = pipeline.rows().await?;
    if !is_alone {
        rows.pop();
        rows.remove(0);
    }
    Ok(rows)
}
