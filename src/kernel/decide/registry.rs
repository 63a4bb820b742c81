//! Certificates in two phases, CRLs, and signatures over batches.
//!
//! Agents may do none of this. Nothing here un-revokes: an imported CRL adds to what is revoked.

use super::{Book, Change, Mark, Orders, Ruled, Signed, freezes_of, revocation};
use crate::kernel::command::{Act, Actor, CertificateRecord, Command, Effect};
use crate::kernel::refusal::Refusal;
use crate::kernel::status::CrlStatus;
use crate::kernel::types::{SpiffeId, UnixMillis};

/// Acts of the certificate authorities and of the batch signer.
pub(super) fn act(book: &dyn Book, command: &Command) -> Ruled<Orders> {
    if let Actor::Agent(_) = command.actor {
        return Err(Refusal::OperatorNotPermitted.into());
    }
    match &command.act {
        Act::JournalCertificate { record } => journal(book, record, command.stamp.wall),
        Act::ReleaseCertificate { id, der } => release(book, id, der),
        Act::Revoke { target, reason } => revocation::revoke(book, target, reason, command.stamp.wall),
        Act::SpreadRevocation { after, limit } => revocation::spread(book, after.as_ref(), *limit),
        Act::Freeze { whom, reason } => revocation::freeze(book, whom, reason, command.stamp.wall),
        Act::Unfreeze { whom, .. } => revocation::unfreeze(book, whom, &command.actor),
        Act::ImportCrl { issuer, number, this_update, next_update, serials } => {
            let status = CrlStatus { number: *number, this_update: *this_update, next_update: *next_update };
            match book.crl(issuer)? {
                Some(there) if there == status => return Ok((Effect::Done { changed: false }, vec![])),
                Some(there) if there.number >= status.number => return Err(Refusal::StaleCrl.into()),
                Some(_) | None => {}
            }
            let mark = |serial: &crate::kernel::types::Serial| Change::Revoke {
                mark: Mark::Imported { issuer: issuer.clone(), serial: serial.clone() },
                at: command.stamp.wall,
                reason: "named by the issuer's CRL".into(),
            };
            let mut changes: Vec<Change> = serials.iter().map(mark).collect();
            changes.push(Change::PutCrl { issuer: issuer.clone(), status });
            Ok((Effect::Done { changed: true }, changes))
        }
        Act::NextCrlNumber { issuer } => {
            let number = book.crl_number(issuer)?.checked_add(1).ok_or(Refusal::AmountTooLarge)?;
            Ok((Effect::CrlNumber(number), vec![Change::PutCrlNumber { issuer: issuer.clone(), number }]))
        }
        Act::SignBatch { batch, signature, key } => match book.batch_is_signed(*batch)? {
            None => Err(Refusal::UnknownTransaction.into()),
            Some(Signed::Yes) => Ok((Effect::Done { changed: false }, vec![])),
            Some(Signed::NotYet) => {
                let change = Change::SignBatch { batch: *batch, signature: signature.clone(), key: *key };
                Ok((Effect::Done { changed: true }, vec![change]))
            }
        },
        Act::Tool { .. }
        | Act::OpenAccount(_)
        | Act::SetAccountStatus { .. }
        | Act::Transfer { .. }
        | Act::ReverseTransaction { .. }
        | Act::ApplyPolicy { .. }
        | Act::SetBreaker { .. }
        | Act::TakeCase { .. }
        | Act::ResolveCase { .. }
        | Act::QueueManual { .. }
        | Act::CoreAnswered { .. }
        | Act::IncomingPayment { .. }
        | Act::AddMerchant { .. }
        | Act::AddProduct { .. }
        | Act::AddGrant { .. }
        | Act::RevokeGrant { .. }
        | Act::AddMandate { .. }
        | Act::RevokeMandate { .. }
        | Act::DecideApproval { .. }
        | Act::Sweep { .. }
        | Act::Witness(_)
        | Act::Vault(_)
        | Act::AcceptLog { .. }
        | Act::Subject { .. }
        | Act::LapseKeys { .. }
        | Act::SignExternal(_)
        | Act::KeepSignatures { .. }
        | Act::Record { .. } => Err(Refusal::OperatorNotPermitted.into()),
    }
}

/// Phase one. A repeat of the same bytes answers what is there; nothing is journalled for what is revoked, and no agent's
/// name for a second key: whoever looked before, at whichever daemon, this is where it counts.
fn journal(book: &dyn Book, record: &CertificateRecord, at: UnixMillis) -> Ruled<Orders> {
    if let Some(there) = book.certificate(&record.id)? {
        let same = there.tbs == record.tbs && there.issuer == record.issuer && there.serial == record.serial;
        return if same { Ok((Effect::Certificate(there), vec![])) } else { Err(Refusal::AlreadyExists.into()) };
    }
    if book.certificate_of_serial(&record.issuer, &record.serial)?.is_some() {
        return Err(Refusal::SerialTaken.into());
    }
    let mut marks = vec![Mark::Key(record.key).text(), Mark::Issuer(record.issuer.clone()).text()];
    let agent = record.subject.parse::<SpiffeId>().ok();
    if let Some(agent) = &agent {
        marks.extend([Mark::Agent(agent.clone()).text(), Mark::Everyone.text()]);
    }
    if book.any_marked(&marks)? {
        return Err(Refusal::AgentRevoked.into());
    }
    if let Some(agent) = &agent
        && book.any_marked(&freezes_of(agent))?
    {
        return Err(Refusal::AgentFrozen.into());
    }
    if agent.is_some() {
        let is_rival = |other: &CertificateRecord| {
            other.profile == record.profile && other.key != record.key && other.not_after > at
        };
        for other in book.certificates_of_subject(&record.subject)?.into_iter().filter(is_rival) {
            let mark = Mark::Certificate { issuer: other.issuer, serial: other.serial };
            if !book.any_marked(&[Mark::Key(other.key).text(), mark.text()])? {
                return Err(Refusal::AlreadyExists.into());
            }
        }
    }
    let record = CertificateRecord { der: None, ..record.clone() };
    Ok((Effect::Certificate(record.clone()), vec![Change::JournalCertificate(record)]))
}

/// Phase two. The first signature stored is the only one ever released.
fn release(book: &dyn Book, id: &str, der: &[u8]) -> Ruled<Orders> {
    let there = book.certificate(id)?.ok_or(Refusal::UnknownAgent)?;
    if there.der.is_some() {
        return Ok((Effect::Certificate(there), vec![]));
    }
    let mark = Mark::Certificate { issuer: there.issuer.clone(), serial: there.serial.clone() };
    if book.any_marked(&[mark.text(), Mark::Key(there.key).text(), Mark::Issuer(there.issuer.clone()).text()])? {
        return Err(Refusal::AgentRevoked.into());
    }
    let released = CertificateRecord { der: Some(der.to_vec()), ..there };
    Ok((Effect::Certificate(released), vec![Change::ReleaseCertificate { id: id.to_owned(), der: der.to_vec() }]))
}
