//! The doctor's look at the archive of the log: how far it is, and why it is no further.

use serde_json::{Value, json};

use super::{fail, ok, warn};
use crate::audit::archive::ArchiveCall;
use crate::ca::settings::PartyKind;
use crate::front::services::Services;
use crate::kernel::types::UnixMillis;
use crate::ops::clock;

const CHECK: &str = "log archive";
/// An archive that is so many intervals behind is no copy of what is decided now.
const INTERVALS_MAX: i64 = 10;

pub fn check(services: &Services, items: &mut Vec<Value>) {
    let Some(archive) = &services.setup.archive else {
        if services.setup.kind == PartyKind::Bank {
            let next_step = "add [audit.archive] to countersign.toml: docs/ARCHIVE.md";
            items.push(warn(CHECK, "off: the log is copied nowhere by itself", next_step));
        }
        return;
    };
    let told = services.log().and_then(|log| archive.answer(log, ArchiveCall::Status {}, &mut |_| {}));
    items.push(match told {
        Ok(told) => line(&told, clock::now()),
        Err(failure) => warn(CHECK, failure.message, &failure.next_step),
    });
}

fn line(told: &Value, now: UnixMillis) -> Value {
    let text = |member: &str| told[member].as_str().map(str::to_owned);
    let url = text("url").unwrap_or_default();
    let (archived, lag) = (&told["archived_size"], told["lag"].as_u64().unwrap_or_default());
    let held = match (text("locked_until"), told["lock"]["mode"].as_str()) {
        (Some(until), Some(mode)) => format!("locked ({mode}) until {until}"),
        (_, Some(mode)) => format!("{mode} lock asked for"),
        (_, None) => "without object lock".to_owned(),
    };
    let at = text("archived_at");
    let when = at.as_ref().map_or_else(|| "never".to_owned(), |at| format!("at {at}"));
    let interval_ms = told["interval_s"].as_i64().unwrap_or_default().saturating_mul(1_000);
    let since = now.plus_ms(-interval_ms.saturating_mul(INTERVALS_MAX)).rfc3339();
    // RFC 3339 in UTC with milliseconds: texts of one length, ordered as the times are.
    let is_old = at.is_none_or(|at| at < since);
    let detail = format!("{url} has {archived} leaves, last written {when}, {held}; {lag} leaves behind");
    if let (Some(name), Some(message)) = (told["fault"]["name"].as_str(), told["fault"]["message"].as_str()) {
        let detail = format!("{name}: {message}; {detail}");
        let next_step = told["fault"]["next_step"].as_str().unwrap_or_default();
        return if is_old { fail(CHECK, detail, next_step) } else { warn(CHECK, detail, next_step) };
    }
    if lag > 0 && is_old && told["round"] == json!(null) {
        return warn(CHECK, detail, "countersign audit archive now says what keeps it");
    }
    ok(CHECK, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fails_when_nothing_was_archived_for_long_and_warns_before() {
        let now = UnixMillis(1_800_000_000_000);
        let at = |seconds: i64| json!(now.plus_ms(-seconds * 1_000).rfc3339());
        let fault = json!({ "name": "archive_denied", "message": "403", "next_step": "check the key" });
        let none = || Value::Null;
        for (archived_at, lag, fault, result) in [
            (at(1), 0, none(), "ok"),
            (at(1), 7, none(), "ok"),
            (at(10_000), 0, none(), "ok"),
            (at(10_000), 7, none(), "warn"),
            (none(), 7, none(), "warn"),
            (at(1), 7, fault.clone(), "warn"),
            (at(10_000), 7, fault.clone(), "fail"),
            (none(), 0, fault.clone(), "fail"),
        ] {
            let told = json!({
                "url": "s3://bank-log", "lock": { "mode": "compliance", "days": 1 }, "interval_s": 60, "round": null,
                "archived_size": 9, "lag": lag, "archived_at": archived_at, "fault": fault, "locked_until": null,
            });
            let line = line(&told, now);
            assert_eq!(line["result"], result, "{told}");
            assert!(fault.is_null() || line["detail"].as_str().unwrap().starts_with("archive_denied: 403"), "{line}");
        }
    }
}
