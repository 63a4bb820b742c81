//! Two organisations over the network: endorsements asked for between daemons, over a line that loses answers, with a
//! daemon that is killed; renewals over an agent's own connection; and who may ask for what.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use countersign::tls::agent::AgentSocket;
use countersign::tls::asking::Unresolved;
use countersign::tls::peer::{Peer, PeerClient, PeerPlace, PeerSettings};
use http::Method;
use serde_json::{Value, json};

use crate::support::strace::{Strace, is_alive};
use crate::support::world::World;

/// Between two parties' daemons.
struct Line {
    port: u16,
    order: Arc<AtomicU8>,
}

const PASS: u8 = 0;
/// The next connection's question arrives; its answer is lost.
const LOSE_ANSWER: u8 = 1;
/// The next connection is closed at once.
const CLOSE: u8 = 2;

impl Line {
    /// To wherever `target` says at each connection.
    fn to(target: impl Fn() -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, order) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU8::new(PASS)));
        let orders = Arc::clone(&order);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let order = orders.swap(PASS, Ordering::SeqCst);
                if order == CLOSE {
                    continue;
                }
                if let Ok(server) = TcpStream::connect(target()) {
                    carry(client, server, order == LOSE_ANSWER);
                }
            }
        });
        Self { port, order }
    }

    fn next(&self, order: u8) {
        self.order.store(order, Ordering::SeqCst);
    }
}

/// In TLS 1.3 without tickets the server speaks twice: its part of the handshake, and, once the client has spoken for
/// the second time, the answer.
fn carry(client: TcpStream, server: TcpStream, lose_answer: bool) {
    let (mut up, mut up_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut down, mut down_to) = (server, client);
    let server_spoke = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicBool::new(false));
    let (spoke, asking) = (Arc::clone(&server_spoke), Arc::clone(&asked));
    std::thread::spawn(move || {
        copy(&mut up, &mut up_to, || {
            asking.store(spoke.load(Ordering::SeqCst), Ordering::SeqCst);
            true
        });
    });
    std::thread::spawn(move || {
        copy(&mut down, &mut down_to, || {
            server_spoke.store(true, Ordering::SeqCst);
            !(lose_answer && asked.load(Ordering::SeqCst))
        });
    });
}

