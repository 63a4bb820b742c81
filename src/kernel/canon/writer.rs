//! Values straight to canonical bytes, without a tree in between.
//!
//! What is signed or hashed a thousand times a second is written by a serde serializer: members go out as they come
//! and are put in order where they are not. The bytes are those of [`canonical`](super::canonical) of the same value.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

use serde::ser::{self, Serialize};
use serde_json::Value;

use super::{CanonRefused, DEPTH_MAX, INTEGER_MAX, utf16_order, write_string};

/// The canonical bytes of what `value` serializes to.
///
/// # Errors
/// As [`canonical`](super::canonical); [`CanonRefused::Unwritable`] for what is no JSON at all.
pub fn canonical_of<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonRefused> {
    let mut text = String::with_capacity(CAPACITY);
    value.serialize(Writer { text: &mut text, depth_left: DEPTH_MAX })?;
    Ok(text.into_bytes())
}

/// Most documents of ours fit.
const CAPACITY: usize = 1_024;

type Written = Result<(), CanonRefused>;

impl ser::Error for CanonRefused {
    fn custom<T: Display>(_: T) -> Self {
        Self::Unwritable
    }
}

struct Writer<'t> {
    text: &'t mut String,
    depth_left: usize,
}

impl<'t> Writer<'t> {
    fn integer(self, number: i64) -> Written {
        if !(-INTEGER_MAX..=INTEGER_MAX).contains(&number) {
            return Err(CanonRefused::IntegerTooLarge);
        }
        // Writing into a String does not fail.
        let _ = write!(self.text, "{number}");
        Ok(())
    }

    /// One level further in.
    fn deeper(self) -> Result<Self, CanonRefused> {
        Ok(Self { depth_left: self.depth_left.checked_sub(1).ok_or(CanonRefused::TooDeep)?, ..self })
    }

    fn items(self) -> Result<Items<'t>, CanonRefused> {
        let Self { text, depth_left } = self.deeper()?;
        text.push('[');
        Ok(Items { text, depth_left, first: true, closing: "]" })
    }

    fn members(self, closing: &'static str) -> Result<Members<'t>, CanonRefused> {
        let Self { text, depth_left } = self.deeper()?;
        let begins = text.len();
        text.push('{');
        Ok(Members { text, depth_left, begins, members: vec![], key: None, closing })
    }

    /// `{"variant":` before a value that is one level further in.
    fn variant(self, name: &str) -> Result<Self, CanonRefused> {
        let inner = self.deeper()?;
        inner.text.push('{');
        write_string(name, inner.text);
        inner.text.push(':');
        Ok(inner)
    }
}

impl<'t> ser::Serializer for Writer<'t> {
    type Ok = ();
    type Error = CanonRefused;
    type SerializeSeq = Items<'t>;
    type SerializeTuple = Items<'t>;
    type SerializeTupleStruct = Items<'t>;
    type SerializeTupleVariant = Items<'t>;
    type SerializeMap = Members<'t>;
    type SerializeStruct = Members<'t>;
    type SerializeStructVariant = Members<'t>;

