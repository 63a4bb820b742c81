//! A report as one page: no scripts, nothing from elsewhere, readable by machines that read aloud, in the dark and on paper.
//!
//! Every text that comes from outside this file goes through [`escaped`]; the page's own policy forbids whatever might
//! get past it.

use std::borrow::Cow;
use std::fmt::Write;

use super::checks::{Check, Found};
use super::{Report, Row, Standing, program};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1a1a1a;--paper:#fff;--line:#c8c8c8;--quiet:#555;--link:#0b4f9e;\
--met:#0a5c2b;--partly:#7a4b00;--bad:#9b1c1c;--none:#4a4a4a}\
@media (prefers-color-scheme:dark){:root{--ink:#ececec;--paper:#161616;--line:#4a4a4a;--quiet:#b4b4b4;--link:#8ab8ff;\
--met:#6fd296;--partly:#f0b65a;--bad:#ff9a9a;--none:#bdbdbd}}\
body{font:1rem/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:62rem;margin:0 auto;padding:1rem}\
a{color:var(--link)}h1{line-height:1.2}h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}h3{margin-bottom:.2rem}\
table{border-collapse:collapse;width:100%;margin:.8rem 0}caption{text-align:left;font-weight:600;padding:.3rem 0}\
th,td{border:1px solid var(--line);padding:.3rem .5rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}\
code,pre{font-family:ui-monospace,monospace;font-size:.9em}pre{overflow:auto;border:1px solid var(--line);padding:.6rem}\
.quiet{color:var(--quiet)}.r{font-weight:700;white-space:nowrap}.met{color:var(--met)}.partly{color:var(--partly)}\
.not-met{color:var(--bad)}.not-covered,.not-applicable{color:var(--none)}\
@media print{body{max-width:none;font-size:10pt}section,tr{break-inside:avoid}a{color:inherit;text-decoration:none}}";

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a String does not fail.
    let _ = compose(report, &mut page);
    page
}

fn compose(report: &Report, out: &mut String) -> std::fmt::Result {
    let (table, facts) = (&report.table, &report.facts);
    let title = format!("{} {}: {}", table.title, table.edition, facts.party);
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{}</h1>",
        escaped(&title),
        escaped(&title),
    )?;
    writeln!(
        out,
        "<p>What {}, a {}, does about the controls of {} that concern it, read from the running system at \
         <time datetime=\"{at}\">{at}</time> for {} by {}.</p>",
        escaped(facts.party.as_str()),
        facts.whose.words(),
        escaped(&table.publisher),
        escaped(&facts.by),
        program(),
        at = facts.made_at.rfc3339(),
    )?;
    for paragraph in table.note.trim().split("\n\n") {
        writeln!(out, "<p>{}</p>", escaped(paragraph))?;
    }
    writeln!(out, "</header>\n<main>")?;
    summary(report, out)?;
    tied_to(report, out)?;
    writeln!(out, "<h2 id=\"controls\">Controls</h2>")?;
    for (place, row) in report.rows.iter().enumerate() {
        control(place, row, out)?;
    }
    writeln!(out, "<h2 id=\"evidence\">Evidence</h2>")?;
    for (check, found) in &report.found {
        evidence(*check, found, facts.head.size, out)?;
    }
    writeln!(out, "</main>\n</body>\n</html>")
}

fn summary(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(out, "<h2 id=\"summary\">Summary</h2>\n<table>\n<caption>Controls by result</caption>")?;
    writeln!(out, "<thead><tr><th scope=\"col\">Result</th><th scope=\"col\">Controls</th></tr></thead>\n<tbody>")?;
    for standing in Standing::ALL {
        let count = report.rows.iter().filter(|row| row.standing == standing).count();
        writeln!(out, "<tr><th scope=\"row\">{}</th><td>{count}</td></tr>", result(standing))?;
    }
    writeln!(out, "</tbody>\n</table>\n<table>\n<caption>All controls</caption>")?;
    writeln!(
        out,
        "<thead><tr><th scope=\"col\">Control</th><th scope=\"col\">About</th><th scope=\"col\">Result</th></tr></thead>\n<tbody>"
    )?;
    for (place, row) in report.rows.iter().enumerate() {
        writeln!(
            out,
            "<tr><th scope=\"row\"><a href=\"#control-{place}\">{}</a></th><td>{}</td><td>{}</td></tr>",
            escaped(&row.control.id),
            escaped(&row.control.title),
            result(row.standing),
        )?;
    }
    writeln!(out, "</tbody>\n</table>")
}

