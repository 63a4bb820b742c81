//! What every service needs from its surroundings: time, places, connections, failures.

pub mod accepting;
pub mod call_times;
pub mod clock;
pub mod failure;
pub mod ipc;
pub mod log_line;
pub mod paths;
pub mod registry;
pub mod secret;
pub mod space;
pub mod sync;
