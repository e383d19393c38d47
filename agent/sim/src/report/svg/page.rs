// SPDX-License-Identifier: Apache-2.0
//! A page of SVG: white, one title, one legend, text and paths. Knows nothing of what is drawn.

use std::fmt::Write as _;

/// Width of every drawing.
pub(super) const WIDTH: f64 = 860.0;
/// Left of a plot, for labels.
pub(super) const LEFT: f64 = 78.0;
/// Right of a plot.
pub(super) const RIGHT: f64 = 24.0;
/// Where plots may begin, without a legend.
const TOP: f64 = 54.0;

/// Okabe and Ito's colours, which people with any colour vision tell apart, without the yellow that white swallows.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
/// Dashes, so that colours are not all there is, and a line shows below another that covers it.
const DASHES: [&str; 4] = ["", "7 3", "2 3", "9 3 2 3"];

/// How a series is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub(super) colour: &'static str,
    pub(super) dash: &'static str,
    pub(super) width: f64,
    pub(super) opacity: f64,
}

/// The style of the series of that number.
pub fn style(i: usize) -> Style {
    Style { colour: colour(i), dash: DASHES[i % DASHES.len()], width: 2.0, opacity: 1.0 }
}

/// The colour of the series of that number.
pub(super) fn colour(i: usize) -> &'static str {
    COLOURS[i % COLOURS.len()]
}

/// Where text is put by its coordinates.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A page that grows downwards.
pub struct Page {
    body: String,
    title: String,
    /// Where the next thing goes.
    pub(super) y: f64,
}

impl Page {
    /// A page with its title and a line below that.
    pub fn new(title: &str, subtitle: &str) -> Self {
        let mut page = Self { body: String::new(), title: title.to_owned(), y: TOP };
        page.text((LEFT, 24.0), Anchor::Start, "font-size=\"16\" font-weight=\"600\"", title);
        page.text((LEFT, 42.0), Anchor::Start, "fill=\"#555\"", subtitle);
        page
    }

    /// Coloured marks with their names, in as many rows as they need.
    pub fn legend<'a>(&mut self, entries: impl Iterator<Item = (Style, &'a str)>) {
        const MARK: f64 = 26.0;
        let (mut x, y) = (LEFT, &mut self.y.clone());
        *y += 8.0;
        for (style, name) in entries {
            let width = MARK + 8.0 + text_width(name) + 18.0;
            if x > LEFT && x + width > WIDTH - RIGHT {
                (x, *y) = (LEFT, *y + 18.0);
            }
            self.line((x, *y), (x + MARK, *y), style);
            self.text((x + MARK + 8.0, *y + 4.0), Anchor::Start, "", name);
            x += width;
        }
        self.y = *y + 18.0;
    }

    /// Leaves this much free.
    pub fn skip(&mut self, height: f64) {
        self.y += height;
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, attributes: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let space = if attributes.is_empty() { "" } else { " " };
        let _ = writeln!(
            self.body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\"{space}{attributes}>{}</text>",
            Number(x),
            Number(y),
            escape(text)
        );
    }

    /// Text along a vertical axis, read from below.
    pub(super) fn vertical_text(&mut self, x: f64, y: f64, text: &str) {
        let turn = format!("transform=\"rotate(-90 {} {})\" fill=\"#333\"", Number(x), Number(y));
        self.text((x, y), Anchor::Middle, &turn, text);
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), style: Style) {
        self.path(&[from, to], style);
    }

    /// A line through points; nothing for fewer than two.
    pub fn path(&mut self, points: &[(f64, f64)], style: Style) {
        if points.len() < 2 {
            return;
        }
        self.body.push_str("<path d=\"");
        let tenths = |v: f64| (v * 10.0).round() / 10.0;
        let (mut last, mut command) = ((0.0, 0.0), "M");
        for (x, y) in points.iter().map(|(x, y)| (tenths(*x), tenths(*y))) {
            // Differences are shorter than places, and rounded places do not add up to an error.
            let (dx, dy) = (x - last.0, y - last.1);
            let _ = write!(self.body, "{command}{} {}", Number(dx), Number(dy));
            (last, command) = ((x, y), "l");
        }
        let _ = write!(
            self.body,
            "\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"",
            style.colour,
            Number(style.width)
        );
        if !style.dash.is_empty() {
            let _ = write!(self.body, " stroke-dasharray=\"{}\"", style.dash);
        }
        if style.opacity < 1.0 {
            let _ = write!(self.body, " stroke-opacity=\"{}\"", style.opacity);
        }
        self.body.push_str(" stroke-linejoin=\"round\"/>\n");
    }

    /// A filled rectangle; `title` is shown when pointed at.
    pub(super) fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str, title: &str) {
        let _ = writeln!(
            self.body,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{fill}\"><title>{}</title></rect>",
            Number(x),
            Number(y),
            Number(width),
            Number(height),
            escape(title)
        );
    }

    /// The whole drawing.
    pub fn finish(self) -> String {
        let (width, height) = (Number(WIDTH), Number(self.y + 16.0));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#111\">\n<title>{}</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            escape(&self.title),
            self.body
        )
    }
}

/// About as wide as a sans-serif face sets it at 12 px; text is not measured here.
fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 6.8
}

/// A coordinate: to a tenth, without a needless zero. What is no number would make the whole drawing invalid: 0.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tenths = if self.0.is_finite() { (self.0 * 10.0).round() as i64 } else { 0 };
        let sign = if tenths < 0 { "-" } else { "" };
        match (tenths.unsigned_abs() / 10, tenths.unsigned_abs() % 10) {
            (whole, 0) => write!(f, "{sign}{whole}"),
            (whole, tenth) => write!(f, "{sign}{whole}.{tenth}"),
        }
    }
}

/// Text as XML has it; control characters, which XML 1.0 does not, as a replacement character.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_text() {
        assert_eq!(escape("<a href=\"x\">&'\u{1b}"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;\u{fffd}");
    }

    #[test]
    fn coordinates_are_short_and_always_numbers() {
        for (value, text) in [(1.0, "1"), (0.04, "0"), (-2.25, "-2.3"), (f64::NAN, "0"), (f64::INFINITY, "0")]
        {
            assert_eq!(Number(value).to_string(), text);
        }
    }
}
