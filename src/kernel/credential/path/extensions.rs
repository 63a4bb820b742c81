//! The extensions of a certificate that RFC 5280 knows: each read once, strictly, with its criticality.

use super::constraint::NameConstraints;
use super::name::GeneralName;
use super::policy::PolicyExtensions;
use super::rule::{Broken, PathRule};
use crate::kernel::credential::certificate::{Extension, Tbs};
use crate::kernel::credential::der::{self, NotDer, Reader};
use crate::kernel::credential::oid;

const SUBJECT_DIRECTORY_ATTRIBUTES: &[u8] = &[0x55, 0x1d, 0x09];
const ISSUER_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x12];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
const POLICY_MAPPINGS: &[u8] = &[0x55, 0x1d, 0x21];
const POLICY_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x24];
const FRESHEST_CRL: &[u8] = &[0x55, 0x1d, 0x2e];
const INHIBIT_ANY_POLICY: &[u8] = &[0x55, 0x1d, 0x36];
const AUTHORITY_INFO_ACCESS: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x01];
const SUBJECT_INFO_ACCESS: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x0b];

/// What we process and webpki refuses when it is critical.
const BEYOND_WEBPKI: &[&[u8]] =
    &[ISSUER_ALT_NAME, oid::CERTIFICATE_POLICIES, POLICY_MAPPINGS, POLICY_CONSTRAINTS, INHIBIT_ANY_POLICY];

/// 2.5.29.37.0
pub(super) const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// Bits of a key usage (RFC 5280, 4.2.1.3), the first one highest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KeyUsage(u16);

impl KeyUsage {
    pub(super) const DIGITAL_SIGNATURE: u16 = 0x8000;
    pub(super) const KEY_ENCIPHERMENT: u16 = 0x2000;
    pub(super) const KEY_AGREEMENT: u16 = 0x0800;
    pub(super) const KEY_CERT_SIGN: u16 = 0x0400;
    pub(super) const CRL_SIGN: u16 = 0x0200;

    pub(super) fn has(self, any_of: u16) -> bool {
        self.0 & any_of != 0
    }

    /// A named bit list of one to nine bits without trailing zeros (X.690, 11.2.2).
    fn read(value: &[u8]) -> Result<Self, NotDer> {
        let bad = NotDer("a key usage");
        let mut reader = Reader::new(value);
        let content = reader.element(der::BIT_STRING)?.content;
        reader.finish()?;
        let (unused, bits) = match *content {
            [unused, one] => (unused, u16::from_be_bytes([one, 0])),
            // decipherOnly is the ninth bit.
            [7, one, 0x80] => return Ok(Self(u16::from_be_bytes([one, 0x80]))),
            _ => return Err(bad),
        };
        let minimal = bits != 0 && u32::from(unused) + 8 == bits.trailing_zeros();
        if minimal { Ok(Self(bits)) } else { Err(bad) }
    }
}

/// cA and pathLenConstraint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BasicConstraints {
    pub ca: bool,
    pub path_length: Option<u64>,
}

/// What an authority key identifier names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AuthorityKey<'a> {
    pub identifier: Option<&'a [u8]>,
    pub issuer_and_serial: Option<(&'a [u8], &'a [u8])>,
}

/// What the extensions of one certificate say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Extensions<'a> {
    pub basic_constraints: Option<BasicConstraints>,
    pub basic_constraints_critical: bool,
    pub key_usage: Option<KeyUsage>,
    /// Object identifiers as content octets.
    pub extended_key_usage: Option<Vec<&'a [u8]>>,
    pub extended_key_usage_critical: bool,
    pub subject_key: Option<&'a [u8]>,
    pub authority_key: Option<AuthorityKey<'a>>,
    pub alternatives: Option<Vec<GeneralName<'a>>>,
    pub alternatives_critical: bool,
    pub name_constraints: Option<NameConstraints<'a>>,
    pub policies: PolicyExtensions<'a>,
    /// It has an extension that only a CA may have.
    pub authority_only: bool,
    /// It has a critical extension that webpki does not know.
    pub beyond_webpki: bool,
    /// URIs of its distribution points.
    pub distribution_points: Vec<&'a str>,
}

