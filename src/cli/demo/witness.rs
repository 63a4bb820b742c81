//! The security company's daemon as the bank's witness: a fixed port, as real parties have one, that is free here.
//!
//! The port stands in two configurations before anybody listens there. Until the daemon does, the story itself holds it; when
//! somebody else was faster all the same, both configurations get another one.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::stage::Stage;
use crate::ops::failure::Failure;

/// Ports that are tried at one start.
const PORTS_MAX: u32 = 8;
/// A cosignature comes within a second or two.
const COSIGNED_WAIT: Duration = Duration::from_secs(30);
const COSIGNED_LOOK: Duration = Duration::from_millis(200);

/// The way from the bank to its witness.
#[derive(Debug)]
pub struct Line {
    port: u16,
    /// Nobody else may have it while its daemon does not run.
    held: Option<TcpListener>,
}

impl Line {
    /// Takes a free port.
    ///
    /// # Errors
    /// `demo_port`
    pub fn lay() -> Result<Self, Failure> {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| no_port(&error))?;
        let port = held.local_addr().map_err(|error| no_port(&error))?.port();
        Ok(Self { port, held: Some(held) })
    }

    /// What `init --peer-listen` is told.
    pub fn listens_at(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What `init --peer-url` is told.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Holds the port while the daemons are stopped. Who is faster is found out when they start.
    pub fn hold(&mut self) {
        self.held = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).ok();
    }

    /// Starts the security company's daemon on the port, or on another one that both configurations then name. The bank's
    /// daemon must not run.
    ///
    /// # Errors
    /// As [`Stage::start`].
    pub fn start(&mut self, stage: &mut Stage) -> Result<Value, Failure> {
        let mut tried = 1;
        loop {
            self.held = None;
            match stage.start("secco") {
                Err(failure) if failure.name == "address_in_use" && tried < PORTS_MAX => tried += 1,
                ended => return ended,
            }
            let before = std::mem::replace(self, Self::lay()?);
            for (party, was, is) in
                [("secco", before.listens_at(), self.listens_at()), ("bank", before.url(), self.url())]
            {
                let path = stage.state(party).join("countersign.toml");
                if path.exists() {
                    rewritten(&path, &was, &is)?;
                }
            }
        }
    }
}

/// The receipt of a transaction that the witness has cosigned, too, in this file.
///
/// # Errors
/// `demo_not_cosigned`; the command's.
pub fn cosigned_receipt(stage: &mut Stage, transaction: &str, file: &str) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        stage.ask("bank", Some("auditor"), &["receipt", "show", transaction, "--out", file])?;
        let receipt: Value =
            fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        if receipt["log"]["cosignatures"].as_array().is_some_and(|lines| !lines.is_empty()) {
            return Ok(());
        }
        if began.elapsed() > COSIGNED_WAIT {
            return Err(Failure::fault(
                "demo_not_cosigned",
                format!("the witness has not cosigned the receipt within {} s", COSIGNED_WAIT.as_secs()),
                "see the daemon.log of the bank and of secco",
            ));
        }
        sleep(COSIGNED_LOOK);
    }
}

fn rewritten(path: &PathBuf, was: &str, is: &str) -> Result<(), Failure> {
    let text = fs::read_to_string(path).and_then(|text| fs::write(path, text.replace(was, is)));
    text.map_err(|error| Failure::fault("demo_file", format!("{}: {error}", path.display()), "check --dir"))
}

fn no_port(error: &std::io::Error) -> Failure {
    Failure::fault("demo_port", format!("no port of this machine's own is free: {error}"), "see what listens there")
}
