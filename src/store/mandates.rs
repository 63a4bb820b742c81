//! What an agent is shown of its mandates: a few rows without their texts, however many its owner has ever given.

use crate::kernel::decide::{Counter, marks_of_signer};
use crate::kernel::mandate::{Counts, HeldMandate, LIFE, Mandate, ShownMandate};
use crate::kernel::types::{Day, KeyId, MandateId, SpiffeId, UnixMillis};
use crate::kernel::zone::Zone;

/// Whose mandates are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MandateQuery {
    pub agent: SpiffeId,
    /// The key that they were given for: whoever has the name now may be another.
    pub key: KeyId,
    /// This one alone.
    pub id: Option<MandateId>,
    /// When they are looked at.
    pub now: UnixMillis,
    pub limit: u32,
}

impl MandateQuery {
    /// The columns of those that were not revoked and have not ended, newest first, and of others, newest first: of each so
    /// many as the limit says. Parameters: agent, key, id, now, limit; `sign` is what marks one, `key` where a row has its
    /// key.
    pub(super) fn sql(sign: char, columns: &str, key: &str, one: bool) -> String {
        let named = if one { format!("name = {sign}3") } else { format!("coalesce({sign}3, '') = ''") };
        let live = format!("(revoked_at IS NULL AND expires > {sign}4)");
        let part = |condition: &str| {
            format!(
                "SELECT * FROM (SELECT {columns}, created, revoked_at,
                     (SELECT zone FROM accounts WHERE accounts.name = mandates.account) AS zone
                 FROM mandates WHERE agent = {sign}1 AND {key} = {sign}2 AND {named} AND {condition}
                 ORDER BY name DESC LIMIT {sign}5) AS found"
            )
        };
        format!("{} UNION ALL {}", part(&live), part(&format!("NOT {live}")))
    }
}

/// One of those rows.
#[derive(Debug)]
pub(super) struct MandateRow {
    pub(super) held: HeldMandate,
    pub(super) created: UnixMillis,
    /// Itself.
    pub(super) revoked: Option<UnixMillis>,
    /// None: the account is not there.
    pub(super) zone: Option<Zone>,
}

impl MandateRow {
    pub(super) fn counters(&self, now: UnixMillis) -> [(Counter, Day); 3] {
        let Mandate { id, .. } = &self.held.mandate;
        let used = self.held.mandate.counted_on(now, self.zone.unwrap_or(Zone::UTC));
        let uses = Counter::MandateUses(id.clone());
        [(Counter::MandateAmount(id.clone()), used.budget_on), (uses.clone(), used.recurs_on), (uses, LIFE)]
    }

    pub(super) fn marks(&self) -> Vec<String> {
        marks_of_signer(&self.held.signer)
    }

    /// With what was counted, and since when a mark stands.
    ///
    /// # Errors
    /// Those of the two.
    pub(super) fn shown<E>(
        self,
        now: UnixMillis,
        mut revoked_at: impl FnMut(&str) -> Result<Option<UnixMillis>, E>,
        mut spent: impl FnMut(&Counter, Day) -> Result<i64, E>,
    ) -> Result<ShownMandate, E> {
        let [amount, in_period, in_life] = self.counters(now);
        let counts = Counts {
            minor: spent(&amount.0, amount.1)?,
            in_period: spent(&in_period.0, in_period.1)?,
            in_life: spent(&in_life.0, in_life.1)?,
        };
        let mut revoked = self.revoked;
        for mark in if revoked.is_none() { self.marks() } else { vec![] } {
            revoked = revoked.into_iter().chain(revoked_at(&mark)?).min();
        }
        let (created, zone) = (self.created, self.zone.unwrap_or(Zone::UTC));
        Ok(ShownMandate { mandate: self.held.mandate, created, revoked, zone, counts })
    }
}
