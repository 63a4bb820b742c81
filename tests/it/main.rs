//! Every integration test in one binary: one file an area.

mod audit;
mod bench;
mod ca;
mod clients;
mod crash;
mod demo;
mod doors;
mod hsm;
mod payment;
mod store;
mod support;
