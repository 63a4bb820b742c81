//! Full TLS 1.3 handshakes with a client certificate: the bank's listener, its key in SoftHSM2 and in memory, and nginx,
//! in turns, asked by the same client.
//!
//! In TLS 1.3 a client is done before the server has judged it: a handshake counts once the server has answered a
//! small question on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs::kx_group::{X25519, X25519MLKEM768};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::nginx::{self, Nginx};
use super::over;
use super::server_key::ServerKey;
use super::stage::Stage;
use crate::bench::figures::{Goal, Spread, figure};
use crate::bench::served::failed;
use crate::bench::site::limits;
use crate::bench::synthetic::OpenKey;
use crate::ops::failure::Failure;

const IN_MEMORY_MIN: f64 = 1.4;
const IN_TOKEN_MIN: f64 = 1.2;
/// Clients at once.
const AT_ONCE: u32 = 32;
const NGINX_WORKERS: u32 = 2;
const ANSWER_BYTES_MAX: usize = 4096;

/// Handshakes a second, each with one small answer.
#[derive(Clone, Debug, Serialize)]
pub struct Handshakes {
    /// The key exchange of them all: the best that every server has.
    pub group: String,
    pub at_once: u32,
    /// As a daemon has its key.
    pub per_second: Spread,
    /// With a key that is in no token.
    pub in_memory_per_second: Spread,
    pub nginx_per_second: Option<Spread>,
    pub ratio: Option<Spread>,
    pub in_memory_ratio: Option<Spread>,
}

/// # Errors
/// `bench_stopped`; `bench_failed` when a server refuses.
pub(super) fn measure(stage: &Stage<'_>) -> Result<Handshakes, Failure> {
    let agents = stage.open_keys()?;
    let server = ServerKey::make()?;
    let (listener, in_memory) = stage.site.listen_as(server.key.certified(), server.key.token()?, limits())?;
    let nginx = nginx::program().map(|program| started(stage, &program, &server)).transpose()?;
    let to = |root: &[u8], address, group| -> Result<Vec<Dialler>, Failure> {
        agents.iter().map(|agent| Dialler::new(agent, root, address, group)).collect()
    };
    let group = match &nginx {
        Some(nginx) => {
            let hybrid = to(&server.root, nginx.address, X25519MLKEM768)?;
            if stage.strangers.block_on(hybrid[0].once()).is_ok() { X25519MLKEM768 } else { X25519 }
        }
        None => X25519MLKEM768,
    };
    let of_bank = to(&stage.root, stage.address, group)?;
    let of_memory = to(&server.root, in_memory, group)?;
    let of_nginx = nginx.as_ref().map(|nginx| to(&server.root, nginx.address, group)).transpose()?;
    let mut rounds = vec![];
    for round in 1..=stage.plan.rounds {
        (stage.tell)(&format!("handshakes, round {round} of {}", stage.plan.rounds));
        let measured = |diallers: &[Dialler]| {
            stage.stop.check()?;
            stage.runtime.block_on(closed_loop(&stage.strangers, diallers, AT_ONCE, stage.time()))
        };
        let theirs = of_nginx.as_deref().map(measured).transpose()?;
        rounds.push((measured(&of_bank)?, measured(&of_memory)?, theirs));
    }
    stage.runtime.block_on(listener.stop());
    let against = |ours: fn(&(f64, f64, Option<f64>)) -> f64| {
        let ratios: Option<Vec<f64>> = rounds.iter().map(|round| Some(ours(round) / round.2?)).collect();
        ratios.map(Spread::of)
    };
    Ok(Handshakes {
        group: format!("{:?}", group.name()),
        at_once: AT_ONCE,
        per_second: over(&rounds, |(bank, ..)| *bank),
        in_memory_per_second: over(&rounds, |(_, memory, _)| *memory),
        nginx_per_second: rounds.iter().map(|round| round.2).collect::<Option<Vec<f64>>>().map(Spread::of),
        ratio: against(|(bank, ..)| *bank),
        in_memory_ratio: against(|(_, memory, _)| *memory),
    })
}

/// nginx, which trusts what the bank trusts: B alone, the other certificate it does not look at.
fn started(stage: &Stage<'_>, program: &std::path::Path, server: &ServerKey) -> Result<Nginx, Failure> {
    let bank = &stage.site.bank;
    let clients = bank.file("certs/root.pem")? + &bank.file("certs/issuing.pem")?;
    Nginx::start(program, &stage.site.directory.path().join("nginx"), server, &clients, NGINX_WORKERS)
}

