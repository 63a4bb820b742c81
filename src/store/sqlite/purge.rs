//! Forgetting single-use keys whose window has passed.

use rusqlite::{Connection, params};

use super::memory::Memory;
use super::signing;
use crate::kernel::decide::RowFault;
use crate::kernel::types::{Day, UnixMillis};
use crate::store::keep::Keep;

/// Removes at most `limit` keys of days before their window, oldest first. Answers how many.
pub(super) fn forget_keys(
    connection: &Connection,
    memory: &mut Memory,
    keep: Keep,
    now: UnixMillis,
    limit: u32,
) -> Result<u32, RowFault> {
    let bindings = "DELETE FROM bindings WHERE (day, scope) IN
                    (SELECT day, scope FROM bindings WHERE day < ?1 ORDER BY day LIMIT ?2)";
    let nonces = "DELETE FROM nonces WHERE (day, nonce) IN
                  (SELECT day, nonce FROM nonces WHERE day < ?1 ORDER BY day LIMIT ?2)";
    let remove = |sql: &str, oldest: Day, limit: u32| -> Result<u32, RowFault> {
        Ok(u32::try_from(connection.prepare_cached(sql)?.execute(params![oldest.0, limit])?)?)
    };
    let removed = remove(bindings, keep.oldest_binding(now), limit)?;
    let paces = "DELETE FROM paces WHERE name IN (SELECT name FROM paces WHERE ends < ?1 ORDER BY ends LIMIT ?2)";
    connection.prepare_cached("DELETE FROM turns WHERE taken_until < ?1")?.execute([now.0.saturating_mul(1_000)])?;
    let left = limit.saturating_sub(removed);
    let of_paces = connection.prepare_cached(paces)?.execute(params![now.0, left])?;
    let removed = removed + u32::try_from(of_paces)?;
    let removed = removed + remove(nonces, keep.oldest_nonce(now), limit.saturating_sub(removed))?;
    let removed = removed + signing::forget(connection, keep.oldest_binding(now), limit.saturating_sub(removed))?;
    if let Some(keys) = memory.keys.as_mut().filter(|_| removed > 0) {
        // A day that still has rows is still known: the clock may be set back into its window.
        let first = |sql: &str| -> Result<Option<i32>, RowFault> {
            Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
        };
        let first_binding = first("SELECT min(day) FROM bindings")?;
        keys.bindings.retain(|day, _| first_binding.is_some_and(|first| day.0 >= first));
        let first_nonce = first("SELECT min(day) FROM nonces")?;
        keys.nonces.retain(|day, _| first_nonce.is_some_and(|first| day.0 >= first));
    }
    Ok(removed)
}
