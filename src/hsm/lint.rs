//! What the worker checks of an input before a key touches it.
//!
//! The front may be taken over; the worker then still signs only what has the shape its kind promises. Bytes that
//! could be read as two kinds of input are refused here, and so is what speaks of another key than the one that is
//! to sign. The rules for certificates, lists and requests are the kernel's.

use super::{CONTEXT_BYTES_MAX, HsmFault, KeyInfo, Op, PLAINTEXT_BYTES_MAX, SEALED_BYTES_MAX};
use crate::kernel::approval::ApprovalDocument;
use crate::kernel::canon;
use crate::kernel::credential::lint::{self as credential, LintRefusal};
use crate::kernel::credential::profile::Profile;
use crate::kernel::export_note::{EXPORT_NOTE_BYTES_MAX, ExportNote};
use crate::kernel::external::{self, FormRefusal};
use crate::kernel::httpsig::{self, BaseRefusal, SignatureRefusal};
use crate::kernel::jwt::{self, TokenRefusal};
use crate::kernel::mandate::{self, MandateRefusal};
use crate::kernel::sign::{DocumentTag, Purpose, SignInput};
use crate::kernel::types::{KeyId, UnixMillis};

/// Largest payload of one input, by kind. A CRL of 8 MiB holds some 200,000 entries.
pub fn bytes_max(input: &SignInput) -> usize {
    match input {
        SignInput::Certificate { .. } | SignInput::CertificationRequest { .. } => 64 * 1024,
        SignInput::Crl { .. } => 8 * 1024 * 1024,
        SignInput::Ocsp { .. } => 16 * 1024,
        SignInput::RelatedCertRequest { .. } => 4 * 1024,
        SignInput::TlsCertificateVerify { .. } | SignInput::SelfTest { .. } => 64,
        SignInput::Document { .. } => 1024 * 1024,
        SignInput::TreeHead { .. } | SignInput::Cosignature { .. } => 4 * 1024,
        SignInput::AuditExport { .. } => EXPORT_NOTE_BYTES_MAX,
        SignInput::HttpRequest { .. } => 16 * 1024,
        SignInput::Jwt { .. } => jwt::TOKEN_BYTES_MAX,
        SignInput::Mandate { .. } => mandate::MANDATE_BYTES_MAX,
        SignInput::External { .. } => external::EXTERNAL_BYTES_MAX,
    }
}

/// Payload bytes of an input.
pub fn bytes(input: &SignInput) -> usize {
    match input {
        SignInput::Certificate { tbs } | SignInput::Crl { tbs } => tbs.len(),
        SignInput::Ocsp { data } => data.len(),
        SignInput::CertificationRequest { info } => info.len(),
        SignInput::RelatedCertRequest { cert_id, request_time } => cert_id.len() + request_time.len(),
        SignInput::TlsCertificateVerify { transcript_hash, .. } => transcript_hash.len(),
        SignInput::Document { canonical_json, .. } => canonical_json.len(),
        SignInput::TreeHead { note } | SignInput::AuditExport { note } => note.len(),
        SignInput::Cosignature { message } => message.len(),
        SignInput::HttpRequest { base } => base.len(),
        SignInput::Jwt { signing_input } => signing_input.len(),
        SignInput::Mandate { signing_input, disclosures } => {
            signing_input.len() + disclosures.iter().map(|disclosure| disclosure.len() + 1).sum::<usize>()
        }
        SignInput::External { bytes, .. } => bytes.len(),
        SignInput::SelfTest { nonce } => nonce.len(),
    }
}

