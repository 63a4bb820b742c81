//! What an HSM key may sign, and the exact bytes of each kind.
//!
//! Shared by the worker that signs and by everything that verifies, so the two cannot drift apart. A caller
//! hands over typed input, never a digest; a key has one [`Purpose`], fixed when it is generated; each kind of
//! input is separated from every other by its structure (DER, TLS 1.3 context, signed note) or by a tag.

mod low_s;

use aws_lc_rs::digest::{self, Digest, SHA256, SHA384};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde::{Deserialize, Serialize};

pub use low_s::{has_low_s, lower_s, with_low_s};

use crate::kernel::credential::der::Reader;
use crate::kernel::external::ExternalForm;

/// What a key is for. Part of the key's label, which is fixed in the token at generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A party's root: signs its issuing CA's certificate and the root's own.
    Root,
    /// A party's issuing CA: signs end-entity certificates and CRLs.
    Issuing,
    /// TLS server of the MCP listener.
    TlsServer,
    /// The bank towards its core banking system: TLS client handshakes.
    TlsClient,
    /// An agent: its CSR, related-certificate proof, TLS client handshake and requests.
    Agent,
    /// The agent host: custody statements only.
    HostIdentity,
    /// The audit log's checkpoint notes.
    Checkpoint,
    /// Cosignatures over another party's checkpoints.
    Witness,
    /// The Merkle root of a batch of posted transactions.
    Transaction,
    /// The role catalogue.
    Catalogue,
    /// Receipts of revocations.
    RevocationReceipt,
    /// What an issuing CA's certificates are worth now (OCSP, RFC 6960).
    OcspResponder,
    /// The list of tools that the bank offers to agents.
    Manifest,
    /// The bank's access tokens, and what clients carry between calls (JWT).
    Token,
    /// A person of a party, in a token of their own: what they decided.
    Operator,
    /// Recognises the token; signs self-tests only.
    TokenIdentity,
    /// Seals the credentials of the vault: AES, or RSA where the module has no AES-GCM. Signs nothing.
    VaultWrapping,
    /// AES: wraps the data keys of the store's subjects. Signs nothing.
    DataWrapping,
    /// For other programs on the machine: what they hand in, and nothing of this product (`kernel::external`).
    External,
}

impl Purpose {
    pub const ALL: [Self; 19] = [
        Self::Root,
        Self::Issuing,
        Self::TlsServer,
        Self::TlsClient,
        Self::Agent,
        Self::HostIdentity,
        Self::Checkpoint,
        Self::Witness,
        Self::Transaction,
        Self::Catalogue,
        Self::RevocationReceipt,
        Self::OcspResponder,
        Self::Manifest,
        Self::Token,
        Self::Operator,
        Self::TokenIdentity,
        Self::External,
        Self::VaultWrapping,
        Self::DataWrapping,
    ];

