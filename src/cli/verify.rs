//! `countersign verify`: checks evidence offline. No daemon, no token, no network; only the bank's root.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use x509_parser::pem::Pem;

use crate::cli::context::Context;
use crate::cli::documents;
use crate::cli::verify_approval;
use crate::cli::verify_bundle;
use crate::cli::verify_log;
use crate::cli::verify_signature;
use crate::config::Config;
use crate::kernel::cosignature::{Anchored, Cosigner};
use crate::kernel::credential::custody::EnrolledHost;
use crate::kernel::custody_report::{self, Trust, VerifiedReport};
use crate::kernel::receipt::{RECEIPT_BYTES_MAX, ReceiptRefusal, ReceiptVerdict, verify_witnessed};
use crate::kernel::revocation_receipt;
use crate::kernel::types::{Money, Sha256};
use crate::ops::failure::Failure;

/// Verify evidence offline
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign verify receipt receipt.json --root bank-root.pem
  countersign verify receipt receipt.json --root bank-root.pem --witness-root secco-root.pem
  countersign verify bundle payment.tar --root bank-root.pem
  countersign verify export november.csv --root bank-root.pem
  countersign verify approval approval.json --root bank-root.pem --issuing bank-issuing.pem
  countersign verify custody-report custody.json --root bank-root.pem
  countersign verify log bank-log --root bank-root.pem
  countersign verify proof leaf-42.tlog-proof --root bank-root.pem
  countersign verify signature app.tar.gz.jws --key releases.pem --file app.tar.gz
  countersign verify revocation revocation-01K….json --root bank-root.pem")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Verify a receipt: exit code 0 when it proves the transaction, 3 when a rule refuses it
    #[command(after_help = "Examples:
  countersign verify receipt receipt.json --root bank-root.pem
  countersign verify receipt receipt.json --root bank-root.pem --witness-root secco-root.pem
  countersign verify receipt receipt.json --json")]
    Receipt {
        /// The receipt, as `receipt show --out` wrote it, JSON or text
        file: PathBuf,
        /// The bank's root certificate, PEM [default: certs/root.pem or anchors/bank-root.pem of the state directory]
        #[arg(long, value_name = "PEM")]
        root: Option<PathBuf>,
        /// The root of a witness that must have cosigned, PEM: the security company's
        #[arg(long, value_name = "PEM")]
        witness_root: Option<PathBuf>,
        /// Base of the private OIDs [default: pki.oid_base of the state directory, else 1.3.6.1.4.1.32473]
        #[arg(long, value_name = "OID")]
        oid_base: Option<String>,
    },
    /// Verify the proof of a leaf of the log, and show the leaf: exit code 3 when a rule refuses it
    #[command(after_help = "Examples:
  countersign audit prove 42 --out leaf-42.tlog-proof
  countersign verify proof leaf-42.tlog-proof --root bank-root.pem")]
    Proof {
        /// The proof, as `audit prove` wrote it
        file: PathBuf,
        /// The party's root certificate, PEM [default: certs/root.pem of the state directory]
        #[arg(long, value_name = "PEM")]
        root: Option<PathBuf>,
        /// The root of a witness that must have cosigned, PEM: the security company's
        #[arg(long, value_name = "PEM")]
        witness_root: Option<PathBuf>,
        /// Base of the private OIDs [default: pki.oid_base of the state directory, else 1.3.6.1.4.1.32473]
        #[arg(long, value_name = "OID")]
        oid_base: Option<String>,
    },
    /// Verify the evidence of one payment: every part of it, and that all speak of the same payment
    #[command(after_help = "Examples:
  countersign audit bundle txn_01JD0000000000000000000000 --out payment.tar
  countersign verify bundle payment.tar --root bank-root.pem")]
    Bundle {
        /// The archive, as `audit bundle` wrote it
        file: PathBuf,
        /// The party's root certificate, PEM [default: certs/root.pem of the state directory]
        #[arg(long, value_name = "PEM")]
        root: Option<PathBuf>,
        /// The root of a witness that must have cosigned, PEM: the security company's
        #[arg(long, value_name = "PEM")]
        witness_root: Option<PathBuf>,
        /// Base of the private OIDs [default: pki.oid_base of the state directory, else 1.3.6.1.4.1.32473]
        #[arg(long, value_name = "OID")]
        oid_base: Option<String>,
    },
    /// Verify what the signing service signed, with the public key alone: exit code 3 when a rule refuses it
    #[command(after_help = "Examples:
  countersign key export bank-external.releases-v1 > releases.pem
  countersign verify signature app.tar.gz.jws --key releases.pem --file app.tar.gz
  countersign verify signature proofs/app.deb.proof.json --key releases.pem --file app.deb")]
    Signature {
        /// The JWS, the proof of an item of a Merkle tree, or what `sign --json` answered
        signature: PathBuf,
        /// The public key: PEM, a certificate over it, a JWK or a set of them
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The file that was signed, to be compared
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Verify a file that `audit search --out` wrote, with the signed note beside it
    #[command(after_help = "Examples:
  countersign audit search --since 2026-11-01 --out november.csv --format csv
  countersign verify export november.csv --root bank-root.pem")]
    Export {
        /// The file; its note is FILE.note
        file: PathBuf,
        /// The note, when it is elsewhere
        #[arg(long, value_name = "FILE")]
        note: Option<PathBuf>,
        /// The party's root certificate, PEM [default: certs/root.pem of the state directory]
        #[arg(long, value_name = "PEM")]
        root: Option<PathBuf>,
        /// Base of the private OIDs [default: pki.oid_base of the state directory, else 1.3.6.1.4.1.32473]
        #[arg(long, value_name = "OID")]
        oid_base: Option<String>,
    },
    /// Verify a copy of a log: the tree rebuilt from its entries, each tile, the checkpoint's signature
    #[command(after_help = "Examples:
  countersign audit export bank-log
  countersign verify log bank-log --root bank-root.pem")]
    Log {
        /// The directory, as `audit export` wrote it
        directory: PathBuf,
        /// The party's root certificate, PEM [default: certs/root.pem of the state directory]
        #[arg(long, value_name = "PEM")]
        root: Option<PathBuf>,
        /// The root of a witness that must have cosigned, PEM: the security company's
        #[arg(long, value_name = "PEM")]
        witness_root: Option<PathBuf>,
        /// Base of the private OIDs [default: pki.oid_base of the state directory, else 1.3.6.1.4.1.32473]
        #[arg(long, value_name = "OID")]
        oid_base: Option<String>,
    },
    /// Verify the receipt of a revocation or a freeze: exit code 0 when its party said so, 3 when a rule refuses it
    #[command(after_help = "Examples:
  countersign verify revocation receipts/revocation-01K….json --root bank-root.pem")]
    Revocation {
        /// The receipt, as it is in the party's receipts/
        file: PathBuf,
        /// The party's root certificate, PEM [default: certs/root.pem of the state directory]
        #[arg(long, value_name = "PEM")]
        root: Option<PathBuf>,
        /// Base of the private OIDs [default: pki.oid_base of the state directory, else 1.3.6.1.4.1.32473]
        #[arg(long, value_name = "OID")]
        oid_base: Option<String>,
    },
    /// Verify what people signed about a payment: exit code 0 when their keys did, 3 when a rule refuses it
    #[command(after_help = "Examples:
  countersign approvals show apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX --json > approval.json
  countersign verify approval approval.json --root bank-root.pem --issuing bank-issuing.pem
  countersign verify approval approval.json --root root.pem --issuing 2026.pem --issuing 2027.pem")]
    Approval(verify_approval::Args),
    /// Verify a custody report: exit code 0 when its signer said it, 3 when a rule refuses it
    #[command(after_help = "Examples:
  countersign verify custody-report custody.json --root bank-root.pem
  countersign verify custody-report custody.json --host host.json")]
    CustodyReport {
        /// The report, as `custody report --out` wrote it
        file: PathBuf,
        /// The party's root certificate, PEM [default: certs/root.pem of the state directory]
        #[arg(long, value_name = "PEM", conflicts_with = "host")]
        root: Option<PathBuf>,
        /// For an agent host's report: its identity, as `host show` wrote it
        #[arg(long, value_name = "JSON")]
        host: Option<PathBuf>,
        /// Base of the private OIDs [default: pki.oid_base of the state directory, else 1.3.6.1.4.1.32473]
        #[arg(long, value_name = "OID")]
        oid_base: Option<String>,
    },
}

