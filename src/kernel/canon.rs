//! Canonical JSON (RFC 8785), in the narrow form that the product signs.
//!
//! One value has one byte string, so a signature over the bytes is a signature over the value. Floats are refused
//! instead of formatted: money and times travel as strings, and a float is the one place where two JSON libraries
//! disagree.

mod writer;

pub use writer::canonical_of;

use std::cmp::Ordering;

use serde_json::Value;

/// Largest integer that every JSON reader keeps exactly: 2^53 − 1 (RFC 8785, appendix B; RFC 7493, 2.2).
const INTEGER_MAX: i64 = 9_007_199_254_740_991;

/// Nesting that a document of ours may have. Receipts, the deepest, have three.
const DEPTH_MAX: usize = 32;

/// Why a value has no canonical form here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CanonRefused {
    #[error("a number is not an integer: write it as a string")]
    Float,
    #[error("an integer is outside ±(2^53 − 1): write it as a string")]
    IntegerTooLarge,
    #[error("arrays and objects are nested more than 32 deep")]
    TooDeep,
    #[error("a value is no JSON: a member's name is not text")]
    Unwritable,
}

/// The canonical bytes of a value: UTF-8, no whitespace, keys sorted by UTF-16 code units (RFC 8785, 3.2).
///
/// # Errors
/// [`CanonRefused`] for floats, integers outside ±(2^53 − 1) and nesting beyond 32.
pub fn canonical(value: &Value) -> Result<Vec<u8>, CanonRefused> {
    let mut text = String::new();
    write_value(value, DEPTH_MAX, &mut text)?;
    Ok(text.into_bytes())
}

/// True when `bytes` are exactly the canonical form of the JSON value that they hold. Duplicate keys, whitespace,
/// other escapes or another key order make it false.
#[must_use]
pub fn is_canonical(bytes: &[u8]) -> bool {
    // A duplicate key is dropped by the parser, so the bytes written back are fewer.
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return false;
    };
    canonical(&value).is_ok_and(|written| written == bytes)
}

fn write_value(value: &Value, depth_left: usize, text: &mut String) -> Result<(), CanonRefused> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => {
            if number.is_f64() {
                return Err(CanonRefused::Float);
            }
            let integer = number.as_i64().ok_or(CanonRefused::IntegerTooLarge)?;
            if !(-INTEGER_MAX..=INTEGER_MAX).contains(&integer) {
                return Err(CanonRefused::IntegerTooLarge);
            }
            text.push_str(&integer.to_string());
        }
        Value::String(string) => write_string(string, text),
        Value::Array(items) => {
            let depth_left = depth_left.checked_sub(1).ok_or(CanonRefused::TooDeep)?;
            text.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    text.push(',');
                }
                write_value(item, depth_left, text)?;
            }
            text.push(']');
        }
        Value::Object(members) => {
            let depth_left = depth_left.checked_sub(1).ok_or(CanonRefused::TooDeep)?;
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_by(|(one, _), (other, _)| utf16_order(one, other));
            text.push('{');
            for (position, (key, member)) in sorted.into_iter().enumerate() {
                if position > 0 {
                    text.push(',');
                }
                write_string(key, text);
                text.push(':');
                write_value(member, depth_left, text)?;
            }
            text.push('}');
        }
    }
    Ok(())
}

/// RFC 8785, 3.2.3. Bytes have the same order unless a character beyond the basic plane, which begins with F0 or more,
/// meets one from its end, which begins with EE or EF.
fn utf16_order(one: &str, other: &str) -> Ordering {
    match one.bytes().zip(other.bytes()).find(|(one, other)| one != other) {
        None => one.len().cmp(&other.len()),
        Some((one, other)) if one < 0xee || other < 0xee => one.cmp(&other),
        Some(_) => one.encode_utf16().cmp(other.encode_utf16()),
    }
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    write_escaped(string, text);
    text.push('"');
}

