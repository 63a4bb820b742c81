//! `countersign bench …`: how near the product comes to what its parts can do, measured side by side.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::context::Context;
use crate::bench::{self, Kind, Plan, chart};
use crate::config::Config;
use crate::hsm::supervisor;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

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
  countersign bench hsm                                  a minute and a half, a table
  countersign bench hsm --rounds 9 --out ./bench         also bench-hsm.json and bench-hsm.svg
  countersign bench hsm --state ./bank --json            the token of a party that is stopped
  countersign bench hsm --keys 10000                     also: start and speed of a full token (minutes)")]
    Hsm(HsmArgs),
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
/// `bench_options_invalid`, `already_running`, `bench_stopped`, and whatever kept the token from signing.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Verb::Hsm(hsm) = args.verb;
    let party = match args.state {
        Some(state) => {
            let config = Config::load(&state)?;
            let (_, party, settings) = config.hosted();
            Some(bench::PartyToken { state, name: party.token.clone(), settings: settings.clone() })
        }
        None => None,
    };
    let kind = hsm.input.unwrap_or(if party.is_some() { Kind::SelfTest } else { Kind::Tls });
    let plan = Plan {
        // A path that leads to this file even after it was replaced.
        program: supervisor::own_program(),
        party,
        module: hsm.module,
        delay_module: hsm.delay_module,
        seconds: hsm.seconds,
        rounds: hsm.rounds,
        callers: hsm.callers,
        workers: hsm.workers,
        kind,
        keys: hsm.keys,
    };
    let report = bench::run(&plan, &|text| {
        // A terminal that went away does not stop the measurement.
        let _ = writeln!(std::io::stderr(), "{text}");
    })?;
    let value = serde_json::to_value(&report)
        .map_err(|error| Failure::fault("report_unwritable", error.to_string(), "report this as a defect"))?;
    if let Some(out) = hsm.out {
        let written = std::fs::create_dir_all(&out)
            .and_then(|()| std::fs::write(out.join("bench-hsm.json"), format!("{value:#}\n")))
            .and_then(|()| std::fs::write(out.join("bench-hsm.svg"), chart::svg(&report.chart())));
        written.map_err(|error| {
            Failure::fault("report_unwritable", format!("{}: {error}", out.display()), "choose another --out")
        })?;
    }
    context.print(&value, |_| report.text());
    Ok(())
}
