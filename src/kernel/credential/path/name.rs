//! Names in certificates: distinguished names and every GeneralName (RFC 5280, 4.1.2.4, 4.2.1.6, 7).

use crate::kernel::credential::der::{self, Element, NotDer, Reader};

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 1.2.840.113549.1.9.1
pub(super) const EMAIL_ADDRESS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01];
const NUMERIC_STRING: u8 = 0x12;
const TELETEX_STRING: u8 = 0x14;
const UNIVERSAL_STRING: u8 = 0x1c;
const BMP_STRING: u8 = 0x1e;

/// A GeneralName, read but not yet judged: what is well-formed differs between a subject and a constraint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GeneralName<'a> {
    Other,
    Email(&'a str),
    Dns(&'a str),
    X400,
    /// A Name, DER.
    Directory(&'a [u8]),
    Edi,
    Uri(&'a str),
    Ip(&'a [u8]),
    Registered,
}

impl<'a> GeneralName<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, NotDer> {
        let Element { tag, content, .. } = reader.any()?;
        let ascii = || std::str::from_utf8(content).ok().filter(|text| text.is_ascii()).ok_or(NotDer("an IA5 string"));
        match tag {
            0xa0 => {
                let mut inner = Reader::new(content);
                inner.oid()?;
                let mut value = Reader::new(inner.element(der::context_constructed(0))?.content);
                value.any()?;
                value.finish()?;
                inner.finish()?;
                Ok(Self::Other)
            }
            0x81 => ascii().map(Self::Email),
            0x82 => ascii().map(Self::Dns),
            0xa3 => Ok(Self::X400),
            0xa4 => {
                let mut inner = Reader::new(content);
                let name = inner.element(der::SEQUENCE)?.raw;
                inner.finish()?;
                Ok(Self::Directory(name))
            }
            0xa5 => Ok(Self::Edi),
            0x86 => ascii().map(Self::Uri),
            0x87 => Ok(Self::Ip(content)),
            0x88 => Reader::new(&der::element(der::OID, content)).oid().map(|_| Self::Registered),
            _ => Err(NotDer("a general name")),
        }
    }

    /// True when it is a name that a subject can have.
    pub(super) fn is_well_formed(self) -> bool {
        match self {
            Self::Other | Self::Registered => true,
            // Nobody uses them, and nobody could compare them.
            Self::X400 | Self::Edi => false,
            Self::Email(text) => mailbox(text).is_some(),
            Self::Dns(text) => is_dns_name(text.strip_prefix("*.").filter(|base| base.contains('.')).unwrap_or(text)),
            Self::Directory(name) => name != [der::SEQUENCE, 0] && check_name(name).is_ok(),
            Self::Uri(text) => is_uri(text),
            Self::Ip(address) => matches!(address.len(), 4 | 16),
        }
    }

    /// The GeneralNames of a SEQUENCE or of implicitly tagged content, at least one.
    pub(super) fn read_all(mut list: Reader<'a>) -> Result<Vec<Self>, NotDer> {
        let mut names = Vec::new();
        while !list.is_empty() {
            names.push(Self::read(&mut list)?);
        }
        if names.is_empty() { Err(NotDer("at least one name")) } else { Ok(names) }
    }
}

/// Letters, digits and hyphens in labels of 1 to 63 (RFC 1034, 3.5; RFC 1123, 2.1), not all of the last one digits.
pub(super) fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && !last_is_number
}

/// Local part and host of a mailbox (RFC 5321, 4.1.2). Address literals are not taken.
pub(super) fn mailbox(text: &str) -> Option<(&str, &str)> {
    let (local, host) = text.rsplit_once('@')?;
    let atom = |atom: &str| {
        !atom.is_empty()
            && atom.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte))
    };
    let quoted = || {
        let inner = local.strip_prefix('"')?.strip_suffix('"')?;
        let mut bytes = inner.bytes();
        while let Some(byte) = bytes.next() {
            let escaped = if byte == b'\\' { bytes.next()? } else { byte };
            if !(b' '..=b'~').contains(&escaped) || byte == b'"' {
                return None;
            }
        }
        Some(())
    };
    let local_fits = local.len() <= 64 && (local.split('.').all(atom) || quoted().is_some());
    (local_fits && is_dns_name(host)).then_some((local, host))
}

/// An absolute URI (RFC 3986, 3) with something after its scheme; an authority names a host.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let scheme_fits = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        let fits = match byte {
            b'%' => bytes
                .next()
                .zip(bytes.next())
                .is_some_and(|(high, low)| high.is_ascii_hexdigit() && low.is_ascii_hexdigit()),
            _ => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(&byte),
        };
        if !fits {
            return false;
        }
    }
    // `ldap:///…` and `file:///…` have an authority that is empty.
    let host_fits = !rest.starts_with("//") || rest.starts_with("///") || authority_host(text).is_some();
    scheme_fits && !rest.is_empty() && host_fits
}

/// The host of a URI's authority: a name or an address.
fn authority_host(uri: &str) -> Option<&str> {
    let authority = uri.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(literal) = host.strip_prefix('[') {
        let (address, port) = literal.split_once(']')?;
        let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return (port_fits && address.parse::<std::net::Ipv6Addr>().is_ok()).then_some(address);
    }
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let address = name.parse::<std::net::Ipv4Addr>().is_ok();
    (is_port(port) && (address || is_dns_name(name))).then_some(name)
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The host name of a URI. `None`: it has none, or an address (RFC 5280, 4.2.1.10: then it cannot be constrained).
pub(super) fn uri_host_name(uri: &str) -> Option<&str> {
    authority_host(uri).filter(|host| is_dns_name(host))
}

/// Attributes of one RelativeDistinguishedName.
pub(super) type Rdn<'a> = Vec<Attribute<'a>>;

/// Type and value of one attribute of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Attribute<'a> {
    pub oid: &'a [u8],
    pub tag: u8,
    pub content: &'a [u8],
}

