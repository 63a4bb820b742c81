//! The bank's side of an issuance that begins without an endorsement: asked for at the security company, over the
//! network, and given up there when nothing comes of it.
//!
//! One file an agent's key, `certs/issuances/<key>.json`, written before the network is used: what was asked under which
//! id is known after any crash, and asking again is harmless.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ca::authority::{Authority, OFFICER};
use crate::ca::enrol::pair_refused;
use crate::ca::files;
use crate::ca::settings::PartyKind;
use crate::hsm::CertifiedKey;
use crate::kernel::command::{Actor, CertificateRecord};
use crate::kernel::credential::certificate::{Certificate, Tbs};
use crate::kernel::credential::operator::SignedApproval;
use crate::kernel::credential::pair::{PairRefusal, VerifiedAgent};
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::credential::profile::Profile;
use crate::kernel::credential::related::binding_of;
use crate::kernel::credential::request::VerifiedRequest;
use crate::kernel::sign::Purpose;
use crate::kernel::types::{AgentName, KeyId, PartyName, RequestId, Serial, Sha256, SpiffeId, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::{Failure, Kind as FailureKind};
use crate::store::CertificatesOf;
use crate::tls::peer::Peer;

/// An endorsement that no certificate followed is given up after this long; a request without an answer is asked about.
const ABANDON_AFTER_MS: i64 = 3_600_000;

/// An issuance under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Issuance {
    request_id: RequestId,
    agent: SpiffeId,
    agent_key: KeyId,
    since_unix_ms: i64,
    state: State,
    /// The approval of the security company's officer, once it endorsed: the same person does not issue.
    #[serde(default)]
    endorsed_by: Option<SignedApproval>,
    /// While the security company has more than one issuing CA: which of them the other halves of our certificates over
    /// this key are by, by serial number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    endorsers: BTreeMap<Serial, Endorser>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Endorser {
    issuer: String,
    /// Our certificate's end: then the note has no use.
    until_unix_ms: i64,
}

