//! Composes the signed part of a revocation list (RFC 5280, 5.1) from entries that are encoded already.
//!
//! A list of 100,000 entries is made anew for each further one: what was encoded once is only copied.

use super::der;
use super::oid;
use crate::kernel::types::{Serial, UnixMillis};

/// Which certificates a list is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All end entities': an issuing CA's.
    EndEntities,
    /// All CAs': a root's.
    Authorities,
}

/// Everything in a list but its entries.
#[derive(Clone, Copy, Debug)]
pub struct ListPlan<'a> {
    /// The issuer's name, DER.
    pub issuer: &'a [u8],
    /// The issuer's subject key identifier.
    pub identifier: &'a [u8],
    /// `AlgorithmIdentifier` of the signature, DER.
    pub algorithm: &'a [u8],
    pub number: u64,
    pub this_update: UnixMillis,
    pub next_update: UnixMillis,
    /// The address that the certificates name as their list's.
    pub place: &'a str,
    pub scope: Scope,
}

/// One `revokedCertificates` entry, DER. A list may have to be written with a hundred thousand of them at once: each is
/// one piece, without pieces of its own.
pub fn entry(serial: &Serial, at: UnixMillis, reason: Option<u8>) -> Vec<u8> {
    let serial = der::unsigned_integer(serial.as_bytes());
    let extensions = reason.map(reason_extensions);
    let extensions = extensions.as_ref().map(<[u8; 14]>::as_slice).unwrap_or_default();
    // At most 22, 17 and 14 bytes: one byte has their length.
    let mut entry = Vec::with_capacity(2 + serial.len() + TIME_BYTES_MAX + extensions.len());
    entry.extend_from_slice(&[der::SEQUENCE, 0]);
    entry.extend_from_slice(&serial);
    push_time(&mut entry, at);
    entry.extend_from_slice(extensions);
    entry[1] = u8::try_from(entry.len() - 2).expect("at most 53 bytes");
    entry
}

/// `crlEntryExtensions` with the one extension `reasonCode` (RFC 5280, 5.3.1).
fn reason_extensions(code: u8) -> [u8; 14] {
    let [first, second, third] = *oid::CRL_REASON else { unreachable!("the identifier has three bytes: 2.5.29.21") };
    let (sequence, oid, octets, enumerated) = (der::SEQUENCE, der::OID, der::OCTET_STRING, der::ENUMERATED);
    [sequence, 12, sequence, 10, oid, 3, first, second, third, octets, 3, enumerated, 1, code]
}

/// TBSCertList, DER; the entries in the order in which they come.
pub fn list<'e>(plan: &ListPlan<'_>, entries: impl Iterator<Item = &'e [u8]> + Clone) -> Vec<u8> {
    let mut head = der::element(der::INTEGER, &[1]);
    head.extend_from_slice(plan.algorithm);
    head.extend_from_slice(plan.issuer);
    head.extend(time(plan.this_update));
    head.extend(time(plan.next_update));

    let authority = der::sequence(&[&der::element(der::context(0), plan.identifier)]);
    let name = der::element(der::context(6), plan.place.as_bytes());
    let place = der::element(der::context_constructed(0), &der::element(der::context_constructed(0), &name));
    let scope = match plan.scope {
        Scope::EndEntities => der::element(der::context(1), &[0xff]),
        Scope::Authorities => der::element(der::context(2), &[0xff]),
    };
    let extensions = der::sequence(&[
        &extension(oid::AUTHORITY_KEY_IDENTIFIER, Criticality::No, &authority),
        &extension(oid::CRL_NUMBER, Criticality::No, &der::unsigned_integer(&plan.number.to_be_bytes())),
        &extension(oid::ISSUING_DISTRIBUTION_POINT, Criticality::Yes, &der::sequence(&[&place, &scope])),
    ]);
    let tail = der::element(der::context_constructed(0), &extensions);

    let entries_bytes: usize = entries.clone().map(<[u8]>::len).sum();
    // Nothing revoked: the list is absent, not empty.
    let entries_head = if entries_bytes == 0 { vec![] } else { der::head(der::SEQUENCE, entries_bytes) };
    let content_bytes = head.len() + entries_head.len() + entries_bytes + tail.len();
    let mut whole = der::head(der::SEQUENCE, content_bytes);
    whole.reserve_exact(content_bytes);
    whole.extend(head);
    whole.extend(entries_head);
    for entry in entries {
        whole.extend_from_slice(entry);
    }
    whole.extend(tail);
    whole
}

#[derive(Clone, Copy)]
pub(super) enum Criticality {
    Yes,
    No,
}

pub(super) fn extension(oid: &[u8], criticality: Criticality, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = match criticality {
        Criticality::Yes => &[der::BOOLEAN, 1, 0xff],
        Criticality::No => &[],
    };
    der::sequence(&[&der::element(der::OID, oid), critical, &der::element(der::OCTET_STRING, value)])
}

