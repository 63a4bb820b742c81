//! The trusted core: pure functions on values. No I/O, clock, randomness, async or locks.

pub mod command;
pub mod refusal;
pub mod sign;
pub mod status;
pub mod types;
