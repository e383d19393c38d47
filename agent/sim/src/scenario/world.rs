// SPDX-License-Identifier: Apache-2.0
//! Zones, network, services, clients and arrivals of the file, as the model has them.
//!
//! Only what the model cannot know is checked here: names, and keys that exclude each other. Ranges are the model's
//! ([`crate::model`]), so that they are written once.

use std::{ops::Range, time::Duration};

use toml::Spanned;

use super::{
    error::Fault,
    file,
    names::{Names, valid},
};
use crate::model::{
    Arrivals, Clients, Cold, Discovery, Failures, Group, Network, Pauses, Process, Service, ServiceTime, Zone,
};

/// Within a zone, one way: a hop over two switches and two network stacks.
const WITHIN: Duration = Duration::from_micros(100);
/// Between zones, one way: about half of what clouds say of round trips between zones of a region.
const BETWEEN: Duration = Duration::from_micros(500);

/// What names lead to while the rest of the file is read.
pub(super) struct World<'a> {
    pub(super) zones: Names<'a>,
    pub(super) services: Names<'a>,
    pub(super) clients: Names<'a>,
    /// For each service and group of the model, the group of the file that it came from: one without a zone is in all.
    pub(super) groups: Vec<Vec<usize>>,
}

impl<'a> World<'a> {
    pub(super) fn of(file: &'a file::File) -> Result<Self, Fault> {
        let world = Self {
            zones: Names::of("zones", file.zones.iter().map(|z| &z.name))?,
            services: Names::of("services", file.services.iter().map(|s| &s.name))?,
            clients: Names::of("clients", file.clients.iter().map(|c| &c.name))?,
            groups: file
                .services
                .iter()
                .map(|service| {
                    let copies = |g: &Spanned<file::Group>| {
                        if g.get_ref().zone.is_some() { 1 } else { file.zones.len() }
                    };
                    service
                        .groups
                        .iter()
                        .enumerate()
                        .flat_map(|(i, g)| std::iter::repeat_n(i, copies(g)))
                        .collect()
                })
                .collect(),
        };
        Ok(world)
    }

    pub(super) fn network(&self, file: &file::Network, zones: usize) -> Result<Network, Fault> {
        let or = |time: Option<super::time::Time>, default| time.map_or(default, |t| t.0);
        let mut network =
            Network::uniform(zones, or(file.within, WITHIN), or(file.between, BETWEEN), file.price_per_gib);
        network.jitter = file.jitter.0;
        network.unreachable_after = or(file.unreachable_after, network.unreachable_after);
        for pair in &file.pairs {
            let (from, to) = (self.zones.find(&pair.from)?, self.zones.find(&pair.to)?);
            if let Some(latency) = pair.latency {
                network.latency[from][to] = latency.0;
            }
            if let Some(price) = &pair.price_per_gib {
                let value = *price.get_ref();
                if !(0.0..=1e9).contains(&value) {
                    let problem = format!("must be between 0 and 1000000000, is {value}");
                    return Err(Fault::at(price.span(), problem));
                }
                network.price_per_gib[from][to] = value;
            }
        }
        Ok(network)
    }

    pub(super) fn service(&self, file: &file::Service, zones: &[Zone]) -> Result<Service, Fault> {
        let mut groups: Vec<Group> = Vec::new();
        for entry in &file.groups {
            for group in self.group(entry, zones)? {
                if groups.iter().any(|g| g.name == group.name) {
                    let problem = format!("there are two groups `{}`: give this one a `name`", group.name);
                    return Err(Fault::at(entry.span(), problem));
                }
                groups.push(group);
            }
        }
        Ok(Service {
            name: file.name.get_ref().clone(),
            groups,
            timeout: file.timeout.map(|t| t.0),
            request_bytes: file.request_bytes,
            response_bytes: file.response_bytes,
            keys: file.keys,
        })
    }