impl Issuance {
    fn begun(request_id: RequestId, verified: &VerifiedRequest, state: State) -> Self {
        Self {
            request_id,
            agent: verified.spiffe_id().clone(),
            agent_key: verified.key(),
            since_unix_ms: clock::now().0,
            state,
            endorsed_by: None,
            endorsers: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// Asked, or about to be: the security company may have heard of it.
    Asked,
    /// S was handed out; B waits for the agent's proof.
    Endorsed,
    Issued,
    /// To be given up at the security company.
    Abandoning,
    Abandoned,
}

impl Authority {
    /// How to reach the other party, and until then not at all.
    pub fn reach(&self, peer: impl Peer + 'static) {
        // A second one would be a wiring error of the composition root; the first one stands.
        let _ = self.peer.set(Box::new(peer));
    }

    /// Asks the security company for the endorsement of a request without one. Repeating it asks again under the same
    /// id.
    ///
    /// Answers `{request_id, state: "endorsed", agent, key, endorsement_pem}`.
    ///
    /// # Errors
    /// `endorsement_pending` while no officer of the security company has approved; `peer_not_configured`,
    /// `peer_unreachable`; the security company's refusals; what is wrong with the request or with S.
    pub(super) fn ask_endorsement(&self, verified: &VerifiedRequest, request: &Value) -> Result<Value, Failure> {
        let (agent, key) = (verified.spiffe_id(), verified.key());
        let request_id = id_of(request);
        let issuance = match self.issuance(key)? {
            Some(known) if known.request_id == request_id => known,
            Some(Issuance { state: State::Abandoning, .. }) => {
                return Err(Failure::busy(
                    "issuance_being_abandoned",
                    format!("an earlier issuance for {agent} is being given up at the security company"),
                    "try again in a minute",
                ));
            }
            // Another request over the same key takes the place of what was not finished.
            before => {
                let endorsers = before.map(|before| before.endorsers).unwrap_or_default();
                Issuance { endorsers, ..Issuance::begun(request_id.clone(), verified, State::Asked) }
            }
        };
        if matches!(issuance.state, State::Abandoning | State::Abandoned) {
            return Err(Failure::refused(
                "issuance_abandoned",
                format!("this request for {agent} was given up"),
                "make the request anew with `countersign cert request`",
            ));
        }
        self.write_issuance(&issuance)?;
        let answer = self.ask_peer(Method::PUT, &format!("/v1/endorsements/{request_id}"), Some(request))?;
        match answer["state"].as_str() {
            Some("pending") => {
                return Err(Failure::busy(
                    "endorsement_pending",
                    format!("the security company has the request {request_id}; none of its officers has approved yet"),
                    format!(
                        "there: `countersign cert approve {} --role {} --key {key} --as OFFICER`; then repeat the command",
                        agent.name(),
                        agent.role()
                    ),
                ));
            }
            Some("endorsed") => {}
            Some(_) | None => {
                return Err(Failure::refused(
                    "endorsement_refused",
                    format!("the security company answers {} about {request_id}", answer["state"]),
                    "make the request anew with `countersign cert request`",
                ));
            }
        }
        let text = answer["certificate_pem"].as_str().unwrap_or_default();
        let der =
            pem::decode_one(Kind::Certificate, text).map_err(|_| pair_refused(PairRefusal::EndorsementMalformed))?;
        self.accepted_endorsement(&der, verified, clock::now())?;
        let endorsed_by = approved_there(&answer["approval"], agent, key)?;
        let endorsed_by = Some(endorsed_by);
        self.two_people(endorsed_by.as_ref(), verified)?;
        // The company answers with an S that lasts; one that has its B already is not to be given up for want of one.
        let state = if self.is_bound(&der)? { State::Issued } else { State::Endorsed };
        self.write_issuance(&Issuance { state, endorsed_by, ..issuance })?;
        Ok(json!({
            "request_id": request_id,
            "state": State::Endorsed,
            "agent": agent,
            "key": key,
            "endorsement_pem": text,
        }))
    }

    /// Whether a certificate of ours is bound to this endorsement.
    fn is_bound(&self, endorsement: &[u8]) -> Result<bool, Failure> {
        let hash = Sha256::of(&[endorsement]);
        // Both are over the agent's key.
        let Ok(key) = Certificate::read(endorsement).map(|certificate| certificate.tbs.key()) else {
            return Ok(false);
        };
        let records = self.store.certificates_of(&CertificatesOf::Key(key), UnixMillis(i64::MIN))?;
        Ok(records.iter().any(|record| {
            record.profile == Profile::AgentB.name()
                && record.der.is_some()
                && Tbs::read(&record.tbs).is_ok_and(|tbs| binding_of(&tbs) == Ok(hash))
        }))
    }

    /// Nobody endorses and issues the same agent: the keys of both officers differ, whichever approval stands here and
    /// however long it has.
    fn two_people(&self, endorsed_by: Option<&SignedApproval>, verified: &VerifiedRequest) -> Result<(), Failure> {
        let Some(endorsed_by) = endorsed_by else {
            return Ok(());
        };
        let issuing = match self.standing_approval(verified.spiffe_id(), verified.key(), clock::now()) {
            Ok(issuing) => issuing,
            // Withdrawn since it was looked at.
            Err(failure) if failure.name == "approval_withdrawn" => return Err(failure),
            // In a demo an asserted officer's word was enough; nobody signed here.
            Err(failure) if failure.kind == FailureKind::Refused => return Ok(()),
            Err(failure) => return Err(failure),
        };
        // Whoever made the other party's signature: our own officer's key must not verify it.
        let own = self.officer_spki(&issuing)?;
        if endorsed_by.verify(&endorsed_by.approval.party, &own).is_ok() {
            return Err(Failure::refused(
                "same_person",
                "the same key has endorsed this agent",
                "have another officer issue",
            ));
        }
        Ok(())
    }

    /// B was issued, bound to this S: the issuance over this key is complete. What was given up meanwhile stays so.
    pub(super) fn issuance_done(
        &self,
        verified: &VerifiedRequest,
        request: &Value,
        endorsement: &[u8],
        issued: &CertificateRecord,
    ) -> Result<(), Failure> {
        let known = self.issuance(verified.key())?;
        let note = self.endorser(endorsement)?;
        let mut issuance = match known.clone() {
            Some(issuance) => issuance,
            None if note.is_none() => return Ok(()),
            None => Issuance::begun(id_of(request), verified, State::Issued),
        };
        if matches!(issuance.state, State::Asked | State::Endorsed) {
            issuance.state = State::Issued;
        }
        if let Some(issuer) = note {
            let now = clock::now().0;
            issuance.endorsers.retain(|_, endorser| endorser.until_unix_ms > now);
            let endorser = Endorser { issuer, until_unix_ms: issued.not_after.0 };
            issuance.endorsers.insert(issued.serial.clone(), endorser);
        }
        if known.as_ref() == Some(&issuance) { Ok(()) } else { self.write_issuance(&issuance) }
    }

    /// The issuing CA of an S. With only one that is known here there is nothing to tell apart.
    fn endorser(&self, endorsement: &[u8]) -> Result<Option<String>, Failure> {
        if self.other_issuers()?.len() < 2 {
            return Ok(None);
        }
        let certificate = Certificate::read(endorsement).ok();
        Ok(certificate.and_then(|certificate| certificate.tbs.authority_key_identifier().map(hex::encode)))
    }

    /// By which issuing CA of the security company the other half of this certificate is. `None`: it was not noted.
    pub(super) fn endorser_of(&self, key: KeyId, serial: &Serial) -> Result<Option<String>, Failure> {
        let issuance = self.issuance(key)?;
        Ok(issuance.and_then(|issuance| issuance.endorsers.get(serial).map(|endorser| endorser.issuer.clone())))
    }

    /// Whether B may still follow the endorsement over this request's key, by whom it was approved here.
    pub(super) fn issuance_open(&self, verified: &VerifiedRequest) -> Result<(), Failure> {
        match self.issuance(verified.key())? {
            Some(Issuance { state: State::Abandoning | State::Abandoned, agent, .. }) => Err(Failure::refused(
                "issuance_abandoned",
                format!("the issuance for {agent} was given up: its endorsement is revoked"),
                "make the request anew with `countersign cert request`",
            )),
            Some(issuance) => self.two_people(issuance.endorsed_by.as_ref(), verified),
            None => Ok(()),
        }
    }

    /// Gives the issuances for an agent up that are not complete: the security company revokes their endorsements.
    ///
    /// Answers `{items: [{request_id, agent, key, state}]}`; `abandoning` is said again until the company has heard it.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `unknown_agent`.
    pub fn cert_abandon(&self, actor: &Actor, name: &AgentName) -> Result<Value, Failure> {
        self.recorded(actor, "cert_abandon", &json!({ "name": name }), || {
            self.permit(actor, &[OFFICER])?;
            self.only_for(&[PartyKind::Bank])?;
            let mut open = self.issuances()?;
            open.retain(|issuance| issuance.agent.name() == name && issuance.state != State::Issued);
            if open.is_empty() {
                return Err(Failure::refused(
                    "issuance_unknown",
                    format!("no issuance for {name} is under way"),
                    "see `countersign cert list`; what was issued is revoked with `countersign revoke`",
                ));
            }
            let items: Result<Vec<Value>, Failure> = open.into_iter().map(|issuance| self.abandon(issuance)).collect();
            Ok(json!({ "items": items?, "next": null }))
        })
    }

    /// Gives up what nobody went on with. Called now and then. What was asked and never answered, because this daemon died
    /// or the line did, is asked about once more: whatever was endorsed meanwhile has its time then.
    ///
    /// # Errors
    /// The file system's.
    pub fn abandon_stale(&self) -> Result<usize, Failure> {
        if self.kind != PartyKind::Bank || self.peer.get().is_none() {
            return Ok(0);
        }
        let stale = clock::now().plus_ms(-ABANDON_AFTER_MS).0;
        let mut count = 0;
        for issuance in self.issuances()? {
            let is_stale = issuance.since_unix_ms < stale;
            let tended = match issuance.state {
                State::Endorsed if is_stale => self.abandon(issuance).map(|_| 1),
                State::Abandoning => self.abandon(issuance).map(|_| 1),
                State::Asked if is_stale => self.ask_about(issuance),
                State::Asked | State::Endorsed | State::Issued | State::Abandoned => Ok(0),
            };
            match tended {
                Ok(given_up) => count += given_up,
                // Certificates are being made at this moment, or the company is away: there is a next time.
                Err(failure) if matches!(failure.kind, FailureKind::Busy | FailureKind::Unknown) => {
                    if failure.name != "issuance_in_progress" && failure.name != "issuance_went_on" {
                        break;
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(count)
    }

    /// How a request ended whose answer never came. Answers how many were given up.
    fn ask_about(&self, issuance: Issuance) -> Result<usize, Failure> {
        let asked = self.ask_peer(Method::GET, &format!("/v1/endorsements/{}", issuance.request_id), None);
        let answer = match asked {
            Ok(answer) => answer,
            // It was never heard, or is forgotten: nothing of it is to come any more.
            Err(failure) if failure.name == "request_unknown" => return self.abandon(issuance).map(|_| 1),
            // Refused as it stands; asked about again later.
            Err(failure) if failure.kind == FailureKind::Refused => Value::Null,
            Err(failure) => return Err(failure),
        };
        let (agent, key) = (&issuance.agent, issuance.agent_key);
        let endorsed = match answer["state"].as_str() {
            Some("abandoned") => return self.abandon(issuance).map(|_| 1),
            Some("endorsed") => approved_there(&answer["approval"], agent, key).ok(),
            Some(_) | None => None,
        };
        let text = answer["certificate_pem"].as_str().unwrap_or_default();
        let is_bound = match pem::decode_one(Kind::Certificate, text) {
            Ok(der) => self.is_bound(&der)?,
            Err(_) => false,
        };
        let state = match &endorsed {
            Some(_) if is_bound => State::Issued,
            Some(_) => State::Endorsed,
            None => State::Asked,
        };
        let _turn = self.begin_issuing_to(agent, key)?;
        // It went on meanwhile: that counts.
        if self.issuance(key)?.as_ref() == Some(&issuance) {
            let since_unix_ms = clock::now().0;
            self.write_issuance(&Issuance { state, since_unix_ms, endorsed_by: endorsed, ..issuance })?;
        }
        Ok(0)
    }

    fn abandon(&self, issuance: Issuance) -> Result<Value, Failure> {
        let mut issuance = issuance;
        if issuance.state != State::Abandoned {
            // The mark first: no certificate follows any more, whether or not the company can be told now. It may not fall
            // between somebody's look at it and the certificate that follows; the question may, and takes its time.
            let issuing = self.begin_issuing()?;
            if let Some(now) = self.issuance(issuance.agent_key)?
                && (now.request_id != issuance.request_id || now.state == State::Issued)
            {
                return Err(Failure::busy(
                    "issuance_went_on",
                    format!("the issuance for {} went on meanwhile", issuance.agent),
                    "see `countersign cert list`; what was issued is revoked with `countersign revoke`",
                ));
            }
            issuance.state = State::Abandoning;
            self.write_issuance(&issuance)?;
            drop(issuing);
            match self.ask_peer(Method::DELETE, &format!("/v1/endorsements/{}", issuance.request_id), None) {
                Ok(_) => {
                    issuance.state = State::Abandoned;
                    self.write_issuance(&issuance)?;
                }
                Err(failure) => tracing::warn!(name = %failure.name, "the security company will be told again"),
            }
        }
        let Issuance { request_id, agent, agent_key, state, .. } = issuance;
        Ok(json!({ "request_id": request_id, "agent": agent, "key": agent_key, "state": state }))
    }

    /// An agent that is connected asks for fresh certificates over its own key: the first half, S.
    ///
    /// # Errors
    /// `renewal_not_own`, `approval_missing` once the officer's approval has ended, and what the security company refuses.
    pub fn renewal_begin(&self, agent: &VerifiedAgent, request: &Value) -> Result<Value, Failure> {
        let actor = Actor::Agent(agent.principal().clone());
        self.recorded(&actor, "renewal_begin", &json!({ "request_id": id_of(request) }), || {
            self.only_for(&[PartyKind::Bank])?;
            let verified = self.own_request(agent, request)?;
            self.role_is_known(agent.spiffe_id().role().as_str())?;
            self.may_certify(Profile::AgentB, &agent.spiffe_id().to_string(), agent.key())?;
            self.standing_approval(agent.spiffe_id(), agent.key(), clock::now())?;
            self.ask_endorsement(&verified, request)
        })
    }

    /// The second half, B, for the proof of the fresh S.
    ///
    /// # Errors
    /// `renewal_not_own`, and as [`Self::cert_issue`].
    pub fn renewal_finish(&self, agent: &VerifiedAgent, request: &Value) -> Result<Value, Failure> {
        let actor = Actor::Agent(agent.principal().clone());
        let about = json!({ "request_id": id_of(request) });
        self.refusal_recorded(&actor, "renewal_finish", &about, || {
            self.own_request(agent, request).map(|_| Value::Null)
        })?;
        self.cert_issue(&Actor::System { component: "renewal".into() }, request, None)
    }

    fn own_request(&self, agent: &VerifiedAgent, request: &Value) -> Result<VerifiedRequest, Failure> {
        let verified = self.verify_request_at(request, clock::now())?;
        if verified.key() != agent.key() || verified.spiffe_id() != agent.spiffe_id() {
            return Err(Failure::refused(
                "renewal_not_own",
                "the request is about another agent or another key than the one that is connected",
                "renew each agent over its own connection",
            ));
        }
        Ok(verified)
    }

    /// Asks the security company for the right to serve agents; what is asked and answered is the front's.
    ///
    /// # Errors
    /// `peer_not_configured`, `anchors_missing`, `peer_unreachable`, `peer_answer_unknown`; the company's.
    pub fn ask_for_lease(&self, question: &Value) -> Result<Value, Failure> {
        self.ask_peer(Method::PUT, "/v1/lease", Some(question))
    }

    /// Asks the security company's witness what it remembers of our log (no `question`), or for a cosignature.
    ///
    /// # Errors
    /// As [`Self::ask_for_lease`].
    pub fn ask_witness(&self, question: Option<&Value>) -> Result<Value, Failure> {
        let method = if question.is_some() { Method::POST } else { Method::GET };
        self.ask_peer(method, "/v1/witness", question)
    }

    /// The root (DER) of a party that is trusted here; of the one whose daemon we ask when none is named.
    ///
    /// # Errors
    /// `anchors_missing`
    pub fn root_of_party(&self, party: Option<&PartyName>) -> Result<Vec<u8>, Failure> {
        let mut known = self.known_anchors()?.into_iter();
        let found = known.find(|(name, _)| party.is_none_or(|party| party == name)).map(|(_, anchors)| anchors.root);
        found.ok_or_else(|| {
            Failure::refused(
                "anchors_missing",
                "the other party's root is not known here",
                "run `countersign trust add` with the other party's certificates",
            )
        })
    }

    /// The roots of all other parties that are trusted here, DER.
    ///
    /// # Errors
    /// The file system's.
    pub fn trusted_roots(&self) -> Result<Vec<Vec<u8>>, Failure> {
        Ok(self.known_anchors()?.into_values().map(|anchors| anchors.root).collect())
    }

    /// One question to the other party, by its root and with our own client certificate.
    fn ask_peer(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let peer = self.peer.get().ok_or_else(|| {
            Failure::usage(
                "peer_not_configured",
                "the configuration does not say where the security company's daemon is",
                "set [peer] url, or bring the endorsement as a file: `cert request --endorsement`",
            )
        })?;
        let (root, identity) = self.as_party()?;
        let signer = crate::tls::signer(std::sync::Arc::clone(&self.token), identity.key.id);
        peer.ask(&root, &identity.chain, signer, method, path, body)
    }

    /// Whether the daemon that `[peer]` names answers us within this time: a bank as its party, an agent host as the first
    /// agent that is installed. `None`: none is named, or there is no such agent.
    pub fn peer_answers(&self, within: Duration) -> Option<Result<(), Failure>> {
        let peer = self.peer.get()?;
        let asking = match self.kind {
            PartyKind::AgentHost => self.as_first_agent().transpose()?,
            PartyKind::Bank | PartyKind::SecurityCompany | PartyKind::Operator => self.as_party(),
        };
        Some(asking.and_then(|(root, identity)| {
            let signer = crate::tls::signer(std::sync::Arc::clone(&self.token), identity.key.id);
            peer.answers(&root, &identity.chain, signer, within)
        }))
    }

    /// The other party's root, and what we are for it: our TLS client certificate and its issuing CA.
    fn as_party(&self) -> Result<(Vec<u8>, CertifiedKey), Failure> {
        let root = self.root_of_party(None)?;
        let mut identity = self.signing_role(Purpose::TlsClient)?;
        identity.chain.truncate(2);
        Ok((root, identity))
    }

    fn issuance_file(&self, key: KeyId) -> std::path::PathBuf {
        self.state.certs().join(format!("issuances/{key}.json"))
    }

    fn issuance(&self, key: KeyId) -> Result<Option<Issuance>, Failure> {
        let next_step = "restore the file from a backup";
        let file = self.issuance_file(key);
        let issuance = files::read_json::<Issuance>(&file, "issuance_unreadable", next_step)?;
        if issuance.as_ref().is_some_and(|issuance| issuance.agent_key != key) {
            let message = format!("{} is about another key", file.display());
            return Err(Failure::fault("issuance_unreadable", message, next_step));
        }
        Ok(issuance)
    }

    fn write_issuance(&self, issuance: &Issuance) -> Result<(), Failure> {
        files::write_json(&self.issuance_file(issuance.agent_key), issuance)
    }

    fn issuances(&self) -> Result<Vec<Issuance>, Failure> {
        let names = files::names(&self.state.certs().join("issuances"))?;
        let keys = names.iter().filter_map(|name| Sha256::from_hex(name.strip_suffix(".json")?).ok());
        keys.filter_map(|key| self.issuance(key).transpose()).collect()
    }
}

/// The approval of an officer there, which comes with every endorsement: it must be about this very agent and key. Whose
/// it is, is for that party to know.
fn approved_there(told: &Value, agent: &SpiffeId, key: KeyId) -> Result<SignedApproval, Failure> {
    let approval = serde_json::from_value::<SignedApproval>(told.clone()).ok();
    let about = approval.filter(|signed| signed.covers(agent, key, clock::now()));
    about.ok_or_else(|| {
        Failure::refused(
            "endorsement_unapproved",
            "the security company names no officer's approval for this agent and key",
            "have one of its officers approve: `countersign cert approve` there",
        )
    })
}

/// The id of a request is made from its content: whoever repeats it, after whatever crash, asks under the same one.
fn id_of(request: &Value) -> RequestId {
    let hash = files::content_hash(request);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.0[..16]);
    let id = format!("req_{}", ulid::Ulid::from_bytes(bytes));
    id.parse().expect("any 128 bits are a ULID")
}
