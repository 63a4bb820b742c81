//! Signatures for other programs: an order is recorded before it is signed, and the first signatures stored are the ones
//! that are released, to whoever repeats the request, on whichever daemon.

use super::{Book, Change, Orders, Ruled};
use crate::kernel::command::{Actor, Command, Effect};
use crate::kernel::external::{SigningOrder, SigningRow};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::Sha256;

/// `SignExternal`: whether the caller may have this signed was judged before. A repetition answers what is known.
pub(super) fn order(book: &dyn Book, command: &Command, order: &SigningOrder) -> Ruled<Orders> {
    let Actor::Program(_) = command.actor else {
        return Err(Refusal::OperatorNotPermitted.into());
    };
    let Some(mark) = &order.mark else {
        return Ok((Effect::Signing { known: None, repeated: false }, vec![]));
    };
    match book.signing(&mark.scope)? {
        Some(known) if known.request != mark.request => Err(Refusal::IdempotencyMismatch.into()),
        Some(known) => Ok((Effect::Signing { known: Some(Box::new(known)), repeated: true }, vec![])),
        None => {
            let row = Box::new(SigningRow::of(mark, command.stamp.wall));
            Ok((Effect::Signing { known: Some(row.clone()), repeated: false }, vec![Change::PutSigning(row)]))
        }
    }
}

/// `KeepSignatures`: the first ones stand, and are what is answered.
pub(super) fn keep(book: &dyn Book, command: &Command, scope: &Sha256, signatures: &[u8]) -> Ruled<Orders> {
    let Actor::System { .. } = command.actor else {
        return Err(Refusal::OperatorNotPermitted.into());
    };
    let known = book.signing(scope)?.ok_or(Refusal::UnknownSigning)?;
    if known.signatures.is_some() {
        return Ok((Effect::Signing { known: Some(Box::new(known)), repeated: true }, vec![]));
    }
    let kept = SigningRow { signatures: Some(signatures.to_vec()), ..known };
    let change = Change::KeepSignatures { scope: *scope, signatures: signatures.to_vec() };
    Ok((Effect::Signing { known: Some(Box::new(kept)), repeated: false }, vec![change]))
}
