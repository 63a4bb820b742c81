//! Mail over SMTP (RFC 5321), submitted with STARTTLS (RFC 3207) or TLS from the first byte (RFC 8314).
//!
//! lettre composes the message and speaks the protocol on a stream that is made here: to an address that was looked up
//! before, inside TLS when the settings say so, with an end to how much a server may say. STARTTLS is ours, because the
//! library keeps what a server (or somebody before it) sent in clear and reads it as an answer given inside TLS.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::place::{self, Place, Private};
use super::settings::{SmtpSettings, SmtpTls};
use super::{Again, Channel, Outgoing, Sending, Source, Taken, Undelivered, connect, known, within};
use crate::kernel::notice::text;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::ops::secret::SecretSlot;
use crate::tls::asking::Unresolved;

/// The most that a server may say in one connection.
const ANSWERS_BYTES_MAX: usize = 64 * 1024;
/// For the end of a connection that has done its work.
const GOODBYE: Duration = Duration::from_secs(1);
/// Messages that were put off for some of their addresses, and are remembered as such.
const PUT_OFF_MAX: usize = 1_000;
/// The longest subject.
const SUBJECT_CHARS_MAX: usize = 200;
/// The longest answer to a command before TLS.
const CLEAR_BYTES_MAX: usize = 8 * 1024;

pub(super) struct Smtp {
    settings: SmtpSettings,
    place: Place,
    from: Mailbox,
    to: Vec<Mailbox>,
    password: Option<SecretSlot>,
    /// None: in clear.
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
    /// Of messages that some addresses put off: who has them, so that nobody gets one again with each attempt. A daemon
    /// that starts anew does not know.
    have: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl Smtp {
    /// # Errors
    /// The secret's and the place's.
    pub(super) fn open(settings: &SmtpSettings, state: &StateDir, unresolved: Unresolved) -> Result<Self, Failure> {
        let name = &settings.name;
        let source = Source {
            channel: name,
            what: "password",
            file: settings.password_file.as_ref(),
            credential: settings.password_credential.as_ref(),
            vault: settings.password_vault.as_ref(),
        };
        let password = source.slot(state)?;
        let root = settings.root_file.as_ref().map(|path| state.resolve(path));
        let tls = match settings.tls {
            SmtpTls::Starttls | SmtpTls::Implicit => Some(Arc::new(place::tls(name, root.as_deref())?)),
            SmtpTls::None => None,
        };
        let port = settings.port.unwrap_or(match settings.tls {
            SmtpTls::Starttls => 587,
            SmtpTls::Implicit => 465,
            SmtpTls::None => 25,
        });
        // Mail servers are an organisation's own more often than not.
        let place = Place::find(name, &settings.host, port, Private::Allowed, unresolved)?;
        let mailbox = |address: &String| {
            address.parse::<Mailbox>().map_err(|error| {
                let message = format!("[[notify.channel]] {name}: {address:?}: {error}");
                Failure::usage("config_invalid", message, "correct countersign.toml")
            })
        };
        let to = settings.to.iter().map(mailbox).collect::<Result<_, _>>()?;
        let timeout = Duration::from_millis(settings.timeout_ms);
        let (from, have) = (mailbox(&settings.from)?, Mutex::default());
        Ok(Self { from, to, settings: settings.clone(), place, password, tls, timeout, have })
    }

    fn message(&self, message: &Outgoing) -> Result<lettre::Message, Undelivered> {
        let unsendable = |why: String| Undelivered::new("smtp_unsendable", why, Again::Never);
        let domain = self.from.email.domain();
        let millis = u64::try_from(message.created.0).unwrap_or(0);
        let header = |name: &'static str, value: String| {
            HeaderName::new_from_ascii(name.to_owned()).map(|name| HeaderValue::new(name, value))
        };
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(text::shortened(&message.title(), SUBJECT_CHARS_MAX))
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
            .message_id(Some(format!("<{}.{}@{domain}>", message.id, message.party)))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        // RFC 3834: nobody answers it by machine.
        for (name, value) in [
            ("Auto-Submitted", "auto-generated".to_owned()),
            ("X-Countersign-Notice", message.content.first().kind.name().to_owned()),
        ] {
            builder = builder.raw_header(header(name, value).map_err(|error| unsendable(error.to_string()))?);
        }
        let mut lines = vec![message.content.title(), String::new()];
        lines.extend(message.content.lines());
        lines.push(String::new());
        lines.extend(message.content.first().subjects.iter().map(|(name, id)| format!("{name}: {id}")));
        lines.push(format!("message: {}", message.id));
        builder.body(lines.join("\r\n") + "\r\n").map_err(|error| unsendable(error.to_string()))
    }

