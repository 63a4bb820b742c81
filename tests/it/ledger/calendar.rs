//! Which day it is somewhere, by arithmetic of our own: fixed offsets and the three rules of summer time that tests use.

/// Days since 1970-01-01 of this instant (milliseconds) where clocks are those of `zone`.
pub fn day(zone: &str, at_ms: i64) -> i64 {
    (at_ms + offset_ms(zone, at_ms)).div_euclid(DAY_MS)
}

/// The first instant of the local day after the one that `at_ms` is in.
pub fn next_midnight(zone: &str, at_ms: i64) -> i64 {
    let today = day(zone, at_ms);
    // Days have 23 to 25 hours; midnight itself is never skipped in these zones.
    let near = (today + 1) * DAY_MS - offset_ms(zone, at_ms);
    let found = [near - HOUR_MS, near, near + HOUR_MS].into_iter().find(|at| day(zone, *at) == today + 1);
    found.expect("one of the three is the midnight or the hour after it")
}

pub const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 24 * HOUR_MS;

fn offset_ms(zone: &str, at_ms: i64) -> i64 {
    let year = year_of(at_ms.div_euclid(DAY_MS));
    let at = |day: i64, hour: i64| day * DAY_MS + hour * HOUR_MS;
    match zone {
        "UTC" => 0,
        "Asia/Kathmandu" => 5 * HOUR_MS + 2_700_000,
        "America/Phoenix" => -7 * HOUR_MS,
        // 01:00 UTC on the last Sundays of March and October.
        "Europe/Zurich" => {
            let summer = at(last_sunday(year, 3), 1)..at(last_sunday(year, 10), 1);
            HOUR_MS * if summer.contains(&at_ms) { 2 } else { 1 }
        }
        // 02:00 local time on the second Sunday of March (07:00 UTC) and the first of November (06:00 UTC).
        "America/New_York" => {
            let summer = at(sunday_from(year, 3, 8), 7)..at(sunday_from(year, 11, 1), 6);
            -HOUR_MS * if summer.contains(&at_ms) { 4 } else { 5 }
        }
        // Summer is over the new year: from 14:00 UTC before the last Sunday of September to the first of April.
        "Pacific/Auckland" => {
            let winter = at(sunday_from(year, 4, 1) - 1, 14)..at(last_sunday(year, 9) - 1, 14);
            HOUR_MS * if winter.contains(&at_ms) { 12 } else { 13 }
        }
        other => panic!("the tests' calendar does not know {other}"),
    }
}

/// Days since 1970-01-01 of a date, by counting.
fn date(year: i64, month: i64, day_of_month: i64) -> i64 {
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let years: i64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let february = if leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before: i64 = months.iter().take(usize::try_from(month - 1).unwrap()).sum();
    years + before + day_of_month - 1
}

fn year_of(day: i64) -> i64 {
    (1970..).find(|year| day < date(year + 1, 1, 1)).expect("every day is in a year")
}

/// The first Sunday on or after this date. 1970-01-01 was a Thursday.
fn sunday_from(year: i64, month: i64, day_of_month: i64) -> i64 {
    let from = date(year, month, day_of_month);
    from + (7 - (from + 4).rem_euclid(7)) % 7
}

/// Of a month of 31 days, or of September.
fn last_sunday(year: i64, month: i64) -> i64 {
    sunday_from(year, month, if month == 9 { 24 } else { 25 })
}

/// The month that a day lies in, counted from January of 1970.
pub fn month(day: i64) -> i64 {
    let year = year_of(day);
    let month = (1..=12).rev().find(|month| date(year, *month, 1) <= day).expect("every day is in a month");
    (year - 1970) * 12 + month - 1
}

/// Milliseconds since 1970 of a time of day in UTC.
pub fn utc(year: i64, month: i64, day_of_month: i64, hour: i64, minute: i64) -> i64 {
    date(year, month, day_of_month) * DAY_MS + hour * HOUR_MS + minute * 60_000
}
