//! The agent host's socket for its bridges. Only the daemon's own user and root may ask.
//!
//! A bridge keeps its connection and has many questions open on it. Who it is was told by the kernel when it connected.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::hsm::CertifiedKey;
use crate::kernel::httpsig::{Components, Parameters, SignatureHeaders};
use crate::kernel::types::AgentName;
use crate::ops::accepting::{self, Slots};
use crate::ops::failure::Failure;
use crate::ops::ipc;
use crate::tls::agent::{AgentAsk, AgentSays, Asked, Said};

/// Bridges at once, each with one connection; those that come when all places are taken are hung up on.
const CONNECTIONS_MAX: u32 = 256;
/// Questions of one connection that wait for their answer; more are not read meanwhile.
const OPEN_MAX: usize = 64;
/// Questions of all connections that are worked on at once; the rest wait in the order they came.
const WORKING_MAX: usize = 128;
/// A request's parts, all of them at the bank's limits, are far below it.
const QUESTION_BYTES_MAX: usize = 64 << 10;
/// A bridge whose client is silent may stay so for long; it connects again with its next question.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// A bridge that does not take its answers for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// What is being signed when the daemon stops is answered within this time; its HSM has a deadline of its own.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The agent host's keys, as bridges may use them. Blocking.
pub trait AgentKeys: Send + Sync {
    /// B and S of an agent.
    fn identity(&self, agent: &AgentName) -> Result<CertifiedKey, Failure>;
    /// DER signature over a TLS 1.3 client CertificateVerify message, and over nothing else.
    fn sign_tls(&self, agent: &AgentName, message: &[u8]) -> Result<Vec<u8>, Failure>;
    /// The headers that carry the agent's signature of a request with these values.
    fn sign_request(
        &self,
        agent: &AgentName,
        components: &Components,
        parameters: &Parameters,
    ) -> Result<SignatureHeaders, Failure>;
}

/// Serves until `stop`, then lets what is being signed be answered.
pub async fn serve(listener: UnixListener, keys: Arc<dyn AgentKeys>, stop: CancellationToken) {
    let slots = Slots::new(CONNECTIONS_MAX);
    let working = Arc::new(Semaphore::new(WORKING_MAX));
    let own_uid = rustix::process::geteuid().as_raw();
    accepting::accept(&listener, &slots, &stop, |stream, _, slot| {
        let Some(slot) = slot else {
            tracing::warn!("an agent connection was turned away: all places are taken");
            return;
        };
        let conversation = Conversation {
            keys: Arc::clone(&keys),
            permitted: stream.peer_cred().is_ok_and(|peer| peer.uid() == own_uid || peer.uid() == 0),
            working: Arc::clone(&working),
            stop: stop.clone(),
        };
        tokio::spawn(async move {
            let _slot = slot;
            if let Err(error) = conversation.run(stream).await {
                tracing::debug!(%error, "an agent connection ended early");
            }
        });
    })
    .await;
    slots.drained(DRAIN_TIMEOUT).await;
}

/// One bridge's connection.
struct Conversation {
    keys: Arc<dyn AgentKeys>,
    permitted: bool,
    working: Arc<Semaphore>,
    stop: CancellationToken,
}

/// An answer, and its question's place, which is free when the answer is written.
type Answer = (Said, OwnedSemaphorePermit);

impl Conversation {
    async fn run(self, stream: UnixStream) -> io::Result<()> {
        let (read, write) = stream.into_split();
        let mut reader = BufReader::new(read);
        let places = Arc::new(Semaphore::new(OPEN_MAX));
        let (answers, waiting) = mpsc::channel(OPEN_MAX);
        let writing = tokio::spawn(write_answers(write, waiting));
        let read = loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            let asked = tokio::select! {
                asked = tokio::time::timeout(IDLE_TIMEOUT, ipc::next_frame(&mut reader, QUESTION_BYTES_MAX)) => asked,
                () = self.stop.cancelled() => break Ok(()),
                () = answers.closed() => break Ok(()),
            };
            match asked {
                Ok(Ok(Some(asked))) => self.answer(asked, place, answers.clone()).await,
                Ok(Ok(None)) | Err(_) => break Ok(()),
                Ok(Err(error)) => break Err(error),
            }
        };
        // What is being signed has its own end of the channel.
        drop(answers);
        let written = writing.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        read.and(written)
    }

    async fn answer(&self, asked: Asked, place: OwnedSemaphorePermit, answers: mpsc::Sender<Answer>) {
        let turn = Arc::clone(&self.working).acquire_owned().await.expect("the semaphore is never closed");
        let (keys, permitted) = (Arc::clone(&self.keys), self.permitted);
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let Asked { id, ask } = asked;
            let says = if permitted { answer(&*keys, &ask) } else { Err(not_permitted()) };
            // There is room for an answer to each question that has a place; without a reader nobody waits for it.
            let _ = answers.try_send((Said { id, says: says.unwrap_or_else(AgentSays::Failed) }, place));
        });
    }
}

async fn write_answers(mut write: OwnedWriteHalf, mut waiting: mpsc::Receiver<Answer>) -> io::Result<()> {
    while let Some((said, place)) = waiting.recv().await {
        let mut frames = ipc::frame(&said)?;
        let mut places = vec![place];
        // What is ready goes with it.
        while let Ok((said, place)) = waiting.try_recv() {
            frames.extend_from_slice(&ipc::frame(&said)?);
            places.push(place);
        }
        tokio::time::timeout(WRITE_TIMEOUT, write.write_all(&frames)).await??;
    }
    Ok(())
}

fn answer(keys: &dyn AgentKeys, ask: &AgentAsk) -> Result<AgentSays, Failure> {
    Ok(match ask {
        AgentAsk::Identity { agent } => AgentSays::Identity { chain: keys.identity(agent)?.chain },
        AgentAsk::SignTls { agent, message } => AgentSays::Signature(keys.sign_tls(agent, message)?),
        AgentAsk::SignRequest { agent, components, parameters } => {
            AgentSays::SignedRequest(keys.sign_request(agent, components, parameters)?)
        }
    })
}

fn not_permitted() -> Failure {
    Failure::refused(
        "not_permitted",
        "only the agent host's own user may use its agents' keys",
        "run the MCP client as the user that runs the agent host's daemon",
    )
}
