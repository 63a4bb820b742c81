//! See `checks::add_checkpoint`.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::add_checkpoint(bytes));
