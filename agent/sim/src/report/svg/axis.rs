// SPDX-License-Identifier: Apache-2.0
//! Scales with round ticks, and the frame of a plot.

use super::page::{Anchor, LEFT, Page, RIGHT, Style, WIDTH};

/// A value and what is written at it.
pub(super) type Tick = (f64, String);

/// From values to a share of the axis, 0 to 1.
#[derive(Clone, Debug)]
pub struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<Tick>,
}

impl Scale {
    /// From zero to at least `high`, with about five round ticks.
    pub fn linear(high: f64, write: impl Fn(f64) -> String) -> Self {
        let step = round_step(high.max(1e-9) / 5.0);
        let count = (high / step).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|i| f64::from(i) * step).map(|v| (v, write(v))).collect();
        Self { low: 0.0, high: count * step, logarithmic: false, ticks }
    }

    /// From zero to exactly `high`, with about five round ticks.
    pub(super) fn linear_to(high: f64, write: impl Fn(f64) -> String) -> Self {
        // A sum of rounded steps may end a hair before its last tick.
        let ticks = Self::linear(high, write).ticks;
        Self::fixed(high, ticks.into_iter().filter(|(value, _)| *value <= high * 1.001).collect())
    }

    /// From zero to exactly `high`, with these ticks.
    pub(super) fn fixed(high: f64, ticks: Vec<Tick>) -> Self {
        Self { low: 0.0, high: high.max(1e-9), logarithmic: false, ticks }
    }

    /// From at most `low` to at least `high`, both above zero, with ticks at 1, 2 and 5 times powers of ten, or at powers only
    /// where those would be many.
    pub fn logarithmic(low: f64, high: f64, write: impl Fn(f64) -> String) -> Self {
        let (low, high) = (low.max(1e-3), high.max(low * 1.5).max(2e-3));
        let (first, last) = (libm::log10(low).floor() as i32, libm::log10(high).ceil() as i32);
        let digits: &[f64] = if last - first > 4 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let all: Vec<f64> = (first..=last)
            .flat_map(|power| digits.iter().map(move |d| d * libm::pow(10.0, f64::from(power))))
            .collect();
        let below = all.iter().copied().filter(|v| *v <= low).fold(low, |_, v| v);
        let above = all.iter().copied().find(|v| *v >= high).unwrap_or(high);
        let ticks = all.into_iter().filter(|v| (below..=above).contains(v)).map(|v| (v, write(v))).collect();
        Self { low: below, high: above, logarithmic: true, ticks }
    }

    fn place(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            libm::log10(value.max(self.low) / self.low) / libm::log10(self.high / self.low)
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    let power = libm::pow(10.0, libm::log10(least).floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|d| d * power).find(|s| *s >= least * 0.999).unwrap_or(10.0 * power)
}

/// A plot: two scales in a frame that is as wide as the page.
pub struct Plot {
    top: f64,
    height: f64,
    x: Scale,
    y: Scale,
}

impl Plot {
    /// Draws grid, ticks and labels, and moves the page below them.
    pub fn new(
        page: &mut Page,
        height: f64,
        (x, x_label): (Scale, &str),
        (y, y_label): (Scale, &str),
    ) -> Self {
        let plot = Self { top: page.y, height, x, y };
        let (left, right, bottom) = (LEFT, WIDTH - RIGHT, plot.top + height);
        let grid = Style { colour: "#e3e3e3", dash: "", width: 1.0, opacity: 1.0 };
        for (value, text) in &plot.y.ticks {
            let (_, y) = plot.at(0.0, *value);
            page.line((left, y), (right, y), grid);
            page.text((left - 8.0, y + 4.0), Anchor::End, "fill=\"#333\"", text);
        }
        for (value, text) in &plot.x.ticks {
            let (x, _) = plot.at(*value, 0.0);
            page.line((x, plot.top), (x, bottom), grid);
            page.text((x, bottom + 16.0), Anchor::Middle, "fill=\"#333\"", text);
        }
        let frame = Style { colour: "#666", ..grid };
        page.path(&[(left, plot.top), (left, bottom), (right, bottom)], frame);
        page.vertical_text(18.0, plot.top + height / 2.0, y_label);
        page.y = bottom + 34.0;
        if x_label.is_empty() {
            page.y = bottom + 26.0;
        } else {
            page.text((f64::midpoint(left, right), page.y), Anchor::Middle, "fill=\"#333\"", x_label);
        }
        plot
    }

    /// Where a point is on the page. What lies outside is drawn at the edge.
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let width = WIDTH - RIGHT - LEFT;
        (LEFT + self.x.place(x) * width, self.top + self.height * (1.0 - self.y.place(y)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: &Scale) -> Vec<&str> {
        scale.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_reach_beyond_the_values() {
        let write = |v: f64| format!("{v}");
        assert_eq!(texts(&Scale::linear(23.0, write)), ["0", "5", "10", "15", "20", "25"]);
        assert_eq!(
            texts(&Scale::linear(1.0, |v| format!("{v:.1}"))),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(
            texts(&Scale::logarithmic(3.0, 40.0, |v| format!("{v:.0}"))),
            ["2", "5", "10", "20", "50"]
        );
    }

    #[test]
    fn a_scale_of_nothing_is_still_a_scale() {
        for scale in [Scale::linear(0.0, |v| v.to_string()), Scale::logarithmic(0.0, 0.0, |v| v.to_string())]
        {
            assert!(scale.high > scale.low && !scale.ticks.is_empty());
            assert!(scale.place(0.0).is_finite());
        }
    }

    #[test]
    fn what_lies_outside_is_drawn_at_the_edge() {
        let scale = Scale::linear(10.0, |v| v.to_string());
        assert_eq!((scale.place(-5.0), scale.place(5.0), scale.place(99.0)), (0.0, 0.5, 1.0));
    }
}
