//! The supervisor as its worker sees it: hands over a PIN for one login at a time, and ends the worker by going away.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use secrecy::SecretString;

use super::orphan;
use crate::hsm::channel::{Channel, Packet};
use crate::hsm::messages::{self, WorkerReport};
use crate::ops::failure::Failure;

/// The control channel after the orders came over it.
#[derive(Debug)]
pub struct Superior {
    channel: Arc<Channel>,
    pins: Mutex<Receiver<Packet>>,
    /// Closed when the supervisor is gone, so that the reading thread comes back.
    service: Arc<OnceLock<UnixStream>>,
}

impl Superior {
    /// Begins to listen. When the supervisor goes away, `service` ends and this process has little time left.
    ///
    /// # Errors
    /// `no_supervisor` when no thread can be started.
    pub fn listen(channel: Arc<Channel>) -> Result<Arc<Self>, Failure> {
        let (sender, pins) = sync_channel(1);
        let service = Arc::new(OnceLock::new());
        let (source, ends) = (Arc::clone(&channel), Arc::clone(&service));
        let thread = std::thread::Builder::new().name("supervisor".into());
        thread.spawn(move || hear(&source, &sender, &ends)).map_err(|_| orphan())?;
        Ok(Arc::new(Self { channel, pins: Mutex::new(pins), service }))
    }

    /// Names the connection that ends with the supervisor.
    pub fn ends(&self, service: UnixStream) {
        // Named once, when the worker is ready to serve.
        let _ = self.service.set(service);
    }

    /// Asks for the PIN and waits for it: it comes when no other worker of this token is logging in, and never once
    /// it was refused.
    ///
    /// # Errors
    /// `no_supervisor` when it is gone.
    pub fn pin(&self) -> Result<SecretString, Failure> {
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        messages::send(&self.channel, &WorkerReport::LoginWanted, None).map_err(|_| orphan())?;
        let packet = pins.recv().map_err(|_| orphan())?;
        let pin = std::str::from_utf8(&packet.bytes).map_err(|_| orphan())?;
        Ok(SecretString::from(pin.to_owned()))
    }

    /// Tells it something. When it is gone, nobody needs to know.
    pub fn tell(&self, report: &WorkerReport) {
        let _ = messages::send(&self.channel, report, None);
    }
}

fn hear(channel: &Channel, pins: &SyncSender<Packet>, service: &OnceLock<UnixStream>) {
    while let Ok(Some(packet)) = channel.receive() {
        // A PIN that nobody asked for is dropped, and wiped with it.
        let _ = pins.try_send(packet);
    }
    if let Some(service) = service.get() {
        let _ = service.shutdown(Shutdown::Both);
    }
    super::end_by_force_later();
}
