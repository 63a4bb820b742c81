//! A report as NIST OSCAL assessment results (1.2, JSON): a finding a control, an observation a check.
//!
//! Identifiers are name-based (RFC 9562, 5.5), so that the same control of the same log is the same finding in each report.
//! A finding is *satisfied* only where the control is met; what is more, stands in its properties.

use aws_lc_rs::digest;
use serde_json::{Value, json};

use super::checks::{Check, Found, Outcome};
use super::html::is_deceptive;
use super::{Report, Row, Standing, program};

const OSCAL_VERSION: &str = "1.2.1";
/// Of our own properties.
const NAMESPACE: &str = "https://countersign.example/ns/oscal";

/// `{"assessment-results": …}`.
pub(super) fn assessment_results(report: &Report) -> Value {
    let (table, facts) = (&report.table, &report.facts);
    let uuids = Uuids { log: &facts.head.origin, framework: report.framework.slug() };
    let made_at = facts.made_at.rfc3339();
    let platform = uuids.of("platform");
    let title = line(&format!("{} {}: {}", table.title, table.edition, facts.party));
    let controls: Vec<Value> = report.rows.iter().map(|row| json!({ "control-id": control_id(report, row) })).collect();
    let observations: Vec<Value> =
        report.found.iter().map(|(check, found)| observation(&uuids, *check, found, report)).collect();
    let mut result = json!({
        "uuid": uuids.of(&format!("result {} {made_at}", facts.head.size)),
        "title": title,
        "description": line("Read by the program itself from the running system; nobody has judged it."),
        "start": made_at,
        "end": made_at,
        "props": [
            property("party-kind", facts.whose.words()),
            property("log-origin", &facts.head.origin),
            property("log-size", &facts.head.size.to_string()),
            property("log-root", &facts.head.root.to_string()),
            property("log-rebuilt", if facts.checked.is_some() { "yes" } else { "no" }),
        ],
        "local-definitions": { "assessment-assets": { "assessment-platforms": [
            { "uuid": platform, "title": program(), "props": [property("asked-by", &facts.by)] },
        ] } },
        "reviewed-controls": {
            "description": line("The controls that concern such a system. Their identifiers are the publisher's numbers, as tokens."),
            "control-selections": [{ "include-controls": controls }],
        },
        "findings": report.rows.iter().map(|row| finding(&uuids, row, report)).collect::<Vec<_>>(),
    });
    if !observations.is_empty() {
        result["observations"] = json!(observations);
    }
    json!({ "assessment-results": {
        "uuid": uuids.of(&format!("document {} {made_at}", facts.head.size)),
        "metadata": {
            "title": title,
            "last-modified": made_at,
            "version": made_at,
            "oscal-version": OSCAL_VERSION,
            "roles": [{ "id": "assessed-party", "title": "The party that the report is about" }],
            "parties": [{ "uuid": uuids.of("party"), "type": "organization", "name": text(facts.party.as_str()) }],
            "responsible-parties": [{ "role-id": "assessed-party", "party-uuids": [uuids.of("party")] }],
            "remarks": markdown(table.note.trim()),
        },
        "import-ap": {
            "href": format!("#{}", uuids.of("plan")),
            "remarks": "There is no separate plan: the program looks at the same things each time.",
        },
        "results": [result],
        "back-matter": { "resources": [
            {
                "uuid": uuids.of("plan"),
                "title": "What is looked at",
                "description": "docs/COMPLIANCE.md of this program names each check and how results are made of them.",
            },
            {
                "uuid": uuids.of("framework"),
                "title": line(&format!("{} {}", table.title, table.edition)),
                "rlinks": [{ "href": table.uri }],
            },
            {
                "uuid": uuids.of("checkpoint"),
                "title": "The signed checkpoint of the audit log that the report is tied to",
                "description": "A signed note in base64; everything was read after it.",
                "base64": {
                    "filename": "checkpoint",
                    "media-type": "text/plain",
                    "value": base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &facts.head.checkpoint),
                },
            },
        ] },
    } })
}

