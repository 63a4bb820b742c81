//! Everything one daemon serves, and how far it is set up.
//!
//! A fresh party has a token and nothing else. Each administrative step can complete a part: the log and the book
//! after `init`, the MCP listener of a bank once the security company is trusted and a catalogue is in force. So
//! [`Services::complete`] runs at start and after every step, and says what is still missing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use serde_json::{Value, json};

use crate::audit::archive::Archive;
use crate::audit::cosigning::{Cosigning, Disagreement};
use crate::audit::retention::{self, Doubt, Start};
use crate::audit::settings::PeerLease;
use crate::audit::{Log, LogRoles, LogSetup};
use crate::banking::CoreBanking;
use crate::ca::settings::PartyKind;
use crate::ca::{Acted, Authority, Responder};
use crate::front::agent_keys::AgentSignatures;
use crate::front::console::sessions::Sessions;
use crate::front::known_pairs::KnownPairs;
use crate::front::lease::Lease;
use crate::front::manifest::Manifests;
use crate::front::operators::Operators;
use crate::front::peer_lease::Lender;
use crate::front::peer_lease::holder::Heard;
use crate::front::watching::Changes;
use crate::guard::Guard;
use crate::hsm::client::{HsmState, WorkerPool};
use crate::hsm::confine::Confinement;
use crate::hsm::{CertifiedKey, Token};
use crate::kernel::catalogue::VerifiedCatalogue;
use crate::kernel::command::{Act, Actor, Command, OperatorPrincipal, Rules, Settlement};
use crate::kernel::credential::pair::{Acceptance, VerifiedAgent};
use crate::kernel::jwt::TokenKey;
use crate::kernel::policy::finding::Finding;
use crate::kernel::policy::role::Policy;
use crate::kernel::sign::{Purpose, SignInput};
use crate::kernel::types::{ApprovalId, KeyId, PartyName, Sha256, UnixMillis};
use crate::kernel::webauthn::RelyingParty;
use crate::monitor::Watch;
use crate::notify::Notifier;
use crate::ops::call_times::CallTimes;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::ops::registry::{Calls, Connections, LiveStatus, ServingLimit};
use crate::ops::space::{Room, Space};
use crate::payment::{Payments, PaymentsSetup};
use crate::store::Store;
use crate::vault::{Feed, HsmReached, Vault};

/// Between two looks at keys whose time may be over.
const LAPSE_PAUSE_MS: i64 = 3_600_000;

/// What the composition root hands over.
pub struct ServicesSetup {
    pub party: PartyName,
    pub kind: PartyKind,
    pub state: StateDir,
    pub settings: FrontSettings,
    pub operators: Operators,
    pub hsm: Arc<WorkerPool>,
    pub store: Arc<dyn Store>,
    pub authority: Arc<Authority>,
    pub core: Option<Arc<dyn CoreBanking>>,
    pub notifier: Option<Arc<Notifier>>,
    /// Where the log is archived, if it is.
    pub archive: Option<Arc<Archive>>,
    pub vault: Arc<Vault>,
    /// What the daemon itself takes from the vault.
    pub feed: Arc<Feed>,
    pub confinement: Confinement,
    /// The disk that everything is written to, and its mark.
    pub space: Arc<Space>,
}

/// The parts of the configuration that services read.
#[derive(Clone, Debug)]
pub struct FrontSettings {
    pub policy: Option<crate::payment::settings::PolicySettings>,
    pub payment: crate::payment::settings::PaymentSettings,
    pub breaker: crate::guard::settings::BreakerSettings,
    pub audit: crate::audit::settings::AuditSettings,
    pub monitor: crate::monitor::settings::MonitorSettings,
    pub witness: crate::audit::settings::WitnessSettings,
    pub pki: crate::ca::settings::PkiSettings,
    pub agents: crate::front::settings::AgentSettings,
    pub signing: crate::signing::settings::SigningSettings,
}

