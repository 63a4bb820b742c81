//! The command line: one file a verb.

pub mod account;
mod agent;
pub mod approvals;
pub mod audit;
pub mod audit_subjects;
pub mod bank;
pub mod bench;
pub mod catalogue;
mod cert;
mod cert_approve;
mod cert_issue;
mod cert_verify;
pub mod check;
pub mod connect;
pub mod consent;
mod console;
pub mod context;
pub mod crl;
pub mod custody;
pub mod deciding;
pub mod demo;
pub mod doctor;
mod documents;
pub mod freeze;
pub mod front;
pub mod grant;
pub mod host;
pub mod hsm_worker;
mod http;
pub mod init;
mod install;
mod judging;
pub mod key;
pub mod ledger;
mod mandate;
pub mod manual;
pub mod merchant;
mod migrate;
mod monitor;
mod notify;
mod officer;
mod operator;
pub mod policy;
pub mod product;
pub mod profile;
mod progress;
pub mod receipt;
mod report;
pub mod revoke;
pub mod sandbox;
mod serve;
mod sign;
pub mod statement;
mod status;
pub mod stop;
mod table;
pub mod transaction;
pub mod trust;
mod vault;
pub mod verify;
pub mod verify_approval;
mod verify_bundle;
pub mod verify_log;
mod verify_signature;
pub mod witness;
mod x509;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

use crate::ops::failure::Failure;
use crate::ops::log_line::OneLine;
use crate::ops::paths::StateDir;
use context::Context;

/// Lets an AI agent move money at a bank only when two organisations have signed for it, every key lives in an HSM,
/// and every step can be proven afterwards.
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    propagate_version = true,
    // Not the terminal's width: an example that is wrapped cannot be pasted.
    term_width = 100,
    after_help = "Start here:
  ./scripts/demo          the whole story on one machine, in about a minute
  docs/ENROLMENT.md       the same by hand: two organisations, from nothing to the first balance
Exit codes: 0 ok, 1 fault, 2 usage or configuration, 3 refused by a rule, 4 outcome unknown,
5 busy: retry."
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
    Policy(policy::Args),
    Cert(cert::Args),
    Profile(profile::Args),
    X509(x509::Args),
    Crl(crl::Args),
    Key(key::Args),
    Sign(sign::Args),
    Http(http::Args),
    Custody(custody::Args),
    Revoke(revoke::Args),
    Freeze(freeze::Args),
    Unfreeze(freeze::UnfreezeArgs),
    Monitor(monitor::Args),
    Bank(bank::Args),
    Account(account::Args),
    Merchant(merchant::Args),
    Product(product::Args),
    Grant(grant::Args),
    Mandate(mandate::Args),
    Approvals(approvals::Args),
    Consent(consent::Args),
    Console(console::Args),
    Transaction(transaction::Args),
    Manual(manual::Args),
    Ledger(ledger::Args),
    Migrate(migrate::Args),
    Notify(notify::Args),
    Vault(vault::Args),
    Receipt(receipt::Args),
    Witness(witness::Args),
    Audit(audit::Args),
    Report(report::Args),
    Verify(verify::Args),
    Connect(connect::Args),
    Install(install::Args),
    Agent(agent::Args),
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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
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
        Verb::Policy(args) => policy::run(args, context),
        Verb::Cert(args) => cert::run(args, context),
        Verb::Profile(args) => profile::run(args, context),
        Verb::X509(args) => x509::run(args),
        Verb::Crl(args) => crl::run(args, context),
        Verb::Key(args) => key::run(args, context),
        Verb::Sign(args) => sign::run(args, context),
        Verb::Http(args) => http::run(args, context),
        Verb::Custody(args) => custody::run(args, context),
        Verb::Revoke(args) => revoke::run(args, context),
        Verb::Freeze(args) => freeze::run(args, context),
        Verb::Unfreeze(args) => freeze::unfreeze(args, context),
        Verb::Monitor(args) => monitor::run(args, context),
        Verb::Bank(args) => bank::run(args, context),
        Verb::Account(args) => account::run(args, context),
        Verb::Merchant(args) => merchant::run(args, context),
        Verb::Product(args) => product::run(args, context),
        Verb::Grant(args) => grant::run(args, context),
        Verb::Mandate(args) => mandate::run(args, context),
        Verb::Approvals(args) => approvals::run(args, context),
        Verb::Consent(args) => consent::run(args, context),
        Verb::Console(args) => console::run(args, context),
        Verb::Transaction(args) => transaction::run(args, context),
        Verb::Manual(args) => manual::run(args, context),
        Verb::Ledger(args) => ledger::run(args, context),
        Verb::Migrate(args) => migrate::run(args, context),
        Verb::Notify(args) => notify::run(args, context),
        Verb::Vault(args) => vault::run(args, context),
        Verb::Receipt(args) => receipt::run(args, context),
        Verb::Witness(args) => witness::run(args, context),
        Verb::Audit(args) => audit::run(args, context),
        Verb::Report(args) => report::run(args, context),
        Verb::Verify(args) => verify::run(args, context),
        Verb::Connect(args) => connect::run(args, context),
        Verb::Install(args) => install::run(args, context),
        Verb::Agent(args) => agent::run(args, context),
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
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    if matches!(verb, Verb::Agent(_)) {
        // Whatever is asked for: these write headers and bodies, and with them a provider's key.
        for target in ["h2", "hyper", "hyper_util", "reqwest", "genai"] {
            filter = filter.add_directive(Directive::from_str(&format!("{target}=off")).expect("a target and a level"));
        }
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| OneLine(std::io::stderr()))
        .with_ansi(false)
        .init();
}

