//! The score: what each reason is worth, beside what is usual.
//!
//! A reason that compares with the own history speaks only once there is one (*warm*); an agent without one borrows
//! its account's. What is wrong for anybody (hundreds of payments, forbidden calls, a limit that is searched, one sum
//! in parts) speaks at once. Points only add up, so nothing that an agent does besides makes a call look better.

use super::decay::ONE;
use super::event::{Ahead, Asked, Event};
use super::risk::{Reason, ReasonName, Risk, SCORE_MAX};
use super::rules::MonitorRules;
use super::state::{
    DAY, FORTNIGHT, HALF_DAY, NOVELTY_ALL, OLD_DAYS, QUARTER_DAY, QUARTER_HOUR, SHORT, State, bucket, bucket_end,
    day_of, is_just_below,
};
use crate::kernel::types::Money;

/// What a reason found: points before their weight, and its two numbers.
#[derive(Clone, Copy, Default)]
struct Found {
    points: u64,
    seen: u64,
    usual: u64,
}

/// One subject at the instant of the event.
struct View<'a> {
    state: &'a State,
    now: i64,
    is_warm: bool,
    ahead: Ahead,
    limit: Option<i64>,
}

/// A payment as a view looks at it.
#[derive(Clone, Copy)]
struct Wanted {
    payee: u64,
    amount: Money,
}

/// The risk of an event, beside what was observed of its agent and its account before.
///
/// What others do on the account can have a human look at this agent's payments. It never freezes the agent: that takes
/// what it did itself.
pub fn score(rules: &MonitorRules, agent: &State, account: Option<&State>, event: &Event) -> Risk {
    let whole = summed(rules, agent, account, event);
    if account.is_none() || whole.score < rules.approve_at {
        return whole;
    }
    let own = summed(rules, agent, None, event);
    if own.score >= whole.score || own.score >= rules.freeze_at {
        return whole;
    }
    below(rules.freeze_at, whole, &own)
}

/// A score that is not the agent's own, kept below the one that freezes.
fn below(freeze_at: u16, mut whole: Risk, own: &Risk) -> Risk {
    let sum: u32 = whole.reasons.iter().map(|reason| u32::from(reason.points)).sum();
    let mut excess = (sum + 1).saturating_sub(u32::from(freeze_at));
    for reason in &mut whole.reasons {
        let alone = own.reasons.iter().find(|one| one.name == reason.name).map_or(0, |one| one.points);
        let less = u32::from(reason.points.saturating_sub(alone)).min(excess);
        reason.points -= u16::try_from(less).unwrap_or(reason.points);
        excess -= less;
    }
    whole.reasons.retain(|reason| reason.points > 0);
    whole.score = whole.score.min(freeze_at.saturating_sub(1));
    whole.own = Some(own.score);
    whole
}

/// The sum of all reasons.
fn summed(rules: &MonitorRules, agent: &State, account: Option<&State>, event: &Event) -> Risk {
    let view = |state| View::of(rules, state, event);
    let (agent, account) = (view(agent), account.map(view));
    let mut risk = Risk::default();
    let mut add = |name: ReasonName, found: Found| {
        let points = found.points * u64::from(rules.weights.of(name)) / 100;
        let points = u16::try_from(points).unwrap_or(SCORE_MAX).min(SCORE_MAX);
        if points > 0 {
            risk.score = risk.score.saturating_add(points).min(SCORE_MAX);
            risk.reasons.push(Reason { name, points, seen: found.seen, usual: found.usual });
        }
    };
    add(ReasonName::Refusals, agent.refusals());
    let Asked::Payment { payee, amount } = event.asked else {
        add(ReasonName::LimitProbing, agent.limit_refusals());
        return risk;
    };
    let wanted = Wanted { payee: payee.short(), amount };
    // What many agents of one account do together counts like what one does.
    let either = |found: &dyn Fn(&View<'_>) -> Found| {
        let (of_agent, of_account) = (found(&agent), account.as_ref().map(found).unwrap_or_default());
        if of_account.points > of_agent.points { of_account } else { of_agent }
    };
    add(ReasonName::Velocity, either(&|view| view.velocity()));
    add(ReasonName::DaySum, either(&|view| view.day_sum(wanted)));
    add(ReasonName::LimitProbing, either(&|view| view.limit_probing(wanted)));
    add(ReasonName::Splitting, either(&|view| view.splitting(wanted)));
    // The agent's own history; while it has none, its account's.
    let Some(own) = [Some(&agent), account.as_ref()].into_iter().flatten().find(|view| view.is_warm) else {
        return risk;
    };
    add(ReasonName::Amount, own.amount(wanted));
    add(ReasonName::Escalation, own.escalation(wanted));
    add(ReasonName::NewPayee, own.new_payee(wanted));
    add(ReasonName::NewCurrency, own.new_currency(wanted));
    add(ReasonName::UnusualHour, own.unusual_hour());
    add(ReasonName::Drip, own.drip(wanted));
    risk
}

