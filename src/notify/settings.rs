//! `[notify]`

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kernel::notice::NoticeKind;
use crate::kernel::types::CredentialName;

/// Who is told of what, and how. Without a channel nobody is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifySettings {
    /// After so many attempts a message is dead.
    #[serde(default = "attempts_max_default")]
    pub attempts_max: u32,
    /// Older ones are given up, and of older decisions nobody is told.
    #[serde(default = "age_max_default")]
    pub age_max_h: u32,
    /// Between two attempts, at first; doubled each time up to `pause_max_s`.
    #[serde(default = "pause_default")]
    pub pause_s: u32,
    #[serde(default = "pause_max_default")]
    pub pause_max_s: u32,
    /// What was sent or given up is kept so long.
    #[serde(default = "keep_days_default")]
    pub keep_days: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channel: Vec<ChannelSettings>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<RouteSettings>,
}

fn attempts_max_default() -> u32 {
    12
}
fn age_max_default() -> u32 {
    24
}
fn pause_default() -> u32 {
    5
}
fn pause_max_default() -> u32 {
    900
}
fn keep_days_default() -> u32 {
    30
}

impl Default for NotifySettings {
    fn default() -> Self {
        Self {
            attempts_max: attempts_max_default(),
            age_max_h: age_max_default(),
            pause_s: pause_default(),
            pause_max_s: pause_max_default(),
            keep_days: keep_days_default(),
            channel: vec![],
            route: vec![],
        }
    }
}

/// One way to people.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ChannelSettings {
    Smtp(SmtpSettings),
    Webhook(WebhookSettings),
    Sms(SmsSettings),
}

/// How a mail server is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmtpTls {
    /// RFC 3207; without it nothing is sent.
    #[default]
    Starttls,
    /// TLS from the first byte, RFC 8314.
    Implicit,
    /// In clear, on the loopback only.
    None,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpSettings {
    pub name: String,
    pub host: String,
    /// 587 for `starttls`, 465 for `implicit`, 25 for `none`.
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub tls: SmtpTls,
    /// The only roots that are trusted (PEM); none: the system's.
    #[serde(default)]
    pub root_file: Option<PathBuf>,
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    #[serde(default)]
    pub password_credential: Option<String>,
    /// A credential of the vault; it is read again when it is rotated.
    #[serde(default)]
    pub password_vault: Option<CredentialName>,
    pub from: String,
    pub to: Vec<String>,
    /// For a whole message.
    #[serde(default = "timeout_default")]
    pub timeout_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    pub name: String,
    pub url: String,
    /// `whsec_` and base64 (Standard Webhooks).
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    #[serde(default)]
    pub secret_credential: Option<String>,
    /// A credential of the vault; it is read again when it is rotated.
    #[serde(default)]
    pub secret_vault: Option<CredentialName>,
    /// The secret before it: both sign until receivers know the new one.
    #[serde(default)]
    pub previous_secret_file: Option<PathBuf>,
    /// The same for `secret_vault`: so many seconds after a rotation the version before signs, too. 0: never.
    #[serde(default = "overlap_default")]
    pub overlap_s: u32,
    #[serde(default)]
    pub root_file: Option<PathBuf>,
    /// Needed for loopback and private addresses, which are mistakes elsewhere.
    #[serde(default)]
    pub allow_private: bool,
    #[serde(default = "timeout_default")]
    pub timeout_ms: u64,
}

/// How an SMS gateway takes its fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyForm {
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmsSettings {
    pub name: String,
    pub url: String,
    #[serde(default)]
    pub body: BodyForm,
    /// Fields of the body; `{text}` and `{id}` in a value are replaced.
    pub fields: std::collections::BTreeMap<String, String>,
    #[serde(default = "auth_header_default")]
    pub auth_header: String,
    /// The header's whole value, `Bearer …` for most.
    #[serde(default)]
    pub auth_file: Option<PathBuf>,
    #[serde(default)]
    pub auth_credential: Option<String>,
    /// A credential of the vault; it is read again when it is rotated.
    #[serde(default)]
    pub auth_vault: Option<CredentialName>,
    /// Answers that mean that the gateway has it.
    #[serde(default = "ok_default")]
    pub ok: Vec<u16>,
    /// The longest text, characters.
    #[serde(default = "chars_max_default")]
    pub chars_max: usize,
    #[serde(default)]
    pub root_file: Option<PathBuf>,
    #[serde(default)]
    pub allow_private: bool,
    #[serde(default = "timeout_default")]
    pub timeout_ms: u64,
}

fn timeout_default() -> u64 {
    10_000
}
fn overlap_default() -> u32 {
    86_400
}
fn auth_header_default() -> String {
    "Authorization".into()
}
fn ok_default() -> Vec<u16> {
    vec![200, 201, 202]
}
fn chars_max_default() -> usize {
    300
}

