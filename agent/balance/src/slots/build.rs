// SPDX-License-Identifier: Apache-2.0
//! Elimination: from units to columns, along the old aliases as far as they still fit.
//!
//! Each step takes one endpoint out: its own units go into its column, an alias fills it up. It keeps two things
//! true, from which the rest follows: nobody owes units, and those left hold [`WHOLE`] each on average. So whoever
//! holds less than a column finds somebody with more, until all hold exactly one.

use std::collections::VecDeque;

use super::WHOLE;

/// Threshold and alias of each column, by positions.
pub(super) type Columns = Vec<(u32, usize)>;

/// Columns in which each endpoint holds `units`, which sum to [`WHOLE`] for each. `before`: its alias in the version
/// before; these form a forest.
pub(super) fn eliminate(units: Vec<u64>, before: &[Option<usize>]) -> Columns {
    let mut left = Left { columns: vec![None; units.len()], units };
    replay(&mut left, before);
    fill(&mut left, before);
    // Who is not done holds exactly one column.
    left.columns.into_iter().enumerate().map(|(at, column)| column.unwrap_or((WHOLE, at))).collect()
}

/// Who is not done yet, with what it still holds.
struct Left {
    units: Vec<u64>,
    columns: Vec<Option<(u32, usize)>>,
}

impl Left {
    fn missing(&self, at: usize) -> Option<u64> {
        u64::from(WHOLE).checked_sub(self.units[at])
    }

    fn can_give(&self, at: usize, units: u64) -> bool {
        self.columns[at].is_none() && self.units[at] >= units
    }

    /// Takes `at` out; `alias` fills its column up.
    fn close(&mut self, at: usize, alias: usize, missing: u64) {
        self.units[alias] -= missing;
        self.columns[at] = Some((self.units[at] as u32, alias));
    }
}

/// Follows the old aliases, leaves first. Who cannot be done the old way is left.
fn replay(left: &mut Left, before: &[Option<usize>]) {
    let mut children = vec![0usize; before.len()];
    before.iter().flatten().for_each(|alias| children[*alias] += 1);
    let mut ready: VecDeque<usize> = (0..before.len()).filter(|at| children[*at] == 0).collect();
    while let Some(at) = ready.pop_front() {
        let Some(alias) = before[at] else { continue };
        children[alias] -= 1;
        if children[alias] == 0 {
            ready.push_back(alias);
        }
        if let Some(missing) = left.missing(at).filter(|m| *m > 0 && left.can_give(alias, *m)) {
            left.close(at, alias, missing);
        }
    }
}

/// Vose's elimination of those left. Who has given so much that it needs some itself queues at the end: those who
/// give first are then far from the root, and the ways there short.
fn fill(left: &mut Left, before: &[Option<usize>]) {
    let whole = u64::from(WHOLE);
    let open = |left: &Left, at: &usize| left.columns[*at].is_none();
    let mut poor: VecDeque<usize> =
        (0..left.units.len()).filter(|at| open(left, at) && left.units[*at] < whole).collect();
    let mut rich: VecDeque<usize> =
        (0..left.units.len()).filter(|at| open(left, at) && left.units[*at] > whole).collect();
    while let Some(at) = poor.pop_front() {
        let missing = whole - left.units[at];
        let old = before[at].filter(|alias| left.units[*alias] > whole && left.can_give(*alias, missing));
        while rich.front().is_some_and(|at| left.units[*at] <= whole) {
            rich.pop_front();
        }
        // Somebody holds more than a column as long as somebody holds less.
        let Some(alias) = old.or_else(|| rich.front().copied()) else { break };
        left.close(at, alias, missing);
        if left.units[alias] < whole {
            poor.push_back(alias);
        }
    }
}
