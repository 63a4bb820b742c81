//! People with keys of their own: their tokens, their enrolment at a party, what they approve.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority, OFFICER};
use crate::ca::build::OperatorPlan;
use crate::ca::files;
use crate::ca::issue::Wish;
use crate::ca::making::Turn;
use crate::ca::settings::PartyKind;
use crate::ca::setup::{DAY_MS, released};
use crate::hsm::KeyInfo;
use crate::kernel::command::{Actor, OperatorPrincipal};
use crate::kernel::credential::chain::verify_leaf;
use crate::kernel::credential::operator::{
    APPROVAL_SCHEMA, AgentApproval, HORIZON_MS, OperatorRefusal, OperatorRequest, REQUEST_SCHEMA, SignedApproval,
    SignedRequest,
};
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::credential::profile::{Facts, Profile};
use crate::kernel::quorum::OWNER;
use crate::kernel::sign::Purpose;
use crate::kernel::status::StatusSnapshot;
use crate::kernel::types::{KeyId, OperatorName, OwnerId, PartyName, SpiffeId, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// What an operator may be enrolled as.
pub const ROLES: [&str; 5] = [OFFICER, "approver", "auditor", ADMINISTRATOR, OWNER];

/// A person whom this party has enrolled: `anchors/operator-<name>.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EnrolledOperator {
    pub name: OperatorName,
    pub roles: Vec<String>,
    pub key: KeyId,
    pub token_serial: String,
    /// The certificate that this party issued, base64 DER.
    pub certificate: String,
    /// The bank's name for the customer that the person is: with the role `owner`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerId>,
    /// Those before it over the same key: what was approved under one of them goes on standing.
    #[serde(default)]
    pub earlier: Vec<String>,
}

impl Authority {
    /// This operator's request to be enrolled, signed by the key in the token.
    ///
    /// # Errors
    /// `not_this_party`, `party_not_initialised`, the token's.
    pub fn operator_show(&self, actor: &Actor) -> Result<Value, Failure> {
        self.recorded(actor, "operator_request", &json!({}), || {
            self.only_for(&[PartyKind::Operator])?;
            let key = self.operator_key()?;
            let request = OperatorRequest {
                schema: REQUEST_SCHEMA.to_owned(),
                name: self.operator_name()?,
                key: key.id,
                spki: BASE64_STANDARD.encode(&key.spki),
                token_serial: self.token.describe()?.serial,
                at_unix_ms: clock::now().0.to_string(),
            };
            let input = request.sign_input().map_err(refused)?;
            let signature = BASE64_STANDARD.encode(self.token.sign(key.id, input)?);
            Ok(json!(SignedRequest { request, signature }))
        })
    }

    /// Signs that `party` may certify an agent over a key until then.
    ///
    /// # Errors
    /// `not_this_party`, `approval_horizon`, the token's.
    pub fn approval_sign(
        &self,
        actor: &Actor,
        party: PartyName,
        agent: SpiffeId,
        agent_key: KeyId,
        days: u32,
    ) -> Result<Value, Failure> {
        let now = clock::now();
        let until = now.plus_ms(i64::from(days) * DAY_MS);
        let approval = AgentApproval {
            schema: APPROVAL_SCHEMA.to_owned(),
            party,
            operator: self.operator_name()?,
            agent,
            agent_key,
            at_unix_ms: now.0.to_string(),
            until_unix_ms: until.0.to_string(),
        };
        self.recorded(actor, "approval_sign", &json!(approval), || {
            self.only_for(&[PartyKind::Operator])?;
            if days == 0 || until.0 - now.0 > HORIZON_MS {
                return Err(refused(OperatorRefusal::Horizon));
            }
            let input = approval.sign_input().map_err(refused)?;
            let signature = BASE64_STANDARD.encode(self.token.sign(self.operator_key()?.id, input)?);
            Ok(json!(SignedApproval { approval: approval.clone(), signature }))
        })
    }

    pub(super) fn operator_key(&self) -> Result<KeyInfo, Failure> {
        self.newest_key(Purpose::Operator, None)?.ok_or_else(|| {
            Failure::refused(
                "party_not_initialised",
                format!("{} has no key yet", self.party),
                "run `countersign init --kind operator` for this state directory first",
            )
        })
    }