/// Verifies and prints line by line what was checked and what it proves.
///
/// # Errors
/// The [`ReceiptRefusal`] by name (exit code 3); `file_unreadable`, `root_not_found`, `root_unreadable` (2).
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Receipt { file, root, witness_root, oid_base } => {
            receipt(context, &file, root, witness_root.as_deref(), oid_base)
        }
        Verb::Approval(args) => verify_approval::run(args, context),
        Verb::Proof { file, root, witness_root, oid_base } => {
            verify_log::proof(context, &file, root, witness_root.as_deref(), oid_base)
        }
        Verb::Log { directory, root, witness_root, oid_base } => {
            verify_log::log(context, &directory, root, witness_root.as_deref(), oid_base)
        }
        Verb::Bundle { file, root, witness_root, oid_base } => {
            verify_bundle::bundle(context, &file, root, witness_root.as_deref(), oid_base)
        }
        Verb::Signature { signature, key, file } => verify_signature::run(&signature, &key, file.as_ref(), context),
        Verb::Export { file, note, root, oid_base } => verify_bundle::export(context, &file, note, root, oid_base),
        Verb::Revocation { file, root, oid_base } => revocation(context, &file, root, oid_base),
        Verb::CustodyReport { file, root, host, oid_base } => custody_report(context, &file, root, host, oid_base),
    }
}

