//! A compliance report is an act of a person: who may have one made, and its leaf.

use serde_json::Value;

use crate::ca::authority::{ADMINISTRATOR, Authority, OFFICER, leaf};
use crate::kernel::command::Actor;
use crate::ops::failure::Failure;

/// Operators that read, and change nothing.
const AUDITOR: &str = "auditor";
const VERB: &str = "compliance_report";

impl Authority {
    /// Has a report made and leaves its leaf: with what `made` says of it when it was made, with the refusal's name
    /// otherwise. Without the leaf nothing is handed out.
    ///
    /// # Errors
    /// `operator_not_permitted`; those of `made`; the store's.
    pub fn compliance_reported<T>(
        &self,
        actor: &Actor,
        about: &Value,
        make: impl FnOnce() -> Result<(T, Value), Failure>,
    ) -> Result<T, Failure> {
        self.refusal_recorded(actor, VERB, about, || {
            self.permit(actor, &[AUDITOR, OFFICER, ADMINISTRATOR]).map(|()| Value::Null)
        })?;
        let (report, told) = make()?;
        self.apply(actor, leaf(VERB, "done", &told))?;
        Ok(report)
    }
}
