//! `countersign key …`: the keys in this party's token.

use clap::{Args as ClapArgs, Subcommand};
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::documents::text;
use crate::cli::table::{cell, table};
use crate::front::admin::AdminCall;
use crate::kernel::sign::{Algorithm, Purpose};
use crate::ops::failure::Failure;

/// List, show, rotate, retire and destroy the keys in the token.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
A key is active (signs or seals), then verify-only (what it signed still verifies, what it sealed
still opens), then destroyed. It never goes back, and its label is never given again.

Examples:
  countersign key list
  countersign key show bank-transaction-v1
  countersign key rotate transaction
  countersign key destroy bank-transaction-v1")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Every key of the token: label, algorithm, state, custody.
    #[command(after_help = "Examples:\n  countersign key list\n  countersign key list --json")]
    List,
    /// One key: attributes and what they mean, what it may do, its certificates.
    #[command(after_help = "Examples:\n  countersign key show bank-transaction-v1")]
    Show {
        /// The key's label.
        label: String,
    },
    /// Make a key for other programs at the signing service, or its next version.
    #[command(after_help = "\
Examples:
  countersign key generate --purpose external --name invoices
  countersign key generate --purpose external --name releases --algorithm ed25519
What may be signed with it, and by whom: [[signing.key]] of the configuration.")]
    Generate {
        /// The purpose: external.
        #[arg(long, value_parser = purpose)]
        purpose: Purpose,
        /// Its name: lower-case letters, digits or '-'.
        #[arg(long, value_name = "NAME")]
        name: String,
        /// p256, p384 or ed25519. Without it: as [hsm.<token>] algorithms says, else p256.
        #[arg(long, value_parser = algorithm, value_name = "ALGORITHM")]
        algorithm: Option<Algorithm>,
    },
    /// The public half of a key, for whoever verifies what it signed.
    #[command(after_help = "\
Examples:
  countersign key export bank-external.invoices-v1 > invoices.pem
  countersign key export bank-external.invoices-v1 --format jwk")]
    Export {
        /// The key's label.
        label: String,
        /// pem (SubjectPublicKeyInfo) or jwk (RFC 7517).
        #[arg(long, value_enum, default_value_t = PublicForm::Pem)]
        format: PublicForm,
    },
    /// Make the next version of a purpose's key, certify it, use it, and retire the one before.
    #[command(after_help = "\
Examples:
  countersign key rotate transaction
  countersign key rotate tls-server      # then start the daemon again
  # announced; now the other parties, agent hosts too, `trust add` certs/issuing.pem again
  countersign key rotate issuing
  # only when all of them have: used from now on; the CA before it goes on signing its lists
  countersign key rotate issuing --use
Not for root, agent and token-identity keys: the refusal says what to do instead.")]
    Rotate {
        /// The purpose: issuing, transaction, checkpoint, catalogue, revocation-receipt, ocsp-responder, manifest,
        /// token, witness, tls-server, tls-client, host-identity, vault-wrapping or data-wrapping.
        #[arg(value_parser = purpose)]
        purpose: Purpose,
        /// Of the issuing CA: the other parties trust the one that was announced; it issues from now on.
        #[arg(long = "use")]
        put_to_use: bool,
    },
    /// Make a key verify-only for good: the token itself refuses to sign or seal with it.
    #[command(after_help = "Examples:\n  countersign key retire agent-host-agent.shopper-v1")]
    Retire {
        /// The key's label.
        label: String,
    },
    /// Destroy a verify-only key. Without --confirm: say what would be lost and how to confirm.
    #[command(after_help = "\
