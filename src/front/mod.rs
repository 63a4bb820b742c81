//! The doors: MCP listener and admin socket.

pub mod admin;
pub mod settings;
