//! Several statements in one round trip.
//!
//! The server works through them in order. When one fails, those after it fail too, up to COMMIT, which then undoes
//! everything and says so by its tag only: so every answer is looked at, and COMMIT is sent only when every statement
//! before it could be sent.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

use super::session::Parameter;

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, Error>> + Send + 'a>>;

/// Statements that are sent together.
pub(super) struct Pipeline<'a> {
    client: &'a Client,
    calls: Vec<Answer<'a>>,
}

/// How a pipeline that ends with COMMIT went.
pub(super) enum Ended {
    Committed,
    /// A statement could not be sent, so COMMIT was not either: the transaction is still open.
    NotSent(Error),
    /// A statement failed before COMMIT could take hold: nothing was recorded.
    Undone(Error),
    /// COMMIT was sent and its answer never came, or was no yes.
    Unknown(Error),
}

impl<'a> Pipeline<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self { client, calls: vec![] }
    }

    /// Adds a text of statements without parameters; its answer has no rows.
    pub(super) fn text(&mut self, sql: &'a str) {
        let client = self.client;
        self.calls.push(Box::pin(async move { client.batch_execute(sql).await.map(|()| vec![]) }));
    }

    pub(super) fn call(&mut self, statement: Statement, parameters: Vec<Parameter<'a>>) {
        let client = self.client;
        self.calls.push(Box::pin(async move { query(client, &statement, &parameters).await }));
    }

    /// The same with parameters that stay where they are.
    pub(super) fn borrowed(&mut self, statement: Statement, parameters: &'a [Parameter<'static>]) {
        let client = self.client;
        self.calls.push(Box::pin(async move { query(client, &statement, parameters).await }));
    }

    /// The rows of each call in order, or the first failure.
    pub(super) async fn rows(self) -> Result<Vec<Vec<Row>>, Error> {
        futures_util::future::join_all(self.calls).await.into_iter().collect()
    }

    /// Sends everything and COMMIT after it.
    pub(super) async fn commit(mut self) -> Ended {
        let mut answers: Vec<Option<Result<Vec<Row>, Error>>> = Vec::new();
        // The first poll of a call sends it.
        std::future::poll_fn(|cx| {
            for call in &mut self.calls {
                answers.push(match call.as_mut().poll(cx) {
                    Poll::Ready(answer) => Some(answer),
                    Poll::Pending => None,
                });
            }
            Poll::Ready(())
        })
        .await;
        if let Some(at) = answers.iter().position(|answer| matches!(answer, Some(Err(_)))) {
            let Some(Err(error)) = answers.swap_remove(at) else {
                unreachable!("the position is that of an error");
            };
            return Ended::NotSent(error);
        }

        let client = self.client;
        let commit: Answer<'a> = Box::pin(async move { client.batch_execute("COMMIT").await.map(|()| vec![]) });
        let waiting = self.calls.into_iter().zip(answers).filter(|(_, answer)| answer.is_none());
        let calls = waiting.map(|(call, _)| call).chain([commit]);
        let mut answers = futures_util::future::join_all(calls).await;
        let committed = answers.pop();
        for answer in answers {
            match answer {
                Ok(_) => {}
                // The server itself says that a statement before COMMIT failed.
                Err(error) if is_an_answer(&error) => return Ended::Undone(error),
                Err(error) => return Ended::Unknown(error),
            }
        }
        match committed {
            Some(Err(error)) => Ended::Unknown(error),
            Some(Ok(_)) | None => Ended::Committed,
        }
    }
}

async fn query(client: &Client, statement: &Statement, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
    let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|one| &**one as &(dyn ToSql + Sync)).collect();
    client.query(statement, &parameters).await
}

fn is_an_answer(error: &Error) -> bool {
    use tokio_postgres::error::Severity;
    let severity = error.as_db_error().and_then(|said| said.parsed_severity());
    severity == Some(Severity::Error)
}