    /// The connection, once the server has said of each address that it has the message or never will.
    ///
    /// # Errors
    /// `smtp_deferred` when an address is put off, whoever else got it: the next attempt names only those who did not.
    async fn deliver(&self, message: &Outgoing) -> Result<(AsyncSmtpConnection, Taken), Undelivered> {
        let mail = self.message(message)?;
        let password = self.password.as_ref().map(known).transpose()?;
        let hello = ClientId::Domain(self.from.email.domain().to_owned());
        let stream = self.stream(&hello).await?;
        let mut connection = AsyncSmtpConnection::connect_with_transport(stream, &hello).await.map_err(failed)?;
        if let (Some(user), Some(password)) = (&self.settings.user, &password) {
            let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await.map_err(|error| match error
                .status()
            {
                Some(code) => Undelivered::new(
                    "smtp_auth_refused",
                    format!("the server answered {code} to user {user}: check user and password"),
                    Again::Later,
                ),
                None if error.is_client() => {
                    Undelivered::new("smtp_auth_refused", "the server offers neither PLAIN nor LOGIN", Again::Later)
                }
                None => failed(error),
            })?;
        }
        // Command by command: the library's own way says goodbye first when one is refused, and waits for the answer.
        let formatted = mail.formatted();
        if !formatted.is_ascii() {
            return Err(Undelivered::new("smtp_unsendable", "the message is not plain ASCII", Again::Never));
        }
        connection.command(Mail::new(mail.envelope().from().cloned(), vec![])).await.map_err(failed)?;
        let mut refused = Refused::default();
        let id = message.id.to_string();
        let mut have = self.have().get(&id).cloned().unwrap_or_default();
        let before = have.len();
        for to in mail.envelope().to().iter().filter(|to| !have.contains(&to.to_string())).collect::<Vec<_>>() {
            match connection.command(Rcpt::new(to.clone(), vec![])).await {
                Ok(_) => _ = have.insert(to.to_string()),
                // A mailbox that is gone must not keep the others from hearing.
                Err(error) if error.status().is_some() => refused.add(failed(error)),
                Err(error) => return Err(failed(error)),
            }
        }
        if have.len() > before {
            connection.command(Data).await.map_err(failed)?;
            connection.message(&formatted).await.map_err(failed)?;
        }
        if refused.is_put_off() {
            self.keep(id, have);
        } else {
            self.have().remove(&id);
        }
        refused.of(mail.envelope().to().len()).map(|taken| (connection, taken))
    }

    fn have(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.have.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, id: String, have: BTreeSet<String>) {
        let mut all = self.have();
        // The oldest first: ids are in the order of time.
        while all.len() >= PUT_OFF_MAX {
            all.pop_first();
        }
        all.insert(id, have);
    }

    /// The stream on which lettre begins, at the server's greeting.
    async fn stream(&self, hello: &ClientId) -> Result<Box<dyn AsyncTokioStream>, Undelivered> {
        let tcp = connect(&self.place, "smtp_unreachable").await?;
        let peer = tcp.peer_addr().map_err(|error| broken(&error))?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(Bounded::new(tcp, peer, b"")));
        };
        let (tcp, greeting): (TcpStream, &'static [u8]) = match self.settings.tls {
            // After STARTTLS the server does not greet again: its place is taken by one of ours.
            SmtpTls::Starttls => (start_tls(tcp, hello).await?, b"220 inside TLS\r\n"),
            SmtpTls::Implicit | SmtpTls::None => (tcp, b""),
        };
        let unsafe_tls = |why: String| Undelivered::new("smtp_tls_failed", why, Again::Later);
        let name = ServerName::try_from(self.place.host.clone()).map_err(|error| unsafe_tls(error.to_string()))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls));
        let stream = connector.connect(name, tcp).await.map_err(|error| unsafe_tls(error.to_string()))?;
        Ok(Box::new(Bounded::new(stream, peer, greeting)))
    }
}

impl Channel for Smtp {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn kind(&self) -> &'static str {
        "smtp"
    }

    fn target(&self) -> String {
        let to: Vec<String> = self.to.iter().map(|to| to.email.to_string()).collect();
        format!("{} for {}", self.place.host, to.join(", "))
    }

    fn is_open(&self) -> bool {
        self.place.is_open()
    }

    fn longest(&self) -> Duration {
        self.timeout + GOODBYE
    }

    fn send<'a>(&'a self, message: &'a Outgoing) -> Sending<'a> {
        Box::pin(async move {
            let (mut connection, taken) = within(self.timeout, "smtp_timeout", self.deliver(message)).await?;
            // It has the message; whether it also says goodbye changes nothing.
            let _ = tokio::time::timeout(GOODBYE, connection.abort()).await;
            Ok(taken)
        })
    }

    fn reach(&self) -> Sending<'_, ()> {
        Box::pin(within(self.timeout, "smtp_timeout", async {
            connect(&self.place, "smtp_unreachable").await.map(drop)
        }))
    }

    fn secrets(&self) -> Vec<SecretSlot> {
        self.password.iter().cloned().collect()
    }
}

/// Addresses that a server did not take (RFC 5321, section 3.3: each has its own answer).
#[derive(Default)]
struct Refused {
    count: usize,
    last: Option<Undelivered>,
}

