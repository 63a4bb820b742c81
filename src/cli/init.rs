//! `countersign init`: from an empty directory to a party with a token, keys and certificates.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::console;
use super::context::Context;
use crate::ca::settings::PartyKind;
use crate::config::Config;
use crate::front::admin::{AdminCall, ConsoleCall};
use crate::hsm::provision::{self, ModuleChange, TokenOrigin};
use crate::kernel::types::OperatorName;
use crate::ops::failure::{Failure, Kind as FailureKind};

/// How long the console's first administrator has.
const FIRST_LINK_HOURS: u32 = 24;
/// As the bank's sample has it, and as it is once the security company's daemon is known.
const WITNESS_OFF: &str = "\nwitness_lag_max = \"off\" ";
const WITNESS_ON: &str = "\nwitness_lag_max = { seconds = 60, leaves = 100000 } ";
/// As the shipped sample has it.
const STORE_URL: &str = "sqlite:store/store.sqlite3";

/// Make a state directory: configuration, token, PIN, keys and certificates. Safe to repeat.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign init --kind bank --state /var/lib/countersign
  countersign init --kind bank --state ./bank --config-only
  countersign init --kind bank --store-url \"postgres://countersign@/bank?host=/run/postgresql\"
  countersign init --kind agent-host --state ./agent --bank-url https://bank.example:8443/mcp
  countersign init --kind operator --name carol --state ./carol
A configuration that is there already is kept and used; keys and certificates that are there are
not made anew. Names that go into certificates ([pki] trust_domain, oid_base, base_url, tls_names)
are to be right before the first certificate: --config-only, edit, then init again.
docs/ENROLMENT.md goes the whole way, from nothing to an agent's first balance.")]
pub struct Args {
    /// What this party is.
    #[arg(long, value_enum)]
    kind: Kind,
    /// Operator: the person's name, in a new configuration.
    #[arg(long, required_if_eq("kind", "operator"))]
    name: Option<OperatorName>,
    /// PKCS#11 module to write into a new configuration.
    #[arg(long, default_value = "/usr/lib/softhsm/libsofthsm2.so")]
    module: PathBuf,
    /// Bank: port of the MCP listener in a new configuration; 0 picks a free one.
    #[arg(long, default_value_t = 8443)]
    port: u16,
    /// Bank and security company: port of the plain HTTP listener for lists and questions about certificates [default:
    /// 8080 and 9080; a free one in a demo, or when --port is 0]
    #[arg(long)]
    pki_port: Option<u16>,
    /// Bank: where its store is in a new configuration: sqlite:PATH, or a PostgreSQL database that is there.
    #[arg(long, default_value = STORE_URL)]
    store_url: String,
    /// Agent host: the bank's MCP address in a new configuration.
    #[arg(long, default_value = "https://localhost:8443/mcp", conflicts_with = "bank_ports_file")]
    bank_url: String,
    /// Agent host on the bank's machine: take the port from the bank's run/ports.json.
    #[arg(long)]
    bank_ports_file: Option<PathBuf>,
    /// Bank and security company: address of the peer listener in a new configuration, for example 0.0.0.0:8444
    #[arg(long, value_name = "ADDRESS")]
    peer_listen: Option<SocketAddr>,
    /// Bank: the security company's peer listener, which cosigns the audit log, too; agent host: the bank's; in a new
    /// configuration.
    #[arg(long, value_name = "URL")]
    peer_url: Option<String>,
    /// Bank: where the security company publishes its revocation lists, in a new configuration.
    #[arg(long, value_name = "URL")]
    company_pki_url: Option<String>,
    /// Bank: what the console's first administrator is called, for whom a one-time link is printed
    #[arg(long, value_name = "NAME", default_value = "admin")]
    administrator: OperatorName,
    /// Write the configuration and nothing else: to be edited before the first key and certificate are made.
    #[arg(long)]
    config_only: bool,
    /// Mark a new configuration as a demo: several operators of one uid, chosen with --operator.
    #[arg(long)]
    demo: bool,
    /// The PKCS#11 module's file has changed since it was configured, and that is right: record the new one.
    #[arg(long)]
    accept_module: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Bank,
    SecurityCompany,
    AgentHost,
    /// One person's own token: what an officer signs with.
    Operator,
}

pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    make_directories(context.state.root())?;
    let path = context.state.config();
    let is_new = !path.exists();
    if is_new {
        write_new(&path, &configuration(&args)?)?;
    }
    let config = Config::load(&context.state)?;
    let (party, settings, hsm) = config.hosted();
    if settings.kind != PartyKind::from(args.kind) {
        return Err(Failure::usage(
            "kind_differs",
            format!("{} is the configuration of another kind of party", path.display()),
            "name another state directory, or leave --kind as it was",
        ));
    }
    if args.config_only {
        let written = serde_json::json!({ "configuration": path.display().to_string(), "changed": is_new });
        context.print(&written, |_| {
            format!(
                "{} {}\nnext: edit it, then `countersign init` again without --config-only",
                path.display(),
                if is_new { "is written" } else { "was there" },
            )
        });
        return Ok(());
    }
    let change = if args.accept_module { ModuleChange::Accept } else { ModuleChange::Refuse };
    let provisioned = provision::provision(&context.state, &settings.token, hsm, change)?;
    let new = provisioned.origin == TokenOrigin::Created;
    let mut made = context.call(AdminCall::InitParty {})?;
    made["invitation"] = first_link(&args, &config, context)?;
    made["state"] = context.state.root().display().to_string().into();
    made["party"] = party.as_str().into();
    made["token"] = serde_json::json!({
        "label": settings.token,
        "module": hsm.module,
        "new": new,
        "pin_file": hsm.pin_file,
    });
    context.print(&made, |made| {
        let listed = made["certificates"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: Vec<&str> = listed.iter().filter_map(|one| one["profile"].as_str()).collect();
        let next = match settings.kind {
            PartyKind::Bank | PartyKind::SecurityCompany | PartyKind::AgentHost => "serve",
            PartyKind::Operator => "operator show",
        };
        let notices = made["notices"].as_array().map(Vec::as_slice).unwrap_or_default();
        let notices: String = notices.iter().filter_map(|one| one.as_str()).map(|one| format!("{one}\n")).collect();
        let link = match &made["invitation"] {
            serde_json::Value::Null => String::new(),
            invitation => format!("the console’s first administrator: {}\n", console::invited(invitation)),
        };
        format!(
            "{party}: token `{}` {}, certificates: {}\n{notices}{link}next: `countersign {next} --state {}`",
            settings.token,
            if new { "provisioned" } else { "was there" },
            if names.is_empty() { "none needed".to_owned() } else { names.join(", ") },
            context.state.root().display(),
        )
    });
    Ok(())
}

impl From<Kind> for PartyKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Bank => Self::Bank,
            Kind::SecurityCompany => Self::SecurityCompany,
            Kind::AgentHost => Self::AgentHost,
            Kind::Operator => Self::Operator,
        }
    }
}

/// The shipped sample with its places filled in.
///
/// # Errors
/// `option_not_for_kind`: an option that this kind of party has no use for.
fn configuration(args: &Args) -> Result<String, Failure> {
    let sample = match args.kind {
        Kind::Bank => include_str!("../../docs/config/bank.toml"),
        Kind::SecurityCompany => include_str!("../../docs/config/security-company.toml"),
        Kind::AgentHost => include_str!("../../docs/config/agent-host.toml"),
        Kind::Operator => include_str!("../../docs/config/operator.toml"),
    };
    let upstream = match &args.bank_ports_file {
        Some(file) => format!("ports_file = {:?}", file.display().to_string()),
        None => format!("url = {:?}", args.bank_url),
    };
    let sample = &sample.replace(&format!("url = {STORE_URL:?}"), &format!("url = {:?}", args.store_url));
    let person = args.name.as_ref().map_or("", OperatorName::as_str);
    let pki_port = args.pki_port.unwrap_or(match args.kind {
        _ if args.demo || args.port == 0 => 0,
        Kind::Bank | Kind::AgentHost | Kind::Operator => 8080,
        Kind::SecurityCompany => 9080,
    });
    let filled =
        fill(&sample.replace("@PERSON@", person), &args.module, [args.port, pki_port], &upstream, &operators(args))
            .replace("@DEMO@", if args.demo { "true" } else { "false" });
    with_peers(filled, args)
}

