//! Reads the audit log from a durable place on and queues what people are told.
//!
//! Of several daemons over one database each reads, and one of them takes the step. The log stands still while its HSM is
//! away, and that is when people must hear of it: then leaves are told of before they have their place, and known by
//! their row until they have it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::sending::blocking;
use super::settings::RouteSettings;
use super::{Notifier, settings::NotifySettings};
use crate::kernel::notice::gather::{Content, Gathered, Lately, Pace, gather};
use crate::kernel::notice::{self, Notice, NoticeKind};
use crate::kernel::types::UnixMillis;
use crate::ops::clock;
use crate::store::{
    LeafRecord, Message, NOTICES_MAX, NoticeAnswer, NoticePlace, NoticeQuery, NoticeState, NoticeStep, NoticeWork,
    Store, StoreFault,
};

/// Between two looks at the log.
const LOOK: Duration = Duration::from_millis(500);
/// After a failure of the store.
const STORE_PAUSE: Duration = Duration::from_secs(5);
/// Leaves of one page, and pages of one turn.
const PAGE: u32 = 1_000;
const PAGES_MAX: u32 = 20;
/// So far the place may move without being written down: leaves that concern nobody are read again after a crash.
const UNWRITTEN_MAX: u64 = 20_000;
/// A log that stands still for so many looks is looked at beyond its places.
const STILL_LOOKS: u32 = 6;
/// Between two times of forgetting, and how many then.
const FORGET_LOOKS: u32 = 7_200;
const FORGOTTEN_MAX: u32 = 1_000;
const DAY_MS: i64 = 86_400_000;

/// Queues notices until `stop`.
pub(super) async fn make(notifier: Arc<Notifier>, stop: CancellationToken) {
    let mut reader = Reader::default();
    let mut pause = LOOK;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        let turn = Arc::clone(&notifier);
        let looked = blocking(move || {
            let looked = reader.look(&turn, clock::now());
            Ok((reader, looked))
        })
        .await;
        pause = LOOK;
        reader = match looked {
            Ok((reader, Ok(()))) => reader,
            Ok((reader, Err(fault))) => {
                tracing::warn!(%fault, "the log will be looked at again for what people are told");
                pause = STORE_PAUSE;
                reader
            }
            Err(fault) => {
                tracing::error!(%fault, "making notices met a defect");
                pause = STORE_PAUSE;
                Reader::default()
            }
        };
    }
}

/// Where this daemon is in the log.
#[derive(Debug, Default)]
struct Reader {
    /// Looked at so far; the durable place may be behind.
    next: Option<u64>,
    /// Looks since the log grew.
    still: u32,
    /// The last row that was looked at while the log stood still. What waits behind it is new.
    ahead: i64,
    /// Rows before it that another daemon's commit may still surround: looked at, and of no concern.
    seen: BTreeSet<i64>,
    looks: u32,
}

/// What a page of the log came to.
enum Page {
    Read,
    /// There is no further one yet.
    End(NoticePlace),
}

impl Reader {
    fn look(&mut self, notifier: &Notifier, now: UnixMillis) -> Result<(), StoreFault> {
        let mut grew = false;
        for _ in 0..PAGES_MAX {
            match self.page(notifier, now)? {
                Page::Read => grew = true,
                Page::End(place) => {
                    self.still = if grew { 0 } else { self.still.saturating_add(1) };
                    if self.still >= STILL_LOOKS {
                        self.look_ahead(notifier, &place, now)?;
                    }
                    break;
                }
            }
        }
        self.forget(notifier, now)
    }

    /// The next leaves of the log, and what is told of them.
    fn page(&mut self, notifier: &Notifier, now: UnixMillis) -> Result<Page, StoreFault> {
        let store = &*notifier.store;
        let place = begin(store)?;
        let durable = place.next.unwrap_or(0);
        let from = self.next.unwrap_or(durable).max(durable);
        let leaves = store.leaves(from, PAGE)?;
        let Some(last) = leaves.iter().filter_map(|leaf| leaf.index).max() else {
            return Ok(Page::End(place));
        };
        let to = last + 1;
        let placed: Vec<i64> = leaves.iter().map(|leaf| leaf.row).filter(|row| place.early.contains(row)).collect();
        let told = told(leaves.iter().filter(|leaf| !placed.contains(&leaf.row)), &notifier.settings, now);
        // Only now and then where there is nothing to tell: a place is a commit.
        if told.is_empty() && placed.is_empty() && to - durable < UNWRITTEN_MAX {
            self.next = Some(to);
            return Ok(Page::Read);
        }
        // Afterwards the place is another one, whoever took the step.
        self.next = None;
        let step = NoticeStep { from: place.next, to, placed, ..NoticeStep::default() };
        self.take(notifier, step, told, now)?;
        Ok(Page::Read)
    }

