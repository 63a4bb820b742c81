//! nginx as Debian has it: a real process that asks its clients for certificates, with a key in memory.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::server_key::ServerKey;
use crate::bench::directory::{private_directory, unusable};
use crate::bench::served::failed;
use crate::kernel::credential::pem::{self, Kind};
use crate::ops::failure::Failure;

/// What is to be done where it is missing.
pub(super) const NOT_INSTALLED: &str = "nginx is not installed (Debian: apt-get install nginx-light)";

const READY_LIMIT: Duration = Duration::from_secs(10);
const READY_POLL: Duration = Duration::from_millis(5);

/// The running server; it ends with this.
pub(super) struct Nginx {
    pub(super) address: SocketAddr,
    process: Child,
}

/// Where its program is. Debian puts it where only the administrator's PATH leads.
pub(super) fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("nginx")).find(|file| file.is_file())
}

impl Nginx {
    /// Starts it in a new directory. Its clients' certificates must be under one of these CAs (PEM).
    ///
    /// # Errors
    /// `bench_failed` with what nginx said.
    pub(super) fn start(
        program: &Path,
        directory: &Path,
        server: &ServerKey,
        clients: &str,
        workers: u32,
    ) -> Result<Self, Failure> {
        private_directory(directory).map_err(|error| unusable(directory, &error))?;
        let address = free_address()?;
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            std::fs::write(&path, text).map_err(|error| unusable(&path, &error))
        };
        let chain = server.key.chain.iter().map(|der| pem::encode(Kind::Certificate, der));
        write("chain.pem", &chain.collect::<String>())?;
        write("clients.pem", clients)?;
        // Of this server alone, for as long as it runs, in a directory that only this user can enter.
        write("key.pem", &private_key(&server.key.pkcs8))?;
        write("nginx.conf", &configuration(address, workers))?;
        let log = std::fs::File::create(directory.join("said")).map_err(|error| unusable(directory, &error))?;
        let process = Command::new(program)
            .args(["-e", "error.log", "-c", "nginx.conf", "-p"])
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for whoever measures, and ends this one in its turn.
            .process_group(0)
            .spawn()
            .map_err(|error| failed(&error))?;
        let mut nginx = Self { address, process };
        nginx.await_ready(directory)?;
        Ok(nginx)
    }

    fn await_ready(&mut self, directory: &Path) -> Result<(), Failure> {
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = self.process.try_wait().map_err(|error| failed(&error))?;
            if ended.is_some() || begun.elapsed() > READY_LIMIT {
                let said = std::fs::read_to_string(directory.join("said")).unwrap_or_default();
                return Err(failed(&format!("nginx did not start: {said}")));
            }
            std::thread::sleep(READY_POLL);
        }
        Ok(())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its master process ends the others, which it does not when it is killed.
        if let Some(id) = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

/// Nobody has it now.
fn free_address() -> Result<SocketAddr, Failure> {
    let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| failed(&error))?;
    listening.local_addr().map_err(|error| failed(&error))
}

fn private_key(pkcs8: &[u8]) -> String {
    // The words are apart so that no file of ours looks like a key.
    let mark = |edge: &str| format!("-----{edge} {} {}-----\n", "PRIVATE", "KEY");
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pkcs8);
    let lines: String = body.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
    [mark("BEGIN"), lines, mark("END")].concat()
}

fn configuration(address: SocketAddr, workers: u32) -> String {
    format!(
        r#"daemon off;
pid nginx.pid;
worker_processes {workers};
error_log error.log error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen {address} ssl backlog=4096;
        ssl_protocols TLSv1.3;
        ssl_certificate chain.pem;
        ssl_certificate_key key.pem;
        ssl_client_certificate clients.pem;
        ssl_verify_client on;
        ssl_verify_depth 3;
        ssl_session_tickets off;
        ssl_session_cache off;
        location / {{ default_type application/json; return 200 '{{}}'; }}
    }}
}}
"#
    )
}
