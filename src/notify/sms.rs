//! SMS through a gateway that takes an HTTP POST: its fields, its header and its good answers are configured.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::http::{Names, Poster, Target};
use super::settings::{BodyForm, SmsSettings};
use super::{Again, Channel, Outgoing, Sending, Source, Undelivered, known};
use crate::kernel::notice::text::shortened;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::ops::secret::SecretSlot;
use crate::tls::asking::Unresolved;

const NAMES: Names = Names {
    unreachable: "sms_unreachable",
    timeout: "sms_timeout",
    redirected: "sms_redirected",
    gone: "sms_gone",
    refused: "sms_refused",
};

pub(super) struct Sms {
    settings: SmsSettings,
    poster: Poster,
    /// The value of the header that lets us in.
    auth: Option<SecretSlot>,
}

/// Name and value, marked so that no log shows it.
fn header(name: &str, secret: &SecretString) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let mut value = HeaderValue::from_str(secret.expose_secret()).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

impl Sms {
    /// # Errors
    /// `sms_auth_unusable`; the secret's and the place's.
    pub(super) fn open(settings: &SmsSettings, state: &StateDir, unresolved: Unresolved) -> Result<Self, Failure> {
        let source = Source {
            channel: &settings.name,
            what: "auth",
            file: settings.auth_file.as_ref(),
            credential: settings.auth_credential.as_ref(),
            vault: settings.auth_vault.as_ref(),
        };
        let auth = source.slot(state)?;
        // What is known already is looked at now; what the vault hands in, when it is used.
        if let Some(secret) = auth.as_ref().and_then(SecretSlot::value)
            && header(&settings.auth_header, &secret).is_none()
        {
            let message = format!("[[notify.channel]] {} auth: its text cannot stand in a header", settings.name);
            let next_step = "write the header's whole value, `Bearer …` for most";
            return Err(Failure::usage("sms_auth_unusable", message, next_step));
        }
        let target = Target {
            channel: &settings.name,
            url: &settings.url,
            root_file: settings.root_file.as_ref().map(|path| state.resolve(path)),
            allow_private: settings.allow_private,
            timeout_ms: settings.timeout_ms,
        };
        let poster = Poster::open(&target, NAMES, unresolved)?;
        Ok(Self { settings: settings.clone(), poster, auth })
    }

    fn body(&self, message: &Outgoing) -> (Vec<u8>, &'static str) {
        let next = message.content.lines().pop().unwrap_or_default();
        let text = shortened(&format!("{}; {next}", message.title()), self.settings.chars_max);
        // In one pass: what stands in the text is no field of ours.
        let filled = |value: &str| match value.split_once("{text}") {
            Some((before, after)) => {
                format!("{}{text}{}", before.replace("{id}", &message.id), after.replace("{id}", &message.id))
            }
            None => value.replace("{id}", &message.id),
        };
        let fields = self.settings.fields.iter().map(|(name, value)| (name, filled(value)));
        match self.settings.body {
            BodyForm::Json => {
                let object: serde_json::Map<String, serde_json::Value> =
                    fields.map(|(name, value)| (name.clone(), value.into())).collect();
                (serde_json::Value::Object(object).to_string().into_bytes(), "application/json")
            }
            BodyForm::Form => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                form.extend_pairs(fields);
                (form.finish().into_bytes(), "application/x-www-form-urlencoded")
            }
        }
    }
}

impl Channel for Sms {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn kind(&self) -> &'static str {
        "sms"
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
            let (body, content_type) = self.body(message);
            let mut headers = HeaderMap::new();
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            if let Ok(id) = HeaderValue::from_str(&message.id) {
                headers.insert(HeaderName::from_static("idempotency-key"), id);
            }
            if let Some(auth) = &self.auth {
                let (name, value) = header(&self.settings.auth_header, &*known(auth)?).ok_or_else(|| {
                    let why = "the credential cannot stand in a header: rotate it in the vault";
                    Undelivered::new("sms_auth_unusable", why, Again::Later)
                })?;
                headers.insert(name, value);
            }
            self.poster.post(headers, body, |status| self.settings.ok.contains(&status)).await
        })
    }

    fn reach(&self) -> Sending<'_, ()> {
        Box::pin(self.poster.reach())
    }

    fn secrets(&self) -> Vec<SecretSlot> {
        self.auth.iter().cloned().collect()
    }
}
