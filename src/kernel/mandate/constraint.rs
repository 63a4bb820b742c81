//! Constraints, in the shapes of AP2's `open_payment_mandate`. Members that are ours are marked so in
//! `docs/MANDATES.md`.

use chrono::DateTime;
use serde::Deserialize;
use serde_json::{Map, Number, Value, json};

use super::period::{Period, weekday};
use super::refusal::MandateRefusal;
use crate::kernel::types::{AccountId, Currency, Day, MerchantId, Money, UnixMillis};
use crate::kernel::zone::{Zone, day_from_text, day_to_text};

const PAYEES_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 128;
const REFERENCE_BYTES_MAX: usize = 64;
const OCCURRENCES_MAX: u32 = 1_000_000;

/// What a mandate allows. What is not limited is free, but for the amount: one of `amount` and `budget` is there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Constraints {
    pub payees: Option<Vec<Payee>>,
    pub amount: Option<AmountRange>,
    pub budget: Option<Budget>,
    pub recurrence: Option<Recurrence>,
    /// What a purchase buys (its product), or the idempotency key of a transfer.
    pub reference: Option<String>,
    pub dates: Option<ExecutionDates>,
}

/// Who may be paid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payee {
    /// A merchant, as the bank has registered it. The name is for people.
    Merchant { id: MerchantId, name: String },
    /// An account of this bank.
    Account { id: AccountId, name: String },
}

/// Of one payment, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AmountRange {
    pub min: Option<Money>,
    pub max: Money,
}

/// Of all payments of a period together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    pub max: Money,
    pub period: Period,
}

/// How often it may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recurrence {
    pub frequency: Period,
    /// In one period; one unless it says more. Without meaning where the frequency is on demand.
    pub per_period: u32,
    /// In all.
    pub max_occurrences: Option<u32>,
}

/// When a payment may be executed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExecutionDates {
    pub not_before: Option<Moment>,
    pub not_after: Option<Moment>,
    pub days: Option<Weekdays>,
}

/// An instant, or a day where the account lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    At(UnixMillis),
    On(Day),
}

/// Days of the week, one bit each from Monday.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weekdays(u8);

const WEEKDAYS: [&str; 7] = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];

impl Weekdays {
    /// `None`: a word is none of `MON` to `SUN`, is there twice, or there is none.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut days = 0_u8;
        for name in names {
            let bit = 1 << WEEKDAYS.iter().position(|known| *known == name)?;
            if days & bit != 0 {
                return None;
            }
            days |= bit;
        }
        (days != 0).then_some(Self(days))
    }

    fn names(self) -> Vec<&'static str> {
        let set = |(number, _): &(usize, &&str)| self.0 & (1 << number) != 0;
        WEEKDAYS.iter().enumerate().filter(set).map(|(_, name)| *name).collect()
    }
}

impl ExecutionDates {
    pub(super) fn allow(&self, at: UnixMillis, zone: Zone) -> bool {
        let day = zone.day(at);
        let begun = self.not_before.is_none_or(|moment| match moment {
            Moment::At(begin) => at >= begin,
            Moment::On(first) => day >= first,
        });
        let over = self.not_after.is_some_and(|moment| match moment {
            Moment::At(end) => at > end,
            Moment::On(last) => day > last,
        });
        begun && !over && self.days.is_none_or(|days| days.0 & (1 << weekday(day)) != 0)
    }
}

impl ExecutionDates {
    /// The members of AP2's `payment.execution_date`, and `days`.
    pub(super) fn written(&self) -> Value {
        let mut wire = json!({});
        for (name, moment) in [("not_before", self.not_before), ("not_after", self.not_after)] {
            if let Some(moment) = moment {
                wire[name] = json!(moment.text());
            }
        }
        if let Some(days) = self.days {
            wire["days"] = json!(days.names());
        }
        wire
    }
}

impl Moment {
    /// `2026-11-30` or `2026-11-30T08:00:00Z`. What would be written otherwise than it was read is none: years with a
    /// sign or more than four digits, instants that leave those years in UTC.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(day) = day_from_text(text) {
            return (text.len() == 10 && day_to_text(day) == text).then_some(Self::On(day));
        }
        let millis = |text: &str| Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis());
        let moment = Self::At(UnixMillis(millis(text).filter(|_| text.len() <= 35)?));
        (Self::At(UnixMillis(millis(&moment.text())?)) == moment).then_some(moment)
    }

    fn text(self) -> String {
        match self {
            Self::At(at) => at.rfc3339(),
            Self::On(day) => day_to_text(day),
        }
    }
}

