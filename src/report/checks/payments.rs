//! What a bank's rules ask before money moves, and what watches over them.

use super::{Found, Outcome, listed};
use crate::kernel::command::Rules;
use crate::kernel::mask::Sensitivity;
use crate::kernel::monitor::Mode;
use crate::kernel::policy::transaction::TransactionRule;
use crate::kernel::quorum::{GateRule, Side};
use crate::kernel::types::UnixMillis;
use crate::report::facts::{BankFacts, Facts, Person, Switch};

const RULES: &str = "countersign policy show, [policy] and [payment] in force";
const STATUS: &str = "countersign bank status";
const OPERATORS: &str = "[[operator]] in the configuration in force";

/// The bank's rules, or what is said of a party that has none.
fn bank(facts: &Facts) -> Result<(UnixMillis, &BankFacts), Found> {
    let Some(bank) = &facts.bank else {
        return Err(Found::new(Outcome::NotApplicable, facts.made_at, "no money moves at this party"));
    };
    bank.value.as_ref().map(|value| (bank.at, value)).map_err(|why| Found::unread(bank.at, why, RULES))
}

pub fn human_gate(facts: &Facts) -> Found {
    let (at, bank) = match bank(facts) {
        Ok(bank) => bank,
        Err(found) => return found,
    };
    let rules = &bank.rules;
    let (outcome, says) = if rules.unsigned_approvals && rules.gates.is_empty() {
        (Outcome::Partly, "a human decides, and a word that no key signed counts where no rule names gates")
    } else {
        (
            Outcome::Met,
            "above these amounts no agent's payment is made without a person's signature over exactly this payment",
        )
    };
    let found = Found::new(outcome, at, says)
        .with("book fees of any amount, alone and without a signature", who_books_fees(facts), OPERATORS)
        .with("unattended up to, a payment", rules.unattended_per_transaction, RULES)
        .with("unattended up to, a day", rules.unattended_per_day, RULES)
        .with("gates where no rule names others", gates(&standing(rules)), RULES)
        .with("words without a signature count", yes(rules.unsigned_approvals && rules.gates.is_empty()), RULES)
        .with("an approval is given within", seconds(rules.approval_ttl_ms), RULES);
    thresholds(rules).into_iter().fold(found, |found, (rule, named)| {
        found.with(format!("rule {}", rule.name), format!("above an amount: {}", gates(named)), RULES)
    })
}

pub fn two_people(facts: &Facts) -> Found {
    let says = [
        "every payment that waits needs two people besides the agent that asked",
        "some rules ask for two people, and not every payment or reversal that waits",
        "one person's word lets a payment go on: no rule asks for two",
    ];
    let are_two = |gates: &[GateRule]| gates.iter().map(GateRule::people).sum::<u32>() >= 2;
    let found = gated(facts, says, are_two);
    // An owner who is one of the two is not asked about a reversal.
    let alone = facts.bank.as_ref().and_then(|bank| bank.value.as_ref().ok());
    match (found.outcome, alone.is_some_and(|bank| !are_two(&of_reversals(&bank.rules)))) {
        (Outcome::Met, true) => Found { outcome: Outcome::Partly, says: says[1].into(), ..found },
        (Outcome::Met, false) | (Outcome::Partly | Outcome::NotMet | Outcome::NotApplicable, true | false) => found,
    }
}

pub fn owner_consent(facts: &Facts) -> Found {
    let says = [
        "every payment that waits needs the owner's consent, signed over payee and amount; a reversal, which pays back, \
         needs the bank's people alone",
        "some rules ask for the owner's consent, and not every payment that waits; no reversal does",
        "no rule asks for the owner's consent",
    ];
    gated(facts, says, |gates| gates.iter().any(|gate| matches!(gate, GateRule::Owner {})))
}

/// Whether all, some or no gates are such ones.
fn gated(facts: &Facts, says: [&str; 3], is_such: impl Fn(&[GateRule]) -> bool) -> Found {
    let (at, bank) = match bank(facts) {
        Ok(bank) => bank,
        Err(found) => return found,
    };
    let rules = &bank.rules;
    let standing = standing(rules);
    let by_rule = thresholds(rules);
    let such: Vec<&str> =
        by_rule.iter().filter(|(_, named)| is_such(named)).map(|(rule, _)| rule.name.as_str()).collect();
    let (outcome, says) = match (is_such(&standing), such.is_empty()) {
        (true, _) => (Outcome::Met, says[0]),
        (false, false) => (Outcome::Partly, says[1]),
        (false, true) => (Outcome::NotMet, says[2]),
    };
    Found::new(outcome, at, says)
        .with("gates where no rule names others", gates(&standing), RULES)
        .with("gates of reversals", gates(&of_reversals(rules)), RULES)
        .with("rules that ask for it above an amount", listed(&such), RULES)
}

