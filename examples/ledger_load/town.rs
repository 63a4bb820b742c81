//! The bank of the load: its customers, its merchant, its agents and its rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign::kernel::command::*;
use countersign::kernel::ledger::{FeeRule, TransactionKind};
use countersign::kernel::policy::transaction::TransactionRules;
use countersign::kernel::types::*;
use serde_json::{Value, json};

use crate::wish::Wish;

/// A customer's account as the load opens it.
#[derive(Debug)]
pub struct Opened {
    pub id: &'static str,
    owner: &'static str,
    pub currency: &'static str,
    opening: &'static str,
    overdraft: Option<&'static str>,
    day_max: Option<&'static str>,
    zone: &'static str,
}

const PLAIN: Opened =
    Opened { id: "", owner: "OWN_001", currency: "USD", opening: "1", overdraft: None, day_max: None, zone: "UTC" };

pub const ACCOUNTS: &[Opened] = &[
    Opened { id: "CHK_001", opening: "9000", zone: "America/New_York", ..PLAIN },
    Opened { id: "SAV_001", opening: "2500", day_max: Some("900"), zone: "Pacific/Auckland", ..PLAIN },
    Opened { id: "CHK_002", owner: "OWN_002", opening: "400", ..PLAIN },
    Opened { id: "EUR_001", currency: "EUR", opening: "300", overdraft: Some("500"), zone: "Europe/Zurich", ..PLAIN },
    Opened { id: "EUR_002", currency: "EUR", owner: "OWN_002", opening: "50", ..PLAIN },
];
/// Accounts that the agents hold grants for.
pub const GRANTED: &[(&str, &str)] = &[("CHK_001", "OWN_001"), ("SAV_001", "OWN_001"), ("EUR_001", "OWN_001")];
pub const MERCHANT: &str = "shop.example";
pub const PRODUCTS: &[(&str, &str)] = &[("PEN", "3.10"), ("LAMP", "64.99"), ("DESK", "240.00")];

/// Years beyond any clock of the suite.
const FAR_FUTURE: i64 = 4_000_000_000_000;
const TOOLS: &[&str] = &[
    "list_accounts",
    "get_account_balance",
    "list_transactions",
    "search_products",
    "authorize_purchase",
    "execute_purchase",
    "authorize_transfer",
    "execute_transfer",
    "cancel_authorization",
    "get_transaction",
    "get_approval_status",
    "request_reversal",
];

/// Who is who, and what the rules are.
#[derive(Debug)]
pub struct Town {
    pub rules: Arc<Rules>,
}

fn is<T: std::str::FromStr<Err = Malformed>>(text: &str) -> T {
    text.parse().expect("the load's own names are well formed")
}

/// An amount of the load's own.
pub fn money(text: &str, currency: &str) -> Money {
    Money::parse_positive(text, is(currency)).expect("the load's own amounts are amounts")
}

impl Town {
    pub fn new(settlement: Settlement) -> Self {
        let tools = TOOLS.iter().map(|tool| (*tool).to_owned()).collect();
        Self {
            rules: Arc::new(Rules {
                policy_version: "load".into(),
                catalogue_version: 1,
                role_tools: BTreeMap::from([(is("purchaser"), tools)]),
                policy: None,
                merchants_allowed: vec![is(MERCHANT)].into(),
                unattended_per_transaction: money("150", "USD"),
                unattended_per_day: money("400", "USD"),
                deny_above: None,
                authorization_ttl_ms: 7_200_000,
                approval_ttl_ms: 43_200_000,
                open_holds_max: 6,
                company_crl_required: false,
                fees: vec![FeeRule { kind: TransactionKind::Transfer, fixed: money("0.25", "USD"), basis_points: 10 }],
                manual_two_people_above: None,
                stopped_here: None,
                policy_unreadable: None,
                settlement,
                gates: vec![],
                unsigned_approvals: true,
                transactions: TransactionRules::default(),
            }),
        }
    }

