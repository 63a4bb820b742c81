//! `countersign verify proof|log`: a leaf, or a whole log, checked with a party's root certificate alone.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::context::Context;
use super::progress::Progress;
use super::verify::{cosigned, read_limited, read_root, trusted};
use crate::audit::copy::Copy;
use crate::kernel::cosignature::Cosigner;
use crate::kernel::leaf_proof;
use crate::ops::failure::Failure;

/// # Errors
/// The refusal by name (exit code 3); `file_unreadable`, `root_not_found`, `root_unreadable` (2).
pub(super) fn proof(
    context: &Context,
    file: &Path,
    root: Option<PathBuf>,
    witness_root: Option<&Path>,
    oid_base: Option<String>,
) -> Result<(), Failure> {
    let bytes = read_limited(file)?;
    let (root, oid_base) = trusted(context, root, oid_base)?;
    let witness_root = witness_root.map(read_root).transpose()?;
    let verified = leaf_proof::verify_witnessed(&bytes, &root, witness_root.as_deref(), &oid_base);
    let verdict = verified.map_err(|refusal| {
        Failure::refused(
            refusal.name(),
            format!("{} does not prove a leaf: {refusal}", file.display()),
            "do not rely on it; fetch it again with `countersign audit prove`, and check that --root is the party's own",
        )
    })?;
    let checkpoint = verdict.checkpoint();
    let shown = json!({
        "valid": true, "index": verdict.index(), "origin": checkpoint.origin, "size": checkpoint.size,
        "root": checkpoint.root, "signer": verdict.signer(), "leaf": verdict.body(),
        "signature_type": verdict.checkpoint_type(), "cosignatures": verdict.cosigners(),
    });
    context.print(&shown, |_| {
        let leaf = serde_json::to_string_pretty(verdict.body()).unwrap_or_default();
        format!(
            "{} is valid: leaf {} of {} in {}, under a checkpoint that {} signed ({}).\n{}{leaf}\n\
             It proves that the party recorded this, not that what is recorded is true.",
            file.display(),
            verdict.index(),
            checkpoint.size,
            checkpoint.origin,
            verdict.signer(),
            verdict.checkpoint_type().name(),
            witnesses(verdict.cosigners()),
        )
    });
    Ok(())
}

/// # Errors
/// Those of [`Copy::verify`]; `root_not_found`, `root_unreadable` (2).
pub(super) fn log(
    context: &Context,
    directory: &Path,
    root: Option<PathBuf>,
    witness_root: Option<&Path>,
    oid_base: Option<String>,
) -> Result<(), Failure> {
    let (root, oid_base) = trusted(context, root, oid_base)?;
    let mut progress = Progress::new(context);
    let say = |done, total| progress.say(|| format!("{done} of {total} tiles"));
    let witness_root = witness_root.map(read_root).transpose()?;
    let found = Copy::at(directory).verify(&root, witness_root.as_deref(), &oid_base, say)?;
    let checkpoint = &found.checkpoint;
    let shown = json!({
        "valid": true, "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root,
        "signer": found.signer, "signature_type": found.checkpoint_type, "tiles": found.tiles,
        "cosignatures": found.cosigners,
    });
    context.print(&shown, |_| {
        format!(
            "{} is sound: {} leaves of {}, {} tiles compared, root {} signed by {} ({}).\n{}\
             It proves what the party has signed, not that nobody was shown another log: compare with other copies.",
            directory.display(),
            checkpoint.size,
            checkpoint.origin,
            found.tiles,
            checkpoint.root,
            found.signer,
            found.checkpoint_type.name(),
            witnesses(&found.cosigners),
        )
    });
    Ok(())
}

/// A line each, with its end.
fn witnesses(cosigners: &[Cosigner]) -> String {
    cosigned(cosigners).into_iter().map(|line| format!("{}\n", line.trim_start())).collect()
}