pub fn hard_ceiling(facts: &Facts) -> Found {
    let (at, bank) = match bank(facts) {
        Ok(bank) => bank,
        Err(found) => return found,
    };
    let rules = &bank.rules;
    let by_rule: Vec<&str> =
        rules.transactions.iter().filter(|rule| rule.deny_above.is_some()).map(|rule| rule.name.as_str()).collect();
    let (outcome, says) = match (rules.deny_above.is_some(), by_rule.is_empty()) {
        (true, _) => (Outcome::Met, "above it every payment is denied, and no approval lifts that"),
        (false, false) => (Outcome::Partly, "some rules deny above an amount; there is no ceiling for all"),
        (false, true) => (Outcome::NotMet, "there is no ceiling: set deny_above"),
    };
    let ceiling = rules.deny_above.map_or_else(|| "none".to_owned(), |ceiling| ceiling.to_string());
    Found::new(outcome, at, says).with("denied above", ceiling, RULES).with(
        "rules with a ceiling",
        listed(&by_rule),
        RULES,
    )
}

pub fn limits(facts: &Facts) -> Found {
    let (at, bank) = match bank(facts) {
        Ok(bank) => bank,
        Err(found) => return found,
    };
    let rules = &bank.rules;
    let paced: Vec<&str> =
        rules.transactions.iter().filter(|rule| !rule.velocity.is_empty()).map(|rule| rule.name.as_str()).collect();
    let (outcome, says) = if paced.is_empty() {
        (Outcome::Partly, "amounts and daily sums are limited; no rule limits how many payments are made in a time")
    } else {
        (Outcome::Met, "amounts, daily sums and speed are limited in the commit that moves the money")
    };
    Found::new(outcome, at, says)
        .with("unattended up to, a payment", rules.unattended_per_transaction, RULES)
        .with("unattended up to, a day", rules.unattended_per_day, RULES)
        .with("open holds of an agent on an account", rules.open_holds_max, RULES)
        .with("an authorization ends after", seconds(rules.authorization_ttl_ms), RULES)
        .with("rules that limit speed", listed(&paced), RULES)
}

pub fn payees(facts: &Facts) -> Found {
    let (at, bank) = match bank(facts) {
        Ok(bank) => bank,
        Err(found) => return found,
    };
    let rules = &bank.rules;
    let named: Vec<&str> =
        rules.transactions.iter().filter(|rule| rule.payees_allowed.is_some()).map(|rule| rule.name.as_str()).collect();
    let (outcome, says) = if named.is_empty() {
        (Outcome::Partly, "purchases only from merchants on the list; no rule lists the payees of transfers")
    } else {
        (Outcome::Met, "purchases only from merchants on the list, transfers by rules that list payees")
    };
    Found::new(outcome, at, says).with("merchants on the list", rules.merchants_allowed.names().len(), RULES).with(
        "rules that list payees",
        listed(&named),
        RULES,
    )
}

pub fn breaker(facts: &Facts) -> Found {
    let (at, bank) = match bank(facts) {
        Ok(bank) => bank,
        Err(found) => return found,
    };
    let (outcome, says) = match bank.breaker {
        Switch::On => {
            (Outcome::Met, "payments stop when HSM, store or core fail or many agents act oddly; people stop them, too")
        }
        Switch::Off => (Outcome::Partly, "only people stop payments: breaker.automatic is off"),
    };
    Found::new(outcome, at, says).with("stopped now by", listed(&bank.stopped_by), STATUS)
}

pub fn monitor(facts: &Facts) -> Found {
    let (at, bank) = match bank(facts) {
        Ok(bank) => bank,
        Err(found) => return found,
    };
    let source = "countersign monitor show";
    let (outcome, says) = match bank.monitor {
        Mode::Enforce => (
            Outcome::Met,
            "scores are kept in leaves; from the first a payment waits, from the second the agent is frozen",
        ),
        Mode::Observe => (Outcome::Partly, "scores are kept and alerts raised; nothing is held or frozen by them"),
        Mode::Off => (Outcome::NotMet, "nothing is scored: [monitor] mode is off"),
    };
    Found::new(outcome, at, says).with("a payment waits from", bank.monitor_rules.approve_at, source).with(
        "the agent is frozen from",
        bank.monitor_rules.freeze_at,
        source,
    )
}

