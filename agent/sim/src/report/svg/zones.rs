// SPDX-License-Identifier: Apache-2.0
//! Flows between zones: for each policy and client zone, one bar that is split by the zone that served.

use super::page::{Anchor, LEFT, Page, RIGHT, Style, WIDTH, colour};
use crate::{
    outcome::Outcome,
    report::{Comparison, unit},
};

const BAR: f64 = 20.0;
const GAP: f64 = 6.0;
/// A part narrower than this has no room for its number.
const ROOM: f64 = 44.0;

pub(super) fn draw(comparison: &Comparison) -> String {
    let mut page = Page::new(
        &format!("{}: flows between zones", comparison.scenario.name),
        "each bar: the requests of clients in one zone, split by the zone whose endpoints served them (% of requests)",
    );
    let zones = comparison.scenario.zones.iter().map(|z| z.name.as_str());
    page.legend(
        zones
            .enumerate()
            .map(|(i, name)| (Style { colour: colour(i), dash: "", width: 10.0, opacity: 1.0 }, name)),
    );
    for outcome in &comparison.outcomes {
        panel(&mut page, outcome);
    }
    page.text(
        (LEFT, page.y + 4.0),
        Anchor::Start,
        "fill=\"#333\"",
        "client zone (rows), share of its requests (0 to 100 %)",
    );
    page.finish()
}

fn panel(page: &mut Page, outcome: &Outcome) {
    let heading = format!("{}: {} cross-zone", outcome.policy, unit::percent(outcome.figures.cross_zone));
    page.text((LEFT, page.y + 12.0), Anchor::Start, "font-weight=\"600\"", &heading);
    page.y += 20.0;
    let width = WIDTH - RIGHT - LEFT;
    let names = &outcome.series.zones;
    for (from, flows) in names.iter().zip(&outcome.series.flows) {
        let total: u64 = flows.iter().sum();
        page.text((LEFT - 8.0, page.y + 14.0), Anchor::End, "fill=\"#333\"", &short(from));
        let mut x = LEFT;
        for (i, (to, count)) in names.iter().zip(flows).enumerate().filter(|(_, (_, count))| **count > 0) {
            let share = *count as f64 / total as f64;
            let (part, text) = (share * width, unit::percent(share));
            page.bar(
                x,
                page.y,
                part,
                BAR,
                colour(i),
                &format!("{from} → {to}: {} requests, {text}", unit::thousands(*count)),
            );
            if part > ROOM {
                let white = "fill=\"#fff\" font-weight=\"600\"";
                page.text((x + part / 2.0, page.y + 14.0), Anchor::Middle, white, &text);
            }
            x += part;
        }
        page.y += BAR + GAP;
    }
    page.y += 12.0;
}

/// A name that fits left of the bars.
fn short(name: &str) -> String {
    const FITS: usize = 10;
    if name.chars().count() <= FITS {
        name.to_owned()
    } else {
        format!("{}…", name.chars().take(FITS - 1).collect::<String>())
    }
}
