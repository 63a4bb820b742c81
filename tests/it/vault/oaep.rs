//! A module without AES-GCM: data keys under RSA-OAEP, what does not open there either, and the way from one to the other.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use countersign::hsm::{KeyInfo, KeyState, Plaintext};
use countersign::kernel::sign::{Algorithm, Purpose};
use countersign::kernel::types::Sha256;
use countersign::kernel::vault::{Oaep, SealedCredential, VaultPlace};
use countersign::store::Store;
use countersign::vault::{MECHANISM_MISSING, Vault, VaultCall, VaultSetup};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::daemon::{done, given, lines};
use super::{asked, kept, leaves, name, on_both, put_call, read, rotate_call, vault_of};
use crate::support::token::RealToken;
use crate::support::world::World;

/// Making RSA keys takes seconds where two cores are shared.
const SLOW_MS: u64 = 60_000;

/// Starts the token anew on a module that lacks these mechanisms.
fn without(token: &mut RealToken, mechanisms: &str) {
    token.stop();
    let path = token.state.resolve("softhsm/softhsm2.conf");
    let config = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = config.lines().filter(|line| !line.starts_with("slots.mechanisms")).collect();
    // SoftHSM2 2.6.1 does not heed the first name behind the minus.
    let lacks = format!("slots.mechanisms = -NONE,{mechanisms}");
    if !mechanisms.is_empty() {
        lines.push(&lacks);
    }
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    token.start().unwrap();
}

fn poor() -> RealToken {
    let mut token = RealToken::provisioned("bank");
    token.settings.deadline_ms = SLOW_MS;
    without(&mut token, "CKM_AES_GCM");
    token
}

fn configured(store: &Arc<dyn Store>, token: &RealToken, algorithm: Algorithm) -> Vault {
    Vault::new(VaultSetup {
        store: Arc::clone(store),
        token: token.token(),
        party: "bank".parse().unwrap(),
        trust_domain: "countersign.example".into(),
        algorithm: Some(algorithm),
    })
}

fn wrapping_keys(token: &RealToken) -> Vec<KeyInfo> {
    token.token().keys().unwrap().into_iter().filter(|key| key.purpose == Purpose::VaultWrapping).collect()
}

fn ways(vault: &Vault) -> Vec<Value> {
    let list = asked(vault, VaultCall::List { after: None, limit: 100 }).unwrap();
    list["items"].as_array().unwrap().iter().map(|item| item["way"].clone()).collect()
}