fn finding(uuids: &Uuids<'_>, row: &Row, report: &Report) -> Value {
    let control = &row.control;
    let (state, reason) = match row.standing {
        Standing::Met => ("satisfied", "pass"),
        Standing::Partly | Standing::NotMet => ("not-satisfied", "fail"),
        // Nobody has looked: not satisfied is the careful word.
        Standing::NotCovered | Standing::NotApplicable => ("not-satisfied", "other"),
    };
    let implementation = match row.standing {
        Standing::Met => Some("implemented"),
        Standing::Partly => Some("partial"),
        Standing::NotApplicable => Some("not-applicable"),
        Standing::NotMet | Standing::NotCovered => None,
    };
    let id = control_id(report, row);
    let mut target = json!({
        "type": "objective-id",
        "target-id": format!("{id}_obj"),
        "title": line(&format!("{} {}", control.id, control.title)),
        "status": { "state": state, "reason": reason },
    });
    if let Some(state) = implementation {
        target["implementation-status"] = json!({ "state": state });
    }
    let said: Vec<&str> = [&control.says, &control.remains].into_iter().flatten().map(String::as_str).collect();
    let mut finding = json!({
        "uuid": uuids.of(&format!("finding {}", control.id)),
        "title": line(&format!("{} {}", control.id, control.title)),
        "description": markdown(&said.join("\n\n")),
        "props": [property("label", &control.id), property("result", row.standing.words())],
        "target": target,
    });
    let cited =
        control.documents.iter().map(|path| ("document", path)).chain(control.tests.iter().map(|path| ("test", path)));
    if let Some(props) = finding["props"].as_array_mut() {
        props.extend(cited.map(|(kind, path)| property(kind, path)));
    }
    if !control.checks.is_empty() {
        let related = control.checks.iter().map(|check| json!({ "observation-uuid": uuids.of_check(*check) }));
        finding["related-observations"] = related.collect();
    }
    finding
}

fn observation(uuids: &Uuids<'_>, check: Check, found: &Found, report: &Report) -> Value {
    let evidence = found.items.iter().map(|item| {
        json!({
            "description": markdown(&item.what),
            "props": [property("value", &item.value), property("read-from", item.source)],
        })
    });
    let evidence: Vec<Value> = evidence.collect();
    let method = match found.outcome {
        Outcome::NotApplicable => "UNKNOWN",
        Outcome::Met | Outcome::Partly | Outcome::NotMet => "TEST",
    };
    let mut observation = json!({
        "uuid": uuids.of_check(check),
        "title": line(check.question()),
        "description": markdown(&format!("{}: {}", found.outcome.words(), found.says)),
        "props": [
            property("check", check.name()),
            property("result", found.outcome.words()),
            property("log-size", &report.facts.head.size.to_string()),
        ],
        "methods": [method],
        "types": ["control-objective"],
        "origins": [{ "actors": [{ "type": "assessment-platform", "actor-uuid": uuids.of("platform") }] }],
        "collected": found.at.rfc3339(),
    });
    if !evidence.is_empty() {
        observation["relevant-evidence"] = json!(evidence);
    }
    observation
}

/// The publisher's number as a token: letters, digits, `.`, `-`, `_`, begun by a letter.
fn control_id(report: &Report, row: &Row) -> String {
    let mut id = format!("{}_", report.framework.slug());
    for letter in row.control.id.chars() {
        let is_kept = letter.is_ascii_alphanumeric() || letter == '.';
        if is_kept || !id.ends_with(['-', '_']) {
            id.push(if is_kept { letter } else { '-' });
        }
    }
    id.trim_end_matches('-').to_owned()
}

fn property(name: &str, value: &str) -> Value {
    json!({ "name": name, "ns": NAMESPACE, "value": text(value) })
}

/// A value on one line, without what deceives; never empty.
fn text(value: &str) -> String {
    let shown: String = value.chars().map(|letter| if is_deceptive(letter) { '\u{fffd}' } else { letter }).collect();
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.is_empty() { "-".to_owned() } else { words }
}

/// The same as markup that means only itself.
fn line(value: &str) -> String {
    markdown(&text(value))
}

/// CommonMark in which nothing of the text is markup.
fn markdown(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 8);
    for letter in value.chars() {
        match letter {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '#' | '|' | '~' | '!' => {
                out.push('\\');
                out.push(letter);
            }
            deceptive if is_deceptive(deceptive) => out.push('\u{fffd}'),
            plain => out.push(plain),
        }
    }
    out
}

/// Identifiers of one log and framework.
struct Uuids<'a> {
    log: &'a str,
    framework: &'a str,
}

impl Uuids<'_> {
    fn of_check(&self, check: Check) -> String {
        self.of(&format!("check {}", check.name()))
    }

    /// Version 5 of RFC 9562: SHA-1 of a namespace and a name. It names; nothing rests on its strength.
    fn of(&self, name: &str) -> String {
        // The namespace for URLs (RFC 9562, 6.6).
        const URLS: [u8; 16] =
            [0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8];
        let named = format!("{NAMESPACE}/{}/{}/{name}", self.log, self.framework);
        let mut hasher = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        hasher.update(&URLS);
        hasher.update(named.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finish().as_ref()[..16]);
        bytes[6] = (bytes[6] & 0x0f) | 0x50;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex = hex::encode(bytes);
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}
