//! The audit log from outside: crashes, a token that goes away, tampering, and receipts with one byte wrong.

mod commands;
mod copy;
mod formats;
mod log;
mod memory;
pub mod parties;
mod proofs;
mod receipts;
mod script;
