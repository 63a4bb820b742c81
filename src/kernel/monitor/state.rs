//! What is remembered of one agent, or of one account: some 900 bytes, whatever it did.
//!
//! Two kinds of memory. *Activity* counts what was tried, at once: that is what a burst or a split payment shows in.
//! *History* is what is usual, and only a payment that was executed adds to it: an authorization that is cancelled
//! again costs nothing, so it must not teach anything.

use super::decay::{Count, HalfLife, ONE, Sum};
use super::event::{Asked, Event, Outcome, Refused, Subject};
use super::rules::MonitorRules;
use crate::kernel::types::{Currency, Money};

pub(super) const SHORT: HalfLife = HalfLife::minutes(5);
pub(super) const QUARTER_HOUR: HalfLife = HalfLife::minutes(15);
pub(super) const QUARTER_DAY: HalfLife = HalfLife::hours(6);
pub(super) const HALF_DAY: HalfLife = HalfLife::hours(12);
pub(super) const DAY: HalfLife = HalfLife::days(1);
pub(super) const WEEK: HalfLife = HalfLife::days(7);
pub(super) const FORTNIGHT: HalfLife = HalfLife::days(14);
/// Longer than a month, so that what happens once a month stays usual.
pub(super) const SEASON: HalfLife = HalfLife::days(45);

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;
/// A clock that goes back by more than this was wrong before, not now.
const STEP_BACK_MS: i64 = HOUR_MS;

const PAYEES: usize = 40;
const TOWARD: usize = 6;
const OPEN: u8 = 3;
const ACCOUNTS: usize = 3;
/// Half octaves of an amount: from 4 minor units to a thousand million.
pub(super) const BUCKETS: usize = 56;
/// The share of new payees fades over so many payments; 1,024 is all of them.
const NOVELTY_SHIFT: u16 = 4;
pub(super) const NOVELTY_ALL: u16 = 1_024;

/// One subject's memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// The latest instant that was seen, milliseconds since 1970.
    clock: i64,

    // Activity
    pub(super) short: Count,
    pub(super) daily: Count,
    pub(super) refusals: Count,
    pub(super) limits: Count,
    /// Payments just below the limit.
    pub(super) under: Count,
    /// Payments at unusual hours.
    pub(super) odd: Count,
    /// Payments to payees that were new.
    pub(super) new_payees: Count,
    toward: [Toward; TOWARD],
    open: [Open; OPEN as usize],
    open_next: u8,
    /// Bit by bit: something that went to this payee was executed.
    toward_paid: u8,
    /// Of an agent: the accounts that it paid from last, the last one first; 0 is none.
    accounts: [u64; ACCOUNTS],

    // History
    /// Payments that were executed, and on how many days.
    pub(super) learnt: u32,
    pub(super) days: u16,
    /// The last of these days.
    day: u32,
    short_peak: Count,
    daily_peak: Count,
    /// The peaks of the last day: a day is usual only once it is over.
    short_today: u32,
    daily_today: u32,
    pub(super) novelty: u16,
    odd_day: u32,
    hours: [u8; 24],
    /// 32 bits of each, the one paid last first: that a new one looks known has odds of one to a hundred million.
    payees: [u32; PAYEES],
    /// The day on which each was paid for the first time, from [`DAY_ZERO`] on.
    payees_since: [u16; PAYEES],
    money: History,
    /// A second currency, for the few who pay in one; a third takes its place.
    other: Option<Box<History>>,
    /// The day of its first payment.
    first_day: u32,
}

/// What went to one payee, in one currency. Small ones give way to great ones, so that tiny payments to many do not
/// hide a great one in parts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Toward {
    payee: u64,
    sum: Sum,
    week: Count,
}

/// An authorization that may be executed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Open {
    transaction: u64,
    payee: u64,
    minor: i64,
    currency: Option<Currency>,
    /// The paying account, where the call named it; 0 is none.
    account: u64,
    /// Above the limit: no part of a sum that stays below it.
    is_great: bool,
}

impl Open {
    /// The paying account, where the call named it.
    pub(super) fn account(&self) -> Option<u64> {
        (self.account != 0).then_some(self.account)
    }
}

