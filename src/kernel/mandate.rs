//! Mandates: what an account's owner lets one agent pay, signed by the owner (`docs/MANDATES.md`).
//!
//! An open payment mandate after AP2 (Agent Payments Protocol): an SD-JWT (RFC 9901) whose claims say who, from which
//! account, with which key, and a list of typed constraints. Two questions are answered here, both pure: is this text a
//! mandate that this owner signed ([`verify`]), and does a payment lie within it ([`Mandate::admits`],
//! [`Mandate::covers`])? What is not understood is refused, and nothing may be hidden: a constraint that the bank cannot
//! see is one that it cannot keep.
//!
//! ```text
//! let draft = mandate::draft(key.id, &mandate, salts)?;             // the owner's side
//! let text = draft.signed(&hsm.sign(key.id, draft.input())?);
//! let verified = mandate::verify(&text, &owner, &owner_keys, now)?; // the bank's
//! let used = verified.mandate().admits(&payment)?;
//! ```

use serde_json::Value;

use crate::kernel::jwt::TokenKey;
use crate::kernel::sign::SignInput;
use crate::kernel::types::{AccountId, KeyId, MandateId, OwnerId, Serial, SpiffeId, UnixMillis};

mod claims;
mod constraint;
mod fit;
mod outlook;
mod period;
mod refusal;
mod sd_jwt;
#[cfg(test)]
mod tests;

pub use constraint::{
    AmountRange, Budget, Constraints, ExecutionDates, Moment, Payee, Recurrence, Weekdays, plain_number,
};
pub use fit::{
    Counts, HeldMandate, MandateUse, Payment, PaymentPayee, Revoked, STANDING_MAX, Signer, StoredMandate, choose,
};
pub use outlook::{ShownMandate, Status};
pub use period::{LIFE, Period};
pub use refusal::MandateRefusal;

/// `vct` of an open payment mandate of AP2, the version included.
pub const VCT: &str = "mandate.payment.open.1";

/// `typ` of the header (RFC 9901, 9.11).
pub const TYP: &str = "payment-mandate+sd-jwt";

/// Longest mandate, with its disclosures.
pub const MANDATE_BYTES_MAX: usize = 16 * 1024;

/// From begin to end at most.
pub const LIFE_DAYS_MAX: i64 = 400;

/// So far may the clock of who signs a mandate be off.
const SKEW_MAX_S: i64 = 60;

/// What an owner has signed, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mandate {
    pub id: MandateId,
    /// `iss`: whose account it is, and whose key signed.
    pub owner: OwnerId,
    /// `sub`: who may pay.
    pub agent: SpiffeId,
    /// `cnf`: the key that the agent must have.
    pub agent_key: KeyId,
    /// `payment_instrument`: what is paid from.
    pub account: AccountId,
    pub issued: UnixMillis,
    pub not_before: UnixMillis,
    pub expires: UnixMillis,
    pub constraints: Constraints,
}

impl Mandate {
    /// The claims with everything disclosed, as they are kept and shown.
    pub fn claims(&self) -> Value {
        Value::Object(claims::written(self, claims::Payees::Plain).0)
    }

    /// Reads what [`Self::claims`] wrote.
    ///
    /// # Errors
    /// [`MandateRefusal`]
    pub fn from_claims(claims: &Value) -> Result<Self, MandateRefusal> {
        claims::read(claims.as_object().ok_or(MandateRefusal::Payload)?)
    }

    /// That it is read back from the bank's book as it is: a row that nobody can read would stop every payment that
    /// asks for it.
    fn is_kept(&self) -> Result<(), MandateRefusal> {
        let kept = Self::from_claims(&self.claims())?;
        if kept == *self { Ok(()) } else { Err(MandateRefusal::Claims) }
    }
}

/// What is signed of a mandate, and what is told besides.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    signing_input: String,
    disclosures: Vec<String>,
}

/// Composes a mandate that this key of its owner is to sign. Each payee is a disclosure of its own, as in AP2, and takes
/// a salt; without any the payees are written plainly.
///
/// # Errors
/// The first [`MandateRefusal`] that [`verify`] would find.
pub fn draft(key: KeyId, mandate: &Mandate, salts: &[[u8; 16]]) -> Result<Draft, MandateRefusal> {
    let payees = if salts.is_empty() { claims::Payees::Plain } else { claims::Payees::Disclosed(salts) };
    let (payload, disclosures) = claims::written(mandate, payees);
    let signing_input = sd_jwt::signing_input(key, &payload);
    let draft = Draft { signing_input, disclosures };
    let read = sd_jwt::Presented::unsigned(&draft.signing_input, &draft.disclosures)?;
    let read = claims::read(&read.disclosed()?)?;
    if read == *mandate { Ok(draft) } else { Err(MandateRefusal::Claims) }
}

