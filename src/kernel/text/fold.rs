//! Characters: what is shown of a text, what is unseen in it, and the form in which words are compared.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_security::skeleton;

use super::{Family, Finding, Limit};

/// Marks on one letter: Hebrew and Vietnamese need three, Burmese four.
const MARKS_MAX: usize = 4;
/// The same character again and again.
const REPEATED_MAX: usize = 24;
/// Tags behind the black flag of a country's part.
const FLAG_TAGS: usize = 7;
/// Letters in another dress before it is more than an ornament.
const STYLED_MAX: usize = 3;

const UNSEEN: Finding =
    Finding { family: Family::Invisible, rule: "unseen", reason: "it has characters that are not seen" };
const DIRECTION: Finding =
    Finding { family: Family::Invisible, rule: "direction", reason: "it turns the direction of text" };
const TAGS: Finding = Finding { family: Family::Invisible, rule: "tags", reason: "it hides text in tag characters" };
const CONTROL: Finding = Finding { family: Family::Control, rule: "control", reason: "it has control characters" };
const LINES: Finding = Finding { family: Family::Control, rule: "lines", reason: "it has more than one line" };
const MIXED: Finding =
    Finding { family: Family::Homoglyph, rule: "mixed_word", reason: "a word mixes look-alike letters of two scripts" };
const STYLED: Finding =
    Finding { family: Family::Homoglyph, rule: "dressed", reason: "letters stand in forms made for formulas or show" };
const MARKS: Finding = Finding { family: Family::Flood, rule: "marks", reason: "letters carry too many marks" };
const REPEATED: Finding = Finding { family: Family::Flood, rule: "repeated", reason: "one character fills the text" };

/// NFKC on one line: breaks and tabs are spaces, what is not seen is gone.
pub(super) fn one_line(text: &str) -> String {
    let mut now = text.to_owned();
    // Composition may bring about what the next round removes; each round only shortens what it removes.
    for _ in 0..4 {
        let next = round(&now);
        if next == now {
            break;
        }
        now = next;
    }
    now
}

fn round(text: &str) -> String {
    let visible: String = text.chars().filter_map(|c| if is_break(c) { Some(' ') } else { seen(c) }).collect();
    let composed: String = visible.nfkc().collect();
    let (mut line, mut marks) = (String::with_capacity(composed.len()), 0);
    for c in composed.chars().filter_map(|c| if is_break(c) { Some(' ') } else { seen(c) }) {
        if is_combining_mark(c) {
            marks += 1;
            // A mark stands on something.
            if marks > MARKS_MAX || line.is_empty() || line.ends_with(' ') {
                continue;
            }
        } else {
            marks = 0;
        }
        if c.is_whitespace() {
            if !line.is_empty() && !line.ends_with(' ') {
                line.push(' ');
            }
        } else {
            line.push(c);
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// Cut where no letter loses its marks.
pub(super) fn cut(text: &str, limit: Limit) -> String {
    let mut end = 0;
    for (count, (at, c)) in text.char_indices().enumerate() {
        if count >= limit.chars || at + c.len_utf8() > limit.bytes {
            break;
        }
        end = at + c.len_utf8();
    }
    if end < text.len() {
        while text[end..].chars().next().is_some_and(is_combining_mark) && end > 0 {
            end = text[..end].char_indices().next_back().map_or(0, |(at, _)| at);
        }
    }
    text[..end].trim_end().to_owned()
}

fn is_break(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\x0b' | '\x0c' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// None: not seen, or no character at all.
fn seen(c: char) -> Option<char> {
    (!is_unseen(c) && !c.is_control()).then_some(c)
}

/// What a reader does not see: formats, fillers, selectors, tags, private use, what is no character.
pub(super) fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}'
        | '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}'
        | '\u{fdd0}'..='\u{fdef}' | '\u{e000}'..='\u{f8ff}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1345f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d159}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{10ffff}')
        || u32::from(c) & 0xfffe == 0xfffe
}

/// What the characters alone say.
pub(super) fn characters(text: &str, found: &mut BTreeSet<Finding>) {
    let all: Vec<char> = text.trim().chars().collect();
    let right_to_left = all.iter().any(|c| is_right_to_left(*c));
    let (mut marks, mut repeated, mut styled, mut tags, mut flags) = (0, 0, 0, 0, 0);
    for (at, c) in all.iter().copied().enumerate() {
        let (before, after) = (at.checked_sub(1).map(|at| all[at]), all.get(at + 1).copied());
        if is_break(c) {
            found.insert(LINES);
        } else if c.is_control() {
            found.insert(CONTROL);
        } else if matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}') {
            found.insert(DIRECTION);
        } else if is_unseen(c) && !belongs(c, before, after, right_to_left) {
            found.insert(UNSEEN);
        }
        marks = if is_combining_mark(c) { marks + 1 } else { 0 };
        if marks > MARKS_MAX {
            found.insert(MARKS);
        }
        repeated = if before == Some(c) { repeated + 1 } else { 0 };
        if repeated > REPEATED_MAX {
            found.insert(REPEATED);
        }
        styled += usize::from(is_styled(c));
        tags += usize::from(matches!(c, '\u{e0001}'..='\u{e007f}'));
        flags += usize::from(c == '\u{1f3f4}');
    }
    if tags > flags * FLAG_TAGS {
        found.insert(TAGS);
    }
    if styled > STYLED_MAX {
        found.insert(STYLED);
    }
    if text.split(|c: char| !c.is_alphabetic()).any(is_mixed) {
        found.insert(MIXED);
    }
}

