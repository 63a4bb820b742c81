//! What the daemon's own parts are handed, and what is taken from them.

use std::sync::Arc;

use countersign::ops::secret::{SecretSlot, Wanted, Which};
use countersign::vault::{Feed, FeedLine, HsmReached, ROLLED_BACK, Vault};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{asked, kept, leaves, name, on_both, put_call, rotate_call, vault_of};
use crate::support::token::RealToken;

fn slot() -> SecretSlot {
    SecretSlot::vaulted(Wanted::newest("notify.mail".parse().unwrap(), name("a")))
}

fn value(slot: &SecretSlot) -> Option<String> {
    slot.value().map(|secret| secret.expose_secret().to_owned())
}

fn feed_of(vault: &Arc<Vault>, slots: &[&SecretSlot]) -> Feed {
    Feed::new(Arc::clone(vault), slots.iter().map(|slot| (*slot).clone()))
}

fn stands(line: &FeedLine) -> (Option<u64>, Option<&str>) {
    (line.version, line.failure.as_ref().map(|(name, _)| name.as_str()))
}

#[test]
fn an_older_state_that_is_put_back_is_not_taken() {
    let running = RealToken::running("bank");
    on_both(|store, sql, _| {
        let vault = Arc::new(vault_of(Arc::clone(&store), running.token(), "bank"));
        let slot = slot();
        let feed = feed_of(&vault, &[&slot]);
        asked(&vault, put_call("a", b"leaked")).unwrap();
        assert!(feed.turn(HsmReached::Yes));
        assert_eq!(value(&slot).unwrap(), "leaked");
        asked(&vault, rotate_call("a", b"the good one")).unwrap();
        assert!(feed.turn(HsmReached::Yes));
        assert_eq!(value(&slot).unwrap(), "the good one");

        sql(
            "DELETE FROM vault_versions WHERE name = 'a' AND version = 2; UPDATE vault_names SET newest = 1 WHERE name = 'a'",
        );
        assert!(feed.turn(HsmReached::Yes), "it is recorded");
        assert_eq!(value(&slot).unwrap(), "the good one");
        assert_eq!(stands(&feed.lines()[0]), (Some(2), Some(ROLLED_BACK)));
        let leaf = leaves(&*store).pop().unwrap();
        assert_eq!((&leaf["act"], &leaf["reason"]), (&json!("vault_not_opened"), &json!(ROLLED_BACK)));
        let said = &leaf["parameters"];
        assert_eq!((&said["credential"], &said["version"], &said["used"]), (&json!("a"), &json!("1"), &json!("2")));
        // Once.
        assert!(!feed.turn(HsmReached::Yes));
        assert_eq!(value(&slot).unwrap(), "the good one");
        // A new value goes on from there, though its number was given before.
        assert_eq!(asked(&vault, rotate_call("a", b"another")).unwrap(), kept("a", 2, true));
        assert!(feed.turn(HsmReached::Yes));
        assert_eq!(value(&slot).unwrap(), "another");
        assert_eq!(stands(&feed.lines()[0]), (Some(2), None));
        // Also where nothing is held any more.
        asked(&vault, countersign::vault::VaultCall::Remove { name: name("a"), version: None }).unwrap();
        feed.turn(HsmReached::Yes);
        assert_eq!(value(&slot), None);
        sql("UPDATE vault_names SET newest = 0 WHERE name = 'a'");
        assert_eq!(asked(&vault, put_call("a", b"old again")).unwrap(), kept("a", 1, true));
        feed.turn(HsmReached::Yes);
        assert_eq!((value(&slot), stands(&feed.lines()[0])), (None, (None, Some(ROLLED_BACK))));
    });
}

#[test]
fn the_version_before_is_handed_in_for_a_while_and_its_reading_is_recorded() {
    let running = RealToken::running("bank");
    on_both(|store, _, _| {
        let vault = Arc::new(vault_of(Arc::clone(&store), running.token(), "bank"));
        let before = |overlap_ms: i64| {
            let wanted = Wanted::newest("notify.mail".parse().unwrap(), name("a"));
            SecretSlot::vaulted(Wanted { which: Which::Before { overlap_ms }, ..wanted })
        };
        let (newest, beside, never) = (slot(), before(3_600_000), before(0));
        let feed = feed_of(&vault, &[&newest, &beside, &never]);
        let values = || [&newest, &beside, &never].map(value);
        asked(&vault, put_call("a", b"one")).unwrap();
        feed.turn(HsmReached::Yes);
        assert_eq!(values(), [Some("one".to_owned()), None, None]);
        assert_eq!(feed.lines().len(), 1);
        asked(&vault, rotate_call("a", b"two")).unwrap();
        let told = leaves(&*store).len();
        feed.turn(HsmReached::Yes);
        assert_eq!(values(), [Some("two".to_owned()), Some("one".to_owned()), None]);
        let read: Vec<_> = leaves(&*store)[told..]
            .iter()
            .map(|leaf| (leaf["act"].clone(), leaf["actor"]["component"].clone(), leaf["result"]["version"].clone()))
            .collect();
        let of = |version: &str| (json!("vault_get"), json!("notify.mail"), json!(version));
        assert_eq!(read, [of("1"), of("2")], "the one before first: it is never missing");
        assert_eq!(feed.lines().iter().map(stands).collect::<Vec<_>>(), [(Some(2), None), (Some(1), None)]);
        assert!(!feed.turn(HsmReached::Yes), "nothing new");
        // One that was removed is used no longer, and nobody is warned of it.
        let first = countersign::vault::VaultCall::Remove { name: name("a"), version: Some(1) };
        asked(&vault, first).unwrap();
        assert!(!feed.turn(HsmReached::Yes));
        assert_eq!(values(), [Some("two".to_owned()), None, None]);
        assert_eq!(feed.lines().iter().map(stands).collect::<Vec<_>>(), [(Some(2), None)]);
    });
}
