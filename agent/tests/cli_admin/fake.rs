// SPDX-License-Identifier: Apache-2.0
//! An agent that is only facts: two Services, two pods, everything settable.

use std::{
    collections::HashMap,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use evenkeel_agent::{
    admin::facts::{
        ConnectionFacts, DiscoveryFacts, Facts, Identity, KernelFacts, PodFacts, Pressure, Publications,
        Readiness, RequestPathFacts, Requests,
    },
    store::{
        Application, Balance, Batch, ClusterSpec, EndpointLoad, EndpointSpec, Outcome, Port, Protocol,
        ServiceName, ServiceSpec, Snapshot, Store, StoreWriter, ZonePolicy,
    },
};
use evenkeel_balance::priority::Health;

/// What a test may change while the agent "runs".
pub(crate) struct State {
    pub(crate) readiness: Readiness,
    pub(crate) kernel: KernelFacts,
    pub(crate) discovery: DiscoveryFacts,
    pub(crate) pods: Vec<PodFacts>,
    pub(crate) connections: Vec<ConnectionFacts>,
    pub(crate) sockets: HashMap<(SocketAddr, u8), u64>,
    pub(crate) backing_off: Option<Arc<EndpointLoad>>,
    pub(crate) faults: Vec<String>,
}

pub(crate) struct Fake {
    pub(crate) state: Mutex<State>,
    pub(crate) store: Store,
    pub(crate) writer: Mutex<StoreWriter>,
}

pub(crate) const READY: Readiness =
    Readiness { attached: true, snapshot: true, namespaces: true, heartbeat: true, draining: false };

impl Fake {
    /// An agent in the middle of its work.
    pub(crate) fn busy() -> Arc<Self> {
        let (store, mut writer) = Store::new(7);
        writer.apply(batch());
        let fake = Self { state: Mutex::new(state()), store, writer: Mutex::new(writer) };
        for (pod, in_flight, done, failed) in [(0, 6, 120, 0), (1, 3, 118, 0), (2, 0, 0, 2)] {
            fake.requests("echo", pod, in_flight, done, failed);
        }
        fake.state.lock().unwrap().backing_off = Some(fake.load("echo", 3));
        Arc::new(fake)
    }

    /// An agent that has just started and knows nothing.
    pub(crate) fn fresh() -> Arc<Self> {
        let (store, writer) = Store::new(7);
        let mut state = state();
        state.readiness = Readiness { attached: true, ..Readiness::default() };
        state.kernel.heartbeat_age = None;
        state.kernel.counters.clear();
        state.kernel.maps.clear();
        state.discovery = DiscoveryFacts {
            address: "http://172.30.0.250:18000".into(),
            source: "nothing yet",
            last_error: "cannot connect to http://172.30.0.250:18000: Connection refused (os error 111)"
                .into(),
            ..DiscoveryFacts::default()
        };
        state.pods.clear();
        state.connections.clear();
        state.sockets.clear();
        state.faults.clear();
        Arc::new(Self { state: Mutex::new(state), store, writer: Mutex::new(writer) })
    }

    fn load(&self, service: &str, endpoint: usize) -> Arc<EndpointLoad> {
        let snapshot = self.store.current();
        snapshot.services[&name("demo", service)].clusters[0].endpoints[endpoint].load.clone()
    }

    fn requests(&self, service: &str, endpoint: usize, in_flight: usize, done: usize, failed: usize) {
        let load = self.load(service, endpoint);
        (0..done).for_each(|_| load.begin().finish(Outcome::Success));
        (0..failed).for_each(|_| load.begin().finish(Outcome::Failure));
        (0..in_flight).for_each(|_| std::mem::forget(load.begin()));
    }
}

pub(crate) fn name(namespace: &str, name: &str) -> ServiceName {
    ServiceName { namespace: namespace.into(), name: name.into() }
}

fn port(service: &str, name: &str, number: u16, protocol: Protocol, application: Application) -> Port {
    let cluster = format!("{service}.demo.svc.cluster.local:{number}").into();
    Port { name: name.into(), number, protocol, application, cluster }
}

fn endpoint(address: &str, zone: &str, pod: &str, priority: u32, health: Health) -> EndpointSpec {
    EndpointSpec {
        address: address.parse().unwrap(),
        zone: zone.into(),
        node: format!("node-{}1", &zone[5..]).into(),
        pod: pod.into(),
        priority,
        weight: NonZeroU32::MIN,
        health,
    }
}

fn batch() -> Batch {
    use Health::{Draining, Healthy, Unhealthy};
    let echo = ServiceSpec {
        name: name("demo", "echo"),
        balance: Balance::Request,
        strategy: "least-request".into(),
        zone: ZonePolicy::Prefer,
        addresses: vec!["10.96.0.10".parse().unwrap(), "fd00::10".parse().unwrap()],
        ports: vec![
            port("echo", "grpc", 50051, Protocol::Tcp, Application::Http2),
            port("echo", "admin", 9000, Protocol::Tcp, Application::Opaque),
            port("echo", "any", 7000, Protocol::Tcp, Application::Unknown),
        ],
        faults: vec!["annotation evenkeel.io/retry is \"often\"; allowed: a list such as key=value".into()],
    };
    let dns = ServiceSpec {
        name: name("demo", "dns"),
        balance: Balance::Connection,
        strategy: "maglev".into(),
        zone: ZonePolicy::Ignore,
        addresses: vec!["10.96.0.53".parse().unwrap()],
        ports: vec![
            port("dns", "dns", 53, Protocol::Udp, Application::Unknown),
            port("dns", "metrics", 9153, Protocol::Tcp, Application::Unknown),
        ],
        faults: Vec::new(),
    };
    let away = ServiceSpec {
        name: name("prod", "echo"),
        balance: Balance::Connection,
        strategy: "least-request".into(),
        zone: ZonePolicy::Strict,
        addresses: vec!["10.96.0.20".parse().unwrap()],
        ports: vec![Port {
            cluster: "away".into(),
            ..port("echo", "", 80, Protocol::Tcp, Application::Unknown)
        }],
        faults: Vec::new(),
    };
    let echoes = vec![
        endpoint("10.244.1.2:8080", "zone-a", "echo-0", 0, Healthy),
        endpoint("10.244.2.2:8080", "zone-a", "echo-1", 0, Healthy),
        endpoint("10.244.2.3:8080", "zone-a", "echo-2", 0, Unhealthy),
        endpoint("10.244.3.2:8080", "zone-b", "echo-3", 1, Healthy),
        endpoint("10.244.3.3:8080", "zone-b", "echo-4", 1, Draining),
    ];
    let opaque = vec![endpoint("10.244.3.2:9000", "zone-b", "echo-3", 1, Healthy)];
    let resolver = vec![endpoint("10.244.1.9:9153", "zone-a", "dns-0", 0, Healthy)];
    Batch {
        services: vec![echo, dns, away],
        clusters: vec![
            ("echo.demo.svc.cluster.local:50051".into(), ClusterSpec { endpoints: echoes.clone() }),
            ("echo.demo.svc.cluster.local:7000".into(), ClusterSpec { endpoints: echoes }),
            ("echo.demo.svc.cluster.local:9000".into(), ClusterSpec { endpoints: opaque }),
            ("dns.demo.svc.cluster.local:9153".into(), ClusterSpec { endpoints: resolver }),
        ],
        ..Batch::default()
    }
}

fn state() -> State {
    State {
        readiness: READY,
        kernel: KernelFacts {
            pins: "/sys/fs/bpf/evenkeel".into(),
            cgroup: "/sys/fs/cgroup".into(),
            heartbeat_age: Some(Duration::from_millis(130)),
            stale_after: Duration::from_secs(2),
            stand_aside_after: Duration::from_secs(30),
            counters: vec![("balanced", 1200), ("handed_over", 340), ("no_listener", 0), ("released", 1180)],
            maps: vec![
                Pressure { map: "SERVICES", used: 12, capacity: 65_536 },
                Pressure { map: "PODS", used: 512, capacity: 1_024 },
            ],
            publications: Publications {
                revision: 1,
                count: 4,
                total: Duration::from_millis(20),
                last: Duration::from_millis(5),
                failed_operations: 1,
            },
        },
        discovery: DiscoveryFacts {
            address: "http://172.30.0.250:18000".into(),
            connected: true,
            last_message: Duration::from_secs(65),
            streams_opened: 2,
            resources_rejected: 1,
            source: "discovery",
            last_error: "the stream ended".into(),
            failures: [("status", 1)].into(),
        },
        pods: vec![
            PodFacts { name: "cni-a".into(), listens_v4: true, listens_v6: true, fault: None },
            PodFacts {
                name: "cni-b".into(),
                listens_v4: true,
                listens_v6: false,
                fault: Some("cannot listen on [::1]: Cannot assign requested address (os error 99)".into()),
            },
        ],
        connections: vec![
            ConnectionFacts {
                pod: "cni-a".into(),
                service: "demo/echo".into(),
                client: "10.244.1.7:41000".into(),
                endpoint: String::new(),
                application: "http2",
                requests: 238,
                in_flight: 9,
                age: Duration::from_secs(75),
            },
            ConnectionFacts {
                pod: "cni-a".into(),
                service: "demo/echo".into(),
                client: "10.244.1.7:41002".into(),
                endpoint: "10.244.2.2:8080".into(),
                application: "spliced",
                requests: 1,
                in_flight: 0,
                age: Duration::from_secs(7_265),
            },
        ],
        sockets: [("10.244.3.2:9000", 6, 4), ("10.244.1.9:9153", 6, 2), ("10.244.1.2:8080", 6, 0)]
            .into_iter()
            .map(|(address, protocol, open)| ((address.parse().unwrap(), protocol), open))
            .collect(),
        backing_off: None,
        faults: vec!["cluster web.demo.svc.cluster.local:80: endpoint 2 has no port".into()],
    }
}

impl Facts for Fake {
    fn identity(&self) -> Identity {
        Identity {
            version: "0.1.0",
            node: "node-a1".into(),
            zone: "zone-a".into(),
            generation: 1_790_000_000_000_000_000,
            uptime: Duration::from_secs(3_725),
        }
    }

    fn readiness(&self) -> Readiness {
        self.state.lock().unwrap().readiness
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.store.current()
    }

    fn discovery(&self) -> DiscoveryFacts {
        self.state.lock().unwrap().discovery.clone()
    }

    fn kernel(&self) -> KernelFacts {
        self.state.lock().unwrap().kernel.clone()
    }

    fn request_path(&self) -> RequestPathFacts {
        RequestPathFacts {
            client_connections: 2,
            upstream_connections: 4,
            in_flight: 9,
            requests: 240,
            failures: 2,
        }
    }

    fn pods(&self) -> Vec<PodFacts> {
        self.state.lock().unwrap().pods.clone()
    }

    fn connections(&self) -> Vec<ConnectionFacts> {
        self.state.lock().unwrap().connections.clone()
    }

    fn open_sockets(&self) -> HashMap<(SocketAddr, u8), u64> {
        self.state.lock().unwrap().sockets.clone()
    }

    fn backing_off(&self, load: &EndpointLoad) -> bool {
        self.state.lock().unwrap().backing_off.as_ref().is_some_and(|own| std::ptr::eq(&**own, load))
    }

    fn service_requests(&self) -> Vec<(ServiceName, Requests)> {
        vec![(name("demo", "echo"), Requests { requests: 240, failures: 2 })]
    }

    fn faults(&self) -> Vec<String> {
        self.state.lock().unwrap().faults.clone()
    }
}
