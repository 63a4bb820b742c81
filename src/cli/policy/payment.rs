//! A payment as `policy explain` is asked about it, and the settings that take part.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::documents;
use crate::config::Config;
use crate::kernel::command::{Rules, Settlement, ToolCall};
use crate::kernel::policy::case::Short;
use crate::kernel::policy::role::Policy;
use crate::kernel::types::RoleName;
use crate::kernel::what_if::{Given, MandateGiven};
use crate::kernel::zone::Zone;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::payment::rules;

/// What is paid, and what is supposed about the bank's state. Amounts in the payment's currency.
#[derive(ClapArgs, Debug)]
pub(super) struct Payment {
    /// The payment's amount, or price: a decimal.
    #[arg(long)]
    amount: Option<String>,
    /// Who sells, of a purchase.
    #[arg(long)]
    merchant: Option<String>,
    /// The account that a transfer pays.
    #[arg(long)]
    payee: Option<String>,
    /// The account that pays.
    #[arg(long)]
    account: Option<String>,
    /// Who pays: a SPIFFE ID, or a name.
    #[arg(long)]
    agent: Option<String>,
    /// When, RFC 3339; left out: now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Where the paying account lives, such as Europe/Zurich.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<Zone>,
    /// What may be spent of the account.
    #[arg(long, value_name = "AMOUNT")]
    balance: Option<String>,
    /// What the agent has paid today without a human.
    #[arg(long, value_name = "AMOUNT")]
    spent_today: Option<String>,
    /// Payments in the window of each velocity before this one.
    #[arg(long, value_name = "PAYMENTS")]
    count: Option<u32>,
    /// Money in the window of each velocity before this one.
    #[arg(long, value_name = "AMOUNT")]
    spent: Option<String>,
    /// Open authorizations of the agent on the account.
    #[arg(long, value_name = "NUMBER")]
    open_holds: Option<u32>,
    /// Whether the owner has signed a mandate that covers it.
    #[arg(long, value_name = "none|covers", value_parser = mandate)]
    mandate: Option<MandateGiven>,
}

fn mandate(text: &str) -> Result<MandateGiven, String> {
    match text {
        "none" => Ok(MandateGiven::None),
        "covers" => Ok(MandateGiven::Covers),
        other => Err(format!("{other:?} is neither none nor covers")),
    }
}

impl Payment {
    pub(super) fn short(&self) -> Short {
        Short {
            amount: self.amount.clone().map(Value::String),
            merchant: self.merchant.clone(),
            payee: self.payee.clone(),
            account: self.account.clone(),
        }
    }

    pub(super) fn given(&self) -> Given {
        Given {
            agent: self.agent.clone(),
            at: Some(self.at.clone().unwrap_or_else(|| clock::now().rfc3339())),
            time_zone: self.time_zone,
            balance: self.balance.clone(),
            spent_today: self.spent_today.clone(),
            count: self.count,
            spent: self.spent.clone(),
            open_holds: self.open_holds,
            mandate: self.mandate,
        }
    }
}

/// Whose settings take part.
#[derive(ClapArgs, Debug)]
pub(super) struct Settings {
    /// A bank's countersign.toml: its [policy] and [payment] take part.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

impl Settings {
    /// The rules of the named settings with this policy in them; none where none are named.
    ///
    /// # Errors
    /// `document_unreadable`, `config_invalid`, `settings_without_policy`
    pub(super) fn rules(&self, policy: &Policy) -> Result<Option<Rules>, Failure> {
        let Some(path) = &self.settings else { return Ok(None) };
        of_config(&Config::parse(&documents::read(path)?, path)?, policy).map(Some)
    }

    /// Those of this state directory where none are named.
    ///
    /// # Errors
    /// As [`Settings::rules`]; `config_missing`.
    pub(super) fn or_of(&self, context: &Context, policy: &Policy) -> Result<Option<Rules>, Failure> {
        match self.settings {
            Some(_) => self.rules(policy),
            None => of_config(&Config::load(&context.state)?, policy).map(Some),
        }
    }
}

/// The policy's own roles have every tool of the catalogue that it gives them: the catalogue is not asked.
fn of_config(config: &Config, policy: &Policy) -> Result<Rules, Failure> {
    let Some(settings) = &config.policy else {
        let next = "name the countersign.toml of a bank";
        return Err(Failure::usage("settings_without_policy", "the settings have no [policy]", next));
    };
    let every_tool: Vec<String> = ToolCall::NAMES.iter().map(|tool| (*tool).to_owned()).collect();
    let roles = policy.document().roles.iter().filter_map(|role| role.role.parse::<RoleName>().ok());
    let role_tools: BTreeMap<RoleName, Vec<String>> = roles.map(|role| (role, every_tool.clone())).collect();
    rules(settings, &config.payment, role_tools, 0, false, Settlement::Embedded, Some((0, policy.clone())))
}
