//! Where the server is and how it is reached: everything that takes files or name servers, read once.
//!
//! A confined process can read neither afterwards, so an [`Endpoint`] is made first and kept: a name that moves to
//! another address needs a daemon that is started again, several addresses for a fail-over do not.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::tls::Tls;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::store::committed::Committed;
use crate::store::sealing::Slot;
use crate::store::settings::StoreSettings;

/// A peer that does not answer is given up after about half a minute, also while nothing is asked of it.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 4;
/// Longer than any password that people or programs make.
const PASSWORD_BYTES_MAX: u64 = 1_024;

/// A PostgreSQL server, its password and its certificate authority included.
#[derive(Clone)]
pub struct Endpoint {
    pub(super) config: Config,
    pub(super) tls: Tls,
    pub(super) settings: StoreSettings,
    /// What seals leaves, shared by all connections of one store.
    pub(super) sealing: Slot,
    /// What was committed over them to be signed.
    pub(super) committed: Committed,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.settings.url).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// True when the URL is for this store.
    pub fn is_named_by(url: &str) -> bool {
        ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
    }

    /// Reads URL, password file and root certificate; looks up the hosts' names.
    ///
    /// # Errors
    /// `store_url_invalid`, `store_tls_needed`, `store_root_unusable`, `store_password_unusable`, `store_host_unknown`.
    pub fn read(settings: &StoreSettings, state: &StateDir) -> Result<Self, Failure> {
        let (plain, choice) = without_tls_choice(&settings.url)?;
        let mut config: Config = plain.parse().map_err(|error| url_invalid(&format!("{error}")))?;
        if config.get_password().is_some() {
            return Err(url_invalid(
                "it holds a password: put it into a file of mode 0600 and name store.password_file",
            ));
        }
        if config.get_user().is_none() || config.get_dbname().is_none() || config.get_hosts().is_empty() {
            return Err(url_invalid("user, host and database are needed"));
        }
        let tls = match choice.mode {
            Some(TlsMode::Verified) => {
                config.ssl_mode(SslMode::Require);
                let path = choice.root.ok_or_else(|| url_invalid("TLS needs sslrootcert=<path of a PEM file>"))?;
                root(&state.resolve(path))?
            }
            Some(TlsMode::Off) | None => {
                config.ssl_mode(SslMode::Disable);
                Tls::none()
            }
        };
        look_up(&mut config)?;
        if config.get_ssl_mode() == SslMode::Disable && choice.mode.is_none() && leaves_this_machine(&config) {
            return Err(Failure::usage(
                "store_tls_needed",
                format!("[store] url = {:?} would send money's records through the network in the clear", settings.url),
                "add ?sslmode=verify-full&sslrootcert=<path>; sslmode=disable only where the network itself is encrypted",
            ));
        }
        if let Some(file) = &settings.password_file {
            config.password(password(&state.resolve(file))?);
        }
        config
            .application_name("countersign")
            .connect_timeout(Duration::from_millis(settings.connect_timeout_ms))
            .tcp_user_timeout(Duration::from_millis(settings.commit_deadline_ms))
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(Self { config, tls, settings: settings.clone(), sealing: Slot::default(), committed: Committed::default() })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TlsMode {
    Off,
    Verified,
}

struct TlsChoice {
    mode: Option<TlsMode>,
    root: Option<String>,
}

/// Takes the parameters that only our own TLS understands out of the URL.
fn without_tls_choice(url: &str) -> Result<(String, TlsChoice), Failure> {
    let mut choice = TlsChoice { mode: None, root: None };
    let Some((address, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), choice));
    };
    let mut kept = vec![];
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslmode", "disable")) => choice.mode = Some(TlsMode::Off),
            Some(("sslmode", "require" | "verify-ca" | "verify-full")) => choice.mode = Some(TlsMode::Verified),
            Some(("sslmode", other)) => {
                return Err(url_invalid(&format!("sslmode={other} is none of disable, require, verify-full")));
            }
            Some(("sslrootcert", path)) => choice.root = Some(path.to_owned()),
            Some(_) | None => kept.push(pair),
        }
    }
    let plain = if kept.is_empty() { address.to_owned() } else { format!("{address}?{}", kept.join("&")) };
    Ok((plain, choice))
}

fn url_invalid(why: &str) -> Failure {
    Failure::usage(
        "store_url_invalid",
        format!("[store] url cannot be used: {why}"),
        "write postgres://user@host:port/database?sslmode=verify-full&sslrootcert=<path>",
    )
}