    /// What the checker must know to judge limits by itself.
    pub fn told(&self) -> Value {
        let rules = &self.rules;
        json!({ "town": {
            "currency": rules.unattended_per_day.currency(),
            "unattended_per_transaction": rules.unattended_per_transaction.minor(),
            "unattended_per_day": rules.unattended_per_day.minor(),
            "authorization_ttl_ms": rules.authorization_ttl_ms,
            "approval_ttl_ms": rules.approval_ttl_ms,
            "open_holds_max": rules.open_holds_max,
            "fees": rules.fees.iter().map(|rule| json!({
                "kind": rule.kind.name(), "currency": rule.fixed.currency(),
                "fixed": rule.fixed.minor(), "basis_points": rule.basis_points,
            })).collect::<Vec<_>>(),
            // Nobody but this load uses the store: every leaf is of a request that it told.
            "alone": true,
        } })
    }

    pub fn agent(&self, number: u32) -> AgentPrincipal {
        let name = format!("shopper-{number}");
        let serial = |kind: u8| {
            let bytes = [[kind].as_slice(), &number.to_be_bytes()].concat();
            Serial::from_bytes(&bytes).expect("a kind is not zero")
        };
        AgentPrincipal {
            spiffe_id: is(&format!("spiffe://countersign.example/agent/purchaser/{name}")),
            key: Sha256::of(&[name.as_bytes()]),
            bank_issuer: "bb".into(),
            bank_serial: serial(1),
            company_issuer: "cc".into(),
            company_serial: serial(2),
            not_after: self.far_future(),
        }
    }

    pub fn certificate(&self, number: u32) -> CertificateRecord {
        let agent = self.agent(number);
        CertificateRecord {
            id: format!("crt_{number}"),
            profile: "agent-b".into(),
            subject: agent.spiffe_id.to_string(),
            issuer: agent.bank_issuer,
            serial: agent.bank_serial,
            key: agent.key,
            not_after: agent.not_after,
            tbs: number.to_be_bytes().to_vec(),
            der: None,
        }
    }

    pub fn far_future(&self) -> UnixMillis {
        UnixMillis(FAR_FUTURE)
    }

    pub fn administrator(&self) -> Actor {
        operator("ada", &["administrator", "officer"])
    }

    pub fn approver(&self) -> Actor {
        operator("bob", &["approver"])
    }

    /// Thaws what the administrator froze, and the other way round.
    pub fn officer(&self) -> Actor {
        operator("olga", &["officer"])
    }

    pub fn system(&self) -> Actor {
        Actor::System { component: "load".into() }
    }

    /// Everything that must be there before the first payment; harmless when it is there already.
    pub fn set_up(&self, agents: [u32; 2]) -> Vec<Wish> {
        let mut wishes = vec![];
        for Opened { id, owner, currency, opening, overdraft, day_max, zone } in ACCOUNTS {
            wishes.push(Wish::Open(NewAccount {
                account: is(id),
                owner: is(owner),
                currency: is(currency),
                opening: Some(money(opening, currency)),
                overdraft: overdraft.map(|most| money(most, currency)),
                day_max: day_max.map(|most| money(most, currency)),
                zone: is(zone),
            }));
        }
        // What an earlier run had no time to undo.
        wishes.push(Wish::Breaker { open: false });
        wishes.extend(ACCOUNTS.iter().map(|account| Wish::Freeze { account: is(account.id), frozen: false }));
        wishes.push(Wish::Merchant { merchant: is(MERCHANT), currency: is("USD") });
        for (product, price) in PRODUCTS {
            wishes.push(Wish::Product { merchant: is(MERCHANT), product: is(product), price: money(price, "USD") });
        }
        agents.into_iter().for_each(|agent| wishes.extend(self.enrolled(agent)));
        wishes
    }

    /// A new agent with its grants.
    pub fn enrolled(&self, agent: u32) -> Vec<Wish> {
        let grant = |(account, owner): &(&str, &str)| Wish::Grant { agent, account: is(account), owner: is(owner) };
        [Wish::Enrol { agent }].into_iter().chain(GRANTED.iter().map(grant)).collect()
    }
}

fn operator(name: &str, roles: &[&str]) -> Actor {
    Actor::Operator(OperatorPrincipal {
        name: is(name),
        uid: 1000,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        asserted: true,
        owner: None,
    })
}
