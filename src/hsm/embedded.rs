//! A token on real workers without a front process: the keeper runs on a thread of the calling program.
//!
//! For integration tests and one-shot programs. The PIN is then in the calling process, so a daemon never uses it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::channel::Channel;
use super::client::{ControlHandle, WorkerPool};
use super::keeper::{Inbox, Keeper, KeeperEvent, WorkerPlan};
use super::messages::{self, FrontMessage, SupervisorMessage};
use super::settings::HsmSettings;
use super::{pin, provision};
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

/// Owns the keeper's thread. Dropping it (after the pool) stops the worker.
#[derive(Debug)]
pub struct Embedded {
    pool: Option<Arc<WorkerPool>>,
    _control: ControlHandle,
    started: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Starts a worker of `program hsm-worker` for a provisioned token, and waits until it is ready.
    ///
    /// # Errors
    /// Whatever kept the first worker from starting, by name.
    pub fn start(
        program: PathBuf,
        state: &StateDir,
        token_name: &str,
        settings: &HsmSettings,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::fault("embedded_token_failed", error.to_string(), "check the process limits")
        };
        let plan = WorkerPlan {
            program,
            state: state.clone(),
            settings: settings.clone(),
            expected: provision::expected(state, token_name)?,
            pin: pin::read(state, token_name, settings)?,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let mut keeper = Keeper::new(plan);
        let started = keeper.started();
        let first = match runtime.block_on(keeper.event()) {
            KeeperEvent::Handover { worker, service } => (worker, service),
            KeeperEvent::Down(failure) => return Err(failure),
        };
        let (control, theirs) = Channel::pair().map_err(failed)?;
        let (pool, handle) = WorkerPool::attach(theirs, settings.workers, Duration::from_millis(settings.deadline_ms))?;
        let message = SupervisorMessage::Worker { worker: first.0 };
        messages::send(&control, &message, Some(std::os::fd::AsFd::as_fd(&first.1))).map_err(failed)?;
        drop(first);
        let work = move || runtime.block_on(attend(keeper, control));
        let thread = std::thread::Builder::new().name("hsm-keeper".into()).spawn(work).map_err(failed)?;
        Ok(Self { pool: Some(pool), _control: handle, started, thread: Some(thread) })
    }

    /// The token. Let go of every copy before this value is dropped: the worker stops when the last one is gone.
    pub fn pool(&self) -> Arc<WorkerPool> {
        // Taken in `drop` only.
        Arc::clone(self.pool.as_ref().expect("present until dropped"))
    }

    /// Workers started so far, the first included.
    pub fn workers_started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // With the last copy of the pool its control socket closes, and the keeper stops the worker. With copies
        // left elsewhere, waiting here could last for ever.
        let last = self.pool.take().is_some_and(|pool| Arc::into_inner(pool).is_some());
        if let Some(thread) = self.thread.take().filter(|_| last) {
            let _ = thread.join();
        }
    }
}

async fn attend(mut keeper: Keeper, control: Channel) {
    let mut control = match Inbox::open(control) {
        Ok(control) => control,
        Err(error) => return tracing::error!(%error, "the embedded keeper cannot listen"),
    };
    loop {
        tokio::select! {
            event = keeper.event() => {
                let sent = match event {
                    KeeperEvent::Handover { worker, service } => {
                        let service = std::os::fd::AsFd::as_fd(&service);
                        messages::send(&control.channel(), &SupervisorMessage::Worker { worker }, Some(service))
                    }
                    KeeperEvent::Down(failure) => {
                        messages::send(&control.channel(), &SupervisorMessage::WorkerDown { failure }, None)
                    }
                };
                if let Err(error) = sent {
                    tracing::warn!(%error, "the pool could not be told");
                }
            }
            packet = control.receive() => match packet {
                Some(packet) => match messages::parse(packet) {
                    Ok((FrontMessage::Kill { worker, reason }, _)) => keeper.kill(worker, &reason),
                    Ok((FrontMessage::Ready { .. } | FrontMessage::Failed(_), _)) | Err(_) => {}
                },
                None => break,
            },
        }
    }
    keeper.stop().await;
}