/// Puts the addresses of the other parties, which the samples only show as comments, in force.
fn with_peers(sample: String, args: &Args) -> Result<String, Failure> {
    let listen = args.peer_listen.map(|address| format!("peer = {:?}", address.to_string()));
    let url = args.peer_url.as_ref().map(|url| format!("url = {url:?}"));
    let lists = args.company_pki_url.as_ref().map(|url| format!("company_pki_url = {url:?}"));
    let wishes = [
        ("--peer-listen", "", "peer = \"", listen),
        ("--peer-url", "[peer]", "url = \"https://", url),
        ("--company-pki-url", "", "company_pki_url = \"", lists),
    ];
    let mut sample = sample;
    for (option, section, key, line) in wishes {
        let Some(line) = line else {
            continue;
        };
        sample = uncommented(&sample, section, key, &line).ok_or_else(|| {
            Failure::usage(
                "option_not_for_kind",
                format!("{option} is nothing that this kind of party has"),
                "leave the option out; see `countersign init --help`",
            )
        })?;
    }
    // Whoever can be asked can cosign.
    if args.peer_url.is_some() {
        sample = sample.replace(WITNESS_OFF, WITNESS_ON);
    }
    Ok(sample)
}

/// The sample with `line` in place of the comment that shows this key; a heading that is a comment just above it counts
/// too, then.
fn uncommented(sample: &str, section: &str, key: &str, line: &str) -> Option<String> {
    let mut lines: Vec<String> = sample.lines().map(str::to_owned).collect();
    let heading = |line: &str| line.strip_prefix("# ").filter(|rest| rest.starts_with('[')).map(str::to_owned);
    let after = match section {
        "" => 0,
        section => lines.iter().position(|line| heading(line).is_some_and(|line| line.starts_with(section)))?,
    };
    let place = lines.iter().skip(after).position(|line| line.starts_with(&format!("# {key}")))? + after;
    let why = lines[place].find("  #").map(|at| lines[place].split_off(at)).unwrap_or_default();
    lines[place] = format!("{line}{why}");
    if let Some(above) = place.checked_sub(1)
        && let Some(heading) = heading(&lines[above])
    {
        lines[above] = heading;
    }
    Some(lines.join("\n") + "\n")
}

/// The one-time link of the console's first administrator, until somebody has a passkey. None where there is no console whose
/// address is known, and in a demo, where people are asserted.
fn first_link(args: &Args, config: &Config, context: &Context) -> Result<serde_json::Value, Failure> {
    let base = match (&config.listen.console_url, config.listen.console) {
        (Some(url), _) => url.clone(),
        (None, Some(at)) if at.port() != 0 && at.ip().is_loopback() => format!("https://localhost:{}", at.port()),
        (None, Some(_) | None) => return Ok(serde_json::Value::Null),
    };
    if config.demo.enabled {
        return Ok(serde_json::Value::Null);
    }
    let first = ConsoleCall::First { name: args.administrator.clone(), hours: FIRST_LINK_HOURS };
    let mut made = match context.call(AdminCall::Console(first)) {
        Ok(mut answer) => answer["invitation"].take(),
        // Whoever repeats this may be nobody's administrator, and needs no link then.
        Err(failure) if failure.kind == FailureKind::Refused => return Ok(serde_json::Value::Null),
        Err(failure) => return Err(failure),
    };
    // A daemon that was started for this command alone serves no console: its address is the configuration's.
    if let Some((_, token)) = made["link"].as_str().and_then(|link| link.rsplit_once('#')) {
        made["link"] = format!("{base}/enrol#{token}").into();
    }
    Ok(made)
}

