//! The files in `certs/profiles/`, compiled in and read once: the one place that says what we issue.
//!
//! What builds certificates and what refuses them read the same tables, so they cannot drift apart. The files are
//! compiled in because the HSM worker, which refuses by them, trusts nothing that somebody could change on disk.

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::Profile;
use crate::kernel::credential::oid::{self, Arcs, OidBase};
use crate::kernel::sign::{Algorithm, Purpose};

/// In the order of [`Profile::ALL`].
const FILES: [&str; Profile::ALL.len()] = [
    include_str!("../../../../certs/profiles/root.toml"),
    include_str!("../../../../certs/profiles/issuing.toml"),
    include_str!("../../../../certs/profiles/agent-s.toml"),
    include_str!("../../../../certs/profiles/agent-b.toml"),
    include_str!("../../../../certs/profiles/tls-server.toml"),
    include_str!("../../../../certs/profiles/tls-client.toml"),
    include_str!("../../../../certs/profiles/checkpoint.toml"),
    include_str!("../../../../certs/profiles/witness.toml"),
    include_str!("../../../../certs/profiles/transaction.toml"),
    include_str!("../../../../certs/profiles/catalogue.toml"),
    include_str!("../../../../certs/profiles/revocation-receipt.toml"),
    include_str!("../../../../certs/profiles/ocsp-responder.toml"),
    include_str!("../../../../certs/profiles/manifest.toml"),
    include_str!("../../../../certs/profiles/operator.toml"),
];

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    FILES.iter().map(|text| toml::from_str(text).expect("a test reads every file that is compiled in")).collect()
});

impl Profile {
    /// What the file of this profile says.
    pub fn table(self) -> &'static Table {
        &TABLES[self as usize]
    }

    /// The file as it was compiled in.
    pub fn source(self) -> &'static str {
        FILES[self as usize]
    }
}

/// One file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The name in records and on screen.
    pub name: String,
    /// One line for people.
    pub about: String,
    pub issuer: IssuedBy,
    /// Attributes of the subject's name, one each, in this order.
    pub subject: Vec<NameAttribute>,
    pub key: KeyRule,
    pub life: Life,
    pub extensions: Extensions,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssuedBy {
    /// Its own key.
    #[serde(rename = "self")]
    Itself,
    Root,
    Issuing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameAttribute {
    Organization,
    CommonName,
}

impl NameAttribute {
    /// Content octets of its object identifier.
    pub fn oid(self) -> &'static [u8] {
        match self {
            Self::Organization => oid::ORGANIZATION_NAME,
            Self::CommonName => oid::COMMON_NAME,
        }
    }
}

/// The subject's key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRule {
    pub purpose: Purpose,
    pub algorithms: Vec<Algorithm>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Life {
    /// Unless `[pki]` says less.
    pub default_days: u32,
    /// Between notBefore, which lies a little back, and notAfter: no certificate of this profile lives longer.
    pub max_days: u32,
}

/// Every extension that a certificate of the profile has, and no other one. In the order in which we write them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Extensions {
    pub basic_constraints: BasicConstraints,
    pub key_usage: KeyUsages,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_key_usage: Option<ExtendedKeyUsage>,
    pub subject_key_identifier: Plain,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_key_identifier: Option<Plain>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_distribution_points: Option<DistributionPoint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_info_access: Option<InfoAccess>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_alt_name: Option<AlternativeName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_policies: Option<CustodyPolicies>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub related_certificate: Option<RelatedCertificate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp_no_check: Option<Plain>,
}

/// An extension whose content follows from the certificate itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    pub critical: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicConstraints {
    pub critical: bool,
    pub ca: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_length: Option<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyUsages {
    pub critical: bool,
    pub usages: Vec<KeyUsage>,
}

/// RFC 5280, 4.2.1.3; the others are in no profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyUsage {
    DigitalSignature,
    KeyCertSign,
    CrlSign,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtendedKeyUsage {
    pub critical: bool,
    pub usage: Usage,
}

/// The one extended key usage of a profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Usage {
    ServerAuth,
    ClientAuth,
    OcspSigning,
    Private(PrivateOid),
}

/// `private a.b`: an object identifier below the installation's base.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrivateOid(pub Arcs);