/// What a node knows of the role policy.
enum RolePolicy {
    /// None: the signed catalogue alone decides.
    InForce(Option<(u64, Policy)>),
    /// This version is, and it cannot be read here; what was in force before, if that is known.
    Unreadable(u64, Option<(u64, Policy)>),
}

/// One daemon's services.
pub struct Services {
    pub setup: ServicesSetup,
    pub live: Arc<LiveStatus>,
    pub connections: Arc<Connections>,
    pub responder: Arc<Responder>,
    lease: Lease,
    /// At a bank: until when the security company lets it serve, and what it has said.
    pub limit: Arc<ServingLimit>,
    pub heard: Heard,
    pub calls: Arc<Calls>,
    /// How long calls of tools took, for whoever shows it.
    pub call_times: Arc<CallTimes>,
    /// At an agent host: what its agents had signed.
    pub signatures: AgentSignatures,
    /// At a security company that gives leases.
    pub lender: Option<Lender>,
    /// At a bank whose log is cosigned: how far.
    cosigning: Option<Arc<Cosigning>>,
    log: OnceLock<Arc<Log>>,
    /// Set once the log may go on.
    goes_on: OnceLock<()>,
    /// Whether the log was found whole, once that was looked at.
    found_whole: OnceLock<bool>,
    payments: OnceLock<Arc<Payments>>,
    /// At a bank: who scores agents' calls, unless it is off.
    watch: Option<Arc<Watch>>,
    /// The acceptance rule's anchors, once the other party is trusted. The lock guards the pointer only.
    acceptance: RwLock<Option<Arc<Acceptance>>>,
    known_pairs: KnownPairs,
    /// The keys whose tokens are taken, newest first. The lock guards the pointer only.
    token_keys: RwLock<Arc<[TokenKey]>>,
    /// What keeps the daemon from serving agents, in words. Empty: nothing.
    missing: Mutex<Vec<String>>,
    /// When the role catalogue ends by which agents are served, if it does.
    catalogue_end: Mutex<Option<UnixMillis>>,
    /// The role policy in force, as last read from the store. The lock guards the pointer only.
    role_policy: Mutex<Option<(u64, Policy)>>,
    /// Handshakes that were refused, by name, since the last leaf about them.
    refused: Mutex<BTreeMap<String, u64>>,
    refused_total: Mutex<BTreeMap<String, u64>>,
    pub changes: Changes,
    pub manifests: Manifests,
    /// When it is looked next whether what leaves say has had its time: boot clock, milliseconds.
    lapse_at: AtomicI64,
    /// Where what leaves say has an end: what the clock is compared with.
    start: Option<Start>,
    /// The address of the console, `https://host:port`, once it is served.
    pages: OnceLock<String>,
    /// Who is signed in there.
    pub sessions: Sessions,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("party", &self.setup.party).finish_non_exhaustive()
    }
}

