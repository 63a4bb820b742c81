//! Three parties in memory: a store of the CA's acts, a token that lints as the worker does and can be made to
//! fail before or after it has signed.

mod approvals;
mod desk;
mod mandates;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::offline::OfflineJudge;
use super::settings::{PartyKind, PkiSettings};
use super::{Acted, Authority, AuthoritySetup, Named, RevokeMode, RevokeRequest};
use crate::hsm::software::SoftwareToken;
use crate::hsm::{HsmFault, Op, Reply, Token};
use crate::kernel::command::{
    Act, Actor, CertificateRecord, Command, Decision, Effect, OperatorPrincipal, Posted, RevocationTarget,
};
use crate::kernel::credential::lint;
use crate::kernel::credential::pair::{PeerChains, accept};
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::credential::profile::Profile;
use crate::kernel::decide::{CoreRefusal, Counter, Grant, ManualCase, OutboxRow};
use crate::kernel::ledger::{Account, Transaction};
use crate::kernel::refusal::Refusal;
use crate::kernel::sign::{Algorithm, Purpose, SignInput};
use crate::kernel::status::{CrlStatus, StatusSnapshot};
use crate::kernel::types::{ApprovalId, CaseId, Day, Sha256, SpiffeId, TransactionId, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::store::{
    ApprovalView, BatchRecord, CasePlace, CertificatesOf, CheckProgress, CheckpointRecord, LeafRecord, LedgerCheck,
    Listing, RevokedEntry, SequenceStep, Statement, StatementQuery, Store, StoreFault, TransactionQuery,
    TransactionRecord,
};

mod catalogue;
mod peers;
mod publication;
mod rollover;

#[derive(Default)]
struct Memory {
    certificates: Vec<CertificateRecord>,
    status: StatusSnapshot,
    revoked: BTreeMap<String, Vec<RevokedEntry>>,
    numbers: BTreeMap<String, u64>,
    /// (verb or act, outcome) of every leaf.
    leaves: Vec<(String, String)>,
    /// This many releases fail before they are recorded.
    failing_releases: usize,
    /// This many serial numbers were given before.
    taken_serials: usize,
    /// Nobody learns how many certificates there are.
    counts_fail: bool,
}

/// The CA's acts and nothing else.
#[derive(Default)]
struct MemoryStore(Mutex<Memory>);

impl Memory {
    fn decide(&mut self, command: Command) -> Result<Result<Effect, Refusal>, StoreFault> {
        let effect = match command.act {
            Act::JournalCertificate { record } => {
                if self.taken_serials > 0 {
                    self.taken_serials -= 1;
                    return Ok(Err(Refusal::SerialTaken));
                }
                self.certificates.push(record.clone());
                Effect::Certificate(record)
            }
            Act::ReleaseCertificate { id, der } => {
                if self.failing_releases > 0 {
                    self.failing_releases -= 1;
                    return Err(StoreFault::NotRecorded("disk full".into()));
                }
                let record = self.certificates.iter_mut().find(|record| record.id == id).unwrap();
                record.der.get_or_insert(der);
                Effect::Certificate(record.clone())
            }
            Act::Revoke { target, reason } => {
                let mut certificates = 0;
                let hits: Vec<CertificateRecord> = self
                    .certificates
                    .iter()
                    .filter(|record| match &target {
                        RevocationTarget::Agent(agent) => record.subject == agent.to_string(),
                        RevocationTarget::Key(key) => record.key == *key,
                        RevocationTarget::Certificate { issuer, serial } => {
                            record.issuer == *issuer && record.serial == *serial
                        }
                        RevocationTarget::Certificates { .. }
                        | RevocationTarget::Issuer { .. }
                        | RevocationTarget::Everyone => false,
                    })
                    .cloned()
                    .collect();
                match target {
                    RevocationTarget::Agent(agent) => self.status.agents.extend([agent]),
                    RevocationTarget::Key(key) => self.status.keys.extend([key]),
                    RevocationTarget::Certificate { .. }
                    | RevocationTarget::Certificates { .. }
                    | RevocationTarget::Issuer { .. }
                    | RevocationTarget::Everyone => {}
                }
                for record in hits {
                    if self.status.certificates.insert((record.issuer.clone(), record.serial.clone())) {
                        certificates += 1;
                        let not_after = Some(record.not_after);
                        let (at, reason) = (command.stamp.wall, reason.clone());
                        let entry = RevokedEntry { serial: record.serial, at, reason, not_after };
                        self.revoked.entry(record.issuer).or_default().push(entry);
                    }
                }
                Effect::Revoked { certificates, authorizations: 0, already: certificates == 0 }
            }
            Act::ImportCrl { issuer, number, this_update, next_update, serials } => {
                if self.status.crls.get(&issuer).is_some_and(|old| old.number > number) {
                    return Ok(Err(Refusal::StaleCrl));
                }
                self.status.certificates.extend(serials.into_iter().map(|serial| (issuer.clone(), serial)));
                let old = self.status.crls.insert(issuer, CrlStatus { number, this_update, next_update });
                Effect::Done { changed: old.is_none_or(|old| old.number != number) }
            }
            Act::NextCrlNumber { issuer } => {
                let number = self.numbers.entry(issuer).or_default();
                *number += 1;
                Effect::CrlNumber(*number)
            }
            Act::Record { tool, decision } => {
                let outcome = decision["reason"].as_str().or(decision["outcome"].as_str()).unwrap_or("done").to_owned();
                self.leaves.push((tool, outcome));
                Effect::Done { changed: true }
            }
            _ => return Err(StoreFault::NotRecorded("not an act of the CA".into())),
        };
        Ok(Ok(effect))
    }
}

fn wish(target: &str, reason: &str, mode: RevokeMode) -> RevokeRequest {
    RevokeRequest { named: Named::Text(target.to_owned()), reason: reason.to_owned(), mode, after: None }
}

fn elsewhere<T>() -> Result<T, StoreFault> {
    Err(StoreFault::NotRecorded("only the CA's part of the store is here".into()))
}

impl Store for MemoryStore {
    fn apply(&self, commands: Vec<Command>) -> Result<Vec<Decision>, StoreFault> {
        let mut memory = self.0.lock().unwrap();
        commands
            .into_iter()
            .map(|command| memory.decide(command).map(|outcome| Decision { outcome, leaf: None }))
            .collect()
    }
    fn status(&self) -> Result<StatusSnapshot, StoreFault> {
        Ok(self.0.lock().unwrap().status.clone())
    }
    fn revoked_of(&self, issuer: &str) -> Result<Vec<RevokedEntry>, StoreFault> {
        Ok(self.0.lock().unwrap().revoked.get(issuer).cloned().unwrap_or_default())
    }
    fn certificates(&self) -> Result<Vec<CertificateRecord>, StoreFault> {
        Ok(self.0.lock().unwrap().certificates.clone())
    }
    fn certificate_count(&self, of: &CertificatesOf, live_at: UnixMillis) -> Result<(u64, u64), StoreFault> {
        if self.0.lock().unwrap().counts_fail {
            return elsewhere();
        }
        let lines = self.certificate_lines(of, live_at, None, u32::MAX)?;
        Ok((u64::try_from(lines.len()).unwrap_or(u64::MAX), 0))
    }
    fn approvals(&self, _: Option<&ApprovalId>, _: u32) -> Result<Vec<ApprovalView>, StoreFault> {
        elsewhere()
    }
    fn approval(&self, _: &ApprovalId) -> Result<Option<ApprovalView>, StoreFault> {
        elsewhere()
    }
    fn grants_of(&self, _: &SpiffeId) -> Result<Vec<Grant>, StoreFault> {
        elsewhere()
    }
    fn listing(&self, _: Listing) -> Result<Vec<Value>, StoreFault> {
        elsewhere()
    }
    fn posted(&self, _: &TransactionId) -> Result<Option<Posted>, StoreFault> {
        elsewhere()
    }
    fn order(&self, _: &TransactionId) -> Result<Option<Posted>, StoreFault> {
        elsewhere()
    }
    fn transactions(&self, _: &TransactionQuery) -> Result<Vec<TransactionRecord>, StoreFault> {
        elsewhere()
    }
    fn check(&self, _: &mut dyn FnMut(CheckProgress)) -> Result<LedgerCheck, StoreFault> {
        elsewhere()
    }
    fn case(&self, _: &CaseId) -> Result<Option<ManualCase>, StoreFault> {
        elsewhere()
    }
    fn spent(&self, _: &Counter, _: Day) -> Result<i64, StoreFault> {
        elsewhere()
    }
    fn account(&self, _: &str) -> Result<Option<Account>, StoreFault> {
        elsewhere()
    }
    fn transaction(&self, _: &TransactionId) -> Result<Option<Transaction>, StoreFault> {
        elsewhere()
    }
    fn statement(&self, _: &StatementQuery) -> Result<Option<Statement>, StoreFault> {
        elsewhere()
    }
    fn outbox(&self, _: Option<&TransactionId>, _: u32) -> Result<Vec<OutboxRow>, StoreFault> {
        elsewhere()
    }
    fn batch(&self, _: i64) -> Result<Option<BatchRecord>, StoreFault> {
        elsewhere()
    }
    fn batch_statements(&self, _: i64) -> Result<Vec<(u32, Vec<u8>)>, StoreFault> {
        elsewhere()
    }
    fn unsigned_batches(&self, _: u32) -> Result<Vec<BatchRecord>, StoreFault> {
        elsewhere()
    }
    fn leaf(&self, _: i64) -> Result<Option<LeafRecord>, StoreFault> {
        elsewhere()
    }
    fn leaf_of_transaction(&self, _: &TransactionId) -> Result<Option<LeafRecord>, StoreFault> {
        elsewhere()
    }
    fn unsequenced_after(&self, _: i64, _: u32) -> Result<Vec<LeafRecord>, StoreFault> {
        elsewhere()
    }
    fn leaves(&self, _: u64, _: u32) -> Result<Vec<LeafRecord>, StoreFault> {
        elsewhere()
    }
    fn node(&self, _: u8, _: u64) -> Result<Option<Sha256>, StoreFault> {
        elsewhere()
    }
    fn newest_checkpoint(&self) -> Result<Option<CheckpointRecord>, StoreFault> {
        elsewhere()
    }
    fn signed_checkpoint(&self) -> Result<Option<CheckpointRecord>, StoreFault> {
        elsewhere()
    }
    fn sequence(&self, _: SequenceStep) -> Result<(), StoreFault> {
        elsewhere()
    }
    fn store_signed_checkpoint(&self, _: u64, _: Vec<u8>) -> Result<(), StoreFault> {
        elsewhere()
    }
    fn cases(&self, _: Option<&CasePlace>, _: u32) -> Result<Vec<ManualCase>, StoreFault> {
        elsewhere()
    }
    fn cases_waiting(&self) -> Result<u64, StoreFault> {
        elsewhere()
    }
    fn core_refusals(&self, _: &TransactionId) -> Result<Vec<CoreRefusal>, StoreFault> {
        elsewhere()
    }
    fn forget_keys(&self, _: UnixMillis, _: u32) -> Result<u32, StoreFault> {
        elsewhere()
    }
}

/// Software keys behind the worker's lints.
#[derive(Default)]
struct LintingToken {
    inner: SoftwareToken,
    /// This many signatures fail before they are made.
    failing_signatures: AtomicUsize,
    /// The same of lists and documents.
    failing_papers: AtomicUsize,
    signed_certificates: Mutex<Vec<Vec<u8>>>,
}

impl LintingToken {
    fn fail_papers(&self) -> Result<(), HsmFault> {
        let fails = |left: usize| left.checked_sub(1);
        if self.failing_papers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_err() {
            return Ok(());
        }
        Err(HsmFault::Unavailable { name: "deadline".into(), message: "no answer".into(), maybe_signed: true })
    }
}

impl Token for LintingToken {
    fn call(&self, op: Op) -> Result<Reply, HsmFault> {
        if let Op::Sign { key, input } = &op {
            let refused = |refusal: lint::LintRefusal| HsmFault::Refused {
                name: refusal.name().into(),
                message: refusal.to_string(),
            };
            let keys = (&self.inner as &dyn Token).keys()?;
            let purpose = keys.iter().find(|info| info.id == *key).map(|info| info.purpose);
            match input {
                SignInput::Certificate { tbs } => {
                    lint::lint_tbs_certificate(purpose.unwrap(), tbs, clock::now()).map_err(refused)?;
                    let of_token = |id| keys.iter().find(|info| info.id == id).map(|info| info.purpose);
                    lint::lint_subject_key(purpose.unwrap(), tbs, |id, _| of_token(id)).map_err(refused)?;
                    if self.failing_signatures.load(Ordering::SeqCst) > 0 {
                        self.failing_signatures.fetch_sub(1, Ordering::SeqCst);
                        return Err(HsmFault::Unavailable {
                            name: "deadline".into(),
                            message: "the worker did not answer".into(),
                            maybe_signed: true,
                        });
                    }
                    self.signed_certificates.lock().unwrap().push(tbs.clone());
                }
                SignInput::Crl { tbs } => {
                    lint::lint_tbs_crl(tbs).map_err(refused)?;
                    self.fail_papers()?;
                }
                SignInput::Ocsp { data } => lint::lint_ocsp(data).map_err(refused)?,
                SignInput::CertificationRequest { info } => lint::lint_request_info(info).map_err(refused)?,
                SignInput::RelatedCertRequest { cert_id, request_time } => {
                    lint::lint_related_request(cert_id, request_time).map_err(refused)?;
                }
                SignInput::Document { .. } => self.fail_papers()?,
                SignInput::TlsCertificateVerify { .. }
                | SignInput::TreeHead { .. }
                | SignInput::Cosignature { .. }
                | SignInput::AuditExport { .. }
                | SignInput::HttpRequest { .. }
                | SignInput::Jwt { .. }
                | SignInput::Mandate { .. }
                | SignInput::External { .. }
                | SignInput::SelfTest { .. } => {}
            }
        }
        self.inner.call(op)
    }
}

struct Party {
    authority: Arc<Authority>,
    store: Arc<MemoryStore>,
    token: Arc<LintingToken>,
    directory: tempfile::TempDir,
}

fn party(name: &str, kind: PartyKind) -> Party {
    party_with(name, kind, BTreeMap::new())
}

fn party_with(name: &str, kind: PartyKind, algorithms: BTreeMap<Purpose, Algorithm>) -> Party {
    let directory = tempfile::tempdir().unwrap();
    let (store, token) = (Arc::new(MemoryStore::default()), Arc::new(LintingToken::default()));
    let authority = Authority::open(AuthoritySetup {
        party: name.parse().unwrap(),
        kind,
        state: StateDir::new(directory.path()),
        pki: PkiSettings::default(),
        algorithms,
        token: token.clone(),
        store: store.clone(),
    })
    .unwrap();
    Party { authority, store, token, directory }
}

impl Party {
    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn trusts(&self, other: &Party) -> Result<Value, Failure> {
        let name = other.authority.party();
        self.authority.trust_add(&chief(), name, &other.file("certs/root.pem"), &other.file("certs/issuing.pem"))
    }

    fn leaves(&self) -> Vec<(String, String)> {
        self.store.0.lock().unwrap().leaves.clone()
    }
}

fn operator(roles: &[&str]) -> Actor {
    Actor::Operator(OperatorPrincipal {
        name: "olga".parse().unwrap(),
        uid: 1000,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        asserted: true,
        owner: None,
    })
}

fn chief() -> Actor {
    operator(&["administrator", "officer"])
}

struct Installation {
    secco: Party,
    bank: Party,
    host: Party,
}

/// Everything up to the point at which agents can be enrolled.
fn installation() -> Installation {
    installation_with(BTreeMap::new())
}

fn installation_with(algorithms: BTreeMap<Purpose, Algorithm>) -> Installation {
    let all = Installation {
        secco: party_with("secco", PartyKind::SecurityCompany, algorithms.clone()),
        bank: party_with("bank", PartyKind::Bank, algorithms.clone()),
        host: party_with("agent", PartyKind::AgentHost, algorithms),
    };
    for party in [&all.secco, &all.bank, &all.host] {
        party.authority.init_party(&chief()).unwrap();
    }
    for (trusting, trusted) in
        [(&all.bank, &all.secco), (&all.secco, &all.bank), (&all.host, &all.bank), (&all.host, &all.secco)]
    {
        trusting.trusts(trusted).unwrap();
    }
    let host = all.host.authority.host_show(&chief()).unwrap();
    all.bank.authority.host_enrol(&chief(), &host).unwrap();
    all.secco.authority.host_enrol(&chief(), &host).unwrap();
    all.refresh_crl();
    all
}

impl Installation {
    fn refresh_crl(&self) {
        let crl = self.secco.authority.crl_export(&chief()).unwrap();
        self.bank.authority.crl_import(&chief(), crl["crl_pem"].as_str().unwrap()).unwrap();
    }

    fn request(&self, name: &str, endorsement: Option<&str>) -> Value {
        let role = "purchaser".parse().unwrap();
        self.host.authority.cert_request(&chief(), &name.parse().unwrap(), &role, endorsement).unwrap()
    }

    /// (B, S) in PEM.
    fn enrol(&self, name: &str) -> (String, String) {
        let endorsement = self.secco.authority.cert_endorse(&chief(), &self.request(name, None), None).unwrap();
        let s = endorsement["certificate_pem"].as_str().unwrap().to_owned();
        let issued = self.bank.authority.cert_issue(&chief(), &self.request(name, Some(&s)), None).unwrap();
        (issued["certificate_pem"].as_str().unwrap().to_owned(), s)
    }
}

fn der(pem: &str) -> Vec<u8> {
    pem::decode_one(Kind::Certificate, pem).unwrap()
}

fn name_of(result: Result<Value, Failure>) -> String {
    result.unwrap_err().name
}

#[test]
fn an_agent_is_enrolled_by_two_parties_and_accepted() {
    let all = installation();
    let (b, s) = all.enrol("shopper");
    let installed = all.host.authority.cert_install(&chief(), &"shopper".parse().unwrap(), &b, &s).unwrap();
    assert_eq!(installed["spiffe_id"], "spiffe://countersign.example/agent/purchaser/shopper");

    let identity = all.host.authority.agent_identity(&"shopper".parse().unwrap()).unwrap();
    let peer = PeerChains { presented: identity.chain.clone() };
    let acceptance = all.bank.authority.acceptance().unwrap();
    let status = all.bank.store.status().unwrap();
    let agent = accept(&peer, &acceptance, &status, clock::now()).unwrap();
    assert_eq!(agent.key(), identity.key.id);
    assert_eq!(all.secco.authority.acceptance().unwrap(), acceptance);

    let shown = all.host.authority.cert_show(&chief(), &"shopper".parse().unwrap()).unwrap();
    assert_eq!(shown["binding"]["matches"], true);
    assert_eq!(all.host.authority.cert_list(&chief()).unwrap()["items"].as_array().unwrap().len(), 2);
    assert!(all.bank.leaves().contains(&("cert_issue".into(), "accepted".into())));
}

#[test]
fn openssl_verifies_every_chain_and_list() {
    if std::process::Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: openssl is not installed");
        return;
    }
    let all = installation();
    let (b, s) = all.enrol("shopper");
    all.host.authority.cert_install(&chief(), &"shopper".parse().unwrap(), &b, &s).unwrap();
    let verify = |party: &Party, leaf: &std::path::Path| {
        let output = std::process::Command::new("openssl")
            .args(["verify", "-x509_strict", "-CAfile"])
            .arg(party.path("certs/root.pem"))
            .arg("-untrusted")
            .arg(party.path("certs/issuing.pem"))
            .arg(leaf)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    verify(&all.bank, &all.host.path("certs/agents/shopper/bank.pem"));
    verify(&all.secco, &all.host.path("certs/agents/shopper/endorsement.pem"));
    for role in
        ["tls-server", "tls-client", "transaction", "catalogue", "revocation-receipt", "ocsp-responder", "manifest"]
    {
        verify(&all.bank, &all.bank.path(&format!("certs/{role}.pem")));
    }
    for role in ["tls-server", "checkpoint", "catalogue", "revocation-receipt", "ocsp-responder", "witness"] {
        verify(&all.secco, &all.secco.path(&format!("certs/{role}.pem")));
    }
    let crl = all.secco.authority.crl_export(&chief()).unwrap();
    let output = std::process::Command::new("openssl")
        .args(["crl", "-noout", "-CAfile"])
        .arg(all.secco.path("certs/issuing.pem"))
        .arg("-in")
        .arg(all.secco.path(crl["file"].as_str().unwrap()))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("verify OK"), "{output:?}");
}