    /// The word in a key's label: `<party>-<purpose>[.<name>]-v<N>`.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuing => "issuing",
            Self::TlsServer => "tls-server",
            Self::TlsClient => "tls-client",
            Self::Agent => "agent",
            Self::HostIdentity => "host-identity",
            Self::Checkpoint => "checkpoint",
            Self::Witness => "witness",
            Self::Transaction => "transaction",
            Self::Catalogue => "catalogue",
            Self::RevocationReceipt => "revocation-receipt",
            Self::OcspResponder => "ocsp-responder",
            Self::Manifest => "manifest",
            Self::Token => "token",
            Self::Operator => "operator",
            Self::TokenIdentity => "token-identity",
            Self::External => "external",
            Self::VaultWrapping => "vault-wrapping",
            Self::DataWrapping => "data-wrapping",
        }
    }

    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.slug() == slug)
    }

    /// Every algorithm that a key of this purpose may have. The first is made unless the configuration names another.
    ///
    /// Checkpoints and cosignatures are signed notes, which are Ed25519 (C2SP signed-note), and nothing else is: few
    /// modules have it, so that P-256 does for them under a type of our own. TLS 1.3 and requests are ECDSA, tokens are
    /// ES256.
    pub fn algorithms(self) -> &'static [Algorithm] {
        match self {
            Self::Root
            | Self::Issuing
            | Self::HostIdentity
            | Self::Transaction
            | Self::Catalogue
            | Self::RevocationReceipt
            | Self::OcspResponder
            | Self::Manifest => Algorithm::OF_AUTHORITIES,
            Self::TlsServer | Self::TlsClient | Self::Agent | Self::Operator => &[Algorithm::P256, Algorithm::P384],
            Self::Checkpoint | Self::Witness => &[Algorithm::Ed25519, Algorithm::P256],
            Self::Token | Self::TokenIdentity => &[Algorithm::P256],
            Self::External => &[Algorithm::P256, Algorithm::P384, Algorithm::Ed25519],
            Self::VaultWrapping => &[Algorithm::Aes256, Algorithm::Rsa3072],
            Self::DataWrapping => &[Algorithm::Aes256],
        }
    }

    /// What a key of this purpose is unless the configuration names something else.
    pub fn default_algorithm(self) -> Algorithm {
        self.algorithms()[0]
    }

    /// True when a party has several keys of this purpose at once, told apart by a name: the agent's, or the one that the
    /// configuration of the signing service has for it.
    pub fn is_named(self) -> bool {
        matches!(self, Self::Agent | Self::External)
    }

    /// True when keys of this purpose seal and open data, and sign nothing.
    pub fn seals(self) -> bool {
        matches!(self, Self::VaultWrapping | Self::DataWrapping)
    }

    /// True when a key of this purpose may sign this kind of input. Everything not named is refused.
    pub fn permits(self, input: &SignInput) -> bool {
        match input {
            SignInput::Certificate { .. } => matches!(self, Self::Root | Self::Issuing),
            SignInput::Crl { .. } => matches!(self, Self::Root | Self::Issuing),
            SignInput::Ocsp { .. } => self == Self::OcspResponder,
            SignInput::CertificationRequest { .. }
            | SignInput::RelatedCertRequest { .. }
            | SignInput::HttpRequest { .. } => self == Self::Agent,
            SignInput::TlsCertificateVerify { side, .. } => match side {
                TlsSide::Server => self == Self::TlsServer,
                TlsSide::Client => matches!(self, Self::Agent | Self::TlsClient),
            },
            SignInput::Document { tag, .. } => match tag {
                DocumentTag::CustodyStatement => self == Self::HostIdentity,
                DocumentTag::Catalogue => self == Self::Catalogue,
                DocumentTag::BatchRoot => self == Self::Transaction,
                DocumentTag::RevocationReceipt => self == Self::RevocationReceipt,
                DocumentTag::ToolManifest => self == Self::Manifest,
                DocumentTag::OperatorAct | DocumentTag::PaymentApproval => self == Self::Operator,
                // A standing statement of the party about itself, like its catalogue; an agent host, which has no
                // certificates, makes it with the key that the other parties enrolled.
                DocumentTag::CustodyReport => matches!(self, Self::Catalogue | Self::HostIdentity),
            },
            SignInput::TreeHead { .. } | SignInput::AuditExport { .. } => self == Self::Checkpoint,
            SignInput::Cosignature { .. } => self == Self::Witness,
            SignInput::Jwt { .. } => self == Self::Token,
            SignInput::Mandate { .. } => self == Self::Operator,
            SignInput::External { .. } => self == Self::External,
            SignInput::SelfTest { .. } => !self.seals(),
        }
    }
}

/// Key type and what is done with it. Signatures travel as DER `ECDSA-Sig-Value`, as 64 bytes of Ed25519, or as 384
/// bytes of RSA.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// ECDSA on P-256 over SHA-256 of the message.
    P256,
    /// ECDSA on P-384 over SHA-384 of the message.
    P384,
    /// Ed25519 over the message (RFC 8032, pure).
    Ed25519,
    /// RSA with 3072 bits and exponent 65537: PKCS #1 v1.5 over SHA-256 of the message (RFC 8017, 8.2), or OAEP for a key
    /// that seals (7.1).
    Rsa3072,
    /// AES-256-GCM; no public key, no signatures.
    Aes256,
}

impl Algorithm {
    pub const ALL: [Self; 5] = [Self::P256, Self::P384, Self::Ed25519, Self::Rsa3072, Self::Aes256];

    /// What certificates, revocation lists and documents are signed with.
    pub const OF_AUTHORITIES: &'static [Self] = &[Self::P256, Self::P384, Self::Rsa3072];

