//! `countersign cert …`: an agent's certificates, from the request to the verdict.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use crate::ca::{described, described_pair};
use crate::cli::cert_approve;
use crate::cli::cert_issue;
use crate::cli::cert_verify;
use crate::cli::context::Context;
use crate::cli::documents::{self, text};
use crate::cli::officer::{self, Officer};
use crate::cli::progress::Progress;
use crate::front::admin::AdminCall;
use crate::kernel::credential::operator::SignedApproval;
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::types::{AgentName, RoleName, SpiffeId};
use crate::ops::failure::Failure;

/// Request, endorse, issue, install, show and verify an agent's certificates.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
The way of an agent to its pair, step by step; docs/ENROLMENT.md has all that comes before:
  # agent host
  countersign cert request shopper --role purchaser --out shopper.req.json
  # security company
  countersign cert endorse --request shopper.req.json --as ./carol --out shopper.S.pem
  # agent host
  countersign cert request shopper --role purchaser --endorsement shopper.S.pem \\
      --out shopper.req2.json
  # bank
  countersign cert issue --request shopper.req2.json --as ./dora --out shopper.B.pem
  # agent host
  countersign cert install shopper --bank shopper.B.pem --endorsement shopper.S.pem

A bank whose [peer] url is set fetches S itself: its officer runs, in place of `cert endorse`,
  countersign cert issue --request shopper.req.json --as ./dora --out shopper.S.pem
once before and once after the security company's officer has approved there:
  countersign cert pending
  countersign cert approve shopper --role purchaser --as ./carol \\
      --key 6e08c2e98556c2332769b7ac7ce443512851e4d0681e8b03b6c3a245ab81bf06")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// At the agent host: make a request; the agent's key is generated in the token on first use.
    #[command(after_help = "\
Examples:
  countersign cert request shopper --role purchaser --out shopper.req.json
  countersign cert request shopper --role purchaser --endorsement shopper.S.pem \\
      --out shopper.req2.json
The first one asks for S, the second one, with S in it, for B. Repeating is harmless: the key stays.")]
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
    #[command(after_help = "\
Example:
  countersign cert endorse --request shopper.req.json --as ./carol --out shopper.S.pem
For a request that came as a file. What banks ask for over the network is in `cert pending`; there
an officer's `cert approve` is all that is needed.")]
    Endorse(Exchange),
    /// At the bank: issue an agent's certificate (B), bound to the endorsement in the request; or the agent's whole way
    /// to its pair, where all parties are on this machine.
    #[command(after_help = "\
Examples:
  countersign cert issue --request shopper.req.json --as ./dora --out shopper.S.pem
  countersign cert issue --request shopper.req2.json --as ./dora --out shopper.B.pem
  countersign cert issue shopper --role purchaser --endorse-as ./carol --issue-as ./dora \\
      --state ./bank
The first form has a request without S: the bank asks the security company at [peer] url for S, and
S is what is written. Exit code 5 means that no officer there has approved yet: repeat it later.
The second form has a request with S in it (`cert request --endorsement`): B is written.
The third form runs request, endorsement, proof, certificate and installation, with two officers'
signatures; it finds the security company in ../secco and the agent host in ../agent beside the
bank's state directory unless --company and --host name them. Repeating any form is harmless.")]
    Issue(IssueArgs),
    /// At the bank or the security company: let an agent be certified over a key before it asks.
    Approve(cert_approve::Args),
    /// At the bank or the security company: what officers have approved, and what became of it.
    #[command(after_help = "Examples:\n  countersign cert approvals\n  countersign cert approvals --json")]
    Approvals,
    /// At the bank or the security company: end an approval; no certificate follows it any more, renewals included.
    Disapprove(cert_approve::DisapproveArgs),
    /// At the agent host: check the pair and put it where the bridge finds it.
    #[command(after_help = "\
Example:
  countersign cert install shopper --bank shopper.B.pem --endorsement shopper.S.pem")]
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
    /// At the agent host: fresh certificates over the same key, asked for at the bank's peer listener. The daemon does it
    /// by itself at two thirds of their life.
    #[command(after_help = "\
Example:
  countersign cert renew shopper
Before they are due the parties answer with the certificates that there are; nothing changes then.")]
    Renew {
        /// The agent's name.
        name: AgentName,
    },
    /// At the security company: what other parties asked for, and which of it waits for an officer.
    #[command(after_help = "Examples:\n  countersign cert pending\n  countersign cert pending --json")]
    Pending,
    /// At the bank: give an issuance up that is not complete; the security company revokes its endorsement.
    #[command(after_help = "Example:\n  countersign cert abandon shopper")]
    Abandon {
        /// The agent's name.
        name: AgentName,
    },
    /// List this party's certificates, or the pairs installed at an agent host.
    #[command(after_help = "Examples:\n  countersign cert list\n  countersign cert list --json")]
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
    /// The officer's own state directory: the officer's key signs the approval. Not needed when one stands.
    #[arg(long = "as", value_name = "DIR")]
    officer: Option<PathBuf>,
    /// How long the approval stands, in days; renewals included.
    #[arg(long, default_value_t = officer::DAYS, requires = "officer")]
    days: u32,
}

