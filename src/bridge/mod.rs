//! `countersign connect`: MCP on stdio or loopback HTTP in, mutual TLS and signed requests with the agent's HSM key out.

mod listen;
pub mod manifest;
pub mod token;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::bridge::token::BoundToken;
use crate::ca::offline::anchors_from_pem;
use crate::kernel::credential::oid::OidBase;
use crate::kernel::httpsig::{Components, Parameters, SignatureHeaders};
use crate::kernel::tool_manifest::VerifiedManifest;
use crate::mcp::bridge::{self, Dial};
use crate::mcp::signed_http::{RequestSigner, SignedHttp};
use crate::ops::failure::Failure;
use crate::tls;
use crate::tls::agent::AgentSocket;
use crate::tls::pin::BankPin;
use manifest::ManifestPin;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Shorter than the bank's limit for an idle connection, so that no call is sent into one that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// A subscription may be silent for hours: so often it is looked whether the bank's machine is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

pub use listen::{Endpoint, Listen, listen};

/// Where the bank is.
#[derive(Clone, Debug)]
pub enum BankAddress {
    Url(String),
    /// The bank's `run/ports.json` on the same machine, read at each connection.
    PortsFile(PathBuf),
}

/// One agent's way to its bank.
#[derive(Clone, Debug)]
pub struct Route {
    pub agent: AgentSocket,
    pub bank: BankAddress,
    /// PEM file of the only root that is trusted.
    pub bank_root: PathBuf,
    /// PEM file of the bank's issuing CAs.
    pub bank_issuing: PathBuf,
    /// Where the private extensions of its certificates are.
    pub oid_base: OidBase,
    /// Which of its tools are accepted here.
    pub tools: ManifestPin,
}

/// Serves an MCP client on stdio until its input ends.
///
/// # Errors
/// `stdio_failed`. What goes wrong towards the bank is answered to the client, call by call.
pub async fn run(route: Route) -> Result<(), Failure> {
    bridge::serve_stdio(Arc::new(route)).await
}

impl Route {
    /// The endpoint's URL now.
    pub fn url(&self) -> Result<String, Failure> {
        match &self.bank {
            BankAddress::Url(url) => Ok(url.clone()),
            BankAddress::PortsFile(path) => {
                let ports = std::fs::read(path).ok();
                let ports: Option<serde_json::Value> = ports.and_then(|text| serde_json::from_slice(&text).ok());
                let address = ports.as_ref().and_then(|ports| ports["mcp"].as_str());
                address.map(|address| format!("https://{address}/mcp")).ok_or_else(|| {
                    Failure::busy(
                        "bank_not_running",
                        format!("{} names no MCP port", path.display()),
                        "start the bank's daemon, then try again",
                    )
                })
            }
        }
    }

    /// An HTTP client that presents `chain` and signs with the agent's key.
    pub fn http(&self, chain: &[Vec<u8>]) -> Result<reqwest::Client, Failure> {
        let config = tls::pinned_config(chain, Arc::new(self.agent.clone()), self.pin()?)?;
        reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(KEEPALIVE)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .no_proxy()
            .no_gzip()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Failure::fault("http_client", error.to_string(), "report this as a defect"))
    }

    /// What the bank is recognised by, as the agent host holds it now.
    fn pin(&self) -> Result<BankPin, Failure> {
        let unusable = |path: &Path, message: String| {
            Failure::usage(
                "bank_anchors_unusable",
                format!("{}: {message}", path.display()),
                "import the bank's certificates with `countersign trust add`",
            )
        };
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| unusable(path, error.to_string()));
        let (root, issuing) = (read(&self.bank_root)?, read(&self.bank_issuing)?);
        let anchors = anchors_from_pem(&root, &issuing);
        let anchors = anchors.map_err(|failure| unusable(&self.bank_issuing, failure.message))?;
        Ok(BankPin { anchors, base: self.oid_base.clone() })
    }
}

impl Dial for Route {
    fn address(&self) -> Result<String, Failure> {
        self.url()
    }

    fn dial(&self) -> Result<SignedHttp, Failure> {
        let chain = self.agent.chain()?;
        Ok(SignedHttp::new(self.http(&chain)?, Arc::new(self.clone()), Arc::new(BoundToken::default())))
    }

    fn accept_tools(&self, manifest: &[u8]) -> Result<VerifiedManifest, Failure> {
        self.tools.accept(manifest, &self.pin()?.anchors.root)
    }
}

impl RequestSigner for Route {
    fn sign(&self, components: Components, parameters: Parameters) -> BoxFuture<'_, Result<SignatureHeaders, Failure>> {
        Box::pin(self.agent.sign_request_later(components, parameters))
    }
}
