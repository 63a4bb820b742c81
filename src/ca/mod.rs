//! One party's certificates: its own authorities and roles, its side of every agent's pair, its revocations.
//!
//! [`Authority`] is the service. What each kind of party does with it: the security company endorses (S), the bank
//! issues (B) and revokes, the agent host asks and installs. Rules are in `kernel::credential`; here is the order
//! of steps: what is journalled, what is signed, what is released.

mod authority;
mod build;
mod catalogue;
mod custody_report;
mod desk;
mod enrol;
mod files;
mod identity;
mod issue;
mod keys;
pub mod offline;
mod operators;
mod renew;
mod revoke;
mod rollover;
mod saga;
pub mod settings;
mod setup;
mod show;
#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthoritySetup};
pub use enrol::{AGENT_REQUEST_SCHEMA, AgentRequest};
pub use keys::RoleHealth;
pub use operators::ROLES as OPERATOR_ROLES;
pub use renew::Renewal;
pub use revoke::RevokeMode;
pub use rollover::{CaHealth, Generation};
pub use show::{described, described_pair};
