//! What the monitor is told: the part of a leaf that says who asked for which money, and what came of it.

use serde::{Deserialize, Serialize};

use super::decay::{Count, ONE, Sum};
use super::state::{DAY, SHORT};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{Money, Sha256, UnixMillis};

/// An agent, an account or a payee by the start of a SHA-256: names are long, and a state must stay small.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Subject(u128);

impl Subject {
    pub fn of(name: &str) -> Self {
        let Sha256(hash) = Sha256::of(&[name.as_bytes()]);
        let mut start = [0; 16];
        start.copy_from_slice(&hash[..16]);
        Self(u128::from_be_bytes(start))
    }

    #[cfg(test)]
    pub(super) fn numbered(number: u128) -> Self {
        Self(number << 64)
    }

    /// 64 bits of it, for the small sets inside a state.
    pub(super) fn short(self) -> u64 {
        u64::try_from(self.0 >> 64).unwrap_or(u64::MAX)
    }

    /// All that have these 64 bits: one, unless somebody found a second.
    pub(super) fn all_of(short: u64) -> std::ops::RangeInclusive<Self> {
        let first = u128::from(short) << 64;
        Self(first)..=Self(first | u128::from(u64::MAX))
    }
}

/// One call of a tool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    pub at: UnixMillis,
    pub agent: Subject,
    /// The paying account, where the call names it.
    pub account: Option<Subject>,
    pub asked: Asked,
    pub outcome: Outcome,
    /// What a single payment of this agent may be without a human, minor units of the payment's currency.
    pub limit_minor: Option<i64>,
    /// What this daemon had taken from the same agent and the log had not shown yet.
    pub ahead: Ahead,
}

/// What was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// `authorize_purchase` or `authorize_transfer`.
    Payment { payee: Subject, amount: Money },
    /// `execute_purchase` or `execute_transfer`; a transfer says its payee and amount again.
    Execution { transaction: Subject, transfer: Option<(Subject, Money)> },
    /// Any other tool.
    Other,
    /// Two people lifted the agent's freeze: what was loud is forgotten, its history is not.
    Thaw,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Not decided yet: the event is being scored.
    Undecided,
    /// Authorized; a human may still have to say yes.
    Authorized {
        transaction: Subject,
    },
    Executed,
    /// Answered, cancelled, or waiting for the bank's people.
    Done,
    Refused(Refused),
}

/// Refusals that an agent in good order does not meet. A tool or an account that it has no more is none: a narrower policy,
/// or grants that end together, would stop the bank.
pub const ODD: [Refusal; 3] = [Refusal::AuthorizationMismatch, Refusal::IdempotencyKeyReused, Refusal::NonceReplayed];

/// What a refusal says about who was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Nothing: the world moved, a human has not decided, the bank stands still.
    Neutral,
    /// An amount above what is possible: somebody may be looking for the limit.
    Limit,
    /// Something the agent may not do at all.
    Forbidden,
}

impl Refused {
    /// What a refusal of this name says. A name that is not known here is one of a newer rule: forbidden.
    pub fn of_name(name: &str) -> Self {
        Refusal::ALL.iter().find(|refusal| refusal.name() == name).map_or(Self::Forbidden, |refusal| Self::of(*refusal))
    }