    fn serialize_bool(self, value: bool) -> Written {
        self.text.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Written {
        self.integer(value.into())
    }

    fn serialize_i16(self, value: i16) -> Written {
        self.integer(value.into())
    }

    fn serialize_i32(self, value: i32) -> Written {
        self.integer(value.into())
    }

    fn serialize_i64(self, value: i64) -> Written {
        self.integer(value)
    }

    fn serialize_u8(self, value: u8) -> Written {
        self.integer(value.into())
    }

    fn serialize_u16(self, value: u16) -> Written {
        self.integer(value.into())
    }

    fn serialize_u32(self, value: u32) -> Written {
        self.integer(value.into())
    }

    fn serialize_u64(self, value: u64) -> Written {
        self.integer(i64::try_from(value).map_err(|_| CanonRefused::IntegerTooLarge)?)
    }

    fn serialize_f32(self, _: f32) -> Written {
        Err(CanonRefused::Float)
    }

    fn serialize_f64(self, _: f64) -> Written {
        Err(CanonRefused::Float)
    }

    fn serialize_char(self, value: char) -> Written {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Written {
        write_string(value, self.text);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Written {
        let mut items = self.items()?;
        value.iter().try_for_each(|byte| ser::SerializeSeq::serialize_element(&mut items, byte))?;
        ser::SerializeSeq::end(items)
    }

    fn serialize_none(self) -> Written {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Written {
        self.text.push_str("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Written {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Written {
        let Self { text, depth_left } = self.variant(variant)?;
        value.serialize(Writer { text: &mut *text, depth_left })?;
        text.push('}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'t>, CanonRefused> {
        self.items()
    }

    fn serialize_tuple(self, _: usize) -> Result<Items<'t>, CanonRefused> {
        self.items()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items<'t>, CanonRefused> {
        self.items()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'t>, CanonRefused> {
        Ok(Items { closing: "]}", ..self.variant(variant)?.items()? })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members<'t>, CanonRefused> {
        self.members("}")
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members<'t>, CanonRefused> {
        self.members("}")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'t>, CanonRefused> {
        self.variant(variant)?.members("}}")
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Written {
        self.text.push('"');
        // Escaping is infallible, and what a Display of ours says is text.
        write!(Escaped(self.text), "{value}").map_err(|_| CanonRefused::Unwritable)?;
        self.text.push('"');
        Ok(())
    }
}

/// Puts text into a string that was begun.
struct Escaped<'t>(&'t mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        super::write_escaped(part, self.0);
        Ok(())
    }
}

/// An array that is being written.
struct Items<'t> {
    text: &'t mut String,
    depth_left: usize,
    first: bool,
    closing: &'static str,
}

impl Items<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        if !self.first {
            self.text.push(',');
        }
        self.first = false;
        value.serialize(Writer { text: self.text, depth_left: self.depth_left })
    }

    fn close(self) -> Written {
        self.text.push_str(self.closing);
        Ok(())
    }
}

/// An object that is being written.
struct Members<'t> {
    text: &'t mut String,
    depth_left: usize,
    /// Where its brace is.
    begins: usize,
    /// Keys and where their members begin.
    members: Vec<(Cow<'static, str>, usize)>,
    /// The key whose value comes next.
    key: Option<String>,
    closing: &'static str,
}

impl Members<'_> {
    fn member<T: Serialize + ?Sized>(&mut self, key: Cow<'static, str>, value: &T) -> Written {
        if !self.members.is_empty() {
            self.text.push(',');
        }
        let begins = self.text.len();
        write_string(&key, self.text);
        self.text.push(':');
        value.serialize(Writer { text: self.text, depth_left: self.depth_left })?;
        self.members.push((key, begins));
        Ok(())
    }

    fn close(mut self) -> Written {
        if !self.members.is_sorted_by(|(one, _), (next, _)| utf16_order(one, next).is_lt()) {
            self.put_in_order();
        }
        self.text.push_str(self.closing);
        Ok(())
    }

    /// Rewrites the members sorted. Of two with the same key the later one stays, as in a map.
    fn put_in_order(&mut self) {
        let inside = self.begins + 1;
        let written = self.text.split_off(inside);
        let ends = self.members.iter().skip(1).map(|(_, begins)| begins - 1).chain([inside + written.len()]);
        let mut sorted: Vec<(&str, &str)> = self
            .members
            .iter()
            .zip(ends)
            .map(|((key, begins), ends)| (&**key, &written[begins - inside..ends - inside]))
            .collect();
        sorted.sort_by(|(one, _), (other, _)| utf16_order(one, other));
        for (place, (key, member)) in sorted.iter().enumerate() {
            if sorted.get(place + 1).is_some_and(|(next, _)| next == key) {
                continue;
            }
            if self.text.len() > inside {
                self.text.push(',');
            }
            self.text.push_str(member);
        }
    }
}

impl ser::SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = CanonRefused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.item(value)
    }

    fn end(self) -> Written {
        self.close()
    }
}

impl ser::SerializeTuple for Items<'_> {
    type Ok = ();
    type Error = CanonRefused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.item(value)
    }

    fn end(self) -> Written {
        self.close()
    }
}

impl ser::SerializeTupleStruct for Items<'_> {
    type Ok = ();
    type Error = CanonRefused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.item(value)
    }

    fn end(self) -> Written {
        self.close()
    }
}

impl ser::SerializeTupleVariant for Items<'_> {
    type Ok = ();
    type Error = CanonRefused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.item(value)
    }

    fn end(self) -> Written {
        self.close()
    }
}

impl ser::SerializeMap for Members<'_> {
    type Ok = ();
    type Error = CanonRefused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        self.key = Some(match serde_json::to_value(key) {
            Ok(Value::String(text)) => text,
            Ok(Value::Bool(value)) => value.to_string(),
            Ok(Value::Number(number)) => number.to_string(),
            Ok(Value::Null | Value::Array(_) | Value::Object(_)) | Err(_) => return Err(CanonRefused::Unwritable),
        });
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        let key = self.key.take().ok_or(CanonRefused::Unwritable)?;
        self.member(key.into(), value)
    }

    fn end(self) -> Written {
        self.close()
    }
}

impl ser::SerializeStruct for Members<'_> {
    type Ok = ();
    type Error = CanonRefused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Written {
        self.member(key.into(), value)
    }

    fn end(self) -> Written {
        self.close()
    }
}

