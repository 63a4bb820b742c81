//! What is read about certificates and what is revoked of them, and how a store without indexes would find it.

use std::collections::BTreeSet;

use super::StoreFault;
use crate::kernel::command::{CertificateRecord, Whom};
use crate::kernel::types::{AgentName, KeyId, Serial, SpiffeId, UnixMillis};

/// A revoked certificate of one issuer, for its CRL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevokedEntry {
    pub serial: Serial,
    pub at: UnixMillis,
    pub reason: String,
    /// When the certificate expires. None: its record is not here.
    pub not_after: Option<UnixMillis>,
}

/// What was revoked of an issuer from some time on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevokedSince {
    pub entries: Vec<RevokedEntry>,
    /// Of all times.
    pub total: u64,
}

/// Which certificates are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CertificatesOf {
    /// An agent's SPIFFE ID, or what others are called.
    Subject(String),
    Agent(SpiffeId),
    /// Agents that are called so, whatever their role.
    AgentNamed(AgentName),
    Key(KeyId),
    Serial {
        issuer: String,
        serial: Serial,
    },
    Issuer(String),
    /// All agents'.
    Agents,
}

impl CertificatesOf {
    fn holds(&self, record: &CertificateRecord) -> bool {
        let agent = || record.subject.parse::<SpiffeId>().ok();
        match self {
            Self::Subject(subject) => record.subject == *subject,
            Self::Agent(agent) => record.subject == agent.to_string(),
            Self::AgentNamed(name) => agent().is_some_and(|agent| agent.name() == name),
            Self::Key(key) => record.key == *key,
            Self::Serial { issuer, serial } => record.issuer == *issuer && record.serial == *serial,
            Self::Issuer(issuer) => record.issuer == *issuer,
            Self::Agents => agent().is_some(),
        }
    }
}

/// A certificate without its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateLine {
    pub profile: String,
    pub subject: String,
    pub issuer: String,
    pub serial: Serial,
    pub key: KeyId,
    pub not_after: UnixMillis,
    /// Its signature is there.
    pub released: bool,
}

/// A place in a list of lines.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LinePlace {
    pub issuer: String,
    pub serial: Serial,
}

/// What we know of a certificate of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateStatus {
    pub line: CertificateLine,
    pub revoked: Option<RevokedEntry>,
}

/// How long a node may serve after it sent word of itself, counted by its own boot clock. The store counts from when it
/// heard of it, which is later, and adds [`LEASE_MARGIN_MS`] for clocks that do not run alike.
pub const LEASE_MS: i64 = 1_000;
pub const LEASE_MARGIN_MS: i64 = 100;

/// The nodes that share a store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Nodes {
    /// How often the revocation status has changed.
    pub changes: u64,
    /// Those that may still be serving, and how many changes each has acted on.
    pub serving: Vec<(String, u64)>,
}

/// One freeze, as operators see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FreezeView {
    pub whom: Whom,
    pub since: UnixMillis,
    pub reason: String,
    /// The first of the two people who want it lifted.
    pub thaw_asked_by: Option<String>,
}

impl CertificateLine {
    pub fn place(&self) -> LinePlace {
        LinePlace { issuer: self.issuer.clone(), serial: self.serial.clone() }
    }

    pub fn of(record: CertificateRecord) -> Self {
        Self {
            released: record.der.is_some(),
            profile: record.profile,
            subject: record.subject,
            issuer: record.issuer,
            serial: record.serial,
            key: record.key,
            not_after: record.not_after,
        }
    }
}

pub(super) fn authorities(mut all: Vec<CertificateRecord>) -> Result<Vec<CertificateRecord>, StoreFault> {
    all.retain(|record| record.profile == "root" || record.profile == "issuing");
    Ok(all)
}

pub(super) fn records(
    mut all: Vec<CertificateRecord>,
    of: &CertificatesOf,
    live_at: UnixMillis,
) -> Result<Vec<CertificateRecord>, StoreFault> {
    all.retain(|record| record.not_after > live_at && of.holds(record));
    Ok(all)
}

pub(super) fn last_end(all: &[CertificateRecord], issuer: &str) -> Option<UnixMillis> {
    let is_ca = |record: &CertificateRecord| record.profile == "root" || record.profile == "issuing";
    let released = all.iter().filter(|record| record.issuer == issuer && record.der.is_some() && !is_ca(record));
    released.map(|record| record.not_after).max()
}

pub(super) fn lines(
    all: Vec<CertificateRecord>,
    of: &CertificatesOf,
    live_at: UnixMillis,
    after: Option<&LinePlace>,
    limit: u32,
) -> Result<Vec<CertificateLine>, StoreFault> {
    let wanted = |record: &CertificateRecord| record.not_after > live_at && of.holds(record);
    let mut lines: Vec<CertificateLine> = all.into_iter().filter(wanted).map(CertificateLine::of).collect();
    lines.retain(|line| after.is_none_or(|after| line.place() > *after));
    lines.sort_by_key(CertificateLine::place);
    lines.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(lines)
}

pub(super) fn count(lines: &[CertificateLine]) -> Result<(u64, u64), StoreFault> {
    let subjects: BTreeSet<&str> = lines.iter().map(|line| line.subject.as_str()).collect();
    Ok((lines.len() as u64, subjects.len() as u64))
}

pub(super) fn since(mut all: Vec<RevokedEntry>, since: UnixMillis) -> Result<RevokedSince, StoreFault> {
    let total = all.len() as u64;
    all.retain(|entry| entry.at >= since);
    Ok(RevokedSince { entries: all, total })
}