    fn of(refusal: Refusal) -> Self {
        match refusal {
            Refusal::AboveHardCeiling
            | Refusal::GrantLimitExceeded
            | Refusal::AccountDayLimitExceeded
            | Refusal::InsufficientFunds
            | Refusal::TooManyOpenHolds
            | Refusal::MandateAmount
            | Refusal::MandateBudget
            | Refusal::MandateRecurrence
            | Refusal::AmountTooLarge => Self::Limit,
            // The world moved under an agent that does what it always did: what it may was taken back or has ended, a
            // human has not decided, the bank stands still.
            Refusal::InvalidCertificate
            | Refusal::AgentRevoked
            | Refusal::AgentFrozen
            | Refusal::RiskFrozen
            | Refusal::EndorsementStatusStale
            | Refusal::PolicyChangedMeanwhile
            | Refusal::PolicyUnreadable
            | Refusal::PriceChanged
            | Refusal::UnknownProduct
            | Refusal::ApprovalPending
            | Refusal::ApprovalDenied
            | Refusal::ApprovalExpired
            | Refusal::AuthorizationExpired
            | Refusal::AuthorizationCancelled
            | Refusal::AlreadyExecuted
            | Refusal::AlreadyDecided
            | Refusal::NonceReplayed
            | Refusal::IdempotencyKeyReused
            | Refusal::QueuedManual
            | Refusal::SubmissionPending
            | Refusal::CoreRefused
            | Refusal::CaseRejected
            | Refusal::PaidElsewhere
            | Refusal::BreakerOpen
            | Refusal::AccountNotActive
            | Refusal::DestinationNotActive
            | Refusal::GrantAmbiguous
            | Refusal::VelocityExceeded
            | Refusal::OutsideHours
            | Refusal::MandateMissing
            | Refusal::MandateNotThisAgent
            | Refusal::MandateRevoked
            | Refusal::MandateExpired
            | Refusal::MandateNotYetValid
            | Refusal::MandateDates => Self::Neutral,
            Refusal::AccountNotGranted
            | Refusal::VerbNotGranted
            | Refusal::ToolDenied
            | Refusal::ToolDeniedByPolicy
            | Refusal::ConstraintViolated
            | Refusal::ConstraintParameterMissing
            | Refusal::CurrencyMismatch
            | Refusal::CurrencyNotAllowed
            | Refusal::UnauthorizedMerchant
            | Refusal::MerchantLooksAlike
            | Refusal::PayeeNotAllowed
            | Refusal::MandatePayee
            | Refusal::MandateReference
            | Refusal::HoldMissing
            | Refusal::UnknownDestination
            | Refusal::SameAccount
            | Refusal::UnknownTransaction
            | Refusal::UnknownApproval
            | Refusal::AuthorizationMismatch
            | Refusal::TextHostile
            | Refusal::AmountNotPositive
            | Refusal::NotReversible
            | Refusal::ReversalExceedsOriginal => Self::Forbidden,
            // Said to people and daemons; an agent that gets one is where it does not belong.
            Refusal::TooManyMandates
            | Refusal::UnknownMandate
            | Refusal::AccountNotEmpty
            | Refusal::ApprovalUnsigned
            | Refusal::ApprovalMismatch
            | Refusal::ApprovalSignatureInvalid
            | Refusal::OperatorRevoked
            | Refusal::NotTheOwner
            | Refusal::AlreadySpoken
            | Refusal::GateNotAsked
            | Refusal::GateComplete
            | Refusal::ApprovalOutOfTurn
            | Refusal::MakerIsChecker
            | Refusal::OperatorNotPermitted
            | Refusal::AlreadyExists
            | Refusal::UnknownAccount
            | Refusal::UnknownAgent
            | Refusal::NotFrozen
            | Refusal::UnderLegalHold
            | Refusal::SubjectNotErasable
            | Refusal::UnknownMerchant
            | Refusal::UnknownCase
            | Refusal::CaseTaken
            | Refusal::SecondPersonNeeded
            | Refusal::UnknownCredential
            | Refusal::UnknownCredentialVersion
            | Refusal::CredentialExists
            | Refusal::CredentialChanged
            | Refusal::CredentialNotReadable
            | Refusal::CredentialExpired
            | Refusal::CredentialDamaged
            | Refusal::NewestVersionStays
            | Refusal::TooManyCredentials
            | Refusal::TooManyCredentialVersions
            | Refusal::SerialTaken
            | Refusal::LogOfAnother
            | Refusal::LogRenamed
            | Refusal::TooManyLogs
            | Refusal::UnknownLog
            | Refusal::LogNotHalted
            | Refusal::HeadNotShown
            | Refusal::SizeTooLarge
            | Refusal::IdempotencyMismatch
            | Refusal::UnknownSigning
            | Refusal::StaleCrl => Self::Forbidden,
        }
    }
}

/// Payments in flight: taken by the daemon that scores or waiting for their place, not yet seen in the log. They fade as
/// the counts do that will take them in, so that a log that stands still for hours makes no burst of them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ahead {
    /// Their sum in the event's own currency.
    #[serde(with = "super::text")]
    pub minor: i64,
    pub payments: u32,
}

impl Ahead {
    /// Of payments at these instants, of these minor units.
    pub fn of(flights: impl Iterator<Item = (UnixMillis, i64)>, now: UnixMillis) -> Self {
        let (mut payments, mut minor) = (0_u64, 0_i64);
        for (at, units) in flights {
            let (mut one, mut sum) = (Count::default(), Sum::default());
            one.add(SHORT, at.0, ONE);
            sum.add(DAY, at.0, units.max(0).unsigned_abs());
            payments += u64::from(one.at(SHORT, now.0));
            minor = minor.saturating_add(i64::try_from(sum.at(DAY, now.0)).unwrap_or(i64::MAX));
        }
        let whole = (payments + u64::from(ONE / 2)) / u64::from(ONE);
        Self { minor, payments: u32::try_from(whole).unwrap_or(u32::MAX) }
    }
}
