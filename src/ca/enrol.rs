//! An agent's way to its pair: asked at the agent host, endorsed by the security company, issued by the bank,
//! installed at the agent host.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority, OFFICER, leaf};
use crate::ca::build::{self, AgentPlan};
use crate::ca::files;
use crate::ca::issue::Wish;
use crate::ca::operators;
use crate::ca::settings::PartyKind;
use crate::ca::setup::released;
use crate::ca::show::described;
use crate::hsm::KeyInfo;
use crate::kernel::command::{Act, Actor, CertificateRecord};
use crate::kernel::credential::certificate::{Certificate, Tbs};
use crate::kernel::credential::chain::{PartyAnchors, issuer_of};
use crate::kernel::credential::custody::{self, CustodyStatement, STATEMENT_SCHEMA, SignedCustody, StatedAttributes};
use crate::kernel::credential::operator::SignedApproval;
use crate::kernel::credential::pair::{
    Acceptance, PairRefusal, PeerChains, VerifiedAgent, VerifiedEndorsement, accept, accept_endorsement,
};
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::credential::profile::Profile;
use crate::kernel::credential::related::{self, RequesterCertificate, binding_of};
use crate::kernel::credential::request::{self, RequestRefusal, VerifiedRequest};
use crate::kernel::sign::{Purpose, SignInput};
use crate::kernel::status::{CustodyLevel, StatusSnapshot};
use crate::kernel::types::{AgentName, RoleName, SpiffeId, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;

pub const AGENT_REQUEST_SCHEMA: &str = "countersign/agent-request/v1";

/// What travels from the agent host to the security company, and with the endorsement inside to the bank.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRequest {
    pub schema: String,
    /// For people to read: what counts is the SPIFFE ID that the request signs.
    pub name: AgentName,
    pub role: RoleName,
    /// PKCS#10, with `relatedCertRequest` when it is for the bank.
    pub csr_pem: String,
    pub custody: SignedCustody,
}

impl Authority {
    /// Makes a request for an agent: for the security company, or with its endorsement for the bank. The agent's
    /// key is generated in the token on first use. Answers the [`AgentRequest`].
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `party_not_initialised`, `endorsement_mismatch`,
    /// `custody_attributes_unsound`, the token's.
    pub fn cert_request(
        &self,
        actor: &Actor,
        name: &AgentName,
        role: &RoleName,
        endorsement_pem: Option<&str>,
    ) -> Result<Value, Failure> {
        let stage = if endorsement_pem.is_some() { "bank" } else { "security company" };
        self.recorded(actor, "cert_request", &json!({ "name": name, "role": role, "for": stage }), || {
            self.permit(actor, &[ADMINISTRATOR, OFFICER])?;
            self.only_for(&[PartyKind::AgentHost])?;
            self.host_key()?;
            let spiffe_id = SpiffeId::new(&self.pki.trust_domain, role.clone(), name.clone())
                .map_err(|error| Failure::usage("config_invalid", error.to_string(), "correct pki.trust_domain"))?;
            let _issuing = self.making.about(vec![name.to_string()])?;
            let key = self.key_or_new(Purpose::Agent, Some(name.as_str()))?;
            self.request_for(&spiffe_id, &key, endorsement_pem)
        })
    }

    /// A fresh [`AgentRequest`] over a key of the token.
    pub(super) fn request_for(
        &self,
        agent: &SpiffeId,
        key: &KeyInfo,
        endorsement_pem: Option<&str>,
    ) -> Result<Value, Failure> {
        let related = match endorsement_pem {
            None => None,
            Some(text) => Some(self.prove_endorsement(text, key, agent)?),
        };
        let info = build::request_info(&key.spki, agent, related.as_ref())?;
        let signature = self.token.sign(key.id, SignInput::CertificationRequest { info: info.clone() })?;
        Ok(json!(AgentRequest {
            schema: AGENT_REQUEST_SCHEMA.to_owned(),
            name: agent.name().clone(),
            role: agent.role().clone(),
            csr_pem: pem::encode(Kind::Request, &build::assemble(&info, &key.spki, &signature)?),
            custody: self.state_custody(key, &self.host_key()?)?,
        }))
    }

