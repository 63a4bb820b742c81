//! Composes TBSCertificates by the tables of the profiles: every extension that the table names, with its criticality
//! and content, and nothing else.
//!
//! By the tables themselves and not with a general builder: what is issued and what the worker lets pass then come
//! from one place. What is composed is linted, signed, and read again by readers that share no code with this.

use super::certificate::Certificate;
use super::der;
use super::oid::{self, OidBase};
use super::profile::{self, NameAttribute, NameForm, Profile};
use super::related;
use crate::kernel::sign::raw_public_key;
use crate::kernel::status::CustodyLevel;
use crate::kernel::types::{OperatorName, Serial, Sha256, SpiffeId, UnixMillis};

/// A certificate to be made.
#[derive(Clone, Debug)]
pub struct CertificatePlan {
    pub profile: Profile,
    /// For profiles whose subject names one.
    pub organization: Option<String>,
    pub common_name: String,
    /// The subject's key, DER.
    pub spki: Vec<u8>,
    pub serial: Serial,
    pub not_before: UnixMillis,
    pub not_after: UnixMillis,
    pub agent: Option<AgentPlan>,
    pub operator: Option<OperatorPlan>,
    /// DNS names and addresses of a TLS server.
    pub server_names: Vec<String>,
}

/// What only agents' certificates carry.
#[derive(Clone, Debug)]
pub struct AgentPlan {
    pub spiffe_id: SpiffeId,
    pub custody: CustodyLevel,
    /// SHA-256 of S, in B.
    pub bound_to: Option<Sha256>,
}

/// What only operators' certificates carry.
#[derive(Clone, Debug)]
pub struct OperatorPlan {
    pub trust_domain: String,
    pub name: OperatorName,
}

