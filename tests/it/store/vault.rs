//! Credentials of the vault in the commit: who keeps them, who is let read them, and what leaves say of it.

use countersign::kernel::command::*;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use countersign::kernel::vault::*;
use countersign::store::Store;
use serde_json::{Value, json};

use super::world::*;

pub fn name(text: &str) -> CredentialName {
    text.parse().unwrap()
}

fn key(number: u8) -> KeyId {
    Sha256([number; 32])
}

pub fn sealed(of: &str, version: u64) -> SealedCredential {
    SealedCredential {
        name: name(of),
        version,
        terms: Terms {
            description: "of a test".into(),
            readers: ["service:notify.mail", "operator:alice", "role:auditor"].map(|it| it.parse().unwrap()).into(),
            expires: None,
        },
        made: UnixMillis(START),
        by: "ada".parse().unwrap(),
        key: key(1),
        sealed: format!("sealed {of} {version}").into_bytes(),
    }
}

fn keep(credential: SealedCredential, how: Keep, given: Given) -> Act {
    Act::Vault(VaultAct::Keep { credential: Box::new(credential), how, given })
}

pub fn put(credential: SealedCredential) -> Act {
    keep(credential, Keep::New, Given::Anew)
}

pub fn rotate(credential: SealedCredential) -> Act {
    keep(credential, Keep::Next, Given::Anew)
}

fn read(of: &str, version: Option<u64>) -> Act {
    Act::Vault(VaultAct::Read { name: name(of), version })
}

fn remove(of: &str, version: Option<u64>) -> Act {
    Act::Vault(VaultAct::Remove { name: name(of), version })
}

fn rewrap(of: &SealedCredential, under: u8, sealed: &[u8]) -> Act {
    Act::Vault(VaultAct::Rewrap {
        name: of.name.clone(),
        version: of.version,
        before: of.sealed_sha256(),
        key: key(under),
        sealed: sealed.to_vec(),
    })
}

fn mail() -> Actor {
    Actor::System { component: "notify.mail".into() }
}

fn person(who: &str, roles: &[&str]) -> Actor {
    Actor::Operator(operator(who, roles))
}

fn done(effect: VaultEffect) -> Outcome {
    Ok(Effect::Vault(Box::new(effect)))
}

fn kept(version: u64, changed: bool) -> Outcome {
    done(VaultEffect::Kept { version, changed })
}

fn said(w: &World<'_>, decision: &Decision) -> Value {
    let leaf = w.store.leaf(decision.leaf.unwrap().row).unwrap().unwrap();
    serde_json::from_slice(leaf.body().unwrap()).unwrap()
}

fn newest(store: &dyn Store, of: &str) -> Option<SealedCredential> {
    store.credential(&name(of)).unwrap().and_then(|known| known.newest)
}

