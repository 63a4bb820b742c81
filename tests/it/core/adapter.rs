//! The HTTP adapter alone: what it makes of each answer, whom it trusts, what it presents.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use countersign::banking::sandbox::Sandbox;
use countersign::banking::settings::BankingSettings;
use countersign::banking::{CoreAnswer, CoreBanking, CoreState, HttpCore, Order, Outside};
use countersign::kernel::ledger::TransactionKind;
use countersign::kernel::types::TransactionId;
use countersign::ops::paths::StateDir;
use countersign::tls::asking::Unresolved;
use countersign::tls::{ClientIdentity, SignedChain, TlsSigner};

const ID: &str = "txn_01KAK2S8C5V8GQ3W3T1Y2N4M5P";
const OTHER: &str = "txn_01KAK2S8C5V8GQ3W3T1Y2N4M5Q";

/// One thread that reads requests and gives each the same answer; it ends with its connection or when woken.
struct Canned {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Canned {
    fn start(answer: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heads);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let head = request(&mut stream);
                if head.is_empty() {
                    return;
                }
                seen.lock().unwrap().push(head);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { address, heads }
    }

    fn answering(status: u16, body: &str) -> Self {
        let length = body.len();
        Self::start(format!("HTTP/1.1 {status} .\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"))
    }

    fn url(&self) -> String {
        format!("http://{}/v1/", self.address)
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        let _ = TcpStream::connect(self.address);
    }
}

/// Reads one request with its body; answers its head, empty when there was none.
fn request(stream: &mut impl Read) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return String::new();
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line.to_lowercase());
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    reader.read_exact(&mut vec![0; length.unwrap_or(0)]).unwrap();
    head
}

fn order() -> Order {
    Order {
        transaction_id: ID.parse().unwrap(),
        kind: TransactionKind::Transfer,
        debit_account: "CHK_001".into(),
        credit_account: "SAV_001".into(),
        amount_minor: "100".into(),
        fee_minor: "0".into(),
        currency: "USD".parse().unwrap(),
        merchant: None,
        product_id: None,
        original_transaction_id: None,
    }
}

fn core(settings: &BankingSettings) -> Arc<HttpCore> {
    HttpCore::start(Outside::read(settings, &StateDir::new(std::env::temp_dir()), Unresolved::Refused).unwrap())
        .unwrap()
}