#[test]
fn without_gcm_a_value_lies_under_a_data_key_that_only_the_token_opens() {
    let token = poor();
    on_both(|store, sql, blob| {
        let vault = vault_of(Arc::clone(&store), token.token(), "bank");
        for (of, value) in [("a", vec![7]), ("b", b"the first of b".to_vec()), ("large", vec![9; 64 * 1024])] {
            assert_eq!(asked(&vault, put_call(of, &value)).unwrap(), kept(of, 1, true));
            assert_eq!(asked(&vault, put_call(of, &value)).unwrap(), kept(of, 1, false), "a repeat");
            assert_eq!(read(&vault, of, None).unwrap(), value);
        }
        asked(&vault, rotate_call("b", b"the second of b")).unwrap();
        // SoftHSM2 has no other hash.
        assert_eq!(
            ways(&vault),
            [json!("rsa-oaep-sha1"), json!("rsa-oaep-sha1"), json!("rsa-oaep-sha1"), json!("rsa-oaep-sha1")]
        );
        let keys = wrapping_keys(&token);
        let [key] = &keys[..] else { panic!("{keys:?}") };
        assert_eq!((key.algorithm, key.state), (Algorithm::Rsa3072, KeyState::Active));
        assert!(key.custody.is_sound());
        let told = leaves(&*store);
        let put = told.iter().find(|leaf| leaf["act"] == "vault_put").unwrap();
        assert_eq!(put["parameters"]["way"], "rsa-oaep-sha1");

        // Whatever is changed, nothing opens: a bit anywhere, another row's value, other terms.
        let row = store.credential(&name("b")).unwrap().unwrap().newest.unwrap();
        let set = |change: &str| sql(&format!("UPDATE vault_versions SET {change} WHERE name = 'b' AND version = 2"));
        let put_back = || set(&format!("sealed = {}", blob(&row.sealed)));
        let (header, signature) = (Oaep::HEADER_BYTES, usize::from(row.sealed[Oaep::HEADER_BYTES]));
        let body = header + 1 + signature;
        let length = row.sealed.len();
        let places = [
            0,
            header - 1,
            header,
            header + 1,
            body - 1,
            body,
            body + 383,
            body + 384,
            body + 395,
            body + 396,
            length - 17,
            length - 16,
            length - 1,
        ];
        for place in places {
            let mut bytes = row.sealed.clone();
            bytes[place] ^= 1;
            set(&format!("sealed = {}", blob(&bytes)));
            assert_eq!(read(&vault, "b", None), Err("credential_damaged".to_owned()), "byte {place} of {length}");
        }
        for end in [0, header, header + 1, body, body + 384, body + 396, length - 1] {
            set(&format!("sealed = {}", blob(&row.sealed[..end])));
            assert_eq!(read(&vault, "b", None), Err("credential_damaged".to_owned()), "{end} bytes of {length}");
        }
        let first = store.sealed_credentials(None, None, 100).unwrap();
        let first = first
            .iter()
            .filter_map(|found| found.row.as_ref())
            .find(|row| row.name == name("b") && row.version == 1)
            .unwrap();
        set(&format!("sealed = {}", blob(&first.sealed)));
        assert_eq!(read(&vault, "b", None), Err("credential_damaged".to_owned()), "an older version's value");
        put_back();
        set("readers = '[\"operator:eve\",\"service:notify.mail\"]'");
        assert_eq!(read(&vault, "b", None), Err("credential_damaged".to_owned()), "a reader more");
        set("readers = '[\"service:notify.mail\"]'");
        assert_eq!(read(&vault, "b", None).unwrap(), b"the second of b");

        // The public half is public: what is sealed with it alone is nobody's.
        set(&format!("sealed = {}", blob(&forged(&row, key, b"of a stranger"))));
        assert_eq!(read(&vault, "b", None), Err("credential_damaged".to_owned()), "sealed by a stranger");
        put_back();
        assert_eq!(read(&vault, "b", None).unwrap(), b"the second of b");
    });
}

/// What somebody composes who knows everything but has no token: only the signature is of another key.
fn forged(row: &SealedCredential, key: &KeyInfo, value: &[u8]) -> Vec<u8> {
    let place = VaultPlace { trust_domain: "countersign.example".into(), party: "bank".parse().unwrap() };
    let associated = [b"countersign/sealed/v1\0vault-wrapping\0".as_slice(), &row.context(&place)].concat();
    let header = Oaep::Sha1.header();
    let bound = [header.as_slice(), &associated].concat();
    let public = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&key.spki).unwrap()).unwrap();
    let mut wrapped = vec![0; 384];
    public.encrypt(&OAEP_SHA1_MGF1SHA1, &[1; 32], &mut wrapped, None).unwrap();
    let mut text = value.to_vec();
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[1; 32]).unwrap());
    cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key([2; 12]), Aad::from(&bound), &mut text).unwrap();
    let body = [wrapped.as_slice(), &[2; 12], &text].concat();
    let message =
        [b"countersign/sealed-by/v1\0".as_slice(), &Sha256::of(&[&bound]).0, &Sha256::of(&[&body]).0].concat();
    let stranger = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let signature = stranger.sign(&SystemRandom::new(), &message).unwrap();
    let length = u8::try_from(signature.as_ref().len()).unwrap();
    [header.as_slice(), &[length], signature.as_ref(), &body].concat()
}