    /// The word in configurations and reports.
    pub fn slug(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::Ed25519 => "ed25519",
            Self::Rsa3072 => "rsa3072",
            Self::Aes256 => "aes256",
        }
    }

    /// `AlgorithmIdentifier` (DER) of this algorithm's signatures in certificates, lists and requests (RFC 5758, 3.2;
    /// RFC 8410, 3; RFC 4055, 5). `None`: it makes none.
    pub fn signature_identifier(self) -> Option<&'static [u8]> {
        match self {
            Self::P256 => Some(&[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]),
            Self::P384 => Some(&[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]),
            Self::Ed25519 => Some(&[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70]),
            Self::Rsa3072 => {
                Some(&[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00])
            }
            Self::Aes256 => None,
        }
    }

    /// Its name in HTTP message signatures (RFC 9421, 3.3). `None`: it makes none.
    pub fn http_name(self) -> Option<&'static str> {
        match self {
            Self::P256 => Some("ecdsa-p256-sha256"),
            Self::P384 => Some("ecdsa-p384-sha384"),
            Self::Ed25519 => Some("ed25519"),
            Self::Rsa3072 => Some("rsa-v1_5-sha256"),
            Self::Aes256 => None,
        }
    }

    /// Bytes of r and of s, when it is ECDSA.
    pub fn scalar_bytes(self) -> Option<usize> {
        match self {
            Self::P256 => Some(32),
            Self::P384 => Some(48),
            Self::Ed25519 | Self::Rsa3072 | Self::Aes256 => None,
        }
    }

    /// The algorithm of an authority whose signatures carry this `AlgorithmIdentifier` (DER).
    pub fn of_authority_signature(identifier: &[u8]) -> Option<Self> {
        Self::OF_AUTHORITIES.iter().copied().find(|algorithm| algorithm.signature_identifier() == Some(identifier))
    }
}

/// Which end of a TLS connection proves possession.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsSide {
    Server,
    Client,
}

/// Kinds of canonical JSON documents that are signed under a tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentTag {
    CustodyStatement,
    Catalogue,
    BatchRoot,
    RevocationReceipt,
    CustodyReport,
    ToolManifest,
    OperatorAct,
    PaymentApproval,
}

impl DocumentTag {
    pub fn text(self) -> &'static str {
        match self {
            Self::CustodyStatement => "countersign/custody-statement/v1",
            Self::Catalogue => "countersign/role-catalogue/v1",
            Self::BatchRoot => "countersign/batch-root/v1",
            Self::RevocationReceipt => "countersign/revocation-receipt/v1",
            Self::CustodyReport => "countersign/custody-report/v1",
            Self::ToolManifest => "countersign/tool-manifest/v1",
            Self::OperatorAct => "countersign/operator-act/v1",
            Self::PaymentApproval => "countersign/payment-approval/v1",
        }
    }
}

/// Typed input to one signature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignInput {
    /// DER `TBSCertificate` (RFC 5280, 4.1). Linted by the worker.
    Certificate { tbs: Vec<u8> },
    /// DER `TBSCertList` (RFC 5280, 5.1). Linted by the worker.
    Crl { tbs: Vec<u8> },
    /// DER `ResponseData` (RFC 6960, 4.2.1). Linted by the worker.
    Ocsp { data: Vec<u8> },
    /// DER `CertificationRequestInfo` (RFC 2986). Linted by the worker.
    CertificationRequest { info: Vec<u8> },
    /// DER `IssuerAndSerialNumber` and DER `BinaryTime` (RFC 9763, 3.1): signed one after the other.
    RelatedCertRequest { cert_id: Vec<u8>, request_time: Vec<u8> },
    /// TLS 1.3 CertificateVerify (RFC 8446, 4.4.3): the transcript hash, 32 or 48 bytes.
    TlsCertificateVerify { side: TlsSide, transcript_hash: Vec<u8> },
    /// RFC 8785 canonical JSON under a tag. The worker checks that it is canonical.
    Document { tag: DocumentTag, canonical_json: Vec<u8> },
    /// The text of a C2SP checkpoint: origin, size, root, each ended by a newline.
    TreeHead { note: Vec<u8> },
    /// `cosignature/v1`, `time <seconds>` and the checkpoint text (C2SP tlog-cosignature).
    Cosignature { message: Vec<u8> },
    /// The signature base of a request of an agent (RFC 9421, 2.5), in the profile of `kernel::httpsig`. Linted by the
    /// worker.
    HttpRequest { base: Vec<u8> },
    /// Header and payload of a token (RFC 7515, 5.1), in the profile of `kernel::jwt`. Linted by the worker.
    Jwt { signing_input: Vec<u8> },
    /// Header and payload of an account owner's mandate (RFC 9901, 4), in the profile of `kernel::mandate`, and what its
    /// digests stand for: signed are header and payload. Linted by the worker, which reads all of it.
    Mandate { signing_input: Vec<u8>, disclosures: Vec<String> },
    /// The text of a note about an export of the audit log, as `kernel::export_note` has it. Linted by the worker.
    AuditExport { note: Vec<u8> },
    /// 32 random bytes of the worker's own: shows that a key signs and that it is the key its id says.
    SelfTest { nonce: [u8; 32] },
    /// What another program wants signed, in one of the forms of `kernel::external`. A digest is signed as it is, which no
    /// other kind of input and no key of another purpose ever does. Linted by the worker.
    External { form: ExternalForm, bytes: Vec<u8> },
}

