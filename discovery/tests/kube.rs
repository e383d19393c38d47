// SPDX-License-Identifier: Apache-2.0
//! The Kubernetes source against an API server that misbehaves. Tier 2: in process, real sockets.
//!
//! That nothing is told is shown by a later change: whatever had been told would have come before it.

mod fake;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evenkeel_discovery::app::App;
use evenkeel_discovery::config::{self, Config, Listen, Security};
use evenkeel_discovery::objects::key_of;
use evenkeel_discovery::source::kube::{KubeConfig, KubeSource, Timing};
use evenkeel_discovery::source::{Change, Event, Source};
use serde_json::json;
use tokio::time::timeout;

use fake::{Answer, Fake};

/// How long anything may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the source has told.
struct Told {
    source: KubeSource,
    objects: BTreeSet<String>,
    /// How often each object was told.
    counts: BTreeMap<String, usize>,
    faults: BTreeMap<String, String>,
    links: Vec<(bool, String)>,
    synced: usize,
}

impl Told {
    async fn by(fake: &Fake) -> Self {
        let timing = Timing {
            stall: Duration::from_secs(2),
            settle: Duration::from_millis(100),
            idle: Duration::from_millis(700),
            ..Timing::default()
        };
        let file = fake.kubeconfig();
        let config = KubeConfig { kubeconfig: Some(file.path().to_owned()), timing };
        let source = KubeSource::open(&config).await.unwrap();
        let (objects, counts, faults) = Default::default();
        Self { source, objects, counts, faults, links: Vec::new(), synced: 0 }
    }

    async fn synced(fake: &Fake) -> Self {
        let mut told = Self::by(fake).await;
        told.until(|told| told.synced == 1).await;
        told
    }

    async fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        let wait = async {
            while !condition(self) {
                let changes = self.source.next().await.unwrap();
                assert!(!changes.is_empty());
                changes.into_iter().for_each(|change| self.note(change));
            }
        };
        let late = timeout(DEADLINE, wait).await.is_err();
        assert!(!late, "{:#?}", (&self.objects, &self.faults, &self.links, self.synced));
    }

    fn note(&mut self, change: Change) {
        let (kind, name, there) = match change {
            Change::Service(Event::Applied(object)) => {
                ("service", key_of(&object.metadata).to_string(), true)
            }
            Change::Service(Event::Deleted(key)) => ("service", key.to_string(), false),
            Change::Slice(Event::Applied(object)) => ("slice", key_of(&object.metadata).to_string(), true),
            Change::Slice(Event::Deleted(key)) => ("slice", key.to_string(), false),
            Change::Node(Event::Applied(object)) => ("node", object.metadata.name.unwrap(), true),
            Change::Node(Event::Deleted(key)) => ("node", key.name, false),
            Change::Pod(Event::Applied(pod)) => ("pod", pod.key.to_string(), true),
            Change::Pod(Event::Deleted(key)) => ("pod", key.to_string(), false),
            Change::Faults { origin, faults } => {
                match faults.first() {
                    Some(fault) => self.faults.insert(origin, fault.message.clone()),
                    None => self.faults.remove(&origin),
                };
                return;
            }
            Change::Link { connected, reason } => return self.links.push((connected, reason)),
            Change::Synced => return self.synced += 1,
        };
        let name = format!("{kind} {name}");
        *self.counts.entry(name.clone()).or_default() += 1;
        if there {
            self.objects.insert(name);
        } else {
            assert!(self.objects.remove(&name), "{name} was deleted, but not there");
        }
    }

    fn has(&self, name: &str) -> bool {
        self.objects.contains(name)
    }
}

async fn small() -> Fake {
    let fake = Fake::start().await;
    for name in ["a", "b", "c"] {
        fake.service(name, json!({}));
        fake.slice(name, "10.0.0.1");
    }
    fake.put("nodes", "", "a", Some(json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "z"}}})));
    fake
}

const ALL: usize = 7;