#[test]
fn versions_move_from_one_way_to_the_other_as_the_module_gains_and_loses_gcm() {
    let mut token = poor();
    let directory = tempfile::tempdir().unwrap();
    let store = countersign::store::sqlite::SqliteStore::open(&directory.path().join("store.sqlite3")).unwrap();
    let store = store as Arc<dyn Store>;
    let vault = vault_of(Arc::clone(&store), token.token(), "bank");
    for number in 0..3 {
        asked(&vault, put_call(&format!("n{number}"), format!("value {number}").as_bytes())).unwrap();
    }
    let all = |vault: &Vault| (0..3).map(|number| read(vault, &format!("n{number}"), None)).collect::<Vec<_>>();
    let values: Vec<_> = (0..3).map(|number| Ok(format!("value {number}").into_bytes())).collect();
    drop(vault);

    // The module gains it: what is there opens, what is new is sealed by it, and rewrap moves the rest.
    without(&mut token, "");
    let vault = vault_of(Arc::clone(&store), token.token(), "bank");
    assert_eq!(all(&vault), values);
    asked(&vault, put_call("new", b"x")).unwrap();
    let expected = ["rsa-oaep-sha1", "rsa-oaep-sha1", "rsa-oaep-sha1", "aes-256-gcm"].map(|way| json!(way));
    assert_eq!(ways(&vault), expected);
    assert_eq!(asked(&vault, VaultCall::Rewrap {}).unwrap()["rewrapped"], 3);
    assert_eq!(ways(&vault), vec![json!("aes-256-gcm"); 4]);
    assert_eq!(all(&vault), values);
    // The RSA key is let go as any other one.
    let rsa = wrapping_keys(&token).into_iter().find(|key| key.algorithm == Algorithm::Rsa3072).unwrap();
    token.token().retire(rsa.id).unwrap();
    token.token().destroy(rsa.id).unwrap();
    drop(vault);

    // It loses it, and nobody has said so before: values stay sealed, by that name, and nothing is called damaged.
    without(&mut token, "CKM_AES_GCM");
    let vault = vault_of(Arc::clone(&store), token.token(), "bank");
    assert_eq!(read(&vault, "n0", None), Err(MECHANISM_MISSING.to_owned()));
    let leaf = leaves(&*store).pop().unwrap();
    assert_eq!((&leaf["act"], &leaf["reason"]), (&json!("vault_not_opened"), &json!(MECHANISM_MISSING)));
    let answer = asked(&vault, VaultCall::Rewrap {}).unwrap();
    assert_eq!(answer["rewrapped"], 0);
    let reasons: Vec<_> = answer["left"].as_array().unwrap().iter().map(|line| line["reason"].clone()).collect();
    assert_eq!(reasons, vec![json!(MECHANISM_MISSING); 4]);
    // What is given anew is sealed as the module can.
    asked(&vault, put_call("poor", b"y")).unwrap();
    assert_eq!(read(&vault, "poor", None).unwrap(), b"y");
    drop(vault);

    // Prepared by the configuration it goes the other way: first everything is moved, then the module may change.
    without(&mut token, "");
    let vault = configured(&store, &token, Algorithm::Rsa3072);
    assert_eq!(all(&vault), values);
    assert_eq!(asked(&vault, VaultCall::Rewrap {}).unwrap()["rewrapped"], 4);
    assert_eq!(ways(&vault), vec![json!("rsa-oaep-sha1"); 5]);
    drop(vault);
    without(&mut token, "CKM_AES_GCM");
    let vault = vault_of(Arc::clone(&store), token.token(), "bank");
    assert_eq!(all(&vault), values);
    assert_eq!(asked(&vault, VaultCall::Rewrap {}).unwrap()["rewrapped"], 0);
    drop(vault);

    // With neither there is no vault.
    without(&mut token, "CKM_AES_GCM,CKM_RSA_PKCS_OAEP");
    let vault = vault_of(Arc::clone(&store), token.token(), "bank");
    assert_eq!(asked(&vault, put_call("z", b"z")).unwrap_err().name, "vault_unusable");
    assert_eq!(read(&vault, "n0", None), Err(MECHANISM_MISSING.to_owned()));
}