/// Amounts in one currency. They are never compared with those in another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct History {
    currency: Option<Currency>,
    last_day: u32,
    /// The day on which the rare amounts were forgotten last.
    aged: u32,
    pub(super) payments: u32,
    /// How many payments had an amount in each half octave; halved when one is full.
    buckets: [u8; BUCKETS],
    /// New greatest amounts.
    pub(super) records: Count,
    pub(super) sum: Sum,
    sum_peak: Sum,
    sum_today: u64,
    /// The most that went to one payee in about a day.
    toward_peak: Sum,
    toward_today: u64,
    /// The most payments that went to one payee in about a week.
    week_peak: Count,
    under_peak: Count,
    under_today: u32,
}

impl Default for History {
    fn default() -> Self {
        Self {
            currency: None,
            last_day: 0,
            aged: 0,
            payments: 0,
            buckets: [0; BUCKETS],
            records: Count::default(),
            sum: Sum::default(),
            sum_peak: Sum::default(),
            sum_today: 0,
            toward_peak: Sum::default(),
            toward_today: 0,
            week_peak: Count::default(),
            under_peak: Count::default(),
            under_today: 0,
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            clock: 0,
            short: Count::default(),
            daily: Count::default(),
            refusals: Count::default(),
            limits: Count::default(),
            under: Count::default(),
            odd: Count::default(),
            new_payees: Count::default(),
            toward: [Toward::default(); TOWARD],
            open: [Open::default(); OPEN as usize],
            open_next: 0,
            toward_paid: 0,
            accounts: [0; ACCOUNTS],
            learnt: 0,
            days: 0,
            day: 0,
            short_peak: Count::default(),
            daily_peak: Count::default(),
            short_today: 0,
            daily_today: 0,
            novelty: NOVELTY_ALL / 4,
            odd_day: 0,
            hours: [0; 24],
            payees: [0; PAYEES],
            payees_since: [0; PAYEES],
            money: History::default(),
            other: None,
            first_day: 0,
        }
    }
}

impl State {
    /// Takes a decided event in. Everything it keeps is bounded.
    pub fn observe(&mut self, event: &Event) {
        let now = self.now(event.at.0);
        self.clock = now;
        match (event.asked, event.outcome) {
            (Asked::Thaw, _) => self.calm(),
            (_, Outcome::Refused(refused)) => {
                if refused == Refused::Limit {
                    self.uses(event.account.map_or(0, Subject::short));
                }
                self.refused(refused, now);
            }
            (Asked::Payment { payee, amount }, Outcome::Authorized { transaction }) => {
                let account = event.account.map_or(0, Subject::short);
                let open = Open {
                    transaction: transaction.short(),
                    payee: payee.short(),
                    minor: amount.minor().max(0),
                    currency: Some(amount.currency()),
                    account,
                    is_great: event.limit_minor.is_some_and(|limit| amount.minor() > limit),
                };
                self.uses(account);
                self.tried(now, open, amount, event.limit_minor);
            }
            (Asked::Execution { transaction, transfer }, Outcome::Executed) => {
                self.executed(now, transaction.short(), transfer);
            }
            (
                Asked::Payment { .. } | Asked::Execution { .. } | Asked::Other,
                Outcome::Undecided | Outcome::Authorized { .. } | Outcome::Executed | Outcome::Done,
            ) => {}
        }
    }

    /// The authorization that an executed call belongs to, if it is one of the last.
    pub(super) fn opened(&self, event: &Event) -> Option<Open> {
        let (Asked::Execution { transaction, .. }, Outcome::Executed) = (event.asked, event.outcome) else {
            return None;
        };
        let transaction = transaction.short();
        self.open.iter().find(|open| open.transaction == transaction && open.currency.is_some()).copied()
    }

    /// A payment was executed that an agent's authorization, not this subject, remembers.
    pub(super) fn executed_elsewhere(&mut self, event: &Event, open: &Open) {
        let now = self.now(event.at.0);
        self.clock = now;
        if let Some(currency) = open.currency {
            self.learn(now, open.payee, Money::from_minor(open.minor, currency), open.is_great);
        }
    }

    /// The accounts that it paid from last.
    pub(super) fn accounts(&self) -> [u64; ACCOUNTS] {
        self.accounts
    }

    fn uses(&mut self, account: u64) {
        if account == 0 || self.accounts[0] == account {
            return;
        }
        let end = self.accounts.iter().position(|known| *known == account).unwrap_or(ACCOUNTS - 1);
        self.accounts.copy_within(0..end, 1);
        self.accounts[0] = account;
    }

