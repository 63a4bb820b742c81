//! Hours of the week, by the clock on an account's wall.
//!
//! What counts is what that clock shows: where clocks skip an hour nothing happens in it, and where they show one twice
//! both are that hour. A window that ends before it begins goes on after midnight and belongs to the day it began on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kernel::types::{Day, Malformed};

const DAY_S: u32 = 86_400;

/// An instant as a clock on a wall shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalTime {
    pub day: Day,
    /// Seconds since midnight as the clock shows them, 0 to 86 399.
    pub second: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Weekday {
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    /// The day of the week of a calendar day. 1970-01-01 was a Thursday.
    pub fn of(day: Day) -> Self {
        let since_monday = (i64::from(day.0) + 3).rem_euclid(7);
        Self::ALL[usize::try_from(since_monday).unwrap_or(0)]
    }
}

/// A time of day, `00:00` to `24:00`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Clock {
    minute: u16,
}

impl Clock {
    const END: u16 = 24 * 60;

    fn second(self) -> u32 {
        u32::from(self.minute) * 60
    }
}

impl FromStr for Clock {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed { what: "time of day", expected: "HH:MM, 00:00 to 24:00" };
        let two = |part: &str| match part.as_bytes() {
            [tens, ones] if tens.is_ascii_digit() && ones.is_ascii_digit() => {
                Some(u16::from(tens - b'0') * 10 + u16::from(ones - b'0'))
            }
            _ => None,
        };
        let (hour, minute) = text.split_once(':').ok_or_else(malformed)?;
        let (hour, minute) = two(hour).zip(two(minute)).ok_or_else(malformed)?;
        let whole = hour * 60 + minute;
        if minute > 59 || whole > Self::END { Err(malformed()) } else { Ok(Self { minute: whole }) }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.minute / 60, self.minute % 60)
    }
}

impl Serialize for Clock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Clock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A window of these days: from the first instant of `from` until before `to`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    pub days: Vec<Weekday>,
    pub from: Clock,
    pub to: Clock,
}

impl Hours {
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.days.is_empty() {
            return Err("need days, such as [\"mon\", \"tue\"]");
        }
        if self.from.minute == Clock::END {
            return Err("from must be before 24:00");
        }
        if self.from == self.to {
            return Err("from and to are the same; a whole day is 00:00 to 24:00");
        }
        Ok(())
    }

    /// Whether the clock shows a time in this window.
    pub fn contain(&self, at: LocalTime) -> bool {
        let on = |day: Day| self.days.contains(&Weekday::of(day));
        let (from, to) = (self.from.second(), self.to.second());
        let second = at.second.min(DAY_S - 1);
        if from < to {
            return on(at.day) && (from..to).contains(&second);
        }
        let began_yesterday = second < to && on(Day(at.day.0.saturating_sub(1)));
        began_yesterday || (second >= from && on(at.day))
    }
}
