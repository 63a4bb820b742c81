//! Text of strangers: merchants' names, products' titles, notes, queries, a core's words.
//!
//! Such text ends up before two readers that can be talked into something: a language model, and a human who approves.
//! So it is never anything but data. [`clean`] gives it one line, no character that is not seen, and a length; and says
//! which of its parts look like an attempt, by rules that have names. What keeps it harmless is the form, not the list of
//! words: whoever shows it shows [`Clean::shown`], in one field that is marked.
//!
//! Everything is bounded: a text is read up to [`SCAN_BYTES_MAX`], decoded views of it up to `views`' budget, and each
//! rule is one pass.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

mod fold;
mod lexicon;
pub mod mark;
mod near;
mod shape;
mod views;

/// What is looked at of a text, in bytes: nothing that is longer is shown whole.
pub const SCAN_BYTES_MAX: usize = 4 * 1024;

/// How long a text may be when it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    pub chars: usize,
    pub bytes: usize,
}

impl Limit {
    /// A merchant's name, a product's title.
    pub const NAME: Self = Self { chars: 120, bytes: 400 };
    /// A reason or a note that a human wrote.
    pub const NOTE: Self = Self { chars: 500, bytes: 500 };
    /// Words of another system: a core's reason, a database's complaint.
    pub const WORDS: Self = Self { chars: 200, bytes: 400 };
    /// What an agent searches for.
    pub const QUERY: Self = Self { chars: 200, bytes: 200 };
}

/// What a text tries, after the families that are published.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// "Ignore the instructions above."
    Override,
    /// "You are now …", a speaker's mark, an appeal to the model as such.
    Role,
    /// Orders to move money, to approve, or to choose something.
    Order,
    /// "Do not tell the user", "without asking".
    Concealment,
    /// Asks for prompts, keys, secrets.
    Exfiltration,
    /// Claims that somebody has approved; identifiers as the bank makes them.
    ForgedApproval,
    /// Claims to be the system's, a tool's or the bank's own words.
    ForgedSystem,
    /// Names tools, or is shaped like a call of one.
    Tool,
    /// HTML, XML, Markdown, links, terminal sequences.
    Markup,
    /// JSON members, delimiters, templates: the end of the field it stands in.
    Structure,
    /// A log line's shape.
    Log,
    /// The beginning of a spreadsheet's formula.
    Formula,
    /// Shell, SQL, paths.
    Code,
    /// Letters that look like others, or are dressed up.
    Homoglyph,
    /// Characters that are not seen, or that turn the direction.
    Invisible,
    /// Control characters, line breaks.
    Control,
    /// Base64, hexadecimal, rot13 and the like, with words inside.
    Encoded,
    /// Too many marks on one letter, or the same again and again.
    Flood,
    /// Longer than its field.
    Length,
}

impl Family {
    pub const ALL: [Self; 19] = [
        Self::Override,
        Self::Role,
        Self::Order,
        Self::Concealment,
        Self::Exfiltration,
        Self::ForgedApproval,
        Self::ForgedSystem,
        Self::Tool,
        Self::Markup,
        Self::Structure,
        Self::Log,
        Self::Formula,
        Self::Code,
        Self::Homoglyph,
        Self::Invisible,
        Self::Control,
        Self::Encoded,
        Self::Flood,
        Self::Length,
    ];

    /// The stable name, as JSON writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Role => "role",
            Self::Order => "order",
            Self::Concealment => "concealment",
            Self::Exfiltration => "exfiltration",
            Self::ForgedApproval => "forged_approval",
            Self::ForgedSystem => "forged_system",
            Self::Tool => "tool",
            Self::Markup => "markup",
            Self::Structure => "structure",
            Self::Log => "log",
            Self::Formula => "formula",
            Self::Code => "code",
            Self::Homoglyph => "homoglyph",
            Self::Invisible => "invisible",
            Self::Control => "control",
            Self::Encoded => "encoded",
            Self::Flood => "flood",
            Self::Length => "length",
        }
    }
}

/// What becomes of a hostile text when it is registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnHostile {
    #[default]
    Refuse,
    /// An administrator has read it and means it; its leaf says so. What is wrong in form is changed all the same.
    Accept,
}

/// A rule that a text breaks. Holds nothing of the text: it can stand in a log line or before a model.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Finding {
    pub family: Family,
    /// Stable, lower case.
    pub rule: &'static str,
    /// A sentence.
    pub reason: &'static str,
}

/// A stranger's text, harmless in form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Clean {
    /// One line without characters that are not seen, within its limit. NFKC.
    pub shown: String,
    /// Whether this is not what came.
    pub changed: bool,
    /// Sorted, each rule once. Empty: nothing looks like an attempt.
    pub findings: Vec<Finding>,
}

impl Clean {
    /// Whether a rule says no to this text.
    pub fn is_hostile(&self) -> bool {
        !self.findings.is_empty()
    }

    /// The names of the families found, each once.
    pub fn flags(&self) -> Vec<&'static str> {
        let families: BTreeSet<Family> = self.findings.iter().map(|finding| finding.family).collect();
        families.into_iter().map(Family::name).collect()
    }

    /// The reasons, one sentence after the other.
    pub fn reasons(&self) -> String {
        self.findings.iter().map(|finding| finding.reason).collect::<Vec<_>>().join("; ")
    }
}

/// A stranger's text, made harmless in form and judged. Idempotent: what it shows it shows again unchanged.
///
/// Linear in the length of the text, which is cut at [`SCAN_BYTES_MAX`].
pub fn clean(raw: &str, limit: Limit) -> Clean {
    let shown = shown(raw, limit);
    let head = head(raw, SCAN_BYTES_MAX);
    let mut found = BTreeSet::new();
    if raw.len() > head.len() || fold::one_line(head).chars().count() > limit.chars {
        found.insert(LENGTH);
    }
    fold::characters(head, &mut found);
    views::judged(head, &mut found);
    let changed = shown != raw;
    Clean { shown, changed, findings: found.into_iter().collect() }
}

/// A text for a terminal, a log line or a table's cell, with all that it has: what is not seen, breaks lines or turns
/// their direction is written out as `\u{…}`. For texts that are not ours to change.
pub fn visible(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| !(c.is_control() || fold::is_unseen(c) || matches!(c, '\u{2028}' | '\u{2029}'));
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_plain(c) { c.to_string() } else { c.escape_unicode().to_string() }).collect())
}

/// Only the form of it: one line, nothing unseen, cut to its limit.
pub fn shown(raw: &str, limit: Limit) -> String {
    fold::cut(&fold::one_line(head(raw, SCAN_BYTES_MAX)), limit)
}

fn head(text: &str, bytes: usize) -> &str {
    let boundary = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..boundary.unwrap_or(0)]
}

const LENGTH: Finding =
    Finding { family: Family::Length, rule: "too_long", reason: "the text is longer than its field" };
