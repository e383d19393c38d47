// SPDX-License-Identifier: Apache-2.0
//! Faults of Services as Kubernetes Events, where their owner looks: `kubectl describe service`.
//!
//! Source: `events.k8s.io/v1`, <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>. kube-rs'
//! recorder is not used: it takes two messages with the same reason for one. An Event's name is made of the Service's UID
//! and the fault, so that any number of replicas write one Event, and a restart none. What must always be true: a server
//! that refuses Events delays nothing; the rights needed are `create` and `patch`.

mod plan;

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::client::Client;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::fault::{Fault, FaultKind};
use crate::source::ObjectKey;
use crate::source::kube::{ServiceUids, chain};
use plan::{Next, Note, Plan};

/// As Events name their author.
const CONTROLLER: &str = "evenkeel.io/discovery";
/// The API allows 1 kB.
const MAX_NOTE: usize = 1000;
/// The API allows 128 characters.
const MAX_INSTANCE: usize = 128;

/// Takes faults; a task of its own writes them.
#[derive(Clone, Debug)]
pub struct Events {
    plan: Arc<Mutex<Plan>>,
    changed: Arc<Notify>,
}

struct Writer {
    client: Client,
    uids: ServiceUids,
    instance: String,
    complained: bool,
}

// === impl Events ===

impl Events {
    /// Starts the writer; it ends with `shutdown`.
    pub fn start(client: Client, uids: ServiceUids, shutdown: CancellationToken) -> Self {
        let events = Self { plan: Arc::new(Mutex::new(Plan::new(Instant::now()))), changed: Arc::default() };
        let writer = Writer { client, uids, instance: instance(), complained: false };
        let run = writer.run(events.clone());
        tokio::spawn(async move { shutdown.run_until_cancelled(run).await });
        events
    }

    /// These are all faults of a Service now.
    pub fn report(&self, service: &ObjectKey, faults: &[Fault]) {
        self.plan.lock().set(service, faults, Instant::now());
        self.changed.notify_one();
    }
}

/// In a pod, the hostname is the pod's name.
fn instance() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().take(MAX_INSTANCE).collect();
    if name.is_empty() { "evenkeel-discovery".to_owned() } else { name }
}

// === impl Writer ===

impl Writer {
    async fn run(mut self, events: Events) {
        loop {
            let next = events.plan.lock().next(Instant::now());
            match next {
                Next::Idle => events.changed.notified().await,
                Next::Wait(until) => {
                    let _ = tokio::time::timeout_at(until.into(), events.changed.notified()).await;
                }
                Next::Tell(note) => {
                    let told = self.write(&note).await;
                    let mut plan = events.plan.lock();
                    match told {
                        Ok(()) => plan.told(note, Instant::now()),
                        Err(_) => plan.failed(&note, Instant::now()),
                    }
                    drop(plan);
                    self.complain(told);
                }
            }
        }
    }

    fn complain(&mut self, told: Result<(), kube::Error>) {
        match told {
            Ok(()) => self.complained = false,
            Err(error) if !self.complained => {
                self.complained = true;
                tracing::warn!(
                    error = chain(&error),
                    "cannot write Events; create and patch of events in events.k8s.io are needed"
                );
            }
            Err(_) => {}
        }
    }

    async fn write(&self, note: &Note) -> Result<(), kube::Error> {
        // Without it the Service has gone meanwhile.
        let Some(uid) = self.uids.get(&note.service) else { return Ok(()) };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &note.service.namespace);
        let event = event(note, &uid, &self.instance, Timestamp::now());
        if note.count > 1 {
            let series = json!({"series": {"count": note.count, "lastObservedTime": event.event_time}});
            let name = event.metadata.name.as_deref().unwrap_or_default();
            match api.patch(name, &PatchParams::default(), &Patch::Merge(series)).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        match api.create(&PostParams::default(), &event).await {
            // Another replica, or this one before it was restarted, has said it.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop),
        }
    }
}

fn event(note: &Note, uid: &str, instance: &str, now: Timestamp) -> Event {
    let Note { service, fault, .. } = note;
    let id = fnv(&[uid, fault.kind.as_str(), &fault.message]);
    Event {
        metadata: ObjectMeta {
            namespace: Some(service.namespace.clone()),
            name: Some(format!("{}.{id:016x}", service.name)),
            ..ObjectMeta::default()
        },
        action: Some("Read".into()),
        event_time: Some(MicroTime(now)),
        note: Some(cut(&fault.message).to_owned()),
        reason: Some(reason(fault.kind).into()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Service".into()),
            namespace: Some(service.namespace.clone()),
            name: Some(service.name.clone()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.into()),
        reporting_instance: Some(instance.to_owned()),
        type_: Some("Warning".into()),
        ..Event::default()
    }
}

fn reason(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Option => "InvalidOption",
        FaultKind::UnknownKey => "UnknownKey",
        FaultKind::NoEffect => "NoEffect",
        FaultKind::Duplicate => "Duplicate",
        FaultKind::Port => "MissingPort",
        FaultKind::NothingToBalance => "NothingToBalance",
        FaultKind::Syntax | FaultKind::Field | FaultKind::Source => "InvalidField",
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NOTE)]
}

/// FNV-1a, 64 bits (draft-eastlake-fnv): every replica, of any version, must make the same name.
fn fnv(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(message: &str) -> Note {
        Note {
            service: ObjectKey::new("demo", "web"),
            fault: Fault::new(FaultKind::Option, message),
            count: 1,
        }
    }

    #[test]
    fn replicas_name_the_same_fault_alike_and_another_service_otherwise() {
        let name = |message, uid, instance| {
            event(&note(message), uid, instance, Timestamp::UNIX_EPOCH).metadata.name.unwrap()
        };
        assert_eq!(name("a", "uid", "one"), name("a", "uid", "two"));
        assert_ne!(name("a", "uid", "one"), name("b", "uid", "one"));
        assert_ne!(name("a", "uid", "one"), name("a", "made-anew", "one"));
        assert!(name("a", "uid", "one").starts_with("web."));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let event = event(&note(&"é".repeat(2000)), "uid", "one", Timestamp::UNIX_EPOCH);
        let text = event.note.unwrap();
        assert!(text.len() <= MAX_NOTE && text.chars().all(|character| character == 'é'));
    }
}
