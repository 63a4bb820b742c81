//! The states of many subjects, bounded: who was not seen for longest is forgotten, and is new when it comes again.

use std::collections::BTreeMap;

use super::event::{Event, Subject};
use super::state::State;

/// Neither before nor after.
const NONE: u32 = u32::MAX;

/// States by subject, in the order in which they were last seen.
#[derive(Clone, Default, Debug)]
pub(super) struct Table {
    places: BTreeMap<Subject, u32>,
    slots: Vec<Slot>,
    /// The states of the slots, in their order. A table that grows moves none of them, and nothing lies between them.
    states: Vec<Vec<State>>,
    /// The slot seen last, and the one not seen for longest.
    newest: u32,
    oldest: u32,
    most: usize,
}

#[derive(Clone, Debug)]
struct Slot {
    subject: Subject,
    newer: u32,
    older: u32,
}

/// States that are allocated together: as many as fit into 128 KiB, of which allocators make the most.
const TOGETHER: usize = (128 << 10) / size_of::<State>();

/// Where a slot's state is.
fn split(place: u32) -> (usize, usize) {
    (place as usize / TOGETHER, place as usize % TOGETHER)
}

impl Table {
    pub(super) fn of(most: u32) -> Self {
        let most = usize::try_from(most.clamp(1, NONE - 1)).unwrap_or(1);
        Self { places: BTreeMap::new(), slots: Vec::new(), states: Vec::new(), newest: NONE, oldest: NONE, most }
    }

    pub(super) fn find(&self, subject: Subject) -> Option<&State> {
        let (chunk, at) = split(*self.places.get(&subject)?);
        self.states.get(chunk)?.get(at)
    }

    /// The subject that has these 64 bits, if it is known.
    pub(super) fn named(&self, short: u64) -> Option<Subject> {
        self.places.range(Subject::all_of(short)).next().map(|(subject, _)| *subject)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes that the states take, with what keeps them in order.
    pub(super) fn bytes(&self) -> usize {
        // A node of the map is between half full and full: 16 + 4 bytes a key, and its links.
        let beside: usize = self.states.iter().flatten().map(State::bytes_beside).sum();
        let states = self.states.len() * TOGETHER * size_of::<State>();
        self.slots.capacity() * size_of::<Slot>() + states + beside + self.places.len() * 48
    }

    pub(super) fn observe(&mut self, subject: Subject, event: &Event) {
        self.seen(subject).observe(event);
    }

    /// The state of a subject that is seen now.
    pub(super) fn seen(&mut self, subject: Subject) -> &mut State {
        let place = match self.places.get(&subject) {
            Some(place) => {
                let place = *place;
                self.unlink(place);
                place
            }
            None => self.enter(subject),
        };
        self.link(place);
        let (chunk, at) = split(place);
        &mut self.states[chunk][at]
    }

    /// A slot for a subject that has none: a fresh one, or the one of who was not seen for longest.
    fn enter(&mut self, subject: Subject) -> u32 {
        let place = if self.slots.len() < self.most {
            self.slots.push(Slot { subject, newer: NONE, older: NONE });
            if self.states.last().is_none_or(|chunk| chunk.len() == TOGETHER) {
                self.states.push(Vec::with_capacity(TOGETHER));
            }
            if let Some(chunk) = self.states.last_mut() {
                chunk.push(State::default());
            }
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        } else {
            let place = self.oldest;
            self.unlink(place);
            let slot = &mut self.slots[place as usize];
            self.places.remove(&slot.subject);
            slot.subject = subject;
            let (chunk, at) = split(place);
            self.states[chunk][at] = State::default();
            place
        };
        self.places.insert(subject, place);
        place
    }

    fn unlink(&mut self, place: u32) {
        let Slot { newer, older, .. } = self.slots[place as usize];
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link(&mut self, place: u32) {
        let before = self.newest;
        let slot = &mut self.slots[place as usize];
        (slot.newer, slot.older) = (NONE, before);
        match self.slots.get_mut(before as usize) {
            Some(slot) => slot.newer = place,
            None => self.oldest = place,
        }
        self.newest = place;
    }
}