impl<'a> View<'a> {
    fn of(rules: &MonitorRules, state: &'a State, event: &Event) -> Self {
        Self {
            state,
            now: state.now(event.at.0),
            is_warm: state.is_warm(rules),
            ahead: event.ahead,
            limit: event.limit_minor,
        }
    }

    /// Forbidden calls within minutes.
    fn refusals(&self) -> Found {
        let seen = self.state.refusals.at(QUARTER_HOUR, self.now);
        Found { points: beyond(seen, 4, 70).min(560), seen: whole(seen), usual: 4 }
    }

    /// Amounts that were refused as too great.
    fn limit_refusals(&self) -> Found {
        let seen = self.state.limits.at(QUARTER_DAY, self.now);
        Found { points: beyond(seen, 2, 130).min(560), seen: whole(seen), usual: 2 }
    }

    /// More payments than ever, in a short time or in about a day.
    fn velocity(&self) -> Found {
        let more = self.ahead.payments.saturating_add(1).saturating_mul(ONE);
        let short = self.state.short.at(SHORT, self.now).saturating_add(more);
        let daily = self.state.daily.at(HALF_DAY, self.now).saturating_add(more);
        let (short_peak, daily_peak) = self.state.peaks(self.now);
        let (short_usual, daily_usual) = if self.is_warm {
            (short_peak.saturating_mul(2).max(5 * ONE), daily_peak.saturating_mul(3).max(15 * ONE))
        } else {
            (100 * ONE, 1_000 * ONE)
        };
        let within = |seen: u32, usual: u32, slope, most| {
            let points = over(u64::from(seen), u64::from(usual), slope).min(most);
            Found { points, seen: whole(seen), usual: whole(usual) }
        };
        let (burst, day) = (within(short, short_usual, 500, 650), within(daily, daily_usual, 250, 400));
        if day.points > burst.points { day } else { burst }
    }

    /// More money than ever in about a day.
    fn day_sum(&self, wanted: Wanted) -> Found {
        let Some(history) = self.warm_history(wanted) else {
            return Found::default();
        };
        let seen = history.sum.at(DAY, self.now).saturating_add(self.with_this(wanted));
        let usual = history.sum_usual(self.now).saturating_mul(2);
        // The day may be unusual: a small payment on it is not.
        if self.with_this(wanted).saturating_mul(16) < usual {
            return Found::default();
        }
        Found { points: over(seen, usual, 120).min(300), seen, usual }
    }

    /// Tries above the limits, and payments just below one.
    fn limit_probing(&self, wanted: Wanted) -> Found {
        let mut above = self.limit_refusals();
        if self.limit.is_some_and(|limit| wanted.amount.minor() < limit / 4) {
            above.points /= 2;
        }
        let mut below = Found::default();
        if is_just_below(wanted.amount.minor(), self.limit) {
            let seen = self.state.under.at(DAY, self.now).saturating_add(ONE);
            let of = |history: &super::state::History| history.under_usual(self.now).saturating_mul(3) / 2;
            let own = self.warm_history(wanted).map_or(0, of);
            let usual = own.max(2 * ONE);
            let points = u64::from(seen.saturating_sub(usual)) * 150 / u64::from(ONE);
            below = Found { points: points.min(450), seen: whole(seen), usual: whole(usual) };
        }
        if above.points == 0 || below.points == 0 {
            return if above.points > 0 { above } else { below };
        }
        Found { points: above.points + below.points, seen: above.seen + below.seen, usual: above.usual }
    }

    /// One payee gets more than the limit in about a day, in parts that are below it.
    fn splitting(&self, wanted: Wanted) -> Found {
        let Some(limit) = self.limit.filter(|limit| *limit > 0 && wanted.amount.minor() <= *limit) else {
            return Found::default();
        };
        let (sum, _) = self.state.toward(wanted.payee, wanted.amount.currency(), self.now);
        // A payment that is next to nothing is no part of a great sum.
        if sum == 0 || units(wanted.amount).saturating_mul(50) < limit.unsigned_abs() {
            return Found::default();
        }
        let seen = sum.saturating_add(units(wanted.amount));
        let own = self.warm_history(wanted).map_or(0, |history| history.toward_usual(self.now));
        // Who is new may fill a cupboard first.
        let least = limit.unsigned_abs().saturating_mul(if self.is_warm { 1 } else { 2 });
        let usual = (own.saturating_mul(3) / 2).max(least);
        let points = if seen > usual { (250 + over(seen, usual, 350)).min(600) } else { 0 };
        Found { points, seen, usual }
    }

