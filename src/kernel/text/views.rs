//! Other readings of a text: decoded, turned round, taken apart and put together. Each is judged like the text itself.
//!
//! A model reads base64, rot13 or Morse as it reads a sentence. Views of views are made to a depth of [`DEPTH_MAX`], and
//! all of them together are no longer than [`BUDGET_BYTES`].

use std::collections::{BTreeSet, HashSet};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use unicode_normalization::UnicodeNormalization;

use super::fold::is_unseen;
use super::near::{self, Words};
use super::{Family, Finding, shape};

const DEPTH_MAX: usize = 3;
const BUDGET_BYTES: usize = 32 * 1024;
/// Letters that a decoded text has before it is a text.
const LETTERS_MIN: usize = 4;

const HIDDEN: Finding =
    Finding { family: Family::Encoded, rule: "hidden_words", reason: "words are hidden in an encoding" };
const HOSTILE: Finding =
    Finding { family: Family::Encoded, rule: "hidden_attempt", reason: "an attempt is hidden in an encoding" };

/// A lenient decoder: what is not padded is decoded, too.
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// A reading, and what it says of the text that has it.
struct View {
    text: String,
    depth: usize,
    /// Hidden: nobody wrote this to be read.
    hidden: bool,
    /// Its beginning is that of the text itself.
    first: bool,
}

/// Everything that some reading of a text says.
pub(super) fn judged(raw: &str, found: &mut BTreeSet<Finding>) {
    let mut spent = 0;
    let mut known: HashSet<String> = HashSet::new();
    let text: String = raw.nfkc().collect();
    let mut waiting = vec![View { text: raw.to_owned(), depth: 0, hidden: false, first: true }];
    waiting.push(View { text, depth: 0, hidden: false, first: true });
    while let Some(view) = waiting.pop() {
        if view.text.trim().is_empty() || known.contains(&view.text) {
            continue;
        }
        spent += view.text.len();
        if spent > BUDGET_BYTES {
            break;
        }
        known.insert(view.text.clone());
        let mut here = BTreeSet::new();
        shape::judged(&view.text, view.first, &mut here);
        worded(&view.text, &mut here);
        if view.hidden && !here.is_empty() {
            found.insert(HOSTILE);
        }
        found.append(&mut here);
        if view.depth < DEPTH_MAX {
            for text in decoded(&view.text) {
                if is_words(&text) {
                    found.insert(HIDDEN);
                }
                waiting.push(View { text, depth: view.depth + 1, hidden: true, first: false });
            }
        }
    }
}

/// What the words say, however they are set.
fn worded(text: &str, found: &mut BTreeSet<Finding>) {
    near::said(text, Words::Spaced, found);
    let unseen = |c: char| is_unseen(c) || c.is_control();
    if text.chars().any(unseen) {
        let apart: String = text.chars().map(|c| if unseen(c) { ' ' } else { c }).collect();
        near::said(&apart, Words::Spaced, found);
        let together: String = text.chars().filter(|c| !unseen(*c)).collect();
        near::said(&together, Words::Spaced, found);
    }
    let humps = humps(text);
    if humps != text {
        near::said(&humps, Words::Spaced, found);
    }
    let joined = joined(text);
    if joined != text {
        near::said(&joined, Words::Spaced, found);
    }
    if is_taken_apart(text) {
        near::said(&joined, Words::Glued, found);
    }
    let turned: String = text.chars().rev().collect();
    let mut backwards = BTreeSet::new();
    near::said(&turned, Words::Spaced, &mut backwards);
    if text.contains(['ǝ', 'ɹ', 'ʇ', 'ɐ', 'ɔ', 'ɥ', 'ɯ', 'ʍ']) {
        let swapped = |c: char| match c {
            'u' => 'n',
            'n' => 'u',
            'b' => 'q',
            'q' => 'b',
            'd' => 'p',
            'p' => 'd',
            c => c,
        };
        near::said(&turned.chars().map(swapped).collect::<String>(), Words::Spaced, &mut backwards);
        near::said(&text.chars().map(swapped).collect::<String>(), Words::Spaced, &mut backwards);
    }
    let each: Vec<String> = text.split_whitespace().map(|word| word.chars().rev().collect()).collect();
    near::said(&each.join(" "), Words::Spaced, &mut backwards);
    if !backwards.is_empty() {
        found.insert(HOSTILE);
        found.append(&mut backwards);
    }
    for moved in moved(text) {
        let mut here = BTreeSet::new();
        near::said(&moved, Words::Spaced, &mut here);
        if !here.is_empty() {
            found.insert(HOSTILE);
            found.append(&mut here);
        }
    }
}

