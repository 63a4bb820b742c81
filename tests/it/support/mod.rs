//! What several areas' tests need.

pub mod shim;
pub mod token;
pub mod world;
