//! `countersign x509 check`: judges any certificate by RFC 5280. No daemon, no state, no network.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, Subcommand, ValueEnum, value_parser};
use serde_json::json;

use crate::cli::judging::{Expected, Material, rfc3339, say};
use crate::kernel::credential::path::{self, PathQuestion};
use crate::kernel::types::UnixMillis;
use crate::ops::clock;
use crate::ops::failure::Failure;

/// Judge certificates by RFC 5280, as strictly as a private PKI may
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign x509 check --trust root.pem --at 2026-11-21T04:20:00Z leaf.pem issuing.pem
  countersign x509 check --trust root.pem --crl root.crl --crl issuing.crl leaf.pem issuing.pem")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    Check(Check),
}

/// Look for a valid path; exit code 0: there is one, 3: there is none; the verdict as JSON
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign x509 check --trust root.pem --at 2026-11-21T04:20:00Z leaf.pem issuing.pem
  countersign x509 check --trust old.pem --trust new.pem --usage server --name bank.example \\
      leaf.pem issuing.pem
Files are PEM (one or several) or DER. Lists are also found among the other files. With at least one
list every certificate below the trust anchor needs a good status by a list of its issuer.")]
struct Check {
    #[command(flatten)]
    trust: Trust,
    /// The moment in question, RFC 3339; now if left out
    #[arg(long, value_parser = rfc3339, value_name = "TIME")]
    at: Option<UnixMillis>,
    /// A revocation list; repeat it for more
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// What the certificate is to be used for; anything if left out
    #[arg(long)]
    usage: Option<Usage>,
    /// The name it must have: DNS or IP
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The most CAs below the trust anchor, self-issued ones not counted
    #[arg(long, value_name = "N")]
    max_depth: Option<usize>,
    /// The certificate in question, then whatever may lead to a trust anchor, in any order
    #[arg(value_name = "FILE")]
    chain: Vec<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Usage {
    Client,
    Server,
}

/// `--trust FILE…`: the files of each time it was given, because the last one may have taken the chain with it.
#[derive(Clone, Debug)]
struct Trust(Vec<Vec<PathBuf>>);

impl clap::FromArgMatches for Trust {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = matches.get_occurrences::<PathBuf>("trust");
        Ok(Self(given.into_iter().flatten().map(|files| files.cloned().collect()).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = <Self as clap::FromArgMatches>::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Trust {
    fn augment_args(command: Command) -> Command {
        command.arg(
            Arg::new("trust")
                .long("trust")
                .value_name("FILE")
                .help("Trust anchors: certificates of CAs, one file or several; may be repeated")
                .required(true)
                .num_args(1..)
                .action(ArgAction::Append)
                .value_parser(value_parser!(PathBuf)),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl Trust {
    /// Files of anchors, files of the chain. Without a chain of its own, it is what follows the last `--trust FILE`.
    fn apart(mut self, mut chain: Vec<PathBuf>) -> (Vec<PathBuf>, Vec<PathBuf>) {
        if chain.is_empty()
            && let Some(last) = self.0.last_mut()
        {
            chain = last.split_off(1);
        }
        (self.0.into_iter().flatten().collect(), chain)
    }
}

/// Carries the verb out.
///
/// # Errors
/// `document_unreadable`, `chain_missing`, and the names of [`path::PathRule`].
pub fn run(args: Args) -> Result<(), Failure> {
    match args.verb {
        Verb::Check(check) => run_check(check),
    }
}

fn run_check(args: Check) -> Result<(), Failure> {
    let (trust, chain) = args.trust.apart(args.chain);
    let files = |paths: &[PathBuf], expected| Material::read(paths.iter().map(PathBuf::as_path), expected);
    let Some((first, rest)) = chain.split_first() else {
        return Err(Failure::usage(
            "chain_missing",
            "no certificate to judge was given",
            "name its file last, after the flags",
        ));
    };
    let anchors = files(&trust, Expected::Certificates)?;
    let mut lists = files(&args.crl, Expected::Lists)?.lists;
    let mut chain = Material::read([Path::new(first)], Expected::Certificates)?;
    let others = files(rest, Expected::Certificates)?;
    chain.certificates.extend(others.certificates);
    lists.extend([anchors.lists, chain.lists, others.lists].concat());
    let mut certificates = chain.certificates.into_iter();
    // A file of lists alone comes before the certificate: then it is in one of the others.
    let leaf = certificates.next().unwrap_or_default();
    let others: Vec<Vec<u8>> = certificates.collect();
    let at = args.at.unwrap_or_else(clock::now);
    let verdict = path::judge(&PathQuestion {
        leaf: &leaf,
        others: &others,
        anchors: &anchors.certificates,
        lists: &lists,
        at,
        usage: args.usage.map(|usage| match usage {
            Usage::Client => path::Usage::Client,
            Usage::Server => path::Usage::Server,
        }),
        name: args.name.as_deref(),
        depth_max: args.max_depth,
    });
    let subject = path::subject_text(&leaf);
    match verdict {
        Ok(valid) => {
            let said = json!({
                "accepted": true, "at": at.rfc3339(), "rule": null, "message": "the path is valid",
                "subject": subject, "path": valid.fingerprints(),
            });
            say(&said);
            Ok(())
        }
        Err(refusal) => {
            let said = json!({
                "accepted": false, "at": at.rfc3339(), "rule": refusal.rule.name(), "message": refusal.to_string(),
                "subject": subject, "path": refusal.path, "at_fault": refusal.at_fault,
            });
            say(&said);
            Err(Failure::refused(
                refusal.rule.name(),
                refusal.to_string(),
                "see `at_fault` in the verdict for the certificate, and docs/VERIFYING.md for the rules",
            ))
        }
    }
}
