//! Where archived objects stand: a directory, or a bucket of an S3 server. What is there is never replaced, but for the
//! few names that say which is the newest.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use object_store::aws::{AmazonS3Builder, AwsCredential, Checksum};
use object_store::client::HttpRequestBody;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, Extensions, GetOptions, ObjectStore, PutMode, PutOptions, PutPayload, RetryConfig,
    StaticCredentialProvider,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::s3::{Door, Lock, MODE, UNTIL, Way};
use super::settings::{ArchiveSettings, LockSettings, Target};
use crate::kernel::types::UnixMillis;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::ops::secret::{self, SecretSlot, Wanted};
use crate::tls::asking::{Place, Unresolved};

/// Longer than any object of an archive.
const OBJECT_BYTES_MAX: u64 = 1 << 20;
const DAY_MS: i64 = 86_400_000;
/// As which the archive reads the vault.
const SERVICE: &str = "audit.archive";
/// A request is repeated so often before the round is given up, which is repeated itself.
const RETRIES: usize = 2;

/// What became of an object that must not be replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Created {
    New,
    /// There was one of this name, with these bytes.
    There(Vec<u8>),
}

/// How an object is held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Held {
    pub mode: String,
    /// RFC 3339.
    pub until: String,
}

/// One place for objects.
pub(super) struct Shelf {
    objects: Box<dyn ObjectStore>,
    stands: Stands,
    lock: Option<LockSettings>,
}

enum Stands {
    /// Files are made unwritable here.
    Directory(PathBuf),
    Bucket {
        door: Arc<Door>,
        /// Without a slash at the end.
        base: String,
        prefix: String,
        secret: SecretSlot,
    },
}

impl Shelf {
    /// Reads secrets and roots, looks the server up, makes the directory.
    ///
    /// # Errors
    /// `config_invalid`, `archive_unresolvable`, `archive_root_unusable`, `archive_unwritable`, `http_client`, and the names
    /// of [`secret::from_file`] and [`secret::from_credential`].
    pub(super) fn open(settings: &ArchiveSettings, state: &StateDir, unresolved: Unresolved) -> Result<Self, Failure> {
        let invalid = |why: String| Failure::usage("config_invalid", why, "correct countersign.toml");
        let defect = |error: object_store::Error| {
            Failure::fault("archive_unusable", error.to_string(), "check [audit.archive] in countersign.toml")
        };
        let (objects, stands): (Box<dyn ObjectStore>, Stands) = match settings.target().map_err(invalid)? {
            Target::Directory(path) => {
                let path = state.resolve(path);
                std::fs::create_dir_all(&path).map_err(|error| {
                    let message = format!("{} cannot be made: {error}", path.display());
                    Failure::usage("archive_unwritable", message, "name a directory that may be written to")
                })?;
                let objects = LocalFileSystem::new_with_prefix(&path).map_err(defect)?.with_fsync(true);
                (Box::new(objects), Stands::Directory(path))
            }
            Target::Bucket { bucket, prefix } => {
                let key_id = settings.access_key_id.clone().unwrap_or_default();
                let secret = secret_key(settings, state)?;
                let url = settings.server().map_err(invalid)?;
                let place = Place::find(&url, "[audit.archive] endpoint", "archive_unresolvable", unresolved)?;
                let client = place.client(tls(settings, state)?, Duration::from_millis(settings.timeout_ms))?;
                let door = Door::new(client, key_id.clone(), secret.clone(), settings.region.clone());
                let retry = RetryConfig {
                    backoff: BackoffConfig::default(),
                    max_retries: RETRIES,
                    retry_timeout: Duration::from_secs(60),
                };
                let unused = AwsCredential { key_id, secret_key: String::new(), token: None };
                let objects = AmazonS3Builder::new()
                    .with_endpoint(place.base())
                    .with_region(&settings.region)
                    .with_bucket_name(&bucket)
                    // The door signs, when the lock is in; nobody else has the key.
                    .with_credentials(Arc::new(StaticCredentialProvider::new(unused)))
                    .with_skip_signature(true)
                    .with_checksum_algorithm(Checksum::SHA256)
                    .with_allow_http(true)
                    .with_retry(retry)
                    .with_http_connector(Way(Arc::clone(&door)))
                    .build()
                    .map_err(defect)?;
                let base = format!("{}/{bucket}", place.base());
                (Box::new(objects), Stands::Bucket { door, base, prefix, secret })
            }
        };
        Ok(Self { objects, stands, lock: settings.lock })
    }

    /// The secret key, which the vault may have to hand in.
    pub(super) fn secret(&self) -> Option<SecretSlot> {
        match &self.stands {
            Stands::Directory(_) => None,
            Stands::Bucket { secret, .. } => Some(secret.clone()),
        }
    }

    /// The directory, when it is one: the front must be let through to it.
    pub(super) fn directory(&self) -> Option<&std::path::Path> {
        match &self.stands {
            Stands::Directory(path) => Some(path),
            Stands::Bucket { .. } => None,
        }
    }

