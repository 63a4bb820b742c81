//! Ceremonies: enrolling a passkey by an invitation, and signing in with one (W3C WebAuthn Level 3, 7.1 and 7.2).
//!
//! `webauthn-rs` judges what browsers send. What begins here is remembered in memory, for minutes, and used once. A
//! passkey is enrolled when it has also signed: registering alone shows a public key and proves nothing about it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use webauthn_rs::prelude::{
    COSEAlgorithm, COSEKeyType, DiscoverableAuthentication, ECDSACurve, Passkey, PasskeyRegistration,
    PublicKeyCredential, RegisterPublicKeyCredential, Url, Uuid, Webauthn, WebauthnBuilder,
};

use crate::ca::{Authority, Invitation, PasskeyRecord};
use crate::kernel::sign::{Algorithm, spki_der};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// What a person takes to find the phone.
const CEREMONY_MS: i64 = 5 * 60_000;
/// Ceremonies that wait, of one address and of all.
const OF_ONE_ADDRESS_MAX: usize = 64;
const ALL_MAX: usize = 8_192;

/// What a ceremony waits for.
enum Waits {
    /// The new passkey's public key.
    Registration { token: String, state: PasskeyRegistration },
    /// That passkey's first signature.
    Proof { token: String, passkey: Box<Passkey>, state: DiscoverableAuthentication },
    /// Anybody's passkey.
    SignIn { state: DiscoverableAuthentication },
}

struct Ceremony {
    address: IpAddr,
    until_boot: i64,
    waits: Waits,
}

/// The ceremonies of one console.
pub struct Ceremonies {
    webauthn: Webauthn,
    open: Mutex<HashMap<String, Ceremony>>,
}

impl std::fmt::Debug for Ceremonies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ceremonies").finish_non_exhaustive()
    }
}

impl Ceremonies {
    /// For the console at this origin, `https://host[:port]`; its host is the relying party.
    ///
    /// # Errors
    /// `console_origin`: passkeys need a host name.
    pub fn at(origin: &str, host: &str, bank: &str) -> Result<Self, Failure> {
        let unusable = |error: String| {
            Failure::usage(
                "console_origin",
                format!("passkeys cannot be used at {origin}: {error}"),
                "give [listen] console_url a host name, as https://bank.example:8445",
            )
        };
        let url = Url::parse(origin).map_err(|error| unusable(error.to_string()))?;
        let built = WebauthnBuilder::new(host, &url).and_then(|builder| builder.rp_name(bank).build());
        Ok(Self { webauthn: built.map_err(|error| unusable(error.to_string()))?, open: Mutex::default() })
    }

    /// Begins to enrol whoever holds this link: what the browser is asked.
    ///
    /// # Errors
    /// `too_many_ceremonies`, `passkey_refused`
    pub fn enrol(&self, invitation: &Invitation, token: &str, address: IpAddr) -> Result<Value, Failure> {
        let handle = Uuid::try_parse(&invitation.handle).map_err(|_| refused("the invitation has no handle"))?;
        let name = invitation.name.as_str();
        let started = self.webauthn.start_passkey_registration(handle, name, name, None);
        let (asked, state) = started.map_err(|error| refused(&error.to_string()))?;
        let ceremony = self.remember(address, Waits::Registration { token: token.to_owned(), state })?;
        let mut asked = json!(asked);
        // Signing in names nobody, so the authenticator has to know whom the passkey is of; and a certificate is issued over
        // P-256 keys alone.
        let options = &mut asked["publicKey"];
        options["authenticatorSelection"]["residentKey"] = json!("required");
        options["authenticatorSelection"]["requireResidentKey"] = json!(true);
        options["authenticatorSelection"]["userVerification"] = json!("required");
        options["pubKeyCredParams"] = json!([{ "type": "public-key", "alg": -7 }]);
        Ok(json!({
            "ceremony": ceremony, "publicKey": asked["publicKey"], "name": invitation.name, "roles": invitation.roles,
            "owner": invitation.owner,
        }))
    }

    /// Takes the new passkey, and asks for its first signature.
    ///
    /// # Errors
    /// `ceremony_unknown`, `passkey_refused`
    pub fn registered(
        &self,
        ceremony: &str,
        credential: &RegisterPublicKeyCredential,
        address: IpAddr,
    ) -> Result<Value, Failure> {
        let Waits::Registration { token, state } = self.take(ceremony, address)? else {
            return Err(no_ceremony());
        };
        let finished = self.webauthn.finish_passkey_registration(credential, &state);
        let passkey = finished.map_err(|error| refused(&error.to_string()))?;
        spki(&passkey)?;
        let (mut asked, state) = self.challenge()?;
        // Nobody else's would do.
        asked["allowCredentials"] = json!([{ "type": "public-key", "id": json!(passkey)["cred"]["cred_id"] }]);
        let ceremony = self.remember(address, Waits::Proof { token, passkey: Box::new(passkey), state })?;
        Ok(json!({ "ceremony": ceremony, "publicKey": asked }))
    }

