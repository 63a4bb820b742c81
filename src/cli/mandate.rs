//! `countersign mandate`: what an account's owner lets an agent pay, signed by the owner.

mod shown;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use super::account::amount;
use super::context::Context;
use super::documents::{self, text};
use super::table::{table, unless_changed, with_next};
use crate::ca::mandates::{MandateWish, refused};
use crate::front::admin::AdminCall;
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::jwt::TokenKey;
use crate::kernel::mandate::{self, OwnerKey};
use crate::kernel::types::{AccountId, AgentName, Currency, KeyId, MandateId, OwnerId, Serial, Sha256, SpiffeId};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

/// Sign, enter, list and revoke owners' mandates to agents
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
An agent that has a mandate for an account pays from it only within one that stands. The owner
signs with the key of a token of their own; the bank verifies it and counts what is paid.
Examples:
  countersign mandate add shopper.mandate
  countersign mandate list --agent shopper
  countersign mandate show mdt_01JD5T9GQ8ZK3VYBX4M2N6P7RS
How one is signed: countersign mandate sign --help. See docs/MANDATES.md.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Sign(Box<SignArgs>),
    /// At the bank: verify a mandate and enter it (officer, administrator, or the owner).
    #[command(after_help = "Example:\n  countersign mandate add shopper.mandate")]
    Add {
        /// What `mandate sign --out` wrote.
        file: PathBuf,
    },
    /// Mandates, newest first.
    #[command(after_help = "Examples:\n  countersign mandate list\n  countersign mandate list --agent shopper --json")]
    List {
        #[arg(long)]
        agent: Option<AgentName>,
        /// Go on behind this one.
        #[arg(long)]
        after: Option<MandateId>,
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// One mandate: what it allows, and what counts under it now.
    #[command(after_help = "\
Example:
  countersign mandate show mdt_01JD5T9GQ8ZK3VYBX4M2N6P7RS
With --json it comes with the text that was signed.")]
    Show {
        mandate: MandateId,
    },
    /// End a mandate for ever (officer, administrator, or the owner).
    #[command(after_help = "\
Example:
  countersign mandate revoke mdt_01JD5T9GQ8ZK3VYBX4M2N6P7RS --reason \"no longer wanted\"
What is authorized under it can no longer be executed. The agent is not set free by it: it pays from
that account only under another mandate.")]
    Revoke {
        mandate: MandateId,
        #[arg(long)]
        reason: String,
    },
    /// Verify a mandate with nothing but the owner's certificate, and show it.
    #[command(after_help = "\
Example:
  countersign mandate verify shopper.mandate --owner-cert olivia.pem
The bank writes the certificate of an owner: countersign operator cert olivia --out olivia.pem")]
    Verify {
        file: PathBuf,
        /// The owner's certificate (PEM).
        #[arg(long)]
        owner_cert: PathBuf,
    },
}

/// Have the owner's token sign a mandate.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  countersign mandate sign --as ./olivia --owner OWN_001 --account CHK_001 --days 30 \\
      --agent spiffe://countersign.example/agent/purchaser/shopper \\
      --key 6e08c2e98556c2332769b7ac7ce443512851e4d0681e8b03b6c3a245ab81bf06 \\
      --payee amazon.com --amount-max 200 --budget 500 --budget-per monthly --out shopper.mandate
  … --payee account:SAV_001 --amount-max 50 --every weekly --times 12
The agent's key stands under key in: countersign cert show shopper
At least one of --amount-max and --budget is needed. What is not limited is free.")]
struct SignArgs {
    /// The owner's own state directory.
    #[arg(long = "as", value_name = "DIR")]
    owner_state: PathBuf,
    /// The bank's name for the account's owner.
    #[arg(long)]
    owner: OwnerId,
    /// The agent's SPIFFE ID.
    #[arg(long)]
    agent: SpiffeId,
    /// The agent's key, 64 hexadecimal digits: `cert show NAME` tells it.
    #[arg(long, value_parser = |text: &str| KeyId::from_hex(text).map_err(|error| error.to_string()))]
    key: KeyId,
    #[arg(long)]
    account: AccountId,
    /// How long it stands, 1 to 400.
    #[arg(long)]
    days: u32,
    /// A merchant's registered name, or `account:` and an account; may be repeated.
    #[arg(long = "payee")]
    payees: Vec<String>,
    /// The most that one payment may be.
    #[arg(long)]
    amount_max: Option<String>,
    /// The least that one payment may be.
    #[arg(long, requires = "amount_max")]
    amount_min: Option<String>,
    /// The most that all payments together may be.
    #[arg(long)]
    budget: Option<String>,
    /// When the budget begins anew; without it: never.
    #[arg(long, requires = "budget", value_parser = PERIODS)]
    budget_per: Option<String>,
    #[arg(long, default_value = "USD")]
    currency: Currency,
    /// One payment in each such period.
    #[arg(long, value_parser = PERIODS)]
    every: Option<String>,
    /// So many payments in each period instead of one.
    #[arg(long, requires = "every")]
    per_period: Option<u32>,
    /// So many payments in all.
    #[arg(long)]
    times: Option<u32>,
    /// The product of a purchase, or the idempotency key of a transfer.
    #[arg(long)]
    reference: Option<String>,
    /// Payments are executed from then on: a date, or an instant (RFC 3339).
    #[arg(long)]
    not_before: Option<String>,
    /// Until then, included.
    #[arg(long)]
    not_after: Option<String>,
    /// On these days of the week alone: mon, tue, …
    #[arg(long, value_delimiter = ',')]
    weekdays: Vec<String>,
    /// Write the mandate to a file.
    #[arg(long)]
    out: Option<PathBuf>,
}

