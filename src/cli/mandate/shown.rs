//! A mandate for people: who may pay whom, how much, how often, and what of that is used up.

use serde_json::{Value, json};

use crate::cli::table::{cell, in_decimals};
use crate::kernel::mandate::{Constraints, Mandate, Payee, Period};
use crate::kernel::types::Money;

/// What `mandate show` prints: where it stands, what it allows, what was counted under it.
pub(super) fn stored(shown: &Value) -> String {
    let mut lines = vec![format!("{}  {}", cell(&shown["mandate_id"]), cell(&shown["state"]))];
    match Mandate::from_claims(&shown["claims"]) {
        Ok(mandate) => lines.extend(of_mandate(&mandate, &shown["counted"])),
        Err(refusal) => lines.push(line("claims", &format!("cannot be read: {}", refusal.name()))),
    }
    lines.push(line("entered", &format!("{} by {}", cell(&shown["created"]), cell(&shown["entered_by"]))));
    if !shown["revoked_at"].is_null() {
        let [at, by, reason] = ["revoked_at", "revoked_by", "reason"].map(|member| cell(&shown[member]));
        lines.push(line("revoked", &format!("{at} by {by}: {reason}")));
    }
    lines.join("\n")
}

/// What `mandate verify` prints: that it is valid, whose it is, and what it allows.
pub(super) fn verified(shown: &Value) -> String {
    let mut lines = vec![format!(
        "{} is valid: signed by {} with the key {}",
        cell(&shown["mandate_id"]),
        cell(&shown["owner"]),
        cell(&shown["owner_key"])
    )];
    if let Ok(mandate) = Mandate::from_claims(&shown["claims"]) {
        lines.extend(of_mandate(&mandate, &Value::Null));
    }
    lines.push("Whether it was entered, revoked or used up, the bank says: countersign mandate show".to_owned());
    lines.join("\n")
}

fn line(title: &str, text: &str) -> String {
    format!("  {title:<12} {text}")
}

/// `counted`: null where nobody counts.
fn of_mandate(mandate: &Mandate, counted: &Value) -> Vec<String> {
    let limits = &mandate.constraints;
    let mut lines = vec![
        line("agent", &format!("{} (key {})", mandate.agent, mandate.agent_key)),
        line("pays from", &format!("{} of {}", mandate.account, mandate.owner)),
        line("stands", &format!("{} to {}", mandate.not_before.rfc3339(), mandate.expires.rfc3339())),
        line("payees", &payees(limits)),
    ];
    if let Some(range) = limits.amount {
        let least = range.min.map(|min| format!("{} to ", min.decimal())).unwrap_or_else(|| "at most ".to_owned());
        lines.push(line("one payment", &format!("{least}{}", money(range.max))));
    }
    let used = |member: &str| counted[member].as_i64().or_else(|| counted[member].as_str()?.parse().ok());
    if let Some(budget) = limits.budget {
        let left = used("amount_minor").map(|minor| {
            let left = Money::from_minor(budget.max.minor().saturating_sub(minor).max(0), budget.max.currency());
            let spent = in_decimals(&json!(minor), &json!(budget.max.currency()));
            format!("; counted {spent}, left {}", money(left))
        });
        lines.push(line(
            "budget",
            &format!("{} {}{}", money(budget.max), each(budget.period), left.unwrap_or_default()),
        ));
    } else if let Some(minor) = used("amount_minor") {
        lines.push(line("counted", &in_decimals(&json!(minor), &counted["currency"])));
    }
    if let Some(recurrence) = limits.recurrence {
        let mut parts = Vec::new();
        if recurrence.frequency != Period::Life {
            let made = used("payments").map(|made| format!(" ({made} made)")).unwrap_or_default();
            parts.push(format!("{} {}{made}", recurrence.per_period, each(recurrence.frequency)));
        }
        if let Some(max) = recurrence.max_occurrences {
            let made = used("payments_in_all").map(|made| format!(" ({made} made)")).unwrap_or_default();
            parts.push(format!("{max} in all{made}"));
        }
        lines.push(line("payments", &parts.join(", ")));
    } else if let Some(made) = used("payments_in_all") {
        lines.push(line("payments", &format!("{made} made")));
    }
    if let Some(reference) = &limits.reference {
        lines.push(line("reference", &cell(&json!(reference))));
    }
    if limits.dates.is_some() {
        lines.push(line("executed", &dates(mandate)));
    }
    lines
}

