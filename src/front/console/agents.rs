//! Agents: the pair of certificates, what each may do and has done today, and what stops one: freeze, and revocation.
//!
//! What stops an agent needs no passkey, so that nobody waits with it; a revocation is for ever, and wants the agent's name
//! typed. What lets one go on is signed.

use std::collections::BTreeMap;

use http::StatusCode;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::approvals::pair;
use super::desk::{no_such, table_of};
use super::layout::{self, cell, id, state, text, time};
use super::web::{self, Answer, Fields};
use super::{Console, Who};
use crate::ca::{Named, RevokeMode, RevokeRequest, described};
use crate::front::admin::AdminCall;
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::decide::Counter;
use crate::kernel::types::{AgentName, Money, SpiffeId};
use crate::kernel::zone::Zone;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::payment::DeskCall;
use crate::store::{CertificateLine, CertificatesOf, TransactionQuery};

/// Certificates of one page of agents.
const PAGE: u32 = 1_000;

impl Console {
    pub(super) fn agents(&self, who: &Who) -> Result<Answer, Failure> {
        let store = &self.services.setup.store;
        let lines = store.certificate_lines(&CertificatesOf::Agents, clock::now(), None, PAGE)?;
        let mut newest: BTreeMap<String, CertificateLine> = BTreeMap::new();
        for line in lines {
            let subject = line.subject.clone();
            if newest.get(&subject).is_none_or(|other| other.not_after < line.not_after) {
                newest.insert(subject, line);
            }
        }
        let rows: Vec<Vec<Markup>> = newest
            .values()
            .filter_map(|line| line.subject.parse::<SpiffeId>().ok().map(|agent| (agent, line)))
            .map(|(agent, line)| {
                vec![
                    html! { a href={ "/agents/" (agent.name()) } { (agent.name()) } },
                    html! { (agent.role()) },
                    state(self.standing_of(&agent, line)),
                    time(&json!(line.not_after.rfc3339())),
                    id(&json!(line.key)),
                ]
            })
            .collect();
        let body = html! {
            p { (self.services.connections.count()) " connections of agents are open at this daemon." }
            (layout::table("Agents", &["Agent", "Role", "State", "Certificate ends", "Key"], &rows, "No agent has a certificate that is valid now."))
        };
        Ok(web::page(StatusCode::OK, self.page(who, "Agents", "/agents", &body)))
    }

