//! `countersign connect --listen`: where on loopback, and the secret that its clients say.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::bridge::Route;
use crate::mcp::bridge::{PATH, serve_loopback};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::secret;

/// Shorter ones can be guessed: 128 bits in base64url.
const SECRET_CHARS_MIN: usize = 22;

/// Where to listen, and whose secret.
#[derive(Clone, Debug)]
pub struct Listen {
    pub address: SocketAddr,
    /// Kept from one start to the next, and made if it is not there. None: a new secret at each start.
    pub secret_file: Option<PathBuf>,
}

/// What a client needs to reach it.
#[derive(Debug)]
pub struct Endpoint {
    pub url: String,
    /// `None` when it is in a file.
    pub secret: Option<SecretString>,
}

/// Serves clients on loopback until SIGTERM or SIGINT. `ready` is told once, when they can come.
///
/// # Errors
/// `listen_not_loopback`, `address_in_use`, `secret_too_short`, `secret_file_…`
pub async fn listen(route: Route, listen: Listen, ready: impl FnOnce(&Endpoint)) -> Result<(), Failure> {
    if !listen.address.ip().is_loopback() {
        return Err(Failure::usage(
            "listen_not_loopback",
            format!("{} can be reached from elsewhere: whoever reaches it would be this agent", listen.address),
            "listen on 127.0.0.1 or [::1]",
        ));
    }
    let secret = listen.secret_file.as_deref().map_or_else(|| Ok(fresh()), kept)?;
    let failed = |error: std::io::Error| {
        Failure::fault(
            "address_in_use",
            format!("{} cannot be listened on: {error}", listen.address),
            "choose another port, or 0 for a free one",
        )
    };
    let listener = TcpListener::bind(listen.address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let shown = listen.secret_file.is_none().then(|| secret.clone());
    let stop = CancellationToken::new();
    let (mut term, mut interrupt) =
        (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?);
    let stopping = stop.clone();
    let waiting = tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    });
    ready(&Endpoint { url: format!("http://{address}{PATH}"), secret: shown });
    serve_loopback(Arc::new(route), listener, secret, stop).await;
    waiting.abort();
    Ok(())
}

fn fresh() -> SecretString {
    SecretString::from(URL_SAFE_NO_PAD.encode(clock::random::<32>()))
}

/// The secret of a file that nobody else can read; makes both if there is no file.
fn kept(path: &Path) -> Result<SecretString, Failure> {
    let setting = "--secret-file";
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(mut file) => {
            let secret = fresh();
            let written = file.write_all(format!("{}\n", secret.expose_secret()).as_bytes());
            written.and_then(|()| file.sync_all()).map_err(|error| unwritable(path, &error))?;
            Ok(secret)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let secret = secret::from_file(path, setting)?;
            if secret.expose_secret().len() < SECRET_CHARS_MIN {
                return Err(Failure::usage(
                    "secret_too_short",
                    format!("{setting} {}: it is shorter than {SECRET_CHARS_MIN} characters", path.display()),
                    "remove the file: a new one is made with a random secret",
                ));
            }
            Ok(secret)
        }
        Err(error) => Err(unwritable(path, &error)),
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("--secret-file {} cannot be made: {error}", path.display());
    Failure::usage("secret_file_unusable", message, "check the directory's owner and mode")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_kept_where_nobody_else_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let made = kept(&path).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(made.expose_secret()).unwrap().len(), 32);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(kept(&path).unwrap().expose_secret(), made.expose_secret());
        assert_ne!(fresh().expose_secret(), fresh().expose_secret());

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(kept(&path).unwrap_err().name, "secret_file_too_open");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "hunter2\n").unwrap();
        assert_eq!(kept(&path).unwrap_err().name, "secret_too_short");
        assert_eq!(kept(&directory.path().join("none/secret")).unwrap_err().name, "secret_file_unusable");
    }
}
