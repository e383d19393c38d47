// SPDX-License-Identifier: Apache-2.0
//! Opening: probe, load or adopt, attach, hand out the parts.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use aya::maps::{Map, MapData};
use evenkeel_abi::{Control, maps as names};
use parking_lot::RwLock;

use super::{
    BpfSink, Capacity, Counters, Events, ExitHook, Heartbeat, KernelError, KernelLog, KernelWriter,
    Listeners, Loads, Origins, Ownership, Pods, array::SharedArray, attach, cgroup, loader,
    ownership::ControlArray, probe,
};

/// How to open.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the pins, on bpffs; made if need be.
    pub pins: PathBuf,
    /// cgroup to attach to; `None`: the root of the cgroup2 hierarchy.
    pub cgroup: Option<PathBuf>,
    /// Age of the heartbeat from which nothing is handed to the request path.
    pub stale_after: Duration,
    /// Age of the heartbeat from which every connect is left alone.
    pub stand_aside_after: Duration,
    /// Where facts about the node are read.
    pub sources: probe::Sources,
}

impl Config {
    /// The defaults, with pins in `pins`.
    pub fn new(pins: impl Into<PathBuf>) -> Self {
        Self {
            pins: pins.into(),
            cgroup: None,
            stale_after: Duration::from_nanos(Control::DEFAULT_STALE_NS),
            stand_aside_after: Duration::from_nanos(Control::DEFAULT_STAND_ASIDE_NS),
            sources: probe::Sources::default(),
        }
    }
}

/// The parts; see the table in [`crate::kernel`].
pub struct Kernel {
    /// Publishes snapshots. One owner.
    pub writer: KernelWriter<BpfSink>,
    /// Where handed-over connections wanted to go.
    pub origins: Origins,
    /// The pods' listeners.
    pub listeners: Listeners,
    /// The pods' addresses.
    pub pods: Pods,
    /// Open sockets per backend.
    pub loads: Loads,
    /// Outcomes.
    pub counters: Counters,
    /// Sign of life.
    pub heartbeat: Heartbeat,
    /// Namespaces without a listener. One owner.
    pub events: Events,
    /// Log lines of the programs. One owner.
    pub log: KernelLog,
    /// Tells the programs of this agent's end. `None` where the kernel does not allow it: then they learn of it when its
    /// listeners are gone.
    pub exit_hook: Option<ExitHook>,
    /// Whether the maps of an earlier agent were taken over.
    pub adopted: bool,
    /// What the programs are attached to.
    pub cgroup: PathBuf,
}

impl Kernel {
    /// Opens. Must run inside a tokio runtime (events and log lines are awaited). When it fails, what was pinned before is
    /// still pinned and in force.
    pub fn open(config: &Config) -> Result<Self, KernelError> {
        let Config { pins, cgroup: named, stale_after, stand_aside_after, sources } = config;
        probe::check(sources, pins)?;
        let cgroup = cgroup::find(named.as_deref(), &sources.mountinfo)?;
        let loader::Loaded { mut object, adopted } = loader::load(pins)?;
        if let Err(error) = attach::attach(&mut object, &cgroup, pins) {
            if !adopted {
                let _ = attach::detach(pins);
            }
            return Err(error);
        }
        let log = KernelLog::new(&mut object)?;
        let exit_hook = ExitHook::attach(&mut object)
            .inspect_err(|error| tracing::warn!(%error, "{}", ExitHook::MISSING))
            .ok();
        let mut take =
            |name: &'static str| object.take_map(name).ok_or(KernelError::Lacks { what: "map", name });
        let control = ControlArray::new(take(names::CONTROL)?)?;
        let ownership = Ownership::new(control.clone(), pins)?;
        let loads = data(take(names::LOADS)?)?;
        let loads = SharedArray::map(loads.fd(), names::BACKENDS_LEN).map_err(|source| KernelError::Bpf {
            operation: "map into memory",
            object: format!("map {}", names::LOADS),
            source,
        })?;
        let loads = Arc::new(loads);
        let services = take(names::SERVICES)?;
        let sink = BpfSink {
            services: services.try_into().map_err(KernelError::map("open", names::SERVICES))?,
            slots: data(take(names::SLOTS)?)?,
            backends: data(take(names::BACKENDS)?)?,
            loads: loads.clone(),
        };
        let index = Arc::new(RwLock::new(HashMap::new()));
        Ok(Self {
            writer: KernelWriter::new(sink, Capacity::default(), ownership.clone(), index.clone()),
            origins: Origins::new(take(names::ORIGINS)?)?,
            listeners: Listeners::new(take(names::LISTENERS)?)?,
            pods: Pods::new(take(names::PODS)?)?,
            loads: Loads::new(loads, index),
            counters: Counters::new(take(names::COUNTERS)?)?,
            heartbeat: Heartbeat::new(control, ownership, *stale_after, *stand_aside_after),
            events: Events::new(take(names::EVENTS)?)?,
            log,
            exit_hook,
            adopted,
            cgroup,
        })
    }
}

/// The bare map of an array.
fn data(map: Map) -> Result<MapData, KernelError> {
    match map {
        Map::Array(data) => Ok(data),
        _ => Err(KernelError::Object { reason: "an array is not an array".to_owned() }),
    }
}
