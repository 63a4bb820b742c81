//! A channel's task: claims what is due, sends it, notes what came of it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::settings::NotifySettings;
use super::{Again, Channel, Notifier, Outgoing, Taken, Undelivered, kept};
use crate::kernel::types::UnixMillis;
use crate::ops::clock;
use crate::store::{Attempt, Message, NoticeAnswer, NoticeWork, StoreFault};

/// Between two looks at the queue.
const LOOK: Duration = Duration::from_millis(500);
/// After a failure of the store.
const STORE_PAUSE: Duration = Duration::from_secs(5);
/// One at a time: what another daemon could send does not wait for this one, and a kill holds up no more than one.
const CLAIM_MAX: u32 = 1;
/// A claim lasts as long as an attempt at its longest, and this.
const CLAIM_MARGIN: Duration = Duration::from_secs(15);
/// Clocks of daemons over one database are at most so far apart; an attempt is shorter.
const CLOCKS_MS: i64 = 3_600_000;
/// What is being sent when the daemon stops has this long to end.
const LAST_ATTEMPT: Duration = Duration::from_secs(3);

/// Sends what is due for one channel until `stop`.
pub(super) async fn send(notifier: Arc<Notifier>, channel: Arc<dyn Channel>, stop: CancellationToken) {
    let mut pause = LOOK;
    let mut failing = false;
    let mut noted: Option<String> = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = LOOK;
        let messages = match notifier.claimed(&channel).await {
            Ok(messages) => messages,
            Err(fault) => {
                tracing::warn!(channel = channel.name(), %fault, "messages will be looked for again");
                pause = STORE_PAUSE;
                continue;
            }
        };
        for message in messages {
            // More may be due.
            pause = Duration::ZERO;
            let outgoing = notifier.outgoing(&message);
            let sent = tokio::select! {
                sent = channel.send(&outgoing) => sent,
                () = async { stop.cancelled().await; tokio::time::sleep(LAST_ATTEMPT).await } => {
                    Err(Undelivered::new("daemon_stopped", "the daemon stopped meanwhile", Again::After(0)))
                }
            };
            // Said once a cause, not once a message.
            match &sent {
                Err(undelivered) if !failing => {
                    let why = kept(undelivered);
                    tracing::warn!(channel = channel.name(), name = undelivered.name, %why, "a message was not taken");
                    failing = true;
                }
                Ok(_) if failing => {
                    tracing::info!(channel = channel.name(), "messages are taken again");
                    failing = false;
                }
                Ok(_) | Err(_) => {}
            }
            if let Ok(Taken { note }) = &sent {
                if let Some(note) = note.as_ref().filter(|_| noted.is_none()) {
                    tracing::warn!(channel = channel.name(), %note, "a message was not taken by everybody");
                }
                noted.clone_from(note);
            }
            let outcome = outcome(&sent, &message, &notifier.settings, clock::now(), jitter());
            if let Attempt::Dead { error, .. } = &outcome {
                tracing::error!(channel = channel.name(), id = message.id, why = %error, "a message is given up");
            }
            if let Err(fault) = notifier.settle(&message, outcome).await {
                // The claim lapses, and it is sent again under the same id.
                tracing::warn!(channel = channel.name(), %fault, "what came of a message was not noted");
                pause = STORE_PAUSE;
                break;
            }
        }
    }
}

impl Notifier {
    async fn claimed(self: &Arc<Self>, channel: &Arc<dyn Channel>) -> Result<Vec<Message>, StoreFault> {
        let (notifier, name, longest) = (Arc::clone(self), channel.name().to_owned(), channel.longest());
        blocking(move || {
            let now = clock::now();
            // A read first: a claim is a commit.
            let latest = notifier.latest(now);
            if !notifier.store.notice_is_due(&name, now, latest)? {
                return Ok(vec![]);
            }
            let until = now.plus_ms(i64::try_from((longest + CLAIM_MARGIN).as_millis()).unwrap_or(i64::MAX));
            let claim = NoticeWork::Claim { channels: vec![name], now, latest, until, limit: CLAIM_MAX };
            match notifier.store.work_notices(claim)? {
                NoticeAnswer::Claimed(messages) => Ok(messages),
                NoticeAnswer::Done | NoticeAnswer::Stale | NoticeAnswer::Changed(_) => Ok(vec![]),
            }
        })
        .await
    }

    /// The latest time at which a message can be due: no digest is open for longer, no claim and no pause lasts longer.
    fn latest(&self, now: UnixMillis) -> UnixMillis {
        let interval = self.settings.route.iter().map(|route| i64::from(route.min_interval_s) * 1_000).max();
        let age = i64::from(self.settings.age_max_h) * 3_600_000;
        now.plus_ms(age.max(interval.unwrap_or(0)).saturating_add(CLOCKS_MS))
    }