#[test]
fn set_up_again_changes_nothing() {
    let all = installation();
    let before = (all.bank.file("certs/root.pem"), all.bank.store.certificates().unwrap().len());
    let first = all.bank.authority.init_party(&chief()).unwrap();
    let second = all.bank.authority.init_party(&chief()).unwrap();
    assert_eq!(first, second);
    assert_eq!(before, (all.bank.file("certs/root.pem"), all.bank.store.certificates().unwrap().len()));
}

#[test]
fn the_same_request_again_answers_the_same_certificates() {
    let all = installation();
    assert_eq!(all.enrol("shopper"), all.enrol("shopper"));
}

#[test]
fn what_was_journalled_is_what_is_signed_after_every_interruption() {
    for interruption in ["before signing", "after signing"] {
        let all = installation();
        let request = all.request("shopper", None);
        let before = all.secco.token.signed_certificates.lock().unwrap().len();
        match interruption {
            "before signing" => all.secco.token.failing_signatures.store(1, Ordering::SeqCst),
            _ => all.secco.store.0.lock().unwrap().failing_releases = 1,
        }
        all.secco.authority.cert_endorse(&chief(), &request, None).unwrap_err();
        let journalled = all.secco.store.certificates().unwrap().pop().unwrap();
        assert_eq!(journalled.der, None, "{interruption}");

        all.secco.authority.cert_endorse(&chief(), &request, None).unwrap();
        let released = all.secco.store.certificates().unwrap().pop().unwrap();
        assert_eq!(released.id, journalled.id, "{interruption}");
        let signed = all.secco.token.signed_certificates.lock().unwrap()[before..].to_vec();
        assert!(!signed.is_empty() && signed.iter().all(|tbs| *tbs == journalled.tbs), "{interruption}");
    }
}