impl Payee {
    /// As it is named in a mandate: `amazon.com`, `account:CHK_002`.
    pub fn parse(id: &str, name: String) -> Option<Self> {
        let plain = |text: &str| (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        if !plain(&name) {
            return None;
        }
        Some(match id.strip_prefix("account:") {
            Some(account) => Self::Account { id: account.parse().ok()?, name },
            None => Self::Merchant { id: id.parse().ok()?, name },
        })
    }

    /// AP2's `merchant`.
    pub(super) fn written(&self) -> Value {
        match self {
            Self::Merchant { id, name } => json!({ "id": id, "name": name }),
            Self::Account { id, name } => json!({ "id": format!("account:{id}"), "name": name }),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PayeesWire {
    allowed: Vec<PayeeWire>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PayeeWire {
    id: String,
    name: String,
    /// For people; not compared.
    website: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AmountWire {
    currency: String,
    max: Number,
    min: Option<Number>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetWire {
    currency: String,
    max: Number,
    period: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecurrenceWire {
    frequency: String,
    max_occurrences: Option<Number>,
    per_period: Option<Number>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferenceWire {
    conditional_transaction_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DatesWire {
    not_before: Option<String>,
    not_after: Option<String>,
    days: Option<Vec<String>>,
}

/// Reads the list of constraints: each type once, every member known.
pub(super) fn read(list: &[Value]) -> Result<Constraints, MandateRefusal> {
    let mut constraints = Constraints::default();
    for constraint in list {
        one(constraint, &mut constraints)?;
    }
    let currencies = [
        constraints.amount.map(|amount| amount.max.currency()),
        constraints.budget.map(|budget| budget.max.currency()),
    ];
    match currencies {
        [None, None] => Err(MandateRefusal::NoCeiling),
        [Some(one), Some(other)] if one != other => Err(MandateRefusal::ConstraintCurrency),
        [Some(_), Some(_)] | [Some(_), None] | [None, Some(_)] => Ok(constraints),
    }
}

fn one(constraint: &Value, into: &mut Constraints) -> Result<(), MandateRefusal> {
    let mut members = constraint.as_object().ok_or(MandateRefusal::ConstraintMalformed)?.clone();
    let kind = members.shift_remove("type").ok_or(MandateRefusal::ConstraintMalformed)?;
    match kind.as_str().ok_or(MandateRefusal::ConstraintMalformed)? {
        "payment.allowed_payees" => put(&mut into.payees, payees(wire(members)?)?),
        "payment.amount_range" => put(&mut into.amount, amount(&wire(members)?)?),
        "payment.budget" => put(&mut into.budget, budget(&wire(members)?)?),
        "payment.agent_recurrence" => put(&mut into.recurrence, recurrence(&wire(members)?)?),
        "payment.reference" => put(&mut into.reference, reference(wire(members)?)?),
        "payment.execution_date" => put(&mut into.dates, dates(&wire(members)?)?),
        _ => Err(MandateRefusal::ConstraintUnknown),
    }
}

fn put<T>(place: &mut Option<T>, value: T) -> Result<(), MandateRefusal> {
    if place.is_some() {
        return Err(MandateRefusal::ConstraintRepeated);
    }
    *place = Some(value);
    Ok(())
}

fn wire<T: serde::de::DeserializeOwned>(members: Map<String, Value>) -> Result<T, MandateRefusal> {
    // An absent member is absent, not null.
    if members.values().any(Value::is_null) {
        return Err(MandateRefusal::ConstraintMalformed);
    }
    serde_json::from_value(Value::Object(members)).map_err(|_| MandateRefusal::ConstraintMalformed)
}

fn payees(wire: PayeesWire) -> Result<Vec<Payee>, MandateRefusal> {
    let mut payees = Vec::new();
    for payee in wire.allowed {
        if payee.website.is_some_and(|website| website.len() > NAME_BYTES_MAX) {
            return Err(MandateRefusal::ConstraintMalformed);
        }
        payees.push(Payee::parse(&payee.id, payee.name).ok_or(MandateRefusal::ConstraintMalformed)?);
    }
    let fits = (1..=PAYEES_MAX).contains(&payees.len());
    if fits { Ok(payees) } else { Err(MandateRefusal::ConstraintMalformed) }
}

fn currency(code: &str) -> Result<Currency, MandateRefusal> {
    code.parse().map_err(|_| MandateRefusal::ConstraintCurrency)
}

/// Minor units, as AP2's schema of the amount range has them.
fn amount(wire: &AmountWire) -> Result<AmountRange, MandateRefusal> {
    let currency = currency(&wire.currency)?;
    let minor = |number: &Number, least: i64| {
        let minor = number.as_i64().filter(|minor| (least..=MINOR_MAX).contains(minor));
        minor.map(|minor| Money::from_minor(minor, currency)).ok_or(MandateRefusal::ConstraintAmount)
    };
    let max = minor(&wire.max, 1)?;
    let min = wire.min.as_ref().map(|min| minor(min, 0)).transpose()?;
    let empty = min.is_some_and(|min| min.minor() > max.minor());
    if empty { Err(MandateRefusal::ConstraintAmount) } else { Ok(AmountRange { min, max }) }
}

/// What 15 digits hold.
const MINOR_MAX: i64 = 999_999_999_999_999;

/// Units of the currency with decimals, as AP2's schema of the budget has them.
fn budget(wire: &BudgetWire) -> Result<Budget, MandateRefusal> {
    let currency = currency(&wire.currency)?;
    let text = wire.max.to_string();
    let text = text.strip_suffix(".0").unwrap_or(&text);
    let max = Money::parse_positive(text, currency).map_err(|_| MandateRefusal::ConstraintAmount)?;
    Ok(Budget { max, period: wire.period.as_deref().map_or(Ok(Period::Life), period)? })
}

fn recurrence(wire: &RecurrenceWire) -> Result<Recurrence, MandateRefusal> {
    let count = |number: &Number| {
        let count = number.as_u64().and_then(|count| u32::try_from(count).ok());
        count.filter(|count| (1..=OCCURRENCES_MAX).contains(count)).ok_or(MandateRefusal::ConstraintMalformed)
    };
    let frequency = period(&wire.frequency)?;
    // Something that does not repeat has no number of times a period.
    if frequency == Period::Life && wire.per_period.is_some() {
        return Err(MandateRefusal::ConstraintMalformed);
    }
    Ok(Recurrence {
        frequency,
        per_period: wire.per_period.as_ref().map_or(Ok(1), count)?,
        max_occurrences: wire.max_occurrences.as_ref().map(count).transpose()?,
    })
}

fn period(name: &str) -> Result<Period, MandateRefusal> {
    Period::from_name(name).ok_or(MandateRefusal::ConstraintMalformed)
}

fn reference(wire: ReferenceWire) -> Result<String, MandateRefusal> {
    let text = wire.conditional_transaction_id;
    let fits = (1..=REFERENCE_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text) } else { Err(MandateRefusal::ConstraintMalformed) }
}

fn dates(wire: &DatesWire) -> Result<ExecutionDates, MandateRefusal> {
    let moment = |text: &String| Moment::parse(text).ok_or(MandateRefusal::ConstraintMalformed);
    let days =
        |names: &Vec<String>| Weekdays::of(names.iter().map(String::as_str)).ok_or(MandateRefusal::ConstraintMalformed);
    let dates = ExecutionDates {
        not_before: wire.not_before.as_ref().map(moment).transpose()?,
        not_after: wire.not_after.as_ref().map(moment).transpose()?,
        days: wire.days.as_ref().map(days).transpose()?,
    };
    let says_nothing = dates == ExecutionDates { not_before: None, not_after: None, days: None };
    if says_nothing { Err(MandateRefusal::ConstraintMalformed) } else { Ok(dates) }
}

/// The list as it is signed; `payees` is what stands for each payee.
pub(super) fn written(constraints: &Constraints, payees: Option<Vec<Value>>) -> Value {
    let mut list = Vec::new();
    if let Some(allowed) = payees {
        list.push(json!({ "type": "payment.allowed_payees", "allowed": allowed }));
    }
    if let Some(AmountRange { min, max }) = constraints.amount {
        let mut range = json!({ "type": "payment.amount_range", "currency": max.currency(), "max": max.minor() });
        if let Some(min) = min {
            range["min"] = json!(min.minor());
        }
        list.push(range);
    }
    if let Some(Budget { max, period }) = constraints.budget {
        let mut budget = json!({ "type": "payment.budget", "currency": max.currency(), "max": plain_number(max) });
        if period != Period::Life {
            budget["period"] = json!(period.name());
        }
        list.push(budget);
    }
    if let Some(recurrence) = &constraints.recurrence {
        let mut wire = json!({ "type": "payment.agent_recurrence", "frequency": recurrence.frequency.name() });
        if let Some(max) = recurrence.max_occurrences {
            wire["max_occurrences"] = json!(max);
        }
        if recurrence.per_period != 1 {
            wire["per_period"] = json!(recurrence.per_period);
        }
        list.push(wire);
    }
    if let Some(reference) = &constraints.reference {
        list.push(json!({ "type": "payment.reference", "conditional_transaction_id": reference }));
    }
    if let Some(dates) = &constraints.dates {
        let mut wire = dates.written();
        wire["type"] = json!("payment.execution_date");
        list.push(wire);
    }
    Value::Array(list)
}

/// An amount of at most 15 digits as a JSON number: a float keeps it.
pub fn plain_number(amount: Money) -> Value {
    let text = amount.decimal();
    let whole = text.split_once('.').filter(|(_, cents)| cents.bytes().all(|digit| digit == b'0'));
    serde_json::from_str(whole.map_or(text.as_str(), |(whole, _)| whole)).unwrap_or(Value::Null)
}
