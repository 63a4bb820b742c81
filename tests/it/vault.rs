//! The vault over a real token and both stores: what comes back, what does not open, and what whoever copies gets.

mod daemon;
mod feed;
mod oaep;

use std::path::Path;
use std::sync::{Arc, Mutex};

use countersign::hsm::{HsmFault, KeyInfo, Op, Reply, Token};
use countersign::kernel::command::{Actor, OperatorPrincipal};
use countersign::kernel::refusal::Refusal;
use countersign::kernel::sign::Purpose;
use countersign::kernel::types::*;
use countersign::ops::failure::{Failure, Kind};
use countersign::ops::secret::Secret;
use countersign::store::sqlite::SqliteStore;
use countersign::store::{LeafRecord, Store};
use countersign::vault::{KEY_GONE, Vault, VaultCall, VaultSetup};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::store::world::operator;
use crate::support::postgres::{Database, shared};
use crate::support::token::RealToken;

fn vault_of(store: Arc<dyn Store>, token: Arc<dyn Token>, party: &str) -> Vault {
    Vault::new(VaultSetup {
        store,
        token,
        party: party.parse().unwrap(),
        trust_domain: "countersign.example".into(),
        algorithm: None,
    })
}

pub fn secret(bytes: &[u8]) -> Secret {
    Secret(Zeroizing::new(bytes.to_vec()))
}

fn ada() -> OperatorPrincipal {
    operator("ada", &["administrator"])
}

fn reader() -> Actor {
    Actor::System { component: "notify.mail".into() }
}

fn name(text: &str) -> CredentialName {
    text.parse().unwrap()
}

fn put_call(of: &str, value: &[u8]) -> VaultCall {
    VaultCall::Put {
        name: name(of),
        description: "of a test".into(),
        readers: ["service:notify.mail".parse().unwrap()].into(),
        days: Some(30),
        value: secret(value),
    }
}

fn rotate_call(of: &str, value: &[u8]) -> VaultCall {
    VaultCall::Rotate { name: name(of), description: None, readers: None, days: None, value: secret(value) }
}

fn asked(vault: &Vault, call: VaultCall) -> Result<Value, Failure> {
    vault.desk(&ada(), call, &mut |_| {})
}

fn kept(of: &str, version: u64, changed: bool) -> Value {
    json!({ "name": of, "version": version, "changed": changed })
}

fn read(vault: &Vault, of: &str, version: Option<u64>) -> Result<Vec<u8>, String> {
    let opened = vault.read(&reader(), &name(of), version).map_err(|failure| failure.name)?;
    Ok(opened.value.0.to_vec())
}

fn leaves(store: &dyn Store) -> Vec<Value> {
    let all = store.unsequenced(100_000).unwrap();
    all.iter().filter_map(LeafRecord::body).map(|body| serde_json::from_slice(body).unwrap()).collect()
}

/// Both stores, each with its way to change it behind its back.
fn on_both(sentence: impl Fn(Arc<dyn Store>, &dyn Fn(&str), fn(&[u8]) -> String)) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    let store = SqliteStore::open(&path).unwrap();
    let sql = |text: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(text).unwrap();
    sentence(store, &sql, |bytes| format!("x'{}'", hex::encode(bytes)));
    let database = shared().database();
    let store = database.open();
    let sql = |text: &str| drop(database.sql(text));
    sentence(Arc::clone(&store) as Arc<dyn Store>, &sql, |bytes| format!("'\\x{}'::bytea", hex::encode(bytes)));
}

#[test]
fn what_was_kept_comes_back_to_the_byte_whatever_it_is() {
    let running = RealToken::running("bank");
    on_both(|store, _, _| {
        let vault = vault_of(Arc::clone(&store), running.token(), "bank");
        let all: Vec<u8> = (0..=255).collect();
        let utf16: Vec<u8> = "pässwörd".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let values = [b"\0".to_vec(), vec![0; 4096], all, utf16, b"\r\n".to_vec(), vec![7; 64 * 1024]];
        for (number, value) in values.iter().enumerate() {
            let of = format!("v{number}");
            assert_eq!(asked(&vault, put_call(&of, value)).unwrap(), kept(&of, 1, true));
            assert_eq!(read(&vault, &of, None).unwrap(), *value, "{of}");
        }
        for (value, refused) in [(vec![], "credential_empty"), (vec![7; 64 * 1024 + 1], "credential_too_large")] {
            assert_eq!(asked(&vault, put_call("none", &value)).unwrap_err().name, refused);
            assert_eq!(asked(&vault, rotate_call("v0", &value)).unwrap_err().name, refused);
        }
        assert_eq!(read(&vault, "none", None).unwrap_err(), "unknown_credential");
        assert_eq!(asked(&vault, rotate_call("v0", b"second")).unwrap(), kept("v0", 2, true));
        assert_eq!(read(&vault, "v0", None).unwrap(), b"second");
        assert_eq!(read(&vault, "v0", Some(1)).unwrap(), b"\0");
        let wrong = |days| VaultCall::Rotate {
            name: name("v0"),
            description: None,
            readers: None,
            days: Some(days),
            value: secret(b"x"),
        };
        for days in [0, 36_501] {
            assert_eq!(asked(&vault, wrong(days)).unwrap_err().name, "terms_invalid");
        }
    });
}

