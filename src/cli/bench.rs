//! `countersign bench …`: how near the product comes to what its parts can do, measured side by side.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use serde::Serialize;

use super::context::Context;
use crate::bench::chart::{self, Chart};
use crate::bench::mcp::Part;
use crate::bench::{self, Kind, Plan, audit, issuance, ledger, mcp, monitor, policy, revocation, signing, vault};
use crate::config::Config;
use crate::front::settings::LimitSettings;
use crate::hsm::supervisor;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::store::settings::StoreSettings;

/// Measure: raw limits and ours, interleaved in one run.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// `--state`, when it was given.
    #[arg(skip)]
    state: Option<StateDir>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Signatures through the worker processes, against the PKCS#11 module called in a bare loop.
    ///
    /// Makes a token of its own in a temporary directory and removes it. With --state it measures that party's token
    /// instead: self-tests of its identity key, which prove nothing to anybody; its daemon must be stopped.
    /// A goal that is missed is a result like any other: the exit code is 0.
    #[command(after_help = "Examples:
  countersign bench hsm                           # a minute and a half, a table
  countersign bench hsm --rounds 9 --out ./bench  # also bench-hsm.json and bench-hsm.svg
  countersign bench hsm --state ./bank --json     # the token of a party that is stopped
  countersign bench hsm --keys 10000              # also start and speed of a full token: minutes")]
    Hsm(HsmArgs),
    /// Transfers through the store, against the leanest loop on the same file system or server.
    ///
    /// Makes stores of its own in a temporary directory, and with --postgres databases of its own on that server, and
    /// removes them. Only acknowledged commits count, and afterwards every book must balance.
    /// A goal that is missed is a result like any other: the exit code is 0.
    #[command(after_help = "Examples:
  countersign bench ledger                                 # some minutes, a table
  countersign bench ledger --dir /var/lib/countersign      # where the daemon's store will be
  countersign bench ledger --seconds 3 --rounds 9 --out .  # also bench-ledger.json and .svg
  countersign bench ledger --history 10000000 --in-flight 1024
  countersign bench ledger --postgres postgresql://bench@localhost/postgres --history 0")]
    Ledger(LedgerArgs),
    /// A revocation from the call to the end of its agents' connections; bulk, lists and answers against raw loops.
    ///
    /// Makes three parties with tokens of their own in a temporary directory and removes them.
    /// A goal that is missed is a result like any other: the exit code is 0.
    #[command(after_help = "Examples:
  countersign bench revocation  # some minutes, a table
  countersign bench revocation --agents 20 --connections 50 --entries 10000 --calls 0")]
    Revocation(RevocationArgs),
    /// Certificate pairs for many agents at once, against the module signing in a bare loop with the same key.
    ///
    /// Makes a security company, a bank and an agent host in a temporary directory, as `countersign init` does, and
    /// removes them; the agents' own keys are in memory. Each request is verified, each certificate journalled, signed, verified, released and recorded.
    /// A goal that is missed is a result like any other: the exit code is 0.
    #[command(after_help = "Examples:
  countersign bench issuance  # half a minute, a table
  countersign bench issuance --pairs 100 --callers 1
  countersign bench issuance --certificates 100000 --json")]
    Issuance(IssuanceArgs),
    /// Tool calls, handshakes, many connections and overload, each against a raw limit of the same run.
    ///
    /// Makes three parties with tokens of their own in a temporary directory and removes them; the agents' own keys are
    /// in memory. Client and server are on this machine. Afterwards the book must balance.
    /// A goal that is missed is a result like any other: the exit code is 0. One that needs nginx to compare with is not
    /// measured where nginx is not installed.
    #[command(after_help = "Examples:
  countersign bench mcp  # two minutes, a table
  countersign bench mcp --only calls,payments --connections 256 --agents 64 --seconds 10 --json
  countersign bench mcp --only many --many 20000")]
    Mcp(McpArgs),
    /// Decisions of a role policy, in memory: what a call costs besides its commit.
    ///
    /// The role has so many permissions of one tool, each with three constraints, and all of them are judged.
    /// A goal that is missed is a result like any other: the exit code is 0.
    #[command(after_help = "Examples:
  countersign bench policy  # some seconds, a table
  countersign bench policy --rules 500 --json")]
    Policy(PolicyArgs),
    /// What the monitor finds in two months of labelled calls made from a seed, and what it costs.
    ///
    /// Touches no daemon and no state directory. The same seed gives the same calls and scores on every machine.
    /// A goal that is missed is a result like any other: the exit code is 0.
    #[command(after_help = "Examples:
  countersign bench monitor  # some seconds, a table
  countersign bench monitor --seed 7 --agents 1000 --attacks 30 --json")]
    Monitor(MonitorArgs),
    /// The audit log: leaves that get their places, proofs, the whole check, bytes a leaf.
    ///
    /// On SQLite in the temporary directory, some 1 KB a leaf, with the checkpoint key in software.
    #[command(after_help = "Examples:
  countersign bench audit  # a minute, a table
  countersign bench audit --leaves 1000000 --json")]
    Audit(AuditArgs),
    /// Credentials read from sealed storage, against the module opening texts in a bare loop.
    ///
    /// Makes a bank in a temporary directory, as `countersign init` does, and removes it. Each reading is a decision with
    /// its leaf, durable before the HSM opens the value.
    /// A goal that is missed is a result like any other: the exit code is 0.
    #[command(after_help = "Examples:
  countersign bench vault  # half a minute, a table
  countersign bench vault --callers 8 --bytes 4096 --json")]
    Vault(VaultArgs),
    /// The signing service: its socket against the bare token, and Merkle batches with a slow HSM.
    #[command(after_help = "Examples:
  countersign bench signing  # half a minute, a table
  countersign bench signing --delay-module target/release/examples/libpkcs11_shim.so --json")]
    Signing(SigningArgs),
    /// The clients of many connections: `bench mcp` starts it.
    #[command(hide = true)]
    Dial,
}

