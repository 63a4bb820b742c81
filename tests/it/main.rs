//! Every integration test in one binary: one file an area.

mod ca;
mod payment;
mod store;