pub fn cases(facts: &Facts) -> Found {
    let (at, bank) = match bank(facts) {
        Ok(bank) => bank,
        Err(found) => return found,
    };
    let (outcome, says) = match bank.cases_waiting {
        0 => (Outcome::Met, "no case waits"),
        _ => (Outcome::Partly, "cases wait for a person's answer"),
    };
    Found::new(outcome, at, says).with("cases that wait", bank.cases_waiting, "countersign manual list")
}

pub fn masked(facts: &Facts) -> Found {
    let (at, bank) = match bank(facts) {
        Ok(bank) => bank,
        Err(found) => return found,
    };
    let source = "[policy.clearance] in force";
    let whole = |class: &Sensitivity| *class != Sensitivity::Public;
    let sees_all: Vec<&str> = bank
        .clearances
        .iter()
        .filter(|(_, clearance)| {
            Sensitivity::ALL.iter().filter(|class| whole(class)).all(|class| clearance.covers(*class))
        })
        .map(|(role, _)| role.as_str())
        .collect();
    let (outcome, says) = if sees_all.is_empty() {
        (Outcome::Met, "no role of agents sees everything; what no class is declared for is masked for all")
    } else {
        (Outcome::Partly, "some roles of agents are cleared for everything")
    };
    let found = Found::new(outcome, at, says).with("roles that see everything", listed(&sees_all), source);
    bank.clearances.iter().fold(found, |found, (role, clearance)| {
        let seen = Sensitivity::ALL.into_iter().filter(|class| whole(class) && clearance.covers(*class)).map(word);
        found.with(format!("{role} sees"), listed(seen), source)
    })
}

fn word(class: Sensitivity) -> &'static str {
    match class {
        Sensitivity::Public => "public",
        Sensitivity::OwnAccount => "own accounts",
        Sensitivity::Balance => "balances",
        Sensitivity::Amount => "amounts",
        Sensitivity::CounterpartyAccount => "others' accounts",
        Sensitivity::Owner => "owners",
        Sensitivity::Text => "texts",
        Sensitivity::Detail => "details",
    }
}

/// The gates of a payment that waits and for which no rule names others.
fn standing(rules: &Rules) -> Vec<GateRule> {
    if rules.gates.is_empty() { vec![GateRule::one_approver()] } else { rules.gates.clone() }
}

/// The gates of a reversal: nobody is asked to consent that money comes back from them.
fn of_reversals(rules: &Rules) -> Vec<GateRule> {
    let bank: Vec<GateRule> = rules.gates.iter().filter(|gate| gate.side() == Side::Bank).cloned().collect();
    if bank.is_empty() { vec![GateRule::one_approver()] } else { bank }
}

/// Officers and administrators book fees at the admin socket, known by user id: no ceiling and no gate is asked there.
fn who_books_fees(facts: &Facts) -> String {
    match &facts.people.value {
        Ok(people) => {
            let may = |person: &&Person| person.roles.iter().any(|role| role == "officer" || role == "administrator");
            listed(people.configured.iter().filter(may).map(|person| person.name.as_str()))
        }
        Err(why) => format!("not known: {why}"),
    }
}

fn thresholds(rules: &Rules) -> Vec<(&TransactionRule, &[GateRule])> {
    rules.transactions.iter().flat_map(gates_of).collect()
}

fn gates_of(rule: &TransactionRule) -> impl Iterator<Item = (&TransactionRule, &[GateRule])> {
    rule.thresholds.iter().map(move |threshold| (rule, threshold.require.as_slice()))
}

fn gates(gates: &[GateRule]) -> String {
    listed(gates.iter().map(|gate| match gate {
        GateRule::Owner {} => "the account's owner".to_owned(),
        GateRule::Bank { approvals, roles, ordered } => {
            let order = if *ordered { " in this order" } else { "" };
            format!("{approvals} of the bank ({}{order})", roles.join(", "))
        }
    }))
}

fn seconds(ms: i64) -> String {
    format!("{} s", ms / 1000)
}

fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}
