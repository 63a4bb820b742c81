//! Forms: what would end the field a text stands in, or be something else there than text.

use std::collections::BTreeSet;

use super::{Family, Finding};

const fn finding(family: Family, rule: &'static str, reason: &'static str) -> Finding {
    Finding { family, rule, reason }
}

const FORMULA: Finding = finding(Family::Formula, "formula", "a spreadsheet would take it for a formula");
const TAG: Finding = finding(Family::Markup, "tag", "it has tags of HTML or XML");
const LINK: Finding = finding(Family::Markup, "link", "it has a link");
const MARKDOWN: Finding = finding(Family::Markup, "markdown", "it has links, images or code of Markdown");
const TERMINAL: Finding = finding(Family::Markup, "terminal", "it has a terminal's sequences");
const ENTITY: Finding = finding(Family::Markup, "entity", "it writes characters as entities");
const MEMBER: Finding = finding(Family::Structure, "member", "it has members of JSON");
const MARKER: Finding = finding(Family::Structure, "marker", "it has a chat's or a prompt's marks");
const RULER: Finding = finding(Family::Structure, "ruler", "it draws a line between texts");
const TEMPLATE: Finding = finding(Family::Structure, "template", "it has placeholders of a template");
const SPEAKER: Finding = finding(Family::Role, "speaker", "it speaks as another party of the conversation");
const BRACKETED: Finding = finding(Family::ForgedSystem, "bracketed", "it has a heading as systems write them");
const IDENTIFIER: Finding =
    finding(Family::ForgedApproval, "identifier", "it has an identifier as the bank makes them");
const CALL: Finding = finding(Family::Tool, "call", "it is shaped like a call of a tool");
const TOOL_NAME: Finding = finding(Family::Tool, "name", "it has a name as tools have them");
const LOG_FIELDS: Finding = finding(Family::Log, "fields", "it has a log line's fields");
const LOG_HEAD: Finding = finding(Family::Log, "head", "it begins like a log line");
const SHELL: Finding = finding(Family::Code, "shell", "it has a shell's or a program's signs");
const SQL: Finding = finding(Family::Code, "sql", "it has SQL");
const ADDRESS: Finding = finding(Family::Order, "address", "it names an account or a wallet to pay to");

/// What the form of a text says. `first`: whether its beginning is that of the field.
pub(super) fn judged(text: &str, first: bool, found: &mut BTreeSet<Finding>) {
    let lower = text.to_lowercase();
    let trimmed = lower.trim_start();
    let mut if_so = |so: bool, finding: Finding| {
        if so {
            found.insert(finding);
        }
    };
    if_so(first && is_formula(&lower), FORMULA);
    if_so(has_tag(&lower), TAG);
    if_so(has_link(&lower), LINK);
    if_so(has_markdown(&lower), MARKDOWN);
    if_so(text.contains('\u{1b}') || text.contains('\u{9b}') || has_sequence(&lower), TERMINAL);
    if_so(has_entity(&lower), ENTITY);
    if_so(has_member(&lower), MEMBER);
    if_so(has_any(&lower, &MARKERS), MARKER);
    if_so(RULERS.iter().any(|ruler| lower.contains(ruler)), RULER);
    if_so(has_any(&lower, &["{{", "}}", "${", "{%", "<%", "%>", "#{", "[[", "]]", "%s%s", "%n%n", "{0}"]), TEMPLATE);
    if_so(has_speaker(&lower), SPEAKER);
    if_so(is_bracketed(&lower), BRACKETED);
    if_so(words(&lower).any(is_identifier), IDENTIFIER);
    if_so(has_call(&lower), CALL);
    if_so(words(&lower).any(is_tool_name), TOOL_NAME);
    if_so(log_fields(&lower) >= 2 || has_telling_field(&lower), LOG_FIELDS);
    if_so(is_log_head(trimmed), LOG_HEAD);
    if_so(has_any(&lower, &SHELL_SIGNS), SHELL);
    if_so(has_any(&lower, &SQL_SIGNS), SQL);
    if_so(text.split(|c: char| !c.is_ascii_alphanumeric()).any(is_payee) || has_iban(text), ADDRESS);
}

