//! A long list made by us, against one encoder that writes it in a single pass and checks nothing.

use std::hint::black_box;
use std::time::Instant;

use super::Plan;
use super::bulk::serial;
use crate::bench::figures::Spread;
use crate::bench::stop::Stop;
use crate::kernel::credential::crl_build::{self, ListPlan, Scope};
use crate::kernel::sign::Algorithm;
use crate::kernel::types::Serial;
use crate::ops::clock;
use crate::ops::failure::Failure;

pub(super) struct Lists {
    pub(super) next_ms: Spread,
    pub(super) all_ms: Spread,
    pub(super) raw_ms: Spread,
    pub(super) ratio: Spread,
}

pub(super) fn measure(plan: &Plan, stop: &Stop) -> Result<Lists, Failure> {
    let serials: Vec<Serial> = (0..plan.entries).map(serial).collect::<Result<_, _>>()?;
    let now = clock::now();
    let algorithm = Algorithm::P256.signature_identifier().unwrap_or_default();
    let head = ListPlan {
        issuer: &[0x30, 0],
        identifier: &[7; 20],
        algorithm,
        number: 1,
        this_update: now,
        next_update: now.plus_ms(86_400_000),
        place: "http://pki.countersign.example/crl/00.crl",
        scope: Scope::EndEntities,
    };
    let millis = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
    let (mut next_ms, mut all_ms, mut raw_ms, mut ratios) = (vec![], vec![], vec![], vec![]);
    for _ in 0..plan.rounds {
        stop.check()?;
        let start = Instant::now();
        black_box(raw(&serials));
        let bare = millis(start);
        let start = Instant::now();
        let entries: Vec<Vec<u8>> = serials.iter().map(|serial| crl_build::entry(serial, now, Some(4))).collect();
        black_box(crl_build::list(&head, entries.iter().map(Vec::as_slice)));
        let all = millis(start);
        let start = Instant::now();
        black_box(crl_build::list(&head, entries.iter().map(Vec::as_slice)));
        next_ms.push(millis(start));
        raw_ms.push(bare);
        all_ms.push(all);
        ratios.push(all / bare);
    }
    let of = Spread::of;
    Ok(Lists { next_ms: of(next_ms), all_ms: of(all_ms), raw_ms: of(raw_ms), ratio: of(ratios) })
}

/// The entries alone, with a general DER writer.
fn raw(serials: &[Serial]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence_of(|list| {
            for serial in serials {
                list.next().write_sequence(|entry| {
                    entry.next().write_bigint_bytes(serial.as_bytes(), true);
                    entry
                        .next()
                        .write_tagged_implicit(yasna::Tag::context(23), |time| time.write_bytes(b"261121120000Z"));
                    entry.next().write_sequence(|extensions| {
                        extensions.next().write_sequence(|reason| {
                            reason.next().write_oid(&yasna::models::ObjectIdentifier::from_slice(&[2, 5, 29, 21]));
                            reason.next().write_bytes(&[10, 1, 4]);
                        });
                    });
                });
            }
        });
    })
}
