// SPDX-License-Identifier: Apache-2.0
//! The file as it is written: what serde reads, key by key. `docs/simulation.md` lists every key with its default.
//!
//! Always true: an unknown key is an error in every table. Names are kept with their places, because whether they exist is
//! only known once all of the file is read. Of keys that exclude each other (`poisson`, `burst`, …) each is an option of its
//! own here, and [`super::world`] and [`super::events`] demand exactly one: serde's tagged enums would lose the places.

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::time::Time;

/// A name that must lead somewhere, with its place in the file.
pub(super) type Name = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) name: Option<Name>,
    #[serde(default)]
    pub(super) question: String,
    #[serde(default)]
    pub(super) answer: String,
    #[serde(default = "one")]
    pub(super) seed: u64,
    pub(super) duration: Time,
    pub(super) warm_up: Option<Time>,
    pub(super) zones: Vec<Zone>,
    #[serde(default)]
    pub(super) network: Network,
    #[serde(default)]
    pub(super) discovery: Discovery,
    pub(super) services: Vec<Service>,
    #[serde(default)]
    pub(super) clients: Vec<Clients>,
    #[serde(default)]
    pub(super) arrivals: Vec<Spanned<Arrivals>>,
    pub(super) trace: Option<Name>,
    #[serde(default)]
    pub(super) events: Vec<Spanned<Event>>,
    pub(super) policies: Vec<Policy>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Zone {
    pub(super) name: Name,
    #[serde(default = "one")]
    pub(super) nodes: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Network {
    pub(super) within: Option<Time>,
    pub(super) between: Option<Time>,
    pub(super) jitter: Time,
    pub(super) price_per_gib: f64,
    pub(super) unreachable_after: Option<Time>,
    pub(super) pairs: Vec<Pair>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Pair {
    pub(super) from: Name,
    pub(super) to: Name,
    pub(super) latency: Option<Time>,
    pub(super) price_per_gib: Option<Spanned<f64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Discovery {
    pub(super) debounce: Option<Time>,
    pub(super) delay: Option<Time>,
    pub(super) jitter: Option<Time>,
    pub(super) detect_after: Option<Time>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Service {
    pub(super) name: Name,
    pub(super) timeout: Option<Time>,
    #[serde(default)]
    pub(super) request_bytes: u64,
    #[serde(default)]
    pub(super) response_bytes: u64,
    #[serde(default)]
    pub(super) keys: u32,
    #[serde(default)]
    pub(super) groups: Vec<Spanned<Group>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Group {
    pub(super) name: Option<Name>,
    pub(super) zone: Option<Name>,
    pub(super) count: u32,
    #[serde(default = "one")]
    pub(super) concurrency: u32,
    pub(super) queue: Option<u32>,
    pub(super) service_time: ServiceTime,
    #[serde(default = "one_point_zero")]
    pub(super) speed: f64,
    #[serde(default = "one")]
    pub(super) weight: u32,
    pub(super) pauses: Option<Pauses>,
    #[serde(default)]
    pub(super) failures: Failures,
    pub(super) cold: Option<Cold>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum ServiceTime {
    Fixed(Time),
    Exponential(Time),
    #[serde(rename_all = "kebab-case")]
    Lognormal {
        mean: Time,
        sigma: f64,
    },
    #[serde(rename_all = "kebab-case")]
    Bimodal {
        short: Time,
        long: Time,
        long_share: f64,
    },
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Pauses {
    pub(super) every: Time,
    pub(super) length: Time,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Failures {
    pub(super) fast: f64,
    pub(super) fast_after: Time,
    pub(super) slow: f64,
    pub(super) slow_after: Time,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Cold {
    pub(super) slowdown: f64,
    pub(super) requests: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Clients {
    pub(super) name: Name,
    pub(super) zone: Option<Name>,
    #[serde(default = "one")]
    pub(super) count: u32,
    pub(super) service: Option<Name>,
    #[serde(default = "one")]
    pub(super) connections: u32,
    pub(super) connection_age: Option<Time>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Arrivals {
    pub(super) clients: Option<Name>,
    #[serde(default = "one_point_zero")]
    pub(super) cost: f64,
    pub(super) poisson: Option<Poisson>,
    pub(super) burst: Option<Burst>,
    pub(super) diurnal: Option<Diurnal>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Poisson {
    pub(super) rate: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Burst {
    pub(super) rate: f64,
    pub(super) burst_rate: f64,
    pub(super) every: Time,
    pub(super) length: Time,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Diurnal {
    pub(super) rate: f64,
    pub(super) amplitude: f64,
    pub(super) period: Time,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Event {
    pub(super) at: Time,
    pub(super) speed: Option<Speed>,
    pub(super) fail: Option<Fail>,
    pub(super) heal: Option<Pods>,
    pub(super) crash: Option<Crash>,
    pub(super) weight: Option<Weight>,
    pub(super) zone_lost: Option<ZoneLost>,
    pub(super) zone_regained: Option<ZoneRegained>,
    pub(super) rollout: Option<Rollout>,
    pub(super) scale: Option<Scale>,
    pub(super) rate: Option<Rate>,
}

/// Which servers. Not flattened into the actions: that would lose the places.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Pods {
    pub(super) service: Option<Name>,
    pub(super) group: Option<Name>,
    #[serde(default)]
    pub(super) first: u32,
    pub(super) count: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Speed {
    #[serde(default)]
    pub(super) pods: Pods,
    pub(super) factor: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Fail {
    #[serde(default)]
    pub(super) pods: Pods,
    #[serde(default)]
    pub(super) fast: f64,
    #[serde(default)]
    pub(super) fast_after: Time,
    #[serde(default)]
    pub(super) slow: f64,
    #[serde(default)]
    pub(super) slow_after: Time,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Crash {
    #[serde(default)]
    pub(super) pods: Pods,
    pub(super) restart_after: Option<Time>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Weight {
    #[serde(default)]
    pub(super) pods: Pods,
    pub(super) weight: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ZoneLost {
    pub(super) zone: Name,
    #[serde(default)]
    pub(super) clients: LostClients,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LostClients {
    Stay,
    Gone,
    #[default]
    Move,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ZoneRegained {
    pub(super) zone: Name,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Rollout {
    pub(super) service: Option<Name>,
    pub(super) group: Option<Name>,
    pub(super) batch: u32,
    #[serde(default)]
    pub(super) ready_after: Time,
    #[serde(default)]
    pub(super) grace: Time,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Scale {
    pub(super) service: Option<Name>,
    pub(super) group: Option<Name>,
    pub(super) to: u32,
    #[serde(default)]
    pub(super) ready_after: Time,
    #[serde(default)]
    pub(super) grace: Time,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Rate {
    pub(super) clients: Option<Name>,
    pub(super) factor: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Policy {
    pub(super) name: Name,
    pub(super) base: Option<Name>,
    pub(super) per: Option<Per>,
    pub(super) strategy: Option<Name>,
    pub(super) choices: Option<u32>,
    pub(super) zones: Option<ZonePolicy>,
    pub(super) outlier: Option<Outlier>,
    pub(super) panic_below: Option<f64>,
    pub(super) slow_start: Option<Time>,
    pub(super) aperture: Option<u32>,
    pub(super) retries: Option<u32>,
    pub(super) knowledge: Option<Knowledge>,
    pub(super) update_every: Option<Time>,
    pub(super) probes: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Per {
    Request,
    Connection,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ZonePolicy {
    Ignore,
    Prefer,
    Strict,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Knowledge {
    Node,
    Client,
    Global,
}

/// `outlier = true`, `false`, or a table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outlier {
    Switch(bool),
    Table(OutlierTable),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct OutlierTable {
    pub(super) consecutive: Option<u32>,
    pub(super) interval: Option<Time>,
    pub(super) base_ejection: Option<Time>,
    pub(super) max_ejection: Option<Time>,
    pub(super) max_ejected: Option<f64>,
}

impl<'de> Deserialize<'de> for Outlier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Outlier;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false or a table")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Outlier, E> {
                Ok(Outlier::Switch(on))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Outlier, A::Error> {
                OutlierTable::deserialize(de::value::MapAccessDeserializer::new(map)).map(Outlier::Table)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn one<N: From<u8>>() -> N {
    N::from(1)
}

fn one_point_zero() -> f64 {
    1.0
}