const MARKERS: [&str; 26] = [
    "<|",
    "|>",
    "[inst",
    "[/inst",
    "<<sys",
    "<</sys",
    "[sys]",
    "[/sys",
    "### ",
    "###",
    "\"\"\"",
    "'''",
    "</s>",
    "<s>",
    "\\n\\n",
    "\\r\\n",
    "\\n",
    "im_start",
    "im_end",
    "endoftext",
    "eot_id",
    "begin_of_text",
    "<start_of_turn",
    "<end_of_turn",
    "[end]",
    "[begin]",
];
const RULERS: [&str; 7] = ["----", "====", "~~~", "____", "****", "####", "━━━"];
const SHELL_SIGNS: [&str; 24] = [
    "$(",
    "`;",
    "; rm ",
    "&& ",
    "|| ",
    "; cat ",
    "| sh",
    "| bash",
    "rm -rf",
    "/etc/passwd",
    "../",
    "..\\",
    "cmd.exe",
    "powershell",
    "eval(",
    "exec(",
    "import os",
    "os.system",
    "__import__",
    "curl ",
    "wget ",
    "; echo",
    "/bin/sh",
    "${jndi",
];
const SQL_SIGNS: [&str; 12] = [
    "drop table",
    "union select",
    "' or ",
    "\" or \"",
    "'; --",
    "';--",
    "; delete from",
    "insert into ",
    "update accounts",
    "or 1=1",
    "select * from",
    "'--",
];

fn has_any(text: &str, signs: &[&str]) -> bool {
    signs.iter().any(|sign| text.contains(sign))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
}

/// `=…`, and `+ - @` before what can be calculated or called. A tab or a return before it is gone when it is shown.
fn is_formula(text: &str) -> bool {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'');
    let Some(first) = text.chars().next() else {
        return false;
    };
    let rest = &text[first.len_utf8()..];
    match first {
        '=' => true,
        '+' | '-' | '@' | '%' | '|' => {
            has_any(rest, &["(", "!", "|", "+", "*", "="]) || (first != '@' && rest.starts_with(['+', '-', '@', '=']))
        }
        _ => has_any(text, &[",=", ";=", "\t=", "=hyperlink", "=cmd", "=importxml", "=webservice", "=dde", "\",\"="]),
    }
}

/// `<` before a letter, `/`, `!` or `?`; what would close a comment or a section.
fn has_tag(text: &str) -> bool {
    let opens = |(at, _): (usize, &str)| {
        let after = text[at + 1..].trim_start().chars().next();
        after.is_some_and(|c| c.is_alphabetic() || matches!(c, '/' | '!' | '?' | '_'))
    };
    text.match_indices('<').any(opens) || has_any(text, &["-->", "]]>", "/>", "onerror=", "onload=", "onclick="])
}

fn has_link(text: &str) -> bool {
    let schemes = [
        "://",
        "javascript:",
        "vbscript:",
        "data:text",
        "data:image",
        "data:app",
        ";base64,",
        "mailto:",
        "www.",
        "hxxp",
        "file:/",
    ];
    has_any(text, &schemes)
}

fn has_markdown(text: &str) -> bool {
    has_any(text, &["](", "![", "```", "][", "[^", "]: ", "`"])
}

/// What is left of a sequence whose escape is gone or written out.
fn has_sequence(text: &str) -> bool {
    let bracket = |(at, _): (usize, &str)| {
        let rest = text[at + 1..].trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ';' | '?'));
        rest.len() < text.len() - at - 1
            && rest.starts_with(['m', 'h', 'l', 'j', 'k', 'a', 'b', 'c', 'd'])
            && text[at + 1..].starts_with(|c: char| c.is_ascii_digit() || c == '?')
            && rest.chars().nth(1).is_none_or(|c| c != ']')
    };
    text.match_indices('[').any(bracket) || has_any(text, &["\\x1b", "\\033", "\\u001b", "\\e[", "^["])
}

fn has_entity(text: &str) -> bool {
    text.match_indices('&').any(|(at, _)| {
        let rest = &text[at + 1..];
        let Some(end) = rest.char_indices().take(12).find(|(_, c)| *c == ';').map(|(at, _)| at) else {
            return rest.starts_with("#x")
                || rest.starts_with('#') && rest[1..].starts_with(|c: char| c.is_ascii_digit());
        };
        end >= 2 && rest[..end].chars().all(|c| c.is_ascii_alphanumeric() || c == '#')
    })
}

/// `"word":`, `{"`, `"}`: a quoted name before a colon, or a bracket at a quotation mark.
fn has_member(text: &str) -> bool {
    let quote = |c: char| matches!(c, '"' | '\'' | '“' | '”');
    let named = text.match_indices(quote).any(|(at, mark)| {
        let after = text[at + mark.len()..].trim_start();
        let before = text[..at].trim_end().chars().next_back();
        (after.starts_with(':') && before.is_some_and(|c| c.is_alphanumeric() || c == '_'))
            || after.starts_with('}')
            || after.starts_with(']')
            || matches!(before, Some('{' | '['))
            || (after.starts_with(',') && after[1..].trim_start().starts_with(quote))
    });
    // Without quotation marks: `{word:`.
    let bare = text.match_indices('{').any(|(at, _)| {
        let rest = text[at + 1..].trim_start();
        let name = rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
        name.len() < rest.len() && name.trim_start().starts_with([':', '='])
    });
    named || bare || has_any(text, &["\\\"", "\\u00"])
}

