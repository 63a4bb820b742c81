//! A person's passkey over a challenge of ours: the assertion, verified (W3C Web Authentication Level 3, 7.2).
//!
//! The library that enrols passkeys and signs people in takes no challenge of ours; what a person decides is signed over one.
//! So this is judged here, by as little as that needs: no attestation, no extensions, one algorithm (ES256 over P-256), one
//! origin, the person present and verified. Everything that is not exactly so is refused.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::kernel::json;
use crate::kernel::refusal::Refusal;
use crate::kernel::sign::{Algorithm, raw_public_key, signature_is_valid};
use crate::kernel::types::Sha256;

/// Longer than any assertion without extensions; those with them are not asked for.
const AUTHENTICATOR_DATA_MAX: usize = 1_024;
const CLIENT_DATA_MAX: usize = 2_048;
const JSON_DEPTH_MAX: usize = 4;
/// rpIdHash, flags, signCount (6.1).
const HEAD_BYTES: usize = 37;

// Flags of authenticator data (6.1).
const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const BACKUP_ELIGIBLE: u8 = 0x08;
const BACKED_UP: u8 = 0x10;
const ATTESTED: u8 = 0x40;
const EXTENSIONS: u8 = 0x80;
const RESERVED: u8 = 0x22;

/// Where people sign: the origin of the bank's console, and the relying party that its host is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelyingParty {
    origin: String,
    id: String,
}

impl RelyingParty {
    /// Of `https://host[:port]`. `None`: it is not that, or its host is no name (a passkey belongs to a domain, 5.1.2).
    pub fn of(origin: &str) -> Option<Self> {
        let authority = origin.strip_prefix("https://")?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse::<u16>().ok().filter(|number| number.to_string() == port)?)),
            None => (authority, None),
        };
        let is_label = |label: &str| {
            let inside = label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            inside && !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
        };
        let last_is_number = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if host.len() > 253 || last_is_number || !host.split('.').all(is_label) {
            return None;
        }
        // A browser does not say the port that https has anyway (RFC 6454, 6.2).
        let origin = match port {
            Some(443) | None => format!("https://{host}"),
            Some(port) => format!("https://{host}:{port}"),
        };
        Some(Self { origin, id: host.to_owned() })
    }

    /// As browsers write it.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The relying party's id: the host.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl TryFrom<String> for RelyingParty {
    type Error = &'static str;

    fn try_from(origin: String) -> Result<Self, Self::Error> {
        Self::of(&origin).ok_or("not https:// with a host name")
    }
}

impl From<RelyingParty> for String {
    fn from(party: RelyingParty) -> Self {
        party.origin
    }
}

/// What an authenticator and its browser say beside the signature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// Base64: authenticator data (6.1).
    pub authenticator_data: String,
    /// Base64: the JSON of the client data (5.8.1), byte for byte.
    pub client_data: String,
    /// Where it has to be made: whoever takes it compares this with their own console.
    pub origin: RelyingParty,
}

/// What a verified assertion says besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asserted {
    pub counter: u32,
    /// The passkey is kept in more than one place.
    pub backed_up: bool,
}

impl Assertion {
    /// Passes an assertion by the key `spki` (DER) over `challenge`, made at [`Self::origin`] by a person who was present and
    /// verified. `signature`: DER `ECDSA-Sig-Value`.
    ///
    /// # Errors
    /// `approval_mismatch`: another challenge was signed. `approval_signature_invalid`: anything else.
    pub fn verify(&self, spki: &[u8], signature: &[u8], challenge: &Sha256) -> Result<Asserted, Refusal> {
        let (invalid, at) = (Refusal::ApprovalSignatureInvalid, &self.origin);
        let client = self.client().ok_or(invalid)?;
        if !is_made_at(&client.members, at) {
            return Err(invalid);
        }
        let authenticator = decoded(&self.authenticator_data, AUTHENTICATOR_DATA_MAX).ok_or(invalid)?;
        let asserted = head(&authenticator, at).ok_or(invalid)?;
        if !matches!(raw_public_key(spki), Some((Algorithm::P256, _))) {
            return Err(invalid);
        }
        let message = [&authenticator[..], &Sha256::of(&[&client.bytes]).0].concat();
        if !signature_is_valid(spki, &message, signature) {
            return Err(invalid);
        }
        let signed = client.members.get("challenge").and_then(Value::as_str);
        if signed != Some(BASE64_URL_SAFE_NO_PAD.encode(challenge.0).as_str()) {
            return Err(Refusal::ApprovalMismatch);
        }
        Ok(asserted)
    }

