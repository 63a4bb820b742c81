//! One certificate by itself: what RFC 5280, 4 asks of it for its place in a path.

use super::algorithm::{PublicKey, SignatureScheme};
use super::constraint::names_of;
use super::extensions::{ANY_USAGE, Extensions, KeyUsage};
use super::name::{GeneralName, check_name};
use super::rule::{Broken, PathRule};
use crate::kernel::credential::certificate::{Certificate, TimeForm};
use crate::kernel::credential::{der, oid};
use crate::kernel::types::{Sha256, UnixMillis};

/// RFC 5280, 4.1.2.2
const SERIAL_BYTES_MAX: usize = 20;

/// Where in a path a certificate stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Role {
    EndEntity,
    Authority,
    /// Trusted as it is: it may lack what only its issuer's certificate could be compared with.
    Anchor,
}

/// A certificate that can be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Examined<'a> {
    pub certificate: Certificate<'a>,
    pub fingerprint: Sha256,
}

/// What a certificate says, once it fits its role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Judged<'a> {
    pub extensions: Extensions<'a>,
    pub key: PublicKey<'a>,
    pub scheme: SignatureScheme,
    pub self_issued: bool,
    /// What name constraints apply to.
    pub names: Vec<GeneralName<'a>>,
}

impl<'a> Examined<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Broken> {
        let certificate = Certificate::read(bytes).map_err(|error| PathRule::CertificateMalformed.because(error.0))?;
        let fingerprint = certificate.fingerprint();
        Ok(Self { certificate, fingerprint })
    }

    /// True when it says that its own key issued it.
    pub(super) fn names_itself(&self) -> bool {
        let tbs = &self.certificate.tbs;
        tbs.issuer == tbs.subject && tbs.authority_key_identifier() == tbs.subject_key_identifier()
    }

    /// Judges it for its role at `at`.
    ///
    /// # Errors
    /// The first [`PathRule`] that it breaks, from the outside inwards.
    pub(super) fn judge(&self, role: Role, at: UnixMillis) -> Result<Judged<'a>, Broken> {
        let tbs = &self.certificate.tbs;
        if tbs.version != 2 {
            return Err(PathRule::Version.because("version 3 is needed for extensions"));
        }
        self.judge_serial(role)?;
        if self.certificate.signature_algorithm != tbs.signature_algorithm {
            return Err(PathRule::SignatureAlgorithmMismatch.because("the one outside is not the one that was signed"));
        }
        let scheme = SignatureScheme::read(tbs.signature_algorithm)?;
        if [tbs.not_before, tbs.not_after].iter().any(|instant| instant.form == TimeForm::WrongType) {
            return Err(PathRule::ValidityEncoding.because("two digits of a year until 2049, four from 2050"));
        }
        if tbs.not_before.at > tbs.not_after.at {
            return Err(PathRule::ValidityPeriod.because("notAfter lies before notBefore"));
        }
        self.judge_names(role)?;
        let key = PublicKey::read(tbs.spki)?;
        let extensions = Extensions::read(tbs)?;
        self.judge_extensions(&extensions, role)?;
        self.judge_time(at)?;
        let alternatives = extensions.alternatives.as_deref().unwrap_or_default();
        let names = names_of(tbs.subject, alternatives);
        let self_issued = tbs.issuer == tbs.subject;
        if role == Role::Anchor {
            self.judge_root(&extensions, self.is_signed_by(scheme, key))?;
        }
        Ok(Judged { extensions, key, scheme, self_issued, names })
    }

    pub(super) fn is_signed_by(&self, scheme: SignatureScheme, key: PublicKey<'_>) -> bool {
        scheme.verifies(key, self.certificate.tbs.raw, self.certificate.signature)
    }

    /// 1 to 20 octets above zero; published roots have been given zero.
    fn judge_serial(&self, role: Role) -> Result<(), Broken> {
        let serial = self.certificate.tbs.serial;
        let positive = serial.first().is_some_and(|first| first & 0x80 == 0);
        let zero = serial == [0] && role != Role::Anchor;
        if !positive || zero || serial.len() > SERIAL_BYTES_MAX {
            return Err(PathRule::SerialNumber.because("1 to 20 octets, above zero"));
        }
        Ok(())
    }

    /// What a trust anchor says of itself. One that claims to be self-signed is; any other names its issuer's key.
    fn judge_root(&self, extensions: &Extensions<'_>, self_signed: bool) -> Result<(), Broken> {
        let (issuer, subject) = (self.certificate.tbs.issuer, self.certificate.tbs.subject);
        let authority = extensions.authority_key;
        let names_itself = authority.is_some_and(|authority| authority.identifier == extensions.subject_key);
        if !self_signed {
            if issuer == subject || names_itself {
                return Err(PathRule::SignatureInvalid.because("the trust anchor is not signed by itself"));
            }
            return authority_key_is_there(extensions);
        }
        if extensions.extended_key_usage.is_some() {
            return Err(PathRule::ExtensionNotAllowed.because("a root has no extended key usage"));
        }
        match authority {
            Some(authority) if authority.issuer_and_serial.is_some() => {
                Err(PathRule::AuthorityKeyIdentifier.because("a root names nothing but its key"))
            }
            Some(_) if !names_itself => Err(PathRule::AuthorityKeyIdentifier.because("a root names itself")),
            Some(_) | None => Ok(()),
        }
    }

    /// Empty names only as subjects of end entities, and everything in them is what it says.
    fn judge_names(&self, role: Role) -> Result<(), Broken> {
        let tbs = &self.certificate.tbs;
        let empty = |name: &[u8]| name == [der::SEQUENCE, 0];
        if empty(tbs.issuer) || check_name(tbs.issuer).is_err() {
            return Err(PathRule::IssuerName.because("an issuer is named, in strings of their types"));
        }
        if check_name(tbs.subject).is_err() || (empty(tbs.subject) && role != Role::EndEntity) {
            return Err(PathRule::SubjectName.because("a CA is named, everybody in strings of their types"));
        }
        Ok(())
    }

    fn judge_extensions(&self, extensions: &Extensions<'_>, role: Role) -> Result<(), Broken> {
        match role {
            Role::EndEntity => self.judge_end_entity(extensions),
            Role::Authority | Role::Anchor => judge_authority(extensions, role),
        }
    }

    fn judge_end_entity(&self, extensions: &Extensions<'_>) -> Result<(), Broken> {
        let tbs = &self.certificate.tbs;
        if let Some(constraints) = extensions.basic_constraints {
            if constraints.ca {
                return Err(PathRule::EndEntityIsAuthority.because("basicConstraints says so"));
            }
            if constraints.path_length.is_some() {
                return Err(PathRule::BasicConstraints.because("only a CA limits the length of paths"));
            }
        }
        if extensions.authority_only {
            return Err(PathRule::ExtensionNotAllowed.because("only a CA constrains names or policies"));
        }
        if extensions.key_usage.is_some_and(|usage| usage.has(KeyUsage::KEY_CERT_SIGN | KeyUsage::CRL_SIGN)) {
            return Err(PathRule::KeyUsage.because("an end entity signs neither certificates nor lists"));
        }
        let Some(usages) = &extensions.extended_key_usage else {
            return Err(PathRule::ExtendedKeyUsage.because("it is missing"));
        };
        if usages.contains(&ANY_USAGE) {
            return Err(PathRule::ExtendedKeyUsage.because("every use is no use in particular"));
        }
        if extensions.extended_key_usage_critical {
            return Err(PathRule::ExtensionCriticality.because("extKeyUsage is not critical"));
        }
        check_consistency(extensions.key_usage, usages)?;
        if extensions.alternatives.is_none() {
            return Err(PathRule::SubjectAltName.because("it is missing"));
        }
        if extensions.alternatives_critical != (tbs.subject == [der::SEQUENCE, 0]) {
            return Err(PathRule::SubjectAltName.because("it is critical exactly when the subject is empty"));
        }
        authority_key_is_there(extensions)
    }

    /// Both ends are inclusive and in whole seconds; so is the moment in question (RFC 5280, 4.1.2.5).
    fn judge_time(&self, at: UnixMillis) -> Result<(), Broken> {
        let tbs = &self.certificate.tbs;
        if at.seconds() < tbs.not_before.at.seconds() {
            return Err(PathRule::NotYetValid.because("notBefore lies ahead"));
        }
        if at.seconds() > tbs.not_after.at.seconds() {
            return Err(PathRule::Expired.because("notAfter has passed"));
        }
        Ok(())
    }
}

