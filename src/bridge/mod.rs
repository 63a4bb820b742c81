//! `countersign connect`: MCP on stdio in, mutual TLS and signed requests with the agent's HSM key out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::kernel::httpsig::{Components, Parameters, SignatureHeaders};
use crate::mcp::bridge::{self, Dial};
use crate::mcp::signed_http::{RequestSigner, SignedHttp};
use crate::ops::failure::Failure;
use crate::tls;
use crate::tls::agent::AgentSocket;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Shorter than the bank's limit for an idle connection, so that no call is sent into one that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the bank's own limit for a request.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

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
        let root = self.bank_root()?;
        let config = tls::client_config(chain, Arc::new(self.agent.clone()), &root)?;
        reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Failure::fault("http_client", error.to_string(), "report this as a defect"))
    }

    fn bank_root(&self) -> Result<Vec<u8>, Failure> {
        let unusable = |message: String| {
            Failure::usage(
                "bank_root_unusable",
                format!("{}: {message}", self.bank_root.display()),
                "import the bank's certificates with `countersign trust add`",
            )
        };
        let text = std::fs::read(&self.bank_root).map_err(|error| unusable(error.to_string()))?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(&text).map_err(|error| unusable(error.to_string()))?;
        Ok(pem.contents)
    }
}

impl Dial for Route {
    fn dial(&self) -> Result<(SignedHttp, String), Failure> {
        let chain = self.agent.chain()?;
        Ok((SignedHttp::new(self.http(&chain)?, Arc::new(self.clone())), self.url()?))
    }
}

impl RequestSigner for Route {
    fn sign(&self, components: Components, parameters: Parameters) -> Result<SignatureHeaders, Failure> {
        self.agent.sign_request(components, parameters)
    }
}
