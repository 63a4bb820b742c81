//! Periods of budgets and recurrences: calendar periods where the account lives.

use chrono::{Datelike, Months, NaiveDate};

use crate::kernel::types::Day;

/// The day under which is counted what is counted once for all of a mandate's life.
pub const LIFE: Day = Day(0);

/// How often something starts anew; the words are AP2's frequencies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Period {
    /// `ON_DEMAND`: never.
    Life,
    Daily,
    /// Weeks begin on Monday (ISO 8601).
    Weekly,
    /// Two weeks, counted from the week in which the mandate begins.
    Biweekly,
    Monthly,
    Quarterly,
    Annually,
}

impl Period {
    pub const ALL: [Self; 7] =
        [Self::Life, Self::Daily, Self::Weekly, Self::Biweekly, Self::Monthly, Self::Quarterly, Self::Annually];

    /// AP2's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Life => "ON_DEMAND",
            Self::Daily => "DAILY",
            Self::Weekly => "WEEKLY",
            Self::Biweekly => "BIWEEKLY",
            Self::Monthly => "MONTHLY",
            Self::Quarterly => "QUARTERLY",
            Self::Annually => "ANNUALLY",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|period| period.name() == name)
    }

    /// The first day of the period that `day` lies in; `begin` is the day on which the mandate begins.
    pub fn start(self, day: Day, begin: Day) -> Day {
        let monday = |day: Day| i64::from(day.0) - i64::from(weekday(day));
        let first = match self {
            Self::Life => return LIFE,
            Self::Daily => return day,
            Self::Weekly => monday(day),
            Self::Biweekly => {
                let anchor = monday(begin);
                anchor + (monday(day) - anchor).div_euclid(14) * 14
            }
            Self::Monthly => return of_month(day, |month| month),
            Self::Quarterly => return of_month(day, |month| month - (month - 1) % 3),
            Self::Annually => return of_month(day, |_| 1),
        };
        i32::try_from(first).map_or(day, Day)
    }
}

impl Period {
    /// The first day behind the period that `day` lies in. None: it does not end by itself, or no calendar has it.
    pub fn next(self, day: Day, begin: Day) -> Option<Day> {
        let first = self.start(day, begin);
        let days = |count: i32| first.0.checked_add(count).map(Day);
        let months = |count: u32| {
            let next = NaiveDate::from_epoch_days(first.0)?.checked_add_months(Months::new(count))?;
            Some(Day(next.to_epoch_days()))
        };
        match self {
            Self::Life => None,
            Self::Daily => days(1),
            Self::Weekly => days(7),
            Self::Biweekly => days(14),
            Self::Monthly => months(1),
            Self::Quarterly => months(3),
            Self::Annually => months(12),
        }
    }
}

/// 0: Monday … 6: Sunday. 1970-01-01 was a Thursday.
pub(super) fn weekday(day: Day) -> u8 {
    u8::try_from((i64::from(day.0) + 3).rem_euclid(7)).unwrap_or(0)
}

/// The first of a month of the day's own year.
fn of_month(day: Day, month: fn(u32) -> u32) -> Day {
    let date = NaiveDate::from_epoch_days(day.0);
    let first = date.and_then(|date| NaiveDate::from_ymd_opt(date.year(), month(date.month()), 1));
    // Outside chrono's quarter of a million years there is no calendar: each day is its own period.
    first.map_or(day, |first| Day(first.to_epoch_days()))
}
