//! Calendars: which day it is where an account lives.
//!
//! A daily limit that starts anew at midnight in Greenwich is no limit that a customer in Auckland understands. The
//! IANA tables are compiled in, so that every node of a bank counts the same day whatever is installed on it.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, TimeZone, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kernel::types::{Day, Malformed, UnixMillis};

/// An IANA time zone, such as `Europe/Zurich`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Zone(chrono_tz::Tz);

impl Zone {
    pub const UTC: Self = Self(chrono_tz::UTC);

    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The calendar day of an instant here. Days of 23 and 25 hours are days.
    pub fn day(self, at: UnixMillis) -> Day {
        let Some(instant) = DateTime::<Utc>::from_timestamp_millis(at.0) else {
            return Day::utc(at);
        };
        let local = self.0.from_utc_datetime(&instant.naive_utc()).naive_local();
        Day::utc(UnixMillis(local.and_utc().timestamp_millis()))
    }

    /// The seconds since midnight that a clock on a wall here shows, 0 to 86 399. Where clocks are set back it shows
    /// some of them twice.
    pub fn second_of_day(self, at: UnixMillis) -> u32 {
        let Some(instant) = DateTime::<Utc>::from_timestamp_millis(at.0) else {
            return 0;
        };
        self.0.from_utc_datetime(&instant.naive_utc()).naive_local().time().num_seconds_from_midnight()
    }

    /// The instant at which a day begins here: midnight, or the first instant after it where clocks skip midnight.
    pub fn start_of(self, day: Day) -> UnixMillis {
        let midnight = i64::from(day.0).saturating_mul(86_400_000);
        let quarters = (0..96).filter_map(|quarter| {
            let local = DateTime::<Utc>::from_timestamp_millis(midnight + quarter * 900_000)?.naive_utc();
            self.0.from_local_datetime(&local).earliest()
        });
        quarters.map(|at| UnixMillis(at.timestamp_millis())).next().unwrap_or(UnixMillis(midnight))
    }
}

/// A calendar day as it is written: `2026-11-21`.
///
/// # Errors
/// [`Malformed`]
pub fn day_from_text(text: &str) -> Result<Day, Malformed> {
    let malformed = Malformed { what: "day", expected: "a date such as 2026-11-21" };
    let date: NaiveDate = text.parse().map_err(|_| malformed)?;
    Ok(Day(date.to_epoch_days()))
}

/// The day as it is written: `2026-11-21`.
pub fn day_to_text(day: Day) -> String {
    NaiveDate::from_epoch_days(day.0).map_or_else(String::new, |date| date.to_string())
}

impl FromStr for Zone {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let unknown = Malformed { what: "time zone", expected: "an IANA name such as Europe/Zurich" };
        text.parse().map(Self).map_err(|_| unknown)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(zone: &str, rfc3339: &str) -> i32 {
        let at = DateTime::parse_from_rfc3339(rfc3339).unwrap().timestamp_millis();
        zone.parse::<Zone>().unwrap().day(UnixMillis(at)).0
    }

    #[test]
    fn a_day_begins_at_local_midnight() {
        let noon = day("UTC", "2026-11-21T12:00:00Z");
        let table = [
            ("UTC", "2026-11-21T00:00:00Z", 0),
            ("UTC", "2026-11-20T23:59:59.999Z", -1),
            ("Europe/Zurich", "2026-11-20T23:00:00Z", 0),
            ("Europe/Zurich", "2026-11-20T22:59:59Z", -1),
            ("America/New_York", "2026-11-21T04:59:59Z", -1),
            ("America/New_York", "2026-11-21T05:00:00Z", 0),
            ("Pacific/Auckland", "2026-11-21T11:00:00Z", 1),
            ("Asia/Kathmandu", "2026-11-20T18:15:00Z", 0),
            ("Asia/Kathmandu", "2026-11-20T18:14:59Z", -1),
        ];
        for (zone, at, days) in table {
            assert_eq!(day(zone, at) - noon, days, "{zone} {at}");
        }
    }

    #[test]
    fn the_days_on_which_clocks_change_are_one_day_each() {
        // 2026-03-29 has 23 hours in Zurich, 2026-10-25 has 25.
        let short = day("Europe/Zurich", "2026-03-28T23:00:00Z");
        assert_eq!(day("Europe/Zurich", "2026-03-29T21:59:59Z"), short);
        assert_eq!(day("Europe/Zurich", "2026-03-29T22:00:00Z"), short + 1);
        let long = day("Europe/Zurich", "2026-10-24T22:00:00Z");
        assert_eq!(day("Europe/Zurich", "2026-10-25T22:59:59Z"), long);
        assert_eq!(day("Europe/Zurich", "2026-10-25T23:00:00Z"), long + 1);
    }

    #[test]
    fn a_day_starts_at_its_first_instant_also_where_clocks_skip_midnight() {
        // In Beirut clocks skipped from midnight to one on 2022-03-27; in Havana they repeat midnight in autumn.
        for (zone, date, starts) in [
            ("UTC", "2026-11-21", "2026-11-21T00:00:00Z"),
            ("Europe/Zurich", "2026-11-21", "2026-11-20T23:00:00Z"),
            ("Asia/Beirut", "2022-03-27", "2022-03-26T22:00:00Z"),
            ("America/Havana", "2022-11-06", "2022-11-06T04:00:00Z"),
            ("Pacific/Auckland", "1969-07-20", "1969-07-19T12:00:00Z"),
        ] {
            let (zone, date) = (zone.parse::<Zone>().unwrap(), day_from_text(date).unwrap());
            let start = zone.start_of(date);
            assert_eq!(start.0, DateTime::parse_from_rfc3339(starts).unwrap().timestamp_millis(), "{zone} {date:?}");
            assert_eq!((zone.day(start), zone.day(start.plus_ms(-1)).0), (date, date.0 - 1));
        }
        for text in ["", "2026-13-01", "2026-02-30", "21.11.2026", "2026-11-21T00:00"] {
            assert!(day_from_text(text).is_err(), "{text}");
        }
        assert_eq!(day_to_text(day_from_text("2026-11-21").unwrap()), "2026-11-21");
    }

    #[test]
    fn names_outside_the_tables_are_refused() {
        for name in ["", "Mars/Olympus", "europe/zurich", "+01:00", "CET+1"] {
            assert!(name.parse::<Zone>().is_err(), "{name}");
        }
    }
}
