// SPDX-License-Identifier: Apache-2.0
//! Labels of Pods, and which Services want to know them.
//!
//! What must always be true: a Pod's change touches the Services that ask for subsets and have the Pod as an endpoint,
//! and no others. Pods are kept by namespace, because that is how they are watched and looked up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::source::{ObjectKey, PodLabels};
use crate::strings::Strings;

/// A Pod's labels. A list, because there are few.
type Labels = Box<[(Arc<str>, Arc<str>)]>;

/// The labels of all Pods that were told.
#[derive(Debug, Default)]
pub(super) struct Pods {
    /// By namespace, then by name.
    labels: HashMap<String, HashMap<String, Labels>>,
    /// Services that ask for subsets, by namespace.
    wanted: BTreeMap<String, BTreeSet<ObjectKey>>,
}

// === impl Pods ===

impl Pods {
    /// A Pod has these labels. Returns whether that is news.
    pub(super) fn apply(&mut self, pod: &PodLabels, strings: &mut Strings) -> bool {
        let labels: Labels =
            pod.labels.iter().map(|(key, value)| (strings.share(key), strings.share(value))).collect();
        let namespace = self.labels.entry(pod.key.namespace.clone()).or_default();
        if namespace.get(&pod.key.name) == Some(&labels) {
            return false;
        }
        namespace.insert(pod.key.name.clone(), labels);
        true
    }

    /// A Pod is gone. Returns whether it was there.
    pub(super) fn remove(&mut self, key: &ObjectKey) -> bool {
        let Some(namespace) = self.labels.get_mut(&key.namespace) else { return false };
        let was_there = namespace.remove(&key.name).is_some();
        if namespace.is_empty() {
            self.labels.remove(&key.namespace);
        }
        was_there
    }

    /// Whether a Service asks for subsets.
    pub(super) fn set_wanted(&mut self, service: &ObjectKey, wants: bool) {
        if wants {
            self.wanted.entry(service.namespace.clone()).or_default().insert(service.clone());
        } else if let Some(services) = self.wanted.get_mut(&service.namespace) {
            services.remove(service);
            if services.is_empty() {
                self.wanted.remove(&service.namespace);
            }
        }
    }

    /// Services of a namespace that ask for subsets.
    pub(super) fn asking(&self, namespace: &str) -> impl Iterator<Item = &ObjectKey> {
        self.wanted.get(namespace).into_iter().flatten()
    }

    /// A Pod's value of a label.
    pub(super) fn value(&self, namespace: &str, pod: &str, label: &str) -> Option<Arc<str>> {
        let labels = self.labels.get(namespace)?.get(pod)?;
        labels.iter().find(|(key, _)| **key == *label).map(|(_, value)| value.clone())
    }

    /// How many Pods are known.
    pub(super) fn len(&self) -> usize {
        self.labels.values().map(HashMap::len).sum()
    }
}