const SPEAKERS: [&str; 26] = [
    "system",
    "assistant",
    "user",
    "human",
    "developer",
    "sys",
    "ai",
    "model",
    "tool",
    "function",
    "admin",
    "root",
    "bank",
    "systeme",
    "système",
    "sistema",
    "система",
    "ассистент",
    "пользователь",
    "系统",
    "系統",
    "助手",
    "用户",
    "システム",
    "시스템",
    "النظام",
];

/// A speaker's name and a colon, where a sentence or a line begins.
fn has_speaker(text: &str) -> bool {
    SPEAKERS.iter().any(|speaker| {
        text.match_indices(speaker).any(|(at, _)| {
            let after = text[at + speaker.len()..].trim_start_matches([' ', '*', '_', ']', ')', '>', '"', '\'']);
            let marked = (after.starts_with([':', '：']) && !after.starts_with("::"))
                || text[at + speaker.len()..].trim_start().starts_with(">>");
            let before = text[..at].trim_end_matches([' ', '*', '_', '"', '\'']);
            let begins = before.is_empty()
                || before.ends_with(|c: char| !c.is_alphanumeric() && !matches!(c, '&' | '-' | '\'' | '/' | ','));
            marked && begins
        })
    })
}

/// `[system …]`, `(admin note)`, `*** notice`: a heading in brackets.
fn is_bracketed(text: &str) -> bool {
    const HEADS: [&str; 25] = [
        "system",
        "admin",
        "administrator",
        "instruction",
        "instructions",
        "assistant",
        "developer",
        "override",
        "security",
        "bank",
        "compliance",
        "tool",
        "end",
        "begin",
        "internal",
        "important",
        "priority",
        "critical",
        "urgent",
        "note to",
        "hidden",
        "ai",
        "verified",
        "approved",
        "authorized",
    ];
    text.match_indices(['[', '(', '{', '<', '【', '«', '〔']).any(|(at, open)| {
        let inner = text[at + open.len()..].trim_start_matches([' ', '/', '*', '#', '-', '!']);
        let heads = HEADS
            .iter()
            .any(|head| inner.strip_prefix(head).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric())));
        // In round brackets such words are common; there they need a colon.
        heads
            && (open != "("
                || inner.split(')').next().is_some_and(|inner| inner.contains(':') || inner.contains("note")))
    })
}

/// `txn_…`, `apr_…`: a prefix of ours before something that is no word.
fn is_identifier(word: &str) -> bool {
    ["txn_", "apr_", "req_", "crt_", "case_", "txn-", "apr-", "rcpt_", "auth_", "appr_"].iter().any(|prefix| {
        word.find(prefix).is_some_and(|at| {
            let rest = &word[at + prefix.len()..];
            rest.len() >= 3 && (rest.contains(|c: char| c.is_ascii_digit()) || rest.len() >= 8)
        })
    }) || [
        "transaction_id",
        "approval_id",
        "case_id",
        "approval_url",
        "idempotency_key",
        "policy_version",
        "may_have_happened",
        "next_step",
    ]
    .contains(&word)
}

/// A name with underscores that begins with something to do.
fn is_tool_name(word: &str) -> bool {
    const DO: [&str; 30] = [
        "get",
        "set",
        "list",
        "execute",
        "authorize",
        "authorise",
        "send",
        "call",
        "run",
        "read",
        "write",
        "delete",
        "create",
        "update",
        "search",
        "request",
        "cancel",
        "approve",
        "transfer",
        "fetch",
        "use",
        "invoke",
        "make",
        "pay",
        "move",
        "reveal",
        "dump",
        "grant",
        "revoke",
        "sign",
    ];
    word.split_once(['_']).is_some_and(|(verb, rest)| {
        DO.contains(&verb) && rest.len() >= 3 && rest.starts_with(|c: char| c.is_ascii_alphabetic())
    })
}

/// A name right before brackets that hold arguments or nothing; the words of calls in JSON and XML.
fn has_call(text: &str) -> bool {
    let called = text.match_indices('(').any(|(at, _)| {
        let name = text[..at].chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        let inner = text[at + 1..].split(')').next().unwrap_or_default();
        name && (inner.is_empty() && text[at + 1..].starts_with(')') || inner.contains(['=', '"', '\'', '{']))
    });
    called
        || has_any(
            text,
            &[
                "tool_call",
                "function_call",
                "tools/call",
                "tool_use",
                "toolcall",
                "tool_result",
                "function_result",
                "mcp:",
                "to=functions",
                "recipient_name",
                "\"method\"",
                "jsonrpc",
                "tool_choice",
                "<invoke",
                "action: ",
                "action input:",
                "thought:",
                "observation:",
                "final answer:",
            ],
        )
}

