//! The audit explorer: leaves by what they say, one leaf with its proof, the log's head and who has cosigned it.
//!
//! The proof of a leaf is the file that `audit prove` writes; the page's script computes its way to the root again, in the
//! reader's own browser.

use http::{HeaderValue, StatusCode, header};
use maud::html;
use serde_json::{Value, json};

use super::desk::{no_such, pretty, with};
use super::layout::{self, cell, id, state, text, time};
use super::web::{self, Answer, Fields};
use super::{Console, Who};
use crate::audit::prove::LeafChoice;
use crate::audit::search::{Order, SearchCall, SearchQuery, Span};
use crate::front::admin::AdminCall;
use crate::kernel::note::SignedNote;
use crate::kernel::receipt::parse_time;
use crate::ops::failure::Failure;

const PAGE: u32 = 50;
/// Checkpoints of the history.
const CHECKPOINTS: u32 = 25;
/// What a search may ask for by name.
const FIELDS: [&str; 10] =
    ["agent", "account", "tool", "decision", "transaction", "key", "credential", "since", "until", "from"];

impl Console {
    pub(super) fn audit(&self, who: &Who, query: &Fields) -> Result<Answer, Failure> {
        let time_of = |name: &str| -> Result<_, Failure> {
            let invalid =
                |raw: &str| Failure::usage("field_invalid", format!("{name}: {raw:?} is no time"), "write RFC 3339");
            // A browser's date field says the day alone.
            let whole = query
                .text(name)
                .map(|raw| if raw.len() == 10 { format!("{raw}T00:00:00.000Z") } else { raw.to_owned() });
            whole.map(|raw| parse_time(&raw).ok_or_else(|| invalid(&raw))).transpose()
        };
        let wanted = SearchQuery {
            account: query.typed("account")?,
            agent: query.text("agent").map(str::to_owned),
            credential: query.text("credential").map(str::to_owned),
            decision: query.text("decision").map(str::to_owned),
            key: query.text("key").map(str::to_owned),
            since: time_of("since")?,
            tool: query.text("tool").map(str::to_owned),
            transaction: query.typed("transaction")?,
            until: time_of("until")?,
            amount_max: None,
            amount_min: None,
        };
        let span = match (query.parsed("from")?, query.parsed("end")?) {
            (Some(from), Some(end)) => Some(Span { from, end }),
            (None, _) | (_, None) => None,
        };
        let call = SearchCall { query: wanted, order: Order::NewestFirst, span, limit: PAGE };
        let found = self.call(who, AdminCall::AuditSearch(call))?;
        let field = |name: &'static str, label: &'static str| {
            html! { label { (label) input name=(name) value=(query.text(name).unwrap_or_default()) autocomplete="off"; } }
        };
        let body = html! {
            p { a href="/audit/log" { "Head, checkpoints and witness" } }
            form.card method="get" role="search" { div.fields {
                (field("agent", "Who (agent, person, program)")) (field("account", "Account")) (field("tool", "Tool or act"))
                (field("decision", "Decision or refusal")) (field("transaction", "Transaction"))
                (field("key", "Key")) (field("credential", "Credential"))
                label { "Since" input name="since" type="date" value=(query.text("since").unwrap_or_default()); }
                label { "Until" input name="until" type="date" value=(query.text("until").unwrap_or_default()); }
                button type="submit" { "Search" }
            } }
            (layout::table("Leaves", &["Leaf", "At", "Who", "What", "Decision", "Why"], &layout::items(&found).iter().map(|leaf| {
                let said = &leaf["body"];
                vec![
                    html! { a href={ "/audit/leaf/" (leaf["index"]) } { (leaf["index"]) } },
                    time(&said["at"]),
                    match said["actor"]["name"].as_str().or(said["actor"]["spiffe_id"].as_str()) {
                        Some(name) => text(name), None => cell(&said["actor"]["component"]) },
                    match said["tool"].as_str().or(said["act"].as_str()) { Some(what) => text(what), None => cell(&leaf["content"]) },
                    state(said["result"]["status"].as_str().or(said["decision"].as_str()).unwrap_or_default()),
                    cell(&said["reason"]),
                ]
            }).collect::<Vec<_>>(), "No leaf fits."))
            p.muted { (found["scanned"]) " leaves were looked at, " (found["unread"]) " of them erased. The log has " (found["size"]) "." }
            @if found["next"].is_object() {
                @let rest = with(query, "/audit", &FIELDS[..9]);
                p { a.button href={ (rest) (if rest.contains('?') { "&" } else { "?" }) "from=" (found["next"]["from"]) "&end=" (found["next"]["end"]) } { "Older ones" } }
            }
        };
        Ok(web::page(StatusCode::OK, self.page(who, "Audit log", "/audit", &body)))
    }