/// UTCTime before 2050, GeneralizedTime from then on (RFC 5280, 4.1.2.5).
fn time(at: UnixMillis) -> Vec<u8> {
    let mut time = Vec::with_capacity(TIME_BYTES_MAX);
    push_time(&mut time, at);
    time
}

const TIME_BYTES_MAX: usize = 17;

fn push_time(to: &mut Vec<u8>, at: UnixMillis) {
    let at = moment(at);
    let digits = digits(at);
    if (1950..2050).contains(&at.year()) {
        to.extend_from_slice(&[der::UTC_TIME, 13]);
        to.extend_from_slice(&digits[2..]);
    } else {
        to.extend_from_slice(&[der::GENERALIZED_TIME, 15]);
        to.extend_from_slice(&digits);
    }
}

/// GeneralizedTime in whole seconds, as OCSP has it everywhere (RFC 6960, 4.2.2.1).
pub(super) fn generalized_time(at: UnixMillis) -> Vec<u8> {
    der::element(der::GENERALIZED_TIME, &digits(moment(at)))
}

fn moment(at: UnixMillis) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at.seconds()).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

/// `YYYYMMDDhhmmssZ`
fn digits(at: time::OffsetDateTime) -> [u8; 15] {
    let year = at.year().clamp(0, 9999);
    let two = |value: u8| [b'0' + value / 10, b'0' + value % 10];
    let century = u8::try_from(year / 100).expect("at most 99");
    let of_century = u8::try_from(year % 100).expect("at most 99");
    let mut digits = [b'Z'; 15];
    let parts = [century, of_century, at.month().into(), at.day(), at.hour(), at.minute(), at.second()];
    for (place, part) in digits.chunks_exact_mut(2).zip(parts) {
        place.copy_from_slice(&two(part));
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::credential::crl;
    use crate::kernel::credential::lint::lint_tbs_crl;
    use crate::kernel::credential::profile::key_identifier;
    use crate::kernel::credential::testkit::{HOUR_MS, NOW, P256_SIGNATURE, Party};

    fn signed(party: &Party, entries: &[Vec<u8>], scope: Scope) -> Vec<u8> {
        // An issuing CA's list is about end entities, a root's about CAs.
        let (issuer, key) = match scope {
            Scope::EndEntities => (&party.issuing_name, &party.issuing_key),
            Scope::Authorities => (&party.root_name, &party.root_key),
        };
        let identifier = key_identifier(key.id());
        let plan = ListPlan {
            issuer,
            identifier: &identifier,
            algorithm: P256_SIGNATURE,
            number: 300,
            this_update: NOW,
            next_update: NOW.plus_ms(HOUR_MS),
            place: "http://pki.countersign.example/crl/00.crl",
            scope,
        };
        let tbs = list(&plan, entries.iter().map(Vec::as_slice));
        lint_tbs_crl(&tbs).unwrap();
        der::sequence(&[&tbs, P256_SIGNATURE, &der::bit_string(&key.sign(&tbs))])
    }

    #[test]
    fn what_is_composed_is_accepted_and_names_every_serial_number() {
        let party = Party::new("secco");
        let serial = |bytes: &[u8]| Serial::from_bytes(bytes).unwrap();
        let serials = [serial(&[1; 8]), serial(&[0x80; 9]), serial(&[0x7f; 20])];
        let entries: Vec<Vec<u8>> =
            serials.iter().zip([None, Some(1), Some(10)]).map(|(serial, reason)| entry(serial, NOW, reason)).collect();
        for (scope, issuer) in [(Scope::EndEntities, &party.issuing), (Scope::Authorities, &party.root)] {
            let verified = crl::verify(&signed(&party, &entries, scope), issuer, NOW).unwrap();
            assert_eq!((verified.number(), verified.this_update()), (300, NOW));
            assert!(verified.serials().iter().eq(serials.iter().collect::<std::collections::BTreeSet<_>>()));
            assert!(crl::verify(&signed(&party, &[], scope), issuer, NOW).unwrap().serials().is_empty());
        }
    }

    #[test]
    fn an_entry_is_what_its_parts_make_together() {
        for (serial, at, reason) in [(&[1, 2][..], NOW, Some(4)), (&[0x80; 20], UnixMillis(2_524_608_000_000), None)] {
            let serial = Serial::from_bytes(serial).unwrap();
            let parts = reason.map(|code| {
                let code = der::element(der::ENUMERATED, &[code]);
                der::sequence(&[&extension(oid::CRL_REASON, Criticality::No, &code)])
            });
            let number = der::unsigned_integer(serial.as_bytes());
            let expected = der::sequence(&[&number, &time(at), &parts.unwrap_or_default()]);
            assert_eq!(entry(&serial, at, reason), expected);
        }
    }

    #[test]
    fn times_change_their_form_in_2050() {
        assert_eq!(time(UnixMillis(2_524_607_999_000)), der::element(der::UTC_TIME, b"491231235959Z"));
        assert_eq!(time(UnixMillis(2_524_608_000_000)), der::element(der::GENERALIZED_TIME, b"20500101000000Z"));
    }
}
