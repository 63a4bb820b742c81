//! One constraint: a JSON Schema 2020-12 fragment for one parameter, checked and compiled once.
//!
//! JSON Schema passes what it does not understand: an unknown keyword, or one for another type, holds for every value.
//! In a policy that is a hole, so a fragment is walked first and may say only what can be decided about its parameter.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

use super::finding::{Finding, Flaw};
use super::tools::Kind;

/// Schemas of one fragment, each reference counted as what it refers to.
const SCHEMAS_MAX: usize = 500;
/// Nesting of one fragment, references followed.
const DEPTH_MAX: usize = 24;
/// A regular expression, in bytes.
const PATTERN_BYTES_MAX: usize = 512;
/// A compiled regular expression, in bytes, and what it keeps while it runs. The engine's time is linear in the text.
const PATTERN_SIZE_MAX: usize = 256 * 1024;
/// Values of one `enum`.
const VALUES_MAX: usize = 1_000;

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Formats that are asserted. `regex` is not among them: what an agent sends is never compiled.
const FORMATS: &[&str] = &[
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "idn-email",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uuid",
];

/// What a keyword needs its value to be, or what it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keyword {
    /// Says nothing about a value.
    Note,
    /// For a value of any type.
    Common,
    Text,
    Number,
    /// For lists and objects, which our tools do not take.
    Structure,
    /// Would leave the fragment.
    Refused,
    Unknown,
}

fn keyword(name: &str) -> Keyword {
    match name {
        "$comment" | "title" | "description" | "default" | "deprecated" | "examples" | "readOnly" | "writeOnly" => {
            Keyword::Note
        }
        "$schema" | "$defs" | "$ref" | "type" | "enum" | "const" | "allOf" | "anyOf" | "oneOf" | "not" | "if"
        | "then" | "else" => Keyword::Common,
        "minLength" | "maxLength" | "pattern" | "format" => Keyword::Text,
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => Keyword::Number,
        "items"
        | "prefixItems"
        | "contains"
        | "minContains"
        | "maxContains"
        | "minItems"
        | "maxItems"
        | "uniqueItems"
        | "properties"
        | "patternProperties"
        | "additionalProperties"
        | "propertyNames"
        | "required"
        | "minProperties"
        | "maxProperties"
        | "dependentRequired"
        | "dependentSchemas"
        | "unevaluatedItems"
        | "unevaluatedProperties" => Keyword::Structure,
        "$id" | "$anchor" | "$dynamicRef" | "$dynamicAnchor" | "$vocabulary" | "contentEncoding"
        | "contentMediaType" | "contentSchema" => Keyword::Refused,
        _ => Keyword::Unknown,
    }
}

/// Checks and compiles a fragment. Answers what is wrong with it; with a warning alone there is a validator, too.
pub(super) fn compiled(fragment: &Value, kind: Kind, place: &str) -> (Option<Validator>, Vec<Finding>) {
    let Value::Object(root) = fragment else {
        let finding = Finding::new(Flaw::NoSchema, place, "it must be an object");
        return (None, vec![finding]);
    };
    let mut walk = Walk { root, place, schemas: 0, findings: vec![] };
    walk.schema(fragment, kind, DEPTH_MAX);
    let mut findings = walk.findings;
    let sound = findings.iter().all(|finding| finding.flaw == Flaw::PatternOpen);
    if !sound {
        return (None, findings);
    }
    match build(fragment) {
        Ok(validator) => (Some(validator), findings),
        Err((flaw, detail)) => {
            findings.push(Finding::new(flaw, place, detail));
            (None, findings)
        }
    }
}

fn build(fragment: &Value) -> Result<Validator, (Flaw, String)> {
    let patterns = PatternOptions::regex().size_limit(PATTERN_SIZE_MAX).dfa_size_limit(PATTERN_SIZE_MAX);
    let options = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .with_pattern_options(patterns)
        .offline();
    options.build(fragment).map_err(|error| {
        let flaw = match error.kind() {
            ValidationErrorKind::Format { format } if format == "regex" => Flaw::Pattern,
            _ if error.schema_path().as_str().ends_with("/pattern") => Flaw::Pattern,
            _ if error.instance_path().as_str().ends_with("/pattern") => Flaw::Pattern,
            _ => Flaw::NoSchema,
        };
        // A value may be as long as the file.
        (flaw, format!("{}: {}", error.instance_path(), error.masked()))
    })
}

