//! An officer's signature from a token of their own: what `--as DIR` means.

use std::path::Path;

use serde_json::Value;

use crate::cli::context::Context;
use crate::config::Config;
use crate::front::admin::AdminCall;
use crate::kernel::credential::operator::{SignedApproval, SignedRequest};
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::credential::request;
use crate::kernel::types::{KeyId, PartyName, SpiffeId};
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

/// How long an approval stands unless something else is said, in days.
pub const DAYS: u32 = 90;

/// An officer's own state directory.
pub struct Officer(Context);

impl Officer {
    /// The officer whose state directory this is.
    pub fn of(directory: &Path, json: bool) -> Self {
        Self(Context { state: StateDir::new(directory), json, operator: None })
    }

    /// Signs that `party` may certify this agent over this key.
    ///
    /// # Errors
    /// The failures of the officer's own daemon: `config_missing`, `pin_refused`, `not_this_party`, …
    pub fn approve(
        &self,
        party: PartyName,
        agent: SpiffeId,
        agent_key: KeyId,
        days: u32,
    ) -> Result<SignedApproval, Failure> {
        read(self.0.call(AdminCall::ApprovalSign { party, agent, agent_key, days })?)
    }

    /// The officer's key.
    ///
    /// # Errors
    /// As [`Self::approve`].
    pub fn key(&self) -> Result<KeyId, Failure> {
        Ok(read::<SignedRequest>(self.0.call(AdminCall::OperatorShow {})?)?.request.key)
    }
}

/// The party of a state directory and its trust domain: from its configuration, or from its daemon where the file is
/// nobody else's to read.
///
/// # Errors
/// `config_missing`, `config_invalid`; the daemon's failures.
pub fn party_of(context: &Context) -> Result<(PartyName, String), Failure> {
    match Config::load(&context.state) {
        Ok(config) => Ok((config.hosted().0.clone(), config.pki.trust_domain.clone())),
        Err(failure) if failure.name == "config_unreadable" => {
            let status = context.call(AdminCall::Status {})?;
            Ok((read(status["party"].clone())?, read(status["trust_domain"].clone())?))
        }
        Err(failure) => Err(failure),
    }
}

/// Whom a request of `cert request` is about, by its signed part.
///
/// # Errors
/// `document_malformed`
pub fn subject_of(document: &Value) -> Result<(SpiffeId, KeyId), Failure> {
    let malformed = |why: String| {
        Failure::usage(
            "document_malformed",
            format!("the request cannot be read: {why}"),
            "take the output of `countersign cert request` as it is",
        )
    };
    let text = document["csr_pem"].as_str().ok_or_else(|| malformed("it has no csr_pem".into()))?;
    let der = pem::decode_one(Kind::Request, text).map_err(|error| malformed(error.to_string()))?;
    let verified = request::verify(&der).map_err(|refusal| malformed(refusal.to_string()))?;
    Ok((verified.spiffe_id().clone(), verified.key()))
}

pub(super) fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| {
        Failure::fault("answer_unreadable", error.to_string(), "check that both state directories use this version")
    })
}
