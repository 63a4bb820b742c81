//! Where a page of a list ended, and the next one begins.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::kernel::types::{CaseId, Malformed};

/// A place in the list of cases: those that wait come first, then the others, newest first each. It stays where it is
/// when its case is decided meanwhile, so the cases behind it are not passed over. As text `queued:case_…` or
/// `decided:case_…`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CasePlace {
    pub waits: bool,
    pub case: CaseId,
}

const MALFORMED: Malformed = Malformed { what: "a place in the list of cases", expected: "as `next` named it" };

impl FromStr for CasePlace {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (part, case) = text.split_once(':').ok_or(MALFORMED)?;
        let waits = match part {
            "queued" => true,
            "decided" => false,
            _ => return Err(MALFORMED),
        };
        Ok(Self { waits, case: case.parse().map_err(|_| MALFORMED)? })
    }
}

impl TryFrom<String> for CasePlace {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl fmt::Display for CasePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", if self.waits { "queued" } else { "decided" }, self.case)
    }
}

impl From<CasePlace> for String {
    fn from(place: CasePlace) -> Self {
        place.to_string()
    }
}
