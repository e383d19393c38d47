// SPDX-License-Identifier: Apache-2.0
//! Slot tables for the kernel: alias tables over stable ids that change little from one version to the next.
//!
//! Sources: Walker's alias method, built by Vose's elimination (IEEE TSE 1991) as in [`crate::alias`]; here in whole
//! units, so that the columns add up to each endpoint's share without a rounding per column. Each endpoint owns one
//! column, in which it holds `threshold` of 65 536 units and one other endpoint, the alias, the rest. The aliases
//! form a tree. A new version replays the old elimination: an endpoint keeps its position, its alias, and, where its
//! share is still right, its units; only what does not come out even is eliminated anew. Used-up columns queue behind
//! the others, so that the tree is shallow.
//!
//! Always true:
//! * exact: an endpoint's share is within 1/65 536 of the whole and within 1/64 of itself (and a unit, 1 / (65 536 ×
//!   columns), for rounding); a first version is within a unit; weight zero is never drawn unless all weights are
//!   zero; any other is;
//! * an endpoint moves to another position only when the table has become too short for its own, at most one for each
//!   that left;
//! * nothing changes when the shares do not, whatever the order of the list;
//! * equal weights: each endpoint that comes adds a column, each that goes changes one at most;
//! * else what changes are columns that name an endpoint that left, those on the way from an endpoint whose share
//!   changed to the root of its tree (about log n), and of those near to these as many as it takes to give or take
//!   what changed at 1/64 each: about 64 for a mean share. It does not grow with n (measured in the tests).
//!
//! Shares are kept within the tolerance on purpose: when one weight of a thousand changes, all shares do, by a
//! thousandth, and exactness would rewrite every column. The tolerance does not add up: it is taken from the exact
//! share each time.
//!
//! A version costs O(n log n) and is built off the hot path. It fails where most weights change at once, as with
//! fresh load reports: then most columns change, and nothing is won over [`crate::alias::table`].
//!
//! Deliberately not here: indices of backends and the maps ([`Column`] names ids), and the draw, which is the kernel's.

mod build;
mod shares;

use std::collections::BTreeMap;

pub use crate::alias::WHOLE;

/// One column: `threshold` of [`WHOLE`] units are `own`'s, the rest `alias`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    /// Id of the endpoint that the column belongs to.
    pub own: u64,
    /// Id of the other endpoint; `own` when there is none.
    pub alias: u64,
    /// 0 to 65 536.
    pub threshold: u32,
}

/// An alias table of one column per endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    columns: Vec<Column>,
}

impl Table {
    /// The first version for endpoints (id, weight). Of endpoints with one id only the first listed counts.
    #[must_use]
    pub fn new(endpoints: &[(u64, u32)]) -> Self {
        Self::default().next(endpoints)
    }

    /// The version that follows this one.
    #[must_use]
    pub fn next(&self, endpoints: &[(u64, u32)]) -> Self {
        let places = self.place(endpoints);
        let weights: Vec<u32> = places.iter().map(|(_, weight)| *weight).collect();
        let before = self.as_seen_from(&places);
        let columns = build::eliminate(shares::wanted(&weights, &before), &before.alias);
        let named = columns.iter().zip(&places).map(|((threshold, alias), (own, _))| Column {
            own: *own,
            alias: places[*alias].0,
            threshold: *threshold,
        });
        Self { columns: named.collect() }
    }

    /// The columns, in the order of the kernel's slots.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// What each endpoint holds in all columns together, by id. The sum is [`WHOLE`] for each column.
    #[must_use]
    pub fn units(&self) -> BTreeMap<u64, u64> {
        let units = self.held(&self.owners());
        self.columns.iter().map(|column| column.own).zip(units).collect()
    }

    /// How many positions of this table say something else than in `before`, or were not there.
    #[must_use]
    pub fn changed(&self, before: &Self) -> usize {
        self.columns.iter().enumerate().filter(|(at, column)| before.columns.get(*at) != Some(column)).count()
    }

    fn owners(&self) -> Ids {
        Ids::new(self.columns.iter().map(|column| column.own))
    }

    /// What each owner holds in all columns together, by position. Every alias is an owner too.
    fn held(&self, owners: &Ids) -> Vec<u64> {
        let mut units: Vec<u64> = self.columns.iter().map(|column| u64::from(column.threshold)).collect();
        for column in self.columns.iter().filter(|column| column.threshold < WHOLE) {
            owners
                .find(column.alias)
                .into_iter()
                .for_each(|at| units[at] += u64::from(WHOLE - column.threshold));
        }
        units
    }

    /// This table by the positions of the next one.
    fn as_seen_from(&self, places: &[(u64, u32)]) -> Before {
        let (at, owners) = (Ids::new(places.iter().map(|(id, _)| *id)), self.owners());
        let units = self.held(&owners);
        let mut before = Before {
            units: places.iter().map(|(id, _)| owners.find(*id).map(|old| units[old])).collect(),
            alias: vec![None; places.len()],
            loose: vec![false; places.len()],
        };
        for column in self.columns.iter().filter(|column| column.threshold < WHOLE) {
            match (at.find(column.own), at.find(column.alias)) {
                (Some(own), Some(alias)) => before.alias[own] = Some(alias),
                (Some(left), None) | (None, Some(left)) => before.loose[left] = true,
                (None, None) => {}
            }
        }
        before
    }

    /// Endpoints in the order of their columns: who was there stays where it was, as far as the table reaches; the
    /// rest fills the holes and the end, those who were there first.
    fn place(&self, endpoints: &[(u64, u32)]) -> Vec<(u64, u32)> {
        let listed = Ids::new(endpoints.iter().map(|(id, _)| *id));
        let old: Vec<Option<usize>> = self.columns.iter().map(|column| listed.find(column.own)).collect();
        let mut is_old = vec![false; endpoints.len()];
        old.iter().flatten().for_each(|i| is_old[*i] = true);
        let moved = old.iter().skip(listed.0.len()).flatten().copied();
        let new = listed.0.iter().map(|(_, i)| *i).filter(|i| !is_old[*i]);
        let mut rest = moved.chain(new);
        let place = |at: usize| old.get(at).copied().flatten().or_else(|| rest.next());
        (0..listed.0.len()).filter_map(place).map(|i| endpoints[i]).collect()
    }
}

/// Where each id is listed first, by ascending id.
struct Ids(Vec<(u64, usize)>);

impl Ids {
    fn new(ids: impl Iterator<Item = u64>) -> Self {
        let mut positions: Vec<(u64, usize)> = ids.zip(0..).collect();
        positions.sort_unstable();
        positions.dedup_by_key(|(id, _)| *id);
        Self(positions)
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.0.binary_search_by_key(&id, |(id, _)| *id).ok().map(|found| self.0[found].1)
    }
}

/// The version before, by the positions of the next one.
struct Before {
    /// What the endpoint held; `None` if it was not there.
    units: Vec<Option<u64>>,
    /// Its alias. These form a forest, because the alias was always eliminated after the endpoint.
    alias: Vec<Option<usize>>,
    /// It shared a column with an endpoint that left.
    loose: Vec<bool>,
}

#[cfg(test)]
mod tests;