#[test]
fn a_serial_number_that_was_given_before_is_replaced_by_a_fresh_one() {
    let all = installation();
    let request = all.request("shopper", None);
    all.secco.store.0.lock().unwrap().taken_serials = 2;
    let endorsed = all.secco.authority.cert_endorse(&chief(), &request, None).unwrap();
    let signed = all.secco.store.certificates().unwrap().pop().unwrap();
    assert_eq!(endorsed["serial"], json!(signed.serial));
    // A generator that repeats itself is not asked for ever.
    all.secco.store.0.lock().unwrap().taken_serials = 100;
    let refused = all.secco.authority.cert_endorse(&chief(), &all.request("other", None), None);
    assert_eq!(name_of(refused), "serial_taken");
    assert!(all.secco.store.0.lock().unwrap().taken_serials > 90);
}

#[test]
fn requests_that_do_not_prove_what_they_must_are_refused_by_name() {
    let all = installation();
    let stranger = installation();
    let secco = &all.secco.authority;
    let honest = all.request("shopper", None);
    let other = all.request("other", None);
    let bent = |bend: fn(&mut Value)| {
        let mut request = honest.clone();
        bend(&mut request);
        request
    };
    let table: Vec<(&str, Value)> = vec![
        ("request_malformed", json!({})),
        ("request_malformed", bent(|request| request["schema"] = json!("v0"))),
        ("request_malformed", bent(|request| request["more"] = json!(1))),
        ("request_malformed", bent(|request| request["csr_pem"] = json!("garbage"))),
        ("request_identity", bent(|request| request["role"] = json!("treasurer"))),
        ("request_identity", bent(|request| request["name"] = json!("other"))),
        ("custody_host_unknown", stranger.request("shopper", None)),
        (
            "custody_signature_invalid",
            bent(|request| request["custody"]["statement"]["attributes"]["extractable"] = json!(true)),
        ),
        ("custody_signature_invalid", bent(|request| request["custody"]["statement"]["at_unix_ms"] = json!("1"))),
        ("custody_malformed", bent(|request| request["custody"]["statement"]["schema"] = json!("v0"))),
        ("custody_wrong_key", {
            let mut request = honest.clone();
            request["custody"] = other["custody"].clone();
            request
        }),
    ];
    for (name, request) in table {
        assert_eq!(name_of(secco.cert_endorse(&chief(), &request, None)), name);
        assert_eq!(all.secco.leaves().last().unwrap(), &("cert_endorse".to_owned(), name.to_owned()));
    }
    assert_eq!(name_of(all.bank.authority.cert_issue(&chief(), &honest, None)), "related_request_missing");
    assert_eq!(name_of(all.bank.authority.cert_endorse(&chief(), &honest, None)), "not_this_party");
    assert_eq!(name_of(secco.cert_endorse(&operator(&["auditor"]), &honest, None)), "operator_not_permitted");
}