    /// An operator's state directory is named after its person.
    pub(super) fn operator_name(&self) -> Result<OperatorName, Failure> {
        self.party.as_str().parse().map_err(|error| {
            Failure::usage("config_invalid", format!("[party.{}]: {error}", self.party), "name the person")
        })
    }

    /// Enrols a person, or gives an enrolled one other roles: issues the operator's certificate. To be done in person.
    /// The same again changes nothing; another key under the same name needs the one before revoked first.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, the names of [`OperatorRefusal`], `operator_role_unknown`,
    /// `operator_owner_unnamed`, `agent_name_taken`, `agent_revoked`, `key_already_enrolled`, the token's, the store's.
    pub fn operator_enrol(
        &self,
        actor: &Actor,
        request: &Value,
        roles: &[String],
        owner: Option<&OwnerId>,
    ) -> Result<Value, Failure> {
        let about = json!({ "request": request, "roles": roles, "owner": owner });
        self.recorded(actor, "operator_enrol", &about, || {
            self.permit(actor, &[ADMINISTRATOR])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            let signed: SignedRequest =
                serde_json::from_value(request.clone()).map_err(|_| refused(OperatorRefusal::Malformed))?;
            let spki = signed.verify(clock::now()).map_err(refused)?;
            self.roles_fit(roles, owner)?;
            let issuing = self.begin_issuing()?;
            let SignedRequest { request: OperatorRequest { name, token_serial, .. }, .. } = signed;
            self.certify_person(actor, &name, &spki, &token_serial, roles, owner, &issuing)
        })
    }

    /// Whether these roles exist, and go with this customer.
    pub(super) fn roles_fit(&self, roles: &[String], owner: Option<&OwnerId>) -> Result<(), Failure> {
        if let Some(unknown) = roles.iter().find(|role| !ROLES.contains(&role.as_str())) {
            return Err(Failure::usage(
                "operator_role_unknown",
                format!("there is no role {unknown:?}"),
                format!("give one or more of {}", ROLES.join(", ")),
            ));
        }
        if roles.iter().any(|role| role == OWNER) != owner.is_some() {
            return Err(Failure::usage(
                "operator_owner_unnamed",
                "the role owner and the customer that the person is go together",
                "give --role owner and --owner with the owner id of the accounts, or neither",
            ));
        }
        if owner.is_some() {
            self.only_for(&[PartyKind::Bank])?;
        }
        Ok(())
    }

    /// Issues the certificate of a person over a key that has proven itself, and keeps the person with it.
    #[expect(clippy::too_many_arguments, reason = "who, which key, as what: each is one thing of its own")]
    pub(super) fn certify_person(
        &self,
        actor: &Actor,
        name: &OperatorName,
        spki: &[u8],
        token_serial: &str,
        roles: &[String],
        owner: Option<&OwnerId>,
        _issuing: &Turn<'_>,
    ) -> Result<Value, Failure> {
        let key = KeyId::of(&[spki]);
        let (issuing, _) = self.own_authority()?;
        let subject = format!("operator {name}");
        self.may_certify(Profile::Operator, &subject, key)?;
        self.is_nobody_elses(name, key)?;
        let wish = Wish {
            profile: Profile::Operator,
            subject: subject.clone(),
            organization: Some(self.party.to_string()),
            common_name: name.to_string(),
            spki: spki.to_vec(),
            life_ms: i64::from(self.pki.service_life_days) * DAY_MS,
            agent: None,
            operator: Some(OperatorPlan { trust_domain: self.pki.trust_domain.clone(), name: name.clone() }),
            server_names: Vec::new(),
            issuer: Some(issuing.der),
        };
        let record = self.certificate_for(actor, &wish, |_| true)?;
        let certificate = BASE64_STANDARD.encode(released(&record)?);
        let before = self.enrolled_operator(name)?;
        let mut earlier = Vec::new();
        if let Some(before) = before.clone().filter(|before| before.key == record.key) {
            earlier = before.earlier;
            earlier.push(before.certificate);
            earlier.retain(|known| *known != certificate);
        }
        let enrolled = EnrolledOperator {
            name: name.clone(),
            roles: roles.to_vec(),
            key: record.key,
            token_serial: token_serial.to_owned(),
            certificate,
            owner: owner.cloned(),
            earlier,
        };
        let changed = before.as_ref() != Some(&enrolled);
        if changed {
            files::write_json(&self.operator_file(name), &enrolled)?;
        }
        Ok(json!({
            "name": name,
            "roles": roles,
            "owner": owner,
            "key": record.key,
            "serial": record.serial,
            "not_after": record.not_after.rfc3339(),
            "changed": changed,
        }))
    }

