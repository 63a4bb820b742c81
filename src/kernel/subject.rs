//! Who a leaf of the audit log is about, and in which month it was written: what is erased together.
//!
//! One subject a leaf, by a fixed rule ([`about`](crate::kernel::decide::about)): its contents are sealed under a key of
//! that subject and month, and destroying the key is what erases them (`docs/RETENTION.md`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::{Date, Month, OffsetDateTime};

use crate::kernel::types::{OperatorName, OwnerId, SpiffeId, UnixMillis};

/// Whose key seals a leaf.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DataSubject {
    /// A customer of the bank, by the name under which accounts are theirs.
    Owner(OwnerId),
    Agent(SpiffeId),
    /// One of the party's own people.
    Operator(OperatorName),
    /// A user of this machine whose programs have something signed, by number.
    Program(u32),
    /// Nobody: sums, the daemon's own work. Never erased on request.
    System,
    /// All of them at once: to be held, and never what a leaf is about.
    All,
}

/// A text that names no subject.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a subject is owner:<id>, agent:<SPIFFE ID>, operator:<name> or program:<user id>; to be held also system, or all"
)]
pub struct NoSubject;

impl fmt::Display for DataSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(owner) => write!(f, "owner:{owner}"),
            Self::Agent(agent) => write!(f, "agent:{agent}"),
            Self::Operator(name) => write!(f, "operator:{name}"),
            Self::Program(uid) => write!(f, "program:{uid}"),
            Self::System => f.write_str("system"),
            Self::All => f.write_str("all"),
        }
    }
}

impl FromStr for DataSubject {
    type Err = NoSubject;

    fn from_str(text: &str) -> Result<Self, NoSubject> {
        match text.split_once(':') {
            Some(("owner", owner)) => owner.parse().map(Self::Owner).map_err(|_| NoSubject),
            Some(("agent", agent)) => agent.parse().map(Self::Agent).map_err(|_| NoSubject),
            Some(("operator", name)) => name.parse().map(Self::Operator).map_err(|_| NoSubject),
            Some(("program", uid)) => {
                let number = uid.parse().ok().filter(|number: &u32| number.to_string() == uid);
                number.map(Self::Program).ok_or(NoSubject)
            }
            None if text == "system" => Ok(Self::System),
            None if text == "all" => Ok(Self::All),
            Some(_) | None => Err(NoSubject),
        }
    }
}

impl From<DataSubject> for String {
    fn from(subject: DataSubject) -> Self {
        subject.to_string()
    }
}

impl TryFrom<String> for DataSubject {
    type Error = NoSubject;

    fn try_from(text: String) -> Result<Self, NoSubject> {
        text.parse()
    }
}

/// A month of the UTC calendar, counted from January 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Period(pub i32);

/// A text that names no month.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a month is written 2026-11")]
pub struct NoPeriod;

impl TryFrom<String> for Period {
    type Error = NoPeriod;

    /// The reverse of `Display`, and nothing else.
    fn try_from(text: String) -> Result<Self, NoPeriod> {
        let (year, month) = text.split_once('-').ok_or(NoPeriod)?;
        let (year, month): (i32, i32) = (year.parse().map_err(|_| NoPeriod)?, month.parse().map_err(|_| NoPeriod)?);
        let months = year.checked_sub(1970).and_then(|years| years.checked_mul(12)?.checked_add(month - 1));
        let period = Self(months.ok_or(NoPeriod)?);
        if period.to_string() == text { Ok(period) } else { Err(NoPeriod) }
    }
}

impl Period {
    /// The month of an instant. What no calendar holds counts as its nearest month.
    pub fn of(at: UnixMillis) -> Self {
        let (first, last) = (OffsetDateTime::UNIX_EPOCH, Date::MAX.midnight().assume_utc());
        let date = OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1_000))
            .unwrap_or(if at.0 < 0 { first } else { last })
            .date();
        Self((date.year() - 1970) * 12 + i32::from(u8::from(date.month())) - 1)
    }
}

/// `2026-11`
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let month = u8::try_from(self.0.rem_euclid(12) + 1).ok().and_then(|number| Month::try_from(number).ok());
        write!(f, "{:04}-{:02}", 1970 + self.0.div_euclid(12), month.map_or(0, u8::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_read_back_as_it_was_written_and_nothing_else_is_one() {
        for text in [
            "owner:OWN_001",
            "agent:spiffe://countersign.example/agent/purchaser/shopper",
            "operator:ada",
            "program:0",
            "program:1001",
            "system",
            "all",
        ] {
            assert_eq!(text.parse::<DataSubject>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "owner:",
            "owner",
            "OWN_001",
            "agent:shopper",
            "program:",
            "program:01",
            "program:+1",
            "program:billing",
            "program:4294967296",
            "system:sweeper",
            "all:",
            "erased:00",
            "owner:a b",
        ] {
            assert_eq!(text.parse::<DataSubject>(), Err(NoSubject), "{text:?}");
        }
    }

    #[test]
    fn a_period_is_a_month_of_the_utc_calendar() {
        for (at, period) in [
            (0, "1970-01"),
            (-1, "1969-12"),
            (1_798_761_599_999, "2026-12"),
            (1_798_761_600_000, "2027-01"),
            (951_782_400_000, "2000-02"),
        ] {
            assert_eq!(Period::of(UnixMillis(at)).to_string(), period, "{at}");
        }
        assert_eq!(Period::try_from("2026-12".to_owned()), Ok(Period(683)));
        for text in ["", "2026", "2026-1", "2026-13", "2026-00", "26-01", "2026-+1", "2026-01-01", "99999999999-01"] {
            assert_eq!(Period::try_from(text.to_owned()), Err(NoPeriod), "{text:?}");
        }
        assert!(Period::of(UnixMillis(i64::MAX)) > Period::of(UnixMillis(0)));
        assert_eq!(Period::of(UnixMillis(i64::MIN)), Period(0));
    }
}
