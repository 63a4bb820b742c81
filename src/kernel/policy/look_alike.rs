//! Merchants that look like others.
//!
//! A name is compared with a known one by what a reader sees: its UTS 39 skeleton, digits read as the letters that they
//! stand for, hyphens and dots left out, a letter too many, too few, changed or swapped, another ending, the known name
//! as part of a longer one. What differs in every way from every known name looks like none.

use unicode_security::skeleton;

/// Domain labels that follow a registered name in pairs: `example.co.uk`.
const SECOND_LEVEL: [&str; 8] = ["co", "com", "org", "net", "gov", "ac", "edu", "ltd"];
/// Words that are put beside a known name to make another one that reads like its own.
const COMPANIONS: [&str; 24] = [
    "account", "accounts", "app", "bank", "billing", "checkout", "customer", "deals", "help", "login", "my",
    "official", "online", "order", "orders", "pay", "payment", "payments", "refund", "secure", "shop", "signin",
    "store", "support",
];
/// Names shorter than this are compared whole only: three letters have too many neighbours.
const NEIGHBOURS_FROM: usize = 5;
/// Longest text that is looked at; a domain name has at most 253 characters.
const CHARS_MAX: usize = 253;

/// The first of `known` that `asked` looks like without being it. Letter case, punycode (`xn--…`) and white space
/// around it are looked through; neither has to be a well-formed name.
pub fn imitated<'k, T: AsRef<str> + ?Sized + 'k>(asked: &str, known: impl IntoIterator<Item = &'k T>) -> Option<&'k T> {
    let asked = Seen::of(asked);
    known.into_iter().find(|known| asked.looks_like(&Seen::of(known.as_ref())))
}

/// Names that others are compared with again and again: how each looks is worked out once.
#[derive(Clone, Debug, Default)]
pub struct Known(Vec<Seen>);

impl Known {
    pub fn of<'k, T: AsRef<str> + ?Sized + 'k>(names: impl IntoIterator<Item = &'k T>) -> Self {
        Self(names.into_iter().map(|name| Seen::of(name.as_ref())).collect())
    }

    /// As [`imitated`]; the place of the name in what this was made of.
    pub fn imitated(&self, asked: &str) -> Option<usize> {
        let asked = Seen::of(asked);
        self.0.iter().position(|known| asked.looks_like(known))
    }
}

/// Whether two names that people read, of a merchant or of anything, look the same.
pub fn is_alike(one: &str, other: &str) -> bool {
    let seen = |text: &str| bare(&look(&text.chars().take(CHARS_MAX).collect::<String>().to_lowercase()));
    let (one, other) = (seen(one), seen(other));
    !one.is_empty() && one == other
}

/// A name as a reader sees it.
#[derive(Clone, Debug)]
struct Seen {
    /// Lower case, as it was written.
    written: String,
    /// Its labels as they look, bare.
    labels: Vec<String>,
    /// All of them in one.
    whole: String,
    /// The label that somebody registered, as it looks, bare.
    main: String,
    /// The same, a letter a place.
    letters: Vec<char>,
    /// Its parts between hyphens; one where there are none.
    parts: Vec<Vec<char>>,
}

impl Seen {
    fn of(text: &str) -> Self {
        let text: String = text.trim().chars().take(CHARS_MAX).collect();
        let written = text.to_lowercase().trim_end_matches('.').to_owned();
        let unfolded: Vec<String> =
            written.split(is_dot).map(|label| decoded(label).unwrap_or(label.to_owned())).collect();
        let drawn: Vec<String> = unfolded.iter().map(|label| look(label)).collect();
        let registered = drawn.get(registered(&unfolded)).map_or("", String::as_str);
        let parts = registered.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
        let main = bare(registered);
        let labels: Vec<String> = drawn.iter().map(|label| bare(label)).collect();
        Self {
            whole: labels.concat(),
            letters: main.chars().collect(),
            parts: parts.map(|part| part.chars().collect()).collect(),
            written,
            labels,
            main,
        }
    }

    fn looks_like(&self, known: &Self) -> bool {
        if self.main.is_empty() || known.main.is_empty() || self.written == known.written {
            return false;
        }
        self.resembles(known) && !self.is_host_of(known) && !known.is_host_of(self)
    }

    fn resembles(&self, known: &Self) -> bool {
        // The same to the eye; and `ama-zon.com`, `amaz.on.com`, `amazoncom.net`.
        if self.main == known.main || self.whole == known.whole || self.main == known.whole {
            return true;
        }
        // `amazon.com.evil.example`: the known name is before the end.
        let before_the_end = self.labels.len().saturating_sub(1);
        if self.labels[..before_the_end].contains(&known.main) {
            return true;
        }
        // `amazon-support.com`, `secure-amazon.com`, `amazonpay.com`
        if known.main.len() >= NEIGHBOURS_FROM && self.has_companion(known) {
            return true;
        }
        is_neighbour(&self.letters, &known.letters)
    }

    /// The known name, and beside it nothing but words that are often put there.
    fn has_companion(&self, known: &Self) -> bool {
        let is_it = |part: &Vec<char>| *part == known.letters || is_neighbour(part, &known.letters);
        if self.parts.len() > 1 && self.parts.iter().any(is_it) {
            return true;
        }
        let companion = |rest: &str| COMPANIONS.iter().any(|word| look(word) == rest);
        let beside = |rest: Option<&str>| rest.is_some_and(companion);
        beside(self.main.strip_prefix(&known.main)) || beside(self.main.strip_suffix(&known.main))
    }

    /// `www.amazon.com` is a host of `amazon.com`: nobody else can name one so. It is another name and not on a list by
    /// that, but it imitates nothing.
    fn is_host_of(&self, other: &Self) -> bool {
        self.written.strip_suffix(&other.written).is_some_and(|before| before.ends_with('.'))
    }
}

/// Dots as they are written anywhere (RFC 3490, 3.1).
fn is_dot(c: char) -> bool {
    matches!(c, '.' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}')
}

/// Which label somebody registered: the last one before what registries sell under.
fn registered(labels: &[String]) -> usize {
    match labels {
        [.., second, last]
            if labels.len() > 2 && last.chars().count() == 2 && SECOND_LEVEL.contains(&second.as_str()) =>
        {
            labels.len() - 3
        }
        [_, .., _] => labels.len() - 2,
        [_] | [] => 0,
    }
}

/// A label as it looks: the skeleton of UTS 39, without marks, and with digits as the letters they stand for.
fn look(label: &str) -> String {
    let drawn: String = skeleton(label).flat_map(char::to_lowercase).filter(|c| !is_mark(*c)).collect();
    // Skeletons draw some letters alike (`m` as `rn`, `l` and `I` as `l`); here digits follow, and pairs of letters.
    let drawn = drawn.replace("vv", "w").replace("cl", "d").replace("rn", "m").replace("nn", "m");
    drawn.chars().map(stands_for).collect()
}

/// Accents and other marks that are drawn on a letter.
fn is_mark(c: char) -> bool {
    matches!(u32::from(c), 0x0300..=0x036f | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x20d0..=0x20ff | 0xfe20..=0xfe2f)
}

fn stands_for(c: char) -> char {
    match c {
        '0' => 'o',
        // A skeleton draws one, i without a dot and l alike.
        '1' | '|' | '!' | 'i' => 'l',
        '2' => 'z',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '6' => 'b',
        '7' => 't',
        '8' => 'b',
        '9' => 'g',
        'q' => 'g',
        other => other,
    }
}

/// Without what is only between letters.
fn bare(label: &str) -> String {
    label.chars().filter(|c| c.is_alphanumeric()).collect()
}

/// One letter more, fewer or another, or two that follow each other swapped.
fn is_neighbour(one: &[char], other: &[char]) -> bool {
    if other.len() < NEIGHBOURS_FROM || one.len().abs_diff(other.len()) > 1 {
        return false;
    }
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[same..], &other[same..]);
    match one.len().cmp(&other.len()) {
        std::cmp::Ordering::Greater => one[1..] == *other,
        std::cmp::Ordering::Less => *one == other[1..],
        std::cmp::Ordering::Equal => match (one, other) {
            ([], []) => true,
            ([_, rest @ ..], [_, others @ ..]) if rest == others => true,
            ([a, b, rest @ ..], [c, d, others @ ..]) => a == d && b == c && rest == others,
            _ => false,
        },
    }
}

