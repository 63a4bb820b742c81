//! `countersign stop`: ends the daemon of a state directory and waits until it is gone.

use std::fs::{File, OpenOptions};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::context::Context;
use crate::ops::failure::Failure;

/// A daemon that is told to stop finishes what is in progress first.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Stop the daemon of this state directory, gracefully. Fine when none runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  countersign stop --state ./bank")]
pub struct Args {}

pub fn run(_: Args, context: &Context) -> Result<(), Failure> {
    // Whoever mistypes the directory must not believe that its daemon is down.
    if !context.state.config().exists() && !context.state.lock().exists() {
        return Err(Failure::usage(
            "config_missing",
            format!("there is no configuration at {}", context.state.config().display()),
            "name the state directory with --state",
        ));
    }
    let stopped = stop(context)?;
    context.print(&json!({ "stopped": stopped }), |_| {
        if stopped { "stopped".into() } else { "no daemon was running".into() }
    });
    Ok(())
}

/// True when a daemon was running and is gone now. The lock file holds its process id while it runs.
pub(crate) fn stop(context: &Context) -> Result<bool, Failure> {
    let path = context.state.lock();
    let Ok(lock) = OpenOptions::new().read(true).write(true).open(&path) else {
        return Ok(false);
    };
    if is_free(&lock) {
        return Ok(false);
    }
    let pid = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| {
        Failure::fault("daemon_unknown", format!("{} names no process", path.display()), "stop the daemon by hand")
    })?;
    kill_process(pid, Signal::TERM).map_err(|error| {
        Failure::fault("stop_failed", format!("process {pid:?}: {error}"), "stop it as the user that started it")
    })?;
    let deadline = Instant::now() + STOP_TIMEOUT;
    while !is_free(&lock) {
        if Instant::now() > deadline {
            return Err(Failure::busy("still_stopping", "the daemon has not ended yet", "see its log, then try again"));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(true)
}

fn is_free(lock: &File) -> bool {
    let free = flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok();
    if free {
        let _ = flock(lock, FlockOperation::Unlock);
    }
    free
}
