//! Many connections at once: what each takes of the bank's memory, and that every one of them still answers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::dial::{self, Ask, Order, Said};
use super::stage::Stage;
use crate::bench::figures::Goal;
use crate::bench::served::failed;
use crate::ops::failure::Failure;

const KB_MAX: f64 = 36.0;
/// Opened before memory is looked at: threads, allocator and caches have what they need then.
const WARM_UP_MAX: u32 = 500;
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_POLL: Duration = Duration::from_millis(20);

/// All connections of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Many {
    /// Less where the system allows this process fewer files.
    pub asked: u32,
    pub opened: u32,
    pub answered: u32,
    /// Of this process, the server's: resident memory that came with each connection.
    pub idle_kb: f64,
    /// The same after one call on each.
    pub called_kb: f64,
    /// From the first to the last one.
    pub opened_per_second: f64,
    pub called_per_second: f64,
}

/// # Errors
/// `bench_stopped`, `bench_failed`
pub(super) fn measure(stage: &Stage<'_>) -> Result<Many, Failure> {
    let files = dial::all_files().saturating_sub(dial::OTHER_FILES);
    let all = stage.plan.many.min(u32::try_from(files).unwrap_or(u32::MAX));
    (stage.tell)(&format!("{all} connections at once"));
    stage.stop.check()?;
    let mut clients = Clients::start(stage)?;
    let warm_up = (all / 20).clamp(1, WARM_UP_MAX);
    let warm = clients.ask(Ask::Open(warm_up))?.done;
    settled(stage, |open| open >= warm as usize)?;
    let (before, begun) = (resident_kb()?, Instant::now());
    let opened = clients.ask(Ask::Open(all - warm_up))?.done;
    let opening = begun.elapsed().as_secs_f64();
    settled(stage, |open| open >= (warm + opened) as usize)?;
    let each = |now: f64| (now - before) / f64::from(opened.max(1));
    let idle_kb = each(resident_kb()?);
    stage.stop.check()?;
    let begun = Instant::now();
    let answered = clients.ask(Ask::Call)?.done;
    let calling = begun.elapsed().as_secs_f64();
    let called_kb = each(resident_kb()?);
    drop(clients);
    settled(stage, |open| open == 0)?;
    Ok(Many {
        asked: stage.plan.many,
        opened: warm + opened,
        answered,
        idle_kb,
        called_kb,
        opened_per_second: f64::from(opened) / opening,
        called_per_second: f64::from(answered) / calling,
    })
}

/// Clients are done before their server is: waits until it has as many connections.
fn settled(stage: &Stage<'_>, is_it: impl Fn(usize) -> bool) -> Result<(), Failure> {
    let begun = Instant::now();
    while !is_it(stage.site.bank.services.connections.count()) {
        if begun.elapsed() > SETTLE_LIMIT {
            return Err(failed(&"the bank does not have the connections that its clients have"));
        }
        std::thread::sleep(SETTLE_POLL);
    }
    Ok(())
}

/// Of this process, in 1,000 bytes.
fn resident_kb() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| failed(&error))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix(" kB"));
    let kib: Option<f64> = line.and_then(|kib| kib.trim().parse().ok());
    // What it calls kB are 1,024 bytes.
    kib.map(|kib| kib * 1.024).ok_or_else(|| failed(&"the system does not say what memory is resident"))
}

/// The process that has the clients. It ends with this.
struct Clients {
    process: Child,
    asks: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
}

impl Clients {
    fn start(stage: &Stage<'_>) -> Result<Self, Failure> {
        let mut process = Command::new(&stage.plan.program)
            .args(["bench", "dial"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for whoever measures, and ends this one in its turn.
            .process_group(0)
            .spawn()
            .map_err(|error| failed(&error))?;
        let (Some(asks), Some(says)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(failed(&"a process without pipes"));
        };
        let mut clients = Self { process, asks: Some(asks), says: BufReader::new(says) };
        let (address, root) = (stage.address, stage.root.clone());
        clients.write(&Order { address, root, agents: stage.open_keys()? })?;
        Ok(clients)
    }

    fn write(&mut self, order: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(order).map_err(|error| failed(&error))?;
        let asks = self.asks.as_mut().ok_or_else(|| failed(&"the clients were ended"))?;
        writeln!(asks, "{text}").map_err(|error| failed(&error))
    }

    /// Waits for it to be done.
    ///
    /// # Errors
    /// `bench_failed` with the first connection that did not do it.
    fn ask(&mut self, ask: Ask) -> Result<Said, Failure> {
        self.write(&ask)?;
        let mut said = String::new();
        self.says.read_line(&mut said).map_err(|error| failed(&error))?;
        let said: Said = serde_json::from_str(&said).map_err(|_| failed(&"the clients ended: see what they said"))?;
        match &said.first_failure {
            Some(first) => Err(failed(&format!("{} connections, the first: {first}", said.failed))),
            None => Ok(said),
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.asks = None;
        let _ = self.process.wait();
    }
}

impl Many {
    pub(super) fn goals(&self) -> Vec<Goal> {
        vec![
            Goal::at_most(format!("memory of each of {} connections", self.opened), self.idle_kb, KB_MAX, "KB"),
            Goal::at_least(
                "connections that were opened and answered".into(),
                f64::from(self.answered),
                f64::from(self.asked),
            ),
        ]
    }

    pub(super) fn text(&self) -> String {
        let fewer = match self.opened < self.asked {
            true => format!("; {} were asked for: raise the limit of open files (ulimit -Hn)", self.asked),
            false => String::new(),
        };
        format!(
            "{} connections of another process{fewer}\n\
             {:<52} {:>10.2} KB\n{:<52} {:>10.2} KB\n{:<52} {:>10.2} /s\n{:<52} {:>10.2} /s\n",
            self.opened,
            "memory of a connection",
            self.idle_kb,
            "the same after a call",
            self.called_kb,
            "opened",
            self.opened_per_second,
            "a balance on each",
            self.called_per_second,
        )
    }
}
