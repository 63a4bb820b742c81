//! Evidence: questions that are answered by looking at the running system, each with what was seen and where.
//!
//! A check is a pure function of [`Facts`]. What could not be read is not met: an auditor is never told that something is
//! so because nobody could see that it is not.

mod keys;
mod log;
mod operations;
mod payments;
mod people;

use serde::{Deserialize, Serialize};

use super::facts::{DoctorLine, Facts, Read};
use crate::kernel::types::UnixMillis;

/// What came of a check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Met,
    Partly,
    NotMet,
    NotApplicable,
}

impl Outcome {
    /// As it stands in reports.
    pub fn words(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Partly => "partly",
            Self::NotMet => "not met",
            Self::NotApplicable => "not applicable",
        }
    }
}

/// One thing that was seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Item {
    pub what: String,
    pub value: String,
    /// Where it was read: a command that shows the same, or the part of the system.
    pub source: &'static str,
}

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub outcome: Outcome,
    pub says: String,
    pub at: UnixMillis,
    pub items: Vec<Item>,
}

impl Found {
    fn new(outcome: Outcome, at: UnixMillis, says: impl Into<String>) -> Self {
        Self { outcome, says: says.into(), at, items: Vec::new() }
    }

    fn with(mut self, what: impl Into<String>, value: impl ToString, source: &'static str) -> Self {
        self.items.push(Item { what: what.into(), value: value.to_string(), source });
        self
    }

    /// What could not be read.
    fn unread(at: UnixMillis, why: &str, source: &'static str) -> Self {
        Self::new(Outcome::NotMet, at, "it could not be read, so it is not taken for met").with("failure", why, source)
    }
}

/// A question about the running system.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    KeysInToken,
    KeysStrong,
    KeyVersions,
    TokenCertified,
    TokenSound,
    CertificatesCurrent,
    CredentialsSealed,
    ProgramsNamed,
    OperatorsKnown,
    OperatorKeys,
    DutiesSeparated,
    RolesNarrow,
    HumanGate,
    TwoPeople,
    OwnerConsent,
    HardCeiling,
    PaymentLimits,
    PayeesNamed,
    BreakerAutomatic,
    MonitorScores,
    CasesWorked,
    AnswersMasked,
    LogSigned,
    LogWitnessed,
    LogChecked,
    LogKept,
    LogArchived,
    LogNames,
    LeavesSealed,
    ClockSane,
    StoreDurable,
    StateClosed,
    ConfigurationKnown,
    PeopleTold,
    RevocationCurrent,
    FreezesKnown,
    PartiesKnown,
}

impl Check {
    pub const ALL: [Self; 37] = [
        Self::KeysInToken,
        Self::KeysStrong,
        Self::KeyVersions,
        Self::TokenCertified,
        Self::TokenSound,
        Self::CertificatesCurrent,
        Self::CredentialsSealed,
        Self::ProgramsNamed,
        Self::OperatorsKnown,
        Self::OperatorKeys,
        Self::DutiesSeparated,
        Self::RolesNarrow,
        Self::HumanGate,
        Self::TwoPeople,
        Self::OwnerConsent,
        Self::HardCeiling,
        Self::PaymentLimits,
        Self::PayeesNamed,
        Self::BreakerAutomatic,
        Self::MonitorScores,
        Self::CasesWorked,
        Self::AnswersMasked,
        Self::LogSigned,
        Self::LogWitnessed,
        Self::LogChecked,
        Self::LogKept,
        Self::LogArchived,
        Self::LogNames,
        Self::LeavesSealed,
        Self::ClockSane,
        Self::StoreDurable,
        Self::StateClosed,
        Self::ConfigurationKnown,
        Self::PeopleTold,
        Self::RevocationCurrent,
        Self::FreezesKnown,
        Self::PartiesKnown,
    ];

