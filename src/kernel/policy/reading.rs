//! Reading a policy file: JSON with comments, TOML or YAML, all bounded and strict in the same way.
//!
//! Whatever the form, the outcome is one JSON value that two readers cannot read differently: no duplicate keys, no
//! number that a float would change, no aliases, one document.

use serde_json::{Map, Number, Value};

use super::document::{Document, plain_numbers, whole};
use super::finding::{Finding, Flaw};
use crate::kernel::json::{self, JsonRefused};

/// A policy file, in bytes: what it says must fit into one request of the admin socket.
pub const BYTES_MAX: usize = 512 * 1024;
/// Nesting of a policy file.
pub const DEPTH_MAX: usize = 32;
/// Values in a YAML file.
const NODES_MAX: usize = 100_000;
/// Significant digits that every float of 64 bits keeps (IEEE 754: DBL_DIG).
const DIGITS_MAX: usize = 15;

/// How a file is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Comments and trailing commas are taken.
    Json,
    Toml,
    Yaml,
}

impl Format {
    /// By the end of a file's name.
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, end) = name.rsplit_once('.')?;
        match end.to_ascii_lowercase().as_str() {
            "json" | "jsonc" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// A policy from the text of one file.
///
/// # Errors
/// The first [`Finding`].
pub fn document(text: &str, format: Format) -> Result<Document, Finding> {
    Document::of(value(text, format)?)
}

/// The value that a text of this form holds.
///
/// # Errors
/// [`Flaw::TooLarge`], [`Flaw::TooDeep`], [`Flaw::Malformed`], [`Flaw::DuplicateKey`], [`Flaw::ImpreciseNumber`]
pub fn value(text: &str, format: Format) -> Result<Value, Finding> {
    if text.len() > BYTES_MAX {
        return Err(Finding::new(Flaw::TooLarge, "", format!("the text is longer than {BYTES_MAX} bytes")));
    }
    let mut value = match format {
        Format::Json => of_json(text)?,
        Format::Toml => of_toml(text)?,
        Format::Yaml => of_yaml(text)?,
    };
    exact(&value, DEPTH_MAX)?;
    plain_numbers(&mut value);
    Ok(value)
}

fn of_json(text: &str) -> Result<Value, Finding> {
    let plain = without_comments(text);
    let refused = |refused: JsonRefused| {
        let flaw = match &refused {
            JsonRefused::TooLong { .. } => Flaw::TooLarge,
            JsonRefused::TooDeep { .. } => Flaw::TooDeep,
            JsonRefused::DuplicateKey { .. } => Flaw::DuplicateKey,
            JsonRefused::ImpreciseNumber { .. } => Flaw::ImpreciseNumber,
            JsonRefused::NotJson { .. } => Flaw::Malformed,
        };
        Finding::new(flaw, "", refused.to_string().replace("the body", "the text"))
    };
    json::check(&plain, BYTES_MAX, DEPTH_MAX).map_err(refused)?;
    json::check_numbers(&plain).map_err(refused)?;
    serde_json::from_slice(&plain).map_err(|error| Finding::new(Flaw::Malformed, "", error.to_string()))
}

/// The text with every comment and trailing comma as spaces, so that a place in it stays where it was.
///
/// An open comment stays as it is and is refused as JSON. The strict reader judges what is left; a tolerant parser
/// would take more than comments, and would be a second opinion on what the text says.
fn without_comments(text: &str) -> Vec<u8> {
    let mut plain = text.as_bytes().to_vec();
    let mut at = 0;
    let mut comma = None;
    while let Some(byte) = plain.get(at).copied() {
        match (byte, plain.get(at + 1).copied()) {
            (b'"', _) => {
                comma = None;
                at = after_string(&plain, at + 1);
            }
            (b'/', Some(b'/')) => {
                let end = plain[at..].iter().position(|byte| *byte == b'\n').map_or(plain.len(), |length| at + length);
                plain[at..end].fill(b' ');
                at = end;
            }
            (b'/', Some(b'*')) => {
                let Some(length) = plain[at + 2..].windows(2).position(|two| two == b"*/") else {
                    return plain;
                };
                let end = at + 2 + length + 2;
                plain[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
                at = end;
            }
            (b',', _) => {
                comma = Some(at);
                at += 1;
            }
            (b'}' | b']', _) => {
                // After another comma or an opening bracket it is no trailing comma, and stays for the reader to refuse.
                let follows_a_value = |comma: &usize| {
                    let before = plain[..*comma].iter().rev().find(|byte| !byte.is_ascii_whitespace());
                    before.is_some_and(|byte| !matches!(byte, b',' | b'[' | b'{' | b':'))
                };
                if let Some(comma) = comma.take().filter(follows_a_value) {
                    plain[comma] = b' ';
                }
                at += 1;
            }
            (byte, _) => {
                if !byte.is_ascii_whitespace() {
                    comma = None;
                }
                at += 1;
            }
        }
    }
    plain
}

fn after_string(text: &[u8], mut at: usize) -> usize {
    loop {
        match text.get(at) {
            None => return at,
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

fn of_toml(text: &str) -> Result<Value, Finding> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let detail = error.message().to_owned();
        let flaw = match &detail {
            detail if detail.contains("duplicate key") => Flaw::DuplicateKey,
            detail if detail.contains("recursion") => Flaw::TooDeep,
            _ => Flaw::Malformed,
        };
        let before = error.span().and_then(|span| text.as_bytes().get(..span.start));
        let line = before.map(|before| 1 + before.iter().filter(|byte| **byte == b'\n').count());
        let place = line.map(|line| format!("line {line}")).unwrap_or_default();
        Finding::new(flaw, place, detail)
    })?;
    members(table, DEPTH_MAX)
}

fn members(table: toml::Table, left: usize) -> Result<Value, Finding> {
    let member = |(name, value)| Ok((name, json_of(value, left)?));
    table.into_iter().map(member).collect::<Result<Map<_, _>, _>>().map(Value::Object)
}

fn json_of(value: toml::Value, left: usize) -> Result<Value, Finding> {
    let left = left.checked_sub(1).ok_or_else(too_deep)?;
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(integer) => integer.into(),
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Float(float) => Number::from_f64(float).map(Value::Number).ok_or_else(|| imprecise(&float))?,
        toml::Value::Array(items) => {
            items.into_iter().map(|item| json_of(item, left)).collect::<Result<Vec<_>, _>>()?.into()
        }
        toml::Value::Table(table) => members(table, left)?,
        toml::Value::Datetime(time) => {
            return Err(Finding::new(Flaw::Shape, "", format!("write the time {time} as a string")));
        }
    })
}

