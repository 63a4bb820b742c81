//! A daemon on a provisioned token whose front is ours, and what the suite does to it from outside.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use countersign::hsm::provision::{self, ModuleChange};
use countersign::hsm::settings::HsmSettings;
use countersign::ops::paths::StateDir;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal};

use crate::task::{DECOY, MODULE, SUITE};

/// Far more than anything here needs; reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(120);
const NAME: &str = "secco";

/// A state directory with a token, and a directory for what processes leave when they crash.
pub struct World {
    pub state: StateDir,
    pub cores: PathBuf,
    /// What an attacker would bring along; `None` when the module's libraries cannot be listed.
    pub own_module: Option<PathBuf>,
    _directory: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // Without links on the way: what the front sees of a descriptor is the real path.
        let root = fs::canonicalize(directory.path()).expect("it is there");
        let (state, cores) = (StateDir::new(root.join("state")), root.join("cores"));
        fs::create_dir(&cores).expect("writable");
        let settings = HsmSettings {
            env: [("SOFTHSM2_CONF".to_owned(), "{state}/softhsm/softhsm2.conf".to_owned())].into(),
            pin_file: Some(format!("pins/{NAME}.pin").into()),
            workers: 1,
            ..HsmSettings::new(format!("pkcs11:token={NAME}"), MODULE)
        };
        provision::provision_with(Path::new("/proc/self/exe"), &state, NAME, &settings, ModuleChange::Refuse)
            .expect("SoftHSM2 is installed and a token can be made");
        let config = format!(
            "[party.{NAME}]\nkind = \"security-company\"\ntoken = \"{NAME}\"\n[hsm.{NAME}]\nuri = \
             \"pkcs11:token={NAME}\"\nmodule = \"{MODULE}\"\npin_file = \"pins/{NAME}.pin\"\nenv = {{ SOFTHSM2_CONF = \
             \"{{state}}/softhsm/softhsm2.conf\" }}\n",
        );
        fs::write(state.config(), config).expect("writable");
        // Before any front starts: the loader forgets library directories that are not there then.
        let own_module = copy_of_the_module(&state);
        Self { state, cores, own_module, _directory: directory }
    }

    pub fn pin_file(&self) -> PathBuf {
        self.state.resolve(format!("pins/{NAME}.pin"))
    }

    pub fn pin(&self) -> Vec<u8> {
        fs::read(self.pin_file()).expect("provisioned").trim_ascii().to_vec()
    }

    /// PIN, token, identity record, configuration and lock, with everything below.
    pub fn closed(&self) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = ["countersign.toml", "daemon.lock"].map(|file| self.state.resolve(file)).into();
        let mut open = ["pins", "softhsm", "identity"].map(|place| self.state.resolve(place)).to_vec();
        while let Some(directory) = open.pop() {
            let below = fs::read_dir(&directory).expect("readable").flatten().map(|entry| entry.path());
            for path in below {
                if path.is_dir() { open.push(path) } else { all.push(path) }
            }
            all.push(directory);
        }
        all.sort();
        all
    }

    /// Core dumps that lie in a directory.
    pub fn cores_in(&self, directory: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).expect("readable").flatten().map(|entry| entry.path());
        entries.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core"))).collect()
    }
}

/// A copy of the module, its libraries and a configuration that names our token, where the front may read.
fn copy_of_the_module(state: &StateDir) -> Option<PathBuf> {
    let place = state.resolve("store/own");
    fs::create_dir_all(&place).ok()?;
    let listed = Command::new("ldd").arg(MODULE).output().ok()?;
    let text = String::from_utf8(listed.stdout).ok()?;
    let libraries = text.lines().filter_map(|line| line.split("=> ").nth(1)?.split_whitespace().next());
    for library in libraries.chain([MODULE]).filter(|path| path.starts_with('/')) {
        fs::copy(library, place.join(Path::new(library).file_name()?)).ok()?;
    }
    let tokens = state.resolve("softhsm/tokens");
    let conf = format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display());
    fs::write(place.join("softhsm2.conf"), conf).ok()?;
    Some(place.join(Path::new(MODULE).file_name()?))
}

/// `countersign serve --offline` with our front.
pub struct Daemon {
    supervisor: Child,
    log: PathBuf,
    listener: TcpListener,
}

impl Daemon {
    /// Its processes dump into `directory`, if they dump. With a decoy its front breaks every rule.
    pub fn start(world: &World, directory: &Path, decoy: Option<&str>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let log = world.cores.join("daemon.log");
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--offline", "--state"]).arg(world.state.root()).current_dir(directory);
        command.env(SUITE, listener.local_addr()?.to_string());
        command.env("SOFTHSM2_CONF", world.state.resolve("store/own/softhsm2.conf"));
        command.env("LD_LIBRARY_PATH", world.state.resolve("store/own"));
        if let Some(decoy) = decoy {
            command.env(DECOY, decoy);
        }
        let mut supervisor = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?).spawn()?;
        let mut line = String::new();
        BufReader::new(supervisor.stdout.take().expect("piped")).read_line(&mut line)?;
        let daemon = Self { supervisor, log, listener };
        if line.contains("\"ready\":true") { Ok(daemon) } else { Err(io::Error::other(format!("not ready: {line}"))) }
    }

    /// The attacker in its front.
    pub fn attacker(&self) -> io::Result<TcpStream> {
        let (listener, (sender, receiver)) = (self.listener.try_clone()?, sync_channel(1));
        std::thread::spawn(move || sender.send(listener.accept()));
        let gone = |_| io::Error::other(format!("the front's attacker did not come:\n{}", self.log_text()));
        let (stream, _) = receiver.recv_timeout(PATIENCE).map_err(gone)??;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    pub fn supervisor(&self) -> i32 {
        i32::try_from(self.supervisor.id()).expect("a process id")
    }

    /// Processes that the supervisor runs with this verb.
    pub fn children(&self, verb: &str) -> Vec<i32> {
        let supervisor = self.supervisor.id();
        let tasks = fs::read_dir(format!("/proc/{supervisor}/task")).into_iter().flatten().flatten();
        let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let all: Vec<i32> = lists
            .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect();
        let runs = |pid: &i32| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).nth(1) == Some(verb.as_bytes())
        };
        all.into_iter().filter(runs).collect()
    }

    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn stop(mut self) -> io::Result<()> {
        signal(self.supervisor(), Signal::TERM)?;
        self.supervisor.wait().map(drop)
    }

    /// Waits for the end of the whole daemon.
    pub fn wait(mut self) -> io::Result<()> {
        self.supervisor.wait().map(drop)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}

pub fn signal(pid: i32, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::kill_process(Pid::from_raw(pid).expect("a process id"), signal)?)
}

/// Lets a process dump as far as it can be made to, aborts it and waits until it is gone.
pub fn abort(pid: i32) -> io::Result<()> {
    let process = Pid::from_raw(pid).expect("a process id");
    let descriptor = rustix::process::pidfd_open(process, PidfdFlags::empty())?;
    // A process that gave up its hard limit gets no other without CAP_SYS_RESOURCE: then that limit is what counts.
    let _ = rustix::process::prlimit(Some(process), Resource::Core, Rlimit { current: None, maximum: None });
    rustix::process::kill_process(process, Signal::ABORT)?;
    let mut ends = [rustix::event::PollFd::new(&descriptor, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    match rustix::event::poll(&mut ends, Some(&patience))? {
        0 => Err(io::Error::other("it did not end")),
        _ => Ok(()),
    }
}
