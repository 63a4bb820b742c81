//! Texts that leave the bank: what people and strangers wrote is cleaned as for everybody else ([`crate::kernel::text`]),
//! its numbers masked as everywhere else ([`crate::kernel::mask`]), and it is short.

use crate::kernel::mask::numbers_masked;
use crate::kernel::text::{Limit, SCAN_BYTES_MAX, shown};

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

/// One line of what somebody wrote: harmless in form, long numbers masked, shortened.
pub fn cleaned(text: &str, chars_max: usize) -> String {
    // Somewhat more than is shown: a number is masked before it is cut.
    let limit = Limit { chars: chars_max.saturating_mul(4), bytes: SCAN_BYTES_MAX };
    shortened(&numbers_masked(&shown(text, limit)), chars_max)
}
