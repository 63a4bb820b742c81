//! Concepts that meet within a few words: what an attempt says, in whatever words and order.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use super::fold::folded;
use super::lexicon::{Concept, Entry, KEY_WORDS, LEXICON, is_unspaced};
use super::{Family, Finding};

/// Words looked at in one view.
const WORDS_MAX: usize = 1_024;
/// Concepts that are compared with one another in one view.
const HITS_MAX: usize = 96;
/// Longest word whose misspellings are looked for, in characters.
const WORD_CHARS_MAX: usize = 16;
/// Shortest entry that is found inside of a run of letters without spaces.
const GLUED_CHARS_MIN: usize = 5;

/// Where a concept stands: from which word, to which, by width.
#[derive(Clone, Copy, Debug)]
struct Hit {
    concept: Concept,
    from: usize,
    to: usize,
}

/// How the words of a view are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Words {
    /// Between spaces and signs.
    Spaced,
    /// Spaces and signs are no help: a word begins anywhere.
    Glued,
}

/// Two concepts, in any order, with at most so much between them (a word is 2, a sign of a script without spaces 1).
struct Pair(Concept, Concept, usize, Finding);
/// Two concepts in this order.
struct Ordered(Concept, Concept, usize, Finding);
/// Three concepts, each next to the one before, in any order.
struct Triple([Concept; 3], usize, Finding);

const fn finding(family: Family, rule: &'static str, reason: &'static str) -> Finding {
    Finding { family, rule, reason }
}

const DISREGARD: Finding = finding(Family::Override, "disregard", "it asks to disregard instructions");
const NEW_ORDERS: Finding = finding(Family::Override, "new_orders", "it announces new instructions");
const PERSONA: Finding = finding(Family::Role, "persona", "it asks its reader to be somebody else");
const ADDRESSED: Finding = finding(Family::Role, "addressed", "it tells a model what to do");
const HIDE: Finding = finding(Family::Concealment, "hide", "it asks to keep something from people");
const UNASKED: Finding = finding(Family::Concealment, "unasked", "it asks to go on without asking");
const SECRETS: Finding = finding(Family::Exfiltration, "secrets", "it asks for secrets or prompts");
const MOVE_MONEY: Finding = finding(Family::Order, "move_money", "it asks to move money");
const DECIDE: Finding = finding(Family::Order, "decide", "it asks to approve or execute something");
const STEER: Finding = finding(Family::Order, "steer", "it says what is to be chosen");
const APPROVED: Finding = finding(Family::ForgedApproval, "approved", "it claims that somebody has approved");
const LIFTED: Finding = finding(Family::ForgedApproval, "lifted", "it claims that a limit or a check does not apply");
const OFFICIAL: Finding = finding(Family::ForgedSystem, "boundary", "it claims to be the system's own words");
const OUR_TOOL: Finding = finding(Family::Tool, "named", "it names a tool of the bank");
const TOOLS: Finding = finding(Family::Tool, "used", "it says which tool is to be called");

const PAIRS: [Pair; 17] = [
    Pair(Concept::Disregard, Concept::Authority, 12, DISREGARD),
    Pair(Concept::Disregard, Concept::Prior, 8, DISREGARD),
    Pair(Concept::Play, Concept::As, 3, PERSONA),
    Pair(Concept::Reveal, Concept::Secret, 10, SECRETS),
    Pair(Concept::Approved, Concept::Needless, 6, APPROVED),
    Pair(Concept::Limit, Concept::Lifted, 6, LIFTED),
    Pair(Concept::Use, Concept::ToolWord, 6, TOOLS),
    Pair(Concept::Model, Concept::Authority, 6, ADDRESSED),
    Pair(Concept::Model, Concept::Disregard, 6, ADDRESSED),
    Pair(Concept::Model, Concept::Approve, 8, ADDRESSED),
    Pair(Concept::Model, Concept::Pay, 8, ADDRESSED),
    Pair(Concept::Helper, Concept::Disregard, 6, ADDRESSED),
    Pair(Concept::Hail, Concept::Model, 6, ADDRESSED),
    Pair(Concept::Tell, Concept::Secret, 8, SECRETS),
    Pair(Concept::Disregard, Concept::Limit, 6, LIFTED),
    Pair(Concept::Disregard, Concept::Leave, 6, UNASKED),
    Pair(Concept::Authority, Concept::Lifted, 6, DISREGARD),
];

