//! What people see of the queue, and what they can do about it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Notifier, Outgoing, Undelivered, kept};
use crate::kernel::command::{Act, Actor, Command, OperatorPrincipal};
use crate::kernel::notice::gather::Content;
use crate::kernel::notice::{Notice, NoticeKind};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::{Message, NoticeAnswer, NoticeCounts, NoticeQuery, NoticeState, NoticeWork};

/// Messages of one page.
const PAGE_MAX: u32 = 1_000;
/// Whoever sends something.
const SENDERS: [&str; 2] = ["administrator", "officer"];

/// What an operator asks about messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "notify", rename_all = "snake_case", deny_unknown_fields)]
pub enum NotifyCall {
    List {
        state: Option<NoticeState>,
        /// The id of the last of the page before.
        after: Option<String>,
        limit: u32,
    },
    Show {
        id: String,
    },
    /// None: every dead one.
    Retry {
        id: Option<String>,
    },
    Test {
        channel: String,
    },
}

impl NotifyCall {
    /// Whether it changes nothing.
    pub fn only_shows(&self) -> bool {
        matches!(self, Self::List { .. } | Self::Show { .. })
    }
}

/// A channel as `doctor` sees it.
#[derive(Clone, Debug)]
pub struct Reached {
    pub channel: String,
    pub kind: &'static str,
    pub target: String,
    pub outcome: Result<(), Undelivered>,
}

impl Notifier {
    /// Blocking; not from an async task.
    ///
    /// # Errors
    /// `unknown_notice`, `unknown_channel`, `notice_not_dead`, `operator_not_permitted`, `notify_test_failed`; the
    /// store's.
    pub fn desk(&self, operator: &OperatorPrincipal, call: NotifyCall) -> Result<Value, Failure> {
        let may = if call.only_shows() {
            !operator.roles.is_empty()
        } else {
            operator.roles.iter().any(|role| SENDERS.contains(&role.as_str()))
        };
        if !may {
            let refusal = crate::kernel::refusal::Refusal::OperatorNotPermitted;
            if !call.only_shows() {
                self.record(operator, &call, "refused", Some(refusal.name()))?;
            }
            return Err(Failure::refused(refusal.name(), refusal.message(), refusal.next_step()));
        }
        match &call {
            NotifyCall::List { state, after, limit } => self.list(*state, after.as_deref(), *limit),
            NotifyCall::Show { id } => Ok(shown(&self.found(id)?)),
            NotifyCall::Retry { id } => {
                if let Some(id) = id {
                    let state = self.found(id)?.state;
                    if state != NoticeState::Dead {
                        let message = format!("message {id} is {}, not dead", state.name());
                        return Err(Failure::refused(
                            "notice_not_dead",
                            message,
                            "see `countersign notify list --status dead`",
                        ));
                    }
                }
                self.record(operator, &call, "done", None)?;
                let ids = id.clone().map(|id| vec![id]);
                let answer = self.store.work_notices(NoticeWork::Retry { ids, now: clock::now() })?;
                let count = match answer {
                    NoticeAnswer::Changed(count) => count,
                    NoticeAnswer::Done | NoticeAnswer::Stale | NoticeAnswer::Claimed(_) => 0,
                };
                Ok(json!({ "retried": count }))
            }
            NotifyCall::Test { channel } => {
                let found =
                    self.channels.iter().find(|one| one.name() == channel).ok_or_else(|| self.unknown(channel))?;
                self.record(operator, &call, "done", None)?;
                let message = self.test_message(operator);
                self.runtime.block_on(found.send(&message)).map_err(|undelivered| {
                    let why = kept(&undelivered);
                    let next_step = "check the channel's section in countersign.toml and the receiver";
                    Failure::fault("notify_test_failed", format!("{channel}: {why}"), next_step)
                })?;
                Ok(json!({ "channel": channel, "kind": found.kind(), "target": found.target(), "id": message.id }))
            }
        }
    }

    /// How many messages there are.
    ///
    /// # Errors
    /// The store's.
    pub fn counts(&self) -> Result<NoticeCounts, Failure> {
        Ok(self.store.notice_counts()?)
    }

