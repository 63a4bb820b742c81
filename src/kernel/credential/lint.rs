//! What the HSM worker asks before a CA or agent key signs: is this exactly one of the things this key may sign?
//!
//! The worker has no configuration and trusts no caller. A root key signs CA certificates and revocation lists; an
//! issuing key signs end-entity certificates of our profiles and revocation lists; an agent key signs requests for
//! its own certificates. The base of private object identifiers is taken from the certificate itself, so any base
//! under 1.3.6.1.4.1 passes; that it is the configured one is checked by whoever accepts the certificate. Nor does it
//! keep its issuers' certificates: that no certificate outlives its issuer is the caller's to see to, and every path
//! validation finds it out.

use super::certificate::Tbs;
use super::crl::{CrlRefusal, TbsCrl};
use super::der::{NotDer, Reader};
use super::ocsp;
use super::oid::{self, OidBase};
use super::profile::{Profile, ProfileRule, key_identifier};
use super::related::{self, BindingRule};
use super::request::{self, RequestRefusal};
use crate::kernel::sign::{Algorithm, Purpose, SignInput};
use crate::kernel::types::{KeyId, UnixMillis};

mod beyond;

/// Why the worker will not sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LintRefusal {
    /// Not strict DER, or bytes after the end.
    Malformed(NotDer),
    /// The input speaks of another key than the one that is to sign.
    AnotherKey,
    /// The input names another signature algorithm than that of the key that is to sign.
    AnotherAlgorithm,
    /// A key of this purpose signs no certificates at all.
    PurposeSignsNoCertificates,
    /// A root key signs CA certificates only.
    RootSignsOnlyCas,
    /// An issuing key signs end-entity certificates only.
    IssuingSignsNoCas,
    /// The extended key usage is none of ours.
    NoProfile,
    Profile(ProfileRule),
    Binding,
    /// A serial number that no generator of random numbers gave.
    SerialPredictable,
    /// It would be valid from some later time on.
    DatedAhead,
    /// It has ended already.
    Ended,
    /// Subject or issuer: other attributes than the profile's, or a text that no name has.
    NameForm,
    /// A point that is not on its curve.
    KeyUnsound,
    /// The issuer's own key under another name.
    IssuersOwnKey,
    /// A key that the token has for something else.
    KeyOfAnotherPurpose,
    /// A certificate of the party itself over a key that its token does not have.
    KeyNotOfToken,
    Crl(CrlRefusal),
    Request(RequestRefusal),
}

impl LintRefusal {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed(_) => "lint_malformed",
            Self::AnotherKey => "lint_another_key",
            Self::AnotherAlgorithm => "lint_another_algorithm",
            Self::PurposeSignsNoCertificates => "lint_purpose_signs_no_certificates",
            Self::RootSignsOnlyCas => "lint_root_signs_only_cas",
            Self::IssuingSignsNoCas => "lint_issuing_signs_no_cas",
            Self::NoProfile => "lint_no_profile",
            Self::Profile(_) => "lint_profile_violated",
            Self::Binding => "lint_binding",
            Self::SerialPredictable => "lint_serial_predictable",
            Self::DatedAhead => "lint_dated_ahead",
            Self::Ended => "lint_ended",
            Self::NameForm => "lint_name_form",
            Self::KeyUnsound => "lint_key_unsound",
            Self::IssuersOwnKey => "lint_issuers_own_key",
            Self::KeyOfAnotherPurpose => "lint_key_of_another_purpose",
            Self::KeyNotOfToken => "lint_key_not_of_token",
            Self::Crl(_) => "lint_crl",
            Self::Request(_) => "lint_request",
        }
    }
}

