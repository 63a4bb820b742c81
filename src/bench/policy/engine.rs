//! Everything that is decided about a payment and recorded of it, but for the store: the monitor's score on an agent with
//! a history, the decision on a book in memory, the leaf's body and what it commits to.

use std::hint::black_box;

use serde_json::{Map, Value, json};

use super::timing::Taken;
use super::{account, defect, document};
use crate::kernel::command::{Act, Actor, Effect, Rules, Settlement};
use crate::kernel::decide::leaf_body;
use crate::kernel::monitor::{Ahead, Asked, Event, Monitor, MonitorRules, Outcome, Subject};
use crate::kernel::policy::role::Policy;
use crate::kernel::policy::tools::Tools;
use crate::kernel::receipt::commitment;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{Currency, Money, UnixMillis};
use crate::kernel::what_if::{Given, MandateGiven, Rehearsal};
use crate::ops::failure::Failure;

/// Merchants on the list: one that is not on it is compared with each.
const MERCHANTS: u32 = 1_000;
/// Transaction rules in ten fit the payments that are asked about.
const FITTING: u32 = 10;
/// Payments that the monitor has seen of the agent before, one an hour.
const HISTORY: i64 = 500;
const HOUR_MS: i64 = 3_600_000;
const ROLE: &str = "purchaser";

/// A call, ready to be decided again and again.
struct Asking {
    rehearsal: Rehearsal,
    event: Event,
}

/// Measures calls of every ending in turn: permitted, refused by the role, by the list of merchants, left to a human.
///
/// # Errors
/// `bench_policy_invalid`: a defect.
pub(super) fn run(rules: u32, calls: u32, rounds: u32, progress: impl FnMut(u32)) -> Result<Taken, Failure> {
    let policy = policy(rules)?;
    let settings = settings(&policy)?;
    let to = account(rules.saturating_sub(1));
    let off_the_list = "a-shop-like-no-other.example";
    type Fits = fn(&Result<Effect, Refusal>) -> bool;
    let is_human: Fits = |outcome| matches!(outcome, Ok(Effect::RequiresApproval { .. }));
    let endings: [(&str, Value, Fits); 5] = [
        ("authorize_transfer", transfer(&to, "99.99"), |outcome| matches!(outcome, Ok(Effect::Approved { .. }))),
        ("authorize_transfer", transfer(&to, "499.99"), is_human),
        ("authorize_transfer", transfer("SAV_999", "1.00"), |outcome| {
            matches!(outcome, Err(Refusal::ConstraintViolated))
        }),
        ("authorize_purchase", purchase("shop-0999.example"), |outcome| matches!(outcome, Ok(Effect::Approved { .. }))),
        ("authorize_purchase", purchase(off_the_list), |outcome| matches!(outcome, Err(Refusal::UnauthorizedMerchant))),
    ];
    let askings: Vec<Asking> = endings
        .into_iter()
        .map(|(tool, arguments, fits)| {
            let asking = asking(&policy, &settings, tool, &arguments)?;
            let outcome = asking.rehearsal.decided().map_err(|why| defect(&why))?.outcome;
            if fits(&outcome) { Ok(asking) } else { Err(defect(&format!("{tool} {arguments} came to {outcome:?}"))) }
        })
        .collect::<Result<_, _>>()?;
    let monitor = monitor(&askings);
    let work = |at: usize| decided(&monitor, &askings[at % askings.len()]);
    Ok(Taken::by(calls, rounds, work, progress))
}

/// What a daemon does between the typed call and the store's rows.
fn decided(monitor: &Monitor, asking: &Asking) -> Result<(), String> {
    black_box(monitor.assess(&asking.event));
    let command = &asking.rehearsal.command;
    let decided = asking.rehearsal.decided()?;
    let body = leaf_body(command, &decided.outcome, decided.why.as_ref()).map_err(|error| error.to_string())?;
    black_box(commitment(&command.stamp.leaf_salt, &body));
    black_box(decided.changes);
    Ok(())
}

fn transfer(to: &str, amount: &str) -> Value {
    json!({ "from_account": "PAYER_1", "to_account": to, "amount": amount, "currency": "USD", "idempotency_key": "order-1" })
}