const ORDERED: [Ordered; 8] = [
    Ordered(Concept::Model, Concept::Must, 8, ADDRESSED),
    Ordered(Concept::Helper, Concept::Must, 3, ADDRESSED),
    Ordered(Concept::Without, Concept::Leave, 6, UNASKED),
    Ordered(Concept::Payment, Concept::Approved, 6, APPROVED),
    Ordered(Concept::Hail, Concept::Helper, 6, ADDRESSED),
    Ordered(Concept::Not, Concept::Authority, 0, DISREGARD),
    Ordered(Concept::Approved, Concept::Without, 4, APPROVED),
    Ordered(Concept::Without, Concept::Authority, 3, DISREGARD),
];

const TRIPLES: [Triple; 10] = [
    Triple([Concept::Not, Concept::Tell, Concept::Person], 8, HIDE),
    Triple([Concept::Pay, Concept::Money, Concept::Target], 10, MOVE_MONEY),
    Triple([Concept::Pay, Concept::All, Concept::Money], 6, MOVE_MONEY),
    Triple([Concept::Pay, Concept::All, Concept::Target], 8, MOVE_MONEY),
    Triple([Concept::Approve, Concept::All, Concept::Payment], 6, DECIDE),
    Triple([Concept::Approve, Concept::This, Concept::Payment], 6, DECIDE),
    Triple([Concept::Approved, Concept::By, Concept::Official], 5, APPROVED),
    Triple([Concept::Approve, Concept::Payment, Concept::Without], 6, DECIDE),
    Triple([Concept::Must, Concept::Approve, Concept::Payment], 6, DECIDE),
    Triple([Concept::Must, Concept::Pay, Concept::Target], 8, MOVE_MONEY),
];

/// Concepts that are an attempt alone.
fn alone(concept: Concept) -> Option<Finding> {
    match concept {
        Concept::Persona => Some(PERSONA),
        Concept::Needless => Some(APPROVED),
        Concept::Choose => Some(STEER),
        Concept::OurTool => Some(OUR_TOOL),
        Concept::Boundary => Some(OFFICIAL),
        Concept::Disregard
        | Concept::Authority
        | Concept::Prior
        | Concept::New
        | Concept::Play
        | Concept::As
        | Concept::Model
        | Concept::Helper
        | Concept::Must
        | Concept::Hail
        | Concept::Not
        | Concept::Tell
        | Concept::Person
        | Concept::Without
        | Concept::Leave
        | Concept::Reveal
        | Concept::Secret
        | Concept::Pay
        | Concept::Money
        | Concept::Target
        | Concept::All
        | Concept::Approve
        | Concept::Payment
        | Concept::Approved
        | Concept::By
        | Concept::Official
        | Concept::Limit
        | Concept::Lifted
        | Concept::This
        | Concept::Use
        | Concept::ToolWord => None,
    }
}

/// What the words of a text say.
pub(super) fn said(text: &str, words: Words, found: &mut BTreeSet<Finding>) {
    let hits = hits(&folded(text), words);
    let near = |a: &Hit, b: &Hit, most: usize| {
        let (first, second) = if a.from <= b.from { (a, b) } else { (b, a) };
        second.from.saturating_sub(first.to) <= most && (a.from, a.to) != (b.from, b.to)
    };
    let of = |concept: Concept| hits.iter().filter(move |hit| hit.concept == concept);
    found.extend(hits.iter().filter_map(|hit| alone(hit.concept)));
    // New instructions stand behind their "new".
    let orders = |hit: &&Hit| hit.concept == Concept::Authority;
    if of(Concept::New).any(|new| hits.iter().filter(orders).any(|b| b.from >= new.to && b.from - new.to <= 2)) {
        found.insert(NEW_ORDERS);
    }
    for Pair(a, b, most, finding) in PAIRS {
        if of(a).any(|a| of(b).any(|b| near(a, b, most))) {
            found.insert(finding);
        }
    }
    for Ordered(a, b, most, finding) in ORDERED {
        if of(a).any(|a| of(b).any(|b| b.from >= a.to && b.from - a.to <= most)) {
            found.insert(finding);
        }
    }
    for Triple([a, b, c], most, finding) in TRIPLES {
        let meets = |a: &Hit, b: &Hit, c: &Hit| near(b, c, most) || near(a, c, most);
        if of(a).any(|a| of(b).any(|b| near(a, b, most) && of(c).any(|c| meets(a, b, c)))) {
            found.insert(finding);
        }
    }
}

