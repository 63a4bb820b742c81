//! Lists as text: aligned columns of JSON members.

use serde_json::Value;

use crate::kernel::text::visible;
use crate::kernel::types::Money;

/// A title and the JSON member it shows.
pub type Column = (&'static str, &'static str);

/// `items` of a list answer as an aligned table, or `none` in words when there are none.
pub fn table(answer: &Value, columns: &[Column], none: &str) -> String {
    let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return none.to_owned();
    }
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|(title, _)| (*title).to_owned()).collect()];
    rows.extend(items.iter().map(|item| columns.iter().map(|(_, member)| cell(&item[*member])).collect()));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    // Decimal points stand under each other.
    let of_amounts: Vec<bool> =
        (0..columns.len()).map(|column| rows[1..].iter().all(|row| is_amount(&row[column]))).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).zip(&of_amounts).map(|((text, width), of_amounts)| {
            if *of_amounts { format!("{text:>width$}") } else { format!("{text:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `page`, and where the list goes on when it does.
pub fn with_next(page: String, answer: &Value, command: &str) -> String {
    match &answer["next"] {
        Value::Null => page,
        next => format!("{page}\nThere are more: countersign {command} --after {}", cell(next)),
    }
}

fn is_amount(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.contains('.') && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// A value in words: strings bare, lists with commas, nothing as `-`. On one line, whatever it says.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => visible(text).into_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(members) => match (members.get("amount"), members.get("currency")) {
            (Some(amount), Some(currency)) => format!("{} {}", cell(amount), cell(currency)),
            _ => visible(&value.to_string()).into_owned(),
        },
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// An amount of smallest units as people write it: `2799.00 USD`.
pub fn in_decimals(minor: &Value, currency: &Value) -> String {
    let units = minor.as_str().map_or_else(|| minor.as_i64(), |text| text.parse().ok());
    match units.zip(currency.as_str().and_then(|name| name.parse().ok())) {
        Some((units, currency)) => format!("{} {currency}", Money::from_minor(units, currency).decimal()),
        None => format!("{} {} in its smallest units", cell(minor), cell(currency)),
    }
}

/// `, nothing changed` for a repeat that found everything in place.
pub fn unless_changed(answer: &Value) -> &'static str {
    if answer["changed"] == false { " (was there already, nothing changed)" } else { "" }
}

#[cfg(test)]
#[allow(clippy::duplicate_mod, reason = "the same texts are a table's and a statement's test")]
#[path = "../../tests/it/hostile/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_one_line_whatever_is_in_its_cells() {
        for text in corpus::HOSTILE.iter().map(|(_, text)| text).chain(corpus::BENIGN) {
            let shown =
                table(&json!({ "items": [{ "a": text, "b": { "c": text } }] }), &[("A", "a"), ("B", "b")], "none");
            assert_eq!(shown.lines().count(), 2, "{text:?}: {shown}");
            assert!(shown.lines().all(|line| visible(line) == line), "{text:?}: {shown:?}");
        }
    }

    #[test]
    fn amounts_have_the_decimals_of_their_currency() {
        let table = [
            (json!("279900"), "USD", "2799.00 USD"),
            (json!(20_000), "USD", "200.00 USD"),
            (json!("279900"), "JPY", "279900 JPY"),
            (json!("1e3"), "USD", "1e3 USD in its smallest units"),
        ];
        for (minor, currency, text) in table {
            assert_eq!(in_decimals(&minor, &json!(currency)), text);
        }
    }

    #[test]
    fn columns_line_up_and_missing_members_are_dashes() {
        let answer = json!({ "items": [{ "a": "x", "b": ["p", "q"] }, { "a": "longer", "b": null }] });
        assert_eq!(table(&answer, &[("A", "a"), ("B", "b")], "none"), "A       B\nx       p,q\nlonger  -");
        let answer = json!({ "items": [{ "a": "5.00", "b": "7" }, { "a": "-1899.99", "b": "10" }] });
        assert_eq!(table(&answer, &[("A", "a"), ("B", "b")], "none"), "       A  B\n    5.00  7\n-1899.99  10");
        assert_eq!(table(&json!({ "items": [] }), &[("A", "a")], "none"), "none");
    }
}
