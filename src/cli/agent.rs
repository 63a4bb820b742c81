//! `countersign agent`: a language model that acts at the bank, for trying things out.

use std::fs::File;
use std::os::fd::AsFd;

use super::connect;
use super::context::Context;
use crate::agent::{self, Asking, Form, ModelName, Order};
use crate::kernel::types::AgentName;
use crate::mcp::client::StdioClient;
use crate::ops::failure::Failure;

/// Let a language model do a task at the bank, each of its calls shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  export ANTHROPIC_API_KEY=…
  countersign agent --model anthropic:claude-sonnet-4-6 --agent shopper \"What is on my accounts?\"
  countersign agent --model ollama:qwen3 --agent shopper --max-turns 10 \"Buy a laptop sleeve\"
  countersign agent --model openai:local --base-url http://127.0.0.1:8080/v1/ --agent shopper \"…\"
Keys come from ANTHROPIC_API_KEY, OPENAI_API_KEY and GEMINI_API_KEY; Ollama asks for none.
The model has the rights of the agent's certificates and no more. docs/CLIENTS.md says more.")]
pub struct Args {
    /// The model, as PROVIDER:MODEL; the providers are anthropic, openai, gemini and ollama.
    #[arg(long, value_name = "PROVIDER:MODEL")]
    model: ModelName,
    /// The agent that the model is to be.
    #[arg(long)]
    agent: AgentName,
    /// A server that speaks as the provider does, in place of the provider's own.
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Questions to the model, at most.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    max_turns: u32,
    /// Do not ask before money moves.
    #[arg(long)]
    yes: bool,
    /// What is to be done.
    task: String,
}

pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    // What is wrong with the configuration is said once, and not by the bridge.
    connect::route(context, args.agent.clone())?;
    let order = Order {
        model: args.model,
        base_url: args.base_url,
        task: args.task,
        turns_max: args.max_turns,
        asking: if args.yes { Asking::Never } else { Asking::BeforeMoneyMoves },
        form: if context.json { Form::JsonLines } else { Form::Text },
    };
    let failed = |error: std::io::Error| Failure::fault("runtime_failed", error.to_string(), "check process limits");
    let program = std::env::current_exe().map_err(failed)?;
    let state = context.state.root().display().to_string();
    let arguments = ["connect", "--agent", args.agent.as_str(), "--state", &state].map(str::to_owned);
    // What the bridge says to people goes where ours goes.
    let log = File::from(std::io::stderr().as_fd().try_clone_to_owned().map_err(failed)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    let ended = runtime.block_on(async {
        let bank = StdioClient::start(&program, &arguments, log).await?;
        let ended = agent::work(&order, &bank).await;
        bank.close().await;
        ended
    });
    // A thread that still waits for a person must not keep the process.
    runtime.shutdown_background();
    ended
}