impl Draft {
    pub fn input(&self) -> SignInput {
        SignInput::Mandate {
            signing_input: self.signing_input.clone().into_bytes(),
            disclosures: self.disclosures.clone(),
        }
    }

    /// The mandate, with a signature as the HSM gives it: DER `ECDSA-Sig-Value`. `None`: it is not one of P-256.
    pub fn signed(&self, signature: &[u8]) -> Option<String> {
        sd_jwt::signed(&self.signing_input, &self.disclosures, signature)
    }
}

/// A key of an owner, and the certificate that the bank issued for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnerKey {
    pub key: TokenKey,
    /// The issuer's subject key identifier, hexadecimal.
    pub issuer: String,
    pub serial: Serial,
}

/// A mandate that its owner signed and that has not ended. Only [`verify`] makes one: holding it is the proof.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedMandate {
    mandate: Mandate,
    text: String,
    signer: Signer,
}

impl VerifiedMandate {
    pub fn mandate(&self) -> &Mandate {
        &self.mandate
    }

    /// The SD-JWT as it was presented.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The owner's key that signed it.
    pub fn key(&self) -> KeyId {
        self.signer.key
    }

    /// That key, with its certificate.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }
}

impl Signer {
    /// Who signed a mandate that was kept before its signer was: the key that it names. `None`: it names none.
    pub fn named_in(text: &str) -> Option<Self> {
        let key = sd_jwt::Presented::read(text).ok()?.key()?;
        Some(Self { key, certificate: None })
    }
}

/// Who says to have signed a mandate. Nothing of it is believed yet: it says whose keys to look for.
///
/// # Errors
/// [`MandateRefusal`] of the form and of the claim `iss`.
pub fn claimed_owner(text: &str) -> Result<OwnerId, MandateRefusal> {
    let presented = sd_jwt::Presented::read(text)?;
    let owner = presented.payload().get("iss").and_then(Value::as_str).ok_or(MandateRefusal::Claims)?;
    owner.parse().map_err(|_| MandateRefusal::Claims)
}

/// Verifies a mandate of this owner with one of the owner's keys.
///
/// # Errors
/// The first [`MandateRefusal`] in order of precedence.
pub fn verify(
    text: &str,
    owner: &OwnerId,
    keys: &[OwnerKey],
    now: UnixMillis,
) -> Result<VerifiedMandate, MandateRefusal> {
    let presented = sd_jwt::Presented::read(text)?;
    let OwnerKey { key, issuer, serial } = presented.key_of(keys)?;
    presented.is_signed_by(&key.spki)?;

    // From here on whoever has the owner's key wrote it.
    let claims = presented.disclosed()?;
    let mandate = claims::read(&claims)?;
    mandate.is_kept()?;
    if sd_jwt::second_reading(text) != Some(claims) {
        return Err(MandateRefusal::ReadTwoWays);
    }
    if mandate.owner != *owner {
        return Err(MandateRefusal::AnotherOwner);
    }
    if mandate.issued.seconds() > now.seconds().saturating_add(SKEW_MAX_S) {
        return Err(MandateRefusal::FromTheFuture);
    }
    if now >= mandate.expires {
        return Err(MandateRefusal::Expired);
    }
    let signer = Signer { key: key.id, certificate: Some((issuer.clone(), serial.clone())) };
    Ok(VerifiedMandate { mandate, text: text.to_owned(), signer })
}

/// Passes what this key of an owner may sign as a mandate now: the header of a mandate that names the key, claims and
/// constraints that are all known and all disclosed, made out for now.
///
/// # Errors
/// [`MandateRefusal`]; [`MandateRefusal::KeyUnknown`] when it names another key.
pub fn lint_signing_input(
    bytes: &[u8],
    disclosures: &[String],
    signer: KeyId,
    now: UnixMillis,
) -> Result<(), MandateRefusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| MandateRefusal::Base64)?;
    let presented = sd_jwt::Presented::unsigned(text, disclosures)?;
    if !presented.names(signer) {
        return Err(MandateRefusal::KeyUnknown);
    }
    let mandate = claims::read(&presented.disclosed()?)?;
    mandate.is_kept()?;
    if mandate.issued.seconds().abs_diff(now.seconds()) > SKEW_MAX_S.unsigned_abs() {
        return Err(MandateRefusal::FromTheFuture);
    }
    Ok(())
}
