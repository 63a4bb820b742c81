//! A bank's agents for two months, made from a seed: ordinary ones of many kinds, and attacks on some of them.
//!
//! The first month is ordinary; the attacks are in the second. What an attacker does is drawn as wide as it is
//! known from fraud on cards and accounts, not as narrow as the monitor looks; each call carries its label.

use super::dice::Dice;

pub(super) const MINUTE: i64 = 60_000;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;
/// 2026-01-05, a Monday, 00:00 UTC.
pub(super) const BEGIN: i64 = 1_767_571_200_000;
pub(super) const DAYS: i64 = 60;
/// Attacks begin on this day.
const ATTACKS_FROM: i64 = 30;
/// What may be paid without a human, minor units.
pub(super) const LIMIT: i64 = 200_000;

/// An attack's kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Many payments of a usual size within minutes.
    VelocityBurst,
    /// Each payment greater than the one before, over days.
    AmountEscalation,
    /// Great payments to payees that were never paid.
    NewPayeeDrain,
    /// Payments while the owner sleeps.
    NightActivity,
    /// Forbidden calls, many, then payments.
    RefusalHammering,
    /// Amounts above the ceiling, then closer and closer below the limits.
    LimitProbing,
    /// One great sum in parts below the limit.
    Structuring,
    /// Little and often to one new payee, for weeks.
    SlowDrip,
    /// An account taken over: new payees, odd hours, greater amounts, some refusals.
    Takeover,
}

impl Family {
    pub const ALL: [Self; 9] = [
        Self::VelocityBurst,
        Self::AmountEscalation,
        Self::NewPayeeDrain,
        Self::NightActivity,
        Self::RefusalHammering,
        Self::LimitProbing,
        Self::Structuring,
        Self::SlowDrip,
        Self::Takeover,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::VelocityBurst => "velocity_burst",
            Self::AmountEscalation => "amount_escalation",
            Self::NewPayeeDrain => "new_payee_drain",
            Self::NightActivity => "night_activity",
            Self::RefusalHammering => "refusal_hammering",
            Self::LimitProbing => "limit_probing",
            Self::Structuring => "structuring",
            Self::SlowDrip => "slow_drip",
            Self::Takeover => "takeover",
        }
    }
}

/// An ordinary agent's kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Some purchases a day; from some day on a third of them at a new favourite.
    Shopper,
    /// Buys for an office from some suppliers, on weekdays.
    Procurement,
    /// Pays salaries on one day of the month, and little in between.
    Payroll,
    /// A shopper who is elsewhere for ten days: other hours, merchants, currency.
    Traveller,
    /// The same few payments each month, at night.
    Subscriptions,
    /// Pays for calls of services: many, tiny.
    Micro,
    /// A shopper with one day of sales.
    Seasonal,
    /// A shopper whose program makes mistakes.
    Clumsy,
    /// A business that grows by a percent a day.
    Grower,
    /// New in the second month.
    Newcomer,
}

impl Profile {
    pub const ALL: [Self; 10] = [
        Self::Shopper,
        Self::Procurement,
        Self::Payroll,
        Self::Traveller,
        Self::Subscriptions,
        Self::Micro,
        Self::Seasonal,
        Self::Clumsy,
        Self::Grower,
        Self::Newcomer,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Shopper => "shopper",
            Self::Procurement => "procurement",
            Self::Payroll => "payroll",
            Self::Traveller => "traveller",
            Self::Subscriptions => "subscriptions",
            Self::Micro => "micro",
            Self::Seasonal => "seasonal",
            Self::Clumsy => "clumsy",
            Self::Grower => "grower",
            Self::Newcomer => "newcomer",
        }
    }
}

/// One call as it is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    pub at: i64,
    pub agent: u32,
    pub asked: Wish,
    /// The attack that it belongs to, by its number in [`Stream::attacks`].
    pub attack: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Minor units; `is_abroad`: in euros instead of dollars.
    Pay { payee: u32, minor: i64, is_abroad: bool },
    /// A call that the rules refuse with this name.
    Refused(&'static str),
}

/// All calls in the order of time.
#[derive(Debug)]
pub struct Stream {
    pub calls: Vec<Call>,
    /// Family and victim of each attack.
    pub attacks: Vec<(Family, u32)>,
    pub profiles: Vec<Profile>,
}

/// How one agent pays.
struct Habit {
    profile: Profile,
    /// Its own part of the payees' numbers.
    payees: Vec<u32>,
    median: i64,
    opens: i64,
    closes: i64,
    begins: i64,
    special: i64,
}

/// Numbers from here on are payees whom no ordinary agent pays.
const MULES: u32 = 1_000_000;
/// Merchants that anybody may find.
const MARKET: u32 = 500;

