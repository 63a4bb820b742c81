//! The queue of messages to people, as the store keeps it.
//!
//! The audit log is the outbox: a place in it says how far notices were made, and moves in the commit that queues what
//! they say. A message is one line to one channel. Whoever sends one claims it for a time; a claim that nobody
//! settles lapses, and the message is sent again under the same id. So each is sent at least once.

use serde::{Deserialize, Serialize};

use crate::kernel::notice::NoticeKind;
use crate::kernel::notice::gather::Content;
use crate::kernel::types::UnixMillis;
use crate::store::StoreFault;

/// Messages of one page, of one claim, and those that one step queues at most.
pub const NOTICES_MAX: u32 = 1_001;

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeState {
    /// Waits for its time, its claim or its next attempt.
    Queued,
    /// Its channel took it.
    Sent,
    /// Given up; somebody looks.
    Dead,
}

impl NoticeState {
    pub const ALL: [Self; 3] = [Self::Queued, Self::Sent, Self::Dead];

    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Dead => "dead",
        }
    }
}

/// One message to one channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Message {
    /// The row of its first leaf, a dash, its channel: the same however often it is sent.
    pub id: String,
    pub leaf: i64,
    pub channel: String,
    pub kind: NoticeKind,
    pub content: Content,
    pub state: NoticeState,
    /// When it was queued, last.
    pub created: UnixMillis,
    /// Not tried before; while it is claimed, the end of the claim.
    pub due: UnixMillis,
    /// Claims since it was queued.
    pub attempts: u32,
    /// Why the last attempt failed; of one that was sent, who did not get it.
    pub error: Option<String>,
    /// When it was sent or given up.
    pub ended: Option<UnixMillis>,
}

impl Message {
    /// A message that nobody has tried yet.
    pub fn new(leaf: i64, channel: &str, content: Content, created: UnixMillis, due: UnixMillis) -> Self {
        Self {
            id: format!("{leaf}-{channel}"),
            leaf,
            channel: channel.to_owned(),
            kind: content.first().kind,
            content,
            state: NoticeState::Queued,
            created,
            due,
            attempts: 0,
            error: None,
            ended: None,
        }
    }
}

/// How far notices were made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NoticePlace {
    /// The first place of the log that nobody has looked at. `None`: not begun.
    pub next: Option<u64>,
    /// Leaves that were told of before they had their place.
    pub early: Vec<i64>,
}

/// One step along the log, in one commit: all of it or nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NoticeStep {
    /// Where it begins; when another daemon was faster, nothing is done.
    pub from: Option<u64>,
    pub to: u64,
    /// Told of before they have their place.
    pub early: Vec<i64>,
    /// Of those, the ones that have it now.
    pub placed: Vec<i64>,
    /// When a leaf of them was told of early and is not in `placed`, nothing is done: the log was read before that.
    pub new: Vec<Message>,
    /// Digests that are longer now, by id. When one was claimed meanwhile, nothing is done.
    pub joined: Vec<(String, Content)>,
}

/// What came of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attempt {
    Sent {
        at: UnixMillis,
        /// What people should know all the same; kept where an error would be.
        note: Option<String>,
    },
    /// To be tried again.
    Failed {
        due: UnixMillis,
        error: String,
    },
    Dead {
        at: UnixMillis,
        error: String,
    },
}

/// What is changed in the queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoticeWork {
    /// Answers [`NoticeAnswer::Done`], or [`NoticeAnswer::Stale`]: look again.
    Step(Box<NoticeStep>),
    /// Takes messages of these channels that are due, oldest first, for nobody else until `until`; and those that are
    /// due after `latest`, which only a wrong clock can have said. One that another daemon is claiming is left to it.
    /// Answers [`NoticeAnswer::Claimed`].
    Claim { channels: Vec<String>, now: UnixMillis, latest: UnixMillis, until: UnixMillis, limit: u32 },
    /// Of these claims, by id and the number of the attempt. A failure counts only while the claim is the last one; that
    /// a message was sent counts in any case. Answers [`NoticeAnswer::Changed`].
    Settle(Vec<(String, u32, Attempt)>),
    /// Dead ones, from the beginning: these, or all. Answers [`NoticeAnswer::Changed`].
    Retry { ids: Option<Vec<String>>, now: UnixMillis },
    /// Gives up, at most `limit`, what was queued before and is for none of these channels: nobody sends it any more.
    /// Answers [`NoticeAnswer::Changed`].
    Abandon { channels: Vec<String>, before: UnixMillis, now: UnixMillis, error: String, limit: u32 },
    /// Removes what ended before, at most `limit`. Answers [`NoticeAnswer::Changed`].
    Forget { before: UnixMillis, limit: u32 },
}

/// What the work came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoticeAnswer {
    Done,
    Stale,
    Claimed(Vec<Message>),
    Changed(u32),
}

/// Which messages are asked for; newest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NoticeQuery {
    pub state: Option<NoticeState>,
    pub channel: Option<String>,
    pub kind: Option<NoticeKind>,
    /// Queued at this time or later.
    pub since: Option<UnixMillis>,
    /// Only those behind this one: the last of the page before.
    pub after: Option<(i64, String)>,
    pub limit: u32,
}

/// How many there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NoticeCounts {
    pub queued: u64,
    pub sent: u64,
    pub dead: u64,
    /// The earliest time at which one is due.
    pub due: Option<UnixMillis>,
}

/// Of a store that keeps no queue.
pub(super) fn no_queue() -> StoreFault {
    StoreFault::NotRecorded("this store keeps no messages".into())
}