/// Every name that the vault's decisions give.
pub fn refused(w: &World<'_>) {
    use Refusal::*;
    let ada = || person("ada", &["administrator"]);
    assert_eq!(w.admin(put(sealed("a", 1))), kept(1, true));
    assert_eq!(w.admin(rotate(sealed("a", 2))), kept(2, true));
    let ended = |version| SealedCredential {
        terms: Terms { expires: Some(UnixMillis(START)), ..sealed("a", 1).terms },
        ..sealed("ended", version)
    };
    assert_eq!(w.admin(put(ended(1))), kept(1, true));
    let eve = SealedCredential { by: "eve".parse().unwrap(), ..sealed("a", 3) };
    let agent = || Actor::Agent(shopper());
    let program = || Actor::Program(ProgramPrincipal { uid: 1001, gid: 1001, user: Some("alice".into()) });
    let table: Vec<(Actor, Act, Refusal)> = vec![
        (person("eve", &["officer", "auditor", "approver"]), rotate(eve.clone()), OperatorNotPermitted),
        (mail(), put(sealed("b", 1)), OperatorNotPermitted),
        (agent(), put(sealed("b", 1)), OperatorNotPermitted),
        (agent(), read("a", None), OperatorNotPermitted),
        (agent(), remove("a", None), OperatorNotPermitted),
        // A program of this machine, whatever it is called.
        (program(), put(sealed("b", 1)), OperatorNotPermitted),
        (program(), rotate(sealed("a", 3)), OperatorNotPermitted),
        (program(), read("a", None), OperatorNotPermitted),
        (program(), read("a", Some(1)), OperatorNotPermitted),
        (program(), remove("a", None), OperatorNotPermitted),
        (program(), rewrap(&sealed("a", 1), 2, b"x"), OperatorNotPermitted),
        (ada(), put(sealed("a", 3)), CredentialExists),
        (ada(), put(sealed("b", 2)), CredentialChanged),
        (ada(), rotate(sealed("b", 1)), UnknownCredential),
        (ada(), rotate(sealed("a", 2)), CredentialChanged),
        (ada(), rotate(sealed("a", 4)), CredentialChanged),
        (mail(), read("b", None), UnknownCredential),
        (mail(), read("a", Some(3)), UnknownCredentialVersion),
        (mail(), read("a", Some(0)), UnknownCredentialVersion),
        // Whoever keeps it is no reader.
        (ada(), read("a", None), CredentialNotReadable),
        (person("bob", &["officer"]), read("a", Some(1)), CredentialNotReadable),
        (person("notify.mail".replace('.', "-").as_str(), &[]), read("a", None), CredentialNotReadable),
        (Actor::System { component: "notify.mali".into() }, read("a", None), CredentialNotReadable),
        (mail(), read("ended", None), CredentialExpired),
        (person("eve", &["officer"]), remove("a", Some(1)), OperatorNotPermitted),
        (ada(), remove("b", None), UnknownCredential),
        (ada(), remove("a", Some(3)), UnknownCredentialVersion),
        (ada(), remove("a", Some(0)), UnknownCredentialVersion),
        (ada(), remove("a", Some(2)), NewestVersionStays),
        (person("eve", &["officer"]), rewrap(&sealed("a", 1), 2, b"x"), OperatorNotPermitted),
        (mail(), rewrap(&sealed("a", 1), 2, b"x"), OperatorNotPermitted),
        (ada(), rewrap(&SealedCredential { sealed: b"other".to_vec(), ..sealed("a", 1) }, 2, b"x"), CredentialChanged),
    ];
    for (actor, act, refusal) in table {
        let shown = format!("{actor:?} {act:?}");
        let decision = w.decision(actor, act);
        assert_eq!(decision.outcome, Err(refusal), "{shown}");
        assert_eq!(said(w, &decision)["reason"], refusal.name(), "{shown}");
    }
    assert_eq!(newest(w.store, "a").unwrap(), sealed("a", 2), "nothing was changed");
}