/// The stream of a seed: `agents` ordinary agents, and `attacks` of each family on victims among them.
pub fn stream(seed: u64, agents: u32, attacks: u32) -> Stream {
    let mut calls = vec![];
    let mut habits = vec![];
    for agent in 0..agents {
        let mut dice = Dice::of(seed, u64::from(agent));
        let profile = Profile::ALL[agent as usize % Profile::ALL.len()];
        let habit = Habit::of(profile, agent, &mut dice);
        habit.live(agent, &mut dice, &mut calls);
        habits.push(habit);
    }
    let mut attacked = vec![];
    for round in 0..attacks {
        for (at, family) in Family::ALL.into_iter().enumerate() {
            let number = u32::try_from(attacked.len()).unwrap_or(u32::MAX);
            let mut dice = Dice::of(seed, 1 << 32 | u64::from(number));
            // Anybody who has lived for a month, and each once.
            let fitting = (0..agents).map(|turn| (turn * 7 + round * 9 + u32::try_from(at).unwrap_or(0)) % agents);
            let free = fitting.filter(|agent| habits[*agent as usize].profile != Profile::Newcomer);
            let victim = { free }.find(|agent| attacked.iter().all(|(_, taken)| taken != agent)).unwrap_or(0);
            attacked.push((family, victim));
            let mut attack = Attack { number, victim, habit: &habits[victim as usize], calls: &mut calls };
            attack.run(family, &mut dice);
        }
    }
    calls.sort_by_key(|call| (call.at, call.agent));
    Stream { calls, attacks: attacked, profiles: habits.into_iter().map(|habit| habit.profile).collect() }
}

impl Habit {
    fn of(profile: Profile, agent: u32, dice: &mut Dice) -> Self {
        let (own, median) = match profile {
            Profile::Shopper | Profile::Traveller | Profile::Seasonal | Profile::Clumsy | Profile::Newcomer => {
                (dice.between(6, 14), dice.between(1_500, 6_000))
            }
            Profile::Procurement | Profile::Grower => (dice.between(8, 20), dice.between(8_000, 40_000)),
            Profile::Payroll => (dice.between(20, 50), dice.between(100_000, 150_000)),
            Profile::Subscriptions => (dice.between(5, 10), dice.between(900, 3_000)),
            Profile::Micro => (dice.between(3, 6), dice.between(5, 60)),
        };
        let own = u32::try_from(own).unwrap_or(1);
        let opens = match profile {
            Profile::Subscriptions => dice.between(1, 3),
            Profile::Procurement | Profile::Payroll | Profile::Grower => dice.between(7, 9),
            Profile::Micro => 0,
            Profile::Shopper | Profile::Traveller | Profile::Seasonal | Profile::Clumsy | Profile::Newcomer => {
                dice.between(6, 10)
            }
        };
        let open_hours = match profile {
            Profile::Subscriptions => 1,
            Profile::Procurement | Profile::Payroll | Profile::Grower => 9,
            Profile::Micro => 23,
            Profile::Shopper | Profile::Traveller | Profile::Seasonal | Profile::Clumsy | Profile::Newcomer => {
                dice.between(11, 14)
            }
        };
        Self {
            profile,
            payees: (0..own).map(|payee| 10_000 + agent * 100 + payee).collect(),
            median,
            opens,
            closes: opens + open_hours,
            begins: if profile == Profile::Newcomer { dice.between(ATTACKS_FROM, 50) } else { 0 },
            special: dice.between(ATTACKS_FROM + 2, 45),
        }
    }

    /// Everything this agent pays.
    fn live(&self, agent: u32, dice: &mut Dice, calls: &mut Vec<Call>) {
        for day in self.begins..DAYS {
            let is_weekend = (day + 7) % 7 >= 5;
            let (least, most) = match self.profile {
                Profile::Shopper | Profile::Traveller | Profile::Clumsy | Profile::Newcomer => (0, 4),
                Profile::Seasonal if day == self.special => (12, 18),
                Profile::Seasonal => (0, 4),
                Profile::Procurement | Profile::Grower if is_weekend => (0, 0),
                Profile::Procurement => (2, 8),
                Profile::Grower => (2, 6),
                Profile::Payroll if is_weekend => (0, 0),
                Profile::Payroll => (0, 2),
                Profile::Subscriptions => (0, 1),
                Profile::Micro => (20, 50),
            };
            for _ in 0..dice.between(least, most) {
                let call = self.payment(agent, day, dice);
                self.with_mistakes(call, dice, calls);
                calls.push(call);
            }
            // The month's salaries, all within half an hour.
            if self.profile == Profile::Payroll && day % 30 == 1 {
                let begins = BEGIN + day * DAY + 10 * HOUR;
                for payee in &self.payees {
                    let minor = dice.around(self.median, 1).min(LIMIT);
                    let at = begins + dice.between(0, 30 * MINUTE);
                    calls.push(Call {
                        at,
                        agent,
                        asked: Wish::Pay { payee: *payee, minor, is_abroad: false },
                        attack: None,
                    });
                }
            }
        }
    }