/// Fills the places of a sample other than the demo mark.
pub(crate) fn fill(sample: &str, module: &Path, ports: [u16; 2], upstream: &str, operators: &str) -> String {
    let [port, pki_port] = ports;
    sample
        .replace("@MODULE@", &module.display().to_string())
        .replace("@PORT@", &port.to_string())
        .replace("@CONSOLE_PORT@", &console_port(port).to_string())
        .replace("@PKI_PORT@", &pki_port.to_string())
        .replace("@UPSTREAM@", upstream)
        .replace("@OPERATORS@", operators)
}

/// The pages for people are two doors further than MCP; any free one for any free one.
fn console_port(port: u16) -> u16 {
    if port == 0 { 0 } else { port.saturating_add(2) }
}

/// One operator with every role, or in a demo the people of the story, all under this uid.
fn operators(args: &Args) -> String {
    let uid = rustix::process::getuid().as_raw();
    let people: &[(&str, &str)] = match (args.demo, args.kind) {
        (false, _) | (true, Kind::Operator) => &[("operator", r#""administrator", "officer", "approver", "auditor""#)],
        (true, Kind::Bank) => &[
            ("bank-admin", r#""administrator""#),
            ("bank-officer", r#""officer""#),
            ("alice", r#""approver""#),
            ("auditor", r#""auditor""#),
        ],
        (true, Kind::SecurityCompany) => &[("secco-admin", r#""administrator""#), ("secco-officer", r#""officer""#)],
        (true, Kind::AgentHost) => &[("host-admin", r#""administrator", "officer""#)],
    };
    people
        .iter()
        .map(|(name, roles)| format!("[[operator]]\nname = \"{name}\"\nuid = {uid}\nroles = [{roles}]\n"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn make_directories(root: &Path) -> Result<(), Failure> {
    for inside in ["", "run", "store", "pins", "anchors", "certs", "tiles", "receipts"] {
        let path = root.join(inside);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|error| {
            Failure::usage(
                "state_not_writable",
                format!("{} cannot be made: {error}", path.display()),
                "choose a directory you own with --state",
            )
        })?;
    }
    Ok(())
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| {
        Failure::usage("config_unwritable", format!("{}: {error}", path.display()), "check the directory's owner")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_show_every_peer_setting_that_an_option_puts_in_force() {
        let bank = include_str!("../../docs/config/bank.toml");
        let company = include_str!("../../docs/config/security-company.toml");
        let host = include_str!("../../docs/config/agent-host.toml");
        assert!(bank.contains(WITNESS_OFF) && !host.contains(WITNESS_OFF));
        let table = [
            (bank, "", "peer = \"", true),
            (company, "", "peer = \"", true),
            (host, "", "peer = \"", false),
            (bank, "[peer]", "url = \"https://", true),
            (company, "[peer]", "url = \"https://", false),
            (host, "[peer]", "url = \"https://", true),
            (bank, "", "company_pki_url = \"", true),
            (company, "", "company_pki_url = \"", false),
        ];
        for (sample, section, key, is_there) in table {
            let line = format!("{key}here\"");
            let changed = uncommented(sample, section, key, &line);
            assert_eq!(changed.is_some(), is_there, "{key}");
            let Some(changed) = changed else {
                continue;
            };
            let lines: Vec<&str> = changed.lines().collect();
            let place = lines.iter().position(|changed| changed.starts_with(&line)).unwrap();
            let heading = lines[..place].iter().rev().find(|line| line.starts_with('[')).unwrap();
            assert!(section.is_empty() || heading.starts_with(section), "{heading}");
            assert_eq!(changed.lines().count(), sample.lines().count());
        }
    }
}