    /// The instant of an event as this subject lives it: time stands still rather than going back a little.
    pub(super) fn now(&self, at_ms: i64) -> i64 {
        if at_ms < self.clock.saturating_sub(STEP_BACK_MS) { at_ms } else { at_ms.max(self.clock) }
    }

    fn calm(&mut self) {
        let quiet = Self::default();
        self.short = quiet.short;
        self.daily = quiet.daily;
        self.refusals = quiet.refusals;
        self.limits = quiet.limits;
        self.under = quiet.under;
        self.odd = quiet.odd;
        self.new_payees = quiet.new_payees;
        self.toward = quiet.toward;
        self.toward_paid = quiet.toward_paid;
        for money in std::iter::once(&mut self.money).chain(self.other.as_deref_mut()) {
            money.sum = Sum::default();
            money.records = Count::default();
        }
    }

    fn refused(&mut self, refused: Refused, now: i64) {
        match refused {
            Refused::Neutral => {}
            Refused::Limit => self.limits.add(QUARTER_DAY, now, ONE),
            Refused::Forbidden => self.refusals.add(QUARTER_HOUR, now, ONE),
        }
    }

    /// A payment was authorized, by the rules or up to a human.
    fn tried(&mut self, now: i64, open: Open, amount: Money, limit: Option<i64>) {
        if self.open.iter().any(|known| known.transaction == open.transaction) {
            // The same authorization, answered again.
            return;
        }
        let (payee, minor, currency) = (open.payee, open.minor, amount.currency());
        self.open[usize::from(self.open_next % OPEN)] = open;
        self.open_next = (self.open_next + 1) % OPEN;
        self.short.add(SHORT, now, ONE);
        self.daily.add(HALF_DAY, now, ONE);
        if is_just_below(minor, limit) {
            self.under.add(DAY, now, ONE);
        }
        if self.is_odd_hour(now) {
            self.odd.add(QUARTER_DAY, now, ONE);
        }
        // The first payment to somebody new counts whole, those of the same day half.
        let news = match self.age_of(payee, day_of(now)) {
            None => ONE,
            Some(_) if self.newness(payee, now) == 100 => ONE / 2,
            Some(_) => 0,
        };
        self.new_payees.add(DAY, now, news);
        let units = minor.unsigned_abs();
        // What is above the limit is no part of anything: rules and people look at it.
        if !open.is_great {
            self.tried_toward(now, keyed(payee, currency), units);
        }
        self.history_mut(currency, day_of(now)).sum.add(DAY, now, units);
    }

    fn tried_toward(&mut self, now: i64, key: u64, units: u64) {
        let place = self.place_toward(now, key);
        self.toward[place].sum.add(DAY, now, units);
        self.toward[place].week.add(WEEK, now, ONE);
    }

    /// Where a payee is kept. Who was only asked for gives way before who was paid: asking costs nothing.
    fn place_toward(&mut self, now: i64, key: u64) -> usize {
        let known = self.toward.iter().position(|toward| toward.payee == key);
        known.unwrap_or_else(|| {
            let weight = |at: &usize| (self.toward_paid & 1 << *at != 0, self.toward[*at].sum.at(DAY, now), *at);
            let least = (0..TOWARD).min_by_key(weight).unwrap_or(0);
            self.toward[least] = Toward { payee: key, ..Toward::default() };
            self.toward_paid &= !(1 << least);
            least
        })
    }

    /// A payment to this payee was executed. One that gave way meanwhile is known again.
    fn paid_toward(&mut self, now: i64, key: u64, units: u64) {
        if !self.toward.iter().any(|toward| toward.payee == key) {
            self.tried_toward(now, key, units);
        }
        let place = self.place_toward(now, key);
        self.toward_paid |= 1 << place;
        // One place stays for who is only asked for; otherwise asking would push out who was paid.
        if self.toward_paid.count_ones() as usize == TOWARD {
            let others = (0..TOWARD).filter(|at| *at != place);
            let least = others.min_by_key(|at| (self.toward[*at].sum.at(DAY, now), *at));
            self.toward_paid &= !least.map_or(0, |least| 1 << least);
        }
    }

