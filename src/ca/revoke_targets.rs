//! What an operator's words name, and which certificates that hits.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::ca::authority::{Authority, refused};
use crate::ca::issue::OwnCa;
use crate::ca::revoke::Named;
use crate::kernel::command::{RevocationTarget, Whom};
use crate::kernel::credential::profile::{Profile, key_identifier};
use crate::kernel::decide::SERIALS_MAX;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{AgentName, Serial, Sha256, SpiffeId, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::{CertificateLine, CertificatesOf, LinePlace};

/// Certificates that one answer names; `next` goes on.
const ITEMS_MAX: usize = 1_000;

/// What is hit: all of it as numbers, a page of it by name.
#[derive(Debug, Default)]
pub(super) struct Hit {
    pub(super) certificates: u64,
    pub(super) agents: u64,
    pub(super) items: Vec<Value>,
    pub(super) next: Option<String>,
}

/// Where a page begins.
#[derive(Debug)]
pub(super) struct Page {
    after: Option<LinePlace>,
}

impl Page {
    pub(super) fn first() -> Self {
        Self { after: None }
    }

    /// `issuer:serial` of the last certificate of the page before.
    pub(super) fn read(after: Option<&str>) -> Result<Self, Failure> {
        let place = |text: &str| {
            let (issuer, serial) = text.split_once(':')?;
            Some(LinePlace { issuer: issuer.to_owned(), serial: serial.parse().ok()? })
        };
        let after = after.map(|text| {
            place(text).ok_or_else(|| {
                Failure::usage("place_malformed", format!("{text:?} is no place in a list"), "give `next` as it was")
            })
        });
        Ok(Self { after: after.transpose()? })
    }
}

impl Authority {
    /// What is named, in the store's words.
    pub(super) fn targets(&self, named: &Named) -> Result<Vec<RevocationTarget>, Failure> {
        Ok(match named {
            Named::Text(text) => vec![self.target(text)?],
            Named::Key(key) => vec![RevocationTarget::Key(*key)],
            Named::Issuer(issuer) => vec![self.issuer_target(issuer)?],
            Named::Serials { issuer, serials } => self.serial_targets(issuer.as_deref(), serials)?,
            Named::Everyone => vec![RevocationTarget::Everyone],
        })
    }

    fn target(&self, text: &str) -> Result<RevocationTarget, Failure> {
        if let Ok(agent) = text.parse::<SpiffeId>() {
            return Ok(RevocationTarget::Agent(agent));
        }
        if let Ok(key) = Sha256::from_hex(text)
            && !self.store.certificate_lines(&CertificatesOf::Key(key), UnixMillis(i64::MIN), None, 1)?.is_empty()
        {
            return Ok(RevocationTarget::Key(key));
        }
        if let Ok(name) = text.parse::<AgentName>()
            && let Some(agent) = self.agent_named(&name)?
        {
            return Ok(RevocationTarget::Agent(agent));
        }
        let serial = text.parse().map_err(|_| refused(Refusal::UnknownAgent))?;
        let issuer = self.issuer_of_serial(&serial)?.ok_or_else(|| refused(Refusal::UnknownAgent))?;
        self.is_of_no_ca(&issuer, &serial)?;
        Ok(RevocationTarget::Certificate { issuer, serial })
    }

    /// The one agent of this name.
    fn agent_named(&self, name: &AgentName) -> Result<Option<SpiffeId>, Failure> {
        let of = CertificatesOf::AgentNamed(name.clone());
        let lines = self.store.certificate_lines(&of, UnixMillis(i64::MIN), None, u32::MAX)?;
        let mut agents: Vec<SpiffeId> = lines.iter().filter_map(|line| line.subject.parse().ok()).collect();
        agents.sort();
        agents.dedup();
        match agents.as_slice() {
            [] => Ok(None),
            [agent] => Ok(Some(agent.clone())),
            [_, _, ..] => Err(Failure::refused(
                "target_ambiguous",
                format!("more than one agent is called {name}"),
                "name the agent by its SPIFFE ID, see `countersign cert list`",
            )),
        }
    }

    /// Who is meant by a freeze: an agent by name or SPIFFE ID, or everyone.
    pub(super) fn whom(&self, agent: Option<&str>) -> Result<(Whom, Vec<RevocationTarget>), Failure> {
        let Some(text) = agent else {
            return Ok((Whom::Everyone, vec![RevocationTarget::Everyone]));
        };
        let agent = match (text.parse::<SpiffeId>(), text.parse::<AgentName>()) {
            (Ok(agent), _) => Some(agent),
            (Err(_), Ok(name)) => self.agent_named(&name)?,
            (Err(_), Err(_)) => None,
        };
        let agent = agent.ok_or_else(|| refused(Refusal::UnknownAgent))?;
        Ok((Whom::Agent(agent.clone()), vec![RevocationTarget::Agent(agent)]))
    }

    fn issuer_of_serial(&self, serial: &Serial) -> Result<Option<String>, Failure> {
        for issuer in self.own_issuers()? {
            if self.store.certificate_status(&issuer, serial)?.is_some() {
                return Ok(Some(issuer));
            }
        }
        Ok(None)
    }

    /// A CA ends with everything under it, which a serial number among others does not say.
    fn is_of_no_ca(&self, issuer: &str, serial: &Serial) -> Result<(), Failure> {
        let found = self.store.certificate_status(issuer, serial)?.map(|found| found.line);
        match found.filter(|line| Profile::from_name(&line.profile).is_some_and(Profile::is_ca)) {
            None => Ok(()),
            Some(line) => Err(Failure::refused(
                "target_is_ca",
                format!("{serial} is the certificate of {}", line.subject),
                "an issuing CA is revoked with --issuer and its key identifier; a root is not: see docs/PROFILES.md",
            )),
        }
    }

    /// Key identifiers under which we have issued.
    pub(super) fn own_issuers(&self) -> Result<Vec<String>, Failure> {
        let mut issuers: Vec<String> =
            self.store.authorities()?.iter().map(|record| hex::encode(key_identifier(record.key))).collect();
        issuers.sort();
        issuers.dedup();
        Ok(issuers)
    }

    /// An issuing CA of ours, with the certificates that our root has issued for it, or one of another party's.
    fn issuer_target(&self, issuer: &str) -> Result<RevocationTarget, Failure> {
        let issuer = issuer.to_ascii_lowercase();
        let records = self.store.authorities()?;
        let own = records
            .iter()
            .filter(|record| record.profile == "issuing" && hex::encode(key_identifier(record.key)) == issuer);
        let certificates: Vec<(String, Serial)> =
            own.map(|record| (record.issuer.clone(), record.serial.clone())).collect();
        let other = || -> Result<bool, Failure> {
            let issuing = self.known_anchors()?.into_values().flat_map(|anchors| anchors.issuing);
            Ok(issuing.into_iter().any(|der| OwnCa::of(&der).is_ok_and(|known| known.identifier == issuer)))
        };
        if certificates.is_empty() && !other()? {
            return Err(Failure::refused(
                "unknown_issuer",
                format!("{issuer} is no issuing CA of ours nor of a party that is trusted here"),
                "name it by its subject key identifier, 40 hexadecimal digits, as in the address of its list",
            ));
        }
        Ok(RevocationTarget::Issuer { issuer, certificates })
    }

    /// Each number once, by issuer, in portions that one decision takes.
    fn serial_targets(&self, issuer: Option<&str>, texts: &[String]) -> Result<Vec<RevocationTarget>, Failure> {
        let mut by_issuer: BTreeMap<String, Vec<Serial>> = BTreeMap::new();
        for text in texts {
            let serial: Serial = text.parse().map_err(|_| {
                Failure::usage(
                    "serial_malformed",
                    format!("{text:?} is no serial number"),
                    "write one serial number a line, in hexadecimal digits, and comments behind #",
                )
            })?;
            let found = match issuer {
                Some(issuer) => Some(issuer.to_ascii_lowercase()),
                None => self.issuer_of_serial(&serial)?,
            };
            let issuer = found.ok_or_else(|| {
                Failure::refused(
                    "unknown_serial",
                    format!("no certificate of ours has the serial number {serial}"),
                    "take it out of the file: nothing was recorded of this portion",
                )
            })?;
            self.is_of_no_ca(&issuer, &serial)?;
            by_issuer.entry(issuer).or_default().push(serial);
        }
        let mut targets = vec![];
        for (issuer, mut serials) in by_issuer {
            serials.sort();
            serials.dedup();
            for portion in serials.chunks(SERIALS_MAX) {
                targets.push(RevocationTarget::Certificates { issuer: issuer.clone(), serials: portion.to_vec() });
            }
        }
        Ok(targets)
    }

    /// Whether the other party with this issuing CA has another one that is known here.
    fn has_other_generations(&self, issuer: &str) -> Result<bool, Failure> {
        let others = self.others()?.trusted.into_values();
        let mut generations = others.filter(|issuers| issuers.iter().any(|known| known == issuer));
        Ok(generations.any(|issuers| issuers.len() > 1))
    }

    /// Agents' unexpired certificates whose other half is by this issuing CA of the other party, as far as it was noted
    /// when they were issued; those of which nothing was noted may be, and are among them.
    fn endorsed_under(&self, issuer: &str, now: UnixMillis) -> Result<Vec<CertificateLine>, Failure> {
        let mut found = vec![];
        for line in self.store.certificate_lines(&CertificatesOf::Agents, now, None, u32::MAX)? {
            let noted = self.endorser_of(line.key, &line.serial)?;
            found.extend(noted.is_none_or(|noted| noted == issuer).then_some(line));
        }
        Ok(found)
    }

    /// Our own unexpired certificates that the targets take out of service.
    pub(super) fn affected(&self, targets: &[RevocationTarget], page: &Page) -> Result<Hit, Failure> {
        let now = clock::now();
        let mut hit = Hit::default();
        let mut lines: Vec<CertificateLine> = vec![];
        let mut agents_of_serials = BTreeSet::new();
        for target in targets {
            let of = match target {
                RevocationTarget::Agent(agent) => CertificatesOf::Agent(agent.clone()),
                RevocationTarget::Key(key) => CertificatesOf::Key(*key),
                RevocationTarget::Certificate { issuer, serial } => {
                    CertificatesOf::Serial { issuer: issuer.clone(), serial: serial.clone() }
                }
                RevocationTarget::Certificates { issuer, serials } => {
                    for serial in serials {
                        let found = self.store.certificate_status(issuer, serial)?.map(|found| found.line);
                        let live = found.filter(|line| line.not_after > now);
                        hit.certificates += u64::from(live.is_some());
                        let agent = live.as_ref().filter(|line| line.subject.starts_with("spiffe:"));
                        agents_of_serials.extend(agent.map(|line| line.subject.clone()));
                        lines.extend(live.filter(|line| page.after.as_ref().is_none_or(|after| line.place() > *after)));
                    }
                    continue;
                }
                RevocationTarget::Issuer { issuer, certificates } if certificates.is_empty() => {
                    if self.has_other_generations(issuer)? {
                        let lines_of_it = self.endorsed_under(issuer, now)?;
                        let agents: BTreeSet<&String> = lines_of_it.iter().map(|line| &line.subject).collect();
                        hit.agents += u64::try_from(agents.len()).unwrap_or(u64::MAX);
                        hit.certificates += u64::try_from(lines_of_it.len()).unwrap_or(u64::MAX);
                        let behind = |line: &CertificateLine| page.after.as_ref().is_none_or(|it| line.place() > *it);
                        lines.extend(lines_of_it.into_iter().filter(behind));
                        continue;
                    }
                    // The other party's only one: no agent has a pair without it.
                    CertificatesOf::Agents
                }
                RevocationTarget::Issuer { issuer, .. } => CertificatesOf::Issuer(issuer.clone()),
                RevocationTarget::Everyone => CertificatesOf::Agents,
            };
            let (certificates, agents) = self.store.certificate_count(&of, now)?;
            hit.certificates += certificates;
            hit.agents += agents;
            let limit = u32::try_from(ITEMS_MAX + 1).unwrap_or(u32::MAX);
            lines.extend(self.store.certificate_lines(&of, now, page.after.as_ref(), limit)?);
        }
        hit.agents += u64::try_from(agents_of_serials.len()).unwrap_or(u64::MAX);
        lines.sort_by_key(CertificateLine::place);
        let goes_on = lines.len() > ITEMS_MAX;
        lines.truncate(ITEMS_MAX);
        hit.next = lines.last().filter(|_| goes_on).map(|line| format!("{}:{}", line.issuer, line.serial));
        hit.items = lines.iter().map(item).collect();
        Ok(hit)
    }
}

fn item(line: &CertificateLine) -> Value {
    json!({
        "profile": line.profile,
        "subject": line.subject,
        "issuer": line.issuer,
        "serial": line.serial,
        "not_after": line.not_after.rfc3339(),
    })
}
