//! Storms: many notices of one kind become one message.
//!
//! For each channel and kind the first few within a time go out by themselves. What comes beyond them is counted in one
//! digest, which is sent when that time is over and shows each title once, with how often it came. Ten thousand refusals are a handful of mails,
//! and a storm of one kind keeps no other kind back.

use serde::{Deserialize, Serialize};

use super::Notice;

/// Different titles that a digest shows.
pub const SHOWN_MAX: usize = 50;

/// What is sent as one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// The first of them.
    pub first: Notice,
    /// How many there are.
    pub count: u64,
    /// Each title once, so that none hides behind many others.
    pub titles: Vec<Titled>,
    /// When the last one was.
    pub last_at: String,
}

/// What a digest shows of the notices of one title.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "Kept")]
pub struct Titled {
    pub title: String,
    pub count: u64,
    /// When the first of them was.
    pub at: String,
}

/// As it is kept in a queue; before there were counts a title was one text with its time.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kept {
    Counted { title: String, count: u64, at: String },
    Text(String),
}

impl From<Kept> for Titled {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Counted { title, count, at } => Self { title, count, at },
            Kept::Text(text) => {
                let (at, title) = text.split_once("  ").unwrap_or(("", &text));
                Self { title: title.to_owned(), count: 1, at: at.to_owned() }
            }
        }
    }
}

/// A message's content.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    One(Notice),
    Several(Digest),
}

impl Content {
    pub fn first(&self) -> &Notice {
        match self {
            Self::One(notice) => notice,
            Self::Several(digest) => &digest.first,
        }
    }

    pub fn count(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Several(digest) => digest.count,
        }
    }

    /// The head of a message.
    pub fn title(&self) -> String {
        match self {
            Self::One(notice) => notice.title.clone(),
            Self::Several(digest) => format!("{} more: {}", digest.count, digest.first.kind.title()),
        }
    }

    /// Its lines.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::One(notice) => notice.lines.clone(),
            Self::Several(digest) => {
                let mut lines =
                    vec![format!("{} of this kind, from {} to {}", digest.count, digest.first.at, digest.last_at)];
                lines.extend(digest.titles.iter().map(Titled::line));
                let seen: u64 = digest.titles.iter().map(|titled| titled.count).sum();
                let unseen = digest.count.saturating_sub(seen);
                if unseen > 0 {
                    lines.push(format!("and {unseen} more"));
                }
                lines.push("next: countersign audit show has each of them".to_owned());
                lines
            }
        }
    }
}

/// How much of one kind a channel gets by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    pub within_ms: i64,
    /// So many within that time go out one by one.
    pub alone_max: u32,
}

/// What a channel has got of one kind lately.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lately {
    /// Messages of the last `within_ms`, digests included.
    pub alone: u32,
    /// The digest that is open: nobody has begun to send it.
    pub open: Option<Digest>,
}

/// What becomes of a notice on one channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gathered {
    /// A message of its own, at once.
    Alone(Content),
    /// A new digest, sent when the time is over.
    Opens(Content),
    /// The open digest, longer by one.
    Joins(Content),
}

/// Decides it, and keeps count for the next one.
pub fn gather(lately: &mut Lately, notice: Notice, pace: Pace) -> Gathered {
    if let Some(open) = &mut lately.open {
        open.count += 1;
        open.last_at.clone_from(&notice.at);
        let has_room = open.titles.len() < SHOWN_MAX;
        match open.titles.iter_mut().find(|titled| titled.title == notice.title) {
            Some(titled) => titled.count += 1,
            None if has_room => open.titles.push(Titled::of(&notice)),
            None => {}
        }
        return Gathered::Joins(Content::Several(open.clone()));
    }
    if lately.alone < pace.alone_max {
        lately.alone += 1;
        return Gathered::Alone(Content::One(notice));
    }
    let titles = vec![Titled::of(&notice)];
    let digest = Digest { count: 1, titles, last_at: notice.at.clone(), first: notice };
    lately.open = Some(digest.clone());
    Gathered::Opens(Content::Several(digest))
}

impl Titled {
    fn of(notice: &Notice) -> Self {
        Self { title: notice.title.clone(), count: 1, at: notice.at.clone() }
    }

    fn line(&self) -> String {
        let Self { title, count, at } = self;
        if *count == 1 { format!("{at}  {title}") } else { format!("{at}  {title} ({count} times)") }
    }
}
