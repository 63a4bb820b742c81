//! What went wrong, in the shape every door shows it: CLI, admin socket, REST.
//!
//! A *refusal* means that the rules said no. A *fault* means that something broke; it says whether to retry and
//! whether the action may have happened. The JSON form is
//! `{"error":{"kind","name","message","next_step","retry","may_have_happened","request_id"}}`.

use serde::{Deserialize, Serialize};

/// What kind of failure it is; decides the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something broke. Exit code 1.
    Fault,
    /// The command line or the configuration is wrong. Exit code 2.
    Usage,
    /// A rule said no. Exit code 3.
    Refused,
    /// Nobody knows yet whether it happened; only the idempotency key resolves it. Exit code 4.
    Unknown,
    /// Busy, or the HSM is down: try again. Exit code 5.
    Busy,
}

impl Kind {
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Fault => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unknown => 4,
            Self::Busy => 5,
        }
    }
}

/// Whether the action may have happened all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MayHaveHappened {
    No,
    Yes,
    Unknown,
}

/// One failure: a stable name, one clear sentence and the reader's next step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: Kind,
    /// A stable snake_case name: a metric label and what tests assert.
    pub name: String,
    pub message: String,
    pub next_step: String,
    pub retry: bool,
    pub may_have_happened: MayHaveHappened,
    /// Written also when it is none: the frames between processes have no field names to tell what is left out.
    #[serde(default)]
    pub request_id: Option<String>,
}

impl Failure {
    /// A failure of this kind that certainly did not happen. Busy ones may be retried.
    pub fn new(kind: Kind, name: &str, message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            message: message.into(),
            next_step: next_step.into(),
            retry: matches!(kind, Kind::Busy | Kind::Unknown),
            may_have_happened: match kind {
                Kind::Unknown => MayHaveHappened::Unknown,
                Kind::Fault | Kind::Usage | Kind::Refused | Kind::Busy => MayHaveHappened::No,
            },
            request_id: None,
        }
    }

    pub fn fault(name: &str, message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self::new(Kind::Fault, name, message, next_step)
    }

    pub fn usage(name: &str, message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self::new(Kind::Usage, name, message, next_step)
    }

    pub fn refused(name: &str, message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self::new(Kind::Refused, name, message, next_step)
    }

    pub fn busy(name: &str, message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self::new(Kind::Busy, name, message, next_step)
    }

    pub fn unknown(name: &str, message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self::new(Kind::Unknown, name, message, next_step)
    }

    /// The same failure, of something that came after the action was recorded.
    #[must_use]
    pub fn after_the_fact(self) -> Self {
        Self { may_have_happened: MayHaveHappened::Yes, ..self }
    }

    #[must_use]
    pub fn with_request(mut self, request_id: &str) -> Self {
        self.request_id = Some(request_id.to_owned());
        self
    }

    /// `{"error":{…}}`
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "error": self })
    }
}
