// SPDX-License-Identifier: Apache-2.0
//! Lists of names that many clients have in common, each held once.
//!
//! Agents subscribe to the same names in the same steps, because what they are told of comes in the same pieces. So each
//! step finds the list that the first of them has made.
//!
//! What must always be true: a list is found by its fingerprint and then compared name by name, because a client can
//! choose names of which the fingerprints add up to another list's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::List;

/// Entries below which no dead ones are looked for.
const FEW: usize = 64;

/// The lists of names that sessions hold in common. A clone is another handle to the same pool. It keeps nothing alive:
/// a list goes with the last session that holds it.
#[derive(Debug, Clone, Default)]
pub struct NamePool(Arc<Mutex<Lists>>);

#[derive(Debug, Default)]
struct Lists {
    /// By fingerprint.
    known: HashMap<u128, Weak<List>>,
    /// Number of entries at which the dead ones are removed.
    sweep_at: usize,
}

impl NamePool {
    /// The list that has this fingerprint, if one is in use. Whether it has the same names is for the caller to see.
    pub(super) fn find(&self, fingerprint: u128) -> Option<Arc<List>> {
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.known.get(&fingerprint)?.upgrade()
    }

    /// Makes a list known to others. It takes the place of one with the same fingerprint, so that a list that was made
    /// to look like another keeps others from sharing for as long as it takes to build the other once more.
    pub(super) fn publish(&self, list: &Arc<List>) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.known.len() >= lists.sweep_at.max(FEW) {
            lists.sweep();
        }
        lists.known.insert(list.fingerprint, Arc::downgrade(list));
    }
}

impl Lists {
    /// Removes dead entries. At least as many have to be added until the next time as are looked at now.
    fn sweep(&mut self) {
        self.known.retain(|_, list| list.strong_count() > 0);
        self.sweep_at = 2 * self.known.len();
        self.known.shrink_to(self.sweep_at.max(FEW));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(number: usize) -> Arc<List> {
        let names = [Arc::from(format!("{number}"))].into();
        Arc::new(List::new(names, number as u128))
    }

    #[test]
    fn a_list_is_known_while_somebody_holds_it() {
        let pool = NamePool::default();
        let held = list(1);
        pool.publish(&held);
        assert!(Arc::ptr_eq(&pool.clone().find(1).unwrap(), &held));
        drop(held);
        assert!(pool.find(1).is_none());
    }

    #[test]
    fn the_dead_do_not_pile_up() {
        let pool = NamePool::default();
        let held: Vec<_> = (0..500).map(list).collect();
        held.iter().for_each(|list| pool.publish(list));
        (500..100_000).for_each(|number| pool.publish(&list(number)));
        assert!((0..500).all(|number| pool.find(number as u128).is_some()));
        let known = pool.0.lock().unwrap().known.len();
        assert!(known <= 2 * 500, "{known} entries for 500 lists");
    }
}
