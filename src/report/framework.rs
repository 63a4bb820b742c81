//! The frameworks: which of their controls concern this system, and what it does about each.
//!
//! The tables are data (`frameworks/*.toml`) that is compiled in: what somebody changes on disk changes no report. Numbers
//! are the publishers' own; titles and sentences are ours, since the standards' texts are protected.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::checks::Check;
use super::facts::Whose;

/// A framework that a report can be made for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Framework {
    #[serde(rename = "pci-dss-4")]
    PciDss4,
    #[serde(rename = "sox")]
    Sox,
    #[serde(rename = "gdpr")]
    Gdpr,
    #[serde(rename = "mifid2")]
    Mifid2,
    #[serde(rename = "glba")]
    Glba,
    #[serde(rename = "iso27001")]
    Iso27001,
    #[serde(rename = "nist-csf")]
    NistCsf,
}

impl Framework {
    pub const ALL: [Self; 7] =
        [Self::PciDss4, Self::Sox, Self::Gdpr, Self::Mifid2, Self::Glba, Self::Iso27001, Self::NistCsf];

    /// As it is named on the command line.
    pub fn slug(self) -> &'static str {
        match self {
            Self::PciDss4 => "pci-dss-4",
            Self::Sox => "sox",
            Self::Gdpr => "gdpr",
            Self::Mifid2 => "mifid2",
            Self::Glba => "glba",
            Self::Iso27001 => "iso27001",
            Self::NistCsf => "nist-csf",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::PciDss4 => include_str!("frameworks/pci-dss-4.toml"),
            Self::Sox => include_str!("frameworks/sox.toml"),
            Self::Gdpr => include_str!("frameworks/gdpr.toml"),
            Self::Mifid2 => include_str!("frameworks/mifid2.toml"),
            Self::Glba => include_str!("frameworks/glba.toml"),
            Self::Iso27001 => include_str!("frameworks/iso27001.toml"),
            Self::NistCsf => include_str!("frameworks/nist-csf.toml"),
        }
    }

    /// Its controls. A test reads every one.
    pub fn table(self) -> Table {
        toml::from_str(self.text()).expect("a framework's table is well-formed: it is compiled in, and a test reads it")
    }
}

impl fmt::Display for Framework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

impl FromStr for Framework {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|framework| framework.slug() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::slug).join(", ");
            format!("no framework is called {text:?}; there are {known}")
        })
    }
}

/// One framework.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub title: String,
    pub edition: String,
    pub publisher: String,
    /// Where the text itself is.
    pub uri: String,
    /// What a reader must know about the framework and this list.
    pub note: String,
    pub control: Vec<Control>,
}

/// One control, requirement, article or outcome.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// The publisher's number.
    pub id: String,
    /// What it is about, in our words.
    pub title: String,
    pub reach: Reach,
    /// Whom it concerns among the parties; left out: all of them.
    #[serde(default)]
    pub parties: Vec<Whose>,
    /// What this system does about it.
    #[serde(default)]
    pub says: Option<String>,
    /// What is left for the organisation, or why it is not covered or does not apply.
    #[serde(default)]
    pub remains: Option<String>,
    #[serde(default)]
    pub checks: Vec<Check>,
    /// `docs/…`, where what is said stands in full.
    #[serde(default)]
    pub documents: Vec<String>,
    /// `tests/…`, or `tests/….rs: name` of one test.
    #[serde(default)]
    pub tests: Vec<String>,
}

/// How much of a control this system can answer at best.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// As far as this system goes, all of it.
    Whole,
    /// A part: people, other systems or the organisation do the rest.
    Part,
    /// Nothing.
    None,
    /// It is about what this system does not have.
    Outside,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_row_is_whole_and_cites_what_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut cited = BTreeSet::new();
        for framework in Framework::ALL {
            let table = framework.table();
            let mut ids = BTreeSet::new();
            assert!(table.control.len() >= 10, "{framework}");
            for control in &table.control {
                let name = format!("{framework} {}", control.id);
                assert!(ids.insert(control.id.clone()), "{name} twice");
                assert!(!control.title.is_empty() && control.title.len() <= 120, "{name}");
                let (says, remains) = (control.says.is_some(), control.remains.is_some());
                match control.reach {
                    // What is claimed is read from the system.
                    Reach::Whole => assert!(says && !control.checks.is_empty(), "{name}"),
                    Reach::Part => {
                        assert!(says && remains, "{name}");
                        let evidence = control.checks.len() + control.documents.len() + control.tests.len();
                        assert!(evidence > 0, "{name} claims without evidence");
                    }
                    Reach::None | Reach::Outside => {
                        assert!(remains && !says, "{name}");
                        assert!(control.checks.is_empty() && control.tests.is_empty(), "{name}");
                    }
                }
                cited.extend(control.checks.iter().copied());
                for place in control.documents.iter().chain(&control.tests) {
                    let (path, test) = place.split_once(": ").map_or((place.as_str(), None), |(p, t)| (p, Some(t)));
                    assert!(path.starts_with("docs/") || path.starts_with("tests/") || path.starts_with("scripts/"));
                    let text = std::fs::read_to_string(root.join(path));
                    assert!(root.join(path).exists(), "{name}: {path} does not exist");
                    if let Some(test) = test {
                        assert!(text.unwrap().contains(&format!("fn {test}(")), "{name}: no test {test} in {path}");
                    }
                }
            }
            for reach in [Reach::None, Reach::Part] {
                assert!(table.control.iter().any(|control| control.reach == reach), "{framework}: {reach:?}");
            }
        }
        let unused: Vec<Check> = Check::ALL.into_iter().filter(|check| !cited.contains(check)).collect();
        assert!(unused.is_empty(), "no control rests on {unused:?}");
    }

    #[test]
    fn an_unknown_framework_is_told_which_there_are() {
        let why = "hipaa".parse::<Framework>().unwrap_err();
        assert!(why.contains("\"hipaa\"") && why.contains("pci-dss-4") && why.contains("nist-csf"), "{why}");
        for framework in Framework::ALL {
            assert_eq!(framework.slug().parse(), Ok(framework));
            assert_eq!(serde_json::to_value(framework).unwrap(), framework.slug());
        }
    }
}
