//! `countersign check`: explains a configuration, or says what is wrong with it.

use std::path::PathBuf;

use super::context::Context;
use crate::app;
use crate::ca::settings::PartyKind;
use crate::config::Config;
use crate::front::settings::Rate;
use crate::kernel::monitor::Mode;
use crate::kernel::quorum::GateRule;
use crate::ops::failure::Failure;
use crate::signing::settings::SigningKeySettings;

/// Check a configuration file without starting anything.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign check --state ./bank
  countersign check ./bank/countersign.toml --json")]
pub struct Args {
    /// The file; by default the state directory's countersign.toml.
    file: Option<PathBuf>,
}

pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let config = match &args.file {
        None => {
            let config = Config::load(&context.state)?;
            app::check_places(&context.state, &config)?;
            config
        }
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::usage("config_unreadable", format!("{}: {error}", path.display()), "check the path")
            })?;
            Config::parse(&text, path)?
        }
    };
    let value = serde_json::to_value(&config)
        .map_err(|error| Failure::fault("config_unprintable", error.to_string(), "report this as a defect"))?;
    context.print(&value, |_| told(&config));
    Ok(())
}

/// What a configuration comes to, a line each.
fn told(config: &Config) -> String {
    let (party, settings, hsm) = config.hosted();
    let mut lines = vec![
        format!("party {party} ({})", settings.kind.words()),
        format!("token {} through {}", hsm.uri, hsm.module.display()),
        format!("store {}", config.store.url),
    ];
    if let Some(address) = config.listen.mcp {
        lines.push(format!("MCP over mutual TLS on {address}"));
    }
    if let Some(address) = config.listen.peer {
        lines.push(format!("other parties and agents' hosts on {address}"));
    }
    if let Some(address) = config.pki.listen {
        lines
            .push(format!("revocation lists and OCSP on http://{address}, in certificates as {}", config.pki.base_url));
    }
    if let Some(peer) = &config.peer {
        lines.push(format!("asks the other party at {}", peer.url));
    }
    if let Some(upstream) = &config.upstream {
        let place = upstream.ports_file.as_ref().map(|path| path.display().to_string());
        lines.push(format!("agents reach the bank at {}", upstream.url.clone().or(place).unwrap_or_default()));
    }
    if config.signing.is_on() {
        let of_key = |key: &SigningKeySettings| {
            let kinds: Vec<&str> = key.kinds.iter().map(|kind| kind.slug()).collect();
            format!("{} ({} for {})", key.name, kinds.join(", "), key.callers.join(", "))
        };
        let keys: Vec<String> = config.signing.key.iter().map(of_key).collect();
        lines.push(format!("signs for other programs at {}: {}", config.signing.socket.display(), keys.join("; ")));
    }
    if let Some(policy) = &config.policy {
        lines.push(format!(
            "above {} {} a payment or {} a day a human decides; {}",
            policy.unattended_per_transaction,
            policy.currency,
            policy.unattended_per_day,
            match &policy.deny_above {
                Some(ceiling) => format!("above {ceiling} denied"),
                None => "no hard ceiling".into(),
            }
        ));
        lines.push(gates(&policy.gates));
        let rules: Vec<&str> = policy.transactions.iter().map(|rule| rule.name.as_str()).collect();
        if !rules.is_empty() {
            lines.push(format!("transaction rules: {}", rules.join(", ")));
        }
        lines.extend(payments(config));
    }
    if let Some(banking) = &config.banking {
        lines.push(format!("payments are settled by the core banking system at {}", banking.url));
    }
    if settings.kind != PartyKind::Operator {
        lines.extend(watched(config));
    }
    if let Some(group) = &config.admin.group {
        lines.push(format!("the admin socket is open to the group {group}"));
    }
    if config.demo.enabled {
        lines.push("this is a demo configuration".into());
    }
    lines.push("ok".into());
    lines.join("\n")
}

/// Who decides about what waits for a human.
fn gates(gates: &[GateRule]) -> String {
    let gate = |gate: &GateRule| match gate {
        GateRule::Owner {} => "the account's owner".to_owned(),
        GateRule::Bank { approvals, roles, ordered } => {
            let then = if *ordered { ", then " } else { " or " };
            format!("{approvals} of the bank ({})", roles.join(then))
        }
    };
    match gates {
        [] => "gates: one approver of the bank, where no rule names others".to_owned(),
        gates => format!("gates: {}", gates.iter().map(gate).collect::<Vec<_>>().join(" and ")),
    }
}

