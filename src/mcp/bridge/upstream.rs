//! The bank's end of the bridge: each request is one POST over a pooled connection, and what comes back is handed on.
//!
//! MCP 2026-07-28 keeps nothing between requests, so that messages travel as they are: ids, progress tokens, request
//! states and cursors stay the caller's own. A request is sent once; one that is dropped is taken back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use rmcp::model::{
    ErrorData, ProtocolVersion, RequestId, ServerJsonRpcMessage, ServerNotification, SubscriptionFilter,
};
use rmcp::service::{Peer, SubscriptionSink};
use rmcp::{RoleServer, model::JsonRpcMessage};
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::Dial;
use super::answer::{self, Answer, Events, Unread};
use super::backoff::Backoff;
use super::failures::{self, Ended, told};
use crate::mcp::signed_http::{Message, SignedHttp, Unsent};
use crate::ops::clock;
use crate::ops::failure::{Failure, Kind};

/// The one revision that is spoken to the bank.
pub(super) const VERSION: ProtocolVersion = ProtocolVersion::V_2026_07_28;
const VERSION_TEXT: &str = "2026-07-28";
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// Longer than the bank's own limit for a request; begins anew with each sign of life.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Calls that are with the bank at once, each on a connection of its own; more wait here.
const CALLS_MAX: usize = 64;
/// Subscriptions at once, besides.
const SUBSCRIPTIONS_MAX: usize = 32;

/// A request for the bank.
pub(super) struct Question<'a> {
    pub id: &'a RequestId,
    pub method: &'a str,
    /// With its `_meta`.
    pub params: Map<String, Value>,
    /// Arguments that are sent as headers, too.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Who hears what the bank says before its answer.
pub(super) enum Hearing<'a> {
    Caller(&'a Peer<RoleServer>),
    Subscription {
        sink: &'a SubscriptionSink,
        accepted: &'a SubscriptionFilter,
    },
    /// A client that hears of changed lists outside of any subscription.
    Lists {
        peer: &'a Peer<RoleServer>,
        filter: &'a SubscriptionFilter,
    },
    Nobody,
}

/// A subscription that the bank has acknowledged.
pub(super) struct Followed {
    link: Arc<Link>,
    events: Events,
    _turn: OwnedSemaphorePermit,
}

/// The head of an answer, or all of it.
enum Begun {
    Whole(Value),
    Events(Events),
}

/// What came of a question.
pub(super) enum Unanswered {
    /// The bank's own words.
    Error(ErrorData),
    /// The bank is away: it was not asked, or not reached.
    Away(ErrorData),
    /// It was reached, and there is no answer.
    Failed(ErrorData),
}

impl From<Unanswered> for ErrorData {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Error(error) | Unanswered::Away(error) | Unanswered::Failed(error) => error,
        }
    }
}

/// The bank, over one pooled HTTP client at a time.
pub(super) struct Upstream {
    dial: Arc<dyn Dial>,
    current: Mutex<Current>,
    calls: Semaphore,
    subscriptions: Arc<Semaphore>,
}

/// The lock is held while a client is made, so that a crowd makes one.
#[derive(Default)]
struct Current {
    link: Option<Arc<Link>>,
    backoff: Backoff,
    /// Where the bank was away: elsewhere it is asked at once.
    away_from: String,
}

/// A client for one identity and one address. Each call holds the one that it was sent over: what is replaced ends
/// with its last call, not before.
struct Link {
    http: SignedHttp,
    url: String,
}

impl Upstream {
    pub(super) fn new(dial: Arc<dyn Dial>) -> Self {
        Self {
            dial,
            current: Mutex::default(),
            calls: Semaphore::new(CALLS_MAX),
            subscriptions: Arc::new(Semaphore::new(SUBSCRIPTIONS_MAX)),
        }
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&self, question: Question<'_>, hearing: Hearing<'_>) -> Result<Value, Unanswered> {
        let _turn = self.calls.acquire().await.expect("the semaphore is never closed");
        let (link, begun) = self.begun(question).await?;
        match begun {
            Begun::Whole(message) => last(message).unwrap_or_else(|| Err(unreadable("no answer in it"))),
            Begun::Events(events) => self.heard(&link, events, &hearing, Some(SILENCE_MAX)).await,
        }
    }

    /// Asks for a subscription, and waits until the bank has acknowledged it.
    pub(super) async fn follow(&self, question: Question<'_>) -> Result<Followed, Unanswered> {
        let Ok(turn) = Arc::clone(&self.subscriptions).try_acquire_owned() else {
            return Err(Unanswered::Error(told(&Failure::busy(
                "too_many_subscriptions",
                format!("{SUBSCRIPTIONS_MAX} subscriptions are open already"),
                "end those that are not needed",
            ))));
        };
        let (link, begun) = self.begun(question).await?;
        let mut events = match begun {
            Begun::Whole(message) => return Err(refused(message)),
            Begun::Events(events) => events,
        };
        loop {
            match events.next(Some(SILENCE_MAX)).await {
                Ok(Some(message)) if message["method"] == ACKNOWLEDGED => {
                    return Ok(Followed { link, events, _turn: turn });
                }
                // Nothing is said before it (MCP 2026-07-28, subscriptions).
                Ok(Some(message)) if message.get("method").is_some() => {}
                Ok(Some(message)) => return Err(refused(message)),
                Ok(None) => return Err(self.lost(&link, "the stream ended before it was acknowledged").await),
                Err(unread) => return Err(self.unread(&link, unread).await),
            }
        }
    }

