//! Strict JSON: what a request body must be before any library reads meaning into it.
//!
//! One value, no duplicate keys at any depth, bounded depth. `serde_json` alone takes the last of two equal keys, so
//! two readers of one body could see two different requests (RFC 8259, 4).

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Why a body is not read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JsonRefused {
    #[error("the body is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("the body is nested deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("the key {key:?} appears twice in one object")]
    DuplicateKey { key: String },
    #[error("the number {text:?} does not survive being read as a float: write it as a string")]
    ImpreciseNumber { text: String },
    #[error("the body is not one JSON value: {reason}")]
    NotJson { reason: String },
}

impl JsonRefused {
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "json_too_long",
            Self::TooDeep { .. } => "json_too_deep",
            Self::DuplicateKey { .. } => "json_duplicate_key",
            Self::ImpreciseNumber { .. } => "json_imprecise_number",
            Self::NotJson { .. } => "json_malformed",
        }
    }
}

/// Checks a whole body.
///
/// # Errors
/// [`JsonRefused`], the first rule that is broken.
pub fn check(body: &[u8], bytes_max: usize, depth_max: usize) -> Result<(), JsonRefused> {
    if body.len() > bytes_max {
        return Err(JsonRefused::TooLong { limit: bytes_max });
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    // serde_json has a depth limit of its own (128); ours is smaller and named.
    let walked = Strict { left: depth_max }.deserialize(&mut reader).and_then(|()| reader.end());
    walked.map_err(|error| {
        let reason = error.to_string();
        if let Some(rest) = reason.strip_prefix(DUPLICATE) {
            let key = rest.rsplit_once(" at line").map_or(rest, |(key, _)| key);
            return JsonRefused::DuplicateKey { key: key.to_owned() };
        }
        if reason.starts_with(TOO_DEEP) {
            return JsonRefused::TooDeep { limit: depth_max };
        }
        JsonRefused::NotJson { reason }
    })
}

/// Significant digits that every float of 64 bits keeps (IEEE 754: DBL_DIG).
const FLOAT_DIGITS: usize = 15;

/// Checks that every number of a valid JSON text is an integer or a plain decimal of at most 15 significant digits:
/// what a reader that goes through floats passes on unchanged.
///
/// # Errors
/// [`JsonRefused::ImpreciseNumber`]
pub fn check_numbers(body: &[u8]) -> Result<(), JsonRefused> {
    let mut rest = body;
    while let [first, after @ ..] = rest {
        match first {
            b'"' => rest = after_string(after),
            b'-' | b'0'..=b'9' => {
                let length = rest.iter().position(|byte| !is_number_byte(*byte)).unwrap_or(rest.len());
                let (number, after) = rest.split_at(length);
                let digits = number.iter().filter(|byte| byte.is_ascii_digit());
                let significant = digits.skip_while(|byte| **byte == b'0').count();
                let exponent = number.iter().any(|byte| matches!(byte, b'e' | b'E'));
                if exponent || (number.contains(&b'.') && significant > FLOAT_DIGITS) {
                    let text = String::from_utf8_lossy(number).into_owned();
                    return Err(JsonRefused::ImpreciseNumber { text });
                }
                rest = after;
            }
            _ => rest = after,
        }
    }
    Ok(())
}

fn is_number_byte(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
}

/// What follows the string whose first quote was just passed.
fn after_string(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = match rest {
            [] => return rest,
            [b'"', after @ ..] => return after,
            [b'\\', _, after @ ..] | [_, after @ ..] => after,
        };
    }
}

const DUPLICATE: &str = "duplicate key ";
const TOO_DEEP: &str = "too deep";

/// Walks a value without keeping it.
#[derive(Clone, Copy)]
struct Strict {
    left: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        self.left.checked_sub(1).map(|left| Self { left }).ok_or_else(|| E::custom(TOO_DEEP))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        while items.next_element_seed(deeper)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        let mut seen = BTreeSet::new();
        while let Some(key) = members.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(A::Error::custom(format!("{DUPLICATE}{key}")));
            }
            seen.insert(key);
            members.next_value_seed(deeper)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_a_float_would_change_are_refused() {
        for bad in ["1e3", "[1.0000000000000001]", "{\"a\":123456789012345.67}", "-1E-2", "{\"a\":\"\\\"\",\"b\":1e1}"]
        {
            assert_eq!(check_numbers(bad.as_bytes()).unwrap_err().name(), "json_imprecise_number", "{bad}");
        }
        for good in ["1899.99", "12345678901234567", "[0.1,-2.50]", "{\"a\":\"1e5 \\\\\",\"b\":9999999999999.99}"] {
            check_numbers(good.as_bytes()).unwrap();
        }
    }

    #[test]
    fn bodies_that_two_readers_could_read_differently_are_refused() {
        let table: &[(&str, &str)] = &[
            ("", "json_malformed"),
            ("{", "json_malformed"),
            ("{}{}", "json_malformed"),
            ("{} x", "json_malformed"),
            ("[1,]", "json_malformed"),
            ("{\"a\":01}", "json_malformed"),
            ("{\"a\":NaN}", "json_malformed"),
            ("{'a':1}", "json_malformed"),
            ("\"\u{1}\"", "json_malformed"),
            ("{\"a\":1,\"a\":1}", "json_duplicate_key"),
            ("{\"x\":{\"a\":1,\"b\":2,\"a\":3}}", "json_duplicate_key"),
            ("[{\"a\":1,\"\\u0061\":2}]", "json_duplicate_key"),
            ("[[[[[1]]]]]", "json_too_deep"),
            ("{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}", "json_too_deep"),
            ("[1111111111111111111111111111111111111111111111111111111111111111]", "json_too_long"),
        ];
        for (body, name) in table {
            assert_eq!(check(body.as_bytes(), 64, 4).unwrap_err().name(), *name, "{body}");
        }
        assert!(check(b"\xff", 64, 4).is_err());
        for good in ["{}", " [1, 2.5, -3, true, null, \"x\"] ", "{\"a\":{\"a\":[{}]}}"] {
            check(good.as_bytes(), 64, 4).unwrap();
        }
    }
}
