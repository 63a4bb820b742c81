//! `countersign verify signature`: what the signing service signed, checked with the public key alone.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::sign::{content, digest, hashed};
use crate::cli::table::cell;
use crate::kernel::canon;
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::pem;
use crate::kernel::external::{
    ExternalKind, FileStatement, JwsRefusal, LeafProof, PublicKey, verify_any, verify_kind, verify_proof,
};
use crate::kernel::sign::{self, Algorithm};
use crate::kernel::text::visible;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::signing::proofs;

/// Keys of one set.
const KEYS_MAX: usize = 64;

/// Reads a public key: PEM of a key or of a certificate over it, or a JWK.
///
/// # Errors
/// `file_unreadable`, `key_malformed` or the key's own: `key_private`, `key_unsound`, …
pub(super) fn public_key(file: &Path) -> Result<PublicKey, Failure> {
    let mut keys = public_keys(file)?;
    match (keys.pop(), keys.is_empty()) {
        (Some(key), true) => Ok(key),
        (_, _) => Err(malformed(file, "key_malformed", "a set of several keys, and one is needed here")),
    }
}

/// The same, and every key of a JWK Set (RFC 7517, 5); at least one.
fn public_keys(file: &Path) -> Result<Vec<PublicKey>, Failure> {
    let unreadable = |why: &dyn std::fmt::Display| malformed(file, "key_malformed", why);
    let text = String::from_utf8(content(file)?).map_err(|_| unreadable(&"it is not text"))?;
    let read = if text.trim_start().starts_with('{') {
        let jwk: Value = serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
        match jwk["keys"].as_array() {
            Some(keys) if (1..=KEYS_MAX).contains(&keys.len()) => keys.iter().map(PublicKey::from_jwk).collect(),
            Some(keys) => return Err(unreadable(&format!("a set of {} keys; 1 to {KEYS_MAX} are read", keys.len()))),
            None => PublicKey::from_jwk(&jwk).map(|key| vec![key]),
        }
    } else if let Ok(certificate) = pem::decode_one(pem::Kind::Certificate, &text) {
        let certificate =
            Certificate::read(&certificate).map_err(|error| unreadable(&format!("the certificate: {error}")))?;
        PublicKey::from_spki(certificate.tbs.spki).map(|key| vec![key])
    } else {
        let spki = pem::decode_one(pem::Kind::PublicKey, &text).map_err(|error| unreadable(&error))?;
        PublicKey::from_spki(&spki).map(|key| vec![key])
    };
    read.map_err(|refusal| malformed(file, refusal.name(), refusal))
}

fn malformed(file: &Path, name: &str, why: impl std::fmt::Display) -> Failure {
    let said = format!("{}: {why}", file.display());
    Failure::usage(name, said, "give a public key as `key export` writes it, or a certificate, PEM")
}

/// Verifies a signature over a file, a JWS in each form that the service answers, or proofs of a Merkle tree. Exit code 3
/// when it does not verify.
///
/// # Errors
/// The rule's name: `jws_…`, `proof_…`, `file_mismatch`; `file_unreadable`, `key_…`.
pub fn run(signature: &Path, key: &Path, file: Option<&PathBuf>, context: &Context) -> Result<(), Failure> {
    let keys = public_keys(key)?;
    let bytes = content(signature)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    let (shown, key) = with_one_of(&keys, |key| match (proofs_in(&text), raw_in(&bytes, &text, key)) {
        (Some(proofs), _) => of_proofs(&proofs, key, file),
        (None, Some(raw)) => of_raw(&raw, key, file),
        (None, None) => of_jws(&compact(&text, file)?, key, file),
    })?;
    context.print(&shown, |shown| told(shown, key));
    Ok(())
}

/// As people read it: what was signed, and what was not looked at.
fn told(shown: &Value, key: &PublicKey) -> String {
    let kind = shown["kind"].as_str().unwrap_or("JWS");
    let mut lines = vec![format!("verified: a {kind} signed by {}", key.id())];
    let payload = &shown["payload"];
    if kind == "file" {
        lines.push(format!(
            "file: {}, {} bytes, SHA-256 {}",
            cell(&payload["name"]),
            cell(&payload["size"]),
            cell(&payload["sha256"])
        ));
    } else if !payload.is_null() {
        lines.push(format!("payload: {}", visible(&payload.to_string())));
    }
    if shown["file_compared"] == false && kind != "jwt" {
        lines.push("no file was compared with it: give it with --file".into());
    }
    lines.join("\n")
}

