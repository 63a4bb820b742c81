//! Chains that OpenSSL composed in every algorithm that is taken, and some that are not: we agree with `openssl verify`
//! on what is accepted.

use std::process::Command;

use countersign::kernel::credential::path::{PathQuestion, judge};
use countersign::kernel::credential::pem::{self, Kind};
use countersign::ops::clock;

/// A directory with OpenSSL.
struct Workshop(tempfile::TempDir);

const CA: &str = "basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
";
const LEAF: &str = "basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid:always
subjectAltName=DNS:client.example,URI:spiffe://example/client,email:a@client.example,IP:192.0.2.1,dirName:place
certificatePolicies=1.2.3.4
crlDistributionPoints=URI:http://pki.example/a.crl
authorityInfoAccess=OCSP;URI:http://pki.example/ocsp
[place]
CN=somewhere
";

impl Workshop {
    /// `None` when OpenSSL is not installed.
    fn open() -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            println!("skipped: openssl is not installed");
            return None;
        }
        Some(Self(tempfile::tempdir().unwrap()))
    }

    fn openssl(&self, arguments: &[&str]) -> bool {
        Command::new("openssl").args(arguments).current_dir(self.0.path()).output().unwrap().status.success()
    }

    fn make(&self, arguments: &[&str]) {
        assert!(self.openssl(arguments), "{arguments:?}");
    }

    /// `name.pem` with a key of its own, signed by `issuer` (itself when they are the same) with these options.
    fn certificate(&self, name: &str, issuer: &str, key: &[&str], sign: &[&str], extensions: &str) {
        let (key_file, out, subject) = (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
        self.make(&[&["genpkey", "-out", &key_file], key].concat());
        std::fs::write(self.0.path().join("ext"), extensions).unwrap();
        self.make(&["req", "-new", "-key", &key_file, "-subj", &subject, "-out", "request"]);
        let (issuer_pem, issuer_key) = (format!("{issuer}.pem"), format!("{issuer}.key"));
        let mut arguments = vec!["x509", "-req", "-in", "request", "-days", "30", "-extfile", "ext", "-out", &out];
        arguments.extend(sign);
        if issuer == name {
            arguments.extend(["-signkey", &key_file]);
        } else {
            arguments.extend(["-CA", &issuer_pem, "-CAkey", &issuer_key, "-CAcreateserial"]);
        }
        self.make(&arguments);
    }

    /// Root, issuing CA and client; answers our rule and whether OpenSSL accepts.
    fn chain(&self, key: &[&str], sign: &[&str]) -> (&'static str, bool) {
        self.certificate("root", "root", key, sign, CA);
        let issuing = format!("{CA}authorityKeyIdentifier=keyid:always\n");
        self.certificate("issuing", "root", key, sign, &issuing);
        self.certificate("client", "issuing", key, sign, LEAF);
        let der = |name: &str| {
            let text = std::fs::read_to_string(self.0.path().join(format!("{name}.pem"))).unwrap();
            pem::decode_one(Kind::Certificate, &text).unwrap()
        };
        let question = PathQuestion {
            leaf: &der("client"),
            others: &[der("issuing")],
            anchors: &[der("root")],
            lists: &[],
            at: clock::now(),
            usage: None,
            name: Some("client.example"),
            depth_max: None,
        };
        let theirs =
            self.openssl(&["verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "issuing.pem", "client.pem"]);
        (judge(&question).map_or_else(|refusal| refusal.rule.name(), |_| "accepted"), theirs)
    }
}

#[test]
fn openssl_agrees_on_chains_in_every_algorithm() {
    let Some(workshop) = Workshop::open() else { return };
    let curve = |name: &'static str| ["-algorithm", "EC", "-pkeyopt", name];
    let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];
    let table: &[(&[&str], &[&str])] = &[
        (&curve("ec_paramgen_curve:P-256"), &["-sha256"]),
        (&curve("ec_paramgen_curve:P-256"), &["-sha512"]),
        (&curve("ec_paramgen_curve:P-384"), &["-sha384"]),
        (&curve("ec_paramgen_curve:P-521"), &["-sha512"]),
        (&["-algorithm", "ED25519"], &[]),
        (&rsa, &["-sha256"]),
        (&rsa, &["-sha512"]),
        (&rsa, &[&["-sha256"], pss.as_slice()].concat()),
        (&rsa, &[&["-sha384"], pss.as_slice()].concat()),
    ];
    for (key, sign) in table {
        assert_eq!(workshop.chain(key, sign), ("accepted", true), "{key:?} {sign:?}");
    }
}

#[test]
fn weak_and_odd_algorithms_are_refused_whatever_openssl_says() {
    let Some(workshop) = Workshop::open() else { return };
    let curve = |name: &'static str| ["-algorithm", "EC", "-pkeyopt", name];
    let explicit = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"];
    let rsa = |bits: &'static str| ["-algorithm", "RSA", "-pkeyopt", bits];
    let table: &[(&[&str], &[&str], &str)] = &[
        (&curve("ec_paramgen_curve:P-256"), &["-sha1"], "signature_algorithm"),
        (&curve("ec_paramgen_curve:P-256"), &["-sha224"], "signature_algorithm"),
        (&curve("ec_paramgen_curve:secp256k1"), &["-sha256"], "key_algorithm"),
        (&curve("ec_paramgen_curve:brainpoolP256r1"), &["-sha256"], "key_algorithm"),
        (&explicit, &["-sha256"], "key_algorithm"),
        (&["-algorithm", "ED448"], &[], "signature_algorithm"),
        (&rsa("rsa_keygen_bits:1024"), &["-sha256"], "key_algorithm"),
        (&rsa("rsa_keygen_bits:2052"), &["-sha256"], "key_algorithm"),
        (
            &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"],
            &["-sha256"],
            "key_algorithm",
        ),
        (&["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"], &["-sha256"], "signature_algorithm"),
    ];
    for (key, sign, expected) in table {
        assert_eq!(workshop.chain(key, sign).0, *expected, "{key:?} {sign:?}");
    }
}