    /// Leaves that wait for their place while the log stands still, from the last one that was looked at on.
    fn look_ahead(&mut self, notifier: &Notifier, place: &NoticePlace, now: UnixMillis) -> Result<(), StoreFault> {
        let early: BTreeSet<i64> = place.early.iter().copied().collect();
        let mut from = self.ahead.saturating_sub(notifier.store.rows_settle());
        self.seen = self.seen.split_off(&from);
        for _ in 0..PAGES_MAX {
            let waiting = notifier.store.unsequenced_after(from, PAGE)?;
            let Some(last) = waiting.last().map(|leaf| leaf.row) else { break };
            let is_fresh = |leaf: &&LeafRecord| !self.seen.contains(&leaf.row) && !early.contains(&leaf.row);
            let told = told(waiting.iter().filter(is_fresh), &notifier.settings, now);
            if !told.is_empty() {
                let early = told.iter().map(|(row, _)| *row).collect();
                let to = place.next.unwrap_or(0);
                let step = NoticeStep { from: place.next, to, early, ..NoticeStep::default() };
                if self.take(notifier, step, told, now)? == NoticeAnswer::Stale {
                    // The next look finds what the other daemon told of.
                    break;
                }
            }
            self.seen.extend(waiting.iter().map(|leaf| leaf.row));
            self.ahead = self.ahead.max(last);
            from = last;
            if waiting.len() < PAGE as usize {
                break;
            }
        }
        Ok(())
    }

    /// Adds what each channel gets of it, and takes the step. One that came too late is taken by nobody: the next look
    /// finds where the other daemon got to.
    fn take(
        &self,
        notifier: &Notifier,
        mut step: NoticeStep,
        told: Vec<(i64, Notice)>,
        now: UnixMillis,
    ) -> Result<NoticeAnswer, StoreFault> {
        let mut channels = Channels::new(&*notifier.store, &notifier.settings, now);
        for (row, notice) in told {
            channels.add(row, &notice)?;
        }
        (step.new, step.joined) = (channels.new, channels.joined.into_iter().collect());
        let answer = notifier.store.work_notices(NoticeWork::Step(Box::new(step)))?;
        if answer == NoticeAnswer::Stale {
            tracing::debug!("another daemon queued these notices");
        }
        Ok(answer)
    }

    fn forget(&mut self, notifier: &Notifier, now: UnixMillis) -> Result<(), StoreFault> {
        let Notifier { store, settings, .. } = notifier;
        self.looks += 1;
        // A clock that somebody set forgets nothing.
        if self.looks < FORGET_LOOKS || !clock::wall_is_steady() {
            return Ok(());
        }
        self.looks = 0;
        store.work_notices(abandoned(notifier, now))?;
        let before = now.plus_ms(-DAY_MS * i64::from(settings.keep_days));
        store.work_notices(NoticeWork::Forget { before, limit: FORGOTTEN_MAX }).map(drop)
    }
}

/// What waits for a channel that is not configured any more, or has no address: given up when it is too old to be told.
pub(super) fn abandoned(notifier: &Notifier, now: UnixMillis) -> NoticeWork {
    let open = notifier.channels.iter().filter(|channel| channel.is_open());
    NoticeWork::Abandon {
        channels: open.map(|channel| channel.name().to_owned()).collect(),
        before: now.plus_ms(-3_600_000 * i64::from(notifier.settings.age_max_h)),
        now,
        error: "channel_closed: the channel is not configured any more, or has no address".into(),
        limit: FORGOTTEN_MAX,
    }
}

/// The durable place. Where there is none yet it becomes the end of the log: what was decided before anybody was to be
/// told is history.
pub(super) fn begin(store: &dyn Store) -> Result<NoticePlace, StoreFault> {
    let place = store.notice_place()?;
    if place.next.is_some() {
        return Ok(place);
    }
    let to = store.newest_checkpoint()?.map_or(0, |checkpoint| checkpoint.size);
    // One that another daemon took first is as good.
    store.work_notices(NoticeWork::Step(Box::new(NoticeStep { from: None, to, ..NoticeStep::default() })))?;
    store.notice_place()
}