/// A raw signature as `sign --kind raw` writes it: base64url of r and s, or DER; alone, or in the answer of `sign --json`.
fn raw_in(bytes: &[u8], text: &str, key: &PublicKey) -> Option<Vec<u8>> {
    // SEQUENCE of INTEGER: no text has the second tag's byte, and any other may stand for a letter or a point.
    if matches!(bytes, [0x30, _, 0x02, ..] | [0x30, 0x81, _, 0x02, ..]) {
        return Some(bytes.to_vec());
    }
    let answered: Option<Value> = serde_json::from_str(text).ok();
    let signature = answered.as_ref().and_then(|answer| answer["result"]["signature"].as_str());
    let encoded = signature.or_else(|| (answered.is_none() && !text.contains('.')).then_some(text))?;
    match URL_SAFE_NO_PAD.decode(encoded) {
        Ok(raw) => sign::from_wire(key.algorithm(), &raw),
        Err(_) => Some(bytes.to_vec()),
    }
}

fn of_raw(signature: &[u8], key: &PublicKey, file: Option<&PathBuf>) -> Result<Value, Failure> {
    let next = "say what it was signed of: --file FILE";
    let file = file.ok_or_else(|| Failure::usage("payload_detached", "a raw signature is of a file", next))?;
    let is_valid = match key.algorithm() {
        Algorithm::P256 => sign::digest_is_signed(key.spki(), &digest(file)?.0.0, signature),
        Algorithm::P384 => {
            let (hash, _) = hashed(file, &aws_lc_rs::digest::SHA384)?;
            sign::digest_is_signed(key.spki(), &hash, signature)
        }
        Algorithm::Ed25519 | Algorithm::Rsa3072 | Algorithm::Aes256 => {
            sign::signature_is_valid(key.spki(), &content(file)?, signature)
        }
    };
    if !is_valid {
        return Err(refused("signature_invalid", "the signature is not by this key over this file"));
    }
    Ok(json!({ "verified": true, "kind": "raw", "file_compared": true }))
}

/// What the first key says that verifies it; of several that do not, what the first said.
fn with_one_of(
    keys: &[PublicKey],
    verify: impl Fn(&PublicKey) -> Result<Value, Failure>,
) -> Result<(Value, &PublicKey), Failure> {
    let mut first = None;
    for key in keys {
        match verify(key) {
            Ok(shown) => return Ok((shown, key)),
            Err(failure) => first = first.or(Some(failure)),
        }
    }
    Err(first.unwrap_or_else(|| refused("key_malformed", "there is no key to verify it with")))
}

/// A proof as `sign --merkle --out` writes it, or all of an answer of `sign --merkle --json`.
fn proofs_in(text: &str) -> Option<Vec<LeafProof>> {
    let value: Value = serde_json::from_str(text).ok()?;
    match serde_json::from_value::<LeafProof>(value.clone()) {
        Ok(proof) => Some(vec![proof]),
        Err(_) => proofs(&value).filter(|proofs| !proofs.is_empty()),
    }
}

fn of_proofs(all: &[LeafProof], key: &PublicKey, file: Option<&PathBuf>) -> Result<Value, Failure> {
    for proof in all {
        verify_proof(proof, key).map_err(|refusal| refused(refusal.name(), &refusal.to_string()))?;
    }
    let own = match file {
        Some(file) => {
            let own = digest(file)?.0;
            Some(all.iter().find(|proof| proof.sha256 == own).ok_or_else(mismatch)?)
        }
        None => all.first().filter(|_| all.len() == 1),
    };
    Ok(match own {
        Some(proof) => json!({
            "verified": true, "kind": "batch", "sha256": proof.sha256, "index": proof.index, "size": proof.size,
            "file_compared": file.is_some(),
        }),
        None => json!({ "verified": true, "kind": "batch", "proofs": all.len(), "file_compared": false }),
    })
}

