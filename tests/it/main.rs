//! Every integration test in one binary: one file an area.

mod audit;
mod ca;
mod clients;
mod crash;
mod demo;
mod doors;
mod frames;
mod hsm;
mod payment;
mod refusals;
mod store;
mod support;
