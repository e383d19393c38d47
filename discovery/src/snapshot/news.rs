// SPDX-License-Identifier: Apache-2.0
//! What one zone is told of a change, found once for all clients in it.
//!
//! After a change, thousands of clients go over from one snapshot to the next within milliseconds, and what is different
//! for one is different for all that are in its zone. Finding a name among ten thousand that begin alike, in both
//! snapshots and as a zone sees it, costs more than all else that is done for a client.
//!
//! What must always be true: what is said is what a look at both snapshots would say; what nobody asks for is not looked
//! at, and so not encoded.

use std::sync::{Arc, OnceLock};

use evenkeel_xds::server::{Changes, Difference};
use evenkeel_xds::{ResourceSource as _, type_url};

use super::changed::Names;
use super::client::ClientView;

/// What is different between two snapshots, for clients in one zone.
#[derive(Debug)]
pub struct News {
    names: Arc<Names>,
    /// By the type's place in the serving order, then by the name's place.
    found: [OnceLock<Box<[Found]>>; type_url::SERVING_ORDER.len()],
}

/// What is different about a name, once somebody has asked. `None` in it: nothing.
type Found = OnceLock<Option<Difference>>;

// === impl News ===

impl News {
    pub(super) fn of(names: Arc<Names>) -> Self {
        Self { names, found: Default::default() }
    }

    fn found(&self, type_url: &str, place: usize) -> Option<&Found> {
        let list = self.found.get(type_url::rank(type_url))?;
        list.get_or_init(|| self.names.of_type(type_url).iter().map(|_| Found::new()).collect()).get(place)
    }
}

impl Changes<ClientView> for News {
    fn names(&self, type_url: &str) -> &[Arc<str>] {
        self.names.of_type(type_url)
    }

    fn difference(
        &self,
        type_url: &str,
        place: usize,
        old: &ClientView,
        new: &ClientView,
    ) -> Option<Difference> {
        let look = || {
            let name = self.names.of_type(type_url).get(place)?;
            Difference::between(old.get(type_url, name).as_ref(), new.get(type_url, name))
        };
        self.found(type_url, place)?.get_or_init(look).clone()
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_xds::type_url::SERVING_ORDER;

    use super::*;
    use crate::snapshot::Snapshot;

    #[test]
    fn what_nobody_asks_for_is_not_looked_at() {
        let names = Names { endpoints: vec!["web".into()], ..Names::default() };
        let news = News::of(Arc::new(Names { frontends: vec!["web".into()], ..names }));
        let view = ClientView::new(Arc::<Snapshot>::default(), "".into(), None);
        assert_eq!(news.difference(type_url::CLUSTER_LOAD_ASSIGNMENT, 0, &view, &view), None);
        let looked_at = SERVING_ORDER.map(|of| news.found[type_url::rank(of)].get().is_some());
        assert_eq!(looked_at, SERVING_ORDER.map(|of| of == type_url::CLUSTER_LOAD_ASSIGNMENT));
        assert_eq!(news.difference(type_url::CLUSTER, 1, &view, &view), None, "there is no such place");
        assert_eq!(news.difference("type.googleapis.com/x", 0, &view, &view), None);
    }
}