    /// An amount above all of its own.
    fn amount(&self, wanted: Wanted) -> Found {
        let Some((history, top)) = self.warm_history(wanted).and_then(|history| Some((history, history.top()?))) else {
            return Found::default();
        };
        let here = bucket(wanted.amount.minor());
        let steps = u64::try_from(here.saturating_sub(top)).unwrap_or(0);
        let points = match steps {
            0 if history.share_from(here) < 20 => 40,
            0 => 0,
            1 => 60,
            steps => 130 + (steps - 2) * 80,
        };
        Found { points: points.min(450), seen: units(wanted.amount), usual: bucket_end(top) }
    }

    /// One record after the other.
    fn escalation(&self, wanted: Wanted) -> Found {
        let Some((history, top)) = self.warm_history(wanted).and_then(|history| Some((history, history.top()?))) else {
            return Found::default();
        };
        if bucket(wanted.amount.minor()) < top {
            return Found::default();
        }
        let seen = history.records.at(FORTNIGHT, self.now);
        let each = if bucket(wanted.amount.minor()) > top { 130 } else { 65 };
        Found { points: beyond(seen, 1, each).min(450), seen: whole(seen), usual: 1 }
    }

    /// A payee that was never paid, or for the first time some days ago.
    fn new_payee(&self, wanted: Wanted) -> Found {
        let state = self.state;
        let newness = u64::from(state.newness(wanted.payee, self.now));
        if newness == 0 {
            return Found::default();
        }
        let known_share = u64::from(NOVELTY_ALL - state.novelty.min(NOVELTY_ALL));
        let others = state.new_payees.at(DAY, self.now);
        let mut points = 140 + beyond(others, 1, 80).min(320);
        let share =
            self.warm_history(wanted).map_or(1_000, |history| history.share_from(bucket(wanted.amount.minor())));
        points += match share {
            0..100 => 200,
            100..250 => 140,
            _ => 0,
        };
        let points = points * newness / 100 * known_share / u64::from(NOVELTY_ALL);
        Found { points, seen: whole(others) + 1, usual: 1 }
    }

    fn new_currency(&self, wanted: Wanted) -> Found {
        let is_known = self.state.history(wanted.amount.currency()).is_some_and(|history| history.payments > 0);
        let usual = u64::try_from(self.state.currencies()).unwrap_or(0);
        Found { points: if is_known { 0 } else { 90 }, seen: 1, usual }
    }

    /// An hour at which it does not pay, and how often by now.
    fn unusual_hour(&self) -> Found {
        if !self.state.is_odd_hour(self.now) {
            return Found::default();
        }
        let share = self.state.share_of_hour(self.now);
        let seen = self.state.odd.at(QUARTER_DAY, self.now).saturating_add(ONE);
        Found { points: 150 + beyond(seen, 1, 75).min(250), seen: whole(seen), usual: u64::from(share) }
    }

    /// Small payments, again and again, to a payee that is not old.
    fn drip(&self, wanted: Wanted) -> Found {
        let Some(history) = self.warm_history(wanted) else {
            return Found::default();
        };
        if self.state.age_of(wanted.payee, day_of(self.now)).is_none_or(|age| age >= OLD_DAYS) {
            return Found::default();
        }
        if self.state.age(self.now) < OLD_DAYS - 7 {
            return Found::default();
        }
        let (_, week) = self.state.toward(wanted.payee, wanted.amount.currency(), self.now);
        let usual = history.week_usual(self.now).saturating_mul(3) / 2;
        let usual = usual.max(6 * ONE);
        Found { points: over(u64::from(week), u64::from(usual), 250).min(520), seen: whole(week), usual: whole(usual) }
    }

    /// Its amounts in the payment's currency, once there are enough.
    fn warm_history(&self, wanted: Wanted) -> Option<&super::state::History> {
        let history = self.state.history(wanted.amount.currency()).filter(|_| self.is_warm)?;
        (history.payments >= HISTORY_LEAST).then_some(history)
    }

    /// The payment with those in flight, minor units.
    fn with_this(&self, wanted: Wanted) -> u64 {
        units(wanted.amount).saturating_add(self.ahead.minor.max(0).unsigned_abs())
    }
}

/// Amounts of fewer payments say nothing.
const HISTORY_LEAST: u32 = 10;

fn units(amount: Money) -> u64 {
    amount.minor().max(0).unsigned_abs()
}

/// A fading count in whole ones, rounded.
fn whole(count: u32) -> u64 {
    (u64::from(count) + u64::from(ONE / 2)) / u64::from(ONE)
}

/// `each` for every one beyond `usual`, in proportion.
fn beyond(seen: u32, usual: u32, each: u64) -> u64 {
    u64::from(seen.saturating_sub(usual * ONE)) * each / u64::from(ONE)
}

/// `slope` for each time that `seen` is above `usual` by the whole of it, in proportion.
fn over(seen: u64, usual: u64, slope: u64) -> u64 {
    let more = u128::from(seen.saturating_sub(usual)) * u128::from(slope);
    u64::try_from(more / u128::from(usual.max(1))).unwrap_or(u64::MAX)
}