#[test]
fn the_bank_issues_nothing_without_a_good_endorsement() {
    let all = installation();
    let s = all.secco.authority.cert_endorse(&chief(), &all.request("shopper", None), None).unwrap();
    let request = all.request("shopper", s["certificate_pem"].as_str());
    let bank = &all.bank.authority;

    all.secco
        .authority
        .revoke(&chief(), &wish(s["serial"].as_str().unwrap(), "abandoned", RevokeMode::Effective))
        .unwrap();
    all.refresh_crl();
    assert_eq!(name_of(bank.cert_issue(&chief(), &request, None)), "endorsement_revoked");

    let stranger = installation();
    let foreign = stranger.secco.authority.cert_endorse(&chief(), &stranger.request("shopper", None), None).unwrap();
    let their_request = stranger.request("shopper", foreign["certificate_pem"].as_str());
    let host = stranger.host.authority.host_show(&chief()).unwrap();
    bank.host_enrol(&chief(), &host).unwrap();
    assert_eq!(name_of(bank.cert_issue(&chief(), &their_request, None)), "endorsement_issuer_untrusted");

    let fresh = installation();
    fresh.bank.store.0.lock().unwrap().status.crls.clear();
    let s = fresh.secco.authority.cert_endorse(&chief(), &fresh.request("shopper", None), None).unwrap();
    let request = fresh.request("shopper", s["certificate_pem"].as_str());
    assert_eq!(name_of(fresh.bank.authority.cert_issue(&chief(), &request, None)), "endorsement_status_missing");
}