#[derive(ClapArgs, Debug)]
struct IssueArgs {
    /// The agent's name: for its whole way to the pair.
    #[arg(requires_all = ["role", "endorse_as", "issue_as"], conflicts_with_all = ["request", "out", "officer"])]
    name: Option<AgentName>,
    /// A role of the signed catalogue.
    #[arg(long, requires = "name")]
    role: Option<RoleName>,
    /// The state directory of the officer who endorses.
    #[arg(long, value_name = "DIR", requires = "name")]
    endorse_as: Option<PathBuf>,
    /// The state directory of the officer who issues.
    #[arg(long, value_name = "DIR", requires = "name")]
    issue_as: Option<PathBuf>,
    /// The security company's state directory.
    #[arg(long, value_name = "DIR", requires = "name")]
    company: Option<PathBuf>,
    /// The agent host's state directory.
    #[arg(long, value_name = "DIR", requires = "name")]
    host: Option<PathBuf>,
    /// The request as `cert request` wrote it (JSON): with --endorsement for B, without for S.
    #[arg(long, required_unless_present = "name", requires = "out")]
    request: Option<PathBuf>,
    /// Where the certificate goes (PEM): B, or S when the request has none in it.
    #[arg(long, requires = "request")]
    out: Option<PathBuf>,
    /// The officer's own state directory: the officer's key signs the approval. Not needed when one stands.
    #[arg(long = "as", value_name = "DIR", requires = "request")]
    officer: Option<PathBuf>,
    /// How long the approvals stand, in days; renewals included.
    #[arg(long, default_value_t = officer::DAYS)]
    days: u32,
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures; `document_unreadable`, `document_malformed`, `document_unwritable`; for `verify` the
/// names of the acceptance rule.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Request { name, role, out, endorsement } => request(context, name, role, &out, endorsement.as_deref()),
        Verb::Endorse(Exchange { request, out, officer, days }) => {
            let request = documents::read_json(&request)?;
            let approval = approval(context, &request, officer.as_deref(), days)?;
            certificate(context, AdminCall::CertEndorse { request, approval }, &out)
        }
        Verb::Issue(args) => issue(context, args),
        Verb::Approve(args) => cert_approve::approve(args, context),
        Verb::Approvals => cert_approve::list(context),
        Verb::Disapprove(args) => cert_approve::disapprove(args, context),
        Verb::Install { name, bank, endorsement } => install(context, name, &bank, &endorsement),
        Verb::Renew { name } => {
            let before = context.call(AdminCall::CertShow { name: name.clone() })?;
            let mut installed = context.call(AdminCall::CertRenew { name })?;
            let changed = installed["not_after"] != before["bank"]["not_after"]
                || installed["fingerprints"][0] != before["bank"]["fingerprint"];
            installed["changed"] = changed.into();
            context.print(&installed, |installed| {
                let (agent, end) = (text(installed, "spiffe_id"), text(installed, "not_after"));
                if changed {
                    format!("renewed {agent}\n  until {end}")
                } else {
                    format!("{agent} was not due yet: its certificates stay\n  until {end}")
                }
            });
            Ok(())
        }
        Verb::Pending => {
            let list = context.call(AdminCall::CertPending {})?;
            context.print(&list, pending_text);
            Ok(())
        }
        Verb::Abandon { name } => {
            let list = context.call(AdminCall::CertAbandon { name })?;
            context.print(&list, requests_text);
            Ok(())
        }
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
    let next = if endorsement_pem.is_some() {
        "the bank: `cert issue` answers with B"
    } else {
        "the bank: `cert issue` fetches S where [peer] is set; else the security company: `cert endorse`"
    };
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

/// The officer's approval of whom the request is about, when an officer is named.
fn approval(
    context: &Context,
    request: &Value,
    officer: Option<&Path>,
    days: u32,
) -> Result<Option<SignedApproval>, Failure> {
    let Some(directory) = officer else {
        return Ok(None);
    };
    let (agent, key) = officer::subject_of(request)?;
    let (party, _) = officer::party_of(context)?;
    Officer::of(directory, context.json).approve(party, agent, key, days).map(Some)
}

fn issue(context: &Context, args: IssueArgs) -> Result<(), Failure> {
    let IssueArgs { name, role, endorse_as, issue_as, company, host, request, out, officer, days } = args;
    if let Some((request, out)) = request.zip(out) {
        let request = documents::read_json(&request)?;
        let approval = approval(context, &request, officer.as_deref(), days)?;
        return certificate(context, AdminCall::CertIssue { request, approval }, &out);
    }
    let whole = name.zip(role).zip(endorse_as.zip(issue_as));
    let Some(((name, role), (endorse_as, issue_as))) = whole else {
        unreachable!("clap demands a request, or a name with role and officers")
    };
    let beside = |party: &str| context.state.root().join("..").join(party);
    let parties = cert_issue::Parties {
        host: host.unwrap_or_else(|| beside("agent")),
        company: company.unwrap_or_else(|| beside("secco")),
        endorse_as,
        issue_as,
    };
    let mut progress = Progress::new(context);
    let issued = cert_issue::run(context, &name, &role, &parties, days, |step| progress.say(|| step.to_owned()))?;
    context.print(&issued, |issued| {
        let installed = &issued["installed"];
        format!(
            "{} has its pair\n  key      {}\n  custody  {}\n  until    {}",
            text(issued, "agent"),
            text(installed, "key"),
            text(installed, "custody"),
            text(installed, "not_after"),
        )
    });
    Ok(())
}

fn requests_text(list: &Value) -> String {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return "no requests".into();
    }
    let lines = items.iter().map(|item| {
        format!(
            "{} {:<10} {}\n  key {}",
            text(item, "request_id"),
            text(item, "state"),
            text(item, "agent"),
            text(item, "key"),
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What waits for an officer first, with what the officer runs; then what came of the others.
fn pending_text(list: &Value) -> String {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (waiting, others): (Vec<&Value>, Vec<&Value>) = items.iter().partition(|item| item["state"] == "pending");
    if waiting.is_empty() {
        let others = if others.is_empty() { String::new() } else { requests_text(&json!({ "items": others })) };
        return format!("no request waits for an officer\n{others}");
    }
    let mut out = String::new();
    for item in &waiting {
        out.push_str(&requests_text(&json!({ "items": [item] })));
        if let Ok(agent) = text(item, "agent").parse::<SpiffeId>() {
            out.push_str(&format!(
                "\n  next: countersign cert approve {} --role {} --key {} --as OFFICER\n",
                agent.name(),
                agent.role(),
                text(item, "key"),
            ));
        }
    }
    if !others.is_empty() {
        out.push_str(&requests_text(&json!({ "items": others })));
    }
    out
}

/// Writes the certificate that was asked for; at a bank that asked the security company for an endorsement, that one.
fn certificate(context: &Context, call: AdminCall, out: &Path) -> Result<(), Failure> {
    let issued = context.call(call)?;
    if let Some(endorsement) = issued["endorsement_pem"].as_str() {
        documents::write(out, endorsement)?;
        context.print(&issued, |issued| {
            format!(
                "the security company has endorsed {}\nits certificate S is written to {}\nnext: at the agent host, \
                 `countersign cert request … --endorsement {}`; then `cert issue` with that request",
                text(issued, "agent"),
                out.display(),
                out.display(),
            )
        });
        return Ok(());
    }
    documents::write(out, text(&issued, "certificate_pem"))?;
    context.print(&issued, |issued| format!("{}\nwritten to {}", certificate_text(issued), out.display()));
    Ok(())
}

fn install(context: &Context, name: AgentName, bank: &Path, endorsement: &Path) -> Result<(), Failure> {
    let (bank_pem, endorsement_pem) = (documents::read(bank)?, documents::read(endorsement)?);
    if is_bank_s(&endorsement_pem) && !is_bank_s(&bank_pem) {
        return Err(Failure::usage(
            "certificates_swapped",
            format!("{} is the bank's certificate B, and {} is not", endorsement.display(), bank.display()),
            "give B with --bank and S with --endorsement",
        ));
    }
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

/// Whether a file is an agent's certificate by a bank: S has a usage of its own.
fn is_bank_s(text: &str) -> bool {
    let der = pem::decode_one(Kind::Certificate, text).ok();
    der.is_some_and(|der| described(&der)["extended_key_usage"] == json!(["clientAuth"]))
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
        let mut shown = context.call(AdminCall::CertShow { name })?;
        for certificate in shown["certificates"].as_array_mut().into_iter().flatten() {
            complete(certificate);
        }
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

/// What the certificate itself says, next to what the party's record of it does.
fn complete(record: &mut Value) {
    let der = record["certificate_pem"].as_str().and_then(|text| pem::decode_one(Kind::Certificate, text).ok());
    let said = der.map(|der| described(&der)).unwrap_or_default();
    for (name, value) in said.as_object().into_iter().flatten() {
        if record[name].is_null() {
            record[name] = value.clone();
        }
    }
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