    /// The RFC 9763 proof that this agent's key holds the endorsement.
    fn prove_endorsement(
        &self,
        endorsement_pem: &str,
        key: &KeyInfo,
        spiffe_id: &SpiffeId,
    ) -> Result<RequesterCertificate, Failure> {
        let mismatch = |why: &str| {
            Failure::refused(
                "endorsement_mismatch",
                why.to_owned(),
                "give the endorsement that the security company issued for this agent's request",
            )
        };
        let der = pem::decode_one(Kind::Certificate, endorsement_pem).map_err(|error| mismatch(&error.to_string()))?;
        let certificate = Certificate::read(&der).map_err(|error| mismatch(&error.to_string()))?;
        let facts = Profile::AgentS
            .check_presented(&certificate, &self.base)
            .map_err(|rule| mismatch(&format!("the endorsement breaks its profile: {rule}")))?;
        if facts.key != key.id {
            return Err(mismatch("the endorsement is over another key than this agent's"));
        }
        if facts.agent.is_none_or(|(endorsed, _)| endorsed != *spiffe_id) {
            return Err(mismatch("the endorsement names another agent or role"));
        }
        let cert_id = related::encode_cert_id(certificate.tbs.issuer, certificate.tbs.serial);
        let request_time = related::encode_binary_time(clock::now());
        let proof = SignInput::RelatedCertRequest { cert_id: cert_id.clone(), request_time: request_time.clone() };
        let signature = self.token.sign(key.id, proof)?;
        Ok(RequesterCertificate { cert_id, request_time, location: related::data_uri(&der), signature })
    }

    /// The host's statement about a key of its token.
    fn state_custody(&self, key: &KeyInfo, host: &KeyInfo) -> Result<SignedCustody, Failure> {
        let custody = key.custody;
        let statement = CustodyStatement {
            schema: STATEMENT_SCHEMA.to_owned(),
            agent_key: key.id,
            spki: BASE64_STANDARD.encode(&key.spki),
            attributes: StatedAttributes {
                sensitive: custody.sensitive,
                always_sensitive: custody.always_sensitive,
                never_extractable: custody.never_extractable,
                extractable: custody.extractable,
                local: custody.local,
            },
            token_serial: self.token.describe()?.serial,
            host_key: host.id,
            at_unix_ms: clock::now().0.to_string(),
        };
        let input = statement
            .sign_input()
            .map_err(|refusal| Failure::fault(refusal.name(), refusal.to_string(), "report this as a defect"))?;
        let signature = BASE64_STANDARD.encode(self.token.sign(host.id, input)?);
        Ok(SignedCustody { statement, signature })
    }

    /// The security company endorses an agent: certificate S. The same request again answers the same S while it
    /// lasts.
    ///
    /// Answers `{profile, subject, serial, issuer, key, fingerprint, not_before, not_after, certificate_pem}`.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, the names of [`RequestRefusal`] and of the custody refusals,
    /// `wrong_trust_domain`, `role_unknown`, `agent_revoked`, `agent_name_taken`, `issuance_in_progress`.
    pub fn cert_endorse(
        &self,
        actor: &Actor,
        request: &Value,
        approval: Option<&SignedApproval>,
    ) -> Result<Value, Failure> {
        let about = about(request, approval);
        self.refusal_recorded(actor, "cert_endorse", &about, || {
            self.permit(actor, &[OFFICER])?;
            self.only_for(&[PartyKind::SecurityCompany])?;
            let verified = self.verify_request_at(request, clock::now())?;
            let _issuing = self.begin_issuing_to(verified.spiffe_id(), verified.key())?;
            let until = self.approved(actor, &verified, approval)?;
            let accepted = leaf("cert_endorse", "accepted", &about);
            issued(&self.endorsement_of(actor, &verified, until, Some(accepted))?)
        })
    }

    /// S of a request: what an earlier attempt journalled, or a new one, with a leaf about it.
    pub(super) fn endorsement_of(
        &self,
        actor: &Actor,
        verified: &VerifiedRequest,
        until: Option<UnixMillis>,
        leaf: Option<Act>,
    ) -> Result<CertificateRecord, Failure> {
        let spiffe_id = verified.spiffe_id().clone();
        self.role_is_known(spiffe_id.role().as_str())?;
        self.may_certify(Profile::AgentS, &spiffe_id.to_string(), verified.key())?;
        let plan = AgentPlan { spiffe_id, custody: CustodyLevel::CustodyStated, bound_to: None };
        let wish = self.agent_wish(Profile::AgentS, verified, plan, until)?;
        self.certificate_with(actor, &wish, leaf, |_| true)
    }