impl Services {
    pub fn open(setup: ServicesSetup) -> Result<Arc<Self>, Failure> {
        let live: Arc<LiveStatus> = Arc::default();
        let responder = Arc::new(Responder::new(Arc::clone(&setup.authority), Arc::clone(&live)));
        let lease = Lease::new(Arc::clone(&setup.store));
        let is_on = setup.settings.audit.peer_lease == PeerLease::On;
        let lends = is_on && setup.kind == PartyKind::SecurityCompany;
        let lender = lends.then(|| Lender::open(setup.state.leases(), setup.settings.audit.peer_lease_ms));
        let borrows = is_on && setup.kind == PartyKind::Bank;
        let limit = Arc::new(if borrows { ServingLimit::needed() } else { ServingLimit::none() });
        let lag_max = setup.settings.audit.witness_lag_max.limits().filter(|_| setup.kind == PartyKind::Bank);
        let cosigning = lag_max.map(|max| Arc::new(Cosigning::new(max)));
        let signatures = AgentSignatures::new(setup.settings.agents);
        let is_bank = setup.kind == PartyKind::Bank;
        let watch = if is_bank { Watch::new(&setup.settings.monitor)?.map(Arc::new) } else { None };
        // Before anything is recorded.
        let has_end = setup.settings.audit.retention_days.is_some();
        let start = has_end.then(|| Start::look(&*setup.store)).transpose()?;
        let services = Arc::new(Self {
            setup,
            lease,
            limit,
            heard: Heard::default(),
            calls: Arc::default(),
            call_times: Arc::default(),
            signatures,
            lender,
            live,
            responder,
            cosigning,
            connections: Arc::default(),
            log: OnceLock::new(),
            goes_on: OnceLock::new(),
            found_whole: OnceLock::new(),
            payments: OnceLock::new(),
            watch,
            acceptance: RwLock::new(None),
            known_pairs: KnownPairs::default(),
            token_keys: RwLock::new(Arc::new([])),
            missing: Mutex::default(),
            catalogue_end: Mutex::default(),
            role_policy: Mutex::default(),
            refused: Mutex::default(),
            refused_total: Mutex::default(),
            changes: Changes::default(),
            manifests: Manifests::default(),
            lapse_at: AtomicI64::new(0),
            start,
            pages: OnceLock::new(),
            sessions: Sessions::default(),
        });
        // Weak: the authority is part of the services and must not keep them alive.
        let listening = Arc::downgrade(&services);
        services.setup.authority.listen(move || {
            listening.upgrade().map_or(Ok(Acted { connections_cut: 0, nodes: 0 }), |services| services.status_changed())
        });
        services.complete()?;
        Ok(services)
    }

    /// A change of the revocation status is durable: from here on this node refuses, then cuts, and so do all that share
    /// the store. Every commit reads the status itself, so that a failure here leaves reads only.
    fn status_changed(&self) -> Result<Acted, Failure> {
        let connections_cut = self.refresh_status().inspect_err(|failure| {
            tracing::error!(name = %failure.name, "the live revocation status could not be read");
        })?;
        let mut nodes = self.lease.await_others()?;
        if let Some(lender) = &self.lender {
            // What other parties act on are lists: they come first.
            self.setup.authority.publish_lists(&Actor::System { component: "publication".into() })?;
            nodes += lender.await_borrowers(self);
        }
        Ok(Acted { connections_cut, nodes })
    }

    /// Says that this node serves, and acts on what others revoked or put in force.
    pub fn renew_lease(&self) -> Result<(), Failure> {
        self.lease.renew(|| {
            self.refresh_status()?;
            self.refresh_policy()
        })
    }

    /// Puts a role policy in force: durable, then obeyed here, then by every node that shares the store.
    ///
    /// # Errors
    /// As [`Payments::policy_apply`]; `not_effective_yet` when a node has not acted: the policy is recorded.
    pub fn apply_policy(
        &self,
        operator: &OperatorPrincipal,
        document: Value,
        expects: Option<u64>,
    ) -> Result<Value, Failure> {
        let mut answer = self.payments()?.policy_apply(operator, document, expects)?;
        let nodes = self.complete().and_then(|()| self.lease.await_others());
        answer["nodes"] = json!(nodes.map_err(Failure::after_the_fact)?);
        answer["policy_version"] = json!(self.payments()?.rules().policy_version);
        Ok(answer)
    }

    /// Makes the rules anew when another role policy is in force than they were made with.
    fn refresh_policy(&self) -> Result<(), Failure> {
        if self.setup.kind != PartyKind::Bank {
            return Ok(());
        }
        let newest = self.setup.store.policy_line()?.map(|line| line.version);
        if newest == self.known_policy().map(|(version, _)| version) {
            return Ok(());
        }
        // Looked at again and again, without making everything anew for nothing.
        match newest.filter(|newest| self.policy_unreadable() == Some(*newest)) {
            Some(newest) if self.stored_policy(newest)?.is_err() => Ok(()),
            Some(_) | None => self.complete(),
        }
    }

