//! What every service needs from its surroundings: time, places, failures.

pub mod clock;
pub mod failure;
pub mod ipc;
pub mod paths;
pub mod registry;
pub mod secret;
