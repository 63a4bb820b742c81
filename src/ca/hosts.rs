//! The agent hosts that this party has enrolled, and how one is believed no more.

use serde_json::{Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority};
use crate::ca::files;
use crate::ca::settings::PartyKind;
use crate::kernel::command::Actor;
use crate::kernel::credential::custody::EnrolledHost;
use crate::ops::failure::Failure;

impl Authority {
    /// Enrolled agent hosts: `{items: [{party, host_key, token_serial}], next: null}`.
    ///
    /// # Errors
    /// `not_this_party`; the file system's.
    pub fn host_list(&self, _actor: &Actor) -> Result<Value, Failure> {
        self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
        let mut hosts = self.enrolled_hosts()?;
        hosts.sort_by(|one, other| (&one.party, one.host_key).cmp(&(&other.party, other.host_key)));
        let items: Vec<Value> = hosts.iter().map(shown).collect();
        Ok(json!({ "items": items, "next": null }))
    }

    /// Believes an agent host's custody statements no more: its agents get no certificate any more, a renewal neither. What
    /// was issued stays. Whoever enrols the host again, in person, takes it back.
    ///
    /// Answers `{party, host_key, token_serial}`.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `host_unknown`, `target_ambiguous`, `issuance_in_progress`; the file
    /// system's.
    pub fn host_remove(&self, actor: &Actor, named: &str) -> Result<Value, Failure> {
        self.recorded(actor, "host_remove", &json!({ "host": named }), || {
            self.permit(actor, &[ADMINISTRATOR])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            // Whoever has looked at its statement already comes to an end first.
            let _issuing = self.begin_issuing()?;
            let mut found = self.enrolled_hosts()?;
            found.retain(|host| host.party == named || host.host_key.to_string() == named);
            let see = "see `countersign host list`";
            let host = match found.as_slice() {
                [host] => host,
                [] => return Err(Failure::refused("host_unknown", format!("no host {named} is enrolled here"), see)),
                [_, _, ..] => {
                    let message = format!("{} hosts are enrolled under the name {named}", found.len());
                    return Err(Failure::refused("target_ambiguous", message, "name the host by its key: `host list`"));
                }
            };
            files::remove_durable(&self.state.anchors().join(format!("host-{}.json", host.host_key)))?;
            Ok(shown(host))
        })
    }
}

fn shown(host: &EnrolledHost) -> Value {
    json!({ "party": host.party, "host_key": host.host_key, "token_serial": host.token_serial })
}
