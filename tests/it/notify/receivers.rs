//! Who is told: HTTP receivers and mail servers with moods, on sockets of the loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// Long enough for a busy machine, short against for ever.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// How a receiver answers one request; the last mood stays.
#[derive(Clone, Debug)]
pub enum Mood {
    Status(u16),
    /// With these headers.
    Head(u16, &'static str),
    /// Says nothing until the other side goes.
    Hang,
    /// 200, and a body that does not end.
    Endless,
    /// Closes without a word.
    Close,
    /// What is no HTTP.
    Babble,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Got {
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}", self.body))
    }

    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// All that a receiver keeps; where it listens is its own to say.
    pub fn all(&self) -> String {
        format!("{:?}\n{}", self.headers, self.body)
    }
}

/// A certificate under a root of its own, as PEM files.
pub struct Tls {
    pub directory: tempfile::TempDir,
    config: Arc<rustls::ServerConfig>,
}

impl Tls {
    pub fn new() -> Self {
        let (root_key, key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let mut root = rcgen::CertificateParams::new(vec![]).unwrap();
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root_certificate = root.self_signed(&root_key).unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(root, root_key)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in
            [("root.pem", root_certificate.pem()), ("leaf.pem", leaf.pem()), ("key.pem", key.serialize_pem())]
        {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        Self { directory, config: Arc::new(config) }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// An HTTP receiver; it listens until the test ends.
pub struct Web {
    pub port: u16,
    got: Mutex<Receiver<Got>>,
    moods: Arc<Mutex<Vec<Mood>>>,
}

impl Web {
    pub fn start(moods: &[Mood]) -> Self {
        Self::serve(moods, None)
    }

    pub fn tls(moods: &[Mood], tls: &Tls) -> Self {
        Self::serve(moods, Some(Arc::clone(&tls.config)))
    }

    fn serve(moods: &[Mood], tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, got) = channel();
        let moods = Arc::new(Mutex::new(moods.to_vec()));
        let kept = Arc::clone(&moods);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tell, moods, tls) = (tell.clone(), Arc::clone(&kept), tls.clone());
                std::thread::spawn(move || match tls {
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config).unwrap();
                        answer(rustls::StreamOwned::new(session, stream), &tell, &moods);
                    }
                    None => answer(stream, &tell, &moods),
                });
            }
        });
        Self { port, got: Mutex::new(got), moods }
    }

    pub fn becomes(&self, mood: Mood) {
        *self.moods.lock().unwrap() = vec![mood];
    }

    /// The next request, when it comes.
    pub fn next(&self) -> Got {
        self.got.lock().unwrap().recv_timeout(PATIENCE).expect("nobody was told")
    }

    /// Those that came already.
    pub fn rest(&self) -> Vec<Got> {
        self.got.lock().unwrap().try_iter().collect()
    }
}

fn answer(mut stream: impl Stream, tell: &Sender<Got>, moods: &Mutex<Vec<Mood>>) {
    let Some(got) = request(&mut stream) else { return };
    let mood = {
        let mut moods = moods.lock().unwrap();
        if moods.len() > 1 { moods.remove(0) } else { moods[0].clone() }
    };
    let _ = tell.send(got);
    let _ = match mood {
        Mood::Status(status) => write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok"),
        Mood::Head(status, head) => write!(stream, "HTTP/1.1 {status} X\r\n{head}\r\nContent-Length: 0\r\n\r\n"),
        Mood::Hang => stream.read(&mut [0; 1]).map(drop),
        Mood::Endless => endless(&mut stream),
        Mood::Close => Ok(()),
        Mood::Babble => write!(stream, "220 mail.example ESMTP\r\n"),
    };
    let _ = stream.flush();
}

fn endless(stream: &mut impl Stream) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
    loop {
        stream.write_all(&[b'x'; 65_536])?;
    }
}

fn request(stream: &mut impl Stream) -> Option<Got> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4_096];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
            Ok(0) | Err(_) => return None,
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.lines();
    let line = lines.next().unwrap().to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head + length {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
    }
    Some(Got { line, headers, body: String::from_utf8(bytes[head..].to_vec()).unwrap() })
}

/// A mail server that says what it is told to, line by line: `S: …` is said, anything else is waited for.
pub fn scripted_mail(script: &'static [&'static str]) -> u16 {
    scripted_mail_by_turns(vec![script])
}

/// The same with a script for each connection in turn; the last one serves all that come later.
pub fn scripted_mail_by_turns(scripts: Vec<&'static [&'static str]>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let last = scripts[scripts.len() - 1];
        let turns = scripts.into_iter().chain(std::iter::repeat(last));
        for (stream, script) in listener.incoming().flatten().zip(turns) {
            std::thread::spawn(move || follow(stream, script));
        }
    });
    port
}

fn follow(mut stream: TcpStream, script: &[&str]) {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    for step in script {
        let done = match step.strip_prefix("S: ") {
            Some("(flood)") => loop {
                if stream.write_all(b"250-more\r\n").is_err() {
                    return;
                }
            },
            Some(said) => stream.write_all(said.as_bytes()).is_ok(),
            None => {
                let mut line = Vec::new();
                loop {
                    line.clear();
                    match lines.read_until(b'\n', &mut line) {
                        Ok(0) | Err(_) => break false,
                        Ok(_) if line.starts_with(step.as_bytes()) => break true,
                        Ok(_) => {}
                    }
                }
            }
        };
        if !done {
            return;
        }
    }
    // Silent until the other side goes.
    let _ = lines.read_to_end(&mut Vec::new());
}

/// Set by `scripts/test`: what it has installed is used and not passed over.
const ALL_TOOLS: &str = "COUNTERSIGN_TEST_ALL_TOOLS";

/// The Python with aiosmtpd, where `scripts/lib/notify.sh` has put it.
pub fn python() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/notify/python");
    let here = tools.join("ready").exists();
    assert!(here || std::env::var_os(ALL_TOOLS).is_none(), "run scripts/lib/notify.sh");
    if !here {
        println!("skipped: scripts/lib/notify.sh installs the mail server");
    }
    here.then(|| tools.join("bin/python"))
}

/// A real mail server in a mood of `smtp.py`.
pub struct Mail {
    child: Child,
    pub port: u16,
    got: Mutex<Receiver<Value>>,
}

impl Mail {
    pub fn start(python: &Path, mood: &str, tls: &Tls) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/notify/smtp.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(mood)
            .args([tls.file("leaf.pem"), tls.file("key.pem")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let (tell, got) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = tell.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, port: u16::try_from(first["port"].as_u64().unwrap()).unwrap(), got: Mutex::new(got) }
    }

    pub fn next(&self) -> Value {
        self.got.lock().unwrap().recv_timeout(PATIENCE).expect("no mail came")
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