/// Until one end closes or `goes_on` says no; then both ends are closed.
fn copy(from: &mut TcpStream, to: &mut TcpStream, goes_on: impl Fn() -> bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !goes_on() || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// So many requests an agent may make at once, and one a second afterwards.
const BURST: usize = 60;

/// The demo's world with peer listeners: every daemon asks through a line, since ports change with each start.
pub struct Parties {
    pub world: World,
    line: Line,
    files: tempfile::TempDir,
}

impl Parties {
    pub fn new() -> Self {
        let world = World::new();
        for party in ["secco", "bank", "agent"] {
            world.run(party, &["stop"]);
        }
        configure(&world, "secco", "[listen]\npeer = \"127.0.0.1:0\"");
        world.serve("secco");
        let ports = world.state("secco").join("run/ports.json");
        let line = Line::to(move || peer_address(&ports));
        let text = std::fs::read_to_string(world.state("bank").join("countersign.toml")).unwrap();
        let text = text.replace("[listen]\n", "[listen]\npeer = \"127.0.0.1:0\"\n");
        let text = text.replace("requests_per_second = 50", "requests_per_second = 1");
        let text = text.replace("requests_burst = 200", &format!("requests_burst = {BURST}"));
        let text = text.replace("connections_of_one_max = 64", "connections_of_one_max = 16");
        assert!(text.contains("requests_per_second = 1 ") && text.contains(&format!("requests_burst = {BURST}")));
        std::fs::write(world.state("bank").join("countersign.toml"), text).unwrap();
        configure(&world, "bank", &format!("[peer]\nurl = \"https://localhost:{}\"\ntimeout_ms = 30000", line.port));
        world.serve("bank");
        let ports = world.state("bank").join("run/ports.json");
        let to_bank = Line::to(move || peer_address(&ports));
        configure(&world, "agent", &format!("[peer]\nurl = \"https://localhost:{}\"", to_bank.port));
        world.serve("agent");
        Self { world, line, files: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    fn person(&self, name: &str) -> String {
        self.world.state(name).display().to_string()
    }

    /// What `cert request` writes; answers the file.
    fn request(&self, agent: &str, endorsement: Option<&str>) -> String {
        let out = self.file(&format!("{agent}-{}.json", if endorsement.is_some() { "proof" } else { "request" }));
        let mut arguments = vec!["cert", "request", agent, "--role", "purchaser", "--out", &out];
        arguments.extend(endorsement.iter().flat_map(|file| ["--endorsement", *file]));
        self.world.run("agent", &arguments);
        out
    }

    /// `cert issue` at the bank, signed by dora: the exit code and the failure's name, or 0 and nothing.
    fn issue(&self, request: &str, out: &str) -> (i32, String) {
        let arguments = ["cert", "issue", "--request", request, "--as", &self.person("dora"), "--out", out];
        let output = self.world.output("bank", &[&["--json"], &arguments[..]].concat());
        let failure: Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
        if !output.status.success() {
            // Shown when the test fails.
            println!("{failure:#}");
        }
        let name = failure["error"]["name"].as_str().unwrap_or_default().to_owned();
        (output.status.code().unwrap(), name)
    }

    fn approve(&self, agent: &str) {
        let key = self.pending(agent)["key"].as_str().unwrap().to_owned();
        let carol = self.person("carol");
        let arguments = ["cert", "approve", agent, "--role", "purchaser", "--key", &key, "--as", &carol];
        self.world.run("secco", &arguments);
    }

    /// What the doctor says of the line to the other party.
    fn line(&self, party: &str) -> String {
        let operator = if party == "agent" { "host-admin".to_owned() } else { format!("{party}-admin") };
        let output = self.world.output(party, &["--operator", &operator, "--json", "doctor"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let line = report["items"].as_array().unwrap().iter().find(|item| item["check"] == "peer");
        line.unwrap_or_else(|| panic!("{report}"))["result"].as_str().unwrap().to_owned()
    }

    /// The security company's record of an agent's newest request.
    fn pending(&self, agent: &str) -> Value {
        let list = self.world.run("secco", &["--operator", "secco-officer", "--json", "cert", "pending"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        let ends = format!("/{agent}");
        let found =
            list["items"].as_array().unwrap().iter().find(|item| item["agent"].as_str().unwrap().ends_with(&ends));
        found.unwrap_or_else(|| panic!("{agent}: {list}")).clone()
    }

    /// Certificates of a party over an agent's key: (profile, serial, status).
    fn issued(&self, party: &str, agent: &str) -> Vec<(String, String, String)> {
        let officer = format!("{party}-officer");
        let list = self.world.run(party, &["--operator", &officer, "--json", "cert", "list"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let ends = format!("/{agent}");
        let of_agent = list["items"].as_array().unwrap().iter().filter(|item| text(item, "subject").ends_with(&ends));
        of_agent.map(|item| (text(item, "profile"), text(item, "serial"), text(item, "status"))).collect()
    }
}

fn peer_address(ports: &std::path::Path) -> String {
    let ports: Value = serde_json::from_slice(&std::fs::read(ports).unwrap()).unwrap();
    ports["peer"].as_str().unwrap().to_owned()
}

fn configure(world: &World, party: &str, section: &str) {
    let path = world.state(party).join("countersign.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[audit]", &format!("{section}\n\n[audit]"))).unwrap();
}

#[test]
fn two_parties_issue_over_the_network_whatever_it_does() {
    let parties = Parties::new();
    let (request, s, b) = (parties.request("buyer", None), parties.file("s.pem"), parties.file("b.pem"));

    // Nobody there, then an answer that is lost, then an officer who is waited for.
    parties.line.next(CLOSE);
    let (code, name) = parties.issue(&request, &s);
    assert!(matches!((code, name.as_str()), (5, "peer_unreachable") | (4, "peer_answer_unknown")), "{code} {name}");
    parties.line.next(LOSE_ANSWER);
    assert_eq!(parties.issue(&request, &s), (4, "peer_answer_unknown".into()));
    assert_eq!(parties.pending("buyer")["state"], "pending", "it was heard");
    assert_eq!(parties.issue(&request, &s), (5, "endorsement_pending".into()));
    assert_eq!([parties.line("bank"), parties.line("agent")], ["ok", "ok"]);

    // Approved; the security company dies while its answer is under way, and is asked again.
    parties.approve("buyer");
    parties.line.next(LOSE_ANSWER);
    assert_eq!(parties.issue(&request, &s), (4, "peer_answer_unknown".into()));
    parties.world.kill("secco");
    parties.world.serve("secco");
    assert_eq!(parties.issue(&request, &s), (0, String::new()));
    let endorsed = std::fs::read(&s).unwrap();
    assert_eq!(parties.issue(&request, &s), (0, String::new()));
    assert_eq!(std::fs::read(&s).unwrap(), endorsed, "one request, one endorsement");

    // The bank dies between the halves.
    parties.world.kill("bank");
    parties.world.serve("bank");
    let proof = parties.request("buyer", Some(&s));
    assert_eq!(parties.issue(&proof, &b), (0, String::new()));
    parties.world.run("agent", &["cert", "install", "buyer", "--bank", &b, "--endorsement", &s]);
    let issued = parties.issued("secco", "buyer");
    assert_eq!(issued.len(), 1, "{issued:?}");

    an_issuance_that_is_given_up_leaves_no_endorsement(&parties);
    renewals(&parties);
    strangers_and_agents_get_nothing_of_others(&parties);
    the_door_answers_whatever_comes_as_the_table_says(&parties);
}

fn an_issuance_that_is_given_up_leaves_no_endorsement(parties: &Parties) {
    let (request, s, b) = (parties.request("drop", None), parties.file("drop-s.pem"), parties.file("drop-b.pem"));
    assert_eq!(parties.issue(&request, &s), (5, "endorsement_pending".into()));
    parties.approve("drop");
    assert_eq!(parties.issue(&request, &s), (0, String::new()));
    let proof = parties.request("drop", Some(&s));
    // The company is away: given up here at once, there as soon as it can be told.
    parties.world.run("secco", &["stop"]);
    assert_eq!(parties.line("bank"), "warn");
    let abandoned = parties.world.run("bank", &["--operator", "bank-officer", "--json", "cert", "abandon", "drop"]);
    assert!(abandoned.contains("\"abandoning\""), "{abandoned}");
    assert_eq!(parties.issue(&proof, &b), (3, "issuance_abandoned".into()));
    parties.world.serve("secco");
    let abandoned = parties.world.run("bank", &["--operator", "bank-officer", "--json", "cert", "abandon", "drop"]);
    assert!(abandoned.contains("\"abandoned\""), "{abandoned}");
    let issued = parties.issued("secco", "drop");
    assert!(issued.iter().all(|(_, _, status)| status == "revoked"), "{issued:?}");
    assert_eq!(parties.issue(&request, &s), (3, "issuance_abandoned".into()));
}

fn renewals(parties: &Parties) {
    let pair = |file: &str| std::fs::read(parties.world.state("agent").join("certs/agents/buyer").join(file)).unwrap();
    let before = pair("pair.pem");
    // Young certificates are found again: nothing changes, and nothing is left of the question.
    let desk = || parties.world.run("secco", &["--operator", "secco-officer", "--json", "cert", "pending"]);
    let asked = desk();
    parties.world.run("agent", &["cert", "renew", "buyer"]);
    assert_eq!((pair("pair.pem"), desk()), (before.clone(), asked));
    // A life seven times as long: what there is has less than half of it left.
    for party in ["secco", "bank"] {
        parties.world.run(party, &["stop"]);
        let path = parties.world.state(party).join("countersign.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let longer = if text.contains("agent_life_hours = 24") {
            text.replace("agent_life_hours = 24", "agent_life_hours = 168")
        } else {
            text.replace("[pki]\n", "[pki]\nagent_life_hours = 168\n")
        };
        assert_ne!(longer, text);
        std::fs::write(&path, longer).unwrap();
        parties.world.serve(party);
    }
    let renewed = parties.world.run("agent", &["--json", "cert", "renew", "buyer"]);
    let renewed: Value = serde_json::from_str(&renewed).unwrap();
    assert_ne!(pair("pair.pem"), before);
    assert!(renewed["not_after"].as_str().unwrap() > "2026-01-01");
    // The same key, the same name; bound to each other, accepted by the bank.
    let shown = parties.world.run("agent", &["--json", "cert", "show", "buyer"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["binding"]["matches"], true);
    assert_eq!(shown["bank"]["key"], renewed["key"]);
    assert_eq!(parties.issued("bank", "buyer").len(), 2);
    let chain = agent(parties, "buyer").chain().unwrap();
    assert_eq!(parties.ask(&chain, "buyer", Method::GET, "/v1/openapi.json", None), Ok("3.1.0".into()));
}

fn agent(parties: &Parties, name: &str) -> AgentSocket {
    AgentSocket::new(parties.world.state("agent").join("run/agent.sock"), name.parse().unwrap())
}

impl Parties {
    /// Asks the bank's peer listener as an agent does.
    fn ask(
        &self,
        chain: &[Vec<u8>],
        agent_name: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<String, String> {
        let address = peer_address(&self.world.state("bank").join("run/ports.json"));
        let url = format!("https://{}", address.replace("127.0.0.1", "localhost"));
        let client =
            PeerClient::start(PeerPlace::find(&PeerSettings { url, timeout_ms: 10_000 }, Unresolved::Refused).unwrap())
                .unwrap();
        let root = std::fs::read(self.world.state("agent").join("anchors/bank-root.pem")).unwrap();
        let (_, root) = x509_parser::pem::parse_x509_pem(&root).unwrap();
        let answer = client.ask(&root.contents, chain, Arc::new(agent(self, agent_name)), method, path, body);
        answer.map(|value| value["openapi"].as_str().unwrap_or("other").to_owned()).map_err(|failure| failure.name)
    }
}

fn strangers_and_agents_get_nothing_of_others(parties: &Parties) {
    let chain = agent(parties, "buyer").chain().unwrap();
    let other =
        json!(serde_json::from_slice::<Value>(&std::fs::read(parties.request("shopper2", None)).unwrap()).unwrap());
    let endorsement = "/v1/endorsements/req_00000000000000000000000001";
    let table = [
        (Method::PUT, endorsement, Some(&other), "peer_not_permitted"),
        (Method::GET, endorsement, None, "peer_not_permitted"),
        (Method::DELETE, endorsement, None, "peer_not_permitted"),
        (Method::POST, "/v1/renewals", Some(&other), "renewal_not_own"),
        (Method::POST, "/v1/renewals/proof", Some(&other), "renewal_not_own"),
        (Method::POST, "/v1/renewals", Some(&Value::Null), "request_malformed"),
        (Method::GET, "/v1/renewals", None, "peer_not_permitted"),
        (Method::PUT, "/v1/lease", Some(&other), "peer_not_permitted"),
        (Method::GET, "/v1/witness", None, "peer_not_permitted"),
        (Method::POST, "/v1/witness", Some(&other), "peer_not_permitted"),
        (Method::GET, "/", None, "unknown_path"),
        (Method::GET, "/v1/endorsements", None, "unknown_path"),
    ];
    for (method, path, body, expected) in table {
        let refused = parties.ask(&chain, "buyer", method.clone(), path, body);
        assert_eq!(refused, Err(expected.to_owned()), "{method} {path}");
    }
    // Half a pair, a pair in the wrong order, nobody.
    for presented in [vec![chain[0].clone()], vec![chain[1].clone(), chain[0].clone()], vec![]] {
        let refused = parties.ask(&presented, "buyer", Method::GET, "/v1/openapi.json", None);
        assert!(refused.is_err(), "{} certificates", presented.len());
    }
    // Revoked while it could still connect.
    parties.world.run("bank", &["--operator", "bank-officer", "revoke", "buyer", "--reason", "superseded"]);
    assert!(parties.ask(&chain, "buyer", Method::GET, "/v1/openapi.json", None).is_err());
    let (code, _) = parties.world.refused("agent", &["cert", "renew", "buyer"]);
    assert_ne!(code, 0);
}

/// A connection of an agent to the bank's peer listener, for bytes as they are.
struct Raw(rustls::StreamOwned<rustls::ClientConnection, TcpStream>);

impl Raw {
    fn connect(parties: &Parties, agent_name: &str) -> Self {
        let root = std::fs::read(parties.world.state("agent").join("anchors/bank-root.pem")).unwrap();
        let (_, root) = x509_parser::pem::parse_x509_pem(&root).unwrap();
        let agent = agent(parties, agent_name);
        let chain = agent.chain().unwrap();
        let config = countersign::tls::client_config(&chain, Arc::new(agent), &root.contents).unwrap();
        let client = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let address = peer_address(&parties.world.state("bank").join("run/ports.json"));
        Self(rustls::StreamOwned::new(client, TcpStream::connect(address).unwrap()))
    }

    /// Sends a request; answers status and the failure's name.
    fn ask(&mut self, line: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let head = format!("{line} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n", body.len());
        // A body that is too long is answered before it was read.
        let _ = self.0.write_all(&[head.as_bytes(), body].concat()).and_then(|()| self.0.flush());
        let (mut told, mut byte) = (Vec::new(), [0]);
        while !told.ends_with(b"\r\n\r\n") && self.0.read(&mut byte).unwrap_or(0) == 1 {
            told.push(byte[0]);
        }
        let head = String::from_utf8(told).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).map_or(0, |code| code.parse().unwrap());
        let after =
            |name: &str| head.split(name).nth(1).map(|rest| rest.split("\r\n").next().unwrap().trim().to_owned());
        let mut body = vec![0; after("content-length:").map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body).unwrap();
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        assert!(status != 429 || after("retry-after:").is_some(), "{head}");
        (status, answer["error"]["name"].as_str().unwrap_or_default().to_owned())
    }
}

fn the_door_answers_whatever_comes_as_the_table_says(parties: &Parties) {
    let (carol, dora) = (parties.person("carol"), parties.person("dora"));
    let signed = ["--endorse-as", &carol, "--issue-as", &dora];
    parties.world.run("bank", &[&["cert", "issue", "loud", "--role", "purchaser"], &signed[..]].concat());
    let whole = std::fs::read_to_string(parties.request("loud", None)).unwrap();
    let json = "content-type: application/json\r\n";
    let extra = whole.replacen('{', "{\"extra\": 1,", 1);
    let twice = whole.replacen('{', "{\"name\": \"loud\",", 1);
    let cut = &whole[..whole.len() - 10];
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let long = " ".repeat(256 * 1024 + 1);
    let renewals = "POST /v1/renewals";
    // What it is, the request's line, its headers and its body; status and name of the answer.
    type Row<'a> = (&'a str, &'a str, &'a str, &'a [u8], u16, &'a str);
    let table: Vec<Row<'_>> = vec![
        ("a member of nobody", renewals, json, extra.as_bytes(), 422, "request_malformed"),
        ("a member twice", renewals, json, twice.as_bytes(), 400, "body_malformed"),
        ("cut off", renewals, json, cut.as_bytes(), 400, "body_malformed"),
        ("too deep", renewals, json, deep.as_bytes(), 400, "body_malformed"),
        ("nothing", renewals, json, b"", 400, "body_malformed"),
        ("no text", renewals, json, b"\xff\xfe{}", 400, "body_malformed"),
        ("a list", renewals, json, b"[]", 422, "request_malformed"),
        ("a number", "POST /v1/renewals/proof", json, b"1e400", 400, "body_malformed"),
        ("not said to be JSON", renewals, "", whole.as_bytes(), 415, "content_type_wrong"),
        ("said to be a form", renewals, "content-type: text/plain\r\n", whole.as_bytes(), 415, "content_type_wrong"),
        ("another method", "PATCH /v1/renewals", json, whole.as_bytes(), 403, "peer_not_permitted"),
        ("a party's part", "DELETE /v1/endorsements/x", "", b"", 403, "peer_not_permitted"),
        ("a way around", "POST /v1/../v1/renewals", json, whole.as_bytes(), 404, "unknown_path"),
        ("another spelling", "POST /V1/renewals", json, whole.as_bytes(), 404, "unknown_path"),
        ("an escaped one", "POST /v1/%72enewals", json, whole.as_bytes(), 404, "unknown_path"),
        ("a path below", "POST /v1/renewals/proof/x", json, whole.as_bytes(), 404, "unknown_path"),
    ];
    for (what, line, headers, body, status, name) in table {
        let told = Raw::connect(parties, "loud").ask(line, headers, body);
        assert_eq!(told, (status, name.to_owned()), "{what}");
    }
    assert_eq!(Raw::connect(parties, "loud").ask(renewals, json, long.as_bytes()).0, 413);
    // Whoever asks without end waits; others do not.
    let mut loud = Raw::connect(parties, "loud");
    let answers: Vec<(u16, String)> = (0..2 * BURST).map(|_| loud.ask("GET /v1/openapi.json", "", b"")).collect();
    assert_eq!(answers.last().unwrap(), &(429, "too_many_requests".to_owned()), "{answers:?}");
    let mut assistant = Raw::connect(parties, "assistant");
    assert_eq!(assistant.ask("GET /v1/openapi.json", "", b"").0, 200);
    // A peer has so many connections, and each that ends makes room.
    let mut held: Vec<Raw> = vec![];
    for _ in 0..17 {
        held.push(Raw::connect(parties, "assistant"));
        if held.last_mut().unwrap().ask("GET /v1/openapi.json", "", b"").0 != 200 {
            break;
        }
    }
    assert_eq!(held.len() + 1, 17, "the seventeenth connection is closed");
}

/// Until it is neither unreachable nor unknown: a daemon that was killed comes back.
const ATTEMPTS_MAX: usize = 500;

#[test]
fn an_issuance_whose_daemons_are_killed_at_their_writes_goes_on_under_its_request() {
    let parties = Parties::new();
    let mut kills = 0;
    for (number, (party, call, when)) in [
        ("secco", "rename", 1),
        ("secco", "rename", 2),
        ("secco", "fsync", 3),
        ("bank", "rename", 1),
        ("bank", "rename", 2),
        ("bank", "fsync", 2),
    ]
    .into_iter()
    .enumerate()
    {
        let agent = format!("agent{number}");
        let (s, b) = (parties.file(&format!("{agent}-s.pem")), parties.file(&format!("{agent}-b.pem")));
        let request = parties.request(&agent, None);
        let killed = |file: &str, out: &str| {
            let front = parties.world.process(party, "front");
            let watching = Strace::kills_at(front, call, when)?;
            let told = parties.issue(file, out);
            drop(watching);
            Some((told, !is_alive(front)))
        };
        let comes_to = |file: &str, out: &str, expected: (i32, &str)| {
            for _ in 0..ATTEMPTS_MAX {
                let (code, name) = parties.issue(file, out);
                let goes_on = [4, 5].contains(&code) && name != "endorsement_pending";
                if !goes_on {
                    assert_eq!((code, name.as_str()), expected, "{party} {call} {when}");
                    return;
                }
            }
            panic!("{party} {call} {when}: it never came back");
        };
        // Asked, endorsed, issued: at each step one of the two dies at this write, and the step is repeated.
        for step in [(5, "endorsement_pending"), (0, "")] {
            let Some((_, is_killed)) = killed(&request, &s) else {
                println!("skipped: this user may not look at other processes");
                return;
            };
            kills += u32::from(is_killed);
            comes_to(&request, &s, step);
            if step.0 == 5 {
                parties.approve(&agent);
            }
        }
        let proof = parties.request(&agent, Some(&s));
        kills += u32::from(killed(&proof, &b).is_some_and(|(_, is_killed)| is_killed));
        comes_to(&proof, &b, (0, ""));
        for (party, profile) in [("secco", "agent-s"), ("bank", "agent-b")] {
            let issued = parties.issued(party, &agent);
            let fits = issued.len() == 1 && issued[0].0 == profile && issued[0].2 != "revoked";
            assert!(fits, "{party}: one certificate for one request: {issued:?}");
        }
        parties.world.run("agent", &["cert", "install", &agent, "--bank", &b, "--endorsement", &s]);
        // A daemon whose fronts die young again and again ends itself: this one gets a new life.
        parties.world.run(party, &["stop"]);
        parties.world.serve(party);
    }
    assert!(kills >= 6, "{kills} kills");
}

#[test]
fn an_agent_gets_its_pair_in_one_command_with_two_peoples_signatures() {
    let world = World::new();
    let [carol, dora] = ["carol", "dora"].map(|person| world.state(person).display().to_string());
    let both = |endorser: &str, issuer: &str| {
        ["cert", "issue", "buyer", "--role", "purchaser", "--endorse-as", endorser, "--issue-as", issuer]
            .map(str::to_owned)
            .to_vec()
    };
    let run = |arguments: &[String]| world.output("bank", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let refused =
        |arguments: &[String]| world.refused("bank", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(refused(&both(&carol, &carol)), (3, "same_person".into()));
    assert_eq!(refused(&both(&dora, &carol)), (3, "operator_unknown".into()));
    let nobody = world.state("nobody").display().to_string();
    assert_eq!(refused(&both(&nobody, &dora)), (2, "config_missing".into()));
    let first = run(&both(&carol, &dora));
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let pair = || std::fs::read(world.state("agent").join("certs/agents/buyer/pair.pem")).unwrap();
    let made = pair();
    assert!(run(&both(&carol, &dora)).status.success());
    assert_eq!(pair(), made, "repeating finds what is there");
    let verdict = world.run("bank", &["cert", "verify", &pair_file(&world)]);
    assert!(verdict.contains("\"accepted\":true"), "{verdict}");
    // A role that the catalogue does not have, and a person who is no officer any more.
    let mut king = both(&carol, &dora);
    king[4] = "king".into();
    assert_eq!(refused(&king), (3, "role_unknown".into()));
    let key = world.run("carol", &["--json", "operator", "show"]);
    let key: Value = serde_json::from_str(&key).unwrap();
    let key = key["request"]["key"].as_str().unwrap().to_owned();
    world.run("secco", &["--operator", "secco-officer", "revoke", &key, "--reason", "affiliation-changed"]);
    assert_eq!(refused(&both(&carol, &dora)), (3, "operator_revoked".into()));
}

fn pair_file(world: &World) -> String {
    let path: PathBuf = world.state("agent").join("certs/agents/buyer/pair.pem");
    path.display().to_string()
}

#[test]
fn the_api_document_names_every_path_that_is_served() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/peer-api.json")).unwrap();
    let api: Value = serde_json::from_str(&text).unwrap();
    let mut paths: Vec<&str> = api["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    paths.sort_unstable();
    let expected = [
        "/v1/endorsements/{request_id}",
        "/v1/lease",
        "/v1/openapi.json",
        "/v1/renewals",
        "/v1/renewals/proof",
        "/v1/witness",
    ];
    assert_eq!(paths, expected);
}