const LOG_NAMES: [&str; 32] = [
    "level",
    "lvl",
    "severity",
    "ts",
    "time",
    "timestamp",
    "msg",
    "message",
    "event",
    "status",
    "user",
    "actor",
    "decision",
    "outcome",
    "result",
    "reason",
    "agent",
    "amount",
    "request_id",
    "transaction",
    "approved",
    "approved_by",
    "approver",
    "operator",
    "role",
    "audit",
    "logger",
    "target",
    "name",
    "error",
    "verdict",
    "sev",
];

/// How many `name=value` a text has, of names that logs have.
fn log_fields(text: &str) -> usize {
    text.match_indices('=').filter(|(at, _)| field_before(text, *at).is_some()).count()
}

/// One of them is enough where the name says that it is a decision's.
fn has_telling_field(text: &str) -> bool {
    const TELLING: [&str; 12] = [
        "level",
        "lvl",
        "severity",
        "decision",
        "outcome",
        "approved",
        "approved_by",
        "approver",
        "actor",
        "verdict",
        "status",
        "role",
    ];
    text.match_indices('=').any(|(at, _)| field_before(text, at).is_some_and(|name| TELLING.contains(&name)))
        || TELLING.iter().any(|name| {
            text.match_indices(name).any(|(at, _)| {
                let rest = text[at + name.len()..].trim_start_matches(['"', '\'']);
                let begins = !text[..at].ends_with(|c: char| c.is_alphanumeric());
                begins && *name != "role" && rest.starts_with(':') && !matches!(*name, "level")
            })
        })
}

fn field_before(text: &str, at: usize) -> Option<&str> {
    let before = text[..at].trim_end();
    let start = before
        .rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let name = &before[start..];
    (LOG_NAMES.contains(&name) && !text[at + 1..].trim().is_empty()).then_some(name)
}

/// A time stamp, a level or a syslog's priority, anywhere words begin.
fn is_log_head(text: &str) -> bool {
    const LEVELS: [&str; 10] =
        ["info", "warn", "warning", "error", "debug", "trace", "fatal", "notice", "audit", "critical"];
    let bytes = text.as_bytes();
    // 2026-11-22T10:00, 2026-11-22 10:00, 10:00:00.
    let digits = |from: usize, count: usize| {
        bytes.get(from..from + count).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    let stamped = (0..bytes.len()).any(|at| {
        digits(at, 4)
            && bytes.get(at + 4) == Some(&b'-')
            && digits(at + 5, 2)
            && bytes.get(at + 7) == Some(&b'-')
            && digits(at + 8, 2)
            && matches!(bytes.get(at + 10), Some(b't' | b' '))
            && digits(at + 11, 2)
            && bytes.get(at + 13) == Some(&b':')
    });
    let clocked = (0..bytes.len()).any(|at| {
        digits(at, 2)
            && bytes.get(at + 2) == Some(&b':')
            && digits(at + 3, 2)
            && bytes.get(at + 5) == Some(&b':')
            && digits(at + 6, 2)
    });
    let bracketed = LEVELS.iter().any(|level| {
        text.contains(&format!("[{level}]"))
            || text.contains(&format!("\"{level}\""))
            || text.contains(&format!("<{level}>"))
    });
    let prefixed = LEVELS.iter().any(|level| {
        text.strip_prefix(level).is_some_and(|rest| {
            let rest = rest.trim_start();
            rest.starts_with(':')
                || rest.starts_with('[')
                || rest.split_whitespace().next().is_some_and(|word| word.contains("::"))
        })
    });
    let syslog = text.starts_with('<')
        && text[1..]
            .split('>')
            .next()
            .is_some_and(|number| (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit()));
    stamped || clocked || bracketed || prefixed || syslog || text.contains("countersign::")
}

/// A bitcoin or ethereum address, or an account as this bank writes them behind "to".
fn is_payee(word: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (word.len() == 42 && word.starts_with("0x") && hex(&word[2..]))
        || ((42..=62).contains(&word.len()) && word.to_lowercase().starts_with("bc1q"))
}

/// An IBAN whose check digits are right, in groups or not.
fn has_iban(text: &str) -> bool {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).take(512).collect();
    let all = compact.as_bytes();
    let is_at = |at: usize| {
        all.get(at..at + 4).is_some_and(|head| {
            head[..2].iter().all(u8::is_ascii_uppercase) && head[2..].iter().all(u8::is_ascii_digit)
        }) && (15..=34).any(|length| {
            all.get(at..at + length).is_some_and(|iban| {
                let rearranged = iban[4..].iter().chain(&iban[..4]);
                let mut remainder: u32 = 0;
                for byte in rearranged {
                    remainder = match byte {
                        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
                        b'A'..=b'Z' => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
                        _ => return false,
                    };
                }
                remainder == 1 && iban[4..].iter().filter(|byte| byte.is_ascii_digit()).count() >= 8
            })
        })
    };
    (0..all.len()).any(is_at)
}
