//! What is there, for people and programs to read. Judges nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use x509_parser::extensions::{GeneralName, ParsedExtension};

use crate::ca::authority::{Authority, refused};
use crate::ca::issue::OwnCa;
use crate::ca::settings::PartyKind;
use crate::kernel::command::Actor;
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::chain::PartyAnchors;
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::credential::related::binding_of;
use crate::kernel::refusal::Refusal;
use crate::kernel::status::StatusSnapshot;
use crate::kernel::types::{AgentName, PartyName, Sha256, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::{CertificateLine, CertificatesOf};

/// The other parties as this one knows them, for `doctor`.
#[derive(Clone, Debug)]
pub struct Others {
    /// Each with the key identifiers of its issuing CAs.
    pub trusted: BTreeMap<PartyName, Vec<String>>,
    /// Agent hosts that are enrolled here.
    pub hosts: usize,
}

impl Authority {
    /// Who is trusted here and which hosts are believed.
    ///
    /// # Errors
    /// The file system's, `anchor_invalid`, `host_unreadable`.
    pub fn others(&self) -> Result<Others, Failure> {
        let identifiers = |anchors: PartyAnchors| {
            anchors.issuing.iter().map(|der| Ok(OwnCa::of(der)?.identifier)).collect::<Result<Vec<_>, Failure>>()
        };
        let known = self.known_anchors()?.into_iter();
        let trusted = known.map(|(party, anchors)| Ok((party, identifiers(anchors)?)));
        Ok(Others { trusted: trusted.collect::<Result<_, Failure>>()?, hosts: self.enrolled_hosts()?.len() })
    }

    /// Certificates of this party: those its CAs issued, or the agents installed at this host.
    ///
    /// Answers `{items: [{profile, subject, serial, issuer, key, not_after, status}], next: null}`.
    ///
    /// # Errors
    /// The store's and the file system's.
    pub fn cert_list(&self, _actor: &Actor) -> Result<Value, Failure> {
        let items = match self.kind {
            PartyKind::AgentHost => self.installed_agents()?,
            PartyKind::Operator => Vec::new(),
            PartyKind::Bank | PartyKind::SecurityCompany => {
                let status = self.store.status()?;
                let now = clock::now();
                let lines = self.store.certificate_list()?;
                lines.iter().map(|line| listed(line, &status, now)).collect()
            }
        };
        Ok(json!({ "items": items, "next": null }))
    }

    fn installed_agents(&self) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        for name in crate::ca::files::names(&self.state.certs().join("agents"))? {
            let Ok(name) = name.parse::<AgentName>() else {
                continue;
            };
            let Some([bank, endorsement]) = self.installed_pair(&name)? else {
                continue;
            };
            for (half, der) in [("agent-b", bank), ("agent-s", endorsement)] {
                let mut item = described(&der);
                item["profile"] = json!(half);
                items.push(item);
            }
        }
        Ok(items)
    }

    /// Everything about an agent's certificates: the installed pair at an agent host, the issued half elsewhere.
    ///
    /// # Errors
    /// `agent_not_installed`, `unknown_agent`.
    pub fn cert_show(&self, _actor: &Actor, name: &AgentName) -> Result<Value, Failure> {
        if self.kind == PartyKind::AgentHost {
            let identity = self.agent_identity(name)?;
            let [bank, endorsement] = [&identity.chain[0], &identity.chain[1]];
            let mut shown = described_pair(bank, endorsement);
            shown["name"] = json!(name);
            shown["key_label"] = json!(identity.key.label);
            shown["key_attributes"] = json!(identity.key.custody);
            return Ok(shown);
        }
        let status = self.store.status()?;
        let now = clock::now();
        let of = CertificatesOf::AgentNamed(name.clone());
        let certificates: Vec<Value> = self
            .store
            .certificates_of(&of, UnixMillis(i64::MIN))?
            .into_iter()
            .map(|record| {
                let pem = record.der.as_ref().map(|der| pem::encode(Kind::Certificate, der));
                let mut item = listed(&CertificateLine::of(record), &status, now);
                if let Some(pem) = pem {
                    item["certificate_pem"] = json!(pem);
                }
                item
            })
            .collect();
        if certificates.is_empty() {
            return Err(refused(Refusal::UnknownAgent));
        }
        Ok(json!({ "name": name, "certificates": certificates }))
    }
}

/// Both halves of a pair and their binding, for people and programs to read. Judges nothing.
pub fn described_pair(bank: &[u8], endorsement: &[u8]) -> Value {
    let bound_to = Certificate::read(bank).ok().and_then(|certificate| binding_of(&certificate.tbs).ok());
    json!({
        "bank": described(bank),
        "endorsement": described(endorsement),
        "binding": {
            "hash_of_endorsement": bound_to,
            "matches": bound_to == Some(Sha256::of(&[endorsement])),
        },
    })
}

/// What a certificate says, as JSON. Judges nothing.
pub fn described(der: &[u8]) -> Value {
    let pem = pem::encode(Kind::Certificate, der);
    let Ok(certificate) = Certificate::read(der) else {
        return json!({ "readable": false, "certificate_pem": pem });
    };
    let tbs = &certificate.tbs;
    let names = Names::of(der);
    json!({
        "subject": tbs.common_name(),
        "uris": names.uris,
        "extended_key_usage": names.usages,
        "policies": names.policies,
        "serial": hex::encode(tbs.serial.strip_prefix(&[0]).unwrap_or(tbs.serial)),
        "issuer": tbs.authority_key_identifier().map(hex::encode),
        "key": tbs.key(),
        "fingerprint": certificate.fingerprint(),
        "not_before": tbs.not_before.at.rfc3339(),
        "not_after": tbs.not_after.at.rfc3339(),
        "certificate_pem": pem,
    })
}

fn listed(line: &CertificateLine, status: &StatusSnapshot, now: UnixMillis) -> Value {
    let revoked = status.certificates.contains(&(line.issuer.clone(), line.serial.clone()))
        || status.keys.contains(&line.key)
        || status.issuers.contains(&line.issuer)
        || line.subject.parse().is_ok_and(|agent| status.agents.contains(&agent));
    let state = if revoked {
        "revoked"
    } else if line.not_after < now {
        "expired"
    } else if !line.released {
        "unfinished"
    } else {
        "valid"
    };
    json!({
        "profile": line.profile,
        "subject": line.subject,
        "serial": line.serial,
        "issuer": line.issuer,
        "key": line.key,
        "not_after": line.not_after.rfc3339(),
        "status": state,
    })
}

/// The names and object identifiers a reader looks for first.
#[derive(Default)]
struct Names {
    uris: Vec<String>,
    usages: Vec<String>,
    policies: Vec<String>,
}

impl Names {
    fn of(der: &[u8]) -> Self {
        let mut names = Self::default();
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else {
            return names;
        };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(alternatives) => {
                    names.uris.extend(alternatives.general_names.iter().filter_map(|name| match name {
                        GeneralName::URI(uri) => Some((*uri).to_owned()),
                        _ => None,
                    }));
                }
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    if usage.client_auth {
                        names.usages.push("clientAuth".into());
                    }
                    if usage.server_auth {
                        names.usages.push("serverAuth".into());
                    }
                    names.usages.extend(usage.other.iter().map(|oid| oid.to_id_string()));
                }
                ParsedExtension::CertificatePolicies(policies) => {
                    names.policies.extend(policies.iter().map(|policy| policy.policy_id.to_id_string()));
                }
                _ => {}
            }
        }
        names
    }
}