// RFC 3492, 5
const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;

/// What a label of `xn--` stands for (RFC 3492); `None` when it is none.
fn decoded(label: &str) -> Option<String> {
    let encoded = label.strip_prefix("xn--")?;
    let (basic, digits) = encoded.rsplit_once('-').unwrap_or(("", encoded));
    let mut output: Vec<char> = basic.chars().collect();
    let (mut n, mut i, mut bias) = (128_u32, 0_u32, 72_u32);
    let mut digits = digits.bytes().peekable();
    while digits.peek().is_some() {
        let (before, mut weight, mut k) = (i, 1_u32, BASE);
        loop {
            let digit = match digits.next()? {
                letter @ b'a'..=b'z' => u32::from(letter - b'a'),
                number @ b'0'..=b'9' => u32::from(number - b'0') + 26,
                _ => return None,
            };
            i = i.checked_add(digit.checked_mul(weight)?)?;
            let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
            if digit < threshold {
                break;
            }
            weight = weight.checked_mul(BASE - threshold)?;
            k += BASE;
        }
        let count = u32::try_from(output.len()).ok()? + 1;
        let mut delta = (i - before) / if output.len() == basic.len() { DAMP } else { 2 };
        delta += delta / count;
        let mut steps = 0;
        while delta > (BASE - T_MIN) * T_MAX / 2 {
            delta /= BASE - T_MIN;
            steps += BASE;
        }
        bias = steps + (BASE - T_MIN + 1) * delta / (delta + SKEW);
        n = n.checked_add(i / count)?;
        i %= count;
        output.insert(usize::try_from(i).ok()?, char::from_u32(n)?);
        i += 1;
    }
    Some(output.into_iter().collect())
}

#[cfg(test)]
mod tests;
