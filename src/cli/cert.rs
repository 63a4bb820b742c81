//! `countersign cert …`: an agent's certificates, from the request to the verdict.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use crate::ca::{described, described_pair};
use crate::cli::cert_verify;
use crate::cli::context::Context;
use crate::cli::documents::{self, text};
use crate::front::admin::AdminCall;
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::types::{AgentName, RoleName};
use crate::ops::failure::Failure;

/// Request, endorse, issue, install, show and verify an agent's certificates.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
The way of an agent to its pair (S travels as a file):
  agent host        countersign cert request shopper --role purchaser --out shopper.req.json
  security company  countersign cert endorse --request shopper.req.json --out shopper.S.pem
  agent host        countersign cert request shopper --role purchaser --endorsement shopper.S.pem --out shopper.req2.json
  bank              countersign cert issue --request shopper.req2.json --out shopper.B.pem
  agent host        countersign cert install shopper --bank shopper.B.pem --endorsement shopper.S.pem")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// At the agent host: make a request; the agent's key is generated in the token on first use.
    Request {
        /// The agent's name, a DNS label.
        name: AgentName,
        /// A role of the signed catalogue.
        #[arg(long)]
        role: RoleName,
        /// Where the request goes (JSON).
        #[arg(long)]
        out: PathBuf,
        /// The security company's certificate S: makes the request one for the bank.
        #[arg(long)]
        endorsement: Option<PathBuf>,
    },
    /// At the security company: endorse an agent (certificate S).
    Endorse(Exchange),
    /// At the bank: issue an agent's certificate (B), bound to the endorsement in the request.
    Issue(Exchange),
    /// At the agent host: check the pair and put it where the bridge finds it.
    Install {
        /// The agent's name.
        name: AgentName,
        /// The bank's certificate B (PEM).
        #[arg(long)]
        bank: PathBuf,
        /// The security company's certificate S (PEM).
        #[arg(long)]
        endorsement: PathBuf,
    },
    /// List this party's certificates, or the pairs installed at an agent host.
    List,
    /// Show an agent's certificates by name, or what certificate files say.
    #[command(after_help = "Examples:\n  countersign cert show shopper\n  countersign cert show B.pem S.pem")]
    Show {
        /// An agent's name, or files in PEM.
        #[arg(required = true)]
        what: Vec<String>,
    },
    /// Judge a pair without a daemon. Exit code 0: acceptable; 3: refused, with the rule that it breaks.
    Verify(cert_verify::Args),
}

#[derive(ClapArgs, Debug)]
struct Exchange {
    /// The request as `cert request` wrote it (JSON).
    #[arg(long)]
    request: PathBuf,
    /// Where the certificate goes (PEM).
    #[arg(long)]
    out: PathBuf,
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures; `document_unreadable`, `document_malformed`, `document_unwritable`; for `verify` the
/// names of the acceptance rule.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Request { name, role, out, endorsement } => request(context, name, role, &out, endorsement.as_deref()),
        Verb::Endorse(exchange) => {
            let request = documents::read_json(&exchange.request)?;
            certificate(context, AdminCall::CertEndorse { request }, &exchange.out)
        }
        Verb::Issue(exchange) => {
            let request = documents::read_json(&exchange.request)?;
            certificate(context, AdminCall::CertIssue { request }, &exchange.out)
        }
        Verb::Install { name, bank, endorsement } => install(context, name, &bank, &endorsement),
        Verb::List => {
            let list = context.call(AdminCall::CertList {})?;
            context.print(&list, list_text);
            Ok(())
        }
        Verb::Show { what } => show(context, &what),
        Verb::Verify(args) => cert_verify::run(args, context),
    }
}