const PERIODS: [&str; 6] = ["daily", "weekly", "biweekly", "monthly", "quarterly", "annually"];

/// # Errors
/// What the daemons answer; the names of [`mandate::MandateRefusal`]; `amount_malformed`, `document_unreadable`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Sign(args) => sign(*args, context)?,
        Verb::Add { file } => {
            let mandate = documents::read(&file)?.trim().to_owned();
            let added = context.call(AdminCall::MandateAdd { mandate })?;
            context.print(&added, |added| {
                let [id, agent] = ["mandate_id", "agent"].map(|member| text(added, member));
                let [account, until] = ["account_id", "expires"].map(|member| text(added, member));
                format!("{id}: {agent} pays from {account} within it until {until}{}", unless_changed(added))
            });
        }
        Verb::List { agent, after, limit } => {
            let list = context.call(AdminCall::MandateList { agent, after, limit })?;
            context.print(&list, |list| with_next(table(list, COLUMNS, "no mandates"), list, "mandate list"));
        }
        Verb::Show { mandate } => {
            let answer = context.call(AdminCall::MandateShow { mandate })?;
            context.print(&answer, shown::stored);
        }
        Verb::Revoke { mandate, reason } => {
            let revoked = context.call(AdminCall::MandateRevoke { mandate, reason })?;
            context.print(&revoked, |revoked| {
                let again = if revoked["changed"] == false { " already" } else { "" };
                let id = text(revoked, "mandate_id");
                let void = &revoked["authorizations"];
                format!("{id} is revoked{again}: nothing is paid under it any more; authorizations voided: {void}")
            });
        }
        Verb::Verify { file, owner_cert } => {
            let answer = verified(documents::read(&file)?.trim(), &documents::read(&owner_cert)?)?;
            context.print(&answer, shown::verified);
        }
    }
    Ok(())
}

const COLUMNS: &[(&str, &str)] = &[
    ("MANDATE", "mandate_id"),
    ("STATE", "state"),
    ("AGENT", "agent"),
    ("ACCOUNT", "account_id"),
    ("OWNER", "owner"),
    ("UNTIL", "expires"),
];

fn sign(args: SignArgs, context: &Context) -> Result<(), Failure> {
    let constraints = constraints(&args)?;
    let SignArgs { owner_state, owner, agent, key: agent_key, account, days, out, .. } = args;
    let owners = Context { state: StateDir::new(&owner_state), json: context.json, operator: None };
    let wish = MandateWish { owner, agent, agent_key, account, days, constraints };
    let signed = owners.call(AdminCall::MandateSign(wish))?;
    if let Some(out) = &out {
        documents::write(out, &format!("{}\n", text(&signed, "mandate")))?;
    }
    context.print(&signed, |signed| {
        let [id, until] = ["mandate_id", "expires"].map(|member| text(signed, member));
        match &out {
            Some(out) => format!("{id} is signed, until {until}\n  next: countersign mandate add {}", out.display()),
            None => text(signed, "mandate").to_owned(),
        }
    });
    Ok(())
}