#[test]
fn a_command_that_is_repeated_changes_nothing_and_nobody_guesses_by_repeating() {
    let running = RealToken::running("bank");
    on_both(|store, _, _| {
        let vault = vault_of(Arc::clone(&store), running.token(), "bank");
        assert_eq!(asked(&vault, put_call("a", b"one")).unwrap(), kept("a", 1, true));
        assert_eq!(asked(&vault, put_call("a", b"one")).unwrap(), kept("a", 1, false));
        assert_eq!(asked(&vault, put_call("a", b"two")).unwrap_err().name, "credential_exists");
        assert_eq!(asked(&vault, rotate_call("a", b"two")).unwrap(), kept("a", 2, true));
        assert_eq!(asked(&vault, rotate_call("a", b"two")).unwrap(), kept("a", 2, false));
        // Somebody else who may keep credentials does not learn that the value is this one.
        let bob = operator("bob", &["administrator"]);
        assert_eq!(vault.desk(&bob, rotate_call("a", b"two"), &mut |_| {}).unwrap(), kept("a", 3, true));
        assert_eq!(vault.desk(&bob, put_call("a", b"two"), &mut |_| {}).unwrap(), kept("a", 3, false), "his own");
        // Nothing is sealed or compared for whoever may not.
        let eve = operator("eve", &["officer"]);
        let keys = running.token().keys().unwrap().len();
        for call in [put_call("b", b"x"), rotate_call("a", b"two"), VaultCall::Rewrap {}] {
            assert_eq!(vault.desk(&eve, call, &mut |_| {}).unwrap_err().name, "operator_not_permitted");
        }
        assert_eq!(running.token().keys().unwrap().len(), keys);
    });
}

/// A store whose answer is lost once the commit is there is asked again.
#[test]
fn a_commit_whose_answer_was_lost_is_found_by_repeating_the_command() {
    let running = RealToken::running("bank");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    let store = SqliteStore::open(&path).unwrap();
    let vault = vault_of(store, running.token(), "bank");
    asked(&vault, put_call("a", b"one")).unwrap();
    drop(vault);
    // The process ended between the commit and its answer: whoever asked knows nothing, and asks again.
    let vault = vault_of(SqliteStore::open(&path).unwrap(), running.token(), "bank");
    assert_eq!(asked(&vault, put_call("a", b"one")).unwrap(), kept("a", 1, false));
    assert_eq!(read(&vault, "a", None).unwrap(), b"one");
}

