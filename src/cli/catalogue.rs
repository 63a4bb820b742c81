//! `countersign catalogue …`: what a role may do, signed by both parties.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::documents::{self, text};
use crate::front::admin::AdminCall;
use crate::kernel::catalogue::{CatalogueSignature, SignedCatalogue};
use crate::kernel::credential::certificate::Certificate;
use crate::mcp::server::tool_names;
use crate::ops::failure::Failure;

/// Sign, install and show the role catalogue.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Each party signs in turn; the bank puts the catalogue in force:
  security company  countersign catalogue sign catalogue.json --out half.json
  bank              countersign catalogue sign half.json --out whole.json
  bank              countersign catalogue diff whole.json
  bank              countersign catalogue install whole.json

A catalogue before its first signature:
  {\"schema\": \"countersign/role-catalogue/v1\", \"version\": 1,
   \"roles\": [{\"role\": \"purchaser\", \"tools\": [\"list_accounts\", \"authorize_purchase\"]}]}
It may have \"valid_from\" and \"valid_until\" (\"2027-01-01T00:00:00.000Z\"). In force it stays when a
signer's certificate ends, until its own valid_until or a newer version. A version that a party has
signed is taken: what differs needs a higher one. The bank's [policy] deny_tools and only_tools
narrow it. The security company installs it too, to know the roles it endorses.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Add this party's signature.
    #[command(after_help = "\
Examples:
  countersign catalogue sign catalogue.json --out half.json
  countersign catalogue sign half.json --out whole.json")]
    Sign {
        /// The catalogue, bare or signed by the other party (JSON).
        catalogue: PathBuf,
        /// Where the signed catalogue goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Put a catalogue with both signatures in force.
    #[command(after_help = "Example:\n  countersign catalogue install whole.json")]
    Install {
        /// The signed catalogue (JSON).
        catalogue: PathBuf,
    },
    /// Show the catalogue in force here: version, roles, signers, what it changed.
    #[command(after_help = "Examples:\n  countersign catalogue show\n  countersign catalogue show --json")]
    Show,
    /// What a catalogue changes against the one in force, or that one against the one before it.
    #[command(after_help = "Examples:\n  countersign catalogue diff whole.json\n  countersign catalogue diff")]
    Diff {
        /// A catalogue, bare or signed (JSON); left out: the one in force against the one before.
        catalogue: Option<PathBuf>,
    },
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures; `catalogue_missing`, `catalogue_tool_unknown`; `document_unreadable`, `document_malformed`, `document_unwritable`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Sign { catalogue, out } => {
            let path = catalogue;
            let catalogue = documents::read_json(&path)?;
            known_tools(&path, &catalogue)?;
            let signed = context.call(AdminCall::CatalogueSign { catalogue })?;
            documents::write(&out, &format!("{signed:#}\n"))?;
            context.print(&signed, |signed| format!("{}written to {}", catalogue_text(signed), out.display()));
        }
        Verb::Install { catalogue } => {
            let catalogue = documents::read_json(&catalogue)?;
            let installed = context.call(AdminCall::CatalogueInstall { catalogue })?;
            context.print(&installed, |installed| {
                let state = if installed["changed"] == true { "is in force" } else { "was in force already" };
                let first = if installed["changes"].is_null() { "; it is the first one here" } else { "" };
                format!("role catalogue version {} {state}{first}{}", installed["version"], changes_text(installed))
            });
        }
        Verb::Show => {
            let signed = in_force(context)?;
            let mut shown = json!(signed);
            for (place, signature) in signed.signatures.iter().enumerate() {
                shown["signatures"][place]["signer"] = signer(signature);
            }
            shown["changes"] = json!(before(context)?.map(|before| signed.catalogue.changes_since(&before.catalogue)));
            context.print(&shown, catalogue_text);
        }
        Verb::Diff { catalogue } => {
            let (old, new) = match catalogue {
                Some(path) => (known(context)?, read(&path)?),
                None => (before(context)?, in_force(context)?),
            };
            let changes = old.as_ref().map(|old| new.catalogue.changes_since(&old.catalogue));
            let answer = json!({
                "from": old.map(|old| old.catalogue.version),
                "to": new.catalogue.version,
                "changes": changes,
            });
            context.print(&answer, |answer| {
                let from = match answer["from"].as_u64() {
                    Some(version) => format!("version {version}"),
                    None => "none: every role in it is new".to_owned(),
                };
                format!("role catalogue version {} against {from}{}", answer["to"], changes_text(answer))
            });
        }
    }
    Ok(())
}