fn request(
    context: &Context,
    name: AgentName,
    role: RoleName,
    out: &Path,
    endorsement: Option<&Path>,
) -> Result<(), Failure> {
    let endorsement_pem = endorsement.map(documents::read).transpose()?;
    let next =
        if endorsement_pem.is_some() { "the bank: `cert issue`" } else { "the security company: `cert endorse`" };
    let request = context.call(AdminCall::CertRequest { name, role, endorsement_pem })?;
    documents::write(out, &format!("{request:#}\n"))?;
    context.print(&request, |request| {
        let statement = &request["custody"]["statement"];
        format!(
            "request for {} (role {}) written to {}\n  key   {}\n  token {}\n  next  {next}",
            text(request, "name"),
            text(request, "role"),
            out.display(),
            text(statement, "agent_key"),
            text(statement, "token_serial"),
        )
    });
    Ok(())
}

fn certificate(context: &Context, call: AdminCall, out: &Path) -> Result<(), Failure> {
    let issued = context.call(call)?;
    documents::write(out, text(&issued, "certificate_pem"))?;
    context.print(&issued, |issued| format!("{}\nwritten to {}", certificate_text(issued), out.display()));
    Ok(())
}

fn install(context: &Context, name: AgentName, bank: &Path, endorsement: &Path) -> Result<(), Failure> {
    let (bank_pem, endorsement_pem) = (documents::read(bank)?, documents::read(endorsement)?);
    let installed = context.call(AdminCall::CertInstall { name, bank_pem, endorsement_pem })?;
    context.print(&installed, |installed| {
        format!(
            "installed {}\n  identity {}\n  key      {}\n  custody  {}\n  until    {}",
            text(installed, "name"),
            text(installed, "spiffe_id"),
            text(installed, "key"),
            text(installed, "custody"),
            text(installed, "not_after"),
        )
    });
    Ok(())
}

fn show(context: &Context, what: &[String]) -> Result<(), Failure> {
    if let [name] = what
        && !Path::new(name).exists()
    {
        let name: AgentName = name.parse().map_err(|error| {
            Failure::usage(
                "document_unreadable",
                format!("{name} is neither a file nor an agent's name: {error}"),
                "name an agent or give certificate files",
            )
        })?;
        let shown = context.call(AdminCall::CertShow { name })?;
        context.print(&shown, shown_text);
        return Ok(());
    }
    let certificates = read_certificates(what.iter().map(Path::new))?;
    let shown = match certificates.as_slice() {
        [bank, endorsement] => described_pair(bank, endorsement),
        all => json!({ "certificates": all.iter().map(|der| described(der)).collect::<Vec<_>>() }),
    };
    context.print(&shown, shown_text);
    Ok(())
}

fn read_certificates<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<Vec<Vec<u8>>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        let text = documents::read(path)?;
        found.extend(pem::decode_all(Kind::Certificate, &text).map_err(|error| {
            Failure::usage("document_malformed", format!("{}: {error}", path.display()), "give certificates in PEM")
        })?);
    }
    Ok(found)
}

fn certificate_text(value: &Value) -> String {
    format!(
        "{}\n  serial      {}\n  issuer      {}\n  key         {}\n  valid       {} to {}\n  fingerprint {}",
        text(value, "subject"),
        text(value, "serial"),
        text(value, "issuer"),
        text(value, "key"),
        text(value, "not_before"),
        text(value, "not_after"),
        text(value, "fingerprint"),
    )
}

fn shown_text(value: &Value) -> String {
    if let Some(certificates) = value["certificates"].as_array() {
        return certificates.iter().map(certificate_text).collect::<Vec<_>>().join("\n\n");
    }
    let binding = &value["binding"];
    let matches = if binding["matches"] == true { "is that of S" } else { "is NOT that of S" };
    format!(
        "B, by the bank: {}\n\nS, by the security company: {}\n\nbinding (RFC 9763): SHA-256 {} {matches}",
        certificate_text(&value["bank"]),
        certificate_text(&value["endorsement"]),
        text(binding, "hash_of_endorsement"),
    )
}

fn list_text(list: &Value) -> String {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return "no certificates".into();
    }
    let lines = items.iter().map(|item| {
        format!(
            "{:<19} {:<10} {} until {}  {}",
            text(item, "profile"),
            text(item, "status"),
            text(item, "serial"),
            text(item, "not_after"),
            text(item, "subject"),
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}
