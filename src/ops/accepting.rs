//! How every door accepts: so many connections at once, until it is told to stop; and how those that are open end.

use std::error::Error;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::HttpService;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, unix};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// When accepting fails: out of descriptors, most likely, and connections that end make room again.
const PAUSE: Duration = Duration::from_millis(50);

/// Where connections come from.
pub trait Door: Send + Sync {
    type Stream: Send;
    type Peer: Send;
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Peer)>> + Send;
}

impl Door for TcpListener {
    type Stream = TcpStream;
    type Peer = std::net::SocketAddr;

    fn next(&self) -> impl Future<Output = io::Result<(TcpStream, Self::Peer)>> + Send {
        self.accept()
    }
}

impl Door for UnixListener {
    type Stream = UnixStream;
    type Peer = unix::SocketAddr;

    fn next(&self) -> impl Future<Output = io::Result<(UnixStream, Self::Peer)>> + Send {
        self.accept()
    }
}

/// The places of a door's connections. Copies share them.
#[derive(Clone, Debug)]
pub struct Slots {
    free: Arc<Semaphore>,
    all: u32,
}

/// A connection's place, until it is dropped.
pub type Slot = OwnedSemaphorePermit;

impl Slots {
    pub fn new(all: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(usize::try_from(all).unwrap_or(Semaphore::MAX_PERMITS))), all }
    }

    /// `None`: all are taken.
    pub fn take(&self) -> Option<Slot> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Waits until all are free: nothing that was accepted goes on. False: something still does after `limit`.
    pub async fn drained(&self, limit: Duration) -> bool {
        matches!(tokio::time::timeout(limit, self.free.acquire_many(self.all)).await, Ok(Ok(_)))
    }
}

/// Accepts until `stop`. A connection comes with its place, or without one when all are taken; `take` does not wait.
pub async fn accept<D: Door>(
    door: &D,
    slots: &Slots,
    stop: &CancellationToken,
    mut take: impl FnMut(D::Stream, D::Peer, Option<Slot>),
) {
    loop {
        let accepted = tokio::select! {
            accepted = door.next() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => take(stream, peer, slots.take()),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Serves a connection to its end. From `stop` on it answers what is in progress, and nothing after it.
pub async fn converse<I, S, B>(connection: http1::Connection<I, S>, stop: &CancellationToken)
where
    I: Read + Write + Unpin,
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    tokio::pin!(connection);
    let mut draining = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = stop.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes, in this order; then nothing, ever.
    struct Queue(std::sync::Mutex<Vec<io::Result<u32>>>);

    impl Door for Queue {
        type Stream = u32;
        type Peer = ();

        async fn next(&self) -> io::Result<(u32, ())> {
            let next = self.0.lock().unwrap().pop();
            match next {
                Some(next) => next.map(|stream| (stream, ())),
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn so_many_have_a_place_and_a_failure_ends_nothing() {
        let coming = vec![Ok(4), Ok(3), Err(io::Error::other("too many open files")), Ok(2), Ok(1)];
        let (door, slots, stop) = (Queue(coming.into()), Slots::new(2), CancellationToken::new());
        let (mut taken, ending) = (Vec::new(), stop.clone());
        let mut held = Vec::new();
        accept(&door, &slots, &stop, |stream, (), slot| {
            taken.push((stream, slot.is_some()));
            held.extend(slot);
            match stream {
                // One goes, and the next one has its place.
                3 => drop(held.pop()),
                4 => ending.cancel(),
                _ => {}
            }
        })
        .await;
        assert_eq!(taken, [(1, true), (2, true), (3, false), (4, true)]);
        assert!(!slots.drained(Duration::ZERO).await);
        held.clear();
        assert!(slots.drained(Duration::ZERO).await);
    }
}
