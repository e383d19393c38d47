// SPDX-License-Identifier: Apache-2.0
//! Requests by Service, never falling. An endpoint's counters go with the endpoint; the ledger keeps what it has added up.
//!
//! It holds on to the loads it looked at last, so that what an endpoint served between its last look and its removal is
//! added too. An endpoint that several Services list counts for each of them: its load does not know for whom it worked.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Weak},
};

use crate::{
    admin::facts::Requests,
    store::{EndpointLoad, ServiceName, Snapshot},
};

/// See the module.
#[derive(Default)]
pub(super) struct Ledger {
    services: BTreeMap<ServiceName, Account>,
}

#[derive(Default)]
struct Account {
    /// Added up from endpoints that are not listed any more.
    closed: Requests,
    open: HashMap<SocketAddr, Arc<EndpointLoad>>,
    /// Closed, but still alive (a request is in flight there): when they are listed again, they bring their counters back.
    lingering: HashMap<SocketAddr, (Weak<EndpointLoad>, Requests)>,
}

impl Ledger {
    /// Takes a snapshot into account: endpoints that it does not list are closed, new ones opened.
    pub(super) fn observe(&mut self, snapshot: &Snapshot) {
        self.services.retain(|name, _| snapshot.services.contains_key(name));
        for (name, service) in &snapshot.services {
            let account = self.services.entry(name.clone()).or_default();
            let endpoints = service.clusters.iter().flat_map(|cluster| &cluster.endpoints);
            let listed: HashMap<_, _> = endpoints.map(|e| (e.spec.address, e.load.clone())).collect();
            for (address, load) in std::mem::take(&mut account.open) {
                if !listed.get(&address).is_some_and(|listed| Arc::ptr_eq(listed, &load)) {
                    account.close(address, &load);
                }
            }
            account.reopen(&listed);
            account.open = listed;
        }
    }

    /// What each Service has served.
    pub(super) fn totals(&self) -> Vec<(ServiceName, Requests)> {
        let total = |account: &Account| {
            let mut requests = account.closed;
            account.open.values().for_each(|load| add(&mut requests, load));
            requests
        };
        self.services.iter().map(|(name, account)| (name.clone(), total(account))).collect()
    }
}

impl Account {
    fn close(&mut self, address: SocketAddr, load: &Arc<EndpointLoad>) {
        let mut served = Requests::default();
        add(&mut served, load);
        self.closed.requests += served.requests;
        self.closed.failures += served.failures;
        self.lingering.insert(address, (Arc::downgrade(load), served));
    }

    fn reopen(&mut self, listed: &HashMap<SocketAddr, Arc<EndpointLoad>>) {
        let Self { closed, lingering, .. } = self;
        lingering.retain(|address, (load, served)| {
            let back = listed.get(address).is_some_and(|listed| Weak::ptr_eq(load, &Arc::downgrade(listed)));
            if back {
                closed.requests -= served.requests;
                closed.failures -= served.failures;
            }
            !back && load.strong_count() > 0
        });
    }
}

fn add(requests: &mut Requests, load: &EndpointLoad) {
    requests.requests += load.requests();
    requests.failures += load.failures();
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use evenkeel_balance::priority::Health;

    use super::*;
    use crate::store::{
        Application, Balance, Batch, ClusterSpec, EndpointSpec, Outcome, Port, Protocol, ServiceSpec, Store,
        StoreWriter, ZonePolicy,
    };

    fn service() -> ServiceSpec {
        ServiceSpec {
            name: ServiceName { namespace: "demo".into(), name: "echo".into() },
            balance: Balance::Request,
            strategy: "least-request".into(),
            zone: ZonePolicy::Prefer,
            addresses: vec!["10.96.0.1".parse().unwrap()],
            ports: vec![Port {
                name: "".into(),
                number: 80,
                protocol: Protocol::Tcp,
                application: Application::Http2,
                cluster: "c".into(),
            }],
            faults: Vec::new(),
        }
    }

    fn list(writer: &mut StoreWriter, addresses: &[&str]) {
        let endpoint = |address: &&str| EndpointSpec {
            address: address.parse().unwrap(),
            zone: "".into(),
            node: "".into(),
            pod: "".into(),
            priority: 0,
            weight: NonZeroU32::MIN,
            health: Health::Healthy,
        };
        let endpoints = addresses.iter().map(endpoint).collect();
        let clusters = vec![("c".into(), ClusterSpec { endpoints })];
        writer.apply(Batch { services: vec![service()], clusters, ..Batch::default() });
    }

    #[test]
    fn a_service_keeps_the_requests_of_endpoints_that_are_gone() {
        let (store, mut writer) = Store::new(1);
        let mut ledger = Ledger::default();
        let total = |ledger: &Ledger| ledger.totals()[0].1;

        list(&mut writer, &["10.0.0.1:80", "10.0.0.2:80"]);
        ledger.observe(&store.current());
        let load = store.current().services[&service().name].clusters[0].endpoints[0].load.clone();
        load.begin().finish(Outcome::Success);
        assert_eq!(total(&ledger), Requests { requests: 1, failures: 0 });

        list(&mut writer, &["10.0.0.2:80"]);
        // Between the removal and the next look.
        load.begin().finish(Outcome::Failure);
        ledger.observe(&store.current());
        assert_eq!(total(&ledger), Requests { requests: 2, failures: 1 });

        list(&mut writer, &["10.0.0.1:80", "10.0.0.2:80"]);
        ledger.observe(&store.current());
        assert_eq!(total(&ledger), Requests { requests: 2, failures: 1 }, "it came back with what it had");
    }
}
