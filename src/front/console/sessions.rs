//! Who is signed in: sessions, in this daemon's memory alone.
//!
//! A session is short, bound to the browser and the address that it began in, and judged anew on each request: whoever's key
//! is revoked is out at once. A restart ends all of them, and another daemon of the bank knows none of them. A stolen cookie
//! shows what its owner may see from the owner's own machine, and decides nothing: what decides is signed each time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::kernel::types::{KeyId, OperatorName, Serial, Sha256, UnixMillis};
use crate::ops::clock;

/// The prefix makes browsers keep it to this host, this path, TLS (RFC 6265bis, 4.1.3.2).
pub const COOKIE: &str = "__Host-countersign";
/// A session ends this long after its last request, and this long after its first.
pub const IDLE_MS: i64 = 15 * 60_000;
pub const LIFE_MS: i64 = 4 * 3_600_000;
/// Of one person at once: the oldest ends.
const OF_ONE_MAX: usize = 4;
/// Of all: nobody more is let in.
const ALL_MAX: usize = 10_000;

/// Where a session is used from. Compared, never shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place(Sha256);

impl Place {
    pub fn of(address: IpAddr, user_agent: &str) -> Self {
        Self(Sha256::of(&[address.to_string().as_bytes(), &[0], user_agent.as_bytes()]))
    }
}

/// One person's session.
#[derive(Debug)]
pub struct Session {
    pub id: Sha256,
    pub person: OperatorName,
    /// The key that opened it, and its certificate's issuer and serial number.
    pub key: KeyId,
    pub certificate: (String, Serial),
    /// What every form of it says: a page of another origin cannot know it.
    pub form_token: String,
    pub began: UnixMillis,
    place: Place,
    began_boot: i64,
    used_boot: AtomicI64,
    /// What the next page says first. The lock guards the text only.
    notice: Arc<Mutex<Option<String>>>,
    /// What the person was asked to sign last, and until when (boot clock). The lock guards the pair only.
    asked: Mutex<Option<(Value, i64)>>,
}

/// Why a cookie opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoSession {
    /// There is none of it, or it has ended.
    Unknown,
    /// It comes from elsewhere than its session; the session is over.
    Elsewhere,
}

/// All sessions of this daemon.
#[derive(Debug, Default)]
pub struct Sessions {
    /// By the hash of the cookie's value. The lock guards the map only.
    open: Mutex<HashMap<Sha256, Arc<Session>>>,
}

impl Sessions {
    /// Opens a session; the value of its cookie. None: there are too many.
    pub fn open(
        &self,
        person: &OperatorName,
        key: KeyId,
        certificate: (String, Serial),
        place: Place,
    ) -> Option<(String, Arc<Session>)> {
        let value = BASE64_URL_SAFE_NO_PAD.encode(clock::random::<32>());
        let now = clock::boot_ms();
        let session = Arc::new(Session {
            id: Sha256::of(&[value.as_bytes()]),
            person: person.clone(),
            key,
            certificate,
            form_token: BASE64_URL_SAFE_NO_PAD.encode(clock::random::<32>()),
            began: clock::now(),
            place,
            began_boot: now,
            used_boot: AtomicI64::new(now),
            notice: Arc::default(),
            asked: Mutex::default(),
        });
        let mut open = self.lock();
        open.retain(|_, session| session.lives(now));
        let of_one = |open: &HashMap<Sha256, Arc<Session>>| {
            let mut own: Vec<_> = open.values().filter(|other| other.person == *person).cloned().collect();
            own.sort_by_key(|other| other.began_boot);
            own
        };
        let own = of_one(&open);
        for oldest in own.iter().take((own.len() + 1).saturating_sub(OF_ONE_MAX)) {
            open.remove(&oldest.id);
        }
        if open.len() >= ALL_MAX {
            return None;
        }
        open.insert(session.id, Arc::clone(&session));
        Some((value, session))
    }

    /// The session of a cookie that comes from this place; it is used now.
    ///
    /// # Errors
    /// [`NoSession`]
    pub fn find(&self, value: &str, place: Place) -> Result<Arc<Session>, NoSession> {
        let id = Sha256::of(&[value.as_bytes()]);
        let now = clock::boot_ms();
        let mut open = self.lock();
        let session = open.get(&id).cloned().ok_or(NoSession::Unknown)?;
        if !session.lives(now) {
            open.remove(&id);
            return Err(NoSession::Unknown);
        }
        if session.place != place {
            open.remove(&id);
            return Err(NoSession::Elsewhere);
        }
        session.used_boot.store(now, Ordering::Relaxed);
        Ok(session)
    }

    /// Whether it is still open; asking does not keep it open.
    pub fn is_open(&self, session: &Session) -> bool {
        let now = clock::boot_ms();
        self.lock().get(&session.id).is_some_and(|session| session.lives(now))
    }

    /// What the session's next page says first.
    pub fn say(&self, session: &Session, notice: String) {
        *session.notice.lock().unwrap_or_else(PoisonError::into_inner) = Some(notice);
    }

    pub fn notice(&self, session: &Session) -> Arc<Mutex<Option<String>>> {
        Arc::clone(&session.notice)
    }

