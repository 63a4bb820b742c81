//! The policies of these lives, in words that the witness understands by itself, and the documents that say the same.

use std::sync::Arc;

use countersign::kernel::command::Rules;
use countersign::kernel::policy::document::Document;
use countersign::kernel::policy::role::Policy;
use countersign::kernel::policy::tools::Tools;
use countersign::kernel::types::Money;
use serde_json::{Value, json};

use crate::store::world::rules;

/// People that a payment needs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Gate {
    Owner,
    Bank { people: usize, roles: &'static [&'static str], in_order: bool },
}

/// At most so many authorizations of one agent in an hour.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub count: usize,
    pub denies: bool,
}

/// A policy. Amounts are cents; what is None or empty asks nothing.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    pub denied: &'static [&'static str],
    /// The role's constraint on `authorize_transfer`.
    pub transfer_max: Option<i64>,
    pub ceiling: Option<i64>,
    pub alone: Option<i64>,
    pub alone_a_day: Option<i64>,
    pub payees: Option<&'static [&'static str]>,
    pub merchants: Option<&'static [&'static str]>,
    pub pace: Option<Pace>,
    /// Above so much these gates.
    pub gates: &'static [(i64, &'static [Gate])],
    pub needs_mandate: bool,
}

pub const PACE_WINDOW_MS: i64 = 3_600_000;
pub const OPEN_MAX: usize = 6;
/// What the settings say, whatever the policy.
pub const SETTINGS: Plain =
    Plain { ceiling: Some(400_000), alone: Some(100_000), alone_a_day: Some(250_000), ..NOTHING };
pub const TWO_PEOPLE_ABOVE: i64 = 20_000;
/// Who decides where no threshold names a gate.
pub const ONE_APPROVER: Gate = Gate::Bank { people: 1, roles: &["approver"], in_order: false };

const NOTHING: Plain = Plain {
    denied: &[],
    transfer_max: None,
    ceiling: None,
    alone: None,
    alone_a_day: None,
    payees: None,
    merchants: None,
    pace: None,
    gates: &[],
    needs_mandate: false,
};
const TWO: Gate = Gate::Bank { people: 2, roles: &["approver", "officer"], in_order: false };
const IN_ORDER: Gate = Gate::Bank { people: 2, roles: &["approver", "officer"], in_order: true };

pub const POLICIES: [Plain; 9] = [
    NOTHING,
    Plain { ceiling: Some(150_000), alone: Some(20_000), ..NOTHING },
    Plain { gates: &[(30_000, &[Gate::Owner, TWO])], ..NOTHING },
    Plain { gates: &[(10_000, &[IN_ORDER]), (60_000, &[Gate::Owner])], alone_a_day: Some(60_000), ..NOTHING },
    Plain { denied: &["authorize_transfer", "execute_transfer"], merchants: Some(&["amazon.com"]), ..NOTHING },
    Plain { payees: Some(&["B"]), transfer_max: Some(40_000), merchants: Some(&["books.example"]), ..NOTHING },
    Plain { pace: Some(Pace { count: 2, denies: true }), denied: &["execute_purchase"], ..NOTHING },
    Plain { pace: Some(Pace { count: 2, denies: false }), ..NOTHING },
    Plain { needs_mandate: true, ..NOTHING },
];

impl Plain {
    /// What is asked with the settings beside it: the smaller of each.
    pub fn with_settings(&self, of: fn(&Self) -> Option<i64>) -> Option<i64> {
        [of(self), of(&SETTINGS)].into_iter().flatten().min()
    }

    /// Every gate that this amount has to pass, each by itself.
    pub fn gates_for(&self, amount: i64) -> Vec<Gate> {
        let reached = self.gates.iter().filter(|(above, _)| amount > *above);
        reached.flat_map(|(_, gates)| gates.iter().copied()).collect()
    }

    fn document(&self) -> Value {
        let usd = |cents: i64| json!({ "amount": dollars(cents), "currency": "USD" });
        let permissions: Vec<Value> = countersign::kernel::command::ToolCall::NAMES
            .iter()
            .map(|tool| {
                let max = self.transfer_max.filter(|_| *tool == "authorize_transfer");
                let constraints = max.map_or(json!({}), |max| json!({ "amount": { "maximum": max / 100 } }));
                json!({ "tool_name": tool, "action": "invoke", "constraints": constraints })
            })
            .collect();
        let mut limits = json!({ "name": "limits" });
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                limits[key] = value;
            }
        };
        put("deny_above", self.ceiling.map(usd));
        put("unattended_per_transaction", self.alone.map(usd));
        put("unattended_per_day", self.alone_a_day.map(usd));
        put("payees_allowed", self.payees.map(|payees| json!(payees)));
        put("merchants_allowed", self.merchants.map(|merchants| json!(merchants)));
        put("mandate", self.needs_mandate.then(|| json!("required")));
        put(
            "velocity",
            self.pace.map(|pace| {
                let outcome = if pace.denies { "deny" } else { "approval" };
                json!([{ "count": pace.count, "window_s": PACE_WINDOW_MS / 1000, "of": "agent", "outcome": outcome }])
            }),
        );
        let thresholds: Vec<Value> = self
            .gates
            .iter()
            .map(|(above, gates)| json!({ "above": usd(*above), "require": gates.iter().map(written).collect::<Vec<_>>() }))
            .collect();
        put("thresholds", (!thresholds.is_empty()).then(|| json!(thresholds)));
        let role = json!({ "role": "purchaser", "permissions": permissions, "deny_tools": self.denied });
        json!({ "roles": [role], "transactions": [limits] })
    }

    pub fn policy(&self) -> Policy {
        let found = Policy::examined(Document::of(self.document()).unwrap(), &Tools::ours(), None);
        found.policy.unwrap_or_else(|| panic!("{:?}", found.findings))
    }
}

/// The rules of a daemon under a policy of this version; none is in force before the first.
pub fn rules_under(policy: Option<(u64, &Policy)>) -> Arc<Rules> {
    let usd = |cents: Option<i64>| cents.map(|cents| Money::from_minor(cents, "USD".parse().unwrap()));
    Arc::new(Rules {
        policy_version: policy.map_or("0".into(), |(version, _)| version.to_string()),
        transactions: policy.map(|(_, policy)| policy.transactions().clone()).unwrap_or_default(),
        policy: policy.map(|(_, policy)| policy.clone()),
        merchants_allowed: vec!["amazon.com".parse().unwrap(), "books.example".parse().unwrap()].into(),
        deny_above: usd(SETTINGS.ceiling),
        unattended_per_transaction: usd(SETTINGS.alone).unwrap(),
        unattended_per_day: usd(SETTINGS.alone_a_day).unwrap(),
        open_holds_max: u32::try_from(OPEN_MAX).unwrap(),
        manual_two_people_above: usd(Some(TWO_PEOPLE_ABOVE)),
        unsigned_approvals: false,
        ..rules()
    })
}

fn written(gate: &Gate) -> Value {
    match gate {
        Gate::Owner => json!({ "gate": "owner" }),
        Gate::Bank { people, roles, in_order } => {
            json!({ "gate": "bank", "approvals": people, "roles": roles, "ordered": in_order })
        }
    }
}

pub fn dollars(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
