// SPDX-License-Identifier: Apache-2.0
//! Joins what the watches tell into one stream of changes: when all have been read, whether the server is there, and in
//! which namespaces Pods are to be watched.
//!
//! What must always be true: [`Change::Synced`] comes once, after every object of the first lists; Pods never hold it up
//! for longer than it takes to learn that they cannot be read; a namespace has at most one watch of its Pods. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use parking_lot::Mutex;

use crate::options;
use crate::source::{Change, Event, ObjectKey};

/// The annotation by which a Service asks for subsets.
const SUBSET_LABEL: &str = "evenkeel.io/subset-label";

/// One watch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Feed {
    /// All objects of this resource.
    All(&'static str),
    /// The Pods of this namespace.
    Pods(Arc<str>),
}

/// What a watch tells.
#[derive(Debug)]
pub(super) enum Report {
    /// Something happened.
    Changes(Vec<Change>),
    /// Everything that exists has been told.
    Listed,
    /// Changes arrive as they happen.
    Up,
    /// They do not, for this reason.
    Down(String),
    /// The watch was stopped and has taken back what it told.
    Stopped,
}

/// A watch to start or to stop.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Watch the Pods of this namespace.
    Start(Arc<str>),
    /// No longer.
    Stop(Arc<str>),
}

/// UIDs of the Services that carry keys of ours: an Event has to name its object by UID to be shown with it.
#[derive(Clone, Debug, Default)]
pub struct ServiceUids(Arc<Mutex<HashMap<ObjectKey, String>>>);

/// What is known across all watches.
#[derive(Debug)]
pub(super) struct Gather {
    /// Watches whose first list is awaited.
    waiting: BTreeSet<Feed>,
    synced: bool,
    /// Whether each of the watches that matter for the link is up.
    up: BTreeMap<Feed, bool>,
    /// What was told last.
    connected: Option<bool>,
    /// Services that ask for subsets.
    asking: BTreeSet<ObjectKey>,
    /// Namespaces whose Pods are watched; `false`: being stopped.
    pods: BTreeMap<Arc<str>, bool>,
    uids: ServiceUids,
}

impl Gather {
    /// For these watches.
    pub(super) fn new(feeds: &[Feed], uids: ServiceUids) -> Self {
        Self {
            waiting: feeds.iter().cloned().collect(),
            synced: false,
            up: feeds.iter().map(|feed| (feed.clone(), false)).collect(),
            connected: None,
            asking: BTreeSet::new(),
            pods: BTreeMap::new(),
            uids,
        }
    }

    /// Takes a report: the changes to tell and what to start and stop.
    pub(super) fn take(&mut self, feed: Feed, report: Report) -> (Vec<Change>, Vec<Order>) {
        let mut changes = Vec::new();
        match report {
            Report::Changes(told) => {
                told.iter().for_each(|change| self.note(change));
                changes = told;
            }
            Report::Listed => drop(self.waiting.remove(&feed)),
            Report::Up => self.set_link(&feed, true, String::new(), &mut changes),
            Report::Down(reason) => {
                if matches!(feed, Feed::Pods(_)) {
                    self.waiting.remove(&feed);
                }
                self.set_link(&feed, false, reason, &mut changes);
            }
            Report::Stopped => {
                self.waiting.remove(&feed);
                if let Feed::Pods(namespace) = &feed {
                    self.pods.remove(namespace);
                }
            }
        }
        let orders = self.orders();
        if !self.synced && self.waiting.is_empty() {
            self.synced = true;
            changes.push(Change::Synced);
        }
        (changes, orders)
    }

    fn note(&mut self, change: &Change) {
        match change {
            Change::Service(Event::Applied(service)) => {
                let key = crate::objects::key_of(&service.metadata);
                self.uids.note(&key, service);
                if asks_for_subsets(service) {
                    self.asking.insert(key);
                } else {
                    self.asking.remove(&key);
                }
            }
            Change::Service(Event::Deleted(key)) => {
                self.uids.0.lock().remove(key);
                self.asking.remove(key);
            }
            _ => {}
        }
    }

    fn set_link(&mut self, feed: &Feed, up: bool, reason: String, changes: &mut Vec<Change>) {
        let Some(held) = self.up.get_mut(feed) else { return };
        *held = up;
        let connected = self.up.values().all(|up| *up);
        // Until all have been up once, only a failure is news.
        let news = if up { connected && self.connected != Some(true) } else { self.connected != Some(false) };
        if news {
            self.connected = Some(connected);
            changes.push(Change::Link { connected, reason });
        }
    }

    fn orders(&mut self) -> Vec<Order> {
        let wanted: BTreeSet<&str> = self.asking.iter().map(|key| key.namespace.as_str()).collect();
        let mut orders = Vec::new();
        for (namespace, running) in &mut self.pods {
            if *running && !wanted.contains(&**namespace) {
                *running = false;
                orders.push(Order::Stop(namespace.clone()));
            }
        }
        // One that is being stopped first has to take back what it told; then it is started anew.
        let missing: Vec<Arc<str>> = wanted
            .into_iter()
            .filter(|namespace| !self.pods.contains_key(*namespace))
            .map(Arc::from)
            .collect();
        for namespace in missing {
            self.pods.insert(namespace.clone(), true);
            if !self.synced {
                self.waiting.insert(Feed::Pods(namespace.clone()));
            }
            orders.push(Order::Start(namespace));
        }
        orders
    }
}