fn judge_authority(extensions: &Extensions<'_>, role: Role) -> Result<(), Broken> {
    let is_authority = extensions.basic_constraints.is_some_and(|constraints| constraints.ca);
    if !is_authority {
        return Err(PathRule::BasicConstraints.because("a CA says that it is one"));
    }
    if !extensions.basic_constraints_critical {
        return Err(PathRule::ExtensionCriticality.because("basicConstraints of a CA is critical"));
    }
    match extensions.key_usage {
        Some(usage) if !usage.has(KeyUsage::KEY_CERT_SIGN) => {
            return Err(PathRule::KeyUsage.because("a CA may sign certificates"));
        }
        // Who trusts an anchor knows what for (RFC 5280, 6.1.1 (d)); of others it is demanded (4.2.1.3).
        None if role == Role::Authority => return Err(PathRule::KeyUsage.because("a CA says what its key is for")),
        Some(_) | None => {}
    }
    if extensions.subject_key.is_none() {
        return Err(PathRule::SubjectKeyIdentifier.because("certificates below are found by it"));
    }
    if extensions.alternatives_critical {
        return Err(PathRule::SubjectAltName.because("it is not critical beside a subject"));
    }
    if role == Role::Anchor { Ok(()) } else { authority_key_is_there(extensions) }
}

fn authority_key_is_there(extensions: &Extensions<'_>) -> Result<(), Broken> {
    match extensions.authority_key.and_then(|authority| authority.identifier) {
        Some(_) => Ok(()),
        None => Err(PathRule::AuthorityKeyIdentifier.because("the issuer's key is named")),
    }
}

/// RFC 5280, 4.2.1.12: a certificate is for purposes that both of its usages allow.
fn check_consistency(key_usage: Option<KeyUsage>, usages: &[&[u8]]) -> Result<(), Broken> {
    const SIGN_OR_AGREE: u16 = KeyUsage::DIGITAL_SIGNATURE | KeyUsage::KEY_AGREEMENT;
    let Some(key_usage) = key_usage else {
        return Ok(());
    };
    let client = usages.contains(&oid::CLIENT_AUTH) && !key_usage.has(SIGN_OR_AGREE);
    let server = usages.contains(&oid::SERVER_AUTH) && !key_usage.has(SIGN_OR_AGREE | KeyUsage::KEY_ENCIPHERMENT);
    if client || server {
        return Err(PathRule::KeyUsage.because("it does not allow what the extended key usage says"));
    }
    Ok(())
}
