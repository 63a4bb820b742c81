//! The admin socket's transport: lines of JSON over a Unix socket, the peer known by its credentials.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::front::admin::{self, AdminAnswer, AdminRequest};
use crate::front::admin_group::SOCKET_MODE;
use crate::front::services::Services;
use crate::ops::accepting::{self, Slot, Slots};
use crate::ops::failure::Failure;
use crate::ops::secret::Growing;

/// One request, a certificate request with its custody statement included, is far below it.
const REQUEST_BYTES_MAX: u64 = 1 << 20;
/// Operators are few; more than this at once is a mistake.
const CONNECTIONS_MAX: u32 = 64;
const READ_BYTES: usize = 8 * 1024;
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Binds a local socket, mode 0660 inside the state directory, which is the daemon's own: who connects is told by peer
/// credentials.
///
/// # Errors
/// `socket_unusable`
pub fn bind(path: &Path) -> Result<UnixListener, Failure> {
    let unusable = |error: std::io::Error| {
        Failure::fault(
            "socket_unusable",
            format!("{} cannot be bound: {error}", path.display()),
            "check the state directory's owner and mode; Unix socket paths end at 107 bytes",
        )
    };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unusable(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(unusable)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(unusable)?;
    Ok(listener)
}

/// Serves until `stop`, then lets calls in progress end.
pub async fn serve(listener: UnixListener, services: Arc<Services>, stop: CancellationToken) {
    let slots = Slots::new(CONNECTIONS_MAX);
    accepting::accept(&listener, &slots, &stop, |stream, _, slot| {
        let Some(slot) = slot else {
            turn_away(&stream);
            return;
        };
        let services = Arc::clone(&services);
        tokio::spawn(async move {
            if let Err(error) = converse(stream, services, slot).await {
                tracing::debug!(%error, "admin connection ended early");
            }
        });
    })
    .await;
    slots.drained(READ_TIMEOUT).await;
}

/// Says that the door is full. An answer this short fits into a fresh socket's buffer: nobody is waited for.
fn turn_away(stream: &UnixStream) {
    let busy = AdminAnswer::Error(Failure::busy(
        "too_many_connections",
        format!("{CONNECTIONS_MAX} admin connections are open already"),
        "end those that are not needed, then try again",
    ));
    tracing::warn!("an admin connection was turned away: all places are taken");
    if let Ok(mut text) = serde_json::to_vec(&busy) {
        text.push(b'\n');
        let _ = stream.try_write(&text);
    }
}

async fn converse(stream: UnixStream, services: Arc<Services>, slot: Slot) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let (read, mut write) = stream.into_split();
    let line = tokio::time::timeout(READ_TIMEOUT, read_line(read)).await??;
    let line = line.as_slice();
    if line.is_empty() {
        return Ok(());
    }
    // A reader that is slow misses some of it.
    let (teller, mut told) = tokio::sync::mpsc::channel(1);
    let answer = match serde_json::from_slice::<AdminRequest>(line) {
        Err(_) if line.len() as u64 >= REQUEST_BYTES_MAX => AdminAnswer::Error(Failure::usage(
            "request_too_long",
            format!("the request is longer than {REQUEST_BYTES_MAX} bytes"),
            "send a smaller document",
        )),
        Ok(request) => {
            let work = tokio::task::spawn_blocking(move || {
                admin::serve(&services, uid, request, &mut |progress| drop(teller.try_send(progress)))
            });
            // Ends with the work, which owns the other end.
            while let Some(progress) = told.recv().await {
                write_line(&mut write, &AdminAnswer::Progress(progress)).await?;
            }
            work.await.unwrap_or_else(|_| AdminAnswer::Error(defect()))
        }
        Err(error) => AdminAnswer::Error(Failure::usage(
            "request_malformed",
            format!("the request was not understood: {error}"),
            "check that CLI and daemon are the same version",
        )),
    };
    write_line(&mut write, &answer).await?;
    // Whoever has read to the end finds the place free.
    drop(slot);
    write.shutdown().await
}

/// A line without a copy of it left anywhere: it may carry a credential.
async fn read_line(mut read: OwnedReadHalf) -> std::io::Result<Growing> {
    let mut line = Growing::default();
    let mut piece = Zeroizing::new([0; READ_BYTES]);
    loop {
        let room = usize::try_from(REQUEST_BYTES_MAX).unwrap_or(usize::MAX).saturating_sub(line.as_slice().len());
        let length = room.min(READ_BYTES);
        let count = read.read(&mut piece[..length]).await?;
        let end = piece[..count].iter().position(|byte| *byte == b'\n');
        line.extend(&piece[..end.map_or(count, |end| end + 1)]);
        if count == 0 || end.is_some() {
            return Ok(line);
        }
    }
}

async fn write_line(write: &mut OwnedWriteHalf, answer: &AdminAnswer) -> std::io::Result<()> {
    let mut text = Growing::default();
    serde_json::to_writer(&mut text, answer)?;
    text.extend(b"\n");
    write.write_all(text.as_slice()).await
}

fn defect() -> Failure {
    Failure::unknown("internal_defect", "the daemon met a defect of its own", "see its log and report it")
}
