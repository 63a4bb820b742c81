//! The web console: where account owners, approvers, risk staff, officers and auditors look, and decide with a passkey.
//!
//! One request: where it comes from (`web.rs`), whose session it is and whether that person's key still
//! counts (`Console::who`), then the page or the act, on a thread that may wait for the store. What a person may see and do
//! is decided where the command line's is (`admin::asked`); nothing is decided here. A word about a payment, and every act
//! but stopping, is signed by the person's passkey over what it is about (`approvals.rs`, `acts.rs`).

mod acts;
mod agents;
mod approvals;
mod assets;
mod desk;
mod layout;
mod listener;
mod live_markup;
mod log;
mod owner;
mod passkeys;
mod people;
mod rules;
pub mod sessions;
mod system;
mod web;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use maud::{Markup, html};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::passkeys::Ceremonies;
use self::sessions::{COOKIE, NoSession, Place, Session};
use self::web::{Answer, Fields};
use crate::front::admin::{self, AdminAnswer, AdminCall};
use crate::front::live::Live;
use crate::front::log_tiles::LogDoor;
use crate::front::services::Services;
use crate::kernel::command::{Act, Actor, Command, OperatorPrincipal};
use crate::kernel::series::Range;
use crate::kernel::types::{ApprovalId, OperatorName};
use crate::kernel::webauthn::RelyingParty;
use crate::ops::clock;
use crate::ops::failure::{Failure, Kind};
use crate::store::ApprovalView;

pub use listener::Pages;

/// Requests that wait for the store or the HSM at once: agents' payments go before people's pages.
const WORKING_MAX: usize = 8;
const WORKING_WAIT: Duration = Duration::from_secs(10);
/// Streams of events at once.
const STREAMS_MAX: usize = 1_000;
/// Between two looks whether a stream's person may still see it; every so many of them it is judged as a whole.
const STREAM_LOOK: Duration = Duration::from_secs(1);
const WHOLE_LOOK_TURNS: u64 = 10;
/// Between two looks at what waits when nobody says that something changed.
const WAITING_LOOK: Duration = Duration::from_secs(4);
/// Events that a slow reader may be behind.
const STREAM_BEHIND_MAX: usize = 4;
const LIVE_STREAM: &str = "/live/stream";

/// A piece of a stream.
type Piece = Result<Frame<Bytes>, std::convert::Infallible>;

/// Everything behind the console's address.
pub struct Console {
    services: Arc<Services>,
    /// None: its address has no host name, and so no passkeys.
    ceremonies: Option<Ceremonies>,
    relying: Option<RelyingParty>,
    /// The configuration in effect, TOML, without what an address may carry of a secret.
    config: String,
    log: LogDoor,
    working: Semaphore,
    streams: Arc<Semaphore>,
    live: Option<Arc<Live>>,
    /// What waits for the bank's people, for all who listen.
    waiting: watch::Sender<Arc<str>>,
}

/// Who is signed in, judged for this request.
#[derive(Clone, Debug)]
pub struct Who {
    pub session: Arc<Session>,
    pub principal: OperatorPrincipal,
    notice: Arc<Mutex<Option<String>>>,
}

impl Who {
    /// Whether the person has a role of the bank's own.
    fn is_of_bank(&self) -> bool {
        !self.principal.is_only_owner()
    }

    fn has(&self, role: &str) -> bool {
        self.principal.roles.iter().any(|own| own == role)
    }

    fn actor(&self) -> Actor {
        Actor::Operator(self.principal.clone())
    }

