//! What all parts are measured on: three parties, the bank's listener, a bare server, and agents that may pay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::Plan;
use super::bare::Bare;
use super::load::{Asked, Measured, closed_loop};
use crate::bench::line::Line;
use crate::bench::served::failed;
use crate::bench::site::Site;
use crate::bench::stop::Stop;
use crate::bench::synthetic::{self, OpenKey, SyntheticAgents};
use crate::front::listener::Listener;
use crate::hsm::{CertifiedKey, Token};
use crate::ops::failure::Failure;

/// The parties at work. Made on the runtime that was entered.
pub(super) struct Stage<'a> {
    pub(super) plan: &'a Plan,
    pub(super) stop: &'a Stop,
    pub(super) runtime: &'a Runtime,
    /// Where those work who only shake hands: they take no turn from connections that are there.
    pub(super) strangers: Runtime,
    pub(super) tell: &'a (dyn Fn(&str) + Sync),
    pub(super) site: &'a Site,
    /// The bank's root, DER.
    pub(super) root: Vec<u8>,
    pub(super) address: SocketAddr,
    listener: Listener,
    bare: Bare,
    keys: Arc<SyntheticAgents>,
    agents: Vec<CertifiedKey>,
}

/// Where clients and servers work.
///
/// # Errors
/// `bench_failed`
pub(super) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| failed(&error))
}

impl<'a> Stage<'a> {
    /// # Errors
    /// Whatever keeps an agent from being issued or a listener from starting.
    pub(super) fn set(
        plan: &'a Plan,
        site: &'a Site,
        runtime: &'a Runtime,
        stop: &'a Stop,
        tell: &'a (dyn Fn(&str) + Sync),
    ) -> Result<Self, Failure> {
        site.open_the_bank()?;
        let (host, keys) = synthetic::host_of(&site.host)?;
        let mut agents = vec![];
        for number in 0..plan.agents {
            let name = format!("caller-{number}");
            agents.push(site.enrolled_at(&host, &name)?.1);
            site.grant(&name)?;
        }
        let (listener, address) = site.listen()?;
        let (root, bare) = (site.root()?, Bare::start(site)?);
        let strangers = self::runtime()?;
        Ok(Self { plan, stop, runtime, strangers, tell, site, root, address, listener, bare, keys, agents })
    }

    /// How long one measurement takes.
    pub(super) fn time(&self) -> Duration {
        Duration::from_secs_f64(self.plan.seconds)
    }

    /// So many lines of the agents in turn, with access tokens, not yet connected.
    ///
    /// # Errors
    /// `bench_failed` when the bank gives no token.
    pub(super) fn lines(&self, count: u32) -> Result<Vec<Line>, Failure> {
        self.lines_to(self.address, count)
    }

    /// The same to another listener of the bank.
    ///
    /// # Errors
    /// As [`Self::lines`].
    pub(super) fn lines_to(&self, address: SocketAddr, count: u32) -> Result<Vec<Line>, Failure> {
        let mut own = vec![];
        for agent in &self.agents {
            let token = Arc::clone(&self.keys) as Arc<dyn Token>;
            let mut line = Line::of(token, agent, &self.root, address)?.in_memory();
            self.runtime.block_on(line.authorize()).map_err(|error| failed(&error))?;
            line.hang_up();
            own.push(line);
        }
        Ok(own.iter().cycle().take(count as usize).cloned().collect())
    }

    /// The same to the bare server.
    ///
    /// # Errors
    /// As [`Self::lines`].
    pub(super) fn bare_lines(&self, count: u32) -> Result<Vec<Line>, Failure> {
        Ok(self.lines(count)?.into_iter().map(|line| line.bare(self.bare.address)).collect())
    }

    /// Closed loops on these lines; `name` keeps the idempotency keys of each measurement apart.
    ///
    /// # Errors
    /// `bench_stopped`, `bench_failed`
    pub(super) fn closed_loop(&self, lines: &[Line], asked: Asked, name: &str) -> Result<Measured, Failure> {
        self.stop.check()?;
        self.runtime.block_on(closed_loop(lines, asked, self.time(), name))
    }

    /// The agents' keys with their pairs, for clients that are none of ours.
    ///
    /// # Errors
    /// `bench_failed`
    pub(super) fn open_keys(&self) -> Result<Vec<OpenKey>, Failure> {
        self.agents.iter().map(|agent| self.keys.opened(agent)).collect()
    }

    pub(super) fn agents(&self) -> &[CertifiedKey] {
        &self.agents
    }

    /// Stops the listener and judges the book.
    ///
    /// # Errors
    /// `bench_failed` when the log stands still or the book does not balance.
    pub(super) fn strike(self) -> Result<(), Failure> {
        self.runtime.block_on(self.listener.stop());
        self.site.bank.await_log()?;
        let check = self.site.bank.store.check(&mut |_| {})?;
        if !check.differences.is_empty() {
            return Err(failed(&format!("the book does not balance: {:?}", check.differences)));
        }
        Ok(())
    }
}