    fn payment(&self, agent: u32, day: i64, dice: &mut Dice) -> Call {
        let is_away = self.profile == Profile::Traveller && (self.special..self.special + 10).contains(&day);
        let shift = if is_away { 8 * HOUR } else { 0 };
        // Now and then somebody is up late.
        let is_late = dice.percent(2) && self.profile != Profile::Subscriptions;
        let hour = if is_late { dice.between(0, 23) } else { dice.between(self.opens, self.closes) };
        let at = BEGIN + day * DAY + hour * HOUR + dice.between(0, HOUR - 1) + shift;
        let finds = match self.profile {
            Profile::Shopper | Profile::Seasonal | Profile::Clumsy | Profile::Newcomer => 20,
            Profile::Traveller if is_away => 80,
            Profile::Traveller => 20,
            Profile::Procurement | Profile::Grower => 5,
            Profile::Payroll | Profile::Subscriptions | Profile::Micro => 1,
        };
        let has_favourite = self.profile == Profile::Shopper && day >= self.special;
        let payee = if has_favourite && dice.percent(35) {
            9_000 + agent
        } else if dice.percent(finds) {
            u32::try_from(dice.between(0, i64::from(MARKET))).unwrap_or(0)
        } else {
            dice.pick(&self.payees)
        };
        let grown = if self.profile == Profile::Grower { self.median * (100 + day) / 100 } else { self.median };
        let median = match self.profile {
            Profile::Payroll => grown / 20,
            Profile::Seasonal if day == self.special => grown * 2,
            Profile::Shopper
            | Profile::Procurement
            | Profile::Traveller
            | Profile::Subscriptions
            | Profile::Micro
            | Profile::Seasonal
            | Profile::Clumsy
            | Profile::Grower
            | Profile::Newcomer => grown,
        };
        // And now and then something dear.
        let minor = if dice.percent(2) { dice.around(median * 4, 1) } else { dice.around(median, 2) };
        let asked = Wish::Pay { payee, minor, is_abroad: is_away && dice.percent(50) };
        Call { at, agent, asked, attack: None }
    }

    /// What a clumsy program asks for before it gets it right.
    fn with_mistakes(&self, call: Call, dice: &mut Dice, calls: &mut Vec<Call>) {
        let (share, most) = if self.profile == Profile::Clumsy { (25, 4) } else { (2, 1) };
        if dice.percent(share) {
            let name = dice.pick(&[
                "price_changed",
                "unknown_product",
                "insufficient_funds",
                "unauthorized_merchant",
                "account_not_granted",
                "tool_denied",
            ]);
            for back in 1..=dice.between(1, most) {
                let at = call.at - back * dice.between(2_000, 20_000);
                calls.push(Call { at, asked: Wish::Refused(name), ..call });
            }
        }
    }
}

/// One attack being carried out.
struct Attack<'a> {
    number: u32,
    victim: u32,
    habit: &'a Habit,
    calls: &'a mut Vec<Call>,
}

