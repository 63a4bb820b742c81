//! The signatures of an order: asked of the HSM without a thread that waits, verified before they are kept or released.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, stream};

use super::{Desk, defect};
use crate::hsm::{HsmFault, KeyInfo, signature_unverified};
use crate::kernel::sign::{Algorithm, SignInput};
use crate::ops::failure::{Failure, MayHaveHappened};
use crate::signing::journal::{Journal, Ordered};
use crate::signing::refusal::SigningRefusal;

/// Signatures of one batch that are asked of the HSM at once.
const TOGETHER_MAX: usize = 8;

impl Desk {
    /// A signature for each message of an order, several asked for at once, each verified.
    pub(super) async fn signatures(&self, journal: &Arc<Journal>, key: &KeyInfo) -> Result<Vec<Vec<u8>>, Failure> {
        let failed = Arc::new(AtomicBool::new(false));
        let inputs: Vec<SignInput> = journal.items.iter().map(Ordered::input).collect();
        // After the first fault nothing more is asked for; what is under way is awaited.
        let stopped = Arc::clone(&failed);
        let asked = inputs.into_iter().take_while(move |_| !stopped.load(Ordering::Relaxed)).map(|input| {
            let (waiting, token) = (Arc::clone(&self.waiting), Arc::clone(&self.setup.token));
            let (key, failed) = (journal.key, Arc::clone(&failed));
            async move {
                let _permit = waiting.acquire_owned().await;
                let made = token.signature(key, input).await;
                failed.fetch_or(made.is_err(), Ordering::Relaxed);
                made
            }
        });
        let made: Vec<Result<Vec<u8>, HsmFault>> = stream::iter(asked).buffered(TOGETHER_MAX).collect().await;
        let signatures = match made.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(signatures) => Arc::new(signatures),
            Err(fault) => return Err(self.not_signed(key, &fault).await),
        };
        if self.are_signed(journal, key, &signatures).await? {
            return Ok(Arc::unwrap_or_clone(signatures));
        }
        tracing::error!(label = key.label, "the module made a signature that does not verify");
        Err(self.not_signed(key, &signature_unverified(&key.label)).await)
    }

    /// Whether these are this key's signatures of this order: the worker leaves it to us, and so does the store.
    pub(super) async fn are_signed(
        &self,
        journal: &Arc<Journal>,
        key: &KeyInfo,
        signatures: &Arc<Vec<Vec<u8>>>,
    ) -> Result<bool, Failure> {
        // One takes less time than to hand it over.
        if journal.items.len() == 1 && key.algorithm == Algorithm::P256 {
            return Ok(journal.is_signed(&key.spki, signatures));
        }
        let _permit = self.verifying.acquire().await.map_err(|_| defect())?;
        let (journal, spki, signatures) = (Arc::clone(journal), key.spki.clone(), Arc::clone(signatures));
        let verified = tokio::task::spawn_blocking(move || journal.is_signed(&spki, &signatures));
        verified.await.map_err(|_| defect())
    }

    async fn not_signed(&self, key: &KeyInfo, fault: &HsmFault) -> Failure {
        match fault {
            HsmFault::Refused { .. } => {
                // Another daemon, or a person, may have retired it.
                let looked = self.refresh().await;
                if looked.is_ok() && !self.signs(key) {
                    return self.counted(SigningRefusal::KeyRetired);
                }
                Failure::from(fault.clone())
            }
            HsmFault::Unavailable { maybe_signed: true, .. } => Failure {
                may_have_happened: MayHaveHappened::Unknown,
                ..Failure::unknown(
                    "hsm_outcome_unknown",
                    format!("{fault}; whether it was signed is not known, and no signature was released"),
                    "repeat with the same idempotency key: what is released is signed once",
                )
            },
            HsmFault::Unavailable { .. } | HsmFault::Busy | HsmFault::PinRefused { .. } => Failure::busy(
                if *fault == HsmFault::Busy { "hsm_busy" } else { "hsm_unavailable" },
                format!("{fault}; nothing was signed"),
                "repeat in a moment, with the same idempotency key if there is one",
            ),
        }
    }
}
