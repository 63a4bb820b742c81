//! `countersign.toml`: joins the settings that each module owns, and checks what only the whole can show.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::audit::settings::{AuditSettings, PeerLease, ServeTo, WitnessSettings};
use crate::banking::settings::BankingSettings;
use crate::ca::settings::{PartyKind, PartySettings, PkiSettings};
use crate::front::settings::{
    AdminSettings, AgentSettings, DemoSettings, ListenSettings, OperatorSettings, UpstreamSettings,
};
use crate::guard::settings::{Automatic, BreakerSettings};
use crate::hsm::settings::HsmSettings;
use crate::kernel::command::ToolCall;
use crate::kernel::types::{Money, PartyName};
use crate::monitor::settings::MonitorSettings;
use crate::notify::settings::NotifySettings;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::payment::settings::{PaymentSettings, PolicySettings};
use crate::signing::settings::SigningSettings;
use crate::store::settings::StoreSettings;
use crate::tls::peer::PeerSettings;

const DAY_S: u64 = 86_400;

/// The whole configuration of one daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The parties this daemon hosts: exactly one so far.
    pub party: BTreeMap<PartyName, PartySettings>,
    /// Tokens by name.
    pub hsm: BTreeMap<String, HsmSettings>,
    #[serde(default)]
    pub listen: ListenSettings,
    #[serde(default)]
    pub store: StoreSettings,
    /// Needed by a bank.
    #[serde(default)]
    pub policy: Option<PolicySettings>,
    #[serde(default)]
    pub payment: PaymentSettings,
    /// When payments stop by themselves.
    #[serde(default)]
    pub breaker: BreakerSettings,
    /// A core banking system; without it the embedded ledger is the bank's book.
    #[serde(default)]
    pub banking: Option<BankingSettings>,
    /// Who is told of what.
    #[serde(default)]
    pub notify: NotifySettings,
    #[serde(default)]
    pub monitor: MonitorSettings,
    #[serde(default)]
    pub audit: AuditSettings,
    /// How a security company cosigns others' logs.
    #[serde(default)]
    pub witness: WitnessSettings,
    #[serde(default)]
    pub pki: PkiSettings,
    /// Needed by an agent host's bridge.
    #[serde(default)]
    pub upstream: Option<UpstreamSettings>,
    /// What other programs of this machine have signed.
    #[serde(default)]
    pub signing: SigningSettings,
    /// What an agent host signs for its agents.
    #[serde(default)]
    pub agents: AgentSettings,
    /// The other party's peer listener: the security company's at a bank, the bank's at an agent host.
    #[serde(default)]
    pub peer: Option<PeerSettings>,
    /// Who may reach the admin socket besides the daemon's own user.
    #[serde(default)]
    pub admin: AdminSettings,
    #[serde(default)]
    pub operator: Vec<OperatorSettings>,
    #[serde(default)]
    pub demo: DemoSettings,
}

impl Config {
    /// The configuration in effect as TOML, every default written out. Secrets stand in files and are named only; what the
    /// address of a store carries of one is masked.
    pub fn shown(&self) -> String {
        let text = toml::to_string(self).unwrap_or_else(|error| format!("# it cannot be shown: {error}\n"));
        text.lines().map(|line| masked_password(line) + "\n").collect()
    }

