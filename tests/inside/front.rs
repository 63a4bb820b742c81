//! The daemon's front process as it is, with an attacker in it.
//!
//! The attacker's thread is started by the first event that the front logs once it serves: on a thread of the front
//! and after its confinement, as code that came in over the network would run.

use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};

use countersign::app::{self, Doors};
use countersign::ops::paths::StateDir;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::attack;
use crate::task::{self, DECOY, MODULE, SUITE, Task};

/// Runs `front --state DIR [--offline]`.
pub fn run() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let state = arguments.iter().position(|word| word == "--state").map(|at| StateDir::new(&arguments[at + 1]));
    let state = state.expect("the supervisor names the state directory");
    let doors = if arguments.iter().any(|word| word == "--offline") { Doors::AdminOnly } else { Doors::All };
    let when_serving: Box<dyn Fn() + Send + Sync> = match std::env::var(DECOY) {
        Ok(decoy) => break_every_rule(&state, decoy),
        Err(_) => Box::new(|| {
            std::thread::spawn(serve_the_suite);
        }),
    };
    let to_stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let levels = tracing_subscriber::filter::LevelFilter::INFO;
    tracing_subscriber::registry().with(levels).with(to_stderr).with(WhenServing(when_serving)).init();
    match app::run_front(&state, doors) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.kind.exit_code()),
    }
}

/// Makes this front one that leaks: its attacker is not confined, the PIN file is open, a module is loaded, the decoy is in
/// its memory (and, for the suite put it there, its environment), and it may be dumped. Shows that the checks see it.
fn break_every_rule(state: &StateDir, decoy: String) -> Box<dyn Fn() + Send + Sync> {
    let (serving, served): (SyncSender<()>, _) = sync_channel(1);
    let open = std::fs::read_dir(state.resolve("pins")).expect("readable").flatten().next();
    let open = open.map(|entry| std::fs::File::open(entry.path()).expect("readable"));
    std::thread::spawn(move || {
        let _kept = (open, decoy, cryptoki::context::Pkcs11::new(MODULE));
        if served.recv().is_ok() {
            // Only root may raise the limit again; others learn that from the check.
            let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: None, maximum: None });
            let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
            // On a thread that ends: with its tracer's end a traced process runs on.
            let _ = std::thread::spawn(serve_the_suite).join();
        }
        std::thread::park();
    });
    let serving = Mutex::new(serving);
    Box::new(move || {
        let _ = serving.lock().expect("not poisoned").try_send(());
    })
}

fn serve_the_suite() {
    let address = std::env::var(SUITE).expect("the suite says where it listens");
    let stream = TcpStream::connect(address).expect("the suite listens");
    let task: Task = task::lines(&stream).next().expect("one task").expect("a task");
    attack::run(&task, |check| task::send(&stream, &check).expect("the suite reads"));
}

struct WhenServing(Box<dyn Fn() + Send + Sync>);

impl<S: tracing::Subscriber> Layer<S> for WhenServing {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct IsServing(bool);
        impl tracing::field::Visit for IsServing {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 |= field.name() == "message" && format!("{value:?}") == "serving";
            }
        }
        let mut seen = IsServing(false);
        event.record(&mut seen);
        if seen.0 {
            (self.0)();
        }
    }
}
