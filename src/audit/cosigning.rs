//! How far a witness is behind this log: what the one thread that asks it has seen, for everybody who acts on it.
//!
//! Lag is counted from the last moment at which all that was there had its cosignature, on the boot clock; for what waits
//! already when a daemon starts, from the newest cosignature, so that no restart begins the count anew. A thread that does
//! not look any more counts as a witness that is silent. What another node of the bank had cosigned is seen in the store.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::settings::LagMax;
use crate::kernel::witness::Head;
use crate::ops::clock;
use crate::ops::failure::Failure;

/// What the witness has seen is not what this store has: whoever decided on would undo what was decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Disagreement {
    /// It has seen more.
    StoreOlder { remembered: Head, leaves: u64 },
    /// It has seen other leaves.
    Forked { remembered: Head },
}

impl Disagreement {
    /// The stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::StoreOlder { .. } => "store_older_than_witnessed",
            Self::Forked { .. } => "log_forked",
        }
    }

    /// What is told and what to do about it.
    pub fn failure(&self) -> Failure {
        let next_step = "stop the daemon and put the newest store back: what was decided since, revocations too, is missing \
                         here. If it is lost for ever, agree with the security company: `countersign witness accept` there";
        let message = match self {
            Self::StoreOlder { remembered, leaves } => {
                format!("the witness has cosigned {} leaves of this log, and the store has {leaves}", remembered.size)
            }
            Self::Forked { remembered } => {
                format!(
                    "the first {} leaves of this store are not those that the witness has cosigned",
                    remembered.size
                )
            }
        };
        Failure::refused(self.name(), message, next_step)
    }
}

/// Where the witness stands, for `doctor` and people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CosigningState {
    pub max: LagMax,
    /// Leaves of the newest checkpoint, and of the newest that is cosigned.
    pub size: u64,
    pub cosigned_size: u64,
    pub lag_leaves: u64,
    pub lag_ms: i64,
    /// What the witness itself remembers, once it has said so.
    pub remembered: Option<Head>,
    /// Why the last question came to nothing.
    pub fault: Option<Failure>,
    /// Why this node decides nothing.
    pub refused: Option<Failure>,
}

/// Shared by the thread that asks and by everybody who acts on the lag.
#[derive(Debug)]
pub struct Cosigning {
    max: LagMax,
    /// Guards a few numbers; never held across a call.
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// Boot clock: of the last look.
    looked_ms: i64,
    size: u64,
    cosigned_size: u64,
    /// Boot clock: of the last look at which everything was cosigned that was there. None: nothing waits.
    waiting_since_ms: Option<i64>,
    remembered: Option<Head>,
    fault: Option<Failure>,
    disagreement: Option<Disagreement>,
    /// The witness has agreed since this process began.
    has_agreed: bool,
    /// This process has served, or could have: from then on leaves wait, whatever is missing later.
    was_set_up: SetUp,
}

/// Whether agents could be served here at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetUp {
    Yes,
    /// Something is missing: the other party may not be known yet.
    NotYet,
}

impl Cosigning {
    pub fn new(max: LagMax) -> Self {
        let seen = Seen {
            looked_ms: clock::boot_ms(),
            size: 0,
            cosigned_size: 0,
            waiting_since_ms: None,
            remembered: None,
            fault: None,
            disagreement: None,
            has_agreed: false,
            was_set_up: SetUp::NotYet,
        };
        Self { max, seen: Mutex::new(seen) }
    }

    /// The log has so many leaves now, and so many are cosigned.
    pub fn looked(&self, now_ms: i64, size: u64, cosigned_size: u64) {
        let mut seen = self.seen();
        seen.waiting_since_ms = if cosigned_size >= size {
            None
        } else if cosigned_size >= seen.size {
            // What waits has come since the look before.
            Some(seen.looked_ms)
        } else {
            Some(seen.waiting_since_ms.unwrap_or(seen.looked_ms))
        };
        (seen.looked_ms, seen.size, seen.cosigned_size) = (now_ms, size, cosigned_size);
    }

    /// What waits at a start has waited for so long already, by the newest cosignature; None: there is none, and no more
    /// time is given. Says nothing when nothing waits.
    pub fn has_waited(&self, now_ms: i64, age_ms: Option<i64>) {
        let age_ms = age_ms.unwrap_or(i64::from(self.max.seconds) * 1_000 + 1).max(0);
        let mut seen = self.seen();
        seen.waiting_since_ms = seen.waiting_since_ms.map(|since| since.min(now_ms.saturating_sub(age_ms)));
    }