#[tokio::test]
async fn everything_is_told_before_the_source_is_in_sync_and_changes_after() {
    let fake = small().await;
    let mut told = Told::synced(&fake).await;
    assert_eq!(told.objects.len(), ALL, "{:?}", told.objects);
    fake.service("d", json!({}));
    fake.put("services", "demo", "a", None);
    told.until(|told| told.has("service demo/d") && !told.has("service demo/a")).await;
    told.until(|told| told.links == [(true, String::new())]).await;
    assert_eq!((told.synced, told.faults.len()), (1, 0));
    assert!(fake.asked("/nodes").iter().all(|asked| asked.accept.contains("as=PartialObjectMetadata;")));
    assert_eq!(fake.asked("pods").len(), 0);
}

#[tokio::test]
async fn where_lists_are_not_streamed_pages_are_read() {
    let fake = small().await;
    fake.only_pages();
    let mut told = Told::synced(&fake).await;
    assert_eq!(told.objects.len(), ALL);
    assert_eq!(fake.asked("/services?limit=").len(), 2);
    fake.service("d", json!({}));
    told.until(|told| told.has("service demo/d")).await;
}

#[tokio::test]
async fn where_streaming_lists_fail_each_time_pages_are_read_too() {
    // As Kubernetes 1.37 answers over an etcd that cannot tell its progress.
    let text = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":500,\"message\":\"RequestWatchProgress is disabled\"}}\n";
    let fake = small().await;
    fake.script("services", &[Answer::Whole(text)]);
    let told = Told::synced(&fake).await;
    assert_eq!(told.objects.len(), ALL);
    assert_eq!(
        fake.asked("/services?watch=true&allowWatchBookmarks")
            .iter()
            .filter(|asked| asked.uri.contains("sendInitialEvents"))
            .count(),
        1
    );
    assert_eq!(fake.asked("/services?limit=").len(), 2);
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_again_when_it_says_and_the_other_kinds_go_on() {
    let fake = small().await;
    let busy = Answer::Status(429, Some(1), "Too many requests, please try again later.\n");
    fake.script(
        "services",
        &[Answer::Status(500, None, "{\"kind\":\"Status\",\"message\":\"etcd is away\"}"), busy],
    );
    let mut told = Told::by(&fake).await;
    told.until(|told| told.has("slice demo/a-1") && told.has("node a") && told.faults.len() == 1).await;
    assert_eq!((told.synced, told.has("service demo/a")), (0, false));
    told.until(|told| told.synced == 1).await;
    told.until(|told| told.links.last().is_some_and(|(connected, _)| *connected)).await;
    assert_eq!(told.links.len(), 2);
    assert!(told.links[0].1.contains("500: etcd is away"), "{:?}", told.links);
    assert_eq!(told.faults.len(), 0);
    let asked = fake.asked("/services");
    assert!(asked[1].at - asked[0].at >= Duration::from_millis(100));
    assert!(asked[2].at - asked[1].at >= Duration::from_secs(1));
}

#[tokio::test]
async fn after_an_expired_version_a_new_list_tells_only_what_differs_and_what_is_gone() {
    let mut fake = small().await;
    let mut told = Told::synced(&fake).await;
    fake.kill().await;
    told.until(|told| told.links.last().is_some_and(|(connected, _)| !*connected)).await;
    fake.put("services", "demo", "a", None);
    fake.service("b", json!({"evenkeel.io/zone": "strict"}));
    fake.compact();
    fake.revive().await;
    told.until(|told| told.links.last().is_some_and(|(connected, _)| *connected)).await;
    assert_eq!((told.has("service demo/a"), told.counts["service demo/b"]), (false, 2));
    assert_eq!((told.counts["service demo/c"], told.counts["slice demo/c-1"]), (1, 1));
    assert_eq!((told.synced, told.objects.len()), (1, ALL - 1));
}

#[tokio::test]
async fn half_a_list_is_no_list() {
    let fake = small().await;
    let half = "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"half\",\"namespace\":\"demo\",\"resourceVersion\":\"1\"}}}\n{\"type\":\"ADD";
    fake.script("services", &[Answer::Half(half), Answer::Whole(half)]);
    let mut told = Told::by(&fake).await;
    told.until(|told| told.has("slice demo/a-1") && told.has("node a") && !told.faults.is_empty()).await;
    assert_eq!(told.synced, 0);
    told.until(|told| told.synced == 1).await;
    assert!(told.has("service demo/a") && !told.has("service demo/half"), "{:?}", told.objects);
}

#[tokio::test]
async fn a_watch_that_breaks_in_the_middle_of_an_event_goes_on_where_it_was() {
    let fake = small().await;
    let mut told = Told::synced(&fake).await;
    told.until(|told| told.links.len() == 1).await;
    for round in 0..3 {
        fake.cut();
        fake.service(&format!("new-{round}"), json!({}));
        told.until(|told| told.has(&format!("service demo/new-{round}"))).await;
    }
    assert!(told.counts.values().all(|count| *count == 1), "{:?}", told.counts);
    assert!(told.objects.len() == ALL + 3);
}

#[tokio::test]
async fn a_watch_that_goes_silent_is_replaced() {
    let fake = small().await;
    let mut told = Told::synced(&fake).await;
    told.until(|told| told.links.len() == 1).await;
    fake.mute();
    fake.service("d", json!({}));
    told.until(|told| told.has("service demo/d")).await;
    assert_eq!(told.links.len(), 1, "a quiet server is not a lost one: {:?}", told.links);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_named_and_stops_nothing() {
    let fake = small().await;
    let bad = json!({"metadata": {}, "spec": {"ports": "none"}});
    fake.put("services", "demo", "never", Some(bad.clone()));
    let mut told = Told::synced(&fake).await;
    assert_eq!(told.objects.len(), ALL);
    let fault = &told.faults["Service demo/never"];
    assert!(
        fault.starts_with("Service demo/never: cannot be read: ") && fault.contains("sequence"),
        "{fault}"
    );

    fake.put("services", "demo", "a", Some(bad));
    fake.service("d", json!({}));
    told.until(|told| told.has("service demo/d")).await;
    assert!(
        told.has("service demo/a") && told.faults.contains_key("Service demo/a"),
        "the last good one stays"
    );
    fake.service("a", json!({}));
    fake.put("services", "demo", "never", None);
    fake.service("e", json!({}));
    told.objects.insert("service demo/never".into());
    told.until(|told| told.has("service demo/e")).await;
    assert_eq!(told.faults, BTreeMap::new());
}

#[tokio::test]
async fn what_is_no_event_at_all_leads_to_a_new_list_and_deletes_nothing() {
    let fake = small().await;
    fake.script("services", &[Answer::Whole("not JSON\n")]);
    let mut told = Told::synced(&fake).await;
    assert_eq!(told.objects.len(), ALL);
    // In the middle of a watch.
    fake.script("services", &[Answer::Whole("{\"type\":\"ADDED\",\"object\":{}}\n")]);
    fake.cut();
    told.until(|told| told.faults.contains_key("contents of /api/v1/services")).await;
    fake.put("services", "demo", "c", None);
    told.until(|told| told.faults.is_empty() && !told.has("service demo/c")).await;
    assert_eq!(told.objects.len(), ALL - 1);
}

#[tokio::test]
async fn a_server_that_closes_every_watch_at_once_is_not_asked_in_a_loop() {
    let fake = small().await;
    let mut told = Told::synced(&fake).await;
    fake.refuse("services", Some(Answer::Whole("")));
    fake.cut();
    told.until(|told| told.links.iter().any(|(connected, _)| !connected)).await;
    let before = fake.asked("/services").len();
    // The one wait here that is the thing to be seen: how often it is asked within a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = fake.asked("/services").len() - before;
    assert!(asked <= 6, "{asked} times in a second");
    fake.refuse("services", None);
    told.until(|told| told.links.last().is_some_and(|(connected, _)| *connected)).await;
    assert_eq!(told.objects.len(), ALL);
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let fake = small().await;
    fake.refuse(
        "nodes",
        Some(Answer::Status(403, None, r#"{"kind":"Status","code":403,"message":"nodes is forbidden"}"#)),
    );
    let mut told = Told::by(&fake).await;
    told.until(|told| !told.faults.is_empty()).await;
    let fault = &told.faults["watch of /api/v1/nodes"];
    assert!(fault.contains("403: nodes is forbidden; allow list and watch of nodes"), "{fault}");
    fake.refuse("nodes", None);
    told.until(|told| told.synced == 1).await;
}

#[tokio::test]
async fn pods_are_watched_where_a_service_asks_for_subsets_and_only_while_it_does() {
    let fake = small().await;
    fake.put("pods", "demo", "one", Some(json!({"metadata": {"labels": {"shard": "1"}}})));
    fake.put("pods", "other", "two", Some(json!({"metadata": {}})));
    fake.service("a", json!({"evenkeel.io/subset-label": "shard"}));
    let mut told = Told::synced(&fake).await;
    assert!(told.has("pod demo/one") && !told.has("pod other/two"), "before it is in sync");
    assert!(fake.asked("/pods").iter().all(|asked| asked.accept.contains("as=PartialObjectMetadata;")));
    fake.put("pods", "demo", "three", Some(json!({"metadata": {}})));
    told.until(|told| told.has("pod demo/three")).await;
    fake.service("a", json!({}));
    told.until(|told| !told.has("pod demo/one") && !told.has("pod demo/three")).await;
    fake.service("a", json!({"evenkeel.io/subset-label": "shard"}));
    told.until(|told| told.has("pod demo/one") && told.has("pod demo/three")).await;
}

async fn app(fake: &Fake) -> App {
    let any = "127.0.0.1:0".parse().unwrap();
    let file = fake.kubeconfig();
    let source = config::Source::Kubernetes { kubeconfig: Some(file.path().to_owned()) };
    App::start(&Config {
        source,
        fallbacks: vec![],
        listen: Listen::Tcp(any),
        http: any,
        security: Security { drain_time: Duration::ZERO, ..Security::plaintext() },
        admin_socket: config::AdminPlace::None,
    })
    .await
    .unwrap()
}

async fn ready(app: &App) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(app.http_address()).await.unwrap();
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn until_ready(app: &App, part: &str) {
    let mut last = String::new();
    let wait = async {
        while !last.contains(part) {
            last = ready(app).await;
            // Seen from outside, over HTTP: nothing tells of it.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(DEADLINE, wait).await.is_ok(), "{part:?} is not in {last}");
}

fn age(app: &App) -> f64 {
    let text = app.metrics().render();
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix("evenkeel_discovery_source_disconnected_seconds "));
    value.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[tokio::test]
async fn it_is_ready_only_after_the_first_sync_and_says_how_old_its_knowledge_is() {
    let mut fake = small().await;
    fake.kill().await;
    let app = app(&fake).await;
    until_ready(&app, "out of reach").await;
    assert!(ready(&app).await.starts_with("HTTP/1.1 503"));
    fake.revive().await;
    until_ready(&app, "HTTP/1.1 200").await;
    // The link counts as up only after the watches have lasted for a moment.
    let back = async {
        while age(&app) > 0.0 {
            // A metric: nothing tells of it.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, back).await.unwrap();
    assert!(ready(&app).await.ends_with("\r\n\r\nready\n"));
    fake.kill().await;
    until_ready(&app, "what is served is that old").await;
    assert!(ready(&app).await.starts_with("HTTP/1.1 200"));
    assert!(age(&app) > 0.0);
    app.shutdown().await;
}

#[tokio::test]
async fn an_invalid_annotation_is_one_event_from_any_number_of_replicas() {
    let fake = small().await;
    fake.service("a", json!({"evenkeel.io/zone": "nowhere"}));
    let replicas = [app(&fake).await, app(&fake).await];
    timeout(DEADLINE, fake.has_events(1)).await.unwrap();
    fake.service("b", json!({"evenkeel.io/zone": "elsewhere"}));
    timeout(DEADLINE, fake.has_events(2)).await.unwrap();
    for replica in replicas {
        replica.shutdown().await;
    }
    let events: Vec<_> = fake.events().into_values().collect();
    assert_eq!(events.len(), 2, "{events:#?}");
    let event = events.iter().find(|event| event["regarding"]["name"] == "a").unwrap();
    assert_eq!(event["regarding"]["uid"], "uid-demo-a");
    assert_eq!(event["reason"], "InvalidOption");
    let note = event["note"].as_str().unwrap();
    assert!(note.contains("evenkeel.io/zone is \"nowhere\"; allowed: prefer"), "{note}");
}
