//! What goes wrong at a model's provider, by name, with the reader's next step. Keys are in none of it.

use std::time::Duration;

use genai::{Error, webc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::ops::failure::Failure;

/// Characters of what a provider said that a person is shown.
const QUOTED_MAX: usize = 300;

/// The name of an answer that is none.
pub(super) const UNREADABLE: &str = "model_answer_unreadable";

/// Who runs a model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Provider {
    Anthropic,
    OpenAi,
    Gemini,
    Ollama,
}

impl Provider {
    pub(super) const ALL: [Self; 4] = [Self::Anthropic, Self::OpenAi, Self::Gemini, Self::Ollama];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    /// Where the provider's own tools look for the key.
    pub(super) fn key_variable(self) -> &'static str {
        match self {
            Self::Anthropic => "ANTHROPIC_API_KEY",
            Self::OpenAi => "OPENAI_API_KEY",
            Self::Gemini => "GEMINI_API_KEY",
            Self::Ollama => "OLLAMA_API_KEY",
        }
    }

    pub(super) fn base_url(self) -> &'static str {
        match self {
            Self::Anthropic => "https://api.anthropic.com/v1/",
            Self::OpenAi => "https://api.openai.com/v1/",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta/",
            Self::Ollama => "http://localhost:11434/",
        }
    }
}

/// A failure, and when the provider wants to be asked again.
#[derive(Debug)]
pub(super) struct Told {
    pub failure: Failure,
    pub retry_after: Option<Duration>,
}

/// The name of what went wrong. A question to a model has no effect, so nothing is ever unknown here.
pub(super) fn named(provider: Provider, error: &Error, key: Option<&SecretString>) -> Told {
    let (who, variable) = (provider.word(), provider.key_variable());
    let retry_after = error
        .headers()
        .and_then(|headers| headers.get("retry-after")?.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let said = quoted(error, key);
    let failure = match error.status().map(|status| status.as_u16()) {
        // What providers say here holds parts of the key.
        Some(401 | 403) => Failure::usage(
            "model_key_refused",
            format!("{who} does not accept the API key"),
            format!("set {variable} to a key of this provider that may use this model"),
        ),
        Some(404) => Failure::usage(
            "model_unknown",
            format!("{who} has no such model{said}"),
            match provider {
                Provider::Ollama => "pull the model first, or correct --model",
                Provider::Anthropic | Provider::OpenAi | Provider::Gemini => "correct --model, or --base-url",
            },
        ),
        Some(429) => Failure::busy("model_busy", format!("{who} takes no more requests now{said}"), later(retry_after)),
        Some(status @ (408 | 500..=599)) => Failure::busy(
            "model_unavailable",
            format!("{who} answered HTTP {status}{said}"),
            "try again later; see the provider's status page",
        ),
        Some(status) => Failure::fault(
            "model_request_refused",
            format!("{who} refused the request with HTTP {status}{said}"),
            "see what it said; another model may take it",
        ),
        None => without_answer(who, error),
    };
    Told { failure, retry_after }
}

fn without_answer(who: &str, error: &Error) -> Failure {
    if let Error::WebModelCall { webc_error: webc::Error::Reqwest(cause), .. } = error {
        let next_step = "check the network and --base-url, and that the server is up; then try again";
        return if cause.is_timeout() {
            Failure::busy("model_timeout", format!("{who} did not answer in time"), next_step)
        } else {
            Failure::busy("model_unreachable", format!("{who} cannot be reached, or hung up"), next_step)
        };
    }
    Failure::fault(
        UNREADABLE,
        format!("{who} answered something that is no answer of a model"),
        "check --base-url: it must speak as this provider does",
    )
}

fn later(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(wait) => format!("try again in {} s", wait.as_secs()),
        None => "wait a minute and try again, or raise the limit at the provider".to_owned(),
    }
}

/// The message in a provider's error, shortened, and without the key.
fn quoted(error: &Error, key: Option<&SecretString>) -> String {
    let (Error::WebModelCall { webc_error, .. } | Error::WebAdapterCall { webc_error, .. }) = error else {
        return String::new();
    };
    let webc::Error::ResponseFailedStatus { body, .. } = webc_error else { return String::new() };
    let Ok(body) = serde_json::from_str::<Value>(body) else { return String::new() };
    let message = body["error"]["message"].as_str().or_else(|| body["error"].as_str()).unwrap_or_default();
    let plain = match key {
        Some(key) => message.replace(key.expose_secret(), "[redacted]"),
        None => message.to_owned(),
    };
    if plain.is_empty() {
        return String::new();
    }
    format!(": {}", plain.chars().take(QUOTED_MAX).collect::<String>())
}
