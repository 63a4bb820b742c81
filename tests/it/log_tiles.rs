//! Whoever keeps a copy of a bank's log fetches it over HTTPS, and what they have verifies with the bank's root alone.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use countersign::kernel::note::{Checkpoint, SignedNote};
use countersign::kernel::tile::grown;
use countersign::kernel::types::Sha256;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::raw;
use crate::support::world::World;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The demo's bank with its pages, and a reader of its log.
struct Site {
    world: World,
    tls: Arc<ClientConfig>,
    port: u16,
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Site {
    fn new(serve: &str) -> Self {
        let world = World::new();
        world.run("bank", &["stop"]);
        let config = world.state("bank").join("countersign.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text + serve).unwrap();
        world.serve("bank");
        let ports = fs::read(world.state("bank").join("run/ports.json")).unwrap();
        let ports: serde_json::Value = serde_json::from_slice(&ports).unwrap();
        let port = ports["console"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
        let mut roots = RootCertStore::empty();
        let root = world.state("bank").join("certs/root.pem");
        roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = Arc::new(tls.with_root_certificates(roots).with_no_client_auth());
        Self { world, tls, port }
    }

    fn ask(&self, method: &str, path: &str, secret: &str) -> Answer {
        let said = if secret.is_empty() { String::new() } else { format!("Bearer {secret}") };
        let headers = [("Host", "127.0.0.1"), ("Connection", "close"), ("Authorization", &*said)];
        let request = raw::composed(method, path, headers, "");
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.tls), name).unwrap();
        let mut stream = StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", self.port)).unwrap());
        stream.write_all(&request).unwrap();
        let mut answer = vec![];
        // A server that closes without saying so in TLS has still said everything: its length is in the head.
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: answer[end + 4..].to_vec() }
    }
}

#[test]
fn a_copy_that_was_fetched_verifies_and_only_readers_get_one() {
    let hash = Sha256::of(&[SECRET.as_bytes()]).hex();
    let site = Site::new(&format!(
        "\n[audit.serve]\nto = \"readers\"\n\n[[audit.serve.reader]]\nname = \"auditor\"\nsecret_sha256 = \"{hash}\"\n"
    ));
    for (method, path, secret, status, name) in [
        ("GET", "/log/checkpoint", "", 401, "reader_unknown"),
        ("GET", "/log/checkpoint", "0123456789abcdef0123456789abcdeF", 401, "reader_unknown"),
        ("GET", "/log/tile/0/000", hash.as_str(), 401, "reader_unknown"),
        ("POST", "/log/checkpoint", SECRET, 405, "method_not_allowed"),
        ("GET", "/log/", SECRET, 404, "unknown_path"),
        ("GET", "/log/tile/0/0", SECRET, 404, "unknown_path"),
        ("GET", "/log/tile/0/x999/x999/999", SECRET, 404, "unknown_tile"),
        ("GET", "/log/../store/store.sqlite3", SECRET, 404, "unknown_path"),
        ("GET", "/store", SECRET, 404, "unknown_path"),
    ] {
        let refused = site.ask(method, path, secret);
        let said = String::from_utf8(refused.body).unwrap();
        assert_eq!((refused.status, said.trim()), (status, name), "{method} {path}");
        assert!(refused.head.contains("cache-control: no-store"), "{path}: {}", refused.head);
    }

    let checkpoint = site.ask("GET", "/log/checkpoint", SECRET);
    assert_eq!(checkpoint.status, 200, "{}", checkpoint.head);
    assert!(checkpoint.head.contains("cache-control: no-store"), "{}", checkpoint.head);
    let head = Checkpoint::parse(&SignedNote::parse(&checkpoint.body).unwrap().text).unwrap();
    assert!(head.size > 0);
    let copy = tempfile::tempdir().unwrap();
    let kept = |path: &str, bytes: &[u8]| {
        let file = copy.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    };
    // The three names of an export, and all of it in one reading.
    let together = site.ask("GET", "/log/head.json", SECRET);
    assert_eq!(together.status, 200, "{}", together.head);
    assert!(together.head.contains("content-type: application/json"), "{}", together.head);
    assert!(together.head.contains("cache-control: no-store"), "{}", together.head);
    let read: serde_json::Value = serde_json::from_slice(&together.body).unwrap();
    assert_eq!((&read["origin"], read["chain"].as_array().unwrap().len()), (&head.origin.clone().into(), 3));
    kept("checkpoint", &checkpoint.body);
    for path in ["checkpoint.certificates", "witness.certificates"] {
        let chain = site.ask("GET", &format!("/log/{path}"), SECRET);
        assert_eq!(chain.status, 200, "{path}: {}", chain.head);
        if !chain.body.is_empty() {
            kept(path, &chain.body);
        }
    }
    for tile in grown(0, head.size) {
        let fetched = site.ask("GET", &format!("/log/{tile}"), SECRET);
        assert_eq!(fetched.status, 200, "{tile}: {}", fetched.head);
        assert!(fetched.head.contains("cache-control: private, max-age=31536000, immutable"), "{}", fetched.head);
        kept(&tile.to_string(), &fetched.body);
    }
    let [copy, root] = [copy.path().to_owned(), site.world.state("bank").join("certs/root.pem")];
    let said = site
        .world
        .run("nowhere", &["--json", "verify", "log", copy.to_str().unwrap(), "--root", root.to_str().unwrap()]);
    let verified: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(verified["size"].to_string().trim_matches('"'), head.size.to_string(), "{verified}");
}