/// `IgnoreAllRules` as three words.
fn humps(text: &str) -> String {
    let mut apart = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    for c in text.chars() {
        if before.is_lowercase() && c.is_uppercase() {
            apart.push(' ');
        }
        apart.push(if matches!(c, '_' | '-' | '.' | '/') { ' ' } else { c });
        before = c;
    }
    apart
}

/// Whether spaces and signs stand where no word ends, or none where words do: single letters, signs all through a word,
/// a very long word. A hyphen makes no such text.
fn is_taken_apart(text: &str) -> bool {
    let inner_signs = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        bare.chars().filter(|c| !c.is_alphanumeric()).count()
    };
    let singles =
        text.split_whitespace().filter(|word| word.chars().filter(|c| c.is_alphanumeric()).count() == 1).count();
    singles >= 4 || text.split_whitespace().any(|word| inner_signs(word) >= 2 || word.chars().count() >= 18)
}

/// Letters that stand alone, put together; signs within a word left out.
fn joined(text: &str) -> String {
    let is_sign = |c: char| !c.is_alphanumeric() && !c.is_whitespace();
    let mut words: Vec<String> = vec![];
    let mut letters = String::new();
    let mut count = 0;
    let flush = |letters: &mut String, count: &mut usize, words: &mut Vec<String>| {
        if !letters.is_empty() {
            words.push(std::mem::take(letters));
        }
        *count = 0;
    };
    for word in text.split(char::is_whitespace) {
        let bare: String = word.chars().filter(|c| !is_sign(*c)).collect();
        if bare.chars().count() == 1 {
            letters.push_str(&bare);
            count += 1;
        } else if bare.is_empty() && count > 0 && word.is_empty() {
            // Two spaces: the next word.
            flush(&mut letters, &mut count, &mut words);
        } else if !bare.is_empty() {
            flush(&mut letters, &mut count, &mut words);
            words.push(bare);
        }
    }
    flush(&mut letters, &mut count, &mut words);
    words.join(" ")
}

/// Alphabets moved or mirrored, where a word of attempts shows by how much.
fn moved(text: &str) -> Vec<String> {
    let turn = |by: u8| -> String {
        let moved = |c: char, base: u8| char::from((u8::try_from(c).unwrap_or(base) - base + by) % 26 + base);
        text.chars()
            .map(|c| match c {
                'a'..='z' => moved(c, b'a'),
                'A'..='Z' => moved(c, b'A'),
                _ => c,
            })
            .collect()
    };
    let mirrored = || -> String {
        text.chars()
            .map(|c| match c {
                'a'..='z' => char::from(b'z' - (u8::try_from(c).unwrap_or(b'a') - b'a')),
                'A'..='Z' => char::from(b'Z' - (u8::try_from(c).unwrap_or(b'A') - b'A')),
                _ => c,
            })
            .collect()
    };
    let mut turns: BTreeSet<u8> = BTreeSet::new();
    let mut mirror = false;
    for word in text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| (6..=14).contains(&word.len())) {
        let word = word.to_ascii_lowercase();
        for key in MOVED_KEYS.iter().filter(|key| key.len() == word.len()) {
            let by = |a: u8, b: u8| (26 + a - b) % 26;
            let first = by(key.as_bytes()[0], word.as_bytes()[0]);
            if first != 0 && key.bytes().zip(word.bytes()).all(|(a, b)| by(a, b) == first) {
                turns.insert(first);
            }
            mirror |= key.bytes().zip(word.bytes()).all(|(a, b)| a - b'a' == b'z' - b);
        }
    }
    let mut views: Vec<String> = turns.into_iter().take(3).map(turn).collect();
    if mirror {
        views.push(mirrored());
    }
    views
}

