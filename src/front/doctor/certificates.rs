//! The doctor's look at the party's own certificates: each with its end, the days that are left, and what to do in time.

use serde_json::{Value, json};

use super::{fail, ok, warn};
use crate::ca::{CaHealth, Generation, RoleHealth, renewal_due};
use crate::front::services::Services;
use crate::kernel::types::UnixMillis;
use crate::ops::clock;

const DAY_MS: i64 = 86_400_000;
/// Roles: time to plan, then time to act. Shorter lives are warned about in their last third and tenth.
const ROLE_DAYS: [i64; 2] = [30, 7];
/// CAs: other parties have to be told.
const CA_DAYS: [i64; 2] = [180, 90];

pub fn check(services: &Services, items: &mut Vec<Value>) {
    let authority = &services.setup.authority;
    let now = clock::now();
    match authority.ca_health() {
        Ok(all) => items.extend(all.iter().map(|ca| of_ca(ca, now))),
        Err(failure) => items.push(fail("ca certificate", failure.message, &failure.next_step)),
    }
    match authority.installed_pairs() {
        Ok(all) => items.extend(
            all.iter().map(|(agent, begins, ends)| of_agent(agent.as_str(), *begins, *ends, authority.renews(), now)),
        ),
        Err(failure) => items.push(fail("agent pair", failure.message, &failure.next_step)),
    }
    match authority.role_health() {
        Ok(all) => items.extend(all.iter().map(|role| of_role(role, now))),
        Err(failure) => items.push(fail("role certificate", failure.message, &failure.next_step)),
    }
}

/// The role catalogue in force, where there is one: its version and its own end, if it has one.
pub fn catalogue(services: &Services, items: &mut Vec<Value>) {
    if let Ok(catalogue) = services.setup.authority.catalogue() {
        items.push(of_catalogue(catalogue.version(), catalogue.valid_until(), clock::now()));
    }
}

fn of_catalogue(version: u64, end: Option<UnixMillis>, now: UnixMillis) -> Value {
    let Some(end) = end else {
        return ok("role catalogue", format!("version {version}, in force until a newer one is"));
    };
    let detail = format!("version {version}: ends {}", left(end, now));
    match due(end, now, ROLE_DAYS.map(|days| days * DAY_MS)) {
        Due::Later => ok("role catalogue", detail),
        Due::InTime | Due::Soon | Due::Ended => warn(
            "role catalogue",
            format!("{detail}; no role may call any tool afterwards"),
            "have both parties sign a newer version, then countersign catalogue install",
        ),
    }
}

/// A pair at an agent host: the daemon renews it at two thirds of its life, if it knows where.
fn of_agent(agent: &str, begins: UnixMillis, ends: UnixMillis, renews: bool, now: UnixMillis) -> Value {
    let check = format!("agent {agent}");
    let due = renewal_due(begins, ends);
    if now >= ends {
        let next_step = "enrol the agent again: countersign cert request, or cert issue where all parties are here";
        return fail(&check, format!("its pair has ended at {}", ends.rfc3339()), next_step);
    }
    let detail = format!("its pair ends at {}", ends.rfc3339());
    match (renews, now >= due) {
        (true, false) => ok(&check, format!("{detail}; renewed from {} on", due.rfc3339())),
        (true, true) => warn(&check, format!("{detail} and should have been renewed"), "see the daemon's log for why"),
        (false, true) => warn(&check, detail, "renew it now, or set [peer] url and the daemon does it"),
        (false, false) => ok(&check, format!("{detail}; nothing renews it by itself without [peer] url")),
    }
}

fn of_ca(ca: &CaHealth, now: UnixMillis) -> Value {
    let does = match ca.generation {
        Generation::Root => "certifies issuing CAs".to_owned(),
        Generation::Issues => "issues".to_owned(),
        Generation::Announced => "announced, issues nothing yet".to_owned(),
        Generation::Revoked => "revoked, nothing under it counts".to_owned(),
        Generation::ListsOnly => match ca.last_end.filter(|end| *end > now) {
            Some(end) => format!("signs revocation lists until {}", end.rfc3339()),
            None => "has no certificates any more".to_owned(),
        },
    };
    let detail = format!("{}, {does}: ends {}", ca.name, left(ca.not_after, now));
    let next_step = match ca.generation {
        Generation::Root => "docs/PROFILES.md, roll-over of a root: the other parties must come to trust another one",
        Generation::Issues | Generation::Revoked => {
            "countersign key rotate issuing announces the next one; with --use it issues"
        }
        Generation::Announced => {
            "have the other parties `countersign trust add` certs/issuing.pem, then countersign key rotate issuing --use"
        }
        Generation::ListsOnly => "countersign key retire it once its last certificate has ended",
    };
    let is_over = ca.generation == Generation::ListsOnly && ca.last_end.is_none_or(|end| end <= now);
    let due = due(ca.not_after, now, CA_DAYS.map(|days| days * DAY_MS));
    let is_noted = is_over || ca.generation == Generation::Announced;
    let item = match due {
        _ if ca.generation == Generation::Revoked => fail("ca certificate", detail, next_step),
        Due::Ended => fail("ca certificate", detail, next_step),
        Due::Soon | Due::InTime => warn("ca certificate", detail, next_step),
        Due::Later if is_noted => warn("ca certificate", detail, next_step),
        Due::Later => ok("ca certificate", detail),
    };
    with_end(item, &ca.name, ca.generation.word(), Some(ca.not_after), due, now)
}

