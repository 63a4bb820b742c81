//! The live view's part of a page: cards, charts and their tables, filled by `live.js` from `/live/stream` and `/live/series`.
//!
//! Everything that a chart shows is in a table, too, which is made when somebody opens it and stays as it is while it is
//! read; and in a sentence. One line alone is announced by itself: what changes about the connection, the HSM, the breaker, alerts.

use maud::{Markup, html};

use crate::kernel::series::Range;

/// The files that the view needs, by name, with their media types. Pages name them under `/assets/`.
pub const ASSETS: [(&str, &str, &str); 4] = [
    ("live.css", "text/css; charset=utf-8", include_str!("assets/live.css")),
    ("live.js", "text/javascript; charset=utf-8", include_str!("assets/live.js")),
    ("uplot.iife.min.js", "text/javascript; charset=utf-8", include_str!("assets/uplot.iife.min.js")),
    ("uplot.min.css", "text/css; charset=utf-8", include_str!("assets/uplot.min.css")),
];

/// A card: its name in the snapshot's terms of `live.js`, and what it is called.
struct Card {
    name: &'static str,
    title: &'static str,
}

const CARDS: [Card; 9] = [
    Card { name: "posted", title: "Transactions a second" },
    Card { name: "decisions", title: "Decisions in the last minute" },
    Card { name: "latency", title: "Time to answer a call" },
    Card { name: "hsm", title: "HSM" },
    Card { name: "signatures", title: "Signatures a second" },
    Card { name: "agents", title: "Connected agents" },
    Card { name: "breaker", title: "Payments" },
    Card { name: "waiting", title: "Cases that wait for people" },
    Card { name: "alerts", title: "Alerts in the last 24 hours" },
];

/// A chart: its name in `live.js`, its caption, and what stands there instead of an empty one.
struct Chart {
    name: &'static str,
    title: &'static str,
    empty: &'static str,
}

const CHARTS: [Chart; 5] = [
    Chart { name: "posted", title: "Transactions a second", empty: "No transactions in this time." },
    Chart { name: "decisions", title: "Decisions a second, by outcome", empty: "No decisions in this time." },
    Chart {
        name: "latency",
        title: "Time to answer a call of a tool, milliseconds: half of them, 95 and 99 of 100",
        empty: "No calls of tools were answered in this time.",
    },
    Chart { name: "signatures", title: "Signatures of the HSM a second", empty: "No signatures in this time." },
    Chart { name: "agents", title: "Connected agents, at most", empty: "No agent was connected in this time." },
];

fn words(range: Range) -> &'static str {
    match range {
        Range::Minute => "1 minute",
        Range::QuarterHour => "15 minutes",
        Range::Hour => "1 hour",
        Range::Day => "24 hours",
        Range::Week => "7 days",
        Range::Month => "30 days",
    }
}

/// The scripts and styles of a page with [`live`], in their order: a module is run after every script before it.
pub const FILES: [&str; 4] =
    ["/assets/uplot.min.css", "/assets/live.css", "/assets/uplot.iife.min.js", "/assets/live.js"];

/// The view, below the page's heading.
pub fn live() -> Markup {
    html! {
        section #live .live aria-label="Live" data-stream="/live/stream" data-series="/live/series" {
            p #live-state .live-state data-state="connecting" { "Connecting." }
            p #live-said .live-said role="status" {}
            p #live-reading .live-reading hidden {}
            noscript { p { "Figures and charts need JavaScript. The same is in `countersign status` and `countersign audit`." } }
            div .live-cards {
                @for card in &CARDS { (self::card(card)) }
            }
            fieldset .live-ranges {
                legend { "Time shown" }
                @for range in Range::ALL {
                    label {
                        input type="radio" name="live-range" value=(range.name()) checked[range == Range::QuarterHour];
                        " " (words(range))
                    }
                }
            }
            p #live-unread .live-note hidden {}
            div .live-charts {
                @for chart in &CHARTS { (self::chart(chart)) }
                (refusals())
                (alerts())
            }
        }
    }
}

fn card(card: &Card) -> Markup {
    let title = format!("card-{}", card.name);
    html! {
        div .live-card role="group" aria-labelledby=(title) data-card=(card.name) {
            h2 id=(title) { (card.title) }
            p .live-figure data-figure { "–" }
            p .live-note data-note {}
        }
    }
}

fn chart(chart: &Chart) -> Markup {
    let caption = format!("chart-{}", chart.name);
    html! {
        figure .live-chart aria-labelledby=(caption) data-chart=(chart.name) {
            figcaption id=(caption) { (chart.title) }
            // What it shows is in the sentence and in the table.
            div .live-plot data-plot aria-hidden="true" {}
            p .live-empty data-empty data-words=(chart.empty) hidden {}
            p .live-note data-summary {}
            details {
                summary { "As a table" }
                button type="button" data-again { "Bring up to date" }
                div .live-scroll tabindex="0" role="region" aria-labelledby=(caption) {
                    table {
                        caption data-as-of {}
                        thead { tr data-columns {} }
                        tbody data-rows {}
                    }
                }
            }
        }
    }
}

fn refusals() -> Markup {
    html! {
        section .live-chart aria-labelledby="live-refusals" data-refusals {
            h2 #live-refusals { "Refusals by name" }
            p .live-empty data-empty { "Not known yet." }
            table hidden {
                thead { tr { th scope="col" { "Name" } th scope="col" { "Count" } } }
                tbody data-rows {}
            }
        }
    }
}

fn alerts() -> Markup {
    html! {
        section .live-chart aria-labelledby="live-alerts" data-alerts {
            h2 #live-alerts { "Newest alerts" }
            p .live-empty data-empty { "Not known yet." }
            ol data-rows hidden {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn attribute<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        let (begin, mut found) = (format!(" {name}=\""), vec![]);
        for part in text.split(&begin).skip(1) {
            found.push(part.split('"').next().unwrap());
        }
        found
    }

    #[test]
    fn what_names_something_names_something_that_is_there_once() {
        let text = live().into_string();
        let ids = attribute(&text, "id");
        assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "{ids:?}");
        let named = attribute(&text, "aria-labelledby");
        assert!(named.len() > 10 && named.iter().all(|name| ids.contains(name)), "{named:?}");
        assert_eq!(text.matches("<h1").count(), 0);
        assert_eq!(text.matches(" checked").count(), 1);
    }

    #[test]
    fn a_page_brings_no_script_and_no_style_of_its_own() {
        let text = live().into_string();
        for forbidden in [" style=", " onclick=", " onload=", "<style", "javascript:", "http:", "https:"] {
            assert!(!text.contains(forbidden), "{forbidden}");
        }
        assert!(!text.contains("<script"));
    }

    #[test]
    fn every_file_that_a_page_names_is_there_and_the_script_finds_every_part() {
        assert_eq!(FILES.len(), ASSETS.len());
        for file in FILES {
            assert!(ASSETS.iter().any(|(name, _, _)| Some(*name) == file.strip_prefix("/assets/")), "{file}");
        }
        let script = ASSETS[1].2;
        for name in CHARTS.iter().map(|chart| chart.name).chain(CARDS.iter().map(|card| card.name)) {
            assert!(script.contains(&format!("{name}:")) || script.contains(&format!("{name}(")), "{name}");
        }
    }
}
