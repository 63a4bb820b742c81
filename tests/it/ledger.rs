//! The ledger's proof: an independent model of the bank's book, random lives in which store and model must agree on
//! everything, and tables in which every rule refuses by its own name.

mod agree;
mod authorize;
pub mod calendar;
mod days;
mod model;
mod payments;
mod people;
mod refused;
mod rules;
mod staff;
mod steps;
