//! A strict DER reader (ITU-T X.690, 10 and 11) and the few encodings that we write ourselves.
//!
//! Strict, because two readers that understand the same bytes differently are how certificates get forged:
//! definite minimal lengths, minimal integers, booleans 0xFF, no explicit defaults, nothing left over.

/// Nesting and size are bounded by the callers' structures; a single element by this many bytes.
pub const ELEMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const NULL: u8 = 0x05;
pub const OID: u8 = 0x06;
pub const ENUMERATED: u8 = 0x0a;
pub const UTF8_STRING: u8 = 0x0c;
pub const PRINTABLE_STRING: u8 = 0x13;
pub const IA5_STRING: u8 = 0x16;
pub const UTC_TIME: u8 = 0x17;
pub const GENERALIZED_TIME: u8 = 0x18;
pub const SEQUENCE: u8 = 0x30;
pub const SET: u8 = 0x31;

/// Context-specific primitive `[number]`.
pub const fn context(number: u8) -> u8 {
    0x80 | number
}

/// Context-specific constructed `[number]`.
pub const fn context_constructed(number: u8) -> u8 {
    0xa0 | number
}

/// The bytes are not the DER that was expected here; says what was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not strict DER: expected {0}")]
pub struct NotDer(pub &'static str);

/// One element: identifier octet, content, and both with the length between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    pub raw: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads `bytes` as one SEQUENCE with nothing after it.
    pub fn whole_sequence(bytes: &'a [u8]) -> Result<Self, NotDer> {
        let mut outer = Self::new(bytes);
        let inner = outer.sequence()?;
        outer.finish()?;
        Ok(inner)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, whatever it is.
    pub fn any(&mut self) -> Result<Element<'a>, NotDer> {
        let [tag, first, after @ ..] = self.rest else {
            return Err(NotDer("an element"));
        };
        if tag & 0x1f == 0x1f {
            return Err(NotDer("a low tag number"));
        }
        let (length, body) = match *first {
            short @ 0..=0x7f => (usize::from(short), after),
            0x80 | 0x84..=0xff => return Err(NotDer("a definite length of at most three bytes")),
            long => {
                let count = usize::from(long & 0x7f);
                let (digits, body) = after.split_at_checked(count).ok_or(NotDer("a whole length"))?;
                let length = digits.iter().fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit));
                if digits[0] == 0 || length < 0x80 {
                    return Err(NotDer("a minimal length"));
                }
                (length, body)
            }
        };
        if length > ELEMENT_BYTES_MAX {
            return Err(NotDer("an element within the size limit"));
        }
        let (content, rest) = body.split_at_checked(length).ok_or(NotDer("a whole element"))?;
        let raw = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        Ok(Element { tag: *tag, content, raw })
    }

    /// The next element, which must have this tag.
    pub fn element(&mut self, tag: u8) -> Result<Element<'a>, NotDer> {
        let element = self.any()?;
        if element.tag == tag { Ok(element) } else { Err(NotDer(tag_name(tag))) }
    }

    /// The next element if it has this tag; otherwise nothing is read.
    pub fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, NotDer> {
        if self.rest.first() == Some(&tag) { self.any().map(Some) } else { Ok(None) }
    }

    pub fn sequence(&mut self) -> Result<Self, NotDer> {
        Ok(Self::new(self.element(SEQUENCE)?.content))
    }

    pub fn oid(&mut self) -> Result<&'a [u8], NotDer> {
        let content = self.element(OID)?.content;
        let ends = content.last().is_some_and(|last| last & 0x80 == 0);
        let mut fresh = true;
        let mut minimal = true;
        for byte in content {
            minimal &= !(fresh && *byte == 0x80);
            fresh = byte & 0x80 == 0;
        }
        if ends && minimal { Ok(content) } else { Err(NotDer("an object identifier")) }
    }

    /// The content octets of an INTEGER: two's complement, minimal.
    pub fn integer(&mut self) -> Result<&'a [u8], NotDer> {
        let content = self.element(INTEGER)?.content;
        match content {
            [] | [0x00, 0x00..=0x7f, ..] | [0xff, 0x80..=0xff, ..] => Err(NotDer("a minimal integer")),
            _ => Ok(content),
        }
    }

    /// A non-negative INTEGER that fits 64 bits.
    pub fn unsigned(&mut self) -> Result<u64, NotDer> {
        let content = self.integer()?;
        if content[0] & 0x80 != 0 {
            return Err(NotDer("a non-negative integer"));
        }
        let digits = content.strip_prefix(&[0]).unwrap_or(content);
        if digits.len() > 8 {
            return Err(NotDer("an integer of at most 64 bits"));
        }
        Ok(digits.iter().fold(0, |sum, digit| (sum << 8) | u64::from(*digit)))
    }

    pub fn octet_string(&mut self) -> Result<&'a [u8], NotDer> {
        Ok(self.element(OCTET_STRING)?.content)
    }

    /// A BIT STRING of whole bytes.
    pub fn bit_string_bytes(&mut self) -> Result<&'a [u8], NotDer> {
        self.element(BIT_STRING)?.content.strip_prefix(&[0]).ok_or(NotDer("a bit string of whole bytes"))
    }

    /// A BOOLEAN DEFAULT FALSE: absent or TRUE.
    pub fn default_false(&mut self) -> Result<bool, NotDer> {
        match self.optional(BOOLEAN)? {
            None => Ok(false),
            Some(Element { content: [0xff], .. }) => Ok(true),
            Some(_) => Err(NotDer("TRUE, or nothing where FALSE is the default")),
        }
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), NotDer> {
        if self.rest.is_empty() { Ok(()) } else { Err(NotDer("the end")) }
    }
}