    /// Hands on what a subscription says until it ends. It has no end of its own: however long it is silent, it is
    /// waited for.
    pub(super) async fn hear(&self, followed: Followed, hearing: &Hearing<'_>) -> Result<Value, Unanswered> {
        self.heard(&followed.link, followed.events, hearing, None).await
    }

    async fn begun(&self, question: Question<'_>) -> Result<(Arc<Link>, Begun), Unanswered> {
        let link = self.link().await?;
        let message = message(question);
        let posted = tokio::time::timeout(SILENCE_MAX, link.http.post(&link.url, message)).await;
        let response = match posted {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.unsent(&link, &error).await),
            Err(_) => return Err(self.lost(&link, &format!("nothing for {} s", SILENCE_MAX.as_secs())).await),
        };
        self.reached(&link).await;
        let read = match tokio::time::timeout(SILENCE_MAX, answer::read(response)).await {
            Ok(read) => read,
            Err(_) => Err(Unread::Lost("its answer does not end".into())),
        };
        match read {
            Ok(Answer::Whole(message)) => Ok((link, Begun::Whole(message))),
            Ok(Answer::Events(events)) => Ok((link, Begun::Events(events))),
            Err(unread) => Err(self.unread(&link, unread).await),
        }
    }

    async fn heard(
        &self,
        link: &Arc<Link>,
        mut events: Events,
        hearing: &Hearing<'_>,
        silence: Option<Duration>,
    ) -> Result<Value, Unanswered> {
        loop {
            match events.next(silence).await {
                Ok(Some(message)) if message.get("method").is_some() => hearing.tell(message).await,
                Ok(Some(message)) => {
                    if let Some(answer) = last(message) {
                        return answer;
                    }
                }
                Ok(None) => return Err(self.lost(link, "the stream ended before the answer").await),
                Err(unread) => return Err(self.unread(link, unread).await),
            }
        }
    }

    async fn link(&self) -> Result<Arc<Link>, Unanswered> {
        let mut current = self.current.lock().await;
        if let Some(link) = &current.link {
            return Ok(Arc::clone(link));
        }
        let dial = Arc::clone(&self.dial);
        let left = current.backoff.left(Instant::now());
        let away_from = left.is_some().then(|| current.away_from.clone());
        let dialled = tokio::task::spawn_blocking(move || {
            let url = dial.address()?;
            // Who was away there a moment ago is not asked there again yet.
            if away_from.as_ref() == Some(&url) { Ok(None) } else { dial.dial().map(|http| Some(Link { http, url })) }
        });
        let dialled = dialled.await.map_err(|error| {
            Unanswered::Failed(told(&Failure::fault("internal_defect", error.to_string(), "report this as a defect")))
        })?;
        match dialled {
            Ok(Some(link)) => {
                let link = Arc::new(link);
                current.link = Some(Arc::clone(&link));
                Ok(link)
            }
            Ok(None) => Err(Unanswered::Away(failures::away(left.unwrap_or_default()))),
            Err(failure) => Err(Unanswered::Away(told(&failure))),
        }
    }

    /// The bank is there.
    async fn reached(&self, link: &Arc<Link>) {
        let mut current = self.current.lock().await;
        if is_current(&current, link) {
            current.backoff.succeeded();
        }
    }

    async fn unsent(&self, link: &Arc<Link>, error: &Unsent) -> Unanswered {
        match failures::ended(error) {
            Ended::Unreachable => {
                let mut current = self.current.lock().await;
                // Of a crowd that was turned away one counts.
                if is_current(&current, link) {
                    current.link = None;
                    current.away_from.clone_from(&link.url);
                    let [jitter] = clock::random();
                    let pause = current.backoff.failed(Instant::now(), jitter);
                    tracing::warn!(pause_ms = pause.as_millis(), "the bank cannot be reached");
                }
                let left = current.backoff.left(Instant::now());
                Unanswered::Away(failures::away(left.unwrap_or_default()))
            }
            // A new connection would need more signatures, and change nothing.
            Ended::Refused(failure) if failure.kind == Kind::Busy => Unanswered::Failed(told(&failure)),
            Ended::Refused(failure) => {
                self.leave(link).await;
                Unanswered::Failed(told(&failure))
            }
            Ended::Lost => self.lost(link, &error.to_string()).await,
        }
    }

    async fn unread(&self, link: &Arc<Link>, unread: Unread) -> Unanswered {
        match unread {
            Unread::Refused(failure, wait) => Unanswered::Failed(failures::told_to_wait(&failure, wait)),
            Unread::Dismissed(failure) => {
                self.leave(link).await;
                Unanswered::Failed(told(&failure))
            }
            Unread::Lost(why) => self.lost(link, &why).await,
        }
    }

    async fn lost(&self, link: &Arc<Link>, why: &str) -> Unanswered {
        tracing::warn!(%why, "an answer of the bank was lost");
        self.leave(link).await;
        Unanswered::Failed(told(&failures::answer_lost()))
    }

    /// The next call makes a new client, with the certificates and the address of then.
    async fn leave(&self, link: &Arc<Link>) {
        let mut current = self.current.lock().await;
        // Another call may have made a new one already: that one stays.
        if is_current(&current, link) {
            current.link = None;
        }
    }
}

