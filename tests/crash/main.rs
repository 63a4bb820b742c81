//! The crash suite: processes that keep money are killed, their disks lie, fill up and lose power, their clocks jump.
//! Afterwards a checker that shares no code with the product (`tests/checker`) holds the store against everything that
//! was acknowledged.
//!
//! Most of it drives `examples/ledger_load`, which uses a store as the daemon does and may die at any moment; `daemon`
//! does the same to real daemons, `revocation` at each call that a revocation makes. A failure prints its seed: `CRASH_SEED=… cargo test --test crash` replays it.
//! `CRASH_RUNS` is how often the random part kills; `scripts/crash` has the long run.

mod bank;
mod checker;
mod clocks;
mod daemon;
mod full;
mod images;
mod injected;
mod kills;
#[cfg(feature = "planted-bugs")]
mod planted;
mod postgres;
mod power;
mod revocation;
mod seed;
mod selftest;
mod trace;