/// What goes where.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSettings {
    /// None: every kind.
    #[serde(default)]
    pub kinds: Vec<NoticeKind>,
    pub channels: Vec<String>,
    /// Of one kind so many go out one by one within `min_interval_s`; what comes beyond them is one digest.
    #[serde(default = "digest_after_default")]
    pub digest_after: u32,
    #[serde(default = "min_interval_default")]
    pub min_interval_s: u32,
}

fn digest_after_default() -> u32 {
    3
}
fn min_interval_default() -> u32 {
    60
}

impl ChannelSettings {
    pub fn name(&self) -> &str {
        match self {
            Self::Smtp(smtp) => &smtp.name,
            Self::Webhook(webhook) => &webhook.name,
            Self::Sms(sms) => &sms.name,
        }
    }

    /// As the configuration calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Smtp(_) => "smtp",
            Self::Webhook(_) => "webhook",
            Self::Sms(_) => "sms",
        }
    }
}

impl NotifySettings {
    /// What is wrong with the section, in words.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self) -> Result<(), String> {
        let between = |key: &str, value: u32, least: u32, most: u32| {
            let fits = (least..=most).contains(&value);
            if fits { Ok(()) } else { Err(format!("[notify] {key} must be {least} to {most}")) }
        };
        between("attempts_max", self.attempts_max, 1, 100)?;
        between("age_max_h", self.age_max_h, 1, 720)?;
        between("pause_s", self.pause_s, 1, 3_600)?;
        between("pause_max_s", self.pause_max_s, self.pause_s, 86_400)?;
        between("keep_days", self.keep_days, 1, 3_660)?;
        for (number, channel) in self.channel.iter().enumerate() {
            let name = channel.name();
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if !(1..=32).contains(&name.len()) || !name.bytes().all(plain) {
                return Err(format!("[[notify.channel]] name = {name:?}: 1 to 32 lower-case letters, digits or '-'"));
            }
            if self.channel[..number].iter().any(|other| other.name() == name) {
                return Err(format!("[[notify.channel]] {name}: another channel has this name"));
            }
            channel.check().map_err(|why| format!("[[notify.channel]] {name}: {why}"))?;
        }
        for route in &self.route {
            if route.channels.is_empty() {
                return Err("[[notify.route]] channels: name at least one channel".into());
            }
            if let Some(name) = route.channels.iter().find(|name| !self.channel.iter().any(|one| one.name() == **name))
            {
                return Err(format!("[[notify.route]] channels: there is no [[notify.channel]] named {name:?}"));
            }
            if !(1..=86_400).contains(&route.min_interval_s) {
                return Err("[[notify.route]] min_interval_s must be 1 to 86400".into());
            }
            if route.digest_after > 1_000 {
                return Err("[[notify.route]] digest_after must be 0 to 1000".into());
            }
        }
        if self.route.is_empty() && !self.channel.is_empty() {
            return Err("[[notify.route]]: without a route no channel gets anything".into());
        }
        Ok(())
    }
}

impl ChannelSettings {
    fn check(&self) -> Result<(), String> {
        let timeout_ms = match self {
            Self::Smtp(smtp) => {
                smtp.check()?;
                smtp.timeout_ms
            }
            Self::Webhook(webhook) => {
                checked_url(&webhook.url, webhook.allow_private)?;
                one_of("secret", &webhook.secret_file, &webhook.secret_credential, &webhook.secret_vault)?
                    .then_some(())
                    .ok_or("give secret_vault, secret_file or secret_credential: a webhook that is not signed can be forged")?;
                if webhook.overlap_s > OVERLAP_MAX_S {
                    return Err(format!("overlap_s must be 0 to {OVERLAP_MAX_S}"));
                }
                webhook.timeout_ms
            }
            Self::Sms(sms) => {
                checked_url(&sms.url, sms.allow_private)?;
                one_of("auth", &sms.auth_file, &sms.auth_credential, &sms.auth_vault)?;
                if !sms.fields.values().any(|value| value.contains("{text}")) {
                    return Err("fields: one of them must contain {text}".into());
                }
                if sms.ok.is_empty() || !sms.ok.iter().all(|status| (200..300).contains(status)) {
                    return Err("ok: one or more statuses of 200 to 299".into());
                }
                if !(40..=1_600).contains(&sms.chars_max) {
                    return Err("chars_max must be 40 to 1600".into());
                }
                if http::HeaderName::from_bytes(sms.auth_header.as_bytes()).is_err() {
                    return Err("auth_header is not the name of a header".into());
                }
                sms.timeout_ms
            }
        };
        if (100..=60_000).contains(&timeout_ms) { Ok(()) } else { Err("timeout_ms must be 100 to 60000".into()) }
    }
}

