//! The second writing that an ECDSA signature has: where it is refused, and where it counts for the same.

use std::sync::Arc;
use std::time::Duration;

use countersign::kernel::credential::certificate::Certificate;
use countersign::kernel::credential::der;
use countersign::kernel::receipt::{Base64, verify};
use countersign::kernel::sign::{Algorithm, DocumentTag, Purpose, SignInput, from_wire, to_wire};

use super::log::{advance_all, open};
use super::memory::MemoryStore;
use super::parties::{Bank, OID_BASE};
use super::receipts::{issued, refusal};

/// r and n − s: what anybody makes of an ECDSA signature by a P-256 key.
pub fn other_writing(signature: &[u8]) -> Vec<u8> {
    let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
    let mut raw = to_wire(Algorithm::P256, signature).unwrap();
    let mut borrowed = 0;
    for (digit, order) in raw[32..].iter_mut().zip(order).rev() {
        let left = 256 + i32::from(order) - i32::from(*digit) - borrowed;
        (*digit, borrowed) = (u8::try_from(left % 256).unwrap(), 1 - left / 256);
    }
    from_wire(Algorithm::P256, &raw).unwrap()
}

#[test]
fn the_second_writing_of_the_batch_signature_is_refused() {
    let (bank, mut receipt) = issued();
    let written = receipt.batch.signature.0.clone();
    receipt.batch.signature = Base64(other_writing(&written));
    assert_ne!(receipt.batch.signature.0, written);
    assert_eq!(refusal(&bank, &receipt.to_bytes().unwrap()), Some("batch_signature_invalid"));
    receipt.batch.signature = Base64(other_writing(&receipt.batch.signature.0));
    assert_eq!((refusal(&bank, &receipt.to_bytes().unwrap()), &receipt.batch.signature.0), (None, &written));
}

#[test]
fn a_batch_that_was_signed_with_the_larger_s_still_has_the_one_receipt() {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    let ids = store.post(&bank, 1, 2);
    let log = open(&bank, &store);
    advance_all(&log);
    let receipt = |what: &str| {
        let bytes = log.receipt(&ids[0], Duration::ZERO).unwrap().to_bytes().unwrap();
        assert_eq!(refusal(&bank, &bytes), None, "{what}");
        bytes
    };
    let before = receipt("as it was signed");
    let signature = store.rows().batches[&1].signature.clone().unwrap();
    store.rows().batches.get_mut(&1).unwrap().signature = Some(other_writing(&signature));
    assert_eq!(receipt("as a node of before signed it"), before);
}

#[test]
fn a_receipt_from_before_verifies_with_either_writing_and_says_the_same() {
    let (bank, mut receipt) = issued();
    receipt.batch.document = receipt.batch.document.replace(",\"signature\":\"low-s\"", "");
    let canonical_json = receipt.batch.document.clone().into_bytes();
    let input = SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json };
    let signature = bank.sign(Purpose::Transaction, input);
    let verdicts = [signature.clone(), other_writing(&signature)].map(|signature| {
        receipt.batch.signature = Base64(signature);
        verify(&receipt.to_bytes().unwrap(), &bank.root, OID_BASE).unwrap()
    });
    assert_eq!(verdicts[0], verdicts[1]);
    // What a document says of its signature is known, or it is none.
    receipt.batch.document = receipt.batch.document.replace("}", ",\"signature\":\"any\"}");
    assert_eq!(refusal(&bank, &receipt.to_bytes().unwrap()), Some("batch_document_malformed"));
}

/// As docs/FORMATS.md says: who issued a certificate decides how its signature is written.
#[test]
fn the_second_writing_of_a_certificates_signature_proves_the_same() {
    let (bank, mut receipt) = issued();
    let before = verify(&receipt.to_bytes().unwrap(), &bank.root, OID_BASE).unwrap();
    let own = receipt.batch.chain[0].0.clone();
    let read = Certificate::read(&own).unwrap();
    let identifier = Algorithm::P256.signature_identifier().unwrap();
    let signature = der::bit_string(&other_writing(read.signature));
    receipt.batch.chain[0] = Base64(der::sequence(&[read.tbs.raw, identifier, &signature]));
    assert_ne!(receipt.batch.chain[0].0, own);
    assert_eq!(verify(&receipt.to_bytes().unwrap(), &bank.root, OID_BASE).unwrap(), before);
}