/// Passes a call whose payload is not larger than its kind may be.
///
/// # Errors
/// `Refused` with the name `input_too_large`.
pub fn lint_size(op: &Op) -> Result<(), HsmFault> {
    let within = |what: &str, bytes: usize, max: usize| {
        if bytes <= max {
            return Ok(());
        }
        Err(refused("input_too_large", format!("{what} has {bytes} bytes, at most {max} are taken")))
    };
    match op {
        Op::Describe | Op::ListKeys | Op::Retire { .. } | Op::Destroy { .. } => Ok(()),
        Op::Generate(order) => {
            let longest = order.party.len().max(order.agent.as_ref().map_or(0, String::len));
            within("a name in a key's label", longest, NAME_BYTES_MAX)
        }
        Op::Sign { input, .. } => within(input.kind(), bytes(input), bytes_max(input)),
        Op::Seal { context, plaintext, .. } => {
            within("a context", context.len(), CONTEXT_BYTES_MAX)?;
            within("a plaintext", plaintext.0.len(), PLAINTEXT_BYTES_MAX)
        }
        Op::Unseal { context, sealed, .. } => {
            within("a context", context.len(), CONTEXT_BYTES_MAX)?;
            within("a sealed text", sealed.len(), SEALED_BYTES_MAX)
        }
    }
}

/// Longer than any name of a party or an agent.
const NAME_BYTES_MAX: usize = 256;

/// Passes an input that this key may sign at `now`. Whose key a certificate is over is asked with
/// [`lint_subject_key`].
///
/// # Errors
/// `Refused` with the name `wrong_purpose`, `input_too_large`, `input_malformed` or the kernel's `lint_…`; nothing
/// was signed.
pub fn lint(key: &KeyInfo, input: &SignInput, now: UnixMillis) -> Result<(), HsmFault> {
    lint_for(key.purpose, key.id, input, now)?;
    credential::lint_names_responder(input, &key.spki).map_err(linted)?;
    if let SignInput::External { form, bytes } = input {
        let of_name = external::lint_name(*form, key.agent.as_deref().unwrap_or_default());
        let fits = of_name.and_then(|()| external::lint(*form, bytes, key.id, key.algorithm));
        return fits.map_err(|refusal| match refusal {
            FormRefusal::AnotherKey => linted(LintRefusal::AnotherKey),
            FormRefusal::NotOfName => refused("input_not_for_key", format!("{}: {refusal}", input.kind())),
            FormRefusal::NotOfForm(why) => refused("input_malformed", format!("{}: {why}", input.kind())),
        });
    }
    credential::lint_names_algorithm(input, key.algorithm).map_err(linted)
}

/// Passes a certificate over a key that `purpose_of` knows for what it is certified for, as
/// [`credential::lint_subject_key`]; passes everything else.
///
/// # Errors
/// `Refused` with the kernel's `lint_…`.
pub fn lint_subject_key(
    signer: Purpose,
    input: &SignInput,
    purpose_of: impl FnOnce(KeyId, Profile) -> Option<Purpose>,
) -> Result<(), HsmFault> {
    match input {
        SignInput::Certificate { tbs } => credential::lint_subject_key(signer, tbs, purpose_of).map_err(linted),
        SignInput::Crl { .. }
        | SignInput::Ocsp { .. }
        | SignInput::CertificationRequest { .. }
        | SignInput::RelatedCertRequest { .. }
        | SignInput::TlsCertificateVerify { .. }
        | SignInput::Document { .. }
        | SignInput::TreeHead { .. }
        | SignInput::Cosignature { .. }
        | SignInput::AuditExport { .. }
        | SignInput::HttpRequest { .. }
        | SignInput::Jwt { .. }
        | SignInput::Mandate { .. }
        | SignInput::External { .. }
        | SignInput::SelfTest { .. } => Ok(()),
    }
}

