//! One certificate under one party's anchors: issuer, signature, profile, time, then the path by RFC 5280.
//!
//! What an agent presents is judged by its profile to the letter, the CAs above it by `path`: a party may run them
//! as it likes within RFC 5280. The certificates of a party's own roles are judged by profiles up to the root.
//! webpki alone is too lenient for us and our own layer alone would be the only eyes on the path, so both have to
//! agree.

use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};

use super::certificate::Certificate;
use super::oid::OidBase;
use super::path::{self, PathQuestion};
use super::profile::{Facts, Profile, ProfileRule};
use crate::kernel::sign::signature_is_valid;
use crate::kernel::types::{Serial, Sha256, UnixMillis};

/// What one party's certificates are verified under. DER.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartyAnchors {
    pub root: Vec<u8>,
    /// Issuing CAs, both generations during a rollover. At most [`ISSUING_MAX`].
    pub issuing: Vec<Vec<u8>>,
}

/// Issuing CAs of one party: the present one, the one before and the one to come, with room to spare.
pub const ISSUING_MAX: usize = 8;

/// Why a certificate is not acceptable under its party's anchors. In the order in which they are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainRule {
    /// Not strict DER.
    Malformed,
    /// No issuing CA of the party has this name and key identifier.
    IssuerUntrusted,
    SignatureInvalid,
    Profile(ProfileRule),
    NotYetValid,
    Expired,
    /// The issuing CA or the root breaks its profile, is not valid now or does not chain.
    AuthorityInvalid,
    /// webpki refused what our own layer accepted.
    PathInvalid,
}

impl ChainRule {
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::IssuerUntrusted => "issuer_untrusted",
            Self::SignatureInvalid => "signature_invalid",
            Self::Profile(rule) => rule.name(),
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::AuthorityInvalid => "authority_invalid",
            Self::PathInvalid => "path_invalid",
        }
    }
}

impl std::fmt::Display for ChainRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed => f.write_str("it is not a certificate in strict DER"),
            Self::IssuerUntrusted => f.write_str("it was not issued by a trusted issuing CA"),
            Self::SignatureInvalid => f.write_str("its signature is not by its issuer's key"),
            Self::Profile(rule) => rule.fmt(f),
            Self::NotYetValid => f.write_str("it is not valid yet"),
            Self::Expired => f.write_str("it has expired"),
            Self::AuthorityInvalid => f.write_str("its issuing CA or root is not acceptable"),
            Self::PathInvalid => f.write_str("its path to the root does not validate"),
        }
    }
}

/// A certificate that was verified under a party's anchors, and the issuing CA it came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedLeaf {
    pub facts: Facts,
    /// The issuing CA, as its revocation would name it: the root's key identifier and the issuing CA's serial number.
    pub authority: (String, Serial),
}

/// Verifies an end-entity certificate of this profile at `now`.
///
/// # Errors
/// The first [`ChainRule`] that is broken, in the order of that type.
pub fn verify_leaf(
    leaf: &[u8],
    profile: Profile,
    anchors: &PartyAnchors,
    base: &OidBase,
    now: UnixMillis,
) -> Result<VerifiedLeaf, ChainRule> {
    let certificate = Certificate::read(leaf).map_err(|_| ChainRule::Malformed)?;
    let issuing_der = issuer_of(&certificate, anchors).ok_or(ChainRule::IssuerUntrusted)?;
    let issuing = Certificate::read(issuing_der).map_err(|_| ChainRule::AuthorityInvalid)?;
    if !signature_is_valid(issuing.tbs.spki, certificate.tbs.raw, certificate.signature) {
        return Err(ChainRule::SignatureInvalid);
    }
    let judged = if profile.is_agent() {
        profile.check_presented(&certificate, base)
    } else {
        profile.check_certificate(&certificate, base)
    };
    let facts = judged.map_err(ChainRule::Profile)?;
    if !certificate.names_algorithm_of(issuing.tbs.spki) {
        return Err(ChainRule::Profile(ProfileRule::SignatureAlgorithm));
    }
    if now < facts.not_before {
        return Err(ChainRule::NotYetValid);
    }
    if now > facts.not_after {
        return Err(ChainRule::Expired);
    }
    if profile.is_agent() {
        path_is_valid(leaf, issuing_der, &anchors.root, now)?;
        let root = Certificate::read(&anchors.root).map_err(|_| ChainRule::AuthorityInvalid)?;
        let serial = Serial::from_bytes(issuing.tbs.serial).map_err(|_| ChainRule::AuthorityInvalid)?;
        let root_identifier = root.tbs.subject_key_identifier().map(hex::encode).ok_or(ChainRule::AuthorityInvalid)?;
        return Ok(VerifiedLeaf { facts, authority: (root_identifier, serial) });
    }
    let (issuing, root) = verify_authority(issuing_der, &anchors.root, base, now)?;
    webpki_agrees(leaf, issuing_der, &anchors.root, now)?;
    Ok(VerifiedLeaf { facts, authority: (root.identifier, issuing.serial) })
}