/// An agent that connects to a server, again and again.
#[derive(Clone)]
pub(super) struct Dialler {
    connector: TlsConnector,
    address: SocketAddr,
}

impl Dialler {
    /// With its pair, to a server under this root (DER), by this key exchange.
    ///
    /// # Errors
    /// `bench_failed`
    pub(super) fn new(
        agent: &OpenKey,
        root: &[u8],
        address: SocketAddr,
        group: &'static dyn SupportedKxGroup,
    ) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(root.to_vec())).map_err(|error| failed(&error))?;
        let provider = CryptoProvider { kx_groups: vec![group], ..aws_lc_rs::default_provider() };
        let chain = agent.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| failed(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivatePkcs8KeyDer::from(agent.pkcs8.clone()).into())
            .map_err(|error| failed(&error))?;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), address })
    }

    /// One connection with one answer.
    async fn once(&self) -> std::io::Result<()> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        // Gone at once when it is closed, so that no port waits for what may still come.
        tcp.set_zero_linger()?;
        let mut stream = self.connector.connect(ServerName::from(self.address.ip()), tcp).await?;
        let question = format!("GET /oauth/jwks HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(question.as_bytes()).await?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        let filled = stream.read(&mut answer).await?;
        let is_answer = answer[..filled].starts_with(b"HTTP/1.1 200 ");
        if is_answer { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
    }
}

/// Handshakes a second of so many at once, by clients on a runtime that is not the server's.
///
/// # Errors
/// `bench_failed` for the first that came to nothing.
pub(super) async fn closed_loop(
    clients: &Runtime,
    diallers: &[Dialler],
    at_once: u32,
    time: Duration,
) -> Result<f64, Failure> {
    let begun = Instant::now();
    let tasks: Vec<_> = diallers
        .iter()
        .cycle()
        .take(at_once as usize)
        .cloned()
        .map(|dialler| {
            clients.spawn(async move {
                let mut done = 0_u32;
                while begun.elapsed() < time {
                    dialler.once().await?;
                    done += 1;
                }
                Ok::<_, std::io::Error>(done)
            })
        })
        .collect();
    let mut all = 0;
    for task in tasks {
        all += task.await.map_err(|error| failed(&error))?.map_err(|error| failed(&format!("a handshake: {error}")))?;
    }
    Ok(f64::from(all) / begun.elapsed().as_secs_f64())
}

impl Handshakes {
    pub(super) fn goals(&self) -> Vec<Goal> {
        let goal = |what: &str, ratio: &Option<Spread>, least| match ratio {
            Some(ratio) => Goal::at_least(what.into(), ratio.median, least),
            None => Goal::at_least(what.into(), 0.0, least).without_measurement(nginx::NOT_INSTALLED),
        };
        vec![
            goal("handshakes in memory against nginx", &self.in_memory_ratio, IN_MEMORY_MIN),
            goal("handshakes with SoftHSM2 against nginx", &self.ratio, IN_TOKEN_MIN),
        ]
    }

    pub(super) fn text(&self) -> String {
        let theirs = match &self.nginx_per_second {
            Some(nginx) => figure("handshakes: nginx, which verifies one certificate", nginx, "/s"),
            None => format!("handshakes: nginx not measured: {}\n", nginx::NOT_INSTALLED),
        };
        [
            format!("handshakes with {}, {} at once, each with one answer\n", self.group, self.at_once),
            theirs,
            figure("handshakes: ours, key in SoftHSM2", &self.per_second, "/s"),
            figure("handshakes: ours, a synthetic key in memory", &self.in_memory_per_second, "/s"),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_nginx_no_goal_against_it_is_reached() {
        let measured = Spread::of(vec![2_000.0]);
        let alone = Handshakes {
            group: "X25519MLKEM768".into(),
            at_once: AT_ONCE,
            per_second: measured,
            in_memory_per_second: measured,
            nginx_per_second: None,
            ratio: None,
            in_memory_ratio: None,
        };
        assert_eq!(alone.goals().len(), 2);
        for goal in alone.goals() {
            assert!(!goal.reached && goal.not_measured.as_deref() == Some(nginx::NOT_INSTALLED), "{goal:?}");
        }
        assert!(alone.text().contains("nginx not measured: nginx is not installed"));
    }
}