fn lint_for(purpose: Purpose, signer: KeyId, input: &SignInput, now: UnixMillis) -> Result<(), HsmFault> {
    if !purpose.permits(input) {
        return Err(refused(
            "wrong_purpose",
            format!("a key of purpose {} does not sign {}", purpose.slug(), input.kind()),
        ));
    }
    if bytes(input) > bytes_max(input) {
        return Err(refused(
            "input_too_large",
            format!("{} has {} bytes, at most {} are signed", input.kind(), bytes(input), bytes_max(input)),
        ));
    }
    credential::lint_names_signer(input, signer).map_err(linted)?;
    let malformed = |why: String| refused("input_malformed", format!("{}: {why}", input.kind()));
    match input {
        SignInput::Certificate { tbs } => credential::lint_tbs_certificate(purpose, tbs, now).map_err(linted),
        SignInput::Crl { tbs } => credential::lint_tbs_crl(tbs).map_err(linted),
        SignInput::Ocsp { data } => credential::lint_ocsp(data).map_err(linted),
        SignInput::CertificationRequest { info } => credential::lint_request_info(info).map_err(linted),
        SignInput::RelatedCertRequest { cert_id, request_time } => {
            credential::lint_related_request(cert_id, request_time).map_err(linted)
        }
        SignInput::TlsCertificateVerify { transcript_hash, .. } => match transcript_hash.len() {
            32 | 48 => Ok(()),
            length => Err(malformed(format!("a transcript hash has 32 or 48 bytes, not {length}"))),
        },
        SignInput::Document { tag: DocumentTag::PaymentApproval, canonical_json } => {
            let read = ApprovalDocument::read(canonical_json).map(drop);
            read.ok_or_else(|| malformed("it is not the structure of a person's word about a payment".into()))
        }
        SignInput::Document { canonical_json, .. } => document(canonical_json).map_err(malformed),
        SignInput::TreeHead { note } => tree_head(note).map_err(malformed),
        SignInput::Cosignature { message } => cosignature(message).map_err(malformed),
        SignInput::AuditExport { note } => audit_export(note, signer),
        SignInput::HttpRequest { base } => httpsig::lint_base(base, signer, now).map_err(|refusal| match refusal {
            BaseRefusal::Rule(SignatureRefusal::KeyMismatch) => linted(LintRefusal::AnotherKey),
            BaseRefusal::Rule(_) | BaseRefusal::NotABase(_) => malformed(refusal.to_string()),
        }),
        SignInput::Jwt { signing_input } => jwt::lint_signing_input(signing_input, signer, now).map_err(|refusal| {
            let another_key = refusal == TokenRefusal::KeyUnknown;
            if another_key { linted(LintRefusal::AnotherKey) } else { malformed(refusal.to_string()) }
        }),
        SignInput::Mandate { signing_input, disclosures } => {
            mandate::lint_signing_input(signing_input, disclosures, signer, now).map_err(|refusal| {
                let another_key = refusal == MandateRefusal::KeyUnknown;
                if another_key { linted(LintRefusal::AnotherKey) } else { malformed(refusal.to_string()) }
            })
        }
        // Its form depends on the key's algorithm: `lint` asks.
        SignInput::External { .. } | SignInput::SelfTest { .. } => Ok(()),
    }
}

fn linted(refusal: LintRefusal) -> HsmFault {
    refused(refusal.name(), refusal.to_string())
}

fn refused(name: &str, message: String) -> HsmFault {
    HsmFault::Refused { name: name.into(), message }
}

/// A JSON object in canonical form (RFC 8785): one value has one byte string.
fn document(bytes: &[u8]) -> Result<(), String> {
    if bytes.first() != Some(&b'{') {
        return Err("it is not a JSON object".into());
    }
    if !canon::is_canonical(bytes) {
        return Err("it is not in canonical form".into());
    }
    Ok(())
}

