//! The doors: MCP listener, admin socket, agent socket; and the services behind them.

pub mod admin;
pub mod admin_group;
pub mod admin_socket;
pub mod agent_keys;
pub mod agent_socket;
pub mod allowance;
pub mod doctor;
pub mod envelope;
pub mod follow;
pub mod gates;
pub mod http;
pub mod lease;
pub mod listener;
pub mod manifest;
pub mod nonces;
pub mod oauth;
pub mod operators;
pub mod pages;
pub mod peer;
pub mod peer_lease;
pub mod pki;
pub mod request_state;
pub mod services;
pub mod settings;
pub mod tokens;
pub mod watching;
