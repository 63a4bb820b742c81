//! Who sits where: every word that counts keeps a seat, and a new one gets one whenever that can be had.
//!
//! Somebody with two roles may sit at either of two gates, and whoever speaks first does not know who comes later. So a
//! seat is not for ever: those who have spoken move where that makes room. An ordered gate hears its roles in the order
//! in which people spoke, which is no bipartite matching any more; but what is still possible depends on how many sit at
//! each gate alone, so the search looks at each such state once.

use std::collections::BTreeSet;

use super::{GateRule, Seat, Side};

/// States that are looked at for one word. Unordered gates have at most 9 × 9 × 9: no two of them share one of three roles.
/// Many ordered gates may have more; then a word that finds no seat among so many is out of turn.
const STATES_MAX: usize = 4_096;

/// Somebody who has a seat or wants one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice<'a> {
    pub roles: &'a [String],
    /// Where they sit now.
    pub gate: Option<usize>,
}

/// A seat for each of these, in the order in which they spoke, at the gates of this side: as they sit now where that can be.
pub(super) fn seated(gates: &[GateRule], side: Side, voices: &[Voice<'_>]) -> Option<Vec<Seat>> {
    let mut search = Search {
        gates,
        side,
        voices,
        given: vec![0; gates.len()],
        seats: Vec::with_capacity(voices.len()),
        seen: BTreeSet::new(),
    };
    search.goes_on().then_some(search.seats)
}

struct Search<'a> {
    gates: &'a [GateRule],
    side: Side,
    voices: &'a [Voice<'a>],
    /// How many sit at each gate.
    given: Vec<u32>,
    /// Of the first voices.
    seats: Vec<Seat>,
    /// States from which the rest was tried.
    seen: BTreeSet<Vec<u32>>,
}

impl Search<'_> {
    /// As deep as there are voices: people of all gates.
    fn goes_on(&mut self) -> bool {
        let Some(voice) = self.voices.get(self.seats.len()) else {
            return true;
        };
        if self.seen.len() >= STATES_MAX || !self.seen.insert(self.given.clone()) {
            return false;
        }
        let others = (0..self.gates.len()).filter(|gate| Some(*gate) != voice.gate);
        for gate in voice.gate.into_iter().chain(others) {
            let Some(rule) = self.gates.get(gate).filter(|rule| rule.side() == self.side) else {
                continue;
            };
            if self.given[gate] >= rule.people() {
                continue;
            }
            let Some(role) = rule.next_role(self.given[gate], voice.roles) else {
                continue;
            };
            self.given[gate] += 1;
            self.seats.push(Seat { gate, role });
            if self.goes_on() {
                return true;
            }
            self.seats.pop();
            self.given[gate] -= 1;
        }
        false
    }
}
