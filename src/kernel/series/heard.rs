//! A leaf of the audit log as the live view reads it.
//!
//! Only what the daemon itself wrote counts: an agent chooses names of tools and words in parameters, and none of them is
//! an alert. A leaf of an unknown shape tells nothing, and one that is partly known tells that part.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::kernel::command::Settlement;
use crate::kernel::monitor;
use crate::kernel::types::UnixMillis;

/// Longest word of an alert that is kept, characters.
const SAID_CHARS_MAX: usize = 300;
/// Names of refused handshakes that one leaf may count.
const HANDSHAKE_NAMES_MAX: usize = 64;
/// The component that records refused handshakes, and its act.
const LISTENER: &str = "listener";
const HANDSHAKES: &str = "handshakes_refused";

/// What came of a decision, as charts have it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Came {
    /// A reading was answered.
    Answered,
    /// A payment may be made: by the rules, or people have said yes.
    Approved,
    RequiresApproval,
    /// Money moved.
    Executed,
    /// Ordered at the core banking system.
    Submitted,
    QueuedManual,
    Cancelled,
    /// People have said no.
    Denied,
    /// What had come of it before was told again.
    Repeated,
    Refused,
}

impl Came {
    pub const ALL: [Self; 10] = [
        Self::Answered,
        Self::Approved,
        Self::RequiresApproval,
        Self::Executed,
        Self::Submitted,
        Self::QueuedManual,
        Self::Cancelled,
        Self::Denied,
        Self::Repeated,
        Self::Refused,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Approved => "approved",
            Self::RequiresApproval => "requires_approval",
            Self::Executed => "executed",
            Self::Submitted => "submitted",
            Self::QueuedManual => "queued_manual",
            Self::Cancelled => "cancelled",
            Self::Denied => "denied",
            Self::Repeated => "repeated",
            Self::Refused => "refused",
        }
    }

    fn of_status(status: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|came| came.name() == status)
    }
}

/// Whether a decision moved money.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Money {
    Moved,
    Stayed,
}

/// What people should see soon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alert {
    pub at: UnixMillis,
    pub kind: AlertKind,
    /// An agent, or a cause.
    pub about: String,
    pub said: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AlertKind {
    /// The monitor asks people to look at a call.
    Monitor,
    /// Payments were stopped.
    Breaker,
    /// An agent, or all of them, were frozen.
    Freeze,
}

impl AlertKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Breaker => "breaker",
            Self::Freeze => "freeze",
        }
    }
}

/// What one leaf tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heard {
    pub at: UnixMillis,
    pub came: Option<Came>,
    pub money: Money,
    pub refusals: Vec<(String, u32)>,
    pub alert: Option<Alert>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    at: Cow<'a, str>,
    #[serde(borrow)]
    actor: By<'a>,
    #[serde(borrow, default)]
    act: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct By<'a> {
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    component: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct Outcome<'a> {
    #[serde(borrow, default)]
    status: Cow<'a, str>,
    #[serde(default)]
    already: bool,
    #[serde(default)]
    changed: bool,
    #[serde(default)]
    repeated: bool,
    /// Of what a word of people's has completed.
    #[serde(borrow, default)]
    batch: Option<&'a RawValue>,
}

impl Heard {
    /// What a leaf's body tells. `settlement`: whose book the money is in. Under one of another system an approved reversal
    /// is an order, which the core answers in a leaf of its own.
    pub fn of(body: &[u8], settlement: Settlement) -> Option<Self> {
        let body: Body<'_> = serde_json::from_slice(body).ok()?;
        let at = instant(&body.at)?;
        let result = body.result.and_then(|result| serde_json::from_str::<Option<Outcome<'_>>>(result.get()).ok());
        let result = result.flatten().unwrap_or_default();
        let money = if result.repeated {
            Money::Stayed
        } else {
            match (&*result.status, &result.batch, settlement) {
                ("executed", _, _) | ("approved", Some(_), Settlement::Embedded) => Money::Moved,
                _ => Money::Stayed,
            }
        };
        let came = match (&body.reason, result.repeated) {
            (Some(_), _) => Some(Came::Refused),
            (None, true) => Some(Came::Repeated),
            (None, false) => Came::of_status(&result.status),
        };
        let mut refusals: Vec<(String, u32)> = body.reason.iter().map(|name| (name.clone().into_owned(), 1)).collect();
        if body.is(LISTENER, HANDSHAKES) {
            refusals.extend(body.handshakes());
        }
        Some(Self { at, came, money, refusals, alert: body.alert(at, &result) })
    }
}

impl Body<'_> {
    /// An act of the daemon itself.
    fn is(&self, component: &str, act: &str) -> bool {
        self.actor.kind == "system"
            && self.actor.component.as_deref() == Some(component)
            && self.act.as_deref() == Some(act)
    }

    fn said(&self) -> Value {
        self.parameters.and_then(|said| serde_json::from_str(said.get()).ok()).unwrap_or_default()
    }

    fn handshakes(&self) -> Vec<(String, u32)> {
        let said = self.said();
        let counts = said["counts"].as_object().into_iter().flatten().take(HANDSHAKE_NAMES_MAX);
        let counted = |count: &Value| count.as_u64().map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        counts.filter_map(|(name, count)| Some((name.clone(), counted(count)?))).collect()
    }

    fn alert(&self, at: UnixMillis, result: &Outcome<'_>) -> Option<Alert> {
        if !matches!(&*self.actor.kind, "system" | "operator") || self.reason.is_some() {
            return None;
        }
        let text =
            |value: &Value| -> String { value.as_str().unwrap_or_default().chars().take(SAID_CHARS_MAX).collect() };
        let (kind, about, said) = match self.act.as_deref()? {
            monitor::ALERT if self.is(monitor::COMPONENT, monitor::ALERT) => {
                let said = self.said();
                (AlertKind::Monitor, text(&said["agent"]), text(&said["said"]))
            }
            "set_breaker" if result.changed => {
                let said = self.said();
                if said["open"] != true {
                    return None;
                }
                (AlertKind::Breaker, text(&said["cause"]), text(&said["reason"]))
            }
            "freeze" if result.status == "frozen" && !result.already => {
                let said = self.said();
                let whom = said["whom"]["agent"].as_str().map_or(said["whom"].clone(), Value::from);
                (AlertKind::Freeze, text(&whom), text(&said["reason"]))
            }
            _ => return None,
        };
        Some(Alert { at, kind, about, said })
    }
}

fn instant(text: &str) -> Option<UnixMillis> {
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok().map(UnixMillis)
}