#[test]
fn only_a_word_about_this_transaction_is_a_word() {
    let said = |id: &str, state: &str| format!(r#"{{"transaction_id":"{id}","state":"{state}"}}"#);
    let error =
        |id: &str, name: &str| format!(r#"{{"transaction_id":"{id}","error":{{"name":"{name}","message":"m"}}}}"#);
    let refused = |name: &str| Some(CoreAnswer::Refused(name.into()));
    let table = [
        (200, said(ID, "held"), Some(CoreAnswer::Done)),
        (200, said(ID, "settled"), None),
        (200, said(OTHER, "held"), None),
        (200, r#"{"state":"held"}"#.into(), None),
        (201, said(ID, "held"), None),
        (301, said(ID, "held"), None),
        (422, error(ID, "limit_2"), refused("limit_2")),
        (409, error(ID, "limit"), refused("limit")),
        (422, error(OTHER, "limit"), None),
        (422, error(ID, "Too\\u0000Loud"), refused("unnamed")),
        (422, error(ID, &"a".repeat(65)), refused("unnamed")),
        (422, said(ID, "held"), None),
        (401, error(ID, "who_are_you"), None),
        (403, error(ID, "not_you"), None),
        (404, error(ID, "unknown_transaction"), None),
        (429, error(ID, "slower"), None),
        (500, error(ID, "broken"), None),
        (503, String::new(), None),
        (200, "<html>it works</html>".into(), None),
        (200, format!("{}{}", " ".repeat(70_000), said(ID, "held")), None),
    ];
    for (status, body, expected) in table {
        let canned = Canned::answering(status, &body);
        let answer = core(&super::settings(&canned.url())).hold(&order());
        match expected {
            Some(expected) => assert_eq!(answer, expected, "{status} {body}"),
            None => assert!(matches!(answer, CoreAnswer::Unknown(_)), "{status} {body}: {answer:?}"),
        }
    }
    let cut = Canned::start("HTTP/1.1 200 .\r\ncontent-length: 500\r\n\r\n{".into());
    assert!(matches!(core(&super::settings(&cut.url())).settle(&order()), CoreAnswer::Unknown(_)));
}

#[test]
fn a_status_is_what_it_says_or_not_known() {
    let said = |state: &str| format!(r#"{{"transaction_id":"{ID}","state":"{state}"}}"#);
    let error = |state: &str, name: &str| {
        format!(r#"{{"transaction_id":"{ID}",{state}"error":{{"name":"{name}","message":"m"}}}}"#)
    };
    let table = [
        (200, said("held"), Some(CoreState::Held)),
        (200, said("settled"), Some(CoreState::Settled)),
        (200, said("released"), Some(CoreState::Released)),
        (200, error(r#""state":"refused","#, "limit"), Some(CoreState::Refused("limit".into()))),
        (404, error("", "unknown_transaction"), Some(CoreState::Absent)),
        (404, error("", "no_such_place"), None),
        (404, String::new(), None),
        (200, said("refused"), None),
        (200, said("pending"), None),
        (500, said("held"), None),
    ];
    for (status, body, expected) in table {
        let canned = Canned::answering(status, &body);
        let id: TransactionId = ID.parse().unwrap();
        assert_eq!(core(&super::settings(&canned.url())).status(&id).ok(), expected, "{status} {body}");
    }
}

#[test]
fn a_connection_that_was_never_made_is_certainly_not_sent() {
    // Bound and not listening: nobody else gets the port, and nobody answers.
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
    let core = core(&super::settings(&format!("http://{bound}/v1")));
    for answer in [core.hold(&order()), core.settle(&order()), core.release(&order())] {
        assert!(matches!(answer, CoreAnswer::NotSent(_)), "{answer:?}");
    }
}

#[test]
fn each_call_has_its_path_and_key_and_the_secret_is_shown_to_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("core.secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let canned = Canned::answering(500, "");
    let settings = BankingSettings { secret_file: Some(secret.clone()), ..super::settings(&canned.url()) };
    let outside = Outside::read(&settings, &StateDir::new(directory.path()), Unresolved::Refused).unwrap();
    assert!(!format!("{outside:?}").contains("hunter2"));
    let core = HttpCore::start(outside).unwrap();
    for answer in [core.hold(&order()), core.settle(&order()), core.release(&order())] {
        assert!(!format!("{answer:?} {core:?}").contains("hunter2"));
    }
    core.status(&ID.parse().unwrap()).unwrap_err();
    let heads = canned.heads.lock().unwrap().clone();
    let id = ID.to_lowercase();
    let verbs = [("holds", "hold"), ("settlements", "settle"), ("releases", "release")];
    for (head, (path, verb)) in heads.iter().zip(verbs) {
        assert!(head.starts_with(&format!("post /v1/{path}/{id} http/1.1")), "{head}");
        assert!(head.contains(&format!("idempotency-key: {id}:{verb}\r\n")), "{head}");
    }
    assert!(heads[3].starts_with(&format!("get /v1/transactions/{id} http/1.1")), "{}", heads[3]);
    assert!(heads.iter().all(|head| head.contains("authorization: bearer hunter2\r\n")), "{heads:?}");

    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Outside::read(&settings, &StateDir::new(directory.path()), Unresolved::Refused).unwrap_err();
    assert_eq!(refused.name, "secret_file_too_open");
}

#[test]
fn over_tls_only_the_configured_root_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root.pem");
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certified.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut tcp, _) = listener.accept().unwrap();
            let mut connection = rustls::ServerConnection::new(Arc::new(server.clone())).unwrap();
            let mut tls = rustls::Stream::new(&mut connection, &mut tcp);
            if request(&mut tls).is_empty() {
                continue;
            }
            let body = format!(r#"{{"transaction_id":"{ID}","state":"held"}}"#);
            let head = format!("HTTP/1.1 200 .\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            tls.write_all(format!("{head}{body}").as_bytes()).unwrap();
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
    });
    let hold = |trusted: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        std::fs::write(&root, trusted.cert.pem()).unwrap();
        let url = format!("https://localhost:{port}/v1");
        let settings = BankingSettings { root_file: Some(root.clone()), ..super::settings(&url) };
        settings.check().unwrap();
        core(&settings).hold(&order())
    };
    assert_eq!(hold(&certified), CoreAnswer::Done);
    let stranger = hold(&stranger);
    assert!(matches!(stranger, CoreAnswer::NotSent(_)), "nothing was said to a stranger: {stranger:?}");
    served.join().unwrap();
    std::fs::write(&root, "no certificate").unwrap();
    let settings = BankingSettings { root_file: Some(root), ..super::settings("https://localhost:1/v1") };
    let refused = Outside::read(&settings, &StateDir::new(directory.path()), Unresolved::Refused).unwrap_err();
    assert_eq!(refused.name, "core_root_unusable");
}

/// A client's certificate under a root of its own, with its key.
struct Client {
    chain: Vec<Vec<u8>>,
    key: rcgen::KeyPair,
}

#[derive(Debug)]
struct Root(Vec<u8>);

impl Client {
    fn under_a_new_root() -> (Root, Arc<Self>) {
        let (root_key, key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let mut root = rcgen::CertificateParams::new(vec![]).unwrap();
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root_der = root.self_signed(&root_key).unwrap().der().to_vec();
        let mut leaf = rcgen::CertificateParams::new(vec![]).unwrap();
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(root, root_key)).unwrap();
        (Root(root_der), Arc::new(Self { chain: vec![leaf.der().to_vec()], key }))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl TlsSigner for Client {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        rcgen::SigningKey::sign(&self.key, message).map_err(|error| error.to_string())
    }
}

/// What is presented: this client's certificate, or none yet.
#[derive(Debug)]
struct Presented(Option<Arc<Client>>);

impl ClientIdentity for Presented {
    fn current(&self) -> Option<SignedChain> {
        let client = self.0.as_ref()?;
        Some((client.chain.clone(), Arc::clone(client) as Arc<dyn TlsSigner>))
    }
}

#[test]
fn a_core_that_asks_for_our_certificate_does_nothing_for_a_wrong_one_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("root.pem");
    let (root, own) = Client::under_a_new_root();
    let (_, stranger) = Client::under_a_new_root();
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sandbox = Sandbox::start_for_clients_of(anywhere, &root.0).unwrap();
    std::fs::write(&path, sandbox.root().unwrap()).unwrap();
    let settings = |client_certificate| BankingSettings {
        root_file: Some(path.clone()),
        client_certificate,
        ..super::settings(&sandbox.url())
    };
    let hold = |client_certificate: bool, presented: Option<&Arc<Client>>| {
        let settings = settings(client_certificate);
        settings.check().unwrap();
        let outside = Outside::read(&settings, &StateDir::new(directory.path()), Unresolved::Refused).unwrap();
        let identity = Arc::new(Presented(presented.cloned()));
        HttpCore::start_as(outside, Some(identity)).unwrap().hold(&order())
    };
    for (what, asked, presented) in
        [("a stranger's", true, Some(&stranger)), ("none yet", true, None), ("not presented", false, Some(&own))]
    {
        let answer = hold(asked, presented);
        assert!(matches!(answer, CoreAnswer::NotSent(_) | CoreAnswer::Unknown(_)), "{what}: {answer:?}");
        assert!(sandbox.known().is_empty(), "{what}");
    }
    assert_eq!(hold(true, Some(&own)), CoreAnswer::Done);
    assert_eq!(sandbox.known().len(), 1);
}
