//! Acts other than a payment's decision: what a form asks is signed by the person's passkey before it is done.
//!
//! The challenge is the hash of a document that says who does what: the form's path and fields, a nonce, an end. The
//! document is made here, remembered in the session, and used once. What it was proven by is in a leaf before the act
//! is carried out; the act has its own leaf as on the command line.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::approvals::standard;
use super::web::{self, Answer, Fields};
use super::{Console, Who};
use crate::kernel::canon::canonical;
use crate::kernel::types::{OperatorName, Sha256};
use crate::kernel::webauthn::Assertion;
use crate::ops::clock;
use crate::ops::failure::Failure;

const TAG: &str = "countersign/console-act/v1";
/// What a person takes to find the phone.
const ASKED_MS: i64 = 2 * 60_000;
const FIELDS_BYTES_MAX: usize = 64 * 1024;

/// What is signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActDocument {
    pub tag: String,
    pub person: OperatorName,
    /// The form's path, such as `/agents/shopper/freeze`.
    pub path: String,
    /// Its fields, `application/x-www-form-urlencoded`, without the session's token.
    pub fields: String,
    pub expires: String,
    pub nonce: Sha256,
}

impl ActDocument {
    fn challenge(&self) -> Option<Sha256> {
        let text = canonical(&serde_json::to_value(self).ok()?).ok()?;
        Some(Sha256::of(&[TAG.as_bytes(), &[0], &text]))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    path: String,
    fields: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    document: ActDocument,
    authenticator_data: String,
    client_data: String,
    signature: String,
}

impl Console {
    /// What a person signs to have a form carried out.
    pub(super) fn act_question(&self, who: &Who, body: &[u8]) -> Result<Answer, Failure> {
        let Question { path, fields } = web::read(body)?;
        if fields.len() > FIELDS_BYTES_MAX || path.len() > 256 {
            return Err(Failure::usage("request_malformed", "the form is too long", "say less"));
        }
        let kept: Vec<(String, String)> =
            form_urlencoded::parse(fields.as_bytes()).into_owned().filter(|(name, _)| name != "form_token").collect();
        let document = ActDocument {
            tag: TAG.to_owned(),
            person: who.principal.name.clone(),
            path,
            fields: form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish(),
            expires: clock::now().plus_ms(ASKED_MS).rfc3339(),
            nonce: Sha256::of(&[&clock::random::<32>()]),
        };
        let challenge = document.challenge().ok_or_else(mismatch)?;
        self.services.sessions.ask(&who.session, json!(document), clock::boot_ms() + ASKED_MS);
        self.challenge(who, &json!(document), challenge)
    }

    /// A signed form: its evidence is recorded, then it is carried out. Answers where to look: `{see}`.
    pub(super) fn act_word(&self, who: &Who, body: &[u8]) -> Result<Answer, Failure> {
        let Signed { document, authenticator_data, client_data, signature } = web::read(body)?;
        let asked = self.services.sessions.asked(&who.session, clock::boot_ms());
        if asked != Some(json!(document)) || document.person != who.principal.name {
            return Err(mismatch());
        }
        let challenge = document.challenge().ok_or_else(mismatch)?;
        let assertion = Assertion {
            authenticator_data: standard(&authenticator_data)?,
            client_data: standard(&client_data)?,
            origin: self.relying.clone().ok_or_else(mismatch)?,
        };
        let signature = BASE64_STANDARD.decode(standard(&signature)?).map_err(|_| mismatch())?;
        let person = self.services.setup.authority.person(&who.principal.name, clock::now())?;
        assertion
            .verify(&person.spki, &signature, &challenge)
            .map_err(|refusal| Failure::refused(refusal.name(), refusal.message(), refusal.next_step()))?;
        let evidence = json!({
            "outcome": "signed", "about": { "path": document.path, "nonce": document.nonce, "fields_sha256": Sha256::of(&[document.fields.as_bytes()]) },
            "evidence": { "document": document, "passkey": assertion, "signature": BASE64_STANDARD.encode(&signature), "certificate": person.certificate },
        });
        self.record(who.actor(), "console_act", evidence)?;
        let words: Vec<&str> = document.path.split('/').filter(|word| !word.is_empty()).collect();
        let (said, see) = self.carry_out(who, &words, &Fields::of(document.fields.as_bytes()))?;
        self.services.sessions.say(&who.session, said);
        Ok(web::object(StatusCode::OK, &json!({ "see": see })))
    }

    /// Carries out what a form of this path asks; answers what to say and where to go on.
    fn carry_out(&self, who: &Who, words: &[&str], fields: &Fields) -> Result<(String, String), Failure> {
        match words {
            ["people", ..] => self.people_act(who, words, fields),
            ["agents", ..] if who.is_of_bank() => self.agent_act(who, words, fields),
            ["manual", ..] if who.is_of_bank() => self.case_act(who, words, fields),
            ["grants", ..] => self.grant_act(who, words, fields),
            _ => Err(Failure::usage("unknown_page", "there is no such form", "reload the page")),
        }
    }
}

fn mismatch() -> Failure {
    Failure::refused(
        "act_mismatch",
        "what was signed is not what was asked of you last, or it took too long",
        "reload the page and do it again",
    )
}