#[derive(Debug, ClapArgs)]
struct VaultArgs {
    /// Parts of a daemon that read at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=256))]
    callers: u32,
    /// Credentials that they read in turns.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    credentials: u32,
    /// Bytes of each.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    bytes: u32,
    /// How often it is measured; the table shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement, 0.1 to 60.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// PKCS#11 module of the temporary token.
    #[arg(long, default_value = "/usr/lib/softhsm/libsofthsm2.so")]
    module: PathBuf,
    /// Where the files go: their file system is measured.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
struct AuditArgs {
    /// Leaves of the log.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=50_000_000))]
    leaves: u32,
}

#[derive(Debug, ClapArgs)]
struct SigningArgs {
    /// Callers at once, each with a connection of its own.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=512))]
    callers: u32,
    /// How often each is measured; the table shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that one measurement takes, 0.1 to 60.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Items of one Merkle request.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    items: u32,
    /// PKCS#11 module of the temporary token.
    #[arg(long, default_value = "/usr/lib/softhsm/libsofthsm2.so")]
    module: PathBuf,
    /// The fault shim (examples/pkcs11_shim) as an HSM of 100 signatures a second.
    #[arg(long, value_name = "PATH")]
    delay_module: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
struct PolicyArgs {
    /// Permissions of the role.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=512))]
    rules: u32,
    /// Decisions of one round.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    calls: u32,
    /// How often it is measured; the table shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

#[derive(Debug, ClapArgs)]
struct MonitorArgs {
    /// Where all chance comes from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ordinary agents, of ten kinds in turn.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    agents: u32,
    /// Attacks of each family, on agents of these; each agent is attacked once while there are enough.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    attacks: u32,
}

#[derive(Debug, ClapArgs)]
struct McpArgs {
    /// What is measured; without it everything.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Connections at once, each with one call after the other.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    connections: u32,
    /// Agents that have them.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    agents: u32,
    /// How often it is measured; the table shows medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that each measurement takes, 0.1 to 60.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Connections that are open at once when their memory is measured.
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(2..=25_000))]
    many: u32,
    /// Transactions a second that arrive, ready or not.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Connections over which far too much is asked: more than the bank answers at once.
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 4_096,
        value_parser = clap::value_parser!(u32).range(1..=8_192))]
    crowd: u32,
    /// Requests that the bank answers at once then; as many as a daemon does.
    #[arg(long, value_name = "REQUESTS", default_value_t = LimitSettings::default().requests_max,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    room: u32,
    /// PKCS#11 module of the temporary tokens.
    #[arg(long, default_value = "/usr/lib/softhsm/libsofthsm2.so")]
    module: PathBuf,
    /// Where the files go: their file system is measured.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