fn receipt(
    context: &Context,
    file: &Path,
    root: Option<PathBuf>,
    witness_root: Option<&Path>,
    oid_base: Option<String>,
) -> Result<(), Failure> {
    let receipt = read_limited(file)?;
    let (root, oid_base) = trusted(context, root, oid_base)?;
    let witness_root = witness_root.map(read_root).transpose()?;
    let verdict = verify_witnessed(&receipt, &root, witness_root.as_deref(), &oid_base)
        .map_err(|refusal| refused(file, &refusal))?;
    context.print(&verdict_json(&verdict, &root), |_| verdict_text(file, &verdict, &root));
    Ok(())
}

fn revocation(context: &Context, file: &Path, root: Option<PathBuf>, oid_base: Option<String>) -> Result<(), Failure> {
    let bytes = documents::read(file)?.into_bytes();
    let oid_base = oid_base.unwrap_or_else(|| oid_base_of_state(context));
    let root = read_root(&root.unwrap_or_else(|| context.state.certs().join("root.pem")))?;
    let verified = revocation_receipt::verify(&bytes, &root, &oid_base).map_err(|refusal| {
        Failure::refused(
            refusal.name(),
            format!("{} is not a valid revocation receipt: {refusal}", file.display()),
            "do not rely on it; repeat the revocation, and check that --root is the party's own",
        )
    })?;
    let document = verified.document();
    let shown = json!({ "valid": true, "signer": verified.signer(), "document": document });
    context.print(&shown, |_| {
        let word = |name: &str| document[name].as_str().unwrap_or("not yet").to_owned();
        format!(
            "{} is valid. {} of {} said:\n  {} {}\n  recorded   {}\n  effective  {}\n  reason     {}\n  by         {}\n\
             It proves that the party says so, and from when on it serves nothing of it; not that nobody else does.",
            file.display(),
            verified.signer(),
            word("party"),
            word("what"),
            target(&document["target"]),
            word("recorded_at"),
            word("effective_at"),
            word("reason"),
            document["by"]["name"].as_str().unwrap_or("the daemon"),
        )
    });
    Ok(())
}

/// Whom a revocation is about, in words.
fn target(target: &Value) -> String {
    let certificates = &target["certificates"];
    if let Some(serials) = certificates["serials"].as_array() {
        let serials: Vec<&str> = serials.iter().filter_map(Value::as_str).collect();
        let issuer = certificates["issuer"].as_str().unwrap_or("-");
        return format!("{} certificates of issuer {issuer}: {}", serials.len(), serials.join(" "));
    }
    match target.as_object().and_then(|one| one.iter().next()) {
        Some((what, Value::String(whom))) => format!("{what} {whom}"),
        Some(_) | None => target.as_str().map_or_else(|| target.to_string(), str::to_owned),
    }
}

