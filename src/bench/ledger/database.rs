//! A PostgreSQL database of our own for the length of a measurement, and pgbench beside it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::config::Host;
use tokio_postgres::{Config, NoTls};

use crate::bench::sealed::sealed;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::store::Store;
use crate::store::postgres::{Endpoint, PostgresStore};
use crate::store::settings::StoreSettings;

/// What `pgbench -i -s` makes: 10 branches, a million accounts.
const PGBENCH_SCALE: &str = "10";
const PGBENCH_CLIENTS: &str = "32";

/// A new, empty database on the server that `--postgres` names; dropped with everything in it.
pub struct Database {
    server: Config,
    config: Config,
    name: String,
    password_file: Option<PathBuf>,
}

/// Refuses an address that is none, before anything is measured.
///
/// # Errors
/// `bench_options_invalid`
pub fn check(settings: &StoreSettings) -> Result<(), Failure> {
    address(settings).map(|_| ())
}

fn address(settings: &StoreSettings) -> Result<Config, Failure> {
    let mut server: Config = settings.url.parse().map_err(|error| super::invalid(&format!("--postgres: {error}")))?;
    if let Some(file) = &settings.password_file {
        let password = std::fs::read_to_string(file)
            .map_err(|error| super::invalid(&format!("--postgres-password-file {}: {error}", file.display())))?;
        server.password(password.trim_end_matches('\n'));
    }
    Ok(server)
}

/// A runtime for one thread's conversation with a server.
///
/// # Errors
/// `bench_failed` when the process may not have one more.
pub fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::fault("bench_failed", error.to_string(), "check the limits"))
}

impl Database {
    /// Makes the database. The user of the URL must be allowed to.
    ///
    /// # Errors
    /// `bench_options_invalid` for a URL or password file that is none; `bench_failed` with what the server says.
    pub fn make(settings: &StoreSettings) -> Result<Self, Failure> {
        let server = address(settings)?;
        let name = format!("countersign_bench_{}", hex::encode(clock::random::<8>()));
        order(&server, &format!("CREATE DATABASE {name}"))?;
        let mut config = server.clone();
        config.dbname(&name);
        Ok(Self { server, config, name, password_file: settings.password_file.clone() })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The server's version and what its answers promise.
    ///
    /// # Errors
    /// `bench_failed` with what the server says.
    pub fn about(&self) -> Result<String, Failure> {
        let sql = "SELECT current_setting('server_version') || ', fsync ' || current_setting('fsync')
                   || ', synchronous_commit ' || current_setting('synchronous_commit')";
        runtime()?.block_on(async {
            let (client, driver) = self.server.connect(NoTls).await.map_err(failed)?;
            let driver = tokio::spawn(driver);
            let row = client.query_one(sql, &[]).await.map_err(failed)?;
            drop(client);
            // It ends with its client.
            let _ = driver.await;
            Ok(format!("PostgreSQL {}", row.get::<_, String>(0)))
        })
    }

    /// A store of ours in it.
    ///
    /// # Errors
    /// What the store says.
    pub fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        let settings =
            StoreSettings { url: self.url(), password_file: self.password_file.clone(), ..StoreSettings::default() };
        let endpoint = Endpoint::read(&settings, &StateDir::new(Path::new(".")))?;
        let store = PostgresStore::open(&endpoint)?;
        sealed(&*store)?;
        Ok(store)
    }

    fn url(&self) -> String {
        let user = self.config.get_user().unwrap_or("postgres");
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(path)) => escaped(path.to_string_lossy().as_bytes()),
            None => "localhost".to_owned(),
        };
        format!("postgresql://{}@{host}:{port}/{}", escaped(user.as_bytes()), self.name)
    }

    /// Fills the database for pgbench; false when the program is not installed.
    ///
    /// # Errors
    /// `bench_failed` with what pgbench says.
    pub fn fill_for_pgbench(&self) -> Result<bool, Failure> {
        match self.run_pgbench(&["-i", "-q", "-s", PGBENCH_SCALE]) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(error)),
            Ok(output) if !output.status.success() => Err(failed(String::from_utf8_lossy(&output.stderr))),
            Ok(_) => Ok(true),
        }
    }

    /// Transactions a second of TPC-B with 32 clients, in whole seconds.
    ///
    /// # Errors
    /// `bench_failed` with what pgbench says.
    pub fn pgbench(&self, time: Duration) -> Result<f64, Failure> {
        let seconds = time.as_secs().max(1).to_string();
        let output = self.run_pgbench(&["-c", PGBENCH_CLIENTS, "-j", "2", "-T", &seconds]).map_err(failed)?;
        let said = String::from_utf8_lossy(&output.stdout);
        let tps = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok());
        tps.ok_or_else(|| failed(String::from_utf8_lossy(&output.stderr)))
    }

    /// The address goes by the environment, so that no password is on a command line.
    fn run_pgbench(&self, arguments: &[&str]) -> std::io::Result<Output> {
        Command::new("pgbench").args(arguments).envs(self.environment()).stdin(Stdio::null()).output()
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("PGDATABASE", self.name.clone())];
        match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => variables.push(("PGHOST", name.clone())),
            Some(Host::Unix(path)) => variables.push(("PGHOST", path.to_string_lossy().into_owned())),
            None => {}
        }
        if let Some(port) = self.config.get_ports().first() {
            variables.push(("PGPORT", port.to_string()));
        }
        if let Some(user) = self.config.get_user() {
            variables.push(("PGUSER", user.to_owned()));
        }
        if let Some(password) = self.config.get_password() {
            variables.push(("PGPASSWORD", String::from_utf8_lossy(password).into_owned()));
        }
        variables
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(failure) = order(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name)) {
            tracing::warn!(%failure, database = %self.name, "the temporary database could not be dropped");
        }
    }
}

fn order(server: &Config, sql: &str) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let (client, driver) = server.connect(NoTls).await.map_err(failed)?;
        let driver = tokio::spawn(driver);
        let outcome = client.batch_execute(sql).await.map_err(failed);
        drop(client);
        // It ends with its client.
        let _ = driver.await;
        outcome
    })
}

/// Everything but letters and digits as `%xx`.
fn escaped(text: impl AsRef<[u8]>) -> String {
    let mut written = String::new();
    for byte in text.as_ref() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => written.push(char::from(*byte)),
            other => written.push_str(&format!("%{other:02X}")),
        }
    }
    written
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::fault(
        "bench_failed",
        format!("PostgreSQL: {error}"),
        "check --postgres: the user must be able to make databases",
    )
}
