//! The frame that every page has, and the small parts that pages are made of.
//!
//! Whatever comes from outside is text: maud escapes it, and what cannot be seen in it (directions, invisible
//! characters) is made visible, so that nobody reads another payee than the one that is paid.

use maud::{DOCTYPE, Markup, html};
use serde_json::Value;

use super::Who;
use crate::ca::OPERATOR_ROLES;
use crate::kernel::quorum::OWNER;
use crate::kernel::text::visible;
use crate::ops::failure::Failure;

/// A place of the navigation: its path, what it is called, and who has it.
struct Place {
    path: &'static str,
    name: &'static str,
    for_owners: bool,
    for_bank: bool,
}

const PLACES: [Place; 12] = [
    Place { path: "/", name: "Live", for_owners: false, for_bank: true },
    Place { path: "/approvals", name: "Approvals", for_owners: false, for_bank: true },
    Place { path: "/consent", name: "Consent", for_owners: true, for_bank: false },
    Place { path: "/grants", name: "Agents’ access", for_owners: true, for_bank: false },
    Place { path: "/transactions", name: "Transactions", for_owners: false, for_bank: true },
    Place { path: "/manual", name: "Manual queue", for_owners: false, for_bank: true },
    Place { path: "/agents", name: "Agents", for_owners: false, for_bank: true },
    Place { path: "/audit", name: "Audit", for_owners: false, for_bank: true },
    Place { path: "/policy", name: "Policy", for_owners: false, for_bank: true },
    Place { path: "/compliance", name: "Compliance", for_owners: false, for_bank: true },
    Place { path: "/people", name: "People", for_owners: false, for_bank: true },
    Place { path: "/system", name: "System", for_owners: false, for_bank: true },
];

/// A whole page.
pub fn page(who: Option<&Who>, bank: &str, title: &str, here: &str, body: &Markup) -> Markup {
    page_with(who, bank, title, here, body, &[])
}

/// A whole page with scripts and styles of its own besides those that all have.
pub fn page_with(
    who: Option<&Who>,
    bank: &str,
    title: &str,
    here: &str,
    body: &Markup,
    more: &[&'static str],
) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · " (bank) " · Countersign" }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/console.css";
                @for style in more.iter().filter(|path| path.ends_with(".css")) { link rel="stylesheet" href=(style); }
                script src="/assets/console.js" type="module" {}
                @for script in more.iter().filter(|path| path.ends_with(".min.js")) { script src=(script) defer {} }
                @for script in more.iter().filter(|path| path.ends_with(".js") && !path.ends_with(".min.js")) {
                    script src=(script) type="module" {}
                }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    a.brand href="/" { span.mark aria-hidden="true" {} "Countersign " span.bank { (bank) } }
                    @if let Some(who) = who {
                        div.me {
                            a href="/session" { (who.principal.name) }
                            span.muted { (who.principal.roles.join(", ")) }
                            form method="post" action="/sign-out" {
                                (token(who)) button.quiet type="submit" { "Sign out" }
                            }
                        }
                    }
                }
                @if let Some(who) = who {
                    nav aria-label="Console" {
                        ul { @for place in PLACES.iter().filter(|place| is_for(place, who)) {
                            li { a href=(place.path) aria-current=[(place.path == here).then_some("page")] {
                                (place.name)
                                @if place.path == "/approvals" { span.count data-waiting hidden {} }
                            } }
                        } }
                    }
                }
                main #main tabindex="-1" {
                    h1 { (title) }
                    @if let Some(said) = who.and_then(Who::take_notice) { div.notice role="status" { (said) } }
                    (body)
                }
                footer { p.muted {
                    "Every decision here is signed and has a leaf in the audit log. What this page shows was read when it was loaded."
                } }
            }
        }
    }
}

fn is_for(place: &Place, who: &Who) -> bool {
    let is_owner = who.principal.owner.is_some();
    let is_bank = who.is_of_bank();
    (place.for_bank && is_bank) || (place.for_owners && is_owner)
}

/// The field that proves that a form is ours.
pub fn token(who: &Who) -> Markup {
    html! { input type="hidden" name="form_token" value=(who.session.form_token); }
}

/// Text from outside.
pub fn text(raw: &str) -> Markup {
    html! { bdi { (visible(raw)) } }
}