/// Every concept of a folded text with its place, [`HITS_MAX`] of them.
fn hits(text: &str, words: Words) -> Vec<Hit> {
    let tokens = tokens(text, words);
    let mut hits = vec![];
    for (at, token) in tokens.iter().enumerate() {
        let before = hits.len();
        if token.unspaced {
            unspaced(&tokens, at, words, &mut hits);
        } else {
            spaced(&tokens, at, &mut hits);
        }
        if hits.len() == before && words == Words::Spaced && !token.unspaced {
            misspelt(token, &mut hits);
        }
        // Far more than rules need to meet; a flood of words costs no more than this.
        if hits.len() > HITS_MAX {
            break;
        }
    }
    hits.truncate(HITS_MAX);
    hits
}

struct Token {
    text: String,
    from: usize,
    to: usize,
    /// One sign of a script without spaces, or one letter of a glued view.
    unspaced: bool,
}

fn tokens(text: &str, words: Words) -> Vec<Token> {
    let mut tokens: Vec<Token> = vec![];
    let mut place = 0;
    let mut open = false;
    for c in text.chars() {
        if tokens.len() >= WORDS_MAX {
            break;
        }
        if !c.is_alphanumeric() {
            open = false;
            continue;
        }
        let single = words == Words::Glued || is_unspaced(c);
        match tokens.last_mut() {
            Some(last) if open && !single && !last.unspaced => last.text.push(c),
            _ => {
                let width = if single { 1 } else { 2 };
                tokens.push(Token { text: c.to_string(), from: place, to: place + width, unspaced: single });
                place += width;
            }
        }
        open = true;
    }
    tokens
}

fn spaced(tokens: &[Token], at: usize, hits: &mut Vec<Hit>) {
    look_up(tokens, at, &tokens[at].text, hits);
    // Articles and prepositions that are written with their word.
    let prefixed = tokens[at].text.chars().next().is_some_and(|c| matches!(c, '\u{590}'..='\u{6ff}'));
    if prefixed {
        for skipped in 1..=2 {
            if let Some((from, _)) = tokens[at].text.char_indices().nth(skipped) {
                look_up(tokens, at, &tokens[at].text[from..], hits);
            }
        }
    }
}

fn look_up(tokens: &[Token], at: usize, word: &str, hits: &mut Vec<Hit>) {
    let mut consider = |entries: &Vec<Entry>| {
        for entry in entries {
            let follows = |(offset, (text, whole)): (usize, &(String, bool))| {
                tokens
                    .get(at + 1 + offset)
                    .is_some_and(|next| if *whole { next.text == *text } else { next.text.starts_with(text.as_str()) })
            };
            if entry.rest.iter().enumerate().all(follows) {
                let last = &tokens[at + entry.rest.len()];
                hits.push(Hit { concept: entry.concept, from: tokens[at].from, to: last.to });
            }
        }
    };
    if let Some(entries) = LEXICON.whole.get(word) {
        consider(entries);
    }
    for (count, (end, c)) in word.char_indices().enumerate().skip(1) {
        if count >= LEXICON.open_chars_max {
            break;
        }
        if let Some(entries) = LEXICON.open.get(&word[..end + c.len_utf8()]) {
            consider(entries);
        }
    }
}

