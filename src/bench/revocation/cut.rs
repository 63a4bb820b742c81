//! From the call to the end of the connection, as the agent sees it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsConnector;

use super::{Plan, revoke};
use crate::bench::served::{failed, operator};
use crate::bench::site::Site;
use crate::bench::stop::Stop;
use crate::ca::RevokeMode;
use crate::hsm::{CertifiedKey, Token};
use crate::ops::failure::Failure;
use crate::tls;

/// Until every connection that was made is registered, or has ended.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Cuts {
    pub(super) everyone_ms: f64,
    /// Sorted.
    pub(super) one_ms: Vec<f64>,
    pub(super) recorded_ms: Vec<f64>,
    pub(super) effective_ms: Vec<f64>,
}

impl Cuts {
    pub(super) fn percentile(&self, of: f64) -> f64 {
        let last = self.one_ms.len().saturating_sub(1);
        // Both are small and not negative.
        let index = (last as f64 * of).ceil() as usize;
        self.one_ms.get(index).copied().unwrap_or(f64::NAN)
    }
}

/// Agents, each with its identity.
type Agents = [(String, CertifiedKey)];

pub(super) fn measure(plan: &Plan, site: &Site, agents: &Agents, stop: &Stop) -> Result<Cuts, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| failed(&error))?;
    let _inside = runtime.enter();
    let (listener, address) = site.listen()?;
    let measured = runtime.block_on(measured(plan, site, agents, stop, address));
    runtime.block_on(listener.stop());
    measured
}

async fn measured(
    plan: &Plan,
    site: &Site,
    agents: &Agents,
    stop: &Stop,
    address: SocketAddr,
) -> Result<Cuts, Failure> {
    let authority = &site.bank.authority;
    let all = plan.agents * plan.connections;
    let (ended, mut ends) = unbounded_channel();
    connect(plan, site, agents, address, &ended).await?;
    let start = Instant::now();
    let frozen = authority.freeze(&operator("olga"), None, "a measurement", RevokeMode::Effective)?;
    let everyone_ms = last_of(&mut ends, all).await?.duration_since(start).as_secs_f64() * 1e3;
    if frozen["effective"] != true {
        return Err(Failure::fault("bench_failed", frozen.to_string(), "report this as a defect"));
    }
    for name in ["olga", "peter"] {
        authority.unfreeze(&operator(name), None, "a measurement", RevokeMode::Effective)?;
    }

    connect(plan, site, agents, address, &ended).await?;
    let (mut one_ms, mut recorded_ms, mut effective_ms) = (vec![], vec![], vec![]);
    for (agent, _) in agents {
        stop.check()?;
        let start = Instant::now();
        let report = revoke(&site.bank, agent)?;
        one_ms.push(last_of(&mut ends, plan.connections).await?.duration_since(start).as_secs_f64() * 1e3);
        let ms = |name: &str| report[name].as_str().and_then(|ms| ms.parse().ok()).unwrap_or(f64::NAN);
        recorded_ms.push(ms("recorded_ms"));
        effective_ms.push(ms("effective_ms"));
    }
    one_ms.sort_by(f64::total_cmp);
    Ok(Cuts { everyone_ms, one_ms, recorded_ms, effective_ms })
}

/// Every agent's connections; each tells when it has ended.
async fn connect(
    plan: &Plan,
    site: &Site,
    agents: &Agents,
    address: SocketAddr,
    ended: &UnboundedSender<Instant>,
) -> Result<(), Failure> {
    let root = site.root()?;
    let token: Arc<dyn Token> = site.host.token.pool();
    let mut waiting = vec![];
    for (_, identity) in agents {
        let signer = tls::signer(Arc::clone(&token), identity.key.id);
        let connector = TlsConnector::from(Arc::new(tls::client_config(&identity.chain, signer, &root)?));
        for _ in 0..plan.connections {
            let (connector, ended) = (connector.clone(), ended.clone());
            waiting.push(tokio::spawn(async move {
                let name = ServerName::from(address.ip());
                let stream = TcpStream::connect(address).await?;
                let mut stream = connector.connect(name, stream).await?;
                tokio::spawn(async move {
                    let mut byte = [0];
                    let _ = stream.read(&mut byte).await;
                    let _ = ended.send(Instant::now());
                });
                Ok::<_, std::io::Error>(())
            }));
        }
    }
    for one in waiting {
        one.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    }
    let all = usize::try_from(plan.agents * plan.connections).unwrap_or(usize::MAX);
    let began = Instant::now();
    while site.bank.services.connections.count() < all {
        if began.elapsed() > PATIENCE {
            return Err(failed(&"not every connection was accepted"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn last_of(ends: &mut UnboundedReceiver<Instant>, count: u32) -> Result<Instant, Failure> {
    let gone = || Failure::fault("bench_failed", "a connection was not cut", "report this as a defect");
    let mut last = None;
    for _ in 0..count {
        let end = tokio::time::timeout(PATIENCE, ends.recv()).await.map_err(|_| gone())?;
        last = last.max(end);
    }
    last.ok_or_else(gone)
}