#[test]
fn an_rsa_key_that_seals_goes_through_the_states_of_every_key() {
    let token = poor();
    let make = || {
        let order = countersign::hsm::KeyOrder {
            party: "bank".into(),
            purpose: Purpose::VaultWrapping,
            agent: None,
            algorithm: Algorithm::Rsa3072,
        };
        token.token().make(order).unwrap()
    };
    let secret = || Plaintext(Zeroizing::new(b"a secret".to_vec()));
    let hsm = token.token();
    let key = make();
    assert_eq!((key.label.as_str(), key.state), ("bank-vault-wrapping-v1", KeyState::Active));
    let sealed = hsm.seal(key.id, b"context", secret()).unwrap();
    assert_eq!(hsm.unseal(key.id, b"context", sealed.clone()).unwrap(), secret());
    assert_eq!(hsm.unseal(key.id, b"another", sealed.clone()).unwrap_err().name(), "not_sealed_here");
    // It signs nothing.
    let nonce = countersign::kernel::sign::SignInput::SelfTest { nonce: [7; 32] };
    assert_eq!(hsm.sign(key.id, nonce).unwrap_err().name(), "wrong_purpose");

    assert_eq!(hsm.retire(key.id).unwrap().state, KeyState::VerifyOnly);
    assert_eq!(hsm.retire(key.id).unwrap().state, KeyState::VerifyOnly, "again");
    assert_eq!(hsm.seal(key.id, b"context", secret()).unwrap_err().name(), "key_verify_only");
    assert_eq!(hsm.unseal(key.id, b"context", sealed.clone()).unwrap(), secret());
    // So another worker sees it.
    let other = token.another();
    let other: Arc<dyn countersign::hsm::Token> = other.pool();
    assert_eq!(other.seal(key.id, b"context", secret()).unwrap_err().name(), "key_verify_only");
    assert_eq!(other.unseal(key.id, b"context", sealed.clone()).unwrap(), secret());

    assert_eq!(hsm.destroy(key.id).unwrap().state, KeyState::Destroyed);
    assert_eq!(hsm.unseal(key.id, b"context", sealed.clone()).unwrap_err().name(), "key_destroyed");
    let next = make();
    assert_eq!(next.label, "bank-vault-wrapping-v2");
    assert_eq!(hsm.unseal(next.id, b"context", sealed).unwrap_err().name(), "not_sealed_here");
}

#[test]
fn a_party_seals_as_its_configuration_says_and_the_doctor_tells_of_versions_that_wait() {
    let world = World::new();
    done(&world, &["vault", "put", "a", "--reader", "role:auditor"], b"a value");
    let doctor = || lines(&world, "vault").remove(0);
    let under = |label: &str, way: &str| {
        ("ok".to_owned(), format!("1 versions of 1 credentials, sealed under bank-vault-wrapping-{label} ({way})"))
    };
    assert_eq!(doctor(), under("v1", "aes-256-gcm"));
    world.run("bank", &["stop"]);
    let config = world.state("bank").join("countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("deadline_ms")).collect();
    let chosen = "[hsm.bank]\ndeadline_ms = 60000\nalgorithms = { vault-wrapping = \"rsa3072\" }";
    let changed = lines.join("\n").replace("[hsm.bank]", chosen);
    assert!(changed.contains("rsa3072"), "{text}");
    std::fs::write(&config, changed).unwrap();
    world.serve("bank");
    assert_eq!(
        doctor(),
        ("warn".to_owned(), "1 versions are sealed under a key from before the newest (aes-256-gcm)".to_owned())
    );
    assert_eq!(done(&world, &["vault", "rewrap"], b"")["rewrapped"], 1);
    assert_eq!(doctor(), under("v2", "rsa-oaep-sha1"));
    let shown = done(&world, &["vault", "show", "a"], b"");
    let item = &shown["items"][0];
    assert_eq!((&item["way"], &item["key_label"]), (&json!("rsa-oaep-sha1"), &json!("bank-vault-wrapping-v2")));
    let output = given(&world, &["--operator", "auditor", "vault", "get", "a"], b"");
    assert_eq!(output.stdout, b"a value", "{}", String::from_utf8_lossy(&output.stderr));
    let key = done(&world, &["key", "show", "bank-vault-wrapping-v2"], b"");
    assert_eq!((&key["algorithm"], &key["state"]), (&json!("rsa3072"), &json!("active")), "{key}");
    // The one before is let go as after every rotation.
    assert_eq!(done(&world, &["key", "rotate", "vault-wrapping"], b"")["retired"], json!(["bank-vault-wrapping-v1"]));
    assert_eq!(doctor(), under("v2", "rsa-oaep-sha1"));
}
