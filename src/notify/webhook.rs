//! Webhooks, signed as the Standard Webhooks specification says, version 1.0.0: HMAC-SHA256 over `id.timestamp.body`.
//!
//! Chosen over HTTP message signatures with a key of the HSM: receivers of webhooks have libraries for this, a secret each,
//! and a flood of notices takes nothing from the token that payments need.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::http::{Names, Poster, Target};
use super::settings::WebhookSettings;
use super::{Again, Channel, Outgoing, Sending, Source, Undelivered, before, known};
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::ops::secret::{self, SecretSlot};
use crate::tls::asking::Unresolved;

/// Secrets of the specification: so many bytes at least and at most.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const PREFIX: &str = "whsec_";

const NAMES: Names = Names {
    unreachable: "webhook_unreachable",
    timeout: "webhook_timeout",
    redirected: "webhook_redirected",
    gone: "webhook_gone",
    refused: "webhook_refused",
};

pub(super) struct Webhook {
    name: String,
    poster: Poster,
    secret: SecretSlot,
    /// Those before it that sign, too, when there are any now.
    previous: Vec<SecretSlot>,
}

impl Webhook {
    /// # Errors
    /// `webhook_secret_unusable`; the secret's and the place's.
    pub(super) fn open(settings: &WebhookSettings, state: &StateDir, unresolved: Unresolved) -> Result<Self, Failure> {
        let source = Source {
            channel: &settings.name,
            what: "secret",
            file: settings.secret_file.as_ref(),
            credential: settings.secret_credential.as_ref(),
            vault: settings.secret_vault.as_ref(),
        };
        let previous = settings.previous_secret_file.as_ref();
        let previous = previous.map(|path| {
            secret::from_file(
                &state.resolve(path),
                &format!("[[notify.channel]] {} previous_secret_file", settings.name),
            )
        });
        let secret = source.slot(state)?.ok_or_else(|| {
            let message = format!("[[notify.channel]] {}: a webhook has a secret", settings.name);
            Failure::usage("config_invalid", message, "give secret_vault, secret_file or secret_credential")
        })?;
        let vaulted = before(&secret, i64::from(settings.overlap_s) * 1_000);
        let previous: Vec<_> = previous.transpose()?.map(SecretSlot::fixed).into_iter().chain(vaulted).collect();
        // What is known already is looked at now; what the vault hands in, when it is used.
        let fits = |slot: &SecretSlot| slot.value().map_or(Ok(()), |secret| key(&secret, &settings.name).map(drop));
        previous.iter().chain([&secret]).try_for_each(fits)?;
        let target = Target {
            channel: &settings.name,
            url: &settings.url,
            root_file: settings.root_file.as_ref().map(|path| state.resolve(path)),
            allow_private: settings.allow_private,
            timeout_ms: settings.timeout_ms,
        };
        Ok(Self { name: settings.name.clone(), poster: Poster::open(&target, NAMES, unresolved)?, secret, previous })
    }

    fn keys(&self) -> Result<Vec<hmac::Key>, Undelivered> {
        let unusable = |_| {
            let why = "the secret is not whsec_ and 24 to 64 bytes in base64: rotate it in the vault";
            Undelivered::new("webhook_secret_unusable", why, Again::Later)
        };
        let current = key(&*known(&self.secret)?, &self.name).map_err(unusable)?;
        // One before it that is of no use keeps no message from being signed with the new one.
        let previous = self.previous.iter().filter_map(SecretSlot::value).filter_map(|old| key(&old, &self.name).ok());
        Ok([current].into_iter().chain(previous).collect())
    }
}

fn key(secret: &SecretString, channel: &str) -> Result<hmac::Key, Failure> {
    let text = secret.expose_secret();
    let bytes = STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or_default()).map(zeroize::Zeroizing::new);
    let bytes = bytes.ok().filter(|bytes| KEY_BYTES.contains(&bytes.len())).ok_or_else(|| {
        Failure::usage(
            "webhook_secret_unusable",
            format!("[[notify.channel]] {channel}: the secret is not whsec_ and 24 to 64 bytes in base64"),
            "make one: (printf whsec_; head -c 32 /dev/urandom | base64 -w 0) > FILE; chmod 600 FILE",
        )
    })?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// What stands in `webhook-signature`: one for each secret.
fn signatures(keys: &[hmac::Key], id: &str, seconds: i64, body: &[u8]) -> String {
    let one = |key: &hmac::Key| {
        let mut signing = hmac::Context::with_key(key);
        signing.update(format!("{id}.{seconds}.").as_bytes());
        signing.update(body);
        format!("v1,{}", STANDARD.encode(signing.sign()))
    };
    keys.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn body(message: &Outgoing) -> Vec<u8> {
    let first = message.content.first();
    json!({
        "type": first.kind,
        "timestamp": first.at,
        "data": {
            "id": message.id,
            "party": message.party,
            "title": message.content.title(),
            "lines": message.content.lines(),
            "subjects": first.subjects,
            "count": message.content.count(),
        },
    })
    .to_string()
    .into_bytes()
}

impl Channel for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn target(&self) -> String {
        self.poster.target()
    }

    fn is_open(&self) -> bool {
        self.poster.is_open()
    }

    fn longest(&self) -> Duration {
        self.poster.timeout
    }

    fn send<'a>(&'a self, message: &'a Outgoing) -> Sending<'a> {
        Box::pin(async move {
            let body = body(message);
            let (id, seconds) = (format!("ntc_{}", message.id), message.now.seconds());
            let mut headers = HeaderMap::new();
            let signature = signatures(&self.keys()?, &id, seconds, &body);
            for (name, value) in [
                ("webhook-id", id),
                ("webhook-timestamp", seconds.to_string()),
                ("webhook-signature", signature),
                ("content-type", "application/json".into()),
                ("user-agent", concat!("countersign/", env!("CARGO_PKG_VERSION")).into()),
            ] {
                let value = HeaderValue::from_str(&value).map_err(|_| {
                    Undelivered::new("webhook_unsendable", "a header cannot carry the id", Again::Never)
                })?;
                headers.insert(HeaderName::from_static(name), value);
            }
            self.poster.post(headers, body, |status| (200..300).contains(&status)).await
        })
    }

    fn reach(&self) -> Sending<'_, ()> {
        Box::pin(self.poster.reach())
    }

    fn secrets(&self) -> Vec<SecretSlot> {
        [&self.secret].into_iter().chain(&self.previous).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example of the specification's own libraries.
        let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let keys = vec![key(&secret, "c").unwrap()];
        let signed = signatures(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two = signatures(&[keys[0].clone(), keys[0].clone()], "a", 1, b"");
        assert_eq!(two.split(' ').count(), 2);
    }

    #[test]
    fn a_secret_that_is_too_short_or_of_another_form_is_refused() {
        let of = |bytes: usize| format!("{PREFIX}{}", STANDARD.encode(vec![7; bytes]));
        for text in [
            of(23),
            of(65),
            of(0),
            STANDARD.encode([7; 32]),
            "whsec_***".into(),
            "whsec_".into(),
            of(32).to_lowercase() + "=",
        ] {
            let refused = key(&SecretString::from(text.clone()), "c").unwrap_err();
            assert_eq!(refused.name, "webhook_secret_unusable", "{text}");
            assert!(!refused.message.contains(&text) || text.len() < 10);
        }
        key(&SecretString::from(of(24)), "c").unwrap();
        key(&SecretString::from(of(64)), "c").unwrap();
    }
}