sentences! {
    what_is_refused_has_its_name_and_a_leaf_and_changes_nothing: refused;

    a_credential_is_read_by_its_readers_alone_and_each_reading_has_a_leaf: |w| {
        assert_eq!(w.admin(put(sealed("a", 1))), kept(1, true));
        assert_eq!(w.admin(rotate(sealed("a", 2))), kept(2, true));
        let readers = [mail(), person("alice", &[]), person("zoe", &["auditor"])];
        for actor in readers {
            for (version, found) in [(None, 2), (Some(2), 2), (Some(1), 1)] {
                let decision = w.decision(actor.clone(), read("a", version));
                let expected = VaultEffect::Released(Box::new(sealed("a", found)));
                assert_eq!(decision.outcome, done(expected), "{actor:?}");
                let said = said(w, &decision);
                assert_eq!((&said["act"], &said["decision"]), (&json!("vault_get"), &json!("permitted")));
                assert_eq!(said["parameters"]["credential"], "a");
                let result = json!({
                    "status": "released", "version": found.to_string(),
                    "sealed_sha256": sealed("a", found).sealed_sha256(),
                });
                assert_eq!(said["result"], result);
            }
        }
        let ended = UnixMillis(w.now.get() + 1_000);
        let ends = SealedCredential { terms: Terms { expires: Some(ended), ..sealed("e", 1).terms }, ..sealed("e", 1) };
        w.admin(put(ends)).unwrap();
        assert!(w.decision(mail(), read("e", None)).outcome.is_ok());
        w.later(1_000);
        assert_eq!(w.decision(mail(), read("e", None)).outcome, Err(Refusal::CredentialExpired));
    };

    what_is_kept_says_everything_but_the_value: |w| {
        let decision = w.decision(person("ada", &["administrator"]), put(sealed("a", 1)));
        let said = said(w, &decision);
        let expected = json!({
            "credential": "a", "version": "1", "description": "of a test", "expires": null, "key": key(1),
            "readers": ["operator:alice", "role:auditor", "service:notify.mail"],
            "sealed_sha256": Sha256::of(&[b"sealed a 1"]), "way": "aes-256-gcm",
        });
        assert_eq!((&said["act"], &said["parameters"]), (&json!("vault_put"), &expected));
        assert!(!said.to_string().contains("sealed a 1"));
    };

    the_same_again_changes_nothing_and_numbers_are_never_given_twice: |w| {
        assert_eq!(w.admin(put(sealed("a", 1))), kept(1, true));
        assert_eq!(w.admin(keep(sealed("a", 1), Keep::New, Given::Before)), kept(1, false));
        assert_eq!(w.admin(rotate(sealed("a", 2))), kept(2, true));
        assert_eq!(w.admin(keep(sealed("a", 2), Keep::Next, Given::Before)), kept(2, false));
        // What was the newest when it was compared is so no more.
        assert_eq!(w.admin(keep(sealed("a", 1), Keep::Next, Given::Before)), Err(Refusal::CredentialChanged));
        let removed = |versions| done(VaultEffect::Removed { versions });
        assert_eq!(w.admin(remove("a", Some(1))), removed(1));
        assert_eq!(w.admin(remove("a", Some(1))), removed(0), "a repeat");
        assert_eq!(w.admin(remove("a", None)), removed(1));
        assert_eq!(w.admin(remove("a", None)), removed(0));
        assert_eq!(w.decision(mail(), read("a", None)).outcome, Err(Refusal::UnknownCredential));
        assert_eq!(w.admin(rotate(sealed("a", 3))), Err(Refusal::UnknownCredential), "there is none to follow");
        assert_eq!(w.admin(put(sealed("a", 1))), Err(Refusal::CredentialChanged), "an old row is not put back");
        assert_eq!(w.admin(put(sealed("a", 3))), kept(3, true));
        let known = w.store.credential(&name("a")).unwrap().unwrap();
        assert_eq!(known.head, CredentialHead { newest: 3, versions: 1 });
    };

    versions_are_sealed_anew_one_by_one_and_cut_off_anywhere_go_on: |w| {
        let (one, two) = (sealed("a", 1), sealed("a", 2));
        w.admin(put(one.clone())).unwrap();
        w.admin(rotate(two.clone())).unwrap();
        w.admin(put(sealed("b", 1))).unwrap();
        assert_eq!(w.store.credential_keys().unwrap(), [(key(1), 3)]);
        let rewrapped = |changed| done(VaultEffect::Rewrapped { changed });
        assert_eq!(w.admin(rewrap(&one, 2, b"anew")), rewrapped(true));
        assert_eq!(w.admin(rewrap(&one, 2, b"anew")), rewrapped(false), "a repeat");
        assert_eq!(w.admin(rewrap(&sealed("c", 1), 2, b"anew")), rewrapped(false), "it is gone");
        assert_eq!(w.store.credential_keys().unwrap(), [(key(1), 2), (key(2), 1)]);
        let found = |not_under: Option<&KeyId>, after: Option<&str>, limit| -> Vec<SealedCredential> {
            let after = after.map(|of| (of.to_owned(), 1));
            let found = w.store.sealed_credentials(not_under, after.as_ref(), limit).unwrap();
            found.into_iter().map(|found| found.row.unwrap()).collect()
        };
        assert_eq!(found(Some(&key(2)), None, 10), [two.clone(), sealed("b", 1)]);
        assert_eq!(found(Some(&key(2)), None, 1), std::slice::from_ref(&two));
        assert_eq!(found(Some(&key(2)), Some("b"), 10), []);
        let anew = SealedCredential { key: key(2), sealed: b"anew".to_vec(), ..one.clone() };
        assert_eq!(found(None, None, 10), [anew, two, sealed("b", 1)]);
        let Ok(Effect::Vault(effect)) = w.decision(mail(), read("a", Some(1))).outcome else { panic!() };
        let anew = SealedCredential { key: key(2), sealed: b"anew".to_vec(), ..one };
        assert_eq!(*effect, VaultEffect::Released(Box::new(anew)), "everything else stayed");
    };

    lists_go_by_name_and_number_and_hold_no_value: |w| {
        for (of, versions) in [("b", 2), ("a/b", 1), ("a", 3)] {
            w.admin(put(sealed(of, 1))).unwrap();
            (2..=versions).for_each(|version| drop(w.admin(rotate(sealed(of, version))).unwrap()));
        }
        let places = |after: Option<(&str, u64)>, limit| -> Vec<(String, u64)> {
            let after = after.map(|(of, version)| (of.to_owned(), i64::try_from(version).unwrap()));
            let lines = w.store.credential_lines(after.as_ref(), limit).unwrap();
            lines.into_iter().map(|found| found.row.unwrap()).map(|line| (line.name.to_string(), line.version)).collect()
        };
        let whole = [("a", 1), ("a", 2), ("a", 3), ("a/b", 1), ("b", 1), ("b", 2)].map(|(of, it)| (of.to_owned(), it));
        assert_eq!(places(None, 100), whole);
        assert_eq!(places(None, 2), whole[..2]);
        assert_eq!(places(Some(("a", 2)), 100), whole[2..]);
        assert_eq!(places(Some(("b", 2)), 100), []);
        let line = w.store.credential_lines(None, 1).unwrap().remove(0).row.unwrap();
        assert_eq!((line.terms, line.made, line.by.as_str(), line.key), (sealed("a", 1).terms, UnixMillis(START), "ada", key(1)));
    };
}