#[test]
fn a_second_key_under_a_taken_name_is_refused() {
    let all = installation();
    all.enrol("shopper");
    let role = "purchaser".parse().unwrap();
    (&*all.host.token as &dyn Token).generate("agent", Purpose::Agent, Some("shopper")).unwrap();
    let second = all.host.authority.cert_request(&chief(), &"shopper".parse().unwrap(), &role, None).unwrap();
    assert_eq!(name_of(all.secco.authority.cert_endorse(&chief(), &second, None)), "agent_name_taken");
}

#[test]
fn a_pair_is_installed_only_where_it_belongs() {
    let all = installation();
    let (b, s) = all.enrol("shopper");
    let (other_b, _) = all.enrol("other");
    let install =
        |name: &str, b: &str, s: &str| name_of(all.host.authority.cert_install(&chief(), &name.parse().unwrap(), b, s));
    assert_eq!(install("other", &b, &s), "identity_mismatch");
    assert_eq!(install("shopper", &other_b, &s), "binding_hash_mismatch");
    assert_eq!(install("shopper", &s, &b), "bank_profile_violated");
    assert_eq!(install("shopper", "garbage", &s), "certificate_malformed");
    let elsewhere = party("agent", PartyKind::AgentHost);
    elsewhere.authority.init_party(&chief()).unwrap();
    let there = |party: &Party| name_of(party.authority.cert_install(&chief(), &"shopper".parse().unwrap(), &b, &s));
    assert_eq!(there(&elsewhere), "anchors_missing");
    elsewhere.trusts(&all.bank).unwrap();
    elsewhere.trusts(&all.secco).unwrap();
    assert_eq!(there(&elsewhere), "agent_key_missing");
    assert_eq!(all.host.authority.agent_identity(&"shopper".parse().unwrap()).unwrap_err().name, "agent_not_installed");
}

#[test]
fn anchors_are_checked_and_never_replaced_silently() {
    let all = installation();
    let other = installation();
    assert_eq!(all.bank.trusts(&all.secco).unwrap()["changed"], false);
    assert_eq!(name_of(all.bank.trusts(&other.secco)), "anchor_conflict");
    assert_eq!(name_of(all.bank.trusts(&other.bank)), "anchor_own_party");
    let add = |name: &str, root: String, issuing: String| {
        name_of(all.bank.authority.trust_add(&chief(), &name.parse().unwrap(), &root, &issuing))
    };
    let (root, issuing) = (other.secco.file("certs/root.pem"), all.secco.file("certs/issuing.pem"));
    assert_eq!(add("third", root.clone(), issuing.clone()), "anchor_invalid");
    assert_eq!(add("third", issuing.clone(), issuing), "anchor_invalid");
    assert_eq!(add("third", "garbage".into(), root), "anchor_invalid");
    let secco_as_third = all.secco.file("certs/root.pem");
    assert_eq!(add("third", secco_as_third, all.secco.file("certs/issuing.pem")), "anchor_invalid");
    let own = add("third", all.bank.file("certs/root.pem"), all.bank.file("certs/issuing.pem"));
    assert_eq!(own, "anchor_invalid");
}

