//! What kept a call from being answered, by name: what the bank refused, the bridge about the bank, or nobody knows.

use std::time::Duration;

use rmcp::model::{ErrorCode, ErrorData};
use serde_json::{Map, Value, json};

use crate::mcp::signed_http::Unsent;
use crate::ops::failure::Failure;
use crate::tls;
use crate::tls::pin::{self, NotPinned};

/// Our code for "the bank did not take this call" (−32000…−32019 are the server's own).
pub(super) const UPSTREAM_FAILED: ErrorCode = ErrorCode(-32010);

/// A failure as a JSON-RPC error that a model can read.
pub(super) fn told(failure: &Failure) -> ErrorData {
    ErrorData::new(
        UPSTREAM_FAILED,
        format!("{}; {}", failure.message, failure.next_step),
        Some(json!({ "name": failure.name, "retry": failure.retry, "may_have_happened": failure.may_have_happened })),
    )
}

/// The same with the time after which it may be asked again, if the bank has said one.
pub(super) fn told_to_wait(failure: &Failure, retry_after_ms: Option<u64>) -> ErrorData {
    let mut error = told(failure);
    if let (Some(data), Some(wait)) = (error.data.as_mut(), retry_after_ms) {
        data["retry_after_ms"] = json!(wait);
    }
    error
}

/// The same of a call whose first round the bank has recorded: it is not known any more that nothing happened.
pub(super) fn after_the_fact(mut error: ErrorData) -> ErrorData {
    let mut data = match error.data.take() {
        Some(Value::Object(members)) => members,
        None => Map::new(),
        // Of a server that has another form for it.
        Some(said) => Map::from_iter([("said".to_owned(), said)]),
    };
    if data.get("may_have_happened").is_none_or(|word| word != "unknown") {
        data.insert("may_have_happened".to_owned(), json!("yes"));
    }
    error.data = Some(data.into());
    error.message =
        format!("{}; the call itself is recorded: repeat it with the same idempotency_key", error.message).into();
    error
}

/// False of a refusal that stays one however often it is asked for.
pub(super) fn may_retry(error: &ErrorData) -> bool {
    error.data.as_ref().is_none_or(|data| data["retry"] == true || data["may_have_happened"] == "unknown")
}

/// The bank was away a moment ago and is not asked again before `wait` is over.
pub(super) fn away(wait: Duration) -> ErrorData {
    let mut error = told(&unreachable_());
    if let Some(data) = error.data.as_mut() {
        data["retry_after_ms"] = json!(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1));
    }
    error
}

/// What became of a request that has no answer.
pub(super) enum Ended {
    /// No connection was made: the bank did not see it.
    Unreachable,
    /// Refused by name, before it had an effect.
    Refused(Failure),
    /// It was sent: nobody knows.
    Lost,
}

pub(super) fn ended(error: &Unsent) -> Ended {
    let (error, was_sent) = match error {
        Unsent::Failed(failure) => return Ended::Refused(failure.clone()),
        Unsent::NoToken(error) => (error, false),
        Unsent::Http(error) => (error, true),
    };
    if let Some(NotPinned { found, expected }) = pin::not_pinned(error) {
        return Ended::Refused(Failure::refused(
            "bank_not_pinned",
            format!("the server is not the bank as this agent host knows it: found {found}; expected {expected}"),
            "if the bank has a new issuing CA, import it with `countersign trust add`; nothing was sent",
        ));
    }
    if let Some(why) = tls::unsigned(error) {
        return Ended::Refused(Failure::busy(
            "handshake_unsigned",
            format!("the agent host did not sign the handshake with the bank: {why}"),
            "try again in a moment; see `countersign doctor` at the agent host",
        ));
    }
    match refusal(&chain(error)) {
        Some(refused) => Ended::Refused(refused),
        // Only a connection that was never made proves that the bank did not see the call, or a token that it lacked.
        None if error.is_connect() || !was_sent => Ended::Unreachable,
        None => Ended::Lost,
    }
}

/// The texts of an error and its causes. Some libraries fold causes into Debug text.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    format!("{text} {error:?}")
}

/// What the bank refused, or the bridge about the bank, by name.
fn refusal(text: &str) -> Option<Failure> {
    if text.contains("CertificateRevoked") || text.contains("revoked") {
        return Some(Failure::refused(
            "agent_revoked",
            "the bank has revoked this agent",
            "ask the bank why; a new agent needs a new key and both signatures",
        ));
    }
    let refusals = ["AccessDenied", "CertificateUnknown", "BadCertificate", "CertificateExpired", "HandshakeFailure"];
    if refusals.iter().any(|alert| text.contains(alert)) {
        return Some(certificate_refused());
    }
    if text.contains("UnknownIssuer") || text.contains("NotValidForName") || text.contains("invalid peer certificate") {
        return Some(Failure::refused(
            "bank_not_recognised",
            "the server is not the bank that this agent trusts",
            "check [upstream] url and bank_root; nothing was sent",
        ));
    }
    None
}

pub(super) fn certificate_refused() -> Failure {
    Failure::refused(
        "certificate_refused",
        "the bank does not accept this agent now: it is frozen there, or its certificates are not taken",
        "ask the bank whether it is frozen; see `countersign cert show NAME` for the certificates' dates",
    )
}

pub(super) fn unreachable_() -> Failure {
    Failure::busy(
        "bank_unreachable",
        "the bank cannot be reached",
        "check that it is running and [upstream] in the agent host's configuration, then try again",
    )
}

pub(super) fn answer_lost() -> Failure {
    Failure::unknown(
        "answer_lost",
        "the connection to the bank ended before it answered: the call may have been carried out",
        "repeat the same call with the same idempotency_key or transaction_id: what happened once does not happen again",
    )
}

/// The bank answered, and not in the shape of this method's answers.
pub(super) fn answer_unreadable(reason: &str) -> Failure {
    Failure::unknown(
        "answer_unreadable",
        format!("the bank's answer is not one to this request: {reason}"),
        "check that the bank and this program are versions that belong together; repeat with the same idempotency_key",
    )
}
