//! The whole story with real processes: what `./scripts/demo` runs, told into a private directory, twice.

use std::process::Command;

#[test]
fn the_demo_tells_the_whole_story_and_can_be_told_again() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("demo");
    for _ in 0..2 {
        let output =
            Command::new(env!("CARGO_BIN_EXE_countersign")).args(["demo", "--dir"]).arg(&dir).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let complained = String::from_utf8(output.stderr).unwrap();
        let transcript = std::fs::read_to_string(dir.join("transcript.txt")).unwrap();
        assert!(output.status.success(), "{told}\n{complained}\n{transcript}");
        assert!(told.lines().count() <= 60, "{} lines", told.lines().count());
        for expected in [
            "5247.83 USD",
            "B08N5WRWNW 1899.99",
            "authorize_purchase: approved txn_",
            "execute_purchase: executed, receipt signed",
            "repeated: true, balance 3347.84",
            "insufficient_funds",
            "requires_approval apr_",
            "execute_transfer: executed",
            "unauthorized_merchant",
            "account_not_granted",
            "authorization_mismatch",
            "endorsement_missing",
            "live connection(s) cut",
            "one byte flipped",
            "cosigned by secco.countersign.example/witness",
            "openssl verify against bank's root: OK",
            "openssl verify against secco's root: OK",
        ] {
            assert!(told.contains(expected), "missing {expected:?} in\n{told}");
        }
        // What it prints to be tried works as printed, with nobody running.
        let printed = told.lines().find(|line| line.contains(" verify receipt ")).expect("a command");
        let words: Vec<&str> = printed.split_whitespace().collect();
        assert!(words.contains(&"--witness-root"), "{printed}");
        let verified = Command::new(words[0]).args(&words[1..]).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stdout);
        assert!(verified.status.success() && said.contains("certified under the root that you trust"), "{said}");
        for pin in ["secco", "bank", "agent"].map(|party| dir.join(party).join("pins")) {
            for file in std::fs::read_dir(pin).unwrap().map(|file| file.unwrap().path()) {
                if file.extension().is_none_or(|extension| extension != "pin") {
                    continue;
                }
                let pin = std::fs::read_to_string(file).unwrap();
                assert!(!transcript.contains(pin.trim()), "a PIN is in the transcript");
            }
        }
    }
}
