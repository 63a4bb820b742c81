//! The signing service: signatures over its socket, through policy and audit, against the raw loop of the same run; and how
//! many items one slow HSM signs a second when a tree of them takes one signature.
//!
//! A real daemon as `countersign init` makes it, with its SoftHSM2 token, store and log on this file system; callers are
//! threads of this process, each with a connection that it keeps. The raw loop is C_Sign alone on the same token.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::directory::{Directory, unusable};
use super::figures::{Goal, Spread, figure, lines};
use super::served::{failed, init, started, stop};
use super::stop::Stop;
use crate::config::Config;
use crate::hsm::measure::RawWorker;
use crate::hsm::provision;
use crate::kernel::types::Sha256;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::signing::client::Client;

/// A signature of the slow module, and how many it makes a second by that.
const DELAY: Duration = Duration::from_millis(10);
const DELAYED_PER_SECOND: f64 = 100.0;
/// Callers of the slow module: enough that it always has something to sign.
const DELAY_CALLERS: u32 = 8;
/// Not measured: the first requests of each connection.
const WARM_UP: Duration = Duration::from_millis(500);
const GOAL_SHARE: f64 = 0.6;
const GOAL_MERKLE: f64 = 0.9;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    pub program: PathBuf,
    pub module: PathBuf,
    /// The fault shim, which makes a module slow. None: that part is left out.
    pub delay_module: Option<PathBuf>,
    pub callers: u32,
    pub rounds: u32,
    /// Seconds of each measurement.
    pub seconds: f64,
    /// Items of one Merkle request.
    pub items: u32,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub callers: u32,
    /// C_Sign a second, on two threads.
    pub raw_per_second: Spread,
    /// Signatures a second over the socket, each with an idempotency key: two commits.
    pub kept_per_second: Spread,
    /// The same without one: one commit.
    pub plain_per_second: Spread,
    /// Of the raw loop that was measured right before it.
    pub kept_share: Spread,
    pub plain_share: Spread,
    /// Items of one Merkle request, and items a second, with a module that makes 100 signatures a second.
    pub merkle_items: u32,
    pub merkle_per_second: Option<Spread>,
    pub goals: Vec<Goal>,
}

/// Measures.
///
/// # Errors
/// `bench_failed`, `bench_stopped`, and whatever kept the daemon from starting.
pub fn run(plan: &Plan, tell: &dyn Fn(&str)) -> Result<Report, Failure> {
    if plan.callers == 0 || plan.rounds == 0 || plan.items == 0 || !(0.1..=60.0).contains(&plan.seconds) {
        return Err(super::invalid("--callers, --rounds and --items must be at least 1, --seconds 0.1 to 60"));
    }
    let stop = Stop::on_signals()?;
    let time = Duration::from_secs_f64(plan.seconds);
    tell("a party with a signing service");
    let site = Site::open(plan, &plan.module, None)?;
    let raw = site.raw()?;
    let (mut raws, mut kept, mut plain) = (vec![], vec![], vec![]);
    let (mut kept_shares, mut plain_shares) = (vec![], vec![]);
    site.load(plan.callers, WARM_UP, &stop, &file)?;
    for round in 1..=plan.rounds {
        tell(&format!("round {round} of {}", plan.rounds));
        for (rates, shares, ask) in
            [(&mut kept, &mut kept_shares, &kept_file as &Ask), (&mut plain, &mut plain_shares, &file as &Ask)]
        {
            raw.begin(2, time)?;
            let alone = raw.measured(time)?.rate();
            stop.check()?;
            let ours = site.load(plan.callers, time, &stop, ask)?;
            raws.push(alone);
            rates.push(ours);
            shares.push(ours / alone);
        }
    }
    drop(raw);
    drop(site);
    let merkle = match &plan.delay_module {
        Some(shim) => {
            tell("a module that takes 10 ms a signature");
            Some(slow(plan, shim, time, &stop)?)
        }
        None => None,
    };
    let mut report = Report {
        callers: plan.callers,
        raw_per_second: Spread::of(raws),
        kept_per_second: Spread::of(kept),
        plain_per_second: Spread::of(plain),
        kept_share: Spread::of(kept_shares),
        plain_share: Spread::of(plain_shares),
        merkle_items: plan.items,
        merkle_per_second: merkle,
        goals: vec![],
    };
    report.judge();
    Ok(report)
}