/// A JSON value as text: what is none is a dash.
pub fn cell(value: &Value) -> Markup {
    match value {
        Value::Null => html! { span.muted { "–" } },
        Value::String(raw) => text(raw),
        Value::Bool(yes) => html! { (if *yes { "yes" } else { "no" }) },
        Value::Number(number) => html! { (number) },
        Value::Array(items) => html! {
            @for (place, item) in items.iter().enumerate() { @if place > 0 { ", " } (cell(item)) }
        },
        Value::Object(_) => html! { code { (visible(&value.to_string())) } },
    }
}

/// An amount and its currency.
pub fn money(amount: &Value, currency: &Value) -> Markup {
    html! { span.money { (cell(amount)) " " span.currency { (cell(currency)) } } }
}

/// An identifier, short enough for a table and whole for whoever asks.
pub fn id(value: &Value) -> Markup {
    let whole = value.as_str().unwrap_or_default();
    html! { code.id title=(visible(whole)) { (visible(whole)) } }
}

/// A time: RFC 3339, shown in the reader's own zone by the page's script.
pub fn time(value: &Value) -> Markup {
    match value.as_str() {
        Some(at) => html! { time datetime=(at) { (at) } },
        None => html! { span.muted { "–" } },
    }
}

/// A state in words, with a colour that says the same.
pub fn state(name: &str) -> Markup {
    let tone = match name {
        "executed" | "approved" | "valid" | "active" | "ok" | "up" | "closed" | "permitted" | "released" => "good",
        "pending" | "waiting" | "taken" | "proposed" | "warn" | "degraded" | "probing" | "submitted" => "wait",
        "denied" | "revoked" | "frozen" | "voided" | "fail" | "down" | "stopped" | "refused" | "core_refused" => "bad",
        _ => "plain",
    };
    html! { span.state.(tone) { (visible(&name.replace('_', " "))) } }
}

/// Pairs of a name and a value.
pub fn facts(pairs: &[(&str, Markup)]) -> Markup {
    html! { dl.facts { @for (name, value) in pairs { div { dt { (name) } dd { (value) } } } } }
}

/// A table that is scrolled by itself on a narrow screen.
pub fn table(caption: &str, head: &[&str], rows: &[Vec<Markup>], none: &str) -> Markup {
    html! {
        @if rows.is_empty() { p.empty { (none) } } @else {
            div.scroll tabindex="0" role="region" aria-label=(caption) {
                table {
                    caption.hidden { (caption) }
                    thead { tr { @for name in head { th scope="col" { (name) } } } }
                    tbody { @for row in rows { tr {
                        @for (place, value) in row.iter().enumerate() {
                            td data-name=(head.get(place).copied().unwrap_or_default()) { (value) }
                        }
                    } } }
                }
            }
        }
    }
}

/// A link to the next page of a list.
pub fn next(path: &str, name: &str, value: &Value) -> Markup {
    html! { @if let Some(next) = value.as_str() {
        p { a.button href={ (path) (if path.contains('?') { "&" } else { "?" }) (name) "=" (next) } { "Older ones" } }
    } }
}

/// What went wrong, and what to do.
pub fn failure(failure: &Failure) -> Markup {
    html! {
        div.notice.bad role="alert" {
            p { strong { (failure.name) } ": " (visible(&failure.message)) }
            p { (visible(&failure.next_step)) }
        }
    }
}

/// The choices of roles in a form.
pub fn role_choices() -> Markup {
    html! { fieldset { legend { "Roles" } @for role in OPERATOR_ROLES {
        label.choice { input type="checkbox" name="role" value=(role) checked[role == "approver"]; " " (role)
            @if role == OWNER { span.muted { " (a customer of the bank)" } } }
    } } }
}

/// `[…]` of a list that a call answers.
pub fn items(value: &Value) -> &[Value] {
    value["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strangers_text_is_escaped_and_what_hides_is_seen() {
        let table = [
            ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("\" onmouseover=\"x", "&quot; onmouseover=&quot;x"),
            ("ACME\u{202e}moc.evil", "{202e}"),
            ("A\u{200b}B", "{200b}"),
        ];
        for (raw, seen) in table {
            let shown = cell(&json!(raw)).into_string();
            assert!(shown.contains(seen), "{shown}");
            assert!(!shown.contains("<script") && !shown.contains('\u{202e}') && !shown.contains('\u{200b}'));
            assert!(!id(&json!(raw)).into_string().contains("<script"));
        }
    }
}
