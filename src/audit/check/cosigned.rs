//! What witnesses have signed of this log, as the store keeps it: each line over the checkpoint that it stands beside, by a key
//! that was certified then, under the root of a party that is trusted here.
//!
//! A chain is verified at the first and at the last time of a page; a certificate that was valid at both was valid in
//! between, so that a line costs one signature and not four.

use serde_json::{Value, json};

use super::{Findings, Wrong};
use crate::audit::Log;
use crate::kernel::cosignature::{CosignatureRefusal, WitnessKey, time_of};
use crate::kernel::note::NoteSignature;
use crate::kernel::types::UnixMillis;
use crate::ops::failure::Failure;
use crate::store::StoredCosignature;

/// Rows that are read at once.
const PAGE: u32 = 1024;

pub(super) struct Cosigned {
    pub findings: Findings,
    pub cosignatures: u64,
}

/// Verifies every cosignature, as far as the checkpoint of this size. Without `roots` nothing is asked of whose they are.
///
/// # Errors
/// The store's.
pub(super) fn verify(
    log: &Log,
    size: u64,
    roots: Option<&[Vec<u8>]>,
    progress: &mut dyn FnMut(Value),
) -> Result<Cosigned, Failure> {
    let mut cosigned = Cosigned { findings: Findings::default(), cosignatures: 0 };
    let mut judge = Judge { oid_base: &log.setup.oid_base, roots, known: None };
    let mut from = 0;
    loop {
        let mut page = log.setup.store.cosignatures(from, PAGE)?;
        let Some(last) = page.last().map(|row| row.size) else { break };
        from = last.saturating_add(1);
        // What came in meanwhile is left for the next check; it has its checkpoint.
        page.retain(|row| row.size <= size || row.note.is_none());
        let ends = page.iter().rev().find_map(|row| time_of(&NoteSignature::parse(&row.line).ok()?).ok());
        for row in &page {
            cosigned.cosignatures += 1;
            if let Err((name, message)) = judge.judged(row, ends) {
                cosigned.findings.add(name, row.size, message);
            }
        }
        progress(json!({ "rows": cosigned.cosignatures, "of": "cosignatures" }));
    }
    Ok(cosigned)
}

struct Judge<'a> {
    oid_base: &'a str,
    roots: Option<&'a [Vec<u8>]>,
    known: Option<Known>,
}

/// A chain that is good from one time to another.
struct Known {
    chain: Vec<Vec<u8>>,
    from: UnixMillis,
    to: UnixMillis,
    key: WitnessKey,
}

impl Judge<'_> {
    /// `ends`: when the last one of the page was made, by its own word.
    fn judged(&mut self, row: &StoredCosignature, ends: Option<UnixMillis>) -> Result<(), (Wrong, String)> {
        let unreadable = |why: String| (Wrong::CosignatureUnreadable, why);
        let line = NoteSignature::parse(&row.line).map_err(|refused| unreadable(refused.to_string()))?;
        let at = time_of(&line).map_err(|refusal| unreadable(refusal.to_string()))?;
        let chain = row.chain.as_ref().ok_or_else(|| unreadable("its certificates are not there".into()))?;
        let text = row.note.as_deref().map(String::from_utf8_lossy).ok_or_else(|| {
            let why = "a witness has signed a checkpoint of this size, and the store has none that is signed";
            (Wrong::CosignatureWithoutCheckpoint, why.to_owned())
        })?;
        let invalid =
            |refusal: CosignatureRefusal| (Wrong::CosignatureInvalid, format!("{}: {refusal}", refusal.name()));
        self.key(chain, at, ends).and_then(|key| key.has_cosigned(&text, line)).map_err(invalid)?;
        let is_trusted = self.roots.is_none_or(|roots| chain.last().is_some_and(|root| roots.contains(root)));
        if !is_trusted {
            let why = "its certificates lead to a root of nobody who is trusted here";
            return Err((Wrong::CosignatureOfAnother, why.into()));
        }
        Ok(())
    }

    fn key(
        &mut self,
        chain: &[Vec<u8>],
        at: UnixMillis,
        ends: Option<UnixMillis>,
    ) -> Result<&WitnessKey, CosignatureRefusal> {
        let is_known = |known: &Known| known.chain == chain && (known.from..=known.to).contains(&at);
        if !self.known.as_ref().is_some_and(is_known) {
            let borrowed: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
            let key = WitnessKey::certified(&borrowed, self.oid_base, at)?;
            let is_good_at = |end: &UnixMillis| WitnessKey::certified(&borrowed, self.oid_base, *end).is_ok();
            let to = ends.filter(|end| *end > at).filter(is_good_at).unwrap_or(at);
            self.known = Some(Known { chain: chain.to_vec(), from: at, to, key });
        }
        // It was put there above, if it was not there.
        self.known.as_ref().map(|known| &known.key).ok_or(CosignatureRefusal::Malformed)
    }
}