fn asks_for_subsets(service: &Service) -> bool {
    let has =
        |pairs: &Option<options::Pairs>, key| pairs.as_ref().is_some_and(|pairs| pairs.contains_key(key));
    has(&service.metadata.labels, options::BALANCE) && has(&service.metadata.annotations, SUBSET_LABEL)
}

// === impl ServiceUids ===

impl ServiceUids {
    /// The UID of a Service that carries keys of ours.
    pub fn get(&self, key: &ObjectKey) -> Option<String> {
        self.0.lock().get(key).cloned()
    }

    fn note(&self, key: &ObjectKey, service: &Service) {
        // Labels and annotations are reduced to ours by now.
        let ours = service.metadata.labels.is_some() || service.metadata.annotations.is_some();
        match service.metadata.uid.clone().filter(|uid| ours && !uid.is_empty()) {
            Some(uid) => self.0.lock().insert(key.clone(), uid),
            None => self.0.lock().remove(key),
        };
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    const SERVICES: Feed = Feed::All("services");
    const SLICES: Feed = Feed::All("endpointslices");

    fn gather() -> Gather {
        Gather::new(&[SERVICES, SLICES], ServiceUids::default())
    }

    fn service(name: &str, subsets: bool) -> Report {
        let pair = |key: &str| Some(options::Pairs::from([(key.to_owned(), "x".to_owned())]));
        let metadata = ObjectMeta {
            namespace: Some("demo".into()),
            name: Some(name.into()),
            uid: Some(format!("uid-{name}")),
            labels: pair(options::BALANCE),
            annotations: subsets.then(|| pair(SUBSET_LABEL)).flatten(),
            ..ObjectMeta::default()
        };
        let service = Service { metadata, ..Service::default() };
        Report::Changes(vec![Change::Service(Event::Applied(Box::new(service)))])
    }

    fn synced(changes: &[Change]) -> bool {
        changes.iter().any(|change| matches!(change, Change::Synced))
    }

    fn link(changes: &[Change]) -> Option<(bool, String)> {
        changes.iter().find_map(|change| match change {
            Change::Link { connected, reason } => Some((*connected, reason.clone())),
            _ => None,
        })
    }

    #[test]
    fn in_sync_once_when_every_list_is_complete() {
        let mut gather = gather();
        assert!(!synced(&gather.take(SERVICES, Report::Listed).0));
        assert!(!synced(&gather.take(SERVICES, Report::Listed).0));
        assert!(synced(&gather.take(SLICES, Report::Listed).0));
        assert!(!synced(&gather.take(SLICES, Report::Listed).0));
    }

    #[test]
    fn the_link_is_told_when_it_changes_and_needs_every_watch() {
        let mut gather = gather();
        assert_eq!(link(&gather.take(SERVICES, Report::Up).0), None);
        assert_eq!(link(&gather.take(SLICES, Report::Up).0), Some((true, String::new())));
        assert_eq!(
            link(&gather.take(SLICES, Report::Down("refused".into())).0),
            Some((false, "refused".into()))
        );
        assert_eq!(link(&gather.take(SERVICES, Report::Down("refused".into())).0), None);
        assert_eq!(link(&gather.take(SERVICES, Report::Up).0), None);
        assert_eq!(link(&gather.take(SLICES, Report::Up).0), Some((true, String::new())));
    }

    #[test]
    fn pods_are_watched_while_a_service_asks_and_the_first_sync_waits_for_them() {
        let mut gather = gather();
        let demo: Arc<str> = "demo".into();
        assert_eq!(gather.take(SERVICES, service("a", true)).1, [Order::Start(demo.clone())]);
        assert_eq!(gather.take(SERVICES, service("b", true)).1, []);
        gather.take(SERVICES, Report::Listed);
        assert!(!synced(&gather.take(SLICES, Report::Listed).0));
        assert!(synced(&gather.take(Feed::Pods(demo.clone()), Report::Listed).0));
        assert_eq!(gather.take(SERVICES, service("a", false)).1, []);
        assert_eq!(gather.take(SERVICES, service("b", false)).1, [Order::Stop(demo.clone())]);
        assert_eq!(gather.take(SERVICES, service("b", true)).1, [], "not before the old one is gone");
        assert_eq!(gather.take(Feed::Pods(demo.clone()), Report::Stopped).1, [Order::Start(demo)]);
    }

    #[test]
    fn pods_that_may_not_be_read_hold_up_nothing() {
        let mut gather = gather();
        gather.take(SERVICES, service("a", true));
        gather.take(SERVICES, Report::Listed);
        gather.take(SLICES, Report::Listed);
        let (changes, _) = gather.take(Feed::Pods("demo".into()), Report::Down("forbidden".into()));
        assert!(synced(&changes));
        assert_eq!(link(&changes), None);
    }

    #[test]
    fn uids_are_known_for_services_with_keys_of_ours() {
        let mut gather = gather();
        gather.take(SERVICES, service("a", false));
        let key = ObjectKey::new("demo", "a");
        assert_eq!(gather.uids.get(&key).as_deref(), Some("uid-a"));
        gather.take(SERVICES, Report::Changes(vec![Change::Service(Event::Deleted(key.clone()))]));
        assert_eq!(gather.uids.get(&key), None);
    }
}
