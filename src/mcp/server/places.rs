//! Places for what takes its time: so many for each agent, and for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kernel::types::KeyId;

/// The places that are taken, by the agent's key.
#[derive(Debug)]
pub(super) struct Places {
    of_one_max: usize,
    all_max: usize,
    /// The lock guards the map only.
    taken: Mutex<HashMap<KeyId, usize>>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Places>,
    agent: KeyId,
}

impl Places {
    pub fn new(of_one_max: usize, all_max: usize) -> Arc<Self> {
        Arc::new(Self { of_one_max, all_max, taken: Mutex::default() })
    }

    /// A place for this agent. `None`: it, or everybody together, has as many as there are.
    pub fn take(self: &Arc<Self>, agent: KeyId) -> Option<Place> {
        let mut taken = self.taken();
        if taken.values().sum::<usize>() >= self.all_max {
            return None;
        }
        let own = taken.entry(agent).or_default();
        if *own >= self.of_one_max {
            return None;
        }
        *own += 1;
        Some(Place { of: Arc::clone(self), agent })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<KeyId, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.taken();
        if let Some(own) = taken.get_mut(&self.agent) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::types::Sha256;

    #[test]
    fn one_agent_leaves_room_for_others_and_all_together_for_what_is_not_waiting() {
        let places = Places::new(2, 3);
        let [greedy, modest, late] = [1, 2, 3].map(|byte| Sha256([byte; 32]));
        let held = [places.take(greedy).unwrap(), places.take(greedy).unwrap()];
        assert!(places.take(greedy).is_none());
        let own = places.take(modest).unwrap();
        assert!(places.take(late).is_none(), "all are taken");
        drop(own);
        assert!(places.take(late).is_some());
        drop(held);
        assert!(places.taken().is_empty());
    }
}
