//! What an HSM key may sign, and the exact bytes of each kind.
//!
//! Shared by the worker that signs and by everything that verifies, so the two cannot drift apart. A caller
//! hands over typed input, never a digest; a key has one [`Purpose`], fixed when it is generated; each kind of
//! input is separated from every other by its structure (DER, TLS 1.3 context, signed note) or by a tag.

use serde::{Deserialize, Serialize};

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
    /// An agent: its CSR, related-certificate proof, TLS client handshake (and, later, requests).
    Agent,
    /// The agent host: custody statements only.
    HostIdentity,
    /// The audit log's checkpoint notes (Ed25519).
    Checkpoint,
    /// Cosignatures over another party's checkpoints (Ed25519).
    Witness,
    /// The Merkle root of a batch of posted transactions.
    Transaction,
    /// The role catalogue.
    Catalogue,
    /// Receipts of revocations.
    RevocationReceipt,
    /// Recognises the token; signs self-tests only.
    TokenIdentity,
}

impl Purpose {
    pub const ALL: [Self; 11] = [
        Self::Root,
        Self::Issuing,
        Self::TlsServer,
        Self::Agent,
        Self::HostIdentity,
        Self::Checkpoint,
        Self::Witness,
        Self::Transaction,
        Self::Catalogue,
        Self::RevocationReceipt,
        Self::TokenIdentity,
    ];

    /// The word in a key's label: `<party>-<purpose>[.<agent>]-v<N>`.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuing => "issuing",
            Self::TlsServer => "tls-server",
            Self::Agent => "agent",
            Self::HostIdentity => "host-identity",
            Self::Checkpoint => "checkpoint",
            Self::Witness => "witness",
            Self::Transaction => "transaction",
            Self::Catalogue => "catalogue",
            Self::RevocationReceipt => "revocation-receipt",
            Self::TokenIdentity => "token-identity",
        }
    }

    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.slug() == slug)
    }

    pub fn algorithm(self) -> Algorithm {
        match self {
            Self::Checkpoint | Self::Witness => Algorithm::Ed25519,
            Self::Root
            | Self::Issuing
            | Self::TlsServer
            | Self::Agent
            | Self::HostIdentity
            | Self::Transaction
            | Self::Catalogue
            | Self::RevocationReceipt
            | Self::TokenIdentity => Algorithm::P256,
        }
    }

    /// True when a key of this purpose may sign this kind of input. Everything not named is refused.
    pub fn permits(self, input: &SignInput) -> bool {
        match input {
            SignInput::Certificate { .. } => matches!(self, Self::Root | Self::Issuing),
            SignInput::Crl { .. } => matches!(self, Self::Root | Self::Issuing),
            SignInput::CertificationRequest { .. } | SignInput::RelatedCertRequest { .. } => self == Self::Agent,
            SignInput::TlsCertificateVerify { side, .. } => match side {
                TlsSide::Server => self == Self::TlsServer,
                TlsSide::Client => self == Self::Agent,
            },
            SignInput::Document { tag, .. } => match tag {
                DocumentTag::CustodyStatement => self == Self::HostIdentity,
                DocumentTag::Catalogue => self == Self::Catalogue,
                DocumentTag::BatchRoot => self == Self::Transaction,
                DocumentTag::RevocationReceipt => self == Self::RevocationReceipt,
            },
            SignInput::TreeHead { .. } => self == Self::Checkpoint,
            SignInput::Cosignature { .. } => self == Self::Witness,
            SignInput::SelfTest { .. } => true,
        }
    }
}

/// Key type and signature scheme. Signatures travel as DER `ECDSA-Sig-Value` or 64 bytes of Ed25519.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// ECDSA on P-256 over SHA-256 of the message.
    P256,
    /// Ed25519 over the message (RFC 8032, pure).
    Ed25519,
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
}

