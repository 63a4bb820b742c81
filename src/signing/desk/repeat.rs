//! The same again: what is known under an idempotency key, and never anything else.

use std::sync::Arc;

use super::record::scope;
use super::{Answer, Desk, defect, refusal_of};
use crate::hsm::{KeyInfo, KeyState};
use crate::kernel::command::ProgramPrincipal;
use crate::kernel::external::{SigningOrder, SigningRow};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{RequestId, Sha256};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::signing::api::Asked;
use crate::signing::compose::{self, Site};
use crate::signing::journal::{Journal, Kept};
use crate::signing::refusal::SigningRefusal;
use crate::signing::settings::SigningKeySettings;

/// Another daemon of the store has a clock of its own.
const SKEW_MS_MAX: i64 = 60_000;

impl Desk {
    /// Answers a repetition. What was asked is composed again as it was then: the store says when, and under which version
    /// of the key, and never what is signed.
    pub(super) async fn repeat(
        &self,
        row: SigningRow,
        asked: &Asked,
        settings: &SigningKeySettings,
    ) -> Result<Answer, Failure> {
        let kept = Kept::read(&row.journal)?;
        let key = self.version(settings.name.as_str(), kept.key).await?;
        let signs = |key: &KeyInfo| row.signatures.is_some() || key.state == KeyState::Active;
        let Some(key) = key.filter(signs) else {
            return Err(self.counted(SigningRefusal::KeyRetired));
        };
        let site = Site { request_id: &kept.request_id, at: kept.at, key: &key, settings };
        let journal = Arc::new(compose::compose(asked, &site).map_err(|refusal| refusal.failure())?);
        let plausible = kept.request_id.parse::<RequestId>().is_ok() && kept.at <= clock::now().plus_ms(SKEW_MS_MAX);
        if !plausible || compose::told(&journal).1 != kept.digest {
            return Err(damaged());
        }
        self.release(row, journal, key, true).await
    }

    /// Answers an order with an idempotency key: with the signatures that are stored, made now if there are none.
    pub(super) async fn release(
        &self,
        row: SigningRow,
        journal: Arc<Journal>,
        key: KeyInfo,
        repeated: bool,
    ) -> Result<Answer, Failure> {
        let (made, stored) = match row.signatures {
            Some(stored) => (None, stored),
            None => {
                let made = Journal::write_signatures(&self.signatures(&journal, &key).await?)?;
                let stored = self.kept(row.scope, made.clone()).await?;
                (Some(made), stored)
            }
        };
        let signatures = Arc::new(Journal::read_signatures(&stored).ok_or_else(damaged)?);
        // What the store says was made before is verified like what was made just now.
        if made.as_ref() != Some(&stored) && !self.are_signed(&journal, &key, &signatures).await? {
            return Err(damaged());
        }
        journal.answer(&signatures, repeated)
    }

    /// The version of the key that an order under this idempotency key has named.
    pub(super) async fn key_of_before(
        &self,
        program: &ProgramPrincipal,
        asked: &Asked,
    ) -> Result<Option<KeyInfo>, Failure> {
        let Some(scope) = scope(program, asked) else { return Ok(None) };
        match self.row(scope).await? {
            Some(row) => self.version(asked.key(), Kept::read(&row.journal)?.key).await,
            None => Ok(None),
        }
    }

    async fn row(&self, scope: Sha256) -> Result<Option<SigningRow>, Failure> {
        let store = Arc::clone(&self.setup.store);
        Ok(tokio::task::spawn_blocking(move || store.signing(&scope)).await.map_err(|_| defect())??)
    }

    /// The HSM is away: what was signed before is still answered, and nothing is recorded.
    pub(super) async fn without_hsm(
        &self,
        program: &ProgramPrincipal,
        asked: &Asked,
        settings: &SigningKeySettings,
        order: SigningOrder,
        request_id: &str,
    ) -> Result<Answer, Failure> {
        let Some(mark) = &order.mark else {
            return Err(self.counted(SigningRefusal::HsmUnavailable));
        };
        let request = mark.request;
        match self.row(mark.scope).await? {
            Some(row) if row.request == request && row.signatures.is_some() => {
                self.ordered(program, order, request_id).await?;
                let answered = self.repeat(row, asked, settings).await;
                self.came_of(request_id, &answered);
                answered
            }
            Some(row) if row.request != request => {
                tracing::debug!(key = asked.key(), "another request under a known idempotency key");
                Err(refusal_of(Refusal::IdempotencyMismatch))
            }
            Some(_) | None => Err(self.counted(SigningRefusal::HsmUnavailable)),
        }
    }
}

/// The row is not what this service wrote, or the rules of the key have changed since.
fn damaged() -> Failure {
    Failure::fault(
        "journal_damaged",
        "what was kept under this idempotency key is not what the request comes to: nothing was signed",
        "ask with another idempotency key; if nobody has changed the rules of the key, have the store looked at",
    )
}