/// More than a sentence has time for on a database: decided on SQLite alone.
#[test]
fn a_credential_has_so_many_versions_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = countersign::store::sqlite::SqliteStore::open(&directory.path().join("store.sqlite3")).unwrap();
    let w = World::new(&*store);
    limits(&w);
}

/// The names that only a full vault gives.
pub fn limits(w: &World<'_>) {
    w.admin(put(sealed("full", 1))).unwrap();
    for version in 2..=u64::from(VERSIONS_MAX) {
        w.admin(rotate(sealed("full", version))).unwrap();
    }
    let next = u64::from(VERSIONS_MAX) + 1;
    assert_eq!(w.admin(rotate(sealed("full", next))), Err(Refusal::TooManyCredentialVersions));
    w.admin(remove("full", Some(1))).unwrap();
    assert_eq!(w.admin(rotate(sealed("full", next))), kept(next, true));
    let puts = (1..CREDENTIALS_MAX).map(|number| {
        w.command(Actor::Operator(operator("ada", &["administrator"])), put(sealed(&format!("n{number}"), 1)))
    });
    let puts: Vec<Command> = puts.collect();
    for portion in puts.chunks(1_000) {
        assert!(w.store.apply(portion.to_vec()).unwrap().iter().all(|decision| decision.outcome.is_ok()));
    }
    assert_eq!(w.admin(put(sealed("one-more", 1))), Err(Refusal::TooManyCredentials));
    assert_eq!(w.admin(rotate(sealed("n1", 2))), kept(2, true), "those that are there go on");
}