    /// One group, or one for each zone when none is named.
    fn group(&self, entry: &Spanned<file::Group>, zones: &[Zone]) -> Result<Vec<Group>, Fault> {
        let file = entry.get_ref();
        if let Some(name) = &file.name {
            valid(name)?;
        }
        let given = file.name.as_ref().map(|name| name.get_ref().as_str());
        let in_zone = |zone: usize, name: String| Group {
            name,
            zone,
            count: file.count,
            concurrency: file.concurrency,
            queue: file.queue,
            service_time: service_time(file.service_time),
            speed: file.speed,
            weight: file.weight,
            pauses: file.pauses.map(|p| Pauses { every: p.every.0, length: p.length.0 }),
            failures: failures(file.failures),
            cold: file.cold.map(|c| Cold { slowdown: c.slowdown, requests: c.requests }),
        };
        if let Some(zone) = &file.zone {
            let zone = self.zones.find(zone)?;
            return Ok(vec![in_zone(zone, given.unwrap_or(&zones[zone].name).to_owned())]);
        }
        let name =
            |zone: &Zone| given.map_or_else(|| zone.name.clone(), |given| format!("{given}-{}", zone.name));
        Ok(zones.iter().enumerate().map(|(i, zone)| in_zone(i, name(zone))).collect())
    }

    pub(super) fn clients(&self, file: &file::Clients) -> Result<Clients, Fault> {
        Ok(Clients {
            name: file.name.get_ref().clone(),
            zone: file.zone.as_ref().map(|zone| self.zones.find(zone)).transpose()?,
            count: file.count,
            service: self.services.find_or_only(file.service.as_ref(), "service", file.name.span())?,
            connections: file.connections,
            connection_age: file.connection_age.map(|t| t.0),
        })
    }

    pub(super) fn arrivals(&self, entry: &Spanned<file::Arrivals>) -> Result<Arrivals, Fault> {
        let file = entry.get_ref();
        Ok(Arrivals {
            clients: self.clients.find_or_only(file.clients.as_ref(), "clients", entry.span())?,
            process: process(file, entry.span())?,
            cost: file.cost,
        })
    }
}

fn process(file: &file::Arrivals, around: Range<usize>) -> Result<Process, Fault> {
    match (&file.poisson, &file.burst, &file.diurnal) {
        (Some(p), None, None) => Ok(Process::Poisson { rate: p.rate }),
        (None, Some(b), None) => Ok(Process::Burst {
            rate: b.rate,
            burst_rate: b.burst_rate,
            every: b.every.0,
            length: b.length.0,
        }),
        (None, None, Some(d)) => {
            Ok(Process::Diurnal { rate: d.rate, amplitude: d.amplitude, period: d.period.0 })
        }
        _ => Err(Fault::at(around, "give exactly one of `poisson`, `burst`, `diurnal`")),
    }
}

fn service_time(file: file::ServiceTime) -> ServiceTime {
    match file {
        file::ServiceTime::Fixed(time) => ServiceTime::Fixed(time.0),
        file::ServiceTime::Exponential(mean) => ServiceTime::Exponential { mean: mean.0 },
        file::ServiceTime::Lognormal { mean, sigma } => ServiceTime::Lognormal { mean: mean.0, sigma },
        file::ServiceTime::Bimodal { short, long, long_share } => {
            ServiceTime::Bimodal { short: short.0, long: long.0, long_share }
        }
    }
}

pub(super) fn failures(file: file::Failures) -> Failures {
    Failures {
        fast: file.fast,
        fast_after: file.fast_after.0,
        slow: file.slow,
        slow_after: file.slow_after.0,
    }
}

/// With the model's defaults for what the file leaves out.
pub(super) fn discovery(file: &file::Discovery) -> Discovery {
    let default = Discovery::default();
    Discovery {
        debounce: file.debounce.map_or(default.debounce, |t| t.0),
        delay: file.delay.map_or(default.delay, |t| t.0),
        jitter: file.jitter.map_or(default.jitter, |t| t.0),
        detect_after: file.detect_after.map_or(default.detect_after, |t| t.0),
    }
}