fn custody_report(
    context: &Context,
    file: &Path,
    root: Option<PathBuf>,
    host: Option<PathBuf>,
    oid_base: Option<String>,
) -> Result<(), Failure> {
    let bytes = documents::read(file)?.into_bytes();
    let oid_base = oid_base.unwrap_or_else(|| oid_base_of_state(context));
    let verdict = match host {
        Some(path) => {
            let host: EnrolledHost = serde_json::from_value(documents::read_json(&path)?).map_err(|error| {
                Failure::usage(
                    "document_malformed",
                    format!("{} is not an agent host's identity: {error}", path.display()),
                    "give what `countersign host show` wrote",
                )
            })?;
            custody_report::verify(&bytes, Trust::Host(&host), &oid_base)
        }
        None => {
            let root = root.unwrap_or_else(|| context.state.certs().join("root.pem"));
            custody_report::verify(&bytes, Trust::Root(&read_root(&root)?), &oid_base)
        }
    };
    let verified = verdict.map_err(|refusal| {
        Failure::refused(
            refusal.name(),
            format!("{} is not a valid custody report: {refusal}", file.display()),
            "do not rely on it; have it made again, and check that --root or --host is the party's own",
        )
    })?;
    let report = verified.report();
    let shown = json!({ "valid": true, "signer": verified.signer(), "report": report });
    context.print(&shown, |_| custody_text(file, &verified));
    Ok(())
}

fn custody_text(file: &Path, verified: &VerifiedReport) -> String {
    let report = verified.report();
    let module = &report.module;
    let sha256 = module.sha256.map_or_else(|| "not read".to_owned(), |sha256| sha256.to_string());
    let mut lines = vec![
        format!("{} is valid. {} of {} said at {}:", file.display(), verified.signer(), report.party, report.made_at),
        format!("  module  {} {} ({}), SHA-256 {sha256}", module.description, module.version, module.path),
        format!("  token   {}, serial {}, {}", report.token.label, report.token.serial, report.token.manufacturer),
    ];
    for key in &report.keys {
        let (algorithm, state) = (key.algorithm.slug(), &key.state);
        lines.push(format!("  {:<8} {} ({algorithm}, {state}): {}", key.verdict, key.label, key.why));
    }
    lines.push("It proves that the party says so; what the attributes say is the module's word.".into());
    lines.join("\n")
}

fn refused(file: &Path, refusal: &ReceiptRefusal) -> Failure {
    Failure::refused(
        refusal.name(),
        format!("{} is not a valid receipt: {refusal}", file.display()),
        "do not rely on it; fetch it again with `countersign receipt show`, and check that --root is the bank's root",
    )
}

fn verdict_text(file: &Path, verdict: &ReceiptVerdict, root: &[u8]) -> String {
    let statement = verdict.statement();
    let (transaction_signer, checkpoint_signer) = verdict.signers();
    let mut lines = vec![
        "ok  file: exactly the one writing of a receipt, nothing added or left out".to_owned(),
        format!(
            "ok  transaction key: certified for transactions under your root, valid at posting ({transaction_signer})"
        ),
        "ok  batch: document signed by that key; the statement is one of its leaves".to_owned(),
        format!(
            "ok  decision: its record says that this statement of {} was executed; it is what the leaf commits to",
            statement.transaction_id
        ),
        format!("ok  checkpoint key: certified for checkpoints under your root ({checkpoint_signer})"),
        format!(
            "ok  log: checkpoint of {} leaves of {} signed by that key ({}); the record is leaf {}",
            verdict.checkpoint().size,
            verdict.checkpoint().origin,
            verdict.checkpoint_type().name(),
            verdict.leaf_index()
        ),
    ];
    lines.extend(cosigned(verdict.cosigners()));
    lines.extend([
        format!("    root: SHA-256 {}", Sha256::of(&[root])),
        String::new(),
        format!("{} is valid. It proves that the bank posted and recorded:", file.display()),
    ]);
    lines.extend(facts(verdict).into_iter().map(|(name, value)| format!("  {name:<12} {value}")));
    lines.push(
        "It does not prove that the root is the bank's (that is for you to know), nor what happened later.".into(),
    );
    lines.join("\n")
}

/// A line about each witness: what its word is worth depends on the root.
pub(super) fn cosigned(cosigners: &[Cosigner]) -> Vec<String> {
    let line = |cosigner: &Cosigner| match cosigner.anchored() {
        Anchored::Yes => format!(
            "ok  witness: {} has cosigned the same checkpoint at {}, certified under the root that you trust ({}, {})",
            cosigner.name(),
            cosigner.at(),
            cosigner.subject(),
            cosigner.signature_type().name()
        ),
        Anchored::No => format!(
            "    witness: {} says that it has cosigned at {}; name its root with --witness-root to know ({})",
            cosigner.name(),
            cosigner.at(),
            cosigner.subject()
        ),
    };
    cosigners.iter().map(line).collect()
}

