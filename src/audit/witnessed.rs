//! A witness's word on our log as it stands in the store, believed only when it verifies under the witness's own root.
//!
//! A row beside a checkpoint is nobody's word yet: whoever writes to the database can add one. So every reader of the
//! newest cosignature comes through here. What has verified once is known by its bytes, and is not verified again.

use std::sync::{MutexGuard, PoisonError};

use super::{Log, read_checkpoint};
use crate::kernel::cosignature::{self, Presented, SaidType};
use crate::kernel::note::{NoteSignature, SignedNote};
use crate::kernel::types::{Sha256, UnixMillis};
use crate::ops::failure::Failure;
use crate::store::{Cosignature, CosignedCheckpoint};

/// Whose word counts, and what was found of the newest.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// DER. None: nobody's word counts.
    root: Option<Vec<u8>>,
    /// The newest that was looked at, by all that was looked at, and whether it is the witness's.
    known: Option<(Sha256, Genuine)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Genuine {
    Yes,
    No,
}

impl Log {
    /// Believes the witnesses under this root (DER) from here on, and nobody else.
    pub fn trust_witness(&self, root: Vec<u8>) {
        let mut witness = self.witness();
        if witness.root.as_ref() != Some(&root) {
            *witness = Witness { root: Some(root), known: None };
        }
    }

    /// The newest checkpoint that is cosigned, when its cosignature verifies under the trusted root. A row that does not
    /// counts as none: no older one is looked for.
    ///
    /// # Errors
    /// The store's.
    pub fn cosigned(&self) -> Result<Option<CosignedCheckpoint>, Failure> {
        let Some(root) = self.witness_root() else {
            return Ok(None);
        };
        let Some(found) = self.setup.store.cosigned_checkpoint()? else {
            return Ok(None);
        };
        let looked_at = digest(&found);
        let known = self.witness().known;
        let genuine = match known {
            Some((digest, genuine)) if digest == looked_at => genuine,
            Some(_) | None => {
                let genuine = match self.is_of(&found, &root) {
                    Ok(()) => Genuine::Yes,
                    Err(why) => {
                        let size = found.checkpoint.size;
                        tracing::error!(size, %why, "a stored cosignature is not the witness's: somebody wrote to the store");
                        Genuine::No
                    }
                };
                self.witness().known = Some((looked_at, genuine));
                genuine
            }
        };
        Ok((genuine == Genuine::Yes).then_some(found))
    }

    /// The root under which a witness is believed.
    pub(super) fn witness_root(&self) -> Option<Vec<u8>> {
        self.witness().root.clone()
    }

    fn is_of(&self, found: &CosignedCheckpoint, root: &[u8]) -> Result<(), String> {
        let CosignedCheckpoint { checkpoint: record, cosignature: Cosignature { line, chain } } = found;
        let checkpoint = read_checkpoint(record).map_err(|failure| failure.message)?;
        let signed = SignedNote::parse(record.signed.as_deref().unwrap_or_default());
        let signed = signed.map_err(|refused| refused.to_string())?;
        if signed.text != checkpoint.text() {
            return Err("the signed checkpoint has another text".into());
        }
        let line = NoteSignature::parse(line).map_err(|refused| refused.to_string())?;
        let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        let presented = Presented { line, chain, said: SaidType::Elsewhere };
        cosignature::verify(&checkpoint, [presented].into_iter(), Some(root), &self.setup.oid_base)
            .map(drop)
            .map_err(|refusal| format!("{}: {refusal}", refusal.name()))
    }

    fn witness(&self) -> MutexGuard<'_, Witness> {
        self.witness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that a verification looks at.
fn digest(found: &CosignedCheckpoint) -> Sha256 {
    let CosignedCheckpoint { checkpoint, cosignature } = found;
    let signed = checkpoint.signed.as_deref().unwrap_or_default();
    let mut parts = vec![cosignature.line.as_bytes(), checkpoint.note.as_slice(), signed, &checkpoint.root.0];
    parts.extend(cosignature.chain.iter().map(Vec::as_slice));
    let lengths: Vec<u8> = parts.iter().flat_map(|part| (part.len() as u64).to_be_bytes()).collect();
    let size = checkpoint.size.to_be_bytes();
    parts.extend([&size[..], &lengths]);
    Sha256::of(&parts)
}

/// When a witness has signed, by its own clock. Nothing is verified here.
pub fn cosigned_at(cosignature: &Cosignature) -> Option<UnixMillis> {
    let line = NoteSignature::parse(&cosignature.line).ok()?;
    cosignature::time_of(&line).ok()
}
