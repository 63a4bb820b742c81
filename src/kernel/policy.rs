//! The bank's rules as small questions. Their order is in `decide`.

pub mod case;
pub mod change;
mod constraint;
pub mod document;
#[cfg(test)]
mod examined;
pub mod finding;
pub mod look_alike;
pub mod merchants;
pub mod reading;
pub mod role;
pub mod tools;
pub mod transaction;

use role::{Arguments, Ruling};
use transaction::{Denied, Why};

use crate::kernel::command::Rules;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{MerchantId, Money, RoleName};

/// A limit that asks for a human and never denies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SoftLimit {
    PerTransaction,
    PerDay,
    /// A transaction rule's hours, where they do not deny.
    OutsideHours,
    /// A transaction rule's velocity, where it does not deny.
    Velocity,
    /// A transaction rule names gates for such amounts.
    Threshold,
    /// The monitor's score.
    RiskScore,
    /// A reversal always waits for a human.
    Reversal,
}

impl SoftLimit {
    pub fn name(self) -> &'static str {
        match self {
            Self::PerTransaction => "above_unattended_per_transaction",
            Self::PerDay => "above_unattended_per_day",
            Self::OutsideHours => "outside_hours",
            Self::Velocity => "velocity",
            Self::Threshold => "above_threshold",
            Self::RiskScore => "risk_score",
            Self::Reversal => "reversals_need_a_human",
        }
    }
}

/// Whether a role may call a tool with these arguments. By a policy that was replaced nobody may anything; explicit
/// denials come next, then what the signed catalogue, the settings and the policy all give, then constraints.
///
/// # Errors
/// `policy_unreadable`, `tool_denied_by_policy`, `tool_denied`, `constraint_violated`, `constraint_parameter_missing`
pub fn call_of_role<'a>(
    rules: &Rules,
    role: &RoleName,
    tool: &str,
    arguments: impl FnOnce() -> Arguments<'a>,
) -> Result<(), Refusal> {
    if rules.policy_unreadable.is_some() {
        return Err(Refusal::PolicyUnreadable);
    }
    let given = rules.role_tools.get(role).is_some_and(|tools| tools.iter().any(|name| name == tool));
    let ruling = match &rules.policy {
        None => Ruling::NotAsked,
        Some(policy) => policy.ruling(role.as_str(), tool, arguments),
    };
    match ruling {
        Ruling::Denied => Err(Refusal::ToolDeniedByPolicy),
        Ruling::RoleUnnamed | Ruling::NotPermitted => Err(Refusal::ToolDenied),
        Ruling::Permitted { .. } | Ruling::NotAsked | Ruling::Violated { .. } | Ruling::Missing { .. } if !given => {
            Err(Refusal::ToolDenied)
        }
        Ruling::Permitted { .. } | Ruling::NotAsked => Ok(()),
        Ruling::Violated { .. } => Err(Refusal::ConstraintViolated),
        Ruling::Missing { .. } => Err(Refusal::ConstraintParameterMissing),
    }
}

/// # Errors
/// `merchant_looks_alike` with the merchant that is imitated; `unauthorized_merchant` for what looks like none.
pub fn merchant_on_list(rules: &Rules, merchant: &MerchantId) -> Result<(), Denied> {
    if rules.merchants_allowed.contains(merchant) {
        return Ok(());
    }
    match rules.merchants_allowed.imitated_by(merchant) {
        Some(imitated) => {
            let refusal = Refusal::MerchantLooksAlike;
            let why = Why { name: refusal.name(), rule: None, imitates: Some(imitated.clone()) };
            Err(Denied { refusal, why })
        }
        None => Err(Denied::of(Refusal::UnauthorizedMerchant)),
    }
}

/// The owner's ceiling for this agent, then the bank's.
///
/// # Errors
/// `grant_limit_exceeded`, `above_hard_ceiling`; a ceiling in another currency cannot be compared:
/// `currency_mismatch`.
pub fn hard_ceilings(rules: &Rules, owner_max: Option<Money>, amount: Money) -> Result<(), Refusal> {
    let above = |ceiling: Money| {
        if ceiling.currency() == amount.currency() {
            Ok(amount.minor() > ceiling.minor())
        } else {
            Err(Refusal::CurrencyMismatch)
        }
    };
    if owner_max.map(above).transpose()?.unwrap_or(false) {
        return Err(Refusal::GrantLimitExceeded);
    }
    if rules.deny_above.map(above).transpose()?.unwrap_or(false) {
        return Err(Refusal::AboveHardCeiling);
    }
    Ok(())
}

