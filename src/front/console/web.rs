//! What every answer of the console has, and how a request is read: limits, form fields, cookies, headers.

use std::convert::Infallible;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Incoming};
use maud::Markup;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::kernel::json;
use crate::ops::failure::{Failure, Kind};

/// An answer's body: a page, or a stream of events.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;
pub type Answer = Response<Body>;

/// A form, an assertion, a policy: nothing that people send is longer.
const BODY_BYTES_MAX: usize = 256 * 1024;
const JSON_DEPTH_MAX: usize = 16;

/// Everything is ours and nothing is written into a page but text; nobody frames it, no form goes elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types console";

/// An answer with every header that all of them have.
pub fn answer(status: StatusCode, media: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    dress(response.headers_mut(), media);
    response
}

/// The headers of an answer of this kind.
pub fn dress(headers: &mut HeaderMap, media: &'static str) {
    for (name, value) in [
        (header::CONTENT_TYPE, media),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Without a referrer at all, a form says no origin either (Fetch, 3.2).
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (
            HeaderName::from_static("permissions-policy"),
            "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), microphone=(), geolocation=()",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// A page.
pub fn page(status: StatusCode, markup: Markup) -> Answer {
    answer(status, "text/html; charset=utf-8", markup.into_string())
}

/// JSON, for the scripts of a page.
pub fn object(status: StatusCode, value: &Value) -> Answer {
    answer(status, "application/json", value.to_string())
}

/// A failure as JSON, with the status that its kind has.
pub fn failed(failure: &Failure) -> Answer {
    object(status_of(failure), &failure.to_json())
}

pub fn status_of(failure: &Failure) -> StatusCode {
    match failure.kind {
        Kind::Refused => StatusCode::FORBIDDEN,
        Kind::Usage => StatusCode::BAD_REQUEST,
        Kind::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Fault | Kind::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Goes on elsewhere with a GET.
pub fn see(path: &str) -> Answer {
    let mut response = answer(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", "");
    let place = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, place);
    response
}

pub fn plain(status: StatusCode, name: &'static str) -> Answer {
    answer(status, "text/plain; charset=utf-8", format!("{name}\n"))
}

/// The bytes of a request's body.
///
/// # Errors
/// `body_too_long`, which is also what a broken one is called.
pub async fn body(incoming: Incoming) -> Result<Bytes, Failure> {
    match Limited::new(incoming, BODY_BYTES_MAX).collect().await {
        Ok(read) => Ok(read.to_bytes()),
        Err(_) => Err(Failure::usage("body_too_long", "the request cannot be read", "send less")),
    }
}

/// A strict JSON body as `T`.
///
/// # Errors
/// `request_malformed`
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let malformed = || Failure::usage("request_malformed", "the request is not what its page sends", "reload the page");
    json::check(bytes, BODY_BYTES_MAX, JSON_DEPTH_MAX).map_err(|_| malformed())?;
    serde_json::from_slice(bytes).map_err(|_| malformed())
}

/// The fields of a form or a query, in their order.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    pub fn of(bytes: &[u8]) -> Self {
        Self(form_urlencoded::parse(bytes).into_owned().collect())
    }

    /// The value of a field that has one.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.trim().is_empty()).map(|(_, value)| value.trim())
    }

    /// Every value of a field that may be given several times.
    pub fn all(&self, name: &str) -> Vec<String> {
        let of_name = self.0.iter().filter(|(key, value)| key == name && !value.trim().is_empty());
        of_name.map(|(_, value)| value.trim().to_owned()).collect()
    }

    /// A field that a form always has.
    ///
    /// # Errors
    /// `field_missing`
    pub fn needed(&self, name: &str) -> Result<&str, Failure> {
        self.text(name).ok_or_else(|| Failure::usage("field_missing", format!("{name} is empty"), "fill it in"))
    }

    /// A field as the type that it has.
    ///
    /// # Errors
    /// `field_invalid`
    pub fn parsed<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let invalid =
            |text: &str| Failure::usage("field_invalid", format!("{name}: {text:?} cannot be it"), "correct it");
        self.text(name).map(|text| text.parse().map_err(|_| invalid(text))).transpose()
    }

    /// The same as JSON values have it: names of things that are read as text.
    ///
    /// # Errors
    /// `field_invalid`
    pub fn typed<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure> {
        let invalid =
            |text: &str| Failure::usage("field_invalid", format!("{name}: {text:?} cannot be it"), "correct it");
        self.text(name).map(|text| serde_json::from_value(json!(text)).map_err(|_| invalid(text))).transpose()
    }
}

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.find_map(|line| line.split(';').find_map(|one| one.trim().strip_prefix(name)?.strip_prefix('=')))
}

/// Whether a request that changes something comes from one of our own pages. Browsers say so themselves
/// (Fetch Metadata, and `Origin`, RFC 6454); one that says neither is none.
pub fn is_from_here(headers: &HeaderMap, origin: &str) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let site = text(HeaderName::from_static("sec-fetch-site"));
    text(header::ORIGIN) == Some(origin) && site.is_none_or(|site| site == "same-origin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_pages_change_anything() {
        let ours = "https://bank.example:8445";
        let table = [
            (Some(ours), Some("same-origin"), true),
            (Some(ours), None, true),
            (None, Some("same-origin"), false),
            (None, None, false),
            (Some("null"), Some("same-origin"), false),
            (Some("https://bank.example"), Some("same-origin"), false),
            (Some("https://bank.example:8445.evil.example"), None, false),
            (Some("http://bank.example:8445"), None, false),
            (Some(ours), Some("same-site"), false),
            (Some(ours), Some("cross-site"), false),
            (Some(ours), Some("none"), false),
        ];
        for (origin, site, is_ours) in table {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            if let Some(site) = site {
                headers.insert("sec-fetch-site", site.parse().unwrap());
            }
            assert_eq!(is_from_here(&headers, ours), is_ours, "{origin:?} {site:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, "x__Host-a=1; __Host-ab=2; __Host-a=3".parse().unwrap());
        assert_eq!(cookie(&headers, "__Host-a"), Some("3"));
        assert_eq!(cookie(&headers, "__Host-"), None);
    }

    #[test]
    fn fields_are_trimmed_and_empty_ones_are_none() {
        let fields = Fields::of(b"a=+x+&b=&role=one&role=two&n=12&m=1.5");
        assert_eq!((fields.text("a"), fields.text("b"), fields.text("c")), (Some("x"), None, None));
        assert_eq!(fields.all("role"), ["one", "two"]);
        assert_eq!(fields.parsed::<u32>("n").unwrap(), Some(12));
        assert_eq!(fields.parsed::<u32>("m").unwrap_err().name, "field_invalid");
        assert_eq!(fields.needed("b").unwrap_err().name, "field_missing");
    }
}