impl Refused {
    /// One that may be taken later outweighs those that never will.
    fn add(&mut self, why: Undelivered) {
        self.count += 1;
        if self.last.as_ref().is_none_or(|last| last.again == Again::Never) {
            self.last = Some(why);
        }
    }

    /// Whether one of them may be taken later.
    fn is_put_off(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.again != Again::Never)
    }

    /// What became of a message to so many addresses.
    ///
    /// # Errors
    /// The server's, when it took none, or may take one later.
    fn of(self, addresses: usize) -> Result<Taken, Undelivered> {
        let is_put_off = self.is_put_off();
        match self.last {
            Some(why) if is_put_off || self.count >= addresses => Err(why),
            Some(_) => {
                let note = format!("smtp_some_refused: {} of {addresses} addresses were not taken", self.count);
                Ok(Taken { note: Some(note) })
            }
            None => Ok(Taken::default()),
        }
    }
}

/// Greeting, EHLO, STARTTLS in clear. What comes in clear behind the last answer would be read as if it came inside TLS:
/// then nothing is sent.
async fn start_tls(mut tcp: TcpStream, hello: &ClientId) -> Result<TcpStream, Undelivered> {
    let tls_failed = |why: &str| Undelivered::new("smtp_tls_failed", why, Again::Later);
    let mut read = Vec::new();
    answer(&mut tcp, &mut read, "220").await?;
    tcp.write_all(format!("EHLO {hello}\r\n").as_bytes()).await.map_err(|error| broken(&error))?;
    let offers = answer(&mut tcp, &mut read, "250").await?;
    let offered =
        offers.lines().any(|line| line.get(4..).is_some_and(|word| word.trim().eq_ignore_ascii_case("STARTTLS")));
    if !offered {
        return Err(tls_failed("the server does not offer STARTTLS: nothing is sent in clear"));
    }
    tcp.write_all(b"STARTTLS\r\n").await.map_err(|error| broken(&error))?;
    answer(&mut tcp, &mut read, "220").await?;
    if !read.is_empty() {
        return Err(tls_failed("the server sent more in clear after STARTTLS"));
    }
    Ok(tcp)
}

/// One answer, its last line with a space behind the code. What was read beyond it stays in `read`.
async fn answer(tcp: &mut TcpStream, read: &mut Vec<u8>, code: &str) -> Result<String, Undelivered> {
    loop {
        let lines = read.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let mut length = 0;
        let is_whole = lines.into_iter().any(|line| {
            length += line.len();
            line.get(3) != Some(&b'-')
        });
        if is_whole {
            let said: Vec<u8> = read.drain(..length).collect();
            let said = String::from_utf8_lossy(&said).into_owned();
            if said.starts_with(code) {
                return Ok(said);
            }
            let status: String = said.chars().take(3).filter(char::is_ascii_digit).collect();
            let (name, again) =
                if status.starts_with('5') { ("smtp_refused", Again::Never) } else { ("smtp_deferred", Again::Later) };
            return Err(Undelivered::new(name, format!("the server answered {status}"), again));
        }
        if read.len() > CLEAR_BYTES_MAX {
            return Err(Undelivered::new("smtp_answer_too_long", "the server's answer does not end", Again::Later));
        }
        if tcp.read_buf(read).await.map_err(|error| broken(&error))? == 0 {
            return Err(Undelivered::new("smtp_broken_off", "the server closed the connection", Again::Later));
        }
    }
}

fn broken(error: &io::Error) -> Undelivered {
    Undelivered::new("smtp_broken_off", error.to_string(), Again::Later)
}

/// What the library says of an answer or a connection. The server's own words are left out: they may repeat what it was
/// sent.
fn failed(error: lettre::transport::smtp::Error) -> Undelivered {
    if let Some(code) = error.status() {
        let said = format!("the server answered {code}");
        return if error.is_permanent() {
            Undelivered::new("smtp_refused", said, Again::Never)
        } else {
            Undelivered::new("smtp_deferred", said, Again::Later)
        };
    }
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let too_long = cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::FileTooLarge);
    let name = if too_long { "smtp_answer_too_long" } else { "smtp_broken_off" };
    Undelivered::new(name, cause.to_string(), Again::Later)
}

/// A stream that says `first` before what its server says, and not for ever.
struct Bounded<S> {
    stream: S,
    peer: SocketAddr,
    first: &'static [u8],
    left: usize,
}

impl<S> Bounded<S> {
    fn new(stream: S, peer: SocketAddr, first: &'static [u8]) -> Self {
        Self { stream, peer, first, left: ANSWERS_BYTES_MAX }
    }
}

impl<S> std::fmt::Debug for Bounded<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bounded").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buffer.remaining());
            let (now, later) = self.first.split_at(count);
            buffer.put_slice(now);
            self.first = later;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let count = buffer.filled().len() - before;
        match self.left.checked_sub(count) {
            Some(left) => self.left = left,
            None => {
                let message = format!("the server said more than {ANSWERS_BYTES_MAX} bytes");
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::FileTooLarge, message)));
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> AsyncTokioStream for Bounded<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}
