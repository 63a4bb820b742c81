//! Versions of the role catalogue over time: validity, what changes, signers whose certificates end or are made anew.

use super::*;
use crate::kernel::catalogue::{SignedCatalogue, verify, verify_in_force};

fn bare(version: u64, tools: &[&str]) -> Value {
    json!({
        "schema": "countersign/role-catalogue/v1",
        "version": version,
        "roles": [{ "role": "purchaser", "tools": tools }],
    })
}

fn signed(all: &Installation, catalogue: &Value) -> Value {
    let half = all.secco.authority.catalogue_sign(&chief(), catalogue).unwrap();
    all.bank.authority.catalogue_sign(&chief(), &half).unwrap()
}

fn in_days(days: i64) -> String {
    clock::now().plus_ms(days * 86_400_000).rfc3339()
}

#[test]
fn a_catalogue_is_installed_in_its_time_alone_and_tells_what_it_changes() {
    let all = installation();
    let bank = &all.bank.authority;
    let install = |catalogue: &Value| bank.catalogue_install(&chief(), catalogue);
    let dated = |version, from: Option<i64>, until: Option<i64>| {
        let mut catalogue = bare(version, &["list_accounts"]);
        for (member, days) in [("valid_from", from), ("valid_until", until)] {
            if let Some(days) = days {
                catalogue[member] = json!(in_days(days));
            }
        }
        signed(&all, &catalogue)
    };
    assert_eq!(name_of(install(&dated(1, Some(1), None))), "catalogue_not_yet_valid");
    assert_eq!(name_of(install(&dated(2, None, Some(-1)))), "catalogue_ended");
    let first = install(&dated(3, Some(-1), Some(1))).unwrap();
    assert_eq!((&first["version"], &first["changes"]), (&json!(3), &Value::Null));
    assert!(bank.catalogue().unwrap().valid_until().is_some());

    let next = signed(&all, &bare(4, &["get_account_balance"]));
    let told = json!([{
        "role": "purchaser", "change": "changed",
        "tools_added": ["get_account_balance"], "tools_removed": ["list_accounts"],
    }]);
    assert_eq!(install(&next).unwrap()["changes"], told);
    // Said again it is the same, and what was before is still known.
    assert_eq!(install(&next).unwrap()["changes"], json!([]));
    let before: Value = serde_json::from_str(&all.bank.file("certs/catalogue-before.json")).unwrap();
    assert_eq!(before["catalogue"]["version"], 3);
}

#[test]
fn a_catalogue_in_force_outlives_its_signers_certificates_and_their_keys() {
    let all = installation();
    let bank = &all.bank.authority;
    let whole = signed(&all, &bare(1, &["list_accounts"]));
    bank.catalogue_install(&chief(), &whole).unwrap();

    // The signers' certificates live 90 days, their issuing CAs five years.
    let (bank_side, company_side) = bank.sides().unwrap();
    let roots = (&bank_side.root, &company_side.root);
    let read = SignedCatalogue::read(&whole).unwrap();
    let base = &bank.base;
    for (days, to_install) in
        [(0, None), (89, None), (91, Some("catalogue_signer_expired")), (3_000, Some("catalogue_signer_expired"))]
    {
        let at = clock::now().plus_ms(days * 86_400_000);
        let refused = verify(&read, roots.0, roots.1, base, at).err().map(|refusal| refusal.name());
        assert_eq!(refused, to_install, "{days}");
        assert!(verify_in_force(&read, roots.0, roots.1, base, at).is_ok(), "{days}: what is in force stays in force");
    }
    // Before its signers had their certificates it is nobody's word, in force or not.
    let before = clock::now().plus_ms(-86_400_000);
    assert!(verify_in_force(&read, roots.0, roots.1, base, before).is_err());
    // Its own end counts, whoever signed it.
    let mut dated = bare(2, &["list_accounts"]);
    dated["valid_until"] = json!(in_days(100));
    let dated = SignedCatalogue::read(&signed(&all, &dated)).unwrap();
    for (days, expected) in [(99, None), (101, Some("catalogue_ended"))] {
        let at = clock::now().plus_ms(days * 86_400_000);
        let refused = verify_in_force(&dated, roots.0, roots.1, base, at).err().map(|refusal| refusal.name());
        assert_eq!(refused, expected, "{days}");
    }

    // Keys that are rotated, and a next issuing CA, change nothing for it either.
    bank.key_rotate(&chief(), Purpose::Catalogue, || Ok(())).unwrap();
    bank.key_rotate(&chief(), Purpose::Issuing, || Ok(())).unwrap();
    bank.issuing_use(&chief(), || Ok(())).unwrap();
    assert_eq!(bank.catalogue().unwrap().version(), 1);
    let next = signed(&all, &bare(3, &["list_accounts"]));
    assert_eq!(bank.catalogue_install(&chief(), &next).unwrap()["changed"], true);
}