    /// S as the bank accepts it: its path, its status, and that it is over this request's key and for its agent.
    pub(super) fn accepted_endorsement(
        &self,
        endorsement: &[u8],
        verified: &VerifiedRequest,
        now: UnixMillis,
    ) -> Result<VerifiedEndorsement, Failure> {
        let acceptance = self.acceptance()?;
        let endorsed =
            accept_endorsement(endorsement, &acceptance, &self.store.status()?, now).map_err(pair_refused)?;
        if endorsed.key() != verified.key() {
            return Err(pair_refused(PairRefusal::KeyMismatch));
        }
        if endorsed.spiffe_id() != verified.spiffe_id() {
            return Err(pair_refused(PairRefusal::IdentityMismatch));
        }
        Ok(endorsed)
    }

    /// The bank issues an agent's certificate B, after everything about its endorsement S was verified. The same
    /// S again answers the same B while it lasts. B ends with S at the latest.
    ///
    /// A request without an endorsement has the security company asked for one, when the configuration says where: then
    /// the answer is `{request_id, state: "endorsed", agent, key, endorsement_pem}`.
    ///
    /// Answers as [`Self::cert_endorse`].
    ///
    /// # Errors
    /// As [`Self::cert_endorse`], the endorsement's names of [`PairRefusal`], and `endorsement_pending`,
    /// `peer_unreachable`, …
    pub fn cert_issue(
        &self,
        actor: &Actor,
        request: &Value,
        approval: Option<&SignedApproval>,
    ) -> Result<Value, Failure> {
        let about = about(request, approval);
        self.refusal_recorded(actor, "cert_issue", &about, || {
            self.permit(actor, &[OFFICER])?;
            self.only_for(&[PartyKind::Bank])?;
            let now = clock::now();
            let verified = self.verify_request_at(request, now)?;
            self.role_is_known(verified.spiffe_id().role().as_str())?;
            let _issuing = self.begin_issuing_to(verified.spiffe_id(), verified.key())?;
            if !verified.is_endorsed() && self.peer.get().is_some() {
                self.may_certify(Profile::AgentB, &verified.spiffe_id().to_string(), verified.key())?;
                self.approved(actor, &verified, approval)?;
                let answer = self.ask_endorsement(&verified, request)?;
                self.apply(actor, leaf("cert_issue", "done", &about))?;
                return Ok(answer);
            }
            let endorsement = verified.endorsement(now).map_err(request_refused)?;
            let endorsed = self.accepted_endorsement(&endorsement, &verified, now)?;
            let spiffe_id = verified.spiffe_id().clone();
            self.may_certify(Profile::AgentB, &spiffe_id.to_string(), verified.key())?;
            let until = self.approved(actor, &verified, approval)?;
            self.issuance_open(&verified)?;
            let bound_to = endorsed.fingerprint();
            let plan = AgentPlan { spiffe_id, custody: CustodyLevel::CustodyStated, bound_to: Some(bound_to) };
            let mut wish = self.agent_wish(Profile::AgentB, &verified, plan, until)?;
            wish.life_ms = wish.life_ms.min(endorsed.not_after().0 - now.0);
            let accepted = leaf("cert_issue", "accepted", &about);
            let bound = |tbs: &Tbs<'_>| binding_of(tbs) == Ok(bound_to);
            let record = self.certificate_with(actor, &wish, Some(accepted), bound)?;
            self.issuance_done(&verified, request, &endorsement, &record)?;
            issued(&record)
        })
    }

    /// What both parties ask of a request: its signature, its identity, its custody statement.
    pub(super) fn verify_request_at(&self, request: &Value, at: UnixMillis) -> Result<VerifiedRequest, Failure> {
        let malformed = |why: String| {
            Failure::refused(
                RequestRefusal::Malformed.name(),
                format!("the request cannot be read: {why}"),
                "take the output of `countersign cert request` as it is",
            )
        };
        let read: AgentRequest =
            serde_json::from_value(request.clone()).map_err(|error| malformed(error.to_string()))?;
        if read.schema != AGENT_REQUEST_SCHEMA {
            return Err(malformed(format!("its schema is not {AGENT_REQUEST_SCHEMA}")));
        }
        let csr = pem::decode_one(Kind::Request, &read.csr_pem).map_err(|error| malformed(error.to_string()))?;
        let verified = request::verify(&csr).map_err(request_refused)?;
        let spiffe_id = verified.spiffe_id();
        if *spiffe_id.name() != read.name || *spiffe_id.role() != read.role {
            return Err(request_refused(RequestRefusal::Identity));
        }
        if spiffe_id.trust_domain() != self.pki.trust_domain {
            return Err(pair_refused(PairRefusal::WrongTrustDomain));
        }
        custody::verify(&read.custody, &self.enrolled_hosts()?, verified.spki(), at).map_err(|refusal| {
            Failure::refused(
                refusal.name(),
                refusal.to_string(),
                "enrol the agent host with `countersign host enrol`, or make the request anew there",
            )
        })?;
        Ok(verified)
    }

