//! `[policy]` and `[payment]`

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::kernel::ledger::TransactionKind;
use crate::kernel::mask::Clearance;
use crate::kernel::policy::transaction::TransactionRules;
use crate::kernel::quorum::GateRule;
use crate::kernel::types::{Currency, MerchantId, RoleName};

/// The bank's rules for agents. Amounts are decimal strings in `currency`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySettings {
    pub currency: Currency,
    pub merchants_allowed: Vec<MerchantId>,
    /// A single amount above it waits for a human.
    pub unattended_per_transaction: String,
    /// A day's sum above it waits for a human; amounts that a human approved do not count.
    pub unattended_per_day: String,
    /// Amounts above it are denied; leave out for none.
    #[serde(default)]
    pub deny_above: Option<String>,
    /// No role may call these tools, whatever the role catalogue says.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub deny_tools: BTreeSet<String>,
    /// `[policy.only_tools]`: roles named here keep only these of the tools that the catalogue gives them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub only_tools: BTreeMap<RoleName, BTreeSet<String>>,
    /// Who decides about what waits for a human; left out: one approver of the bank. Gates that are named here count
    /// signed words alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateRule>,
    /// Whether an approver who is known by user id alone counts, where no rule names gates; left out: in a demo only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsigned_approvals: Option<bool>,
    /// `[[policy.transactions]]`: what is asked besides, by role, agent, account and kind.
    #[serde(default, skip_serializing_if = "TransactionRules::is_empty")]
    pub transactions: TransactionRules,
    /// `[policy.clearance]`: what roles named here see of answers, instead of what is usual for them. A role that is
    /// neither named nor usual sees what is public.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clearance: BTreeMap<RoleName, Clearance>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PaymentSettings {
    /// An approved authorization that is not executed by then returns its funds.
    pub authorization_ttl_s: u32,
    /// A human has this long to decide.
    pub approval_ttl_s: u32,
    /// Open holds of one agent on one account.
    pub open_holds_max: u32,
    /// A case of the manual queue above it takes two people. A decimal string in the policy's currency; what has another
    /// currency takes two as well. Leave out: one person is enough for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manual_two_people_above: Option<String>,
    /// What payments cost their payer; the first that fits kind and currency counts.
    pub fee: Vec<FeeSettings>,
}

/// `[[payment.fee]]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeeSettings {
    /// `purchase` or `transfer`.
    pub kind: TransactionKind,
    pub currency: Currency,
    /// A decimal string; leave out for none.
    #[serde(default)]
    pub fixed: Option<String>,
    /// Hundredths of a per cent of the amount.
    #[serde(default)]
    pub basis_points: u32,
}

impl Default for PaymentSettings {
    fn default() -> Self {
        Self {
            authorization_ttl_s: 900,
            approval_ttl_s: 86_400,
            open_holds_max: 50,
            manual_two_people_above: None,
            fee: Vec::new(),
        }
    }
}
