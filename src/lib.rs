//! Countersign lets an AI agent move money at a bank only when two organisations have signed for it, every key
//! lives in an HSM, and every step can be proven afterwards.
//!
//! The map is `docs/ARCHITECTURE.md`. A module names only modules of lower rank; `tests/tidy.rs` checks it.

// `hsm/worker/reserved.rs` alone allows it; `tests/tidy.rs` checks that.
#![deny(unsafe_code)]

pub mod agent;
pub mod app;
pub mod audit;
pub mod banking;
pub mod bench;
pub mod bridge;
pub mod ca;
pub mod cli;
pub mod clients;
pub mod config;
pub mod front;
pub mod guard;
pub mod hsm;
pub mod kernel;
pub mod mcp;
pub mod monitor;
pub mod notify;
pub mod ops;
pub mod payment;
pub mod report;
pub mod signing;
pub mod store;
pub mod tls;
pub mod vault;

// For verification elsewhere (docs/VERIFYING.md): a pure function and what it speaks of.
pub use kernel::credential::pair::{PairQuestion, VerifiedAgent, VerifyRefusal, verify_pair};

/// −20 % CPU a tool call against the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
