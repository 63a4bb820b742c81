//! Tells people what was decided: by mail, by signed webhook, by SMS.
//!
//! Two halves with the store's queue between them. *Making* (`making`) reads committed leaves of the audit log from a
//! durable place on and queues what they say for each channel. *Sending* (`sending`) has a task for each channel, which
//! claims what is due, sends it, and notes what came of it. Neither is waited for by anybody: whatever goes wrong with a
//! channel, a payment does not hear of it.

mod desk;
mod http;
mod making;
mod place;
mod sending;
pub mod settings;
mod sms;
mod smtp;
mod webhook;

pub use desk::{NotifyCall, Reached};

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::kernel::notice::gather::Content;
use crate::kernel::types::{CredentialName, PartyName, UnixMillis};
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::ops::secret::{self, SecretSlot, Wanted, Which};
use crate::store::{Store, StoreFault};
use crate::tls::asking::Unresolved;
use settings::{ChannelSettings, NotifySettings};

/// What a channel sends.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The same for every attempt: receivers drop repetitions by it.
    pub id: String,
    pub party: PartyName,
    pub content: Content,
    /// When it was queued.
    pub created: UnixMillis,
    /// When this attempt is made.
    pub now: UnixMillis,
}

impl Outgoing {
    /// The head of a message.
    pub fn title(&self) -> String {
        format!("[{}] {}", self.party, self.content.title())
    }
}

/// Whether another attempt can help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    Later,
    /// Not before that many seconds: the receiver said so.
    After(u32),
    Never,
}

/// Why a message was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Undelivered {
    /// `smtp_refused`, `webhook_timeout`, …
    pub name: &'static str,
    /// One line, without secrets and without what a stranger could have written whole.
    pub why: String,
    pub again: Again,
}

impl Undelivered {
    pub fn new(name: &'static str, why: impl Into<String>, again: Again) -> Self {
        Self { name, why: why.into(), again }
    }
}

/// A message that was taken.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// What people should know all the same: a name, a colon, one line.
    pub note: Option<String>,
}

/// The work of a channel.
pub type Sending<'a, T = Taken> = Pin<Box<dyn Future<Output = Result<T, Undelivered>> + Send + 'a>>;

/// One way to people.
///
/// Contract. *Time*: `send` and `reach` end within the channel's own time-out. *Truth*: `Ok` means that the receiver said
/// that it has the message; where that is not known it is an error, and the message is sent again under the same id.
/// *Secrets*: no error carries one. Dropping a future gives the attempt up.
pub trait Channel: Send + Sync {
    fn name(&self) -> &str;
    /// `smtp`, `webhook` or `sms`.
    fn kind(&self) -> &'static str;
    /// Where it leads, for people: no secret, no path of a URL.
    fn target(&self) -> String;
    /// Whether its server had an address when the daemon started. Without one nothing is sent until it starts again.
    fn is_open(&self) -> bool;
    /// The longest that an attempt takes.
    fn longest(&self) -> Duration;
    fn send<'a>(&'a self, message: &'a Outgoing) -> Sending<'a>;
    /// Whether its server can be connected to now; nothing is said there.
    fn reach(&self) -> Sending<'_, ()>;
    /// Its secrets, those that the vault hands in among them.
    fn secrets(&self) -> Vec<SecretSlot>;
}

/// Channels with everything that they take from outside the front's places: secrets, roots, addresses.
pub struct Outside {
    channels: Vec<Arc<dyn Channel>>,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").field("channels", &self.channels.len()).finish()
    }
}

impl Outside {
    /// Reads secrets and roots, and looks names up.
    ///
    /// # Errors
    /// `notify_unresolvable` and `notify_address_private` unless they are tolerated; `notify_root_unusable`,
    /// `webhook_secret_unusable`, and the names of [`secret::from_file`] and [`secret::from_credential`].
    pub fn read(settings: &NotifySettings, state: &StateDir, unresolved: Unresolved) -> Result<Self, Failure> {
        let open = |channel: &ChannelSettings| -> Result<Arc<dyn Channel>, Failure> {
            Ok(match channel {
                ChannelSettings::Smtp(smtp) => Arc::new(smtp::Smtp::open(smtp, state, unresolved)?),
                ChannelSettings::Webhook(hook) => Arc::new(webhook::Webhook::open(hook, state, unresolved)?),
                ChannelSettings::Sms(sms) => Arc::new(sms::Sms::open(sms, state, unresolved)?),
            })
        };
        Ok(Self { channels: settings.channel.iter().map(open).collect::<Result<_, _>>()? })
    }

    /// Every secret of every channel.
    pub fn secrets(&self) -> Vec<SecretSlot> {
        self.channels.iter().flat_map(|channel| channel.secrets()).collect()
    }
}

/// Where a channel's secret is: at most one of them.
struct Source<'a> {
    channel: &'a str,
    /// As the setting is called, without `_file`, `_credential`, `_vault`.
    what: &'a str,
    file: Option<&'a PathBuf>,
    credential: Option<&'a String>,
    vault: Option<&'a CredentialName>,
}

