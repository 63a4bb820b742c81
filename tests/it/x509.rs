//! `x509 check` and the function behind it, attacked from outside.

mod limbo;
mod openssl;
pub(crate) mod program;
