//! What anybody gets over plain HTTP, read by others: OpenSSL and Python's cryptography, and a table of requests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign::kernel::credential::certificate::Certificate;
use countersign::kernel::credential::pem::{self, Kind};
use serde_json::Value;

use crate::support::world::World;

#[test]
fn lists_and_answers_are_what_others_read_before_and_after_a_revocation() {
    let site = Site::new();
    every_request_is_answered_as_the_table_says(&site);
    let agent = site.agent_certificate();
    site.crl_is(&["CRL Number", "Only User Certificates", "URI:http://pki.countersign.example/crl/"], 1);
    site.openssl_says(&agent, "good");
    site.cached_answers_are_the_same_until_the_status_changes(&agent, "good");
    site.stranger_is_unknown();
    site.python_reads_both(&agent, "GOOD");
    let checked: Value = serde_json::from_str(&site.bank(&["crl", "check", "--json"])).unwrap();
    assert!(checked["differences"] == serde_json::json!([]) && checked["revoked"] == 1, "{checked}");

    let answer: Value =
        serde_json::from_str(&site.bank(&["revoke", "assistant", "--reason", "key-compromise", "--json"])).unwrap();
    assert_eq!((&answer["pending"], &answer["crl"]["revoked"]), (&serde_json::json!({}), &2.into()));
    site.crl_is(&["Key Compromise"], 2);
    site.openssl_says(&agent, "revoked");
    site.cached_answers_are_the_same_until_the_status_changes(&agent, "revoked");
    site.python_reads_both(&agent, "REVOKED");
    site.roots_list_is_about_authorities();
    site.bank(&["crl", "check"]);
    the_list_survives_a_restart(&site);
    what_differs_is_told_with_an_exit_code_of_its_own(&site);
}

/// The bank of a demo, as others see it.
struct Site {
    world: World,
    work: tempfile::TempDir,
    /// The issuing CA's key identifier.
    issuer: String,
}

impl Site {
    fn new() -> Self {
        let world = World::new();
        let work = tempfile::tempdir().unwrap();
        let certs = world.state("bank").join("certs");
        let read = |name: &str| std::fs::read_to_string(certs.join(name)).unwrap();
        std::fs::write(work.path().join("chain.pem"), [read("issuing.pem"), read("root.pem")].concat()).unwrap();
        let der = pem::decode_one(Kind::Certificate, &read("issuing.pem")).unwrap();
        let issuer = hex::encode(Certificate::read(&der).unwrap().tbs.subject_key_identifier().unwrap());
        Self { world, work, issuer }
    }

    fn bank(&self, arguments: &[&str]) -> String {
        self.world.run("bank", &[&["--operator", "bank-officer"], arguments].concat())
    }

    fn address(&self) -> String {
        let ports = std::fs::read_to_string(self.world.state("bank").join("run/ports.json")).unwrap();
        let ports: Value = serde_json::from_str(&ports).unwrap();
        ports["pki"].as_str().unwrap().to_owned()
    }

    fn certs(&self, name: &str) -> PathBuf {
        self.world.state("bank").join("certs").join(name)
    }

    /// B of the agent that is at work.
    fn agent_certificate(&self) -> PathBuf {
        let installed = self.world.state("agent").join("certs/agents/assistant/bank.pem");
        let path = self.work.path().join("agent.pem");
        std::fs::copy(&installed, &path).unwrap();
        path
    }

    fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: pki\r\nConnection: close\r\n\r\n"), &[])
    }

    fn send(&self, head: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // One that is refused may be closed before it is sent whole.
        let _ = stream.write_all(body);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        Answer::of(&bytes)
    }

    fn tool(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(program).args(arguments).current_dir(self.work.path()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    fn crl_is(&self, words: &[&str], revoked: usize) {
        let answer = self.get(&format!("/crl/{}.crl", self.issuer));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/pkix-crl")));
        std::fs::write(self.work.path().join("list.crl"), &answer.body).unwrap();
        let chain = ["-CAfile", "chain.pem"];
        let arguments =
            [&["crl", "-inform", "DER", "-in", "list.crl", "-verify", "-noout", "-text"][..], &chain].concat();
        let (verified, text) = self.tool("openssl", &arguments);
        assert!(verified && text.contains("verify OK"), "{text}");
        assert_eq!(text.matches("Serial Number:").count(), revoked, "{text}");
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    }

    fn openssl_says(&self, certificate: &Path, status: &str) {
        let url = format!("http://{}/ocsp/{}", self.address(), self.issuer);
        let issuer = self.certs("issuing.pem").display().to_string();
        let certificate = certificate.display().to_string();
        for more in [&["-sha256"][..], &["-sha1"], &["-sha256", "-no_nonce"]] {
            let ask = ["ocsp", "-CAfile", "chain.pem", "-issuer", &issuer, "-url", &url, "-resp_text"];
            let (ok, text) = self.tool("openssl", &[&ask[..], more, &["-cert", &certificate]].concat());
            assert!(ok && text.contains("Response verify OK"), "{text}");
            assert!(text.contains(&format!("{certificate}: {status}")), "{text}");
            assert_eq!(text.contains("OCSP Nonce"), !more.contains(&"-no_nonce"), "{text}");
            assert!(!text.contains("WARNING: no nonce") || more.contains(&"-no_nonce"), "{text}");
            if status == "revoked" {
                assert!(text.contains("keyCompromise"), "{text}");
            }
        }
    }

    fn question(&self, more: &[&str]) -> Vec<u8> {
        let issuer = self.certs("issuing.pem").display().to_string();
        let ask = ["ocsp", "-issuer", &issuer, "-reqout", "question.der"];
        let (ok, text) = self.tool("openssl", &[&ask[..], more].concat());
        assert!(ok, "{text}");
        std::fs::read(self.work.path().join("question.der")).unwrap()
    }

    fn ask(&self, question: &[u8]) -> Answer {
        let head = format!(
            "POST /ocsp/{} HTTP/1.1\r\nHost: pki\r\nConnection: close\r\nContent-Type: application/ocsp-request\r\n\
             Content-Length: {}\r\n\r\n",
            self.issuer,
            question.len()
        );
        self.send(&head, question)
    }

    fn cached_answers_are_the_same_until_the_status_changes(&self, certificate: &Path, status: &str) {
        use base64::Engine;
        let question = self.question(&["-no_nonce", "-cert", &certificate.display().to_string()]);
        let (first, second) = (self.ask(&question), self.ask(&question));
        let asked = base64::prelude::BASE64_STANDARD.encode(&question).replace('/', "%2F").replace('+', "%2b");
        let third = self.get(&format!("/ocsp/{}/{asked}", self.issuer));
        assert!(first.body == second.body && first.body == third.body && first.status == 200);
        let said = countersign::kernel::credential::ocsp::read_response(&first.body).unwrap();
        assert_eq!(said[0].status, status);
        for name in ["etag", "last-modified", "expires"] {
            assert!(first.header(name).is_some() && first.header(name) == third.header(name), "{name}");
        }
        let control = first.header("cache-control").unwrap();
        let age: u64 = control.strip_prefix("public, max-age=").unwrap().split(',').next().unwrap().parse().unwrap();
        assert!((3_000..=3_540).contains(&age), "{control}");
        let unchanged = self.send(
            &format!(
                "GET /ocsp/{}/{asked} HTTP/1.1\r\nHost: pki\r\nConnection: close\r\nIf-None-Match: {}\r\n\r\n",
                self.issuer,
                first.header("etag").unwrap()
            ),
            &[],
        );
        assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
        // A nonce makes each answer one of its own.
        let with_nonce = self.question(&["-cert", &certificate.display().to_string()]);
        let (one, other) = (self.ask(&with_nonce), self.ask(&with_nonce));
        assert!(one.body != other.body && one.header("cache-control") == Some("no-store"));
    }

    fn stranger_is_unknown(&self) {
        let chain = self.certs("issuing.pem").display().to_string();
        let serials: Vec<String> = (0..63).map(|number| format!("0x41{number:030}")).collect();
        let asked: Vec<&str> = serials.iter().flat_map(|serial| ["-serial", serial]).collect();
        let said = |answer: &Answer| countersign::kernel::credential::ocsp::read_response(&answer.body).unwrap();
        let answer = self.ask(&self.question(&asked));
        assert!(said(&answer).len() == 63 && said(&answer).iter().all(|one| one.status == "unknown"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        // The same number of another issuer is not ours.
        let secco = self.world.state("secco").join("certs/issuing.pem").display().to_string();
        let (ok, _) = self.tool("openssl", &["ocsp", "-issuer", &secco, "-cert", &chain, "-reqout", "question.der"]);
        assert!(ok);
        let foreign = self.ask(&std::fs::read(self.work.path().join("question.der")).unwrap());
        assert_eq!(said(&foreign)[0].status, "unknown");
    }

    fn python_reads_both(&self, certificate: &Path, status: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checker/publication.py");
        let (there, _) = self.tool("python3", &["-c", "import cryptography"]);
        if !there {
            eprintln!("skipped: Python's cryptography is not installed");
            return;
        }
        let question = self.question(&["-no_nonce", "-cert", &certificate.display().to_string()]);
        std::fs::write(self.work.path().join("answer.der"), self.ask(&question).body).unwrap();
        let place = format!("http://pki.countersign.example/crl/{}.crl", self.issuer);
        let issuing = self.certs("issuing.pem").display().to_string();
        let script = script.display().to_string();
        let (ok, text) = self.tool("python3", &[&script, "list.crl", "answer.der", &issuing, &place, status]);
        assert!(ok, "{text}");
    }

    fn roots_list_is_about_authorities(&self) {
        let root =
            pem::decode_one(Kind::Certificate, &std::fs::read_to_string(self.certs("root.pem")).unwrap()).unwrap();
        let identifier = hex::encode(Certificate::read(&root).unwrap().tbs.subject_key_identifier().unwrap());
        let answer = self.get(&format!("/crl/{identifier}.crl"));
        std::fs::write(self.work.path().join("root.crl"), &answer.body).unwrap();
        let (ok, text) = self.tool(
            "openssl",
            &["crl", "-inform", "DER", "-in", "root.crl", "-noout", "-text", "-CAfile", "chain.pem", "-verify"],
        );
        assert!(ok && text.contains("Only CA Certificates") && text.contains("verify OK"), "{text}");
        assert_eq!(self.get(&format!("/ca/{identifier}.cer")).body, root);
    }
}

fn every_request_is_answered_as_the_table_says(site: &Site) {
    let issuer = &site.issuer;
    let nobody = "00".repeat(20);
    let ocsp = |head: &str, body: &str| {
        (
            format!(
                "POST /ocsp/{issuer} HTTP/1.1\r\nHost: pki\r\nConnection: close\r\n{head}Content-Length: {}\r\n\r\n",
                body.len()
            ),
            body.to_owned(),
        )
    };
    let plain = |method: &str, path: &str| {
        (format!("{method} {path} HTTP/1.1\r\nHost: pki\r\nConnection: close\r\n\r\n"), String::new())
    };
    let question = "Content-Type: application/ocsp-request\r\n";
    let table = [
        ("the list", plain("GET", &format!("/crl/{issuer}.crl")), 200, ""),
        ("the CA", plain("GET", &format!("/ca/{issuer}.cer")), 200, ""),
        ("another issuer's list", plain("GET", &format!("/crl/{nobody}.crl")), 404, "unknown_issuer"),
        ("another issuer's CA", plain("GET", &format!("/ca/{nobody}.cer")), 404, "unknown_issuer"),
        ("no ending", plain("GET", &format!("/crl/{issuer}")), 404, "unknown_issuer"),
        ("out of the directory", plain("GET", "/crl/../../pins/bank.pin"), 404, "unknown_path"),
        ("encoded, out of the directory", plain("GET", "/crl/..%2f..%2fpins%2fbank.pin.crl"), 404, "unknown_issuer"),
        ("the root", plain("GET", "/"), 404, "unknown_path"),
        ("deeper", plain("GET", &format!("/crl/{issuer}.crl/x")), 404, "unknown_path"),
        ("POST of a list", plain("POST", &format!("/crl/{issuer}.crl")), 405, "method_not_allowed"),
        ("DELETE of a CA", plain("DELETE", &format!("/ca/{issuer}.cer")), 405, "method_not_allowed"),
        ("a responder without a question", plain("GET", &format!("/ocsp/{issuer}")), 405, "method_not_allowed"),
        ("PUT to a responder", plain("PUT", &format!("/ocsp/{issuer}/AAAA")), 405, "method_not_allowed"),
        ("not base64", plain("GET", &format!("/ocsp/{issuer}/%%%")), 200, "\u{1}\u{1}"),
        ("not a question", ocsp(question, "hello"), 200, "\u{1}\u{1}"),
        ("no question", ocsp(question, ""), 200, "\u{1}\u{1}"),
        ("another media type", ocsp("", "hello"), 415, "not_an_ocsp_request"),
        ("too long", ocsp(question, &"x".repeat(20_000)), 413, "body_too_long"),
        ("a huge head", plain("GET", &format!("/ocsp/{issuer}/{}", "A".repeat(40_000))), 431, ""),
    ];
    for (what, (head, body), status, word) in table {
        let answer = site.send(&head, body.as_bytes());
        let said = String::from_utf8_lossy(&answer.body);
        assert!(answer.status == status && said.contains(word), "{what}: {} {said:?}", answer.status);
        assert_eq!(answer.header("allow").is_some(), status == 405, "{what}");
    }
}

/// A daemon that starts serves what was published, and a list that is no older.
fn the_list_survives_a_restart(site: &Site) {
    let before = site.get(&format!("/crl/{}.crl", site.issuer));
    site.world.run("bank", &["stop"]);
    site.world.serve("bank");
    let mut after = site.get(&format!("/crl/{}.crl", site.issuer));
    // The port is open a moment before the file was read.
    while after.status == 404 {
        after = site.get(&format!("/crl/{}.crl", site.issuer));
    }
    let number = |answer: &Answer| {
        std::fs::write(site.work.path().join("one.crl"), &answer.body).unwrap();
        let (ok, text) = site.tool("openssl", &["crl", "-inform", "DER", "-in", "one.crl", "-noout", "-crlnumber"]);
        assert!(ok, "{text}");
        u64::from_str_radix(text.trim().trim_start_matches("crlNumber=").trim_start_matches("0x"), 16).unwrap()
    };
    assert!(number(&after) >= number(&before));
    site.crl_is(&["Key Compromise"], 2);
}

/// Rows that somebody took out of the store behind the daemon's back.
fn what_differs_is_told_with_an_exit_code_of_its_own(site: &Site) {
    let check = || {
        let output = site.world.output("bank", &["--operator", "bank-officer", "--json", "crl", "check"]);
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let failure: Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
        let what = told["differences"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap().to_owned());
        (output.status.code(), failure["error"]["name"].as_str().map(str::to_owned), what.collect::<Vec<_>>())
    };
    assert_eq!(check(), (Some(0), None, vec![]));
    let store = rusqlite::Connection::open(site.world.state("bank").join("store/store.sqlite3")).unwrap();
    let one = "value = (SELECT min(value) FROM revocations WHERE kind = 'certificate')";
    let serial: String =
        store.query_row(&format!("SELECT value FROM revocations WHERE {one}"), [], |row| row.get(0)).unwrap();
    assert_eq!(store.execute("DELETE FROM revocations WHERE value = ?1", [&serial]).unwrap(), 1);
    let (code, name, what) = check();
    assert_eq!((code, name.as_deref()), (Some(3), Some("publication_differs")), "{what:?}");
    assert_eq!(what, ["it is revoked, the responder says good"], "its agent is revoked");
    assert!(store.execute("DELETE FROM revocations WHERE kind = 'agent'", []).unwrap() > 0);
    let (code, _, what) = check();
    assert_eq!((code, what.as_slice()), (Some(3), ["it is good, and the list has it".to_owned()].as_slice()));
    let issued = "DELETE FROM certificates WHERE lower(hex(serial)) = ?1";
    assert_eq!(store.execute(issued, [&serial]).unwrap(), 1);
    let (code, _, what) = check();
    assert_eq!((code, what), (Some(3), vec!["the list names what was never issued".to_owned()]));
}

/// The security company's word reaches a bank that follows it, without a file.
#[test]
fn a_bank_takes_the_companys_list_over_where_it_is_published() {
    let world = World::new();
    let certificate = std::fs::read_to_string(world.state("secco").join("certs/issuing.pem")).unwrap();
    let der = pem::decode_one(Kind::Certificate, &certificate).unwrap();
    let issuer = hex::encode(Certificate::read(&der).unwrap().tbs.subject_key_identifier().unwrap());
    let kept = world.state("bank").join(format!("certs/crl/{issuer}.crl"));
    let revoked = || {
        let list = pem::decode_one(Kind::Crl, &std::fs::read_to_string(&kept).unwrap()).unwrap();
        countersign::kernel::credential::crl::verify(&list, &der, countersign::ops::clock::now())
            .unwrap()
            .serials()
            .len()
    };
    assert_eq!(revoked(), 0);
    world.run("secco", &["--operator", "secco-officer", "revoke", "assistant", "--reason", "cessation-of-operation"]);

    world.run("bank", &["stop"]);
    let ports = std::fs::read_to_string(world.state("secco").join("run/ports.json")).unwrap();
    let ports: Value = serde_json::from_str(&ports).unwrap();
    let config = world.state("bank").join("countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let place = format!("company_pki_url = \"http://{}\" #", ports["pki"].as_str().unwrap());
    let changed = text.replace("# company_pki_url = \"http://127.0.0.1:9080\"", &place);
    assert_ne!(text, changed);
    std::fs::write(&config, changed).unwrap();
    world.serve("bank");
    while revoked() == 0 {
        crate::support::before_another_look();
    }
    assert_eq!(revoked(), 1);
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let head = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let headers =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers = headers.collect();
        Self { status: status.unwrap_or(0), headers, body: bytes.get(end + 4..).unwrap_or_default().to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(named, _)| named == name).map(|(_, value)| value.as_str())
    }
}
