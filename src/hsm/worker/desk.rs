//! Who does what in a worker: one thread reads the next frame, some work on calls, the rest wait.
//!
//! A worker has one thread a session and no other. When the module computes on this machine's processors, more
//! threads at work than processors only get in each other's way, and a thread that woke up just to read would too:
//! then the threads at work read for themselves, many calls at a time. When the module waits for a device, every
//! session is put to work. Which of the two it is, is measured.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::hsm::wire::Request;

/// Calls that wait here at most: a front that keeps to its limits never fills it.
pub const WAITING_MAX: usize = 4_096;
/// Calls after which it is decided anew whether the module computes or waits.
const SAMPLE: u32 = 32;
/// No call ended for this long: the threads at work are stuck, and others take over what waits.
const STALL: Duration = Duration::from_millis(20);

/// A thread without a session asks for one again after this time.
const UNSEATED_REST: Duration = Duration::from_millis(500);

/// What a thread does next.
#[derive(Debug)]
pub enum Turn {
    /// A call and the moment it becomes pointless.
    Work(Instant, Request),
    Read,
    /// The worker ends.
    End,
}

/// How a module spends its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pace {
    Computes,
    Waits,
}

/// Decides between the two by the fastest call of a sample: the one that nothing else held up.
#[derive(Debug)]
struct Measure {
    pace: Pace,
    calls: u32,
    fastest: Duration,
    processor: Duration,
}

impl Measure {
    fn anew(pace: Pace) -> Self {
        Self { pace, calls: 0, fastest: Duration::MAX, processor: Duration::ZERO }
    }

    fn took(&mut self, elapsed: Duration, processor: Duration) {
        self.calls += 1;
        if elapsed < self.fastest {
            (self.fastest, self.processor) = (elapsed, processor);
        }
        if self.calls == SAMPLE {
            *self = Self::anew(if self.processor * 2 >= self.fastest { Pace::Computes } else { Pace::Waits });
        }
    }
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<(Instant, Request)>,
    at_work: usize,
    reading: bool,
    /// Threads for which the module has no session now.
    unseated: usize,
    ended: bool,
    measure: Measure,
    /// When a call ended or the first of them began.
    progress: Instant,
    /// Calls were taken since the watching thread last looked.
    busy: bool,
    /// The watching thread rests until the next call.
    resting: bool,
}

/// Shared by all threads of a worker. The lock guards the book only; it is held for no I/O and no module call.
#[derive(Debug)]
pub struct Desk {
    sessions: usize,
    processors: usize,
    state: Mutex<State>,
    changed: Condvar,
    watched: Condvar,
    unseated: Condvar,
}

