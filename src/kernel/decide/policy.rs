//! Putting a role policy in force: one version after the other, each in a commit with its leaf.

use super::bank::operator;
use super::{Book, Change, Orders, PolicyLine, PolicyRecord, Ruled};
use crate::kernel::command::{Command, Effect};
use crate::kernel::policy::role::Policy;
use crate::kernel::refusal::Refusal;

/// Order: role → the same one is in force already → nobody was faster.
pub(super) fn apply(book: &dyn Book, command: &Command, policy: &Policy, expects: u64) -> Ruled<Orders> {
    let by = operator(&command.actor, &["administrator"])?;
    let before = book.policy()?;
    let version = before.as_ref().map_or(0, |line| line.version);
    if before.is_some_and(|line| line.sha256 == policy.hash()) {
        return Ok((Effect::PolicyInForce { version, changed: false }, vec![]));
    }
    if version != expects {
        return Err(Refusal::PolicyChangedMeanwhile.into());
    }
    let roles = policy.document().roles.iter().map(|role| role.role.clone()).collect();
    let line = PolicyLine { version: version + 1, sha256: policy.hash(), roles, by, at: command.stamp.wall };
    let effect = Effect::PolicyInForce { version: line.version, changed: true };
    let record = PolicyRecord { line, document: policy.canonical().to_owned() };
    Ok((effect, vec![Change::PutPolicy(Box::new(record))]))
}
