//! No order of authorize, consent, approve, execute, cancel, expire, revoke and policy change breaks limits, single use,
//! binding or maker ≠ checker.
//!
//! Random lives of a bank run on a real store; a witness keeps its own plain books of what was permitted and judges each
//! yes. It shares no rule with the product: policies are told to it in words of its own, sums are taken over lists. It
//! does not predict a no: a bank that refuses everything would please it, so what has to happen now and then is counted.

mod bank;
mod calls;
mod lives;
mod people;
mod policies;
mod steps;
mod witness;
mod words;