impl<'a> Extensions<'a> {
    /// # Errors
    /// The rules on extensions in the order in which they appear in the certificate.
    pub(super) fn read(tbs: &Tbs<'a>) -> Result<Self, Broken> {
        let mut read = Self::default();
        for (index, extension) in tbs.extensions.iter().enumerate() {
            if tbs.extensions[..index].iter().any(|earlier| earlier.oid == extension.oid) {
                return Err(PathRule::DuplicateExtension.because("each extension is there once"));
            }
            read.take(extension)?;
        }
        Ok(read)
    }

    fn take(&mut self, extension: &Extension<'a>) -> Result<(), Broken> {
        let Extension { oid, critical, value } = *extension;
        let malformed = |why: &'static str| move |_: NotDer| PathRule::ExtensionMalformed.because(why);
        self.beyond_webpki |= critical && BEYOND_WEBPKI.contains(&oid);
        let must = |fits: bool, why| if fits { Ok(()) } else { Err(PathRule::ExtensionCriticality.because(why)) };
        match oid {
            oid::BASIC_CONSTRAINTS => {
                self.basic_constraints = Some(basic_constraints(value).map_err(malformed("basicConstraints"))?);
                self.basic_constraints_critical = critical;
            }
            oid::KEY_USAGE => self.key_usage = Some(KeyUsage::read(value).map_err(malformed("keyUsage"))?),
            oid::EXTENDED_KEY_USAGE => {
                self.extended_key_usage = Some(usages(value).map_err(malformed("extKeyUsage"))?);
                self.extended_key_usage_critical = critical;
            }
            oid::SUBJECT_KEY_IDENTIFIER => {
                must(!critical, "subjectKeyIdentifier is not critical")?;
                self.subject_key = Some(subject_key(value).map_err(malformed("subjectKeyIdentifier"))?);
            }
            oid::AUTHORITY_KEY_IDENTIFIER => {
                must(!critical, "authorityKeyIdentifier is not critical")?;
                self.authority_key = Some(authority_key(value).map_err(malformed("authorityKeyIdentifier"))?);
            }
            oid::SUBJECT_ALT_NAME => {
                let names = Reader::whole_sequence(value).and_then(GeneralName::read_all);
                let names = names.map_err(|_| PathRule::SubjectAltName.because("it is no list of names"))?;
                if !names.iter().all(|name| name.is_well_formed()) {
                    return Err(PathRule::SubjectAltName.because("one of its names is malformed"));
                }
                self.alternatives = Some(names);
                self.alternatives_critical = critical;
            }
            ISSUER_ALT_NAME => {
                let names = Reader::whole_sequence(value).and_then(GeneralName::read_all);
                names.map_err(malformed("issuerAltName"))?;
            }
            NAME_CONSTRAINTS => {
                must(critical, "nameConstraints is critical")?;
                self.name_constraints = Some(NameConstraints::read(value).map_err(malformed("nameConstraints"))?);
                self.authority_only = true;
            }
            oid::CERTIFICATE_POLICIES => {
                self.policies.policies = Some(policies(value).map_err(malformed("certificatePolicies"))?);
            }
            POLICY_MAPPINGS => {
                self.policies.mappings = mappings(value).map_err(malformed("policyMappings"))?;
                self.authority_only = true;
            }
            POLICY_CONSTRAINTS => {
                must(critical, "policyConstraints is critical")?;
                let constraints = policy_constraints(value).map_err(malformed("policyConstraints"))?;
                (self.policies.require_explicit, self.policies.inhibit_mapping) = constraints;
                self.authority_only = true;
            }
            INHIBIT_ANY_POLICY => {
                must(critical, "inhibitAnyPolicy is critical")?;
                let mut reader = Reader::new(value);
                let skip = reader.unsigned().and_then(|skip| reader.finish().map(|()| skip));
                self.policies.inhibit_any = Some(skip.map_err(malformed("inhibitAnyPolicy"))?);
                self.authority_only = true;
            }
            oid::CRL_DISTRIBUTION_POINTS => {
                self.distribution_points = distribution_points(value).map_err(malformed("cRLDistributionPoints"))?;
            }
            FRESHEST_CRL => {
                must(!critical, "freshestCRL is not critical")?;
                distribution_points(value).map_err(malformed("freshestCRL"))?;
            }
            AUTHORITY_INFO_ACCESS => {
                must(!critical, "authorityInfoAccess is not critical")?;
                accesses(value).map_err(malformed("authorityInfoAccess"))?;
            }
            SUBJECT_INFO_ACCESS => {
                must(!critical, "subjectInfoAccess is not critical")?;
                accesses(value).map_err(malformed("subjectInfoAccess"))?;
            }
            SUBJECT_DIRECTORY_ATTRIBUTES => {
                must(!critical, "subjectDirectoryAttributes is not critical")?;
                attributes(value).map_err(malformed("subjectDirectoryAttributes"))?;
            }
            // A related certificate too: a path alone cannot follow it.
            _ if critical => {
                return Err(PathRule::UnknownCriticalExtension.because("what must be understood is not understood"));
            }
            _ => {}
        }
        Ok(())
    }
}

