//! What was read from the running system, before anything is said about it.
//!
//! Each part says when it was read, and that it could not be read if so: what is unknown is never taken for good.
//! Nothing here is secret: no PIN, no private key, no account number, no text that a stranger wrote.

use std::sync::Arc;

use serde_json::Value;

use crate::audit::LogState;
use crate::hsm::{KeyInfo, TokenInfo};
use crate::kernel::command::Rules;
use crate::kernel::mask::Clearance;
use crate::kernel::monitor::{Mode, MonitorRules};
use crate::kernel::sign::Purpose;
use crate::kernel::status::StatusSnapshot;
use crate::kernel::types::{PartyName, RoleName, Sha256, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// A part that was read, or why it could not be.
#[derive(Clone, Debug)]
pub struct Read<T> {
    pub at: UnixMillis,
    /// The failure's message when there is none.
    pub value: Result<T, String>,
}

impl<T> Read<T> {
    /// Reads now.
    pub fn now(read: impl FnOnce() -> Result<T, Failure>) -> Self {
        let value = read().map_err(|failure| format!("{}: {}", failure.name, failure.message));
        Self { at: clock::now(), value }
    }
}

/// What kind of party the report is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    Bank,
    SecurityCompany,
    AgentHost,
    Operator,
}

impl Whose {
    /// As people call it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Bank => "bank",
            Self::SecurityCompany => "security company",
            Self::AgentHost => "agent host",
            Self::Operator => "operator",
        }
    }
}

/// The signed checkpoint that a report is tied to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    pub origin: String,
    /// Leaves under it.
    pub size: u64,
    pub root: Sha256,
    /// The signed note, as it is.
    pub checkpoint: String,
}

/// A role's key and certificate.
#[derive(Clone, Debug)]
pub struct RoleCertificate {
    pub purpose: Purpose,
    pub label: String,
    /// Active versions of the key.
    pub active: usize,
    pub since: Option<UnixMillis>,
    pub until: Option<UnixMillis>,
}

/// A person with rights here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    pub name: String,
    pub roles: Vec<String>,
}

/// How the daemon knows who is at its socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KnownBy {
    /// By the user id that the kernel reports.
    UserId,
    /// Whoever has the user id may say which person it is: demos only.
    Assertion,
}

#[derive(Clone, Debug)]
pub struct People {
    pub known_by: KnownBy,
    /// By the configuration.
    pub configured: Vec<Person>,
    /// With a key in a token of their own.
    pub enrolled: Vec<Person>,
}

/// One line of `countersign doctor`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
pub struct DoctorLine {
    pub check: String,
    /// `ok`, `warn` or `fail`.
    pub result: String,
    pub detail: String,
}

/// One leaf, as far as it is told here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeafLine {
    pub index: u64,
    /// None: its body was erased, or says none.
    pub at: Option<String>,
    /// `agent`, `operator` or `system`.
    pub actor: Option<String>,
    /// Its body was erased: who and when is not to be read any more.
    pub is_erased: bool,
}

/// Messages to people.
#[derive(Clone, Debug)]
pub struct Messages {
    /// Receivers: the channels' names and kinds.
    pub channels: Vec<(String, String)>,
    pub queued: u64,
    pub sent: u64,
    pub dead: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    On,
    Off,
}

/// A bank's rules, and what watches over them.
#[derive(Clone, Debug)]
pub struct BankFacts {
    pub rules: Arc<Rules>,
    /// The role catalogue in force, and when it ends, if it does.
    pub catalogue: Option<(u64, Option<UnixMillis>)>,
    /// What each role of the catalogue sees of answers.
    pub clearances: Vec<(RoleName, Clearance)>,
    /// Whether payments stop by themselves.
    pub breaker: Switch,
    /// What stops them now: causes by name. Empty: nothing.
    pub stopped_by: Vec<String>,
    pub cases_waiting: u64,
    pub monitor: Mode,
    pub monitor_rules: MonitorRules,
}

/// Everything that a report is made of.
#[derive(Clone, Debug)]
pub struct Facts {
    pub party: PartyName,
    pub whose: Whose,
    /// The operator who asked.
    pub by: String,
    pub made_at: UnixMillis,
    pub head: Head,
    pub token: Read<TokenInfo>,
    pub keys: Read<Vec<KeyInfo>>,
    pub roles: Read<Vec<RoleCertificate>>,
    pub people: Read<People>,
    pub log: Read<LogState>,
    /// The newest leaves, oldest first.
    pub newest: Read<Vec<LeafLine>>,
    pub first: Read<Option<LeafLine>>,
    /// So long what leaves of a month say is kept after it, in days. None: until two people have it erased.
    pub retention_days: Option<u32>,
    /// What `audit check` says, when it was asked for.
    pub checked: Option<Read<Value>>,
    pub status: Read<StatusSnapshot>,
    pub doctor: Read<Vec<DoctorLine>>,
    /// None: this daemon tells nobody of anything.
    pub messages: Option<Read<Messages>>,
    /// None: not a bank.
    pub bank: Option<Read<BankFacts>>,
}