    /// Remembers what the person is asked to sign, in place of what was asked before.
    pub fn ask(&self, session: &Session, document: Value, until_boot: i64) {
        *session.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some((document, until_boot));
    }

    /// What was asked last, once, if it is in time.
    pub fn asked(&self, session: &Session, now: i64) -> Option<Value> {
        let asked = session.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        asked.filter(|(_, until)| now < *until).map(|(document, _)| document)
    }

    /// Ends one.
    pub fn end(&self, session: &Session) {
        self.lock().remove(&session.id);
    }

    /// Ends those of a person, or all. Answers how many.
    pub fn end_of(&self, person: Option<&OperatorName>) -> usize {
        let mut open = self.lock();
        let before = open.len();
        open.retain(|_, session| person.is_some_and(|person| session.person != *person));
        before - open.len()
    }

    /// `[{person, began, idle_s}]`, oldest first.
    pub fn list(&self) -> Value {
        let now = clock::boot_ms();
        let mut open: Vec<_> = self.lock().values().filter(|session| session.lives(now)).cloned().collect();
        open.sort_by_key(|session| session.began_boot);
        let shown = |session: &Arc<Session>| {
            let idle_ms = now - session.used_boot.load(Ordering::Relaxed);
            json!({ "person": session.person, "began": session.began.rfc3339(), "idle_s": idle_ms / 1000 })
        };
        open.iter().map(shown).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Sha256, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn lives(&self, now: i64) -> bool {
        now < self.used_boot.load(Ordering::Relaxed) + IDLE_MS && now < self.began_boot + LIFE_MS
    }

    /// Seconds until it ends whatever happens.
    pub fn left_s(&self) -> i64 {
        (self.began_boot + LIFE_MS - clock::boot_ms()).max(0) / 1000
    }
}

/// `Set-Cookie` of a session that begins.
pub fn begins(value: &str) -> String {
    format!("{COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={}", LIFE_MS / 1000)
}

/// `Set-Cookie` of one that is over.
pub fn ends() -> String {
    format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(last: u8) -> Place {
        Place::of(IpAddr::from([127, 0, 0, last]), "browser")
    }

    fn open(sessions: &Sessions, person: &OperatorName, key: KeyId) -> Option<(String, Arc<Session>)> {
        sessions.open(person, key, ("issuer".into(), Serial::from_bytes(&[7]).unwrap()), place(1))
    }

    fn name(text: &str) -> OperatorName {
        text.parse().unwrap()
    }

    #[test]
    fn a_cookie_opens_its_session_from_its_own_place_alone() {
        let sessions = Sessions::default();
        let key = Sha256::of(&[b"key"]);
        let (value, session) = open(&sessions, &name("alice"), key).unwrap();
        assert_eq!(sessions.find(&value, place(1)).unwrap().id, session.id);
        assert_eq!(sessions.find("", place(1)).unwrap_err(), NoSession::Unknown);
        assert_eq!(sessions.find(&format!("{value}="), place(1)).unwrap_err(), NoSession::Unknown);
        assert_eq!(sessions.find(&value, place(2)).unwrap_err(), NoSession::Elsewhere);
        // Whoever came from elsewhere has ended it for everybody.
        assert_eq!(sessions.find(&value, place(1)).unwrap_err(), NoSession::Unknown);
        let (value, _) = open(&sessions, &name("alice"), key).unwrap();
        let other = Place::of(IpAddr::from([127, 0, 0, 1]), "another browser");
        assert_eq!(sessions.find(&value, other).unwrap_err(), NoSession::Elsewhere);
    }

    #[test]
    fn sessions_end_by_time_by_number_and_by_word() {
        let sessions = Sessions::default();
        let key = Sha256::of(&[b"key"]);
        let all: Vec<_> = (0..6).map(|_| open(&sessions, &name("alice"), key).unwrap()).collect();
        let still = all.iter().filter(|(value, _)| sessions.find(value, place(1)).is_ok()).count();
        assert_eq!(still, OF_ONE_MAX);
        assert!(sessions.find(&all[5].0, place(1)).is_ok(), "the newest stays");
        let idle = &all[5].1;
        let later = idle.used_boot.load(Ordering::Relaxed) + IDLE_MS;
        assert!(idle.lives(later - 1) && !idle.lives(later));
        idle.used_boot.store(idle.began_boot + LIFE_MS, Ordering::Relaxed);
        assert!(!idle.lives(idle.began_boot + LIFE_MS), "used all the time, it ends all the same");
        let (bob, _) = open(&sessions, &name("bob"), key).unwrap();
        assert_eq!(sessions.end_of(Some(&name("alice"))), OF_ONE_MAX);
        assert!(sessions.find(&bob, place(1)).is_ok());
        assert_eq!(sessions.end_of(None), 1);
        assert!(sessions.find(&bob, place(1)).is_err());
    }

    #[test]
    fn what_a_form_says_is_no_part_of_the_cookie() {
        let sessions = Sessions::default();
        let (value, session) = open(&sessions, &name("alice"), Sha256::of(&[b"key"])).unwrap();
        assert!(session.form_token.len() >= 43 && value.len() >= 43 && session.form_token != value);
        assert!(begins(&value).contains("Secure; HttpOnly; SameSite=Lax"));
    }
}
