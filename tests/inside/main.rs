//! The front from inside: can code that runs in the front process get at a PIN, a token or a key?
//!
//! A test binary with a main of its own, since the supervisor starts `/proc/self/exe front` and `hsm-worker`: as
//! front it is the product's front with an attacker in it, as worker and supervisor it is the product. Each check is
//! one line. Then the same against a front that leaks on purpose: a check that does not notice is a failure too.

mod attack;
mod daemon;
mod front;
mod search;
mod task;

use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};

use daemon::{Daemon, PATIENCE, World, abort};
use rustix::process::{Resource, Rlimit};
use search::{Found, Needle};
use task::{Check, Outcome, Task};

const LEAVE_A_CORE: &str = "--leave-a-core";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // Verbs with their first option: a bare word is a filter.
    match words[..] {
        ["front", "--state", ..] => return front::run(),
        ["hsm-worker"] | ["hsm-worker", "--provision"] | ["serve", "--offline", ..] | ["--version"] => {
            return countersign::cli::run();
        }
        [LEAVE_A_CORE] => return leave_a_core(),
        [..] => {}
    }
    // As a test harness does: words are filters, and this is one test.
    let filters: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    if arguments.iter().any(|word| word == "--list") {
        println!("inside: test");
        return ExitCode::SUCCESS;
    }
    if !filters.is_empty() && !filters.iter().any(|word| "inside".contains(word.as_str())) {
        println!("0 passed, 0 failed, 0 skipped");
        return ExitCode::SUCCESS;
    }
    let mut suite = Suite::default();
    if let Err(error) = whole(&mut suite) {
        suite.tell("the suite comes to its end", Outcome::Failed(error.to_string()));
    }
    println!("{} passed, {} failed, {} skipped", suite.passed, suite.failed, suite.skipped);
    if suite.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Suite {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Suite {
    fn tell(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Outcome::Passed => {
                self.passed += 1;
                println!("ok       {name}");
            }
            Outcome::Failed(how) => {
                self.failed += 1;
                println!("FAILED   {name}: {how}");
            }
            Outcome::Skipped(why) => {
                self.skipped += 1;
                println!("skipped  {name}: {why}");
            }
        }
    }
}

fn whole(suite: &mut Suite) -> io::Result<()> {
    suite.tell("a secret is found where it is, and only there", search_works());
    let world = World::new();
    suite.tell("a core dump is found where it falls, with the secret in it", core_of_a_crash(&world)?);
    front_as_it_is(suite, &world)?;
    front_that_leaks(suite, &world)?;
    supervisor_leaves_no_core(suite, &world)
}

fn front_as_it_is(suite: &mut Suite, world: &World) -> io::Result<()> {
    let daemon = Daemon::start(world, &world.cores, None)?;
    let needles = needles_of("the PIN", &world.pin());
    for check in attacked(&daemon, world, &needles)? {
        suite.tell(&check.name, check.outcome);
    }
    let [front] = daemon.children("front")[..] else {
        return Err(io::Error::other(format!("one front, not {:?}", daemon.children("front"))));
    };
    let outcome = match dump(world, front, &needles) {
        Ok(found) if found.hits.is_empty() => Outcome::Passed,
        Ok(found) => Outcome::Failed(found.hits.join("; ")),
        Err(why) => Outcome::Skipped(why),
    };
    suite.tell("a dump made by a debugger holds no secret", outcome);
    let workers = daemon.children("hsm-worker");
    for worker in &workers {
        suite.tell("a worker that aborts leaves no core", no_core(world, *worker));
    }
    suite.tell("the supervisor replaces it", replaced(&daemon, &workers));
    suite.tell("a front that aborts leaves no core", no_core(world, front));
    // Another one takes its place.
    daemon.stop()
}

fn front_that_leaks(suite: &mut Suite, world: &World) -> io::Result<()> {
    let decoy = hex::encode(countersign::ops::clock::random::<16>());
    let store = world.state.resolve("store");
    let daemon = Daemon::start(world, &store, Some(&decoy))?;
    let needles = needles_of("the decoy", decoy.as_bytes());
    let by_root = rustix::process::geteuid().is_root();
    for check in attacked(&daemon, world, &needles)? {
        let outcome = match check.outcome {
            Outcome::Failed(_) => Outcome::Passed,
            Outcome::Passed if check.name == attack::CORE_LIMIT => {
                Outcome::Skipped("without CAP_SYS_RESOURCE a limit that was given up does not come back".into())
            }
            Outcome::Passed if check.name == attack::PACKETS => continue,
            Outcome::Passed if by_root => Outcome::Failed("it passed on a front that leaks".into()),
            Outcome::Passed => Outcome::Skipped("without root this is refused to everyone".into()),
            Outcome::Skipped(why) => Outcome::Skipped(why),
        };
        suite.tell(&format!("noticed in a front that leaks: {}", check.name), outcome);
    }
    let [front] = daemon.children("front")[..] else {
        return Err(io::Error::other("the front that leaks is gone"));
    };
    let outcome = match dump(world, front, &needles) {
        Ok(found) if found.hits.is_empty() => Outcome::Failed("the decoy is not in it".into()),
        Ok(_) => Outcome::Passed,
        Err(why) => Outcome::Skipped(why),
    };
    suite.tell("noticed in a front that leaks: a dump made by a debugger", outcome);
    daemon.stop()
}

/// A process with a secret, read from standard input, that aborts and may dump.
fn leave_a_core() -> ExitCode {
    let mut secret = String::new();
    let maximum = rustix::process::getrlimit(Resource::Core).maximum;
    let limited = rustix::process::setrlimit(Resource::Core, Rlimit { current: maximum, maximum });
    if io::stdin().read_line(&mut secret).is_ok() && limited.is_ok() {
        std::process::abort();
    }
    ExitCode::FAILURE
}