fn tied_to(report: &Report, out: &mut String) -> std::fmt::Result {
    let head = &report.facts.head;
    writeln!(
        out,
        "<h2 id=\"log\">The log it is tied to</h2>\n<p>Everything below was read after this signed checkpoint of the \
         audit log <code>{}</code>: {} leaves, root <code>{}</code>. The SHA-256 of this file is in a leaf after it: \
         see <code>countersign audit show</code>. Check the log alone with <code>countersign audit export DIR</code> and \
         <code>countersign verify log DIR --root ROOT.pem</code>.</p>\n<pre>{}</pre>",
        escaped(&head.origin),
        head.size,
        head.root,
        escaped(&head.checkpoint),
    )
}

fn control(place: usize, row: &Row, out: &mut String) -> std::fmt::Result {
    let control = &row.control;
    writeln!(
        out,
        "<section aria-labelledby=\"control-{place}\">\n<h3 id=\"control-{place}\">{} {}</h3>\n<p>Result: {}</p>",
        escaped(&control.id),
        escaped(&control.title),
        result(row.standing),
    )?;
    if let Some(says) = &control.says {
        writeln!(out, "<p><strong>What this system does.</strong> {}</p>", escaped(says))?;
    }
    if let Some(remains) = &control.remains {
        writeln!(out, "<p><strong>What it does not.</strong> {}</p>", escaped(remains))?;
    }
    if !control.checks.is_empty() || !control.documents.is_empty() || !control.tests.is_empty() {
        writeln!(out, "<ul>")?;
        for check in &control.checks {
            let name = check.name();
            writeln!(out, "<li>Evidence: <a href=\"#check-{name}\">{}</a></li>", escaped(check.question()))?;
        }
        for document in &control.documents {
            writeln!(out, "<li>Document: <code>{}</code></li>", escaped(document))?;
        }
        for test in &control.tests {
            writeln!(out, "<li>Test: <code>{}</code></li>", escaped(test))?;
        }
        writeln!(out, "</ul>")?;
    }
    writeln!(out, "</section>")
}

fn evidence(check: Check, found: &Found, log_size: u64, out: &mut String) -> std::fmt::Result {
    let name = check.name();
    let class = found.outcome.words().replace(' ', "-");
    writeln!(
        out,
        "<section aria-labelledby=\"check-{name}\">\n<h3 id=\"check-{name}\">{}</h3>\n\
         <p><span class=\"r {class}\">{}</span>: {}.</p>\n<p class=\"quiet\">Read at {}, the log at {log_size} leaves or \
         more.</p>",
        escaped(check.question()),
        found.outcome.words(),
        escaped(&found.says),
        found.at.rfc3339(),
    )?;
    if !found.items.is_empty() {
        writeln!(
            out,
            "<table>\n<caption>{}</caption>\n<thead><tr><th scope=\"col\">What</th><th scope=\"col\">Value</th>\
             <th scope=\"col\">Where it was read</th></tr></thead>\n<tbody>",
            escaped(name),
        )?;
        for item in &found.items {
            writeln!(
                out,
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>",
                escaped(&item.what),
                escaped(&item.value),
                escaped(item.source),
            )?;
        }
        writeln!(out, "</tbody>\n</table>")?;
    }
    writeln!(out, "</section>")
}

fn result(standing: Standing) -> String {
    format!("<span class=\"r {}\">{}</span>", standing.words().replace(' ', "-"), standing.words())
}

/// Text as it may stand between tags and in quoted attributes. What turns or hides text on a screen is shown as a mark.
fn escaped(text: &str) -> Cow<'_, str> {
    let is_plain = |letter: char| !matches!(letter, '&' | '<' | '>' | '"' | '\'' | '`') && !is_deceptive(letter);
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '`' => out.push_str("&#96;"),
            deceptive if is_deceptive(deceptive) => out.push('\u{fffd}'),
            plain => out.push(plain),
        }
    }
    Cow::Owned(out)
}

/// Controls, and what changes the direction of text.
pub(super) fn is_deceptive(letter: char) -> bool {
    (letter.is_control() && letter != '\n')
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