/// Joiners where scripts and emoji need them, selectors behind what they select, marks of direction in such text.
fn belongs(c: char, before: Option<char>, after: Option<char>, right_to_left: bool) -> bool {
    let needs = |c: Option<char>| c.is_some_and(|c| is_right_to_left(c) || is_indic(c) || is_pictured(c));
    match c {
        '\u{200e}' | '\u{200f}' | '\u{61c}' => right_to_left,
        '\u{200c}' | '\u{200d}' => needs(before) && needs(after),
        '\u{fe0e}' | '\u{fe0f}' => before.is_some_and(|c| is_pictured(c) || matches!(c, '#' | '*' | '0'..='9')),
        '\u{fe00}'..='\u{fe02}' => before.is_some_and(|c| u32::from(c) >= 0x2e80),
        // Counted as tags.
        '\u{e0001}'..='\u{e007f}' => true,
        _ => false,
    }
}

fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}')
}

fn is_indic(c: char) -> bool {
    matches!(c, '\u{900}'..='\u{dff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
}

fn is_pictured(c: char) -> bool {
    matches!(c, '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{2122}' | '\u{2139}' | '\u{2190}'..='\u{21ff}'
        | '\u{2300}'..='\u{27bf}' | '\u{2900}'..='\u{297f}' | '\u{2b00}'..='\u{2bff}' | '\u{3030}' | '\u{303d}'
        | '\u{1f000}'..='\u{1faff}' | '\u{fe0f}')
}

/// Letters in mathematical, circled, squared, parenthesised or full-width dress.
fn is_styled(c: char) -> bool {
    matches!(c, '\u{1d400}'..='\u{1d7ff}' | '\u{24b6}'..='\u{24e9}' | '\u{249c}'..='\u{24b5}'
        | '\u{1f110}'..='\u{1f189}' | '\u{ff21}'..='\u{ff3a}' | '\u{ff41}'..='\u{ff5a}' | '\u{2c7c}' | '\u{1d00}'..='\u{1d22}'
        | '\u{a730}' | '\u{a731}' | '\u{299}' | '\u{262}' | '\u{29c}' | '\u{26a}' | '\u{29f}' | '\u{274}' | '\u{280}' | '\u{28f}'
        | '\u{1d2c}'..='\u{1d6a}')
}

/// Whether a word has Latin letters and letters of another script that look like Latin ones.
fn is_mixed(word: &str) -> bool {
    let is_latin = |c: char| c.is_ascii_alphabetic() || matches!(c, '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}');
    let other = |c: char| {
        matches!(c, '\u{370}'..='\u{58f}' | '\u{10a0}'..='\u{10ff}' | '\u{13a0}'..='\u{13ff}' | '\u{1f00}'..='\u{1fff}'
            | '\u{2c80}'..='\u{2cff}' | '\u{a4d0}'..='\u{a4ff}' | '\u{ab70}'..='\u{abbf}' | '\u{10400}'..='\u{1044f}')
            && looks_latin(c)
    };
    word.chars().any(is_latin) && word.chars().any(other)
}

fn looks_latin(c: char) -> bool {
    let lower: String = c.to_lowercase().collect();
    let both = [c.to_string(), lower];
    both.iter().any(|text| skeleton(text).any(|c| c.is_ascii_alphabetic()))
}

/// The form in which words are compared: look-alikes are one letter, marks and case are gone, digits and signs that stand
/// for letters are those letters, `l` is `i`, `rn` is `m`.
pub(super) fn folded(text: &str) -> String {
    let all: Vec<char> = text.chars().map(undressed).filter(|c| !is_unseen(*c)).collect();
    let in_place = |at: usize| all.get(at).is_some_and(|c| c.is_alphanumeric());
    let mut plain = String::with_capacity(text.len());
    for (at, c) in all.iter().copied().enumerate() {
        let within = at > 0 && in_place(at - 1) && in_place(at + 1);
        plain.push(match c {
            '0' => 'o',
            '1' => 'i',
            '3' => 'e',
            '4' => 'a',
            '5' => 's',
            '7' => 't',
            '8' => 'b',
            '9' => 'g',
            '@' if in_place(at + 1) => 'a',
            '$' if in_place(at + 1) || (at > 0 && in_place(at - 1)) => 's',
            '!' | '|' if within => 'i',
            '+' if within => 't',
            c => c,
        });
    }
    let lower: String = plain.nfkc().flat_map(char::to_lowercase).collect();
    let mut base = String::with_capacity(lower.len());
    for c in lower.chars() {
        if c.is_ascii() || is_whole(c) {
            base.push(c);
        } else if !is_combining_mark(c) {
            let letter = c.to_string();
            let alike: String = skeleton(&letter).flat_map(char::to_lowercase).collect();
            base.extend(alike.nfd().filter(|c| !is_combining_mark(*c)));
        }
    }
    // Some letters look like an `m` and are said to look like `rn`.
    base.replace("rn", "m").replace(['l', '|'], "i")
}

/// Syllables and ideographs that are compared as they are.
fn is_whole(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{20000}'..='\u{3ffff}')
}

/// Letters that normalisation leaves in their dress.
fn undressed(c: char) -> char {
    let letter = |offset: u32| char::from(b'a' + u8::try_from(offset % 26).unwrap_or(0));
    match u32::from(c) {
        // Parenthesised, circled, squared, negative circled, negative squared; flags' letters; tags.
        code @ 0x249c..=0x24b5 => letter(code - 0x249c),
        code @ 0x1f110..=0x1f129 => letter(code - 0x1f110),
        code @ 0x1f130..=0x1f149 => letter(code - 0x1f130),
        code @ 0x1f150..=0x1f169 => letter(code - 0x1f150),
        code @ 0x1f170..=0x1f189 => letter(code - 0x1f170),
        code @ 0x1f1e6..=0x1f1ff => letter(code - 0x1f1e6),
        code @ 0xe0020..=0xe007e => char::from_u32(code - 0xe0000).unwrap_or(c),
        _ => SMALL.iter().find(|(small, _)| *small == c).map_or(c, |(_, plain)| *plain),
    }
}

/// Small capitals, turned letters, and emoji that are letters.
const SMALL: [(char, char); 52] = [
    ('ᴀ', 'a'),
    ('ʙ', 'b'),
    ('ᴄ', 'c'),
    ('ᴅ', 'd'),
    ('ᴇ', 'e'),
    ('ꜰ', 'f'),
    ('ɢ', 'g'),
    ('ʜ', 'h'),
    ('ɪ', 'i'),
    ('ᴊ', 'j'),
    ('ᴋ', 'k'),
    ('ʟ', 'l'),
    ('ᴍ', 'm'),
    ('ɴ', 'n'),
    ('ᴏ', 'o'),
    ('ᴘ', 'p'),
    ('ǫ', 'q'),
    ('ʀ', 'r'),
    ('ꜱ', 's'),
    ('ᴛ', 't'),
    ('ᴜ', 'u'),
    ('ᴠ', 'v'),
    ('ᴡ', 'w'),
    ('ʏ', 'y'),
    ('ᴢ', 'z'),
    ('ɐ', 'a'),
    ('ɔ', 'c'),
    ('ǝ', 'e'),
    ('ɟ', 'f'),
    ('ƃ', 'g'),
    ('ɓ', 'g'),
    ('ɥ', 'h'),
    ('ᴉ', 'i'),
    ('ı', 'i'),
    ('ɾ', 'j'),
    ('ʞ', 'k'),
    ('ɯ', 'm'),
    ('ɹ', 'r'),
    ('ʇ', 't'),
    ('ʌ', 'v'),
    ('ʍ', 'w'),
    ('ʎ', 'y'),
    ('ⱼ', 'j'),
    ('ø', 'o'),
    ('đ', 'd'),
    ('ł', 'l'),
    ('ħ', 'h'),
    ('ŧ', 't'),
    ('ƒ', 'f'),
    ('ß', 's'),
    ('þ', 'p'),
    ('ð', 'd'),
];