impl SmtpSettings {
    fn check(&self) -> Result<(), String> {
        if self.host.is_empty() || self.host.contains(|letter: char| letter.is_whitespace() || "/@:".contains(letter)) {
            return Err("host: the name or IPv4 address of a mail server, without a port".into());
        }
        let loopback = self.host == "localhost" || address(&self.host).is_some_and(|address| address.is_loopback());
        if self.tls == SmtpTls::None && !loopback {
            return Err("tls = \"none\" is for the loopback only".into());
        }
        let has_password = one_of("password", &self.password_file, &self.password_credential, &self.password_vault)?;
        if self.user.is_some() != has_password {
            return Err(
                "give user and password_file (or password_vault, password_credential) together, or neither".into()
            );
        }
        if self.to.is_empty() || self.to.len() > 20 {
            return Err("to: 1 to 20 addresses".into());
        }
        for address in self.to.iter().chain([&self.from]) {
            let parsed = address.parse::<lettre::message::Mailbox>();
            let plain = parsed.is_ok_and(|mailbox| AsRef::<str>::as_ref(&mailbox.email).is_ascii());
            if !plain {
                return Err(format!("{address:?} is not a mail address of plain ASCII"));
            }
        }
        Ok(())
    }
}

/// Thirty days: a secret that is not needed any more is one that can be lost.
const OVERLAP_MAX_S: u32 = 30 * 86_400;

/// Whether one of the sources is given; two are one too many.
fn one_of(
    what: &str,
    file: &Option<PathBuf>,
    credential: &Option<String>,
    vault: &Option<CredentialName>,
) -> Result<bool, String> {
    match [file.is_some(), credential.is_some(), vault.is_some()].into_iter().filter(|given| *given).count() {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(format!("give one of {what}_file, {what}_credential and {what}_vault")),
    }
}

fn address(host: &str) -> Option<std::net::IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

