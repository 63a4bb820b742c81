//! Whether what people said completes what was asked: their words are said again to the gates, in the order of the log.
//!
//! Whoever composes a bundle may leave a word out, tell one twice, or one that came too late. So the words are heard by the
//! quorum that the bank asks, each must stand in the log between the authorization and the payment, and the bank's own
//! record of each must say what the gates say: that more was waited for, or that this one completed them.

use serde_json::json;

use super::{ApprovalPart, WordPart, text};
use crate::kernel::approval::Evidence;
use crate::kernel::leaf_proof::LeafVerdict;
use crate::kernel::quorum::{NotCounted, Proof, Quorum, Said, Side, Speaker, Standing};
use crate::kernel::receipt::parse_time;

/// A word with the side that its gate is of and the leaf that recorded it.
pub(super) struct Recorded<'a> {
    pub said: &'a WordPart,
    pub side: Side,
    pub leaf: LeafVerdict,
}

/// Says the words again. `authorized` and `posted`: the places of the leaves between which they must stand; a word that
/// moved the money itself stands at the place of the posting.
///
/// # Errors
/// What is wrong with the first word that does not count, or that there are too few.
pub(super) fn completes(
    part: &ApprovalPart,
    words: &[Recorded<'_>],
    authorized: Option<u64>,
    posted: u64,
) -> Result<(), &'static str> {
    let expires = parse_time(&part.expires).ok_or("the approval has no end")?;
    // What only signed words count for is the bank's to know; here it is told of each word whether it is signed.
    let mut quorum: Quorum<Evidence> = Quorum::new(part.terms.gates.clone(), false);
    let mut before = authorized;
    for Recorded { said, side, leaf } in words {
        if before.is_some_and(|before| leaf.index() <= before) {
            return Err("a word was recorded before the authorization, or before the word that is told first");
        }
        if leaf.index() > posted {
            return Err("a word was recorded after the payment");
        }
        before = Some(leaf.index());
        let at = parse_time(&said.at).ok_or("a word has no time")?;
        if at >= expires {
            return Err("a word came after the approval had ended");
        }
        if said.person == part.terms.maker {
            return Err("who asked for the payment said yes to it");
        }
        let body = leaf.body();
        let roles = body["actor"]["roles"].as_array();
        if !roles.is_some_and(|roles| roles.contains(&json!(said.role))) {
            return Err("a word was not said as what it is told to be");
        }
        let (roles, evidence) = (std::slice::from_ref(&said.role), said.evidence.clone());
        let speaker = Speaker { person: &said.person, roles, key: evidence.as_ref().map(Proof::key) };
        let note = said.note.clone();
        let word = Said { answer: said.answer, note, at: at.0, asserted: false, evidence };
        quorum.hear(*side, speaker, word).map_err(not_counted)?;
        let recorded = match quorum.standing() {
            Standing::Open => "counted",
            Standing::Complete => "approved",
            Standing::Denied => "denied",
        };
        if text(body, &["result", "status"]) != Some(recorded) {
            return Err("the bank recorded that a word did not have the effect that the gates give it");
        }
    }
    match quorum.standing() {
        Standing::Complete => Ok(()),
        Standing::Open => Err("the gates ask for more people than have said yes"),
        Standing::Denied => Err("somebody said no"),
    }
}

fn not_counted(not: NotCounted) -> &'static str {
    match not {
        NotCounted::NotPermitted => "a word was said as what no gate hears",
        NotCounted::NotAsked => "a word is at a gate that is not asked",
        NotCounted::Unsigned => "a word is not signed",
        NotCounted::SpokenBefore => "somebody has spoken twice",
        NotCounted::GateComplete => "a word is at a gate that was complete",
        NotCounted::OutOfTurn => "a word was said out of turn",
    }
}