    /// As framework tables and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeysInToken => "keys_in_token",
            Self::KeysStrong => "keys_strong",
            Self::KeyVersions => "key_versions",
            Self::TokenCertified => "token_certified",
            Self::TokenSound => "token_sound",
            Self::CertificatesCurrent => "certificates_current",
            Self::CredentialsSealed => "credentials_sealed",
            Self::ProgramsNamed => "programs_named",
            Self::OperatorsKnown => "operators_known",
            Self::OperatorKeys => "operator_keys",
            Self::DutiesSeparated => "duties_separated",
            Self::RolesNarrow => "roles_narrow",
            Self::HumanGate => "human_gate",
            Self::TwoPeople => "two_people",
            Self::OwnerConsent => "owner_consent",
            Self::HardCeiling => "hard_ceiling",
            Self::PaymentLimits => "payment_limits",
            Self::PayeesNamed => "payees_named",
            Self::BreakerAutomatic => "breaker_automatic",
            Self::MonitorScores => "monitor_scores",
            Self::CasesWorked => "cases_worked",
            Self::AnswersMasked => "answers_masked",
            Self::LogSigned => "log_signed",
            Self::LogWitnessed => "log_witnessed",
            Self::LogChecked => "log_checked",
            Self::LogKept => "log_kept",
            Self::LogArchived => "log_archived",
            Self::LogNames => "log_names",
            Self::LeavesSealed => "leaves_sealed",
            Self::ClockSane => "clock_sane",
            Self::StoreDurable => "store_durable",
            Self::StateClosed => "state_closed",
            Self::ConfigurationKnown => "configuration_known",
            Self::PeopleTold => "people_told",
            Self::RevocationCurrent => "revocation_current",
            Self::FreezesKnown => "freezes_known",
            Self::PartiesKnown => "parties_known",
        }
    }

    /// The question.
    pub fn question(self) -> &'static str {
        match self {
            Self::KeysInToken => "Was every key born in its token, unable to leave it?",
            Self::KeysStrong => "Is every key of at least 128 bits of strength, with one purpose?",
            Self::KeyVersions => "Is there one active version of each role's key, with older ones retired?",
            Self::TokenCertified => "Are the keys in certified hardware?",
            Self::TokenSound => "Does the token answer, and has nobody tried wrong PINs?",
            Self::CertificatesCurrent => "Are the party's certificates in force, none about to end?",
            Self::CredentialsSealed => {
                "Are stored credentials of other systems sealed under a key of the token, and in force?"
            }
            Self::ProgramsNamed => {
                "Do programs have signed only what is named for them, by keys of the token made for that?"
            }
            Self::OperatorsKnown => "Is each operator known as a person, rather than by saying so?",
            Self::OperatorKeys => "Do those who decide sign with keys in tokens of their own?",
            Self::DutiesSeparated => "Does nobody hold rights that should be apart?",
            Self::RolesNarrow => "May each role of agents call only what both parties signed and the policy permits?",
            Self::HumanGate => {
                "From which amounts does an agent's payment wait for a human, and does only a signed word count?"
            }
            Self::TwoPeople => "Do two people decide about payments that wait?",
            Self::OwnerConsent => "Does the account's owner consent to payments that wait?",
            Self::HardCeiling => "Is there an amount above which nothing is paid, whoever approves?",
            Self::PaymentLimits => "Are single payments, daily sums and speed limited?",
            Self::PayeesNamed => "Are payees on allow-lists?",
            Self::BreakerAutomatic => "Do payments stop by themselves when something is wrong?",
            Self::MonitorScores => "Is each call of an agent scored, with consequences?",
            Self::CasesWorked => "Is every payment that was queued for people worked off?",
            Self::AnswersMasked => "Does each role see of answers only what it is cleared for?",
            Self::LogSigned => "Is every decision under a signed checkpoint of the audit log?",
            Self::LogWitnessed => "Does another party witness the audit log?",
            Self::LogChecked => "Do all stored leaves give the root that was signed?",
            Self::LogKept => "Is the log there from its first leaf?",
            Self::LogArchived => "Is the log copied by itself to where nobody can change or delete it?",
            Self::LogNames => "Does each leaf say who, and when?",
            Self::LeavesSealed => "Is what leaves say sealed, so that it can be erased?",
            Self::ClockSane => "Is the clock after everything that was signed already?",
            Self::StoreDurable => "Is what was acknowledged on disk?",
            Self::StateClosed => {
                "Are PINs, token, store and sockets closed to other users and to the network's process?"
            }
            Self::ConfigurationKnown => "Does the daemon run with the configuration and policy that are on record?",
            Self::PeopleTold => "Are people told, and is no message given up?",
            Self::RevocationCurrent => {
                "Is the revocation status fresh, and does silence of the other party stop agents?"
            }
            Self::FreezesKnown => "Who is revoked or frozen now?",
            Self::PartiesKnown => "Which other parties and hosts are trusted, and do they answer?",
        }
    }

    /// Looks.
    pub fn look(self, facts: &Facts) -> Found {
        match self {
            Self::KeysInToken => keys::in_token(facts),
            Self::KeysStrong => keys::strong(facts),
            Self::KeyVersions => keys::versions(facts),
            Self::TokenCertified => keys::certified(facts),
            Self::TokenSound => keys::sound(facts),
            Self::CertificatesCurrent => keys::certificates(facts),
            Self::CredentialsSealed => keys::credentials(facts),
            Self::ProgramsNamed => keys::programs(facts),
            Self::OperatorsKnown => people::known(facts),
            Self::OperatorKeys => people::keys(facts),
            Self::DutiesSeparated => people::separated(facts),
            Self::RolesNarrow => people::roles_narrow(facts),
            Self::HumanGate => payments::human_gate(facts),
            Self::TwoPeople => payments::two_people(facts),
            Self::OwnerConsent => payments::owner_consent(facts),
            Self::HardCeiling => payments::hard_ceiling(facts),
            Self::PaymentLimits => payments::limits(facts),
            Self::PayeesNamed => payments::payees(facts),
            Self::BreakerAutomatic => payments::breaker(facts),
            Self::MonitorScores => payments::monitor(facts),
            Self::CasesWorked => payments::cases(facts),
            Self::AnswersMasked => payments::masked(facts),
            Self::LogSigned => log::signed(facts),
            Self::LogWitnessed => log::witnessed(facts),
            Self::LogChecked => log::checked(facts),
            Self::LogKept => log::kept(facts),
            Self::LogArchived => log::archived(facts),
            Self::LogNames => log::names(facts),
            Self::LeavesSealed => log::sealed(facts),
            Self::ClockSane => operations::clock(facts),
            Self::StoreDurable => operations::store(facts),
            Self::StateClosed => operations::state(facts),
            Self::ConfigurationKnown => operations::configuration(facts),
            Self::PeopleTold => operations::told(facts),
            Self::RevocationCurrent => operations::revocation(facts),
            Self::FreezesKnown => operations::freezes(facts),
            Self::PartiesKnown => operations::parties(facts),
        }
    }
}

