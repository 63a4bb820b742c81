//! The gates that rules name, and the strictest of what several rules name.

use serde::{Deserialize, Serialize};

use super::Side;

/// The roles that may speak at a bank gate.
pub const BANK_ROLES: [&str; 3] = ["approver", "officer", "administrator"];
/// The role of an account's owner.
pub const OWNER: &str = "owner";
/// People that one gate may ask for: more never come together before an approval expires.
pub const APPROVALS_MAX: u32 = 8;
/// Gates of one approval, after what several rules name is put together.
pub const GATES_MAX: usize = 8;

/// A gate as a rule names it: `{"gate":"owner"}`, or
/// `{"gate":"bank","approvals":2,"roles":["approver","officer"],"ordered":false}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(tag = "gate", rename_all = "snake_case", deny_unknown_fields)]
pub enum GateRule {
    /// The owner of the debited account consents.
    Owner {},
    /// So many different people of the bank approve.
    Bank {
        #[serde(default = "one")]
        approvals: u32,
        /// Each has one of these roles. In order: the n-th has the n-th role, so there are as many as approvals.
        #[serde(default = "approver")]
        roles: Vec<String>,
        #[serde(default)]
        ordered: bool,
    },
}

fn one() -> u32 {
    1
}

fn approver() -> Vec<String> {
    vec![BANK_ROLES[0].to_owned()]
}

/// Why a gate cannot be asked for. In the order in which it is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GateUnusable {
    Approvals,
    Roles,
    UnknownRole,
    RepeatedRole,
    Order,
    TooMany,
}

impl GateUnusable {
    pub fn name(self) -> &'static str {
        match self {
            Self::Approvals => "gate_approvals_out_of_range",
            Self::Roles => "gate_without_roles",
            Self::UnknownRole => "gate_role_unknown",
            Self::RepeatedRole => "gate_role_repeated",
            Self::Order => "gate_order_incomplete",
            Self::TooMany => "too_many_gates",
        }
    }
}

impl std::fmt::Display for GateUnusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Approvals => "a bank gate asks for 1 to 8 approvals",
            Self::Roles => "a bank gate names at least one role",
            Self::UnknownRole => "roles of a bank gate are approver, officer, administrator",
            Self::RepeatedRole => "a role is named twice; only an ordered gate may do that",
            Self::Order => "an ordered gate names one role for each approval",
            Self::TooMany => "there are more than 8 different gates",
        })
    }
}

impl GateRule {
    /// One approver of the bank: what is asked where no rule names a gate.
    pub fn one_approver() -> Self {
        Self::Bank { approvals: one(), roles: approver(), ordered: false }
    }

    /// # Errors
    /// The first [`GateUnusable`] in the order of that type.
    pub fn check(&self) -> Result<(), GateUnusable> {
        let Self::Bank { approvals, roles, ordered } = self else {
            return Ok(());
        };
        if !(1..=APPROVALS_MAX).contains(approvals) {
            return Err(GateUnusable::Approvals);
        }
        if roles.is_empty() {
            return Err(GateUnusable::Roles);
        }
        if roles.iter().any(|role| !BANK_ROLES.contains(&role.as_str())) {
            return Err(GateUnusable::UnknownRole);
        }
        if *ordered && roles.len() != *approvals as usize {
            return Err(GateUnusable::Order);
        }
        let repeated = |(place, role): (usize, &String)| roles[..place].contains(role);
        if !ordered && roles.iter().enumerate().any(repeated) {
            return Err(GateUnusable::RepeatedRole);
        }
        Ok(())
    }

    /// Whose it is.
    pub fn side(&self) -> Side {
        match self {
            Self::Owner {} => Side::Owner,
            Self::Bank { .. } => Side::Bank,
        }
    }

    /// How many people it asks for.
    pub fn people(&self) -> u32 {
        match self {
            Self::Owner {} => 1,
            Self::Bank { approvals, .. } => *approvals,
        }
    }

