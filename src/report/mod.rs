//! Compliance evidence: what a running party does about the controls of a framework, for an auditor who trusts nothing.
//!
//! Facts that were read from the running system ([`facts::Facts`]) answer questions ([`checks::Check`]); each control of a
//! framework ([`framework::Framework`]) rests on some of them, and says itself how far this system can answer it at best.
//! Everything here is pure: the same facts give the same bytes. `docs/COMPLIANCE.md` says how to read a report.

pub mod checks;
pub mod facts;
pub mod framework;
mod html;
mod oscal;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use checks::{Check, Found, Outcome};
use facts::Facts;
use framework::{Control, Framework, Reach, Table};

/// Named in every report: a reader knows the shape by it.
pub const SCHEMA: &str = "countersign/compliance-report/v1";

/// How a report is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One page that needs nothing else.
    Html,
    Json,
    /// NIST OSCAL assessment results, JSON.
    Oscal,
}

impl Format {
    pub const ALL: [Self; 3] = [Self::Html, Self::Json, Self::Oscal];

    pub fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Json => "json",
            Self::Oscal => "oscal",
        }
    }
}

/// What is said of a control.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub enum Standing {
    #[serde(rename = "met")]
    Met,
    /// This system does a part of it, or not all of what it could is switched on.
    #[serde(rename = "partly")]
    Partly,
    #[serde(rename = "not met")]
    NotMet,
    /// This system does nothing about it: somebody else has to.
    #[serde(rename = "not covered")]
    NotCovered,
    /// It is about what this party or this system does not have.
    #[serde(rename = "not applicable")]
    NotApplicable,
}

impl Standing {
    pub const ALL: [Self; 5] = [Self::Met, Self::Partly, Self::NotMet, Self::NotCovered, Self::NotApplicable];

    pub fn words(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Partly => "partly",
            Self::NotMet => "not met",
            Self::NotCovered => "not covered",
            Self::NotApplicable => "not applicable",
        }
    }
}

/// One control and what is said of it.
#[derive(Clone, Debug)]
pub struct Row {
    pub control: Control,
    pub standing: Standing,
}

/// A report, before it is written in a format.
#[derive(Clone, Debug)]
pub struct Report {
    pub framework: Framework,
    pub table: Table,
    facts: Facts,
    pub rows: Vec<Row>,
    /// What was looked at, each once.
    pub found: BTreeMap<Check, Found>,
}

impl Report {
    /// Looks at everything that the framework's controls rest on.
    pub fn of(framework: Framework, facts: Facts) -> Self {
        let table = framework.table();
        let checks = table.control.iter().flat_map(|control| control.checks.iter().copied());
        let found: BTreeMap<Check, Found> = checks.map(|check| (check, check.look(&facts))).collect();
        let row = |control: &Control| Row { control: control.clone(), standing: standing(control, &found, &facts) };
        let rows = table.control.iter().map(row).collect();
        Self { framework, table, facts, rows, found }
    }

    /// How many rows stand how.
    pub fn counts(&self) -> Map<String, Value> {
        let count = |standing| self.rows.iter().filter(|row| row.standing == standing).count();
        Standing::ALL.into_iter().map(|standing| (standing.words().replace(' ', "_"), json!(count(standing)))).collect()
    }

    /// The report's text in a format, ended by a newline.
    pub fn text(&self, format: Format) -> String {
        match format {
            Format::Html => html::page(self),
            Format::Json => pretty(&self.json()),
            Format::Oscal => pretty(&oscal::assessment_results(self)),
        }
    }

    /// `{schema, framework, party, kind, made_at, by, program, log, deep, counts, controls, evidence}`.
    pub fn json(&self) -> Value {
        let Self { table, facts, .. } = self;
        json!({
            "schema": SCHEMA,
            "framework": {
                "id": self.framework, "title": table.title, "edition": table.edition, "publisher": table.publisher,
                "uri": table.uri, "note": table.note.trim(),
            },
            "party": facts.party,
            "kind": facts.whose,
            "made_at": facts.made_at.rfc3339(),
            "by": facts.by,
            "program": program(),
            "log": {
                "origin": facts.head.origin, "size": facts.head.size, "root": facts.head.root,
                "checkpoint": facts.head.checkpoint,
            },
            "deep": facts.checked.is_some(),
            "counts": self.counts(),
            "controls": self.rows.iter().map(row_json).collect::<Vec<_>>(),
            "evidence": self.found.iter().map(|(check, found)| self.evidence_json(*check, found)).collect::<Vec<_>>(),
        })
    }

    fn evidence_json(&self, check: Check, found: &Found) -> Value {
        json!({
            "check": check,
            "question": check.question(),
            "result": found.outcome.words(),
            "says": found.says,
            "read_at": found.at.rfc3339(),
            // Where the log stood when it was read, or later: the checkpoint comes first.
            "log_size": self.facts.head.size,
            "items": found.items,
        })
    }
}

fn row_json(row: &Row) -> Value {
    let control = &row.control;
    let mut told = json!({ "id": control.id, "title": control.title, "result": row.standing });
    for (member, text) in [("says", &control.says), ("remains", &control.remains)] {
        if let Some(text) = text {
            told[member] = json!(text);
        }
    }
    told["evidence"] = json!(control.checks);
    told["documents"] = json!(control.documents);
    told["tests"] = json!(control.tests);
    told
}

/// How a control stands. Deny by default: *met* is said only of what was read just now and was in order.
fn standing(control: &Control, found: &BTreeMap<Check, Found>, facts: &Facts) -> Standing {
    if !control.parties.is_empty() && !control.parties.contains(&facts.whose) {
        return Standing::NotApplicable;
    }
    let best = match control.reach {
        Reach::None => return Standing::NotCovered,
        Reach::Outside => return Standing::NotApplicable,
        Reach::Whole => Standing::Met,
        Reach::Part => Standing::Partly,
    };
    let outcomes: Vec<Outcome> =
        control.checks.iter().filter_map(|check| found.get(check)).map(|f| f.outcome).collect();
    let asked: Vec<Outcome> = outcomes.iter().copied().filter(|outcome| *outcome != Outcome::NotApplicable).collect();
    if asked.is_empty() {
        // Documents and tests alone: said, and not seen.
        return if outcomes.is_empty() { Standing::Partly } else { Standing::NotApplicable };
    }
    if asked.iter().all(|outcome| *outcome == Outcome::Met) {
        return best;
    }
    if asked.iter().all(|outcome| *outcome == Outcome::NotMet) { Standing::NotMet } else { Standing::Partly }
}

/// This program, as reports name it.
fn program() -> String {
    format!("countersign {}", env!("CARGO_PKG_VERSION"))
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a JSON value has a text");
    text.push('\n');
    text
}
