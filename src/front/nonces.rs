//! Requests that only read, remembered for as long as their signatures live: each is answered once by this daemon.
//!
//! Calls with an effect are remembered by the store, in their own commit. Reads are not worth a row: only the holder of
//! the agent's key could repeat one, and would see what the agent saw. Nothing is forgotten early: what does not fit
//! is refused. A request that was signed before this daemon began is refused too, as it could have been received by
//! the one before. (An agent host whose clock is ahead of the bank's, within what is permitted, can sign for a moment
//! after the start: such a read is answered once by each.)

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::PoisonError;

use crate::kernel::httpsig::VerifiedRequest;
use crate::kernel::types::KeyId;
use crate::ops::sync::Mutex;

/// Half of the hash of key and nonce: as unlikely to be met twice as a key is to be guessed.
type Mark = [u8; 16];

/// Why a read is not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotFresh {
    /// It was received before.
    Replayed,
    /// It was signed at a time of which this daemon remembers nothing.
    TooOld,
    /// There is no room to remember it.
    Full,
}

/// What was read lately, by each agent.
#[derive(Debug)]
pub struct ReadNonces {
    /// Seconds since 1970.
    began: i64,
    of_one_max: usize,
    all_max: usize,
    /// The lock guards the memory only.
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    agents: HashMap<KeyId, Agent>,
    marks: usize,
    /// Everything that ended before it may have been forgotten, also when the clock is set back.
    forgotten_until: i64,
}

#[derive(Debug, Default)]
struct Agent {
    seen: HashSet<Mark>,
    /// By the second in which the signature ends.
    ends: BTreeMap<i64, Vec<Mark>>,
}

impl ReadNonces {
    /// Of a daemon that began in this second.
    pub fn new(began: i64, of_one_max: usize, all_max: usize) -> Self {
        Self { began, of_one_max, all_max, memory: Mutex::default() }
    }

    /// Remembers a request of this agent that was verified at `now` (seconds).
    ///
    /// # Errors
    /// [`NotFresh`]; nothing is remembered then.
    pub fn take(&self, agent: KeyId, request: &VerifiedRequest, now: i64) -> Result<(), NotFresh> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if request.created() < self.began || request.expires() < memory.forgotten_until {
            return Err(NotFresh::TooOld);
        }
        memory.forget(agent, now);
        let mut mark = [0; 16];
        mark.copy_from_slice(&request.once().0[..16]);
        let known = memory.agents.get(&agent);
        if known.is_some_and(|known| known.seen.contains(&mark)) {
            return Err(NotFresh::Replayed);
        }
        if memory.marks >= self.all_max {
            memory.forget_all(now);
        }
        let of_one = memory.agents.get(&agent).map_or(0, |known| known.seen.len());
        if of_one >= self.of_one_max || memory.marks >= self.all_max {
            return Err(NotFresh::Full);
        }
        let known = memory.agents.entry(agent).or_default();
        known.seen.insert(mark);
        known.ends.entry(request.expires()).or_default().push(mark);
        memory.marks += 1;
        Ok(())
    }
}

impl Memory {
    /// Forgets what of this agent ended before `now`.
    fn forget(&mut self, agent: KeyId, now: i64) {
        let Some(known) = self.agents.get_mut(&agent) else {
            return;
        };
        let ended = known.forget(now);
        if ended > 0 {
            self.marks -= ended;
            self.forgotten_until = self.forgotten_until.max(now);
        }
    }

    fn forget_all(&mut self, now: i64) {
        let ended: usize = self.agents.values_mut().map(|known| known.forget(now)).sum();
        self.agents.retain(|_, known| !known.seen.is_empty());
        self.marks -= ended;
        self.forgotten_until = self.forgotten_until.max(now);
    }
}

