//! What several areas' tests need.

pub mod kit;
pub mod postgres;
pub mod proxy;
pub mod raw;
pub mod shim;
pub mod signed;
pub mod strace;
pub mod tbs;
pub mod token;
pub mod world;