impl SignInput {
    /// A short name for logs and errors.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Certificate { .. } => "certificate",
            Self::Crl { .. } => "crl",
            Self::Ocsp { .. } => "ocsp",
            Self::CertificationRequest { .. } => "certification-request",
            Self::RelatedCertRequest { .. } => "related-cert-request",
            Self::TlsCertificateVerify { .. } => "tls-certificate-verify",
            Self::Document { tag, .. } => tag.text(),
            Self::TreeHead { .. } => "tree-head",
            Self::AuditExport { .. } => "audit-export",
            Self::Cosignature { .. } => "cosignature",
            Self::HttpRequest { .. } => "http-request",
            Self::Jwt { .. } => "jwt",
            Self::Mandate { .. } => "mandate",
            Self::External { form, .. } => form.name(),
            Self::SelfTest { .. } => "self-test",
        }
    }

    /// The exact message that is signed (ECDSA and RSA: hashed first, as the algorithm says, unless it
    /// [is a digest](Self::is_digest) already; Ed25519: as it is).
    pub fn message(&self) -> Vec<u8> {
        match self {
            Self::Certificate { tbs } | Self::Crl { tbs } => tbs.clone(),
            Self::Ocsp { data } => data.clone(),
            Self::CertificationRequest { info } => info.clone(),
            Self::RelatedCertRequest { cert_id, request_time } => [cert_id.as_slice(), request_time].concat(),
            Self::TlsCertificateVerify { side, transcript_hash } => {
                let context: &[u8] = match side {
                    TlsSide::Server => b"TLS 1.3, server CertificateVerify\0",
                    TlsSide::Client => b"TLS 1.3, client CertificateVerify\0",
                };
                [&[0x20; 64], context, transcript_hash].concat()
            }
            Self::Document { tag, canonical_json } => [tag.text().as_bytes(), &[0], canonical_json.as_slice()].concat(),
            Self::TreeHead { note } | Self::AuditExport { note } => note.clone(),
            Self::Cosignature { message } => message.clone(),
            Self::HttpRequest { base } => base.clone(),
            Self::Jwt { signing_input } | Self::Mandate { signing_input, .. } => signing_input.clone(),
            Self::External { bytes, .. } => bytes.clone(),
            Self::SelfTest { nonce } => [b"countersign/self-test/v1\0".as_slice(), nonce].concat(),
        }
    }

    /// True when the message is a digest that another program made: it is not hashed again.
    pub fn is_digest(&self) -> bool {
        matches!(self, Self::External { form: ExternalForm::Digest, .. })
    }

    /// Takes rustls's CertificateVerify message apart, so that the worker composes it anew.
    /// `None` when it is not the fixed 64 spaces, context and a 32- or 48-byte hash.
    pub fn from_tls_message(message: &[u8]) -> Option<Self> {
        let rest = message.strip_prefix(&[0x20_u8; 64])?;
        let (side, hash) =
            rest.strip_prefix(b"TLS 1.3, server CertificateVerify\0").map(|hash| (TlsSide::Server, hash)).or_else(
                || rest.strip_prefix(b"TLS 1.3, client CertificateVerify\0").map(|hash| (TlsSide::Client, hash)),
            )?;
        matches!(hash.len(), 32 | 48).then(|| Self::TlsCertificateVerify { side, transcript_hash: hash.to_vec() })
    }
}

/// True when `signature` over `message` is by the key of this SubjectPublicKeyInfo (DER).
/// ECDSA takes DER `ECDSA-Sig-Value`, Ed25519 64 bytes, RSA 384. Any other key is refused.
#[must_use]
pub fn signature_is_valid(spki_der: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let known = raw_public_key(spki_der).and_then(|(algorithm, key)| Some((verification(algorithm)?, key)));
    known
        .is_some_and(|(verification, key)| UnparsedPublicKey::new(verification, key).verify(message, signature).is_ok())
}

/// The hash of a message that a signature of this algorithm is over. `None`: it is over the message itself.
pub fn signed_digest(algorithm: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
    Some(digest::digest(hash_of(algorithm)?, message).as_ref().to_vec())
}

