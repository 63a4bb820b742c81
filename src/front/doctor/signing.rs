//! The doctor's look at the signing service: whether every key that is configured can sign.

use serde_json::Value;

use super::{fail, ok, warn};
use crate::front::services::Services;
use crate::hsm::client::HsmState;
use crate::hsm::{KeyInfo, KeyState};
use crate::kernel::external::ExternalKind;
use crate::kernel::sign::Purpose;
use crate::signing::settings::SigningKeySettings;

const CHECK: &str = "signing service";

pub fn check(services: &Services, items: &mut Vec<Value>) {
    let settings = &services.setup.settings.signing;
    if settings.is_on() && matches!(services.setup.hsm.health().state, HsmState::Down | HsmState::Probing) {
        let said =
            format!("{} keys sign nothing: the HSM is away, and callers are told hsm_unavailable", settings.key.len());
        return items.push(warn(CHECK, said, "bring the token back; the service goes on by itself"));
    }
    let keys = match services.token().keys() {
        Ok(keys) => keys,
        Err(fault) => return items.push(fail(CHECK, fault.to_string(), "see the HSM's own lines")),
    };
    let own: Vec<&KeyInfo> = keys.iter().filter(|key| key.purpose == Purpose::External).collect();
    if !settings.is_on() {
        let active = own.iter().filter(|key| key.state == KeyState::Active).count();
        if active > 0 {
            let said = format!("off, and the token has {active} active keys that sign for nobody");
            items.push(warn(CHECK, said, "name them as [[signing.key]], or `countersign key retire` them"));
        }
        return;
    }
    items.extend(settings.key.iter().map(|key| of_key(key, &own)));
}

fn of_key(key: &SigningKeySettings, own: &[&KeyInfo]) -> Value {
    let versions = own.iter().filter(|one| one.agent.as_deref() == Some(key.name.as_str()));
    let newest = versions.filter(|one| one.state == KeyState::Active).max_by_key(|one| one.version);
    let Some(newest) = newest else {
        return warn(
            CHECK,
            format!("the token has no active key {}: whoever asks is told key_missing", key.name),
            &format!("countersign key generate --purpose external --name {}", key.name),
        );
    };
    let kinds: Vec<&str> = key.kinds.iter().map(|kind| kind.slug()).collect();
    let said = format!("{} signs {} for {}", newest.label, kinds.join(", "), key.callers.join(", "));
    if key.callers.is_empty() {
        return warn(CHECK, format!("{} signs for nobody", newest.label), "name its callers");
    }
    if key.kinds.contains(&ExternalKind::Raw) {
        let said = format!("{said}: nobody can tell from such a signature what it is for");
        return warn(CHECK, said, "let the caller use another kind if it can");
    }
    ok(CHECK, said)
}
