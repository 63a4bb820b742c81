//! The Model Context Protocol, revision 2026-07-28: everything that names `rmcp` is in this module.

pub mod bare;
pub mod bridge;
pub mod client;
#[cfg(feature = "conformance")]
mod fixtures;
pub mod server;
mod shapes;
pub mod signed_http;
mod standing;
