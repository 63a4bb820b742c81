//! `countersign verify bundle|export`: what an auditor carried away, checked with the bank's root alone.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::context::Context;
use super::table::cell;
use super::verify::{cosigned, read_at_most, read_root, trusted};
use crate::cli::audit::search::note_of;
use crate::kernel::bundle::{self, BUNDLE_BYTES_MAX, BundleVerdict};
use crate::kernel::export_note::{self, EXPORT_NOTE_BYTES_MAX};
use crate::kernel::types::{Money, Sha256};
use crate::ops::failure::Failure;

/// # Errors
/// The refusal by name (exit code 3); `file_unreadable`, `root_not_found`, `root_unreadable` (2).
pub(super) fn bundle(
    context: &Context,
    file: &Path,
    root: Option<PathBuf>,
    witness_root: Option<&Path>,
    oid_base: Option<String>,
) -> Result<(), Failure> {
    let bytes = read_at_most(file, BUNDLE_BYTES_MAX)?;
    let (root, oid_base) = trusted(context, root, oid_base)?;
    let witness_root = witness_root.map(read_root).transpose()?;
    let verdict = bundle::verify_witnessed(&bytes, &root, witness_root.as_deref(), &oid_base).map_err(|refusal| {
        Failure::refused(
            refusal.name(),
            format!("{} is not the evidence of a payment: {refusal}", file.display()),
            "do not rely on it; ask for it again with `countersign audit bundle`, and check that --root is the bank's",
        )
    })?;
    context.print(&shown(&verdict), |shown| {
        let witnesses = cosigned(verdict.receipt().cosigners());
        [vec![told(file, shown)], witnesses].concat().join("\n")
    });
    Ok(())
}

fn shown(verdict: &BundleVerdict) -> Value {
    let receipt = verdict.receipt();
    let leaf = |leaf: &crate::kernel::leaf_proof::LeafVerdict| json!({ "leaf_index": leaf.index(), "at": leaf.body()["at"], "record": leaf.body() });
    let agent = |agent: &bundle::AgentPart| {
        let request = agent.request.as_ref();
        json!({
            "agent": agent.agent, "key": agent.key, "serial": agent.serial,
            "endorsement_sha256": agent.endorsement_sha256,
            "request": request.map(|request| json!({
                "created": request.created.rfc3339(), "base_digest": request.base_digest,
            })),
        })
    };
    let words = |part: &bundle::ApprovalPart| {
        let word = |word: &bundle::WordPart| {
            json!({
                "person": word.person, "role": word.role, "answer": word.answer, "at": word.at, "note": word.note,
                "is_signed": word.evidence.is_some(),
            })
        };
        json!({
            "approval_id": part.approval_id, "gates": part.terms.gates, "gates_are_signed": part.gates_are_signed(),
            "words": part.words.iter().map(word).collect::<Vec<_>>(),
        })
    };
    let mandate = |part: &bundle::MandatePart| json!({ "mandate_id": part.id, "owner": part.owner, "key": part.key, "claims": part.claims });
    let members = verdict.members().iter().map(|(name, sha256)| json!({ "name": name, "sha256": sha256 }));
    json!({
        "valid": true,
        "statement": receipt.statement(),
        "log": {
            "origin": receipt.checkpoint().origin, "size": receipt.checkpoint().size, "leaf_index": receipt.leaf_index(),
            "signature_type": receipt.checkpoint_type(),
        },
        "authorization": verdict.authorization().map(leaf),
        "agent": verdict.agent().map(agent),
        "approval": verdict.approval().map(words),
        "mandate": verdict.mandate().map(mandate),
        "cosignatures": receipt.cosigners(),
        "members": members.collect::<Vec<_>>(),
    })
}