    /// Whether leaves have to be cosigned: until agents can be served at all nothing has to wait, and what goes missing
    /// afterwards changes nothing.
    pub fn counts(&self, now: SetUp) -> bool {
        let mut seen = self.seen();
        if now == SetUp::Yes {
            seen.was_set_up = SetUp::Yes;
        }
        seen.was_set_up == SetUp::Yes
    }

    /// The witness has said what it remembers, and this store has the same. Answers what it disagreed with before.
    pub fn agreed(&self, remembered: Head) -> Option<Disagreement> {
        let mut seen = self.seen();
        seen.remembered = Some(remembered);
        seen.has_agreed = true;
        seen.disagreement.take()
    }

    /// Whether the witness has said since this process began that it remembers what this store has, and nothing else later.
    pub fn has_agreed(&self) -> bool {
        let seen = self.seen();
        seen.has_agreed && seen.disagreement.is_none()
    }

    /// The witness has said what it remembers, and this store has not. Answers whether that is news.
    pub fn disagreed(&self, disagreement: &Disagreement) -> Option<()> {
        let mut seen = self.seen();
        seen.remembered = None;
        let is_news = seen.disagreement.as_ref().map(Disagreement::name) != Some(disagreement.name());
        seen.disagreement = Some(disagreement.clone());
        is_news.then_some(())
    }

    /// What the witness remembers, as far as it has said and this store agrees.
    pub fn remembered(&self) -> Option<Head> {
        self.seen().remembered
    }

    /// It has to be asked anew what it remembers.
    pub fn forget_remembered(&self) {
        self.seen().remembered = None;
    }

    /// How the last question ended. Answers whether another failure than before.
    pub fn ended(&self, fault: Option<Failure>) -> Option<Failure> {
        let mut seen = self.seen();
        let before = std::mem::replace(&mut seen.fault, fault);
        let changed = before.as_ref().map(|failure| &failure.name) != seen.fault.as_ref().map(|failure| &failure.name);
        if changed { seen.fault.clone().or(before) } else { None }
    }

    /// Why this node decides nothing: the witness has seen what it has not.
    pub fn disagreement(&self) -> Option<Disagreement> {
        self.seen().disagreement.clone()
    }

    /// Why no money may move, in words: the witness disagrees, or lags too far. None: it may.
    pub fn overdue(&self, now_ms: i64) -> Option<String> {
        let state = self.state(now_ms);
        if let Some(refused) = state.refused {
            return Some(refused.message);
        }
        let because = state.fault.map(|fault| format!(": {}", fault.message)).unwrap_or_default();
        if state.lag_ms > i64::from(self.max.seconds) * 1_000 {
            return Some(format!("the audit log has had no cosignature for {} s{because}", state.lag_ms / 1_000));
        }
        (state.lag_leaves > self.max.leaves)
            .then(|| format!("{} leaves of the audit log are without a cosignature{because}", state.lag_leaves))
    }