fn is_current(current: &Current, link: &Arc<Link>) -> bool {
    current.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link))
}

fn unreadable(reason: &str) -> Unanswered {
    Unanswered::Failed(told(&failures::answer_unreadable(reason)))
}

/// Why there is no subscription: the bank's own words, or an end where there should be a beginning.
fn refused(message: Value) -> Unanswered {
    match last(message) {
        Some(Err(unanswered)) => unanswered,
        Some(Ok(_)) | None => unreadable("no acknowledgment in it"),
    }
}

/// The answer in a message; `None` when it is none.
fn last(mut message: Value) -> Option<Result<Value, Unanswered>> {
    if let Some(result) = message.get_mut("result") {
        return Some(Ok(result.take()));
    }
    let error = message.get_mut("error")?.take();
    Some(Err(match serde_json::from_value(error) {
        Ok(error) => Unanswered::Error(error),
        Err(error) => unreadable(&error.to_string()),
    }))
}

/// As it is sent: the caller's id, and headers that say the same as the body.
fn message(question: Question<'_>) -> Message {
    let Question { id, method, params, headers } = question;
    let key = match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    };
    let name = key.and_then(|key| params.get(key)?.as_str()).map(in_a_header);
    let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    Message {
        protocol_version: VERSION_TEXT,
        method: method.to_owned(),
        name,
        arguments: headers,
        body: body.to_string().into_bytes(),
    }
}

/// What does not survive as a header's value, and what looks like this already, travels in base64 (MCP 2026-07-28,
/// transports).
pub(super) fn in_a_header(value: &str) -> String {
    let survives = value.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) && value.trim() == value;
    let is_wrapped = value.starts_with("=?base64?") && value.ends_with("?=");
    if survives && !is_wrapped { value.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(value)) }
}

impl Hearing<'_> {
    /// Hands a notification on. Requests of a server do not exist in this revision.
    async fn tell(&self, message: Value) {
        let Ok(JsonRpcMessage::Notification(heard)) = serde_json::from_value::<ServerJsonRpcMessage>(message) else {
            tracing::debug!("the bank said something that is no notification");
            return;
        };
        let heard = heard.notification;
        match self {
            Self::Caller(peer) => {
                // Whoever does not listen any more misses it.
                let _ = peer.send_notification(heard).await;
            }
            Self::Subscription { sink, .. } => {
                let _ = sink.send(heard).await;
            }
            Self::Lists { peer, .. } => {
                if matches!(heard, ServerNotification::ToolListChangedNotification(_)) {
                    let _ = peer.notify_tool_list_changed().await;
                }
                if matches!(heard, ServerNotification::PromptListChangedNotification(_)) {
                    let _ = peer.notify_prompt_list_changed().await;
                }
                if matches!(heard, ServerNotification::ResourceListChangedNotification(_)) {
                    let _ = peer.notify_resource_list_changed().await;
                }
            }
            Self::Nobody => {}
        }
    }

    /// Says that everything that is followed may have changed: nobody knows what did, meanwhile.
    pub(super) async fn missed(&self) {
        match self {
            Self::Subscription { sink, accepted } => {
                // The library leaves what was not asked for.
                let _ = sink.notify_tool_list_changed().await;
                let _ = sink.notify_prompt_list_changed().await;
                let _ = sink.notify_resource_list_changed().await;
                for uri in accepted.resource_subscriptions.iter().flatten() {
                    let _ = sink.notify_resource_updated(uri).await;
                }
            }
            Self::Lists { peer, filter } => {
                if filter.tools_list_changed == Some(true) {
                    let _ = peer.notify_tool_list_changed().await;
                }
                if filter.prompts_list_changed == Some(true) {
                    let _ = peer.notify_prompt_list_changed().await;
                }
                if filter.resources_list_changed == Some(true) {
                    let _ = peer.notify_resource_list_changed().await;
                }
            }
            Self::Caller(_) | Self::Nobody => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_travel_as_headers_can_carry_them() {
        let table = [
            ("get_balance", "get_balance"),
            ("a b", "a b"),
            ("", ""),
            (" a", "=?base64?IGE=?="),
            ("Zürich", "=?base64?WsO8cmljaA==?="),
            ("a\r\nb", "=?base64?YQ0KYg==?="),
            ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
        ];
        for (name, header) in table {
            assert_eq!(in_a_header(name), header);
        }
    }
}