    async fn settle(self: &Arc<Self>, message: &Message, outcome: Attempt) -> Result<(), StoreFault> {
        let (notifier, id, attempt) = (Arc::clone(self), message.id.clone(), message.attempts);
        blocking(move || notifier.store.work_notices(NoticeWork::Settle(vec![(id, attempt, outcome)])).map(drop)).await
    }

    fn outgoing(&self, message: &Message) -> Outgoing {
        Outgoing {
            id: message.id.clone(),
            party: self.party.clone(),
            content: message.content.clone(),
            created: message.created,
            now: clock::now(),
        }
    }
}

/// The store blocks; a defect in it is one of ours and is told as a failure.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreFault> + Send + 'static,
) -> Result<T, StoreFault> {
    let met = |error: tokio::task::JoinError| StoreFault::NotRecorded(format!("the queue met a defect: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(met)?
}

fn jitter() -> u16 {
    u16::from_be_bytes(clock::random::<2>())
}

/// What an attempt means for its message. `jitter` spreads attempts over a quarter of the pause on either side, so that
/// many that failed together do not come back together.
fn outcome(
    sent: &Result<Taken, Undelivered>,
    message: &Message,
    settings: &NotifySettings,
    now: UnixMillis,
    jitter: u16,
) -> Attempt {
    let undelivered = match sent {
        Ok(Taken { note }) => return Attempt::Sent { at: now, note: note.clone() },
        Err(undelivered) => undelivered,
    };
    let error = kept(undelivered);
    let pause_ms = match undelivered.again {
        Again::Never => return Attempt::Dead { at: now, error },
        Again::After(seconds) => i64::from(seconds) * 1_000,
        Again::Later => {
            let doubled = i64::from(settings.pause_s) << message.attempts.saturating_sub(1).min(20);
            let whole = doubled.min(i64::from(settings.pause_max_s)) * 1_000;
            whole - whole / 4 + whole / 2 * i64::from(jitter) / i64::from(u16::MAX)
        }
    };
    let due = now.plus_ms(pause_ms);
    let too_old = due.0.saturating_sub(message.created.0) > i64::from(settings.age_max_h) * 3_600_000;
    if message.attempts >= settings.attempts_max || too_old {
        return Attempt::Dead { at: now, error };
    }
    Attempt::Failed { due, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::notice::gather::Content;
    use crate::kernel::notice::{Notice, NoticeKind};

    fn message(attempts: u32, age_ms: i64, now: UnixMillis) -> Message {
        let notice = Notice {
            kind: NoticeKind::AgentFrozen,
            title: "t".into(),
            lines: vec![],
            subjects: [].into(),
            at: now.rfc3339(),
        };
        let created = now.plus_ms(-age_ms);
        Message { attempts, ..Message::new(1, "a", Content::One(notice), created, created) }
    }

    #[test]
    fn attempts_come_later_and_later_until_they_are_given_up() {
        let now = UnixMillis(1_800_000_000_000);
        let settings = NotifySettings::default();
        let later = |again| Err(Undelivered::new("smtp_deferred", "451\r\n\u{7}", again));
        let of = |sent: &Result<Taken, Undelivered>, attempts, age_ms, jitter| {
            outcome(sent, &message(attempts, age_ms, now), &settings, now, jitter)
        };
        let error = || "smtp_deferred: 451".to_owned();
        let noted = Taken { note: Some("smtp_some_refused: 1 of 2 addresses were not taken".into()) };
        let due = |ms| Attempt::Failed { due: now.plus_ms(ms), error: error() };
        let dead = || Attempt::Dead { at: now, error: error() };
        let table = [
            (of(&Ok(Taken::default()), 1, 0, 0), Attempt::Sent { at: now, note: None }),
            (of(&Ok(noted.clone()), 99, 1 << 50, 0), Attempt::Sent { at: now, note: noted.note.clone() }),
            (of(&later(Again::Never), 1, 0, 0), dead()),
            (of(&later(Again::Later), 1, 0, 0), due(3_750)),
            (of(&later(Again::Later), 1, 0, u16::MAX), due(6_250)),
            (of(&later(Again::Later), 2, 0, 0), due(7_500)),
            (of(&later(Again::Later), 8, 0, 0), due(480_000)),
            (of(&later(Again::Later), 11, 0, 0), due(675_000)),
            (of(&later(Again::Later), 12, 0, 0), dead()),
            (of(&later(Again::Later), 1, 24 * 3_600_000, 0), dead()),
            (of(&later(Again::After(30)), 1, 0, 0), due(30_000)),
            (of(&later(Again::After(0)), 1, 0, 0), due(0)),
            (of(&later(Again::After(90_000)), 1, 0, 0), dead()),
        ];
        for (number, (found, expected)) in table.into_iter().enumerate() {
            assert_eq!(found, expected, "row {number}");
        }
    }
}