fn tag_name(tag: u8) -> &'static str {
    match tag {
        BOOLEAN => "a boolean",
        INTEGER => "an integer",
        BIT_STRING => "a bit string",
        OCTET_STRING => "an octet string",
        OID => "an object identifier",
        IA5_STRING => "an IA5 string",
        SEQUENCE => "a sequence",
        SET => "a set",
        _ => "an element with the right tag",
    }
}

/// Identifier, length and content.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = head(tag, content.len());
    out.extend_from_slice(content);
    out
}

/// Identifier and length, for content that follows.
pub fn head(tag: u8, length: usize) -> Vec<u8> {
    let mut out = vec![tag];
    if length < 0x80 {
        // The cast cannot cut: the length is below 128.
        out.push(length as u8);
    } else {
        let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
        out.push(0x80 | digits.len() as u8);
        out.extend_from_slice(&digits);
    }
    out
}

/// A SEQUENCE of parts that are DER already.
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, &parts.concat())
}

/// A BIT STRING of whole bytes.
pub fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &[&[0], bytes].concat())
}

/// A non-negative INTEGER from big-endian bytes.
pub fn unsigned_integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let digits = &bytes[start..];
    match digits.first() {
        None => element(INTEGER, &[0]),
        Some(first) if first & 0x80 != 0 => element(INTEGER, &[&[0], digits].concat()),
        Some(_) => element(INTEGER, digits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_that_are_not_minimal_are_refused() {
        let refused: &[&[u8]] = &[
            &[],
            &[0x30],
            &[0x30, 0x80, 0x00, 0x00],
            &[0x30, 0x81, 0x00],
            &[0x30, 0x81, 0x7f],
            &[0x30, 0x82, 0x00, 0x80],
            &[0x30, 0x84, 0, 0, 0, 1, 0],
            &[0x30, 0x01],
            &[0x3f, 0x81, 0x01, 0x00],
        ];
        for bytes in refused {
            assert!(Reader::new(bytes).any().is_err(), "{bytes:02x?}");
        }
        for bytes in [&[0x02, 0x00][..], &[0x02, 0x02, 0x00, 0x01], &[0x02, 0x02, 0xff, 0x80], &[0x04, 0x01, 0x01]] {
            assert!(Reader::new(bytes).integer().is_err(), "{bytes:02x?}");
        }
        for bytes in [&[0x01, 0x01, 0x00][..], &[0x01, 0x01, 0x01], &[0x01, 0x00]] {
            assert!(Reader::new(bytes).default_false().is_err(), "{bytes:02x?}");
        }
        for bytes in [&[0x06, 0x00][..], &[0x06, 0x01, 0x80], &[0x06, 0x02, 0x80, 0x01], &[0x06, 0x02, 0x2a, 0x86]] {
            assert!(Reader::new(bytes).oid().is_err(), "{bytes:02x?}");
        }
        assert!(Reader::whole_sequence(&[0x30, 0x00, 0x00]).is_err());
        assert!(Reader::new(&[0x02, 0x01, 0xff]).unsigned().is_err());
        assert!(Reader::new(&[0x02, 0x09, 1, 0, 0, 0, 0, 0, 0, 0, 0]).unsigned().is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let written = element(OCTET_STRING, &content);
            let mut reader = Reader::new(&written);
            assert_eq!(reader.octet_string().unwrap(), content);
            reader.finish().unwrap();
        }
        for value in [0_u64, 1, 127, 128, 255, 256, u64::MAX] {
            let written = unsigned_integer(&value.to_be_bytes());
            assert_eq!(Reader::new(&written).unsigned(), Ok(value));
        }
        let bits = bit_string(&[1, 2]);
        assert_eq!(Reader::new(&bits).bit_string_bytes(), Ok(&[1, 2][..]));
    }
}