    /// A key is one person's: under two names it would speak for two.
    fn is_nobody_elses(&self, name: &OperatorName, key: KeyId) -> Result<(), Failure> {
        let before = self.enrolled()?.into_iter().find(|other| other.name != *name && other.key == key);
        before.map_or(Ok(()), |other| {
            Err(Failure::refused(
                "key_already_enrolled",
                format!("the key of {name} is the one that {} is enrolled with", other.name),
                "enrol each person with a token of their own; to rename somebody, give the new name a new token",
            ))
        })
    }

    /// Everybody who is enrolled here.
    fn enrolled(&self) -> Result<Vec<EnrolledOperator>, Failure> {
        let mut enrolled = Vec::new();
        for file in files::names(&self.state.anchors())? {
            let name = file.strip_prefix("operator-").and_then(|rest| rest.strip_suffix(".json"));
            if let Some(name) = name.and_then(|name| name.parse().ok()) {
                enrolled.extend(self.enrolled_operator(&name)?);
            }
        }
        Ok(enrolled)
    }

    /// The enrolled people: `{items: [{name, roles, owner, key, token_serial, certificate}], next: null}`. The certificate
    /// is PEM.
    ///
    /// # Errors
    /// The file system's.
    pub fn operator_list(&self, _actor: &Actor) -> Result<Value, Failure> {
        let shown = |enrolled: EnrolledOperator| {
            let der = BASE64_STANDARD.decode(&enrolled.certificate).ok();
            json!({
                "name": enrolled.name,
                "roles": enrolled.roles,
                "owner": enrolled.owner,
                "key": enrolled.key,
                "token_serial": enrolled.token_serial,
                "certificate": der.map(|der| pem::encode(Kind::Certificate, &der)),
            })
        };
        let items: Vec<Value> = self.enrolled()?.into_iter().map(shown).collect();
        Ok(json!({ "items": items, "next": null }))
    }

    fn operator_file(&self, name: &OperatorName) -> std::path::PathBuf {
        self.state.anchors().join(format!("operator-{name}.json"))
    }

    pub(super) fn enrolled_operator(&self, name: &OperatorName) -> Result<Option<EnrolledOperator>, Failure> {
        let next_step = "enrol the operator again with `countersign operator enrol`";
        files::read_json(&self.operator_file(name), "operator_unreadable", next_step)
    }

    /// The officer who has signed this approval just now, at the admin socket under this user id.
    ///
    /// # Errors
    /// `not_this_party`, the names of [`OperatorRefusal`], `operator_unknown`, `operator_not_permitted`,
    /// `operator_revoked`, `operator_certificate_expired`.
    pub fn officer(&self, signed: &SignedApproval, uid: u32) -> Result<OperatorPrincipal, Failure> {
        self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
        let now = clock::now();
        let (operator, spki) = self.officer_of(signed, Some(now))?;
        signed.verify(&self.party, &spki).map_err(refused)?;
        signed.is_fresh(now).map_err(refused)?;
        Ok(OperatorPrincipal {
            name: operator.name,
            uid,
            roles: operator.roles,
            asserted: false,
            owner: operator.owner,
        })
    }

