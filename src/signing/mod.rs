//! The local signing service: other programs of this machine have files, documents, tokens and requests signed by keys of
//! purpose `external` (`docs/SIGNING-SERVICE.md`).
//!
//! A caller is who the kernel says is at the other end of a Unix socket. What it may have signed, by which key and how
//! often, is configured; every decision about it is a leaf of the audit log, committed before a key is touched. With an
//! idempotency key the first signatures that were stored are the only ones that ever leave, after a restart and on every
//! daemon of the store.

pub mod api;
mod callers;
pub mod client;
mod compose;
mod desk;
mod journal;
mod refusal;
pub mod settings;
mod socket;

pub use callers::Callers;
pub use desk::{Desk, DeskSetup};
pub use journal::proofs;
pub use refusal::SigningRefusal;
pub use socket::{Socket, serve};
