//! `countersign hsm-worker`: the only process that loads a vendor module.
//!
//! Started by a supervisor, which is its standard input: first the orders with the socket to serve, then a PIN each
//! time it asks for one. When that socket ends, or the supervisor does, it joins its threads, finalizes the module and
//! exits.

mod attributes;
mod desk;
mod keyring;
mod keys;
mod login;
mod oaep;
mod provision;
mod raw;
mod reserved;
mod sealing;
mod serve;
mod signing;
mod superior;
mod token;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use superior::Superior;

use super::channel::Channel;
use super::messages::{self, WorkerJob, WorkerOrders, WorkerReport};
use super::supervisor;
use crate::ops::failure::Failure;

/// What the command line started this worker for; the orders must agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Serve,
    Provision,
    Measure,
}

/// A module that hangs in its last calls is cut off after this time.
const END_LIMIT: Duration = Duration::from_secs(4);

/// Runs a worker to its end. Exit code 0: asked to end; else the code of the failure that was reported.
pub fn run(mode: Mode) -> ExitCode {
    let channel = match supervisor::make_undumpable().and_then(|()| Channel::from_stdin().map_err(|_| orphan())) {
        Ok(channel) => Arc::new(channel),
        Err(failure) => return refuse(&failure),
    };
    let outcome = obey(mode, &channel);
    let Err(failure) = outcome else {
        return ExitCode::SUCCESS;
    };
    // The supervisor may be gone; then nobody needs the reason.
    let _ = messages::send(&channel, &WorkerReport::Failed(failure.clone()), None);
    ExitCode::from(failure.kind.exit_code())
}

fn obey(mode: Mode, channel: &Arc<Channel>) -> Result<(), Failure> {
    let packet = channel.receive().ok().flatten().ok_or_else(orphan)?;
    let (orders, descriptor): (WorkerOrders, _) = messages::parse(packet).map_err(|_| orphan())?;
    match (&orders.job, mode) {
        (WorkerJob::Serve { identity }, Mode::Serve) => {
            let service = descriptor.ok_or_else(orphan)?;
            let superior = Superior::listen(Arc::clone(channel))?;
            serve::serve(&orders, *identity, service.into(), &superior)
        }
        (WorkerJob::Provision { token_name, pin_file }, Mode::Provision) => {
            let report = provision::provision(&orders, token_name, pin_file)?;
            messages::send(channel, &report, None).map_err(|_| orphan())
        }
        (WorkerJob::Measure { key }, Mode::Measure) => raw::measure(&orders, *key, channel),
        (WorkerJob::Serve { .. }, Mode::Provision | Mode::Measure)
        | (WorkerJob::Provision { .. }, Mode::Serve | Mode::Measure)
        | (WorkerJob::Measure { .. }, Mode::Serve | Mode::Provision) => Err(orphan()),
    }
}

fn orphan() -> Failure {
    Failure::usage(
        "no_supervisor",
        "an HSM worker needs the supervisor that starts it",
        "run `countersign serve` or `countersign init`; they start workers themselves",
    )
}

fn refuse(failure: &Failure) -> ExitCode {
    eprintln!("{failure}; {}", failure.next_step);
    ExitCode::from(failure.kind.exit_code())
}

/// From now on the process has a limited time to end by itself.
fn end_by_force_later() {
    std::thread::spawn(|| {
        std::thread::sleep(END_LIMIT);
        // Not `exit`: a module's exit handlers crash while its threads still run.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    });
}