/// One http URI. `{base_url}` is `[pki] base_url`, `{issuer}` the issuer's key identifier in hexadecimal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistributionPoint {
    pub critical: bool,
    pub uri: String,
}

/// One OCSP responder, as an http URI.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InfoAccess {
    pub critical: bool,
    pub ocsp: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlternativeName {
    pub critical: bool,
    pub form: NameForm,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameForm {
    /// One `spiffe://<trust domain>/agent/<role>/<name>`.
    Agent,
    /// DNS names and addresses, at least one.
    Server,
    /// One `spiffe://<trust domain>/operator/<name>`.
    Operator,
}

/// Exactly one of the two levels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CustodyPolicies {
    pub critical: bool,
    pub custody_observed: PrivateOid,
    pub custody_stated: PrivateOid,
}

/// RFC 9763, 4.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelatedCertificate {
    pub critical: bool,
    pub hash: BindingHash,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindingHash {
    Sha256,
}

/// An extension of a profile: its object identifier (content octets), its name in the file, its criticality.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    pub oid: &'static [u8],
    pub name: &'static str,
    pub critical: bool,
}

impl Extensions {
    /// The extensions of the profile, in the order in which we write them.
    pub fn expected(&self) -> impl Iterator<Item = Expected> + '_ {
        let plain = |rule: &Option<Plain>| rule.map(|rule| rule.critical);
        [
            (oid::BASIC_CONSTRAINTS, "basic-constraints", Some(self.basic_constraints.critical)),
            (oid::KEY_USAGE, "key-usage", Some(self.key_usage.critical)),
            (oid::EXTENDED_KEY_USAGE, "extended-key-usage", self.extended_key_usage.map(|rule| rule.critical)),
            (oid::SUBJECT_KEY_IDENTIFIER, "subject-key-identifier", Some(self.subject_key_identifier.critical)),
            (oid::AUTHORITY_KEY_IDENTIFIER, "authority-key-identifier", plain(&self.authority_key_identifier)),
            (
                oid::CRL_DISTRIBUTION_POINTS,
                "crl-distribution-points",
                self.crl_distribution_points.as_ref().map(|rule| rule.critical),
            ),
            (
                oid::AUTHORITY_INFO_ACCESS,
                "authority-info-access",
                self.authority_info_access.as_ref().map(|rule| rule.critical),
            ),
            (oid::SUBJECT_ALT_NAME, "subject-alt-name", self.subject_alt_name.map(|rule| rule.critical)),
            (oid::CERTIFICATE_POLICIES, "certificate-policies", self.certificate_policies.map(|rule| rule.critical)),
            (oid::RELATED_CERTIFICATE, "related-certificate", self.related_certificate.map(|rule| rule.critical)),
            (oid::OCSP_NO_CHECK, "ocsp-no-check", plain(&self.ocsp_no_check)),
        ]
        .into_iter()
        .filter_map(|(oid, name, critical)| Some(Expected { oid, name, critical: critical? }))
    }
}

impl KeyUsages {
    /// The DER BIT STRING: no trailing zero bits (X.690, 11.2.2).
    pub fn der(&self) -> [u8; 4] {
        let bits = self.usages.iter().fold(0, |bits, usage| bits | usage.bit());
        // At least one usage is named in every file, and all of them are in the first byte.
        let unused = u8::try_from(bits.trailing_zeros()).unwrap_or(7).min(7);
        [crate::kernel::credential::der::BIT_STRING, 2, unused, bits]
    }
}

impl KeyUsage {
    fn bit(self) -> u8 {
        match self {
            Self::DigitalSignature => 0x80,
            Self::KeyCertSign => 0x04,
            Self::CrlSign => 0x02,
        }
    }
}

impl Usage {
    /// Content octets of the object identifier.
    pub fn oid(self, base: &OidBase) -> Vec<u8> {
        match self {
            Self::ServerAuth => oid::SERVER_AUTH.to_vec(),
            Self::ClientAuth => oid::CLIENT_AUTH.to_vec(),
            Self::OcspSigning => oid::OCSP_SIGNING.to_vec(),
            Self::Private(private) => base.child(private.0),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerAuth => f.write_str("server-auth"),
            Self::ClientAuth => f.write_str("client-auth"),
            Self::OcspSigning => f.write_str("ocsp-signing"),
            Self::Private(private) => private.fmt(f),
        }
    }
}

