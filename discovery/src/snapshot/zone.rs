// SPDX-License-Identifier: Apache-2.0
//! A snapshot as all clients in one zone see it, and what it has that the snapshots before it had not.
//!
//! What must always be true: what is kept here is for speed alone, and bounded: [`ZONES`] zones of a snapshot, [`BEHIND`]
//! snapshots that clients come from. Clients of a further one find for themselves what they are told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Snapshot;
use super::news::News;

/// More than a cluster has, mostly. A client says itself in which zone it is, so there has to be a bound.
const ZONES: usize = 64;
/// More than there are snapshots within the time that clients need to go over to one, mostly.
const BEHIND: usize = 8;

/// A snapshot as clients in one zone see it.
#[derive(Debug)]
pub(super) struct ZoneView {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) zone: Arc<str>,
    /// By the revision that clients come from.
    news: Mutex<Vec<(u64, Arc<News>)>>,
}

/// The zones from which a snapshot is looked at.
#[derive(Debug, Default)]
pub(super) struct ZoneViews(Mutex<Vec<(Arc<str>, Weak<ZoneView>)>>);

// === impl ZoneView ===

impl ZoneView {
    /// The one of this zone that others have, or a new one.
    pub(super) fn of(snapshot: Arc<Snapshot>, zone: &Arc<str>) -> Arc<Self> {
        let mut known = lock(&snapshot.zone_views.0);
        // Those who come from an earlier view have the very same text.
        let place = known.iter().position(|(known, _)| Arc::ptr_eq(known, zone) || known == zone);
        if let Some(found) = place.and_then(|place| known[place].1.upgrade()) {
            return found;
        }
        let new = |snapshot| Arc::new(Self { snapshot, zone: zone.clone(), news: Mutex::default() });
        let view = new(snapshot.clone());
        match place {
            Some(place) => known[place].1 = Arc::downgrade(&view),
            None if known.len() < ZONES => known.push((zone.clone(), Arc::downgrade(&view))),
            None => {}
        }
        view
    }

    /// What clients are told that come from `old`. `None`: too much to name, or they were in another zone.
    pub(super) fn since(&self, old: &Self) -> Option<Arc<News>> {
        if !Arc::ptr_eq(&self.zone, &old.zone) && self.zone != old.zone {
            return None;
        }
        let revision = old.snapshot.revision();
        let mut known = lock(&self.news);
        if let Some((_, news)) = known.iter().find(|(known, _)| *known == revision) {
            return Some(news.clone());
        }
        let news = Arc::new(News::of(self.snapshot.changed_since(revision)?));
        if known.len() < BEHIND {
            known.push((revision, news.clone()));
        }
        Some(news)
    }
}

/// A panic cannot leave these lists half written, so poisoning means nothing here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(number: usize) -> Arc<str> {
        format!("zone-{number}").into()
    }

    #[test]
    fn clients_in_one_zone_share_a_view_for_as_long_as_one_of_them_has_it() {
        let snapshot = Arc::<Snapshot>::default();
        let first = ZoneView::of(snapshot.clone(), &zone(1));
        assert!(Arc::ptr_eq(&first, &ZoneView::of(snapshot.clone(), &zone(1))));
        assert!(!Arc::ptr_eq(&first, &ZoneView::of(snapshot.clone(), &zone(2))));
        drop(first);
        assert_eq!(Arc::strong_count(&snapshot), 1, "a snapshot is not kept by its views");
        ZoneView::of(snapshot.clone(), &zone(1));
        assert_eq!(lock(&snapshot.zone_views.0).len(), 2);
    }

    #[test]
    fn any_number_of_zones_is_served_and_a_few_are_kept() {
        let snapshot = Arc::<Snapshot>::default();
        let views: Vec<_> =
            (0..2 * ZONES).map(|number| ZoneView::of(snapshot.clone(), &zone(number))).collect();
        assert!(views.iter().enumerate().all(|(number, view)| view.zone == zone(number)));
        assert_eq!(lock(&snapshot.zone_views.0).len(), ZONES);
    }

    #[test]
    fn those_who_come_from_the_same_snapshot_and_zone_have_the_same_news() {
        let snapshot = Arc::<Snapshot>::default();
        let view = |number| ZoneView::of(snapshot.clone(), &zone(number));
        let news = view(1).since(&view(1));
        assert!(news.is_some());
        assert!(view(1).since(&view(2)).is_none(), "in another zone all may be different");
        let view = view(1);
        let (one, other) = (view.since(&view).unwrap(), view.since(&view).unwrap());
        assert!(Arc::ptr_eq(&one, &other));
    }
}