struct Walk<'a> {
    root: &'a Map<String, Value>,
    place: &'a str,
    schemas: usize,
    findings: Vec<Finding>,
}

impl Walk<'_> {
    fn found(&mut self, flaw: Flaw, detail: impl Into<String>) {
        self.findings.push(Finding::new(flaw, self.place, detail));
    }

    fn schema(&mut self, schema: &Value, kind: Kind, left: usize) {
        self.schemas += 1;
        if self.schemas == SCHEMAS_MAX + 1 || (left == 0 && self.schemas <= SCHEMAS_MAX) {
            // A circle of references ends here, too.
            self.found(
                Flaw::FragmentTooLarge,
                format!("more than {SCHEMAS_MAX} schemas or {DEPTH_MAX} levels, references followed"),
            );
        }
        if self.schemas > SCHEMAS_MAX || left == 0 {
            // Nothing more is counted: one finding is enough.
            self.schemas = SCHEMAS_MAX + 1;
            return;
        }
        let members = match schema {
            Value::Object(members) => members,
            Value::Bool(_) => return,
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return self.found(Flaw::NoSchema, "a schema is an object, true or false");
            }
        };
        let kind = narrower(kind, members.get("type"));
        for (name, value) in members {
            self.member(members, name, value, kind, left - 1);
        }
    }

    fn member(&mut self, of: &Map<String, Value>, name: &str, value: &Value, kind: Kind, left: usize) {
        let fits = match (keyword(name), kind) {
            (Keyword::Note, _) => return,
            (Keyword::Unknown, _) => {
                return self.found(Flaw::KeywordUnknown, format!("there is no keyword {name:?}"));
            }
            (Keyword::Refused, _) => return self.found(Flaw::KeywordRefused, format!("{name} is not taken")),
            (Keyword::Common, _) | (_, Kind::Any) => true,
            (Keyword::Text, Kind::Text) | (Keyword::Number, Kind::Number) => true,
            (Keyword::Text | Keyword::Structure, Kind::Number) | (Keyword::Number | Keyword::Structure, Kind::Text) => {
                false
            }
        };
        if !fits {
            let is = if kind == Kind::Text { "text" } else { "a number" };
            return self.found(Flaw::KeywordVacuous, format!("{name} says nothing about a value that is {is}"));
        }
        match name {
            "$schema" if value.as_str().is_none_or(|dialect| dialect.trim_end_matches('#') != DIALECT) => {
                self.found(Flaw::KeywordRefused, format!("the only $schema is {DIALECT}"));
            }
            "$ref" => self.reference(value, kind, left),
            "type" => self.types(value, kind),
            "enum" => match value.as_array() {
                Some(values) if values.len() > VALUES_MAX => {
                    self.found(Flaw::FragmentTooLarge, format!("at most {VALUES_MAX} values"));
                }
                Some(values) => values.iter().for_each(|value| self.value(value, kind)),
                None => self.found(Flaw::NoSchema, "enum must be a list"),
            },
            "const" => self.value(value, kind),
            "pattern" => self.pattern(value),
            "format" if value.as_str().is_none_or(|format| !FORMATS.contains(&format)) => {
                self.found(Flaw::Format, format!("there is no format {value}"));
            }
            "then" | "else" if !of.contains_key("if") => {
                self.found(Flaw::KeywordVacuous, format!("{name} without if says nothing"));
            }
            "not" | "if" | "then" | "else" => self.schema(value, kind, left),
            "allOf" | "anyOf" | "oneOf" => match value.as_array() {
                Some(schemas) => schemas.iter().for_each(|schema| self.schema(schema, kind, left)),
                None => self.found(Flaw::NoSchema, format!("{name} must be a list of schemas")),
            },
            // Of lists and objects: their parts are of any type.
            "items"
            | "contains"
            | "additionalProperties"
            | "propertyNames"
            | "unevaluatedItems"
            | "unevaluatedProperties" => self.schema(value, Kind::Any, left),
            "prefixItems" => {
                value.as_array().into_iter().flatten().for_each(|schema| self.schema(schema, Kind::Any, left));
            }
            "properties" | "patternProperties" | "dependentSchemas" => {
                let patterns = name == "patternProperties";
                for (name, schema) in value.as_object().into_iter().flatten() {
                    if patterns {
                        self.pattern(&Value::String(name.clone()));
                    }
                    self.schema(schema, Kind::Any, left);
                }
            }
            // `$defs` are walked where they are referred to. The others take values that the compiler checks.
            _ => {}
        }
    }

    fn reference(&mut self, target: &Value, kind: Kind, left: usize) {
        let name = target.as_str().and_then(|target| target.strip_prefix("#/$defs/"));
        let plain = name.filter(|name| !name.contains(['/', '~', '%']));
        let root = self.root;
        match plain.and_then(|name| root.get("$defs")?.get(name)) {
            Some(schema) => self.schema(schema, kind, left),
            None => self.found(Flaw::Reference, format!("{target} refers to nothing in this fragment")),
        }
    }

    fn types(&mut self, value: &Value, kind: Kind) {
        let names: Vec<&Value> = match value {
            Value::Array(names) => names.iter().collect(),
            one => vec![one],
        };
        let fits = |name: &str| match kind {
            Kind::Text => name == "string",
            Kind::Number => matches!(name, "number" | "integer"),
            Kind::Any => true,
        };
        for name in names {
            match name.as_str() {
                Some(name) if fits(name) => {}
                Some(name) => {
                    let is = if kind == Kind::Text { "text" } else { "judged as a number" };
                    self.found(Flaw::ValueVacuous, format!("type {name:?}: the parameter is {is}"));
                }
                None => self.found(Flaw::NoSchema, "type must be the name of a type, or a list of them"),
            }
        }
    }

    fn value(&mut self, value: &Value, kind: Kind) {
        let fits = match kind {
            Kind::Text => value.is_string(),
            Kind::Number => value.is_number(),
            Kind::Any => true,
        };
        if !fits {
            let is = if kind == Kind::Text { "text" } else { "judged as a number" };
            let mut shown = value.to_string();
            shown.truncate(shown.char_indices().nth(60).map_or(shown.len(), |(at, _)| at));
            self.found(Flaw::ValueVacuous, format!("{shown}: the parameter is {is}"));
        }
    }

    fn pattern(&mut self, value: &Value) {
        match value.as_str() {
            None => self.found(Flaw::NoSchema, "a pattern is a string"),
            Some(pattern) if pattern.len() > PATTERN_BYTES_MAX => {
                self.found(Flaw::Pattern, format!("at most {PATTERN_BYTES_MAX} bytes"));
            }
            Some(pattern) if !is_closed(pattern) => {
                self.found(Flaw::PatternOpen, format!("the pattern {pattern:?} is open"));
            }
            Some(_) => {}
        }
    }
}

/// Whether a pattern judges the whole text: from `^` to `$`, with no alternative beside them.
fn is_closed(pattern: &str) -> bool {
    let (mut groups, mut in_class, mut escaped) = (0_u32, false, false);
    let mut parts = pattern.chars().map(|letter| {
        let plain = !std::mem::replace(&mut escaped, false);
        match letter {
            '\\' if plain => escaped = true,
            '[' if plain => in_class = true,
            ']' if plain => in_class = false,
            '(' if plain && !in_class => groups += 1,
            ')' if plain && !in_class => groups = groups.saturating_sub(1),
            '|' if plain && !in_class && groups == 0 => return true,
            _ => {}
        }
        false
    });
    let has_alternatives = parts.any(|alternative| alternative);
    pattern.starts_with('^') && pattern.ends_with('$') && !pattern.ends_with("\\$") && !has_alternatives
}

/// Where nothing is known of a parameter, its schema's own type says what its keywords are for.
fn narrower(kind: Kind, named: Option<&Value>) -> Kind {
    match (kind, named.and_then(Value::as_str)) {
        (Kind::Any, Some("string")) => Kind::Text,
        (Kind::Any, Some("number" | "integer")) => Kind::Number,
        (kind, _) => kind,
    }
}
