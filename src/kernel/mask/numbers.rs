//! Long numbers in texts that people wrote: an account or a card is not shown whole because somebody typed it in.

use super::masked_text;

/// So many digits, with spaces or dashes between them or none, are a number that is not shown whole.
const DIGITS_SHOWN_MAX: usize = 6;

/// Masks words with many digits, ids of ours apart, and such numbers written in groups. Words are parted by single spaces.
pub fn numbers_masked(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let mut out: Vec<String> = Vec::with_capacity(words.len());
    let mut at = 0;
    while at < words.len() {
        // A number in groups: neighbours that are digits and marks alone.
        let end = at + words[at..].iter().take_while(|word| is_group(word)).count();
        if end > at && digits(&words[at..end].concat()) > DIGITS_SHOWN_MAX {
            out.push(masked_text(&words[at..end].concat()));
            at = end;
            continue;
        }
        let word = words[at];
        let hidden = !is_ours(word) && digits(word) > DIGITS_SHOWN_MAX;
        out.push(if hidden { masked_text(word) } else { word.to_owned() });
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
    let id = ["txn_", "apr_", "case_", "req_", "crt_", "mdt_"].iter().find_map(|prefix| word.strip_prefix(prefix));
    let time = word.len() == 24 && word.ends_with('Z') && word.as_bytes()[10] == b'T' && digits(word) == 17;
    id.is_some_and(ulid) || time || word.starts_with("spiffe://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_masked_and_ids_of_ours_are_not() {
        for (text, expected) in [
            ("card 4111-1111-1111-1111.", "card ••••••••"),
            ("card 4111-1111-1111-1111 here", "card ••••1111 here"),
            ("card 4111 1111 1111 1111 here", "card ••••1111 here"),
            ("account 1234567", "account ••••••••"),
            ("DE89370400440532013000", "••••3000"),
            ("٤١١١١١١١١١١١", "••••••••"),
            ("room 12, 100 times", "room 12, 100 times"),
            ("apr_01M7YDFSJH4NW3PWHV6A9B342B", "apr_01M7YDFSJH4NW3PWHV6A9B342B"),
            ("mdt_01M7YDFSJH4NW3PWHV6A9B342B", "mdt_01M7YDFSJH4NW3PWHV6A9B342B"),
            ("2026-11-22T10:00:00.000Z", "2026-11-22T10:00:00.000Z"),
            ("", ""),
        ] {
            assert_eq!(numbers_masked(text), expected, "{text}");
        }
    }
}
