//! Certificates that OpenSSL composed, judged by us: a second opinion on what the profiles mean.

use std::path::{Path, PathBuf};
use std::process::Command;

use countersign::ca::offline::{OfflineJudge, anchors_from_pem};
use countersign::ca::settings::PkiSettings;
use countersign::kernel::credential::certificate::Certificate;
use countersign::kernel::credential::pem::{self, Kind};
use countersign::kernel::types::Sha256;
use countersign::ops::clock;

const SPIFFE: &str = "spiffe://countersign.example/agent/purchaser/shopper";
const AGENT: &str = "basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
authorityKeyIdentifier=keyid
crlDistributionPoints=URI:http://pki.countersign.example/crl/00.crl
certificatePolicies=1.3.6.1.4.1.32473.1.2
subjectAltName=URI:spiffe://countersign.example/agent/purchaser/shopper
";

/// A directory in which OpenSSL makes keys and certificates.
struct Workshop(tempfile::TempDir);

impl Workshop {
    /// `None` when OpenSSL is not installed.
    fn open() -> Option<Self> {
        let there = Command::new("openssl").arg("version").output().is_ok();
        if !there {
            eprintln!("skipped: openssl is not installed");
        }
        there.then(|| Self(tempfile::tempdir().unwrap()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn key(&self, name: &str) {
        let out = format!("{name}.key");
        self.openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &out]);
    }

    /// The first 20 bytes of SHA-256 over the key's SubjectPublicKeyInfo.
    fn identifier(&self, key: &str) -> String {
        let (input, out) = (format!("{key}.key"), format!("{key}.spki"));
        self.openssl(&["ec", "-in", &input, "-pubout", "-outform", "DER", "-out", &out]);
        Sha256::of(&[&std::fs::read(self.path(&out)).unwrap()]).hex()[..40].to_owned()
    }

    /// `name.pem` over `key.key`, signed by `issuer` (itself when they are the same).
    fn certificate(&self, name: &str, key: &str, issuer: &str, days: &str, extensions: &str) {
        let identifier = self.identifier(key);
        std::fs::write(self.path("ext"), format!("{extensions}subjectKeyIdentifier={identifier}\n")).unwrap();
        let serial = format!("0x41{}", &Sha256::of(&[name.as_bytes(), key.as_bytes()]).hex()[..30]);
        let (key, out, subject) = (format!("{key}.key"), format!("{name}.pem"), format!("/CN={name}"));
        self.openssl(&["req", "-new", "-key", &key, "-subj", &subject, "-out", "request"]);
        let (issuer_pem, issuer_key) = (format!("{issuer}.pem"), format!("{issuer}.key"));
        let mut arguments = vec!["x509", "-req", "-in", "request", "-sha256", "-days", days, "-extfile", "ext"];
        arguments.extend(["-set_serial", &serial, "-out", &out]);
        if issuer == name {
            arguments.extend(["-signkey", &key]);
        } else {
            arguments.extend(["-CA", &issuer_pem, "-CAkey", &issuer_key]);
        }
        self.openssl(&arguments);
    }

    fn party(&self, party: &str) {
        let (root, issuing) = (format!("{party}-root"), format!("{party}-issuing"));
        self.key(&root);
        self.key(&issuing);
        let ca = |length: u8| {
            format!("basicConstraints=critical,CA:TRUE,pathlen:{length}\nkeyUsage=critical,keyCertSign,cRLSign\n")
        };
        self.certificate(&root, &root, &root, "3650", &ca(1));
        self.certificate(&issuing, &issuing, &root, "1800", &format!("{}authorityKeyIdentifier=keyid\n", ca(0)));
    }

    fn der(&self, name: &str) -> Vec<u8> {
        pem::decode_one(Kind::Certificate, &self.read(&format!("{name}.pem"))).unwrap()
    }

    /// B over `key`, bound to the certificate `bound_to`.
    fn bank_certificate(&self, name: &str, key: &str, bound_to: &str, more: &str) {
        let hash = Sha256::of(&[&self.der(bound_to)]).hex();
        let binding = format!("302f300b06096086480165030402010420{hash}");
        let extensions = format!("{AGENT}extendedKeyUsage=clientAuth\n1.3.6.1.5.5.7.1.36=DER:{binding}\n{more}");
        self.certificate(name, key, "bank-issuing", "1", &extensions);
    }

    fn verdict(&self, chain: &[&str]) -> (bool, String) {
        let anchors = |party: &str| {
            anchors_from_pem(&self.read(&format!("{party}-root.pem")), &self.read(&format!("{party}-issuing.pem")))
                .unwrap()
        };
        let now = clock::now();
        let judge =
            OfflineJudge::from_files(anchors("bank"), anchors("secco"), &[], &PkiSettings::default(), now).unwrap();
        let (verdict, refusal) = judge.judge(chain.iter().map(|name| self.der(name)).collect(), now);
        assert_eq!(verdict["accepted"] == true, refusal.is_none());
        let said = if refusal.is_none() { &verdict["spiffe_id"] } else { &verdict["rule"] };
        (refusal.is_none(), said.as_str().unwrap().to_owned())
    }
}

fn workshop() -> Option<Workshop> {
    let workshop = Workshop::open()?;
    for party in ["bank", "secco"] {
        workshop.party(party);
    }
    workshop.key("agent");
    let endorsed = format!("{AGENT}extendedKeyUsage=1.3.6.1.4.1.32473.2.1\n");
    workshop.certificate("S", "agent", "secco-issuing", "1", &endorsed);
    workshop.bank_certificate("B", "agent", "S", "");
    Some(workshop)
}

#[test]
fn a_pair_composed_by_openssl_is_accepted() {
    let Some(workshop) = workshop() else { return };
    assert_eq!(workshop.verdict(&["B", "S"]), (true, SPIFFE.to_owned()));
    let shown = Certificate::read(&workshop.der("B")).unwrap().tbs.common_name().map(str::to_owned);
    assert_eq!(shown.as_deref(), Some("B"));
}

#[test]
fn pairs_composed_by_openssl_are_refused_by_the_rule_they_break() {
    let Some(workshop) = workshop() else { return };
    workshop.key("thief");
    let refused =
        |chain: &[&str], rule: &str| assert_eq!(workshop.verdict(chain), (false, rule.to_owned()), "{chain:?}");

    refused(&["B"], "endorsement_missing");
    refused(&["S"], "bank_certificate_missing");
    refused(&["S", "B"], "bank_issuer_untrusted");

    workshop.certificate("unbound", "agent", "bank-issuing", "1", &format!("{AGENT}extendedKeyUsage=clientAuth\n"));
    refused(&["unbound", "S"], "binding_missing");
    workshop.bank_certificate("bound-elsewhere", "agent", "B", "");
    refused(&["bound-elsewhere", "S"], "binding_hash_mismatch");
    workshop.bank_certificate("other-key", "thief", "S", "");
    refused(&["other-key", "S"], "key_mismatch");
    workshop.bank_certificate("stranger", "agent", "S", "1.2.3.4=critical,DER:0500\n");
    refused(&["stranger", "S"], "bank_profile_violated");

    let self_made = format!("{AGENT}extendedKeyUsage=clientAuth\n").replace("authorityKeyIdentifier=keyid\n", "");
    workshop.certificate("thief", "thief", "thief", "1", &self_made);
    refused(&["thief", "S"], "bank_issuer_untrusted");
    assert!(Path::new(&workshop.path("B.pem")).exists());
}
