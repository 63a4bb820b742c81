//! The end of what leaves say when its time is over, and which clock says that it is.
//!
//! What is destroyed by the day must not follow a wrong clock. Where a witness cosigns the log, its time, under its
//! signature, is believed before ours. Elsewhere our own is compared with what the store said when the daemon started: a
//! machine that boots years ahead of its own newest leaf destroys nothing.

use super::Log;
use super::search::time_of;
use super::settings::AuditSettings;
use super::subjects::{applied, unexpected};
use super::witnessed::cosigned_at;
use crate::kernel::command::{Act, Actor, Effect};
use crate::kernel::subject::Period;
use crate::kernel::types::UnixMillis;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::Store;

/// Data keys that one commit destroys, and such commits in one turn: payments come between them.
const LAPSED_KEYS: u32 = 200;
const LAPSED_COMMITS: u32 = 50;
const DAY_MS: i64 = 86_400_000;
/// A daemon may have been off for so long.
const OFF_MS: i64 = 31 * DAY_MS;
/// Newest leaves that are looked at for one that has a time.
const LOOKED_AT: u32 = 64;

/// What clock and store said when this daemon started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    wall: UnixMillis,
    newest: Newest,
}

/// The time of the newest leaf that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Newest {
    /// Nothing was recorded yet, so nothing has had its time.
    None,
    At(UnixMillis),
    Unreadable,
}

/// Why no clock is believed, and nothing has its end for now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Doubt {
    #[error("the clock of this machine was set while the daemon ran")]
    WasSet,
    #[error("no witness has cosigned this log yet, and its clock is the one that counts")]
    NotCosigned,
    #[error("the clock was more than 31 days ahead of the newest leaf, of {}, when the daemon started", .0.rfc3339())]
    Ahead(UnixMillis),
    #[error("none of the newest leaves can be read, so nothing says whether the clock is right")]
    Unreadable,
}

impl Start {
    /// Looks before this daemon has recorded anything.
    ///
    /// # Errors
    /// The store's.
    pub fn look(store: &dyn Store) -> Result<Self, Failure> {
        let size = store.newest_checkpoint()?.map_or(0, |record| record.size);
        let mut leaves = store.leaves(size.saturating_sub(LOOKED_AT.into()), LOOKED_AT)?;
        leaves.extend(store.unsequenced(LOOKED_AT)?);
        let newest = match leaves.iter().filter_map(time_of).max() {
            Some(at) => Newest::At(at),
            None if leaves.is_empty() => Newest::None,
            None => Newest::Unreadable,
        };
        Ok(Self { wall: clock::now(), newest })
    }

    /// Up to when what leaves say may have had its time. `log`: one that a witness cosigns.
    ///
    /// # Errors
    /// The store's. That no clock is believed is an answer.
    pub fn time(&self, log: Option<&Log>) -> Result<Result<UnixMillis, Doubt>, Failure> {
        if !clock::wall_is_steady() {
            return Ok(Err(Doubt::WasSet));
        }
        let wall = clock::now();
        Ok(match log {
            Some(log) => witnessed(wall, log.cosigned()?.and_then(|newest| cosigned_at(&newest.cosignature))),
            None => self.unwitnessed(wall),
        })
    }

    /// By our own clock, which has gone on as it should since this start.
    fn unwitnessed(&self, wall: UnixMillis) -> Result<UnixMillis, Doubt> {
        match self.newest {
            Newest::At(newest) if self.wall > newest.plus_ms(OFF_MS) => Err(Doubt::Ahead(newest)),
            Newest::None | Newest::At(_) => Ok(wall),
            Newest::Unreadable => Err(Doubt::Unreadable),
        }
    }
}

/// By the clock of the witness, unless ours is behind it.
fn witnessed(wall: UnixMillis, cosigned: Option<UnixMillis>) -> Result<UnixMillis, Doubt> {
    cosigned.map(|at| at.min(wall)).ok_or(Doubt::NotCosigned)
}

/// Destroys data keys whose time is over at `time` (`[audit] retention_days`), in small commits, each with a leaf that
/// counts them. What is left for the next turn is done then.
///
/// # Errors
/// The store's.
pub fn lapse(store: &dyn Store, settings: &AuditSettings, time: UnixMillis) -> Result<u32, Failure> {
    let Some(days) = settings.retention_days else {
        return Ok(0);
    };
    // A month ends before the first day that is kept: no leaf goes before its time.
    let before = Period::of(time.plus_ms(-DAY_MS * i64::from(days)));
    let mut lapsed = 0_u32;
    for _ in 0..LAPSED_COMMITS {
        let act = Act::LapseKeys { before, limit: LAPSED_KEYS };
        let effect = applied(store, Actor::System { component: "retention".into() }, act)?;
        let Effect::Lapsed { keys } = effect else {
            return Err(unexpected(&effect));
        };
        lapsed = lapsed.saturating_add(keys);
        if keys < LAPSED_KEYS {
            break;
        }
    }
    Ok(lapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    const YEARS_MS: i64 = 3_650 * DAY_MS;

    #[test]
    fn a_clock_that_is_years_ahead_is_not_believed() {
        let later = NOW.plus_ms(YEARS_MS);
        for (what, wall, cosigned, time) in [
            ("as the witness has it", NOW, Some(NOW), Ok(NOW)),
            ("ten years ahead of the witness", later, Some(NOW), Ok(NOW)),
            ("behind the witness", NOW, Some(later), Ok(NOW)),
            ("nobody has cosigned", later, None, Err(Doubt::NotCosigned)),
        ] {
            assert_eq!(witnessed(wall, cosigned), time, "{what}");
        }
        let limit = NOW.plus_ms(OFF_MS);
        for (what, newest, wall, time) in [
            ("the first start", Newest::None, later, Ok(later)),
            ("the same day", Newest::At(NOW), NOW, Ok(NOW)),
            ("off for 31 days", Newest::At(NOW), limit, Ok(limit)),
            ("off for longer", Newest::At(NOW), limit.plus_ms(1), Err(Doubt::Ahead(NOW))),
            ("ten years ahead", Newest::At(NOW), later, Err(Doubt::Ahead(NOW))),
            ("behind its leaves", Newest::At(later), NOW, Ok(NOW)),
            ("nothing to go by", Newest::Unreadable, NOW, Err(Doubt::Unreadable)),
        ] {
            assert_eq!(Start { wall, newest }.unwitnessed(wall), time, "{what}");
        }
        // Years of steady work make no doubt.
        assert_eq!(Start { wall: NOW, newest: Newest::At(NOW) }.unwitnessed(later), Ok(later));
    }
}