#[test]
fn a_row_that_was_changed_behind_our_back_does_not_open() {
    let running = RealToken::running("bank");
    on_both(|store, sql, blob| {
        let vault = vault_of(Arc::clone(&store), running.token(), "bank");
        asked(&vault, put_call("a", b"the first of a")).unwrap();
        asked(&vault, rotate_call("a", b"the second of a")).unwrap();
        asked(&vault, put_call("b", b"the first of b")).unwrap();
        sql("CREATE TABLE kept_names AS SELECT * FROM vault_names; CREATE TABLE kept AS SELECT * FROM vault_versions");
        let restore = "DELETE FROM vault_names; INSERT INTO vault_names SELECT * FROM kept_names;
                       DELETE FROM vault_versions; INSERT INTO vault_versions SELECT * FROM kept";
        let of_a = "WHERE name = 'a' AND version = 2";
        let set = |change: &str| format!("UPDATE vault_versions SET {change} {of_a}");
        let sealed = store.credential(&name("a")).unwrap().unwrap().newest.unwrap().sealed;
        let flipped = |place: usize| {
            let mut bytes = sealed.clone();
            bytes[place] ^= 1;
            set(&format!("sealed = {}", blob(&bytes)))
        };
        let from = |other: &str| set(&format!("sealed = (SELECT sealed FROM kept WHERE {other})"));
        let damaged = Refusal::CredentialDamaged.name();
        let mut table = vec![
            ("another name's value", from("name = 'b'"), damaged),
            ("an older version's value", from("name = 'a' AND version = 1"), damaged),
            (
                "an older version under a newer number",
                format!("DELETE FROM vault_versions {of_a}; UPDATE vault_versions SET version = 2 WHERE name = 'a'"),
                damaged,
            ),
            (
                "another name's row",
                "DELETE FROM vault_versions WHERE name = 'a'; UPDATE vault_versions SET name = 'a', version = 2"
                    .to_owned(),
                damaged,
            ),
            ("the newest row is gone", format!("DELETE FROM vault_versions {of_a}"), damaged),
            ("a reader more", set("readers = '[\"operator:eve\",\"service:notify.mail\"]'"), damaged),
            ("no reader that is read", set("readers = '[\"service:notify.mail\"'"), damaged),
            ("readers that are none", set("readers = '[\"service:notify.mail\",\"root\"]'"), damaged),
            ("another description", set("description = 'of another test'"), damaged),
            ("a later end", set("expires = expires + 1"), damaged),
            ("no end", set("expires = NULL"), damaged),
            ("made later", set("made = made + 1"), damaged),
            ("made by somebody else", set("made_by = 'eve'"), damaged),
            ("made by nobody", set("made_by = ''"), damaged),
            ("a key that is not there", set(&format!("wrapping_key = {}", blob(&[7; 32]))), KEY_GONE),
            ("a key that is none", set(&format!("wrapping_key = {}", blob(&[7; 31]))), damaged),
            ("an empty value", set(&format!("sealed = {}", blob(&[]))), damaged),
            ("a byte more", set(&format!("sealed = {}", blob(&[&sealed[..], &[0]].concat()))), damaged),
        ];
        // Nonce, ciphertext, tag: first and last byte of each.
        for place in [0, 11, 12, sealed.len() - 17, sealed.len() - 16, sealed.len() - 1] {
            table.push(("a flipped bit", flipped(place), damaged));
        }
        for length in [1, 11, 12, 27, 28, sealed.len() - 1] {
            table.push(("cut short", set(&format!("sealed = {}", blob(&sealed[..length]))), damaged));
        }
        assert_eq!(read(&vault, "a", None).unwrap(), b"the second of a");
        for (what, change, refused) in table {
            sql(&change);
            let before = leaves(&*store).len();
            assert_eq!(read(&vault, "a", None), Err(refused.to_owned()), "{what}: {change}");
            let told = leaves(&*store);
            assert!(told.len() > before, "{what}");
            assert_eq!(told.last().unwrap()["reason"], refused, "{what}");
            sql(restore);
            assert_eq!(read(&vault, "a", None).unwrap(), b"the second of a", "{what}");
        }
        // A reader who was written into the row gets nothing either, and one who is named by a role is nobody else.
        sql(&set("readers = '[\"operator:eve\",\"service:notify.mail\"]'"));
        let eve = Actor::Operator(operator("eve", &["officer"]));
        assert_eq!(vault.read(&eve, &name("a"), None).unwrap_err().name, damaged);
        // It heals with its next version, also where nothing of it can be read; but what stands in a row that does not open
        // is taken over into none.
        for change in [
            "readers = '[\"operator:eve\",\"service:notify.mail\"]'",
            "expires = NULL",
            "expires = expires + 86400000",
            "made = made - 86400000",
            "description = 'of another test'",
            "readers = 'none'",
        ] {
            sql(restore);
            sql(&set(change));
            let refused = asked(&vault, rotate_call("a", b"the third of a")).unwrap_err();
            assert_eq!(refused.name, "terms_invalid", "{change}");
            assert_eq!(store.credential(&name("a")).unwrap().unwrap().head.newest, 2, "{change}");
        }
        let anew = VaultCall::Rotate {
            name: name("a"),
            description: None,
            readers: Some(["service:notify.mail".parse().unwrap()].into()),
            days: None,
            value: secret(b"the third of a"),
        };
        assert_eq!(asked(&vault, anew).unwrap(), kept("a", 3, true));
        assert_eq!(read(&vault, "a", None).unwrap(), b"the third of a");
        let third = store.credential(&name("a")).unwrap().unwrap().newest.unwrap();
        let readers: Vec<String> = third.terms.readers.iter().map(ToString::to_string).collect();
        assert_eq!(readers, ["service:notify.mail"]);
        assert_eq!(third.terms.expires, None, "a life is taken over from nothing either");
        // Untouched, everything is.
        let terms = || store.credential(&name("b")).unwrap().unwrap().newest.unwrap().terms;
        let first = terms();
        asked(&vault, rotate_call("b", b"the second of b")).unwrap();
        assert_eq!((terms().readers, terms().description), (first.readers, first.description));
        assert!(terms().expires.is_some() && terms().expires >= first.expires);
        sql("DROP TABLE kept; DROP TABLE kept_names");
    });
}