fn basic_constraints(value: &[u8]) -> Result<BasicConstraints, NotDer> {
    let mut reader = Reader::whole_sequence(value)?;
    let ca = reader.default_false()?;
    let path_length = if reader.is_empty() { None } else { Some(reader.unsigned()?) };
    reader.finish()?;
    Ok(BasicConstraints { ca, path_length })
}

fn usages(value: &[u8]) -> Result<Vec<&[u8]>, NotDer> {
    let mut reader = Reader::whole_sequence(value)?;
    let mut usages = Vec::new();
    while !reader.is_empty() {
        let usage = reader.oid()?;
        if usages.contains(&usage) || usages.len() == USAGES_MAX {
            return Err(NotDer("each usage once"));
        }
        usages.push(usage);
    }
    if usages.is_empty() { Err(NotDer("at least one usage")) } else { Ok(usages) }
}

/// More than anybody gives one key.
const USAGES_MAX: usize = 64;

fn subject_key(value: &[u8]) -> Result<&[u8], NotDer> {
    let mut reader = Reader::new(value);
    let identifier = reader.octet_string()?;
    reader.finish()?;
    if identifier.is_empty() { Err(NotDer("an identifier that is not empty")) } else { Ok(identifier) }
}

fn authority_key(value: &[u8]) -> Result<AuthorityKey<'_>, NotDer> {
    let mut reader = Reader::whole_sequence(value)?;
    let identifier = reader.optional(der::context(0))?.map(|element| element.content);
    if identifier.is_some_and(<[u8]>::is_empty) {
        return Err(NotDer("an identifier that is not empty"));
    }
    let issuer = reader.optional(der::context_constructed(1))?;
    let serial = reader.optional(der::context(2))?;
    reader.finish()?;
    let issuer_and_serial = match (issuer, serial) {
        (None, None) => None,
        (Some(issuer), Some(serial)) => {
            let [GeneralName::Directory(name)] = GeneralName::read_all(Reader::new(issuer.content))?[..] else {
                return Err(NotDer("a directory name"));
            };
            Some((name, serial.content))
        }
        (Some(_), None) | (None, Some(_)) => return Err(NotDer("issuer and serial number, or neither")),
    };
    Ok(AuthorityKey { identifier, issuer_and_serial })
}

fn policies(value: &[u8]) -> Result<Vec<&[u8]>, NotDer> {
    let mut reader = Reader::whole_sequence(value)?;
    let mut seen = std::collections::BTreeSet::new();
    while !reader.is_empty() {
        let mut information = reader.sequence()?;
        let policy = information.oid()?;
        if let Some(qualifiers) = information.optional(der::SEQUENCE)? {
            let mut qualifiers = Reader::new(qualifiers.content);
            if qualifiers.is_empty() {
                return Err(NotDer("at least one qualifier"));
            }
            while !qualifiers.is_empty() {
                let mut qualifier = qualifiers.sequence()?;
                qualifier.oid()?;
                qualifier.any()?;
                qualifier.finish()?;
            }
        }
        information.finish()?;
        if !seen.insert(policy) {
            return Err(NotDer("each policy once"));
        }
    }
    if seen.is_empty() { Err(NotDer("at least one policy")) } else { Ok(seen.into_iter().collect()) }
}