#[test]
fn a_head_that_was_fetched_in_one_reading_verifies_although_the_key_is_rotated_before_its_tiles() {
    let site = Site::new("\n[audit.serve]\nto = \"anybody\"\n");
    let fetched = site.ask("GET", "/log/head.json", "");
    let head: serde_json::Value = serde_json::from_slice(&fetched.body).unwrap();
    let admin = ["--operator", "bank-admin", "--json", "key", "rotate", "checkpoint"];
    site.world.run("bank", &admin);
    let chain = head["chain"][0].as_str().unwrap();
    // What the three names give by now does not belong to the checkpoint of before.
    crate::crash::until("the next key's checkpoint", || {
        let now = String::from_utf8(site.ask("GET", "/log/checkpoint.certificates", "").body).unwrap();
        (now.lines().next() != Some(chain)).then_some(())
    });
    let copy = tempfile::tempdir().unwrap();
    let kept = |path: &str, bytes: &[u8]| {
        let file = copy.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    };
    kept("head.json", &fetched.body);
    for tile in grown(0, head["size"].as_u64().unwrap()) {
        kept(&tile.to_string(), &site.ask("GET", &format!("/log/{tile}"), "").body);
    }
    let directory = copy.path().to_str().unwrap();
    let root = site.world.state("bank").join("certs/root.pem");
    let verify = ["--json", "verify", "log", directory, "--root", root.to_str().unwrap()];
    let verified: serde_json::Value = serde_json::from_str(&site.world.run("bank", &verify)).unwrap();
    assert_eq!(verified["size"], head["size"], "{verified}");
    // Its one writing, and nothing else.
    let text = String::from_utf8(fetched.body.clone()).unwrap();
    let size = format!("\"size\":{}", head["size"]);
    let chain_of_next = text.replace(chain, &chain.replacen('A', "B", 1));
    for (other, name) in [
        (text.replace("{\"chain\"", "{ \"chain\""), "copy_damaged"),
        (text.replace(&size, "\"size\":1"), "copy_damaged"),
        (text.replace("}\n", ",\"x\":1}\n"), "copy_damaged"),
        (chain_of_next, "chain_"),
    ] {
        assert_ne!(other, text, "{name}");
        kept("head.json", other.as_bytes());
        assert!(site.world.refused("bank", &verify[1..]).1.starts_with(name), "{other}");
    }
}

#[test]
fn a_log_is_read_by_nobody_unless_it_is_said_and_by_anybody_only_then() {
    let nobody = Site::new("");
    let refused = nobody.ask("GET", "/log/checkpoint", SECRET);
    assert_eq!((refused.status, &*refused.body), (404, &b"unknown_path\n"[..]));
    drop(nobody);
    let anybody = Site::new("\n[audit.serve]\nto = \"anybody\"\n");
    assert_eq!(anybody.ask("HEAD", "/log/checkpoint", "").status, 200);
    let tile = anybody.ask("GET", "/log/tile/entries/000.p/1", "");
    assert_eq!(tile.status, 200, "{}", tile.head);
    assert!(tile.head.contains("cache-control: public, max-age=31536000, immutable"), "{}", tile.head);
    anybody.world.run("bank", &["stop"]);
    let config = anybody.world.state("bank").join("countersign.toml");
    let text = fs::read_to_string(&config).unwrap();
    for bad in [
        text.replace("to = \"anybody\"", "to = \"readers\""),
        text.replace("to = \"anybody\"", "to = \"everybody\""),
        text.lines().filter(|line| !line.starts_with("console")).map(|line| format!("{line}\n")).collect(),
    ] {
        fs::write(&config, bad).unwrap();
        assert_eq!(anybody.world.refused("bank", &["check"]).1, "config_invalid");
    }
    fs::write(&config, text).unwrap();
}
