//! What a person sees while a model works: each call as it happens, and what became of it. As text, or a JSON line an
//! event for a program.

use std::io::Write;

use serde_json::{Value, json};

use super::guard::{Effect, Stopped};
use super::model::Call;

/// Characters of a result that a person is shown; the model gets all of it.
const RESULT_SHOWN_MAX: usize = 400;

/// How it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Calls on standard error, the answer on standard output.
    Text,
    /// One JSON object a line on standard output.
    JsonLines,
}

/// Where events go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Show(pub Form);

impl Show {
    pub(super) fn call(self, call: &Call) {
        let value = json!({ "event": "call", "tool": call.tool, "arguments": call.arguments });
        self.event(&value, || format!("→ {} {}", call.tool, call.arguments));
    }

    pub(super) fn result(self, call: &Call, result: &Result<Value, Value>) {
        let (Ok(content) | Err(content)) = result;
        let value = json!({ "event": "result", "tool": call.tool, "is_error": result.is_err(), "content": content });
        self.event(&value, || format!("← {}", shortened(&content.to_string())));
    }

    pub(super) fn stopped(self, call: &Call, why: &Stopped) {
        let value =
            json!({ "event": "not_called", "tool": call.tool, "arguments": call.arguments, "reason": why.name() });
        self.event(&value, || format!("✗ {} {}: not called, {}", call.tool, call.arguments, why.name()));
    }

    /// A word of the model's besides its calls.
    pub(super) fn said(self, text: &str) {
        self.event(&json!({ "event": "said", "text": text }), || format!("· {text}"));
    }

    pub(super) fn waiting(self, model: &str, seconds: u64) {
        let value = json!({ "event": "waiting", "model": model, "seconds": seconds });
        self.event(&value, || format!("… {model} has been thinking for {seconds} s"));
    }

    pub(super) fn note(self, name: &str, text: &str) {
        self.event(&json!({ "event": "note", "name": name, "text": text }), || format!("! {text}"));
    }

    /// What was done at the bank, by the bank's own words: whatever the answer says.
    pub(super) fn effects(self, effects: &[Effect]) {
        self.event(&json!({ "event": "effects", "effects": effects }), || {
            if effects.is_empty() {
                return "= the bank was asked to do nothing".to_owned();
            }
            let lines = effects.iter().map(|effect| format!("= {} {}: {}", effect.tool, effect.order, effect.status));
            lines.collect::<Vec<_>>().join("\n")
        });
    }

    pub(super) fn answer(self, text: &str, unsupported: &[String]) {
        // A reader that went away is no failure of ours.
        let _ = match self.0 {
            Form::Text => writeln!(std::io::stdout(), "{}", plain(text)),
            Form::JsonLines => {
                let value = json!({ "event": "answer", "text": text, "unsupported_ids": unsupported });
                writeln!(std::io::stdout(), "{value}")
            }
        };
    }

    /// Asks for a word; on standard error, whatever the form.
    pub(super) fn question(self, call: &Call) {
        let question = plain(&format!("{} {}", call.tool, call.arguments));
        let _ = write!(std::io::stderr(), "? money moves: {question}\n  carry it out? [y/N] ");
    }

    fn event(self, value: &Value, text: impl FnOnce() -> String) {
        let _ = match self.0 {
            Form::Text => writeln!(std::io::stderr(), "{}", plain(&text())),
            Form::JsonLines => writeln!(std::io::stdout(), "{value}"),
        };
    }
}

/// A text that says to a terminal what it says to a reader: models and merchants choose these letters.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|letter| if is_shown(letter) { letter } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// Neither a terminal's control codes, nor what turns or hides the letters around it (UAX #9, UTS #55).
fn is_shown(letter: char) -> bool {
    let turns_or_hides = matches!(letter,
        '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}');
    letter == '\n' || letter == '\t' || !(letter.is_control() || turns_or_hides)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(RESULT_SHOWN_MAX) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.chars().count()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_a_terminal_would_act_on_are_not_sent_to_it() {
        for hostile in ["\u{1b}[2J", "\u{9b}31m", "\r", "\u{7}", "a\u{202e}b", "\u{200b}", "\u{e0041}", "\u{0}"] {
            let shown = plain(hostile);
            assert!(shown.chars().all(is_shown), "{hostile:?}");
            assert!(shown.contains(char::REPLACEMENT_CHARACTER), "{hostile:?}");
        }
        assert_eq!(plain("für 5 €\n\tÇa va"), "für 5 €\n\tÇa va");
        assert_eq!(shortened("kurz"), "kurz");
        assert!(shortened(&"ä".repeat(500)).ends_with("… (500 characters)"));
    }
}
