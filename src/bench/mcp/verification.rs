//! The verification of signed requests, on one thread, in turns with the bare verification of as many signatures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey, UnparsedPublicKey};
use serde::Serialize;
use serde_json::json;

use super::over;
use super::stage::Stage;
use crate::bench::figures::{Goal, Spread, figure};
use crate::bench::line::{self, Line};
use crate::bench::served::failed;
use crate::hsm::{KeyInfo, Token};
use crate::kernel::httpsig::{self, Components, SignedRequest, Window};
use crate::kernel::sign::{SignInput, raw_public_key};
use crate::kernel::types::UnixMillis;
use crate::mcp::signed_http;
use crate::ops::clock;
use crate::ops::failure::Failure;

const RATIO_MIN: f64 = 0.9;
/// Different requests, each with a signature of its own; none is ever out of the caches for long.
const MESSAGES: usize = 256;

/// Requests and signatures a second.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// The library's one call for a key and a signature.
    pub raw_per_second: Spread,
    /// The same with a key that was read before.
    pub raw_known_key_per_second: Spread,
    /// Headers read, digest compared, base composed, signature verified.
    pub per_second: Spread,
    pub ratio: Spread,
}

/// A request as the front hands it to the kernel.
struct Received {
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// What is signed of such a request, and its signature, DER.
struct Signed {
    base: Vec<u8>,
    signature: Vec<u8>,
}

/// # Errors
/// `bench_stopped`; `bench_failed` when a request or a signature is not valid.
pub(super) fn measure(stage: &Stage<'_>) -> Result<Verification, Failure> {
    let keys = stage.open_keys()?;
    let key = keys.first().ok_or_else(|| failed(&"no agent"))?;
    let (info, token) = (key.certified().key, key.token()?);
    let line = stage.lines(1)?.remove(0);
    // They are verified as of now, however long it takes.
    let now = clock::now();
    let received: Vec<Received> = (0..MESSAGES).map(|number| Received::of(&line, number)).collect::<Result<_, _>>()?;
    let signed: Vec<Signed> = received.iter().map(|one| one.signed(&info, &token)).collect::<Result<_, _>>()?;
    let (_, point) = raw_public_key(&info.spki).ok_or_else(|| failed(&"not a P-256 key"))?;
    let unknown = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
    let known = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).map_err(|error| failed(&error))?;

    // Three loops a round: no longer than two of another part.
    let time = stage.time().mul_f64(0.5);
    let mut rounds = vec![];
    for round in 1..=stage.plan.rounds {
        (stage.tell)(&format!("verification, round {round} of {}", stage.plan.rounds));
        stage.stop.check()?;
        let raw = a_second(&signed, time, |one| unknown.verify(&one.base, &one.signature).is_ok())?;
        let ours = a_second(&received, time, |one| one.verifies(&info, now))?;
        let raw_known = a_second(&signed, time, |one| known.verify_sig(&one.base, &one.signature).is_ok())?;
        rounds.push([raw, raw_known, ours]);
    }
    Ok(Verification {
        raw_per_second: over(&rounds, |[raw, ..]| *raw),
        raw_known_key_per_second: over(&rounds, |[_, known, _]| *known),
        per_second: over(&rounds, |[.., ours]| *ours),
        ratio: over(&rounds, |[raw, _, ours]| ours / raw),
    })
}

/// How many a second of these, again and again, on this thread.
fn a_second<T>(all: &[T], time: Duration, verifies: impl Fn(&T) -> bool) -> Result<f64, Failure> {
    let (mut done, begun) = (0_u64, Instant::now());
    while begun.elapsed() < time {
        if !all.iter().all(&verifies) {
            return Err(failed(&"a signature was not valid"));
        }
        done += all.len() as u64;
    }
    Ok(done as f64 / begun.elapsed().as_secs_f64())
}

impl Received {
    /// One that an agent's client sends, read as from the wire.
    fn of(line: &Line, number: usize) -> Result<Self, Failure> {
        let arguments = json!({ "account_id": "CHK_001", "idempotency_key": format!("verified-{number}") });
        let request = line.prepared("get_account_balance", &arguments)?;
        let (head, body) = line::split(&request).ok_or_else(|| failed(&"a request without an end"))?;
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let headers = lines.map(|(name, value)| (name.to_ascii_lowercase(), value.as_bytes().to_vec())).collect();
        Ok(Self { headers, body: body.to_vec() })
    }

    fn verifies(&self, key: &KeyInfo, now: UnixMillis) -> bool {
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let request = SignedRequest { method: "POST", target: "/mcp", headers: &headers, body: &self.body };
        let window = Window { now, lifetime_max_s: httpsig::LIFETIME_MAX_S, skew_max_s: 60 };
        httpsig::verify(&request, &key.spki, &window).is_ok()
    }

    /// A signature over the same values, for whoever reads no request.
    fn signed(&self, key: &KeyInfo, token: &Arc<dyn Token>) -> Result<Signed, Failure> {
        let value = |wanted: &str| {
            let found = self.headers.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        let always = |wanted: &str| value(wanted).ok_or_else(|| failed(&format!("no {wanted}")));
        let components = Components {
            method: "POST".into(),
            target_uri: format!("https://{}/mcp", always("host")?),
            content_digest: always("content-digest")?,
            protocol_version: always("mcp-protocol-version")?,
            mcp_method: always("mcp-method")?,
            mcp_name: value("mcp-name"),
            authorization: value("authorization"),
        };
        let base = components.draft(&signed_http::fresh(), key.id).base;
        let signature = token.sign(key.id, SignInput::HttpRequest { base: base.clone() })?;
        Ok(Signed { base, signature })
    }
}

impl Verification {
    pub(super) fn goals(&self) -> Vec<Goal> {
        vec![Goal::at_least("a request against its signature alone".into(), self.ratio.median, RATIO_MIN)]
    }

    pub(super) fn text(&self) -> String {
        [
            figure("signatures verified by the bare library", &self.raw_per_second, "/s"),
            figure("the same, with a key that was read before", &self.raw_known_key_per_second, "/s"),
            figure("requests verified, one thread", &self.per_second, "/s"),
        ]
        .concat()
    }
}