#[test]
fn what_is_sealed_opens_neither_in_another_token_nor_in_another_partys_vault() {
    let running = RealToken::running("bank");
    let stranger = RealToken::running("bank");
    on_both(|store, _, _| {
        let vault = vault_of(Arc::clone(&store), running.token(), "bank");
        asked(&vault, put_call("a", b"of the bank")).unwrap();
        let elsewhere = vault_of(Arc::clone(&store), stranger.token(), "bank");
        assert_eq!(read(&elsewhere, "a", None).unwrap_err(), KEY_GONE);
        // Nor with a key of its own under the name of ours.
        let own = stranger.token().generate("bank", Purpose::VaultWrapping, None).unwrap();
        let row = store.credential(&name("a")).unwrap().unwrap().newest.unwrap();
        assert_eq!(stranger.token().unseal(own.id, b"", row.sealed).unwrap_err().name(), "not_sealed_here");
        let other = vault_of(Arc::clone(&store), running.token(), "secco");
        assert_eq!(read(&other, "a", None).unwrap_err(), "credential_damaged");
        assert_eq!(read(&vault, "a", None).unwrap(), b"of the bank");
    });
}

#[test]
fn after_a_rotation_everything_is_sealed_anew_and_the_key_before_may_go() {
    let running = RealToken::running("bank");
    let token = running.token();
    on_both(|store, sql, blob| {
        let vault = vault_of(Arc::clone(&store), running.token(), "bank");
        for number in 0..70 {
            asked(&vault, put_call(&format!("n{number}"), format!("value {number}").as_bytes())).unwrap();
        }
        let before = store.credential_keys().unwrap();
        let [(old, 70)] = before[..] else { panic!("{before:?}") };
        let new = token.generate("bank", Purpose::VaultWrapping, None).unwrap();
        token.retire(old).unwrap();
        // One that does not open is named, and keeps nobody up; so is it when it is asked for again.
        sql(&format!("UPDATE vault_versions SET sealed = {} WHERE name = 'n13'", blob(&[1; 40])));
        let mut told = Vec::new();
        let answer = vault.desk(&ada(), VaultCall::Rewrap {}, &mut |at| told.push(at)).unwrap();
        let left = json!([{ "name": "n13", "version": 1, "reason": "credential_damaged" }]);
        assert_eq!((&answer["rewrapped"], &answer["left"]), (&json!(69), &left));
        assert_eq!(told.len(), 70, "progress");
        assert_eq!(asked(&vault, VaultCall::Rewrap {}).unwrap()["rewrapped"], 0);
        // Nothing is taken over from it: who rotates says who reads.
        assert_eq!(asked(&vault, rotate_call("n13", b"value 13")).unwrap_err().name, "terms_invalid");
        let anew = VaultCall::Rotate {
            name: name("n13"),
            description: None,
            readers: Some(["service:notify.mail".parse().unwrap()].into()),
            days: None,
            value: secret(b"value 13"),
        };
        asked(&vault, anew).unwrap();
        asked(&vault, VaultCall::Remove { name: name("n13"), version: Some(1) }).unwrap();
        assert_eq!(store.credential_keys().unwrap(), [(new.id, 70)]);
        let leaf = leaves(&*store).into_iter().find(|leaf| leaf["act"] == "vault_rewrap").unwrap();
        assert_eq!(leaf["parameters"]["key"], json!(new.id));
        token.destroy(old).unwrap();
        for number in 0..70 {
            assert_eq!(read(&vault, &format!("n{number}"), None).unwrap(), format!("value {number}").as_bytes());
        }
        // For the second store.
        token.retire(new.id).unwrap();
        token.destroy(new.id).unwrap();
    });
}

