//! `countersign sign`, `http sign` and `verify signature`, as people and scripts use them.

use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Service;
use crate::support::world::PROGRAM;

/// Exit code, standard output, standard error; in a directory.
fn said(at: &Path, arguments: &[&str]) -> (i32, String, String) {
    let command = Command::new(PROGRAM).args(arguments).current_dir(at).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (command.status.code().unwrap(), text(command.stdout), text(command.stderr))
}

/// The name of a refusal, and its exit code.
fn refused(at: &Path, arguments: &[&str]) -> (i32, String) {
    let words = [&["--json"], arguments].concat();
    let (code, _, error) = said(at, &words);
    let failure: Value = serde_json::from_str(&error).unwrap_or_else(|_| panic!("{arguments:?}: {error}"));
    (code, failure["error"]["name"].as_str().unwrap().to_owned())
}

fn done(at: &Path, arguments: &[&str]) -> String {
    let (code, output, error) = said(at, arguments);
    assert_eq!(code, 0, "{arguments:?}: {error}");
    output
}

#[test]
fn what_the_command_line_signs_it_verifies_in_every_form() {
    let service = Service::new();
    let (at, socket) = (service.outside.path(), service.socket());
    let socket = ["--socket", socket.to_str().unwrap()];
    std::fs::create_dir(at.join("other")).unwrap();
    for (name, content) in [
        ("a.txt", "one"),
        ("b.txt", "two"),
        ("other/a.txt", "three"),
        ("order.json", r#"{"b": 1, "a": "x"}"#),
        ("twice.json", r#"{"a": 1, "a": 2}"#),
        ("key.jwk", &service.key("papers").jwk().to_string()),
        ("keys.jwks", &json!({ "keys": [service.key("edwards").jwk(), service.key("papers").jwk()] }).to_string()),
        ("none.jwks", r#"{"keys": []}"#),
    ] {
        std::fs::write(at.join(name), content).unwrap();
    }
    let sign = |words: &[&str]| done(at, &[&["sign", "--key", "papers"], words, &socket].concat());
    let not_signed = |words: &[&str]| refused(at, &[&["sign", "--key", "papers"], words, &socket].concat());
    let kept = |name: &str, text: String| std::fs::write(at.join(name), text).unwrap();
    let verify = |words: &[&str]| done(at, &[&["--json", "verify", "signature"], words].concat());
    let not_verified = |words: &[&str]| refused(at, &[&["verify", "signature"], words].concat());

    // In each form that the service answers in.
    kept("compact", sign(&["a.txt"]));
    kept("answer", sign(&["a.txt", "--json"]));
    kept("detached", sign(&["a.txt", "--detached"]));
    kept("document", sign(&["--kind", "document", "--detached", "order.json"]));
    for signature in ["compact", "answer", "detached"] {
        for keys in ["key.jwk", "keys.jwks"] {
            let shown: Value = serde_json::from_str(&verify(&[signature, "--key", keys, "--file", "a.txt"])).unwrap();
            assert_eq!(
                (&shown["kind"], &shown["file_compared"]),
                (&json!("file"), &json!(true)),
                "{signature}: {shown}"
            );
        }
    }
    let shown: Value =
        serde_json::from_str(&verify(&["document", "--key", "key.jwk", "--file", "order.json"])).unwrap();
    assert_eq!((&shown["kind"], &shown["payload"]["a"]), (&json!("document"), &json!("x")));
    for (words, code, name) in [
        (&["compact", "--key", "key.jwk", "--file", "b.txt"][..], 3, "file_mismatch"),
        (&["detached", "--key", "key.jwk"], 2, "payload_detached"),
        (&["detached", "--key", "key.jwk", "--file", "b.txt"], 3, "jws_signature"),
        (&["document", "--key", "key.jwk", "--file", "a.txt"], 3, "file_mismatch"),
        (&["compact", "--key", "none.jwks"], 2, "key_malformed"),
    ] {
        assert_eq!(not_verified(words), (code, name.to_owned()), "{words:?}");
    }

    let release = [&["sign", "--key", "releases", "a.txt"][..], &socket].concat();
    done(at, &[&release[..], &["--purpose", "nightly"]].concat());
    assert_eq!(refused(at, &[&release[..], &["--purpose", "weekly"]].concat()), (3, "purpose_not_permitted".into()));

    let listed: Value =
        serde_json::from_str(&done(at, &[&["sign", "--keys", "--json"][..], &socket].concat())).unwrap();
    assert!(listed["items"].as_array().unwrap().iter().any(|key| key["name"] == "releases"), "{listed}");

    // Raw ones are of a file, in either form.
    let raw = ["sign", "--key", "raw-blobs", "--kind", "raw", "a.txt"];
    let (base64, answer) =
        (done(at, &[&raw[..], &socket].concat()), done(at, &[&["--json"], &raw[..], &socket].concat()));
    let der: Value = serde_json::from_str(&answer).unwrap();
    let der = STANDARD.decode(der["result"]["signature_der"].as_str().unwrap()).unwrap();
    kept("raw.txt", base64);
    kept("raw.json", answer);
    std::fs::write(at.join("raw.der"), der).unwrap();
    kept("raw.jwk", service.key("raw-blobs").jwk().to_string());
    for signature in ["raw.txt", "raw.json", "raw.der"] {
        verify(&[signature, "--key", "raw.jwk", "--file", "a.txt"]);
        let other = not_verified(&[signature, "--key", "raw.jwk", "--file", "b.txt"]);
        assert_eq!(other, (3, "signature_invalid".into()), "{signature}");
        assert_eq!(not_verified(&[signature, "--key", "raw.jwk"]), (2, "payload_detached".into()));
    }
    for (words, name) in
        [(&["a.txt", "--lifetime-s", "5"][..], "lifetime_of_no_token"), (&["a.txt", "--der"], "no_der")]
    {
        assert_eq!(not_signed(words), (2, name.to_owned()));
    }

    // A proof for each of many, none of which is lost.
    sign(&["--merkle", "--out", "proofs", "a.txt", "b.txt"]);
    verify(&["proofs/b.txt.proof.json", "--key", "key.jwk", "--file", "b.txt"]);
    kept("all", sign(&["--merkle", "--json", "a.txt", "other/a.txt"]));
    let shown: Value = serde_json::from_str(&verify(&["all", "--key", "key.jwk"])).unwrap();
    assert_eq!(shown["proofs"], 2, "{shown}");
    let shown: Value = serde_json::from_str(&verify(&["all", "--key", "keys.jwks", "--file", "other/a.txt"])).unwrap();
    assert_eq!((&shown["index"], &shown["file_compared"]), (&json!(1), &json!(true)), "{shown}");
    assert_eq!(not_verified(&["all", "--key", "key.jwk", "--file", "b.txt"]), (3, "file_mismatch".into()));
    let (code, _, error) = said(at, &[&["sign", "--key", "papers", "--merkle", "a.txt"][..], &socket].concat());
    assert!(code == 2 && error.contains("--out DIR"), "{code} {error}");
    let twice = not_signed(&["--merkle", "--out", "twice", "a.txt", "other/a.txt"]);
    assert_eq!((twice, at.join("twice").exists()), ((2, "proofs_of_one_name".into()), false));

    // What the service would refuse is not made into something else on the way.
    assert_eq!(not_signed(&["--kind", "document", "twice.json"]), (2, "content_malformed".into()));
    std::fs::write(at.join("large"), vec![b'x'; 3 << 20]).unwrap();
    let post = ["http", "sign", "--key", "papers", "--method", "POST", "--url", "https://API.example:443/orders?q=1"];
    let of = |rest: &[&'static str]| [&post[..], &["--tag", "orders", "--body", "large"], rest, &socket].concat();
    let other = ["--header", "Content-Digest: sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"];
    assert_eq!(refused(at, &of(&other)), (2, "message_digest_mismatch".into()));
    // A component as the signature's own header writes it; a body of any length.
    let covered = ["@method", "@target-uri", "\"@query-param\";name=\"q\"", "content-digest"];
    let covered: Vec<&str> = covered.iter().flat_map(|component| ["--component", component]).collect();
    let signed = done(at, &of(&covered));
    let headers: Vec<&str> = signed.lines().flat_map(|line| ["--header", line]).collect();
    let verified =
        ["http", "verify", "--key", "key.jwk", "--method", "POST", "--url", "https://api.example/orders?q=1"];
    let shown = done(at, &[&verified[..], &headers, &["--body", "large"]].concat());
    assert!(shown.contains("content-digest") && !shown.contains("no body was compared"), "{shown}");
    let shown = done(at, &[&verified[..], &headers].concat());
    assert!(shown.contains("no body was compared"), "{shown}");

    // A key is stopped at once by its people, also the newest version, and a place that cannot be written takes no signature.
    let proofs = not_signed(&["--merkle", "--out", "/proc/nope", "a.txt"]);
    assert_eq!(proofs, (2, "output_unwritable".into()));
    service.world.run("bank", &["--operator", "bank-admin", "key", "retire", "bank-external.releases-v1"]);
    let (code, output, error) = said(at, &[&release[..], &["--purpose", "nightly"]].concat());
    assert!(code != 0 && output.is_empty(), "{output} {error}");
}
