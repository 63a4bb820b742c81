//! What several areas' tests need.

pub mod token;
pub mod world;