/// The compact form (RFC 7515, 7.1) of whatever form the service answers in, alone or in the answer of `sign --json`.
/// What a detached one is over comes of the file.
fn compact(text: &str, file: Option<&PathBuf>) -> Result<String, Failure> {
    let jws = whole(text).unwrap_or_else(|| text.to_owned());
    let Some((header, signature)) = jws.split_once("..") else {
        return Ok(jws);
    };
    let next = "say what it was signed of: --file FILE";
    let file = file.ok_or_else(|| Failure::usage("payload_detached", "the signature is without its payload", next))?;
    let read = URL_SAFE_NO_PAD.decode(header).ok().and_then(|header| serde_json::from_slice::<Value>(&header).ok());
    let is_of_a_file = read.is_some_and(|header| header["typ"].as_str() == ExternalKind::File.typ());
    let payload = if is_of_a_file {
        let (sha256, size) = digest(file)?;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        FileStatement::new(sha256, size, name).canonical().map_err(|_| mismatch())?
    } else {
        document(file)?
    };
    Ok(format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(payload)))
}

/// A JWS that stands in JSON: flattened (RFC 7515, 7.2.2) or compact.
fn whole(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let jws = [&value["result"]["jws"], &value["jws"], &value].into_iter().find(|one| !one.is_null())?;
    if let Some(compact) = jws.as_str() {
        return Some(compact.to_owned());
    }
    let part = |name: &str| jws[name].as_str();
    Some(format!("{}.{}.{}", part("protected")?, part("payload")?, part("signature")?))
}

fn of_jws(text: &str, key: &PublicKey, file: Option<&PathBuf>) -> Result<Value, Failure> {
    let of_rule = |refusal: JwsRefusal| refused(refusal.name(), refusal.sentence());
    let verified = verify_any(text, key).map_err(of_rule)?;
    let kind = ExternalKind::ALL.into_iter().find(|kind| verify_kind(text, key, *kind).is_ok());
    if let Some(file) = file {
        match (kind, FileStatement::read(verified.payload())) {
            (Some(ExternalKind::File), Some(signed)) => compare(file, &signed)?,
            (Some(ExternalKind::Document), _) => {
                let is_same = document(file)? == verified.payload();
                is_same.then_some(()).ok_or_else(mismatch)?;
            }
            (_, _) => return Err(refused("not_of_a_file", "the signature is not one over a file")),
        }
    }
    let payload = serde_json::from_slice::<Value>(verified.payload()).ok();
    let ends = payload.as_ref().filter(|_| kind == Some(ExternalKind::Jwt)).and_then(|claims| claims["exp"].as_i64());
    if ends.is_some_and(|ends| clock::now().seconds() >= ends) {
        return Err(refused("jwt_expired", "the token is genuine, and its time is over"));
    }
    Ok(json!({
        "verified": true,
        "kind": kind,
        "header": verified.header(),
        "payload": payload,
        "file_compared": file.is_some(),
    }))
}

/// What is signed of a document.
fn document(file: &Path) -> Result<Vec<u8>, Failure> {
    let read = serde_json::from_slice::<Value>(&content(file)?).map_err(|_| mismatch())?;
    canon::canonical(&read).map_err(|_| mismatch())
}

/// Compares a file with what was signed of it.
fn compare(file: &Path, signed: &FileStatement) -> Result<(), Failure> {
    let (sha256, size) = digest(file)?;
    if sha256 == signed.sha256 && size.to_string() == signed.size { Ok(()) } else { Err(mismatch()) }
}

fn mismatch() -> Failure {
    refused("file_mismatch", "the signature is over another file, or over another version of it")
}

fn refused(name: &str, message: &str) -> Failure {
    Failure::refused(name, message, "do not rely on it; ask whoever signed for the right file and signature")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

    /// Every fourth signature in DER has the byte of a point in it, by which a JWS was known once.
    #[test]
    fn der_is_der_whatever_bytes_are_in_it() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let jwk = json!({
            "kty": "EC", "crv": "P-256",
            "x": URL_SAFE_NO_PAD.encode(&pair.public_key().as_ref()[1..33]),
            "y": URL_SAFE_NO_PAD.encode(&pair.public_key().as_ref()[33..]),
        });
        let key = PublicKey::from_jwk(&jwk).unwrap();
        let (mut pointed, mut plain) = (0, 0);
        while pointed < 3 || plain < 3 {
            let made = pair.sign(&SystemRandom::new(), b"one").unwrap();
            let text = String::from_utf8_lossy(made.as_ref()).trim().to_owned();
            assert_eq!(raw_in(made.as_ref(), &text, &key).as_deref(), Some(made.as_ref()));
            *(if text.contains('.') { &mut pointed } else { &mut plain }) += 1;
        }
    }
}
