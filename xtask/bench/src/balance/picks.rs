// SPDX-License-Identifier: Apache-2.0
//! Time and allocations per pick. The time is that of pick and bookkeeping in the view ([`World::send`]), a few
//! nanoseconds.

use std::hint::black_box;

use anyhow::{Context as _, Result};
use evenkeel_balance::{
    picker::{Endpoints as Listed, Strategy},
    rng::SplitMix64,
};

use super::{
    ENDPOINTS,
    world::{Endpoints, World},
};
use crate::{alloc, clock};

/// Picks in a round, and rounds. Many short ones: on a busy machine some then pass undisturbed.
const PICKS: u32 = 50_000;
const ROUNDS: usize = 40;

/// One strategy at one size.
pub(super) struct Pick {
    pub(super) strategy: Strategy,
    pub(super) endpoints: usize,
    pub(super) ns: f64,
    pub(super) allocations: f64,
}

/// Every strategy at every size.
pub(super) fn measure() -> Result<Vec<Pick>> {
    let sizes = |strategy| ENDPOINTS.map(|endpoints| (strategy, endpoints));
    Strategy::ALL.iter().flat_map(|(s, _)| sizes(*s)).map(|(s, endpoints)| one(s, endpoints)).collect()
}

fn one(strategy: Strategy, count: usize) -> Result<Pick> {
    let endpoints = Endpoints::new(count);
    let listed = Listed { weights: &endpoints.weights, ids: &endpoints.ids, seed: 1 };
    let (picker, mut world, mut rng) = (strategy.build(listed), World::new(count), SplitMix64::new(2));
    let mut nobody = 0;
    let mut round = || {
        for _ in 0..PICKS {
            match picker.pick(black_box(&world), &mut rng) {
                Some(picked) => world.send(picked),
                None => nobody += 1,
            }
        }
    };
    // Until loads are those of this picker.
    round();
    let before = alloc::asked();
    let took = clock::best(ROUNDS, &mut round)?;
    let allocations = (alloc::asked() - before) as f64 / (f64::from(PICKS) * ROUNDS as f64);
    let picked = (nobody == 0).then_some(());
    picked.with_context(|| format!("{} picked nobody although all are available", strategy.name()))?;
    Ok(Pick { strategy, endpoints: count, ns: took.as_nanos() as f64 / f64::from(PICKS), allocations })
}