fn checked_url(url: &str, allow_private: bool) -> Result<(), String> {
    let url = reqwest::Url::parse(url).map_err(|error| format!("url: {error}"))?;
    let host = url.host_str().unwrap_or_default();
    let literal = address(host);
    let loopback = host == "localhost" || literal.is_some_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if loopback && allow_private => {}
        "http" => return Err("url: plain http is for the loopback only, with allow_private = true".into()),
        _ => return Err("url: https://… is expected".into()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("url: it holds a user or a password; secrets are in files".into());
    }
    if url.fragment().is_some() {
        return Err("url: a fragment is never sent".into());
    }
    let private = loopback || literal.is_some_and(|address| !super::place::is_public(address));
    if private && !allow_private {
        return Err("url: the address is loopback or private; say allow_private = true if it is meant".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = "[[channel]]\nname = \"mail\"\nkind = \"smtp\"\nhost = \"mail.bank.example\"\nuser = \"bank\"\n\
        password_file = \"secrets/mail\"\nfrom = \"bank@bank.example\"\nto = [\"ops@bank.example\"]\n";
    const HOOK: &str = "[[channel]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"https://alerts.example/in\"\n\
        secret_file = \"secrets/hook\"\n";
    const SMS: &str = "[[channel]]\nname = \"sms\"\nkind = \"sms\"\nurl = \"https://gateway.example/send\"\n\
        fields = { to = \"+1\", text = \"{text}\" }\n";
    const ROUTE: &str = "[[route]]\nchannels = [\"mail\", \"hook\", \"sms\"]\n";

    fn checked(text: &str) -> Result<(), String> {
        toml::from_str::<NotifySettings>(text).map_err(|error| error.to_string())?.check()
    }

    #[test]
    fn sections_that_break_a_rule_are_refused_with_the_key() {
        let whole = [MAIL, HOOK, SMS, ROUTE].concat();
        assert_eq!(checked(&whole), Ok(()));
        assert_eq!(checked(""), Ok(()));
        let table = [
            ("name = \"mail\"", "name = \"Mail\"", "lower-case"),
            ("name = \"mail\"", "name = \"\"", "lower-case"),
            ("name = \"hook\"", "name = \"mail\"", "another channel has this name"),
            ("kind = \"sms\"", "kind = \"pigeon\"", "unknown variant"),
            ("kind = \"sms\"", "kind = \"sms\"\ncolour = 1", "unknown field"),
            ("host = \"mail.bank.example\"", "host = \"mail:25\"", "without a port"),
            ("host = \"mail.bank.example\"", "host = \"\"", "without a port"),
            ("host = \"mail.bank.example\"", "host = \"mail.bank.example\"\ntls = \"none\"", "loopback only"),
            ("host = \"mail.bank.example\"", "host = \"mail.bank.example\"\ntls = \"maybe\"", "unknown variant"),
            ("user = \"bank\"\n", "", "user and password_file"),
            ("password_file = \"secrets/mail\"\n", "", "user and password_file"),
            ("user = \"bank\"", "user = \"bank\"\npassword_credential = \"mail\"", "one of password_file"),
            ("from = \"bank@bank.example\"", "from = \"bank\"", "not a mail address"),
            ("to = [\"ops@bank.example\"]", "to = [\"ops@bank.example\\r\\nBcc: x@y.example\"]", "not a mail address"),
            ("to = [\"ops@bank.example\"]", "to = []", "1 to 20 addresses"),
            ("to = [\"ops@bank.example\"]", "to = [\"ops@bank.example\"]\ntimeout_ms = 99", "timeout_ms"),
            ("https://alerts.example/in", "http://alerts.example/in", "loopback only"),
            ("https://alerts.example/in", "ftp://alerts.example/in", "https://"),
            ("https://alerts.example/in", "alerts.example", "url"),
            ("https://alerts.example/in", "https://user:word@alerts.example/in", "a user or a password"),
            ("https://alerts.example/in", "https://alerts.example/in#part", "fragment"),
            ("https://alerts.example/in", "https://127.0.0.1/in", "allow_private"),
            ("https://alerts.example/in", "http://127.0.0.1/in", "allow_private"),
            ("https://alerts.example/in", "https://localhost/in", "allow_private"),
            ("https://alerts.example/in", "https://10.1.2.3/in", "allow_private"),
            ("https://alerts.example/in", "https://169.254.169.254/latest", "allow_private"),
            ("https://alerts.example/in", "https://[::1]/in", "allow_private"),
            ("https://alerts.example/in", "https://[fd00::1]/in", "allow_private"),
            ("https://alerts.example/in", "https://0x7f000001/in", "allow_private"),
            ("secret_file = \"secrets/hook\"\n", "", "can be forged"),
            ("secret_file = \"secrets/hook\"", "secret_file = \"a\"\nsecret_credential = \"b\"", "one of secret_file"),
            ("\"{text}\"", "\"text\"", "{text}"),
            ("kind = \"sms\"", "kind = \"sms\"\nok = []", "200 to 299"),
            ("kind = \"sms\"", "kind = \"sms\"\nok = [302]", "200 to 299"),
            ("kind = \"sms\"", "kind = \"sms\"\nchars_max = 10", "chars_max"),
            ("kind = \"sms\"", "kind = \"sms\"\nauth_header = \"a b\"", "auth_header"),
            ("kind = \"sms\"", "kind = \"sms\"\nauth_file = \"a\"\nauth_credential = \"b\"", "one of auth_file"),
            ("user = \"bank\"", "user = \"bank\"\npassword_vault = \"mail\"", "one of password_file"),
            ("secret_file = \"secrets/hook\"", "secret_vault = \"Not A Name\"", "credential name"),
            ("kind = \"sms\"", "kind = \"sms\"\nauth_vault = \"a\"\nauth_credential = \"b\"", "one of auth_file"),
            ("kind = \"sms\"", "kind = \"sms\"\nbody = \"xml\"", "unknown variant"),
            ("[\"mail\", \"hook\", \"sms\"]", "[\"pager\"]", "no [[notify.channel]] named \"pager\""),
            ("[\"mail\", \"hook\", \"sms\"]", "[]", "at least one channel"),
            ("[\"mail\", \"hook\", \"sms\"]", "[\"mail\"]\nkinds = [\"birthday\"]", "unknown variant"),
            ("[\"mail\", \"hook\", \"sms\"]", "[\"mail\"]\nmin_interval_s = 0", "min_interval_s"),
            ("[\"mail\", \"hook\", \"sms\"]", "[\"mail\"]\ndigest_after = 1001", "digest_after"),
            (ROUTE, "", "without a route"),
        ];
        for (this, that, reason) in table {
            let text = whole.replace(this, that);
            assert_ne!(text, whole, "{this}");
            let refused = checked(&text).unwrap_err();
            assert!(refused.contains(reason), "{that}: {refused}");
        }
        for (key, value) in [
            ("attempts_max", 0),
            ("attempts_max", 101),
            ("age_max_h", 0),
            ("pause_s", 0),
            ("pause_max_s", 1),
            ("keep_days", 0),
        ] {
            let refused = checked(&format!("{key} = {value}\n{whole}")).unwrap_err();
            assert!(refused.contains(key), "{refused}");
        }
    }
}