    /// Writes an object unless there is one of this name, locked as the settings say.
    ///
    /// # Errors
    /// `archive_denied`, `archive_bucket_missing`, `archive_not_lockable`, `archive_unreachable`, `archive_refused`
    pub(super) async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<Created, Failure> {
        let mut extensions = Extensions::new();
        if let Some(lock) = self.lock {
            extensions.insert(lock_until(lock, clock::now()));
        }
        let options = PutOptions { mode: PutMode::Create, extensions, ..PutOptions::default() };
        match self.objects.put_opts(&self.path(name), PutPayload::from(bytes), options).await {
            Ok(_) => {
                if let Stands::Directory(directory) = &self.stands {
                    let path = directory.join(name);
                    // From here on for reading, by its owner too.
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).map_err(|error| {
                        let message = format!("{} cannot be closed: {error}", path.display());
                        Failure::fault("archive_unwritable", message, "check who owns the directory")
                    })?;
                }
                Ok(Created::New)
            }
            Err(object_store::Error::AlreadyExists { .. }) => {
                let there = self.read(name).await?.ok_or_else(|| {
                    let message = format!("{name} could not be written, because it is there, and it is not there");
                    Failure::busy("archive_refused", message, "it is tried again; see the server's own log")
                })?;
                Ok(Created::There(there))
            }
            Err(error) => Err(failure(name, &error)),
        }
    }

    /// Writes an object, whatever there is of this name.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub(super) async fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        let path = self.path(name);
        let put = self.objects.put_opts(&path, PutPayload::from(bytes), PutOptions::default());
        put.await.map(drop).map_err(|error| failure(name, &error))
    }

    /// # Errors
    /// As [`Self::create`]; `archive_damaged` when it is longer than an object of an archive.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let found = match self.objects.get_opts(&self.path(name), GetOptions::default()).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failure(name, &error)),
        };
        if found.meta.size > OBJECT_BYTES_MAX {
            let message = format!("{name} is longer than any object of an archive");
            return Err(Failure::refused("archive_damaged", message, "keep it as evidence: somebody else wrote it"));
        }
        found.bytes().await.map(|bytes| Some(bytes.to_vec())).map_err(|error| failure(name, &error))
    }

    /// How the server says that an object is held. None: it is not, or there are no locks here.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub(super) async fn held(&self, name: &str) -> Result<Option<Held>, Failure> {
        let Stands::Bucket { door, base, .. } = &self.stands else {
            return Ok(None);
        };
        let unsendable = |error: http::Error| Failure::fault("archive_refused", error.to_string(), "report this");
        let request = http::Request::head(format!("{base}/{}", self.path(name)));
        let request = request.body(HttpRequestBody::empty()).map_err(unsendable)?;
        let answer = door.answer(request).await.map_err(|error| unreachable_(name, &error.to_string()))?;
        if !answer.status().is_success() {
            return Err(refused(name, answer.status().as_u16(), ""));
        }
        let said = |header| answer.headers().get(header).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(said(MODE).zip(said(UNTIL)).map(|(mode, until)| Held { mode, until }))
    }

    fn path(&self, name: &str) -> Path {
        match &self.stands {
            Stands::Bucket { prefix, .. } if !prefix.is_empty() => Path::from(format!("{prefix}/{name}")),
            Stands::Bucket { .. } | Stands::Directory(_) => Path::from(name),
        }
    }
}

fn lock_until(lock: LockSettings, now: UnixMillis) -> Lock {
    let until = now.plus_ms(i64::from(lock.days).saturating_mul(DAY_MS)).rfc3339();
    // Whole seconds: what every server reads.
    let until = format!("{}Z", until.get(..19).unwrap_or(&until));
    let until = HeaderValue::from_str(&until).expect("a time is ASCII");
    Lock { mode: HeaderValue::from_static(lock.mode.name()), until }
}

fn secret_key(settings: &ArchiveSettings, state: &StateDir) -> Result<SecretSlot, Failure> {
    let ArchiveSettings { secret_key_file, secret_key_credential, secret_key_vault, .. } = settings;
    match (secret_key_file, secret_key_credential, secret_key_vault) {
        (Some(path), _, _) => {
            secret::from_file(&state.resolve(path), "[audit.archive] secret_key_file").map(SecretSlot::fixed)
        }
        (None, Some(name), _) => {
            secret::from_credential(name, "[audit.archive] secret_key_credential").map(SecretSlot::fixed)
        }
        (None, None, Some(name)) => {
            let service = SERVICE.parse().expect("it is a service's name");
            Ok(SecretSlot::vaulted(Wanted::newest(service, name.clone())))
        }
        (None, None, None) => {
            let message = "[audit.archive] has none of secret_key_vault, secret_key_file and secret_key_credential";
            Err(Failure::usage("config_invalid", message, "correct countersign.toml"))
        }
    }
}