fn purchase(merchant: &str) -> Value {
    json!({
        "product_id": "LAPTOP", "price": "99.99", "currency": "USD", "merchant": merchant, "from_account": "PAYER_1",
        "idempotency_key": "order-1",
    })
}

fn asking(policy: &Policy, settings: &Rules, tool: &str, arguments: &Value) -> Result<Asking, Failure> {
    let none = Map::new();
    let arguments = arguments.as_object().unwrap_or(&none);
    let given = Given { mandate: Some(MandateGiven::Covers), count: Some(1), ..Given::default() };
    let rehearsal = Rehearsal::of(policy, Some(settings), ROLE, tool, arguments, &given).map_err(|why| defect(&why))?;
    let (Actor::Agent(agent), Act::Tool { call, .. }) = (&rehearsal.command.actor, &rehearsal.command.act) else {
        return Err(defect("a payment is no agent's call"));
    };
    let limit = Some(settings.unattended_per_transaction.minor());
    let event = Event::of_call(rehearsal.command.stamp.wall, &agent.spiffe_id, call, limit, Ahead::default());
    Ok(Asking { rehearsal, event })
}

/// One that has watched the same agent for weeks.
fn monitor(askings: &[Asking]) -> Monitor {
    let mut monitor = Monitor::new(MonitorRules::default());
    for (number, asking) in (0..HISTORY).zip(askings.iter().cycle()) {
        let at = UnixMillis(asking.event.at.0 - (HISTORY - number) * HOUR_MS);
        let transaction = Subject::of(&number.to_string());
        monitor.observe(&Event { at, outcome: Outcome::Authorized { transaction }, ..asking.event });
        let asked = Asked::Execution { transaction, transfer: None };
        monitor.observe(&Event { at, asked, outcome: Outcome::Executed, ..asking.event });
    }
    monitor
}

/// A role whose permissions are judged one after the other, and transaction rules, a tenth of which fit.
fn policy(rules: u32) -> Result<Policy, Failure> {
    let rule = |at: u32| {
        let agent = if at.is_multiple_of(FITTING) { "nobody".to_owned() } else { format!("agent-{at}") };
        json!({
            "name": format!("rule-{at}"), "agents": [agent],
            "currencies": ["USD"], "deny_above": { "amount": "25000.00", "currency": "USD" },
            "hours": [{ "days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00" }],
            "thresholds": [{ "above": { "amount": "250.00", "currency": "USD" }, "require": [{ "gate": "bank" }] }],
            "velocity": [{ "count": 1000, "window_s": 3600, "of": "agent" }],
        })
    };
    let mut role = document(rules);
    if let Some(permissions) = role["permissions"].as_array_mut() {
        permissions.push(json!({ "tool_name": "authorize_purchase", "action": "invoke" }));
    }
    let transactions: Vec<Value> = (0..rules).map(rule).collect();
    super::read(json!({ "roles": [role], "transactions": transactions }))
}

fn settings(policy: &Policy) -> Result<Rules, Failure> {
    let usd: Currency = "USD".parse().map_err(|_| defect("no currency"))?;
    let shop = |at: u32| format!("shop-{at:04}.example").parse().map_err(|_| defect("no merchant"));
    let merchants: Vec<_> = (0..MERCHANTS).map(shop).collect::<Result<_, Failure>>()?;
    let tools = Tools::ours().names().map(str::to_owned).collect();
    Ok(Rules {
        policy_version: "1-0123456789abcdef".into(),
        catalogue_version: 1,
        role_tools: [(ROLE.parse().map_err(|_| defect("no role"))?, tools)].into(),
        policy: Some(policy.clone()),
        policy_unreadable: None,
        merchants_allowed: merchants.into(),
        unattended_per_transaction: Money::from_minor(200_000, usd),
        unattended_per_day: Money::from_minor(5_000_000, usd),
        deny_above: Some(Money::from_minor(10_000_000, usd)),
        authorization_ttl_ms: 900_000,
        approval_ttl_ms: 86_400_000,
        open_holds_max: 100,
        transactions: policy.transactions().clone(),
        company_crl_required: true,
        fees: vec![],
        settlement: Settlement::Embedded,
        gates: vec![],
        unsigned_approvals: false,
        manual_two_people_above: None,
        stopped_here: None,
    })
}