    fn executed(&mut self, now: i64, transaction: u64, transfer: Option<(Subject, Money)>) {
        let open = self.open.iter_mut().find(|open| open.transaction == transaction);
        let is_great = open.as_ref().is_some_and(|open| open.is_great);
        let known =
            open.and_then(|open| open.currency.take().map(|of| (open.payee, Money::from_minor(open.minor, of))));
        // A transfer says everything again; of a purchase only the last authorizations are known.
        if let Some((payee, amount)) = transfer.map(|(payee, amount)| (payee.short(), amount)).or(known) {
            self.learn(now, payee, amount, is_great);
        }
    }

    fn learn(&mut self, now: i64, payee: u64, amount: Money, is_great: bool) {
        let today = day_of(now);
        if today != self.day {
            self.short_peak.raise(SEASON, now, self.short_today);
            self.daily_peak.raise(SEASON, now, self.daily_today);
            (self.short_today, self.daily_today) = (0, 0);
            self.days = self.days.saturating_add(1);
            self.day = today;
        }
        if self.learnt == 0 {
            self.first_day = today;
        }
        self.learnt = self.learnt.saturating_add(1);
        self.short_today = self.short_today.max(self.short.at(SHORT, now));
        self.daily_today = self.daily_today.max(self.daily.at(HALF_DAY, now));
        self.learn_hour(now, today);
        self.learn_payee(payee, today);

        let key = keyed(payee, amount.currency());
        if !is_great {
            self.paid_toward(now, key, amount.minor().max(0).unsigned_abs());
        }
        let toward = self.toward.iter().find(|toward| toward.payee == key);
        let (to_payee, week) = toward.map_or((0, 0), |toward| (toward.sum.at(DAY, now), toward.week.at(WEEK, now)));
        let is_old = self.age_of(payee, today).is_some_and(|age| age >= SETTLED_DAYS);
        let under = self.under.at(DAY, now);
        let money = self.history_mut(amount.currency(), today);
        if today != money.last_day {
            money.sum_peak.raise(SEASON, now, money.sum_today);
            money.toward_peak.raise(SEASON, now, money.toward_today);
            money.under_peak.raise(SEASON, now, money.under_today);
            (money.sum_today, money.toward_today, money.under_today) = (0, 0, 0);
            money.last_day = today;
            money.age(today);
        }
        money.sum_today = money.sum_today.max(money.sum.at(DAY, now));
        money.toward_today = money.toward_today.max(to_payee);
        money.under_today = money.under_today.max(under);
        if is_old {
            money.week_peak.raise(SEASON, now, week);
        }
        money.learn(now, bucket(amount.minor()));
    }

    fn learn_hour(&mut self, now: i64, today: u32) {
        if self.is_odd_hour(now) {
            // One odd night must not become usual in that night.
            if self.odd_day == today {
                return;
            }
            self.odd_day = today;
        }
        let hour = &mut self.hours[hour_of(now)];
        *hour = hour.saturating_add(1);
        if *hour == u8::MAX {
            self.hours.iter_mut().for_each(|hour| *hour /= 2);
        }
    }

    fn learn_payee(&mut self, payee: u64, today: u32) {
        let fading = self.novelty >> NOVELTY_SHIFT;
        let short = part(payee);
        let place = self.payees.iter().position(|known| *known == short);
        self.novelty -= fading;
        if place.is_none() {
            self.novelty += NOVELTY_ALL >> NOVELTY_SHIFT;
        }
        let since = place.map_or(since_zero(today), |place| self.payees_since[place]);
        let end = place.unwrap_or(PAYEES - 1);
        self.payees.copy_within(0..end, 1);
        self.payees_since.copy_within(0..end, 1);
        self.payees[0] = short;
        self.payees_since[0] = since;
    }

    /// Days since a payee was paid for the first time. None: never, or forgotten.
    pub(super) fn age_of(&self, payee: u64, today: u32) -> Option<u32> {
        let short = part(payee);
        let place = self.payees.iter().position(|known| *known == short)?;
        Some(u32::from(since_zero(today).saturating_sub(self.payees_since[place])))
    }

    /// How new a payee is, in percent: it stays somewhat new for some days after its first payment.
    pub(super) fn newness(&self, payee: u64, now: i64) -> u32 {
        let age = self.age_of(payee, day_of(now));
        // Whom it paid in its own first days is no news to it.
        if age.is_some_and(|age| self.age(now).saturating_sub(age) < FIRST_DAYS) {
            return 0;
        }
        match age {
            None | Some(0) => 100,
            Some(1) => 75,
            Some(2) => 50,
            Some(3..=6) => 25,
            Some(_) => 0,
        }
    }

