// SPDX-License-Identifier: Apache-2.0
//! The split itself: home first, then what the region has to spare, then what anybody has, then by capacity.
//!
//! Excess and spare room are pooled: in a region all zones with excess face the same zones with room, so one fraction says
//! how much of the excess finds room, and after each step either the excess or the room of the pool is gone. That makes the
//! rule exact without iterating.

use super::knowledge::Knowledge;
use super::{Config, Plan, Policy, Reason, Zone, shares};

/// Plans for `zones` by a configuration that was [checked](Config::checked).
#[must_use]
pub fn plan(zones: &[Zone], config: &Config) -> Plan {
    let known = Knowledge::of(zones, config);
    let (rows, homeless) = match config.policy {
        Policy::Prefer => prefer(zones, &known),
        Policy::Strict => (identity(zones.len()), vec![0.0; zones.len()]),
        Policy::Ignore => (by_capacity(&known), vec![0.0; zones.len()]),
    };
    let mut out = Vec::with_capacity(zones.len() * zones.len());
    rows.iter().for_each(|row| shares::round(row, &mut out));
    let nobody = known.limit.iter().all(|l| *l == 0.0);
    let reasons =
        (0..zones.len())
            .map(|i| {
                if nobody {
                    Reason::NoEndpoint
                } else {
                    reason(&zones[i], i, &known, config, &rows, &homeless)
                }
            })
            .collect();
    Plan {
        shares: out,
        reasons,
        covered: !nobody && !known.none_healthy && fits(&known),
        demand_known: known.demand_known,
        capacity_known: known.capacity_known,
    }
}

/// An exact fit is a fit: sums of the same numbers in another order differ by less than this part.
const SUM_ERROR: f64 = 1e-12;

/// Whether all demand fits into all limits.
fn fits(known: &Knowledge) -> bool {
    known.demand.iter().sum::<f64>() <= known.limit.iter().sum::<f64>() * (1.0 + SUM_ERROR)
}

fn identity(zones: usize) -> Vec<Vec<f64>> {
    (0..zones).map(|i| (0..zones).map(|j| f64::from(u8::from(i == j))).collect()).collect()
}

fn by_capacity(known: &Knowledge) -> Vec<Vec<f64>> {
    let all: f64 = known.limit.iter().sum();
    if all == 0.0 {
        return identity(known.limit.len());
    }
    let row: Vec<f64> = known.limit.iter().map(|l| l / all).collect();
    vec![row; known.limit.len()]
}

/// The rows, and for each zone the fraction of its traffic that found no room anywhere.
fn prefer(zones: &[Zone], known: &Knowledge) -> (Vec<Vec<f64>>, Vec<f64>) {
    let Knowledge { demand, limit, .. } = known;
    let all: f64 = limit.iter().sum();
    if all == 0.0 {
        return (identity(zones.len()), vec![0.0; zones.len()]);
    }
    let mut rows = vec![vec![0.0; zones.len()]; zones.len()];
    let mut left = vec![0.0; zones.len()];
    for (i, row) in rows.iter_mut().enumerate() {
        // A zone without demand is planned for its first request.
        row[i] =
            if demand[i] <= limit[i] { f64::from(u8::from(limit[i] > 0.0)) } else { limit[i] / demand[i] };
        left[i] = 1.0 - row[i];
    }
    let mut spare: Vec<f64> = demand.iter().zip(limit).map(|(d, l)| (l - d).max(0.0)).collect();
    let mut regions: Vec<u32> = zones.iter().map(|z| z.region).collect();
    regions.sort_unstable();
    regions.dedup();
    for region in regions {
        let members: Vec<usize> = (0..zones.len()).filter(|i| zones[*i].region == region).collect();
        pour(&members, demand, &mut rows, &mut left, &mut spare);
    }
    let everybody: Vec<usize> = (0..zones.len()).collect();
    pour(&everybody, demand, &mut rows, &mut left, &mut spare);
    for (row, left) in rows.iter_mut().zip(&left) {
        row.iter_mut().zip(limit).for_each(|(share, l)| *share += left * l / all);
    }
    (rows, left)
}

/// Pours what is left of `pool`'s traffic into what `pool` has to spare.
fn pour(pool: &[usize], demand: &[f64], rows: &mut [Vec<f64>], left: &mut [f64], spare: &mut [f64]) {
    let room: f64 = pool.iter().map(|j| spare[*j]).sum();
    let excess: f64 = pool.iter().map(|i| left[*i] * demand[*i]).sum();
    if room == 0.0 {
        return;
    }
    let finds_room = if excess > room * (1.0 + SUM_ERROR) { room / excess } else { 1.0 };
    for i in pool {
        for j in pool {
            rows[*i][*j] += left[*i] * finds_room * (spare[*j] / room);
        }
        left[*i] *= 1.0 - finds_room;
    }
    let remains = if excess < room { 1.0 - excess / room } else { 0.0 };
    pool.iter().for_each(|j| spare[*j] *= remains);
}

fn reason(
    zone: &Zone,
    i: usize,
    known: &Knowledge,
    config: &Config,
    rows: &[Vec<f64>],
    homeless: &[f64],
) -> Reason {
    match config.policy {
        Policy::Strict if known.limit[i] == 0.0 || known.none_healthy => Reason::StrictUnserved,
        Policy::Strict => Reason::Strict,
        _ if known.none_healthy => Reason::NoneHealthy,
        Policy::Ignore => Reason::Ignored,
        Policy::Prefer if zone.weight == 0 => Reason::NoLocalEndpoint,
        Policy::Prefer if known.limit[i] == 0.0 => Reason::LocalDown,
        Policy::Prefer if homeless[i] > 0.0 => Reason::AllOverloaded,
        Policy::Prefer if rows[i][i] == 1.0 => Reason::Local,
        Policy::Prefer if known.demand[i] <= known.healthy_limit[i] => Reason::Degraded,
        Policy::Prefer => Reason::Overloaded,
    }
}
