// SPDX-License-Identifier: Apache-2.0
//! How long it takes to build a picker over 10 000 endpoints, and the kernel's slot table.

use std::hint::black_box;

use anyhow::Result;
use evenkeel_balance::{
    picker::{Endpoints as Listed, Strategy},
    slots::Table,
};

use super::world::Endpoints;
use crate::clock;

const COUNT: usize = 10_000;
const ROUNDS: usize = 7;

/// One rebuild.
pub(super) struct Rebuild {
    pub(super) name: &'static str,
    pub(super) ms: f64,
    /// Whether it counts for the target.
    pub(super) counts: bool,
}

/// Every strategy, and the slot table after one weight has changed.
pub(super) fn measure() -> Result<Vec<Rebuild>> {
    let endpoints = Endpoints::new(COUNT);
    let listed = Listed { weights: &endpoints.weights, ids: &endpoints.ids, seed: 1 };
    let mut rebuilds = Vec::new();
    for (strategy, name) in Strategy::ALL {
        let took = clock::best(ROUNDS, || drop(black_box(strategy.build(listed))))?;
        rebuilds.push(Rebuild { name, ms: took.as_secs_f64() * 1e3, counts: !strategy.needs().hash });
    }
    let mut named: Vec<(u64, u32)> =
        endpoints.ids.iter().copied().zip(endpoints.weights.iter().copied()).collect();
    let table = Table::new(&named);
    named[COUNT / 2].1 += 30;
    let took = clock::best(ROUNDS, || drop(black_box(table.next(&named))))?;
    rebuilds.push(Rebuild { name: "kernel slots", ms: took.as_secs_f64() * 1e3, counts: true });
    Ok(rebuilds)
}
