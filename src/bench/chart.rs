//! The throughput chart: bars of ours, the raw limit as a line over each.

use std::fmt::Write;

use super::figures::Spread;

/// What a chart shows. Nothing in it comes from outside the program.
pub struct Chart {
    pub title: &'static str,
    /// What the label under a bar names.
    pub bars_are: &'static str,
    pub unit: &'static str,
    pub raw_is: &'static str,
    pub bars: Vec<Bar>,
}

/// One measurement of ours and the raw loop beside it.
pub struct Bar {
    pub label: String,
    pub ours: Spread,
    pub raw: Spread,
    pub ratio: f64,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 70.0;
/// Readable on white and on black.
const INK: &str = "#808080";
const OURS: &str = "#3b82c4";
const RAW: &str = "#d97706";
const TICKS: u32 = 5;

/// A whole SVG document.
pub fn svg(chart: &Chart) -> String {
    let (plot_width, plot_height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let highest = chart.bars.iter().map(|bar| bar.ours.max.max(bar.raw.max)).fold(1.0, f64::max);
    let y = |value: f64| TOP + plot_height * (1.0 - value / highest);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"{INK}\">\n<title>{}</title>\n",
        chart.title
    );
    // Writing into a String does not fail.
    for tick in 0..=TICKS {
        let value = highest * f64::from(tick) / f64::from(TICKS);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{INK}\" stroke-opacity=\"0.3\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y(value) + 4.0,
            y = y(value)
        );
    }
    let step = plot_width / chart.bars.len().max(1) as f64;
    for (place, bar) in chart.bars.iter().enumerate() {
        let (x, width) = (LEFT + step * (place as f64 + 0.2), step * 0.6);
        let (ours, raw) = (y(bar.ours.median), y(bar.raw.median));
        let middle = x + width / 2.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{ours:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{OURS}\"/>\
             <line x1=\"{middle:.1}\" x2=\"{middle:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"{INK}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{raw:.1}\" y2=\"{raw:.1}\" stroke=\"{RAW}\" stroke-width=\"3\"/>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.2}</text>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            TOP + plot_height - ours,
            y(bar.ours.max),
            y(bar.ours.min),
            x - step * 0.1,
            x + width + step * 0.1,
            ours.min(raw) - 6.0,
            bar.ratio,
            HEIGHT - BOTTOM + 18.0,
            bar.label
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(20 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>\
         <rect x=\"{LEFT}\" y=\"16\" width=\"14\" height=\"12\" fill=\"{OURS}\"/><text x=\"{:.1}\" y=\"27\">ours, and \
         its part of the raw limit</text><line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"22\" y2=\"22\" stroke=\"{RAW}\" \
         stroke-width=\"3\"/><text x=\"{:.1}\" y=\"27\">{}</text>\n</svg>",
        LEFT + plot_width / 2.0,
        HEIGHT - 20.0,
        chart.bars_are,
        TOP + plot_height / 2.0,
        chart.unit,
        LEFT + 20.0,
        LEFT + 240.0,
        LEFT + 264.0,
        LEFT + 270.0,
        chart.raw_is
    );
    svg
}
