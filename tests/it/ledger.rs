//! The ledger's proof: an independent model of the bank's book, random lives in which store and model must agree on
//! everything, and tables in which every rule refuses by its own name.

mod agree;
mod calendar;
mod model;
mod people;
mod rules;
mod steps;