fn of_yaml(text: &str) -> Result<Value, Finding> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(BYTES_MAX),
            max_documents: 1,
            max_aliases: 0,
            max_anchors: 0,
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_merge_keys: 0,
        },
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
        strict_booleans: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let detail = error.to_string();
        let first = detail.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
        let breaks = |words: &[&str]| words.iter().any(|word| first.contains(word));
        let flaw = if breaks(&["duplicate"]) {
            Flaw::DuplicateKey
        } else if breaks(&["Depth", "nesting", "recursion"]) {
            Flaw::TooDeep
        } else if breaks(&["Nodes", "Events", "ScalarBytes"]) {
            Flaw::TooLarge
        } else {
            // Anchors, aliases, merge keys and a second document among them.
            Flaw::Malformed
        };
        Finding::new(flaw, "", first)
    })
}

/// Every number is one that a float keeps, and nothing is nested too deep.
fn exact(value: &Value, left: usize) -> Result<(), Finding> {
    match value {
        Value::Array(items) => {
            let left = left.checked_sub(1).ok_or_else(too_deep)?;
            items.iter().try_for_each(|item| exact(item, left))
        }
        Value::Object(members) => {
            let left = left.checked_sub(1).ok_or_else(too_deep)?;
            members.values().try_for_each(|member| exact(member, left))
        }
        Value::Number(number) if is_exact(number) => Ok(()),
        Value::Number(number) => Err(imprecise(number)),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

fn is_exact(number: &Number) -> bool {
    let Some(float) = number.as_f64() else {
        return false;
    };
    if whole(float).is_some() {
        return true;
    }
    let text = number.to_string();
    let digits = text.bytes().filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0').count();
    number.is_f64() && digits <= DIGITS_MAX && !text.contains(['e', 'E'])
}

fn imprecise(number: &dyn std::fmt::Display) -> Finding {
    let detail = format!("the number {number} is not a plain one of at most {DIGITS_MAX} digits");
    Finding::new(Flaw::ImpreciseNumber, "", detail)
}

fn too_deep() -> Finding {
    Finding::new(Flaw::TooDeep, "", format!("the text is nested deeper than {DEPTH_MAX} levels"))
}