fn root(path: &Path) -> Result<Tls, Failure> {
    let read = std::fs::read(path).map_err(|error| error.to_string());
    read.and_then(|pem| Tls::trusting(&pem)).map_err(|why| {
        Failure::usage(
            "store_root_unusable",
            format!("sslrootcert {} cannot be used: {why}", path.display()),
            "name the PEM file of the authority that signed the database server's certificate",
        )
    })
}

/// Gives every host its address, so that connecting again needs no name server.
fn look_up(config: &mut Config) -> Result<(), Failure> {
    let unknown = |name: &str, why: String| {
        Failure::fault(
            "store_host_unknown",
            format!("the database server's name {name} has no address: {why}"),
            "check [store] url and the name servers, or write an IP address",
        )
    };
    let mut addresses: Vec<IpAddr> = vec![];
    for host in config.get_hosts() {
        let Host::Tcp(name) = host else { continue };
        let found = (name.as_str(), 0).to_socket_addrs().map_err(|error| unknown(name, error.to_string()))?.next();
        addresses.push(found.ok_or_else(|| unknown(name, "none was answered".into()))?.ip());
    }
    if addresses.is_empty() {
        return Ok(());
    }
    if addresses.len() != config.get_hosts().len() {
        return Err(url_invalid("sockets and network hosts cannot be mixed"));
    }
    for address in addresses {
        config.hostaddr(address);
    }
    Ok(())
}

fn leaves_this_machine(config: &Config) -> bool {
    config.get_hostaddrs().iter().any(|address| !address.is_loopback())
}

/// Reads the password. The file must be a regular one of this user (or root) that nobody else can read.
fn password(path: &Path) -> Result<String, Failure> {
    let unusable = |why: String| {
        Failure::fault(
            "store_password_unusable",
            format!("the password file {} cannot be used: {why}", path.display()),
            "check store.password_file: a regular file, mode 0600, of the daemon's user",
        )
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| unusable(error.to_string()))?;
    let status = rustix::fs::fstat(&file).map_err(|error| unusable(error.to_string()))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(unusable("it is not a regular file".into()));
    }
    if status.st_mode & 0o077 != 0 {
        return Err(unusable(format!("it has mode {:04o}, others can reach it", status.st_mode & 0o7777)));
    }
    let user = rustix::process::geteuid().as_raw();
    if status.st_uid != user && status.st_uid != 0 {
        return Err(unusable(format!("it belongs to user {}, the daemon runs as {user}", status.st_uid)));
    }
    let mut text = String::new();
    let mut limited = std::io::Read::take(std::fs::File::from(file), PASSWORD_BYTES_MAX + 1);
    std::io::Read::read_to_string(&mut limited, &mut text).map_err(|error| unusable(error.to_string()))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() || text.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(unusable(format!("it must hold 1 to {PASSWORD_BYTES_MAX} bytes")));
    }
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Endpoint, String> {
        let settings = StoreSettings { url: url.into(), ..StoreSettings::default() };
        Endpoint::read(&settings, &StateDir::new("/nonexistent")).map_err(|failure| failure.name)
    }

    #[test]
    fn a_url_is_refused_by_name_before_anything_is_sent() {
        for (url, name) in [
            ("postgres://user:secret@127.0.0.1/db", "store_url_invalid"),
            ("postgres://127.0.0.1/db", "store_url_invalid"),
            ("postgres://user@127.0.0.1", "store_url_invalid"),
            ("postgres://user@127.0.0.1/db?sslmode=prefer", "store_url_invalid"),
            ("postgres://user@127.0.0.1/db?sslmode=verify-full", "store_url_invalid"),
            ("postgres://user@127.0.0.1/db?sslmode=require&sslrootcert=none.pem", "store_root_unusable"),
            ("postgres://user@127.0.0.1/db?nothing=1", "store_url_invalid"),
            ("postgres://user@192.0.2.1/db", "store_tls_needed"),
            ("postgres://user@127.0.0.1,192.0.2.1/db", "store_tls_needed"),
        ] {
            assert_eq!(read(url).map(|_| ()), Err(name.to_owned()), "{url}");
        }
        for url in [
            "postgres://user@127.0.0.1:5433/db",
            "postgresql://user@[::1]/db",
            "postgres://user@%2Frun%2Fpostgresql/db",
            "postgres://user@/db?host=/run/postgresql",
            "postgres://user@192.0.2.1/db?sslmode=disable",
        ] {
            assert!(read(url).is_ok(), "{url}: {:?}", read(url));
        }
    }

    #[test]
    fn a_password_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "secret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(password(&path).unwrap_err().name, "store_password_unusable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(password(&path).unwrap(), "secret");
    }
}