impl Attack<'_> {
    fn call(&mut self, at: i64, asked: Wish) {
        self.calls.push(Call { at, agent: self.victim, asked, attack: Some(self.number) });
    }

    fn pay(&mut self, at: i64, payee: u32, minor: i64) {
        // Whoever attacks knows the limit, or learns it: above it a human looks anyway.
        let minor = minor.clamp(1, LIMIT);
        self.call(at, Wish::Pay { payee, minor, is_abroad: false });
    }

    fn mule(&self, of: i64) -> u32 {
        MULES + self.number * 100 + u32::try_from(of).unwrap_or(0)
    }

    /// An instant in the victim's own hours.
    fn by_day(&self, dice: &mut Dice) -> i64 {
        let hour = dice.between(self.habit.opens, self.habit.closes);
        BEGIN + dice.between(ATTACKS_FROM + 2, 50) * DAY + hour * HOUR + dice.between(0, HOUR - 1)
    }

    /// An instant some hours before the victim's day begins.
    fn by_night(&self, dice: &mut Dice) -> i64 {
        BEGIN + dice.between(ATTACKS_FROM + 2, 50) * DAY + (self.habit.opens - dice.between(3, 6)) * HOUR
    }

    fn run(&mut self, family: Family, dice: &mut Dice) {
        let median = self.habit.median;
        match family {
            Family::VelocityBurst => {
                let mut at = self.by_day(dice);
                let pause = dice.between(5_000, 30_000);
                let is_one = dice.percent(50);
                for _ in 0..dice.between(25, 80) {
                    let payee = if is_one { self.mule(0) } else { dice.pick(&self.habit.payees) };
                    self.pay(at, payee, dice.around(median, 1));
                    at += dice.between(pause / 2, pause * 2);
                }
            }
            Family::AmountEscalation => {
                let mut at = self.by_day(dice);
                let mut minor = dice.around(median, 1);
                let payee = if dice.percent(50) { self.mule(0) } else { dice.pick(&self.habit.payees) };
                let growth = dice.between(130, 180);
                for _ in 0..dice.between(8, 14) {
                    self.pay(at, payee, minor);
                    minor = minor * growth / 100;
                    at += dice.between(HOUR, 9 * HOUR);
                }
            }
            Family::NewPayeeDrain => {
                let mut at = self.by_day(dice);
                let mules = dice.between(1, 3);
                for _ in 0..dice.between(4, 10) {
                    let payee = self.mule(dice.between(0, mules - 1));
                    let times = dice.between(3, 8);
                    self.pay(at, payee, dice.around(median * times, 1));
                    at += dice.between(5 * MINUTE, 60 * MINUTE);
                }
            }
            Family::NightActivity => {
                let mut at = self.by_night(dice);
                for _ in 0..2 {
                    let mut now = at;
                    for _ in 0..dice.between(3, 6) {
                        let payee = if dice.percent(60) { self.mule(0) } else { dice.pick(&self.habit.payees) };
                        let times = dice.between(1, 3);
                        self.pay(now, payee, dice.around(median * times, 1));
                        now += dice.between(2 * MINUTE, 30 * MINUTE);
                    }
                    at += DAY;
                }
            }
            Family::RefusalHammering => {
                let mut at = self.by_day(dice);
                let names = ["tool_denied", "account_not_granted", "unauthorized_merchant", "verb_not_granted"];
                for _ in 0..dice.between(15, 60) {
                    self.call(at, Wish::Refused(dice.pick(&names)));
                    at += dice.between(500, 15_000);
                }
                for _ in 0..dice.between(2, 4) {
                    at += dice.between(MINUTE, 5 * MINUTE);
                    self.pay(at, self.mule(0), dice.around(median * 2, 1));
                }
            }
            Family::LimitProbing => {
                let mut at = self.by_day(dice);
                for _ in 0..dice.between(3, 8) {
                    let names = ["above_hard_ceiling", "insufficient_funds", "grant_limit_exceeded"];
                    self.call(at, Wish::Refused(dice.pick(&names)));
                    at += dice.between(10_000, 10 * MINUTE);
                }
                for _ in 0..dice.between(3, 6) {
                    self.pay(at, self.mule(0), LIMIT * dice.between(80, 100) / 100);
                    at += dice.between(MINUTE, HOUR);
                }
            }
            Family::Structuring => {
                let mut at = self.by_day(dice);
                let payee = if dice.percent(70) { self.mule(0) } else { dice.pick(&self.habit.payees) };
                let (least, most) = (dice.between(25, 60), dice.between(70, 99));
                for _ in 0..dice.between(5, 12) {
                    self.pay(at, payee, LIMIT * dice.between(least, most) / 100);
                    at += dice.between(10 * MINUTE, 2 * HOUR);
                }
            }
            Family::SlowDrip => {
                let begins = dice.between(ATTACKS_FROM + 1, 36);
                for day in begins..begins + dice.between(18, 23) {
                    for _ in 0..dice.between(1, 4) {
                        let hour = dice.between(self.habit.opens, self.habit.closes);
                        let at = BEGIN + day * DAY + hour * HOUR + dice.between(0, HOUR - 1);
                        self.pay(at, self.mule(0), dice.around(median / 4 + 1, 1));
                    }
                }
            }
            Family::Takeover => {
                let mut at = self.by_night(dice);
                for _ in 0..dice.between(0, 6) {
                    self.call(at, Wish::Refused(dice.pick(&["account_not_granted", "unauthorized_merchant"])));
                    at += dice.between(1_000, 30_000);
                }
                for _ in 0..dice.between(5, 10) {
                    let payee = self.mule(dice.between(0, 1));
                    let times = dice.between(2, 5);
                    self.pay(at, payee, dice.around(median * times, 1));
                    at += dice.between(MINUTE, 10 * MINUTE);
                }
            }
        }
    }
}
