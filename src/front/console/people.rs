//! People: who is enrolled, who is invited, who is signed in; and one's own session.

use http::StatusCode;
use maud::html;
use serde::Deserialize;
use serde_json::json;
use webauthn_rs::prelude::{PublicKeyCredential, RegisterPublicKeyCredential};

use super::layout::{self, cell, id, state, time};
use super::web::{self, Answer, Fields};
use super::{Console, Who};
use crate::ca::{INVITATION_HOURS_MAX, InvitationWish};
use crate::front::admin::AdminCall;
use crate::kernel::types::UnixMillis;
use crate::ops::failure::Failure;

const ADMINISTRATOR: &str = "administrator";
/// How long an invitation stands unless somebody says otherwise.
const HOURS: u32 = 24;

/// Bodies of the ceremonies.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    pub token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Registered {
    pub ceremony: String,
    pub credential: RegisterPublicKeyCredential,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signed {
    pub ceremony: String,
    pub credential: PublicKeyCredential,
}

impl Console {
    pub(super) fn people(&self, who: &Who) -> Result<Answer, Failure> {
        let authority = &self.services.setup.authority;
        let enrolled = self.call(who, AdminCall::OperatorList {})?;
        let invited = authority.invitation_list()?;
        let sessions = self.services.sessions.list();
        let administers = who.has(ADMINISTRATOR);
        let body = html! {
            h2 { "Enrolled" }
            (layout::table("Enrolled people", &["Name", "Roles", "Customer", "Key in", "Key"], &layout::items(&enrolled).iter().map(|one| vec![
                cell(&one["name"]), cell(&one["roles"]), cell(&one["owner"]),
                html! { @if one["token_serial"] == "passkey" { "a passkey" } @else { "token " (cell(&one["token_serial"])) } },
                id(&one["key"]),
            ]).collect::<Vec<_>>(), "Nobody is enrolled."))
            h2 { "Invited" }
            (layout::table("Invitations", &["Name", "Roles", "Customer", "By", "Until", "State", ""], &layout::items(&invited).iter().map(|one| vec![
                cell(&one["name"]), cell(&one["roles"]), cell(&one["owner"]), cell(&one["by"]), time(&one["expires"]),
                state(if one["waits_for_a_second_person"] == true { "waits for a second administrator" } else { "open" }),
                html! { @if administers {
                    @let place = one["id"].as_str().unwrap_or_default();
                    @if one["waits_for_a_second_person"] == true {
                        form method="post" action={ "/people/" (place) "/confirm" } data-signed { (layout::token(who)) button.quiet type="submit" { "Confirm" } }
                    }
                    form method="post" action={ "/people/" (place) "/withdraw" } data-signed { (layout::token(who)) button.quiet type="submit" { "Withdraw" } }
                } },
            ]).collect::<Vec<_>>(), "No invitation is open."))
            @if administers {
                h2 { "Invite somebody" }
                form.card method="post" action="/people/invite" data-signed {
                    (layout::token(who))
                    div.fields {
                        label { "Name" input name="name" required autocomplete="off" pattern="[a-z0-9][a-z0-9-]*"; }
                        label { "Customer (with the role owner)" input name="owner" autocomplete="off"; }
                        label { "Hours that it stands" input name="hours" type="number" min="1" max=(INVITATION_HOURS_MAX) value=(HOURS); }
                    }
                    (layout::role_choices())
                    div.actions { button type="submit" { "Invite with my passkey" } }
                    p.muted { "Whoever had a key here before needs a second administrator’s word." }
                }
            }
            h2 { "Signed in" }
            (layout::table("Sessions", &["Name", "Since", "Idle for", ""], &sessions.as_array().into_iter().flatten().map(|one| vec![
                cell(&one["person"]), time(&one["began"]), html! { (cell(&one["idle_s"])) " s" },
                html! { @if administers { form method="post" action={ "/people/" (one["person"].as_str().unwrap_or_default()) "/sign-out" } data-signed {
                    (layout::token(who)) button.quiet type="submit" { "Sign out" } } } },
            ]).collect::<Vec<_>>(), "Nobody is."))
        };
        Ok(web::page(StatusCode::OK, self.page(who, "People", "/people", &body)))
    }

    /// Signed acts about people.
    pub(super) fn people_act(&self, who: &Who, words: &[&str], fields: &Fields) -> Result<(String, String), Failure> {
        let authority = &self.services.setup.authority;
        let actor = who.actor();
        let here = "/people".to_owned();
        let said = match words {
            [_, "invite"] => {
                let name = fields.typed("name")?.ok_or_else(|| fields.needed("name").err().unwrap_or_else(nobody))?;
                let wish = InvitationWish {
                    name,
                    roles: fields.all("role"),
                    owner: fields.typed("owner")?,
                    hours: fields.parsed("hours")?.unwrap_or(HOURS),
                };
                let made = authority.invite(&actor, &wish)?;
                let link = self.services.invitation_link(made["token"].as_str().unwrap_or_default());
                let second =
                    if made["is_again"] == true { " A second administrator has to confirm it first." } else { "" };
                format!("Give this link to {}; it works once and is not shown again: {link}{second}", wish.name)
            }
            [_, one, "confirm"] => {
                let done = authority.invitation_confirm(&actor, one)?;
                format!("The invitation of {} is open.", done["name"].as_str().unwrap_or_default())
            }
            [_, one, "withdraw"] => {
                let done = authority.invitation_withdraw(&actor, one)?;
                format!("The invitation of {} is withdrawn.", done["name"].as_str().unwrap_or_default())
            }
            [_, name, "sign-out"] => {
                let name = name.parse().map_err(|_| nobody())?;
                let ended =
                    authority.sessions_ended(&actor, Some(&name), || self.services.sessions.end_of(Some(&name)))?;
                format!("{} sessions of {name} have ended.", ended["ended"])
            }
            _ => return Err(Failure::usage("unknown_page", "there is no such form", "reload the page")),
        };
        Ok((said, here))
    }

    /// One's own session and key.
    pub(super) fn session_page(&self, who: &Who) -> Result<Answer, Failure> {
        let standing = self.services.setup.authority.standing(
            &who.session.person,
            &self.services.live.current(),
            crate::ops::clock::now(),
        )?;
        let body = html! {
            section.card { (layout::facts(&[
                ("Name", cell(&json!(who.principal.name))), ("Roles", cell(&json!(who.principal.roles))),
                ("Customer", cell(&json!(who.principal.owner))), ("Your key", id(&json!(standing.key))),
                ("Its certificate ends", time(&json!(UnixMillis(standing.not_after.0).rfc3339()))),
                ("Signed in since", time(&json!(who.session.began.rfc3339()))),
                ("The session ends within", html! { (who.session.left_s() / 60) " min, or after 15 min without a request" }),
            ])) }
            form method="post" action="/session/end-all" { (layout::token(who)) button.bad type="submit" { "Sign out everywhere" } }
            p { "A lost passkey: have an officer revoke its key; then two administrators invite you again." }
        };
        Ok(web::page(StatusCode::OK, self.page(who, "Your session", "", &body)))
    }
}

fn nobody() -> Failure {
    Failure::usage("field_missing", "name is empty", "say who")
}
