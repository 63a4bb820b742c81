//! Settings and the signed catalogue as the rules that decisions are made under.

use std::collections::BTreeMap;

use serde_json::json;

use super::settings::{FeeSettings, PaymentSettings, PolicySettings};
use crate::kernel::canon::canonical;
use crate::kernel::catalogue::{LocalPolicy, narrowed};
use crate::kernel::command::{Rules, Settlement};
use crate::kernel::ledger::{FeeRule, TransactionKind};
use crate::kernel::policy::role::Policy;
use crate::kernel::quorum::{GateRule, GateUnusable, strictest};
use crate::kernel::types::{Money, RoleName, Sha256};
use crate::ops::failure::Failure;

/// Hexadecimal digits of a policy version.
const VERSION_DIGITS: usize = 16;
/// A fee above the tenth of a payment is a slip of the pen.
const BASIS_POINTS_MAX: u32 = 1_000;

/// The rules in force: the tools of the signed catalogue, narrowed by the settings and by the role policy.
///
/// `policy_version` is the start of the SHA-256 of the settings' canonical form, with the policy's hash among them; in
/// front of it stands the version of the policy, if one is in force: `3-0123456789abcdef`.
///
/// # Errors
/// `config_invalid` when an amount of the policy is not one.
pub fn rules(
    policy: &PolicySettings,
    payment: &PaymentSettings,
    role_tools: BTreeMap<RoleName, Vec<String>>,
    catalogue_version: u64,
    company_crl_required: bool,
    settlement: Settlement,
    role_policy: Option<(u64, Policy)>,
) -> Result<Rules, Failure> {
    let invalid = |key: &str, error: &dyn std::fmt::Display| {
        Failure::usage("config_invalid", format!("[policy] {key}: {error}"), "correct countersign.toml")
    };
    let amount =
        |key: &str, text: &str| Money::parse_positive(text, policy.currency).map_err(|error| invalid(key, &error));
    let mut settings = json!({ "policy": policy, "payment": payment, "company_crl_required": company_crl_required });
    if let Some((_, role_policy)) = &role_policy {
        settings["role_policy"] = json!(role_policy.hash());
    }
    let canonical = canonical(&settings).map_err(|error| invalid("version", &error))?;
    let mut policy_version = Sha256::of(&[&canonical]).hex();
    policy_version.truncate(VERSION_DIGITS);
    if let Some((version, _)) = &role_policy {
        policy_version = format!("{version}-{policy_version}");
    }
    let role_policy = role_policy.map(|(_, role_policy)| role_policy);
    let transactions = match &role_policy {
        Some(role_policy) => policy.transactions.and(role_policy.transactions()),
        None => policy.transactions.clone(),
    };
    let local = LocalPolicy { deny_tools: policy.deny_tools.clone(), only_tools: policy.only_tools.clone() };
    Ok(Rules {
        policy_version,
        catalogue_version,
        role_tools: given(narrowed(&role_tools, &local), role_policy.as_ref()),
        policy: role_policy,
        merchants_allowed: policy.merchants_allowed.clone().into(),
        unattended_per_transaction: amount("unattended_per_transaction", &policy.unattended_per_transaction)?,
        unattended_per_day: amount("unattended_per_day", &policy.unattended_per_day)?,
        deny_above: policy.deny_above.as_deref().map(|text| amount("deny_above", text)).transpose()?,
        authorization_ttl_ms: i64::from(payment.authorization_ttl_s) * 1000,
        approval_ttl_ms: i64::from(payment.approval_ttl_s) * 1000,
        open_holds_max: payment.open_holds_max,
        transactions,
        company_crl_required,
        fees: payment
            .fee
            .iter()
            .map(fee)
            .collect::<Result<_, _>>()
            .map_err(|message| Failure::usage("config_invalid", message, "correct countersign.toml"))?,
        settlement,
        gates: gates(policy).map_err(|error| invalid("gates", &error))?,
        unsigned_approvals: policy.unsigned_approvals.unwrap_or(false),
        manual_two_people_above: payment
            .manual_two_people_above
            .as_deref()
            .map(|text| two_people_above(text, policy))
            .transpose()
            .map_err(|message| Failure::usage("config_invalid", message, "correct countersign.toml"))?,
        stopped_here: None,
        policy_unreadable: None,
    })
}

/// What the role policy leaves of each role's tools: a role that it does not name keeps none.
fn given(mut role_tools: BTreeMap<RoleName, Vec<String>>, policy: Option<&Policy>) -> BTreeMap<RoleName, Vec<String>> {
    if let Some(policy) = policy {
        for (role, tools) in &mut role_tools {
            tools.retain(|tool| policy.gives(role.as_str(), tool));
        }
    }
    role_tools
}