impl std::fmt::Display for LintRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(what) => what.fmt(f),
            Self::AnotherKey => f.write_str("the input speaks of another key than the one that is to sign it"),
            Self::AnotherAlgorithm => f.write_str("the input names another signature algorithm than its signer's"),
            Self::PurposeSignsNoCertificates => f.write_str("a key of this purpose signs no certificates"),
            Self::RootSignsOnlyCas => f.write_str("a root key signs only its own and issuing CA certificates"),
            Self::IssuingSignsNoCas => f.write_str("an issuing key signs no CA certificates"),
            Self::NoProfile => f.write_str("the certificate is of none of our profiles"),
            Self::Profile(rule) => write!(f, "the certificate breaks its profile: {rule}"),
            Self::Binding => f.write_str("the certificate's binding is not exactly one SHA-256 RelatedCertificate"),
            Self::SerialPredictable => f.write_str(
                "the serial number is not 16 to 20 bytes that look like random ones (CA/Browser Forum BR 7.1)",
            ),
            Self::DatedAhead => f.write_str("the certificate would be valid from a later time on"),
            Self::Ended => f.write_str("the certificate has ended already"),
            Self::NameForm => f.write_str("the subject or the issuer does not have the attributes of its profile"),
            Self::KeyUnsound => f.write_str("the subject's key is no key: its point is not on its curve"),
            Self::IssuersOwnKey => f.write_str("the certificate is over the key of its own issuer"),
            Self::KeyOfAnotherPurpose => {
                f.write_str("the certificate is over a key that the token has for something else")
            }
            Self::KeyNotOfToken => {
                f.write_str("the certificate is one of the party, and its key is not in the party's token")
            }
            Self::Crl(refusal) => refusal.fmt(f),
            Self::Request(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for LintRefusal {}

impl From<NotDer> for LintRefusal {
    fn from(error: NotDer) -> Self {
        Self::Malformed(error)
    }
}

/// Checks a TBSCertificate that a key of this purpose is asked to sign at `now`.
///
/// # Errors
/// [`LintRefusal`]
pub fn lint_tbs_certificate(purpose: Purpose, tbs: &[u8], now: UnixMillis) -> Result<(), LintRefusal> {
    let tbs = Tbs::read(tbs)?;
    let (profile, base) = profile_of(purpose, &tbs)?;
    profile.check(&tbs, &base).map_err(LintRefusal::Profile)?;
    if profile.names_responder() && tbs.extension(oid::AUTHORITY_INFO_ACCESS).is_none() {
        return Err(LintRefusal::Profile(ProfileRule::AuthorityInfoAccess));
    }
    if profile.table().extensions.related_certificate.is_some() {
        related::binding_of(&tbs).map_err(|_: BindingRule| LintRefusal::Binding)?;
    }
    beyond::check(profile, &tbs, now)
}

/// Checks whose key a TBSCertificate is over: a party certifies its own roles only over keys of its token that were
/// made for just that, and agents and persons over no key of its own. `purpose_of`: what the token has a key for.
///
/// # Errors
/// [`LintRefusal::KeyNotOfToken`], [`LintRefusal::KeyOfAnotherPurpose`], [`LintRefusal::Malformed`]
pub fn lint_subject_key(
    signer: Purpose,
    tbs: &[u8],
    purpose_of: impl FnOnce(KeyId, Profile) -> Option<Purpose>,
) -> Result<(), LintRefusal> {
    let tbs = Tbs::read(tbs)?;
    let (profile, _) = profile_of(signer, &tbs)?;
    beyond::check_subject_key(profile, purpose_of(tbs.key(), profile))
}

/// The profile that a certificate claims, if a key of this purpose signs such, and the base of its private identifiers.
fn profile_of(signer: Purpose, tbs: &Tbs<'_>) -> Result<(Profile, OidBase), LintRefusal> {
    let claims_ca = tbs.extension(oid::BASIC_CONSTRAINTS).is_some_and(|extension| extension.value != [0x30, 0x00]);
    match signer {
        Purpose::Root if !claims_ca => Err(LintRefusal::RootSignsOnlyCas),
        // CAs carry no private object identifier: any base will do.
        Purpose::Root if tbs.issuer == tbs.subject => Ok((Profile::Root, documentation_base())),
        Purpose::Root => Ok((Profile::Issuing, documentation_base())),
        Purpose::Issuing if claims_ca => Err(LintRefusal::IssuingSignsNoCas),
        Purpose::Issuing => profile_by_usage(tbs),
        Purpose::TlsServer
        | Purpose::TlsClient
        | Purpose::Agent
        | Purpose::HostIdentity
        | Purpose::Checkpoint
        | Purpose::Witness
        | Purpose::Transaction
        | Purpose::Catalogue
        | Purpose::RevocationReceipt
        | Purpose::OcspResponder
        | Purpose::Manifest
        | Purpose::Token
        | Purpose::Operator
        | Purpose::TokenIdentity
        | Purpose::External
        | Purpose::VaultWrapping
        | Purpose::DataWrapping => Err(LintRefusal::PurposeSignsNoCertificates),
    }
}

/// Checks that what a key is asked to sign speaks of this very key: a root's own certificate is over it, everything
/// else that a CA key signs names it as authority, a request asks for it.
///
/// # Errors
/// [`LintRefusal::AnotherKey`], [`LintRefusal::Malformed`]
pub fn lint_names_signer(input: &SignInput, signer: KeyId) -> Result<(), LintRefusal> {
    let authority = key_identifier(signer);
    let fits = match input {
        SignInput::Certificate { tbs } => {
            let tbs = Tbs::read(tbs)?;
            if tbs.issuer == tbs.subject {
                tbs.key() == signer
            } else {
                tbs.authority_key_identifier() == Some(&authority)
            }
        }
        SignInput::Crl { tbs } => TbsCrl::read(tbs)?.authority().map_err(LintRefusal::Crl)? == authority,
        SignInput::CertificationRequest { info } => {
            request::read_info(info).map_err(LintRefusal::Request)?.key() == signer
        }
        SignInput::Ocsp { .. }
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
        | SignInput::SelfTest { .. } => true,
    };
    if fits { Ok(()) } else { Err(LintRefusal::AnotherKey) }
}

/// Checks that what names its signature algorithm in its signed part names that of the key that is to sign.
///
/// # Errors
/// [`LintRefusal::AnotherAlgorithm`], [`LintRefusal::Malformed`]
pub fn lint_names_algorithm(input: &SignInput, signer: Algorithm) -> Result<(), LintRefusal> {
    let named = match input {
        SignInput::Certificate { tbs } => Tbs::read(tbs)?.signature_algorithm,
        SignInput::Crl { tbs } => TbsCrl::read(tbs)?.algorithm(),
        SignInput::Ocsp { .. }
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
        | SignInput::SelfTest { .. } => return Ok(()),
    };
    if signer.signature_identifier() == Some(named) { Ok(()) } else { Err(LintRefusal::AnotherAlgorithm) }
}

/// Checks that an answer about certificates names the key that is to sign (SubjectPublicKeyInfo, DER) as its responder.
///
/// # Errors
/// [`LintRefusal::AnotherKey`], [`LintRefusal::Malformed`]
pub fn lint_names_responder(input: &SignInput, spki: &[u8]) -> Result<(), LintRefusal> {
    let SignInput::Ocsp { data } = input else {
        return Ok(());
    };
    let named = ocsp::read_response_data(data)?.responder;
    if ocsp::responder_hash(spki).as_deref() == Some(named) { Ok(()) } else { Err(LintRefusal::AnotherKey) }
}

/// Checks a TBSCertList: full, direct, with number and key identifier.
///
/// # Errors
/// [`LintRefusal`]
pub fn lint_tbs_crl(tbs: &[u8]) -> Result<(), LintRefusal> {
    TbsCrl::read(tbs)?.check().map_err(LintRefusal::Crl)
}

/// Checks the ResponseData of an OCSP responder: every answer in full, and nothing but a nonce besides.
///
/// # Errors
/// [`LintRefusal::Malformed`]
pub fn lint_ocsp(data: &[u8]) -> Result<(), LintRefusal> {
    ocsp::read_response_data(data).map(drop).map_err(LintRefusal::from)
}

/// Checks a CertificationRequestInfo: a key that an agent may have, one SPIFFE ID, nothing but a related-certificate proof besides.
///
/// # Errors
/// [`LintRefusal`]
pub fn lint_request_info(info: &[u8]) -> Result<(), LintRefusal> {
    request::read_info(info).map(drop).map_err(LintRefusal::Request)
}

/// Checks the two parts of a related-certificate proof (RFC 9763, 3.1).
///
/// # Errors
/// [`LintRefusal::Malformed`]
pub fn lint_related_request(cert_id: &[u8], request_time: &[u8]) -> Result<(), LintRefusal> {
    related::decode_cert_id(cert_id)?;
    related::decode_binary_time(request_time)?;
    Ok(())
}

/// The profile that the one extended key usage names, and the base of its private identifiers.
fn profile_by_usage(tbs: &Tbs<'_>) -> Result<(Profile, OidBase), LintRefusal> {
    let usage = tbs.extension(oid::EXTENDED_KEY_USAGE).ok_or(LintRefusal::NoProfile)?;
    let mut reader = Reader::whole_sequence(usage.value)?;
    let usage = reader.oid()?;
    reader.finish()?;
    if usage == oid::SERVER_AUTH {
        return Ok((Profile::TlsServer, documentation_base()));
    }
    if usage == oid::OCSP_SIGNING {
        return Ok((Profile::OcspResponder, documentation_base()));
    }
    if usage == oid::CLIENT_AUTH {
        // An agent has a name and a custody policy, the bank as its core's client has neither.
        let is_of_an_agent =
            [oid::SUBJECT_ALT_NAME, oid::CERTIFICATE_POLICIES].iter().any(|oid| tbs.extension(oid).is_some());
        if !is_of_an_agent {
            return Ok((Profile::TlsClient, documentation_base()));
        }
        return Ok((Profile::AgentB, base_of_policy(tbs).ok_or(LintRefusal::NoProfile)?));
    }
    let (base, arcs) = OidBase::split(usage).ok_or(LintRefusal::NoProfile)?;
    let profile = Profile::ALL.into_iter().find(|profile| profile.private_usage() == Some(arcs));
    profile.map(|profile| (profile, base)).ok_or(LintRefusal::NoProfile)
}

/// The base of the first custody policy.
fn base_of_policy(tbs: &Tbs<'_>) -> Option<OidBase> {
    let value = tbs.extension(oid::CERTIFICATE_POLICIES)?.value;
    let mut policies = Reader::whole_sequence(value).ok()?;
    let policy = policies.sequence().ok()?.oid().ok()?;
    OidBase::split(policy).map(|(base, _)| base)
}

/// 1.3.6.1.4.1.32473, for profiles without private identifiers.
fn documentation_base() -> OidBase {
    "1.3.6.1.4.1.32473".parse().expect("a constant that parses")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::credential::der;
    use crate::kernel::credential::testkit::*;

    #[test]
    fn what_speaks_of_another_key_is_not_signed() {
        let world = World::new();
        let (agent, stranger) = (Key::new(), Key::new());
        let issued = world.bank.draft(Profile::TlsServer, "subject", &agent.spki()).tbs();
        let issued = SignInput::Certificate { tbs: issued };
        let root = &world.bank.root_key;
        let own = draft(Profile::Root, "bank root", &root.spki(), (&world.bank.root_name, root)).tbs();
        let foreign = draft(Profile::Root, "bank root", &stranger.spki(), (&world.bank.root_name, root)).tbs();
        let table = [
            (&issued, world.bank.issuing_key.id(), Ok(())),
            (&issued, stranger.id(), Err(LintRefusal::AnotherKey)),
            (&issued, root.id(), Err(LintRefusal::AnotherKey)),
            (&SignInput::Certificate { tbs: own.clone() }, root.id(), Ok(())),
            (&SignInput::Certificate { tbs: own }, stranger.id(), Err(LintRefusal::AnotherKey)),
            (&SignInput::Certificate { tbs: foreign }, root.id(), Err(LintRefusal::AnotherKey)),
        ];
        for (input, signer, expected) in table {
            assert_eq!(lint_names_signer(input, signer), expected);
        }
    }

    #[test]
    fn what_names_another_algorithm_than_its_signers_is_not_signed() {
        let world = World::new();
        let tbs = world.bank.draft(Profile::TlsServer, "subject", &Key::new().spki()).tbs();
        let input = SignInput::Certificate { tbs };
        assert_eq!(lint_names_algorithm(&input, Algorithm::P256), Ok(()));
        for other in [Algorithm::P384, Algorithm::Ed25519, Algorithm::Rsa3072, Algorithm::Aes256] {
            assert_eq!(lint_names_algorithm(&input, other), Err(LintRefusal::AnotherAlgorithm));
        }
    }

    #[test]
    fn every_profile_passes_under_its_own_authority_only() {
        let world = World::new();
        for profile in Profile::ALL {
            let spki = match profile.algorithms() {
                [Algorithm::Ed25519, ..] => ed25519_spki(),
                _ => Key::new().spki(),
            };
            let mut draft = match profile {
                Profile::Root => draft(profile, "bank root", &spki, (&world.bank.root_name, &world.bank.root_key)),
                _ => world.bank.draft(profile, "subject", &spki),
            };
            if profile == Profile::AgentB {
                draft = World::bind(draft, b"S");
            }
            let passes = |purpose| lint_tbs_certificate(purpose, &draft.tbs(), NOW).is_ok();
            assert_eq!((passes(Purpose::Root), passes(Purpose::Issuing)), (profile.is_ca(), !profile.is_ca()));
            for purpose in Purpose::ALL {
                if !matches!(purpose, Purpose::Root | Purpose::Issuing) {
                    let refused = lint_tbs_certificate(purpose, &draft.tbs(), NOW);
                    assert_eq!(refused, Err(LintRefusal::PurposeSignsNoCertificates));
                }
            }
        }
    }

    #[test]
    fn an_issuing_key_signs_nothing_outside_our_profiles() {
        use ProfileRule as Rule;
        type Bend = fn(&mut Draft);
        let table: &[(Bend, LintRefusal)] = &[
            (|b| b.set(oid::BASIC_CONSTRAINTS, vec![0x30, 3, 1, 1, 0xff]), LintRefusal::IssuingSignsNoCas),
            (|b| b.set(oid::KEY_USAGE, vec![3, 2, 2, 4]), LintRefusal::Profile(Rule::KeyUsage)),
            (|b| b.remove(oid::EXTENDED_KEY_USAGE), LintRefusal::NoProfile),
            (|b| b.set(oid::EXTENDED_KEY_USAGE, eku(&[0x55, 0x1d, 0x25, 0])), LintRefusal::NoProfile),
            (|b| b.set(oid::EXTENDED_KEY_USAGE, eku(&base().child([2, 9]))), LintRefusal::NoProfile),
            (|b| b.remove(oid::RELATED_CERTIFICATE), LintRefusal::Binding),
            (|b| b.serial = vec![1; 7], LintRefusal::Profile(Rule::SerialNumber)),
            (|b| b.subject = b.issuer.clone(), LintRefusal::Profile(Rule::Name)),
            (|b| b.not_after = utc_time(NOW.plus_ms(30 * 24 * HOUR_MS)), LintRefusal::Profile(Rule::ValidityPeriod)),
            (|b| b.add(&[0x2a, 3], false, vec![5, 0]), LintRefusal::Profile(Rule::UnexpectedExtension)),
            (
                |b| b.set(oid::SUBJECT_ALT_NAME, uri_names(&[SPIFFE, SPIFFE])),
                LintRefusal::Profile(Rule::SubjectAltName),
            ),
        ];
        let world = World::new();
        for (bend, expected) in table {
            let mut b = World::bind(world.draft_b(), b"S");
            bend(&mut b);
            assert_eq!(lint_tbs_certificate(Purpose::Issuing, &b.tbs(), NOW), Err(*expected));
        }
        let b = World::bind(world.draft_b(), b"S").tbs();
        assert_eq!(lint_tbs_certificate(Purpose::Root, &b, NOW), Err(LintRefusal::RootSignsOnlyCas));
        let longer = [b.as_slice(), &[0]].concat();
        assert!(matches!(lint_tbs_certificate(Purpose::Issuing, &longer, NOW), Err(LintRefusal::Malformed(_))));
    }

    #[test]
    fn a_root_key_signs_no_longer_path() {
        let world = World::new();
        let parent = (world.bank.root_name.as_slice(), &world.bank.root_key);
        let mut issuing = draft(Profile::Issuing, "issuing", &Key::new().spki(), parent);
        issuing.set(oid::BASIC_CONSTRAINTS, der::sequence(&[&[1, 1, 0xff], &[2, 1, 1]]));
        let refused = lint_tbs_certificate(Purpose::Root, &issuing.tbs(), NOW);
        assert_eq!(refused, Err(LintRefusal::Profile(ProfileRule::PathLength)));
    }

    #[test]
    fn a_related_certificate_proof_is_exactly_its_two_parts() {
        let cert_id = related::encode_cert_id(&name("issuer"), &[1, 2]);
        let time = related::encode_binary_time(NOW);
        assert!(lint_related_request(&cert_id, &time).is_ok());
        assert!(lint_related_request(&time, &cert_id).is_err());
        assert!(lint_related_request(&[cert_id.as_slice(), &time].concat(), &time).is_err());
        assert!(lint_related_request(&cert_id, &[2, 1, 0xff]).is_err());
    }
}
