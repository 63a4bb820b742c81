//! The role catalogue: each party adds its signature, the bank puts it in force.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority, OFFICER};
use crate::ca::files;
use crate::ca::settings::PartyKind;
use crate::kernel::catalogue::{self, CatalogueRefusal, CatalogueSignature, SignedCatalogue, VerifiedCatalogue};
use crate::kernel::command::Actor;
use crate::kernel::sign::Purpose;
use crate::ops::clock;
use crate::ops::failure::Failure;

/// The catalogue in force, with both signatures.
const IN_FORCE: &str = "catalogue.json";
/// The one that was in force before it.
const BEFORE: &str = "catalogue-before.json";
/// The newest catalogue that this party signed.
const SIGNED_HERE: &str = "catalogue-signed.json";

impl Authority {
    /// Adds this party's signature to a catalogue, bare or signed by the other party already. Answers the signed
    /// catalogue. Never signs an older version than before, nor another content under the same version.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `catalogue_malformed`, `catalogue_inconsistent`,
    /// `catalogue_older`, the token's.
    pub fn catalogue_sign(&self, actor: &Actor, catalogue: &Value) -> Result<Value, Failure> {
        self.recorded(actor, "catalogue_sign", catalogue, || {
            self.permit(actor, &[OFFICER])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            let mut signed = read(catalogue)?;
            let input = signed.catalogue.sign_input().map_err(refused)?;
            if let Some(before) = self.catalogue_file(SIGNED_HERE)? {
                not_older(&signed, &before)?;
            }
            let role = self.signing_role(Purpose::Catalogue)?;
            let signature = self.token.sign(role.key.id, input)?;
            let party = self.party.to_string();
            signed.signatures.retain(|earlier| earlier.party != party);
            signed.signatures.push(CatalogueSignature {
                party,
                signature: BASE64_STANDARD.encode(signature),
                chain: role.chain.iter().map(|der| BASE64_STANDARD.encode(der)).collect(),
            });
            let answer = json!(signed);
            files::write_json(&self.state.certs().join(SIGNED_HERE), &answer)?;
            Ok(answer)
        })
    }

    /// Puts a catalogue in force once both parties signed it; never an older version than the one in force.
    ///
    /// Answers `{version, roles, changed, changes: [{role, change, tools_added, tools_removed}] | null}`: null when there
    /// was none before.
    ///
    /// # Errors
    /// `operator_not_permitted`, the names of [`CatalogueRefusal`], `catalogue_older`, `anchors_missing`.
    pub fn catalogue_install(&self, actor: &Actor, catalogue: &Value) -> Result<Value, Failure> {
        self.recorded(actor, "catalogue_install", catalogue, || {
            self.permit(actor, &[ADMINISTRATOR])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            let signed = read(catalogue)?;
            let verified = self.verify_catalogue(&signed)?;
            let before = self.catalogue_file(IN_FORCE)?;
            if let Some(before) = &before {
                not_older(&signed, before)?;
            }
            let changed = before.as_ref() != Some(&signed);
            let changes = before.as_ref().map(|before| signed.catalogue.changes_since(&before.catalogue));
            if changed {
                let certs = self.state.certs();
                // The one before first: cut off here, it is the one in force twice, which tells of no change.
                if let Some(before) = before.filter(|before| before.catalogue != signed.catalogue) {
                    files::write_json(&certs.join(BEFORE), &before)?;
                }
                files::write_json(&certs.join(IN_FORCE), &signed)?;
            }
            Ok(json!({
                "version": verified.version(),
                "roles": verified.role_tools(),
                "changed": changed,
                "changes": changes,
            }))
        })
    }

    /// The catalogue in force, verified anew. It stays in force when a signer's certificate ends: what both parties agreed
    /// on ends by its own `valid_until`, or when they agree on something newer.
    ///
    /// # Errors
    /// `catalogue_missing`, the names of [`CatalogueRefusal`].
    pub fn catalogue(&self) -> Result<VerifiedCatalogue, Failure> {
        let signed = self.catalogue_file(IN_FORCE)?.ok_or_else(|| {
            Failure::refused(
                "catalogue_missing",
                "no role catalogue is in force: no role may call any tool",
                "have both parties sign one with `countersign catalogue sign`, then `countersign catalogue install`",
            )
        })?;
        let (bank, company) = self.sides()?;
        catalogue::verify_in_force(&signed, &bank.root, &company.root, &self.base, clock::now()).map_err(refused)
    }

    /// Whether a role may be endorsed: it must be in the catalogue this party knows, once it knows one.
    pub(super) fn role_is_known(&self, role: &str) -> Result<(), Failure> {
        let known = match self.catalogue_file(IN_FORCE)? {
            Some(catalogue) => Some(catalogue),
            None => self.catalogue_file(SIGNED_HERE)?,
        };
        let Some(known) = known else {
            return Ok(());
        };
        if known.catalogue.roles.iter().any(|entry| entry.role.as_str() == role) {
            return Ok(());
        }
        Err(Failure::refused(
            "role_unknown",
            format!("the role catalogue has no role {role}"),
            "add the role to the catalogue, or use one of its roles",
        ))
    }

    fn verify_catalogue(&self, signed: &SignedCatalogue) -> Result<VerifiedCatalogue, Failure> {
        let (bank, company) = self.sides()?;
        catalogue::verify(signed, &bank.root, &company.root, &self.base, clock::now()).map_err(refused)
    }

    fn catalogue_file(&self, name: &str) -> Result<Option<SignedCatalogue>, Failure> {
        files::read_json(&self.state.certs().join(name), "catalogue_unreadable", "install the catalogue again")
    }
}

fn read(value: &Value) -> Result<SignedCatalogue, Failure> {
    SignedCatalogue::read(value).map_err(|error| {
        Failure::refused(
            CatalogueRefusal::Malformed.name(),
            format!("the role catalogue cannot be read: {error}"),
            "compare it with the sample in the documentation",
        )
    })
}

fn not_older(new: &SignedCatalogue, before: &SignedCatalogue) -> Result<(), Failure> {
    let newer = new.catalogue.version > before.catalogue.version;
    if newer || new.catalogue == before.catalogue {
        return Ok(());
    }
    Err(Failure::refused(
        "catalogue_older",
        format!(
            "catalogue version {} is not newer than version {} and differs from it",
            new.catalogue.version, before.catalogue.version
        ),
        "raise the version and have both parties sign it",
    ))
}

fn refused(refusal: CatalogueRefusal) -> Failure {
    let next_step = match refusal {
        CatalogueRefusal::Malformed | CatalogueRefusal::Inconsistent => "correct the catalogue",
        CatalogueRefusal::SignerUntrusted => "see `countersign trust add`, or have the right party sign",
        CatalogueRefusal::SignerExpired | CatalogueRefusal::SignatureInvalid => "have both parties sign it again",
        CatalogueRefusal::NotYetValid => "install it once its valid_from has come",
        CatalogueRefusal::Ended => "have both parties sign a newer version and install it",
        CatalogueRefusal::BankSignatureMissing => "run `countersign catalogue sign` at the bank",
        CatalogueRefusal::CompanySignatureMissing => "run `countersign catalogue sign` at the security company",
    };
    Failure::refused(refusal.name(), refusal.to_string(), next_step)
}