    fn client(&self) -> Option<ClientData> {
        let bytes = decoded(&self.client_data, CLIENT_DATA_MAX)?;
        json::check(&bytes, CLIENT_DATA_MAX, JSON_DEPTH_MAX).ok()?;
        match serde_json::from_slice(&bytes).ok()? {
            Value::Object(members) => Some(ClientData { bytes, members }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
        }
    }
}

struct ClientData {
    bytes: Vec<u8>,
    members: Map<String, Value>,
}

fn decoded(text: &str, bytes_max: usize) -> Option<Vec<u8>> {
    if text.len() > bytes_max * 2 {
        return None;
    }
    BASE64_STANDARD.decode(text).ok().filter(|bytes| bytes.len() <= bytes_max)
}

/// An assertion of this origin's own page, not of a page inside another one's (7.2, 10 to 13). Members that are not named
/// are let pass: browsers add some (5.8.1.1).
fn is_made_at(members: &Map<String, Value>, at: &RelyingParty) -> bool {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    text("type") == Some("webauthn.get")
        && text("origin") == Some(at.origin())
        && matches!(members.get("crossOrigin"), None | Some(Value::Bool(false)))
        && !members.contains_key("topOrigin")
}

/// The head of authenticator data for this relying party, with nothing behind it (7.2, 15 to 19).
fn head(data: &[u8], at: &RelyingParty) -> Option<Asserted> {
    let head: &[u8; HEAD_BYTES] = data.try_into().ok()?;
    let (relying, rest) = head.split_at(32);
    let (flags, counter) = (rest[0], u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]));
    let needed = USER_PRESENT | USER_VERIFIED;
    let is_sound = relying == Sha256::of(&[at.id().as_bytes()]).0
        && flags & needed == needed
        && flags & (ATTESTED | EXTENSIONS | RESERVED) == 0
        && (flags & BACKED_UP == 0 || flags & BACKUP_ELIGIBLE != 0);
    is_sound.then_some(Asserted { counter, backed_up: flags & BACKED_UP != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::credential::testkit::Key;

    const ORIGIN: &str = "https://bank.example:8445";

    /// Over these client data and authenticator data, whatever they say.
    fn signed(passkey: &Key, authenticator: &[u8], client: &[u8], at: &RelyingParty) -> (Assertion, Vec<u8>) {
        let signature = passkey.sign(&[authenticator, &Sha256::of(&[client]).0].concat());
        let assertion = Assertion {
            authenticator_data: BASE64_STANDARD.encode(authenticator),
            client_data: BASE64_STANDARD.encode(client),
            origin: at.clone(),
        };
        (assertion, signature)
    }

    /// As a browser at this origin has it signed.
    fn asserted(passkey: &Key, challenge: &Sha256, at: &RelyingParty) -> (Assertion, Vec<u8>) {
        let data = authenticator(at.id(), USER_PRESENT | USER_VERIFIED);
        signed(passkey, &data, client(challenge, at.origin()).as_bytes(), at)
    }

    fn authenticator(id: &str, flags: u8) -> Vec<u8> {
        [Sha256::of(&[id.as_bytes()]).0.as_slice(), &[flags], &7_u32.to_be_bytes()].concat()
    }

    fn client(challenge: &Sha256, origin: &str) -> String {
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(challenge.0);
        format!(r#"{{"type":"webauthn.get","challenge":"{challenge}","origin":"{origin}","crossOrigin":false}}"#)
    }

    #[test]
    fn an_assertion_counts_only_as_a_whole() {
        let at = RelyingParty::of(ORIGIN).unwrap();
        let challenge = Sha256::of(&[b"what is asked"]);
        let good = client(&challenge, ORIGIN);
        let data = |flags| authenticator("bank.example", flags);
        let sound = data(0x05);
        let with = |from: &str, to: &str| good.replace(from, to);
        let (ok, bad, other) = (Ok(()), Err(Refusal::ApprovalSignatureInvalid), Err(Refusal::ApprovalMismatch));
        type Row = (&'static str, Vec<u8>, String, Result<(), Refusal>);
        let table: Vec<Row> = vec![
            ("as it should be", sound.clone(), good.clone(), ok),
            ("kept in a cloud", data(0x1d), good.clone(), ok),
            ("no crossOrigin", sound.clone(), with(",\"crossOrigin\":false", ""), ok),
            ("what browsers add", sound.clone(), with("}", ",\"other_keys_can_be_added_here\":\"x\"}"), ok),
            ("not present", data(0x04), good.clone(), bad),
            ("not verified", data(0x01), good.clone(), bad),
            ("backed up, not eligible", data(0x15), good.clone(), bad),
            ("reserved flag 1", data(0x07), good.clone(), bad),
            ("reserved flag 5", data(0x25), good.clone(), bad),
            ("says attested data", data(0x45), good.clone(), bad),
            ("says extensions", data(0x85), good.clone(), bad),
            ("another relying party", authenticator("evil.example", 0x05), good.clone(), bad),
            ("its parent", authenticator("example", 0x05), good.clone(), bad),
            ("cut short", sound[..36].to_vec(), good.clone(), bad),
            ("longer", [&sound[..], &[0]].concat(), good.clone(), bad),
            ("empty", vec![], good.clone(), bad),
            ("an enrolment", sound.clone(), with("webauthn.get", "webauthn.create"), bad),
            ("a payment's confirmation", sound.clone(), with("webauthn.get", "payment.get"), bad),
            ("another origin", sound.clone(), with(ORIGIN, "https://evil.example"), bad),
            ("another port", sound.clone(), with(":8445", ":8446"), bad),
            ("without TLS", sound.clone(), with("https://", "http://"), bad),
            ("inside another page", sound.clone(), with("false", "true"), bad),
            ("crossOrigin is no word", sound.clone(), with("false", "\"false\""), bad),
            ("below another page", sound.clone(), with("}", ",\"topOrigin\":\"https://evil.example\"}"), bad),
            ("twice a member", sound.clone(), with("{", "{\"type\":\"webauthn.get\","), bad),
            ("no origin", sound.clone(), with("origin", "origins"), bad),
            ("a list", sound.clone(), format!("[{good}]"), bad),
            ("too long", sound.clone(), with("}", &format!(",\"x\":\"{}\"}}", "x".repeat(CLIENT_DATA_MAX))), bad),
            ("another challenge", sound.clone(), client(&Sha256::of(&[b"something else"]), ORIGIN), other),
            ("challenge with padding", sound.clone(), with("\",\"origin", "=\",\"origin"), other),
            ("no challenge", sound.clone(), with("challenge", "challenges"), other),
        ];
        let passkey = Key::new();
        for (what, data, text, expected) in table {
            let (assertion, signature) = signed(&passkey, &data, text.as_bytes(), &at);
            let judged = assertion.verify(&passkey.spki(), &signature, &challenge).map(|_| ());
            assert_eq!(judged, expected, "{what}");
        }
    }

    #[test]
    fn nothing_of_it_can_be_exchanged_after_it_was_signed() {
        let at = RelyingParty::of(ORIGIN).unwrap();
        let challenge = Sha256::of(&[b"what is asked"]);
        let passkey = Key::new();
        let (assertion, signature) = asserted(&passkey, &challenge, &at);
        assert_eq!(assertion.verify(&passkey.spki(), &signature, &challenge).unwrap().counter, 7);
        let invalid = Err(Refusal::ApprovalSignatureInvalid);
        let judged = |assertion: &Assertion, signature: &[u8]| {
            assertion.verify(&passkey.spki(), signature, &challenge).map(|_| ())
        };
        let with = |data: &[u8], text: &str| Assertion {
            authenticator_data: BASE64_STANDARD.encode(data),
            client_data: BASE64_STANDARD.encode(text),
            origin: at.clone(),
        };
        let (data, text) = (authenticator("bank.example", 0x05), client(&challenge, ORIGIN));
        assert_eq!(judged(&with(&data, &text), &signature), Ok(()));
        assert_eq!(judged(&with(&authenticator("bank.example", 0x0d), &text), &signature), invalid);
        assert_eq!(judged(&with(&data, &text.replace("}", " }")), &signature), invalid);
        assert_eq!(judged(&Assertion { client_data: "%".into(), ..assertion.clone() }, &signature), invalid);
        let other = Key::new();
        assert_eq!(assertion.verify(&other.spki(), &signature, &challenge).map(|_| ()), invalid);
        assert_eq!(judged(&assertion, &asserted(&other, &challenge, &at).1), invalid);
        assert_eq!(judged(&assertion, &[]), invalid);
        assert_eq!(assertion.verify(&[], &signature, &challenge).map(|_| ()), invalid);
        let moved = Assertion { origin: RelyingParty::of("https://evil.example").unwrap(), ..assertion };
        assert_eq!(judged(&moved, &signature), invalid);
    }

    #[test]
    fn an_origin_is_https_and_a_host_name() {
        let table = [
            ("https://bank.example", Some(("https://bank.example", "bank.example"))),
            ("https://bank.example:443", Some(("https://bank.example", "bank.example"))),
            ("https://bank.example:8445", Some((ORIGIN, "bank.example"))),
            ("https://localhost:1", Some(("https://localhost:1", "localhost"))),
            ("http://bank.example", None),
            ("https://", None),
            ("https://:8445", None),
            ("https://bank.example/", None),
            ("https://bank.example/x", None),
            ("https://Bank.example", None),
            ("https://me@bank.example", None),
            ("https://bank.example:", None),
            ("https://bank.example:08445", None),
            ("https://bank.example:99999", None),
            ("https://127.0.0.1:8445", None),
            ("https://[::1]:8445", None),
            ("https://bank..example", None),
            ("https://-bank.example", None),
        ];
        for (text, expected) in table {
            let read = RelyingParty::of(text);
            assert_eq!(read.as_ref().map(|party| (party.origin(), party.id())), expected, "{text}");
        }
    }
}
