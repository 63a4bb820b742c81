//! The audit log from outside: crashes, a token that goes away, tampering, and receipts with one byte wrong.

mod approvals;
mod archive;
mod bundles;
mod commands;
mod copy;
mod corpus;
mod erasure;
mod formats;
mod insider;
mod log;
pub mod memory;
mod mutations;
pub mod parties;
pub mod payments;
mod proofs;
mod receipts;
pub mod script;
mod searches;
mod stores;
mod tamper;
mod writings;
