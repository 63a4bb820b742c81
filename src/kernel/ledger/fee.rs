//! What a payment costs its payer.

use serde::{Deserialize, Serialize};

use super::TransactionKind;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::Money;

/// One basis point is a hundredth of a per cent.
const BASIS_POINTS: i128 = 10_000;

/// The fee of one kind of payment in one currency: a fixed part and a part of the amount, rounded down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FeeRule {
    pub kind: TransactionKind,
    /// Not negative; its currency is the rule's.
    pub fixed: Money,
    /// Hundredths of a per cent of the amount.
    pub basis_points: u32,
}

/// The fee of a payment by the first rule that fits; zero when none does.
///
/// # Errors
/// `amount_too_large`
pub fn fee_of(rules: &[FeeRule], kind: TransactionKind, amount: Money) -> Result<Money, Refusal> {
    let fits = |rule: &&FeeRule| rule.kind == kind && rule.fixed.currency() == amount.currency();
    let Some(rule) = rules.iter().find(fits) else {
        return Ok(Money::from_minor(0, amount.currency()));
    };
    let part = i128::from(amount.minor()) * i128::from(rule.basis_points) / BASIS_POINTS;
    let part = i64::try_from(part).map_err(|_| Refusal::AmountTooLarge)?;
    rule.fixed.checked_add(Money::from_minor(part, amount.currency())).ok_or(Refusal::AmountTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fee_is_fixed_plus_a_part_rounded_down_in_its_own_currency() {
        let money = |minor, currency: &str| Money::from_minor(minor, currency.parse().unwrap());
        let rules = [
            FeeRule { kind: TransactionKind::Transfer, fixed: money(25, "USD"), basis_points: 10 },
            FeeRule { kind: TransactionKind::Purchase, fixed: money(0, "EUR"), basis_points: 1 },
        ];
        let table = [
            (TransactionKind::Transfer, money(100_000, "USD"), Ok(money(125, "USD"))),
            (TransactionKind::Transfer, money(999, "USD"), Ok(money(25, "USD"))),
            (TransactionKind::Transfer, money(1_000, "USD"), Ok(money(26, "USD"))),
            (TransactionKind::Transfer, money(100_000, "EUR"), Ok(money(0, "EUR"))),
            (TransactionKind::Purchase, money(100_000, "USD"), Ok(money(0, "USD"))),
            (TransactionKind::Purchase, money(9_999, "EUR"), Ok(money(0, "EUR"))),
            (TransactionKind::Purchase, money(10_000, "EUR"), Ok(money(1, "EUR"))),
            (TransactionKind::Transfer, money(i64::MAX, "USD"), Ok(money(i64::MAX / 1_000 + 25, "USD"))),
        ];
        for (kind, amount, fee) in table {
            assert_eq!(fee_of(&rules, kind, amount), fee, "{kind:?} {amount}");
        }
        let ruinous = [FeeRule { kind: TransactionKind::Transfer, fixed: money(1, "USD"), basis_points: 10_000 }];
        let refused = fee_of(&ruinous, TransactionKind::Transfer, money(i64::MAX, "USD"));
        assert_eq!(refused, Err(Refusal::AmountTooLarge));
    }
}
