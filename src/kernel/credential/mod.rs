//! Certificates, requests, revocation lists and custody statements: read strictly, judged by named rules.
//!
//! `der` and `certificate` read; `profile` says what each kind of certificate must look like, `compose` makes one;
//! `lint` is what the HSM worker asks before it signs; `chain` and `pair` decide whether a peer is acceptable, `path`
//! whether any certificate is, by RFC 5280; `request`, `related`, `custody`, `crl` and `operator` judge what the parties
//! and their people hand to each other.

pub mod certificate;
pub mod chain;
pub mod compose;
pub mod crl;
pub mod crl_build;
pub mod custody;
pub mod der;
pub mod lint;
pub mod ocsp;
pub mod oid;
pub mod operator;
pub mod pair;
pub mod path;
pub mod pem;
pub mod profile;
pub mod reading;
pub mod reason;
pub mod related;
pub mod request;
#[cfg(test)]
pub(crate) mod testkit;