    /// The version of the role policy that is in force and cannot be read here: agents get nothing decided until it can.
    pub fn policy_unreadable(&self) -> Option<u64> {
        self.payments.get().and_then(|payments| payments.rules().policy_unreadable)
    }

    /// What is in force is what was applied, to the byte.
    fn stored_policy(&self, version: u64) -> Result<Result<Policy, Finding>, Failure> {
        let record = self.setup.store.policy(Some(version))?;
        let whole = record.filter(|record| Sha256::of(&[record.document.as_bytes()]) == record.line.sha256);
        Ok(Policy::stored(&whole.map(|record| record.document).unwrap_or_default()))
    }

    fn known_policy(&self) -> Option<(u64, Policy)> {
        self.role_policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The role policy in force. Under one that cannot be read nothing is decided for agents: what was in force before was
    /// replaced.
    fn role_policy(&self, missing: &mut Vec<String>) -> Result<RolePolicy, Failure> {
        let Some(newest) = self.setup.store.policy_line()?.map(|line| line.version) else {
            return Ok(RolePolicy::InForce(None));
        };
        let known = self.known_policy();
        if known.as_ref().is_some_and(|(version, _)| *version >= newest) {
            return Ok(RolePolicy::InForce(known));
        }
        match self.stored_policy(newest)? {
            Ok(policy) => {
                let mut known = self.role_policy.lock().unwrap_or_else(PoisonError::into_inner);
                // Versions only rise, whoever read first.
                if known.as_ref().is_none_or(|(version, _)| *version < newest) {
                    *known = Some((newest, policy));
                }
                Ok(RolePolicy::InForce(known.clone()))
            }
            Err(finding) => {
                let name = finding.flaw.name();
                tracing::error!(name, version = newest, "the role policy in force cannot be read");
                if known.is_none() {
                    let next = "`countersign policy apply` another one";
                    missing.push(format!("a role policy that can be read: version {newest} is {name}; {next}"));
                }
                Ok(RolePolicy::Unreadable(newest, known))
            }
        }
    }

    /// Opens what can be opened now; notes in words what is missing.
    pub fn complete(&self) -> Result<(), Failure> {
        let setup = &self.setup;
        self.responder.forget_signers();
        self.refresh_status()?;
        let mut missing = Vec::new();
        if self.log.get().is_none() {
            match setup.authority.signing_role(Purpose::Checkpoint) {
                Ok(checkpoint) => self.open_log(checkpoint)?,
                Err(_) => missing.push("the party's keys and certificates: run `countersign init`".to_owned()),
            }
        }
        if let Some(log) = self.log.get() {
            log.replace_roles(self.log_roles()?);
            // Without the file the root that was read before goes on counting.
            if let Ok(root) = setup.authority.root_of_party(None) {
                log.trust_witness(root);
            }
        }
        if setup.kind == PartyKind::Bank {
            self.complete_bank(&mut missing)?;
        }
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = missing;
        self.changes.tell();
        Ok(())
    }

    fn open_log(&self, checkpoint: CertifiedKey) -> Result<(), Failure> {
        let setup = &self.setup;
        let log = Log::open(LogSetup {
            store: Arc::clone(&setup.store),
            token: self.token(),
            checkpoint,
            transaction: setup.authority.signing_role(Purpose::Transaction).ok(),
            settings: setup.settings.audit.clone(),
            oid_base: setup.settings.pki.oid_base.clone(),
        })?;
        let log = self.log.get_or_init(|| log);
        if self.goes_on.get().is_some() { log.start() } else { Ok(()) }
    }

    /// Lets the log go on: from here on leaves get their places, and checkpoints are signed. Before that a store that is
    /// older than what others have seen is left as it is.
    ///
    /// # Errors
    /// `thread_failed`
    pub fn begin(&self) -> Result<(), Failure> {
        self.goes_on.get_or_init(|| ());
        // Looked at before the sequencer changes anything.
        let found = self.sign_found();
        self.log.get().map_or(Ok(()), Log::start)?;
        found
    }

    /// Has signed what an earlier run left unsigned: once the log goes on, was found whole, and the witness has agreed, where
    /// there is one.
    fn sign_found(&self) -> Result<(), Failure> {
        let (Some(()), Some(payments), Some(log)) = (self.goes_on.get(), self.payments.get(), self.log.get()) else {
            return Ok(());
        };
        if !payments.keeps_found() || self.cosigning.as_ref().is_some_and(|cosigning| !cosigning.has_agreed()) {
            return Ok(());
        }
        let is_whole = *self.found_whole.get_or_init(|| {
            let found = log.is_whole();
            if let Err(Failure { name, message, .. }) = &found {
                tracing::error!(%name, %message, "the log is not whole: what an earlier run left is not signed");
            }
            found.is_ok()
        });
        if is_whole {
            payments.sign_found();
            payments.recover()?;
        }
        Ok(())
    }

    /// The log's keys as they are now, with those from before each rotation.
    fn log_roles(&self) -> Result<LogRoles, Failure> {
        let authority = &self.setup.authority;
        let mut earlier = authority.role_history(Purpose::Checkpoint)?;
        earlier.extend(authority.role_history(Purpose::Transaction)?);
        let transaction = authority.signing_role(Purpose::Transaction).ok();
        Ok(LogRoles { checkpoint: authority.signing_role(Purpose::Checkpoint)?, transaction, earlier })
    }

    /// Makes the next version of a role's key, has everything that signs use it, then retires the one before.
    pub fn rotate_key(&self, actor: &Actor, purpose: Purpose) -> Result<Value, Failure> {
        if purpose == Purpose::Transaction
            && let Some(payments) = self.payments.get()
            && payments.recover()? > 0
        {
            return Err(Failure::busy(
                "batches_unsigned",
                "posted transactions still wait for their signature: a certificate made now would be younger than they",
                "try again when the HSM answers",
            ));
        }
        self.setup.authority.key_rotate(actor, purpose, || {
            if purpose == Purpose::DataWrapping {
                self.seal()?;
            }
            self.complete()
        })
    }

    /// Seals under the newest wrapping key.
    fn seal(&self) -> Result<(), Failure> {
        let ServicesSetup { store, party, settings, .. } = &self.setup;
        crate::audit::sealing::begin(&**store, &self.token(), party.as_str(), &settings.audit)
    }

    /// Puts the issuing CA that was announced to use.
    pub fn use_issuing(&self, actor: &Actor) -> Result<Value, Failure> {
        self.setup.authority.issuing_use(actor, || self.complete())
    }

    fn complete_bank(&self, missing: &mut Vec<String>) -> Result<(), Failure> {
        let setup = &self.setup;
        match setup.authority.acceptance() {
            Ok(acceptance) => {
                // The same rule stays the same one: agents that are known under it are.
                let mut standing = self.acceptance.write().unwrap_or_else(PoisonError::into_inner);
                if standing.as_ref() != Some(&acceptance) {
                    *standing = Some(acceptance);
                }
            }
            Err(_) => missing.push("the security company's certificates: `countersign trust add`".to_owned()),
        }
        let catalogue = setup.authority.catalogue();
        let end = catalogue.as_ref().ok().and_then(VerifiedCatalogue::valid_until);
        *self.catalogue_end.lock().unwrap_or_else(PoisonError::into_inner) = end;
        let (role_tools, catalogue_version) = match &catalogue {
            Ok(catalogue) => (catalogue.role_tools().clone(), catalogue.version()),
            Err(_) => {
                missing.push("a role catalogue signed by both parties: `countersign catalogue install`".to_owned());
                (BTreeMap::new(), 0)
            }
        };
        self.refresh_token_keys()?;
        if self.token_keys().is_empty() {
            missing.push("the key that signs access tokens: run `countersign init`".to_owned());
        }
        let Some(policy) = &setup.settings.policy else {
            return Ok(());
        };
        let policy = crate::payment::settings::PolicySettings {
            unsigned_approvals: policy.unsigned_approvals.or(Some(setup.operators.may_be_asserted())),
            ..policy.clone()
        };
        let mut made = || -> Result<(Option<u64>, Arc<Rules>), Failure> {
            let (role_policy, policy_unreadable) = match self.role_policy(missing)? {
                RolePolicy::InForce(role_policy) => (role_policy, None),
                RolePolicy::Unreadable(newest, before) => (before, Some(newest)),
            };
            let version = policy_unreadable.or(role_policy.as_ref().map(|(version, _)| *version));
            let rules = crate::payment::rules(
                &policy,
                &setup.settings.payment,
                role_tools.clone(),
                catalogue_version,
                setup.settings.pki.company_crl_required,
                if setup.core.is_some() { Settlement::External } else { Settlement::Embedded },
                role_policy,
            )?;
            Ok((version, Arc::new(Rules { policy_unreadable, ..rules })))
        };
        if let Some(payments) = self.payments.get() {
            loop {
                let (version, rules) = made()?;
                payments.replace_rules(rules);
                // Whoever has made rules with a newer policy meanwhile has seen it in the store before: theirs are not lost.
                if setup.store.policy_line()?.map(|line| line.version) <= version {
                    break;
                }
            }
            payments.replace_transaction_key(setup.authority.signing_role(Purpose::Transaction)?.key);
            return Ok(());
        }
        let (_, rules) = made()?;
        let Ok(transaction) = setup.authority.signing_role(Purpose::Transaction) else {
            return Ok(());
        };
        let payments = Payments::new(PaymentsSetup {
            store: Arc::clone(&setup.store),
            token: self.token(),
            transaction_key: transaction.key,
            rules,
            core: setup.core.clone(),
            limit: Arc::clone(&self.limit),
            guard: Guard::new(setup.settings.breaker.clone(), self.lease.node().clone()),
        });
        payments.keep_found();
        if let Some(watch) = &self.watch {
            payments.watched_by(Arc::clone(watch));
        }
        if let Some(cosigning) = &self.cosigning {
            payments.cosigned_by(Arc::clone(cosigning));
        }
        payments.kept_on(Arc::clone(&setup.space));
        let _ = self.payments.set(payments);
        // Set up while the daemon runs.
        self.sign_found()
    }

    /// The keys whose tokens are taken, newest first.
    pub fn token_keys(&self) -> Arc<[TokenKey]> {
        Arc::clone(&self.token_keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Signs with one of them. Blocking.
    ///
    /// # Errors
    /// The token's.
    pub fn sign_token(&self, key: KeyId, input: SignInput) -> Result<Vec<u8>, Failure> {
        let signed = self.token().sign(key, input);
        if signed.is_err() {
            // Another daemon of this bank may have made the next key and retired this one.
            self.refresh_token_keys()?;
        }
        Ok(signed?)
    }

    /// Looks at the HSM which keys' tokens are taken now.
    pub fn refresh_token_keys(&self) -> Result<(), Failure> {
        let keys = self.setup.authority.token_keys()?.into_iter().map(|key| TokenKey { id: key.id, spki: key.spki });
        *self.token_keys.write().unwrap_or_else(PoisonError::into_inner) = keys.collect();
        Ok(())
    }

    /// Reads what is revoked from the store and cuts every connection that it hits. Answers how many were cut.
    pub fn refresh_status(&self) -> Result<usize, Failure> {
        let look = self.live.look();
        let mut status = self.setup.store.status()?;
        self.heard.add_to(&mut status);
        self.live.replace(&look, status);
        let status = self.live.current();
        Ok(self.connections.cut(|agent| agent.still_acceptable(&status, clock::now()).is_err()))
    }

    pub fn token(&self) -> Arc<dyn Token> {
        Arc::clone(&self.setup.hsm) as Arc<dyn Token>
    }

    /// Pages for people are served under this address from now on.
    pub fn pages_at(&self, base: String) {
        let _ = self.pages.set(base);
    }

    /// The origin at which people sign with passkeys, if the console's address has a host name.
    pub fn console_origin(&self) -> Option<RelyingParty> {
        self.pages.get().and_then(|base| RelyingParty::of(base))
    }

    /// The link that lets somebody in who has this invitation. What is behind the `#` stays in the browser.
    pub fn invitation_link(&self, token: &str) -> String {
        let base = self.pages.get().map_or("https://localhost:8445", String::as_str);
        format!("{base}/enrol#{token}")
    }

    /// Where a person finds what to do about an approval.
    pub fn approval_page(&self, approval: &ApprovalId) -> Option<String> {
        self.pages.get().map(|base| format!("{base}/approvals/{approval}"))
    }

    /// What is missing before agents can be served, in words.
    pub fn missing(&self) -> Vec<String> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn log(&self) -> Result<&Arc<Log>, Failure> {
        self.log.get().ok_or_else(not_set_up)
    }

    pub fn payments(&self) -> Result<&Arc<Payments>, Failure> {
        if self.setup.kind != PartyKind::Bank {
            return Err(Failure::usage(
                "not_a_bank",
                "this daemon does not host a bank",
                "name the bank's state directory",
            ));
        }
        self.payments.get().ok_or_else(not_set_up)
    }

    /// How far this bank's log is cosigned, where it is at all.
    pub fn cosigning(&self) -> Option<&Arc<Cosigning>> {
        self.cosigning.as_ref()
    }

    /// What the witness has seen that this store has not: then nothing is decided here.
    pub fn disagreement(&self) -> Option<Disagreement> {
        self.cosigning.as_ref().and_then(|cosigning| cosigning.disagreement())
    }

    /// The name in every cosignature that is made here.
    pub fn witness_name(&self) -> String {
        let FrontSettings { witness, pki, .. } = &self.setup.settings;
        witness.name.clone().unwrap_or_else(|| format!("{}.{}/witness", self.setup.party, pki.trust_domain))
    }

    /// Ends every agent's connection. Answers how many there were.
    pub fn cut_everybody(&self) -> usize {
        self.connections.cut(|_| true)
    }

    /// Who scores agents' calls, unless nobody does.
    pub fn watching(&self) -> Option<&Arc<Watch>> {
        self.watch.as_ref()
    }

    /// Who scores agents' calls.
    ///
    /// # Errors
    /// `monitor_off`, `not_a_bank`
    pub fn watch(&self) -> Result<&Arc<Watch>, Failure> {
        self.payments()?;
        self.watch.as_ref().ok_or_else(|| {
            Failure::usage("monitor_off", "this bank scores no calls", "set [monitor] mode to observe or enforce")
        })
    }

    /// The acceptance rule on what a peer presented; a refusal is counted by name.
    pub fn accept(&self, presented: &[Vec<u8>]) -> Result<VerifiedAgent, String> {
        let acceptance = self.acceptance.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(acceptance) = acceptance else {
            return Err(self.count_refusal("not_set_up"));
        };
        self.known_pairs
            .accept(presented, &acceptance, &self.live.current(), clock::now())
            .map_err(|refusal| self.count_refusal(refusal.name()))
    }

    /// Whether an accepted agent may still be served: asked again on every request.
    pub fn still_acceptable(&self, agent: &VerifiedAgent) -> Result<(), &'static str> {
        if !self.lease.holds() || !self.limit.holds() {
            return Err("lease_expired");
        }
        if let Some(disagreement) = self.disagreement() {
            return Err(disagreement.name());
        }
        // Reads are recorded, too: what is left belongs to revocations and people.
        if self.setup.space.seen() == Room::Spent {
            return Err("disk_reserved");
        }
        agent.still_acceptable(&self.live.current(), clock::now()).map_err(|refusal| refusal.name())
    }

    /// Counts a handshake that ended without an accepted agent.
    pub fn count_refusal(&self, name: &str) -> String {
        for counts in [&self.refused, &self.refused_total] {
            *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default() += 1;
        }
        name.to_owned()
    }

    /// Refused handshakes by name since the start.
    pub fn refused_handshakes(&self) -> Value {
        json!(*self.refused_total.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What has to be done now and then: a catalogue that has ended gives no tools any more, a policy that could not be read
    /// is looked at again, expired holds go back, old keys are forgotten, refusals are written into one leaf.
    pub fn maintain(&self) -> Result<(), Failure> {
        let end = *self.catalogue_end.lock().unwrap_or_else(PoisonError::into_inner);
        if end.is_some_and(|end| clock::now() >= end) {
            self.complete()?;
        }
        if let Some(payments) = self.payments.get() {
            self.refresh_policy()?;
            self.sign_found()?;
            payments.recover_left()?;
            payments.sweep()?;
            payments.forget_keys()?;
        }
        self.lapse()?;
        let counts = std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner));
        if counts.is_empty() {
            return Ok(());
        }
        let act = Act::Record { tool: "handshakes_refused".into(), decision: json!({ "counts": counts }) };
        let actor = Actor::System { component: "listener".into() };
        self.setup.store.apply(vec![Command { stamp: clock::stamp(clock::fresh_request_id()), actor, act }])?;
        if let Some(log) = self.log.get() {
            log.notify();
        }
        Ok(())
    }

    /// Up to when what leaves say may have had its time, or why no clock is believed; none where nothing has an end.
    ///
    /// # Errors
    /// The store's.
    pub fn retention_time(&self) -> Result<Option<Result<UnixMillis, Doubt>>, Failure> {
        let Some(start) = &self.start else { return Ok(None) };
        match (&self.cosigning, self.log.get()) {
            (Some(_), None) => Ok(Some(Err(Doubt::NotCosigned))),
            (Some(_), Some(log)) => start.time(Some(log)).map(Some),
            (None, _) => start.time(None).map(Some),
        }
    }

    /// Once an hour: destroys data keys whose time is over.
    fn lapse(&self) -> Result<(), Failure> {
        let now = clock::boot_ms();
        if now < self.lapse_at.load(Ordering::Relaxed) {
            return Ok(());
        }
        let lapsed = match self.retention_time()? {
            Some(Ok(time)) => retention::lapse(&*self.setup.store, &self.setup.settings.audit, time)?,
            // `doctor` says it as long as it lasts.
            Some(Err(doubt)) => {
                tracing::warn!(%doubt, "no data key is destroyed, although the time of some may be over");
                0
            }
            None => 0,
        };
        self.lapse_at.store(now.saturating_add(LAPSE_PAUSE_MS), Ordering::Relaxed);
        if lapsed > 0 {
            tracing::info!(keys = lapsed, "data keys whose time was over are destroyed");
            self.log()?.notify();
        }
        Ok(())
    }

    /// Hands the daemon's own parts credentials that are new, or could not be opened before.
    pub fn feed(&self) {
        let hsm = match self.setup.hsm.health().state {
            HsmState::Up | HsmState::Degraded => HsmReached::Yes,
            HsmState::Down | HsmState::Probing => HsmReached::No,
        };
        if self.setup.feed.turn(hsm)
            && let Some(log) = self.log.get()
        {
            log.notify();
        }
    }

    /// Signs the lists that are due, and gives every agent of an unfinished revocation of everyone its own marks.
    pub fn publish(&self) -> Result<(), Failure> {
        let actor = Actor::System { component: "publication".into() };
        let authority = &self.setup.authority;
        if self.live.current().everyone {
            authority.spread_revocation(&actor)?;
            self.refresh_status()?;
        }
        authority.publish_lists(&actor).map(drop)
    }

    /// Joins the threads that were started. Afterwards nothing writes any more.
    pub fn stop(&self) {
        if let Some(log) = self.log.get() {
            log.stop();
        }
    }
}

fn not_set_up() -> Failure {
    Failure::usage(
        "not_set_up",
        "this party has no keys and certificates yet",
        "run `countersign init` for its directory",
    )
}