    /// Takes the new passkey's first signature and has it enrolled.
    ///
    /// # Errors
    /// `ceremony_unknown`, `passkey_refused`; as [`Authority::passkey_enrol`]
    pub fn proven(
        &self,
        ceremony: &str,
        assertion: &PublicKeyCredential,
        address: IpAddr,
        authority: &Authority,
    ) -> Result<PasskeyRecord, Failure> {
        let Waits::Proof { token, mut passkey, state } = self.take(ceremony, address)? else {
            return Err(no_ceremony());
        };
        let judged = self.webauthn.finish_discoverable_authentication_v2(assertion, state, &*passkey);
        let judged = judged.map_err(|error| refused(&error.to_string()))?;
        passkey.update_credential(&judged).ok_or_else(|| refused("another passkey has signed"))?;
        authority.passkey_enrol(&token, &spki(&passkey)?, json!(*passkey))
    }

    /// Begins to sign somebody in: what the browser is asked.
    ///
    /// # Errors
    /// `too_many_ceremonies`, `passkey_refused`
    pub fn sign_in(&self, address: IpAddr) -> Result<Value, Failure> {
        let (asked, state) = self.challenge()?;
        let ceremony = self.remember(address, Waits::SignIn { state })?;
        Ok(json!({ "ceremony": ceremony, "publicKey": asked }))
    }

    /// Whose passkey has signed.
    ///
    /// # Errors
    /// `ceremony_unknown`, `passkey_refused`, `passkey_changed`
    pub fn signed_in(
        &self,
        ceremony: &str,
        assertion: &PublicKeyCredential,
        address: IpAddr,
        authority: &Authority,
    ) -> Result<PasskeyRecord, Failure> {
        let Waits::SignIn { state } = self.take(ceremony, address)? else {
            return Err(no_ceremony());
        };
        let named = self.webauthn.identify_discoverable_authentication(assertion);
        let (handle, _) = named.map_err(|error| refused(&error.to_string()))?;
        let record = authority.passkey_of(&handle.simple().to_string())?;
        let record = record.ok_or_else(|| refused("nobody here has this passkey"))?;
        let mut passkey: Passkey =
            serde_json::from_value(record.credential.clone()).map_err(|error| refused(&error.to_string()))?;
        let judged = self.webauthn.finish_discoverable_authentication_v2(assertion, state, &passkey);
        let judged = judged.map_err(|error| refused(&error.to_string()))?;
        passkey.update_credential(&judged).ok_or_else(|| refused("another passkey has signed"))?;
        authority.passkey_used(&record, json!(passkey))?;
        Ok(record)
    }

    /// The credential that a person's browser is to sign with, as `allowCredentials` names it.
    pub fn credential_id(record: &PasskeyRecord) -> Value {
        record.credential["cred"]["cred_id"].clone()
    }

    fn challenge(&self) -> Result<(Value, DiscoverableAuthentication), Failure> {
        let started = self.webauthn.start_discoverable_authentication();
        let (asked, state) = started.map_err(|error| refused(&error.to_string()))?;
        Ok((json!(asked)["publicKey"].clone(), state))
    }

    fn remember(&self, address: IpAddr, waits: Waits) -> Result<String, Failure> {
        let now = clock::boot_ms();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = open.values().filter(|one| one.address == address && now < one.until_boot).count();
        if open.len() >= ALL_MAX {
            open.retain(|_, one| now < one.until_boot);
        }
        if open.len() >= ALL_MAX || of_address >= OF_ONE_ADDRESS_MAX {
            let next = "finish one of them, or try again in five minutes";
            return Err(Failure::busy("too_many_ceremonies", "too many people are signing in", next));
        }
        let id = hex::encode(clock::random::<16>());
        open.insert(id.clone(), Ceremony { address, until_boot: now + CEREMONY_MS, waits });
        Ok(id)
    }

    /// What was remembered, once.
    fn take(&self, id: &str, address: IpAddr) -> Result<Waits, Failure> {
        let ceremony = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let ceremony = ceremony.filter(|one| one.address == address && clock::boot_ms() < one.until_boot);
        ceremony.map(|one| one.waits).ok_or_else(no_ceremony)
    }
}

/// SubjectPublicKeyInfo (DER) of a passkey.
///
/// # Errors
/// `passkey_refused`: its key is not on P-256.
fn spki(passkey: &Passkey) -> Result<Vec<u8>, Failure> {
    let key = passkey.get_public_key();
    match (&key.type_, &key.key) {
        (COSEAlgorithm::ES256, COSEKeyType::EC_EC2(point)) if point.curve == ECDSACurve::SECP256R1 => {
            let point = [&[4_u8][..], &point.x, &point.y].concat();
            (point.len() == 65)
                .then(|| spki_der(Algorithm::P256, &point))
                .ok_or_else(|| refused("its key is malformed"))
        }
        _ => Err(refused("its key is not on the curve P-256")),
    }
}

fn no_ceremony() -> Failure {
    Failure::refused("ceremony_unknown", "this took too long, or was done before", "begin again")
}

fn refused(why: &str) -> Failure {
    Failure::refused("passkey_refused", format!("the passkey was not accepted: {why}"), "try again")
}