/// These roots alone, or the system's.
fn tls(settings: &ArchiveSettings, state: &StateDir) -> Result<ClientConfig, Failure> {
    let unusable = |message: String| {
        let next_step = "name a PEM file of root certificates in root_file, or install the system's (ca-certificates)";
        Failure::usage("archive_root_unusable", format!("[audit.archive]: {message}"), next_step)
    };
    let mut roots = RootCertStore::empty();
    match &settings.root_file {
        Some(path) => {
            let path = state.resolve(path);
            let shown = path.display();
            let read = CertificateDer::pem_file_iter(&path).map_err(|error| unusable(format!("{shown}: {error}")))?;
            for certificate in read {
                let certificate = certificate.map_err(|error| unusable(format!("{shown}: {error}")))?;
                roots.add(certificate).map_err(|error| unusable(format!("{shown}: {error}")))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let is_clear = settings.server().is_ok_and(|url| url.scheme() == "http");
    if roots.is_empty() && !is_clear {
        return Err(unusable("there is no root certificate to trust".into()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| unusable(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// What the store's library says, by one of our names. Its own text has URLs and the server's whole answer in it.
fn failure(name: &str, error: &object_store::Error) -> Failure {
    use std::error::Error as _;
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    let text = if source.is_empty() { error.to_string() } else { source };
    let status = text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse::<u16>().ok());
    match status {
        Some(status) => refused(name, status, &code_of(&text)),
        None => {
            let innermost = innermost(error);
            match error {
                object_store::Error::Generic { store: "S3", .. } => unreachable_(name, &innermost),
                _ => {
                    let next_step = "check the directory of [audit.archive] and the room on its disk";
                    Failure::fault("archive_unwritable", format!("{name}: {innermost}"), next_step)
                }
            }
        }
    }
}

fn innermost(error: &object_store::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().chars().filter(|letter| !letter.is_control()).take(200).collect()
}

/// The server's word for it, as far as it is one: `AccessDenied`, `NoSuchBucket`, …
fn code_of(text: &str) -> String {
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let code = code.filter(|code| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let code = code.unwrap_or_default();
    // One code for many things: this is one of them.
    let is_of_lock = ["Object Lock", "ObjectLock"].iter().any(|words| text.contains(words));
    if is_of_lock && code == "InvalidRequest" { "InvalidRequest (object lock)".to_owned() } else { code.to_owned() }
}

fn refused(name: &str, status: u16, code: &str) -> Failure {
    let said = if code.is_empty() { format!("{status}") } else { format!("{status} {code}") };
    let message = format!("the archive's server answered {said} to {name}");
    match (status, code) {
        (401 | 403, _) => Failure::fault(
            "archive_denied",
            message,
            "check access_key_id and the secret key of [audit.archive], the server's clock and ours, and that the key may \
             GetObject, PutObject and PutObjectRetention there",
        ),
        (404, _) => Failure::fault(
            "archive_bucket_missing",
            message,
            "make the bucket of [audit.archive] url, with object lock",
        ),
        (400, code) if code.contains("object lock") || code.contains("ObjectLock") => Failure::fault(
            "archive_not_lockable",
            message,
            "make a bucket with object lock (it cannot be switched on later everywhere), or take lock out of [audit.archive]",
        ),
        (500..=599 | 429, _) => Failure::busy("archive_refused", message, "it is tried again by itself"),
        _ => Failure::fault("archive_refused", message, "see the server's own log; it is tried again by itself"),
    }
}

fn unreachable_(name: &str, why: &str) -> Failure {
    Failure::busy(
        "archive_unreachable",
        format!("the archive's server was not reached for {name}: {why}"),
        "check [audit.archive] endpoint and the network; it is tried again by itself",
    )
}

#[cfg(test)]
mod tests {
    use super::super::settings::LockMode;
    use super::*;

    #[test]
    fn a_lock_ends_so_many_days_from_now_in_whole_seconds() {
        let lock = lock_until(LockSettings { mode: LockMode::Compliance, days: 2 }, UnixMillis(1_800_000_000_123));
        assert_eq!((lock.mode.to_str().unwrap(), lock.until.to_str().unwrap()), ("COMPLIANCE", "2027-01-17T08:00:00Z"));
    }

    #[test]
    fn what_a_server_says_has_one_name_and_one_word_of_its() {
        let answer = |code: &str, message: &str| {
            format!("<?xml?><Error><Code>{code}</Code><Message>{message}</Message><Resource>/secret</Resource></Error>")
        };
        for (status, text, name, says) in [
            (403, answer("InvalidAccessKeyId", "no"), "archive_denied", "403 InvalidAccessKeyId"),
            (403, answer("Signature DoesNot", "no"), "archive_denied", "answered 403 to"),
            (404, answer("NoSuchBucket", "no"), "archive_bucket_missing", "404 NoSuchBucket"),
            (
                400,
                answer("InvalidRequest", "Bucket is missing Object Lock Configuration"),
                "archive_not_lockable",
                "InvalidRequest",
            ),
            (400, answer("InvalidRequest", "other"), "archive_refused", "400 InvalidRequest"),
            (503, answer("SlowDown", ""), "archive_refused", "503 SlowDown"),
            (418, String::new(), "archive_refused", "answered 418 to"),
        ] {
            let failure = refused("tile/0/000", status, &code_of(&text));
            assert_eq!(failure.name, name, "{text}");
            assert!(failure.message.contains(says) && !failure.message.contains("secret"), "{}", failure.message);
        }
    }
}