impl fmt::Display for PrivateOid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.0;
        write!(f, "private {first}.{second}")
    }
}

impl TryFrom<String> for Usage {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "server-auth" => Ok(Self::ServerAuth),
            "client-auth" => Ok(Self::ClientAuth),
            "ocsp-signing" => Ok(Self::OcspSigning),
            other => PrivateOid::try_from(other.to_owned()).map(Self::Private),
        }
    }
}

impl TryFrom<String> for PrivateOid {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let arcs = text.strip_prefix("private ").and_then(|arcs| arcs.split_once('.'));
        // Above 127 an arc takes more than the one byte that `Arcs` has for it.
        let read = |arc: &str| arc.parse::<u8>().ok().filter(|arc| *arc < 0x80);
        let arcs = arcs.and_then(|(first, second)| Some([read(first)?, read(second)?]));
        arcs.map(Self).ok_or_else(|| format!("{text} is none of server-auth, client-auth, ocsp-signing, private a.b"))
    }
}

impl From<Usage> for String {
    fn from(usage: Usage) -> Self {
        usage.to_string()
    }
}

impl From<PrivateOid> for String {
    fn from(private: PrivateOid) -> Self {
        private.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_reads_and_belongs_to_its_profile() {
        for (index, profile) in Profile::ALL.into_iter().enumerate() {
            let table = profile.table();
            assert_eq!(profile as usize, index);
            assert_eq!(Profile::from_name(&table.name), Some(profile));
            assert_eq!(table.key.algorithms, table.key.purpose.algorithms(), "{}", table.name);
            assert!(profile.source().starts_with(&format!("# {}.\n", table.about)), "{}", table.name);
            assert!(profile.source().contains("Compiled into countersign"), "{}", table.name);
            assert!(0 < table.life.default_days && table.life.default_days <= table.life.max_days, "{}", table.name);
            assert!(!table.key.algorithms.is_empty() && !table.extensions.key_usage.usages.is_empty());
            let is_ca = table.extensions.basic_constraints.ca;
            assert_eq!(is_ca, table.extensions.basic_constraints.path_length.is_some(), "{}", table.name);
            assert_eq!(is_ca, table.extensions.extended_key_usage.is_none(), "{}", table.name);
            assert_eq!(is_ca, table.issuer != IssuedBy::Issuing, "{}", table.name);
            let has_authority = table.extensions.authority_key_identifier.is_some();
            assert_eq!(has_authority, table.issuer != IssuedBy::Itself, "{}", table.name);
            assert_eq!(table.subject.last(), Some(&NameAttribute::CommonName), "{}", table.name);
        }
        let custody = |profile: Profile| profile.table().extensions.certificate_policies;
        assert!(custody(Profile::AgentS).is_some() && custody(Profile::AgentS) == custody(Profile::AgentB));
    }

    #[test]
    fn a_word_too_many_or_too_few_in_a_file_is_refused() {
        let good = Profile::AgentB.source();
        let read = |text: &str| toml::from_str::<Table>(text);
        assert!(read(good).is_ok());
        for (from, to) in [
            ("name = \"agent-b\"\n", ""),
            ("name = \"agent-b\"\n", "name = \"agent-b\"\nnick = \"b\"\n"),
            ("subject-key-identifier = { critical = false }\n", ""),
            ("critical = false, usage = \"client-auth\"", "usage = \"client-auth\""),
            ("usage = \"client-auth\"", "usage = \"any\""),
            ("usage = \"client-auth\"", "usage = \"private 2.128\""),
            ("\"private 1.1\"", "\"private 1\""),
            ("form = \"agent\"", "form = \"anything\""),
            ("hash = \"sha256\"", "hash = \"sha1\""),
            ("\"p384\"", "\"p521\""),
            ("related-certificate", "name-constraints"),
            ("max_days = 7", "max_days = -7"),
        ] {
            assert!(good.contains(from), "{from}");
            assert!(read(&good.replace(from, to)).is_err(), "{from} → {to}");
        }
    }
}
