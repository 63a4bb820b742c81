//! The corpus in other dress: what the rules were not written for. Seeded, so that a miss can be looked at again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A small generator of numbers (splitmix64): the same seed makes the same texts for ever.
pub struct Seeded(pub u64);

impl Seeded {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}

/// How a text is dressed up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Dress {
    Capitals,
    Spaced,
    LookAlikes,
    Unseen,
    Base64,
    Reversed,
    Embedded,
    Dotted,
    FullWidth,
    Misspelt,
    Hexadecimal,
    Politely,
}

impl Dress {
    pub const ALL: [Self; 12] = [
        Self::Capitals,
        Self::Spaced,
        Self::LookAlikes,
        Self::Unseen,
        Self::Base64,
        Self::Reversed,
        Self::Embedded,
        Self::Dotted,
        Self::FullWidth,
        Self::Misspelt,
        Self::Hexadecimal,
        Self::Politely,
    ];

    pub fn put_on(self, text: &str, seeded: &mut Seeded) -> String {
        match self {
            Self::Capitals => {
                text.chars().flat_map(|c| if seeded.below(2) == 0 { upper(c) } else { vec![c] }).collect()
            }
            Self::Spaced => text
                .split(' ')
                .map(|word| word.chars().map(String::from).collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
                .join("  "),
            Self::LookAlikes => text.chars().map(|c| if seeded.below(3) == 0 { look_alike(c) } else { c }).collect(),
            Self::Unseen => {
                const UNSEEN: [char; 6] = ['\u{200b}', '\u{200c}', '\u{2060}', '\u{feff}', '\u{ad}', '\u{34f}'];
                text.chars()
                    .flat_map(|c| match seeded.below(4) {
                        0 => vec![c, UNSEEN[seeded.below(UNSEEN.len())]],
                        _ => vec![c],
                    })
                    .chain(['\u{200b}'])
                    .collect()
            }
            Self::Base64 => STANDARD.encode(text),
            Self::Reversed => text.chars().rev().collect(),
            Self::Embedded => format!("Blue cotton shirt, size M. {text} Free returns."),
            Self::Dotted => text
                .split(' ')
                .map(|word| word.chars().map(String::from).collect::<Vec<_>>().join("."))
                .collect::<Vec<_>>()
                .join(" "),
            Self::FullWidth => text
                .chars()
                .map(|c| match u32::from(c) {
                    code @ 0x21..=0x7e => char::from_u32(code + 0xfee0).unwrap(),
                    _ => c,
                })
                .collect(),
            Self::Misspelt => text.split(' ').map(|word| misspelt(word, seeded)).collect::<Vec<_>>().join(" "),
            Self::Hexadecimal => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            Self::Politely => format!("Kindly be so good and, if at all possible, {text}, thank you"),
        }
    }
}

fn upper(c: char) -> Vec<char> {
    c.to_uppercase().collect()
}

fn look_alike(c: char) -> char {
    const ALIKE: [(char, char); 14] = [
        ('a', 'а'),
        ('e', 'е'),
        ('o', 'о'),
        ('p', 'р'),
        ('c', 'с'),
        ('y', 'у'),
        ('x', 'х'),
        ('i', 'і'),
        ('s', 'ѕ'),
        ('j', 'ј'),
        ('A', 'Α'),
        ('B', 'Β'),
        ('E', 'Ε'),
        ('o', 'ο'),
    ];
    ALIKE.iter().find(|(plain, _)| *plain == c).map_or(c, |(_, alike)| *alike)
}

/// Two inner letters change places.
fn misspelt(word: &str, seeded: &mut Seeded) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    if letters.len() >= 6 && letters.iter().all(char::is_ascii_alphabetic) {
        let at = 1 + seeded.below(letters.len() - 3);
        letters.swap(at, at + 1);
    }
    letters.into_iter().collect()
}