#[test]
fn a_catalogue_is_in_force_only_when_both_parties_signed_it() {
    let all = installation();
    let catalogue = |version: u64, tools: &[&str]| {
        json!({
            "schema": "countersign/role-catalogue/v1",
            "version": version,
            "roles": [{ "role": "purchaser", "tools": tools }],
        })
    };
    let bank = &all.bank.authority;
    let secco = &all.secco.authority;
    assert_eq!(bank.catalogue().unwrap_err().name, "catalogue_missing");
    let half = secco.catalogue_sign(&chief(), &catalogue(2, &["list_accounts"])).unwrap();
    assert_eq!(name_of(bank.catalogue_install(&chief(), &half)), "catalogue_bank_signature_missing");
    let whole = bank.catalogue_sign(&chief(), &half).unwrap();
    let bank_only = json!({ "catalogue": whole["catalogue"], "signatures": [whole["signatures"][1]] });
    assert_eq!(name_of(bank.catalogue_install(&chief(), &bank_only)), "catalogue_company_signature_missing");
    let mut widened = whole.clone();
    widened["catalogue"]["roles"][0]["tools"] = json!(["list_accounts", "execute_transfer"]);
    assert_eq!(name_of(bank.catalogue_install(&chief(), &widened)), "catalogue_signature_invalid");
    let stranger = installation();
    let foreign = stranger.secco.authority.catalogue_sign(&chief(), &catalogue(2, &["list_accounts"])).unwrap();
    let mut mixed = whole.clone();
    mixed["signatures"][0] = foreign["signatures"][0].clone();
    assert_eq!(name_of(bank.catalogue_install(&chief(), &mixed)), "catalogue_signer_untrusted");

    assert_eq!(bank.catalogue_install(&chief(), &whole).unwrap()["changed"], true);
    assert_eq!(bank.catalogue_install(&chief(), &whole).unwrap()["changed"], false);
    assert_eq!(bank.catalogue().unwrap().version(), 2);
    for (version, tools) in [(1, vec!["list_accounts"]), (2, vec!["execute_transfer"])] {
        assert_eq!(name_of(secco.catalogue_sign(&chief(), &catalogue(version, &tools))), "catalogue_older");
    }
    for broken in [
        catalogue(3, &["a", "a"]),
        catalogue(3, &["Not A Tool"]),
        json!({ "schema": "countersign/role-catalogue/v1", "version": 3, "roles": [
            { "role": "a", "tools": [] }, { "role": "a", "tools": [] } ] }),
    ] {
        assert_eq!(name_of(secco.catalogue_sign(&chief(), &broken)), "catalogue_inconsistent");
    }
    let unknown = "treasurer".parse().unwrap();
    let request = all.host.authority.cert_request(&chief(), &"x".parse().unwrap(), &unknown, None).unwrap();
    assert_eq!(name_of(secco.cert_endorse(&chief(), &request, None)), "role_unknown");
}

#[test]
fn revocation_is_recorded_receipted_and_listed_and_there_is_no_way_back() {
    let all = installation();
    let (b, s) = all.enrol("shopper");
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = heard.clone();
    all.bank.authority.listen(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(Acted { connections_cut: 0, nodes: 1 })
    });
    let bank = &all.bank.authority;
    let rehearsal = bank.revoke(&chief(), &wish("shopper", "stolen laptop", RevokeMode::DryRun)).unwrap();
    assert_eq!((&rehearsal["recorded"], rehearsal["certificates"].as_array().unwrap().len()), (&json!(false), 1));
    assert_eq!(heard.load(Ordering::SeqCst), 0);

    let answer = bank.revoke(&chief(), &wish("shopper", "key-compromise", RevokeMode::Effective)).unwrap();
    assert_eq!(answer["recorded"], true);
    assert_eq!(answer["pending"], json!({}));
    assert_eq!(answer["crl"]["revoked"], 1);
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    assert!(all.bank.path(answer["receipt"]["file"].as_str().unwrap()).exists());

    let peer = PeerChains { presented: vec![der(&b), der(&s)] };
    let status = all.bank.store.status().unwrap();
    let refused = accept(&peer, &bank.acceptance().unwrap(), &status, clock::now()).unwrap_err();
    assert_eq!(refused.name(), "agent_revoked");
    let request = all.request("shopper", Some(&s));
    assert_eq!(name_of(bank.cert_issue(&chief(), &request, None)), "agent_revoked");
    assert_eq!(name_of(bank.revoke(&chief(), &wish("nobody", "x", RevokeMode::Effective))), "unknown_agent");
    assert_eq!(
        name_of(bank.revoke(&operator(&["auditor"]), &wish("shopper", "x", RevokeMode::Effective))),
        "operator_not_permitted"
    );
}

#[test]
fn what_was_recorded_stands_when_nothing_can_be_signed_and_a_repeat_completes_it() {
    let all = installation();
    all.enrol("shopper");
    let (bank, token) = (&all.bank.authority, &all.bank.token);
    let revoke = || bank.revoke(&chief(), &wish("shopper", "lost", RevokeMode::Effective)).unwrap();
    token.failing_papers.store(2, Ordering::SeqCst);
    let first = revoke();
    assert_eq!(
        (&first["recorded"], &first["effective"], &first["receipt"]),
        (&json!(true), &json!(true), &Value::Null)
    );
    assert!(first["pending"]["receipt"].is_object() && first["pending"]["crl"].is_object(), "{first}");
    let second = revoke();
    assert_eq!(
        (&second["already"], &second["pending"], &second["crl"]["revoked"]),
        (&json!(true), &json!({}), &json!(1))
    );
    let number = second["crl"]["number"].as_u64().unwrap();
    // Nothing new: the list is the same one.
    assert_eq!(revoke()["crl"]["number"].as_u64().unwrap(), number);
}

