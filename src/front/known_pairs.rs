//! Pairs that were accepted not long ago: an agent that connects again is not judged from its roots once more.
//!
//! What is remembered is that these very certificates make an agent under the rule in force. What can change since is
//! asked each time, as on every request of an open connection: both ends, every revocation, the endorsement's status.
//! A refusal is never remembered, and whoever has no accepted pair puts nothing here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::kernel::credential::pair::{self, Acceptance, PairRefusal, PeerChains, VerifiedAgent};
use crate::kernel::status::StatusSnapshot;
use crate::kernel::types::{Sha256, UnixMillis};

/// A pair is judged anew after this time, whatever happens.
const REMEMBERED_MS: i64 = 10 * 60 * 1000;
/// Pairs that are remembered at once; about a kilobyte each.
const REMEMBERED_MAX: usize = 16_384;

#[derive(Debug)]
struct Known {
    /// The rule it was accepted under. Another one judges anew.
    under: Arc<Acceptance>,
    agent: VerifiedAgent,
    until: UnixMillis,
}

/// By the hash of what was presented. The lock guards the map only.
#[derive(Debug, Default)]
pub struct KnownPairs(Mutex<HashMap<Sha256, Known>>);

impl KnownPairs {
    /// The acceptance rule on what a peer presented.
    ///
    /// # Errors
    /// The first [`PairRefusal`] in order of precedence.
    pub fn accept(
        &self,
        presented: &[Vec<u8>],
        acceptance: &Arc<Acceptance>,
        status: &StatusSnapshot,
        now: UnixMillis,
    ) -> Result<VerifiedAgent, PairRefusal> {
        let hash = hash_of(presented);
        if let Some(agent) = self.known(&hash, acceptance, now) {
            agent.still_acceptable(status, now)?;
            return Ok(agent);
        }
        let chains = PeerChains { presented: presented.to_vec() };
        let agent = pair::accept(&chains, acceptance, status, now)?;
        let until = now.plus_ms(REMEMBERED_MS);
        self.remember(hash, Known { under: Arc::clone(acceptance), agent: agent.clone(), until }, now);
        Ok(agent)
    }

    fn known(&self, hash: &Sha256, acceptance: &Arc<Acceptance>, now: UnixMillis) -> Option<VerifiedAgent> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back makes it older, not younger.
        let standing = |known: &&Known| {
            Arc::ptr_eq(&known.under, acceptance) && now < known.until && known.until.0 - now.0 <= REMEMBERED_MS
        };
        known.get(hash).filter(standing).map(|known| known.agent.clone())
    }

    fn remember(&self, hash: Sha256, new: Known, now: UnixMillis) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.retain(|_, old| now < old.until && Arc::ptr_eq(&old.under, &new.under));
        }
        // What finds no room is judged each time.
        if known.len() < REMEMBERED_MAX {
            known.insert(hash, new);
        }
    }
}

/// Where one certificate ends and the next begins is part of it.
fn hash_of(presented: &[Vec<u8>]) -> Sha256 {
    let each: Vec<Sha256> = presented.iter().map(|certificate| Sha256::of(&[certificate])).collect();
    let parts: Vec<&[u8]> = each.iter().map(|hash| hash.0.as_slice()).collect();
    Sha256::of(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::credential::testkit::{HOUR_MS, NOW, SPIFFE, World};

    /// A world, its pair, its rule, and a memory that has seen the pair accepted.
    fn known() -> (World, Vec<Vec<u8>>, Arc<Acceptance>, KnownPairs) {
        let world = World::new();
        let (presented, acceptance) = (world.pair().presented, Arc::new(world.acceptance()));
        let pairs = KnownPairs::default();
        let first = pairs.accept(&presented, &acceptance, &world.status(), NOW).unwrap();
        let judged = pair::accept(&PeerChains { presented: presented.clone() }, &acceptance, &world.status(), NOW);
        assert_eq!(Ok(first), judged);
        (world, presented, acceptance, pairs)
    }

    fn is_known(pairs: &KnownPairs, presented: &[Vec<u8>], acceptance: &Arc<Acceptance>, now: UnixMillis) -> bool {
        pairs.known(&hash_of(presented), acceptance, now).is_some()
    }

    #[test]
    fn a_known_pair_is_the_same_agent_until_it_is_judged_anew() {
        let (world, presented, acceptance, pairs) = known();
        let again = pairs.accept(&presented, &acceptance, &world.status(), NOW.plus_ms(1)).unwrap();
        assert_eq!(again.spiffe_id().to_string(), SPIFFE);
        for (at, expected) in [(0, true), (REMEMBERED_MS - 1, true), (REMEMBERED_MS, false), (-1, false)] {
            assert_eq!(is_known(&pairs, &presented, &acceptance, NOW.plus_ms(at)), expected, "{at}");
        }
    }

    #[test]
    fn what_can_change_is_asked_each_time() {
        let (world, presented, acceptance, pairs) = known();
        let mut revoked = world.status();
        revoked.agents.insert(SPIFFE.parse().unwrap());
        let refused = pairs.accept(&presented, &acceptance, &revoked, NOW);
        assert_eq!(refused.unwrap_err(), PairRefusal::AgentRevoked);
        // It is the status that was asked, not a memory of the refusal.
        assert!(pairs.accept(&presented, &acceptance, &world.status(), NOW).is_ok());
        let late = NOW.plus_ms(48 * HOUR_MS);
        assert!(pairs.accept(&presented, &acceptance, &world.status(), late).is_err(), "both halves have ended");
    }

    #[test]
    fn another_rule_and_other_certificates_are_judged() {
        let (world, presented, acceptance, pairs) = known();
        let stricter = Arc::new(Acceptance { trust_domain: "other.example".into(), ..world.acceptance() });
        let refused = pairs.accept(&presented, &stricter, &world.status(), NOW);
        assert_eq!(refused.unwrap_err(), PairRefusal::WrongTrustDomain);
        assert!(!is_known(&pairs, &presented, &Arc::new(world.acceptance()), NOW), "the same words, installed anew");
        let [b, s] = <[Vec<u8>; 2]>::try_from(presented).unwrap();
        for (what, other) in [
            ("B alone", vec![b.clone()]),
            ("the other way round", vec![s.clone(), b.clone()]),
            ("one certificate of both's bytes", vec![[b.clone(), s.clone()].concat()]),
            ("one more", vec![b.clone(), s.clone(), s.clone()]),
        ] {
            assert!(!is_known(&pairs, &other, &acceptance, NOW), "{what}");
            assert!(pairs.accept(&other, &acceptance, &world.status(), NOW).is_err(), "{what}");
            assert!(!is_known(&pairs, &other, &acceptance, NOW), "{what}: a refusal is not remembered");
        }
    }
}