impl Desk {
    /// For so many sessions, with this share of the machine's processors.
    pub fn new(sessions: usize, processors: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            at_work: 0,
            reading: false,
            unseated: 0,
            ended: false,
            measure: Measure::anew(Pace::Waits),
            progress: Instant::now(),
            busy: false,
            resting: false,
        };
        Self {
            sessions,
            processors: processors.clamp(1, sessions),
            state: Mutex::new(state),
            changed: Condvar::new(),
            watched: Condvar::new(),
            unseated: Condvar::new(),
        }
    }

    /// Calls that are worked on at once.
    pub fn hands(&self) -> usize {
        self.hands_of(&self.state())
    }

    /// True when more calls wait than a reply should wait for.
    pub fn has_more(&self) -> bool {
        let state = self.state();
        state.measure.pace == Pace::Computes && state.waiting.len() > 2 * self.hands_of(&state)
    }

    /// Gives this thread its next turn; waits for one. `before_waiting` runs before the thread blocks or reads.
    pub fn next(&self, mut before_waiting: impl FnMut()) -> Turn {
        let mut settled = false;
        let mut state = self.state();
        loop {
            if state.ended {
                return Turn::End;
            }
            let hands = self.hands_of(&state);
            if state.at_work < hands {
                if let Some((deadline, request)) = state.waiting.pop_front() {
                    if state.at_work == 0 {
                        state.progress = Instant::now();
                    }
                    state.at_work += 1;
                    state.busy = true;
                    let others = state.at_work < hands && (!state.waiting.is_empty() || !state.reading);
                    let watcher = std::mem::take(&mut state.resting);
                    drop(state);
                    if others {
                        self.changed.notify_one();
                    }
                    if watcher {
                        self.watched.notify_one();
                    }
                    return Turn::Work(deadline, request);
                }
                if !state.reading && settled {
                    state.reading = true;
                    return Turn::Read;
                }
            }
            if !settled {
                settled = true;
                drop(state);
                before_waiting();
                state = self.state();
                continue;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The reading thread has read a frame's calls. What finds no place is given back.
    #[must_use]
    pub fn arrived(&self, requests: impl Iterator<Item = (Instant, Request)>) -> Vec<Request> {
        let mut refused = Vec::new();
        let mut state = self.state();
        state.reading = false;
        for (deadline, request) in requests {
            if state.waiting.len() < WAITING_MAX {
                state.waiting.push_back((deadline, request));
            } else {
                refused.push(request);
            }
        }
        refused
    }

    /// A call is done. `took`: elapsed and processor time, when it used the module.
    pub fn done(&self, took: Option<(Duration, Duration)>) {
        let mut state = self.state();
        state.at_work -= 1;
        state.progress = Instant::now();
        if let Some((elapsed, processor)) = took {
            state.measure.took(elapsed, processor);
        }
    }

    /// The module has no session for this thread: the call goes to the others, and the thread rests for a while.
    pub fn give_back(&self, deadline: Instant, request: Request) {
        let mut state = self.state();
        state.waiting.push_front((deadline, request));
        state.at_work -= 1;
        state.unseated += 1;
        self.changed.notify_one();
        let until = Instant::now() + UNSEATED_REST;
        while !state.ended && Instant::now() < until {
            let rest = until.saturating_duration_since(Instant::now());
            state = self.unseated.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.unseated -= 1;
    }

    /// No more turns for anyone.
    pub fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
        self.watched.notify_all();
        self.unseated.notify_all();
    }

    /// The watching thread's part, until the end: when nothing gets done, every session is put to work.
    pub fn watch(&self) {
        let mut state = self.state();
        while !state.ended {
            if !state.busy && state.at_work == 0 {
                state.resting = true;
                state = self.watched.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.busy = false;
            state = self.watched.wait_timeout(state, STALL).unwrap_or_else(PoisonError::into_inner).0;
            if state.at_work > 0 && state.measure.pace == Pace::Computes && state.progress.elapsed() >= STALL {
                state.measure = Measure::anew(Pace::Waits);
                self.changed.notify_all();
            }
        }
    }

    fn hands_of(&self, state: &State) -> usize {
        let seated = self.sessions.saturating_sub(state.unseated).max(1);
        match state.measure.pace {
            Pace::Computes => self.processors.min(seated),
            Pace::Waits => seated,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::Op;

    const MS: Duration = Duration::from_millis(1);

    fn call(id: u64) -> (Instant, Request) {
        (Instant::now() + Duration::from_secs(60), Request { id, deadline_ms: 60_000, op: Op::Describe })
    }

    fn worked_on(turn: Turn) -> u64 {
        match turn {
            Turn::Work(_, request) => request.id,
            Turn::Read | Turn::End => panic!("work, not {turn:?}"),
        }
    }

    fn compute(desk: &Desk) {
        for id in 0..u64::from(SAMPLE) {
            assert!(matches!(desk.next(|| {}), Turn::Read));
            assert!(desk.arrived([call(id)].into_iter()).is_empty());
            assert_eq!(worked_on(desk.next(|| {})), id);
            desk.done(Some((MS, MS)));
        }
    }

    #[test]
    fn a_thread_that_finds_nothing_to_do_settles_its_replies_and_reads() {
        let desk = Desk::new(4, 1);
        let mut settled = 0;
        assert!(matches!(desk.next(|| settled += 1), Turn::Read));
        assert_eq!(settled, 1);
        assert!(desk.arrived([call(1), call(2)].into_iter()).is_empty());
        assert_eq!(worked_on(desk.next(|| settled += 1)), 1);
        assert_eq!(worked_on(desk.next(|| settled += 1)), 2);
        assert_eq!(settled, 1, "nothing is settled while calls wait");
        desk.end();
        assert!(matches!(desk.next(|| {}), Turn::End));
    }

    #[test]
    fn a_module_that_computes_gets_as_many_hands_as_processors_and_one_that_waits_gets_all() {
        let desk = Desk::new(8, 2);
        assert_eq!(desk.hands(), 8);
        compute(&desk);
        assert_eq!(desk.hands(), 2);
        for id in 0..u64::from(SAMPLE) {
            assert!(matches!(desk.next(|| {}), Turn::Read));
            assert!(desk.arrived([call(id)].into_iter()).is_empty());
            worked_on(desk.next(|| {}));
            desk.done(Some((10 * MS, MS / 10)));
        }
        assert_eq!(desk.hands(), 8);
    }

    #[test]
    fn calls_beyond_the_limit_are_given_back() {
        let desk = Desk::new(1, 1);
        assert!(matches!(desk.next(|| {}), Turn::Read));
        let refused = desk.arrived((0..WAITING_MAX as u64 + 2).map(call));
        assert_eq!(refused.iter().map(|request| request.id).collect::<Vec<_>>(), [4_096, 4_097]);
    }

    #[test]
    fn a_call_that_hangs_in_a_module_that_computes_does_not_keep_the_others_waiting() {
        let desk = Desk::new(4, 1);
        compute(&desk);
        std::thread::scope(|scope| {
            scope.spawn(|| desk.watch());
            assert!(matches!(desk.next(|| {}), Turn::Read));
            assert!(desk.arrived([call(1), call(2)].into_iter()).is_empty());
            assert_eq!(worked_on(desk.next(|| {})), 1);
            // The first never ends; another thread gets the second all the same.
            let other = scope.spawn(|| worked_on(desk.next(|| {})));
            assert_eq!(other.join().unwrap(), 2);
            desk.end();
        });
    }
}
