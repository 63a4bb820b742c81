//! A bank with a real book, a real log and certificates of the product's own profiles: payments of every kind, to be
//! proven and to be tampered with.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign::audit::settings::AuditSettings;
use countersign::audit::{Log, LogSetup};
use countersign::bench::sealed::sealed;
use countersign::hsm::{CertifiedKey, CustodyAttributes, HsmFault, KeyInfo, KeyState, Op, Reply, Token, lint};
use countersign::kernel::approval::{ApprovalDocument, Evidence};
use countersign::kernel::command::*;
use countersign::kernel::credential::certificate::Certificate;
use countersign::kernel::credential::profile::Profile;
use countersign::kernel::httpsig::{Components, Parameters, content_digest};
use countersign::kernel::jwt::TokenKey;
use countersign::kernel::mandate::{self, Mandate, OwnerKey, VerifiedMandate};
use countersign::kernel::quorum::{GateRule, Side};
use countersign::kernel::sign::{Algorithm, DocumentTag, Purpose, SignInput, signed_digest, to_wire};
use countersign::kernel::types::*;
use countersign::ops::clock;
use countersign::store::sqlite::SqliteStore;
use countersign::store::{Store, StoreFault};
use serde_json::json;

use super::log::advance_all;
use super::parties::OID_BASE;
use crate::store::world::*;
use crate::support::kit::{Key, Kit};
use crate::support::postgres::Database;

/// Keeps the names of later calls apart.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// The log's keys, behind the lint of the worker.
pub struct Hsm(Vec<(KeyInfo, Key)>);

impl Hsm {
    fn of(&self, purpose: Purpose) -> &(KeyInfo, Key) {
        self.0.iter().find(|(info, _)| info.purpose == purpose).unwrap()
    }
}

impl Token for Hsm {
    fn call(&self, op: Op) -> Result<Reply, HsmFault> {
        let Op::Sign { key, input } = op else { panic!("it signs only") };
        let (info, pair) = self.0.iter().find(|(info, _)| info.id == key).expect("a key of this bank");
        lint::lint(info, &input, clock::now())?;
        Ok(Reply::Signature(pair.sign(&input.message())))
    }
}

pub struct Bank {
    pub kit: Kit,
    pub hsm: Arc<Hsm>,
    pub store: Arc<dyn Store>,
    pub log: Arc<Log>,
    directory: tempfile::TempDir,
    agent: AgentPrincipal,
    agent_key: Key,
    agent_certificate: Vec<u8>,
    alice: Key,
    alice_certificate: Vec<u8>,
}

/// The payments of a book.
pub struct Paid {
    /// Of an agent alone.
    pub bought: TransactionId,
    /// Under a mandate, with a word that alice's key signed.
    pub approved: TransactionId,
    /// Let, and not made.
    pub held: TransactionId,
    pub cancelled: TransactionId,
    pub denied: TransactionId,
}

impl Bank {
    pub fn new() -> Self {
        Self::with_notes(Algorithm::Ed25519)
    }