struct IssuanceArgs {
    /// Pairs of one round, each for an agent with a new key.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pairs: u32,
    /// Officers' commands at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=256))]
    callers: u32,
    /// How often it is measured; the table shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that the bare loop takes each time, 0.1 to 60.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Certificates that a bank has issued when its start is measured; 0: not measured.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    certificates: u32,
    /// PKCS#11 module of the temporary tokens.
    #[arg(long, default_value = "/usr/lib/softhsm/libsofthsm2.so")]
    module: PathBuf,
    /// Where the files go: their file system is measured.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
struct RevocationArgs {
    /// Agents, each revoked once.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    agents: u32,
    /// Open connections of each.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// Certificates that are revoked in bulk, and entries of a list.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    entries: u32,
    /// Payments that race revocations of those who make them, as many as a minute allows; 0: not measured.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    calls: u32,
    /// How often each comparison is made; the table shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that one measurement of answers takes, 0.1 to 60.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// PKCS#11 module of the temporary tokens.
    #[arg(long, default_value = "/usr/lib/softhsm/libsofthsm2.so")]
    module: PathBuf,
    /// Where the files go: their file system is measured.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
struct LedgerArgs {
    /// Seconds that one measurement takes, 0.1 to 60.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How often each is measured; the table shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Transfers that wait for their answer at once, one cell each. More than 64 are handed over by 64 callers,
    /// several at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1024],
        value_parser = clap::value_parser!(u32).range(1..=16_384))]
    in_flight: Vec<u32>,
    /// Accounts that pay one another.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(3..=10_000_000))]
    accounts: u32,
    /// Transfers that a store has in it when it is compared with an empty one; 0: not measured.
    #[arg(long, value_name = "ROWS", default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    history: u64,
    /// Also measure on this PostgreSQL server; the user must be allowed to make databases.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// A file that holds the password of that user.
    #[arg(long, value_name = "PATH", requires = "postgres")]
    postgres_password_file: Option<PathBuf>,
    /// Where the files go: their file system is measured.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write bench-ledger.json and bench-ledger.svg into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
struct HsmArgs {
    /// Seconds that one measurement takes, 0.1 to 60.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How often each is measured; the table shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Callers at once, one cell each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64],
        value_parser = clap::value_parser!(u32).range(1..=1024))]
    callers: Vec<u32>,
    /// Worker processes, one cell each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2], value_parser = clap::value_parser!(u32).range(1..=16))]
    workers: Vec<u32>,
    /// What is signed: proofs of possession in TLS handshakes (default), receipts, or self-tests (with --state).
    #[arg(long, value_enum)]
    input: Option<Kind>,
    /// PKCS#11 module of the temporary token.
    #[arg(long, default_value = "/usr/lib/softhsm/libsofthsm2.so")]
    module: PathBuf,
    /// The fault shim (examples/pkcs11_shim) as a network HSM of 10 ms a signature.
    #[arg(long, value_name = "PATH")]
    delay_module: Option<PathBuf>,
    /// Also fill the temporary token with so many keys and measure start and signing then.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    keys: u32,
    /// Write bench-hsm.json and bench-hsm.svg into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Args {
    /// With the state directory that the command line named.
    #[must_use]
    pub fn of(self, state: Option<StateDir>) -> Self {
        Self { state, ..self }
    }
}

/// Measures and prints.
///
/// # Errors
/// `bench_options_invalid`, `already_running`, `bench_stopped`, and whatever kept the token from signing or the store
/// from committing.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let tell = |text: &str| {
        // A terminal that went away does not stop the measurement.
        let _ = writeln!(std::io::stderr(), "{text}");
    };
    match args.verb {
        Verb::Hsm(hsm) => {
            let out = hsm.out.clone();
            let report = bench::run(&hsm.plan(args.state)?, &tell)?;
            deliver("bench-hsm", &report, &report.chart(), out, report.text(), context)
        }
        Verb::Revocation(revocation) => {
            let report = revocation::run(&revocation.plan(), &tell)?;
            context.print(&value(&report)?, |_| report.text());
            Ok(())
        }
        Verb::Signing(SigningArgs { callers, rounds, seconds, items, module, delay_module }) => {
            let program = supervisor::own_program();
            let plan = signing::Plan { program, module, delay_module, callers, rounds, seconds, items };
            let report = signing::run(&plan, &tell)?;
            context.print(&value(&report)?, |_| report.text());
            Ok(())
        }
        Verb::Issuance(issuance) => {
            let report = issuance::run(&issuance.plan(), &tell)?;
            context.print(&value(&report)?, |_| report.text());
            Ok(())
        }
        Verb::Mcp(mcp) => {
            let report = mcp::run(&mcp.plan(), &tell)?;
            context.print(&value(&report)?, |_| report.text());
            Ok(())
        }
        Verb::Policy(PolicyArgs { rules, calls, rounds }) => {
            let report = policy::run(policy::Plan { rules, calls, rounds }, tell)?;
            context.print(&value(&report)?, |_| policy::text(&report));
            Ok(())
        }
        Verb::Monitor(MonitorArgs { seed, agents, attacks }) => {
            let report = monitor::run(&monitor::Plan { seed, agents, attacks }, &tell)?;
            context.print(&value(&report)?, |_| report.text());
            Ok(())
        }
        Verb::Audit(AuditArgs { leaves }) => {
            let report = audit::run(audit::Plan { leaves }, tell)?;
            context.print(&value(&report)?, |_| audit::text(&report));
            Ok(())
        }
        Verb::Vault(vault) => {
            let report = vault::run(&vault.plan(), &tell)?;
            context.print(&value(&report)?, |_| vault::text(&report));
            Ok(())
        }
        Verb::Dial => mcp::dial::run(),
        Verb::Ledger(ledger) => {
            let out = ledger.out.clone();
            let report = bench::ledger::run(&ledger.plan(), &tell)?;
            deliver("bench-ledger", &report, &report.chart(), out, report.text(), context)
        }
    }
}