/// Words of six letters and more that attempts need.
const MOVED_KEYS: [&str; 22] = [
    "ignore",
    "previous",
    "instructions",
    "instruction",
    "disregard",
    "forget",
    "override",
    "bypass",
    "prompt",
    "system",
    "transfer",
    "approve",
    "approved",
    "execute",
    "reveal",
    "account",
    "password",
    "balance",
    "authorize",
    "assistant",
    "pretend",
    "confirmation",
];

/// What is encoded in a text, in every encoding that it could be.
fn decoded(text: &str) -> Vec<String> {
    let mut views = vec![];
    let mut bytes = |bytes: Option<Vec<u8>>| {
        if let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|text| is_text(text)) {
            views.push(text);
        }
    };
    bytes(percent(text, '%'));
    bytes(percent(text, '='));
    bytes(percent(text, '\\'));
    for run in runs(text, |c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '='), 8) {
        bytes(base64(&run));
        bytes(base32(&run));
    }
    // Cut into pieces.
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if compact.len() != text.len() {
        for run in runs(&compact, |c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='), 16) {
            bytes(base64(&run));
        }
    }
    bytes(hexadecimal(text));
    bytes(numbers(text, 2));
    bytes(numbers(text, 8));
    bytes(numbers(text, 10));
    bytes(selected(text));
    views.extend(entities(text));
    views.extend(escapes(text));
    views.extend(morse(text));
    views.extend(tags(text));
    views.extend(braille(text));
    views.extend(initials(text));
    views
}

/// Mostly letters and spaces.
fn is_text(text: &str) -> bool {
    let (all, letters) = (text.chars().count(), text.chars().filter(|c| c.is_alphabetic()).count());
    let odd = text.chars().filter(|c| c.is_control() && !c.is_whitespace()).count();
    letters >= LETTERS_MIN && letters * 2 >= all && odd == 0
}

/// Several words: more than chance makes of a model's number.
fn is_words(text: &str) -> bool {
    let is_word = |word: &&str| word.len() >= 2 && word.chars().all(|c| c.is_alphabetic() || c.is_ascii_punctuation());
    text.split_whitespace().filter(is_word).count() >= 2 && text.is_ascii() && text.len() >= 8
}

fn runs(text: &str, of: impl Fn(char) -> bool, least: usize) -> Vec<String> {
    text.split(|c| !of(c)).filter(|run| run.len() >= least).take(16).map(str::to_owned).collect()
}

fn base64(run: &str) -> Option<Vec<u8>> {
    let standard: String = run
        .trim_end_matches('=')
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    let whole = if standard.len() % 4 == 1 { &standard[..standard.len() - 1] } else { &standard };
    BASE64.decode(whole).ok()
}

