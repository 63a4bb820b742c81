//! The trusted core: pure functions on values. No I/O, clock, randomness, async or locks.

pub mod access;
pub mod approval;
pub mod breaker;
pub mod canon;
pub mod catalogue;
pub mod command;
pub mod credential;
pub mod custody_report;
pub mod decide;
pub mod httpsig;
pub mod json;
pub mod jwt;
pub mod ledger;
pub mod mandate;
pub mod merkle;
pub mod note;
pub mod policy;
pub mod quorum;
pub mod receipt;
pub mod refusal;
pub mod revocation_receipt;
pub mod sign;
pub mod status;
pub mod tool_manifest;
pub mod types;
pub mod zone;
