//! Mandates of account owners: signed in the owner's own token, verified at the bank that enrolled the owner.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ca::authority::Authority;
use crate::ca::operators::EnrolledOperator;
use crate::ca::settings::PartyKind;
use crate::ca::setup::DAY_MS;
use crate::kernel::command::Actor;
use crate::kernel::credential::profile::Facts;
use crate::kernel::jwt::TokenKey;
use crate::kernel::mandate::{self, Mandate, MandateRefusal, OwnerKey, VerifiedMandate};
use crate::kernel::types::{AccountId, KeyId, OwnerId, Sha256, SpiffeId};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// What an owner wants signed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MandateWish {
    pub owner: OwnerId,
    pub agent: SpiffeId,
    pub agent_key: KeyId,
    pub account: AccountId,
    pub days: u32,
    /// In the shapes of AP2.
    pub constraints: Value,
}

impl Authority {
    /// A mandate for these days, signed by the key in the owner's token. Each payee is a disclosure of its own.
    ///
    /// # Errors
    /// `not_this_party`, `party_not_initialised`, the names of [`MandateRefusal`], the token's.
    pub fn mandate_sign(&self, actor: &Actor, wish: &MandateWish) -> Result<Value, Failure> {
        self.recorded(actor, "mandate_sign", &json!(wish), || {
            self.only_for(&[PartyKind::Operator])?;
            let now = clock::now().seconds();
            let until = now.saturating_add(i64::from(wish.days).saturating_mul(DAY_MS / 1000));
            let claims = json!({
                "vct": mandate::VCT, "iss": wish.owner, "sub": wish.agent, "jti": clock::fresh_id("mdt_"),
                "iat": now, "exp": until, "cnf": { "kid": wish.agent_key },
                "payment_instrument": { "type": "account", "id": wish.account }, "constraints": wish.constraints,
            });
            let wanted = Mandate::from_claims(&claims).map_err(refused)?;
            let payees = wanted.constraints.payees.as_ref().map_or(0, Vec::len);
            let salts: Vec<[u8; 16]> = (0..payees).map(|_| clock::random()).collect();
            let key = self.operator_key()?;
            let draft = mandate::draft(key.id, &wanted, &salts).map_err(refused)?;
            let signature = self.token.sign(key.id, draft.input())?;
            // Only P-256 makes ES256.
            let text = draft.signed(&signature).ok_or_else(|| refused(MandateRefusal::Algorithm))?;
            Ok(json!({
                "mandate_id": wanted.id, "owner": wanted.owner, "agent": wanted.agent, "account_id": wanted.account,
                "expires": wanted.expires.rfc3339(), "mandate": text,
            }))
        })
    }

    /// The mandate in this text, if an owner who is enrolled here signed it.
    ///
    /// # Errors
    /// The names of [`MandateRefusal`], `owner_unknown`, `operator_revoked`, `operator_certificate_expired`.
    pub fn mandate_verified(&self, actor: &Actor, text: &str) -> Result<VerifiedMandate, Failure> {
        let mut verified = None;
        let about = json!({ "text_sha256": Sha256::of(&[text.as_bytes()]) });
        self.refusal_recorded(actor, "add_mandate", &about, || {
            self.only_for(&[PartyKind::Bank])?;
            let owner = mandate::claimed_owner(text).map_err(refused)?;
            let keys = self.owner_keys(&owner)?;
            verified = Some(mandate::verify(text, &owner, &keys, clock::now()).map_err(refused)?);
            Ok(Value::Null)
        })?;
        verified.ok_or_else(|| refused(MandateRefusal::Signature))
    }

    /// The keys of the owner's certificates that are valid now and not revoked. Of several people who own an account, one
    /// whose certificate has ended keeps nobody else from signing: it is told only when no other is left.
    fn owner_keys(&self, owner: &OwnerId) -> Result<Vec<OwnerKey>, Failure> {
        let enrolled = self.enrolled_owners(owner)?;
        if enrolled.is_empty() {
            return Err(Failure::refused(
                "owner_unknown",
                format!("no owner {owner} is enrolled at {}", self.party),
                "enrol the owner with `countersign operator enrol --role owner --owner`",
            ));
        }
        let (mut keys, mut ended) = (vec![], None);
        for EnrolledOperator { name, certificate, .. } in &enrolled {
            match self.operator_facts(name, certificate, clock::now()) {
                Ok(Facts { key: id, spki, issuer_identifier: issuer, serial, .. }) => {
                    keys.push(OwnerKey { key: TokenKey { id, spki }, issuer, serial });
                }
                Err(failure)
                    if ["operator_revoked", "operator_certificate_expired"].contains(&failure.name.as_str()) =>
                {
                    ended.get_or_insert(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        match ended {
            Some(failure) if keys.is_empty() => Err(failure),
            Some(_) | None => Ok(keys),
        }
    }
}

/// A mandate that is none, for a person.
pub fn refused(refusal: MandateRefusal) -> Failure {
    let next_step = match refusal {
        MandateRefusal::Expired | MandateRefusal::FromTheFuture | MandateRefusal::Lifetime => {
            "have the owner sign again, for 1 to 400 days, and compare the clocks"
        }
        MandateRefusal::KeyUnknown | MandateRefusal::Signature | MandateRefusal::AnotherOwner => {
            "have the owner sign with the key that the bank has enrolled: `countersign operator list`"
        }
        MandateRefusal::Algorithm => "sign with a key of P-256: `countersign init --kind operator` makes one",
        MandateRefusal::Hidden | MandateRefusal::DisclosureUnused | MandateRefusal::KeyBinding => {
            "give the whole text that the owner signed, with every disclosure and nothing more"
        }
        MandateRefusal::NoCeiling => "limit the amount of a payment or their sum",
        MandateRefusal::TooLong
        | MandateRefusal::Form
        | MandateRefusal::Base64
        | MandateRefusal::Header
        | MandateRefusal::DuplicateKey
        | MandateRefusal::Number
        | MandateRefusal::Critical
        | MandateRefusal::HeaderUnknown
        | MandateRefusal::Typ
        | MandateRefusal::Payload
        | MandateRefusal::DigestAlgorithm
        | MandateRefusal::DisclosureMalformed
        | MandateRefusal::DisclosuresTooMany
        | MandateRefusal::DisclosureRepeated
        | MandateRefusal::DigestRepeated
        | MandateRefusal::Claims
        | MandateRefusal::Vct
        | MandateRefusal::Confirmation
        | MandateRefusal::Instrument
        | MandateRefusal::ConstraintUnknown
        | MandateRefusal::ConstraintRepeated
        | MandateRefusal::ConstraintMalformed
        | MandateRefusal::ConstraintAmount
        | MandateRefusal::ConstraintCurrency
        | MandateRefusal::ReadTwoWays => {
            "see `countersign mandate sign --help` and docs/MANDATES.md for what a mandate says"
        }
    };
    Failure::refused(refusal.name(), refusal.to_string(), next_step)
}
