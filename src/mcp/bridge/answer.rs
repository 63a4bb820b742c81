//! What the bank answers over HTTP: one JSON document, or a stream of events that ends with the answer.

use std::time::Duration;

use http::{StatusCode, header};
use serde_json::Value;

use crate::ops::failure::Failure;
use crate::tls::asking;

/// Longer than any answer of the bank, and than any one event.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// An answer of which the head is there.
pub(super) enum Answer {
    /// The only message. Whatever it says, the status belongs to it.
    Whole(Value),
    /// One message after the other.
    Events(Events),
}

/// Why an answer is none.
#[derive(Debug)]
pub(super) enum Unread {
    /// The bank's edge refused the request, by name; after so many milliseconds it may be asked again, if it said so.
    Refused(Failure, Option<u64>),
    /// It refuses whatever comes over this connection: the agent may not be served, or its certificates are not taken.
    Dismissed(Failure),
    /// It ended early, came too late or is no answer: nothing is known of the call.
    Lost(String),
}

/// Reads what belongs to the head.
pub(super) async fn read(response: reqwest::Response) -> Result<Answer, Unread> {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if status.is_success() && kind.trim_start().starts_with("text/event-stream") {
        return Ok(Answer::Events(Events { response, line: Vec::new(), data: Vec::new() }));
    }
    // An answer that ends early is an answer that was lost, whatever the status.
    let body = asking::body(response, ANSWER_BYTES_MAX).await;
    let body = body.map_err(|cause| Unread::Lost(format!("no whole answer: {cause}")))?;
    match serde_json::from_slice::<Value>(&body) {
        // MCP's own refusals come with a status and an answer to the message.
        Ok(message) if status.is_success() || message.get("jsonrpc").is_some() => Ok(Answer::Whole(message)),
        Ok(refused) => match serde_json::from_value::<Failure>(refused["error"].clone()) {
            Ok(failure) if status == StatusCode::FORBIDDEN => Err(Unread::Dismissed(failure)),
            Ok(failure) => Err(Unread::Refused(failure, refused["error"]["retry_after_ms"].as_u64())),
            Err(_) => Err(unreadable(status)),
        },
        Err(_) => Err(unreadable(status)),
    }
}

fn unreadable(status: StatusCode) -> Unread {
    if status == StatusCode::FORBIDDEN {
        return Unread::Dismissed(super::failures::certificate_refused());
    }
    Unread::Lost(format!("HTTP {status} and no answer"))
}

/// A stream of server-sent events (HTML, 9.2.6), as far as MCP uses it: each event's data is a message.
pub(super) struct Events {
    response: reqwest::Response,
    /// What has arrived and is not looked at.
    line: Vec<u8>,
    /// The data of the event that is being read.
    data: Vec<u8>,
}

impl Events {
    /// The next message; `None` when the stream has ended. Nothing for `silence` is an end as well.
    pub(super) async fn next(&mut self, silence: Option<Duration>) -> Result<Option<Value>, Unread> {
        loop {
            while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let rest = self.line.split_off(end + 1);
                let line = std::mem::replace(&mut self.line, rest);
                if let Some(message) = self.take(line.strip_suffix(b"\n").unwrap_or(&line))? {
                    return Ok(Some(message));
                }
            }
            let chunk = match silence {
                Some(silence) => tokio::time::timeout(silence, self.response.chunk())
                    .await
                    .map_err(|_| Unread::Lost(format!("nothing for {} s", silence.as_secs())))?,
                None => self.response.chunk().await,
            };
            let Some(chunk) = chunk.map_err(|error| Unread::Lost(error.to_string()))? else {
                return Ok(None);
            };
            if self.line.len() + self.data.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Unread::Lost(format!("an event longer than {ANSWER_BYTES_MAX} bytes")));
            }
            self.line.extend_from_slice(&chunk);
        }
    }

    /// Takes one line; the message when it ends an event that has one.
    fn take(&mut self, line: &[u8]) -> Result<Option<Value>, Unread> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            if data.is_empty() {
                return Ok(None);
            }
            let read = serde_json::from_slice(&data);
            return read.map(Some).map_err(|error| Unread::Lost(format!("an event that is no message: {error}")));
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
        // Other fields, and comments, say nothing to us.
        Ok(None)
    }
}