#[test]
fn a_row_that_cannot_be_read_is_named_and_stops_neither_the_list_nor_the_new_sealing_of_others() {
    let running = RealToken::running("bank");
    let token = running.token();
    on_both(|store, sql, blob| {
        let vault = vault_of(Arc::clone(&store), running.token(), "bank");
        // More than one portion of them, with damaged ones among the first.
        for number in 0..130 {
            asked(&vault, put_call(&format!("n{number:03}"), b"value")).unwrap();
        }
        let of = |number: u32| format!("WHERE name = 'n{number:03}'");
        sql(&format!("UPDATE vault_versions SET readers = 'x' {}", of(1)));
        sql(&format!("UPDATE vault_versions SET made_by = '' {}", of(2)));
        sql(&format!("UPDATE vault_versions SET wrapping_key = {} {}", blob(&[7; 31]), of(3)));
        sql(&format!("UPDATE vault_versions SET name = 'Not A Name' {}", of(4)));
        sql(&format!("UPDATE vault_versions SET version = -1 {}", of(129)));
        let old = store.credential_keys().unwrap();
        let [(old, 129)] = old[..] else { panic!("{old:?}") };
        let list = |after, limit| asked(&vault, VaultCall::List { after, limit }).unwrap();
        let (mut states, mut after) = (Vec::new(), None);
        loop {
            let page = list(after, 50);
            let items = page["items"].as_array().unwrap();
            states.extend(items.iter().map(|item| (item["name"].clone(), item["state"].clone())));
            after = serde_json::from_value(page["next"].clone()).unwrap();
            if after.is_none() {
                break;
            }
        }
        assert_eq!(states.len(), 130);
        let damaged: Vec<_> = states.iter().filter(|(_, state)| state == "damaged").map(|(name, _)| name).collect();
        assert_eq!(damaged, ["Not A Name", "n001", "n002", "n003", "n129"]);

        let new = token.generate("bank", Purpose::VaultWrapping, None).unwrap();
        token.retire(old).unwrap();
        let answer = asked(&vault, VaultCall::Rewrap {}).unwrap();
        assert_eq!(answer["rewrapped"], 125, "{answer}");
        let left: Vec<_> = answer["left"].as_array().unwrap().iter().map(|line| line["name"].clone()).collect();
        assert_eq!(left, ["Not A Name", "n001", "n002", "n003", "n129"]);
        assert!(answer["left"].as_array().unwrap().iter().all(|line| line["reason"] == "credential_damaged"));
        assert_eq!(asked(&vault, VaultCall::Rewrap {}).unwrap()["rewrapped"], 0);
        assert_eq!(store.credential_keys().unwrap().iter().find(|(key, _)| *key == new.id).unwrap().1, 125);
        token.retire(new.id).unwrap();
    });
}

#[test]
fn whoever_reads_while_others_rotate_gets_the_value_of_the_version_it_is_told() {
    let running = RealToken::running("bank");
    on_both(|store, _, _| {
        let vault = vault_of(Arc::clone(&store), running.token(), "bank");
        asked(&vault, put_call("a", b"by nobody")).unwrap();
        let rotated = |who: &str| {
            let mine = operator(who, &["administrator"]);
            let mut versions = Vec::new();
            for number in 0..8 {
                let value = format!("{who} {number}");
                match vault.desk(&mine, rotate_call("a", value.as_bytes()), &mut |_| {}) {
                    Ok(answer) => versions.push((answer["version"].as_u64().unwrap(), value)),
                    Err(failure) => {
                        assert_eq!((failure.name.as_str(), failure.kind), ("credential_changed", Kind::Refused))
                    }
                }
            }
            versions
        };
        let (mut given, seen) = std::thread::scope(|scope| {
            let keepers: Vec<_> = ["kim", "lee"].map(|who| scope.spawn(move || rotated(who))).into();
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let read = |_| vault.read(&reader(), &name("a"), None).unwrap();
                        (0..30).map(read).map(|it| (it.credential.version, it.value.0.to_vec())).collect::<Vec<_>>()
                    })
                })
                .collect();
            let given: Vec<_> = keepers.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            (given, readers.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>())
        });
        given.sort();
        let versions: Vec<u64> = given.iter().map(|(version, _)| *version).collect();
        assert_eq!(versions, (2..2 + versions.len() as u64).collect::<Vec<_>>(), "each number once");
        for (version, value) in seen {
            let expected = given.iter().find(|(of, _)| *of == version).map_or("by nobody", |(_, value)| value);
            assert_eq!(String::from_utf8(value).unwrap(), expected, "version {version}");
        }
    });
}

/// A token to which something happens right behind one of its calls.
struct Meddled {
    inner: Arc<dyn Token>,
    behind: fn(&Op) -> bool,
    /// Answers instead of the token, which has done it. Once.
    meddle: Mutex<Option<Meddle>>,
}

type Meddle = Box<dyn FnOnce(&Real, Result<Reply, HsmFault>) -> Result<Reply, HsmFault> + Send>;
/// As tokens are shared.
type Real = dyn Token + 'static;

impl Token for Meddled {
    fn call(&self, op: Op) -> Result<Reply, HsmFault> {
        let is_it = (self.behind)(&op);
        let reply = self.inner.call(op);
        match self.meddle.lock().unwrap().take_if(|_| is_it) {
            Some(meddle) => meddle(&*self.inner, reply),
            None => reply,
        }
    }
}

fn meddled(
    token: Arc<dyn Token>,
    behind: fn(&Op) -> bool,
    meddle: impl FnOnce(&Real, Result<Reply, HsmFault>) -> Result<Reply, HsmFault> + Send + 'static,
) -> Arc<dyn Token> {
    Arc::new(Meddled { inner: token, behind, meddle: Mutex::new(Some(Box::new(meddle))) })
}

fn newest_key(token: &Real) -> KeyInfo {
    let keys = token.keys().unwrap().into_iter().filter(|key| key.purpose == Purpose::VaultWrapping);
    keys.max_by_key(|key| key.version).unwrap()
}