    pub(super) fn leaf(&self, who: &Who, index: &str) -> Result<Answer, Failure> {
        let index: u64 = index.parse().map_err(|_| no_such("leaf"))?;
        let leaf = self.services.setup.store.leaves(index, 1)?.into_iter().find(|leaf| leaf.index == Some(index));
        let leaf = leaf.ok_or_else(|| no_such("leaf"))?;
        let said: Option<Value> = leaf.body().and_then(|body| serde_json::from_slice(body).ok());
        let body = html! {
            section.card data-leaf=(index) aria-labelledby="proof" {
                h2 #proof { "Its place in the log" }
                (layout::facts(&[("Leaf", html! { (index) }), ("Commitment", id(&json!(leaf.commitment)))]))
                p data-proof role="status" { "Without JavaScript: " code { "countersign audit prove --index " (index) } }
                p.actions { a.button.quiet href={ "/audit/leaf/" (index) "/proof" } download={ "leaf-" (index) ".tlog-proof" } { "The proof as a file" }
                    @if index > 0 { a.button.quiet href={ "/audit/leaf/" (index - 1) } { "The leaf before" } }
                    a.button.quiet href={ "/audit/leaf/" (index + 1) } { "The next leaf" } }
            }
            section.card aria-labelledby="says" { h2 #says { "What it says" }
                @match &said {
                    Some(said) => { (layout::facts(&[
                        ("At", time(&said["at"])), ("Who", match said["actor"]["name"].as_str() { Some(name) => text(name), None => cell(&said["actor"]) }),
                        ("What", cell(if said["tool"].is_null() { &said["act"] } else { &said["tool"] })),
                        ("Decision", state(said["decision"].as_str().unwrap_or_default())), ("Why", cell(&said["reason"])),
                    ])) pre { (pretty(said)) } }
                    None => p.notice.wait { "Erased, or not readable: its place and its proof stand all the same." }
                }
            }
        };
        Ok(web::page(
            StatusCode::OK,
            layout::page_with(
                Some(who),
                self.services.setup.party.as_str(),
                &format!("Leaf {index}"),
                "/audit",
                &body,
                &["/assets/proof.js"],
            ),
        ))
    }

    /// The file that `audit prove` writes.
    pub(super) fn proof(&self, who: &Who, index: &str) -> Result<Answer, Failure> {
        let index: u64 = index.parse().map_err(|_| no_such("leaf"))?;
        let proof = self.call(who, AdminCall::AuditProve { leaf: LeafChoice::Index(index) })?;
        let text = proof["proof"].as_str().unwrap_or_default().to_owned();
        let mut answer = web::answer(StatusCode::OK, "text/plain; charset=utf-8", text);
        answer.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
        Ok(answer)
    }

    pub(super) fn log_page(&self, who: &Who) -> Result<Answer, Failure> {
        let store = &self.services.setup.store;
        let size = store.signed_checkpoint()?.map_or(0, |checkpoint| checkpoint.size);
        let witness = self.call(who, AdminCall::WitnessStatus {});
        let mut checkpoints = vec![];
        // The newest lie behind some size: tried from near the end on.
        let mut behind = 64_u64;
        while checkpoints.len() < CHECKPOINTS as usize {
            let from = size.saturating_sub(behind);
            checkpoints = store.checkpoints(from, 4_096)?;
            if from == 0 || behind > 1 << 20 {
                break;
            }
            behind *= 4;
        }
        let newest: Vec<_> = checkpoints.iter().rev().take(CHECKPOINTS as usize).collect();
        let body = html! {
            section.card aria-labelledby="witness" { h2 #witness { "Witness" }
                @match &witness {
                    Ok(status) if status["cosigning"].is_object() => {
                        (layout::facts(&[
                            ("Origin", cell(&status["origin"])), ("Cosigned leaves", cell(&status["cosigning"]["cosigned_size"])),
                            ("Behind by", html! { (cell(&status["cosigning"]["lag_leaves"])) " leaves, " (cell(&status["cosigning"]["lag_ms"])) " ms" }),
                            ("Witness", cell(&status["cosignature"]["witness"])), ("Last cosigned", time(&status["cosignature"]["at"])),
                            ("Fault", cell(&status["cosigning"]["fault"])),
                        ]))
                    }
                    Ok(_) => p { "No witness cosigns this log: `countersign doctor` says how one would." },
                    Err(failure) => (layout::failure(failure)),
                }
            }
            h2 { "The newest checkpoints" }
            (layout::table("Checkpoints", &["Leaves", "Root", "Signatures"], &newest.iter().map(|one| vec![
                html! { (one.size) }, id(&json!(one.root)),
                html! { (one.signed.as_ref().and_then(|signed| SignedNote::parse(signed).ok()).map_or(0, |note| note.signatures.len())) },
            ]).collect::<Vec<_>>(), "No checkpoint was signed yet."))
        };
        Ok(web::page(StatusCode::OK, self.page(who, "The log", "/audit", &body)))
    }
}
