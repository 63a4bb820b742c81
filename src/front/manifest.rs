//! The bank's own tool manifest: signed when it is first asked for, and anew when half of its time is over.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::front::services::Services;
use crate::kernel::receipt::Base64;
use crate::kernel::sign::Purpose;
use crate::kernel::tool_manifest::{MANIFEST_SCHEMA, SignedManifest, ToolManifest, sign_input};
use crate::kernel::types::UnixMillis;
use crate::mcp::server::{TOOLS_VERSION, tool_definitions};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// A bridge that was cut off from the bank for longer has nothing to show anyway.
const LIFETIME_MS: i64 = 7 * 86_400_000;

/// The manifest in force. The lock is held while one is being signed, so that a crowd has one signed.
#[derive(Debug, Default)]
pub struct Manifests(Mutex<Option<(UnixMillis, Value)>>);

impl Manifests {
    /// The manifest for now. Blocking.
    ///
    /// # Errors
    /// `party_not_initialised`; the token's.
    pub fn current(&self, services: &Services) -> Result<Value, Failure> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        if let Some((renewal, signed)) = kept.as_ref()
            // The conformance suite's tools are others from one scenario to the next.
            && !cfg!(feature = "conformance")
            && (renewal.plus_ms(-LIFETIME_MS / 2)..*renewal).contains(&now)
        {
            return Ok(signed.clone());
        }
        let signed = sign(services, now)?;
        *kept = Some((now.plus_ms(LIFETIME_MS / 2), signed.clone()));
        Ok(signed)
    }
}

fn sign(services: &Services, now: UnixMillis) -> Result<Value, Failure> {
    let defect = |what: &str| Failure::fault("manifest_unwritable", what.to_owned(), "report this as a defect");
    let manifest = ToolManifest {
        schema: MANIFEST_SCHEMA.into(),
        party: services.setup.party.to_string(),
        version: TOOLS_VERSION.to_string(),
        issued_at: now.rfc3339(),
        expires_at: now.plus_ms(LIFETIME_MS).rfc3339(),
        tools: tool_definitions(),
    };
    let input = sign_input(&manifest).ok_or_else(|| defect("the manifest has no canonical form"))?;
    let role = services.setup.authority.signing_role(Purpose::Manifest)?;
    let signature = Base64(services.token().sign(role.key.id, input)?);
    let chain = role.chain.into_iter().map(Base64).collect();
    serde_json::to_value(SignedManifest { manifest, chain, signature }).map_err(|error| defect(&error.to_string()))
}