/// In the shapes of AP2.
fn constraints(args: &SignArgs) -> Result<Value, Failure> {
    let money = |text: &String| amount(text, args.currency);
    let mut list = Vec::new();
    if !args.payees.is_empty() {
        let allowed: Vec<Value> = args.payees.iter().map(|id| json!({ "id": id, "name": id })).collect();
        list.push(json!({ "type": "payment.allowed_payees", "allowed": allowed }));
    }
    if let Some(max) = &args.amount_max {
        let mut range =
            json!({ "type": "payment.amount_range", "currency": args.currency, "max": money(max)?.minor() });
        if let Some(min) = &args.amount_min {
            range["min"] = json!(money(min)?.minor());
        }
        list.push(range);
    }
    if let Some(max) = &args.budget {
        let max = mandate::plain_number(money(max)?);
        let mut budget = json!({ "type": "payment.budget", "currency": args.currency, "max": max });
        if let Some(period) = &args.budget_per {
            budget["period"] = json!(period.to_uppercase());
        }
        list.push(budget);
    }
    if args.every.is_some() || args.times.is_some() {
        let frequency = args.every.as_ref().map_or_else(|| "ON_DEMAND".to_owned(), |every| every.to_uppercase());
        let mut recurrence = json!({ "type": "payment.agent_recurrence", "frequency": frequency });
        for (name, count) in [("per_period", args.per_period), ("max_occurrences", args.times)] {
            if let Some(count) = count {
                recurrence[name] = json!(count);
            }
        }
        list.push(recurrence);
    }
    if let Some(reference) = &args.reference {
        list.push(json!({ "type": "payment.reference", "conditional_transaction_id": reference }));
    }
    if args.not_before.is_some() || args.not_after.is_some() || !args.weekdays.is_empty() {
        let mut dates = json!({ "type": "payment.execution_date" });
        for (name, moment) in [("not_before", &args.not_before), ("not_after", &args.not_after)] {
            if let Some(moment) = moment {
                dates[name] = json!(moment);
            }
        }
        if !args.weekdays.is_empty() {
            dates["days"] = json!(args.weekdays.iter().map(|day| day.to_uppercase()).collect::<Vec<_>>());
        }
        list.push(dates);
    }
    Ok(Value::Array(list))
}

fn verified(mandate: &str, owner_cert: &str) -> Result<Value, Failure> {
    let unreadable = |why: String| {
        Failure::usage(
            "certificate_unreadable",
            format!("the owner's certificate cannot be read: {why}"),
            "give the certificate that the bank issued to the owner, as PEM",
        )
    };
    let der = pem::decode_one(Kind::Certificate, owner_cert).map_err(|error| unreadable(error.to_string()))?;
    let tbs = Certificate::read(&der).map_err(|error| unreadable(error.to_string()))?.tbs;
    let key = OwnerKey {
        key: TokenKey { id: Sha256::of(&[tbs.spki]), spki: tbs.spki.to_vec() },
        issuer: tbs.authority_key_identifier().map(hex::encode).unwrap_or_default(),
        serial: Serial::from_bytes(tbs.serial).map_err(|error| unreadable(error.to_string()))?,
    };
    let owner = mandate::claimed_owner(mandate).map_err(refused)?;
    let verified = mandate::verify(mandate, &owner, &[key], clock::now()).map_err(refused)?;
    Ok(json!({
        "mandate_id": verified.mandate().id, "owner": owner, "owner_key": verified.key(),
        "claims": verified.mandate().claims(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Whole {
        #[command(flatten)]
        args: SignArgs,
    }

    #[test]
    fn flags_become_constraints_that_are_read_back() {
        let common =
            ["x", "--as", "d", "--owner", "own-001", "--agent", "spiffe://b.example/agent/purchaser/s", "--key"];
        let key = "07".repeat(32);
        let rest = "--account CHK_001 --days 30 --payee amazon.com --payee account:SAV_001 --amount-max 200
            --amount-min 1.50 --budget 500.25 --budget-per monthly --every weekly --per-period 2 --times 9
            --reference R1 --not-before 2026-12-01 --weekdays mon,fri";
        let words = common.into_iter().chain([key.as_str()]).chain(rest.split_whitespace());
        let args = Whole::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).args;
        let claims = json!({
            "vct": mandate::VCT, "iss": "own-001", "sub": args.agent, "jti": "mdt_01JD5T9GQ8ZK3VYBX4M2N6P7RS",
            "iat": 1, "exp": 2, "cnf": { "kid": args.key },
            "payment_instrument": { "type": "account", "id": "CHK_001" }, "constraints": constraints(&args).unwrap(),
        });
        let read = mandate::Mandate::from_claims(&claims).unwrap().constraints;
        assert_eq!(read.payees.unwrap().len(), 2);
        assert_eq!(read.amount.map(|range| (range.min.unwrap().minor(), range.max.minor())), Some((150, 20_000)));
        assert_eq!(read.budget.map(|budget| budget.max.minor()), Some(50_025));
        assert_eq!(read.recurrence.map(|one| (one.per_period, one.max_occurrences)), Some((2, Some(9))));
        assert!(read.reference.is_some() && read.dates.is_some());
    }
}