    /// An hour at which hardly any of its payments are, once there are enough.
    pub(super) fn is_odd_hour(&self, now: i64) -> bool {
        let (payments, days) = HOURS_FROM;
        self.learnt >= payments && self.days >= days && self.share_of_hour(now) < ODD_SHARE
    }

    /// How many in a thousand of its payments were at this hour or the ones beside it.
    pub(super) fn share_of_hour(&self, now: i64) -> u32 {
        let hour = hour_of(now);
        let near = [(hour + 23) % 24, hour, (hour + 1) % 24];
        let near: u32 = near.iter().map(|hour| u32::from(self.hours[*hour])).sum();
        let all: u32 = self.hours.iter().map(|hour| u32::from(*hour)).sum();
        (near * 1_000).checked_div(all).unwrap_or(1_000)
    }

    /// The most payments in a short time, and in about a day, that were usual before today.
    pub(super) fn peaks(&self, now: i64) -> (u32, u32) {
        let is_over = self.day != day_of(now);
        let of = |peak: Count, last: u32| peak.at(SEASON, now).max(if is_over { last } else { 0 });
        (of(self.short_peak, self.short_today), of(self.daily_peak, self.daily_today))
    }

    /// What went to a payee in about a day, and how many payments in about a week.
    pub(super) fn toward(&self, payee: u64, currency: Currency, now: i64) -> (u64, u32) {
        let found = self.toward.iter().find(|toward| toward.payee == keyed(payee, currency));
        found.map_or((0, 0), |toward| (toward.sum.at(DAY, now), toward.week.at(WEEK, now)))
    }

    pub(super) fn history(&self, currency: Currency) -> Option<&History> {
        [Some(&self.money), self.other.as_deref()].into_iter().flatten().find(|money| money.currency == Some(currency))
    }

    /// In how many currencies it has paid, as far as is remembered.
    pub(super) fn currencies(&self) -> usize {
        [Some(&self.money), self.other.as_deref()].into_iter().flatten().filter(|money| money.payments > 0).count()
    }

    fn history_mut(&mut self, currency: Currency, today: u32) -> &mut History {
        let fresh = || History { currency: Some(currency), last_day: today, aged: today, ..History::default() };
        if self.money.currency.is_none() {
            self.money = fresh();
        }
        if self.money.currency == Some(currency) {
            return &mut self.money;
        }
        let other = self.other.get_or_insert_with(|| Box::new(fresh()));
        if other.currency != Some(currency) {
            **other = fresh();
        }
        other
    }

    /// Bytes besides its own size.
    pub(super) fn bytes_beside(&self) -> usize {
        self.other.as_ref().map_or(0, |_| size_of::<History>() + 16)
    }

    /// Payments that were executed.
    pub fn payments(&self) -> u32 {
        self.learnt
    }

    /// Days on which there were any.
    pub fn days(&self) -> u16 {
        self.days
    }

    /// Whether there is an own history to compare with.
    pub fn is_warm(&self, rules: &MonitorRules) -> bool {
        self.learnt >= rules.warm_payments && self.days >= rules.warm_days
    }

    /// Days since its first payment.
    pub(super) fn age(&self, now: i64) -> u32 {
        if self.learnt == 0 { 0 } else { day_of(now).saturating_sub(self.first_day) }
    }
}

impl History {
    fn learn(&mut self, now: i64, bucket: usize) {
        if self.payments >= RECORDS_FROM && self.top().is_some_and(|top| bucket > top) {
            self.records.add(FORTNIGHT, now, ONE);
        }
        self.payments = self.payments.saturating_add(1);
        self.buckets[bucket] += 1;
        if self.buckets[bucket] == u8::MAX {
            // Rounded up: what is rare stays known.
            self.buckets.iter_mut().for_each(|count| *count = count.div_ceil(2));
        }
    }

    /// After two months an amount that was paid once is forgotten.
    fn age(&mut self, today: u32) {
        if today.saturating_sub(self.aged) >= RARE_DAYS {
            self.buckets.iter_mut().for_each(|count| *count /= 2);
            self.aged = today;
        }
    }

