//! Calls on connections that are there, beside strangers who connect all the time and an HSM that takes its time.
//!
//! The HSM is the bank's SoftHSM2 with 10 ms added to each signature of a handshake; other signatures are as fast as ever.
//! One after the other, a storm takes every turn that it has: what is left of the calls' rate shows whether they
//! wait for it. All at once, a storm also takes processor time, which no server gives twice: the calls are then
//! compared with what handshakes of that number leave of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768;
use serde::Serialize;

use super::handshakes::{self, Dialler};
use super::load::{self, Asked};
use super::over;
use super::stage::Stage;
use crate::bench::figures::{Goal, Spread, figure};
use crate::bench::site::limits;
use crate::hsm::{HsmFault, Op, Reply, Token};
use crate::ops::failure::Failure;

const RATIO_MIN: f64 = 0.9;
const DELAY: Duration = Duration::from_millis(10);
/// Strangers at once.
const AT_ONCE: u32 = 64;

/// Balances and handshakes a second.
#[derive(Clone, Debug, Serialize)]
pub struct Storm {
    pub delay_ms: u64,
    pub at_once: u32,
    /// Without a storm.
    pub per_second: Spread,
    /// The HSM signs one after the other.
    pub one_by_one: Beside,
    /// As many as ask.
    pub all_at_once: Beside,
    /// Handshakes with nothing beside them and no delay.
    pub handshakes_alone_per_second: Spread,
    /// Against what the handshakes leave of the processors' time.
    pub left_ratio: Spread,
}

/// With a storm.
#[derive(Clone, Debug, Serialize)]
pub struct Beside {
    pub per_second: Spread,
    pub handshakes_per_second: Spread,
    pub ratio: Spread,
}

/// The HSM takes longer than it does.
struct Slow {
    token: Arc<dyn Token>,
    /// Guards nothing: whoever has it is signed for, where signatures are made one after the other.
    turn: Option<Mutex<()>>,
}

impl Token for Slow {
    fn call(&self, op: Op) -> Result<Reply, HsmFault> {
        if let Op::Sign { .. } = op {
            let _turn = self.turn.as_ref().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
            std::thread::sleep(DELAY);
        }
        self.token.call(op)
    }
}

/// Calls and handshakes a second.
struct Round {
    alone: f64,
    handshakes: f64,
    one_by_one: (f64, f64),
    all_at_once: (f64, f64),
}

/// # Errors
/// `bench_stopped`, `bench_failed`
pub(super) fn measure(stage: &Stage<'_>) -> Result<Storm, Failure> {
    let listen = |turn: Option<Mutex<()>>| {
        let slow = Arc::new(Slow { token: stage.site.bank.services.token(), turn });
        stage.site.listen_as(stage.site.bank.authority.tls_identity()?, slow, limits())
    };
    let (one_by_one, all_at_once) = (listen(Some(Mutex::default()))?, listen(None)?);
    let agents = stage.open_keys()?;
    let strangers = |address| -> Result<Vec<Dialler>, Failure> {
        agents.iter().map(|agent| Dialler::new(agent, &stage.root, address, X25519MLKEM768)).collect()
    };
    let unhindered = strangers(stage.address)?;
    let mut rounds = vec![];
    for round in 1..=stage.plan.rounds {
        (stage.tell)(&format!("storm, round {round} of {}", stage.plan.rounds));
        let lines = stage.lines(stage.plan.connections)?;
        let alone = stage.closed_loop(&lines, Asked::Balance, "calm")?.per_second;
        stage.stop.check()?;
        let handshakes = handshakes::closed_loop(&stage.strangers, &unhindered, AT_ONCE, stage.time());
        let handshakes = stage.runtime.block_on(handshakes)?;
        let beside = |address| -> Result<(f64, f64), Failure> {
            stage.stop.check()?;
            let (lines, strangers) = (stage.lines_to(address, stage.plan.connections)?, strangers(address)?);
            stage.runtime.block_on(async {
                let lines = load::connected(&lines).await?;
                let calls = load::turns(lines, Asked::Balance, stage.time(), "storm");
                let (calls, storm) =
                    tokio::join!(calls, handshakes::closed_loop(&stage.strangers, &strangers, AT_ONCE, stage.time()));
                Ok((calls?.1.per_second, storm?))
            })
        };
        let (one_by_one, all_at_once) = (beside(one_by_one.1)?, beside(all_at_once.1)?);
        rounds.push(Round { alone, handshakes, one_by_one, all_at_once });
    }
    stage.runtime.block_on(async {
        one_by_one.0.stop().await;
        all_at_once.0.stop().await;
    });
    let beside = |of: fn(&Round) -> (f64, f64)| Beside {
        per_second: over(&rounds, |round| of(round).0),
        handshakes_per_second: over(&rounds, |round| of(round).1),
        ratio: over(&rounds, |round| of(round).0 / round.alone),
    };
    Ok(Storm {
        delay_ms: u64::try_from(DELAY.as_millis()).unwrap_or(u64::MAX),
        at_once: AT_ONCE,
        per_second: over(&rounds, |round| round.alone),
        one_by_one: beside(|round| round.one_by_one),
        all_at_once: beside(|round| round.all_at_once),
        handshakes_alone_per_second: over(&rounds, |round| round.handshakes),
        left_ratio: over(&rounds, Round::left_ratio),
    })
}

impl Round {
    fn left_ratio(&self) -> f64 {
        let (calls, handshakes) = self.all_at_once;
        calls / (self.alone * (1.0 - handshakes / self.handshakes).max(0.01))
    }
}

impl Storm {
    pub(super) fn goals(&self) -> Vec<Goal> {
        vec![
            Goal::at_least("calls beside a storm, against none".into(), self.one_by_one.ratio.median, RATIO_MIN),
            Goal::at_least("the same, against what its handshakes leave".into(), self.left_ratio.median, RATIO_MIN),
        ]
    }

    pub(super) fn text(&self) -> String {
        let about = format!(
            "a storm: {} strangers connect again and again; a handshake's signature takes {} ms more\n",
            self.at_once, self.delay_ms
        );
        [
            about,
            figure("balances with no storm", &self.per_second, "/s"),
            figure("signed one by one: balances", &self.one_by_one.per_second, "/s"),
            figure("signed one by one: handshakes", &self.one_by_one.handshakes_per_second, "/s"),
            figure("signed all at once: balances", &self.all_at_once.per_second, "/s"),
            figure("signed all at once: handshakes", &self.all_at_once.handshakes_per_second, "/s"),
            figure("handshakes with nothing beside them, no delay", &self.handshakes_alone_per_second, "/s"),
        ]
        .concat()
    }
}