/// Verifies a signature over a message of which only the [`signed_digest`] is known. It says that the key has signed that
/// message, whatever it is.
#[must_use]
pub fn digest_is_signed(spki_der: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    let known = raw_public_key(spki_der).and_then(|(algorithm, key)| {
        let signed = Digest::import_less_safe(signed, hash_of(algorithm)?).ok()?;
        Some((verification(algorithm)?, key, signed))
    });
    known.is_some_and(|(verification, key, signed)| {
        UnparsedPublicKey::new(verification, key).verify_digest(&signed, signature).is_ok()
    })
}

fn hash_of(algorithm: Algorithm) -> Option<&'static digest::Algorithm> {
    match algorithm {
        Algorithm::P256 | Algorithm::Rsa3072 => Some(&SHA256),
        Algorithm::P384 => Some(&SHA384),
        Algorithm::Ed25519 | Algorithm::Aes256 => None,
    }
}

/// r ‖ s of an ECDSA signature, `length` bytes each, as DER `ECDSA-Sig-Value` (RFC 3279, 2.2.3).
pub fn ecdsa_der(raw: &[u8], length: usize) -> Option<Vec<u8>> {
    if raw.len() != 2 * length {
        return None;
    }
    let (r, s) = raw.split_at(length);
    Some(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_bigint_bytes(r, true);
            writer.next().write_bigint_bytes(s, true);
        });
    }))
}

/// A signature as HTTP message signatures carry it (RFC 9421, 3.3): ECDSA as r ‖ s, all else as it is. `None`: it is
/// not one of this algorithm.
pub fn to_wire(algorithm: Algorithm, signature: &[u8]) -> Option<Vec<u8>> {
    let Some(length) = algorithm.scalar_bytes() else {
        return Some(signature.to_vec());
    };
    let mut both = Reader::whole_sequence(signature).ok()?;
    let mut raw = Vec::with_capacity(2 * length);
    for _ in 0..2 {
        let integer = both.integer().ok().filter(|integer| integer[0] & 0x80 == 0)?;
        let scalar = integer.strip_prefix(&[0]).unwrap_or(integer);
        raw.resize(raw.len() + length.checked_sub(scalar.len())?, 0);
        raw.extend_from_slice(scalar);
    }
    both.finish().ok()?;
    Some(raw)
}

/// The reverse of [`to_wire`]: what [`signature_is_valid`] takes.
pub fn from_wire(algorithm: Algorithm, signature: &[u8]) -> Option<Vec<u8>> {
    match algorithm.scalar_bytes() {
        Some(length) => ecdsa_der(signature, length),
        None => Some(signature.to_vec()),
    }
}

/// True when the key of this SubjectPublicKeyInfo (DER) is one at all: of a known kind, a point that is on its curve.
#[must_use]
pub fn public_key_is_sound(spki_der: &[u8]) -> bool {
    let known = raw_public_key(spki_der).and_then(|(algorithm, key)| Some((verification(algorithm)?, key)));
    known.is_some_and(|(verification, key)| ParsedPublicKey::new(verification, key).is_ok())
}

/// How signatures of an algorithm are verified. `None`: it makes none.
fn verification(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    match algorithm {
        Algorithm::P256 => Some(&ECDSA_P256_SHA256_ASN1),
        Algorithm::P384 => Some(&ECDSA_P384_SHA384_ASN1),
        Algorithm::Ed25519 => Some(&ED25519),
        Algorithm::Rsa3072 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Aes256 => None,
    }
}

/// As [`signature_is_valid`], for what carries the `AlgorithmIdentifier` (DER) of its signature: certificates, lists,
/// requests. The identifier must be the one of the key's algorithm.
#[must_use]
pub fn is_signed_by(spki_der: &[u8], identifier: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let expected = raw_public_key(spki_der).and_then(|(algorithm, _)| algorithm.signature_identifier());
    expected == Some(identifier) && signature_is_valid(spki_der, message, signature)
}

const SPKI_P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const SPKI_P384: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x22, 0x03, 0x62, 0x00,
];
const SPKI_ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const SPKI_RSA3072: &[u8] = &[
    0x30, 0x82, 0x01, 0xa2, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    0x03, 0x82, 0x01, 0x8f, 0x00,
];
/// `RSAPublicKey` (RFC 8017, A.1.1) around a modulus of exactly 3072 bits, with exponent 65537.
const RSA3072_BEFORE_MODULUS: &[u8] = &[0x30, 0x82, 0x01, 0x8a, 0x02, 0x82, 0x01, 0x81, 0x00];
const RSA3072_AFTER_MODULUS: &[u8] = &[0x02, 0x03, 0x01, 0x00, 0x01];
const RSA3072_MODULUS_BYTES: usize = 384;