/// RFC 8785, 3.2.2.2: the five short escapes, `\u00xx` in lower case for other control characters, nothing else.
fn write_escaped(string: &str, text: &mut String) {
    let mut plain = 0;
    // What is escaped is ASCII, so every other byte may be copied as it is.
    for (place, byte) in string.bytes().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        text.push_str(&string[plain..place]);
        plain = place + 1;
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            0x8 => text.push_str("\\b"),
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            0xc => text.push_str("\\f"),
            b'\r' => text.push_str("\\r"),
            control => text.push_str(&format!("\\u{control:04x}")),
        }
    }
    text.push_str(&string[plain..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        String::from_utf8(canonical(value).unwrap()).unwrap()
    }

    #[test]
    fn the_sorting_example_of_rfc_8785_comes_out_in_its_order() {
        // RFC 8785, 3.2.3: the emoji's first code unit (d83d) sorts before fb33.
        let input = "{\"\\u20ac\":\"Euro Sign\",\"\\r\":\"Carriage Return\",\"\\ufb33\":\"Hebrew Letter Dalet With Dagesh\",\
                     \"1\":\"One\",\"\\ud83d\\ude00\":\"Emoji: Grinning Face\",\"\\u0080\":\"Control\",\
                     \"\\u00f6\":\"Latin Small Letter O With Diaeresis\"}";
        let value: Value = serde_json::from_str(input).unwrap();
        let order: Vec<String> =
            ["Carriage Return", "One", "Control", "Latin Small Letter O With Diaeresis", "Euro Sign"]
                .into_iter()
                .chain(["Emoji: Grinning Face", "Hebrew Letter Dalet With Dagesh"])
                .map(str::to_owned)
                .collect();
        let written = text(&value);
        let places: Vec<usize> = order.iter().map(|name| written.find(name.as_str()).unwrap()).collect();
        assert!(places.is_sorted(), "{written}");
    }

    #[test]
    fn strings_are_escaped_as_rfc_8785_says() {
        // RFC 8785, 3.2.2.2
        let value = json!("\u{20ac}$\u{f}\nA'\u{42}\"\\\\\"/\u{7f}");
        assert_eq!(text(&value), "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\u{7f}\"");
        assert_eq!(text(&json!("\u{8}\t\u{c}\r\u{1f}")), "\"\\b\\t\\f\\r\\u001f\"");
    }

    #[test]
    fn values_without_one_form_are_refused_by_name() {
        let mut deep = json!(1);
        for _ in 0..=DEPTH_MAX {
            deep = json!([deep]);
        }
        let table = [
            (json!(1.0), CanonRefused::Float),
            (json!(-0.0), CanonRefused::Float),
            (json!({"a": [0.1]}), CanonRefused::Float),
            (json!(1e300), CanonRefused::Float),
            (json!(INTEGER_MAX + 1), CanonRefused::IntegerTooLarge),
            (json!(-INTEGER_MAX - 1), CanonRefused::IntegerTooLarge),
            (json!(u64::MAX), CanonRefused::IntegerTooLarge),
            (deep, CanonRefused::TooDeep),
        ];
        for (value, refused) in table {
            assert_eq!(canonical(&value), Err(refused), "{value}");
        }
        assert_eq!(text(&json!([INTEGER_MAX, -INTEGER_MAX, 0])), "[9007199254740991,-9007199254740991,0]");
    }

    #[test]
    fn only_the_one_form_counts_as_canonical() {
        for good in ["{}", "[]", "null", "\"\"", "0", "-1", "{\"a\":1,\"b\":[true,false]}"] {
            assert!(is_canonical(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            " {}",
            "{}\n",
            "{ }",
            "{\"b\":1,\"a\":1}",
            "{\"a\":1,\"a\":1}",
            "{\"a\":2,\"a\":1}",
            "1.0",
            "1e2",
            "-0",
            "01",
            "9007199254740992",
            "\"\\u0041\"",
            "\"\\/\"",
            "\"\\u000F\"",
            "\"\\ud800\"",
            "[1,]",
            "{}{}",
            "nul",
        ] {
            assert!(!is_canonical(bad.as_bytes()), "{bad}");
        }
        assert!(!is_canonical(b"\"\xff\""));
    }

    pub(super) fn any_value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-INTEGER_MAX..=INTEGER_MAX).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_bytes_read_back_as_the_same_value_and_are_canonical(value in any_value()) {
            let bytes = canonical(&value).unwrap();
            prop_assert_eq!(&serde_json::from_slice::<Value>(&bytes).unwrap(), &value);
            prop_assert!(is_canonical(&bytes));
        }

        #[test]
        fn no_byte_string_makes_the_check_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = is_canonical(&bytes);
        }
    }
}