Examples:
  countersign key destroy bank-transaction-v1
  countersign key destroy bank-transaction-v1 --confirm 1a2b3c4d5e6f")]
    Destroy {
        /// The key's label.
        label: String,
        /// What the first call printed: counts once, for 10 minutes.
        #[arg(long, value_name = "TOKEN")]
        confirm: Option<String>,
    },
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::List => {
            let list = context.call(AdminCall::KeyList {})?;
            context.print(&list, |list| table(list, COLUMNS, "the token has no keys"));
        }
        Verb::Show { label } => context.print(&context.call(AdminCall::KeyShow { label })?, shown),
        Verb::Generate { purpose, name, algorithm } => {
            context.print(&context.call(AdminCall::KeyGenerate { purpose, name, algorithm })?, shown);
        }
        Verb::Export { label, format } => {
            let key = context.call(AdminCall::KeyShow { label: label.clone() })?;
            let public = &key["public_key"];
            let wanted = match format {
                PublicForm::Pem => &public["pem"],
                PublicForm::Jwk => &public["jwk"],
            };
            if wanted.is_null() {
                return Err(Failure::refused(
                    "no_public_key",
                    format!("{label} has no public half in this form"),
                    "AES keys have none, and a JWK is of P-256, P-384 or Ed25519: try --format pem",
                ));
            }
            context.print(public, |_| wanted.as_str().map_or_else(|| format!("{wanted:#}"), str::to_owned));
        }
        Verb::Rotate { purpose, put_to_use } => {
            let call = match (purpose, put_to_use) {
                (Purpose::Issuing, true) => AdminCall::IssuingUse {},
                (_, false) => AdminCall::KeyRotate { purpose },
                (_, true) => {
                    return Err(Failure::usage(
                        "option_not_for_purpose",
                        format!("a new {} key is used at once", purpose.slug()),
                        "leave --use out: only an issuing CA is announced first",
                    ));
                }
            };
            context.print(&context.call(call)?, rotated);
        }
        Verb::Retire { label } => {
            let key = context.call(AdminCall::KeyRetire { label })?;
            context.print(&key, |key| format!("{} is {}", text(key, "label"), text(key, "state")));
        }
        Verb::Destroy { label, confirm } => {
            let answer = context.call(AdminCall::KeyDestroy { label, confirm })?;
            context.print(&answer, destroyed);
        }
    }
    Ok(())
}

/// How a public key is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum PublicForm {
    Pem,
    Jwk,
}

fn algorithm(word: &str) -> Result<Algorithm, String> {
    Algorithm::ALL.into_iter().find(|algorithm| algorithm.slug() == word).ok_or_else(|| {
        let known = Purpose::External.algorithms().iter().map(|algorithm| algorithm.slug());
        format!("an algorithm is one of {}", known.collect::<Vec<_>>().join(", "))
    })
}

const COLUMNS: &[(&str, &str)] =
    &[("LABEL", "label"), ("ALGORITHM", "algorithm"), ("STATE", "state"), ("CUSTODY", "custody"), ("ID", "id")];

fn purpose(word: &str) -> Result<Purpose, String> {
    Purpose::from_slug(word).ok_or_else(|| {
        let known: Vec<&str> = Purpose::ALL.into_iter().map(Purpose::slug).collect();
        format!("a purpose is one of {}", known.join(", "))
    })
}

fn shown(key: &Value) -> String {
    let mut lines = vec![
        text(key, "label").to_owned(),
        format!("  id        {}", text(key, "id")),
        format!("  algorithm {}", text(key, "algorithm")),
        format!("  state     {}", text(key, "state")),
        format!("  custody   {}: {}", text(key, "custody"), text(key, "verdict")),
    ];
    for name in ["sensitive", "always_sensitive", "never_extractable", "extractable", "local"] {
        lines.push(format!("            {name} = {}", key["attributes"][name]));
    }
    lines.push(format!("  may       {}", cell(&key["may"]).replace(',', ", ")));
    let certificates = key["certificates"].as_array().map(Vec::as_slice).unwrap_or_default();
    for certificate in certificates {
        lines.push(format!(
            "  certified {} until {} (serial {})",
            text(certificate, "subject"),
            text(certificate, "not_after"),
            text(certificate, "serial")
        ));
    }
    lines.join("\n")
}

fn rotated(answer: &Value) -> String {
    let retired = cell(&answer["retired"]);
    let mut lines = vec![match answer["effective"].as_str() {
        Some("announced") => format!("{} is announced and signs nothing yet", text(answer, "key")),
        Some(_) | None => format!("{} signs {}", text(answer, "key"), text(answer, "effective")),
    }];
    if let Some(until) = answer["before"]["needed_until"].as_str() {
        lines.push(format!("  before    {} signs revocation lists until {until}", text(&answer["before"], "key")));
    }
    if !retired.is_empty() {
        lines.push(format!("  retired   {retired}"));
    }
    if let Some(until) = answer["certificate"]["not_after"].as_str() {
        lines.push(format!("  certified until {until}"));
    }
    if let Some(next) = answer["next_step"].as_str() {
        lines.push(format!("  next      {next}"));
    }
    lines.join("\n")
}

fn destroyed(answer: &Value) -> String {
    let Some(confirm) = answer["confirm"].as_str() else {
        return format!("{} is {}", text(answer, "label"), text(answer, "state"));
    };
    let lost = answer["lost"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines = vec![format!("nothing was destroyed yet. Without {}:", text(answer, "key"))];
    lines.extend(lost.iter().map(|sentence| format!("  - {}", cell(sentence))));
    lines.push(format!("to destroy it, until {}:", text(answer, "until")));
    lines.push(format!("  countersign key destroy {} --confirm {confirm}", text(answer, "key")));
    lines.join("\n")
}
