// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench balance`: what the balancing library costs, against its targets.

mod picks;
mod rebuild;
mod report;
mod simulate;
mod world;

use anyhow::Result;

/// Numbers of endpoints at which pickers are measured.
const ENDPOINTS: [usize; 3] = [10, 100, 10_000];
/// Longest pick in nanoseconds; hash pickers aside, which are shown without a target.
const MAX_NS_PER_PICK: f64 = 100.0;
/// Longest rebuild of a view of 10 000 endpoints, in milliseconds: any picker but the hash pickers, and the slot table.
const MAX_REBUILD_MS: f64 = 5.0;
/// Fewest requests simulated per second of CPU time.
const MIN_SIMULATED: f64 = 3_000_000.0;

/// All figures.
struct Figures {
    picks: Vec<picks::Pick>,
    rebuilds: Vec<rebuild::Rebuild>,
    simulated_per_cpu_second: f64,
}

/// Measures, prints, and says whether all targets were reached.
pub(crate) fn run(json: bool) -> Result<bool> {
    eprintln!("bench: picks …");
    let picks = picks::measure()?;
    eprintln!("bench: rebuilds …");
    let rebuilds = rebuild::measure()?;
    eprintln!("bench: simulator …");
    let figures = Figures { picks, rebuilds, simulated_per_cpu_second: simulate::measure()? };
    let missed = report::print(&figures);
    if json {
        println!("{}", report::json(&figures));
    }
    Ok(!missed)
}