const DOCTOR: &str = "countersign doctor";

/// What the doctor's lines of these names say: the worst of them decides, none of them means that it does not apply.
fn by_doctor(facts: &Facts, names: &[&str], says: [&str; 3]) -> Found {
    let Read { at, value } = &facts.doctor;
    let lines = match value {
        Ok(lines) => lines,
        Err(why) => return Found::unread(*at, why, DOCTOR),
    };
    let named: Vec<&DoctorLine> = lines.iter().filter(|line| names.contains(&line.check.as_str())).collect();
    let worst = named.iter().map(|line| result(line)).max();
    let found = match worst {
        None => Found::new(Outcome::NotApplicable, *at, "this party has none"),
        Some(Outcome::Met) => Found::new(Outcome::Met, *at, says[0]),
        Some(Outcome::Partly) => Found::new(Outcome::Partly, *at, says[1]),
        Some(Outcome::NotMet | Outcome::NotApplicable) => Found::new(Outcome::NotMet, *at, says[2]),
    };
    named
        .into_iter()
        .fold(found, |found, line| found.with(line.check.clone(), format!("{}: {}", line.result, line.detail), DOCTOR))
}

/// A word that is none of the doctor's is not met.
fn result(line: &DoctorLine) -> Outcome {
    match line.result.as_str() {
        "ok" => Outcome::Met,
        "warn" => Outcome::Partly,
        _ => Outcome::NotMet,
    }
}

/// Names in one text.
fn listed<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}