fn facts(verdict: &ReceiptVerdict) -> Vec<(&'static str, String)> {
    let statement = verdict.statement();
    let amount = statement.amount_minor.parse().map(|minor| Money::from_minor(minor, statement.currency).to_string());
    let text = |value: &dyn ToString| Some(value.to_string());
    [
        ("transaction", text(&statement.transaction_id)),
        ("kind", text(&statement.kind)),
        ("amount", Some(amount.unwrap_or_else(|_| format!("{} minor units", statement.amount_minor)))),
        ("from", text(&statement.debit_account)),
        ("to", text(&statement.credit_account)),
        ("merchant", statement.merchant.as_ref().map(ToString::to_string)),
        ("product", statement.product_id.as_ref().map(ToString::to_string)),
        ("agent", statement.agent.as_ref().map(ToString::to_string)),
        ("agent key", statement.agent_key.as_ref().map(ToString::to_string)),
        ("approval", statement.approval_id.as_ref().map(ToString::to_string)),
        ("approver", statement.approver.clone()),
        ("posted at", text(&statement.posted_at)),
        ("policy", text(&statement.policy_version)),
        ("catalogue", text(&statement.catalogue_version)),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.map(|value| (name, value)))
    .collect()
}

fn verdict_json(verdict: &ReceiptVerdict, root: &[u8]) -> Value {
    let (transaction_signer, checkpoint_signer) = verdict.signers();
    json!({
        "valid": true,
        "statement": verdict.statement(),
        "transaction_signer": transaction_signer,
        "checkpoint_signer": checkpoint_signer,
        "checkpoint_signature_type": verdict.checkpoint_type(),
        "log": {
            "origin": verdict.checkpoint().origin,
            "size": verdict.checkpoint().size,
            "root": verdict.checkpoint().root,
            "leaf_index": verdict.leaf_index(),
        },
        "cosignatures": verdict.cosigners(),
        "bank_root_sha256": Sha256::of(&[root]),
    })
}

/// Reads one byte more than a receipt may have, so that the rule and not the machine decides.
pub(super) fn read_limited(path: &Path) -> Result<Vec<u8>, Failure> {
    read_at_most(path, RECEIPT_BYTES_MAX)
}

/// The same for what may be as long as this.
pub(super) fn read_at_most(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = bytes_max as u64 + 1;
    let read = std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::usage(
            "file_unreadable",
            format!("{} cannot be read: {error}", path.display()),
            "check the path; what an answer wrote, and a note beside it (FILE.note), belong together",
        )),
    }
}

/// What a reader trusts: the root certificate (DER) and the base of the private OIDs, as named or as the state directory
/// has them.
pub(super) fn trusted(
    context: &Context,
    root: Option<PathBuf>,
    oid_base: Option<String>,
) -> Result<(Vec<u8>, String), Failure> {
    let path = match root {
        Some(path) => path,
        None => root_of_state(context)?,
    };
    Ok((read_root(&path)?, oid_base.unwrap_or_else(|| oid_base_of_state(context))))
}

fn root_of_state(context: &Context) -> Result<PathBuf, Failure> {
    let places = [context.state.certs().join("root.pem"), context.state.anchors().join("bank-root.pem")];
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        Failure::usage(
            "root_not_found",
            format!("there is no certs/root.pem or anchors/bank-root.pem in {}", context.state.root().display()),
            "name the bank's root certificate with --root",
        )
    })
}

pub(super) fn read_root(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |message: String| {
        Failure::usage(
            "root_unreadable",
            format!("{} is not one PEM certificate: {message}", path.display()),
            "name the bank's root certificate with --root",
        )
    };
    let text = read_limited(path)
        .map_err(|failure| Failure { next_step: "name the party's root certificate with --root".into(), ..failure })?;
    let mut blocks = Pem::iter_from_buffer(&text);
    let (first, second) = (blocks.next(), blocks.next());
    match (first, second) {
        (Some(Ok(pem)), None) if pem.label == "CERTIFICATE" => Ok(pem.contents),
        (Some(Ok(_)), None) => Err(unreadable("it holds something else".into())),
        (Some(Ok(_)), Some(_)) => Err(unreadable("it holds more than one block".into())),
        (Some(Err(error)), _) => Err(unreadable(error.to_string())),
        (None, _) => Err(unreadable("it holds no PEM block".into())),
    }
}

/// The configuration's word when there is one; verification must work on a machine that has none.
pub(super) fn oid_base_of_state(context: &Context) -> String {
    Config::load(&context.state)
        .map_or_else(|_| crate::ca::settings::PkiSettings::default().oid_base, |config| config.pki.oid_base)
}
