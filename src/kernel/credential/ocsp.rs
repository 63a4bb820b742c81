//! Answers of an OCSP responder (RFC 6960), as far as the HSM worker looks at them before it signs.

use super::der::{self, NotDer, Reader};

/// SHA-1 of a responder's public key (RFC 6960, 4.2.1): names it, protects nothing.
pub const KEY_HASH_BYTES: usize = 20;

/// What a responder is about to sign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResponseData<'a> {
    /// `responderID` by key.
    pub responder: &'a [u8],
    /// `SingleResponse`s, DER.
    pub responses: Vec<&'a [u8]>,
}

/// Reads `ResponseData`: version 1, the responder by its key, at least one answer.
///
/// # Errors
/// What is not DER, or not of this form.
pub fn read_response_data(data: &[u8]) -> Result<ResponseData<'_>, NotDer> {
    let mut reader = Reader::whole_sequence(data)?;
    let mut by_key = Reader::new(reader.element(der::context_constructed(2))?.content);
    let responder = by_key.octet_string()?;
    by_key.finish()?;
    if responder.len() != KEY_HASH_BYTES {
        return Err(NotDer("the hash of a responder's key"));
    }
    reader.element(der::GENERALIZED_TIME)?;
    let mut list = reader.sequence()?;
    let mut responses = Vec::new();
    while !list.is_empty() {
        responses.push(list.element(der::SEQUENCE)?.raw);
    }
    reader.optional(der::context_constructed(1))?;
    reader.finish()?;
    if responses.is_empty() { Err(NotDer("an answer")) } else { Ok(ResponseData { responder, responses }) }
}