/// The soft limits that `amount` is above. `spent_minor`: today's executed and held unattended amounts.
pub fn soft_limits(rules: &Rules, spent_minor: i64, amount: Money) -> Vec<SoftLimit> {
    let above = |limit: Money, minor: Option<i64>| {
        limit.currency() != amount.currency() || minor.is_none_or(|minor| minor > limit.minor())
    };
    let mut reached = Vec::new();
    if above(rules.unattended_per_transaction, Some(amount.minor())) {
        reached.push(SoftLimit::PerTransaction);
    }
    if above(rules.unattended_per_day, spent_minor.checked_add(amount.minor())) {
        reached.push(SoftLimit::PerDay);
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(minor: i64) -> Money {
        Money::from_minor(minor, "USD".parse().unwrap())
    }

    fn rules() -> Rules {
        Rules {
            policy_version: "p".into(),
            catalogue_version: 1,
            role_tools: [("purchaser".parse().unwrap(), vec!["authorize_purchase".into()])].into(),
            policy: None,
            merchants_allowed: vec!["amazon.com".parse().unwrap()].into(),
            unattended_per_transaction: usd(200_000),
            unattended_per_day: usd(500_000),
            deny_above: Some(usd(2_000_000)),
            authorization_ttl_ms: 1,
            approval_ttl_ms: 1,
            open_holds_max: 1,
            company_crl_required: false,
            fees: vec![],
            manual_two_people_above: None,
            stopped_here: None,
            policy_unreadable: None,
            settlement: crate::kernel::command::Settlement::Embedded,
            gates: vec![],
            unsigned_approvals: false,
            transactions: transaction::TransactionRules::default(),
        }
    }

    #[test]
    fn only_tools_of_the_role_and_merchants_of_the_list_pass() {
        let role = |name: &str| name.parse().unwrap();
        let may = |name: &str, tool: &str| call_of_role(&rules(), &role(name), tool, Vec::new);
        assert_eq!(may("purchaser", "authorize_purchase"), Ok(()));
        for (name, tool) in [("purchaser", "authorize_transfer"), ("viewer", "authorize_purchase"), ("purchaser", "")] {
            assert_eq!(may(name, tool), Err(Refusal::ToolDenied), "{name} {tool}");
        }
        let replaced = Rules { policy_unreadable: Some(7), ..rules() };
        for (name, tool) in [("purchaser", "authorize_purchase"), ("purchaser", "authorize_transfer"), ("viewer", "")] {
            let ruling = call_of_role(&replaced, &role(name), tool, Vec::new);
            assert_eq!(ruling, Err(Refusal::PolicyUnreadable), "{name} {tool}");
        }
        assert_eq!(merchant_on_list(&rules(), &"amazon.com".parse().unwrap()), Ok(()));
        for (merchant, refusal, imitates) in [
            ("www.amazon.com", Refusal::UnauthorizedMerchant, None),
            ("example.org", Refusal::UnauthorizedMerchant, None),
            ("amazon.co", Refusal::MerchantLooksAlike, Some("amazon.com")),
            ("amaz0n.com", Refusal::MerchantLooksAlike, Some("amazon.com")),
            ("amazon.com.evil.example", Refusal::MerchantLooksAlike, Some("amazon.com")),
        ] {
            let denied = merchant_on_list(&rules(), &merchant.parse().unwrap()).unwrap_err();
            assert_eq!(denied.refusal, refusal, "{merchant}");
            assert_eq!(denied.why.imitates.as_ref().map(MerchantId::as_str), imitates, "{merchant}");
        }
    }

    #[test]
    fn hard_ceilings_deny_above_and_not_at_the_limit() {
        assert_eq!(hard_ceilings(&rules(), Some(usd(2_000_000)), usd(2_000_000)), Ok(()));
        assert_eq!(hard_ceilings(&rules(), None, usd(2_000_001)), Err(Refusal::AboveHardCeiling));
        assert_eq!(hard_ceilings(&rules(), Some(usd(9)), usd(10)), Err(Refusal::GrantLimitExceeded));
        let euro = Money::from_minor(1, "EUR".parse().unwrap());
        assert_eq!(hard_ceilings(&rules(), Some(euro), usd(1)), Err(Refusal::CurrencyMismatch));
        assert_eq!(hard_ceilings(&rules(), None, euro), Err(Refusal::CurrencyMismatch));
    }

    #[test]
    fn soft_limits_count_the_day_with_this_amount_in_it() {
        use SoftLimit::*;
        let table = [
            (0, 200_000, vec![]),
            (300_000, 200_000, vec![]),
            (0, 200_001, vec![PerTransaction]),
            (300_001, 200_000, vec![PerDay]),
            (500_000, 1, vec![PerDay]),
            (0, 1_000_000, vec![PerTransaction, PerDay]),
            (i64::MAX, 1, vec![PerDay]),
        ];
        for (spent, minor, reached) in table {
            assert_eq!(soft_limits(&rules(), spent, usd(minor)), reached, "{spent} {minor}");
        }
    }
}
