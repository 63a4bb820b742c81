//! Every integration test in one binary: one file an area.

mod audit;
mod bank_desk;
mod bench;
mod ca;
mod catalogue;
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
mod lint;
mod modules;
mod payment;
mod profiles;
mod refusals;
mod rollover;
mod store;
mod support;
