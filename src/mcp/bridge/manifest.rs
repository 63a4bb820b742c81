//! Only tools whose definition is in the manifest that this agent host has accepted are shown and called.

use std::sync::Arc;

use rmcp::model::{ErrorData, RequestId};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::failures::told;
use super::upstream::{Hearing, Question, Upstream};
use super::{Dial, meta};
use crate::kernel::tool_manifest::VerifiedManifest;
use crate::mcp::server::MANIFEST_URI;
use crate::ops::clock;
use crate::ops::failure::Failure;

/// Of what is left of a manifest's time this much is not relied on.
const MARGIN_MS: i64 = 60_000;

/// The accepted manifest. The lock is held while one is fetched, so that a crowd fetches one.
#[derive(Default)]
pub(super) struct Accepted(Mutex<Option<Arc<VerifiedManifest>>>);

impl Accepted {
    /// The manifest for now: the one that is there, or the bank's. `None`: nobody signs the tools of this server.
    ///
    /// # Errors
    /// As the bank answers; as [`Dial::accept_tools`] judges.
    pub async fn current(
        &self,
        dial: &Arc<dyn Dial>,
        upstream: &Upstream,
    ) -> Result<Option<Arc<VerifiedManifest>>, ErrorData> {
        let mut kept = self.0.lock().await;
        if let Some(manifest) = kept.as_ref().filter(|manifest| clock::now().plus_ms(MARGIN_MS) < manifest.expires()) {
            return Ok(Some(Arc::clone(manifest)));
        }
        let fetched = fetch(dial, upstream).await?;
        kept.clone_from(&fetched);
        Ok(fetched)
    }

    /// The bank's manifest may be a newer one than that which is there.
    pub async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

async fn fetch(dial: &Arc<dyn Dial>, upstream: &Upstream) -> Result<Option<Arc<VerifiedManifest>>, ErrorData> {
    if !dial.has_signed_tools() {
        return Ok(None);
    }
    let id = RequestId::String("tool-manifest".into());
    let params = Map::from_iter([("uri".to_owned(), json!(MANIFEST_URI))]);
    let params = meta(params, json!({}));
    let question = Question { id: &id, method: "resources/read", params, headers: vec![] };
    let read = upstream.ask(question, Hearing::Nobody).await?;
    let Some(text) = read["contents"][0]["text"].as_str().map(str::to_owned) else {
        return Err(told(&Failure::refused(
            "manifest_missing",
            "the bank shows no manifest of its tools",
            "check that the bank and this program are versions that belong together",
        )));
    };
    let judge = Arc::clone(dial);
    let judged = tokio::task::spawn_blocking(move || judge.accept_tools(text.as_bytes())).await;
    let judged = judged.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    judged.map(|manifest| Some(Arc::new(manifest))).map_err(|failure| {
        // For the person at the bridge, too: a model may not tell.
        tracing::error!(name = %failure.name, message = %failure.message, next_step = %failure.next_step, "no tools");
        told(&failure)
    })
}

/// Takes the tools out of a list that are not defined as the manifest says. Answers their names.
pub(super) fn keep_accepted(manifest: &VerifiedManifest, listed: &mut Value) -> Vec<String> {
    let Some(tools) = listed.get_mut("tools").and_then(Value::as_array_mut) else {
        return vec![];
    };
    let name = |tool: &Value| tool["name"].as_str().unwrap_or_default().to_owned();
    let is_accepted = |tool: &Value| manifest.has(&name(tool), tool);
    let strange = tools.iter().filter(|tool| !is_accepted(tool)).map(name).collect();
    tools.retain(is_accepted);
    strange
}

/// A tool that the bank may offer, and nobody here has accepted.
pub(super) fn not_accepted(tool: &str) -> ErrorData {
    let tool: String = tool.chars().take(64).collect();
    told(&Failure::refused(
        "tool_not_accepted",
        format!("{tool:?} is no tool of the manifest that was accepted here; nothing was sent"),
        "see tools/list",
    ))
}