/// RFC 4648 section 6.
fn base32(run: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (vec![], 0_u32, 0_u32);
    for c in run.trim_end_matches('=').bytes() {
        let value = match c.to_ascii_uppercase() {
            letter @ b'A'..=b'Z' => letter - b'A',
            digit @ b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        held = (held << 5 | u32::from(value)) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    (bytes.len() >= 5).then_some(bytes)
}

/// `%69`, `=69`, `\x69` and `\151`.
fn percent(text: &str, sign: char) -> Option<Vec<u8>> {
    let all = text.as_bytes();
    let (mut bytes, mut at, mut met) = (vec![], 0, 0);
    while at < all.len() {
        let escaped = (all[at] == u8::try_from(sign).ok()?).then(|| {
            let skip = usize::from(sign == '\\' && matches!(all.get(at + 1), Some(b'x' | b'X')));
            if sign == '\\' && skip == 0 {
                let digits = std::str::from_utf8(all.get(at + 1..at + 4)?).ok()?;
                return Some((u8::from_str_radix(digits, 8).ok()?, 4));
            }
            let digits = std::str::from_utf8(all.get(at + 1 + skip..at + 3 + skip)?).ok()?;
            Some((u8::from_str_radix(digits, 16).ok()?, 3 + skip))
        });
        if let Some(Some((byte, length))) = escaped {
            bytes.push(byte);
            at += length;
            met += 1;
        } else {
            bytes.push(all[at]);
            at += 1;
        }
    }
    (met >= 2).then_some(bytes)
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let plain = text.to_ascii_lowercase().replace("0x", "").replace("\\x", "").replace("u+00", "");
    let compact: String = plain.chars().filter(|c| !matches!(c, ' ' | ':' | ',' | '-' | ';')).collect();
    let run = compact.split(|c: char| !c.is_ascii_hexdigit()).max_by_key(|run| run.len())?;
    let run = if run.len() % 2 == 1 { &run[1..] } else { run };
    if run.len() < 16 {
        return None;
    }
    (0..run.len()).step_by(2).map(|at| u8::from_str_radix(&run[at..at + 2], 16).ok()).collect()
}

/// Characters' numbers: groups of binary digits, octal or decimal ones.
fn numbers(text: &str, radix: u32) -> Option<Vec<u8>> {
    let mut groups: Vec<&str> = text.split(|c: char| !c.is_ascii_digit()).filter(|group| !group.is_empty()).collect();
    let whole: String;
    if radix == 2 && groups.len() == 1 && groups[0].len() >= 32 && groups[0].len().is_multiple_of(8) {
        whole = groups[0].to_owned();
        groups = whole.as_bytes().chunks(8).filter_map(|group| std::str::from_utf8(group).ok()).collect();
    }
    let fits = |group: &&str| match radix {
        2 => (7..=8).contains(&group.len()),
        8 => group.len() == 3,
        _ => (2..=3).contains(&group.len()),
    };
    let groups: Vec<&str> = groups.into_iter().filter(fits).collect();
    if groups.len() < 5 {
        return None;
    }
    groups.into_iter().map(|group| u8::from_str_radix(group, radix).ok()).collect()
}

fn entities(text: &str) -> Option<String> {
    if !text.contains('&') {
        return None;
    }
    let (mut plain, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '#')).unwrap_or(after.len());
        let c = match &after[..end] {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            "nbsp" => Some(' '),
            "lbrace" | "lcub" => Some('{'),
            "colon" => Some(':'),
            "newline" | "NewLine" => Some(' '),
            number => number.strip_prefix('#').and_then(|number| {
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => number.parse(),
                };
                code.ok().and_then(char::from_u32)
            }),
        };
        match c {
            Some(c) => {
                plain.push(c);
                rest = after[end..].strip_prefix(';').unwrap_or(&after[end..]);
            }
            None => {
                plain.push('&');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    (plain != text).then_some(plain)
}

/// `\u0069`, `\u{69}`, `U+0069`.
fn escapes(text: &str) -> Option<String> {
    let (mut plain, mut rest, mut met) = (String::new(), text, 0);
    while !rest.is_empty() {
        let after = ["\\u{", "\\u", "\\U", "U+", "u+", "%u"].iter().find_map(|sign| rest.strip_prefix(sign));
        let read = after.and_then(|after| {
            let digits: String = after.chars().take_while(char::is_ascii_hexdigit).take(8).collect();
            let digits = if digits.len() > 4 && !rest.starts_with("\\U") && !rest.starts_with("\\u{") {
                &digits[..4]
            } else {
                &digits
            };
            let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
            Some((c, after[digits.len()..].trim_start_matches('}')))
        });
        if let Some((c, after)) = read {
            plain.push(c);
            met += 1;
            // Codes that are listed with spaces between them.
            rest = after.strip_prefix(' ').filter(|after| after.starts_with(['U', 'u', '\\'])).unwrap_or(after);
        } else {
            let c = rest.chars().next()?;
            plain.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    (met >= 2).then_some(plain)
}

const MORSE: [(&str, char); 36] = [
    (".-", 'a'),
    ("-...", 'b'),
    ("-.-.", 'c'),
    ("-..", 'd'),
    (".", 'e'),
    ("..-.", 'f'),
    ("--.", 'g'),
    ("....", 'h'),
    ("..", 'i'),
    (".---", 'j'),
    ("-.-", 'k'),
    (".-..", 'l'),
    ("--", 'm'),
    ("-.", 'n'),
    ("---", 'o'),
    (".--.", 'p'),
    ("--.-", 'q'),
    (".-.", 'r'),
    ("...", 's'),
    ("-", 't'),
    ("..-", 'u'),
    ("...-", 'v'),
    (".--", 'w'),
    ("-..-", 'x'),
    ("-.--", 'y'),
    ("--..", 'z'),
    ("-----", '0'),
    (".----", '1'),
    ("..---", '2'),
    ("...--", '3'),
    ("....-", '4'),
    (".....", '5'),
    ("-....", '6'),
    ("--...", '7'),
    ("---..", '8'),
    ("----.", '9'),
];

fn morse(text: &str) -> Option<String> {
    let plain: String = text
        .chars()
        .map(|c| match c {
            '·' | '•' | '∙' => '.',
            '−' | '–' | '—' | '_' => '-',
            '|' => '/',
            c => c,
        })
        .collect();
    let mut read = String::new();
    let mut met = 0;
    for group in plain.replace('/', " / ").replace("  ", " / ").split_whitespace() {
        if group == "/" {
            read.push(' ');
        } else if let Some((_, c)) = MORSE.iter().find(|(code, _)| *code == group) {
            read.push(*c);
            met += 1;
        }
    }
    (met >= 6).then_some(read)
}

/// Letters hidden in tag characters.
fn tags(text: &str) -> Option<String> {
    let hidden: String = text
        .chars()
        .filter_map(|c| match u32::from(c) {
            code @ 0xe0020..=0xe007e => char::from_u32(code - 0xe0000),
            _ => None,
        })
        .collect();
    (hidden.len() >= LETTERS_MIN).then_some(hidden)
}

/// Bytes hidden in variation selectors, and bits in two characters that are not seen.
fn selected(text: &str) -> Option<Vec<u8>> {
    let bytes: Vec<u8> = text
        .chars()
        .filter_map(|c| match u32::from(c) {
            code @ 0xfe00..=0xfe0f => u8::try_from(code - 0xfe00).ok(),
            code @ 0xe0100..=0xe01ef => u8::try_from(code - 0xe0100 + 16).ok(),
            _ => None,
        })
        .collect();
    if bytes.len() >= LETTERS_MIN {
        return Some(bytes);
    }
    let bits: Vec<u8> = text
        .chars()
        .filter_map(|c| match c {
            '\u{200b}' => Some(0),
            '\u{200c}' => Some(1),
            _ => None,
        })
        .collect();
    let bytes =
        bits.chunks_exact(8).map(|bits| bits.iter().fold(0_u8, |byte, bit| byte << 1 | bit)).collect::<Vec<_>>();
    (bytes.len() >= LETTERS_MIN).then_some(bytes)
}

/// Grade one.
fn braille(text: &str) -> Option<String> {
    const DOTS: [u8; 26] = [
        0x01, 0x03, 0x09, 0x19, 0x11, 0x0b, 0x1b, 0x13, 0x0a, 0x1a, 0x05, 0x07, 0x0d, 0x1d, 0x15, 0x0f, 0x1f, 0x17,
        0x0e, 0x1e, 0x25, 0x27, 0x3a, 0x2d, 0x3d, 0x35,
    ];
    let mut met = 0;
    let read: String = text
        .chars()
        .map(|c| {
            let Some(dots) = u32::from(c).checked_sub(0x2800).and_then(|dots| u8::try_from(dots).ok()) else {
                return c;
            };
            let letter = (b'a'..=b'z').zip(DOTS).find(|(_, of)| *of == dots);
            met += usize::from(letter.is_some());
            letter.map_or(' ', |(letter, _)| char::from(letter))
        })
        .collect();
    (met >= LETTERS_MIN).then_some(read)
}

/// The spelling alphabet: India Golf November …
fn initials(text: &str) -> Option<String> {
    const SPELT: [&str; 26] = [
        "alfa", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo", "lima",
        "mike", "november", "oscar", "papa", "quebec", "romeo", "sierra", "tango", "uniform", "victor", "whiskey",
        "xray", "yankee", "zulu",
    ];
    let lower = text.to_lowercase().replace("alpha", "alfa").replace("juliet ", "juliett ").replace("x-ray", "xray");
    let words = lower.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    let read: Vec<char> = words.filter(|word| SPELT.contains(word)).filter_map(|word| word.chars().next()).collect();
    // Put apart: the view joins letters that stand alone.
    (read.len() >= 6).then(|| read.iter().map(char::to_string).collect::<Vec<_>>().join(" "))
}
