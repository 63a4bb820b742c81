//! webpki's opinion of a path that our own layer accepts: the independent second reader.

use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};

use super::rule::{Broken, PathRule};
use super::validate::Link;
use crate::kernel::types::UnixMillis;

/// CAs below the anchor that webpki follows (its MAX_SUB_CA_COUNT).
const INTERMEDIATES_MAX: usize = 6;

const SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::aws_lc_rs::ECDSA_P256_SHA256,
    webpki::aws_lc_rs::ECDSA_P256_SHA384,
    webpki::aws_lc_rs::ECDSA_P256_SHA512,
    webpki::aws_lc_rs::ECDSA_P384_SHA256,
    webpki::aws_lc_rs::ECDSA_P384_SHA384,
    webpki::aws_lc_rs::ECDSA_P384_SHA512,
    webpki::aws_lc_rs::ECDSA_P521_SHA256,
    webpki::aws_lc_rs::ECDSA_P521_SHA384,
    webpki::aws_lc_rs::ECDSA_P521_SHA512,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA384,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA512,
    webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    webpki::aws_lc_rs::ED25519,
];

/// Usages, and how they nest, were judged by us.
struct JudgedByUs;

impl webpki::ExtendedKeyUsageValidator for JudgedByUs {
    fn validate(&self, _usages: webpki::KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// Asks webpki about the path, where it can read it.
///
/// # Errors
/// [`PathRule::SecondOpinion`]
pub(super) fn agrees(certificates: &[&[u8]], path: &[Link<'_, '_>], at: UnixMillis) -> Result<(), Broken> {
    let refused = |why| PathRule::SecondOpinion.because(why);
    let ([leaf, intermediates @ .., anchor], Ok(seconds)) = (certificates, u64::try_from(at.seconds())) else {
        // A moment before 1970 is none for webpki.
        return Ok(());
    };
    let beyond = path.iter().enumerate().any(|(place, link)| beyond_webpki(place, path.len() - 1, link));
    if intermediates.len() > INTERMEDIATES_MAX || beyond {
        return Ok(());
    }
    let anchor = CertificateDer::from(*anchor);
    let anchors = [webpki::anchor_from_trusted_cert(&anchor).map_err(|_| refused("of the trust anchor"))?];
    let leaf = CertificateDer::from(*leaf);
    let end_entity = webpki::EndEntityCert::try_from(&leaf).map_err(|_| refused("of the certificate in question"))?;
    let intermediates: Vec<CertificateDer<'_>> = intermediates.iter().map(|der| CertificateDer::from(*der)).collect();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    end_entity
        .verify_for_usage(SIGNATURES, &anchors, &intermediates, time, JudgedByUs, None, None)
        .map(drop)
        .map_err(|error| refused(reason(&error)))
}

/// What webpki is known to refuse against RFC 5280: self-issued CAs count in its path lengths and fall under name
/// constraints, names of most forms are refused as soon as their form is constrained, critical extensions on policies
/// are unknown to it, and time begins in 1970.
fn beyond_webpki(place: usize, last: usize, link: &Link<'_, '_>) -> bool {
    let self_issued_authority = place > 0 && place < last && link.judged.self_issued;
    let extensions = &link.judged.extensions;
    let constrains = extensions.name_constraints.as_ref().is_some_and(|constraints| !constraints.is_for_webpki());
    let before_1970 = link.examined.certificate.tbs.not_before.at.0 < 0;
    self_issued_authority || constrains || extensions.beyond_webpki || before_1970
}

/// Its error in a word of ours, where it tells more than that it refused.
fn reason(error: &webpki::Error) -> &'static str {
    match error {
        webpki::Error::NameConstraintViolation => "of a name",
        webpki::Error::MaximumSignatureChecksExceeded
        | webpki::Error::MaximumPathBuildCallsExceeded
        | webpki::Error::MaximumNameConstraintComparisonsExceeded => "of the work",
        _ => "of the path",
    }
}