/// Shows that a core dump would land where the suite looks, with what was in memory.
fn core_of_a_crash(world: &World) -> io::Result<Outcome> {
    if let Err(why) = dumps_land_here() {
        return Ok(Outcome::Skipped(why));
    }
    let decoy = hex::encode(countersign::ops::clock::random::<16>());
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.arg(LEAVE_A_CORE).current_dir(&world.cores).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().expect("piped").write_all(decoy.as_bytes())?;
    child.wait()?;
    let cores = world.cores_in(&world.cores);
    let [core] = &cores[..] else {
        return Ok(Outcome::Skipped(format!("a process that aborts left {} core dumps", cores.len())));
    };
    let found = search::file(core, &needles_of("the decoy", decoy.as_bytes()))?;
    std::fs::remove_file(core)?;
    let noticed = !found.hits.is_empty();
    Ok(if noticed { Outcome::Passed } else { Outcome::Failed("the decoy was not found in it".into()) })
}

fn supervisor_leaves_no_core(suite: &mut Suite, world: &World) -> io::Result<()> {
    let daemon = Daemon::start(world, &world.cores, None)?;
    let attacker = daemon.attacker()?;
    drop(attacker);
    // A zombie until it is waited for; its dump is written, or not, before that.
    suite.tell("a supervisor that aborts leaves no core", no_core(world, daemon.supervisor()));
    daemon.wait()
}

/// Lets the attacker in this daemon's front do everything it can.
fn attacked(daemon: &Daemon, world: &World, needles: &[Needle]) -> io::Result<Vec<Check>> {
    let abstract_socket = format!("countersign-inside-{}", daemon.supervisor());
    let _listening = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&abstract_socket)?)?;
    let task = Task {
        state: world.state.root().to_owned(),
        closed: world.closed(),
        pin_file: world.pin_file(),
        needles: needles.to_vec(),
        supervisor: daemon.supervisor(),
        workers: daemon.children("hsm-worker"),
        own_module: world.own_module.clone(),
        abstract_socket,
        no_landlock: no_landlock(),
        no_scopes: no_scopes(),
    };
    let stream = daemon.attacker()?;
    task::send(&stream, &task)?;
    let checks: io::Result<Vec<Check>> = task::lines(&stream).collect();
    let checks = checks?;
    match checks.last() {
        Some(last) if last.name == attack::LAST => Ok(checks),
        Some(_) | None => Err(io::Error::other(format!("the attacker broke off:\n{}", daemon.log_text()))),
    }
}

/// The secret as it is, and in the encodings that a log or a message would have it in.
fn needles_of(name: &str, secret: &[u8]) -> Vec<Needle> {
    use base64::Engine;
    vec![
        Needle::of(name, secret),
        Needle::of(&format!("{name} in hexadecimal"), hex::encode(secret).as_bytes()),
        Needle::of(&format!("{name} in base64"), base64::engine::general_purpose::STANDARD.encode(secret).as_bytes()),
    ]
}

fn search_works() -> Outcome {
    let needle = Needle::of("a secret", b"12345678");
    let counts = [&b"12345678"[..], b"x12345678", b"1234567812345678", b"1234567", b"12345679", b""];
    let counts = counts.map(|bytes| needle.count_in(bytes));
    if counts == [1, 1, 2, 0, 0, 0] { Outcome::Passed } else { Outcome::Failed(format!("{counts:?}")) }
}

fn no_core(world: &World, pid: i32) -> Outcome {
    if let Err(why) = dumps_land_here() {
        return Outcome::Skipped(why);
    }
    if let Err(error) = abort(pid) {
        return Outcome::Failed(error.to_string());
    }
    let cores = world.cores_in(&world.cores);
    if cores.is_empty() { Outcome::Passed } else { Outcome::Failed(format!("{cores:?}")) }
}

fn replaced(daemon: &Daemon, before: &[i32]) -> Outcome {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if daemon.children("hsm-worker").iter().any(|pid| !before.contains(pid)) {
            return Outcome::Passed;
        }
        // What is waited for needs the processor, too.
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Outcome::Failed(format!("no new worker:\n{}", daemon.log_text()))
}

/// # Errors
/// The reason why a core dump would not be a file in the working directory (core(5)).
fn dumps_land_here() -> Result<(), String> {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").map_err(|error| error.to_string())?;
    let pattern = pattern.trim();
    if pattern.starts_with("core") && !pattern.contains('/') {
        Ok(())
    } else {
        Err(format!("core_pattern is `{pattern}`: dumps do not land in the working directory"))
    }
}

/// What root gets of a process all the same.
///
/// # Errors
/// Why there is no dump.
fn dump(world: &World, pid: i32, needles: &[Needle]) -> Result<Found, String> {
    let prefix = world.cores.join("by-debugger");
    let made = Command::new("gcore").arg("-o").arg(&prefix).arg(pid.to_string()).output();
    let made = made.map_err(|error| format!("gcore (package gdb) cannot be run: {error}"))?;
    let path = world.cores.join(format!("by-debugger.{pid}"));
    let found = search::file(&path, needles)
        .map_err(|_| format!("gcore made no dump: {}", String::from_utf8_lossy(&made.stderr).trim()))?;
    std::fs::remove_file(path).map_err(|error| error.to_string())?;
    Ok(found)
}

fn no_landlock() -> Option<String> {
    let built = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create);
    built.err().map(|error| format!("this kernel has no Landlock: {error}"))
}

fn no_scopes() -> Option<String> {
    let built = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .scope(Scope::from_all(ABI::V6))
        .and_then(Ruleset::create);
    built.err().map(|error| format!("this kernel has no Landlock scopes: {error}"))
}
