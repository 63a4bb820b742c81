//! Cosignatures between a bank's daemon and its witness, the security company's.
//!
//! The bank asks for its newest checkpoint, one question at a time, and keeps what it gets beside the checkpoint; the
//! witness remembers before it signs. What the witness remembers is also what a bank's store is measured by: one that has
//! less, or other leaves, was restored from an old copy, and a node that finds that decides nothing.

pub mod answering;
pub mod asking;
pub mod open;
mod shown;

use serde::{Deserialize, Serialize};

use crate::kernel::receipt::Base64;
use crate::kernel::witness::{Claim, HaltCause, Head};

pub use shown::{accept, status};

/// A bank's question.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The body of a C2SP `add-checkpoint` request.
    pub request: String,
    /// The checkpoint key's certificate, issuing CA, root.
    pub chain: Vec<Base64>,
    pub claim: Claim,
    /// The newest cosignature that the bank holds: a witness whose store is older than that finds out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosigned: Option<Cosigned>,
}

/// What the witness has said before.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cosigned {
    /// The three lines of the checkpoint.
    pub checkpoint: String,
    /// The witness's line over them, and its key's certificate, issuing CA, root.
    pub line: String,
    pub chain: Vec<Base64>,
}

/// What became of it. What is refused is a failure with its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// The witness's line, and its key's certificate, issuing CA, root.
    Cosigned { line: String, chain: Vec<Base64> },
    /// The question went by another size than the one that is remembered.
    Stale { remembered: Head },
}

/// What a witness remembers of the asking party's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// None: nothing was ever cosigned.
    pub log: Option<RememberedLog>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RememberedLog {
    pub origin: String,
    pub head: Head,
    /// Why it is not cosigned any more, if it is not.
    pub halted: Option<HaltCause>,
}
