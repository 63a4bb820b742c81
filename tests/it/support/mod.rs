//! What several areas' tests need.

pub mod tbs;
pub mod token;
