//! One event is one line of the log, whatever its fields say: nobody's text begins another line or moves a cursor.

use std::io::{self, Write};

use crate::kernel::text::visible;

/// Writes each event, which comes in one piece, without characters that end lines, are not seen, or steer a terminal.
#[derive(Debug)]
pub struct OneLine<W>(pub W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        match text.strip_suffix('\n') {
            Some(line) => self.0.write_all(format!("{}\n", visible(line)).as_bytes())?,
            None => self.0.write_all(visible(&text).as_bytes())?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stays_one_line_and_says_what_was_in_it() {
        let table = [
            ("a line\n", "a line\n"),
            ("why=no\n2026 INFO approved\n", "why=no\\u{a}2026 INFO approved\n"),
            ("\u{1b}[31mred\r\n", "\\u{1b}[31mred\\u{d}\n"),
            ("a\u{2028}b\u{202e}c\n", "a\\u{2028}b\\u{202e}c\n"),
            ("", ""),
        ];
        for (event, expected) in table {
            let mut written = OneLine(vec![]);
            written.write_all(event.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(written.0).unwrap(), expected);
        }
    }
}