/// The bare public key of a SubjectPublicKeyInfo: an uncompressed point (65 or 97 bytes), 32 bytes of Ed25519, or the
/// DER `RSAPublicKey`. Only the one encoding of each is read.
pub fn raw_public_key(spki_der: &[u8]) -> Option<(Algorithm, &[u8])> {
    let encodings = [
        (Algorithm::P256, SPKI_P256),
        (Algorithm::P384, SPKI_P384),
        (Algorithm::Ed25519, SPKI_ED25519),
        (Algorithm::Rsa3072, SPKI_RSA3072),
    ];
    let (algorithm, key) =
        encodings.into_iter().find_map(|(algorithm, prefix)| Some((algorithm, spki_der.strip_prefix(prefix)?)))?;
    let well_formed = match algorithm {
        Algorithm::P256 => key.len() == 65 && key[0] == 4,
        Algorithm::P384 => key.len() == 97 && key[0] == 4,
        Algorithm::Ed25519 => key.len() == 32,
        Algorithm::Rsa3072 => rsa3072_modulus(key).is_some(),
        Algorithm::Aes256 => false,
    };
    well_formed.then_some((algorithm, key))
}

/// The modulus of an `RSAPublicKey` (DER): 384 bytes, the highest bit set, odd.
fn rsa3072_modulus(key: &[u8]) -> Option<&[u8]> {
    let modulus = key.strip_prefix(RSA3072_BEFORE_MODULUS)?.strip_suffix(RSA3072_AFTER_MODULUS)?;
    let ends = (*modulus.first()?, *modulus.last()?);
    (modulus.len() == RSA3072_MODULUS_BYTES && ends.0 >= 0x80 && ends.1 % 2 == 1).then_some(modulus)
}

/// SubjectPublicKeyInfo (DER) of a bare public key: the reverse of [`raw_public_key`]. Empty for AES, which has none.
pub fn spki_der(algorithm: Algorithm, key: &[u8]) -> Vec<u8> {
    let prefix = match algorithm {
        Algorithm::P256 => SPKI_P256,
        Algorithm::P384 => SPKI_P384,
        Algorithm::Ed25519 => SPKI_ED25519,
        Algorithm::Rsa3072 => SPKI_RSA3072,
        Algorithm::Aes256 => return Vec::new(),
    };
    [prefix, key].concat()
}

