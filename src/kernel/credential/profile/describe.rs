//! A profile in words: for `countersign profile` and `docs/PROFILES.md`.

use super::table::{Expected, IssuedBy, KeyUsage, NameAttribute, NameForm, Table};
use crate::kernel::credential::oid;

impl Table {
    /// Whose key signs it.
    pub fn issued_by(&self) -> &'static str {
        match self.issuer {
            IssuedBy::Itself => "itself",
            IssuedBy::Root => "root",
            IssuedBy::Issuing => "issuing",
        }
    }

    /// The attributes of its subject, such as `O, CN`.
    pub fn subject_form(&self) -> String {
        let short = |attribute: &NameAttribute| match attribute {
            NameAttribute::Organization => "O",
            NameAttribute::CommonName => "CN",
        };
        self.subject.iter().map(short).collect::<Vec<_>>().join(", ")
    }

    pub fn key_algorithms(&self) -> String {
        self.key.algorithms.iter().map(|algorithm| algorithm.slug()).collect::<Vec<_>>().join(", ")
    }

    pub fn key_usages(&self) -> String {
        let word = |usage: &KeyUsage| match usage {
            KeyUsage::DigitalSignature => "digitalSignature",
            KeyUsage::KeyCertSign => "keyCertSign",
            KeyUsage::CrlSign => "cRLSign",
        };
        self.extensions.key_usage.usages.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    /// What must stand in one of its extensions.
    pub fn rule_of(&self, extension: &Expected) -> String {
        let rules = &self.extensions;
        let text = match extension.oid {
            oid::BASIC_CONSTRAINTS => match rules.basic_constraints.path_length {
                Some(length) => Some(format!("CA, path length {length}")),
                None => Some("no CA".to_owned()),
            },
            oid::KEY_USAGE => Some(self.key_usages()),
            oid::EXTENDED_KEY_USAGE => rules.extended_key_usage.map(|rule| format!("{}, alone", rule.usage)),
            oid::SUBJECT_KEY_IDENTIFIER => {
                Some("first 20 bytes of SHA-256 over the SubjectPublicKeyInfo (RFC 7093, 2)".to_owned())
            }
            oid::AUTHORITY_KEY_IDENTIFIER => Some("the issuer's key identifier, nothing else".to_owned()),
            oid::CRL_DISTRIBUTION_POINTS => {
                rules.crl_distribution_points.as_ref().map(|rule| format!("one place, {}", rule.uri))
            }
            oid::AUTHORITY_INFO_ACCESS => {
                rules.authority_info_access.as_ref().map(|rule| format!("one OCSP responder, {}", rule.ocsp))
            }
            oid::SUBJECT_ALT_NAME => rules.subject_alt_name.map(|rule| match rule.form {
                NameForm::Agent => "one URI, spiffe://<trust domain>/agent/<role>/<name>".to_owned(),
                NameForm::Operator => "one URI, spiffe://<trust domain>/operator/<name>".to_owned(),
                NameForm::Server => "DNS names and addresses, at least one".to_owned(),
            }),
            oid::CERTIFICATE_POLICIES => rules.certificate_policies.map(|rule| {
                format!("one of {} (custody-observed), {} (custody-stated)", rule.custody_observed, rule.custody_stated)
            }),
            oid::RELATED_CERTIFICATE => rules.related_certificate.map(|_| "SHA-256 of S (RFC 9763, 4.1)".to_owned()),
            oid::OCSP_NO_CHECK => Some("NULL (RFC 6960, 4.2.2.2.1)".to_owned()),
            _ => None,
        };
        text.unwrap_or_default()
    }
}