    fn standing_of(&self, agent: &SpiffeId, line: &CertificateLine) -> &'static str {
        let status = self.services.live.current();
        let is_revoked = status.revokes(agent)
            || status.keys.contains(&line.key)
            || status.certificates.contains(&(line.issuer.clone(), line.serial.clone()));
        if is_revoked {
            "revoked"
        } else if status.freezes(agent) {
            "frozen"
        } else {
            "valid"
        }
    }

    pub(super) fn agent(&self, who: &Who, name: &str) -> Result<Answer, Failure> {
        let name: AgentName = name.parse().map_err(|_| no_such("agent"))?;
        let store = &self.services.setup.store;
        let of = CertificatesOf::AgentNamed(name.clone());
        let lines = store.certificate_lines(&of, clock::now(), None, PAGE)?;
        let newest = lines.into_iter().max_by_key(|line| line.not_after).ok_or_else(|| no_such("agent"))?;
        let agent: SpiffeId = newest.subject.parse().map_err(|_| no_such("agent"))?;
        let last = store.transactions(&TransactionQuery {
            agent: Some(agent.clone()),
            limit: 1,
            ..TransactionQuery::default()
        })?;
        let company = last.first().and_then(|record| record.transaction.agent()).filter(|seen| seen.key == newest.key);
        let company = company.map(|seen| seen.company_serial.to_string());
        let standing = self.standing_of(&agent, &newest);
        let certificate = self.call(who, AdminCall::CertShow { name: name.clone() });
        let custody = certificate.as_ref().ok().map_or("unknown", |shown| custody_of(shown));
        let grants = store.grants_of(&agent)?;
        let list =
            DeskCall::TransactionList { account: None, agent: Some(name.clone()), state: None, after: None, limit: 10 };
        let transactions = self.call(who, AdminCall::Desk(list));
        let body = html! {
            section.card aria-labelledby="pair" {
                h2 #pair { "The certificate pair" }
                p { (text(&agent.to_string())) " " (state(standing)) }
                (pair(&newest.key.to_string(), company.as_deref(), Some(&newest.serial.to_string())))
                (layout::facts(&[
                    ("Role", html! { (agent.role()) }), ("Custody", text(custody)),
                    ("B ends", time(&json!(newest.not_after.rfc3339()))),
                ]))
                @if company.is_none() { p.muted { "The serial number of S is known here once the agent has made a call with this pair." } }
            }
            div.two {
                section.card aria-labelledby="limits" { h2 #limits { "Limits used today" } (self.limits(&agent)?) }
                section.card aria-labelledby="risk" { h2 #risk { "Risk" } (self.scores(who, &agent)) }
            }
            h2 { "Grants" }
            (layout::table("Grants", &["Account", "Owner", "Verbs", "At most at once", "Until", "Entered by"], &grants.iter().map(|grant| vec![
                cell(&json!(grant.account)), cell(&json!(grant.owner)), cell(&json!(grant.verbs)),
                cell(&json!(grant.per_transaction_max.map(|max| format!("{} {}", max.decimal(), max.currency())))),
                time(&json!(grant.expires.rfc3339())), text(&grant.entered_by),
            ]).collect::<Vec<_>>(), "No account is granted to it."))
            h2 { "Its last transactions" }
            @match &transactions { Ok(found) => (table_of(layout::items(found), "It has asked for none.")), Err(failure) => (layout::failure(failure)) }
            (self.stops(who, &name, standing))
        };
        Ok(web::page(StatusCode::OK, self.page(who, &format!("Agent {name}"), "/agents", &body)))
    }

    /// What the agent has paid today without a person, and of how much.
    fn limits(&self, agent: &SpiffeId) -> Result<Markup, Failure> {
        let rules = self.services.payments()?.rules();
        let of = rules.unattended_per_day;
        // Days of an agent are UTC's: its accounts may live anywhere.
        let today = Zone::UTC.day(clock::now());
        let spent = self.services.setup.store.spent(&Counter::Agent(agent.clone()), today)?;
        let shown = |minor| {
            let amount = Money::from_minor(minor, of.currency());
            layout::money(&json!(amount.decimal()), &json!(of.currency()))
        };
        Ok(html! {
            (layout::facts(&[
                ("Paid unattended today", shown(spent)), ("Of a day’s", shown(of.minor())),
                ("At most at once", layout::money(&json!(rules.unattended_per_transaction.decimal()), &json!(of.currency()))),
            ]))
            progress max=(of.minor().max(1)) value=(spent.clamp(0, of.minor().max(1))) aria-label="Share of the day’s limit that is used" {}
            p.muted { "Above these a person is asked; the ceiling is the policy’s." }
        })
    }

    fn scores(&self, who: &Who, agent: &SpiffeId) -> Markup {
        match self.call(who, AdminCall::MonitorShow { agent: agent.to_string(), limit: 5 }) {
            Ok(shown) => layout::table(
                "Last scores",
                &["At", "Tool", "Score", "Why"],
                &layout::items(&shown)
                    .iter()
                    .map(|one| {
                        let why = one["reasons"].as_array().into_iter().flatten().map(|reason| reason["said"].clone());
                        vec![time(&one["at"]), cell(&one["tool"]), cell(&one["score"]), cell(&why.collect::<Value>())]
                    })
                    .collect::<Vec<_>>(),
                "None of its calls was scored.",
            ),
            Err(failure) => html! { p.muted { (failure.message) "." } },
        }
    }

    fn stops(&self, who: &Who, name: &AgentName, standing: &str) -> Markup {
        html! {
            @if !who.has("officer") { p.muted { "Officers freeze and revoke agents." } } @else {
                @if standing == "frozen" {
                    h2 { "Frozen" }
                    form.card method="post" action={ "/agents/" (name) "/unfreeze" } data-signed {
                        (layout::token(who))
                        div.fields { label { "Why it may go on" input name="note" required maxlength="500"; } button type="submit" { "Ask to unfreeze, with my passkey" } }
                        p.muted { "It takes two people." }
                    }
                }
                @if standing != "revoked" {
                    h2 { "Stop it" }
                    div.two {
                        @if standing != "frozen" { form.card method="post" action={ "/agents/" (name) "/freeze" } {
                            (layout::token(who))
                            h3 { "Freeze" } p { "Refuses everything at once. Nothing is lost; two people lift it." }
                            label { "Why" input name="reason" required maxlength="500"; }
                            div.actions { button type="submit" { "Freeze" } }
                        } }
                        form.card method="post" action={ "/agents/" (name) "/revoke" } {
                            (layout::token(who))
                            h3 { "Emergency revocation" } p { "For ever: its certificates, its open authorizations, its connections. There is no way back." }
                            label { "Why" select name="reason" { option { "key_compromise" } option { "cessation_of_operation" } option { "privilege_withdrawn" } } }
                            label { "Type " (name) " to confirm" input name="confirm" required autocomplete="off"; }
                            div.actions { button.bad type="submit" { "Revoke now" } }
                        }
                    }
                }
            }
        }
    }

    /// What stops an agent, at once. A revocation tells both its milliseconds.
    pub(super) fn stop_agent(&self, who: &Who, name: &str, verb: &str, fields: &Fields) -> Result<Answer, Failure> {
        let agent: AgentName = name.parse().map_err(|_| no_such("agent"))?;
        let done = match verb {
            "freeze" => {
                let reason = fields.needed("reason")?.to_owned();
                let call = AdminCall::Freeze { agent: Some(agent.to_string()), reason, mode: RevokeMode::Effective };
                self.call(who, call)?
            }
            "revoke" => {
                if fields.needed("confirm")? != agent.as_str() {
                    return Err(Failure::usage(
                        "confirmation_differs",
                        format!("what was typed is not {agent}"),
                        "go back and type the agent’s name as it stands there",
                    ));
                }
                let reason = fields.needed("reason")?.to_owned();
                let named = Named::Text(agent.to_string());
                self.call(
                    who,
                    AdminCall::Revoke(RevokeRequest { named, reason, mode: RevokeMode::Effective, after: None }),
                )?
            }
            _ => return Err(no_such("form")),
        };
        let title = if verb == "revoke" { "Revoked" } else { "Frozen" };
        let body = html! {
            div.cards {
                div.figure { span.muted { "Recorded after" } span.value #recorded { (cell(&done["recorded_ms"])) " ms" } span.muted { "durable here" } }
                div.figure { span.muted { "Effective after" } span.value #effective { (cell(&done["effective_ms"])) " ms" } span.muted { "nothing is served any more, anywhere" } }
                div.figure { span.muted { "Authorizations voided" } span.value { (cell(&done["authorizations_voided"])) } }
                div.figure { span.muted { "Connections cut" } span.value { (cell(&done["connections_cut"])) } }
            }
            @if done["effective"] == false || done["pending"].as_object().is_some_and(|pending| !pending.is_empty()) {
                p.notice.bad role="alert" { "It is recorded, and not yet acknowledged everywhere: repeat it to see." }
            }
            details { summary { "The whole answer" } pre { (super::desk::pretty(&done)) } }
            p { a.button href={ "/agents/" (agent) } { "Back to the agent" } }
        };
        Ok(web::page(StatusCode::OK, self.page(who, &format!("{title}: {agent}"), "/agents", &body)))
    }

    /// Signed acts about agents.
    pub(super) fn agent_act(&self, who: &Who, words: &[&str], fields: &Fields) -> Result<(String, String), Failure> {
        let [_, name, "unfreeze"] = words else { return Err(no_such("form")) };
        let agent: AgentName = name.parse().map_err(|_| no_such("agent"))?;
        let note = fields.needed("note")?.to_owned();
        let call = AdminCall::Unfreeze { agent: Some(agent.to_string()), note, mode: RevokeMode::Effective };
        let done = self.call(who, call)?;
        let said = if done["lifted"] == false {
            "Recorded. Another person must ask for it, too."
        } else {
            "The agent may go on."
        };
        Ok((said.to_owned(), format!("/agents/{agent}")))
    }
}

/// What the policy of the newest certificate says of its key's custody.
fn custody_of(shown: &Value) -> &'static str {
    let newest = shown["certificates"].as_array().into_iter().flatten().max_by_key(|one| one["not_after"].as_str());
    let pem = newest.and_then(|one| one["certificate_pem"].as_str()).unwrap_or_default();
    let der = pem::decode_all(Kind::Certificate, pem).ok().and_then(|found| found.into_iter().next());
    let said = der.map(|der| described(&der)).unwrap_or_default();
    let policies = said["policies"].as_array().into_iter().flatten();
    policies.filter_map(Value::as_str).fold("not stated", |known, policy| {
        if policy.ends_with(".1.1") {
            "observed by the bank itself"
        } else if policy.ends_with(".1.2") {
            "stated by its enrolled host"
        } else {
            known
        }
    })
}
