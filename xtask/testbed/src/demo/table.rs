// SPDX-License-Identifier: Apache-2.0
//! The closing table, the list of promises, and what the run has cost, as text. Pure.

use super::figures::Figures;
use super::verdict::{Promise, costs};

const HEAD: [&str; 11] = [
    "phase",
    "requests",
    "errors",
    "new conn errors",
    "skew",
    "local %",
    "p50 ms",
    "p99 ms",
    "slow pod",
    "conn spread",
    "cpu %",
];

/// Everything that is printed at the end.
pub(super) fn summary(phases: &[Figures], promises: &[Promise]) -> String {
    let rows: Vec<[String; 11]> = phases.iter().map(row).collect();
    let mut text = format!("{}\n", table(&rows));
    text.push_str("skew: busiest endpoint over the mean; the slow pod is left out from `request` on. slow pod: its requests\n");
    text.push_str("over the others' mean. conn spread: open connections, most minus least within a zone. cpu: whole machine.\n\n");
    for promise in promises {
        let mark = if promise.kept { '✓' } else { '✗' };
        text.push_str(&format!("{mark} {:<13} {}: {}\n", promise.phase, promise.text, promise.measured));
    }
    let costs = costs(phases);
    if !costs.is_empty() {
        text.push_str("\nWhat is lost or not better:\n");
    }
    for cost in costs {
        text.push_str(&format!("- {cost}\n"));
    }
    text
}

fn row(phase: &Figures) -> [String; 11] {
    [
        phase.name.clone(),
        phase.requests.to_string(),
        phase.errors.to_string(),
        phase.new_connection_errors.to_string(),
        format!("{:.2}", phase.skew),
        format!("{:.1}", phase.zone_local * 100.0),
        format!("{:.1}", phase.p50_us as f64 / 1e3),
        format!("{:.1}", phase.p99_us as f64 / 1e3),
        format!("{:.2}", phase.slow_share),
        phase.connection_spread.map_or_else(|| "-".to_owned(), |spread| spread.to_string()),
        format!("{:.0}", phase.cpu_busy * 100.0),
    ]
}

fn table(rows: &[[String; 11]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            // Names to the left, numbers to the right.
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("{}\n", padded.collect::<Vec<_>>().join("  "))
    };
    let mut text = line(&HEAD.map(String::from));
    for row in rows {
        text.push_str(&line(row));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_a_row_per_phase_and_a_mark_per_promise() {
        let phase = Figures {
            name: "request".into(),
            requests: 16_200,
            skew: 1.042,
            p99_us: 21_340,
            ..Figures::default()
        };
        let promise =
            |kept| Promise { phase: "request", text: "no errors".into(), measured: "0".into(), kept };
        let text = summary(&[phase], &[promise(true), promise(false)]);
        let row = text.lines().nth(1).expect("a row");
        assert_eq!(row.split_whitespace().collect::<Vec<_>>()[..5], ["request", "16200", "0", "0", "1.04"]);
        assert!(row.contains("21.3"), "{row}");
        assert!(
            text.contains("✓ request       no errors: 0") && text.contains("✗ request       no errors: 0")
        );
        let widths: Vec<usize> = text.lines().take(2).map(|line| line.chars().count()).collect();
        assert_eq!(widths[0], widths[1]);
    }
}