/// Issuer's policy, subject's policy.
type Mapping<'a> = (&'a [u8], &'a [u8]);

fn mappings(value: &[u8]) -> Result<Vec<Mapping<'_>>, NotDer> {
    let mut reader = Reader::whole_sequence(value)?;
    let mut mappings = Vec::new();
    while !reader.is_empty() {
        let mut mapping = reader.sequence()?;
        mappings.push((mapping.oid()?, mapping.oid()?));
        mapping.finish()?;
    }
    if mappings.is_empty() { Err(NotDer("at least one mapping")) } else { Ok(mappings) }
}

/// requireExplicitPolicy and inhibitPolicyMapping, at least one.
fn policy_constraints(value: &[u8]) -> Result<(Option<u64>, Option<u64>), NotDer> {
    let mut reader = Reader::whole_sequence(value)?;
    let mut skip = |number| -> Result<Option<u64>, NotDer> {
        let Some(element) = reader.optional(der::context(number))? else {
            return Ok(None);
        };
        // Implicitly tagged: the content is that of an INTEGER.
        Reader::new(&der::element(der::INTEGER, element.content)).unsigned().map(Some)
    };
    let constraints = (skip(0)?, skip(1)?);
    reader.finish()?;
    if constraints == (None, None) { Err(NotDer("at least one constraint")) } else { Ok(constraints) }
}

/// The URIs of a CRLDistributionPoints.
fn distribution_points(value: &[u8]) -> Result<Vec<&str>, NotDer> {
    let mut points = Reader::whole_sequence(value)?;
    let mut uris = Vec::new();
    if points.is_empty() {
        return Err(NotDer("at least one distribution point"));
    }
    while !points.is_empty() {
        let mut point = points.sequence()?;
        let name = point.optional(der::context_constructed(0))?;
        let reasons = point.optional(der::context(1))?;
        let issuer = point.optional(der::context_constructed(2))?;
        point.finish()?;
        if name.is_none() && issuer.is_none() {
            return Err(NotDer("a name or an issuer"));
        }
        if reasons.is_some_and(|reasons| reasons.content.len() < 2) {
            return Err(NotDer("reasons"));
        }
        if let Some(name) = name {
            uris.extend(distribution_point_name(name.content)?);
        }
        if let Some(issuer) = issuer {
            GeneralName::read_all(Reader::new(issuer.content))?;
        }
    }
    Ok(uris)
}

/// The URIs of a DistributionPointName.
pub(super) fn distribution_point_name(content: &[u8]) -> Result<Vec<&str>, NotDer> {
    let mut reader = Reader::new(content);
    let name = reader.any()?;
    reader.finish()?;
    match name.tag {
        0xa0 => {
            let names = GeneralName::read_all(Reader::new(name.content))?;
            if !names.iter().all(|name| name.is_well_formed()) {
                return Err(NotDer("names"));
            }
            Ok(names
                .iter()
                .filter_map(|name| if let GeneralName::Uri(uri) = name { Some(*uri) } else { None })
                .collect())
        }
        0xa1 => Ok(Vec::new()),
        _ => Err(NotDer("a distribution point's name")),
    }
}

fn accesses(value: &[u8]) -> Result<(), NotDer> {
    let mut reader = Reader::whole_sequence(value)?;
    if reader.is_empty() {
        return Err(NotDer("at least one access description"));
    }
    while !reader.is_empty() {
        let mut description = reader.sequence()?;
        description.oid()?;
        let location = GeneralName::read(&mut description)?;
        description.finish()?;
        if !location.is_well_formed() {
            return Err(NotDer("a location"));
        }
    }
    Ok(())
}

fn attributes(value: &[u8]) -> Result<(), NotDer> {
    let mut reader = Reader::whole_sequence(value)?;
    if reader.is_empty() {
        return Err(NotDer("at least one attribute"));
    }
    while !reader.is_empty() {
        let mut attribute = reader.sequence()?;
        attribute.oid()?;
        let values = attribute.element(der::SET)?;
        attribute.finish()?;
        if values.content.is_empty() {
            return Err(NotDer("at least one value"));
        }
    }
    Ok(())
}
