//! The tools that this agent host has accepted from its bank, kept in `anchors/tool-manifest.json`.

use std::path::PathBuf;

use crate::ca::files;
use crate::kernel::tool_manifest::{self, AcceptedManifest, Standing, VerifiedManifest};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// So far may the clock of the bank be ahead of ours.
const SKEW_MAX_MS: i64 = 5_000;

/// Where it is kept which manifest was accepted, and which one a person accepts now.
#[derive(Clone, Debug)]
pub struct ManifestPin {
    pub file: PathBuf,
    pub oid_base: String,
    pub accepting: Option<u64>,
}

impl ManifestPin {
    /// The bank's manifest, verified under its root (DER) and accepted: the first one without a word, a newer one only by
    /// a person's. Blocking.
    ///
    /// # Errors
    /// `manifest_…` by name; `manifest_not_accepted` for a newer one, `manifest_older`, `manifest_altered`.
    pub fn accept(&self, text: &[u8], root: &[u8]) -> Result<VerifiedManifest, Failure> {
        let verified =
            tool_manifest::verify(text, root, &self.oid_base, clock::now(), SKEW_MAX_MS).map_err(|refusal| {
                refused(refusal.name(), format!("the bank's tools are not shown: {refusal}"), "tell the bank")
            })?;
        let before = self.before()?;
        match tool_manifest::standing(before.as_ref(), &verified, self.accepting) {
            Standing::Same => {}
            Standing::New => {
                let accepted = AcceptedManifest { version: verified.version(), tools_hash: verified.tools_hash() };
                files::write_json(&self.file, &accepted)?;
                tracing::info!(version = verified.version(), "the bank's tools are accepted");
            }
            Standing::Unaccepted => {
                let (version, known) = (verified.version(), before.map_or(0, |before| before.version));
                return Err(refused(
                    "manifest_not_accepted",
                    format!("the bank has changed its tools: version {version}, and {known} was accepted here"),
                    &format!(
                        "look at what is new, then accept it once: countersign connect --agent NAME --accept-manifest {version}"
                    ),
                ));
            }
            Standing::Older => {
                return Err(refused(
                    "manifest_older",
                    "the bank shows older tools than were accepted here before".into(),
                    "do not use it; ask the bank whether it went back, and then remove anchors/tool-manifest.json",
                ));
            }
            Standing::Altered => {
                return Err(refused(
                    "manifest_altered",
                    "the bank shows other tools under the version that was accepted here".into(),
                    "do not use it, and tell the bank: versions never change",
                ));
            }
        }
        Ok(verified)
    }

    fn before(&self) -> Result<Option<AcceptedManifest>, Failure> {
        let text = match std::fs::read(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unreadable(&error.to_string())),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| self.unreadable(&error.to_string()))
    }

    fn unreadable(&self, why: &str) -> Failure {
        Failure::fault(
            "manifest_pin_unreadable",
            format!("{}: {why}", self.file.display()),
            "check its owner and mode; removing it accepts the bank's next manifest as if it were the first",
        )
    }
}

fn refused(name: &str, message: String, next_step: &str) -> Failure {
    Failure::refused(name, message, next_step)
}
