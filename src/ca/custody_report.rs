//! The custody report of this party's token: read from the token, signed by it, verified before it is handed out.

use serde_json::{Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority, OFFICER};
use crate::ca::keys::{custody_word, verdict};
use crate::ca::settings::PartyKind;
use crate::hsm::{CertifiedKey, KeyInfo, KeyState};
use crate::kernel::command::Actor;
use crate::kernel::credential::custody::{EnrolledHost, HOST_SCHEMA};
use crate::kernel::custody_report::{
    CustodyReport, REPORT_SCHEMA, ReportRefusal, ReportedKey, ReportedModule, ReportedToken, SignedReport, Trust,
    meanings, sign_input, verify,
};
use crate::kernel::receipt::Base64;
use crate::kernel::sign::Purpose;
use crate::ops::clock;
use crate::ops::failure::Failure;

impl Authority {
    /// What the token says of itself and of every key in it, signed.
    ///
    /// Answers `{file, signer, keys, unsound}`; `file` is the report's exact text.
    ///
    /// # Errors
    /// `operator_not_permitted`, `party_not_initialised`, `role_certificate_expired`, `custody_report_unsound`; the
    /// token's.
    pub fn custody_report(&self, actor: &Actor) -> Result<Value, Failure> {
        self.recorded(actor, "custody_report", &json!({ "party": self.party }), || {
            self.permit(actor, &[ADMINISTRATOR, OFFICER, AUDITOR])?;
            let signer = match self.kind {
                PartyKind::Bank | PartyKind::SecurityCompany => self.signing_role(Purpose::Catalogue)?,
                PartyKind::AgentHost => CertifiedKey { key: self.host_key()?, chain: Vec::new() },
                PartyKind::Operator => {
                    return Err(Failure::refused(
                        "not_this_party",
                        "an operator's token has no key that signs custody reports",
                        "see `countersign key show` for each of its keys",
                    ));
                }
            };
            let report = self.reported()?;
            let text = report.text().map_err(unsound)?;
            let signature = self.token.sign(signer.key.id, sign_input(&text))?;
            let signed = SignedReport {
                schema: REPORT_SCHEMA.to_owned(),
                report: text,
                signer: Base64(signer.key.spki.clone()),
                signature: Base64(signature),
                chain: signer.chain.iter().cloned().map(Base64).collect(),
            };
            let file = signed.to_bytes().map_err(unsound)?;
            self.verify_own(&file, &signer).map_err(unsound)?;
            let unsound: Vec<&str> =
                report.keys.iter().filter(|key| key.verdict == "unsound").map(|key| key.label.as_str()).collect();
            Ok(json!({
                "file": String::from_utf8_lossy(&file),
                "signer": signer.key.label,
                "keys": report.keys.len(),
                "unsound": unsound,
            }))
        })
    }

    /// What an auditor will do.
    fn verify_own(&self, file: &[u8], signer: &CertifiedKey) -> Result<(), ReportRefusal> {
        let oid_base = self.base.to_string();
        match signer.chain.last() {
            Some(root) => verify(file, Trust::Root(root), &oid_base).map(drop),
            None => {
                let host = EnrolledHost {
                    schema: HOST_SCHEMA.to_owned(),
                    party: self.party.to_string(),
                    host_key: signer.key.id,
                    spki: base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &signer.key.spki),
                    token_serial: String::new(),
                };
                verify(file, Trust::Host(&host), &oid_base).map(drop)
            }
        }
    }

    fn reported(&self) -> Result<CustodyReport, Failure> {
        let info = self.token.describe()?;
        Ok(CustodyReport {
            schema: REPORT_SCHEMA.to_owned(),
            party: self.party.to_string(),
            kind: json!(self.kind).as_str().unwrap_or_default().to_owned(),
            made_at: clock::now().rfc3339(),
            module: ReportedModule {
                path: info.library.path.display().to_string(),
                description: info.library.description,
                version: info.library.version,
                sha256: info.library.sha256,
            },
            token: ReportedToken { label: info.label, serial: info.serial, manufacturer: info.manufacturer },
            mechanisms: info.mechanisms,
            keys: self.token.keys()?.into_iter().map(reported_key).collect(),
            meanings: meanings(),
        })
    }
}

/// Operators that read, and change nothing.
const AUDITOR: &str = "auditor";

fn reported_key(key: KeyInfo) -> ReportedKey {
    let custody = key.custody;
    let attributes = match key.state {
        KeyState::Destroyed => Vec::new(),
        KeyState::Active | KeyState::VerifyOnly => vec![
            ("always_sensitive", custody.always_sensitive),
            ("extractable", custody.extractable),
            ("local", custody.local),
            ("never_extractable", custody.never_extractable),
            ("sensitive", custody.sensitive),
        ],
    };
    ReportedKey {
        verdict: custody_word(&key).to_owned(),
        why: verdict(&key),
        label: key.label,
        id: key.id,
        purpose: key.purpose,
        algorithm: key.algorithm,
        state: key.state.slug().to_owned(),
        spki: Base64(key.spki),
        attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

fn unsound(refusal: ReportRefusal) -> Failure {
    Failure::fault(
        "custody_report_unsound",
        format!("the report would not verify ({}): {refusal}", refusal.name()),
        "report this as a defect; nothing was handed out",
    )
}
