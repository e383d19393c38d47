// SPDX-License-Identifier: Apache-2.0
//! One drawing per axis: delay of a push, CPU time and memory, each in a plot of its own below the other.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use evenkeel_sim::report::{Page, Plot, Scale, style};

use super::{
    curve::{Curve, curves},
    measure::Figures,
    plan::grouped,
};

const HEIGHT: f64 = 150.0;

/// A line of a plot: its name and where it is.
type Line = (&'static str, fn(&Figures) -> f64);

/// One plot: what its vertical axis says, and its lines.
const PLOTS: [(&str, &[Line]); 3] = [
    ("push, ms", &[("p50", |f| f.push_p50_ms), ("p99", |f| f.push_p99_ms)]),
    (
        "CPU of the server, ms",
        &[("per change", |f| f.cpu_ms_per_change), ("first sync of a client", |f| f.sync_cpu_ms_per_client)],
    ),
    ("memory, MB", &[("without clients", |f| f.empty_mb), ("with all clients", |f| f.rss_mb)]),
];

/// Writes `discovery-AXIS.svg` for each axis into the folder.
pub(super) fn write(all: &[Figures], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for curve in curves(all) {
        let file = folder.join(format!("discovery-{}.svg", curve.slug));
        fs::write(&file, draw(&curve)).with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!("bench: wrote {}", file.display());
    }
    Ok(())
}

fn draw(curve: &Curve<'_>) -> String {
    let mut page = Page::new(&format!("Discovery: how it grows with {}", curve.axis), &curve.fixed);
    for (label, lines) in PLOTS {
        page.legend(lines.iter().enumerate().map(|(i, (name, _))| (style(i), *name)));
        let values =
            |value: fn(&Figures) -> f64| curve.points.iter().map(move |(at, f)| (*at as f64, value(f)));
        let high = lines.iter().flat_map(|(_, value)| values(*value)).map(|(_, y)| y).fold(0.0, f64::max);
        let (first, last) = (curve.points.first(), curve.points.last());
        let ends = (first.map_or(1.0, |p| p.0 as f64), last.map_or(1.0, |p| p.0 as f64));
        let x = Scale::logarithmic(ends.0, ends.1, |v| grouped(v.round() as usize));
        let y = Scale::linear(high, |v| if high < 5.0 { format!("{v:.1}") } else { format!("{v:.0}") });
        let plot = Plot::new(&mut page, HEIGHT, (x, curve.axis), (y, label));
        for (i, (_, value)) in lines.iter().enumerate() {
            let points: Vec<_> = values(*value).map(|(x, y)| plot.at(x, y)).collect();
            page.path(&points, style(i));
        }
        page.skip(14.0);
    }
    page.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{plan, testing};

    #[test]
    fn every_axis_gets_a_drawing_with_all_its_lines() {
        let figures = |run: &plan::Run| Figures { run: *run, ..testing::figures(run.purpose) };
        let all: Vec<_> = plan::runs(plan::Extent::Full).iter().map(figures).collect();
        let folder = tempfile::tempdir().unwrap();
        write(&all, folder.path()).unwrap();
        for axis in ["services", "endpoints", "clients"] {
            let svg = fs::read_to_string(folder.path().join(format!("discovery-{axis}.svg"))).unwrap();
            for (label, lines) in PLOTS {
                assert!(
                    svg.contains(label) && lines.iter().all(|(name, _)| svg.contains(name)),
                    "{axis} {label}"
                );
            }
        }
    }
}