#[test]
fn a_key_that_was_rotated_between_the_sealing_and_the_commit_is_seen_afterwards() {
    let running = RealToken::running("bank");
    on_both(|store, _, _| {
        let vault = vault_of(Arc::clone(&store), running.token(), "bank");
        asked(&vault, put_call("a", b"one")).unwrap();
        let seals = |op: &Op| matches!(op, Op::Seal { .. });
        // Rotated and everything else sealed anew, as far as it could be seen.
        let token = meddled(running.token(), seals, |token, reply| {
            let before = newest_key(token);
            token.generate("bank", Purpose::VaultWrapping, None).unwrap();
            token.retire(before.id).unwrap();
            reply
        });
        assert_eq!(
            asked(&vault_of(Arc::clone(&store), token, "bank"), put_call("b", b"two")).unwrap(),
            kept("b", 1, true)
        );
        let newest = newest_key(&*running.token());
        assert_eq!(store.credential(&name("b")).unwrap().unwrap().newest.unwrap().key, newest.id);
        assert_eq!(read(&vault, "b", None).unwrap(), b"two");
        let acts: Vec<_> = leaves(&*store).into_iter().map(|leaf| leaf["act"].clone()).collect();
        assert!(acts.ends_with(&[json!("vault_put"), json!("vault_rewrap"), json!("vault_get")]), "{acts:?}");
        // Even destroyed: who gave the value is told that it has to be given again.
        let token = meddled(running.token(), seals, |token, reply| {
            let before = newest_key(token);
            token.generate("bank", Purpose::VaultWrapping, None).unwrap();
            token.retire(before.id).unwrap();
            token.destroy(before.id).unwrap();
            reply
        });
        let refused = asked(&vault_of(Arc::clone(&store), token, "bank"), put_call("c", b"three")).unwrap_err();
        assert_eq!(refused.name, KEY_GONE);
        assert_eq!(read(&vault, "c", None).unwrap_err(), KEY_GONE);
        let again = VaultCall::Rotate {
            name: name("c"),
            description: None,
            readers: Some(["service:notify.mail".parse().unwrap()].into()),
            days: None,
            value: secret(b"three"),
        };
        assert_eq!(asked(&vault, again).unwrap(), kept("c", 2, true));
        assert_eq!(read(&vault, "c", None).unwrap(), b"three");
        running.token().retire(newest_key(&*running.token()).id).unwrap();
    });
}

#[test]
fn a_wrapping_key_has_a_leaf_also_when_nobody_heard_that_it_was_made() {
    let running = RealToken::running("bank");
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("store.sqlite3")).unwrap() as Arc<dyn Store>;
    let token = meddled(
        running.token(),
        |op| matches!(op, Op::Generate(_)),
        |_, reply| {
            reply.unwrap();
            Err(HsmFault::Unavailable { name: "deadline_passed".into(), message: "lost".into(), maybe_signed: false })
        },
    );
    let lost = asked(&vault_of(Arc::clone(&store), token, "bank"), put_call("a", b"one")).unwrap_err();
    assert_eq!(lost.kind, Kind::Busy);
    let told = leaves(&*store);
    let [leaf] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&leaf["act"], &leaf["parameters"]["outcome"]), (&json!("vault_key"), &json!("ordered")));
    assert_eq!(leaf["actor"]["name"], "ada");
    // It is there, and used.
    let vault = vault_of(Arc::clone(&store), running.token(), "bank");
    assert_eq!(asked(&vault, put_call("a", b"one")).unwrap(), kept("a", 1, true));
    assert_eq!(newest_key(&*running.token()).version, 1);
}

#[test]
fn one_name_is_shown_with_what_was_removed_and_whoever_has_no_role_is_refused_on_record() {
    let running = RealToken::running("bank");
    on_both(|store, _, _| {
        let vault = vault_of(Arc::clone(&store), running.token(), "bank");
        for (of, values) in [("a", 1), ("b", 4), ("b/c", 1)] {
            asked(&vault, put_call(of, b"1")).unwrap();
            (1..values).for_each(|value: u8| drop(asked(&vault, rotate_call(of, &[value])).unwrap()));
        }
        asked(&vault, VaultCall::Remove { name: name("b"), version: Some(2) }).unwrap();
        let shown = asked(&vault, VaultCall::Show { name: name("b") }).unwrap();
        assert_eq!((&shown["name"], &shown["newest"], &shown["removed"]), (&json!("b"), &json!(4), &json!(1)));
        let items = shown["items"].as_array().unwrap();
        let versions: Vec<_> = items.iter().map(|item| (item["name"].clone(), item["version"].clone())).collect();
        assert_eq!(versions, [1, 3, 4].map(|version| (json!("b"), json!(version))));
        asked(&vault, VaultCall::Remove { name: name("b"), version: None }).unwrap();
        let shown = asked(&vault, VaultCall::Show { name: name("b") }).unwrap();
        assert_eq!((&shown["newest"], &shown["removed"], &shown["items"]), (&json!(4), &json!(4), &json!([])));
        assert_eq!(asked(&vault, VaultCall::Show { name: name("z") }).unwrap_err().name, "unknown_credential");
        let nobody = operator("eve", &[]);
        for (call, act) in [
            (VaultCall::List { after: None, limit: 10 }, "vault_list"),
            (VaultCall::Show { name: name("a") }, "vault_show"),
        ] {
            assert_eq!(vault.desk(&nobody, call, &mut |_| {}).unwrap_err().name, "operator_not_permitted");
            let leaf = leaves(&*store).pop().unwrap();
            assert_eq!((&leaf["act"], &leaf["reason"]), (&json!(act), &json!("operator_not_permitted")));
            assert_eq!(leaf["actor"]["name"], "eve");
        }
    });
}

