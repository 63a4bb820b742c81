//! The agent of the story: a real MCP client that starts `countersign connect` and speaks to it over stdio.

use std::fs::OpenOptions;
use std::path::PathBuf;

use serde_json::Value;
use tokio::runtime::Runtime;

use super::stage::Stage;
use crate::cli::connect;
use crate::cli::context::Context;
use crate::kernel::types::AgentName;
use crate::mcp::client::StdioClient;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

pub(super) struct Agent {
    runtime: Runtime,
    client: StdioClient,
}

impl Agent {
    pub fn connect(stage: &mut Stage, name: &str) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::fault("demo_agent", error.to_string(), "see transcript.txt");
        let log = OpenOptions::new().create(true).append(true).open(stage.root.join("connect.log")).map_err(failed)?;
        let state = stage.state("agent").display().to_string();
        let arguments = ["connect", "--agent", name, "--state", &state].map(str::to_owned);
        stage.note(&format!("\n$ countersign {}   (an MCP client starts it)", arguments.join(" ")));
        let runtime = runtime()?;
        let client = runtime.block_on(StdioClient::start(&stage.program, &arguments, log))?;
        Ok(Self { runtime, client })
    }

    /// How many tools are on offer.
    pub fn tools(&mut self, stage: &mut Stage) -> Result<usize, Failure> {
        let tools = self.runtime.block_on(self.client.tools())?;
        stage.note(&format!("tools/list: {}", tools.join(", ")));
        Ok(tools.len())
    }

    /// A call that must be answered.
    pub fn call(&mut self, stage: &mut Stage, tool: &str, arguments: Value) -> Result<Value, Failure> {
        self.exchange(stage, tool, arguments).map_err(|refused| {
            Failure::fault("demo_call", format!("{tool} was not answered: {refused}"), "see transcript.txt")
        })
    }

    /// A call that must be refused.
    pub fn refusal(&mut self, stage: &mut Stage, tool: &str, arguments: Value) -> Result<Value, Failure> {
        match self.exchange(stage, tool, arguments) {
            Err(refused) => Ok(refused),
            Ok(answer) => Err(Failure::fault(
                "demo_not_refused",
                format!("{tool} was answered and must not be: {answer}"),
                "report this as a defect",
            )),
        }
    }

    pub fn close(self) {
        self.runtime.block_on(self.client.close());
        self.runtime.shutdown_background();
    }

    fn exchange(&mut self, stage: &mut Stage, tool: &str, arguments: Value) -> Result<Value, Value> {
        stage.note(&format!("\ntools/call {tool} {arguments}"));
        let answered = self.runtime.block_on(self.client.call(tool, arguments));
        match &answered {
            Ok(value) => stage.note(&format!("→ {value}")),
            Err(value) => stage.note(&format!("→ error {value}")),
        }
        answered
    }
}

/// Tries to reach the bank with this chain and the agent's key; true when the bank answered over the connection.
pub(super) fn handshake(stage: &mut Stage, name: &str, chain: &[PathBuf]) -> Result<bool, Failure> {
    let unreadable = |error: String| Failure::fault("demo_certificate", error, "see transcript.txt");
    let mut presented = Vec::new();
    for path in chain {
        let text = std::fs::read(path).map_err(|error| unreadable(format!("{}: {error}", path.display())))?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(&text).map_err(|error| unreadable(error.to_string()))?;
        presented.push(pem.contents);
    }
    let agent: AgentName = name.parse().map_err(|error| unreadable(format!("{name}: {error}")))?;
    let context = Context { state: StateDir::new(stage.state("agent")), json: true, operator: None };
    let route = connect::route(&context, agent)?;
    let (http, url) = (route.http(&presented)?, route.url()?);
    let answered = runtime()?.block_on(async { http.post(url).body("{}").send().await });
    stage.note(&format!(
        "\nTLS with {} certificate(s): {}",
        presented.len(),
        match &answered {
            Ok(response) => format!("answered {}", response.status()),
            Err(error) => format!("refused: {error:?}"),
        }
    ));
    Ok(answered.is_ok())
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::fault("demo_agent", error.to_string(), "check process limits"))
}
