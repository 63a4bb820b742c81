//! Transaction rules: what the bank's policy says about one payment, by role, agent, account and kind.
//!
//! Every rule whose selectors fit a payment applies, and the strictest wins: one that denies denies, one that asks for a
//! human asks, gates add up. So a rule only narrows, and one more rule never permits what was refused. Where each
//! question stands among the others is the order of `decide::authorize`; here each is asked of one rule alone.

mod amounts;
mod apply;
mod hours;
mod pace;
mod rule;
#[cfg(test)]
mod tests;

pub use amounts::Amounts;
pub use apply::{Applied, Asked, Denied, Reached, Why};
pub use hours::{Clock, Hours, LocalTime, Weekday};
pub use pace::{Pace, PaceKey, SLOTS_OF_A_WINDOW};
pub use rule::{
    AgentSelector, Mandate, Outcome, PaymentKind, RuleMistake, Subject, Threshold, TransactionRule, TransactionRules,
    Velocity, WINDOW_S_MAX,
};