    /// Reads and checks the file of a state directory.
    ///
    /// # Errors
    /// `config_missing`, `config_unreadable`, `config_invalid`: with the key and the line.
    pub fn load(state: &StateDir) -> Result<Self, Failure> {
        let path = state.config();
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::usage(
                "config_missing",
                format!("there is no configuration at {}", path.display()),
                "run `countersign init` first, or name the state directory with --state",
            ),
            _ => Failure::usage(
                "config_unreadable",
                format!("{} cannot be read: {error}", path.display()),
                "check its owner and mode",
            ),
        })?;
        Self::parse(&text, &path)
    }

    /// Parses and checks the text; `path` is only for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        let invalid = |message: String| {
            Failure::usage(
                "config_invalid",
                format!("{}: {}", path.display(), message.trim_end()),
                "correct the file; the samples in docs/config explain every key",
            )
        };
        let config: Self = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        config.consistent().map_err(invalid)?;
        Ok(config)
    }

    /// The one party and its token's settings.
    pub fn hosted(&self) -> (&PartyName, &PartySettings, &HsmSettings) {
        let (name, party) = self.party.first_key_value().expect("checked when the configuration was parsed");
        (name, party, &self.hsm[&party.token])
    }

    /// Who cosigns and who is cosigned.
    fn witness_fits(&self, kind: PartyKind) -> Result<(), String> {
        self.witness.check()?;
        if self.witness != WitnessSettings::default() && kind != PartyKind::SecurityCompany {
            return Err("[witness] is for a security company".into());
        }
        if self.audit.witness_lag_max.limits().is_none() {
            return Ok(());
        }
        if kind != PartyKind::Bank {
            return Err("audit witness_lag_max is for a bank".into());
        }
        if self.peer.is_none() {
            return Err("audit witness_lag_max needs [peer] url: the security company cosigns there".into());
        }
        if self.breaker.automatic == Automatic::Off {
            return Err("audit witness_lag_max stops money by the breaker: it needs breaker automatic = \"on\"".into());
        }
        Ok(())
    }

    fn consistent(&self) -> Result<(), String> {
        let [(_, party)] = self.party.iter().collect::<Vec<_>>()[..] else {
            return Err("exactly one [party.<name>] section is needed".into());
        };
        let Some(hsm) = self.hsm.get(&party.token) else {
            return Err(format!("token = \"{}\" names no [hsm.{}] section", party.token, party.token));
        };
        let pins = [hsm.pin_file.is_some(), hsm.pin_credential.is_some(), hsm.pin_fd.is_some()];
        if pins.iter().filter(|given| **given).count() > 1 {
            return Err("give one of pin_file, pin_credential and pin_fd".into());
        }
        if !(1..=16).contains(&hsm.workers) {
            return Err("hsm workers must be 1 to 16".into());
        }
        if !(1..=256).contains(&hsm.sessions) {
            return Err("hsm sessions must be 1 to 256".into());
        }
        if !(100..=600_000).contains(&hsm.deadline_ms) {
            return Err("hsm deadline_ms must be 100 to 600000".into());
        }
        for attribute in &hsm.attributes {
            if attribute.kind < 0x8000_0000 || hex::decode(&attribute.value_hex).is_err() {
                return Err("hsm attributes: type is 0x80000000 or above, value_hex is hexadecimal".into());
            }
        }
        for (purpose, algorithm) in &hsm.algorithms {
            if !purpose.algorithms().contains(algorithm) {
                let permitted: Vec<&str> = purpose.algorithms().iter().map(|algorithm| algorithm.slug()).collect();
                return Err(format!("hsm algorithms: a {} key is {}", purpose.slug(), permitted.join(" or ")));
            }
        }
        self.store.consistent()?;
        if self.demo.asserted_operators && !self.demo.enabled {
            return Err("demo.asserted_operators needs demo.enabled: it is refused outside a demo".into());
        }
        crate::payment::check_fees(&self.payment)?;
        self.breaker.consistent()?;
        if let (Some(policy), Some(text)) = (&self.policy, &self.payment.manual_two_people_above) {
            crate::payment::two_people_above(text, policy)?;
        }
        let open_s = u64::from(self.payment.approval_ttl_s) + u64::from(self.payment.authorization_ttl_s);
        if u64::from(self.store.idempotency_days) * DAY_S <= open_s {
            return Err("store idempotency_days must be longer than an authorization may wait: \
                        payment.approval_ttl_s and authorization_ttl_s together"
                .into());
        }
        self.banking.as_ref().map_or(Ok(()), BankingSettings::check)?;
        self.notify.check()?;
        if let Some(peer) = &self.peer {
            peer.check()?;
            if !matches!(party.kind, PartyKind::Bank | PartyKind::AgentHost) {
                return Err("[peer] is for a bank, and for an agent host".into());
            }
        }
        self.listen.limits.check().map_err(|error| format!("listen limits: {error}"))?;
        let mut limited = self.listen.limits.rates.tools.keys();
        if let Some(unknown) = limited.find(|tool| !ToolCall::NAMES.contains(&tool.as_str())) {
            return Err(format!("listen limits rates: {unknown} is no tool of the bank"));
        }
        let peers = &self.listen.peer_limits;
        if peers.connections_of_one_max == 0 || peers.requests_per_second == 0 || peers.requests_burst == 0 {
            return Err("listen peer_limits must be at least 1".into());
        }
        if self.listen.console.is_some() && party.kind != PartyKind::Bank {
            return Err("listen console is for a bank".into());
        }
        if self.audit.serve.to != ServeTo::Nobody && self.listen.console.is_none() {
            return Err("audit serve needs an address: listen console".into());
        }
        if let Some(address) = self.listen.console.filter(|address| address.ip().is_unspecified())
            && self.listen.console_url.is_none()
        {
            return Err(format!(
                "listen console = \"{address}\" is every address of this machine and none that a person can open: \
                 say under which one people reach it with console_url = \"https://NAME:{}\"",
                address.port()
            ));
        }
        if let Some(url) = &self.listen.console_url
            && (!url.starts_with("https://") || url.ends_with('/') || url.contains(char::is_whitespace))
        {
            return Err(
                "listen console_url is https:// with a name and perhaps a port, without a slash at the end".into()
            );
        }
        if self.agents.signatures_per_second == 0 || self.agents.signatures_burst == 0 {
            return Err("agents signatures_per_second and signatures_burst must be at least 1".into());
        }
        if self.listen.peer.is_some() && !party.kind.certifies() {
            return Err("listen peer is for a bank, and for a security company".into());
        }
        if self.audit.peer_lease == PeerLease::On {
            match party.kind {
                PartyKind::Bank if self.peer.is_none() => {
                    return Err(
                        "audit peer_lease = \"on\" needs [peer] url: the security company is asked there".into()
                    );
                }
                PartyKind::SecurityCompany if self.listen.peer.is_none() => {
                    return Err("audit peer_lease = \"on\" needs [listen] peer: banks ask there".into());
                }
                PartyKind::AgentHost | PartyKind::Operator => {
                    return Err("audit peer_lease is for a bank and a security company".into());
                }
                PartyKind::Bank | PartyKind::SecurityCompany => {}
            }
        }
        self.signing.check()?;
        self.audit.check()?;
        self.witness_fits(party.kind)?;
        self.monitor.check()?;
        if self.banking.is_some() && party.kind != PartyKind::Bank {
            return Err("[banking] is for a bank".into());
        }
        if party.kind == PartyKind::Bank {
            let policy = self.policy.as_ref().ok_or("a bank needs a [policy] section")?;
            let amounts = [
                Some(&policy.unattended_per_transaction),
                Some(&policy.unattended_per_day),
                policy.deny_above.as_ref(),
            ];
            for amount in amounts.into_iter().flatten() {
                Money::parse_positive(amount, policy.currency).map_err(|error| format!("[policy]: {error}"))?;
            }
        }
        Ok(())
    }
}

/// `scheme://user:password@host` without the password.
fn masked_password(line: &str) -> String {
    let Some((before, rest)) = line.split_once("://") else { return line.to_owned() };
    let authority = rest.split(['/', '?', '"']).next().unwrap_or_default();
    match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
        Some((user, host)) => format!("{before}://{user}:********@{host}{}", &rest[authority.len()..]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_an_address_is_shown() {
        let table = [
            ("url = \"postgres://me:hunter2@db:5432/bank\"", "url = \"postgres://me:********@db:5432/bank\""),
            ("url = \"postgres://me:a:b@c@db/bank\"", "url = \"postgres://me:********@db/bank\""),
            ("url = \"postgres://me@db/bank?x=a:b@c\"", "url = \"postgres://me@db/bank?x=a:b@c\""),
            ("url = \"https://bank.example:8445\"", "url = \"https://bank.example:8445\""),
            ("name = \"x\"", "name = \"x\""),
        ];
        for (line, shown) in table {
            assert_eq!(masked_password(line), shown);
        }
    }
}
