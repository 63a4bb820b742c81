//! The daemons that share a database: each says how much of what was revoked it has acted on.

use std::sync::LazyLock;

use super::PostgresStore;
use super::lists::{Reading, unreadable};
use super::load::Call;
use super::reads::Ask;
use super::rows::{self, Read};
use super::session::Session;
use crate::store::{LEASE_MARGIN_MS, LEASE_MS, Nodes};

/// Rows of daemons that are long gone are taken away by those that live.
const SERVE: &str = "WITH gone AS (DELETE FROM daemons WHERE renewed < clock_timestamp() - interval '1 hour'),
    renewed AS (INSERT INTO daemons (daemon, acted_on, renewed) VALUES ($1, $2, clock_timestamp())
        ON CONFLICT (daemon) DO UPDATE SET acted_on = excluded.acted_on, renewed = excluded.renewed)
    SELECT count FROM status_changes";

/// Renews a lease; answers how often the status has changed. The commit that this is part of shares the lock that a
/// revocation takes alone, so that none is missed.
///
/// # Errors
/// A statement's failure.
pub(super) async fn serve(session: &mut Session, node: &str, acted_on: u64) -> Read<u64> {
    let call = Call { sql: SERVE.into(), parameters: vec![Box::new(node), Box::new(i64::try_from(acted_on)?)] };
    match session.query(&call).await?.first() {
        Some(row) => rows::unsigned(row, 0),
        None => Err("the count of status changes is not there".into()),
    }
}

impl PostgresStore {
    /// Of one snapshot.
    pub(super) fn read_nodes(&self) -> Reading<Nodes> {
        static SERVING: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT daemon, acted_on FROM daemons
                 WHERE renewed > clock_timestamp() - interval '{} milliseconds' ORDER BY daemon",
                LEASE_MS + LEASE_MARGIN_MS
            )
        });
        let changes = Ask::new("SELECT count FROM status_changes", vec![]);
        let answers = self.reads.rows(vec![changes, Ask::new(&SERVING, vec![])])?;
        let [changes, serving] = &answers[..] else {
            return Err(unreadable(&"two lists were asked for"));
        };
        let read = || -> Read<Nodes> {
            let changes = changes.first().map(|row| rows::unsigned(row, 0)).transpose()?.unwrap_or(0);
            let serving = serving.iter().map(|row| Ok((rows::get(row, 0)?, rows::unsigned(row, 1)?)));
            Ok(Nodes { changes, serving: serving.collect::<Read<_>>()? })
        };
        read().map_err(|fault| unreadable(&fault))
    }
}
