//! An agent's way to its pair: asked at the agent host, endorsed by the security company, issued by the bank,
//! installed at the agent host.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority, OFFICER};
use crate::ca::build::{self, AgentPlan};
use crate::ca::issue::Wish;
use crate::ca::settings::PartyKind;
use crate::ca::setup::released;
use crate::ca::show::described;
use crate::hsm::KeyInfo;
use crate::kernel::command::{Actor, CertificateRecord};
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::chain::{PartyAnchors, issuer_of};
use crate::kernel::credential::custody::{self, CustodyStatement, STATEMENT_SCHEMA, SignedCustody, StatedAttributes};
use crate::kernel::credential::pair::{Acceptance, PairRefusal, PeerChains, VerifiedAgent, accept, accept_endorsement};
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::credential::profile::Profile;
use crate::kernel::credential::related::{self, RequesterCertificate, binding_of};
use crate::kernel::credential::request::{self, RequestRefusal, VerifiedRequest};
use crate::kernel::sign::{Purpose, SignInput};
use crate::kernel::status::{CustodyLevel, StatusSnapshot};
use crate::kernel::types::{AgentName, RoleName, Sha256, SpiffeId};
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
            let _issuing = self.begin_issuing()?;
            let host = self.host_key()?;
            let spiffe_id = SpiffeId::new(&self.pki.trust_domain, role.clone(), name.clone())
                .map_err(|error| Failure::usage("config_invalid", error.to_string(), "correct pki.trust_domain"))?;
            let key = self.key_or_new(Purpose::Agent, Some(name.as_str()))?;
            let related = match endorsement_pem {
                None => None,
                Some(text) => Some(self.prove_endorsement(text, &key, &spiffe_id)?),
            };
            let info = build::request_info(&key.spki, &spiffe_id, related.as_ref())?;
            let signature = self.token.sign(key.id, SignInput::CertificationRequest { info: info.clone() })?;
            let request = AgentRequest {
                schema: AGENT_REQUEST_SCHEMA.to_owned(),
                name: name.clone(),
                role: role.clone(),
                csr_pem: pem::encode(Kind::Request, &build::assemble(&info, &key.spki, &signature)?),
                custody: self.state_custody(&key, &host)?,
            };
            Ok(json!(request))
        })
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
            .check_certificate(&certificate, &self.base)
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
    pub fn cert_endorse(&self, actor: &Actor, request: &Value) -> Result<Value, Failure> {
        self.recorded(actor, "cert_endorse", &about(request), || {
            self.permit(actor, &[OFFICER])?;
            self.only_for(&[PartyKind::SecurityCompany])?;
            let _issuing = self.begin_issuing()?;
            let verified = self.verify_request(request)?;
            let spiffe_id = verified.spiffe_id().clone();
            self.role_is_known(spiffe_id.role().as_str())?;
            self.may_certify(Profile::AgentS, &spiffe_id.to_string(), verified.key())?;
            let plan = AgentPlan { spiffe_id, custody: CustodyLevel::CustodyStated, bound_to: None };
            let wish = self.agent_wish(Profile::AgentS, &verified, plan)?;
            let record = self.certificate_for(actor, &wish, |_| true)?;
            issued(&record)
        })
    }

    /// The bank issues an agent's certificate B, after everything about its endorsement S was verified. The same
    /// S again answers the same B while it lasts. B ends with S at the latest.
    ///
    /// Answers as [`Self::cert_endorse`].
    ///
    /// # Errors
    /// As [`Self::cert_endorse`], and the endorsement's names of [`PairRefusal`].
    pub fn cert_issue(&self, actor: &Actor, request: &Value) -> Result<Value, Failure> {
        self.recorded(actor, "cert_issue", &about(request), || {
            self.permit(actor, &[OFFICER])?;
            self.only_for(&[PartyKind::Bank])?;
            let _issuing = self.begin_issuing()?;
            let now = clock::now();
            let verified = self.verify_request(request)?;
            let endorsement = verified.endorsement(now).map_err(request_refused)?;
            let acceptance = self.acceptance()?;
            let endorsed =
                accept_endorsement(&endorsement, &acceptance, &self.store.status()?, now).map_err(pair_refused)?;
            if endorsed.key() != verified.key() {
                return Err(pair_refused(PairRefusal::KeyMismatch));
            }
            if endorsed.spiffe_id() != verified.spiffe_id() {
                return Err(pair_refused(PairRefusal::IdentityMismatch));
            }
            let spiffe_id = verified.spiffe_id().clone();
            self.may_certify(Profile::AgentB, &spiffe_id.to_string(), verified.key())?;
            let bound_to = endorsed.fingerprint();
            let plan = AgentPlan { spiffe_id, custody: CustodyLevel::CustodyStated, bound_to: Some(bound_to) };
            let mut wish = self.agent_wish(Profile::AgentB, &verified, plan)?;
            wish.life_ms = wish.life_ms.min(endorsed.not_after().0 - now.0);
            let record = self.certificate_for(actor, &wish, |tbs| binding_of(tbs) == Ok(bound_to))?;
            issued(&record)
        })
    }

    /// What both parties ask of a request: its signature, its identity, its custody statement.
    fn verify_request(&self, request: &Value) -> Result<VerifiedRequest, Failure> {
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
        custody::verify(&read.custody, &self.enrolled_hosts()?, verified.spki(), clock::now()).map_err(|refusal| {
            Failure::refused(
                refusal.name(),
                refusal.to_string(),
                "enrol the agent host with `countersign host enrol`, or make the request anew there",
            )
        })?;
        Ok(verified)
    }

    fn agent_wish(&self, profile: Profile, verified: &VerifiedRequest, plan: AgentPlan) -> Result<Wish, Failure> {
        let (issuing, _) = self.own_authority()?;
        Ok(Wish {
            profile,
            subject: plan.spiffe_id.to_string(),
            organization: None,
            common_name: plan.spiffe_id.name().to_string(),
            spki: verified.spki().to_vec(),
            life_ms: i64::from(self.pki.agent_life_hours) * 3_600_000,
            agent: Some(plan),
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
            // B last: a pair counts once both files are there, and an old S with a new B would not be bound.
            let directory = format!("agents/{name}");
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
        })
    }

    /// The acceptance rule, with the anchors that this host knows; revocation is for the bank to know.
    fn verify_pair(&self, bank: &[u8], endorsement: &[u8]) -> Result<VerifiedAgent, Failure> {
        let known = self.known_anchors()?;
        let issuer = |der: &[u8]| -> Option<PartyAnchors> {
            let certificate = Certificate::read(der).ok()?;
            known.values().find(|anchors| issuer_of(&certificate, anchors).is_some()).cloned()
        };
        let missing = |whose: &str| {
            Failure::refused(
                "anchors_missing",
                format!("the issuer of the {whose} is not trusted here"),
                "run `countersign trust add` for the bank and for the security company",
            )
        };
        let bank_anchors = issuer(bank).ok_or_else(|| missing("bank's certificate"))?;
        let company_anchors = issuer(endorsement).ok_or_else(|| missing("endorsement"))?;
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

fn issued(record: &CertificateRecord) -> Result<Value, Failure> {
    let der = released(record)?;
    let mut answer = described(&der);
    answer["profile"] = json!(record.profile);
    answer["subject"] = json!(record.subject);
    Ok(answer)
}

/// What a leaf says about a request: names as claimed, and the hash of the whole.
fn about(request: &Value) -> Value {
    json!({
        "name": request.get("name"),
        "role": request.get("role"),
        "request_sha256": Sha256::of(&[request.to_string().as_bytes()]),
    })
}

fn request_refused(refusal: RequestRefusal) -> Failure {
    Failure::refused(refusal.name(), refusal.to_string(), "make the request anew with `countersign cert request`")
}

pub(super) fn pair_refused(refusal: PairRefusal) -> Failure {
    let next_step = match refusal {
        PairRefusal::EndorsementStatusMissing | PairRefusal::EndorsementStatusStale => {
            "import a fresh list with `countersign crl import`"
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