#[test]
fn what_a_crash_left_unlisted_is_listed_by_the_next_start() {
    let all = installation();
    all.enrol("shopper");
    let again = |all: &Installation| {
        Authority::open(AuthoritySetup {
            party: "bank".parse().unwrap(),
            kind: PartyKind::Bank,
            state: StateDir::new(all.bank.directory.path()),
            pki: PkiSettings::default(),
            algorithms: BTreeMap::new(),
            token: all.bank.token.clone(),
            store: all.bank.store.clone(),
        })
        .unwrap()
    };
    let before = all.bank.authority.publish_lists(&chief()).unwrap();
    let target = RevocationTarget::Agent("spiffe://countersign.example/agent/purchaser/shopper".parse().unwrap());
    let act = Act::Revoke { target, reason: "lost".into() };
    let command = Command { stamp: clock::stamp(clock::fresh_request_id()), actor: chief(), act };
    all.bank.store.apply(vec![command]).unwrap().pop().unwrap().outcome.unwrap();

    let bank = again(&all);
    bank.serve_known_lists().unwrap();
    let issuer = before["issuer"].as_str().unwrap();
    assert_eq!(bank.published(issuer).unwrap().revoked, 0);
    let after = bank.publish_lists(&chief()).unwrap();
    assert_eq!(after["revoked"], 1);
    assert!(after["number"].as_u64() > before["number"].as_u64());
    // Nothing is signed while nothing has changed and half of its life is ahead, nor after another start.
    all.bank.token.failing_papers.store(1, Ordering::SeqCst);
    assert_eq!(bank.publish_lists(&chief()).unwrap()["number"], after["number"]);
}

#[test]
fn a_change_that_a_node_did_not_act_on_is_recorded_and_not_effective() {
    let all = installation();
    all.enrol("shopper");
    let bank = &all.bank.authority;
    let deaf = Arc::new(AtomicUsize::new(1));
    let hears = deaf.clone();
    bank.listen(move || match hears.swap(0, Ordering::SeqCst) {
        0 => Ok(Acted { connections_cut: 0, nodes: 2 }),
        _ => Err(Failure::busy("not_effective_yet", "a node has not acted", "repeat")),
    });
    let first = bank.revoke(&chief(), &wish("shopper", "lost", RevokeMode::Effective)).unwrap();
    assert_eq!((&first["recorded"], &first["effective"]), (&json!(true), &json!(false)));
    assert_eq!(first["pending"]["effective"]["name"], "not_effective_yet");
    assert_eq!(first["receipt"]["receipt"]["document"]["effective_at"], Value::Null);
    let second = bank.revoke(&chief(), &wish("shopper", "lost", RevokeMode::Effective)).unwrap();
    assert_eq!((&second["already"], &second["effective"], &second["nodes"]), (&json!(true), &json!(true), &json!("2")));
}

#[test]
fn the_companys_revocation_reaches_the_bank_with_its_list() {
    let all = installation();
    let (b, s) = all.enrol("shopper");
    let old = all.secco.authority.crl_export(&chief()).unwrap();
    all.secco.authority.revoke(&chief(), &wish("shopper", "left", RevokeMode::Effective)).unwrap();
    all.refresh_crl();
    let status = all.bank.store.status().unwrap();
    let peer = PeerChains { presented: vec![der(&b), der(&s)] };
    let acceptance = all.bank.authority.acceptance().unwrap();
    assert_eq!(accept(&peer, &acceptance, &status, clock::now()).unwrap_err().name(), "endorsement_revoked");

    let import = |pem: &str| name_of(all.bank.authority.crl_import(&chief(), pem));
    assert_eq!(import(old["crl_pem"].as_str().unwrap()), "stale_crl");
    let own = all.bank.authority.crl_export(&chief()).unwrap();
    assert_eq!(import(own["crl_pem"].as_str().unwrap()), "crl_issuer_mismatch");
    assert_eq!(import("garbage"), "crl_malformed");
    let mut bent = pem::decode_one(Kind::Crl, old["crl_pem"].as_str().unwrap()).unwrap();
    *bent.last_mut().unwrap() ^= 1;
    assert_eq!(import(&pem::encode(Kind::Crl, &bent)), "crl_signature_invalid");
}

#[test]
fn a_state_directory_is_enough_to_judge_a_pair_offline() {
    let all = installation();
    let (b, s) = all.enrol("shopper");
    let now = clock::now();
    let judged = |party: &Party, kind, presented: &[Vec<u8>], at| {
        let state = StateDir::new(party.directory.path());
        let judge = OfflineJudge::from_state(&state, kind, &PkiSettings::default(), presented, at).unwrap();
        judge.judge(presented.to_vec(), at).1.map_or("accepted", |refusal| refusal.name())
    };
    let pair = [der(&b), der(&s)];
    assert_eq!(judged(&all.bank, PartyKind::Bank, &pair, now), "accepted");
    assert_eq!(judged(&all.host, PartyKind::AgentHost, &pair, now), "accepted");
    assert_eq!(judged(&all.host, PartyKind::AgentHost, &[der(&s)], now), "bank_certificate_missing");
    assert_eq!(judged(&all.secco, PartyKind::SecurityCompany, &pair, now), "accepted");
    assert_eq!(judged(&all.bank, PartyKind::Bank, &pair, now.plus_ms(48 * 3_600_000)), "bank_expired");
    std::fs::remove_dir_all(all.bank.path("certs/crl")).unwrap();
    assert_eq!(judged(&all.bank, PartyKind::Bank, &pair, now), "endorsement_status_missing");

    all.bank.authority.revoke(&chief(), &wish("shopper", "lost", RevokeMode::Effective)).unwrap();
    all.refresh_crl();
    assert_eq!(judged(&all.bank, PartyKind::Bank, &pair, now), "bank_certificate_revoked");
    let fresh = party("agent", PartyKind::AgentHost);
    let state = StateDir::new(fresh.directory.path());
    let refused = OfflineJudge::from_state(&state, PartyKind::AgentHost, &PkiSettings::default(), &pair, now);
    assert_eq!(refused.unwrap_err().name, "anchors_missing");
}

#[test]
fn a_command_that_comes_while_another_issues_is_told_to_come_back() {
    let all = installation();
    let request = all.request("shopper", None);
    let _busy = all.secco.authority.begin_issuing().unwrap();
    let failure = all.secco.authority.cert_endorse(&chief(), &request, None).unwrap_err();
    assert_eq!((failure.name.as_str(), failure.retry), ("issuance_in_progress", true));
}

