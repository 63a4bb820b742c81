//! Structured fields (RFC 8941) as signatures and digests use them. `sfv` reads them; what it does not keep, the text
//! of a member as it was received and a key that is there twice, is found here.

use sfv::{BareItem, Dictionary, FieldType, InnerList, List, ListEntry, Parser, Version};

/// The members of a dictionary: key, and the text of its value as it was received. `None`: it is not a dictionary, or
/// has a key twice.
pub fn members(text: &str) -> Option<Vec<(&str, &str)>> {
    let dictionary: Dictionary = read(text)?;
    let members: Vec<(&str, &str)> = split(text, b',')
        .into_iter()
        .map(|member| {
            let (key, value) = member.split_once('=')?;
            Some((key.trim(), value.trim()))
        })
        .collect::<Option<_>>()?;
    (members.len() == dictionary.len()).then_some(members)
}

/// The bytes that a dictionary has under this key. `None`: it is no dictionary; `Some(None)`: there are none.
pub fn bytes(text: &str, key: &str) -> Option<Option<Vec<u8>>> {
    members(text)?;
    let mut dictionary: Dictionary = read(text)?;
    Some(match dictionary.swap_remove(key) {
        Some(ListEntry::Item(item)) if item.params.is_empty() => match item.bare_item {
            BareItem::ByteSequence(bytes) => Some(bytes),
            _ => None,
        },
        Some(ListEntry::Item(_) | ListEntry::InnerList(_)) | None => None,
    })
}

/// An inner list, alone.
pub fn inner_list(text: &str) -> Option<InnerList> {
    let mut list: List = read(text)?;
    match (list.pop(), list.is_empty()) {
        (Some(ListEntry::InnerList(inner)), true) => Some(inner),
        (Some(ListEntry::InnerList(_) | ListEntry::Item(_)) | None, _) => None,
    }
}

/// How many parameters were written, one that is there twice counted twice.
pub fn parameters_written(text: &str) -> usize {
    split(text, b';').len() - 1
}

fn read<T: FieldType>(text: &str) -> Option<T> {
    // Without the types of RFC 9651, whose strings escape otherwise.
    Parser::new(text).with_version(Version::Rfc8941).parse().ok()
}

/// Splits at a byte where it stands outside of strings.
fn split(text: &str, at: u8) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ if byte == at && !quoted => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_text_and_no_key_is_there_twice() {
        let text = "a=(\"x\" \"y,\\\"z\");b=1;  c=\"q;,\",\tb2 = :AQ==:";
        assert_eq!(members(text), None, "no space around the equals sign");
        let text = text.replace(" = ", "=");
        let found = members(&text).unwrap();
        assert_eq!(found, [("a", "(\"x\" \"y,\\\"z\");b=1;  c=\"q;,\""), ("b2", ":AQ==:")]);
        assert_eq!(parameters_written(found[0].1), 2);
        for none in ["a=1, a=2", "a", "a=1,", "A=1", "a=(1", "a=\"", "a=@1", "a=%\"x\"", "a=1 b=2"] {
            assert_eq!(members(none), None, "{none}");
        }
        assert_eq!(members(""), None);
    }

    #[test]
    fn bytes_are_bytes_without_parameters() {
        assert_eq!(bytes("a=:AQI=:, b=1", "a"), Some(Some(vec![1, 2])));
        for (text, key) in [("a=:AQI=:", "b"), ("a=1", "a"), ("a=(:AQI=:)", "a"), ("a=:AQI=:;x=1", "a")] {
            assert_eq!(bytes(text, key), Some(None), "{text}");
        }
        assert_eq!(bytes("a=:A*:", "a"), None);
    }

    #[test]
    fn an_inner_list_is_alone() {
        assert!(inner_list("(\"a\");b=1").is_some());
        for none in ["", "\"a\"", "(\"a\"), (\"b\")", "(\"a\""] {
            assert_eq!(inner_list(none), None, "{none}");
        }
    }
}
