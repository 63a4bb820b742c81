//! A word now and then while something takes long.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::context::Context;

/// Nobody needs a word before.
const SILENT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_secs(1);

/// Lines on standard error, where answers never go; for a program only if a person watches it.
#[derive(Debug)]
pub struct Progress {
    next: Instant,
    is_wanted: bool,
}

impl Progress {
    pub fn new(context: &Context) -> Self {
        Self { next: Instant::now() + SILENT, is_wanted: !context.json || std::io::stderr().is_terminal() }
    }

    /// Says it if it is time to.
    pub fn say(&mut self, text: impl FnOnce() -> String) {
        let now = Instant::now();
        if self.is_wanted && now >= self.next {
            self.next = now + PAUSE;
            // A reader that went away is no failure of ours.
            let _ = writeln!(std::io::stderr(), "{}", text());
        }
    }
}
