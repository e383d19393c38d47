// SPDX-License-Identifier: Apache-2.0
//! Endpoints that were just looked up in a snapshot.
//!
//! After a change, thousands of clients look up the same few names within milliseconds, in the old snapshot and in the new
//! one, and most of them are in one of a few zones. Finding a name among ten thousand that begin alike, and the variant for
//! a zone, costs twenty times what it costs to find it here.
//!
//! What must always be true: what is found is what would have been looked up; a snapshot never changes. It holds
//! [`PLACES`] resources at most.

use std::sync::{Arc, Mutex, PoisonError};

use evenkeel_xds::EncodedResource;

/// More than the names of a batch of changes times the zones, mostly.
const PLACES: usize = 64;

/// One per snapshot. A name and a zone have one place, which the last looked up has.
#[derive(Debug)]
pub(super) struct Hot(Box<[Mutex<Place>]>);

/// The zone, and the endpoints as it sees them.
type Place = Option<(Arc<str>, EncodedResource)>;

// === impl Hot ===

impl Default for Hot {
    fn default() -> Self {
        Self((0..PLACES).map(|_| Mutex::default()).collect())
    }
}

impl Hot {
    /// The endpoints under `name` as clients in `zone` see them.
    pub(super) fn get(
        &self,
        name: &str,
        zone: &Arc<str>,
        look_up: impl FnOnce() -> Option<EncodedResource>,
    ) -> Option<EncodedResource> {
        // A panic cannot leave a place half written, so poisoning means nothing here.
        let mut place = self.0[place(name, zone)].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, resource)) = &*place
            && **resource.name() == *name
            && **of == **zone
        {
            return Some(resource.clone());
        }
        let found = look_up()?;
        *place = Some((zone.clone(), found.clone()));
        Some(found)
    }
}

/// By the ends of both, because that is where names and zones differ. Any place will do; a bad one costs a look.
fn place(name: &str, zone: &str) -> usize {
    let mix = |hash: usize, byte: &u8| hash.wrapping_mul(31).wrapping_add(usize::from(*byte));
    let name = name.as_bytes().iter().take(24).fold(0, mix);
    zone.as_bytes().iter().rev().take(2).fold(name, mix) % PLACES
}

#[cfg(test)]
mod tests {
    use evenkeel_xds::type_url::CLUSTER_LOAD_ASSIGNMENT;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_looked_up_once_in_a_row() {
        let (hot, zone) = (Hot::default(), Arc::from("zone-a"));
        let web = EncodedResource::new(CLUSTER_LOAD_ASSIGNMENT, "web", "one");
        assert_eq!(hot.get("web", &zone, || None), None);
        assert_eq!(hot.get("web", &zone, || Some(web.clone())), Some(web.clone()));
        assert_eq!(hot.get("web", &zone, || panic!("it is there")), Some(web));
    }

    proptest! {
        #[test]
        fn it_says_what_a_look_would_have_said(looks in prop::collection::vec((0..40_u8, 0..4_u8), 1..300)) {
            let hot = Hot::default();
            for (name, zone) in looks {
                let zone: Arc<str> = format!("zone-{zone}").into();
                let name = format!("service-{name}");
                // Of every fifth there is nothing.
                let there = || (!name.ends_with('5')).then(|| {
                    EncodedResource::new(CLUSTER_LOAD_ASSIGNMENT, name.as_str(), format!("{name} for {zone}"))
                });
                prop_assert_eq!(hot.get(&name, &zone, there), there());
            }
        }
    }
}