/// What people are told of these leaves, by row. Of old ones nothing: who starts a bank after a week off does not want
/// the week in their mail.
fn told<'a>(
    leaves: impl Iterator<Item = &'a LeafRecord>,
    settings: &NotifySettings,
    now: UnixMillis,
) -> Vec<(i64, Notice)> {
    // RFC 3339 in UTC with milliseconds: texts of one length, ordered as the times are.
    let oldest = now.plus_ms(-3_600_000 * i64::from(settings.age_max_h)).rfc3339();
    let notice = |leaf: &LeafRecord| Some((leaf.row, notice::of_leaf(leaf.body()?)?));
    let wanted = |notice: &Notice| settings.route.iter().any(|route| takes(route, notice.kind));
    leaves.filter_map(notice).filter(|(_, notice)| notice.at >= oldest && wanted(notice)).collect()
}

fn takes(route: &RouteSettings, kind: NoticeKind) -> bool {
    route.kinds.is_empty() || route.kinds.contains(&kind)
}

/// What each channel has got of each kind lately, and what this step adds.
struct Channels<'a> {
    store: &'a dyn Store,
    settings: &'a NotifySettings,
    now: UnixMillis,
    /// With the id of the open digest, if one is open.
    lately: BTreeMap<(String, NoticeKind), (Lately, Option<String>)>,
    new: Vec<Message>,
    joined: BTreeMap<String, Content>,
}

impl<'a> Channels<'a> {
    fn new(store: &'a dyn Store, settings: &'a NotifySettings, now: UnixMillis) -> Self {
        Self { store, settings, now, lately: BTreeMap::new(), new: vec![], joined: BTreeMap::new() }
    }

    fn add(&mut self, row: i64, notice: &Notice) -> Result<(), StoreFault> {
        let settings = self.settings;
        let mut reached = BTreeSet::new();
        for route in settings.route.iter().filter(|route| takes(route, notice.kind)) {
            // The first route that leads a kind to a channel says how many it gets.
            for channel in route.channels.iter().filter(|channel| reached.insert((*channel).clone())) {
                self.add_to(channel, route, row, notice.clone())?;
            }
        }
        Ok(())
    }

    fn add_to(&mut self, channel: &str, route: &RouteSettings, row: i64, notice: Notice) -> Result<(), StoreFault> {
        let pace = Pace { within_ms: i64::from(route.min_interval_s) * 1_000, alone_max: route.digest_after };
        let now = self.now;
        let key = (channel.to_owned(), notice.kind);
        if !self.lately.contains_key(&key) {
            let known = self.known(channel, notice.kind, pace)?;
            self.lately.insert(key.clone(), known);
        }
        let Some((lately, open)) = self.lately.get_mut(&key) else { return Ok(()) };
        match gather(lately, notice, pace) {
            Gathered::Alone(content) => self.new.push(Message::new(row, channel, content, now, now)),
            Gathered::Opens(content) => {
                let message = Message::new(row, channel, content, now, now.plus_ms(pace.within_ms));
                *open = Some(message.id.clone());
                self.new.push(message);
            }
            Gathered::Joins(content) => {
                let Some(id) = open else { return Ok(()) };
                match self.new.iter_mut().find(|message| message.id == *id) {
                    Some(message) => message.content = content,
                    None => {
                        self.joined.insert(id.clone(), content);
                    }
                }
            }
        }
        Ok(())
    }

    /// From what is in the queue for this channel of this kind alone: what others get says nothing about it. The newest
    /// ones will do: no pace is of more, and a digest that is open is the last of its pair.
    fn known(&self, channel: &str, kind: NoticeKind, pace: Pace) -> Result<(Lately, Option<String>), StoreFault> {
        let since = self.now.plus_ms(-pace.within_ms);
        let recent = self.store.notices(&NoticeQuery {
            channel: Some(channel.to_owned()),
            kind: Some(kind),
            since: Some(since),
            limit: NOTICES_MAX,
            ..NoticeQuery::default()
        })?;
        // A clock that was ahead for a moment keeps nothing back: what it queued is of no time that counts.
        let until = self.now.plus_ms(pace.within_ms);
        let is_late = |message: &&Message| message.created > since && message.created <= until;
        let alone = recent.iter().filter(is_late).count();
        let is_open = |message: &&Message| {
            let is_unsent = message.state == NoticeState::Queued && message.attempts == 0;
            is_unsent && message.due > self.now && message.due <= until
        };
        let open = recent.iter().filter(is_open).find_map(|message| match &message.content {
            Content::Several(digest) => Some((digest.clone(), message.id.clone())),
            Content::One(_) => None,
        });
        let (digest, id) = open.unzip();
        Ok((Lately { alone: u32::try_from(alone).unwrap_or(u32::MAX), open: digest }, id))
    }
}
