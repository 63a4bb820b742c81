//! A limit in one currency, or in several: `{"amount":"100.00","currency":"USD"}`, or a list of such.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kernel::types::{Currency, Money};

/// Amounts of different currencies, none below zero.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Amounts(Vec<Money>);

impl Amounts {
    /// # Errors
    /// A sentence: none at all, one below zero, a currency twice.
    pub fn new(amounts: Vec<Money>) -> Result<Self, &'static str> {
        if amounts.is_empty() {
            return Err("an amount is missing");
        }
        for (place, amount) in amounts.iter().enumerate() {
            if amount.minor() < 0 {
                return Err("an amount may not be below zero");
            }
            if amounts[..place].iter().any(|other| other.currency() == amount.currency()) {
                return Err("a currency has one amount");
            }
        }
        Ok(Self(amounts))
    }

    /// The amount of this currency.
    pub fn of(&self, currency: Currency) -> Option<Money> {
        self.0.iter().find(|amount| amount.currency() == currency).copied()
    }

    /// Whether so much is above the limit. What has no limit in its currency cannot be compared, and is above it.
    pub fn is_exceeded(&self, minor: Option<i64>, currency: Currency) -> bool {
        let within = |limit: Money| minor.is_some_and(|minor| minor <= limit.minor());
        !self.of(currency).is_some_and(within)
    }

    pub(super) fn has_zero(&self) -> bool {
        self.0.iter().any(|amount| amount.minor() == 0)
    }
}

impl From<Money> for Amounts {
    fn from(amount: Money) -> Self {
        Self(vec![amount])
    }
}

impl Serialize for Amounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Amounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrSeveral)
    }
}

struct OneOrSeveral;

impl<'de> Visitor<'de> for OneOrSeveral {
    type Value = Amounts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{\"amount\":\"100.00\",\"currency\":\"USD\"} or a list of such")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Amounts, A::Error> {
        let one = Money::deserialize(MapAccessDeserializer::new(map))?;
        Amounts::new(vec![one]).map_err(A::Error::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Amounts, A::Error> {
        let mut amounts = vec![];
        while let Some(amount) = list.next_element()? {
            amounts.push(amount);
        }
        Amounts::new(amounts).map_err(A::Error::custom)
    }
}
