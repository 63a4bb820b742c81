//! The audit log from outside: crashes, a token that goes away, tampering, and receipts with one byte wrong.

mod commands;
mod formats;
mod log;
mod memory;
mod parties;
mod proofs;
mod receipts;