    /// Whether a person with these roles may speak here at all, now or later.
    pub(super) fn hears(&self, roles: &[String]) -> bool {
        match self {
            Self::Owner {} => roles.iter().any(|role| role == OWNER),
            Self::Bank { roles: wanted, .. } => roles.iter().any(|role| wanted.contains(role)),
        }
    }

    /// The role as which a person with these roles is the next one. `given`: how many spoke before.
    pub(super) fn next_role(&self, given: u32, roles: &[String]) -> Option<String> {
        let wanted = match self {
            Self::Owner {} => return roles.iter().find(|role| *role == OWNER).cloned(),
            Self::Bank { roles: wanted, ordered: true, .. } => {
                wanted.get(given as usize).map_or(&[][..], std::slice::from_ref)
            }
            Self::Bank { roles: wanted, .. } => wanted,
        };
        wanted.iter().find(|role| roles.contains(role)).cloned()
    }

    /// True when whatever satisfies this gate satisfies `other`.
    pub fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Owner {}, Self::Owner {}) => true,
            (Self::Owner {}, Self::Bank { .. }) | (Self::Bank { .. }, Self::Owner {}) => false,
            (Self::Bank { approvals, roles, .. }, Self::Bank { approvals: fewer, roles: wider, ordered: false }) => {
                approvals >= fewer && roles.iter().all(|role| wider.contains(role))
            }
            (Self::Bank { roles, ordered, .. }, Self::Bank { roles: part, ordered: true, .. }) => {
                *ordered && is_subsequence(part, roles)
            }
        }
    }
}

fn is_subsequence(part: &[String], whole: &[String]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|role| rest.any(|one| one == role))
}

/// The strictest of several lists of gates: whoever satisfies it satisfies each gate of each list.
///
/// - The owner is asked once if any list asks.
/// - Two unordered bank gates that share a role become one: the larger number of approvals, by people who have a role
///   that both name.
/// - A gate that another one implies goes: an ordered one implies the unordered ones whose people it asks anyway, and
///   an ordered one whose roles come in it in the same order.
/// - What cannot be one gate stays apart, and nobody counts twice: each asks for people of its own.
///
/// The order in which the lists come makes no difference. Nothing at all is [`GateRule::one_approver`].
///
/// # Errors
/// What [`GateRule::check`] finds; [`GateUnusable::TooMany`].
pub fn strictest<'a>(lists: impl IntoIterator<Item = &'a [GateRule]>) -> Result<Vec<GateRule>, GateUnusable> {
    let mut named: Vec<GateRule> = lists.into_iter().flatten().cloned().collect();
    for rule in &mut named {
        rule.check()?;
        if let GateRule::Bank { roles, ordered: false, .. } = rule {
            roles.sort_unstable();
        }
    }
    named.sort();
    named.dedup();
    let mut gates: Vec<GateRule> = vec![];
    for rule in named {
        match gates.iter_mut().find_map(|gate| Some((shared(gate, &rule)?, gate))) {
            Some((both, gate)) => *gate = both,
            None => gates.push(rule),
        }
    }
    let all = gates.clone();
    let mut place = 0;
    gates.retain(|gate| {
        let here = place;
        place += 1;
        let implied = |(there, other): (usize, &GateRule)| {
            there != here && other.implies(gate) && (!gate.implies(other) || there < here)
        };
        !all.iter().enumerate().any(implied)
    });
    gates.sort();
    if gates.len() > GATES_MAX {
        return Err(GateUnusable::TooMany);
    }
    if gates.is_empty() {
        gates.push(GateRule::one_approver());
    }
    Ok(gates)
}

/// One unordered gate for two that share a role.
fn shared(one: &GateRule, other: &GateRule) -> Option<GateRule> {
    let (
        GateRule::Bank { approvals, roles, ordered: false },
        GateRule::Bank { approvals: also, roles: with, ordered: false },
    ) = (one, other)
    else {
        return None;
    };
    let common: Vec<String> = roles.iter().filter(|role| with.contains(role)).cloned().collect();
    let approvals = (*approvals).max(*also);
    (!common.is_empty()).then_some(GateRule::Bank { approvals, roles: common, ordered: false })
}