/// Entries that begin at this sign, whole or open, whatever follows them.
fn unspaced(tokens: &[Token], at: usize, words: Words, hits: &mut Vec<Hit>) {
    let most = match words {
        Words::Spaced => LEXICON.unspaced_chars_max,
        Words::Glued => 24,
    };
    let mut run = String::new();
    for (count, token) in tokens[at..].iter().take(most).enumerate() {
        if !token.unspaced {
            break;
        }
        run.push_str(&token.text);
        let glued_min = if is_unspaced(run.chars().next().unwrap_or(' ')) { 1 } else { GLUED_CHARS_MIN };
        if words == Words::Glued && count + 1 < glued_min {
            continue;
        }
        for entry in [&LEXICON.whole, &LEXICON.open].into_iter().filter_map(|map| map.get(run.as_str())).flatten() {
            let Some(to) = glued_end(tokens, at + count + 1, &entry.rest) else {
                continue;
            };
            hits.push(Hit { concept: entry.concept, from: tokens[at].from, to: tokens[to - 1].to });
        }
    }
}

/// Where the words of an entry end that follow one another without spaces.
fn glued_end(tokens: &[Token], mut at: usize, rest: &[(String, bool)]) -> Option<usize> {
    for (text, _) in rest {
        for c in text.chars() {
            if !tokens.get(at)?.text.starts_with(c) {
                return None;
            }
            at += 1;
        }
    }
    Some(at)
}

static KEYS: LazyLock<Vec<(Vec<char>, Concept)>> =
    LazyLock::new(|| KEY_WORDS.iter().map(|(key, concept)| (folded(key).chars().collect(), *concept)).collect());

/// One letter wrong, the inner letters turned round, or no vowels.
fn misspelt(token: &Token, hits: &mut Vec<Hit>) {
    let word: Vec<char> = token.text.chars().take(WORD_CHARS_MAX + 1).collect();
    if !(4..=WORD_CHARS_MAX).contains(&word.len()) || !token.text.is_ascii() {
        return;
    }
    if let Some(concept) = SCRAMBLED.get(&scrambled(&word)) {
        hits.push(Hit { concept: *concept, from: token.from, to: token.to });
        return;
    }
    for (key, concept) in KEYS.iter() {
        if is_one_off(&word, key) || is_without_vowels(&word, key) {
            hits.push(Hit { concept: *concept, from: token.from, to: token.to });
            return;
        }
    }
}

/// Words that stand alone in the lexicon, of five letters and more, by their ends and what is between.
static SCRAMBLED: LazyLock<HashMap<String, Concept>> = LazyLock::new(|| {
    let single = LEXICON.whole.iter().filter(|(word, _)| word.is_ascii() && word.len() >= 5);
    let entries = single.flat_map(|(word, entries)| {
        entries.iter().filter(|entry| entry.rest.is_empty()).map(|entry| (word.clone(), entry.concept))
    });
    let keys = KEY_WORDS.iter().map(|(key, concept)| (folded(key), *concept));
    entries.chain(keys).map(|(word, concept)| (scrambled(&word.chars().collect::<Vec<_>>()), concept)).collect()
});

/// The same for every order of the inner letters.
fn scrambled(word: &[char]) -> String {
    let mut inner = word[1..word.len() - 1].to_vec();
    inner.sort_unstable();
    [word[0]].into_iter().chain(inner).chain([word[word.len() - 1]]).collect()
}

/// One letter more, less or other, in words long enough to be meant.
fn is_one_off(word: &[char], key: &[char]) -> bool {
    if key.len() < 6 || word.len().abs_diff(key.len()) > 1 || word.first() != key.first() {
        return false;
    }
    let same = word.iter().zip(key).take_while(|(a, b)| a == b).count();
    let (word, key) = (&word[same..], &key[same..]);
    let tail = |skip: usize, of: &[char]| of.get(skip..).map(<[char]>::to_vec).unwrap_or_default();
    tail(1, word) == tail(1, key) || tail(1, word) == key || word == tail(1, key)
}

fn is_without_vowels(word: &[char], key: &[char]) -> bool {
    let is_vowel = |c: &&char| matches!(**c, 'a' | 'e' | 'i' | 'o' | 'u');
    let bare: Vec<char> = key.iter().filter(|c| !is_vowel(c)).copied().collect();
    bare.len() >= 4 && word == bare
}