    /// Whose approval it is: an enrolled officer whose certificate was not revoked, and at `now` not expired. What an
    /// officer approved before the certificate ended goes on standing.
    pub(super) fn officer_of(
        &self,
        signed: &SignedApproval,
        now: Option<UnixMillis>,
    ) -> Result<(EnrolledOperator, Vec<u8>), Failure> {
        let name = &signed.approval.operator;
        let unknown = || {
            Failure::refused(
                "operator_unknown",
                format!("no operator {name} is enrolled at {}", self.party),
                "enrol the officer with `countersign operator enrol`",
            )
        };
        let operator = self.enrolled_operator(name)?.ok_or_else(unknown)?;
        let leaf = match now {
            Some(now) => self.operator_leaf(name, &operator.certificate, now)?,
            None => {
                let at = signed.approval.span().map_err(refused)?.0;
                // The certificate of then; an earlier one that was revoked takes its approvals with it.
                let mut certificates = [&operator.certificate].into_iter().chain(operator.earlier.iter().rev());
                let judged = |certificate: &String| match self.operator_leaf(name, certificate, at) {
                    Err(failure) if failure.name == "operator_certificate_expired" => None,
                    judged => Some(judged),
                };
                certificates.find_map(judged).unwrap_or_else(|| self.operator_leaf(name, &operator.certificate, at))?
            }
        };
        if !operator.roles.iter().any(|role| role == OFFICER) {
            return Err(Failure::refused(
                "operator_not_permitted",
                format!("operator {name} is no officer"),
                "have an officer approve",
            ));
        }
        Ok((operator, leaf))
    }

    /// The enrolled people who are this customer.
    pub(super) fn enrolled_owners(&self, owner: &OwnerId) -> Result<Vec<EnrolledOperator>, Failure> {
        let is_them =
            |one: &EnrolledOperator| one.owner.as_ref() == Some(owner) && one.roles.iter().any(|role| role == OWNER);
        Ok(self.enrolled()?.into_iter().filter(is_them).collect())
    }

    /// The key of an operator's certificate that is valid at this time and not revoked.
    pub(super) fn operator_leaf(
        &self,
        name: &OperatorName,
        certificate: &str,
        at: UnixMillis,
    ) -> Result<Vec<u8>, Failure> {
        self.operator_facts(name, certificate, at).map(|facts| facts.spki)
    }

    /// What an operator's certificate says that is valid at this time and not revoked.
    ///
    /// # Errors
    /// `operator_unreadable`, `operator_certificate_expired`, `operator_revoked`
    pub(super) fn operator_facts(
        &self,
        name: &OperatorName,
        certificate: &str,
        at: UnixMillis,
    ) -> Result<Facts, Failure> {
        self.operator_facts_under(&self.store.status()?, name, certificate, at)
    }

    /// The same under a revocation status that is known already.
    pub(super) fn operator_facts_under(
        &self,
        status: &StatusSnapshot,
        name: &OperatorName,
        certificate: &str,
        at: UnixMillis,
    ) -> Result<Facts, Failure> {
        let der = BASE64_STANDARD.decode(certificate).map_err(|_| {
            Failure::fault(
                "operator_unreadable",
                format!("the file of operator {name} holds no certificate"),
                "enrol the operator again with `countersign operator enrol`",
            )
        })?;
        let leaf = verify_leaf(&der, Profile::Operator, &self.own_anchors()?, &self.base, at).map_err(|rule| {
            Failure::refused(
                "operator_certificate_expired",
                format!("the certificate of operator {name} is not acceptable: {rule}"),
                "enrol the operator again with `countersign operator enrol`: a fresh certificate is issued",
            )
        })?;
        let serial = (leaf.facts.issuer_identifier.clone(), leaf.facts.serial.clone());
        if status.keys.contains(&leaf.facts.key) || status.certificates.contains(&serial) {
            return Err(Failure::refused(
                "operator_revoked",
                format!("the certificate of operator {name} is revoked"),
                "have another officer approve",
            ));
        }
        Ok(leaf.facts)
    }

    /// The key of the officer who signed this.
    ///
    /// # Errors
    /// As [`Self::officer`].
    pub(super) fn officer_spki(&self, signed: &SignedApproval) -> Result<Vec<u8>, Failure> {
        self.officer_of(signed, None).map(|(_, spki)| spki)
    }
}

pub(super) fn refused(refusal: OperatorRefusal) -> Failure {
    let next_step = match refusal {
        OperatorRefusal::Malformed | OperatorRefusal::Key | OperatorRefusal::SignatureInvalid => {
            "take what `countersign operator show --out` wrote, as it is"
        }
        OperatorRefusal::WrongParty => "have an officer of this party sign",
        OperatorRefusal::NotFresh => "sign again, and compare the clocks",
        OperatorRefusal::Horizon => "let it stand for 1 to 90 days",
    };
    Failure::refused(refusal.name(), refusal.to_string(), next_step)
}
