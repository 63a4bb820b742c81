//! Every integration test in one binary: one file an area.

mod audit;
mod ca;
mod clients;
mod crash;
mod demo;
mod doors;
mod faults;
mod hsm;
mod keys;
mod payment;
mod store;
mod support;