/// The gates that the settings name; none where they name none.
fn gates(policy: &PolicySettings) -> Result<Vec<GateRule>, GateUnusable> {
    if policy.gates.is_empty() { Ok(vec![]) } else { strictest([&policy.gates[..]]) }
}

/// Above which amount a case of the manual queue takes two people.
///
/// # Errors
/// Why it is no amount, in words.
pub fn two_people_above(text: &str, policy: &PolicySettings) -> Result<Money, String> {
    Money::parse_positive(text, policy.currency).map_err(|error| format!("[payment] manual_two_people_above: {error}"))
}

/// What is wrong with the fees of a configuration, in words.
///
/// # Errors
/// The first rule that is none.
pub fn check_fees(payment: &PaymentSettings) -> Result<(), String> {
    payment.fee.iter().try_for_each(|settings| fee(settings).map(|_| ()))
}

fn fee(settings: &FeeSettings) -> Result<FeeRule, String> {
    match settings.kind {
        TransactionKind::Purchase | TransactionKind::Transfer => {}
        TransactionKind::Reversal | TransactionKind::Incoming | TransactionKind::Opening | TransactionKind::Booking => {
            return Err("[[payment.fee]] kind: only purchase and transfer have a fee".into());
        }
    }
    let fixed = match settings.fixed.as_deref() {
        None => Money::from_minor(0, settings.currency),
        Some(text) => {
            Money::parse_positive(text, settings.currency).map_err(|error| format!("[[payment.fee]] fixed: {error}"))?
        }
    };
    if settings.basis_points > BASIS_POINTS_MAX {
        return Err(format!("[[payment.fee]] basis_points: at most {BASIS_POINTS_MAX}"));
    }
    Ok(FeeRule { kind: settings.kind, fixed, basis_points: settings.basis_points })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn policy(per_day: &str) -> PolicySettings {
        PolicySettings {
            currency: "USD".parse().unwrap(),
            merchants_allowed: vec!["amazon.com".parse().unwrap()],
            unattended_per_transaction: "2000".into(),
            unattended_per_day: per_day.into(),
            deny_above: None,
            deny_tools: BTreeSet::new(),
            only_tools: BTreeMap::new(),
            gates: vec![],
            unsigned_approvals: None,
            transactions: crate::kernel::policy::transaction::TransactionRules::default(),
            clearance: BTreeMap::new(),
        }
    }

    #[test]
    fn another_policy_has_another_version_and_the_same_one_the_same() {
        let version = |per_day| {
            let settings = PaymentSettings::default();
            rules(&policy(per_day), &settings, BTreeMap::new(), 1, false, Settlement::Embedded, None)
                .unwrap()
                .policy_version
        };
        assert_eq!(version("5000"), version("5000"));
        assert_ne!(version("5000"), version("5001"));
        assert_eq!(version("5000").len(), VERSION_DIGITS);
    }

    #[test]
    fn the_settings_narrow_the_catalogue_and_count_in_the_version() {
        let role: RoleName = "purchaser".parse().unwrap();
        let catalogue =
            || BTreeMap::from([(role.clone(), vec!["list_accounts".to_owned(), "execute_transfer".into()])]);
        let of = |policy: &PolicySettings| {
            rules(policy, &PaymentSettings::default(), catalogue(), 1, false, Settlement::Embedded, None).unwrap()
        };
        let whole = of(&policy("5000"));
        let denying = of(&PolicySettings { deny_tools: ["execute_transfer".to_owned()].into(), ..policy("5000") });
        let only = BTreeMap::from([(role.clone(), BTreeSet::from(["list_accounts".to_owned(), "audit".into()]))]);
        let keeping = of(&PolicySettings { only_tools: only, ..policy("5000") });
        assert_eq!(whole.role_tools, catalogue());
        for narrow in [denying, keeping] {
            assert_eq!(narrow.role_tools[&role], ["list_accounts"]);
            assert_ne!(narrow.policy_version, whole.policy_version);
        }
    }

    #[test]
    fn amounts_that_are_none_are_refused_with_their_key() {
        for bad in ["", "-1", "0", "1e3", "1.999"] {
            let refused =
                rules(&policy(bad), &PaymentSettings::default(), BTreeMap::new(), 1, false, Settlement::Embedded, None)
                    .unwrap_err();
            assert_eq!(refused.name, "config_invalid");
            assert!(refused.message.contains("unattended_per_day"), "{refused}");
        }
    }
}