/// The parts of a Name (DER), every string of which must be one.
pub(super) fn check_name(name: &[u8]) -> Result<Vec<Rdn<'_>>, NotDer> {
    let mut parts = Reader::whole_sequence(name)?;
    let mut rdns = Vec::new();
    while !parts.is_empty() {
        let mut set = Reader::new(parts.element(der::SET)?.content);
        let mut rdn = Vec::new();
        let mut before: &[u8] = &[];
        while !set.is_empty() {
            let attribute = set.element(der::SEQUENCE)?;
            // X.690, 11.6: the elements of a SET OF are sorted. Two equal ones would be one.
            if attribute.raw <= before {
                return Err(NotDer("a sorted set"));
            }
            before = attribute.raw;
            let mut inner = Reader::new(attribute.content);
            let oid = inner.oid()?;
            let Element { tag, content, .. } = inner.any()?;
            inner.finish()?;
            if !is_string(tag, content) {
                return Err(NotDer("a string of its type"));
            }
            rdn.push(Attribute { oid, tag, content });
        }
        if rdn.is_empty() {
            return Err(NotDer("a name part that is not empty"));
        }
        rdns.push(rdn);
    }
    Ok(rdns)
}

fn is_string(tag: u8, content: &[u8]) -> bool {
    let all = |fits: fn(u8) -> bool| content.iter().copied().all(fits);
    let fits = match tag {
        der::PRINTABLE_STRING => all(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte)),
        der::UTF8_STRING => std::str::from_utf8(content).is_ok(),
        der::IA5_STRING => content.is_ascii(),
        NUMERIC_STRING => all(|byte| byte.is_ascii_digit() || byte == b' '),
        TELETEX_STRING => true,
        BMP_STRING => content.len().is_multiple_of(2),
        UNIVERSAL_STRING => content.len().is_multiple_of(4),
        // Types that are no strings, in attributes that hold something else.
        _ => return true,
    };
    fits && !content.is_empty()
}

impl Attribute<'_> {
    /// RFC 5280, 7.1: strings are compared without regard to case, to the type of the string and to repeated spaces.
    pub(super) fn equals(&self, other: &Self) -> bool {
        let same_value = match (self.text(), other.text()) {
            (Some(one), Some(two)) => folded(&one) == folded(&two),
            (Some(_), None) | (None, Some(_)) | (None, None) => self.tag == other.tag && self.content == other.content,
        };
        self.oid == other.oid && same_value
    }

    /// The value as text, for the types that are text.
    pub(super) fn text(&self) -> Option<String> {
        match self.tag {
            der::PRINTABLE_STRING | der::UTF8_STRING | der::IA5_STRING | NUMERIC_STRING => {
                std::str::from_utf8(self.content).ok().map(str::to_owned)
            }
            TELETEX_STRING => Some(self.content.iter().copied().map(char::from).collect()),
            BMP_STRING => {
                let units: Vec<u16> =
                    self.content.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
                String::from_utf16(&units).ok()
            }
            UNIVERSAL_STRING => self
                .content
                .chunks_exact(4)
                .map(|unit| char::from_u32(u32::from_be_bytes([unit[0], unit[1], unit[2], unit[3]])))
                .collect(),
            _ => None,
        }
    }
}

fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// True when `name` is `base` or below it: its first parts are those of `base`. DER; what cannot be read is not.
pub(super) fn directory_is_within(name: &[u8], base: &[u8]) -> bool {
    let (Ok(name), Ok(base)) = (check_name(name), check_name(base)) else {
        return false;
    };
    let same = |one: &Rdn<'_>, two: &Rdn<'_>| {
        one.len() == two.len() && one.iter().all(|attribute| two.iter().any(|other| attribute.equals(other)))
    };
    base.len() <= name.len() && base.iter().zip(&name).all(|(one, two)| same(one, two))
}

/// A Name (DER) for people to read, its first part first: `C=CH, O=Bank, CN=shopper`.
pub(super) fn text_of(name: &[u8]) -> String {
    const TYPES: &[(&[u8], &str)] = &[
        (COMMON_NAME, "CN"),
        (&[0x55, 0x04, 0x06], "C"),
        (&[0x55, 0x04, 0x07], "L"),
        (&[0x55, 0x04, 0x08], "ST"),
        (&[0x55, 0x04, 0x0a], "O"),
        (&[0x55, 0x04, 0x0b], "OU"),
        (EMAIL_ADDRESS, "emailAddress"),
    ];
    let attributes = check_name(name).unwrap_or_default().into_iter().flatten();
    let texts = attributes.map(|attribute| {
        let kind = TYPES.iter().find(|(oid, _)| *oid == attribute.oid);
        let kind = kind.map_or_else(|| hex::encode(attribute.oid), |(_, short)| (*short).to_owned());
        let value = attribute.text().unwrap_or_else(|| hex::encode(attribute.content));
        format!("{kind}={}", value.escape_debug())
    });
    texts.collect::<Vec<_>>().join(", ")
}
