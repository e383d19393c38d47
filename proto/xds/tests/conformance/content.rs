// SPDX-License-Identifier: Apache-2.0
//! A source of a few resources: (type, name, content).

use std::collections::BTreeMap;

use evenkeel_xds::{EncodedResource, ResourceSource};

#[derive(Default, Clone)]
pub(crate) struct Content(BTreeMap<(&'static str, &'static str), &'static str>);

impl Content {
    pub(crate) fn of<const N: usize>(all: [(&'static str, &'static str, &'static str); N]) -> Self {
        Self(all.into_iter().map(|(t, n, c)| ((t, n), c)).collect())
    }

    pub(crate) fn put(&mut self, type_url: &'static str, name: &'static str, content: &'static str) {
        self.0.insert((type_url, name), content);
    }
}

impl ResourceSource for Content {
    fn get(&self, type_url: &str, name: &str) -> Option<EncodedResource> {
        let ((t, n), c) = self.0.iter().find(|((t, n), _)| *t == type_url && *n == name)?;
        Some(EncodedResource::new(t, *n, c))
    }

    fn for_each(&self, type_url: &str, visit: &mut dyn FnMut(&EncodedResource)) {
        for ((t, n), c) in &self.0 {
            if *t == type_url {
                visit(&EncodedResource::new(t, *n, c));
            }
        }
    }
}