/// Origin, size and base64 root, each ended by a newline (C2SP tlog-checkpoint).
fn tree_head(note: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(note).map_err(|_| "it is not UTF-8")?;
    let lines: Vec<&str> = text.strip_suffix('\n').ok_or("it does not end with a newline")?.split('\n').collect();
    let [origin, size, root] = lines[..] else {
        return Err(format!("a tree head has 3 lines, not {}", lines.len()));
    };
    let origin_plain = !origin.is_empty() && origin.chars().all(|c| c.is_ascii_graphic() && c != '+');
    if !origin_plain || origin == COSIGNATURE_HEADER {
        return Err("its origin is not plain printable text".into());
    }
    if decimal(size).is_none() {
        return Err("its size is not a plain decimal number".into());
    }
    let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, root);
    match decoded {
        Ok(root) if root.len() == 32 => Ok(()),
        Ok(_) | Err(_) => Err("its root is not 32 bytes in base64".into()),
    }
}

/// What is said about an export of the log, with the certificate of the key that says it.
fn audit_export(note: &[u8], signer: KeyId) -> Result<(), HsmFault> {
    let read = std::str::from_utf8(note).ok().and_then(ExportNote::parse);
    match read {
        Some(note) if note.names(signer) => Ok(()),
        Some(_) => Err(linted(LintRefusal::AnotherKey)),
        None => Err(refused("input_malformed", "audit-export: it is not the note of an export".into())),
    }
}

const COSIGNATURE_HEADER: &str = "cosignature/v1";

/// `cosignature/v1`, `time <seconds>`, then a tree head (C2SP tlog-cosignature).
fn cosignature(message: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(message).map_err(|_| "it is not UTF-8")?;
    let mut parts = text.splitn(3, '\n');
    if parts.next() != Some(COSIGNATURE_HEADER) {
        return Err("it does not start with cosignature/v1".into());
    }
    let time = parts.next().and_then(|line| line.strip_prefix("time "));
    time.and_then(decimal).ok_or("its time is not a plain decimal number")?;
    tree_head(parts.next().unwrap_or_default().as_bytes())
}

fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|value: &u64| value.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::httpsig::{Components, Parameters};
    use crate::kernel::sign::TlsSide;

    const SIGNER: KeyId = crate::kernel::types::Sha256([7; 32]);
    /// 2026-11-21T04:20:00Z
    const NOW: UnixMillis = UnixMillis(1_795_234_800_000);
    const ROOT: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    fn tree(note: String) -> (Purpose, SignInput) {
        (Purpose::Checkpoint, SignInput::TreeHead { note: note.into_bytes() })
    }

    fn document_of(text: &str) -> (Purpose, SignInput) {
        let tag = DocumentTag::BatchRoot;
        (Purpose::Transaction, SignInput::Document { tag, canonical_json: text.as_bytes().to_vec() })
    }

    fn cosigned(text: String) -> (Purpose, SignInput) {
        (Purpose::Witness, SignInput::Cosignature { message: text.into_bytes() })
    }

    /// A request that is signed with this key at this moment.
    fn request(key: KeyId, at: UnixMillis) -> (Purpose, SignInput) {
        let components = Components {
            method: "POST".into(),
            target_uri: "https://bank.example/mcp".into(),
            content_digest: httpsig::content_digest(b"{}"),
            protocol_version: "2026-07-28".into(),
            mcp_method: "tools/list".into(),
            mcp_name: None,
            authorization: None,
        };
        let created = at.0 / 1000;
        let parameters = Parameters { created, expires: created + 60, nonce: "n".repeat(43) };
        (Purpose::Agent, SignInput::HttpRequest { base: components.draft(&parameters, key).base })
    }

    fn unlike_a_request(text: &str) -> (Purpose, SignInput) {
        (Purpose::Agent, SignInput::HttpRequest { base: text.as_bytes().to_vec() })
    }

    fn related(cert_id: &[u8], request_time: &[u8]) -> (Purpose, SignInput) {
        let (cert_id, request_time) = (cert_id.to_vec(), request_time.to_vec());
        (Purpose::Agent, SignInput::RelatedCertRequest { cert_id, request_time })
    }

    #[test]
    fn well_formed_inputs_pass() {
        for (purpose, input) in [
            tree(format!("bank.example/log\n7\n{ROOT}\n")),
            cosigned(format!("cosignature/v1\ntime 1700000000\nbank.example/log\n7\n{ROOT}\n")),
            document_of(r#"{"a":"1","b":[true,null]}"#),
            request(SIGNER, NOW),
            (Purpose::TokenIdentity, SignInput::SelfTest { nonce: [0; 32] }),
        ] {
            assert_eq!(lint_for(purpose, SIGNER, &input, NOW), Ok(()), "{input:?}");
        }
    }

    #[test]
    fn malformed_inputs_are_refused_by_name() {
        for (purpose, input) in [
            tree(String::new()),
            tree(format!("bank.example/log\n7\n{ROOT}")),
            tree(format!("bank.example/log\n07\n{ROOT}\n")),
            tree(format!("bank.example/log\n-7\n{ROOT}\n")),
            tree(format!("bank example\n7\n{ROOT}\n")),
            tree(format!("\n7\n{ROOT}\n")),
            tree(format!("cosignature/v1\n7\n{ROOT}\n")),
            tree("bank.example/log\n7\nAAAA\n".into()),
            tree(format!("bank.example/log\n7\n{ROOT}\nextension\n")),
            cosigned(format!("bank.example/log\n7\n{ROOT}\n")),
            cosigned(format!("cosignature/v1\ntime 01\nbank.example/log\n7\n{ROOT}\n")),
            cosigned("cosignature/v1\ntime 1\n".into()),
            document_of(""),
            document_of("[]"),
            document_of(r#"{"a": 1}"#),
            document_of(r#"{"b":1,"a":2}"#),
            document_of(r#"{"a":1,"a":2}"#),
            document_of("{\"a\":1}\n"),
            related(&[], &[2, 1, 5]),
            related(&[0x30, 2, 2, 0, 9], &[2, 1, 5]),
            related(&[0x30, 0x81, 2, 2, 0], &[2, 1, 5]),
            related(&[0x30, 2, 2, 0], &[]),
            related(&[0x30, 2, 2, 0], &[2, 1, 5, 0]),
            related(&[0x30, 2, 2, 0], &[0x30, 1, 5]),
            (Purpose::Issuing, SignInput::Certificate { tbs: vec![] }),
            (Purpose::Issuing, SignInput::Certificate { tbs: vec![0x30, 0] }),
            (Purpose::Issuing, SignInput::Crl { tbs: vec![0x30, 0] }),
            (Purpose::Agent, SignInput::CertificationRequest { info: vec![0x30, 0] }),
            request(SIGNER, UnixMillis(NOW.0 + 3_600_000)),
            unlike_a_request(""),
            unlike_a_request("{}"),
            unlike_a_request("\"@method\": POST\n\"@signature-params\": ();tag=\"countersign-request\""),
            (
                Purpose::TlsServer,
                SignInput::TlsCertificateVerify { side: TlsSide::Server, transcript_hash: vec![0; 20] },
            ),
        ] {
            let fault = lint_for(purpose, SIGNER, &input, NOW).unwrap_err();
            assert!(
                matches!(fault.name(), "input_malformed" | "lint_malformed" | "lint_crl" | "lint_request"),
                "{input:?}: {fault}"
            );
        }
    }

    #[test]
    fn a_request_is_signed_by_the_key_that_it_names() {
        let (purpose, input) = request(crate::kernel::types::Sha256([8; 32]), NOW);
        assert_eq!(lint_for(purpose, SIGNER, &input, NOW).unwrap_err().name(), "lint_another_key");
    }

    #[test]
    fn purpose_and_size_come_before_shape() {
        let (_, head) = tree(String::new());
        assert_eq!(lint_for(Purpose::Transaction, SIGNER, &head, NOW).unwrap_err().name(), "wrong_purpose");
        let (purpose, long) = tree("x".repeat(5000));
        assert_eq!(lint_for(purpose, SIGNER, &long, NOW).unwrap_err().name(), "input_too_large");
    }
}