impl Report {
    fn judge(&mut self) {
        let callers = self.callers;
        let what = format!("signatures over the socket at {callers} callers, of the raw loop");
        self.goals.push(Goal::at_least(what, self.plain_share.median, GOAL_SHARE));
        let what = format!("the same with an idempotency key at {callers} callers");
        self.goals.push(Goal::at_least(what, self.kept_share.median, GOAL_SHARE));
        let per_batch = f64::from(self.merkle_items) * DELAYED_PER_SECOND;
        let what = format!("Merkle items a second, of {} × 100", self.merkle_items);
        let share = self.merkle_per_second.as_ref().map_or(0.0, |rate| rate.median / per_batch);
        let goal = Goal::at_least(what, share, GOAL_MERKLE);
        self.goals.push(match self.merkle_per_second {
            Some(_) => goal,
            None => goal.without_measurement("give --delay-module"),
        });
    }

    /// The report in words.
    pub fn text(&self) -> String {
        let mut text = format!("{} callers at the signing service, SQLite, SoftHSM2\n", self.callers);
        text += &figure("C_Sign alone, two threads", &self.raw_per_second, "1/s");
        text += &figure("signatures, with an idempotency key", &self.kept_per_second, "1/s");
        text += &figure("signatures, without one", &self.plain_per_second, "1/s");
        if let Some(rate) = &self.merkle_per_second {
            text += &figure("Merkle items, 100 signatures a second", rate, "1/s");
        }
        format!("{text}\n{}", lines(&self.goals))
    }
}

fn slow(plan: &Plan, shim: &Path, time: Duration, stop: &Stop) -> Result<Spread, Failure> {
    let site = Site::open(plan, &plan.module, Some(shim))?;
    let items = plan.items;
    let ask = move |number: u64| merkle(number, items);
    site.load(DELAY_CALLERS, WARM_UP, stop, &ask)?;
    let mut rates = vec![];
    for _ in 0..plan.rounds {
        rates.push(site.load(DELAY_CALLERS, time.max(Duration::from_secs(1)), stop, &ask)? * f64::from(plan.items));
        stop.check()?;
    }
    Ok(Spread::of(rates))
}