/// A name that no tool has is signed by nobody: the version would be taken, and the role without its tool.
fn known_tools(path: &Path, document: &Value) -> Result<(), Failure> {
    let Ok(signed) = SignedCatalogue::read(document) else {
        // What is wrong with it is for the daemon to say.
        return Ok(());
    };
    let known = tool_names();
    let named = signed.catalogue.roles.iter().flat_map(|entry| entry.tools.iter().map(ToString::to_string));
    match named.into_iter().find(|tool| !known.contains(tool)) {
        None => Ok(()),
        Some(tool) => Err(Failure::usage(
            "catalogue_tool_unknown",
            format!("{} names a tool that the bank does not have: {tool}", path.display()),
            format!("nothing is signed yet: name tools among {}", known.join(", ")),
        )),
    }
}

/// The catalogue in force here, as it is on disk.
fn in_force(context: &Context) -> Result<SignedCatalogue, Failure> {
    known(context)?.ok_or_else(|| {
        Failure::refused(
            "catalogue_missing",
            "no role catalogue is in force here",
            "have both parties sign one and `countersign catalogue install` it; see `countersign catalogue --help`",
        )
    })
}

/// The same, where there is one.
fn known(context: &Context) -> Result<Option<SignedCatalogue>, Failure> {
    on_disk(&context.state.certs().join("catalogue.json"))
}

/// The one that was in force before it.
fn before(context: &Context) -> Result<Option<SignedCatalogue>, Failure> {
    on_disk(&context.state.certs().join("catalogue-before.json"))
}

/// A file that may not be there; one that may not be seen is another matter.
fn on_disk(path: &Path) -> Result<Option<SignedCatalogue>, Failure> {
    match path.try_exists() {
        Ok(false) => Ok(None),
        Ok(true) | Err(_) => read(path).map(Some),
    }
}

fn read(path: &Path) -> Result<SignedCatalogue, Failure> {
    SignedCatalogue::read(&documents::read_json(path)?).map_err(|error| {
        Failure::usage(
            "document_malformed",
            format!("{} is no role catalogue: {error}", path.display()),
            "give a catalogue, bare or signed; see `countersign catalogue --help`",
        )
    })
}

/// Whose certificate a signature carries, and until when.
fn signer(signature: &CatalogueSignature) -> Value {
    let own = signature.chain.first().and_then(|text| BASE64_STANDARD.decode(text).ok());
    let own = own.as_deref().and_then(|der| Certificate::read(der).ok());
    own.map_or(
        Value::Null,
        |own| json!({ "subject": own.tbs.common_name(), "not_after": own.tbs.not_after.at.rfc3339() }),
    )
}

fn changes_text(answer: &Value) -> String {
    // Nothing was in force before, or so it was already.
    if answer["changes"].is_null() || (answer["changed"] == false) {
        return String::new();
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let lines: Vec<String> = list(&answer["changes"])
        .iter()
        .map(|role| {
            let signed = |sign: &str, member: &str| {
                let tools = list(&role[member]);
                tools.iter().map(|tool| format!(" {sign}{}", tool.as_str().unwrap_or_default())).collect::<String>()
            };
            let (added, removed) = (signed("+", "tools_added"), signed("-", "tools_removed"));
            format!("\n  {} {}:{added}{removed}", text(role, "role"), text(role, "change"))
        })
        .collect();
    if lines.is_empty() { "\n  no role changes".to_owned() } else { lines.concat() }
}

fn catalogue_text(signed: &Value) -> String {
    let catalogue = &signed["catalogue"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut out = format!("role catalogue version {}\n", catalogue["version"]);
    for entry in list(&catalogue["roles"]) {
        let tools: Vec<String> =
            list(&entry["tools"]).iter().filter_map(|tool| tool.as_str().map(str::to_owned)).collect();
        out.push_str(&format!("  {}: {}\n", text(&entry, "role"), tools.join(", ")));
    }
    for (member, word) in [("valid_from", "from"), ("valid_until", "until")] {
        if let Some(at) = catalogue[member].as_str() {
            out.push_str(&format!("  in force {word} {at}\n"));
        }
    }
    let signers: Vec<String> = list(&signed["signatures"])
        .iter()
        .map(|signature| match signature["signer"]["not_after"].as_str() {
            Some(end) => {
                format!("{} ({} until {})", text(signature, "party"), text(&signature["signer"], "subject"), end)
            }
            None => text(signature, "party").to_owned(),
        })
        .collect();
    out.push_str(&format!("signed by: {}\n", signers.join(", ")));
    if signed["changes"].is_array() {
        out.push_str(&format!("against the one before:{}\n", changes_text(signed)));
    }
    out
}
