//! Revocation lists of other parties, for us.

use serde_json::{Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority, OFFICER};
use crate::ca::files;
use crate::ca::issue::OwnCa;
use crate::ca::settings::PartyKind;
use crate::kernel::command::{Act, Actor, Effect};
use crate::kernel::credential::crl;
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::types::Sha256;
use crate::ops::clock;
use crate::ops::failure::Failure;

impl Authority {
    /// Takes another party's list over: from now on its serial numbers are revoked here, and its next update is
    /// what freshness is measured by. An older list than the one in force is refused.
    ///
    /// Answers `{issuer, number, this_update, next_update, revoked, changed}`.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, the names of [`crl::CrlRefusal`], `stale_crl`.
    pub fn crl_import(&self, actor: &Actor, crl_pem: &str) -> Result<Value, Failure> {
        let about = json!({ "crl_sha256": Sha256::of(&[crl_pem.as_bytes()]) });
        self.refusal_recorded(actor, "crl_import", &about, || {
            self.permit(actor, &[OFFICER, ADMINISTRATOR])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            let crl_refused = |refusal: crl::CrlRefusal| {
                Failure::refused(
                    refusal.name(),
                    refusal.to_string(),
                    "get a fresh list with `countersign crl export` at the other party",
                )
            };
            let der = pem::decode_one(Kind::Crl, crl_pem).map_err(|_| crl_refused(crl::CrlRefusal::Malformed))?;
            let issuer = self.issuer_of_crl(&der)?.ok_or_else(|| crl_refused(crl::CrlRefusal::IssuerMismatch))?;
            let verified = crl::verify(&der, &issuer, clock::now()).map_err(crl_refused)?;
            let effect = self.apply(
                actor,
                Act::ImportCrl {
                    issuer: verified.issuer().to_owned(),
                    number: verified.number(),
                    this_update: verified.this_update(),
                    next_update: verified.next_update(),
                    serials: verified.serials().iter().cloned().collect(),
                },
            )?;
            let acted = self.status_changed();
            let path = self.state.certs().join(format!("crl/{}.crl", verified.issuer()));
            files::write_durable(&path, pem::encode(Kind::Crl, &der).as_bytes())?;
            Ok(json!({
                "issuer": verified.issuer(),
                "number": verified.number(),
                "this_update": verified.this_update().rfc3339(),
                "next_update": verified.next_update().rfc3339(),
                "revoked": verified.serials().len(),
                "changed": !matches!(effect, Effect::Done { changed: false }),
                "effective": acted.is_ok(),
                "connections_cut": acted.map(|acted| acted.connections_cut).unwrap_or_default(),
            }))
        })
    }

    /// The key identifiers of the other parties' issuing CAs.
    ///
    /// # Errors
    /// The file system's, `anchor_invalid`.
    pub fn other_issuers(&self) -> Result<Vec<String>, Failure> {
        let issuing = self.known_anchors()?.into_values().flat_map(|anchors| anchors.issuing);
        issuing.map(|der| Ok(OwnCa::of(&der)?.identifier)).collect()
    }

    /// The issuing CA among the other parties' whose key identifier the list names.
    fn issuer_of_crl(&self, der: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let Some(claimed) = crl::claimed_issuer(der) else {
            return Ok(None);
        };
        let issuing = self.known_anchors()?.into_values().flat_map(|anchors| anchors.issuing);
        let mut fitting =
            issuing.filter(|issuing| OwnCa::of(issuing).is_ok_and(|authority| authority.identifier == claimed));
        Ok(fitting.next())
    }
}
