//! Every way a module, a device or a network in front of it goes wrong: real SoftHSM2 behind the fault-injecting shim.
//!
//! What holds in all of them: callers get a signature that verifies or a fault with a name, never a refusal that
//! blames them; a PIN that was refused is not shown again; nothing but the bytes of an entry is ever signed for it;
//! and when the fault is over, signing works again without anyone starting anything.

mod complaints;
mod named;
mod shim_itself;
mod table;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::hsm::{HsmFault, KeyInfo, Token};
use countersign::kernel::sign::{DocumentTag, Purpose, SignInput, signature_is_valid};
use countersign::kernel::types::Sha256;

use crate::support::shim::{self, Control};
use crate::support::token::RealToken;

/// "For ever", for a healing that takes up to two seconds and a machine that is busy.
const FOR_EVER: Duration = Duration::from_secs(180);

/// A token behind the shim with a transaction key, and the journal of entries it is asked to sign.
struct Bank {
    token: RealToken,
    control: Control,
    key: KeyInfo,
}

impl Bank {
    fn running() -> Self {
        Self::running_with(|_| {})
    }

    /// One worker unless told otherwise: a fault then has no other worker to hide behind.
    fn running_with(change: impl FnOnce(&mut RealToken)) -> Self {
        let (mut token, control) = shim::provisioned("bank");
        token.settings.workers = 1;
        change(&mut token);
        token.start().expect("the workers start");
        let key = token.token().generate("bank", Purpose::Transaction, None).expect("a key is made");
        Self { token, control, key }
    }

    fn pool(&self) -> Arc<dyn Token> {
        self.token.token()
    }

    /// Has an entry signed, and checks what comes back.
    fn sign(&self, entry: u32) -> Result<Vec<u8>, HsmFault> {
        let input = input(entry);
        let outcome = self.pool().sign(self.key.id, input.clone());
        match &outcome {
            Ok(signature) => assert!(signature_is_valid(&self.key.spki, &input.message(), signature), "{entry}"),
            Err(fault) => assert!(
                !matches!(fault, HsmFault::Refused { .. }),
                "a fault of the module is not the caller's: {fault}"
            ),
        }
        outcome
    }

    /// Asks until the entry is signed. Whatever is answered until then is an unavailability by name.
    fn sign_at_last(&self, entry: u32) -> Vec<HsmFault> {
        let (began, mut faults) = (Instant::now(), Vec::new());
        loop {
            match self.sign(entry) {
                Ok(_) => return faults,
                Err(fault) => faults.push(fault),
            }
            let last = faults.last().expect("just pushed");
            assert!(matches!(last, HsmFault::Unavailable { .. } | HsmFault::Busy), "{last}");
            assert!(began.elapsed() < FOR_EVER, "the HSM is back and nothing is signed: {last}");
            crate::support::before_another_look();
        }
    }

    /// What was signed with the transaction key are these entries' bytes, each as often as it was needed, and the
    /// self-tests of keys that were looked up: never a second byte string for an entry.
    fn only_signed(&self, entries: std::ops::Range<u32>) {
        let expected: BTreeSet<String> = entries.map(|entry| digest(&input(entry))).collect();
        let noted = self.control.signatures();
        let of_key = noted.iter().filter(|signed| signed.key == self.key.id.hex());
        let signed: BTreeSet<String> = of_key.map(|signed| signed.data.clone()).collect();
        let missing: Vec<&String> = expected.difference(&signed).collect();
        assert!(missing.is_empty(), "never signed: {missing:?}");
        let others = signed.difference(&expected).count();
        // Every self-test comes after a look into the token, and no entry needs one.
        let looks = self.control.calls("C_FindObjectsInit");
        assert!(others as u64 <= looks, "{others} unknown byte strings signed, {looks} looks into the token");
    }
}

/// The journalled bytes of an entry.
fn input(entry: u32) -> SignInput {
    let canonical_json = format!(r#"{{"entry":"{entry}"}}"#).into_bytes();
    SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json }
}

/// As the journal shows it: the SHA-256 of what C_Sign gets, which for P-256 is the digest of the message.
fn digest(input: &SignInput) -> String {
    Sha256::of(&[&Sha256::of(&[&input.message()]).0]).hex()
}

fn name(fault: &HsmFault) -> String {
    fault.name().to_owned()
}
