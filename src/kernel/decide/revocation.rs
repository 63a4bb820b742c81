//! Revocations and freezes: marks that every later decision reads.
//!
//! A revocation stands for ever; a freeze until two people lift it. Both are marks only: what a revocation voids is
//! void from the commit on, the sweeper returns the holds.

use super::{Book, Change, Mark, Marking, Orders, Ruled};
use crate::kernel::command::{Actor, CertificateRecord, Effect, RevocationTarget, Thaw, Whom};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{SpiffeId, UnixMillis};

/// Serial numbers that one revocation may name.
pub const SERIALS_MAX: usize = 4_096;

/// Marks what the target names and is not marked yet.
pub(super) fn revoke(book: &dyn Book, target: &RevocationTarget, reason: &str, at: UnixMillis) -> Ruled<Orders> {
    let mut marks = match target {
        RevocationTarget::Agent(agent) => {
            let certificates = book.certificates_of_subject(&agent.to_string())?;
            if certificates.is_empty() && !book.agent_is_known(agent)? {
                return Err(Refusal::UnknownAgent.into());
            }
            marks_of_agent(agent, certificates)
        }
        RevocationTarget::Key(key) => {
            let certificates = book.certificates_of_key(key)?;
            certificates.into_iter().map(mark_of).chain([Mark::Key(*key)]).collect()
        }
        RevocationTarget::Certificate { issuer, serial } => {
            vec![book.certificate_of_serial(issuer, serial)?.map(mark_of).ok_or(Refusal::UnknownAgent)?]
        }
        RevocationTarget::Certificates { issuer, serials } => {
            let mut serials = serials.clone();
            serials.sort();
            serials.dedup();
            let known = usize::try_from(book.issued(issuer, &serials)?).unwrap_or(usize::MAX);
            if serials.len() > SERIALS_MAX || known != serials.len() {
                return Err(Refusal::UnknownAgent.into());
            }
            serials.into_iter().map(|serial| Mark::Certificate { issuer: issuer.clone(), serial }).collect()
        }
        RevocationTarget::Issuer { issuer, certificates } => {
            let mut marks = vec![Mark::Issuer(issuer.clone())];
            for (root, serial) in certificates {
                marks.push(book.certificate_of_serial(root, serial)?.map(mark_of).ok_or(Refusal::UnknownAgent)?);
            }
            marks
        }
        RevocationTarget::Everyone => vec![Mark::Everyone],
    };
    marks.sort();
    marks.dedup();

    let texts: Vec<String> = marks.iter().map(Mark::text).collect();
    let standing = book.standing(&texts)?;
    marks.retain(|mark| !standing.contains(&mark.text()));
    let fresh: Vec<String> = marks.iter().map(Mark::text).collect();
    let authorizations = book.open_under(&fresh)?;
    let is_certificate = |mark: &&Mark| matches!(mark, Mark::Certificate { .. });
    let certificates = u32::try_from(marks.iter().filter(is_certificate).count()).unwrap_or(u32::MAX);
    let effect = Effect::Revoked { certificates, authorizations, already: marks.is_empty() };
    Ok((effect, marks.into_iter().map(|mark| order(mark, at, reason)).collect()))
}

/// The next agents that a revocation of everyone stands for get marks of their own, of the same time and reason. Nobody
/// comes after: no agent gets a certificate meanwhile.
pub(super) fn spread(book: &dyn Book, after: Option<&SpiffeId>, limit: u32) -> Ruled<Orders> {
    let Some(Marking { at, reason, .. }) = book.marking(&Mark::Everyone)? else {
        return Ok((Effect::Spread { agents: 0, last: None }, vec![]));
    };
    let agents = book.agents_unmarked(after, limit)?;
    let mut changes = vec![];
    for agent in &agents {
        let marks = marks_of_agent(agent, book.certificates_of_subject(&agent.to_string())?);
        changes.extend(marks.into_iter().map(|mark| order(mark, at, &reason)));
    }
    // Whatever the caller says where it was: the one row goes when everybody has a row.
    if agents.is_empty() && book.agents_unmarked(None, 1)?.is_empty() {
        changes.push(Change::Lift(Mark::Everyone));
    }
    let count = u32::try_from(agents.len()).unwrap_or(u32::MAX);
    Ok((Effect::Spread { agents: count, last: agents.last().cloned() }, changes))
}

/// One person is enough.
pub(super) fn freeze(book: &dyn Book, whom: &Whom, reason: &str, at: UnixMillis) -> Ruled<Orders> {
    if let Whom::Agent(agent) = whom
        && book.certificates_of_subject(&agent.to_string())?.is_empty()
        && !book.agent_is_known(agent)?
    {
        return Err(Refusal::UnknownAgent.into());
    }
    if book.marking(&Mark::Frozen(whom.clone()))?.is_some() {
        return Ok((Effect::Frozen { already: true }, vec![]));
    }
    Ok((Effect::Frozen { already: false }, vec![order(Mark::Frozen(whom.clone()), at, reason)]))
}

/// The first call is kept, one by another person lifts the freeze. What a person said about an earlier freeze does not
/// count for this one.
pub(super) fn unfreeze(book: &dyn Book, whom: &Whom, actor: &Actor) -> Ruled<Orders> {
    let Actor::Operator(operator) = actor else {
        return Err(Refusal::OperatorNotPermitted.into());
    };
    let person = operator.name.to_string();
    let freeze = book.marking(&Mark::Frozen(whom.clone()))?.ok_or(Refusal::NotFrozen)?;
    match freeze.thaw_asked_by {
        None => {
            let asked = Change::AskThaw { whom: whom.clone(), by: person };
            Ok((Effect::Unfrozen { by: Thaw::OneOfTwo }, vec![asked]))
        }
        Some(first) if first == person => Err(Refusal::MakerIsChecker.into()),
        Some(_) => Ok((Effect::Unfrozen { by: Thaw::Both }, vec![Change::Lift(Mark::Frozen(whom.clone()))])),
    }
}

/// The agent, its keys and its certificates.
fn marks_of_agent(agent: &SpiffeId, certificates: Vec<CertificateRecord>) -> Vec<Mark> {
    let of_certificate = |certificate: CertificateRecord| [Mark::Key(certificate.key), mark_of(certificate)];
    let mut marks: Vec<Mark> = certificates.into_iter().flat_map(of_certificate).collect();
    marks.push(Mark::Agent(agent.clone()));
    marks.sort();
    marks.dedup();
    marks
}

fn mark_of(certificate: CertificateRecord) -> Mark {
    Mark::Certificate { issuer: certificate.issuer, serial: certificate.serial }
}

fn order(mark: Mark, at: UnixMillis, reason: &str) -> Change {
    Change::Revoke { mark, at, reason: reason.to_owned() }
}