/// `RSAPublicKey` (DER) of a modulus (big-endian, no leading zeros) with exponent 65537. Only 3072 bits are written.
pub fn rsa3072_public_key(modulus: &[u8]) -> Option<Vec<u8>> {
    let key = [RSA3072_BEFORE_MODULUS, modulus, RSA3072_AFTER_MODULUS].concat();
    rsa3072_modulus(&key).is_some().then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Vec<SignInput> {
        let mut all = vec![
            SignInput::Certificate { tbs: vec![] },
            SignInput::Crl { tbs: vec![] },
            SignInput::Ocsp { data: vec![] },
            SignInput::CertificationRequest { info: vec![] },
            SignInput::RelatedCertRequest { cert_id: vec![], request_time: vec![] },
            SignInput::TlsCertificateVerify { side: TlsSide::Server, transcript_hash: vec![0; 32] },
            SignInput::TlsCertificateVerify { side: TlsSide::Client, transcript_hash: vec![0; 32] },
            SignInput::TreeHead { note: vec![] },
            SignInput::Cosignature { message: vec![] },
            SignInput::AuditExport { note: vec![] },
            SignInput::HttpRequest { base: vec![] },
            SignInput::Jwt { signing_input: vec![] },
            SignInput::Mandate { signing_input: vec![], disclosures: vec![] },
            SignInput::External { form: ExternalForm::Digest, bytes: vec![] },
        ];
        for tag in [
            DocumentTag::CustodyStatement,
            DocumentTag::Catalogue,
            DocumentTag::BatchRoot,
            DocumentTag::RevocationReceipt,
            DocumentTag::CustodyReport,
            DocumentTag::ToolManifest,
            DocumentTag::OperatorAct,
        ] {
            all.push(SignInput::Document { tag, canonical_json: b"{}".to_vec() });
        }
        all
    }

    #[test]
    fn every_purpose_permits_only_its_own_inputs() {
        let permitted: Vec<(Purpose, usize)> = Purpose::ALL
            .into_iter()
            .map(|purpose| (purpose, inputs().iter().filter(|input| purpose.permits(input)).count()))
            .collect();
        assert_eq!(
            permitted,
            [
                (Purpose::Root, 2),
                (Purpose::Issuing, 2),
                (Purpose::TlsServer, 1),
                (Purpose::TlsClient, 1),
                (Purpose::Agent, 4),
                (Purpose::HostIdentity, 2),
                (Purpose::Checkpoint, 2),
                (Purpose::Witness, 1),
                (Purpose::Transaction, 1),
                (Purpose::Catalogue, 2),
                (Purpose::RevocationReceipt, 1),
                (Purpose::OcspResponder, 1),
                (Purpose::Manifest, 1),
                (Purpose::Token, 1),
                (Purpose::Operator, 2),
                (Purpose::TokenIdentity, 0),
                (Purpose::External, 1),
                (Purpose::VaultWrapping, 0),
                (Purpose::DataWrapping, 0),
            ]
        );
    }

    #[test]
    fn slugs_are_unique_and_read_back() {
        for purpose in Purpose::ALL {
            assert_eq!(Purpose::from_slug(purpose.slug()), Some(purpose));
        }
        assert_eq!(Purpose::from_slug("extern"), None);
    }

    #[test]
    fn a_tls_message_is_taken_apart_and_composed_again() {
        for (side, length) in [(TlsSide::Server, 32), (TlsSide::Client, 48)] {
            let input = SignInput::TlsCertificateVerify { side, transcript_hash: vec![7; length] };
            assert_eq!(SignInput::from_tls_message(&input.message()), Some(input));
        }
        for bad in [vec![], vec![0x20; 64], vec![0x20; 130]] {
            assert_eq!(SignInput::from_tls_message(&bad), None);
        }
        let short = SignInput::TlsCertificateVerify { side: TlsSide::Client, transcript_hash: vec![7; 31] };
        assert_eq!(SignInput::from_tls_message(&short.message()), None);
    }

    #[test]
    fn purposes_and_algorithms_fit_each_other() {
        for purpose in Purpose::ALL {
            assert_eq!(purpose.seals(), purpose.default_algorithm() == Algorithm::Aes256, "{purpose:?}");
            assert_eq!(purpose.permits(&SignInput::SelfTest { nonce: [0; 32] }), !purpose.seals());
        }
        for algorithm in Algorithm::ALL {
            assert_eq!(serde_json::to_value(algorithm).unwrap(), algorithm.slug());
            assert!(Purpose::ALL.iter().any(|purpose| purpose.algorithms().contains(&algorithm)));
            let authority = Algorithm::OF_AUTHORITIES.contains(&algorithm);
            let read = algorithm.signature_identifier().and_then(Algorithm::of_authority_signature);
            assert_eq!(read, authority.then_some(algorithm));
        }
    }

    /// A key pair of each kind, made by another library.
    pub(super) fn signed(algorithm: Algorithm, message: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        use aws_lc_rs::rand::SystemRandom;
        use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
        let random = SystemRandom::new();
        match algorithm {
            Algorithm::P256 | Algorithm::P384 => {
                let scheme = if algorithm == Algorithm::P256 {
                    &signature::ECDSA_P256_SHA256_ASN1_SIGNING
                } else {
                    &signature::ECDSA_P384_SHA384_ASN1_SIGNING
                };
                let pair = EcdsaKeyPair::generate(scheme).unwrap();
                let signature = pair.sign(&random, message).unwrap().as_ref().to_vec();
                Some((spki_der(algorithm, pair.public_key().as_ref()), signature))
            }
            Algorithm::Ed25519 => {
                let pair = Ed25519KeyPair::generate().unwrap();
                Some((spki_der(algorithm, pair.public_key().as_ref()), pair.sign(message).as_ref().to_vec()))
            }
            Algorithm::Rsa3072 => {
                let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa3072).unwrap();
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                Some((spki_der(algorithm, pair.public_key().as_ref()), signature))
            }
            Algorithm::Aes256 => None,
        }
    }

    #[test]
    fn each_algorithm_verifies_its_own_signature_and_no_changed_one() {
        for algorithm in Algorithm::ALL {
            let Some((spki, signature)) = signed(algorithm, b"message") else {
                assert!(spki_der(algorithm, &[7; 32]).is_empty());
                continue;
            };
            assert_eq!(raw_public_key(&spki).map(|(read, _)| read), Some(algorithm));
            assert!(signature_is_valid(&spki, b"message", &signature), "{algorithm:?}");
            assert!(!signature_is_valid(&spki, b"another", &signature), "{algorithm:?}");
            assert!(!signature_is_valid(&spki, b"message", &signature[1..]), "{algorithm:?}");
            for index in [0, 4, spki.len() - 1] {
                let mut changed = spki.clone();
                changed[index] ^= 1;
                assert!(!signature_is_valid(&changed, b"message", &signature), "{algorithm:?} byte {index}");
            }
            assert_eq!(raw_public_key(&spki[..spki.len() - 1]), None);
            assert_eq!(raw_public_key(&[spki.as_slice(), &[0]].concat()), None);
        }
    }

    #[test]
    fn a_signature_over_a_digest_is_one_over_what_was_hashed() {
        for (algorithm, digest) in [
            (Algorithm::P256, aws_lc_rs::digest::digest(&SHA256, b"message")),
            (Algorithm::P384, aws_lc_rs::digest::digest(&SHA384, b"message")),
        ] {
            let (spki, signature) = signed(algorithm, b"message").unwrap();
            assert!(digest_is_signed(&spki, digest.as_ref(), &signature));
            assert!(!digest_is_signed(&spki, &digest.as_ref()[1..], &signature));
            assert!(!digest_is_signed(&spki, &[7; 32], &signature));
            assert!(!digest_is_signed(&spki, &[7; 48], &signature));
            assert!(!digest_is_signed(&spki[1..], digest.as_ref(), &signature));
        }
        let (spki, signature) = signed(Algorithm::Ed25519, &[7; 32]).unwrap();
        assert!(!digest_is_signed(&spki, &[7; 32], &signature), "Ed25519 signs messages");
    }

    #[test]
    fn raw_signatures_become_minimal_der_integers() {
        for length in [32, 48] {
            let mut raw = vec![0; 2 * length];
            raw[length - 1] = 0x80;
            raw[2 * length - 1] = 1;
            assert_eq!(ecdsa_der(&raw, length).unwrap(), [0x30, 7, 2, 2, 0, 0x80, 2, 1, 1]);
            for bad in [0, 63, 65, 95, 97] {
                assert_eq!(ecdsa_der(&vec![1; bad], length), None);
            }
        }
    }

    #[test]
    fn signatures_travel_in_http_as_two_numbers_of_full_length_and_come_back() {
        for algorithm in [Algorithm::P256, Algorithm::P384] {
            let length = algorithm.scalar_bytes().unwrap();
            for filled in [[0, 0], [1, 0x7f], [0x80, 0xff]] {
                let raw: Vec<u8> = filled.iter().flat_map(|byte| vec![*byte; length]).collect();
                assert_eq!(to_wire(algorithm, &from_wire(algorithm, &raw).unwrap()).unwrap(), raw);
            }
            let (_, signature) = signed(algorithm, b"message").unwrap();
            let raw = to_wire(algorithm, &signature).unwrap();
            assert_eq!((raw.len(), from_wire(algorithm, &raw)), (2 * length, Some(signature.clone())));
            assert_eq!(to_wire(algorithm, &signature[..signature.len() - 1]), None);
            assert_eq!(to_wire(algorithm, &[signature.as_slice(), &[0]].concat()), None);
            assert_eq!(to_wire(algorithm, &[0x30, 6, 2, 1, 0x80, 2, 1, 1]), None, "a negative number");
            assert_eq!(from_wire(algorithm, &raw[1..]), None);
        }
        let other = Algorithm::P384;
        assert_eq!(to_wire(Algorithm::P256, &signed(other, b"message").unwrap().1), None);
        assert_eq!(to_wire(Algorithm::Ed25519, &[7; 64]), Some(vec![7; 64]));
        assert_eq!(from_wire(Algorithm::Rsa3072, &[7; 384]), Some(vec![7; 384]));
    }

    #[test]
    fn rsa_keys_have_3072_bits_and_the_usual_exponent() {
        let mut modulus = vec![0xc1; 384];
        assert!(rsa3072_public_key(&modulus).is_some());
        for bad in [vec![0xc1; 256], vec![0xc1; 385], vec![]] {
            assert_eq!(rsa3072_public_key(&bad), None);
        }
        modulus[383] = 2;
        assert_eq!(rsa3072_public_key(&modulus), None, "an even modulus");
        modulus[383] = 1;
        modulus[0] = 0x7f;
        assert_eq!(rsa3072_public_key(&modulus), None, "3071 bits");
    }
}
