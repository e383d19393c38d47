// SPDX-License-Identifier: Apache-2.0
//! What one client holds and what it answers. Pure: messages in, messages out.
//!
//! A client does what the agent does: it asks for all Services, and for the cluster of each that it has learned of; one
//! that wants only some asks for those by name, both types at once. Every response is acknowledged.

use std::mem;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::core::v3::{Locality, Node},
    service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
};
use evenkeel_xds::type_url::{CLUSTER_LOAD_ASSIGNMENT, SERVICE};

use super::wire::{self, Response};
use crate::discovery::{
    plan::Mode,
    world::{self, ZONES},
};

/// What a client is to ask for.
#[derive(Clone, Debug)]
pub(super) struct Wants {
    pub(super) mode: Mode,
    /// The number of Services that there are.
    pub(super) services: usize,
    /// `None`: all of them. Else so many, the first `changing` among them.
    pub(super) some: Option<usize>,
    pub(super) changing: usize,
}

/// One client's side of the conversation.
pub(super) struct Talk {
    mode: Mode,
    id: usize,
    /// By number; empty: all.
    asked: Vec<usize>,
    wanted: usize,
    services: Held,
    clusters: Held,
    /// Names in the order in which they were learned; a state-of-the-world request repeats all of them.
    named: Vec<usize>,
    introduced: bool,
}

/// Which of a type's resources have arrived.
#[derive(Default)]
struct Held {
    bits: Vec<u64>,
    count: usize,
}

impl Talk {
    pub(super) fn new(id: usize, wants: &Wants) -> Self {
        let asked = wants.some.map_or_else(Vec::new, |count| chosen(id, count, wants));
        let wanted = if wants.some.is_some() { asked.len() } else { wants.services };
        Self {
            mode: wants.mode,
            id,
            asked,
            wanted,
            services: Held::default(),
            clusters: Held::default(),
            named: Vec::new(),
            introduced: false,
        }
    }

    /// The first words.
    pub(super) fn open(&mut self) -> Vec<Bytes> {
        let names = self.service_names();
        let mut requests = vec![self.request(SERVICE, names, None)];
        if !self.asked.is_empty() {
            self.named.clone_from(&self.asked);
            let named = self.named.clone();
            requests.push(self.ask_for_clusters(&named, None));
        }
        requests
    }

    /// The answer to a response.
    pub(super) fn answer(&mut self, response: &Response<'_>) -> Result<Vec<Bytes>> {
        let services = response.type_url == SERVICE;
        let held = if services { &mut self.services } else { &mut self.clusters };
        let mut new = Vec::new();
        for (name, _) in &response.resources {
            let number = world::number(name).with_context(|| format!("a resource named {name:?}"))?;
            if held.insert(number) {
                new.push(number);
            }
        }
        if !services {
            return Ok(vec![self.acknowledge_clusters(response)]);
        }
        let names = if self.mode == Mode::Sotw { self.service_names() } else { Vec::new() };
        let mut requests = vec![self.request(SERVICE, names, Some(response))];
        if self.asked.is_empty() && !new.is_empty() {
            self.named.extend(&new);
            requests.push(self.ask_for_clusters(&new, None));
        }
        Ok(requests)
    }

    /// Whether everything that was asked for has arrived.
    pub(super) fn in_sync(&self) -> bool {
        self.services.count == self.wanted && self.clusters.count == self.wanted
    }

    fn service_names(&self) -> Vec<String> {
        self.asked.iter().map(|service| world::resource_name(*service)).collect()
    }

    fn acknowledge_clusters(&mut self, response: &Response<'_>) -> Bytes {
        match self.mode {
            Mode::Delta => self.request(CLUSTER_LOAD_ASSIGNMENT, Vec::new(), Some(response)),
            Mode::Sotw => self.ask_for_clusters(&[], Some(response)),
        }
    }

    fn ask_for_clusters(&mut self, new: &[usize], answered: Option<&Response<'_>>) -> Bytes {
        let list = if self.mode == Mode::Sotw { &self.named } else { new };
        let names = list.iter().map(|service| world::cluster_name(*service)).collect();
        self.request(CLUSTER_LOAD_ASSIGNMENT, names, answered)
    }