/// The plan lacks what its profile asks for; says what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a certificate needs {0}")]
pub struct Uncomposable(pub &'static str);

/// The TBSCertificate (DER) of a plan. `issuer` is its certificate (DER), or nothing for a self-signed root; `base_url`
/// is where the issuer's lists and its responder are.
///
/// # Errors
/// [`Uncomposable`]
pub fn tbs_certificate(
    plan: &CertificatePlan,
    issuer: Option<&[u8]>,
    base_url: &str,
    base: &OidBase,
) -> Result<Vec<u8>, Uncomposable> {
    let issuer = issuer.map(Certificate::read).transpose().map_err(|_| Uncomposable("an issuer that can be read"))?;
    let signer_spki = issuer.as_ref().map_or(plan.spki.as_slice(), |issuer| issuer.tbs.spki);
    let algorithm = raw_public_key(signer_spki).and_then(|(algorithm, _)| algorithm.signature_identifier());
    let algorithm = algorithm.ok_or(Uncomposable("a signer whose key is of a known kind"))?;
    let subject = subject(plan)?;
    let issuer_name = issuer.as_ref().map_or(subject.as_slice(), |issuer| issuer.tbs.subject);
    let mut extensions = Vec::new();
    for expected in plan.profile.table().extensions.expected() {
        let content = content(expected.oid, plan, issuer.as_ref(), base_url, base)?;
        let critical: &[u8] = if expected.critical { &[der::BOOLEAN, 1, 0xff] } else { &[] };
        let octets = der::element(der::OCTET_STRING, &content);
        extensions.extend(der::sequence(&[&der::element(der::OID, expected.oid), critical, &octets]));
    }
    Ok(der::sequence(&[
        VERSION_3,
        &der::unsigned_integer(plan.serial.as_bytes()),
        algorithm,
        issuer_name,
        &der::sequence(&[&time(plan.not_before), &time(plan.not_after)]),
        &subject,
        &plan.spki,
        &der::element(der::context_constructed(3), &der::element(der::SEQUENCE, &extensions)),
    ]))
}

/// `[0] { 2 }`
const VERSION_3: &[u8] = &[0xa0, 3, der::INTEGER, 1, 2];

/// What stands in one extension of the plan's profile.
fn content(
    extension: &[u8],
    plan: &CertificatePlan,
    issuer: Option<&Certificate<'_>>,
    base_url: &str,
    base: &OidBase,
) -> Result<Vec<u8>, Uncomposable> {
    let rules = &plan.profile.table().extensions;
    let missing = |what| move || Uncomposable(what);
    let issuer_identifier = || {
        let identifier = issuer.and_then(|issuer| issuer.tbs.subject_key_identifier());
        identifier.ok_or(Uncomposable("an issuer with a key identifier"))
    };
    let place = |template: &str| -> Result<String, Uncomposable> {
        let issuer = hex::encode(issuer_identifier()?);
        Ok(template.replace("{base_url}", base_url.trim_end_matches('/')).replace("{issuer}", &issuer))
    };
    match extension {
        oid::BASIC_CONSTRAINTS => Ok(match rules.basic_constraints.path_length {
            Some(length) => der::sequence(&[&[der::BOOLEAN, 1, 0xff], &der::unsigned_integer(&[length])]),
            None => der::sequence(&[]),
        }),
        oid::KEY_USAGE => Ok(rules.key_usage.der().to_vec()),
        oid::EXTENDED_KEY_USAGE => {
            let usage = plan.profile.extended_key_usage(base).ok_or_else(missing("an extended key usage"))?;
            Ok(der::sequence(&[&der::element(der::OID, &usage)]))
        }
        oid::SUBJECT_KEY_IDENTIFIER => {
            Ok(der::element(der::OCTET_STRING, &profile::key_identifier(Sha256::of(&[&plan.spki]))))
        }
        oid::AUTHORITY_KEY_IDENTIFIER => Ok(der::sequence(&[&der::element(der::context(0), issuer_identifier()?)])),
        oid::CRL_DISTRIBUTION_POINTS => {
            let rule = rules.crl_distribution_points.as_ref().ok_or_else(missing("a distribution point"))?;
            Ok(profile::distribution_point_at(&place(&rule.uri)?))
        }
        oid::AUTHORITY_INFO_ACCESS => {
            let rule = rules.authority_info_access.as_ref().ok_or_else(missing("a responder"))?;
            Ok(profile::responder_access(&place(&rule.ocsp)?))
        }
        oid::SUBJECT_ALT_NAME => {
            let rule = rules.subject_alt_name.ok_or_else(missing("a form of its names"))?;
            alternative_name(rule.form, plan)
        }
        oid::CERTIFICATE_POLICIES => {
            let agent = plan.agent.as_ref().ok_or_else(missing("a custody level"))?;
            Ok(profile::custody_policy(agent.custody, base))
        }
        oid::RELATED_CERTIFICATE => {
            let bound_to = plan.agent.as_ref().and_then(|agent| agent.bound_to);
            Ok(related::encode_binding(bound_to.ok_or_else(missing("the certificate that it is bound to"))?))
        }
        oid::OCSP_NO_CHECK => Ok(vec![der::NULL, 0]),
        _ => Err(Uncomposable("an extension that is composed here")),
    }
}

fn alternative_name(form: NameForm, plan: &CertificatePlan) -> Result<Vec<u8>, Uncomposable> {
    match form {
        NameForm::Agent => {
            let agent = plan.agent.as_ref().ok_or(Uncomposable("an agent's SPIFFE ID"))?;
            Ok(profile::uri_alt_name(&agent.spiffe_id.to_string()))
        }
        NameForm::Operator => {
            let operator = plan.operator.as_ref().ok_or(Uncomposable("an operator's name"))?;
            let (domain, name) = (&operator.trust_domain, &operator.name);
            Ok(profile::uri_alt_name(&format!("spiffe://{domain}/operator/{name}")))
        }
        NameForm::Server if plan.server_names.is_empty() => Err(Uncomposable("at least one name of the server")),
        NameForm::Server => Ok(profile::server_alt_name(&plan.server_names)),
    }
}

/// The subject's Name (DER): the attributes of the table in their order, in UTF-8.
fn subject(plan: &CertificatePlan) -> Result<Vec<u8>, Uncomposable> {
    let mut parts = Vec::new();
    for attribute in &plan.profile.table().subject {
        let text = match attribute {
            NameAttribute::Organization => plan.organization.as_ref().ok_or(Uncomposable("an organization"))?,
            NameAttribute::CommonName => &plan.common_name,
        };
        let value = der::element(der::UTF8_STRING, text.as_bytes());
        let pair = der::sequence(&[&der::element(der::OID, attribute.oid()), &value]);
        parts.extend(der::element(der::SET, &pair));
    }
    Ok(der::element(der::SEQUENCE, &parts))
}

/// UTCTime until 2049, GeneralizedTime from 2050 (RFC 5280, 4.1.2.5), in whole seconds.
fn time(at: UnixMillis) -> Vec<u8> {
    let text = at.rfc3339();
    let digits: String = text[..19].chars().filter(char::is_ascii_digit).collect();
    if (1950..2050).contains(&digits[..4].parse().unwrap_or(0)) {
        der::element(der::UTC_TIME, format!("{}Z", &digits[2..]).as_bytes())
    } else {
        der::element(der::GENERALIZED_TIME, format!("{digits}Z").as_bytes())
    }
}