/// What clap says of a command line that it does not take: in its own words, or as JSON for a program that asked for it.
fn misused(error: &clap::Error) -> ExitCode {
    let asks_for_json = std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
    if !error.use_stderr() || !asks_for_json {
        // A reader that went away is no failure of ours.
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let text = error.render().to_string();
    let (what, _) = text.split_once("\n\nUsage:").unwrap_or((&text, ""));
    let message = what.trim_start_matches("error:").split_whitespace().collect::<Vec<_>>().join(" ");
    let failure = Failure::usage("command_line_invalid", message, "see --help of the verb");
    report(&failure, true);
    ExitCode::from(failure.kind.exit_code())
}

fn report(failure: &Failure, json: bool) {
    if json {
        eprintln!("{:#}", failure.to_json());
        return;
    }
    eprintln!("{}: {}", failure.name, failure.message);
    eprintln!("next: {}", failure.next_step);
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::*;

    /// Every verb that does something, by its whole name.
    fn verbs(command: &Command, before: &str, found: &mut Vec<(String, bool, String)>) {
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
            let name = format!("{before} {}", verb.get_name());
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            found.push((name.clone(), verb.has_subcommands(), help));
            verbs(verb, &name, found);
        }
    }

    /// The words of a command as a shell reads them, up to a pipe, a redirection, a comment or another command.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for letter in line.chars() {
            match (quote, letter) {
                (Some(open), letter) if letter == open => quote = None,
                (None, '"' | '\'') => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                (None, ' ') => words.extend(word.take()),
                (_, letter) => word.get_or_insert_default().push(letter),
            }
        }
        words.extend(word);
        let end = words.iter().position(|word| word.starts_with(['|', '>', '#', '&']));
        words.truncate(end.unwrap_or(words.len()));
        words
    }

    #[test]
    fn every_verb_has_an_example_and_every_example_is_a_command_line_that_is_taken() {
        let mut found = Vec::new();
        verbs(&Cli::command(), "countersign", &mut found);
        let mut wrong = Vec::new();
        for (name, is_group, help) in &found {
            let joined = help.replace("\\\n", " ");
            let examples: Vec<&str> =
                joined.lines().map(str::trim).filter(|it| it.starts_with("countersign ")).collect();
            if !is_group && !examples.iter().any(|example| example.starts_with(name)) {
                wrong.push(format!("{name}: no example"));
            }
            wrong.extend(
                help.lines().filter(|line| line.chars().count() > 100).map(|line| format!("{name}: wraps: {line}")),
            );
            for example in examples {
                if let Err(error) = Cli::try_parse_from(words(example)) {
                    wrong.push(format!("{name}: {example}: {}", error.to_string().lines().next().unwrap_or_default()));
                }
            }
        }
        assert!(wrong.is_empty() && found.len() > 60, "{}", wrong.join("\n"));
    }
}