impl Source<'_> {
    /// None when no place is named.
    fn slot(&self, state: &StateDir) -> Result<Option<SecretSlot>, Failure> {
        let setting = |kind: &str| format!("[[notify.channel]] {} {}_{kind}", self.channel, self.what);
        if let Some(path) = self.file {
            return Ok(Some(SecretSlot::fixed(secret::from_file(&state.resolve(path), &setting("file"))?)));
        }
        if let Some(name) = self.credential {
            return Ok(Some(SecretSlot::fixed(secret::from_credential(name, &setting("credential"))?)));
        }
        let vaulted = |name: &CredentialName| -> Result<SecretSlot, Failure> {
            let service = format!("notify.{}", self.channel).parse().map_err(|malformed| {
                let message = format!("{}: {malformed}", setting("vault"));
                Failure::usage("config_invalid", message, "correct the channel's name in countersign.toml")
            })?;
            Ok(SecretSlot::vaulted(Wanted::newest(service, name.clone())))
        };
        self.vault.map(vaulted).transpose()
    }
}

/// The version before that of a slot, should there be one and the vault have it.
fn before(slot: &SecretSlot, overlap_ms: i64) -> Option<SecretSlot> {
    let wanted = slot.wanted().filter(|_| overlap_ms > 0)?;
    Some(SecretSlot::vaulted(Wanted { which: Which::Before { overlap_ms }, ..wanted.clone() }))
}

/// A secret as it is now. One that the vault has not handed in yet is asked for again later.
fn known(slot: &SecretSlot) -> Result<Arc<SecretString>, Undelivered> {
    slot.value().ok_or_else(|| {
        let name = slot.wanted().map(|wanted| wanted.name.as_str()).unwrap_or_default();
        let why = format!("credential {name} of the vault is not to be had: see `countersign doctor`");
        Undelivered::new("secret_sealed", why, Again::Later)
    })
}

/// Everything that tells people.
pub struct Notifier {
    store: Arc<dyn Store>,
    party: PartyName,
    settings: NotifySettings,
    channels: Vec<Arc<dyn Channel>>,
    /// What tests of a channel are sent on.
    runtime: tokio::runtime::Handle,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").field("party", &self.party).finish_non_exhaustive()
    }
}

impl Notifier {
    /// Nothing is made or sent yet. Called where a runtime is.
    pub fn new(store: Arc<dyn Store>, party: PartyName, settings: NotifySettings, outside: Outside) -> Arc<Self> {
        let runtime = tokio::runtime::Handle::current();
        Arc::new(Self { store, party, settings, channels: outside.channels, runtime })
    }

    /// Marks where the log stands, the first time that anybody is to be told: what is decided from now on is told, what
    /// was decided before is history. To be called before any door is open.
    ///
    /// # Errors
    /// The store's; then the first look at the log marks it.
    pub fn begin(&self) -> Result<(), StoreFault> {
        if self.channels.is_empty() { Ok(()) } else { making::begin(&*self.store).map(drop) }
    }

    /// The tasks, which end soon after `stop`.
    pub fn start(self: &Arc<Self>, stop: &CancellationToken) -> Vec<tokio::task::JoinHandle<()>> {
        if self.channels.is_empty() {
            return vec![];
        }
        let mut tasks = vec![tokio::spawn(making::make(Arc::clone(self), stop.clone()))];
        // One without an address claims nothing: another daemon may have one, and attempts are counted.
        for channel in self.channels.iter().filter(|channel| channel.is_open()) {
            tasks.push(tokio::spawn(sending::send(Arc::clone(self), Arc::clone(channel), stop.clone())));
        }
        tasks
    }
}

/// The longest error that is kept.
const ERROR_CHARS_MAX: usize = 300;

/// An error as it is kept and shown.
fn kept(undelivered: &Undelivered) -> String {
    let why: String = undelivered.why.chars().filter(|letter| !letter.is_control()).collect();
    crate::kernel::notice::text::shortened(&format!("{}: {why}", undelivered.name), ERROR_CHARS_MAX)
}

/// A whole attempt within its time.
async fn within<T>(
    limit: Duration,
    name: &'static str,
    work: impl Future<Output = Result<T, Undelivered>>,
) -> Result<T, Undelivered> {
    let late = |_| Undelivered::new(name, format!("no whole answer within {} ms", limit.as_millis()), Again::Later);
    tokio::time::timeout(limit, work).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
}

/// A connection to the first address that takes one.
async fn connect(place: &place::Place, name: &'static str) -> Result<tokio::net::TcpStream, Undelivered> {
    let mut last = None;
    for address in place.addresses()? {
        match tokio::net::TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(format!("{address}: {error}")),
        }
    }
    Err(Undelivered::new(name, last.unwrap_or_default(), Again::Later))
}
