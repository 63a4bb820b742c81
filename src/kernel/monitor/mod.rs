//! The monitor: how a tool call looks beside what its agent and account did before, as a score with reasons.
//!
//! Pure and in whole numbers: the same events in the same order give the same scores on every machine, so that a
//! score can be made again from the audit log years later. It knows nothing of networks or models; every point
//! belongs to a named reason with its numbers.

mod assessment;
mod decay;
mod event;
mod leaf;
mod risk;
mod rules;
mod score;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use assessment::{Assessment, Consequence, Mode};
pub use event::{Ahead, Asked, Event, ODD, Outcome, Refused, Subject};
pub use leaf::{ALERT, COMPONENT, Told, What};
pub use risk::{Reason, ReasonName, Risk, SCORE_MAX};
pub use rules::{METHOD, MonitorRules, Weights};
pub use score::score;
pub use state::State;

use table::Table;

/// What is remembered of all agents and accounts.
#[derive(Clone, Debug)]
pub struct Monitor {
    rules: MonitorRules,
    agents: Table,
    accounts: Table,
    unknown: State,
}

impl Monitor {
    pub fn new(rules: MonitorRules) -> Self {
        let most = rules.subjects_max;
        Self { rules, agents: Table::of(most), accounts: Table::of(most), unknown: State::default() }
    }

    pub fn rules(&self) -> &MonitorRules {
        &self.rules
    }

    /// The risk of an event that is not decided yet. Changes nothing.
    pub fn assess(&self, event: &Event) -> Risk {
        let agent = self.agents.find(event.agent).unwrap_or(&self.unknown);
        let account = event.account.and_then(|account| self.accounts.find(account));
        score(&self.rules, agent, account, event)
    }

    /// Takes a decided event in.
    pub fn observe(&mut self, event: &Event) {
        if event.asked == Asked::Thaw {
            return self.thaw(event);
        }
        let agent = self.agents.seen(event.agent);
        let open = agent.opened(event);
        agent.observe(event);
        // The executed call of a purchase names no account: it is that of its authorization.
        if let Some(open) = open {
            let account = event.account.or_else(|| open.account().and_then(|account| self.accounts.named(account)));
            if let Some(account) = account {
                self.accounts.seen(account).executed_elsewhere(event, &open);
            }
            return;
        }
        // An account that a call only names may be anybody's.
        let is_only_named = matches!(event.outcome, Outcome::Refused(Refused::Forbidden | Refused::Neutral));
        if let Some(account) = event.account.filter(|_| !is_only_named) {
            self.accounts.observe(account, event);
        }
    }

    /// Two people have looked at the agent, and so at the accounts that it used.
    fn thaw(&mut self, event: &Event) {
        let agent = self.agents.seen(event.agent);
        let accounts = agent.accounts();
        agent.observe(event);
        for account in accounts {
            if let Some(account) = self.accounts.named(account) {
                self.accounts.observe(account, event);
            }
        }
    }

    /// What is remembered of an agent.
    pub fn agent(&self, agent: Subject) -> Option<&State> {
        self.agents.find(agent)
    }

    /// How many agents and accounts are remembered.
    pub fn len(&self) -> (usize, usize) {
        (self.agents.len(), self.accounts.len())
    }

    /// True when nobody is.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// About how many bytes all that takes.
    pub fn bytes(&self) -> usize {
        self.agents.bytes() + self.accounts.bytes()
    }
}
