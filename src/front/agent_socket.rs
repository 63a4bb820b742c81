//! The agent host's socket for its bridges. Only the daemon's own user and root may ask.

use std::io::BufReader;
use std::os::unix::net::UnixStream as BlockingStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::hsm::CertifiedKey;
use crate::kernel::httpsig::{Components, Parameters, SignatureHeaders};
use crate::kernel::types::AgentName;
use crate::ops::failure::Failure;
use crate::ops::ipc;
use crate::tls::agent::{AgentAsk, AgentSays};

/// Questions of all bridges at once; those that come when all places are taken fail, and may be asked again.
const CONNECTIONS_MAX: usize = 128;
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// When accepting fails: out of descriptors, most likely, and connections that end make room again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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

/// Serves until `stop`.
pub async fn serve(listener: UnixListener, keys: Arc<dyn AgentKeys>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let own_uid = rustix::process::geteuid().as_raw();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "an agent connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::warn!("an agent connection was turned away: all places are taken");
            continue;
        };
        let permitted = stream.peer_cred().is_ok_and(|peer| peer.uid() == own_uid || peer.uid() == 0);
        let blocking = stream.into_std().and_then(|stream| {
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(READ_TIMEOUT))?;
            Ok(stream)
        });
        let Ok(stream) = blocking else {
            continue;
        };
        let keys = Arc::clone(&keys);
        tokio::task::spawn_blocking(move || {
            let _slot = slot;
            if let Err(error) = converse(stream, &*keys, permitted) {
                tracing::debug!(%error, "an agent connection ended early");
            }
        });
    }
}

fn converse(mut stream: BlockingStream, keys: &dyn AgentKeys, permitted: bool) -> std::io::Result<()> {
    let Some(question) = ipc::read_frame(&mut BufReader::new(stream.try_clone()?))? else {
        return Ok(());
    };
    let answer = if permitted {
        answer(keys, &question).unwrap_or_else(AgentSays::Failed)
    } else {
        AgentSays::Failed(Failure::refused(
            "not_permitted",
            "only the agent host's own user may use its agents' keys",
            "run the MCP client as the user that runs the agent host's daemon",
        ))
    };
    ipc::write_frame(&mut stream, &answer)
}

fn answer(keys: &dyn AgentKeys, question: &AgentAsk) -> Result<AgentSays, Failure> {
    Ok(match question {
        AgentAsk::Identity { agent } => AgentSays::Identity { chain: keys.identity(agent)?.chain },
        AgentAsk::SignTls { agent, message } => AgentSays::Signature(keys.sign_tls(agent, message)?),
        AgentAsk::SignRequest { agent, components, parameters } => {
            AgentSays::SignedRequest(keys.sign_request(agent, components, parameters)?)
        }
    })
}
