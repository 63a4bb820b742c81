//! A PostgreSQL server of the tests' own, in a temporary directory, on a free port of the loopback interface.
//!
//! A watchdog, which reads a pipe that only the test process holds, stops the server and removes the directory when
//! that process ends, however it ends.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use countersign::ops::paths::StateDir;
use countersign::store::postgres::{Endpoint, PostgresStore};
use countersign::store::settings::StoreSettings;

/// Where Debian puts the server's programs, and where a name alone finds them.
fn program(name: &str) -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = installed.map(|version| version.path().join("bin").join(name)).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().unwrap_or_else(|| panic!("{name} is not installed: apt-get install postgresql"))
}

/// The server refuses to run as root: then it runs as the user that its package made.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let id = |flag| {
        let output = Command::new("id").args([flag, "postgres"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim().parse().unwrap_or_else(|_| panic!("there is no user postgres: apt-get install postgresql"))
    };
    Some((id("-u"), id("-g")))
}

fn as_server(command: &mut Command) -> &mut Command {
    if let Some((uid, gid)) = user() {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/").stdin(Stdio::null())
}

fn succeed(command: &mut Command) {
    let output = as_server(command).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// One running server.
pub struct Server {
    watchdog: Child,
    /// Closed when it is dropped, or with this process.
    alive: Option<ChildStdin>,
    directory: PathBuf,
    port: u16,
}

impl Server {
    /// Makes and starts a server with these lines at the end of its configuration.
    pub fn start(settings: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("countersign-pg-").tempdir().unwrap().keep();
        if let Some((uid, gid)) = user() {
            std::os::unix::fs::chown(&directory, Some(uid), Some(gid)).unwrap();
        }
        let (mut watchdog, alive) = watchdog(&directory);
        // Between looking and starting another process may take the port: then another one is looked for.
        for attempt in 1.. {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if attempt == 1 {
                initialize(&directory);
            }
            configure(&directory, port, settings);
            let server = as_server(&mut control(&directory, "start")).output().unwrap();
            if server.status.success() {
                return Self { watchdog, alive: Some(alive), directory, port };
            }
            if attempt == 5 {
                let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
                drop(alive);
                let _ = watchdog.wait();
                panic!("the server does not start: {log}");
            }
        }
        unreachable!("the loop ends by returning or panicking");
    }

    /// A second server that has everything of this one before a commit here is answered. It takes over with `promote`.
    #[allow(dead_code, reason = "the crash suite uses it")]
    pub fn synchronous_standby(&self) -> Self {
        let directory = tempfile::Builder::new().prefix("countersign-pg-").tempdir().unwrap().keep();
        if let Some((uid, gid)) = user() {
            std::os::unix::fs::chown(&directory, Some(uid), Some(gid)).unwrap();
        }
        let (watchdog, alive) = watchdog(&directory);
        let mut copy = Command::new(program("pg_basebackup"));
        copy.args(["-U", "postgres", "-R", "-X", "stream", "-c", "fast", "--no-sync", "-h"]).arg(&self.directory);
        copy.arg("-p").arg(self.port.to_string()).arg("-D").arg(directory.join("data"));
        succeed(&mut copy);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = directory.join("data/postgresql.auto.conf");
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        writeln!(file, "port = {port}\nunix_socket_directories = '{}'", directory.display()).unwrap();
        succeed(&mut control(&directory, "start"));
        self.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.sql("postgres", "SELECT pg_reload_conf()");
        Self { watchdog, alive: Some(alive), directory, port }
    }

    /// A standby becomes the server that is written to.
    #[allow(dead_code, reason = "the crash suite uses it")]
    pub fn promote(&self) {
        succeed(&mut control(&self.directory, "promote"));
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its configuration and data.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Stops it as a crash does, and starts it again.
    pub fn restart(&self) {
        succeed(&mut control(&self.directory, "stop"));
        succeed(&mut control(&self.directory, "start"));
    }

    pub fn stop(&self) {
        succeed(&mut control(&self.directory, "stop"));
    }

    /// Starts it after [`stop`](Self::stop).
    pub fn again(&self) {
        succeed(&mut control(&self.directory, "start"));
    }

    /// Puts a file into its data directory that nobody else may read.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = user() {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// A terminal session of the server's owner in one of its databases.
    pub fn psql(&self, database: &str) -> Command {
        let mut command = Command::new(program("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
        command.arg("-h").arg(&self.directory).arg("-p").arg(self.port.to_string());
        as_server(&mut command);
        command
    }

    /// Runs statements there; answers their rows as text.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database).args(["-c", sql]).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A new, empty database of this server.
    pub fn database(&self) -> Database<'_> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        Database { server: self, name }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.alive.take());
        let _ = self.watchdog.wait();
    }
}

/// A database of one test, dropped with it.
pub struct Database<'s> {
    pub server: &'s Server,
    pub name: String,
}

impl Database<'_> {
    pub fn settings(&self) -> StoreSettings {
        self.settings_at(self.server.port)
    }

    /// The same through another port, as of a proxy.
    pub fn settings_at(&self, port: u16) -> StoreSettings {
        let url = format!("postgres://postgres@127.0.0.1:{port}/{}", self.name);
        StoreSettings { url, ..StoreSettings::default() }
    }

    pub fn open(&self) -> std::sync::Arc<PostgresStore> {
        PostgresStore::open(&endpoint(&self.settings())).unwrap()
    }

    pub fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.name, sql)
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.server.sql("postgres", &format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}

pub fn endpoint(settings: &StoreSettings) -> Endpoint {
    Endpoint::read(settings, &StateDir::new("/")).unwrap()
}

/// The server that all tests of this process share; it does not sync to disk.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| Server::start("fsync = off\nmax_connections = 400"))
}

fn watchdog(directory: &Path) -> (Child, ChildStdin) {
    let script = "cat >/dev/null; \"$1\" -D \"$2/data\" -m immediate -s stop 2>/dev/null; rm -rf \"$2\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "watchdog"]).arg(program("pg_ctl")).arg(directory);
    as_server(&mut command).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own: an interrupt at the terminal ends the tests, and by that the server.
    let mut child = command.process_group(0).spawn().unwrap();
    let alive = child.stdin.take().unwrap();
    (child, alive)
}

fn initialize(directory: &Path) {
    let mut command = Command::new(program("initdb"));
    command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"]).arg(directory.join("data"));
    succeed(&mut command);
}

fn configure(directory: &Path, port: u16, settings: &str) {
    let path = directory.join("data/postgresql.auto.conf");
    let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap();
    let sockets = directory.display();
    writeln!(file, "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{sockets}'").unwrap();
    writeln!(file, "{settings}").unwrap();
}

fn control(directory: &Path, what: &str) -> Command {
    let mut command = Command::new(program("pg_ctl"));
    command.arg("-D").arg(directory.join("data")).arg("-l").arg(directory.join("log"));
    command.args(["-w", "-m", "immediate", "-s", what]);
    command
}
