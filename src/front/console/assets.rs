//! Files of the pages: compiled in, compressed once, kept by browsers until they change.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::body::Bytes;

use super::live_markup;
use super::web::{self, Answer};
use crate::kernel::types::Sha256;

/// Besides those of the live view ([`live_markup::ASSETS`]).
const FILES: [(&str, &str, &[u8]); 4] = [
    ("console.css", "text/css; charset=utf-8", include_bytes!("assets/console.css")),
    ("console.js", "text/javascript; charset=utf-8", include_bytes!("assets/console.js")),
    ("proof.js", "text/javascript; charset=utf-8", include_bytes!("assets/proof.js")),
    ("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
];

struct Asset {
    media: &'static str,
    plain: &'static [u8],
    gzip: Bytes,
    tag: String,
}

static ASSETS: LazyLock<BTreeMap<&'static str, Asset>> = LazyLock::new(|| {
    let asset = |&(name, media, plain): &(&'static str, &'static str, &'static [u8])| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        // Into memory: it does not fail, and if it did the plain one is there.
        let gzip = encoder.write_all(plain).and_then(|()| encoder.finish()).unwrap_or_default();
        let tag = format!("\"{}\"", &Sha256::of(&[plain]).to_string()[..32]);
        (name, Asset { media, plain, gzip: gzip.into(), tag })
    };
    let of_live = live_markup::ASSETS.map(|(name, media, text)| (name, media, text.as_bytes()));
    FILES.iter().chain(&of_live).map(asset).collect()
});

/// Answers below `/assets/`.
pub fn answer(method: &Method, name: &str, headers: &HeaderMap) -> Answer {
    let Some(asset) = ASSETS.get(name) else {
        return web::plain(StatusCode::NOT_FOUND, "unknown_path");
    };
    if method != Method::GET && method != Method::HEAD {
        return web::plain(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known = text(header::IF_NONE_MATCH) == asset.tag;
    let is_packed = text(header::ACCEPT_ENCODING).contains("gzip") && !asset.gzip.is_empty();
    let mut answer = if is_known {
        web::answer(StatusCode::NOT_MODIFIED, asset.media, "")
    } else if is_packed {
        web::answer(StatusCode::OK, asset.media, asset.gzip.clone())
    } else {
        web::answer(StatusCode::OK, asset.media, asset.plain)
    };
    let kept = answer.headers_mut();
    kept.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    kept.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(tag) = HeaderValue::from_str(&asset.tag) {
        kept.insert(header::ETAG, tag);
    }
    if is_packed && !is_known {
        kept.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First load: everything that any page asks for.
    const FIRST_LOAD_MAX: usize = 150 * 1024;

    #[test]
    fn all_that_a_first_page_loads_is_small() {
        let all: usize = ASSETS.values().map(|asset| asset.gzip.len()).sum();
        assert!(all < FIRST_LOAD_MAX, "{all} bytes");
    }

    #[test]
    fn a_file_is_packed_for_whoever_takes_it_and_not_sent_twice() {
        let mut headers = HeaderMap::new();
        let plain = answer(&Method::GET, "console.js", &headers);
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br, gzip"));
        let packed = answer(&Method::GET, "console.js", &headers);
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        headers.insert(header::IF_NONE_MATCH, packed.headers()[header::ETAG].clone());
        assert_eq!(answer(&Method::GET, "console.js", &headers).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answer(&Method::GET, "../mod.rs", &headers).status(), StatusCode::NOT_FOUND);
        assert_eq!(answer(&Method::POST, "console.js", &headers).status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