/// How long a bank's payments wait, how often they may be asked for, and what looks at them.
fn payments(config: &Config) -> Vec<String> {
    let payment = &config.payment;
    let mut lines = vec![format!(
        "a human has {} s to decide, an authorization stands {} s; {}",
        payment.approval_ttl_s,
        payment.authorization_ttl_s,
        match &payment.manual_two_people_above {
            Some(above) => format!("a case of the manual queue above {above} takes two people"),
            None => "a case of the manual queue takes one person".into(),
        }
    )];
    let rates = &config.listen.limits.rates;
    let rate = |rate: &Rate| format!("{} a minute, {} at once", rate.per_minute, rate.burst);
    let mut limits: Vec<String> = rates.agent.iter().map(|one| format!("each agent {}", rate(one))).collect();
    limits.extend(rates.tools.iter().map(|(tool, one)| format!("{tool} {}", rate(one))));
    limits.extend(rates.roles.iter().map(|(role, one)| format!("role {role} {}", rate(one))));
    let limits = if limits.is_empty() { "no limit".to_owned() } else { limits.join("; ") };
    lines.push(format!("rates: {limits}"));
    let monitor = &config.monitor;
    let rules = &monitor.rules;
    lines.push(match monitor.mode {
        Mode::Off => "monitor: off, nothing is scored".to_owned(),
        Mode::Observe => "monitor: observe, scores and alerts, nothing is held or frozen".to_owned(),
        Mode::Enforce => format!(
            "monitor: enforce, a human looks from score {} on, an agent is frozen from {} on",
            rules.approve_at, rules.freeze_at
        ),
    });
    lines.push(format!("payments stop by themselves: {}", name(&config.breaker.automatic)));
    lines
}

/// Who is told, and who cosigns the log.
fn watched(config: &Config) -> Vec<String> {
    let notify = &config.notify;
    let mut lines = Vec::new();
    if notify.channel.is_empty() {
        lines.push("nobody is told of anything: there is no [[notify.channel]]".to_owned());
    }
    lines
        .extend(notify.channel.iter().map(|channel| format!("notify channel {} ({})", channel.name(), channel.kind())));
    lines.extend(notify.route.iter().map(|route| {
        let kinds: Vec<String> = route.kinds.iter().map(name).collect();
        let kinds = if kinds.is_empty() { "everything".to_owned() } else { kinds.join(", ") };
        format!("{} told of {kinds}", route.channels.join(", "))
    }));
    let audit = &config.audit;
    // A bank's log is the one that is cosigned.
    let witness = config.policy.is_some().then(|| match audit.witness_lag_max.limits() {
        None => "; witness: none is asked".to_owned(),
        Some(max) => format!("; witness: may lag {} s or {} leaves", max.seconds, max.leaves),
    });
    lines.push(format!("log {}; peer lease: {}{}", audit.origin, name(&audit.peer_lease), witness.unwrap_or_default()));
    lines
}