    /// The half octave of the greatest amount.
    pub(super) fn top(&self) -> Option<usize> {
        self.buckets.iter().rposition(|count| *count > 0)
    }

    /// How many in a thousand payments were in this half octave or a higher one.
    pub(super) fn share_from(&self, bucket: usize) -> u32 {
        let sum = |counts: &[u8]| counts.iter().map(|count| u32::from(*count)).sum::<u32>();
        (sum(&self.buckets[bucket.min(BUCKETS)..]) * 1_000).checked_div(sum(&self.buckets)).unwrap_or(1_000)
    }

    pub(super) fn sum_usual(&self, now: i64) -> u64 {
        self.sum_peak.at(SEASON, now).max(self.of_last_day(now, self.sum_today))
    }

    pub(super) fn toward_usual(&self, now: i64) -> u64 {
        self.toward_peak.at(SEASON, now).max(self.of_last_day(now, self.toward_today))
    }

    pub(super) fn under_usual(&self, now: i64) -> u32 {
        let last = u32::try_from(self.of_last_day(now, u64::from(self.under_today))).unwrap_or(u32::MAX);
        self.under_peak.at(SEASON, now).max(last)
    }

    pub(super) fn week_usual(&self, now: i64) -> u32 {
        self.week_peak.at(SEASON, now)
    }

    fn of_last_day(&self, now: i64, value: u64) -> u64 {
        if self.last_day == day_of(now) { 0 } else { value }
    }
}

/// Of a thousand of its payments fewer are at an hour that is unusual.
const ODD_SHARE: u32 = 25;
/// A payee that is known for so long is no news …
pub(super) const OLD_DAYS: u32 = 30;
/// … and one that is known for so long shows how often a payee is paid.
pub(super) const SETTLED_DAYS: u32 = 14;
/// How long an amount is known that was paid once.
const RARE_DAYS: u32 = 60;
/// Everything is new in the first days.
const FIRST_DAYS: u32 = 7;
/// A greatest amount is a record from so many payments on.
const RECORDS_FROM: u32 = 24;
/// Hours are unusual from so many payments, on so many days, on.
const HOURS_FROM: (u32, u16) = (20, 5);
/// 2020-01-01, in days since 1970.
const DAY_ZERO: u32 = 18_262;

/// The half octave of an amount.
pub(super) fn bucket(minor: i64) -> usize {
    let minor = minor.max(1).unsigned_abs();
    let octave = minor.ilog2();
    let is_upper = u128::from(minor) * 1_000 >= (1_u128 << octave) * 1_414;
    let half = 2 * usize::try_from(octave).unwrap_or(0) + usize::from(is_upper);
    half.saturating_sub(4).min(BUCKETS - 1)
}

/// About where a half octave ends, minor units.
pub(super) fn bucket_end(bucket: usize) -> u64 {
    let half = u32::try_from(bucket + 5).unwrap_or(u32::MAX);
    let octave = 1_u64.checked_shl(half / 2).unwrap_or(u64::MAX);
    if half.is_multiple_of(2) { octave } else { octave / 1_000 * 1_414 + octave % 1_000 * 1_414 / 1_000 }
}

/// Within 15 percent below the limit.
pub(super) fn is_just_below(minor: i64, limit: Option<i64>) -> bool {
    limit.is_some_and(|limit| minor <= limit && i128::from(minor) * 100 >= i128::from(limit) * 85)
}

pub(super) fn day_of(at_ms: i64) -> u32 {
    u32::try_from((at_ms / DAY_MS).max(0)).unwrap_or(u32::MAX)
}

fn hour_of(at_ms: i64) -> usize {
    usize::try_from(at_ms.rem_euclid(DAY_MS) / HOUR_MS).unwrap_or(0)
}

/// A payee in one currency.
fn keyed(payee: u64, currency: Currency) -> u64 {
    let code = currency.code().bytes().fold(0_u64, |code, byte| code << 8 | u64::from(byte));
    payee ^ code.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The part of a payee's hash that is kept.
fn part(payee: u64) -> u32 {
    u32::try_from(payee >> 32).unwrap_or(u32::MAX)
}

fn since_zero(day: u32) -> u16 {
    u16::try_from(day.saturating_sub(DAY_ZERO)).unwrap_or(u16::MAX)
}