    fn request(&mut self, type_url: &str, names: Vec<String>, answered: Option<&Response<'_>>) -> Bytes {
        let node = (!mem::replace(&mut self.introduced, true)).then(|| self.node());
        let response_nonce = answered.map_or_else(String::new, |response| response.nonce.to_owned());
        let type_url = type_url.to_owned();
        match self.mode {
            Mode::Delta => wire::frame(&DeltaDiscoveryRequest {
                node,
                type_url,
                resource_names_subscribe: names,
                response_nonce,
                ..Default::default()
            }),
            Mode::Sotw => wire::frame(&DiscoveryRequest {
                node,
                type_url,
                resource_names: names,
                response_nonce,
                version_info: answered.map_or_else(String::new, |response| response.version.to_owned()),
                ..Default::default()
            }),
        }
    }

    fn node(&self) -> Node {
        let zone = ZONES[self.id % ZONES.len()].to_owned();
        Node {
            id: format!("bench-{}", self.id),
            user_agent_name: "evenkeel-bench".to_owned(),
            locality: Some(Locality { zone, ..Default::default() }),
            ..Default::default()
        }
    }
}

/// The Services that change, and others: a different set for each client, spread over all.
fn chosen(id: usize, count: usize, wants: &Wants) -> Vec<usize> {
    let count = count.min(wants.services);
    let changing = wants.changing.min(count);
    let others = wants.services - changing;
    let mut chosen: Vec<usize> = (0..changing).collect();
    chosen.extend(
        (0..count - changing)
            .map(|at| changing + (id * 7_919 + at * others / (count - changing).max(1)) % others),
    );
    chosen
}

impl Held {
    /// Whether it is new.
    fn insert(&mut self, number: usize) -> bool {
        let (word, bit) = (number / 64, 1u64 << (number % 64));
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        self.count += usize::from(new);
        new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;

    fn wants(mode: Mode, some: Option<usize>) -> Wants {
        Wants { mode, services: 200, some, changing: 20 }
    }

    fn response<'a>(type_url: &'a str, names: &[&'a str]) -> Response<'a> {
        let resources = names.iter().map(|name| (name.as_bytes(), &[][..])).collect();
        Response { type_url, nonce: "n", version: "v", resources }
    }

    #[test]
    fn chosen_services_are_different_ones_and_those_that_change_are_among_them() {
        let sets: Vec<Vec<usize>> = (0..50).map(|id| chosen(id, 50, &wants(Mode::Delta, Some(50)))).collect();
        for set in &sets {
            assert_eq!(set.iter().collect::<BTreeSet<_>>().len(), 50);
            assert!((0..20).all(|changing| set.contains(&changing)) && set.iter().all(|s| *s < 200));
        }
        assert!(sets.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_client_asks_for_the_clusters_of_the_services_that_it_learns_of() {
        let mut talk = Talk::new(0, &wants(Mode::Delta, None));
        assert_eq!(talk.open().len(), 1);
        let answers = talk.answer(&response(SERVICE, &["ns-0/svc-3", "ns-0/svc-4"])).unwrap();
        let asked = DeltaDiscoveryRequest::decode(&answers[1][5..]).unwrap();
        assert_eq!(asked.resource_names_subscribe, [world::cluster_name(3), world::cluster_name(4)]);
        assert_eq!(talk.answer(&response(SERVICE, &["ns-0/svc-3"])).unwrap().len(), 1);
    }

    #[test]
    fn a_state_of_the_world_client_repeats_all_names_and_the_version() {
        let mut talk = Talk::new(0, &wants(Mode::Sotw, Some(20)));
        let opening = talk.open();
        let first = DiscoveryRequest::decode(&opening[1][5..]).unwrap();
        let answers =
            talk.answer(&response(CLUSTER_LOAD_ASSIGNMENT, &["svc-1.ns-0.svc.cluster.local:80"])).unwrap();
        let again = DiscoveryRequest::decode(&answers[0][5..]).unwrap();
        assert_eq!(again.resource_names, first.resource_names);
        assert_eq!((again.resource_names.len(), again.version_info.as_str()), (20, "v"));
    }

    #[test]
    fn in_sync_means_everything_has_arrived_once() {
        let mut talk = Talk::new(0, &Wants { mode: Mode::Delta, services: 1, some: None, changing: 1 });
        talk.open();
        talk.answer(&response(SERVICE, &["ns-0/svc-0"])).unwrap();
        assert!(!talk.in_sync());
        talk.answer(&response(CLUSTER_LOAD_ASSIGNMENT, &["svc-0.ns-0.svc.cluster.local:80"])).unwrap();
        assert!(talk.in_sync());
    }
}
