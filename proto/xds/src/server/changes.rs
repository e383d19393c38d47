// SPDX-License-Identifier: Apache-2.0
//! What is different between two views.
//!
//! Thousands of clients are told of one change, and all of them ask the same of it. So what is different about a name
//! is a question to whoever names the changes, who can keep the answer; by itself it is found anew by looking at both views.
//!
//! What must always be true: a difference is what looking at both views would say.
//! Deliberately not here: whom it concerns, see `subscription`.

use std::sync::Arc;

use super::ResourceSource;
use crate::{resource::EncodedResource, version::Version};

/// What is different between two views. Naming what has not changed costs time and nothing else.
pub trait Changes<S: ResourceSource> {
    /// Names of this type that changed, appeared or went.
    fn names(&self, type_url: &str) -> &[Arc<str>];

    /// What is different about the name at this place among them; `None`: nothing.
    fn difference(&self, type_url: &str, place: usize, old: &S, new: &S) -> Option<Difference> {
        let name = self.names(type_url).get(place)?;
        Difference::between(old.get(type_url, name).as_ref(), new.get(type_url, name))
    }
}

/// What is under a name in two views, where that is not the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    pub(super) old: Option<Version>,
    pub(super) new: Option<EncodedResource>,
}

impl Difference {
    /// `None`: there is none.
    pub fn between(old: Option<&EncodedResource>, new: Option<EncodedResource>) -> Option<Self> {
        let old = old.map(EncodedResource::version);
        (old != new.as_ref().map(EncodedResource::version)).then_some(Self { old, new })
    }
}

/// A few types by hand.
impl<S: ResourceSource, const N: usize> Changes<S> for [(&str, &[Arc<str>]); N] {
    fn names(&self, type_url: &str) -> &[Arc<str>] {
        self.iter().find(|(known, _)| *known == type_url).map_or(&[], |(_, names)| names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::type_url::CLUSTER;

    #[test]
    fn there_is_a_difference_if_the_content_is_not_the_same() {
        let of = |content: &'static str| EncodedResource::new(CLUSTER, "web", content);
        assert_eq!(Difference::between(None, None), None);
        assert_eq!(Difference::between(Some(&of("1")), Some(of("1"))), None);
        for (old, new) in [(None, Some(of("1"))), (Some(of("1")), None), (Some(of("1")), Some(of("2")))] {
            let version = old.as_ref().map(EncodedResource::version);
            let difference = Difference::between(old.as_ref(), new.clone()).unwrap();
            assert_eq!((difference.old, difference.new), (version, new));
        }
    }
}