fn told(file: &Path, shown: &Value) -> String {
    let statement = &shown["statement"];
    let word = |value: &Value| cell(value);
    let currency = statement["currency"].as_str().and_then(|code| code.parse().ok());
    let minor = statement["amount_minor"].as_str().and_then(|minor| minor.parse().ok());
    let amount = minor.zip(currency).map(|(minor, currency)| Money::from_minor(minor, currency).to_string());
    let mut lines = vec![
        format!(
            "{} is valid: {} parts, all of one payment.",
            file.display(),
            shown["members"].as_array().map_or(0, Vec::len)
        ),
        format!(
            "  moved        {} from {} to {} at {}",
            amount.unwrap_or_else(|| word(&statement["amount_minor"])),
            word(&statement["debit_account"]),
            word(&statement["credit_account"]),
            word(&statement["posted_at"])
        ),
        format!("  transaction  {}, policy {}", word(&statement["transaction_id"]), word(&statement["policy_version"])),
    ];
    let authorization = &shown["authorization"];
    if !authorization.is_null() {
        lines.push(format!(
            "  asked by     {} with certificate {}, authorized at {} (leaf {})",
            word(&shown["agent"]["agent"]),
            word(&shown["agent"]["serial"]),
            word(&authorization["at"]),
            word(&authorization["leaf_index"])
        ));
    }
    let request = &shown["agent"]["request"];
    if !request.is_null() {
        lines.push(format!("  requested    at {}, signed by the agent's key", word(&request["created"])));
    }
    for said in shown["approval"]["words"].as_array().into_iter().flatten() {
        let how = if said["is_signed"] == true { "signed with their own key" } else { "without a signature" };
        lines.push(format!(
            "  {:<12} said {} as {} at {}, {how}",
            word(&said["person"]),
            word(&said["answer"]),
            word(&said["role"]),
            word(&said["at"])
        ));
    }
    if shown["approval"]["gates_are_signed"] == false {
        lines.push(
            "  no key signed whom the bank had to ask; that these words were enough is the bank's record alone"
                .to_owned(),
        );
    }
    let mandate = &shown["mandate"];
    if !mandate.is_null() {
        lines.push(format!(
            "  mandate      {}, signed by owner {}",
            word(&mandate["mandate_id"]),
            word(&mandate["owner"])
        ));
    }
    let log = &shown["log"];
    lines.push(format!(
        "  recorded as  leaf {} of {} in {}",
        word(&log["leaf_index"]),
        word(&log["size"]),
        word(&log["origin"])
    ));
    lines.push(
        "It proves what the bank recorded and what people signed; not that the root is the bank's (that is for you to\n\
         know), nor what the agent's request was byte for byte: of it the bank keeps what stands in the leaf, and the\n\
         signature with the digest of what was signed."
            .to_owned(),
    );
    lines.join("\n")
}

/// # Errors
/// The refusal by name (exit code 3); `file_unreadable`, `root_not_found`, `root_unreadable` (2).
pub(super) fn export(
    context: &Context,
    file: &Path,
    note: Option<PathBuf>,
    root: Option<PathBuf>,
    oid_base: Option<String>,
) -> Result<(), Failure> {
    let note_file = note.unwrap_or_else(|| note_of(file));
    let note = read_at_most(&note_file, EXPORT_NOTE_BYTES_MAX)?;
    let (root, oid_base) = trusted(context, root, oid_base)?;
    let hashed = hash_of(file).map_err(|error| {
        Failure::usage(
            "file_unreadable",
            format!("{} cannot be read: {error}", file.display()),
            "name what `countersign audit search --out` wrote",
        )
    })?;
    let verdict = export_note::verify(&note, hashed, &root, &oid_base).map_err(|refusal| {
        Failure::refused(
            refusal.name(),
            format!("{} is not an export that this party signed: {refusal}", file.display()),
            "do not rely on it; make it again with `countersign audit search --out`, and check --root",
        )
    })?;
    let said = verdict.note();
    let query: Value = serde_json::from_str(&said.query).unwrap_or_default();
    let shown = json!({
        "valid": true, "origin": said.origin, "sha256": said.sha256, "bytes": said.bytes, "records": said.records,
        "unread": said.unread,
        "format": said.format, "query": query, "size": said.size, "root": said.root, "signer": verdict.signer(),
    });
    context.print(&shown, |_| {
        format!(
            "{} is valid: {} records of {}, signed by {}.\n  question    {}\n  checkpoint  {} leaves, root {}\n\
             It proves that the party says to have found these, and no others, among the leaves that the checkpoint covers{}.",
            file.display(),
            said.records,
            said.origin,
            verdict.signer(),
            said.query,
            said.size,
            said.root,
            match said.unread {
                0 => String::new(),
                unread => format!("; {unread} of these are erased or damaged, and could not be judged"),
            },
        )
    });
    Ok(())
}

/// SHA-256 and length, without having all of it in memory.
fn hash_of(file: &Path) -> std::io::Result<(Sha256, u64)> {
    let mut file = std::fs::File::open(file)?;
    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let (mut buffer, mut bytes) = (vec![0; 64 * 1024], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
    let mut value = [0; 32];
    value.copy_from_slice(hash.finish().as_ref());
    Ok((Sha256(value), bytes))
}