/// A word of the configuration file.
fn name(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().as_ref().and_then(serde_json::Value::as_str).unwrap_or("?").to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::cli::init::fill;
    use crate::config::Config;

    const OPERATOR: &str = "[[operator]]\nname = \"operator\"\nuid = 0\nroles = [\"officer\"]\n";

    fn filled(sample: &str, demo: &str) -> String {
        fill(
            &sample.replace("@PERSON@", "carol"),
            Path::new("/m.so"),
            [0, 0],
            "url = \"https://localhost:8443/mcp\"",
            OPERATOR,
        )
        .replace("@DEMO@", demo)
    }

    fn lagging(bank: &str, max: &str) -> String {
        bank.replace("\nwitness_lag_max = \"off\"", &format!("\nwitness_lag_max = {max}"))
    }

    fn peered(bank: &str) -> String {
        bank.replace("[audit]", "[peer]\nurl = \"https://secco.example:9444\"\n[audit]")
    }

    /// A security company with these lines about its witness.
    fn cosigning(lines: &str) -> String {
        format!("{}\n[witness]\n{lines}\n", filled(SAMPLES[1], "false"))
    }

    fn with_fee(sample: &str, fee: &str) -> String {
        sample.replace("[audit]", &format!("[[payment.fee]]\ncurrency = \"USD\"\n{fee}\n[audit]"))
    }

    fn with_rule(sample: &str, rule: &str) -> String {
        sample.replace("\n[payment]", &format!("\n[[policy.transactions]]\nname = \"r\"\n{rule}\n[payment]"))
    }

    fn with_rates(sample: &str, rates: &str) -> String {
        sample.replace("\n[listen.peer_limits]", &format!("\n[listen.limits.rates]\n{rates}\n[listen.peer_limits]"))
    }

    /// What the sample and the page about it show is what is read.
    #[test]
    fn rules_and_rates_as_they_are_shown_are_accepted() {
        let page = include_str!("../../docs/TRANSACTION-RULES.md");
        let blocks: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let [rule, rates] = blocks[..] else { panic!("{blocks:?}") };
        let bank = filled(SAMPLES[0], "false");
        let shown = |text: &str| bank.replace("\n[audit]", &format!("\n{text}\n[audit]"));
        let config = Config::parse(&shown(rule), Path::new("page")).unwrap();
        assert_eq!(config.policy.unwrap().transactions.iter().count(), 1);
        let config = Config::parse(&shown(rates), Path::new("page")).unwrap();
        assert_eq!((config.listen.limits.rates.tools.len(), config.listen.limits.rates.roles.len()), (1, 1));
        let starts = ["# [listen.limits.rates]", "# agent = ", "# tools = ", "# roles = ", "# [[policy.transactions]]"];
        let more = ["# name = ", "# roles = [", "# hours = ", "# outside_hours = ", "# velocity = "];
        let is_shown = |line: &&str| starts.iter().chain(&more).any(|start| line.starts_with(start));
        let uncommented = |line: &str| if is_shown(&line) { line[2..].to_owned() } else { line.to_owned() };
        // Channels have names, too.
        let (rules, rest) = bank.split_once("# Who is told of what").unwrap();
        let rules: Vec<String> = rules.lines().map(uncommented).collect();
        let whole = format!("{}\n# Who is told of what{rest}", rules.join("\n"));
        let config = Config::parse(&whole, Path::new("sample")).unwrap();
        assert!(config.listen.limits.rates.agent.is_some());
        assert_eq!(config.policy.unwrap().transactions.iter().count(), 1);
    }

    fn with_core(sample: &str, url: &str) -> String {
        sample.replace("[audit]", &format!("[banking]\nurl = \"{url}\"\n[audit]"))
    }

    /// The pages for people at every address.
    fn everywhere(bank: &str, all: &str) -> String {
        let console = bank.lines().find(|line| line.starts_with("console = ")).unwrap();
        bank.replace(console, &format!("console = \"{all}:8445\""))
    }

    #[test]
    fn pages_at_every_address_have_a_name_that_people_open() {
        for all in ["0.0.0.0", "[::]"] {
            let text = everywhere(&filled(SAMPLES[0], "false"), all);
            let named = text.replace("# console_url = ", "console_url = ");
            assert_ne!(named, text);
            Config::parse(&named, Path::new("sample")).unwrap();
        }
    }

    const SAMPLES: [&str; 4] = [
        include_str!("../../docs/config/bank.toml"),
        include_str!("../../docs/config/security-company.toml"),
        include_str!("../../docs/config/agent-host.toml"),
        include_str!("../../docs/config/operator.toml"),
    ];

    #[test]
    fn what_is_configured_is_told() {
        let told = |text: &str| super::told(&Config::parse(text, Path::new("sample")).unwrap());
        let bank = filled(SAMPLES[0], "false");
        let plain = told(&bank);
        for part in [
            "gates: one approver of the bank",
            "a human has 86400 s to decide, an authorization stands 900 s; a case of the manual queue above 2000 takes two",
            "rates: no limit",
            "monitor: enforce, a human looks from score 475 on, an agent is frozen from 900 on",
            "payments stop by themselves: on",
            "nobody is told of anything",
            "log bank.countersign.example/log; peer lease: off; witness: none is asked",
        ] {
            assert!(plain.contains(part), "{part}: {plain}");
        }
        let more = with_rates(
            &with_rule(&bank, "velocity = [{ count = 10, window_s = 3600, of = \"agent\" }]"),
            "agent = { per_minute = 600, burst = 100 }",
        );
        let more = more.replace("mode = \"enforce\"", "mode = \"off\"");
        let more = format!(
            "{more}\n[[notify.channel]]\nname = \"siem\"\nkind = \"webhook\"\nurl = \"https://alerts.example/c\"\n\
             secret_file = \"secrets/siem\"\n[[notify.route]]\nkinds = [\"payment_waits\"]\nchannels = [\"siem\"]\n"
        );
        let more = told(&more);
        for part in [
            "transaction rules: r",
            "rates: each agent 600 a minute, 100 at once",
            "monitor: off",
            "notify channel siem (webhook)",
            "siem told of payment_waits",
        ] {
            assert!(more.contains(part), "{part}: {more}");
        }
        let company = told(&filled(SAMPLES[1], "false"));
        assert!(!company.contains("witness:") && !company.contains("gates"), "{company}");
        let person = told(&filled(SAMPLES[3], "false"));
        assert!(!person.contains("log ") && !person.contains("told"), "{person}");
    }

    #[test]
    fn every_shipped_configuration_is_accepted() {
        for sample in SAMPLES {
            for demo in ["true", "false"] {
                Config::parse(&filled(sample, demo), Path::new("sample")).unwrap();
            }
        }
    }

    #[test]
    fn configurations_that_break_a_rule_are_refused_with_the_reason() {
        let bank = filled(SAMPLES[0], "false");
        let table = [
            (bank.replace("[audit]", "[audit]\nsurprise = 1"), "unknown field"),
            (bank.replace("token = \"bank\"    ", "token = \"other\"    "), "names no [hsm.other]"),
            (bank.replace("asserted_operators = false", "asserted_operators = true"), "needs demo.enabled"),
            (bank.replace("unattended_per_day = \"5000\"", "unattended_per_day = \"-1\""), "greater than zero"),
            (bank.replace("unattended_per_day = \"5000\"", "unattended_per_day = \"1.999\""), "decimals"),
            (bank.replace("workers = 2", "workers = 0"), "workers must be 1 to 16"),
            (
                bank.replace("manual_two_people_above = \"2000\"", "manual_two_people_above = \"0\""),
                "manual_two_people",
            ),
            (bank.replace("automatic = \"on\"", "automatic = \"perhaps\""), "automatic"),
            (bank.replace("store_slow_ms = 5000", "store_slow_ms = 1"), "store_slow_ms must be 10"),
            (bank.replace("anomalous_agents = 20", "anomalous_agents = 1"), "anomalous_agents must be 2"),
            (bank.replace("probe_pause_max_ms = 60000", "probe_pause_max_ms = 500"), "not be less than probe_pause_ms"),
            (bank.replace("signature_age_max_s = 60 ", "signature_age_max_s = 59 "), "signature_age_max_s must be 60"),
            (bank.replace("signature_age_max_s = 60 ", "signature_age_max_s = 481 "), "signature_age_max_s must be 60"),
            (bank.replace("signature_skew_max_s = 5 ", "signature_skew_max_s = 61 "), "signature_skew_max_s must be 0"),
            (bank.replace("read_nonces_max = 2000000", "read_nonces_max = 199999"), "read_nonces_max not less"),
            (bank.replace("header_bytes_max = 16384 ", "header_bytes_max = 100 "), "header_bytes_max must be 8192"),
            (bank.replace("\nheaders_max = 64 ", "\nheaders_max = 5 "), "headers_max must be 24"),
            (bank.replace("\nrequests_max = 2048 ", "\nrequests_max = 0 "), "requests_max must be at least 1"),
            (bank.replace("token_lifetime_s = 300 ", "token_lifetime_s = 301 "), "token_lifetime_s must be 10 to 300"),
            (bank.replace("tokens_of_agent_burst = 120", "tokens_of_agent_burst = 0"), "must be at least 1"),
            (bank.replace("sessions = 8 ", "sessions = 257 "), "sessions must be 1 to 256"),
            (bank.replace("deadline_ms = 5000", "deadline_ms = 5"), "deadline_ms must be"),
            (
                bank.replace("workers = 2", "algorithms = { root = \"ed25519\" }"),
                "a root key is p256 or p384 or rsa3072",
            ),
            (bank.replace("workers = 2", "algorithms = { roof = \"p384\" }"), "unknown variant"),
            (bank.replace("[party.bank]", "[party.a]\nkind = \"bank\"\ntoken = \"bank\"\n[party.bank]"), "exactly one"),
            (bank.replace("workers = 2", "pin_fd = 3\nworkers = 2"), "one of pin_file"),
            (bank.replace("peer_lease = \"off\"", "peer_lease = \"on\""), "peer_lease"),
            (lagging(&bank, "{ seconds = 60, leaves = 100000 }"), "witness_lag_max needs [peer] url"),
            (lagging(&bank, "\"on\""), "it is \"off\" or { seconds = 60, leaves = 100000 }"),
            (lagging(&bank, "{ seconds = 60 }"), "it is \"off\" or { seconds = 60, leaves = 100000 }"),
            (lagging(&bank, "{ seconds = 0, leaves = 100000 }"), "seconds are 1 to 86400"),
            (lagging(&bank, "{ seconds = 60, leaves = 99 }"), "leaves 100 to"),
            (
                lagging(&bank, "{ seconds = 60, leaves = 100000 }")
                    .replace("witness_interval_ms = 1000", "witness_interval_ms = 31000"),
                "twice witness_interval_ms",
            ),
            (
                bank.replace("witness_interval_ms = 1000", "witness_interval_ms = 99"),
                "witness_interval_ms must be 100 to 60000",
            ),
            (
                peered(&lagging(&bank, "{ seconds = 60, leaves = 100000 }"))
                    .replace("automatic = \"on\"", "automatic = \"off\""),
                "it needs breaker automatic",
            ),
            (
                filled(SAMPLES[1], "false")
                    .replace("[audit]", "[audit]\nwitness_lag_max = { seconds = 60, leaves = 100 }"),
                "witness_lag_max is for a bank",
            ),
            (format!("{bank}\n[witness]\nname = \"w\"\n"), "[witness] is for a security company"),
            (cosigning("name = \"a name\""), "witness name is not empty"),
            (cosigning("[[witness.log]]\norigin = \"l\"\nkey = \"l+00+AQ==\""), "key is not name+id+base64"),
            (cosigning("[[witness.log]]\norigin = \"a log\"\nkey = \"l\""), "is the name of no log"),
            (bank.replace("currency = \"USD\"", "currency = \"usd\""), "ISO 4217"),
            (with_rule(&bank, "kinds = []"), "transaction rule \"r\": kinds is an empty list"),
            (with_rule(&bank, "limit = 1"), "unknown field"),
            (with_rates(&bank, "agent = { per_minute = 0, burst = 1 }"), "nonzero"),
            (with_rates(&bank, "agent = { per_minute = 1 }"), "missing field"),
            (with_rates(&bank, "tools = { pay = { per_minute = 1, burst = 1 } }"), "rates: pay is no tool"),
            (with_fee(&bank, "kind = \"reversal\""), "only purchase and transfer"),
            (with_fee(&bank, "kind = \"transfer\"\nfixed = \"0.001\""), "fixed: the amount has more decimals"),
            (with_fee(&bank, "kind = \"transfer\"\nbasis_points = 1001"), "at most 1000"),
            (with_core(&bank, "http://core.bank.example/v1"), "loopback only"),
            (with_core(&bank, "https://core.bank.example/v1"), "root_file"),
            (with_core(&filled(SAMPLES[1], "false"), "http://127.0.0.1:9900/v1"), "is for a bank"),
            (
                bank.replace("idempotency_days = 400", "idempotency_days = 6"),
                "store idempotency_days must be 7 to 36500",
            ),
            (
                bank.replace("idempotency_days = 400", "idempotency_days = 7")
                    .replace("approval_ttl_s = 86400", "approval_ttl_s = 604000"),
                "longer than an authorization may wait",
            ),
            (bank.replace("[audit]", "[peer]\nurl = \"http://secco.example:9444\"\n[audit]"), "it is not https://"),
            (
                filled(SAMPLES[2], "false").replace("signatures_burst = 2000", "signatures_burst = 0"),
                "signatures_burst must be at least 1",
            ),
            (everywhere(&bank, "0.0.0.0"), "say under which one people reach it with console_url"),
            (everywhere(&bank, "[::]"), "say under which one people reach it with console_url"),
            ("not toml".into(), "sample"),
        ];
        for (text, reason) in table {
            let failure = Config::parse(&text, Path::new("sample")).unwrap_err();
            assert_eq!(failure.name, "config_invalid");
            assert!(failure.message.contains(reason), "{reason}: {}", failure.message);
        }
    }
}
