//! What the shim is told to do wrong: a text file that a running worker obeys from its next call on.
//!
//! One order a line; `#` starts a comment. An unreadable file ends the process: a test must not pass because its
//! fault was misspelt.
//!
//! ```text
//! module /usr/lib/softhsm/libsofthsm2.so   the real module; needed, read once
//! journal                                  keep the journal of signatures and logins
//! sign-takes 10000                         every C_Sign takes this many microseconds; sessions run side by side
//! rate 100                                 the whole device makes this many signatures a second
//! sessions-max 16                          the device's sessions; one more is CKR_SESSION_COUNT
//! lose-sessions 1                          a number that grew: every session is closed behind the worker's back
//! log-out 1 CKR_USER_NOT_LOGGED_IN         a number that grew: logged out; the code is what signing then answers
//! token gone                               as SoftHSM2 without its directory: C_Initialize heals it, nothing else
//! token removed                            CKR_DEVICE_REMOVED; heals with new sessions
//! environment SOFTHSM2_CONF /other.conf    set at the next C_Initialize: a swapped token
//! fault 3 before C_Sign fail CKR_DEVICE_ERROR skip 2 take 1
//! blind 4 9f86d081…                        searches for the private or secret key of this CKA_ID find nothing
//! ```
//!
//! A fault names its counter (0 to 511, a new one for each), whether it strikes before or after the real call, the
//! function, what happens, and which calls: `skip` the first, `take` so many, all processes counted together.
//! What happens: `fail <code>`, `hang` (for ever), `stall` (until the order is withdrawn), `abort`, `segfault`,
//! `sleep <microseconds>`, `flip` (one bit of the signature; after C_Sign only). Blindness has a counter, too, and says
//! `skip` and `take` in the same way, of the searches it is for.

use std::fmt;

use super::codes;
use super::counters::{FAULTS, place_of};

/// Before or after the real module does its part. After: done, and the answer is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    Before,
    After,
}

/// What happens instead of the right answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Fail(u64),
    Hang,
    Stall,
    Abort,
    Segfault,
    Sleep(u64),
    Flip,
}

/// One fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub counter: usize,
    pub moment: Moment,
    /// Its place in `counters::FUNCTIONS`.
    pub function: usize,
    pub action: Action,
    pub skip: u64,
    pub take: u64,
}

/// Searches that find nothing although the key is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blindness {
    pub counter: usize,
    /// CKA_ID in hexadecimal.
    pub id: String,
    pub skip: u64,
    pub take: u64,
}

/// Where the token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Presence {
    #[default]
    There,
    Gone,
    Removed,
}

/// All orders in force.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Orders {
    pub module: Option<String>,
    pub journal: bool,
    pub sign_takes_us: u64,
    pub rate: Option<u64>,
    pub sessions_max: Option<u64>,
    pub lose_sessions: u64,
    pub log_out: u64,
    /// What C_SignInit answers while logged out, if not what the module says.
    pub logged_out_code: Option<u64>,
    pub presence: Presence,
    pub environment: Vec<(String, String)>,
    pub faults: Vec<Fault>,
    pub blind: Vec<Blindness>,
}

/// A line that is no order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotAnOrder(pub String);

impl fmt::Display for NotAnOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an order of the PKCS#11 shim: {}", self.0)
    }
}

impl Orders {
    /// Reads the whole file's text.
    ///
    /// # Errors
    /// The first line that is no order.
    pub fn parse(text: &str) -> Result<Self, NotAnOrder> {
        let mut orders = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            if !words.is_empty() {
                orders.take(&words).ok_or_else(|| NotAnOrder(line.into()))?;
            }
        }
        Ok(orders)
    }

    fn take(&mut self, words: &[&str]) -> Option<()> {
        match words {
            ["module", path] => self.module = Some((*path).into()),
            ["journal"] => self.journal = true,
            ["sign-takes", time] => self.sign_takes_us = time.parse().ok()?,
            ["rate", rate] => self.rate = Some(rate.parse().ok().filter(|rate| *rate > 0)?),
            ["sessions-max", most] => self.sessions_max = Some(most.parse().ok()?),
            ["lose-sessions", count] => self.lose_sessions = count.parse().ok()?,
            ["log-out", count] => self.log_out = count.parse().ok()?,
            ["log-out", count, code] => {
                self.log_out = count.parse().ok()?;
                self.logged_out_code = Some(codes::value(code)?);
            }
            ["token", "gone"] => self.presence = Presence::Gone,
            ["token", "removed"] => self.presence = Presence::Removed,
            ["environment", name, value] => self.environment.push(((*name).into(), (*value).into())),
            ["fault", counter, moment, function, rest @ ..] => {
                self.faults.push(fault(counter, moment, function, rest)?);
            }
            ["blind", counter, id, rest @ ..] => {
                let counter = counter.parse().ok().filter(|counter| *counter < FAULTS)?;
                let (skip, take) = calls(rest)?;
                self.blind.push(Blindness { counter, id: (*id).into(), skip, take });
            }
            _ => return None,
        }
        Some(())
    }
}

fn fault(counter: &str, moment: &str, function: &str, rest: &[&str]) -> Option<Fault> {
    let counter = counter.parse().ok().filter(|counter| *counter < FAULTS)?;
    let moment = match moment {
        "before" => Moment::Before,
        "after" => Moment::After,
        _ => return None,
    };
    let (action, rest) = match rest {
        ["fail", code, rest @ ..] => (Action::Fail(codes::value(code)?), rest),
        ["hang", rest @ ..] => (Action::Hang, rest),
        ["stall", rest @ ..] => (Action::Stall, rest),
        ["abort", rest @ ..] => (Action::Abort, rest),
        ["segfault", rest @ ..] => (Action::Segfault, rest),
        ["sleep", time, rest @ ..] => (Action::Sleep(time.parse().ok()?), rest),
        ["flip", rest @ ..] if moment == Moment::After && function == "C_Sign" => (Action::Flip, rest),
        _ => return None,
    };
    let (skip, take) = calls(rest)?;
    Some(Fault { counter, moment, function: place_of(function)?, action, skip, take })
}

/// Which calls: `skip` and `take`.
fn calls(mut rest: &[&str]) -> Option<(u64, u64)> {
    let (mut skip, mut take) = (0, u64::MAX);
    while let [word, number, others @ ..] = rest {
        match *word {
            "skip" => skip = number.parse().ok()?,
            "take" => take = number.parse().ok()?,
            _ => return None,
        }
        rest = others;
    }
    rest.is_empty().then_some((skip, take))
}