    pub fn state(&self, now_ms: i64) -> CosigningState {
        let seen = self.seen();
        CosigningState {
            max: self.max,
            size: seen.size,
            cosigned_size: seen.cosigned_size,
            lag_leaves: seen.size.saturating_sub(seen.cosigned_size),
            lag_ms: now_ms.saturating_sub(seen.waiting_since_ms.unwrap_or(seen.looked_ms)).max(0),
            remembered: seen.remembered,
            fault: seen.fault.clone(),
            refused: seen.disagreement.as_ref().map(Disagreement::failure),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosigning() -> (Cosigning, i64) {
        let cosigning = Cosigning::new(LagMax { seconds: 60, leaves: 100 });
        let began = cosigning.seen().looked_ms;
        (cosigning, began)
    }

    #[test]
    fn lag_is_counted_from_the_last_look_at_which_all_was_cosigned() {
        let (cosigning, began) = cosigning();
        // (seconds since the start, leaves, of them cosigned) → lag in seconds right then
        for (at, size, cosigned, lag) in [
            (1, 0, 0, 0),
            (2, 5, 0, 1),
            (40, 9, 0, 39),
            (41, 9, 5, 40),
            (42, 9, 9, 0),
            (90, 9, 9, 0),
            (91, 12, 9, 1),
            (92, 15, 12, 1),
            (100, 20, 12, 9),
            (101, 20, 15, 10),
        ] {
            let now = began + at * 1_000;
            cosigning.looked(now, size, cosigned);
            assert_eq!(cosigning.state(now).lag_ms, lag * 1_000, "at {at}");
            assert_eq!(cosigning.overdue(now), None, "at {at}");
        }
    }

    #[test]
    fn money_stops_past_either_limit_and_when_nobody_looks() {
        let (cosigning, began) = cosigning();
        assert_eq!(cosigning.overdue(began + 60_000), None);
        assert!(cosigning.overdue(began + 60_001).unwrap().contains("for 60 s"), "nobody has looked");
        cosigning.looked(began + 61_000, 5, 5);
        assert_eq!(cosigning.overdue(began + 61_000), None);
        cosigning.looked(began + 62_000, 105, 5);
        assert_eq!(cosigning.overdue(began + 62_000), None);
        cosigning.looked(began + 63_000, 106, 5);
        cosigning.ended(Some(Failure::busy("peer_unreachable", "it is away", "wait")));
        assert_eq!(
            cosigning.overdue(began + 63_000).as_deref(),
            Some("101 leaves of the audit log are without a cosignature: it is away")
        );
        cosigning.looked(began + 64_000, 106, 50);
        assert!(cosigning.overdue(began + 122_000).is_some(), "what waits has waited since 61");
    }

    #[test]
    fn what_waits_at_a_start_has_waited_since_the_newest_cosignature() {
        // (leaves, of them cosigned at the start, age of the newest cosignature) → lag right then, whether money is stopped
        for (size, cosigned, age_ms, lag, is_stopped) in [
            (9, 9, Some(3_600_000), 0, false),
            (9, 5, Some(3_600_000), 3_600_000, true),
            (9, 5, Some(30_000), 30_000, false),
            (9, 5, Some(-7), 0, false),
            (9, 0, None, 60_001, true),
            (0, 0, None, 0, false),
        ] {
            let (cosigning, began) = cosigning();
            cosigning.looked(began, size, cosigned);
            cosigning.has_waited(began, age_ms);
            assert_eq!(cosigning.state(began).lag_ms, lag, "{cosigned} of {size}, {age_ms:?}");
            assert_eq!(cosigning.overdue(began).is_some(), is_stopped, "{cosigned} of {size}, {age_ms:?}");
            // It goes on counting, and ends with the first cosignature over all that waited.
            cosigning.looked(began + 1_000, size + 1, cosigned);
            assert_eq!(cosigning.overdue(began + 1_000).is_some(), is_stopped);
            cosigning.looked(began + 2_000, size + 2, size + 1);
            assert_eq!(cosigning.overdue(began + 2_000), None);
        }
    }

    #[test]
    fn what_goes_missing_later_stops_no_counting() {
        let (cosigning, _) = cosigning();
        assert!(!cosigning.counts(SetUp::NotYet));
        assert!(cosigning.counts(SetUp::Yes) && cosigning.counts(SetUp::NotYet));
    }

    #[test]
    fn a_disagreement_stands_until_the_witness_agrees_and_is_news_once() {
        let (cosigning, began) = cosigning();
        let remembered = Head { size: 9, ..Head::empty() };
        let older = Disagreement::StoreOlder { remembered, leaves: 7 };
        assert_eq!((cosigning.disagreed(&older), cosigning.disagreed(&older)), (Some(()), None));
        let refused = cosigning.state(began).refused.unwrap();
        assert_eq!(refused.name, "store_older_than_witnessed");
        assert!(refused.message.contains("9 leaves") && refused.message.contains("has 7"), "{refused:?}");
        assert!(cosigning.overdue(began).is_some());
        assert_eq!(cosigning.remembered(), None);
        assert_eq!(cosigning.disagreed(&Disagreement::Forked { remembered }), Some(()));
        assert!(cosigning.agreed(remembered).is_some());
        assert_eq!((cosigning.overdue(began), cosigning.agreed(remembered)), (None, None));
    }

    #[test]
    fn a_failure_is_told_once_and_so_is_its_end() {
        let (cosigning, _) = cosigning();
        let away = || Some(Failure::busy("peer_unreachable", "away", "wait"));
        assert_eq!(cosigning.ended(None), None);
        assert!(cosigning.ended(away()).is_some());
        assert_eq!(cosigning.ended(away()), None);
        assert!(cosigning.ended(None).is_some());
        assert_eq!(cosigning.ended(None), None);
    }
}
