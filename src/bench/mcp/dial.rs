//! The clients of many connections, in a process of their own: whoever looks at the server's memory sees no client.
//!
//! Orders come on stdin, one JSON text a line; each is answered with one line on stdout. It ends with its stdin.

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::load;
use super::stage;
use crate::bench::line::Line;
use crate::bench::served::failed;
use crate::bench::synthetic::OpenKey;
use crate::ops::failure::Failure;

/// Connections that are made, or asked on, at once.
const AT_ONCE: usize = 64;

/// Files of a process that are no connections of these.
pub(super) const OTHER_FILES: u64 = 500;

/// Whom to call, as whom. The first line.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) address: SocketAddr,
    /// The bank's root, DER.
    pub(super) root: Vec<u8>,
    pub(super) agents: Vec<OpenKey>,
}

/// Every other line.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum Ask {
    /// So many connections more.
    Open(u32),
    /// A balance on each connection that is open.
    Call,
}

/// What came of it.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) done: u32,
    pub(super) failed: u32,
    pub(super) first_failure: Option<String>,
}

/// Serves stdin.
///
/// # Errors
/// `bench_failed` for a line that is no order, and when the bank gives no access token.
pub fn run() -> Result<(), Failure> {
    all_files();
    let runtime = stage::runtime()?;
    let mut asks = std::io::stdin().lock().lines();
    let mut line = move || asks.next().transpose().map_err(|error| failed(&error));
    let order = line()?.ok_or_else(|| failed(&"this verb is for `countersign bench mcp`, which starts it"))?;
    let order: Order = serde_json::from_str(&order).map_err(|error| failed(&error))?;
    let agents: Vec<Line> =
        order.agents.iter().map(|agent| authorized(&runtime, &order, agent)).collect::<Result<_, _>>()?;
    let mut open: Vec<Line> = vec![];
    while let Some(ask) = line()? {
        let said = match serde_json::from_str(&ask).map_err(|error| failed(&error))? {
            Ask::Open(count) => {
                let next = agents.iter().cycle().skip(open.len() % agents.len().max(1)).take(count as usize);
                let (connected, said) = runtime.block_on(each(next.cloned().collect(), Step::Connect));
                open.extend(connected);
                said
            }
            Ask::Call => {
                let (answered, said) = runtime.block_on(each(std::mem::take(&mut open), Step::Call));
                open = answered;
                said
            }
        };
        let said = serde_json::to_string(&said).map_err(|error| failed(&error))?;
        writeln!(std::io::stdout(), "{said}").map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn authorized(runtime: &tokio::runtime::Runtime, order: &Order, agent: &OpenKey) -> Result<Line, Failure> {
    let mut line = Line::of(agent.token()?, &agent.certified(), &order.root, order.address)?.in_memory();
    runtime.block_on(line.authorize()).map_err(|error| failed(&error))?;
    line.hang_up();
    Ok(line)
}

#[derive(Clone, Copy)]
enum Step {
    Connect,
    Call,
}

/// Takes a step with each; gives back those that did.
async fn each(lines: Vec<Line>, step: Step) -> (Vec<Line>, Said) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let tasks: Vec<_> = lines
        .into_iter()
        .map(|mut line| {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move {
                let _turn = turns.acquire().await.expect("the semaphore is never closed");
                match step {
                    Step::Connect => line.connect().await.map(drop).map_err(|error| failed(&error))?,
                    Step::Call => load::balance(&mut line).await?,
                }
                Ok::<_, Failure>(line)
            })
        })
        .collect();
    let (mut done, mut said) = (vec![], Said::default());
    for task in tasks {
        match task.await.map_err(|error| failed(&error)).and_then(|line| line) {
            Ok(line) => {
                done.push(line);
                said.done += 1;
            }
            Err(failure) => {
                said.failed += 1;
                said.first_failure.get_or_insert(failure.message);
            }
        }
    }
    (done, said)
}

/// Lets this process have as many files as it may; answers how many.
pub(super) fn all_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // It may keep what it has in any case.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