    /// Until when an officer lets this request's agent be certified: by the approval that comes with it, or by one that
    /// stands. In a demo an asserted officer's word is enough, and the record says that it was asserted; it is no answer to
    /// an approval that was withdrawn.
    fn approved(
        &self,
        actor: &Actor,
        verified: &VerifiedRequest,
        approval: Option<&SignedApproval>,
    ) -> Result<Option<UnixMillis>, Failure> {
        let now = clock::now();
        let (agent, key) = (verified.spiffe_id(), verified.key());
        if let Some(signed) = approval {
            self.approve_agent(signed)?;
        }
        match self.standing_approval(agent, key, now) {
            Ok(standing) => Ok(Some(standing.approval.span().map_err(operators::refused)?.1)),
            Err(failure) if failure.name == "approval_withdrawn" => Err(failure),
            Err(_) if matches!(actor, Actor::Operator(operator) if operator.asserted) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn agent_wish(
        &self,
        profile: Profile,
        verified: &VerifiedRequest,
        plan: AgentPlan,
        until: Option<UnixMillis>,
    ) -> Result<Wish, Failure> {
        let (issuing, _) = self.own_authority()?;
        let life_ms = i64::from(self.pki.agent_life_hours) * 3_600_000;
        let left_ms = until.map_or(life_ms, |until| until.0 - clock::now().0);
        Ok(Wish {
            profile,
            subject: plan.spiffe_id.to_string(),
            organization: None,
            common_name: plan.spiffe_id.name().to_string(),
            spki: verified.spki().to_vec(),
            life_ms: life_ms.min(left_ms),
            agent: Some(plan),
            operator: None,
            server_names: Vec::new(),
            issuer: Some(issuing.der),
        })
    }

    /// Checks a pair as the bank will, as far as this host can, and puts it where the bridge finds it.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `anchors_missing`, `agent_key_missing`, and the names of
    /// [`PairRefusal`].
    pub fn cert_install(
        &self,
        actor: &Actor,
        name: &AgentName,
        bank_pem: &str,
        endorsement_pem: &str,
    ) -> Result<Value, Failure> {
        self.recorded(actor, "cert_install", &json!({ "name": name }), || {
            self.permit(actor, &[ADMINISTRATOR, OFFICER])?;
            self.only_for(&[PartyKind::AgentHost])?;
            self.install(name, bank_pem, endorsement_pem)
        })
    }

    /// Judges a pair and puts it where the bridge finds it.
    pub(super) fn install(&self, name: &AgentName, bank_pem: &str, endorsement_pem: &str) -> Result<Value, Failure> {
        let decode = |text: &str| {
            pem::decode_one(Kind::Certificate, text).map_err(|error| {
                Failure::refused("certificate_malformed", error.to_string(), "give one certificate in each file")
            })
        };
        let (bank, endorsement) = (decode(bank_pem)?, decode(endorsement_pem)?);
        let agent = self.verify_pair(&bank, &endorsement)?;
        if agent.spiffe_id().name() != name {
            return Err(pair_refused(PairRefusal::IdentityMismatch));
        }
        let keys = self.token.keys()?;
        if !keys.iter().any(|key| key.id == agent.key() && key.agent.as_deref() == Some(name.as_str())) {
            return Err(Failure::refused(
                "agent_key_missing",
                format!("the pair's key is not the token's key of agent {name}"),
                "install the pair at the host that made the request",
            ));
        }
        // One file, replaced whole: at every moment the pair that is found is bound.
        let directory = format!("agents/{name}");
        self.write_certificates(&format!("{directory}/pair.pem"), &[&bank, &endorsement])?;
        // For people and other programs.
        self.write_certificates(&format!("{directory}/endorsement.pem"), &[&endorsement])?;
        self.write_certificates(&format!("{directory}/bank.pem"), &[&bank])?;
        Ok(json!({
            "name": name,
            "spiffe_id": agent.spiffe_id(),
            "key": agent.key(),
            "not_after": agent.not_after().rfc3339(),
            "custody": agent.custody(),
            "fingerprints": agent.fingerprints(),
        }))
    }

    /// The anchors under which a certificate was issued, of whichever party.
    pub(super) fn issuer_anchors(&self, der: &[u8], whose: &str) -> Result<PartyAnchors, Failure> {
        let known = self.known_anchors()?;
        let certificate = Certificate::read(der).ok();
        let found = certificate
            .and_then(|certificate| known.into_values().find(|anchors| issuer_of(&certificate, anchors).is_some()));
        found.ok_or_else(|| {
            Failure::refused(
                "anchors_missing",
                format!("the issuer of the {whose} is not trusted here"),
                "run `countersign trust add` for the bank and for the security company",
            )
        })
    }

    /// The acceptance rule, with the anchors that this host knows; revocation is for the bank to know.
    fn verify_pair(&self, bank: &[u8], endorsement: &[u8]) -> Result<VerifiedAgent, Failure> {
        let bank_anchors = self.issuer_anchors(bank, "bank's certificate")?;
        let company_anchors = self.issuer_anchors(endorsement, "endorsement")?;
        if bank_anchors.root == company_anchors.root {
            return Err(pair_refused(PairRefusal::EndorsementIssuerUntrusted));
        }
        let acceptance = Acceptance {
            custody_min: CustodyLevel::CustodyStated,
            company_crl_required: false,
            ..self.acceptance_of(bank_anchors, company_anchors)
        };
        let peer = PeerChains { presented: vec![bank.to_vec(), endorsement.to_vec()] };
        accept(&peer, &acceptance, &StatusSnapshot::default(), clock::now()).map_err(pair_refused)
    }
}

pub(super) fn issued(record: &CertificateRecord) -> Result<Value, Failure> {
    let der = released(record)?;
    let mut answer = described(&der);
    answer["profile"] = json!(record.profile);
    answer["subject"] = json!(record.subject);
    Ok(answer)
}

/// What a leaf says about a request: names as claimed, the hash of the whole, and the officer's approval.
fn about(request: &Value, approval: Option<&SignedApproval>) -> Value {
    json!({
        "name": request.get("name"),
        "role": request.get("role"),
        "approval": approval,
        "request_sha256": files::content_hash(request),
    })
}

fn request_refused(refusal: RequestRefusal) -> Failure {
    Failure::refused(refusal.name(), refusal.to_string(), "make the request anew with `countersign cert request`")
}

pub(super) fn pair_refused(refusal: PairRefusal) -> Failure {
    let next_step = match refusal {
        PairRefusal::EndorsementStatusMissing | PairRefusal::EndorsementStatusStale => {
            "import a fresh list with `countersign crl import`, or set [pki] company_pki_url to have it fetched"
        }
        PairRefusal::BankIssuerUntrusted | PairRefusal::EndorsementIssuerUntrusted => "see `countersign trust add`",
        PairRefusal::NoCertificate
        | PairRefusal::TooManyCertificates
        | PairRefusal::BankCertificateMissing
        | PairRefusal::EndorsementMissing
        | PairRefusal::BankCertificateMalformed
        | PairRefusal::BankSignatureInvalid
        | PairRefusal::BankProfileViolated(_)
        | PairRefusal::BankNotYetValid
        | PairRefusal::BankExpired
        | PairRefusal::BankChainInvalid
        | PairRefusal::BindingDraftOid
        | PairRefusal::BindingMissing
        | PairRefusal::BindingDuplicate
        | PairRefusal::BindingMalformed
        | PairRefusal::EndorsementMalformed
        | PairRefusal::EndorsementSignatureInvalid
        | PairRefusal::EndorsementProfileViolated(_)
        | PairRefusal::EndorsementNotYetValid
        | PairRefusal::EndorsementExpired
        | PairRefusal::EndorsementChainInvalid
        | PairRefusal::BindingHashMismatch
        | PairRefusal::KeyMismatch
        | PairRefusal::IdentityMismatch
        | PairRefusal::WrongTrustDomain
        | PairRefusal::CustodyInsufficient
        | PairRefusal::AgentRevoked
        | PairRefusal::KeyRevoked
        | PairRefusal::BankCertificateRevoked
        | PairRefusal::BankIssuerRevoked
        | PairRefusal::EndorsementRevoked
        | PairRefusal::EndorsementIssuerRevoked
        | PairRefusal::AgentFrozen => "see `countersign cert verify`, or enrol the agent anew",
    };
    Failure::refused(refusal.name(), refusal.to_string(), next_step)
}
