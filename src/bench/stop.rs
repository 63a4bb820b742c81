//! Ctrl-C ends a measurement early; what it made is still removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::ops::failure::Failure;

/// Whether the reader has had enough.
#[derive(Clone, Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens to SIGINT and SIGTERM from now on.
    ///
    /// # Errors
    /// `bench_failed` when signals cannot be caught.
    pub fn on_signals() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::fault("bench_failed", error.to_string(), "check the limits");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?)
        };
        let asked = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&asked);
        // Not joined: it ends with the process.
        let listen = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            told.store(true, Ordering::Relaxed);
        };
        std::thread::Builder::new().name("bench-signals".into()).spawn(listen).map_err(failed)?;
        Ok(Self(asked))
    }

    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// `bench_stopped` once it was asked for.
    pub fn check(&self) -> Result<(), Failure> {
        if self.asked() {
            return Err(Failure::fault("bench_stopped", "stopped before everything was measured", "run it again"));
        }
        Ok(())
    }
}
