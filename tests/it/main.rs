//! Every integration test in one binary: one file an area.

mod payment;
mod store;
