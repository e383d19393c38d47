// SPDX-License-Identifier: Apache-2.0
//! How many units each endpoint should hold: what it holds, if that is near enough to its exact share, else the exact
//! share.
//!
//! Always true: the units sum to [`WHOLE`] for each endpoint; each endpoint's lie within its bounds, unless very many
//! weights are too small for one unit (each then takes one, from the largest).

use std::{cmp::Reverse, collections::VecDeque};

use super::{Before, WHOLE};

/// A share may be off by this part of itself, so that a light endpoint is not doubled by what is nothing to the whole.
const OF_ITSELF: u64 = 64;

/// What one endpoint may hold.
struct Bounds {
    /// The exact share, rounded down.
    floor: u64,
    /// What rounding took, as a fraction of the sum of all weights.
    rest: u128,
    low: u64,
    high: u64,
    /// It keeps what it holds.
    settled: bool,
}

/// Units for endpoints of these weights.
pub(super) fn wanted(weights: &[u32], before: &Before) -> Vec<u64> {
    let all_zero = weights.iter().all(|weight| *weight == 0);
    let weight = |w: &u32| if all_zero { 1 } else { u128::from(*w) };
    let total: u128 = weights.iter().map(weight).sum();
    let count = weights.len() as u64;
    let mut bounds: Vec<Bounds> = weights.iter().map(|w| bounds(weight(w), total, count)).collect();
    let mut units: Vec<u64> = bounds
        .iter_mut()
        .zip(&before.units)
        .map(|(bounds, held)| {
            let kept = held.filter(|units| (bounds.low..=bounds.high).contains(units));
            bounds.settled = kept.is_some();
            kept.unwrap_or(bounds.floor.max(bounds.low))
        })
        .collect();
    even_out(&bounds, before, &mut units);
    units
}

fn bounds(weight: u128, total: u128, count: u64) -> Bounds {
    let product = weight * u128::from(count) * u128::from(WHOLE);
    let (floor, rest) = ((product / total) as u64, product % total);
    // One unit for each column is 1/65 536 of the whole; one is left for rounding.
    let tolerance = (count - 1).min(floor / OF_ITSELF);
    let least = u64::from(weight > 0);
    let high = (floor + tolerance + u64::from(rest > 0)).max(least);
    Bounds { floor, rest, low: floor.saturating_sub(tolerance).max(least), high, settled: false }
}

/// Makes `units` sum to the whole, with as few settled endpoints disturbed as it takes.
fn even_out(bounds: &[Bounds], before: &Before, units: &mut [u64]) {
    let whole = bounds.len() as u64 * u64::from(WHOLE);
    let mut order: Vec<usize> = (0..bounds.len()).collect();
    // First what rounding took, by the largest remainder, of those that change anyway.
    order.retain(|i| !bounds[*i].settled);
    order.sort_by_key(|i| Reverse(bounds[*i].rest));
    approach(units, whole, &order, |i| bounds[i].floor + u64::from(bounds[i].rest > 0));
    // Then as far as the tolerance goes, near to what changes anyway first: each then costs one column, its own.
    let up = units.iter().sum::<u64>() < whole;
    let limit = |i: usize| if up { bounds[i].high } else { bounds[i].low };
    let distance = distances(bounds, before);
    order = (0..bounds.len()).collect();
    order.sort_by_key(|i| (bounds[*i].settled, distance[*i], Reverse(limit(*i).abs_diff(units[*i]))));
    approach(units, whole, &order, limit);
    // Only when very many were raised to their one unit is there something left: the largest can spare it.
    order.sort_by_key(|i| Reverse(units[*i]));
    approach(units, whole, &order, |i| bounds[i].low.min(1));
}

/// Moves the units of each in `order` towards its limit, one after the other, until the sum is `whole`.
fn approach(units: &mut [u64], whole: u64, order: &[usize], limit: impl Fn(usize) -> u64) {
    let mut sum: u64 = units.iter().sum();
    for i in order {
        let (now, limit) = (units[*i], limit(*i));
        let next = if sum < whole {
            now.max(limit.min(now + (whole - sum)))
        } else {
            now.min(limit.max(now.saturating_sub(sum - whole)))
        };
        sum = sum - now + next;
        units[*i] = next;
    }
}

/// How many columns beside its own an endpoint's change would change: those between it and the first that changes
/// anyway.
fn distances(bounds: &[Bounds], before: &Before) -> Vec<u32> {
    let mut distance = vec![u32::MAX; bounds.len()];
    // What changes anyway, with all that lies between it and its root.
    for at in (0..bounds.len()).filter(|at| !bounds[*at].settled || before.loose[*at]) {
        let mut next = Some(at);
        while let Some(at) = next.filter(|at| distance[*at] != 0) {
            distance[at] = 0;
            next = before.alias[at];
        }
    }
    let mut below = vec![Vec::new(); bounds.len()];
    for (at, alias) in before.alias.iter().enumerate() {
        alias.iter().for_each(|alias| below[*alias].push(at));
    }
    let mut queue: VecDeque<usize> = (0..bounds.len()).filter(|at| distance[*at] == 0).collect();
    while let Some(at) = queue.pop_front() {
        for child in &below[at] {
            if distance[*child] == u32::MAX {
                distance[*child] = distance[at] + 1;
                queue.push_back(*child);
            }
        }
    }
    distance
}