#[test]
fn several_agents_are_issued_to_at_once_and_each_name_and_key_once() {
    let all = installation();
    let (one, another) = (all.request("shopper", None), all.request("buyer", None));
    let agent = "spiffe://countersign.example/agent/purchaser/shopper".parse().unwrap();
    let key = all.secco.authority.verify_request_at(&one, clock::now()).unwrap().key();
    let elsewhere = "spiffe://countersign.example/agent/viewer/shopper".parse().unwrap();
    for (agent, key) in [(&agent, Sha256([7; 32])), (&elsewhere, key)] {
        let _busy = all.secco.authority.begin_issuing_to(agent, key).unwrap();
        let failure = all.secco.authority.cert_endorse(&chief(), &one, None).unwrap_err();
        assert_eq!((failure.name.as_str(), failure.retry), ("issuance_in_progress", true));
        all.secco.authority.cert_endorse(&chief(), &another, None).unwrap();
    }
    all.secco.authority.cert_endorse(&chief(), &one, None).unwrap();
    // Both at once, many times over: one S each.
    std::thread::scope(|scope| {
        for request in [&one, &another] {
            for _ in 0..4 {
                scope.spawn(|| {
                    while all.secco.authority.cert_endorse(&chief(), request, None).is_err_and(|failure| failure.retry)
                    {
                        std::thread::yield_now();
                    }
                });
            }
        }
    });
    let endorsed = all.secco.store.certificates().unwrap();
    assert_eq!(endorsed.iter().filter(|record| record.profile == Profile::AgentS.name()).count(), 2);
}

#[test]
fn every_algorithm_of_authorities_and_agents_carries_a_pair_to_its_acceptance() {
    for authority in Algorithm::OF_AUTHORITIES {
        let others = if *authority == Algorithm::P256 { Algorithm::P256 } else { Algorithm::P384 };
        let all = installation_with(BTreeMap::from([
            (Purpose::Root, *authority),
            (Purpose::Issuing, *authority),
            (Purpose::Agent, others),
            (Purpose::TlsServer, others),
            (Purpose::HostIdentity, *authority),
            (Purpose::Transaction, *authority),
            (Purpose::Catalogue, *authority),
        ]));
        let (b, s) = all.enrol("shopper");
        let presented = vec![der(&b), der(&s)];
        let acceptance = all.bank.authority.acceptance().unwrap();
        let status = all.bank.store.status().unwrap();
        let accepted = accept(&PeerChains { presented }, &acceptance, &status, clock::now());
        assert!(accepted.is_ok(), "{authority:?}: {accepted:?}");
        assert_eq!(all.bank.authority.tls_identity().unwrap().key.algorithm, others);
        let report = all.bank.authority.custody_report(&chief()).unwrap();
        assert_eq!(report["unsound"], json!([]));
        all.host.authority.custody_report(&chief()).unwrap();
    }
}

#[test]
fn a_rotation_that_was_cut_off_goes_on_with_the_version_it_made() {
    let bank = party("bank", PartyKind::Bank);
    bank.authority.init_party(&chief()).unwrap();
    let rotate =
        |in_use: fn() -> Result<(), Failure>| bank.authority.key_rotate(&chief(), Purpose::Transaction, in_use);
    // After the new key and its certificate, before anything uses them.
    let cut_off = || Err(Failure::fault("power_lost", "the power is gone", "switch it on"));
    assert_eq!(rotate(cut_off).unwrap_err().name, "power_lost");
    assert_eq!(bank.authority.active_keys(Purpose::Transaction, None).unwrap().len(), 2);
    // After the new key, before its certificate: the role stays with the one that has a certificate.
    bank.authority.new_key(Purpose::Catalogue, None).unwrap();
    assert_eq!(bank.authority.signing_role(Purpose::Catalogue).unwrap().key.version, 1);

    let rotated = rotate(|| Ok(())).unwrap();
    assert_eq!((&rotated["version"], &rotated["retired"]), (&json!(2), &json!(["bank-transaction-v1"])));
    assert_eq!(bank.authority.signing_role(Purpose::Transaction).unwrap().key.version, 2);
    assert_eq!(bank.authority.role_history(Purpose::Transaction).unwrap().len(), 2);
    let rotated = bank.authority.key_rotate(&chief(), Purpose::Catalogue, || Ok(())).unwrap();
    assert_eq!((&rotated["version"], &rotated["retired"]), (&json!(2), &json!(["bank-catalogue-v1"])));
    assert_eq!(rotate(|| Ok(())).unwrap()["version"], 3);
}

#[test]
fn roles_have_keys_with_chains() {
    let all = installation();
    let tls = all.bank.authority.tls_identity().unwrap();
    assert_eq!((tls.key.purpose, tls.chain.len()), (Purpose::TlsServer, 2));
    let role = all.bank.authority.signing_role(Purpose::Transaction).unwrap();
    assert_eq!(role.chain.len(), 3);
    assert_eq!(role.chain[2], der(&all.bank.file("certs/root.pem")));
    let log = all.host.authority.signing_role(Purpose::Checkpoint).unwrap();
    assert!(log.chain.is_empty());
    let fresh = party("bank", PartyKind::Bank);
    assert_eq!(fresh.authority.tls_identity().unwrap_err().name, "party_not_initialised");
    assert_eq!(fresh.authority.acceptance().unwrap_err().name, "party_not_initialised");
}

#[test]
fn settings_that_cannot_work_are_refused_at_the_door() {
    let bent = |bend: fn(&mut PkiSettings)| {
        let mut pki = PkiSettings::default();
        bend(&mut pki);
        Authority::open(AuthoritySetup {
            party: "bank".parse().unwrap(),
            kind: PartyKind::Bank,
            state: StateDir::new("/nonexistent"),
            pki,
            algorithms: BTreeMap::new(),
            token: Arc::new(SoftwareToken::default()),
            store: Arc::new(MemoryStore::default()),
        })
        .unwrap_err()
        .name
    };
    let table: [fn(&mut PkiSettings); 8] = [
        |pki| pki.oid_base = "2.25.1".into(),
        |pki| pki.trust_domain = "Not A Domain".into(),
        |pki| pki.agent_life_hours = 0,
        |pki| pki.agent_life_hours = 24 * 8,
        |pki| pki.service_life_days = 400,
        |pki| pki.base_url = "https://pki.example".into(),
        |pki| pki.base_url = "http://pki.example/a b".into(),
        |pki| pki.tls_names = vec!["*.bank.example".into()],
    ];
    for bend in table {
        assert_eq!(bent(bend), "config_invalid");
    }
}