fn payees(limits: &Constraints) -> String {
    let Some(payees) = &limits.payees else {
        return "anybody".to_owned();
    };
    let named = |id: String, name: &str| if name == id { id } else { format!("{id} ({})", cell(&json!(name))) };
    let words = payees.iter().map(|payee| match payee {
        Payee::Merchant { id, name } => named(id.to_string(), name),
        Payee::Account { id, name } => named(format!("account:{id}"), name),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The days as they were signed.
fn dates(mandate: &Mandate) -> String {
    let claims = mandate.claims();
    let mut constraints = claims["constraints"].as_array().into_iter().flatten();
    let dates = constraints.find(|constraint| constraint["type"] == "payment.execution_date").cloned();
    let dates = dates.unwrap_or_default();
    let mut parts = Vec::new();
    for (word, member) in [("from", "not_before"), ("until", "not_after"), ("on", "days")] {
        if !dates[member].is_null() {
            parts.push(format!("{word} {}", cell(&dates[member])));
        }
    }
    parts.join(" ")
}

fn money(money: Money) -> String {
    format!("{} {}", money.decimal(), money.currency())
}

fn each(period: Period) -> &'static str {
    match period {
        Period::Life => "in all",
        Period::Daily => "a day",
        Period::Weekly => "a week",
        Period::Biweekly => "in two weeks",
        Period::Monthly => "a month",
        Period::Quarterly => "a quarter",
        Period::Annually => "a year",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::mandate::VCT;

    fn claims(constraints: &Value) -> Value {
        json!({
            "vct": VCT, "iss": "OWN_001", "sub": "spiffe://b.example/agent/purchaser/shopper",
            "jti": "mdt_01JD5T9GQ8ZK3VYBX4M2N6P7RS", "iat": 1_700_000_000, "exp": 1_700_086_400,
            "cnf": { "kid": "07".repeat(32) }, "payment_instrument": { "type": "account", "id": "CHK_001" },
            "constraints": constraints,
        })
    }

    #[test]
    fn limits_are_shown_in_decimals_with_what_is_left_and_without_the_signed_text() {
        let claims = claims(&json!([
            { "type": "payment.allowed_payees", "allowed": [
                { "id": "amazon.com", "name": "amazon.com" }, { "id": "account:SAV_001", "name": "Savings" } ] },
            { "type": "payment.amount_range", "currency": "USD", "max": 20_000, "min": 150 },
            { "type": "payment.budget", "currency": "USD", "max": 500, "period": "MONTHLY" },
            { "type": "payment.agent_recurrence", "frequency": "WEEKLY", "per_period": 2, "max_occurrences": 9 },
            { "type": "payment.execution_date", "not_before": "2026-12-01", "days": ["MON", "FRI"] },
        ]));
        let text = stored(&json!({
            "mandate_id": "mdt_01JD5T9GQ8ZK3VYBX4M2N6P7RS", "state": "standing", "claims": claims, "text": "eyJhbGci~",
            "created": "2026-11-22T19:00:00.000Z", "entered_by": "bank-officer", "revoked_at": null,
            "counted": { "amount_minor": "14000", "currency": "USD", "payments": 1, "payments_in_all": 3 },
        }));
        for part in [
            "mdt_01JD5T9GQ8ZK3VYBX4M2N6P7RS  standing",
            "CHK_001 of OWN_001",
            "amazon.com, account:SAV_001 (Savings)",
            "1.50 to 200.00 USD",
            "500.00 USD a month; counted 140.00 USD, left 360.00 USD",
            "2 a week (1 made), 9 in all (3 made)",
            "from 2026-12-01 on MON,FRI",
            "by bank-officer",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("eyJ") && !text.contains('{'), "{text}");
    }

    #[test]
    fn a_verified_mandate_is_called_valid() {
        let claims = claims(&json!([{ "type": "payment.amount_range", "currency": "USD", "max": 20_000 }]));
        let text = verified(&json!({
            "mandate_id": "mdt_01JD5T9GQ8ZK3VYBX4M2N6P7RS", "owner": "OWN_001", "owner_key": "aa", "claims": claims,
        }));
        assert!(text.starts_with("mdt_01JD5T9GQ8ZK3VYBX4M2N6P7RS is valid: signed by OWN_001"), "{text}");
        assert!(text.contains("at most 200.00 USD") && text.contains("anybody") && !text.contains('{'), "{text}");
    }
}
