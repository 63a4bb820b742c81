//! What a signature covers, by name (RFC 9421, 2.1 and 2.2), and the parts of a URL that it may name.

use crate::kernel::httpsig::base::is_plain;

/// One covered component: its name, and `name` of a query parameter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Component {
    pub name: String,
    pub parameter: Option<String>,
}

impl Component {
    /// Reads `@method`, `content-type`, `@query-param;name="pet"`; the name also in quotes, as identifiers are written.
    pub fn read(text: &str) -> Option<Self> {
        let (name, parameter) = match text.split_once(';') {
            None => (text, None),
            Some((name, parameter)) => {
                let value = parameter.trim_start().strip_prefix("name=\"")?.strip_suffix('"')?;
                (name, Some(value.to_owned()))
            }
        };
        let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
        Self { name: name.to_owned(), parameter }.checked()
    }

    pub fn of_item(item: &sfv::Item) -> Option<Self> {
        let name = item.bare_item.as_string()?.as_str().to_owned();
        let parameter = match item.params.len() {
            0 => None,
            1 => Some(item.params.get("name")?.as_string()?.as_str().to_owned()),
            _ => return None,
        };
        Self { name, parameter }.checked()
    }

    /// A derived component of RFC 9421, 2.2, or the name of a field in lower case.
    fn checked(self) -> Option<Self> {
        let is_query = self.name == "@query-param";
        let plain = |text: &str| is_plain(text) && !text.contains(['"', '\\']);
        if is_query != self.parameter.is_some() || self.parameter.as_deref().is_some_and(|text| !plain(text)) {
            return None;
        }
        let known = DERIVED.contains(&self.name.as_str());
        let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let field = !self.name.is_empty() && self.name.bytes().all(token);
        (known || (field && !self.name.starts_with('@'))).then_some(self)
    }

    /// The identifier as it is signed (RFC 9421, 2).
    pub fn identifier(&self) -> String {
        match &self.parameter {
            Some(parameter) => format!("\"{}\";name=\"{parameter}\"", self.name),
            None => format!("\"{}\"", self.name),
        }
    }
}

const DERIVED: [&str; 9] = [
    "@method",
    "@target-uri",
    "@authority",
    "@scheme",
    "@request-target",
    "@path",
    "@query",
    "@query-param",
    "@status",
];

/// An absolute URL taken apart (RFC 9110, 4.2.3: without user and fragment).
pub(super) struct Target<'a> {
    pub scheme: &'a str,
    pub authority: String,
    pub path: &'a str,
    pub query: Option<&'a str>,
}

impl<'a> Target<'a> {
    pub fn read(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let default_port = match scheme {
            "https" => ":443",
            "http" => ":80",
            _ => return None,
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.is_empty() || authority.contains('@') || url.contains('#') || !is_plain(url) || url.contains(' ') {
            return None;
        }
        let authority = authority.to_ascii_lowercase();
        let authority = authority.strip_suffix(default_port).unwrap_or(&authority).to_owned();
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        Some(Self { scheme, authority, path: if path.is_empty() { "/" } else { path }, query })
    }

    /// As both ends of a connection have it (RFC 9110, 4.2.3): host in lower case, no port that goes without saying, and
    /// a path.
    pub fn uri(&self) -> String {
        let Self { scheme, authority, path, query } = self;
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{scheme}://{authority}{path}{query}")
    }
}

/// Bytes of a name or value of a query, as `application/x-www-form-urlencoded` has them (WHATWG URL, 5.1).
pub(super) fn form_decoded(text: &str) -> Vec<u8> {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = escaped.filter(|digits| *first == b'%' && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    bytes
}

/// The one way in which such bytes are written (RFC 9421, 2.2.8).
pub(super) fn percent_encoded(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"*-._".contains(&byte);
    let one = |byte: &u8| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    bytes.iter().map(one).collect()
}