fn of_role(role: &RoleHealth, now: UnixMillis) -> Value {
    let word = role.purpose.slug();
    let Some(end) = role.not_after else {
        let item = fail(
            "role certificate",
            format!("the certificate of {} has ended or was never finished", role.label),
            "countersign init: it renews role certificates",
        );
        return with_end(item, &role.label, word, None, Due::Ended, now);
    };
    let steps = [ROLE_DAYS[0] * DAY_MS, ROLE_DAYS[1] * DAY_MS];
    let due = due(end, now, [steps[0].min(role.life_ms / 3), steps[1].min(role.life_ms / 10)]);
    let detail = format!("{}: ends {}", role.label, left(end, now));
    // A set-up renews what is in the last quarter of its life.
    let renews = end < now.plus_ms(role.life_ms / 4);
    let next_step = match renews {
        true => format!("countersign init renews it, countersign key rotate {word} replaces the key too"),
        false => format!("countersign key rotate {word}, or countersign init in the last quarter of its life"),
    };
    let item = match due {
        Due::Ended => fail("role certificate", detail, &next_step),
        Due::Soon | Due::InTime => warn("role certificate", detail, &next_step),
        Due::Later => ok("role certificate", detail),
    };
    with_end(item, &role.label, word, Some(end), due, now)
}

/// How much time is left to act.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    Later,
    /// Within the first of the two spans.
    InTime,
    /// Within the second one.
    Soon,
    Ended,
}

impl Due {
    fn word(self) -> &'static str {
        match self {
            Self::Later => "later",
            Self::InTime => "in-time",
            Self::Soon => "soon",
            Self::Ended => "ended",
        }
    }
}

fn due(end: UnixMillis, now: UnixMillis, spans_ms: [i64; 2]) -> Due {
    let left = end.0.saturating_sub(now.0);
    match left {
        ..=0 => Due::Ended,
        left if left <= spans_ms[1] => Due::Soon,
        left if left <= spans_ms[0] => Due::InTime,
        _ => Due::Later,
    }
}

fn days(end: UnixMillis, now: UnixMillis) -> i64 {
    end.0.saturating_sub(now.0).div_euclid(DAY_MS)
}

fn left(end: UnixMillis, now: UnixMillis) -> String {
    format!("{} ({} days left)", &end.rfc3339()[..10], days(end, now))
}

/// What a program wants to read besides the sentence.
fn with_end(mut item: Value, name: &str, role: &str, end: Option<UnixMillis>, due: Due, now: UnixMillis) -> Value {
    item["certificate"] = json!({
        "name": name,
        "role": role,
        "not_after": end.map(UnixMillis::rfc3339),
        "days_left": end.map(|end| days(end, now)),
        "due": due.word(),
    });
    item
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sign::Purpose;

    const NOW: UnixMillis = UnixMillis(1_795_234_800_000);

    fn in_days(days: i64) -> UnixMillis {
        NOW.plus_ms(days * DAY_MS)
    }

    #[test]
    fn roles_are_warned_about_30_and_7_days_before_their_end() {
        let judged = |left: i64, life: i64| {
            let item = of_role(
                &RoleHealth {
                    purpose: Purpose::Manifest,
                    label: "bank-manifest-v1".into(),
                    active: 1,
                    not_before: None,
                    not_after: Some(in_days(left)),
                    life_ms: life * DAY_MS,
                },
                NOW,
            );
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&item["result"]), text(&item["certificate"]["due"]), item["certificate"]["days_left"].clone())
        };
        let table = [
            (31, 90, "ok", "later"),
            (30, 90, "warn", "in-time"),
            (8, 90, "warn", "in-time"),
            (7, 90, "warn", "soon"),
            (0, 90, "fail", "ended"),
            (-1, 90, "fail", "ended"),
            // A life of nine days is not warned about from its first day on.
            (9, 9, "ok", "later"),
            (3, 9, "warn", "in-time"),
        ];
        for (left, life, result, due) in table {
            assert_eq!(judged(left, life), (result.to_owned(), due.to_owned(), json!(left)), "{left} of {life} days");
        }
    }

    #[test]
    fn a_catalogue_with_an_end_is_warned_about_before_it() {
        for (end, result) in [(None, "ok"), (Some(in_days(31)), "ok"), (Some(in_days(30)), "warn")] {
            assert_eq!(of_catalogue(7, end, NOW)["result"], result, "{end:?}");
        }
    }

    #[test]
    fn cas_are_warned_about_180_and_90_days_before_their_end() {
        let judged = |left: i64, generation, last_end| {
            let ca = CaHealth { name: "issuing CA v1".into(), generation, not_after: in_days(left), last_end };
            let item = of_ca(&ca, NOW);
            (item["result"].as_str().unwrap().to_owned(), item["certificate"]["due"].as_str().unwrap().to_owned())
        };
        let leaf = Some(in_days(1));
        let table = [
            (181, Generation::Root, None, "ok", "later"),
            (180, Generation::Root, None, "warn", "in-time"),
            (91, Generation::Issues, leaf, "warn", "in-time"),
            (90, Generation::Issues, leaf, "warn", "soon"),
            (0, Generation::Issues, leaf, "fail", "ended"),
            (1_000, Generation::Announced, None, "warn", "later"),
            (1_000, Generation::Revoked, leaf, "fail", "later"),
            (1_000, Generation::ListsOnly, leaf, "ok", "later"),
            (1_000, Generation::ListsOnly, Some(NOW), "warn", "later"),
        ];
        for (left, generation, last_end, result, due) in table {
            let expected = (result.to_owned(), due.to_owned());
            assert_eq!(judged(left, generation, last_end), expected, "{generation:?} {left}");
        }
    }
}