#[test]
fn names_that_were_removed_are_not_without_number() {
    let running = RealToken::running("bank");
    on_both(|store, sql, _| {
        let vault = vault_of(Arc::clone(&store), running.token(), "bank");
        asked(&vault, put_call("a", b"one")).unwrap();
        sql("WITH RECURSIVE many(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM many WHERE number < 99999)
             INSERT INTO vault_names SELECT 'gone/' || number, 1 FROM many");
        assert_eq!(asked(&vault, put_call("b", b"two")).unwrap_err().name, "too_many_credentials");
        assert_eq!(asked(&vault, put_call("gone/7", b"two")).unwrap(), kept("gone/7", 2, true), "it is known");
        assert_eq!(asked(&vault, rotate_call("a", b"two")).unwrap(), kept("a", 2, true));
    });
}

/// Every way in which a text may lie in a file.
pub fn traces(canary: &str) -> Vec<Vec<u8>> {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let plain = canary.as_bytes();
    let reversed: Vec<u8> = plain.iter().rev().copied().collect();
    let wide: Vec<u8> = canary.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let wide_be: Vec<u8> = canary.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut all = vec![plain.to_vec(), reversed, wide, wide_be];
    all.push(hex::encode(plain).into_bytes());
    all.push(hex::encode_upper(plain).into_bytes());
    // However it lies in what was encoded: the letters that depend on its neighbours are left out.
    for engine in [&STANDARD as &dyn Fn64, &URL_SAFE_NO_PAD] {
        for shift in 0..3 {
            let text = engine.text(&[&vec![b'x'; shift], plain].concat());
            all.push(text.as_bytes()[4..text.len() - 4].to_vec());
        }
    }
    return all;

    trait Fn64 {
        fn text(&self, bytes: &[u8]) -> String;
    }
    impl<E: base64::Engine> Fn64 for E {
        fn text(&self, bytes: &[u8]) -> String {
            self.encode(bytes)
        }
    }
}

/// Files under a directory that have one of the traces.
pub fn found_in(directory: &Path, traces: &[Vec<u8>]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(found_in(&path, traces));
        } else if kind.is_file() {
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                // A journal that was there a moment ago.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => panic!("{} cannot be searched: {error}", path.display()),
            };
            found.extend(has(&bytes, traces).then(|| path.display().to_string()));
        }
    }
    found
}

/// All traces are ASCII: whatever else there is stays out of their way.
pub fn has(bytes: &[u8], traces: &[Vec<u8>]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    traces.iter().any(|trace| text.contains(std::str::from_utf8(trace).unwrap()))
}