/// What the `number`th request asks for, and where.
type Ask = dyn Fn(u64) -> (&'static str, Value) + Sync;

fn item(number: u64) -> Value {
    json!({ "kind": "file", "sha256": Sha256::of(&[&number.to_be_bytes()]), "size": 1 })
}

fn file(number: u64) -> (&'static str, Value) {
    ("/v1/sign", json!({ "key": "bench", "item": item(number) }))
}

fn kept_file(number: u64) -> (&'static str, Value) {
    ("/v1/sign", json!({ "key": "bench", "idempotency_key": format!("{number}"), "item": item(number) }))
}

fn merkle(number: u64, items: u32) -> (&'static str, Value) {
    let items: Vec<Sha256> = (0..items).map(|one| Sha256::of(&[&number.to_be_bytes(), &one.to_be_bytes()])).collect();
    ("/v1/sign/merkle", json!({ "key": "bench", "items": items }))
}

/// A party at work, with its own directory.
struct Site {
    program: PathBuf,
    daemon: Child,
    state: StateDir,
    token_name: String,
    /// So that no number is asked for twice.
    asked: AtomicU64,
    _directory: Directory,
}

impl Site {
    fn open(plan: &Plan, module: &Path, shim: Option<&Path>) -> Result<Self, Failure> {
        let directory = Directory::make(&std::env::temp_dir())?;
        let state = StateDir::new(directory.path().join("party"));
        init(&plan.program, module, "security-company", &state)?;
        command(&plan.program, &state, &["key", "generate", "--purpose", "external", "--name", "bench"])?;
        let path = state.config();
        let mut text = std::fs::read_to_string(&path).map_err(|error| unusable(&path, &error))?;
        if let Some(shim) = shim {
            text = slowed(&text, module, shim, &directory)?;
        }
        let own = rustix::process::geteuid().as_raw();
        text += &format!(
            "\n[signing.limits]\nconnections_of_one_max = 1024\nconnections_max = 1024\n\
             [[signing.key]]\nname = \"bench\"\nkinds = [\"file\", \"batch\"]\ncallers = [\"{own}\"]\n\
             per_second = 10000000\nburst = 10000000\n"
        );
        std::fs::write(&path, text).map_err(|error| unusable(&path, &error))?;
        if shim.is_some() {
            // The token is the same behind another module.
            command(&plan.program, &state, &["init", "--kind", "security-company", "--accept-module"])?;
        }
        let config = Config::load(&state)?;
        let token_name = config.hosted().1.token.clone();
        let daemon = started(&plan.program, &state)?;
        Ok(Self {
            program: plan.program.clone(),
            daemon,
            state,
            token_name,
            asked: AtomicU64::new(0),
            _directory: directory,
        })
    }

    fn raw(&self) -> Result<RawWorker, Failure> {
        let config = Config::load(&self.state)?;
        let identity = provision::expected(&self.state, &self.token_name)?.identity;
        let identity = identity.ok_or_else(|| failed(&"the token has no identity key"))?;
        RawWorker::start(&self.program, &self.state, &self.token_name, config.hosted().2, identity)
    }

    /// So many callers in closed loops; requests a second.
    fn load(&self, callers: u32, time: Duration, stop: &Stop, ask: &Ask) -> Result<f64, Failure> {
        let socket = self.state.resolve("run/sign.sock");
        let begun = Instant::now();
        let work = || -> Result<u64, Failure> {
            let mut client = Client::connect(&socket)?;
            let mut done = 0;
            while begun.elapsed() < time && !stop.asked() {
                let (path, body) = ask(self.asked.fetch_add(1, Ordering::Relaxed));
                let answered = client.ask("POST", path, body.to_string().as_bytes())?;
                if answered.status != 200 {
                    answered.value()?;
                }
                done += 1;
            }
            Ok(done)
        };
        let all = std::thread::scope(|scope| {
            let working: Vec<_> = (0..callers).map(|_| scope.spawn(work)).collect();
            let done = working.into_iter().map(|one| one.join().unwrap_or_else(|_| Err(failed(&"a caller ended"))));
            done.collect::<Result<Vec<u64>, Failure>>()
        })?;
        Ok(all.iter().sum::<u64>() as f64 / begun.elapsed().as_secs_f64())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = stop(&mut self.daemon);
    }
}

/// One command of the program on this state directory.
fn command(program: &Path, state: &StateDir, words: &[&str]) -> Result<(), Failure> {
    let output = Command::new(program)
        .args(words)
        .arg("--state")
        .arg(state.root())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(&error))?;
    if output.status.success() { Ok(()) } else { Err(failed(&String::from_utf8_lossy(&output.stderr))) }
}

/// The configuration with the slow module: one session, so that it makes 100 signatures a second, of which checkpoints take
/// one.
fn slowed(text: &str, module: &Path, shim: &Path, directory: &Directory) -> Result<String, Failure> {
    let control = directory.path().join("shim");
    let orders = format!("module {}\nsign-takes {}\n", module.display(), DELAY.as_micros());
    super::directory::private_directory(&control)
        .and_then(|()| std::fs::write(control.join("orders"), orders))
        .map_err(|error| unusable(&control, &error))?;
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| failed(&error))?;
    let shim = std::path::absolute(shim).unwrap_or_else(|_| shim.to_owned());
    let hsm = table.get_mut("hsm").and_then(toml::Value::as_table_mut);
    for (_, token) in hsm.into_iter().flatten() {
        let Some(token) = token.as_table_mut() else { continue };
        token.insert("module".into(), shim.display().to_string().into());
        token.insert("workers".into(), 1_i64.into());
        token.insert("sessions".into(), 1_i64.into());
        let env = token.entry("env").or_insert_with(|| toml::Table::new().into());
        if let Some(env) = env.as_table_mut() {
            env.insert("PKCS11_SHIM_CONTROL".into(), control.display().to_string().into());
        }
    }
    if let Some(audit) = table.get_mut("audit").and_then(toml::Value::as_table_mut) {
        audit.insert("checkpoint_interval_ms".into(), 1000_i64.into());
    }
    Ok(table.to_string())
}