    /// With a key of this algorithm for checkpoints.
    pub fn with_notes(notes: Algorithm) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("store/store.sqlite3")).unwrap();
        Self::over(store, directory, notes)
    }

    /// Over this store, with a directory for files.
    fn over(store: Arc<dyn Store>, directory: tempfile::TempDir, notes: Algorithm) -> Self {
        let kit = Kit::new(Algorithm::P256);
        let key = |purpose: Purpose| {
            let algorithm = if purpose == Purpose::Checkpoint { notes } else { purpose.default_algorithm() };
            let pair = Key::new(algorithm);
            let spki = pair.spki();
            let info = KeyInfo {
                id: Sha256::of(&[&spki]),
                label: format!("bank-{}-v1", purpose.slug()),
                purpose,
                agent: None,
                version: 1,
                algorithm,
                spki,
                custody: CustodyAttributes::SOUND,
                state: KeyState::Active,
            };
            (info, pair)
        };
        let hsm = Arc::new(Hsm(vec![key(Purpose::Transaction), key(Purpose::Checkpoint)]));
        sealed(&*store).unwrap();
        let certified = |purpose: Purpose| {
            let (info, pair) = hsm.of(purpose);
            let own = kit.certificate(Profile::of_purpose(purpose).unwrap(), pair);
            CertifiedKey { key: info.clone(), chain: vec![own, kit.issuing.clone(), kit.root.clone()] }
        };
        let log = Log::open(LogSetup {
            store: Arc::clone(&store),
            token: Arc::clone(&hsm) as Arc<dyn Token>,
            checkpoint: certified(Purpose::Checkpoint),
            transaction: Some(certified(Purpose::Transaction)),
            settings: AuditSettings { checkpoint_leaves: 16, ..AuditSettings::default() },
            oid_base: OID_BASE.into(),
        })
        .unwrap();
        let (agent_key, alice) = (Key::new(Algorithm::P256), Key::new(Algorithm::P256));
        let agent_certificate = kit.certificate(Profile::AgentB, &agent_key);
        let alice_certificate = kit.certificate(Profile::Operator, &alice);
        let (issuer, serial) = named(&agent_certificate);
        let agent = AgentPrincipal {
            key: Sha256::of(&[&agent_key.spki()]),
            bank_issuer: issuer,
            bank_serial: serial,
            not_after: UnixMillis(clock::now().0 + DAY_MS),
            ..shopper()
        };
        Self { kit, hsm, store, log, directory, agent, agent_key, agent_certificate, alice, alice_certificate }
    }

    /// With its payments, all signed and in the log.
    pub fn with_payments() -> (Self, Paid) {
        Self::with_payments_noted(Algorithm::Ed25519)
    }

    /// The same, with a key of this algorithm for checkpoints.
    pub fn with_payments_noted(notes: Algorithm) -> (Self, Paid) {
        let bank = Self::with_notes(notes);
        let paid = bank.pays();
        (bank, paid)
    }

    /// The same on a database of PostgreSQL.
    pub fn with_payments_on(database: &Database<'_>) -> (Self, Paid) {
        let bank = Self::over(database.open(), tempfile::tempdir().unwrap(), Algorithm::Ed25519);
        let paid = bank.pays();
        (bank, paid)
    }

    pub fn database(&self) -> PathBuf {
        self.directory.path().join("store/store.sqlite3")
    }

    pub fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// Signs what waits: batches, then the log.
    pub fn settle(&self) {
        for batch in self.store.unsigned_batches(1000).unwrap() {
            let (info, pair) = self.hsm.of(Purpose::Transaction);
            let input = SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json: batch.document };
            let act = Act::SignBatch { batch: batch.batch, signature: pair.sign(&input.message()), key: info.id };
            let world = World::new(&*self.store);
            world.ids.set(9_000_000 + batch.batch.unsigned_abs());
            world.system(act).outcome.unwrap();
        }
        advance_all(&self.log);
    }

    fn pays(&self) -> Paid {
        let gates = vec![GateRule::Bank { approvals: 1, roles: vec!["approver".into()], ordered: false }];
        let rules = Arc::new(Rules { gates, unsigned_approvals: false, ..rules() });
        let w = &World { rules, ..World::new(&*self.store) };
        w.now.set(clock::now().0);
        for (account, owner, opening) in [("CHK_001", "OWN_001", "9247.83"), ("SAV_001", "OWN_001", "100")] {
            w.admin(open(account, owner, Some(opening))).unwrap();
        }
        w.admin(add_merchant("amazon.com", "Shop")).unwrap();
        w.admin(add_product("amazon.com", "LAPTOP", "1899.99")).unwrap();
        for (id, profile, key, der) in [
            ("crt_agent", "agent-b", self.agent.key, &self.agent_certificate),
            ("crt_alice", "operator", Sha256::of(&[&self.alice.spki()]), &self.alice_certificate),
        ] {
            let (issuer, serial) = named(der);
            let record = CertificateRecord {
                id: id.into(),
                profile: profile.into(),
                subject: id.into(),
                issuer,
                serial,
                key,
                not_after: UnixMillis(w.now.get() + DAY_MS),
                tbs: der.clone(),
                der: None,
            };
            w.system(Act::JournalCertificate { record }).outcome.unwrap();
            w.system(Act::ReleaseCertificate { id: id.into(), der: der.clone() }).outcome.unwrap();
        }
        w.admin(Act::AddGrant {
            agent: self.agent.spiffe_id.clone(),
            account: "CHK_001".parse().unwrap(),
            owner: "OWN_001".parse().unwrap(),
            verbs: EVERY_VERB.to_vec(),
            per_transaction_max: None,
            expires: UnixMillis(w.now.get() + 20 * DAY_MS),
        })
        .unwrap();
        let call = |call: ToolCall| self.asks(w, call, Some(&self.agent_key)).unwrap();
        let approved = |asked: ToolCall| match call(asked) {
            Effect::Approved { transaction_id, .. } => transaction_id,
            other => panic!("{other:?}"),
        };
        let bought = approved(buy("LAPTOP", "1899.99", "k1"));
        call(execute_buy(&bought, "LAPTOP"));
        let held = approved(transfer("7", "k2"));
        let cancelled = approved(transfer("8", "k3"));
        call(cancel(&cancelled));
        w.admin(Act::AddMandate { mandate: Box::new(self.mandate(w)) }).unwrap();
        w.later(5);
        let waiting = |asked: ToolCall| match call(asked) {
            Effect::RequiresApproval { approval_id, transaction_id, .. } => (approval_id, transaction_id),
            other => panic!("{other:?}"),
        };
        let (approval, paid) = waiting(transfer("2500", "k4"));
        self.say(w, &approval, &paid, Verdict::Approve);
        call(execute_transfer(&paid, "SAV_001", "2500"));
        let (approval, denied) = waiting(transfer("2600", "k5"));
        self.say(w, &approval, &denied, Verdict::Deny);
        self.settle();
        Paid { bought, approved: paid, held, cancelled, denied }
    }

    /// What the agent's call comes to, by the rules under which its payments were made.
    pub fn calls(&self, call: ToolCall) -> Result<Outcome, StoreFault> {
        let gates = vec![GateRule::Bank { approvals: 1, roles: vec!["approver".into()], ordered: false }];
        let rules = Arc::new(Rules { gates, unsigned_approvals: false, ..rules() });
        let w = World { rules, ..World::new(&*self.store) };
        w.now.set(clock::now().0);
        w.ids.set(8_000_000 + 100 * ASKED.fetch_add(1, Ordering::Relaxed));
        Ok(self.store.apply(vec![w.tool_command(&self.agent, call)])?.pop().unwrap().outcome)
    }

    /// The agent asks for its money back, and alice lets it.
    pub fn reverses(&self, original: &TransactionId) -> TransactionId {
        let (transaction_id, idempotency_key) = (original.clone(), "back".parse().unwrap());
        let asked = self.calls(ToolCall::RequestReversal { transaction_id, amount: None, idempotency_key }).unwrap();
        let Ok(Effect::RequiresApproval { approval_id, transaction_id, .. }) = asked else { panic!("{asked:?}") };
        let w = World::new(&*self.store);
        w.now.set(clock::now().0);
        w.ids.set(7_000_000);
        self.say(&w, &approval_id, &transaction_id, Verdict::Approve);
        self.settle();
        transaction_id
    }

    /// A call in a request that this key has signed.
    fn asks(&self, w: &World<'_>, call: ToolCall, key: Option<&Key>) -> Outcome {
        let mut command = w.tool_command(&self.agent, call);
        command.stamp.signature =
            key.map(|key| self.signed(command.stamp.wall, command.stamp.request_id.as_str(), key));
        self.store.apply(vec![command]).unwrap().pop().unwrap().outcome
    }

    fn signed(&self, at: UnixMillis, id: &str, key: &Key) -> RequestSignature {
        let components = Components {
            method: "POST".into(),
            target_uri: "https://bank.example/mcp".into(),
            content_digest: content_digest(id.as_bytes()),
            protocol_version: "2026-07-28".into(),
            mcp_method: "tools/call".into(),
            mcp_name: Some("a tool".into()),
            authorization: Some("Bearer of-this-agent".into()),
        };
        let created = at.0 / 1_000;
        let parameters = Parameters { created, expires: created + 60, nonce: "n".repeat(22) };
        let base = components.draft(&parameters, self.agent.key).base;
        RequestSignature {
            base_digest: signed_digest(Algorithm::P256, &base).unwrap(),
            bytes: to_wire(Algorithm::P256, &key.sign(&base)).unwrap(),
            created: UnixMillis(created * 1_000),
        }
    }

    /// One more purchase that is paid, by a request as `how` changes it; none: nobody signed it.
    pub fn buys_once_more(
        &self,
        number: u64,
        how: impl Fn(&Self, RequestSignature) -> Option<RequestSignature>,
    ) -> TransactionId {
        let w = &World::new(&*self.store);
        w.now.set(clock::now().0);
        w.ids.set(5_000_000 + 1_000 * number);
        let mut command = w.tool_command(&self.agent, transfer("3", &format!("more-{number}")));
        let signature = self.signed(command.stamp.wall, "more", &self.agent_key);
        command.stamp.signature = how(self, signature);
        let Effect::Approved { transaction_id, .. } =
            self.store.apply(vec![command]).unwrap().pop().unwrap().outcome.unwrap()
        else {
            panic!("a small transfer asks nobody")
        };
        self.asks(w, execute_transfer(&transaction_id, "SAV_001", "3"), Some(&self.agent_key)).unwrap();
        self.settle();
        transaction_id
    }

    /// All that leaves say of a subject, by two people.
    pub fn erases(&self, subject: &str) {
        let w = &World::new(&*self.store);
        w.now.set(clock::now().0);
        w.ids.set(8_000_000);
        for by in ["olga", "oleg"] {
            let step = SubjectStep::Erase { reason: "art. 17".into(), pseudonym: Sha256::of(&[subject.as_bytes()]) };
            let act = Act::Subject { subject: subject.parse().unwrap(), step };
            w.decision(Actor::Operator(operator(by, &["officer"])), act).outcome.unwrap();
        }
        self.settle();
    }

    /// What another key than the agent's makes of a request.
    pub fn signed_by_alice(&self) -> RequestSignature {
        self.signed(clock::now(), "more", &self.alice)
    }

    /// Up to 3000 a payment, signed by alice's key: she owns the account, too.
    fn mandate(&self, w: &World<'_>) -> VerifiedMandate {
        let now = w.now.get() / 1000;
        let (issuer, serial) = named(&self.alice_certificate);
        let spki = self.alice.spki();
        let key = TokenKey { id: Sha256::of(&[&spki]), spki };
        let claims = json!({
            "vct": mandate::VCT, "iss": "OWN_001", "sub": self.agent.spiffe_id, "jti": "mdt_00000000000000000000000001",
            "iat": now, "exp": now + 18 * 86_400, "cnf": { "kid": self.agent.key },
            "payment_instrument": { "type": "account", "id": "CHK_001" },
            "constraints": [{ "type": "payment.amount_range", "currency": "USD", "max": 300_000 }],
        });
        let draft = mandate::draft(key.id, &Mandate::from_claims(&claims).unwrap(), &[]).unwrap();
        let text = draft.signed(&self.alice.sign(&draft.input().message())).unwrap();
        let owner = "OWN_001".parse().unwrap();
        mandate::verify(&text, &owner, &[OwnerKey { key, issuer, serial }], UnixMillis(w.now.get())).unwrap()
    }

    fn say(&self, w: &World<'_>, approval: &ApprovalId, transaction: &TransactionId, verdict: Verdict) {
        let with = (&self.alice, self.alice_certificate.as_slice());
        self.says(w, "alice", Some(with), (approval, transaction), verdict);
    }

    /// An approver's word, signed with a key of their own, or known by user id.
    fn says(
        &self,
        w: &World<'_>,
        name: &str,
        with: Option<(&Key, &[u8])>,
        (approval, transaction): (&ApprovalId, &TransactionId),
        verdict: Verdict,
    ) {
        let transaction = self.store.transaction(transaction).unwrap().unwrap();
        let person = OperatorPrincipal { asserted: false, ..operator(name, &["approver"]) };
        let document = ApprovalDocument::asked(&transaction, &person.name, Side::Bank, verdict).unwrap();
        let evidence = with.map(|(key, certificate)| {
            Box::new(Evidence {
                signature: BASE64_STANDARD.encode(key.sign(&document.sign_input().unwrap().message())),
                document: String::from_utf8(document.canonical().unwrap()).unwrap(),
                certificate: BASE64_STANDARD.encode(certificate),
                passkey: None,
            })
        });
        let approval = approval.clone();
        let act = Act::DecideApproval { approval, side: Side::Bank, verdict, note: "looked at".into(), evidence };
        w.decision(Actor::Operator(person), act).outcome.unwrap();
    }

    /// A transfer of 2100 that waits for people, at a bank whose rules name these gates; none: words that no key signed
    /// count.
    pub fn waits(&self, gates: Vec<GateRule>) -> (ApprovalId, TransactionId) {
        let rules = Arc::new(Rules { unsigned_approvals: gates.is_empty(), gates, ..rules() });
        let w = &World { rules, ..self.world(1) };
        match w.call_as(&self.agent, transfer("2100", "waits")).unwrap() {
            Effect::RequiresApproval { approval_id, transaction_id, .. } => (approval_id, transaction_id),
            other => panic!("{other:?}"),
        }
    }

    /// A yes of somebody; with a key of their own that is certified now, or unsigned.
    pub fn hears(&self, name: &str, asked: (&ApprovalId, &TransactionId), signs: bool) {
        let key = Key::new(Algorithm::P256);
        let certificate = self.kit.certificate_of(name, Profile::Operator, &key);
        let with = signs.then_some((&key, certificate.as_slice()));
        let number = 2 + u64::from(name.bytes().next().unwrap());
        self.says(&self.world(number), name, with, asked, Verdict::Approve);
    }

    /// What [`Self::waits`] asked for is made, signed and in the log.
    pub fn makes(&self, transaction: &TransactionId) {
        self.world(1000).call_as(&self.agent, execute_transfer(transaction, "SAV_001", "2100")).unwrap();
        self.settle();
    }

    /// Now, with ids that no other number has.
    fn world(&self, number: u64) -> World<'_> {
        let w = World::new(&*self.store);
        w.now.set(clock::now().0);
        w.ids.set(3_000_000 + 1_000 * number);
        w
    }
}

/// The issuer's key identifier and the serial number of a certificate.
fn named(der: &[u8]) -> (String, Serial) {
    let certificate = Certificate::read(der).unwrap();
    let issuer = hex::encode(certificate.tbs.authority_key_identifier().unwrap());
    (issuer, Serial::from_bytes(certificate.tbs.serial).unwrap())
}