#[test]
fn a_copied_database_holds_no_trace_of_a_value() {
    let running = RealToken::running("bank");
    let canary = format!("canary-{}", hex::encode(countersign::ops::clock::random::<16>()));
    let traces = traces(&canary);
    // The search itself finds what it looks for.
    for trace in &traces {
        assert!(has(&[b"before", &trace[..], b"after"].concat(), std::slice::from_ref(trace)));
    }
    let directory = tempfile::tempdir().unwrap();
    let planted = directory.path().join("planted");
    std::fs::write(&planted, format!("…{canary}…")).unwrap();
    assert_eq!(found_in(directory.path(), &traces).len(), 1);
    std::fs::remove_file(&planted).unwrap();

    let store = SqliteStore::open(&directory.path().join("store.sqlite3")).unwrap();
    let database = shared().database();
    for store in [store as Arc<dyn Store>, database.open() as Arc<dyn Store>] {
        let vault = vault_of(Arc::clone(&store), running.token(), "bank");
        asked(&vault, put_call("a", canary.as_bytes())).unwrap();
        asked(&vault, put_call("a", canary.as_bytes())).unwrap();
        asked(&vault, rotate_call("a", format!("second {canary}").as_bytes())).unwrap();
        assert_eq!(read(&vault, "a", Some(1)).unwrap(), canary.as_bytes());
        assert_eq!(read(&vault, "b", None).unwrap_err(), "unknown_credential");
        asked(&vault, VaultCall::List { after: None, limit: 10 }).unwrap();
        let told: Vec<Value> = leaves(&*store);
        assert!(told.len() >= 5 && !has(json!(told).to_string().as_bytes(), &traces));
        // With the write-ahead log, while it is open.
        assert_eq!(found_in(directory.path(), &traces), Vec::<String>::new());
    }
    // Every table, dead rows aside, as a dump has it.
    let tables = database.sql("SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'public'");
    let tables: Vec<&str> =
        tables.lines().flat_map(str::split_whitespace).filter(|word| is_table(&database, word)).collect();
    assert!(tables.len() > 20 && tables.contains(&"vault_versions") && tables.contains(&"leaves"), "{tables:?}");
    for table in tables {
        let rows = database.sql(&format!("SELECT t::text FROM \"{table}\" t"));
        assert!(table != "vault_versions" || rows.contains("service:notify.mail"), "{rows}");
        assert!(!has(rows.as_bytes(), &traces), "{table}");
        // Bytes are written in hexadecimal: what lies in them is looked for, too.
        let bytes: Vec<u8> = rows
            .split(['\\', ',', ')', '\n', '"'])
            .filter_map(|part| hex::decode(part.strip_prefix('x')?).ok())
            .flatten()
            .collect();
        assert!(!has(&bytes, &traces), "{table}");
    }
}

/// What psql prints around an answer is none.
fn is_table(database: &Database<'_>, word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        && database.sql(&format!("SELECT 'there' WHERE to_regclass('{word}') IS NOT NULL")).contains("there")
}

/// The module's own AES-GCM, called as the worker calls it (`hsm/worker/sealing.rs`): nonce of 12 bytes, tag of 16.
#[test]
fn sealed_texts_are_judged_as_project_wycheproof_does() {
    if crate::keys::vectors("aes_gcm_test.json").is_none() {
        return;
    }
    let token = RealToken::provisioned("bank");
    // A process of its own: a module reads its configuration from the environment.
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "vault::judges_vectors_in_this_process", "--nocapture"])
        .env("SOFTHSM2_CONF", token.state.resolve("softhsm/softhsm2.conf"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "sealed_texts_are_judged_as_project_wycheproof_does runs it with a token"]
fn judges_vectors_in_this_process() {
    use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
    use cryptoki::mechanism::Mechanism;
    use cryptoki::mechanism::aead::GcmParams;
    use cryptoki::object::{Attribute, KeyType, ObjectClass};
    use cryptoki::types::Ulong;
    if std::env::var_os("SOFTHSM2_CONF").is_none() {
        println!("skipped: the test beside it runs this one");
        return;
    }
    let vectors = crate::keys::vectors("aes_gcm_test.json").unwrap();
    let module = Pkcs11::new(crate::support::token::MODULE).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = module.get_slots_with_initialized_token().unwrap()[0];
    let (mut opened, mut refused) = (0, 0);
    for group in vectors["testGroups"].as_array().unwrap() {
        let size = |member: &str| group[member].as_u64().unwrap();
        // Others have another form than what is sealed here.
        if (size("keySize"), size("ivSize"), size("tagSize")) != (256, 96, 128) {
            continue;
        }
        for test in group["tests"].as_array().unwrap() {
            let bytes = |member: &str| hex::decode(test[member].as_str().unwrap()).unwrap();
            // One that failed may leave its operation behind.
            let session = module.open_ro_session(slot).unwrap();
            let key = session
                .create_object(&[
                    Attribute::Class(ObjectClass::SECRET_KEY),
                    Attribute::KeyType(KeyType::AES),
                    Attribute::Token(false),
                    Attribute::Private(false),
                    Attribute::Decrypt(true),
                    Attribute::Value(bytes("key")),
                ])
                .unwrap();
            let (mut nonce, context) = (bytes("iv"), bytes("aad"));
            let parameters = GcmParams::new(&mut nonce, &context, Ulong::new(128)).unwrap();
            let text = [bytes("ct"), bytes("tag")].concat();
            let plain = session.decrypt(&Mechanism::AesGcm(parameters), key, &text);
            match test["result"].as_str().unwrap() {
                "valid" => {
                    assert_eq!(plain.unwrap(), bytes("msg"), "{}", test["tcId"]);
                    opened += 1;
                }
                "invalid" => {
                    assert!(plain.is_err(), "{}", test["tcId"]);
                    refused += 1;
                }
                other => panic!("{other}"),
            }
        }
    }
    assert!(opened > 20 && refused > 20, "{opened} opened, {refused} refused");
}
