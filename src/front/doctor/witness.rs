//! The doctor's look at cosignatures: how far the witness of a bank's log is, and which logs a witness has halted.

use serde_json::Value;

use super::{fail, ok, warn};
use crate::audit::cosigning::CosigningState;
use crate::ca::settings::PartyKind;
use crate::front::services::Services;
use crate::kernel::sign::Purpose;
use crate::kernel::witness::WitnessedLog;
use crate::ops::clock;

const CHECK: &str = "witness";

pub fn check(services: &Services, items: &mut Vec<Value>) {
    match services.setup.kind {
        PartyKind::Bank => items.push(match services.cosigning() {
            Some(cosigning) => {
                let now = clock::boot_ms();
                of_log(&cosigning.state(now), cosigning.overdue(now))
            }
            None => warn(
                CHECK,
                "off: checkpoints are not cosigned, so the bank alone could write another history",
                "set [audit] witness_lag_max, and [peer] url to the security company's peer listener",
            ),
        }),
        PartyKind::SecurityCompany => {
            items.push(match services.setup.authority.signing_role(Purpose::Witness) {
                Ok(_) => ok(CHECK, format!("cosigns as {}", services.witness_name())),
                Err(failure) => fail(CHECK, failure.message, &failure.next_step),
            });
            match services.setup.store.witnessed() {
                Ok(logs) => items.extend(logs.iter().map(of_witnessed)),
                Err(fault) => items.push(fail(CHECK, fault.to_string(), "see the daemon's log")),
            }
        }
        PartyKind::AgentHost | PartyKind::Operator => {}
    }
}

fn of_log(state: &CosigningState, overdue: Option<String>) -> Value {
    let next_step = "countersign witness status; see that the security company's daemon runs and what [peer] url names";
    if let Some(refused) = &state.refused {
        return fail(CHECK, format!("{}: {}", refused.name, refused.message), &refused.next_step);
    }
    if let Some(why) = overdue {
        return fail(CHECK, format!("money is stopped: {why}"), next_step);
    }
    let CosigningState { cosigned_size, lag_leaves, lag_ms, max, .. } = state;
    match &state.fault {
        Some(fault) => warn(
            CHECK,
            format!(
                "{lag_leaves} leaves without a cosignature for {} s; money stops after {} s: {}",
                lag_ms / 1_000,
                max.seconds,
                fault.message
            ),
            &fault.next_step,
        ),
        None => ok(CHECK, format!("{cosigned_size} leaves cosigned, {lag_leaves} to come")),
    }
}

fn of_witnessed(log: &WitnessedLog) -> Value {
    let size = log.head.size;
    match &log.halt {
        None => ok(CHECK, format!("{}: {size} leaves, last cosigned at {}", log.origin, log.cosigned_at.rfc3339())),
        Some(halt) => fail(
            CHECK,
            format!(
                "{}: {} at {}: {} ({} leaves shown, {size} remembered)",
                log.origin,
                halt.cause.name(),
                halt.at.rfc3339(),
                halt.cause.message(),
                halt.shown.size
            ),
            "ask its owner what happened; countersign witness accept when both parties agree how to go on",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::cosigning::Cosigning;
    use crate::audit::settings::LagMax;
    use crate::kernel::types::UnixMillis;
    use crate::kernel::witness::{Halt, HaltCause, Head};
    use crate::ops::failure::Failure;

    #[test]
    fn a_lag_is_a_warning_until_money_stops_and_a_halted_log_a_failure() {
        let cosigning = Cosigning::new(LagMax { seconds: 60, leaves: 100 });
        let told = |now: i64| of_log(&cosigning.state(now), cosigning.overdue(now))["result"].clone();
        let now = clock::boot_ms();
        cosigning.looked(now, 5, 5);
        assert_eq!(told(now), "ok");
        cosigning.looked(now, 6, 5);
        cosigning.ended(Some(Failure::busy("peer_unreachable", "away", "wait")));
        assert_eq!(told(now), "warn");
        assert_eq!(told(now + 60_001), "fail");

        let mut log = WitnessedLog {
            origin: "bank/log".into(),
            party: None,
            head: Head::empty(),
            cosigned_at: UnixMillis(0),
            told_at: UnixMillis(0),
            halt: None,
        };
        assert_eq!(of_witnessed(&log)["result"], "ok");
        log.halt = Some(Halt {
            cause: HaltCause::Forked,
            shown: Head::empty(),
            note: None,
            at: UnixMillis(0),
            accept_asked_by: None,
        });
        let told = of_witnessed(&log);
        assert!(told["result"] == "fail" && told["detail"].as_str().unwrap().contains("log_forked"), "{told}");
    }
}
