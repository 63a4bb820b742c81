//! One party's certificates: its own authorities and roles, its side of every agent's pair, its revocations.
//!
//! [`Authority`] is the service. What each kind of party does with it: the security company endorses (S), the bank
//! issues (B) and revokes, the agent host asks and installs. Rules are in `kernel::credential`; here is the order
//! of steps: what is journalled, what is signed, what is released.

mod approvals;
mod authority;
mod build;
mod catalogue;
mod crl;
mod crl_check;
mod crl_import;
mod custody_report;
mod desk;
mod enrol;
pub mod files;
mod hosts;
mod identity;
mod issue;
mod keys;
mod making;
pub mod mandates;
mod ocsp;
pub mod offline;
mod operators;
mod passkeys;
mod people;
mod renew;
mod reported;
mod revoke;
mod revoke_targets;
mod rollover;
mod saga;
pub mod settings;
mod setup;
mod show;
#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthoritySetup};
pub use crl::Published;
pub use enrol::{AGENT_REQUEST_SCHEMA, AgentRequest};
pub use keys::RoleHealth;
pub use ocsp::{OcspAnswer, Responder};
pub use operators::ROLES as OPERATOR_ROLES;
pub use passkeys::{INVITATION_HOURS_MAX, Invitation, InvitationWish, PasskeyRecord, Standing};
pub use people::{Person, SignedWord};
pub use renew::{Renewal, renewal_due};
pub use revoke::{Acted, Named, RevokeMode, RevokeRequest};
pub use rollover::{CaHealth, Generation};
pub use show::{Others, described, described_pair};