impl McpArgs {
    fn plan(self) -> mcp::Plan {
        mcp::Plan {
            program: supervisor::own_program(),
            module: self.module,
            only: if self.only.is_empty() { Part::value_variants().to_vec() } else { self.only },
            connections: self.connections,
            agents: self.agents,
            rounds: self.rounds,
            seconds: self.seconds.clamp(0.1, 60.0),
            many: self.many,
            rate: self.rate,
            crowd: self.crowd,
            room: self.room,
            directory: self.dir.unwrap_or_else(std::env::temp_dir),
        }
    }
}

impl VaultArgs {
    fn plan(self) -> vault::Plan {
        vault::Plan {
            program: supervisor::own_program(),
            module: self.module,
            callers: self.callers,
            credentials: self.credentials,
            bytes: self.bytes,
            rounds: self.rounds,
            seconds: self.seconds.clamp(0.1, 60.0),
            directory: self.dir.unwrap_or_else(std::env::temp_dir),
        }
    }
}

impl IssuanceArgs {
    fn plan(self) -> issuance::Plan {
        issuance::Plan {
            program: supervisor::own_program(),
            module: self.module,
            pairs: self.pairs,
            callers: self.callers,
            rounds: self.rounds,
            seconds: self.seconds.clamp(0.1, 60.0),
            certificates: self.certificates,
            directory: self.dir.unwrap_or_else(std::env::temp_dir),
        }
    }
}

impl RevocationArgs {
    fn plan(self) -> revocation::Plan {
        revocation::Plan {
            program: supervisor::own_program(),
            module: self.module,
            agents: self.agents,
            connections: self.connections,
            entries: self.entries,
            calls: self.calls,
            rounds: self.rounds,
            seconds: self.seconds.clamp(0.1, 60.0),
            directory: self.dir.unwrap_or_else(std::env::temp_dir),
        }
    }
}

impl HsmArgs {
    fn plan(self, state: Option<StateDir>) -> Result<Plan, Failure> {
        let party = match state {
            Some(state) => {
                let config = Config::load(&state)?;
                let (_, party, settings) = config.hosted();
                Some(bench::PartyToken { state, name: party.token.clone(), settings: settings.clone() })
            }
            None => None,
        };
        let kind = self.input.unwrap_or(if party.is_some() { Kind::SelfTest } else { Kind::Tls });
        Ok(Plan {
            // A path that leads to this file even after it was replaced.
            program: supervisor::own_program(),
            party,
            module: self.module,
            delay_module: self.delay_module,
            seconds: self.seconds,
            rounds: self.rounds,
            callers: self.callers,
            workers: self.workers,
            kind,
            keys: self.keys,
        })
    }
}

impl LedgerArgs {
    fn plan(self) -> ledger::Plan {
        ledger::Plan {
            seconds: self.seconds,
            rounds: self.rounds,
            in_flight: self.in_flight,
            accounts: self.accounts,
            history: self.history,
            postgres: self.postgres.map(|url| StoreSettings {
                url,
                password_file: self.postgres_password_file,
                ..StoreSettings::default()
            }),
            directory: self.dir.unwrap_or_else(std::env::temp_dir),
        }
    }
}

fn value(report: &impl Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(report)
        .map_err(|error| Failure::fault("report_unwritable", error.to_string(), "report this as a defect"))
}

fn deliver(
    name: &str,
    report: &impl Serialize,
    chart: &Chart,
    out: Option<PathBuf>,
    text: String,
    context: &Context,
) -> Result<(), Failure> {
    let value = value(report)?;
    if let Some(out) = out {
        let written = std::fs::create_dir_all(&out)
            .and_then(|()| std::fs::write(out.join(format!("{name}.json")), format!("{value:#}\n")))
            .and_then(|()| std::fs::write(out.join(format!("{name}.svg")), chart::svg(chart)));
        written.map_err(|error| {
            Failure::fault("report_unwritable", format!("{}: {error}", out.display()), "choose another --out")
        })?;
    }
    context.print(&value, |_| text);
    Ok(())
}