impl ser::SerializeStructVariant for Members<'_> {
    type Ok = ();
    type Error = CanonRefused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Written {
        self.member(key.into(), value)
    }

    fn end(self) -> Written {
        self.close()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;
    use serde_json::json;

    use super::super::{canonical, tests::any_value};
    use super::*;

    #[derive(Clone, PartialEq, Debug, Serialize)]
    struct Everything {
        zebra: Option<i64>,
        apple: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        middle: Option<bool>,
        #[serde(rename = "\u{1f600}")]
        face: u32,
        #[serde(rename = "\u{fb33}")]
        letter: char,
        shapes: Vec<Shape>,
        tagged: Tagged,
        pair: (u8, String),
        map: BTreeMap<String, i16>,
        numbers: BTreeMap<u8, ()>,
    }

    #[derive(Clone, PartialEq, Debug, Serialize)]
    enum Shape {
        Unit,
        New(u8),
        Tuple(u8, bool),
        Struct { width: i32, height: i32 },
    }

    #[derive(Clone, PartialEq, Debug, Serialize)]
    #[serde(tag = "kind", rename_all = "snake_case")]
    enum Tagged {
        Inner(Inner),
        Fields { beta: u8, alpha: u8 },
    }

    #[derive(Clone, PartialEq, Debug, Serialize)]
    struct Inner {
        of: i64,
        a: Vec<u8>,
    }

    fn any_shape() -> impl Strategy<Value = Shape> {
        prop_oneof![
            Just(Shape::Unit),
            any::<u8>().prop_map(Shape::New),
            any::<(u8, bool)>().prop_map(|(one, two)| Shape::Tuple(one, two)),
            any::<(i32, i32)>().prop_map(|(width, height)| Shape::Struct { width, height }),
        ]
    }

    fn any_tagged() -> impl Strategy<Value = Tagged> {
        prop_oneof![
            (-INTEGER_MAX..=INTEGER_MAX, any::<Vec<u8>>()).prop_map(|(of, a)| Tagged::Inner(Inner { of, a })),
            any::<(u8, u8)>().prop_map(|(beta, alpha)| Tagged::Fields { beta, alpha }),
        ]
    }

    prop_compose! {
        fn any_thing()(
            zebra in prop::option::of(-INTEGER_MAX..=INTEGER_MAX),
            apple in any::<String>(),
            middle in any::<Option<bool>>(),
            face in any::<u32>(),
            letter in any::<char>(),
            shapes in prop::collection::vec(any_shape(), 0..5),
            tagged in any_tagged(),
            pair in any::<(u8, String)>(),
            map in prop::collection::btree_map(any::<String>(), any::<i16>(), 0..5),
            numbers in prop::collection::btree_map(any::<u8>(), Just(()), 0..5),
        ) -> Everything {
            Everything { zebra, apple, middle, face, letter, shapes, tagged, pair, map, numbers }
        }
    }

    proptest! {
        #[test]
        fn a_value_is_written_as_its_tree_is(thing in any_thing()) {
            let tree = serde_json::to_value(&thing).unwrap();
            prop_assert_eq!(canonical_of(&thing).unwrap(), canonical(&tree).unwrap());
        }

        #[test]
        fn a_tree_is_written_the_same_both_ways(value in any_value()) {
            prop_assert_eq!(canonical_of(&value).unwrap(), canonical(&value).unwrap());
        }
    }

    #[test]
    fn what_has_no_one_form_is_refused_by_name_here_too() {
        let mut deep = json!(1);
        for _ in 0..=DEPTH_MAX {
            deep = json!([deep]);
        }
        assert_eq!(canonical_of(&1.5), Err(CanonRefused::Float));
        assert_eq!(canonical_of(&json!({ "a": [0.1] })), Err(CanonRefused::Float));
        assert_eq!(canonical_of(&(INTEGER_MAX + 1)), Err(CanonRefused::IntegerTooLarge));
        assert_eq!(canonical_of(&u64::MAX), Err(CanonRefused::IntegerTooLarge));
        assert_eq!(canonical_of(&deep), Err(CanonRefused::TooDeep));
        assert_eq!(canonical_of(&BTreeMap::from([(vec![1], 1)])), Err(CanonRefused::Unwritable));
    }

    #[test]
    fn of_two_members_with_one_name_the_later_one_stays() {
        #[derive(Serialize)]
        struct Outer {
            b: u8,
            #[serde(flatten)]
            inner: BTreeMap<&'static str, u8>,
        }
        let twice = Outer { b: 1, inner: BTreeMap::from([("a", 3), ("b", 2)]) };
        assert_eq!(canonical_of(&twice).unwrap(), br#"{"a":3,"b":2}"#);
    }
}
