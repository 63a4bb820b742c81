//! A bank that has issued many certificates: how long it takes to start, and what one more costs.

use std::time::Instant;

use serde::Serialize;

use super::{Plan, pairs};
use crate::bench::figures::Spread;
use crate::bench::served::{Served, failed, operator, start_s};
use crate::bench::site::Site;
use crate::bench::stop::Stop;
use crate::bench::synthetic::host_of;
use crate::kernel::command::{Act, Actor, CertificateRecord, Command};
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::ocsp;
use crate::kernel::types::{Serial, Sha256, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::store::CertificatesOf;

/// Certificates that are handed over at once.
const MADE_AT_ONCE: u32 = 256;
/// Between two lines of progress.
const TOLD_EVERY: u32 = 20_000;

/// A store with many certificates in it.
#[derive(Clone, Debug, Serialize)]
pub struct FullStore {
    pub certificates: u32,
    /// Seconds from the start of the program to its line, with few certificates and with all.
    pub start_empty_s: Spread,
    pub start_s: Spread,
    pub start_ratio: f64,
    /// Milliseconds of one each, with all of them there.
    pub issuance_ms: Spread,
    pub ocsp_ms: Spread,
    pub list_ms: Spread,
}

/// Several starts, in seconds.
pub(super) fn start(plan: &Plan, state: &StateDir, stop: &Stop) -> Result<Spread, Failure> {
    let mut all = vec![];
    for _ in 0..plan.rounds {
        stop.check()?;
        all.push(start_s(&plan.program, state)?);
    }
    Ok(Spread::of(all))
}

pub(super) fn measure(
    plan: &Plan,
    site: Site,
    start_empty_s: Spread,
    stop: &Stop,
    tell: &dyn Fn(&str),
) -> Result<FullStore, Failure> {
    tell(&format!("{} certificates into the bank's store", plan.certificates));
    fill(plan, &site.bank, stop, tell)?;
    site.bank.await_log()?;
    let (mut issuance_ms, mut ocsp_ms, mut list_ms) = (vec![], vec![], vec![]);
    let (host, _) = host_of(&site.host)?;
    let alone = Plan { callers: 1, pairs: 1, ..plan.clone() };
    for round in 0..plan.rounds {
        let requests = pairs::requests(&alone, &host, stop, &format!("late{round}"))?;
        let endorsed = pairs::endorsed(&alone, &site, stop, &requests)?;
        let requests = pairs::endorsed_requests(&alone, &host, stop, &endorsed.all)?;
        issuance_ms.push(pairs::issued(&alone, &site, stop, &requests)?.took.as_secs_f64() * 1e3);
        ocsp_ms.push(answer_ms(&site.bank, round)?);
        let begun = Instant::now();
        let list = site.bank.authority.cert_list(&operator("olga"))?;
        list_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        if list["items"].as_array().is_none_or(|items| items.len() < plan.certificates as usize) {
            return Err(failed(&"the list does not have them all"));
        }
    }
    let state = site.bank.state.clone();
    // What is stopped here starts there.
    drop(host);
    let Site { secco, bank, host, directory } = site;
    drop((secco, bank, host));
    tell("starting with them");
    let start_s = start(plan, &state, stop)?;
    drop(directory);
    Ok(FullStore {
        certificates: plan.certificates,
        start_empty_s,
        start_s,
        start_ratio: start_s.median / start_empty_s.median,
        issuance_ms: Spread::of(issuance_ms),
        ocsp_ms: Spread::of(ocsp_ms),
        list_ms: Spread::of(list_ms),
    })
}

/// Puts certificates into the store as issuances do: one of its own, as long and as deep, with another number, key and
/// name each.
fn fill(plan: &Plan, bank: &Served, stop: &Stop, tell: &dyn Fn(&str)) -> Result<(), Failure> {
    let issued = bank.store.certificates_of(&CertificatesOf::Agents, clock::now())?;
    let model = issued.into_iter().find(|record| record.der.is_some()).ok_or_else(|| failed(&"nothing was issued"))?;
    let mut number = 0;
    while number < plan.certificates {
        stop.check()?;
        let portion = number..(number + MADE_AT_ONCE).min(plan.certificates);
        number = portion.end;
        let mut commands = vec![];
        for number in portion {
            let record = another(&model, number)?;
            let (id, der) = (record.id.clone(), record.der.clone().unwrap_or_default());
            let journal = Act::JournalCertificate { record: CertificateRecord { der: None, ..record } };
            for act in [journal, Act::ReleaseCertificate { id, der }] {
                let actor = Actor::System { component: "bench".into() };
                commands.push(Command { stamp: clock::stamp(clock::fresh_request_id()), actor, act });
            }
        }
        for decision in bank.store.apply(commands)? {
            decision.outcome.map_err(|refusal| failed(&refusal))?;
        }
        if number % TOLD_EVERY < MADE_AT_ONCE {
            tell(&format!("{number} of {}", plan.certificates));
        }
    }
    Ok(())
}

/// The model with another serial number, key and name in its bytes.
fn another(model: &CertificateRecord, number: u32) -> Result<CertificateRecord, Failure> {
    let hash = Sha256::of(&[b"full", &number.to_be_bytes()]);
    let der = model.der.as_deref().unwrap_or_default();
    let certificate = Certificate::read(der).map_err(|error| failed(&error))?;
    let spki = certificate.tbs.spki;
    let tail = spki.len().saturating_sub(hash.0.len());
    let new_spki = [&spki[..tail], &hash.0].concat();
    let old_serial = certificate.tbs.serial;
    let new_serial = [&[0x41][..], &hash.0[1..old_serial.len()]].concat();
    let name = certificate.tbs.common_name().unwrap_or_default().to_owned();
    let new_name = format!("{:0>width$}", format!("z{number}"), width = name.len()).replace('0', "z");
    let varied = |bytes: &[u8]| {
        let bytes = replaced(bytes, spki, &new_spki);
        let bytes = replaced(&bytes, old_serial, &new_serial);
        if new_name.len() == name.len() { replaced(&bytes, name.as_bytes(), new_name.as_bytes()) } else { bytes }
    };
    let (tbs, der) = (varied(&model.tbs), varied(der));
    Ok(CertificateRecord {
        id: clock::fresh_id("crt_"),
        subject: format!("spiffe://countersign.example/agent/purchaser/full-{number}"),
        serial: Serial::from_bytes(&new_serial).map_err(|error| failed(&error))?,
        key: Sha256::of(&[&new_spki]),
        not_after: UnixMillis(model.not_after.0),
        tbs,
        der: Some(der),
        ..model.clone()
    })
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    let mut place = 0;
    while let Some(found) = all[place..].windows(from.len()).position(|window| window == from) {
        place += found;
        all.splice(place..place + from.len(), to.iter().copied());
        place += to.len();
    }
    all
}

/// One answer that has to be signed, about a certificate that nobody has asked about.
fn answer_ms(bank: &Served, round: u32) -> Result<f64, Failure> {
    let authorities = bank.store.authorities()?;
    let issuing = authorities.iter().rfind(|record| record.profile == "issuing").and_then(|record| record.der.as_ref());
    let issuing = issuing.ok_or_else(|| failed(&"there is no issuing CA"))?;
    let issuing = Certificate::read(issuing).map_err(|error| failed(&error))?;
    let issuer = issuing.tbs.subject_key_identifier().map(hex::encode).unwrap_or_default();
    let lines = bank.store.certificate_lines(&CertificatesOf::Issuer(issuer.clone()), clock::now(), None, round + 1)?;
    let line = lines.last().ok_or_else(|| failed(&"there is nothing to ask about"))?;
    let id = ocsp::cert_id(issuing.tbs.subject, issuing.tbs.spki, &line.serial);
    let question = ocsp::request(&[id.ok_or_else(|| failed(&"the question cannot be written"))?]);
    bank.services.responder.forget_signers();
    let begun = Instant::now();
    let answer = bank.services.responder.answer(&issuer, &question);
    let took = begun.elapsed().as_secs_f64() * 1e3;
    if answer.validity.is_some() { Ok(took) } else { Err(failed(&"the question was not answered")) }
}

impl FullStore {
    pub(super) fn text(&self) -> String {
        let one = |what: &str, spread: &Spread, unit: &str| {
            format!("{what:<52} {:>10.2} {unit} ({:.2} to {:.2})\n", spread.median, spread.min, spread.max)
        };
        [
            one("start of a bank that has issued nothing", &self.start_empty_s, "s"),
            one(&format!("start with {} certificates", self.certificates), &self.start_s, "s"),
            one("one issuance with them", &self.issuance_ms, "ms"),
            one("one OCSP answer with them, signers looked up", &self.ocsp_ms, "ms"),
            one("the list of them", &self.list_ms, "ms"),
        ]
        .concat()
    }
}