impl Agent {
    fn forget(&mut self, now: i64) -> usize {
        let live = self.ends.split_off(&now);
        let ended = std::mem::replace(&mut self.ends, live);
        ended.values().flatten().filter(|mark| self.seen.remove(*mark)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::types::Sha256;

    const ALICE: KeyId = Sha256([1; 32]);
    const BOB: KeyId = Sha256([2; 32]);

    fn request(nonce: u8, created: i64) -> VerifiedRequest {
        VerifiedRequest::assumed(Sha256([nonce; 32]), created, created + 60)
    }

    #[test]
    fn a_read_is_taken_once_and_remembered_until_its_signature_ends() {
        let reads = ReadNonces::new(1000, 10, 10);
        assert_eq!(reads.take(ALICE, &request(1, 1000), 1000), Ok(()));
        for now in [1000, 1030, 1060] {
            assert_eq!(reads.take(ALICE, &request(1, 1000), now), Err(NotFresh::Replayed), "{now}");
        }
        assert_eq!(reads.take(BOB, &request(1, 1000), 1060), Ok(()), "another agent's nonces are its own");
        assert_eq!(reads.take(ALICE, &request(2, 1061), 1061), Ok(()));
        assert_eq!(reads.memory.lock().unwrap().agents[&ALICE].seen.len(), 1, "what ended is forgotten");
    }

    #[test]
    fn in_no_order_is_a_read_answered_twice_or_a_share_exceeded_or_room_left_unused() {
        const ORDERS: usize = 1_000;
        let life = || {
            let reads = std::sync::Arc::new(ReadNonces::new(1000, 2, 3));
            let asked = [(ALICE, 1), (ALICE, 1), (ALICE, 2), (ALICE, 3), (BOB, 1), (BOB, 2)];
            let asking = asked.map(|(who, nonce)| {
                let reads = std::sync::Arc::clone(&reads);
                let take = move || reads.take(who, &request(nonce, 1000), 1000).is_ok().then_some((who, nonce));
                shuttle::thread::spawn(take)
            });
            let taken: Vec<(KeyId, u8)> = asking.into_iter().filter_map(|asked| asked.join().unwrap()).collect();
            let once: HashSet<&(KeyId, u8)> = taken.iter().collect();
            assert_eq!(once.len(), taken.len(), "{taken:?}");
            assert!(taken.iter().filter(|(who, _)| *who == ALICE).count() <= 2, "{taken:?}");
            assert_eq!(taken.len(), 3, "{taken:?}");
        };
        shuttle::check_random_with_seed(life, 7, ORDERS);
    }

    #[test]
    fn what_was_signed_before_the_daemon_began_is_not_answered() {
        let reads = ReadNonces::new(1000, 10, 10);
        assert_eq!(reads.take(ALICE, &request(1, 999), 1000), Err(NotFresh::TooOld));
        assert_eq!(reads.take(ALICE, &request(1, 1000), 1000), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_brings_nothing_back_that_was_forgotten() {
        let reads = ReadNonces::new(1000, 10, 10);
        assert_eq!(reads.take(ALICE, &request(1, 1000), 1000), Ok(()));
        assert_eq!(reads.take(ALICE, &request(2, 1100), 1100), Ok(()));
        assert_eq!(reads.take(ALICE, &request(1, 1000), 1010), Err(NotFresh::TooOld));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_nothing_live_is_forgotten_for_it() {
        let reads = ReadNonces::new(1000, 2, 3);
        assert_eq!(reads.take(ALICE, &request(1, 1000), 1000), Ok(()));
        assert_eq!(reads.take(ALICE, &request(2, 1000), 1000), Ok(()));
        assert_eq!(reads.take(ALICE, &request(3, 1000), 1000), Err(NotFresh::Full), "one agent's share");
        assert_eq!(reads.take(BOB, &request(1, 1010), 1010), Ok(()));
        assert_eq!(reads.take(BOB, &request(2, 1010), 1010), Err(NotFresh::Full), "everybody's");
        assert_eq!(reads.take(ALICE, &request(1, 1000), 1010), Err(NotFresh::Replayed));
        // Alice's have ended: Bob has room, though she asks for nothing.
        assert_eq!(reads.take(BOB, &request(2, 1061), 1061), Ok(()));
        assert_eq!(reads.take(BOB, &request(1, 1010), 1061), Err(NotFresh::Replayed));
        assert_eq!(reads.memory.lock().unwrap().marks, 2);
    }
}