/// The path leaf, issuing CA, root and no other one is valid by RFC 5280.
fn path_is_valid(leaf: &[u8], issuing: &[u8], root: &[u8], now: UnixMillis) -> Result<(), ChainRule> {
    let question = PathQuestion {
        leaf,
        others: &[issuing.to_vec()],
        anchors: &[root.to_vec()],
        lists: &[],
        at: now,
        usage: None,
        name: None,
        depth_max: Some(1),
    };
    match path::judge(&question) {
        Ok(valid) if valid.fingerprints().len() == 3 => Ok(()),
        Ok(_) => Err(ChainRule::AuthorityInvalid),
        Err(refusal) if refusal.at_fault == Some(Sha256::of(&[leaf])) => Err(ChainRule::PathInvalid),
        Err(_) => Err(ChainRule::AuthorityInvalid),
    }
}

/// True when the root's key signed this issuing CA and both are valid at `now`: to prefer one among several.
pub(super) fn authority_is_valid(issuing: &[u8], root: &[u8], now: UnixMillis) -> bool {
    let (Ok(issuing), Ok(root)) = (Certificate::read(issuing), Certificate::read(root)) else {
        return false;
    };
    let valid_now =
        |certificate: &Certificate<'_>| certificate.tbs.not_before.at <= now && now <= certificate.tbs.not_after.at;
    [&issuing, &root].into_iter().all(valid_now) && issuing.is_signed_by(root.tbs.spki)
}

/// Verifies an issuing CA's certificate under its root at `now`: both by profile, time, names and signatures.
///
/// # Errors
/// [`ChainRule::AuthorityInvalid`]
pub fn verify_authority(
    issuing: &[u8],
    root: &[u8],
    base: &OidBase,
    now: UnixMillis,
) -> Result<(Facts, Facts), ChainRule> {
    let invalid = ChainRule::AuthorityInvalid;
    let root = Certificate::read(root).map_err(|_| invalid)?;
    let issuing = Certificate::read(issuing).map_err(|_| invalid)?;
    let root_facts = Profile::Root.check_certificate(&root, base).map_err(|_| invalid)?;
    let issuing_facts = Profile::Issuing.check_certificate(&issuing, base).map_err(|_| invalid)?;
    let chains = issuing.tbs.issuer == root.tbs.subject
        && issuing_facts.issuer_identifier == root_facts.identifier
        && root.is_signed_by(root.tbs.spki)
        && issuing.is_signed_by(root.tbs.spki);
    let valid_now = |facts: &Facts| facts.not_before <= now && now <= facts.not_after;
    if chains && valid_now(&root_facts) && valid_now(&issuing_facts) {
        Ok((issuing_facts, root_facts))
    } else {
        Err(invalid)
    }
}

/// The issuing CA among the anchors that the certificate names: by name and by key identifier.
pub fn issuer_of<'a>(certificate: &Certificate<'_>, anchors: &'a PartyAnchors) -> Option<&'a [u8]> {
    let authority = certificate.tbs.authority_key_identifier()?;
    anchors.issuing.iter().take(ISSUING_MAX).map(Vec::as_slice).find(|issuing| {
        Certificate::read(issuing).is_ok_and(|issuing| {
            issuing.tbs.subject == certificate.tbs.issuer && issuing.tbs.subject_key_identifier() == Some(authority)
        })
    })
}

/// Extended key usages were judged exactly by the profile.
struct JudgedByProfile;

impl webpki::ExtendedKeyUsageValidator for JudgedByProfile {
    fn validate(&self, _usages: webpki::KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// What [`Algorithm::OF_AUTHORITIES`](crate::kernel::sign::Algorithm::OF_AUTHORITIES) is to webpki.
const SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::aws_lc_rs::ECDSA_P256_SHA256,
    webpki::aws_lc_rs::ECDSA_P384_SHA384,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
];

fn webpki_agrees(leaf: &[u8], issuing: &[u8], root: &[u8], now: UnixMillis) -> Result<(), ChainRule> {
    let leaf = CertificateDer::from(leaf);
    let root = CertificateDer::from(root);
    let anchors = [webpki::anchor_from_trusted_cert(&root).map_err(|_| ChainRule::PathInvalid)?];
    let intermediates = [CertificateDer::from(issuing)];
    let seconds = u64::try_from(now.seconds()).map_err(|_| ChainRule::PathInvalid)?;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let end_entity = webpki::EndEntityCert::try_from(&leaf).map_err(|_| ChainRule::PathInvalid)?;
    end_entity
        .verify_for_usage(SIGNATURES, &anchors, &intermediates, time, JudgedByProfile, None, None)
        .map(drop)
        .map_err(|_| ChainRule::PathInvalid)
}
