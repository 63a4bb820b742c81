//! Verifying for programs: with a key of the configuration, or one that they bring.

use std::sync::PoisonError;

use serde_json::{Value, json};

use super::Desk;
use crate::kernel::command::ProgramPrincipal;
use crate::kernel::external::{ExternalKind, JwkRefusal, PublicKey, verify_any, verify_kind, verify_proof};
use crate::ops::failure::Failure;
use crate::signing::api::VerifyRequest;
use crate::signing::refusal::SigningRefusal;

impl Desk {
    /// Verifies a JWS or an item's proof: `{valid, refusal, kind, header, payload}`.
    ///
    /// # Errors
    /// `verify_malformed`, `key_not_permitted`; the token's.
    pub async fn verify(&self, program: &ProgramPrincipal, asked: &VerifyRequest) -> Result<Value, Failure> {
        let keys = match (&asked.key, &asked.jwk) {
            (Some(name), None) if self.setup.callers.permits(name, program) => {
                self.look_again().await?;
                let versions = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
                let own = versions.iter().filter(|key| key.agent.as_ref() == Some(name));
                own.filter_map(|key| PublicKey::from_spki(&key.spki).ok()).collect()
            }
            (Some(_), None) => return Err(self.counted(SigningRefusal::KeyNotPermitted)),
            (None, Some(jwk)) => vec![PublicKey::from_jwk(jwk).map_err(key_malformed)?],
            (Some(_), Some(_)) | (None, None) => return Err(verify_malformed("one of key and jwk")),
        };
        match (&asked.jws, &asked.proof) {
            (Some(jws), None) => Ok(verdict_of_jws(jws, &keys)),
            (None, Some(proof)) => {
                let refusals: Vec<_> = keys.iter().map(|key| verify_proof(proof, key)).collect();
                Ok(match refusals.iter().find(|verdict| verdict.is_ok()).or(refusals.first()) {
                    Some(Ok(())) => json!({ "valid": true, "kind": ExternalKind::Batch }),
                    Some(Err(refusal)) => invalid(refusal.name(), &refusal.to_string()),
                    None => no_key(),
                })
            }
            (Some(_), Some(_)) | (None, None) => Err(verify_malformed("one of jws and proof")),
        }
    }
}

fn verdict_of_jws(jws: &str, keys: &[PublicKey]) -> Value {
    let mut refused = None;
    for key in keys {
        match verify_any(jws, key) {
            Ok(verified) => {
                let kind = ExternalKind::ALL.into_iter().find(|kind| verify_kind(jws, key, *kind).is_ok());
                let payload = serde_json::from_slice::<Value>(verified.payload()).ok();
                return json!({ "valid": true, "kind": kind, "header": verified.header(), "payload": payload });
            }
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    refused.map_or_else(no_key, |refusal| invalid(refusal.name(), refusal.sentence()))
}

fn invalid(name: &str, message: &str) -> Value {
    json!({ "valid": false, "refusal": { "name": name, "message": message } })
}

fn no_key() -> Value {
    invalid("key_missing", "the token has no version of the key")
}

fn verify_malformed(what: &str) -> Failure {
    Failure::usage("verify_malformed", format!("give {what}"), "see GET /openapi.json")
}

fn key_malformed(refusal: JwkRefusal) -> Failure {
    Failure::usage(refusal.name(), refusal.to_string(), "give a public JWK of P-256, P-384 or Ed25519")
}
