//! The command line: one file a verb.

pub mod account;
pub mod approvals;
pub mod audit;
pub mod bank;
pub mod bench;
pub mod case;
pub mod catalogue;
mod cert;
mod cert_issue;
mod cert_verify;
pub mod check;
pub mod connect;
pub mod context;
pub mod crl;
pub mod custody;
pub mod demo;
pub mod doctor;
mod documents;
pub mod freeze;
pub mod front;
pub mod grant;
pub mod host;
pub mod hsm_worker;
pub mod init;
mod judging;
pub mod key;
pub mod ledger;
pub mod merchant;
mod migrate;
mod officer;
mod operator;
pub mod product;
pub mod profile;
mod progress;
pub mod receipt;
pub mod revoke;
pub mod sandbox;
mod serve;
pub mod statement;
mod status;
pub mod stop;
mod table;
pub mod transaction;
pub mod trust;
pub mod verify;
mod x509;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use context::Context;

/// Lets an AI agent move money at a bank only when two organisations have signed for it, every key lives in an HSM,
/// and every step can be proven afterwards.
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    propagate_version = true,
    after_help = "Start here:
  ./scripts/demo                         the whole story on one machine, in about a minute
  countersign init --kind bank --state ./bank && countersign serve --state ./bank
Exit codes: 0 ok, 1 fault, 2 usage or configuration, 3 refused by a rule, 4 outcome unknown, 5 busy: retry."
)]
struct Cli {
    /// State directory; default /var/lib/countersign as root, else ~/.local/state/countersign.
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Act as this operator: only in a demo, and recorded as asserted.
    #[arg(long, global = true, value_name = "NAME")]
    operator: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::Args),
    Serve(serve::Args),
    Stop(stop::Args),
    Check(check::Args),
    Status(status::Args),
    Doctor(doctor::Args),
    Trust(trust::Args),
    Host(host::Args),
    Operator(operator::Args),
    Catalogue(catalogue::Args),
    Cert(cert::Args),
    Profile(profile::Args),
    X509(x509::Args),
    Crl(crl::Args),
    Key(key::Args),
    Custody(custody::Args),
    Revoke(revoke::Args),
    Freeze(freeze::Args),
    Unfreeze(freeze::UnfreezeArgs),
    Bank(bank::Args),
    Account(account::Args),
    Merchant(merchant::Args),
    Product(product::Args),
    Grant(grant::Args),
    Approvals(approvals::Args),
    Transaction(transaction::Args),
    Case(case::Args),
    Ledger(ledger::Args),
    Migrate(migrate::Args),
    Receipt(receipt::Args),
    Audit(audit::Args),
    Verify(verify::Args),
    Connect(connect::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    Sandbox(sandbox::Args),
    #[command(hide = true)]
    HsmWorker(hsm_worker::Args),
    #[command(hide = true)]
    Front(front::Args),
}

/// Parses the command line, runs the verb and turns its failure into text and an exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(&cli.verb);
    // Fails only when a provider is installed already, which is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let named_state = cli.state.clone().map(StateDir::new);
    let context = Context {
        state: cli.state.map_or_else(StateDir::default_for_user, StateDir::new),
        json: cli.json,
        operator: cli.operator,
    };
    let verb = match cli.verb {
        // Its exit code is its own: it speaks to its supervisor, not to a person.
        Verb::HsmWorker(args) => return hsm_worker::run(&args),
        // The only verb whose default is no state directory at all.
        Verb::Bench(args) => Verb::Bench(args.of(named_state)),
        verb => verb,
    };
    match dispatch(verb, &context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure, context.json);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

fn dispatch(verb: Verb, context: &Context) -> Result<(), Failure> {
    match verb {
        Verb::Init(args) => init::run(args, context),
        Verb::Serve(args) => serve::run(args, context),
        Verb::Stop(args) => stop::run(args, context),
        Verb::Check(args) => check::run(args, context),
        Verb::Status(args) => status::run(args, context),
        Verb::Doctor(args) => doctor::run(args, context),
        Verb::Trust(args) => trust::run(args, context),
        Verb::Host(args) => host::run(args, context),
        Verb::Operator(args) => operator::run(args, context),
        Verb::Catalogue(args) => catalogue::run(args, context),
        Verb::Cert(args) => cert::run(args, context),
        Verb::Profile(args) => profile::run(args, context),
        Verb::X509(args) => x509::run(args),
        Verb::Crl(args) => crl::run(args, context),
        Verb::Key(args) => key::run(args, context),
        Verb::Custody(args) => custody::run(args, context),
        Verb::Revoke(args) => revoke::run(args, context),
        Verb::Freeze(args) => freeze::run(args, context),
        Verb::Unfreeze(args) => freeze::unfreeze(args, context),
        Verb::Bank(args) => bank::run(args, context),
        Verb::Account(args) => account::run(args, context),
        Verb::Merchant(args) => merchant::run(args, context),
        Verb::Product(args) => product::run(args, context),
        Verb::Grant(args) => grant::run(args, context),
        Verb::Approvals(args) => approvals::run(args, context),
        Verb::Transaction(args) => transaction::run(args, context),
        Verb::Case(args) => case::run(args, context),
        Verb::Ledger(args) => ledger::run(args, context),
        Verb::Migrate(args) => migrate::run(args, context),
        Verb::Receipt(args) => receipt::run(args, context),
        Verb::Audit(args) => audit::run(args, context),
        Verb::Verify(args) => verify::run(args, context),
        Verb::Connect(args) => connect::run(args, context),
        Verb::Demo(args) => demo::run(args, context),
        Verb::Bench(args) => bench::run(args, context),
        Verb::Sandbox(args) => sandbox::run(args, context),
        Verb::Front(args) => front::run(args, context),
        Verb::HsmWorker(_) => Ok(()),
    }
}

/// Daemons log state changes, one-shot verbs only what needs a human; `RUST_LOG` overrides.
fn log_to_stderr(verb: &Verb) {
    let level = match verb {
        Verb::Serve(_) | Verb::Front(_) | Verb::HsmWorker(_) => "countersign=info,warn,rmcp=off",
        _ => "warn,rmcp=off",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

fn report(failure: &Failure, json: bool) {
    if json {
        eprintln!("{:#}", failure.to_json());
        return;
    }
    eprintln!("{}: {}", failure.name, failure.message);
    eprintln!("next: {}", failure.next_step);
}
