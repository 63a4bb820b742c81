//! Every integration test in one binary: one file an area.

mod audit;
mod bank_desk;
mod bench;
mod ca;
mod clients;
mod core;
mod crash;
mod demo;
mod doors;
mod faults;
mod frames;
mod hsm;
mod keys;
mod ledger;
mod modules;
mod pairs;
mod payment;
mod refusals;
mod store;
mod support;
mod x509;