impl DocumentTag {
    pub fn text(self) -> &'static str {
        match self {
            Self::CustodyStatement => "countersign/custody-statement/v1",
            Self::Catalogue => "countersign/role-catalogue/v1",
            Self::BatchRoot => "countersign/batch-root/v1",
            Self::RevocationReceipt => "countersign/revocation-receipt/v1",
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
    /// 32 random bytes of the worker's own: shows that a key signs and that it is the key its id says.
    SelfTest { nonce: [u8; 32] },
}

impl SignInput {
    /// A short name for logs and errors.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Certificate { .. } => "certificate",
            Self::Crl { .. } => "crl",
            Self::CertificationRequest { .. } => "certification-request",
            Self::RelatedCertRequest { .. } => "related-cert-request",
            Self::TlsCertificateVerify { .. } => "tls-certificate-verify",
            Self::Document { tag, .. } => tag.text(),
            Self::TreeHead { .. } => "tree-head",
            Self::Cosignature { .. } => "cosignature",
            Self::SelfTest { .. } => "self-test",
        }
    }

    /// The exact message that is signed (ECDSA: hashed with SHA-256 first; Ed25519: as it is).
    pub fn message(&self) -> Vec<u8> {
        match self {
            Self::Certificate { tbs } | Self::Crl { tbs } => tbs.clone(),
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
            Self::TreeHead { note } => note.clone(),
            Self::Cosignature { message } => message.clone(),
            Self::SelfTest { nonce } => [b"countersign/self-test/v1\0".as_slice(), nonce].concat(),
        }
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
/// P-256 takes DER `ECDSA-Sig-Value`; Ed25519 takes 64 bytes. Any other key type is refused.
#[must_use]
pub fn signature_is_valid(spki_der: &[u8], message: &[u8], signature: &[u8]) -> bool {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
    let Some((algorithm, key)) = raw_public_key(spki_der) else {
        return false;
    };
    let verification: &'static dyn VerificationAlgorithm = match algorithm {
        Algorithm::P256 => &ECDSA_P256_SHA256_ASN1,
        Algorithm::Ed25519 => &ED25519,
    };
    UnparsedPublicKey::new(verification, key).verify(message, signature).is_ok()
}

const SPKI_P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const SPKI_ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The bare public key of a SubjectPublicKeyInfo: 65 bytes (uncompressed P-256 point) or 32 (Ed25519).
pub fn raw_public_key(spki_der: &[u8]) -> Option<(Algorithm, &[u8])> {
    if let Some(point) = spki_der.strip_prefix(SPKI_P256) {
        return (point.len() == 65 && point[0] == 4).then_some((Algorithm::P256, point));
    }
    let key = spki_der.strip_prefix(SPKI_ED25519)?;
    (key.len() == 32).then_some((Algorithm::Ed25519, key))
}

/// SubjectPublicKeyInfo (DER) of a bare public key: the reverse of [`raw_public_key`].
pub fn spki_der(algorithm: Algorithm, key: &[u8]) -> Vec<u8> {
    let prefix = match algorithm {
        Algorithm::P256 => SPKI_P256,
        Algorithm::Ed25519 => SPKI_ED25519,
    };
    [prefix, key].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Vec<SignInput> {
        let mut all = vec![
            SignInput::Certificate { tbs: vec![] },
            SignInput::Crl { tbs: vec![] },
            SignInput::CertificationRequest { info: vec![] },
            SignInput::RelatedCertRequest { cert_id: vec![], request_time: vec![] },
            SignInput::TlsCertificateVerify { side: TlsSide::Server, transcript_hash: vec![0; 32] },
            SignInput::TlsCertificateVerify { side: TlsSide::Client, transcript_hash: vec![0; 32] },
            SignInput::TreeHead { note: vec![] },
            SignInput::Cosignature { message: vec![] },
        ];
        for tag in [
            DocumentTag::CustodyStatement,
            DocumentTag::Catalogue,
            DocumentTag::BatchRoot,
            DocumentTag::RevocationReceipt,
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
                (Purpose::Agent, 3),
                (Purpose::HostIdentity, 1),
                (Purpose::Checkpoint, 1),
                (Purpose::Witness, 1),
                (Purpose::Transaction, 1),
                (Purpose::Catalogue, 1),
                (Purpose::RevocationReceipt, 1),
                (Purpose::TokenIdentity, 0),
            ]
        );
    }

    #[test]
    fn slugs_are_unique_and_read_back() {
        for purpose in Purpose::ALL {
            assert_eq!(Purpose::from_slug(purpose.slug()), Some(purpose));
        }
        assert_eq!(Purpose::from_slug("external"), None);
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
}
