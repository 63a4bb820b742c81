//! The Model Context Protocol, revision 2026-07-28: everything that names `rmcp` is in this module.

pub mod bridge;
pub mod client;
pub mod server;
mod shapes;
pub mod signed_http;
mod stdio;
