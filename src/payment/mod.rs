//! The story of one transaction, told once for live calls and for recovery.
//!
//! Verified agent → permit → decision, durable with its leaf → posted → receipt. The commit comes first;
//! the transaction key's signature over the batch follows and gates the answer `executed`. When the HSM is late or
//! down the answer is `posted` with a pending receipt, and recovery signs the same bytes.

mod agents;
mod answer;
mod approvals;
mod breaker;
mod core;
mod desk;
mod mandates;
mod operators;
pub mod outlook;
mod policies;
mod rules;
pub mod settings;
mod story;

pub use core::Outbox;
pub use desk::DeskCall;

pub use agents::STATEMENT_LINES_MAX;
pub use answer::{Receipt, ToolFailure};
pub use policies::PolicyCall;
pub use rules::{check_fees, rules, two_people_above};
pub use story::{Decided, Payments, PaymentsSetup, Rest};