    fn take_notice(&self) -> Option<String> {
        self.notice.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One request, with its body read.
struct Asked {
    parts: Parts,
    body: Bytes,
    address: IpAddr,
}

impl Asked {
    fn words(&self) -> Vec<&str> {
        self.parts.uri.path().split('/').filter(|word| !word.is_empty()).collect()
    }

    fn query(&self) -> Fields {
        Fields::of(self.parts.uri.query().unwrap_or_default().as_bytes())
    }

    fn place(&self) -> Place {
        let agent = self.parts.headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
        Place::of(self.address, &String::from_utf8_lossy(agent))
    }

    fn is_read(&self) -> bool {
        self.parts.method == Method::GET || self.parts.method == Method::HEAD
    }
}

impl Console {
    pub fn new(services: Arc<Services>, log: LogDoor, live: Option<Arc<Live>>, config: String) -> Self {
        let relying = services.console_origin();
        let bank = services.setup.party.to_string();
        let ceremonies = relying.as_ref().and_then(|relying| {
            let made = Ceremonies::at(relying.origin(), relying.id(), &bank);
            made.inspect_err(|failure| tracing::warn!(name = %failure.name, "nobody can sign in at the console")).ok()
        });
        let (working, streams) = (Semaphore::new(WORKING_MAX), Arc::new(Semaphore::new(STREAMS_MAX)));
        let waiting = watch::Sender::new(summary(&[]).into());
        Self { services, ceremonies, relying, config, log, working, streams, live, waiting }
    }

    /// Answers one request from this address.
    async fn answer(self: &Arc<Self>, request: Request<Incoming>, address: IpAddr) -> Answer {
        let path = request.uri().path().to_owned();
        if let Some(of_log) = self.log.answer(request.method(), &path, request.headers()).await {
            return of_log.map(BodyExt::boxed_unsync);
        }
        if let Some(asset) = path.strip_prefix("/assets/") {
            return assets::answer(request.method(), asset, request.headers());
        }
        let (parts, incoming) = request.into_parts();
        let body = match web::body(incoming).await {
            Ok(body) => body,
            Err(failure) => return web::failed(&failure),
        };
        let asked = Asked { parts, body, address };
        let Ok(Ok(_working)) = tokio::time::timeout(WORKING_WAIT, self.working.acquire()).await else {
            return web::failed(&Failure::busy("console_busy", "too much is asked at once", "try again in a moment"));
        };
        let (console, streams) = (Arc::clone(self), asked.is_read() && is_stream(&path));
        if streams {
            return console.stream(&asked).await;
        }
        let turn = tokio::task::spawn_blocking(move || console.handle(&asked));
        turn.await.unwrap_or_else(|_| web::plain(StatusCode::INTERNAL_SERVER_ERROR, "internal_defect"))
    }

    /// What needs no session, then what does.
    fn handle(&self, asked: &Asked) -> Answer {
        let words = asked.words();
        let is_read = asked.is_read();
        if !is_read && asked.parts.method != Method::POST {
            return not_allowed("GET, HEAD, POST");
        }
        if !is_read && !self.is_from_here(asked) {
            self.services.count_refusal("console_cross_site");
            return web::failed(&Failure::refused(
                "cross_site",
                "the request comes from no page of this console",
                "open the console itself",
            ));
        }
        match (is_read, words.as_slice()) {
            (true, ["enrol"]) => return web::page(StatusCode::OK, self.enrol_page()),
            (false, ["enrol" | "sign-in", ..]) => return self.ceremony(asked, &words),
            (false, ["page.css"]) | (false, ["approvals", _]) => return not_allowed("GET, HEAD"),
            _ => {}
        }
        if !is_place(&words) {
            return web::plain(StatusCode::NOT_FOUND, "unknown_path");
        }
        let who = match self.who(asked) {
            Ok(who) => who,
            // The same for everybody and every address, whether there is anything or not.
            Err(None) if is_read => return self.sign_in_page(&words, None),
            Err(Some(failure)) if is_read => return self.sign_in_page(&words, Some(&failure)),
            Err(failure) => return web::failed(&failure.unwrap_or_else(not_signed_in)),
        };
        if !is_read && !has_form_token(&who, asked) {
            self.services.count_refusal("console_form_token");
            return web::failed(&Failure::refused("form_token", "the form is not of this session", "reload the page"));
        }
        let answered = if is_read { self.show(&who, asked, &words) } else { self.act(&who, asked, &words) };
        answered.unwrap_or_else(|failure| self.sorry(&who, asked, &failure))
    }

    /// Whose session the request's cookie opens, if the person's key still counts. `Err(None)`: nobody is signed in.
    fn who(&self, asked: &Asked) -> Result<Who, Option<Failure>> {
        let value = web::cookie(&asked.parts.headers, COOKIE).ok_or(None)?;
        let session = self.services.sessions.find(value, asked.place()).map_err(|none| match none {
            NoSession::Unknown => None,
            NoSession::Elsewhere => {
                self.services.count_refusal("console_session_elsewhere");
                Some(Failure::refused(
                    "session_elsewhere",
                    "this session began at another address or in another browser, and is over",
                    "sign in again",
                ))
            }
        })?;
        let principal = self.standing(&session).inspect_err(|_| self.services.sessions.end(&session)).map_err(Some)?;
        let notice = self.services.sessions.notice(&session);
        Ok(Who { session, principal, notice })
    }

    /// The person of a session as enrolled now, with the key that opened it.
    fn standing(&self, session: &Session) -> Result<OperatorPrincipal, Failure> {
        let setup = &self.services.setup;
        let status = self.services.live.current();
        let standing = setup.authority.standing(&session.person, &status, clock::now())?;
        if standing.key != session.key {
            return Err(Failure::refused("operator_revoked", "another key is enrolled for you", "sign in with it"));
        }
        let configured = setup.operators.owner_of(&session.person);
        setup.authority.with_owner(standing.principal, configured)
    }

    /// Ceremonies of people who have no session yet.
    fn ceremony(&self, asked: &Asked, words: &[&str]) -> Answer {
        let Some(ceremonies) = &self.ceremonies else {
            return web::failed(&Failure::usage(
                "console_origin",
                "this console's address has no host name: passkeys need one",
                "give [listen] console_url one, and open the console there",
            ));
        };
        let authority = &self.services.setup.authority;
        let answered = match words {
            ["enrol", "start"] => web::read::<people::Start>(&asked.body).and_then(|start| {
                let invitation = authority.invitation(&start.token)?;
                ceremonies.enrol(&invitation, &start.token, asked.address).map(Done::Said)
            }),
            ["enrol", "registered"] => web::read::<people::Registered>(&asked.body).and_then(|made| {
                ceremonies.registered(&made.ceremony, &made.credential, asked.address).map(Done::Said)
            }),
            ["enrol", "proven"] => web::read::<people::Signed>(&asked.body).and_then(|made| {
                let record = ceremonies.proven(&made.ceremony, &made.credential, asked.address, authority)?;
                Ok(Done::Is(record.name))
            }),
            ["sign-in", "start"] => ceremonies.sign_in(asked.address).map(Done::Said),
            ["sign-in", "finish"] => web::read::<people::Signed>(&asked.body).and_then(|made| {
                let record = ceremonies.signed_in(&made.ceremony, &made.credential, asked.address, authority)?;
                Ok(Done::Is(record.name))
            }),
            _ => return web::plain(StatusCode::NOT_FOUND, "unknown_path"),
        };
        let answered = answered.and_then(|done| match done {
            Done::Said(value) => Ok(web::object(StatusCode::OK, &value)),
            Done::Is(name) => self.begin(&name, asked),
        });
        answered.unwrap_or_else(|failure| {
            if failure.kind == Kind::Refused {
                self.services.count_refusal(&format!("console_{}", failure.name));
            }
            tracing::info!(name = %failure.name, message = %failure.message, "nobody was signed in");
            web::failed(&failure)
        })
    }

    /// Opens a session for somebody whose passkey has just signed; recorded before the cookie is given.
    fn begin(&self, name: &OperatorName, asked: &Asked) -> Result<Answer, Failure> {
        let services = &self.services;
        let authority = &services.setup.authority;
        if authority.passkey_renew(name)? {
            tracing::info!(%name, "the certificate of a passkey was renewed");
        }
        let standing = authority.standing(name, &services.live.current(), clock::now())?;
        let configured = services.setup.operators.owner_of(name);
        let principal = authority.with_owner(standing.principal, configured)?;
        let decision = json!({ "outcome": "done", "key": standing.key, "address": asked.address.to_string() });
        self.record(Actor::Operator(principal), "console_sign_in", decision)?;
        let opened = services.sessions.open(name, standing.key, standing.certificate, asked.place());
        let (value, _) = opened.ok_or_else(|| {
            Failure::busy("too_many_sessions", "too many people are signed in", "try again in some minutes")
        })?;
        let mut answer = web::object(StatusCode::OK, &json!({ "name": name }));
        set_cookie(&mut answer, &sessions::begins(&value))?;
        Ok(answer)
    }

    /// A leaf about what happened at the console itself.
    fn record(&self, actor: Actor, tool: &str, decision: Value) -> Result<(), Failure> {
        let act = Act::Record { tool: tool.to_owned(), decision };
        let command = Command { stamp: clock::stamp(clock::fresh_request_id()), actor, act };
        self.services.setup.store.apply(vec![command])?;
        if let Ok(log) = self.services.log() {
            log.notify();
        }
        Ok(())
    }

    /// A page of somebody who is signed in.
    fn show(&self, who: &Who, asked: &Asked, words: &[&str]) -> Result<Answer, Failure> {
        let is_bank = who.is_of_bank();
        match words {
            [] if !is_bank => Ok(web::see("/consent")),
            [] => self.live_page(who),
            ["live", "series"] if is_bank => self.live_series(&asked.query()),
            ["sign-in"] => Ok(web::see("/")),
            ["session"] => self.session_page(who),
            ["approvals"] if is_bank => self.inbox(who),
            ["consent"] => self.consents(who),
            ["approvals", id] => self.approval(who, id),
            ["grants"] => self.grants(who),
            ["transactions"] if is_bank => self.transactions(who, &asked.query()),
            ["transactions", one] if is_bank => self.transaction(who, one),
            ["manual"] if is_bank => self.manual(who, &asked.query()),
            ["manual", one] if is_bank => self.case(who, one),
            ["agents"] if is_bank => self.agents(who),
            ["agents", one] if is_bank => self.agent(who, one),
            ["audit"] if is_bank => self.audit(who, &asked.query()),
            ["audit", "log"] if is_bank => self.log_page(who),
            ["audit", "leaf", index] if is_bank => self.leaf(who, index),
            ["audit", "leaf", index, "proof"] if is_bank => self.proof(who, index),
            ["policy"] if is_bank => self.policy(who, &asked.query()),
            ["policy", version] if is_bank => self.policy_version(who, version),
            ["compliance"] if is_bank => self.compliance(who),
            ["people"] if is_bank => self.people(who),
            ["system"] if is_bank => self.system(who),
            _ => Err(no_such_page(asked)),
        }
    }

    /// Something that a form or a script asks for.
    fn act(&self, who: &Who, asked: &Asked, words: &[&str]) -> Result<Answer, Failure> {
        match words {
            ["sign-out"] => {
                self.services.sessions.end(&who.session);
                let mut answer = web::see("/sign-in");
                set_cookie(&mut answer, &sessions::ends())?;
                Ok(answer)
            }
            ["approvals", id, "question"] => self.question(who, id, &asked.body),
            ["approvals", id, "word"] => self.word(who, id, &asked.body),
            ["act", "question"] => self.act_question(who, &asked.body),
            ["act", "word"] => self.act_word(who, &asked.body),
            ["compliance"] if who.is_of_bank() => self.report(who, &Fields::of(&asked.body)),
            // What stops agents or ends something of one's own needs no passkey: nobody is to wait with it.
            ["agents", name, verb @ ("freeze" | "revoke")] if who.is_of_bank() => {
                self.stop_agent(who, name, verb, &Fields::of(&asked.body))
            }
            ["session", "end-all"] => {
                let ended = self.services.sessions.end_of(Some(&who.session.person));
                tracing::info!(person = %who.session.person, ended, "sessions ended by their person");
                Ok(web::see("/sign-in"))
            }
            _ => Err(no_such_page(asked)),
        }
    }

    /// Carries out one of the command line's calls as this person.
    fn call(&self, who: &Who, call: AdminCall) -> Result<Value, Failure> {
        match admin::asked(&self.services, Ok(who.principal.clone()), call, &mut |_| {}) {
            AdminAnswer::Ok(value) => Ok(value),
            AdminAnswer::Error(failure) => Err(failure),
            AdminAnswer::Progress(_) | AdminAnswer::Secret(_) => Err(Failure::fault(
                "answer_unexpected",
                "a value came where a page was asked",
                "report this as a defect",
            )),
        }
    }

    /// Tells about a failure on a page, or as JSON where a script asked.
    fn sorry(&self, who: &Who, asked: &Asked, failure: &Failure) -> Answer {
        tracing::info!(name = %failure.name, person = %who.session.person, "console request not done");
        if asked.parts.headers.get(header::CONTENT_TYPE).is_some_and(|media| media == "application/json") {
            return web::failed(failure);
        }
        let status = if failure.name == "unknown_page" { StatusCode::NOT_FOUND } else { web::status_of(failure) };
        web::page(status, self.page(who, "Not done", "", &layout::failure(failure)))
    }

    fn page(&self, who: &Who, title: &str, here: &str, body: &Markup) -> Markup {
        layout::page(Some(who), self.services.setup.party.as_str(), title, here, body)
    }

    fn is_from_here(&self, asked: &Asked) -> bool {
        self.relying.as_ref().is_some_and(|relying| web::is_from_here(&asked.parts.headers, relying.origin()))
    }

    /// Tells when something changed, or once a second how things are, for as long as the person may see it.
    async fn stream(self: Arc<Self>, asked: &Asked) -> Answer {
        let Ok(who) = self.who(asked) else {
            return web::plain(StatusCode::UNAUTHORIZED, "not_signed_in");
        };
        let Ok(slot) = Arc::clone(&self.streams).try_acquire_owned() else {
            return web::plain(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams");
        };
        let is_live = asked.parts.uri.path() == LIVE_STREAM;
        let source = match (is_live, &self.live) {
            (true, Some(live)) if who.is_of_bank() => live.subscribe(),
            (true, _) => return web::plain(StatusCode::NOT_FOUND, "unknown_path"),
            (false, _) => self.waiting.subscribe(),
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(STREAM_BEHIND_MAX);
        tokio::spawn(async move {
            let _slot = slot;
            self.tell(&who, source, is_live, &sender).await;
        });
        let mut response = http::Response::new(BodyExt::boxed_unsync(StreamBody::new(received(receiver))));
        web::dress(response.headers_mut(), "text/event-stream");
        response
    }

    /// What is told was made once for everybody; what an owner may see, when something changed.
    async fn tell(
        self: &Arc<Self>,
        who: &Who,
        mut source: watch::Receiver<Arc<str>>,
        is_live: bool,
        sender: &mpsc::Sender<Piece>,
    ) {
        let mut looks = tokio::time::interval(STREAM_LOOK);
        let (mut turn, mut is_new) = (0_u64, true);
        loop {
            let (look, may) = (turn.is_multiple_of(WHOLE_LOOK_TURNS), Arc::clone(self));
            let may_go_on = may.may_go_on(&who.session, look);
            if !may_go_on {
                let _ = sender.send(Ok(Frame::data("event: ended\ndata: {}\n\n".into()))).await;
                return;
            }
            if is_new {
                let told = source.borrow_and_update().clone();
                let event = if is_live {
                    format!("data: {told}\n\n")
                } else if who.is_of_bank() {
                    format!("event: changed\ndata: {told}\n\n")
                } else {
                    let (console, one) = (Arc::clone(self), who.clone());
                    let own =
                        tokio::task::spawn_blocking(move || console.open_approvals(&one).map(|waits| summary(&waits)));
                    match own.await {
                        Ok(Ok(own)) => format!("event: changed\ndata: {own}\n\n"),
                        Ok(Err(_)) | Err(_) => return,
                    }
                };
                if sender.send(Ok(Frame::data(event.into()))).await.is_err() {
                    return;
                }
            }
            is_new = tokio::select! {
                _ = looks.tick() => { turn += 1; false }
                changed = source.changed() => { if changed.is_err() { return; } true }
                () = sender.closed() => return,
            };
        }
    }

    /// Whether a stream's person may still see it. The whole judgement reads and verifies a certificate: now and then.
    fn may_go_on(&self, session: &Session, whole: bool) -> bool {
        let status = self.services.live.current();
        let is_revoked = status.keys.contains(&session.key) || status.certificates.contains(&session.certificate);
        self.services.sessions.is_open(session) && !is_revoked && (!whole || self.standing(session).is_ok())
    }

    /// Has what waits for the bank's people read when something changed, once for all who listen; until `stop`.
    async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.services.changes.listen();
        loop {
            let console = Arc::clone(&self);
            if self.waiting.receiver_count() > 0
                && let Ok(Ok(now)) =
                    tokio::task::spawn_blocking(move || console.pending().map(|waits| summary(&of_bank(waits)))).await
            {
                self.waiting.send_if_modified(|told| {
                    let is_other = **told != *now;
                    *told = now.into();
                    is_other
                });
            }
            tokio::select! {
                () = tokio::time::sleep(STREAM_LOOK) => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                changed = changes.changed() => { if changed.is_err() { return; } }
                // Somebody may have begun to listen, and holds expire without a word.
                () = tokio::time::sleep(WAITING_LOOK) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn live_page(&self, who: &Who) -> Result<Answer, Failure> {
        let bank = self.services.setup.party.as_str();
        let body = live_markup::live();
        Ok(web::page(StatusCode::OK, layout::page_with(Some(who), bank, "Live", "/", &body, &live_markup::FILES)))
    }

    fn live_series(&self, query: &Fields) -> Result<Answer, Failure> {
        let live = self.live.as_ref().ok_or_else(not_signed_in)?;
        let range = query.text("range").and_then(Range::of_name).unwrap_or(Range::QuarterHour);
        Ok(web::object(StatusCode::OK, &live.series(range)))
    }

    fn enrol_page(&self) -> Markup {
        let body = html! {
            div.narrow {
                p { "You were invited to the console of " strong { (self.services.setup.party) } ". "
                    "Your device makes a passkey for you; its private key never leaves it. The bank issues a certificate over it, "
                    "and everything that you decide is signed with it." }
                section.card { div.actions { button type="button" data-does="enrol" { "Make my passkey" } } }
                noscript { p.notice.bad { "Passkeys need JavaScript." } }
            }
        };
        layout::page(None, self.services.setup.party.as_str(), "Your passkey", "", &body)
    }

    fn sign_in_page(&self, words: &[&str], failure: Option<&Failure>) -> Answer {
        let approval = match words {
            ["approvals", id] => id.parse::<ApprovalId>().ok(),
            _ => None,
        };
        let body = html! {
            div.narrow {
                @if let Some(failure) = failure { (layout::failure(failure)) }
                @if approval.is_some() { p { "A payment waits for a person. Sign in to see what it is and to decide." } }
                section.card {
                    p { "You sign in with the passkey that you were enrolled with." }
                    div.actions { button type="button" data-does="sign-in" { "Sign in with a passkey" } }
                }
                noscript { p.notice.bad { "Passkeys need JavaScript." } }
                @if let Some(id) = approval {
                    details { summary { "On the command line" }
                        p { "The account’s owner:" }
                        pre { "countersign consent show " (id) " --as DIR\ncountersign consent give " (id) " --as DIR" }
                        p { "The bank’s people:" }
                        pre { "countersign approvals show " (id) "\ncountersign approvals approve " (id) " --as DIR" }
                    }
                }
            }
        };
        let page = layout::page(None, self.services.setup.party.as_str(), "Sign in", "", &body);
        let mut answer = web::page(StatusCode::OK, page);
        // What a cookie that opens nothing says is forgotten.
        let _ = set_cookie(&mut answer, &sessions::ends());
        answer
    }
}

/// What a ceremony came to.
enum Done {
    Said(Value),
    /// Somebody is who they are.
    Is(OperatorName),
}

/// The first words of paths that there are: whatever else is asked, nobody has it.
fn is_place(words: &[&str]) -> bool {
    match words {
        ["approvals", id, ..] => id.parse::<ApprovalId>().is_ok() && words.len() <= 3,
        [] => true,
        [first, ..] => {
            const PLACES: [&str; 17] = [
                "sign-in",
                "sign-out",
                "session",
                "approvals",
                "consent",
                "grants",
                "transactions",
                "manual",
                "agents",
                "audit",
                "policy",
                "compliance",
                "people",
                "system",
                "act",
                "live",
                "events",
            ];
            PLACES.contains(first)
        }
    }
}

fn is_stream(path: &str) -> bool {
    path == "/events" || path == LIVE_STREAM
}

/// The token of the session, in the form or in a header.
fn has_form_token(who: &Who, asked: &Asked) -> bool {
    let header = asked.parts.headers.get("x-form-token").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let said = header.or_else(|| Fields::of(&asked.body).text("form_token").map(str::to_owned));
    said.is_some_and(|said| {
        aws_lc_rs::constant_time::verify_slices_are_equal(said.as_bytes(), who.session.form_token.as_bytes()).is_ok()
    })
}

fn set_cookie(answer: &mut Answer, cookie: &str) -> Result<(), Failure> {
    let value = HeaderValue::from_str(cookie)
        .map_err(|error| Failure::fault("cookie_unwritable", error.to_string(), "report this as a defect"))?;
    answer.headers_mut().insert(header::SET_COOKIE, value);
    Ok(())
}

fn not_allowed(methods: &'static str) -> Answer {
    let mut refused = web::plain(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    refused
}

fn not_signed_in() -> Failure {
    Failure::refused("not_signed_in", "nobody is signed in here", "sign in again")
}

fn no_such_page(asked: &Asked) -> Failure {
    Failure::usage("unknown_page", format!("there is no {} for you", asked.parts.uri.path()), "go on with the menu")
}

/// `{waiting, newest, words}`: how much waits for people, and what a page of it should be read again for.
fn summary(waits: &[ApprovalView]) -> String {
    let newest = waits.iter().map(|view| &view.approval_id).max();
    let words: usize = waits.iter().map(|view| view.words.as_array().map_or(0, Vec::len)).sum();
    json!({ "waiting": waits.len(), "newest": newest, "words": words }).to_string()
}

/// Those that wait for the bank's people.
fn of_bank(mut waits: Vec<ApprovalView>) -> Vec<ApprovalView> {
    waits.retain(|view| view.pending.iter().any(|word| word.starts_with("bank_")));
    waits
}

/// A receiver as a stream.
fn received(receiver: mpsc::Receiver<Piece>) -> impl futures_util::Stream<Item = Piece> {
    futures_util::stream::unfold(
        receiver,
        |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) },
    )
}
