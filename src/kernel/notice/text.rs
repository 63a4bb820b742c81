//! Texts that leave the bank: accounts masked, what people and strangers wrote cleaned and shortened.

/// Characters of an account that stay.
const SHOWN: usize = 4;
/// So many digits, with spaces or dashes between them or none, are a number that is not shown whole: an account, a card.
const DIGITS_SHOWN_MAX: usize = 6;

/// An account as everybody may see it: its last four characters, and none of one that has hardly more.
pub fn masked(account: &str) -> String {
    let characters: Vec<char> = account.chars().collect();
    let shown = if characters.len() > SHOWN + 1 { SHOWN } else { 0 };
    let end: String = characters[characters.len() - shown..].iter().collect();
    format!("••••{}", without_commands(&end))
}

/// At most so many characters; what is cut is marked.
pub fn shortened(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// An amount as the ledger writes it, and nothing else.
pub fn amount(text: &str) -> String {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-');
    if plain { shortened(text, 24) } else { "-".to_owned() }
}

/// One line of what somebody wrote: without control and invisible characters, long numbers masked, shortened.
pub fn cleaned(text: &str, chars_max: usize) -> String {
    let cut: String = text.chars().take(chars_max.saturating_mul(4)).collect();
    shortened(&numbers_masked(&without_commands(&cut)), chars_max)
}

/// Several words of spaces and line ends become one space; what moves, hides or turns text is gone.
fn without_commands(text: &str) -> String {
    let visible: String = text.chars().map(|letter| if letter.is_whitespace() { ' ' } else { letter }).collect();
    let visible: String = visible.chars().filter(|letter| !letter.is_control() && !is_invisible(*letter)).collect();
    visible.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Unicode's format characters (general category Cf), variation selectors, tags, fillers, private use.
fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1345f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

/// Masks words with many digits, ids of ours apart, and such numbers written in groups.
fn numbers_masked(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let mut out: Vec<String> = Vec::with_capacity(words.len());
    let mut at = 0;
    while at < words.len() {
        // A number in groups: neighbours that are digits and marks alone.
        let end = at + words[at..].iter().take_while(|word| is_group(word)).count();
        if end > at && digits(&words[at..end].concat()) > DIGITS_SHOWN_MAX {
            out.push(masked(&words[at..end].concat()));
            at = end;
            continue;
        }
        let word = words[at];
        let hidden = !is_ours(word) && digits(word) > DIGITS_SHOWN_MAX;
        out.push(if hidden { masked(word) } else { word.to_owned() });
        at += 1;
    }
    out.join(" ")
}

fn digits(text: &str) -> usize {
    text.chars().filter(|letter| letter.is_numeric()).count()
}

fn is_group(word: &str) -> bool {
    word.chars().any(char::is_numeric) && word.chars().all(|letter| letter.is_numeric() || "-./".contains(letter))
}

/// Ids, times and names that this program gave: their form says so.
fn is_ours(word: &str) -> bool {
    let ulid =
        |rest: &str| rest.len() == 26 && rest.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    let id = ["txn_", "apr_", "case_", "req_", "crt_"].iter().find_map(|prefix| word.strip_prefix(prefix));
    let time = word.len() == 24 && word.ends_with('Z') && word.as_bytes()[10] == b'T' && digits(word) == 17;
    id.is_some_and(ulid) || time || word.starts_with("spiffe://")
}