    /// Each channel's name and kind, by name. Where it leads to, `doctor` tells.
    pub fn receivers(&self) -> Vec<(String, String)> {
        let told = self.channels.iter().map(|channel| (channel.name().to_owned(), channel.kind().to_owned()));
        let mut all: Vec<(String, String)> = told.collect();
        all.sort();
        all
    }

    /// Whether each channel's server can be connected to, all at once. Blocking; not from an async task.
    pub fn reach(&self, limit: std::time::Duration) -> Vec<Reached> {
        self.runtime.block_on(async {
            let asked = self.channels.iter().map(|channel| async move {
                let late = || Undelivered::new("notify_silent", "no answer in time", super::Again::Later);
                let outcome = tokio::time::timeout(limit, channel.reach()).await.unwrap_or_else(|_| Err(late()));
                Reached { channel: channel.name().to_owned(), kind: channel.kind(), target: channel.target(), outcome }
            });
            futures_util::future::join_all(asked).await
        })
    }

    fn list(&self, state: Option<NoticeState>, after: Option<&str>, limit: u32) -> Result<Value, Failure> {
        let after = after.map(|id| self.found(id).map(|message| (message.leaf, message.id))).transpose()?;
        let limit = limit.clamp(1, PAGE_MAX);
        let query = NoticeQuery { state, after, limit: limit + 1, ..NoticeQuery::default() };
        let mut found = self.store.notices(&query)?;
        let goes_on = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| goes_on).map(|last| last.id.clone());
        Ok(json!({ "items": found.iter().map(line).collect::<Vec<_>>(), "next": next }))
    }

    fn found(&self, id: &str) -> Result<Message, Failure> {
        self.store.notice(id)?.ok_or_else(|| {
            let message = format!("there is no message {id:?}");
            Failure::refused("unknown_notice", message, "see `countersign notify list`")
        })
    }

    fn record(
        &self,
        operator: &OperatorPrincipal,
        call: &NotifyCall,
        outcome: &str,
        reason: Option<&str>,
    ) -> Result<(), Failure> {
        let tool = match call {
            NotifyCall::Test { .. } => "notify_test",
            NotifyCall::Retry { .. } => "notify_retry",
            NotifyCall::List { .. } | NotifyCall::Show { .. } => "notify_list",
        };
        let mut decision = json!({ "outcome": outcome, "about": call });
        if let Some(reason) = reason {
            decision["reason"] = reason.into();
        }
        let act = Act::Record { tool: tool.into(), decision };
        let stamp = clock::stamp(clock::fresh_request_id());
        self.store.apply(vec![Command { stamp, actor: Actor::Operator(operator.clone()), act }])?;
        Ok(())
    }

    fn unknown(&self, channel: &str) -> Failure {
        let known: Vec<&str> = self.channels.iter().map(|one| one.name()).collect();
        let there_are = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!("there is no channel {channel:?}; there are: {there_are}");
        Failure::refused("unknown_channel", message, "see [[notify.channel]] in countersign.toml")
    }

    fn test_message(&self, operator: &OperatorPrincipal) -> Outgoing {
        let now = clock::now();
        let notice = Notice {
            kind: NoticeKind::SecurityChanged,
            title: "A test of this channel".into(),
            lines: vec![
                format!("by: operator {}", operator.name),
                "nothing happened: somebody looks whether messages arrive".into(),
                "next: nothing to do".into(),
            ],
            subjects: [].into(),
            at: now.rfc3339(),
        };
        let id = clock::fresh_id("test-");
        Outgoing { id, party: self.party.clone(), content: Content::One(notice), created: now, now }
    }
}

fn line(message: &Message) -> Value {
    json!({
        "id": message.id,
        "channel": message.channel,
        "kind": message.kind,
        "state": message.state,
        "title": message.content.title(),
        "count": message.content.count(),
        "created": message.created.rfc3339(),
        "due": (message.state == NoticeState::Queued).then(|| message.due.rfc3339()),
        "attempts": message.attempts,
        "error": message.error,
        "ended": message.ended.map(|ended| ended.rfc3339()),
    })
}

fn shown(message: &Message) -> Value {
    let mut value = line(message);
    value["leaf_row"] = message.leaf.into();
    value["lines"] = message.content.lines().into();
    value["subjects"] = json!(message.content.first().subjects);
    value
}
